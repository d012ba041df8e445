//! Cone-beam geometry: for every view the source and the detector as vectors, and the 3 x 4 matrix that follows.
//!
//! Lengths are in any one unit (the workload uses mm). Voxel (ix, iy, iz) is centred at `centre + voxel (i - (n - 1)/2)`;
//! pixel (row i, column j) at `origin + j along_u + i along_v`.

use crate::{KernelError, Result};
use std::f64::consts::TAU;

type Vec3 = [f64; 3];

/// One view: where the source is, and where the detector's pixels are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ConeView {
    /// The source, s.
    pub source: Vec3,
    /// Centre of the pixel of row 0 and column 0, d0.
    pub origin: Vec3,
    /// Step from a column to the next, U.
    pub along_u: Vec3,
    /// Step from a row to the next, V.
    pub along_v: Vec3,
}

/// Divergent rays from any views, and the grid of voxels.
#[derive(Clone, Debug, PartialEq)]
pub struct ConeGeometry {
    /// The views.
    pub views: Vec<ConeView>,
    /// Detector rows, along V.
    pub n_rows: usize,
    /// Detector columns, along U.
    pub n_cols: usize,
    /// Voxels, `[nz, ny, nx]`.
    pub shape: [usize; 3],
    /// Side of a voxel.
    pub voxel: f64,
    /// Centre of the volume, (x, y, z).
    pub centre: Vec3,
}

/// A source and a flat detector that turn about z, as most scanners do.
///
/// At angle beta the source is at `R (sin beta cos tilt, -cos beta cos tilt, sin tilt)`, the detector's middle on the
/// other side, U along (cos beta, sin beta, 0) and V upwards. Both rise by `rise_per_turn` on each turn (helix), with
/// z = 0 at the mean of the angles.
#[derive(Clone, Debug, PartialEq)]
pub struct Orbit {
    /// beta of each view, in radians.
    pub angles_rad: Vec<f64>,
    /// From the source to the rotation axis, R.
    pub source_to_axis: f64,
    /// From the source to the detector.
    pub source_to_detector: f64,
    /// Width and height of a pixel.
    pub pixel: [f64; 2],
    /// Detector rows and columns.
    pub detector: [usize; 2],
    /// Shift of the detector's middle along U and V.
    pub shift: [f64; 2],
    /// Turn of the detector in its own plane, in radians, from U towards V.
    pub roll_rad: f64,
    /// Elevation of the source over the plane of rotation, in radians: laminography.
    pub tilt_rad: f64,
    /// Rise of source and detector on one turn: helix.
    pub rise_per_turn: f64,
}

impl Orbit {
    /// A circle with a centred detector of square pixels.
    pub fn circle(
        angles_rad: Vec<f64>,
        [source_to_axis, source_to_detector]: [f64; 2],
        pixel: f64,
        detector: [usize; 2],
    ) -> Self {
        Self {
            angles_rad,
            source_to_axis,
            source_to_detector,
            pixel: [pixel; 2],
            detector,
            shift: [0.0; 2],
            roll_rad: 0.0,
            tilt_rad: 0.0,
            rise_per_turn: 0.0,
        }
    }

    /// The views.
    pub fn views(&self) -> Vec<ConeView> {
        let mean = self.angles_rad.iter().sum::<f64>() / self.angles_rad.len().max(1) as f64;
        self.angles_rad.iter().map(|beta| self.view(*beta, self.rise_per_turn * (beta - mean) / TAU)).collect()
    }

    fn view(&self, beta: f64, rise: f64) -> ConeView {
        let ((sin, cos), (sin_t, cos_t)) = (beta.sin_cos(), self.tilt_rad.sin_cos());
        let towards = [sin * cos_t, -cos * cos_t, sin_t];
        let (right, up) = ([cos, sin, 0.0], [-sin * sin_t, cos * sin_t, cos_t]);
        let (sin_r, cos_r) = self.roll_rad.sin_cos();
        let u = add(scaled(right, cos_r), scaled(up, sin_r));
        let v = add(scaled(right, -sin_r), scaled(up, cos_r));
        let lift = [0.0, 0.0, rise];
        let middle = add(scaled(towards, self.source_to_axis - self.source_to_detector), lift);
        let middle = add(middle, add(scaled(u, self.shift[0]), scaled(v, self.shift[1])));
        let (along_u, along_v) = (scaled(u, self.pixel[0]), scaled(v, self.pixel[1]));
        ConeView::centred(add(scaled(towards, self.source_to_axis), lift), middle, [along_u, along_v], self.detector)
    }
}

