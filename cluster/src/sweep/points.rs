//! The table of points as a file of comma-separated values: a column for each key, a row for each point.
//!
//! A cell is a TOML value; a text stands without quotes where it could be nothing else. Points may also come from the result of
//! a design: `/result/inputs`, `[copy, point, variable]`, with the names of the variables beside it.

use std::path::{Path, PathBuf};

use convoke_data::formats::table::Table;
use convoke_data::schema;
use convoke_data::store::Reader;
use toml::Value;

use super::Point;
use super::design::wrong_key;
use crate::error::Result;
use crate::job::JobError;
use crate::run_dir::RunDir;

/// The array of a design's points, and the attribute of `/result` that names its columns, with commas.
pub const INPUTS: &str = "inputs";
/// See [`INPUTS`].
pub const VARIABLES: &str = "variables";

/// The file's bytes.
pub(super) fn write(keys: &[String], points: &[Point]) -> Vec<u8> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let header = if keys.is_empty() { vec!["point".to_owned()] } else { keys.to_vec() };
    writer.write_record(&header).expect("memory takes it");
    for (i, point) in points.iter().enumerate() {
        let cells: Vec<String> = if keys.is_empty() { vec![i.to_string()] } else { point.iter().map(cell).collect() };
        writer.write_record(&cells).expect("memory takes it");
    }
    writer.into_inner().expect("memory takes it")
}

/// The result that a path of a user means: itself, or that of a run directory.
pub fn result_of(path: &Path) -> PathBuf {
    if path.is_dir() { RunDir { path: path.to_owned() }.result() } else { path.to_owned() }
}

/// Keys and points of a new sweep from a file; `table` holds the keys in the job file.
///
/// # Errors
/// [`JobError`] that names the file and what is wrong with it; data errors.
pub(super) fn open(path: &Path, table: Option<&str>) -> Result<(Vec<String>, Vec<Point>)> {
    let below = |names: &[String]| -> Vec<String> { names.iter().map(|name| key(name, table)).collect() };
    let (keys, points) = if is_table(path) {
        let cells = Table::read(path)?;
        let keys = below(&cells.columns);
        let points = rows(path, &cells, &keys, table)?;
        (keys, points)
    } else {
        let (names, points) = of_result(path)?;
        (below(&names), points)
    };
    for (i, key) in keys.iter().enumerate() {
        let problem = wrong_key(key).map(|expected| format!("{key:?} is no key; expected {expected}"));
        let twice = keys[..i].contains(key).then(|| format!("{key} is there twice"));
        if let Some(problem) = problem.or(twice) {
            let help = "the names in the file are keys of the job file, below the table that `in` names";
            return Err(JobError::command_line(format!("{}: {problem}", path.display()), help.to_owned()).into());
        }
    }
    if points.is_empty() {
        return Err(
            JobError::command_line(format!("{}: no points in it", path.display()), "expected a row for each").into()
        );
    }
    Ok((keys, points))
}

/// Further points from a file, for a sweep over `keys`.
///
/// # Errors
/// As [`open`]; a file with other columns.
pub(super) fn more(path: &Path, keys: &[String], table: Option<&str>) -> Result<Vec<Point>> {
    if is_table(path) {
        return read(path, keys, table);
    }
    let (names, points) = of_result(path)?;
    let found: Vec<String> = names.iter().map(|name| key(name, table)).collect();
    if found != keys {
        let message = format!("{}: its variables are {}", path.display(), found.join(","));
        return Err(JobError::command_line(message, format!("this sweep is over {}", keys.join(","))).into());
    }
    Ok(points)
}

/// Whether a path means comma-separated values; a directory and an HDF5 file mean a result.
fn is_table(path: &Path) -> bool {
    !path.is_dir() && path.extension().is_none_or(|e| e != "h5")
}

fn key(name: &str, table: Option<&str>) -> String {
    table.map_or_else(|| name.to_owned(), |table| format!("{table}.{name}"))
}

/// Names and points of a design.
fn of_result(path: &Path) -> Result<(Vec<String>, Vec<Point>)> {
    let path = result_of(path);
    let reader = Reader::open(&path)?;
    let wrong = |message: String| {
        let help = "give the run of a dpp job with task = \"design\", or a CSV file";
        JobError::command_line(format!("{}: {message}", path.display()), help.to_owned())
    };
    let array = schema::result(INPUTS);
    if !reader.has(&array) {
        return Err(wrong(format!("it has no {array}, so it is no design")).into());
    }
    let names = reader.text_attribute(schema::RESULT, VARIABLES)?;
    let names: Vec<String> = names.split(',').map(str::to_owned).collect();
    let shape = reader.shape(&array)?;
    match shape.as_slice() {
        [1, _, d] if *d == names.len() => {}
        [copies, _, d] if *d == names.len() => {
            return Err(
                wrong(format!("it has {copies} copies of the design; one is due (problem.design.copies = 1)")).into()
            );
        }
        _ => return Err(wrong(format!("{array} has the shape {shape:?} and {} variables", names.len())).into()),
    }
    let values: Vec<f64> = reader.read(&array)?;
    let points = values.chunks(names.len()).map(|x| x.iter().map(|v| Value::Float(*v)).collect()).collect();
    Ok((names, points))
}

