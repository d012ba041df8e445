//! Speed of the cone-beam pair and of filtered back projection: 256^3 voxels, 256 x 256 pixels, 360 views, on 1 and 2
//! threads; beside them, the machine's own measured peaks.
//!
//! `cargo run --release -p convoke-kernels --example bench_cone [size [n_views]] [--json]`
//!
//! Seconds on the clock are of the fastest of 3 runs, CPU-seconds (of all threads) the mean of the 3.
#![allow(clippy::print_stdout)]

use convoke_kernels::cone::weights::FdkWeights;
use convoke_kernels::{
    Buffer, ConeFootprint, ConeGeometry, ConePart, ConeProjector, Device, Orbit, Philox, RampFilter, RampParams,
    machine,
};
use std::f64::consts::TAU;
use std::sync::Arc;
use std::time::Instant;

type AnyError = Box<dyn std::error::Error>;

const RUNS: u32 = 3;

/// What one operation took.
struct Timing {
    name: &'static str,
    seconds: f64,
    cpu_seconds: f64,
    /// Voxel updates.
    updates: f64,
}

fn main() -> Result<(), AnyError> {
    let (flags, sizes): (Vec<_>, Vec<_>) = std::env::args().skip(1).partition(|a| a.starts_with("--"));
    let size = |i: usize, default| sizes.get(i).map_or(Ok(default), |text| text.parse::<usize>());
    let (width, n_views) = (size(0, 256)?, size(1, 360)?);
    let json = flags.iter().any(|flag| flag == "--json");
    if !json {
        println!("{}, {width}^3 voxels, {n_views} views of {width}^2 pixels", Device::cpu().describe());
    }
    for threads in [1, 2] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
        let timings = pool.install(|| measure(width, n_views))?;
        let (peak, bandwidth) = pool.install(|| (machine::peak_flops(), machine::bandwidth()));
        if json {
            let one = |t: &Timing| {
                let Timing { name, seconds, cpu_seconds, updates } = t;
                format!(r#""{name}": {{"seconds": {seconds}, "cpu_seconds": {cpu_seconds}, "updates": {updates}}}"#)
            };
            let all: Vec<String> = timings.iter().map(one).collect();
            println!(
                r#"{{"threads": {threads}, "peak_flops": {peak}, "bandwidth": {bandwidth}, "operations": {{{}}}}}"#,
                all.join(", ")
            );
        } else {
            print_table(threads, (peak, bandwidth), &timings);
        }
    }
    Ok(())
}

/// Source at 4, detector at 6 widths, a pixel of 1.12 voxels at the axis: the problem of the design.
fn geometry(width: usize, n_views: usize, tilt_rad: f64) -> Arc<ConeGeometry> {
    let n = width as f64;
    let angles_rad = (0..n_views).map(|i| TAU * i as f64 / n_views as f64).collect();
    let orbit = Orbit { tilt_rad, ..Orbit::circle(angles_rad, [4.0 * n, 6.0 * n], 1.68, [width; 2]) };
    Arc::new(ConeGeometry {
        views: orbit.views(),
        n_rows: width,
        n_cols: width,
        shape: [width; 3],
        voxel: 1.0,
        centre: [0.0; 3],
    })
}

fn measure(width: usize, n_views: usize) -> convoke_kernels::Result<Vec<Timing>> {
    let device = Device::cpu();
    let random = |n: usize| (0..n as u64).map(|i| Philox::new(1, 2).uniform(i) as f32).collect::<Vec<f32>>();
    let projector = |n_views: usize, tilt: f64, footprint: ConeFootprint| {
        let g = geometry(width, n_views, tilt);
        ConeProjector::new(&device, g.clone(), ConePart::whole(&g), footprint)
    };
    let few = n_views.min(60);
    let updates = |n_views: usize| (width.pow(3) * n_views) as f64;
    let mut volume = Buffer::from_vec(&device, random(width.pow(3)))?;
    let mut data = random(width * width * n_views);
    let mut timings = Vec::new();
    for (name, views, tilt, footprint) in [
        ("back linear", few, 0.0, ConeFootprint::Linear),
        ("forward linear", few, 0.0, ConeFootprint::Linear),
        ("back shadow", few, 0.0, ConeFootprint::Shadow),
        ("forward shadow", few, 0.0, ConeFootprint::Shadow),
        ("back tilted", few.min(12), 0.4, ConeFootprint::Linear),
        ("forward tilted", few.min(12), 0.4, ConeFootprint::Linear),
    ] {
        let p = projector(views, tilt, footprint)?;
        let mut part = Buffer::from_vec(&device, data[..p.sinogram_len()].to_vec())?;
        timings.push(time(name, updates(views), || match name.starts_with("back") {
            true => p.back(&mut part, &mut volume),
            false => p.forward(&mut volume, &mut part),
        })?);
    }
    let p = projector(n_views, 0.0, ConeFootprint::Linear)?;
    let fdk = FdkWeights::new(p.geometry())?;
    let filter = RampFilter::new(&device, RampParams::new(width, fdk.pitch_at_axis))?;
    timings.push(time("fdk", updates(n_views), || {
        let weighed = fdk.weigh(&p.part().rows, &p.part().views, &data);
        let mut weighed = Buffer::from_vec(&device, weighed)?;
        filter.apply(n_views, &mut weighed)?;
        p.back_filtered(&fdk.views, &mut weighed, &mut volume)
    })?);
    data.clear();
    Ok(timings)
}

fn time(
    name: &'static str,
    updates: f64,
    mut work: impl FnMut() -> convoke_kernels::Result<()>,
) -> convoke_kernels::Result<Timing> {
    let (mut seconds, cpu) = (f64::INFINITY, cpu_seconds());
    for _ in 0..RUNS {
        let start = Instant::now();
        work()?;
        seconds = seconds.min(start.elapsed().as_secs_f64());
    }
    Ok(Timing { name, seconds, cpu_seconds: (cpu_seconds() - cpu) / f64::from(RUNS), updates })
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

fn print_table(threads: usize, (peak, bandwidth): (f64, f64), timings: &[Timing]) {
    println!("{threads} thread(s): peak {:.0} Gflop/s, triad {:.1} GB/s", peak / 1e9, bandwidth / 1e9);
    for Timing { name, seconds, cpu_seconds, updates } in timings {
        let (gups, per_core) = (updates / seconds / 1e9, updates / cpu_seconds / 1e9);
        // Of a bilinear update: two blends along the columns (shared by the slices: 4 flops per row), one along the
        // rows (3) and the sum (1).
        let part = 100.0 * 8.0 * updates / seconds / peak;
        println!(
            "  {name:16} {:8.1} ms  {:8.1} CPU-ms  {gups:6.2} GUPS, {per_core:5.2} per CPU-second, {part:3.0} % of peak",
            1e3 * seconds,
            1e3 * cpu_seconds
        );
    }
}
