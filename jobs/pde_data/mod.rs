//! Solutions of partial differential equations, many at once: data for surrogates, and flows to look at.
//!
//! Samples are functions of (seed, sample); ranks share those of a batch without talking. A flow of which there are fewer than ranks is
//! shared itself. Finished batches wait on the disk, so that memory does not depend on the number of samples. See `README.md` beside this file.

pub mod check;
pub mod circle;
pub mod darcy;
pub mod elliptic;
mod initial;
mod layout;
pub mod line;
mod line_initial;
mod output;
mod plan;
mod reflection;
pub mod spec;
mod system;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_darcy;
#[cfg(test)]
mod tests_line;

use std::borrow::Cow;
use std::ops::Range;

use bytemuck::cast_slice_mut;
use convoke_cluster::shard::RankGrid;
use convoke_cluster::workload::{Inputs, Resources};
use convoke_cluster::{Ctx, Error, Fields, Plan, Progress, Region, Result, Results, Workload, block};
use rayon::prelude::*;

use check::Clock;
use layout::Layout;
use spec::Spec;
use system::System;

use crate::flow::Flow;
use crate::flow::on_device::OnDevice;
use crate::flow::slabs::Slabs;

/// Registry name.
pub const NAME: &str = "pde-data";
/// Points per step that a flow may cross before somebody should hear of it.
const FAST: f64 = 1.0;

/// Samples under way.
#[derive(Debug)]
pub struct PdeData {
    spec: Spec,
    clock: Clock,
    layout: Layout,
    system: System,
    grid: RankGrid,
    /// The flow over the ranks that share a sample, where some do.
    shared: Option<Flow<Slabs>>,
    /// The flow on the GPU of this rank, where that moves it.
    resident: Option<OnDevice>,
    /// First sample of the batch under way, or of the next one.
    first: u64,
    /// Samples of the batch under way; 0 between batches.
    count: u64,
    /// Steps done in this batch.
    done: u64,
    /// Snapshots taken of this batch.
    taken: u64,
    /// Which samples of the batch are here.
    here: Range<usize>,
    /// Their states, `[sample][number]`, or the part of this rank.
    states: Vec<f64>,
    /// Samples whose snapshots are here: on the first of the ranks that share them.
    shown: Range<usize>,
    /// Their snapshots, for each array `[sample][snapshot][point]`.
    pictures: Vec<Vec<f32>>,
    /// The figures in front, `[sample][snapshot][figure]`, on all ranks.
    figures: Vec<f64>,
    /// Energies of the shells, `[snapshot][shell]`, summed over the samples so far, on all ranks.
    shells: Vec<f64>,
    /// Whether it was said that the flow is fast.
    warned: u64,
}

/// A sample without a solution.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(
        "sample {sample} is no longer finite at t = {time:.6}\n  help: lower problem.time.step (the flow crossed {courant:.2} \
         points in a step), or raise problem.grid.points or the viscosity"
    )]
    Unstable { sample: u64, time: f64, courant: f64 },
    #[error(
        "sample {sample}: {iterations} iterations for the pressure left a residual of {residual:.1e}\n  help: bring the two \
         problem.medium.values closer to each other"
    )]
    Stuck { sample: u64, iterations: usize, residual: f64 },
}

