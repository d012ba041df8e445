//! Speed of a Fourier neural operator: forward pass, and a step of training, on one thread, then on two: `bench_operator [--json]`.
//!
//! `cargo run --release --example bench_operator`
//!
//! 64² points, width 32, 12 modes on each side, batches of 8, single precision. Least of several seconds; beside it a product of matrices.
#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::error::Error;
use std::time::Instant;

use convoke::neural_operator::model::{Fno, Shape, initial};
use convoke::neural_operator::optimiser::AdamW;
use convoke_kernels::Philox;
use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, Par};

/// Seconds that a case is repeated for.
const REPEAT_S: f64 = 3.0;

fn main() -> Result<(), Box<dyn Error>> {
    let json = std::env::args().any(|a| a == "--json");
    let shape = Shape { input: 1, output: 1, width: 32, layers: 4, modes: vec![12, 12], projection: 128 };
    let points = [64, 64];
    let fno = Fno::<f32>::new(&shape, &points, &[0, 0]);
    let random = Philox::new(1, 0);
    let field = |b: u64| (0..4096).map(|i| random.normal(4096 * b + i) as f32).collect::<Vec<f32>>();
    let inputs: Vec<Vec<f32>> = (0..8).map(field).collect();
    let mut parameters: Vec<f32> = initial(&shape, 1);
    let mut adam = AdamW::new(parameters.len());
    let flops = 8.0 * shape.flops(&points);
    let mut all = Vec::new();
    for threads in [1, 2] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
        let forward = pool.install(|| {
            least(|| {
                let (outputs, tape) = fno.forward(&parameters, &inputs);
                fno.recycle(outputs, tape);
            })
        });
        let step = pool.install(|| {
            least(|| {
                let (outputs, tape) = fno.forward(&parameters, &inputs);
                let gradient = fno.backward(&parameters, &tape, &outputs);
                fno.recycle(outputs, tape);
                adam.step(&mut parameters, &gradient, 0, 1e-6, 0.0);
            })
        });
        let (a, mut c) = (Mat::from_fn(1000, 1000, |i, j| (i + 2 * j) as f32), Mat::zeros(1000, 1000));
        let par = if threads == 1 { Par::Seq } else { Par::rayon(threads) };
        let product = least(|| matmul(c.as_mut(), Accum::Replace, &a, &a, 1.0, par));
        for (name, seconds, flops) in
            [("forward", forward, flops), ("step", step, 3.0 * flops), ("product of matrices", product, 2e9)]
        {
            if !json {
                println!(
                    "{name:<22} {threads} thread(s)  {:>8.2} ms  {:>6.1} GF/s",
                    1e3 * seconds,
                    flops / seconds / 1e9
                );
            }
            all.push(serde_json::json!({"case": name, "threads": threads, "s": seconds, "flops": flops}));
        }
    }
    if json {
        println!("{}", serde_json::json!({ "cases": all }));
    }
    Ok(())
}

fn least(mut run: impl FnMut()) -> f64 {
    let (start, mut best) = (Instant::now(), f64::INFINITY);
    while start.elapsed().as_secs_f64() < REPEAT_S {
        let begun = Instant::now();
        run();
        best = best.min(begun.elapsed().as_secs_f64());
    }
    best
}
