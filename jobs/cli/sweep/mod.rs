//! `convoke sweep`: one job file, many points; here on several workers, or as job arrays of the batch system.

mod arrays;
mod chart;
mod local;
mod point;
mod show;

use std::path::PathBuf;

use clap::Args;
use convoke_cluster::batch::{Entry, Scheduler};
use convoke_cluster::driver::{self, Placement};
use convoke_cluster::job::Job;
use convoke_cluster::sweep::{RunId, State, Sweep, SweepDir};
use convoke_cluster::workload::{Inputs, Plan};
use convoke_cluster::{Error, Exit, JobError, JobText, machine};
use rayon::prelude::*;

use super::run::{default_dir, new_dir};
use super::{Done, say};
use crate::registry;

pub use point::PointArgs;
pub(super) use point::point;
pub(super) use show::{rows, status, table};

/// Options of `convoke sweep`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct SweepArgs {
    /// A sweep file, or the directory of a sweep to go on with.
    path: PathBuf,
    /// Directory of the sweep, new [default: runs/NAME-DATE-TIME].
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Hand the runs to the batch system, as job arrays.
    #[arg(long)]
    submit: bool,
    /// Profile of the cluster: a name or a TOML file.
    #[arg(long, env = "CONVOKE_SITE", default_value = "generic", value_name = "NAME|FILE")]
    site: String,
    /// How many runs work at once, at most [default: the sweep file's max_parallel, else as many as there are cores].
    #[arg(short = 'j', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max_parallel: Option<u64>,
    /// Run only what has failed, again.
    #[arg(long)]
    retry_failed: bool,
    /// More points: a CSV file whose header names the keys that vary, or the run directory of a design.
    #[arg(long, value_name = "FILE")]
    add: Option<PathBuf>,
    /// Only write the table and its pictures from the results that are there.
    #[arg(long, conflicts_with_all = ["submit", "retry_failed", "add"])]
    collect: bool,
    /// Check every point and show them; write and run nothing.
    #[arg(long)]
    dry_run: bool,
    /// Say nothing but errors.
    #[arg(short, long)]
    quiet: bool,
    /// The table for scripts, on standard output.
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "A sweep file:
  schema = 1
  name = \"resolution\"
  job = \"heat.toml\"             # the job; every point is this job with some keys set
  design = \"grid\"               # or \"list\", \"sobol\", \"random\" (with points = 64)
  replicates = 1                # with more, each point runs under as many seeds
  [[vary]]
  key = \"problem.points\"
  values = [16, 32, 64]
  [[vary]]
  key = \"problem.tolerance\"
  from = 1e-6
  to = 1e-2
  steps = 5
  scale = \"log\"

Examples:
  convoke sweep sweep.toml --dry-run         check and show the points
  convoke sweep sweep.toml -j 4              run them here, four at a time
  convoke sweep sweep.toml --submit          hand them to Slurm; `convoke status DIR` shows where they stand
  convoke sweep runs/resolution-20260101     go on with what is not done
  convoke sweep DIR --retry-failed --submit  run again what has failed, and only that
  convoke sweep DIR --add more.csv           ask for more points; the table tells of all";

pub(super) fn sweep(args: &SweepArgs) -> Done {
    let mut opened = open(args)?;
    if args.collect {
        return show::collect(&opened.sweep, &queue(&opened.sweep)?, args.json, args.quiet);
    }
    if let Some(file) = &args.add {
        opened.sweep = opened.sweep.extended(file)?;
    }
    let sweep = &opened.sweep;
    let queue = queue(sweep)?;
    let runs = to_do(sweep, &queue, args.retry_failed);
    if args.submit {
        let ready = arrays::ready(sweep, &runs, &args.site)?;
        if args.dry_run {
            show::points(sweep, &runs, &ready.price.text());
            arrays::show(sweep, &ready);
            return Ok(Exit::Complete);
        }
        make(&opened, args)?;
        return arrays::submit(&opened.sweep, &ready, args.max_parallel, args.json);
    }
    let price = price(sweep, &runs)?;
    if args.dry_run {
        show::points(sweep, &runs, &price.text());
        return Ok(Exit::Complete);
    }
    make(&opened, args)?;
    let sweep = &opened.sweep;
    let stopped = local::work(sweep, &runs, args.max_parallel, args.quiet)?;
    let done = show::collect(sweep, &[], args.json, args.quiet)?;
    Ok(if stopped { Exit::Stopped } else { done })
}

/// A sweep, and its file where it is new.
struct Opened {
    sweep: SweepDir,
    new: Option<JobText>,
}

