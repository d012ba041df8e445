//! Variables in the user's units: a name, and what the family's own variable means.

use convoke_cluster::BadValue;
use serde::{Deserialize, Serialize};

use crate::dpp::space::family::Family;

/// A variable of the job file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VariableSpec {
    /// Its name: a letter, then letters, digits and `_`.
    pub name: String,
    /// The smallest value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<f64>,
    /// The largest value (families on an interval).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<f64>,
    /// Mean (`hermite`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean: Option<f64>,
    /// Standard deviation (`hermite`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deviation: Option<f64>,
    /// What 1 of the family's variable is (`laguerre`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<f64>,
    /// `log`: the family's law is that of the logarithm; `mean` and `deviation` are those of ln, `from` and `to` are values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<Scale>,
}

/// Whether a variable or its logarithm has the family's law.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scale {
    /// The variable.
    Linear,
    /// Its logarithm.
    Log,
}

/// y = origin + slope x of the family's x, or the exponential of that.
#[derive(Debug, Clone, PartialEq)]
pub struct Variable {
    /// Its name.
    pub name: String,
    origin: f64,
    slope: f64,
    log: bool,
}

impl Variable {
    /// The user's value at the family's `x`.
    pub fn value(&self, x: f64) -> f64 {
        let y = self.origin + self.slope * x;
        if self.log { y.exp() } else { y }
    }

    /// The family's x of the user's value.
    pub fn reference(&self, y: f64) -> f64 {
        (if self.log { y.ln() } else { y } - self.origin) / self.slope
    }

    /// dy/dx at the family's `x`.
    pub fn slope(&self, x: f64) -> f64 {
        if self.log { self.slope * self.value(x) } else { self.slope }
    }
}

/// x1, x2, …, as the families have them.
pub fn plain(dimension: usize) -> Vec<Variable> {
    (1..=dimension).map(|i| Variable { name: format!("x{i}"), origin: 0.0, slope: 1.0, log: false }).collect()
}

/// The variables of a job file, one for each family.
///
/// # Errors
/// The first bad value, with its key.
pub fn scaled(specs: &[VariableSpec], families: &[Family]) -> Result<Vec<Variable>, BadValue> {
    if specs.len() != families.len() {
        let expected = format!("{} (problem.space.dimension)", families.len());
        return Err(BadValue::new("problem.space.variables", format!("{} variables", specs.len()), expected));
    }
    for (i, spec) in specs.iter().enumerate() {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if !spec.name.starts_with(|c: char| c.is_ascii_alphabetic()) || !spec.name.chars().all(plain) {
            let expected = "a letter, then letters, digits and '_'";
            return Err(BadValue::new(
                format!("problem.space.variables.{i}.name"),
                format!("{:?}", spec.name),
                expected,
            ));
        }
        if specs[..i].iter().any(|other| other.name == spec.name) {
            let message = format!("{:?} is the name of another variable", spec.name);
            return Err(BadValue::wrong(format!("problem.space.variables.{i}.name"), message));
        }
    }
    specs.iter().zip(families).enumerate().map(|(i, (spec, family))| spec.scaled(i, *family)).collect()
}

