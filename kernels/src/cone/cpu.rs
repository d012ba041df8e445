//! The fast pair: volumes with z innermost, views as strips with the detector's rows innermost, a few at a time.
//! Back, a thread owns rows of voxels and takes the views in order; forward, a thread owns views and takes the voxels in
//! order. So nothing has two writers and every sum has one order, whatever the threads.
#![allow(unsafe_code)]

use super::column::{GROUP, PAD, taps};
use super::general::{self, General};
use super::upright::Upright;
use super::{ConeFootprint, ConeProjector, Factor};
use crate::machine::Simd;
use rayon::prelude::*;
use std::ops::Range;

/// Views that pass over the volume together, back: their strips stay in the outer cache.
const VIEWS_BACK: usize = 64;
/// Views of one task, forward: their strips under a tile of voxels stay in L2.
const VIEWS_FORWARD: usize = 4;
/// Voxels of a tile along x and y, which share detector columns: 256 slices of them are 64 KiB.
const TILE: [usize; 2] = [16, 4];
/// Detector rows, and slices, that are transposed together: a cache line.
const LINES: usize = 16;

/// The slices at hand.
#[derive(Clone, Debug)]
pub(super) struct Slab {
    pub slices: Range<usize>,
    /// First slice of the first group of slices: groups begin at multiples of their width, wherever the slab does.
    pub first: usize,
    /// Slices of all groups.
    pub padded: usize,
}

/// What strips have in common. A strip is one view, `[columns with taps zeros around, stride]`.
#[derive(Clone, Debug)]
pub(super) struct Strips {
    pub n_cols: usize,
    pub n_rows: usize,
    pub first_row: usize,
    /// Columns of zeros: the samples under the widest hat.
    pub taps: usize,
    /// From a column to the next.
    pub stride: usize,
    /// Place of row 0: upright views need no zeros there, others do.
    pub margin: usize,
}

/// A view as the loops need it.
enum View {
    Upright(Upright),
    Any(General),
}

impl Slab {
    fn new(p: &ConeProjector) -> Self {
        let slices = p.part.slices.clone();
        let first = slices.start / GROUP * GROUP;
        Self { padded: (slices.end - first).next_multiple_of(GROUP), first, slices }
    }
}

impl Strips {
    fn new(p: &ConeProjector, has_other: bool) -> Self {
        let taps = taps(p.widest());
        let margin = if has_other { taps } else { 0 };
        let n_rows = p.part.rows.len();
        // Off powers of two, so that the columns do not fall on the same sets of the cache.
        // A group more than the rows: whole groups are read from a multiple of their width on.
        let stride = (n_rows + 2 * margin).next_multiple_of(GROUP) + GROUP;
        let stride = if stride.is_multiple_of(128) { stride + 16 } else { stride };
        Self { n_cols: p.geometry.n_cols, n_rows, first_row: p.part.rows.start, taps, stride, margin }
    }

    pub fn len(&self) -> usize {
        (self.n_cols + 2 * self.taps) * self.stride
    }
}

fn views(p: &ConeProjector) -> Vec<View> {
    let [_, ny, nx] = p.geometry.shape;
    let view = |index: &usize| {
        let view = &p.geometry.views[*index];
        let m = p.geometry.matrix(view);
        let sides = match p.footprint {
            ConeFootprint::Linear | ConeFootprint::Joseph => [0.0; 2],
            ConeFootprint::Shadow => view.pixel().map(|pixel| p.geometry.voxel / pixel),
        };
        let upright = Upright::new(view, &m, sides).filter(|u| u.fits([ny, nx]));
        upright.map_or(View::Any(General { m, sides }), View::Upright)
    };
    p.part.views.iter().map(view).collect()
}

