//! Beams from a point: cone-beam circles, helices, laminography, any vectors.
//!
//! The volume is cut into slabs of slices; a rank holds one, and of the projections the rows that the slab touches. With
//! more ranks than slabs of sixteen slices, the ranks of a slab share its views and add up what they back-project.

mod bands;
mod direct;
mod input;
mod iterate;
mod operator;
mod plan;
mod setup;
pub mod spec;

use std::ops::Range;

use convoke_cluster::results::{Axis, Meaning};
use convoke_cluster::shard::RankGrid;
use convoke_cluster::workload::{Inputs, Resources};
use convoke_cluster::{Comm, Ctx, Fields, Plan, Progress, Region, Result, Results, block};
use convoke_kernels::cone::weights::Coverage;
use convoke_kernels::{Buffer, ConeFootprint, ConeGeometry, ConePart};

use super::angles;
use super::normalise::NormaliseReport;
use super::regularised::{Measured, Prior, Regularised, settled};
use super::spec::{MethodSpec, ProjectorKind, Spec};
use bands::Bands;
use direct::{Direct, reads_by_step};
use input::Input;
use iterate::Iteration;
use operator::{ConeRays, Projection, Ranks};

use crate::inverse::store::Store;

/// A reconstruction under way.
#[derive(Debug)]
pub(super) struct Cone {
    spec: Spec,
    input: Input,
    place: Place,
    /// Iterations done.
    step: u64,
    work: Work,
    repairs: NormaliseReport,
}

/// What of the volume and of the views is here.
#[derive(Debug)]
struct Place {
    grid: RankGrid,
    slab: usize,
    /// The ranks of this slab.
    group: Comm,
    /// Global slices of this slab of the volume.
    slices: Range<usize>,
    views: Range<usize>,
}

#[derive(Debug)]
enum Work {
    Direct(Box<Direct>),
    Iterative(Box<Iteration>),
    Regularised(Box<Regularised>),
}

/// The ranks' places: as many slabs as there are blocks of sixteen slices, the vectors' length.
fn rank_grid(ranks: usize, slices: usize) -> RankGrid {
    RankGrid::fit(ranks, slices.div_ceil(16))
}

fn footprint(method: &MethodSpec) -> ConeFootprint {
    match method.projector {
        _ if method.algorithm.is_direct() => ConeFootprint::Linear,
        Some(ProjectorKind::Joseph) => ConeFootprint::Joseph,
        Some(ProjectorKind::Linear) | None => ConeFootprint::Shadow,
    }
}

impl Cone {
    pub fn plan(spec: &Spec, inputs: &Inputs, resources: &Resources) -> Result<Plan> {
        let input = Input::open(spec, inputs, 0)?;
        let (spec, note) = &settled(spec, &input.angles_rad());
        let mut plan = plan::plan(spec, &input, resources)?;
        plan.notes.extend(note.clone());
        let [slices, size, _] = input.geometry.shape;
        if let Some(prior) = Prior::open(&spec.method, (inputs, &[]), (slices, size), (1.0, 0))? {
            prior.bill(&mut plan, resources.threads);
        }
        Ok(plan)
    }

