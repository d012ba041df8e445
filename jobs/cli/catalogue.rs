//! `convoke list` and `convoke new`: what there is, and a job file to start from.

use clap::Args;
use convoke_cluster::job::nearest;
use convoke_cluster::{Exit, JobError};
use serde_json::json;

use super::Done;
use super::say;
use crate::registry::{self, REGISTRY};

/// Options of `convoke list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// For scripts.
    #[arg(long)]
    json: bool,
}

/// Options of `convoke new`.
#[derive(Debug, Args)]
pub struct NewArgs {
    /// The workload, as `convoke list` shows it.
    workload: String,
    /// Which of its job files; the first is the one to start from.
    #[arg(long, value_name = "NAME")]
    example: Option<String>,
}

pub(super) fn list(args: &ListArgs) -> Done {
    if args.json {
        let entries = REGISTRY.iter().map(|e| {
            let jobs: Vec<&str> = e.jobs.iter().map(|(name, _)| *name).collect();
            json!({ "name": e.name, "summary": e.summary, "jobs": jobs })
        });
        say::json(&entries.collect());
        return Ok(Exit::Complete);
    }
    for entry in REGISTRY {
        say::line(&format!("{:<16} {}", entry.name, entry.summary));
        for (name, text) in entry.jobs {
            let about = text.lines().find_map(|l| l.strip_prefix("# ")).unwrap_or_default();
            say::line(&format!("  --example {name:<14} {about}"));
        }
    }
    Ok(Exit::Complete)
}

pub(super) fn new(args: &NewArgs) -> Done {
    let names: Vec<&str> = REGISTRY.iter().map(|e| e.name).collect();
    let entry = registry::find(&args.workload).ok_or_else(|| unknown("workload", &args.workload, &names))?;
    let jobs: Vec<&str> = entry.jobs.iter().map(|(name, _)| *name).collect();
    let wanted = args.example.as_deref().unwrap_or(jobs[0]);
    let text = entry.jobs.iter().find(|(name, _)| *name == wanted).map(|(_, text)| text);
    say::line(text.ok_or_else(|| unknown("example", wanted, &jobs))?.trim_end());
    Ok(Exit::Complete)
}

fn unknown(what: &str, name: &str, known: &[&str]) -> JobError {
    let help = match nearest(name, known) {
        Some(near) => format!("did you mean {near}?"),
        None => format!("known: {}", known.join(", ")),
    };
    JobError::command_line(format!("unknown {what} '{name}'"), help)
}
