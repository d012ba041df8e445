//! Arrays in the formats of other programs, slab by slab.

mod arrays;
mod fields;
mod table;

pub use arrays::is_narrow;

use std::path::PathBuf;

use clap::ValueEnum;
use convoke_cluster::Error;
use convoke_data::DataError;
use convoke_data::schema;
use convoke_data::store::Reader;

use super::array::{self, Array};
use super::picture::file_name;
use super::source::Source;

/// A format to export to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A folder of float32 TIFF files per volume, one per slice.
    Tiff,
    /// A NumPy file per array: float32 for float32 and short integers, else float64.
    Npy,
    /// One NumPy archive of all arrays and the history: `numpy.load(…)["volume"]`.
    Npz,
    /// A text file per array, a line per element: its coordinates and its value; and the history.
    Csv,
    /// A VTKHDF image per array, for ParaView and VTK; an axis t becomes time.
    Vtkhdf,
    /// One HDF5 file of The Well: the arrays that share a grid, as one trajectory.
    TheWell,
    /// A PDEBench HDF5 file per array, with axes t, x, y, z.
    Pdebench,
}

/// Writes arrays beside the result: the ones called `names`, or all results (and for formats of
/// tables the history); before anything is written, none of the targets may exist.
///
/// # Errors
/// The target exists, the format cannot hold an array, the disk is full, the file is damaged.
pub fn export(source: &Source, names: &[String], format: Format) -> Result<Vec<PathBuf>, Error> {
    let file = source.result()?;
    let mut arrays = if names.is_empty() && !matches!(format, Format::Npz | Format::Csv) {
        array::list(file)?
    } else {
        array::select(file, names)?
    };
    arrays.retain(|a| a.numeric && !a.shape.contains(&0));
    match format {
        Format::Npz => {
            let path = target(source, "arrays.npz")?;
            arrays::npz(file, &arrays, &path)?;
            Ok(vec![path])
        }
        Format::TheWell => {
            let path = target(source, "the-well.hdf5")?;
            fields::well(file, &arrays, source, &path)?;
            Ok(vec![path])
        }
        Format::Csv => tables(source, file, arrays, names.is_empty()),
        Format::Tiff => each(
            source,
            arrays,
            "-tiff",
            names,
            |a| a.shape.len() >= 2,
            |a, name, path| arrays::tiff(file, a, path, name),
        ),
        Format::Npy => each(source, arrays, ".npy", names, |_| true, |a, _, path| arrays::npy(file, a, path)),
        Format::Vtkhdf => each(source, arrays, ".vtkhdf", names, fields::is_image, |a, name, path| {
            fields::vtkhdf(file, a, name, path)
        }),
        Format::Pdebench => each(source, arrays, ".pdebench.h5", names, fields::is_pdebench, |a, _, path| {
            fields::pdebench(file, a, path)
        }),
    }
}

/// A file for each array that the format can hold; one that was asked for by name must be held.
fn each(
    source: &Source,
    arrays: Vec<Array>,
    ending: &str,
    names: &[String],
    fits: impl Fn(&Array) -> bool,
    write: impl Fn(&Array, &str, &std::path::Path) -> Result<(), Error>,
) -> Result<Vec<PathBuf>, Error> {
    let mut targets = Vec::new();
    for array in arrays.into_iter().filter(|a| !names.is_empty() || fits(a)) {
        let name = file_name(&array.name);
        let path = target(source, &format!("{name}{ending}"))?;
        targets.push((array, name, path));
    }
    if targets.is_empty() {
        return Err(nothing(source));
    }
    for (array, name, path) in &targets {
        write(array, name, path)?;
    }
    Ok(targets.into_iter().map(|(_, _, path)| path).collect())
}

/// The history as one table, every other array as its own.
fn tables(source: &Source, file: &Reader, arrays: Vec<Array>, all: bool) -> Result<Vec<PathBuf>, Error> {
    let inside = format!("{}/", schema::HISTORY);
    let columns = if all { array::columns(file)? } else { Vec::new() };
    let history = if columns.is_empty() { None } else { Some(target(source, "history.csv")?) };
    let rest: Vec<Array> = arrays.into_iter().filter(|a| !all || !a.path.starts_with(&inside)).collect();
    let mut written = if rest.is_empty() {
        Vec::new()
    } else {
        each(source, rest, ".csv", &[], |_| true, |a, _, path| table::array(file, a, path))?
    };
    if let Some(path) = history {
        table::columns(&columns, &path)?;
        written.push(path);
    }
    if written.is_empty() { Err(nothing(source)) } else { Ok(written) }
}

fn target(source: &Source, name: &str) -> Result<PathBuf, Error> {
    let path = source.beside(name);
    if path.exists() { Err(DataError::Exists { path }.into()) } else { Ok(path) }
}

fn nothing(source: &Source) -> Error {
    let detail = "has no array that this format can hold; `convoke analyse ls` shows the arrays".to_owned();
    DataError::InvalidValue { path: source.path.clone(), detail }.into()
}
