//! `convoke status`: where runs stand, from their own files and one question to the batch system for all of them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use convoke_cluster::batch::{BatchError, Entry, Scheduler};
use convoke_cluster::run_dir::RunDir;
use convoke_cluster::sweep::SweepDir;
use convoke_cluster::{Error, Exit};
use serde::Serialize;

use super::analyse::attempts::{State, attempts};
use super::{Done, say, sweep};

/// Options of `convoke status`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  convoke status                    all runs below runs/
  convoke status runs/heat-2026*    some
  convoke status runs/resolution-1  a sweep: what failed, and why
  convoke status --watch            again every ten seconds, until all have ended")]
pub struct StatusArgs {
    /// Directories of runs and sweeps [default: all below runs/].
    runs: Vec<PathBuf>,
    /// Show it again and again until all runs have ended.
    #[arg(long, conflicts_with = "json")]
    watch: bool,
    /// For scripts.
    #[arg(long)]
    json: bool,
}

/// State of a run whose job is gone and whose result is not there.
const LEFT: &str = "interrupted";
/// How often `--watch` asks: the controller has others to serve.
const EVERY: Duration = Duration::from_secs(10);

/// Where one run stands.
#[derive(Debug, Serialize)]
struct Row {
    run: PathBuf,
    state: String,
    /// Steps done, as far as is known.
    step: u64,
    /// Part of the run that is done, 0 to 1.
    fraction: Option<f64>,
    attempts: usize,
    /// Batch job.
    job: Option<u64>,
    /// Nodes, or the host of the newest attempt.
    place: String,
    /// Why it waits, or how it ended.
    note: String,
    /// Where the runs of a sweep stand.
    #[serde(skip_serializing_if = "Option::is_none")]
    runs: Option<serde_json::Value>,
}

/// What a directory holds.
enum Opened {
    Run(RunDir, String),
    Sweep(SweepDir),
}

pub(super) fn status(args: &StatusArgs) -> Done {
    loop {
        let runs = if args.runs.is_empty() { below(Path::new("runs")) } else { args.runs.clone() };
        let opened: Vec<Opened> = runs.iter().map(|run| open(run)).collect::<Result<_, Error>>()?;
        let asked = opened.iter().any(|opened| match opened {
            Opened::Run(dir, _) => dir.submission().is_some(),
            Opened::Sweep(sweep) => !sweep.arrays().is_empty(),
        });
        let queue = if asked { Scheduler.queue() } else { Ok(Vec::new()) };
        let row = |opened: &Opened| match opened {
            Opened::Run(dir, id) => row(dir, id, &queue),
            Opened::Sweep(sweep) => row_of_sweep(sweep, &queue, args.json),
        };
        let mut rows: Vec<Row> = opened.iter().map(row).collect();
        tell_how_jobs_ended(&mut rows);
        if args.json {
            say::json(&serde_json::to_value(&rows).expect("rows are plain data"));
            return Ok(Exit::Complete);
        }
        let live = rows.iter().any(|r| matches!(r.state.as_str(), "running" | "queued" | "unknown"));
        let again = args.watch && live;
        if args.watch {
            say::clear();
        }
        say::line(&table(&rows));
        if let [Opened::Sweep(sweep)] = &opened[..] {
            sweep::table(sweep, &queue);
        }
        if !again {
            return Ok(Exit::Complete);
        }
        std::thread::sleep(EVERY);
    }
}

/// Run directories in `dir`, oldest name first.
fn below(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path());
    let holds = |p: &PathBuf| p.join("spec.lock.json").exists() || SweepDir::is_one(p);
    let mut runs: Vec<PathBuf> = entries.filter(holds).collect();
    runs.sort();
    runs
}

fn open(path: &Path) -> Result<Opened, Error> {
    if SweepDir::is_one(path) {
        return Ok(Opened::Sweep(SweepDir::open(path)?));
    }
    let (dir, _, lock) = RunDir::open(path)?;
    Ok(Opened::Run(dir, lock.run_id))
}

