//! Parameters in files of other programs: what a training starts from, and what is given away.

mod layout;
mod tensor;

use std::path::{Path, PathBuf};

use convoke_cluster::{BadValue, Result};
use convoke_data::formats::npy::Float;
use convoke_data::formats::safetensors::{SafetensorsReader, SafetensorsWriter};

pub use layout::Layout;
use tensor::Tensor;

use super::model::Shape;
use super::saved::{self, ABOUT, About, Card, Operator};
use super::spec::Normalise;
use crate::learning::file::{self, Source};
use crate::learning::real::Real;

/// The key that names what a training starts from.
const KEY: &str = "problem.training.start";

/// What a training starts from, checked, of which no parameters were read yet.
#[derive(Debug)]
pub(super) enum Start {
    /// An operator of a run, with what is taken out of its data.
    Operator(PathBuf, Box<Card>),
    /// Parameters alone.
    Weights(Weights),
}

/// A file of parameters that has all of an operator.
#[derive(Debug)]
pub(super) struct Weights {
    file: SafetensorsReader,
    tensors: Vec<(String, Tensor)>,
}

impl Start {
    /// Of the file, or run, at `path`, for an operator that will be trained on `points`.
    ///
    /// # Errors
    /// A file that is none, or has another operator.
    pub fn open(path: PathBuf, (shape, points): (&Shape, &[usize]), normalise: Normalise) -> Result<Self> {
        let path = file::file(path);
        if file::is_weights(&path) {
            let file = SafetensorsReader::open(&path).map_err(|error| BadValue::wrong(KEY, error))?;
            let about = About::of(&file);
            if about.as_ref().is_none_or(|about| about.layout != Layout::Convoke) {
                let trained = about.map_or(points.to_vec(), |about| about.operator.points);
                return Ok(Self::Weights(Weights::of(file, (shape, &trained))?));
            }
        }
        let card = Card::read(&path, KEY)?;
        let same = |what: &str, theirs: String, ours: String| {
            let message = || format!("{what} of {} is {theirs}, and {ours} is due", path.display());
            if theirs == ours { Ok(()) } else { Err(BadValue::wrong(KEY, message())) }
        };
        same("the operator", text(&card.shape), text(shape))?;
        same("problem.data.normalise", text(&card.normalise), text(&normalise))?;
        if normalise == Normalise::Points {
            same("the grid", text(&card.points), text(&points))?;
        }
        Ok(Self::Operator(path, Box::new(card)))
    }

    /// `operator`, which is new, as it was found.
    ///
    /// # Errors
    /// Numbers that cannot be read or are not finite.
    pub fn begin<T: Real>(&self, mut operator: Operator<T>) -> Result<Operator<T>> {
        let parts = operator.card.shape.parts();
        match self {
            Self::Weights(weights) => operator.parameters = weights.parameters(&operator.card.shape)?,
            Self::Operator(path, card) => {
                let Operator { parameters, input, target, .. } = Operator::read(path, (**card).clone(), KEY)?;
                (operator.parameters, operator.input, operator.target) = (parameters, input, target);
                if matches!(card.shape, Shape::StFno(_)) {
                    // The bias is of coefficients, which grow with the points: see `StFno::new`.
                    let size = |points: &[usize]| points.iter().product::<usize>() as f64;
                    let scale = T::of(size(&operator.card.points) / size(&card.points));
                    operator.parameters[parts.range("output.bias")].iter_mut().for_each(|b| *b *= scale);
                }
            }
        }
        let bad = |v: &T| !num_traits::Float::is_finite(*v);
        match parts.each().find(|part| operator.parameters[part.range()].iter().any(bad)) {
            Some(part) => Err(BadValue::wrong(KEY, format!("{} gets a number that is not finite", part.name)).into()),
            None => Ok(operator),
        }
    }
}

