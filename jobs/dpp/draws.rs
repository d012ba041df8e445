//! Tasks `design` and `experiment`: many draws.
//!
//! A row of the state is one replica: a design, or one replicate of an experiment. Rows are functions of (seed, replica)
//! and go to the ranks round robin; every rank holds the whole table.

use std::ops::Range;
use std::path::PathBuf;

use convoke_cluster::workload::{Inputs, Resources};
use convoke_cluster::{BadValue, Comm, Ctx, Error, Fields, Plan, Progress, Region, Result, Results};
use convoke_data::DataError;
use convoke_data::store::Reader;
use faer::{Mat, Par};
use rayon::prelude::*;

use super::batch::Batch;
use super::campaign::earlier::{Designs, weighted_features};
use super::campaign::values::Values;
use super::design::{self, Recipe};
use super::error::DesignError;
use super::plan::Sizes;
use super::pool::{self, Atoms, Pool};
use super::source::Universe;
use super::space::Space;
use super::space::indices::MAX_FUNCTIONS;
use super::spec::variable::Variable;
use super::spec::{DesignSpec, ExperimentSpec, PoolSpec, SpaceSpec, Spec};
use super::stream::Stream;
use super::target::{EXACT, Kind, Target};
use super::team::{Journal, Team};
use super::{experiment, output, plan};

/// Designs being drawn.
#[derive(Debug)]
pub struct Draws {
    pub(super) spec: Spec,
    pub(super) from: From,
    pub(super) sizes: Sizes,
    /// The design; or all of an experiment's, `[law, ratio]`.
    pub(super) recipes: Vec<Recipe>,
    /// W^{1/2} Φ of the points that stay, where a design comes after others.
    earlier: Option<Mat<f64>>,
    /// What is approximated, in an experiment.
    pub(super) target: Option<Target>,
    /// Replicas that are done.
    next: u64,
    /// Samples of the replica that is being drawn.
    journal: Journal,
    /// `[replica, column]`, zero where nothing is done.
    pub(super) rows: Vec<f64>,
}

/// What is drawn from.
#[derive(Debug)]
pub(super) enum From {
    /// A space of functions of these variables.
    Space(Space, Vec<Variable>),
    /// A pool, and where its file is.
    Pool(Pool, PathBuf),
}

impl Draws {
    pub(super) fn plan(spec: &Spec, inputs: &Inputs, resources: &Resources) -> Result<Plan> {
        let Prepared { sizes, recipes, note, .. } = prepare(spec, inputs)?;
        let mut plan = plan::plan(spec, sizes, &recipes, resources);
        plan.notes.extend(note);
        Ok(plan)
    }

    pub(super) fn new(spec: &Spec, ctx: &Ctx) -> Result<Self> {
        let Prepared { space, sizes, recipes, earlier, .. } = prepare(spec, &ctx.inputs)?;
        let columns = plan::columns(spec, sizes, &recipes);
        let rows = vec![0.0; plan::replicas(spec) as usize * columns];
        let mut made = Self {
            spec: spec.clone(),
            from: read(spec, space, sizes, ctx)?,
            sizes,
            recipes,
            earlier: None,
            target: None,
            next: 0,
            journal: Journal::default(),
            rows,
        };
        if let From::Space(space, _) = &made.from {
            let known = |e: &ExperimentSpec| known(space_of(spec)?, e, space, ctx.seed);
            made.target = spec.experiment.as_ref().map(known).transpose()?;
            made.earlier = earlier.map(|(points, weights)| weighted_features(space, &points, &weights));
        }
        Ok(made)
    }

