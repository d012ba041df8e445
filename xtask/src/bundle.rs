//! `cargo xtask gpu-bundle`: the GPU's tests and benchmarks for a machine that has a CUDA driver and nothing else.
//!
//! The machine has no Rust, compiler, MPI or HDF5, and perhaps an older glibc than this one: shared libraries travel
//! along, and glibc with its loader in a folder of its own, used only where the machine's is too old.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use xshell::{Shell, cmd};

use crate::elf;
use crate::error::{Error, Result};
use crate::install;
use crate::machine::Here;
use crate::needs::Need;
use crate::say;

/// Largest archive, MiB.
const LIMIT_MIB: u64 = 60;
/// Jobs that are run on the GPU and on the CPU, and how far the results may lie apart.
const JOBS: [(&str, &str); 4] = [
    // Both devices compute in f32 and sum in another order.
    ("jobs/tomography/shepp-logan.toml", "--rtol 1e-3 --atol 1e-4"),
    // f64, on the emulation 5e-15 apart. The histories of residuals end at rounding, so the absolute part decides.
    ("jobs/gp_pde/allen-cahn-3d.toml", "--rtol 1e-9 --atol 1e-9"),
    // The same candidates are accepted.
    ("jobs/dpp/experiment-2d.toml", "--rtol 1e-9 --atol 1e-12"),
    // f64, written as f32: after the 400 steps of such a flow matrices and FFTs are 1e-15 apart.
    ("jobs/pde_data/mcwilliams.toml", "--rtol 1e-6 --atol 1e-6"),
];
/// Name of the folder in the archive.
const NAME: &str = "convoke-gpu";
/// Builds for the bundle share the target folder of the build without MPI.
const TARGET: &str = "target/no-mpi";

/// Options of `cargo xtask gpu-bundle`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  cargo xtask gpu-bundle                     makes target/gpu-bundle/convoke-gpu.tar.gz
  scp target/gpu-bundle/convoke-gpu.tar.gz gpu-host:
  ssh gpu-host 'tar xzf convoke-gpu.tar.gz && OUT=$PWD/out convoke-gpu/run.sh'

The machine needs x86-64 Linux and a CUDA driver. run.sh exits with 1 if anything fails.")]
pub struct Args {
    /// Where the folder and the archive are made.
    #[arg(long, default_value = "target/gpu-bundle")]
    out: PathBuf,
}

/// Builds, packs, and says how large it is.
pub fn gpu_bundle(sh: &Shell, args: &Args) -> Result<()> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu")) {
        return Err(Error::BundleHost { here: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH) });
    }
    install::prepare(sh, &Here, &Need::of_build(false), &[])?;
    say::heading("Release builds without MPI");
    let programs = build(sh)?;
    let out = sh.current_dir().join(&args.out);
    let folder = out.join(NAME);
    sh.remove_path(&folder)?;
    say::heading("Packing");
    let copies = copy_programs(sh, &programs, &folder)?;
    let glibc = copy_libraries(sh, &copies, &folder)?;
    copy_jobs(sh, &folder)?;
    sh.write_file(folder.join("glibc/needed"), format!("{}.{}\n", glibc.0, glibc.1))?;
    sh.write_file(folder.join("run.sh"), include_str!("bundle/run.sh"))?;
    let script = folder.join("run.sh");
    cmd!(sh, "chmod +x {script}").quiet().run()?;
    let archive = out.join(format!("{NAME}.tar.gz"));
    say::run(cmd!(sh, "tar -czf {archive} -C {out} {NAME}"))?;
    report(sh, &folder, &archive, glibc)
}

/// What a program of the bundle is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// `bin/convoke`
    Program,
    /// `tests/*`: must pass.
    Test,
    /// `bench/*`: prints numbers.
    Benchmark,
}

impl Kind {
    fn folder(self) -> &'static str {
        match self {
            Self::Program => "bin",
            Self::Test => "tests",
            Self::Benchmark => "bench",
        }
    }
}

/// A program that cargo has built.
#[derive(Debug, PartialEq, Eq)]
struct Built {
    kind: Kind,
    name: String,
    path: PathBuf,
}

fn build(sh: &Shell) -> Result<Vec<Built>> {
    say::run(cmd!(sh, "cargo build -p convoke --release --no-default-features --target-dir {TARGET}"))?;
    let path = sh.current_dir().join(TARGET).join("release/convoke");
    let convoke = Built { kind: Kind::Program, name: "convoke".into(), path };
    // `cargo test` builds the examples too.
    let line = cmd!(sh, "cargo test -p convoke-kernels --release --no-run --message-format=json --target-dir {TARGET}");
    say::line(format!("$ {line}"));
    let mut built = executables(&line.quiet().read()?)?;
    built.insert(0, convoke);
    Ok(built)
}