impl Workload for PdeData {
    const NAME: &'static str = NAME;
    const SUMMARY: &'static str =
        "samples of PDE solutions: 2-D Navier-Stokes, Burgers, Kuramoto-Sivashinsky, advection, Darcy";
    const JOBS: &'static [(&'static str, &'static str)] = &[
        ("mcwilliams", include_str!("mcwilliams.toml")),
        ("kolmogorov", include_str!("kolmogorov.toml")),
        ("fno-flow", include_str!("fno-flow.toml")),
        ("taylor-green", include_str!("taylor-green.toml")),
        ("burgers", include_str!("burgers.toml")),
        ("kuramoto-sivashinsky", include_str!("kuramoto-sivashinsky.toml")),
        ("advection", include_str!("advection.toml")),
        ("darcy", include_str!("darcy.toml")),
    ];
    type Spec = Spec;

    fn plan(spec: &Spec, _inputs: &Inputs, resources: &Resources) -> Result<Plan> {
        spec.check()?;
        Ok(plan::plan(spec, resources)?)
    }

    fn new(spec: &Spec, ctx: &Ctx) -> Result<Self> {
        let clock = spec.clock()?;
        let wide = plan::wide(spec, ctx.resources.threads, ctx.comm.size());
        let layout = Layout::new(spec, wide)?;
        let grid = plan::grid(spec, ctx.comm.size());
        let shared = if grid.groups > 1 {
            let (slab, place) = grid.place(ctx.comm.rank());
            Some(system::shared(spec, &clock, &ctx.comm.split(slab, place)?)?)
        } else {
            None
        };
        let system = System::new(spec, &clock, wide)?;
        Ok(Self {
            resident: resident(spec, ctx, &system)?,
            system,
            grid,
            shared,
            spec: spec.clone(),
            clock,
            first: 0,
            count: 0,
            done: 0,
            taken: 0,
            here: 0..0,
            shown: 0..0,
            states: Vec::new(),
            pictures: vec![Vec::new(); layout.arrays.len()],
            figures: vec![0.0; spec.samples * clock.snapshots * layout.front.len()],
            shells: vec![0.0; clock.snapshots * layout.shells],
            warned: 0,
            layout,
        })
    }

    fn step(&mut self, ctx: &Ctx) -> Result<Progress> {
        let (mut table, mut work) = (Vec::new(), 0.0);
        if self.count == 0 {
            self.begin(ctx)?;
            table = self.look(ctx)?;
            work += self.count as f64 * self.layout.first;
        }
        let snapshots = self.clock.snapshots as u64;
        if self.taken < snapshots {
            let steps = self.clock.next(self.done);
            self.advance(steps)?;
            self.done += steps;
            table = self.look(ctx)?;
            work += self.count as f64 * layout::flops(&self.spec, steps as f64)?;
        }
        let metrics = self.metrics(ctx, &table);
        let whole = self.clock.steps();
        let part = if whole == 0 { 1.0 } else { self.done as f64 / whole as f64 };
        let fraction = (self.first as f64 + self.count as f64 * part) / self.spec.samples as f64;
        if self.taken == snapshots {
            self.put_away(ctx)?;
        }
        Ok(Progress { done: self.first == self.spec.samples as u64, fraction: fraction.min(1.0), work, metrics })
    }

    fn fields<'a>(&'a mut self, fields: &mut Fields<'a>) {
        let (layout, snapshots, count) = (&self.layout, self.clock.snapshots, self.count as usize);
        for (name, counter) in [
            ("first", &mut self.first),
            ("count", &mut self.count),
            ("done", &mut self.done),
            ("taken", &mut self.taken),
            ("warned", &mut self.warned),
        ] {
            fields.counter(name, counter);
        }
        if count > 0 {
            let shape = [count, layout.numbers];
            let mut region = Region::rows(&shape, self.here.clone());
            if let Some(flow) = &self.shared {
                region = region.with(1, 2 * flow.here().start..2 * flow.here().end);
            }
            fields.array("states", &shape, region, &mut self.states[..]);
            let shape = layout.shape(count, Some(snapshots));
            for ((name, _), pictures) in layout.arrays.iter().zip(&mut self.pictures) {
                fields.array(*name, &shape, Region::rows(&shape, self.shown.clone()), &mut pictures[..]);
            }
        }
        let shape = [self.spec.samples, snapshots, layout.front.len()];
        fields.array("figures", &shape, Region::whole(&shape), &mut self.figures[..]);
        if layout.shells > 0 {
            let shape = [snapshots, layout.shells];
            fields.array("shells", &shape, Region::whole(&shape), &mut self.shells[..]);
        }
    }

    fn reshape(&mut self, ctx: &Ctx) -> Result<()> {
        self.allocate(ctx);
        Ok(())
    }

    fn finish(&mut self, ctx: &Ctx, out: &mut Results) -> Result<()> {
        self.write(ctx, out)
    }
}

