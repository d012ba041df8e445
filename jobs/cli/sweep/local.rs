//! A sweep on this machine: workers, each of them one run at a time.

use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use convoke_cluster::progress::{Reporter, Verbosity};
use convoke_cluster::sweep::{RunId, State, SweepDir};
use convoke_cluster::{Error, machine};
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};

use super::say;

/// How often workers and signals are looked at.
const LOOK: Duration = Duration::from_millis(5);

/// Works until all `runs` have ended; whether it was stopped before.
///
/// # Errors
/// A worker that cannot be started.
pub(super) fn work(sweep: &SweepDir, runs: &[RunId], at_once: Option<u64>, quiet: bool) -> Result<bool, Error> {
    let places = places(sweep, runs, at_once.or(sweep.lock.max_parallel))?;
    let (total, dir) = (sweep.runs().len(), sweep.path.display());
    if !quiet {
        say::error_line(&format!(
            "{}: {} of {total} runs to do, {} at once; {dir}",
            sweep.lock.name,
            runs.len(),
            places.at_once
        ));
    }
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGUSR1]).map_err(fail)?;
    let verbosity = if quiet { Verbosity::Quiet } else { Verbosity::Normal };
    let mut reporter = Reporter::new(true, verbosity, "runs");
    reporter.start(0.0);
    let mut waiting: VecDeque<RunId> = runs.iter().copied().collect();
    let mut working: Vec<(RunId, Child)> = Vec::new();
    let (mut done, mut failed, mut stops) = (0u64, 0u32, 0);
    while !working.is_empty() || (!waiting.is_empty() && stops == 0) {
        let asked = signals.pending().count() + usize::from(stops == 0 && sweep.is_asked_to_stop());
        if asked > 0 {
            stops += 1;
            if stops == 1 {
                reporter.note("convoke: stopping: runs at work write a checkpoint first (once more ends them at once)");
            }
            for (_, child) in &working {
                let _ = kill_process(Pid::from_child(child), if stops == 1 { Signal::USR1 } else { Signal::TERM });
            }
        }
        while stops == 0 && working.len() < places.at_once {
            let Some(run) = waiting.pop_front() else { break };
            working.push((run, start(sweep, run, places.threads)?));
        }
        let mut still = Vec::with_capacity(working.len());
        for (run, mut child) in working {
            if child.try_wait().map_err(fail)?.is_none() {
                still.push((run, child));
                continue;
            }
            done += 1;
            let outcome = sweep.outcome(run);
            if let Some(outcome) = outcome.filter(|o| o.state == State::Failed) {
                failed += 1;
                reporter.note(&format!("point {run} failed ({}): {}", sweep.describe(run), outcome.why));
            }
            reporter.step(done, done as f64 / runs.len() as f64, 1.0, &[("failed", f64::from(failed))]);
        }
        working = still;
        std::thread::sleep(LOOK);
    }
    reporter.end();
    Ok(stops > 0)
}

/// How many work at once, and with how many threads each rank where the job leaves them open.
struct Places {
    at_once: usize,
    threads: usize,
}

fn places(sweep: &SweepDir, runs: &[RunId], asked: Option<u64>) -> Result<Places, Error> {
    let mut widest = 1;
    for run in runs {
        let run = sweep.text(*run)?.frame()?.run;
        widest = widest.max(run.ranks * run.threads.unwrap_or(1));
    }
    let cores = machine::cores();
    let at_once = asked.map_or((cores / widest).max(1), |n| n as usize).min(runs.len().max(1));
    Ok(Places { at_once, threads: (cores / (at_once * widest)).max(1) })
}

/// A worker is this program: what ends it ends one run.
fn start(sweep: &SweepDir, run: RunId, threads: usize) -> Result<Child, Error> {
    let program = std::env::current_exe().map_err(fail)?;
    let path = sweep.path.join(format!("logs/{run}.out"));
    let io = |source| Error::Io { path: path.clone(), source };
    let log = File::options().append(true).create(true).open(&path).map_err(io)?;
    let (run, threads) = (run.to_string(), threads.to_string());
    Command::new(program)
        .args(["_point", "--run", &run, "--threads", &threads])
        .current_dir(&sweep.path)
        .stdin(Stdio::null())
        .stdout(log.try_clone().map_err(io)?)
        .stderr(log)
        // Ctrl-C reaches this process alone, which passes it on.
        .process_group(0)
        .spawn()
        .map_err(fail)
}

fn fail(source: std::io::Error) -> Error {
    Error::Io { path: "a worker".into(), source }
}