/// Test binaries, and the examples that are benchmarks, in cargo's messages.
fn executables(messages: &str) -> Result<Vec<Built>> {
    let mut built = Vec::new();
    for line in messages.lines().filter(|line| line.starts_with('{')) {
        let message: Value = serde_json::from_str(line).map_err(|source| Error::Json { program: "cargo", source })?;
        let (Some(path), Some(name)) = (message["executable"].as_str(), message["target"]["name"].as_str()) else {
            continue;
        };
        let is_example = message["target"]["kind"][0] == "example";
        let kind = match message["profile"]["test"].as_bool() {
            Some(true) if !is_example => Kind::Test,
            _ if is_example && name.starts_with("bench_") => Kind::Benchmark,
            _ => continue,
        };
        built.push(Built { kind, name: name.to_owned(), path: path.into() });
    }
    Ok(built)
}

/// Copies without symbols.
fn copy_programs(sh: &Shell, programs: &[Built], folder: &Path) -> Result<Vec<PathBuf>> {
    let copy = |built: &Built| {
        let to = folder.join(built.kind.folder()).join(&built.name);
        sh.create_dir(folder.join(built.kind.folder()))?;
        let from = &built.path;
        cmd!(sh, "strip -o {to} {from}").quiet().run()?;
        Ok(to)
    };
    programs.iter().map(copy).collect()
}

/// Copies all shared libraries, glibc's apart; returns the newest version of glibc that anything asks for.
fn copy_libraries(sh: &Shell, programs: &[PathBuf], folder: &Path) -> Result<(u32, u32)> {
    let (lib, glibc) = (folder.join("lib"), folder.join("glibc"));
    sh.create_dir(&lib)?;
    sh.create_dir(&glibc)?;
    let mut needed = BTreeMap::new();
    for program in programs {
        // The list is transitive.
        let list = cmd!(sh, "ldd {program}").quiet().read()?;
        for library in elf::libraries(&list) {
            let program = program.display().to_string();
            let path = library.path.ok_or(Error::NoLibrary { program, library: library.name.clone() })?;
            needed.insert(library.name, path);
        }
    }
    for (name, path) in &needed {
        let to = if elf::is_glibc(name) { &glibc } else { &lib };
        sh.copy_file(path, to.join(name))?;
    }
    // The driver's own libraries also ask for the parts of glibc that are empty by now, and for the loader.
    let c = needed.get("libc.so.6").map(PathBuf::from).unwrap_or("/lib/x86_64-linux-gnu/libc.so.6".into());
    let beside = c.parent().unwrap_or(Path::new("/lib64"));
    for name in ["libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1"] {
        sh.copy_file(beside.join(name), glibc.join(name))?;
    }
    sh.copy_file("/lib64/ld-linux-x86-64.so.2", glibc.join("ld-linux-x86-64.so.2"))?;
    let libraries = sh.read_dir(&lib)?;
    let versions = programs.iter().chain(&libraries).map(|file| {
        let info = cmd!(sh, "readelf --version-info --wide {file}").quiet().ignore_stderr().read()?;
        Ok(elf::glibc_version(&info))
    });
    let versions: Vec<_> = versions.collect::<Result<_>>()?;
    Ok(versions.into_iter().flatten().max().unwrap_or((2, 17)))
}

/// Each job twice: for the GPU and for the CPU.
fn copy_jobs(sh: &Shell, folder: &Path) -> Result<()> {
    sh.create_dir(folder.join("jobs"))?;
    for (job, tolerance) in JOBS {
        let text = sh.read_file(job)?;
        let stem = Path::new(job).file_stem().unwrap_or_default().to_string_lossy();
        for device in ["cuda", "cpu"] {
            sh.write_file(folder.join(format!("jobs/{stem}.{device}.toml")), on_device(&text, device))?;
        }
        sh.write_file(folder.join(format!("jobs/{stem}.tolerance")), format!("{tolerance}\n"))?;
    }
    Ok(())
}

/// The job file with `device` under `[run]`, all else as it was.
fn on_device(job: &str, device: &str) -> String {
    let is_device = |line: &str| {
        line.trim_start_matches(['#', ' '])
            .strip_prefix("device")
            .is_some_and(|rest| rest.trim_start().starts_with('='))
    };
    let mut text = String::new();
    for line in job.lines().filter(|line| !is_device(line)) {
        text.push_str(line);
        text.push('\n');
        if line.trim_start().starts_with("[run]") {
            text.push_str(&format!("device = \"{device}\"\n"));
        }
    }
    if text.contains(&format!("device = \"{device}\"\n")) {
        text
    } else {
        format!("{text}\n[run]\ndevice = \"{device}\"\n")
    }
}

