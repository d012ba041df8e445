//! Layers with their derivatives by hand; a batch is a list of fields `[channel, points]`, one for each sample.
//!
//! Sums over the batch go in the order of the samples, so that no result depends on threads.

use std::ops::Range;

use convoke_kernels::machine::widest;
use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use rayon::prelude::*;

use super::pool::Pool;
use crate::learning::matrix::note;
use crate::learning::parameters::Parts;
use crate::learning::real::Real;

/// A batch.
pub type Batch<T> = Vec<Vec<T>>;

/// y = W x + b at every point: `w` `[to, from]`, `b` `[to]`.
pub fn mix<T: Real>(pool: &Pool<T>, w: &[T], b: &[T], x: &[T]) -> Vec<T> {
    let (to, from) = (b.len(), w.len() / b.len());
    let n = x.len() / from;
    note(2 * to * from * n);
    let mut y = pool.take(to * n);
    y.chunks_mut(n).zip(b).for_each(|(y, b)| y.fill(*b));
    let (w, x) = (MatRef::from_row_major_slice(w, to, from), MatRef::from_row_major_slice(x, from, n));
    matmul(MatMut::from_row_major_slice_mut(&mut y, to, n), Accum::Add, w, x, T::of(1.0), Par::Seq);
    y
}

/// Adds W x + b at some of the points to y.
pub fn mix_onto<T: Real>(w: &[T], b: &[T], x: &[T], points: Range<usize>, y: &mut [T]) {
    let (to, from) = (b.len(), w.len() / b.len());
    let (n, at, count) = (y.len() / to, points.start, points.len());
    note(2 * to * from * count);
    y.chunks_mut(n).zip(b).for_each(|(y, b)| y[points.clone()].iter_mut().for_each(|y| *y += *b));
    let (w, x) = (MatRef::from_row_major_slice(w, to, from), columns(x, from, n, at, count));
    matmul(columns_mut(y, to, n, at, count), Accum::Add, w, x, T::of(1.0), Par::Seq);
}

/// Columns `at` to `at + count` of a matrix of `n` columns.
pub(super) fn columns<T>(values: &[T], rows: usize, n: usize, at: usize, count: usize) -> MatRef<'_, T> {
    MatRef::from_row_major_slice_with_stride(&values[at..(rows - 1) * n + at + count], rows, count, n)
}

/// The same, to be changed.
pub(super) fn columns_mut<T>(values: &mut [T], rows: usize, n: usize, at: usize, count: usize) -> MatMut<'_, T> {
    let values = &mut values[at..(rows - 1) * n + at + count];
    // faer 0.24.4 swaps the strides of `from_row_major_slice_with_stride_mut`.
    MatMut::from_column_major_slice_with_stride_mut(values, count, rows, n).transpose_mut()
}

/// ∂/∂x of [`mix`]: Wᵀ g.
pub fn mix_back<T: Real>(pool: &Pool<T>, w: &[T], to: usize, g: &[T]) -> Vec<T> {
    let mut x = pool.take(w.len() / to * (g.len() / to));
    mix_back_onto(Accum::Replace, w, to, g, &mut x);
    x
}

/// The same into `x`, or added to it.
pub fn mix_back_onto<T: Real>(how: Accum, w: &[T], to: usize, g: &[T], x: &mut [T]) {
    let (from, n) = (w.len() / to, g.len() / to);
    let (w, g) = (MatRef::from_row_major_slice(w, to, from), MatRef::from_row_major_slice(g, to, n));
    matmul(MatMut::from_row_major_slice_mut(x, from, n), how, w.transpose(), g, T::of(1.0), Par::Seq);
}

/// ∂/∂W and ∂/∂b of [`mix`], added over the batch into `dw` and `db`.
pub fn mix_parameters<T: Real>(x: &[Vec<T>], g: &[Vec<T>], dw: &mut [T], db: &mut [T]) {
    let (to, from) = (db.len(), dw.len() / db.len());
    let of = |(x, g): (&Vec<T>, &Vec<T>)| {
        let n = g.len() / to;
        let mut w = vec![T::default(); to * from];
        let (g_rows, x) = (MatRef::from_row_major_slice(g, to, n), MatRef::from_row_major_slice(x, from, n));
        let out = MatMut::from_row_major_slice_mut(&mut w, to, from);
        matmul(out, Accum::Replace, g_rows, x.transpose(), T::of(1.0), Par::Seq);
        let b: Vec<T> = g.chunks(n).map(total).collect();
        (w, b)
    };
    let parts: Vec<(Vec<T>, Vec<T>)> = x.par_iter().zip(g).map(of).collect();
    for (w, b) in parts {
        dw.iter_mut().zip(w).for_each(|(sum, v)| *sum += v);
        db.iter_mut().zip(b).for_each(|(sum, v)| *sum += v);
    }
}

/// A sum in eight lanes.
pub(super) fn total<T: Real>(values: &[T]) -> T {
    let mut lanes = [T::default(); 8];
    let mut chunks = values.chunks_exact(8);
    for chunk in &mut chunks {
        lanes.iter_mut().zip(chunk).for_each(|(sum, v)| *sum += *v);
    }
    let mut sum = T::default();
    lanes.iter().chain(chunks.remainder()).for_each(|v| sum += *v);
    sum
}

