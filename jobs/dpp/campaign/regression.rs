//! Task `fit`: weighted least squares on the values of a campaign, with all that an orthonormal basis tells.
//!
//! Rows go to the ranks in blocks that the problem fixes, so that the result does not depend on the ranks (`tsqr`).

use convoke_cluster::workload::{Inputs, Resources};
use convoke_cluster::{BadValue, Comm, Error, Plan, Result};
use convoke_data::DataError;
use convoke_data::formats::table::Table;
use faer::Mat;
use rayon::prelude::*;

use super::earlier::{Designs, weighted_features};
use super::margin::{bulk, explained, reduced_margin};
use super::values::Values;
use crate::dpp::error::DesignError;
use crate::dpp::fit::{Factor, Fit, Spectrum};
use crate::dpp::plan;
use crate::dpp::space::Space;
use crate::dpp::space::indices::Rule;
use crate::dpp::spec::fit::Missing;
use crate::dpp::spec::variable::Variable;
use crate::dpp::spec::{FitSpec, SpaceSpec, Spec};
use crate::dpp::tsqr::{Rows, merge};

/// Rows of a block.
const BLOCK: usize = 2048;
/// Condition number of W^{1/2} Φ beyond which coefficients have no digits left.
const SINGULAR: f64 = 1e13;
/// Functions of a margin, at most: what is beyond them in order is not looked at.
const MAX_MARGIN: usize = 20_000;
/// Distance beyond an end of a variable, relative to its range, that is rounding.
const ON_THE_END: f64 = 1e-9;

/// Points, values and a space, ready to be fitted.
#[derive(Debug)]
pub struct Regression {
    pub(super) fit: FitSpec,
    pub(super) space: Space,
    families: SpaceSpec,
    pub(super) variables: Vec<Variable>,
    /// Of the rows that have values: `[n, d]`, `[n]`, n × outputs.
    pub(super) points: Vec<f64>,
    pub(super) weights: Vec<f64>,
    pub(super) values: Mat<f64>,
    /// Numbers of the points without a value, counted through all designs.
    pub(super) missing: Vec<usize>,
    /// What holds for the points, and what was given up.
    pub(super) law: (String, String),
    /// Where to evaluate: `[rows, d]`, as the families have them.
    pub(super) asked: Option<Vec<f64>>,
    pub(super) fitted: Option<Fitted>,
}

/// What came out.
#[derive(Debug)]
pub(super) struct Fitted {
    pub(super) factor: Factor,
    /// Residuals and leverages of all rows.
    pub(super) all: Fit,
    pub(super) spectrum: Spectrum,
    pub(super) enriched: Option<Enriched>,
}

/// A space and what is worth adding to it.
#[derive(Debug)]
pub(super) struct Enriched {
    /// `[function, variable]`, those of the space first.
    pub(super) degrees: Vec<Vec<usize>>,
    /// What each would explain; zero for those of the space.
    pub(super) explained: Vec<f64>,
}

