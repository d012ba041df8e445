//! Rows of Kronecker products: what a value at one point is of coefficients in tensor-product functions.

use std::ops::Range;

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatMut, MatRef, Par};
use rayon::prelude::*;

/// Rows `a₁[p] ⊗ a₂[p] ⊗ …` of points p that are no grid (a Khatri-Rao product), applied without being formed.
#[derive(Debug, Clone)]
pub struct PointRows {
    /// The product over all axes but the last.
    leading: Mat<f64>,
    /// Of the last axis.
    last: Mat<f64>,
}

impl PointRows {
    /// The rows of these factors, `points × rank` for each axis.
    ///
    /// # Panics
    /// Where there is no axis.
    pub fn new(factors: &[&Mat<f64>]) -> Self {
        let (last, rest) = factors.split_last().expect("a problem has an axis");
        let row = |p: usize| {
            let of_axis = |m: &&Mat<f64>| m.row(p).iter().copied().collect::<Vec<f64>>();
            rest.iter().map(of_axis).fold(vec![1.0], |a, b| kron(&a, &b))
        };
        let n = rest.iter().map(|m| m.ncols()).product();
        let rows: Vec<Vec<f64>> = (0..last.nrows()).into_par_iter().map(row).collect();
        Self { leading: Mat::from_fn(rows.len(), n, |i, j| rows[i][j]), last: (*last).clone() }
    }

    /// Number of points.
    pub fn len(&self) -> usize {
        self.last.nrows()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The matrix: `points × coefficients`.
    pub fn dense(&self) -> Mat<f64> {
        let n = self.last.ncols();
        Mat::from_fn(self.len(), self.leading.ncols() * n, |p, j| self.leading[(p, j / n)] * self.last[(p, j % n)])
    }

    /// The rows times coefficients, of which the first are these.
    pub fn times(&self, z: &[f64]) -> Vec<f64> {
        let (m, n) = (self.leading.ncols(), self.last.ncols());
        // 2 flops for each point and coefficient.
        let along = &self.last * MatRef::from_row_major_slice(&z[..m * n], m, n).transpose();
        (0..self.len()).map(|p| self.leading.row(p) * along.row(p).transpose()).collect()
    }

    /// Adds the transposed rows times values at the points to coefficients.
    pub fn add_adjoint(&self, values: &[f64], z: &mut [f64]) {
        let (m, n) = (self.leading.ncols(), self.last.ncols());
        let weighted = Mat::from_fn(self.len(), n, |p, j| values[p] * self.last[(p, j)]);
        let z = MatMut::from_row_major_slice_mut(&mut z[..m * n], m, n);
        matmul(z, Accum::Add, self.leading.transpose(), &weighted, 1.0, Par::Seq);
    }
}

/// Rows of a Kronecker product of matrices, each times a factor.
pub fn kron_rows(factors: &[&Mat<f64>], range: Range<usize>, factor: impl Fn(usize) -> f64 + Sync) -> Mat<f64> {
    let of_point = |point: usize| {
        let (mut rest, mut row) = (point, vec![factor(point)]);
        let mut indices = vec![0; factors.len()];
        for (axis, m) in factors.iter().enumerate().rev() {
            indices[axis] = rest % m.nrows();
            rest /= m.nrows();
        }
        for (m, i) in factors.iter().zip(indices) {
            row = kron(&row, &m.row(i).iter().copied().collect::<Vec<f64>>());
        }
        row
    };
    let n: usize = factors.iter().map(|m| m.ncols()).product();
    let rows: Vec<Vec<f64>> = range.into_par_iter().map(of_point).collect();
    Mat::from_fn(rows.len(), n, |i, j| rows[i][j])
}

/// All products of an entry of `a` and one of `b`, those of `b` fastest.
pub fn kron(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().flat_map(|a| b.iter().map(move |b| a * b)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against the matrix itself, in one, two and three axes.
    #[test]
    fn rows_that_are_not_formed_act_as_the_matrix() {
        let factor = |k: usize, n: usize| Mat::from_fn(5, n, |i, j| ((7 * k + 3 * i + 2 * j * j) as f64).sin());
        for extents in [&[4][..], &[3, 4], &[2, 3, 4]] {
            let factors: Vec<Mat<f64>> = extents.iter().enumerate().map(|(k, n)| factor(k, *n)).collect();
            let rows = PointRows::new(&factors.iter().collect::<Vec<_>>());
            let n: usize = extents.iter().product();
            let product = |p: usize| {
                factors.iter().fold(vec![1.0], |row, m| kron(&row, &m.row(p).iter().copied().collect::<Vec<_>>()))
            };
            let z: Vec<f64> = (0..n).map(|i| (i as f64).cos()).collect();
            let values: Vec<f64> = (0..5).map(|p| 1.0 + f64::from(p)).collect();
            let mut back = vec![0.5; n];
            rows.add_adjoint(&values, &mut back);
            for p in 0..5 {
                let row = product(p);
                let exact: f64 = row.iter().zip(&z).map(|(r, z)| r * z).sum();
                assert!((rows.times(&z)[p] - exact).abs() < 1e-14);
                assert!((0..n).all(|j| rows.dense()[(p, j)] == row[j]));
            }
            for (j, back) in back.iter().enumerate() {
                let exact: f64 = 0.5 + (0..5).map(|p| product(p)[j] * values[p]).sum::<f64>();
                assert!((back - exact).abs() < 1e-13);
            }
        }
    }
}
