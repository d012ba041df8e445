//! The parallel-beam projector A and its exact adjoint A^T.
//!
//! (A f)(theta, j) = sum over voxels of w(theta, j, voxel) f(voxel), with the hat-shaped weights of [`Footprint`].
//! Slices are independent: `volume` is `[n_slices, ny, nx]` and `sinogram` is `[n_slices, n_angles, n_cols]`, both
//! row-major, and n_slices is read off the lengths. A slice's result has the same bits alone or among others, on
//! any number of threads.

mod cpu;
mod cuda;
mod gather;
mod geometry;
mod pack;
mod reference;

pub use geometry::{Footprint, ParallelGeometry};

use crate::machine::{self, Simd};
use crate::{Buffer, Device, KernelError, Result};
use geometry::View;
use std::sync::Arc;

/// The pair (A, A^T) of one geometry on one device. Cheap to clone and to restrict to a subset of the angles.
#[derive(Clone, Debug)]
pub struct Projector {
    device: Device,
    geometry: Arc<ParallelGeometry>,
    footprint: Footprint,
    /// The projections that this projector acts on, in the order of their rows.
    views: Arc<[View]>,
    /// Vector instructions of the fast path; none for the reference.
    simd: Option<Simd>,
    /// On a GPU that can take the geometry.
    plan: Option<Arc<cuda::Plan>>,
}

impl Projector {
    /// The pair for all angles of `geometry`.
    pub fn new(device: &Device, geometry: ParallelGeometry, footprint: Footprint) -> Result<Self> {
        geometry.check()?;
        let views: Arc<[View]> = geometry.views(footprint).into();
        let simd = cpu::can(&geometry, &views).then(machine::simd);
        let plan = plan(device, &geometry, &views)?;
        Ok(Self { device: device.clone(), geometry: Arc::new(geometry), footprint, views, simd, plan })
    }

    /// The pair restricted to some angles, in the order given. Its sinograms keep their full size: it reads and
    /// writes its own rows only.
    pub fn subset(&self, angle_indices: &[usize]) -> Result<Self> {
        let all = self.geometry.views(self.footprint);
        let view = |index: &usize| {
            all.get(*index).copied().ok_or(KernelError::Index { what: "angle", index: *index, bound: all.len() })
        };
        let views = angle_indices.iter().map(view).collect::<Result<Arc<[View]>>>()?;
        let mut sorted = angle_indices.to_vec();
        sorted.sort_unstable();
        if let Some(twice) = sorted.windows(2).find(|w| w[0] == w[1]) {
            return Err(KernelError::Parameter {
                what: "angle index",
                value: twice[0] as f64,
                rule: "given once only",
            });
        }
        let plan = plan(&self.device, &self.geometry, &views)?;
        Ok(Self { views, plan, ..self.clone() })
    }

    /// The geometry, with all angles.
    pub fn geometry(&self) -> &ParallelGeometry {
        &self.geometry
    }

    /// The footprint.
    pub fn footprint(&self) -> Footprint {
        self.footprint
    }

    /// Number of angles that this projector acts on.
    pub fn n_active(&self) -> usize {
        self.views.len()
    }

    /// sinogram = A volume. Overwrites the rows of this projector's angles, leaves the others.
    pub fn forward(&self, volume: &mut Buffer<f32>, sinogram: &mut Buffer<f32>) -> Result<()> {
        self.check(volume, sinogram)?;
        if let Some(plan) = &self.plan {
            return plan.forward(&self.geometry, volume, sinogram, self.overwrites_all());
        }
        let sinogram = if self.overwrites_all() { sinogram.host_out() } else { sinogram.host_mut() };
        let (g, views) = (&*self.geometry, &*self.views);
        match self.simd {
            Some(simd) => cpu::forward(simd, g, views, volume.host(), sinogram),
            None => reference::forward(g, views, volume.host(), sinogram),
        }
        Ok(())
    }

    /// volume = A^T sinogram, over this projector's angles.
    pub fn back(&self, sinogram: &mut Buffer<f32>, volume: &mut Buffer<f32>) -> Result<()> {
        self.back_weighted(&vec![1.0; self.views.len()], sinogram, volume)
    }

    /// volume = A^T diag(weights) sinogram, one weight for each of this projector's angles. Filtered back projection
    /// is this with weights = angular step * `col_pitch`.
    pub fn back_weighted(&self, weights: &[f32], sinogram: &mut Buffer<f32>, volume: &mut Buffer<f32>) -> Result<()> {
        self.check(volume, sinogram)?;
        if weights.len() != self.views.len() {
            return Err(KernelError::Shape {
                what: "weights [angles]",
                expected: self.views.len(),
                got: weights.len(),
            });
        }
        let (g, views) = (&*self.geometry, &*self.views);
        if let Some(plan) = &self.plan {
            return plan.back(g, weights, sinogram, volume);
        }
        match self.simd {
            Some(simd) => cpu::back(simd, g, views, weights, sinogram.host(), volume.host_out()),
            None => reference::back(g, views, weights, sinogram.host(), volume.host_out()),
        }
        Ok(())
    }

    /// Both arrays hold the same whole number of slices.
    fn check(&self, volume: &Buffer<f32>, sinogram: &Buffer<f32>) -> Result<usize> {
        let unit = self.geometry.slice_len();
        if !volume.len().is_multiple_of(unit) {
            return Err(KernelError::NotAMultiple { what: "volume [n_slices, ny, nx]", unit, got: volume.len() });
        }
        let n_slices = volume.len() / unit;
        let expected = n_slices * self.geometry.sinogram_len();
        if sinogram.len() != expected {
            let what = "sinogram [n_slices, n_angles, n_cols]";
            return Err(KernelError::Shape { what, expected, got: sinogram.len() });
        }
        Ok(n_slices)
    }

    /// True if every row of the sinogram is one of this projector's.
    fn overwrites_all(&self) -> bool {
        let mut seen = vec![false; self.geometry.angles_rad.len()];
        self.views.iter().for_each(|v| seen[v.row] = true);
        seen.into_iter().all(|s| s)
    }
}

fn plan(device: &Device, g: &ParallelGeometry, views: &[View]) -> Result<Option<Arc<cuda::Plan>>> {
    match device {
        Device::Gpu(gpu) if cuda::can(g, views) => Ok(Some(Arc::new(cuda::Plan::new(gpu, g, views)?))),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_fast;