/// The flow on this rank's GPU, where there is one that takes it; else a note says why not. Collective.
fn resident(spec: &Spec, ctx: &Ctx, system: &System) -> Result<Option<OnDevice>> {
    if !ctx.device.is_gpu() {
        return Ok(None);
    }
    if let Some(reason) = plan::unsuited(spec, ctx.comm.size())? {
        ctx.notes.add(format!("the GPU is not used: {reason}"));
        return Ok(None);
    }
    let flow = system.flow().map(|flow| OnDevice::new(&ctx.device, flow)).transpose();
    ctx.comm.agree(flow.map_err(Error::from))
}

impl PdeData {
    /// Memory for this rank's share of the batch.
    fn allocate(&mut self, ctx: &Ctx) {
        let (slab, place) = self.grid.place(ctx.comm.rank());
        self.here = block(self.count as usize, slab, self.grid.slabs);
        self.shown = if place == 0 { self.here.clone() } else { self.here.start..self.here.start };
        self.states = vec![0.0; self.here.len() * self.numbers()];
        let size = self.shown.len() * self.clock.snapshots * self.layout.values();
        self.pictures.iter_mut().for_each(|pictures| *pictures = vec![0.0; size]);
    }

    /// The next batch at time 0. Collective.
    fn begin(&mut self, ctx: &Ctx) -> Result<()> {
        self.count = (plan::batch(&self.spec) as u64).min(self.spec.samples as u64 - self.first);
        (self.done, self.taken) = (0, 0);
        self.allocate(ctx);
        let first = self.first + self.here.start as u64;
        if let Some(flow) = &self.shared {
            // One sample whole at a time.
            let (mut whole, part) = (vec![0.0; self.layout.numbers], flow.here());
            for (i, state) in self.states.chunks_exact_mut(2 * part.len().max(1)).enumerate() {
                let begun = self.system.begin(&mut whole, ctx.seed, first + i as u64);
                begun.expect("a flow begins without a system of equations to be solved");
                state.copy_from_slice(&whole[2 * part.start..2 * part.end]);
            }
            return Ok(());
        }
        let begun = self.system.begin(&mut self.states, ctx.seed, first);
        let begun = begun.map_err(|(sample, stuck)| {
            let failure = Failure::Stuck { sample, iterations: stuck.iterations, residual: stuck.residual };
            Error::workload(NAME, failure)
        });
        ctx.comm.agree(begun)
    }

    /// Figures of all samples of the batch, in order; where a snapshot is due, it is taken. Collective.
    fn look(&mut self, ctx: &Ctx) -> Result<Vec<f64>> {
        let states = std::mem::take(&mut self.states);
        let looked = self.look_at(ctx, &states);
        self.states = states;
        looked
    }

    /// The same, of the states that are here.
    fn look_at(&mut self, ctx: &Ctx, states: &[f64]) -> Result<Vec<f64>> {
        let states = self.whole(states)?;
        let table = ctx.comm.all_gather(&self.system.figures(&states))?.concat();
        let front = self.layout.front.len();
        let finite = |row: &[f64]| row[..front].iter().all(|v| v.is_finite());
        if let Some((bad, row)) = table.chunks(self.layout.figures()).enumerate().find(|(_, row)| !finite(row)) {
            let (sample, time) = (self.first + bad as u64, self.clock.time(self.done));
            let courant = self.courant(row[front - 1]).unwrap_or_default();
            let unstable = Failure::Unstable { sample, time, courant };
            return ctx.comm.agree(Err(Error::workload(NAME, unstable)));
        }
        if self.clock.due(self.done) {
            self.take(&states, &table);
        }
        Ok(table)
    }

    /// Numbers of a sample's state that are here.
    fn numbers(&self) -> usize {
        self.shared.as_ref().map_or(self.layout.numbers, |flow| 2 * flow.here().len())
    }

    /// The samples after `steps` steps.
    fn advance(&mut self, steps: u64) -> Result<()> {
        if let Some(resident) = &mut self.resident {
            return Ok(resident.advance(&mut self.states, steps)?);
        }
        let Some(flow) = &self.shared else {
            self.system.advance(&mut self.states, steps);
            return Ok(());
        };
        let mut mover = flow.mover();
        for state in self.states.chunks_exact_mut(2 * flow.here().len().max(1)) {
            flow.go_on(cast_slice_mut(state), steps, &mut mover)?;
        }
        Ok(())
    }

