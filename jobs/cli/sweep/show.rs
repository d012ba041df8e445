//! What people see of a sweep: its points, where its runs stand, what they found.

use std::collections::BTreeMap;

use comfy_table::Table as Text;
use comfy_table::presets::NOTHING;
use convoke_cluster::Error;
use convoke_cluster::Exit;
use convoke_cluster::batch::{BatchError, Entry};
use convoke_cluster::sweep::{RunId, State, SweepDir, Table};
use convoke_data::schema::provenance as p;
use serde_json::json;

use super::chart;
use crate::cli::{Done, provenance, say};

/// How many rows a list shows.
const SHOWN: usize = 20;

/// Lists the points.
pub(super) fn points(sweep: &SweepDir, runs: &[RunId], price: &str) {
    let text = |run: &RunId| format!("{run}  {}", sweep.describe(*run));
    some(runs.iter().map(text).collect());
    say::line(&format!("{} runs: {price}; nothing was written", runs.len()));
}

fn some(lines: Vec<String>) {
    let n = lines.len();
    lines.iter().take(SHOWN).for_each(|line| say::line(line));
    if n > SHOWN {
        say::line(&format!("… and {} more", n - SHOWN));
    }
}

/// Writes table and pictures from what is there; the exit code says whether all is.
pub(super) fn collect(sweep: &SweepDir, queue: &[Entry], as_json: bool, quiet: bool) -> Done {
    let (table, files) = write(sweep, queue)?;
    let counts = counts(table.rows.iter().map(|row| row.state));
    let of = |state: State| counts.get(&state).copied().unwrap_or(0);
    let exit = if of(State::Failed) > 0 { Exit::Failed } else { Exit::Complete };
    if as_json {
        say::json(&json(sweep, &table));
        return Ok(exit);
    }
    if quiet {
        return Ok(exit);
    }
    say::line(&format!("{}: {}", sweep.path.display(), words(&counts)));
    failures(sweep, &table.rows.iter().map(|row| (row.run, row.state)).collect::<Vec<_>>());
    files.iter().for_each(|file| say::line(&format!("  {file}")));
    if of(State::Failed) > 0 {
        say::line(&format!("again: convoke sweep {} --retry-failed", sweep.path.display()));
    }
    Ok(exit)
}

/// Writes `table.h5` and the pictures; what it holds, and the files.
pub(super) fn write(sweep: &SweepDir, queue: &[Entry]) -> Result<(Table, Vec<String>), Error> {
    let table = Table::gather(sweep, queue)?;
    let (sweep_toml, base_toml) = sweep.texts();
    let path = sweep.path.join("table.h5");
    let mut about = provenance();
    about.push((p::RUN_ID, sweep.lock.sweep_id.clone()));
    about.push((p::CREATED, jiff::Timestamp::now().to_string()));
    table.write(&path, &about, [("sweep_toml", &sweep_toml), ("spec_toml", &base_toml)])?;
    let mut files = vec![path.display().to_string()];
    files.extend(chart::save(&table, &sweep.lock.name, &sweep.path.join("pictures"))?);
    Ok((table, files))
}

fn json(sweep: &SweepDir, table: &Table) -> serde_json::Value {
    let mut value = json!({
        "dir": sweep.path, "name": sweep.lock.name, "keys": table.keys, "rows": table.rows,
    });
    for row in value["rows"].as_array_mut().into_iter().flatten() {
        let run: Option<RunId> = serde_json::from_value(row["run"].clone()).ok();
        row["run"] = run.map_or_else(String::new, |run| run.to_string()).into();
    }
    if table.replicates > 1 {
        value["estimates"] = serde_json::to_value(table.estimates()).unwrap_or_default();
    }
    value
}

fn counts(states: impl Iterator<Item = State>) -> BTreeMap<State, usize> {
    states.fold(BTreeMap::new(), |mut counts, state| {
        *counts.entry(state).or_insert(0) += 1;
        counts
    })
}

fn words(counts: &BTreeMap<State, usize>) -> String {
    counts.iter().map(|(state, n)| format!("{n} {}", state.word())).collect::<Vec<_>>().join(", ")
}

fn failures(sweep: &SweepDir, states: &[(RunId, State)]) {
    let failed: Vec<&(RunId, State)> = states.iter().filter(|(_, state)| *state == State::Failed).collect();
    if failed.is_empty() {
        return;
    }
    let mut table = Text::new();
    table.load_style(NOTHING).set_header(["failed", "exit", "point", "why"]);
    for (run, _) in failed.iter().take(SHOWN) {
        let outcome = sweep.outcome(*run);
        let (exit, why) = outcome.map_or_else(Default::default, |o| (o.exit.to_string(), o.why));
        table.add_row([run.to_string(), exit, sweep.describe(*run), why]);
    }
    say::line(&table.to_string().lines().map(str::trim_end).collect::<Vec<_>>().join("\n"));
    if failed.len() > SHOWN {
        say::line(&format!("… and {} more", failed.len() - SHOWN));
    }
}

/// Where a sweep stands, in one line for the table of `convoke status`: state, part that is done, words.
pub struct Standing {
    /// The worst of what its runs do.
    pub state: String,
    /// Part of the runs that have ended well.
    pub fraction: f64,
    /// How many runs do what.
    pub note: String,
    /// Number of its newest array.
    pub job: Option<u64>,
}

/// Where a sweep stands.
pub fn status(sweep: &SweepDir, queue: &Result<Vec<Entry>, BatchError>) -> Standing {
    let (entries, silent) = match queue {
        Ok(entries) => (entries.as_slice(), false),
        Err(_) => (&[] as &[Entry], true),
    };
    let states = sweep.states(entries);
    let counts = counts(states.iter().map(|(_, state)| *state));
    let has = |state: State| counts.contains_key(&state);
    let arrays = sweep.arrays();
    let state = if counts.keys().all(|s| *s == State::Complete) {
        "complete"
    } else if silent && !arrays.is_empty() {
        "unknown"
    } else if has(State::Running) {
        "running"
    } else if has(State::Queued) {
        "queued"
    } else if has(State::Interrupted) || has(State::Waiting) {
        "interrupted"
    } else if has(State::Failed) {
        "failed"
    } else {
        "stopped"
    };
    let complete = counts.get(&State::Complete).copied().unwrap_or(0);
    Standing {
        state: state.to_owned(),
        fraction: complete as f64 / states.len().max(1) as f64,
        note: words(&counts),
        job: arrays.last().and_then(|a| a.job),
    }
}

/// The table of one sweep's runs.
pub fn table(sweep: &SweepDir, queue: &Result<Vec<Entry>, BatchError>) {
    let states = sweep.states(queue.as_deref().unwrap_or_default());
    failures(sweep, &states);
    let working: Vec<String> = states
        .iter()
        .filter(|(_, state)| *state == State::Running)
        .map(|(run, _)| format!("{run}  running  {}", sweep.describe(*run)))
        .collect();
    some(working);
}

/// The same for scripts.
pub fn rows(sweep: &SweepDir, queue: &Result<Vec<Entry>, BatchError>) -> serde_json::Value {
    let row = |(run, state): (RunId, State)| {
        json!({ "run": run.to_string(), "state": state.word(), "values": sweep.points[run.point as usize],
                "outcome": sweep.outcome(run) })
    };
    sweep.states(queue.as_deref().unwrap_or_default()).into_iter().map(row).collect()
}
