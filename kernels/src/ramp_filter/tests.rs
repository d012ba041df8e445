//! Tests of the ramp filter.

use super::*;
use crate::Philox;

const WINDOWS: [FilterWindow; 5] =
    [FilterWindow::RamLak, FilterWindow::SheppLogan, FilterWindow::Cosine, FilterWindow::Hamming, FilterWindow::Hann];

fn rows(n_rows: usize, n_cols: usize) -> Vec<f32> {
    let p = Philox::new(1, 0);
    (0..(n_rows * n_cols) as u64).map(|i| p.normal(i) as f32).collect()
}

fn filtered(params: RampParams, n_angles: usize, data: &[f32]) -> Vec<f32> {
    let device = Device::cpu();
    let mut sinogram = Buffer::from_vec(&device, data.to_vec()).unwrap();
    RampFilter::new(&device, params).unwrap().apply(n_angles, &mut sinogram).unwrap();
    sinogram.into_vec()
}

#[test]
fn equals_the_direct_convolution_to_1e_6_of_the_maximum() {
    for (n_cols, n_angles, tau) in [(1, 1, 1.0), (5, 3, 0.5), (64, 2, 1.0), (101, 5, 1.7)] {
        let data = rows(2 * n_angles, n_cols);
        let got = filtered(RampParams::new(n_cols, tau), n_angles, &data);
        let mut worst = 0.0f64;
        for (row, got) in data.chunks(n_cols).zip(got.chunks(n_cols)) {
            for (i, got) in got.iter().enumerate() {
                let direct: f64 =
                    row.iter().enumerate().map(|(j, p)| tau * f64::from(*p) * ramp(i.abs_diff(j), tau)).sum();
                worst = worst.max((direct - f64::from(*got)).abs() * tau);
            }
        }
        assert!(worst < 1e-6, "{n_cols} columns: {worst}");
    }
}

#[test]
fn the_response_at_zero_frequency_is_the_tail_of_the_ramp_that_the_transform_cuts_off() {
    // Over all n the ramp sums to zero; over |n| <= L/2 it sums to 2 sum_{odd n > L/2} 1/(pi n)^2 = 2/(pi^2 L) + O(1/L^3).
    for n_cols in [16, 100, 256] {
        let params = RampParams::new(n_cols, 1.0);
        let l = fft_len(params) as f64;
        let zero = f64::from(response(params, fft_len(params))[0]) * l;
        assert!((zero - 2.0 / (PI * PI * l)).abs() < 2.0 / (l * l), "{zero}");
    }
}

#[test]
fn windows_are_1_at_zero_and_damp_monotonically_to_their_value_at_the_cutoff() {
    for kind in WINDOWS {
        assert_eq!(window(kind, 0.0), 1.0);
        assert!((0..100).all(|i| window(kind, i as f64 / 100.0) >= window(kind, (i + 1) as f64 / 100.0)));
        assert_eq!(window(kind, 1.01), 0.0);
    }
    let params = RampParams { cutoff: 0.5, ..RampParams::new(64, 1.0) };
    let h = response(params, 128);
    assert!(h[33..96].iter().all(|h| *h == 0.0) && h[32] > 0.0);
}

#[test]
fn a_constant_row_with_edge_padding_filters_to_zero_within_1_percent_of_the_ramp() {
    let n = 100;
    let q = filtered(RampParams { padding: Padding::Edge, ..RampParams::new(n, 1.0) }, 1, &vec![1.0; n]);
    assert!(q.iter().all(|q| q.abs() < 0.0025), "{q:?}");
}

#[test]
fn a_slice_alone_or_among_others_on_1_2_or_3_threads_gives_the_same_bits() {
    let (n_angles, n_cols) = (7, 45);
    let data = rows(4 * n_angles, n_cols);
    let params = RampParams { window: FilterWindow::Hann, ..RampParams::new(n_cols, 1.0) };
    let all = filtered(params, n_angles, &data);
    for threads in [1, 2, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        assert_eq!(pool.install(|| filtered(params, n_angles, &data)), all);
    }
    for (slice, expected) in data.chunks(n_angles * n_cols).zip(all.chunks(n_angles * n_cols)) {
        assert_eq!(filtered(params, n_angles, slice), expected);
    }
}

#[test]
fn wrong_parameters_and_lengths_are_errors() {
    let d = Device::cpu();
    let good = RampParams::new(8, 1.0);
    for bad in [
        RampParams { n_cols: 0, ..good },
        RampParams { col_pitch: 0.0, ..good },
        RampParams { cutoff: 0.0, ..good },
        RampParams { cutoff: 1.5, ..good },
    ] {
        assert!(RampFilter::new(&d, bad).is_err(), "{bad:?}");
    }
    let mut sinogram = Buffer::zeros(&d, 20).unwrap();
    assert!(RampFilter::new(&d, good).unwrap().apply(2, &mut sinogram).is_err());
}
