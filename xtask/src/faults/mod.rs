//! `cargo xtask faults`: the program under random faults, counted.

use std::path::{Path, PathBuf};

use serde_json::json;
use xshell::{Shell, cmd};

use crate::error::{Error, Result};
use crate::say;

#[allow(dead_code, reason = "tests/faults.rs uses more of it")]
mod injector;

use injector::{Campaign, Tally};

/// Size of the small disk: the job's files (5.4 MiB by its own reckoning), and what one damaged run leaves beside them.
const SMALL_DISK: &str = "size=24m";

/// Options of `cargo xtask faults`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cargo xtask faults                       100 faults over 10 runs: a few minutes
  cargo xtask faults --faults 1000 --runs 100 --seed 7
  cargo xtask faults --program ./convoke   without building it

Every run is killed, asked to stop, refused by its disk or robbed of its files at random moments, goes on with
`convoke resume` on 1 to 4 ranks, and must end with the bits of a run that was left alone. Directories of runs
that did not are kept. As root on Linux, half of the runs lie on a small disk of their own, to see it full.")]
pub struct Args {
    /// Runs.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    runs: u64,
    /// Faults in all, spread over the runs [default: 10 for each].
    #[arg(long)]
    faults: Option<u64>,
    /// Seed of every random choice.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Most ranks of an attempt; 1 where there is no mpirun.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=64))]
    ranks: u64,
    /// This program instead of a release build of this source.
    #[arg(long)]
    program: Option<PathBuf>,
    /// For scripts.
    #[arg(long)]
    json: bool,
}

/// Builds the program, injects, reports; an error if a run was lost, wrong or without an end.
pub fn faults(sh: &Shell, args: &Args) -> Result<()> {
    let program = match &args.program {
        Some(program) => std::path::absolute(program).map_err(Error::file(program))?,
        None => {
            cmd!(sh, "cargo build --release --package convoke").quiet().run()?;
            sh.current_dir().join("target/release/convoke")
        }
    };
    let scratch =
        tempfile::Builder::new().prefix("convoke-faults-").tempdir().map_err(Error::file(&std::env::temp_dir()))?;
    let disk = scratch.path().join("small-disk");
    std::fs::create_dir(&disk).map_err(Error::file(&disk))?;
    let mounted = cmd!(sh, "mount -t tmpfs -o {SMALL_DISK} tmpfs {disk}").quiet().ignore_stdout().ignore_stderr().run();
    let campaign = Campaign {
        program,
        scratch: scratch.path().to_owned(),
        small_disk: mounted.is_ok().then(|| disk.clone()),
        most_ranks: if which::which("mpirun").is_ok() { args.ranks } else { 1 },
        seed: args.seed,
        runs: args.runs,
        faults: args.faults.unwrap_or(10 * args.runs),
    };
    let mut progress = |text: &str| {
        if !args.json {
            say::line(text);
        }
    };
    let same = |a: &Path, b: &Path| same(sh, &campaign.program, a, b);
    let injected = campaign.inject(&same, &mut progress);
    let tally = injected.map_err(|reason| Error::Faults { reason });
    if tally.as_ref().is_ok_and(|t| t.misfortunes.is_empty()) || tally.is_err() {
        if mounted.is_ok() {
            let _ = cmd!(sh, "umount {disk}").quiet().run();
        }
    } else {
        // They are for looking at.
        let _ = scratch.keep();
    }
    report(args, &campaign, &tally?)
}

/// `convoke analyse diff`, without tolerance.
fn same(sh: &Shell, program: &Path, a: &Path, b: &Path) -> std::result::Result<(), String> {
    let (a, b) = (a.join("result.h5"), b.join("result.h5"));
    let output = cmd!(sh, "{program} analyse diff {a} {b}").quiet().ignore_status().output();
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            Err(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).trim().replace('\n', " | "))
        }
        Err(error) => Err(error.to_string()),
    }
}

fn report(args: &Args, campaign: &Campaign, tally: &Tally) -> Result<()> {
    let resumed = tally.start_to_resumed();
    if args.json {
        let rows: serde_json::Map<_, _> = tally
            .rows
            .iter()
            .map(|(kind, outcomes)| {
                let [went_on, newest, older, start, refused] = Tally::row(outcomes);
                let row =
                    json!({ "went_on": went_on, "newest": newest, "older": older, "start": start, "refused": refused });
                (kind.clone(), row)
            })
            .collect();
        let value = json!({
            "seed": campaign.seed, "faults": tally.faults(), "runs": tally.runs, "attempts": tally.attempts, "results_compared": tally.compared,
            "lost": tally.lost, "wrong": tally.wrong, "hangs": tally.hangs, "kinds": rows,
            "resumed_median_seconds": resumed.map(|r| r.0), "resumed_p95_seconds": resumed.map(|r| r.1),
            "misfortunes": tally.misfortunes.iter().map(|(why, dir)| json!({ "why": why, "dir": dir })).collect::<Vec<_>>(),
        });
        say::line(value);
    } else {
        say::heading("What came of each fault");
        let rows = tally.rows.iter().map(|(kind, outcomes)| {
            let row = Tally::row(outcomes);
            let shown = row.map(|n| if n == 0 { String::new() } else { n.to_string() });
            let [went_on, newest, older, start, refused] = shown;
            [kind.clone(), row.iter().sum::<u64>().to_string(), went_on, newest, older, start, refused]
        });
        say::table(["fault", "count", "went on", "from newest", "from older", "from step 0", "refused (6)"], rows);
        if campaign.small_disk.is_none() {
            say::line("skipped: no small disk could be mounted (needs root); ENOSPC came from the failpoint alone");
        }
        tally.misfortunes.iter().for_each(|(why, dir)| say::line(format!("{why}\n  kept: {}", dir.display())));
        say::line(format!(
            "\n{} (seed {}, {} starts, {} results compared)",
            tally.line(),
            campaign.seed,
            tally.attempts,
            tally.compared
        ));
        if let Some((median, p95)) = resumed {
            say::line(format!("start to resumed: median {median:.2} s, p95 {p95:.2} s of {}", tally.resumed.len()));
        }
    }
    match tally.lost + tally.wrong + tally.hangs {
        0 => Ok(()),
        _ => Err(Error::Faults { reason: tally.line() }),
    }
}
