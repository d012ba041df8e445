//! What a sweep found: a row for each run, in one HDF5 file of columns.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use convoke_data::schema;
use convoke_data::store::{Attribute, Reader, Writer};
use serde::Serialize;
use toml::Value;

use super::{Outcome, RunId, State, SweepDir};
use crate::batch::Entry;
use crate::error::Result;
use crate::study::{Estimate, estimate};

/// Level of the confidence intervals.
const LEVEL: f64 = 0.95;
/// Columns of ours; a figure of the same name is called `figure_…`.
const OURS: [&str; 8] = ["run", "point", "replicate", "seed", "state", "exit", "attempts", "seconds"];

/// A run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// Its name.
    pub run: RunId,
    /// Values of the keys that vary.
    pub values: Vec<Value>,
    /// Seed of the job, where replicates set it.
    pub seed: Option<u64>,
    /// Where it stands.
    pub state: State,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// Figures of its result.
    pub figures: BTreeMap<String, f64>,
}

/// All runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Table {
    /// The keys that vary.
    pub keys: Vec<String>,
    /// The runs, point by point.
    pub rows: Vec<Row>,
    /// Runs of each point.
    pub replicates: u32,
}

/// Where the runs of a point lie, and what they say of each figure.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Estimates {
    /// Number of the point.
    pub point: u64,
    /// Figure and estimate.
    pub figures: BTreeMap<String, Estimate>,
}

impl Table {
    /// Reads the results that are there.
    ///
    /// # Errors
    /// A result that is damaged.
    pub fn gather(sweep: &SweepDir, queue: &[Entry]) -> Result<Self> {
        let row = |(run, state): (RunId, State)| {
            let figures =
                if state == State::Complete { figures(&sweep.run_dir(run).result())? } else { BTreeMap::new() };
            let values = sweep.points[run.point as usize].clone();
            Ok(Row { run, values, seed: sweep.seed(run), state, outcome: sweep.outcome(run), figures })
        };
        let rows = sweep.states(queue).into_iter().map(row).collect::<Result<_>>()?;
        Ok(Self { keys: sweep.lock.keys.clone(), rows, replicates: sweep.lock.replicates })
    }

    /// Names of all figures.
    pub fn figures(&self) -> Vec<String> {
        let all: BTreeSet<&String> = self.rows.iter().flat_map(|row| row.figures.keys()).collect();
        all.into_iter().cloned().collect()
    }

    /// For each point, mean and confidence interval of each figure over its complete replicates.
    pub fn estimates(&self) -> Vec<Estimates> {
        let figures = self.figures();
        let of = |rows: &[Row]| {
            let figure = |name: &String| {
                let values: Vec<f64> = rows.iter().filter_map(|row| row.figures.get(name).copied()).collect();
                (name.clone(), estimate(&values, LEVEL))
            };
            Estimates { point: rows[0].run.point, figures: figures.iter().map(figure).collect() }
        };
        self.rows.chunk_by(|a, b| a.run.point == b.run.point).map(of).collect()
    }

    /// Writes the table: groups `/table` (a row for each run) and, with replicates, `/estimates` (a row for each point).
    ///
    /// # Errors
    /// The disk.
    pub fn write(&self, path: &Path, provenance: &[(&str, String)], texts: [(&str, &str); 2]) -> Result<()> {
        let mut writer = Writer::create(path)?;
        for (name, value) in provenance {
            writer.attribute("/", name, value.as_str())?;
        }
        for (name, text) in texts {
            writer.text(name, text)?;
        }
        let mut table = Columns { writer: &mut writer, group: "/table", axis: "row", n: self.rows.len() };
        table.index()?;
        table.texts("run", self.rows.iter().map(|r| r.run.to_string()))?;
        table.numbers("point", self.rows.iter().map(|r| r.run.point as f64))?;
        if self.replicates > 1 {
            table.numbers("replicate", self.rows.iter().map(|r| f64::from(r.run.replicate.unwrap_or(0))))?;
            let seeds: Vec<u64> = self.rows.iter().map(|r| r.seed.unwrap_or(0)).collect();
            table.column("seed", &seeds)?;
        }
        for (k, key) in self.keys.iter().enumerate() {
            table.values(key, self.rows.iter().map(|row| &row.values[k]))?;
        }
        table.texts("state", self.rows.iter().map(|r| r.state.word().to_owned()))?;
        let told = |of: fn(&Outcome) -> f64| move |r: &Row| r.outcome.as_ref().map_or(f64::NAN, of);
        table.numbers("exit", self.rows.iter().map(told(|o| f64::from(o.exit))))?;
        table.numbers("attempts", self.rows.iter().map(told(|o| f64::from(o.attempts))))?;
        table.numbers("seconds", self.rows.iter().map(told(|o| o.seconds)))?;
        for figure in self.figures() {
            let value = |row: &Row| row.figures.get(&figure).copied().unwrap_or(f64::NAN);
            table.numbers(&named(&figure), self.rows.iter().map(value))?;
        }
        if self.replicates > 1 {
            self.write_estimates(&mut writer)?;
        }
        writer.commit_replace()?;
        Ok(())
    }

