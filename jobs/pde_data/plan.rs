//! What samples cost: memory, messages, operations.

use convoke_cluster::machine::human_bytes;
use convoke_cluster::shard::RankGrid;
use convoke_cluster::workload::Resources;
use convoke_cluster::{BadValue, Plan};

use super::layout::{self, Layout};
use super::spec::{Equation, Spec};
use crate::flow::on_device;
use crate::flow::slabs::Slabs;

/// The program itself with its libraries and buffers: measured, rounded up.
const PROGRAM: u64 = 96 << 20;

/// Samples of a batch.
pub(super) fn batch(spec: &Spec) -> usize {
    spec.batch.min(spec.samples)
}

/// Who has which samples of a batch: as many parts as there are samples for; ranks beyond share a flow by its k_y, where each has some.
pub(super) fn grid(spec: &Spec, ranks: usize) -> RankGrid {
    let whole = RankGrid { slabs: ranks, groups: 1 };
    let Some(modes) = spec.modes().ok().filter(|_| spec.equation == Equation::NavierStokes) else { return whole };
    let grid = RankGrid::fit(ranks, batch(spec));
    if grid.groups <= modes.m + 1 { grid } else { whole }
}

/// Whether all threads of a rank work on one sample at a time: a flow has enough lines for them.
pub(super) fn wide(spec: &Spec, threads: usize, ranks: usize) -> bool {
    spec.equation == Equation::NavierStokes && threads > batch(spec).div_ceil(ranks)
}

/// Why the processor computes a job also where there is a GPU.
pub(super) fn unsuited(spec: &Spec, ranks: usize) -> Result<Option<String>, BadValue> {
    if spec.equation != Equation::NavierStokes {
        return Ok(Some(format!("equation = \"{}\"", spec.equation.name())));
    }
    Ok(on_device::unsuited(&spec.modes()?, grid(spec, ranks).groups > 1))
}

pub(super) fn plan(spec: &Spec, resources: &Resources) -> Result<Plan, BadValue> {
    let (clock, ranks, grid) = (spec.clock()?, resources.ranks as u64, grid(spec, resources.ranks));
    let wide = wide(spec, resources.threads, resources.ranks);
    let layout = Layout::new(spec, wide)?;
    let (samples, batch, snapshots) = (spec.samples as u64, batch(spec) as u64, clock.snapshots as u64);
    let mine = batch.div_ceil(grid.slabs as u64);
    let (state, picture) = (8 * layout.numbers as u64, 4 * (layout.arrays.len() * layout.values()) as u64);
    let (batches, intervals) = (samples.div_ceil(batch), clock.intervals().max(1));
    let (figures, front) = (8 * layout.figures() as u64, 8 * layout.front.len() as u64);
    let mut plan = Plan {
        steps: batches * intervals,
        work: samples as f64 * (layout.first + layout::flops(spec, clock.steps() as f64)?),
        work_unit: "flop",
        // Figures of every look to all others, the flags of each step, and finished pictures to rank 0.
        bytes_sent_per_rank: (batches * ((intervals + 1) * mine * figures + intervals * 1024) + (1 << 16))
            * (ranks - 1).max(1),
        checkpoint_bytes: batch * (state + snapshots * picture) + samples * snapshots * front + (1 << 16),
        // Finished batches wait on the disk for the result.
        result_bytes: 2 * samples * snapshots * picture + samples * snapshots * front + (1 << 20),
        ..Plan::default()
    };
    if grid.groups > 1 {
        let (modes, groups) = (spec.modes()?, grid.groups as u64);
        let scheme = spec.time.as_ref().and_then(|time| time.scheme).unwrap_or_default();
        let evaluations = scheme.stages() as u64 * clock.steps() * (samples.div_ceil(batch) * mine);
        let exchanged = Slabs::bytes(&modes, grid.groups);
        // Of each evaluation there and back; whole states to the first of a group whenever they are looked at.
        plan.bytes_sent_per_rank += evaluations * exchanged + batches * (intervals + 1) * mine * state.div_ceil(groups);
        plan.notes.push(format!(
            "{groups} ranks share a flow: {} a step and rank in {} exchanges",
            human_bytes(scheme.stages() as u64 * exchanged),
            2 * scheme.stages()
        ));
        plan.holds(
            "rows and lines of a flow that is shared, beside the whole one to look at",
            3 * layout.mover + 4 * exchanged,
        );
    }
    plan.holds("program and libraries", PROGRAM);
    plan.holds("tables of the equation", layout.tables);
    let at_once = if wide { mine } else { resources.threads as u64 };
    plan.holds("work of the samples that move at once", at_once * layout.mover);
    plan.holds(format!("state of {mine} samples"), mine * state);
    plan.holds(format!("snapshots of {mine} samples"), 2 * mine * snapshots * picture);
    plan.holds("figures of all samples", samples * snapshots * front + snapshots * figures * (1 + batch));
    plan.notes.extend(modes(spec)?);
    plan.notes.push(match unsuited(spec, resources.ranks)? {
        None => "a GPU moves the flows, where there is one".to_owned(),
        Some(reason) => format!("the processor computes it, also beside a GPU: {reason}"),
    });
    if mine * ranks > batch && ranks > 1 && grid.groups == 1 {
        plan.notes.push(format!(
            "{batch} samples at once do not divide by {ranks} ranks: some wait; problem.batch = {} keeps all busy",
            mine * ranks
        ));
    }
    Ok(plan)
}

/// Which part of what the grid holds is kept.
fn modes(spec: &Spec) -> Result<Option<String>, BadValue> {
    let n = spec.grid.points;
    Ok(match spec.equation {
        Equation::NavierStokes => {
            Some(format!("modes up to {} of {n} points along each axis (2/3 rule)", spec.modes()?.m))
        }
        Equation::Burgers | Equation::KuramotoSivashinsky | Equation::Advection => {
            let m = spec.law().map_or(0, |law| law.circle(n, 1.0).m);
            Some(format!("modes up to {m} of {n} points"))
        }
        Equation::Darcy => None,
    })
}
