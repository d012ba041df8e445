//! Steps of flows under emulation (the same launches as on a GPU) against the processor's loops. Skipped, with a printed reason, where there is no
//! g++.

#![allow(clippy::unwrap_used)]

mod common;

use common::devices;
use convoke_kernels::vorticity::*;
use convoke_kernels::*;

fn normal(len: usize, stream: u64) -> Vec<f64> {
    (0..len as u64).map(|i| Philox::new(59, stream).normal(i)).collect()
}

/// Two steps of three stages.
fn moved(device: &Device, grid: Grid, w: &[f64], forced: bool) -> Vec<f64> {
    let linear: Vec<f64> = normal(grid.modes(), 1).iter().map(|l| -l.abs()).collect();
    let forcing = if forced { normal(2 * grid.modes(), 2) } else { Vec::new() };
    let stage = |beta, gamma, ahead, behind| Stage { beta, gamma, ahead, behind };
    let stages = [stage(0.0, 1e-3, 0.1, 0.2), stage(-0.6, 2e-3, 0.1, 0.1), stage(-1.0, 1e-3, -0.1, 0.1)];
    let mut equation = Vorticity::new(device, grid, &linear, &forcing).unwrap();
    let mut flows = Flows::new(device, &grid, w).unwrap();
    equation.step(&stages, &mut flows).unwrap();
    equation.step(&stages, &mut flows).unwrap();
    let mut out = vec![0.0; w.len()];
    flows.get(&mut out).unwrap();
    out
}

/// Points below and beyond a tile, even, odd and prime; one mode; with a force and without. A sample has the same bits beside others and alone.
#[test]
fn steps_equal_the_loops_to_1e_13_and_samples_stand_alone() {
    for (points, largest, samples, forced) in
        [(1, 0, 1, true), (4, 1, 2, true), (11, 3, 3, false), (32, 10, 3, true), (70, 23, 2, false)]
    {
        let grid = Grid { points, largest, unit: 0.8 };
        let w = normal(2 * grid.modes() * samples, 3);
        let expected = moved(&Device::cpu(), grid, &w, forced);
        let largest = expected.iter().fold(0f64, |m, v| m.max(v.abs()));
        assert!(largest > 0.0 && expected != w, "nothing is compared");
        for device in devices() {
            let found = moved(&device, grid, &w, forced);
            for (at, (a, b)) in found.iter().zip(&expected).enumerate() {
                let far = (a - b).abs() / largest;
                // Not `far > 1e-13`, which lets NaN pass.
                assert!(far <= 1e-13, "{points} points, number {at}: {a} {b}, {far:e} of the largest");
            }
            let one = 2 * grid.modes();
            for (w, found) in w.chunks_exact(one).zip(found.chunks_exact(one)) {
                assert_eq!(moved(&device, grid, w, forced), found, "{points} points: a sample alone");
            }
        }
    }
}
