//! Parallel-beam geometry and the footprint of a voxel.

use crate::{KernelError, Result};

/// Parallel beam, slice by slice, in units of one voxel.
///
/// Voxel (ix, iy) is centred at x = ix - (nx - 1)/2, y = iy - (ny - 1)/2; the rotation axis is at the origin. At
/// angle theta it projects to u = x cos theta + y sin theta, which is detector column `axis_col` + u / `col_pitch`.
#[derive(Clone, Debug, PartialEq)]
pub struct ParallelGeometry {
    /// Angles of the projections, in radians.
    pub angles_rad: Vec<f64>,
    /// Detector columns.
    pub n_cols: usize,
    /// Width of a detector column in voxels.
    pub col_pitch: f64,
    /// Column to which the rotation axis projects; columns are centred at 0, 1, …, so (n_cols - 1)/2 is the middle.
    pub axis_col: f64,
    /// Voxels along x.
    pub nx: usize,
    /// Voxels along y.
    pub ny: usize,
}

/// How a voxel's shadow is spread over the detector: a hat of half-width h around the projection of its centre,
/// w = (1 - |d|/h)+ / h, where d is the distance to the column's centre, all in voxels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Footprint {
    /// h = max(1, col_pitch): voxel-driven linear interpolation. For pitch 1 the weights of a voxel add to 1 at
    /// every angle.
    Linear,
    /// h = max(|cos theta|, |sin theta|): the same as ray-driven Joseph, line integrals along the columns' centres
    /// (P. Joseph, "An improved algorithm for reprojecting rays through pixel images", 1982).
    Joseph,
}

/// One projection, with everything that its weights need.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct View {
    /// Row of the sinogram.
    pub row: usize,
    pub cos: f64,
    pub sin: f64,
    /// h, in voxels.
    pub half_width: f64,
}

impl ParallelGeometry {
    /// `n_angles` angles spread evenly over half a turn, a square volume and a centred detector of the same width.
    pub fn centred(n_angles: usize, width: usize) -> Self {
        let step = std::f64::consts::PI / n_angles as f64;
        Self {
            angles_rad: (0..n_angles).map(|i| i as f64 * step).collect(),
            n_cols: width,
            col_pitch: 1.0,
            axis_col: (width as f64 - 1.0) / 2.0,
            nx: width,
            ny: width,
        }
    }

    /// Voxels of a slice.
    pub fn slice_len(&self) -> usize {
        self.nx * self.ny
    }

    /// Detector values of a slice: n_angles * n_cols.
    pub fn sinogram_len(&self) -> usize {
        self.angles_rad.len() * self.n_cols
    }

    /// Refuses sizes of zero, a pitch that is not positive, and numbers that are not finite.
    pub fn check(&self) -> Result<()> {
        for (what, n) in
            [("n_angles", self.angles_rad.len()), ("n_cols", self.n_cols), ("nx", self.nx), ("ny", self.ny)]
        {
            // 2^24: indices along one axis are exact in f32 and products of two fit device integers.
            if n == 0 || n > 1 << 24 {
                return Err(KernelError::Parameter { what, value: n as f64, rule: "between 1 and 2^24" });
            }
        }
        if !(self.col_pitch > 0.0 && self.col_pitch.is_finite()) {
            return Err(KernelError::Parameter { what: "col_pitch", value: self.col_pitch, rule: "positive" });
        }
        for (what, value) in
            [("axis_col", self.axis_col)].into_iter().chain(self.angles_rad.iter().map(|a| ("angle", *a)))
        {
            if !(value.is_finite() && value.abs() < 1e9) {
                return Err(KernelError::Parameter { what, value, rule: "finite" });
            }
        }
        Ok(())
    }

    pub(crate) fn views(&self, footprint: Footprint) -> Vec<View> {
        let view = |(row, angle): (usize, &f64)| {
            let (sin, cos) = angle.sin_cos();
            let half_width = match footprint {
                Footprint::Linear => self.col_pitch.max(1.0),
                Footprint::Joseph => cos.abs().max(sin.abs()),
            };
            View { row, cos, sin, half_width }
        };
        self.angles_rad.iter().enumerate().map(view).collect()
    }

    /// Column (a real number) to which the centre of voxel (0, 0) projects, and its steps along x and y.
    pub(crate) fn column_of(&self, view: &View) -> (f64, f64, f64) {
        let (along_x, along_y) = (view.cos / self.col_pitch, view.sin / self.col_pitch);
        let origin = self.axis_col - along_x * (self.nx as f64 - 1.0) / 2.0 - along_y * (self.ny as f64 - 1.0) / 2.0;
        (origin, along_x, along_y)
    }
}
