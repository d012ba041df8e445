//! A sweep: one job file, many points; its directory, its runs and what became of them.
//!
//! ```text
//! runs/resolution-…/     (0700)
//! ├── sweep.toml         the sweep file, base.toml the job file, sweep.lock.json who they are
//! ├── points.csv         the points: ask. Grows by [`SweepDir::extended`], never changes otherwise
//! ├── points/00012/      an ordinary run directory for each run that was begun; 00012-003 is a replicate
//! ├── outcomes/00012.json  how a run ended: tell
//! ├── arrays/a0001.json  the runs of a job array of the batch system, and its number
//! └── table.h5           points and figures of all runs
//! ```

mod design;
mod edit;
mod points;
mod table;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use convoke_data::store::{digest_bytes, write_atomic};
use serde::{Deserialize, Serialize};

use crate::batch::Entry;
use crate::error::{Error, Result};
use crate::job::{JobError, JobText};
use crate::run_dir::{RunDir, make_aside};
use crate::study;

pub use design::{Design, MAX_ROWS, Point, Scale, Sweep, Vary};
pub use edit::with;
pub use points::{INPUTS, VARIABLES, result_of, value as literal};
pub use table::{Estimates, Row, Table};

/// Who a sweep is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Lock {
    /// Identity of the sweep, eight hexadecimal digits.
    pub sweep_id: String,
    /// Its name.
    pub name: String,
    /// The job file, as the user named it.
    pub job: PathBuf,
    /// Directory that relative input paths of the job start from.
    pub inputs: PathBuf,
    /// Put in front of the names in files of points, with a dot.
    #[serde(default, rename = "in")]
    pub table: Option<String>,
    /// Seed of the replicates.
    pub seed: u64,
    /// How often each point is run.
    pub replicates: u32,
    /// How many runs work at once, at most.
    pub max_parallel: Option<u64>,
    /// The keys that vary.
    pub keys: Vec<String>,
}

/// One run of a sweep: a replicate of a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RunId {
    /// Number of the point, from 0.
    pub point: u64,
    /// Number of the replicate, from 0; nothing where points are run once.
    pub replicate: Option<u32>,
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.replicate {
            None => write!(f, "{:05}", self.point),
            Some(replicate) => write!(f, "{:05}-{replicate:03}", self.point),
        }
    }
}

impl std::str::FromStr for RunId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |_| format!("{text:?} is no run of a sweep; expected for example 00012 or 00012-003");
        let (point, replicate) = text.split_once('-').map_or((text, None), |(p, r)| (p, Some(r)));
        let replicate = replicate.map(str::parse).transpose().map_err(wrong)?;
        Ok(Self { point: point.parse().map_err(wrong)?, replicate })
    }
}

/// How a run ended: what the batch system and other programs are told of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// [`State::Complete`], [`State::Failed`] or [`State::Stopped`].
    pub state: State,
    /// Exit code.
    pub exit: u8,
    /// Seconds of all attempts.
    pub seconds: f64,
    /// Attempts.
    pub attempts: u32,
    /// Where it ended.
    pub host: String,
    /// Why, where it failed.
    pub why: String,
}

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Its result is there.
    Complete,
    /// It will not end well by itself.
    Failed,
    /// A user stopped it.
    Stopped,
    /// At work.
    Running,
    /// In the queue.
    Queued,
    /// Begun, and nobody works on it.
    Interrupted,
    /// Not begun.
    Waiting,
}

impl State {
    /// All, in the order of a table.
    pub const ALL: [Self; 7] =
        [Self::Complete, Self::Failed, Self::Stopped, Self::Running, Self::Queued, Self::Interrupted, Self::Waiting];

    /// As people read it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
            Self::Running => "running",
            Self::Queued => "queued",
            Self::Interrupted => "interrupted",
            Self::Waiting => "waiting",
        }
    }
}

/// Runs that went to the batch system together.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Array {
    /// Number in the sweep, from 1.
    pub number: u32,
    /// The batch system's number; nothing while the hand-over is under way.
    pub job: Option<u64>,
    /// Its tasks, in order.
    pub runs: Vec<RunId>,
}

/// A sweep on disk.
#[derive(Debug, Clone)]
pub struct SweepDir {
    /// Where it is.
    pub path: PathBuf,
    /// Who it is.
    pub lock: Lock,
    /// Its points.
    pub points: Vec<Point>,
    base: String,
}

