//! The one hot loop of upright views: a column of outputs from hat-weighted samples of another column, at positions
//! that are affine in the output,
//!
//!   out[k] += sum over samples i of  max(0, 1 - |i - position(k)| / reach) in[i],     position(k) = start + reach + k step
//!
//! Back, outputs are the voxels of a column (x, y) and samples the pixels of a blended detector column; forward the
//! other way round. Eight outputs look at 8 to 16 neighbouring samples, which two loads and permutations fetch: there is no
//! gather. Positions are fixed point, so an output's bits do not depend on where its column begins; processors with wider vectors
//! take two blocks of eight together, with the same bits.
//! Per output and tap: 8 bytes from L1, 2 to 4 flops.
#![allow(unsafe_code)]

use crate::machine::Simd;

/// Outputs that are computed together.
pub(super) const WIDTH: usize = 8;
/// Outputs of which callers make whole groups: two blocks, a cache line.
pub(super) const GROUP: usize = 2 * WIDTH;
/// Zeros before and after the samples: a block of outputs that touches any sample reads no further.
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

/// Adds to `out` (a whole number of blocks) what `line` finds in `input`, which has [`PAD`] zeros on both sides.
#[inline(always)]
pub(super) fn gather(simd: Simd, input: &[f32], line: Line, out: &mut [f32]) {
    let n = input.len() - 2 * PAD;
    let step = line.step as f64 / ONE;
    assert!(line.step > 0 && line.taps <= MAX_TAPS && out.len().is_multiple_of(WIDTH), "a rising line, whole blocks");
    let (line, out) = trim(n, line, out);
    if out.is_empty() {
        return;
    }
    // Registers of samples that the 8 outputs look at; the slack is for the rounding of positions.
    let registers = match (7.0 * step + 1.001).max(0.0) {
        span if span <= 8.0 => 1,
        span if span <= 16.0 => 2,
        _ => return scattered(input, line, out),
    };
    match simd {
        // SAFETY: `Simd::available` found these instructions. `trim` leaves blocks whose first sample is at
        // -(8 step + taps) >= -56 or later and at n - 1 or earlier: what they read, 32 + taps samples, is in the zeros.
        #[cfg(target_arch = "x86_64")]
        Simd::Avx512 if 15.0 * step + 1.001 <= 32.0 => unsafe {
            let single = 15.0 * step + 1.001 <= 16.0;
            x86::gather_pairs(input.as_ptr().add(PAD), line, if single { 1 } else { 2 }, out);
        },
        // SAFETY: as above, with 16 + taps samples.
        #[cfg(target_arch = "x86_64")]
        Simd::Avx512 | Simd::Avx2 => unsafe { x86::gather(input.as_ptr().add(PAD), line, registers, out) },
        _ => blocks(input, line, out),
    }
}

/// Only those blocks whose hats touch one of `n` samples.
#[inline(always)]
fn trim(n: usize, mut line: Line, out: &mut [f32]) -> (Line, &mut [f32]) {
    let block = WIDTH as i64 * line.step;
    let blocks = (out.len() / WIDTH) as i64;
    // A block from q touches samples above q, and those up to q + block + taps.
    let lowest = -block - ((line.taps as i64) << 32);
    let highest = (n as i64) << 32;
    let first = if line.start >= lowest { 0 } else { (lowest - line.start).div_euclid(block) + 1 };
    let last = line.start + (blocks - 1) * block;
    let end = if last < highest { blocks } else { blocks - 1 - (last - highest).div_euclid(block) };
    if first >= end {
        return (line, &mut []);
    }
    line.start += first * block;
    (line, &mut out[first as usize * WIDTH..end as usize * WIDTH])
}

/// First sample of a block and the distance to it: floor and fraction of the position, the latter to 24 bits.
#[inline(always)]
fn split(position: i64) -> (isize, f32) {
    ((position >> 32) as isize, (position as u32 >> 8) as f32 * (1.0 / 16_777_216.0))
}

/// The plain form, with the arithmetic of the vectors.
fn blocks(input: &[f32], line: Line, out: &mut [f32]) {
    let step = (line.step as f64 / ONE) as f32;
    let inverse = 1.0 / line.reach;
    let mut position = line.start;
    for out in out.chunks_exact_mut(WIDTH) {
        let (base, fraction) = split(position);
        let first = (base + 1 + PAD as isize) as usize;
        for (lane, out) in out.iter_mut().enumerate() {
            let t = fraction + lane as f32 * step;
            let whole = t.floor();
            // The first sample lies 1 - delta - reach above the position.
            let (at, distance) = (first + whole as usize, 1.0 - line.reach - (t - whole));
            let weight = |k: usize| (1.0 - (distance + k as f32).abs() * inverse).max(0.0);
            *out += (0..line.taps).map(|k| weight(k) * input[at + k]).sum::<f32>();
        }
        position += WIDTH as i64 * line.step;
    }
}

