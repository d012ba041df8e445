//! Training in single precision on a GPU: parameters, moments, gradients and all fields of the passes stay there.
//!
//! What goes over the bus in a step: the inputs and targets of the batch, and the errors of its samples. With several ranks also the
//! gradient, which they sum as always. Losses other than the relative L² error, and a divergence that is taken out, are the processor's:
//! then outputs come to the host and their derivatives go back. The state of a checkpoint is the host's copy, brought up to date when it
//! is asked for.

mod behind;
mod fno;
mod st_fno;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt::Debug;

use convoke_cluster::{Comm, Result};
use convoke_kernels::fourier_layer::{AdamW, Mix, RelativeL2, adamw};
use convoke_kernels::{Buffer, Device, Slices};

use self::fno::DeviceFno;
use self::st_fno::DeviceStFno;
use super::layers::Batch;
use super::model::{Model, Shape};
use super::norms::Norm;
use super::saved::{Operator, Placed};
use super::sharding::Owned;
use super::spec::Shared;
use crate::learning::Precision;
use crate::learning::optimiser::{BETA, EPSILON};
use crate::learning::parameters::Parts;

/// Why the processor trains an operator also where there is a GPU: its precision, what ranks share, or arrays of passes over so many samples on
/// these grids, places in which kernels count in 32 bits.
pub fn unsuited<'p>(
    shape: &Shape,
    precision: Precision,
    shared: Shared,
    passes: impl Iterator<Item = (&'p [usize], usize)>,
) -> Option<String> {
    if precision == Precision::Double {
        return Some("precision = \"double\"".to_owned());
    }
    if shared != Shared::Samples {
        let reason = "ranks share the matrices of the modes; problem.training.shared = \"samples\" lets it serve";
        return Some(reason.to_owned());
    }
    let most = passes.map(|(points, samples)| longest(shape, points, samples)).max().unwrap_or(0);
    (most >= 1 << 31).then(|| {
        format!("an array of {most} numbers, and it takes fewer than 2^31; a smaller problem.training.batch helps")
    })
}

/// Numbers of the longest array of a pass over so many samples, as kernels count them.
fn longest(shape: &Shape, points: &[usize], samples: usize) -> usize {
    let [outer, inner] = shape.kept();
    let (width, fields) = match shape {
        Shape::Fno(fno) => {
            let inside = [Some(fno.width), fno.lifting, fno.channel_mlp.as_ref().map(|mlp| mlp.channels)];
            let ends = [fno.input + points.len(), fno.output, fno.projection];
            let channels = inside.into_iter().flatten().chain(ends).max().unwrap_or(0);
            let maps = channels * (fno.width.max(fno.input + points.len()) + 1);
            // A Tucker product is made before it is used.
            let product = if fno.tucker.is_some() { 2 * outer * inner * fno.width * fno.width } else { 0 };
            (fno.width, (samples * channels * fno.padded(points).iter().product::<usize>()).max(maps).max(product))
        }
        Shape::StFno(st) => {
            let times = [samples * st.width * st.input, samples * st.width * st.latent, samples * st.output];
            // Snapshots behind zeros.
            let longest = times.into_iter().max().unwrap_or(0).max(st.output + 2 * (st.latent + 1));
            (st.width, points.iter().product::<usize>() * longest.max(samples * (st.latent + 1)))
        }
    };
    fields.max(4 * samples * width * outer * inner)
}

/// Samples of a batch that are this rank's.
pub struct Samples<'a, T> {
    /// Encoded inputs.
    pub inputs: Vec<&'a [T]>,
    /// Targets.
    pub targets: Vec<&'a [T]>,
    /// Samples of the whole batch.
    pub whole: usize,
}

/// The error of an output, which it decodes, and its derivative over the samples of the batch.
pub type Loss<'a, T> = &'a dyn Fn(&mut [T], &[T]) -> (f64, Vec<T>);

/// A training on a device, as the loop of steps sees it.
pub trait OnDevice<T>: Debug {
    /// Takes parameters and both moments from the host, where they changed there.
    fn push(&mut self, host: [&[T]; 3]);

    /// Brings the host's copies of them up to date.
    ///
    /// # Errors
    /// Of the device.
    fn pull(&mut self, host: [&mut [T]; 3]) -> Result<()>;

    /// The host's copies, which are up to date, are about to change.
    fn host_changes(&mut self);

    /// The sum of the errors of this rank's samples; the gradient stays here.
    ///
    /// # Errors
    /// Of the device.
    fn gradient(&mut self, samples: &Samples<'_, T>, loss: Loss<'_, T>) -> Result<f64>;

    /// Sums the gradients of all ranks; the square of the norm. Collective.
    ///
    /// # Errors
    /// Of the device, and as the exchange.
    fn sum(&mut self, comm: &Comm, owned: &Owned) -> Result<f64>;

