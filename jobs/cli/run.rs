//! `convoke run` and `convoke resume`: as one process, as the launcher of several, or as one rank.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::Args;
use convoke_cluster::comm::MpiSession;
use convoke_cluster::driver::{From, Options, Outcome, Placement, Source};
use convoke_cluster::launch::{Launcher, Mpirun};
use convoke_cluster::progress::Verbosity;
use convoke_cluster::run_dir::RunDir;
use convoke_cluster::signals::StopSignals;
use convoke_cluster::supervisor::{self, DEADLINE, Rules, SUCCEEDS, Supervisor};
use convoke_cluster::workload::Inputs;
use convoke_cluster::{Comm, Error, Exit, JobError, JobText, failpoint, machine};
use serde_json::json;

use super::{change, end, or_default, provenance, say, show};
use crate::registry::{self, Entry};

/// Options of `convoke run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The job file.
    job: PathBuf,
    /// Directory of the run, new or empty [default: runs/NAME-DATE-TIME].
    #[arg(long)]
    dir: Option<PathBuf>,
    #[command(flatten)]
    common: CommonArgs,
}

/// Options of `convoke resume`.
#[derive(Debug, Args)]
pub struct ResumeArgs {
    /// The run directory.
    dir: PathBuf,
    /// Begin again from step 0 and ignore all checkpoints.
    #[arg(long)]
    restart: bool,
    /// Go on from this checkpoint instead of the newest: a step, or a name such as s00012000.e00002. Newer ones no longer count.
    #[arg(long, value_name = "STEP|NAME", conflicts_with = "restart")]
    from: Option<String>,
    /// Change a key that a run may go on with (run.*, checkpoint.*, slurm.*, and what the workload allows, such as more
    /// iterations); any number of times.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Take the directory from an owner that cannot be asked (another host, silent for less than 180 s): the run's identity, as
    /// the refusal shows it. An owner that still lives is fenced off.
    #[arg(long, value_name = "RUN_ID")]
    steal: Option<String>,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Debug, Args)]
struct CommonArgs {
    /// Number of ranks, instead of the job's own; starts mpirun.
    #[arg(short = 'n', long, value_name = "RANKS")]
    ranks: Option<usize>,
    /// Threads of each rank [default: cores of the host / ranks on it].
    #[arg(long)]
    threads: Option<usize>,
    /// How often a run that is killed, hangs or loses a rank is started again, at most, counting the first start.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    attempts: u32,
    /// Stop with a checkpoint (exit code 75) after this many steps.
    #[arg(long, value_name = "STEPS")]
    stop_after: Option<u64>,
    /// Say nothing but errors.
    #[arg(short, long)]
    quiet: bool,
    /// At the end, a summary for scripts on standard output.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &RunArgs) -> ExitCode {
    start(&args.common, || {
        let text = JobText::read(&args.job)?;
        let name = text.parse_name().unwrap_or_else(|| "run".to_owned());
        let dir = or_default(args.dir.as_ref(), || default_dir(&name));
        new_dir(&dir)?;
        Ok((text.clone(), Source::New { text, dir }))
    })
}

pub(super) fn resume(args: &ResumeArgs) -> ExitCode {
    start(&args.common, || {
        let (run, text, lock) = RunDir::open(&args.dir)?;
        run.refuse_if_others_write()?;
        let from = change::origin(&run, args.restart, args.from.as_deref())?;
        if let Some(run_id) = &args.steal {
            change::steal(&run, &lock, run_id)?;
        }
        let text = if args.set.is_empty() { text } else { change::here(&run, &text, &lock, &args.set)? };
        Ok((text, Source::Resume { dir: args.dir.clone(), from }))
    })
}

/// Whether a directory of that name can be a run directory.
pub(super) fn new_dir(dir: &Path) -> Result<(), Error> {
    let whole = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    if whole.to_string_lossy().contains(['%', '\n']) {
        let help = "batch systems expand '%' in paths: choose a directory without it";
        return Err(JobError::command_line(format!("--dir {} has a '%' or a line break", dir.display()), help).into());
    }
    Ok(())
}

