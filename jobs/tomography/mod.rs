//! Tomography: a volume from projections, with parallel beams or with beams from a point. See `README.md` beside this file.

pub mod angles;
pub mod centre;
pub mod cleaning;
mod cone;
mod input;
pub mod methods;
pub mod normalise;
mod parallel;
pub mod phase;
mod plan;
mod regularised;
pub mod rings;
pub mod spec;
mod stripes;
pub mod views;
mod window;

use convoke_cluster::workload::{Inputs, Resources};
use convoke_cluster::{Ctx, Error, Fields, Plan, Progress, Result, Results, Workload};

use cone::Cone;
use parallel::Parallel;
use spec::Spec;

/// Registry name.
pub const NAME: &str = "tomography";

/// A reconstruction under way.
#[derive(Debug)]
pub struct Tomography(Kind);

#[derive(Debug)]
enum Kind {
    Parallel(Box<Parallel>),
    Cone(Box<Cone>),
}

/// A scan that cannot be used, with the file that it lies in.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {source}")]
pub struct ScanError {
    path: String,
    source: Box<dyn std::error::Error + Send + Sync>,
}

impl ScanError {
    fn at(path: &std::path::Path, source: impl std::error::Error + Send + Sync + 'static) -> Error {
        Error::BadData(Box::new(Self { path: path.display().to_string(), source: Box::new(source) }))
    }
}

impl Workload for Tomography {
    const NAME: &'static str = NAME;
    const SUMMARY: &'static str = "parallel-beam and cone-beam tomography: FBP, FDK, SIRT, CGLS, OS-SART, MLEM, OSEM, LSQR, \
         total variation, diffusion priors";
    const JOBS: &'static [(&'static str, &'static str)] = &[
        ("shepp-logan", include_str!("shepp-logan.toml")),
        ("foam-noise", include_str!("foam-noise.toml")),
        ("foam-tv", include_str!("foam-tv.toml")),
        ("tooth", include_str!("tooth.toml")),
        ("shepp-logan-cone", include_str!("shepp-logan-cone.toml")),
        ("helical", include_str!("helical.toml")),
        ("heads-few-views", include_str!("heads-few-views.toml")),
        ("heads-few-views-tiny", include_str!("heads-few-views-tiny.toml")),
        ("heads-next-views", include_str!("heads-next-views.toml")),
        ("heads-next-views-tiny", include_str!("heads-next-views-tiny.toml")),
    ];
    const MAY_CHANGE: &'static [&'static str] = &["problem.method.iterations"];
    type Spec = Spec;

    fn plan(spec: &Spec, inputs: &Inputs, resources: &Resources) -> Result<Plan> {
        spec.check()?;
        match spec.geometry {
            None => Parallel::plan(spec, inputs, resources),
            Some(_) => Cone::plan(spec, inputs, resources),
        }
    }

    fn new(spec: &Spec, ctx: &Ctx) -> Result<Self> {
        Ok(Self(match spec.geometry {
            None => Kind::Parallel(Box::new(Parallel::new(spec, ctx)?)),
            Some(_) => Kind::Cone(Box::new(Cone::new(spec, ctx)?)),
        }))
    }

    fn step(&mut self, ctx: &Ctx) -> Result<Progress> {
        match &mut self.0 {
            Kind::Parallel(job) => job.step(ctx),
            Kind::Cone(job) => job.step(ctx),
        }
    }

    fn fields<'a>(&'a mut self, fields: &mut Fields<'a>) {
        match &mut self.0 {
            Kind::Parallel(job) => job.fields(fields),
            Kind::Cone(job) => job.fields(fields),
        }
    }

    fn reshape(&mut self, ctx: &Ctx) -> Result<()> {
        match &mut self.0 {
            Kind::Parallel(job) => job.reshape(ctx),
            Kind::Cone(job) => job.reshape(ctx),
        }
    }

    fn restored(&mut self, _ctx: &Ctx) -> Result<()> {
        match &mut self.0 {
            Kind::Parallel(job) => job.restored(),
            Kind::Cone(job) => job.restored(),
        }
    }

    fn finish(&mut self, ctx: &Ctx, out: &mut Results) -> Result<()> {
        match &mut self.0 {
            Kind::Parallel(job) => job.finish(ctx, out),
            Kind::Cone(job) => job.finish(ctx, out),
        }
    }
}
