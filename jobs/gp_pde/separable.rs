//! The inverse of a Kronecker sum `A₁ ⊕ A₂ ⊕ … + c`: eigenvectors where an axis has good ones, Schur form elsewhere.
//!
//! Fast diagonalisation (Lynch, Rice and Thomas 1964) along axes whose operator has real eigenvalues and well-conditioned
//! eigenvectors; back substitution with triangular factors (Bartels and Stewart 1972, here for any number of axes) along
//! time and advection axes, whose operators are far from normal.

use convoke_kernels::kronecker::divide_by_sum;
use convoke_kernels::{Buffer, Device, KernelError};
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::evd::ComputeEigenvectors;
use faer::linalg::gevd::{GevdParams, gen_hessenberg, qz_cplx};
use faer::linalg::matmul::matmul;
use faer::linalg::solvers::{PartialPivLu, Solve};
use faer::{Accum, Auto, Col, Mat, MatMut, MatRef, Par, c64};
use rayon::prelude::*;

use super::solver_error::SolverError;

/// Condition number of eigenvectors above which they are not used.
const MAX_CONDITION: f64 = 1e4;
/// Imaginary parts of eigenvalues, relative to the largest, that are rounding.
const MAX_IMAGINARY: f64 = 1e-9;
/// Steps of inverse iteration: the eigenvalue nearest to zero to a few digits where it stands out.
const INVERSE_ITERATIONS: usize = 12;
/// Columns that go through a back substitution together.
const COLUMNS: usize = 32;

/// The operator of one axis, decomposed.
#[derive(Debug, Clone)]
pub enum AxisOperator {
    /// `A = V Λ V⁻¹` with real Λ.
    Diagonal(Diagonal),
    /// `A = Q T Qᴴ`.
    Triangular(Triangular),
}

/// `A = V Λ V⁻¹` with real eigenvalues.
#[derive(Debug, Clone)]
pub struct Diagonal {
    /// Eigenvalues.
    pub lambda: Vec<f64>,
    /// Eigenvectors, of length 1, by columns.
    pub v: Mat<f64>,
    /// Their inverse.
    pub v_inverse: Mat<f64>,
    /// Condition number of the eigenvectors, in the Frobenius norm over the rank.
    pub condition: f64,
}

/// Complex Schur form `A = Q T Qᴴ`, `T` upper triangular.
#[derive(Debug, Clone)]
pub struct Triangular {
    /// Unitary.
    pub q: Mat<c64>,
    /// Upper triangular.
    pub t: Mat<c64>,
}

impl AxisOperator {
    /// Eigenvectors if they are real and well conditioned, and then the Schur form only if not.
    ///
    /// # Errors
    /// Where a decomposition does not converge.
    pub fn decompose(a: &Mat<f64>) -> Result<Self, SolverError> {
        Ok(match Diagonal::of(a)? {
            Some(diagonal) if diagonal.condition <= MAX_CONDITION => Self::Diagonal(diagonal),
            _ => Self::Triangular(Triangular::of(a)?),
        })
    }
}

impl Diagonal {
    /// `None` where eigenvalues are complex or eigenvectors dependent.
    ///
    /// # Errors
    /// Where the decomposition does not converge.
    pub fn of(a: &Mat<f64>) -> Result<Option<Self>, SolverError> {
        let n = a.nrows();
        let eigen = a.eigen().map_err(|_| SolverError::Decomposition)?;
        let values: Vec<c64> = eigen.S().column_vector().iter().copied().collect();
        let largest = values.iter().map(|l| l.norm()).fold(0.0, f64::max);
        if values.iter().any(|l| l.im.abs() > MAX_IMAGINARY * largest) {
            return Ok(None);
        }
        // A pair that is complex by rounding spans the same plane with its real and imaginary parts.
        let vectors = eigen.U();
        let mut v = Mat::from_fn(n, n, |i, j| if values[j].im < 0.0 { vectors[(i, j)].im } else { vectors[(i, j)].re });
        for j in 0..n {
            let norm = v.col(j).norm_l2();
            (0..n).for_each(|i| v[(i, j)] /= norm);
        }
        let v_inverse = faer::linalg::solvers::DenseSolveCore::inverse(&v.partial_piv_lu());
        let condition = v.norm_l2() * v_inverse.norm_l2() / n.max(1) as f64;
        let usable = condition.is_finite();
        let lambda = values.iter().map(|l| l.re).collect();
        Ok(usable.then_some(Self { lambda, v, v_inverse, condition }))
    }
}

