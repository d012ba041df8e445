//! `[problem]` of a neural-operator job: what the user types, and the checks of single values.

use std::path::PathBuf;

use convoke_cluster::BadValue;
use num_complex::Complex64;
use serde::{Deserialize, Serialize};

use super::fno::FnoShape;
use super::model::Shape;
use super::st_fno::StShape;
use crate::expression::Number;
use crate::flow::{Modes, Scheme, given};

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
    /// Axes of space; arrays are `[sample, space …]` or `[sample, channel, space …]`.
    pub dimension: usize,
    /// What the operator is given.
    pub input: FieldSpec,
    /// What it should give.
    pub target: FieldSpec,
    /// Samples that are used, from the first one; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub samples: Option<usize>,
    /// Which means and deviations are taken out; absent: those of channels, and none for `st-fno`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub normalise: Option<Normalise>,
}

/// An array, or some of its channels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FieldSpec {
    /// Its name in the file.
    pub array: String,
    /// First channel and the one after the last; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channels: Option<[usize; 2]>,
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
    /// `fno`: zeros behind the points of each axis, for fields that are not periodic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub padding: Option<Vec<usize>>,
    /// `fno`: how often GELU is applied between layers; absent: once. Twice is what neuraloperator does from 1.0 on without channel MLPs.
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
    /// Precision of numbers.
    #[serde(default)]
    pub precision: Precision,
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

/// Courses of the learning rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// From `rate` to 0 along half a cosine.
    #[default]
    Cosine,
    /// From a 25th of `rate` up in three tenths of the steps, then to a 250 000th, along cosines.
    OneCycle,
    /// Halved after each fifth of the steps.
    Step,
    /// `rate` all the time.
    Constant,
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

