//! `cargo xtask test`: every check, in the order in which they are cheap.

use std::path::Path;

use xshell::{Shell, cmd};

use crate::error::{Error, Result};
use crate::install;
use crate::machine::{Here, Machine};
use crate::needs::Need;
use crate::python::{self, Group};
use crate::say;
use crate::slurm_lab;
use crate::steps::{self, Step};

/// Programs in Python that check our files, and a CUDA compiler that needs no GPU.
const WHEELS: [Group; 3] = [
    Group { wheels: &["numpy", "h5py"], purpose: "read our HDF5 files with another program" },
    Group { wheels: &["vtk"], purpose: "read our VTKHDF files" },
    Group { wheels: &["nvidia-cuda-nvrtc-cu12"], purpose: "compile the CUDA kernels with NVIDIA's compiler" },
];

/// Not the examples, which the lints compile: generic code makes them long to build, and nothing runs them here.
const TESTS: &str = "cargo test --workspace --lib --bins --tests --no-run --message-format json-render-diagnostics";

/// A build of its own, which leaves `target/debug/convoke` as it is; not optimised, because its one test is short and optimising
/// every dependency a second time takes minutes.
const WITHOUT_MPI: &str = "cargo test -p convoke --no-default-features --target-dir target/no-mpi --config profile.dev.opt-level=0 --test no_mpi";

/// Options of `cargo xtask test`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cargo xtask test              what continuous integration runs; installs what is missing
  cargo xtask test --fast       without the build without MPI and the documentation
  cargo xtask test --verbose    with the output of every step as it comes

The output of each step is kept in target/xtask/.")]
pub struct Args {
    /// Leave out the build without MPI and the documentation.
    #[arg(long)]
    fast: bool,
    /// Show the output of every step as it comes.
    #[arg(short, long)]
    verbose: bool,
}

/// Installs what is missing, then runs the steps.
pub fn test(sh: &Shell, args: &Args) -> Result<()> {
    let root = sh.current_dir();
    install::prepare(sh, &Here, &Need::of_tests(), &[Need::Python])?;
    toolchain(sh)?;
    peers(sh);
    slurm_lab::offer(sh);
    steps::run(sh, &plan(args.fast), &root.join("target/xtask"), args.verbose)
}

/// The steps.
fn plan(fast: bool) -> Vec<Step> {
    let step = |name, line| Step { name, line, env: &[], suite: false };
    let mut steps = vec![
        step("format", "cargo fmt --all --check"),
        step("licences", "cargo xtask licences"),
        step("lints", "cargo clippy --workspace --all-targets -- -D warnings"),
        Step { suite: true, ..step("tests", TESTS) },
        step("examples in the documentation", "cargo test --workspace --doc"),
    ];
    if !fast {
        steps.push(step("build and test without MPI", WITHOUT_MPI));
        let doc = Step {
            env: &[("RUSTDOCFLAGS", "-D warnings")],
            ..step("documentation", "cargo doc --workspace --no-deps")
        };
        steps.push(doc);
    }
    steps
}

/// rustfmt and clippy, which a minimal toolchain lacks.
fn toolchain(sh: &Shell) -> Result<()> {
    let missing = [("fmt", "rustfmt"), ("clippy", "clippy")].into_iter().filter(|(command, _)| {
        cmd!(sh, "cargo {command} --version").quiet().ignore_stdout().ignore_stderr().run().is_err()
    });
    let missing: Vec<&str> = missing.map(|(_, component)| component).collect();
    match (missing.is_empty(), Here.program("rustup")) {
        (true, _) => Ok(()),
        (false, Some(_)) => say::run(cmd!(sh, "rustup component add {missing...}")),
        (false, None) => Err(Error::CannotInstall { missing: missing.join(", "), reason: "there is no rustup" }),
    }
}

/// Programs that check our files; tests say what they skip without them.
fn peers(sh: &Shell) {
    say::heading("Python environment of the tests: target/python");
    match python::environment(sh, Path::new("target/python"), &WHEELS) {
        Ok(environment) => {
            sh.set_var("CONVOKE_PYTHON", &environment.python);
            if let Some(nvrtc) = environment.package_folder("nvidia/cuda_nvrtc/lib") {
                sh.set_var("CONVOKE_NVRTC_DIR", nvrtc);
            }
        }
        Err(error) => say::line(format!("skipped: {error}; tests that need it skip themselves")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(steps: &[Step]) -> Vec<&'static str> {
        steps.iter().map(|step| step.name).collect()
    }

    #[test]
    fn fast_leaves_out_the_second_build_and_the_documentation() {
        let fast = ["format", "licences", "lints", "tests", "examples in the documentation"];
        assert_eq!(names(&plan(true)), fast);
        assert_eq!(names(&plan(false))[5..], ["build and test without MPI", "documentation"]);
    }

    #[test]
    fn no_step_builds_for_release() {
        for step in plan(false) {
            assert!(step.line.starts_with("cargo ") && !step.line.contains("release"), "{}", step.line);
            assert!(!step.line.contains("  "), "words are separated by single blanks: {}", step.line);
        }
    }
}
