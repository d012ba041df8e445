//! Launches of the cone-beam device kernels, on a GPU or under emulation.

use super::geometry::{add, cross, dot, norm, scaled, sub};
use super::{ConeFootprint, ConeProjector, ConeView, Factor};
use crate::gpu::{Arg, CONE, Extent, Gpu, Memory, int};
use crate::{Buffer, Device, Result};
use std::sync::{Mutex, PoisonError};

/// Slices that one thread works on (`CONE_SLICES` of the kernel).
const SLICES: usize = 8;
/// Most blocks along the second and third axis of a grid.
const MAX_GRID: usize = 65_535;
const BLOCK: [u32; 3] = [32, 8, 1];

/// What the kernels need of one projector, on its device.
pub(super) struct Plan {
    gpu: Gpu,
    views: Memory,
    weights: Mutex<Memory>,
}

/// True if sizes fit the kernels' integers, and no ray runs along the planes that it is to cross (of Joseph's, each chooses its own); else the CPU
/// serves.
pub(super) fn can(p: &ConeProjector) -> bool {
    let small = p.volume_len() < 1 << 31 && p.sinogram_len() < 1 << 31;
    let lines = p.part.rows.len() * p.part.views.len();
    let crossed = |view: &ConeView| {
        let axis = main_axis(p, view);
        let corners = [(0, 0), (0, p.geometry.n_cols - 1), (p.geometry.n_rows - 1, 0)];
        let corners = corners.into_iter().chain([(p.geometry.n_rows - 1, p.geometry.n_cols - 1)]);
        corners.map(|(row, col)| ray(view, row, col)).all(|r| r[axis].abs() > 0.2 * norm(r))
    };
    let joseph = p.footprint == ConeFootprint::Joseph;
    small && lines < 1 << 31 && (joseph || p.part.views.iter().all(|v| crossed(&p.geometry.views[*v])))
}

fn ray(view: &ConeView, row: usize, col: usize) -> [f64; 3] {
    let pixel = add(view.origin, add(scaled(view.along_u, col as f64), scaled(view.along_v, row as f64)));
    sub(pixel, view.source)
}

/// The largest component of the ray to the middle of the detector.
fn main_axis(p: &ConeProjector, view: &ConeView) -> usize {
    let middle = ray(view, p.geometry.n_rows / 2, p.geometry.n_cols / 2);
    (0..3).fold(0, |best, k| if middle[k].abs() > middle[best].abs() { k } else { best })
}

/// The kernel's `struct ConeView`.
fn words(p: &ConeProjector, view: &ConeView) -> Vec<u64> {
    let g = &*p.geometry;
    let [nz, ny, nx] = g.shape;
    let corner = sub(g.centre, [nx, ny, nz].map(|n| (n as f64 - 1.0) / 2.0 * g.voxel));
    let index = |point: [f64; 3]| scaled(sub(point, corner), 1.0 / g.voxel);
    let (a, u, v) = (sub(view.origin, view.source), view.along_u, view.along_v);
    let normal = cross(u, v);
    let distance = dot(a, normal).abs() / norm(normal);
    let ray = [dot(a, a), dot(a, v), dot(v, v), dot(a, u), dot(u, v), dot(u, u)];
    let sides = match p.footprint {
        ConeFootprint::Linear | ConeFootprint::Joseph => [0.0; 2],
        ConeFootprint::Shadow => view.pixel().map(|pixel| g.voxel / pixel),
    };
    let steps = [u, v].map(|step| scaled(step, 1.0 / g.voxel));
    let numbers = g.matrix(view).into_iter().flatten().chain(ray).chain([p.amplitude(view) / distance]).chain(sides);
    let numbers = numbers.chain(index(view.source)).chain(index(view.origin)).chain(steps.into_iter().flatten());
    numbers.chain([g.voxel]).map(f64::to_bits).chain([main_axis(p, view) as u64]).collect()
}

impl Plan {
    pub(super) fn new(gpu: &Gpu, p: &ConeProjector) -> Result<Self> {
        let words: Vec<u64> = p.part.views.iter().flat_map(|v| words(p, &p.geometry.views[*v])).collect();
        let views = gpu.allocate(8 * words.len())?;
        views.upload(bytemuck::cast_slice(&words))?;
        Ok(Self { gpu: gpu.clone(), views, weights: Mutex::new(gpu.allocate(4 * p.part.views.len())?) })
    }

    /// Where it works.
    pub(super) fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// The same as a device.
    pub(super) fn device(&self) -> Device {
        Device::Gpu(self.gpu.clone())
    }

