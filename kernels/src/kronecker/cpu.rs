//! The fast path on the CPU: matrix products by faer, vector passes over cache-sized blocks.

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use rayon::prelude::*;

/// Elements of one block of a vector pass: sums are over these blocks, in order, whatever the threads.
const BLOCK: usize = 4096;
/// Multiply-adds below which a product is not worth another thread.
const SMALL: usize = 1 << 18;

pub fn mode_product(
    a: &[f64],
    (rows, cols): (usize, usize),
    (outer, inner): (usize, usize),
    x: &[f64],
    y: &mut [f64],
    accumulate: bool,
) {
    if y.is_empty() {
        return;
    }
    let accum = if accumulate { Accum::Add } else { Accum::Replace };
    let a = MatRef::from_row_major_slice(a, rows, cols);
    let threads = rayon::current_num_threads();
    let par = |work: usize| if threads == 1 || work < SMALL { Par::Seq } else { Par::rayon(threads) };
    if inner == 1 {
        let x = MatRef::from_row_major_slice(x, outer, cols);
        let y = MatMut::from_row_major_slice_mut(y, outer, rows);
        matmul(y, accum, x, a.transpose(), 1.0, par(outer * rows * cols));
        return;
    }
    let slab = |x: &[f64], y: &mut [f64], par| {
        let x = MatRef::from_row_major_slice(x, cols, inner);
        matmul(MatMut::from_row_major_slice_mut(y, rows, inner), accum, a, x, 1.0, par);
    };
    if cols == 0 {
        if !accumulate {
            y.fill(0.0);
        }
    } else if outer < threads {
        for (x, y) in x.chunks_exact(cols * inner).zip(y.chunks_exact_mut(rows * inner)) {
            slab(x, y, par(rows * cols * inner));
        }
    } else {
        let work = x.par_chunks_exact(cols * inner).zip(y.par_chunks_exact_mut(rows * inner));
        work.for_each(|(x, y)| slab(x, y, Par::Seq));
    }
}

pub fn divide_by_sum(lambdas: &[&[f64]], shift: f64, x: &mut [f64]) {
    let Some((last, slow)) = lambdas.split_last() else { return };
    if x.is_empty() {
        return;
    }
    x.par_chunks_exact_mut(last.len()).enumerate().for_each(|(mut row, x)| {
        let mut sum = shift;
        for lambda in slow.iter().rev() {
            sum += lambda[row % lambda.len()];
            row /= lambda.len();
        }
        x.iter_mut().zip(*last).for_each(|(x, lambda)| *x /= sum + lambda);
    });
}

pub fn dots(xs: &[&[f64]], y: &[f64]) -> Vec<f64> {
    let sums: Vec<Vec<f64>> = y
        .par_chunks(BLOCK)
        .enumerate()
        .map(|(b, y)| xs.iter().map(|x| dot(&x[b * BLOCK..b * BLOCK + y.len()], y)).collect())
        .collect();
    (0..xs.len()).map(|i| sums.iter().map(|block| block[i]).sum()).collect()
}

/// Eight running sums, so that it vectorises.
fn dot(x: &[f64], y: &[f64]) -> f64 {
    let mut sums = [0.0; 8];
    let (xs, ys) = (x.chunks_exact(8), y.chunks_exact(8));
    let rest: f64 = xs.remainder().iter().zip(ys.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in xs.zip(ys) {
        for ((sum, x), y) in sums.iter_mut().zip(x).zip(y) {
            *sum += x * y;
        }
    }
    sums.iter().sum::<f64>() + rest
}

pub fn add_combination(c: &[f64], xs: &[&[f64]], y: &mut [f64]) {
    y.par_chunks_mut(BLOCK).enumerate().for_each(|(b, y)| {
        for (c, x) in c.iter().zip(xs) {
            y.iter_mut().zip(&x[b * BLOCK..]).for_each(|(y, x)| *y += c * x);
        }
    });
}
