//! CPU-seconds of tomoxide's reconstructions on one thread: `tomoxide WIDTH N_ANGLES N_SLICES`.
//!
//! Prints one line of JSON as `../peer.py` does, with an operation for each algorithm: CPU-seconds for all slices and
//! the process's peak memory in bytes, which is that of the algorithm that takes most.

use std::error::Error;
use std::f32::consts::PI;

use ndarray::Array3;
use rustix::time::{ClockId, clock_gettime};
use tomoxide::recon::recon;
use tomoxide::{Algorithm, Angles, BackendKind, Engine, FilterName, Geometry, Layout, ReconParams, Tomo};

const ALGORITHMS: [(&str, Algorithm); 3] =
    [("fbp", Algorithm::Fbp), ("gridrec", Algorithm::Gridrec), ("fourierrec", Algorithm::Fourierrec)];

fn main() -> Result<(), Box<dyn Error>> {
    let sizes: Vec<usize> = std::env::args().skip(1).map(|text| text.parse()).collect::<Result<_, _>>()?;
    let &[width, n_angles, n_slices] = sizes.as_slice() else {
        return Err("tomoxide WIDTH N_ANGLES N_SLICES".into());
    };
    let engine = Engine::new(BackendKind::Cpu)?;
    let angles = Angles((0..n_angles).map(|i| PI * i as f32 / n_angles as f32).collect());
    let params = ReconParams { num_gridx: Some(width), filter_name: FilterName::Ramp, ..Default::default() };
    // What a slice costs does not depend on its values.
    let scan = |n_slices: usize| {
        let value = |(z, a, c): (usize, usize, usize)| ((31 * z + 7 * a + 3 * c) % 101) as f32 / 101.0;
        let sinogram = Tomo::new(Array3::from_shape_fn((n_slices, n_angles, width), value), Layout::Sinogram);
        (sinogram, Geometry::parallel(angles.clone(), width, n_slices, 1.0))
    };
    let (one, all) = (scan(1), scan(n_slices));
    let mut times = Vec::new();
    for (name, algorithm) in ALGORITHMS {
        let work = |(sinogram, geometry): &(Tomo<f32>, Geometry)| {
            recon(sinogram, geometry, algorithm, &params, engine.backend())
        };
        work(&one)?; // plans and caches
        let start = cpu_seconds();
        std::hint::black_box(work(&all)?);
        times.push(format!(r#""{name}": {}"#, cpu_seconds() - start));
    }
    println!(r#"{{"cpu_seconds": {{{}}}, "peak_memory": {}}}"#, times.join(", "), peak_memory());
    Ok(())
}

/// CPU time of all threads so far.
fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Largest resident memory so far in bytes; 0 where the system does not tell.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok()).map_or(0, |kib| kib << 10)
}
