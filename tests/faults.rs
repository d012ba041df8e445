//! No fault loses a run or changes a result: each row of the fault table, and a small random campaign.
//!
//! `CONVOKE_FAULTS` sets the number of random faults (40 by default), `CONVOKE_FAULT_SEED` their seed, `CONVOKE_DUELS` how often
//! two programs begin the same run at once (8); `cargo xtask faults` injects any number of faults into a release build.

mod common;
#[path = "../xtask/src/faults/injector/mod.rs"]
#[allow(dead_code, reason = "cargo xtask faults uses the rest of it")]
mod injector;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::{assert_same_bits, below, convoke, has_mpirun, job, run, scratch, small, told, volume};
use convoke_cluster::run_dir::RunDir;
use injector::kind::KILL_POINTS;
use injector::{Campaign, committed};

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

fn spec(dir: &Path) -> String {
    job(dir, "job.toml", &injector::job())
}

/// Runs with `CONVOKE_FAULT`; exit code and what was said.
fn faulty(args: &[&str], fault: &str) -> (i32, String) {
    let output = convoke().env("CONVOKE_FAULT", fault).args(args).output().expect("the program starts");
    let (code, _, err) = told(&output);
    (code, err)
}

/// The volume of a run that nothing befell.
fn reference(dir: &Path, spec: &str) -> Vec<f32> {
    let path = below(dir, "reference");
    assert_eq!(told(&run(&["run", spec, "--dir", &path, "-q"])).0, 0);
    volume(path.as_ref())
}

fn events(run: &Path, kind: &str) -> Vec<serde_json::Value> {
    let events = RunDir { path: run.to_owned() }.events();
    events.into_iter().filter(|e| e["event"] == kind).collect()
}

#[allow(clippy::print_stderr, reason = "the count is the result")]
#[test]
fn random_faults_lose_no_run_and_change_no_bit() {
    let scratch = scratch();
    let faults = number("CONVOKE_FAULTS", 40);
    let campaign = Campaign {
        program: PathBuf::from(env!("CARGO_BIN_EXE_convoke")),
        scratch: scratch.path().to_owned(),
        small_disk: None,
        most_ranks: if has_mpirun() { 4 } else { 1 },
        seed: number("CONVOKE_FAULT_SEED", 1),
        runs: faults.div_ceil(10).max(1),
        faults,
    };
    let same = |a: &Path, b: &Path| {
        assert_same_bits(&volume(a), &volume(b), &b.display().to_string());
        Ok(())
    };
    let tally = campaign.inject(&same, &mut |_| {}).expect("a campaign");
    assert_eq!((tally.lost, tally.wrong, tally.hangs), (0, 0, 0), "{:#?}", tally.misfortunes);
    assert!(tally.faults() >= faults, "{}", tally.line());
    eprintln!("{} (seed {})", tally.line(), campaign.seed);
}

/// Two programs that begin the same run, and two that go on with it, at the same moment: each time one owns it, the other says so,
/// and the result is that of a run that was left alone.
#[test]
fn of_two_that_begin_at_once_one_owns_the_run() {
    let scratch = scratch();
    let spec = spec(scratch.path());
    let expected = reference(scratch.path(), &spec);
    let (rounds, mut refused) = (number("CONVOKE_DUELS", 8), 0);
    for round in 0..rounds {
        let dir = below(scratch.path(), &format!("run-{round}"));
        // What each of them is called with: first to begin, then to go on.
        for words in [vec!["run", &spec, "--dir", &dir, "--stop-after", "30", "-q"], vec!["resume", &dir, "-q"]] {
            let start = || convoke().args(&words).stderr(std::process::Stdio::piped()).spawn().expect("it starts");
            let done = [start(), start()].map(|child| told(&child.wait_with_output().expect("it ends")));
            let good = if words[0] == "run" { 75 } else { 0 };
            let (won, lost): (Vec<_>, Vec<_>) = done.iter().partition(|(code, _, _)| *code == good);
            assert!(!won.is_empty(), "round {round}: {done:?}");
            for (code, _, err) in lost {
                let said = (*code == 7 && err.contains("is owned by")) || (*code == 2 && err.contains("holds"));
                assert!(said, "round {round}: {code}: {err}");
                refused += 1;
            }
        }
        // Owners one after the other: none began before the one before it had given the run back.
        let events = RunDir { path: dir.clone().into() }.events();
        let kinds = events.iter().filter_map(|e| e["event"].as_str());
        let kinds: Vec<_> = kinds.filter(|k| ["started", "stopped", "finished"].contains(k)).collect();
        assert!(
            kinds.chunks(2).all(|pair| pair[0] == "started" && pair.len() == 2 && pair[1] != "started"),
            "{kinds:?}"
        );
        assert_same_bits(&expected, &volume(dir.as_ref()), &dir);
        fs::remove_dir_all(&dir).expect("removed");
    }
    // Most of them did meet.
    assert!(refused > rounds, "{refused} refused in {rounds} rounds");
}

