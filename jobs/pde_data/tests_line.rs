//! Equations on a circle against naive sums, exact solutions, growth rates and balances.

use std::f64::consts::{PI, TAU};

use num_complex::Complex64;

use super::circle::{Circle, Fourier};
use super::line::{Law, Line};
use super::line_initial::{LineInitial, coefficients};
use super::spec::{InitialKind, InitialSpec};
use crate::expression::Number;

fn line(law: Law, n: usize, length: f64, step: f64) -> Line {
    Line::new(law, law.circle(n, length), step)
}

/// `text` after `steps` steps.
fn after(line: &Line, text: &str, steps: u64) -> Vec<Complex64> {
    let mut u = coefficients("u", text, &line.circle).expect("a function");
    line.advance(&mut u, steps, &mut line.mover());
    u
}

/// Root of the mean square of a − b.
fn distance(circle: &Circle, a: &[Complex64], b: &[Complex64]) -> f64 {
    let off: Vec<Complex64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
    (2.0 * circle.energies(&off).sum::<f64>()).sqrt()
}

/// Sizes of both kinds, and as many modes as they hold.
#[test]
fn transforms_are_naive_sums() {
    for n in [4, 6, 7, 12, 15, 16] {
        let circle = Circle::whole(n, 1.0);
        let u: Vec<Complex64> =
            (0..=circle.m).map(|k| Complex64::new((k as f64).cos(), (3.0 * k as f64).sin())).collect();
        let values = Fourier::new(n).values(&u);
        assert_eq!(values.len(), n);
        for (j, value) in values.iter().enumerate() {
            let term = |k: usize| (u[k] * Complex64::cis(TAU * (k * j) as f64 / n as f64)).re;
            let sum = term(0) + 2.0 * (1..=circle.m).map(term).sum::<f64>();
            assert!((value - sum).abs() < 1e-14 * n as f64, "{n}: {value} for {sum}");
        }
        let back = Fourier::new(n).coefficients(&values, circle.m);
        assert!(distance(&circle, &back, &u) < 1e-14, "{n}");
    }
}

/// Modified Bessel function I_n(z) by its series.
fn bessel(n: i32, z: f64) -> f64 {
    let mut term = (1..=n).fold(1.0, |term, k| term * 0.5 * z / f64::from(k));
    let mut sum = term;
    for k in 1..60 {
        term *= 0.25 * z * z / f64::from(k * (k + n));
        sum += term;
    }
    sum
}

/// J. D. Cole and E. Hopf: u = −2ν φ_x/φ, where φ diffuses from exp(cos(x)/2ν) = I_0 + 2 Σ I_n cos(nx), the I_n at 1/2ν.
#[test]
fn burgers_is_the_solution_of_cole_and_hopf_to_1e_8() {
    let (viscosity, n) = (0.1, 256);
    let line = line(Law::Burgers(viscosity), n, TAU, 1e-3);
    for steps in [500, 2000] {
        let time = 1e-3 * steps as f64;
        let found = Fourier::new(n).values(&after(&line, "sin(x)", steps));
        let mut largest: f64 = 0.0;
        for (i, found) in found.iter().enumerate() {
            let x = TAU * i as f64 / n as f64;
            let (mut phi, mut slope) = (bessel(0, 0.5 / viscosity), 0.0);
            for k in 1..40 {
                let weight = 2.0 * bessel(k, 0.5 / viscosity) * (-viscosity * f64::from(k * k) * time).exp();
                phi += weight * (f64::from(k) * x).cos();
                slope -= weight * f64::from(k) * (f64::from(k) * x).sin();
            }
            largest = largest.max((found + 2.0 * viscosity * slope / phi).abs());
        }
        assert!(largest < 1e-8, "t = {time}: {largest:e}");
    }
}

#[test]
fn tiny_waves_grow_by_their_rates_to_1e_6() {
    let line = line(Law::KuramotoSivashinsky, 128, 32.0 * PI, 0.1);
    let start = "1e-9*(cos(x/16) + sin(6*x/16) + cos(11*x/16) + sin(16*x/16) + cos(20*x/16))";
    let (before, now) = (after(&line, start, 0), after(&line, start, 100));
    for k in [1, 6, 11, 16, 20] {
        let kappa = k as f64 / 16.0;
        let rate = (now[k].norm() / before[k].norm()).ln() / 10.0;
        let due = kappa.powi(2) - kappa.powi(4);
        assert!((rate - due).abs() < 1e-6, "{k}: {rate}, due {due}");
    }
}

