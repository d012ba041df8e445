//! When a checkpoint is due, and how it gets to the disk while the computation goes on.
//!
//! At most one is under way. It is begun in one poll and committed in the first later poll in which every rank's writer
//! is done; a stop, the end and the next checkpoint wait for it.

use std::time::{Duration, Instant, SystemTime};

use serde_json::json;

use super::{Attempt, FAILURES, Options};
use crate::checkpoint::{self, Begun, Committed, Cost, Costs, Label, Mode, Name, Snapshot};
use crate::error::{Error, Exit, Result};
use crate::fields::Fields;
use crate::workload::Workload;

/// What an attempt knows of its checkpoints.
pub(super) struct Saver {
    pub rules: crate::job::Checkpoint,
    /// Hosts that the ranks run on: each may fail.
    pub nodes: u32,
    /// Bytes that a second buffer may take on this rank.
    pub room: u64,
    /// The second buffer while no thread writes from it.
    pub buffer: Option<Snapshot>,
    pub under_way: Option<UnderWay>,
    /// Step of the newest committed checkpoint.
    pub saved_at: Option<u64>,
    /// When the newest one began.
    pub last: Instant,
    pub costs: Costs,
    /// Failures in a row.
    pub failures: u32,
    /// The last of them.
    pub problem: String,
}

/// A checkpoint between its begin and its commit.
pub(super) struct UnderWay {
    begun: Begun,
    since: Instant,
    /// How long the computation stood still so far.
    held: Duration,
}

impl Saver {
    pub fn new(rules: crate::job::Checkpoint, nodes: usize, room: u64, before: Option<Cost>) -> Self {
        Self {
            rules,
            nodes: u32::try_from(nodes.max(1)).unwrap_or(u32::MAX),
            room,
            buffer: None,
            under_way: None,
            saved_at: None,
            last: Instant::now(),
            costs: Costs::after(before),
            failures: 0,
            problem: String::new(),
        }
    }

    /// Whether this rank's part of the one under way is not on the disk yet.
    pub fn is_writing(&self) -> bool {
        self.under_way.as_ref().is_some_and(|u| u.begun.is_writing())
    }

    /// Rank 0's decision. A fixed number of steps waits for the one under way, a time does not.
    pub fn is_due(&self, step: u64) -> bool {
        let by_steps = self.rules.every_steps.is_some_and(|n| step.is_multiple_of(n));
        by_steps || (self.under_way.is_none() && self.last.elapsed() >= self.interval())
    }

    fn interval(&self) -> Duration {
        match self.rules.every {
            Some(span) => span.0,
            None => self.costs.interval(self.rules.node_mtbf.0 / self.nodes),
        }
    }
}

impl<W: Workload> Attempt<W> {
    /// Leaves time for three checkpoints as slow as the slowest, and a tenth of the budget or a
    /// minute, whichever is less.
    pub(super) fn walltime_is_over(&self, options: &Options) -> bool {
        let used = self.started.elapsed().as_secs_f64();
        let left = options.deadline.map(|d| d.duration_since(SystemTime::now()).map_or(0.0, |d| d.as_secs_f64()));
        let budgets = self.walltime.map(|w| w.as_secs_f64()).into_iter().chain(left.map(|left| used + left));
        let Some(budget) = budgets.reduce(f64::min) else { return false };
        used + 3.0 * self.saver.costs.whole() + (budget / 10.0).min(60.0) >= budget
    }

