//! The command line as a person and as a script meet it.

mod common;

use common::{below, convoke, job, json, run, scratch, small, told};

#[test]
fn help_has_examples_and_exit_codes() {
    let (code, out, _) = told(&run(&["--help"]));
    assert_eq!(code, 0);
    for word in ["convoke new tomography > job.toml", "convoke resume", "75 stopped with a checkpoint", "doctor"] {
        assert!(out.contains(word), "{word}");
    }
    assert_eq!(told(&run(&["frobnicate"])).0, 2);
    assert_eq!(told(&run(&["run"])).0, 2);
}

#[test]
fn every_example_of_new_can_be_checked() {
    let scratch = scratch();
    let listing = json(&["list", "--json"]);
    for workload in listing.as_array().expect("a list") {
        let name = workload["name"].as_str().expect("a name");
        for example in workload["jobs"].as_array().expect("jobs") {
            let example = example.as_str().expect("a name");
            let (code, text, _) = told(&run(&["new", name, "--example", example]));
            assert_eq!(code, 0);
            let spec = job(scratch.path(), "job.toml", &text);
            let (code, _, err) = told(&run(&["check", &spec]));
            // An example may need a file that the user has to bring; then it says which.
            assert!(code == 0 || (code == 2 && err.contains("no such file")), "{name}/{example}: {err}");
        }
    }
    let (code, _, err) = told(&run(&["new", "tomografy"]));
    assert_eq!((code, err.contains("did you mean tomography?")), (2, true), "{err}");
}

#[test]
fn check_prices_a_job_and_touches_nothing() {
    let scratch = scratch();
    let spec = job(scratch.path(), "job.toml", &small(64, 2, 30, "algorithm = \"sirt\"\niterations = 10"));
    let plan = json(&["check", &spec, "-n", "4", "--json"]);
    assert_eq!(plan["ranks"], 4);
    assert_eq!(plan["plan"]["steps"], 10);
    // 2 slices on 4 ranks: two ranks share a slice's angles and add up 10 images of 64² floats.
    let sent = plan["plan"]["bytes_sent_per_rank"].as_u64().expect("a figure");
    assert!((10 * 64 * 64 * 4..20 * 64 * 64 * 4).contains(&sent), "{sent}");
    let (code, out, _) = told(&run(&["check", &spec]));
    assert_eq!(code, 0);
    assert!(out.contains("memory per rank") && out.contains("voxel updates"), "{out}");
    assert_eq!(std::fs::read_dir(scratch.path()).expect("readable").count(), 1);
}

#[test]
fn doctor_says_what_each_absence_means() {
    let findings = json(&["doctor", "--json"]);
    for what in ["cpu", "memory", "hdf5", "mpi", "mpirun", "gpu", "slurm", "host", "disk"] {
        let found = findings.as_array().expect("a list").iter().find(|f| f["what"] == what).expect(what);
        assert!(!found["found"].is_null() || found["meaning"].as_str().is_some_and(|m| !m.is_empty()), "{found}");
    }
}

#[test]
fn completions_name_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let (code, out, _) = told(&run(&["completions", shell]));
        assert_eq!(code, 0);
        assert!(out.contains("convoke") && out.contains("resume"), "{shell}");
    }
}

#[test]
fn quiet_is_silent_and_a_log_gets_plain_lines() {
    let scratch = scratch();
    let spec = job(scratch.path(), "job.toml", &small(24, 2, 12, "algorithm = \"fbp\""));
    let quiet = told(&run(&["run", &spec, "--dir", &below(scratch.path(), "quiet"), "-q"]));
    assert_eq!(quiet, (0, String::new(), String::new()));
    let (code, out, err) = told(&run(&["run", &spec, "--dir", &below(scratch.path(), "log")]));
    assert_eq!((code, out.as_str()), (0, ""));
    assert!(err.contains("finished after 1 steps") && !err.contains('\u{1b}'), "{err:?}");
}

#[test]
fn a_closed_pipe_is_no_error() {
    let mut command = std::process::Command::new("sh");
    command.arg("-c").arg(format!("{} list | true; exit ${{PIPESTATUS:-0}}", env!("CARGO_BIN_EXE_convoke")));
    assert!(command.output().expect("a shell").status.success());
}

#[test]
fn a_wrong_number_of_ranks_is_refused() {
    let scratch = scratch();
    let spec = job(scratch.path(), "job.toml", &small(24, 2, 12, "algorithm = \"fbp\""));
    let (code, _, err) = told(&run(&["run", &spec, "-n", "0"]));
    assert_eq!(code, 2, "{err}");
    // What a launcher announces is believed: here it started two.
    let output =
        convoke().env("OMPI_COMM_WORLD_SIZE", "2").env("PMI_SIZE", "2").args(["doctor"]).output().expect("it starts");
    assert!(output.status.success());
}
