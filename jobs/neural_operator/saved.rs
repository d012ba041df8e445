//! An operator in the result of the run that trained it, written by `training` and read by `evaluation`; or in a file of weights that
//! was made from such a result.

use std::ops::Range;
use std::path::Path;

use convoke_cluster::comm::CommError;
use convoke_cluster::results::Meaning;
use convoke_cluster::{BadValue, Region, Result, Results};
use convoke_data::formats::safetensors::SafetensorsReader;
use serde::{Deserialize, Serialize};

use super::exchange::Layout;
use super::layers::Batch;
use super::model::{Model, Shape};
use super::normaliser::Normaliser;
use super::spec::Normalise;
use super::spectra::Projection;
use super::spectral::Sharing;
use crate::learning::file::{Source, WEIGHTS};
use crate::learning::real::Real;

/// Attribute of `/result` that describes the operator.
const ATTRIBUTE: &str = "operator";
/// What a file of weights says of itself.
pub(super) const ABOUT: &str = "convoke";

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

/// What a file of weights says of itself: whose names it has, and which operator they are of.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct About {
    /// Names and orders of its tensors.
    pub layout: Layout,
    /// The operator.
    pub operator: Card,
}

impl About {
    /// Of a file that was written here.
    pub fn of(file: &SafetensorsReader) -> Option<Self> {
        serde_json::from_str(file.about(ABOUT)?).ok()
    }

    /// As text.
    pub fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// The operator that is in a file.
fn card(source: &Source) -> Option<Card> {
    match source {
        Source::Result(file) => serde_json::from_str(&file.text_attribute("/result", ATTRIBUTE).ok()?).ok(),
        Source::Weights(file) => {
            About::of(file).filter(|about| about.layout == Layout::Convoke).map(|about| about.operator)
        }
    }
}

/// Whether parameters of an operator in a file have eight bytes.
///
/// # Errors
/// Parameters that are not there.
pub(super) fn is_double(source: &Source, card: &Card) -> Result<bool> {
    let parts = card.shape.parts();
    source.is_double(WEIGHTS, parts.each().next().map_or("", |part| part.name.as_str()))
}

impl Card {
    /// Of the run, or file, at `path`, which `key` names.
    ///
    /// # Errors
    /// A file that is none, or that holds no operator.
    pub fn read(path: &Path, key: &str) -> Result<Self> {
        let source = Source::open(path).map_err(|error| BadValue::wrong(key, error))?;
        card(&source).ok_or_else(|| {
            let expected =
                "the directory of a run with task = \"train\", its result.h5, or what `convoke weights` makes of it";
            BadValue::new(key, path.display(), expected).into()
        })
    }

    /// Kinds of means: how many numbers of `channels` fields.
    fn means(&self, channels: usize) -> usize {
        if self.normalise == Normalise::Points { channels * self.points.iter().product::<usize>() } else { channels }
    }
}

impl<T: Real> Operator<T> {
    /// Of the file of `card`, which `key` names.
    ///
    /// # Errors
    /// Arrays that are missing or of another size.
    pub fn read(path: &Path, card: Card, key: &str) -> Result<Self> {
        let source = Source::open(path)?;
        let array = |group: &str, name: &str, expected: &[usize]| -> Result<Vec<T>> {
            let (name, shape) = source.shape(group, name)?;
            if shape != expected {
                let message = format!("{name} of {} has shape {shape:?}, and {expected:?} is due", path.display());
                return Err(BadValue::wrong(key, message).into());
            }
            source.read(&name)
        };
        let mut parameters = Vec::with_capacity(card.shape.parts().count());
        for part in card.shape.parts().each() {
            parameters.extend(array(WEIGHTS, &part.name, &part.shape)?);
        }
        let channels = card.shape.channels();
        let normaliser = |whose: &str, channels: usize| -> Result<Normaliser<T>> {
            let part = |name: &str| array("normaliser", &format!("{whose}_{name}"), &[card.means(channels)]);
            Ok(Normaliser::from_parts(part("mean")?, part("deviation")?))
        };
        let (input, target) = (normaliser("input", channels[0])?, normaliser("target", channels[1])?);
        Ok(Self { parameters, input, target, card })
    }

    /// Means and deviations with their names.
    pub(super) fn normalisers(&self) -> [(String, &[T]); 4] {
        let named = |whose: &str, normaliser| {
            let [mean, deviation] = Normaliser::parts(normaliser);
            [mean, deviation].map(|(name, values)| (format!("{whose}_{name}"), values))
        };
        let ([a, b], [c, d]) = (named("input", &self.input), named("target", &self.target));
        [a, b, c, d]
    }

    /// The operator on a grid.
    pub fn on(&self, points: &[usize]) -> Placed<T> {
        self.on_slab(points, 0..points[0])
    }

    /// The operator on a grid of whose first axis these rows are here.
    pub fn on_slab(&self, points: &[usize], rows: Range<usize>) -> Placed<T> {
        Placed {
            model: Model::slab(&self.card.shape, points, rows, &self.card.points),
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
        for (name, values) in self.normalisers() {
            let what = meaning(format!("what was taken out of the data: {name}"));
            let (name, shape) = (format!("normaliser/{name}"), [values.len()]);
            out.array(&name, &shape, (Region::whole(&shape), root), values, &what)?;
        }
        out.figure("parameters", self.parameters.len() as f64)?;
        out.text(ATTRIBUTE, &serde_json::to_string(&self.card).unwrap_or_default())
    }
}