impl Regression {
    /// Reads and checks designs and values.
    ///
    /// # Errors
    /// Data errors, [`BadValue`]: too few points with values, values missing that may not be.
    pub fn read(spec: &Spec, inputs: &Inputs) -> Result<Self> {
        let fit =
            spec.fit.clone().ok_or_else(|| BadValue::wrong("problem.task", "the table [problem.fit] is missing"))?;
        fit.check()?;
        let designs = Designs::open("problem.fit.designs", &fit.designs, inputs)?;
        let last = designs.0.last().expect("at least one");
        let (space, families) = match &spec.space {
            Some(given) => (given.build(inputs)?, given.clone()),
            None => (last.space.clone(), last.spec.clone()),
        };
        let variables = designs.variables().to_vec();
        if families.families()? != last.spec.families()?
            || (families.variables.is_some() && families.variables()? != variables)
        {
            let help = "leave [problem.space] out to fit in the space of the last design";
            return Err(BadValue::wrong("problem.space.families", "not those of the designs").help(help).into());
        }
        let (d, m) = (variables.len(), space.len());
        let all = designs.points();
        let told = Values::read(&inputs.resolve(&fit.values), &all, &variables, &fit.outputs)?;
        let known = told.known();
        let mut law = law(&designs);
        if let Some(words) = told.missing() {
            if fit.missing == Missing::Refuse {
                let help =
                    "wait for them, `convoke sweep DIR --retry-failed`, or missing = \"drop\" to fit without them";
                return Err(BadValue::wrong("problem.fit.missing", words).help(help).into());
            }
            // Whatever makes a run fail is seldom independent of where the point is.
            let leaning = leaning(&all, &variables, &known).unwrap_or_else(|| {
                "no variable tells them apart, but where values are missing may still depend on the point".into()
            });
            let words = format!("the law of the points: {words}; {leaning}");
            law.1 = if law.1.is_empty() { words } else { format!("{}; {words}", law.1) };
        }
        if known.len() < m {
            let message = format!("{} points have values, and {m} functions need as many", known.len());
            let help = "lower problem.space.degree, or add points: law = \"greedy\" with `after` and `values`";
            return Err(BadValue::wrong("problem.fit.values", message).help(help).into());
        }
        let weights = designs.weights();
        let value = |i: usize, j: usize| told.of[known[i]].as_ref().map_or(f64::NAN, |v| v[j]);
        let values = Mat::from_fn(known.len(), fit.outputs.len(), value);
        let asked =
            fit.evaluate.as_ref().map(|file| asked(&inputs.resolve(file), &families, &variables)).transpose()?;
        Ok(Self {
            points: known.iter().flat_map(|i| &all[i * d..(i + 1) * d]).copied().collect(),
            weights: known.iter().map(|i| weights[*i]).collect(),
            missing: (0..told.of.len()).filter(|i| told.of[*i].is_err()).collect(),
            values,
            fit,
            space,
            families,
            variables,
            law,
            asked,
            fitted: None,
        })
    }

    pub(super) fn n(&self) -> usize {
        self.weights.len()
    }

    /// What it costs.
    pub fn plan(&self, resources: &Resources) -> Plan {
        let (n, m, k, ranks) =
            (self.n() as u64, self.space.len() as u64, self.fit.outputs.len() as u64, resources.ranks as u64);
        let (d, asked) =
            (self.variables.len() as u64, self.asked.as_ref().map_or(0, |x| (x.len() / self.variables.len()) as u64));
        let margin = (d * m).min(MAX_MARGIN as u64);
        let square = 8 * (m + k) * (m + k);
        let sums = 8 * (margin * (m + k + 1) + k);
        let blocks = n.div_ceil(BLOCK as u64);
        let held = n.div_ceil(ranks).max(n.min(BLOCK as u64));
        let results = 8 * (n * (2 * k + 2) + asked * k * (d + 1) + m * (2 * k + d) + (m + margin) * (d + 1));
        let mut plan = Plan {
            steps: 1,
            work: 2.0 * (n * (m + k) * (m + k)) as f64 + 2.0 * (n * margin * m) as f64,
            work_unit: "flop",
            // Factors up the tree and down, residuals and sums from all to all, headers of the results.
            bytes_sent_per_rank: (square * (64 + ranks)
                + 2 * sums * ranks
                + results * ranks
                + (blocks + 64) * 1024 * ranks)
                .min(u64::MAX / 2)
                + (1 << 16) * (ranks - 1).max(1),
            checkpoint_bytes: 1 << 16,
            result_bytes: results + (1 << 20),
            ..Plan::default()
        };
        plan.holds("program and libraries", plan::PROGRAM);
        plan.holds("features, values and factors", 8 * held * (3 * m + 3 * k + margin) + 6 * square + 3 * sums);
        plan.holds("residuals and results", 3 * results);
        plan.notes.push(format!("{n} points with values for {m} functions of {d} variables"));
        plan.notes.push(format!("holds: {}", self.law.0));
        if !self.law.1.is_empty() {
            plan.notes.push(format!("given up: {}", self.law.1));
        }
        plan
    }

