//! Weighted least squares by QR of W^{1/2} Φ, and what an orthonormal basis tells for nothing.

use faer::linalg::triangular_solve::{solve_lower_triangular_in_place, solve_upper_triangular_in_place};
use faer::{Mat, MatRef, Par};

use super::error::DesignError;
use super::extremes::extremes;
use super::qr::triangular;
use super::space::indices::IndexSet;

/// Eigenvalues of the empirical Gram matrix G = (1/n) Σ w φ φᵀ.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spectrum {
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// ln det G.
    pub ln_det: f64,
}

impl Spectrum {
    /// Of rows √w φ (n × m), from their singular values: G itself would lose half of the digits.
    ///
    /// # Errors
    /// [`DesignError::SingularValues`].
    pub fn of(rows: MatRef<'_, f64>, par: Par) -> Result<Self, DesignError> {
        Self::of_factor(triangular(rows.to_owned(), par).as_ref(), rows.nrows())
    }

    /// Of the R of `n` such rows.
    ///
    /// # Errors
    /// [`DesignError::SingularValues`].
    pub fn of_factor(r: MatRef<'_, f64>, n: usize) -> Result<Self, DesignError> {
        let rows = n as f64;
        let [min, max] = extremes(r)?.map(|value| value / rows);
        let ln_det = (0..r.ncols()).map(|j| (r[(j, j)].powi(2) / rows).max(f64::MIN_POSITIVE).ln()).sum();
        Ok(Self { min, max, ln_det })
    }

    /// ‖G − I‖.
    pub fn distance(&self) -> f64 {
        (self.max - 1.0).max(1.0 - self.min)
    }

    /// Condition number of W^{1/2} Φ.
    pub fn condition(&self) -> f64 {
        (self.max / self.min).sqrt()
    }
}

/// R of [A | B] = QR, A = W^{1/2} Φ and B = W^{1/2} Y: all that a least-squares problem says of its coefficients. Factors of parts
/// of the rows merge into that of all (Demmel, Grigori, Hoemmen and Langou 2012).
#[derive(Debug, Clone)]
pub struct Factor {
    functions: usize,
    /// (m + k) × (m + k), upper triangular.
    r: Mat<f64>,
}

impl Factor {
    /// Of rows of A (n × m) and B (n × k).
    pub fn of(a: MatRef<'_, f64>, b: MatRef<'_, f64>) -> Self {
        let (n, m, size) = (a.nrows(), a.ncols(), a.ncols() + b.ncols());
        // At least as many rows as columns: rows of zeros change nothing.
        let mut both = Mat::zeros(n.max(size), size);
        both.as_mut().submatrix_mut(0, 0, n, m).copy_from(a);
        both.as_mut().submatrix_mut(0, m, n, size - m).copy_from(b);
        Self { functions: m, r: triangular(both, Par::Seq) }
    }

    /// Of the rows of both.
    pub fn merged(&self, other: &Self) -> Self {
        let size = self.r.ncols();
        let mut both = Mat::zeros(2 * size, size);
        both.as_mut().subrows_mut(0, size).copy_from(&self.r);
        both.as_mut().subrows_mut(size, size).copy_from(&other.r);
        Self { functions: self.functions, r: triangular(both, Par::Seq) }
    }

    /// As numbers, column by column.
    pub fn numbers(&self) -> Vec<f64> {
        self.r.col_iter().flat_map(|column| column.iter().copied().collect::<Vec<_>>()).collect()
    }

    /// From [`Factor::numbers`].
    pub fn from_numbers(numbers: &[f64], functions: usize, outputs: usize) -> Self {
        let size = functions + outputs;
        Self { functions, r: Mat::from_fn(size, size, |i, j| numbers[j * size + i]) }
    }

    /// R of A alone, m × m.
    pub fn r(&self) -> MatRef<'_, f64> {
        self.r.as_ref().submatrix(0, 0, self.functions, self.functions)
    }

    /// ĉ, m × k.
    ///
    /// # Errors
    /// [`DesignError::RankDeficient`] where the points do not determine the coefficients.
    pub fn coefficients(&self) -> Result<Mat<f64>, DesignError> {
        let m = self.functions;
        let regular = |i: &usize| self.r[(*i, *i)].abs() > 0.0 && self.r[(*i, *i)].is_finite();
        let rank = (0..m).filter(regular).count();
        if rank < m {
            return Err(DesignError::RankDeficient { rank, functions: m });
        }
        let mut c = self.r.as_ref().submatrix(0, m, m, self.r.ncols() - m).to_owned();
        solve_upper_triangular_in_place(self.r(), c.as_mut(), Par::Seq);
        Ok(c)
    }

    /// Squared residual of each output.
    pub fn residual2(&self) -> Vec<f64> {
        let m = self.functions;
        (m..self.r.ncols()).map(|j| self.r.col(j).subrows(m, self.r.nrows() - m).squared_norm_l2()).collect()
    }

    /// R^{−T} Vᵀ for rows V (n × m): m × n. Columns of a row of A have its leverage as squared length.
    pub fn whitened(&self, rows: MatRef<'_, f64>) -> Mat<f64> {
        let mut x = rows.transpose().to_owned();
        solve_lower_triangular_in_place(self.r().transpose(), x.as_mut(), Par::Seq);
        x
    }
}

