//! Convoke on a real Slurm of several hosts on this machine (`xtask/slurm-lab.sh`): hosts lose power and network, time limits
//! end attempts, and nobody lends a hand.
//!
//! Scenarios run at the same time, each on hosts of its own. `CONVOKE_SLURM=NAME` runs only those whose name contains it.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use common::{assert_same_bits, below, job, run, scratch, small, told, volume};
use convoke_cluster::checkpoint;

const HOSTS: usize = 21;

/// One cluster at a time: two on two cores take twice as long.
static ONE: Mutex<()> = Mutex::new(());

/// The cluster; ended with the test.
struct Lab {
    folder: tempfile::TempDir,
    hosts: usize,
    accounts: bool,
}

impl Lab {
    fn script(&self) -> Command {
        let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("xtask/slurm-lab.sh"));
        // Sockets must have short paths, so the cluster does not lie below target/.
        command.env("SLURM_LAB", self.folder.path().join("lab")).env("LAB_NODES", self.hosts.to_string());
        // Apart from a cluster that somebody has up, and from the one of the other test.
        let net = if self.accounts { 80 } else { 79 };
        command.env("LAB_NET", format!("10.{net}.{}", std::process::id() % 200));
        command.env("LAB_ACCOUNTS", u8::from(self.accounts).to_string());
        command
    }

    /// A cluster, with or without an accounting database, or why there is none.
    fn up(hosts: usize, accounts: bool) -> Result<Self, String> {
        let folder = tempfile::Builder::new().prefix("cvlab").tempdir().expect("a folder");
        let lab = Self { folder, hosts, accounts };
        let missing = lab.script().arg("missing").output().map_err(|e| e.to_string())?;
        let missing = String::from_utf8_lossy(&missing.stdout).trim().to_owned();
        if !missing.is_empty() {
            return Err(format!("no Slurm cluster can be made here: missing {missing}"));
        }
        lab.tell(&["up"]);
        Ok(lab)
    }

    fn tell(&self, words: &[&str]) {
        let output = self.script().args(words).output().expect("the script starts");
        assert!(output.status.success(), "{words:?}: {}", told(&output).2);
    }

    /// Runs a command on the login host.
    fn login(&self, words: &[&str]) -> Output {
        let mut command = self.script();
        command.args(["exec", "login"]).args(words).env("CONVOKE_SITE", "local");
        command.output().expect("the script starts")
    }

    fn convoke(&self, words: &[&str]) -> (i32, String, String) {
        told(&self.login(&[&[env!("CARGO_BIN_EXE_convoke")], words].concat()))
    }

    fn queue(&self) -> String {
        told(&self.login(&["squeue", "--noheader", "--format=%i %T %N %r %k"])).1
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = self.script().arg("down").output();
    }
}

/// One scenario's surroundings.
struct Scene<'a> {
    lab: &'a Lab,
    dir: PathBuf,
    /// Its hosts: a range of numbers.
    hosts: std::ops::RangeInclusive<usize>,
    reference: &'a [f32],
}

const STEPS: u64 = 1200;

fn text(more: &str) -> String {
    let text = small(64, 24, 60, &format!("algorithm = \"sirt\"\niterations = {STEPS}"));
    text.replace("[problem.phantom]", &format!("{more}\n[problem.phantom]"))
}

/// A profile of the site, in `dir`, whose jobs meet this fault.
fn site(dir: &Path, fault: &str) -> String {
    let path = dir.join("site.toml");
    let lines = "bind = false\npass_environment = false\n[environment]\nOMPI_MCA_mpi_yield_when_idle = \"1\"\n";
    std::fs::write(&path, format!("{lines}CONVOKE_FAULT = \"{fault}\"\n")).expect("written");
    path.display().to_string()
}

