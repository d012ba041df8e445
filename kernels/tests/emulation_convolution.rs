//! Layers of convolutional networks under emulation (the same launches as on a GPU) against the plain loops in double precision, which are
//! the processor's. Skipped, with a printed reason, where there is no g++.

#![allow(clippy::unwrap_used)]

mod common;

use common::devices;
use convoke_kernels::convolution::*;
use convoke_kernels::*;

fn random(len: usize, stream: u64) -> Vec<f32> {
    (0..len as u64).map(|i| Philox::new(37, stream).normal(i) as f32).collect()
}

/// Differences of single from double precision, of the largest value.
const ROUNDING: f64 = 2e-6;

/// What `run` makes on each device is what it makes on the processor.
#[track_caller]
fn assert_equal(what: &str, run: impl Fn(&Device) -> Vec<f32>) {
    let expected = run(&Device::cpu());
    let largest = expected.iter().fold(0f64, |m, v| m.max(f64::from(v.abs())));
    assert!(largest > 0.0, "{what}: nothing is compared");
    for device in devices() {
        let found = run(&device);
        assert_eq!(found.len(), expected.len(), "{what}");
        for (at, (a, b)) in found.iter().zip(&expected).enumerate() {
            let far = (f64::from(*a) - f64::from(*b)).abs() / largest;
            // Not `far > ROUNDING`, which lets NaN pass.
            assert!(far <= ROUNDING, "{what}, number {at}: {a} {b}, {far:e} of the largest");
        }
    }
}

fn buffer(device: &Device, len: usize, stream: u64) -> Buffer<f32> {
    Buffer::from_vec(device, random(len, stream)).unwrap()
}

fn zeros(device: &Device, len: usize) -> Buffer<f32> {
    Buffer::zeros(device, len).unwrap()
}

/// Channels within a tile of 32 and beyond it, points beyond a tile of 128, depths that eight does not divide, with and without a field
/// beside.
#[test]
fn convolutions_equal_the_loops_to_2e_6() {
    for (samples, from, to, points) in
        [(1, 1, 1, [1, 1]), (2, 3, 5, [4, 7]), (3, 5, 33, [9, 15]), (1, 36, 64, [11, 12]), (2, 4, 32, [3, 130])]
    {
        for size in [1, 3] {
            let weights = to * from * size * size;
            let c = Convolution { from, to, size, weight: 2, bias: 3 + weights };
            let n = points[0] * points[1];
            for joined in [false, true] {
                assert_equal(&format!("{c:?}, {points:?}, beside: {joined}"), |device| {
                    let mut y = zeros(device, samples * to * n);
                    let mut beside = joined.then(|| buffer(device, samples * to * n, 3));
                    let (mut p, mut x) = (buffer(device, 3 + weights + to, 1), buffer(device, samples * from * n, 2));
                    c.apply(device, points, &mut p, &mut x, beside.as_mut(), &mut y).unwrap();
                    y.into_vec()
                });
            }
        }
    }
}

/// Groups of fewer numbers than a block has threads, and of more; means far from zero.
#[test]
fn normalisations_equal_the_loops_to_2e_6() {
    for (samples, channels, groups, points) in [(1, 1, 1, 2), (2, 6, 3, 5), (3, 8, 4, 97), (1, 32, 8, 300)] {
        let norm = Groups { channels, groups, tiny: 1e-5, start: 3 };
        assert_equal(&format!("{norm:?} {points}"), |device| {
            let all = samples * channels * points;
            let shifted = random(all, 4).iter().enumerate().map(|(i, x)| 0.5 * x + (i / points) as f32).collect();
            let mut x = Buffer::from_vec(device, shifted).unwrap();
            let (mut affine, mut y) = (buffer(device, 3 + 2 * channels, 5), zeros(device, all));
            norm.apply(device, points, &mut affine, &mut x, &mut zeros(device, 2 * samples * groups), &mut y).unwrap();
            y.into_vec()
        });
    }
}

/// Half and twice the points, and images taken apart and put together, of extents that are no powers of two.
#[test]
fn changes_of_points_equal_the_loops_to_2e_6() {
    for (samples, first, second, [h, w]) in [(1, 1, 1, [2, 2]), (2, 3, 5, [6, 10]), (3, 2, 1, [14, 22])] {
        let (n, what) = (h * w, format!("{samples} {first} {second} {h} {w}"));
        assert_equal(&format!("halve {what}"), |device| {
            let mut y = zeros(device, samples * first * n / 4);
            halve(device, [h, w], &mut buffer(device, samples * first * n, 6), &mut y).unwrap();
            y.into_vec()
        });
        assert_equal(&format!("join {what}"), |device| {
            let mut a = buffer(device, samples * first * n / 4, 7);
            let mut b = buffer(device, samples * second * n, 8);
            let mut y = zeros(device, samples * (first + second) * n);
            double_and_join(device, [first, second], [h, w], &mut a, &mut b, &mut y).unwrap();
            y.into_vec()
        });
        let images = Images { h, w };
        assert_equal(&format!("apart {what}"), |device| {
            let mut y = zeros(device, samples * n);
            images.apart(device, [0.3, 1.7], &mut buffer(device, samples * n, 9), &mut y).unwrap();
            y.into_vec()
        });
        assert_equal(&format!("together {what}"), |device| {
            let [mut x, mut f] = [10, 11].map(|stream| buffer(device, samples * n, stream));
            let mut y = zeros(device, samples * n);
            images.together(device, [0.3, 0.8, -1.2], &mut x, &mut f, &mut y).unwrap();
            y.into_vec()
        });
    }
}
