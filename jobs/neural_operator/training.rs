//! An operator that learns: one step is one batch.

use convoke_cluster::comm::CommError;
use convoke_cluster::results::{Axis, Meaning};
use convoke_cluster::{Comm, Ctx, Error, Fields, Progress, Region, Result, Results, block};
use convoke_kernels::Philox;
use rayon::prelude::*;

use super::NAME;
use super::data::{Layout, Normaliser, Set};
use super::layers::Batch;
use super::model::{Fno, Shape, initial};
use super::optimiser::{AdamW, rate};
use super::real::Real;
use super::spec::Spec;

/// Stream of the order of samples.
const ORDER: u64 = 0x6e6f_206f_7264_6572; // "no order"
/// Samples of each test set whose predictions are written.
const SHOWN: usize = 8;

/// A loss that left the numbers.
#[derive(Debug, thiserror::Error)]
#[error(
    "the loss is no longer finite in step {step} (epoch {epoch}); the checkpoints before it stay\n  help: lower \
     problem.training.rate, or set problem.training.clip"
)]
struct Exploded {
    step: u64,
    epoch: u64,
}

/// What the frame sees of it, in either precision.
pub trait Learn: std::fmt::Debug {
    /// One batch. Collective.
    fn step(&mut self, ctx: &Ctx) -> Result<Progress>;
    /// The state.
    fn fields<'a>(&'a mut self, fields: &mut Fields<'a>);
    /// The operator, and what it makes of the test data. Collective.
    fn finish(&mut self, ctx: &Ctx, out: &mut Results) -> Result<()>;
}

#[derive(Debug)]
struct Test<T> {
    name: String,
    set: Set<T>,
    fno: Fno<T>,
}

/// An operator that learns.
#[derive(Debug)]
pub struct Training<T> {
    spec: Spec,
    shape: Shape,
    fno: Fno<T>,
    set: Set<T>,
    tests: Vec<Test<T>>,
    target: Normaliser<T>,
    parameters: Vec<T>,
    adam: AdamW<T>,
    /// Steps done.
    done: u64,
    /// Errors of the test sets when they were last looked at.
    errors: Vec<f64>,
}

/// Σ (‖e‖_p/‖y‖_p) of predictions of a batch, and the derivative of each by its prediction.
fn relative_error<T: Real>(prediction: &[T], target: &[T], p: f64) -> (f64, Vec<T>) {
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v.abs().powf(p)).sum::<f64>().powf(1.0 / p);
    let errors: Vec<f64> = prediction.iter().zip(target).map(|(a, b)| a.wide() - b.wide()).collect();
    let size = norm(&mut target.iter().map(|v| v.wide())).max(f64::MIN_POSITIVE);
    let error = norm(&mut errors.iter().copied());
    if error == 0.0 {
        return (0.0, vec![T::default(); errors.len()]);
    }
    let scale = error.powf(1.0 - p) / size;
    let slope = |e: &f64| T::of(if *e == 0.0 { 0.0 } else { scale * e * e.abs().powf(p - 2.0) });
    (error / size, errors.iter().map(slope).collect())
}

/// The samples of an epoch in their order: by random keys of their numbers, so that no layout matters.
fn order(seed: u64, epoch: u64, samples: usize) -> Vec<usize> {
    let random = Philox::new(seed, ORDER ^ epoch);
    let mut order: Vec<usize> = (0..samples).collect();
    order.sort_by_key(|i| (random.bits(*i as u64), *i));
    order
}

impl<T: Real> Training<T> {
    /// Reads the data. Collective.
    ///
    /// # Errors
    /// Of the data.
    pub fn new(spec: &Spec, layouts: &[Layout], ctx: &Ctx) -> Result<Self> {
        let sets = layouts.iter().map(|layout| Set::<T>::read(&spec.data, layout)).collect::<Result<Vec<_>>>();
        let mut sets = ctx.comm.agree(sets)?.into_iter();
        let Some(mut set) = sets.next() else { return Err(Error::workload(NAME, std::fmt::Error)) };
        let [inputs, outputs] = layouts[0].channels;
        let input = Normaliser::of(spec.data.normalise, &set.inputs, inputs);
        let target = Normaliser::of(spec.data.normalise, &set.targets, outputs);
        set.inputs.iter_mut().for_each(|field| input.encode(field));
        let shape = spec.shape(inputs, outputs);
        let padding = spec.padding();
        let tests = spec.test.iter().zip(sets).map(|(test, mut set)| {
            set.inputs.iter_mut().for_each(|field| input.encode(field));
            Test { name: test.name.clone(), fno: Fno::new(&shape, &set.points, &padding), set }
        });
        let parameters = initial(&shape, ctx.seed);
        Ok(Self {
            fno: Fno::new(&shape, &set.points, &padding),
            tests: tests.collect(),
            errors: vec![0.0; spec.test.len()],
            adam: AdamW::new(parameters.len()),
            spec: spec.clone(),
            shape,
            set,

            target,
            parameters,
            done: 0,
        })
    }

