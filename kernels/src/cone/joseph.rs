//! Joseph's pair: line integrals along the rays to the pixels' centres, bilinear in the planes that cross the ray's main axis, and the exact
//! adjoint, which gives every voxel what the rays took from it with the same weights.
//!
//! Forward, a thread owns detector lines; back, a thread owns slices and takes the rays in order. A weight is a function of ray, plane and
//! the grid of the whole volume: slabs and threads do not change a bit of an image. Source: P. M. Joseph, IEEE Trans. Med. Imaging 1 (1982)
//! 192. Per ray and plane: 16 bytes read (and written, back), about 25 flops.

use super::ConeProjector;
use super::geometry::{ConeGeometry, ConeView, add, norm, scaled, sub};
use rayon::prelude::*;
use std::ops::Range;

/// Slices of one task, at most.
const SLICES: usize = 8;

/// A ray in indices (ix, iy, iz) of the whole volume.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ray {
    /// Main axis and the two others.
    axes: [usize; 3],
    /// Places on the others at plane 0, and from plane to plane.
    start: [f64; 2],
    slope: [f64; 2],
    /// Plane of the source, and planes to the detector, with its sign.
    source: f64,
    length: f64,
    /// Length of the ray between planes, in the unit of the geometry.
    step: f64,
}

/// From where a view's rays start, in indices.
fn source_of(g: &ConeGeometry, view: &ConeView) -> [f64; 3] {
    let half = [g.shape[2], g.shape[1], g.shape[0]].map(|n| (n as f64 - 1.0) / 2.0 * g.voxel);
    scaled(sub(view.source, sub(g.centre, half)), 1.0 / g.voxel)
}

impl Ray {
    /// To pixel (row, column) of a view whose source is at `source` ([`source_of`]).
    pub fn new(g: &ConeGeometry, view: &ConeView, source: [f64; 3], row: usize, col: usize) -> Self {
        let pixel = add(view.origin, add(scaled(view.along_u, col as f64), scaled(view.along_v, row as f64)));
        let ray = scaled(sub(pixel, view.source), 1.0 / g.voxel);
        let main = (0..3).fold(0, |best, k| if ray[k].abs() > ray[best].abs() { k } else { best });
        let axes = [main, (main + 1) % 3, (main + 2) % 3];
        let slope = [ray[axes[1]] / ray[main], ray[axes[2]] / ray[main]];
        let start = std::array::from_fn(|k| source[axes[k + 1]] - source[main] * slope[k]);
        let step = g.voxel * norm(ray) / ray[main].abs();
        Self { axes, start, slope, source: source[main], length: ray[main], step }
    }

    /// Calls `voxel` with the places in the slices `low[2]..high[2]` of the volume (x, y: `low`..`high`; x innermost, counted from `low`) that
    /// the ray touches, and their weights.
    #[inline(always)]
    pub fn visit(&self, low: [usize; 3], high: [usize; 3], mut voxel: impl FnMut(usize, f64)) {
        let size: [usize; 3] = std::array::from_fn(|k| high[k] - low[k]);
        let strides = [1, size[0], size[0] * size[1]];
        let [main, a, b] = self.axes;
        // Planes whose places are within one voxel of the grid; one more on each side, which the loop looks at.
        let (mut first, mut last) = (low[main] as f64, high[main] as f64 - 1.0);
        for (k, axis) in [a, b].into_iter().enumerate() {
            let (from, to) = (low[axis] as f64 - 1.0 - self.start[k], high[axis] as f64 - self.start[k]);
            if self.slope[k] != 0.0 {
                let ends = [from / self.slope[k], to / self.slope[k]];
                first = first.max(ends[0].min(ends[1]) - 1.0);
                last = last.min(ends[0].max(ends[1]) + 1.0);
            } else if from >= 0.0 || to <= 0.0 {
                return;
            }
        }
        if first > last {
            return;
        }
        let (ea, eb) = (size[a] as i64, size[b] as i64);
        for plane in first.ceil() as usize..=last as usize {
            let t = (plane as f64 - self.source) / self.length;
            let x = self.start[0] + plane as f64 * self.slope[0];
            let y = self.start[1] + plane as f64 * self.slope[1];
            let (i, j) = (x.floor(), y.floor());
            let (fx, fy) = (x - i, y - j);
            let (i, j) = (i as i64 - low[a] as i64, j as i64 - low[b] as i64);
            if !(0.0..1.0).contains(&t) || i < -1 || j < -1 || i >= ea || j >= eb {
                continue;
            }
            let base =
                (plane - low[main]) as i64 * strides[main] as i64 + i * strides[a] as i64 + j * strides[b] as i64;
            let (gx, gy) = (self.step * (1.0 - fx), 1.0 - fy);
            let fx = self.step * fx;
            let mut give = |there: bool, offset: usize, weight: f64| {
                if there {
                    voxel((base + offset as i64) as usize, weight);
                }
            };
            give(i >= 0 && j >= 0, 0, gx * gy);
            give(i + 1 < ea && j >= 0, strides[a], fx * gy);
            give(i >= 0 && j + 1 < eb, strides[b], gx * fy);
            give(i + 1 < ea && j + 1 < eb, strides[a] + strides[b], fx * fy);
        }
    }
}

