//! The batch job around a supervisor: its time limit, and how the run goes on in another one.

use std::time::{Duration, Instant, SystemTime};

use serde_json::json;

use crate::batch::{self, Asked, BatchError, Scheduler};
use crate::error::{Exit, Result};
use crate::machine::host_name;
use crate::run_dir::{RunDir, Submission};

/// How long the controller may be silent before the run is left to be continued by hand.
const SILENCE: Duration = Duration::from_secs(300);

/// The batch job that this process is the script of.
#[derive(Debug, Clone)]
pub struct BatchJob {
    /// Its number.
    pub id: String,
    /// How often it was requeued before.
    pub restart: u32,
    /// Identity of the run.
    pub run_id: String,
    /// The node of each rank, as Slurm deals them: in blocks.
    pub nodes: Vec<String>,
    /// When its time limit ends it, where its script says what that is.
    ends: Option<SystemTime>,
}

impl BatchJob {
    /// From the environment, at the beginning of a batch script that asked for `limit`.
    pub fn here(run_id: &str, limit: Option<Duration>) -> Option<Self> {
        let (id, restart) = batch::this_job()?;
        let names = Scheduler.host_names(&std::env::var("SLURM_JOB_NODELIST").unwrap_or_default());
        let nodes = nodes_of_ranks(&names, &std::env::var("SLURM_TASKS_PER_NODE").unwrap_or_default());
        let ends = limit.map(|limit| SystemTime::now() + limit);
        Some(Self { id, restart, run_id: run_id.to_owned(), nodes, ends })
    }

    /// When the time limit ends the job. A controller with a thousand tasks in its queue takes a second to answer, so it is
    /// asked only where the script does not say.
    pub(super) fn deadline(&self) -> Option<SystemTime> {
        let asked = || Some(SystemTime::now() + Duration::from_secs(Scheduler.seconds_left(&self.id)?));
        self.ends.or_else(asked)
    }

    /// Whether another job has left the queue.
    pub(super) fn has_ended(&self, job: &str) -> Result<bool> {
        let queue = until_answered(|| Scheduler.queue())?;
        Ok(!queue.into_iter().any(|e| e.is_live() && e.is_job(job)))
    }

    pub(super) fn kill_steps(&self) {
        // Where the controller is silent, srun is killed after this all the same.
        let _ = Scheduler.kill_steps(&self.id);
    }

    /// Puts this job back into the queue; a new job where nodes are to be left out (which a requeued one would meet
    /// again, with the sockets that it left there) or requeueing is not allowed.
    pub(super) fn go_on_elsewhere(&self, dir: &RunDir, exclude: &[String], say: fn(&str)) -> Result<u8> {
        let asked = until_answered(|| Scheduler.ask(&self.id))?;
        if let Some(why) = over(&asked, self.restart, &host_name()) {
            // What a later life owns is not ours to write into.
            if asked.restarts <= self.restart {
                dir.event("left", json!({ "job": self.id, "why": why, "answer": format!("{asked:?}") }));
            }
            say(&format!(
                "convoke: {why}; nothing more is done here (`convoke submit {}` goes on)",
                dir.path.display()
            ));
            return Ok(Exit::Locked as u8);
        }
        // A task of an array has no script of its own that could follow it.
        if exclude.is_empty() || self.id.contains('_') {
            // Said before: where it succeeds, this process may be ended before it can say it.
            dir.event("requeued", json!({ "job": self.id, "restart": self.restart + 1 }));
            match Scheduler.requeue(&self.id) {
                Ok(()) => {
                    say(&format!("convoke: job {} goes back into the queue", self.id));
                    return Ok(Exit::Stopped as u8);
                }
                Err(error) if self.id.contains('_') => return Err(error.into()),
                Err(error) => {
                    dir.event("requeue-refused", json!({ "job": self.id, "words": error.to_string() }));
                    say(&format!("convoke: {error}; a new job follows"));
                }
            }
        }
        let mut submission = dir.submission().unwrap_or_default();
        for node in exclude {
            if !submission.excluded.contains(node) {
                submission.excluded.push(node.clone());
            }
        }
        let job = self.succeed(dir, &mut submission)?;
        let without = if exclude.is_empty() { String::new() } else { format!(" without {}", exclude.join(", ")) };
        say(&format!("convoke: job {job} goes on{without}"));
        Ok(Exit::Stopped as u8)
    }

