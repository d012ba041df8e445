//! `[problem.method.variation]`: what a job file says of total variation. Workloads share it.

use convoke_cluster::BadValue;
use serde::{Deserialize, Serialize};

use super::{Minimiser, TvParams};

/// Total variation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VariationSpec {
    /// λ, for an operator of norm 1.
    pub weight: f64,
    /// How the differences of a voxel are measured; absent: `isotropic`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    /// Axes along which they are taken; absent: `xyz`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub along: Option<Along>,
    /// Penalty ρ of the splitting, for an operator of norm 1 (admm-tv).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub penalty: Option<f64>,
    /// Iterations of the denoising (fista-tv) or of conjugate gradients (admm-tv) in a step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inner: Option<u64>,
    /// Ends once a step changes the image by no more than this part of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tolerance: Option<f64>,
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
            ("weight", Some(self.weight), 0.0, 1e6),
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

    /// As parameters of a minimiser.
    pub fn params(&self, minimiser: Minimiser, non_negative: bool, mask: Option<Vec<f32>>) -> TvParams {
        let inner = match minimiser {
            Minimiser::Fista => 10,
            Minimiser::Admm => 3,
            Minimiser::Pdhg => 0,
        };
        TvParams {
            minimiser,
            weight: self.weight,
            kind: self.kind.unwrap_or(Kind::Isotropic),
            along: self.along.unwrap_or(Along::Xyz),
            inner: self.inner.unwrap_or(inner),
            penalty: self.penalty.unwrap_or(3e-3),
            non_negative,
            mask,
            tolerance: self.tolerance.unwrap_or(0.0),
        }
    }
}
