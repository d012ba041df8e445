//! Truncated Fourier transforms of real fields as products of matrices.
//!
//! Of x̂_k = Σ_n x_n e^{−2πi k·n/N} only the modes |k_a| ≤ m_a are made: along the last axis 0 ≤ k < m, along the others k from 0 to
//! m − 1 and from −m to −1, as in the reference implementations of Fourier neural operators. The inverse is
//! x_n = (1/N) Re Σ_k c_k x̂_k e^{2πi k·n/N}, with c = 1 for k_last = 0 and the Nyquist mode, else 2: what an inverse real transform of
//! the zero-padded modes gives.

use std::f64::consts::TAU;
use std::sync::Arc;

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};

use super::pool::Pool;
use super::real::Real;

/// Matrices of a grid and its kept modes.
#[derive(Debug, Clone)]
pub struct Transform<T> {
    /// Points along each axis.
    pub points: Vec<usize>,
    /// Kept modes along each axis, in the order above.
    pub kept: Vec<Vec<i64>>,
    /// Of each axis but the last: cosines above sines of 2πkn/N, `[2 kept, points]`, and the transpose of each half,
    /// `[2 points, kept]`.
    complex: Vec<(Vec<T>, Vec<T>)>,
    /// Of the last axis: `[points, cos | −sin]` and `[cos | −sin, points]`.
    last: (Vec<T>, Vec<T>),
    /// c_k/N along the last axis.
    weights: Vec<T>,
    /// Memory of the passes, also of other transforms.
    pub pool: Arc<Pool<T>>,
}

/// c ← a b, row-major, `[rows, depth] [depth, cols]`; rows of `c` are `pitch` apart.
pub(super) fn product<T: Real>(
    c: &mut [T],
    pitch: usize,
    a: &[T],
    b: &[T],
    (rows, depth, cols): (usize, usize, usize),
) {
    // faer 0.24.4 swaps the strides of `from_row_major_slice_with_stride_mut`.
    let c = MatMut::from_column_major_slice_with_stride_mut(c, cols, rows, pitch).transpose_mut();
    let (a, b) = (MatRef::from_row_major_slice(a, rows, depth), MatRef::from_row_major_slice(b, depth, cols));
    matmul(c, Accum::Replace, a, b, T::of(1.0), Par::Seq);
}

impl<T: Real> Transform<T> {
    /// Of fields on `points`, keeping `modes` along each axis: at most half of the points, on the last axis one more.
    pub fn new(points: &[usize], modes: &[usize]) -> Self {
        Self::window(points, modes, (points[points.len() - 1], 0))
    }

    /// Along the last axis the points are those from `offset` on of a `period` that is longer: the others are zero for the analysis, and
    /// the synthesis does not make them.
    pub fn window(points: &[usize], modes: &[usize], (period, offset): (usize, usize)) -> Self {
        let kept = |axis: usize| -> Vec<i64> {
            let m = modes[axis] as i64;
            if axis + 1 == points.len() { (0..m).collect() } else { (0..m).chain(-m..0).collect() }
        };
        Self::of(points, (0..points.len()).map(kept).collect(), (period, offset))
    }

    /// All modes.
    pub fn whole(points: &[usize]) -> Self {
        let kept = |axis: usize| -> Vec<i64> {
            let n = points[axis] as i64;
            if axis + 1 == points.len() { (0..=n / 2).collect() } else { (0..(n + 1) / 2).chain(-(n / 2)..0).collect() }
        };
        Self::of(points, (0..points.len()).map(kept).collect(), (points[points.len() - 1], 0))
    }

    /// The same with the memory of others.
    #[must_use]
    pub fn sharing(self, pool: &Arc<Pool<T>>) -> Self {
        Self { pool: pool.clone(), ..self }
    }

    /// Real multiplications and additions of an analysis, or of a synthesis, of one field.
    pub fn flops(points: &[usize], modes: &[usize]) -> f64 {
        // The last axis, then the others with two products for each.
        let (mut rest, mut all) = (points.iter().product::<usize>() as f64, 0.0);
        for (axis, (n, m)) in points.iter().zip(modes).enumerate().rev() {
            let last = axis + 1 == points.len();
            let kept = if last { *m as f64 } else { 2.0 * *m as f64 };
            all += if last { 4.0 } else { 8.0 } * rest * kept;
            rest *= kept / *n as f64;
        }
        all
    }

