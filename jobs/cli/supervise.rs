//! `convoke _supervise`: the batch process of a submitted run. Its working directory is the run directory.

use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use convoke_cluster::launch::Launcher;
use convoke_cluster::supervisor::{self, BatchJob, Supervisor};
use convoke_cluster::{Error, run_dir::RunDir};

use super::{end, run::mpirun, say};

/// Options of `convoke _supervise`: what the site profile said at submission.
#[derive(Debug, Args)]
pub struct SuperviseArgs {
    /// `--mpi=` of srun.
    #[arg(long)]
    mpi: Option<String>,
    /// Start ranks with mpirun instead of srun.
    #[arg(long)]
    mpirun: bool,
    /// Bind ranks to cores.
    #[arg(long)]
    bind: bool,
}

pub(super) fn supervise(args: &SuperviseArgs) -> ExitCode {
    work(args).map_or_else(|error| end(Err(error)), ExitCode::from)
}

fn work(args: &SuperviseArgs) -> Result<u8, Error> {
    let here = std::env::current_dir().map_err(|source| Error::Io { path: ".".into(), source })?;
    let (dir, text, lock) = RunDir::open(&here)?;
    dir.refuse_if_others_write()?;
    if dir.is_complete() {
        say::error_line("convoke: the result is there already");
        return Ok(0);
    }
    let job = text.frame()?;
    let ranks = job.run.ranks;
    let launcher = if args.mpirun {
        Launcher::Mpirun(mpirun(ranks)?)
    } else {
        Launcher::Srun { mpi: args.mpi.clone(), bind: args.bind }
    };
    let program = std::env::current_exe().map_err(|source| Error::Io { path: Path::new("convoke").into(), source })?;
    let mut command = vec![program.into(), "resume".into(), here.into_os_string()];
    if let Some(threads) = job.run.threads {
        command.extend(["--threads".into(), threads.to_string().into()]);
    }
    let supervisor = Supervisor {
        dir,
        launcher,
        ranks,
        command: [command.clone(), command],
        rules: supervisor::rules(&job.run, true),
        stall_timeout: job.run.stall_timeout.0,
        batch: BatchJob::here(&lock.run_id),
        say: say::error_line,
    };
    supervisor.supervise()
}
