//! The one hot loop of both directions: sums of hat-weighted samples along a line.
//!
//! For 16 neighbouring outputs (`lane`) and a list of lines, each output takes from each line the samples around a
//! position that is affine in the lane:
//!
//!   out[lane][z] += sum over lines, samples i of  max(0, amplitude - slope |i - position(lane)|) * line[i][z]
//!
//! Forward, an output is a detector column and a line is a row or column of voxels (a plane that the ray crosses);
//! back, an output is a voxel and a line is a projection. Weights are computed once, in vectors over the lanes, and
//! serve all z of a group. Per lane, line, sample and 16 z: 64 bytes from L1, one fused multiply-add.
#![allow(unsafe_code)]

use crate::machine::Simd;

/// Lanes whose weights are computed together.
pub(super) const LANES: usize = 16;
/// Slices of one vector. A group has 1 or 2 of them.
pub(super) const WIDTH: usize = 16;
/// Most lines of one call.
pub(super) const MAX_LINES: usize = 16;
/// Most samples that a weight covers on one line; wider footprints are split by the caller's geometry check.
pub(super) const MAX_TAPS: usize = 32;

/// One line of samples, and where the outputs look on it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Line {
    /// Vector (of [`WIDTH`] floats) of sample 0.
    pub base: usize,
    /// Sample position of lane 0 and its step per lane.
    pub start: f64,
    pub step: f64,
    /// Half-width of the hat in samples.
    pub reach: f64,
    /// Height of the hat, and height / reach.
    pub amplitude: f32,
    pub slope: f32,
}

/// What all lines of a call have in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct Samples<'a> {
    /// Packed data, z innermost, with `taps` zero samples before sample 0 and after sample n - 1 of each line.
    pub data: &'a [f32],
    /// Vectors from one sample to the next.
    pub stride: usize,
    /// Samples of a line, n.
    pub count: usize,
    /// Samples under the hat, ceil(2 reach).
    pub taps: usize,
    /// Vectors per sample: 1 or 2.
    pub vectors: usize,
}

/// Weights of 16 lanes on up to 16 lines.
#[repr(align(64))]
pub(super) struct Table {
    offset: [[i32; LANES]; MAX_LINES],
    /// `[line][tap]`, as close together as the number of taps allows.
    weight: [[f32; LANES]; MAX_TAPS * MAX_LINES],
}

impl Table {
    pub(super) fn new() -> Box<Self> {
        Box::new(Self { offset: [[0; LANES]; MAX_LINES], weight: [[0.0; LANES]; MAX_TAPS * MAX_LINES] })
    }
}

