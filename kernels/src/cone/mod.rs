//! The cone-beam projector A and its exact adjoint A^T, and the weighted back projection of filtered views.
//!
//! Voxel-driven: voxel X falls on the detector at (column, row) = (u, v) at the relative depth w (0 at the source, 1 at
//! the detector) and spreads over the pixels under hats of half-width `reach`,
//!
//!   `(A f)(view, i, j) = c / cos(i, j)  sum over X of  hat(i - v) hat(j - u) / w^2  f(X)`,   hat(d) = (1 - |d|/reach)+/reach
//!
//! with c = voxel^3 / (pixel width * pixel height): a voxel's mass, spread over its shadow of area (voxel/w)^2 / cos. So A
//! gives line integrals, in the unit of length of the geometry. `reach` is that of the [`ConeFootprint`], which may ask for
//! Joseph's ray-driven pair instead.
//!
//! A projector works on a [`ConePart`]: some slices, some detector rows, some views. `volume` is `[slices, ny, nx]` and
//! `sinogram` is `[rows, views, n_cols]`, both row-major, of the part. A slab's back projection has the same bits as
//! these slices of the whole volume's; a forward projection of a slab is its share of the sum. No result depends on the
//! number of threads.

mod column;
mod cpu;
mod cuda;
mod general;
mod geometry;
mod joseph;
mod reference;
mod upright;
pub mod weights;

pub use geometry::{ConeGeometry, ConeView, Orbit, ViewFault};

use crate::machine::{self, Simd};
use crate::{Buffer, Device, KernelError, Result, Slices};
use std::ops::Range;
use std::sync::Arc;

/// Which pair: half-width of the hats, in pixels, along columns and rows, or rays instead of hats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConeFootprint {
    /// 1: linear interpolation between pixels, which filtered back projection wants.
    Linear,
    /// max(1, s), with the side s = voxel/(w pixel) of the voxel's shadow: no holes between the shadows, which
    /// projections of voxels want.
    Shadow,
    /// No hats: line integrals along rays, bilinear between voxels, and their exact adjoint. Filtered views are back-projected as by
    /// `Linear`.
    Joseph,
}

/// What of a scan is at hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConePart {
    /// Slices of the volume.
    pub slices: Range<usize>,
    /// Detector rows.
    pub rows: Range<usize>,
    /// Views, in the order of the sinogram.
    pub views: Vec<usize>,
}

impl ConePart {
    /// All of it.
    pub fn whole(geometry: &ConeGeometry) -> Self {
        Self { slices: 0..geometry.shape[0], rows: 0..geometry.n_rows, views: (0..geometry.views.len()).collect() }
    }
}

/// The pair (A, A^T) of a part of one geometry on one device.
#[derive(Clone, Debug)]
pub struct ConeProjector {
    geometry: Arc<ConeGeometry>,
    part: ConePart,
    footprint: ConeFootprint,
    /// Vector instructions of the fast path; none for the reference.
    simd: Option<Simd>,
    /// On a GPU that can take the geometry.
    plan: Option<Arc<cuda::Plan>>,
}

/// What a view's pixels are multiplied with on their way.
#[derive(Clone, Copy, Debug)]
enum Factor<'a> {
    /// c / cos of each pixel: the matched pair.
    Matched,
    /// One number for each view.
    PerView(&'a [f32]),
}

