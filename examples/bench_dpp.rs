//! Speed of the sampler of determinantal point processes on one thread, then two: `bench_dpp [--json]`.
//!
//! `cargo run --release --example bench_dpp`
//!
//! Least CPU-seconds of several samples with different numbers, drawing and evaluation of candidates included; flops are
//! those that the sampler counts. Beside them a product of m × m matrices on one thread.
#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::error::Error;
use std::fs::read_to_string;
use std::time::Instant;

use convoke::dpp::sampler::{Blocks, sample};
use convoke::dpp::source::{Continuous, Discrete, Pool};
use convoke::dpp::space::Space;
use convoke::dpp::space::family::Family;
use convoke::dpp::space::indices::Rule;
use convoke::dpp::stream::Stream;
use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, Par};

/// Seconds that a case is repeated for.
const REPEAT_S: f64 = 2.0;

struct Figures {
    name: String,
    m: usize,
    cpu: f64,
    clock: f64,
    flops: f64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let json = std::env::args().any(|a| a == "--json");
    let load = read_to_string("/proc/loadavg").unwrap_or_default();
    let mut all = Vec::new();
    let mut say = |figures: Figures| {
        let (rate, cubes) = (figures.flops / figures.cpu / 1e9, figures.flops / (figures.m as f64).powi(3));
        if !json {
            println!(
                "{:<34} m {:>5}  CPU {:>9.5} s  clock {:>9.5} s  {rate:>6.1} GF/s  {cubes:.2} m^3",
                figures.name, figures.m, figures.cpu, figures.clock
            );
        }
        all.push(serde_json::json!({
            "case": figures.name, "m": figures.m, "cpu_s": figures.cpu, "clock_s": figures.clock, "flops": figures.flops,
        }));
    };
    for threads in [1, 2] {
        let par = if threads == 1 { Par::Seq } else { Par::rayon(threads) };
        for (name, space) in spaces()? {
            if threads == 2 && space.len() < 1000 {
                continue;
            }
            let draw = |r| {
                let source = Continuous { space: &space, stream: Stream::new(1, r, 0) };
                sample(&source, Blocks::of(space.len(), par)).map(|s| s.flops)
            };
            say(time(format!("{name}, {threads} thread(s)"), space.len(), draw)?);
        }
    }
    for (atoms, m) in [(100_000, 500), (1_000_000, 200)] {
        let stream = Stream::new(3, 0, 0);
        // Rows of a random matrix scaled so that columns are orthonormal to a per cent: enough for a time.
        let scale = 1.0 / (atoms as f64).sqrt();
        let pool = Pool::orthonormal(Mat::from_fn(m, atoms, |j, i| scale * stream.normal((i * m + j) as u64)));
        let draw = |r| {
            sample(&Discrete { pool: &pool, stream: Stream::new(1, r, 0) }, Blocks::of(m, Par::Seq)).map(|s| s.flops)
        };
        say(time(format!("pool of {atoms}, 1 thread(s)"), m, draw)?);
    }
    let (a, mut c) = (Mat::from_fn(1000, 1000, |i, j| (i + 2 * j) as f64), Mat::zeros(1000, 1000));
    let product = |_| {
        matmul(c.as_mut(), Accum::Replace, &a, &a, 1.0, Par::Seq);
        Ok::<f64, Box<dyn Error>>(2e9)
    };
    say(time("product of matrices".to_owned(), 1000, product)?);
    if json {
        println!("{}", serde_json::json!({"load": load.trim(), "cases": all}));
    } else {
        println!("load {}", load.trim());
    }
    Ok(())
}

/// Spaces with a few ten to a few thousand functions.
fn spaces() -> Result<Vec<(String, Space)>, Box<dyn Error>> {
    // The first functions, by total degree, in ten variables.
    let part = |m: usize| -> Result<Space, Box<dyn Error>> {
        let mut list: Vec<Vec<usize>> = vec![vec![0; 10]];
        let mut first = 0;
        while list.len() < m {
            let index = list[first].clone();
            first += 1;
            let last = index.iter().rposition(|k| *k > 0).unwrap_or(0);
            for axis in last..10 {
                let mut next = index.clone();
                next[axis] += 1;
                list.push(next);
            }
        }
        list.truncate(m);
        Ok(Space::new(&[Family::Legendre; 10], &Rule::List(list))?)
    };
    Ok(vec![
        ("total degree, d = 10".to_owned(), part(50)?),
        ("total degree, d = 10".to_owned(), part(500)?),
        ("total degree, d = 10".to_owned(), part(1000)?),
        ("total degree, d = 10".to_owned(), part(2000)?),
        ("total degree, d = 10".to_owned(), part(4000)?),
        ("hyperbolic cross 4, d = 20".to_owned(), Space::new(&[Family::Legendre; 20], &Rule::HyperbolicCross(4))?),
        ("Hermite, d = 10".to_owned(), Space::new(&[Family::Hermite; 10], &Rule::TotalDegree(3))?),
        ("Legendre, d = 1".to_owned(), Space::new(&[Family::Legendre], &Rule::TotalDegree(499))?),
    ])
}

fn time<E: Into<Box<dyn Error>>>(
    name: String,
    m: usize,
    mut draw: impl FnMut(u64) -> Result<f64, E>,
) -> Result<Figures, Box<dyn Error>> {
    let mut best = Figures { name, m, cpu: f64::INFINITY, clock: f64::INFINITY, flops: 0.0 };
    let start = Instant::now();
    for run in 0.. {
        if run > 0 && start.elapsed().as_secs_f64() > REPEAT_S {
            break;
        }
        let (clock, cpu) = (Instant::now(), cpu_seconds());
        let flops = draw(run).map_err(Into::into)?;
        let cpu = cpu_seconds() - cpu;
        if cpu < best.cpu {
            (best.cpu, best.flops) = (cpu, flops);
        }
        best.clock = best.clock.min(clock.elapsed().as_secs_f64());
    }
    Ok(best)
}

/// CPU time of this process.
fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}