impl ConeView {
    /// The view whose detector of `[rows, columns]` has its middle at `middle`, as ASTRA's `cone_vec` gives it.
    pub fn centred(source: Vec3, middle: Vec3, [along_u, along_v]: [Vec3; 2], [n_rows, n_cols]: [usize; 2]) -> Self {
        let (half_u, half_v) = ((n_cols as f64 - 1.0) / 2.0, (n_rows as f64 - 1.0) / 2.0);
        let origin = sub(middle, add(scaled(along_u, half_u), scaled(along_v, half_v)));
        Self { source, origin, along_u, along_v }
    }

    /// Rows n_u, n_v, n_w of the projection of a point X: with d = X - s, a = d0 - s and D = a.(U x V),
    /// w = d.(U x V)/D is 0 at the source and 1 at the detector, column = -d.(a x V)/(D w), row = -d.(U x a)/(D w).
    pub fn rows(&self) -> [Vec3; 3] {
        let a = sub(self.origin, self.source);
        let normal = cross(self.along_u, self.along_v);
        let det = dot(a, normal);
        [
            scaled(cross(a, self.along_v), -1.0 / det),
            scaled(cross(self.along_u, a), -1.0 / det),
            scaled(normal, 1.0 / det),
        ]
    }

    /// (column, row, w) of a point.
    pub fn project(&self, point: Vec3) -> [f64; 3] {
        let d = sub(point, self.source);
        let [u, v, w] = self.rows().map(|row| dot(row, d));
        [u / w, v / w, w]
    }

    /// cos of the angle between the ray to pixel (row, column), both real numbers, and the detector's normal.
    pub fn cosine(&self, row: f64, col: f64) -> f64 {
        self.row_cosine(row)(col)
    }

    /// The same along a row.
    pub(crate) fn row_cosine(&self, row: f64) -> impl Fn(f64) -> f64 + use<> {
        let (a, u) = (sub(self.origin, self.source), self.along_u);
        let normal = cross(u, self.along_v);
        let start = add(a, scaled(self.along_v, row));
        // |ray|^2 = start.start + 2 j start.u + j^2 u.u
        let (c0, c1, c2) = (dot(start, start), dot(start, u), dot(u, u));
        let top = dot(a, normal).abs() / norm(normal);
        move |col| top / (c0 + col * (2.0 * c1 + col * c2)).sqrt()
    }

    /// Width and height of a pixel.
    pub fn pixel(&self) -> [f64; 2] {
        [norm(self.along_u), norm(self.along_v)]
    }
}

/// One view on the grid: `[k][c]` of the homogeneous (column w, row w, w) = m [ix, iy, iz, 1].
pub(crate) type Matrix = [[f64; 4]; 3];

impl ConeGeometry {
    /// Voxels of a slice.
    pub fn slice_len(&self) -> usize {
        self.shape[1] * self.shape[2]
    }

    /// The matrix of a view, for indices of voxels.
    pub(crate) fn matrix(&self, view: &ConeView) -> Matrix {
        let first = self.corner_from(view.source);
        view.rows().map(|row| {
            let [x, y, z] = scaled(row, self.voxel);
            [x, y, z, dot(row, first)]
        })
    }

    /// Centre of voxel (0, 0, 0), seen from a point.
    fn corner_from(&self, point: Vec3) -> Vec3 {
        let [nz, ny, nx] = self.shape;
        let half = [nx, ny, nz].map(|n| (n as f64 - 1.0) / 2.0 * self.voxel);
        sub(sub(self.centre, half), point)
    }

    /// The outer corners of the slices `z` of the volume: of cubes, not centres.
    fn corners(&self, z: std::ops::Range<usize>) -> [[f64; 3]; 8] {
        let [_, ny, nx] = self.shape;
        let low = [-0.5, -0.5, z.start as f64 - 0.5];
        let high = [nx as f64 - 0.5, ny as f64 - 0.5, z.end as f64 - 0.5];
        std::array::from_fn(|c| std::array::from_fn(|k| if c >> k & 1 == 0 { low[k] } else { high[k] }))
    }