/// A least-squares fit of any number of outputs.
#[derive(Debug, Clone)]
pub struct Fit {
    /// Coefficients in the basis, m × outputs.
    pub coefficients: Mat<f64>,
    /// h_i = w_i φ(x_i)ᵀ (ΦᵀWΦ)⁻¹ φ(x_i), `[n]`.
    pub leverages: Vec<f64>,
    /// √w_i (y_i − f̂(x_i)), n × outputs.
    pub residuals: Mat<f64>,
}

/// Fits `values` (n × outputs) at points with features in `rows` = W^{1/2} Φ (n × m).
///
/// # Errors
/// [`DesignError::RankDeficient`] where the points do not determine the coefficients.
pub fn fit(rows: MatRef<'_, f64>, weights: &[f64], values: MatRef<'_, f64>) -> Result<Fit, DesignError> {
    let weighted = Mat::from_fn(values.nrows(), values.ncols(), |i, j| weights[i].sqrt() * values[(i, j)]);
    let factor = Factor::of(rows, weighted.as_ref());
    Fit::of(&factor, rows, weighted.as_ref())
}

impl Fit {
    /// What `factor`, which may hold more rows, says of the rows `a` (n × m) and `b` (n × outputs).
    ///
    /// # Errors
    /// As [`Factor::coefficients`].
    pub fn of(factor: &Factor, a: MatRef<'_, f64>, b: MatRef<'_, f64>) -> Result<Self, DesignError> {
        let coefficients = factor.coefficients()?;
        let residuals = b - a * &coefficients;
        let leverages = factor.whitened(a).col_iter().map(|x| x.squared_norm_l2()).collect();
        Ok(Self { coefficients, leverages, residuals })
    }

    /// √((1/n) Σ w_i (y_i − f̂_{−i}(x_i))²) for each output, f̂_{−i} fitted without point i; an estimate of the L²(μ) error.
    /// Absent for n = m, where every fit without a point is singular.
    pub fn leave_one_out(&self) -> Option<Vec<f64>> {
        let n = self.leverages.len();
        // A residual without the point's own pull is e_i/(1 − h_i) (Allen 1974).
        let left_out = |j: usize| {
            let squares = (0..n).map(|i| (self.residuals[(i, j)] / (1.0 - self.leverages[i])).powi(2));
            (squares.sum::<f64>() / n as f64).sqrt()
        };
        (n > self.coefficients.nrows()).then(|| (0..self.residuals.ncols()).map(left_out).collect())
    }

    /// σ² of noise with variance σ²/w_i, for each output: residual sum over n − m. Absent for n = m.
    pub fn noise(&self) -> Option<Vec<f64>> {
        let spare = self.leverages.len() - self.coefficients.nrows();
        let noise = |j: usize| self.residuals.col(j).squared_norm_l2() / spare as f64;
        (spare > 0).then(|| (0..self.residuals.ncols()).map(noise).collect())
    }
}

/// Mean, variance and Sobol' indices of a function with `coefficients` in an orthonormal basis of products.
#[derive(Debug, Clone, PartialEq)]
pub struct Moments {
    /// E f.
    pub mean: f64,
    /// Var f.
    pub variance: f64,
    /// Part of the variance from each variable alone, `[d]`.
    pub first: Vec<f64>,
    /// Part of the variance that each variable takes part in, `[d]`.
    pub total: Vec<f64>,
}

