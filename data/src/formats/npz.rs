//! NumPy's `.npz`: named arrays in one file, written slab by slab.
//!
//! ```
//! use convoke_data::formats::npz::NpzWriter;
//! # fn main() -> convoke_data::Result<()> {
//! # let folder = tempfile::tempdir().unwrap();
//! # let path = folder.path().join("result.npz");
//! let mut file = NpzWriter::create(&path)?;
//! file.begin::<f32>("mu", &[2, 2])?;
//! file.write(&[0.0_f32, 1.0])?;
//! file.write(&[2.0_f32, 3.0])?;
//! file.begin::<f64>("residual", &[1])?;
//! file.write(&[0.5_f64])?;
//! file.commit()?;
//! # Ok(())
//! # }
//! ```
//! Source: NumPy's documentation of `numpy.savez`: a ZIP archive of `.npy` files, not compressed.

use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use npyz::{WriteOptions, WriterBuilder};
use zip::result::ZipError;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::npy::Float;
use crate::store::AtomicFile;
use crate::{DataError, Result};

/// A `.npz` file that appears at its path when [`NpzWriter::commit`] succeeds.
pub struct NpzWriter {
    zip: ZipWriter<AtomicFile>,
    path: PathBuf,
    /// Name of the array that is being written, its elements, and how many are written.
    open: Option<(String, usize, usize)>,
}

impl std::fmt::Debug for NpzWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NpzWriter").field("path", &self.path).field("open", &self.open).finish_non_exhaustive()
    }
}

impl NpzWriter {
    /// Starts a file.
    ///
    /// # Errors
    /// The folder is missing, read-only or full.
    pub fn create(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Ok(Self { zip: ZipWriter::new(AtomicFile::create(path)?), path: path.to_path_buf(), open: None })
    }

    /// Starts the array `name` of `shape`.
    ///
    /// # Errors
    /// The array before it is not complete, the name is taken, or the disk is full.
    pub fn begin<T: Float>(&mut self, name: &str, shape: &[usize]) -> Result<()> {
        self.complete()?;
        let elements = shape.iter().product();
        let mut header = Vec::new();
        let axes: Vec<u64> = shape.iter().map(|&n| n as u64).collect();
        let options = WriteOptions::<T>::new().default_dtype().shape(&axes);
        options.writer(&mut header).write_header_only().map(drop).map_err(|source| self.failed(source))?;
        // Without times, equal data make equal bytes; ZIP64 where a member may pass 4 GiB.
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .large_file(elements * size_of::<T>() + header.len() >= u32::MAX as usize);
        let started = self.zip.start_file(format!("{name}.npy"), options).map_err(from_zip);
        started.and_then(|()| self.zip.write_all(&header)).map_err(|source| self.failed(source))?;
        self.open = Some((name.to_owned(), elements, 0));
        Ok(())
    }

    /// Appends `values`, the next elements of the array in row-major order.
    ///
    /// # Errors
    /// The disk is full.
    pub fn write<T: Float>(&mut self, values: &[T]) -> Result<()> {
        self.zip.write_all(bytemuck::cast_slice(values)).map_err(|source| self.failed(source))?;
        if let Some((_, _, written)) = &mut self.open {
            *written += values.len();
        }
        Ok(())
    }

    /// Finishes the file, replacing an older one.
    ///
    /// # Errors
    /// The last array is not complete, or the disk is full.
    pub fn commit(mut self) -> Result<()> {
        self.complete()?;
        let path = self.path.clone();
        let failed = |source| DataError::from_io(&path, "write the file", source);
        let mut file = self.zip.finish().map_err(from_zip).map_err(failed)?;
        file.seek(SeekFrom::End(0)).map_err(failed)?;
        file.commit()
    }

    fn complete(&mut self) -> Result<()> {
        match self.open.take() {
            Some((name, total, written)) if total != written => {
                Err(DataError::Incomplete { path: self.path.clone(), name, written, total })
            }
            _ => Ok(()),
        }
    }

    fn failed(&self, source: io::Error) -> DataError {
        DataError::from_io(&self.path, "write the file", source)
    }
}

fn from_zip(error: ZipError) -> io::Error {
    match error {
        ZipError::Io(source) => source,
        other => io::Error::other(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn members_are_npy_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npz");
        let mut file = NpzWriter::create(&path).unwrap();
        file.begin::<f32>("mu", &[2, 3]).unwrap();
        file.write(&[0.0_f32, 1.0, 2.0, 3.0, 4.0, 5.0]).unwrap();
        file.begin::<f64>("r", &[]).unwrap();
        file.write(&[0.25_f64]).unwrap();
        file.commit().unwrap();
        let mut archive = zip::ZipArchive::new(std::fs::File::open(&path).unwrap()).unwrap();
        let mut bytes = Vec::new();
        archive.by_name("mu.npy").unwrap().read_to_end(&mut bytes).unwrap();
        let alone = folder.path().join("mu.npy");
        std::fs::write(&alone, &bytes).unwrap();
        let (shape, values) = crate::formats::npy::read::<f32>(&alone).unwrap();
        assert_eq!((shape, values[5], bytes.len() % 64), (vec![2, 3], 5.0, 24));
        assert_eq!(archive.len(), 2);
    }

    #[test]
    fn half_an_array_is_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npz");
        let mut file = NpzWriter::create(&path).unwrap();
        file.begin::<f32>("mu", &[2]).unwrap();
        file.write(&[0.0_f32]).unwrap();
        assert!(matches!(file.commit(), Err(DataError::Incomplete { written: 1, total: 2, .. })));
        assert!(!path.exists());
    }
}