    /// Side of the largest shadow of a voxel, in pixels: the voxel nearest to a source.
    pub fn shadow(&self) -> f64 {
        let of_view = |view: &ConeView| {
            let m = self.matrix(view);
            let nearest = self.corners(0..self.shape[0]).iter().map(|c| apply(&m[2], c)).fold(f64::INFINITY, f64::min);
            let [u, v] = view.pixel();
            self.voxel / u.min(v) / nearest
        };
        self.views.iter().map(of_view).fold(0.0, f64::max)
    }

    /// Detector rows (first, last + 1) that the shadows of the slices `z` touch in `view`, with hats of half-width
    /// `reach` pixels; empty where they miss the detector.
    pub fn rows_of(&self, view: usize, z: std::ops::Range<usize>, reach: f64) -> std::ops::Range<usize> {
        let m = self.matrix(&self.views[view]);
        let (mut low, mut high) = ([f64::INFINITY; 2], [f64::NEG_INFINITY; 2]);
        for corner in self.corners(z) {
            let w = apply(&m[2], &corner);
            for k in 0..2 {
                let at = apply(&m[k], &corner) / w;
                (low[k], high[k]) = (low[k].min(at), high[k].max(at));
            }
        }
        let clamp = |x: f64, n: usize| x.clamp(0.0, n as f64) as usize;
        let range = |k: usize, n: usize| clamp((low[k] - reach).floor(), n)..clamp((high[k] + reach).ceil() + 1.0, n);
        let (cols, rows) = (range(0, self.n_cols), range(1, self.n_rows));
        if cols.is_empty() { 0..0 } else { rows }
    }

    /// Detector rows (first, last + 1) to which rays go that Joseph's method takes through the slices `z` in `view`: those that meet the box one
    /// voxel beyond the outermost centres.
    pub fn rows_of_rays(&self, view: usize, z: std::ops::Range<usize>) -> std::ops::Range<usize> {
        let m = self.matrix(&self.views[view]);
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for corner in self.corners(z) {
            // Corners of cubes are half a voxel beyond their centres.
            let middle = [self.shape[2] as f64 / 2.0 - 0.5, self.shape[1] as f64 / 2.0 - 0.5];
            let beyond = |k: usize| corner[k] + 0.5 * (corner[k] - middle[k]).signum();
            let [x, y] = [beyond(0), beyond(1)];
            for z in [corner[2] - 0.5, corner[2] + 0.5] {
                let w = apply(&m[2], &[x, y, z]);
                if w <= 0.0 {
                    return 0..self.n_rows; // beside the source
                }
                let row = apply(&m[1], &[x, y, z]) / w;
                (low, high) = (low.min(row), high.max(row));
            }
        }
        let clamp = |x: f64| x.clamp(0.0, self.n_rows as f64) as usize;
        let (first, end) = (clamp(low.floor()), clamp(high.ceil() + 1.0));
        first.min(end)..end
    }

    /// Refuses sizes of zero, steps that span no plane, a source or a detector that touches the volume, a volume
    /// behind the source, and views that see nothing of the volume.
    pub fn check(&self) -> Result<()> {
        let [nz, ny, nx] = self.shape;
        let sizes = [("n_rows", self.n_rows), ("n_cols", self.n_cols), ("nx", nx), ("ny", ny), ("nz", nz)];
        for (what, n) in sizes.into_iter().chain([("n_views", self.views.len())]) {
            // 2^24: indices along one axis are exact in f32 and products of two fit device integers.
            if n == 0 || n > 1 << 24 {
                return Err(KernelError::Parameter { what, value: n as f64, rule: "between 1 and 2^24" });
            }
        }
        if !(self.voxel > 0.0 && self.voxel.is_finite()) {
            return Err(KernelError::Parameter { what: "voxel", value: self.voxel, rule: "positive" });
        }
        for (i, view) in self.views.iter().enumerate() {
            if let Some(fault) = self.fault(view) {
                return Err(KernelError::View { view: i, fault });
            }
        }
        Ok(())
    }

