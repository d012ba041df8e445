//! `[problem]` of a gp-pde job: what the user types.

use std::path::PathBuf;

use convoke_cluster::BadValue;
use serde::{Deserialize, Serialize};

use super::mixture::Kernel;
use crate::expression::Number;

/// Points of an axis: its factors are dense matrices of this order.
const MOST_POINTS: usize = 1 << 16;
/// Windows of an axis.
const MOST_WINDOWS: usize = 10_000;
/// Measurements that are drawn: they are all held by every rank.
const MOST_MEASUREMENTS: usize = 1_000_000;

/// `[problem]`: an equation over a box, its conditions, and how to solve it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// The equation in `u`, its derivatives (`u_x`, `u_xxt`) and the coordinates, as `left = right`. With
    /// `manufactured` the right side may be left out.
    pub equation: String,
    /// Names for constants and for functions of the coordinates, each `name = expression`; later ones may use earlier.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub define: Vec<String>,
    /// A solution, from which the right-hand side and the data of all conditions without one are made, and against
    /// which the result is compared. The solver never sees it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manufactured: Option<String>,
    /// Functions of the coordinates from HDF5 files, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub arrays: Vec<ArraySpec>,
    /// The axes. Those with conditions at their start alone (time) become the first axes of results.
    pub axes: Vec<AxisSpec>,
    /// Conditions at the ends of axes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<ConditionSpec>,
    /// Several problems that differ in a number, with one factorisation for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cases: Option<CasesSpec>,
    /// Noisy measurements of the solution; with them, conditions may be left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub observations: Vec<ObservationSpec>,
    /// Constants of the equation that are to be found.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unknowns: Vec<UnknownSpec>,
    /// How exactly the equation holds, and what to draw from the posterior.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub posterior: Option<PosteriorSpec>,
    /// The prior.
    #[serde(default)]
    pub prior: PriorSpec,
    /// When to stop.
    #[serde(default)]
    pub solver: SolverSpec,
    /// What to write.
    #[serde(default)]
    pub output: OutputSpec,
}

/// One axis of the box.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AxisSpec {
    /// One letter; not u, e.
    pub name: String,
    /// Where it starts.
    #[serde(default)]
    pub from: Number,
    /// Where it ends.
    pub to: Number,
    /// Collocation points.
    pub points: usize,
    /// Where they lie; absent: by whether the axis is periodic, and by how many there are per wavelength.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<Nodes>,
    /// Whether functions repeat.
    #[serde(default)]
    pub periodic: bool,
    /// Equal parts that are solved one after the other, each with `points` of its own: for long times.
    #[serde(default = "defaults::windows")]
    pub windows: usize,
}

/// Where collocation points lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Nodes {
    /// Equidistant, ends included (but for the end of a periodic axis).
    Uniform,
    /// Chebyshev-Lobatto points, clustered at the ends.
    Chebyshev,
}

/// Values of a number in right-hand sides and data of conditions, one problem for each.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CasesSpec {
    /// The number's name.
    pub name: String,
    /// Its values.
    pub values: Vec<f64>,
}

/// A function given by an array.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArraySpec {
    /// Its name in expressions.
    pub name: String,
    /// HDF5 file; a relative path starts at the job file.
    pub file: PathBuf,
    /// Dataset in it.
    pub dataset: String,
    /// Axes that its dimensions are, slowest first; absent: all, in the order of `problem.axes`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub axes: Option<Vec<String>>,
    /// Where its points lie along an axis: equidistant with both ends (on a periodic axis without the end), or
    /// Chebyshev-Lobatto points.
    #[serde(default = "defaults::array_nodes")]
    pub nodes: Nodes,
}

/// Measurements with independent normal errors, from a file or drawn from `manufactured`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObservationSpec {
    /// What is measured: `u` or a derivative, such as `u_x`.
    #[serde(default = "defaults::solution")]
    pub of: String,
    /// Standard deviation of the error of one measurement.
    pub deviation: f64,
    /// HDF5 file with the datasets `points`, one row a measurement and one column an axis of `problem.axes`, and `values`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// Instead of a file: so many measurements of `manufactured` at random points, with random errors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<usize>,
}

/// An unknown constant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnknownSpec {
    /// Its name in the equation.
    pub name: String,
    /// Mean of its prior, and where the search starts.
    pub guess: f64,
    /// Standard deviation of its prior; absent: a hundred times the guess, or a hundred.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deviation: Option<f64>,
    /// Its value in data that are made from `manufactured`, and what the result is compared with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub truth: Option<f64>,
}

/// The posterior distribution.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PosteriorSpec {
    /// Standard deviation of what is left of the equation at a collocation point; absent: a millionth of its terms. With
    /// `manufactured`, right-hand sides that follow from it get errors of this size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub equation_deviation: Option<f64>,
    /// Draws from the posterior that are written.
    #[serde(default)]
    pub samples: usize,
    /// How it is found; absent: directly up to 6000 coefficients, by iterations beyond.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<Method>,
    /// Draws that deviations are estimated from where the posterior is found by iterations.
    #[serde(default = "defaults::draws")]
    pub draws: usize,
    /// Re-weightings of each axis's spectrum, at most; they end when the evidence does not grow.
    #[serde(default = "defaults::posterior_sweeps")]
    pub sweeps: u64,
}