impl Diagonal {
    /// As [`Diagonal::of`], of a matrix that is zero but for rounding outside the blocks of these rows and columns.
    ///
    /// # Errors
    /// Where a decomposition does not converge.
    pub fn of_blocks(a: MatRef<'_, f64>, blocks: &[Vec<usize>]) -> Result<Option<Self>, SolverError> {
        let n = a.nrows();
        let (mut lambda, mut v, mut v_inverse) = (Vec::new(), Mat::zeros(n, n), Mat::zeros(n, n));
        for block in blocks {
            let part = Mat::from_fn(block.len(), block.len(), |i, j| a[(block[i], block[j])]);
            let Some(of_block) = Self::of(&part)? else { return Ok(None) };
            for (k, l) in of_block.lambda.iter().enumerate() {
                let column = lambda.len();
                lambda.push(*l);
                for (i, row) in block.iter().enumerate() {
                    v[(*row, column)] = of_block.v[(i, k)];
                    v_inverse[(column, *row)] = of_block.v_inverse[(k, i)];
                }
            }
        }
        let condition = v.norm_l2() * v_inverse.norm_l2() / n.max(1) as f64;
        Ok(Some(Self { lambda, v, v_inverse, condition }))
    }
}

impl Triangular {
    /// The Schur form, by the QZ algorithm of the pair (A, 1).
    ///
    /// # Errors
    /// Where the decomposition does not converge.
    pub fn of(a: &Mat<f64>) -> Result<Self, SolverError> {
        let n = a.nrows();
        let mut s = Mat::from_fn(n, n, |i, j| c64::new(a[(i, j)], 0.0));
        let mut unit = Mat::<c64>::identity(n, n);
        let (mut q, mut z) = (unit.clone(), unit.clone());
        if n > 0 {
            let mut params: GevdParams = Auto::<c64>::auto();
            // The blocked sweeps of faer 0.24 take minutes at n = 120 and lose five digits.
            params.schur.blocking_threshold = usize::MAX;
            let scratch = gen_hessenberg::generalized_hessenberg_scratch::<c64>(n, params.hessenberg)
                .or(qz_cplx::hessenberg_to_qz_scratch::<c64>(n, Par::Seq, params.schur));
            let mut memory = MemBuffer::new(scratch);
            let stack = MemStack::new(&mut memory);
            let (s, unit) = (s.as_mut(), unit.as_mut());
            let mut s = s;
            let mut unit = unit;
            gen_hessenberg::generalized_hessenberg(
                s.as_mut(),
                unit.as_mut(),
                Some(q.as_mut()),
                Some(z.as_mut()),
                Par::Seq,
                stack,
                params.hessenberg,
            );
            let (mut alpha, mut beta) = (Col::zeros(n), Col::zeros(n));
            qz_cplx::hessenberg_to_qz(
                s.as_mut(),
                unit.as_mut(),
                Some(q.as_mut()),
                Some(z.as_mut()),
                alpha.as_mut(),
                beta.as_mut(),
                ComputeEigenvectors::Yes,
                Par::Seq,
                params.schur,
                stack,
            );
        }
        // A = Q S Zᴴ and 1 = Q D Zᴴ with a diagonal D of phases, so A = Q (S D⁻¹) Qᴴ.
        let t = Mat::from_fn(n, n, |i, j| if i <= j { s[(i, j)] / unit[(j, j)] } else { c64::ZERO });
        if t.is_all_finite() { Ok(Self { q, t }) } else { Err(SolverError::Decomposition) }
    }
}

/// One mode of a [`Separable`] operator.
#[derive(Debug, Clone)]
pub enum Mode {
    /// Eigenvalues, of the part of the mode that is here.
    Diagonal(Vec<f64>),
    /// Schur form; the whole mode is here.
    Triangular(Triangular),
    /// The operator itself, of the only axis that a problem has: one factorisation instead of a decomposition.
    Full(Mat<f64>),
}

impl Mode {
    /// Extent of the mode here.
    pub fn extent(&self) -> usize {
        match self {
            Self::Diagonal(lambda) => lambda.len(),
            Self::Triangular(factor) => factor.t.nrows(),
            Self::Full(a) => a.nrows(),
        }
    }