    pub fn new(spec: &Spec, ctx: &Ctx) -> Result<Self> {
        let input = Input::open(spec, &ctx.inputs, ctx.seed)?;
        let (spec, _) = &settled(spec, &input.angles_rad());
        let g = input.geometry.clone();
        let prior = Prior::open(&spec.method, (&ctx.inputs, &[]), (g.shape[0], g.shape[1]), (1.0, ctx.seed))?;
        let grid = rank_grid(ctx.comm.size(), g.shape[0]);
        let (slab, place) = grid.place(ctx.comm.rank());
        let (group, column) = (ctx.comm.split(slab, place)?, ctx.comm.split(place, slab)?);
        let slices = block(g.shape[0], slab, grid.slabs);
        let views = block(g.views.len(), place, grid.groups);
        let place = Place { grid, slab, group, slices: slices.clone(), views: views.clone() };
        if spec.method.algorithm.is_direct() {
            let (direct, repairs) = Direct::new(spec, ctx, &input, &place)?;
            return Ok(Self {
                spec: spec.clone(),
                input,
                place,
                step: 0,
                work: Work::Direct(Box::new(direct)),
                repairs,
            });
        }
        let bands = Bands::new(&g, grid.slabs, footprint(&spec.method));
        let rows = bands.of(slab);
        let mine: Vec<usize> = views.clone().collect();
        // Ranks may see different amounts of free memory: one that has too little decides for all.
        let in_files = ctx.comm.all_max(u64::from(plan::is_in_files(spec, &input, &ctx.resources)?))? > 0;
        let store = Store::new(&ctx.device, in_files.then(|| ctx.overflow.clone()));
        let subsets = subsets(&spec.method, &mine);
        // All data are read and checked before anything is computed or written.
        let (data, repairs) = ctx.comm.agree(read(&input, &store, (rows.clone(), &mine), &subsets))?;
        let (comm, group, device) = (ctx.comm.clone(), place.group.clone(), ctx.device.clone());
        let ranks = Ranks { all: comm, group, column, bands, device, store };
        let whole = ConePart { slices: slices.clone(), rows, views: mine };
        let mask = spec.method.mask_radius.map(|radius| disc(&g, radius));
        let projection = |(chosen, data): (&Vec<usize>, Buffer<f32>)| {
            let part = ConePart { views: chosen.iter().map(|i| whole.views[*i]).collect(), ..whole.clone() };
            Ok((Projection::new(&ranks, &g, &part, footprint(&spec.method))?, data))
        };
        let parts: Result<Vec<_>> = subsets.iter().zip(data).map(projection).collect();
        let mut parts = ctx.comm.agree(parts)?;
        let work = if spec.method.algorithm.is_whole() {
            let (projection, data) = parts.swap_remove(0);
            let operator = ConeRays::new(ranks, projection, (g.shape, slices), (views, g.views.len()));
            let count = (g.n_rows * g.views.len() * g.n_cols) as f64;
            let measured = Measured { data, count, noise: input.noise(), prior };
            let work = Regularised::new(Box::new(operator), measured, &spec.method, (mask, g.views.len()));
            let mut work = ctx.comm.agree(work)?;
            work.check()?;
            Work::Regularised(Box::new(work))
        } else {
            let order = angles::subset_order(parts.len());
            Work::Iterative(Box::new(Iteration::new(ranks, parts, order, &spec.method, mask)?))
        };
        Ok(Self { spec: spec.clone(), input, place, step: 0, work, repairs })
    }

    pub fn step(&mut self, ctx: &Ctx) -> Result<Progress> {
        let g = self.input.geometry.clone();
        let updates = plan::updates(&g);
        let total = self.spec.method.n_steps();
        let mut done = self.step + 1 >= total;
        let (work, metrics) = match &mut self.work {
            Work::Direct(direct) => {
                return direct.step(&self.spec, ctx, &self.input, &self.place);
            }
            Work::Iterative(iteration) => {
                let residual = iteration.step(self.step)?;
                done |= residual.reached;
                (2.0 * updates, vec![("residual", residual.relative)])
            }
            Work::Regularised(work) => {
                let report = work.step(self.step)?;
                done |= report.done;
                (work.projections(self.step, updates) * updates, report.metrics)
            }
        };
        self.step += 1;
        Ok(Progress { done, fraction: if done { 1.0 } else { self.step as f64 / total as f64 }, work, metrics })
    }

