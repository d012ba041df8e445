//! `[problem.experiment]`: laws times sizes times replicates.

use convoke_cluster::BadValue;
use serde::{Deserialize, Serialize};

use super::design::LawKind;
use super::{within, word};
use crate::dpp::design::{Measure, Recipe};
use crate::dpp::target::Kind;

/// Laws times sizes times replicates.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExperimentSpec {
    /// The function.
    pub target: TargetKind,
    /// Laws to compare.
    pub laws: Vec<LawKind>,
    /// Points per function, n/m.
    pub ratios: Vec<f64>,
    /// Designs for each law and size.
    pub replicates: u64,
}

/// Functions with a known best approximation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TargetKind {
    /// 1/(1 + 5x²), Legendre.
    Runge,
    /// |x − 0.1|, Legendre.
    Kink,
    /// exp(−(x − 1)²/4), Hermite.
    Bell,
    /// A random polynomial of two degrees more, `total-degree`.
    RandomPolynomial,
    /// A section of the kernel of a periodic Sobolev space, Fourier.
    Sobolev,
}

impl ExperimentSpec {
    /// All recipes, `[law, ratio]`, for a space of `m` functions.
    ///
    /// # Errors
    /// The first bad value, with its key.
    pub fn recipes(&self, m: usize) -> Result<Vec<Recipe>, BadValue> {
        within("problem.experiment.replicates", self.replicates as f64, 1.0, 1e6)?;
        if self.laws.is_empty() {
            return Err(BadValue::new("problem.experiment.laws", "[]", "at least one law"));
        }
        if self.ratios.is_empty() {
            return Err(BadValue::new("problem.experiment.ratios", "[]", "at least one number n/m"));
        }
        for ratio in &self.ratios {
            within("problem.experiment.ratios", *ratio, 1.0, 100.0)?;
        }
        if self.laws.contains(&LawKind::Dpp) && self.ratios.iter().any(|r| *r != 1.0) {
            let message = "\"dpp\" has as many points as functions, and ratios has other sizes";
            return Err(BadValue::wrong("problem.experiment.laws", message)
                .help("\"volume\" and \"repeated\" are the same law at n = m"));
        }
        if self.laws.contains(&LawKind::Bss) && self.ratios.iter().any(|r| (*r * m as f64).round() as usize <= m) {
            let message = "\"bss\" has more points than functions, and ratios has 1";
            return Err(BadValue::wrong("problem.experiment.laws", message));
        }
        let mut recipes = Vec::new();
        for law in &self.laws {
            for ratio in &self.ratios {
                let n = (ratio * m as f64).round() as usize;
                let pool = 5.max(n.div_ceil(m));
                recipes.push(Recipe { law: law.with(pool, 20), n, measure: Measure::Christoffel, delta: None });
            }
        }
        Ok(recipes)
    }

    /// The function.
    pub fn kind(&self) -> Kind {
        match self.target {
            TargetKind::Runge => Kind::Runge,
            TargetKind::Kink => Kind::Kink,
            TargetKind::Bell => Kind::Bell,
            TargetKind::RandomPolynomial => Kind::RandomPolynomial,
            TargetKind::Sobolev => Kind::Sobolev,
        }
    }

    /// The laws' names.
    pub fn law_names(&self) -> String {
        let names: Vec<String> = self.laws.iter().map(|law| word(law).replace('"', "")).collect();
        names.join(", ")
    }
}