    fn eigenvalues(&self) -> Vec<c64> {
        match self {
            Self::Diagonal(lambda) => lambda.iter().map(|l| c64::new(*l, 0.0)).collect(),
            Self::Triangular(factor) => (0..factor.t.nrows()).map(|i| factor.t[(i, i)]).collect(),
            Self::Full(_) => unreachable!("a full operator is alone"),
        }
    }
}

/// A Kronecker sum over the modes of a tensor, plus a constant.
#[derive(Debug, Clone)]
pub struct Separable {
    /// The modes, slowest first.
    pub modes: Vec<Mode>,
    /// The zero-order term.
    constant: f64,
    /// Factors of a full operator plus constant and shift; the shift.
    lu: Option<(PartialPivLu<f64>, f64)>,
}

impl Separable {
    /// The operator of these modes, slowest first, plus a constant.
    pub fn new(modes: Vec<Mode>, constant: f64) -> Self {
        Self { modes, constant, lu: None }
    }

    /// The zero-order term.
    pub fn constant(&self) -> f64 {
        self.constant
    }

    /// Sizes of the eigenvalues nearest to zero and farthest from it (for a full operator estimates, by inverse iteration
    /// and by its pivots); `(MAX, 0)` where no coefficient is here.
    pub fn extremes(&mut self) -> (f64, f64) {
        if let Some(lu) = self.factorised(self.constant) {
            let most = lu.U().diagonal().column_vector().iter().fold(0.0f64, |m, p| m.max(p.abs()));
            // Any start that no eigenvector is orthogonal to.
            let mut x = Mat::from_fn(lu.U().nrows(), 1, |i, _| 1.0 + (i as f64).sin());
            let mut growth = 0.0;
            for _ in 0..INVERSE_ITERATIONS {
                let norm = x.norm_l2();
                x *= faer::Scale(1.0 / norm);
                lu.solve_in_place(x.as_mut());
                growth = x.norm_l2();
            }
            return (if growth.is_finite() { 1.0 / growth } else { 0.0 }, most);
        }
        let mut sums = vec![c64::new(self.constant, 0.0)];
        let (mut least, mut most) = (f64::MAX, 0.0f64);
        let Some((last, first)) = self.modes.split_last() else { return (least, most) };
        for mode in first {
            let values = mode.eigenvalues();
            sums = sums.iter().flat_map(|s| values.iter().map(move |l| s + l)).collect();
        }
        let last = last.eigenvalues();
        for sum in sums {
            for l in &last {
                let size = (sum + l).norm();
                (least, most) = (least.min(size), most.max(size));
            }
        }
        (least, most)
    }

    /// The factors of a full operator plus `shift`, kept for the next call.
    fn factorised(&mut self, shift: f64) -> Option<&PartialPivLu<f64>> {
        let Some(Mode::Full(a)) = self.modes.first() else { return None };
        if self.lu.as_ref().is_none_or(|(_, s)| *s != shift) {
            let n = a.nrows();
            let shifted = Mat::from_fn(n, n, |i, j| a[(i, j)] + if i == j { shift } else { 0.0 });
            self.lu = Some((shifted.partial_piv_lu(), shift));
        }
        self.lu.as_ref().map(|(lu, _)| lu)
    }

