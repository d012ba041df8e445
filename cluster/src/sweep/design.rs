//! The sweep file: which keys of a job file vary and how, and the points that follow from it.
//!
//! ```toml
//! schema = 1
//! name = "resolution"
//! job = "heat.toml"          # the job file; every point is this job with some keys set
//! design = "grid"            # or "list", "sobol", "random", "file"
//! [[vary]]
//! key = "problem.points"
//! values = [16, 32, 64]
//! [[vary]]
//! key = "problem.tolerance"
//! from = 1e-6
//! to = 1e-2
//! steps = 5
//! scale = "log"
//! ```

use std::path::PathBuf;

use convoke_kernels::Philox;
use serde::{Deserialize, Serialize};
use toml::Value;

use crate::job::{BadValue, JobError, JobText, SCHEMA};

/// Most runs of one sweep.
pub const MAX_ROWS: u64 = 100_000;
/// What the Sobol' generator offers.
const SOBOL: (u64, usize) = (1 << 16, 256);

/// A sweep file.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sweep {
    /// Version of the format, [`SCHEMA`].
    pub schema: u32,
    /// Name of the sweep: lower-case letters, digits and `-`, at most 40.
    pub name: String,
    /// The job file that every point changes, relative to the sweep file.
    pub job: PathBuf,
    /// How points follow from the axes.
    #[serde(default)]
    pub design: Design,
    /// Number of points of a Sobol' or random design.
    pub points: Option<u64>,
    /// Where the points of a `file` design are, relative to the sweep file: comma-separated values whose header names the keys,
    /// or the result of a design (a run directory or its `result.h5`).
    pub file: Option<PathBuf>,
    /// Put in front of the names in that file, with a dot: the table of the job file that holds the keys.
    #[serde(rename = "in")]
    pub table: Option<String>,
    /// Seed of a Sobol' or random design, and of the replicates.
    #[serde(default)]
    pub seed: u64,
    /// How often each point is run, each time with another seed of the job.
    #[serde(default = "one")]
    pub replicates: u32,
    /// How many runs work at once, at most.
    pub max_parallel: Option<u64>,
    /// The axes; the last one varies fastest in a grid.
    #[serde(default)]
    pub vary: Vec<Vary>,
}

fn one() -> u32 {
    1
}

/// How points follow from the axes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Design {
    /// All combinations.
    #[default]
    Grid,
    /// The first values of all axes, then the second, …
    List,
    /// Owen-scrambled Sobol' points: fill the box evenly, for any number of points.
    Sobol,
    /// Independent uniform points.
    Random,
    /// The points of a file.
    File,
}

/// One key of the job file, and what it takes.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vary {
    /// Dotted key, numbers for the items of lists: `problem.axes.0.points`.
    pub key: String,
    /// Its values, of any type.
    #[serde(default)]
    pub values: Vec<Value>,
    /// The smallest value; with a whole number at both ends, all values are whole.
    pub from: Option<Value>,
    /// The largest value.
    pub to: Option<Value>,
    /// Number of values of a grid, both ends included.
    pub steps: Option<u32>,
    /// How values lie between the ends.
    #[serde(default)]
    pub scale: Scale,
}

/// How values lie between the ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scale {
    /// Evenly.
    #[default]
    Linear,
    /// Their logarithms evenly.
    Log,
}

/// A point: a value for each axis.
pub type Point = Vec<Value>;

impl Sweep {
    /// Reads and checks a sweep file.
    ///
    /// # Errors
    /// [`JobError`] with line and column.
    pub fn read(text: &JobText) -> Result<Self, JobError> {
        let sweep: Self = text.read_toml()?;
        sweep.check().map_err(|bad| text.bad(&bad))?;
        Ok(sweep)
    }

    /// The keys that the axes name.
    pub fn keys(&self) -> Vec<String> {
        self.vary.iter().map(|v| v.key.clone()).collect()
    }

