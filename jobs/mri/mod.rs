//! Magnetic resonance imaging from few lines of k-space. See `README.md` beside this file.
//!
//! Slices go to ranks in slabs; priors that know neighbours exchange slices.

mod input;
pub mod operator;
pub mod sampling;
pub mod spec;

use std::sync::Arc;

use convoke_cluster::results::{Axis, Meaning};
use convoke_cluster::workload::{Inputs, Resources};
use convoke_cluster::{Ctx, Fields, Plan, Progress, Region, Result, Results, Workload};
use convoke_kernels::Buffer;

use crate::inverse::diffusion::DiffusionSpec;
use crate::inverse::price::{Pass, Price};
use crate::inverse::tv::{Noise, TotalVariation, TvParams, VariationSpec};
use crate::inverse::{Operator, Solver};
use crate::prior::Learnt;
use input::Source;
use operator::Encoding;
use spec::Spec;

/// Registry name.
pub const NAME: &str = "mri";
/// The program itself with its libraries and buffers: measured, rounded up.
const PROGRAM: u64 = 96 << 20;

/// A reconstruction under way.
#[derive(Debug)]
pub struct Mri {
    source: Source,
    operator: Encoding,
    /// Aᵀ y, which is the whole of `zero-filled`.
    zero_filled: Vec<f32>,
    solver: Option<Box<dyn Solver>>,
    steps: u64,
    /// Operations of a step.
    work: f64,
    done: u64,
}

/// The solver's price, its steps, the denoiser's operations in a step, and the denoiser.
type Costs = (Price, u64, f64, Option<Arc<dyn Learnt>>);

/// What a job costs.
fn price(spec: &Spec, source: &Source, inputs: &Inputs) -> Result<Costs> {
    if let Some(params) = spec.method.variation() {
        let candidates = spec.method.variation.as_ref().map_or(1, VariationSpec::candidates);
        return Ok((params.price(), spec.method.iterations().saturating_mul(candidates), 0.0, None));
    }
    let Some(method) = spec.method.prior() else {
        let none = Pass::default();
        let price = Price { volumes: 1, measured: 2, kept_volumes: 0, kept_measured: 0, start: none, step: none };
        return Ok((price, 1, 0.0, None));
    };
    let diffusion = spec.method.diffusion();
    let denoiser = diffusion.denoiser(inputs, source.points)?;
    let flops = diffusion.denoising(method, &*denoiser, source.slices, source.points);
    Ok((diffusion.price(method), diffusion.steps(method), flops, Some(denoiser)))
}

/// Flops of a transform of all slices.
fn transform(source: &Source) -> f64 {
    let n = (source.points[0] * source.points[1]) as f64;
    5.0 * n * n.log2() * (source.slices * source.coils) as f64
}

