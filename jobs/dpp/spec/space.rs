//! `[problem.space]`: products of functions of one variable, and which.

use std::path::PathBuf;

use convoke_cluster::workload::Inputs;
use convoke_cluster::{BadValue, Error};
use serde::{Deserialize, Serialize};

use super::variable::{Variable, VariableSpec, plain, scaled};
use super::{refuse_foreign, within, word};
use crate::dpp::campaign::earlier::enriched;
use crate::dpp::space::family::Family;
use crate::dpp::space::indices::{MAX_DIMENSION, Rule};
use crate::dpp::space::{Space, SpaceError};

/// Products of one-dimensional functions, and which.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpaceSpec {
    /// One family for all variables, or one for each.
    pub families: Vec<FamilyKind>,
    /// Number of variables.
    pub dimension: usize,
    /// Which products.
    pub index_set: IndexKind,
    /// Largest degree (`total-degree`), largest product of degree + 1 (`hyperbolic-cross`), budget (`weighted`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub degree: Option<f64>,
    /// Largest degree of each variable (`box`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub degrees: Option<Vec<usize>>,
    /// Cost of a degree of each variable (`weighted`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<Vec<f64>>,
    /// The multi-indices (`list`), downward closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub indices: Option<Vec<Vec<usize>>>,
    /// The fit that says which functions to add (`enriched`): a run directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fit: Option<PathBuf>,
    /// Names of the variables and what they are in the user's units; absent: x1, x2, … as the families have them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variables: Option<Vec<VariableSpec>>,
    /// Exponents at 1 and −1 of the `jacobi` density.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jacobi: Option<[f64; 2]>,
    /// Exponent at 0 of the `laguerre` density.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub laguerre: Option<f64>,
}

/// Families of one variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FamilyKind {
    /// Uniform on [−1, 1].
    Legendre,
    /// Standard normal.
    Hermite,
    /// Beta on [−1, 1].
    Jacobi,
    /// Gamma on [0, ∞).
    Laguerre,
    /// Waves on [0, 1], cosine and sine of a wave one after the other.
    Fourier,
    /// e^{2πikx} on [0, 1]; sets count |k|, and have the cosine and the sine of a wave or neither.
    ComplexFourier,
    /// Wavelets on [0, 1].
    Haar,
}

/// Sets of multi-indices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IndexKind {
    /// Σ ν_j ≤ degree.
    TotalDegree,
    /// ∏ (ν_j + 1) ≤ degree.
    HyperbolicCross,
    /// ν_j ≤ `degrees[j]`.
    Box,
    /// Σ `weights[j]` ν_j ≤ degree.
    Weighted,
    /// As listed.
    List,
    /// Those of a fit, and what it found worth adding.
    Enriched,
}

impl SpaceSpec {
    /// The family of a variable.
    fn kind(&self, axis: usize) -> FamilyKind {
        self.families[axis % self.families.len()]
    }

    /// One family for each variable.
    ///
    /// # Errors
    /// The first bad value, with its key.
    pub fn families(&self) -> Result<Vec<Family>, BadValue> {
        let (d, given) = (self.dimension, self.families.len());
        within("problem.space.dimension", d as f64, 1.0, MAX_DIMENSION as f64)?;
        if given != 1 && given != d {
            let expected = format!("one for all variables, or {d} (problem.space.dimension)");
            return Err(BadValue::new("problem.space.families", format!("{given} families"), expected));
        }
        let [a, b] = self.jacobi.unwrap_or([0.0, 0.0]);
        let alpha = self.laguerre.unwrap_or(0.0);
        let exponents = [("problem.space.jacobi", a), ("problem.space.jacobi", b), ("problem.space.laguerre", alpha)];
        for (key, exponent) in exponents {
            if !(exponent > -1.0 && exponent <= 20.0) {
                return Err(BadValue::new(key, exponent, "more than -1 and at most 20"));
            }
        }
        let absent = |kind| !self.families.contains(&kind);
        let owner = "a space without such a family";
        refuse_foreign(
            "space",
            owner,
            &[
                ("jacobi", self.jacobi.is_some() && absent(FamilyKind::Jacobi)),
                ("laguerre", self.laguerre.is_some() && absent(FamilyKind::Laguerre)),
            ],
        )?;
        let family = |kind: &FamilyKind| match kind {
            FamilyKind::Legendre => Family::Legendre,
            FamilyKind::Hermite => Family::Hermite,
            FamilyKind::Jacobi => Family::Jacobi { a, b },
            FamilyKind::Laguerre => Family::Laguerre { alpha },
            FamilyKind::Fourier | FamilyKind::ComplexFourier => Family::Fourier,
            FamilyKind::Haar => Family::Haar,
        };
        Ok((0..d).map(|axis| family(&self.kind(axis))).collect())
    }