    fn check(&self) -> Result<(), BadValue> {
        if self.schema != SCHEMA {
            return Err(BadValue::new("schema", self.schema, SCHEMA));
        }
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if self.name.is_empty() || self.name.len() > 40 || self.name.starts_with('-') || !self.name.chars().all(plain) {
            let expected = "1 to 40 lower-case letters, digits and '-', not starting with '-'";
            return Err(BadValue::new("name", format!("{:?}", self.name), expected));
        }
        if self.max_parallel == Some(0) {
            return Err(BadValue::new("max_parallel", 0, "at least 1"));
        }
        let of_file = self.design == Design::File;
        let foreign = [("file", self.file.is_some() && !of_file), ("in", self.table.is_some() && !of_file)];
        if let Some((key, _)) = foreign.iter().find(|(_, there)| *there) {
            return Err(BadValue::wrong(*key, "only design = \"file\" has it"));
        }
        if of_file && self.file.is_none() {
            return Err(BadValue::wrong("design", "a file design needs `file`: a CSV file, or a run directory"));
        }
        if of_file && !self.vary.is_empty() {
            return Err(BadValue::wrong("vary", "the file says what varies").help("leave it out, or design = \"grid\""));
        }
        if self.vary.is_empty() && self.replicates < 2 && !of_file {
            return Err(BadValue::wrong("vary", "nothing varies").help("add a [[vary]], or replicates = 10"));
        }
        for (i, vary) in self.vary.iter().enumerate() {
            vary.check(i, self.design)?;
            if self.vary[..i].iter().any(|other| other.key == vary.key) {
                return Err(BadValue::wrong(format!("vary[{i}].key"), format!("{:?} varies already", vary.key)));
            }
            if self.replicates > 1 && vary.key == "seed" {
                let help = "leave the seed to the replicates, or replicates = 1";
                return Err(BadValue::wrong(format!("vary[{i}].key"), "replicates set the seed").help(help));
            }
        }
        let sampled = matches!(self.design, Design::Sobol | Design::Random);
        match self.points {
            Some(_) if !sampled => {
                let help = "leave it out, or design = \"sobol\"";
                return Err(BadValue::wrong("points", "the axes say how many points there are").help(help));
            }
            None | Some(0) if sampled => return Err(BadValue::wrong("points", "expected their number, at least 1")),
            _ => {}
        }
        if self.design == Design::Sobol {
            if self.points > Some(SOBOL.0) {
                return Err(BadValue::new("points", self.points.unwrap_or(0), format!("at most {}", SOBOL.0))
                    .help("design = \"random\" takes more"));
            }
            if self.vary.len() > SOBOL.1 {
                return Err(BadValue::new("vary", self.vary.len(), format!("at most {} axes", SOBOL.1)));
            }
        }
        if self.design == Design::List
            && let Some(i) = self.vary.iter().position(|v| v.values.len() != self.vary[0].values.len())
        {
            let expected = format!("as many as the first axis has: {}", self.vary[0].values.len());
            return Err(BadValue::new(format!("vary[{i}].values"), self.vary[i].values.len(), expected));
        }
        let rows = self.count().saturating_mul(u64::from(self.replicates));
        if self.replicates == 0 || rows > MAX_ROWS {
            return Err(BadValue::wrong(
                "replicates",
                format!("{} points of {} replicates: expected 1 to {MAX_ROWS} runs", self.count(), self.replicates),
            ));
        }
        Ok(())
    }

    /// Number of points that the axes give.
    pub fn count(&self) -> u64 {
        match self.design {
            Design::Grid => self.vary.iter().fold(1, |all: u64, v| all.saturating_mul(v.len())),
            Design::List => self.vary.first().map_or(1, Vary::len),
            Design::Sobol | Design::Random => self.points.unwrap_or(0),
            Design::File => 0,
        }
    }

