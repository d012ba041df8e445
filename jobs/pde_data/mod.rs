//! Solutions of partial differential equations, many at once: data for surrogates, and flows to look at.
//!
//! Samples are functions of (seed, sample); ranks share those of a batch without talking. Finished batches wait on the disk, so
//! that memory does not depend on the number of samples. See `README.md` beside this file.

mod initial;
mod output;
mod plan;
pub mod spec;
#[cfg(test)]
mod tests;

use std::ops::Range;

use convoke_cluster::workload::{Inputs, Resources};
use convoke_cluster::{Ctx, Error, Fields, Plan, Progress, Region, Result, Results, Workload, block};
use num_complex::Complex64;
use rayon::prelude::*;

use crate::flow::{Flow, Modes, modes, navier_stokes, transform};
use initial::{Initial, Sampler};
use spec::{Spec, Ticks};

/// Registry name.
pub const NAME: &str = "pde-data";
/// Energy, enstrophy and largest speed come before the energies of the shells.
const FRONT: usize = 3;
/// Points per step that a flow may cross before somebody should hear of it.
const FAST: f64 = 1.0;

/// Samples under way.
#[derive(Debug)]
pub struct PdeData {
    spec: Spec,
    ticks: Ticks,
    flow: Flow,
    initial: Initial,
    sampler: Sampler,
    /// One sample at a time, by all threads.
    wide: bool,
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
    /// Their vorticity, `[sample][mode]`.
    w: Vec<Complex64>,
    /// Their snapshots, `[sample][snapshot][x][y]`.
    pictures: Vec<f32>,
    /// Energy, enstrophy and largest speed, `[sample][snapshot][3]`, on all ranks.
    figures: Vec<f64>,
    /// Energies of the shells, `[snapshot][shell]`, summed over the samples so far, on all ranks.
    shells: Vec<f64>,
    /// Whether it was said that the flow is fast.
    warned: u64,
}

/// A sample that left the numbers.
#[derive(Debug, thiserror::Error)]
#[error(
    "sample {sample} is no longer finite at t = {time:.6}\n  help: lower problem.time.step (the flow crossed {courant:.2} points in a \
     step), or raise problem.grid.points or problem.flow.viscosity"
)]
struct Unstable {
    sample: u64,
    time: f64,
    courant: f64,
}

