//! Householder QR on a number of threads that the caller says, so that its bits do not depend on who else is there.

use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::qr::no_pivoting::factor::{qr_in_place, qr_in_place_scratch, recommended_block_size};
use faer::{Mat, MatMut, Par};

/// Householder QR in place; returns the factors of its blocks.
pub fn factorise(mut a: MatMut<'_, f64>, par: Par) -> Mat<f64> {
    let (n, k) = (a.nrows(), a.ncols());
    let block = recommended_block_size::<f64>(n, k).min(k.min(n));
    let mut factor = Mat::zeros(block, k.min(n));
    let mut memory = MemBuffer::new(qr_in_place_scratch::<f64>(n, k, block, par, Default::default()));
    qr_in_place(a.as_mut(), factor.as_mut(), par, MemStack::new(&mut memory), Default::default());
    factor
}

/// R of A = QR, for a matrix with at least as many rows as columns.
pub fn triangular(mut a: Mat<f64>, par: Par) -> Mat<f64> {
    let size = a.ncols();
    factorise(a.as_mut(), par);
    Mat::from_fn(size, size, |i, j| if i <= j { a[(i, j)] } else { 0.0 })
}
