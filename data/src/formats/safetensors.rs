//! Safetensors: named arrays of numbers behind a header in JSON, as programs for machine learning exchange weights.
//!
//! Complex numbers are pairs along one more axis, here and in what is written.
//!
//! ```
//! use convoke_data::formats::safetensors::{SafetensorsReader, SafetensorsWriter};
//! # fn main() -> convoke_data::Result<()> {
//! # let folder = tempfile::tempdir().unwrap();
//! # let path = folder.path().join("weights.safetensors");
//! let tensors = [("fc.weight".to_owned(), vec![2, 2]), ("fc.bias".to_owned(), vec![2])];
//! let mut file = SafetensorsWriter::<f32>::create(&path, ("made_by", "an example"), &tensors)?;
//! file.write(&[1.0, 2.0, 3.0, 4.0])?; // fc.weight
//! file.write(&[5.0, 6.0])?; // fc.bias
//! file.commit_new()?;
//! let file = SafetensorsReader::open(&path)?;
//! assert_eq!((file.shape("fc.bias")?, file.read("fc.bias")?), (vec![2], vec![5.0, 6.0]));
//! # Ok(())
//! # }
//! ```
//! Source: <https://github.com/huggingface/safetensors>.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::marker::PhantomData;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};

use super::npy::Float;
use crate::store::AtomicFile;
use crate::{DataError, Result};

/// Bytes of the number before the header, the header's length.
const LENGTH: u64 = 8;
/// Bytes that a header may have: thousands of tensors take less than one of these millions.
const MAX_HEADER: u64 = 100 << 20;
/// Name of the format in messages.
const FORMAT: &str = ".safetensors";

/// Where the bytes are.
#[derive(Debug)]
enum Bytes {
    File(File),
    Memory(&'static [u8]),
}

impl Bytes {
    fn read_exact_at(&self, out: &mut [u8], start: u64) -> std::io::Result<()> {
        match self {
            Self::File(file) => file.read_exact_at(out, start),
            Self::Memory(bytes) => {
                let from = usize::try_from(start).ok().and_then(|start| bytes.get(start..)).unwrap_or_default();
                let from = from.get(..out.len()).ok_or(std::io::ErrorKind::UnexpectedEof)?;
                out.copy_from_slice(from);
                Ok(())
            }
        }
    }
}

/// A file of which the header was read.
#[derive(Debug)]
pub struct SafetensorsReader {
    file: Bytes,
    path: PathBuf,
    header: Metadata,
    /// Where the numbers begin.
    start: u64,
}

impl SafetensorsReader {
    /// Opens a file and checks that its header and its length fit each other.
    ///
    /// # Errors
    /// The file is missing, empty, truncated, or of another format.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_path_buf();
        let failed = |source| DataError::from_io(&path, "read the file", source);
        if path.is_dir() {
            return Err(DataError::NotAFile { path, found: "a folder" });
        }
        let file = File::open(&path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        Self::of(path, Bytes::File(file), length)
    }

    /// The same of a file that is a part of the program; `name` stands for its path in messages.
    ///
    /// # Errors
    /// As [`SafetensorsReader::open`].
    pub fn in_memory(name: impl Into<PathBuf>, bytes: &'static [u8]) -> Result<Self> {
        Self::of(name.into(), Bytes::Memory(bytes), bytes.len() as u64)
    }

    fn of(path: PathBuf, file: Bytes, length: u64) -> Result<Self> {
        let failed = |source| DataError::from_io(&path, "read the file", source);
        let malformed = |detail: String| DataError::Malformed { path: path.clone(), format: FORMAT, detail };
        match length {
            0 => return Err(DataError::Empty { path }),
            1..=LENGTH => return Err(malformed(format!("it has {length} bytes"))),
            _ => {}
        }
        let mut word = [0; LENGTH as usize];
        file.read_exact_at(&mut word, 0).map_err(failed)?;
        let header = u64::from_le_bytes(word);
        if header > MAX_HEADER.min(length - LENGTH) {
            return Err(malformed(format!("its header claims {header} bytes, and the file has {length}")));
        }
        let mut text = vec![0; header as usize];
        file.read_exact_at(&mut text, LENGTH).map_err(failed)?;
        let parsed = serde_json::from_slice::<Metadata>(&text);
        let metadata = parsed.map_err(|error| malformed(format!("its header cannot be read: {error}")))?;
        let (start, numbers) = (LENGTH + header, metadata.data_len() as u64);
        if start + numbers != length {
            let detail = format!("its header promises {} bytes, and it has {length}", start + numbers);
            return Err(DataError::Truncated { path, detail });
        }
        Ok(Self { file, path, header: metadata, start })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Names of all tensors, in the order of their numbers.
    pub fn names(&self) -> Vec<String> {
        self.header.offset_keys()
    }

    /// Whether there is a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        self.header.info(name).is_some()
    }

    /// What the file says of itself under `key`.
    pub fn about(&self, key: &str) -> Option<&str> {
        self.header.metadata().as_ref()?.get(key).map(String::as_str)
    }

    /// Shape of a tensor; complex ones have a last axis `re | im`.
    ///
    /// # Errors
    /// No tensor of this name, or one that holds no floating-point numbers.
    pub fn shape(&self, name: &str) -> Result<Vec<usize>> {
        let info = self.info(name)?;
        let pair = (info.dtype == Dtype::C64).then_some(2);
        Ok(info.shape.iter().copied().chain(pair).collect())
    }

    /// Whether its numbers have eight bytes.
    ///
    /// # Errors
    /// As [`SafetensorsReader::shape`].
    pub fn is_double(&self, name: &str) -> Result<bool> {
        Ok(self.info(name)?.dtype == Dtype::F64)
    }

