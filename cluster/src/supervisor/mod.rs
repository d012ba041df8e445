//! Keeps a run going until its result is there, or until a person must decide: starts the ranks, passes signals on,
//! notices ranks that hang, and decides from files what to do next. The same on a laptop and as a batch job.

mod attempt;
mod batch;
mod leaks;
mod story;
mod verdict;

use std::ffi::OsString;
use std::time::{Duration, SystemTime};

use serde_json::json;
use signal_hook::iterator::Signals;

use crate::checkpoint;
use crate::error::{Error, Exit, Result};
use crate::job::Run;
use crate::launch::Launcher;
use crate::progress::terminal_of_ranks;
use crate::run_dir::{Owner, RunDir};

use attempt::{Ended, attend, listened};
pub use batch::BatchJob;
pub use leaks::sweep;
pub use story::Story;
pub use verdict::{Evidence, Rules, Verdict, verdict};

/// Environment of the ranks: the attempt up to which all are known to have ended.
pub const SUCCEEDS: &str = "CONVOKE_SUCCEEDS";
/// Environment of the ranks: when the batch system ends them, in seconds since 1970.
pub const DEADLINE: &str = "CONVOKE_DEADLINE";

/// A pause before the next attempt, so that a failure that comes at once does not burn attempts within a second.
const PAUSE: Duration = Duration::from_millis(200);

/// Keeps one run going.
#[derive(Debug)]
pub struct Supervisor {
    /// The run; its directory may not exist before the first attempt.
    pub dir: RunDir,
    /// What starts the ranks.
    pub launcher: Launcher,
    /// Number of ranks.
    pub ranks: usize,
    /// The program and its arguments, for the first attempt and for those after it.
    pub command: [Vec<OsString>; 2],
    /// Budgets and limits.
    pub rules: Rules,
    /// How long the run may go without completing a step.
    pub stall_timeout: Duration,
    /// The batch job that this is, if it is one.
    pub batch: Option<BatchJob>,
    /// Says a line to the user.
    pub say: fn(&str),
}

/// The limits that a job file sets.
pub fn rules(run: &Run, batch: bool) -> Rules {
    Rules {
        attempts: run.max_attempts,
        fruitless: run.max_attempts_without_progress,
        seconds: run.total_walltime.map(|s| s.0.as_secs()),
        batch,
    }
}

impl Supervisor {
    /// Works until there is nothing more to do here; the exit code.
    ///
    /// # Errors
    /// Where ranks cannot be started at all.
    pub fn supervise(&self) -> Result<u8> {
        let mut signals = listened().map_err(|e| Self::not_started(&self.command[0], &e))?;
        sweep();
        let (is_new, first) = (!self.is_made(), self.dir.newest_epoch());
        loop {
            let before = self.dir.newest_epoch();
            // The first command also begins a run or begins it anew: it is due until an attempt came so far.
            let goes_on = before > first || (is_new && self.is_made());
            let gone = self.gone()?;
            let deadline = self.batch.as_ref().and_then(BatchJob::deadline);
            let ended = self.attempt(&self.command[usize::from(goes_on)], gone, deadline, &mut signals)?;
            let seen = self.evidence(&ended, before);
            let verdict = verdict(&seen, self.rules);
            self.record(&ended, &seen, &verdict, before);
            match verdict {
                Verdict::Complete => return Ok(Exit::Complete as u8),
                Verdict::Overtaken => return Ok(Exit::Locked as u8),
                Verdict::End { exit, why } => {
                    self.explain(&ended, &seen, &why);
                    return Ok(exit);
                }
                Verdict::Again => {
                    (self.say)(&format!("convoke: {}; starting again ({})", ended.words(), self.last_state()));
                    std::thread::sleep(PAUSE);
                }
                Verdict::Elsewhere { exclude } => {
                    let Some(batch) = &self.batch else { return Ok(Exit::Stopped as u8) };
                    return batch.go_on_elsewhere(&self.dir, &exclude, self.say);
                }
            }
        }
    }

    /// The newest attempt that is known to have ended although its own host cannot be asked: an earlier life of this
    /// batch job, or a job that has left the queue.
    fn gone(&self) -> Result<u32> {
        let Some(owner) = self.dir.newest_attempt() else { return Ok(0) };
        let ended = match (&self.batch, &owner.slurm_job) {
            (Some(mine), Some(job)) if *job == mine.id => owner.slurm_restart < mine.restart,
            (Some(mine), Some(job)) => mine.has_ended(job)?,
            _ => false,
        };
        Ok(if ended { owner.epoch } else { 0 })
    }

    /// Whether the run directory is there.
    fn is_made(&self) -> bool {
        self.dir.path.join("spec.lock.json").exists()
    }

    fn attempt(
        &self,
        words: &[OsString],
        gone: u32,
        deadline: Option<SystemTime>,
        signals: &mut Signals,
    ) -> Result<Ended> {
        let fail = |problem: std::io::Error| Self::not_started(words, &problem);
        let scratch = leaks::scratch().map_err(fail)?;
        let mut command = self.launcher.command(self.ranks, scratch.path());
        command.args(words);
        command.env(SUCCEEDS, gone.to_string());
        command.envs(terminal_of_ranks());
        if let Some(deadline) = deadline {
            let seconds = deadline.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
            command.env(DEADLINE, seconds.to_string());
        }
        attend(self, command, deadline, signals).map_err(fail)
    }