    /// `y ← (A₁ ⊕ A₂ ⊕ … + constant + shift)⁻¹ y`. On the device where all modes have eigenvalues; a back substitution and the
    /// factors of a full operator stay on the CPU: each entry waits for those before it, and there is little of it.
    ///
    /// # Errors
    /// Where the device fails or the length is wrong.
    pub fn solve(&mut self, device: &Device, shift: f64, y: &mut Buffer<f64>) -> Result<(), KernelError> {
        let shift = shift + self.constant;
        if let Some(lu) = self.factorised(shift) {
            let n = y.len();
            if n > 0 {
                lu.solve_in_place(MatMut::from_column_major_slice_mut(y.host_mut(), n, 1));
            }
            return Ok(());
        }
        let lambdas: Vec<&[f64]> = self
            .modes
            .iter()
            .filter_map(|m| if let Mode::Diagonal(l) = m { Some(l.as_slice()) } else { None })
            .collect();
        if lambdas.len() == self.modes.len() {
            return divide_by_sum(device, &lambdas, shift, y);
        }
        let mut sums = vec![shift];
        for lambda in lambdas {
            sums = sums.iter().flat_map(|s| lambda.iter().map(move |l| s + l)).collect();
        }
        let factors: Vec<&Triangular> =
            self.modes.iter().filter_map(|m| if let Mode::Triangular(f) = m { Some(f) } else { None }).collect();
        let (rows, columns) = self.offsets();
        let values = y.host();
        let solved: Vec<Vec<f64>> = columns
            .par_chunks(COLUMNS)
            .zip(sums.par_chunks(COLUMNS))
            .map(|(columns, sums)| {
                let element = |row: usize| columns.iter().map(move |c| c64::new(values[row + c], 0.0));
                solve_columns(&factors, sums, rows.iter().copied().flat_map(element).collect())
            })
            .collect();
        let values = y.host_mut();
        for (columns, solved) in columns.chunks(COLUMNS).zip(&solved) {
            for (row, x) in rows.iter().zip(solved.chunks_exact(columns.len())) {
                columns.iter().zip(x).for_each(|(column, x)| values[row + column] = *x);
            }
        }
        Ok(())
    }

    /// Where an element lies: the offsets of the triangular modes' indices, and of the diagonal ones'.
    fn offsets(&self) -> (Vec<usize>, Vec<usize>) {
        let (mut rows, mut columns) = (vec![0], vec![0]);
        for (m, mode) in self.modes.iter().enumerate() {
            let stride: usize = self.modes[m + 1..].iter().map(Mode::extent).product();
            let offsets = if matches!(mode, Mode::Triangular(_)) { &mut rows } else { &mut columns };
            *offsets = offsets.iter().flat_map(|o| (0..mode.extent()).map(move |i| o + i * stride)).collect();
        }
        (rows, columns)
    }
}

/// The solve for some columns, one shift each: rotate into the Schur bases, substitute, rotate back.
fn solve_columns(factors: &[&Triangular], shifts: &[f64], mut x: Vec<c64>) -> Vec<f64> {
    for mode in 0..factors.len() {
        x = rotate(factors, mode, shifts.len(), &x, true);
    }
    let shifts: Vec<c64> = shifts.iter().map(|s| c64::new(*s, 0.0)).collect();
    substitute(factors, &shifts, &mut x);
    for mode in 0..factors.len() {
        x = rotate(factors, mode, shifts.len(), &x, false);
    }
    x.iter().map(|z| z.re).collect()
}

/// `Qᴴ ×ₘ x`, or `Q ×ₘ x`.
fn rotate(factors: &[&Triangular], mode: usize, columns: usize, x: &[c64], adjoint: bool) -> Vec<c64> {
    let inner = factors[mode + 1..].iter().map(|f| f.t.nrows()).product::<usize>() * columns;
    let q = factors[mode].q.as_ref();
    let n = q.nrows();
    let mut out = vec![c64::ZERO; x.len()];
    for (x, out) in x.chunks_exact(n * inner).zip(out.chunks_exact_mut(n * inner)) {
        let x = MatRef::from_row_major_slice(x, n, inner);
        let out = MatMut::from_row_major_slice_mut(out, n, inner);
        if adjoint {
            matmul(out, Accum::Replace, q.adjoint(), x, c64::ONE, Par::Seq);
        } else {
            matmul(out, Accum::Replace, q, x, c64::ONE, Par::Seq);
        }
    }
    out
}

/// Back substitution: `x ← (T₁ ⊕ T₂ ⊕ … + shift)⁻¹ x`, one shift for each column of the last extent.
fn substitute(factors: &[&Triangular], shifts: &[c64], x: &mut [c64]) {
    let Some((first, rest)) = factors.split_first() else {
        x.iter_mut().zip(shifts).for_each(|(x, s)| *x /= s);
        return;
    };
    let n = first.t.nrows();
    let inner = x.len() / n;
    for i in (0..n).rev() {
        let (head, solved) = x.split_at_mut((i + 1) * inner);
        let row = &mut head[i * inner..];
        for (j, solved) in (i + 1..n).zip(solved.chunks_exact(inner)) {
            let t = first.t[(i, j)];
            row.iter_mut().zip(solved).for_each(|(x, s)| *x -= t * s);
        }
        let shifts: Vec<c64> = shifts.iter().map(|s| s + first.t[(i, i)]).collect();
        substitute(rest, &shifts, row);
    }
}

