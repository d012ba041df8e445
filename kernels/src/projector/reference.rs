//! The projector pair as plain loops with weights and sums in f64: the oracle of the fast paths and of the device.
//! One weight function serves both directions, so the pair is matched by construction.

use super::geometry::{ParallelGeometry, View};

/// The columns that voxel (ix, iy) touches in `view`, with their weights.
fn shadow(g: &ParallelGeometry, view: &View, ix: usize, iy: usize) -> impl Iterator<Item = (usize, f64)> {
    let (origin, along_x, along_y) = g.column_of(view);
    let column = origin + along_x * ix as f64 + along_y * iy as f64;
    let (h, pitch) = (view.half_width, g.col_pitch);
    let reach = h / pitch;
    let first = (column - reach).ceil().max(0.0) as usize;
    let end = ((column + reach).floor() + 1.0).clamp(0.0, g.n_cols as f64) as usize;
    (first..end).map(move |j| (j, (1.0 - (j as f64 - column).abs() * pitch / h).max(0.0) / h))
}

/// Rows of `views` of `sinogram` `[n_slices, n_angles, n_cols]` = projections of `volume` `[n_slices, ny, nx]`.
pub(super) fn forward(g: &ParallelGeometry, views: &[View], volume: &[f32], sinogram: &mut [f32]) {
    let mut row = vec![0.0f64; g.n_cols];
    for (volume, sinogram) in volume.chunks(g.slice_len()).zip(sinogram.chunks_mut(g.sinogram_len())) {
        for view in views {
            row.fill(0.0);
            for iy in 0..g.ny {
                for ix in 0..g.nx {
                    for (j, w) in shadow(g, view, ix, iy) {
                        row[j] += w * f64::from(volume[iy * g.nx + ix]);
                    }
                }
            }
            for (out, sum) in sinogram[view.row * g.n_cols..].iter_mut().zip(&row) {
                *out = *sum as f32;
            }
        }
    }
}

/// `volume` = sum over `views` of weight times the back projection of their rows of `sinogram`.
pub(super) fn back(g: &ParallelGeometry, views: &[View], weights: &[f32], sinogram: &[f32], volume: &mut [f32]) {
    for (volume, sinogram) in volume.chunks_mut(g.slice_len()).zip(sinogram.chunks(g.sinogram_len())) {
        for iy in 0..g.ny {
            for ix in 0..g.nx {
                let mut sum = 0.0;
                for (view, weight) in views.iter().zip(weights) {
                    for (j, w) in shadow(g, view, ix, iy) {
                        sum += f64::from(*weight) * w * f64::from(sinogram[view.row * g.n_cols + j]);
                    }
                }
                volume[iy * g.nx + ix] = sum as f32;
            }
        }
    }
}
