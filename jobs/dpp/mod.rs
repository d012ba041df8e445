//! Designs for weighted least squares: determinantal point processes, volume-rescaled sampling, greedy selection.
//!
//! A row of the state is one replica: a design, or one replicate of an experiment. Rows are functions of (seed, replica)
//! and go to the ranks round robin; every rank holds the whole table. See `README.md` beside this file.

pub mod design;
pub mod error;
pub mod experiment;
pub mod fit;
mod greedy;
mod output;
mod plan;
pub mod sampler;
pub mod source;
pub mod space;
pub mod spec;
pub mod stream;
pub mod target;

use convoke_cluster::workload::{Inputs, Resources};
use convoke_cluster::{BadValue, Ctx, Error, Fields, Plan, Progress, Region, Result, Results, Workload};
use faer::Par;
use rayon::prelude::*;

use design::Recipe;
use error::DesignError;
use space::Space;
use spec::{ExperimentSpec, Spec};
use target::{EXACT, Kind, Target};

/// Registry name.
pub const NAME: &str = "dpp";
/// Functions from which the products of one design are worth several threads.
const THREADED: usize = 512;

/// Designs being drawn.
#[derive(Debug)]
pub struct Dpp {
    spec: Spec,
    space: Space,
    /// The design; or all of an experiment's, `[law, ratio]`.
    recipes: Vec<Recipe>,
    /// What is approximated, in an experiment.
    target: Option<Target>,
    /// Replicas that are done.
    next: u64,
    /// `[replica, column]`, zero where nothing is done.
    rows: Vec<f64>,
}

impl Workload for Dpp {
    const NAME: &'static str = NAME;
    const SUMMARY: &'static str =
        "designs for weighted least squares: determinantal point processes, volume sampling, greedy";
    const JOBS: &'static [(&'static str, &'static str)] = &[
        ("design-td10", include_str!("design-td10.toml")),
        ("experiment-1d", include_str!("experiment-1d.toml")),
        ("experiment-6d", include_str!("experiment-6d.toml")),
    ];
    type Spec = Spec;

    fn plan(spec: &Spec, _inputs: &Inputs, resources: &Resources) -> Result<Plan> {
        let (space, recipes) = prepare(spec)?;
        Ok(plan::plan(spec, &space, &recipes, resources))
    }

    fn new(spec: &Spec, ctx: &Ctx) -> Result<Self> {
        let (space, recipes) = prepare(spec)?;
        let target = spec.experiment.as_ref().map(|e| known(spec, e, &space, ctx.seed)).transpose()?;
        let columns = plan::columns(spec, &space, &recipes);
        let rows = vec![0.0; plan::replicas(spec) as usize * columns];
        Ok(Self { spec: spec.clone(), space, recipes, target, next: 0, rows })
    }

    fn step(&mut self, ctx: &Ctx) -> Result<Progress> {
        let replicas = plan::replicas(&self.spec);
        let last = (self.next + plan::batch(&self.spec)).min(replicas);
        let ranks = ctx.comm.size() as u64;
        let owner = |replica: u64| replica % ranks;
        let mine: Vec<u64> = (self.next..last).filter(|r| owner(*r) == ctx.comm.rank() as u64).collect();
        // One design alone uses all threads for its products, several share them out.
        let (seed, threads) = (ctx.seed, ctx.resources.threads);
        let wide = threads > 1 && mine.len() == 1 && self.space.len() >= THREADED;
        let par = if wide { Par::rayon(threads) } else { Par::Seq };
        let row = |replica: &u64| self.row(*replica, seed, par);
        let made: Result<Vec<Vec<f64>>, DesignError> = if threads > 1 && mine.len() > 1 {
            mine.par_iter().map(row).collect()
        } else {
            mine.iter().map(row).collect()
        };
        let made = ctx.comm.agree(made.map_err(workload))?.concat();
        let all = ctx.comm.all_gather(&made)?;
        let columns = self.rows.len() / replicas as usize;
        let mut queues: Vec<_> = all.iter().map(|rows| rows.chunks(columns)).collect();
        for replica in self.next..last {
            let row = queues[owner(replica) as usize].next().expect("every rank sends its rows");
            self.rows[replica as usize * columns..][..columns].copy_from_slice(row);
        }
        let batch = (last - self.next) as f64;
        self.next = last;
        Ok(Progress {
            done: last == replicas,
            fraction: last as f64 / replicas as f64,
            work: batch * plan::flops(&self.space, &self.recipes),
            metrics: vec![("lambda_min", self.smallest_eigenvalue(last as usize - 1))],
        })
    }

    fn fields<'a>(&'a mut self, fields: &mut Fields<'a>) {
        fields.counter("next", &mut self.next);
        let replicas = plan::replicas(&self.spec) as usize;
        let shape = [replicas, self.rows.len() / replicas];
        fields.array("rows", &shape, Region::whole(&shape), &mut self.rows[..]);
    }

    fn finish(&mut self, ctx: &Ctx, out: &mut Results) -> Result<()> {
        match &self.spec.experiment {
            Some(experiment) => self.write_experiment(experiment, out),
            None => self.write_designs(ctx, out),
        }
    }
}

impl Dpp {
    /// The row of a replica.
    fn row(&self, replica: u64, seed: u64, par: Par) -> Result<Vec<f64>, DesignError> {
        match &self.target {
            Some(target) => experiment::replicate(&self.space, target, &self.recipes, seed, replica),
            None => {
                let design = design::draw(&self.space, &self.recipes[0], seed, replica, par)?;
                Ok(output::row(&design))
            }
        }
    }

    /// λ_min(G) of the first recipe's design in a row.
    fn smallest_eigenvalue(&self, row: usize) -> f64 {
        let columns = self.rows.len() / plan::replicas(&self.spec) as usize;
        let row = &self.rows[row * columns..(row + 1) * columns];
        if self.target.is_some() { row[experiment::FIGURES - 1] } else { row[output::LAMBDA_MIN] }
    }
}

/// The space and what is to be drawn for it.
fn prepare(spec: &Spec) -> Result<(Space, Vec<Recipe>), BadValue> {
    spec.check()?;
    let space = spec.space.build()?;
    let recipes = match (&spec.experiment, &spec.design) {
        (Some(experiment), _) => experiment.recipes(space.len())?,
        (None, Some(design)) => vec![design.recipe(space.len())?],
        (None, None) => Vec::new(),
    };
    Ok((space, recipes))
}

/// What an experiment approximates.
fn known(spec: &Spec, experiment: &ExperimentSpec, space: &Space, seed: u64) -> Result<Target> {
    let families = spec.space.families()?;
    let target = match experiment.kind() {
        Kind::RandomPolynomial => {
            let degree = spec.space.degree.unwrap_or(0.0) as usize;
            Target::random_polynomial(&families, degree, space, seed)
        }
        kind => Target::of_one_variable(kind, families[0], space),
    };
    let target = target.map_err(|error| workload(error.into()))?;
    if target.residual2 <= EXACT * target.norm2 {
        let message = "the space holds the function to rounding, so errors have nothing to be compared with";
        return Err(BadValue::wrong("problem.experiment.target", message).help("lower problem.space.degree").into());
    }
    Ok(target)
}

fn workload(error: DesignError) -> Error {
    Error::workload(NAME, error)
}