mod defaults {
    pub fn applications() -> usize {
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

fn within<N: PartialOrd + std::fmt::Display>(key: &str, value: N, low: N, high: N) -> Result<(), BadValue> {
    if value >= low && value <= high {
        return Ok(());
    }
    Err(BadValue::new(format!("problem.{key}"), value, format!("{low} to {high}")))
}

impl Spec {
    /// Which means and deviations are taken out.
    pub fn normalise(&self) -> Normalise {
        let st = self.model.as_ref().is_some_and(|model| model.kind == ModelKind::StFno);
        self.data.normalise.unwrap_or(if st { Normalise::None } else { Normalise::Channels })
    }

    /// Single values.
    ///
    /// # Errors
    /// [`BadValue`] that names the key.
    pub fn check(&self) -> Result<(), BadValue> {
        within("data.dimension", self.data.dimension, 1, 3)?;
        let (train, refine, task) = (self.task == Task::Train, self.task == Task::Refine, self.task.name());
        for (key, there, wanted) in [
            ("model", self.model.is_some(), train),
            ("training", self.training.is_some(), train),
            ("data.file", self.data.file.is_some(), train),
            ("evaluation", self.evaluation.is_some(), !train),
            ("equation", self.equation.is_some(), refine),
            ("refinement", self.refinement.is_some(), refine),
            ("test", !self.test.is_empty(), !train || !self.test.is_empty()),
        ] {
            match (there, wanted) {
                (false, true) => {
                    return Err(BadValue::wrong(
                        format!("problem.{key}"),
                        format!("missing; task = \"{task}\" needs it"),
                    ));
                }
                (true, false) => return Err(BadValue::foreign(format!("problem.{key}"), format!("task = \"{task}\""))),
                _ => {}
            }
        }
        if let Some(model) = &self.model {
            model.check(self.data.dimension)?;
        }
        if let Some(training) = &self.training {
            if training.patience.is_some() && self.test.is_empty() {
                return Err(BadValue::foreign("problem.training.patience", "no [[problem.test]]"));
            }
            training.check()?;
        }
        let (normalise, st) = (self.normalise(), self.model.as_ref().is_some_and(|m| m.kind == ModelKind::StFno));
        if st && normalise != Normalise::None {
            let message =
                "not with kind = \"st-fno\", which adds its changes to the newest snapshot and normalises inside";
            return Err(BadValue::wrong("problem.data.normalise", message));
        }
        if let (Some(equation), Some(refinement)) = (&self.equation, &self.refinement) {
            if self.test.len() != 1 {
                let expected = "one set of data for task = \"refine\"";
                return Err(BadValue::new("problem.test", format!("{} sets", self.test.len()), expected));
            }
            if self.data.dimension != 2 {
                return Err(BadValue::new("problem.data.dimension", self.data.dimension, "2 for task = \"refine\""));
            }
            equation.check()?;
            refinement.check()?;
        }
        if let Some(evaluation) = &self.evaluation {
            within("evaluation.applications", evaluation.applications, 1, 1_000_000)?;
        }
        for (key, field) in [("input", &self.data.input), ("target", &self.data.target)] {
            if let Some([first, end]) = field.channels
                && first >= end
            {
                let expected = "the first channel and the one after the last";
                return Err(BadValue::new(
                    format!("problem.data.{key}.channels"),
                    format!("[{first}, {end}]"),
                    expected,
                ));
            }
        }
        for (i, test) in self.test.iter().enumerate() {
            let bad = test.name.is_empty() || !test.name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            if bad || self.test[..i].iter().any(|other| other.name == test.name) {
                let expected = "letters, digits and _, a name that no other set has";
                return Err(BadValue::new("problem.test.name", &test.name, expected));
            }
        }
        Ok(())
    }
}

impl EquationSpec {
    fn check(&self) -> Result<(), BadValue> {
        let length = self.length()?;
        within("equation.length", length, 1e-12, 1e12)?;
        within("equation.viscosity", self.viscosity, 0.0, 1e12)?;
        within("equation.drag", self.drag, 0.0, 1e12)
    }

    fn length(&self) -> Result<f64, BadValue> {
        self.length.value().map_err(|e| BadValue::wrong("problem.equation.length", e))
    }

    /// The modes of so many points along each axis.
    ///
    /// # Errors
    /// [`BadValue`] for a length that is none.
    pub fn modes(&self, points: usize) -> Result<Modes, BadValue> {
        Ok(Modes::new(points, self.length()?))
    }

    /// Coefficients of the forcing; none where there is none.
    ///
    /// # Errors
    /// [`BadValue`] for an expression that cannot be read or is finer than the modes.
    pub fn coefficients(&self, modes: &Modes) -> Result<Vec<Complex64>, BadValue> {
        let key = "problem.equation.forcing";
        let grid = ["problem.refinement.points", "problem.equation.length"];
        self.forcing.as_ref().map_or(Ok(Vec::new()), |text| given::coefficients(key, text, modes, grid))
    }
}

impl RefinementSpec {
    fn check(&self) -> Result<(), BadValue> {
        within("refinement.every", self.every, 1e-12, 1e12)?;
        within("refinement.coarse", self.coarse, 1, 1_000_000)?;
        within("refinement.parareal", self.parareal, 0, 1000)?;
        within("refinement.gauss_newton", self.gauss_newton, 0, 1000)?;
        within("refinement.iterations", self.iterations, 1, 100_000)?;
        within("refinement.order", self.order, 1, 6)?;
        within("refinement.s", self.s, -8.0, 8.0)?;
        within("refinement.alpha", self.alpha, 1e-12, 1e12)?;
        within("refinement.steps", self.steps, 1, 100_000_000)?;
        self.points.map_or(Ok(()), |points| within("refinement.points", points, 4, 16384))?;
        self.direct.iter().try_for_each(|steps| within("refinement.direct", *steps, 1, 100_000_000))
    }

    /// Points of the solver for data on so many.
    pub fn points(&self, data: usize) -> usize {
        self.points.unwrap_or((3 * data).div_ceil(2))
    }
}

/// Channels between the projections of an `fno` unless others are asked for.
const PROJECTION: usize = 128;
/// Times inside of an `st-fno`, and growth of its encoding, unless others are asked for.
const LATENT: usize = 10;
const GROWTH: f64 = 0.02;

impl ModelSpec {
    fn check(&self, d: usize) -> Result<(), BadValue> {
        within("model.width", self.width, 1, 4096)?;
        within("model.layers", self.layers, 1, 64)?;
        let st = self.kind == ModelKind::StFno;
        for (key, there, fits) in [
            ("projection", self.projection.is_some(), !st),
            ("padding", self.padding.is_some(), !st),
            ("activations", self.activations.is_some(), !st),
            ("latent_steps", self.latent_steps.is_some(), st),
            ("growth", self.growth.is_some(), st),
        ] {
            if there && !fits {
                let kind = if st { "st-fno" } else { "fno" };
                return Err(BadValue::foreign(format!("problem.model.{key}"), format!("kind = \"{kind}\"")));
            }
        }
        if st && d != 2 {
            return Err(BadValue::new("problem.data.dimension", d, "2 for kind = \"st-fno\""));
        }
        if st && self.width < 3 {
            return Err(BadValue::new("problem.model.width", self.width, "at least 3 for kind = \"st-fno\""));
        }
        let axes = if st { 3 } else { d };
        for (key, list) in [("modes", Some(&self.modes)), ("padding", self.padding.as_ref())] {
            let Some(list) = list.filter(|list| list.len() != axes) else { continue };
            let what = if st { "x, y and t" } else { "each axis of space" };
            let expected = format!("{axes} numbers, one for {what}");
            return Err(BadValue::new(format!("problem.model.{key}"), format!("{list:?}"), expected));
        }
        self.modes.iter().try_for_each(|m| within("model.modes", *m, 1, 8192))?;
        self.padding.iter().flatten().try_for_each(|p| within("model.padding", *p, 0, 8192))?;
        self.activations.map_or(Ok(()), |n| within("model.activations", n, 1, 8))?;
        self.projection.map_or(Ok(()), |p| within("model.projection", p, 1, 65536))?;
        self.latent_steps.map_or(Ok(()), |l| within("model.latent_steps", l, 1, 4096))?;
        self.growth.map_or(Ok(()), |g| within("model.growth", g, -1e2, 1e2))
    }

    /// The operator's size for so many channels.
    ///
    /// # Errors
    /// [`BadValue`] for more times inside than the input has.
    pub fn shape(&self, [input, output]: [usize; 2], points: &[usize]) -> Result<Shape, BadValue> {
        let (width, layers, modes) = (self.width, self.layers, self.modes.clone());
        if self.kind == ModelKind::Fno {
            let padding = self.padding.clone().unwrap_or_else(|| vec![0; points.len()]);
            let projection = self.projection.unwrap_or(PROJECTION);
            let activations = self.activations.unwrap_or(1);
            return Ok(Shape::Fno(FnoShape { input, output, width, layers, modes, projection, padding, activations }));
        }
        let latent = self.latent_steps.unwrap_or(LATENT.min(input));
        if latent > input {
            let expected = format!("at most the {input} snapshots of the input");
            return Err(BadValue::new("problem.model.latent_steps", latent, expected));
        }
        let growth = self.growth.unwrap_or(GROWTH);
        Ok(Shape::StFno(StShape { input, output, width, layers, modes, latent, growth }))
    }
}

impl TrainingSpec {
    fn check(&self) -> Result<(), BadValue> {
        within("training.epochs", self.epochs, u64::from(self.start.is_none()), 1_000_000)?;
        within("training.batch", self.batch, 1, 1_000_000)?;
        within("training.rate", self.rate, 1e-12, 1e3)?;
        within("training.weight_decay", self.weight_decay, 0.0, 1.0)?;
        within("training.p", self.p, 1.0, 16.0)?;
        within("training.test_every", self.test_every, 1, u64::MAX)?;
        if let Some(SobolevSpec { s, alpha }) = self.sobolev {
            within("training.sobolev.s", s, -8.0, 8.0)?;
            within("training.sobolev.alpha", alpha, 1e-12, 1e12)?;
        }
        if let Some(order) = self.torch_cfd {
            within("training.torch_cfd", order, -1, 2)?;
            if self.sobolev.is_some() {
                return Err(BadValue::foreign("problem.training.sobolev", "torch_cfd"));
            }
        }
        self.average.map_or(Ok(()), |average| within("training.average", average, 0.0, 1.0 - 1e-9))?;
        self.patience.map_or(Ok(()), |patience| within("training.patience", patience, 1, u64::MAX))?;
        self.clip.map_or(Ok(()), |clip| within("training.clip", clip, 1e-12, 1e12))
    }
}
