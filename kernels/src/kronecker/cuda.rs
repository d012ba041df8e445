//! Tensors in f64 on a GPU or under emulation. Untested on a GPU.

use super::{Matrix, Shape};
use crate::gpu::{Arg, Extent, Gpu, KRONECKER, Memory, int};
use crate::{Buffer, Result};
use std::ops::Range;

/// Rows, and fibres, of one block of a product.
const TILE: usize = 64;
const PRODUCT_THREADS: u32 = 128;
const VECTOR_THREADS: usize = 256;
/// Elements of one block's sum in `kronecker_dots`.
const DOT_BLOCK: usize = 16 * VECTOR_THREADS;
/// Elements of one block in `kronecker_add`.
const ADD_BLOCK: usize = 4 * VECTOR_THREADS;
/// Beyond this the threads loop.
const MAX_BLOCKS: usize = 1 << 20;

/// Operations of the kernel `kronecker_map`, in its order.
#[derive(Clone, Copy, Debug)]
pub(super) enum Map {
    ScaleBy,
    MultiplyBy,
    AddProduct,
}

fn vectors(blocks: usize) -> Extent {
    Extent { grid: [blocks as u32, 1, 1], block: [VECTOR_THREADS as u32, 1, 1], shared_bytes: 0 }
}

/// Threads that loop over `n` elements.
fn looping(n: usize) -> Extent {
    vectors(n.div_ceil(VECTOR_THREADS).min(MAX_BLOCKS))
}

fn long(value: usize) -> Arg {
    Arg::I64(value as i64)
}

/// Words on the device: addresses, numbers, lengths.
fn upload(gpu: &Gpu, words: &[u64]) -> Result<Memory> {
    let memory = gpu.allocate(8 * words.len())?;
    memory.upload(bytemuck::cast_slice(words))?;
    Ok(memory)
}

pub(super) fn mode_product(
    gpu: &Gpu,
    a: &mut Matrix,
    (outer, inner): (usize, usize),
    x: &mut Buffer<f64>,
    y: &mut Buffer<f64>,
    accumulate: bool,
) -> Result<()> {
    let (rows, cols, fibres) = (a.rows, a.cols, outer * inner);
    let [a, x] = [a.values.device_in(gpu)?, x.device_in(gpu)?].map(Arg::Address);
    let y = Arg::Address(if accumulate { y.device_inout(gpu)? } else { y.device_out(gpu)? });
    let accumulate = Arg::I32(accumulate.into());
    let blocks = rows.div_ceil(TILE) * fibres.div_ceil(TILE);
    let extent = Extent { grid: [blocks as u32, 1, 1], block: [PRODUCT_THREADS, 1, 1], shared_bytes: 0 };
    let sizes = [rows, fibres, cols].map(long);
    if inner == 1 {
        let args = [&sizes[..], &[a, x, y, accumulate]].concat();
        gpu.launch(&KRONECKER, "kronecker_last_mode", extent, &args)
    } else {
        let args = [&sizes[..], &[long(inner), a, x, y, accumulate]].concat();
        gpu.launch(&KRONECKER, "kronecker_mode", extent, &args)
    }
}

pub(super) fn divide_by_sum(gpu: &Gpu, lambdas: &[&[f64]], shift: f64, x: &mut Buffer<f64>) -> Result<()> {
    let mut words: Vec<u64> = lambdas.iter().map(|l| l.len() as u64).collect();
    words.extend(lambdas.iter().flat_map(|l| l.iter().map(|v| v.to_bits())));
    let memory = upload(gpu, &words)?;
    let args = [
        long(x.len()),
        int(lambdas.len()),
        Arg::Address(memory.address()),
        Arg::Address(memory.address() + 8 * lambdas.len() as u64),
        Arg::F64(shift),
        Arg::Address(x.device_inout(gpu)?),
    ];
    gpu.launch(&KRONECKER, "kronecker_divide", looping(x.len()), &args)
}

/// Sums of fixed blocks, then the sum of these, both in fixed order; only the results leave the device.
pub(super) fn dots(gpu: &Gpu, xs: Vec<u64>, y: u64, n: usize) -> Result<Vec<f64>> {
    let (k, blocks) = (xs.len(), n.div_ceil(DOT_BLOCK));
    let addresses = upload(gpu, &xs)?;
    let partial = gpu.allocate(8 * k * blocks)?;
    let sums = gpu.allocate(8 * k)?;
    let args = [long(n), int(k), Arg::Address(addresses.address()), Arg::Address(y), Arg::Address(partial.address())];
    gpu.launch(&KRONECKER, "kronecker_dots", vectors(blocks), &args)?;
    let args = [long(blocks), Arg::Address(partial.address()), Arg::Address(sums.address())];
    gpu.launch(&KRONECKER, "kronecker_sums", vectors(k), &args)?;
    let mut result = vec![0.0; k];
    sums.download(bytemuck::cast_slice_mut(&mut result))?;
    Ok(result)
}

pub(super) fn add_combination(gpu: &Gpu, c: &[f64], xs: &mut [Buffer<f64>], y: &mut Buffer<f64>) -> Result<()> {
    let mut words = addresses(gpu, xs)?;
    words.extend(c.iter().map(|c| c.to_bits()));
    let memory = upload(gpu, &words)?;
    let args = [
        long(y.len()),
        int(c.len()),
        Arg::Address(memory.address()),
        Arg::Address(memory.address() + 8 * c.len() as u64),
        Arg::Address(y.device_inout(gpu)?),
    ];
    gpu.launch(&KRONECKER, "kronecker_add", vectors(y.len().div_ceil(ADD_BLOCK)), &args)
}

pub(super) fn addresses(gpu: &Gpu, xs: &mut [Buffer<f64>]) -> Result<Vec<u64>> {
    xs.iter_mut().map(|x| x.device_in(gpu)).collect()
}

/// y = op(a, b, y), element by element.
pub(super) fn map(
    gpu: &Gpu,
    op: Map,
    factor: f64,
    (a, b): (Option<&mut Buffer<f64>>, Option<&mut Buffer<f64>>),
    y: &mut Buffer<f64>,
) -> Result<()> {
    let address = |x: Option<&mut Buffer<f64>>| x.map_or(Ok(0), |x| x.device_in(gpu)).map(Arg::Address);
    let (a, b) = (address(a)?, address(b)?);
    let args = [Arg::I32(op as i32), long(y.len()), Arg::F64(factor), a, b, Arg::Address(y.device_inout(gpu)?)];
    gpu.launch(&KRONECKER, "kronecker_map", looping(y.len()), &args)
}

/// Copy the parts of the middle mode of `whole` to `packed`, one after another, or back.
pub(super) fn copy_parts(
    gpu: &Gpu,
    (outer, n, inner): Shape,
    parts: &[Range<usize>],
    whole: u64,
    mut packed: u64,
    to_whole: bool,
) -> Result<()> {
    for part in parts {
        let width = part.len() * inner;
        let args = [
            long(outer),
            long(n * inner),
            long(part.start * inner),
            long(width),
            Arg::I32(to_whole.into()),
            Arg::Address(whole),
            Arg::Address(packed),
        ];
        gpu.launch(&KRONECKER, "kronecker_pack", looping(outer * width), &args)?;
        packed += 8 * (outer * width) as u64;
    }
    Ok(())
}
