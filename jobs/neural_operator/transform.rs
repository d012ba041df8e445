//! Truncated Fourier transforms of real fields.
//!
//! Of x̂_k = Σ_n x_n e^{−2πi k·n/N} only the modes |k_a| ≤ m_a are made: along the last axis 0 ≤ k < m, along the others k from 0 to
//! m − 1 and from −m to −1, as in the reference implementations of Fourier neural operators. The inverse is
//! x_n = (1/N) Re Σ_k c_k x̂_k e^{2πi k·n/N}, with c = 1 for k_last = 0 and the Nyquist mode, else 2: what an inverse real transform of
//! the zero-padded modes gives.
//!
//! The exponential of a mode is a product of cosines and sines along the axes, and those of k and −k are the same: every axis is summed with
//! cosines and sines alone, in the order that costs least, and the modes are put together from the few numbers that are left.

use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;

use super::axis::{Axis, WIDE};
use super::pool::Pool;
use crate::learning::matrix::note;
use crate::learning::real::Real;

/// Points of the channels that one thread takes at once: what is left of them after the first axis stays in the second cache.
const GROUP: usize = 1 << 18;

/// A grid and its kept modes.
#[derive(Debug, Clone)]
pub struct Transform<T> {
    /// Points along each axis.
    pub points: Vec<usize>,
    /// Kept modes along each axis, in the order above.
    pub kept: Vec<Vec<i64>>,
    axes: Vec<Axis<T>>,
    /// Axes in the order of the analysis.
    order: Vec<usize>,
    /// Of each axis but the last, where k and −k lie among its kept modes, for k = 0, 1, ….
    places: Vec<Vec<[Option<usize>; 2]>>,
    /// c_k/N along the last axis.
    weights: Vec<T>,
    /// Memory of the passes, also of other transforms.
    pub pool: Arc<Pool<T>>,
}

/// The order of axes that costs least, for the analysis, and its cost.
fn cheapest<T: Real>(axes: &[Axis<T>]) -> (Vec<usize>, f64) {
    let mut best = (Vec::new(), f64::INFINITY);
    for order in permutations(axes.len()) {
        let mut sizes: Vec<usize> = axes.iter().map(Axis::points).collect();
        let mut cost = 0.0;
        for axis in &order {
            let after = sizes[axis + 1..].iter().product();
            let lines = sizes.iter().product::<usize>() / sizes[*axis];
            cost += lines as f64 * axes[*axis].flops(after);
            sizes[*axis] = axes[*axis].rows();
        }
        if cost < best.1 {
            best = (order, cost);
        }
    }
    best
}

fn permutations(n: usize) -> Vec<Vec<usize>> {
    if n == 0 {
        return vec![Vec::new()];
    }
    let shorter = permutations(n - 1);
    (0..n)
        .rev()
        .flat_map(|at| shorter.iter().map(move |order| [&order[..at], &[n - 1], &order[at..]].concat()))
        .collect()
}

fn kept(points: &[usize], modes: &[usize]) -> Vec<Vec<i64>> {
    let of = |(axis, m): (usize, &usize)| {
        let m = *m as i64;
        if axis + 1 == points.len() { (0..m).collect() } else { (0..m).chain(-m..0).collect() }
    };
    modes.iter().enumerate().map(of).collect()
}

impl<T: Real> Transform<T> {
    /// Of fields on `points`, keeping `modes` along each axis: at most half of the points, on the last axis one more.
    pub fn new(points: &[usize], modes: &[usize]) -> Self {
        Self::of(points, kept(points, modes), &whole(points))
    }

    /// Along the last axis the points are those from `offset` on of a `period` that is longer: the others are zero for the analysis, and
    /// the synthesis does not make them.
    pub fn window(points: &[usize], modes: &[usize], period: (usize, usize)) -> Self {
        Self::of(points, kept(points, modes), &last(points, period))
    }

    /// Of the points of some `rows` of the first of several axes alone: coefficients of all rows are the sum of those of their parts.
    pub fn slab(points: &[usize], modes: &[usize], rows: Range<usize>) -> Self {
        Self::window_of_slab(points, modes, rows, (points[points.len() - 1], 0))
    }

    /// [`Transform::window`] of some `rows` of the first of several axes.
    pub fn window_of_slab(points: &[usize], modes: &[usize], rows: Range<usize>, period: (usize, usize)) -> Self {
        let mut periods = last(points, period);
        periods[0].1 = rows.start;
        let mut here = points.to_vec();
        here[0] = rows.len();
        Self::of(&here, kept(points, modes), &periods)
    }

