//! Formats that hold an array as it is: NumPy and TIFF.

use std::path::Path;

use convoke_cluster::Error;
use convoke_data::formats::npy::{Float, NpyWriter};
use convoke_data::formats::npz::NpzWriter;
use convoke_data::formats::tiff::TiffStack;
use convoke_data::store::Reader;

use crate::cli::analyse::array::Array;
use crate::cli::analyse::picture::file_name;
use crate::cli::analyse::scan::{BLOCK, blocks, read, unravel};

/// Whether float32 holds every value of the array.
pub fn is_narrow(array: &Array) -> bool {
    matches!(array.dtype.as_str(), "float32" | "int8" | "int16" | "uint8" | "uint16")
}

/// One `.npy` file.
pub fn npy(file: &Reader, array: &Array, path: &Path) -> Result<(), Error> {
    if is_narrow(array) { npy_of::<f32>(file, array, path, |v| v as f32) } else { npy_of(file, array, path, |v| v) }
}

fn npy_of<T: Float>(file: &Reader, array: &Array, path: &Path, to: fn(f64) -> T) -> Result<(), Error> {
    let mut out = NpyWriter::<T>::create(path, &array.shape)?;
    for block in blocks(&array.shape) {
        let values: Vec<T> = read(file, &array.path, &block)?.into_iter().map(to).collect();
        out.write(&values)?;
    }
    Ok(out.commit()?)
}

/// One `.npz` file of all arrays; a column of the history is `history-NAME`.
pub fn npz(file: &Reader, arrays: &[Array], path: &Path) -> Result<(), Error> {
    let mut out = NpzWriter::create(path)?;
    for array in arrays {
        let name = file_name(&array.name);
        if is_narrow(array) {
            member::<f32>(&mut out, file, array, &name, |v| v as f32)?;
        } else {
            member::<f64>(&mut out, file, array, &name, |v| v)?;
        }
    }
    Ok(out.commit()?)
}

fn member<T: Float>(
    out: &mut NpzWriter,
    file: &Reader,
    array: &Array,
    name: &str,
    to: fn(f64) -> T,
) -> Result<(), Error> {
    out.begin::<T>(name, &array.shape)?;
    for block in blocks(&array.shape) {
        let values: Vec<T> = read(file, &array.path, &block)?.into_iter().map(to).collect();
        out.write(&values)?;
    }
    Ok(())
}

/// A folder of slices: the last two axes are the slices; all others count them.
pub fn tiff(file: &Reader, array: &Array, path: &Path, stem: &str) -> Result<(), Error> {
    if array.shape.len() < 2 {
        let (path, name) = (file.path().to_path_buf(), array.path.clone());
        let expected = "2 or more, for slices".to_owned();
        return Err(convoke_data::DataError::WrongRank { path, name, found: array.shape.len(), expected }.into());
    }
    let (lead, slice) = array.shape.split_at(array.shape.len() - 2);
    let n: usize = lead.iter().product();
    let stack = TiffStack::create(path, stem, n, [slice[0], slice[1]])?;
    let at_once = (BLOCK / (slice[0] * slice[1])).clamp(1, lead.last().copied().unwrap_or(1));
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
