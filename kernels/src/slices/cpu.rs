//! Slice-wise operations on the CPU. All of them stream: 8 to 12 bytes and 1 to 2 flops per element.

use rayon::prelude::*;

/// Elements of one block: the grain of the threads, and of the sums.
const BLOCK: usize = 8192;
/// Partial sums inside a block.
const LANES: usize = 16;

/// `f(slice, y)` for each element.
pub(super) fn map(n_slices: usize, y: &mut [f32], f: impl Fn(usize, &mut f32) + Sync) {
    let len = slice_len(y.len(), n_slices);
    y.par_chunks_mut(len).enumerate().for_each(|(s, y)| {
        y.par_chunks_mut(BLOCK).for_each(|y| y.iter_mut().for_each(|y| f(s, y)));
    });
}

/// `f(slice, x, y)` for each element.
pub(super) fn zip(n_slices: usize, x: &[f32], y: &mut [f32], f: impl Fn(usize, f32, &mut f32) + Sync) {
    let len = slice_len(y.len(), n_slices);
    y.par_chunks_mut(len).zip(x.par_chunks(len)).enumerate().for_each(|(s, (y, x))| {
        y.par_chunks_mut(BLOCK).zip(x.par_chunks(BLOCK)).for_each(|(y, x)| {
            y.iter_mut().zip(x).for_each(|(y, x)| f(s, *x, y));
        });
    });
}

/// `f(w, y)` for each element, `w` being one slice for all if `broadcast`.
pub(super) fn zip_weight(n_slices: usize, broadcast: bool, w: &[f32], y: &mut [f32], f: impl Fn(f32, &mut f32) + Sync) {
    let len = slice_len(y.len(), n_slices);
    y.par_chunks_mut(len).enumerate().for_each(|(s, y)| {
        let w = if broadcast { w } else { &w[s * len..][..len] };
        y.par_chunks_mut(BLOCK).zip(w.par_chunks(BLOCK)).for_each(|(y, w)| {
            y.iter_mut().zip(w).for_each(|(y, w)| f(*w, y));
        });
    });
}

/// `f(a, b, out)` for each element.
pub(super) fn zip2(n_slices: usize, a: &[f32], b: &[f32], out: &mut [f32], f: impl Fn(f32, f32, &mut f32) + Sync) {
    let len = slice_len(out.len(), n_slices).min(BLOCK);
    out.par_chunks_mut(len).zip(a.par_chunks(len).zip(b.par_chunks(len))).for_each(|(out, (a, b))| {
        out.iter_mut().zip(a.iter().zip(b)).for_each(|(out, (a, b))| f(*a, *b, out));
    });
}

/// Dot product of each slice: fixed blocks in f64, blocks added in their order.
pub(super) fn dot(n_slices: usize, x: &[f32], y: &[f32]) -> Vec<f64> {
    let len = slice_len(x.len(), n_slices);
    let mut sums = vec![0.0; n_slices];
    sums.par_iter_mut().zip(x.par_chunks(len).zip(y.par_chunks(len))).for_each(|(sum, (x, y))| {
        let blocks: Vec<f64> = x.par_chunks(BLOCK).zip(y.par_chunks(BLOCK)).map(|(x, y)| block_dot(x, y)).collect();
        *sum = blocks.iter().sum();
    });
    sums
}

fn block_dot(x: &[f32], y: &[f32]) -> f64 {
    let mut lanes = [0.0f64; LANES];
    for (x, y) in x.chunks(LANES).zip(y.chunks(LANES)) {
        for (lane, (x, y)) in lanes.iter_mut().zip(x.iter().zip(y)) {
            *lane += f64::from(*x) * f64::from(*y);
        }
    }
    lanes.iter().sum()
}

/// Length of a slice, at least 1 so that it can be a chunk length.
fn slice_len(len: usize, n_slices: usize) -> usize {
    (len / n_slices).max(1)
}
