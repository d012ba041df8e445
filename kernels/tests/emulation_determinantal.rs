//! Samples of determinantal point processes under emulation (the same launches as on a GPU) against the CPU. Skipped, with a
//! printed reason, where there is no g++.

#![allow(clippy::unwrap_used)]

mod common;

use common::devices;
use convoke_kernels::determinantal::*;
use convoke_kernels::*;

/// Cosines of two variables, up to degree `degree` in each and `m` in all; more than a warp, and more than a block, of them.
fn products(device: &Device, degree: usize, m: usize) -> Products {
    let per_axis = degree + 1;
    let pairs = (0..per_axis).flat_map(|i| (0..per_axis).map(move |j| [(0, i), (1, j)]));
    let places = |pair: [(usize, usize); 2]| {
        pair.into_iter().filter(|(_, degree)| *degree > 0).map(|(axis, degree)| axis * per_axis + degree).collect()
    };
    Products::new(device, 2 * per_axis, pairs.take(m).map(places).collect()).unwrap()
}

/// Values of one candidate, at two uniform places: an orthonormal basis of the uniform measure.
fn table(degree: usize, x: [f64; 2]) -> Vec<f64> {
    let value = |k: usize, x: f64| if k == 0 { 1.0 } else { 2f64.sqrt() * (std::f64::consts::PI * k as f64 * x).cos() };
    x.iter().flat_map(|x| (0..=degree).map(move |k| value(k, *x))).collect()
}

fn candidates(degree: usize, samples: usize, first: u64, chunk: usize) -> (Vec<f64>, Vec<f64>) {
    let (mut tables, mut uniforms) = (Vec::new(), Vec::new());
    for sample in 0..samples {
        let random = Philox::new(9, sample as u64);
        for t in first..first + chunk as u64 {
            let [x, y] = random.uniforms(2 * t);
            tables.extend(table(degree, [x, y]));
            // Uniform places have a bounded density against the Christoffel measure; any law serves a comparison.
            uniforms.push(random.uniform(2 * t + 1));
        }
    }
    (tables, uniforms)
}

#[test]
fn samples_accept_what_the_cpu_accepts_in_chunks_of_any_size() {
    for device in devices() {
        for (degree, m, samples) in [(0, 1, 3), (4, 23, 5), (8, 79, 1), (11, 140, 1)] {
            let run = |device: &Device, chunk: usize| {
                let mut functions = products(device, degree, m);
                let mut drawn = Samples::new(&functions, samples).unwrap();
                for round in 0..2000 {
                    let first = (round * chunk) as u64;
                    let (tables, uniforms) = candidates(degree, samples, first, chunk);
                    let [mut tables, mut uniforms] = [tables, uniforms].map(|v| Buffer::from_vec(device, v).unwrap());
                    drawn.advance(&mut functions, first, &mut tables, &mut uniforms).unwrap();
                    let accepted = drawn.accepted().unwrap();
                    if accepted.iter().all(|list| list.len() == m) {
                        return accepted;
                    }
                }
                panic!("no sample of {m} points");
            };
            let cpu = run(&Device::cpu(), 256);
            assert!(cpu.iter().all(|list| list.windows(2).all(|w| w[0] < w[1])));
            assert!(samples == 1 || m == 1 || cpu[0] != cpu[1]);
            assert_eq!(run(&device, 256), cpu, "{device:?} m = {m}");
            assert_eq!(run(&device, 61), cpu, "{device:?} m = {m}, chunks of 61");
        }
    }
}

#[test]
fn features_lengths_and_chosen_columns_equal_the_cpu_to_1e_13() {
    for device in devices() {
        for (degree, m, n) in [(3, 14, 7), (12, 150, 67), (1, 4, 1)] {
            let run = |device: &Device| {
                let mut functions = products(device, degree, m);
                let mut tables = Buffer::from_vec(device, candidates(degree, 1, 5, n).0).unwrap();
                let mut out = Buffer::zeros(device, m * n).unwrap();
                functions.unit_features(&mut tables, &mut out).unwrap();
                let lengths = squared_lengths(device, n, &mut out).unwrap();
                let chosen = gather(device, n, &[n - 1, 0, n / 2], &mut out).unwrap();
                (out.into_vec(), lengths, chosen)
            };
            let (cpu, got) = (run(&Device::cpu()), run(&device));
            let close =
                |a: &[f64], b: &[f64]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-13);
            assert!(close(&got.0, &cpu.0) && close(&got.1, &cpu.1) && close(&got.2, &cpu.2), "{device:?} {m} {n}");
            assert!(cpu.1.iter().all(|length| (length - 1.0).abs() < 1e-13));
            let column: Vec<f64> = (0..m).map(|j| cpu.0[j * n + n - 1]).collect();
            assert_eq!(cpu.2[..m], column);
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let device = Device::cpu();
    assert!(Products::new(&device, 3, vec![vec![0, 3]]).is_err());
    let large = Products::new(&device, 1, vec![vec![0]; MAX_POINTS + 1]).unwrap();
    assert!(Samples::new(&large, 1).is_err());
    let mut functions = products(&device, 2, 5);
    let mut drawn = Samples::new(&functions, 2).unwrap();
    let buffer = |n: usize| Buffer::zeros(&device, n).unwrap();
    assert!(drawn.advance(&mut functions, 0, &mut buffer(4 * 6), &mut buffer(3)).is_err());
    assert!(functions.unit_features(&mut buffer(12), &mut buffer(9)).is_err());
    assert!(gather(&device, 3, &[3], &mut buffer(6)).is_err());
}
