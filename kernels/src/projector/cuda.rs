//! Launches of the projector's device kernels, on a GPU or under emulation.

use super::cpu::{MAX_REACH, Rays, taps};
use super::geometry::{ParallelGeometry, View};
use crate::gpu::{Arg, Extent, Gpu, Memory, PROJECTOR, int};
use crate::{Buffer, Result};
use std::sync::{Mutex, PoisonError};

/// Slices that one thread works on (`SLICES` of the kernel).
const SLICES: usize = 8;
/// Most blocks along the third axis of a grid.
const MAX_GRID_Z: usize = 65_535;
const BLOCK: [u32; 3] = [32, 8, 1];

/// What the kernels need of one projector, on its device.
pub(super) struct Plan {
    gpu: Gpu,
    back: Views,
    /// Rays mainly along y read the volume, those along x its transpose.
    along_y: Views,
    along_x: Views,
    weights: Mutex<Memory>,
    transposed: Mutex<Option<Memory>>,
}

struct Views {
    words: Memory,
    count: usize,
    taps: usize,
}

/// 32 bits behind the point.
fn fixed(x: f64) -> u64 {
    (x * (1u64 << 32) as f64).round() as i64 as u64
}

/// True if positions fit the kernels' fixed point and sizes their integers; else the CPU serves.
pub(super) fn can(g: &ParallelGeometry, views: &[View]) -> bool {
    let small = |x: f64| x.abs() < f64::from(1 << 28);
    let fits = |r: &Rays| small(r.origin) && small(r.per_col * g.n_cols as f64) && r.reach <= MAX_REACH;
    g.slice_len() < 1 << 31
        && g.sinogram_len() < 1 << 31
        && views
            .iter()
            .all(|v| fits(&Rays::new(g, v)) && small(g.column_of(v).0) && v.half_width / g.col_pitch <= MAX_REACH)
}

impl Views {
    /// The words of the kernel's `struct View`: origin, steps and reach, then height and slope, then the row.
    fn new(gpu: &Gpu, views: impl Iterator<Item = ([f64; 4], f64, usize)>) -> Result<Self> {
        let (mut words, mut most) = (Vec::<u64>::new(), 2);
        for ([origin, per_a, per_b, reach], half_width, row) in views {
            let (amplitude, slope) = (1.0 / half_width, 1.0 / (half_width * reach));
            words.extend([origin, per_a, per_b, reach].map(fixed));
            words.push(u64::from((amplitude as f32).to_bits()) | u64::from((slope as f32).to_bits()) << 32);
            words.push(row as u64);
            most = most.max(taps(reach));
        }
        let memory = gpu.allocate(8 * words.len())?;
        memory.upload(bytemuck::cast_slice(&words))?;
        Ok(Self { words: memory, count: words.len() / 6, taps: most })
    }
}

impl Plan {
    pub(super) fn new(gpu: &Gpu, g: &ParallelGeometry, views: &[View]) -> Result<Self> {
        let of_voxels = views.iter().map(|v| {
            let (origin, along_x, along_y) = g.column_of(v);
            ([origin, along_x, along_y, v.half_width / g.col_pitch], v.half_width, v.row)
        });
        let of_rays = |along_y: bool| {
            let rays = views.iter().map(|v| (Rays::new(g, v), v.row)).filter(move |(r, _)| r.along_y == along_y);
            Views::new(gpu, rays.map(|(r, row)| ([r.origin, r.per_col, r.per_plane, r.reach], r.half_width, row)))
        };
        Ok(Self {
            gpu: gpu.clone(),
            back: Views::new(gpu, of_voxels)?,
            along_y: of_rays(true)?,
            along_x: of_rays(false)?,
            weights: Mutex::new(gpu.allocate(4 * views.len())?),
            transposed: Mutex::new(None),
        })
    }

