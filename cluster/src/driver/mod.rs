//! The loop around a workload: it owns the clock, the files, the signals and the decision to stop.
//!
//! Every decision that depends on time or on a signal is taken once per step in `poll`, from
//! flags that all ranks gather, so that all ranks always do the same.

mod output;
mod saving;
mod setup;

use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use serde_json::json;

use crate::checkpoint::{History, Name, Overhead, Restored};
use crate::comm::{Comm, CommError, Traffic};
use crate::error::{Error, Exit, Result};
use crate::failpoint;
use crate::fields::Fields;
use crate::job::JobText;
use crate::machine;
use crate::progress::{Reporter, Verbosity, human_time};
use crate::run_dir::{Claim, RunDir};
use crate::signals::StopSignals;
use crate::workload::{Ctx, Plan, Progress, Workload};

use saving::Saver;
pub use setup::{Placement, Priced, disk, disk_needed, price, room};

/// What to run.
#[derive(Debug, Clone)]
pub enum Source {
    /// A job file, into a new run directory.
    New {
        /// The job's text.
        text: JobText,
        /// The directory to make.
        dir: PathBuf,
    },
    /// An existing run directory.
    Resume {
        /// The directory.
        dir: PathBuf,
        /// Where it goes on.
        from: From,
    },
}

/// Where a run goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum From {
    /// At its newest valid checkpoint.
    #[default]
    Newest,
    /// At this checkpoint; newer ones no longer count.
    Checkpoint(Name),
    /// At step 0, ignoring all checkpoints.
    Start,
}

/// How to run it.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// How much rank 0 says.
    pub verbosity: Verbosity,
    /// Stop with a checkpoint after this many steps of this attempt.
    pub stop_after: Option<u64>,
    /// Threads of each rank.
    pub threads: usize,
    /// The device that overrides the job's choice: for tests on an emulated one.
    pub device: Option<convoke_kernels::Device>,
    /// What is known about the program, for the files that it writes: `(name, value)`.
    pub provenance: Vec<(&'static str, String)>,
    /// Signals that ask to stop.
    pub signals: StopSignals,
    /// When the batch system ends this process.
    pub deadline: Option<SystemTime>,
    /// Attempts up to this one have ended, as whoever started this one knows.
    pub succeeds: u32,
    /// A failure to inject, for tests of what a failure does.
    pub fault: Option<Fault>,
}

/// Fails one rank at the start of one step: for tests whose ranks are threads of one process. Between processes,
/// [`crate::failpoint`] does that.
#[derive(Debug, Clone, Copy)]
pub struct Fault {
    /// The rank that fails.
    pub rank: usize,
    /// In which step (from 0).
    pub step: u64,
}

/// How a run ended.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// [`Exit::Complete`] or [`Exit::Stopped`].
    pub exit: Exit,
    /// Where everything lies.
    pub dir: PathBuf,
    /// Steps done, all attempts together.
    pub steps: u64,
    /// Wall time of this attempt.
    pub seconds: f64,
    /// Why it stopped, if it did not complete.
    pub reason: Option<String>,
    /// What this rank sent during the workload's steps.
    pub traffic: Traffic,
    /// The price that was predicted.
    pub plan: Plan,
    /// The figures of every step.
    pub history: History,
    /// Checkpoints written and what they took from the computation.
    pub overhead: Overhead,
}

/// Flags that ranks gather in every step.
const SIGNAL: u64 = 1;
const CHECKPOINT: u64 = 2;
const WALLTIME: u64 = 4;
const LIMIT: u64 = 8;
const OVERTAKEN: u64 = 16;
const ASKED: u64 = 32;
/// This rank's part of a checkpoint is still being written: no reason to do anything.
const WRITING: u64 = 64;

/// How often an attempt says that it is alive and looks for a successor or a request to stop, at most.
const BEAT: Duration = Duration::from_secs(10);

/// Three failures in a row end the run (cluster.md, 3.7: a full disk does not heal by itself).
const FAILURES: u32 = 3;

/// Runs a job to its end, or to a stop with a checkpoint. Collective.
///
/// # Errors
/// The failure of the lowest rank that failed, on every rank.
pub fn run<W: Workload>(comm: &Comm, source: &Source, options: &Options) -> Result<Outcome> {
    let prepared = setup::prepare::<W>(comm, source, options)?;
    let mut attempt = Attempt::begin(prepared, options)?;
    let outcome = attempt.run(options);
    attempt.reporter.end();
    if let Err(error) = &outcome {
        attempt.event(
            "failed",
            json!({ "error": error.to_string(), "code": error.exit(), "lasting": error.is_lasting() }),
        );
        if !error.is_agreed() && !matches!(error, Error::Comm(CommError::PeerFailed { .. })) {
            comm.fail(&error.failure());
        }
    }
    outcome
}