    /// Begins a checkpoint of this step, after the one under way. It is written beside the computation where there is
    /// memory for a second buffer, unless the caller has nothing to compute meanwhile (`wait`). Collective.
    ///
    /// A failure is reported and survived until it happens three times in a row.
    pub(super) fn save(&mut self, options: &Options, wait: bool) -> Result<()> {
        self.settle()?;
        let since = Instant::now();
        // A rule in steps expects the distance that the steps had, one in time its interval.
        let planned =
            if self.saver.rules.every_steps.is_some() { self.saver.last.elapsed() } else { self.saver.interval() };
        self.saver.costs.predict(planned);
        self.saver.last = since;
        let name = Name { step: self.step, epoch: self.epoch };
        let provenance = options.provenance.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        let label = Label { name, spec_xxh3_128: self.spec_hash.clone(), parent: self.base.clone(), provenance };
        let mut fields = Fields::default();
        self.workload.fields(&mut fields);
        let not_finite = match fields.first_not_finite() {
            Some(field) => Err(Error::NotFinite { field: field.to_owned(), step: self.step }),
            None => Ok(()),
        };
        self.ctx.comm.agree(not_finite)?;
        let mode = if wait {
            Mode::Wait
        } else {
            Mode::Beside { buffer: self.saver.buffer.take().unwrap_or_default(), room: self.saver.room }
        };
        let begun = Begun::begin(&self.dir, &self.ctx.comm, label, &fields, &self.history, mode);
        drop(fields);
        match begun {
            Ok(begun) => self.saver.under_way = Some(UnderWay { begun, since, held: since.elapsed() }),
            Err(error) => return self.failed(name, error),
        }
        if wait { self.settle() } else { Ok(()) }
    }

    /// Commits the checkpoint under way, if there is one, after waiting for its writers. Collective.
    pub(super) fn settle(&mut self) -> Result<()> {
        let Some(UnderWay { begun, since, held }) = self.saver.under_way.take() else { return Ok(()) };
        let waiting = Instant::now();
        let name = begun.name();
        let beside = begun.is_beside();
        let (outcome, buffer) = begun.commit(&self.ctx.comm, self.claim.as_ref());
        self.saver.buffer = buffer;
        let committed: Committed = match outcome {
            Ok(committed) => committed,
            Err(error) => return self.failed(name, error),
        };
        if self.ctx.comm.is_root() {
            checkpoint::retain(&self.dir, self.saver.rules.keep, name);
        }
        self.saver.saved_at = Some(name.step);
        self.saver.failures = 0;
        let held = (held + waiting.elapsed()).as_secs_f64();
        let cost = Cost { held, beside: committed.beside_seconds, whole: since.elapsed().as_secs_f64() };
        self.saver.costs.push(cost);
        self.event(
            "checkpoint",
            json!({
                "name": name.to_string(), "bytes": committed.bytes, "seconds": cost.whole, "held_seconds": cost.held,
                "write_seconds": committed.write_seconds, "beside": beside, "beside_seconds": cost.beside,
            }),
        );
        Ok(())
    }

    fn failed(&mut self, name: Name, error: Error) -> Result<()> {
        if error.exit() == Exit::Locked as u8 || matches!(error, Error::Comm(_)) {
            return Err(error);
        }
        self.saver.failures += 1;
        self.saver.problem = error.to_string();
        self.reporter.note(&format!("warning: checkpoint at step {} failed: {error}", name.step));
        self.event("checkpoint-failed", json!({ "name": name.to_string(), "error": error.to_string() }));
        if self.saver.failures < FAILURES {
            return Ok(());
        }
        let (failures, last) = (self.saver.failures, error.to_string());
        Err(Error::Agreed(Box::new(Error::CheckpointsFail { failures, last })))
    }
}

/// The slowest checkpoint that the attempts before this one reported.
pub(super) fn slowest_before(events: &[serde_json::Value]) -> Option<Cost> {
    let costs = events.iter().filter(|e| e["event"] == "checkpoint").filter_map(|e| {
        let number = |key: &str| e[key].as_f64();
        let whole = number("seconds")?;
        let held = number("held_seconds").unwrap_or(whole);
        Some(Cost { held, beside: number("beside_seconds").unwrap_or(0.0), whole })
    });
    costs.max_by(|a, b| a.whole.total_cmp(&b.whole))
}