impl ConeProjector {
    /// The pair for `part` of `geometry`.
    ///
    /// # Errors
    /// Impossible geometries, indices out of range, shadows of more than 16 pixels.
    pub fn new(device: &Device, geometry: Arc<ConeGeometry>, part: ConePart, footprint: ConeFootprint) -> Result<Self> {
        geometry.check()?;
        let shadow = geometry.shadow();
        if footprint == ConeFootprint::Shadow && shadow > MAX_REACH {
            let what = "the shadow of a voxel";
            return Err(KernelError::Parameter { what, value: shadow, rule: "at most 16 pixels" });
        }
        for (what, end, bound) in
            [("slice", part.slices.end, geometry.shape[0]), ("detector row", part.rows.end, geometry.n_rows)]
        {
            if end > bound {
                return Err(KernelError::Index { what, index: end - 1, bound });
            }
        }
        if let Some(index) = part.views.iter().copied().find(|v| *v >= geometry.views.len()) {
            return Err(KernelError::Index { what: "view", index, bound: geometry.views.len() });
        }
        let mut projector = Self { geometry, part, footprint, simd: Some(machine::simd()), plan: None };
        if let Device::Gpu(gpu) = device
            && cuda::can(&projector)
        {
            projector.plan = Some(Arc::new(cuda::Plan::new(gpu, &projector)?));
        }
        Ok(projector)
    }

    /// The geometry, all of it.
    pub fn geometry(&self) -> &ConeGeometry {
        &self.geometry
    }

    /// What it works on.
    pub fn part(&self) -> &ConePart {
        &self.part
    }

    /// Voxels of the part.
    pub fn volume_len(&self) -> usize {
        self.part.slices.len() * self.geometry.slice_len()
    }

    /// Detector values of the part.
    pub fn sinogram_len(&self) -> usize {
        self.part.rows.len() * self.part.views.len() * self.geometry.n_cols
    }

    /// sinogram = A volume.
    pub fn forward(&self, volume: &mut Buffer<f32>, sinogram: &mut Buffer<f32>) -> Result<()> {
        self.check(volume.len(), sinogram.len())?;
        if let Some(plan) = self.plan.as_ref().filter(|_| !sinogram.is_empty() && !volume.is_empty()) {
            return plan.forward(self, volume, sinogram);
        }
        let sinogram = sinogram.host_out();
        sinogram.fill(0.0);
        self.add_here(volume.host(), sinogram);
        Ok(())
    }

    /// sinogram += A volume, in the host's memory: for volumes that come slab by slab. A GPU works on copies there, the host needs no more.
    pub fn forward_add(&self, volume: &[f32], sinogram: &mut [f32]) -> Result<()> {
        self.check(volume.len(), sinogram.len())?;
        if volume.is_empty() || sinogram.is_empty() {
            return Ok(());
        }
        let Some(plan) = &self.plan else {
            self.add_here(volume, sinogram);
            return Ok(());
        };
        let device = plan.device();
        let mut sum = Buffer::zeros(&device, sinogram.len())?;
        plan.forward(self, &mut Buffer::upload(plan.gpu(), volume)?, &mut sum)?;
        Slices::new(&device, 1)?.axpy(&[1.0], &mut Buffer::upload(plan.gpu(), sinogram)?, &mut sum)?;
        sum.download(sinogram)
    }

    /// volume = A^T sinogram, in the host's memory. A GPU works on copies there.
    pub fn back_on_host(&self, sinogram: &[f32], volume: &mut [f32]) -> Result<()> {
        self.check(volume.len(), sinogram.len())?;
        let Some(plan) = self.plan.as_ref().filter(|_| !sinogram.is_empty() && !volume.is_empty()) else {
            self.back_here(Factor::Matched, sinogram, volume);
            return Ok(());
        };
        let mut image = Buffer::zeros(&plan.device(), volume.len())?;
        plan.back(self, Factor::Matched, &mut Buffer::upload(plan.gpu(), sinogram)?, &mut image)?;
        image.download(volume)
    }

    /// volume = A^T sinogram.
    pub fn back(&self, sinogram: &mut Buffer<f32>, volume: &mut Buffer<f32>) -> Result<()> {
        self.back_with(Factor::Matched, sinogram, volume)
    }

    /// volume(X) = sum over views of weight / w^2 times the sinogram under X's hat: what turns filtered views into an
    /// image (Feldkamp, Davis and Kress 1984), with one weight for each view of the part.
    pub fn back_filtered(&self, weights: &[f32], sinogram: &mut Buffer<f32>, volume: &mut Buffer<f32>) -> Result<()> {
        if weights.len() != self.part.views.len() {
            let expected = self.part.views.len();
            return Err(KernelError::Shape { what: "weights [views]", expected, got: weights.len() });
        }
        self.back_with(Factor::PerView(weights), sinogram, volume)
    }

