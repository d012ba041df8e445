//! What the mathematics of a design can refuse.

use convoke_cluster::Error;
use convoke_cluster::comm::CommError;
use convoke_kernels::KernelError;

use super::NAME;
use super::space::SpaceError;

/// A design or a fit that cannot be had.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DesignError {
    /// The space cannot be built.
    #[error(transparent)]
    Space(#[from] SpaceError),
    /// Another rank is gone.
    #[error(transparent)]
    Comm(#[from] CommError),
    /// A device gave up.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The design was left and can be taken up.
    #[error("the design is not finished")]
    Unfinished,
    /// The stream of candidates gave too few points.
    #[error(
        "only {found} of {functions} points were accepted among {candidates} candidates: the basis is not orthonormal for \
         the measure that candidates come from"
    )]
    Exhausted {
        /// Points found.
        found: usize,
        /// Points wanted.
        functions: usize,
        /// Candidates looked at.
        candidates: u64,
    },
    /// No design was as stable as asked for.
    #[error(
        "none of {attempts} designs has a smallest eigenvalue of G of at least {bound}; the best has {best:.3e}\n  help: raise \
         problem.design.n or problem.design.delta, or take law = \"repeated\""
    )]
    NeverStable {
        /// Designs drawn.
        attempts: u64,
        /// 1 − δ.
        bound: f64,
        /// Largest smallest eigenvalue seen.
        best: f64,
    },
    /// Features that do not span the space.
    #[error("the features of the pool have rank {rank}, and {functions} functions need as many")]
    RankDeficient {
        /// Rank to rounding.
        rank: usize,
        /// Columns.
        functions: usize,
    },
    /// Points that leave coefficients without digits.
    #[error(
        "{points} points do not determine {functions} coefficients (condition number {condition:.1e})\n  help: add points (law = \
         \"greedy\" with `after`), or fit in a smaller space"
    )]
    Singular {
        /// Condition number of W^{1/2} Φ.
        condition: f64,
        /// Points with values.
        points: usize,
        /// Columns.
        functions: usize,
    },
    /// Singular values did not converge.
    #[error("the singular values of a design did not converge")]
    SingularValues,
}

impl From<DesignError> for Error {
    fn from(error: DesignError) -> Self {
        match error {
            DesignError::Comm(error) => error.into(),
            DesignError::Kernel(error) => error.into(),
            error => Self::workload(NAME, error),
        }
    }
}
