//! The products of kept modes with matrices, and who holds the matrices.
//!
//! Either every rank has all of them and the gradients of all are summed, or the matrices are shared out by modes: each rank has the whole
//! gradient of its matrices, and their moments are shared out as well. Where ranks share samples, the coefficients of all samples go to
//! the ranks of their modes and back (all-to-all). Where they share the points of every sample, each has made a part of every coefficient:
//! the ranks of the modes sum them (reduce-scatter), and products go to all (all-gather).

use std::ops::Range;

use convoke_cluster::comm::CommError;
use convoke_cluster::{Comm, block};
use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use rayon::prelude::*;

use super::layers::Batch;
use super::pool::Pool;
use super::transform::Transform;
use crate::learning::matrix::note;
use crate::learning::real::Real;

/// Who holds the matrices: all of them here, or those of a block of outer modes on each rank.
#[derive(Debug, Clone, Default)]
pub enum Sharing {
    /// All of them.
    #[default]
    Alone,
    /// Those of a block; samples are shared as well.
    Modes(Comm),
    /// Those of a block; the points of each sample are shared as well, by rows of the first axis.
    Space(Comm),
}

impl Sharing {
    /// Whether matrices are shared out.
    pub fn is_shared(&self) -> bool {
        self.comm().is_some()
    }

    /// The ranks that share the points of each sample.
    pub fn space(&self) -> Option<&Comm> {
        if let Self::Space(comm) = self { Some(comm) } else { None }
    }

    fn comm(&self) -> Option<&Comm> {
        match self {
            Self::Alone => None,
            Self::Modes(comm) | Self::Space(comm) => Some(comm),
        }
    }

    /// Outer modes of this rank, of so many.
    pub fn mine(&self, outer: usize) -> Range<usize> {
        self.comm().map_or(0..outer, |comm| comm.block(outer))
    }

    /// Coefficients in this rank's modes: of all ranks' samples, and how many samples each rank has; or of all points. `line`: numbers of an
    /// outer mode.
    fn to_owners<T: Real>(
        &self,
        comm: &Comm,
        outer: usize,
        x: Batch<T>,
        line: usize,
        pool: &Pool<T>,
    ) -> Result<(Batch<T>, Vec<usize>), CommError> {
        let parts = to_owners(comm, outer, x, line, pool)?;
        let size = comm.block(outer).len() * line;
        if self.space().is_none() {
            let counts = parts.iter().map(|part| part.len() / size.max(1)).collect();
            let samples = parts.iter().flat_map(|part| part.chunks(size.max(1)).map(<[T]>::to_vec)).collect();
            return Ok((samples, counts));
        }
        let mut parts = parts.into_iter();
        let mut sum = parts.next().unwrap_or_default();
        parts.for_each(|part| sum.iter_mut().zip(part).for_each(|(sum, v)| *sum += v));
        Ok((sum.chunks(size.max(1)).map(<[T]>::to_vec).collect(), Vec::new()))
    }

    /// The way back: this rank's samples, or all of them, in all modes.
    fn to_all<T: Real>(
        &self,
        comm: &Comm,
        outer: usize,
        y: Batch<T>,
        (counts, samples): (&[usize], usize),
        line: usize,
        pool: &Pool<T>,
    ) -> Result<Batch<T>, CommError> {
        let got = if self.space().is_some() {
            comm.all_gather(&y.concat())?
        } else {
            let mut rest = y.as_slice();
            let mut parts: Vec<Vec<T>> = Vec::with_capacity(counts.len());
            for count in counts {
                let (here, others) = rest.split_at(*count);
                parts.push(here.concat());
                rest = others;
            }
            comm.all_to_all(&parts.iter().map(Vec::as_slice).collect::<Vec<_>>())?
        };
        pool.give_all(y);
        let sample = |b: usize| {
            let mut all = pool.take(outer * line);
            for (rank, part) in got.iter().enumerate() {
                let modes = block(outer, rank, comm.size());
                let size = modes.len() * line;
                all[modes.start * line..modes.end * line].copy_from_slice(&part[b * size..(b + 1) * size]);
            }
            all
        };
        Ok((0..samples).map(sample).collect())
    }