fn row_of_sweep(sweep: &SweepDir, queue: &Result<Vec<Entry>, BatchError>, whole: bool) -> Row {
    let standing = sweep::status(sweep, queue);
    Row {
        run: sweep.path.clone(),
        state: standing.state,
        step: 0,
        fraction: Some(standing.fraction),
        attempts: 0,
        job: standing.job,
        place: String::new(),
        note: standing.note,
        runs: whole.then(|| sweep::rows(sweep, queue)),
    }
}

fn row(dir: &RunDir, run_id: &str, queue: &Result<Vec<Entry>, BatchError>) -> Row {
    let events = dir.events();
    let alive = dir.owner().is_some_and(|owner| dir.is_alive(&owner));
    let attempts = attempts(&events, alive);
    let newest = attempts.last();
    let state = newest.map_or(State::New, |a| a.state);
    let fraction = events.iter().rev().find_map(|e| e["fraction"].as_f64());
    let submission = dir.submission();
    let mut row = Row {
        run: dir.path.clone(),
        state: state.word().to_owned(),
        step: newest.map_or(0, |a| a.last_step),
        fraction: if state == State::Complete { Some(1.0) } else { fraction },
        attempts: attempts.len(),
        job: submission.as_ref().and_then(|s| s.job),
        place: newest.map_or_else(String::new, |a| a.host.clone()),
        note: newest.and_then(|a| a.reason.clone()).unwrap_or_default(),
        runs: None,
    };
    // The run's own files are the truth of what is finished; the queue knows what will still be done.
    if submission.is_some() && state != State::Complete {
        match queue {
            Err(error) => {
                row.state = "unknown".into();
                row.note = format!("scheduler down: {}", error.to_string().lines().next().unwrap_or_default());
            }
            Ok(queue) => {
                if let Some(entry) = queue.iter().find(|e| e.is_live() && e.run_id.as_deref() == Some(run_id)) {
                    row.state = if entry.state == "PENDING" { "queued" } else { "running" }.into();
                    row.job = Some(entry.job);
                    row.place = entry.nodes.clone();
                    row.note = if entry.reason == "None" { String::new() } else { entry.reason.clone() };
                } else if let Some(job) =
                    row.job.filter(|_| matches!(state, State::New | State::Interrupted | State::Running))
                {
                    row.state = LEFT.into();
                    row.note =
                        format!("job {job} has left the queue: `convoke submit` goes on, `convoke logs` says why");
                }
            }
        }
    }
    row
}

/// What the accounts say of jobs that have left the queue, with one question for all; many sites keep none.
fn tell_how_jobs_ended(rows: &mut [Row]) {
    let jobs: Vec<u64> = rows.iter().filter(|r| r.state == LEFT).filter_map(|r| r.job).collect();
    if jobs.is_empty() {
        return;
    }
    let ended: HashMap<u64, String> = Scheduler.history(&jobs).unwrap_or_default().into_iter().collect();
    for row in rows.iter_mut().filter(|r| r.state == LEFT) {
        if let Some(how) = row.job.and_then(|job| ended.get(&job)) {
            row.note = format!("{} ({})", row.note, how.to_lowercase());
        }
    }
}

/// Steps and attempts are those of its runs.
fn is_sweep(row: &Row) -> bool {
    SweepDir::is_one(&row.run)
}

fn table(rows: &[Row]) -> String {
    if rows.is_empty() {
        return "no runs here; `convoke run JOB` or `convoke submit JOB` begins one".to_owned();
    }
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(["run", "state", "step", "done", "attempts", "job", "where", "note"]);
    for row in rows {
        table.add_row([
            row.run.display().to_string(),
            row.state.clone(),
            if is_sweep(row) { String::new() } else { row.step.to_string() },
            row.fraction.map_or_else(String::new, |f| format!("{:.1} %", 100.0 * f)),
            if is_sweep(row) { String::new() } else { row.attempts.to_string() },
            row.job.map_or_else(String::new, |j| j.to_string()),
            row.place.clone(),
            row.note.clone(),
        ]);
    }
    table.to_string().lines().map(|l| l.trim_start_matches(' ').trim_end()).collect::<Vec<_>>().join("\n")
}