/// How a posterior is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// By one triangular factor, exactly: up to 6000 coefficients.
    Direct,
    /// By conjugate gradients, deviations from draws: any number, for equations that are not nearly exact.
    Iterative,
}

/// A condition at an end of an axis.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConditionSpec {
    /// `name = coordinate`, such as "x = 0"; or "boundary": both ends of every axis that no other condition names.
    pub at: String,
    /// Linear in `u` and its derivatives along the axis, as `left = right`, such as "u = sin(y)" or "u_x + 2*u = 0".
    pub equation: String,
}

/// The prior of each axis.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PriorSpec {
    /// Highest frequency of the prior over the highest of the data, instead of finding it by the residual.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ceiling_factor: Option<f64>,
    /// Highest frequency of each axis in cycles per unit length, instead of reading it off the data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ceilings: Option<Vec<f64>>,
    /// Whether weights learned from a posterior have the prior 1/w (Jeffreys): sparser spectra, narrower intervals.
    #[serde(default)]
    pub jeffreys: bool,
    /// Mixtures of modulated kernels; an axis without components has equal weights up to its ceiling.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub components: Vec<ComponentSpec>,
}

/// `weight · g(z / length_scale) · cos(2π · frequency · z)` in the covariance of an axis.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ComponentSpec {
    /// Name of the axis.
    pub axis: String,
    /// g
    pub kernel: Kernel,
    /// In cycles per unit length; 0 for the plain kernel.
    #[serde(default)]
    pub frequency: f64,
    /// Prior variance.
    #[serde(default = "defaults::weight")]
    pub weight: f64,
    /// In units of the axis.
    pub length_scale: f64,
}

/// When to stop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SolverSpec {
    /// Residual of the equation between the collocation points, relative to its largest term, that is good enough.
    #[serde(default = "defaults::tolerance")]
    pub tolerance: f64,
    /// Newton iterations for one prior, at most.
    #[serde(default = "defaults::newton")]
    pub newton: u64,
    /// Re-weightings of the spectrum, at most.
    #[serde(default = "defaults::sweeps")]
    pub sweeps: u64,
}

impl Default for SolverSpec {
    fn default() -> Self {
        Self { tolerance: defaults::tolerance(), newton: defaults::newton(), sweeps: defaults::sweeps() }
    }
}

/// What to write.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputSpec {
    /// Equidistant points of the solution along each axis, in the order of `axes`; absent: as many as collocation
    /// points.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub points: Option<Vec<usize>>,
    /// Derivatives to write beside the solution, such as `u_x`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub derivatives: Vec<String>,
    /// Points of the user's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<AtSpec>,
}

/// Points in a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AtSpec {
    /// HDF5 file; a relative path starts at the job file.
    pub file: PathBuf,
    /// Dataset with one row a point and one column an axis of `problem.axes`.
    #[serde(default = "defaults::points")]
    pub dataset: String,
}

mod defaults {
    use super::Nodes;

    pub fn array_nodes() -> Nodes {
        Nodes::Uniform
    }

    pub fn solution() -> String {
        "u".to_owned()
    }

    pub fn points() -> String {
        "/points".to_owned()
    }

    pub fn draws() -> usize {
        64
    }

    pub fn posterior_sweeps() -> u64 {
        12
    }

    pub fn weight() -> f64 {
        1.0
    }

    pub fn windows() -> usize {
        1
    }

    pub fn tolerance() -> f64 {
        1e-10
    }

    pub fn newton() -> u64 {
        20
    }

    pub fn sweeps() -> u64 {
        4
    }
}

impl Spec {
    /// Whether a distribution is asked for, rather than the solution that meets the equation at the nodes.
    pub fn is_uncertain(&self) -> bool {
        self.posterior.is_some() || !self.observations.is_empty() || !self.unknowns.is_empty()
    }

    /// How a posterior over at most `n` coefficients is found.
    pub fn method(&self, n: usize) -> Method {
        let by_size = if n > super::posterior::MOST_DIRECT { Method::Iterative } else { Method::Direct };
        self.posterior.as_ref().and_then(|p| p.method).unwrap_or(by_size)
    }

    /// Draws that deviations are estimated from.
    pub fn draws(&self) -> usize {
        self.posterior.as_ref().map_or_else(defaults::draws, |p| p.draws)
    }

