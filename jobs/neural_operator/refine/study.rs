//! Ways to the same trajectories: the solver with few and many steps, and trajectories of cheap origin that are corrected. What each is off
//! and what it costs.
//!
//! Cost is counted in flops, as this program carries them out: all of them, and those on the longest path when every snapshot has a rank of
//! its own. One step of the job is one family of ways, for all samples.

use convoke_cluster::results::{Axis, Meaning};
use convoke_cluster::workload::Resources;
use convoke_cluster::{BadValue, Ctx, Fields, Plan, Progress, Region, Result, Results, block};
use num_complex::Complex64;

use super::super::PROGRAM;
use super::super::data::{Layout, Set};
use super::super::evaluation::Evaluation;
use super::super::saved::{Card, Operator, Placed};
use super::super::spec::{EquationSpec, EvaluationSpec, RefinementSpec, Spec};
use super::super::training::SHOWN;
use super::correct::{Parareal, gauss_newton};
use super::equation::{Equation, Snapshot};
use crate::flow::linearised::Linearised;
use crate::flow::sampler::Sampler;
use crate::flow::{Flow, Modes, Scheme};
use crate::learning::Learn;

/// Figures of a way: see [`COLUMNS`].
const MEASURED: usize = 5;

/// Names and meanings of what is told of each way.
pub const COLUMNS: [(&str, &str); MEASURED + 2] = [
    ("error", "relative L2 error of all snapshots, mean over the samples"),
    ("last_error", "relative L2 error of the last snapshot, mean over the samples"),
    ("residual", "residual in H^s, time derivative by backward differences of the trajectory"),
    (
        "estimate",
        "residual in the dual norm of velocity over the vorticity: the functional estimate without its constant",
    ),
    ("seconds", "what it took with all corrections before it, mean over the samples"),
    ("flops", "what it costs"),
    ("longest_path", "flops one after another when every snapshot has a rank"),
];

/// Where a trajectory comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The data's own: what the measures say of the truth.
    Data,
    /// The solver with so many steps between snapshots.
    Solver(u64),
    /// The newest snapshot, unchanged.
    Persistence,
    /// The operator.
    Operator,
    /// The coarse solver.
    Coarse,
}

impl Origin {
    /// All of a job, a step each.
    pub fn all(refinement: &RefinementSpec) -> Vec<Self> {
        let solvers = refinement.direct.iter().map(|steps| Self::Solver(*steps));
        std::iter::once(Self::Data).chain(solvers).chain([Self::Persistence, Self::Coarse, Self::Operator]).collect()
    }

    /// Whether it is corrected, not just measured.
    fn corrected(self) -> bool {
        !matches!(self, Self::Data | Self::Solver(_))
    }

    /// Ways of this origin.
    pub fn ways(self, refinement: &RefinementSpec) -> Vec<String> {
        let origin = match self {
            Self::Data => "data".to_owned(),
            Self::Solver(steps) => format!("solver, {steps} steps"),
            Self::Persistence => "persistence".to_owned(),
            Self::Operator => "operator".to_owned(),
            Self::Coarse => format!("coarse solver, {} steps", refinement.coarse),
        };
        let mut all = vec![origin.clone()];
        if self.corrected() {
            all.extend((1..=refinement.gauss_newton).map(|i| format!("{origin} + Gauss-Newton {i}")));
            all.extend((1..=refinement.parareal).map(|i| format!("{origin} + parareal {i}")));
        }
        all
    }
}

/// What is known of a sample and what is to be found.
#[derive(Debug)]
struct Sample {
    known: Vec<Snapshot>,
    truth: Vec<Snapshot>,
}

/// Ways compared.
#[derive(Debug)]
pub struct Study {
    refinement: RefinementSpec,
    evaluation: Evaluation<f32>,
    /// The operator on the grid of the data.
    placed: Placed<f32>,
    set: Set<f32>,
    equation: Equation,
    coarse: Flow,
    samples: Vec<Sample>,
    origins: Vec<Origin>,
    sampler: Sampler,
    /// Flops of the operator for one sample.
    operator_flops: f64,
    /// Families that are done.
    done: u64,
    /// Figures of all ways, `[way][MEASURED]`.
    figures: Vec<f64>,
    /// The operator's trajectories of the first samples after the last of the corrections, `[sample][snapshot, x, y]`.
    refined: Vec<f32>,
}

