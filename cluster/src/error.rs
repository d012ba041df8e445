//! What can go wrong, and the exit code that says so to a batch system.

use std::path::PathBuf;

use convoke_data::DataError;
use convoke_kernels::KernelError;
use serde::{Deserialize, Serialize};

use crate::batch::BatchError;
use crate::comm::CommError;
use crate::job::{BadValue, JobError};

/// Exit codes of `convoke` (documented in README.md; batch scripts act on them).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// The job is complete.
    Complete = 0,
    /// Something failed that no other code names.
    Failed = 1,
    /// Bad input: job file, data file or command line. Retrying unchanged is useless.
    BadInput = 2,
    /// The job would not fit into memory or onto the disk.
    WouldNotFit = 3,
    /// The scheduler refused the job.
    Refused = 4,
    /// The run directory holds another job than the one to resume.
    Mismatch = 5,
    /// No valid checkpoint to resume from.
    NoCheckpoint = 6,
    /// The run directory has another owner.
    Locked = 7,
    /// A comparison found differences.
    CheckFailed = 8,
    /// A file fails its checksum.
    Corrupt = 9,
    /// Stopped with a checkpoint: worth requeueing.
    Stopped = 75,
}

impl From<Exit> for i32 {
    fn from(exit: Exit) -> i32 {
        exit as i32
    }
}

/// A failure in the form that travels between ranks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Exit code of the process.
    pub code: u8,
    /// What the user is told.
    pub message: String,
    /// Whether another attempt would meet it again.
    #[serde(default)]
    pub lasting: bool,
}

/// Everything that ends a run early.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The job file or the command line.
    #[error(transparent)]
    Job(#[from] JobError),
    /// A wrong value in the job file; the frame turns it into [`Error::Job`] with its line.
    #[error(transparent)]
    BadValue(#[from] BadValue),
    /// A file.
    #[error(transparent)]
    Data(#[from] DataError),
    /// Data that a workload's own checks refuse; the message names the file.
    #[error(transparent)]
    BadData(Box<dyn std::error::Error + Send + Sync>),
    /// A kernel or the device.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The batch system.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// Another rank is gone.
    #[error(transparent)]
    Comm(#[from] CommError),
    /// All ranks agreed that this one failed.
    #[error("rank {rank}: {}", failure.message)]
    OnRank {
        /// The lowest rank that failed.
        rank: usize,
        /// Its failure.
        failure: Failure,
    },
    /// This rank's own failure, which all ranks have agreed on.
    #[error(transparent)]
    Agreed(Box<Error>),
    /// The mathematics of a workload cannot go on.
    #[error("{workload}: {source}")]
    Workload {
        /// Registry name.
        workload: &'static str,
        /// What happened.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A bug, caught at the rank's edge.
    #[error("internal error (please report it): {message}")]
    Panicked {
        /// The panic's message.
        message: String,
    },
    /// The state has become NaN or infinite.
    #[error(
        "the state's '{field}' is not finite after step {step}; nothing was overwritten\n  help: the method diverged: check the data, or lower its step size or relaxation"
    )]
    NotFinite {
        /// Name of the array.
        field: String,
        /// Steps done.
        step: u64,
    },
    /// The plan does not fit the machine.
    #[error(
        "the job would not fit: {what} needs {needed} on {host} ({ranks} ranks of {per_rank}), and {available} is there\n  help: {help}"
    )]
    WouldNotFit {
        /// Memory or disk.
        what: &'static str,
        /// Host or directory.
        host: String,
        /// Ranks on that host.
        ranks: usize,
        /// Per rank.
        per_rank: String,
        /// In all.
        needed: String,
        /// What is there.
        available: String,
        /// What to do.
        help: String,
    },
    /// Another process owns the run directory.
    #[error("{}: the run directory is owned by {owner}\n  help: {help}", dir.display())]
    Locked {
        /// Run directory.
        dir: PathBuf,
        /// Who and since when.
        owner: String,
        /// What to do.
        help: String,
    },
    /// This attempt was overtaken: a newer one owns the run directory.
    #[error("{}: attempt {mine} was overtaken by attempt {newest}; stopped without writing", dir.display())]
    Fenced {
        /// Run directory.
        dir: PathBuf,
        /// This attempt.
        mine: u32,
        /// The attempt that owns the directory now.
        newest: u32,
    },
    /// The run directory exists and was not asked to be resumed.
    #[error("{}: {found}\n  help: {help}", dir.display())]
    Occupied {
        /// Run directory.
        dir: PathBuf,
        /// What lies there.
        found: String,
        /// What to do.
        help: String,
    },
    /// The run directory's job is not the one that its checkpoints were made with.
    #[error("{}: {key} was {before} when the run started and is {now} now\n  help: start a new run for a changed job", file.display())]
    Mismatch {
        /// File that differs.
        file: PathBuf,
        /// Key or property that differs.
        key: String,
        /// Value at the start of the run.
        before: String,
        /// Value now.
        now: String,
    },
    /// The run directory is laid out in a way that this program does not know.
    #[error("{}: layout {found} is of a newer convoke; this one reads layout {known}\n  help: go on with the program that made it, or begin a new run", dir.display())]
    Newer {
        /// Run directory.
        dir: PathBuf,
        /// Number of its layout.
        found: u64,
        /// The newest that this program reads.
        known: u64,
    },
    /// Nothing to resume from.
    #[error("{}: no valid checkpoint ({why})\n  help: {help}", dir.display())]
    NoCheckpoint {
        /// Run directory.
        dir: PathBuf,
        /// Why each candidate was refused.
        why: String,
        /// What to do.
        help: String,
    },
    /// A checkpoint's content does not have the state's shape.
    #[error("{}: checkpoint field '{field}' {problem}", dir.display())]
    Restore {
        /// Checkpoint directory.
        dir: PathBuf,
        /// Field of the state.
        field: String,
        /// What is wrong.
        problem: String,
    },
    /// Checkpoints fail again and again.
    #[error(
        "{failures} checkpoints in a row could not be written, the last because: {last}\n  help: free disk space or choose another run directory, then `convoke resume`"
    )]
    CheckpointsFail {
        /// How many in a row.
        failures: u32,
        /// The last reason.
        last: String,
    },
    /// Started as several ranks without MPI inside.
    #[error(
        "started as one of {ranks} ranks, but this convoke was built without MPI\n  help: build with the default features (`cargo build --release`), or start it without a launcher"
    )]
    BuiltWithoutMpi {
        /// Ranks that the launcher announced.
        ranks: usize,
    },
    /// MPI was initialised before.
    #[error("MPI is already in use in this process")]
    MpiUnusable,
    /// The launcher or another program could not be run.
    #[error("{program}: {problem}\n  help: {help}")]
    Program {
        /// Program name.
        program: String,
        /// What happened.
        problem: String,
        /// What to do.
        help: String,
    },
    /// A file system operation on our own files failed.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
}