    /// Grid of 32 x 8 threads over `across` x `along`, with the slices in the third axis.
    fn extent(across: usize, along: usize, slice_groups: usize) -> Extent {
        let z = slice_groups.min(MAX_GRID_Z) as u32;
        Extent { grid: [across.div_ceil(32) as u32, along.div_ceil(8) as u32, z], block: BLOCK, shared_bytes: 0 }
    }

    pub(super) fn back(
        &self,
        g: &ParallelGeometry,
        weights: &[f32],
        sinogram: &mut Buffer<f32>,
        volume: &mut Buffer<f32>,
    ) -> Result<()> {
        let n_slices = volume.len() / g.slice_len();
        // Held until the launch is queued behind the upload: two callers do not mix their weights.
        let device_weights = self.weights.lock().unwrap_or_else(PoisonError::into_inner);
        device_weights.upload(bytemuck::cast_slice(weights))?;
        let args = [
            Arg::Address(sinogram.device_in(&self.gpu)?),
            Arg::Address(self.back.words.address()),
            Arg::Address(device_weights.address()),
            int(self.back.count),
            int(self.back.taps),
            int(g.angles_rad.len()),
            int(g.n_cols),
            int(g.nx),
            int(g.ny),
            int(n_slices),
            Arg::Address(volume.device_out(&self.gpu)?),
        ];
        self.gpu.launch(&PROJECTOR, "project_back", Self::extent(g.nx, g.ny, n_slices.div_ceil(SLICES)), &args)
    }

    /// `overwrites_all`: the sinogram's old contents need not reach the device.
    pub(super) fn forward(
        &self,
        g: &ParallelGeometry,
        volume: &mut Buffer<f32>,
        sinogram: &mut Buffer<f32>,
        overwrites_all: bool,
    ) -> Result<()> {
        let n_slices = volume.len() / g.slice_len();
        let from = volume.device_in(&self.gpu)?;
        let to = if overwrites_all { sinogram.device_out(&self.gpu)? } else { sinogram.device_inout(&self.gpu)? };
        if self.along_y.count > 0 {
            self.project(&self.along_y, from, g, (g.nx, g.ny), n_slices, to)?;
        }
        if self.along_x.count > 0 {
            let mut transposed = self.transposed.lock().unwrap_or_else(PoisonError::into_inner);
            let bytes = 4 * volume.len();
            if transposed.as_ref().is_none_or(|m| m.bytes() < bytes) {
                *transposed = None;
                *transposed = Some(self.gpu.allocate(bytes)?);
            }
            let turned = transposed.as_ref().expect("allocated above").address();
            let grid = [g.nx.div_ceil(32) as u32, g.ny.div_ceil(32) as u32, n_slices.min(MAX_GRID_Z) as u32];
            let args = [Arg::Address(from), int(g.nx), int(g.ny), int(n_slices), Arg::Address(turned)];
            self.gpu.launch(&PROJECTOR, "transpose_slices", Extent { grid, block: BLOCK, shared_bytes: 0 }, &args)?;
            self.project(&self.along_x, turned, g, (g.ny, g.nx), n_slices, to)?;
        }
        Ok(())
    }

    fn project(
        &self,
        views: &Views,
        volume: u64,
        g: &ParallelGeometry,
        (n_across, n_planes): (usize, usize),
        n_slices: usize,
        sinogram: u64,
    ) -> Result<()> {
        let args = [
            Arg::Address(volume),
            Arg::Address(views.words.address()),
            int(views.count),
            int(views.taps),
            int(g.angles_rad.len()),
            int(g.n_cols),
            int(n_across),
            int(n_planes),
            int(n_slices),
            Arg::Address(sinogram),
        ];
        let extent = Self::extent(g.n_cols, views.count, n_slices.div_ceil(SLICES));
        self.gpu.launch(&PROJECTOR, "project_forward", extent, &args)
    }
}

impl std::fmt::Debug for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Plan of {} views on {:?}", self.back.count, self.gpu)
    }
}
