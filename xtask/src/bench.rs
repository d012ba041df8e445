//! `cargo xtask bench`: our workloads beside other programs, on the same input.

use std::path::Path;

use xshell::{Shell, cmd};

use crate::error::{Error, Result};
use crate::install;
use crate::machine::{Here, Machine};
use crate::needs::Need;
use crate::python::{self, Group};
use crate::say;

/// What we are compared with.
const WHEELS: [Group; 6] = [
    Group {
        wheels: &["numpy", "scipy", "scikit-image", "h5py", "sympy"],
        purpose: "measure scikit-image and our own baselines",
    },
    Group { wheels: &["astra-toolbox"], purpose: "measure the ASTRA toolbox" },
    Group { wheels: &["itk-rtk"], purpose: "measure RTK" },
    Group { wheels: &["dppy"], purpose: "measure DPPy" },
    Group { wheels: &["torch"], purpose: "measure PyTorch" },
    Group { wheels: &["torch-cfd"], purpose: "measure torch-cfd" },
];

/// One folder per workload, each with a `bench.py`; folders below with a `Cargo.toml` are peers that cargo builds.
const PEERS: &str = "tests/peers";
/// Where cargo builds them.
const BUILT: &str = "target/peers/built";

/// Options of `cargo xtask bench`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cargo xtask bench                              every workload that has peers
  cargo xtask bench tomography --quick           small sizes, minutes
  cargo xtask bench tomography -- --rounds 5     what follows `--` goes to tests/peers/tomography/bench.py")]
pub struct Args {
    /// One workload instead of all.
    workload: Option<String>,
    /// Small sizes.
    #[arg(long)]
    quick: bool,
    /// Arguments of the workload's bench.py.
    #[arg(last = true)]
    extra: Vec<String>,
}

/// Builds, installs the peers, measures.
pub fn bench(sh: &Shell, args: &Args) -> Result<()> {
    let root = sh.current_dir();
    let workloads = select(&Here, &root, args.workload.as_deref())?;
    if workloads.is_empty() {
        say::line(format!("There is no {PEERS}/<workload>/bench.py yet: nothing to measure."));
        return Ok(());
    }
    install::prepare(sh, &Here, &[Need::of_build(true), vec![Need::Python]].concat(), &[])?;
    say::heading("Peers: target/peers");
    let peers = python::environment(sh, Path::new("target/peers"), &WHEELS)?;
    say::heading("Release build");
    say::run(cmd!(sh, "cargo build --release"))?;
    // They measure kernels alone, without the job around them.
    let kernels = ["--example", "bench_projector", "--example", "bench_cone", "--example", "bench_kronecker"];
    say::run(cmd!(sh, "cargo build --release --package convoke-kernels {kernels...}"))?;
    let examples =
        ["bench_dpp", "bench_operator", "bench_prior", "bench_rings"].iter().flat_map(|name| ["--example", name]);
    say::run(cmd!(sh, "cargo build --release {examples...}"))?;
    let (python, convoke, release) =
        (&peers.python, root.join("target/release/convoke"), root.join(BUILT).join("release"));
    let quick = args.quick.then_some("--quick");
    let extra = &args.extra;
    for workload in workloads {
        let built = build_peers(sh, &root.join(PEERS).join(&workload))?.then_some(["--built".into(), release.clone()]);
        let built = built.iter().flatten();
        say::heading(&format!("Benchmark: {workload}"));
        let script = format!("{PEERS}/{workload}/bench.py");
        say::run(cmd!(sh, "{python} {script} --convoke {convoke} {built...} {quick...} {extra...}"))?;
    }
    Ok(())
}

/// Builds the peers that are Rust crates, each in a workspace of its own; true if there are any and all were built.
fn build_peers(sh: &Shell, folder: &Path) -> Result<bool> {
    let manifests: Vec<_> = Here.entries(folder).into_iter().map(|peer| peer.join("Cargo.toml")).collect();
    let manifests: Vec<_> = manifests.into_iter().filter(|manifest| Here.exists(manifest)).collect();
    for manifest in &manifests {
        say::heading(&format!("Peer: {}", manifest.display()));
        // With all the instructions of this processor: ours finds them out as it runs.
        let build = cmd!(sh, "cargo build --release --locked --manifest-path {manifest} --target-dir {BUILT}")
            .env("RUSTFLAGS", "-C target-cpu=native");
        if let Err(error) = say::run(build) {
            say::line(format!("skipped: cargo could not build it: {error}"));
            return Ok(false);
        }
    }
    Ok(!manifests.is_empty())
}

/// The workloads with peers; an unknown name is an error that says which there are.
fn select(machine: &dyn Machine, root: &Path, wanted: Option<&str>) -> Result<Vec<String>> {
    let folders =
        machine.entries(&root.join(PEERS)).into_iter().filter(|folder| machine.exists(&folder.join("bench.py")));
    let known: Vec<String> =
        folders.filter_map(|folder| Some(folder.file_name()?.to_string_lossy().into_owned())).collect();
    match wanted {
        None => Ok(known),
        Some(name) if known.iter().any(|k| k == name) => Ok(vec![name.to_owned()]),
        Some(name) => {
            let path = Path::new(PEERS).join(name).join("bench.py");
            Err(Error::NoBenchmark { path, known: if known.is_empty() { "none yet".into() } else { known.join(", ") } })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::invented::Invented;

    #[test]
    fn workloads_are_found_and_wrong_names_are_told() {
        let root = Path::new("/r");
        let machine =
            Invented::default().file("/r/tests/peers/tomography/bench.py", "").file("/r/tests/peers/notes/a.md", "");
        assert_eq!(select(&machine, root, None).unwrap(), ["tomography"]);
        assert_eq!(select(&machine, root, Some("tomography")).unwrap(), ["tomography"]);
        let error = select(&machine, root, Some("dpp")).unwrap_err().to_string();
        assert_eq!(error, "there is no tests/peers/dpp/bench.py; there is: tomography");
        assert!(select(&Invented::default(), root, None).unwrap().is_empty());
    }
}
