//! Denoisers of images, trained on objects that are made up as it goes: what a reconstruction knows of slices before it sees data.
//!
//! Ranks share the images of a batch and add their gradients. See `README.md` beside this file.

pub mod phantoms;
pub mod spec;
mod training;

use convoke_cluster::workload::{Inputs, Resources};
use convoke_cluster::{Ctx, Fields, Plan, Progress, Result, Results, Workload};

use crate::learning::{Learn, Precision};
use crate::prior::unet::Unet;
use spec::Spec;
use training::{MEASURED, SHOWN, SIGMAS, TEST, Training};

/// Registry name.
pub const NAME: &str = "denoiser";
/// The program itself with its libraries and buffers: measured, rounded up.
const PROGRAM: u64 = 96 << 20;

/// A job.
#[derive(Debug)]
pub struct Denoiser(Box<dyn Learn>);

impl Workload for Denoiser {
    const NAME: &'static str = NAME;
    const SUMMARY: &'static str = "denoisers of images as priors of reconstructions, trained on random objects";
    const JOBS: &'static [(&'static str, &'static str)] =
        &[("heads-tiny", include_str!("heads-tiny.toml")), ("heads", include_str!("heads.toml"))];
    type Spec = Spec;

    fn plan(spec: &Spec, _inputs: &Inputs, resources: &Resources) -> Result<Plan> {
        spec.check()?;
        let net = Unet::new(&spec.network);
        let bytes = if spec.training.precision == Precision::Single { 4 } else { 8 };
        let (parameters, ranks) = (bytes * net.parts.count() as u64, resources.ranks as u64);
        let (training, points) = (&spec.training, (spec.points * spec.points) as u64);
        let mine = (training.batch as u64).div_ceil(ranks);
        let flops = net.flops([spec.points; 2]);
        let looks = training.steps.div_ceil(training.test_every) + 1;
        // A level's values: each block keeps five of its width, and as many slopes come by on the way back.
        let kept: u64 = spec
            .network
            .channels
            .iter()
            .enumerate()
            .map(|(level, c)| (points >> (2 * level + 2)) * *c as u64 * (16 * spec.network.blocks as u64 + 8))
            .sum();
        let mut plan = Plan {
            steps: training.steps,
            work: training.steps as f64 * training.batch as f64 * 3.0 * flops,
            work_unit: "flop",
            bytes_sent_per_rank: if ranks == 1 {
                1 << 16
            } else {
                training.steps * 2 * parameters + (training.steps + looks) * 4096 * ranks + (1 << 20) * ranks
            },
            checkpoint_bytes: 4 * parameters + (1 << 16),
            result_bytes: 2 * parameters + 16 * SHOWN as u64 * SIGMAS.len() as u64 * 3 * points + (1 << 21),
            ..Plan::default()
        };
        plan.holds("program and libraries", PROGRAM);
        plan.holds("parameters, moments, average and gradients", (7 + mine) * parameters);
        plan.holds(format!("values inside of {mine} images"), 2 * bytes * (mine + TEST as u64) * kept);
        plan.holds("images to measure and to test", 2 * bytes * points * (MEASURED + 8 * TEST) as u64);
        plan.notes.push(format!("{} parameters", net.parts.count()));
        Ok(plan)
    }

    fn new(spec: &Spec, ctx: &Ctx) -> Result<Self> {
        spec.check()?;
        Ok(Self(match spec.training.precision {
            Precision::Single => Box::new(Training::<f32>::new(spec, ctx)),
            Precision::Double => Box::new(Training::<f64>::new(spec, ctx)),
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