impl Moments {
    /// Sums of squared coefficients (Sudret 2008).
    pub fn of(indices: &IndexSet, coefficients: &[f64]) -> Self {
        let mut moments = Self {
            mean: coefficients[0],
            variance: coefficients[1..].iter().map(|c| c * c).sum(),
            first: vec![0.0; indices.dimension],
            total: vec![0.0; indices.dimension],
        };
        if moments.variance > 0.0 {
            for (i, c) in coefficients.iter().enumerate().skip(1) {
                let (factors, part) = (indices.factors(i), c * c / moments.variance);
                factors.iter().for_each(|(axis, _)| moments.total[*axis] += part);
                if let [(axis, _)] = factors {
                    moments.first[*axis] += part;
                }
            }
        }
        moments
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dpp::space::Space;
    use crate::dpp::space::family::Family;
    use crate::dpp::space::indices::Rule;
    use crate::dpp::stream::Stream;

    /// Rows W^{1/2} Φ, weights and two outputs of a small problem.
    fn problem() -> (Mat<f64>, Vec<f64>, Mat<f64>) {
        let stream = Stream::new(5, 0, 0);
        let weights: Vec<f64> = (0..14).map(|i| 0.5 + stream.choices(i).0).collect();
        let rows = Mat::from_fn(14, 5, |i, j| weights[i].sqrt() * stream.normal(100 + (5 * i + j) as u64));
        (rows, weights, Mat::from_fn(14, 2, |i, j| stream.normal(500 + (2 * i + j) as u64)))
    }

    /// Each point left out and fitted again, to 1e-11.
    #[test]
    fn leave_one_out_is_what_refits_give() {
        let (rows, weights, values) = problem();
        let all = fit(rows.as_ref(), &weights, values.as_ref()).unwrap();
        for output in 0..2 {
            let mut sum = 0.0;
            for out in 0..14 {
                let keep: Vec<usize> = (0..14).filter(|i| *i != out).collect();
                let part = Mat::from_fn(13, 5, |i, j| rows[(keep[i], j)]);
                let w: Vec<f64> = keep.iter().map(|i| weights[*i]).collect();
                let y = Mat::from_fn(13, 1, |i, _| values[(keep[i], output)]);
                let c = fit(part.as_ref(), &w, y.as_ref()).unwrap().coefficients;
                let predicted: f64 = (0..5).map(|j| rows[(out, j)] * c[(j, 0)]).sum();
                sum += (weights[out].sqrt() * values[(out, output)] - predicted).powi(2);
            }
            let found = all.leave_one_out().unwrap()[output];
            assert!((found - (sum / 14.0).sqrt()).abs() < 1e-11, "{found}");
        }
    }

    /// The normal equations hold: Aᵀ(√w y − A c) = 0 to 1e-12, and leverages sum to m.
    #[test]
    fn fits_are_stationary() {
        let (rows, weights, values) = problem();
        let found = fit(rows.as_ref(), &weights, values.as_ref()).unwrap();
        let weighted = Mat::from_fn(14, 2, |i, j| weights[i].sqrt() * values[(i, j)]);
        let gradient = rows.transpose() * (weighted - &rows * &found.coefficients);
        assert!(gradient.norm_max() < 1e-12);
        assert!((found.leverages.iter().sum::<f64>() - 5.0).abs() < 1e-12);
        let deficient = Mat::from_fn(14, 2, |i, _| rows[(i, 0)] * 0.0);
        assert!(fit(deficient.as_ref(), &weights, values.as_ref()).is_err());
    }

    /// Factors of parts of the rows, one of them with fewer rows than columns, say what that of all says, to 1e-12.
    #[test]
    fn factors_of_parts_merge() {
        let (rows, weights, values) = problem();
        let all = fit(rows.as_ref(), &weights, values.as_ref()).unwrap();
        let weighted = Mat::from_fn(14, 2, |i, j| weights[i].sqrt() * values[(i, j)]);
        let part =
            |from: usize, n: usize| Factor::of(rows.as_ref().subrows(from, n), weighted.as_ref().subrows(from, n));
        let merged = part(0, 3).merged(&part(3, 6)).merged(&part(9, 5));
        let merged = Factor::from_numbers(&merged.numbers(), 5, 2);
        assert!((merged.coefficients().unwrap() - &all.coefficients).norm_max() < 1e-12);
        let (noise, residual2) = (all.noise().unwrap(), merged.residual2());
        (0..2).for_each(|j| assert!((residual2[j] / 9.0 - noise[j]).abs() < 1e-12));
        let (a, b) = (Spectrum::of(rows.as_ref(), Par::Seq).unwrap(), Spectrum::of_factor(merged.r(), 14).unwrap());
        assert!((a.min - b.min).abs() < 1e-12 && (a.ln_det - b.ln_det).abs() < 1e-11);
    }

    /// f = 2 + x_1 + 3 x_1 x_2 of uniform variables on [−1, 1]: variances 1/3 and 9/9.
    #[test]
    fn sobol_indices_of_a_polynomial() {
        let space = Space::new(&[Family::Legendre; 2], &Rule::TotalDegree(2)).unwrap();
        let mut coefficients = vec![0.0; space.len()];
        for (i, c) in coefficients.iter_mut().enumerate() {
            *c = match space.indices.factors(i) {
                [] => 2.0,
                [(0, 1)] => 1.0 / 3f64.sqrt(),
                [(0, 1), (1, 1)] => 1.0,
                _ => 0.0,
            };
        }
        let moments = Moments::of(&space.indices, &coefficients);
        assert_eq!(moments.mean, 2.0);
        assert!((moments.variance - 4.0 / 3.0).abs() < 1e-14);
        assert!((moments.first[0] - 0.25).abs() < 1e-14 && moments.first[1] == 0.0);
        assert!((moments.total[0] - 1.0).abs() < 1e-14 && (moments.total[1] - 0.75).abs() < 1e-14);
    }
}