    pub(super) fn step(&mut self, ctx: &Ctx) -> Result<Progress> {
        let (m, replicas) = (self.sizes.functions, plan::replicas(&self.spec));
        let last = (self.next + plan::batch(&self.spec, m, &self.recipes)).min(replicas);
        let budget = plan::slices(&self.spec, m, &self.recipes).and(self.spec.design.as_ref()).map(|d| d.step_flops);
        let together = budget.is_some() || plan::together(&self.spec, m, &self.recipes, &ctx.resources);
        let made = match &self.from {
            From::Space(space, _) if together => {
                let draw = Draw { space, recipe: &self.recipes[0], earlier: self.earlier.as_ref() };
                draw.rows(self.next..last, budget.unwrap_or(f64::INFINITY), &mut self.journal, ctx)?
            }
            From::Space(space, _) => Some(self.apart(space, last, ctx)?),
            From::Pool(pool, _) => Some(self.together(pool, last, ctx)?),
        };
        let work = (last - self.next) as f64 * plan::flops(m, &self.recipes);
        let work = budget.map_or(work, |most| most.min(work));
        let Some(made) = made else {
            // Redraws of a conditioned design are not foreseen.
            let part = (self.journal.accepted() as f64 / plan::drawn(&self.recipes[0], m)).min(0.99);
            let fraction = (self.next as f64 + part) / replicas as f64;
            let metrics = vec![("lambda_min", self.smallest_eigenvalue((last as usize - 1).saturating_sub(1)))];
            return Ok(Progress { done: false, fraction, work, metrics });
        };
        let first = self.next as usize * self.columns();
        self.rows[first..first + made.len()].copy_from_slice(&made);
        self.next = last;
        Ok(Progress {
            done: last == replicas,
            fraction: last as f64 / replicas as f64,
            work,
            metrics: vec![("lambda_min", self.smallest_eigenvalue(last as usize - 1))],
        })
    }

    pub(super) fn fields<'a>(&'a mut self, fields: &mut Fields<'a>) {
        fields.counter("next", &mut self.next);
        fields.history("samples", &mut self.journal.numbers);
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

    fn columns(&self) -> usize {
        self.rows.len() / plan::replicas(&self.spec) as usize
    }

    /// The rows up to replica `last`, each made by one rank. Collective.
    fn apart(&self, space: &Space, last: u64, ctx: &Ctx) -> Result<Vec<f64>> {
        let ranks = ctx.comm.size() as u64;
        let owner = |replica: u64| replica % ranks;
        let mine: Vec<u64> = (self.next..last).filter(|r| owner(*r) == ctx.comm.rank() as u64).collect();
        let (seed, threads) = (ctx.seed, ctx.resources.threads);
        let (target, recipes, earlier) = (&self.target, &self.recipes, self.earlier.as_ref());
        let row = |from: &dyn Universe, replica: u64| match target {
            Some(target) => experiment::replicate(from, target, recipes, seed, replica),
            None => {
                let design = design::draw(from, &recipes[0], earlier.map(Mat::as_ref), (seed, replica), Par::Seq)?;
                Ok(output::row(&design))
            }
        };
        let made: Result<Vec<Vec<f64>>, DesignError> = if Batch::suits(space, &ctx.device) {
            let samples = recipes.iter().map(|recipe| plan::samples(recipe, space.len())).max().unwrap_or(0);
            let parts = |replica: &u64| (0..samples).map(|part| Stream::new(seed, *replica, part)).collect::<Vec<_>>();
            let streams: Vec<Stream> = mine.iter().flat_map(parts).collect();
            let batch = Batch::draw(space, &ctx.device, &streams).map_err(DesignError::from);
            batch.and_then(|batch| mine.par_iter().map(|replica| row(&batch, *replica)).collect())
        } else if ctx.device.is_gpu() {
            let on_device = |replica: &u64| {
                let (solo, mut journal) = (Comm::solo(), Journal::default());
                row(&Team::alone(space, &solo, &ctx.device, &mut journal), *replica)
            };
            mine.iter().map(on_device).collect()
        } else if threads > 1 && mine.len() > 1 {
            mine.par_iter().map(|replica| row(space, *replica)).collect()
        } else {
            mine.iter().map(|replica| row(space, *replica)).collect()
        };
        let made = ctx.comm.agree(made.map_err(Error::from))?.concat();
        let all = ctx.comm.all_gather(&made)?;
        let mut queues: Vec<_> = all.iter().map(|rows| rows.chunks(self.columns())).collect();
        let next = |replica: u64| queues[owner(replica) as usize].next().expect("every rank sends its rows");
        Ok((self.next..last).map(next).collect::<Vec<_>>().concat())
    }