impl Workload for PdeData {
    const NAME: &'static str = NAME;
    const SUMMARY: &'static str = "samples of PDE solutions by pseudo-spectral methods: 2-D Navier-Stokes";
    const JOBS: &'static [(&'static str, &'static str)] = &[
        ("mcwilliams", include_str!("mcwilliams.toml")),
        ("kolmogorov", include_str!("kolmogorov.toml")),
        ("fno-flow", include_str!("fno-flow.toml")),
        ("taylor-green", include_str!("taylor-green.toml")),
    ];
    type Spec = Spec;

    fn plan(spec: &Spec, _inputs: &Inputs, resources: &Resources) -> Result<Plan> {
        spec.check()?;
        let texts = [("flow.forcing", &spec.flow.forcing), ("initial.vorticity", &spec.initial.vorticity)];
        for (key, text) in texts.into_iter().filter_map(|(key, text)| Some((key, text.as_ref()?))) {
            initial::check(&format!("problem.{key}"), text)?;
        }
        Ok(plan::plan(spec, resources)?)
    }

    fn new(spec: &Spec, ctx: &Ctx) -> Result<Self> {
        let modes = spec.modes()?;
        let threads = ctx.resources.threads;
        let mine = plan::batch(spec).div_ceil(ctx.comm.size());
        let wide = threads > mine;
        let forcing = spec.flow.forcing.as_deref();
        let forcing = forcing.map(|text| initial::coefficients("problem.flow.forcing", text, &modes)).transpose()?;
        let constants = (spec.flow.viscosity, spec.flow.drag);
        let (initial, sampler) = (Initial::new(&spec.initial, &modes)?, Sampler::new(&modes, spec.points()));
        let scheme = (spec.time.scheme, spec.time.step);
        let snapshots = spec.time.snapshots;
        Ok(Self {
            spec: spec.clone(),
            ticks: spec.ticks()?,
            initial,
            sampler,
            wide,
            first: 0,
            count: 0,
            done: 0,
            taken: 0,
            here: 0..0,
            w: Vec::new(),
            pictures: Vec::new(),
            figures: vec![0.0; spec.samples * snapshots * FRONT],
            shells: vec![0.0; snapshots * (modes.m + 1)],
            warned: 0,
            flow: Flow::new(modes, constants, forcing.unwrap_or_default(), scheme, wide),
        })
    }

    fn step(&mut self, ctx: &Ctx) -> Result<Progress> {
        let mut table = Vec::new();
        if self.count == 0 {
            self.begin(ctx);
            table = self.look(ctx)?;
        }
        let before = self.done;
        if self.taken < self.spec.time.snapshots as u64 {
            self.advance();
            table = self.look(ctx)?;
        }
        let steps = self.done - before;
        let metrics = self.metrics(ctx, &table);
        let work = (steps * self.count) as f64 * Flow::flops(&self.flow.modes, self.spec.time.scheme);
        let whole = self.ticks.start + self.ticks.every * (self.spec.time.snapshots as u64 - 1);
        let part = if whole == 0 { 1.0 } else { self.done as f64 / whole as f64 };
        let fraction = (self.first as f64 + self.count as f64 * part) / self.spec.samples as f64;
        if self.taken == self.spec.time.snapshots as u64 {
            self.put_away(ctx)?;
        }
        Ok(Progress { done: self.first == self.spec.samples as u64, fraction: fraction.min(1.0), work, metrics })
    }

    fn fields<'a>(&'a mut self, fields: &mut Fields<'a>) {
        let (snapshots, points, count) = (self.spec.time.snapshots, self.spec.points(), self.count as usize);
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
            let shape = [count, 2 * self.flow.modes.len()];
            let region = Region::rows(&shape, self.here.clone());
            fields.array("vorticity", &shape, region, bytemuck::cast_slice_mut::<_, f64>(&mut self.w));
            let shape = [count, snapshots, points, points];
            fields.array("snapshots", &shape, Region::rows(&shape, self.here.clone()), &mut self.pictures[..]);
        }
        let shape = [self.spec.samples, snapshots, FRONT];
        fields.array("figures", &shape, Region::whole(&shape), &mut self.figures[..]);
        let shape = [snapshots, self.flow.modes.m + 1];
        fields.array("shells", &shape, Region::whole(&shape), &mut self.shells[..]);
    }

    fn reshape(&mut self, ctx: &Ctx) -> Result<()> {
        self.allocate(ctx);
        Ok(())
    }

    fn finish(&mut self, ctx: &Ctx, out: &mut Results) -> Result<()> {
        self.write(ctx, out)
    }
}

impl PdeData {
    /// Memory for this rank's share of the batch.
    fn allocate(&mut self, ctx: &Ctx) {
        self.here = block(self.count as usize, ctx.comm.rank(), ctx.comm.size());
        let points = self.spec.points();
        self.w = vec![Complex64::ZERO; self.here.len() * self.flow.modes.len()];
        self.pictures = vec![0.0; self.here.len() * self.spec.time.snapshots * points * points];
    }

    /// The next batch at time 0.
    fn begin(&mut self, ctx: &Ctx) {
        self.count = (plan::batch(&self.spec) as u64).min(self.spec.samples as u64 - self.first);
        (self.done, self.taken) = (0, 0);
        self.allocate(ctx);
        let start = self.first + self.here.start as u64;
        let (initial, modes, seed) = (&self.initial, &self.flow.modes, ctx.seed);
        self.w.par_chunks_exact_mut(modes.len()).enumerate().for_each(|(i, w)| {
            w.copy_from_slice(&initial.sample(modes, seed, start + i as u64));
        });
    }

    /// Up to the next snapshot, or as far as the time between two of them.
    fn advance(&mut self) {
        let Ticks { start, every } = self.ticks;
        let steps = if self.done < start { every.min(start - self.done) } else { every };
        let flow = &self.flow;
        let len = flow.modes.len();
        if self.wide {
            let mut mover = flow.mover();
            self.w.chunks_exact_mut(len).for_each(|w| flow.advance(w, steps, &mut mover));
        } else {
            let samples = self.w.par_chunks_exact_mut(len).with_max_len(1);
            samples.for_each_init(|| flow.mover(), |mover, w| flow.advance(w, steps, mover));
        }
        self.done += steps;
    }