impl SweepDir {
    /// A new sweep, of which nothing is on the disk yet; `dir` is where the sweep file is.
    ///
    /// # Errors
    /// [`Error::Occupied`] for a directory that is there; a file of points that cannot be read.
    pub fn new(path: &Path, sweep: &Sweep, dir: &Path, base: &JobText) -> Result<Self> {
        let table = sweep.table.as_deref();
        let (keys, points) = match &sweep.file {
            Some(file) => points::open(&dir.join(file), table)?,
            None => (sweep.keys(), sweep.points()),
        };
        let nonce = format!("{:?}{}{}", std::time::SystemTime::now(), std::process::id(), path.display());
        let lock = Lock {
            sweep_id: digest_bytes(nonce.as_bytes()).xxh3_128[..8].to_owned(),
            name: sweep.name.clone(),
            job: base.path.clone(),
            inputs: fs::canonicalize(base.dir()).unwrap_or_else(|_| base.dir()),
            seed: sweep.seed,
            replicates: sweep.replicates,
            max_parallel: sweep.max_parallel,
            table: sweep.table.clone(),
            keys,
        };
        if path.exists() {
            return Err(occupied(path));
        }
        let sweep = Self { path: path.to_owned(), lock, points, base: base.text.clone() };
        sweep.bounded(path)
    }

    /// Refuses more runs than a sweep may have.
    fn bounded(self, file: &Path) -> Result<Self> {
        if self.points.len() as u64 * u64::from(self.lock.replicates) > MAX_ROWS {
            let message = format!("{}: {} points are too many", file.display(), self.points.len());
            return Err(JobError::command_line(message, format!("a sweep has at most {MAX_ROWS} runs")).into());
        }
        Ok(self)
    }

    /// Makes the directory of a new sweep, whose file said `text`.
    ///
    /// # Errors
    /// As [`SweepDir::new`]; the disk.
    pub fn make(&self, text: &JobText) -> Result<()> {
        let fill = |draft: &Path| {
            for folder in ["points", "outcomes", "arrays", "logs"] {
                fs::create_dir(draft.join(folder)).map_err(io(&draft.join(folder)))?;
            }
            write_atomic(draft.join("sweep.toml"), text.text.as_bytes())?;
            write_atomic(draft.join("base.toml"), self.base.as_bytes())?;
            write_atomic(draft.join("points.csv"), &points::write(&self.lock.keys, &self.points))?;
            let json = serde_json::to_vec_pretty(&self.lock).expect("a lock is plain data");
            Ok(write_atomic(draft.join("sweep.lock.json"), &json)?)
        };
        make_aside(&self.path, fill, || Err(occupied(&self.path)))
    }

    /// Whether a directory is that of a sweep.
    pub fn is_one(path: &Path) -> bool {
        path.join("sweep.lock.json").exists()
    }

    /// Opens a sweep.
    ///
    /// # Errors
    /// [`Error::Occupied`] for a directory that holds none; a table of points that was damaged.
    pub fn open(path: &Path) -> Result<Self> {
        let none = |found: String| Error::Occupied {
            dir: path.to_owned(),
            found,
            help: "give a sweep file, or the directory that `convoke sweep` printed".to_owned(),
        };
        let lock = fs::read_to_string(path.join("sweep.lock.json"))
            .map_err(|_| none("holds no sweep (sweep.lock.json is missing)".to_owned()))?;
        let lock: Lock = serde_json::from_str(&lock).map_err(|e| none(format!("sweep.lock.json is damaged: {e}")))?;
        let base = JobText::read(&path.join("base.toml"))?.text;
        let points = points::read(&path.join("points.csv"), &lock.keys, None)?;
        Ok(Self { path: path.to_owned(), lock, points, base })
    }

    /// With more points: those of a CSV file whose header names the keys that vary, or of a design.
    ///
    /// # Errors
    /// A file that cannot be read or has other columns.
    pub fn extended(mut self, file: &Path) -> Result<Self> {
        let more = points::more(file, &self.lock.keys, self.lock.table.as_deref())?;
        self.points.extend(more);
        self.bounded(file)
    }