fn report(sh: &Shell, folder: &Path, archive: &Path, (major, minor): (u32, u32)) -> Result<()> {
    const MIB: f64 = 1024.0 * 1024.0;
    let bytes = std::fs::metadata(archive).map_err(Error::file(archive))?.len();
    let unpacked = cmd!(sh, "du -sk {folder}").quiet().read()?;
    let unpacked_kib: f64 = unpacked.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0.0);
    let mib = bytes as f64 / MIB;
    say::heading("Bundle");
    say::line(format!("  folder    {} ({:.1} MiB)", folder.display(), unpacked_kib / 1024.0));
    say::line(format!("  archive   {} ({mib:.1} MiB of at most {LIMIT_MIB})", archive.display()));
    say::line(format!("  glibc     {major}.{minor} or newer is used; on an older machine the one in the bundle"));
    say::line("  there     tar xzf convoke-gpu.tar.gz && OUT=$PWD/out convoke-gpu/run.sh");
    if bytes > LIMIT_MIB * 1024 * 1024 {
        return Err(Error::TooLarge { path: archive.to_owned(), mib, limit_mib: LIMIT_MIB });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What has to be in the bundle for every kernel to be tested and timed.
    const OWED: [&str; 12] = [
        "tests/emulation.rs",
        "tests/emulation_cone.rs",
        "tests/emulation_fourier_layer.rs",
        "tests/emulation_spatiotemporal.rs",
        "tests/emulation_convolution.rs",
        "tests/emulation_variation.rs",
        "tests/emulation_vorticity.rs",
        "tests/emulation_kronecker.rs",
        "examples/bench_projector.rs",
        "examples/bench_kronecker.rs",
        "examples/bench_pointwise.rs",
        "examples/bench_fourier_layer.rs",
    ];

    #[test]
    fn tests_and_benchmarks_are_found_in_cargos_messages() {
        let message = |kind: &str, name: &str, test: bool, executable: &str| {
            format!(
                r#"{{"reason":"compiler-artifact","target":{{"kind":["{kind}"],"name":"{name}"}},"profile":{{"test":{test}}},"executable":{executable}}}"#
            )
        };
        let messages = [
            message("lib", "serde", false, "null"),
            message("lib", "convoke_kernels", true, "\"/t/convoke_kernels-1\""),
            message("example", "bench_projector", false, "\"/t/bench_projector\""),
            message("example", "demo", false, "\"/t/demo\""),
            r#"{"reason":"build-finished","success":true}"#.to_owned(),
        ];
        let built = executables(&messages.join("\n")).unwrap();
        let found: Vec<_> = built.iter().map(|b| (b.kind, b.name.as_str())).collect();
        assert_eq!(found, [(Kind::Test, "convoke_kernels"), (Kind::Benchmark, "bench_projector")]);
    }

    #[test]
    fn the_device_replaces_what_was_said_and_needs_no_place_for_it() {
        let job = "name = \"a\"\n[run]\nranks = 1\n# device = \"auto\"   # or\n[problem]\nsize = 2\n";
        let expected = "name = \"a\"\n[run]\ndevice = \"cuda\"\nranks = 1\n[problem]\nsize = 2\n";
        assert_eq!(on_device(job, "cuda"), expected);
        assert_eq!(on_device(expected, "cuda"), expected);
        assert_eq!(on_device("name = \"a\"\n", "cpu"), "name = \"a\"\n\n[run]\ndevice = \"cpu\"\n");
    }

    #[test]
    fn the_jobs_of_the_bundle_exist() {
        assert!(JOBS.iter().all(|(job, _)| crate::machine::root().join(job).is_file()));
    }

    /// Cargo builds all tests and examples of the kernels; this fails where one is renamed, or a benchmark loses the prefix
    /// by which it is found.
    #[test]
    fn what_is_owed_on_a_gpu_is_packed() {
        let kernels = crate::machine::root().join("kernels");
        assert!(OWED.iter().all(|file| kernels.join(file).is_file()));
        let messages: Vec<String> = OWED.iter().map(|file| {
            let name = Path::new(file).file_stem().unwrap().to_str().unwrap();
            let is_test = file.starts_with("tests/");
            let kind = if is_test { "test" } else { "example" };
            format!(
                r#"{{"target":{{"kind":["{kind}"],"name":"{name}"}},"profile":{{"test":{is_test}}},"executable":"/t/{name}"}}"#
            )
        }).collect();
        assert_eq!(executables(&messages.join("\n")).unwrap().len(), OWED.len());
    }

    #[test]
    fn the_script_reads_the_tolerance_that_comes_with_a_job() {
        let script = include_str!("bundle/run.sh");
        assert!(script.contains("$name.tolerance"));
        assert!(JOBS.iter().all(|(_, tolerance)| tolerance.starts_with("--rtol ") && tolerance.contains(" --atol ")));
    }
}
