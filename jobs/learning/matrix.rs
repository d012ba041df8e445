//! Products of matrices in slices, row-major, on the thread that asks.

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};

use super::real::Real;

/// c ← a b, or c += a b: a `[rows, depth]`, b `[depth, cols]`; rows of b and of c are `pitches` apart.
pub fn product<T: Real>(
    how: Accum,
    c: &mut [T],
    a: &[T],
    b: &[T],
    (rows, depth, cols): (usize, usize, usize),
    pitches: [usize; 2],
) {
    // faer 0.24.4 swaps the strides of `from_row_major_slice_with_stride_mut`.
    let c = MatMut::from_column_major_slice_with_stride_mut(c, cols, rows, pitches[1]).transpose_mut();
    let b = MatRef::from_column_major_slice_with_stride(b, cols, depth, pitches[0]).transpose();
    matmul(c, how, MatRef::from_row_major_slice(a, rows, depth), b, T::of(1.0), Par::Seq);
}