pub(super) fn back(simd: Simd, p: &ConeProjector, factor: Factor<'_>, sinogram: &[f32], volume: &mut [f32]) {
    let views = views(p);
    let (slab, strips) = (Slab::new(p), Strips::new(p, views.iter().any(|v| matches!(v, View::Any(_)))));
    let [_, ny, nx] = p.geometry.shape;
    if volume.is_empty() {
        return;
    }
    let mut packed = zeros(ny * nx * slab.padded);
    let packed = lined_up(&mut packed);
    let mut all = zeros(strips.len() * VIEWS_BACK.min(views.len()));
    let all = lined_up(&mut all);
    for (pass, views) in views.chunks(VIEWS_BACK).enumerate() {
        let all = &mut all[..strips.len() * views.len()];
        all.par_chunks_mut(strips.len()).enumerate().for_each(|(k, strip)| {
            fill_strip(p, &strips, factor, pass * VIEWS_BACK + k, sinogram, strip);
        });
        let all = &*all;
        packed.par_chunks_mut(TILE[1] * nx * slab.padded).enumerate().for_each_init(
            || zeros(strips.n_rows.next_multiple_of(GROUP) + 2 * PAD),
            |blend, (band, packed)| {
                if pass == 0 {
                    // Written before they are read: a page of zeros that is read first is copied when it is written, and every
                    // copy interrupts all cores.
                    packed.fill(0.0);
                }
                let (blend, rows) = (lined_up(blend), (band * TILE[1], nx));
                run_back(simd, (&slab, &strips), views, all, rows, blend, packed);
            },
        );
    }
    unpack(&slab, packed, ny * nx, volume);
}

/// Room for `len` zeros that begin with a cache line: vectors of whole columns then do not cross from one line to the next.
fn zeros(len: usize) -> Vec<f32> {
    vec![0.0; len + LINES]
}

/// Those zeros.
fn lined_up(memory: &mut [f32]) -> &mut [f32] {
    let (len, skipped) = (memory.len() - LINES, memory.as_ptr().align_offset(4 * LINES));
    &mut memory[skipped.min(LINES)..][..len]
}

/// Adds what `views` see, of which `all` has the strips, to the rows of voxels `packed` that begin at row `y0`.
#[inline(always)]
fn back_rows(
    simd: Simd,
    (slab, strips): (&Slab, &Strips),
    views: &[View],
    all: &[f32],
    (y0, nx): (usize, usize),
    blend: &mut [f32],
    packed: &mut [f32],
) {
    for x0 in (0..nx).step_by(TILE[0]) {
        for (view, strip) in views.iter().zip(all.chunks(strips.len())) {
            for (y, row) in packed.chunks_mut(nx * slab.padded).enumerate() {
                for x in x0..(x0 + TILE[0]).min(nx) {
                    let sums = &mut row[x * slab.padded..][..slab.padded];
                    match view {
                        View::Upright(view) => view.back(simd, (slab, strips), [x, y0 + y], strip, blend, sums),
                        View::Any(view) => {
                            let sums = &mut sums[slab.slices.start - slab.first..];
                            general::back(simd, view, (slab, strips), [x, y0 + y], strip, sums);
                        }
                    }
                }
            }
        }
    }
}

/// Adds what all voxels, `packed` with zeros around, cast on `views` to their strips.
#[inline(always)]
fn forward_views(
    simd: Simd,
    (slab, strips): (&Slab, &Strips),
    views: &[View],
    all: &mut [f32],
    ([ny, nx], packed): ([usize; 2], &[f32]),
    shadow: &mut [f32],
) {
    let column_len = slab.slices.len() + 2 * PAD;
    for y0 in (0..ny).step_by(TILE[1]) {
        for x0 in (0..nx).step_by(TILE[0]) {
            for (view, strip) in views.iter().zip(all.chunks_mut(strips.len())) {
                for y in y0..(y0 + TILE[1]).min(ny) {
                    for x in x0..(x0 + TILE[0]).min(nx) {
                        let column = &packed[(y * nx + x) * column_len..][..column_len];
                        match view {
                            View::Upright(view) => view.forward(simd, (slab, strips), [x, y], column, shadow, strip),
                            View::Any(view) => general::forward(view, slab, strips, [x, y], &column[PAD..], strip),
                        }
                    }
                }
            }
        }
    }
}