    /// Step `t` of the parameters, with the gradient times a factor.
    ///
    /// # Errors
    /// Of the device.
    fn step(&mut self, factor: Option<f64>, t: u64, rate: f64, decay: f64) -> Result<()>;

    /// Takes parameters to apply the operator with.
    ///
    /// # Errors
    /// Of the device.
    fn load(&mut self, parameters: &[T]) -> Result<()>;

    /// Outputs of encoded inputs on the grid of a test set, not decoded, with the parameters that were loaded.
    ///
    /// # Errors
    /// Of the device.
    fn apply(&mut self, test: usize, inputs: &[Vec<T>]) -> Result<Batch<T>>;
}

/// Which copies are up to date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Newest {
    Host,
    Device,
    Both,
}

/// An operator on a grid on a device.
#[derive(Debug)]
enum DeviceModel {
    Fno(Box<DeviceFno>),
    StFno(Box<DeviceStFno>),
}

impl DeviceModel {
    fn new(device: &Device, model: &Model<f32>) -> Result<Self> {
        Ok(match model {
            Model::Fno(model) => Self::Fno(Box::new(DeviceFno::new(device, model)?)),
            Model::StFno(model) => Self::StFno(Box::new(DeviceStFno::new(device, model)?)),
        })
    }

    /// Numbers of a sample's output.
    fn outputs(&self) -> usize {
        match self {
            Self::Fno(model) => model.outputs(),
            Self::StFno(model) => model.outputs(),
        }
    }

    /// Outputs of encoded inputs; they stay here.
    fn forward<'a>(
        &mut self,
        parameters: &mut Buffer<f32>,
        samples: usize,
        inputs: impl Iterator<Item = &'a [f32]>,
    ) -> Result<()> {
        match self {
            Self::Fno(model) => model.forward(parameters, samples, inputs),
            Self::StFno(model) => model.forward(parameters, samples, inputs),
        }
    }

    /// The outputs of the last pass over so many samples, and where the derivatives by them are due.
    fn ends(&mut self, samples: usize) -> Result<(&mut Buffer<f32>, &mut Buffer<f32>)> {
        match self {
            Self::Fno(model) => model.ends(samples),
            Self::StFno(model) => model.ends(samples),
        }
    }

    /// The gradient of the parameters for these derivatives.
    fn backward(&mut self, parameters: &mut Buffer<f32>, samples: usize, gradient: &mut Buffer<f32>) -> Result<()> {
        match self {
            Self::Fno(model) => model.backward(parameters, samples, gradient),
            Self::StFno(model) => model.backward(parameters, samples, gradient),
        }
    }
}

/// Where a pointwise map lies among the parameters.
fn place(parts: &Parts, name: &str) -> Mix {
    let [weight, bias] = ["weight", "bias"].map(|part| parts.range(&format!("{name}.{part}")));
    Mix { from: weight.len() / bias.len(), to: bias.len(), weight: weight.start, bias: Some(bias.start) }
}

/// A training whose arrays are on a device.
#[derive(Debug)]
pub struct Resident {
    device: Device,
    /// On the grid of training, then on those of the tests.
    models: Vec<DeviceModel>,
    /// Where the device can measure it.
    loss: Option<RelativeL2>,
    parameters: Buffer<f32>,
    moments: [Buffer<f32>; 2],
    gradient: Buffer<f32>,
    newest: Newest,
    /// Those that the operator is applied with.
    applied: Buffer<f32>,
    /// Of so many samples.
    targets: BTreeMap<usize, Buffer<f32>>,
}

impl Resident {
    /// Of an operator that [`unsuited`] has nothing against.
    ///
    /// # Errors
    /// Of the device.
    pub fn new<'p>(
        device: &Device,
        operator: &Operator<f32>,
        norm: &Norm<f32>,
        grids: impl Iterator<Item = &'p Placed<f32>>,
    ) -> Result<Self> {
        let models = grids.map(|placed| DeviceModel::new(device, &placed.model)).collect::<Result<Vec<_>>>()?;
        let loss = if matches!(norm, Norm::Lp(2.0)) && !operator.card.divergence_free {
            let [mean, deviation] = operator.target.parts().map(|(_, values)| values.to_vec());
            let size = models[0].outputs();
            Some(RelativeL2::new(device, size, mean, deviation)?)
        } else {
            None
        };
        let zeros = || Buffer::zeros(device, operator.parameters.len());
        Ok(Self {
            device: device.clone(),
            models,
            loss,
            parameters: zeros()?,
            moments: [zeros()?, zeros()?],
            gradient: zeros()?,
            newest: Newest::Host,
            applied: zeros()?,
            targets: BTreeMap::new(),
        })
    }
}

