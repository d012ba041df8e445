//! Volumes from linear measurements y = A x + noise that do not tell them alone: regularised solvers and samplers, on slabs of slices.
//!
//! A workload brings an [`Operator`]; what is known beforehand (total variation, a denoiser) and how the two are brought together lies here.

pub mod place;

use convoke_cluster::{Fields, Result};
use convoke_kernels::Buffer;

use place::Place;

/// A linear operator A from volumes `[slice, y, x]`, of which [`Place::slices`] are here, to measurements, of which some are here.
///
/// Measurements are real numbers (complex ones are pairs) in the operator's own order; a value that several ranks hold counts once in
/// [`Operator::dot`]. All functions but the lengths are collective over every rank of the job.
pub trait Operator {
    /// Where the volume lies.
    fn place(&self) -> &Place;

    /// Measured values that this rank holds.
    fn measured_len(&self) -> usize;

    /// q = A v.
    ///
    /// # Errors
    /// Of kernels and of the exchange.
    fn forward(&mut self, v: &mut Buffer<f32>, q: &mut Buffer<f32>) -> Result<()>;

    /// v = Aᵀ q, the exact adjoint. `q` may be used as room for work.
    ///
    /// # Errors
    /// Of kernels and of the exchange.
    fn back(&mut self, q: &mut Buffer<f32>, v: &mut Buffer<f32>) -> Result<()>;

    /// Σ a b of all measured values, each once, in f64.
    ///
    /// # Errors
    /// Of the exchange.
    fn dot(&self, a: &[f32], b: &[f32]) -> Result<f64>;

    /// Keeps measured values, such as residuals, in a checkpoint.
    fn keep<'a>(&self, name: &str, q: &'a mut Buffer<f32>, fields: &mut Fields<'a>);

    /// Fills in the values of `q` that were not in the checkpoint because other ranks own them.
    ///
    /// # Errors
    /// Of the exchange.
    fn restored(&self, _q: &mut Buffer<f32>) -> Result<()> {
        Ok(())
    }
}

/// A reconstruction under way: what a solver holds between its steps.
pub trait Solver {
    /// One iteration, or one level of noise. Collective.
    ///
    /// # Errors
    /// Of the operator.
    fn step(&mut self, operator: &mut dyn Operator, number: u64) -> Result<Report>;

    /// The volume as it is now, this rank's slices.
    fn image(&mut self) -> &mut Buffer<f32>;

    /// Everything that a resumed run needs; slices of `operator.place()`, owned by the ranks for which `leader` is true.
    fn fields<'a>(&'a mut self, operator: &dyn Operator, leader: bool, fields: &mut Fields<'a>);
}

/// What a step reports.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Report {
    /// No further step is wanted.
    pub done: bool,
    /// Names and values for the log.
    pub metrics: Vec<(&'static str, f64)>,
}
