//! The story of a run, from its `events.jsonl`: attempts, how each ended, what was planned.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Done.
    Complete,
    /// Stopped in order, with a checkpoint.
    Stopped,
    /// Ended by an error.
    Failed,
    /// At work now.
    Running,
    /// Ended without a word: killed, or its machine went down.
    Interrupted,
    /// Nothing was begun.
    New,
}

impl State {
    /// One word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
            Self::Running => "running",
            Self::Interrupted => "interrupted",
            Self::New => "new",
        }
    }

    /// Whether `convoke resume` is the next thing to do.
    pub fn resumable(self) -> bool {
        !matches!(self, Self::Complete | Self::Running)
    }
}

/// Checkpoints of an attempt.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Checkpoints {
    /// Written.
    pub count: u64,
    /// Bytes of the newest, all ranks together.
    pub bytes: u64,
    /// Time that all of them took.
    pub seconds: f64,
    /// Attempts at one that failed.
    pub failed: u64,
}

/// One attempt at a run.
#[derive(Debug, Clone, Serialize)]
pub struct Attempt {
    /// Its number.
    pub epoch: u64,
    /// When it began, RFC 3339.
    pub started: String,
    /// When it was last heard of.
    pub last_seen: String,
    /// Wall time between the two.
    pub seconds: f64,
    /// How it ended.
    pub state: State,
    /// Why, in its own words.
    pub reason: Option<String>,
    /// Step that it began at.
    pub first_step: u64,
    /// Last step that it is known to have done.
    pub last_step: u64,
    /// Ranks.
    pub ranks: u64,
    /// Threads of each rank.
    pub threads: u64,
    /// Host of rank 0.
    pub host: String,
    /// Device of the ranks.
    pub device: String,
    /// Its checkpoints.
    pub checkpoints: Checkpoints,
}

/// A quantity that was planned and measured.
#[derive(Debug, Clone, Serialize)]
pub struct Planned {
    /// What it is.
    pub quantity: &'static str,
    /// Unit: `bytes`, or empty for a count.
    pub unit: &'static str,
    /// The plan: an upper bound.
    pub planned: f64,
    /// What was seen.
    pub measured: Option<f64>,
}

fn text(event: &Value, key: &str) -> String {
    event[key].as_str().unwrap_or_default().to_owned()
}

fn seconds_between(from: &str, to: &str) -> f64 {
    let parse = |t: &str| t.parse::<Timestamp>().ok();
    parse(from).zip(parse(to)).map_or(f64::NAN, |(a, b)| b.duration_since(a).as_secs_f64())
}

/// The attempts, oldest first. `alive`: whether the newest one's process is still there.
pub fn attempts(events: &[Value], alive: bool) -> Vec<Attempt> {
    let mut attempts: Vec<Attempt> = Vec::new();
    for event in events {
        if event["event"] == "started" {
            attempts.push(begin(event));
        } else if let Some(attempt) = attempts.last_mut() {
            advance(attempt, event);
        }
    }
    if let Some(last) = attempts.last_mut().filter(|a| alive && a.state == State::Interrupted) {
        last.state = State::Running;
    }
    attempts
}

fn begin(event: &Value) -> Attempt {
    let number = |key: &str| event[key].as_u64().unwrap_or(0);
    Attempt {
        epoch: number("epoch"),
        started: text(event, "time"),
        last_seen: text(event, "time"),
        seconds: 0.0,
        state: State::Interrupted,
        reason: None,
        first_step: number("step"),
        last_step: number("step"),
        ranks: number("ranks"),
        threads: number("threads"),
        host: text(event, "host"),
        device: text(event, "device"),
        checkpoints: Checkpoints::default(),
    }
}

