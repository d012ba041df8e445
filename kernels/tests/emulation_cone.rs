//! The cone-beam device kernels under emulation (the same launches as on a GPU) against the CPU. Sizes are odd and go
//! beyond a warp, a block and the slices of a thread. Skipped, with a printed reason, where there is no g++.

#![allow(clippy::unwrap_used)]

mod common;

use common::devices;
use convoke_kernels::*;
use std::sync::Arc;

fn random(device: &Device, len: usize, stream: u64) -> Buffer<f32> {
    let p = Philox::new(4, stream);
    Buffer::from_vec(device, (0..len as u64).map(|i| p.normal(i) as f32).collect()).unwrap()
}

#[track_caller]
fn assert_close(got: &mut Buffer<f32>, expected: &mut Buffer<f32>, what: &str) {
    let largest = expected.host().iter().fold(1e-30f32, |m, v| m.max(v.abs()));
    for (i, (a, b)) in got.host().iter().zip(expected.host()).enumerate() {
        let close = (a - b).abs() <= 3e-6 * largest; // false for NaN
        assert!(close, "{what}: element {i} is {a}, the CPU has {b}");
    }
}

fn geometries() -> Vec<ConeGeometry> {
    let circle = |n: usize, pixel: f64, detector| {
        Orbit::circle((0..n).map(|i| 0.3 + 0.9 * i as f64).collect(), [120.0, 190.0], pixel, detector)
    };
    let on = |orbit: Orbit, shape: [usize; 3], voxel: f64| {
        let [n_rows, n_cols] = orbit.detector;
        ConeGeometry { views: orbit.views(), n_rows, n_cols, shape, voxel, centre: [1.0, -2.0, 0.5] }
    };
    vec![
        on(circle(5, 1.7, [19, 37]), [17, 15, 36], 1.0),
        on(Orbit { tilt_rad: 1.1, roll_rad: 0.3, ..circle(4, 1.5, [21, 34]) }, [9, 17, 16], 1.0),
        on(Orbit { rise_per_turn: 20.0, shift: [3.0, -4.0], ..circle(4, 0.9, [33, 35]) }, [10, 11, 12], 2.0),
    ]
}

#[test]
fn cone_projectors_equal_the_cpu_to_3e_6_of_the_maximum_and_are_adjoint_to_1e_6() {
    let cpu = Device::cpu();
    for device in devices() {
        for (case, g) in geometries().into_iter().enumerate() {
            for footprint in [ConeFootprint::Linear, ConeFootprint::Shadow, ConeFootprint::Joseph] {
                let what = format!("{device:?}, case {case}, {footprint:?}");
                let g = Arc::new(g.clone());
                let part = ConePart { slices: 1..g.shape[0], rows: 2..g.n_rows - 1, views: vec![2, 0, 3] };
                let on = |d: &Device| ConeProjector::new(d, g.clone(), part.clone(), footprint).unwrap();
                let (host, dev) = (on(&cpu), on(&device));
                let (v, s) = (host.volume_len(), host.sinogram_len());
                let (mut x, mut y) = (random(&device, v, 0), random(&device, s, 1));
                let (mut ax, mut ax_cpu) = (Buffer::zeros(&device, s).unwrap(), Buffer::zeros(&cpu, s).unwrap());
                let (mut aty, mut aty_cpu) = (Buffer::zeros(&device, v).unwrap(), Buffer::zeros(&cpu, v).unwrap());
                dev.forward(&mut x, &mut ax).unwrap();
                dev.back(&mut y, &mut aty).unwrap();
                let ops = Slices::new(&device, 1).unwrap();
                let norms = (ops.norm2(&mut ax).unwrap()[0] * ops.norm2(&mut y).unwrap()[0]).sqrt();
                let dots = [ops.dot(&mut ax, &mut y).unwrap()[0], ops.dot(&mut x, &mut aty).unwrap()[0]];
                let mismatch = (dots[0] - dots[1]).abs() / norms;
                assert!(norms > 0.0 && mismatch < 1e-6, "{what}: {mismatch:e}");
                host.forward(&mut x, &mut ax_cpu).unwrap();
                host.back(&mut y, &mut aty_cpu).unwrap();
                assert_close(&mut ax, &mut ax_cpu, &what);
                assert_close(&mut aty, &mut aty_cpu, &what);
                // From and to memory of the host: added to what is there, and in its place.
                let mut twice = ax.host().to_vec();
                dev.forward_add(x.host(), &mut twice).unwrap();
                let double = ax.host().iter().map(|v| 2.0 * v).collect();
                assert_close(
                    &mut Buffer::from_vec(&cpu, twice).unwrap(),
                    &mut Buffer::from_vec(&cpu, double).unwrap(),
                    &what,
                );
                let mut image = vec![7.0; v];
                dev.back_on_host(y.host(), &mut image).unwrap();
                assert!(image == aty.host(), "{what}");
                let weights = [0.5, -1.0, 2.0];
                dev.back_filtered(&weights, &mut y, &mut aty).unwrap();
                host.back_filtered(&weights, &mut y, &mut aty_cpu).unwrap();
                assert_close(&mut aty, &mut aty_cpu, &what);
            }
        }
    }
}
