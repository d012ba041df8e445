//! Volumes from few data by a denoiser of their slices: samplers that go down levels of noise, and a variational method.
//!
//! Images have values of about 0 to 1, as the denoiser knows them; the operator is divided by its norm, so that weights mean the same for any
//! operator, see [`data::Data`]. [`Sampler`] is the [`Solver`] of all of them: a [`Chain`] goes from noise to a volume, or several times for a
//! posterior, see [`tally::Tally`].

pub mod active;
pub mod data;
pub mod dds;
pub mod levels;
pub mod mbir;
pub mod red;
pub mod splitting;
pub mod tally;
pub mod tuning;

use std::sync::Arc;

use convoke_cluster::{BadValue, Fields, Result, Results};
use convoke_kernels::Buffer;

use super::place::Place;
use super::{Operator, Report, Solver};
use crate::prior::Denoiser;
use data::Data;
use tally::Tally;
use tuning::Tuning;

/// Where a job file says what value is 1 for the denoiser.
const SCALE: &str = "problem.method.diffusion.scale";
/// Values that the denoiser may meet: some beyond 1, for noise.
const MOST: f64 = 1.5;

/// What all steps of a chain need.
pub struct World<'a> {
    /// Where the data come from.
    pub operator: &'a mut dyn Operator,
    /// The data.
    pub data: &'a mut Data,
    /// What slices are like.
    pub denoiser: &'a dyn Denoiser,
    /// Where the volume lies.
    pub place: Place,
    /// Of the job.
    pub seed: u64,
    /// Which sample: its random numbers are its own.
    pub sample: u64,
}

impl World<'_> {
    /// Normal numbers, one for each voxel here; `which` tells the arrays of a sample apart.
    pub fn normal(&self, which: u64) -> impl Iterator<Item = f32> + use<> {
        self.place.normal(self.seed, (self.sample << 32) | which)
    }

    /// D of this rank's slices.
    ///
    /// # Errors
    /// Of the denoiser's device.
    pub fn denoise(&self, x: &[f32], sigma: f64) -> Result<Vec<f32>> {
        self.denoiser.denoise(x, self.place.points, sigma)
    }
}

/// One way from noise to a volume.
pub trait Chain: std::fmt::Debug {
    /// Steps of it.
    fn steps(&self) -> u64;

    /// Begins anew. Collective.
    ///
    /// # Errors
    /// Of the operator.
    fn start(&mut self, world: &mut World<'_>) -> Result<()>;

    /// Step `i`; the level of noise that it was at. Collective.
    ///
    /// # Errors
    /// Of the operator and of the exchange.
    fn step(&mut self, i: u64, world: &mut World<'_>) -> Result<f64>;

    /// Takes another weight of the total variation along z, where it has one of a splitting.
    fn weigh(&mut self, _lambda: f64) {}

    /// The volume, in the denoiser's values: with noise, and after the last step without.
    fn volume(&self) -> &[f32];

    /// What is kept between steps, each as large as the volume.
    fn state(&mut self) -> Vec<(&'static str, &mut Vec<f32>)>;
}

/// A reconstruction by a denoiser.
pub struct Sampler {
    chain: Box<dyn Chain>,
    denoiser: Arc<dyn Denoiser>,
    data: Data,
    place: Place,
    seed: u64,
    samples: u64,
    tally: Option<Tally>,
    tuning: Option<Tuning>,
    finished: u64,
    image: Buffer<f32>,
}

impl std::fmt::Debug for Sampler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sampler").field("samples", &self.samples).finish_non_exhaustive()
    }
}

impl Sampler {
    /// From data on; `samples` times, each with its own random numbers.
    ///
    /// # Errors
    /// Of the device.
    pub fn new(
        chain: Box<dyn Chain>,
        denoiser: Arc<dyn Denoiser>,
        (operator, data): (&dyn Operator, Data),
        samples: u64,
        seed: u64,
    ) -> Result<Self> {
        let place = operator.place().clone();
        let tally = (samples > 1).then(|| Tally::new(samples, place.len()));
        let image = Buffer::zeros(operator.device(), place.len())?;
        Ok(Self { chain, denoiser, data, place, seed, samples, tally, tuning: None, finished: 0, image })
    }

    /// The same, with a weight of the total variation along z that the data choose, which need noise that is known.
    pub fn tuned(mut self) -> Self {
        self.tuning = Some(Tuning::new(self.place.len()));
        self
    }

    /// Refuses data of volumes far outside what the denoiser knows. Collective.
    fn prepare(&mut self, operator: &mut dyn Operator) -> Result<()> {
        self.data.prepare(operator)?;
        refuse_scale(&self.data)
    }