impl Scene<'_> {
    /// A job of two ranks on two hosts of this scenario's own.
    fn job(&self, run: &str, slurm: &str) -> String {
        let others: Vec<String> =
            (1..=HOSTS).filter(|n| !self.hosts.contains(n)).map(|n| format!("\"n{n}\"")).collect();
        let frame = format!(
            "[run]\nranks = 2\nthreads = 1\nwalltime = \"10min\"\n{run}\n[checkpoint]\nevery_steps = 100\n\
             [slurm]\nranks_per_node = 1\nexclude = [{}]\n{slurm}",
            others.join(", ")
        );
        job(
            &self.dir,
            "job.toml",
            &text(&if run.contains("walltime") { frame.replace("walltime = \"10min\"\n", "") } else { frame }),
        )
    }

    fn run(&self) -> PathBuf {
        self.dir.join("run")
    }

    /// A profile of the site whose jobs meet this fault.
    fn site(&self, fault: &str) -> String {
        site(&self.dir, fault)
    }

    fn submit(&self, spec: &str) {
        let (code, _, err) = self.lab.convoke(&["submit", spec, "--dir", &below(&self.dir, "run")]);
        assert_eq!(code, 0, "{err}");
    }

    fn until(&self, what: &str, seconds: u64, mut is: impl FnMut() -> bool) {
        let begun = Instant::now();
        while !is() {
            assert!(begun.elapsed() < Duration::from_secs(seconds), "{what}: not within {seconds} s\n{}", self.tell());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn until_checkpoint(&self) {
        self.until("a checkpoint", 240, || !checkpoint::list(&self.run().join("ckpt")).is_empty());
    }

    /// Waits for the result and compares it.
    fn until_finished(&self, seconds: u64) {
        self.until("the result", seconds, || {
            self.run().join("result.h5").exists() && !self.events("finished").is_empty()
        });
        assert_same_bits(self.reference, &volume(&self.run()), "the result");
        let (code, _, err) = self.lab.convoke(&["verify", &below(&self.dir, "run")]);
        assert_eq!(code, 0, "{err}");
    }

    fn events(&self, kind: &str) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(self.run().join("events.jsonl")).unwrap_or_default();
        let events = text.lines().filter_map(|l| serde_json::from_str::<serde_json::Value>(l).ok());
        events.filter(|e| e["event"] == kind).collect()
    }

    /// Host of rank 0 of the newest attempt.
    fn host(&self) -> String {
        self.events("started").last().and_then(|e| e["host"].as_str().map(str::to_owned)).unwrap_or_default()
    }

    /// Everything that may explain a failure.
    fn tell(&self) -> String {
        let (_, events, _) = told(&run(&["logs", &below(&self.dir, "run"), "--events"]));
        let (_, log, _) = told(&run(&["logs", &below(&self.dir, "run")]));
        format!("{}\n{events}\n{log}", self.lab.queue())
    }
}

/// A job goes through and can be followed; a second submission does nothing.
fn submit(scene: &Scene<'_>) {
    let spec = scene.job("", "");
    let (code, script, _) = scene.lab.convoke(&["submit", &spec, "--dry-run", "--dir", &below(&scene.dir, "run")]);
    assert!(code == 0 && script.starts_with("#!/bin/bash") && !scene.run().exists());
    scene.submit(&spec);
    let dir = below(&scene.dir, "run");
    let (code, out, err) = scene.lab.convoke(&["submit", &dir]);
    assert!(code == 0 && out.contains("nothing was submitted"), "{out}{err}");
    let (_, status, _) = scene.lab.convoke(&["status", &dir, "--json"]);
    let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
    assert!(["queued", "running"].contains(&status[0]["state"].as_str().unwrap_or_default()), "{status}");
    scene.until_finished(400);
    let script = std::fs::read_to_string(scene.run().join("job.sbatch")).expect("a script");
    assert!(
        !script.contains(&dir) && script.trim_end().lines().last().is_some_and(|l| l.starts_with("exec ./convoke "))
    );
    let (code, out, _) = scene.lab.convoke(&["submit", &dir]);
    assert!(code == 0 && out.contains("is complete: nothing to submit"), "{out}");
    let (_, out, _) = scene.lab.convoke(&["doctor"]);
    assert!(out.contains("a requeued job waits 5 s") && out.contains("pmix"), "{out}");
}