impl Error {
    /// Wraps an error of a workload's own.
    pub fn workload(name: &'static str, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Workload { workload: name, source: Box::new(source) }
    }

    /// The exit code that stands for this error.
    pub fn exit(&self) -> u8 {
        let exit = match self {
            Self::OnRank { failure, .. } | Self::Comm(CommError::PeerFailed { failure, .. }) => return failure.code,
            Self::Agreed(error) => return error.exit(),
            Self::Job(_)
            | Self::BadValue(_)
            | Self::BadData(_)
            | Self::BuiltWithoutMpi { .. }
            | Self::Occupied { .. } => Exit::BadInput,
            Self::Data(DataError::Unreadable { .. }) => Exit::Corrupt,
            Self::Data(error) if !is_ours(error) => Exit::BadInput,
            Self::WouldNotFit { .. } => Exit::WouldNotFit,
            Self::Mismatch { .. } | Self::Newer { .. } => Exit::Mismatch,
            Self::NoCheckpoint { .. } => Exit::NoCheckpoint,
            Self::Batch(_) => Exit::Refused,
            Self::Locked { .. } | Self::Fenced { .. } => Exit::Locked,
            Self::Restore { .. } => Exit::Corrupt,
            Self::Data(_)
            | Self::Kernel(_)
            | Self::Comm(_)
            | Self::Workload { .. }
            | Self::Panicked { .. }
            | Self::NotFinite { .. }
            | Self::CheckpointsFail { .. }
            | Self::MpiUnusable
            | Self::Program { .. }
            | Self::Io { .. } => Exit::Failed,
        };
        exit as u8
    }

    /// The form that travels between ranks.
    pub fn failure(&self) -> Failure {
        Failure { code: self.exit(), message: self.to_string(), lasting: self.is_lasting() }
    }

    /// Whether another attempt would meet it again: mathematics and input do not change, machines do.
    pub fn is_lasting(&self) -> bool {
        match self {
            Self::OnRank { failure, .. } | Self::Comm(CommError::PeerFailed { failure, .. }) => failure.lasting,
            Self::Agreed(error) => error.is_lasting(),
            Self::Workload { .. } | Self::NotFinite { .. } => true,
            _ => self.exit() != Exit::Failed as u8,
        }
    }

    /// Whether every rank already knows of it, so that all can leave in order.
    pub fn is_agreed(&self) -> bool {
        matches!(self, Self::OnRank { .. } | Self::Agreed(_))
    }
}

/// Failures of our own writing, rather than of a file that somebody gave us.
fn is_ours(error: &DataError) -> bool {
    matches!(
        error,
        DataError::Unverified { .. }
            | DataError::Incomplete { .. }
            | DataError::Overlap { .. }
            | DataError::OutOfBounds { .. }
            | DataError::Hdf5 { .. }
            | DataError::Io { .. }
    )
}

/// Short for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
