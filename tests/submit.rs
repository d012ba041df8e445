//! `convoke submit` before a batch system that behaves badly. Its commands are fakes here, shell scripts first on the PATH; a real
//! Slurm is in `tests/slurm.rs`.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use common::{below, convoke, fake_slurm, job, run, scratch, small, told};

/// The queue shows the job of the run in this directory.
const QUEUED: &str = r#"id=$(sed -n 's/.*"run_id": "\([0-9a-f]*\)".*/\1/p' spec.lock.json)
echo "77|N/A|PENDING|None|N/A||convoke:$id" >"$FAKE/queue""#;

struct Site {
    dir: tempfile::TempDir,
    spec: String,
}

impl Site {
    /// A cluster where `sbatch` answers by these lines.
    fn answering(lines: &str) -> Self {
        let dir = scratch();
        fake_slurm(dir.path());
        let spec = job(dir.path(), "job.toml", &small(24, 8, 16, "algorithm = \"fbp\""));
        let site = Self { dir, spec };
        site.answer(lines);
        site
    }

    fn answer(&self, lines: &str) {
        fs::write(self.dir.path().join("answer"), lines).expect("written");
    }

    fn run(&self) -> PathBuf {
        self.dir.path().join("run")
    }

    fn convoke(&self, words: &[&str]) -> (i32, String, String) {
        let path = format!("{}:/usr/bin:/bin", self.dir.path().join("bin").display());
        let mut command = convoke();
        command.env("PATH", path).env("FAKE", self.dir.path()).env("SBATCH_TIMELIMIT", "1").args(words);
        told(&command.output().expect("the program starts"))
    }

    fn submit(&self) -> (i32, String, String) {
        self.convoke(&["submit", &self.spec, "--dir", &below(self.dir.path(), "run")])
    }

    /// How often a job was handed over.
    fn handed_over(&self) -> usize {
        let calls = fs::read_to_string(self.dir.path().join("calls")).unwrap_or_default();
        calls.lines().filter(|l| l.starts_with("sbatch") && !l.contains("--test-only")).count()
    }
}

#[test]
fn a_banner_around_the_number_is_no_trouble_and_the_shell_has_no_say() {
    let site = Site::answering("echo 'Welcome to cluster 9!'; echo '812;lab'; echo 'Bye'; env >\"$FAKE/environment\"");
    let (code, out, err) = site.submit();
    assert!(code == 0 && out.starts_with("job 812 is in the queue"), "{out}{err}");
    let environment = fs::read_to_string(site.dir.path().join("environment")).expect("written");
    assert!(!environment.contains("SBATCH_TIMELIMIT"), "it would beat the script's own limit");
    let mode = fs::metadata(site.run()).expect("made").permissions().mode() & 0o777;
    assert_eq!(mode, 0o700);
}

#[test]
fn a_job_that_was_taken_is_found_in_the_queue_and_not_handed_over_again() {
    for answer in ["echo thanks", "echo 'sbatch: error: Socket timed out on send/recv operation' >&2; exit 1"] {
        let site = Site::answering(&format!("{QUEUED}\n{answer}"));
        let (code, out, err) = site.submit();
        assert!(code == 0 && out.starts_with("job 77 is in the queue"), "{answer}: {out}{err}");
        assert_eq!(site.handed_over(), 1, "{answer}");
        let (code, out, _) = site.convoke(&["submit", &below(site.dir.path(), "run")]);
        assert!(code == 0 && out.contains("is job 77 already (pending); nothing was submitted"), "{out}");
        assert_eq!(site.handed_over(), 1, "{answer}");
    }
}

#[test]
fn where_nobody_can_tell_the_run_stays_and_can_be_submitted_later() {
    let silent = "echo 'sbatch: error: Socket timed out on send/recv operation' >&2; exit 1";
    for (answer, down) in [("echo thanks", false), (silent, true)] {
        let site = Site::answering(answer);
        if down {
            fs::write(site.dir.path().join("down"), "").expect("written");
        }
        let (code, _, err) = site.submit();
        assert!(code == 4 && err.contains("whether the job is in the queue is not known"), "{answer}: {code} {err}");
        assert_eq!(site.handed_over(), 1, "a second try could make a second job");
        assert!(site.run().join("spec.toml").exists());
        let _ = fs::remove_file(site.dir.path().join("down"));
        site.answer("echo 5");
        let (code, out, err) = site.convoke(&["submit", &below(site.dir.path(), "run")]);
        assert!(code == 0 && out.starts_with("job 5 is in the queue"), "{out}{err}");
    }
}

#[test]
fn what_was_refused_leaves_nothing() {
    let silent = "echo 'sbatch: error: Unable to contact slurm controller' >&2; exit 1";
    let refused = "echo 'sbatch: error: Batch job submission failed: Invalid account' >&2; exit 1";
    for (answer, tries, words) in [(silent, 3, "nothing was lost: try again later"), (refused, 1, "Invalid account")] {
        let site = Site::answering(answer);
        let (code, _, err) = site.submit();
        assert!(code == 4 && err.contains(words), "{code} {err}");
        assert_eq!(site.handed_over(), tries);
        assert!(!site.run().exists());
    }
    let site = Site::answering("echo 5");
    fs::write(site.dir.path().join("no"), "").expect("written");
    let (code, _, err) = site.submit();
    assert!(code == 4 && err.contains("Requested node configuration is not available"), "{err}");
    assert_eq!(site.handed_over(), 0);
    assert!(!site.run().exists());
}

/// The trial counts only nodes in service; the queue takes the job, and it waits.
#[test]
fn a_job_whose_nodes_are_out_of_service_waits_in_the_queue() {
    for (nodes, taken) in [
        ("main*|4|drained", true),
        ("main*|3|idle\nmain*|1|idle*", true),
        ("main*|2|maint\nmain*|2|allocated", true),
        ("main*|3|idle\nmain*|1|mixed\nother|9|down", false),
    ] {
        let site = Site::answering("echo 5");
        fs::write(site.dir.path().join("no"), "").expect("written");
        fs::write(site.dir.path().join("nodes"), nodes).expect("written");
        let (code, _, err) = site.submit();
        assert_eq!((code, site.handed_over()), if taken { (0, 1) } else { (4, 0) }, "{nodes}: {err}");
        assert_eq!(site.run().exists(), taken, "{nodes}");
    }
}

#[test]
fn a_run_that_others_could_change_is_not_gone_on_with() {
    let site = Site::answering("echo 5");
    let dir = below(site.dir.path(), "run");
    assert_eq!(told(&run(&["run", &site.spec, "--dir", &dir, "-q"])).0, 0);
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).expect("set");
    for words in [["submit", &dir], ["resume", &dir]] {
        let (code, _, err) = site.convoke(&words);
        assert!(code == 2 && err.contains("can be written by others (mode 777)"), "{words:?}: {err}");
    }
    assert_eq!(site.handed_over(), 0);
    // Looking is no risk.
    assert_eq!(site.convoke(&["verify", &dir]).0, 0);
}
