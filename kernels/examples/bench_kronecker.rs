//! Speed of the Kronecker operations: a square matrix times each mode of 128^3, 256^3 and 400^2 numbers, dense and by
//! halves (flops of both counted as of the dense one), beside one large product of faer; the vector operations on 192^3
//! numbers, beside a triad. On 1 and 2 threads, then on the first CUDA device if there is one.
//!
//! `cargo run --release -p convoke-kernels --example bench_kronecker [--json]`
//!
//! Seconds on the clock are of the fastest of at least 5 runs, CPU-seconds (of all threads) the mean; runs of the large
//! product lie between those of the other operations, so that a busy machine slows both. Shares are of CPU-seconds on
//! 1 thread (on a busy machine the clock tells little), of the clock on 2 (idle threads of a product spin).
#![allow(clippy::print_stdout)]

use convoke_kernels::kronecker::{Matrix, add_combination, add_product, divide_by_sum, dots, mode_product};
use convoke_kernels::{Buffer, Device, Philox, Result};
use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, Par};
use rayon::prelude::*;
use std::time::Instant;

const RUNS: u32 = 5;
/// Seconds that an operation is repeated for.
const REPEAT_S: f64 = 0.3;
/// Order of the product that the others are measured against.
const SQUARE: usize = 1024;
/// Elements of an array of the triad.
const TRIAD: usize = 1 << 23;
/// Vectors of `dots` and `add_combination`.
const VECTORS: usize = 20;

/// One operation: its name, seconds, flops, bytes that it must move.
struct Timing {
    name: String,
    seconds: Seconds,
    flops: f64,
    bytes: f64,
}

/// Least seconds on the clock; CPU-seconds of all runs, and how many there were.
#[derive(Clone, Copy)]
struct Seconds {
    clock: f64,
    cpu: f64,
    runs: u32,
}

impl Seconds {
    const NONE: Self = Self { clock: f64::INFINITY, cpu: 0.0, runs: 0 };

    fn update(&mut self, work: impl FnOnce() -> Result<()>) -> Result<()> {
        let (start, cpu) = (Instant::now(), cpu_seconds());
        work()?;
        self.clock = self.clock.min(start.elapsed().as_secs_f64());
        self.cpu += cpu_seconds() - cpu;
        self.runs += 1;
        Ok(())
    }

    fn mean_cpu(self) -> f64 {
        self.cpu / f64::from(self.runs)
    }

    /// CPU time on one thread, where the system tells it, and the clock on several.
    fn telling(self) -> f64 {
        if rayon::current_num_threads() == 1 && self.cpu.is_finite() { self.mean_cpu() } else { self.clock }
    }
}

/// Where it runs, and what the large product took so far.
struct Bench {
    device: Device,
    square: Seconds,
    triad: Seconds,
    timings: Vec<Timing>,
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let json = std::env::args().any(|a| a == "--json");
    for threads in [1, 2] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
        pool.install(|| Bench::run(Device::cpu()).map(|bench| bench.report(json)))?;
    }
    match Device::cuda(0) {
        Ok(device) => Bench::run(device)?.report(json),
        Err(error) if !json => println!("{error}"),
        Err(_) => {}
    }
    Ok(())
}

impl Bench {
    fn run(device: Device) -> Result<Self> {
        let mut bench = Self { device, square: Seconds::NONE, triad: Seconds::NONE, timings: Vec::new() };
        for (n, d) in [(128, 3), (256, 3), (400, 2)] {
            bench.products(n, d)?;
        }
        bench.vectors(192)?;
        Ok(bench)
    }

    fn products(&mut self, n: usize, d: u32) -> Result<()> {
        let (device, points) = (self.device.clone(), n.pow(d));
        let cosine = |i: usize, j: usize| (std::f64::consts::PI * j as f64 * (i as f64 + 0.5) / n as f64).cos();
        let values: Vec<f64> = (0..n * n).map(|at| cosine(at / n, at % n)).collect();
        let dense = (Matrix::new(&device, n, n, values.clone())?, "");
        let halves = (Matrix::with_parity(&device, n, n, values)?, ", halves");
        let mut x = Buffer::from_vec(&device, normal(points, 1))?;
        let mut y = Buffer::zeros(&device, points)?;
        for (mut a, label) in [dense, halves] {
            for mode in 0..d {
                let extents = (n.pow(mode), n.pow(d - 1 - mode));
                let name = format!("mode {mode} of {n}^{d}{label}");
                self.time(name, 2.0 * (n * points) as f64, 16.0 * points as f64, || {
                    mode_product(&device, &mut a, extents, &mut x, &mut y, false)
                })?;
            }
            if device.is_gpu() {
                break; // no halves there
            }
        }
        Ok(())
    }

    fn vectors(&mut self, n: usize) -> Result<()> {
        let (device, points) = (self.device.clone(), n.pow(3));
        let buffer = |stream| Buffer::from_vec(&device, normal(points, stream));
        let mut xs = (0..VECTORS as u64).map(buffer).collect::<Result<Vec<_>>>()?;
        let (mut y, mut z, lambda) = (buffer(100)?, buffer(101)?, normal(n, 0));
        let (size, k, c) = (points as f64, VECTORS as f64, [1e-3; VECTORS]);
        self.time("dots, 20 vectors", 2.0 * k * size, 8.0 * (k + 1.0) * size, || {
            dots(&device, &mut xs, &mut y).map(drop)
        })?;
        self.time("add_combination, 20", 2.0 * k * size, 8.0 * (k + 2.0) * size, || {
            add_combination(&device, &c, &mut xs, &mut y)
        })?;
        self.time("divide_by_sum", 4.0 * size, 16.0 * size, || {
            divide_by_sum(&device, &[&lambda, &lambda, &lambda], 40.0, &mut y)
        })?;
        self.time("add_product", 2.0 * size, 32.0 * size, || add_product(&device, &mut xs[0], &mut z, &mut y))
    }