/// `kill -9` in front of every system call of a commit, on rank 0 and on another: what follows has the same bits.
#[test]
fn a_kill_at_every_point_of_the_commit_leaves_a_run_that_goes_on() {
    let scratch = scratch();
    let spec = spec(scratch.path());
    let expected = reference(scratch.path(), &spec);
    let ranks = if has_mpirun() { 2 } else { 1 };
    for (point, rank_0_alone) in KILL_POINTS {
        for rank in 0..ranks {
            if rank > 0 && (rank_0_alone || !point.starts_with("shard")) {
                continue;
            }
            let what = format!("{point} on rank {rank}");
            let dir = below(scratch.path(), &format!("{point}-{rank}"));
            let n = (rank + 1).to_string();
            if point == "ckpt-load" {
                assert_eq!(told(&run(&["run", &spec, "--dir", &dir, "-q", "--stop-after", "20"])).0, 75);
            }
            // The second or third checkpoint, so that there is one to go back to.
            let nth = if point.starts_with("retain") { 1 } else { 3 };
            let nth = if matches!(point, "ckpt-load" | "result-rename") { 1 } else { nth };
            let command = if point == "ckpt-load" { vec!["resume", &dir] } else { vec!["run", &spec, "--dir", &dir] };
            let args = [&command[..], &["-n", &n, "--threads", "1", "-q"]].concat();
            let (code, err) = faulty(&args, &format!("kill@{point}:rank={rank}:nth={nth}"));
            assert!(code == -1 || code == 1, "{what}: the fault did not strike: {code} {err}");
            let before = committed(dir.as_ref()).last().map(|(step, _)| *step);
            let output = run(&["resume", &dir, "--threads", "1", "-q"]);
            assert_eq!(told(&output).0, 0, "{what}: {}", told(&output).2);
            let resumed = events(dir.as_ref(), "started").last().expect("it started")["step"].as_u64();
            assert_eq!(resumed, Some(before.unwrap_or(0)), "{what}: it goes on from the newest one");
            assert_same_bits(&expected, &volume(dir.as_ref()), &what);
            fs::remove_dir_all(&dir).expect("removed");
        }
    }
}

/// Full disk, quota, read-only file system, bad disk, at each place where they can be met: a warning that says
/// what happened, a checkpoint less, the same result.
#[test]
fn a_system_call_that_fails_costs_a_checkpoint_and_not_the_run() {
    let scratch = scratch();
    let spec = spec(scratch.path());
    let expected = reference(scratch.path(), &spec);
    for (fault, words) in [
        ("enospc@shard-write", "the disk or the quota is full"),
        ("edquot@shard-write", "the disk or the quota is full"),
        ("erofs@ckpt-mkdir", "read-only file system"),
        ("eio@shard-sync", "input/output error"),
        ("eio@shard-verify", "input/output error"),
        ("enospc@manifest-write", "the disk or the quota is full"),
        ("eio@manifest-rename", "input/output error"),
        ("eio@manifest-dir-sync", "input/output error"),
    ] {
        let dir = below(scratch.path(), &fault.replace('@', "-"));
        let args = ["run", &spec, "--dir", &dir, "--threads", "1"];
        let (code, err) = faulty(&args, &format!("{fault}:nth=2"));
        assert_eq!(code, 0, "{fault}: {err}");
        let warning = err.lines().find(|l| l.contains("warning: checkpoint at step")).unwrap_or_default();
        assert!(warning.to_lowercase().contains(words), "{fault}: {err}");
        assert_eq!(events(dir.as_ref(), "checkpoint-failed").len(), 1, "{fault}");
        assert!(events(dir.as_ref(), "checkpoint").len() >= 10, "{fault}: the others were written");
        assert_same_bits(&expected, &volume(dir.as_ref()), fault);
        fs::remove_dir_all(&dir).expect("removed");
    }
}

