//! Kronecker-structured Gaussian-process solvers for partial differential equations. See `README.md` beside this file.

pub mod arrays;
pub mod axis;
pub mod basis;
pub mod bytes;
mod collocation;
pub mod equation;
pub mod exchange;
pub mod factor;
pub mod features;
pub mod field;
mod finished;
pub mod gaussian;
pub mod grid;
mod jobs;
pub mod krylov;
pub mod layout;
pub mod lift;
mod lines;
pub mod mixture;
pub mod model;
mod observations;
mod output;
pub mod pencil;
mod perturbed;
mod plan;
mod posterior;
mod reader;
pub mod rows;
pub mod separable;
pub mod share;
pub mod solve;
pub mod solver_error;
pub mod spec;
pub mod spectrum;
pub mod statement;
mod stationary;
pub mod symmetry;
pub mod transforms;

use convoke_cluster::workload::{Inputs, Resources};
use convoke_cluster::{BadValue, Ctx, Error, Fields, Plan, Progress, Result, Results, Workload};

use collocation::Collocation;
use features::Prior;
use mixture::Component;
use posterior::Posterior;
use solver_error::SolverError;
use spec::{AxisSpec, Nodes, Spec};
use statement::Statement;

/// Registry name.
pub const NAME: &str = "gp-pde";

/// Points per wavelength below which nodes are equidistant: clustered ones are too far apart in the middle.
const SPARSE: f64 = 3.3;

/// A problem under way.
#[derive(Debug)]
pub enum GpPde {
    /// The equation is to hold at all nodes.
    Collocation(Box<Collocation>),
    /// The equation and measurements hold to within noise.
    Posterior(Box<Posterior>),
}

impl Workload for GpPde {
    const NAME: &'static str = NAME;
    const SUMMARY: &'static str =
        "Gaussian-process PDE solver on tensor grids: linear, nonlinear, multi-scale, uncertain";
    const JOBS: &'static [(&'static str, &'static str)] = jobs::JOBS;
    type Spec = Spec;

    fn plan(spec: &Spec, inputs: &Inputs, resources: &Resources) -> Result<Plan> {
        let (statement, seen) = read(spec, inputs)?;
        observations::read(spec, &statement, inputs, 0)?;
        output::own_points(spec, &statement, inputs)?;
        if spec.is_uncertain() {
            let functions =
                first_priors(spec, &statement, &seen)?.iter().map(|(_, _, prior)| prior.n_features()).collect();
            return posterior::price::posterior(spec, &statement, functions, resources);
        }
        plan::collocation(spec, &statement, &seen, resources)
    }

    fn new(spec: &Spec, ctx: &Ctx) -> Result<Self> {
        let (statement, seen) = read(spec, &ctx.inputs)?;
        Ok(if spec.is_uncertain() {
            Self::Posterior(Box::new(Posterior::new(spec, ctx, statement, &seen)?))
        } else {
            Self::Collocation(Box::new(Collocation::new(spec, ctx, statement, &seen)?))
        })
    }

    fn step(&mut self, ctx: &Ctx) -> Result<Progress> {
        match self {
            Self::Collocation(job) => job.step(ctx),
            Self::Posterior(job) => job.step(ctx),
        }
    }

    fn fields<'a>(&'a mut self, fields: &mut Fields<'a>) {
        match self {
            Self::Collocation(job) => job.fields(fields),
            Self::Posterior(job) => job.fields(fields),
        }
    }

    fn reshape(&mut self, _ctx: &Ctx) -> Result<()> {
        match self {
            Self::Collocation(job) => job.reshape(),
            Self::Posterior(job) => job.reshape(),
        }
        Ok(())
    }

    fn finish(&mut self, ctx: &Ctx, out: &mut Results) -> Result<()> {
        match self {
            Self::Collocation(job) => job.finish(out),
            Self::Posterior(job) => job.finish(ctx, out),
        }
    }
}

/// The job file, understood and checked against its grid; and the highest frequency that its data show along each axis.
fn read(spec: &Spec, inputs: &Inputs) -> Result<(Statement, Vec<Option<f64>>)> {
    spec.check()?;
    let statement = Statement::read(spec, inputs)?;
    let seen = spectrum::ceilings(&statement)?;
    spectrum::check_grid(&statement.in_window(0), &seen)?;
    Ok((statement, seen))
}

/// Ceilings of the frequencies and kind of nodes, by axis.
fn ceilings_and_nodes(spec: &Spec, statement: &Statement, seen: &[Option<f64>]) -> Result<Vec<(f64, Nodes)>> {
    let ceilings = given_or_seen(spec, statement, seen)?;
    let boxes = statement.in_window(0).boxes;
    let nodes = statement.axes.iter().zip(&boxes).zip(&ceilings).map(choose_nodes);
    Ok(ceilings.iter().copied().zip(nodes).collect())
}

/// By axis: ceiling, kind of nodes, and the prior that a posterior starts with.
fn first_priors(spec: &Spec, statement: &Statement, seen: &[Option<f64>]) -> Result<Vec<(f64, Nodes, Prior)>> {
    let factor = spec.prior.ceiling_factor.unwrap_or(posterior::CEILING_FACTOR);
    let found = ceilings_and_nodes(spec, statement, seen)?.into_iter().enumerate();
    Ok(found
        .map(|(axis, (ceiling, nodes))| (ceiling, nodes, axis_prior(spec, statement, axis, nodes, ceiling, factor)))
        .collect())
}

/// The first prior of an axis: the job's components, or equal weights up to `factor` times the ceiling.
fn axis_prior(spec: &Spec, statement: &Statement, axis: usize, nodes: Nodes, ceiling: f64, factor: f64) -> Prior {
    let (of_axis, length) = (&statement.axes[axis], statement.boxes[axis].1);
    let given = spec.prior.components.iter().filter(|c| c.axis == of_axis.name);
    let components: Vec<Component> = given
        .map(|c| Component { kernel: c.kernel, frequency: c.frequency, weight: c.weight, length_scale: c.length_scale })
        .collect();
    if components.is_empty() {
        return spectrum::prior((of_axis, length), nodes, ceiling, factor);
    }
    mixture::prior(&components, length, of_axis.periodic, spectrum::highest((of_axis, length), nodes))
}

/// Ceilings that the job gives, or that the data show, or that the equation implies for an axis without data.
fn given_or_seen(spec: &Spec, statement: &Statement, seen: &[Option<f64>]) -> Result<Vec<f64>> {
    if let Some(given) = &spec.prior.ceilings {
        if given.len() != seen.len() || given.iter().any(|c| !(c.is_finite() && *c > 0.0)) {
            let expected = format!("{} positive frequencies, one for each axis", seen.len());
            return Err(BadValue::new("problem.prior.ceilings", format!("{given:?}"), expected).into());
        }
        return Ok(statement.order.iter().map(|i| given[*i]).collect());
    }
    Ok(seen.iter().map(|c| c.unwrap_or(0.0)).collect())
}

/// Equidistant where the axis is periodic or has few points per wavelength, clustered otherwise.
fn choose_nodes(((axis, (_, length)), ceiling): ((&AxisSpec, &(f64, f64)), &f64)) -> Nodes {
    let per_wavelength = (axis.points - 1) as f64 / (length * ceiling).max(f64::MIN_POSITIVE);
    let automatic = if axis.periodic || per_wavelength < SPARSE { Nodes::Uniform } else { Nodes::Chebyshev };
    axis.nodes.unwrap_or(automatic)
}

fn workload(error: SolverError) -> Error {
    Error::workload(NAME, error)
}
