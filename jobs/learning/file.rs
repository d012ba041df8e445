//! What was learnt, in a file: the result of the run that learnt it, or a .safetensors.

use std::path::{Path, PathBuf};

use convoke_cluster::Result;
use convoke_data::formats::safetensors::SafetensorsReader;
use convoke_data::store::{Dtype, Reader};

use super::real::Real;

/// The group of the parameters in a result.
pub const WEIGHTS: &str = "weights";

/// A file that may hold something learnt.
#[derive(Debug)]
pub enum Source {
    /// A result.
    Result(Reader),
    /// A file of weights.
    Weights(SafetensorsReader),
}

/// The file of a path: that of a run's result for a directory.
pub fn file(path: PathBuf) -> PathBuf {
    if path.is_dir() { path.join("result.h5") } else { path }
}

/// Whether a path is that of a file of weights.
pub fn is_weights(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "safetensors")
}

impl Source {
    /// Opens a file.
    ///
    /// # Errors
    /// A file that is none.
    pub fn open(path: &Path) -> Result<Self> {
        Ok(if is_weights(path) {
            Self::Weights(SafetensorsReader::open(path)?)
        } else {
            Self::Result(Reader::open(path)?)
        })
    }

    /// Shape of an array in `group`, and its name in the file; parameters have no group in a file of weights.
    ///
    /// # Errors
    /// An array that is not there.
    pub fn shape(&self, group: &str, name: &str) -> Result<(String, Vec<usize>)> {
        Ok(match self {
            Self::Result(file) => {
                let name = format!("/result/{group}/{name}");
                let shape = file.shape(&name)?;
                (name, shape)
            }
            Self::Weights(file) => {
                let name = if group == WEIGHTS { name.to_owned() } else { format!("{group}.{name}") };
                let shape = file.shape(&name)?;
                (name, shape)
            }
        })
    }

    /// Whether the numbers of an array have eight bytes.
    ///
    /// # Errors
    /// An array that is not there.
    pub fn is_double(&self, group: &str, name: &str) -> Result<bool> {
        let (name, _) = self.shape(group, name)?;
        Ok(match self {
            Self::Result(file) => file.dtype(&name)? == Dtype::Float(8),
            Self::Weights(file) => file.is_double(&name)?,
        })
    }

    /// The numbers of an array, by its name in the file.
    ///
    /// # Errors
    /// Of the file.
    pub fn read<T: Real>(&self, name: &str) -> Result<Vec<T>> {
        Ok(match self {
            Self::Result(file) => file.read(name)?,
            Self::Weights(file) => file.read(name)?.into_iter().map(T::of).collect(),
        })
    }
}