/// Points of a table; its header has the keys, or their names below `table`.
///
/// # Errors
/// [`JobError`] that names the file, and line and column of what is wrong; data errors.
pub(super) fn read(path: &Path, keys: &[String], table: Option<&str>) -> Result<Vec<Point>> {
    rows(path, &Table::read(path)?, keys, table)
}

fn rows(path: &Path, cells: &Table, keys: &[String], table: Option<&str>) -> Result<Vec<Point>> {
    if keys.is_empty() {
        return Ok(cells.rows.iter().map(|_| Point::new()).collect());
    }
    let wrong = |message: String| {
        let help = format!("a file of comma-separated values with the columns {}", keys.join(","));
        JobError::command_line(format!("{}: {message}", path.display()), help)
    };
    let place = |key: &String| {
        cells
            .columns
            .iter()
            .position(|h| h == key || self::key(h, table) == *key)
            .ok_or_else(|| wrong(format!("no column {key}; found {}", cells.columns.join(","))))
    };
    let places: Vec<usize> = keys.iter().map(place).collect::<Result<_, _>>()?;
    let point = |(line, cells): &(u64, Vec<String>)| {
        let of = |(place, key): (&usize, &String)| {
            let text = &cells[*place];
            value(text).ok_or_else(|| wrong(format!("line {line}, column {key}: {text:?} is no value")))
        };
        places.iter().zip(keys).map(of).collect::<Result<Point, _>>()
    };
    Ok(cells.rows.iter().map(point).collect::<Result<_, _>>()?)
}

fn cell(value: &Value) -> String {
    let text = value.to_string();
    match value.as_str() {
        Some(plain) if self::value(plain).as_ref() == Some(value) && plain.trim() == plain => plain.to_owned(),
        _ => text,
    }
}

/// What a word on its own means: a number, a truth value, a TOML literal in quotes or brackets, else a text.
pub fn value(cell: &str) -> Option<Value> {
    if cell.is_empty() {
        return None;
    }
    if let Ok(whole) = cell.parse::<i64>() {
        return Some(Value::Integer(whole));
    }
    if cell.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c))
        && let Ok(number) = cell.parse::<f64>()
    {
        return number.is_finite().then_some(Value::Float(number));
    }
    let quoted = cell.starts_with(['"', '\'', '[', '{']) || matches!(cell, "true" | "false");
    if quoted {
        return format!("v = {cell}").parse::<toml::Table>().ok()?.remove("v");
    }
    (!cell.contains(['"', '\n'])).then(|| Value::String(cell.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_come_back_as_they_were() {
        let keys = ["a".to_owned(), "b.c".to_owned()];
        let values: Vec<Value> = vec![
            1.into(),
            (-2.5e-7).into(),
            1.0.into(),
            true.into(),
            "fbp".into(),
            "12".into(),
            "it, \"says\"\nno".into(),
            " x ".into(),
            "true".into(),
            Value::Array(vec![1.into(), 2.into()]),
        ];
        let points: Vec<Point> = values.iter().map(|v| vec![v.clone(), 3.into()]).collect();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("points.csv");
        std::fs::write(&path, write(&keys, &points)).unwrap();
        assert_eq!(read(&path, &keys, None).unwrap(), points);
        // Other columns, in another order, as a spreadsheet writes them.
        std::fs::write(&path, "note, b.c ,a\nx,4,sirt\n").unwrap();
        assert_eq!(read(&path, &keys, None).unwrap(), [vec!["sirt".into(), 4.into()]]);
        for (text, words) in [
            ("a\n1\n", "no column b.c; found a"),
            ("a,b.c\n1,\n", "line 2, column b.c: \"\" is no value"),
            ("a,b.c\n1,nan\n", ""),
            ("a,b.c\n1\n", "record"),
        ] {
            std::fs::write(&path, text).unwrap();
            match read(&path, &keys, None) {
                Err(error) => assert!(!words.is_empty() && error.to_string().contains(words), "{error}"),
                // A word like any other.
                Ok(points) => assert_eq!((points[0][1].as_str(), words), (Some("nan"), "")),
            }
        }
    }
}