    /// Single values; what needs the texts understood is checked by [`super::statement::Statement::read`].
    ///
    /// # Errors
    /// [`BadValue`] that names the key.
    pub fn check(&self) -> Result<(), BadValue> {
        let tolerance = self.solver.tolerance;
        if !(tolerance > 0.0 && tolerance < 1.0) {
            return Err(BadValue::new("problem.solver.tolerance", tolerance, "a number between 0 and 1"));
        }
        if self.solver.newton == 0 {
            return Err(BadValue::new("problem.solver.newton", 0, "at least 1"));
        }
        if let Some(factor) = self.prior.ceiling_factor.filter(|f| !(*f >= 1.0 && *f <= 100.0)) {
            return Err(BadValue::new("problem.prior.ceiling_factor", factor, "a number from 1 to 100"));
        }
        let bad = |points: &&Vec<usize>| {
            points.len() != self.axes.len() || points.iter().any(|n| !(2..=MOST_POINTS).contains(n))
        };
        if let Some(points) = self.output.points.as_ref().filter(bad) {
            let expected = format!("{} numbers, one for each axis, 2 to {MOST_POINTS}", self.axes.len());
            return Err(BadValue::new("problem.output.points", format!("{points:?}"), expected));
        }
        if let Some(cases) = &self.cases {
            if cases.values.is_empty() || cases.values.iter().any(|v| !v.is_finite()) {
                let values = format!("{:?}", cases.values);
                return Err(BadValue::new("problem.cases.values", values, "at least one number, all finite"));
            }
            if self.is_uncertain() {
                let message = "a posterior has one case; leave out `cases`, or observations, unknowns and posterior";
                return Err(BadValue::wrong("problem.cases", message));
            }
        }
        for (i, axis) in self.axes.iter().enumerate() {
            if axis.points > MOST_POINTS {
                let expected = format!("at most {MOST_POINTS}");
                return Err(BadValue::new(format!("problem.axes.{i}.points"), axis.points, expected));
            }
            let key = format!("problem.axes.{i}.windows");
            if axis.windows > MOST_WINDOWS {
                return Err(BadValue::new(key, axis.windows, format!("at most {MOST_WINDOWS}")));
            }
            if axis.windows == 0 || (axis.windows > 1 && self.is_uncertain()) {
                let expected = if self.is_uncertain() { "1: a posterior has one window" } else { "at least 1" };
                return Err(BadValue::new(key, axis.windows, expected));
            }
        }
        self.check_uncertain()
    }

    fn check_uncertain(&self) -> Result<(), BadValue> {
        let positive = |key: String, value: f64| match value > 0.0 && value.is_finite() {
            true => Ok(()),
            false => Err(BadValue::new(key, value, "a positive number")),
        };
        if let Some(deviation) = self.posterior.as_ref().and_then(|p| p.equation_deviation) {
            positive("problem.posterior.equation_deviation".to_owned(), deviation)?;
        }
        if let Some(posterior) = &self.posterior {
            for (key, value) in [("draws", posterior.draws), ("samples", posterior.samples)] {
                if value > 1_000_000 {
                    return Err(BadValue::new(format!("problem.posterior.{key}"), value, "up to 1000000"));
                }
            }
        }
        if let Some(draws) = self.posterior.as_ref().map(|p| p.draws).filter(|draws| *draws < 2) {
            return Err(BadValue::new("problem.posterior.draws", draws, "at least 2"));
        }
        for (i, set) in self.observations.iter().enumerate() {
            let key = format!("problem.observations.{i}");
            positive(format!("{key}.deviation"), set.deviation)?;
            match (&set.file, set.count) {
                (Some(_), None) => {}
                (None, Some(n)) if n > MOST_MEASUREMENTS => {
                    return Err(BadValue::new(format!("{key}.count"), n, format!("at most {MOST_MEASUREMENTS}")));
                }
                (None, Some(n)) if self.manufactured.is_some() && n > 0 => {}
                (None, Some(0)) => return Err(BadValue::new(format!("{key}.count"), 0, "at least 1")),
                (None, Some(n)) => {
                    let expected = "a file with measurements: there is no `manufactured` solution to draw them from";
                    return Err(BadValue::new(format!("{key}.count"), n, expected));
                }
                _ => return Err(BadValue::wrong(key, "either `file` or `count` says where the measurements are")),
            }
        }
        for (i, unknown) in self.unknowns.iter().enumerate() {
            let key = |name: &str| format!("problem.unknowns.{i}.{name}");
            if let Some(deviation) = unknown.deviation {
                positive(key("deviation"), deviation)?;
            }
            for (name, value) in [("guess", Some(unknown.guess)), ("truth", unknown.truth)] {
                if let Some(value) = value.filter(|v| !v.is_finite()) {
                    return Err(BadValue::new(key(name), value, "a finite number"));
                }
            }
        }
        for (i, component) in self.prior.components.iter().enumerate() {
            let key = |name: &str| format!("problem.prior.components.{i}.{name}");
            positive(key("weight"), component.weight)?;
            positive(key("length_scale"), component.length_scale)?;
            if !(component.frequency >= 0.0 && component.frequency.is_finite()) {
                return Err(BadValue::new(key("frequency"), component.frequency, "0 or a positive number"));
            }
            if !self.axes.iter().any(|a| a.name == component.axis) {
                let names: Vec<&str> = self.axes.iter().map(|a| a.name.as_str()).collect();
                return Err(BadValue::new(key("axis"), &component.axis, format!("an axis: {}", names.join(", "))));
            }
        }
        Ok(())
    }
}