    /// Keeps what [`SweepDir::extended`] brought.
    ///
    /// # Errors
    /// The disk.
    pub fn keep_points(&self) -> Result<()> {
        Ok(write_atomic(self.path.join("points.csv"), &points::write(&self.lock.keys, &self.points))?)
    }

    /// All runs, point by point.
    pub fn runs(&self) -> Vec<RunId> {
        let of = |point: u64| {
            (0..self.lock.replicates).map(move |r| RunId { point, replicate: (self.lock.replicates > 1).then_some(r) })
        };
        (0..self.points.len() as u64).flat_map(of).collect()
    }

    /// The seed of a run's job, where replicates set it.
    pub fn seed(&self, run: RunId) -> Option<u64> {
        run.replicate.map(|replicate| study::seed(self.lock.seed, run.point, replicate))
    }

    /// The values of a run's point for people: without the table that all keys share, numbers with six digits.
    pub fn describe(&self, run: RunId) -> String {
        let point = self.points.get(run.point as usize).map_or(&[] as &[toml::Value], Vec::as_slice);
        let keys = &self.lock.keys;
        let table = |key: &str| key.rfind('.').map_or(0, |dot| dot + 1);
        let shared = keys.first().map_or("", |key| &key[..table(key)]);
        let shared = if keys.len() > 1 && keys.iter().all(|key| key.starts_with(shared)) { shared.len() } else { 0 };
        let word = |value: &toml::Value| match value {
            toml::Value::Float(v) => {
                format!("{v:.5e}").parse().map_or_else(|_| v.to_string(), |v: f64| format!("{v:?}"))
            }
            other => other.to_string(),
        };
        let mut words: Vec<String> =
            keys.iter().zip(point).map(|(key, value)| format!("{} = {}", &key[shared..], word(value))).collect();
        words.extend(run.replicate.map(|r| format!("replicate {r}")));
        words.join(", ")
    }

    /// The job file of a run.
    ///
    /// # Errors
    /// [`JobError`] for a key that cannot be set.
    pub fn text(&self, run: RunId) -> Result<JobText> {
        let point = self.points.get(run.point as usize).cloned().unwrap_or_default();
        let seed = self.seed(run).and_then(|s| i64::try_from(s).ok()).map(toml::Value::Integer);
        let keys = self.lock.keys.iter().map(String::as_str).zip(point);
        let all: Vec<(&str, toml::Value)> = keys.chain(seed.map(|s| ("seed", s))).collect();
        let name = self.lock.job.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let path = self.lock.inputs.join(format!("{name} (point {run})"));
        let located = |bad| JobText { path: self.lock.inputs.join(&name), text: self.base.clone() }.bad(&bad);
        Ok(JobText { text: with(&self.base, &all).map_err(located)?, path })
    }

    /// The directory of a run.
    pub fn run_dir(&self, run: RunId) -> RunDir {
        RunDir { path: self.path.join("points").join(run.to_string()) }
    }

    fn outcome_path(&self, run: RunId) -> PathBuf {
        self.path.join(format!("outcomes/{run}.json"))
    }

    /// How a run ended, if it has.
    pub fn outcome(&self, run: RunId) -> Option<Outcome> {
        serde_json::from_str(&fs::read_to_string(self.outcome_path(run)).ok()?).ok()
    }

