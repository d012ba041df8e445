//! Real ranks: `mpirun` on 1 to 4, signals, killed ranks, chunked messages.

mod common;

use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use convoke_data::store::Writer;

use common::{assert_same_bits, below, convoke, has_mpirun, job, json, run, scratch, small, told, volume};

/// Long enough to be interrupted: some seconds.
fn long(dir: &Path) -> String {
    let text = small(64, 24, 60, "algorithm = \"sirt\"\niterations = 4000");
    job(dir, "long.toml", &text.replace("[problem.phantom]", "[checkpoint]\nevery_steps = 20\n[problem.phantom]"))
}

fn start(args: &[&str]) -> Child {
    let command = &mut convoke();
    command.args(args).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    command.spawn().expect("the program starts")
}

/// Waits until a first checkpoint is there.
fn until_checkpoint(run: &Path) {
    let begun = Instant::now();
    while convoke_cluster::checkpoint::list(&run.join("ckpt")).is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(60), "no checkpoint in a minute");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Processes of the program that work on `run`, without the launcher.
fn ranks_of(run: &str) -> Vec<i32> {
    let processes = std::fs::read_dir("/proc").expect("/proc").flatten();
    let pids = processes.filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
    let is_rank = |pid: &i32| {
        let read = |name: &str| std::fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
        let line = String::from_utf8_lossy(&read("cmdline")).into_owned();
        let environment = String::from_utf8_lossy(&read("environ")).into_owned();
        line.contains(run)
            && line.starts_with(env!("CARGO_BIN_EXE_convoke"))
            && environment.contains("OMPI_COMM_WORLD_RANK=")
    };
    pids.filter(is_rank).collect()
}

#[test]
fn one_to_four_ranks_agree_bit_by_bit_also_with_chunked_messages() {
    if !has_mpirun() {
        return;
    }
    let scratch = scratch();
    let spec = job(scratch.path(), "job.toml", &small(40, 11, 30, "algorithm = \"cgls\"\niterations = 7"));
    let dirs: Vec<String> = (0..=4).map(|n| below(scratch.path(), &n.to_string())).collect();
    for ranks in ["1", "2", "3", "4"] {
        let dir = &dirs[ranks.parse::<usize>().expect("a number")];
        json(&["run", &spec, "--dir", dir, "-n", ranks, "--json", "--quiet"]);
        assert_same_bits(&volume(dirs[1].as_ref()), &volume(dir.as_ref()), &format!("{ranks} ranks"));
    }
    let output = convoke()
        .env("CONVOKE_MPI_MESSAGE_LIMIT", "1000")
        .args(["run", &spec, "--dir", &dirs[0], "-n", "3", "--quiet"])
        .output()
        .expect("the program starts");
    assert!(output.status.success(), "{}", told(&output).2);
    assert_same_bits(&volume(dirs[1].as_ref()), &volume(dirs[0].as_ref()), "messages of 1000 bytes");
}

