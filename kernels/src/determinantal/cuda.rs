//! Launches on a GPU or under emulation. Untested on a GPU.

use super::{Products, Samples};
use crate::gpu::{Arg, DETERMINANTAL, Extent, Gpu, int};
use crate::{Buffer, Device, Result};

const THREADS: usize = 128;
const WARPS: usize = THREADS / 32;
/// Beyond this the blocks loop.
const MAX_BLOCKS: usize = 1 << 16;

fn extent(blocks: usize, shared_doubles: usize) -> Extent {
    let grid = [blocks.min(MAX_BLOCKS) as u32, 1, 1];
    Extent { grid, block: [THREADS as u32, 1, 1], shared_bytes: 8 * shared_doubles as u32 }
}

pub(super) fn advance(
    gpu: &Gpu,
    products: &mut Products,
    samples: &mut Samples,
    (chunk, first): (usize, u64),
    tables: &mut Buffer<f64>,
    uniforms: &mut Buffer<f64>,
) -> Result<()> {
    let m = samples.points;
    let args = [
        int(m),
        int(products.entries),
        Arg::Address(products.starts.device_in(gpu)?),
        Arg::Address(products.places.device_in(gpu)?),
        int(chunk),
        Arg::I64(first as i64),
        Arg::Address(tables.device_in(gpu)?),
        Arg::Address(uniforms.device_in(gpu)?),
        Arg::Address(samples.bases.device_inout(gpu)?),
        Arg::Address(samples.counts.device_inout(gpu)?),
        Arg::Address(samples.accepted.device_inout(gpu)?),
    ];
    let grid = [u32::try_from(samples.samples).unwrap_or(u32::MAX), 1, 1];
    gpu.launch(&DETERMINANTAL, "determinantal_sample", Extent { grid, ..extent(1, 2 * m + WARPS) }, &args)
}

pub(super) fn features(
    gpu: &Gpu,
    products: &mut Products,
    n: usize,
    tables: &mut Buffer<f64>,
    out: &mut Buffer<f64>,
) -> Result<()> {
    let args = [
        int(n),
        int(products.functions),
        int(products.entries),
        Arg::Address(products.starts.device_in(gpu)?),
        Arg::Address(products.places.device_in(gpu)?),
        Arg::Address(tables.device_in(gpu)?),
        Arg::Address(out.device_out(gpu)?),
    ];
    gpu.launch(&DETERMINANTAL, "determinantal_features", extent(n, 0), &args)
}

pub(super) fn squared_lengths(gpu: &Gpu, rows: usize, n: usize, x: &mut Buffer<f64>) -> Result<Vec<f64>> {
    let mut sums = Buffer::zeros(&Device::Gpu(gpu.clone()), n)?;
    let args = [int(rows), int(n), Arg::Address(x.device_in(gpu)?), Arg::Address(sums.device_out(gpu)?)];
    gpu.launch(&DETERMINANTAL, "determinantal_lengths", extent(n.div_ceil(THREADS), 0), &args)?;
    sums.sync()?;
    Ok(sums.into_vec())
}

pub(super) fn gather(gpu: &Gpu, rows: usize, n: usize, chosen: &[usize], x: &mut Buffer<f64>) -> Result<Vec<f64>> {
    let device = Device::Gpu(gpu.clone());
    let mut places = Buffer::from_vec(&device, chosen.iter().map(|column| *column as i32).collect())?;
    let mut out = Buffer::zeros(&device, rows * chosen.len())?;
    let args = [
        int(rows),
        int(n),
        int(chosen.len()),
        Arg::Address(places.device_in(gpu)?),
        Arg::Address(x.device_in(gpu)?),
        Arg::Address(out.device_out(gpu)?),
    ];
    gpu.launch(&DETERMINANTAL, "determinantal_gather", extent(out.len().div_ceil(THREADS), 0), &args)?;
    out.sync()?;
    Ok(out.into_vec())
}
