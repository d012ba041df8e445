//! What the algorithm of Feldkamp, Davis and Kress ("Practical cone-beam algorithm", 1984) weighs views with, before
//! the ramp filter and after it:
//!
//!   f(X) = 1/2 sum over views of  dbeta (w_axis / w)^2  q(u, v),     q = ramp * (cos(i, j) m(beta, u) p)
//!
//! with w_axis the depth of the rotation axis, a ramp for columns of the width |U| w_axis that they have at the axis,
//! and m = 2 for rays that are measured once. m is Parker's for scans of less than a turn ("Optimal short scan convolution
//! reconstruction for fan beam CT", 1982), and a sine over the overlap for a detector that reaches further on one side
//! (Wang, "X-ray micro-CT with a displaced detector array", 2002); both sum to 2 over the two measurements of a ray.

use super::geometry::{ConeGeometry, ConeView};
use crate::{KernelError, Result};
use rayon::prelude::*;
use std::f64::consts::{PI, TAU};
use std::ops::Range;

/// Why the algorithm does not fit a scan.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum FdkFault {
    /// Sources that do not lie on a circle about z.
    #[error("the sources do not lie on a circle about z: {what} varies by {percent:.1} % of the distance to the axis")]
    NotACircle {
        /// "their height" or "their distance from the axis".
        what: &'static str,
        /// By how much.
        percent: f64,
    },
    /// Less than half a turn and the fan.
    #[error("the views cover {covered:.1} degrees, and half a turn with the fan of {fan:.1} degrees is {:.1}", 180.0 + fan)]
    TooShort {
        /// First to last view.
        covered: f64,
        /// Fan of the detector, both sides.
        fan: f64,
    },
    /// A displaced detector needs a whole turn.
    #[error("the detector is displaced, and the views cover {covered:.1} degrees of the whole turn that it needs")]
    DisplacedShort {
        /// First to last view.
        covered: f64,
    },
    /// No column sees the axis.
    #[error("the rotation axis projects to column {column:.1}, beside the detector's {n_cols}")]
    AxisUnseen {
        /// Where it projects.
        column: f64,
        /// Columns of the detector.
        n_cols: usize,
    },
    /// Fewer than two different angles.
    #[error("the views look from fewer than 2 directions")]
    OneDirection,
}

/// Which rays are measured twice.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Coverage {
    /// All.
    Full,
    /// Less than a turn: Parker's weights. Angles in radians.
    Short {
        /// First angle, and how far the last is from it.
        first: f64,
        /// The angle covered.
        range: f64,
    },
    /// A detector displaced to one side; columns up to this distance from the axis, at the axis, see it from both.
    Displaced {
        /// Half the width of the overlap.
        overlap: f64,
        /// True if the positive side reaches further.
        positive: bool,
    },
}

/// Everything that depends on the geometry alone.
#[derive(Clone, Debug)]
pub struct FdkWeights {
    /// The geometry with columns of zeros added where a detector is displaced, on the short side: the filter's tail lies
    /// there.
    pub geometry: ConeGeometry,
    /// Columns added before the first one.
    pub left: usize,
    /// Width of a column at the axis, for the ramp filter.
    pub pitch_at_axis: f64,
    /// Weight of every view in the back projection.
    pub views: Vec<f32>,
    /// Which rays are measured twice.
    pub coverage: Coverage,
    n_cols: usize,
    angles: Vec<f64>,
    axes: Vec<Axis>,
}

/// How a view sees the rotation axis.
#[derive(Clone, Copy, Debug)]
struct Axis {
    /// Column, depth, and width of a column at the axis.
    column: f64,
    depth: f64,
    pitch: f64,
    /// From the source to the axis.
    distance: f64,
}

