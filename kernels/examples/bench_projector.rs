//! Speed of the projector pair and the ramp filter: 256^3 voxels, 180 angles, 256 columns, on 1 and 2 threads.
//! Beside them, the machine's own measured peaks. `cargo run --release -p convoke-kernels --example bench_projector`
#![allow(clippy::print_stdout)]

use convoke_kernels::{
    Buffer, Device, Footprint, ParallelGeometry, Philox, Projector, RampFilter, RampParams, machine,
};

type AnyError = Box<dyn std::error::Error>;

fn main() -> Result<(), AnyError> {
    let mut arguments = std::env::args().skip(1).map(|a| a.parse::<usize>());
    let n_slices = arguments.next().transpose()?.unwrap_or(256);
    let width = arguments.next().transpose()?.unwrap_or(256);
    let n_angles = arguments.next().transpose()?.unwrap_or(180);
    println!("{}, {n_slices} slices of {width}^2, {n_angles} angles, best of 5", Device::cpu().describe());
    for threads in [1, 2] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
        pool.install(|| measure(n_slices, width, n_angles))?;
    }
    Ok(())
}

fn measure(n_slices: usize, width: usize, n_angles: usize) -> convoke_kernels::Result<()> {
    let device = Device::cpu();
    let threads = rayon::current_num_threads();
    let (peak, bandwidth) = (machine::peak_flops(), machine::bandwidth());
    println!("{threads} thread(s): peak {:.0} Gflop/s, triad {:.1} GB/s", peak / 1e9, bandwidth / 1e9);
    let geometry = ParallelGeometry::centred(n_angles, width);
    let random = |n: usize| (0..n as u64).map(|i| Philox::new(1, 2).uniform(i) as f32).collect();
    let mut volume = Buffer::from_vec(&device, random(n_slices * geometry.slice_len()))?;
    let mut sinogram = Buffer::from_vec(&device, random(n_slices * geometry.sinogram_len()))?;
    let updates = (volume.len() * n_angles) as f64;
    let report = |name: &str, seconds: f64| {
        // 2 samples per update, a multiply-add each.
        let part = 100.0 * 4.0 * updates / seconds / peak;
        println!("  {name:16} {:7.1} ms  {:6.2} GUPS  {part:4.0} % of peak", 1e3 * seconds, updates / seconds / 1e9);
    };
    for footprint in [Footprint::Linear, Footprint::Joseph] {
        let projector = Projector::new(&device, geometry.clone(), footprint)?;
        let seconds = machine::best_seconds(5, || projector.forward(&mut volume, &mut sinogram));
        report(&format!("{footprint:?} forward"), seconds);
        let seconds = machine::best_seconds(5, || projector.back(&mut sinogram, &mut volume));
        report(&format!("{footprint:?} back"), seconds);
    }
    let filter = RampFilter::new(&device, RampParams::new(width, 1.0))?;
    let seconds = machine::best_seconds(5, || filter.apply(n_angles, &mut sinogram));
    println!(
        "  {:16} {:7.1} ms  {:6.2} ns per value",
        "ramp filter",
        1e3 * seconds,
        1e9 * seconds / sinogram.len() as f64
    );
    Ok(())
}
