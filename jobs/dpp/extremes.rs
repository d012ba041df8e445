//! The extreme eigenvalues of RᵀR for a triangular R.

use faer::{Col, Mat, MatRef, Side};

use super::error::DesignError;
use super::stream::Stream;

/// Columns from which Lanczos' method is faster than all singular values.
const LARGE: usize = 256;
/// Residual over the eigenvalue; the error of the eigenvalue is of the order of its square.
const TOLERANCE: f64 = 1e-6;
/// Steps at most; convergence is looked at after every few.
const STEPS: usize = 400;
const EVERY: usize = 10;

/// The smallest and the largest eigenvalue of RᵀR.
///
/// # Errors
/// [`DesignError::SingularValues`].
pub fn extremes(r: MatRef<'_, f64>) -> Result<[f64; 2], DesignError> {
    if r.ncols() >= LARGE {
        let ends = [true, false].map(|inverse| largest(Gram { r, inverse }));
        if let [Some(inverse), Some(max)] = ends {
            return Ok([1.0 / inverse, max]);
        }
    }
    // Singular to rounding, or small.
    let values = r.singular_values().map_err(|_| DesignError::SingularValues)?;
    let squares = values.iter().map(|s| s * s);
    Ok(squares.fold([f64::INFINITY, 0.0], |[min, max], s| [min.min(s), max.max(s)]))
}

/// RᵀR, or its inverse.
#[derive(Debug, Clone, Copy)]
struct Gram<'a> {
    r: MatRef<'a, f64>,
    inverse: bool,
}

impl Gram<'_> {
    /// A x; every column of R is read twice.
    fn times(&self, mut x: Col<f64>) -> Col<f64> {
        let (r, m) = (self.r, self.r.ncols());
        let mut w = Col::zeros(m);
        if self.inverse {
            for j in 0..m {
                w[j] = (x[j] - r.col(j).subrows(0, j).transpose() * w.as_ref().subrows(0, j)) / r[(j, j)];
            }
            for j in (0..m).rev() {
                let value = w[j] / r[(j, j)];
                subtract(value, r, j, &mut w);
                x[j] = value;
            }
        } else {
            for j in 0..m {
                subtract(-x[j], r, j, &mut w);
                w[j] += r[(j, j)] * x[j];
            }
            for j in 0..m {
                x[j] = r.col(j).subrows(0, j + 1).transpose() * w.as_ref().subrows(0, j + 1);
            }
        }
        x
    }
}

/// w ← w − value R_j above the diagonal.
fn subtract(value: f64, r: MatRef<'_, f64>, j: usize, w: &mut Col<f64>) {
    w.as_mut().subrows_mut(0, j).iter_mut().zip(r.col(j).subrows(0, j).iter()).for_each(|(w, r)| *w -= value * r);
}

/// The largest eigenvalue, by Lanczos' method with full reorthogonalisation; nothing where it is not found to rounding.
fn largest(gram: Gram<'_>) -> Option<f64> {
    let (m, stream) = (gram.r.ncols(), Stream::new(0, 0, 0));
    let mut basis = Mat::<f64>::zeros(m, STEPS);
    let (mut diagonal, mut beside) = (Vec::new(), Vec::new());
    let mut next = Col::from_fn(m, |i| stream.normal(i as u64));
    for step in 0..STEPS.min(m) {
        let length = next.norm_l2();
        basis.col_mut(step).copy_from(&(&next / length));
        next = gram.times(basis.col(step).to_owned());
        let (known, v) = (basis.as_ref().subcols(0, step + 1), basis.col(step));
        diagonal.push(v.transpose() * &next);
        for _ in 0..2 {
            let parts = known.transpose() * &next;
            next -= known * parts;
        }
        let residual = next.norm_l2();
        if !residual.is_finite() {
            return None;
        }
        let ends = (step + 1) % EVERY == 0 || step < 2 || residual == 0.0;
        if ends {
            let size = step + 1;
            let entry = |i: usize, j: usize| match i.abs_diff(j) {
                0 => diagonal[i],
                1 => beside[i.min(j)],
                _ => 0.0,
            };
            let all = Mat::from_fn(size, size, entry).self_adjoint_eigen(Side::Lower).ok()?;
            let (value, last) = (all.S()[size - 1], all.U()[(size - 1, size - 1)]);
            if (residual * last).abs() <= TOLERANCE * value {
                return value.is_normal().then_some(value);
            }
        }
        beside.push(residual);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dpp::qr::triangular;
    use faer::Par;

    /// Against all singular values, to 1e-9 of each, for a well and a badly conditioned matrix; one that is singular has 0.
    #[test]
    fn extremes_are_those_of_the_singular_values() {
        let (n, m, stream) = (330, 300, Stream::new(2, 1, 0));
        for power in [0.0, 3.0] {
            let scale = |j: usize| (1.0 + j as f64).powf(-power);
            let a = Mat::from_fn(n, m, |i, j| scale(j) * stream.normal((i * m + j) as u64));
            let r = triangular(a, Par::Seq);
            let values = r.singular_values().unwrap();
            let [min, max] = extremes(r.as_ref()).unwrap();
            assert!((min / values[m - 1].powi(2) - 1.0).abs() < 1e-9, "{power}: {min}");
            assert!((max / values[0].powi(2) - 1.0).abs() < 1e-9, "{power}: {max}");
        }
        let twice = Mat::from_fn(n, m, |i, j| stream.normal((i * m + j % 299) as u64));
        assert!(extremes(triangular(twice, Par::Seq).as_ref()).unwrap()[0] < 1e-25);
    }
}
