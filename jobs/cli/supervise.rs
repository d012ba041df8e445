//! `convoke _supervise`: the batch process of a submitted run. Its working directory is the run directory.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use convoke_cluster::launch::Launcher;
use convoke_cluster::supervisor::{self, BatchJob, Supervisor};
use convoke_cluster::{Error, run_dir::RunDir};

use super::{end, run::mpirun, say};

/// Options of `convoke _supervise`.
#[derive(Debug, Args)]
pub struct SuperviseArgs {
    #[command(flatten)]
    ways: Ways,
}

/// How ranks are launched: what the site profile said at submission.
#[derive(Debug, Args)]
pub struct Ways {
    /// `--mpi=` of srun.
    #[arg(long)]
    mpi: Option<String>,
    /// Start ranks with mpirun instead of srun.
    #[arg(long)]
    mpirun: bool,
    /// Bind ranks to cores.
    #[arg(long)]
    bind: bool,
    /// Time limit of the batch job.
    #[arg(long)]
    minutes: Option<u64>,
}

impl Ways {
    /// The batch job that this process is the script of.
    pub(super) fn batch(&self, run_id: &str) -> Option<BatchJob> {
        BatchJob::here(run_id, self.minutes.map(|minutes| Duration::from_secs(60 * minutes)))
    }

    /// What starts `ranks` ranks.
    ///
    /// # Errors
    /// No mpirun where it is asked for.
    pub(super) fn launcher(&self, ranks: usize) -> Result<Launcher, Error> {
        if self.mpirun {
            return Ok(Launcher::Mpirun(mpirun(ranks)?));
        }
        Ok(Launcher::Srun { mpi: self.mpi.clone(), bind: self.bind })
    }
}

pub(super) fn supervise(args: &SuperviseArgs) -> ExitCode {
    work(args).map_or_else(|error| end(Err(error)), ExitCode::from)
}

fn work(args: &SuperviseArgs) -> Result<u8, Error> {
    let here = std::env::current_dir().map_err(|source| Error::Io { path: ".".into(), source })?;
    let (dir, ..) = RunDir::open(&here)?;
    dir.refuse_if_others_write()?;
    keep_going(&dir.path, None, |run_id| args.ways.batch(run_id), |ranks| args.ways.launcher(ranks))
}

/// Supervises a run that exists until it ends, or goes on elsewhere; the exit code. `threads` of each rank where the
/// job leaves them open; `batch` of a run's identity: the batch job that this process is the script of.
///
/// # Errors
/// A directory that holds no run; ranks that cannot be started at all.
pub(super) fn keep_going(
    dir: &Path,
    threads: Option<usize>,
    batch: impl FnOnce(&str) -> Option<BatchJob>,
    launcher: impl FnOnce(usize) -> Result<Launcher, Error>,
) -> Result<u8, Error> {
    let (dir, text, lock) = RunDir::open(dir)?;
    if dir.is_complete() {
        say::error_line("convoke: the result is there already");
        return Ok(0);
    }
    let job = text.frame()?;
    let ranks = job.run.ranks;
    let program = std::env::current_exe().map_err(|source| Error::Io { path: Path::new("convoke").into(), source })?;
    let mut command = vec![program.into(), "resume".into(), dir.path.clone().into_os_string()];
    if let Some(threads) = job.run.threads.or(threads) {
        command.extend(["--threads".into(), threads.to_string().into()]);
    }
    let batch = batch(&lock.run_id);
    let supervisor = Supervisor {
        dir,
        launcher: launcher(ranks)?,
        ranks,
        command: [command.clone(), command],
        rules: supervisor::rules(&job.run, batch.is_some()),
        stall_timeout: job.run.stall_timeout.0,
        batch,
        say: say::error_line,
    };
    supervisor.supervise()
}
