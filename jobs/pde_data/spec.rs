//! `[problem]` of a pde-data job: what the user types, and the checks of single values.

use convoke_cluster::BadValue;
use serde::{Deserialize, Serialize};

use crate::expression::Number;
use crate::flow::{Modes, Scheme};

/// Most points along an axis.
const MOST_POINTS: usize = 16384;
/// How far from a whole number of steps a time may lie.
const WHOLE: f64 = 1e-6;

/// `[problem]`: an equation, its samples, and when they are looked at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Which equation.
    pub equation: Equation,
    /// Solutions with initial values of their own; sample i is the same whatever their number.
    #[serde(default = "defaults::samples")]
    pub samples: usize,
    /// Samples that move on together: memory and checkpoints are for so many.
    #[serde(default = "defaults::batch")]
    pub batch: usize,
    /// The periodic square.
    pub grid: GridSpec,
    /// Steps and snapshots.
    pub time: TimeSpec,
    /// Constants of the flow.
    pub flow: FlowSpec,
    /// Where it begins.
    pub initial: InitialSpec,
    /// What is kept.
    #[serde(default)]
    pub output: OutputSpec,
}

/// Equations that can be solved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Equation {
    /// Vorticity of a two-dimensional incompressible flow.
    NavierStokes,
}

/// A periodic square.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GridSpec {
    /// Points along each axis; modes below a third of them are kept.
    pub points: usize,
    /// Side.
    pub length: Number,
}

/// Steps and snapshots.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimeSpec {
    /// Length of a step.
    pub step: f64,
    /// Time of the first snapshot: what is before it is not kept.
    #[serde(default)]
    pub start: f64,
    /// Time between snapshots.
    pub every: f64,
    /// Number of snapshots.
    pub snapshots: usize,
    /// How a step is taken.
    #[serde(default)]
    pub scheme: Scheme,
}

/// Constants of a flow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlowSpec {
    /// Kinematic viscosity ν.
    pub viscosity: f64,
    /// Drag μ of the term −μ w.
    #[serde(default)]
    pub drag: f64,
    /// Forcing of the vorticity, an expression in x and y.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forcing: Option<String>,
}

/// Initial vorticity.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InitialSpec {
    /// Of what kind.
    pub kind: InitialKind,
    /// `gaussian`: α of the covariance τ^(2α − 2) (−Δ + τ²)^(−α).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alpha: Option<f64>,
    /// `gaussian`: τ of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tau: Option<f64>,
    /// `mcwilliams`: wave number where the energy is largest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak: Option<f64>,
    /// `mcwilliams`: mean of ½|u|².
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub energy: Option<f64>,
    /// `expression`: in x and y.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vorticity: Option<String>,
}

/// Kinds of initial vorticity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InitialKind {
    /// A Gaussian random field (Z. Li et al., ICLR 2021).
    Gaussian,
    /// A random stream function with |ψ̂| ∝ 1/(κ (1 + (κ/peak)⁴)), scaled to an energy (J. C. McWilliams, J. Fluid Mech. 146, 1984).
    Mcwilliams,
    /// A given function, the same for all samples.
    Expression,
}

/// What is kept.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OutputSpec {
    /// Points along each axis, the solution cut to what they hold; absent: those of the grid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub points: Option<usize>,
}

mod defaults {
    pub fn samples() -> usize {
        1
    }

    pub fn batch() -> usize {
        64
    }
}

/// Whole numbers of steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticks {
    /// Before the first snapshot.
    pub start: u64,
    /// Between snapshots.
    pub every: u64,
}

