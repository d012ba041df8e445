//! `[problem]` of a gp-pde job: what the user types.

use convoke_cluster::BadValue;
use serde::{Deserialize, Serialize};

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
    /// The axes. Those with conditions at their start alone (time) become the first axes of results.
    pub axes: Vec<AxisSpec>,
    /// Conditions at the ends of axes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<ConditionSpec>,
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
}

/// A number, or an expression without variables.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Number {
    /// A number.
    Value(f64),
    /// Such as "2*pi".
    Text(String),
}

impl Default for Number {
    fn default() -> Self {
        Self::Value(0.0)
    }
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
}

mod defaults {
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
        let bad = |points: &&Vec<usize>| points.len() != self.axes.len() || points.iter().any(|n| *n < 2);
        if let Some(points) = self.output.points.as_ref().filter(bad) {
            let expected = format!("{} numbers, one for each axis, at least 2", self.axes.len());
            return Err(BadValue::new("problem.output.points", format!("{points:?}"), expected));
        }
        Ok(())
    }
}
