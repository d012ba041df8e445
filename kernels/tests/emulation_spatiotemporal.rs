//! Pointwise networks and the ends of a spatiotemporal operator under emulation (the same launches as on a GPU) against the plain loops
//! in double precision, which are the processor's. Skipped, with a printed reason, where there is no g++.

#![allow(clippy::unwrap_used)]

mod common;

use common::devices;
use convoke_kernels::fourier_layer::Scratch;
use convoke_kernels::spatiotemporal::*;
use convoke_kernels::*;

fn random(len: usize, stream: u64) -> Vec<f32> {
    (0..len as u64).map(|i| Philox::new(31, stream).normal(i) as f32).collect()
}

/// Differences of single from double precision, of the largest value.
const ROUNDING: f64 = 2e-6;

/// What `run` makes on each device is what it makes on the processor.
#[track_caller]
fn assert_equal(what: &str, run: impl Fn(&Device) -> Vec<Vec<f32>>) {
    let expected = run(&Device::cpu());
    for device in devices() {
        for (part, (found, expected)) in run(&device).iter().zip(&expected).enumerate() {
            assert_eq!(found.len(), expected.len(), "{what}");
            let largest = expected.iter().fold(0f64, |m, v| m.max(f64::from(v.abs())));
            assert!(largest > 0.0, "{what}: nothing is compared");
            for (at, (a, b)) in found.iter().zip(expected).enumerate() {
                let far = (f64::from(*a) - f64::from(*b)).abs() / largest;
                // Not `far > ROUNDING`, which lets NaN pass.
                assert!(far <= ROUNDING, "{what}, part {part}, number {at}: {a} {b}, {far:e} of the largest");
            }
        }
    }
}

/// Channels within a tile of 32 and beyond it, points beyond a tile of 64 and a piece of 256, latent times that divide neither.
#[test]
fn networks_and_their_derivatives_equal_the_loops_to_2e_6() {
    for (samples, h, inside, places, latent) in
        [(1, 1, 1, 1, 1), (2, 5, 20, 7, 3), (3, 37, 70, 31, 10), (1, 32, 128, 27, 7)]
    {
        let (points, times) = (places * latent, latent + 2);
        let feed = Feed { h, inside, start: 3 };
        let (weight, bias) = (3 + feed.count(), 4 + feed.count() + h * h);
        let scale = (h as f32).sqrt().recip();
        let parameters: Vec<f32> = random(bias + h + 1, 1).iter().map(|v| scale * v).collect();
        let size = samples * h * points;
        let what = format!("{samples} {h} {inside} {points}");
        let buffer = |device: &Device, len: usize, stream: u64| Buffer::from_vec(device, random(len, stream)).unwrap();
        for newest in [false, true] {
            assert_equal(&format!("{what} {newest}"), |device| {
                let mut p = Buffer::from_vec(device, parameters.clone()).unwrap();
                let mut v = buffer(device, if newest { samples * h * places * times } else { size }, 2);
                let [mut slopes, mut out] = [0, 1].map(|_| Buffer::zeros(device, size).unwrap());
                let beside =
                    if newest { Beside::Newest(times, latent, &mut v) } else { Beside::Map(weight, bias, &mut v) };
                let mut x = buffer(device, size, 3);
                feed.forward(device, samples, &mut p, &mut x, beside, &mut slopes, &mut out).unwrap();
                vec![slopes.into_vec(), out.into_vec()]
            });
        }
        assert_equal(&format!("{what}: back"), |device| {
            let mut p = Buffer::from_vec(device, parameters.clone()).unwrap();
            let (mut x, mut g) = (buffer(device, size, 3), buffer(device, size, 4));
            let mut dx = Buffer::zeros(device, size).unwrap();
            feed.back(device, samples, &mut p, &mut x, &mut g, &mut dx).unwrap();
            let mut gradient = Buffer::from_vec(device, vec![7.0; parameters.len()]).unwrap();
            let scratch = &mut Scratch::default();
            feed.gradient(device, samples, &mut p, &mut x, &mut g, &mut gradient, scratch).unwrap();
            let gradient = gradient.into_vec();
            // What lies beside the network's stays; each of its parts is compared by itself.
            assert!(gradient[..3] == [7.0; 3] && gradient[weight..].iter().all(|v| *v == 7.0));
            let (w1, rest) = gradient[3..weight].split_at(inside * h);
            let (b1, rest) = rest.split_at(inside);
            let (w2, b2) = rest.split_at(inside * h);
            vec![dx.into_vec(), w1.to_vec(), b1.to_vec(), w2.to_vec(), b2.to_vec()]
        });
    }
}

