//! An operator that learns: one step is one batch.

use std::ops::Range;

use convoke_cluster::results::{Axis, Meaning};
use convoke_cluster::{Comm, Ctx, Error, Fields, Progress, Region, Result, Results, block};
use convoke_kernels::Philox;
use rayon::prelude::*;

use super::NAME;
use super::data::{Layout, Set};
use super::exchange::Start;
use super::layers::Batch;
use super::normaliser::Normaliser;
use super::norms::{FIGURES, Figures, Norm};
use super::on_device::{OnDevice, Resident, Samples, unsuited};
use super::saved::{Card, Operator, Placed};
use super::sharding::{self, Owned};
use super::spec::{ModelSpec, Shared, Spec, TrainingSpec};
use super::spectra::Shells;
use super::spectral::Sharing;
use crate::learning::optimiser::{AdamW, rate};
use crate::learning::real::Real;
use crate::learning::{Learn, Precision};

/// Stream of the order of samples.
const ORDER: u64 = 0x6e6f_206f_7264_6572; // "no order"
/// Samples of each test set whose predictions are written.
pub(super) const SHOWN: usize = 8;

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

#[derive(Debug)]
struct Test<T> {
    name: String,
    set: Set<T>,
    /// Points of its grid, and the rows of them that each rank has; one entry where each has all.
    points: Vec<usize>,
    rows: Vec<Range<usize>>,
    placed: Placed<T>,
    shells: Shells<T>,
    /// Relative L2 error, then [`FIGURES`], when they were last looked at.
    figures: Vec<f64>,
}

impl<T: Real> Test<T> {
    /// Fields of all rows, of those of the ranks that share them. Collective over these.
    fn whole(&self, space: Option<&Comm>, fields: Batch<T>) -> Result<Batch<T>> {
        let Some(comm) = space else { return Ok(fields) };
        let after: usize = self.points[1..].iter().product();
        let channels = fields.first().map_or(0, |field| field.len() / (self.rows[comm.rank()].len() * after).max(1));
        let parts = comm.all_gather(&fields.concat())?;
        let field = |sample: usize| {
            let mut all = vec![T::default(); channels * self.points[0] * after];
            for (rows, part) in self.rows.iter().zip(&parts) {
                let (size, start) = (rows.len() * after, rows.start * after);
                for channel in 0..channels {
                    let from = (sample * channels + channel) * size;
                    let to = channel * self.points[0] * after + start;
                    all[to..to + size].copy_from_slice(&part[from..from + size]);
                }
            }
            all
        };
        Ok((0..fields.len()).map(field).collect())
    }
}

/// Samples of a set that a rank passes at once, at most, where ranks share samples: those of a step, of a look, or those that are shown.
pub(super) fn at_once(batch: usize, samples: usize, ranks: usize) -> usize {
    samples.div_ceil(ranks).min(batch).max(SHOWN.min(samples))
}

/// An operator that learns.
#[derive(Debug)]
pub struct Training<T> {
    training: TrainingSpec,
    operator: Operator<T>,
    placed: Placed<T>,
    set: Set<T>,
    norm: Norm<T>,
    tests: Vec<Test<T>>,
    adam: AdamW<T>,
    sharing: Sharing,
    owned: Owned,
    /// Of the parameters over the steps; empty unless asked for.
    average: Vec<T>,
    /// Those of the smallest error of the first test set; empty unless asked for.
    best: Vec<T>,
    /// That error, and how many looks ago it was.
    record: [f64; 2],
    /// An epoch, and the samples in its order.
    order: (u64, Vec<usize>),
    /// Steps done.
    done: u64,
    /// Where a GPU trains it: parameters and moments are there, and here when they are asked for.
    device: Option<Box<dyn OnDevice<T>>>,
}

/// The error of an output, which is decoded, and its derivative over `count` samples.
fn error<T: Real>(
    (operator, placed, norm): (&Operator<T>, &Placed<T>, &Norm<T>),
    count: T,
    output: &mut [T],
    target: &[T],
) -> (f64, Vec<T>) {
    operator.decode(placed, output);
    let relative = norm.relative(output, target, operator.card.shape.channels()[1]);
    scaled((operator, placed), count, relative)
}

