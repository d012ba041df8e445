//! Everything that a person submits, and the program that does it.

pub mod cli;
pub mod denoiser;
pub mod dpp;
pub mod expression;
pub mod flow;
pub mod gp_pde;
pub mod inverse;
pub mod learning;
pub mod mri;
pub mod neural_operator;
pub mod pde_data;
pub mod prior;
pub mod program;
pub mod registry;
pub mod tomography;
