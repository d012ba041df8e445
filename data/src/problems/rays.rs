//! Exact projections of a [`Phantom`]: parallel beams, and beams from a point in any position.
//!
//! Convention: a ray of the parallel view θ at detector coordinates (u, v) is the set of points with
//! u = x cos θ + y sin θ and v = z; its direction is (−sin θ, cos θ, 0).

use std::ops::Range;

use rayon::prelude::*;

use super::phantom::{Ellipsoid, Phantom, cross, dot, sub};

/// Where the rays of a parallel-beam scan run, in the phantom's coordinates.
#[derive(Clone, Debug, PartialEq)]
pub struct ParallelRays {
    /// Angle per view in radians, `[n_angles]`.
    pub angles_rad: Vec<f64>,
    /// Detector rows. Row r lies at v = (r − (n_rows − 1)/2) · pitch.
    pub n_rows: usize,
    /// Detector columns. Column j lies at u = (j − axis_col) · pitch.
    pub n_cols: usize,
    /// Distance of neighbouring rows and columns. The width of [-1, 1] is `2 / n_cols` pitches.
    pub pitch: f64,
    /// Column of the rotation axis, 0-based at pixel centres; (n_cols − 1)/2 is centred.
    pub axis_col: f64,
}

impl ParallelRays {
    /// A detector that just covers [-1, 1] in width, with a centred axis. Its pitch equals the
    /// voxel size of [`Phantom::voxels`] with `nx = n_cols`.
    pub fn centred(angles_rad: Vec<f64>, n_rows: usize, n_cols: usize) -> Self {
        let pitch = 2.0 / n_cols as f64;
        Self { angles_rad, n_rows, n_cols, pitch, axis_col: (n_cols as f64 - 1.0) / 2.0 }
    }
}

/// The shadow of one ellipsoid in one view: q⊥(u, v) = u·u_part + v·v_part − c_part is the ray's
/// distance from the centre after the ellipsoid was mapped to the unit ball; the chord is
/// 2 √(1 − |q⊥|²) / |W d|.
struct Shadow {
    u_part: [f64; 3],
    v_part: [f64; 3],
    c_part: [f64; 3],
    /// value · 2 |u_part| / |W d|
    scale: f64,
}

impl Shadow {
    fn new(part: &Ellipsoid, angle: f64) -> Self {
        let (sin, cos) = angle.sin_cos();
        let along = part.to_unit_ball([-sin, cos, 0.0]);
        let length2 = dot(along, along);
        let across = |v: [f64; 3]| {
            let v = part.to_unit_ball(v);
            let share = dot(v, along) / length2;
            std::array::from_fn(|k| v[k] - share * along[k])
        };
        let u_part = across([cos, sin, 0.0]);
        let scale = part.value * 2.0 * (dot(u_part, u_part) / length2).sqrt();
        Self { u_part, v_part: across([0.0, 0.0, 1.0]), c_part: across(part.centre), scale }
    }

    /// Adds the chords of detector row `v` to `line` [n_cols].
    fn add_row(&self, v: f64, rays: &ParallelRays, line: &mut [f64]) {
        // |q⊥|² = a u² + 2 b u + c <= 1 between u0 - half and u0 + half
        let offset: [f64; 3] = std::array::from_fn(|k| v * self.v_part[k] - self.c_part[k]);
        let a = dot(self.u_part, self.u_part);
        let u0 = -dot(self.u_part, offset) / a;
        let half2 = u0 * u0 - (dot(offset, offset) - 1.0) / a;
        if half2 <= 0.0 {
            return;
        }
        let half = half2.sqrt();
        let column = |u: f64| u / rays.pitch + rays.axis_col;
        let first = column(u0 - half).ceil().max(0.0) as usize;
        let last = column(u0 + half).floor().min(line.len() as f64 - 1.0);
        if last < first as f64 {
            return;
        }
        // Per column: 8 bytes read and written, 6 flops and a square root.
        for (j, value) in line.iter_mut().enumerate().take(last as usize + 1).skip(first) {
            let du = (j as f64 - rays.axis_col) * rays.pitch - u0;
            *value += self.scale * (half2 - du * du).max(0.0).sqrt();
        }
    }
}

