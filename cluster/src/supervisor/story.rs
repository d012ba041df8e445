//! What a run directory tells of its attempts: how many there were, how many in vain, how long they took.

use serde_json::Value;

use crate::checkpoint;
use crate::run_dir::RunDir;

/// Attempts since the run was last begun by hand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Story {
    /// How many, those included that failed before they owned the directory.
    pub attempts: u32,
    /// How many in a row, up to the newest, without a new checkpoint.
    pub fruitless: u32,
    /// Seconds that they took.
    pub seconds: u64,
}

impl Story {
    /// Reads it.
    pub fn of(dir: &RunDir) -> Self {
        let newest = checkpoint::list(&dir.checkpoints()).into_iter().max();
        Self::from(&dir.events(), dir.newest_epoch(), newest.map_or(0, |name| name.epoch))
    }

    fn from(events: &[Value], newest: u32, newest_with_checkpoint: u32) -> Self {
        let begun = events.iter().rposition(|e| e["event"] == "begun");
        let since = begun.map_or(events, |i| &events[i..]);
        let before = begun.map_or(0, |i| events[i]["epoch"].as_u64().unwrap_or(0) as u32);
        let of = |events: &[Value], kind: &str| events.iter().filter(|e| e["event"] == kind).count() as u32;
        let last = since.iter().rposition(|e| e["event"] == "checkpoint").unwrap_or(0);
        Self {
            attempts: newest.saturating_sub(before) + of(since, "not-started"),
            fruitless: newest.saturating_sub(before.max(newest_with_checkpoint)) + of(&since[last..], "not-started"),
            seconds: seconds(since),
        }
    }
}

/// From each start to the last word before the next one.
fn seconds(events: &[Value]) -> u64 {
    let time = |e: &Value| e["time"].as_str()?.parse::<jiff::Timestamp>().ok();
    let mut total = 0.0;
    let mut start = None;
    for (i, event) in events.iter().enumerate() {
        if event["event"] == "started" {
            start = time(event);
        }
        let last = events.get(i + 1).is_none_or(|next| next["event"] == "started");
        if let (true, Some(from), Some(to)) = (last, start, time(event)) {
            total += to.duration_since(from).as_secs_f64();
        }
    }
    total as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn at(kind: &str, second: u32) -> Value {
        json!({"event": kind, "time": format!("2026-01-01T00:00:{second:02}Z")})
    }

    #[test]
    fn attempts_are_counted_from_where_a_hand_began() {
        let mut events = vec![at("started", 0), at("checkpoint", 5), at("started", 10), at("progress", 12)];
        assert_eq!(Story::from(&events, 2, 1), Story { attempts: 2, fruitless: 1, seconds: 7 });
        events.push(json!({"event": "begun", "epoch": 2, "time": "2026-01-01T00:00:20Z"}));
        assert_eq!(Story::from(&events, 2, 1), Story::default());
        events.extend([at("not-started", 21), at("started", 30), at("checkpoint", 32), at("stopped", 33)]);
        events.push(at("not-started", 40));
        // The third attempt wrote a checkpoint, the start after it failed.
        assert_eq!(Story::from(&events, 3, 3), Story { attempts: 3, fruitless: 1, seconds: 10 });
    }
}