/// Rows are filtered together with those of other ranks, in tiles that ranks cut: two of 70 rows, and a kernel that reaches 33 of them.
#[test]
fn phase_retrieval_gives_the_same_bits_on_one_to_three_ranks() {
    if !has_mpirun() {
        return;
    }
    let scratch = scratch();
    let [angles, rows, cols] = [6, 140, 24];
    // Transmissions with structure on every scale, so that the filter has something to do everywhere.
    let counts = |i: usize| 400.0 + (i * 7919 % 601) as f32 + 3.0 * (i / cols % rows) as f32;
    let data: Vec<f32> = (0..angles * rows * cols).map(counts).collect();
    let theta: Vec<f64> = (0..angles).map(|i| 30.0 * i as f64).collect();
    let mut file = Writer::create(scratch.path().join("scan.h5")).expect("a file");
    file.whole("/exchange/data", &[angles, rows, cols], &data).expect("written");
    file.whole("/exchange/data_white", &[1, rows, cols], &vec![1900f32; rows * cols]).expect("written");
    file.whole("/exchange/data_dark", &[1, rows, cols], &vec![100f32; rows * cols]).expect("written");
    file.whole("/exchange/theta", &[angles], &theta).expect("written");
    file.commit_replace().expect("committed");
    // A blur of 1.5 pixels of 1 µm.
    let phase = "[problem.scan.phase]\nwavelength_nm = 0.1\ndistance_mm = 2.827\ndelta_over_beta = 100.0\n";
    let of = |name: &str, phase: &str, ranks: &str| {
        let text = format!(
            "schema = 1\nname = \"phase\"\nworkload = \"tomography\"\n[problem.scan]\nfile = \"scan.h5\"\npixel_size_mm = 0.001\n\
             {phase}[problem.centre]\ncolumn = 11.5\n[problem.method]\nalgorithm = \"fbp\"\n"
        );
        let spec = job(scratch.path(), &format!("{name}.toml"), &text);
        json(&["run", &spec, "--dir", &below(scratch.path(), name), "-n", ranks, "--json", "--quiet"]);
        volume(below(scratch.path(), name).as_ref())
    };
    let alone = of("alone", phase, "1");
    let difference = common::relative_difference(&alone, &of("without", "", "1"));
    assert!(difference > 0.1, "the filter changes the image: {difference}");
    for ranks in ["2", "3"] {
        assert_same_bits(&alone, &of(&format!("on{ranks}"), phase, ranks), &format!("{ranks} ranks"));
    }
}

#[test]
fn ranks_that_share_slices_agree_to_rounding() {
    if !has_mpirun() {
        return;
    }
    let scratch = scratch();
    for method in [
        "algorithm = \"fbp\"",
        "algorithm = \"cgls\"\niterations = 5",
        "algorithm = \"os-sart\"\niterations = 3\nsubsets = 4",
    ] {
        let spec = job(scratch.path(), "job.toml", &small(40, 2, 30, method));
        let name = |n: &str| below(scratch.path(), &format!("{}-{n}", method.len()));
        json(&["run", &spec, "--dir", &name("1"), "--json", "--quiet"]);
        json(&["run", &spec, "--dir", &name("4"), "-n", "4", "--json", "--quiet"]);
        let difference = common::relative_difference(&volume(name("1").as_ref()), &volume(name("4").as_ref()));
        assert!(difference < 2e-5, "{method}: {difference:e}");
    }
}

#[test]
fn every_stop_signal_writes_a_checkpoint_and_exits_75() {
    let scratch = scratch();
    let spec = long(scratch.path());
    let ranks = if has_mpirun() { vec!["1", "3"] } else { vec!["1"] };
    for n in ranks {
        for signal in [rustix::process::Signal::TERM, rustix::process::Signal::INT, rustix::process::Signal::USR1] {
            let dir = below(scratch.path(), &format!("{n}-{signal:?}"));
            let child = start(&["run", &spec, "--dir", &dir, "-n", n]);
            until_checkpoint(dir.as_ref());
            rustix::process::kill_process(rustix::process::Pid::from_child(&child), signal).expect("it runs");
            let (code, _, err) = told(&child.wait_with_output().expect("it ends"));
            assert_eq!(code, 75, "{n} ranks, {signal:?}: {err}");
            assert!(err.contains("convoke resume"), "{err}");
            let resumed = told(&run(&["resume", &dir, "--stop-after", "1", "--quiet"]));
            assert_eq!(resumed.0, 75, "{}", resumed.2);
        }
    }
}

