//! The job file: one TOML text that names a workload and says everything about its run.
//!
//! ```toml
//! schema = 1
//! name = "shepp-logan"
//! workload = "tomography"
//! [run]
//! ranks = 4
//! [checkpoint]
//! every = "10min"
//! [problem]        # the workload's own keys
//! ```

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use miette::{Diagnostic, NamedSource, SourceSpan};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::batch::Slurm;

/// The version of the job file that this program reads.
pub const SCHEMA: u32 = 1;
/// Longest job file that is read, in bytes.
pub const MAX_BYTES: usize = 1 << 20;

/// A job file, typed: the frame's keys and the workload's `problem`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Job<P> {
    /// Version of the format, [`SCHEMA`].
    pub schema: u32,
    /// Name of the job: lower-case letters, digits and `-`, at most 40.
    pub name: String,
    /// Registry name of the workload.
    pub workload: String,
    /// Seed of all randomness.
    #[serde(default)]
    pub seed: u64,
    /// Where and how to run.
    #[serde(default)]
    pub run: Run,
    /// When to write checkpoints.
    #[serde(default)]
    pub checkpoint: Checkpoint,
    /// What to ask of the batch system, for `convoke submit`.
    #[serde(default)]
    pub slurm: Slurm,
    /// What to compute: the workload's own keys.
    pub problem: P,
}

/// `[run]`: resources.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Run {
    /// Number of ranks (processes).
    pub ranks: usize,
    /// Threads of each rank; absent: the cores of the machine divided by its ranks.
    pub threads: Option<usize>,
    /// Where kernels run.
    pub device: DeviceChoice,
    /// Memory that one rank may use, such as "8GiB"; absent: its share of what the machine has.
    pub memory_per_rank: Option<Bytes>,
    /// Wall-clock budget of one attempt, such as "4h": a checkpoint is written and the run stops before it ends.
    pub walltime: Option<Span>,
    /// Wall-clock budget of all attempts together.
    pub total_walltime: Option<Span>,
    /// How often the run is started at most, when a supervisor keeps it going.
    pub max_attempts: u32,
    /// How many attempts in a row may end without a new checkpoint.
    pub max_attempts_without_progress: u32,
    /// A run that completes no step for this long is stalled: it is ended and started again.
    pub stall_timeout: Span,
}

impl Default for Run {
    fn default() -> Self {
        Self {
            ranks: 1,
            threads: None,
            device: DeviceChoice::Auto,
            memory_per_rank: None,
            walltime: None,
            total_walltime: None,
            max_attempts: 50,
            max_attempts_without_progress: 3,
            stall_timeout: Span(Duration::from_secs(600)),
        }
    }
}

/// Where kernels run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceChoice {
    /// The GPU where there is one, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// A CUDA GPU; an error where there is none.
    Cuda,
}

/// `[checkpoint]`: when state goes to disk. Signals and the end of the wall time always do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Checkpoint {
    /// After this many steps, in addition to `every`.
    pub every_steps: Option<u64>,
    /// After this much time; absent: Young's optimum from the measured cost and `node_mtbf`.
    pub every: Option<Span>,
    /// How many checkpoints to keep.
    pub keep: usize,
    /// Mean time between failures of one node.
    pub node_mtbf: Span,
}

impl Default for Checkpoint {
    fn default() -> Self {
        Self { every_steps: None, every: None, keep: 2, node_mtbf: Span(Duration::from_secs(30 * 86_400)) }
    }
}

/// A duration, written "90s", "10min", "4h", "2days".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(pub Duration);

impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

impl Serialize for Span {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        let span = humantime::parse_duration(&text).map_err(|_| {
            serde::de::Error::custom(format!(
                "'{text}' is not a duration; expected for example \"90s\", \"10min\", \"4h\""
            ))
        })?;
        if span.is_zero() || span > Duration::from_secs(366 * 86_400) {
            return Err(serde::de::Error::custom(format!(
                "'{text}' is out of range; expected more than 0 and at most a year"
            )));
        }
        Ok(Self(span))
    }
}

/// A number of bytes, written "512MiB", "8GB".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bytes(pub u64);

impl Serialize for Bytes {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(&bytesize::ByteSize(self.0))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        let size: bytesize::ByteSize = text.parse().map_err(|_| {
            serde::de::Error::custom(format!("'{text}' is not a size; expected for example \"512MiB\", \"8GiB\""))
        })?;
        if size.0 == 0 {
            return Err(serde::de::Error::custom("a size of 0 bytes; expected more than 0"));
        }
        Ok(Self(size.0))
    }
}

/// A job file that cannot be used: where, what, and what to do.
#[derive(Debug, thiserror::Error, Diagnostic)]
#[error("{place}: {message}")]
pub struct JobError {
    /// `file:line:column`, or the file alone.
    pub place: String,
    /// What was found and what was expected.
    pub message: String,
    #[help]
    help: Option<String>,
    #[source_code]
    source_code: Option<NamedSource<String>>,
    #[label("here")]
    label: Option<SourceSpan>,
}