/// One process's part in one attempt at a run.
struct Attempt<W> {
    workload: W,
    ctx: Ctx,
    plan: Plan,
    dir: RunDir,
    claim: Option<Claim>,
    epoch: u32,
    base: Option<String>,
    spec_hash: String,
    saver: Saver,
    walltime: Option<Duration>,
    reporter: Reporter,
    history: History,
    step: u64,
    started: Instant,
    last_beat: Instant,
    beat_every: Duration,
    traffic: Traffic,
    step_time: Duration,
    fraction: f64,
    done: bool,
    text: JobText,
}

impl<W: Workload> Attempt<W> {
    fn begin(prepared: setup::Prepared<W>, options: &Options) -> Result<Self> {
        let setup::Prepared { workload, ctx, plan, job, dir, claim, epoch, restored, text } = prepared;
        let reporter = Reporter::new(ctx.comm.is_root(), options.verbosity, plan.work_unit);
        let before = if ctx.comm.is_root() { saving::slowest_before(&dir.events()) } else { None };
        let room = ctx.resources.memory_per_rank.saturating_sub(plan.memory_per_rank() - plan.second_buffer());
        let saver = Saver::new(job.checkpoint, job.nodes, room, before);
        let mut attempt = Self {
            workload,
            ctx,
            plan,
            dir,
            claim,
            epoch,
            base: None,
            spec_hash: convoke_data::store::digest_bytes(text.text.as_bytes()).xxh3_128,
            saver,
            walltime: job.walltime,
            reporter,
            history: History::default(),
            step: 0,
            started: Instant::now(),
            last_beat: Instant::now(),
            beat_every: BEAT.min(job.stall_timeout / 4),
            traffic: Traffic::default(),
            step_time: Duration::ZERO,
            fraction: 0.0,
            done: false,
            text,
        };
        let loaded = match &restored {
            Some(restored) => {
                if attempt.ctx.comm.is_root() {
                    restored.loading(epoch);
                }
                attempt.load(restored)
            }
            // What earlier attempts may still write belongs to none that follows.
            None => attempt.claim.as_ref().map_or(Ok(()), |claim| claim.continues(Name { step: 0, epoch: 0 })),
        };
        attempt.ctx.comm.clone().agree(loaded)?;
        if let Some(restored) = restored.filter(|_| attempt.ctx.comm.is_root()) {
            restored.loaded(epoch);
        }
        Ok(attempt)
    }

    fn load(&mut self, restored: &Restored) -> Result<()> {
        for refused in &restored.refused {
            self.reporter.note(&format!("warning: damaged checkpoint set aside: {refused}"));
            self.event("checkpoint-refused", json!({ "why": refused }));
        }
        let manifest = &restored.manifest;
        if !RunDir::open(&self.dir.path)?.2.knows(&manifest.spec_xxh3_128) {
            return Err(Error::Mismatch {
                file: self.dir.path.join("spec.toml"),
                key: "its hash".into(),
                before: manifest.spec_xxh3_128.clone(),
                now: self.spec_hash.clone(),
            });
        }
        failpoint::hit("ckpt-load").map_err(|source| Error::Io { path: self.dir.checkpoints(), source })?;
        let mut fields = Fields::default();
        self.workload.fields(&mut fields);
        self.history = restored.load_values(&mut fields)?;
        drop(fields);
        self.workload.reshape(&self.ctx)?;
        let mut fields = Fields::default();
        self.workload.fields(&mut fields);
        restored.load_arrays(&mut fields)?;
        drop(fields);
        self.workload.restored(&self.ctx)?;
        self.step = manifest.step;
        self.saver.saved_at = Some(manifest.step);
        self.base = Some(manifest.name().to_string());
        if let Some(claim) = &self.claim {
            claim.continues(manifest.name())?;
        }
        self.reporter.note(&format!("resumed at step {} from checkpoint {}", self.step, manifest.name()));
        Ok(())
    }

