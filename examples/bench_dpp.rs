//! Speed of the sampler of determinantal point processes on one rank, then on two (threads) together: `bench_dpp [--json] [--pool FILE | --only WORDS]`.
//!
//! `cargo run --release --example bench_dpp`
//!
//! With a pool: `/features` of an HDF5 file is orthonormalised and drawn from, nothing else.
//!
//! Least CPU-seconds of several samples with different numbers, drawing and evaluation of candidates included; flops are
//! those that the sampler counts. Beside them a product of m × m matrices.
#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::error::Error;
use std::fs::read_to_string;
use std::time::Instant;

use convoke::dpp::pool::{Atoms, Pool};
use convoke::dpp::sampler::{Blocks, sample};
use convoke::dpp::source::{Continuous, Universe};
use convoke::dpp::space::Space;
use convoke::dpp::space::family::Family;
use convoke::dpp::space::indices::Rule;
use convoke::dpp::stream::Stream;
use convoke_cluster::comm::run_threads;
use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatRef, Par};

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
    let option = |name: &str| std::env::args().skip_while(|a| a != name).nth(1);
    if let Some(file) = option("--pool") {
        let reader = convoke_data::store::Reader::open(&file)?;
        let (shape, values): (Vec<usize>, Vec<f64>) = (reader.shape("/features")?, reader.read("/features")?);
        let m = shape[1];
        let features = Mat::from_fn(shape[0], m, |i, j| values[i * m + j]);
        pool_of(features.as_ref(), &mut say)?;
        println!("{}", serde_json::json!({"load": load.trim(), "cases": all}));
        return Ok(());
    }
    let only = option("--only");
    let wanted = |name: &str| only.as_ref().is_none_or(|words| name.contains(words.as_str()));
    for together in [1, 2] {
        for (name, space) in spaces()? {
            if !wanted(&name) || (together == 2 && space.len() < 1000) {
                continue;
            }
            let draw = |r| {
                let blocks = Blocks::of(space.len(), Par::Seq);
                let all = run_threads(together, |comm| {
                    let source = Continuous { comm, ..Continuous::new(&space, Stream::new(1, r, 0)) };
                    sample(&source, blocks).map_err(|e| convoke_cluster::Error::workload("dpp", e))
                });
                all.into_iter().map(|s| s.map(|s| s.flops)).next().unwrap_or(Ok(0.0))
            };
            say(time(format!("{name}, {together} rank(s)"), space.len(), draw)?);
        }
    }
    for (atoms, m) in [(100_000, 500), (1_000_000, 200)].into_iter().filter(|_| wanted("pool")) {
        let stream = Stream::new(3, 0, 0);
        let features = Mat::from_fn(atoms, m, |i, j| stream.normal((i * m + j) as u64));
        pool_of(features.as_ref(), &mut say)?;
    }
    let (a, mut c) = (Mat::from_fn(1000, 1000, |i, j| (i + 2 * j) as f64), Mat::zeros(1000, 1000));
    for threads in [1, 2] {
        let par = if threads == 1 { Par::Seq } else { Par::rayon(threads) };
        let product = |_| {
            matmul(c.as_mut(), Accum::Replace, &a, &a, 1.0, par);
            Ok::<f64, Box<dyn Error>>(2e9)
        };
        say(time(format!("product of matrices, {threads} thread(s)"), 1000, product)?);
    }
    if json {
        println!("{}", serde_json::json!({"load": load.trim(), "cases": all}));
    } else {
        println!("load {}", load.trim());
    }
    Ok(())
}

/// Orthonormalises features and draws from their pool, on one thread.
fn pool_of(features: MatRef<'_, f64>, say: &mut impl FnMut(Figures)) -> Result<(), Box<dyn Error>> {
    let (atoms, m) = (features.nrows(), features.ncols());
    let (clock, cpu) = (Instant::now(), cpu_seconds());
    let pool = Pool::of(features)?;
    let (clock, cpu) = (clock.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    let flops = 8.0 * atoms as f64 * (m * m) as f64;
    say(Figures { name: format!("orthonormal features of {atoms} atoms"), m, cpu, clock, flops });
    let comm = convoke_cluster::Comm::solo();
    let universe = Atoms::new(&pool, &comm);
    let draw = |r| universe.sample(Stream::new(1, r, 0), Blocks::of(m, Par::Seq)).map(|s| s.flops);
    say(time(format!("pool of {atoms}, 1 thread(s)"), m, draw)?);
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
        ("total degree, d = 2".to_owned(), Space::new(&[Family::Legendre; 2], &Rule::TotalDegree(30))?),
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
