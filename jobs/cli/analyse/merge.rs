//! Several results as one: each array stacked along a new first axis `run`, as ensembles and training sets want it.

use std::path::Path;

use convoke_cluster::Error;
use convoke_data::schema::{self, field, provenance};
use convoke_data::store::{Element, Layout, Reader, Writer};
use convoke_data::{DataError, Result as DataResult};

use super::array::{self, Array};
use super::export::is_narrow;
use super::scan::{blocks, read};
use super::source::Source;

/// The new axis.
const RUN: &str = "run";

/// Writes the arrays called `names`, or all results, of all sources into `path`; what it holds.
///
/// # Errors
/// The target exists, an array is missing somewhere or has another shape, type, unit or other coordinates there.
pub fn merge(sources: &[Source], names: &[String], path: &Path) -> Result<Vec<Array>, Error> {
    if path.exists() {
        return Err(DataError::Exists { path: path.to_owned() }.into());
    }
    let files = sources.iter().map(Source::result).collect::<Result<Vec<_>, Error>>()?;
    let (first, rest) = files.split_first().expect("the command line has at least two");
    let mut arrays = if names.is_empty() { array::list(first)? } else { array::select(first, names)? };
    arrays.retain(|a| (a.numeric && !a.shape.contains(&0)) || !names.is_empty());
    if let Some(wrong) = arrays.iter().find(|a| !a.numeric || a.shape.contains(&0)) {
        return Err(refused(first, format!("{} holds no numbers", wrong.name)));
    }
    if arrays.is_empty() {
        return Err(refused(first, "has no arrays of numbers; `convoke analyse ls` shows what there is".to_owned()));
    }
    if let Some(array) = arrays.iter().find(|a| a.axes.iter().any(|axis| axis.name == RUN)) {
        let detail = format!("{} has an axis {RUN} already; merge the runs that it was merged from", array.name);
        return Err(refused(first, detail));
    }
    let axes: Vec<String> = coordinates(&arrays);
    for file in rest {
        arrays.iter().try_for_each(|array| fits(array, first, file))?;
        axes.iter().try_for_each(|axis| agrees(axis, first, file))?;
    }
    let mut out = Writer::create(path)?;
    describe(&mut out, sources)?;
    for axis in axes.iter().filter(|axis| is_coordinate(first, axis)) {
        let path = schema::result(axis);
        let values = first.read::<f64>(&path)?;
        out.whole(&path, &[values.len()], &values)?;
        if let Some(unit) = first.attribute(&path, field::UNITS)? {
            out.attribute(&path, field::UNITS, unit)?;
        }
    }
    for array in &arrays {
        if is_narrow(array) {
            stack::<f32>(&mut out, &files, array, |v| v as f32)?;
        } else {
            stack::<f64>(&mut out, &files, array, |v| v)?;
        }
    }
    out.commit_new()?;
    Ok(arrays)
}

/// Names of the axes of all arrays.
fn coordinates(arrays: &[Array]) -> Vec<String> {
    let mut names: Vec<String> = arrays.iter().flat_map(|a| a.axes.iter().map(|axis| axis.name.clone())).collect();
    names.sort();
    names.dedup();
    names
}

fn is_coordinate(file: &Reader, axis: &str) -> bool {
    file.shape(&schema::result(axis)).is_ok_and(|shape| shape.len() == 1)
}

fn refused(file: &Reader, detail: String) -> Error {
    DataError::InvalidValue { path: file.path().to_path_buf(), detail }.into()
}

/// Whether `file` has the same array.
fn fits(array: &Array, first: &Reader, file: &Reader) -> Result<(), Error> {
    let other = array::select(file, std::slice::from_ref(&array.name))?.remove(0);
    let differs = [
        ("shape", array.dimensions(), other.dimensions()),
        ("type", array.dtype.clone(), other.dtype.clone()),
        ("unit", array.unit.clone(), other.unit.clone()),
    ];
    let Some((what, here, there)) = differs.into_iter().find(|(_, a, b)| a != b) else { return Ok(()) };
    let detail = format!(
        "{} has {what} '{there}', and '{here}' in {}; merge what is alike, or name arrays with --array",
        array.name,
        first.path().display()
    );
    Err(refused(file, detail))
}

/// Whether the samples of an axis lie at the same places.
fn agrees(axis: &str, first: &Reader, file: &Reader) -> Result<(), Error> {
    if !is_coordinate(first, axis) {
        return Ok(());
    }
    let path = schema::result(axis);
    if first.read::<f64>(&path)? == file.read::<f64>(&path)? {
        return Ok(());
    }
    Err(refused(file, format!("the coordinates {path} are not those of {}", first.path().display())))
}

/// Who the runs are: their paths and job files, in the order of the new axis.
fn describe(out: &mut Writer, sources: &[Source]) -> Result<(), Error> {
    let path = schema::result(RUN);
    out.whole(&path, &[sources.len()], &(0..sources.len()).map(|k| k as f64).collect::<Vec<_>>())?;
    out.attribute("/", provenance::CONVOKE_VERSION, env!("CARGO_PKG_VERSION"))?;
    let paths: Vec<String> = sources.iter().map(|s| s.path.display().to_string()).collect();
    out.texts("/runs/path", &paths)?;
    let spec = |source: &Source| source.result().ok().and_then(|file| file.read_text(schema::SPEC_TOML).ok());
    let specs: Vec<String> = sources.iter().map(|s| spec(s).unwrap_or_default()).collect();
    out.texts("/runs/spec_toml", &specs)?;
    Ok(())
}

fn stack<T: Element>(out: &mut Writer, files: &[&Reader], array: &Array, to: fn(f64) -> T) -> DataResult<()> {
    // A column of the history stays one; what has only a path keeps it.
    let path = &array.path;
    let shape: Vec<usize> = std::iter::once(files.len()).chain(array.shape.iter().copied()).collect();
    out.dataset::<T>(path, &shape, Layout::Contiguous)?;
    for (run, file) in files.iter().enumerate() {
        for block in blocks(&array.shape) {
            let values: Vec<T> = read(file, path, &block)?.into_iter().map(to).collect();
            let start: Vec<usize> = std::iter::once(run).chain(block.start).collect();
            let count: Vec<usize> = std::iter::once(1).chain(block.count).collect();
            out.write(path, &start, &count, &values)?;
        }
    }
    let names: Vec<&str> = std::iter::once(RUN).chain(array.axes.iter().map(|a| a.name.as_str())).collect();
    out.attribute(path, field::AXES, names.join(":").as_str())?;
    out.attribute(path, field::UNITS, array.unit.as_str())?;
    out.attribute(path, field::LONG_NAME, array.long_name.as_str())?;
    let of = |new: f64, get: fn(&array::Axis) -> f64| std::iter::once(new).chain(array.axes.iter().map(get)).collect();
    let (origin, spacing): (Vec<f64>, Vec<f64>) = (of(0.0, |a| a.origin), of(1.0, |a| a.spacing));
    out.attribute(path, "origin", origin)?;
    out.attribute(path, "spacing", spacing)?;
    for (k, name) in names.iter().enumerate().filter(|(k, name)| *k == 0 || is_coordinate(files[0], name)) {
        out.scale(path, k, &schema::result(name), name)?;
    }
    Ok(())
}