impl FdkWeights {
    /// For a circular scan about z through the origin.
    ///
    /// # Errors
    /// [`KernelError::Fdk`] for scans that the algorithm does not fit.
    pub fn new(geometry: &ConeGeometry) -> Result<Self> {
        geometry.check()?;
        on_a_circle(&geometry.views)?;
        let angles: Vec<f64> = geometry.views.iter().map(|v| v.source[0].atan2(-v.source[1]).rem_euclid(TAU)).collect();
        let axes: Vec<Axis> = geometry.views.iter().map(axis).collect();
        let n_cols = geometry.n_cols;
        let (steps, widest) = steps(&angles)?;
        let coverage = coverage(geometry, &axes, widest)?;
        let mean = axes.iter().map(|a| a.pitch).sum::<f64>() / axes.len() as f64;
        // The filter's result is per pitch: a view with another one is scaled.
        let weight = |(axis, step): (&Axis, &f64)| (0.5 * step * axis.depth.powi(2) * mean / axis.pitch) as f32;
        let views = axes.iter().zip(&steps).map(weight).collect();
        let (mut wide, mut left) = (geometry.clone(), 0);
        if let Coverage::Displaced { positive, .. } = coverage {
            let column = axes.iter().map(|a| a.column).sum::<f64>() / axes.len() as f64;
            let added = (2.0 * column - (n_cols as f64 - 1.0)).abs().ceil() as usize;
            wide.n_cols += added;
            if positive {
                left = added;
                for view in &mut wide.views {
                    view.origin = std::array::from_fn(|k| view.origin[k] - added as f64 * view.along_u[k]);
                }
            }
        }
        Ok(Self { geometry: wide, left, pitch_at_axis: mean, views, coverage, n_cols, angles, axes })
    }

    /// cos m p for some rows and views of the scan: `sinogram` is `[rows, views, n_cols]`, the answer has the columns of
    /// the wider geometry. Per value: 8 bytes, about 10 flops.
    pub fn weigh(&self, rows: &Range<usize>, views: &[usize], sinogram: &[f32]) -> Vec<f32> {
        let (narrow, wide) = (self.n_cols, self.geometry.n_cols);
        let redundancy: Vec<Vec<f32>> = views.iter().map(|view| self.redundancy(*view)).collect();
        let mut out = vec![0.0f32; rows.len() * views.len() * wide];
        out.par_chunks_mut(wide).zip(sinogram.par_chunks(narrow)).enumerate().for_each(|(line, (out, p))| {
            let (row, k) = (rows.start + line / views.len(), line % views.len());
            let cosine = self.geometry.views[views[k]].row_cosine(row as f64);
            let out = &mut out[self.left..][..narrow];
            for (j, ((out, p), m)) in out.iter_mut().zip(p).zip(&redundancy[k]).enumerate() {
                *out = (cosine((self.left + j) as f64) * f64::from(*m)) as f32 * p;
            }
        });
        out
    }

    /// m of the columns of one view, of the detector as it is.
    fn redundancy(&self, view: usize) -> Vec<f32> {
        let axis = self.axes[view];
        let at_axis = |j: usize| (j as f64 - axis.column) * axis.pitch;
        let of_column = |j: usize| match self.coverage {
            Coverage::Full => 1.0,
            Coverage::Short { first, range } => {
                let beta = (self.angles[view] - first).rem_euclid(TAU);
                // A last angle that rounding puts just below the first one.
                let beta = if TAU - beta < 1e-9 { 0.0 } else { beta };
                parker(beta, -(at_axis(j) / axis.distance).atan(), 0.5 * (range - PI))
            }
            Coverage::Displaced { overlap, positive } => {
                let u = if positive { at_axis(j) } else { -at_axis(j) };
                displaced(u, overlap, axis.distance)
            }
        };
        (0..self.n_cols).map(|j| of_column(j) as f32).collect()
    }
}

/// Parker's weight at angle beta from the first view and fan angle alpha; the fan is at most delta. Sums to 2 over
/// (beta, alpha) and its conjugate (beta + pi + 2 alpha, -alpha).
fn parker(beta: f64, alpha: f64, delta: f64) -> f64 {
    let quarter = |x: f64, width: f64| 2.0 * (PI * x / (4.0 * width)).sin().powi(2);
    if beta <= 2.0 * delta - 2.0 * alpha {
        // At the very edge of the fan the ramp has no width.
        if delta - alpha > 1e-12 { quarter(beta, delta - alpha) } else { 1.0 }
    } else if beta <= PI - 2.0 * alpha {
        2.0
    } else if beta <= PI + 2.0 * delta {
        quarter(PI + 2.0 * delta - beta, delta + alpha)
    } else {
        0.0
    }
}

