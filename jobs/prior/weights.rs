//! Denoisers in files: results of the runs that trained them, and .safetensors.

use std::path::Path;

use convoke_cluster::{BadValue, Result};
use convoke_data::formats::safetensors::SafetensorsWriter;

use super::edm::{Card, Edm};
use crate::learning::file::{Source, WEIGHTS, file};

/// Attribute of `/result`, and entry of a file of weights, that describes the denoiser.
pub const ATTRIBUTE: &str = "denoiser";
/// The denoiser that is in a file.
fn card(source: &Source) -> Option<Card> {
    match source {
        Source::Result(file) => serde_json::from_str(&file.text_attribute("/result", ATTRIBUTE).ok()?).ok(),
        Source::Weights(file) => serde_json::from_str(file.about(ATTRIBUTE)?).ok(),
    }
}

/// Whether a run, or a file, holds a denoiser.
pub fn holds_one(path: &Path) -> bool {
    Source::open(&file(path.to_owned())).ok().is_some_and(|source| card(&source).is_some())
}

/// The denoiser of a run, of its result or of a file of weights, which `key` names.
///
/// # Errors
/// A file that is none; arrays that are missing or of another shape, by name.
pub fn read(path: &Path, key: &str) -> Result<Edm<f32>> {
    let source = Source::open(&file(path.to_owned())).map_err(|error| BadValue::wrong(key, error))?;
    let card = card(&source).ok_or_else(|| {
        let expected = "the directory of a denoiser's run, its result.h5, or what `convoke weights` makes of it";
        BadValue::new(key, path.display(), expected)
    })?;
    let mut parameters = Vec::new();
    for part in card.network.parts().each() {
        let (name, shape) = source.shape(WEIGHTS, &part.name).map_err(|error| BadValue::wrong(key, error))?;
        if shape != part.shape {
            let message =
                format!("{} of {} has shape {shape:?}, and {:?} is due", part.name, path.display(), part.shape);
            return Err(BadValue::wrong(key, message).into());
        }
        parameters.extend(source.read::<f32>(&name)?);
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