    fn steps_of_an_epoch(&self) -> u64 {
        self.set.inputs.len().div_ceil(self.spec.training.batch) as u64
    }

    /// Loss and gradient of a batch. Collective.
    fn gradient(&self, comm: &Comm, batch: &[usize]) -> Result<(f64, Vec<T>), CommError> {
        let mine = &batch[block(batch.len(), comm.rank(), comm.size())];
        let inputs: Batch<T> = mine.iter().map(|i| self.set.inputs[*i].clone()).collect();
        let mut loss = [0.0];
        let mut gradient = vec![T::default(); self.parameters.len()];
        if !inputs.is_empty() {
            let (outputs, tape) = self.fno.forward(&self.parameters, &inputs);
            let count = T::of(batch.len() as f64);
            let slope = |(mut output, i): (Vec<T>, &usize)| {
                self.target.decode(&mut output);
                let (error, mut slope) = relative_error(&output, &self.set.targets[*i], self.spec.training.p);
                self.target.scale(&mut slope);
                slope.iter_mut().for_each(|v| *v /= count);
                (error, slope)
            };
            let (errors, slopes): (Vec<f64>, Batch<T>) = outputs.into_par_iter().zip(mine).map(slope).unzip();
            loss[0] = errors.iter().sum::<f64>() / batch.len() as f64;
            gradient = self.fno.backward(&self.parameters, &tape, &slopes);
            self.fno.recycle(tape);
        }
        comm.all_sum(&mut loss)?;
        comm.all_sum(&mut gradient)?;
        Ok((loss[0], gradient))
    }

    /// Predictions of some samples of a test set, as the targets are.
    fn predict(&self, test: &Test<T>, samples: std::ops::Range<usize>) -> Batch<T> {
        let (mut outputs, tape) = test.fno.forward(&self.parameters, &test.set.inputs[samples]);
        test.fno.recycle(tape);
        outputs.iter_mut().for_each(|field| self.target.decode(field));
        outputs
    }

    /// Mean relative L2 error of each test set. Collective.
    fn look(&mut self, comm: &Comm) -> Result<(), CommError> {
        for t in 0..self.tests.len() {
            let test = &self.tests[t];
            let mine = comm.block(test.set.inputs.len());
            let mut sum = 0.0;
            for first in mine.clone().step_by(self.spec.training.batch) {
                let samples = first..mine.end.min(first + self.spec.training.batch);
                for (output, i) in self.predict(test, samples.clone()).iter().zip(samples) {
                    sum += relative_error(output, &test.set.targets[i], 2.0).0;
                }
            }
            let mut all = [sum];
            comm.all_sum(&mut all)?;
            self.errors[t] = all[0] / test.set.inputs.len() as f64;
        }
        Ok(())
    }
}

