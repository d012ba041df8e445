//! The one error of this crate.

use std::path::{Path, PathBuf};

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a task stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A command failed, or could not be started.
    #[error(transparent)]
    Shell(#[from] xshell::Error),
    /// A file or folder.
    #[error("{}: {source}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Nothing here can install what is missing.
    #[error("{missing} missing, and {reason}")]
    CannotInstall {
        /// The needs.
        missing: String,
        /// Why not.
        reason: &'static str,
    },
    /// The packages are there, the need is not met.
    #[error("installed, but still missing: {missing} (details above)")]
    StillMissing {
        /// The needs.
        missing: String,
    },
    /// A step of `cargo xtask test`.
    #[error("step `{step}` failed after {seconds:.1} s: {line}\n  its whole output is above and in {}", log.display())]
    Step {
        /// Its name.
        step: &'static str,
        /// How long it ran.
        seconds: f64,
        /// The command line.
        line: String,
        /// The file with its output.
        log: PathBuf,
    },
    /// Dependencies whose licence does not fit.
    #[error("{count} dependencies have a licence that is not on the list")]
    Licences {
        /// How many.
        count: usize,
    },
    /// A program answered with something else than the JSON that was expected.
    #[error("{program}: {source}")]
    Json {
        /// The command.
        program: &'static str,
        /// Where it broke.
        source: serde_json::Error,
    },
    /// No Python environment for the peers.
    #[error("no Python environment: {reason}")]
    Python {
        /// Why.
        reason: String,
    },
    /// No benchmark against peers of that name.
    #[error("there is no {}; there is: {known}", path.display())]
    NoBenchmark {
        /// The script.
        path: PathBuf,
        /// The names that exist.
        known: String,
    },
    /// Runs did not survive the faults, or there was no way to inject them.
    #[error("fault injection: {reason}")]
    Faults {
        /// The counts, or what stood in the way.
        reason: String,
    },
    /// The bundle runs on 64-bit x86 Linux only.
    #[error("a bundle can only be made on x86-64 Linux with glibc, this is {here}")]
    BundleHost {
        /// This machine.
        here: String,
    },
    /// A bundle beyond its limit.
    #[error("{} has {mib:.1} MiB, more than {limit_mib} MiB", path.display())]
    TooLarge {
        /// The archive.
        path: PathBuf,
        /// Its size.
        mib: f64,
        /// The limit.
        limit_mib: u64,
    },
    /// A shared library that the loader itself does not find.
    #[error("{program} needs {library}, which is not found")]
    NoLibrary {
        /// Who needs it.
        program: String,
        /// Its name.
        library: String,
    },
}

impl Error {
    /// For `map_err`: an error of the file system at `path`.
    pub fn file(path: &Path) -> impl Fn(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { path: path.clone(), source }
    }
}
