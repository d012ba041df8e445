//! Neural operators: maps between functions, learnt from solved equations.
//!
//! Ranks share the samples of a batch and add their gradients. See `README.md` beside this file.

pub mod data;
pub mod layers;
pub mod model;
pub mod norms;
pub mod optimiser;
mod pool;
pub mod real;
pub mod spec;
mod training;
pub mod transform;

use convoke_cluster::workload::{Inputs, Resources};
use convoke_cluster::{BadValue, Ctx, Fields, Plan, Progress, Result, Results, Workload};

use data::Layout;
use spec::{Normalise, Precision, Spec};
use training::{Learn, Training};

/// Registry name.
pub const NAME: &str = "neural-operator";
/// The program itself with its libraries and buffers: measured, rounded up.
const PROGRAM: u64 = 96 << 20;

/// A job.
#[derive(Debug)]
pub struct NeuralOperator(Box<dyn Learn>);

impl Workload for NeuralOperator {
    const NAME: &'static str = NAME;
    const SUMMARY: &'static str = "Fourier neural operators in one to three dimensions, trained on solved equations";
    const JOBS: &'static [(&'static str, &'static str)] =
        &[("darcy", include_str!("darcy.toml")), ("flow", include_str!("flow.toml"))];
    type Spec = Spec;

    fn plan(spec: &Spec, inputs: &Inputs, resources: &Resources) -> Result<Plan> {
        spec.check()?;
        let layouts = layouts(spec, inputs)?;
        Ok(price(spec, &layouts, resources))
    }

    fn new(spec: &Spec, ctx: &Ctx) -> Result<Self> {
        spec.check()?;
        let layouts = layouts(spec, &ctx.inputs)?;
        Ok(Self(match spec.training.precision {
            Precision::Single => Box::new(Training::<f32>::new(spec, &layouts, ctx)?),
            Precision::Double => Box::new(Training::<f64>::new(spec, &layouts, ctx)?),
        }))
    }

    fn step(&mut self, ctx: &Ctx) -> Result<Progress> {
        self.0.step(ctx)
    }

    fn fields<'a>(&'a mut self, fields: &mut Fields<'a>) {
        self.0.fields(fields);
    }

    fn finish(&mut self, ctx: &Ctx, out: &mut Results) -> Result<()> {
        self.0.finish(ctx, out)
    }
}

/// Those of the training data and of all test data.
fn layouts(spec: &Spec, inputs: &Inputs) -> Result<Vec<Layout>> {
    let data = &spec.data;
    let mut all = vec![Layout::of(data, inputs, (&data.file, 0, data.samples), "problem.data.samples")?];
    for test in &spec.test {
        all.push(Layout::of(data, inputs, (&test.file, test.first, test.samples), "problem.test.samples")?);
        let (train, this) = (&all[0], &all[all.len() - 1]);
        if this.channels != train.channels {
            let message =
                format!("{} has {:?} channels, the training data {:?}", test.name, this.channels, train.channels);
            return Err(BadValue::wrong("problem.test.file", message).into());
        }
        if data.normalise == Normalise::Points && this.points != train.points {
            let message =
                format!("\"points\" fits the grid {:?} alone, and {} has {:?}", train.points, test.name, this.points);
            return Err(BadValue::wrong("problem.data.normalise", message).help("\"channels\" fits any grid").into());
        }
    }
    all.iter().try_for_each(|layout| layout.admits(spec))?;
    Ok(all)
}

/// The bill.
fn price(spec: &Spec, layouts: &[Layout], resources: &Resources) -> Plan {
    let (train, training) = (&layouts[0], &spec.training);
    let [input, output] = train.channels;
    let shape = spec.shape(input, output);
    let bytes = if training.precision == Precision::Single { 4 } else { 8 };
    let (parameters, ranks) = (shape.parameters() as u64 * bytes, resources.ranks as u64);
    let (samples, batch) = (train.samples as u64, training.batch as u64);
    let steps = samples.div_ceil(batch) * training.epochs;
    let tests = layouts[1..].iter().map(|l| l.samples as u64);
    let looks = training.epochs.div_ceil(training.test_every);
    let padded: u64 = train.points.iter().zip(spec.padding()).map(|(n, p)| (n + p) as u64).product();
    let mine = batch.min(samples).div_ceil(ranks);
    let mut plan = Plan {
        steps,
        work: training.epochs as f64 * samples as f64 * 3.0 * shape.flops(&train.points),
        work_unit: "flop",
        // Gradients are summed in pieces, then gathered; the sums of errors, the flags of each step, and the results' headers.
        bytes_sent_per_rank: if ranks == 1 {
            1 << 16
        } else {
            2 * steps * parameters + (steps + looks * (1 + tests.count() as u64)) * 2048 * ranks + (1 << 20) * ranks
        },
        checkpoint_bytes: 3 * parameters + (1 << 16),
        result_bytes: 2 * parameters + 64 * layouts.iter().map(Layout::numbers).sum::<u64>().min(1 << 28) + (1 << 22),
        ..Plan::default()
    };
    plan.holds("program and libraries", PROGRAM);
    plan.holds("samples", bytes * layouts.iter().map(Layout::numbers).sum::<u64>());
    plan.holds("parameters, moments and gradient", 6 * parameters);
    // Of each layer the input, its slopes, and as much again in work.
    let width = (shape.width as u64 * (2 * shape.layers as u64 + 4)) + 3 * shape.projection as u64;
    plan.holds(format!("fields inside of {mine} samples"), 2 * mine * bytes * padded * width);
    plan.notes.push(format!("{} parameters, {} on {:?} points", shape.parameters(), train.samples, train.points));
    plan
}
