//! `[problem]` of a dpp job: what the user types, and the checks of single values.

pub mod design;
pub mod experiment;
pub mod fit;
pub mod pool;
pub mod space;
pub mod variable;

use convoke_cluster::BadValue;
use serde::{Deserialize, Serialize};

pub use design::DesignSpec;
pub use experiment::ExperimentSpec;
pub use fit::FitSpec;
pub use pool::PoolSpec;
pub use space::SpaceSpec;

use experiment::TargetKind;
use space::{FamilyKind, IndexKind};

/// `[problem]`: a space of functions, and a design for it, an experiment with designs, or a fit to values at its points.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// What to do.
    pub task: Task,
    /// The space of functions; a fit without it takes that of its last design.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub space: Option<SpaceSpec>,
    /// Atoms with features, instead of a space (task `design`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<PoolSpec>,
    /// The design of task `design`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub design: Option<DesignSpec>,
    /// The experiment of task `experiment`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub experiment: Option<ExperimentSpec>,
    /// The fit of task `fit`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fit: Option<FitSpec>,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    /// Draw designs and write their points.
    Design,
    /// Draw many designs by several laws and compare the errors of fits.
    Experiment,
    /// Fit functions of the space to values at the points of a design.
    Fit,
}

/// `text` as job files write it.
fn word(value: impl Serialize) -> String {
    serde_json::to_string(&value).unwrap_or_default()
}

fn within(key: &str, value: f64, low: f64, high: f64) -> Result<(), BadValue> {
    if value >= low && value <= high { Ok(()) } else { Err(BadValue::new(key, value, format!("{low} to {high}"))) }
}

/// Keys that are there and do not belong to their owner.
fn refuse_foreign(table: &str, owner: &str, keys: &[(&str, bool)]) -> Result<(), BadValue> {
    match keys.iter().find(|(_, foreign)| *foreign) {
        Some((key, _)) => Err(BadValue::foreign(format!("problem.{table}.{key}"), owner)),
        None => Ok(()),
    }
}

impl Spec {
    /// Checks that the tables fit the task, and the function the space.
    ///
    /// # Errors
    /// The first bad value, with its key.
    pub fn check(&self) -> Result<(), BadValue> {
        let tables = [
            ("design", Task::Design, self.design.is_some()),
            ("experiment", Task::Experiment, self.experiment.is_some()),
            ("fit", Task::Fit, self.fit.is_some()),
        ];
        if let Some((table, ..)) = tables.iter().find(|(_, task, there)| *task == self.task && !there) {
            return Err(BadValue::wrong("problem.task", format!("the table [problem.{table}] is missing")));
        }
        if let Some((table, ..)) = tables.iter().find(|(_, task, there)| *task != self.task && *there) {
            return Err(BadValue::foreign(format!("problem.{table}"), format!("task = {}", word(self.task))));
        }
        if self.pool.is_some() && self.task != Task::Design {
            return Err(BadValue::foreign("problem.pool", format!("task = {}", word(self.task))));
        }
        if self.pool.is_some() && self.space.is_some() {
            let help = "the features of the pool span the space";
            return Err(BadValue::wrong("problem.space", "there is a [problem.pool] as well").help(help));
        }
        if self.pool.is_some() && self.design.as_ref().is_some_and(|d| d.after.is_some()) {
            return Err(BadValue::foreign("problem.design.after", "a design for a pool"));
        }
        let Some(space) = &self.space else {
            let missing = BadValue::wrong("problem.task", "the table [problem.space] is missing");
            return if self.task == Task::Fit || self.pool.is_some() { Ok(()) } else { Err(missing) };
        };
        let Some(experiment) = &self.experiment else { return Ok(()) };
        let suits = match experiment.target {
            TargetKind::Runge | TargetKind::Kink => (
                space.dimension == 1 && space.families == [FamilyKind::Legendre],
                "families = [\"legendre\"] and dimension = 1",
            ),
            TargetKind::Bell => (
                space.dimension == 1 && space.families == [FamilyKind::Hermite],
                "families = [\"hermite\"] and dimension = 1",
            ),
            TargetKind::Sobolev => (
                space.families.iter().all(|f| matches!(f, FamilyKind::Fourier | FamilyKind::ComplexFourier)),
                "families = [\"fourier\"] or [\"complex-fourier\"]",
            ),
            TargetKind::RandomPolynomial => (space.index_set == IndexKind::TotalDegree, "index_set = \"total-degree\""),
        };
        match suits {
            (true, _) => Ok(()),
            (false, needs) => {
                let message = format!("{} needs a space with {needs}", word(experiment.target));
                Err(BadValue::wrong("problem.experiment.target", message))
            }
        }
    }
}
