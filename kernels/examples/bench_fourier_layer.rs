//! Speed of the operations of a Fourier layer on the first CUDA device: layers of a flow of 64^2 points (32 channels, 12 modes, 8
//! samples), of 256^2, of 1024 points of a line, and of 64^2 points at 20 times.
//!
//! `cargo run --release -p convoke-kernels --example bench_fourier_layer [--json]`
//!
//! Seconds are of the fastest of at least 10 runs after one that warms up; flops are those of the products, bytes those that must move if
//! every array is read and written once. Without a GPU a small layer is timed in the plain loops of the oracle, which say nothing about
//! the speed of anything.
#![allow(clippy::print_stdout)]

use convoke_kernels::fourier_layer::{
    AdamW, After, Mix, Modes, RelativeL2, Scale, Scratch, Transform, adamw, mix, mix_back, mix_gradient,
};
use convoke_kernels::spatiotemporal::{Beside, Feed};
use convoke_kernels::{Buffer, Device, Philox, Result};
use std::time::Instant;

const RUNS: u32 = 10;
/// Seconds that an operation is repeated for.
const REPEAT_S: f64 = 0.2;

/// A layer: its name, points and kept modes along each axis, channels, samples.
type Layer = (&'static str, &'static [usize], &'static [usize], usize, usize);

const ON_A_GPU: [Layer; 4] = [
    ("64^2, m 12, w 32, B 8", &[64, 64], &[12, 12], 32, 8),
    ("256^2, m 16, w 32, B 8", &[256, 256], &[16, 16], 32, 8),
    ("1024, m 16, w 64, B 32", &[1024], &[16], 64, 32),
    ("64^2 x 20, m 12 12 5, w 20, B 4", &[64, 64, 20], &[12, 12, 5], 20, 4),
];
const ELSEWHERE: [Layer; 1] = [("16^2, m 4, w 4, B 2", &[16, 16], &[4, 4], 4, 2)];

/// One operation of a layer: seconds, flops, bytes that it must move.
struct Timing {
    layer: &'static str,
    name: &'static str,
    seconds: f64,
    flops: f64,
    bytes: f64,
}

fn main() -> Result<()> {
    let json = std::env::args().any(|a| a == "--json");
    let (device, layers) = match Device::cuda(0) {
        Ok(device) => (device, &ON_A_GPU[..]),
        Err(error) => {
            if !json {
                println!("{error}; the oracle instead");
            }
            (Device::cpu(), &ELSEWHERE[..])
        }
    };
    let mut timings = Vec::new();
    for layer in layers {
        time_layer(&device, *layer, &mut timings)?;
    }
    report(&device, &timings, json);
    Ok(())
}

fn time_layer(device: &Device, (layer, points, modes, h, samples): Layer, timings: &mut Vec<Timing>) -> Result<()> {
    let mut t = Transform::new(device, points, modes)?;
    let (size, kept, fields) = (t.size(), t.kept(), samples * h);
    let matrices = Modes { modes: kept, from: h, to: h, weight: 0 };
    let map = Mix { from: h, to: h, weight: 2 * kept * h * h, bias: Some(2 * kept * h * h + h * h) };
    let count = 2 * kept * h * h + h * h + h;
    let buffer = |len: usize, stream: u64| {
        let random = Philox::new(5, stream);
        Buffer::from_vec(device, (0..len as u64).map(|i| 0.1 * random.normal(i) as f32).collect())
    };
    let zeros = |len: usize| Buffer::zeros(device, len);
    let (mut parameters, mut gradient) = (buffer(count, 0)?, buffer(count, 9)?);
    let (mut first, mut second) = (zeros(count)?, zeros(count)?);
    let (mut v, mut g, mut target) = (buffer(fields * size, 1)?, buffer(fields * size, 2)?, buffer(fields * size, 3)?);
    let (mut out, mut slopes) = (zeros(fields * size)?, buffer(fields * size, 6)?);
    let (mut x, mut y) = (buffer(2 * fields * kept, 4)?, buffer(2 * fields * kept, 5)?);
    let network = Feed { h, inside: 4 * h, start: 0 };
    let (mut inside, mut inside_gradient) = (buffer(network.count(), 7)?, zeros(network.count())?);
    let mut scratch = Scratch::default();
    let mut loss = RelativeL2::new(device, h * size, vec![0.0; h], vec![1.0; h])?;

    let field = 4.0 * (fields * size) as f64;
    let coefficients = 8.0 * (fields * kept) as f64;
    let matrix = 8.0 * (kept * h * h) as f64;
    let transform = fields as f64 * flops_of_transform(points, modes);
    let pointwise = 2.0 * (fields * size * h) as f64;
    let product = 8.0 * (samples * kept * h * h) as f64;
    let mut time = |name: &'static str, flops: f64, bytes: f64, work: &mut dyn FnMut() -> Result<()>| {
        let seconds = fastest(device, work)?;
        timings.push(Timing { layer, name, seconds, flops, bytes });
        Ok(())
    };
    time("analysis", transform, field + coefficients, &mut || t.analysis(Scale::One, &mut v, &mut x))?;
    time("synthesis", transform, field + coefficients, &mut || t.synthesis(Scale::Inverse, &mut y, &mut out))?;
    time("end of a layer, with GELU", transform + pointwise, 3.0 * field + coefficients, &mut || {
        t.layer(map, samples, &mut parameters, &mut y, &mut v, After::Gelu(1, &mut slopes), &mut out)
    })?;
    time("the same back, times slopes", transform + pointwise, 3.0 * field + coefficients, &mut || {
        t.layer_back(map, samples, &mut parameters, &mut y, &mut g, After::Times(&mut slopes), &mut out)
    })?;
    time("products by mode", product, 2.0 * coefficients + matrix, &mut || {
        matrices.product(device, samples, &mut parameters, &mut x, &mut y)
    })?;
    time("the same back", product, 2.0 * coefficients + matrix, &mut || {
        matrices.product_back(device, samples, &mut parameters, &mut y, &mut x)
    })?;
    time("gradient of the matrices", product, 2.0 * coefficients + matrix, &mut || {
        matrices.gradient(device, samples, &mut x, &mut y, &mut gradient)
    })?;
    time("pointwise map", pointwise, 2.0 * field, &mut || {
        mix(device, map, samples, &mut parameters, &mut v, After::Nothing, &mut out)
    })?;
    time("the same back", pointwise, 2.0 * field, &mut || {
        mix_back(device, map, samples, &mut parameters, &mut g, After::Nothing, &mut out)
    })?;
    time("gradient of the map", pointwise, 2.0 * field, &mut || {
        mix_gradient(device, map, samples, &mut v, &mut g, &mut gradient, &mut scratch)
    })?;
    // A network four times as wide inside; its derivatives make the wide part again, and count what they compute.
    let wide = 4.0 * pointwise;
    time("network, with map and GELU", 2.0 * wide + pointwise, 4.0 * field, &mut || {
        let beside = Beside::Map(0, h * h, &mut g);
        network.forward(device, samples, &mut inside, &mut v, beside, &mut slopes, &mut out)
    })?;
    time("the network back", 3.0 * wide, 3.0 * field, &mut || {
        network.back(device, samples, &mut inside, &mut v, &mut g, &mut out)
    })?;
    time("gradient of the network", 4.0 * wide, 2.0 * field, &mut || {
        let to = &mut inside_gradient;
        network.gradient(device, samples, &mut inside, &mut v, &mut g, to, &mut scratch)
    })?;
    time("relative error, its slopes", 0.0, 3.0 * field, &mut || {
        loss.slopes(samples, 1.0, &mut v, &mut target, &mut out).map(drop)
    })?;
    time("AdamW", 0.0, 28.0 * count as f64, &mut || {
        let how = AdamW { beta: [0.9, 0.999], epsilon: 1e-8, rate: 1e-3, decay: 0.0, step: 100 };
        adamw(device, how, &mut gradient, [&mut first, &mut second], &mut parameters)
    })
}

