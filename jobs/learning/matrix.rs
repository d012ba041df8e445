//! Products of matrices in slices, row-major, on the thread that asks.

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};

use super::real::Real;

/// Tells of so many multiplications and additions where they are done: tests compare their sum with what plans say.
#[inline]
pub fn note(operations: usize) {
    #[cfg(test)]
    tests::DONE.with(|done| done.set(done.get() + operations));
    #[cfg(not(test))]
    let _ = operations;
}

/// c ← a b, or c += a b: a `[rows, depth]`, b `[depth, cols]`; rows of b and of c are `pitches` apart.
pub fn product<T: Real>(
    how: Accum,
    c: &mut [T],
    a: &[T],
    b: &[T],
    (rows, depth, cols): (usize, usize, usize),
    pitches: [usize; 2],
) {
    note(2 * rows * depth * cols);
    // faer 0.24.4 swaps the strides of `from_row_major_slice_with_stride_mut`.
    let c = MatMut::from_column_major_slice_with_stride_mut(c, cols, rows, pitches[1]).transpose_mut();
    let b = MatRef::from_column_major_slice_with_stride(b, cols, depth, pitches[0]).transpose();
    matmul(c, how, MatRef::from_row_major_slice(a, rows, depth), b, T::of(1.0), Par::Seq);
}

/// Counting.
#[cfg(test)]
pub mod tests {
    use std::cell::Cell;

    thread_local! {
        /// Of this thread.
        pub static DONE: Cell<usize> = const { Cell::new(0) };
    }

    /// What `work` told [`super::note`] of, all of it on one thread.
    pub fn counted(work: impl FnOnce() + Send) -> f64 {
        let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread");
        one.install(|| {
            DONE.set(0);
            work();
            DONE.get() as f64
        })
    }
}