impl<T: Real> Learn for Training<T> {
    fn step(&mut self, ctx: &Ctx) -> Result<Progress> {
        let (training, samples) = (&self.spec.training, self.set.inputs.len());
        let each = self.steps_of_an_epoch();
        let (epoch, place) = (self.done / each, (self.done % each) as usize);
        let order = order(ctx.seed, epoch, samples);
        let batch = &order[place * training.batch..samples.min((place + 1) * training.batch)];
        let (loss, mut gradient) = self.gradient(&ctx.comm, batch)?;
        let norm = gradient.iter().map(|g| g.wide().powi(2)).sum::<f64>().sqrt();
        if !(loss.is_finite() && norm.is_finite()) {
            let exploded = Exploded { step: self.done, epoch };
            return ctx.comm.agree(Err(Error::workload(NAME, exploded)));
        }
        if let Some(clip) = training.clip.filter(|clip| norm > *clip) {
            let scale = T::of(clip / norm);
            gradient.iter_mut().for_each(|g| *g *= scale);
        }
        let steps = each * training.epochs;
        let rate = rate(training.schedule, training.rate, self.done, steps);
        self.adam.step(&mut self.parameters, &gradient, self.done, rate, training.weight_decay);
        let (every, work) = (training.test_every, batch.len() as f64 * 3.0 * self.shape.flops(&self.set.points));
        self.done += 1;
        if (self.done.is_multiple_of(each) && (epoch + 1).is_multiple_of(every)) || self.done == steps {
            self.look(&ctx.comm)?;
        }
        let mut metrics = vec![("epoch", epoch as f64), ("loss", loss), ("rate", rate), ("gradient", norm)];
        metrics.extend(self.errors.first().map(|error| ("test", *error)));
        Ok(Progress { done: self.done == steps, fraction: self.done as f64 / steps as f64, work, metrics })
    }

    fn fields<'a>(&'a mut self, fields: &mut Fields<'a>) {
        fields.counter("done", &mut self.done);
        for (name, values) in [
            ("parameters", &mut self.parameters),
            ("first_moments", &mut self.adam.first),
            ("second_moments", &mut self.adam.second),
        ] {
            let shape = [values.len()];
            fields.array(name, &shape, Region::whole(&shape), T::data(values));
        }
        if !self.errors.is_empty() {
            let shape = [self.errors.len()];
            fields.array("errors", &shape, Region::whole(&shape), &mut self.errors[..]);
        }
    }

    fn finish(&mut self, ctx: &Ctx, out: &mut Results) -> Result<()> {
        let axis = |name: &str| Axis { name: name.to_owned(), unit: "1".to_owned(), origin: 0.0, spacing: 1.0 };
        let meaning = |long_name: &str, axes: &[&str]| Meaning {
            long_name: long_name.to_owned(),
            unit: "1".to_owned(),
            axes: axes.iter().map(|name| axis(name)).collect(),
        };
        let root = out.is_root();
        for part in self.shape.parts() {
            let name = format!("weights/{}", part.name);
            let what = meaning(&format!("parameters {}", part.name), &[]);
            out.array(&name, &part.shape, (Region::whole(&part.shape), root), &self.parameters[part.range()], &what)?;
        }
        out.figure("parameters", self.parameters.len() as f64)?;
        let space = &["x", "y", "z"][..self.shape.modes.len()];
        for (test, error) in self.tests.iter().zip(&self.errors) {
            out.figure(&format!("relative_l2_{}", test.name), *error)?;
            let shown = SHOWN.min(test.set.inputs.len());
            let shape = [&[shown, self.shape.output], test.set.points.as_slice()].concat();
            let axes = [&["sample", "channel"], space].concat();
            for (name, fields, what) in [
                ("predictions", self.predict(test, 0..shown), "what the operator gives"),
                ("targets", test.set.targets[..shown].to_vec(), "what it should give"),
            ] {
                let name = format!("{}_{name}", test.name);
                out.array(&name, &shape, (Region::whole(&shape), root), &fields.concat(), &meaning(what, &axes))?;
            }
        }
        ctx.comm.barrier()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slopes_of_relative_errors_are_slopes() {
        let (y, x) = (vec![1.0, -2.0, 0.5], vec![0.7, -1.0, 0.9]);
        for p in [1.0, 2.0, 3.5] {
            let slopes = relative_error::<f64>(&x, &y, p).1;
            for i in 0..3 {
                let moved = |by: f64| {
                    let mut x = x.clone();
                    x[i] += by;
                    relative_error(&x, &y, p).0
                };
                let slope = (moved(1e-6) - moved(-1e-6)) / 2e-6;
                assert!((slope - slopes[i]).abs() < 1e-8, "{p}");
            }
        }
        assert!((relative_error::<f64>(&x, &y, 2.0).0 - ((0.09 + 1.0 + 0.16) / 5.25f64).sqrt()).abs() < 1e-15);
    }

    #[test]
    fn orders_are_permutations_and_differ_between_epochs() {
        let (a, b) = (order(1, 0, 100), order(1, 1, 100));
        assert!(a != b && a == order(1, 0, 100));
        let mut sorted = a.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..100).collect::<Vec<_>>());
    }
}
