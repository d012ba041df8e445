//! Designs for weighted least squares: determinantal point processes, volume-rescaled sampling, greedy selection.
//!
//! Tasks `design` and `experiment` draw (`draws`), `fit` fits (`campaign`). See `README.md` beside this file.

pub mod batch;
mod bss;
pub mod campaign;
pub mod design;
mod draws;
pub mod error;
pub mod experiment;
mod extremes;
pub mod fit;
mod greedy;
mod output;
mod plan;
pub mod pool;
mod qr;
pub mod sampler;
pub mod source;
pub mod space;
pub mod spec;
pub mod stream;
pub mod target;
pub mod team;
pub mod tsqr;

use convoke_cluster::workload::{Inputs, Resources};
use convoke_cluster::{Ctx, Fields, Plan, Progress, Result, Results, Workload};

use campaign::regression::Regression;
use draws::Draws;
use spec::{Spec, Task};

/// Registry name.
pub const NAME: &str = "dpp";

/// What a job does.
#[derive(Debug)]
pub enum Dpp {
    /// Designs and experiments.
    Draw(Box<Draws>),
    /// A fit to values.
    Fit(Box<Regression>),
}

impl Workload for Dpp {
    const NAME: &'static str = NAME;
    const SUMMARY: &'static str = "designs for weighted least squares (determinantal point processes, volume sampling, greedy), and fits to values";
    const JOBS: &'static [(&'static str, &'static str)] = &[
        ("design-td10", include_str!("design-td10.toml")),
        ("experiment-1d", include_str!("experiment-1d.toml")),
        ("experiment-2d", include_str!("experiment-2d.toml")),
        ("experiment-6d", include_str!("experiment-6d.toml")),
        ("experiment-10d", include_str!("experiment-10d.toml")),
        ("experiment-rkhs", include_str!("experiment-rkhs.toml")),
        ("fit", include_str!("fit.toml")),
    ];
    type Spec = Spec;

    fn plan(spec: &Spec, inputs: &Inputs, resources: &Resources) -> Result<Plan> {
        spec.check()?;
        match spec.task {
            Task::Fit => Ok(Regression::read(spec, inputs)?.plan(resources)),
            _ => Draws::plan(spec, inputs, resources),
        }
    }

    fn new(spec: &Spec, ctx: &Ctx) -> Result<Self> {
        spec.check()?;
        match spec.task {
            Task::Fit => Ok(Self::Fit(Box::new(Regression::read(spec, &ctx.inputs)?))),
            _ => Ok(Self::Draw(Box::new(Draws::new(spec, ctx)?))),
        }
    }

    fn step(&mut self, ctx: &Ctx) -> Result<Progress> {
        match self {
            Self::Draw(draws) => draws.step(ctx),
            Self::Fit(regression) => {
                let work = regression.plan(&ctx.resources).work;
                regression.solve(&ctx.comm)?;
                Ok(Progress { done: true, fraction: 1.0, work, metrics: Vec::new() })
            }
        }
    }

    fn fields<'a>(&'a mut self, fields: &mut Fields<'a>) {
        match self {
            Self::Draw(draws) => draws.fields(fields),
            // One step: nothing to go on from.
            Self::Fit(_) => {}
        }
    }

    fn finish(&mut self, ctx: &Ctx, out: &mut Results) -> Result<()> {
        match self {
            Self::Draw(draws) => draws.finish(ctx, out),
            Self::Fit(regression) => regression.write(ctx, out),
        }
    }
}