/// What cannot run is refused before anything is in the queue or on the disk.
fn refusals(scene: &Scene<'_>) {
    let gpu = "at most 0 (GPUs of a node) for 1 ranks on a node";
    for (run, slurm, code, words) in [
        ("", "partition = \"nowhere\"", 4, "there is no partition nowhere\n  help: known partitions: main, short"),
        (
            "",
            "memory_per_rank = \"100GiB\"",
            3,
            "memory needs 100.0 GiB on a node of the partition (1 ranks of 100.0 GiB), and 3.9 GiB is there",
        ),
        ("", "constraint = [\"gold\"]", 4, "sbatch refused: "),
        ("walltime = \"2h\"", "", 2, "run.walltime = 2h: expected at most 1h, the partition's limit"),
        ("", "gpus_per_rank = 1", 2, gpu),
        ("", "account = \"a b\"", 2, "is no name that a batch system takes"),
        ("", "qos = \"x\\n#SBATCH --output=/evil\"", 2, "is no name that a batch system takes"),
    ] {
        let spec = scene.job(run, slurm);
        let (found, _, err) = scene.lab.convoke(&["submit", &spec, "--dir", &below(&scene.dir, "run")]);
        assert!(found == code && err.contains(words), "{run} {slurm}: {found} {err}");
        assert!(!scene.run().exists(), "{slurm}");
    }
    let spec = scene.job("", "");
    let crowded = std::fs::read_to_string(&spec)
        .expect("it")
        .replace("ranks_per_node = 1", "ranks_per_node = 2")
        .replace("threads = 1", "threads = 3");
    let spec = job(&scene.dir, "crowded.toml", &crowded);
    let (code, _, err) = scene.lab.convoke(&["submit", &spec, "--dir", &below(&scene.dir, "run")]);
    assert!(
        code == 2
            && err.contains("slurm.ranks_per_node = 2: expected at most 1 (ranks of 3 threads on nodes of 4 cores)"),
        "{err}"
    );
    assert!(!scene.run().exists() && scene.events("begun").is_empty());
}

/// A user stops a run and later goes on with it.
fn cancel(scene: &Scene<'_>) {
    scene.submit(&scene.job("", ""));
    scene.until_checkpoint();
    let dir = below(&scene.dir, "run");
    let (code, out, err) = scene.lab.convoke(&["cancel", &dir]);
    assert!(code == 0 && out.contains("has stopped; the checkpoint of step"), "{out}{err}");
    assert_eq!(scene.events("requeued").len() + scene.events("finished").len(), 0, "{}", scene.tell());
    let (code, _, err) = scene.lab.convoke(&["submit", &dir]);
    assert_eq!(code, 0, "{err}");
    scene.until_finished(400);
    assert_eq!(scene.events("started").len(), 2);
}

/// Attempts end at their time limit, and the run goes on until it is complete.
fn wall_limit(scene: &Scene<'_>) {
    let spec = scene.job("walltime = \"6s\"", "");
    // Slow enough for several attempts on any machine: of 1200 steps none takes less than 10 ms.
    let site = scene.site("delay@step:times=all:for=10ms");
    let words = ["submit", &spec, "--dir", &below(&scene.dir, "run"), "--site", &site];
    let (code, _, err) = scene.lab.convoke(&words);
    assert_eq!(code, 0, "{err}");
    scene.until_finished(400);
    let (attempts, requeued) = (scene.events("started").len(), scene.events("requeued").len());
    // One more where the batch system's own warning came before the ranks had begun.
    assert!(attempts >= 2 && requeued + 1 >= attempts, "{attempts} attempts, {requeued} requeued\n{}", scene.tell());
}