    fn of(points: &[usize], kept: Vec<Vec<i64>>, (period, offset): (usize, usize)) -> Self {
        let d = points.len();
        // The angle is reduced first, so that it has all digits.
        let angle = |k: i64, n: usize, of: usize| {
            let turns = (k * n as i64).rem_euclid(of as i64);
            (TAU * turns as f64 / of as f64).sin_cos()
        };
        let stack = |axis: usize| {
            let (n, ks) = (points[axis], &kept[axis]);
            let rows = |part: fn((f64, f64)) -> f64| {
                ks.iter().flat_map(move |k| (0..n).map(move |i| T::of(part(angle(*k, i, n))))).collect::<Vec<T>>()
            };
            let columns = |part: fn((f64, f64)) -> f64| {
                (0..n).flat_map(move |i| ks.iter().map(move |k| T::of(part(angle(*k, i, n))))).collect::<Vec<T>>()
            };
            ([rows(|a| a.1), rows(|a| a.0)].concat(), [columns(|a| a.1), columns(|a| a.0)].concat())
        };
        let (n, ks) = (points[d - 1], &kept[d - 1]);
        let entry = |i: usize, part: usize, k: i64| {
            let (sin, cos) = angle(k, i + offset, period);
            T::of(if part == 0 { cos } else { -sin })
        };
        let parts = || [0, 1].into_iter().flat_map(|part| ks.iter().map(move |k| (part, *k)));
        let analysis = (0..n).flat_map(|i| parts().map(move |(part, k)| entry(i, part, k))).collect();
        let synthesis = parts().flat_map(|(part, k)| (0..n).map(move |i| entry(i, part, k))).collect();
        let all = points[..d - 1].iter().product::<usize>() * period;
        let weight = |k: &i64| {
            let single = *k == 0 || 2 * *k == period as i64;
            T::of(if single { 1.0 } else { 2.0 } / all as f64)
        };
        Self {
            points: points.to_vec(),
            complex: (0..d - 1).map(stack).collect(),
            last: (analysis, synthesis),
            weights: ks.iter().map(weight).collect(),
            kept,
            pool: Arc::default(),
        }
    }

    /// Points of a field.
    pub fn size(&self) -> usize {
        self.points.iter().product()
    }

    /// Kept modes of all axes but the last.
    pub fn outer(&self) -> usize {
        self.kept[..self.kept.len() - 1].iter().map(Vec::len).product()
    }

    /// Kept modes of the last axis.
    pub fn inner(&self) -> usize {
        self.weights.len()
    }

    /// Real numbers of the coefficients of `channels` fields.
    pub fn coefficients(&self, channels: usize) -> usize {
        2 * self.outer() * self.inner() * channels
    }

    /// x̂ of `channels` fields `[channel, points]`: `[outer modes, channel, re | im, inner modes]`.
    pub fn analysis(&self, x: &[T], channels: usize) -> Vec<T> {
        let (n, width) = (self.points[self.points.len() - 1], 2 * self.inner());
        let lines = self.size() / n;
        // `[lines, channel, width]`
        let mut z = self.pool.take(lines * channels * width);
        for (c, x) in x.chunks(self.size()).enumerate() {
            product(&mut z[c * width..], channels * width, x, &self.last.0, (lines, n, width));
        }
        for axis in (0..self.complex.len()).rev() {
            let stacked = (self.complex[axis].0.as_slice(), self.kept[axis].len(), self.points[axis]);
            z = self.along(z, axis, stacked, channels, -1.0);
        }
        z
    }

    /// Re Σ_k ŷ_k e^{2πi k·n/N} of `channels` fields' coefficients: the adjoint of [`Transform::analysis`].
    pub fn adjoint(&self, mut y: Vec<T>, channels: usize) -> Vec<T> {
        for axis in 0..self.complex.len() {
            let stacked = (self.complex[axis].1.as_slice(), self.points[axis], self.kept[axis].len());
            y = self.along(y, axis, stacked, channels, 1.0);
        }
        let (n, width) = (self.points[self.points.len() - 1], 2 * self.inner());
        let (lines, size) = (self.size() / n, self.size());
        let mut x = self.pool.take(channels * size);
        for (c, x) in x.chunks_mut(size).enumerate() {
            let from = MatRef::from_row_major_slice_with_stride(&y[c * width..], lines, width, channels * width);
            let matrix = MatRef::from_row_major_slice(&self.last.1, width, n);
            matmul(MatMut::from_row_major_slice_mut(x, lines, n), Accum::Replace, from, matrix, T::of(1.0), Par::Seq);
        }
        x
    }

    /// Multiplies by c_k/N: the adjoint then is the inverse transform.
    pub fn weigh(&self, y: &mut [T]) {
        for line in y.chunks_mut(self.weights.len()) {
            line.iter_mut().zip(&self.weights).for_each(|(v, w)| *v *= *w);
        }
    }

    /// The inverse transform.
    pub fn synthesis(&self, mut y: Vec<T>, channels: usize) -> Vec<T> {
        self.weigh(&mut y);
        self.adjoint(y, channels)
    }