    fn run(&mut self, options: &Options) -> Result<Outcome> {
        let comm = self.ctx.comm.clone();
        self.event(
            "started",
            json!({
                "epoch": self.epoch, "ranks": comm.size(), "threads": self.ctx.resources.threads, "step": self.step,
                "base": self.base, "host": comm.host(), "device": self.ctx.device.describe(), "plan": self.plan,
            }),
        );
        if let Some(claim) = &self.claim {
            claim.beat(self.step);
        }
        let first = self.step;
        self.tell();
        self.reporter.start(0.0);
        let mut reason = None;
        while !self.done {
            if options.fault.is_some_and(|f| f.rank == comm.rank() && f.step == self.step) {
                return Err(Error::Panicked { message: "a fault was injected here".into() });
            }
            failpoint::hit("step").map_err(|e| Error::Panicked { message: e.to_string() })?;
            let (before, begun) = (comm.traffic(), Instant::now());
            let progress = match self.workload.step(&self.ctx) {
                Ok(progress) => progress,
                Err(error) => return Err(self.with_last_state(error, options)),
            };
            self.tell();
            let after = comm.traffic();
            self.traffic.calls += after.calls - before.calls;
            self.traffic.bytes += after.bytes - before.bytes;
            self.traffic.nanoseconds += after.nanoseconds - before.nanoseconds;
            self.step_time += begun.elapsed();
            self.account(progress, first);
            reason = self.poll(first, options)?;
            if reason.is_some() {
                break;
            }
        }
        match reason {
            Some(reason) if !self.done => self.stop(reason, options),
            _ => self.finish(options),
        }
    }

    /// Passes on what the workload has to say.
    fn tell(&mut self) {
        for note in self.ctx.notes.take() {
            self.reporter.note(&format!("note: {note}"));
            self.event("note", json!({ "text": note }));
        }
    }

    /// Where the mathematics gave up on all ranks together, what it had is worth a look: a file as the result would be.
    fn with_last_state(&mut self, error: Error, options: &Options) -> Error {
        if !matches!(&error, Error::Agreed(inner) if matches!(**inner, Error::Workload { .. })) {
            return error;
        }
        let path = self.dir.path.join("last.h5");
        let written = output::hosts(&self.ctx.comm).and_then(|hosts| self.write_results(&path, options, &hosts));
        match written {
            Ok(_) => {
                self.event("last-state", json!({ "file": path }));
                self.reporter.note(&format!("the last iterate, which is no solution, is in {}", path.display()));
            }
            Err(why) => self.reporter.note(&format!("warning: the last iterate could not be written: {why}")),
        }
        error
    }

    fn account(&mut self, progress: Progress, first: u64) {
        self.step += 1;
        self.done = progress.done;
        self.history.push(&progress.metrics);
        if self.step == first + 1 && first > 0 {
            self.reporter.start(progress.fraction);
        }
        self.fraction = progress.fraction;
        self.reporter.step(self.step, progress.fraction, progress.work, &progress.metrics);
    }

    /// Says that this attempt is alive, and looks whether it should be: flags for all ranks.
    fn beat(&mut self) -> u64 {
        let Some(claim) = &self.claim else { return 0 };
        if self.last_beat.elapsed() < self.beat_every {
            return 0;
        }
        self.last_beat = Instant::now();
        claim.beat(self.step);
        self.event("progress", json!({ "step": self.step, "fraction": self.fraction }));
        let overtaken = if claim.check().is_err() { OVERTAKEN } else { 0 };
        overtaken | if self.dir.is_asked_to_stop() { ASKED } else { 0 }
    }

    /// Gathers the flags of all ranks and acts on them; a reason to stop, if there is one.
    fn poll(&mut self, first: u64, options: &Options) -> Result<Option<String>> {
        let mut mine = if self.saver.is_writing() { WRITING } else { 0 };
        if options.signals.pending().is_some() {
            mine |= SIGNAL;
        }
        if self.ctx.comm.is_root() {
            mine |= self.beat();
            mine |= if self.saver.is_due(self.step) { CHECKPOINT } else { 0 };
            mine |= if self.walltime_is_over(options) { WALLTIME } else { 0 };
            mine |= if options.stop_after.is_some_and(|n| self.step - first >= n) { LIMIT } else { 0 };
        }
        let gathered = self.ctx.comm.all_gather(&[mine])?.iter().fold(0, |all, f| all | f[0]);
        let flags = gathered & !WRITING;
        if flags & OVERTAKEN != 0 {
            let (dir, mine, newest) = (self.dir.path.clone(), self.epoch, self.dir.newest_epoch());
            return Err(Error::Agreed(Box::new(Error::Fenced { dir, mine, newest })));
        }
        if self.done {
            return Ok(None);
        }
        if gathered & WRITING == 0 {
            self.settle()?;
        }
        if flags == 0 {
            return Ok(None);
        }
        if flags == CHECKPOINT {
            self.save(options, false)?;
            return Ok(None);
        }
        Ok(Some(match () {
            () if flags & SIGNAL != 0 => {
                format!("asked by {}", options.signals.pending().unwrap_or("a signal on another rank"))
            }
            () if flags & ASKED != 0 => "asked by `convoke cancel`".to_owned(),
            () if flags & WALLTIME != 0 => "the wall time is nearly over".to_owned(),
            () => "the number of steps asked for is done".to_owned(),
        }))
    }

