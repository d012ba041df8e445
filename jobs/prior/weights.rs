//! Denoisers in files: results of the runs that trained them, and .safetensors.

use std::path::Path;

use convoke_cluster::{BadValue, Result};
use convoke_data::formats::safetensors::{SafetensorsReader, SafetensorsWriter};

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

/// Denoisers that are a part of the program, by name.
pub const BUILT_IN: &[(&str, &[u8])] = &[("heads", include_bytes!("heads.safetensors"))];

/// The denoiser of a run, of its result or of a file of weights, which `key` names.
///
/// # Errors
/// A file that is none; arrays that are missing, of another shape, or not finite, by name.
pub fn read(path: &Path, key: &str) -> Result<Edm<f32>> {
    let source = Source::open(&file(path.to_owned())).map_err(|error| BadValue::wrong(key, error))?;
    from(&source, &path.display().to_string(), key)
}

/// A denoiser of [`BUILT_IN`].
///
/// # Errors
/// A name that is none.
pub fn built_in(name: &str, key: &str) -> Result<Edm<f32>> {
    let names = || BUILT_IN.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    let Some((_, bytes)) = BUILT_IN.iter().find(|(other, _)| *other == name) else {
        return Err(BadValue::new(key, name, format!("one of: {}", names())).into());
    };
    let file = SafetensorsReader::in_memory(name, bytes).map_err(|error| BadValue::wrong(key, error))?;
    from(&Source::Weights(file), name, key)
}

fn from(source: &Source, name: &str, key: &str) -> Result<Edm<f32>> {
    let card = card(source).ok_or_else(|| {
        let expected = "the directory of a denoiser's run, its result.h5, or what `convoke weights` makes of it";
        BadValue::new(key, name, expected)
    })?;
    if let Some(problem) = card.network.problem() {
        return Err(BadValue::wrong(key, format!("the network of {name} has {problem}")).into());
    }
    if !(card.mean.is_finite() && card.deviation.is_finite() && card.deviation > 0.0) {
        let message = format!("images of {name} have mean {} and deviation {}", card.mean, card.deviation);
        return Err(BadValue::wrong(key, message).into());
    }
    let mut parameters: Vec<f32> = Vec::new();
    for part in card.network.parts().each() {
        let (array, shape) = source.shape(WEIGHTS, &part.name).map_err(|error| BadValue::wrong(key, error))?;
        if shape != part.shape {
            let message = format!("{} of {name} has shape {shape:?}, and {:?} is due", part.name, part.shape);
            return Err(BadValue::wrong(key, message).into());
        }
        let values = source.read::<f32>(&array)?;
        if let Some(bad) = values.iter().find(|v| !v.is_finite()) {
            return Err(BadValue::wrong(key, format!("{} of {name} has the value {bad}", part.name)).into());
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
