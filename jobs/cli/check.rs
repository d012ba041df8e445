//! `convoke check`: what a job means and what it costs, before anything is spent.

use std::path::PathBuf;

use clap::Args;
use convoke_cluster::driver::Placement;
use convoke_cluster::workload::Inputs;
use convoke_cluster::{Exit, JobText, machine};
use serde_json::json;

use super::{Done, say};
use crate::registry;

/// Options of `convoke check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The job file.
    job: PathBuf,
    /// Price it for this many ranks instead of the job's own number.
    #[arg(short = 'n', long, value_name = "RANKS")]
    ranks: Option<usize>,
    /// How many of the ranks share one host; by default all do.
    #[arg(long, value_name = "RANKS")]
    ranks_per_host: Option<usize>,
    /// For scripts.
    #[arg(long)]
    json: bool,
}

pub(super) fn check(args: &CheckArgs) -> Done {
    let text = JobText::read(&args.job)?;
    let entry = registry::of(&text)?;
    let ranks = args.ranks.map_or_else(|| (entry.ranks)(&text), Ok)?.max(1);
    let here = args.ranks_per_host.unwrap_or(ranks).clamp(1, ranks);
    let threads = (machine::cores() / here).max(1);
    let quote = (entry.price)(
        &text,
        &Inputs { base: text.dir() },
        &Placement { ranks, ranks_here: here, threads, memory_here: None },
    )?;
    if args.json {
        say::json(&json!({
            "job": quote.name, "workload": entry.name, "ranks": ranks,
            "memory_available_per_rank": quote.resources.memory_per_rank, "plan": quote.plan,
            "memory_per_rank": quote.plan.memory_per_rank(),
        }));
        return Ok(Exit::Complete);
    }
    let memory = machine::human_bytes(quote.resources.memory_per_rank);
    say::line(&format!("{}: {} on {ranks} ranks, {memory} of memory for each", quote.name, entry.name));
    for (item, figure) in quote.plan.lines() {
        say::line(&format!("  {item:<34} {figure}"));
    }
    Ok(Exit::Complete)
}