/// For steps so long that eight outputs look further than 16 samples.
#[inline(never)]
fn scattered(input: &[f32], line: Line, out: &mut [f32]) {
    let inverse = 1.0 / line.reach;
    for (k, out) in out.iter_mut().enumerate() {
        let (base, fraction) = split(line.start + k as i64 * line.step);
        let first = base + 1 + PAD as isize;
        let distance = 1.0 - line.reach - fraction;
        for t in 0..line.taps {
            let sample = usize::try_from(first + t as isize).ok().and_then(|i| input.get(i)).copied().unwrap_or(0.0);
            *out += (1.0 - (distance + t as f32).abs() * inverse).max(0.0) * sample;
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{GROUP, Line, ONE, WIDTH, split};
    use std::arch::x86_64::*;

    // SAFETY of all below: called by `super::gather` only, which has checked instructions and range.

    /// Two blocks at once, the last one alone if their number is odd; the arithmetic is that of single blocks.
    #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx2,fma")]
    pub(super) unsafe fn gather_pairs(input: *const f32, line: Line, registers: usize, out: &mut [f32]) {
        let (pairs, last) = out.split_at_mut(out.len() / GROUP * GROUP);
        // SAFETY: passed on.
        unsafe {
            match (line.taps, registers) {
                (2, 1) if line.reach == 1.0 => pairs::lerp::<1>(input, line, pairs),
                (2, _) if line.reach == 1.0 => pairs::lerp::<2>(input, line, pairs),
                (2, 1) => pairs::hats::<1>(input, line, 2, pairs),
                (3, 1) => pairs::hats::<1>(input, line, 3, pairs),
                (taps, 1) => pairs::hats::<1>(input, line, taps, pairs),
                (taps, _) => pairs::hats::<2>(input, line, taps, pairs),
            }
            let start = line.start + pairs.len() as i64 * line.step;
            // Eight outputs look no further than sixteen.
            gather(input, Line { start, ..line }, 2, last);
        }
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn gather(input: *const f32, line: Line, registers: usize, out: &mut [f32]) {
        // SAFETY: passed on.
        unsafe {
            match (line.taps, registers) {
                (2, 1) if line.reach == 1.0 => lerp::<1>(input, line, out),
                (2, _) if line.reach == 1.0 => lerp::<2>(input, line, out),
                (2, 1) => hats::<1>(input, line, 2, out),
                (2, _) => hats::<2>(input, line, 2, out),
                (3, 1) => hats::<1>(input, line, 3, out),
                (3, _) => hats::<2>(input, line, 3, out),
                (taps, 1) => hats::<1>(input, line, taps, out),
                (taps, _) => hats::<2>(input, line, taps, out),
            }
        }
    }

    /// Samples p[index[lane]], from R registers.
    #[inline(always)]
    unsafe fn pick<const R: usize>(p: *const f32, index: __m256i) -> __m256 {
        // SAFETY: the caller's promise: 8 R samples from p on.
        unsafe {
            let low = _mm256_permutevar8x32_ps(_mm256_loadu_ps(p), index);
            if R == 1 {
                return low;
            }
            let high = _mm256_permutevar8x32_ps(_mm256_loadu_ps(p.add(WIDTH)), index);
            // Bit 3 of the index chooses the register.
            _mm256_blendv_ps(low, high, _mm256_castsi256_ps(_mm256_slli_epi32(index, 28)))
        }
    }

    /// lane * step
    #[inline(always)]
    unsafe fn lanes(line: Line) -> __m256 {
        // SAFETY: the caller has the instructions.
        unsafe {
            let step = _mm256_set1_ps((line.step as f64 / ONE) as f32);
            _mm256_mul_ps(step, _mm256_setr_ps(0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0))
        }
    }

    /// Linear interpolation: a hat of reach 1.
    #[inline(always)]
    unsafe fn lerp<const R: usize>(input: *const f32, line: Line, out: &mut [f32]) {
        // SAFETY: as said above.
        unsafe {
            let lanes = lanes(line);
            let mut position = line.start;
            for out in out.chunks_exact_mut(WIDTH) {
                let (base, fraction) = split(position);
                let p = input.offset(base + 1);
                let t = _mm256_add_ps(_mm256_set1_ps(fraction), lanes);
                let whole = _mm256_floor_ps(t);
                let index = _mm256_cvttps_epi32(t);
                let delta = _mm256_sub_ps(t, whole);
                let (a, b) = (pick::<R>(p, index), pick::<R>(p.add(1), index));
                // out += a + delta (b - a)
                let sum = _mm256_add_ps(_mm256_loadu_ps(out.as_ptr()), a);
                _mm256_storeu_ps(out.as_mut_ptr(), _mm256_fmadd_ps(delta, _mm256_sub_ps(b, a), sum));
                position += WIDTH as i64 * line.step;
            }
        }
    }

    #[inline(always)]
    unsafe fn hats<const R: usize>(input: *const f32, line: Line, taps: usize, out: &mut [f32]) {
        // SAFETY: as said above.
        unsafe {
            let lanes = lanes(line);
            let (one, zero, sign) = (_mm256_set1_ps(1.0), _mm256_setzero_ps(), _mm256_set1_ps(-0.0));
            let inverse = _mm256_set1_ps(1.0 / line.reach);
            let offset = _mm256_set1_ps(1.0 - line.reach);
            let mut position = line.start;
            for out in out.chunks_exact_mut(WIDTH) {
                let (base, fraction) = split(position);
                let p = input.offset(base + 1);
                let t = _mm256_add_ps(_mm256_set1_ps(fraction), lanes);
                let index = _mm256_cvttps_epi32(t);
                // Of the first sample: 1 - reach - delta.
                let mut distance = _mm256_sub_ps(offset, _mm256_sub_ps(t, _mm256_floor_ps(t)));
                let mut sum = _mm256_loadu_ps(out.as_ptr());
                for k in 0..taps {
                    let weight = _mm256_fnmadd_ps(_mm256_andnot_ps(sign, distance), inverse, one);
                    sum = _mm256_fmadd_ps(_mm256_max_ps(weight, zero), pick::<R>(p.add(k), index), sum);
                    distance = _mm256_add_ps(distance, one);
                }
                _mm256_storeu_ps(out.as_mut_ptr(), sum);
                position += WIDTH as i64 * line.step;
            }
        }
    }

    /// Two blocks in one register, the second in its upper half.
    mod pairs {
        use super::*;

        /// Of a pair of blocks from `position` on: the first sample, where each lane looks from there, and the distance to it.
        #[inline(always)]
        unsafe fn look(input: *const f32, position: i64, line: Line, lanes: __m512) -> (*const f32, __m512i, __m512) {
            // SAFETY: as said above.
            unsafe {
                const UPPER: __mmask16 = 0xff00;
                let (base, fraction) = split(position);
                let (next, fraction_next) = split(position + WIDTH as i64 * line.step);
                let fractions = _mm512_mask_mov_ps(_mm512_set1_ps(fraction), UPPER, _mm512_set1_ps(fraction_next));
                let t = _mm512_add_ps(fractions, lanes);
                let index = _mm512_cvttps_epi32(t);
                let index = _mm512_mask_add_epi32(index, UPPER, index, _mm512_set1_epi32((next - base) as i32));
                let delta = _mm512_sub_ps(t, _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC }>(t));
                (input.offset(base + 1), index, delta)
            }
        }

        /// lane * step, in both halves.
        #[inline(always)]
        unsafe fn lanes(line: Line) -> __m512 {
            // SAFETY: the caller has the instructions.
            unsafe {
                let half = super::lanes(line);
                _mm512_insertf32x8(_mm512_castps256_ps512(half), half, 1)
            }
        }

        /// Samples p[index[lane]], from R registers.
        #[inline(always)]
        unsafe fn pick<const R: usize>(p: *const f32, index: __m512i) -> __m512 {
            // SAFETY: the caller's promise: 16 R samples from p on.
            unsafe {
                if R == 1 {
                    return _mm512_permutexvar_ps(index, _mm512_loadu_ps(p));
                }
                _mm512_permutex2var_ps(_mm512_loadu_ps(p), index, _mm512_loadu_ps(p.add(GROUP)))
            }
        }

        #[inline(always)]
        pub(super) unsafe fn lerp<const R: usize>(input: *const f32, line: Line, out: &mut [f32]) {
            // SAFETY: as said above.
            unsafe {
                let (lanes, mut position) = (lanes(line), line.start);
                for out in out.chunks_exact_mut(GROUP) {
                    let (p, index, delta) = look(input, position, line, lanes);
                    let (a, b) = (pick::<R>(p, index), pick::<R>(p.add(1), index));
                    let sum = _mm512_add_ps(_mm512_loadu_ps(out.as_ptr()), a);
                    _mm512_storeu_ps(out.as_mut_ptr(), _mm512_fmadd_ps(delta, _mm512_sub_ps(b, a), sum));
                    position += GROUP as i64 * line.step;
                }
            }
        }

        #[inline(always)]
        pub(super) unsafe fn hats<const R: usize>(input: *const f32, line: Line, taps: usize, out: &mut [f32]) {
            // SAFETY: as said above.
            unsafe {
                let (lanes, mut position) = (lanes(line), line.start);
                let (one, zero) = (_mm512_set1_ps(1.0), _mm512_setzero_ps());
                let (inverse, offset) = (_mm512_set1_ps(1.0 / line.reach), _mm512_set1_ps(1.0 - line.reach));
                for out in out.chunks_exact_mut(GROUP) {
                    let (p, index, delta) = look(input, position, line, lanes);
                    let mut distance = _mm512_sub_ps(offset, delta);
                    let mut sum = _mm512_loadu_ps(out.as_ptr());
                    for k in 0..taps {
                        let weight = _mm512_fnmadd_ps(_mm512_abs_ps(distance), inverse, one);
                        sum = _mm512_fmadd_ps(_mm512_max_ps(weight, zero), pick::<R>(p.add(k), index), sum);
                        distance = _mm512_add_ps(distance, one);
                    }
                    _mm512_storeu_ps(out.as_mut_ptr(), sum);
                    position += GROUP as i64 * line.step;
                }
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
                // An odd number of blocks.
                let mut out = vec![0.5f32; 104];
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