/// Steps that take longer than what is left of the time limit: nothing can be written in time, the run goes on all the same.
fn too_slow_for_the_limit(scene: &Scene<'_>) {
    // Every attempt stands still in its 40th step, of 60.
    let site = scene.site("delay@step:nth=40:for=1h");
    let spec = scene.job("walltime = \"1min\"", "");
    let short =
        std::fs::read_to_string(&spec).expect("it").replace(&format!("iterations = {STEPS}"), "iterations = 60");
    let spec = job(&scene.dir, "job.toml", &short.replace("every_steps = 100", "every_steps = 10"));
    let whole = below(&scene.dir, "whole");
    assert_eq!(told(&run(&["run", &spec, "--dir", &whole, "-n", "1", "-q"])).0, 0);
    let reference = volume(whole.as_ref());
    let scene = &Scene { reference: &reference, dir: scene.dir.clone(), hosts: scene.hosts.clone(), lab: scene.lab };
    let words = ["submit", &spec, "--dir", &below(&scene.dir, "run"), "--site", &site];
    let (code, _, err) = scene.lab.convoke(&words);
    assert_eq!(code, 0, "{err}");
    scene.until_finished(400);
    // The supervisor has the last word, a moment after the ranks.
    scene.until("two attempts' ends", 30, || scene.events("attempt-ended").len() == 2);
    let ended = scene.events("attempt-ended");
    let late = |e: &serde_json::Value| e["how"].as_str().is_some_and(|h| h.contains("the time limit came before"));
    assert!(late(&ended[0]) && scene.events("requeued").len() == 1, "{ended:?}");
}

/// A host loses its power.
fn power_cut(scene: &Scene<'_>) {
    scene.submit(&scene.job("", ""));
    scene.until_checkpoint();
    let victim = format!("n{}", scene.hosts.start() + 1);
    scene.lab.tell(&["kill", &victim]);
    scene.until_finished(400);
    assert!(scene.events("started").len() >= 2, "{}", scene.tell());
    scene.lab.tell(&["start", &victim]);
}

/// A host loses its power while it works on tasks of an array: nothing is to be done by hand, and the table is what the same
/// sweep finds on one machine.
fn sweep(scene: &Scene<'_>) {
    let spec = std::fs::read_to_string(scene.job("", ""))
        .expect("it")
        .replace("ranks = 2\n", "ranks = 1\n")
        .replace("ranks_per_node = 1\n", "memory_per_rank = \"200MiB\"\n")
        .replace(&format!("iterations = {STEPS}"), "iterations = 40");
    job(&scene.dir, "job.toml", &spec);
    let text = "schema = 1\nname = \"sweep\"\njob = \"job.toml\"\n[[vary]]\nkey = \"problem.method.relaxation\"\n\
                from = 0.5\nto = 1.0\nsteps = 30\n";
    let file = job(&scene.dir, "sweep.toml", text);
    let (whole, dir) = (below(&scene.dir, "whole"), below(&scene.dir, "run"));
    assert_eq!(told(&run(&["sweep", &file, "--dir", &whole, "-q"])).0, 0);
    let site = scene.site("delay@step:times=all:for=50ms");
    let (code, _, err) = scene.lab.convoke(&["sweep", &file, "--submit", "--dir", &dir, "--site", &site]);
    assert_eq!(code, 0, "{err}");
    let told_of = || std::fs::read_dir(scene.run().join("outcomes")).map_or(0, Iterator::count);
    scene.until("some outcomes", 120, || told_of() >= 4);
    let victim = format!("n{}", scene.hosts.end());
    scene.lab.tell(&["kill", &victim]);
    let (_, out, _) = scene.lab.convoke(&["status", &dir]);
    assert!(out.contains("complete") && out.contains("running"), "{out}");
    scene.lab.tell(&["start", &victim]);
    let table = |dir: &Path| {
        let file = convoke_data::store::Reader::open(dir.join("table.h5")).expect("a table");
        let column = |name| file.read::<f64>(name).expect("a column");
        [column("/table/problem.method.relaxation"), column("/table/relative_error")]
    };
    scene.until("the table", 400, || scene.run().join("table.h5").exists());
    assert_eq!(table(&scene.run()), table(whole.as_ref()));
    let (_, out, _) = scene.lab.convoke(&["status", &dir]);
    assert!(out.contains("30 complete"), "{out}");
}

/// The host of rank 0 loses its network, the run goes on elsewhere, the host comes back: its ranks must not touch the run.
fn cable_cut(scene: &Scene<'_>) {
    scene.submit(&scene.job("", ""));
    scene.until_checkpoint();
    let host = scene.host();
    scene.lab.tell(&["cut", &host]);
    scene.until("a second attempt", 300, || scene.events("started").len() >= 2);
    scene.lab.tell(&["join", &host]);
    scene.until_finished(400);
    assert_ne!(scene.host(), host);
    assert_eq!(scene.events("finished").len(), 1, "{}", scene.tell());
}