    /// Ŷ_o = Σ_i X̂_i W_io for each mode, of this rank's samples, and what the derivative needs: `w` `[mode, re | im, from, to]`. Collective
    /// where matrices are shared out.
    ///
    /// # Errors
    /// As the exchange.
    pub fn products<T: Real>(
        &self,
        transform: &Transform<T>,
        w: &[T],
        x: Batch<T>,
        (from, to): (usize, usize),
    ) -> Result<(Batch<T>, Batch<T>), CommError> {
        let Some(comm) = self.comm() else {
            return Ok((contract(transform, w, &x, (from, to), false), x));
        };
        let (samples, line) = (x.len(), 2 * transform.inner());
        let (owned, counts) = self.to_owners(comm, transform.outer(), x, line * from, &transform.pool)?;
        let y = contract(transform, self.part(transform, w, from * to), &owned, (from, to), false);
        Ok((self.to_all(comm, transform.outer(), y, (&counts, samples), line * to, &transform.pool)?, owned))
    }

    /// ∂/∂X̂ of [`Sharing::products`], Σ_o Ĝ_o conj(W_io); ∂/∂W is written to `dw`, complete where matrices are shared out.
    ///
    /// # Errors
    /// As the exchange.
    pub fn products_back<T: Real>(
        &self,
        transform: &Transform<T>,
        (w, dw): (&[T], &mut [T]),
        (x, g): (&[Vec<T>], Batch<T>),
        (from, to): (usize, usize),
    ) -> Result<Batch<T>, CommError> {
        let Some(comm) = self.comm() else {
            parameters(transform, x, &g, (from, to), dw);
            let back = contract(transform, w, &g, (from, to), true);
            transform.pool.give_all(g);
            return Ok(back);
        };
        let (samples, line) = (g.len(), 2 * transform.inner());
        let (owned, counts) = self.to_owners(comm, transform.outer(), g, line * to, &transform.pool)?;
        let range = self.range(transform, from * to);
        parameters(transform, x, &owned, (from, to), &mut dw[range.clone()]);
        let back = contract(transform, &w[range], &owned, (from, to), true);
        self.to_all(comm, transform.outer(), back, (&counts, samples), line * from, &transform.pool)
    }

    fn range<T: Real>(&self, transform: &Transform<T>, size: usize) -> Range<usize> {
        let (mine, each) = (self.mine(transform.outer()), 2 * transform.inner() * size);
        mine.start * each..mine.end * each
    }

    fn part<'w, T: Real>(&self, transform: &Transform<T>, w: &'w [T], size: usize) -> &'w [T] {
        &w[self.range(transform, size)]
    }
}

/// What each rank has of the coefficients in this rank's modes, sample by sample.
fn to_owners<T: Real>(
    comm: &Comm,
    outer: usize,
    x: Batch<T>,
    line: usize,
    pool: &Pool<T>,
) -> Result<Vec<Vec<T>>, CommError> {
    let part = |rank: usize| {
        let modes = block(outer, rank, comm.size());
        x.iter().flat_map(|x| &x[modes.start * line..modes.end * line]).copied().collect::<Vec<T>>()
    };
    let parts: Vec<Vec<T>> = (0..comm.size()).map(part).collect();
    pool.give_all(x);
    comm.all_to_all(&parts.iter().map(Vec::as_slice).collect::<Vec<_>>())
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

/// Ŷ_o = Σ_i X̂_i W_io for each mode of `w`, `[mode, re | im, from, to]`; `back`: Σ_o X̂_o conj(W_io).
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
                note(4 * n * come * go);
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
    let blocks: Vec<Vec<T>> = (0..w.len() / (2 * inner * size)).into_par_iter().map(block).collect();
    to_samples(pool, blocks, n)
}

/// ∂/∂W of [`contract`], written to `dw`: Σ_b conj(X̂_i) Ĝ_o, real and imaginary parts as independent numbers.
fn parameters<T: Real>(transform: &Transform<T>, x: &[Vec<T>], g: &[Vec<T>], (from, to): (usize, usize), dw: &mut [T]) {
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
                matmul(
                    out,
                    Accum::Replace,
                    rows(&x, 2 * n, from).transpose(),
                    rows(g, 2 * n, to),
                    T::of(1.0),
                    Par::Seq,
                );
            }
        }
    });
}