    /// The points that the axes give.
    pub fn points(&self) -> Vec<Point> {
        let axes: Vec<Vec<Value>> = self.vary.iter().map(Vary::levels).collect();
        let point = |i: u64| match self.design {
            Design::Grid => {
                let mut rest = i as usize;
                let mut point: Point = Vec::with_capacity(axes.len());
                for levels in axes.iter().rev() {
                    point.push(levels[rest % levels.len()].clone());
                    rest /= levels.len();
                }
                point.reverse();
                point
            }
            Design::List => axes.iter().map(|levels| levels[i as usize].clone()).collect(),
            Design::Sobol => {
                let seed = (self.seed ^ self.seed >> 32) as u32;
                let unit = |axis: usize| f64::from(sobol_burley::sample(i as u32, axis as u32, seed));
                self.vary.iter().enumerate().map(|(axis, v)| v.at(unit(axis))).collect()
            }
            Design::File => Point::new(),
            Design::Random => {
                let unit = |axis: usize| Philox::new(self.seed, axis as u64).uniform(i);
                self.vary.iter().enumerate().map(|(axis, v)| v.at(unit(axis))).collect()
            }
        };
        (0..self.count()).map(point).collect()
    }
}

impl Vary {
    fn check(&self, i: usize, design: Design) -> Result<(), BadValue> {
        let key = |name: &str| format!("vary[{i}].{name}");
        if let Some(expected) = wrong_key(&self.key) {
            return Err(BadValue::new(key("key"), format!("{:?}", self.key), expected));
        }
        let ends = match (&self.from, &self.to) {
            (None, None) => None,
            (Some(from), Some(to)) => Some((from, to)),
            _ => return Err(BadValue::wrong(key("key"), "expected both `from` and `to`, or `values`")),
        };
        match (self.values.is_empty(), ends) {
            (true, None) => Err(BadValue::wrong(key("key"), "expected `values`, or `from` and `to`")),
            (false, Some(_)) => Err(BadValue::wrong(key("values"), "expected `values`, or `from` and `to`, not both")),
            (false, None) if self.steps.is_some() => {
                Err(BadValue::wrong(key("steps"), "`values` says how many there are"))
            }
            (false, None) => Ok(()),
            (true, Some((from, to))) => {
                let (Some(low), Some(high)) = (number(from), number(to)) else {
                    return Err(BadValue::wrong(key("from"), "expected numbers for `from` and `to`"));
                };
                let span = high - low;
                if !(span > 0.0 && span.is_finite()) {
                    return Err(BadValue::new(key("to"), to, format!("more than from = {from}")));
                }
                if self.scale == Scale::Log && low <= 0.0 {
                    return Err(BadValue::new(key("from"), from, "more than 0 on a logarithmic scale"));
                }
                self.check_steps(i, design)
            }
        }
    }

    fn check_steps(&self, i: usize, design: Design) -> Result<(), BadValue> {
        let key = |name: &str| format!("vary[{i}].{name}");
        match (design, self.steps) {
            (Design::Grid, None) => Err(BadValue::wrong(key("from"), "expected `steps` beside it, or `values`")),
            (Design::Grid, Some(steps)) if !(2..=MAX_ROWS as u32).contains(&steps) => {
                Err(BadValue::new(key("steps"), steps, format!("2 to {MAX_ROWS}")))
            }
            (Design::Grid, Some(steps)) => {
                let levels = self.levels();
                if levels.windows(2).any(|pair| pair[0] == pair[1]) {
                    return Err(BadValue::new(key("steps"), steps, "fewer: whole numbers between the ends come twice"));
                }
                Ok(())
            }
            (Design::List, _) => Err(BadValue::wrong(key("from"), "a list design takes `values`")),
            (_, Some(_)) => Err(BadValue::wrong(key("steps"), "only a grid has steps; `points` says how many points")),
            (_, None) => Ok(()),
        }
    }

    fn len(&self) -> u64 {
        self.steps.map_or(self.values.len() as u64, u64::from)
    }

    /// All values of a grid or list.
    fn levels(&self) -> Vec<Value> {
        let Some(steps) = self.steps.filter(|n| *n > 1) else { return self.values.clone() };
        let last = steps - 1;
        // The ends are exact.
        let ends = [(0, &self.from), (last, &self.to)];
        let end = |k: u32| ends.iter().find(|(i, _)| *i == k).and_then(|(_, v)| v.as_ref()).map(|v| self.like(v));
        let step = |k: u32| plain(self.between(f64::from(k) / f64::from(last), false));
        (0..steps).map(|k| end(k).unwrap_or_else(|| step(k))).collect()
    }

