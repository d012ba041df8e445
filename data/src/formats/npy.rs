//! NumPy's `.npy`: one array of f32 or f64, row-major, written slab by slab.
//!
//! ```
//! use convoke_data::formats::npy::{self, NpyWriter};
//! # fn main() -> convoke_data::Result<()> {
//! # let folder = tempfile::tempdir().unwrap();
//! # let path = folder.path().join("mu.npy");
//! let mut file = NpyWriter::<f32>::create(&path, &[2, 3])?;
//! file.write(&[0.0, 1.0, 2.0])?; // row 0
//! file.write(&[3.0, 4.0, 5.0])?; // row 1
//! file.commit()?;
//! let (shape, values) = npy::read::<f32>(&path)?;
//! assert_eq!((shape, values[5]), (vec![2, 3], 5.0));
//! # Ok(())
//! # }
//! ```
//! Source: NumPy Enhancement Proposal 1.

use std::fs::File;
use std::io::{BufReader, Write};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use npyz::{DType, NpyFile, Order, TypeChar, WriteOptions, WriterBuilder};

use crate::store::{AtomicFile, Element};
use crate::{DataError, Result};

#[cfg(target_endian = "big")]
compile_error!("elements are written as they lie in memory, and the header says little-endian");

/// A number that an array is made of: f32 or f64.
pub trait Float: Element + npyz::AutoSerialize + npyz::Deserialize {}
impl Float for f32 {}
impl Float for f64 {}

/// A `.npy` file that appears at its path when [`NpyWriter::commit`] succeeds.
#[derive(Debug)]
pub struct NpyWriter<T> {
    file: AtomicFile,
    path: PathBuf,
    shape: Vec<usize>,
    written: usize,
    element: PhantomData<T>,
}

impl<T: Float> NpyWriter<T> {
    /// Starts a file for an array of `shape`.
    ///
    /// # Errors
    /// The folder is missing, read-only or full.
    pub fn create(path: impl AsRef<Path>, shape: &[usize]) -> Result<Self> {
        let path = path.as_ref();
        let mut file = AtomicFile::create(path)?;
        let axes: Vec<u64> = shape.iter().map(|&n| n as u64).collect();
        let options = WriteOptions::<T>::new().default_dtype().shape(&axes);
        let header = options.writer(&mut file).write_header_only().map(drop);
        header.map_err(|source| file.failed(source))?;
        let (path, shape) = (path.to_path_buf(), shape.to_vec());
        Ok(Self { file, path, shape, written: 0, element: PhantomData })
    }

    /// Appends `values`, the next elements in row-major order.
    ///
    /// # Errors
    /// The disk is full.
    pub fn write(&mut self, values: &[T]) -> Result<()> {
        self.file.write_all(bytemuck::cast_slice(values)).map_err(|source| self.file.failed(source))?;
        self.written += values.len();
        Ok(())
    }

    /// Finishes the file, replacing an older one.
    ///
    /// # Errors
    /// More or fewer elements were written than the shape has, or the disk is full.
    pub fn commit(self) -> Result<()> {
        let total = self.shape.iter().product();
        if self.written != total {
            let (path, name) = (self.path, "the array".to_owned());
            return Err(DataError::Incomplete { path, name, written: self.written, total });
        }
        self.file.commit()
    }
}

/// Reads a whole array: its shape and its elements, row-major.
///
/// # Errors
/// The file is missing, no `.npy` file, truncated, in column-major order, or of another type.
pub fn read<T: Float>(path: impl AsRef<Path>) -> Result<(Vec<usize>, Vec<T>)> {
    let path = path.as_ref();
    let failed = |source| DataError::from_io(path, "open the file", source);
    let malformed = |detail: String| DataError::Malformed { path: path.to_path_buf(), format: ".npy", detail };
    let file = File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    let array = NpyFile::new(BufReader::new(file)).map_err(|error| malformed(error.to_string()))?;
    let found = match array.dtype() {
        DType::Plain(plain) if plain.type_char() == TypeChar::Float => plain.size_field() as usize,
        _ => 0,
    };
    if found != size_of::<T>() {
        let (path, name) = (path.to_path_buf(), "the array".to_owned());
        let found = array.dtype().descr();
        return Err(DataError::WrongType { path, name, found, expected: T::DTYPE.to_string() });
    }
    if array.order() == Order::Fortran && array.shape().len() > 1 {
        return Err(malformed("column-major order; save it with numpy.ascontiguousarray".to_owned()));
    }
    let shape: Vec<usize> = array.shape().iter().map(|&n| n as usize).collect();
    let elements = shape.iter().try_fold(1_u64, |product, &n| product.checked_mul(n as u64));
    let promised = elements.and_then(|n| n.checked_mul(size_of::<T>() as u64));
    if promised.is_none_or(|bytes| bytes > length) {
        let detail = format!("shape {shape:?} needs more than the file's {length} bytes");
        return Err(DataError::Truncated { path: path.to_path_buf(), detail });
    }
    let values = array.into_vec().map_err(|error| malformed(error.to_string()))?;
    Ok((shape, values))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_round_trip_in_slabs() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npy");
        for shape in [vec![], vec![0, 3], vec![7], vec![3, 4], vec![2, 3, 2]] {
            let values: Vec<f64> = (0..shape.iter().product()).map(|k| k as f64).collect();
            let mut file = NpyWriter::<f64>::create(&path, &shape).unwrap();
            for slab in values.chunks(5) {
                file.write(slab).unwrap();
            }
            file.commit().unwrap();
            assert_eq!(read::<f64>(&path).unwrap(), (shape, values));
        }
        assert!(matches!(read::<f32>(&path), Err(DataError::WrongType { .. })));
    }

    #[test]
    fn unusable_arrays_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npy");
        assert!(matches!(read::<f32>(&path), Err(DataError::NotFound { .. })));
        let mut file = NpyWriter::<f32>::create(&path, &[2]).unwrap();
        file.write(&[1.0]).unwrap();
        assert!(matches!(file.commit(), Err(DataError::Incomplete { written: 1, total: 2, .. })));
        assert!(!path.exists());
        std::fs::write(&path, b"no array").unwrap();
        assert!(matches!(read::<f32>(&path), Err(DataError::Malformed { .. })));
        let mut file = NpyWriter::<f32>::create(&path, &[100]).unwrap();
        file.write(&[1.0; 100]).unwrap();
        file.commit().unwrap();
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..200]).unwrap();
        assert!(matches!(read::<f32>(&path), Err(DataError::Truncated { .. })));
    }
}
