//! Pressure in a medium against naive sums, manufactured solutions and balances; the law of the medium.

use std::f64::consts::PI;

use super::darcy::Darcy;
use super::elliptic::Elliptic;
use super::reflection::Reflection;

/// Values of `f` at n × n nodes of the unit square.
fn at_nodes(n: usize, f: impl Fn(f64, f64) -> f64) -> Vec<f64> {
    let place = |i: usize| i as f64 / (n - 1) as f64;
    (0..n * n).map(|i| f(place(i / n), place(i % n))).collect()
}

fn solve(n: usize, a: &[f64], f: &[f64]) -> (Vec<f64>, usize) {
    let mut p = vec![0.0; n * n];
    let iterations = Elliptic::new(n, 1.0).solve(a, f, &mut p).expect("it converges");
    (p, iterations)
}

/// Σ_kl c_kl g(k, i) g(l, j), one by one.
fn naive(n: usize, c: &[f64], g: impl Fn(usize, usize) -> f64) -> Vec<f64> {
    let sum = |i: usize, j: usize| (0..n * n).map(|at| c[at] * g(at / n, i) * g(at % n, j)).sum();
    (0..n * n).map(|at| sum(at / n, at % n)).collect()
}

#[test]
fn reflected_transforms_are_naive_sums() {
    for n in [4, 5, 8, 9] {
        let given: Vec<f64> = (0..n * n).map(|i| (1.7 * i as f64).sin()).collect();
        let angle = |k: usize, i: usize| PI * (k * i) as f64 / (n - 1) as f64;
        let (mut sines, mut cosines) = (given.clone(), given.clone());
        let reflection = Reflection::new(n);
        reflection.sines(&mut sines, &mut reflection.work());
        reflection.cosines(&mut cosines, &mut reflection.work());
        let due = [naive(n, &given, |k, i| angle(k, i).sin()), naive(n, &given, |k, i| angle(k, i).cos())];
        for (found, due) in [sines, cosines].iter().zip(&due) {
            for i in 0..n * n {
                assert!((found[i] - due[i]).abs() < 1e-12, "{n}: {i}: {} for {}", found[i], due[i]);
            }
        }
    }
}

/// p = Σ f̂_kl/(λ_k + λ_l) sin(kπx) sin(lπy) with the eigenvalues of differences; the preconditioner is the inverse itself.
#[test]
fn a_uniform_medium_has_the_double_sine_series_after_one_iteration() {
    for n in [9, 12] {
        let f = at_nodes(n, |x, y| 1.0 + x - 2.0 * x * y);
        let (p, iterations) = solve(n, &vec![4.0; n * n], &f);
        assert!(iterations <= 2, "{iterations}");
        let edge = |i: usize| i.is_multiple_of(n - 1);
        let inside = |i: usize| !edge(i / n) && !edge(i % n);
        let cut: Vec<f64> = (0..n * n).map(|i| if inside(i) { f[i] } else { 0.0 }).collect();
        let wave = |k: usize, i: usize| (PI * (k * i) as f64 / (n - 1) as f64).sin();
        let last = (n - 1) as f64;
        let lambda = |k: usize| (2.0 * last * (0.5 * PI * k as f64 / last).sin()).powi(2);
        let mut modes = naive(n, &cut, wave);
        for (i, value) in modes.iter_mut().enumerate() {
            *value *= if inside(i) { (2.0 / last).powi(2) / (4.0 * (lambda(i / n) + lambda(i % n))) } else { 0.0 };
        }
        for (found, due) in p.iter().zip(naive(n, &modes, wave)) {
            assert!((found - due).abs() < 1e-14, "{found} for {due}");
        }
    }
    // −Δp = 1: 0.0736713… at the centre (the series of the torsion of a square bar).
    let n = 129;
    let (p, _) = solve(n, &vec![1.0; n * n], &vec![1.0; n * n]);
    let off = p[n * n / 2] - 0.073_671_353;
    assert!(off.abs() < 0.1 / 128f64.powi(2), "{off:e}");
}

/// a = 2 + sin(πx) cos(πy), p = sin(πx) sin(2πy).
#[test]
fn a_manufactured_solution_is_met_with_order_two() {
    let error = |n: usize| {
        let a = |x: f64, y: f64| 2.0 + (PI * x).sin() * (PI * y).cos();
        let p = |x: f64, y: f64| (PI * x).sin() * (2.0 * PI * y).sin();
        let f = |x: f64, y: f64| {
            let (ax, ay) = (PI * (PI * x).cos() * (PI * y).cos(), -PI * (PI * x).sin() * (PI * y).sin());
            let (px, py) =
                (PI * (PI * x).cos() * (2.0 * PI * y).sin(), 2.0 * PI * (PI * x).sin() * (2.0 * PI * y).cos());
            5.0 * PI * PI * a(x, y) * p(x, y) - ax * px - ay * py
        };
        let (found, _) = solve(n, &at_nodes(n, a), &at_nodes(n, f));
        let off: f64 = found.iter().zip(at_nodes(n, p)).map(|(a, b)| (a - b).powi(2)).sum();
        off.sqrt() / (n - 1) as f64
    };
    let errors = [17, 33, 65].map(error);
    for pair in errors.windows(2) {
        let order = (pair[0] / pair[1]).log2();
        assert!((1.9..2.1).contains(&order), "{errors:?}");
    }
}

