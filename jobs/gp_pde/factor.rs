//! One axis ready for solving: its basis, its operator decomposed, and everything evaluated at points.

use std::ops::Range;

use faer::Mat;

use super::axis::Axis;
use super::basis::{AxisAt, Basis};
use super::features::Prior;
use super::separable::{AxisOperator, Diagonal, Mode};
use super::solver_error::SolverError;
use super::symmetry::{Points, parities};

/// Smallest relative deviation of a basis function that is kept, to begin with.
const TOLERANCE: f64 = 1e-12;
/// The largest that is tried before the Schur form is taken instead of eigenvectors.
const MAX_TOLERANCE: f64 = 1e-6;
/// Condition number of eigenvectors that is good enough to stop looking.
const GOOD_CONDITION: f64 = 1e4;
/// Condition number of eigenvectors above which the Schur form is better.
const MAX_CONDITION: f64 = 1e13;
/// Basis functions per clustered node, at most: a fuller basis has eigenvalues that belong to no function.
const MAX_FILL: f64 = 0.85;
/// Eigenvalues on the wrong side of zero, relative to the largest, that are rounding.
const SPURIOUS: f64 = 1e-6;

/// An axis with its prior: all that a solve needs of it.
#[derive(Debug, Clone)]
pub struct AxisFactor {
    /// Basis and lifts.
    pub basis: Basis,
    /// The operator's eigenvalues or Schur form.
    pub mode: Mode,
    /// From the solver's coefficients to basis functions: eigenvectors, or nothing for a Schur form.
    pub(super) vectors: Option<Diagonal>,
}

impl AxisFactor {
    /// The factor of `axis` under `prior`. The tolerance rises until no eigenvalue has the wrong sign and eigenvectors
    /// are well conditioned.
    ///
    /// # Errors
    /// Where conditions depend on each other or a decomposition does not converge.
    pub fn new(axis: &Axis, prior: &Prior) -> Result<Self, SolverError> {
        let mut basis = Basis::new(axis, prior.clone(), TOLERANCE)?;
        let a = operator(axis, &basis);
        if axis.is_elliptic() {
            let parities = basis.conditioned.parities().filter(|_| axis.keeps_parity());
            let mut best: Option<(Diagonal, bool)> = None;
            let (mut tolerance, mut tried) = (TOLERANCE, 0);
            let most = if axis.is_clustered() { (MAX_FILL * axis.nodes.len() as f64) as usize } else { usize::MAX };
            while tolerance <= MAX_TOLERANCE {
                let rank = basis.conditioned.rank_at(tolerance).min(most);
                tolerance *= 10.0;
                if rank == tried {
                    continue;
                }
                tried = rank;
                // Functions are in falling order, so a smaller basis has a leading block as its operator.
                let block = a.submatrix(0, 0, rank, rank);
                let apart: Vec<Vec<usize>> = match &parities {
                    Some(odd) => [false, true].map(|p| (0..rank).filter(|j| odd[*j] == p).collect()).into(),
                    None => vec![(0..rank).collect()],
                };
                let Some(vectors) = Diagonal::of_blocks(block, &apart)? else { continue };
                let largest = vectors.lambda.iter().fold(0.0f64, |m, l| m.max(l.abs()));
                let sign = axis.sign();
                let right = vectors.lambda.iter().all(|l| sign.is_none_or(|s| l * s > -SPURIOUS * largest));
                // Right signs before good vectors; a Schur form would have the same wrong eigenvalues.
                let better = |(b, b_right): &(Diagonal, bool)| {
                    (right && !b_right) || (right == *b_right && vectors.condition < b.condition)
                };
                if best.as_ref().is_none_or(better) {
                    best = Some((vectors, right));
                }
                if best.as_ref().is_some_and(|(b, right)| *right && b.condition <= GOOD_CONDITION) {
                    break;
                }
            }
            if let Some((vectors, _)) = best.filter(|(b, _)| b.condition <= MAX_CONDITION) {
                basis.conditioned.truncate(vectors.lambda.len());
                let mode = Mode::Diagonal(vectors.lambda.clone());
                return Ok(Self { basis, mode, vectors: Some(vectors) });
            }
        }
        let mode = match AxisOperator::decompose(&a)? {
            AxisOperator::Diagonal(vectors) => {
                let mode = Mode::Diagonal(vectors.lambda.clone());
                return Ok(Self { basis, mode, vectors: Some(vectors) });
            }
            AxisOperator::Triangular(factor) => Mode::Triangular(factor),
        };
        Ok(Self { basis, mode, vectors: None })
    }

    /// The factor of the only axis that a problem has: nothing has to be diagonal.
    ///
    /// # Errors
    /// As [`AxisFactor::new`].
    pub fn alone(axis: &Axis, prior: &Prior) -> Result<Self, SolverError> {
        let mut basis = Basis::new(axis, prior.clone(), TOLERANCE)?;
        if axis.is_clustered() {
            let most = (MAX_FILL * axis.nodes.len() as f64) as usize;
            basis.conditioned.truncate(basis.conditioned.rank().min(most));
        }
        let mode = Mode::Full(operator(axis, &basis));
        Ok(Self { basis, mode, vectors: None })
    }

    /// Number of coefficients.
    pub fn rank(&self) -> usize {
        self.basis.conditioned.rank()
    }

    /// From values at the nodes to the solver's coefficients: `rank × nodes`.
    pub fn analysis(&self, axis: &Axis) -> Mat<f64> {
        let (u, points) = (&self.basis.conditioned.values, Points::new(&axis.nodes, self.basis.middle));
        let Some(vectors) = &self.vectors else { return u.transpose().to_owned() };
        let odd = self.basis.conditioned.parities().and_then(|odd| parities(&vectors.v, |i| odd[i]));
        match odd {
            Some(odd) => {
                let first = u.subrows(0, points.first.len()) * vectors.v_inverse.transpose();
                points.mirrored(first, |j| odd[j]).transpose().to_owned()
            }
            None => &vectors.v_inverse * u.transpose(),
        }
    }

    /// Everything about points of this axis, measured from its start, up to derivatives of `max_order`.
    pub fn at(&self, points: &[f64], max_order: usize) -> AxisAt {
        self.basis.combined_at(points, None, max_order, self.vectors.as_ref().map(|d| &d.v))
    }

    /// As [`AxisFactor::at`], for some of the nodes, where values need no interpolation.
    pub fn at_nodes(&self, axis: &Axis, range: Range<usize>, max_order: usize) -> AxisAt {
        let vectors = self.vectors.as_ref().map(|d| &d.v);
        self.basis.combined_at(&axis.nodes[range.clone()], Some(range), max_order, vectors)
    }
}

/// `Uᵀ Σ c(x) ∂ᵏ` on the basis.
fn operator(axis: &Axis, basis: &Basis) -> Mat<f64> {
    let rank = basis.conditioned.rank();
    let mut a = Mat::zeros(rank, rank);
    for (order, c) in &axis.terms {
        let mut image = basis.derivative(&axis.nodes, *order);
        for (i, c) in c.iter().enumerate() {
            image.row_mut(i).iter_mut().for_each(|v| *v *= c);
        }
        a += basis.conditioned.values.transpose() * image;
    }
    a
}
