//! `convoke resume` with a say in how a run goes on: changed keys, an older checkpoint, a directory taken from a silent owner.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{assert_same_bits, below, job, run, scratch, small, told, volume};

/// A run of SIRT, a checkpoint after each of its iterations, stopped after the fourth.
struct Stopped {
    dir: tempfile::TempDir,
}

impl Stopped {
    fn new() -> Self {
        let dir = scratch();
        let spec = job(dir.path(), "job.toml", &text(8));
        let out = told(&run(&["run", &spec, "--dir", &below(dir.path(), "run"), "-n", "1", "--stop-after", "4", "-q"]));
        assert_eq!(out.0, 75, "{}", out.2);
        Self { dir }
    }

    fn run(&self) -> PathBuf {
        self.dir.path().join("run")
    }

    fn resume(&self, words: &[&str]) -> (i32, String, String) {
        told(&run(&[&["resume", &below(self.dir.path(), "run"), "-q"], words].concat()))
    }

    fn started(&self) -> Vec<u64> {
        let text = fs::read_to_string(self.run().join("events.jsonl")).expect("events");
        let events = text.lines().filter_map(|l| serde_json::from_str::<serde_json::Value>(l).ok());
        events.filter(|e| e["event"] == "started").filter_map(|e| e["step"].as_u64()).collect()
    }

    fn run_id(&self) -> String {
        let lock = fs::read_to_string(self.run().join("spec.lock.json")).expect("a lock");
        serde_json::from_str::<serde_json::Value>(&lock).expect("JSON")["run_id"].as_str().expect("it").to_owned()
    }
}

fn text(iterations: u32) -> String {
    small(24, 6, 16, &format!("algorithm = \"sirt\"\niterations = {iterations}"))
        .replace("[problem.phantom]", "[checkpoint]\nevery_steps = 1\nkeep = 9\n[problem.phantom]")
}

fn whole(dir: &Path, iterations: u32) -> Vec<f32> {
    let spec = job(dir, "whole.toml", &text(iterations));
    assert_eq!(told(&run(&["run", &spec, "--dir", &below(dir, "whole"), "-n", "1", "-q"])).0, 0);
    volume(&dir.join("whole"))
}

#[test]
fn more_iterations_give_what_a_longer_run_gives() {
    let stopped = Stopped::new();
    let (code, _, err) = stopped.resume(&["--set", "problem.method.iterations=11", "--set", "checkpoint.keep=2"]);
    assert_eq!(code, 0, "{err}");
    assert_same_bits(&whole(stopped.dir.path(), 11), &volume(&stopped.run()), "eleven iterations");
    let spec = fs::read_to_string(stopped.run().join("spec.toml")).expect("it");
    assert!(spec.contains("iterations = 11") && spec.contains("keep = 2"), "{spec}");
    let (code, _, err) = told(&run(&["verify", &below(stopped.dir.path(), "run")]));
    assert_eq!(code, 0, "{err}");
}

#[test]
fn what_was_computed_depends_on_the_rest_which_stays() {
    let stopped = Stopped::new();
    let before = fs::read_to_string(stopped.run().join("spec.toml")).expect("it");
    for (word, words) in [
        ("problem.method.relaxation=0.5", "a run cannot go on with another value"),
        ("seed=9", "These may change: run.*, checkpoint.*, slurm.*, problem.method.iterations"),
        ("problem.method.iterations", "expected KEY=VALUE"),
        ("problem.method.iterations=-3", "invalid value: integer `-3`"),
        ("run.walltime=soon", "'soon' is not a duration"),
        ("run.threds=2", "did you mean `threads`?"),
        ("runs.threads=2", "a run cannot go on with another value"),
    ] {
        let (code, out, err) = stopped.resume(&["--set", word]);
        assert!(code == 2 && err.contains(words) && out.is_empty(), "{word}: {code} {err}");
    }
    assert_eq!(fs::read_to_string(stopped.run().join("spec.toml")).expect("it"), before);
    assert_eq!(stopped.started().len(), 1);
}

#[test]
fn an_older_checkpoint_leads_to_the_same_result() {
    let stopped = Stopped::new();
    let (code, _, err) = stopped.resume(&["--from", "9"]);
    assert!(code == 6 && err.contains("--from 9: no such step or name") && err.contains("s00000002.e00001"), "{err}");
    let (code, _, err) = stopped.resume(&["--from", "2"]);
    assert_eq!(code, 0, "{err}");
    assert_eq!(stopped.started(), [0, 2]);
    assert_same_bits(&whole(stopped.dir.path(), 8), &volume(&stopped.run()), "from step 2");
}

#[test]
fn a_silent_owner_elsewhere_loses_the_directory_to_who_names_the_run() {
    let stopped = Stopped::new();
    let owner = r#"{"epoch":2,"host":"elsewhere","pid":4,"started_ticks":5,"since":"now","slurm_job":null}"#;
    fs::write(stopped.run().join("owner/e00002.json"), owner).expect("written");
    let id = stopped.run_id();
    let (code, _, err) = stopped.resume(&[]);
    assert!(
        code == 7 && err.contains("attempt 2 (process 4 on elsewhere") && err.contains(&format!("--steal {id}")),
        "{err}"
    );
    let (code, _, err) = stopped.resume(&["--steal", "deadbeef"]);
    assert!(code == 2 && err.contains(&format!("this is run {id}")), "{err}");
    assert_eq!(stopped.started().len(), 1);
    let (code, _, err) = stopped.resume(&["--steal", &id]);
    assert_eq!(code, 0, "{err}");
    assert_same_bits(&whole(stopped.dir.path(), 8), &volume(&stopped.run()), "the stolen run");
}