impl Workload for Mri {
    const NAME: &'static str = NAME;
    const SUMMARY: &'static str =
        "magnetic resonance imaging from few lines of k-space: total variation, diffusion priors";
    const JOBS: &'static [(&'static str, &'static str)] = &[
        ("heads-cartesian", include_str!("heads-cartesian.toml")),
        ("heads-coils-tiny", include_str!("heads-coils-tiny.toml")),
        ("zero-filled", include_str!("zero-filled.toml")),
    ];
    type Spec = Spec;

    fn plan(spec: &Spec, inputs: &Inputs, resources: &Resources) -> Result<Plan> {
        spec.check()?;
        let source = Source::open(spec, inputs, 0)?;
        let (price, steps, flops, denoiser) = price(spec, &source, inputs)?;
        let pass = price.of(steps);
        let ranks = resources.ranks as u64;
        let others = ranks - 1;
        let mine = (source.slices as u64).div_ceil(ranks);
        let (slice, values) = (4 * (source.points[0] * source.points[1]) as u64, 4 * source.slice_len() as u64);
        let mut plan = Plan {
            steps,
            work: steps as f64 * flops + pass.projections().max(1) as f64 * transform(&source),
            work_unit: "flop",
            bytes_sent_per_rank: if others == 0 {
                0
            } else {
                (pass.dots + pass.measured_dots) * 8 * mine * others + pass.halos * slice + steps * 128 * ranks
            },
            checkpoint_bytes: price.kept_volumes * slice * source.slices as u64 + (1 << 16),
            result_bytes: 4 * slice * source.slices as u64 + (1 << 20),
            ..Plan::default()
        };
        plan.holds("program and libraries", PROGRAM);
        plan.holds(
            format!("k-space of {mine} slices"),
            mine * (price.measured * values + 2 * slice * source.coils as u64),
        );
        plan.holds(format!("images of {mine} slices"), (price.volumes + 2) * mine * slice);
        if source.has_maps {
            plan.holds("coil maps", mine * 2 * slice * source.coils as u64);
        }
        if let Some(denoiser) = denoiser {
            let bytes = denoiser.memory(resources.threads, source.points);
            plan.holds("denoiser and values inside of it", bytes);
            plan.notes.push(DiffusionSpec::denoised_by(&*denoiser));
        }
        let (lines, ny) = (source.lines.len(), source.points[0]);
        plan.notes.push(format!("{lines} of {ny} lines are measured: acceleration {:.2}", ny as f64 / lines as f64));
        Ok(plan)
    }

    fn new(spec: &Spec, ctx: &Ctx) -> Result<Self> {
        spec.check()?;
        let source = Source::open(spec, &ctx.inputs, ctx.seed)?;
        let (price, steps, flops, denoiser) = price(spec, &source, &ctx.inputs)?;
        let here = ctx.comm.block(source.slices);
        let read = source.measured(here.clone()).and_then(|data| Ok((data, source.maps(here.clone())?)));
        let (data, maps) = ctx.comm.agree(read)?;
        let lines = source.lines.clone();
        let mut operator = Encoding::new((&ctx.comm, &ctx.device), (here, source.slices), source.points, lines, maps);
        let mut image = Buffer::zeros(&ctx.device, operator.place().len())?;
        operator.back(&mut Buffer::from_vec(&ctx.device, data.clone())?, &mut image)?;
        let solver: Option<Box<dyn Solver>> = match (spec.method.prior().zip(denoiser), spec.method.variation()) {
            (Some((method, denoiser)), _) => {
                let diffusion = spec.method.diffusion();
                let known = (diffusion.scale, source.noise);
                let mut solver = diffusion.solver(method, denoiser, &operator, data, known, ctx.seed)?;
                solver.check(&mut operator)?;
                Some(Box::new(solver))
            }
            (None, Some(params)) => {
                let count = (source.slices * source.slice_len()) as f64;
                let noise = Some(Noise::Norm2(source.noise * source.noise * count)).filter(|_| source.noise > 0.0);
                let (data, params) = (Buffer::from_vec(&ctx.device, data)?, TvParams { noise, ..params });
                Some(Box::new(TotalVariation::new(&operator, data, params)?))
            }
            (None, None) => None,
        };
        let work = flops + price.step.projections().max(1) as f64 * transform(&source);
        let zero_filled = image.into_vec();
        Ok(Self { source, operator, zero_filled, solver, steps, work, done: 0 })
    }

    fn step(&mut self, _: &Ctx) -> Result<Progress> {
        let report = match &mut self.solver {
            Some(solver) => solver.step(&mut self.operator, self.done)?,
            None => crate::inverse::Report { done: true, metrics: Vec::new() },
        };
        self.done += 1;
        Ok(Progress {
            done: report.done || self.done >= self.steps,
            fraction: self.done as f64 / self.steps as f64,
            work: self.work,
            metrics: report.metrics,
        })
    }

    fn fields<'a>(&'a mut self, fields: &mut Fields<'a>) {
        fields.counter("done", &mut self.done);
        if let Some(solver) = &mut self.solver {
            solver.fields(&self.operator, fields);
        }
    }

    fn restored(&mut self, _: &Ctx) -> Result<()> {
        match &mut self.solver {
            Some(solver) => solver.restored(&mut self.operator),
            None => Ok(()),
        }
    }

    fn finish(&mut self, _: &Ctx, out: &mut Results) -> Result<()> {
        let [ny, nx] = self.source.points;
        let shape = [self.source.slices, ny, nx];
        let region = Region::rows(&shape, self.operator.place().slices.clone());
        let meaning = |long_name: &str| Meaning { long_name: long_name.to_owned(), ..meaning(shape) };
        let image = match &mut self.solver {
            Some(solver) => solver.image().host().to_vec(),
            None => self.zero_filled.clone(),
        };
        out.array("volume", &shape, (region.clone(), true), &image, &meaning("image"))?;
        let more = self.solver.as_mut().map(|solver| solver.more()).unwrap_or_default();
        for (name, what, values) in more {
            out.array(name, &shape, (region.clone(), true), &values, &meaning(what))?;
        }
        out.image("volume", shape, &meaning("image"))?;
        if let Some(solver) = &mut self.solver {
            solver.finish(&mut self.operator, out)?;
        }
        let lines: Vec<f64> = self.source.lines.iter().map(|k| *k as f64).collect();
        out.series("lines", &lines, "1", "numbers of the measured lines")?;
        out.figure("acceleration", ny as f64 / lines.len() as f64)?;
        if let Some(truth) = self.source.truth(self.operator.place().slices.clone()) {
            for (name, image) in [("psnr_db", &image), ("psnr_zero_filled_db", &self.zero_filled)] {
                let off: Vec<f32> = image.iter().zip(&truth).map(|(a, b)| a - b).collect();
                let mean = self.operator.place().dot(&off, &off)? / (self.source.slices * ny * nx) as f64;
                out.figure(name, -10.0 * mean.max(1e-30).log10())?;
            }
        }
        Ok(())
    }
}

fn meaning(shape: [usize; 3]) -> Meaning {
    let axis = |name: &str, n: usize| Axis {
        name: name.to_owned(),
        unit: "pixel".to_owned(),
        origin: -(n as f64 - 1.0) / 2.0,
        spacing: 1.0,
    };
    let axes = vec![axis("z", shape[0]), axis("y", shape[1]), axis("x", shape[2])];
    Meaning { long_name: String::new(), unit: "1".to_owned(), axes }
}