impl Phantom {
    /// Exact line integrals for the detector rows `rows`: `[rows.len(), n_angles, n_cols]`,
    /// row-major (sinogram order), in units of value × normalised length. Divide by `pitch` for
    /// lengths in voxels.
    ///
    /// # Panics
    /// `rows` exceeds `n_rows`.
    pub fn line_integrals(&self, rays: &ParallelRays, rows: Range<usize>) -> Vec<f32> {
        assert!(rows.end <= rays.n_rows, "rows {rows:?} exceed the detector's {}", rays.n_rows);
        let (n_angles, n_cols) = (rays.angles_rad.len(), rays.n_cols);
        let shadows: Vec<Vec<Shadow>> = rays
            .angles_rad
            .iter()
            .map(|&angle| self.ellipsoids.iter().map(|part| Shadow::new(part, angle)).collect())
            .collect();
        let mut integrals = vec![0.0; rows.len() * n_angles * n_cols];
        if integrals.is_empty() {
            return integrals;
        }
        let middle = (rays.n_rows as f64 - 1.0) / 2.0;
        integrals.par_chunks_mut(n_angles * n_cols).zip(rows).for_each(|(sinogram, row)| {
            let v = (row as f64 - middle) * rays.pitch;
            let mut line = vec![0.0_f64; n_cols];
            for (view, shadows) in sinogram.chunks_mut(n_cols).zip(&shadows) {
                line.fill(0.0);
                for shadow in shadows {
                    shadow.add_row(v, rays, &mut line);
                }
                for (out, value) in view.iter_mut().zip(&line) {
                    *out = *value as f32;
                }
            }
        });
        integrals
    }
}

/// Rays from a source to the pixels of a flat detector, in the phantom's coordinates.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PointView {
    /// The source, outside the phantom.
    pub source: [f64; 3],
    /// Centre of the pixel of row 0 and column 0.
    pub origin: [f64; 3],
    /// Step from a column to the next.
    pub along_u: [f64; 3],
    /// Step from a row to the next.
    pub along_v: [f64; 3],
}

/// One ellipsoid seen from one source: a ray d from it has the chord
/// 2 √(b² − |a × b|²) / b² · |d| with a = W (s − c) and b = W d; the cross product keeps its digits where the source
/// is far away.
struct Seen {
    a: [f64; 3],
    /// W times the ray to the pixel (0, 0), and W times the steps.
    origin: [f64; 3],
    u: [f64; 3],
    v: [f64; 3],
    value: f64,
}

impl Seen {
    fn new(part: &Ellipsoid, view: &PointView) -> Self {
        let a = part.to_unit_ball(sub(view.source, part.centre));
        Self {
            a,
            origin: part.to_unit_ball(sub(view.origin, view.source)),
            u: part.to_unit_ball(view.along_u),
            v: part.to_unit_ball(view.along_v),
            value: part.value,
        }
    }

    /// Adds value times chord over |d| of the pixels of one row. Per pixel: 8 bytes read and written, 17 flops.
    fn add_row(&self, row: f64, line: &mut [f64]) {
        let start: [f64; 3] = std::array::from_fn(|k| self.origin[k] + row * self.v[k]);
        // b = start + j u: b² and |a × b|² are polynomials of j.
        let (b0, b1, b2) = (dot(start, start), dot(start, self.u), dot(self.u, self.u));
        let (c, d) = (cross(self.a, start), cross(self.a, self.u));
        let (c0, c1, c2) = (dot(c, c), dot(c, d), dot(d, d));
        for (j, out) in line.iter_mut().enumerate() {
            let j = j as f64;
            let b = b0 + j * (2.0 * b1 + j * b2);
            let discriminant = b - (c0 + j * (2.0 * c1 + j * c2));
            if discriminant > 0.0 {
                *out += self.value * 2.0 * discriminant.sqrt() / b;
            }
        }
    }
}

