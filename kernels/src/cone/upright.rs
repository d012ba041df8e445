//! Views whose detector columns run along z and whose detector is upright: w and u do not depend on z and v is affine in
//! it, so that a column of voxels meets one blended detector column (Chen et al., "iFDK", SC 2019).

use super::column::{GROUP, Line, MAX_TAPS, PAD, fixed, gather, taps};
use super::cpu::{Slab, Strips};
use super::geometry::{ConeView, Matrix};
use crate::machine::Simd;

/// An upright view: the coefficients of (ix, iy, 1) for column w, row w and w, and row w per slice.
#[derive(Clone, Copy, Debug)]
pub(super) struct Upright {
    u: [f64; 3],
    v: [f64; 3],
    w: [f64; 3],
    v_per_slice: f64,
    /// Side of a voxel at w = 1 in pixels, along columns and rows; 0 where hats are as wide as pixels.
    sides: [f64; 2],
}

/// Where a column of voxels falls.
struct Foot {
    u: f64,
    /// Row of slice 0, and rows per slice.
    v: f64,
    dv: f64,
    /// Half-widths of the hats along columns and rows.
    reach: [f64; 2],
    /// 1/(w^2 reach reach)
    weight: f64,
}

impl Upright {
    /// The view, if it is upright and its rows rise with z.
    pub(super) fn new(view: &ConeView, m: &Matrix, sides: [f64; 2]) -> Option<Self> {
        let small = |x: f64, of: [f64; 3]| x.abs() <= 1e-13 * of.iter().map(|x| x.abs()).sum::<f64>();
        let (u, v) = (view.along_u, view.along_v);
        let upright = small(u[2], u) && small(v[0], v) && small(v[1], v) && v[2] > 0.0;
        let plane = |row: &[f64; 4]| [row[0], row[1], row[3]];
        upright.then(|| Self { u: plane(&m[0]), v: plane(&m[1]), w: plane(&m[2]), v_per_slice: m[1][2], sides })
    }

    #[inline(always)]
    fn foot(&self, x: usize, y: usize) -> Foot {
        let at = |c: &[f64; 3]| c[0] * x as f64 + c[1] * y as f64 + c[2];
        let inverse = 1.0 / at(&self.w);
        let reach = self.sides.map(|side| (side * inverse).max(1.0));
        let weight = inverse * inverse / (reach[0] * reach[1]);
        Foot { u: at(&self.u) * inverse, v: at(&self.v) * inverse, dv: self.v_per_slice * inverse, reach, weight }
    }

    /// The detector columns under the foot: the first, their number and their weights. None beside the detector.
    #[inline(always)]
    fn columns(foot: &Foot, strips: &Strips, weights: &mut [f32; MAX_TAPS]) -> Option<(usize, usize)> {
        let taps = taps(foot.reach[0]);
        let first = (foot.u - foot.reach[0]).floor() + 1.0;
        if !(first > -(taps as f64) && first < strips.n_cols as f64) {
            return None;
        }
        for (k, weight) in weights.iter_mut().take(taps).enumerate() {
            let hat = 1.0 - (first + k as f64 - foot.u).abs() / foot.reach[0];
            *weight = (hat.max(0.0) * foot.weight) as f32;
        }
        // Strips have columns of zeros on both sides.
        Some(((first as isize + strips.taps as isize) as usize, taps))
    }

