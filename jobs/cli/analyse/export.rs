//! Volumes in the formats of other programs, slab by slab.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use convoke_cluster::Error;
use convoke_data::DataError;
use convoke_data::formats::npy::NpyWriter;
use convoke_data::formats::tiff::TiffStack;
use convoke_data::store::Reader;

use super::array::{self, Array};
use super::picture::file_name;
use super::scan::{blocks, read, unravel};
use super::source::Source;

/// A format to export to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A folder of float32 TIFF files per volume, one per slice.
    Tiff,
    /// A NumPy file per array: float32 for float32 and short integers, else float64.
    Npy,
}

/// Writes every numeric array (TIFF: with two axes or more) beside the result; before anything is
/// written, none of the targets may exist.
///
/// # Errors
/// The target exists, the disk is full, the file is damaged.
pub fn export(source: &Source, format: Format) -> Result<Vec<PathBuf>, Error> {
    let file = source.result()?;
    let mut targets = Vec::new();
    for array in array::list(file)?.into_iter().filter(|a| a.numeric && !a.shape.contains(&0)) {
        let name = file_name(&array.name);
        let path = match format {
            Format::Tiff if array.shape.len() < 2 => continue,
            Format::Tiff => source.beside(&format!("{name}-tiff")),
            Format::Npy => source.beside(&format!("{name}.npy")),
        };
        if path.exists() {
            return Err(DataError::Exists { path }.into());
        }
        targets.push((array, name, path));
    }
    for (array, name, path) in &targets {
        match (format, array.dtype.as_str()) {
            (Format::Tiff, _) => tiff(file, array, path, name)?,
            (Format::Npy, "float32" | "int8" | "int16" | "uint8" | "uint16") => {
                npy::<f32>(file, array, path, |v| v as f32)?
            }
            (Format::Npy, _) => npy::<f64>(file, array, path, |v| v)?,
        }
    }
    Ok(targets.into_iter().map(|(_, _, path)| path).collect())
}

fn npy<T: convoke_data::formats::npy::Float>(
    file: &Reader,
    array: &Array,
    path: &Path,
    to: fn(f64) -> T,
) -> Result<(), Error> {
    let mut out = NpyWriter::<T>::create(path, &array.shape)?;
    for block in blocks(&array.shape) {
        let values: Vec<T> = read(file, &array.path, &block)?.into_iter().map(to).collect();
        out.write(&values)?;
    }
    Ok(out.commit()?)
}

/// The last two axes are the slices; all others count them.
fn tiff(file: &Reader, array: &Array, path: &Path, stem: &str) -> Result<(), Error> {
    let (lead, slice) = array.shape.split_at(array.shape.len() - 2);
    let n: usize = lead.iter().product();
    let stack = TiffStack::create(path, stem, n, [slice[0], slice[1]])?;
    let at_once = (super::scan::BLOCK / (slice[0] * slice[1])).clamp(1, lead.last().copied().unwrap_or(1));
    let mut next = 0;
    while next < n {
        let mut start = unravel(next, lead);
        // A slab of slices along the innermost of the leading axes.
        let taken = lead.last().zip(start.last()).map_or(1, |(length, first)| at_once.min(length - first));
        let mut count = vec![1; lead.len()];
        if let Some(last) = count.last_mut() {
            *last = taken;
        }
        start.extend([0, 0]);
        count.extend(slice);
        let values: Vec<f32> = file.read_slab(&array.path, &start, &count)?;
        stack.write(next, &values)?;
        next += taken;
    }
    Ok(())
}
