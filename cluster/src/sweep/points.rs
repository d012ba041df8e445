//! The table of points as a file of comma-separated values: a column for each key, a row for each point.
//!
//! A cell is a TOML value; a text stands without quotes where it could be nothing else.

use std::path::Path;

use toml::Value;

use super::Point;
use crate::error::Result;
use crate::job::JobError;

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

/// Reads a file of points.
///
/// # Errors
/// [`JobError`] that names the file, and line and column of what is wrong.
pub(super) fn read(path: &Path, keys: &[String]) -> Result<Vec<Point>> {
    let wrong =
        |message: String, help: &str| JobError::command_line(format!("{}: {message}", path.display()), help.to_owned());
    let columns = keys.join(",");
    let help = format!("a file of comma-separated values with the columns {columns}");
    let file = std::fs::File::open(path).map_err(|e| wrong(format!("cannot be read: {e}"), &help))?;
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(file);
    let header = reader.headers().map_err(|e| wrong(e.to_string(), &help))?.clone();
    if keys.is_empty() {
        return Ok(reader.records().map(|_| Point::new()).collect());
    }
    let place = |key: &String| {
        header.iter().position(|h| h == key).ok_or_else(|| {
            let found = header.iter().collect::<Vec<_>>().join(",");
            wrong(format!("no column {key}; found {found}"), &help)
        })
    };
    let places: Vec<usize> = keys.iter().map(place).collect::<Result<_, _>>()?;
    let mut points = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|e| wrong(e.to_string(), &help))?;
        let line = record.position().map_or(0, csv::Position::line);
        let point = places.iter().zip(keys).map(|(&place, key)| {
            let text = record.get(place).unwrap_or_default();
            value(text).ok_or_else(|| wrong(format!("line {line}, column {key}: {text:?} is no value"), &help))
        });
        points.push(point.collect::<Result<Point, _>>()?);
    }
    Ok(points)
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
        assert_eq!(read(&path, &keys).unwrap(), points);
        // Other columns, in another order, as a spreadsheet writes them.
        std::fs::write(&path, "note, b.c ,a\nx,4,sirt\n").unwrap();
        assert_eq!(read(&path, &keys).unwrap(), [vec!["sirt".into(), 4.into()]]);
        for (text, words) in [
            ("a\n1\n", "no column b.c; found a"),
            ("a,b.c\n1,\n", "line 2, column b.c: \"\" is no value"),
            ("a,b.c\n1,nan\n", ""),
            ("a,b.c\n1\n", "record"),
        ] {
            std::fs::write(&path, text).unwrap();
            match read(&path, &keys) {
                Err(error) => assert!(!words.is_empty() && error.to_string().contains(words), "{error}"),
                // A word like any other.
                Ok(points) => assert_eq!((points[0][1].as_str(), words), (Some("nan"), "")),
            }
        }
    }
}
