//! A denoiser that learns.

use std::ops::Range;

use convoke_cluster::results::Meaning;
use convoke_cluster::{Comm, Ctx, Error, Fields, Progress, Region, Result, Results, block};
use convoke_kernels::Philox;

use super::NAME;
use super::phantoms::Images;
use super::spec::Spec;
use crate::learning::Learn;
use crate::learning::file::WEIGHTS;
use crate::learning::optimiser::{AdamW, rate};
use crate::learning::real::Real;
use crate::prior::edm::{Card, Edm};
use crate::prior::weights::ATTRIBUTE;

/// Streams of random numbers.
const NOISE: u64 = 0x6465_6e6f_6973_6521; // "denoise!"
const LEVEL: u64 = 0x6c65_7665_6c73_2121; // "levels!!"
/// Images that mean and deviation are taken from.
pub(super) const MEASURED: usize = 256;
/// Unseen images that are looked at.
pub(super) const TEST: usize = 16;
/// Noise of these looks, largest value of the images 1.
pub(super) const SIGMAS: [f64; 4] = [0.05, 0.2, 1.0, 5.0];
/// Images of the result.
pub(super) const SHOWN: usize = 4;

/// A training under way.
#[derive(Debug)]
pub struct Training<T> {
    spec: Spec,
    images: Images,
    edm: Edm<T>,
    adam: AdamW<T>,
    /// Of the parameters over the steps.
    average: Vec<T>,
    /// Mean and deviation of images.
    law: [f64; 2],
    /// Root mean square errors of the average at [`SIGMAS`], when they were last looked at.
    errors: [f64; SIGMAS.len()],
    done: u64,
}

/// A loss that left the numbers.
#[derive(Debug, thiserror::Error)]
#[error(
    "the loss is no longer finite in step {step}; the checkpoints before it stay\n  help: lower problem.training.rate, or set \
     problem.training.clip"
)]
struct Exploded {
    step: u64,
}

impl<T: Real> Training<T> {
    /// Measures the images.
    pub fn new(spec: &Spec, ctx: &Ctx) -> Self {
        let images = Images::new(&spec.objects, spec.points);
        let law = images.law(ctx.seed, MEASURED);
        let card = Card { network: spec.network.clone(), mean: law[0], deviation: law[1], points: spec.points };
        let parameters: Vec<T> = spec.network.parts().initial(ctx.seed);
        Self {
            adam: AdamW::new(parameters.len()),
            average: parameters.clone(),
            edm: Edm::new(card, parameters),
            law,
            errors: [f64::MAX; SIGMAS.len()],
            spec: spec.clone(),
            images,
            done: 0,
        }
    }
}

impl<T: Real> Learn for Training<T> {
    fn step(&mut self, ctx: &Ctx) -> Result<Progress> {
        let training = self.spec.training.clone();
        let (loss, mut gradient) = self.gradient(ctx)?;
        let norm = gradient.iter().map(|g| g.wide().powi(2)).sum::<f64>().sqrt();
        if !(loss.is_finite() && norm.is_finite()) {
            return ctx.comm.agree(Err(Error::workload(NAME, Exploded { step: self.done })));
        }
        if let Some(clip) = training.clip.filter(|clip| norm > *clip) {
            let factor = T::of(clip / norm);
            gradient.iter_mut().for_each(|g| *g *= factor);
        }
        let rate = rate(training.schedule, training.rate, self.done, training.steps);
        let all = 0..gradient.len();
        let both = (&mut self.edm.parameters[..], &gradient[..]);
        self.adam.step(both, std::slice::from_ref(&all), self.done, (rate, training.weight_decay));
        self.done += 1;
        // The first steps are soon forgotten.
        let keep = T::of(training.average.min(self.done as f64 / (9.0 + self.done as f64)));
        let mean = |(a, p): (&mut T, &T)| *a = keep * *a + (T::of(1.0) - keep) * *p;
        self.average.iter_mut().zip(&self.edm.parameters).for_each(mean);
        if self.done.is_multiple_of(training.test_every) || self.done == training.steps {
            self.look(ctx)?;
        }
        let mut metrics = vec![("loss", loss), ("rate", rate), ("gradient", norm)];
        if self.errors[0] < f64::MAX {
            metrics.extend(["error_0.05", "error_0.2", "error_1", "error_5"].into_iter().zip(self.errors));
        }
        Ok(Progress {
            done: self.done == training.steps,
            fraction: self.done as f64 / training.steps as f64,
            work: training.batch as f64 * 3.0 * self.edm.network.flops([self.spec.points; 2]),
            metrics,
        })
    }

