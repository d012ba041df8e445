//! One axis ready for solving: its basis, its operator decomposed, and everything evaluated at points.

use faer::Mat;

use super::basis::{AxisAt, Basis, Functional};
use super::features::Prior;
use super::separable::{AxisOperator, Diagonal, Mode};
use super::solver_error::SolverError;

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

/// The fixed part of an axis: what the job file says of it.
#[derive(Debug, Clone)]
pub struct Axis {
    /// Collocation points, measured from the start of the axis.
    pub nodes: Vec<f64>,
    /// Length.
    pub length: f64,
    /// Whether functions repeat after `length`.
    pub periodic: bool,
    /// Conditions at its ends.
    pub conditions: Vec<Functional>,
    /// The separable part of the equation along this axis: order, and the coefficient at every node.
    pub terms: Vec<(usize, Vec<f64>)>,
}

impl Axis {
    /// Whether eigenvectors are worth trying: conditions at both ends, and the highest order even.
    fn is_elliptic(&self) -> bool {
        let ends = [0.0, self.length];
        let both = ends.iter().all(|end| self.conditions.iter().any(|c| c.at == *end));
        let highest = self.terms.iter().map(|t| t.0).max().unwrap_or(0);
        (both || self.periodic) && highest % 2 == 0
    }

    /// Whether nodes lie closer together at the ends.
    fn is_clustered(&self) -> bool {
        let n = self.nodes.len();
        n > 2 && (self.nodes[1] - self.nodes[0]) < 0.5 * (self.nodes[n / 2 + 1] - self.nodes[n / 2])
    }

    /// The sign that eigenvalues of the highest even order have, if its coefficient has one sign.
    fn sign(&self) -> Option<f64> {
        let (order, c) = self.terms.iter().max_by_key(|t| t.0).filter(|t| t.0 > 0 && t.0 % 2 == 0)?;
        let sign = if order % 4 == 0 { 1.0 } else { -1.0 };
        let first = c.first()?.signum();
        c.iter().all(|c| c.signum() == first).then_some(sign * first)
    }
}

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
        let mut basis = Basis::new(&axis.nodes, prior.clone(), &axis.conditions, TOLERANCE)?;
        let a = operator(axis, &basis);
        if axis.is_elliptic() {
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
                let Some(vectors) = Diagonal::of(&a.submatrix(0, 0, rank, rank).to_owned())? else { continue };
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
        let mut basis = Basis::new(&axis.nodes, prior.clone(), &axis.conditions, TOLERANCE)?;
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
    pub fn analysis(&self) -> Mat<f64> {
        let u = self.basis.conditioned.values.transpose();
        self.vectors.as_ref().map_or_else(|| u.to_owned(), |d| &d.v_inverse * u)
    }

    /// Everything about points of this axis, measured from its start, up to derivatives of `max_order`.
    pub fn at(&self, points: &[f64], max_order: usize) -> AxisAt {
        self.rotated(self.basis.at(points, max_order))
    }

    /// As [`AxisFactor::at`], for some of the nodes, where values need no interpolation.
    pub fn at_nodes(&self, axis: &Axis, range: std::ops::Range<usize>, max_order: usize) -> AxisAt {
        self.rotated(self.basis.at_nodes(&axis.nodes, range, max_order))
    }

    /// From basis functions to eigenvectors, where there are some.
    fn rotated(&self, mut at: AxisAt) -> AxisAt {
        if let Some(vectors) = &self.vectors {
            at.functions.iter_mut().for_each(|f| *f = &*f * &vectors.v);
        }
        at
    }
}

/// `Uᵀ Σ c(x) ∂ᵏ` on the basis.
fn operator(axis: &Axis, basis: &Basis) -> Mat<f64> {
    let rank = basis.conditioned.rank();
    let mut a = Mat::zeros(rank, rank);
    for (order, c) in &axis.terms {
        let mut image = basis.prior.features(&axis.nodes, *order) * &basis.conditioned.coefficients;
        for (i, c) in c.iter().enumerate() {
            image.row_mut(i).iter_mut().for_each(|v| *v *= c);
        }
        a += basis.conditioned.values.transpose() * image;
    }
    a
}
