//! An operator in the result of the run that trained it: written by `training`, read by `evaluation`.

use std::path::{Path, PathBuf};

use convoke_cluster::comm::CommError;
use convoke_cluster::results::Meaning;
use convoke_cluster::{BadValue, Region, Result, Results};
use convoke_data::store::Reader;
use serde::{Deserialize, Serialize};

use super::data::Normaliser;
use super::layers::Batch;
use super::model::{Model, Shape};
use super::real::Real;
use super::spec::Normalise;
use super::spectra::Projection;
use super::spectral::Sharing;

/// Attribute of `/result` that describes the operator.
const ATTRIBUTE: &str = "operator";

/// What there is to know of an operator before its numbers are read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Card {
    /// Its size.
    pub shape: Shape,
    /// What was taken out of its data.
    pub normalise: Normalise,
    /// Points of the grid that it was trained on.
    pub points: Vec<usize>,
    /// Whether the divergence of its outputs is taken out.
    pub divergence_free: bool,
}

/// An operator.
#[derive(Debug)]
pub struct Operator<T> {
    /// What it is.
    pub card: Card,
    /// Its parameters.
    pub parameters: Vec<T>,
    /// Of its inputs.
    pub input: Normaliser<T>,
    /// Of its outputs.
    pub target: Normaliser<T>,
}

/// An operator on a grid, with what its outputs go through.
#[derive(Debug, Clone)]
pub struct Placed<T> {
    /// The operator.
    pub model: Model<T>,
    projection: Option<Projection<T>>,
}

impl Card {
    /// Of the run, or file, at `path`.
    ///
    /// # Errors
    /// A file that is none, or that holds no operator.
    pub fn read(path: &Path) -> Result<Self> {
        let reader = Reader::open(path)?;
        let text = reader.text_attribute("/result", ATTRIBUTE);
        let card = text.ok().and_then(|text| serde_json::from_str(&text).ok());
        card.ok_or_else(|| {
            let expected = "the directory of a run with task = \"train\", or its result.h5";
            BadValue::new("problem.evaluation.operator", path.display(), expected).into()
        })
    }

    /// Kinds of means: how many numbers of `channels` fields.
    fn means(&self, channels: usize) -> usize {
        if self.normalise == Normalise::Points { channels * self.points.iter().product::<usize>() } else { channels }
    }
}

impl<T: Real> Operator<T> {
    /// Of the file of `card`.
    ///
    /// # Errors
    /// Arrays that are missing or of another size.
    pub fn read(path: &Path, card: Card) -> Result<Self> {
        let reader = Reader::open(path)?;
        let array = |name: String, expected: &[usize]| -> Result<Vec<T>> {
            let name = format!("/result/{name}");
            let shape = reader.shape(&name)?;
            if shape != expected {
                let message = format!("{name} of {} has shape {shape:?}, and {expected:?} is due", path.display());
                return Err(BadValue::wrong("problem.evaluation.operator", message).into());
            }
            Ok(reader.read(&name)?)
        };
        let mut parameters = Vec::with_capacity(card.shape.parts().count());
        for part in card.shape.parts().each() {
            parameters.extend(array(format!("weights/{}", part.name), &part.shape)?);
        }
        let channels = card.shape.channels();
        let normaliser = |whose: &str, channels: usize| -> Result<Normaliser<T>> {
            let part = |name: &str| array(format!("normaliser/{whose}_{name}"), &[card.means(channels)]);
            Ok(Normaliser::from_parts(part("mean")?, part("deviation")?))
        };
        let (input, target) = (normaliser("input", channels[0])?, normaliser("target", channels[1])?);
        Ok(Self { parameters, input, target, card })
    }

    /// The operator on a grid.
    pub fn on(&self, points: &[usize]) -> Placed<T> {
        Placed {
            model: Model::new(&self.card.shape, points, &self.card.points),
            projection: self.card.divergence_free.then(|| Projection::new(points)),
        }
    }

    /// Data of an output.
    pub fn decode(&self, placed: &Placed<T>, output: &mut [T]) {
        self.target.decode(output);
        if let Some(projection) = &placed.projection {
            projection.apply(output);
        }
    }

    /// Derivatives by an output, of those by its data.
    pub fn slope(&self, placed: &Placed<T>, slope: &mut [T]) {
        if let Some(projection) = &placed.projection {
            projection.apply(slope);
        }
        self.target.scale(slope);
    }

    /// Outputs, as the data have them, of encoded inputs. Collective where matrices are shared out.
    ///
    /// # Errors
    /// As the exchange.
    pub fn apply(&self, placed: &Placed<T>, encoded: &[Vec<T>], sharing: &Sharing) -> Result<Batch<T>, CommError> {
        let model = &placed.model;
        let (outputs, tape) = model.forward(&self.parameters, encoded, sharing)?;
        let mut decoded = outputs.clone();
        decoded.iter_mut().for_each(|field| self.decode(placed, field));
        model.recycle(outputs, tape);
        Ok(decoded)
    }

    /// Writes it. Collective.
    ///
    /// # Errors
    /// As [`Results::array`].
    pub fn write(&self, out: &mut Results) -> Result<()> {
        let root = out.is_root();
        let meaning = |long_name: String| Meaning { long_name, unit: "1".to_owned(), axes: Vec::new() };
        for part in self.card.shape.parts().each() {
            let (name, what) = (format!("weights/{}", part.name), meaning(format!("parameters {}", part.name)));
            out.array(&name, &part.shape, (Region::whole(&part.shape), root), &self.parameters[part.range()], &what)?;
        }
        for (whose, normaliser) in [("input", &self.input), ("target", &self.target)] {
            for (name, values) in normaliser.parts() {
                let what = meaning(format!("{name} that was taken out of the {whose}"));
                let (name, shape) = (format!("normaliser/{whose}_{name}"), [values.len()]);
                out.array(&name, &shape, (Region::whole(&shape), root), values, &what)?;
            }
        }
        out.figure("parameters", self.parameters.len() as f64)?;
        out.text(ATTRIBUTE, &serde_json::to_string(&self.card).unwrap_or_default())
    }
}

/// The file of a path: that of a run's result for a directory.
pub fn file(path: PathBuf) -> PathBuf {
    if path.is_dir() { path.join("result.h5") } else { path }
}
