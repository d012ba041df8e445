//! What the path on the command line names: a run directory or a file.

use std::path::{Path, PathBuf};

use convoke_cluster::run_dir::{Lock, RunDir};
use convoke_cluster::{Error, JobText};
use convoke_data::DataError;
use convoke_data::store::Reader;

/// A run directory, read.
#[derive(Debug)]
pub struct Run {
    /// The directory.
    pub dir: RunDir,
    /// The job's text.
    pub text: JobText,
    /// What it was started with.
    pub lock: Lock,
    /// Its events, oldest first.
    pub events: Vec<serde_json::Value>,
}

/// What is to be analysed.
#[derive(Debug)]
pub struct Source {
    /// The path as given.
    pub path: PathBuf,
    /// The run, if the path is its directory.
    pub run: Option<Run>,
    /// The result file; a run may have none yet.
    pub file: Option<Reader>,
}

impl Source {
    /// Opens a run directory or a file, in which no array may claim more than `max_bytes`.
    ///
    /// # Errors
    /// No such path, a directory without a run, an unreadable file.
    pub fn open(path: &Path, max_bytes: Option<u64>) -> Result<Self, Error> {
        let read = |file: &Path| Reader::open_foreign(file, max_bytes);
        if !path.exists() {
            return Err(DataError::NotFound { path: path.to_owned() }.into());
        }
        if !path.is_dir() {
            return Ok(Self { path: path.to_owned(), run: None, file: Some(read(path)?) });
        }
        let result = path.join("result.h5");
        // A result that was copied without its run is as good as the file itself.
        if result.exists() && !path.join("spec.lock.json").exists() {
            return Ok(Self { path: path.to_owned(), run: None, file: Some(read(&result)?) });
        }
        let (dir, text, lock) = RunDir::open(path)?;
        let events = dir.events();
        let file = if result.exists() { Some(read(&result)?) } else { None };
        Ok(Self { path: path.to_owned(), run: Some(Run { dir, text, lock, events }), file })
    }

    /// The result file of a source that must have one.
    ///
    /// # Errors
    /// The run has no result yet.
    pub fn result(&self) -> Result<&Reader, Error> {
        self.file.as_ref().ok_or_else(|| Error::Occupied {
            dir: self.path.clone(),
            found: "has no result yet (result.h5 is missing)".to_owned(),
            help: format!("finish the run with `convoke resume {}`", self.path.display()),
        })
    }

    /// Where pictures go: `pictures/` of a run, `NAME-pictures/` beside a file.
    pub fn pictures(&self) -> PathBuf {
        self.beside("pictures")
    }

    /// Where the report goes: `report.html` of a run, `NAME-report.html` beside a file.
    pub fn report(&self) -> PathBuf {
        self.beside("report.html")
    }

    /// A name for something that is made from this source.
    pub fn beside(&self, name: &str) -> PathBuf {
        if self.path.is_dir() {
            return self.path.join(name);
        }
        let stem = self.path.file_stem().unwrap_or_default().to_string_lossy();
        self.path.with_file_name(format!("{stem}-{name}"))
    }
}