fn advance(attempt: &mut Attempt, event: &Value) {
    // What somebody does with the run afterwards is none of the attempt's time.
    if matches!(event["event"].as_str(), Some("begun" | "submitted" | "changed" | "stolen" | "refused" | "not-started"))
    {
        return;
    }
    attempt.last_seen = text(event, "time");
    attempt.seconds = seconds_between(&attempt.started, &attempt.last_seen);
    // A checkpoint's name carries its step: `s00000050.e00001`.
    let named = event["name"].as_str().and_then(|n| n.get(1..9)).and_then(|n| n.parse().ok());
    match event["event"].as_str().unwrap_or_default() {
        "checkpoint" => {
            attempt.checkpoints.count += 1;
            attempt.checkpoints.bytes = event["bytes"].as_u64().unwrap_or(0);
            attempt.checkpoints.seconds += event["seconds"].as_f64().unwrap_or(0.0);
        }
        "checkpoint-failed" => attempt.checkpoints.failed += 1,
        "finished" => attempt.state = State::Complete,
        "stopped" => {
            attempt.state = State::Stopped;
            attempt.reason = Some(text(event, "reason"));
        }
        "failed" => {
            attempt.state = State::Failed;
            attempt.reason = Some(text(event, "error"));
        }
        // The supervisor's word of an attempt that left none itself.
        "attempt-ended" if attempt.state == State::Interrupted && event["epoch"] == attempt.epoch => {
            attempt.reason = Some(text(event, "how"));
        }
        _ => {}
    }
    if let Some(step) = event["step"].as_u64().or(named) {
        attempt.last_step = attempt.last_step.max(step);
    }
}

/// What the newest attempt planned, beside what was seen; `result` is the size of the result file.
pub fn planned(events: &[Value], attempts: &[Attempt], result: Option<u64>) -> Vec<Planned> {
    let Some(plan) =
        events.iter().rev().find(|e| e["event"] == "started").map(|e| &e["plan"]).filter(|p| p.is_object())
    else {
        return Vec::new();
    };
    let finished = events.iter().rev().find(|e| e["event"] == "finished");
    let seen = |key: &str| finished.and_then(|e| e[key].as_f64());
    let memory = plan["memory"].as_array().map_or(0.0, |items| items.iter().filter_map(|i| i[1].as_f64()).sum());
    let checkpoint = attempts.iter().rev().map(|a| a.checkpoints).find(|c| c.count > 0);
    let row = |quantity, unit, planned: f64, measured| Planned { quantity, unit, planned, measured };
    vec![
        row("steps", "", plan["steps"].as_f64().unwrap_or(f64::NAN), attempts.last().map(|a| a.last_step as f64)),
        row("memory per rank", "bytes", memory, seen("peak_memory")),
        row("sent per rank", "bytes", plan["bytes_sent_per_rank"].as_f64().unwrap_or(f64::NAN), seen("bytes_sent")),
        row(
            "checkpoint",
            "bytes",
            plan["checkpoint_bytes"].as_f64().unwrap_or(f64::NAN),
            checkpoint.map(|c| c.bytes as f64),
        ),
        row("result file", "bytes", plan["result_bytes"].as_f64().unwrap_or(f64::NAN), result.map(|b| b as f64)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_killed_attempt_and_its_successor_are_told_apart() {
        let events = [
            json!({"event": "started", "epoch": 1, "step": 0, "ranks": 2, "time": "2026-01-01T00:00:00Z"}),
            json!({"event": "checkpoint", "name": "s00000020.e00001", "bytes": 7, "seconds": 0.5, "time": "2026-01-01T00:00:09Z"}),
            json!({"event": "attempt-ended", "epoch": 1, "how": "killed by signal 9", "time": "2026-01-01T00:00:10Z"}),
            json!({"event": "begun", "epoch": 1, "time": "2026-01-01T00:59:59Z"}),
            json!({"event": "started", "epoch": 2, "step": 20, "ranks": 4, "time": "2026-01-01T01:00:00Z"}),
            json!({"event": "stopped", "step": 33, "reason": "SIGTERM", "time": "2026-01-01T01:00:05Z"}),
        ];
        let found = attempts(&events, false);
        assert_eq!(found.iter().map(|a| a.state).collect::<Vec<_>>(), [State::Interrupted, State::Stopped]);
        assert_eq!((found[0].last_step, found[0].checkpoints.bytes, found[0].seconds), (20, 7, 10.0));
        assert_eq!(found[0].reason.as_deref(), Some("killed by signal 9"));
        assert_eq!((found[1].first_step, found[1].last_step, found[1].reason.as_deref()), (20, 33, Some("SIGTERM")));
        assert_eq!(attempts(&events[..5], true)[1].state, State::Running);
    }
}