/// As job files and results have it.
fn text(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

impl Weights {
    /// Checks that the tensors of a file are those of `shape` trained on `points`: all, no others, and of the right shapes.
    fn of(file: SafetensorsReader, (shape, points): (&Shape, &[usize])) -> Result<Self, BadValue> {
        let wrong = |message: String| BadValue::wrong(KEY, format!("{} {message}", file.path().display()));
        let Some(layout) = Layout::of(&file) else {
            let names = file.names();
            let some = names.iter().take(4).map(String::as_str).collect::<Vec<_>>().join(", ");
            let message = format!("has no tensors of a known operator; the first of its {} are: {some}", names.len());
            return Err(wrong(message).help("layouts that are known: convoke, neuraloperator, fno, torch-cfd"));
        };
        let odd = odd(&file, shape);
        let Some(tensors) = layout.tensors(shape, points, &odd) else {
            let due = match layout {
                Layout::TorchCfd => "kind = \"st-fno\"",
                Layout::Fno => "kind = \"fno\" without tucker, lifting and channel_mlp",
                _ => "kind = \"fno\"",
            };
            return Err(wrong(format!("has weights of layout {}: problem.model.{due} is due", layout.name())));
        };
        let told = if layout == Layout::Neuraloperator { layout::told(&file) } else { None };
        let help = |error: BadValue| match &told {
            Some(told) => error.help(format!("its tensors are those of problem.model with {told}")),
            None => error,
        };
        let mut found = Vec::with_capacity(tensors.len());
        for tensor in tensors {
            let Some(key) = tensor.keys.iter().find(|key| file.has(key)).cloned() else {
                return Err(help(wrong(format!(
                    "has no tensor {}; {:?} is its due shape",
                    tensor.keys[0], tensor.shape
                ))));
            };
            let there = file.shape(&key).map_err(|error| BadValue::wrong(KEY, error))?;
            if !tensor.fits(&there) {
                return Err(help(wrong(format!("has {key} of shape {there:?}, and {:?} is due", tensor.shape))));
            }
            found.push((key, tensor));
        }
        if let Some(other) = file.names().iter().find(|name| !found.iter().any(|(key, _)| key == *name)) {
            let there = file.shape(other).unwrap_or_default();
            return Err(help(wrong(format!("has {other} of shape {there:?}, for which the operator has no place"))));
        }
        Ok(Self { file, tensors: found })
    }

    fn parameters<T: Real>(&self, shape: &Shape) -> Result<Vec<T>> {
        let parts = shape.parts();
        let mut all = vec![T::default(); parts.count()];
        for (key, tensor) in &self.tensors {
            tensor.put(&self.file.read(key)?, &mut all[parts.range(&tensor.part)]);
        }
        Ok(all)
    }
}

/// Along which axes neuraloperator kept an odd number of modes.
fn odd(file: &SafetensorsReader, shape: &Shape) -> Vec<bool> {
    let Shape::Fno(shape) = shape else { return Vec::new() };
    let of = |axis: usize| {
        let factor = file.shape(&format!("fno_blocks.convs.0.weight.factors.factor_{}", axis + 2)).ok();
        let whole = ["fno_blocks.convs.0.weight.tensor", "fno_blocks.convs.0.weight"]
            .into_iter()
            .find_map(|key| file.shape(key).ok());
        factor.and_then(|shape| shape.first().copied()).or_else(|| whole.and_then(|shape| shape.get(axis + 2).copied()))
    };
    shape.modes.iter().enumerate().map(|(axis, m)| of(axis) == Some(2 * m - 1)).collect()
}

/// What was given away.
#[derive(Debug)]
pub struct Exported {
    /// Parameters.
    pub parameters: usize,
    /// Whether their numbers have eight bytes.
    pub is_double: bool,
}

/// Writes the operator of a run, its result, or a file that was written here, to a new file of `layout`; `replace`: or over an old one.
///
/// # Errors
/// A run that has no operator, or one that the layout does not know; the path is taken.
pub fn export(run: &Path, to: &Path, layout: Layout, replace: bool) -> Result<Exported> {
    let path = file::file(run.to_path_buf());
    let card = Card::read(&path, "RUN")?;
    let is_double = saved::is_double(&Source::open(&path)?, &card)?;
    if is_double {
        write::<f64>(&Operator::read(&path, card, "RUN")?, to, layout, replace)
    } else {
        write::<f32>(&Operator::read(&path, card, "RUN")?, to, layout, replace)
    }
    .map(|parameters| Exported { parameters, is_double })
}

/// The number of parameters.
fn write<T: Real + Float>(operator: &Operator<T>, to: &Path, layout: Layout, replace: bool) -> Result<usize> {
    let card = &operator.card;
    let Some(tensors) = layout.tensors(&card.shape, &card.points, &vec![false; card.points.len()]) else {
        let message = format!("{}: no layout of this kind of operator", layout.name());
        return Err(BadValue::wrong("--layout", message).into());
    };
    let mut names: Vec<_> = tensors.iter().map(|tensor| (tensor.keys[0].clone(), tensor.shape.clone())).collect();
    let normalisers = if layout == Layout::Convoke { operator.normalisers().to_vec() } else { Vec::new() };
    names.extend(normalisers.iter().map(|(name, values)| (format!("normaliser.{name}"), vec![values.len()])));
    let about = About { layout, operator: card.clone() }.text();
    let mut file = SafetensorsWriter::<T>::create(to, (ABOUT, &about), &names)?;
    let parts = card.shape.parts();
    for tensor in &tensors {
        file.write(&tensor.take(parts.of(&operator.parameters, &tensor.part)))?;
    }
    for (_, values) in &normalisers {
        file.write(values)?;
    }
    if replace {
        file.commit_replace()?
    } else {
        file.commit_new()?
    }
    Ok(parts.count())
}
