//! Noisy measurements of the solution at scattered points: from files, or drawn from a manufactured solution.

use std::path::Path;

use convoke_cluster::workload::Inputs;
use convoke_cluster::{BadValue, Result};
use convoke_data::store::Reader;
use convoke_kernels::{Device, Philox};

use super::spec::Spec;
use super::statement::{Quantity, Statement};

/// Random streams: points and errors of the first set of observations; two more for each further one.
const STREAM_POINTS: u64 = 16;
/// Distance beyond an end of an axis, relative to its length, that is rounding.
const ON_THE_END: f64 = 1e-9;

/// Points that are no grid: by axis of the statement, measured from its start.
pub type Scattered = Vec<Vec<f64>>;

/// One set of measurements.
#[derive(Debug, Clone)]
pub struct Observations {
    /// What is measured.
    pub of: Quantity,
    /// Where.
    pub points: Scattered,
    /// What was read.
    pub values: Vec<f64>,
    /// Standard deviation of the errors.
    pub deviation: f64,
}

/// All measurements of a job. Those that are drawn are functions of `seed` and of their number alone.
///
/// # Errors
/// Data errors of the files, [`BadValue`] for points beyond the box.
pub fn read(spec: &Spec, statement: &Statement, inputs: &Inputs, seed: u64) -> Result<Vec<Observations>> {
    let mut sets = Vec::new();
    for (i, (set, of)) in spec.observations.iter().zip(&statement.observed).enumerate() {
        let (points, values) = match (&set.file, set.count) {
            (Some(file), _) => {
                let path = inputs.resolve(file);
                let key = format!("problem.observations.{i}.file");
                let points = read_points(&key, &path, "/points", statement)?;
                (points, read_values(&key, &path)?)
            }
            (None, count) => {
                draw(of, statement, count.unwrap_or(0), (seed, STREAM_POINTS + 2 * i as u64), set.deviation)?
            }
        };
        if points[0].len() != values.len() {
            let message = format!("there are {} points and {} values in it", points[0].len(), values.len());
            return Err(BadValue::wrong(format!("problem.observations.{i}.file"), message).into());
        }
        sets.push(Observations { of: of.clone(), points, values, deviation: set.deviation });
    }
    Ok(sets)
}

fn read_values(key: &str, path: &Path) -> Result<Vec<f64>> {
    let values: Vec<f64> = Reader::open(path)?.read("/values")?;
    match values.iter().position(|v| !v.is_finite()) {
        None => Ok(values),
        Some(i) => {
            let message = format!("value {i} (from 0) in /values of {} is {}", path.display(), values[i]);
            Err(BadValue::wrong(key, message).into())
        }
    }
}

/// Points of a file, `[points, axes]` in the order of the job file.
///
/// # Errors
/// Data errors of the file, [`BadValue`] at `key` for a wrong shape or points beyond the box.
pub fn read_points(key: &str, path: &Path, dataset: &str, statement: &Statement) -> Result<Scattered> {
    let reader = Reader::open(path)?;
    let (shape, d) = (reader.shape(dataset)?, statement.axes.len());
    let place = format!("{dataset} of {}", path.display());
    let rows = match shape.as_slice() {
        [m, n] if *n == d => *m,
        [m] if d == 1 => *m,
        _ => {
            let expected = format!("an array of shape [points, {d}], one column for each axis");
            return Err(BadValue::new(key, format!("{place}, of shape {shape:?}"), expected).into());
        }
    };
    if rows == 0 {
        return Err(BadValue::new(key, place, "at least one point").into());
    }
    let values: Vec<f64> = reader.read(dataset)?;
    let mut points = Vec::new();
    for ((axis, position), (start, length)) in statement.axes.iter().zip(&statement.order).zip(&statement.boxes) {
        let mut column = Vec::with_capacity(rows);
        for row in 0..rows {
            let x = values[row * d + position] - start;
            let slack = ON_THE_END * length;
            if !(x >= -slack && x <= length + slack) {
                let (name, at) = (&axis.name, values[row * d + position]);
                let message = format!(
                    "row {row} (from 0) of {place} has {name} = {at}, which is not between {start} and {}",
                    start + length
                );
                return Err(BadValue::wrong(key, message).into());
            }
            column.push(x.clamp(0.0, *length));
        }
        points.push(column);
    }
    Ok(points)
}

fn draw(
    of: &Quantity,
    statement: &Statement,
    count: usize,
    (seed, stream): (u64, u64),
    deviation: f64,
) -> Result<(Scattered, Vec<f64>)> {
    let (places, errors) = (Philox::new(seed, stream), Philox::new(seed, stream + 1));
    let d = statement.axes.len();
    let column = |(axis, (_, length)): (usize, &(f64, f64))| -> Vec<f64> {
        (0..count).map(|i| length * places.uniform((i * d + axis) as u64)).collect()
    };
    let points: Scattered = statement.boxes.iter().enumerate().map(column).collect();
    let mut values = exact_at(of, statement, &points)?;
    values.iter_mut().enumerate().for_each(|(i, v)| *v += deviation * errors.normal(i as u64));
    Ok((points, values))
}

/// The manufactured quantity at scattered points.
///
/// # Errors
/// Where the device fails.
///
/// # Panics
/// Where there is no manufactured solution.
pub fn exact_at(of: &Quantity, statement: &Statement, points: &Scattered) -> Result<Vec<f64>> {
    let exact = of.exact.as_ref().expect("there is a manufactured solution");
    let mut values = Vec::new();
    for i in 0..points[0].len() {
        let at = points.iter().zip(&statement.boxes).map(|(x, (start, _))| vec![start + x[i]]).collect();
        values.push(exact.run(&Device::cpu(), &at, &mut [])?.swap_remove(0).into_vec()[0]);
    }
    Ok(values)
}