    /// Time `work`, after one run that warms up.
    fn time(
        &mut self,
        name: impl Into<String>,
        flops: f64,
        bytes: f64,
        mut work: impl FnMut() -> Result<()>,
    ) -> Result<()> {
        let mut once = || work().and_then(|()| self.device.synchronize());
        once()?;
        let (start, mut seconds) = (Instant::now(), Seconds::NONE);
        while seconds.runs < RUNS || start.elapsed().as_secs_f64() < REPEAT_S {
            seconds.update(&mut once)?;
        }
        self.timings.push(Timing { name: name.into(), seconds, flops, bytes });
        if !self.device.is_gpu() {
            square_product(&mut self.square)?;
            triad(&mut self.triad)?;
        }
        Ok(())
    }

    /// A table, or one line of JSON; peaks are in flop/s and byte/s, null on a GPU, whose data sheet has them.
    fn report(&self, json: bool) {
        let device = self.device.describe();
        let product = 2.0 * (SQUARE as f64).powi(3) / self.square.telling();
        let bandwidth = 24.0 * TRIAD as f64 / self.triad.telling();
        if json {
            let number = |x: f64| if x.is_normal() { x.to_string() } else { "null".into() };
            let one = |t: &Timing| {
                let (clock, cpu) = (t.seconds.clock, number(t.seconds.mean_cpu()));
                let (name, flops, bytes) = (&t.name, t.flops, t.bytes);
                format!(r#""{name}": {{"seconds": {clock}, "cpu_seconds": {cpu}, "flops": {flops}, "bytes": {bytes}}}"#)
            };
            println!(
                r#"{{"device": "{device}", "product_flops": {}, "bandwidth": {}, "operations": {{{}}}}}"#,
                number(product),
                number(bandwidth),
                self.timings.iter().map(one).collect::<Vec<_>>().join(", ")
            );
            return;
        }
        print!("{device}");
        if !self.device.is_gpu() {
            print!(": product {:.1} Gflop/s, triad {:.1} GB/s", product / 1e9, bandwidth / 1e9);
        }
        println!();
        for Timing { name, seconds, flops, bytes } in &self.timings {
            let ms = [1e3 * seconds.clock, 1e3 * seconds.mean_cpu()];
            let (flops, bytes) = (flops / seconds.telling(), bytes / seconds.telling());
            print!(
                "  {name:24} {:9.3} ms {:9.3} CPU-ms {:7.1} Gflop/s {:7.1} GB/s",
                ms[0],
                ms[1],
                flops / 1e9,
                bytes / 1e9
            );
            if !self.device.is_gpu() {
                print!(
                    " {:4.0} % of the product {:4.0} % of the triad",
                    100.0 * flops / product,
                    100.0 * bytes / bandwidth
                );
            }
            println!();
        }
    }
}

/// One large product of faer on the threads of this pool.
fn square_product(seconds: &mut Seconds) -> Result<()> {
    let par = match rayon::current_num_threads() {
        1 => Par::Seq,
        n => Par::rayon(n),
    };
    let a = Mat::<f64>::from_fn(SQUARE, SQUARE, |i, j| (i + 3 * j) as f64 / SQUARE as f64);
    let b = a.clone();
    let mut c = Mat::<f64>::zeros(SQUARE, SQUARE);
    for _ in 0..3 {
        seconds.update(|| {
            matmul(&mut c, Accum::Replace, &a, &b, 1.0, par);
            Ok(())
        })?;
    }
    Ok(())
}

/// a = b + 3 c on arrays beyond the caches; the read that a write may cause is not counted.
fn triad(seconds: &mut Seconds) -> Result<()> {
    const CHUNK: usize = 1 << 15;
    let (b, c) = (vec![1.0; TRIAD], vec![2.0; TRIAD]);
    let mut a = vec![0.5; TRIAD];
    for _ in 0..3 {
        seconds.update(|| {
            a.par_chunks_mut(CHUNK).zip(b.par_chunks(CHUNK).zip(c.par_chunks(CHUNK))).for_each(|(a, (b, c))| {
                a.iter_mut().zip(b.iter().zip(c)).for_each(|(a, (b, c))| *a = b + 3.0 * c);
            });
            std::hint::black_box(&mut a);
            Ok(())
        })?;
    }
    Ok(())
}

/// CPU time of all threads so far; not a number where the system does not tell (it is Linux's /proc).
fn cpu_seconds() -> f64 {
    let nanoseconds = |thread: std::fs::DirEntry| -> Option<f64> {
        let text = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse().ok()
    };
    std::fs::read_dir("/proc/self/task")
        .map_or(f64::NAN, |threads| threads.flatten().filter_map(nanoseconds).sum::<f64>() / 1e9)
}

fn normal(len: usize, stream: u64) -> Vec<f64> {
    let p = Philox::new(3, stream);
    (0..len as u64).map(|i| p.normal(i)).collect()
}