    /// Numbers of a tensor, row-major.
    ///
    /// # Errors
    /// As [`SafetensorsReader::shape`]; the file cannot be read.
    pub fn read(&self, name: &str) -> Result<Vec<f64>> {
        let info = self.info(name)?;
        let (begin, end) = info.data_offsets;
        let mut bytes = vec![0; end - begin];
        let read = self.file.read_exact_at(&mut bytes, self.start + begin as u64);
        read.map_err(|source| DataError::from_io(&self.path, "read the file", source))?;
        Ok(match info.dtype {
            Dtype::F64 => numbers(&bytes, f64::from_le_bytes),
            Dtype::F16 => numbers(&bytes, |b| half(u16::from_le_bytes(b))),
            Dtype::BF16 => numbers(&bytes, |b| f64::from(f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16))),
            _ => numbers(&bytes, |b| f64::from(f32::from_le_bytes(b))),
        })
    }

    /// Of a tensor that can be read.
    fn info(&self, name: &str) -> Result<&TensorInfo> {
        let (path, name) = (self.path.clone(), name.to_owned());
        let Some(info) = self.header.info(&name) else {
            let available = self.names();
            let near = |other: &&String| strsim::damerau_levenshtein(other, &name) <= 2;
            let nearest = available.iter().find(near).cloned();
            return Err(DataError::MissingDataset { path, name, nearest, available });
        };
        match info.dtype {
            Dtype::F16 | Dtype::BF16 | Dtype::F32 | Dtype::F64 | Dtype::C64 => Ok(info),
            other => {
                let expected = "F64, F32, F16, BF16 or C64".to_owned();
                Err(DataError::WrongType { path, name, found: other.to_string(), expected })
            }
        }
    }
}

fn numbers<const N: usize>(bytes: &[u8], of: impl Fn([u8; N]) -> f64) -> Vec<f64> {
    bytes.as_chunks::<N>().0.iter().map(|chunk| of(*chunk)).collect()
}

/// IEEE 754 binary16: a sign, five bits e, ten bits m; (1 + m/2¹⁰) 2^(e−15), below them m 2⁻²⁴.
fn half(bits: u16) -> f64 {
    let (e, m) = (i32::from(bits >> 10 & 31), f64::from(bits & 1023));
    let size = match e {
        0 => m * 2f64.powi(-24),
        31 if m == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1.0 + m / 1024.0) * 2f64.powi(e - 15),
    };
    if bits >> 15 == 1 { -size } else { size }
}

/// A file that appears at its path when it is committed.
#[derive(Debug)]
pub struct SafetensorsWriter<T> {
    file: BufWriter<AtomicFile>,
    path: PathBuf,
    written: usize,
    total: usize,
    element: PhantomData<T>,
}

impl<T: Float> SafetensorsWriter<T> {
    /// Starts a file for `tensors` of these names and shapes; `about` is a key and a text that the file says of itself.
    ///
    /// # Errors
    /// The folder is missing, read-only or full.
    pub fn create(path: impl AsRef<Path>, about: (&str, &str), tensors: &[(String, Vec<usize>)]) -> Result<Self> {
        let path = path.as_ref();
        let invalid = |error: String| DataError::InvalidValue { path: path.to_path_buf(), detail: error };
        let dtype = if size_of::<T>() == 8 { Dtype::F64 } else { Dtype::F32 };
        let mut total = 0;
        let mut info = |(name, shape): &(String, Vec<usize>)| {
            let begin = total * size_of::<T>();
            total += shape.iter().product::<usize>();
            (name.clone(), TensorInfo { dtype, shape: shape.clone(), data_offsets: (begin, total * size_of::<T>()) })
        };
        let infos = tensors.iter().map(&mut info).collect();
        // One key alone: the crate keeps them in no order, and equal data should make equal bytes.
        let about = HashMap::from([(about.0.to_owned(), about.1.to_owned())]);
        let header = Metadata::new(Some(about), infos).map_err(|error| invalid(error.to_string()))?;
        let mut text = serde_json::to_vec(&header).map_err(|error| invalid(error.to_string()))?;
        text.resize(text.len().next_multiple_of(LENGTH as usize), b' ');
        let mut file = BufWriter::new(AtomicFile::create(path)?);
        let begun = file.write_all(&(text.len() as u64).to_le_bytes()).and_then(|()| file.write_all(&text));
        begun.map_err(|source| DataError::from_io(path, "write the file", source))?;
        Ok(Self { file, path: path.to_path_buf(), written: 0, total, element: PhantomData })
    }

    /// Appends `values`, the next numbers of the tensors in their order.
    ///
    /// # Errors
    /// The disk is full.
    pub fn write(&mut self, values: &[T]) -> Result<()> {
        let written = self.file.write_all(bytemuck::cast_slice(values));
        written.map_err(|source| DataError::from_io(&self.path, "write the file", source))?;
        self.written += values.len();
        Ok(())
    }

    /// Finishes the file; refuses when there is one at its path.
    ///
    /// # Errors
    /// Numbers are missing, the path is taken, or the disk is full.
    pub fn commit_new(self) -> Result<()> {
        self.complete()?.commit_new()
    }

    /// Finishes the file, replacing an older one.
    ///
    /// # Errors
    /// Numbers are missing, or the disk is full.
    pub fn commit_replace(self) -> Result<()> {
        self.complete()?.commit()
    }

    fn complete(self) -> Result<AtomicFile> {
        let Self { file, path, written, total, .. } = self;
        if written != total {
            return Err(DataError::Incomplete { path, name: "the tensors".to_owned(), written, total });
        }
        file.into_inner().map_err(|error| DataError::from_io(&path, "write the file", error.into_error()))
    }
}

#[cfg(test)]
#[path = "safetensors_tests.rs"]
mod tests;