/// Σ x y in eight lanes.
pub(super) fn total_of_products<T: Real>(x: &[T], y: &[T]) -> T {
    let mut lanes = [T::default(); 8];
    let (mut xs, mut ys) = (x.chunks_exact(8), y.chunks_exact(8));
    for (x, y) in (&mut xs).zip(&mut ys) {
        lanes.iter_mut().zip(x.iter().zip(y)).for_each(|(sum, (x, y))| *sum += *x * *y);
    }
    xs.remainder().iter().zip(ys.remainder()).zip(&mut lanes).for_each(|((x, y), sum)| *sum += *x * *y);
    let mut sum = T::default();
    lanes.iter().for_each(|v| sum += *v);
    sum
}

/// What a network of two maps leaves for its derivative.
#[derive(Debug)]
pub struct Inside<T> {
    /// Its input.
    pub from: Batch<T>,
    /// σ of the first map.
    pub hidden: Batch<T>,
    /// σ' of it.
    pub slopes: Batch<T>,
}

/// M₁ σ(M₀ x + m₀) + m₁ at every point, the maps `NAME.0` and `NAME.1`.
pub fn network<T: Real>(
    pool: &Pool<T>,
    (parts, parameters): (&Parts, &[T]),
    name: &str,
    from: Batch<T>,
) -> (Batch<T>, Inside<T>) {
    let [first, second] = ["0", "1"].map(|map| parts.mix(parameters, &format!("{name}.{map}")));
    let (hidden, slopes): (Batch<T>, Batch<T>) = from.par_iter().map(|x| mix_gelu(pool, first[0], first[1], x)).unzip();
    let out = hidden.par_iter().map(|u| mix(pool, second[0], second[1], u)).collect();
    (out, Inside { from, hidden, slopes })
}

/// Derivatives by M₀ x + m₀ for those by the output of [`network`]; adds those by all its parameters to `gradient`.
pub fn network_back<T: Real>(
    pool: &Pool<T>,
    (parts, parameters, gradient): (&Parts, &[T], &mut [T]),
    name: &str,
    (inside, g): (&Inside<T>, &[Vec<T>]),
) -> Batch<T> {
    let [first, second] = ["0", "1"].map(|map| format!("{name}.{map}"));
    let (dw, db) = parts.mix_mut(gradient, &second);
    mix_parameters(&inside.hidden, g, dw, db);
    let [weight, bias] = parts.mix(parameters, &second);
    let back = |(g, slopes): (&Vec<T>, &Vec<T>)| times(mix_back(pool, weight, bias.len(), g), slopes);
    let hidden: Batch<T> = g.par_iter().zip(&inside.slopes).map(back).collect();
    let (dw, db) = parts.mix_mut(gradient, &first);
    mix_parameters(&inside.from, &hidden, dw, db);
    hidden
}

/// GELU in place; returns its derivative.
pub fn activate<T: Real>(pool: &Pool<T>, x: &mut [T]) -> Vec<T> {
    let mut slopes = pool.take(x.len());
    gelu(x, &mut slopes);
    slopes
}

/// GELU in place, its derivative to `slopes`.
pub fn gelu<T: Real>(x: &mut [T], slopes: &mut [T]) {
    widest(
        #[inline(always)]
        || x.iter_mut().zip(slopes).for_each(|(x, slope)| (*x, *slope) = x.gelu()),
    );
}

/// Points that go through a layer together: what is made of them stays in a cache.
pub(super) const POINTS: usize = 512;

/// All points by blocks.
pub(super) fn blocks(n: usize) -> impl Iterator<Item = Range<usize>> {
    (0..n).step_by(POINTS).map(move |at| at..n.min(at + POINTS))
}

/// [`gelu`] at some of the points of `[channel, points]`.
pub(super) fn gelu_at<T: Real>(points: Range<usize>, n: usize, y: &mut [T], slopes: &mut [T]) {
    for (y, slopes) in y.chunks_mut(n).zip(slopes.chunks_mut(n)) {
        gelu(&mut y[points.clone()], &mut slopes[points.clone()]);
    }
}

/// GELU of W x + b at every point, and its derivative.
fn mix_gelu<T: Real>(pool: &Pool<T>, w: &[T], b: &[T], x: &[T]) -> (Vec<T>, Vec<T>) {
    let (to, from) = (b.len(), w.len() / b.len());
    let n = x.len() / from;
    let (mut y, mut slopes) = (pool.take(to * n), pool.take(to * n));
    for points in blocks(n) {
        y.chunks_mut(n).for_each(|y| y[points.clone()].fill(T::default()));
        mix_onto(w, b, x, points.clone(), &mut y);
        gelu_at(points, n, &mut y, &mut slopes);
    }
    (y, slopes)
}

/// x += y, and y is for others.
pub fn add<T: Real>(pool: &Pool<T>, x: &mut [T], y: Vec<T>) {
    x.iter_mut().zip(&y).for_each(|(x, y)| *x += *y);
    pool.give(y);
}

/// g times slopes.
pub fn times<T: Real>(mut g: Vec<T>, slopes: &[T]) -> Vec<T> {
    g.iter_mut().zip(slopes).for_each(|(g, slope)| *g *= *slope);
    g
}
