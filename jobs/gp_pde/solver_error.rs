//! What the mathematics of a problem can refuse.

/// A problem that cannot be solved as it stands.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SolverError {
    /// Conditions of one axis repeat or contradict each other.
    #[error("two conditions of an axis say the same of the solution")]
    DependentConditions,
    /// A matrix decomposition did not converge.
    #[error("a matrix decomposition of an axis did not converge")]
    Decomposition,
    /// An eigenvalue of the operator is zero to rounding.
    #[error(
        "the operator is singular: its smallest eigenvalue is {smallest:.2e}, {ratio:.1e} of the largest; a constant or a \
         resonant mode can be added to any solution"
    )]
    Singular {
        /// The eigenvalue nearest to zero.
        smallest: f64,
        /// Its size relative to the largest.
        ratio: f64,
    },
    /// Newton's method found no smaller residual.
    #[error(
        "Newton's method stopped at a residual of {residual:.2e} of the right-hand side after {iterations} iterations, also with \
         nonlinear terms taken in parts\n  help: perhaps there is no solution, or more points are needed; the last iterate is in \
         last.h5 of the run directory"
    )]
    NoConvergence {
        /// Residual norm over that of the right-hand side.
        residual: f64,
        /// Iterations done.
        iterations: u64,
    },
    /// Gauss-Newton did not come to the maximum of a posterior.
    #[error(
        "the search for the posterior's maximum stopped after {steps} steps, the last of {length:.2e} prior deviations\n  \
         help: raise problem.solver.newton or problem.posterior.equation_deviation, or guess the unknowns better; the last \
         iterate is in last.h5 of the run directory"
    )]
    NoMaximum {
        /// Steps done.
        steps: u64,
        /// Length of the last.
        length: f64,
    },
    /// Conjugate gradients did not come to the mean of a posterior, or to a draw.
    #[error(
        "the posterior was not found in {iterations} iterations: a gradient of {left:.1e} posterior deviations an unknown is \
         left\n  help: raise problem.posterior.equation_deviation (the smaller it is, the more iterations), take nodes = \
         \"uniform\", or have fewer points; the last iterate is in last.h5 of the run directory"
    )]
    NoPosterior {
        /// Iterations done.
        iterations: usize,
        /// The preconditioned gradient, root mean square over the unknowns.
        left: f64,
    },
    /// Nothing says how exactly the equation holds.
    #[error(
        "the equation and its conditions are all zero, so nothing says how exactly it holds\n  help: give \
         problem.posterior.equation_deviation"
    )]
    NoScale,
    /// A value that is not finite came up.
    #[error("{what} is not finite at some point of the domain")]
    NotFinite {
        /// What was computed.
        what: String,
    },
}
