//! Views in any position: every voxel on its own, eight of a column at a time. Positions in f64.
//! Per update: 16 bytes read (and written, forward), about 40 flops.
#![allow(unsafe_code)]

use super::column::MAX_TAPS;
use super::cpu::{Slab, Strips};
use super::geometry::{Matrix, apply};
use crate::machine::Simd;

/// Voxels whose places are computed together.
const LANES: usize = 8;
/// Adding this to a number below 2^51 rounds it to a whole number, which then stands in the low bits.
const ROUND: f64 = 1.5 * (1u64 << 52) as f64;

/// A view: its matrix, and the side of a voxel at w = 1 in pixels along columns and rows, 0 where hats are as wide as
/// pixels.
#[derive(Clone, Copy, Debug)]
pub(super) struct General {
    pub m: Matrix,
    pub sides: [f64; 2],
}

/// Where eight voxels fall: the first sample of each on the strip, and the weights of K columns and K rows.
struct Block<const K: usize> {
    offset: [i32; LANES],
    columns: [[f32; LANES]; K],
    rows: [[f32; LANES]; K],
}

impl<const K: usize> Block<K> {
    fn new() -> Self {
        Self { offset: [0; LANES], columns: [[0.0; LANES]; K], rows: [[0.0; LANES]; K] }
    }

    /// For the slices from `z` on of the column that has (column w, row w, w) = `start` at slice 0. What misses the
    /// detector is put on the zeros around it. Written so that compilers turn it into vectors: selects for `min` and
    /// `max`, the rounding of the addition for `floor`.
    #[inline(always)]
    fn fill(&mut self, view: &General, strips: &Strips, start: [f64; 3], z: usize) {
        let m = &view.m;
        let lowest = -(strips.taps as f64);
        let (right, top) = (strips.n_cols as f64, strips.n_rows as f64);
        for l in 0..LANES {
            let height = (z + l) as f64;
            let inverse = 1.0 / (start[2] + m[2][2] * height);
            let u = (start[0] + m[0][2] * height) * inverse;
            let v = (start[1] + m[1][2] * height) * inverse - strips.first_row as f64;
            let wider = |side: f64| if side * inverse > 1.0 { side * inverse } else { 1.0 };
            let (ru, rv) = (wider(view.sides[0]), wider(view.sides[1]));
            // The first sample under a hat, up to the whole number itself, where the weight is zero anyway.
            let first = |x: f64, most: f64| {
                let x = if x > lowest { x } else { lowest };
                let x = if x < most { x } else { most };
                x + ROUND
            };
            let (fu, fv) = (first(u - ru + 0.5, right), first(v - rv + 0.5, top));
            let zeros = strips.taps as i32;
            self.offset[l] = (fu.to_bits() as i32 + zeros) * strips.stride as i32 + fv.to_bits() as i32 + zeros;
            let (du, dv) = (((fu - ROUND) - u) as f32, ((fv - ROUND) - v) as f32);
            let (su, sv) = ((1.0 / ru) as f32, (1.0 / rv) as f32);
            // 1/(w^2 reach reach) goes with the rows.
            let scale = (inverse * inverse) as f32 * su * sv;
            for k in 0..K {
                let hat = |d: f32, s: f32| 1.0 - (d + k as f32).abs() * s;
                let (a, b) = (hat(du, su), hat(dv, sv));
                self.columns[k][l] = if a > 0.0 { a } else { 0.0 };
                self.rows[k][l] = if b > 0.0 { b * scale } else { 0.0 };
            }
        }
    }
}

/// (column w, row w, w) of slice 0 of a column of voxels.
#[inline(always)]
fn start(view: &General, [x, y]: [usize; 2]) -> [f64; 3] {
    view.m.map(|row| apply(&row, &[x as f64, y as f64, 0.0]))
}

/// Adds to `sums`, the voxels (x, y) of the slab's slices, what they see on `strip`.
#[inline(always)]
pub(super) fn back(
    simd: Simd,
    view: &General,
    (slab, strips): (&Slab, &Strips),
    place: [usize; 2],
    strip: &[f32],
    sums: &mut [f32],
) {
    let of = (slab, strips);
    match strips.taps {
        2 => back_lanes::<2>(simd, view, of, place, strip, sums),
        3 => back_lanes::<3>(simd, view, of, place, strip, sums),
        4 => back_lanes::<4>(simd, view, of, place, strip, sums),
        5..=8 => back_taps::<8>(view, of, place, strip, sums),
        _ => back_taps::<MAX_TAPS>(view, of, place, strip, sums),
    }
}