    pub fn fields<'a>(&'a mut self, fields: &mut Fields<'a>) {
        let (g, place) = (&self.input.geometry, &self.place);
        match &mut self.work {
            Work::Direct(direct) => direct.fields(fields, g, place.group.is_root()),
            Work::Iterative(iteration) => {
                fields.counter("step", &mut self.step);
                iteration.fields(fields, g.shape, place.slices.clone(), (place.views.clone(), g.views.len()));
            }
            Work::Regularised(work) => {
                fields.counter("step", &mut self.step);
                work.fields(fields);
            }
        }
    }

    pub fn reshape(&mut self, ctx: &Ctx) -> Result<()> {
        match &mut self.work {
            Work::Direct(direct) => direct.reshape(ctx, &self.input, &self.place),
            Work::Iterative(_) | Work::Regularised(_) => Ok(()),
        }
    }

    pub fn restored(&mut self) -> Result<()> {
        match &mut self.work {
            Work::Direct(_) => Ok(()),
            Work::Iterative(iteration) => iteration.restored(),
            Work::Regularised(work) => work.restored(),
        }
    }

    pub fn finish(&mut self, ctx: &Ctx, out: &mut Results) -> Result<()> {
        let g = self.input.geometry.clone();
        let leader = self.place.group.is_root();
        let here = self.place.slices.clone();
        // Of windows that were written when they were done nothing is here.
        let image: Option<&[f32]> = match &mut self.work {
            Work::Direct(direct) => direct.volume(),
            Work::Iterative(iteration) => Some(iteration.image.host()),
            Work::Regularised(work) => Some(work.image()),
        };
        let meaning = meaning(&g);
        match image {
            Some(image) => {
                out.array("volume", &g.shape, (Region::rows(&g.shape, here.clone()), leader), image, &meaning)?;
            }
            None => out.from_pieces("volume", &g.shape, &ctx.pieces, &meaning)?,
        }
        let errors = image.and_then(|image| errors(&self.spec, &self.input, here.clone(), image));
        out.image("volume", g.shape, &meaning)?;
        if let Work::Regularised(work) = &mut self.work {
            let part = (Region::rows(&g.shape, here), leader);
            for (name, what, values) in work.more() {
                let meaning = Meaning { long_name: what.to_owned(), ..meaning.clone() };
                out.array(name, &g.shape, part.clone(), &values, &meaning)?;
            }
            work.finish(out)?;
        }
        let mut counts = [self.repairs.dead_pixels, self.repairs.hot_values, self.repairs.clipped_values];
        if self.input.is_scan() {
            // Rows in two bands count twice; where nothing is wrong that is 0.
            ctx.comm.all_sum(&mut counts)?;
            for (name, n) in ["dead_pixels", "hot_values", "clipped_values"].into_iter().zip(counts) {
                out.figure(name, n as f64)?;
            }
        }
        if let Some(errors) = errors {
            let total = |k: usize| {
                let mine: Vec<f64> = if leader { errors.iter().map(|e| e[k]).collect() } else { Vec::new() };
                ctx.comm.sum_blocks(&mine)
            };
            let (error2, truth2, count) = (total(0)?, total(1)?, total(2)?);
            out.figure("psnr_db", 10.0 * (count / error2).log10())?;
            out.figure("relative_error", (error2 / truth2).sqrt())?;
        }
        Ok(())
    }
}

/// The subsets of the views that are here, as places among them: by global number, so that they do not depend on who holds which views.
fn subsets(method: &MethodSpec, mine: &[usize]) -> Vec<Vec<usize>> {
    let n = method.n_subsets();
    (0..n).map(|k| (0..mine.len()).filter(|i| mine[*i] % n == k).collect()).collect()
}

