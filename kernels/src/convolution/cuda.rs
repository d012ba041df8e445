//! Launches on a GPU or under emulation.

use super::{Array, Convolution, Groups, Images};
use crate::fourier_layer::cuda::{VECTOR_THREADS, long, looping};
use crate::gpu::{Arg, CONVOLUTION, Extent, Gpu, int};
use crate::{KernelError, Result};

const THREADS: u32 = 128;
/// Tile of a convolution: channels, points.
const TILE: [usize; 2] = [32, 128];

pub(super) fn convolve(
    gpu: &Gpu,
    convolution: &Convolution,
    (samples, [h, w]): (usize, [usize; 2]),
    parameters: &mut Array,
    x: &mut Array,
    beside: Option<&mut Array>,
    y: &mut Array,
) -> Result<()> {
    let Convolution { from, to, size, weight, bias } = *convolution;
    let parameters = parameters.device_in(gpu)?;
    let rows = to.div_ceil(TILE[0]);
    if rows > 65_535 {
        return Err(KernelError::Parameter { what: "channels that go", value: to as f64, rule: "at most 2 097 120" });
    }
    let args = [
        int(from),
        int(to),
        int(h),
        int(w),
        Arg::Address(x.device_in(gpu)?),
        Arg::Address(parameters + 4 * weight as u64),
        Arg::Address(parameters + 4 * bias as u64),
        Arg::Address(beside.map_or(Ok(0), |beside| beside.device_in(gpu))?),
        Arg::Address(y.device_out(gpu)?),
    ];
    let kernel = if size == 3 { "convolve_3x3" } else { "convolve_1x1" };
    // Fewer than 2^31, as there are fewer numbers.
    let tiles = samples * (h * w).div_ceil(TILE[1]);
    let extent = Extent { grid: [tiles as u32, rows as u32, 1], block: [THREADS, 1, 1], shared_bytes: 0 };
    gpu.launch(&CONVOLUTION, kernel, extent, &args)
}

pub(super) fn normalise(
    gpu: &Gpu,
    norm: &Groups,
    points: usize,
    affine: &mut Array,
    x: &mut Array,
    moments: &mut Array,
    y: &mut Array,
) -> Result<()> {
    let count = x.len();
    let (x, affine) = (x.device_in(gpu)?, affine.device_in(gpu)? + 4 * norm.start as u64);
    let size = norm.channels / norm.groups * points;
    let args = [long(size), Arg::F32(norm.tiny as f32), Arg::Address(x), Arg::Address(moments.device_out(gpu)?)];
    let block = [VECTOR_THREADS as u32, 1, 1];
    let extent = Extent { grid: [(count / size) as u32, 1, 1], block, shared_bytes: 0 };
    gpu.launch(&CONVOLUTION, "group_moments", extent, &args)?;
    let args = [
        long(count),
        int(norm.channels),
        int(norm.groups),
        int(points),
        Arg::Address(moments.device_in(gpu)?),
        Arg::Address(affine),
        Arg::Address(affine + 4 * norm.channels as u64),
        Arg::Address(x),
        Arg::Address(y.device_out(gpu)?),
    ];
    gpu.launch(&CONVOLUTION, "group_apply", looping(count), &args)
}

/// `w`: points along x of what comes out.
pub(super) fn halve(gpu: &Gpu, w: usize, x: &mut Array, y: &mut Array) -> Result<()> {
    let count = y.len();
    let args = [long(count), int(w), Arg::Address(x.device_in(gpu)?), Arg::Address(y.device_out(gpu)?)];
    gpu.launch(&CONVOLUTION, "halve", looping(count), &args)
}

pub(super) fn double_and_join(
    gpu: &Gpu,
    [first, second]: [usize; 2],
    [h, w]: [usize; 2],
    (a, b): (&mut Array, &mut Array),
    y: &mut Array,
) -> Result<()> {
    let count = y.len();
    let args = [
        long(count),
        int(first),
        int(second),
        int(h),
        int(w),
        Arg::Address(a.device_in(gpu)?),
        Arg::Address(b.device_in(gpu)?),
        Arg::Address(y.device_out(gpu)?),
    ];
    gpu.launch(&CONVOLUTION, "double_and_join", looping(count), &args)
}

pub(super) fn apart(gpu: &Gpu, images: &Images, [mean, scale]: [f64; 2], x: &mut Array, y: &mut Array) -> Result<()> {
    let count = x.len();
    let args = [
        long(count),
        int(images.h),
        int(images.w),
        Arg::F32(mean as f32),
        Arg::F32(scale as f32),
        Arg::Address(x.device_in(gpu)?),
        Arg::Address(y.device_out(gpu)?),
    ];
    gpu.launch(&CONVOLUTION, "images_apart", looping(count), &args)
}

pub(super) fn together(
    gpu: &Gpu,
    images: &Images,
    factors: [f64; 3],
    (x, f): (&mut Array, &mut Array),
    y: &mut Array,
) -> Result<()> {
    let count = x.len();
    let [mean, skip, scale] = factors.map(|v| Arg::F32(v as f32));
    let args = [
        long(count),
        int(images.h),
        int(images.w),
        mean,
        skip,
        scale,
        Arg::Address(x.device_in(gpu)?),
        Arg::Address(f.device_in(gpu)?),
        Arg::Address(y.device_out(gpu)?),
    ];
    gpu.launch(&CONVOLUTION, "images_together", looping(count), &args)
}
