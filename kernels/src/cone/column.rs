//! The one hot loop of upright views: a column of outputs from hat-weighted samples of another column, at positions
//! that are affine in the output,
//!
//!   out[k] += sum over samples i of  max(0, 1 - |i - position(k)| / reach) in[i],     position(k) = start + reach + k step
//!
//! Back, outputs are the voxels of a column (x, y) and samples the pixels of a blended detector column; forward the
//! other way round. Sixteen outputs look at neighbouring samples, which a few loads and permutations fetch: there is no
//! gather. Positions are fixed point, the same for every set of instructions, so an output's bits depend neither on them nor on
//! where its column begins. Per output and tap: 8 bytes from L1, 2 to 4 flops.
#![allow(unsafe_code)]

use crate::machine::Simd;

/// Outputs whose positions are counted from one place: columns are whole groups of them, from multiples on.
pub(super) const GROUP: usize = 16;
/// Outputs of a vector of AVX2.
const HALF: usize = 8;
/// Zeros before and after the samples: a group of outputs that touches any sample reads no further.
pub(super) const PAD: usize = 80;
/// Most samples under a hat.
pub(super) const MAX_TAPS: usize = 36;

/// 1 in the fixed point of positions: 32 bits behind the point.
pub(super) const ONE: f64 = (1u64 << 32) as f64;

/// Where the outputs look. The last two follow from the first ones.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    /// Position of output 0 less reach, times 2^32.
    pub start: i64,
    /// Positions from one output to the next, times 2^32; positive.
    pub step: i64,
    /// Half-width of the hat in samples.
    pub reach: f32,
    /// Samples under the hat, ceil(2 reach).
    pub taps: usize,
}

/// Samples under a hat. The slack forgives the rounding of a reach that is a whole number.
#[inline(always)]
pub(super) fn taps(reach: f64) -> usize {
    // Of a number that is not whole, the ceiling without a call.
    ((2.0 * reach - 1e-6) as usize + 1).clamp(2, MAX_TAPS)
}

/// A position or a step in fixed point.
#[inline(always)]
pub(super) fn fixed(x: f64) -> i64 {
    (x * ONE) as i64
}

/// Adds to `out` (a whole number of groups) what `line` finds in `input`, which has [`PAD`] zeros on both sides.
#[inline(always)]
pub(super) fn gather(simd: Simd, input: &[f32], line: Line, out: &mut [f32]) {
    let n = input.len() - 2 * PAD;
    let step = line.step as f64 / ONE;
    assert!(line.step > 0 && line.taps <= MAX_TAPS && out.len().is_multiple_of(GROUP), "a rising line, whole groups");
    let (line, out) = trim(n, line, out);
    if out.is_empty() {
        return;
    }
    // How far the first so many outputs look; the slack is for the rounding of positions.
    let span = |outputs: usize| (outputs - 1) as f64 * step + 1.001;
    if span(HALF) > 16.0 {
        return scattered(input, line, out);
    }
    match simd {
        // SAFETY: `Simd::available` found these instructions. `trim` leaves groups whose first sample is at
        // -(16 step + taps) >= -71 or later and at n - 1 or earlier: what they read, 16 to 32 + taps samples of a register or two from
        // there on, or 16 + taps from 8 step <= 18 on, is in the zeros.
        #[cfg(target_arch = "x86_64")]
        Simd::Avx512 if span(GROUP) <= 32.0 => unsafe {
            x86::wide(input.as_ptr().add(PAD), line, span(GROUP) <= 16.0, out);
        },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Simd::Avx512 | Simd::Avx2 => unsafe { x86::halves(input.as_ptr().add(PAD), line, span(HALF) <= 8.0, out) },
        _ => groups(input, line, out),
    }
}

/// Only those groups whose hats touch one of `n` samples.
#[inline(always)]
fn trim(n: usize, mut line: Line, out: &mut [f32]) -> (Line, &mut [f32]) {
    let group = GROUP as i64 * line.step;
    let groups = (out.len() / GROUP) as i64;
    // A group from q touches samples above q, and those up to q + group + taps.
    let lowest = -group - ((line.taps as i64) << 32);
    let highest = (n as i64) << 32;
    let first = if line.start >= lowest { 0 } else { (lowest - line.start).div_euclid(group) + 1 };
    let last = line.start + (groups - 1) * group;
    let end = if last < highest { groups } else { groups - 1 - (last - highest).div_euclid(group) };
    if first >= end {
        return (line, &mut []);
    }
    line.start += first * group;
    (line, &mut out[first as usize * GROUP..end as usize * GROUP])
}

