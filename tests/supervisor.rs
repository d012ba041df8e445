//! `convoke run --attempts`: a run is kept going on one machine as a batch job is on a cluster. What else a supervisor does is in
//! `tests/slurm.rs`.

mod common;

use std::path::Path;

use common::{assert_same_bits, below, convoke, has_mpirun, job, run, scratch, small, told, volume};

/// A job with a checkpoint every five steps; `frame` goes into its `[run]`.
fn spec(dir: &Path, frame: &str) -> String {
    let text = small(24, 8, 16, "algorithm = \"cgls\"\niterations = 40");
    let frame = format!("[run]\n{frame}\n[checkpoint]\nevery_steps = 5\n[problem.phantom]");
    job(dir, "job.toml", &text.replace("[problem.phantom]", &frame))
}

fn reference(dir: &Path) -> Vec<f32> {
    let whole = below(dir, "reference");
    assert_eq!(told(&run(&["run", &spec(dir, ""), "--dir", &whole, "-q"])).0, 0);
    volume(whole.as_ref())
}

/// Runs with a fault in every attempt; exit code and messages.
fn with_fault(fault: &str, args: &[&str]) -> (i32, String) {
    let output = convoke().env("CONVOKE_FAULT", fault).arg("run").args(args).output().expect("the program starts");
    let (code, _, err) = told(&output);
    (code, err)
}

fn events(run: &Path, kind: &str) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(run.join("events.jsonl")).expect("events");
    let events = text.lines().map(|l| serde_json::from_str::<serde_json::Value>(l).expect("JSON"));
    events.filter(|e| e["event"] == kind).collect()
}

fn rank_counts() -> Vec<&'static str> {
    if has_mpirun() { vec!["1", "2"] } else { vec!["1"] }
}

#[test]
fn a_run_that_is_killed_again_and_again_comes_to_its_end() {
    let scratch = scratch();
    let expected = reference(scratch.path());
    let spec = spec(scratch.path(), "");
    for ranks in rank_counts() {
        let dir = below(scratch.path(), ranks);
        // Every attempt dies in its twelfth step, after two checkpoints.
        let (code, err) =
            with_fault("kill@step:rank=0:nth=12", &[&spec, "--dir", &dir, "-n", ranks, "--attempts", "10", "--quiet"]);
        assert_eq!(code, 0, "{ranks} ranks: {err}");
        assert!(err.contains("killed by signal 9; starting again"), "{err}");
        assert_same_bits(&expected, &volume(dir.as_ref()), ranks);
        let attempts = events(dir.as_ref(), "started").len();
        assert!((3..=8).contains(&attempts), "{attempts} attempts of at least 10 steps for 40");
        assert_eq!(events(dir.as_ref(), "attempt-ended").len(), attempts);
    }
}

#[test]
fn a_run_that_stands_still_is_ended_and_started_again() {
    let scratch = scratch();
    let expected = reference(scratch.path());
    let spec = spec(scratch.path(), "stall_timeout = \"5s\"");
    for ranks in rank_counts() {
        let dir = below(scratch.path(), ranks);
        // Every attempt stands still in its thirtieth step.
        let fault = "delay@step:nth=30:for=1h";
        let (code, err) = with_fault(fault, &[&spec, "--dir", &dir, "-n", ranks, "--attempts", "5", "--quiet"]);
        assert_eq!(code, 0, "{ranks} ranks: {err}");
        assert!(err.contains("no step was completed for"), "{err}");
        assert_same_bits(&expected, &volume(dir.as_ref()), ranks);
        assert!(events(dir.as_ref(), "attempt-ended").iter().any(|e| e["stalled"].as_u64().is_some_and(|s| s >= 5)));
    }
}

#[test]
fn attempts_in_vain_end_with_a_reason() {
    let scratch = scratch();
    let spec = spec(scratch.path(), "");
    let dir = below(scratch.path(), "run");
    // Every attempt dies before its first checkpoint.
    let (code, err) = with_fault("kill@step:nth=3", &[&spec, "--dir", &dir, "-n", "1", "--attempts", "10", "--quiet"]);
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("attempt after attempt ended without a new checkpoint"), "{err}");
    assert!(err.contains("begin again with `convoke resume"), "{err}");
    assert_eq!(events(dir.as_ref(), "started").len(), 3, "run.max_attempts_without_progress");
    // A hand that begins again is not held to what was before.
    assert_eq!(told(&run(&["resume", &dir, "--quiet"])).0, 0);
}