    fn write_estimates(&self, writer: &mut Writer) -> Result<()> {
        let estimates = self.estimates();
        let mut table = Columns { writer, group: "/estimates", axis: "point", n: estimates.len() };
        table.index()?;
        let of_point: Vec<&Row> = self.rows.iter().step_by(self.replicates as usize).collect();
        for (k, key) in self.keys.iter().enumerate() {
            table.values(key, of_point.iter().map(|row| &row.values[k]))?;
        }
        type Part = (&'static str, fn(&Estimate) -> f64);
        let parts: [Part; 5] = [
            ("", |e| e.mean),
            ("_low", |e| e.low),
            ("_high", |e| e.high),
            ("_deviation", |e| e.deviation),
            ("_n", |e| e.n as f64),
        ];
        for figure in self.figures() {
            for (suffix, part) in parts {
                let column = estimates.iter().map(|e| part(&e.figures[&figure]));
                table.numbers(&format!("{}{suffix}", named(&figure)), column)?;
            }
        }
        Ok(())
    }
}

fn named(figure: &str) -> String {
    if OURS.contains(&figure) { format!("figure_{figure}") } else { figure.replace('/', "_") }
}

/// Numbers of a result: what it says of itself, and the last row of its history.
fn figures(path: &Path) -> Result<BTreeMap<String, f64>> {
    let file = Reader::open(path)?;
    let mut figures = BTreeMap::new();
    for entry in file.list()? {
        let Some(name) = entry.name.strip_prefix(schema::HISTORY).and_then(|n| n.strip_prefix('/')) else { continue };
        if let [n] = entry.shape[..]
            && n > 0
            && let [last] = file.read_slab::<f64>(&entry.name, &[n - 1], &[1])?[..]
        {
            figures.insert(name.to_owned(), last);
        }
    }
    if file.has(schema::RESULT) {
        for name in file.attribute_names(schema::RESULT)? {
            if let Some(value) = file.attribute(schema::RESULT, &name)?.as_ref().and_then(Attribute::as_f64) {
                figures.insert(name, value);
            }
        }
    }
    Ok(figures)
}

/// Columns of one length that share an axis.
struct Columns<'a> {
    writer: &'a mut Writer,
    group: &'static str,
    axis: &'static str,
    n: usize,
}

impl Columns<'_> {
    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.group)
    }

    /// The axis itself.
    fn index(&mut self) -> Result<()> {
        let values: Vec<i64> = (0..self.n as i64).collect();
        let path = self.path(self.axis);
        Ok(self.writer.whole(&path, &[self.n], &values)?)
    }

    fn on_axis(&mut self, path: &str) -> Result<()> {
        let axis = self.path(self.axis);
        Ok(self.writer.scale(path, 0, &axis, self.axis)?)
    }

    fn column<T: convoke_data::store::Element>(&mut self, name: &str, values: &[T]) -> Result<()> {
        let path = self.path(name);
        self.writer.whole(&path, &[self.n], values)?;
        self.on_axis(&path)
    }

    fn numbers(&mut self, name: &str, values: impl Iterator<Item = f64>) -> Result<()> {
        let values: Vec<f64> = values.collect();
        // Counts stay counts where nothing is missing.
        if values.iter().all(|v| v.fract() == 0.0 && v.abs() < 1e15) && OURS.contains(&name) {
            return self.column(name, &values.iter().map(|v| *v as i64).collect::<Vec<_>>());
        }
        self.column(name, &values)
    }

    fn texts(&mut self, name: &str, values: impl Iterator<Item = String>) -> Result<()> {
        let path = self.path(name);
        self.writer.texts(&path, &values.collect::<Vec<_>>())?;
        self.on_axis(&path)
    }

    /// In the narrowest type that holds all of them.
    fn values<'v>(&mut self, name: &str, values: impl Iterator<Item = &'v Value>) -> Result<()> {
        let values: Vec<&Value> = values.collect();
        let whole: Option<Vec<i64>> = values.iter().map(|v| v.as_integer()).collect();
        if let Some(whole) = whole {
            return self.column(name, &whole);
        }
        let numbers: Option<Vec<f64>> =
            values.iter().map(|v| v.as_float().or(v.as_integer().map(|n| n as f64))).collect();
        if let Some(numbers) = numbers {
            return self.column(name, &numbers);
        }
        let text = |v: &&Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
        self.texts(name, values.iter().map(text).collect::<Vec<_>>().into_iter())
    }
}
