//! Times of steps of the two-dimensional flow: `cargo run --release --example bench_pde [POINTS...]`, on one thread.

use std::time::Instant;

use convoke::flow::{Flow, Modes, Scheme};
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
            let mut times: Vec<f64> = (0..ROUNDS)
                .map(|_| {
                    let begun = Instant::now();
                    flow.advance(&mut w, steps, &mut mover);
                    begun.elapsed().as_secs_f64() / steps as f64
                })
                .collect();
            times.sort_by(f64::total_cmp);
            let rate = Flow::flops(&modes, scheme) / times[0] / 1e9;
            println!("{n:6}  {scheme:?}  {:10.3}  {:8.3}  {rate:6.2}", 1e3 * times[0], 1e3 * times[ROUNDS / 2]);
        }
    }
}
