//! The values at the points of a design: from a sweep, whatever of it is done, or from a table.

use std::path::Path;

use convoke_cluster::sweep::{State, SweepDir, Table};
use convoke_cluster::{Error, Result};
use convoke_data::DataError;
use convoke_data::formats::table::Table as Csv;

use crate::dpp::spec::variable::Variable;

/// Distance in the families' variables (relative, where they are large) below which two points are one: numbers that were
/// printed with ten digits.
const SAME: f64 = 1e-9;

/// What is known of the points of a design.
#[derive(Debug, Clone, PartialEq)]
pub struct Values {
    /// For each point the values of all outputs, or why there are none.
    pub of: Vec<std::result::Result<Vec<f64>, String>>,
}

/// A row of what was told, in the user's units.
struct Told {
    /// Where it stands, for people.
    place: String,
    point: Vec<f64>,
    values: std::result::Result<Vec<f64>, String>,
}

impl Values {
    /// The values of `outputs` at `points` (`[n, d]`, as the families have them), from what lies at `path`; without outputs only
    /// whether a run is complete or a row there.
    ///
    /// # Errors
    /// Data errors: a file that cannot be read, a row that is no point of the design or tells one twice, a value that is no number.
    pub fn read(path: &Path, points: &[f64], variables: &[Variable], outputs: &[String]) -> Result<Self> {
        let told =
            if path.is_dir() { of_sweep(path, variables, outputs)? } else { of_table(path, variables, outputs)? };
        let d = variables.len();
        let wrong = |detail: String| Error::from(DataError::InvalidValue { path: path.to_owned(), detail });
        let places = Places::new(points, d);
        let mut of: Vec<_> = vec![Err("nothing was told of it".to_owned()); points.len() / d];
        let mut by: Vec<Option<String>> = vec![None; of.len()];
        for row in told {
            let x: Vec<f64> = row.point.iter().zip(variables).map(|(y, variable)| variable.reference(*y)).collect();
            let Some(i) = places.find(&x) else {
                let named = |(v, y): (&Variable, &f64)| format!("{} = {y}", v.name);
                let at: Vec<String> = variables.iter().zip(&row.point).map(named).collect();
                let detail = format!("{} is no point of the design ({})", row.place, at.join(", "));
                return Err(wrong(format!("{detail}; are all designs named, and have the numbers ten digits?")));
            };
            if let Some(first) = &by[i] {
                return Err(wrong(format!("{} and {first} are the same point; a point has one value", row.place)));
            }
            by[i] = Some(row.place);
            of[i] = row.values;
        }
        Ok(Self { of })
    }

    /// Numbers of the points with values.
    pub fn known(&self) -> Vec<usize> {
        (0..self.of.len()).filter(|i| self.of[*i].is_ok()).collect()
    }

    /// How many points have none, and why, the most frequent reason first.
    pub fn missing(&self) -> Option<String> {
        let mut reasons: Vec<(&str, usize)> = Vec::new();
        for why in self.of.iter().filter_map(|v| v.as_ref().err()) {
            match reasons.iter_mut().find(|(reason, _)| reason == why) {
                Some((_, count)) => *count += 1,
                None => reasons.push((why, 1)),
            }
        }
        reasons.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let all: usize = reasons.iter().map(|(_, count)| count).sum();
        let shown: Vec<String> = reasons.iter().take(3).map(|(why, count)| format!("{count}: {why}")).collect();
        (all > 0).then(|| format!("{all} of {} points have no value ({})", self.of.len(), shown.join("; ")))
    }
}

/// Points, sorted by their first coordinate.
struct Places<'a> {
    points: &'a [f64],
    d: usize,
    order: Vec<usize>,
}

impl<'a> Places<'a> {
    fn new(points: &'a [f64], d: usize) -> Self {
        let mut order: Vec<usize> = (0..points.len() / d).collect();
        order.sort_by(|a, b| points[a * d].total_cmp(&points[b * d]));
        Self { points, d, order }
    }

    fn find(&self, x: &[f64]) -> Option<usize> {
        let slack = |v: f64| SAME * v.abs().max(1.0);
        let first = |i: &usize| self.points[i * self.d];
        let start = self.order.partition_point(|i| first(i) < x[0] - slack(x[0]));
        let near = self.order[start..].iter().take_while(|i| first(i) <= x[0] + slack(x[0]));
        let same = |i: &&usize| {
            let point = &self.points[*i * self.d..(*i + 1) * self.d];
            point.iter().zip(x).all(|(a, b)| (a - b).abs() <= slack(*b))
        };
        near.copied().find(|i| same(&i))
    }
}

