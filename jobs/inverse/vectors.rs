//! Operations on long vectors: threads share blocks of fixed length, sums are in f64 over these blocks in their order.

use rayon::prelude::*;

/// Elements of one block: the grain of the threads, and of the sums.
const BLOCK: usize = 8192;
/// Partial sums inside a block.
const LANES: usize = 16;

/// Σ a b, the same bits on any number of threads.
pub fn dot(a: &[f32], b: &[f32]) -> f64 {
    let blocks: Vec<f64> = a.par_chunks(BLOCK).zip(b.par_chunks(BLOCK)).map(|(a, b)| block_dot(a, b)).collect();
    blocks.iter().sum()
}

fn block_dot(a: &[f32], b: &[f32]) -> f64 {
    let mut lanes = [0.0f64; LANES];
    for (a, b) in a.chunks(LANES).zip(b.chunks(LANES)) {
        for (lane, (a, b)) in lanes.iter_mut().zip(a.iter().zip(b)) {
            *lane += f64::from(*a) * f64::from(*b);
        }
    }
    lanes.iter().sum()
}

/// `f(y)` for each element.
pub fn map(y: &mut [f32], f: impl Fn(&mut f32) + Sync) {
    y.par_chunks_mut(BLOCK).for_each(|y| y.iter_mut().for_each(&f));
}

/// `f(y, x)` for each element.
pub fn zip(y: &mut [f32], x: &[f32], f: impl Fn(&mut f32, f32) + Sync) {
    y.par_chunks_mut(BLOCK).zip(x.par_chunks(BLOCK)).for_each(|(y, x)| {
        y.iter_mut().zip(x).for_each(|(y, x)| f(y, *x));
    });
}

/// `f(y, a, b)` for each element.
pub fn zip2(y: &mut [f32], a: &[f32], b: &[f32], f: impl Fn(&mut f32, f32, f32) + Sync) {
    y.par_chunks_mut(BLOCK).zip(a.par_chunks(BLOCK).zip(b.par_chunks(BLOCK))).for_each(|(y, (a, b))| {
        y.iter_mut().zip(a.iter().zip(b)).for_each(|(y, (a, b))| f(y, *a, *b));
    });
}