/// An error and its derivative by what an operator gives, over `count` samples.
fn scaled<T: Real>(
    (operator, placed): (&Operator<T>, &Placed<T>),
    count: T,
    (error, mut slope): (f64, Vec<T>),
) -> (f64, Vec<T>) {
    operator.slope(placed, &mut slope);
    slope.iter_mut().for_each(|v| *v /= count);
    (error, slope)
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
    pub fn new(
        spec: &Spec,
        (model, training): (&ModelSpec, &TrainingSpec),
        (layout, tests, start): (&Layout, &[Layout], Option<&Start>),
        ctx: &Ctx,
    ) -> Result<Self> {
        let shape = model.shape(layout.channels, &layout.points)?;
        let grids: Vec<&[usize]> =
            std::iter::once(layout).chain(tests).map(|layout| layout.points.as_slice()).collect();
        let size = (training.batch, ctx.comm.size(), size_of::<T>());
        let sharing = match sharding::choose(spec, &shape, &grids, size)? {
            Shared::Samples => Sharing::Alone,
            Shared::Modes => Sharing::Modes(ctx.comm.clone()),
            Shared::Space => Sharing::Space(ctx.comm.clone()),
        };
        // Those of all ranks, and here.
        let rows = |points: &[usize]| sharding::rows(&shape, points, sharing.space().map_or(1, Comm::size));
        let here = |points: &[usize]| rows(points)[sharing.space().map_or(0, Comm::rank)].clone();
        let read = |layout: &Layout| Set::<T>::read(&spec.data, layout, here(&layout.points));
        let mut set = ctx.comm.agree(read(layout))?;
        let sets = ctx.comm.agree(tests.iter().map(read).collect::<Result<Vec<_>>>())?;
        let [inputs, outputs] = layout.channels;
        let normaliser =
            |fields: &[Vec<T>], channels| Normaliser::of(spec.normalise(), fields, channels, sharing.space());
        let (input, target) = (normaliser(&set.inputs, inputs)?, normaliser(&set.targets, outputs)?);
        let card = Card {
            normalise: spec.normalise(),
            points: layout.points.clone(),
            divergence_free: model.divergence_free,
            shape: shape.clone(),
        };
        let operator = Operator { parameters: card.shape.parts().initial(ctx.seed), card, input, target };
        let operator = match start {
            Some(start) => ctx.comm.agree(start.begin(operator))?,
            None => operator,
        };
        set.inputs.iter_mut().for_each(|field| operator.input.encode(field));
        let tests = spec.test.iter().zip(sets).zip(tests).map(|((test, mut set), layout)| {
            set.inputs.iter_mut().for_each(|field| operator.input.encode(field));
            let (points, rows) = (layout.points.clone(), rows(&layout.points));
            let (placed, shells) = (operator.on_slab(&points, here(&points)), Shells::new(&points));
            let figures = vec![0.0; 1 + FIGURES.len()];
            Test { name: test.name.clone(), placed, shells, set, points, rows, figures }
        });
        let tests = tests.collect();
        let kept = operator.card.shape.kept();
        let placed = operator.on_slab(&layout.points, here(&layout.points));
        let shared = rows(&layout.points);
        let shared = sharing.space().map(|comm| (shared.as_slice(), comm.rank()));
        let copy = |wanted: bool| if wanted { operator.parameters.clone() } else { Vec::new() };
        Ok(Self {
            norm: Norm::of(training, &layout.points, outputs, shared),
            adam: AdamW::new(operator.parameters.len()),
            owned: Owned::new(&operator.card.shape.parts(), kept, sharing.clone()),
            sharing,
            average: copy(training.average.is_some()),
            best: copy(training.patience.is_some()),
            record: [f64::MAX, 0.0],
            training: training.clone(),
            tests,
            placed,
            operator,
            set,
            order: (0, order(ctx.seed, 0, layout.samples)),
            done: 0,
            device: None,
        })
    }

    fn steps_of_an_epoch(&self) -> u64 {
        self.set.inputs.len().div_ceil(self.training.batch) as u64
    }

    /// Loss, gradient (nothing where a device keeps it), and the square of its norm, of a batch. Collective.
    fn gradient(&mut self, comm: &Comm, batch: &[usize]) -> Result<(f64, Vec<T>, f64)> {
        let operator = &self.operator;
        let mine = match self.sharing.space() {
            Some(_) => batch,
            None => &batch[block(batch.len(), comm.rank(), comm.size())],
        };
        let count = T::of(batch.len() as f64);
        // A handle of ranks stays on its thread.
        let (how, set) = ((operator, &self.placed, &self.norm), &self.set);
        let mut loss = [0.0];
        if let Some(device) = &mut self.device {
            device.push([&operator.parameters, &self.adam.first, &self.adam.second]);
            let pairs = mine.iter().map(|i| (set.inputs[*i].as_slice(), set.targets[*i].as_slice()));
            let (inputs, targets) = pairs.unzip();
            let samples = Samples { inputs, targets, whole: batch.len() };
            let error = |output: &mut [T], target: &[T]| error(how, count, output, target);
            loss[0] = device.gradient(&samples, &error)? / batch.len() as f64;
            comm.all_sum(&mut loss)?;
            let square = device.sum(comm, &self.owned)?;
            return Ok((loss[0], Vec::new(), square));
        }
        let inputs: Batch<T> = mine.iter().map(|i| set.inputs[*i].clone()).collect();
        let mut gradient;
        if inputs.is_empty() && !self.sharing.is_shared() {
            gradient = self.placed.model.pool().zeros(operator.parameters.len());
        } else {
            let (mut outputs, tape) = self.placed.model.forward(&operator.parameters, &inputs, &self.sharing)?;
            let targets: Vec<&Vec<T>> = mine.iter().map(|i| &set.targets[*i]).collect();
            let (errors, slopes): (Vec<f64>, Batch<T>) = if let Some(comm) = self.sharing.space() {
                outputs.par_iter_mut().for_each(|output| operator.decode(&self.placed, output));
                let parts = self.norm.relative_of_parts(&outputs, &targets, comm)?;
                parts.into_iter().map(|part| scaled((operator, &self.placed), count, part)).unzip()
            } else {
                let slope = |(output, target): (&mut Vec<T>, &&Vec<T>)| error(how, count, output, target);
                outputs.par_iter_mut().zip(&targets).map(slope).unzip()
            };
            // All ranks know the errors where they share points.
            if self.sharing.space().is_none() || comm.is_root() {
                loss[0] = errors.iter().sum::<f64>() / batch.len() as f64;
            }
            gradient = self.placed.model.backward(&operator.parameters, &tape, &slopes, &self.sharing)?;
            self.placed.model.recycle(outputs, tape);
        }
        comm.all_sum(&mut loss)?;
        let square = self.owned.sum(comm, &mut gradient)?;
        Ok((loss[0], gradient, square))
    }

    /// Predictions of some samples of test set `t`, as the targets are, with the parameters that a device has loaded. Collective where
    /// matrices are shared out.
    fn predict(&mut self, t: usize, samples: Range<usize>, sharing: &Sharing) -> Result<Batch<T>> {
        let (operator, test) = (&self.operator, &self.tests[t]);
        let inputs = &test.set.inputs[samples];
        let Some(device) = &mut self.device else {
            return Ok(operator.apply(&test.placed, inputs, sharing)?);
        };
        let mut outputs = device.apply(t, inputs)?;
        outputs.iter_mut().for_each(|output| operator.decode(&test.placed, output));
        Ok(outputs)
    }

    /// Brings parameters and moments here, where a device has newer ones.
    fn pull(&mut self) -> Result<()> {
        let host = [&mut self.operator.parameters[..], &mut self.adam.first, &mut self.adam.second];
        self.device.as_mut().map_or(Ok(()), |device| device.pull(host))
    }

    /// A device, where there is one, takes the parameters here to apply the operator with.
    fn load(&mut self) -> Result<()> {
        self.device.as_mut().map_or(Ok(()), |device| device.load(&self.operator.parameters))
    }

    /// Exchanges the parameters with their average, where there is one.
    fn swap_average(&mut self) {
        if !self.average.is_empty() {
            std::mem::swap(&mut self.operator.parameters, &mut self.average);
        }
    }

    /// Looks at the test data; whether training goes on. Collective.
    fn look(&mut self, comm: &Comm) -> Result<bool> {
        self.pull()?;
        self.swap_average();
        let measured = self.measure(comm);
        let Some(patience) = self.training.patience else {
            self.swap_average();
            return measured.map(|()| true);
        };
        let error = self.tests[0].figures[0];
        if error < self.record[0] {
            self.best.copy_from_slice(&self.operator.parameters);
            self.record = [error, 0.0];
        } else {
            self.record[1] += 1.0;
        }
        self.swap_average();
        measured.map(|()| self.record[1] < patience as f64)
    }

    /// Figures of each test set. Collective.
    fn measure(&mut self, comm: &Comm) -> Result<()> {
        self.load()?;
        let (norm, channels) = (Norm::Lp(2.0), self.operator.card.shape.channels()[1]);
        for t in 0..self.tests.len() {
            let test = &self.tests[t];
            let (all, count) = (test.set.inputs.len(), test.set.inputs.len() as f64);
            let (mine, most) = match self.sharing.space() {
                Some(_) => (0..all, all),
                None => (comm.block(all), all.div_ceil(comm.size())),
            };
            let mut sums = vec![0.0; test.figures.len()];
            // As many rounds on every rank: they may talk in each.
            let batch = self.training.batch;
            for first in (mine.start..mine.start + most).step_by(batch) {
                let samples = first.min(mine.end)..mine.end.min(first + batch);
                let sharing = self.sharing.clone();
                let outputs = self.predict(t, samples.clone(), &sharing)?;
                let test = &self.tests[t];
                let outputs = test.whole(sharing.space(), outputs)?;
                let targets = test.whole(sharing.space(), test.set.targets[samples].to_vec())?;
                // Whole fields are on all ranks: each looks at its block of them.
                let looked_at = sharing.space().map_or(0..outputs.len(), |comm| comm.block(outputs.len()));
                for (output, target) in outputs[looked_at.clone()].iter().zip(&targets[looked_at]) {
                    let figures = Figures::of(output, target, channels, &test.shells).numbers();
                    let all = std::iter::once(norm.relative(output, target, channels).0).chain(figures);
                    sums.iter_mut().zip(all).for_each(|(sum, figure)| *sum += figure / count);
                }
            }
            comm.all_sum(&mut sums)?;
            self.tests[t].figures = sums;
        }
        Ok(())
    }
}

