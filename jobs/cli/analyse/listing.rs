//! `ls` and `stat`: what a file holds, and the figures of its arrays.

use convoke_cluster::Error;
use convoke_data::schema;
use convoke_data::store::{Object, Reader};
use serde::Serialize;
use serde_json::{Map, Value};

use super::array::{self, Array};
use super::number::quantity;
use super::scan::{Wanted, scan};
use super::summary::{array_row, rows, table, value};

/// One object of a file.
#[derive(Debug, Serialize)]
pub struct Line {
    /// Path from the root.
    pub name: String,
    /// `group`, `dataset`, `type`, `soft link` or `refused`.
    pub kind: &'static str,
    /// Elements per axis of a dataset.
    pub shape: Option<Vec<usize>>,
    /// Its element type.
    pub dtype: Option<String>,
    /// Its bytes in the file.
    pub stored_bytes: Option<u64>,
    /// Why it is refused.
    pub refused: Option<String>,
    /// Its attributes.
    pub attributes: Map<String, Value>,
}

/// Everything below `below` (`/` for all), with the attributes.
///
/// # Errors
/// No such object, or a damaged file.
pub fn list(file: &Reader, below: &str) -> Result<Vec<Line>, Error> {
    let below = format!("/{}", below.trim_matches('/'));
    let mut lines = Vec::new();
    if below == "/" || file.has(&below) {
        lines.push(Line { attributes: array::attributes(file, &below)?, ..Line::new(&below, "group") });
    } else {
        // The error that names what is there.
        file.entry(&below)?;
    }
    let inside = format!("{}/", below.trim_end_matches('/'));
    for (name, object) in file.objects()? {
        let itself = name == below;
        if !itself && !name.starts_with(&inside) {
            continue;
        }
        let line = match object {
            Object::Group => Line::new(&name, "group"),
            Object::Type => Line::new(&name, "type"),
            Object::SoftLink => Line::new(&name, "soft link"),
            Object::Refused(why) => Line { refused: Some(why), ..Line::new(&name, "refused") },
            Object::Dataset(entry, stored) => Line {
                shape: Some(entry.shape),
                dtype: Some(entry.dtype.to_string()),
                stored_bytes: Some(stored),
                ..Line::new(&name, "dataset")
            },
        };
        let readable = matches!(line.kind, "group" | "dataset");
        let attributes = if readable { array::attributes(file, &name)? } else { Map::new() };
        if itself {
            lines.clear();
        }
        lines.push(Line { attributes, ..line });
    }
    Ok(lines)
}

impl Line {
    fn new(name: &str, kind: &'static str) -> Self {
        let name = name.to_owned();
        Self { name, kind, shape: None, dtype: None, stored_bytes: None, refused: None, attributes: Map::new() }
    }
}

/// The listing as text: a line for each object; all attributes of the first.
pub fn text(lines: &[Line]) -> String {
    let mut t = table(&["name", "shape", "type", "stored", "unit", ""], &[3]);
    for line in lines {
        let get = |key: &str| line.attributes.get(key).map(value).unwrap_or_default();
        let shape = line.shape.as_ref().map_or(String::new(), |shape| array::dimensions(shape));
        let note = match (&line.refused, line.kind) {
            (Some(why), _) => format!("refused: {why}"),
            (None, "dataset") => get(schema::field::LONG_NAME),
            (None, "group") if line.name != "/" => figures(&line.attributes),
            (None, kind) => kind.to_owned(),
        };
        let name = if line.kind == "group" && line.name != "/" { format!("{}/", line.name) } else { line.name.clone() };
        let stored = line.stored_bytes.map_or(String::new(), |n| quantity(n as f64, "bytes"));
        let dtype = line.dtype.clone().unwrap_or_default();
        t.add_row(vec![name, shape, dtype, stored, get(schema::field::UNITS), note]);
    }
    let mut text = rows(&t);
    if let Some(first) = lines.first().filter(|line| !line.attributes.is_empty()) {
        let mut t = table(&["", ""], &[]);
        for (name, attribute) in &first.attributes {
            t.add_row(vec![name.clone(), value(attribute)]);
        }
        text += &format!("\n\nAttributes of {}\n{}", first.name, rows(&t));
    }
    text
}

/// Attributes in one line, as many as fit.
fn figures(attributes: &Map<String, Value>) -> String {
    const SHOWN: usize = 4;
    let shown: Vec<String> = attributes.iter().take(SHOWN).map(|(name, v)| format!("{name} {}", value(v))).collect();
    let more = attributes.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!(" and {more} more attributes") } else { String::new() };
    format!("{}{more}", shown.join(", "))
}

/// Statistics of the arrays called `names`, or of all.
///
/// # Errors
/// No such array, or a damaged file.
pub fn statistics(file: &Reader, names: &[String]) -> Result<Vec<Array>, Error> {
    let mut arrays = array::select(file, names)?;
    for array in arrays.iter_mut().filter(|a| a.numeric) {
        array.stats = Some(scan(file, &array.path, &array.shape, &mut Wanted::Statistics)?);
    }
    Ok(arrays)
}

/// The statistics as text.
pub fn statistics_text(arrays: &[Array]) -> String {
    let mut t = table(&["name", "shape", "type", "unit", "min", "max", "mean", "std", "NaN"], &[4, 5, 6, 7, 8]);
    for array in arrays {
        t.add_row(array_row(array));
    }
    rows(&t)
}