/// View `k` of the part as a strip, its pixels times their factors. The zeros around stay.
fn fill_strip(p: &ConeProjector, strips: &Strips, factor: Factor<'_>, k: usize, sinogram: &[f32], strip: &mut [f32]) {
    let n_cols = strips.n_cols;
    let row_len = p.part.views.len() * n_cols;
    let mut factors = vec![0.0f32; LINES * n_cols];
    for first in (0..strips.n_rows).step_by(LINES) {
        let n = LINES.min(strips.n_rows - first);
        for (i, factors) in factors.chunks_mut(n_cols).take(n).enumerate() {
            p.factors(factor, k, strips.first_row + first + i, factors);
            let row = &sinogram[(first + i) * row_len + k * n_cols..][..n_cols];
            factors.iter_mut().zip(row).for_each(|(f, x)| *f *= x);
        }
        for col in 0..n_cols {
            let out = &mut strip[(col + strips.taps) * strips.stride + strips.margin + first..][..n];
            out.iter_mut().enumerate().for_each(|(i, out)| *out = factors[i * n_cols + col]);
        }
    }
}

/// `volume[z][y][x]` = `packed[y][x][z]`
fn unpack(slab: &Slab, packed: &[f32], slice_len: usize, volume: &mut [f32]) {
    let offset = slab.slices.start - slab.first;
    volume.par_chunks_mut(LINES * slice_len).enumerate().for_each(|(block, volume)| {
        let first = offset + block * LINES;
        for place in 0..slice_len {
            let column = &packed[place * slab.padded + first..];
            volume.chunks_mut(slice_len).zip(column).for_each(|(slice, v)| slice[place] = *v);
        }
    });
}

pub(super) fn forward(simd: Simd, p: &ConeProjector, volume: &[f32], sinogram: &mut [f32]) {
    let views = views(p);
    let (slab, strips) = (Slab::new(p), Strips::new(p, views.iter().any(|v| matches!(v, View::Any(_)))));
    if sinogram.is_empty() {
        return;
    }
    let [_, ny, nx] = p.geometry.shape;
    let mut packed = pack(&slab, ny * nx, volume);
    let packed = &*lined_up(&mut packed);
    let in_flight = (2 * VIEWS_FORWARD * rayon::current_num_threads()).min(views.len());
    let mut all = zeros(strips.len() * in_flight);
    let all = lined_up(&mut all);
    for (pass, views) in views.chunks(in_flight).enumerate() {
        let all = &mut all[..strips.len() * views.len()];
        all.par_chunks_mut(VIEWS_FORWARD * strips.len()).zip(views.par_chunks(VIEWS_FORWARD)).for_each_init(
            || zeros(strips.n_rows + 2 * GROUP),
            |shadow, (all, views)| {
                all.fill(0.0);
                run_forward(simd, (&slab, &strips), views, all, ([ny, nx], packed), lined_up(shadow));
            },
        );
        empty_strips(p, &strips, pass * in_flight, all, sinogram);
    }
}

/// `packed[y][x][PAD zeros, z, PAD zeros]` = `volume[z][y][x]`, still to be lined up.
fn pack(slab: &Slab, slice_len: usize, volume: &[f32]) -> Vec<f32> {
    let column_len = slab.slices.len() + 2 * PAD;
    let mut packed = zeros(slice_len * column_len);
    lined_up(&mut packed).par_chunks_mut(LINES * column_len).enumerate().for_each(|(block, packed)| {
        for (z, slice) in volume.chunks(slice_len).enumerate() {
            let line = &slice[block * LINES..];
            packed.chunks_mut(column_len).zip(line).for_each(|(column, v)| column[PAD + z] = *v);
        }
    });
    packed
}

