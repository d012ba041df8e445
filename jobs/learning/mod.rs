//! What workloads that learn have in common: two precisions, named parameters, the optimiser.

pub mod optimiser;
pub mod parameters;
pub mod real;