/// A value in `[problem]` that has the right type and the wrong content.
///
/// Workloads return it from [`crate::workload::Workload::plan`]; the frame adds file and line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}{message}")]
pub struct BadValue {
    /// Dotted key below the top of the file, such as `problem.geometry.angles`.
    pub key: String,
    message: String,
    /// What to do, if there is more to say.
    pub help: Option<String>,
}

impl BadValue {
    /// `key` has `value`, `expected` was due.
    pub fn new(key: impl Into<String>, value: impl std::fmt::Display, expected: impl std::fmt::Display) -> Self {
        Self { key: key.into(), message: format!(" = {value}: expected {expected}"), help: None }
    }

    /// `key` is there and `owner` has no such key.
    pub fn foreign(key: impl Into<String>, owner: impl std::fmt::Display) -> Self {
        Self { key: key.into(), message: format!(": {owner} has no such key"), help: None }
    }

    /// `key` is there, or not, and should not be so.
    pub fn wrong(key: impl Into<String>, message: impl std::fmt::Display) -> Self {
        Self { key: key.into(), message: format!(": {message}"), help: None }
    }

    /// With advice.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// The text of a job file and where it came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobText {
    /// The file, as the user named it.
    pub path: PathBuf,
    /// Its content.
    pub text: String,
}

impl JobText {
    /// Reads a job file.
    ///
    /// # Errors
    /// [`JobError`] where it is missing, unreadable, no regular file, too long or not UTF-8.
    pub fn read(path: &Path) -> Result<Self, JobError> {
        let fail = |message: String, help: &str| JobError {
            place: path.display().to_string(),
            message,
            help: Some(help.to_owned()),
            source_code: None,
            label: None,
        };
        let meta = std::fs::metadata(path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => {
                fail("no such job file".into(), "`convoke new WORKLOAD > job.toml` writes one to start from")
            }
            _ => fail(format!("cannot be read: {e}"), "check the path and its permissions"),
        })?;
        if !meta.is_file() {
            return Err(fail("is not a regular file".into(), "give the path of a job file (TOML)"));
        }
        if meta.len() > MAX_BYTES as u64 {
            let message = format!("{} bytes long; a job file has at most {MAX_BYTES}", meta.len());
            return Err(fail(message, "is this a data file? Job files are TOML texts"));
        }
        let bytes = std::fs::read(path)
            .map_err(|e| fail(format!("cannot be read: {e}"), "check the path and its permissions"))?;
        let text = String::from_utf8(bytes).map_err(|e| {
            let at = e.utf8_error().valid_up_to();
            fail(format!("not UTF-8 text (byte {at})"), "is this a data file? Job files are TOML texts")
        })?;
        if text.trim().is_empty() {
            return Err(fail(
                "the job file is empty".into(),
                "`convoke new WORKLOAD > job.toml` writes one to start from",
            ));
        }
        Ok(Self { path: path.to_owned(), text: text.trim_start_matches('\u{feff}').to_owned() })
    }

    /// Directory that relative paths in the job file start from.
    pub fn dir(&self) -> PathBuf {
        match self.path.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => dir.to_owned(),
            _ => PathBuf::from("."),
        }
    }

    /// The text as a typed table: for files that are TOML but no jobs.
    ///
    /// # Errors
    /// [`JobError`] with line and column.
    pub fn read_toml<T: DeserializeOwned>(&self) -> Result<T, JobError> {
        toml::from_str(&self.text).map_err(|e| self.syntax(&e))
    }

    /// The frame's tables alone, whatever the workload.
    ///
    /// # Errors
    /// As [`JobText::parse`], except for what `[problem]` says.
    pub fn frame(&self) -> Result<Job<toml::Table>, JobError> {
        self.parse()
    }

    /// The registry name of the workload, before anything else is understood.
    ///
    /// # Errors
    /// [`JobError`] where the text is no TOML or names no workload of `known`.
    pub fn workload(&self, known: &[&str]) -> Result<String, JobError> {
        #[derive(Deserialize)]
        struct Head {
            schema: u32,
            workload: toml::Spanned<String>,
        }
        let head: Head = toml::from_str(&self.text).map_err(|e| self.syntax(&e))?;
        if head.schema != SCHEMA {
            let help = "this program reads schema = 1; a newer job file needs a newer convoke";
            return Err(self.bad(&BadValue::new("schema", head.schema, SCHEMA.to_string()).help(help)));
        }
        let name = head.workload.get_ref();
        if !known.contains(&name.as_str()) {
            let help = match nearest(name, known) {
                Some(near) => format!("did you mean \"{near}\"? `convoke list` shows all"),
                None => format!("known workloads: {}", known.join(", ")),
            };
            let message = format!("unknown workload \"{name}\"");
            return Err(self.error(message, Some(help), Some(head.workload.span())));
        }
        Ok(name.clone())
    }

    /// The job's name, if the text gets that far: for messages and default paths.
    pub fn parse_name(&self) -> Option<String> {
        let table: toml::Table = toml::from_str(&self.text).ok()?;
        Some(table.get("name")?.as_str()?.to_owned())
    }

    /// `run.threads`, if it is there.
    pub fn threads(&self) -> Option<usize> {
        let table: toml::Table = toml::from_str(&self.text).ok()?;
        usize::try_from(table.get("run")?.get("threads")?.as_integer()?).ok()
    }

    /// The job, typed.
    ///
    /// # Errors
    /// [`JobError`] with line and column for anything that is not as it should be.
    pub fn parse<P: DeserializeOwned>(&self) -> Result<Job<P>, JobError> {
        let job: Job<P> = toml::from_str(&self.text).map_err(|e| self.syntax(&e))?;
        self.check(&job).map_err(|bad| self.bad(&bad))?;
        Ok(job)
    }

    fn check<P>(&self, job: &Job<P>) -> Result<(), BadValue> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let first = job.name.chars().next().unwrap_or('-');
        if job.name.len() > 40 || first == '-' || !job.name.chars().all(plain) {
            let expected = "at most 40 lower-case letters, digits and '-', not starting with '-'";
            return Err(BadValue::new("name", format!("{:?}", job.name), expected));
        }
        if !(1..=1 << 20).contains(&job.run.ranks) {
            return Err(BadValue::new("run.ranks", job.run.ranks, "1 to 1048576"));
        }
        if let Some(threads) = job.run.threads
            && !(1..=4096).contains(&threads)
        {
            return Err(BadValue::new("run.threads", threads, "1 to 4096"));
        }
        if !(1..=100).contains(&job.checkpoint.keep) {
            return Err(BadValue::new("checkpoint.keep", job.checkpoint.keep, "1 to 100"));
        }
        if job.checkpoint.every_steps == Some(0) {
            return Err(BadValue::new("checkpoint.every_steps", 0, "at least 1"));
        }
        for (key, count) in [
            ("run.max_attempts", job.run.max_attempts),
            ("run.max_attempts_without_progress", job.run.max_attempts_without_progress),
        ] {
            if !(1..=1000).contains(&count) {
                return Err(BadValue::new(key, count, "1 to 1000"));
            }
        }
        job.slurm.check(job.run.ranks)
    }

    /// Turns a wrong value into an error that points at its line.
    pub fn bad(&self, bad: &BadValue) -> JobError {
        let span = find(&self.text, &bad.key);
        self.error(bad.to_string(), bad.help.clone(), span)
    }

    fn syntax(&self, error: &toml::de::Error) -> JobError {
        let message = error.message().to_owned();
        let help = suggestion(&message);
        self.error(message, help, error.span())
    }

    fn error(&self, message: String, help: Option<String>, span: Option<Range<usize>>) -> JobError {
        let place = match &span {
            Some(span) => {
                let before = &self.text[..span.start.min(self.text.len())];
                let line = before.matches('\n').count() + 1;
                let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
                format!("{}:{line}:{column}", self.path.display())
            }
            None => self.path.display().to_string(),
        };
        let source = NamedSource::new(self.path.display().to_string(), self.text.clone()).with_language("TOML");
        JobError { place, message, help, source_code: Some(source), label: span.map(Into::into) }
    }
}