/// Lists one after another.
fn fill<'a>(buffer: &mut Buffer<f32>, lists: impl Iterator<Item = &'a [f32]>) {
    let mut rest = buffer.host_mut();
    for list in lists {
        let (here, others) = rest.split_at_mut(list.len());
        here.copy_from_slice(list);
        rest = others;
    }
}

impl OnDevice<f32> for Resident {
    fn push(&mut self, host: [&[f32]; 3]) {
        if self.newest == Newest::Host {
            let [first, second] = &mut self.moments;
            for (buffer, host) in [&mut self.parameters, first, second].into_iter().zip(host) {
                buffer.host_mut().copy_from_slice(host);
            }
            self.newest = Newest::Both;
        }
    }

    fn pull(&mut self, host: [&mut [f32]; 3]) -> Result<()> {
        if self.newest == Newest::Device {
            let [first, second] = &mut self.moments;
            for (buffer, host) in [&mut self.parameters, first, second].into_iter().zip(host) {
                buffer.sync()?;
                host.copy_from_slice(buffer.host());
            }
            self.newest = Newest::Both;
        }
        Ok(())
    }

    fn host_changes(&mut self) {
        assert!(self.newest != Newest::Device, "the host's copies are up to date before they change");
        self.newest = Newest::Host;
    }

    fn gradient(&mut self, samples: &Samples<'_, f32>, loss: Loss<'_, f32>) -> Result<f64> {
        let count = samples.inputs.len();
        if count == 0 {
            Slices::new(&self.device, 1)?.fill(0.0, &mut self.gradient)?;
            return Ok(0.0);
        }
        let model = &mut self.models[0];
        model.forward(&mut self.parameters, count, samples.inputs.iter().copied())?;
        let (output, slope) = model.ends(count)?;
        let error = if let Some(loss) = &mut self.loss {
            let targets = match self.targets.entry(count) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(place) => place.insert(Buffer::zeros(&self.device, output.len())?),
            };
            fill(targets, samples.targets.iter().copied());
            loss.slopes(count, 1.0 / samples.whole as f32, output, targets, slope)?.iter().sum()
        } else {
            output.sync()?;
            let mut outputs = output.host().to_vec();
            let each = outputs.chunks_mut(output.len() / count).zip(&samples.targets);
            let (errors, slopes): (Vec<f64>, Vec<Vec<f32>>) = each.map(|(output, target)| loss(output, target)).unzip();
            fill(slope, slopes.iter().map(Vec::as_slice));
            errors.iter().sum()
        };
        model.backward(&mut self.parameters, count, &mut self.gradient)?;
        Ok(error)
    }

    fn sum(&mut self, comm: &Comm, owned: &Owned) -> Result<f64> {
        if comm.size() == 1 {
            return Ok(Slices::new(&self.device, 1)?.norm2(&mut self.gradient)?[0]);
        }
        self.gradient.sync()?;
        Ok(owned.sum(comm, self.gradient.host_mut())?)
    }

    fn step(&mut self, factor: Option<f64>, t: u64, rate: f64, decay: f64) -> Result<()> {
        if let Some(factor) = factor {
            Slices::new(&self.device, 1)?.scale(&[factor], &mut self.gradient)?;
        }
        let how = AdamW { beta: BETA, epsilon: EPSILON, rate, decay, step: t };
        let [first, second] = &mut self.moments;
        adamw(&self.device, how, &mut self.gradient, [first, second], &mut self.parameters)?;
        self.newest = Newest::Device;
        Ok(())
    }

    fn load(&mut self, parameters: &[f32]) -> Result<()> {
        fill(&mut self.applied, std::iter::once(parameters));
        Ok(())
    }

    fn apply(&mut self, test: usize, inputs: &[Vec<f32>]) -> Result<Batch<f32>> {
        if inputs.is_empty() {
            return Ok(Vec::new());
        }
        let model = &mut self.models[1 + test];
        model.forward(&mut self.applied, inputs.len(), inputs.iter().map(Vec::as_slice))?;
        let (output, _) = model.ends(inputs.len())?;
        output.sync()?;
        let size = output.len() / inputs.len();
        Ok(output.host().chunks(size).map(<[f32]>::to_vec).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::super::st_fno::StShape;
    use super::*;

    /// Arrays of 2^31 numbers are the processor's; one sample less of the same is not.
    #[test]
    fn arrays_that_are_too_long_are_told() {
        let st = StShape { input: 8, output: 4, width: 16, layers: 2, modes: vec![4, 4, 2], latent: 4, growth: 0.0 };
        let why = |samples: usize| {
            let passes = std::iter::once(([1024, 1024].as_slice(), samples));
            unsuited(&Shape::StFno(st.clone()), Precision::Single, Shared::Samples, passes)
        };
        assert_eq!(why(15), None);
        assert!(why(16).is_some_and(|why| why.contains("2147483648 numbers") && why.contains("training.batch")));
    }
}
