//! Better trajectories of a flow from those of an operator.

pub mod correct;
pub mod equation;
pub mod study;