    /// The rows up to replica `last` of a pool, which all ranks draw together. Collective.
    fn together(&self, pool: &Pool, last: u64, ctx: &Ctx) -> Result<Vec<f64>> {
        let threads = ctx.resources.threads;
        let par = parallel(threads, self.sizes.functions);
        let atoms = Atoms::new(pool, &ctx.comm);
        let mut rows = Vec::new();
        for replica in self.next..last {
            let design = design::draw(&atoms, &self.recipes[0], None, (ctx.seed, replica), par);
            rows.extend(output::row(&ctx.comm.agree(design.map_err(Error::from))?));
        }
        Ok(rows)
    }

    /// λ_min(G) of the first recipe's design in a row.
    fn smallest_eigenvalue(&self, row: usize) -> f64 {
        let columns = self.columns();
        let row = &self.rows[row * columns..(row + 1) * columns];
        if self.target.is_some() { row[experiment::FIGURES - 1] } else { row[output::LAMBDA_MIN] }
    }
}

/// Threads for the products of one design, where it is large enough for them.
fn parallel(threads: usize, functions: usize) -> Par {
    if threads > 1 && functions >= plan::TOGETHER_FROM { Par::rayon(threads) } else { Par::Seq }
}

/// Designs that all ranks and threads draw together.
struct Draw<'a> {
    space: &'a Space,
    recipe: &'a Recipe,
    earlier: Option<&'a Mat<f64>>,
}

impl Draw<'_> {
    /// Their rows; nothing where the first one takes more than `budget` flops: the journal knows how far it is. Collective.
    fn rows(&self, replicas: Range<u64>, budget: f64, journal: &mut Journal, ctx: &Ctx) -> Result<Option<Vec<f64>>> {
        let (threads, mut rows) = (ctx.resources.threads, Vec::new());
        for replica in replicas {
            let team = Team::new(self.space, ctx, journal, budget);
            let earlier = self.earlier.map(Mat::as_ref);
            let made = match design::draw(
                &team,
                self.recipe,
                earlier,
                (ctx.seed, replica),
                parallel(threads, self.space.len()),
            ) {
                Err(DesignError::Unfinished) => Ok(None),
                made => made.map(Some),
            };
            let Some(design) = ctx.comm.agree(made.map_err(Error::from))? else { return Ok(None) };
            rows.extend(output::row(&design));
            journal.clear();
        }
        Ok(Some(rows))
    }
}

/// What a job draws, before anything of size is read.
struct Prepared {
    /// Absent for a pool.
    space: Option<(Space, Vec<Variable>)>,
    sizes: Sizes,
    recipes: Vec<Recipe>,
    /// Points that stay, `[n, d]`, and their weights.
    earlier: Option<(Vec<f64>, Vec<f64>)>,
    note: Option<String>,
}

fn space_of(spec: &Spec) -> Result<&SpaceSpec, BadValue> {
    spec.space.as_ref().ok_or_else(|| BadValue::wrong("problem.task", "the table [problem.space] is missing"))
}