    /// Steps of all samples, and at most of the choice of a weight.
    pub fn steps(&self) -> u64 {
        (self.samples + if self.tuning.is_some() { 2 * tuning::CANDIDATES } else { 0 }) * self.chain.steps()
    }
}

impl Solver for Sampler {
    fn check(&mut self, operator: &mut dyn Operator) -> Result<()> {
        self.prepare(operator)
    }

    fn step(&mut self, operator: &mut dyn Operator, number: u64) -> Result<Report> {
        self.prepare(operator)?;
        let steps = self.chain.steps();
        // The choice of a weight sees the first sample's random numbers.
        let (tuned, choosing) = self.tuning.as_ref().map_or((0, false), |tuning| (tuning.steps, !tuning.is_over()));
        let number = if choosing { 0 } else { number - tuned };
        let (sample, i) = (number / steps, number % steps);
        let mut world = World {
            operator,
            data: &mut self.data,
            denoiser: &*self.denoiser,
            place: self.place.clone(),
            seed: self.seed,
            sample,
        };
        if let Some(tuning) = &mut self.tuning {
            if choosing {
                let sigma = tuning.step(&mut *self.chain, world)?;
                return Ok(Report { done: false, metrics: vec![("sigma", sigma), ("lambda", tuning.lambda)] });
            }
            self.chain.weigh(tuning.lambda);
        }
        if i == 0 {
            self.chain.start(&mut world)?;
        }
        let sigma = self.chain.step(i, &mut world)?;
        let residual = world.data.residual(world.operator, self.chain.volume())?;
        let mut metrics = vec![("sigma", sigma), ("residual", residual.relative)];
        if world.data.noise > 0.0 {
            // 1 where the volume fits the data as well as the noise lets it.
            metrics.push(("misfit_over_noise", residual.over_noise));
        }
        if i + 1 == steps {
            self.finished = sample + 1;
            if let Some(tally) = &mut self.tally {
                tally.add(self.chain.volume());
            }
        }
        if self.samples > 1 {
            metrics.push(("samples", self.finished as f64));
        }
        Ok(Report { done: number + 1 >= self.samples * steps, metrics })
    }

    fn image(&mut self) -> &mut Buffer<f32> {
        let mean = self.tally.as_ref().filter(|_| self.finished == self.samples);
        let values = mean.map_or(self.chain.volume(), |tally| &tally.mean);
        let scale = self.data.scale as f32;
        self.image.host_mut().iter_mut().zip(values).for_each(|(out, v)| *out = scale * v);
        &mut self.image
    }

    fn fields<'a>(&'a mut self, operator: &dyn Operator, fields: &mut Fields<'a>) {
        for (name, values) in self.chain.state() {
            self.place.keep(name, values, fields);
        }
        fields.counter("samples", &mut self.finished);
        if let Some(tuning) = &mut self.tuning {
            tuning.fields(operator, fields);
        }
        for (name, values) in self.tally.iter_mut().flat_map(Tally::state) {
            self.place.keep(name, values, fields);
        }
    }

    fn restored(&mut self, operator: &mut dyn Operator) -> Result<()> {
        self.prepare(operator)
    }

    fn finish(&mut self, _: &mut dyn Operator, out: &mut Results) -> Result<()> {
        self.tuning.as_ref().map_or(Ok(()), |tuning| tuning.finish(out))
    }

    fn more(&mut self) -> Vec<(&'static str, &'static str, Vec<f32>)> {
        let Some(tally) = self.tally.as_ref().filter(|_| self.finished > 1) else { return Vec::new() };
        bands(tally, self.data.scale)
    }
}

/// Refuses data of volumes far outside what the denoiser knows.
fn refuse_scale(data: &Data) -> Result<()> {
    let least = data.least_maximum(data.place.all * data.place.size());
    if least <= MOST {
        return Ok(());
    }
    let message = format!(
        "too small: some values of the volume are at least {least:.3} times as large, and the denoiser knows values between 0 and 1"
    );
    let help = "set it to the largest value that the volume is expected to have";
    Err(BadValue::wrong(SCALE, message).help(help).into())
}

/// What samples have in common beside their mean, in the volume's unit.
fn bands(tally: &Tally, scale: f64) -> Vec<(&'static str, &'static str, Vec<f32>)> {
    let scale = scale as f32;
    let scaled = |values: Vec<f32>| values.into_iter().map(|v| scale * v).collect();
    vec![
        ("deviation", "standard deviation of the posterior, from its samples", scaled(tally.deviation())),
        ("low", "5 % of the samples are below", scaled(tally.low())),
        ("high", "5 % of the samples are above", scaled(tally.high())),
    ]
}

#[cfg(test)]
mod tests;
