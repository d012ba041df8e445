//! Gaussian posteriors of whitened unknowns by least squares: x minimises `‖x‖² + ‖A x − b‖²`, with covariance
//! `(1 + AᵀA)⁻¹`. The rows of `[A b]` are spread over ranks.
//!
//! Everything is read off one triangular factor R of `[1; A]`, found by QR of each rank's rows and of the stacked factors
//! (TSQR, Demmel et al. 2012): normal equations would square the condition number, which small noise makes large.

use convoke_cluster::{Comm, Result};
use faer::{Mat, MatRef};

/// The Gaussian posterior of n whitened unknowns.
#[derive(Debug, Clone)]
pub struct Gaussian {
    /// Upper triangular with a positive diagonal, `RᵀR = 1 + AᵀA`: `n × n`. The same on every rank, up to rounding on any
    /// number of ranks.
    r: Mat<f64>,
    /// The mean.
    pub mean: Vec<f64>,
    /// `‖x‖² + ‖A x − b‖²` at the mean.
    pub misfit: f64,
}

impl Gaussian {
    /// The posterior, under a standard normal prior, of the rows `[A b]` that the ranks hold: `m × (n + 1)`. Collective.
    ///
    /// Bytes sent: `8 (n + 1) min(m, n + 1)` to each other rank, m the rows here.
    ///
    /// # Errors
    /// Where another rank fails.
    pub fn new(comm: &Comm, rows: &Mat<f64>) -> Result<Self> {
        let n = rows.ncols() - 1;
        let mine = triangular(rows.as_ref());
        let parts = comm.all_gather(&row_major(mine.as_ref()))?;
        let all: Vec<f64> = parts.into_iter().flatten().collect();
        let gathered = MatRef::from_row_major_slice(&all, all.len() / (n + 1), n + 1);
        let mut stacked = Mat::zeros(n + gathered.nrows(), n + 1);
        (0..n).for_each(|i| stacked[(i, i)] = 1.0);
        stacked.subrows_mut(n, gathered.nrows()).copy_from(gathered);
        let mut factor = triangular(stacked.as_ref());
        // Unique, so that samples do not depend on how rows were spread.
        for i in 0..n {
            if factor[(i, i)] < 0.0 {
                factor.row_mut(i).iter_mut().for_each(|v| *v = -*v);
            }
        }
        let r = factor.submatrix(0, 0, n, n).to_owned();
        let mut mean = factor.submatrix(0, n, n, 1).to_owned();
        r.solve_upper_triangular_in_place(mean.as_mut());
        let misfit = (n..factor.nrows()).map(|i| factor[(i, n)].powi(2)).sum();
        let mean = (0..n).map(|i| mean[(i, 0)]).collect();
        Ok(Self { r, mean, misfit })
    }

    /// Number of unknowns.
    pub fn len(&self) -> usize {
        self.mean.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.mean.is_empty()
    }

    /// Standard deviation of each linear functional, given by the rows of `functionals`, `m × n`.
    pub fn deviations(&self, functionals: &Mat<f64>) -> Vec<f64> {
        let mut solved = functionals.transpose().to_owned();
        self.r.transpose().solve_lower_triangular_in_place(solved.as_mut());
        (0..solved.ncols()).map(|i| solved.col(i).norm_l2()).collect()
    }

    /// A draw, given `Aᵀ e₁ + e₂` for independent standard normal e₁ (a number a row) and e₂ (a number an unknown): the
    /// posterior's mean for perturbed data and a perturbed prior has its covariance (Papandreou and Yuille 2010). Unlike
    /// `R⁻¹ e` it is the same function whatever basis the unknowns are in.
    pub fn sample(&self, perturbation: &[f64]) -> Vec<f64> {
        let mut x = Mat::from_fn(self.len(), 1, |i, _| perturbation[i]);
        self.r.transpose().solve_lower_triangular_in_place(x.as_mut());
        self.r.solve_upper_triangular_in_place(x.as_mut());
        (0..self.len()).map(|i| self.mean[i] + x[(i, 0)]).collect()
    }

    /// R⁻¹: its rows' products are covariances.
    pub fn root(&self) -> Mat<f64> {
        let mut inverse = Mat::identity(self.len(), self.len());
        self.r.solve_upper_triangular_in_place(inverse.as_mut());
        inverse
    }

