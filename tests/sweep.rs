//! `convoke sweep`: what its table says is what the runs found, whatever happens on the way.

mod common;

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use common::{assert_same_bits, below, convoke, fake_slurm, figure, job, json, run, scratch, small, told, volume};
use convoke_cluster::study;
use convoke_data::store::Reader;

/// A sweep file beside its job.
struct Case {
    dir: tempfile::TempDir,
    file: String,
}

impl Case {
    fn new(method: &str, sweep: &str) -> Self {
        let dir = scratch();
        job(dir.path(), "job.toml", &small(16, 4, 12, method));
        let text = format!("schema = 1\nname = \"case\"\njob = \"job.toml\"\n{sweep}");
        let file = job(dir.path(), "sweep.toml", &text);
        Self { dir, file }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("out")
    }

    fn out(&self) -> String {
        below(self.dir.path(), "out")
    }

    /// Starts it as a program of its own.
    fn start(&self, words: &[&str], fault: &str) -> Child {
        let mut command = convoke();
        command.args(words).env("CONVOKE_FAULT", fault).process_group(0);
        if fault.is_empty() {
            command.env_remove("CONVOKE_FAULT");
        }
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the program starts")
    }

    fn table(&self) -> Reader {
        Reader::open(self.path().join("table.h5")).expect("a table")
    }

    fn column(&self, name: &str) -> Vec<f64> {
        self.table().read(name).expect("a column")
    }
}

const ITERATIONS: &str = "[[vary]]\nkey = \"problem.method.iterations\"\nvalues = [2, 4]\n";

fn outcomes(sweep: &Path) -> usize {
    fs::read_dir(sweep.join("outcomes")).map_or(0, Iterator::count)
}

#[test]
fn every_row_is_what_the_run_finds_alone() {
    let case = Case::new("algorithm = \"sirt\"\niterations = 1", &format!("seed = 7\nreplicates = 3\n{ITERATIONS}"));
    let table = json(&["sweep", &case.file, "--dir", &case.out(), "-j", "2", "--json", "-q"]);
    assert_eq!(table["rows"].as_array().map(Vec::len), Some(6));
    let seeds: Vec<u64> = case.table().read("/table/seed").expect("a column");
    let errors = case.column("/table/relative_error");
    for (row, (point, replicate)) in [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)].into_iter().enumerate() {
        let alone = case.dir.path().join(format!("alone-{row}"));
        let seed = study::seed(7, point, replicate);
        let text = small(16, 4, 12, &format!("algorithm = \"sirt\"\niterations = {}", 2 << point))
            .replace("seed = 3", &format!("seed = {seed}"));
        let spec = job(case.dir.path(), "alone.toml", &text);
        assert_eq!(told(&run(&["run", &spec, "--dir", &alone.display().to_string(), "-q", "-n", "1"])).0, 0);
        assert_eq!(seeds[row], seed);
        assert_eq!(errors[row], figure(&alone, "relative_error"), "row {row}");
        let inside = case.path().join(format!("points/{point:05}-{replicate:03}"));
        assert_same_bits(&volume(&alone), &volume(&inside), "the volume");
    }
    // The estimates, from the rows.
    let (means, lows) = (case.column("/estimates/relative_error"), case.column("/estimates/relative_error_low"));
    for point in 0..2 {
        let e = &errors[3 * point..3 * point + 3];
        let mean = e.iter().sum::<f64>() / 3.0;
        let deviation = (e.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 2.0).sqrt();
        assert!((means[point] - mean).abs() < 1e-14);
        // Quantile 0.975 of Student's t with two degrees of freedom, from tables.
        assert!((lows[point] - (mean - 4.302_653 * deviation / 3f64.sqrt())).abs() < 1e-7 * mean);
    }
    assert!(case.path().join("pictures/relative_error.png").exists());
    let (_, status, _) = told(&run(&["status", &case.out()]));
    assert!(status.contains("complete") && status.contains("6 complete"), "{status}");
}