    /// The value at a part of the way, 0 to 1 (excluded).
    fn at(&self, unit: f64) -> Value {
        match self.values.len() {
            0 => self.between(unit, true),
            n => self.values[((unit * n as f64) as usize).min(n - 1)].clone(),
        }
    }

    /// `cells`: every whole number stands for an equal part of the way, else for what is nearest to it.
    fn between(&self, part: f64, cells: bool) -> Value {
        let end = |v: &Option<Value>| v.as_ref().and_then(number).unwrap_or(0.0);
        let (low, high) = (end(&self.from), end(&self.to));
        let half = if cells && self.is_whole() && self.scale == Scale::Linear { 0.5 } else { 0.0 };
        let value = match self.scale {
            Scale::Linear => low - half + part * (high - low + 2.0 * half),
            Scale::Log => low * (high / low).powf(part),
        };
        if self.is_whole() {
            return Value::Integer((value.round() as i64).clamp(low as i64, high as i64));
        }
        Value::Float(value.clamp(low, high))
    }

    fn is_whole(&self) -> bool {
        matches!((&self.from, &self.to), (Some(Value::Integer(_)), Some(Value::Integer(_))))
    }

    /// An end in the type of the axis.
    fn like(&self, end: &Value) -> Value {
        match end {
            Value::Integer(n) if !self.is_whole() => Value::Float(*n as f64),
            other => other.clone(),
        }
    }
}

/// What was expected of a key that cannot vary.
pub(super) fn wrong_key(key: &str) -> Option<&'static str> {
    if key.split('.').any(|p| p.is_empty() || p.contains(['"', '\'', '[', ']', '\n', '\\'])) {
        return Some("a dotted key of the job file, such as \"problem.points\" or \"problem.axes.0.points\"");
    }
    matches!(key, "schema" | "name" | "workload").then_some("any key but schema, name, workload")
}

/// 0.3 for 0.30000000000000004: steps of a grid are for people.
fn plain(value: Value) -> Value {
    match value {
        Value::Float(number) => Value::Float(format!("{number:.12e}").parse().unwrap_or(number)),
        other => other,
    }
}

