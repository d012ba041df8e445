use std::fs;
use std::path::Path;

use super::*;
use crate::comm::{Comm, run_threads};
use crate::error::{Error, Result};
use crate::fields::Fields;
use crate::job::JobText;
use crate::run_dir::RunDir;
use crate::shard::Region;

const SHAPE: [usize; 3] = [7, 3, 5];

fn element(i: usize) -> f32 {
    (i as f32).sin()
}

/// A state with a slab of an array, a replica, a counter and a series.
struct State {
    region: Region,
    x: Vec<f32>,
    replica: Vec<f64>,
    count: u64,
    series: Vec<f64>,
}

impl State {
    fn new(comm: &Comm, filled: bool) -> Self {
        let region = Region::rows(&SHAPE, comm.block(SHAPE[0]));
        let first = region.start[0] * 15;
        let value = |i: usize| if filled { element(first + i) } else { f32::NAN };
        Self {
            x: (0..region.len()).map(value).collect(),
            region,
            replica: vec![if filled { 2.5 } else { 0.0 }; 4],
            count: if filled { 42 } else { 0 },
            series: if filled { vec![1.0, 0.5] } else { Vec::new() },
        }
    }

    fn fields<'a>(&'a mut self, fields: &mut Fields<'a>, leader: bool) {
        fields.array("x", &SHAPE, self.region.clone(), &mut self.x[..]);
        fields.array("replica", &[4], Region::whole(&[4]), &mut self.replica[..]).owned = leader;
        fields.counter("count", &mut self.count);
        fields.history("series", &mut self.series);
    }
}

fn run_dir(path: &Path) -> RunDir {
    let text = JobText { path: "job.toml".into(), text: "schema = 1".into() };
    RunDir::create(path, &text, serde_json::json!({})).expect("a new directory")
}

fn save_on(ranks: usize, dir: &RunDir, step: u64) {
    let claim = std::sync::Mutex::new(Some(dir.claim().expect("free")));
    for result in run_threads(ranks, |comm| {
        let claim = if comm.is_root() { claim.lock().expect("unpoisoned").take() } else { None };
        let epoch = comm.all_max(claim.as_ref().map_or(0, |c| u64::from(c.epoch)))? as u32;
        let mut state = State::new(&comm, true);
        let mut fields = Fields::default();
        state.fields(&mut fields, comm.is_root());
        let label = Label { name: Name { step, epoch }, spec_xxh3_128: "h".into(), parent: None };
        let history = History { columns: vec![("residual".into(), vec![3.0; step as usize])] };
        save(dir, &comm, &label, &fields, &history, claim.as_ref())
    }) {
        result.expect("saved");
    }
}

fn restore_on(ranks: usize, dir: &RunDir) -> Vec<Result<Option<u64>>> {
    run_threads(ranks, |comm| {
        let Some(restored) = restore(dir, &comm)? else { return Ok(None) };
        let mut state = State::new(&comm, false);
        let mut fields = Fields::default();
        state.fields(&mut fields, comm.is_root());
        let history = restored.load_values(&mut fields)?;
        restored.load_arrays(&mut fields)?;
        drop(fields);
        let whole = State::new(&comm, true);
        assert_eq!((&state.x, &state.replica), (&whole.x, &whole.replica));
        assert_eq!((state.count, &state.series), (42, &whole.series));
        assert_eq!(history.columns[0].1.len() as u64, restored.manifest.step);
        Ok(Some(restored.manifest.step))
    })
}

fn steps(results: Vec<Result<Option<u64>>>) -> Option<u64> {
    let steps: Vec<_> = results.into_iter().map(|r| r.expect("restored")).collect();
    assert!(steps.windows(2).all(|w| w[0] == w[1]));
    steps[0]
}

#[test]
fn every_rank_count_restores_what_every_other_wrote() {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    for from in [1, 2, 3, 5] {
        let dir = run_dir(&scratch.path().join(format!("from{from}")));
        assert_eq!(steps(restore_on(2, &dir)), None);
        save_on(from, &dir, 3);
        for to in [1, 2, 3, 5, 8] {
            assert_eq!(steps(restore_on(to, &dir)), Some(3), "{from} -> {to} ranks");
        }
    }
}