    /// Figures of all samples of the batch, in order; where a snapshot is due, it is taken. Collective.
    fn look(&mut self, ctx: &Ctx) -> Result<Vec<f64>> {
        let flow = &self.flow;
        let of = |w: &[Complex64], mover: &mut navier_stokes::Mover| -> Vec<f64> {
            let modes = &flow.modes;
            let front = [modes.energy(w), modes.enstrophy(w), flow.speed(w, mover)];
            front.into_iter().chain(modes.energy_spectrum(w)).collect()
        };
        let samples = self.w.par_chunks_exact(flow.modes.len());
        let mine: Vec<Vec<f64>> = samples.map_init(|| flow.mover(), |mover, w| of(w, mover)).collect();
        let table = ctx.comm.all_gather(&mine.concat())?.concat();
        let width = plan::figures(flow.modes.m);
        if let Some(bad) = table.chunks(width).position(|row| !row[..FRONT].iter().all(|v| v.is_finite())) {
            let row = &table[bad * width..(bad + 1) * width];
            let (sample, time) = (self.first + bad as u64, self.done as f64 * self.spec.time.step);
            let unstable = Unstable { sample, time, courant: self.courant(row[2]) };
            return ctx.comm.agree(Err(Error::workload(NAME, unstable)));
        }
        let Ticks { start, every } = self.ticks;
        if self.done >= start && (self.done - start).is_multiple_of(every) {
            self.take(&table);
        }
        Ok(table)
    }

    /// A snapshot.
    fn take(&mut self, table: &[f64]) {
        let (snapshots, at) = (self.spec.time.snapshots, self.taken as usize);
        let (modes, sampler) = (&self.flow.modes, &self.sampler);
        let size = self.spec.points().pow(2);
        let places = self.pictures.par_chunks_exact_mut(snapshots * size);
        places.zip(self.w.par_chunks_exact(modes.len())).for_each(|(places, w)| {
            let values = sampler.values(modes, w);
            places[at * size..(at + 1) * size].iter_mut().zip(values).for_each(|(to, value)| *to = value as f32);
        });
        let shells = modes.m + 1;
        for (i, row) in table.chunks(FRONT + shells).enumerate() {
            let place = ((self.first as usize + i) * snapshots + at) * FRONT;
            self.figures[place..place + FRONT].copy_from_slice(&row[..FRONT]);
            let sums = &mut self.shells[at * shells..(at + 1) * shells];
            sums.iter_mut().zip(&row[FRONT..]).for_each(|(sum, energy)| *sum += energy);
        }
        self.taken += 1;
    }

    /// Points of the grid that a flow of this speed crosses in a step.
    fn courant(&self, speed: f64) -> f64 {
        speed * self.spec.time.step * self.flow.modes.n as f64 / self.flow.modes.length
    }

    fn metrics(&mut self, ctx: &Ctx, table: &[f64]) -> Vec<(&'static str, f64)> {
        let width = plan::figures(self.flow.modes.m);
        let mean = |figure: usize| table.chunks(width).map(|row| row[figure]).sum::<f64>() / self.count as f64;
        let fastest = table.chunks(width).map(|row| row[2]).fold(0.0, f64::max);
        let courant = self.courant(fastest);
        if courant > FAST && self.warned == 0 {
            let advice = "expect errors in time; lower problem.time.step";
            ctx.notes.add(format!("the flow crosses {courant:.2} points of the grid in a step: {advice}"));
            self.warned = 1;
        }
        let time = self.done as f64 * self.spec.time.step;
        vec![("time", time), ("energy", mean(0)), ("enstrophy", mean(1)), ("courant", courant)]
    }

    /// Hands the finished batch to the disk.
    fn put_away(&mut self, ctx: &Ctx) -> Result<()> {
        let (snapshots, points) = (self.spec.time.snapshots, self.spec.points());
        let written = if self.here.is_empty() {
            Ok(())
        } else {
            let first = self.first as usize;
            let rows = first + self.here.start..first + self.here.end;
            ctx.pieces.put("vorticity", rows, &[self.here.len(), snapshots, points, points], &self.pictures)
        };
        ctx.comm.agree(written)?;
        self.first += self.count;
        self.count = 0;
        self.allocate(ctx);
        Ok(())
    }

    /// The kept modes.
    fn modes(&self) -> &Modes {
        &self.flow.modes
    }
}
