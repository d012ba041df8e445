//! Comma-separated values (RFC 4180).

use std::fmt::Write;
use std::path::Path;

use convoke_cluster::Error;
use convoke_data::schema;
use convoke_data::store::{Reader, TextWriter};

use crate::cli::analyse::array::{Array, Axis, with_unit};
use crate::cli::analyse::number::exact;
use crate::cli::analyse::scan::{blocks, read, unravel};

/// A line per element: the coordinate on each axis, then the value. Where the file names the places along the last axis (`variables`
/// for an axis `variable`), these are columns of a line per row.
pub fn array(file: &Reader, array: &Array, path: &Path) -> Result<(), Error> {
    if let Some(names) = names(file, array)? {
        return rows(file, array, &names, path);
    }
    let mut out = TextWriter::create(path)?;
    let head: Vec<String> = array.axes.iter().map(Axis::label).chain([with_unit(&array.name, &array.unit)]).collect();
    out.write(&line(head.into_iter().map(|cell| quoted(&cell))))?;
    for block in blocks(&array.shape) {
        let mut text = String::new();
        for (k, v) in read(file, &array.path, &block)?.into_iter().enumerate() {
            let index = unravel(block.offset + k, &array.shape);
            let at = array.axes.iter().zip(index).map(|(axis, i)| exact(axis.at(i as f64)));
            let _ = write!(text, "{}", line(at.chain([exact(v)])));
        }
        out.write(&text)?;
    }
    Ok(out.commit()?)
}

/// The names of the places along the last axis, with commas in an attribute of `/result`.
fn names(file: &Reader, array: &Array) -> Result<Option<Vec<String>>, Error> {
    let Some(axis) = array.axes.last().filter(|_| file.has(schema::RESULT)) else { return Ok(None) };
    let text = file.attribute(schema::RESULT, &format!("{}s", axis.name))?;
    let names = text.and_then(|t| t.as_text().map(|t| t.split(',').map(str::to_owned).collect::<Vec<_>>()));
    Ok(names.filter(|names| names.len() == axis.n))
}

/// A line per row: the coordinates on the axes before the last, but those of one sample, then a column for each name.
fn rows(file: &Reader, array: &Array, names: &[String], path: &Path) -> Result<(), Error> {
    let mut out = TextWriter::create(path)?;
    let running: Vec<usize> = (0..array.axes.len() - 1).filter(|k| array.axes[*k].n > 1).collect();
    let head = running.iter().map(|k| array.axes[*k].label()).chain(names.iter().cloned());
    out.write(&line(head.map(|cell| quoted(&cell))))?;
    let mut cells: Vec<String> = Vec::new();
    for block in blocks(&array.shape) {
        let mut text = String::new();
        for (k, v) in read(file, &array.path, &block)?.into_iter().enumerate() {
            if cells.is_empty() {
                let index = unravel(block.offset + k, &array.shape);
                cells.extend(running.iter().map(|axis| exact(array.axes[*axis].at(index[*axis] as f64))));
            }
            cells.push(exact(v));
            if cells.len() == running.len() + names.len() {
                text += &line(cells.drain(..));
            }
        }
        out.write(&text)?;
    }
    Ok(out.commit()?)
}

/// A line per record: its number, then each column; a short column leaves its cells empty.
pub fn columns(columns: &[(String, Vec<f64>)], path: &Path) -> Result<(), Error> {
    let mut out = TextWriter::create(path)?;
    let head = std::iter::once("record".to_owned()).chain(columns.iter().map(|(name, _)| quoted(name)));
    out.write(&line(head))?;
    let records = columns.iter().map(|(_, values)| values.len()).max().unwrap_or(0);
    for k in 0..records {
        let cells = columns.iter().map(|(_, values)| values.get(k).map_or(String::new(), |v| exact(*v)));
        out.write(&line(std::iter::once((k + 1).to_string()).chain(cells)))?;
    }
    Ok(out.commit()?)
}

fn line(cells: impl Iterator<Item = String>) -> String {
    format!("{}\r\n", cells.collect::<Vec<_>>().join(","))
}

/// A name may hold anything. A spreadsheet takes a cell that begins with one of `=+-@` for a
/// formula: such a name gets an apostrophe.
fn quoted(name: &str) -> String {
    let name = if name.starts_with(['=', '+', '-', '@']) { format!("'{name}") } else { name.to_owned() };
    if name.contains([',', '"', '\r', '\n']) { format!("\"{}\"", name.replace('"', "\"\"")) } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_and_never_formulas() {
        let cases = [("x", "x"), ("a,b", "\"a,b\""), ("say \"a\"", "\"say \"\"a\"\"\""), ("=1+1", "'=1+1")];
        for (name, cell) in cases {
            assert_eq!(quoted(name), cell);
        }
    }
}
