//! Times of steps of the two-dimensional flow, of Burgers' equation, and of samples of a medium, on one thread:
//! `cargo run --release --example bench_pde [POINTS...]`.

use std::time::Instant;

use convoke::flow::{Flow, Modes, Scheme};
use convoke::pde_data::darcy::Darcy;
use convoke::pde_data::line::{Law, Line};
use num_complex::Complex64;

/// Repetitions; the least and the median are shown.
const ROUNDS: usize = 9;

#[allow(clippy::print_stdout, reason = "the table is the result")]
fn main() {
    let given: Vec<usize> = std::env::args().skip(1).filter_map(|n| n.parse().ok()).collect();
    let sizes = if given.is_empty() { vec![64, 128, 256, 512] } else { given };
    println!("points  scheme   ms/step least  median  GF/s (5 n log2 n for each complex FFT)");
    for n in sizes {
        for scheme in [Scheme::Rk4Cn, Scheme::Rk2Cn, Scheme::ImexCn] {
            let modes = Modes::new(n, std::f64::consts::TAU);
            let mut w: Vec<Complex64> =
                (0..modes.len()).map(|i| Complex64::new((i as f64).sin(), 0.0) * 1e-3).collect();
            w[0] = Complex64::ZERO;
            let flow = Flow::new(modes.clone(), (1e-3, 0.0), Vec::new(), (scheme, 1e-4), false);
            let mut mover = flow.mover();
            let steps = (4_000_000 / (n * n)).clamp(2, 200) as u64;
            let times = times(|| flow.advance(&mut w, steps, &mut mover));
            let times = times.map(|time| time / steps as f64);
            let rate = Flow::flops(&modes, scheme) / times[0] / 1e9;
            println!("{n:6}  {scheme:?}  {:10.3}  {:8.3}  {rate:6.2}", 1e3 * times[0], 1e3 * times[1]);
        }
    }
    println!("points  Burgers, 1000 steps, ms least  median  GF/s");
    for n in [256, 1024, 8192] {
        let law = Law::Burgers(0.1);
        let line = Line::new(law, law.circle(n, 1.0), 1e-3);
        let mut mover = line.mover();
        let times = times(|| {
            let mut u = vec![Complex64::ZERO; line.circle.m + 1];
            (u[1], u[2]) = (Complex64::new(0.3, 0.1), Complex64::new(0.0, 0.1));
            line.advance(&mut u, 1000, &mut mover);
        });
        let rate = law.flops(&line.circle, 1000.0) / times[0] / 1e9;
        println!("{n:6}  {:10.2}  {:8.2}  {rate:6.2}", 1e3 * times[0], 1e3 * times[1]);
    }
    println!("nodes   Darcy, a sample, ms least  median  iterations");
    for n in [49, 85, 241, 421] {
        let darcy = Darcy::new(n, 1.0, [3.0, 12.0], (2.0, 3.0));
        let (mut a, mut p, mut taken) = (vec![0.0; n * n], vec![0.0; n * n], None);
        let times = times(|| taken = darcy.sample(0, 1, &mut a, &mut p).ok());
        println!("{n:6}  {:10.2}  {:8.2}  {taken:?}", 1e3 * times[0], 1e3 * times[1]);
    }
}

/// Least and median seconds of some calls.
fn times(mut work: impl FnMut()) -> [f64; 2] {
    let mut times = [0.0; ROUNDS];
    for time in &mut times {
        let begun = Instant::now();
        work();
        *time = begun.elapsed().as_secs_f64();
    }
    times.sort_by(f64::total_cmp);
    [times[0], times[ROUNDS / 2]]
}