    /// A complex transform along `axis` from `[before, from, after]` to `[before, to, after]`: cos · z + sign i sin · z.
    fn along(
        &self,
        z: Vec<T>,
        axis: usize,
        (stacked, to, from): (&[T], usize, usize),
        channels: usize,
        sign: f64,
    ) -> Vec<T> {
        let m = self.inner();
        // Analysis goes from the last axis to the first and synthesis back: the axes before are points.
        let before: usize = self.points[..axis].iter().product();
        let after = z.len() / (before * from);
        debug_assert_eq!(after % (channels * 2 * m), 0);
        let mut out = self.pool.take(before * to * after);
        let mut both = self.pool.take(2 * to * after);
        let sign = T::of(sign);
        for (z, out) in z.chunks(from * after).zip(out.chunks_mut(to * after)) {
            product(&mut both, after, stacked, z, (2 * to, from, after));
            let (cos, sin) = both.split_at(to * after);
            // Groups of re | im, m each.
            let groups = cos.chunks(2 * m).zip(sin.chunks(2 * m)).zip(out.chunks_mut(2 * m));
            for ((cos, sin), out) in groups {
                let ((cos_re, cos_im), (sin_re, sin_im)) = (cos.split_at(m), sin.split_at(m));
                let (re, im) = out.split_at_mut(m);
                for j in 0..m {
                    re[j] = cos_re[j] - sign * sin_im[j];
                    im[j] = cos_im[j] + sign * sin_re[j];
                }
            }
        }
        self.pool.give(both);
        self.pool.give(z);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use convoke_kernels::Philox;

    fn random(len: usize, stream: u64) -> Vec<f64> {
        (0..len as u64).map(|i| Philox::new(3, stream).normal(i)).collect()
    }

    fn grids() -> [(Vec<usize>, Vec<usize>); 4] {
        [(vec![12], vec![5]), (vec![8], vec![5]), (vec![6, 9], vec![2, 4]), (vec![5, 6, 8], vec![2, 3, 5])]
    }

    /// x̂_k by the sum over all points.
    fn naive(transform: &Transform<f64>, x: &[f64]) -> Vec<[f64; 2]> {
        let d = transform.points.len();
        let modes: usize = transform.kept.iter().map(Vec::len).product();
        let place = |mut flat: usize, extents: &[usize]| -> Vec<usize> {
            let mut index = vec![0; d];
            for axis in (0..d).rev() {
                index[axis] = flat % extents[axis];
                flat /= extents[axis];
            }
            index
        };
        let extents: Vec<usize> = transform.kept.iter().map(Vec::len).collect();
        let of = |mode: usize| {
            let k = place(mode, &extents);
            let mut sum = [0.0; 2];
            for (i, x) in x.iter().enumerate() {
                let n = place(i, &transform.points);
                let turns = (0..d).map(|a| transform.kept[a][k[a]] as f64 * n[a] as f64 / transform.points[a] as f64);
                let (sin, cos) = (TAU * turns.sum::<f64>()).sin_cos();
                sum[0] += x * cos;
                sum[1] -= x * sin;
            }
            sum
        };
        (0..modes).map(of).collect()
    }

    #[test]
    fn analysis_is_the_sum_over_the_points_to_1e_13() {
        for (points, modes) in grids() {
            let transform = Transform::<f64>::new(&points, &modes);
            let (size, m) = (transform.size(), transform.inner());
            let x = random(2 * size, 1);
            let found = transform.analysis(&x, 2);
            for c in 0..2 {
                for (mode, sum) in naive(&transform, &x[c * size..(c + 1) * size]).iter().enumerate() {
                    let at = ((mode / m) * 2 + c) * 2 * m + mode % m;
                    let error = (found[at] - sum[0]).abs().max((found[at + m] - sum[1]).abs());
                    assert!(error < 1e-13 * size as f64, "{points:?} {modes:?}: {error:e}");
                }
            }
        }
    }

    /// ⟨T x, y⟩ = ⟨x, Tᴴ y⟩ to 1e-12, and fields of kept modes come back from the inverse.
    #[test]
    fn the_adjoint_is_one_and_the_inverse_inverts() {
        for (points, modes) in grids() {
            let transform = Transform::<f64>::new(&points, &modes);
            let (x, y) = (random(3 * transform.size(), 2), random(transform.coefficients(3), 3));
            let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
            let left = dot(&transform.analysis(&x, 3), &y);
            let right = dot(&x, &transform.adjoint(y.clone(), 3));
            assert!((left - right).abs() < 1e-12 * dot(&y, &y).sqrt() * dot(&x, &x).sqrt(), "{points:?}");
            // Once is a projection.
            let once = transform.synthesis(transform.analysis(&x, 3), 3);
            let twice = transform.synthesis(transform.analysis(&once, 3), 3);
            // Modes −m and, on the last axis, k = 0 of negative modes have no partner: those the real part halves.
            let unpaired = points.len() > 1;
            let far = once.iter().zip(&twice).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(unpaired || far < 1e-12, "{points:?}: {far:e}");
        }
        let transform = Transform::<f64>::new(&[16, 12], &[3, 4]);
        let wave: Vec<f64> = (0..16 * 12)
            .map(|i| (TAU * (2.0 * (i / 12) as f64 / 16.0 - 3.0 * (i % 12) as f64 / 12.0) + 0.3).cos())
            .collect();
        let back = transform.synthesis(transform.analysis(&wave, 1), 1);
        assert!(wave.iter().zip(&back).all(|(a, b)| (a - b).abs() < 1e-13));
    }
}