/// A batch system's warning may come before the ranks can listen, or even the launcher.
#[test]
fn a_signal_before_the_ranks_listen_waits_for_them() {
    if !has_mpirun() {
        return;
    }
    let scratch = scratch();
    let spec = long(scratch.path());
    let dir = below(scratch.path(), "run");
    let child = start(&["run", &spec, "--dir", &dir, "-n", "3"]);
    let list = format!("/proc/{0}/task/{0}/children", child.id());
    // The launcher of the ranks, not the one that was asked for its version.
    let launches = |pid: &str| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        line.contains("mpirun") && line.contains(&dir)
    };
    let begun = Instant::now();
    while !std::fs::read_to_string(&list).is_ok_and(|pids| pids.split_whitespace().any(launches)) {
        assert!(begun.elapsed() < Duration::from_secs(60), "no launcher");
        std::thread::yield_now();
    }
    assert_eq!(ranks_of(&dir), [] as [i32; 0], "the launcher has only begun");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::USR1).expect("it runs");
    let (code, _, err) = told(&child.wait_with_output().expect("it ends"));
    assert_eq!(code, 75, "{err}");
    assert!(err.contains("convoke resume"), "{err}");
}

#[test]
fn a_killed_rank_ends_the_job_with_a_clear_error_and_an_intact_checkpoint() {
    if !has_mpirun() {
        return;
    }
    let scratch = scratch();
    let spec = long(scratch.path());
    let dir = below(scratch.path(), "run");
    let child = start(&["run", &spec, "--dir", &dir, "-n", "3", "--quiet"]);
    until_checkpoint(dir.as_ref());
    let victim = *ranks_of(&dir).last().expect("ranks run");
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(victim).expect("a number"),
        rustix::process::Signal::KILL,
    )
    .expect("killed");
    let begun = Instant::now();
    let (code, _, err) = told(&child.wait_with_output().expect("it ends"));
    assert!(begun.elapsed() < Duration::from_secs(20), "nobody hangs");
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("killed by signal 9") && err.contains("is intact; continue with"), "{err}");
    let output = run(&["resume", &dir, "-n", "2", "--stop-after", "1", "--quiet"]);
    assert_eq!(told(&output).0, 75, "{}", told(&output).2);
}

#[test]
fn a_failing_rank_ends_all_with_its_message() {
    if !has_mpirun() {
        return;
    }
    let scratch = scratch();
    let spec = long(scratch.path());
    let dir = below(scratch.path(), "run");
    let output = convoke()
        .env("CONVOKE_FAULT", "fail@step:rank=1:nth=31")
        .args(["run", &spec, "--dir", &dir, "-n", "3", "--quiet"])
        .output()
        .expect("the program starts");
    let (code, _, err) = told(&output);
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("rank 1 failed") && err.contains("CONVOKE_FAULT"), "{err}");
    assert_eq!(told(&run(&["resume", &dir, "--stop-after", "1", "--quiet"])).0, 75);
}

#[test]
fn the_wall_time_ends_a_run_with_a_checkpoint() {
    let scratch = scratch();
    let text = small(64, 24, 60, "algorithm = \"sirt\"\niterations = 100000");
    let spec = job(
        scratch.path(),
        "job.toml",
        &text.replace("[problem.phantom]", "[run]\nwalltime = \"2s\"\n[problem.phantom]"),
    );
    let dir = below(scratch.path(), "run");
    let begun = Instant::now();
    let (code, _, err) = told(&run(&["run", &spec, "--dir", &dir]));
    assert_eq!(code, 75, "{err}");
    assert!(err.contains("wall time"), "{err}");
    assert!(begun.elapsed() < Duration::from_secs(4));
}

#[test]
fn a_second_run_into_an_owned_directory_is_refused() {
    let scratch = scratch();
    let spec = long(scratch.path());
    let dir = below(scratch.path(), "run");
    let mut child = start(&["run", &spec, "--dir", &dir, "--quiet"]);
    until_checkpoint(dir.as_ref());
    let (code, _, err) = told(&run(&["run", &spec, "--dir", &dir]));
    assert_eq!(code, 7, "{err}");
    assert!(err.contains("owned by attempt 1"), "{err}");
    assert_eq!(told(&run(&["resume", &dir])).0, 7);
    child.kill().expect("it runs");
    child.wait().expect("it ends");
    assert_eq!(told(&run(&["resume", &dir, "--stop-after", "1", "--quiet"])).0, 75, "a dead owner is succeeded");
}