    fn stop(&mut self, reason: String, options: &Options) -> Result<Outcome> {
        self.settle()?;
        if self.saver.saved_at != Some(self.step) {
            self.save(options, true)?;
        }
        let Some(saved_at) = self.saver.saved_at else {
            let (failures, last) = (self.saver.failures, self.saver.problem.clone());
            return Err(Error::Agreed(Box::new(Error::CheckpointsFail { failures, last })));
        };
        if saved_at != self.step {
            // Something can be gone on with, which is all that the exit code promises.
            let problem = &self.saver.problem;
            self.reporter.note(&format!(
                "warning: step {} could not be saved ({problem}); the checkpoint of step {saved_at} is intact",
                self.step
            ));
        }
        self.tell_overhead();
        let phases = self.phases(None)?;
        self.event(
            "stopped",
            json!({
                "step": self.step, "saved": saved_at, "reason": reason, "overhead": self.overhead(), "phases": phases,
            }),
        );
        let hint = format!("continue with `convoke resume {}`", self.dir.path.display());
        self.reporter.note(&format!("stopped at step {} ({reason}); {hint}", self.step));
        Ok(self.outcome(Exit::Stopped, Some(reason)))
    }

    fn finish(&mut self, options: &Options) -> Result<Outcome> {
        let comm = self.ctx.comm.clone();
        match self.settle() {
            // The result is what counts now, and it fails by itself if the disk does.
            Err(Error::Agreed(inner)) if matches!(*inner, Error::CheckpointsFail { .. }) => {}
            other => other?,
        }
        let hosts = output::hosts(&comm)?;
        let begun = Instant::now();
        let digest = self.write_results(&self.dir.result().clone(), options, &hosts)?;
        let phases = self.phases(Some(begun.elapsed()))?;
        self.tell();
        self.ctx.pieces.clear_on(&comm);
        if comm.is_root() {
            self.link_for_paraview();
        }
        self.event("finished", json!({
            "step": self.step, "seconds": self.started.elapsed().as_secs_f64(),
            "result": digest.as_ref().map(|d| &d.xxh3_128), "bytes_sent": self.traffic.bytes, "peak_memory": machine::peak_memory(),
            "overhead": self.overhead(), "phases": phases,
        }));
        failpoint::hit("finished").map_err(|source| Error::Io { path: self.dir.result(), source })?;
        self.tell_overhead();
        if let Some(digest) = &digest {
            self.write_crate(options, &hosts, digest);
        }
        let seconds = self.started.elapsed().as_secs_f64();
        let path = self.dir.result();
        self.reporter.note(&format!(
            "finished after {} steps in {}: {}",
            self.step,
            human_time(seconds),
            path.display()
        ));
        Ok(self.outcome(Exit::Complete, None))
    }

    fn outcome(&self, exit: Exit, reason: Option<String>) -> Outcome {
        Outcome {
            exit,
            dir: self.dir.path.clone(),
            steps: self.step,
            seconds: self.started.elapsed().as_secs_f64(),
            reason,
            traffic: self.traffic,
            plan: self.plan.clone(),
            history: self.history.clone(),
            overhead: self.overhead(),
        }
    }

    /// Of this attempt's checkpoints, so far.
    fn overhead(&self) -> Overhead {
        self.saver.costs.overhead(self.started.elapsed().as_secs_f64())
    }

    fn tell_overhead(&self) {
        if let Some(line) = self.overhead().line() {
            self.reporter.note(&line);
        }
    }

    fn event(&self, kind: &str, detail: serde_json::Value) {
        if self.ctx.comm.is_root() {
            self.dir.event(kind, detail);
        }
    }
}
