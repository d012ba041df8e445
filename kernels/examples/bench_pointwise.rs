//! Speed of pointwise programs on one thread: a residual and its derivative on n^3 points, a separable source on n^2.
//!
//! `cargo run --release -p convoke-kernels --example bench_pointwise [n]`, n = 128 by default; the fastest of 10 runs.
#![allow(clippy::print_stdout)]

use convoke_kernels::pointwise::{Binary, Input, Op, Program, Unary};
use convoke_kernels::{Buffer, Device, Philox};
use std::time::Instant;

type AnyError = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), AnyError> {
    let n: usize = std::env::args().nth(1).map_or(Ok(128), |n| n.parse())?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
    println!("{}", pool.install(|| Device::cpu().describe()));
    pool.install(|| {
        cubic(n)?;
        waves(n)
    })
}

/// u (u^2 - 1) and 3 u^2 - 1, beside the same by hand.
fn cubic(n: usize) -> Result<(), AnyError> {
    let points = n * n * n;
    let ops = vec![
        Op::Input(0),
        Op::PowI(0, 2),
        Op::Constant(1.0),
        Op::Binary(Binary::Sub, 1, 2),
        Op::Binary(Binary::Mul, 0, 3),
        Op::Constant(3.0),
        Op::Binary(Binary::Mul, 5, 1),
        Op::Binary(Binary::Sub, 6, 2),
    ];
    let program = Program::new(1, ops, vec![4, 7])?;
    let mut u = normal(points, 0)?;
    let (mut residual, mut slope) = (Buffer::zeros(&Device::cpu(), points)?, Buffer::zeros(&Device::cpu(), points)?);
    let seconds = fastest(|| {
        Ok(program.run(&Device::cpu(), points, &mut [Input::Field(&mut u)], &mut [&mut residual, &mut slope])?)
    })?;
    report("u (u^2 - 1) and 3 u^2 - 1", points, seconds);
    let seconds = fastest(|| {
        let outputs = residual.host_mut().iter_mut().zip(slope.host_mut());
        for (u, (r, s)) in u.host().iter().zip(outputs) {
            (*r, *s) = (u * (u * u - 1.0), 3.0 * (u * u) - 1.0);
        }
        Ok(())
    })?;
    report("the same, a loop in Rust", points, seconds);
    Ok(())
}

/// sin(100 x) sin(100 y) + u with x and y as axes, and as fields.
fn waves(n: usize) -> Result<(), AnyError> {
    let n = 4 * n;
    let points = n * n;
    let ops = vec![
        Op::Constant(100.0),
        Op::Input(0),
        Op::Binary(Binary::Mul, 0, 1),
        Op::Unary(Unary::Sin, 2),
        Op::Input(1),
        Op::Binary(Binary::Mul, 0, 4),
        Op::Unary(Unary::Sin, 5),
        Op::Binary(Binary::Mul, 3, 6),
        Op::Input(2),
        Op::Binary(Binary::Add, 7, 8),
    ];
    let program = Program::new(3, ops, vec![9])?;
    let (mut x, mut y, mut u) = (normal(n, 0)?, normal(n, 1)?, normal(points, 2)?);
    let mut out = Buffer::zeros(&Device::cpu(), points)?;
    let seconds = fastest(|| {
        let mut inputs = [
            Input::Axis { values: &mut x, stride: n },
            Input::Axis { values: &mut y, stride: 1 },
            Input::Field(&mut u),
        ];
        Ok(program.run(&Device::cpu(), points, &mut inputs, &mut [&mut out])?)
    })?;
    report("sin(100 x) sin(100 y) + u, axes", points, seconds);
    let (mut x, mut y) = (normal(points, 0)?, normal(points, 1)?);
    let seconds = fastest(|| {
        let mut inputs = [Input::Field(&mut x), Input::Field(&mut y), Input::Field(&mut u)];
        Ok(program.run(&Device::cpu(), points, &mut inputs, &mut [&mut out])?)
    })?;
    report("the same, coordinates as fields", points, seconds);
    Ok(())
}

fn normal(len: usize, stream: u64) -> Result<Buffer<f64>, AnyError> {
    let p = Philox::new(3, stream);
    Ok(Buffer::from_vec(&Device::cpu(), (0..len as u64).map(|i| p.normal(i)).collect())?)
}

fn fastest(mut work: impl FnMut() -> Result<(), AnyError>) -> Result<f64, AnyError> {
    let mut best = f64::INFINITY;
    for _ in 0..10 {
        let start = Instant::now();
        work()?;
        best = best.min(start.elapsed().as_secs_f64());
    }
    Ok(best)
}

fn report(what: &str, points: usize, seconds: f64) {
    println!("{what:34} {points:9} points {:8.2} ns per point", 1e9 * seconds / points as f64);
}