#[test]
fn what_failed_is_told_and_run_again_alone() {
    let vary = "[[vary]]\nkey = \"problem.method.iterations\"\nvalues = [2, 30, 4]\n";
    let case = Case::new("algorithm = \"sirt\"\niterations = 1", vary);
    let spec = case.dir.path().join("job.toml");
    let text = fs::read_to_string(&spec).expect("it").replace("seed = 3", "seed = 3\n[run]\nmax_attempts = 1");
    fs::write(&spec, text).expect("written");
    let code =
        case.start(&["sweep", &case.file, "--dir", &case.out()], "kill@step:nth=20").wait().expect("it ends").code();
    assert_eq!(code, Some(1));
    let (_, status, _) = told(&run(&["status", &case.out()]));
    assert!(status.contains("2 complete, 1 failed"), "{status}");
    assert!(status.contains("problem.method.iterations = 30") && status.contains("killed by signal 9"), "{status}");
    let state = case.table().read_texts("/table/state").expect("read").expect("texts");
    assert_eq!(state, ["complete", "failed", "complete"]);
    assert!(case.column("/table/relative_error")[1].is_nan());
    let untouched = || [0, 2].map(|k| fs::read(case.path().join(format!("outcomes/{k:05}.json"))).expect("told"));
    let before = untouched();
    // Without the word, what failed stays as it is.
    assert_eq!(told(&run(&["sweep", &case.out(), "-q"])).0, 1);
    assert_eq!(told(&run(&["sweep", &case.out(), "--retry-failed", "-q"])).0, 0);
    assert_eq!(untouched(), before, "only what had failed was run again");
    assert!(case.column("/table/relative_error").iter().all(|e| e.is_finite()));
}

/// The table names the cause, not only that there was an end.
#[test]
fn a_failed_point_says_why() {
    if Path::new("/dev/nvidia0").exists() {
        return println!("skipped: this machine has a GPU, and the point without one would not fail");
    }
    let vary = "[[vary]]\nkey = \"run.device\"\nvalues = [\"cpu\", \"cuda\"]\n";
    let case = Case::new("algorithm = \"sirt\"\niterations = 1", vary);
    let (code, _, err) = told(&run(&["sweep", &case.file, "--dir", &case.out(), "-q"]));
    assert_eq!(code, 1, "{err}");
    let (_, status, _) = told(&run(&["status", &case.out()]));
    assert!(status.contains("1 complete, 1 failed") && status.contains("CUDA"), "{status}");
    // In the middle of the computation.
    let case =
        Case::new("algorithm = \"sirt\"\niterations = 8", "[[vary]]\nkey = \"run.max_attempts\"\nvalues = [1]\n");
    let ended =
        case.start(&["sweep", &case.file, "--dir", &case.out(), "-q"], "fail@step:nth=3").wait().expect("it ends");
    assert_eq!(ended.code(), Some(1));
    let (_, status, _) = told(&run(&["status", &case.out()]));
    assert!(status.contains("CONVOKE_FAULT"), "{status}");
}