    /// Tells how a run ended; nothing: it is at work again.
    ///
    /// # Errors
    /// The disk.
    pub fn tell(&self, run: RunId, outcome: Option<&Outcome>) -> Result<()> {
        let path = self.outcome_path(run);
        match outcome {
            Some(outcome) => {
                let json = serde_json::to_vec_pretty(outcome).expect("an outcome is plain data");
                Ok(write_atomic(&path, &json)?)
            }
            None => match fs::remove_file(&path) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(io(&path)(e)),
                _ => Ok(()),
            },
        }
    }

    /// Whether every run has told how it ended.
    pub fn has_ended(&self) -> bool {
        let told = names(&self.path.join("outcomes"));
        self.runs().iter().all(|run| told.contains(&format!("{run}.json")))
    }

    /// The sweep file and the job file, as they were given.
    pub fn texts(&self) -> (String, String) {
        (fs::read_to_string(self.path.join("sweep.toml")).unwrap_or_default(), self.base.clone())
    }

    /// Arrays that went to the batch system, oldest first.
    pub fn arrays(&self) -> Vec<Array> {
        let entries = fs::read_dir(self.path.join("arrays")).into_iter().flatten().flatten();
        let read = |path: PathBuf| serde_json::from_str(&fs::read_to_string(path).ok()?).ok();
        let mut arrays: Vec<Array> =
            entries.map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "json")).filter_map(read).collect();
        arrays.sort_by_key(|a| a.number);
        arrays
    }

    /// Array number `number`.
    ///
    /// # Errors
    /// [`Error::Occupied`] where there is none.
    pub fn array(&self, number: u32) -> Result<Array> {
        self.arrays().into_iter().find(|a| a.number == number).ok_or_else(|| Error::Occupied {
            dir: self.path.clone(),
            found: format!("holds no array {number}"),
            help: "only the batch system starts these; `convoke sweep` on the directory goes on".to_owned(),
        })
    }

    /// Writes what an array holds.
    ///
    /// # Errors
    /// The disk.
    pub fn keep_array(&self, array: &Array) -> Result<()> {
        let json = serde_json::to_vec(array).expect("an array is plain data");
        Ok(write_atomic(self.path.join(format!("arrays/a{:04}.json", array.number)), &json)?)
    }

    /// Name of an array in the batch system's comments: the sweep's, and which one it is.
    pub fn array_id(&self, number: u32) -> String {
        format!("{}{number:04x}", self.lock.sweep_id)
    }

    /// Number of the array that an entry of the queue belongs to, if it is one of ours.
    pub fn array_of(&self, entry: &Entry) -> Option<u32> {
        let number = entry.run_id.as_deref()?.strip_prefix(self.lock.sweep_id.as_str())?;
        u32::from_str_radix(number, 16).ok()
    }

    /// The runs that the batch system knows, and how it stands with them.
    pub fn in_queue(&self, queue: &[Entry]) -> HashMap<RunId, State> {
        let mut states = HashMap::new();
        let arrays = self.arrays();
        for entry in queue.iter().filter(|e| e.is_live()) {
            let Some(number) = self.array_of(entry) else { continue };
            let Some(array) = arrays.iter().find(|a| a.number == number) else { continue };
            let state = if entry.state == "PENDING" { State::Queued } else { State::Running };
            for (task, run) in array.runs.iter().enumerate() {
                if entry.has_task(task as u64) {
                    states.insert(*run, state);
                }
            }
        }
        states
    }

    /// Where every run stands, from its files and the batch system's queue.
    pub fn states(&self, queue: &[Entry]) -> Vec<(RunId, State)> {
        let queued = self.in_queue(queue);
        let begun: HashSet<String> = names(&self.path.join("points"));
        let ended: HashSet<String> = names(&self.path.join("outcomes"));
        let state = |run: RunId| {
            let name = run.to_string();
            // Told first: the queue lags behind.
            let outcome = if ended.contains(&format!("{name}.json")) { self.outcome(run) } else { None };
            match (outcome, queued.get(&run)) {
                (Some(outcome), _) => outcome.state,
                (None, Some(state)) => *state,
                (None, None) if begun.contains(&name) => {
                    let dir = self.run_dir(run);
                    let works = dir.owner().is_some_and(|owner| dir.is_alive(&owner));
                    if works { State::Running } else { State::Interrupted }
                }
                (None, None) => State::Waiting,
            }
        };
        self.runs().into_iter().map(|run| (run, state(run))).collect()
    }

    /// Asks that no further run is begun.
    ///
    /// # Errors
    /// The disk.
    pub fn ask_to_stop(&self) -> Result<()> {
        Ok(write_atomic(self.path.join("stop"), b"")?)
    }

    /// Whether somebody asked for it.
    pub fn is_asked_to_stop(&self) -> bool {
        self.path.join("stop").exists()
    }

    /// A new beginning.
    pub fn forget_stop(&self) {
        let _ = fs::remove_file(self.path.join("stop"));
    }
}

fn occupied(path: &Path) -> Error {
    Error::Occupied {
        dir: path.to_owned(),
        found: "is there already".to_owned(),
        help: "go on with it by naming it instead of the sweep file, or choose another --dir".to_owned(),
    }
}

/// Names in a folder.
fn names(folder: &Path) -> HashSet<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|e| e.file_name().into_string().ok()).collect()
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Error + use<> {
    let path = path.to_owned();
    move |source| Error::Io { path, source }
}

#[cfg(test)]
mod tests;