/// More numbers than a piece of a mean, than a block and than a warp.
#[test]
fn ends_of_an_operator_equal_the_loops_to_2e_6() {
    for (samples, h, s) in [
        (1, 1, SpaceTime { places: 1, times: 1, latent: 1, output: 1 }),
        (3, 5, SpaceTime { places: 301, times: 7, latent: 4, output: 9 }),
    ] {
        let buffer = |device: &Device, len: usize, stream: u64| Buffer::from_vec(device, random(len, stream)).unwrap();
        let zeros = |device: &Device, len: usize| Buffer::<f32>::zeros(device, len).unwrap();
        let line = s.places * s.times;
        assert_equal("ends", |device| {
            let (mut encoding, mut w) = (buffer(device, h * line, 1), buffer(device, samples * line, 2));
            let mut v = zeros(device, samples * h * line);
            // A variance that does not vanish beside what is added to it, also of one number.
            let scratch = &mut Scratch::default();
            s.standard(device, samples, 0.5, &mut encoding, &mut w, scratch, &mut v).unwrap();
            let mut x = buffer(device, samples * h * line, 3);
            s.gather(device, &mut buffer(device, samples * h * s.places * s.latent, 4), &mut x).unwrap();
            let mut reduced = buffer(device, samples * s.places * s.latent, 5);
            let mut z = zeros(device, samples * s.places * (s.latent + 1));
            s.join(device, samples, &mut w, &mut reduced, &mut z).unwrap();
            let mut back = zeros(device, reduced.len());
            s.cut(device, samples, &mut buffer(device, z.len(), 6), &mut back).unwrap();
            let mut changes = buffer(device, samples * s.places * s.output, 7);
            let [mut made, mut turned] = [0, 1].map(|_| zeros(device, changes.len()));
            s.forecast(device, samples, &mut w, &mut changes, &mut made).unwrap();
            s.forecast_back(device, samples, &mut buffer(device, made.len(), 8), &mut turned).unwrap();
            let mut all = [x, z, back, made, turned].map(Buffer::into_vec).to_vec();
            // One number is its own mean, and nothing to compare.
            all.extend((h * line > 1).then(|| v.into_vec()));
            all
        });
    }
    for h in [1, 40, 300] {
        let folded = Folded { h, scale: 2, shift: 2 + h, weight: 2 + 2 * h, bias: 2 + 2 * h + h * h };
        let count = folded.bias + h + 1;
        assert_equal(&format!("folded {h}"), |device| {
            let buffer = |len: usize, stream: u64| Buffer::from_vec(device, random(len, stream)).unwrap();
            let (mut p, mut both, mut gradient) = (buffer(count, 1), buffer(h * h + h, 2), buffer(count, 3));
            folded.unfold(device, &mut p, &mut both, &mut gradient).unwrap();
            folded.fold(device, &mut p, &mut both).unwrap();
            vec![gradient.into_vec(), both.into_vec()]
        });
    }
    for (samples, outer, inner) in [(1, 1, 1), (5, 70, 3)] {
        let bias = ModeBias { outer, inner, start: 1, factor: 0.3 };
        let size = 2 * outer * inner;
        assert_equal("bias", |device| {
            let buffer = |len: usize, stream: u64| Buffer::from_vec(device, random(len, stream)).unwrap();
            let (mut p, mut y, mut gradient) = (buffer(size + 2, 1), buffer(samples * size, 2), buffer(size + 2, 3));
            bias.gradient(device, samples, &mut y, &mut gradient).unwrap();
            bias.add(device, samples, &mut p, &mut y).unwrap();
            vec![y.into_vec(), gradient.into_vec()]
        });
    }
}