    /// All modes.
    pub fn whole(points: &[usize]) -> Self {
        let kept = |axis: usize| -> Vec<i64> {
            let n = points[axis] as i64;
            if axis + 1 == points.len() { (0..=n / 2).collect() } else { (0..(n + 1) / 2).chain(-(n / 2)..0).collect() }
        };
        Self::of(points, (0..points.len()).map(kept).collect(), &whole(points))
    }

    /// The same with the memory of others.
    #[must_use]
    pub fn sharing(self, pool: &Arc<Pool<T>>) -> Self {
        Self { pool: pool.clone(), ..self }
    }

    /// Real multiplications and additions of an analysis, or of a synthesis, of one field.
    pub fn flops(points: &[usize], modes: &[usize]) -> f64 {
        Self::count(points, &kept(points, modes), &whole(points))
    }

    /// The same of [`Transform::window`].
    pub fn window_flops(points: &[usize], modes: &[usize], period: (usize, usize)) -> f64 {
        Self::count(points, &kept(points, modes), &last(points, period))
    }

    fn count(points: &[usize], kept: &[Vec<i64>], periods: &[(usize, usize)]) -> f64 {
        let axes = Self::axes(points, kept, periods);
        // Coefficients of k and −k are a sum and a difference for each number of them.
        let (mut sizes, mut joined) = (axes.iter().map(Axis::rows).collect::<Vec<usize>>(), 0);
        for axis in (0..points.len() - 1).rev() {
            sizes[axis] = kept[axis].len();
            joined += sizes.iter().product::<usize>();
        }
        cheapest(&axes).1 + joined as f64
    }

    fn axes(points: &[usize], kept: &[Vec<i64>], periods: &[(usize, usize)]) -> Vec<Axis<T>> {
        let each = points.iter().zip(kept).zip(periods);
        each.map(|((n, kept), period)| Axis::new(*n, frequencies(kept), *period)).collect()
    }