impl Training<f32> {
    /// The same on the GPU of this rank, where there is one that has the kernels for it; else a note says why not. Collective.
    ///
    /// # Errors
    /// Of the device.
    pub fn on_device(mut self, ctx: &Ctx) -> Result<Self> {
        let shared = match self.sharing {
            Sharing::Alone => Shared::Samples,
            Sharing::Modes(_) => Shared::Modes,
            Sharing::Space(_) => Shared::Space,
        };
        if !ctx.device.is_gpu() {
            return Ok(self);
        }
        let sets = std::iter::once(&self.set).chain(self.tests.iter().map(|test| &test.set));
        let passes = sets.map(|set| (set.points.as_slice(), set.inputs.len()));
        let passes = passes.map(|(points, samples)| (points, at_once(self.training.batch, samples, ctx.comm.size())));
        if let Some(reason) = unsuited(&self.operator.card.shape, Precision::Single, shared, passes) {
            ctx.notes.add(format!("the GPU is not used: {reason}"));
            return Ok(self);
        }
        let grids = std::iter::once(&self.placed).chain(self.tests.iter().map(|test| &test.placed));
        let resident = Resident::new(&ctx.device, &self.operator, &self.norm, grids);
        self.device = Some(Box::new(ctx.comm.agree(resident)?));
        Ok(self)
    }
}