    /// Submits the job that follows this one.
    fn succeed(&self, dir: &RunDir, submission: &mut Submission) -> Result<u64> {
        submission.earlier.extend(submission.job.take());
        submission.since = jiff::Timestamp::now().to_string();
        let mut more = vec![format!("--dependency=afterany:{}", self.id)];
        more.extend(submission.exclude());
        let job = Scheduler.submit_after(&dir.path, &self.run_id, &more, &self.id)?;
        submission.job = Some(job);
        dir.submit_as(submission)?;
        dir.event("submitted", json!({ "job": job, "after": self.id, "excluded": submission.excluded }));
        Ok(job)
    }
}

/// Why this life of a batch job, its `restart`-th on `host`, may not put it back into the queue; nothing where it may.
///
/// A node that lost its network may come back long after the job was begun again elsewhere: requeueing then would end
/// the better life. A job that somebody ends shows as `COMPLETING` without a reason. All else, such as a time limit that
/// came first, is no ground to leave a run unfinished.
fn over(asked: &Asked, restart: u32, host: &str) -> Option<String> {
    let short = |name: &str| name.split('.').next().unwrap_or_default().to_owned();
    if asked.restarts > restart {
        return Some(format!("the job was begun again since, {} times in all", asked.restarts));
    }
    if !asked.batch_host.is_empty() && short(&asked.batch_host) != short(host) {
        return Some(format!("the job goes on from {}", asked.batch_host));
    }
    let ended = matches!(asked.state.as_str(), "CANCELLED" | "COMPLETING" | "COMPLETED" | "FAILED");
    (ended && asked.reason == "None").then(|| format!("the job was ended from outside ({})", asked.state))
}

/// Asks until the controller answers: it may be starting anew, and the run should not end for that.
fn until_answered<T>(ask: impl Fn() -> Result<T, BatchError>) -> Result<T> {
    let begun = Instant::now();
    loop {
        match ask() {
            Err(BatchError::Silent { .. }) if begun.elapsed() < SILENCE => std::thread::sleep(Duration::from_secs(5)),
            answer => return Ok(answer?),
        }
    }
}

/// The node of each rank, from `SLURM_TASKS_PER_NODE`, such as `2(x3),1`.
fn nodes_of_ranks(names: &[String], tasks: &str) -> Vec<String> {
    let counts = tasks.split(',').flat_map(|part| {
        let (count, times) = part.trim_end_matches(')').split_once("(x").unwrap_or((part, "1"));
        std::iter::repeat_n(count.parse().unwrap_or(0), times.parse().unwrap_or(0))
    });
    names.iter().zip(counts).flat_map(|(name, count): (_, usize)| std::iter::repeat_n(name.clone(), count)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_given_up_only_for_a_later_life_or_by_somebody() {
        let asked = |state: &str, restarts, host: &str, reason: &str| Asked {
            state: state.to_owned(),
            restarts,
            batch_host: host.to_owned(),
            reason: reason.to_owned(),
        };
        let goes_on = |asked: Asked| over(&asked, 1, "n1.cluster.org").is_none();
        for ours in [
            asked("RUNNING", 1, "n1", "None"),
            asked("RUNNING", 1, "n1.cluster.org", "None"),
            // Its limit came first, or another node of it died.
            asked("COMPLETING", 1, "n1", "TimeLimit"),
            asked("TIMEOUT", 1, "n1", "TimeLimit"),
            // On a busy controller the last word of an earlier life on this node can come so late that it ends this one.
            asked("COMPLETING", 1, "n1", "NonZeroExitCode"),
            asked("NODE_FAIL", 1, "n1", "NodeDown"),
            // A state that nobody thought of, and an answer without one.
            asked("SUSPENDED", 1, "n1", "None"),
            asked("", 0, "", ""),
        ] {
            assert!(goes_on(ours.clone()), "{ours:?}");
        }
        for lost in [
            asked("RUNNING", 2, "n1", "None"),
            asked("PENDING", 2, "", "BeginTime"),
            asked("RUNNING", 1, "n10", "None"),
            asked("COMPLETING", 1, "n1", "None"),
            asked("CANCELLED", 1, "n1", "None"),
        ] {
            assert!(!goes_on(lost.clone()), "{lost:?}");
        }
    }

    #[test]
    fn ranks_are_dealt_to_nodes_in_blocks() {
        let names = ["a", "b", "c", "d"].map(str::to_owned);
        assert_eq!(nodes_of_ranks(&names, "2(x3),1").join(""), "aabbccd");
        assert_eq!(nodes_of_ranks(&names, "4").join(""), "aaaa");
        assert!(nodes_of_ranks(&names, "").is_empty());
    }
}
