//! Tasks `design` and `experiment`: many draws.
//!
//! A row of the state is one replica: a design, or one replicate of an experiment. Rows are functions of (seed, replica)
//! and go to the ranks round robin; every rank holds the whole table.

use convoke_cluster::workload::{Inputs, Resources};
use convoke_cluster::{BadValue, Ctx, Fields, Plan, Progress, Region, Result, Results};
use faer::{Mat, Par};
use rayon::prelude::*;

use super::campaign::earlier::{Designs, weighted_features};
use super::campaign::values::Values;
use super::design::{self, Recipe};
use super::error::DesignError;
use super::space::Space;
use super::spec::variable::Variable;
use super::spec::{DesignSpec, ExperimentSpec, SpaceSpec, Spec};
use super::target::{EXACT, Kind, Target};
use super::{experiment, output, plan, workload};

/// Functions from which the products of one design are worth several threads.
const THREADED: usize = 512;

/// Designs being drawn.
#[derive(Debug)]
pub struct Draws {
    pub(super) spec: Spec,
    pub(super) space: Space,
    pub(super) variables: Vec<Variable>,
    /// The design; or all of an experiment's, `[law, ratio]`.
    pub(super) recipes: Vec<Recipe>,
    /// W^{1/2} Φ of the points that stay, where a design comes after others.
    earlier: Option<Mat<f64>>,
    /// What is approximated, in an experiment.
    pub(super) target: Option<Target>,
    /// Replicas that are done.
    next: u64,
    /// `[replica, column]`, zero where nothing is done.
    pub(super) rows: Vec<f64>,
}

impl Draws {
    pub(super) fn plan(spec: &Spec, inputs: &Inputs, resources: &Resources) -> Result<Plan> {
        let Prepared { space, recipes, stay, note, .. } = prepare(spec, inputs)?;
        let mut plan = plan::plan(spec, &space, &recipes, stay, resources);
        plan.notes.extend(note);
        Ok(plan)
    }

    pub(super) fn new(spec: &Spec, ctx: &Ctx) -> Result<Self> {
        let Prepared { space, variables, recipes, earlier, .. } = prepare(spec, &ctx.inputs)?;
        let known = |e: &ExperimentSpec| known(space_of(spec)?, e, &space, ctx.seed);
        let target = spec.experiment.as_ref().map(known).transpose()?;
        let earlier = earlier.map(|(points, weights)| weighted_features(&space, &points, &weights));
        let columns = plan::columns(spec, &space, &recipes);
        let rows = vec![0.0; plan::replicas(spec) as usize * columns];
        Ok(Self { spec: spec.clone(), space, variables, recipes, earlier, target, next: 0, rows })
    }

    pub(super) fn step(&mut self, ctx: &Ctx) -> Result<Progress> {
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

    pub(super) fn fields<'a>(&'a mut self, fields: &mut Fields<'a>) {
        fields.counter("next", &mut self.next);
        let replicas = plan::replicas(&self.spec) as usize;
        let shape = [replicas, self.rows.len() / replicas];
        fields.array("rows", &shape, Region::whole(&shape), &mut self.rows[..]);
    }

    pub(super) fn finish(&mut self, ctx: &Ctx, out: &mut Results) -> Result<()> {
        match &self.spec.experiment {
            Some(experiment) => self.write_experiment(experiment, out),
            None => self.write_designs(ctx, out),
        }
    }

    /// The row of a replica.
    fn row(&self, replica: u64, seed: u64, par: Par) -> Result<Vec<f64>, DesignError> {
        match &self.target {
            Some(target) => experiment::replicate(&self.space, target, &self.recipes, seed, replica),
            None => {
                let design = design::draw(
                    &self.space,
                    &self.recipes[0],
                    self.earlier.as_ref().map(Mat::as_ref),
                    (seed, replica),
                    par,
                )?;
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

/// What a job draws for.
struct Prepared {
    space: Space,
    variables: Vec<Variable>,
    recipes: Vec<Recipe>,
    /// Points that stay, `[n, d]`, and their weights.
    earlier: Option<(Vec<f64>, Vec<f64>)>,
    /// How many these are.
    stay: usize,
    note: Option<String>,
}

fn space_of(spec: &Spec) -> Result<&SpaceSpec, BadValue> {
    spec.space.as_ref().ok_or_else(|| BadValue::wrong("problem.task", "the table [problem.space] is missing"))
}

fn prepare(spec: &Spec, inputs: &Inputs) -> Result<Prepared> {
    let of = space_of(spec)?;
    spec.design.as_ref().map_or(Ok(()), DesignSpec::check)?;
    let (space, variables) = (of.build(inputs)?, of.variables()?);
    let earlier = spec.design.as_ref().map(|design| earlier(design, of, inputs)).transpose()?.flatten();
    let stay = earlier.as_ref().map_or(0, |e| e.points.1.len());
    let recipes = match (&spec.experiment, &spec.design) {
        (Some(experiment), _) => experiment.recipes(space.len())?,
        (None, Some(design)) => vec![design.recipe(space.len(), stay)?],
        (None, None) => Vec::new(),
    };
    let note = earlier.as_ref().map(|e| e.note.clone());
    Ok(Prepared { space, variables, recipes, earlier: earlier.map(|e| e.points), stay, note })
}

/// Points of earlier designs.
struct Staying {
    points: (Vec<f64>, Vec<f64>),
    note: String,
}

/// The points that a design comes after: those with a value, where values are given.
fn earlier(design: &DesignSpec, space: &SpaceSpec, inputs: &Inputs) -> Result<Option<Staying>> {
    let Some(paths) = &design.after else { return Ok(None) };
    if paths.is_empty() {
        return Err(BadValue::new("problem.design.after", "[]", "at least one run of task = \"design\"").into());
    }
    let designs = Designs::open("problem.design.after", paths, inputs)?;
    let variables = designs.variables();
    if space.families()? != designs.0[0].spec.families()? || space.variables()? != variables {
        let message = "the designs before are over other variables, or in other families or ranges";
        return Err(BadValue::wrong("problem.design.after", message)
            .help("[problem.space] says what they are here")
            .into());
    }
    let (points, weights, d) = (designs.points(), designs.weights(), variables.len());
    let told =
        design.values.as_ref().map(|path| Values::read(&inputs.resolve(path), &points, variables, &[])).transpose()?;
    let known = told.as_ref().map_or_else(|| (0..weights.len()).collect(), Values::known);
    let note = match told.as_ref().and_then(Values::missing) {
        Some(words) => format!("{} points stay; {words}", known.len()),
        None => format!("{} points stay", known.len()),
    };
    let kept = known.iter().flat_map(|i| &points[i * d..(i + 1) * d]).copied().collect();
    Ok(Some(Staying { points: (kept, known.iter().map(|i| weights[*i]).collect()), note }))
}

/// What an experiment approximates.
fn known(spec: &SpaceSpec, experiment: &ExperimentSpec, space: &Space, seed: u64) -> Result<Target> {
    let families = spec.families()?;
    let target = match experiment.kind() {
        Kind::RandomPolynomial => {
            let degree = spec.degree.unwrap_or(0.0) as usize;
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
