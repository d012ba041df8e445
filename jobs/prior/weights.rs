//! Denoisers in files: results of the runs that trained them, and .safetensors.

use std::path::{Path, PathBuf};

use convoke_cluster::{BadValue, Result};
use convoke_data::formats::safetensors::{SafetensorsReader, SafetensorsWriter};
use convoke_data::store::Reader;

use super::edm::{Card, Edm};

/// Attribute of `/result`, and entry of a file of weights, that describes the denoiser.
pub const ATTRIBUTE: &str = "denoiser";
/// The group of the parameters in a result.
pub const GROUP: &str = "weights";

/// A file that holds a denoiser.
enum Source {
    Result(Reader),
    Weights(SafetensorsReader),
}

/// The result of a run's directory; other paths as they are.
fn file(path: &Path) -> PathBuf {
    if path.is_dir() { path.join("result.h5") } else { path.to_owned() }
}

impl Source {
    fn open(path: &Path) -> Result<Self> {
        let path = file(path);
        Ok(if path.extension().is_some_and(|extension| extension == "safetensors") {
            Self::Weights(SafetensorsReader::open(path)?)
        } else {
            Self::Result(Reader::open(path)?)
        })
    }

    fn card(&self) -> Option<Card> {
        match self {
            Self::Result(file) => serde_json::from_str(&file.text_attribute("/result", ATTRIBUTE).ok()?).ok(),
            Self::Weights(file) => serde_json::from_str(file.about(ATTRIBUTE)?).ok(),
        }
    }

    fn array(&self, name: &str) -> Result<(Vec<usize>, Vec<f32>)> {
        Ok(match self {
            Self::Result(file) => {
                let name = format!("/result/{GROUP}/{name}");
                (file.shape(&name)?, file.read(&name)?)
            }
            Self::Weights(file) => (file.shape(name)?, file.read(name)?.into_iter().map(|v| v as f32).collect()),
        })
    }
}

/// Whether a run, or a file, holds a denoiser.
pub fn holds_one(path: &Path) -> bool {
    Source::open(path).ok().is_some_and(|source| source.card().is_some())
}

/// The denoiser of a run, of its result or of a file of weights, which `key` names.
///
/// # Errors
/// A file that is none; arrays that are missing or of another shape, by name.
pub fn read(path: &Path, key: &str) -> Result<Edm<f32>> {
    let source = Source::open(path).map_err(|error| BadValue::wrong(key, error))?;
    let card = source.card().ok_or_else(|| {
        let expected = "the directory of a denoiser's run, its result.h5, or what `convoke weights` makes of it";
        BadValue::new(key, path.display(), expected)
    })?;
    let mut parameters = Vec::new();
    for part in card.network.parts().each() {
        let (shape, values) = source.array(&part.name).map_err(|error| BadValue::wrong(key, error))?;
        if shape != part.shape {
            let message =
                format!("{} of {} has shape {shape:?}, and {:?} is due", part.name, path.display(), part.shape);
            return Err(BadValue::wrong(key, message).into());
        }
        parameters.extend(values);
    }
    Ok(Edm::new(card, parameters))
}

/// Writes the denoiser of a run as .safetensors; the number of its parameters.
///
/// # Errors
/// As [`read`], and of the disk.
pub fn export(run: &Path, to: &Path, replace: bool) -> Result<usize> {
    let edm = read(run, "RUN")?;
    let about = serde_json::to_string(&edm.card).unwrap_or_default();
    let tensors: Vec<(String, Vec<usize>)> =
        edm.network.parts.each().map(|part| (part.name.clone(), part.shape.clone())).collect();
    let mut file = SafetensorsWriter::<f32>::create(to, (ATTRIBUTE, &about), &tensors)?;
    for part in edm.network.parts.each() {
        file.write(&edm.parameters[part.range()])?;
    }
    if replace {
        file.commit_replace()?
    } else {
        file.commit_new()?
    }
    Ok(edm.parameters.len())
}