    fn not_started(words: &[OsString], problem: &std::io::Error) -> Error {
        Error::Program {
            program: words[0].to_string_lossy().into_owned(),
            problem: problem.to_string(),
            help: "`convoke doctor` checks the launcher".into(),
        }
    }

    fn evidence(&self, ended: &Ended, before: u32) -> Evidence {
        let newest = self.dir.newest_epoch();
        if newest == before && !ended.stop_was_sent {
            // It never came to own the directory, so it left no event of its own.
            self.event("not-started", json!({ "words": ended.words() }));
        }
        let failed = self.dir.events().into_iter().rev().take_while(|e| e["event"] != "started");
        let failed = failed.into_iter().find(|e| e["event"] == "failed" && newest > before);
        let code = ended.code.or(failed.as_ref().and_then(|e| u8::try_from(e["code"].as_u64()?).ok()));
        // Codes that name a cause are given before the loop begins, which leaves no event: only 1 and 75 are worth another try.
        let named = code.is_some_and(|c| (2..=9).contains(&c));
        let story = Story::of(&self.dir);
        Evidence {
            complete: self.dir.is_complete(),
            code,
            signal: ended.signal,
            began: newest > before,
            overtaken: self.owner_is_another(newest, before),
            asked: self.dir.is_asked_to_stop() || (ended.stop_was_sent && self.batch.is_none()),
            warned: (ended.stop_was_sent || ended.late) && self.batch.is_some(),
            lasting: named || failed.is_some_and(|e| e["lasting"] == true),
            stalled: ended.stalled.is_some(),
            out_of_memory: ended.out_of_memory,
            attempts: story.attempts,
            fruitless: story.fruitless,
            seconds: story.seconds,
            // Ranks that stopped in order are no sign of a bad node.
            suspects: if code == Some(Exit::Stopped as u8) { Vec::new() } else { ended.suspects.clone() },
        }
    }

    /// Whether the newest attempt is none of ours: another process, or a later life of this batch job, owns the run.
    fn owner_is_another(&self, newest: u32, before: u32) -> bool {
        let Some(batch) = &self.batch else { return newest > before + 1 };
        let mine = |o: &Owner| o.slurm_job.as_deref() == Some(&batch.id) && o.slurm_restart == batch.restart;
        newest > before && self.dir.newest_attempt().is_some_and(|owner| !mine(&owner))
    }

    fn record(&self, ended: &Ended, seen: &Evidence, verdict: &Verdict, before: u32) {
        let what = match verdict {
            Verdict::Complete => "complete",
            Verdict::Overtaken => "overtaken",
            Verdict::End { .. } => "end",
            Verdict::Again => "again",
            Verdict::Elsewhere { .. } => "elsewhere",
        };
        // A run that a newer attempt owns is not ours to write into.
        if self.dir.path.exists() && !seen.overtaken {
            let words = ended.words();
            self.event(
                "attempt-ended",
                json!({
                    "epoch": before + 1, "how": words, "verdict": what, "stalled": ended.stalled,
                    "fruitless": seen.fruitless, "suspects": seen.suspects,
                }),
            );
        }
    }

    /// The last word to the user, where the ranks have not spoken it.
    fn explain(&self, ended: &Ended, seen: &Evidence, why: &str) {
        let why = if self.rules.attempts == 1 && !seen.out_of_memory { String::new() } else { format!("; {why}") };
        match ended.code {
            // Ranks that ended by themselves have said why; what they cannot know is why there is no other attempt.
            Some(_) if why.is_empty() || seen.asked || seen.lasting => {}
            Some(code) if code == Exit::Stopped as u8 => (self.say)(&format!("convoke: {}{why}", ended.words())),
            _ => (self.say)(&format!("convoke: error: {}{why} ({})", ended.words(), self.last_state())),
        }
    }

    /// What a run that ended badly has left.
    fn last_state(&self) -> String {
        let dir = self.dir.path.display();
        match checkpoint::list(&self.dir.checkpoints()).into_iter().max() {
            Some(name) => {
                format!("the checkpoint of step {} is intact; continue with `convoke resume {dir}`", name.step)
            }
            None => format!("no checkpoint was written yet; begin again with `convoke resume {dir}`"),
        }
    }

    /// How long the attempt after `before`, which began `age` ago, has been silent. Only where its heartbeat is too old
    /// the files are looked at: ranks that write a checkpoint or the result for long complete no step.
    fn silent_for(&self, before: u32, age: Duration) -> Duration {
        let newest = self.dir.newest_epoch();
        let since = |sign: Option<SystemTime>| sign.map_or(age, |s| s.elapsed().unwrap_or_default().min(age));
        let beat = since(if newest > before { self.dir.last_beat(newest) } else { None });
        if beat <= self.stall_timeout { beat } else { beat.min(since(self.dir.last_change())) }
    }

    fn event(&self, kind: &str, detail: serde_json::Value) {
        if self.is_made() {
            self.dir.event(kind, detail);
        }
    }
}