/// Reads rows of views, for each of their subsets `[rows, views, n_cols]`: some rows at a time where vectors lie in files.
fn read(
    input: &Input,
    store: &Store,
    (rows, mine): (Range<usize>, &[usize]),
    subsets: &[Vec<usize>],
) -> Result<(Vec<Buffer<f32>>, NormaliseReport)> {
    let n_cols = input.geometry.n_cols;
    if !store.is_in_files() && subsets.len() == 1 {
        let (data, repairs) = input.projections(rows, mine)?;
        return Ok((vec![Buffer::from_vec(store.device(), data)?], repairs));
    }
    let zeros = |views: &Vec<usize>| store.zeros(rows.len() * views.len() * n_cols);
    let mut parts = subsets.iter().map(zeros).collect::<Result<Vec<_>>>()?;
    let mut repairs = NormaliseReport::default();
    let some = if store.is_in_files() { plan::rows_read(input, mine.len() * n_cols) } else { rows.len().max(1) };
    for first in rows.clone().step_by(some) {
        let (data, report) = input.projections(first..rows.end.min(first + some), mine)?;
        repairs.add(&report);
        for (views, part) in subsets.iter().zip(&mut parts).filter(|(views, _)| !views.is_empty()) {
            let row_len = views.len() * n_cols;
            let part = part.host_mut()[(first - rows.start) * row_len..].chunks_mut(row_len);
            for (part, row) in part.zip(data.chunks(mine.len() * n_cols)) {
                for (line, view) in part.chunks_mut(n_cols).zip(views) {
                    line.copy_from_slice(&row[view * n_cols..][..n_cols]);
                }
            }
        }
    }
    Ok((parts, repairs))
}

/// 1 inside `radius` times the inscribed circle, else 0: one slice.
fn disc(g: &ConeGeometry, radius: f64) -> Vec<f32> {
    let [_, ny, nx] = g.shape;
    let limit = radius * ny.min(nx) as f64 / 2.0;
    let centred = |i: usize, n: usize| i as f64 - (n as f64 - 1.0) / 2.0;
    (0..ny * nx).map(|i| f32::from(u8::from(centred(i / nx, ny).hypot(centred(i % nx, nx)) <= limit))).collect()
}

fn meaning(g: &ConeGeometry) -> Meaning {
    let axis = |name: &str, n: usize, centre: f64| Axis {
        name: name.to_owned(),
        unit: "mm".to_owned(),
        origin: centre - (n as f64 - 1.0) / 2.0 * g.voxel,
        spacing: g.voxel,
    };
    let ([nz, ny, nx], [x, y, z]) = (g.shape, g.centre);
    Meaning {
        long_name: "attenuation".to_owned(),
        unit: "1/mm".to_owned(),
        axes: vec![axis("z", nz, z), axis("y", ny, y), axis("x", nx, x)],
    }
}

/// For every slice, sums over the inscribed disc: squared error, squared truth, voxels. Only where the object is known.
fn errors(spec: &Spec, input: &Input, slices: Range<usize>, image: &[f32]) -> Option<Vec<[f64; 3]>> {
    let g = &input.geometry;
    let mut errors = Vec::new();
    let inside = disc(g, 1.0);
    for (slice, image) in slices.zip(image.chunks(g.slice_len())) {
        let truth = input.truth(spec, slice..slice + 1)?;
        let mut sums = [0.0; 3];
        for ((a, b), _) in image.iter().zip(&truth).zip(&inside).filter(|(_, m)| **m == 1.0) {
            sums[0] += f64::from(a - b).powi(2);
            sums[1] += f64::from(*b).powi(2);
            sums[2] += 1.0;
        }
        errors.push(sums);
    }
    // A rank without slices has to know it too.
    input.truth(spec, 0..0).map(|_| errors)
}

/// What a user should know of how FDK weighs the views.
fn coverage_note(coverage: Coverage) -> Option<String> {
    match coverage {
        Coverage::Full => None,
        Coverage::Short { range, .. } => {
            Some(format!("a short scan of {:.1} degrees: Parker's weights", range.to_degrees()))
        }
        Coverage::Displaced { overlap, .. } => {
            Some(format!("a displaced detector: {overlap:.3} mm to each side of the axis are seen twice in a turn"))
        }
    }
}

#[cfg(test)]
mod tests;
