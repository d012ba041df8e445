//! W₂ σ(W₁ x + b₁) + b₂ at every point, four times as wide inside. The wide part lives in a cache, for some points at a time: it is never
//! written, and computed again for the derivative.

use std::ops::Range;

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};

use super::layers::{activate, blocks, columns, columns_mut, gelu_at, total};
use super::pool::Pool;
use crate::learning::matrix::note;
use crate::learning::real::Real;

/// How much wider the inside is.
pub const WIDER: usize = 4;

/// The parameters of one, which follow each other: W₁ `[inside, h]`, b₁, W₂ `[h, inside]`, b₂.
#[derive(Debug, Clone, Copy)]
pub struct Feed<'p, T> {
    h: usize,
    w1: &'p [T],
    b1: &'p [T],
    w2: &'p [T],
    b2: &'p [T],
}

impl<'p, T: Real> Feed<'p, T> {
    /// Of `parameters` in order, for `h` channels.
    pub fn new(parameters: &'p [T], h: usize) -> Self {
        let (w1, rest) = parameters.split_at(WIDER * h * h);
        let (b1, rest) = rest.split_at(WIDER * h);
        let (w2, b2) = rest.split_at(WIDER * h * h);
        Self { h, w1, b1, w2, b2 }
    }

    /// Flops at a point.
    pub fn flops(h: f64) -> f64 {
        4.0 * WIDER as f64 * h * h
    }

    /// σ(W₁ x + b₁) of some columns of x, and σ'.
    fn inside(&self, pool: &Pool<T>, x: MatRef<'_, T>) -> (Vec<T>, Vec<T>) {
        let (wide, count) = (WIDER * self.h, x.ncols());
        let mut u = pool.take(wide * count);
        u.chunks_mut(count).zip(self.b1).for_each(|(u, b)| u.fill(*b));
        let w1 = MatRef::from_row_major_slice(self.w1, wide, self.h);
        matmul(MatMut::from_row_major_slice_mut(&mut u, wide, count), Accum::Add, w1, x, T::of(1.0), Par::Seq);
        let slopes = activate(pool, &mut u);
        (u, slopes)
    }

    /// σ of the sum of this network of a field `[h, points]` and of what `beside` adds at some points of `[h, points]`, and σ'. All of it for
    /// some points at a time, which stay in a cache.
    pub fn forward(&self, pool: &Pool<T>, x: &[T], beside: impl Fn(Range<usize>, &mut [T])) -> (Vec<T>, Vec<T>) {
        let (h, n) = (self.h, x.len() / self.h);
        let (mut y, mut slopes) = (pool.take(x.len()), pool.take(x.len()));
        let w2 = MatRef::from_row_major_slice(self.w2, h, WIDER * h);
        for points in blocks(n) {
            let (at, count) = (points.start, points.len());
            note(4 * WIDER * h * h * count);
            y.chunks_mut(n).zip(self.b2).for_each(|(y, b)| y[at..at + count].fill(*b));
            let (u, inner) = self.inside(pool, columns(x, h, n, at, count));
            let hidden = MatRef::from_row_major_slice(&u, WIDER * h, count);
            matmul(columns_mut(&mut y, h, n, at, count), Accum::Add, w2, hidden, T::of(1.0), Par::Seq);
            pool.give(u);
            pool.give(inner);
            beside(points.clone(), &mut y);
            gelu_at(points, n, &mut y, &mut slopes);
        }
        (y, slopes)
    }

    /// ∂/∂x, and ∂/∂parameters in their order, for derivatives `g` by the outputs of [`Feed::forward`]; `g` becomes those by the sum, g times
    /// its `slopes`.
    pub fn backward(&self, pool: &Pool<T>, x: &[T], (g, slopes): (&mut [T], &[T])) -> (Vec<T>, Vec<T>) {
        let (h, n, wide, one) = (self.h, x.len() / self.h, WIDER * self.h, T::of(1.0));
        let mut dx = pool.take(x.len());
        let mut gradient = vec![T::default(); 2 * wide * h + wide + h];
        let (dw1, rest) = gradient.split_at_mut(wide * h);
        let (db1, rest) = rest.split_at_mut(wide);
        let (dw2, db2) = rest.split_at_mut(wide * h);
        let w1 = MatRef::from_row_major_slice(self.w1, wide, h);
        let w2 = MatRef::from_row_major_slice(self.w2, h, wide);
        for points in blocks(n) {
            let (at, count) = (points.start, points.len());
            for ((g, slopes), db) in g.chunks_mut(n).zip(slopes.chunks(n)).zip(&mut *db2) {
                let (g, slopes) = (&mut g[at..at + count], &slopes[at..at + count]);
                g.iter_mut().zip(slopes).for_each(|(g, slope)| *g *= *slope);
                *db += total(g);
            }
            let (x, g) = (columns(x, h, n, at, count), columns(g, h, n, at, count));
            let (mut u, inner) = self.inside(pool, x);
            let hidden = MatRef::from_row_major_slice(&u, wide, count);
            matmul(MatMut::from_row_major_slice_mut(dw2, h, wide), Accum::Add, g, hidden.transpose(), one, Par::Seq);
            matmul(
                MatMut::from_row_major_slice_mut(&mut u, wide, count),
                Accum::Replace,
                w2.transpose(),
                g,
                one,
                Par::Seq,
            );
            u.iter_mut().zip(&inner).for_each(|(u, slope)| *u *= *slope);
            db1.iter_mut().zip(u.chunks(count)).for_each(|(db, u)| *db += total(u));
            let du = MatRef::from_row_major_slice(&u, wide, count);
            matmul(MatMut::from_row_major_slice_mut(dw1, wide, h), Accum::Add, du, x.transpose(), one, Par::Seq);
            matmul(columns_mut(&mut dx, h, n, at, count), Accum::Replace, w1.transpose(), du, one, Par::Seq);
            pool.give(u);
            pool.give(inner);
        }
        (dx, gradient)
    }
}