/// A host reboots so fast that Slurm does not notice: the ranks wait for ever, and its PMIx socket of the job blocks the job.
fn stale_socket(scene: &Scene<'_>) {
    scene.submit(&scene.job("stall_timeout = \"8s\"", ""));
    scene.until_checkpoint();
    let victim = format!("n{}", scene.hosts.start() + 1);
    scene.lab.tell(&["kill", &victim]);
    let mut start = scene.lab.script();
    assert!(start.args(["start", &victim]).env("KEEP_SOCKETS", "1").status().expect("it starts").success());
    scene.until_finished(400);
    // The job that follows leaves out the spoilt host, and those that the job file leaves out.
    let hosts: Vec<String> = scene.hosts.clone().map(|n| format!("n{n}")).collect();
    assert!(hosts.contains(&scene.host()), "{} is none of {hosts:?}", scene.host());
    let excluded = scene.events("submitted").last().expect("an event")["excluded"].to_string();
    assert!(excluded.contains(&format!("\"{victim}\"")) && excluded.contains("\"n1\""), "{excluded}");
}

/// The controller dies while it is asked, and comes back.
fn controller(scene: &Scene<'_>) {
    scene.submit(&scene.job("", ""));
    scene.until_checkpoint();
    let dir = below(&scene.dir, "run");
    let lab = scene.lab.folder.path().join("lab");
    told(&scene.lab.login(&["pkill", "-KILL", "slurmctld"]));
    let (code, out, err) = scene.lab.convoke(&["status", &dir, "--json"]);
    assert_eq!(code, 0, "{err}");
    let known = out.contains("\"complete\"") || (out.contains("\"unknown\"") && out.contains("scheduler down"));
    assert!(known, "{out}{err}");
    let (code, _, err) = scene.lab.convoke(&["submit", &scene.job("", ""), "--dir", &below(&scene.dir, "second")]);
    assert!(code == 4 && err.contains("nothing was lost: try again later"), "{code} {err}");
    assert!(!scene.dir.join("second").exists());
    told(&scene.lab.login(&["setsid", "slurmctld", "-f", &lab.join("slurm.conf").display().to_string()]));
    scene.until_finished(400);
}

type Scenario = (&'static str, usize, fn(&Scene<'_>));

/// Name, hosts that it needs, what happens.
const SCENARIOS: [Scenario; 9] = [
    ("submit", 2, submit),
    ("refusals", 2, refusals),
    ("cancel", 2, cancel),
    ("wall_limit", 2, wall_limit),
    ("too_slow_for_the_limit", 2, too_slow_for_the_limit),
    ("power_cut", 3, power_cut),
    ("cable_cut", 3, cable_cut),
    ("stale_socket", 3, stale_socket),
    ("sweep", 2, sweep),
];

