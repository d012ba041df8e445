//! `[problem]` of a pde-data job: what the user types. `check.rs` says what of it belongs together.

use serde::{Deserialize, Serialize};

use crate::expression::Number;
use crate::flow::Scheme;

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
    /// Where it is solved.
    pub grid: GridSpec,
    /// Steps and snapshots, of what moves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<TimeSpec>,
    /// Constants of what moves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flow: Option<FlowSpec>,
    /// What a fluid seeps through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub medium: Option<MediumSpec>,
    /// Where what moves begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial: Option<InitialSpec>,
    /// What is kept.
    #[serde(default)]
    pub output: OutputSpec,
}

/// Equations that can be solved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Equation {
    /// Vorticity of a two-dimensional incompressible flow on a periodic square.
    NavierStokes,
    /// u_t + u u_x = ν u_xx on a circle.
    Burgers,
    /// u_t + u u_x + u_xx + u_xxxx = 0 on a circle.
    KuramotoSivashinsky,
    /// u_t + c u_x = 0 on a circle.
    Advection,
    /// −∇·(a ∇p) = 1 on a square with p = 0 on its boundary.
    Darcy,
}

/// Where an equation is solved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GridSpec {
    /// Points along each axis; modes below a third of them are kept. For Darcy: nodes, those of the boundary included.
    pub points: usize,
    /// Length of each axis.
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
    /// How a step of a two-dimensional flow is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<Scheme>,
}

/// Constants of what moves.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FlowSpec {
    /// Kinematic viscosity ν, of flows and of Burgers' equation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub viscosity: Option<f64>,
    /// Drag μ of the term −μ w of flows; absent: 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drag: Option<f64>,
    /// Forcing of the vorticity, an expression in x and y.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forcing: Option<String>,
    /// Speed c of advection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub speed: Option<f64>,
}

/// A medium of two materials, apart where a Gaussian field with the covariance (−Δ + τ²)^(−α) changes its sign.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MediumSpec {
    /// a where the field is negative, and where it is not.
    pub values: [f64; 2],
    /// α of the covariance.
    pub alpha: f64,
    /// τ of it.
    pub tau: f64,
}

impl Default for MediumSpec {
    fn default() -> Self {
        Self { values: [3.0, 12.0], alpha: 2.0, tau: 3.0 }
    }
}

/// Initial values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InitialSpec {
    /// Of what kind.
    pub kind: InitialKind,
    /// `gaussian`: α of the covariance scale² τ^(2α − d) (−Δ + τ²)^(−α) in d dimensions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alpha: Option<f64>,
    /// `gaussian`: τ of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tau: Option<f64>,
    /// `gaussian`: scale of it; absent: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<Number>,
    /// `mcwilliams`: wave number where the energy is largest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak: Option<f64>,
    /// `mcwilliams`: mean of ½|u|².
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub energy: Option<f64>,
    /// `expression` of flows: in x and y.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vorticity: Option<String>,
    /// `expression` on a circle: in x.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub solution: Option<String>,
}

/// Kinds of initial values.
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