#[test]
fn three_failures_in_a_row_stop_the_run_and_leave_the_checkpoint_before() {
    let scratch = scratch();
    let spec = spec(scratch.path());
    let dir = below(scratch.path(), "run");
    // The second checkpoint is the first to fail.
    let args = ["run", &spec, "--dir", &dir, "--threads", "1", "-q"];
    let (code, err) = faulty(&args, "enospc@manifest-create:nth=2:times=all");
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("3 checkpoints in a row") && err.contains("convoke resume"), "{err}");
    let left: Vec<u64> = committed(dir.as_ref()).iter().map(|(step, _)| *step).collect();
    assert_eq!(left, [7], "the last good one is intact, nothing half-made is taken for one");
    let entries = fs::read_dir(Path::new(&dir).join("ckpt")).expect("checkpoints").count();
    assert_eq!(entries, 1, "what failed is cleared away");
    // Asked to stop with the disk still full: resumable from what there is, and said so.
    let args = ["resume", &dir, "--threads", "1", "--stop-after", "5"];
    let (code, err) = faulty(&args, "enospc@shard-write:times=all");
    assert_eq!(code, 75, "{err}");
    assert!(err.contains("step 12 could not be saved") && err.contains("step 7 is intact"), "{err}");
    assert_eq!(told(&run(&["resume", &dir, "-q"])).0, 0);
    assert_same_bits(&reference(scratch.path(), &spec), &volume(dir.as_ref()), "after a full disk");
}

#[test]
fn a_slow_disk_does_not_hold_the_computation() {
    let scratch = scratch();
    let text = small(64, 24, 60, "algorithm = \"sirt\"\niterations = 2000");
    let text = text.replace("[problem.phantom]", "[checkpoint]\nevery = \"300ms\"\n[problem.phantom]");
    let spec = job(scratch.path(), "job.toml", &text);
    let dir = below(scratch.path(), "run");
    let args = ["run", &spec, "--dir", &dir, "--threads", "1", "-q", "--stop-after", "1500"];
    let (code, err) = faulty(&args, "delay@shard-sync:for=1s:times=1");
    assert_eq!(code, 75, "{err}");
    let checkpoints = events(dir.as_ref(), "checkpoint");
    let first = &checkpoints[0];
    let second = |key: &str| first[key].as_f64().expect("a number");
    assert_eq!(first["beside"], true, "{first}");
    // Written in the way, it would hold the computation for as long as the disk: a second.
    assert!(second("seconds") >= 1.0 && second("held_seconds") < 1.0, "{first}");
    let next = &checkpoints[1];
    assert!(next["name"].as_str() > first["name"].as_str(), "{checkpoints:?}");
}

