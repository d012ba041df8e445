//! Views in any position: every voxel on its own. Positions in f64, four taps at least.
//! Per update: 16 bytes read (and written, forward), about 40 flops.

use super::column::taps;
use super::cpu::{Slab, Strips};
use super::geometry::{Matrix, apply};

/// A view: its matrix, and the side of a voxel at w = 1 in pixels along columns and rows, 0 where hats are as wide as pixels.
#[derive(Clone, Copy, Debug)]
pub(super) struct General {
    pub m: Matrix,
    pub sides: [f64; 2],
}

/// Calls `visit(slice of the slab, first column, first row, weights of columns, weights of rows)` for the voxels of column
/// (x, y) that touch the detector; columns and rows count from the strip's corner of zeros.
#[inline(always)]
fn column(
    view: &General,
    slab: &Slab,
    strips: &Strips,
    [x, y]: [usize; 2],
    mut visit: impl FnMut(usize, usize, &[f32], &[f32]),
) {
    let m = &view.m;
    let mut weights = [[0.0f32; super::column::MAX_TAPS]; 2];
    // (column w, row w, w) of slice 0.
    let [u, v, w] = m.map(|row| apply(&row, &[x as f64, y as f64, 0.0]));
    for z in slab.slices.clone() {
        let height = z as f64;
        let inverse = 1.0 / (w + m[2][2] * height);
        let at = [(u + m[0][2] * height) * inverse, (v + m[1][2] * height) * inverse - strips.first_row as f64];
        let reach = view.sides.map(|side| (side * inverse).max(1.0));
        let taps = reach.map(taps);
        let first = [at[0] - reach[0], at[1] - reach[1]].map(|p| p.floor() + 1.0);
        let inside = |k: usize, n: usize| first[k] > -(taps[k] as f64) && first[k] < n as f64;
        if !(inside(0, strips.n_cols) && inside(1, strips.n_rows)) {
            continue;
        }
        for k in 0..2 {
            // 1/(w^2 reach reach) goes with the rows.
            let scale = if k == 1 { inverse * inverse / (reach[0] * reach[1]) } else { 1.0 };
            for (t, weight) in weights[k][..taps[k]].iter_mut().enumerate() {
                *weight = ((1.0 - (first[k] + t as f64 - at[k]).abs() / reach[k]).max(0.0) * scale) as f32;
            }
        }
        let [u, v] = first.map(|f| (f as isize + strips.taps as isize) as usize);
        visit(z - slab.slices.start, u * strips.stride + v, &weights[0][..taps[0]], &weights[1][..taps[1]]);
    }
}

/// Adds to `sums`, the voxels (x, y) of the slab's slices, what they see on `strip`.
#[inline(always)]
pub(super) fn back(view: &General, slab: &Slab, strips: &Strips, place: [usize; 2], strip: &[f32], sums: &mut [f32]) {
    column(view, slab, strips, place, |z, corner, columns, rows| {
        let mut sum = 0.0;
        for (j, wj) in columns.iter().enumerate() {
            let strip = &strip[corner + j * strips.stride..][..rows.len()];
            sum += wj * rows.iter().zip(strip).map(|(wi, p)| wi * p).sum::<f32>();
        }
        sums[z] += sum;
    });
}

/// Adds to `strip` what the voxels (x, y) of the slab's slices, `values`, cast on it.
#[inline(always)]
pub(super) fn forward(
    view: &General,
    slab: &Slab,
    strips: &Strips,
    place: [usize; 2],
    values: &[f32],
    strip: &mut [f32],
) {
    column(view, slab, strips, place, |z, corner, columns, rows| {
        for (j, wj) in columns.iter().enumerate() {
            let strip = &mut strip[corner + j * strips.stride..][..rows.len()];
            strip.iter_mut().zip(rows).for_each(|(p, wi)| *p += wi * wj * values[z]);
        }
    });
}