    fn fields<'a>(&'a mut self, fields: &mut Fields<'a>) {
        fields.counter("done", &mut self.done);
        let shape = [self.average.len()];
        for (name, values) in [
            ("parameters", &mut self.edm.parameters),
            ("first_moments", &mut self.adam.first),
            ("second_moments", &mut self.adam.second),
            ("average", &mut self.average),
        ] {
            fields.array(name, &shape, Region::whole(&shape), T::data(values));
        }
        fields.array("errors", &[SIGMAS.len()], Region::whole(&[SIGMAS.len()]), &mut self.errors[..]);
    }

    fn finish(&mut self, ctx: &Ctx, out: &mut Results) -> Result<()> {
        let root = out.is_root();
        let meaning =
            |long_name: &str| Meaning { long_name: long_name.to_owned(), unit: "1".to_owned(), axes: Vec::new() };
        std::mem::swap(&mut self.edm.parameters, &mut self.average);
        for part in self.edm.network.parts.each() {
            let (name, what) = (format!("{WEIGHTS}/{}", part.name), meaning(&format!("parameters {}", part.name)));
            out.array(
                &name,
                &part.shape,
                (Region::whole(&part.shape), root),
                &self.edm.parameters[part.range()],
                &what,
            )?;
        }
        out.text(ATTRIBUTE, &serde_json::to_string(&self.edm.card).unwrap_or_default())?;
        out.figure("parameters", self.edm.parameters.len() as f64)?;
        let [mean, deviation] = self.law;
        out.figure("image_mean", mean)?;
        out.figure("image_deviation", deviation)?;
        out.series("sigma", &SIGMAS, "1", "noise of the looks at unseen images")?;
        out.series("error", &self.errors, "1", "root mean square error of unseen images, denoised")?;
        let n = self.spec.points;
        let [mut noisy, mut denoised] = [Vec::new(), Vec::new()];
        let clean = self.unseen(ctx, 0..SHOWN);
        for (k, sigma) in SIGMAS.iter().enumerate() {
            let x = self.noisy(&clean, k, 0, ctx.seed);
            denoised.extend(self.edm.clean(&x, [n, n], *sigma));
            noisy.extend(x);
        }
        for (name, shape, values, what) in [
            ("clean", vec![SHOWN, n, n], clean, "unseen images"),
            ("noisy", vec![SIGMAS.len(), SHOWN, n, n], noisy, "the same with noise of each sigma"),
            ("denoised", vec![SIGMAS.len(), SHOWN, n, n], denoised, "what the denoiser makes of them"),
        ] {
            out.array(name, &shape, (Region::whole(&shape), root), &values, &meaning(what))?;
        }
        Ok(())
    }
}

impl<T: Real> Training<T> {
    /// Loss and gradient of a batch. Collective.
    fn gradient(&self, ctx: &Ctx) -> Result<(f64, Vec<T>)> {
        let (training, n, comm) = (&self.spec.training, self.spec.points, &ctx.comm);
        let mine = block(training.batch, comm.rank(), comm.size());
        let number = |i: usize| self.done * training.batch as u64 + i as u64;
        let sigmas: Vec<f64> = mine
            .clone()
            .map(|i| {
                (training.log_mean + training.log_deviation * Philox::new(ctx.seed, LEVEL).normal(number(i))).exp()
            })
            .collect();
        let mut loss = [0.0];
        let mut gradient = vec![T::default(); self.average.len()];
        if !mine.is_empty() {
            let clean: Vec<T> = numbers(&self.images.training(ctx.seed, mine.clone().map(number)));
            let random = Philox::new(ctx.seed, NOISE);
            let (size, first) = (n * n, number(mine.start) * (n * n) as u64);
            let mut noisy = clean.clone();
            for (i, v) in noisy.iter_mut().enumerate() {
                *v += T::of(sigmas[i / size] * random.normal(first + i as u64));
            }
            let pairs = clean.chunks(size).zip(noisy.chunks(size)).zip(&sigmas);
            let targets: Vec<T> = pairs.flat_map(|((c, x), sigma)| self.edm.targets(c, x, *sigma)).collect();
            let inputs = self.edm.inputs(&noisy, &sigmas);
            let noise = self.edm.noise(&sigmas);
            let (tape, last) = self.edm.network.forward(&self.edm.parameters, [n, n], inputs, &noise);
            // The mean of (F − target)² over the points and images of the whole batch.
            let count = (training.batch * size) as f64;
            let errors: Vec<T> = tape.values(last).iter().zip(&targets).map(|(f, t)| *f - *t).collect();
            loss[0] = errors.iter().map(|e| e.wide().powi(2)).sum::<f64>() / count;
            gradient = tape.backward(last, errors.into_iter().map(|e| e * T::of(2.0 / count)).collect());
        }
        comm.all_sum(&mut loss)?;
        comm.all_sum(&mut gradient)?;
        Ok((loss[0], gradient))
    }

    /// Unseen images of some numbers.
    fn unseen(&self, ctx: &Ctx, which: Range<usize>) -> Vec<T> {
        which.flat_map(|i| numbers::<T>(&self.images.unseen(ctx.seed, i))).collect()
    }

    /// Images with noise number `k`; `first` is the number of the first one.
    fn noisy(&self, clean: &[T], k: usize, first: usize, seed: u64) -> Vec<T> {
        let random = Philox::new(seed, NOISE ^ (k as u64 + 1));
        let start = (first * self.spec.points * self.spec.points) as u64;
        clean.iter().zip(start..).map(|(c, i)| *c + T::of(SIGMAS[k] * random.normal(i))).collect()
    }

    /// Errors of the average at unseen images. Collective.
    fn look(&mut self, ctx: &Ctx) -> Result<()> {
        let (comm, n): (&Comm, usize) = (&ctx.comm, self.spec.points);
        let mine = comm.block(TEST);
        let clean = self.unseen(ctx, mine.clone());
        std::mem::swap(&mut self.edm.parameters, &mut self.average);
        let mut squares = [0.0; SIGMAS.len()];
        for (k, square) in squares.iter_mut().enumerate() {
            if clean.is_empty() {
                continue;
            }
            let x = self.noisy(&clean, k, mine.start, ctx.seed);
            let found = self.edm.clean(&x, [n, n], SIGMAS[k]);
            *square = found.iter().zip(&clean).map(|(a, b)| (*a - *b).wide().powi(2)).sum();
        }
        std::mem::swap(&mut self.edm.parameters, &mut self.average);
        comm.all_sum(&mut squares)?;
        self.errors = squares.map(|square| (square / (TEST * n * n) as f64).sqrt());
        Ok(())
    }
}

fn numbers<T: Real>(image: &[f32]) -> Vec<T> {
    image.iter().map(|v| T::of(f64::from(*v))).collect()
}
