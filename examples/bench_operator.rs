//! Speed of Fourier neural operators: forward pass, and a step of training, on one thread, then on two: `bench_operator [NAME] [--json]`.
//!
//! `cargo run --release --example bench_operator`
//!
//! 64² points, single precision: FNO of width 32 with 12 modes on each side, batches of 8; ST-FNO of width 20 with 12, 12 and 5 modes, 10
//! snapshots to 40, batches of 4; a spectral convolution
//! and a step of the flow solver on 256² points. Least of several seconds; beside them a product of matrices.
#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::error::Error;
use std::time::Instant;

use convoke::flow::{Flow, Modes, Scheme};
use convoke::learning::optimiser::AdamW;
use convoke::neural_operator::fno::FnoShape;
use convoke::neural_operator::model::{Model, Shape};
use convoke::neural_operator::spectral::Sharing;
use convoke::neural_operator::st_fno::StShape;
use convoke::neural_operator::transform::Transform;
use convoke_kernels::Philox;
use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, Par};
use num_complex::Complex64;

/// Points of the grid.
const POINTS: [usize; 2] = [64, 64];
/// Seconds that a case is repeated for.
const REPEAT_S: f64 = 3.0;

fn main() -> Result<(), Box<dyn Error>> {
    let json = std::env::args().any(|a| a == "--json");
    let fno = FnoShape {
        input: 1,
        output: 1,
        width: 32,
        layers: 4,
        modes: vec![12, 12],
        projection: 128,
        padding: vec![0, 0],
        lifting: None,
        channel_mlp: None,
        tucker: None,
        activations: 1,
    };
    let st = StShape { input: 10, output: 40, width: 20, layers: 4, modes: vec![12, 12, 5], latent: 10, growth: 0.02 };
    let wanted = std::env::args().skip(1).find(|a| a != "--json");
    let mut cases = vec![Case::new("FNO", Shape::Fno(fno), 8), Case::new("ST-FNO", Shape::StFno(st), 4)];
    cases.retain(|case| wanted.as_ref().is_none_or(|wanted| case.name == wanted));
    let mut all = Vec::new();
    for threads in [1, 2] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
        let mut figures: Vec<(String, f64, f64)> = cases.iter().flat_map(|case| pool.install(|| case.run())).collect();
        if wanted.as_ref().is_none_or(|wanted| wanted == "convolution") {
            figures.push(pool.install(convolution));
        }
        if wanted.as_ref().is_none_or(|wanted| wanted == "solver") {
            figures.push(pool.install(|| solver(threads)));
        }
        let (a, mut c) = (Mat::from_fn(1000, 1000, |i, j| (i + 2 * j) as f32), Mat::zeros(1000, 1000));
        let par = if threads == 1 { Par::Seq } else { Par::rayon(threads) };
        let product = least(|| matmul(c.as_mut(), Accum::Replace, &a, &a, 1.0, par));
        figures.push(("product of matrices".to_owned(), product, 2e9));
        for (name, seconds, flops) in figures {
            if !json {
                let rate = flops / seconds / 1e9;
                println!("{name:<22} {threads} thread(s)  {:>8.2} ms  {rate:>6.1} GF/s", 1e3 * seconds);
            }
            all.push(serde_json::json!({"case": name, "threads": threads, "s": seconds, "flops": flops}));
        }
    }
    if json {
        println!("{}", serde_json::json!({ "cases": all }));
    }
    Ok(())
}

/// A step of the flow solver (RK4) on 256² points, one sample, double precision.
fn solver(threads: usize) -> (String, f64, f64) {
    let modes = Modes::new(256, std::f64::consts::TAU);
    let flops = Flow::flops(&modes, Scheme::Rk4Cn);
    let random = Philox::new(3, 0);
    let mut w: Vec<Complex64> =
        modes.squares().enumerate().map(|(i, k)| Complex64::new(random.normal(i as u64), 0.0) / (1.0 + k)).collect();
    let flow = Flow::new(modes, (1e-3, 0.0), Vec::new(), (Scheme::Rk4Cn, 1e-4), threads > 1);
    let mut mover = flow.mover();
    ("solver".to_owned(), least(|| flow.advance(&mut w, 1, &mut mover)), flops)
}

/// A spectral convolution alone: 256² points, 32 channels, 16 modes, one sample.
fn convolution() -> (String, f64, f64) {
    let (points, modes, channels) = ([256, 256], [16, 16], 32);
    let transform = Transform::<f32>::new(&points, &modes);
    let random = Philox::new(2, 0);
    let fill = |len: usize| (0..len as u64).map(|i| random.normal(i) as f32).collect::<Vec<f32>>();
    let (x, w) = (fill(channels * 65536), fill(32 * 16 * 2 * channels * channels));
    let alone = Sharing::default();
    let seconds = least(|| {
        let modes = transform.analysis(&x, channels);
        let (y, modes) = alone.products(&transform, &w, vec![modes], (channels, channels)).expect("no exchange");
        transform.pool.give_all(modes);
        y.into_iter().for_each(|y| transform.pool.give(transform.synthesis(y, channels)));
    });
    let flops =
        2.0 * channels as f64 * Transform::<f32>::flops(&points, &modes) + 8.0 * 512.0 * (channels * channels) as f64;
    ("convolution".to_owned(), seconds, flops)
}

/// An operator with a batch.
struct Case {
    name: &'static str,
    model: Model<f32>,
    parameters: Vec<f32>,
    inputs: Vec<Vec<f32>>,
    flops: f64,
}

impl Case {
    fn new(name: &'static str, shape: Shape, batch: u64) -> Self {
        let (random, size) = (Philox::new(1, 0), 4096 * shape.channels()[0] as u64);
        let field = |b: u64| (0..size).map(|i| random.normal(size * b + i) as f32).collect::<Vec<f32>>();
        Self {
            name,
            model: Model::new(&shape, &POINTS, &POINTS),
            parameters: shape.parts().initial(1),
            inputs: (0..batch).map(field).collect(),
            flops: batch as f64 * shape.flops(&POINTS),
        }
    }

    /// Name, seconds and flops of a forward pass and of a step of training.
    fn run(&self) -> [(String, f64, f64); 2] {
        let (mut parameters, mut adam) = (self.parameters.clone(), AdamW::new(self.parameters.len()));
        let alone = Sharing::default();
        let forward = least(|| {
            let (outputs, tape) = self.model.forward(&self.parameters, &self.inputs, &alone).expect("no exchange");
            self.model.recycle(outputs, tape);
        });
        let step = least(|| {
            let (outputs, tape) = self.model.forward(&parameters, &self.inputs, &alone).expect("no exchange");
            let gradient = self.model.backward(&parameters, &tape, &outputs, &alone).expect("no exchange");
            let whole = 0..gradient.len();
            self.model.recycle(outputs, tape);
            adam.step((&mut parameters, &gradient), std::slice::from_ref(&whole), 0, (1e-6, 0.0));
            self.model.pool().give(gradient);
        });
        let named = |what: &str| format!("{} {what}", self.name);
        [(named("forward"), forward, self.flops), (named("step"), step, 3.0 * self.flops)]
    }
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
