//! The cone-beam pair as plain loops with weights and sums in f64: the oracle of the fast paths and of the device.
//! One weight function serves both directions, so the pair is matched by construction.

use super::geometry::{Matrix, apply};
use super::{ConeProjector, Factor};
use std::ops::Range;

/// Samples of a detector axis under a hat at `position`, with their weights.
fn hat(position: f64, reach: f64, n: usize) -> impl Iterator<Item = (usize, f64)> + Clone {
    let first = (position - reach).ceil().max(0.0) as usize;
    let end = ((position + reach).floor() + 1.0).clamp(0.0, n as f64) as usize;
    (first..end).map(move |j| (j, (1.0 - (j as f64 - position).abs() / reach).max(0.0) / reach))
}

/// The pixels (row of the detector, column) that a voxel touches, with their weights.
fn shadow(
    m: &Matrix,
    voxel: [f64; 3],
    reach: impl Fn(f64) -> [f64; 2],
    [n_rows, n_cols]: [usize; 2],
) -> impl Iterator<Item = (usize, usize, f64)> {
    let w = apply(&m[2], &voxel);
    let (u, v) = (apply(&m[0], &voxel) / w, apply(&m[1], &voxel) / w);
    let [ru, rv] = reach(w);
    let columns = hat(u, ru, n_cols);
    hat(v, rv, n_rows).flat_map(move |(i, wi)| columns.clone().map(move |(j, wj)| (i, j, wi * wj / (w * w))))
}

/// The indices and places of the part's voxels, in the order of the volume.
fn voxels(p: &ConeProjector) -> impl Iterator<Item = (usize, [f64; 3])> {
    let [_, ny, nx] = p.geometry.shape;
    let first = p.part.slices.start;
    (0..p.volume_len()).map(move |i| (i, [(i % nx) as f64, (i / nx % ny) as f64, (first + i / nx / ny) as f64]))
}

fn detector(p: &ConeProjector) -> [usize; 2] {
    [p.geometry.n_rows, p.geometry.n_cols]
}

/// Place in the sinogram of (detector row, view of the part, column).
fn place(p: &ConeProjector, rows: &Range<usize>, row: usize, k: usize, col: usize) -> usize {
    ((row - rows.start) * p.part.views.len() + k) * p.geometry.n_cols + col
}

pub(super) fn forward(p: &ConeProjector, volume: &[f32], sinogram: &mut [f32]) {
    let (rows, n_cols) = (&p.part.rows, p.geometry.n_cols);
    let mut factors = vec![0.0; n_cols];
    for (k, view) in p.part.views.iter().enumerate() {
        let m = p.geometry.matrix(&p.geometry.views[*view]);
        let mut image = vec![0.0f64; rows.len() * n_cols];
        for (i, voxel) in voxels(p) {
            for (row, col, w) in shadow(&m, voxel, |w| p.reach(&p.geometry.views[*view], w), detector(p))
                .filter(|(row, ..)| rows.contains(row))
            {
                image[(row - rows.start) * n_cols + col] += w * f64::from(volume[i]);
            }
        }
        for (row, image) in rows.clone().zip(image.chunks(n_cols)) {
            p.factors(Factor::Matched, k, row, &mut factors);
            for (col, (sum, factor)) in image.iter().zip(&factors).enumerate() {
                sinogram[place(p, rows, row, k, col)] += (sum * f64::from(*factor)) as f32;
            }
        }
    }
}

pub(super) fn back(p: &ConeProjector, factor: Factor<'_>, sinogram: &[f32], volume: &mut [f32]) {
    let rows = &p.part.rows;
    let mut sums = vec![0.0f64; volume.len()];
    for (k, view) in p.part.views.iter().enumerate() {
        let m = p.geometry.matrix(&p.geometry.views[*view]);
        let factors: Vec<Vec<f32>> = rows
            .clone()
            .map(|row| {
                let mut line = vec![0.0; p.geometry.n_cols];
                p.factors(factor, k, row, &mut line);
                line
            })
            .collect();
        for (i, voxel) in voxels(p) {
            for (row, col, w) in shadow(&m, voxel, |w| p.reach(&p.geometry.views[*view], w), detector(p))
                .filter(|(row, ..)| rows.contains(row))
            {
                let value = f64::from(sinogram[place(p, rows, row, k, col)]);
                sums[i] += w * value * f64::from(factors[row - rows.start][col]);
            }
        }
    }
    volume.iter_mut().zip(&sums).for_each(|(v, s)| *v = *s as f32);
}