/// The weight at distance u from the axis, with a detector that reaches to -overlap only.
fn displaced(u: f64, overlap: f64, distance: f64) -> f64 {
    if u >= overlap {
        2.0
    } else if u <= -overlap {
        0.0
    } else {
        1.0 + (PI * (u / distance).atan() / (2.0 * (overlap / distance).atan())).sin()
    }
}

fn fault<T>(fault: FdkFault) -> Result<T> {
    Err(KernelError::Fdk(fault))
}

fn axis(view: &ConeView) -> Axis {
    let [column, _, depth] = view.project([0.0; 3]);
    let distance = view.source[0].hypot(view.source[1]);
    Axis { column, depth, pitch: view.pixel()[0] * depth, distance }
}

/// Whether the sources lie on a circle about z, to 1 %.
fn on_a_circle(views: &[ConeView]) -> Result<()> {
    let radius = |v: &ConeView| v.source[0].hypot(v.source[1]);
    let spread = |f: &dyn Fn(&ConeView) -> f64| {
        let (low, high) =
            views.iter().map(f).fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), x| (a.min(x), b.max(x)));
        high - low
    };
    let largest = views.iter().map(radius).fold(0.0, f64::max);
    for (what, spread) in
        [("their height", spread(&|v: &ConeView| v.source[2])), ("their distance from the axis", spread(&radius))]
    {
        if spread > 0.01 * largest {
            return fault(FdkFault::NotACircle { what, percent: 100.0 * spread / largest });
        }
    }
    Ok(())
}

/// (angle after a gap in radians, its width).
type Gap = (f64, f64);

/// dbeta of every view: half the distance between its neighbours on the circle; and the widest gap, as (angle after it,
/// width) if it is one that no step fills: more than four times the median.
fn steps(angles: &[f64]) -> Result<(Vec<f64>, Option<Gap>)> {
    let n = angles.len();
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|a, b| angles[*a].total_cmp(&angles[*b]));
    // gap[k] lies between order[k] and its successor, the last one across a turn.
    let next = |k: usize| if k + 1 < n { angles[order[k + 1]] } else { angles[order[0]] + TAU };
    let mut gaps: Vec<f64> = (0..n).map(|k| next(k) - angles[order[k]]).collect();
    let mut sorted: Vec<f64> = gaps.iter().copied().filter(|g| *g > 1e-9).collect();
    sorted.sort_by(f64::total_cmp);
    if sorted.len() < 2 {
        return fault(FdkFault::OneDirection);
    }
    let limit = 4.0 * sorted[sorted.len() / 2];
    let widest = (0..n).max_by(|a, b| gaps[*a].total_cmp(&gaps[*b])).unwrap_or(0);
    let open = (gaps[widest] > limit).then(|| (next(widest).rem_euclid(TAU), gaps[widest]));
    gaps.iter_mut().filter(|gap| **gap > limit).for_each(|gap| *gap = 0.0);
    let mut steps = vec![0.0; n];
    for k in 0..n {
        steps[order[k]] = 0.5 * (gaps[k] + gaps[(k + n - 1) % n]);
    }
    Ok((steps, open))
}

