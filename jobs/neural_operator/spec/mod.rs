//! `[problem]` of a neural-operator job: what the user types, and the checks of single values.

mod check;

use crate::learning::Precision;
use crate::learning::optimiser::Schedule;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::channel_mlp::Skip;
use crate::expression::Number;
use crate::flow::Scheme;

/// `[problem]`: an operator, what it learns from, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// What to do.
    pub task: Task,
    /// Training data; for task `evaluate` which arrays test data are made of.
    pub data: DataSpec,
    /// Data that nothing is learnt from; grids may differ.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<TestSpec>,
    /// The operator of task `train`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelSpec>,
    /// How it learns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training: Option<TrainingSpec>,
    /// What task `evaluate` does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evaluation: Option<EvaluationSpec>,
    /// The equation of the data, for task `refine`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub equation: Option<EquationSpec>,
    /// How trajectories are made better.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refinement: Option<RefinementSpec>,
}

/// What is evaluated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvaluationSpec {
    /// The run that trained the operator, or its result.
    pub operator: PathBuf,
    /// How often it is applied, to its own outputs from the second time on: targets have as many times its output channels.
    #[serde(default = "defaults::applications")]
    pub applications: usize,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    /// Fit an operator to pairs of functions.
    Train,
    /// Apply a trained operator to test data.
    Evaluate,
    /// Correct what a trained operator makes of test data with the equation, beside the equation's solver.
    Refine,
}

impl Task {
    fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Evaluate => "evaluate",
            Self::Refine => "refine",
        }
    }
}

/// A two-dimensional incompressible flow on a periodic square; fields are its vorticity.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EquationSpec {
    /// Side of the square.
    pub length: Number,
    /// Kinematic viscosity ν.
    pub viscosity: f64,
    /// Drag μ of the term −μ w.
    #[serde(default)]
    pub drag: f64,
    /// Forcing of the vorticity, an expression in x and y.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forcing: Option<String>,
}

/// Corrections, and what they are compared with. Snapshots are the channels of input and target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RefinementSpec {
    /// Time between snapshots.
    pub every: f64,
    /// Steps of the solver between snapshots.
    pub steps: u64,
    /// How it takes them.
    #[serde(default)]
    pub scheme: Scheme,
    /// Its points along each axis; absent: half as many again as the data, so that it holds all of their modes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub points: Option<usize>,
    /// Steps of the coarse solver (Heun) between snapshots.
    #[serde(default = "defaults::coarse")]
    pub coarse: u64,
    /// Iterations of parareal.
    #[serde(default = "defaults::parareal")]
    pub parareal: usize,
    /// Rounds of Gauss and Newton's method on the residual.
    #[serde(default = "defaults::gauss_newton")]
    pub gauss_newton: usize,
    /// Iterations of the linear solver in each round.
    #[serde(default = "defaults::iterations")]
    pub iterations: usize,
    /// Order of the differences that take the time derivative from a trajectory.
    #[serde(default = "defaults::order")]
    pub order: usize,
    /// s of the residual's norm Σ (α + |κ|²)^s |R̂|².
    #[serde(default = "defaults::dual")]
    pub s: f64,
    /// α of it.
    #[serde(default = "defaults::alpha")]
    pub alpha: f64,
    /// The solver alone, with so many steps between snapshots, for comparison.
    #[serde(default)]
    pub direct: Vec<u64>,
}

/// Pairs of functions on a grid.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataSpec {
    /// An HDF5 file, or the directory of a run (task `train`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// Axes of space; arrays are `[sample, space …]`, `[sample, snapshot, space …]` or `[sample, snapshot, space …, component]`, and a channel is
    /// a component of an array at a snapshot, in the order snapshot, array, component.
    pub dimension: usize,
    /// What the operator is given.
    pub input: FieldSpec,
    /// What it should give.
    pub target: FieldSpec,
    /// Samples are windows of snapshots instead, also of test data; input and target name the same arrays, without `channels`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub windows: Option<WindowSpec>,
    /// Entries of the arrays' first axis that are used, from the first one; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub samples: Option<usize>,
    /// Which means and deviations are taken out; absent: those of channels, and none for `st-fno`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub normalise: Option<Normalise>,
}

/// Windows of consecutive snapshots: every trajectory gives as many samples as fit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowSpec {
    /// Snapshots of the input.
    pub input: usize,
    /// Those of the target, behind them.
    pub target: usize,
    /// Snapshots from the start of a window to that of the next.
    #[serde(default = "defaults::windows")]
    pub every: usize,
}

impl WindowSpec {
    /// Windows of so many snapshots.
    pub fn count(&self, snapshots: usize) -> usize {
        (snapshots + self.every).saturating_sub(self.input + self.target) / self.every
    }
}

/// Arrays, or some of their snapshots.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FieldSpec {
    /// The name in the file, or several.
    pub array: Arrays,
    /// First snapshot and the one after the last; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channels: Option<[usize; 2]>,
}

/// Names of arrays.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Arrays {
    /// One.
    One(String),
    /// Several on the same grid.
    Several(Vec<String>),
}

impl Arrays {
    /// All of them.
    pub fn names(&self) -> &[String] {
        match self {
            Self::One(name) => std::slice::from_ref(name),
            Self::Several(names) => names,
        }
    }
}

impl std::fmt::Display for Arrays {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.names().join(", "))
    }
}