impl JobError {
    /// The advice, if any.
    pub fn advice(&self) -> Option<&str> {
        self.help.as_deref()
    }

    /// An error of the command line, which has no file.
    pub fn command_line(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            place: "command line".into(),
            message: message.into(),
            help: Some(help.into()),
            source_code: None,
            label: None,
        }
    }
}

/// The closest of `known` to `name`, if any is close.
pub fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let scored = known.iter().map(|k| (strsim::damerau_levenshtein(name, k), *k));
    scored.filter(|(d, k)| *d <= 1 + k.len() / 3).min().map(|(_, k)| k)
}

/// "did you mean" for serde's "unknown field `x`, expected one of `a`, `b`".
fn suggestion(message: &str) -> Option<String> {
    let mut quoted = message.split('`').skip(1).step_by(2);
    if !message.starts_with("unknown ") {
        return None;
    }
    let found = quoted.next()?;
    let known: Vec<&str> = quoted.collect();
    nearest(found, &known).map(|near| format!("did you mean `{near}`?"))
}

/// Where the value of a dotted key stands in the text; `name[2]` is an item of a list.
fn find(text: &str, key: &str) -> Option<Range<usize>> {
    let document = toml::de::DeTable::parse(text).ok()?;
    let mut table = document.get_ref();
    let mut span = None;
    for part in key.split('.') {
        let (name, index) = part.split_once('[').unwrap_or((part, ""));
        let Some(mut value) = table.get(name) else { break };
        let item = index.trim_end_matches(']').parse::<usize>().ok();
        if let Some(inner) = item.and_then(|i| value.get_ref().as_array()?.get(i)) {
            value = inner;
        }
        span = Some(value.span());
        match value.get_ref() {
            toml::de::DeValue::Table(inner) => table = inner,
            _ => break,
        }
    }
    span
}

#[cfg(test)]
mod tests;