#[allow(clippy::print_stderr, reason = "what was skipped, and how long each took, is said")]
#[test]
fn on_a_real_cluster() {
    if !common::has_mpirun() {
        return;
    }
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let lab = match Lab::up(HOSTS, false) {
        Ok(lab) => lab,
        Err(why) => return eprintln!("SKIPPED: {why}"),
    };
    let scratch = scratch();
    let spec = job(scratch.path(), "reference.toml", &text(""));
    let reference = below(scratch.path(), "reference");
    assert_eq!(told(&run(&["run", &spec, "--dir", &reference, "-q"])).0, 0);
    let reference = volume(reference.as_ref());
    let only = std::env::var("CONVOKE_SLURM").unwrap_or_default();
    let mut next = 1;
    let scenes: Vec<(Scenario, Scene<'_>)> = SCENARIOS
        .into_iter()
        .filter(|(name, ..)| name.contains(&only))
        .map(|scenario| {
            let (name, hosts, _) = scenario;
            // A directory that would do harm if a path ever reached a shell.
            let dir = scratch.path().join(format!("{name} it's $(touch pwned) here"));
            std::fs::create_dir(&dir).expect("made");
            let scene = Scene { lab: &lab, dir, hosts: next..=next + hosts - 1, reference: &reference };
            next += hosts;
            (scenario, scene)
        })
        .collect();
    let failed: Vec<&str> = std::thread::scope(|threads| {
        let running: Vec<_> = scenes
            .iter()
            .map(|((name, _, act), scene)| {
                let begun = Instant::now();
                (
                    *name,
                    threads.spawn(move || (act(scene), eprintln!("{name}: {:.1} s", begun.elapsed().as_secs_f64()))),
                )
            })
            .collect();
        running.into_iter().filter_map(|(name, thread)| thread.join().is_err().then_some(name)).collect()
    });
    assert!(failed.is_empty(), "failed: {failed:?}");
    if only.is_empty() || "controller".contains(&only) {
        let dir = scratch.path().join("controller");
        std::fs::create_dir(&dir).expect("made");
        // Alone: the others need the controller.
        controller(&Scene { lab: &lab, dir, hosts: 1..=2, reference: &reference });
    }
    assert!(!scratch.path().join("pwned").exists());
}

/// Where the site keeps accounts, they say how a job that is gone has ended; the queue no longer knows.
#[allow(clippy::print_stderr, reason = "what was skipped is said")]
#[test]
fn with_an_accounting_database() {
    if !common::has_mpirun() {
        return;
    }
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let lab = match Lab::up(2, true) {
        Ok(lab) => lab,
        Err(why) => return eprintln!("SKIPPED: {why}"),
    };
    let scratch = scratch();
    let status = |dir: &str| lab.convoke(&["status", dir]).1;
    let until = |dir: &str, words: &str| {
        let begun = Instant::now();
        while !status(dir).contains(words) {
            assert!(begun.elapsed().as_secs() < 120, "'{words}' does not come: {}\n{}", status(dir), lab.queue());
            std::thread::sleep(Duration::from_millis(200));
        }
    };
    let spec = job(scratch.path(), "job.toml", &text("[run]\nranks = 2\nthreads = 1\nwalltime = \"5min\""));
    // Slow enough to be met at work.
    let slow = site(scratch.path(), "delay@step:times=all:for=10ms");
    let submit = |name: &str| {
        let dir = below(scratch.path(), name);
        let (code, _, err) = lab.convoke(&["submit", &spec, "--dir", &dir, "--site", &slow]);
        assert_eq!(code, 0, "{err}");
        dir
    };
    let finished = submit("finished");
    until(&finished, "complete");
    let until_idle = || {
        let begun = Instant::now();
        while told(&lab.login(&["sinfo", "--noheader", "--Node", "--states=idle", "--partition=main"]))
            .1
            .lines()
            .count()
            < 2
        {
            assert!(begun.elapsed().as_secs() < 60, "hosts do not become idle");
            std::thread::sleep(Duration::from_millis(200));
        }
    };
    // A job that never began: there is room for none.
    until_idle();
    lab.login(&["scontrol", "update", "nodename=n[1-2]", "state=drain", "reason=test"]);
    let cancelled = submit("cancelled");
    until(&cancelled, "queued");
    let number = |dir: &str| -> String {
        let text = std::fs::read_to_string(Path::new(dir).join("submission.json")).expect("it");
        serde_json::from_str::<serde_json::Value>(&text).expect("JSON")["job"].to_string()
    };
    lab.login(&["scancel", &number(&cancelled)]);
    until(&cancelled, "(cancelled)");
    lab.login(&["scontrol", "update", "nodename=n[1-2]", "state=resume"]);
    until_idle();
    // One that was killed as a whole, which no program can tell of itself.
    let killed = submit("killed");
    until(&killed, "running");
    lab.login(&["scancel", "--signal=KILL", "--full", &number(&killed)]);
    until(&killed, "has left the queue");
    until(&killed, "(cancelled)");
    // It goes on as everywhere.
    let (code, _, err) = lab.convoke(&["submit", &killed]);
    assert_eq!(code, 0, "{err}");
    until(&killed, "complete");
    assert_same_bits(&volume(finished.as_ref()), &volume(killed.as_ref()), "the result");
}
