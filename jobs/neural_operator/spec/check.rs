//! Checks of single values, and what follows from them.

use convoke_cluster::BadValue;
use num_complex::Complex64;

use super::super::channel_mlp::ChannelMlp;
use super::super::fno::FnoShape;
use super::super::model::Shape;
use super::super::st_fno::StShape;
use super::*;
use crate::flow::{Modes, given};

fn within<N: PartialOrd + std::fmt::Display>(key: &str, value: N, low: N, high: N) -> Result<(), BadValue> {
    if value >= low && value <= high {
        return Ok(());
    }
    Err(BadValue::new(format!("problem.{key}"), value, format!("{low} to {high}")))
}

impl Spec {
    /// Which means and deviations are taken out.
    pub fn normalise(&self) -> Normalise {
        let st = self.model.as_ref().is_some_and(|model| model.kind == ModelKind::StFno);
        self.data.normalise.unwrap_or(if st { Normalise::None } else { Normalise::Channels })
    }

    /// Single values.
    ///
    /// # Errors
    /// [`BadValue`] that names the key.
    pub fn check(&self) -> Result<(), BadValue> {
        within("data.dimension", self.data.dimension, 1, 3)?;
        let (train, refine, task) = (self.task == Task::Train, self.task == Task::Refine, self.task.name());
        for (key, there, wanted) in [
            ("model", self.model.is_some(), train),
            ("training", self.training.is_some(), train),
            ("data.file", self.data.file.is_some(), train),
            ("evaluation", self.evaluation.is_some(), !train),
            ("equation", self.equation.is_some(), refine),
            ("refinement", self.refinement.is_some(), refine),
            ("test", !self.test.is_empty(), !train || !self.test.is_empty()),
        ] {
            match (there, wanted) {
                (false, true) => {
                    return Err(BadValue::wrong(
                        format!("problem.{key}"),
                        format!("missing; task = \"{task}\" needs it"),
                    ));
                }
                (true, false) => return Err(BadValue::foreign(format!("problem.{key}"), format!("task = \"{task}\""))),
                _ => {}
            }
        }
        if let Some(model) = &self.model {
            model.check(self.data.dimension)?;
        }
        if let Some(training) = &self.training {
            if training.patience.is_some() && self.test.is_empty() {
                return Err(BadValue::foreign("problem.training.patience", "no [[problem.test]]"));
            }
            training.check()?;
        }
        let (normalise, st) = (self.normalise(), self.model.as_ref().is_some_and(|m| m.kind == ModelKind::StFno));
        if st && normalise != Normalise::None {
            let message =
                "not with kind = \"st-fno\", which adds its changes to the newest snapshot and normalises inside";
            return Err(BadValue::wrong("problem.data.normalise", message));
        }
        if let (Some(equation), Some(refinement)) = (&self.equation, &self.refinement) {
            if self.test.len() != 1 {
                let expected = "one set of data for task = \"refine\"";
                return Err(BadValue::new("problem.test", format!("{} sets", self.test.len()), expected));
            }
            if self.data.dimension != 2 {
                return Err(BadValue::new("problem.data.dimension", self.data.dimension, "2 for task = \"refine\""));
            }
            equation.check()?;
            refinement.check()?;
        }
        if let Some(evaluation) = &self.evaluation {
            within("evaluation.applications", evaluation.applications, 1, 1_000_000)?;
        }
        for (key, field) in [("input", &self.data.input), ("target", &self.data.target)] {
            if let Some([first, end]) = field.channels
                && first >= end
            {
                let expected = "the first channel and the one after the last";
                return Err(BadValue::new(
                    format!("problem.data.{key}.channels"),
                    format!("[{first}, {end}]"),
                    expected,
                ));
            }
        }
        if let Some(windows) = &self.data.windows {
            for (key, n) in [("input", windows.input), ("target", windows.target), ("every", windows.every)] {
                within(&format!("data.windows.{key}"), n, 1, 1_000_000)?;
            }
            if self.data.input != self.data.target || self.data.input.channels.is_some() {
                let message = "not with windows, for which input and target name the same arrays without channels";
                return Err(BadValue::wrong("problem.data.input.channels", message));
            }
        }
        for (i, test) in self.test.iter().enumerate() {
            let bad = test.name.is_empty() || !test.name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            if bad || self.test[..i].iter().any(|other| other.name == test.name) {
                let expected = "letters, digits and _, a name that no other set has";
                return Err(BadValue::new("problem.test.name", &test.name, expected));
            }
        }
        Ok(())
    }
}

