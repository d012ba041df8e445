//! `conv`: the order of convergence, from runs of one problem on several grids.

use convoke_cluster::{Error, JobError};
use convoke_data::schema;
use convoke_data::store::Reader;
use serde::Serialize;
use serde_json::Value;

use super::array;
use super::number::short;
use super::perf::line;
use super::source::Source;
use super::summary::{rows, table};

/// A table of errors.
#[derive(Debug, Serialize)]
pub struct Convergence {
    /// Key of the job file.
    pub size: String,
    /// Name of the error.
    pub error: String,
    /// The runs, from coarse to fine.
    pub rows: Vec<Row>,
    /// Slope of log(error) against −log(n) through all rows, by least squares.
    pub order: Option<f64>,
}

/// A run.
#[derive(Debug, Serialize)]
pub struct Row {
    /// The path.
    pub run: String,
    /// Value of the key.
    pub n: f64,
    /// The error.
    pub error: f64,
    /// log(e₀/e) / log(n/n₀) with the row before.
    pub order: Option<f64>,
}

/// Reads the size and the error of every run.
///
/// # Errors
/// A job file without the key, a result without the error, a damaged file.
pub fn gather(sources: &[Source], size: &str, error: &str) -> Result<Convergence, Error> {
    let mut rows = Vec::new();
    for source in sources {
        let (n, e) = (size_of_grid(source, size)?, error_of(source, error)?);
        rows.push(Row { run: source.path.display().to_string(), n, error: e, order: None });
    }
    rows.sort_by(|a, b| a.n.total_cmp(&b.n));
    for k in 1..rows.len() {
        let order = (rows[k - 1].error / rows[k].error).ln() / (rows[k].n / rows[k - 1].n).ln();
        rows[k].order = order.is_finite().then_some(order);
    }
    let (x, y): (Vec<f64>, Vec<f64>) = rows.iter().map(|row| (-row.n.ln(), row.error.ln())).unzip();
    let order = line(&x, &y).map(|(slope, _)| slope).filter(|slope| slope.is_finite());
    Ok(Convergence { size: size.to_owned(), error: error.to_owned(), rows, order })
}

/// The number at a key such as `problem.axes.0.points`; of a list, the geometric mean.
fn size_of_grid(source: &Source, key: &str) -> Result<f64, Error> {
    let refuse = |message: String, help: String| -> Error {
        JobError::command_line(format!("--size {key}: {message} ({})", source.path.display()), help).into()
    };
    let job = match (&source.run, &source.file) {
        (Some(run), _) => Some(run.lock.resolved.clone()),
        (None, Some(file)) => file.read_text(schema::SPEC_TOML).ok().and_then(|text| toml::from_str(&text).ok()),
        (None, None) => None,
    };
    let Some(job) = job else {
        return Err(refuse("the file does not carry its job".to_owned(), "name run directories".to_owned()));
    };
    let mut value = &job;
    for part in key.split('.') {
        let inner = match value {
            Value::Array(items) => part.parse::<usize>().ok().and_then(|k| items.get(k)),
            other => other.get(part),
        };
        let Some(inner) = inner else {
            let known = match value {
                Value::Object(map) => map.keys().cloned().collect::<Vec<_>>().join(", "),
                Value::Array(items) => format!("0 to {}", items.len().saturating_sub(1)),
                _ => "nothing below".to_owned(),
            };
            return Err(refuse(format!("the job has no '{part}'"), format!("there is: {known}")));
        };
        value = inner;
    }
    let numbers: Option<Vec<f64>> = match value {
        Value::Array(items) => items.iter().map(Value::as_f64).collect(),
        one => one.as_f64().map(|n| vec![n]),
    };
    match numbers.filter(|n| !n.is_empty() && n.iter().all(|n| *n > 0.0)) {
        Some(n) => Ok(n.iter().product::<f64>().powf(1.0 / n.len() as f64)),
        None => Err(refuse(format!("{value} is no positive number"), "name a number, or a list of numbers".to_owned())),
    }
}

fn error_of(source: &Source, name: &str) -> Result<f64, Error> {
    let file = source.result()?;
    let figures = figures(file)?;
    if let Some(value) = figures.get(name).and_then(Value::as_f64) {
        return Ok(value);
    }
    let columns = array::columns(file)?;
    if let Some(last) = columns.iter().find(|(column, _)| column == name).and_then(|(_, values)| values.last()) {
        return Ok(*last);
    }
    let numbers = figures.iter().filter(|(_, v)| v.is_number()).map(|(name, _)| name.clone());
    let known: Vec<String> = numbers.chain(columns.into_iter().map(|(name, _)| name)).collect();
    let message =
        format!("--error {name}: no figure and no column of the history has this name ({})", file.path().display());
    Err(JobError::command_line(message, format!("there is: {}", known.join(", "))).into())
}

fn figures(file: &Reader) -> Result<serde_json::Map<String, Value>, Error> {
    Ok(if file.has(schema::RESULT) { array::attributes(file, schema::RESULT)? } else { serde_json::Map::new() })
}

impl Convergence {
    /// The table as text.
    pub fn text(&self) -> String {
        let mut t = table(&["run", &self.size, &self.error, "order"], &[1, 2, 3]);
        for row in &self.rows {
            let order = row.order.map_or(String::new(), |order| format!("{order:.2}"));
            t.add_row(vec![row.run.clone(), short(row.n), short(row.error), order]);
        }
        let fit = self.order.map_or("no order: an error is zero or not finite".to_owned(), |order| {
            format!("order {order:.2} (least squares through all rows)")
        });
        format!("{}\n  {fit}", rows(&t))
    }
}