    /// Fits. Collective.
    ///
    /// # Errors
    /// Points that do not determine the coefficients; where another rank is gone.
    pub fn solve(&mut self, comm: &Comm) -> Result<()> {
        let (m, outputs) = (self.space.len(), self.fit.outputs.len());
        let rows = Rows { n: self.n(), block: BLOCK, ranks: comm.size() };
        let mine = rows.of(comm.rank());
        let parts: Vec<(Mat<f64>, Mat<f64>)> = mine.iter().map(|block| self.block(*block)).collect();
        let factors =
            mine.par_iter().zip(&parts).map(|(block, (a, b))| (*block, Factor::of(a.as_ref(), b.as_ref()))).collect();
        let factor = merge(comm, rows, factors, (m, outputs))?;
        let spectrum = Spectrum::of_factor(factor.r(), self.n());
        let spectrum = comm.agree(spectrum.map_err(Error::from))?;
        if spectrum.min <= 0.0 || spectrum.condition() > SINGULAR {
            let rank = DesignError::Singular { condition: spectrum.condition(), points: self.n(), functions: m };
            return comm.agree(Err(rank.into()));
        }
        // Residuals and leverages of this rank's rows, then of all.
        let local = parts.iter().map(|(a, b)| Fit::of(&factor, a.as_ref(), b.as_ref())).collect::<Result<Vec<_>, _>>();
        let local = comm.agree(local.map_err(Error::from))?;
        let mut numbers: Vec<f64> = Vec::new();
        for fit in &local {
            for i in 0..fit.leverages.len() {
                numbers.push(fit.leverages[i]);
                numbers.extend(fit.residuals.row(i).iter());
            }
        }
        // Blocks rise with the ranks.
        let all = comm.all_gather(&numbers)?.concat();
        let rows: Vec<&[f64]> = all.chunks(1 + outputs).collect();
        let all = Fit {
            coefficients: factor.coefficients().map_err(Error::from)?,
            leverages: rows.iter().map(|row| row[0]).collect(),
            residuals: Mat::from_fn(rows.len(), outputs, |i, j| rows[i][1 + j]),
        };
        let enriched = if self.n() > m { self.enriched(comm, &factor, &mine, &parts, &local)? } else { None };
        self.fitted = Some(Fitted { factor, all, spectrum, enriched });
        Ok(())
    }

    /// W^{1/2} Φ and W^{1/2} Y of a block of rows.
    fn block(&self, block: usize) -> (Mat<f64>, Mat<f64>) {
        let (d, rows) = (self.variables.len(), block * BLOCK..self.n().min((block + 1) * BLOCK));
        let weights = &self.weights[rows.clone()];
        let a = weighted_features(&self.space, &self.points[rows.start * d..rows.end * d], weights);
        let y =
            Mat::from_fn(rows.len(), self.values.ncols(), |i, j| weights[i].sqrt() * self.values[(rows.start + i, j)]);
        (a, y)
    }

    /// The space with what is worth adding, and the scores of what is beside it.
    fn enriched(
        &self,
        comm: &Comm,
        factor: &Factor,
        mine: &[usize],
        parts: &[(Mat<f64>, Mat<f64>)],
        local: &[Fit],
    ) -> Result<Option<Enriched>> {
        let families = self.families.families()?;
        let most: Vec<usize> = families.iter().map(|f| f.max_degree()).collect();
        let mut margin = reduced_margin(&self.space.indices, &most);
        margin.truncate(MAX_MARGIN);
        let here: Vec<Vec<usize>> = (0..self.space.len()).map(|i| self.space.indices.dense(i)).collect();
        let larger: Vec<Vec<usize>> = here.iter().chain(&margin).cloned().collect();
        let Ok(larger) = Space::new(&families, &Rule::List(larger)) else { return Ok(None) };
        let is_new: std::collections::HashSet<&Vec<usize>> = margin.iter().collect();
        let columns: Vec<usize> = (0..larger.len()).filter(|i| is_new.contains(&larger.indices.dense(*i))).collect();
        let (d, rows) = (self.variables.len(), mine.iter().map(|b| BLOCK.min(self.n() - b * BLOCK)).sum::<usize>());
        let (m, outputs) = (self.space.len(), self.values.ncols());
        let (mut a, mut more) = (Mat::zeros(rows, m), Mat::zeros(rows, columns.len()));
        let mut residuals = Mat::zeros(rows, outputs);
        let mut at = 0;
        for ((block, (part, _)), fit) in mine.iter().zip(parts).zip(local) {
            let n = part.nrows();
            let first = block * BLOCK;
            a.as_mut().subrows_mut(at, n).copy_from(part);
            residuals.as_mut().subrows_mut(at, n).copy_from(&fit.residuals);
            let all =
                weighted_features(&larger, &self.points[first * d..(first + n) * d], &self.weights[first..first + n]);
            for (k, column) in columns.iter().enumerate() {
                more.as_mut().subrows_mut(at, n).col_mut(k).copy_from(all.col(*column));
            }
            at += n;
        }
        let scores = explained(comm, factor, a.as_ref(), more.as_ref(), residuals.as_ref())?;
        let chosen = bulk(&scores, self.fit.enrich());
        let added = chosen.iter().map(|k| (larger.indices.dense(columns[*k]), scores[*k]));
        let mut enriched = Enriched { degrees: here, explained: vec![0.0; m] };
        added.for_each(|(index, score)| {
            enriched.degrees.push(index);
            enriched.explained.push(score);
        });
        Ok(Some(enriched))
    }
}

