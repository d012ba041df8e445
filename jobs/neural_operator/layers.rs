//! Layers with their derivatives by hand; a batch is a list of fields `[channel, points]`, one for each sample.
//!
//! Sums over the batch go in the order of the samples, so that no result depends on threads.

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use pulp::Arch;
use rayon::prelude::*;

use super::pool::Pool;
use super::real::Real;
use super::transform::Transform;

/// A batch.
pub type Batch<T> = Vec<Vec<T>>;

/// y = W x + b at every point: `w` `[to, from]`, `b` `[to]`.
pub fn mix<T: Real>(pool: &Pool<T>, w: &[T], b: &[T], x: &[T]) -> Vec<T> {
    let (to, from) = (b.len(), w.len() / b.len());
    let n = x.len() / from;
    let mut y = pool.take(to * n);
    y.chunks_mut(n).zip(b).for_each(|(y, b)| y.fill(*b));
    let (w, x) = (MatRef::from_row_major_slice(w, to, from), MatRef::from_row_major_slice(x, from, n));
    matmul(MatMut::from_row_major_slice_mut(&mut y, to, n), Accum::Add, w, x, T::of(1.0), Par::Seq);
    y
}

/// ∂/∂x of [`mix`]: Wᵀ g.
pub fn mix_back<T: Real>(pool: &Pool<T>, w: &[T], to: usize, g: &[T]) -> Vec<T> {
    let (from, n) = (w.len() / to, g.len() / to);
    let mut x = pool.take(from * n);
    let (w, g) = (MatRef::from_row_major_slice(w, to, from), MatRef::from_row_major_slice(g, to, n));
    matmul(MatMut::from_row_major_slice_mut(&mut x, from, n), Accum::Replace, w.transpose(), g, T::of(1.0), Par::Seq);
    x
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

/// GELU in place; returns its derivative.
pub fn activate<T: Real>(pool: &Pool<T>, x: &mut [T]) -> Vec<T> {
    let mut slopes = pool.take(x.len());
    Arch::new().dispatch(
        #[inline(always)]
        || x.iter_mut().zip(&mut slopes).for_each(|(x, slope)| (*x, *slope) = x.gelu()),
    );
    slopes
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

/// Coefficients of a batch by outer mode: x `[outer][re above im: 2 samples, channels]` for each inner mode.
struct Modes<'a, T> {
    samples: &'a [Vec<T>],
    channels: usize,
    inner: usize,
}

impl<T: Real> Modes<'_, T> {
    /// Re above im of one mode, `[2 samples, channels]`.
    fn mode(&self, outer: usize, inner: usize, out: &mut [T]) {
        let (n, c) = (self.samples.len(), self.channels);
        for (b, sample) in self.samples.iter().enumerate() {
            let block = &sample[outer * c * 2 * self.inner..(outer + 1) * c * 2 * self.inner];
            for (channel, pair) in block.chunks(2 * self.inner).enumerate() {
                out[b * c + channel] = pair[inner];
                out[(n + b) * c + channel] = pair[self.inner + inner];
            }
        }
    }
}

/// Puts re above im, `[2 samples, channels]`, into the block of an outer mode: `[sample][channel][re | im][inner]`.
fn put<T: Real>(block: &mut [T], (samples, channels, width): (usize, usize, usize), inner: usize, re: &[T], im: &[T]) {
    for b in 0..samples {
        for c in 0..channels {
            let at = (b * channels + c) * 2 * width + inner;
            block[at] = re[b * channels + c];
            block[at + width] = im[b * channels + c];
        }
    }
}

/// The block of each outer mode to the samples.
fn to_samples<T: Real>(pool: &Pool<T>, blocks: Vec<Vec<T>>, samples: usize) -> Batch<T> {
    let part = blocks.first().map_or(0, |b| b.len() / samples.max(1));
    let sample = |b: usize| {
        let mut all = pool.take(part * blocks.len());
        all.chunks_mut(part.max(1)).zip(&blocks).for_each(|(to, block)| to.copy_from_slice(&block[b * part..][..part]));
        all
    };
    let all = (0..samples).into_par_iter().map(sample).collect();
    pool.give_all(blocks);
    all
}

fn rows<T: Real>(values: &[T], rows: usize, columns: usize) -> MatRef<'_, T> {
    MatRef::from_row_major_slice(values, rows, columns)
}

