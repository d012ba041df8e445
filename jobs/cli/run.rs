//! `convoke run` and `convoke resume`: as one process, as the launcher of several, or as one rank.

use std::io::IsTerminal;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitCode};
use std::time::{Duration, Instant};

use clap::Args;
use convoke_cluster::comm::MpiSession;
use convoke_cluster::driver::{Options, Outcome, Source};
use convoke_cluster::launch::Mpirun;
use convoke_cluster::progress::Verbosity;
use convoke_cluster::run_dir::RunDir;
use convoke_cluster::signals::StopSignals;
use convoke_cluster::workload::Inputs;
use convoke_cluster::{Comm, Error, Exit, JobError, JobText, checkpoint, failpoint, machine};
use rustix::process::{Pid, Signal};
use serde_json::json;
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};

use super::{end, or_default, provenance, say, show};
use crate::registry::{self, Entry};

/// How long ranks may outlive the first of them that ended.
const PATIENCE: Duration = Duration::from_secs(10);

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
        if dir.to_string_lossy().contains(['%', '\n']) {
            let help = "batch systems expand '%' in paths: choose a directory without it";
            return Err(
                JobError::command_line(format!("--dir {} has a '%' or a line break", dir.display()), help).into()
            );
        }
        Ok((text.clone(), Source::New { text, dir }))
    })
}

pub(super) fn resume(args: &ResumeArgs) -> ExitCode {
    start(&args.common, || {
        let (_, text, _) = RunDir::open(&args.dir)?;
        Ok((text, Source::Resume { dir: args.dir.clone(), restart: args.restart }))
    })
}

fn default_dir(name: &str) -> PathBuf {
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
    if ranks == 1 {
        return Ok(as_rank(args, &Comm::solo(), Ok((text, source))));
    }
    // Everything that can be refused is refused here, by one process and with one message.
    let inputs = Inputs { base: base_of(&source, &text)? };
    (entry.price)(&text, &inputs, (ranks, ranks, args.threads.unwrap_or(1)))?;
    launch(args, ranks, &source)
}

fn base_of(source: &Source, text: &JobText) -> Result<PathBuf, Error> {
    match source {
        Source::New { .. } => Ok(text.dir()),
        Source::Resume { dir, .. } => Ok(RunDir::open(dir)?.2.inputs),
    }
}

/// One of the ranks, or the only one.
fn as_rank(args: &CommonArgs, comm: &Comm, source: Result<(JobText, Source), Error>) -> ExitCode {
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
            ExitCode::from(error.exit())
        }
    }
}

fn work(args: &CommonArgs, comm: &Comm, source: Result<(JobText, Source), Error>) -> Result<Outcome, Error> {
    let (text, source) = comm.agree(source)?;
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
        signals: StopSignals::listen()?,
        fault: None,
    };
    (entry.run)(comm, &source, &options)
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

/// Starts the ranks with mpirun and stays until they end.
fn launch(args: &CommonArgs, ranks: usize, source: &Source) -> Result<ExitCode, Error> {
    if convoke_cluster::comm::mpi_library().is_none() {
        return Err(Error::BuiltWithoutMpi { ranks });
    }
    let mpirun = Mpirun::find().ok_or_else(|| Error::Program {
        program: "mpirun".into(),
        problem: "not found on the PATH".into(),
        help: "install an MPI (`cargo xtask quickstart --print` shows how), or use -n 1".into(),
    })?;
    let scratch = std::env::temp_dir().join(format!("convoke-{}", std::process::id()));
    let fail = |problem: std::io::Error| Error::Program {
        program: mpirun.program.display().to_string(),
        problem: problem.to_string(),
        help: "`convoke doctor` checks the launcher".into(),
    };
    std::fs::create_dir_all(&scratch).map_err(fail)?;
    let mut command = mpirun.command(ranks, &scratch);
    command.arg(std::env::current_exe().map_err(fail)?);
    let dir = match source {
        Source::New { text, dir } => {
            command.arg("run").arg(&text.path).arg("--dir").arg(dir);
            dir
        }
        Source::Resume { dir, restart } => {
            command.arg("resume").arg(dir);
            if *restart {
                command.arg("--restart");
            }
            dir
        }
    };
    pass_on(args, &mut command);
    // Its own process group: Ctrl-C reaches this process alone, which asks for a checkpoint.
    let child = command.stdin(std::process::Stdio::null()).process_group(0).spawn().map_err(fail)?;
    let code = attend(child, ranks, dir).map_err(fail);
    let _ = std::fs::remove_dir_all(&scratch);
    code
}

