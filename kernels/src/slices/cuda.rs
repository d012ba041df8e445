//! Slice-wise operations on a GPU or under emulation.

use super::Array;
use crate::gpu::{Arg, Extent, Gpu, SLICES};
use crate::{Buffer, Device, Result};

/// Elements of one block's sum in `slice_dot`.
const DOT_BLOCK: usize = 8192;
const THREADS: u32 = 256;

/// Operations of the kernel `slice_map`, in its order.
#[derive(Clone, Copy, Debug)]
pub(super) enum Op {
    Axpy,
    Xpby,
    Scale,
    Fill,
    Copy,
    ClampMin,
    Multiply,
    Subtract,
    Ratio,
}

/// One coefficient per slice, or one for all.
pub(super) enum Coefficient<'a> {
    PerSlice(&'a [f64]),
    All(f32),
}

fn grid(len: usize, per_block: usize, n_slices: usize) -> [u32; 3] {
    [len.div_ceil(per_block).min(1 << 20) as u32, n_slices.min(65_535) as u32, 1]
}

/// y = op(a, b, y); `b_slice_len` is 0 where one slice of `b` serves all.
pub(super) fn map(
    gpu: &Gpu,
    n_slices: usize,
    op: Op,
    coefficient: Coefficient<'_>,
    (a, b): (Option<&mut Array>, Option<&mut Array>),
    y: &mut Array,
) -> Result<()> {
    let len = y.len() / n_slices;
    let b_slice_len = if b.as_ref().is_some_and(|b| b.len() == len && n_slices > 1) { 0 } else { len };
    let address = |array: Option<&mut Array>| array.map_or(Ok(0), |x| x.device_in(gpu));
    let (a, b) = (address(a)?, address(b)?);
    let overwrites = matches!(op, Op::Fill | Op::Copy | Op::Subtract | Op::Ratio);
    let y = if overwrites { y.device_out(gpu)? } else { y.device_inout(gpu)? };
    let (per_slice, scalar) = match coefficient {
        Coefficient::All(c) => (None, c),
        Coefficient::PerSlice(c) => {
            let values: Vec<f32> = c.iter().map(|c| *c as f32).collect();
            let memory = gpu.allocate(4 * n_slices)?;
            memory.upload(bytemuck::cast_slice(&values))?;
            (Some(memory), 0.0)
        }
    };
    let args = [
        Arg::I32(op as i32),
        Arg::I64(len as i64),
        Arg::I64(b_slice_len as i64),
        Arg::I32(n_slices as i32),
        Arg::Address(per_slice.as_ref().map_or(0, |m| m.address())),
        Arg::F32(scalar),
        Arg::Address(a),
        Arg::Address(b),
        Arg::Address(y),
    ];
    let extent = Extent { grid: grid(len, THREADS as usize, n_slices), block: [THREADS, 1, 1], shared_bytes: 0 };
    gpu.launch(&SLICES, "slice_map", extent, &args)
}

/// Dot product of each slice of the arrays at `x` and `y`: blocks in double on the device, added in order here.
pub(super) fn dot(gpu: &Gpu, n_slices: usize, slice_len: usize, x: u64, y: u64) -> Result<Vec<f64>> {
    let n_blocks = slice_len.div_ceil(DOT_BLOCK).max(1);
    let mut partial = Buffer::<f64>::zeros(&Device::Gpu(gpu.clone()), n_slices * n_blocks)?;
    let args = [
        Arg::I64(slice_len as i64),
        Arg::I32(n_slices as i32),
        Arg::Address(x),
        Arg::Address(y),
        Arg::Address(partial.device_inout(gpu)?),
    ];
    let grid = [n_blocks as u32, n_slices.min(65_535) as u32, 1];
    gpu.launch(&SLICES, "slice_dot", Extent { grid, block: [THREADS, 1, 1], shared_bytes: 0 }, &args)?;
    partial.sync()?;
    Ok(partial.host().chunks(n_blocks).map(|blocks| blocks.iter().sum()).collect())
}