    /// What is impossible about a view.
    fn fault(&self, view: &ConeView) -> Option<ViewFault> {
        let all = [view.source, view.origin, view.along_u, view.along_v];
        if !all.iter().chain([&self.centre]).flatten().all(|x| x.is_finite() && x.abs() < 1e12) {
            return Some(ViewFault::NotFinite);
        }
        let normal = cross(view.along_u, view.along_v);
        if norm(normal) < 1e-6 * norm(view.along_u) * norm(view.along_v) || norm(normal) == 0.0 {
            return Some(ViewFault::NoPlane);
        }
        let a = sub(view.origin, view.source);
        if dot(a, normal).abs() < 1e-9 * norm(a) * norm(normal) {
            return Some(ViewFault::SourceInDetector);
        }
        let m = self.matrix(view);
        let depths = self.corners(0..self.shape[0]).map(|corner| apply(&m[2], &corner));
        let (nearest, furthest) =
            depths.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), w| (a.min(*w), b.max(*w)));
        let inside = self.corner_from(view.source).iter().zip([self.shape[2], self.shape[1], self.shape[0]]).all(
            |(first, n)| {
                let at = -first / self.voxel;
                at > -0.5 && at < n as f64 - 0.5
            },
        );
        if inside {
            return Some(ViewFault::SourceInVolume);
        }
        if furthest <= 0.0 {
            return Some(ViewFault::Behind);
        }
        // Beside the source: in front of its plane with one part, behind it with another.
        if nearest <= 1e-6 {
            return Some(ViewFault::BesideSource);
        }
        if furthest >= 1.0 {
            return Some(ViewFault::DetectorInVolume { depth: furthest });
        }
        let (n_rows, n_cols) = (self.n_rows as f64, self.n_cols as f64);
        let shadow = self.corners(0..self.shape[0]).map(|c| {
            let w = apply(&m[2], &c);
            [apply(&m[0], &c) / w, apply(&m[1], &c) / w]
        });
        let misses = |k: usize, n: f64| shadow.iter().all(|s| s[k] < -0.5) || shadow.iter().all(|s| s[k] > n - 0.5);
        (misses(0, n_cols) || misses(1, n_rows)).then_some(ViewFault::Misses)
    }
}

/// Why a view is impossible.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum ViewFault {
    /// A number that is no number, or absurdly large.
    #[error("has a number that is not finite")]
    NotFinite,
    /// The steps of the detector are parallel or zero.
    #[error("has a detector whose columns and rows run along one line")]
    NoPlane,
    /// The source lies in the plane of the detector.
    #[error("has its source in the plane of the detector")]
    SourceInDetector,
    /// The source lies in the volume.
    #[error("has its source inside the volume")]
    SourceInVolume,
    /// The whole volume is on the other side of the source.
    #[error("has the volume behind its source")]
    Behind,
    /// A part of the volume is beside or behind the source.
    #[error("has its source so close that a part of the volume is beside or behind it")]
    BesideSource,
    /// The detector cuts the volume or lies before it.
    #[error("has its detector inside or before the volume, which reaches {:.1} % of the way to it", 100.0 * depth)]
    DetectorInVolume {
        /// Depth of the furthest corner, 1 at the detector.
        depth: f64,
    },
    /// No ray meets the volume.
    #[error("sees nothing of the volume: no ray from the source to the detector meets it")]
    Misses,
}

/// m [ix, iy, iz, 1] for one row of a matrix.
#[inline(always)]
pub(crate) fn apply(row: &[f64; 4], [x, y, z]: &Vec3) -> f64 {
    row[0] * x + row[1] * y + row[2] * z + row[3]
}

pub(crate) fn dot(a: Vec3, b: Vec3) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

pub(crate) fn cross(a: Vec3, b: Vec3) -> Vec3 {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}

pub(crate) fn sub(a: Vec3, b: Vec3) -> Vec3 {
    std::array::from_fn(|k| a[k] - b[k])
}

pub(crate) fn add(a: Vec3, b: Vec3) -> Vec3 {
    std::array::from_fn(|k| a[k] + b[k])
}

pub(crate) fn scaled(a: Vec3, s: f64) -> Vec3 {
    a.map(|x| x * s)
}

pub(crate) fn norm(a: Vec3) -> f64 {
    dot(a, a).sqrt()
}
