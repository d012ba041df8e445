//! Kinds of stripes in a sinogram, and what ways to remove them leave of the stripes and do to a clean sinogram.

use convoke::tomography::rings::{self, Rings};
use convoke_data::problems::phantom::Phantom;
use convoke_data::problems::rays::ParallelRays;
use convoke_kernels::Philox;

/// Columns and angles.
pub const N_COLS: usize = 640;
/// Projections over half a turn.
pub const N_ANGLES: usize = 180;
/// Angles of a mean.
const BLOCK: usize = 20;
/// Counts of the beam.
const PHOTONS: f64 = 4e4;

/// What is wrong with some columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stripe {
    /// One or two columns answer a little too strongly or weakly.
    Narrow,
    /// So do 9 to 16 columns side by side.
    Wide,
    /// One to three columns show the same at each angle.
    Dead,
    /// One or two columns answer differently at each angle.
    Restless,
}

/// All kinds, with a name for tables.
pub const KINDS: [(&str, Stripe); 4] =
    [("narrow", Stripe::Narrow), ("wide", Stripe::Wide), ("dead", Stripe::Dead), ("restless", Stripe::Restless)];

/// The ways that are compared: method, parameters.
pub const METHODS: [(&str, &str, Rings); 9] = [
    ("sorting", "21", Rings::Sorting { size: 21 }),
    ("fourier-wavelet", "5 levels, sigma 1", Rings::FourierWavelet { levels: 5, sigma: 1.0 }),
    ("column-mean", "11", Rings::ColumnMean { size: 11 }),
    ("column-mean", "61", Rings::ColumnMean { size: 61 }),
    ("large", "51, snr 3", Rings::Large { snr: 3.0, size: 51 }),
    ("dead", "51, snr 3", Rings::Dead { snr: 3.0, size: 51 }),
    ("all", "51, 21, snr 3", Rings::All { snr: 3.0, size: 51, small: 21 }),
    ("regularised", "alpha 0.0005", Rings::Regularised { alpha: 5e-4, chunks: 1 }),
    ("regularised", "alpha 0.01", Rings::Regularised { alpha: 0.01, chunks: 1 }),
];

/// −ln T of the head's middle slice with photon noise, `[N_ANGLES, N_COLS]`.
pub fn clean() -> Vec<f32> {
    let angles = (0..N_ANGLES).map(|k| std::f64::consts::PI * k as f64 / N_ANGLES as f64).collect();
    let mut rays = ParallelRays::centred(angles, 1, N_COLS);
    rays.axis_col += 3.3;
    let random = Philox::new(5, 1);
    let exact = Phantom::shepp_logan_3d().line_integrals(&rays, 0..1);
    let count = |(i, p): (usize, &f32)| {
        let counted = random.poisson(i as u64, PHOTONS * (-2.5 * f64::from(*p)).exp()) as f64;
        (PHOTONS / counted.max(0.5)).ln() as f32
    };
    exact.iter().enumerate().map(count).collect()
}

/// The same with stripes.
pub fn striped(clean: &[f32], kind: Stripe) -> Vec<f32> {
    // (first column, columns, strength): some in the beam, some behind the object.
    let places: &[(usize, usize, f64)] = match kind {
        Stripe::Narrow => &[(96, 1, 0.08), (177, 2, -0.06), (304, 1, 0.05), (396, 2, 0.1), (532, 1, -0.08)],
        Stripe::Wide => &[(166, 16, 0.06), (344, 9, -0.08), (480, 12, 0.05)],
        Stripe::Dead => &[(112, 1, 0.5), (240, 3, 0.4), (353, 2, 0.8), (496, 1, 0.6)],
        Stripe::Restless => &[(112, 1, 0.15), (240, 2, 0.2), (353, 2, 0.25), (496, 1, 0.15)],
    };
    let random = Philox::new(5, 2);
    let mut striped = clean.to_vec();
    for (i, p) in striped.iter_mut().enumerate() {
        let column = i % N_COLS;
        let Some((_, _, strength)) = places.iter().find(|(first, n, _)| (*first..first + n).contains(&column)) else {
            continue;
        };
        *p = match kind {
            Stripe::Narrow | Stripe::Wide => *p + *strength as f32,
            Stripe::Dead => -strength.ln() as f32,
            Stripe::Restless => *p + (strength * random.normal(i as u64)) as f32,
        };
    }
    striped
}

/// What a method makes of the clean sinogram, and how much of it that changes.
pub fn untouched(clean: &[f32], method: Rings) -> (Vec<f32>, f64) {
    let mut untouched = clean.to_vec();
    rings::remove(&mut untouched, N_COLS, method, 1.0);
    let changed = distance(&untouched, clean) / rms(clean);
    (untouched, changed)
}

/// The part of the stripes that is left, beside what the method makes of the clean sinogram. Root mean squares of means over [`BLOCK`]
/// angles: what makes rings lasts, noise does not.
pub fn left(clean: &[f32], untouched: &[f32], kind: Stripe, method: Rings) -> f64 {
    let striped = striped(clean, kind);
    let mut cleaned = striped.clone();
    rings::remove(&mut cleaned, N_COLS, method, 1.0);
    distance(&cleaned, untouched) / distance(&striped, clean)
}

fn rms(values: &[f32]) -> f64 {
    (values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / values.len() as f64).sqrt()
}

fn distance(a: &[f32], b: &[f32]) -> f64 {
    let difference: Vec<f32> = a.iter().zip(b).map(|(a, b)| a - b).collect();
    let mean = |block: &[f32], j: usize| block.iter().skip(j).step_by(N_COLS).sum::<f32>() / BLOCK as f32;
    let blocks = difference.chunks(BLOCK * N_COLS).flat_map(|block| (0..N_COLS).map(move |j| mean(block, j)));
    rms(&blocks.collect::<Vec<f32>>())
}
