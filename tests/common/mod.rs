//! What the integration tests share: the program, scratch directories, results.
#![allow(dead_code, reason = "every test file uses a part of it")]
#![allow(clippy::print_stderr, reason = "a skipped test says why")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use convoke::registry;
use convoke_cluster::comm::run_threads;
use convoke_cluster::driver::{Options, Outcome, Source};
use convoke_cluster::progress::Verbosity;
use convoke_cluster::{Error, JobText};
use convoke_data::store::{Layout, Reader, Writer};

/// The program under test.
pub fn convoke() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_convoke"));
    for name in ["CONVOKE_FAULT", "CONVOKE_MPI_MESSAGE_LIMIT"] {
        command.env_remove(name);
    }
    command
}

/// Runs the program and returns its output.
pub fn run(args: &[&str]) -> Output {
    convoke().args(args).output().expect("the program starts")
}

/// Exit code, standard output and standard error.
pub fn told(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

/// Runs the program, asks for success and returns its JSON.
pub fn json(args: &[&str]) -> serde_json::Value {
    let (code, out, err) = told(&run(args));
    assert_eq!(code, 0, "{args:?}\n{err}");
    serde_json::from_str(&out).expect("JSON on standard output")
}

/// A directory that goes with the test.
pub fn scratch() -> tempfile::TempDir {
    tempfile::tempdir().expect("a scratch directory")
}

/// Writes a job file and returns its path as text.
pub fn job(dir: &Path, name: &str, text: &str) -> String {
    let path = dir.join(name);
    std::fs::write(&path, text).expect("written");
    path.display().to_string()
}

/// Text of a path below `dir`.
pub fn below(dir: &Path, name: &str) -> String {
    dir.join(name).display().to_string()
}

/// An array of a result file.
pub fn array(run: &Path, name: &str) -> Vec<f32> {
    Reader::open(run.join("result.h5")).expect("a result").read(name).expect("an array")
}

/// The reconstructed volume of a run.
pub fn volume(run: &Path) -> Vec<f32> {
    array(run, "/result/volume")
}

/// Bits of two volumes, compared.
pub fn assert_same_bits(a: &[f32], b: &[f32], what: &str) {
    assert_eq!(a.len(), b.len(), "{what}: lengths");
    let different = a.iter().zip(b).filter(|(a, b)| a.to_bits() != b.to_bits()).count();
    assert_eq!(different, 0, "{what}: {different} of {} elements differ", a.len());
}

/// Largest difference over largest magnitude.
pub fn relative_difference(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let largest = a.iter().fold(0f32, |m, v| m.max(v.abs()));
    let difference = a.iter().zip(b).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
    f64::from(difference) / f64::from(largest.max(f32::MIN_POSITIVE))
}

/// Whether ranks can be started here; says why not.
pub fn has_mpirun() -> bool {
    let there = cfg!(feature = "mpi") && convoke_cluster::launch::Mpirun::find().is_some();
    if !there {
        eprintln!("SKIPPED: no mpirun here, or a build without MPI");
    }
    there
}

/// Fakes of Slurm's commands in `dir/bin`, which need `FAKE=dir`: `sbatch` notes its calls in `calls` and does what the shell lines
/// in `answer` say; `no` makes its test refuse, `queue` is what `squeue` shows, `down` makes it fail.
pub fn fake_slurm(dir: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let bin = dir.join("bin");
    std::fs::create_dir(&bin).expect("made");
    let refuse = "echo 'sbatch: error: allocation failure: Requested node configuration is not available' >&2; exit 1";
    let scripts = [
        (
            "sbatch",
            format!(
                "echo \"sbatch $*\" >>\"$FAKE/calls\"\n\
                 case \"$*\" in *--test-only*) [ -e \"$FAKE/no\" ] && {{ {refuse}; }}; exit 0;; esac\n. \"$FAKE/answer\""
            ),
        ),
        (
            "squeue",
            "[ ! -e \"$FAKE/down\" ] || { echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1; }\n\
             cat \"$FAKE/queue\" 2>/dev/null; exit 0"
                .to_owned(),
        ),
        (
            "sinfo",
            "case \"$*\" in *%T*) cat \"$FAKE/nodes\" 2>/dev/null || echo 'main*|4|idle';; *) echo \
             'main*|4000|4|(null)|1:00:00|4';; esac"
                .to_owned(),
        ),
        ("srun", "echo 'MPI plugin types are...'; echo '\tpmix'".to_owned()),
    ];
    for (name, lines) in scripts {
        let path = bin.join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{lines}\n")).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("set");
    }
}

/// A file of the shared test data, if it is here; says when not.
pub fn test_data(name: &str) -> Option<PathBuf> {
    let dir = std::env::var_os("CONVOKE_TEST_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data"), PathBuf::from);
    let path = dir.join(name);
    if !path.exists() {
        eprintln!("SKIPPED: {name} is not here (set CONVOKE_TEST_DATA to the directory that holds it)");
        return None;
    }
    Some(path)
}

/// A small tomography job; `method` is the content of `[problem.method]`.
pub fn small(size: usize, rows: usize, angles: usize, method: &str) -> String {
    format!(
        "schema = 1\nname = \"small\"\nworkload = \"tomography\"\nseed = 3\n[problem.phantom]\n\
         kind = \"ellipsoids\"\nparts = 6\nsize = {size}\nrows = {rows}\nangles = {angles}\nphotons = 1e4\n\
         [problem.method]\n{method}\n"
    )
}

/// Runs a job of `workload` on ranks that are threads of this process; `dir` is the run directory to make.
pub fn run_on_threads(workload: &str, text: JobText, ranks: usize, dir: &Path) -> Vec<Result<Outcome, Error>> {
    let entry = registry::find(workload).expect("the workload is registered");
    let source = Source::New { text, dir: dir.to_owned() };
    let options = Options { verbosity: Verbosity::Quiet, threads: 1, ..Options::default() };
    run_threads(ranks, |comm| (entry.run)(&comm, &source, &options))
}

/// A figure of a result.
pub fn figure(dir: &Path, name: &str) -> f64 {
    let reader = Reader::open(dir.join("result.h5")).expect("a result");
    reader.attribute("/result", name).expect("a group").expect("a figure").as_f64().expect("a number")
}

/// An array of a result in double precision.
pub fn doubles(dir: &Path, name: &str) -> Vec<f64> {
    Reader::open(dir.join("result.h5")).expect("a result").read(&format!("/result/{name}")).expect("an array")
}

/// Writes an HDF5 file of arrays.
pub fn write_arrays(path: &Path, arrays: &[(&str, &[usize], &[f64])]) {
    let mut writer = Writer::create(path).expect("a file");
    for (name, shape, values) in arrays {
        writer.dataset::<f64>(name, shape, Layout::Contiguous).expect("a dataset");
        writer.write(name, &vec![0; shape.len()], shape, values).expect("values");
    }
    writer.commit_replace().expect("written");
}

/// The Python of CONVOKE_PYTHON if it has `module`; says when not.
pub fn python_with(module: &str) -> Option<PathBuf> {
    let Some(python) = std::env::var_os("CONVOKE_PYTHON").map(PathBuf::from) else {
        eprintln!("skipped: CONVOKE_PYTHON is not set");
        return None;
    };
    let imported = Command::new(&python).args(["-c", &format!("import {module}")]).output();
    if !imported.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: CONVOKE_PYTHON has no {module}");
        return None;
    }
    Some(python)
}