impl<T: Real> Learn for Training<T> {
    fn step(&mut self, ctx: &Ctx) -> Result<Progress> {
        let samples = self.set.inputs.len();
        let each = self.steps_of_an_epoch();
        let (epoch, place) = (self.done / each, (self.done % each) as usize);
        if self.training.epochs == 0 {
            self.look(&ctx.comm)?;
            self.done = 1;
            let metrics = self.tests.first().map(|test| ("test", test.figures[0]));
            return Ok(Progress { done: true, fraction: 1.0, work: 0.0, metrics: metrics.into_iter().collect() });
        }
        if self.order.0 != epoch {
            self.order = (epoch, order(ctx.seed, epoch, samples));
        }
        let training = &self.training;
        let batch = self.order.1[place * training.batch..samples.min((place + 1) * training.batch)].to_vec();
        let (loss, mut gradient, square) = self.gradient(&ctx.comm, &batch)?;
        let norm = square.sqrt();
        if !(loss.is_finite() && norm.is_finite()) {
            let exploded = Exploded { step: self.done, epoch };
            return ctx.comm.agree(Err(Error::workload(NAME, exploded)));
        }
        let training = &self.training;
        let factor = training.clip.filter(|clip| norm > *clip).map(|clip| clip / norm);
        let steps = each * training.epochs;
        let rate = rate(training.schedule, training.rate, self.done, steps);
        if let Some(device) = &mut self.device {
            device.step(factor, self.done, rate, training.weight_decay)?;
        } else {
            if let Some(factor) = factor.map(T::of) {
                gradient.par_iter_mut().for_each(|g| *g *= factor);
            }
            let both = (&mut self.operator.parameters[..], &gradient[..]);
            self.adam.step(both, &self.owned.ranges(), self.done, (rate, training.weight_decay));
            self.placed.model.pool().give(gradient);
        }
        let (every, work) =
            (training.test_every, batch.len() as f64 * 3.0 * self.operator.card.shape.flops(&self.set.points));
        self.done += 1;
        let average = training.average;
        if let Some(keep) = average {
            self.pull()?;
            // The first steps are soon forgotten.
            let keep = T::of(keep.min(self.done as f64 / (9.0 + self.done as f64)));
            let mean = |(a, p): (&mut T, &T)| *a = keep * *a + (T::of(1.0) - keep) * *p;
            self.average.par_iter_mut().zip(&self.operator.parameters).for_each(mean);
        }
        let mut goes_on = self.done < steps;
        if (self.done.is_multiple_of(each) && (epoch + 1).is_multiple_of(every)) || self.done == steps {
            goes_on &= self.look(&ctx.comm)?;
        }
        let mut metrics = vec![("epoch", epoch as f64), ("loss", loss), ("rate", rate), ("gradient", norm)];
        metrics.extend(self.tests.first().map(|test| ("test", test.figures[0])));
        Ok(Progress { done: !goes_on, fraction: self.done as f64 / steps as f64, work, metrics })
    }