fn pass_on(args: &CommonArgs, command: &mut std::process::Command) {
    if let Some(threads) = args.threads {
        command.arg("--threads").arg(threads.to_string());
    }
    if let Some(steps) = args.stop_after {
        command.arg("--stop-after").arg(steps.to_string());
    }
    if args.quiet {
        command.arg("--quiet");
    }
    if args.json {
        command.arg("--json");
    }
    if std::io::stderr().is_terminal() {
        command.env("CONVOKE_TERMINAL", std::env::var("COLUMNS").unwrap_or_else(|_| "100".to_owned()));
    }
}

/// Waits for the ranks; the first signal asks them for a checkpoint, the second ends them.
fn attend(mut child: Child, ranks: usize, dir: &Path) -> std::io::Result<ExitCode> {
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGUSR1])?;
    let pid = Pid::from_child(&child);
    let mut asked = false;
    let mut watch = Watch::of(ranks);
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if watch.sees_a_hang(pid) {
            for rank in children(pid) {
                let _ = rustix::process::kill_process(rank, Signal::KILL);
            }
            child.kill()?;
            child.wait()?;
            let what = format!("a rank ended and the others did not within {} s", PATIENCE.as_secs());
            say::error_line(&format!("convoke: error: {what}; all were ended ({})", last_state(dir)));
            return Ok(ExitCode::from(Exit::Failed as u8));
        }
        for signal in signals.pending() {
            let send = if asked && signal != SIGUSR1 { Signal::TERM } else { Signal::USR1 };
            asked = true;
            let _ = rustix::process::kill_process(pid, send);
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    // Codes below 128 come from our own ranks, which have spoken.
    if code >= 128 {
        say::error_line(&format!("convoke: error: a rank was killed by signal {} ({})", code - 128, last_state(dir)));
        return Ok(ExitCode::from(Exit::Failed as u8));
    }
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(Exit::Failed as u8)))
}

/// Notices a launcher that does not end after one of its ranks is gone: seen once with Open MPI 4.1
/// in about a hundred kills; why is not known.
struct Watch {
    ranks: usize,
    looked: Instant,
    /// Whether the launcher has started a rank.
    begun: bool,
    fewer_since: Option<Instant>,
}

impl Watch {
    fn of(ranks: usize) -> Self {
        Self { ranks, looked: Instant::now(), begun: false, fewer_since: None }
    }

    fn sees_a_hang(&mut self, launcher: Pid) -> bool {
        if self.looked.elapsed() < Duration::from_millis(200) {
            return false;
        }
        self.looked = Instant::now();
        let alive = children(launcher).len();
        self.begun |= alive > 0;
        if alive >= self.ranks || !self.begun {
            self.fewer_since = None;
        } else {
            self.fewer_since.get_or_insert_with(Instant::now);
        }
        self.fewer_since.is_some_and(|since| since.elapsed() > PATIENCE)
    }
}

/// Living processes that `parent` started.
fn children(parent: Pid) -> Vec<Pid> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(|pid| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let mut fields = stat[stat.rfind(')')? + 2..].split(' ');
        let (state, its_parent) = (fields.next()?, fields.next()?);
        let lives = state != "Z" && state != "X" && its_parent == parent.as_raw_nonzero().to_string();
        if lives { Pid::from_raw(pid) } else { None }
    })
    .collect()
}

/// What a run that ended badly has left.
fn last_state(dir: &Path) -> String {
    let newest = checkpoint::list(&dir.join("ckpt")).into_iter().max();
    match newest {
        Some(name) => {
            format!("the checkpoint of step {} is intact; continue with `convoke resume {}`", name.step, dir.display())
        }
        None => format!("no checkpoint was written yet; begin again with `convoke resume {}`", dir.display()),
    }
}