fn number(value: &Value) -> Option<f64> {
    let number = value.as_float().or(value.as_integer().map(|n| n as f64))?;
    number.is_finite().then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sweep(rest: &str) -> Result<Sweep, String> {
        let text = format!("schema = 1\nname = \"s\"\njob = \"j.toml\"\n{rest}");
        Sweep::read(&JobText { path: "s.toml".into(), text }).map_err(|e| e.to_string())
    }

    fn shown(points: &[Point]) -> Vec<String> {
        points.iter().map(|p| p.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")).collect()
    }

    #[test]
    fn a_grid_has_all_combinations_with_exact_ends() {
        let grid = "[[vary]]\nkey = \"a\"\nvalues = [\"x\", 2]\n\
                    [[vary]]\nkey = \"b.0.c\"\nfrom = 0.1\nto = 10\nsteps = 3\nscale = \"log\"";
        let points = shown(&sweep(grid).unwrap().points());
        assert_eq!(points.len(), 6);
        assert_eq!((points[0].as_str(), points[5].as_str()), ("\"x\" 0.1", "2 10.0"));
        assert_eq!(points[1], "\"x\" 1.0");
        let whole = sweep("[[vary]]\nkey = \"n\"\nfrom = 8\nto = 64\nsteps = 4\nscale = \"log\"").unwrap();
        assert_eq!(shown(&whole.points()), ["8", "16", "32", "64"]);
    }

    #[test]
    fn a_list_goes_through_its_axes_together() {
        let list =
            "design = \"list\"\n[[vary]]\nkey = \"a\"\nvalues = [1, 2]\n[[vary]]\nkey = \"b\"\nvalues = [3.5, 4.5]";
        assert_eq!(shown(&sweep(list).unwrap().points()), ["1 3.5", "2 4.5"]);
    }

    /// The first 2^k scrambled Sobol' points put one point into each dyadic interval of each axis, and in the first two
    /// axes one into each dyadic box of volume 2^-k: a (0, k, 2)-net, which random points practically never are.
    #[test]
    fn sobol_points_are_a_net() {
        let text = |design: &str| {
            format!(
                "design = \"{design}\"\npoints = 64\nseed = 5\n\
                 [[vary]]\nkey = \"x\"\nfrom = 0.0\nto = 1.0\n[[vary]]\nkey = \"y\"\nfrom = 0.0\nto = 1.0"
            )
        };
        let is_net = |points: &[Point]| {
            (0..=6).all(|k: i32| {
                let (rows, cols) = (f64::from(1 << k), f64::from(1 << (6 - k)));
                let cell = |p: &Point| {
                    let [x, y] = [0, 1].map(|i: usize| p[i].as_float().unwrap());
                    ((x * rows) as u32, (y * cols) as u32)
                };
                points.iter().map(cell).collect::<std::collections::HashSet<_>>().len() == 64
            })
        };
        assert!(is_net(&sweep(&text("sobol")).unwrap().points()));
        assert!(!is_net(&sweep(&text("random")).unwrap().points()));
    }

    #[test]
    fn sampled_values_are_uniform_over_what_they_may_be() {
        let text = "design = \"random\"\npoints = 30000\n[[vary]]\nkey = \"n\"\nfrom = 3\nto = 5\n\
                    [[vary]]\nkey = \"v\"\nvalues = [\"a\", \"b\", \"c\"]\n\
                    [[vary]]\nkey = \"t\"\nfrom = 1e-4\nto = 1.0\nscale = \"log\"";
        let points = sweep(text).unwrap().points();
        // Five standard deviations of a binomial count.
        let near = |count: usize, p: f64| {
            let (n, count) = (points.len() as f64, count as f64);
            assert!((count - n * p).abs() < 5.0 * (n * p * (1.0 - p)).sqrt(), "{count} of {n}, expected {p}");
        };
        for k in 0..3 {
            near(points.iter().filter(|p| p[0] == Value::Integer(3 + k)).count(), 1.0 / 3.0);
            let name = ["a", "b", "c"][k as usize];
            near(points.iter().filter(|p| p[1].as_str() == Some(name)).count(), 1.0 / 3.0);
        }
        near(points.iter().filter(|p| p[2].as_float().unwrap() < 1e-2).count(), 0.5);
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_line() {
        let vary = |rest: &str| format!("[[vary]]\nkey = \"a\"\n{rest}");
        for (rest, words) in [
            ("vary = []".to_owned(), "nothing varies"),
            (vary(""), "s.toml:5:7: vary[0].key: expected `values`, or `from` and `to`"),
            (vary("from = 1"), "expected both `from` and `to`"),
            (vary("from = 1\nto = 2"), "expected `steps` beside it"),
            (vary("from = 1\nto = 3\nsteps = 9"), "vary[0].steps = 9: expected fewer"),
            (vary("from = 2\nto = 1\nsteps = 3"), "vary[0].to = 1: expected more than from = 2"),
            (vary("from = 0\nto = 1\nsteps = 3\nscale = \"log\""), "more than 0 on a logarithmic scale"),
            (vary("values = [1]\nsteps = 1"), "`values` says how many"),
            (vary("values = [1]\nfrom = 1\nto = 2"), "not both"),
            (vary("value = [1]"), "unknown field `value`"),
            (format!("points = 3\n{}", vary("values = [1]")), "s.toml:4:10: points: the axes say"),
            (format!("design = \"sobol\"\n{}", vary("from = 1\nto = 2")), "points: expected their number"),
            (format!("design = \"sobol\"\npoints = 70000\n{}", vary("from = 1\nto = 2")), "at most 65536"),
            (format!("replicates = 5\n{}", vary("values = [1]").replace("\"a\"", "\"seed\"")), "replicates set"),
            (format!("replicates = 60000\n{}", vary("values = [1, 2]")), "expected 1 to 100000 runs"),
            (format!("{}\n{}", vary("values = [1]"), vary("values = [1]")), "varies already"),
            (vary("values = [1]").replace("\"a\"", "\"a..b\""), "a dotted key of the job file"),
            (vary("values = [1]").replace("\"a\"", "\"workload\""), "any key but"),
        ] {
            let error = sweep(&rest).expect_err(&rest);
            assert!(error.contains(words), "{rest}\n{error}");
        }
    }
}