fn prepare(spec: &Spec, inputs: &Inputs) -> Result<Prepared> {
    spec.design.as_ref().map_or(Ok(()), DesignSpec::check)?;
    if let (Some(pool), Some(design)) = (&spec.pool, &spec.design) {
        let (atoms, functions) = shape_of(pool, inputs)?;
        let sizes = Sizes { functions, dimension: 1, atoms: Some(atoms), stay: 0 };
        let recipe = design.recipe(functions, 0)?;
        return Ok(Prepared { space: None, sizes, recipes: vec![recipe], earlier: None, note: None });
    }
    let of = space_of(spec)?;
    let (space, variables) = (of.build(inputs)?, of.variables()?);
    let earlier = spec.design.as_ref().map(|design| earlier(design, of, inputs)).transpose()?.flatten();
    let stay = earlier.as_ref().map_or(0, |e| e.points.1.len());
    let sizes = Sizes { functions: space.len(), dimension: space.dimension(), atoms: None, stay };
    let recipes = match (&spec.experiment, &spec.design) {
        (Some(experiment), _) => experiment.recipes(space.len())?,
        (None, Some(design)) => vec![design.recipe(space.len(), stay)?],
        (None, None) => Vec::new(),
    };
    let note = earlier.as_ref().map(|e| e.note.clone());
    Ok(Prepared { space: Some((space, variables)), sizes, recipes, earlier: earlier.map(|e| e.points), note })
}

/// Atoms and functions of a pool's file.
fn shape_of(pool: &PoolSpec, inputs: &Inputs) -> Result<(usize, usize)> {
    let path = inputs.resolve(&pool.file);
    let reader = Reader::open(&path)?;
    let place = |name: &str, shape: &[usize]| format!("{name} of {}, of shape {shape:?}", path.display());
    let shape = reader.shape(pool.features())?;
    let &[atoms, functions] = shape.as_slice() else {
        let found = place(pool.features(), &shape);
        return Err(BadValue::new("problem.pool.features", found, "an array [atom, function]").into());
    };
    if functions == 0 || functions > MAX_FUNCTIONS || atoms < functions {
        let found = place(pool.features(), &shape);
        let expected = format!("at least as many atoms as functions, and 1 to {MAX_FUNCTIONS} of these");
        return Err(BadValue::new("problem.pool.features", found, expected).into());
    }
    if let Some(points) = &pool.points {
        let shape = reader.shape(points)?;
        if !matches!(shape.as_slice(), [n, d] if *n == atoms && *d > 0) {
            let expected = format!("an array [{atoms}, variables], a row for each atom");
            return Err(BadValue::new("problem.pool.points", place(points, &shape), expected).into());
        }
    }
    Ok((atoms, functions))
}

/// The space, or the pool from its file. Collective.
fn read(spec: &Spec, space: Option<(Space, Vec<Variable>)>, sizes: Sizes, ctx: &Ctx) -> Result<From> {
    let Some(pool) = &spec.pool else {
        let (space, variables) =
            space.ok_or_else(|| BadValue::wrong("problem.task", "the table [problem.space] is missing"))?;
        return Ok(From::Space(space, variables));
    };
    let path = ctx.inputs.resolve(&pool.file);
    let reader = Reader::open(&path)?;
    let (atoms, m) = (sizes.atoms.unwrap_or(0), sizes.functions);
    let part = |range: Range<usize>| {
        let values: Vec<f64> = reader.read_slab(pool.features(), &[range.start, 0], &[range.len(), m])?;
        if let Some(i) = values.iter().position(|v| !v.is_finite()) {
            let (name, first) = (pool.features().to_owned(), vec![range.start + i / m, i % m]);
            let count = values.iter().filter(|v| !v.is_finite()).count();
            return Err(DataError::NonFinite { path: path.clone(), name, count, first }.into());
        }
        Ok(Mat::from_fn(range.len(), m, |i, j| values[i * m + j]))
    };
    let pool = Pool::new(&ctx.comm, pool::rows(atoms, ctx.comm.size()), m, part)?;
    Ok(From::Pool(pool, path))
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
        Kind::Sobolev => Ok(Target::sobolev(space)),
        kind => Target::of_one_variable(kind, families[0], space),
    };
    let target = target.map_err(DesignError::from)?;
    if target.residual2 <= EXACT * target.norm2 {
        let message = "the space holds the function to rounding, so errors have nothing to be compared with";
        return Err(BadValue::wrong("problem.experiment.target", message).help("lower problem.space.degree").into());
    }
    Ok(target)
}