fn open(args: &SweepArgs) -> Result<Opened, Error> {
    if args.path.is_dir() {
        if args.dir.is_some() {
            let help = "--dir names the directory of a new sweep, from a sweep file";
            return Err(JobError::command_line("--dir beside the directory of a sweep", help).into());
        }
        return Ok(Opened { sweep: SweepDir::open(&args.path)?, new: None });
    }
    if args.retry_failed || args.collect {
        let help = "--retry-failed and --collect take the directory of a sweep";
        return Err(JobError::command_line(format!("{} is a sweep file", args.path.display()), help).into());
    }
    let text = JobText::read(&args.path)?;
    let sweep = Sweep::read(&text)?;
    let base = JobText::read(&text.dir().join(&sweep.job))?;
    let dir = args.dir.clone().unwrap_or_else(|| default_dir(&sweep.name));
    new_dir(&dir)?;
    Ok(Opened { sweep: SweepDir::new(&dir, &sweep, &text.dir(), &base)?, new: Some(text) })
}

/// Writes what is new of it.
fn make(opened: &Opened, args: &SweepArgs) -> Result<(), Error> {
    let sweep = &opened.sweep;
    match &opened.new {
        Some(text) => sweep.make(text)?,
        None if args.add.is_some() => sweep.keep_points()?,
        None => {}
    }
    sweep.forget_stop();
    Ok(())
}

/// The batch system's queue, where the sweep was ever handed to it.
fn queue(sweep: &SweepDir) -> Result<Vec<Entry>, Error> {
    if sweep.arrays().is_empty() { Ok(Vec::new()) } else { Ok(Scheduler.queue()?) }
}

/// What is to be run: all that is neither done nor at work; what has failed only on request, and then nothing else.
fn to_do(sweep: &SweepDir, queue: &[Entry], retry_failed: bool) -> Vec<RunId> {
    let due = |state: State| match state {
        State::Failed => retry_failed,
        State::Waiting | State::Interrupted | State::Stopped => !retry_failed,
        State::Complete | State::Running | State::Queued => false,
    };
    sweep.states(queue).into_iter().filter(|(_, state)| due(*state)).map(|(run, _)| run).collect()
}

/// What runs take together.
#[derive(Default)]
struct Price {
    /// Peak memory of the largest run, all its ranks, in bytes.
    memory: u64,
    /// Bytes on the disk, all runs.
    disk: u64,
}

impl Price {
    fn with(self, other: &Self) -> Self {
        Self { memory: self.memory.max(other.memory), disk: self.disk + other.disk }
    }

    /// Of one run.
    fn of(sweep: &SweepDir, run: RunId, job: &Job<toml::Table>, plan: &Plan) -> Self {
        let memory = plan.memory_per_rank() * job.run.ranks as u64;
        Self { memory, disk: driver::disk_needed(&sweep.run_dir(run), plan, job.checkpoint.keep) }
    }

    /// Whether there is room for it.
    fn check(&self, sweep: &SweepDir) -> Result<(), Error> {
        let help = "these are the results and checkpoints of all runs: choose a larger disk with --dir, or lower checkpoint.keep";
        driver::room(&sweep.path, self.disk, help)
    }

    fn text(&self) -> String {
        let (memory, disk) = (machine::human_bytes(self.memory), machine::human_bytes(self.disk));
        format!("at most {memory} of memory for a run, {disk} on the disk for all")
    }
}

/// Checks every run before the first one begins here.
fn price(sweep: &SweepDir, runs: &[RunId]) -> Result<Price, Error> {
    let inputs = Inputs { base: sweep.lock.inputs.clone() };
    let of = |run: &RunId| -> Result<Price, Error> {
        let text = sweep.text(*run)?;
        let entry = registry::of(&text)?;
        let ranks = (entry.ranks)(&text)?;
        let quote = (entry.price)(&text, &inputs, &Placement::here(ranks, text.threads().unwrap_or(1)))?;
        Ok(Price::of(sweep, *run, &text.frame()?, &quote.plan))
    };
    let prices: Vec<Result<Price, Error>> = runs.par_iter().map(of).collect();
    let mut all = Price::default();
    for (run, price) in runs.iter().zip(prices) {
        all = all.with(&price.map_err(|error| refused_point(sweep, *run, error))?);
    }
    all.check(sweep)?;
    Ok(all)
}

/// Says which point an error is about.
fn refused_point(sweep: &SweepDir, run: RunId, error: Error) -> Error {
    say::error_line(&format!("convoke: point {run} ({}) cannot be run:", sweep.describe(run)));
    error
}