/// First and last-plus-one index (x, y, z) of some slices.
fn bounds(g: &ConeGeometry, slices: &Range<usize>) -> ([usize; 3], [usize; 3]) {
    ([0, 0, slices.start], [g.shape[2], g.shape[1], slices.end])
}

pub(super) fn forward(p: &ConeProjector, volume: &[f32], sinogram: &mut [f32]) {
    let g = &*p.geometry;
    let (low, high) = bounds(g, &p.part.slices);
    let views = p.part.views.len();
    sinogram.par_chunks_mut(g.n_cols).enumerate().for_each(|(line, out)| {
        let row = p.part.rows.start + line / views;
        let view = &g.views[p.part.views[line % views]];
        let source = source_of(g, view);
        for (col, out) in out.iter_mut().enumerate() {
            let mut sum = 0.0;
            let ray = Ray::new(g, view, source, row, col);
            ray.visit(low, high, |i, weight| sum += weight * f64::from(volume[i]));
            *out += sum as f32;
        }
    });
}

pub(super) fn back(p: &ConeProjector, sinogram: &[f32], volume: &mut [f32]) {
    let g = &*p.geometry;
    let slices = &p.part.slices;
    let n_views = p.part.views.len();
    // Enough tasks for all threads; how many does not change a bit.
    let task = (slices.len() / (4 * rayon::current_num_threads())).clamp(1, SLICES);
    volume.par_chunks_mut((task * g.slice_len()).max(1)).enumerate().for_each(|(k, volume)| {
        volume.fill(0.0);
        let mine = slices.start + k * task..(slices.start + (k + 1) * task).min(slices.end);
        let (low, high) = bounds(g, &mine);
        for (place, index) in p.part.views.iter().enumerate() {
            let view = &g.views[*index];
            let source = source_of(g, view);
            let seen = g.rows_of_rays(*index, mine.clone());
            for row in seen.start.max(p.part.rows.start)..seen.end.min(p.part.rows.end) {
                let line = &sinogram[((row - p.part.rows.start) * n_views + place) * g.n_cols..][..g.n_cols];
                for (col, value) in line.iter().enumerate().filter(|(_, value)| **value != 0.0) {
                    let ray = Ray::new(g, view, source, row, col);
                    ray.visit(low, high, |i, weight| volume[i] += weight as f32 * value);
                }
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::super::Orbit;
    use super::*;
    use crate::Philox;

    /// In double precision the weights are the same in both directions: 1e-13 for rays along every main axis.
    #[test]
    fn the_pair_is_adjoint_to_1e_13_in_f64() {
        let mut mains = [false; 3];
        for tilt_rad in [0.0, 0.8] {
            let angles = (0..11).map(|i| 0.57 * f64::from(i)).collect();
            let orbit = Orbit { tilt_rad, rise_per_turn: 9.0, ..Orbit::circle(angles, [70.0, 110.0], 1.6, [19, 21]) };
            let views = orbit.views();
            let g = ConeGeometry {
                views,
                n_rows: 19,
                n_cols: 21,
                shape: [9, 14, 13],
                voxel: 0.9,
                centre: [1.0, 0.5, -2.0],
            };
            let (low, high) = bounds(&g, &(0..9));
            let random = Philox::new(3, 1);
            let x: Vec<f64> = (0..9 * 14 * 13).map(|i| random.normal(i)).collect();
            let y: Vec<f64> = (0..19 * 21 * 11).map(|i| random.normal(10_000 + i)).collect();
            let mut back = vec![0.0; x.len()];
            let (mut left, mut norm2) = (0.0, 0.0);
            for (v, view) in g.views.iter().enumerate() {
                for pixel in 0..19 * 21 {
                    let ray = Ray::new(&g, view, source_of(&g, view), pixel / 21, pixel % 21);
                    mains[ray.axes[0]] = true;
                    let value = y[v * 19 * 21 + pixel];
                    let mut sum = 0.0;
                    ray.visit(low, high, |i, weight| sum += weight * x[i]);
                    ray.visit(low, high, |i, weight| back[i] += weight * value);
                    left += sum * value;
                    norm2 += sum * sum;
                }
            }
            let right: f64 = x.iter().zip(&back).map(|(a, b)| a * b).sum();
            let y2: f64 = y.iter().map(|v| v * v).sum();
            assert!((left - right).abs() < 1e-13 * (norm2 * y2).sqrt(), "{left} {right}");
        }
        assert_eq!(mains, [true; 3]);
    }
}
