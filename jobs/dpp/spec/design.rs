//! `[problem.design]`: a law with what it needs.

use std::path::PathBuf;

use convoke_cluster::BadValue;
use serde::{Deserialize, Serialize};

use super::{refuse_foreign, within, word};
use crate::dpp::design::{Law, Measure, Recipe};

/// Functions that `bss` takes, at most: it decomposes a matrix of this size for each point.
const BSS_FUNCTIONS: usize = 512;

/// A law with what it needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DesignSpec {
    /// Which.
    pub law: LawKind,
    /// Points; absent: as many as functions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n: Option<usize>,
    /// Repetitions that `greedy` and `bss` choose from; absent: 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<usize>,
    /// Designs that `boosted` chooses from; absent: 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tries: Option<usize>,
    /// Redraw until the smallest eigenvalue of G is at least 1 − delta.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delta: Option<f64>,
    /// Measure of independent points (`iid`, `volume`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measure: Option<MeasureKind>,
    /// Independent designs.
    #[serde(default = "one")]
    pub copies: u64,
    /// Operations after which a large design may be checkpointed, in its middle too.
    #[serde(default = "large")]
    pub step_flops: f64,
    /// Designs that were evaluated before (`greedy`): their points stay, `n` are added where they lower the variance most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Vec<PathBuf>>,
    /// The values at their points, as for a fit; points without a value do not count. Absent: all count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<PathBuf>,
}

/// Laws of designs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LawKind {
    /// Independent points.
    Iid,
    /// The determinantal point process.
    Dpp,
    /// Volume-rescaled sampling.
    Volume,
    /// Repetitions of the process.
    Repeated,
    /// Greedy choice from repetitions.
    Greedy,
    /// Weighted choice from repetitions by moving barriers.
    Bss,
    /// The most stable of independent designs.
    Boosted,
}

/// Measures of independent points.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MeasureKind {
    /// The optimal one.
    Christoffel,
    /// Half of it, half of the reference measure: bounded weights.
    Mixture,
}

fn one() -> u64 {
    1
}

/// Half a minute of one core.
fn large() -> f64 {
    1e12
}

impl DesignSpec {
    /// Refuses keys that the law does not have.
    ///
    /// # Errors
    /// The first of them.
    pub fn check(&self) -> Result<(), BadValue> {
        let law = self.law;
        let weighted = matches!(law, LawKind::Iid | LawKind::Volume | LawKind::Boosted);
        refuse_foreign(
            "design",
            &format!("law = {}", word(law)),
            &[
                ("pool", self.pool.is_some() && !matches!(law, LawKind::Greedy | LawKind::Bss)),
                ("tries", self.tries.is_some() && law != LawKind::Boosted),
                ("after", self.after.is_some() && law != LawKind::Greedy),
                ("values", self.values.is_some() && law != LawKind::Greedy),
                ("measure", self.measure.is_some() && !weighted),
            ],
        )?;
        if self.values.is_some() && self.after.is_none() {
            return Err(BadValue::wrong(
                "problem.design.values",
                "there is no `after`: no points that could have values",
            ));
        }
        Ok(())
    }

    /// What to draw for a space of `m` functions, where `earlier` points stay.
    ///
    /// # Errors
    /// The first bad value, with its key.
    pub fn recipe(&self, m: usize, earlier: usize) -> Result<Recipe, BadValue> {
        let law = self.law;
        let n = self.n.unwrap_or_else(|| m.saturating_sub(earlier).max(1));
        if self.after.is_some() && n + earlier < m {
            let expected = format!("at least {}: {m} functions, {earlier} points with a value", m - earlier);
            return Err(BadValue::new("problem.design.n", n, expected));
        }
        if (n < m && self.after.is_none()) || (law == LawKind::Dpp && n != m) {
            let expected = if law == LawKind::Dpp { "exactly" } else { "at least" };
            let bad =
                BadValue::new("problem.design.n", n, format!("{expected} {m}, the number of functions of the space"));
            return Err(match law {
                LawKind::Dpp if n > m => {
                    bad.help("law = \"volume\" and law = \"repeated\" have more points than functions")
                }
                _ => bad,
            });
        }
        within("problem.design.n", n as f64, 1.0, 1e7)?;
        within("problem.design.copies", self.copies as f64, 1.0, 1e6)?;
        within("problem.design.step_flops", self.step_flops, 1e6, 1e18)?;
        let pool = self.pool.unwrap_or(5);
        within("problem.design.pool", pool as f64, 1.0, 1e3)?;
        if law == LawKind::Bss && (n <= m || m > BSS_FUNCTIONS) {
            let message = format!(
                "n = {n} for {m} functions: expected more points than functions, and at most {BSS_FUNCTIONS} functions"
            );
            return Err(BadValue::wrong("problem.design.n", message)
                .help("law = \"greedy\" has neither limit; \"bss\" decomposes a matrix for each point"));
        }
        if matches!(law, LawKind::Greedy | LawKind::Bss) && pool * m < n {
            let expected = format!("at least {}, so that {n} points can be chosen", n.div_ceil(m));
            return Err(BadValue::new("problem.design.pool", pool, expected));
        }
        let tries = self.tries.unwrap_or(100);
        within("problem.design.tries", tries as f64, 1.0, 1e5)?;
        if let Some(delta) = self.delta {
            within("problem.design.delta", delta, 0.01, 0.999_999)?;
        }
        let measure = match self.measure {
            Some(MeasureKind::Mixture) => Measure::Mixture,
            _ => Measure::Christoffel,
        };
        Ok(Recipe { law: law.with(pool, tries), n, measure, delta: self.delta })
    }
}

impl LawKind {
    pub(super) fn with(self, pool: usize, tries: usize) -> Law {
        match self {
            Self::Iid => Law::Iid,
            Self::Dpp => Law::Dpp,
            Self::Volume => Law::Volume,
            Self::Repeated => Law::Repeated,
            Self::Greedy => Law::Greedy { pool },
            Self::Bss => Law::Bss { pool },
            Self::Boosted => Law::Boosted { tries },
        }
    }
}