#[test]
fn a_stop_asked_for_during_a_checkpoint_waits_for_it_and_saves_the_last_step() {
    let scratch = scratch();
    let spec = spec(scratch.path());
    let dir = below(scratch.path(), "run");
    let child = convoke()
        .env("CONVOKE_FAULT", "delay@shard-sync:for=400ms:nth=2")
        .args(["run", &spec, "--dir", &dir, "--threads", "1", "-q"])
        .spawn()
        .expect("the program starts");
    let begun = Instant::now();
    let in_second = || {
        let steps: Vec<_> = fs::read_dir(Path::new(&dir).join("ckpt")).into_iter().flatten().flatten().collect();
        steps.len() == 2 && committed(dir.as_ref()).len() == 1
    };
    while !in_second() {
        assert!(begun.elapsed() < Duration::from_secs(60), "the second checkpoint never begins");
        std::thread::sleep(Duration::from_millis(1));
    }
    for _ in 0..2 {
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::USR1).expect("it runs");
    }
    assert_eq!(child.wait_with_output().expect("it ends").status.code(), Some(75));
    let stopped = events(dir.as_ref(), "stopped").pop().expect("it stopped");
    let newest = committed(dir.as_ref()).last().map(|(step, _)| *step);
    assert_eq!(stopped["step"].as_u64(), newest, "{stopped}");
    assert!(newest >= Some(14), "the one under way was committed first");
    assert_eq!(told(&run(&["resume", &dir, "-q"])).0, 0);
    assert_same_bits(&reference(scratch.path(), &spec), &volume(dir.as_ref()), "stopped in a checkpoint");
}

#[test]
fn a_damaged_newest_checkpoint_is_reported_and_the_one_before_is_used() {
    let scratch = scratch();
    let spec = spec(scratch.path());
    let expected = reference(scratch.path(), &spec);
    for damage in ["flip", "truncate", "empty", "delete", "manifest"] {
        let dir = scratch.path().join(damage);
        let text = dir.display().to_string();
        assert_eq!(told(&run(&["run", &spec, "--dir", &text, "--stop-after", "30", "-q"])).0, 75);
        let (step, folder) = committed(&dir).pop().expect("checkpoints");
        assert_eq!(step, 30);
        let shard = folder.join("shard00000-of00001.h5");
        let mut bytes = fs::read(&shard).expect("a shard");
        match damage {
            "flip" => {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                fs::write(&shard, bytes).expect("written");
            }
            "truncate" => fs::write(&shard, &bytes[..bytes.len() - 100]).expect("written"),
            "empty" => fs::write(&shard, "").expect("written"),
            "delete" => fs::remove_file(&shard).expect("removed"),
            _ => fs::write(folder.join("manifest.json"), "{}").expect("written"),
        }
        let (code, _, err) = told(&run(&["resume", &text]));
        assert_eq!(code, 0, "{damage}: {err}");
        assert!(err.contains("warning: damaged checkpoint set aside"), "{damage}: {err}");
        assert!(err.contains("resumed at step 28"), "{damage}: {err}");
        assert_same_bits(&expected, &volume(&dir), damage);
    }
}

#[test]
fn with_every_checkpoint_damaged_the_exit_code_is_6_nothing_is_deleted_and_restart_begins_anew() {
    let scratch = scratch();
    let spec = spec(scratch.path());
    let dir = scratch.path().join("run");
    let text = dir.display().to_string();
    assert_eq!(told(&run(&["run", &spec, "--dir", &text, "--stop-after", "30", "-q"])).0, 75);
    for (_, folder) in committed(&dir) {
        fs::write(folder.join("shard00000-of00001.h5"), "no shard").expect("written");
    }
    for _ in 0..2 {
        let (code, _, err) = told(&run(&["resume", &text, "-q"]));
        assert_eq!(code, 6, "{err}");
        assert!(err.contains("--restart"), "{err}");
    }
    let bad = fs::read_dir(dir.join("ckpt")).expect("checkpoints").flatten();
    assert_eq!(bad.filter(|e| e.path().extension().is_some_and(|x| x == "bad")).count(), 2);
    assert_eq!(told(&run(&["resume", &text, "--restart", "-q"])).0, 0);
    assert_same_bits(&reference(scratch.path(), &spec), &volume(&dir), "begun anew");
}

#[test]
fn a_misspelt_fault_is_refused() {
    let scratch = scratch();
    let spec = spec(scratch.path());
    let (code, err) = faulty(&["run", &spec, "--dir", &below(scratch.path(), "run"), "-q"], "kill@shard-synk");
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("shard-sync") && err.contains("CONVOKE_FAULT"), "{err}");
}