    /// sinogram = line integrals by Joseph's method on the CPU, whatever the footprint.
    pub fn forward_joseph(&self, volume: &mut Buffer<f32>, sinogram: &mut Buffer<f32>) -> Result<()> {
        self.check(volume.len(), sinogram.len())?;
        let sinogram = sinogram.host_out();
        sinogram.fill(0.0);
        joseph::forward(self, volume.host(), sinogram);
        Ok(())
    }

    fn back_with(&self, factor: Factor<'_>, sinogram: &mut Buffer<f32>, volume: &mut Buffer<f32>) -> Result<()> {
        self.check(volume.len(), sinogram.len())?;
        if let Some(plan) = self.plan.as_ref().filter(|_| !sinogram.is_empty() && !volume.is_empty()) {
            return plan.back(self, factor, sinogram, volume);
        }
        self.back_here(factor, sinogram.host(), volume.host_out());
        Ok(())
    }

    /// sinogram += A volume on the CPU.
    fn add_here(&self, volume: &[f32], sinogram: &mut [f32]) {
        match self.simd {
            _ if self.footprint == ConeFootprint::Joseph => joseph::forward(self, volume, sinogram),
            Some(simd) => cpu::forward(simd, self, volume, sinogram),
            None => reference::forward(self, volume, sinogram),
        }
    }

    /// volume = A^T sinogram on the CPU.
    fn back_here(&self, factor: Factor<'_>, sinogram: &[f32], volume: &mut [f32]) {
        match (factor, self.simd) {
            (Factor::Matched, _) if self.footprint == ConeFootprint::Joseph => joseph::back(self, sinogram, volume),
            (_, Some(simd)) => cpu::back(simd, self, factor, sinogram, volume),
            (_, None) => reference::back(self, factor, sinogram, volume),
        }
    }

    fn check(&self, volume: usize, sinogram: usize) -> Result<()> {
        for (what, expected, got) in [
            ("volume [slices, ny, nx]", self.volume_len(), volume),
            ("sinogram [rows, views, n_cols]", self.sinogram_len(), sinogram),
        ] {
            if got != expected {
                return Err(KernelError::Shape { what, expected, got });
            }
        }
        Ok(())
    }

    /// The half-widths of the hats, in pixels, at depth w of a view.
    fn reach(&self, view: &ConeView, w: f64) -> [f64; 2] {
        match self.footprint {
            ConeFootprint::Linear | ConeFootprint::Joseph => [1.0; 2],
            ConeFootprint::Shadow => view.pixel().map(|pixel| (self.geometry.voxel / (w * pixel)).max(1.0)),
        }
    }

    /// The widest hat.
    fn widest(&self) -> f64 {
        match self.footprint {
            ConeFootprint::Linear | ConeFootprint::Joseph => 1.0,
            ConeFootprint::Shadow => self.geometry.shadow().max(1.0),
        }
    }

    /// c of the matched pair.
    fn amplitude(&self, view: &ConeView) -> f64 {
        let [width, height] = view.pixel();
        self.geometry.voxel.powi(3) / (width * height)
    }

    /// The factors of the pixels of row `row` (of the detector) of the part's view `k`, `[n_cols]`.
    fn factors(&self, factor: Factor<'_>, k: usize, row: usize, out: &mut [f32]) {
        let view = &self.geometry.views[self.part.views[k]];
        match factor {
            Factor::PerView(weights) => out.fill(weights[k]),
            Factor::Matched => {
                let c = self.amplitude(view);
                let cosine = view.row_cosine(row as f64);
                out.iter_mut().enumerate().for_each(|(j, f)| *f = (c / cosine(j as f64)) as f32);
            }
        }
    }
}

/// Widest hat, in pixels.
const MAX_REACH: f64 = 16.0;

#[cfg(test)]
mod tests;
