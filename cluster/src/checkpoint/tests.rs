use std::collections::BTreeMap;
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
    for result in try_save_on(ranks, dir, step, 0) {
        result.expect("saved");
    }
}

/// Saves from a second buffer where `room` bytes are enough for it.
fn try_save_on(ranks: usize, dir: &RunDir, step: u64, room: u64) -> Vec<Result<Committed>> {
    let claim = std::sync::Mutex::new(Some(dir.claim().expect("free")));
    run_threads(ranks, |comm| {
        let claim = if comm.is_root() { claim.lock().expect("unpoisoned").take() } else { None };
        let epoch = comm.all_max(claim.as_ref().map_or(0, |c| u64::from(c.epoch)))? as u32;
        let mut state = State::new(&comm, true);
        let mut fields = Fields::default();
        state.fields(&mut fields, comm.is_root());
        let name = Name { step, epoch };
        let label = Label { name, spec_xxh3_128: "h".into(), parent: None, provenance: BTreeMap::new() };
        let history = History { columns: vec![("residual".into(), vec![3.0; step as usize])] };
        let mode = if room == 0 { Mode::Wait } else { Mode::Beside { buffer: Snapshot::default(), room } };
        let begun = Begun::begin(dir, &comm, label, &fields, &history, mode)?;
        drop(fields);
        assert_eq!(begun.is_beside(), room > 1000, "a thread only where its buffer fits on every rank");
        // The computation goes on: what is saved is the state as it was.
        state.x.fill(-1.0);
        (state.count, state.series, state.replica) = (0, Vec::new(), vec![-1.0; 4]);
        begun.commit(&comm, claim.as_ref()).0
    })
}

fn restore_on(ranks: usize, dir: &RunDir) -> Vec<Result<Option<u64>>> {
    run_threads(ranks, |comm| {
        let Some(restored) = restore(dir, &comm, None)? else { return Ok(None) };
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
    let newest = list(&dir.checkpoints()).into_iter().max().expect("four");
    retain(&dir, 2, newest);
    let mut left: Vec<u64> = list(&dir.checkpoints()).iter().map(|n| n.step).collect();
    left.sort_unstable();
    assert_eq!(left, [3, 4]);
    let shard =
        |step| fs::metadata(dir.checkpoints().join(format!("s0000000{step}.e0000{step}/shard00000-of00001.h5")));
    assert_eq!(bytes_on_disk(&dir), [3, 4].map(|step| shard(step).expect("a shard").len()).iter().sum::<u64>());
    assert!(!dir.checkpoints().join("s00000002.e00009").exists());
}

#[test]
fn a_second_buffer_saves_the_state_as_it_was_when_the_checkpoint_began() {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let dir = run_dir(&scratch.path().join("run"));
    for (step, room) in [(3, 1 << 20), (5, 8)] {
        for result in try_save_on(3, &dir, step, room) {
            let committed = result.expect("saved");
            assert_eq!(committed.beside_seconds > 0.0, room > 1000);
        }
        assert_eq!(steps(restore_on(2, &dir)), Some(step));
    }
}

/// Without the line of attempts the zombie's two, being of later steps, would push out the one just written.
#[test]
fn retention_never_gives_up_the_one_just_written_for_a_zombies() {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let dir = run_dir(&scratch.path().join("run"));
    [4, 20, 24].iter().for_each(|step| save_on(1, &dir, *step)); // attempts 1 to 3
    dir.claim().expect("free").continues(Name { step: 4, epoch: 1 }).expect("written"); // attempt 4 saw the first only
    save_on(1, &dir, 8); // attempt 5
    let mine = Name { step: 8, epoch: 5 };
    retain(&dir, 2, mine);
    let mut left = list(&dir.checkpoints());
    left.sort_unstable();
    assert_eq!(left, [Name { step: 4, epoch: 1 }, mine]);
}

#[test]
fn a_checkpoint_that_could_not_be_loaded_twice_comes_last_and_is_not_lost() {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let dir = run_dir(&scratch.path().join("run"));
    [4, 9].iter().for_each(|step| save_on(1, &dir, *step));
    let restored = || restore(&dir, &Comm::solo(), None).expect("readable").expect("two");
    for (attempt, step) in [(3, 9), (4, 9), (5, 4)] {
        let found = restored();
        assert_eq!(found.manifest.step, step, "attempt {attempt}");
        found.loading(attempt); // … and the attempt dies of it
    }
    restored().loaded(5);
    let first = list(&dir.checkpoints()).into_iter().min().expect("two");
    fs::remove_dir_all(dir.checkpoints().join(first.to_string())).expect("removed");
    assert_eq!(restored().manifest.step, 9, "better than nothing");
}

/// Without the base of an attempt that began anew, the old line's step 20 would be taken for its newest.
#[test]
fn what_lay_there_before_an_attempt_began_anew_does_not_belong_to_it() {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let dir = run_dir(&scratch.path().join("run"));
    save_on(1, &dir, 20); // attempt 1
    dir.claim().expect("free").continues(Name { step: 0, epoch: 0 }).expect("written"); // attempt 2: --restart
    save_on(2, &dir, 6); // attempt 3 … of its line
    assert_eq!(steps(restore_on(1, &dir)), Some(6));
}
