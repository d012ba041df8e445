//! `[problem.method.variation]`: what a job file says of total variation. Workloads share it.

use convoke_cluster::BadValue;
use serde::{Deserialize, Serialize};

use super::{Minimiser, TvParams};
use crate::inverse::setting::{Setting, Words};

/// Total variation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VariationSpec {
    /// λ, for an operator of norm 1; or how it is chosen.
    pub weight: Weight,
    /// How the differences of a voxel are measured; absent: `isotropic`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    /// Axes along which they are taken; absent: `xyz`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub along: Option<Along>,
    /// Penalty ρ of the splitting, for an operator of norm 1 (admm-tv); absent: 10 λ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub penalty: Option<f64>,
    /// Iterations of the denoising (fista-tv) or of conjugate gradients (admm-tv) in a step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inner: Option<u64>,
    /// Ends once a step changes the image by no more than this part of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tolerance: Option<f64>,
}

/// λ, or how the data choose it.
pub type Weight = Setting<Choice>;

/// How the data choose λ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Choice {
    /// The residual is as large as the noise.
    Discrepancy,
    /// The corner of the variation over the squared residual.
    LCurve,
}

impl Words for Choice {
    const EXPECTED: &'static str = "a number, \"discrepancy\" or \"l-curve\"";
}

/// How the differences of a voxel are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// By the length of the vector that they make.
    Isotropic,
    /// By the sum of their magnitudes.
    Anisotropic,
}

/// Axes along which differences are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Along {
    /// All.
    Xyz,
    /// From slice to slice.
    Z,
}

impl Along {
    /// How many.
    pub fn axes(self) -> usize {
        match self {
            Self::Xyz => 3,
            Self::Z => 1,
        }
    }
}

impl VariationSpec {
    /// Checks the values below `key` for an algorithm.
    ///
    /// # Errors
    /// The first bad one.
    pub fn check(&self, key: &str, minimiser: Minimiser, name: &str) -> Result<(), BadValue> {
        let foreign = [
            ("penalty", self.penalty.is_some() && minimiser != Minimiser::Admm),
            ("inner", self.inner.is_some() && minimiser == Minimiser::Pdhg),
        ];
        if let Some((what, _)) = foreign.iter().find(|(_, there)| *there) {
            return Err(BadValue::foreign(format!("{key}.{what}"), format!("algorithm {name}")));
        }
        for (what, value, low, high) in [
            ("weight", self.weight.given(), 0.0, 1e6),
            ("penalty", self.penalty, 1e-12, 1e6),
            ("inner", self.inner.map(|n| n as f64), 1.0, 1000.0),
            ("tolerance", self.tolerance, 0.0, 1.0),
        ] {
            if let Some(value) = value.filter(|value| !(low..=high).contains(value)) {
                return Err(BadValue::new(format!("{key}.{what}"), value, format!("{low} to {high}")));
            }
        }
        Ok(())
    }

    /// How the weight is chosen, if it is.
    pub fn choice(&self) -> Option<Choice> {
        match self.weight {
            Weight::Given(_) => None,
            Weight::Chosen(choice) => Some(choice),
        }
    }

    /// Weights that are tried, at most.
    pub fn candidates(&self) -> u64 {
        if self.choice().is_some() { super::search::CANDIDATES } else { 1 }
    }

    /// As parameters of a minimiser that makes `steps` steps with each weight.
    pub fn params(&self, minimiser: Minimiser, steps: u64) -> TvParams {
        let inner = match minimiser {
            Minimiser::Fista => 10,
            Minimiser::Admm => 3,
            Minimiser::Pdhg => 0,
        };
        TvParams {
            minimiser,
            weight: self.weight.given().unwrap_or(0.0),
            choice: self.choice(),
            noise: None,
            steps,
            kind: self.kind.unwrap_or(Kind::Isotropic),
            along: self.along.unwrap_or(Along::Xyz),
            inner: self.inner.unwrap_or(inner),
            penalty: self.penalty,
            non_negative: false,
            mask: None,
            tolerance: self.tolerance.unwrap_or(0.0),
        }
    }
}