    /// The variables in the user's units.
    ///
    /// # Errors
    /// The first bad value, with its key.
    pub fn variables(&self) -> Result<Vec<Variable>, BadValue> {
        let families = self.families()?;
        match &self.variables {
            Some(variables) => scaled(variables, &families),
            None => Ok(plain(families.len())),
        }
    }

    /// The set of multi-indices.
    fn rule(&self, inputs: &Inputs) -> Result<Rule, Error> {
        let (kind, d) = (self.index_set, self.dimension);
        let by_degree = matches!(kind, IndexKind::TotalDegree | IndexKind::HyperbolicCross | IndexKind::Weighted);
        refuse_foreign(
            "space",
            &format!("index_set = {}", word(kind)),
            &[
                ("degree", self.degree.is_some() && !by_degree),
                ("degrees", self.degrees.is_some() && kind != IndexKind::Box),
                ("weights", self.weights.is_some() && kind != IndexKind::Weighted),
                ("indices", self.indices.is_some() && kind != IndexKind::List),
                ("fit", self.fit.is_some() && kind != IndexKind::Enriched),
            ],
        )?;
        let missing = |key: &str| {
            let message = format!("missing; index_set = {} needs it", word(kind));
            BadValue::wrong(format!("problem.space.{key}"), message)
        };
        let long = |key: &str, given: usize| match given == d {
            true => Ok(()),
            false => {
                let expected = format!("{d} (problem.space.dimension)");
                Err(BadValue::new(format!("problem.space.{key}"), format!("{given} values"), expected))
            }
        };
        let degree = || {
            let degree = self.degree.ok_or_else(|| missing("degree"))?;
            within("problem.space.degree", degree, if kind == IndexKind::HyperbolicCross { 1.0 } else { 0.0 }, 1e6)?;
            Ok::<f64, BadValue>(degree)
        };
        let whole = || {
            let degree = degree()?;
            if degree.fract() != 0.0 {
                return Err(BadValue::new("problem.space.degree", degree, "a whole number"));
            }
            Ok::<usize, BadValue>(degree as usize)
        };
        Ok(match kind {
            IndexKind::TotalDegree => Rule::TotalDegree(whole()?),
            IndexKind::HyperbolicCross => Rule::HyperbolicCross(whole()?),
            IndexKind::Box => {
                let degrees = self.degrees.clone().ok_or_else(|| missing("degrees"))?;
                long("degrees", degrees.len())?;
                Rule::Box(degrees)
            }
            IndexKind::Weighted => {
                let weights = self.weights.clone().ok_or_else(|| missing("weights"))?;
                long("weights", weights.len())?;
                for weight in &weights {
                    within("problem.space.weights", *weight, 1e-3, 1e6)?;
                }
                Rule::Weighted { weights, budget: degree()? }
            }
            IndexKind::List => {
                let list = self.indices.clone().ok_or_else(|| missing("indices"))?;
                if list.is_empty() {
                    return Err(BadValue::new("problem.space.indices", "[]", "at least one multi-index").into());
                }
                list.iter().try_for_each(|index| long("indices", index.len()))?;
                Rule::List(list)
            }
            IndexKind::Enriched => {
                let fit = self.fit.as_ref().ok_or_else(|| missing("fit"))?;
                let list = enriched(&inputs.resolve(fit))?;
                long("fit", list[0].len())?;
                Rule::List(list)
            }
        })
    }

    /// The space.
    ///
    /// # Errors
    /// The first bad value, with its key; data errors of the fit that an enriched set is from.
    pub fn build(&self, inputs: &Inputs) -> Result<Space, Error> {
        let families = self.families()?;
        self.variables()?;
        let waves: Vec<bool> = (0..families.len()).map(|axis| self.kind(axis) == FamilyKind::ComplexFourier).collect();
        let mut rule = self.rule(inputs)?;
        if waves.contains(&true) && !matches!(rule, Rule::List(_)) {
            rule = Rule::OfWaves(Box::new(rule), waves);
        }
        let key = match self.index_set {
            IndexKind::Box => "problem.space.degrees",
            IndexKind::List => "problem.space.indices",
            _ => "problem.space.degree",
        };
        Space::new(&families, &rule).map_err(|error| {
            let help = match error {
                SpaceError::TooManyFunctions => "a hyperbolic cross or fewer variables have fewer functions",
                SpaceError::NotDownwardClosed { .. } => "with an index, list all below it",
                _ => "see jobs/dpp/README.md",
            };
            BadValue::wrong(key, error).help(help).into()
        })
    }
}
