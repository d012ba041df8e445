//! What the arrays of a file are: names, shapes, units, axes.

use convoke_data::Result;
use convoke_data::schema::{self, field, scale};
use convoke_data::store::{Attribute, Dtype, Entry, Reader};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::moments::Stats;

/// An axis of an array.
#[derive(Debug, Clone, Serialize)]
pub struct Axis {
    /// Name, such as `z`.
    pub name: String,
    /// Unit; empty if the file names none.
    pub unit: String,
    /// Samples.
    pub n: usize,
    /// Coordinate of the first sample.
    pub origin: f64,
    /// Distance between samples.
    pub spacing: f64,
}

impl Axis {
    /// Coordinate of sample `index`, which may lie between samples.
    pub fn at(&self, index: f64) -> f64 {
        self.origin + self.spacing * index
    }

    /// Name and unit, for an axis of a picture.
    pub fn label(&self) -> String {
        with_unit(&self.name, &self.unit)
    }

    /// What follows a coordinate: the unit after a space, or nothing.
    pub fn unit_after(&self) -> String {
        if is_pure(&self.unit) { String::new() } else { format!(" {}", self.unit) }
    }
}

/// `name [unit]`, or the name alone.
pub fn with_unit(name: &str, unit: &str) -> String {
    if is_pure(unit) { name.to_owned() } else { format!("{name} [{unit}]") }
}

/// `1` is the unit of pure numbers.
fn is_pure(unit: &str) -> bool {
    unit.is_empty() || unit == "1"
}

/// An array of a file.
#[derive(Debug, Clone, Serialize)]
pub struct Array {
    /// Name below `/result`; the whole path in a file without that group.
    pub name: String,
    /// Path in the file.
    #[serde(skip)]
    pub path: String,
    /// Elements per axis.
    pub shape: Vec<usize>,
    /// Element type, such as `float32`.
    pub dtype: String,
    /// Whether the elements are numbers.
    #[serde(skip)]
    pub numeric: bool,
    /// Unit of the values; may be empty.
    pub unit: String,
    /// What the values are; may be empty.
    pub long_name: String,
    /// Axes, slowest first.
    pub axes: Vec<Axis>,
    /// Statistics, after a pass over numbers.
    pub stats: Option<Stats>,
}

impl Array {
    /// Title of its picture.
    pub fn title(&self) -> &str {
        if self.long_name.is_empty() { &self.name } else { &self.long_name }
    }

    /// Shape for people, such as `64 × 96 × 96`.
    pub fn dimensions(&self) -> String {
        dimensions(&self.shape)
    }
}

/// A shape for people.
pub fn dimensions(shape: &[usize]) -> String {
    let sizes: Vec<String> = shape.iter().map(usize::to_string).collect();
    if sizes.is_empty() { "scalar".to_owned() } else { sizes.join(" × ") }
}

/// The arrays called `names`, each a path or a name below `/result` or `/history`; without names,
/// the arrays of [`list`] and the columns of the history.
///
/// # Errors
/// No such array (the error lists what is there), or the file is damaged.
pub fn select(file: &Reader, names: &[String]) -> Result<Vec<Array>> {
    if names.is_empty() {
        let mut arrays = list(file)?;
        let history = format!("{}/", schema::HISTORY);
        for entry in file.list()?.into_iter().filter(|e| e.name.starts_with(&history)) {
            let name = entry.name.clone();
            arrays.extend((!arrays.iter().any(|a| a.path == name)).then(|| describe(file, entry, name)).transpose()?);
        }
        return Ok(arrays);
    }
    let one = |name: &String| {
        let places = [schema::result(name), schema::history(name)];
        let path = places.into_iter().find(|path| file.has(path)).unwrap_or_else(|| name.clone());
        describe(file, file.entry(&path)?, name.clone())
    };
    names.iter().map(one).collect()
}

/// The result arrays of a file: everything below `/result` but the coordinates of axes. A file
/// of another program has no such group: then all of its arrays.
///
/// # Errors
/// The file is damaged.
pub fn list(file: &Reader) -> Result<Vec<Array>> {
    let entries = file.list()?;
    let prefix = format!("{}/", schema::RESULT);
    let ours = file.has(schema::RESULT);
    let frame =
        |name: &str| name.starts_with(schema::HISTORY) || name.starts_with(schema::VTKHDF) || name == schema::SPEC_TOML;
    let mut arrays = Vec::new();
    for entry in entries {
        let name = match entry.name.strip_prefix(&prefix) {
            Some(name) => name.to_owned(),
            None if ours || frame(&entry.name) => continue,
            None => entry.name.clone(),
        };
        if !is_scale(file, &entry.name) {
            arrays.push(describe(file, entry, name)?);
        }
    }
    Ok(arrays)
}

