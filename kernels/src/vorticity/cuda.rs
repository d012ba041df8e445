//! Launches on a GPU or under emulation. Untested on a GPU.

use super::{Array, Flows, Grid, Stage};
use crate::Result;
use crate::fourier_layer::cuda::{long, looping};
use crate::gpu::{Arg, Gpu, VORTICITY, int};

/// `w` `[sample, mode, re | im]`, `pairs` `[sample, û | v̂, mode, re | im]`.
pub(super) fn velocity(gpu: &Gpu, grid: &Grid, w: &mut Array, pairs: &mut Array) -> Result<()> {
    let count = w.len() / 2;
    let args = [
        long(count),
        int(grid.largest),
        Arg::F64(grid.unit),
        Arg::Address(w.device_in(gpu)?),
        Arg::Address(pairs.device_out(gpu)?),
    ];
    gpu.launch(&VORTICITY, "vorticity_velocity", looping(count), &args)
}

/// `values` `[sample, field, point]`.
pub(super) fn products(gpu: &Gpu, area: usize, values: &mut Array) -> Result<()> {
    let count = values.len() / 2;
    let args = [long(count), int(area), Arg::Address(values.device_inout(gpu)?)];
    gpu.launch(&VORTICITY, "vorticity_products", looping(count), &args)
}

pub(super) fn stage(
    gpu: &Gpu,
    grid: &Grid,
    stage: &Stage,
    (linear, forcing): (&mut Array, Option<&mut Array>),
    flows: &mut Flows,
) -> Result<()> {
    let count = flows.samples * grid.modes();
    let args = [
        long(count),
        int(grid.largest),
        Arg::F64(grid.unit),
        Arg::F64(stage.beta),
        Arg::F64(stage.gamma),
        Arg::F64(stage.ahead),
        Arg::F64(stage.behind),
        Arg::Address(linear.device_in(gpu)?),
        Arg::Address(forcing.map_or(Ok(0), |forcing| forcing.device_in(gpu))?),
        Arg::Address(flows.pairs.device_in(gpu)?),
        Arg::Address(flows.slope.device_inout(gpu)?),
        Arg::Address(flows.vorticity.device_inout(gpu)?),
    ];
    gpu.launch(&VORTICITY, "vorticity_stage", looping(count), &args)
}
