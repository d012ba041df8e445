//! The fast path on the CPU: matrix products by faer, vector passes over cache-sized blocks. How work is divided depends
//! on the extents alone, so results do not depend on the number of threads, in any bit.

use faer::linalg::matmul::matmul;
use faer::{Accum, ContiguousFwd, MatMut, MatRef, Par};
use rayon::prelude::*;
use std::ops::Range;

use super::Shape;

/// Elements of one block of a vector pass: sums are over these blocks, in order, whatever the threads.
const BLOCK: usize = 4096;
/// Multiply-adds that are worth a task of their own.
const TASK: usize = 1 << 21;

/// 2 rows cols flops for cols + rows numbers of a fibre: bound by arithmetic from some 20 rows on.
pub fn mode_product(a: &[f64], (rows, cols): (usize, usize), inner: usize, x: &[f64], y: &mut [f64], accumulate: bool) {
    if y.is_empty() {
        return;
    }
    if cols == 0 {
        if !accumulate {
            y.fill(0.0);
        }
        return;
    }
    let accum = if accumulate { Accum::Add } else { Accum::Replace };
    let a = MatRef::from_row_major_slice(a, rows, cols);
    // Below 64 fibres the matrix is packed too often, beyond 512 the fibres leave the cache.
    let width = (TASK / (rows * cols)).clamp(64, 512);
    if inner == 1 {
        for_each_rows((rows, cols), width, x, y, |x, y| {
            let fibres = x.len() / cols;
            let x = MatRef::from_row_major_slice(x, fibres, cols);
            matmul(MatMut::from_row_major_slice_mut(y, fibres, rows), accum, x, a.transpose(), 1.0, Par::Seq);
        });
    } else {
        for_each_columns((rows, cols), inner, width, x, y, |x, y| matmul(y, accum, a, x, 1.0, Par::Seq));
    }
}

/// Some fibres, each a column; rows are slices.
pub(super) type Columns<'a> = MatRef<'a, f64, usize, usize, isize, ContiguousFwd>;
pub(super) type ColumnsMut<'a> = MatMut<'a, f64, usize, usize, isize, ContiguousFwd>;

/// For inner = 1: `work` on up to `width` fibres of `x` and `y` at a time, by rows.
pub(super) fn for_each_rows(
    (rows, cols): (usize, usize),
    width: usize,
    x: &[f64],
    y: &mut [f64],
    work: impl Fn(&[f64], &mut [f64]) + Sync,
) {
    x.par_chunks(width * cols).zip(y.par_chunks_mut(width * rows)).for_each(|(x, y)| work(x, y));
}

/// For inner > 1: `work` on up to `width` fibres of `x` and `y` at a time, by columns.
pub(super) fn for_each_columns(
    (rows, cols): (usize, usize),
    inner: usize,
    width: usize,
    x: &[f64],
    y: &mut [f64],
    work: impl Fn(Columns<'_>, ColumnsMut<'_>) + Sync,
) {
    let slabs = x.par_chunks_exact(cols * inner).zip(y.par_chunks_exact_mut(rows * inner));
    slabs.with_min_len(width.div_ceil(inner)).for_each(|(x, y)| {
        let contiguous = "rows of a slice are contiguous";
        let x = MatRef::from_row_major_slice(x, cols, inner).try_as_row_major().expect(contiguous);
        let y = MatMut::from_row_major_slice_mut(y, rows, inner).try_as_row_major_mut().expect(contiguous);
        y.par_col_chunks_mut(width).zip(x.par_col_chunks(width)).for_each(|(y, x)| work(x, y));
    });
}

pub fn divide_by_sum(lambdas: &[&[f64]], shift: f64, x: &mut [f64]) {
    let Some((last, slow)) = lambdas.split_last() else { return };
    if x.is_empty() {
        return;
    }
    let rows = x.par_chunks_exact_mut(last.len()).with_min_len(BLOCK.div_ceil(last.len()));
    rows.enumerate().for_each(|(mut row, x)| {
        let mut sum = shift;
        for lambda in slow.iter().rev() {
            sum += lambda[row % lambda.len()];
            row /= lambda.len();
        }
        x.iter_mut().zip(*last).for_each(|(x, lambda)| *x /= sum + lambda);
    });
}

pub fn dots(xs: &[&[f64]], y: &[f64]) -> Vec<f64> {
    let of_block = |(b, y): (usize, &[f64])| -> Vec<f64> {
        let block = |i: usize| &xs[i][b * BLOCK..b * BLOCK + y.len()];
        let fours = (0..xs.len() / 4).flat_map(|i| dot_all([0, 1, 2, 3].map(|j| block(4 * i + j)), y));
        let rest = (xs.len() / 4 * 4..xs.len()).flat_map(|i| dot_all([block(i)], y));
        fours.chain(rest).collect()
    };
    let sums: Vec<Vec<f64>> = y.par_chunks(BLOCK).enumerate().map(of_block).collect();
    (0..xs.len()).map(|i| sums.iter().map(|block| block[i]).sum()).collect()
}

