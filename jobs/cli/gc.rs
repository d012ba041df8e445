//! `convoke gc`: what runs no longer need, and what killed launchers left on this host.

use std::path::{Path, PathBuf};

use clap::Args;
use convoke_cluster::checkpoint::{self, Name};
use convoke_cluster::machine::human_bytes;
use convoke_cluster::run_dir::RunDir;
use convoke_cluster::{Error, Exit, supervisor};
use serde_json::json;

use super::{Done, say};

/// Options of `convoke gc`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  convoke gc runs/* --dry-run    what would go
  convoke gc runs/heat-2026*     checkpoints of complete runs, drafts, damaged checkpoints that are not needed")]
pub struct GcArgs {
    /// Run directories.
    runs: Vec<PathBuf>,
    /// How many checkpoints of an unfinished run to keep; those of a complete one all go.
    #[arg(long, default_value_t = 2, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    keep: u64,
    /// Only say what would go.
    #[arg(long)]
    dry_run: bool,
    /// For scripts.
    #[arg(long)]
    json: bool,
}

pub(super) fn gc(args: &GcArgs) -> Done {
    let mut gone: Vec<(PathBuf, u64)> = Vec::new();
    for path in &args.runs {
        let (run, _, _) = RunDir::open(path)?;
        if let Some(owner) = run.owner().filter(|owner| run.is_alive(owner)) {
            return Err(Error::Locked {
                dir: run.path,
                owner: format!("attempt {} (process {} on {})", owner.epoch, owner.pid, owner.host),
                help: "a run that is at work keeps its own directory tidy".into(),
            });
        }
        gone.extend(superfluous(&run, args.keep as usize).into_iter().map(|p| (p.clone(), size(&p))));
    }
    if !args.dry_run {
        for (path, _) in &gone {
            // First the commit mark, so that a half-removed checkpoint is none.
            let _ = std::fs::remove_file(path.join("manifest.json"));
            let removed = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
            removed.map_err(|source| Error::Io { path: path.clone(), source })?;
        }
        gone.extend(supervisor::sweep().into_iter().map(|p| (p, 0)));
    }
    let total: u64 = gone.iter().map(|(_, bytes)| bytes).sum();
    if args.json {
        let paths: Vec<_> = gone.iter().map(|(p, bytes)| json!({ "path": p, "bytes": bytes })).collect();
        say::json(&json!({ "removed": !args.dry_run, "bytes": total, "paths": paths }));
        return Ok(Exit::Complete);
    }
    for (path, bytes) in &gone {
        say::line(&format!("{:>10}  {}", human_bytes(*bytes), path.display()));
    }
    let verb = if args.dry_run { "would go" } else { "gone" };
    say::line(&format!("{} {verb}", human_bytes(total)));
    Ok(Exit::Complete)
}

/// What the run can do without: the newest whole checkpoint is never among it unless the result is there.
fn superfluous(run: &RunDir, keep: usize) -> Vec<PathBuf> {
    let ckpt = run.checkpoints();
    let complete = run.is_complete();
    let mut names = checkpoint::list(&ckpt);
    names.sort_unstable_by(|a, b| b.cmp(a));
    let whole = |n: &Name| {
        let dir = ckpt.join(n.to_string());
        checkpoint::Manifest::read(&dir).and_then(|m| checkpoint::verify(&dir, &m, 0, 1)).is_ok()
    };
    let has_whole = complete || names.iter().take(keep).any(whole);
    let mut found: Vec<PathBuf> = Vec::new();
    for path in std::fs::read_dir(&ckpt).into_iter().flatten().flatten().map(|e| e.path()) {
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let committed = name.parse::<Name>().ok().filter(|n| names.contains(n));
        let rank = committed.and_then(|n| names.iter().position(|m| *m == n));
        let old = match rank {
            Some(rank) => complete || (has_whole && rank >= keep),
            // Begun and never committed, or set aside as damaged.
            None => has_whole,
        };
        if old {
            found.push(path);
        }
    }
    if complete {
        found.extend(Some(run.path.join("pieces")).filter(|p| p.exists()));
    }
    found
}

fn size(path: &Path) -> u64 {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    if path.is_dir() {
        return entries.map(|e| size(&e.path())).sum();
    }
    std::fs::symlink_metadata(path).map_or(0, |m| m.len())
}