/// Written out once more, node by node; and what comes in leaves through the boundary.
#[test]
fn two_materials_leave_no_residual_and_lose_no_fluid() {
    let n = 50;
    let darcy = Darcy::new(n, 1.0, [3.0, 12.0], (2.0, 3.0));
    let (mut a, mut p) = (vec![0.0; n * n], vec![0.0; n * n]);
    let iterations = darcy.sample(3, 5, &mut a, &mut p).expect("it converges");
    assert!((10..=40).contains(&iterations), "{iterations}");
    assert!(a.contains(&3.0) && a.contains(&12.0) && a.iter().all(|a| [3.0, 12.0].contains(a)));
    let h = 1.0 / (n - 1) as f64;
    let flux = |i: usize, j: usize| 2.0 * a[i] * a[j] / (a[i] + a[j]) * (p[i] - p[j]) / h;
    let (mut worst, mut out, mut sources): (f64, f64, f64) = (0.0, 0.0, 0.0);
    for x in 1..n - 1 {
        for y in 1..n - 1 {
            let i = x * n + y;
            let sum: f64 = [i - n, i + n, i - 1, i + 1].into_iter().map(|j| flux(i, j)).sum();
            worst = worst.max((sum / h - 1.0).abs());
            sources += h * h;
        }
    }
    for k in 1..n - 1 {
        for (inner, edge) in
            [(n + k, k), (n * (n - 2) + k, n * (n - 1) + k), (k * n + 1, k * n), (k * n + n - 2, k * n + n - 1)]
        {
            assert_eq!(p[edge], 0.0);
            out += flux(inner, edge) * h;
        }
    }
    assert!(worst < 1e-10, "{worst:e}");
    assert!((out - sources).abs() < 1e-12, "{out} of {sources}");
    assert!(p.iter().all(|p| *p >= 0.0), "the largest principle");
}

/// Coefficient (k, l) of 2 cos(πkx) cos(πly) in values at the nodes, for modes below the last.
fn mode(n: usize, f: &[f64], (k, l): (usize, usize)) -> f64 {
    let end = |i: usize| if i.is_multiple_of(n - 1) { 0.5 } else { 1.0 };
    let wave = |k: usize, i: usize| end(i) * (PI * (k * i) as f64 / (n - 1) as f64).cos();
    let sum: f64 = (0..n * n).map(|i| f[i] * wave(k, i / n) * wave(l, i % n)).sum();
    2.0 * sum / ((n - 1) * (n - 1)) as f64
}

/// E c² = (π²(k² + l²) + 9)^−2; c²/E has mean 1 and variance 2.
#[test]
fn a_medium_is_the_same_on_any_grid_and_has_the_published_covariance() {
    let [coarse, fine] = [9, 17].map(|n| Darcy::new(n, 1.0, [3.0, 12.0], (2.0, 3.0)));
    let (a, b) = (coarse.field(1, 2), fine.field(1, 2));
    for pair in [(1, 0), (0, 3), (1, 1), (2, 5), (7, 4)] {
        let (x, y) = (mode(9, &a, pair), mode(17, &b, pair));
        assert!((x - y).abs() < 1e-14, "{pair:?}: {x} and {y}");
    }
    let count = 500;
    let fields: Vec<Vec<f64>> = (0..count).map(|sample| coarse.field(4, sample)).collect();
    for (k, l) in [(1, 1), (1, 2), (2, 1), (3, 3)] {
        let due = (PI * PI * (k * k + l * l) as f64 + 9.0).powi(-2);
        let mean = fields.iter().map(|f| mode(9, f, (k, l)).powi(2) / due).sum::<f64>() / count as f64;
        let z = (mean - 1.0) / (2.0 / count as f64).sqrt();
        assert!(z.abs() < 4.0, "({k}, {l}): z = {z}");
    }
    assert!(fields.iter().all(|f| mode(9, f, (0, 0)).abs() < 1e-14), "no mean");
}

#[test]
fn what_does_not_converge_says_so() {
    let n = 9;
    let a: Vec<f64> = (0..n * n).map(|i| if i % 3 == 0 { f64::NAN } else { 1.0 }).collect();
    let stuck = Elliptic::new(n, 1.0).solve(&a, &vec![1.0; n * n], &mut vec![0.0; n * n]).expect_err("no numbers");
    assert!(stuck.residual.is_nan(), "{stuck:?}");
}