    /// Adds to `sums`, the voxels (x, y) of the slab's groups of slices, what they see on `strip`. `blend` is workspace.
    #[inline(always)]
    pub(super) fn back(
        &self,
        simd: Simd,
        (slab, strips): (&Slab, &Strips),
        [x, y]: [usize; 2],
        strip: &[f32],
        blend: &mut [f32],
        sums: &mut [f32],
    ) {
        let foot = self.foot(x, y);
        let (mut weights, reach) = ([0.0; MAX_TAPS], foot.reach[1]);
        let Some((column, n_cols)) = Self::columns(&foot, strips, &mut weights) else { return };
        // Exact in fixed point, so that it does not matter where the slab begins.
        let step = fixed(foot.dv);
        let start = fixed(foot.v - reach) + slab.first as i64 * step - ((strips.first_row as i64) << 32);
        let end = start + (sums.len() as i64 - 1) * step;
        let clamp = |row: i64| row.clamp(0, strips.n_rows as i64) as usize;
        let rows = clamp((start >> 32) + 1)..clamp((end >> 32) + 1 + taps(reach) as i64);
        if rows.is_empty() {
            return;
        }
        // Whole groups: beyond the rows, strips hold zeros.
        let rows = rows.start / GROUP * GROUP..rows.end.next_multiple_of(GROUP);
        let part = |k: usize| &strip[(column + k) * strips.stride + strips.margin..][rows.clone()];
        blend_columns(&weights[..n_cols], part, &mut blend[PAD..][rows.clone()]);
        let line = Line { start, step, reach: reach as f32, taps: taps(reach) };
        gather(simd, &blend[..strips.n_rows + 2 * PAD], line, sums);
    }

    /// Adds to `strip` what the voxels (x, y), `column` with its zeros around, cast on it. `shadow` is workspace.
    #[inline(always)]
    pub(super) fn forward(
        &self,
        simd: Simd,
        (slab, strips): (&Slab, &Strips),
        [x, y]: [usize; 2],
        column: &[f32],
        shadow: &mut [f32],
        strip: &mut [f32],
    ) {
        let foot = self.foot(x, y);
        let mut weights = [0.0; MAX_TAPS];
        let Some((first, n_cols)) = Self::columns(&foot, strips, &mut weights) else { return };
        // Rows, counted from the strip's first one, that the column touches.
        let v = foot.v - strips.first_row as f64;
        let clamp = |row: f64| row.clamp(0.0, strips.n_rows as f64) as usize;
        let low = clamp((v + foot.dv * slab.slices.start as f64 - foot.reach[1]).floor());
        let high = clamp((v + foot.dv * (slab.slices.end as f64 - 1.0) + foot.reach[1]).ceil() + 1.0);
        if low >= high {
            return;
        }
        // Whole groups, which end within the zeros of the strip's column.
        let (low, high) = (low / GROUP * GROUP, high.next_multiple_of(GROUP));
        // The hat over rows around the row of a slice is a hat over slices around the slice of a row.
        let reach = foot.reach[1] / foot.dv;
        let start = (low as f64 - v) / foot.dv - reach - slab.slices.start as f64;
        let line = Line { start: fixed(start), step: fixed(1.0 / foot.dv), reach: reach as f32, taps: taps(reach) };
        let shadow = &mut shadow[..high - low];
        shadow.fill(0.0);
        gather(simd, column, line, shadow);
        for (k, weight) in weights[..n_cols].iter().enumerate() {
            let rows = &mut strip[(first + k) * strips.stride + strips.margin..][low..high];
            spread(*weight, shadow, rows);
        }
    }

    /// Whether the hats over slices fit the tables at the voxels' corner that is nearest to the source.
    pub(super) fn fits(&self, [ny, nx]: [usize; 2]) -> bool {
        let corners = [[0, 0], [0, ny - 1], [nx - 1, 0], [nx - 1, ny - 1]];
        corners.iter().all(|[x, y]| {
            let foot = self.foot(*x, *y);
            2.0 * foot.reach[1] / foot.dv < MAX_TAPS as f64 - 1.0
        })
    }
}

/// out = sum over k of weights[k] part(k). Per element and part: 4 bytes, 2 flops.
#[inline(always)]
fn blend_columns<'a>(weights: &[f32], part: impl Fn(usize) -> &'a [f32], out: &mut [f32]) {
    for ((out, a), b) in out.iter_mut().zip(part(0)).zip(part(1)) {
        *out = weights[0] * a + weights[1] * b;
    }
    for (k, weight) in weights.iter().enumerate().skip(2) {
        spread(*weight, part(k), out);
    }
}

/// out += weight * x
#[inline(always)]
fn spread(weight: f32, x: &[f32], out: &mut [f32]) {
    out.iter_mut().zip(x).for_each(|(out, x)| *out += weight * x);
}