/// Steps of 1/16, 1/32, 1/64 and 1/128 up to t = 5; the mean stays to the bit.
#[test]
fn halving_a_step_divides_the_error_by_sixteen() {
    let start = "0.3 + cos(x/16)*(1 + sin(x/16))";
    let circle = Law::KuramotoSivashinsky.circle(128, 32.0 * PI);
    let run = |per_unit: u64| {
        let line = Line::new(Law::KuramotoSivashinsky, circle.clone(), 1.0 / per_unit as f64);
        after(&line, start, 5 * per_unit)
    };
    let runs = [16, 32, 64, 128].map(run);
    let apart: Vec<f64> = runs.windows(2).map(|pair| distance(&circle, &pair[0], &pair[1])).collect();
    for pair in apart.windows(2) {
        let ratio = pair[0] / pair[1];
        assert!((15.0..16.5).contains(&ratio), "{apart:?}");
    }
    let begun = coefficients("u", start, &circle).expect("a function");
    assert!(runs.iter().all(|u| u[0] == begun[0]), "the mean");
    assert!(distance(&circle, &runs[3], &begun) > 0.1, "it moves");
}

/// d/dt ⟨u²/2⟩ = ⟨u_x²⟩ − ⟨u_xx²⟩, integrated by Simpson's rule over the steps.
#[test]
fn energy_changes_by_what_long_waves_gain_and_short_ones_lose() {
    let step = 0.01;
    let line = line(Law::KuramotoSivashinsky, 128, 32.0 * PI, step);
    let circle = &line.circle;
    let mut u = after(&line, "cos(x/16)*(1 + sin(x/16))", 2000);
    let rate = |u: &[Complex64]| -> f64 {
        circle.energies(u).zip(circle.kappas()).map(|(e, kappa)| 2.0 * e * (kappa.powi(2) - kappa.powi(4))).sum()
    };
    let energy = |u: &[Complex64]| circle.energies(u).sum::<f64>();
    let (before, mut mover, mut integral) = (energy(&u), line.mover(), 0.0);
    for _ in 0..100 {
        let mut rates = [rate(&u), 0.0, 0.0];
        for at in [1, 2] {
            line.advance(&mut u, 1, &mut mover);
            rates[at] = rate(&u);
        }
        integral += step / 3.0 * (rates[0] + 4.0 * rates[1] + rates[2]);
    }
    let change = energy(&u) - before;
    assert!(change.abs() > 1e-3, "{change}");
    assert!((change - integral).abs() < 1e-7 * before, "{change:e} and {integral:e}");
}

#[test]
fn advection_is_a_shift_to_1e_12_on_even_and_odd_grids() {
    let f = |x: f64| 0.5 + (TAU * x).sin() + 0.3 * (3.0 * TAU * x).cos() - 0.2 * (7.0 * TAU * x).sin();
    for n in [16, 17, 64] {
        let line = line(Law::Advection(-0.7), n, 1.0, 0.01);
        let u = after(&line, "0.5 + sin(2*pi*x) + 0.3*cos(6*pi*x) - 0.2*sin(14*pi*x)", 137);
        for (i, value) in Fourier::new(n).values(&u).iter().enumerate() {
            let exact = f(i as f64 / n as f64 + 0.7 * 1.37);
            assert!((value - exact).abs() < 1e-12, "{n}: {value} for {exact}");
        }
    }
}

/// E|û_k|² = 625 (4π²k² + 25)^−2; |û|²/E is exponential of mean 1, so a mean of all has deviation 1/√count.
#[test]
fn a_sample_is_the_same_on_any_grid_and_has_the_published_covariance() {
    let spec = InitialSpec {
        kind: InitialKind::Gaussian,
        alpha: Some(2.0),
        tau: Some(5.0),
        scale: Some(Number::Text("sqrt(5)".into())),
        peak: None,
        energy: None,
        vorticity: None,
        solution: None,
    };
    let (coarse, fine) = (Circle::of_products(64, 1.0), Circle::of_products(300, 1.0));
    let [a, b] = [&coarse, &fine].map(|circle| LineInitial::new(&spec, circle).expect("right").sample(5, 9));
    assert_eq!(a, b[..a.len()]);
    let initial = LineInitial::new(&spec, &coarse).expect("right");
    let samples: Vec<Vec<Complex64>> = (0..400).map(|sample| initial.sample(11, sample)).collect();
    for k in 1..=coarse.m {
        let due = 625.0 * ((TAU * k as f64).powi(2) + 25.0).powi(-2);
        let ratio = samples.iter().map(|u| u[k].norm_sqr() / due).sum::<f64>() / samples.len() as f64;
        let z = (ratio - 1.0) * (samples.len() as f64).sqrt();
        assert!(z.abs() < 4.5, "{k}: z = {z}");
    }
    assert!(samples.iter().all(|u| u[0] == Complex64::ZERO));
}

#[test]
fn what_the_grid_does_not_hold_is_refused() {
    let circle = Circle::of_products(32, TAU);
    let said = |text: &str| coefficients("problem.initial.solution", text, &circle).expect_err("refused").to_string();
    assert!(said("sin(11*x)").contains("waves beyond mode 10"), "{}", said("sin(11*x)"));
    assert!(said("x").contains("does not repeat"), "{}", said("x"));
    assert!(said("1/x").contains("at x = 0"), "{}", said("1/x"));
}
