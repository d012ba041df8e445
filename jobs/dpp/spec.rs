//! `[problem]` of a dpp job: what the user types, and the checks of single values.

use convoke_cluster::BadValue;
use serde::{Deserialize, Serialize};

use super::design::{Law, Measure, Recipe};
use super::space::family::Family;
use super::space::indices::{MAX_DIMENSION, Rule};
use super::space::{Space, SpaceError};
use super::target::Kind;

/// `[problem]`: a space of functions, and a design for it or an experiment with designs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// What to do.
    pub task: Task,
    /// The space of functions.
    pub space: SpaceSpec,
    /// The design of task `design`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub design: Option<DesignSpec>,
    /// The experiment of task `experiment`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub experiment: Option<ExperimentSpec>,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    /// Draw designs and write their points.
    Design,
    /// Draw many designs by several laws and compare the errors of fits.
    Experiment,
}

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
    /// Waves on [0, 1].
    Fourier,
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
}

/// A law with what it needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DesignSpec {
    /// Which.
    pub law: LawKind,
    /// Points; absent: as many as functions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n: Option<usize>,
    /// Repetitions that `greedy` chooses from; absent: 5.
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
}

fn one() -> u64 {
    1
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

impl SpaceSpec {
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
            FamilyKind::Fourier => Family::Fourier,
            FamilyKind::Haar => Family::Haar,
        };
        Ok((0..d).map(|axis| family(&self.families[axis % given])).collect())
    }

    /// The set of multi-indices.
    fn rule(&self) -> Result<Rule, BadValue> {
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
            Ok(degree as usize)
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
                    return Err(BadValue::new("problem.space.indices", "[]", "at least one multi-index"));
                }
                list.iter().try_for_each(|index| long("indices", index.len()))?;
                Rule::List(list)
            }
        })
    }

    /// The space.
    ///
    /// # Errors
    /// The first bad value, with its key.
    pub fn build(&self) -> Result<Space, BadValue> {
        let families = self.families()?;
        let rule = self.rule()?;
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
            BadValue::wrong(key, error).help(help)
        })
    }
}

impl DesignSpec {
    /// What to draw for a space of `m` functions.
    ///
    /// # Errors
    /// The first bad value, with its key.
    pub fn recipe(&self, m: usize) -> Result<Recipe, BadValue> {
        let law = self.law;
        refuse_foreign(
            "design",
            &format!("law = {}", word(law)),
            &[
                ("pool", self.pool.is_some() && law != LawKind::Greedy),
                ("tries", self.tries.is_some() && law != LawKind::Boosted),
                (
                    "measure",
                    self.measure.is_some() && !matches!(law, LawKind::Iid | LawKind::Volume | LawKind::Boosted),
                ),
            ],
        )?;
        let n = self.n.unwrap_or(m);
        if n < m || (law == LawKind::Dpp && n != m) {
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
        let pool = self.pool.unwrap_or(5);
        within("problem.design.pool", pool as f64, 1.0, 1e3)?;
        if law == LawKind::Greedy && pool * m < n {
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
    fn with(self, pool: usize, tries: usize) -> Law {
        match self {
            Self::Iid => Law::Iid,
            Self::Dpp => Law::Dpp,
            Self::Volume => Law::Volume,
            Self::Repeated => Law::Repeated,
            Self::Greedy => Law::Greedy { pool },
            Self::Boosted => Law::Boosted { tries },
        }
    }
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
        }
    }

    /// The laws' names.
    pub fn law_names(&self) -> String {
        let names: Vec<String> = self.laws.iter().map(|law| word(law).replace('"', "")).collect();
        names.join(", ")
    }
}

impl Spec {
    /// Checks that the tables fit the task, and the function the space.
    ///
    /// # Errors
    /// The first bad value, with its key.
    pub fn check(&self) -> Result<(), BadValue> {
        let (needed, there, other) = match self.task {
            Task::Design => ("design", self.design.is_some(), ("experiment", self.experiment.is_some())),
            Task::Experiment => ("experiment", self.experiment.is_some(), ("design", self.design.is_some())),
        };
        if !there {
            return Err(BadValue::wrong("problem.task", format!("the table [problem.{needed}] is missing")));
        }
        if other.1 {
            return Err(BadValue::foreign(format!("problem.{}", other.0), format!("task = {}", word(self.task))));
        }
        let Some(experiment) = &self.experiment else { return Ok(()) };
        let suits = match experiment.target {
            TargetKind::Runge | TargetKind::Kink => (
                self.space.dimension == 1 && self.space.families == [FamilyKind::Legendre],
                "families = [\"legendre\"] and dimension = 1",
            ),
            TargetKind::Bell => (
                self.space.dimension == 1 && self.space.families == [FamilyKind::Hermite],
                "families = [\"hermite\"] and dimension = 1",
            ),
            TargetKind::RandomPolynomial => {
                (self.space.index_set == IndexKind::TotalDegree, "index_set = \"total-degree\"")
            }
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