/// Whether data fit an equation and its corrections.
///
/// # Errors
/// [`BadValue`] that names the key.
pub fn check((equation, refinement): (&EquationSpec, &RefinementSpec), layout: &Layout) -> Result<(), BadValue> {
    if layout.points[0] != layout.points[1] {
        let message = format!("the flow is on a square, and the data are on {:?} points", layout.points);
        return Err(BadValue::wrong("problem.test.file", message));
    }
    if layout.channels[0] < refinement.order {
        let expected = format!("at most {}, the snapshots of the input", layout.channels[0]);
        return Err(BadValue::new("problem.refinement.order", refinement.order, expected));
    }
    equation.coefficients(&equation.modes(refinement.points(layout.points[0]))?).map(drop)
}

/// The bill.
///
/// # Errors
/// [`BadValue`] for a length that is none.
pub fn price(
    (evaluation, equation, refinement): (&EvaluationSpec, &EquationSpec, &RefinementSpec),
    card: &Card,
    layout: &Layout,
    resources: &Resources,
) -> Result<Plan, BadValue> {
    let modes = equation.modes(refinement.points(layout.points[0]))?;
    let (ranks, samples) = (resources.ranks as u64, layout.samples as u64);
    let [known, found] = layout.channels.map(|snapshots| snapshots as u64);
    let (origins, snapshot) = (Origin::all(refinement), 16 * modes.len() as u64);
    let corrected = origins.iter().filter(|origin| origin.corrected()).count() as u64;
    let ways: u64 = origins.iter().map(|origin| origin.ways(refinement).len() as u64).sum();
    let shown = samples.min(SHOWN as u64) * found * layout.points.iter().product::<usize>() as u64;
    let operator = evaluation.applications as f64 * card.shape.flops(&layout.points);
    let costs = |origin: &Origin| costs(*origin, refinement, &modes, (found as f64, operator));
    let flops: f64 = origins.iter().flat_map(costs).map(|cost| cost[0]).sum();
    let mut plan = Plan {
        steps: origins.len() as u64,
        work: samples as f64 * flops,
        work_unit: "flop",
        // A trajectory from its owner and, in each iteration, from all; figures and flags; what is shown.
        bytes_sent_per_rank: (corrected * samples * found * snapshot * (1 + refinement.parareal as u64)
            + 64 * ways
            + 8 * shown
            + 4096 * (origins.len() as u64 + samples)
            + (1 << 17))
            * ranks,
        checkpoint_bytes: 4 * shown + 64 * ways + (1 << 16),
        result_bytes: 8 * shown + 96 * ways + (1 << 20),
        ..Plan::default()
    };
    plan.holds("program and libraries", PROGRAM);
    plan.holds("samples", samples * (known + found) * (snapshot + 4 * layout.points.iter().product::<usize>() as u64));
    plan.holds("parameters", 8 * card.shape.parts().count() as u64);
    plan.holds("fields inside of a sample", 4 * card.shape.held(&layout.points));
    // Gradients at the points, and what CGLS and parareal hold.
    plan.holds("derivatives of a trajectory", found * (Linearised::bytes(&modes) + 12 * snapshot));
    plan.holds("transforms", resources.threads as u64 * Flow::mover_bytes(&modes, false));
    plan.holds("what is shown", 12 * shown);
    plan.notes.push(format!("solver with modes up to {} of {} points along each axis", modes.m, modes.n));
    Ok(plan)
}

