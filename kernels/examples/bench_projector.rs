//! Speed of the projector pair, the ramp filter and both together: 256^3 voxels, 180 angles, 256 columns, on 1 and 2
//! threads; beside them, the machine's own measured peaks.
//!
//! `cargo run --release -p convoke-kernels --example bench_projector [n_slices [width [n_angles]]] [--json]`
//!
//! Seconds on the clock are of the fastest of 5 runs, CPU-seconds (of all threads) the mean of the 5.
#![allow(clippy::print_stdout)]

use convoke_kernels::{
    Buffer, Device, Footprint, ParallelGeometry, Philox, Projector, RampFilter, RampParams, machine,
};
use std::time::Instant;

type AnyError = Box<dyn std::error::Error>;

const RUNS: u32 = 5;

/// What one operation took.
struct Timing {
    name: &'static str,
    seconds: f64,
    cpu_seconds: f64,
}

fn main() -> Result<(), AnyError> {
    let (flags, sizes): (Vec<_>, Vec<_>) = std::env::args().skip(1).partition(|a| a.starts_with("--"));
    let size = |i: usize, default| sizes.get(i).map_or(Ok(default), |text| text.parse::<usize>());
    let (n_slices, width, n_angles) = (size(0, 256)?, size(1, 256)?, size(2, 180)?);
    let json = flags.iter().any(|flag| flag == "--json");
    if !json {
        println!("{}, {n_slices} slices of {width}^2, {n_angles} angles", Device::cpu().describe());
    }
    for threads in [1, 2] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
        let timings = pool.install(|| measure(n_slices, width, n_angles))?;
        let memory = peak_memory();
        let peaks = pool.install(|| (machine::peak_flops(), machine::bandwidth()));
        if json {
            print_json(threads, peaks, memory, &timings);
        } else {
            print_table(threads, peaks, (n_slices * width * width * n_angles) as f64, &timings);
        }
    }
    Ok(())
}

fn measure(n_slices: usize, width: usize, n_angles: usize) -> convoke_kernels::Result<Vec<Timing>> {
    let device = Device::cpu();
    let geometry = ParallelGeometry::centred(n_angles, width);
    let random = |n: usize| (0..n as u64).map(|i| Philox::new(1, 2).uniform(i) as f32).collect();
    let mut volume = Buffer::from_vec(&device, random(n_slices * geometry.slice_len()))?;
    let mut sinogram = Buffer::from_vec(&device, random(n_slices * geometry.sinogram_len()))?;
    let linear = Projector::new(&device, geometry.clone(), Footprint::Linear)?;
    let joseph = Projector::new(&device, geometry, Footprint::Joseph)?;
    let filter = RampFilter::new(&device, RampParams::new(width, 1.0))?;
    Ok(vec![
        time("linear forward", || linear.forward(&mut volume, &mut sinogram))?,
        time("linear back", || linear.back(&mut sinogram, &mut volume))?,
        time("joseph forward", || joseph.forward(&mut volume, &mut sinogram))?,
        time("joseph back", || joseph.back(&mut sinogram, &mut volume))?,
        time("ramp filter", || filter.apply(n_angles, &mut sinogram))?,
        time("fbp", || filter.apply(n_angles, &mut sinogram).and_then(|()| linear.back(&mut sinogram, &mut volume)))?,
    ])
}

fn time(name: &'static str, mut work: impl FnMut() -> convoke_kernels::Result<()>) -> convoke_kernels::Result<Timing> {
    let (mut seconds, cpu) = (f64::INFINITY, cpu_seconds());
    for _ in 0..RUNS {
        let start = Instant::now();
        work()?;
        seconds = seconds.min(start.elapsed().as_secs_f64());
    }
    Ok(Timing { name, seconds, cpu_seconds: (cpu_seconds() - cpu) / f64::from(RUNS) })
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

/// Largest resident memory so far in bytes; 0 where the system does not tell.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok()).map_or(0, |kib| kib << 10)
}

fn print_table(threads: usize, (peak, bandwidth): (f64, f64), updates: f64, timings: &[Timing]) {
    println!("{threads} thread(s): peak {:.0} Gflop/s, triad {:.1} GB/s", peak / 1e9, bandwidth / 1e9);
    for Timing { name, seconds, cpu_seconds } in timings {
        let (ms, cpu_ms) = (1e3 * seconds, 1e3 * cpu_seconds);
        print!("  {name:16} {ms:7.1} ms  {cpu_ms:7.1} CPU-ms");
        if !name.contains("filter") {
            print!("  {:6.2} GUPS", updates / seconds / 1e9);
        }
        if name.contains("forward") || name.contains("back") {
            // 2 samples per update, a multiply-add each.
            print!("  {:4.0} % of peak", 100.0 * 4.0 * updates / seconds / peak);
        }
        println!();
    }
}

/// One line for each number of threads.
fn print_json(threads: usize, (peak, bandwidth): (f64, f64), memory: u64, timings: &[Timing]) {
    let one = |t: &Timing| format!(r#""{}": {{"seconds": {}, "cpu_seconds": {}}}"#, t.name, t.seconds, t.cpu_seconds);
    let all: Vec<String> = timings.iter().map(one).collect();
    println!(
        r#"{{"threads": {threads}, "peak_flops": {peak}, "bandwidth": {bandwidth}, "peak_memory": {memory}, "operations": {{{}}}}}"#,
        all.join(", ")
    );
}
