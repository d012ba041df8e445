//! `kill -9` at random moments, and damaged checkpoints: no run is lost, no result is wrong.
//!
//! `CONVOKE_KILLS` sets the number of kills (200 by default), `CONVOKE_KILL_SEED` their seed.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use common::{assert_same_bits, below, convoke, has_mpirun, job, run, scratch, small, told, volume};
use convoke_cluster::checkpoint;
use convoke_kernels::Philox;
use rustix::process::{Pid, Signal, kill_process};

const STEPS: u64 = 160;

fn spec(dir: &Path) -> String {
    let text = small(56, 12, 50, &format!("algorithm = \"cgls\"\niterations = {STEPS}"));
    job(dir, "job.toml", &text.replace("[problem.phantom]", "[checkpoint]\nevery_steps = 7\n[problem.phantom]"))
}

/// Random numbers of one test, in the order in which they are asked for.
struct Dice {
    random: Philox,
    thrown: u64,
}

impl Dice {
    fn new(seed: u64) -> Self {
        Self { random: Philox::new(seed, 0), thrown: 0 }
    }

    fn below(&mut self, n: u64) -> u64 {
        self.thrown += 1;
        (self.random.uniform(self.thrown) * n as f64) as u64
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

/// Processes whose command line names `run`: the program, its launcher and its ranks.
fn family(run: &str) -> Vec<(i32, bool)> {
    let processes = fs::read_dir("/proc").expect("/proc").flatten();
    let pids = processes.filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(|pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).into_owned();
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let ranked = String::from_utf8_lossy(&environment).contains("OMPI_COMM_WORLD_RANK=");
        line.contains(run).then_some((pid, ranked && line.starts_with(env!("CARGO_BIN_EXE_convoke"))))
    })
    .collect()
}

fn kill(pid: i32) {
    // It may have ended by itself a moment ago.
    let _ = kill_process(Pid::from_raw(pid).expect("a process number"), Signal::KILL);
}

/// Kills one rank, or everything that works on `run`.
fn strike(run: &str, child: &mut Child, dice: &mut Dice) {
    let family = family(run);
    let ranks: Vec<i32> = family.iter().filter(|(_, rank)| *rank).map(|(pid, _)| *pid).collect();
    if ranks.is_empty() || dice.below(2) == 0 {
        let _ = child.kill();
        family.iter().for_each(|(pid, _)| kill(*pid));
    } else {
        kill(ranks[dice.below(ranks.len() as u64) as usize]);
    }
}

/// Starts or continues the run; the exit code, or `None` if it was struck.
fn attempt(spec: &str, dir: &Path, ranks: u64, delay: Duration, dice: &mut Dice) -> Option<i32> {
    let (text, ranks) = (dir.display().to_string(), ranks.to_string());
    let mut command = convoke();
    if dir.exists() {
        command.args(["resume", &text]);
    } else {
        command.args(["run", spec, "--dir", &text]);
    }
    command.args(["-n", &ranks, "--threads", "1", "--quiet"]).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().expect("the program starts");
    let begun = Instant::now();
    while begun.elapsed() < delay {
        if let Some(status) = child.try_wait().expect("it can be waited for") {
            return Some(status.code().unwrap_or(-1));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    strike(&text, &mut child, dice);
    let begun = Instant::now();
    while child.try_wait().expect("it can be waited for").is_none() {
        assert!(begun.elapsed() < Duration::from_secs(30), "a struck run hangs: {text}");
        std::thread::sleep(Duration::from_millis(2));
    }
    None
}

#[allow(clippy::print_stderr, reason = "the count is the result")]
#[test]
fn random_kills_lose_no_run_and_change_no_bit() {
    let scratch = scratch();
    let spec = spec(scratch.path());
    let reference = scratch.path().join("reference");
    let began = Instant::now();
    assert_eq!(told(&run(&["run", &spec, "--dir", &reference.display().to_string(), "-q"])).0, 0);
    let whole = began.elapsed();
    let expected = volume(&reference);
    let (kills, seed) = (number("CONVOKE_KILLS", 200), number("CONVOKE_KILL_SEED", 1));
    let most_ranks = if has_mpirun() { 4 } else { 1 };
    let mut dice = Dice::new(seed);
    let (mut struck, mut runs, mut attempts, mut waits) = (0, 0, 0, 0);
    let mut dir: PathBuf = scratch.path().join("run0");
    while struck < kills || dir.exists() {
        let ranks = 1 + dice.below(most_ranks);
        // Enough to reach every phase: start, steps, checkpoints, the result's writing.
        let reach = whole.as_millis() as u64 * 3 / 4 + 250;
        let delay = if struck < kills { Duration::from_millis(dice.below(reach)) } else { Duration::from_secs(120) };
        attempts += 1;
        match attempt(&spec, &dir, ranks, delay, &mut dice) {
            None => struck += 1,
            Some(0) => {
                assert_same_bits(&expected, &volume(&dir), &format!("run {runs} (seed {seed})"));
                fs::remove_dir_all(&dir).expect("removed");
                runs += 1;
                dir = scratch.path().join(format!("run{runs}"));
            }
            // Ranks of a killed launcher live on for a moment, and still own the directory.
            Some(7) => {
                waits += 1;
                assert!(waits < 50 * (runs + 1), "an owner that never goes");
                std::thread::sleep(Duration::from_millis(100));
            }
            Some(code) => panic!("run {runs} ended with {code} after {struck} kills (seed {seed})"),
        }
    }
    eprintln!(
        "{struck} kills over {runs} runs and {attempts} attempts (seed {seed}): 0 lost, 0 wrong; {waits} waits for an owner"
    );
}

#[test]
fn a_damaged_newest_checkpoint_is_reported_and_the_one_before_is_used() {
    let scratch = scratch();
    let spec = spec(scratch.path());
    let reference = below(scratch.path(), "reference");
    assert_eq!(told(&run(&["run", &spec, "--dir", &reference, "-q"])).0, 0);
    for damage in ["flip", "truncate", "empty", "manifest"] {
        let dir = scratch.path().join(damage);
        let text = dir.display().to_string();
        assert_eq!(told(&run(&["run", &spec, "--dir", &text, "--stop-after", "30", "-q"])).0, 75);
        let newest = checkpoint::list(&dir.join("ckpt")).into_iter().max().expect("checkpoints");
        let folder = dir.join("ckpt").join(newest.to_string());
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
            _ => fs::write(folder.join("manifest.json"), "{}").expect("written"),
        }
        let (code, _, err) = told(&run(&["resume", &text]));
        assert_eq!(code, 0, "{damage}: {err}");
        assert!(err.contains("warning: damaged checkpoint set aside"), "{damage}: {err}");
        assert!(err.contains("resumed at step 28"), "{damage}: {err}");
        assert_same_bits(&volume(reference.as_ref()), &volume(&dir), damage);
    }
}