#[test]
fn a_sweep_that_does_not_fit_onto_the_disk_is_refused_as_a_whole() {
    let case = Case::new("algorithm = \"sirt\"\niterations = 1", ITERATIONS);
    let free = rustix::fs::statvfs(case.dir.path()).map(|s| s.f_bavail * s.f_frsize).expect("a file system");
    let keep = "[checkpoint]\nkeep = 100\n[problem.phantom]";
    // The smallest job of which at most 2000 fill the disk twice, while each of them fits.
    let points = [64, 128, 256, 512].into_iter().find_map(|size| {
        let text = small(size, size, 4, "algorithm = \"sirt\"\niterations = 1");
        let spec = job(case.dir.path(), "job.toml", &text.replacen("[problem.phantom]", keep, 1));
        let plan = json(&["check", &spec, "--json"])["plan"].clone();
        let bytes = |key: &str| plan[key].as_u64().expect("a number");
        let of_one = 101 * bytes("checkpoint_bytes") + bytes("result_bytes");
        let points = 2 * free / of_one + 1;
        (points <= 2000).then_some((points, of_one))
    });
    let Some((points, of_one)) = points.filter(|(points, _)| *points > 2) else {
        return println!("skipped: no job of this test fits between {free} bytes of disk and 2000 points");
    };
    let vary = format!("[[vary]]\nkey = \"seed\"\nvalues = {:?}\n", (1..=points).collect::<Vec<_>>());
    let text = format!("schema = 1\nname = \"case\"\njob = \"job.toml\"\n{vary}");
    let file = job(case.dir.path(), "sweep.toml", &text);
    let (code, out, err) = told(&run(&["sweep", &file, "--dir", &case.out()]));
    assert!(code == 3 && err.contains("disk space") && err.contains("of all runs"), "{code} {of_one} {out}{err}");
    assert!(!case.path().exists());
    let one = job(case.dir.path(), "one.toml", &text.replace(&vary, "[[vary]]\nkey = \"seed\"\nvalues = [1]\n"));
    let (code, out, err) = told(&run(&["sweep", &one, "--dir", &case.out(), "--dry-run"]));
    assert!(code == 0 && out.contains("1 runs: at most") && out.contains("on the disk for all"), "{out}{err}");
}

#[test]
fn a_sweep_that_was_stopped_or_killed_goes_on_to_the_same_table() {
    let vary = "design = \"sobol\"\npoints = 24\n[[vary]]\nkey = \"problem.method.relaxation\"\nfrom = 0.5\nto = 1.5\n";
    let case = Case::new("algorithm = \"sirt\"\niterations = 12", vary);
    let whole = below(case.dir.path(), "whole");
    assert_eq!(told(&run(&["sweep", &case.file, "--dir", &whole, "-q"])).0, 0);
    let slow = "delay@step:times=all:for=20ms";
    for (signal, expected) in [("INT", Some(75)), ("KILL", None)] {
        let _ = fs::remove_dir_all(case.path());
        let mut child = case.start(&["sweep", &case.file, "--dir", &case.out(), "-j", "2"], slow);
        let begun = Instant::now();
        while outcomes(&case.path()) < 3 {
            assert!(begun.elapsed() < Duration::from_secs(60), "no progress");
            std::thread::sleep(Duration::from_millis(10));
        }
        let killed = std::process::Command::new("kill").args([format!("-{signal}"), child.id().to_string()]).status();
        assert!(killed.expect("kill starts").success());
        assert_eq!(child.wait().expect("it ends").code(), expected);
        let done = outcomes(&case.path());
        assert!((3..24).contains(&done), "{done} of 24");
        // Workers of a killed sweep finish their runs; then nobody works.
        let begun = Instant::now();
        let running = || told(&run(&["status", &case.out()])).1.contains("running");
        while running() {
            assert!(begun.elapsed() < Duration::from_secs(60), "workers do not end");
            std::thread::sleep(Duration::from_millis(50));
        }
        let (code, out, err) = told(&run(&["sweep", &case.out()]));
        assert_eq!(code, 0, "{out}{err}");
        let all = |path: &Path| -> Vec<f64> {
            let file = Reader::open(path.join("table.h5")).expect("a table");
            ["relaxation", "relative_error"]
                .iter()
                .flat_map(|name| {
                    let name = name.replace("relaxation", "problem.method.relaxation");
                    file.read::<f64>(&format!("/table/{name}")).expect("a column")
                })
                .collect()
        };
        assert_eq!(all(&case.path()), all(whole.as_ref()), "after SIG{signal}");
    }
}