impl Phantom {
    /// Exact integrals along the whole lines from the sources through the pixels, for the detector rows `rows`:
    /// `[rows.len(), views, n_cols]`, row-major, in units of value × normalised length.
    pub fn point_integrals(&self, views: &[PointView], rows: Range<usize>, n_cols: usize) -> Vec<f32> {
        let mut integrals = vec![0.0; rows.len() * views.len() * n_cols];
        if integrals.is_empty() {
            return integrals;
        }
        let seen: Vec<Vec<Seen>> =
            views.iter().map(|view| self.ellipsoids.iter().map(|part| Seen::new(part, view)).collect()).collect();
        integrals.par_chunks_mut(views.len() * n_cols).zip(rows).for_each(|(lines, row)| {
            let row = row as f64;
            let mut line = vec![0.0_f64; n_cols];
            for ((out, view), seen) in lines.chunks_mut(n_cols).zip(views).zip(&seen) {
                line.fill(0.0);
                for part in seen {
                    part.add_row(row, &mut line);
                }
                let ray: [f64; 3] = std::array::from_fn(|k| view.origin[k] + row * view.along_v[k] - view.source[k]);
                let (d0, d1, d2) = (dot(ray, ray), dot(ray, view.along_u), dot(view.along_u, view.along_u));
                for (j, (out, value)) in out.iter_mut().zip(&line).enumerate() {
                    let j = j as f64;
                    *out = (value * (d0 + j * (2.0 * d1 + j * d2)).sqrt()) as f32;
                }
            }
        });
        integrals
    }
}

#[cfg(test)]
mod tests {
    use super::super::phantom::test_uniform;
    use super::*;
    use std::f64::consts::PI;

    fn angles(n: usize) -> Vec<f64> {
        (0..n).map(|k| PI * k as f64 / n as f64).collect()
    }

    #[test]
    fn a_sphere_casts_its_chord() {
        let phantom = Phantom { name: "ball".into(), ellipsoids: vec![Ellipsoid::sphere([0.2, -0.1, 0.05], 0.4, 2.0)] };
        let mut rays = ParallelRays::centred(angles(7), 9, 33);
        rays.axis_col = 14.3;
        let found = phantom.line_integrals(&rays, 0..9);
        for row in 0..9 {
            for (a, &angle) in rays.angles_rad.iter().enumerate() {
                for col in 0..33 {
                    let du = (col as f64 - 14.3) * rays.pitch - (0.2 * angle.cos() - 0.1 * angle.sin());
                    let dv = (row as f64 - 4.0) * rays.pitch - 0.05;
                    let chord = 2.0 * 2.0 * (0.16 - du * du - dv * dv).max(0.0).sqrt();
                    let value = f64::from(found[(row * 7 + a) * 33 + col]);
                    assert!((value - chord).abs() < 1e-6, "{row} {a} {col}: {value} {chord}");
                }
            }
        }
    }

    #[test]
    fn rotated_ellipsoids_match_numerical_quadrature() {
        let phantom = Phantom::random_ellipsoids(6, test_uniform(5));
        let rays = ParallelRays { angles_rad: vec![0.3, 1.9, 4.0], n_rows: 5, n_cols: 21, pitch: 0.08, axis_col: 9.6 };
        let found = phantom.line_integrals(&rays, 0..5);
        let steps = 20_000;
        let h = 4.0 / f64::from(steps);
        for (index, &value) in found.iter().enumerate().step_by(7) {
            let (row, a, col) = (index / 63, index / 21 % 3, index % 21);
            let (u, v) = ((col as f64 - 9.6) * 0.08, (row as f64 - 2.0) * 0.08);
            let (sin, cos) = rays.angles_rad[a].sin_cos();
            let sum: f64 = (0..steps)
                .map(|k| {
                    let t = (f64::from(k) + 0.5) * h - 2.0;
                    phantom.value_at([u * cos - t * sin, u * sin + t * cos, v])
                })
                .sum();
            // Each surface crossing is uncertain by one step.
            assert!((sum * h - f64::from(value)).abs() < 10.0 * h, "{index}: {} {value}", sum * h);
        }
    }

    #[test]
    fn every_view_holds_the_whole_mass() {
        let phantom = Phantom::shepp_logan_3d();
        let rays = ParallelRays::centred(angles(5), 200, 200);
        let found = phantom.line_integrals(&rays, 0..200);
        for a in 0..5 {
            let sum: f64 =
                (0..200).flat_map(|row| &found[(row * 5 + a) * 200..][..200]).map(|&value| f64::from(value)).sum();
            let mass = sum * rays.pitch * rays.pitch;
            assert!((mass / phantom.integral() - 1.0).abs() < 2e-4, "{a}: {mass} {}", phantom.integral());
        }
    }