/// Real multiplications and additions of a transform of one field: the last axis, then the others with two products for each.
fn flops_of_transform(points: &[usize], modes: &[usize]) -> f64 {
    let (mut rest, mut all) = (points.iter().product::<usize>() as f64, 0.0);
    for (axis, (n, m)) in points.iter().zip(modes).enumerate().rev() {
        let last = axis + 1 == points.len();
        let kept = if last { *m as f64 } else { 2.0 * *m as f64 };
        all += if last { 4.0 } else { 8.0 } * rest * kept;
        rest *= kept / *n as f64;
    }
    all
}

fn fastest(device: &Device, work: &mut dyn FnMut() -> Result<()>) -> Result<f64> {
    let mut once = || work().and_then(|()| device.synchronize());
    once()?;
    let (begin, mut runs, mut best) = (Instant::now(), 0, f64::INFINITY);
    while runs < RUNS || begin.elapsed().as_secs_f64() < REPEAT_S {
        let start = Instant::now();
        once()?;
        best = best.min(start.elapsed().as_secs_f64());
        runs += 1;
    }
    Ok(best)
}

fn report(device: &Device, timings: &[Timing], json: bool) {
    let device = device.describe();
    if json {
        let one = |t: &Timing| {
            let Timing { layer, name, seconds, flops, bytes } = t;
            format!(
                r#"{{"layer": "{layer}", "name": "{name}", "seconds": {seconds}, "flops": {flops}, "bytes": {bytes}}}"#
            )
        };
        let all: Vec<String> = timings.iter().map(one).collect();
        println!(r#"{{"device": "{device}", "operations": [{}]}}"#, all.join(", "));
        return;
    }
    println!("{device}");
    let mut layer = "";
    for t in timings {
        if t.layer != layer {
            layer = t.layer;
            println!("{layer}");
        }
        let (flops, bytes) = (1e-9 * t.flops / t.seconds, 1e-9 * t.bytes / t.seconds);
        println!("  {:28} {:9.3} ms {flops:9.1} Gflop/s {bytes:8.1} GB/s", t.name, 1e3 * t.seconds);
    }
}