#[test]
fn points_are_asked_for_and_told_of() {
    let case = Case::new("algorithm = \"sirt\"\niterations = 1", ITERATIONS);
    json(&["sweep", &case.file, "--dir", &case.out(), "--json"]);
    let more = job(case.dir.path(), "more.csv", "problem.method.iterations\n8\n");
    let told_of = json(&["sweep", &case.out(), "--add", &more, "--json"]);
    let errors: Vec<f64> = told_of["rows"]
        .as_array()
        .expect("rows")
        .iter()
        .map(|r| r["figures"]["relative_error"].as_f64().expect("told"))
        .collect();
    assert_eq!(errors, case.column("/table/relative_error"));
    assert_eq!(told_of["rows"][2]["values"][0], 8);
    assert!(errors[2] < errors[0], "SIRT comes closer: {errors:?}");
    // A point that cannot be run is not kept.
    let bad = job(case.dir.path(), "bad.csv", "problem.method.iterations\nmany\n");
    let (code, _, err) = told(&run(&["sweep", &case.out(), "--add", &bad]));
    assert!(code == 2 && err.contains("problem.method.iterations = \"many\"") && err.contains("point 00003"), "{err}");
    assert_eq!(fs::read_to_string(case.path().join("points.csv")).expect("it").lines().count(), 4);
}

#[test]
fn bad_sweeps_are_refused_before_anything_is_written() {
    for (sweep, words) in [
        (ITERATIONS.replace("[2, 4]", "[2, -4]"), "job.toml (point 00001):"),
        (ITERATIONS.replace("iterations", "iteration"), "did you mean `iterations`?"),
        (ITERATIONS.replace("method.iterations", "method.iterations.x"), "problem.method.iterations: is no table"),
        (ITERATIONS.replace("values = [2, 4]", "values = [2, 4]\nstep = 2"), "unknown field `step`"),
        (String::new(), "nothing varies"),
    ] {
        let case = Case::new("algorithm = \"sirt\"\niterations = 1", &sweep);
        let (code, out, err) = told(&run(&["sweep", &case.file, "--dir", &case.out()]));
        assert!(code == 2 && err.contains(words) && out.is_empty(), "{code} {out}{err}");
        assert!(!case.path().exists(), "{words}");
    }
    let case = Case::new("algorithm = \"sirt\"\niterations = 1", ITERATIONS);
    fs::create_dir(case.path()).expect("made");
    fs::write(case.path().join("thesis.tex"), "x").expect("written");
    let (code, _, err) = told(&run(&["sweep", &case.file, "--dir", &case.out()]));
    assert!(code == 2 && err.contains("is there already"), "{err}");
    let (code, _, err) = told(&run(&["sweep", &case.out()]));
    assert!(code == 2 && err.contains("holds no sweep"), "{err}");
    let (code, _, err) = told(&run(&["sweep", &case.file, "--retry-failed"]));
    assert!(code == 2 && err.contains("is a sweep file"), "{err}");
    assert_eq!(fs::read_dir(case.path()).expect("there").count(), 1);
}

