//! Kronecker-structured Gaussian-process solvers for partial differential equations.

pub mod basis;
pub mod features;
pub mod separable;
pub mod solver_error;