/// Flops, all and on the longest path, of the ways of one origin: `count` snapshots of a sample.
fn costs(origin: Origin, spec: &RefinementSpec, modes: &Modes, (count, operator): (f64, f64)) -> Vec<[f64; 2]> {
    let solver = |scheme: Scheme, steps: u64| steps as f64 * Flow::flops(modes, scheme);
    let (fine, coarse) = (solver(spec.scheme, spec.steps), count * solver(Scheme::Rk2Cn, spec.coarse));
    // Two complex transforms, of a snapshot.
    let pair = Flow::flops(modes, Scheme::ImexCn);
    let start = match origin {
        Origin::Data | Origin::Persistence => 0.0,
        Origin::Solver(steps) => count * solver(spec.scheme, steps),
        Origin::Coarse => coarse,
        Origin::Operator => operator,
    };
    let mut all = vec![[start, start]];
    if origin.corrected() {
        // Residual, gradients at the points and the first adjoint; then five transforms an iteration.
        let round = pair * (3.0 + 2.5 * spec.iterations as f64);
        all.extend((1..=spec.gauss_newton).map(|i| [count, 1.0].map(|share| start + i as f64 * round * share)));
        let iteration = |i: usize| {
            let (i, first) = (i as f64, start + coarse);
            [first + i * (count * fine + coarse), first + i * (fine + coarse)]
        };
        all.extend((1..=spec.parareal).map(iteration));
    }
    all
}

/// The solver of a job with so many steps between snapshots, on its grid.
pub fn solver(
    (equation, refinement): (&EquationSpec, &RefinementSpec),
    points: usize,
    scheme: Scheme,
    steps: u64,
) -> Result<Flow> {
    let modes = equation.modes(refinement.points(points))?;
    let forcing = equation.coefficients(&modes)?;
    let constants = (equation.viscosity, equation.drag);
    Ok(Flow::new(modes, constants, forcing, (scheme, refinement.every / steps as f64), false))
}

impl Study {
    /// Reads the data. Collective.
    ///
    /// # Errors
    /// Of the data and of the forcing.
    pub fn new(
        (spec, evaluation): (&Spec, &EvaluationSpec),
        (equation, refinement): (&EquationSpec, &RefinementSpec),
        operator: Operator<f32>,
        layout: &Layout,
        ctx: &Ctx,
    ) -> Result<Self> {
        let set = ctx.comm.agree(Set::<f32>::read(&spec.data, layout, 0..layout.points[0]))?;
        let points = layout.points[0];
        let of = |scheme: Scheme, steps: u64| solver((equation, refinement), points, scheme, steps);
        let (fine, coarse) = (of(refinement.scheme, refinement.steps)?, of(Scheme::Rk2Cn, refinement.coarse)?);
        let sampler = Sampler::new(&fine.modes, points);
        let time = (refinement.steps, refinement.every);
        let equation = Equation::new(fine, time, refinement.order, (refinement.s, refinement.alpha));
        let snapshots = |field: &[f32]| -> Vec<Snapshot> {
            let wide = |part: &[f32]| part.iter().map(|v| f64::from(*v)).collect::<Vec<f64>>();
            field.chunks(points * points).map(|part| sampler.coefficients(&equation.flow.modes, &wide(part))).collect()
        };
        let pairs = set.inputs.iter().zip(&set.targets);
        let samples = pairs.map(|(a, u)| Sample { known: snapshots(a), truth: snapshots(u) }).collect();
        let origins = Origin::all(refinement);
        let ways: usize = origins.iter().map(|origin| origin.ways(refinement).len()).sum();
        let shown = SHOWN.min(set.inputs.len());
        Ok(Self {
            refinement: refinement.clone(),
            operator_flops: evaluation.applications as f64 * operator.card.shape.flops(&layout.points),
            placed: operator.on(&set.points),
            evaluation: Evaluation::of(operator, evaluation.applications),
            figures: vec![0.0; ways * MEASURED],
            refined: vec![0.0; shown * layout.channels[1] * points * points],
            done: 0,
            set,
            equation,
            coarse,
            samples,
            origins,
            sampler,
        })
    }

    /// A trajectory of some origin, for sample `i`.
    fn trajectory(&self, origin: Origin, i: usize) -> Result<Vec<Snapshot>> {
        let (sample, points) = (&self.samples[i], self.set.points[0]);
        let newest = &sample.known[sample.known.len() - 1];
        let count = sample.truth.len();
        let by = |flow: &Flow, steps: u64| {
            let (mut w, mut mover) = (newest.clone(), flow.mover());
            let next = |_| {
                flow.advance(&mut w, steps, &mut mover);
                w.clone()
            };
            (0..count).map(next).collect()
        };
        Ok(match origin {
            Origin::Data => sample.truth.clone(),
            Origin::Solver(steps) => {
                let step = self.refinement.every / steps as f64;
                by(&self.equation.flow.with_step(self.refinement.scheme, step), steps)
            }
            Origin::Persistence => vec![newest.clone(); count],
            Origin::Coarse => by(&self.coarse, self.refinement.coarse),
            Origin::Operator => {
                let outputs = self.evaluation.roll_out(&self.placed, &self.set.inputs[i..=i])?.concat();
                let wide: Vec<f64> = outputs.into_iter().map(f64::from).collect();
                let modes = &self.equation.flow.modes;
                wide.chunks(points * points).map(|part| self.sampler.coefficients(modes, part)).collect()
            }
        })
    }