    /// The whole states of the samples that are shown here. Collective.
    fn whole<'s>(&self, states: &'s [f64]) -> Result<Cow<'s, [f64]>> {
        let Some(flow) = &self.shared else { return Ok(Cow::Borrowed(states)) };
        let comm = flow.comm();
        let to_first: Vec<&[f64]> = (0..comm.size()).map(|r| if r == 0 { states } else { &[] }).collect();
        let parts = comm.all_to_all(&to_first)?;
        if !comm.is_root() {
            return Ok(Cow::Owned(Vec::new()));
        }
        let count = self.here.len();
        let sample = |i: usize| {
            parts
                .iter()
                .flat_map(move |part| part.chunks(part.len().div_ceil(count.max(1)).max(1)).nth(i).unwrap_or_default())
        };
        Ok(Cow::Owned((0..count).flat_map(sample).copied().collect()))
    }

    /// A snapshot.
    fn take(&mut self, states: &[f64], table: &[f64]) {
        let (snapshots, at) = (self.clock.snapshots, self.taken as usize);
        let (system, size, numbers) = (&self.system, self.layout.values(), self.layout.numbers);
        for (array, pictures) in self.pictures.iter_mut().enumerate() {
            let places = pictures.par_chunks_exact_mut(snapshots * size);
            places.zip(states.par_chunks_exact(numbers)).for_each(|(places, state)| {
                let values = system.values(array, state);
                places[at * size..(at + 1) * size].iter_mut().zip(values).for_each(|(to, value)| *to = value as f32);
            });
        }
        let (front, shells) = (self.layout.front.len(), self.layout.shells);
        for (i, row) in table.chunks(front + shells).enumerate() {
            let place = ((self.first as usize + i) * snapshots + at) * front;
            self.figures[place..place + front].copy_from_slice(&row[..front]);
            let sums = &mut self.shells[at * shells..(at + 1) * shells];
            sums.iter_mut().zip(&row[front..]).for_each(|(sum, energy)| *sum += energy);
        }
        self.taken += 1;
    }

    /// Points of the grid that something of this speed crosses in a step, where that matters.
    fn courant(&self, speed: f64) -> Option<f64> {
        Some(speed * self.clock.step * self.system.density()?)
    }

    fn metrics(&mut self, ctx: &Ctx, table: &[f64]) -> Vec<(&'static str, f64)> {
        let (front, width) = (self.layout.front, self.layout.figures());
        let column = |figure: usize| table.chunks(width).map(move |row| row[figure]);
        let means = (0..2).map(|figure| (front[figure].0, column(figure).sum::<f64>() / self.count as f64));
        let time = self.spec.time.as_ref().map(|_| ("time", self.clock.time(self.done)));
        let mut metrics: Vec<_> = time.into_iter().chain(means).collect();
        let Some(courant) = self.courant(column(front.len() - 1).fold(0.0, f64::max)) else { return metrics };
        if courant > FAST && self.warned == 0 {
            let advice = "expect errors in time; lower problem.time.step";
            ctx.notes.add(format!("the flow crosses {courant:.2} points of the grid in a step: {advice}"));
            self.warned = 1;
        }
        metrics.push(("courant", courant));
        metrics
    }

    /// Hands the finished batch to the disk.
    fn put_away(&mut self, ctx: &Ctx) -> Result<()> {
        let mut written = Ok(());
        if !self.shown.is_empty() {
            let first = self.first as usize;
            let rows = first + self.shown.start..first + self.shown.end;
            let shape = self.layout.shape(self.shown.len(), self.spec.time.as_ref().map(|time| time.snapshots));
            for ((name, _), pictures) in self.layout.arrays.iter().zip(&self.pictures) {
                written = written.and_then(|()| ctx.pieces.put(name, rows.clone(), &shape, pictures));
            }
        }
        ctx.comm.agree(written)?;
        self.first += self.count;
        self.count = 0;
        self.allocate(ctx);
        Ok(())
    }
}
