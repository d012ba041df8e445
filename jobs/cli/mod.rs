//! The command line: parse, dispatch, and say what went wrong.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use convoke_cluster::{Error, Exit};
use rustix::fs::Mode;

mod analyse;
mod cancel;
mod catalogue;
mod change;
mod check;
mod doctor;
mod gc;
mod logs;
mod run;
pub mod say;
mod status;
mod submit;
mod supervise;
mod sweep;
mod verify;
mod weights;

use say::{error_line, line};

/// Large structured scientific workloads from one job file, on a laptop or across a cluster.
#[derive(Debug, Parser)]
#[command(name = "convoke", version, max_term_width = 100, after_help = EXAMPLES)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "Examples:
  convoke new tomography > job.toml      a commented job file to start from
  convoke check job.toml                 validate it and see what it costs
  convoke run job.toml -n 4              run it on four ranks
  convoke resume runs/shepp-logan-1a2b   go on after a stop or a crash
  convoke submit job.toml                hand it to Slurm, which keeps it going to its end
  convoke sweep sweep.toml -j 4          run it at many points
  convoke status                         where all runs stand
  convoke analyse runs/shepp-logan-1a2b  figures and pictures of the result
  convoke weights runs/flow-1a2b a.safetensors   a trained operator for other programs

Exit codes: 0 complete, 1 failed, 2 bad input, 3 would not fit, 4 the batch system refused, 5 other job in the run directory,
6 no valid checkpoint, 7 run directory is owned, 8 comparison found differences, 9 damaged file,
75 stopped with a checkpoint (worth requeueing).";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a job, alone or on several ranks.
    Run(run::RunArgs),
    /// Go on with a run from its newest valid checkpoint, on any number of ranks.
    Resume(run::ResumeArgs),
    /// Hand a job to the batch system, which keeps it going to its end.
    Submit(submit::SubmitArgs),
    /// Run one job at many points, here or as job arrays, and gather what they find in one table.
    Sweep(sweep::SweepArgs),
    /// Show where runs and sweeps stand.
    Status(status::StatusArgs),
    /// Show what a submitted run has said, or what happened to any run.
    Logs(logs::LogsArgs),
    /// Stop a run with a checkpoint, wherever it works.
    Cancel(cancel::CancelArgs),
    /// Check every byte of a run against what was recorded of it.
    Verify(verify::VerifyArgs),
    /// Remove what runs no longer need and what killed launchers left.
    Gc(gc::GcArgs),
    /// The batch process of a submitted run.
    #[command(name = "_supervise", hide = true)]
    Supervise(supervise::SuperviseArgs),
    /// One run of a sweep.
    #[command(name = "_point", hide = true)]
    Point(sweep::PointArgs),
    /// Validate a job file and price it: memory, bytes sent, steps, disk. No side effects.
    Check(check::CheckArgs),
    /// Show the workloads and the job files that come with them.
    List(catalogue::ListArgs),
    /// Print a commented job file for a workload.
    New(catalogue::NewArgs),
    /// Look at results and at any HDF5 file: summary, pictures, comparison, report, export.
    Analyse(analyse::AnalyseArgs),
    /// Write a trained neural operator as .safetensors, with the names of other programs if wanted.
    Weights(weights::WeightsArgs),
    /// Show what this machine offers, and what each absence means.
    Doctor(doctor::DoctorArgs),
    /// Print completions for a shell, e.g. `source <(convoke completions bash)`.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// Where a command line stands when it has nothing more to do.
type Done = Result<Exit, Error>;

/// Runs the program.
pub fn main() -> ExitCode {
    // Under a launcher, every rank parses the same line; only one may print usage and versions.
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            let code = if error.use_stderr() { Exit::BadInput } else { Exit::Complete };
            let _ = error.print();
            return ExitCode::from(code as u8);
        }
    };
    // What runs write is their user's alone, as in a batch job. What is exported from them is as that user wants it.
    if !matches!(args.command, Command::Analyse(_) | Command::Weights(_)) {
        rustix::process::umask(Mode::RWXG | Mode::RWXO);
    }
    let done = match args.command {
        Command::Run(args) => return run::run(&args),
        Command::Resume(args) => return run::resume(&args),
        Command::Submit(args) => submit::submit(&args),
        Command::Sweep(args) => sweep::sweep(&args),
        Command::Point(args) => return sweep::point(&args),
        Command::Status(args) => status::status(&args),
        Command::Logs(args) => logs::logs(&args),
        Command::Cancel(args) => cancel::cancel(&args),
        Command::Verify(args) => verify::verify(&args),
        Command::Gc(args) => gc::gc(&args),
        Command::Supervise(args) => return supervise::supervise(&args),
        Command::Check(args) => check::check(&args),
        Command::List(args) => catalogue::list(&args),
        Command::New(args) => catalogue::new(&args),
        Command::Analyse(args) => analyse::analyse(&args),
        Command::Weights(args) => weights::weights(&args),
        Command::Doctor(args) => doctor::doctor(&args),
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Args::command(), "convoke", &mut text);
            line(String::from_utf8_lossy(&text).trim_end());
            Ok(Exit::Complete)
        }
    };
    end(done)
}

/// The process's exit code; an error is shown first.
fn end(done: Done) -> ExitCode {
    match done {
        Ok(exit) => ExitCode::from(exit as u8),
        Err(error) => {
            show(&error);
            ExitCode::from(error.exit())
        }
    }
}

/// Shows an error: the line of the job file where there is one, else one sentence.
pub fn show(error: &Error) {
    let mut inner = error;
    while let Error::Agreed(source) = inner {
        inner = source;
    }
    match inner {
        Error::Job(job) => {
            error_line(&format!("convoke: error: {job}"));
            if let Some(frame) = say::frame(job) {
                error_line(&frame);
            }
            if let Some(help) = job.advice() {
                error_line(&format!("  help: {help}"));
            }
        }
        other => error_line(&format!("convoke: error: {other}")),
    }
}

/// The git commit and version that this program was built from.
pub fn provenance() -> Vec<(&'static str, String)> {
    use convoke_data::schema::provenance as p;
    let cuda = convoke_cluster::machine::cuda_driver().map(|version| (p::CUDA_VERSION, version));
    let mut known = vec![
        (p::CONVOKE_VERSION, env!("CARGO_PKG_VERSION").to_owned()),
        (p::GIT_COMMIT, env!("CONVOKE_GIT_COMMIT").to_owned()),
        (p::GIT_DIRTY, env!("CONVOKE_GIT_DIRTY").to_owned()),
        (p::MPI_VERSION, convoke_cluster::comm::mpi_library().unwrap_or_else(|| "none".to_owned())),
    ];
    known.extend(cuda);
    known
}

/// A path that the user gave, or the default.
fn or_default(path: Option<&PathBuf>, default: impl FnOnce() -> PathBuf) -> PathBuf {
    path.cloned().unwrap_or_else(default)
}
