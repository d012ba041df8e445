//! `convoke _point`: one run of a sweep, kept going to its end. Its working directory is the sweep's.

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use clap::Args;
use convoke_cluster::driver::Placement;
use convoke_cluster::launch::Launcher;
use convoke_cluster::machine::host_name;
use convoke_cluster::run_dir::RunDir;
use convoke_cluster::supervisor::Story;
use convoke_cluster::sweep::{Outcome, RunId, State, SweepDir};
use convoke_cluster::workload::Inputs;
use convoke_cluster::{Error, Exit, JobError, batch};

use super::show;
use crate::cli::end;
use crate::cli::run::mpirun;
use crate::cli::supervise::{Ways, keep_going};
use crate::registry;

/// Options of `convoke _point`.
#[derive(Debug, Args)]
pub struct PointArgs {
    /// Number of the job array whose task this is.
    #[arg(long, required_unless_present = "run")]
    array: Option<u32>,
    /// The run, such as 00012 or 00012-003.
    #[arg(long, conflicts_with = "array")]
    run: Option<RunId>,
    /// Threads of each rank where the job leaves them open.
    #[arg(long)]
    threads: Option<usize>,
    #[command(flatten)]
    ways: Ways,
}

pub fn point(args: &PointArgs) -> ExitCode {
    work(args).map_or_else(|error| end(Err(error)), ExitCode::from)
}

fn work(args: &PointArgs) -> Result<u8, Error> {
    let here = std::env::current_dir().map_err(|source| Error::Io { path: ".".into(), source })?;
    let sweep = SweepDir::open(&here)?;
    RunDir { path: here }.refuse_if_others_write()?;
    let run = which(args, &sweep)?;
    sweep.tell(run, None)?;
    let begun = Instant::now();
    let ended = if sweep.is_asked_to_stop() { Ok(Exit::Stopped as u8) } else { attempt(args, &sweep, run) };
    let dir = sweep.run_dir(run);
    let code = ended.as_ref().map_or_else(Error::exit, |code| *code);
    let asked = dir.is_asked_to_stop() || sweep.is_asked_to_stop();
    let state = match Exit::Complete as u8 == code {
        true => State::Complete,
        // It goes on in the queue, or another process has it.
        false if code == Exit::Stopped as u8 && args.array.is_some() && !asked => return ended,
        false if code == Exit::Locked as u8 => return ended,
        false if code == Exit::Stopped as u8 => State::Stopped,
        false => State::Failed,
    };
    let story = Story::of(&dir);
    let why = match (state, &ended) {
        (State::Failed, Err(error)) => error.to_string(),
        (State::Failed, Ok(_)) => last_words(&dir),
        _ => String::new(),
    };
    let why = why.lines().next().unwrap_or_default().to_owned();
    let seconds = begun.elapsed().as_secs_f64().max(story.seconds as f64);
    let outcome = Outcome { state, exit: code, seconds, attempts: story.attempts.max(1), host: host_name(), why };
    sweep.tell(run, Some(&outcome))?;
    if args.array.is_some() && sweep.has_ended() {
        // The last one turns the lights off; two last ones write the same.
        show::write(&sweep, &[])?;
    }
    ended
}

fn which(args: &PointArgs, sweep: &SweepDir) -> Result<RunId, Error> {
    let refuse =
        |message: String| JobError::command_line(message, "only `convoke sweep` and the batch system start this");
    let Some(number) = args.array else {
        let run = args.run.ok_or_else(|| refuse("no --run".into()))?;
        return if sweep.runs().contains(&run) {
            Ok(run)
        } else {
            Err(refuse(format!("there is no run {run}")).into())
        };
    };
    let task: Option<usize> = std::env::var("SLURM_ARRAY_TASK_ID").ok().and_then(|t| t.parse().ok());
    let array = sweep.array(number)?;
    let run = task.and_then(|task| array.runs.get(task).copied());
    Ok(run.ok_or_else(|| refuse(format!("array {number} has no task {task:?}")))?)
}

fn attempt(args: &PointArgs, sweep: &SweepDir, run: RunId) -> Result<u8, Error> {
    let dir = sweep.run_dir(run);
    if dir.path.join("spec.lock.json").exists() {
        dir.forget_stop();
    } else {
        let text = sweep.text(run)?;
        let entry = registry::of(&text)?;
        let ranks = (entry.ranks)(&text)?;
        let inputs = Inputs { base: sweep.lock.inputs.clone() };
        let threads = text.threads().or(args.threads).unwrap_or(1);
        let quote = (entry.price)(&text, &inputs, &Placement::here(ranks, threads))?;
        RunDir::create(&dir.path, &text, quote.resolved)?;
    }
    // Attempts count from here, except where the batch system began this task again.
    if batch::this_job().is_none_or(|(_, restart)| restart == 0) {
        dir.event("begun", serde_json::json!({ "epoch": dir.newest_epoch() }));
    }
    let in_batch = args.array.is_some();
    // A sweep on this machine may run inside somebody's allocation, which is not its own to requeue.
    let batch = |run_id: &str| if in_batch { args.ways.batch(run_id) } else { None };
    keep_going(&absolute(&dir.path), args.threads, batch, |ranks| match ranks {
        1 => Ok(Launcher::Alone),
        _ if in_batch => args.ways.launcher(ranks),
        _ => Ok(Launcher::Mpirun(mpirun(ranks)?)),
    })
}

fn absolute(path: &Path) -> std::path::PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// What a run said of its failure: its cause, or else how its last attempt ended.
fn last_words(dir: &RunDir) -> String {
    let events = dir.events();
    // Since it was last begun by hand; the newest first.
    let recent: Vec<_> = events.iter().rev().take_while(|e| e["event"] != "begun").collect();
    let said = |kinds: &[&str], key: &str| {
        let of_kind = recent.iter().filter(|e| e["event"].as_str().is_some_and(|kind| kinds.contains(&kind)));
        of_kind.filter_map(|e| e[key].as_str()).next().map(str::to_owned)
    };
    said(&["failed", "refused"], "error")
        .or_else(|| said(&["attempt-ended"], "how"))
        .or_else(|| said(&["not-started"], "words"))
        .unwrap_or_else(|| "see its log".to_owned())
}