/// Bits behind the point of positions within a group.
const FINE: u32 = 24;

/// Positions within a group.
impl Line {
    /// From one output to the next.
    #[inline(always)]
    fn fine_step(self) -> i32 {
        ((self.step + (1 << (31 - FINE))) >> (32 - FINE)) as i32
    }
}

/// Where a group begins: floor of the position, and its fraction within the group.
#[inline(always)]
fn split(position: i64) -> (isize, i32) {
    ((position >> 32) as isize, (position as u32 >> (32 - FINE)) as i32)
}

/// 1 of a position within a group, and what follows the point.
const FINE_ONE: f32 = (1u32 << FINE) as f32;
const FRACTION: i32 = (1 << FINE) - 1;

/// The plain form, with the arithmetic of the vectors.
fn groups(input: &[f32], line: Line, out: &mut [f32]) {
    let inverse = 1.0 / line.reach;
    let mut position = line.start;
    for out in out.chunks_exact_mut(GROUP) {
        let (base, fraction) = split(position);
        let first = (base + 1 + PAD as isize) as usize;
        for (lane, out) in out.iter_mut().enumerate() {
            let t = fraction + lane as i32 * line.fine_step();
            let delta = (t & FRACTION) as f32 * (1.0 / FINE_ONE);
            // The first sample lies 1 - delta - reach above the position.
            let (at, distance) = (first + (t >> FINE) as usize, 1.0 - line.reach - delta);
            let weight = |k: usize| (1.0 - (distance + k as f32).abs() * inverse).max(0.0);
            *out += (0..line.taps).map(|k| weight(k) * input[at + k]).sum::<f32>();
        }
        position += GROUP as i64 * line.step;
    }
}