impl EquationSpec {
    fn check(&self) -> Result<(), BadValue> {
        let length = self.length()?;
        within("equation.length", length, 1e-12, 1e12)?;
        within("equation.viscosity", self.viscosity, 0.0, 1e12)?;
        within("equation.drag", self.drag, 0.0, 1e12)
    }

    fn length(&self) -> Result<f64, BadValue> {
        self.length.value().map_err(|e| BadValue::wrong("problem.equation.length", e))
    }

    /// The modes of so many points along each axis.
    ///
    /// # Errors
    /// [`BadValue`] for a length that is none.
    pub fn modes(&self, points: usize) -> Result<Modes, BadValue> {
        Ok(Modes::new(points, self.length()?))
    }

    /// Coefficients of the forcing; none where there is none.
    ///
    /// # Errors
    /// [`BadValue`] for an expression that cannot be read or is finer than the modes.
    pub fn coefficients(&self, modes: &Modes) -> Result<Vec<Complex64>, BadValue> {
        let key = "problem.equation.forcing";
        let grid = ["problem.refinement.points", "problem.equation.length"];
        self.forcing.as_ref().map_or(Ok(Vec::new()), |text| given::coefficients(key, text, modes, grid))
    }
}

impl RefinementSpec {
    fn check(&self) -> Result<(), BadValue> {
        within("refinement.every", self.every, 1e-12, 1e12)?;
        within("refinement.coarse", self.coarse, 1, 1_000_000)?;
        within("refinement.parareal", self.parareal, 0, 1000)?;
        within("refinement.gauss_newton", self.gauss_newton, 0, 1000)?;
        within("refinement.iterations", self.iterations, 1, 100_000)?;
        within("refinement.order", self.order, 1, 6)?;
        within("refinement.s", self.s, -8.0, 8.0)?;
        within("refinement.alpha", self.alpha, 1e-12, 1e12)?;
        within("refinement.steps", self.steps, 1, 100_000_000)?;
        self.points.map_or(Ok(()), |points| within("refinement.points", points, 4, 16384))?;
        self.direct.iter().try_for_each(|steps| within("refinement.direct", *steps, 1, 100_000_000))
    }

    /// Points of the solver for data on so many.
    pub fn points(&self, data: usize) -> usize {
        self.points.unwrap_or((3 * data).div_ceil(2))
    }
}

/// Channels between the projections of an `fno` unless others are asked for.
const PROJECTION: usize = 128;
/// Times inside of an `st-fno`, and growth of its encoding, unless others are asked for.
const LATENT: usize = 10;
const GROWTH: f64 = 0.02;

impl ChannelMlpSpec {
    /// Channels between its maps, rounded as Python does.
    fn channels(&self, width: usize) -> usize {
        (self.expansion * width as f64).round_ties_even() as usize
    }
}

impl ModelSpec {
    fn check(&self, d: usize) -> Result<(), BadValue> {
        within("model.width", self.width, 1, 4096)?;
        within("model.layers", self.layers, 1, 64)?;
        let st = self.kind == ModelKind::StFno;
        for (key, there, fits) in [
            ("projection", self.projection.is_some(), !st),
            ("lifting", self.lifting.is_some(), !st),
            ("channel_mlp", self.channel_mlp.is_some(), !st),
            ("padding", self.padding.is_some(), !st),
            ("tucker", self.tucker.is_some(), !st),
            ("activations", self.activations.is_some(), !st),
            ("latent_steps", self.latent_steps.is_some(), st),
            ("growth", self.growth.is_some(), st),
        ] {
            if there && !fits {
                let kind = if st { "st-fno" } else { "fno" };
                return Err(BadValue::foreign(format!("problem.model.{key}"), format!("kind = \"{kind}\"")));
            }
        }
        if self.channel_mlp.is_some() && self.activations.is_some() {
            // One σ before the network and one behind it.
            return Err(BadValue::foreign("problem.model.activations", "[problem.model.channel_mlp]"));
        }
        if let Some(mlp) = &self.channel_mlp {
            within("model.channel_mlp.expansion", mlp.expansion, 1e-3, 64.0)?;
            if mlp.channels(self.width) == 0 {
                let expected = format!("more than {} for width = {}", 0.5 / self.width as f64, self.width);
                return Err(BadValue::new("problem.model.channel_mlp.expansion", mlp.expansion, expected));
            }
        }
        if st && d != 2 {
            return Err(BadValue::new("problem.data.dimension", d, "2 for kind = \"st-fno\""));
        }
        if st && self.width < 3 {
            return Err(BadValue::new("problem.model.width", self.width, "at least 3 for kind = \"st-fno\""));
        }
        let axes = if st { 3 } else { d };
        for (key, list) in [("modes", Some(&self.modes)), ("padding", self.padding.as_ref())] {
            let Some(list) = list.filter(|list| list.len() != axes) else { continue };
            let what = if st { "x, y and t" } else { "each axis of space" };
            let expected = format!("{axes} numbers, one for {what}");
            return Err(BadValue::new(format!("problem.model.{key}"), format!("{list:?}"), expected));
        }
        self.modes.iter().try_for_each(|m| within("model.modes", *m, 1, 8192))?;
        if let Some(ranks) = &self.tucker {
            let axes = |(axis, m): (usize, &usize)| if axis + 1 == d { *m } else { 2 * m };
            let most: Vec<usize> =
                [self.width, self.width].into_iter().chain(self.modes.iter().enumerate().map(axes)).collect();
            if ranks.len() != most.len() || ranks.iter().zip(&most).any(|(r, n)| !(1..=*n).contains(r)) {
                let expected = format!("{} ranks from 1 to at most {most:?}", most.len());
                return Err(BadValue::new("problem.model.tucker", format!("{ranks:?}"), expected));
            }
        }
        self.padding.iter().flatten().try_for_each(|p| within("model.padding", *p, 0, 8192))?;
        self.lifting.map_or(Ok(()), |n| within("model.lifting", n, 1, 65536))?;
        self.activations.map_or(Ok(()), |n| within("model.activations", n, 1, 8))?;
        self.projection.map_or(Ok(()), |p| within("model.projection", p, 1, 65536))?;
        self.latent_steps.map_or(Ok(()), |l| within("model.latent_steps", l, 1, 4096))?;
        self.growth.map_or(Ok(()), |g| within("model.growth", g, -1e2, 1e2))
    }