/// Add to each of the outputs in `out` (at most 16, of `16 * vectors` floats each) the sums over `lines`.
pub(super) fn gather(simd: Simd, table: &mut Table, samples: Samples<'_>, lines: &[Line], out: &mut [f32]) {
    let Samples { data, stride, count, taps, vectors } = samples;
    assert!(vectors == 1 || vectors == 2, "a group has 1 or 2 vectors");
    assert!((1..=MAX_TAPS).contains(&taps) && lines.len() <= MAX_LINES, "the table has room");
    assert!(out.len() <= LANES * vectors * WIDTH && out.len().is_multiple_of(vectors * WIDTH), "at most 16 outputs");
    for line in lines {
        let end = line.base + (count + taps - 1) * stride + vectors;
        let inside = line.base >= taps * stride && end * WIDTH <= data.len();
        assert!(inside, "a line and its zero samples lie inside the data");
    }
    match simd {
        // SAFETY: `Simd::available` found these instructions; `fill` keeps every first sample within
        // [-taps, count] (also for NaN), so all reads are within the zero samples around a line, checked above.
        #[cfg(target_arch = "x86_64")]
        Simd::Avx512 => unsafe { x86::avx512(table, samples, lines, out) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Simd::Avx2 => unsafe { x86::avx2(table, samples, lines, out) },
        // SAFETY: as above; no special instructions.
        _ => unsafe { run::<[f32; WIDTH]>(table, samples, lines, out) },
    }
}

/// 16 floats, one for each of 16 slices.
trait Vector: Copy {
    fn zero() -> Self;
    /// # Safety
    /// `p` points to 16 floats; the processor has this type's instructions. So for the other functions.
    unsafe fn load(p: *const f32) -> Self;
    unsafe fn store(self, p: *mut f32);
    unsafe fn splat(x: f32) -> Self;
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn max(self, other: Self) -> Self;
    unsafe fn abs(self) -> Self;
    /// self + weight * x
    unsafe fn fma(self, weight: f32, x: Self) -> Self;
}

/// # Safety
/// The processor has `S`'s instructions, and `gather` has checked the arguments. So for the functions below.
#[inline(always)]
unsafe fn run<S: Vector>(table: &mut Table, samples: Samples<'_>, lines: &[Line], out: &mut [f32]) {
    // SAFETY: passed on.
    unsafe {
        match (samples.taps, samples.vectors) {
            (2, 1) => rows::<S, 2, 1>(table, samples, lines, out),
            (2, _) => rows::<S, 2, 2>(table, samples, lines, out),
            (3, 1) => rows::<S, 3, 1>(table, samples, lines, out),
            (3, _) => rows::<S, 3, 2>(table, samples, lines, out),
            (_, 1) => rows_any::<S, 1>(table, samples, lines, out),
            (_, _) => rows_any::<S, 2>(table, samples, lines, out),
        }
    }
}

/// Adding this to a number below 2^51 rounds it to a whole number, which then stands in the low bits.
const ROUND: f64 = 1.5 * (1u64 << 52) as f64;

/// First samples and weights of all lanes on all lines. Written so that compilers turn it into vectors: selects for
/// `min` and `max` (whose care for NaN costs branches), and the rounding of the addition for `ceil`.
#[inline(always)]
unsafe fn fill<S: Vector>(table: &mut Table, samples: Samples<'_>, taps: usize, lines: &[Line]) {
    let (lowest, highest) = (-(taps as f64), samples.count as f64);
    let stride = samples.stride as i32;
    for (e, line) in lines.iter().enumerate() {
        let mut delta = [0f32; LANES];
        let offset = &mut table.offset[e];
        for l in 0..LANES {
            let position = line.start + line.step * l as f64;
            // The first sample under the hat: up to the whole number itself, where the weight is zero anyway.
            let first = position - line.reach + 0.5;
            let first = if first > lowest { first } else { lowest };
            let first = if first < highest { first } else { highest };
            let rounded = first + ROUND;
            offset[l] = (rounded.to_bits() as i32).wrapping_mul(stride);
            delta[l] = ((rounded - ROUND) - position) as f32;
        }
        for (k, weight) in table.weight[e * taps..][..taps].iter_mut().enumerate() {
            // max(0, amplitude - slope |delta + k|)
            // SAFETY: both arrays hold 16 floats.
            unsafe {
                let distance = S::load(delta.as_ptr()).add(S::splat(k as f32)).abs();
                S::splat(line.amplitude).fma(-line.slope, distance).max(S::zero()).store(weight.as_mut_ptr());
            }
        }
    }
}

#[inline(always)]
unsafe fn rows<S: Vector, const K: usize, const V: usize>(
    table: &mut Table,
    samples: Samples<'_>,
    lines: &[Line],
    out: &mut [f32],
) {
    let data = samples.data.as_ptr();
    // SAFETY: see `gather`.
    unsafe {
        fill::<S>(table, samples, K, lines);
        let table = &*table;
        for (lane, out) in out.chunks_exact_mut(V * WIDTH).enumerate() {
            // One chain of additions for each sample and vector.
            let mut sum = [[S::zero(); V]; K];
            for (e, line) in lines.iter().enumerate() {
                let vector = line.base as isize + *table.offset.get_unchecked(e).get_unchecked(lane) as isize;
                let p = data.offset(vector * WIDTH as isize);
                for (k, sum) in sum.iter_mut().enumerate() {
                    let weight = *table.weight.get_unchecked(e * K + k).get_unchecked(lane);
                    for (v, sum) in sum.iter_mut().enumerate() {
                        *sum = sum.fma(weight, S::load(p.add((k * samples.stride + v) * WIDTH)));
                    }
                }
            }
            for v in 0..V {
                let p = out.as_mut_ptr().add(v * WIDTH);
                let mut total = S::load(p);
                for chain in &sum {
                    total = total.add(chain[v]);
                }
                total.store(p);
            }
        }
    }
}

/// The same for any number of samples: one chain per vector.
#[inline(always)]
unsafe fn rows_any<S: Vector, const V: usize>(
    table: &mut Table,
    samples: Samples<'_>,
    lines: &[Line],
    out: &mut [f32],
) {
    let data = samples.data.as_ptr();
    // SAFETY: see `gather`.
    unsafe {
        fill::<S>(table, samples, samples.taps, lines);
        for (lane, out) in out.chunks_exact_mut(V * WIDTH).enumerate() {
            let mut sum = [S::zero(); V];
            for (e, line) in lines.iter().enumerate() {
                let vector = line.base as isize + table.offset[e][lane] as isize;
                let p = data.offset(vector * WIDTH as isize);
                for k in 0..samples.taps {
                    let weight = table.weight[e * samples.taps + k][lane];
                    for (v, sum) in sum.iter_mut().enumerate() {
                        *sum = sum.fma(weight, S::load(p.add((k * samples.stride + v) * WIDTH)));
                    }
                }
            }
            for (v, sum) in sum.iter().enumerate() {
                let p = out.as_mut_ptr().add(v * WIDTH);
                S::load(p).add(*sum).store(p);
            }
        }
    }
}

impl Vector for [f32; WIDTH] {
    #[inline(always)]
    fn zero() -> Self {
        [0.0; WIDTH]
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        // SAFETY: the caller's promise.
        unsafe { p.cast::<Self>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe { p.cast::<Self>().write_unaligned(self) }
    }
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        [x; WIDTH]
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        std::array::from_fn(|i| self[i] + other[i])
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        std::array::from_fn(|i| if self[i] > other[i] { self[i] } else { other[i] })
    }
    #[inline(always)]
    unsafe fn abs(self) -> Self {
        self.map(f32::abs)
    }
    #[inline(always)]
    unsafe fn fma(self, weight: f32, x: Self) -> Self {
        // Without the instruction, `mul_add` is a slow library call.
        let fused = cfg!(any(target_feature = "fma", target_arch = "aarch64"));
        std::array::from_fn(|i| if fused { weight.mul_add(x[i], self[i]) } else { weight * x[i] + self[i] })
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Line, Samples, Table, Vector, run};
    use std::arch::x86_64::*;

    // SAFETY of all below: called only where `Simd::available` found the instructions, with the pointers of `gather`.

    #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx2,fma")]
    pub(super) unsafe fn avx512(table: &mut Table, samples: Samples<'_>, lines: &[Line], out: &mut [f32]) {
        // SAFETY: passed on.
        unsafe { run::<__m512>(table, samples, lines, out) }
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn avx2(table: &mut Table, samples: Samples<'_>, lines: &[Line], out: &mut [f32]) {
        // SAFETY: passed on.
        unsafe { run::<[__m256; 2]>(table, samples, lines, out) }
    }

    impl Vector for __m512 {
        #[inline(always)]
        fn zero() -> Self {
            // SAFETY: all bits zero is sixteen times 0.0.
            unsafe { std::mem::zeroed() }
        }
        #[inline(always)]
        unsafe fn load(p: *const f32) -> Self {
            // SAFETY: the caller's promise; so below.
            unsafe { _mm512_loadu_ps(p) }
        }
        #[inline(always)]
        unsafe fn store(self, p: *mut f32) {
            // SAFETY: as above.
            unsafe { _mm512_storeu_ps(p, self) }
        }
        #[inline(always)]
        unsafe fn splat(x: f32) -> Self {
            // SAFETY: as above.
            unsafe { _mm512_set1_ps(x) }
        }
        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            // SAFETY: as above.
            unsafe { _mm512_add_ps(self, other) }
        }
        #[inline(always)]
        unsafe fn max(self, other: Self) -> Self {
            // SAFETY: as above.
            unsafe { _mm512_max_ps(self, other) }
        }
        #[inline(always)]
        unsafe fn abs(self) -> Self {
            // SAFETY: as above.
            unsafe { _mm512_abs_ps(self) }
        }
        #[inline(always)]
        unsafe fn fma(self, weight: f32, x: Self) -> Self {
            // SAFETY: as above.
            unsafe { _mm512_fmadd_ps(_mm512_set1_ps(weight), x, self) }
        }
    }

    impl Vector for [__m256; 2] {
        #[inline(always)]
        fn zero() -> Self {
            // SAFETY: all bits zero is sixteen times 0.0.
            unsafe { std::mem::zeroed() }
        }
        #[inline(always)]
        unsafe fn load(p: *const f32) -> Self {
            // SAFETY: the caller's promise; so below.
            unsafe { [_mm256_loadu_ps(p), _mm256_loadu_ps(p.add(8))] }
        }
        #[inline(always)]
        unsafe fn store(self, p: *mut f32) {
            // SAFETY: as above.
            unsafe {
                _mm256_storeu_ps(p, self[0]);
                _mm256_storeu_ps(p.add(8), self[1]);
            }
        }
        #[inline(always)]
        unsafe fn splat(x: f32) -> Self {
            // SAFETY: as above.
            unsafe { [_mm256_set1_ps(x); 2] }
        }
        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            // SAFETY: as above.
            unsafe { [_mm256_add_ps(self[0], other[0]), _mm256_add_ps(self[1], other[1])] }
        }
        #[inline(always)]
        unsafe fn max(self, other: Self) -> Self {
            // SAFETY: as above.
            unsafe { [_mm256_max_ps(self[0], other[0]), _mm256_max_ps(self[1], other[1])] }
        }
        #[inline(always)]
        unsafe fn abs(self) -> Self {
            // SAFETY: as above.
            unsafe { self.map(|x| _mm256_andnot_ps(_mm256_set1_ps(-0.0), x)) }
        }
        #[inline(always)]
        unsafe fn fma(self, weight: f32, x: Self) -> Self {
            // SAFETY: as above.
            unsafe {
                let weight = _mm256_set1_ps(weight);
                [_mm256_fmadd_ps(weight, x[0], self[0]), _mm256_fmadd_ps(weight, x[1], self[1])]
            }
        }
    }
}
