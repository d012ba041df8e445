//! Launches on a GPU or under emulation.

use super::{Array, Slab};
use crate::Result;
use crate::fourier_layer::cuda::{long, looping};
use crate::gpu::{Arg, Gpu, VARIATION, int};

fn optional(gpu: &Gpu, array: Option<&mut Array>) -> Result<Arg> {
    Ok(Arg::Address(array.map_or(Ok(0), |array| array.device_in(gpu))?))
}

pub(super) fn dual(
    gpu: &Gpu,
    slab: &Slab,
    (radius, together): (f32, bool),
    (v, behind): (&mut Array, Option<&mut Array>),
    w: &mut Array,
    room: &mut Array,
) -> Result<()> {
    let args = [
        long(slab.voxels()),
        int(slab.points[0]),
        int(slab.points[1]),
        Arg::I32(together.into()),
        Arg::F32(radius),
        Arg::Address(v.device_in(gpu)?),
        optional(gpu, behind)?,
        Arg::Address(w.device_inout(gpu)?),
        Arg::Address(room.device_out(gpu)?),
    ];
    let kernel = if slab.axes == 3 { "variation_dual_xyz" } else { "variation_dual_z" };
    gpu.launch(&VARIATION, kernel, looping(slab.voxels()), &args)
}

pub(super) fn transposed(
    gpu: &Gpu,
    slab: &Slab,
    [a, b]: [f32; 2],
    (p, before): (&mut Array, Option<&mut Array>),
    mask: Option<&mut Array>,
    out: &mut Array,
) -> Result<()> {
    let args = [
        long(slab.voxels()),
        int(slab.points[0]),
        int(slab.points[1]),
        int(slab.axes),
        Arg::F32(a),
        Arg::F32(b),
        Arg::Address(p.device_in(gpu)?),
        optional(gpu, before)?,
        optional(gpu, mask)?,
        Arg::Address(out.device_inout(gpu)?),
    ];
    gpu.launch(&VARIATION, "variation_transposed", looping(slab.voxels()), &args)
}

pub(super) fn normal(
    gpu: &Gpu,
    slab: &Slab,
    [a, b, c]: [f32; 3],
    (v, before, behind): (&mut Array, Option<&mut Array>, Option<&mut Array>),
    mask: Option<&mut Array>,
    out: &mut Array,
) -> Result<()> {
    let args = [
        long(slab.voxels()),
        int(slab.points[0]),
        int(slab.points[1]),
        int(slab.axes),
        Arg::F32(a),
        Arg::F32(b),
        Arg::F32(c),
        Arg::Address(v.device_in(gpu)?),
        optional(gpu, before)?,
        optional(gpu, behind)?,
        optional(gpu, mask)?,
        Arg::Address(out.device_inout(gpu)?),
    ];
    gpu.launch(&VARIATION, "variation_normal", looping(slab.voxels()), &args)
}

pub(super) fn bound(gpu: &Gpu, rho: f32, x: &mut Array, w: &mut Array, r: &mut Array) -> Result<()> {
    let count = x.len();
    let args = [
        long(count),
        Arg::F32(rho),
        Arg::Address(x.device_in(gpu)?),
        Arg::Address(w.device_inout(gpu)?),
        Arg::Address(r.device_inout(gpu)?),
    ];
    gpu.launch(&VARIATION, "variation_bound", looping(count), &args)
}

/// Rows of `width` numbers from `start` on, `pitch` apart.
pub(super) fn rows(
    gpu: &Gpu,
    (start, pitch, width): (usize, usize, usize),
    from: &mut Array,
    out: &mut Array,
) -> Result<()> {
    let count = out.len();
    let args = [
        long(count),
        int(width),
        long(pitch),
        long(start),
        Arg::Address(from.device_in(gpu)?),
        Arg::Address(out.device_out(gpu)?),
    ];
    gpu.launch(&VARIATION, "variation_rows", looping(count), &args)
}