    /// The operator's size for so many channels.
    ///
    /// # Errors
    /// [`BadValue`] for more times inside than the input has.
    pub fn shape(&self, [input, output]: [usize; 2], points: &[usize]) -> Result<Shape, BadValue> {
        let (width, layers, modes) = (self.width, self.layers, self.modes.clone());
        if self.kind == ModelKind::Fno {
            let padding = self.padding.clone().unwrap_or_else(|| vec![0; points.len()]);
            let projection = self.projection.unwrap_or(PROJECTION);
            let (tucker, activations) = (self.tucker.clone(), self.activations.unwrap_or(1));
            let behind = |mlp: &ChannelMlpSpec| ChannelMlp { channels: mlp.channels(width), skip: mlp.skip };
            return Ok(Shape::Fno(FnoShape {
                input,
                output,
                width,
                layers,
                modes,
                projection,
                padding,
                lifting: self.lifting,
                channel_mlp: self.channel_mlp.as_ref().map(behind),
                tucker,
                activations,
            }));
        }
        let latent = self.latent_steps.unwrap_or(LATENT.min(input));
        if latent > input {
            let expected = format!("at most the {input} snapshots of the input");
            return Err(BadValue::new("problem.model.latent_steps", latent, expected));
        }
        let growth = self.growth.unwrap_or(GROWTH);
        Ok(Shape::StFno(StShape { input, output, width, layers, modes, latent, growth }))
    }
}

impl TrainingSpec {
    fn check(&self) -> Result<(), BadValue> {
        within("training.epochs", self.epochs, u64::from(self.start.is_none()), 1_000_000)?;
        within("training.batch", self.batch, 1, 1_000_000)?;
        within("training.rate", self.rate, 1e-12, 1e3)?;
        within("training.weight_decay", self.weight_decay, 0.0, 1.0)?;
        within("training.p", self.p, 1.0, 16.0)?;
        within("training.test_every", self.test_every, 1, u64::MAX)?;
        if let Some(SobolevSpec { s, alpha }) = self.sobolev {
            within("training.sobolev.s", s, -8.0, 8.0)?;
            within("training.sobolev.alpha", alpha, 1e-12, 1e12)?;
        }
        if let Some(order) = self.torch_cfd {
            within("training.torch_cfd", order, -1, 2)?;
            if self.sobolev.is_some() {
                return Err(BadValue::foreign("problem.training.sobolev", "torch_cfd"));
            }
        }
        self.average.map_or(Ok(()), |average| within("training.average", average, 0.0, 1.0 - 1e-9))?;
        self.patience.map_or(Ok(()), |patience| within("training.patience", patience, 1, u64::MAX))?;
        self.clip.map_or(Ok(()), |clip| within("training.clip", clip, 1e-12, 1e12))
    }
}
