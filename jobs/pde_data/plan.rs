//! What samples cost: memory, messages, operations.

use convoke_cluster::workload::Resources;
use convoke_cluster::{BadValue, Plan};

use super::navier_stokes::Flow;
use super::spec::Spec;

/// The program itself with its libraries and buffers: measured, rounded up.
const PROGRAM: u64 = 96 << 20;

/// Intervals of one batch: driver steps, each up to a snapshot or as long as the time between two.
pub(super) fn intervals(spec: &Spec) -> Result<u64, BadValue> {
    let ticks = spec.ticks()?;
    Ok(ticks.start.div_ceil(ticks.every) + spec.time.snapshots as u64 - 1)
}

/// Samples of a batch.
pub(super) fn batch(spec: &Spec) -> usize {
    spec.batch.min(spec.samples)
}

/// Flops of a sample from its beginning to its end.
pub(super) fn flops(spec: &Spec) -> Result<f64, BadValue> {
    let ticks = spec.ticks()?;
    let steps = ticks.start as f64 + ticks.every as f64 * (spec.time.snapshots - 1) as f64;
    Ok(steps * Flow::flops(&spec.modes()?, spec.time.scheme))
}

/// Figures of a sample at a snapshot: energy, enstrophy, speed, energy by shells.
pub(super) fn figures(m: usize) -> usize {
    3 + m + 1
}

pub(super) fn plan(spec: &Spec, resources: &Resources) -> Result<Plan, BadValue> {
    let (modes, ranks) = (spec.modes()?, resources.ranks as u64);
    let (samples, batch, snapshots) = (spec.samples as u64, batch(spec) as u64, spec.time.snapshots as u64);
    let mine = batch.div_ceil(ranks);
    let points = spec.points() as u64;
    let (state, picture) = (16 * modes.len() as u64, 4 * points * points);
    let batches = samples.div_ceil(batch);
    let figures = 8 * figures(modes.m) as u64;
    let mut plan = Plan {
        steps: batches * intervals(spec)?.max(1),
        work: samples as f64 * flops(spec)?,
        work_unit: "flop",
        // Figures of every snapshot to all others, the flags of each step, and finished pictures to rank 0.
        bytes_sent_per_rank: (snapshots * batches * mine * figures
            + batches * intervals(spec)?.max(1) * 1024
            + (1 << 16))
            * (ranks - 1).max(1),
        checkpoint_bytes: batch * (state + snapshots * picture) + samples * snapshots * 24 + (1 << 16),
        // Finished batches wait on the disk for the result.
        result_bytes: 2 * samples * snapshots * picture + samples * snapshots * 24 + (1 << 20),
        ..Plan::default()
    };
    plan.holds("program and libraries", PROGRAM);
    let wide = resources.threads > mine as usize;
    let at_once = if wide { mine } else { resources.threads as u64 };
    plan.holds("transforms of the samples that move at once", at_once * Flow::mover_bytes(&modes, wide));
    plan.holds(format!("coefficients of {mine} samples"), mine * state);
    plan.holds(format!("snapshots of {mine} samples"), 2 * mine * snapshots * picture);
    plan.holds("figures of all samples", samples * snapshots * 24 + snapshots * figures * (1 + batch));
    plan.notes.push(format!("modes up to {} of {} points along each axis (2/3 rule)", modes.m, modes.n));
    if mine * ranks > batch && ranks > 1 {
        plan.notes.push(format!(
            "{batch} samples at once do not divide by {ranks} ranks: some wait; problem.batch = {} keeps all busy",
            mine * ranks
        ));
    }
    Ok(plan)
}