    #[test]
    fn a_band_of_rows_equals_the_rows_of_the_whole() {
        let phantom = Phantom::foam(30, test_uniform(9));
        let rays = ParallelRays::centred(angles(4), 16, 16);
        let all = phantom.line_integrals(&rays, 0..16);
        assert_eq!(phantom.line_integrals(&rays, 5..9), all[5 * 64..9 * 64]);
        assert!(phantom.line_integrals(&rays, 3..3).is_empty());
    }

    fn point_views() -> Vec<PointView> {
        let steps = [[0.11, 0.01, 0.0], [0.0, 0.02, 0.1]];
        let view = |source: [f64; 3]| PointView {
            source,
            origin: source.map(|x| -0.8 * x - 0.4),
            along_u: steps[0],
            along_v: steps[1],
        };
        vec![view([0.5, -4.0, 0.3]), view([2.0, -5.0, 3.0]), view([-1.0, -3.0, -2.5])]
    }

    #[test]
    fn divergent_rays_match_numerical_quadrature() {
        let phantom = Phantom::random_ellipsoids(6, test_uniform(5));
        let (views, n_cols) = (point_views(), 9);
        let found = phantom.point_integrals(&views, 1..6, n_cols);
        assert!(found.iter().filter(|v| **v > 0.1).count() > 40);
        let steps = 20_000;
        for (index, &value) in found.iter().enumerate().step_by(3) {
            let (row, view, col) = (1 + index / 27, &views[index / 9 % 3], index % 9);
            let ray: [f64; 3] = std::array::from_fn(|k| {
                view.origin[k] + row as f64 * view.along_v[k] + col as f64 * view.along_u[k] - view.source[k]
            });
            let h = 1.0 / f64::from(steps);
            let at = |k: i32| -> [f64; 3] {
                std::array::from_fn(|axis| view.source[axis] + (f64::from(k) + 0.5) * h * ray[axis])
            };
            let length = dot(ray, ray).sqrt() * h;
            let sum: f64 = (0..steps).map(|k| phantom.value_at(at(k))).sum::<f64>() * length;
            // Each surface crossing is uncertain by one step.
            assert!((sum - f64::from(value)).abs() < 10.0 * length, "{index}: {sum} {value}");
        }
    }

    /// A source far away sees what parallel rays see.
    #[test]
    fn a_distant_source_gives_parallel_rays() {
        let phantom = Phantom::shepp_logan_3d();
        let rays = ParallelRays::centred(angles(3), 8, 16);
        let far = 1e7;
        let views: Vec<PointView> = (rays.angles_rad.iter())
            .map(|angle| {
                let (sin, cos) = angle.sin_cos();
                let (u, v) = ([cos, sin, 0.0].map(|x| x * rays.pitch), [0.0, 0.0, rays.pitch]);
                let middle: [f64; 3] = [-2.0 * sin, 2.0 * cos, 0.0];
                let origin = std::array::from_fn(|k| middle[k] - 7.5 * u[k] - 3.5 * v[k]);
                PointView { source: [far * sin, -far * cos, 0.0], origin, along_u: u, along_v: v }
            })
            .collect();
        let found = phantom.point_integrals(&views, 0..8, 16);
        for (a, b) in found.iter().zip(phantom.line_integrals(&rays, 0..8)) {
            assert!((a - b).abs() < 1e-4, "{a} {b}");
        }
    }

    #[test]
    fn rows_and_views_alone_equal_those_of_the_whole() {
        let phantom = Phantom::foam(30, test_uniform(9));
        let views = point_views();
        let all = phantom.point_integrals(&views, 0..6, 7);
        assert_eq!(phantom.point_integrals(&views, 2..4, 7), all[2 * 21..4 * 21]);
        assert_eq!(phantom.point_integrals(&views[1..2], 2..3, 7), all[2 * 21 + 7..2 * 21 + 14]);
        assert!(phantom.point_integrals(&views, 3..3, 7).is_empty());
    }
}