/// For steps so long that half a group looks further than 16 samples.
#[inline(never)]
fn scattered(input: &[f32], line: Line, out: &mut [f32]) {
    let inverse = 1.0 / line.reach;
    for (k, out) in out.iter_mut().enumerate() {
        let (base, fraction) = split(line.start + k as i64 * line.step);
        let first = base + 1 + PAD as isize;
        let distance = 1.0 - line.reach - fraction as f32 * (1.0 / FINE_ONE);
        for t in 0..line.taps {
            let sample = usize::try_from(first + t as isize).ok().and_then(|i| input.get(i)).copied().unwrap_or(0.0);
            *out += (1.0 - (distance + t as f32).abs() * inverse).max(0.0) * sample;
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{FINE, FINE_ONE, FRACTION, GROUP, HALF, Line, split};
    use std::arch::x86_64::*;

    // SAFETY of all below: called by `super::gather` only, which has checked instructions and range.

    /// A group in one register, whose samples stand in one or two.
    #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx2,fma")]
    pub(super) unsafe fn wide(input: *const f32, line: Line, single: bool, out: &mut [f32]) {
        // SAFETY: passed on.
        unsafe {
            match (line.taps, single) {
                (2, true) if line.reach == 1.0 => lerp::<Wide<1>>(input, line, out),
                (2, false) if line.reach == 1.0 => lerp::<Wide<2>>(input, line, out),
                (2, true) => hats::<Wide<1>>(input, line, 2, out),
                (2, false) => hats::<Wide<2>>(input, line, 2, out),
                (3, true) => hats::<Wide<1>>(input, line, 3, out),
                (3, false) => hats::<Wide<2>>(input, line, 3, out),
                (taps, true) => hats::<Wide<1>>(input, line, taps, out),
                (taps, false) => hats::<Wide<2>>(input, line, taps, out),
            }
        }
    }

    /// The halves of a group, one after the other.
    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn halves(input: *const f32, line: Line, single: bool, out: &mut [f32]) {
        // SAFETY: passed on.
        unsafe {
            match (line.taps, single) {
                (2, true) if line.reach == 1.0 => lerp::<Half<1>>(input, line, out),
                (2, false) if line.reach == 1.0 => lerp::<Half<2>>(input, line, out),
                (2, true) => hats::<Half<1>>(input, line, 2, out),
                (2, false) => hats::<Half<2>>(input, line, 2, out),
                (3, true) => hats::<Half<1>>(input, line, 3, out),
                (3, false) => hats::<Half<2>>(input, line, 3, out),
                (taps, true) => hats::<Half<1>>(input, line, taps, out),
                (taps, false) => hats::<Half<2>>(input, line, taps, out),
            }
        }
    }

    /// Lanes of floats, and of whole numbers that choose samples.
    ///
    /// # Safety
    /// The processor has the instructions; pointers point to what is read.
    trait Lanes: Copy {
        const COUNT: usize;
        type Index: Copy;
        /// lane times step.
        unsafe fn steps(step: i32) -> Self::Index;
        /// Whole and fractional part of positions from `start` on, `steps` apart.
        unsafe fn positions(start: i32, steps: Self::Index) -> (Self::Index, Self);
        /// Samples p[index[lane]].
        unsafe fn pick(p: *const f32, index: Self::Index) -> Self;
        unsafe fn load(p: *const f32) -> Self;
        unsafe fn store(self, p: *mut f32);
        unsafe fn splat(x: f32) -> Self;
        unsafe fn add(self, other: Self) -> Self;
        unsafe fn sub(self, other: Self) -> Self;
        /// a b + self
        unsafe fn fma(self, a: Self, b: Self) -> Self;
        /// max(0, 1 - |self| inverse)
        unsafe fn hat(self, inverse: Self) -> Self;
    }

    /// Calls `each` with the first sample, the lanes' choices among those that follow, the distances to them, and the outputs.
    #[inline(always)]
    unsafe fn blocks<L: Lanes>(
        input: *const f32,
        line: Line,
        out: &mut [f32],
        each: impl Fn(*const f32, L::Index, L, &mut [f32]),
    ) {
        // SAFETY: as said above.
        unsafe {
            let step = line.fine_step();
            let (steps, mut position) = (L::steps(step), line.start);
            for out in out.chunks_exact_mut(GROUP) {
                let (base, mut fraction) = split(position);
                let mut p = input.offset(base + 1);
                for out in out.chunks_exact_mut(L::COUNT) {
                    let (index, delta) = L::positions(fraction, steps);
                    each(p, index, delta, out);
                    fraction += L::COUNT as i32 * step;
                    p = p.offset((fraction >> FINE) as isize);
                    fraction &= FRACTION;
                }
                position += GROUP as i64 * line.step;
            }
        }
    }

    /// Linear interpolation: a hat of reach 1.
    #[inline(always)]
    unsafe fn lerp<L: Lanes>(input: *const f32, line: Line, out: &mut [f32]) {
        // SAFETY: as said above.
        unsafe {
            blocks::<L>(
                input,
                line,
                out,
                #[inline(always)]
                |p, index, delta, out| {
                    let (a, b) = (L::pick(p, index), L::pick(p.add(1), index));
                    // out += a + delta (b - a)
                    L::load(out.as_ptr()).add(a).fma(delta, b.sub(a)).store(out.as_mut_ptr());
                },
            );
        }
    }

    #[inline(always)]
    unsafe fn hats<L: Lanes>(input: *const f32, line: Line, taps: usize, out: &mut [f32]) {
        // SAFETY: as said above.
        unsafe {
            let (one, inverse, offset) = (L::splat(1.0), L::splat(1.0 / line.reach), L::splat(1.0 - line.reach));
            blocks::<L>(
                input,
                line,
                out,
                #[inline(always)]
                |p, index, delta, out| {
                    // Of the first sample: 1 - reach - delta.
                    let mut distance = offset.sub(delta);
                    let mut sum = L::load(out.as_ptr());
                    for k in 0..taps {
                        sum = sum.fma(distance.hat(inverse), L::pick(p.add(k), index));
                        distance = distance.add(one);
                    }
                    sum.store(out.as_mut_ptr());
                },
            );
        }
    }

    /// Sixteen lanes, samples from R registers.
    #[derive(Clone, Copy)]
    struct Wide<const R: usize>(__m512);

    /// Eight lanes, samples from R registers.
    #[derive(Clone, Copy)]
    struct Half<const R: usize>(__m256);

    impl<const R: usize> Lanes for Wide<R> {
        const COUNT: usize = GROUP;
        type Index = __m512i;
        #[inline(always)]
        unsafe fn steps(step: i32) -> __m512i {
            // SAFETY: the caller's promise; so below.
            unsafe {
                let lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
                _mm512_mullo_epi32(lanes, _mm512_set1_epi32(step))
            }
        }
        #[inline(always)]
        unsafe fn positions(start: i32, steps: __m512i) -> (__m512i, Self) {
            // SAFETY: as above.
            unsafe {
                let t = _mm512_add_epi32(_mm512_set1_epi32(start), steps);
                let fraction = _mm512_cvtepi32_ps(_mm512_and_si512(t, _mm512_set1_epi32(FRACTION)));
                (_mm512_srli_epi32::<FINE>(t), Self(_mm512_mul_ps(fraction, _mm512_set1_ps(1.0 / FINE_ONE))))
            }
        }
        #[inline(always)]
        unsafe fn pick(p: *const f32, index: __m512i) -> Self {
            // SAFETY: as above.
            unsafe {
                if R == 1 {
                    return Self(_mm512_permutexvar_ps(index, _mm512_loadu_ps(p)));
                }
                Self(_mm512_permutex2var_ps(_mm512_loadu_ps(p), index, _mm512_loadu_ps(p.add(GROUP))))
            }
        }
        #[inline(always)]
        unsafe fn load(p: *const f32) -> Self {
            // SAFETY: as above.
            unsafe { Self(_mm512_loadu_ps(p)) }
        }
        #[inline(always)]
        unsafe fn store(self, p: *mut f32) {
            // SAFETY: as above.
            unsafe { _mm512_storeu_ps(p, self.0) }
        }
        #[inline(always)]
        unsafe fn splat(x: f32) -> Self {
            // SAFETY: as above.
            unsafe { Self(_mm512_set1_ps(x)) }
        }
        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            // SAFETY: as above.
            unsafe { Self(_mm512_add_ps(self.0, other.0)) }
        }
        #[inline(always)]
        unsafe fn sub(self, other: Self) -> Self {
            // SAFETY: as above.
            unsafe { Self(_mm512_sub_ps(self.0, other.0)) }
        }
        #[inline(always)]
        unsafe fn fma(self, a: Self, b: Self) -> Self {
            // SAFETY: as above.
            unsafe { Self(_mm512_fmadd_ps(a.0, b.0, self.0)) }
        }
        #[inline(always)]
        unsafe fn hat(self, inverse: Self) -> Self {
            // SAFETY: as above.
            unsafe {
                let weight = _mm512_fnmadd_ps(_mm512_abs_ps(self.0), inverse.0, _mm512_set1_ps(1.0));
                Self(_mm512_max_ps(weight, _mm512_setzero_ps()))
            }
        }
    }

    impl<const R: usize> Lanes for Half<R> {
        const COUNT: usize = HALF;
        type Index = __m256i;
        #[inline(always)]
        unsafe fn steps(step: i32) -> __m256i {
            // SAFETY: the caller's promise; so below.
            unsafe { _mm256_mullo_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), _mm256_set1_epi32(step)) }
        }
        #[inline(always)]
        unsafe fn positions(start: i32, steps: __m256i) -> (__m256i, Self) {
            // SAFETY: as above.
            unsafe {
                let t = _mm256_add_epi32(_mm256_set1_epi32(start), steps);
                let fraction = _mm256_cvtepi32_ps(_mm256_and_si256(t, _mm256_set1_epi32(FRACTION)));
                (_mm256_srli_epi32::<{ FINE as i32 }>(t), Self(_mm256_mul_ps(fraction, _mm256_set1_ps(1.0 / FINE_ONE))))
            }
        }
        #[inline(always)]
        unsafe fn pick(p: *const f32, index: __m256i) -> Self {
            // SAFETY: as above.
            unsafe {
                let low = _mm256_permutevar8x32_ps(_mm256_loadu_ps(p), index);
                if R == 1 {
                    return Self(low);
                }
                let high = _mm256_permutevar8x32_ps(_mm256_loadu_ps(p.add(HALF)), index);
                // Bit 3 of the index chooses the register.
                Self(_mm256_blendv_ps(low, high, _mm256_castsi256_ps(_mm256_slli_epi32::<28>(index))))
            }
        }
        #[inline(always)]
        unsafe fn load(p: *const f32) -> Self {
            // SAFETY: as above.
            unsafe { Self(_mm256_loadu_ps(p)) }
        }
        #[inline(always)]
        unsafe fn store(self, p: *mut f32) {
            // SAFETY: as above.
            unsafe { _mm256_storeu_ps(p, self.0) }
        }
        #[inline(always)]
        unsafe fn splat(x: f32) -> Self {
            // SAFETY: as above.
            unsafe { Self(_mm256_set1_ps(x)) }
        }
        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            // SAFETY: as above.
            unsafe { Self(_mm256_add_ps(self.0, other.0)) }
        }
        #[inline(always)]
        unsafe fn sub(self, other: Self) -> Self {
            // SAFETY: as above.
            unsafe { Self(_mm256_sub_ps(self.0, other.0)) }
        }
        #[inline(always)]
        unsafe fn fma(self, a: Self, b: Self) -> Self {
            // SAFETY: as above.
            unsafe { Self(_mm256_fmadd_ps(a.0, b.0, self.0)) }
        }
        #[inline(always)]
        unsafe fn hat(self, inverse: Self) -> Self {
            // SAFETY: as above.
            unsafe {
                let distance = _mm256_andnot_ps(_mm256_set1_ps(-0.0), self.0);
                let weight = _mm256_fnmadd_ps(distance, inverse.0, _mm256_set1_ps(1.0));
                Self(_mm256_max_ps(weight, _mm256_setzero_ps()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Philox;

    /// Every variant against the formula in f64: short and long steps, narrow and wide hats, lines that begin and end
    /// beyond the samples.
    #[test]
    fn every_line_equals_the_formula_to_2e_6() {
        let p = Philox::new(5, 0);
        let n = 100;
        let mut input = vec![0.0f32; n + 2 * PAD];
        input[PAD..][..n].iter_mut().enumerate().for_each(|(i, x)| *x = p.normal(i as u64) as f32);
        for (case, (step, reach, start)) in [
            (0.83, 1.0, 2.3),
            (1.0, 1.0, -3.0),
            (1.01, 1.0, -70.7),
            (1.9, 1.0, 3.1),
            (0.4, 1.7, 20.0),
            (2.5, 1.3, -300.0),
            (5.7, 9.2, -30.0),
            (1.2, 0.8, -1000.0),
            (2.1, 15.9, -40.0),
            (0.02, 1.0, 50.0),
            (1.0, 1.0, 5000.0),
        ]
        .into_iter()
        .enumerate()
        {
            let line = Line { start: fixed(start - reach), step: fixed(step), reach: reach as f32, taps: taps(reach) };
            let formula = |k: usize| -> f64 {
                let at = start + step * k as f64;
                let hat = |i: usize| (1.0 - (i as f64 - at).abs() / reach).max(0.0);
                (0..n).map(|i| hat(i) * f64::from(input[PAD + i])).sum()
            };
            let mut vectors: Option<Vec<f32>> = None;
            for simd in Simd::available() {
                let mut out = vec![0.5f32; 112];
                gather(*simd, &input, line, &mut out);
                if matches!(simd, Simd::Avx512 | Simd::Avx2) {
                    assert_eq!(*vectors.get_or_insert(out.clone()), out, "case {case}, {simd:?}: not the same bits");
                }
                for (k, got) in out.iter().enumerate() {
                    let error = (formula(k) + 0.5 - f64::from(*got)).abs();
                    assert!(error < 2e-6 * reach.max(1.0) * 4.0, "case {case}, {simd:?}, output {k}: {error:e}");
                }
            }
        }
    }
}