#[cfg(test)]
mod tests {
    use convoke_kernels::Philox;

    use super::*;

    fn random(n: usize, stream: u64) -> Mat<f64> {
        let philox = Philox::new(3, stream);
        Mat::from_fn(n, n, |i, j| philox.normal((i * n + j) as u64))
    }

    #[test]
    fn schur_form_of_small_large_and_defective_matrices() {
        let mut jordan = Mat::<f64>::identity(30, 30);
        (0..29).for_each(|i| jordan[(i, i + 1)] = 1.0);
        for a in [random(1, 1), random(7, 2), random(120, 3), jordan] {
            let n = a.nrows();
            let Triangular { q, t } = Triangular::of(&a).unwrap();
            let complex = Mat::from_fn(n, n, |i, j| c64::new(a[(i, j)], 0.0));
            let error = (&q * &t * q.adjoint() - &complex).norm_l2() / a.norm_l2();
            assert!(error < 1e-13, "{n}: {error:e}");
            assert!((q.adjoint() * &q - Mat::<c64>::identity(n, n)).norm_l2() < 1e-12);
        }
    }

    /// `(A₁ ⊕ A₂ ⊕ Λ + c) x` by its definition, for two full modes and one diagonal.
    fn apply(a1: &Mat<f64>, a2: &Mat<f64>, lambda: &[f64], c: f64, x: &[f64]) -> Vec<f64> {
        let (n1, n2, n3) = (a1.nrows(), a2.nrows(), lambda.len());
        let at = |i: usize, j: usize, k: usize| x[(i * n2 + j) * n3 + k];
        let mut y = Vec::new();
        for (i, j, k) in (0..n1).flat_map(|i| (0..n2).flat_map(move |j| (0..n3).map(move |k| (i, j, k)))) {
            let first: f64 = (0..n1).map(|l| a1[(i, l)] * at(l, j, k)).sum();
            let second: f64 = (0..n2).map(|l| a2[(j, l)] * at(i, l, k)).sum();
            y.push(first + second + (lambda[k] + c) * at(i, j, k));
        }
        y
    }

    #[test]
    fn two_triangular_modes_and_a_diagonal_one() {
        let (a1, a2) = (random(9, 1) + Mat::<f64>::identity(9, 9) * faer::Scale(9.0), random(6, 2));
        let lambda: Vec<f64> = (0..41).map(|k| 8.0 + k as f64).collect();
        let x: Vec<f64> = (0..9 * 6 * 41).map(|i| (i as f64).sin()).collect();
        let y = apply(&a1, &a2, &lambda, 0.7, &x);
        let modes = vec![
            Mode::Triangular(Triangular::of(&a1).unwrap()),
            Mode::Triangular(Triangular::of(&a2).unwrap()),
            Mode::Diagonal(lambda),
        ];
        let mut separable = Separable::new(modes, 0.5);
        let mut y = Buffer::from_vec(&Device::cpu(), y).unwrap();
        separable.solve(&Device::cpu(), 0.2, &mut y).unwrap();
        for (x, y) in x.iter().zip(y.host()) {
            assert!((x - y).abs() < 1e-11, "{x} {y}");
        }
    }

    #[test]
    fn eigenvectors_only_where_they_are_good() {
        let n = 20;
        let second = Mat::from_fn(n, n, |i, j| match i.abs_diff(j) {
            0 => -2.0,
            1 => 1.0,
            _ => 0.0,
        });
        let AxisOperator::Diagonal(d) = AxisOperator::decompose(&second).unwrap() else { panic!("symmetric") };
        let mut lambda = d.lambda.clone();
        lambda.sort_by(f64::total_cmp);
        for (k, l) in lambda.iter().rev().enumerate() {
            let exact = -4.0 * ((k + 1) as f64 * std::f64::consts::PI / (2.0 * (n + 1) as f64)).sin().powi(2);
            assert!((l - exact).abs() < 1e-13);
        }
        let shift = Mat::from_fn(n, n, |i, j| f64::from(j == i + 1) - f64::from(i == j + 1));
        assert!(matches!(AxisOperator::decompose(&shift).unwrap(), AxisOperator::Triangular(_)));
    }
}