/// `runs/NAME-DATE-TIME`
pub(super) fn default_dir(name: &str) -> PathBuf {
    let now = jiff::Zoned::now().strftime("%Y%m%d-%H%M%S").to_string();
    let first = PathBuf::from(format!("runs/{name}-{now}"));
    let more = (2..).map(|i| PathBuf::from(format!("runs/{name}-{now}-{i}")));
    std::iter::once(first).chain(more).find(|p| !p.exists()).expect("an endless list")
}

/// Finds out which part this process plays, and plays it.
fn start(args: &CommonArgs, source: impl FnOnce() -> Result<(JobText, Source), Error>) -> ExitCode {
    match MpiSession::join() {
        Err(error) => end(Err(error)),
        // The session ends (MPI_Finalize) before the exit code is returned.
        Ok(Some((_session, comm))) => as_rank(args, &comm, source()),
        Ok(None) => alone(args, source()).unwrap_or_else(|error| end(Err(error))),
    }
}

/// Started without a launcher: do it here, or launch the ranks.
fn alone(args: &CommonArgs, source: Result<(JobText, Source), Error>) -> Result<ExitCode, Error> {
    let (text, source) = source?;
    let entry = registry::of(&text)?;
    let ranks = args.ranks.map_or_else(|| (entry.ranks)(&text), Ok)?;
    if !(1..=4096).contains(&ranks) {
        return Err(JobError::command_line(format!("-n {ranks}: expected 1 to 4096 ranks"), "start fewer ranks").into());
    }
    if let (Source::Resume { dir, .. }, false) = (&source, is_supervised()) {
        let dir = RunDir { path: dir.clone() };
        dir.forget_stop();
        dir.event("begun", json!({ "epoch": dir.newest_epoch() }));
    }
    if ranks == 1 && (args.attempts == 1 || is_supervised()) {
        return Ok(as_rank(args, &Comm::solo(), Ok((text, source))));
    }
    // Everything that can be refused is refused here, by one process and with one message.
    let inputs = Inputs { base: base_of(&source, &text)? };
    (entry.price)(&text, &inputs, &Placement::here(ranks, args.threads.unwrap_or(1)))?;
    supervise(args, ranks, &source, &text)
}

/// Whether a supervisor of ours started this process.
fn is_supervised() -> bool {
    std::env::var_os(SUCCEEDS).is_some()
}

fn base_of(source: &Source, text: &JobText) -> Result<PathBuf, Error> {
    match source {
        Source::New { .. } => Ok(text.dir()),
        Source::Resume { dir, .. } => Ok(RunDir::open(dir)?.2.inputs),
    }
}

/// One of the ranks, or the only one.
fn as_rank(args: &CommonArgs, comm: &Comm, source: Result<(JobText, Source), Error>) -> ExitCode {
    let resumed = match &source {
        Ok((_, Source::Resume { dir, .. })) if comm.is_root() => Some(RunDir { path: dir.clone() }),
        _ => None,
    };
    let before = resumed.as_ref().map_or(0, RunDir::newest_epoch);
    let outcome = work(args, comm, source);
    match outcome {
        Ok(outcome) => {
            if args.json && comm.is_root() {
                say::json(&summary(&outcome));
            }
            ExitCode::from(outcome.exit as u8)
        }
        Err(error) => {
            if comm.is_root() {
                show(&error);
            }
            // One that came to own the directory has left its own word of the failure.
            if let Some(dir) = resumed.filter(|dir| is_supervised() && dir.newest_epoch() == before) {
                dir.event("refused", json!({ "code": error.exit(), "error": error.to_string() }));
            }
            ExitCode::from(error.exit())
        }
    }
}

fn work(args: &CommonArgs, comm: &Comm, source: Result<(JobText, Source), Error>) -> Result<Outcome, Error> {
    // Before the first word to the other ranks: whoever sees one of them at work may signal to all.
    let signals = StopSignals::listen();
    let (text, source) = comm.agree(source)?;
    let signals = comm.agree(signals)?;
    comm.agree(failpoint::arm_from_environment(comm.rank()))?;
    let entry: &Entry = comm.agree(registry::of(&text))?;
    if let Some(asked) = args.ranks
        && asked != comm.size()
    {
        let message = format!("-n {asked}, but a launcher started {} ranks", comm.size());
        let wrong = JobError::command_line(message, "leave out -n under mpirun or srun");
        return comm.agree(Err(wrong.into()));
    }
    let hosts = comm.all_gather(comm.host().as_bytes())?;
    let here = hosts.iter().filter(|h| h.as_slice() == comm.host().as_bytes()).count();
    let threads = args.threads.or(text.threads()).unwrap_or((machine::cores() / here).max(1));
    // A pool that exists already (tests) keeps its size.
    let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
    let options = Options {
        verbosity: if args.quiet { Verbosity::Quiet } else { Verbosity::Normal },
        stop_after: args.stop_after,
        threads,
        device: None,
        provenance: provenance(),
        signals,
        deadline: number(DEADLINE).map(|s| SystemTime::UNIX_EPOCH + Duration::from_secs(s)),
        succeeds: number(SUCCEEDS).and_then(|n| n.try_into().ok()).unwrap_or(0),
        fault: None,
    };
    (entry.run)(comm, &source, &options)
}

