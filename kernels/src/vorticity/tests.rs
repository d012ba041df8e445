//! Against sums over all triads, and what is refused. Whole schemes are compared with the code of FFTs where that is.

use super::*;
use crate::Philox;

const EULER: Stage = Stage { beta: 0.0, gamma: 1.0, ahead: 0.0, behind: 0.0 };

/// Coefficients of random real functions, one after another.
fn random(grid: &Grid, samples: usize, stream: u64) -> Vec<f64> {
    let random = Philox::new(53, stream);
    let mut w: Vec<f64> = (0..(2 * grid.modes() * samples) as u64).map(|i| random.normal(i)).collect();
    for w in w.chunks_exact_mut(2 * grid.modes()) {
        // Of k_y = 0, k_x and −k_x are conjugate.
        w[1] = 0.0;
        for k in 1..=grid.largest {
            let mirror = grid.width() - k;
            (w[2 * mirror], w[2 * mirror + 1]) = (w[2 * k], -w[2 * k + 1]);
        }
    }
    w
}

/// The coefficient of a mode, kept or not.
fn coefficient(grid: &Grid, w: &[f64], [kx, ky]: [i64; 2]) -> [f64; 2] {
    let m = grid.largest as i64;
    if kx.abs() > m || ky.abs() > m {
        return [0.0; 2];
    }
    if ky < 0 {
        let [re, im] = coefficient(grid, w, [-kx, -ky]);
        return [re, -im];
    }
    let column = if kx < 0 { kx + grid.width() as i64 } else { kx };
    let at = 2 * (ky as usize * grid.width() + column as usize);
    [w[at], w[at + 1]]
}

/// −u·∇w of a sample: Σ over p + q = k of (κ_p × κ_q) ŵ_p ŵ_q/|κ_p|².
fn triads(grid: &Grid, w: &[f64], [kx, ky]: [i64; 2]) -> [f64; 2] {
    let m = grid.largest as i64;
    let mut sum = [0.0; 2];
    for (px, py) in (-m..=m).flat_map(|px| (-m..=m).map(move |py| (px, py))).filter(|p| *p != (0, 0)) {
        let (qx, qy) = (kx - px, ky - py);
        let ([a, b], [c, d]) = (coefficient(grid, w, [px, py]), coefficient(grid, w, [qx, qy]));
        // Wave numbers: the unit cancels.
        let factor = (py * qx - px * qy) as f64 / (px * px + py * py) as f64;
        sum[0] += factor * (a * c - b * d);
        sum[1] += factor * (a * d + b * c);
    }
    sum
}

/// Points that are even, odd, a power of two and a prime; a force; two samples.
#[test]
fn the_explicit_part_is_the_sum_over_all_triads() {
    for (points, largest, unit) in [(16, 5, 1.0), (11, 3, 0.7), (9, 2, 3.0), (4, 1, 1.0), (1, 0, 1.0)] {
        let grid = Grid { points, largest, unit };
        let (w, forcing) = (random(&grid, 2, 1), random(&grid, 1, 2));
        let device = Device::cpu();
        let mut equation = Vorticity::new(&device, grid, &vec![-0.5; grid.modes()], &forcing).unwrap();
        let mut flows = Flows::new(&device, &grid, &w).unwrap();
        equation.step(&[EULER], &mut flows).unwrap();
        let mut moved = vec![0.0; w.len()];
        flows.get(&mut moved).unwrap();
        let size = w.iter().fold(0f64, |m, w| m.max(w.abs())).powi(2);
        for (w, moved) in w.chunks_exact(2 * grid.modes()).zip(moved.chunks_exact(2 * grid.modes())) {
            let m = largest as i64;
            for [kx, ky] in (0..=m).flat_map(|ky| (-m..=m).map(move |kx| [kx, ky])) {
                let [before, after, force] = [w, moved, &forcing].map(|of| coefficient(&grid, of, [kx, ky]));
                let due = triads(&grid, w, [kx, ky]);
                for part in 0..2 {
                    let off = (after[part] - before[part] - due[part] - force[part]).abs();
                    assert!(off < 1e-13 * size, "{points}, mode {kx} {ky}: {off:e} of {size}");
                }
            }
        }
    }
}

/// Shear flows stand still but for what is linear: two stages by hand.
#[test]
fn stages_are_their_formula() {
    let grid = Grid { points: 12, largest: 3, unit: 1.0 };
    let (device, at) = (Device::cpu(), 2 * 2 * grid.width());
    let mut w = vec![0.0; 2 * grid.modes()];
    (w[at], w[at + 1]) = (0.3, -0.4);
    let mut forcing = vec![0.0; 2 * grid.modes()];
    forcing[at + 1] = 2.0;
    let linear: Vec<f64> = (0..grid.modes()).map(|i| -0.1 * i as f64).collect();
    let l = linear[at / 2];
    let stages = [
        Stage { beta: 0.0, gamma: 0.3, ahead: 0.2, behind: 0.1 },
        Stage { beta: -0.7, gamma: 0.6, ahead: -0.3, behind: 0.5 },
    ];
    let mut equation = Vorticity::new(&device, grid, &linear, &forcing).unwrap();
    let mut flows = Flows::new(&device, &grid, &w).unwrap();
    let mut moved = vec![0.0; w.len()];
    // Twice: what the register holds of the first time does not enter.
    for _ in 0..2 {
        flows.put(&device, &w).unwrap();
        equation.step(&stages, &mut flows).unwrap();
        flows.get(&mut moved).unwrap();
        for (part, (w, f)) in [(0.3, 0.0), (-0.4, 2.0)].into_iter().enumerate() {
            let first = ((1.0 + 0.2 * l) * w + 0.3 * f) / (1.0 - 0.1 * l);
            let second = ((1.0 - 0.3 * l) * first + 0.6 * (f - 0.7 * f)) / (1.0 - 0.5 * l);
            assert!((moved[at + part] - second).abs() < 1e-15, "{} {second}", moved[at + part]);
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let (device, grid) = (Device::cpu(), Grid { points: 9, largest: 2, unit: 1.0 });
    let numbers = 2 * grid.modes();
    let flows = |grid: Grid, numbers: usize| Flows::new(&device, &grid, &vec![0.0; numbers]);
    assert_eq!(flows(grid, 3 * numbers).unwrap().samples(), 3);
    assert!(flows(grid, 0).is_err() && flows(grid, numbers - 1).is_err());
    assert!(flows(grid, numbers).unwrap().put(&device, &[0.0]).is_err());
    assert!(flows(grid, numbers).unwrap().get(&mut [0.0]).is_err());
    let equation = |grid: Grid, linear: usize, forcing: usize| {
        Vorticity::new(&device, grid, &vec![0.0; linear], &vec![0.0; forcing])
    };
    assert!(equation(grid, numbers / 2, 0).is_ok() && equation(grid, numbers / 2, numbers).is_ok());
    assert!(equation(grid, numbers, 0).is_err() && equation(grid, numbers / 2, 1).is_err());
    for wrong in [Grid { points: 4, ..grid }, Grid { points: 1 << 15, ..grid }, Grid { unit: f64::NAN, ..grid }] {
        assert!(equation(wrong, numbers / 2, 0).is_err(), "{wrong:?}");
    }
    let other = Grid { points: 11, ..grid };
    assert!(equation(other, numbers / 2, 0).unwrap().step(&[EULER], &mut flows(grid, numbers).unwrap()).is_err());
}