/// K vectors at once, so that more of memory is under way; four running sums of each, so that it vectorises. A sum does
/// not depend on its neighbours.
fn dot_all<const K: usize>(xs: [&[f64]; K], y: &[f64]) -> [f64; K] {
    let mut sums = [[0.0; 4]; K];
    let whole = y.len() / 4 * 4;
    for (i, y) in y[..whole].chunks_exact(4).enumerate() {
        for (sum, x) in sums.iter_mut().zip(xs) {
            let x = &x[4 * i..4 * i + 4];
            for l in 0..4 {
                sum[l] += x[l] * y[l];
            }
        }
    }
    let rest = xs.map(|x| x[whole..].iter().zip(&y[whole..]).map(|(x, y)| x * y).sum::<f64>());
    std::array::from_fn(|k| sums[k].iter().sum::<f64>() + rest[k])
}

pub fn add_combination(c: &[f64], xs: &[&[f64]], y: &mut [f64]) {
    let ((c4, c1), (xs4, xs1)) = (c.as_chunks::<4>(), xs.as_chunks::<4>());
    y.par_chunks_mut(BLOCK).enumerate().for_each(|(b, y)| {
        let range = b * BLOCK..b * BLOCK + y.len();
        c4.iter().zip(xs4).for_each(|(c, xs)| add_all(*c, xs.map(|x| &x[range.clone()]), y));
        c1.iter().zip(xs1).for_each(|(c, x)| add_all([*c], [&x[range.clone()]], y));
    });
}

/// K vectors at once, as in [`dot_all`], added one after another.
fn add_all<const K: usize>(c: [f64; K], xs: [&[f64]; K], y: &mut [f64]) {
    let xs = xs.map(|x| &x[..y.len()]);
    for (i, y) in y.iter_mut().enumerate() {
        for k in 0..K {
            *y += c[k] * xs[k][i];
        }
    }
}

pub fn scale(factor: f64, x: &mut [f64]) {
    x.par_chunks_mut(BLOCK).for_each(|x| x.iter_mut().for_each(|x| *x *= factor));
}

pub fn multiply(q: &[f64], y: &mut [f64]) {
    y.par_chunks_mut(BLOCK).zip(q.par_chunks(BLOCK)).for_each(|(y, q)| y.iter_mut().zip(q).for_each(|(y, q)| *y *= q));
}

pub fn add_product(q: &[f64], v: &[f64], y: &mut [f64]) {
    let blocks = y.par_chunks_mut(BLOCK).zip(q.par_chunks(BLOCK)).zip(v.par_chunks(BLOCK));
    blocks.for_each(|((y, q), v)| y.iter_mut().zip(q).zip(v).for_each(|((y, q), v)| *y += q * v));
}

/// One part of the middle mode, for each index of the outer one.
fn part_of<'a>(
    x: &'a [f64],
    (_, n, inner): Shape,
    part: &Range<usize>,
) -> impl IndexedParallelIterator<Item = &'a [f64]> {
    let (from, to) = (part.start * inner, part.end * inner);
    x.par_chunks_exact(n * inner).map(move |x| &x[from..to])
}

pub fn pack(shape: Shape, parts: &[Range<usize>], x: &[f64], mut packed: &mut [f64]) {
    let (outer, _, inner) = shape;
    for part in parts.iter().filter(|part| !part.is_empty() && outer * inner > 0) {
        let (here, rest) = packed.split_at_mut(outer * part.len() * inner);
        let lines = here.par_chunks_exact_mut(part.len() * inner).zip(part_of(x, shape, part));
        lines.with_min_len(BLOCK.div_ceil(part.len() * inner)).for_each(|(to, from)| to.copy_from_slice(from));
        packed = rest;
    }
}

pub fn unpack((outer, n, inner): Shape, parts: &[Range<usize>], mut packed: &[f64], x: &mut [f64]) {
    for part in parts.iter().filter(|part| !part.is_empty() && outer * inner > 0) {
        let (here, rest) = packed.split_at(outer * part.len() * inner);
        let (from, to) = (part.start * inner, part.end * inner);
        let lines = x.par_chunks_exact_mut(n * inner).zip(here.par_chunks_exact(part.len() * inner));
        lines.with_min_len(BLOCK.div_ceil(part.len() * inner)).for_each(|(x, p)| x[from..to].copy_from_slice(p));
        packed = rest;
    }
}