/// Damages a committed checkpoint in every way at every kind of file; the one before it is used.
#[test]
fn a_damaged_newest_checkpoint_is_set_aside_and_the_one_before_is_used() {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    type Damage = fn(&Path);
    let flip: Damage = |file| {
        let mut bytes = fs::read(file).expect("read");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 4;
        fs::write(file, bytes).expect("written");
    };
    let truncate: Damage = |file| {
        let bytes = fs::read(file).expect("read");
        fs::write(file, &bytes[..bytes.len() - 1]).expect("written");
    };
    let delete: Damage = |file| fs::remove_file(file).expect("removed");
    for (i, damage) in [flip, truncate, delete].into_iter().enumerate() {
        for file in ["manifest.json", "shard00000-of00002.h5", "shard00001-of00002.h5"] {
            let dir = run_dir(&scratch.path().join(format!("{i}-{file}")));
            save_on(2, &dir, 5);
            save_on(2, &dir, 9);
            let newest = list(&dir.checkpoints()).into_iter().max().expect("two");
            damage(&dir.checkpoints().join(newest.to_string()).join(file));
            assert_eq!(steps(restore_on(3, &dir)), Some(5), "damage {i} to {file}");
            // Without its manifest a checkpoint is none; otherwise it is kept for inspection.
            let bad = dir.checkpoints().join(format!("{newest}.bad"));
            assert_eq!(bad.exists(), !(i == 2 && file == "manifest.json"), "damage {i} to {file}");
        }
    }
}

#[test]
fn with_all_checkpoints_damaged_nothing_is_deleted_and_the_error_says_what_to_do() {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let dir = run_dir(&scratch.path().join("run"));
    save_on(1, &dir, 2);
    let name = list(&dir.checkpoints())[0];
    fs::write(dir.checkpoints().join(name.to_string()).join("shard00000-of00001.h5"), "x").expect("written");
    for _ in 0..2 {
        for result in restore_on(2, &dir) {
            let error = result.expect_err("nothing is left");
            assert_eq!(error.exit(), 6);
            assert!(error.to_string().contains("--restart"), "{error}");
        }
    }
    assert!(dir.checkpoints().join(format!("{name}.bad")).join("shard00000-of00001.h5").exists());
}

#[test]
fn an_overtaken_attempt_can_neither_commit_nor_be_restored() {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let dir = run_dir(&scratch.path().join("run"));
    save_on(1, &dir, 4); // attempt 1
    save_on(1, &dir, 20); // attempt 2 …
    // … whose successor began from step 4 (it could not see step 20): step 20 is a zombie's.
    let third = dir.claim().expect("free");
    third.continues(Name { step: 4, epoch: 1 }).expect("written");
    assert_eq!(steps(restore_on(1, &dir)), Some(4));
    fs::copy(dir.path.join("owner/e00003.json"), dir.path.join("owner/e00004.json")).expect("a newer attempt");
    let fenced = third.check().expect_err("overtaken");
    assert!(matches!(fenced, Error::Fenced { mine: 3, newest: 4, .. }));
}

#[test]
fn retention_keeps_the_newest_and_clears_what_was_never_committed() {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let dir = run_dir(&scratch.path().join("run"));
    (1..=4).for_each(|step| save_on(1, &dir, step));
    fs::create_dir(dir.checkpoints().join("s00000002.e00009")).expect("begun, never committed");
    retain(&dir.checkpoints(), 2);
    let mut left: Vec<u64> = list(&dir.checkpoints()).iter().map(|n| n.step).collect();
    left.sort_unstable();
    assert_eq!(left, [3, 4]);
    assert!(!dir.checkpoints().join("s00000002.e00009").exists());
}

#[test]
fn youngs_interval_has_the_documented_values() {
    let day = 86_400.0;
    let minutes = |delta: f64, nodes: f64| {
        let mtbf = Duration::from_secs_f64(30.0 * day / nodes);
        interval(Duration::from_secs_f64(delta), mtbf).as_secs_f64() / 60.0
    };
    assert!((minutes(5.0, 64.0) - 10.6).abs() < 0.1);
    assert!((minutes(0.5, 4.0) - 13.4).abs() < 0.3);
    assert_eq!(minutes(0.0, 1.0), 1.0); // free: still not more often than each minute
}