/// Arrays as long as the site allows; runs that ask for different resources do not share one; a limit holds for all of them.
#[test]
fn arrays_are_cut_to_what_the_site_takes() {
    let case = Case::new(
        "algorithm = \"sirt\"\niterations = 1",
        "max_parallel = 3\n[[vary]]\nkey = \"run.ranks\"\nvalues = [1, 2]\n[[vary]]\nkey = \"seed\"\nfrom = 1\nto = 7\nsteps = 7\n",
    );
    fake_slurm(case.dir.path());
    let answer = "n=$(($(cat \"$FAKE/n\" 2>/dev/null || echo 70) + 1)); echo $n >\"$FAKE/n\"; cp job.sbatch \"$FAKE/s$n\"; echo $n";
    fs::write(case.dir.path().join("answer"), answer).expect("written");
    let scontrol = case.dir.path().join("bin/scontrol");
    fs::write(&scontrol, "#!/bin/sh\necho 'MaxArraySize            = 6'\n").expect("written");
    fs::set_permissions(&scontrol, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("set");
    let path = format!("{}:/usr/bin:/bin", case.dir.path().join("bin").display());
    let submit = |words: &[&str]| {
        told(&convoke().env("PATH", &path).env("FAKE", case.dir.path()).args(words).output().expect("it starts"))
    };
    let (code, out, err) = submit(&["sweep", &case.file, "--submit", "--dir", &case.out()]);
    assert!(code == 0 && out.contains("14 runs are in the queue as array 71, 72, 73, 74"), "{out}{err}");
    let scripts: Vec<String> =
        (71..=74).map(|n| fs::read_to_string(case.dir.path().join(format!("s{n}"))).expect("kept")).collect();
    let line = |script: &str, start: &str| script.lines().find(|l| l.starts_with(start)).expect("a line").to_owned();
    let arrays: Vec<String> = scripts.iter().map(|s| line(s, "#SBATCH --array")).collect();
    assert_eq!(arrays, ["0-4%3", "0-1%3", "0-4%3", "0-1%3"].map(|a| format!("#SBATCH --array={a}")));
    let tasks: Vec<String> = scripts.iter().map(|s| line(s, "#SBATCH --ntasks=")).collect();
    assert_eq!(tasks, ["1", "1", "2", "2"].map(|n| format!("#SBATCH --ntasks={n}")));
    assert!(scripts.iter().enumerate().all(|(k, s)| s.contains(&format!("exec ./convoke _point --array {}", k + 1))));
    let calls = fs::read_to_string(case.dir.path().join("calls")).expect("calls");
    let waits = calls.lines().filter(|l| l.contains("--parsable") && l.contains("--dependency=afterany:")).count();
    assert_eq!(waits, 3, "{calls}");
    // Two of the arrays are still in the queue: the rest is handed over, once.
    let id = fs::read_to_string(case.path().join("sweep.lock.json")).expect("it");
    let id = serde_json::from_str::<serde_json::Value>(&id).expect("JSON")["sweep_id"].as_str().expect("it").to_owned();
    let queue = format!("72|0-1|PENDING|None|N/A||convoke:{id}0002\n73|3|RUNNING|None|N/A|n1|convoke:{id}0003\n");
    fs::write(case.dir.path().join("queue"), queue).expect("written");
    let (code, out, err) = submit(&["sweep", &case.out(), "--submit", "--json"]);
    let out: serde_json::Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{code} {out}{err}"));
    assert_eq!((out["runs"].as_u64(), out["jobs"].as_array().map(Vec::len)), (Some(11), Some(3)), "{out}");
}

/// A sweep on this machine inside somebody's allocation: a run that stops at its wall time must not put that job back into the queue.
#[test]
fn an_allocation_around_a_sweep_is_left_alone() {
    let case = Case::new("algorithm = \"sirt\"\niterations = 40", "replicates = 2\nvary = []\n");
    let spec = case.dir.path().join("job.toml");
    let text = fs::read_to_string(&spec).expect("it").replace("seed = 3", "seed = 3\n[run]\nwalltime = \"1s\"");
    fs::write(&spec, text).expect("written");
    fake_slurm(case.dir.path());
    let scontrol = case.dir.path().join("bin/scontrol");
    fs::write(&scontrol, "#!/bin/sh\necho \"$*\" >>\"$FAKE/asked\"\n").expect("written");
    fs::set_permissions(&scontrol, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("set");
    let path = format!("{}:/usr/bin:/bin", case.dir.path().join("bin").display());
    let mut command = convoke();
    command.env("PATH", path).env("FAKE", case.dir.path()).env("SLURM_JOB_ID", "812");
    command.env("CONVOKE_FAULT", "delay@step:times=all:for=100ms");
    told(&command.args(["sweep", &case.file, "--dir", &case.out()]).output().expect("it starts"));
    let (_, status, _) = told(&run(&["status", &case.out()]));
    assert!(status.contains("2 stopped"), "{status}");
    let asked = fs::read_to_string(case.dir.path().join("asked")).unwrap_or_default();
    assert!(!asked.contains("requeue") && !asked.contains("show job"), "{asked}");
}
