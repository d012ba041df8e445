//! `convoke logs`: what a submitted run has said, and what happened to any run.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use convoke_cluster::Exit;
use convoke_cluster::batch::Scheduler;
use convoke_cluster::run_dir::RunDir;
use serde_json::Value;

use super::{Done, say};

/// Options of `convoke logs`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  convoke logs runs/heat-20260101-120000           all that its batch jobs have said
  convoke logs runs/heat-20260101-120000 --errors  only what went wrong, first things first
  convoke logs runs/heat-20260101-120000 --events  what happened, with times
  convoke logs runs/heat-20260101-120000 -f        go on as it grows")]
pub struct LogsArgs {
    /// The run directory.
    dir: PathBuf,
    /// Go on until the run has left the queue.
    #[arg(short, long)]
    follow: bool,
    /// Only lines of this rank.
    #[arg(long)]
    rank: Option<usize>,
    /// Only errors and warnings.
    #[arg(long)]
    errors: bool,
    /// What happened, from the run's events.
    #[arg(long, conflicts_with_all = ["follow", "rank"])]
    events: bool,
}

pub(super) fn logs(args: &LogsArgs) -> Done {
    let (run, _, lock) = RunDir::open(&args.dir)?;
    let files = files(&run.path.join("logs"));
    if args.events || (files.is_empty() && !args.follow) {
        if !args.events {
            say::error_line("convoke: this run has no log: what it said went to the terminal; its events:");
        }
        run.events().iter().filter(|e| !args.errors || is_bad(e)).for_each(|e| say::line(&event(e)));
        return Ok(Exit::Complete);
    }
    let mut places: Vec<(PathBuf, u64)> = Vec::new();
    let mut live = false;
    for second in 0.. {
        // The controller has others to serve: it is asked now and then only.
        if args.follow && second % 10 == 0 {
            live = Scheduler.find(&lock.run_id)?.is_some();
        }
        for path in self::files(&run.path.join("logs")) {
            let known = places.iter().position(|(p, _)| *p == path);
            let index = known.unwrap_or_else(|| {
                places.push((path, 0));
                places.len() - 1
            });
            let (path, from) = &mut places[index];
            *from = show(path, *from, args);
        }
        if !live {
            break;
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    Ok(Exit::Complete)
}

/// Log files, in the order of their jobs.
fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path());
    let mut files: Vec<PathBuf> = entries.filter(|p| p.extension().is_some_and(|x| x == "out")).collect();
    let number =
        |p: &PathBuf| p.to_string_lossy().rsplit(['-', '.']).nth(1).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
    files.sort_by_key(number);
    files
}

/// Shows the lines after `from`; how far the file is read.
fn show(path: &Path, from: u64, args: &LogsArgs) -> u64 {
    use std::io::Seek;
    let Ok(mut file) = File::open(path) else { return from };
    if file.seek(std::io::SeekFrom::Start(from)).is_err() {
        return from;
    }
    let mut reader = BufReader::new(file);
    let (mut read, mut bytes) = (from, Vec::new());
    while reader.read_until(b'\n', &mut bytes).is_ok_and(|n| n > 0) {
        // A line that is still being written is left for the next look.
        if args.follow && bytes.last() != Some(&b'\n') {
            break;
        }
        read += bytes.len() as u64;
        let line = String::from_utf8_lossy(&bytes).trim_end().to_owned();
        bytes.clear();
        let of_rank = args.rank.is_none_or(|rank| rank_of(&line) == Some(rank));
        if of_rank && (!args.errors || is_error(&line)) {
            say::line(&line);
        }
    }
    read
}

/// `srun --label` begins a rank's lines with its number.
fn rank_of(line: &str) -> Option<usize> {
    line.split_once(": ")?.0.trim().parse().ok()
}

fn is_error(line: &str) -> bool {
    ["error:", "warning:", "rank ", "panicked", "Killed", "oom"].iter().any(|word| line.contains(word))
}

fn is_bad(event: &Value) -> bool {
    let kind = event["event"].as_str().unwrap_or_default();
    let bad = ["failed", "refused", "checkpoint-failed", "checkpoint-refused", "not-started", "attempt-ended"];
    bad.contains(&kind)
}

/// One line: time, what, and its details.
fn event(event: &Value) -> String {
    let time = event["time"].as_str().and_then(|t| t.parse::<jiff::Timestamp>().ok());
    let time = time.map_or_else(String::new, |t| {
        t.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string()
    });
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let details = event.as_object().into_iter().flatten().filter(|(key, value)| {
        !matches!(key.as_str(), "event" | "time" | "plan")
            && !value.is_null()
            && !value.as_array().is_some_and(Vec::is_empty)
    });
    let details: Vec<String> = details.map(|(key, value)| format!("{key} {}", plain(value))).collect();
    format!("{time}  {:<18} {}", event["event"].as_str().unwrap_or_default(), details.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_ranks_and_errors_are_told_apart() {
        assert_eq!(rank_of("3: step 20"), Some(3));
        assert_eq!(rank_of(" 12: step 20"), Some(12));
        assert_eq!(rank_of("srun: error: n2: task 3: Killed"), None);
        assert!(is_error("srun: error: n2: task 3: Killed") && !is_error("0: step 20   6.5 %"));
    }
}
