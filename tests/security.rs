//! What a run gives away and what it can be made to touch: nothing. (Files of others: `foreign.rs`; the shell: `submit.rs`;
//! the report: `analyse.rs`.)

mod common;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use common::{below, convoke, has_mpirun, job, run, scratch, small, told};

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).expect("a directory").map(|e| e.expect("an entry").path());
    entries
        .flat_map(|path| if path.is_dir() { [vec![path.clone()], files(&path)].concat() } else { vec![path] })
        .collect()
}

fn spec(dir: &Path) -> String {
    job(dir, "job.toml", &small(16, 4, 12, "algorithm = \"sirt\"\niterations = 6\n[checkpoint]\nevery_steps = 2"))
}

#[test]
fn what_a_run_writes_is_its_users_alone_and_holds_no_secret() {
    let scratch = scratch();
    let (spec, dir) = (spec(scratch.path()), below(scratch.path(), "run"));
    let secret = "s3cr3t-t0k3n-0f-s0meb0dy";
    for ranks in if has_mpirun() { vec!["1", "2"] } else { vec!["1"] } {
        let _ = fs::remove_dir_all(&dir);
        let words = ["run", &spec, "--dir", &dir, "-n", ranks, "-q"];
        let output = convoke().env("AWS_SECRET_ACCESS_KEY", secret).args(words).output().expect("the program starts");
        assert_eq!(told(&output).0, 0, "{}", told(&output).2);
        let report = convoke().env("AWS_SECRET_ACCESS_KEY", secret).args(["analyse", "report", &dir]).output();
        assert_eq!(told(&report.expect("the program starts")).0, 0);
        let all = files(dir.as_ref());
        assert!(all.iter().any(|f| f.ends_with("result.h5")) && all.iter().any(|f| f.ends_with("report.html")));
        for path in all.iter().chain([&PathBuf::from(&dir)]) {
            let mode = fs::metadata(path).expect("there").permissions().mode();
            // The report is for others.
            assert!(mode & 0o077 == 0 || path.ends_with("report.html"), "{}: {mode:o}", path.display());
            let bytes = if path.is_file() { fs::read(path).expect("read") } else { Vec::new() };
            assert!(!bytes.windows(secret.len()).any(|w| w == secret.as_bytes()), "{}", path.display());
        }
    }
}

/// A link in the place of a file leads nowhere: what it points to keeps its bytes.
#[test]
fn links_in_a_run_directory_are_not_written_through() {
    let scratch = scratch();
    let (spec, dir) = (spec(scratch.path()), below(scratch.path(), "run"));
    assert_eq!(told(&run(&["run", &spec, "--dir", &dir, "-q", "--stop-after", "3"])).0, 75);
    let (run_dir, precious) = (Path::new(&dir), scratch.path().join("precious"));
    fs::write(&precious, "thesis").expect("written");
    for name in ["events.jsonl", "result.h5", "heartbeat", "stop"] {
        let _ = fs::remove_file(run_dir.join(name));
        symlink(&precious, run_dir.join(name)).expect("linked");
    }
    let _ = run(&["cancel", &dir]);
    let (code, _, err) = told(&run(&["resume", &dir, "-q"]));
    assert!([0, 1, 2, 75].contains(&code), "{code}: {err}");
    let kept = fs::read_to_string(&precious).expect("it");
    assert_eq!(kept, "thesis", "exit code {code}: {err}");
}

/// Session files of a launcher lie in a folder that nobody else can have prepared.
#[test]
fn session_files_lie_in_a_folder_of_our_own() {
    if !has_mpirun() {
        return;
    }
    let scratch = scratch();
    let (spec, dir) = (spec(scratch.path()), below(scratch.path(), "run"));
    let base = scratch.path().join("tmp");
    fs::create_dir(&base).expect("made");
    fs::set_permissions(&base, fs::Permissions::from_mode(0o1777)).expect("set");
    let words = ["run", &spec, "--dir", &dir, "-n", "2", "-q"];
    let mut command = convoke();
    command.env("TMPDIR", &base).env("CONVOKE_FAULT", "delay@step:times=all:for=50ms").args(words);
    let mut child = command.spawn().expect("the program starts");
    let mut seen = Vec::new();
    while child.try_wait().expect("a child").is_none() {
        seen.extend(fs::read_dir(&base).expect("it").flatten().map(|e| {
            let mode = e.metadata().map_or(0, |m| m.permissions().mode() & 0o777);
            (e.file_name().to_string_lossy().into_owned(), mode)
        }));
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    seen.sort();
    seen.dedup();
    // The number of the process is known to all; the letters behind it are not.
    let known = format!("convoke-{}-", child.id());
    assert!(seen.iter().any(|(name, _)| name.starts_with(&known) && name.len() >= known.len() + 6), "{seen:?}");
    assert!(seen.iter().all(|(_, mode)| *mode == 0o700 || *mode == 0), "{seen:?}");
    assert_eq!(fs::read_dir(&base).expect("it").count(), 0, "removed at its end");
}