#[test]
fn a_restart_begins_at_step_0_on_any_number_of_ranks() {
    let scratch = scratch();
    let expected = reference(scratch.path());
    let spec = spec(scratch.path(), "");
    for ranks in rank_counts() {
        let dir = below(scratch.path(), ranks);
        assert_eq!(told(&run(&["run", &spec, "--dir", &dir, "--stop-after", "12", "-q"])).0, 75);
        assert_eq!(told(&run(&["resume", &dir, "--restart", "-n", ranks, "-q"])).0, 0);
        assert_eq!(events(dir.as_ref(), "started")[1]["step"], 0, "{ranks} ranks");
        assert_same_bits(&expected, &volume(dir.as_ref()), ranks);
    }
}

#[test]
fn what_another_attempt_would_meet_again_is_not_tried_again() {
    let scratch = scratch();
    let spec =
        job(scratch.path(), "job.toml", &small(24, 8, 16, "algorithm = \"fbp\"").replace("angles = 16", "angles = 0"));
    let dir = below(scratch.path(), "run");
    let (code, _, err) = told(&run(&["run", &spec, "--dir", &dir, "-n", "1", "--attempts", "10"]));
    assert_eq!(code, 2, "{err}");
    assert_eq!(err.matches("error:").count(), 1, "{err}");
    assert!(!Path::new(&dir).exists());
}

#[test]
fn cancel_stops_a_run_with_a_checkpoint() {
    let scratch = scratch();
    let text = small(64, 24, 60, "algorithm = \"sirt\"\niterations = 100000");
    let spec = job(scratch.path(), "long.toml", &text);
    let dir = below(scratch.path(), "run");
    let mut child =
        convoke().args(["run", &spec, "--dir", &dir, "-n", "1", "--attempts", "3", "-q"]).spawn().expect("it starts");
    let begun = std::time::Instant::now();
    while !Path::new(&dir).join("owner/e00001.beat").exists() {
        assert!(begun.elapsed().as_secs() < 60, "no attempt within a minute");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let (code, out, err) = told(&run(&["cancel", &dir]));
    assert!(code == 0 && out.contains("has stopped; the checkpoint of step"), "{out}{err}");
    assert_eq!(child.wait().expect("it ends").code(), Some(75));
    let (code, out, _) = told(&run(&["status", &dir, "--json"]));
    assert!(code == 0 && out.contains("\"stopped\""), "{out}");
    let (code, out, _) = told(&run(&["cancel", &dir]));
    assert!(code == 0 && out.contains("nothing to cancel"), "{out}");
}

#[test]
fn verify_finds_what_was_altered_and_gc_keeps_what_is_needed() {
    let scratch = scratch();
    let spec = spec(scratch.path(), "");
    let dir = below(scratch.path(), "run");
    assert_eq!(told(&run(&["run", &spec, "--dir", &dir, "--stop-after", "20", "-q"])).0, 75);
    assert_eq!(told(&run(&["verify", &dir])).0, 0);
    let names = || convoke_cluster::checkpoint::list(&Path::new(&dir).join("ckpt"));
    assert_eq!(names().len(), 2);
    assert_eq!(told(&run(&["gc", &dir, "--keep", "1", "--dry-run"])).0, 0);
    assert_eq!(names().len(), 2);
    let newest = names().into_iter().max().expect("two").to_string();
    let shard = Path::new(&dir).join("ckpt").join(&newest).join("shard00000-of00001.h5");
    let (good, mut bad) = (std::fs::read(&shard).expect("a shard"), std::fs::read(&shard).expect("a shard"));
    let middle = bad.len() / 2;
    bad[middle] ^= 4;
    std::fs::write(&shard, bad).expect("written");
    let (code, out, _) = told(&run(&["verify", &dir]));
    assert!(code == 9 && out.contains(&newest) && out.contains("is damaged"), "{out}");
    // The newest is damaged, so the one before must stay.
    assert_eq!(told(&run(&["gc", &dir, "--keep", "1"])).0, 0);
    assert_eq!(names().len(), 2);
    std::fs::write(&shard, good).expect("written");
    assert_eq!(told(&run(&["gc", &dir, "--keep", "1"])).0, 0);
    assert_eq!(names().len(), 1);
    assert_eq!(told(&run(&["resume", &dir, "-q"])).0, 0);
    assert_eq!(told(&run(&["gc", &dir])).0, 0);
    assert_eq!(names().len(), 0);
    assert_eq!(told(&run(&["verify", &dir])).0, 0);
    std::fs::write(Path::new(&dir).join("result.h5"), "no result").expect("written");
    let (code, out, _) = told(&run(&["verify", &dir]));
    assert!(code == 9 && out.contains("result.h5"), "{out}");
}
