//! What workloads that learn have in common: two precisions, named parameters and their files, products, the optimiser.

pub mod file;
pub mod matrix;
pub mod optimiser;
pub mod parameters;
pub mod real;

use convoke_cluster::{Ctx, Fields, Progress, Result, Results};
use serde::{Deserialize, Serialize};

/// What the frame sees of a training, in either precision.
pub trait Learn: std::fmt::Debug {
    /// One batch. Collective.
    fn step(&mut self, ctx: &Ctx) -> Result<Progress>;
    /// The state.
    fn fields<'a>(&'a mut self, fields: &mut Fields<'a>);
    /// What was learnt, and what it makes of test data. Collective.
    fn finish(&mut self, ctx: &Ctx, out: &mut Results) -> Result<()>;
}

/// Precisions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// Four bytes.
    #[default]
    Single,
    /// Eight.
    Double,
}