fn is_scale(file: &Reader, path: &str) -> bool {
    let class = file.attribute(path, scale::CLASS);
    class
        .ok()
        .flatten()
        .and_then(|c| c.as_text().map(|t| t.trim_end_matches('\0') == scale::CLASS_VALUE))
        .unwrap_or(false)
}

fn describe(file: &Reader, entry: Entry, name: String) -> Result<Array> {
    let text =
        |attribute| file.attribute(&entry.name, attribute).map(|a| a.and_then(|a| a.as_text().map(str::to_owned)));
    let unit = text(field::UNITS)?.unwrap_or_default();
    let long_name = text(field::LONG_NAME)?.unwrap_or_default();
    let named = text(field::AXES)?.unwrap_or_default();
    let axes = axes(file, &entry, &named)?;
    let numeric = matches!(entry.dtype, Dtype::Float(_) | Dtype::Signed(_) | Dtype::Unsigned(_));
    let dtype = entry.dtype.to_string();
    Ok(Array { name, path: entry.name, shape: entry.shape, dtype, numeric, unit, long_name, axes, stats: None })
}

fn axes(file: &Reader, entry: &Entry, named: &str) -> Result<Vec<Axis>> {
    let numbers = |attribute| {
        file.attribute(&entry.name, attribute).map(|a| match a {
            Some(Attribute::F64s(values)) if values.len() == entry.shape.len() => Some(values),
            _ => None,
        })
    };
    let (origin, spacing) = (numbers("origin")?, numbers("spacing")?);
    let names: Vec<&str> = named.split(':').filter(|n| !n.is_empty()).collect();
    let names = if names.len() == entry.shape.len() { names } else { Vec::new() };
    let one = |(k, &n): (usize, &usize)| {
        let name = names.get(k).map_or_else(|| format!("axis{k}"), |n| (*n).to_owned());
        let unit = names.get(k).and_then(|n| {
            let scale = schema::result(n);
            if !file.has(&scale) {
                return None;
            }
            file.attribute(&scale, field::UNITS).ok().flatten().and_then(|u| u.as_text().map(str::to_owned))
        });
        let pick = |values: &Option<Vec<f64>>, default| values.as_ref().map_or(default, |v| v[k]);
        Axis { name, unit: unit.unwrap_or_default(), n, origin: pick(&origin, 0.0), spacing: pick(&spacing, 1.0) }
    };
    Ok(entry.shape.iter().enumerate().map(one).collect())
}

/// All attributes of an object, as JSON.
///
/// # Errors
/// The file is damaged.
pub fn attributes(file: &Reader, object: &str) -> Result<Map<String, Value>> {
    let mut map = Map::new();
    for name in file.attribute_names(object)? {
        if let Some(value) = file.attribute(object, &name)? {
            map.insert(name, to_json(&value));
        }
    }
    Ok(map)
}

fn to_json(attribute: &Attribute) -> Value {
    match attribute {
        Attribute::F64(v) => json!(v),
        Attribute::I64(v) => json!(v),
        Attribute::U64(v) => json!(v),
        Attribute::Text(v) | Attribute::Ascii(v) => json!(v),
        Attribute::F64s(v) => json!(v),
        Attribute::I64s(v) => json!(v),
        Attribute::U64s(v) => json!(v),
        Attribute::Texts(v) => json!(v),
    }
}

/// The recorded columns: `(name, values)`, in the file's order.
///
/// # Errors
/// The file is damaged.
pub fn columns(file: &Reader) -> Result<Vec<(String, Vec<f64>)>> {
    let prefix = format!("{}/", schema::HISTORY);
    let entries = file.list()?;
    let names = entries.iter().filter(|e| e.shape.len() == 1 && e.dtype.converts_to(&Dtype::Float(8)));
    names
        .filter_map(|e| Some((e.name.strip_prefix(&prefix)?.to_owned(), file.read(&e.name))))
        .map(|(n, v)| Ok((n, v?)))
        .collect()
}