/// Test data: arrays as in training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TestSpec {
    /// Its name in results.
    pub name: String,
    /// An HDF5 file, or the directory of a run.
    pub file: PathBuf,
    /// Samples that are used; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub samples: Option<usize>,
    /// The first of them.
    #[serde(default)]
    pub first: usize,
}

/// Means and deviations of the training data, in what the operator sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Normalise {
    /// As they are.
    None,
    /// One mean and deviation for each channel: fits any grid.
    Channels,
    /// For each channel and point: for one grid.
    Points,
}

/// The operator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
    /// Which.
    pub kind: ModelKind,
    /// Channels inside.
    pub width: usize,
    /// Kept modes along each axis, on each side; `st-fno`: of x, y and t.
    pub modes: Vec<usize>,
    /// Fourier layers.
    #[serde(default = "defaults::layers")]
    pub layers: usize,
    /// `fno`: channels between the two projections; absent: 128.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub projection: Option<usize>,
    /// `fno`: channels between two maps of the lifting, with GELU; absent: the lifting is one map.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifting: Option<usize>,
    /// `fno`: a network behind each Fourier layer, as neuraloperator has it; absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel_mlp: Option<ChannelMlpSpec>,
    /// `fno`: zeros behind the points of each axis, for fields that are not periodic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub padding: Option<Vec<usize>>,
    /// `fno`: matrices of the modes as a Tucker product with these ranks, of input and output channels and of the modes of each axis.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tucker: Option<Vec<usize>>,
    /// `fno` without `channel_mlp`: how often GELU is applied between layers; absent: once. Twice is what neuraloperator does from 1.0 on
    /// without channel MLPs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activations: Option<usize>,
    /// Velocities: channels of the target are the components of one snapshot after another, and their divergence is taken out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub divergence_free: bool,
    /// `st-fno`: times inside; absent: 10, or as many as the input has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latent_steps: Option<usize>,
    /// `st-fno`: growth of the encoding of time; absent: 0.02.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub growth: Option<f64>,
}

/// `[problem.model.channel_mlp]`: M₁ σ(M₀ u + m₀) + m₁ + s(v) behind each Fourier layer, which makes u of v.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelMlpSpec {
    /// Channels between its maps, as a multiple of `width`.
    #[serde(default = "defaults::expansion")]
    pub expansion: f64,
    /// What is added of v: each channel times a number, or a matrix.
    #[serde(default)]
    pub skip: Skip,
}

/// Kinds of operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModelKind {
    /// Fourier neural operator.
    Fno,
    /// Spatiotemporal Fourier neural operator: channels are snapshots in time.
    StFno,
}

/// How it learns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingSpec {
    /// Passes over the training data; with `start` there may be none.
    pub epochs: u64,
    /// First parameters: a .safetensors file, or the run, or its result, that trained such an operator. Absent: random ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<PathBuf>,
    /// Samples of a step, on all ranks together.
    pub batch: usize,
    /// Largest learning rate.
    pub rate: f64,
    /// Its course.
    #[serde(default)]
    pub schedule: Schedule,
    /// Decoupled weight decay (AdamW).
    #[serde(default)]
    pub weight_decay: f64,
    /// Largest norm of a gradient; longer ones are shortened. Absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip: Option<f64>,
    /// The loss is the mean of ‖error‖_p/‖target‖_p.
    #[serde(default = "defaults::p")]
    pub p: f64,
    /// The loss is the mean of relative errors in H^s instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sobolev: Option<SobolevSpec>,
    /// The loss as torch-cfd has it: the norm order of its `SobolevLoss`, see [`super::norms::Norm::torch_cfd`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub torch_cfd: Option<i32>,
    /// What is kept are averages of the parameters over steps, each step's weighing 1 − this. Absent: the last parameters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub average: Option<f64>,
    /// Looks at the first test set without a smaller error after which training ends; what is kept is the best. Absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patience: Option<u64>,
    /// Epochs between two looks at the test data.
    #[serde(default = "defaults::every")]
    pub test_every: u64,
    /// What ranks share; absent: what sends fewer bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared: Option<Shared>,
    /// Precision of numbers.
    #[serde(default)]
    pub precision: Precision,
}

/// What ranks share beside the samples of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shared {
    /// Nothing: every rank has all parameters, and gradients are summed.
    Samples,
    /// The matrices of the modes and their moments: coefficients go to the ranks of their modes and back.
    Modes,
    /// The points of every sample, by rows of the first axis, and the matrices of the modes: for grids that are large, or more ranks than
    /// samples in a batch.
    Space,
}

/// The norm Σ (α + |2πk|²)^s |ŵ_k|².
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SobolevSpec {
    /// Order s, any real number.
    pub s: f64,
    /// α.
    #[serde(default = "defaults::alpha")]
    pub alpha: f64,
}

mod defaults {
    pub fn applications() -> usize {
        1
    }

    pub fn expansion() -> f64 {
        0.5
    }

    pub fn windows() -> usize {
        1
    }

    pub fn coarse() -> u64 {
        2
    }

    pub fn parareal() -> usize {
        3
    }

    pub fn gauss_newton() -> usize {
        2
    }

    pub fn iterations() -> usize {
        20
    }

    pub fn order() -> usize {
        4
    }

    pub fn dual() -> f64 {
        -1.0
    }

    pub fn layers() -> usize {
        4
    }

    pub fn p() -> f64 {
        2.0
    }

    pub fn alpha() -> f64 {
        1.0
    }

    pub fn every() -> u64 {
        1
    }
}
