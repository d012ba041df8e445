//! The ramp filter on a GPU or under emulation: one block per pair of rows, all in shared memory.

use super::{Padding, RampParams};
use crate::gpu::{Arg, Extent, Gpu, Memory, RAMP_FILTER, int};
use crate::{Buffer, Result};
use std::f64::consts::TAU;

/// Longest transform: 128 KiB of shared memory, which devices from compute capability 8.0 on grant on request.
const MAX_FFT_LEN: usize = 1 << 14;

/// The response and the roots of unity on the device.
pub(super) struct Plan {
    gpu: Gpu,
    params: RampParams,
    n: usize,
    response: Memory,
    roots: Memory,
}

impl Plan {
    /// The plan, or none where the transform does not fit a block's shared memory and the CPU serves.
    pub(super) fn new(gpu: &Gpu, params: RampParams, response: &[f32]) -> Result<Option<Self>> {
        let n = response.len();
        if n > MAX_FFT_LEN {
            return Ok(None);
        }
        let bits = n.trailing_zeros();
        let reversed: Vec<f32> = (0..n).map(|i| response[i.reverse_bits() >> (usize::BITS - bits)]).collect();
        // exp(-2 pi i k / n) for k < n/2
        let root = |k: usize| (-TAU * k as f64 / n as f64).sin_cos();
        let roots: Vec<f32> = (0..n / 2).map(root).flat_map(|(s, c)| [c as f32, s as f32]).collect();
        let upload = |values: &[f32]| -> Result<Memory> {
            let memory = gpu.allocate(4 * values.len())?;
            memory.upload(bytemuck::cast_slice(values))?;
            Ok(memory)
        };
        Ok(Some(Self { gpu: gpu.clone(), params, n, response: upload(&reversed)?, roots: upload(&roots)? }))
    }

    pub(super) fn apply(&self, n_angles: usize, sinogram: &mut Buffer<f32>) -> Result<()> {
        let n_cols = self.params.n_cols;
        let n_slices = sinogram.len() / (n_angles * n_cols);
        let args = [
            Arg::Address(sinogram.device_inout(&self.gpu)?),
            Arg::Address(self.response.address()),
            Arg::Address(self.roots.address()),
            int(self.n),
            int(n_angles),
            int(n_cols),
            int(usize::from(self.params.padding == Padding::Edge)),
        ];
        let blocks = n_slices * n_angles.div_ceil(2);
        let extent = Extent {
            grid: [u32::try_from(blocks).expect("fewer than 2^32 pairs of rows fit a device"), 1, 1],
            block: [(self.n / 2).clamp(32, 512) as u32, 1, 1],
            shared_bytes: 8 * self.n as u32,
        };
        self.gpu.launch(&RAMP_FILTER, "ramp_rows", extent, &args)
    }
}
