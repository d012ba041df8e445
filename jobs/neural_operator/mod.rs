//! Neural operators: maps between functions, learnt from solved equations.
//!
//! Ranks share the samples of a batch and add their gradients. See `README.md` beside this file.

mod axis;
pub mod channel_mlp;
pub mod data;
mod evaluation;
pub mod exchange;
pub mod feed;
pub mod fno;
pub mod layers;
pub mod model;
mod normaliser;
pub mod norms;
mod on_device;
mod pool;
pub mod refine;
mod saved;
pub mod sharding;
pub mod slabs;
pub mod spec;
pub mod spectra;
pub mod spectral;
pub mod st_fno;
mod training;
pub mod transform;
pub mod tucker;

use std::path::PathBuf;

use convoke_cluster::machine::human_bytes;
use convoke_cluster::workload::{Inputs, Resources};
use convoke_cluster::{BadValue, Ctx, Fields, Plan, Progress, Result, Results, Workload};

use crate::learning::{Learn, Precision, file};
use data::Layout;
use evaluation::{Evaluation, TOGETHER};
use exchange::Start;
use refine::study::{self, Study};
use saved::{Card, Operator};
use spec::{EquationSpec, EvaluationSpec, ModelSpec, Normalise, RefinementSpec, Shared, Spec, TestSpec, TrainingSpec};
use training::{Training, at_once};

/// Registry name.
pub const NAME: &str = "neural-operator";
/// The program itself with its libraries and buffers: measured, rounded up.
const PROGRAM: u64 = 96 << 20;

/// The key that names a trained operator.
const OPERATOR: &str = "problem.evaluation.operator";

/// A job.
#[derive(Debug)]
pub struct NeuralOperator(Box<dyn Learn>);