    /// Error, error of the last snapshot, residual, estimate, beside the seconds that it took.
    fn measure(&self, sample: &Sample, w: &[Snapshot], seconds: f64) -> [f64; MEASURED] {
        let off: Vec<Snapshot> =
            w.iter().zip(&sample.truth).map(|(w, u)| w.iter().zip(u).map(|(w, u)| w - u).collect()).collect();
        let size = |w: &[Snapshot]| self.equation.dot(w, w).sqrt();
        let truth = |w: &[Snapshot]| size(w).max(f64::MIN_POSITIVE);
        let (last, count) = (w.len() - 1, w.len() as f64);
        let residual = self.equation.residual(&sample.known, w);
        [
            size(&off) / truth(&sample.truth),
            size(&off[last..]) / truth(&sample.truth[last..]),
            self.equation.norm(&residual),
            self.equation.dual_norm(&residual) / (truth(&sample.truth) / count.sqrt()),
            seconds,
        ]
    }

    fn costs(&self, origin: Origin) -> Vec<[f64; 2]> {
        let count = self.samples[0].truth.len() as f64;
        costs(origin, &self.refinement, &self.equation.flow.modes, (count, self.operator_flops))
    }

    /// Figures of the ways of one origin, summed over the samples. Collective.
    fn compare(&mut self, origin: Origin, ctx: &Ctx) -> Result<Vec<f64>> {
        let (comm, spec) = (&ctx.comm, self.refinement.clone());
        let mut sums = vec![0.0; origin.ways(&spec).len() * MEASURED];
        let add = |sums: &mut [f64], way: usize, figures: [f64; MEASURED]| {
            sums[way * MEASURED..][..MEASURED].iter_mut().zip(figures).for_each(|(sum, figure)| *sum += figure);
        };
        let len = self.equation.flow.modes.len();
        let mut shown = vec![0.0; self.refined.len()];
        for owner in 0..comm.size() {
            for i in block(self.samples.len(), owner, comm.size()) {
                let sample = &self.samples[i];
                // Its owner makes the start and what needs no other rank.
                let (mut w, mut refined, mut start) = (Vec::new(), Vec::new(), 0.0);
                // Seconds of the corrections alone, without what is measured of them.
                let timed = |seconds: &mut f64, work: &mut dyn FnMut() -> Result<()>| {
                    let begun = ctx.clock.seconds();
                    let done = work();
                    *seconds += ctx.clock.seconds() - begun;
                    done
                };
                if comm.rank() == owner {
                    timed(&mut start, &mut || {
                        w = self.trajectory(origin, i)?;
                        Ok(())
                    })?;
                    add(&mut sums, 0, self.measure(sample, &w, start));
                    refined = w.clone();
                    let mut seconds = start;
                    for round in 1..=if origin.corrected() { spec.gauss_newton } else { 0 } {
                        timed(&mut seconds, &mut || {
                            gauss_newton(&self.equation, &sample.known, &mut refined, spec.iterations);
                            Ok(())
                        })?;
                        add(&mut sums, round, self.measure(sample, &refined, seconds));
                    }
                }
                if origin.corrected() && spec.parareal > 0 {
                    // All ranks share the snapshots of parareal.
                    let numbers = comm.broadcast(owner, bytemuck::cast_slice(&w.concat()))?;
                    let all: Vec<Complex64> = bytemuck::pod_collect_to_vec(&numbers);
                    refined = all.chunks(len).map(<[Complex64]>::to_vec).collect();
                    let newest = &sample.known[sample.known.len() - 1];
                    let mut seconds = start;
                    let begun = ctx.clock.seconds();
                    let mut parareal = Parareal::new(&self.equation, (&self.coarse, spec.coarse), newest, &refined);
                    seconds += ctx.clock.seconds() - begun;
                    for round in 1..=spec.parareal {
                        timed(&mut seconds, &mut || Ok(parareal.iterate(comm, newest, &mut refined)?))?;
                        if comm.rank() == owner {
                            add(&mut sums, spec.gauss_newton + round, self.measure(sample, &refined, seconds));
                        }
                    }
                }
                let size = self.refined.len() / SHOWN.min(self.samples.len());
                if origin == Origin::Operator && comm.rank() == owner && i < SHOWN {
                    let values = refined.iter().flat_map(|w| self.sampler.values(&self.equation.flow.modes, w));
                    shown[i * size..(i + 1) * size].iter_mut().zip(values).for_each(|(to, v)| *to = v as f32);
                }
            }
        }
        comm.all_sum(&mut sums)?;
        if origin == Origin::Operator {
            comm.all_sum(&mut shown)?;
            self.refined = shown;
        }
        let count = self.samples.len() as f64;
        sums.iter_mut().for_each(|sum| *sum /= count);
        Ok(sums)
    }
}