    /// # Panics
    /// Where a device is lost, and the state with it.
    fn fields<'a>(&'a mut self, fields: &mut Fields<'a>) {
        if let Err(error) = self.pull() {
            panic!("the state of the training is lost: {error}");
        }
        if let Some(device) = &mut self.device {
            device.host_changes();
        }
        fields.counter("done", &mut self.done);
        for (name, values) in [
            ("parameters", &mut self.operator.parameters),
            ("first_moments", &mut self.adam.first),
            ("second_moments", &mut self.adam.second),
            ("average", &mut self.average),
            ("best", &mut self.best),
        ] {
            if !values.is_empty() {
                self.owned.fields(fields, name, values);
            }
        }
        fields.array("record", &[2], Region::whole(&[2]), &mut self.record[..]);
        for test in &mut self.tests {
            let shape = [test.figures.len()];
            fields.array(format!("figures/{}", test.name), &shape, Region::whole(&shape), &mut test.figures[..]);
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
        self.pull()?;
        if self.best.is_empty() {
            self.swap_average();
        } else {
            std::mem::swap(&mut self.operator.parameters, &mut self.best);
            self.measure(&ctx.comm)?;
        }
        self.owned.collect(&ctx.comm, &mut self.operator.parameters)?;
        self.operator.write(out)?;
        let space = &["x", "y", "z"][..self.operator.card.shape.dimension()];
        self.load()?;
        for t in 0..self.tests.len() {
            let shown = SHOWN.min(self.tests[t].set.inputs.len());
            // All ranks have all parameters now, but where they share points not all of them.
            let sharing = if self.sharing.space().is_some() { self.sharing.clone() } else { Sharing::Alone };
            let predictions = self.predict(t, 0..shown, &sharing)?;
            let test = &self.tests[t];
            for (name, figure) in ["relative_l2"].iter().chain(&FIGURES).zip(&test.figures) {
                out.figure(&format!("{name}_{}", test.name), *figure)?;
            }
            let shape = [&[shown, self.operator.card.shape.channels()[1]], test.points.as_slice()].concat();
            let axes = [&["sample", "channel"], space].concat();
            for (name, fields, what) in [
                ("predictions", predictions, "what the operator gives"),
                ("targets", test.set.targets[..shown].to_vec(), "what it should give"),
            ] {
                let fields = test.whole(sharing.space(), fields)?;
                let name = format!("{}_{name}", test.name);
                out.array(&name, &shape, (Region::whole(&shape), root), &fields.concat(), &meaning(what, &axes))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_permutations_and_differ_between_epochs() {
        let (a, b) = (order(1, 0, 100), order(1, 1, 100));
        assert!(a != b && a == order(1, 0, 100));
        let mut sorted = a.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..100).collect::<Vec<_>>());
    }
}