/// A number that the supervisor left in the environment.
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn summary(outcome: &Outcome) -> serde_json::Value {
    let figures: serde_json::Map<_, _> =
        outcome.history.columns.iter().map(|(name, values)| (name.clone(), json!(values.last()))).collect();
    json!({
        "state": if outcome.exit == Exit::Complete { "complete" } else { "stopped" },
        "dir": outcome.dir, "steps": outcome.steps, "seconds": outcome.seconds, "reason": outcome.reason,
        "figures": figures, "bytes_sent": outcome.traffic.bytes, "plan": outcome.plan,
        "checkpoints": outcome.overhead.checkpoints, "checkpoint_overhead": outcome.overhead,
        "peak_memory": machine::peak_memory(),
    })
}

/// Starts the ranks and keeps them going.
fn supervise(args: &CommonArgs, ranks: usize, source: &Source, text: &JobText) -> Result<ExitCode, Error> {
    let launcher = if ranks == 1 { Launcher::Alone } else { Launcher::Mpirun(mpirun(ranks)?) };
    let job = text.frame()?;
    let (first, dir) = match source {
        Source::New { text, dir } => (vec!["run".into(), text.path.clone().into(), "--dir".into(), dir.into()], dir),
        Source::Resume { dir, from } => {
            let from: Vec<OsString> = match from {
                From::Newest => Vec::new(),
                From::Start => vec!["--restart".into()],
                From::Checkpoint(name) => vec!["--from".into(), name.to_string().into()],
            };
            (["resume".into(), dir.into()].into_iter().chain(from).collect::<Vec<OsString>>(), dir)
        }
    };
    let program = std::env::current_exe().map_err(|e| Error::Io { path: "the program itself".into(), source: e })?;
    let whole = |words: Vec<OsString>| [vec![program.clone().into()], words, passed_on(args, ranks)].concat();
    let supervisor = Supervisor {
        dir: RunDir { path: dir.clone() },
        launcher,
        ranks,
        command: [whole(first), whole(vec!["resume".into(), dir.into()])],
        rules: Rules { attempts: args.attempts, ..supervisor::rules(&job.run, false) },
        stall_timeout: job.run.stall_timeout.0,
        batch: None,
        say: say::error_line,
    };
    Ok(ExitCode::from(supervisor.supervise()?))
}

/// The launcher of an MPI that is inside this program.
pub(super) fn mpirun(ranks: usize) -> Result<Mpirun, Error> {
    if convoke_cluster::comm::mpi_library().is_none() {
        return Err(Error::BuiltWithoutMpi { ranks });
    }
    Mpirun::find().ok_or_else(|| Error::Program {
        program: "mpirun".into(),
        problem: "not found on the PATH".into(),
        help: "install an MPI (`cargo xtask quickstart --print` shows how), or use -n 1".into(),
    })
}

/// The options that every attempt gets.
fn passed_on(args: &CommonArgs, ranks: usize) -> Vec<OsString> {
    let mut words: Vec<OsString> = if ranks == 1 { vec!["-n".into(), "1".into()] } else { Vec::new() };
    for (name, value) in [("--threads", args.threads.map(|n| n as u64)), ("--stop-after", args.stop_after)] {
        words.extend(value.into_iter().flat_map(|v| [name.into(), v.to_string().into()]));
    }
    let flags = [("--quiet", args.quiet), ("--json", args.json)];
    words.extend(flags.iter().filter(|(_, on)| *on).map(|(name, _)| (*name).into()));
    words
}