/// Which variable tells points with and without a value apart, if one does: Mann and Whitney's test in each variable, at a level
/// of 1 % for all together.
fn leaning(points: &[f64], variables: &[Variable], known: &[usize]) -> Option<String> {
    let d = variables.len();
    let n = points.len() / d;
    let mut is_known = vec![false; n];
    known.iter().for_each(|i| is_known[*i] = true);
    let (a, b) = ((n - known.len()) as f64, known.len() as f64);
    let score = |axis: usize| {
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by(|i, j| points[i * d + axis].total_cmp(&points[j * d + axis]));
        // Ranks of the points without a value, from 1.
        let ranks: f64 = order.iter().enumerate().filter(|(_, i)| !is_known[**i]).map(|(r, _)| r as f64 + 1.0).sum();
        let u = ranks - a * (a + 1.0) / 2.0;
        (u - a * b / 2.0) / (a * b * (a + b + 1.0) / 12.0).sqrt()
    };
    let scores = (0..d).map(|axis| (axis, score(axis))).filter(|(_, z)| z.is_finite());
    let (axis, z) = scores.max_by(|x, y| x.1.abs().total_cmp(&y.1.abs()))?;
    let p = (d as f64 * libm::erfc(z.abs() / std::f64::consts::SQRT_2)).min(1.0);
    let side = if z < 0.0 { "low" } else { "high" };
    let name = &variables[axis].name;
    (p < 0.01).then(|| format!("they are those with {side} {name} (p = {p:.0e}), so the fit leans to the others"))
}

/// What holds for the points of all designs, and what was given up.
fn law(designs: &Designs) -> (String, String) {
    if let [design] = designs.0.as_slice() {
        let given_up = if design.given_up == "nothing" { String::new() } else { design.given_up.clone() };
        return (design.holds.clone(), given_up);
    }
    let holds = "the error bound by lambda_min of all points together".to_owned();
    (holds, "the laws of the single designs: points were added to them".to_owned())
}

/// Where the user wants the fit, as the families have it.
fn asked(path: &std::path::Path, families: &SpaceSpec, variables: &[Variable]) -> Result<Vec<f64>> {
    let table = Table::read(path)?;
    let places: Vec<usize> = variables.iter().map(|v| table.column(&v.name)).collect::<Result<_, _>>()?;
    let families = families.families()?;
    let mut points = Vec::with_capacity(table.rows.len() * variables.len());
    for (line, cells) in &table.rows {
        for ((place, variable), family) in places.iter().zip(variables).zip(&families) {
            let text = &cells[*place];
            let value: Option<f64> = text.parse().ok().filter(|v: &f64| v.is_finite());
            let (low, high) = family.support();
            let slack = ON_THE_END * (high - low).min(1.0);
            let x = value.map(|y| variable.reference(y)).filter(|x| *x >= low - slack && *x <= high + slack);
            let Some(x) = x else {
                let (a, b) = (variable.value(low), variable.value(high));
                let detail =
                    format!("line {line}, column {}: {text:?} is no number between {a} and {b}", variable.name);
                return Err(table.wrong(detail).into());
            };
            points.push(x.clamp(low, high));
        }
    }
    if points.is_empty() {
        let detail = "no points in it; expected a row for each".to_owned();
        return Err(DataError::InvalidValue { path: path.to_owned(), detail }.into());
    }
    Ok(points)
}