/// Few samples under a hat: one of all eight voxels at a time.
#[inline(always)]
fn back_lanes<const K: usize>(
    simd: Simd,
    view: &General,
    (slab, strips): (&Slab, &Strips),
    place: [usize; 2],
    strip: &[f32],
    sums: &mut [f32],
) {
    assert!(K <= strips.taps && strip.len() == strips.len(), "zeros around the strip for all samples");
    let (start, mut block) = (start(view, place), Block::<K>::new());
    for (first, sums) in slab.slices.clone().step_by(LANES).zip(sums[..slab.slices.len()].chunks_mut(LANES)) {
        block.fill(view, strips, start, first);
        let mut sum = [0.0; LANES];
        for (j, column) in block.columns.iter().enumerate() {
            let mut part = [0.0; LANES];
            for (i, row) in block.rows.iter().enumerate() {
                // SAFETY: `fill` puts the first sample on column -taps to n_cols and row -taps to n_rows, also of a voxel at no number;
                // around those, strips have taps columns and rows of zeros.
                let samples = unsafe { pick(simd, strip, &block.offset, j * strips.stride + i) };
                for l in 0..LANES {
                    part[l] += row[l] * samples[l];
                }
            }
            for l in 0..LANES {
                sum[l] += column[l] * part[l];
            }
        }
        sums.iter_mut().zip(sum).for_each(|(out, sum)| *out += sum);
    }
}

/// `strip[offset + shift]` of all lanes.
///
/// # Safety
/// They are there.
#[inline(always)]
unsafe fn pick(simd: Simd, strip: &[f32], offset: &[i32; LANES], shift: usize) -> [f32; LANES] {
    match simd {
        // SAFETY: `Simd::available` found the instruction.
        #[cfg(target_arch = "x86_64")]
        Simd::Avx512 | Simd::Avx2 => unsafe {
            use std::arch::x86_64::{__m256i, _mm256_i32gather_ps, _mm256_loadu_si256, _mm256_storeu_ps};
            let index = _mm256_loadu_si256(offset.as_ptr().cast::<__m256i>());
            let mut samples = [0.0; LANES];
            _mm256_storeu_ps(samples.as_mut_ptr(), _mm256_i32gather_ps::<4>(strip.as_ptr().add(shift), index));
            samples
        },
        // SAFETY: the caller's promise.
        _ => std::array::from_fn(|l| unsafe { *strip.get_unchecked(offset[l] as usize + shift) }),
    }
}

/// Any number of samples, voxel by voxel.
#[inline(always)]
fn back_taps<const K: usize>(
    view: &General,
    (slab, strips): (&Slab, &Strips),
    place: [usize; 2],
    strip: &[f32],
    sums: &mut [f32],
) {
    let (start, mut block) = (start(view, place), Block::<K>::new());
    for (first, sums) in slab.slices.clone().step_by(LANES).zip(sums[..slab.slices.len()].chunks_mut(LANES)) {
        block.fill(view, strips, start, first);
        for (l, out) in sums.iter_mut().enumerate() {
            let samples = &strip[block.offset[l] as usize..];
            let mut sum = 0.0;
            for j in 0..K.min(strips.taps) {
                let line = &samples[j * strips.stride..][..K.min(strips.taps)];
                let part: f32 = line.iter().enumerate().map(|(i, p)| block.rows[i][l] * p).sum();
                sum += block.columns[j][l] * part;
            }
            *out += sum;
        }
    }
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
    match strips.taps {
        2 => forward_taps::<2>(view, slab, strips, place, values, strip),
        3 => forward_taps::<3>(view, slab, strips, place, values, strip),
        4 => forward_taps::<4>(view, slab, strips, place, values, strip),
        5..=8 => forward_taps::<8>(view, slab, strips, place, values, strip),
        _ => forward_taps::<MAX_TAPS>(view, slab, strips, place, values, strip),
    }
}

#[inline(always)]
fn forward_taps<const K: usize>(
    view: &General,
    slab: &Slab,
    strips: &Strips,
    place: [usize; 2],
    values: &[f32],
    strip: &mut [f32],
) {
    let (start, mut block) = (start(view, place), Block::<K>::new());
    for (first, values) in slab.slices.clone().step_by(LANES).zip(values[..slab.slices.len()].chunks(LANES)) {
        block.fill(view, strips, start, first);
        for (l, value) in values.iter().enumerate() {
            let samples = &mut strip[block.offset[l] as usize..];
            for j in 0..K.min(strips.taps) {
                let weight = block.columns[j][l] * value;
                let line = &mut samples[j * strips.stride..][..K.min(strips.taps)];
                line.iter_mut().enumerate().for_each(|(i, p)| *p += weight * block.rows[i][l]);
            }
        }
    }
}