impl Learn for Study {
    fn step(&mut self, ctx: &Ctx) -> Result<Progress> {
        let index = self.done as usize;
        let origin = self.origins[index];
        let before: usize = self.origins[..index].iter().map(|origin| origin.ways(&self.refinement).len()).sum();
        let sums = self.compare(origin, ctx)?;
        self.figures[before * MEASURED..][..sums.len()].copy_from_slice(&sums);
        let costs = self.costs(origin);
        let work = self.samples.len() as f64 * costs.iter().map(|cost| cost[0]).sum::<f64>();
        self.done += 1;
        let all = self.origins.len() as u64;
        let best = sums.chunks(MEASURED).map(|way| way[0]).fold(f64::INFINITY, f64::min);
        let metrics = vec![("error", sums[0]), ("best_error", best), ("residual", sums[2])];
        Ok(Progress { done: self.done == all, fraction: self.done as f64 / all as f64, work, metrics })
    }

    fn fields<'a>(&'a mut self, fields: &mut Fields<'a>) {
        fields.counter("done", &mut self.done);
        let shape = [self.figures.len()];
        fields.array("figures", &shape, Region::whole(&shape), &mut self.figures[..]);
        let shape = [self.refined.len()];
        fields.array("refined", &shape, Region::whole(&shape), &mut self.refined[..]);
    }

    fn finish(&mut self, _ctx: &Ctx, out: &mut Results) -> Result<()> {
        let ways: Vec<String> = self.origins.iter().flat_map(|origin| origin.ways(&self.refinement)).collect();
        let costs: Vec<[f64; 2]> = self.origins.iter().flat_map(|origin| self.costs(*origin)).collect();
        for (c, (name, long_name)) in COLUMNS.iter().enumerate() {
            let column: Vec<f64> = if c < MEASURED {
                self.figures.iter().skip(c).step_by(MEASURED).copied().collect()
            } else {
                costs.iter().map(|cost| cost[c - MEASURED]).collect()
            };
            let unit = match *name {
                "seconds" => "s",
                _ if c < MEASURED => "1",
                _ => "flop",
            };
            out.series(name, &column, unit, long_name)?;
        }
        out.text("ways", &ways.join("\n"))?;
        let (points, snapshots) = (self.set.points[0], self.samples[0].truth.len());
        let shape = [SHOWN.min(self.samples.len()), snapshots, points, points];
        let axis = |name: &str| Axis { name: name.to_owned(), unit: "1".to_owned(), origin: 0.0, spacing: 1.0 };
        let axes: Vec<Axis> = ["sample", "snapshot", "x", "y"].iter().map(|name| axis(name)).collect();
        let meaning = |what: &str| Meaning { long_name: what.to_owned(), unit: "1".to_owned(), axes: axes.clone() };
        let root = out.is_root();
        let refined = meaning("the operator's snapshots after the last of the corrections");
        out.array("refined", &shape, (Region::whole(&shape), root), &self.refined, &refined)?;
        let targets = self.set.targets[..shape[0]].concat();
        out.array("targets", &shape, (Region::whole(&shape), root), &targets, &meaning("what they should be"))
    }
}