    fn of(points: &[usize], kept: Vec<Vec<i64>>, periods: &[(usize, usize)]) -> Self {
        let d = points.len();
        let axes = Self::axes(points, &kept, periods);
        let places = |kept: &Vec<i64>| {
            let place = |k: i64| kept.iter().position(|other| *other == k);
            let of = |k: usize| [place(k as i64), if k == 0 { None } else { place(-(k as i64)) }];
            (0..frequencies(kept)).map(of).collect()
        };
        let all: usize = periods.iter().map(|(period, _)| period).product();
        let weight = |k: &i64| {
            let single = *k == 0 || 2 * *k == periods[d - 1].0 as i64;
            T::of(if single { 1.0 } else { 2.0 } / all as f64)
        };
        Self {
            points: points.to_vec(),
            order: cheapest(&axes).0,
            places: kept[..d - 1].iter().map(places).collect(),
            weights: kept[d - 1].iter().map(weight).collect(),
            axes,
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
        let sums: usize = self.axes.iter().map(Axis::rows).product();
        let mut z = self.pool.take(channels * sums);
        self.by_groups((x, self.size()), (&mut z, sums), |x, z| self.sums(x, z));
        for axis in (0..self.places.len()).rev() {
            z = self.join(z, axis, channels);
        }
        z
    }

    /// Re Σ_k ŷ_k e^{2πi k·n/N} of `channels` fields' coefficients: the adjoint of [`Transform::analysis`].
    pub fn adjoint(&self, mut y: Vec<T>, channels: usize) -> Vec<T> {
        for axis in 0..self.places.len() {
            y = self.part(y, axis, channels);
        }
        let sums: usize = self.axes.iter().map(Axis::rows).product();
        let mut x = self.pool.take(channels * self.size());
        self.by_groups((&y, sums), (&mut x, self.size()), |y, x| self.sums_back(y, x));
        self.pool.give(y);
        x
    }

    /// Large arrays by groups of channels, which stay in a thread's cache from axis to axis; others as they are: several of them, those
    /// of samples, go side by side, and a thread that waits for a part of one begins no other.
    fn by_groups(
        &self,
        (from, from_len): (&[T], usize),
        (to, to_len): (&mut [T], usize),
        pass: impl Fn(&[T], &mut [T]) + Sync,
    ) {
        let group = (GROUP / self.size()).max(1);
        if from.len().max(to.len()) < WIDE || from.len() <= group * from_len {
            return pass(from, to);
        }
        to.par_chunks_mut(group * to_len).zip(from.par_chunks(group * from_len)).for_each(|(to, from)| pass(from, to));
    }

    /// C and D along all axes.
    fn sums(&self, x: &[T], out: &mut [T]) {
        let (mut sizes, fields) = (self.points.clone(), x.len() / self.size());
        let mut z: Option<Vec<T>> = None;
        let (last, first) = self.order.split_last().expect("a grid has an axis");
        for axis in first.iter().copied() {
            let after: usize = sizes[axis + 1..].iter().product();
            sizes[axis] = self.axes[axis].rows();
            let mut next = self.pool.take(fields * sizes.iter().product::<usize>());
            self.axes[axis].analysis(&self.pool, z.as_deref().unwrap_or(x), &mut next, after);
            if let Some(z) = z.replace(next) {
                self.pool.give(z);
            }
        }
        self.axes[*last].analysis(&self.pool, z.as_deref().unwrap_or(x), out, sizes[last + 1..].iter().product());
        z.into_iter().for_each(|z| self.pool.give(z));
    }

    /// The adjoint of C and D along all axes.
    fn sums_back(&self, y: &[T], out: &mut [T]) {
        let mut sizes: Vec<usize> = self.axes.iter().map(Axis::rows).collect();
        let fields = y.len() / sizes.iter().product::<usize>();
        let mut z: Option<Vec<T>> = None;
        let (last, first) = self.order.split_first().expect("a grid has an axis");
        for axis in first.iter().rev().copied() {
            let after: usize = sizes[axis + 1..].iter().product();
            sizes[axis] = self.points[axis];
            let mut next = self.pool.take(fields * sizes.iter().product::<usize>());
            self.axes[axis].adjoint(&self.pool, z.as_deref().unwrap_or(y), &mut next, after);
            if let Some(z) = z.replace(next) {
                self.pool.give(z);
            }
        }
        self.axes[*last].adjoint(&self.pool, z.as_deref().unwrap_or(y), out, sizes[last + 1..].iter().product());
        z.into_iter().for_each(|z| self.pool.give(z));
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

    /// Numbers of a mode of `axis` and the kept modes of the axes after it, and where those of a mode and of a group of re | im lie: modes
    /// of the first axis stand before the channels.
    fn place(&self, axis: usize, channels: usize) -> (usize, impl Fn(usize, usize, usize) -> usize) {
        let (kept, width) = (self.kept[axis].len(), 2 * self.inner());
        let groups: usize = self.kept[axis + 1..self.places.len()].iter().map(Vec::len).product();
        let place = move |before: usize, mode: usize, group: usize| {
            width
                * if axis == 0 {
                    (mode * groups + group) * channels + before
                } else {
                    (before * kept + mode) * groups + group
                }
        };
        (groups * width, place)
    }

    /// Coefficients of k and −k, C ± i D, from `[before, C above D, after]` to `[before, kept, after]`.
    fn join(&self, z: Vec<T>, axis: usize, channels: usize) -> Vec<T> {
        let ((line, place), rows, m) = (self.place(axis, channels), self.axes[axis].rows(), self.inner());
        let befores = z.len() / (rows * line);
        let mut out = self.pool.take(befores * self.kept[axis].len() * line);
        note(out.len());
        for (b, z) in z.chunks(rows * line).enumerate() {
            let (c, d) = z.split_at(rows / 2 * line);
            for ((c, d), modes) in c.chunks(line).zip(d.chunks(line)).zip(&self.places[axis]) {
                for (mode, sign) in modes.iter().zip([1.0, -1.0]) {
                    let (Some(mode), sign) = (mode, T::of(sign)) else { continue };
                    for (group, (c, d)) in c.chunks(2 * m).zip(d.chunks(2 * m)).enumerate() {
                        let (re, im) = out[place(b, *mode, group)..][..2 * m].split_at_mut(m);
                        let ((c_re, c_im), (d_re, d_im)) = (c.split_at(m), d.split_at(m));
                        for j in 0..m {
                            re[j] = c_re[j] - sign * d_im[j];
                            im[j] = c_im[j] + sign * d_re[j];
                        }
                    }
                }
            }
        }
        self.pool.give(z);
        out
    }

    /// The adjoint of [`Transform::join`]: C = ŷ_k + ŷ_−k, D = −i (ŷ_k − ŷ_−k).
    fn part(&self, y: Vec<T>, axis: usize, channels: usize) -> Vec<T> {
        let ((line, place), rows, m) = (self.place(axis, channels), self.axes[axis].rows(), self.inner());
        let befores = y.len() / (self.kept[axis].len() * line);
        note(y.len());
        let mut out = self.pool.zeros(befores * rows * line);
        for (b, out) in out.chunks_mut(rows * line).enumerate() {
            let (c, d) = out.split_at_mut(rows / 2 * line);
            for ((c, d), modes) in c.chunks_mut(line).zip(d.chunks_mut(line)).zip(&self.places[axis]) {
                for (mode, sign) in modes.iter().zip([1.0, -1.0]) {
                    let (Some(mode), sign) = (mode, T::of(sign)) else { continue };
                    for (group, (c, d)) in c.chunks_mut(2 * m).zip(d.chunks_mut(2 * m)).enumerate() {
                        let (re, im) = y[place(b, *mode, group)..][..2 * m].split_at(m);
                        let ((c_re, c_im), (d_re, d_im)) = (c.split_at_mut(m), d.split_at_mut(m));
                        for j in 0..m {
                            c_re[j] += re[j];
                            c_im[j] += im[j];
                            d_re[j] += sign * im[j];
                            d_im[j] -= sign * re[j];
                        }
                    }
                }
            }
        }
        self.pool.give(y);
        out
    }
}

fn whole(points: &[usize]) -> Vec<(usize, usize)> {
    points.iter().map(|n| (*n, 0)).collect()
}

/// The same with another period and offset along the last axis.
fn last(points: &[usize], period: (usize, usize)) -> Vec<(usize, usize)> {
    let mut periods = whole(points);
    periods[points.len() - 1] = period;
    periods
}

/// One more than the largest |k|.
fn frequencies(kept: &[i64]) -> usize {
    kept.iter().map(|k| k.unsigned_abs() as usize).max().unwrap_or(0) + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use convoke_kernels::Philox;
    use std::f64::consts::TAU;

    fn random(len: usize, stream: u64) -> Vec<f64> {
        (0..len as u64).map(|i| Philox::new(3, stream).normal(i)).collect()
    }

    /// The last ones by FFTs, along lines and across them.
    fn grids() -> [(Vec<usize>, Vec<usize>); 8] {
        [
            (vec![12], vec![5]),
            (vec![8], vec![5]),
            (vec![6, 9], vec![2, 4]),
            (vec![5, 6, 8], vec![2, 3, 5]),
            (vec![4, 6, 40], vec![2, 3, 5]),
            (vec![150], vec![76]),
            (vec![5, 128], vec![2, 60]),
            (vec![121, 6], vec![60, 3]),
        ]
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

    /// To 1e-13 of the largest: the coefficients of slabs add up, and a slab's fields are rows of the whole's.
    #[test]
    fn slabs_are_parts() {
        let (points, modes) = ([9, 8], [3, 4]);
        let whole = Transform::<f64>::new(&points, &modes);
        let (x, y) = (random(2 * whole.size(), 4), random(whole.coefficients(2), 5));
        let (all, fields) = (whole.analysis(&x, 2), whole.adjoint(y.clone(), 2));
        let mut sum = vec![0.0; all.len()];
        for rows in [0..2, 2..7, 7..9] {
            let slab = Transform::<f64>::slab(&points, &modes, rows.clone());
            let of = |fields: &[f64]| -> Vec<f64> {
                fields.chunks(72).flat_map(|field| &field[8 * rows.start..8 * rows.end]).copied().collect()
            };
            sum.iter_mut().zip(slab.analysis(&of(&x), 2)).for_each(|(sum, part)| *sum += part);
            let far =
                slab.adjoint(y.clone(), 2).iter().zip(of(&fields)).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(far < 1e-11, "{rows:?}: {far:e}");
            assert_eq!(slab.weights, whole.weights);
        }
        assert!(sum.iter().zip(&all).all(|(a, b)| (a - b).abs() < 1e-11));
        let (window, of) = (Transform::<f64>::window(&points, &modes, (11, 2)), |rows| {
            Transform::<f64>::window_of_slab(&points, &modes, rows, (11, 2))
        });
        let parts = [of(0..4).analysis(&x[..32], 1), of(4..9).analysis(&x[32..72], 1)];
        let all = window.analysis(&x[..72], 1);
        assert!(all.iter().zip(&parts[0]).zip(&parts[1]).all(|((all, a), b)| (all - a - b).abs() < 1e-11));
    }
}