    /// Grid of 32 x 8 threads over `across` x `along`, and `deep` blocks in the third axis.
    fn extent(across: usize, along: usize, deep: usize) -> Extent {
        let grid = [across.div_ceil(32), along.div_ceil(8).min(MAX_GRID), deep.min(MAX_GRID)].map(|n| n as u32);
        Extent { grid, block: BLOCK, shared_bytes: 0 }
    }

    pub(super) fn back(
        &self,
        p: &ConeProjector,
        factor: Factor<'_>,
        sinogram: &mut Buffer<f32>,
        volume: &mut Buffer<f32>,
    ) -> Result<()> {
        if p.footprint == ConeFootprint::Joseph && matches!(factor, Factor::Matched) {
            let to = volume.device_out(&self.gpu)?;
            let args = self.args(p, sinogram.device_in(&self.gpu)?, to);
            let [_, ny, nx] = p.geometry.shape;
            return self.gpu.launch(&CONE, "cone_joseph_back", Self::extent(nx, ny, p.part.slices.len()), &args);
        }
        let (rows, slices, n_views) = (&p.part.rows, &p.part.slices, p.part.views.len());
        let from = sinogram.device_in(&self.gpu)?;
        let ones = vec![1.0f32; n_views];
        let (weights, scaled) = match factor {
            Factor::PerView(weights) => (weights, None),
            Factor::Matched => (ones.as_slice(), Some(self.gpu.allocate(4 * sinogram.len())?)),
        };
        if let Some(scaled) = &scaled {
            self.scale(p, from, scaled.address())?;
        }
        // Held until the launch is queued behind the upload: two callers do not mix their weights.
        let device_weights = self.weights.lock().unwrap_or_else(PoisonError::into_inner);
        device_weights.upload(bytemuck::cast_slice(weights))?;
        let [_, ny, nx] = p.geometry.shape;
        let args = [
            Arg::Address(scaled.as_ref().map_or(from, Memory::address)),
            Arg::Address(self.views.address()),
            Arg::Address(device_weights.address()),
            int(n_views),
            int(rows.start),
            int(rows.len()),
            int(p.geometry.n_cols),
            int(nx),
            int(ny),
            int(slices.start),
            int(slices.len()),
            Arg::Address(volume.device_out(&self.gpu)?),
        ];
        self.gpu.launch(&CONE, "cone_back", Self::extent(nx, ny, slices.len().div_ceil(SLICES)), &args)?;
        // The scaled copy is freed when the kernel that reads it has run.
        if scaled.is_some() { self.gpu.synchronize() } else { Ok(()) }
    }

    pub(super) fn forward(
        &self,
        p: &ConeProjector,
        volume: &mut Buffer<f32>,
        sinogram: &mut Buffer<f32>,
    ) -> Result<()> {
        let to = sinogram.device_out(&self.gpu)?;
        let args = self.args(p, volume.device_in(&self.gpu)?, to);
        let extent = Self::extent(p.geometry.n_cols, p.part.rows.len(), p.part.views.len());
        if p.footprint == ConeFootprint::Joseph {
            return self.gpu.launch(&CONE, "cone_joseph_forward", extent, &args);
        }
        self.gpu.launch(&CONE, "cone_forward", extent, &args)?;
        self.scale(p, to, to)
    }

    /// Arguments of a kernel that goes from one array to the other without weights.
    fn args(&self, p: &ConeProjector, from: u64, to: u64) -> [Arg; 11] {
        let (rows, slices, [_, ny, nx]) = (&p.part.rows, &p.part.slices, p.geometry.shape);
        [
            Arg::Address(from),
            Arg::Address(self.views.address()),
            int(p.part.views.len()),
            int(rows.start),
            int(rows.len()),
            int(p.geometry.n_cols),
            int(nx),
            int(ny),
            int(slices.start),
            int(slices.len()),
            Arg::Address(to),
        ]
    }

    fn scale(&self, p: &ConeProjector, from: u64, to: u64) -> Result<()> {
        let (n_rows, n_views) = (p.part.rows.len(), p.part.views.len());
        let args = [
            Arg::Address(from),
            Arg::Address(self.views.address()),
            int(p.part.rows.start),
            int(n_rows),
            int(n_views),
            int(p.geometry.n_cols),
            Arg::Address(to),
        ];
        self.gpu.launch(&CONE, "cone_scale", Self::extent(p.geometry.n_cols, n_rows * n_views, 1), &args)
    }
}

impl std::fmt::Debug for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Plan of cone-beam views on {:?}", self.gpu)
    }
}