/// Adds to the rows of the views from `first` on their strips, times the matched factors.
fn empty_strips(p: &ConeProjector, strips: &Strips, first: usize, all: &[f32], sinogram: &mut [f32]) {
    let n_cols = strips.n_cols;
    let row_len = p.part.views.len() * n_cols;
    sinogram.par_chunks_mut(LINES * row_len).enumerate().for_each(|(block, sinogram)| {
        let n = sinogram.len() / row_len;
        let (mut factors, mut lines) = (vec![0.0f32; n_cols], vec![0.0f32; LINES * n_cols]);
        for (k, strip) in all.chunks(strips.len()).enumerate() {
            let place = (first + k) * n_cols;
            for col in 0..n_cols {
                let start = (col + strips.taps) * strips.stride + strips.margin + block * LINES;
                strip[start..][..n].iter().enumerate().for_each(|(i, v)| lines[i * n_cols + col] = *v);
            }
            for (i, row) in sinogram.chunks_mut(row_len).enumerate() {
                p.factors(Factor::Matched, first + k, strips.first_row + block * LINES + i, &mut factors);
                let line = lines[i * n_cols..].iter().zip(&factors);
                row[place..][..n_cols].iter_mut().zip(line).for_each(|(x, (v, f))| *x += v * f);
            }
        }
    });
}

/// [`back_rows`], compiled with the instructions of `simd`.
fn run_back(
    simd: Simd,
    of: (&Slab, &Strips),
    views: &[View],
    all: &[f32],
    place: (usize, usize),
    blend: &mut [f32],
    packed: &mut [f32],
) {
    match simd {
        // SAFETY: `Simd::available` found these instructions.
        #[cfg(target_arch = "x86_64")]
        Simd::Avx512 => unsafe { x86::back_rows_wide(simd, of, views, all, place, blend, packed) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Simd::Avx2 => unsafe { x86::back_rows(simd, of, views, all, place, blend, packed) },
        _ => back_rows(simd, of, views, all, place, blend, packed),
    }
}

/// [`forward_views`], compiled with the instructions of `simd`.
fn run_forward(
    simd: Simd,
    of: (&Slab, &Strips),
    views: &[View],
    all: &mut [f32],
    volume: ([usize; 2], &[f32]),
    shadow: &mut [f32],
) {
    match simd {
        // SAFETY: `Simd::available` found these instructions.
        #[cfg(target_arch = "x86_64")]
        Simd::Avx512 => unsafe { x86::forward_views_wide(simd, of, views, all, volume, shadow) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Simd::Avx2 => unsafe { x86::forward_views(simd, of, views, all, volume, shadow) },
        _ => forward_views(simd, of, views, all, volume, shadow),
    }
}

/// The same loops for processors with wider vectors, a fused multiply-add and a rounding instruction.
#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Simd, Slab, Strips, View};

    // SAFETY of all: called only where `Simd::available` found the instructions.

    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn back_rows(
        simd: Simd,
        of: (&Slab, &Strips),
        views: &[View],
        all: &[f32],
        place: (usize, usize),
        blend: &mut [f32],
        packed: &mut [f32],
    ) {
        super::back_rows(simd, of, views, all, place, blend, packed);
    }

    #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx2,fma")]
    pub(super) unsafe fn back_rows_wide(
        simd: Simd,
        of: (&Slab, &Strips),
        views: &[View],
        all: &[f32],
        place: (usize, usize),
        blend: &mut [f32],
        packed: &mut [f32],
    ) {
        super::back_rows(simd, of, views, all, place, blend, packed);
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn forward_views(
        simd: Simd,
        of: (&Slab, &Strips),
        views: &[View],
        all: &mut [f32],
        volume: ([usize; 2], &[f32]),
        shadow: &mut [f32],
    ) {
        super::forward_views(simd, of, views, all, volume, shadow);
    }

    #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx2,fma")]
    pub(super) unsafe fn forward_views_wide(
        simd: Simd,
        of: (&Slab, &Strips),
        views: &[View],
        all: &mut [f32],
        volume: ([usize; 2], &[f32]),
        shadow: &mut [f32],
    ) {
        super::forward_views(simd, of, views, all, volume, shadow);
    }
}
