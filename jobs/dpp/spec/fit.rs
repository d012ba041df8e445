//! `[problem.fit]`: designs, where the values at their points are, and what to make of them.

use std::path::PathBuf;

use convoke_cluster::BadValue;
use serde::{Deserialize, Serialize};

use super::within;

/// Outputs, at most.
const MAX_OUTPUTS: usize = 10_000;

/// A fit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FitSpec {
    /// Runs that drew the points: the design, and what was added to it.
    pub designs: Vec<PathBuf>,
    /// The values: the directory of a sweep, or a CSV file with a column for each variable and output.
    pub values: PathBuf,
    /// Names of the outputs to fit.
    pub outputs: Vec<String>,
    /// What to do about points without a value.
    #[serde(default)]
    pub missing: Missing,
    /// A CSV file with a column for each variable: where to evaluate the fit and its gradient.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evaluate: Option<PathBuf>,
    /// Part of what neighbouring functions would explain that an enriched set should hold; absent: 0.5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enrich: Option<f64>,
}

/// What to do about points without a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Missing {
    /// Refuse to fit.
    #[default]
    Refuse,
    /// Fit to the others and say what that does to the law.
    Drop,
}

impl FitSpec {
    /// Checks single values.
    ///
    /// # Errors
    /// The first bad value, with its key.
    pub fn check(&self) -> Result<(), BadValue> {
        if self.designs.is_empty() {
            return Err(BadValue::new("problem.fit.designs", "[]", "at least one run of task = \"design\""));
        }
        if self.outputs.is_empty() || self.outputs.len() > MAX_OUTPUTS {
            let given = format!("{} names", self.outputs.len());
            return Err(BadValue::new("problem.fit.outputs", given, format!("1 to {MAX_OUTPUTS}")));
        }
        if let Some(i) = (1..self.outputs.len()).find(|i| self.outputs[..*i].contains(&self.outputs[*i])) {
            return Err(BadValue::wrong("problem.fit.outputs", format!("{:?} is there twice", self.outputs[i])));
        }
        within("problem.fit.enrich", self.enrich(), 0.01, 1.0)
    }

    /// Part of the explained variance that an enriched set holds.
    pub fn enrich(&self) -> f64 {
        self.enrich.unwrap_or(0.5)
    }
}