impl VariableSpec {
    fn scaled(&self, i: usize, family: Family) -> Result<Variable, BadValue> {
        let key = |name: &str| format!("problem.space.variables.{i}.{name}");
        let log = self.scale == Some(Scale::Log);
        let given = [
            ("from", self.from),
            ("to", self.to),
            ("mean", self.mean),
            ("deviation", self.deviation),
            ("unit", self.unit),
        ];
        let (kind, due): (&str, [&str; 2]) = match family {
            Family::Hermite => ("a hermite variable", ["mean", "deviation"]),
            Family::Laguerre { .. } => ("a laguerre variable", ["from", "unit"]),
            _ => ("a variable on an interval", ["from", "to"]),
        };
        for (name, value) in given {
            match value {
                Some(_) if !due.contains(&name) => return Err(BadValue::foreign(key(name), kind)),
                None if due.contains(&name) => {
                    return Err(BadValue::wrong(key(name), format!("missing; {kind} needs it")));
                }
                Some(v) if !v.is_finite() => return Err(BadValue::new(key(name), v, "a finite number")),
                _ => {}
            }
        }
        let of = |name: &str| given.iter().find(|(n, _)| *n == name).and_then(|(_, v)| *v).unwrap_or(0.0);
        let (first, second) = (of(due[0]), of(due[1]));
        if due[1] != "to" && second <= 0.0 {
            return Err(BadValue::new(key(due[1]), second, "a positive number"));
        }
        if due[1] == "to" && second <= first {
            return Err(BadValue::new(key("to"), second, format!("more than from = {first}")));
        }
        if log && due[1] == "unit" {
            return Err(BadValue::wrong(key("scale"), "a laguerre variable has no logarithmic scale"));
        }
        if log && due[1] == "to" && first <= 0.0 {
            return Err(BadValue::new(key("from"), first, "a positive number, with scale = \"log\""));
        }
        let (origin, slope) = match due[1] {
            "to" => {
                let (a, b) = if log { (first.ln(), second.ln()) } else { (first, second) };
                // The families are on [−1, 1], or on [0, 1].
                match family {
                    Family::Fourier | Family::Haar => (a, b - a),
                    _ => (0.5 * (a + b), 0.5 * (b - a)),
                }
            }
            _ => (first, second),
        };
        Ok(Variable { name: self.name.clone(), origin, slope, log })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variable(family: Family, text: &str) -> Result<Variable, String> {
        let spec: VariableSpec = toml::from_str(&format!("name = \"v\"\n{text}")).map_err(|e| e.to_string())?;
        scaled(&[spec], &[family]).map(|mut all| all.remove(0)).map_err(|e| e.to_string())
    }

    #[test]
    fn ends_and_moments_are_those_of_the_user_and_come_back() {
        for (family, text, at) in [
            (Family::Legendre, "from = 1e3\nto = 5e3", [(-1.0, 1e3), (1.0, 5e3), (0.0, 3e3)]),
            (Family::Haar, "from = 1.0\nto = 3.0", [(0.0, 1.0), (1.0, 3.0), (0.5, 2.0)]),
            (Family::Legendre, "from = 0.01\nto = 1.0\nscale = \"log\"", [(-1.0, 0.01), (1.0, 1.0), (0.0, 0.1)]),
            (Family::Hermite, "mean = 7.0\ndeviation = 0.5", [(0.0, 7.0), (2.0, 8.0), (-2.0, 6.0)]),
            (Family::Laguerre { alpha: 0.0 }, "from = 1.0\nunit = 2.0", [(0.0, 1.0), (1.0, 3.0), (2.0, 5.0)]),
        ] {
            let variable = variable(family, text).unwrap();
            for (x, y) in at {
                assert!((variable.value(x) - y).abs() < 1e-12 * y, "{text}: {x}");
                assert!((variable.reference(y) - x).abs() < 1e-12, "{text}: {y}");
                let h = 1e-6;
                let slope = (variable.value(x + h) - variable.value(x - h)) / (2.0 * h);
                assert!((variable.slope(x) / slope - 1.0).abs() < 1e-6, "{text}: {x}");
            }
        }
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_key() {
        for (family, text, words) in [
            (Family::Legendre, "from = 1.0", "problem.space.variables.0.to: missing"),
            (Family::Legendre, "from = 1.0\nto = 1.0", "problem.space.variables.0.to = 1: expected more than from = 1"),
            (Family::Legendre, "from = 0.0\nto = 1.0\nscale = \"log\"", "from = 0: expected a positive number"),
            (Family::Legendre, "mean = 1.0\ndeviation = 1.0", "variables.0.from: missing"),
            (Family::Hermite, "mean = 1.0\ndeviation = -1.0", "deviation = -1: expected a positive"),
            (Family::Hermite, "mean = 1.0\ndeviation = 1.0\nto = 3.0", "to: a hermite variable has no such key"),
            (Family::Laguerre { alpha: 0.0 }, "from = 1.0\nunit = inf", "unit = inf: expected a finite"),
        ] {
            let error = variable(family, text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