/// Ŷ_o = Σ_i X̂_i W_io for each mode: `w` `[mode, re | im, from, to]`.
pub fn spectral<T: Real>(transform: &Transform<T>, w: &[T], x: &[Vec<T>], (from, to): (usize, usize)) -> Batch<T> {
    contract(transform, w, x, (from, to), false)
}

/// ∂/∂X̂ of [`spectral`]: Σ_o Ĝ_o conj(W_io).
pub fn spectral_back<T: Real>(transform: &Transform<T>, w: &[T], g: &[Vec<T>], (from, to): (usize, usize)) -> Batch<T> {
    contract(transform, w, g, (from, to), true)
}

fn contract<T: Real>(
    transform: &Transform<T>,
    w: &[T],
    x: &[Vec<T>],
    (from, to): (usize, usize),
    back: bool,
) -> Batch<T> {
    let (n, inner, size, pool) = (x.len(), transform.inner(), from * to, &transform.pool);
    let (come, go) = if back { (to, from) } else { (from, to) };
    let modes = Modes { samples: x, channels: come, inner };
    let block = |outer: usize| {
        let mut block = pool.take(n * go * 2 * inner);
        let mut stacked = vec![T::default(); 2 * n * come];
        let [mut p, mut q] = [0, 1].map(|_| vec![T::default(); 2 * n * go]);
        for j in 0..inner {
            modes.mode(outer, j, &mut stacked);
            let both = &w[(outer * inner + j) * 2 * size..][..2 * size];
            for (out, w) in [(&mut p, &both[..size]), (&mut q, &both[size..])] {
                let w = rows(w, from, to);
                let w = if back { w.transpose() } else { w };
                let out = MatMut::from_row_major_slice_mut(out, 2 * n, go);
                matmul(out, Accum::Replace, rows(&stacked, 2 * n, come), w, T::of(1.0), Par::Seq);
            }
            // (re + i im)(w_re ± i w_im)
            let sign = T::of(if back { -1.0 } else { 1.0 });
            let ((p_re, p_im), (q_re, q_im)) = (p.split_at_mut(n * go), q.split_at(n * go));
            p_re.iter_mut().zip(q_im).for_each(|(p, q)| *p -= sign * *q);
            p_im.iter_mut().zip(q_re).for_each(|(p, q)| *p += sign * *q);
            put(&mut block, (n, go, inner), j, p_re, p_im);
        }
        block
    };
    let blocks: Vec<Vec<T>> = (0..transform.outer()).into_par_iter().map(block).collect();
    to_samples(pool, blocks, n)
}

/// ∂/∂W of [`spectral`], added into `dw`: Σ_b conj(X̂_i) Ĝ_o, real and imaginary parts as independent numbers.
pub fn spectral_parameters<T: Real>(
    transform: &Transform<T>,
    x: &[Vec<T>],
    g: &[Vec<T>],
    (from, to): (usize, usize),
    dw: &mut [T],
) {
    let (n, inner, size) = (x.len(), transform.inner(), from * to);
    let (xs, gs) = (Modes { samples: x, channels: from, inner }, Modes { samples: g, channels: to, inner });
    dw.par_chunks_mut(inner * 2 * size).enumerate().for_each(|(outer, dw)| {
        let (mut x, mut g) = (vec![T::default(); 2 * n * from], vec![T::default(); 2 * n * to]);
        let mut turned = g.clone();
        for (j, dw) in dw.chunks_mut(2 * size).enumerate() {
            xs.mode(outer, j, &mut x);
            gs.mode(outer, j, &mut g);
            // i conj(·): re ← im, im ← −re.
            let (re, im) = g.split_at(n * to);
            turned[..n * to].copy_from_slice(im);
            turned[n * to..].iter_mut().zip(re).for_each(|(t, re)| *t = -*re);
            let (dw_re, dw_im) = dw.split_at_mut(size);
            for (out, g) in [(dw_re, &g), (dw_im, &turned)] {
                let out = MatMut::from_row_major_slice_mut(out, from, to);
                matmul(out, Accum::Add, rows(&x, 2 * n, from).transpose(), rows(g, 2 * n, to), T::of(1.0), Par::Seq);
            }
        }
    });
}
