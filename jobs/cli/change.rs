//! What a run may go on with other than before: another checkpoint, some keys, another owner.

use convoke_cluster::checkpoint::{self, Name};
use convoke_cluster::driver::{From, Placement};
use convoke_cluster::run_dir::{Lock, RunDir};
use convoke_cluster::workload::Inputs;
use convoke_cluster::{Error, JobError, JobText, sweep};
use serde_json::json;

use crate::registry;

/// Tables of the frame whose keys say how a run is done, not what is computed.
const FRAME: [&str; 3] = ["run", "checkpoint", "slurm"];

/// Where a run goes on.
///
/// # Errors
/// A checkpoint that is not there.
pub(super) fn origin(run: &RunDir, restart: bool, from: Option<&str>) -> Result<From, Error> {
    let Some(text) = from else { return Ok(if restart { From::Start } else { From::Newest }) };
    let mut names = checkpoint::list(&run.checkpoints());
    names.sort();
    let is_it = |name: &&Name| name.to_string() == text || text.parse() == Ok(name.step);
    // Of several of one step, that of the newest attempt.
    if let Some(name) = names.iter().rfind(is_it) {
        return Ok(From::Checkpoint(*name));
    }
    let there = names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    Err(Error::NoCheckpoint {
        dir: run.path.clone(),
        why: format!("--from {text}: no such step or name"),
        help: if there.is_empty() { "there is none yet".into() } else { format!("there is: {there}") },
    })
}

/// Takes the directory from an owner that cannot be asked.
///
/// # Errors
/// An identity that is not this run's; an owner of this host, which can be asked.
pub(super) fn steal(run: &RunDir, lock: &Lock, run_id: &str) -> Result<(), Error> {
    if run_id != lock.run_id {
        let message = format!("--steal {run_id}: this is run {}", lock.run_id);
        let help = format!("if you mean it: --steal {}; an owner that still works is fenced off", lock.run_id);
        return Err(JobError::command_line(message, help).into());
    }
    run.take_from_owner()
}

/// The job's text with `words` set, if a run may go on with that.
///
/// # Errors
/// A word that is no KEY=VALUE, a key that may not change, a value that cannot be.
pub(super) fn with(text: &JobText, words: &[String]) -> Result<JobText, Error> {
    let entry = registry::of(text)?;
    let mut keys = Vec::new();
    for word in words {
        let wrong = |message: &str, help: String| JobError::command_line(format!("--set {word}: {message}"), help);
        let parsed = word.split_once('=').and_then(|(key, value)| Some((key.trim(), sweep::literal(value.trim())?)));
        let (key, value) =
            parsed.ok_or_else(|| wrong("expected KEY=VALUE", "for example --set run.walltime=8h".into()))?;
        let of_the_frame = FRAME.iter().any(|table| key.strip_prefix(table).is_some_and(|rest| rest.starts_with('.')));
        if !of_the_frame && !entry.may_change.contains(&key) {
            let known = FRAME.iter().map(|t| format!("{t}.*")).chain(entry.may_change.iter().map(|k| (*k).to_owned()));
            let help = format!(
                "what was computed depends on it: begin a new run. These may change: {}",
                known.collect::<Vec<_>>().join(", ")
            );
            return Err(wrong("a run cannot go on with another value", help).into());
        }
        keys.push((key, value));
    }
    let changed = sweep::with(&text.text, &keys).map_err(|bad| text.bad(&bad))?;
    Ok(JobText { text: changed, path: text.path.clone() })
}

/// Changes the job of a run that goes on here; the new text.
///
/// # Errors
/// As [`with`]; a job that would not fit; an owner that is at work.
pub(super) fn here(run: &RunDir, text: &JobText, lock: &Lock, words: &[String]) -> Result<JobText, Error> {
    let changed = with(text, words)?;
    let entry = registry::of(&changed)?;
    let placement = Placement::here((entry.ranks)(&changed)?, changed.threads().unwrap_or(1));
    let quote = (entry.price)(&changed, &Inputs { base: lock.inputs.clone() }, &placement)?;
    keep(run, &changed, lock, quote.resolved, words)?;
    Ok(changed)
}

/// Writes the changed job, of which `resolved` has the defaults.
///
/// # Errors
/// An owner that is at work.
pub(super) fn keep(
    run: &RunDir,
    changed: &JobText,
    lock: &Lock,
    resolved: serde_json::Value,
    words: &[String],
) -> Result<(), Error> {
    run.change(&changed.text, lock, resolved)?;
    run.event("changed", json!({ "set": words }));
    Ok(())
}
