//! `convoke cancel`: a run stops with a checkpoint, wherever it works.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use convoke_cluster::batch::{Entry, Scheduler};
use convoke_cluster::machine::host_name;
use convoke_cluster::run_dir::RunDir;
use convoke_cluster::sweep::{State, SweepDir};
use convoke_cluster::{Error, Exit, checkpoint};
use rustix::process::{Pid, Signal, kill_process};

use super::{Done, say};

/// Options of `convoke cancel`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  convoke cancel runs/heat-20260101-120000        write a checkpoint, then stop
  convoke cancel runs/heat-20260101-120000 --now  at once; work since the newest checkpoint is lost")]
pub struct CancelArgs {
    /// The directory of a run or sweep.
    dir: PathBuf,
    /// At once, without a checkpoint.
    #[arg(long)]
    now: bool,
    /// How long to wait for the checkpoint, in seconds.
    #[arg(long, default_value_t = 300, value_name = "SECONDS")]
    wait: u64,
}

pub(super) fn cancel(args: &CancelArgs) -> Done {
    if SweepDir::is_one(&args.dir) {
        return cancel_sweep(args, &SweepDir::open(&args.dir)?);
    }
    let (run, _, lock) = RunDir::open(&args.dir)?;
    let entry = if run.submission().is_some() { Scheduler.find(&lock.run_id)? } else { None };
    let owner = run.owner().filter(|owner| run.is_alive(owner));
    if entry.is_none() && owner.is_none() {
        say::line(&format!("{} is not at work: nothing to cancel", run.path.display()));
        return Ok(Exit::Complete);
    }
    run.ask_to_stop()?;
    if let Some(entry) = &entry {
        cancel_job(entry, args.now)?;
    } else if let Some(owner) = owner.filter(|owner| owner.host == host_name()) {
        let signal = if args.now { Signal::KILL } else { Signal::USR1 };
        if let Some(pid) = i32::try_from(owner.pid).ok().and_then(Pid::from_raw) {
            // It may have ended a moment ago.
            let _ = kill_process(pid, signal);
        }
    }
    let ended = wait(&run, &lock.run_id, entry.is_some(), Duration::from_secs(args.wait))?;
    let newest = checkpoint::list(&run.checkpoints()).into_iter().max();
    let kept = newest.map_or_else(|| "no checkpoint".to_owned(), |n| format!("the checkpoint of step {}", n.step));
    if ended {
        say::line(&format!("{} has stopped; {kept} is there", run.path.display()));
        Ok(Exit::Complete)
    } else {
        say::line(&format!("{} was asked to stop and has not yet; `convoke cancel --now` ends it", run.path.display()));
        Ok(Exit::Failed)
    }
}

/// No further run is begun, and those at work stop.
fn cancel_sweep(args: &CancelArgs, sweep: &SweepDir) -> Done {
    sweep.ask_to_stop()?;
    let arrays = sweep.arrays();
    let queue = if arrays.is_empty() { Vec::new() } else { Scheduler.queue()? };
    for (run, _) in sweep.states(&queue).into_iter().filter(|(_, state)| *state == State::Running) {
        let dir = sweep.run_dir(run);
        if dir.path.exists() {
            dir.ask_to_stop()?;
        }
    }
    for entry in queue.iter().filter(|e| e.is_live() && sweep.array_of(e).is_some()) {
        let id = entry.task_list().map_or_else(|| entry.job.to_string(), |list| format!("{}_[{list}]", entry.job));
        let signal = (!args.now && entry.state == "RUNNING").then_some("USR1");
        Scheduler.cancel(&id, signal)?;
    }
    let begun = Instant::now();
    let at_work = || -> Result<usize, Error> {
        let queue = if arrays.is_empty() { Vec::new() } else { Scheduler.queue()? };
        let states = sweep.states(&queue);
        Ok(states.iter().filter(|(_, state)| matches!(state, State::Running | State::Queued)).count())
    };
    let mut left = at_work()?;
    while left > 0 && begun.elapsed() < Duration::from_secs(args.wait) {
        std::thread::sleep(if arrays.is_empty() { Duration::from_millis(100) } else { Duration::from_secs(2) });
        left = at_work()?;
    }
    let dir = sweep.path.display();
    if left == 0 {
        say::line(&format!("{dir} has stopped; `convoke sweep {dir}` goes on"));
        return Ok(Exit::Complete);
    }
    say::line(&format!("{dir} was asked to stop; {left} of its runs have not yet; `convoke cancel --now` ends them"));
    Ok(Exit::Failed)
}

fn cancel_job(entry: &Entry, now: bool) -> Result<(), Error> {
    let job = entry.job.to_string();
    // The batch script is the supervisor: it passes the signal on once and sees that a stop was asked for.
    let signal = (!now && entry.state == "RUNNING").then_some("USR1");
    Ok(Scheduler.cancel(&job, signal)?)
}

/// Whether it has ended before `patience` is over.
fn wait(run: &RunDir, run_id: &str, batch: bool, patience: Duration) -> Result<bool, Error> {
    let begun = Instant::now();
    while begun.elapsed() < patience {
        let works = run.owner().is_some_and(|owner| run.is_alive(&owner));
        if !works && (!batch || Scheduler.find(run_id)?.is_none()) {
            return Ok(true);
        }
        std::thread::sleep(if batch { Duration::from_secs(2) } else { Duration::from_millis(50) });
    }
    Ok(false)
}