/// What the runs of a sweep have found so far.
fn of_sweep(path: &Path, variables: &[Variable], outputs: &[String]) -> Result<Vec<Told>> {
    let sweep = SweepDir::open(path)?;
    let table = Table::gather(&sweep, &[])?;
    let wrong = |detail: String| Error::from(DataError::InvalidValue { path: path.to_owned(), detail });
    if table.replicates > 1 {
        return Err(wrong(format!("a sweep of {} replicates; a fit takes one value for each point", table.replicates)));
    }
    let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
    let place = |variable: &Variable| {
        let found = table.keys.iter().position(|key| last(key) == variable.name);
        found.ok_or_else(|| {
            wrong(format!("{} does not vary in this sweep; {} do", variable.name, table.keys.join(", ")))
        })
    };
    let places: Vec<usize> = variables.iter().map(place).collect::<Result<_>>()?;
    let mut told = Vec::with_capacity(table.rows.len());
    for row in &table.rows {
        let number = |place: &usize| match &row.values[*place] {
            toml::Value::Float(v) => Ok(*v),
            toml::Value::Integer(v) => Ok(*v as f64),
            other => Err(wrong(format!("point {}: {other} is no number", row.run))),
        };
        let point = places.iter().map(number).collect::<Result<_>>()?;
        let why = row.outcome.as_ref().map(|o| o.why.as_str()).filter(|why| !why.is_empty());
        let values = match row.state {
            State::Complete => {
                let of = |name: &String| match row.figures.get(name) {
                    Some(v) if v.is_finite() => Ok(*v),
                    Some(v) => Err(wrong(format!("point {}: {name} is {v}", row.run))),
                    None => {
                        let known: Vec<&str> = row.figures.keys().map(String::as_str).collect();
                        Err(wrong(format!("point {} has no {name}; its figures are {}", row.run, known.join(", "))))
                    }
                };
                Ok(outputs.iter().map(of).collect::<Result<_>>()?)
            }
            state => Err(why.map_or_else(|| state.word().to_owned(), |why| format!("{}: {why}", state.word()))),
        };
        told.push(Told { place: format!("point {}", row.run), point, values });
    }
    Ok(told)
}

/// What a table tells: a column for each variable and each output; an empty cell is a value that is not there.
fn of_table(path: &Path, variables: &[Variable], outputs: &[String]) -> Result<Vec<Told>> {
    let table = Csv::read(path)?;
    let points: Vec<usize> = variables.iter().map(|v| table.column(&v.name)).collect::<Result<_, _>>()?;
    let values: Vec<usize> = outputs.iter().map(|name| table.column(name)).collect::<Result<_, _>>()?;
    let mut told = Vec::with_capacity(table.rows.len());
    for (line, cells) in &table.rows {
        let number = |column: &usize| -> Result<f64> {
            let (name, text) = (&table.columns[*column], &cells[*column]);
            let value = text.parse().ok().filter(|v: &f64| v.is_finite());
            Ok(value.ok_or_else(|| table.wrong(format!("line {line}, column {name}: {text:?} is no finite number")))?)
        };
        let point = points.iter().map(number).collect::<Result<_>>()?;
        // Where no outputs are named, all that is there are its values.
        let empty = match values.is_empty() {
            true => cells.iter().any(String::is_empty),
            false => values.iter().any(|column| cells[*column].is_empty()),
        };
        let values = if empty {
            Err("its cell is empty".to_owned())
        } else {
            Ok(values.iter().map(number).collect::<Result<_>>()?)
        };
        told.push(Told { place: format!("line {line}"), point, values });
    }
    Ok(told)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dpp::spec::variable::plain;

    fn read(csv: &str) -> std::result::Result<Values, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("v.csv");
        std::fs::write(&path, csv).unwrap();
        let points = [0.125, 0.5, 0.125, -0.5, 1.0 / 3.0, 0.0];
        Values::read(&path, &points, &plain(2), &["y".to_owned(), "z".to_owned()]).map_err(|e| e.to_string())
    }

    #[test]
    fn rows_find_their_points_in_any_order() {
        let values = read("z,note,x2,x1,y\n30,a,0,0.33333333333,3\n,b,-0.5,0.125,2\n10,c,0.5,0.125,1\n").unwrap();
        assert_eq!(values.of[0], Ok(vec![1.0, 10.0]));
        assert_eq!(values.of[2], Ok(vec![3.0, 30.0]));
        assert_eq!(values.known(), [0, 2]);
        assert_eq!(values.missing().unwrap(), "1 of 3 points have no value (1: its cell is empty)");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("v.csv");
        std::fs::write(&path, "x1,x2,y\n0.125,0.5,1\n0.125,-0.5,\n").unwrap();
        let unnamed = Values::read(&path, &[0.125, 0.5, 0.125, -0.5], &plain(2), &[]).unwrap();
        assert_eq!(unnamed.known(), [0], "an empty cell is no value, whatever its column is called");
        let partial = read("x1,x2,y,z\n0.125,0.5,1,2\n").unwrap();
        assert_eq!(partial.missing().unwrap(), "2 of 3 points have no value (2: nothing was told of it)");
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_line() {
        for (csv, words) in [
            ("x1,x2,y,z\n0.125,0.5,1,2\n0.125,0.5,1,2\n", "line 3 and line 2 are the same point"),
            ("x1,x2,y,z\n0.125,0.51,1,2\n", "line 2 is no point of the design (x1 = 0.125, x2 = 0.51)"),
            ("x1,x2,y,z\n0.125,0.5,nan,2\n", "line 2, column y: \"nan\" is no finite number"),
            ("x1,x2,y,z\n0.125,0.5,1,two\n", "line 2, column z: \"two\" is no finite number"),
            ("x1,x2,y\n", "no column z; found x1,x2,y"),
            ("x1,y,z\n", "no column x2"),
        ] {
            let error = read(csv).unwrap_err();
            assert!(error.contains(words), "{csv:?}: {error}");
        }
    }
}