    /// `−½ (‖x‖² + ‖A x − b‖²) − log det R`: the logarithm of the evidence, but for what depends on the noise alone.
    pub fn log_evidence(&self) -> f64 {
        -0.5 * self.misfit - (0..self.len()).map(|i| self.r[(i, i)].ln()).sum::<f64>()
    }
}

/// The triangular factor of a matrix: at most as many rows as columns.
fn triangular(a: MatRef<'_, f64>) -> Mat<f64> {
    if a.nrows() == 0 { Mat::zeros(0, a.ncols()) } else { a.to_owned().qr().thin_R().to_owned() }
}

fn row_major(a: MatRef<'_, f64>) -> Vec<f64> {
    (0..a.nrows()).flat_map(|i| (0..a.ncols()).map(move |j| a[(i, j)])).collect()
}

#[cfg(test)]
mod tests {
    use convoke_cluster::comm::run_threads;
    use convoke_kernels::Philox;

    use super::*;

    fn problem(m: usize, n: usize) -> Mat<f64> {
        let random = Philox::new(5, 1);
        Mat::from_fn(m, n + 1, |i, j| random.normal((i * (n + 1) + j) as u64))
    }

    /// Against the normal equations, which are good enough for random rows.
    #[test]
    fn mean_covariance_and_evidence_are_the_textbooks() {
        let (m, n) = (30, 12);
        let rows = problem(m, n);
        let (a, b) = (rows.subcols(0, n).to_owned(), rows.subcols(n, 1).to_owned());
        let posterior = Gaussian::new(&Comm::solo(), &rows).unwrap();
        let h = a.transpose() * &a + Mat::<f64>::identity(n, n);
        let covariance = faer::linalg::solvers::DenseSolveCore::inverse(&h.partial_piv_lu());
        let mean = &covariance * (a.transpose() * &b);
        let functionals = Mat::from_fn(3, n, |i, j| ((i + 2) * (j + 1)) as f64 / 7.0);
        let expected = &functionals * &covariance * functionals.transpose();
        for (i, deviation) in posterior.deviations(&functionals).iter().enumerate() {
            assert!((deviation * deviation / expected[(i, i)] - 1.0).abs() < 1e-12);
        }
        assert!((0..n).all(|i| (posterior.mean[i] - mean[(i, 0)]).abs() < 1e-12));
        // b ~ N(0, 1 + A Aᵀ): its density in m dimensions is another way to the evidence.
        let spread = &a * a.transpose() + Mat::<f64>::identity(m, m);
        let factor = spread.llt(faer::Side::Lower).unwrap();
        let log_det: f64 = (0..m).map(|i| factor.L()[(i, i)].ln()).sum();
        let quadratic = (b.transpose() * faer::linalg::solvers::DenseSolveCore::inverse(&factor) * &b)[(0, 0)];
        assert!((posterior.log_evidence() - (-0.5 * quadratic - log_det)).abs() < 1e-10);
    }

    #[test]
    fn samples_have_the_covariance_and_ranks_do_not_matter() {
        let (m, n) = (9, 4);
        let rows = problem(m, n);
        let one = Gaussian::new(&Comm::solo(), &rows).unwrap();
        let parts = run_threads(5, |comm| {
            let mine = comm.block(m);
            Gaussian::new(&comm, &rows.subrows(mine.start, mine.len()).to_owned())
        });
        for other in parts {
            let other = other.unwrap();
            let perturbation: Vec<f64> = (0..n).map(|i| (i as f64).cos()).collect();
            let (a, b) = (one.sample(&perturbation), other.sample(&perturbation));
            assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-13));
            assert!((one.misfit - other.misfit).abs() < 1e-12);
        }
        let root = one.root();
        let variance = root.row(1).iter().map(|v| v * v).sum::<f64>();
        let random = Philox::new(1, 2);
        let draws = 20_000;
        let a = rows.subcols(0, n);
        let draw = |s: usize| {
            let normal = |i: usize| random.normal((s * (m + n) + i) as u64);
            let perturbation = |j: usize| normal(m + j) + (0..m).map(|i| a[(i, j)] * normal(i)).sum::<f64>();
            one.sample(&(0..n).map(perturbation).collect::<Vec<_>>())[1]
        };
        let sum: f64 = (0..draws).map(|s| (draw(s) - one.mean[1]).powi(2)).sum();
        // The relative deviation of a variance from 20 000 draws is 0.01; five of them.
        assert!((sum / draws as f64 / variance - 1.0).abs() < 0.05);
    }
}