impl Spec {
    /// Single values.
    ///
    /// # Errors
    /// [`BadValue`] that names the key.
    pub fn check(&self) -> Result<(), BadValue> {
        let within = |key: &str, value: usize, low: usize, high: usize| match (low..=high).contains(&value) {
            true => Ok(()),
            false => Err(BadValue::new(format!("problem.{key}"), value, format!("{low} to {high}"))),
        };
        within("samples", self.samples, 1, 100_000_000)?;
        within("batch", self.batch, 1, 1_000_000)?;
        within("grid.points", self.grid.points, 4, MOST_POINTS)?;
        within("time.snapshots", self.time.snapshots, 1, 1_000_000)?;
        within("output.points", self.points(), 4, MOST_POINTS)?;
        positive("grid.length", self.length()?)?;
        for (key, value) in [("flow.viscosity", self.flow.viscosity), ("flow.drag", self.flow.drag)] {
            if !(value >= 0.0 && value.is_finite()) {
                return Err(BadValue::new(format!("problem.{key}"), value, "0 or a positive number"));
            }
        }
        self.ticks()?;
        self.initial.check()
    }

    /// Side of the square.
    ///
    /// # Errors
    /// [`BadValue`] for an expression that is none.
    pub fn length(&self) -> Result<f64, BadValue> {
        self.grid.length.value().map_err(|e| BadValue::wrong("problem.grid.length", e))
    }

    /// The kept modes.
    ///
    /// # Errors
    /// As [`Spec::length`].
    pub fn modes(&self) -> Result<Modes, BadValue> {
        Ok(Modes::new(self.grid.points, self.length()?))
    }

    /// Points of the results along each axis.
    pub fn points(&self) -> usize {
        self.output.points.unwrap_or(self.grid.points)
    }

    /// Times in steps.
    ///
    /// # Errors
    /// [`BadValue`] for times that are no whole numbers of steps.
    pub fn ticks(&self) -> Result<Ticks, BadValue> {
        let time = &self.time;
        positive("time.step", time.step)?;
        positive("time.every", time.every)?;
        let whole = |key: &str, value: f64| {
            let steps = value / time.step;
            if !(0.0..=1e15).contains(&steps) || (steps - steps.round()).abs() > WHOLE * steps.max(1.0) {
                let expected = format!("a whole number of steps of {}", time.step);
                return Err(BadValue::new(format!("problem.time.{key}"), value, expected));
            }
            Ok(steps.round() as u64)
        };
        let (start, every) = (whole("start", time.start)?, whole("every", time.every)?);
        if every == 0 {
            return Err(BadValue::new("problem.time.every", time.every, format!("at least a step of {}", time.step)));
        }
        Ok(Ticks { start, every })
    }
}

fn positive(key: &str, value: f64) -> Result<(), BadValue> {
    if value > 0.0 && value.is_finite() {
        return Ok(());
    }
    Err(BadValue::new(format!("problem.{key}"), value, "a positive number"))
}

impl InitialSpec {
    fn check(&self) -> Result<(), BadValue> {
        let (gaussian, mcwilliams) = (self.kind == InitialKind::Gaussian, self.kind == InitialKind::Mcwilliams);
        for (key, value, belongs) in [
            ("alpha", self.alpha, gaussian),
            ("tau", self.tau, gaussian),
            ("peak", self.peak, mcwilliams),
            ("energy", self.energy, mcwilliams),
        ] {
            let Some(value) = value else { continue };
            if !belongs {
                return Err(self.foreign(key));
            }
            positive(&format!("initial.{key}"), value)?;
        }
        match (self.kind, &self.vorticity) {
            (InitialKind::Expression, None) => {
                Err(BadValue::wrong("problem.initial.vorticity", "missing; kind = \"expression\" needs it"))
            }
            (InitialKind::Gaussian | InitialKind::Mcwilliams, Some(_)) => Err(self.foreign("vorticity")),
            _ => Ok(()),
        }
    }

    fn foreign(&self, key: &str) -> BadValue {
        let kind = match self.kind {
            InitialKind::Gaussian => "gaussian",
            InitialKind::Mcwilliams => "mcwilliams",
            InitialKind::Expression => "expression",
        };
        BadValue::foreign(format!("problem.initial.{key}"), format!("kind = \"{kind}\""))
    }
}