/// Which rays are measured twice; displaced is a detector whose middle is more than a tenth of its width off the axis, as
/// in RTK.
fn coverage(geometry: &ConeGeometry, axes: &[Axis], open: Option<(f64, f64)>) -> Result<Coverage> {
    let last = geometry.n_cols as f64 - 1.0;
    if let Some(axis) = axes.iter().find(|a| a.column < -0.5 || a.column > last + 0.5) {
        return fault(FdkFault::AxisUnseen { column: axis.column, n_cols: geometry.n_cols });
    }
    let mean = |f: &dyn Fn(&Axis) -> f64| axes.iter().map(f).sum::<f64>() / axes.len() as f64;
    let (low, high) = (mean(&|a: &Axis| -a.column * a.pitch), mean(&|a: &Axis| (last - a.column) * a.pitch));
    let is_displaced = (low + high).abs() >= 0.1 * (high - low);
    let covered = open.map(|(first, gap)| (first, TAU - gap));
    match (is_displaced, covered) {
        (true, Some((_, range))) => fault(FdkFault::DisplacedShort { covered: range.to_degrees() }),
        (true, None) => Ok(Coverage::Displaced { overlap: high.min(-low), positive: high > -low }),
        (false, None) => Ok(Coverage::Full),
        (false, Some((first, range))) => {
            let half = axes.iter().map(|a| ((-low).max(high) / a.distance).atan()).fold(0.0, f64::max);
            if range < PI + 2.0 * half - 1e-9 {
                let (covered, fan) = (range.to_degrees(), 2.0 * half.to_degrees());
                return fault(FdkFault::TooShort { covered, fan });
            }
            Ok(Coverage::Short { first, range })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ConeGeometry, Orbit};
    use super::*;

    fn scan(angles: Vec<f64>, n_cols: usize, shift: f64) -> ConeGeometry {
        let orbit = Orbit { shift: [shift, 0.0], ..Orbit::circle(angles, [100.0, 150.0], 1.5, [8, n_cols]) };
        ConeGeometry { views: orbit.views(), n_rows: 8, n_cols, shape: [4, 16, 16], voxel: 1.0, centre: [0.0; 3] }
    }

    fn turn(n: usize, range: f64) -> Vec<f64> {
        (0..n).map(|i| 0.4 + range * i as f64 / n as f64).collect()
    }

    /// What a ray gets from its two measurements, by interpolation between columns and views: 2 everywhere.
    #[test]
    fn conjugate_rays_sum_to_2() {
        let delta = 0.3f64;
        for alpha in [-0.29, -0.1, 0.0, 0.2] {
            for beta in [0.0, 0.05, 0.3, 0.9] {
                let conjugate = beta + PI + 2.0 * alpha;
                let two = parker(beta, alpha, delta) + parker(conjugate, -alpha, delta);
                assert!((two - 2.0).abs() < 1e-12 || conjugate > PI + 2.0 * delta, "{alpha} {beta}: {two}");
            }
        }
        for u in [-7.0, -3.0, 0.0, 2.0, 30.0] {
            assert!((displaced(u, 5.0, 100.0) + displaced(-u, 5.0, 100.0) - 2.0).abs() < 1e-12);
        }
    }

    #[test]
    fn coverage_is_recognised() {
        let of = |g: &ConeGeometry| FdkWeights::new(g).map(|w| w.coverage);
        assert_eq!(of(&scan(turn(90, TAU), 20, 0.0)).unwrap(), Coverage::Full);
        assert!(
            matches!(of(&scan(turn(90, 4.0), 20, 0.0)).unwrap(), Coverage::Short { first, .. } if (first - 0.4).abs() < 1e-9)
        );
        let Coverage::Displaced { overlap, positive } = of(&scan(turn(90, TAU), 20, 6.0)).unwrap() else { panic!() };
        // Columns from -9.5 + 4 = -5.5 at 1.5 mm, two thirds of it at the axis.
        assert!(positive && (overlap - 5.5).abs() < 1e-9, "{overlap}");
        let wide = FdkWeights::new(&scan(turn(90, TAU), 20, 6.0)).unwrap();
        assert_eq!((wide.left, wide.geometry.n_cols), (8, 28));
        assert!((wide.geometry.views[3].project([0.0; 3])[0] - 13.5).abs() < 1e-9, "the axis is in the middle");
        assert!(matches!(of(&scan(turn(90, 3.1), 20, 0.0)), Err(KernelError::Fdk(FdkFault::TooShort { .. }))));
        assert!(matches!(of(&scan(turn(90, 4.0), 20, 6.0)), Err(KernelError::Fdk(FdkFault::DisplacedShort { .. }))));
        assert!(matches!(of(&scan(turn(90, TAU), 20, 16.0)), Err(KernelError::Fdk(FdkFault::AxisUnseen { .. }))));
        assert!(matches!(of(&scan(vec![0.1; 3], 20, 0.0)), Err(KernelError::Fdk(FdkFault::OneDirection))));
    }

    #[test]
    fn steps_of_a_turn_and_of_a_part_add_up() {
        let (full, open) = steps(&turn(90, TAU)).unwrap();
        assert!(open.is_none() && full.iter().all(|s| (s - TAU / 90.0).abs() < 1e-12));
        let (part, open) = steps(&turn(90, 4.0)).unwrap();
        assert!(open.is_some() && (part.iter().sum::<f64>() - 4.0 * 89.0 / 90.0).abs() < 1e-9);
    }
}