impl Workload for NeuralOperator {
    const NAME: &'static str = NAME;
    const SUMMARY: &'static str = "Fourier neural operators in one to three dimensions, trained on solved equations";
    const JOBS: &'static [(&'static str, &'static str)] = &[
        ("darcy", include_str!("darcy.toml")),
        ("flow", include_str!("flow.toml")),
        ("turbulence", include_str!("turbulence.toml")),
        ("the-well", include_str!("the-well.toml")),
        ("roll-out", include_str!("roll-out.toml")),
        ("refine", include_str!("refine.toml")),
    ];
    type Spec = Spec;

    fn plan(spec: &Spec, inputs: &Inputs, resources: &Resources) -> Result<Plan> {
        spec.check()?;
        Ok(match Task::of(spec, inputs)? {
            Task::Train(model, training, train, tests, _) => price(spec, (model, training), &train, &tests, resources)?,
            Task::Evaluate(evaluation, card, _, layouts) => price_of_evaluation(evaluation, &card, &layouts, resources),
            Task::Refine(how, card, _, layout) => study::price(how, &card, &layout, resources)?,
        })
    }

    fn new(spec: &Spec, ctx: &Ctx) -> Result<Self> {
        spec.check()?;
        let by_processor = |reason: &str| {
            if ctx.device.is_gpu() {
                ctx.notes.add(format!("the GPU is not used: {reason}"));
            }
        };
        Ok(Self(match Task::of(spec, &ctx.inputs)? {
            Task::Train(model, training, train, tests, start) => {
                let (how, what) = ((model, training), (&train, tests.as_slice(), start.as_ref()));
                match training.precision {
                    Precision::Single => Box::new(Training::<f32>::new(spec, how, what, ctx)?.on_device(ctx)?),
                    Precision::Double => {
                        by_processor("precision = \"double\"");
                        Box::new(Training::<f64>::new(spec, how, what, ctx)?)
                    }
                }
            }
            Task::Evaluate(evaluation, card, path, layouts) => {
                by_processor("trained operators are applied by the processor");
                let operator = ctx.comm.agree(Operator::<f32>::read(&path, card, OPERATOR))?;
                Box::new(Evaluation::new((spec, evaluation), operator, &layouts, ctx)?)
            }
            Task::Refine((evaluation, equation, refinement), card, path, layout) => {
                by_processor("trajectories are refined by the processor");
                let operator = ctx.comm.agree(Operator::<f32>::read(&path, card, OPERATOR))?;
                Box::new(Study::new((spec, evaluation), (equation, refinement), operator, &layout, ctx)?)
            }
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

/// A job with what its files are.
enum Task<'a> {
    /// Training data, test data, what it starts from.
    Train(&'a ModelSpec, &'a TrainingSpec, Layout, Vec<Layout>, Option<Start>),
    /// The operator and its file, test data.
    Evaluate(&'a EvaluationSpec, Card, PathBuf, Vec<Layout>),
    /// The same with an equation.
    Refine((&'a EvaluationSpec, &'a EquationSpec, &'a RefinementSpec), Card, PathBuf, Layout),
}

impl<'a> Task<'a> {
    fn of(spec: &'a Spec, inputs: &Inputs) -> Result<Self> {
        let data = &spec.data;
        let tests = || -> Result<Vec<Layout>> {
            let of = |test: &TestSpec| Layout::of(data, inputs, (&test.file, test.first, test.samples), "problem.test");
            spec.test.iter().map(of).collect()
        };
        if let (Some(model), Some(training), Some(file)) = (&spec.model, &spec.training, &data.file) {
            let train = Layout::of(data, inputs, (file, 0, data.samples), "problem.data")?;
            let shape = model.shape(train.channels, &train.points)?;
            train.admits(&shape)?;
            if model.divergence_free && train.channels[1] % data.dimension != 0 {
                let message =
                    format!("the target has {} channels, and velocities have {}", train.channels[1], data.dimension);
                return Err(BadValue::wrong("problem.model.divergence_free", message).into());
            }
            let tests = tests()?;
            for (test, layout) in spec.test.iter().zip(&tests) {
                fits(layout, &test.name, train.channels, (spec.normalise(), &train.points))?;
                layout.admits(&shape)?;
            }
            let open = |path| Start::open(inputs.resolve(path), (&shape, &train.points), spec.normalise());
            let start = training.start.as_deref().map(open).transpose()?;
            return Ok(Self::Train(model, training, train, tests, start));
        }
        let Some(evaluation) = &spec.evaluation else {
            return Err(BadValue::wrong("problem.evaluation", "missing; task = \"evaluate\" needs it").into());
        };
        let path = file::file(inputs.resolve(&evaluation.operator));
        let card = Card::read(&path, OPERATOR)?;
        let [input, output] = card.shape.channels();
        let channels = [input, output * evaluation.applications];
        if card.shape.dimension() != data.dimension {
            let expected = format!("{}, the dimension of the operator", card.shape.dimension());
            return Err(BadValue::new("problem.data.dimension", data.dimension, expected).into());
        }
        let mut all = tests()?;
        for (test, layout) in spec.test.iter().zip(&all) {
            fits(layout, &test.name, channels, (card.normalise, &card.points))?;
            layout.admits(&card.shape)?;
        }
        if let (Some(equation), Some(refinement)) = (&spec.equation, &spec.refinement) {
            let layout = all.remove(0);
            study::check((equation, refinement), &layout)?;
            return Ok(Self::Refine((evaluation, equation, refinement), card, path, layout));
        }
        Ok(Self::Evaluate(evaluation, card, path, all))
    }
}

/// Whether test data have the channels, and the grid where that matters.
fn fits(
    layout: &Layout,
    name: &str,
    channels: [usize; 2],
    (normalise, grid): (Normalise, &[usize]),
) -> Result<(), BadValue> {
    if layout.channels != channels {
        let message =
            format!("{name} has {:?} channels of input and target, and {channels:?} are due", layout.channels);
        return Err(BadValue::wrong("problem.test.file", message));
    }
    if normalise == Normalise::Points && layout.points != grid {
        let message = format!("\"points\" fits the grid {grid:?} alone, and {name} has {:?}", layout.points);
        return Err(BadValue::wrong("problem.data.normalise", message).help("\"channels\" fits any grid"));
    }
    Ok(())
}

/// The bill of an evaluation.
fn price_of_evaluation(evaluation: &EvaluationSpec, card: &Card, layouts: &[Layout], resources: &Resources) -> Plan {
    let (ranks, applications) = (resources.ranks as u64, evaluation.applications as u64);
    let numbers: u64 = layouts.iter().map(Layout::numbers).sum();
    let work = |l: &Layout| l.samples as f64 * card.shape.flops(&l.points);
    let largest = layouts.iter().map(|l| card.shape.held(&l.points)).max().unwrap_or(0);
    let mut plan = Plan {
        steps: layouts.len() as u64,
        work: applications as f64 * layouts.iter().map(work).sum::<f64>(),
        work_unit: "flop",
        bytes_sent_per_rank: (layouts.len() as u64 * (1024 + 16 * applications) + (1 << 17)) * ranks,
        checkpoint_bytes: 1 << 16,
        result_bytes: 8 * numbers + (1 << 20),
        ..Plan::default()
    };
    plan.holds("program and libraries", PROGRAM);
    plan.holds("samples", 8 * numbers);
    plan.holds("parameters", 8 * card.shape.parts().count() as u64);
    plan.holds(format!("fields inside of {TOGETHER} samples"), 4 * TOGETHER as u64 * largest);
    plan.notes.push(format!("{} parameters, trained on {:?} points", card.shape.parts().count(), card.points));
    plan
}

/// The bill.
fn price(
    spec: &Spec,
    (model, training): (&ModelSpec, &TrainingSpec),
    train: &Layout,
    tests: &[Layout],
    resources: &Resources,
) -> Result<Plan, BadValue> {
    let shape = model.shape(train.channels, &train.points)?;
    let bytes = if training.precision == Precision::Single { 4 } else { 8 };
    let (parameters, ranks) = (shape.parts().count() as u64 * bytes, resources.ranks as u64);
    let (samples, batch) = (train.samples as u64, training.batch as u64);
    // Without epochs there is one look at the test data.
    let steps = (samples.div_ceil(batch) * training.epochs).max(1);
    let numbers = train.numbers() + tests.iter().map(Layout::numbers).sum::<u64>();
    let looks = training.epochs.div_ceil(training.test_every).max(1);
    let grids: Vec<&[usize]> = std::iter::once(train).chain(tests).map(|layout| layout.points.as_slice()).collect();
    let size = (training.batch, resources.ranks, bytes as usize);
    let [summed, exchange, parts] = sharding::bytes_of_step(&shape, size.0, size.1, size.2);
    let shared = sharding::choose(spec, &shape, &grids, size)?;
    // The largest part of a rank: samples of a step, and shares of all points, without the zeros behind them and with.
    let (mine, shares) = match shared {
        Shared::Space => (batch.min(samples), sharding::shares(&shape, &train.points, resources.ranks)),
        _ => (batch.min(samples).div_ceil(ranks), [(1, 1); 2]),
    };
    let part = |numbers: u64, (rows, all): (usize, usize)| (numbers * rows as u64).div_ceil(all as u64);
    // A forward pass over the test data sends half of what a step does; in the end all matrices go to all.
    let looked: u64 = tests
        .iter()
        .map(|test| sharding::bytes_of_step(&shape, test.samples, resources.ranks, bytes as usize))
        .map(|[_, modes, space]| if shared == Shared::Space { space } else { modes })
        .sum();
    let tested = bytes * tests.iter().map(Layout::numbers).sum::<u64>();
    let (step, exchanged) = match shared {
        Shared::Samples => (summed, 0),
        Shared::Modes => (exchange, (looks + 1) * looked + parameters),
        // Predictions and targets of a look are put together.
        Shared::Space => {
            let rows = sharding::rows(&shape, &train.points, resources.ranks);
            let numbers = [training.batch, train.channels[1], bytes as usize];
            let loss = sharding::bytes_of_loss(training, (&train.points, &rows), numbers);
            (parts + loss, (looks + 1) * (looked + 2 * tested) + parameters)
        }
    };
    // The average and the best ones.
    let more = u64::from(training.average.is_some()) + u64::from(training.patience.is_some());
    let mut plan = Plan {
        steps,
        work: training.epochs as f64 * samples as f64 * 3.0 * shape.flops(&train.points),
        work_unit: "flop",
        // Gradients are summed in pieces, then gathered; the sums of errors, the flags of each step, and the results' headers.
        bytes_sent_per_rank: if ranks == 1 {
            1 << 16
        } else {
            steps * step + exchanged + (steps + looks * (1 + tests.len() as u64)) * 2048 * ranks + (1 << 20) * ranks
        },
        checkpoint_bytes: (3 + more) * parameters + (1 << 16),
        result_bytes: 2 * parameters + 64 * numbers.min(1 << 28) + (1 << 22),
        ..Plan::default()
    };
    plan.holds("program and libraries", PROGRAM);
    plan.holds("samples", part(bytes * numbers, shares[0]));
    plan.holds("parameters, moments and gradient", (6 + 2 * more) * parameters);
    let held = part(mine * bytes * shape.held(&train.points), shares[1]);
    plan.holds(format!("fields inside of {mine} samples"), held);
    if shared == Shared::Space && (training.sobolev.is_some() || training.torch_cfd.is_some()) {
        // Of errors and targets: fields, sums of rows, those that are sent and that come, columns, sums of these.
        let outputs = train.channels[1] * train.points.iter().product::<usize>();
        plan.holds("rows and columns of the loss", part(12 * mine * bytes * outputs as u64, shares[0]));
    }
    plan.notes.push(format!("{} parameters, {} on {:?} points", shape.parts().count(), train.samples, train.points));
    let passes = std::iter::once(train).chain(tests);
    let passes = passes.map(|set| (set.points.as_slice(), at_once(training.batch, set.samples, resources.ranks)));
    plan.notes.push(match on_device::unsuited(&shape, training.precision, shared, passes) {
        None => "a GPU trains it, where there is one".to_owned(),
        Some(reason) => format!("the processor trains it, also beside a GPU: {reason}"),
    });
    if ranks > 1 {
        let what = match shared {
            Shared::Samples => "samples alone",
            Shared::Modes => "samples and the matrices of the modes",
            Shared::Space => "the points of every sample and the matrices of the modes",
        };
        let [samples, modes, space] = [summed, exchange, parts].map(human_bytes);
        plan.notes.push(format!(
            "ranks share {what}; a step and rank send {samples} with samples shared, {modes} with modes as well, {space} with points"
        ));
    }
    Ok(plan)
}
