//! `convoke doctor`: what is here, and what each absence means.

use std::process::Command;

use clap::Args;
use convoke_cluster::launch::Mpirun;
use convoke_cluster::{Exit, comm, machine};
use serde::Serialize;

use super::{Done, say};

/// Options of `convoke doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// For scripts.
    #[arg(long)]
    json: bool,
}

/// One finding.
#[derive(Debug, Serialize)]
struct Finding {
    what: &'static str,
    found: Option<String>,
    /// What its absence, or what was found, means.
    meaning: String,
}

fn finding(what: &'static str, found: Option<String>, absent: &str) -> Finding {
    let meaning = if found.is_some() { String::new() } else { absent.to_owned() };
    Finding { what, found, meaning }
}

pub(super) fn doctor(args: &DoctorArgs) -> Done {
    let findings = examine();
    if args.json {
        say::json(&serde_json::to_value(&findings).expect("findings are plain data"));
        return Ok(Exit::Complete);
    }
    for f in &findings {
        say::line(&format!("{:<10} {}", f.what, f.found.as_deref().unwrap_or("not found")));
        if !f.meaning.is_empty() {
            say::line(&format!("{:<10}   -> {}", "", f.meaning));
        }
    }
    Ok(Exit::Complete)
}

fn examine() -> Vec<Finding> {
    let memory = format!(
        "{} free of {}",
        machine::human_bytes(machine::available_memory()),
        machine::human_bytes(machine::total_memory())
    );
    let gpu = convoke_kernels::cuda_devices();
    let gpu_absent = gpu.as_ref().err().map_or("no device".to_owned(), |why| format!("{why}; kernels run on the CPU"));
    let gpu = gpu.ok().filter(|g| !g.is_empty()).map(|gpus| {
        let names = gpus.iter().map(|g| format!("{} ({})", g.name, machine::human_bytes(g.memory_bytes)));
        names.collect::<Vec<_>>().join(", ")
    });
    let mut findings = vec![
        finding("cpu", Some(format!("{} cores, {}", machine::cores(), convoke_kernels::machine::simd().name())), ""),
        finding("memory", Some(memory), ""),
        finding("hdf5", Some(convoke_data::store::hdf5_version()), ""),
        finding("mpi", comm::mpi_library(), "this convoke was built without MPI: one process with threads only"),
        finding(
            "mpirun",
            Mpirun::find().map(|m| m.version),
            "`-n` above 1 cannot start ranks; `cargo xtask quickstart` installs one",
        ),
        finding("gpu", gpu, &gpu_absent),
        finding("slurm", answer("sinfo", &["--version"]), "no batch system here: jobs run on this machine"),
    ];
    findings.push(host_name());
    findings.push(folder());
    findings
}

/// Open MPI waits seconds for a host name that nothing resolves.
fn host_name() -> Finding {
    let name = machine::host_name();
    let known = std::net::ToSocketAddrs::to_socket_addrs(&(name.as_str(), 0)).is_ok();
    let meaning = if known {
        String::new()
    } else {
        format!("'{name}' does not resolve: mpirun may start slowly; add it to /etc/hosts")
    };
    Finding { what: "host", found: Some(name), meaning }
}

fn folder() -> Finding {
    let here = std::path::Path::new(".");
    let found = format!("{} free here", machine::human_bytes(machine::free_disk(here)));
    let probe = here.join(format!(".convoke-probe-{}", std::process::id()));
    let works = convoke_data::store::write_atomic(&probe, b"probe");
    let _ = std::fs::remove_file(&probe);
    let meaning = works.err().map_or(String::new(), |e| format!("cannot write here: {e}"));
    Finding { what: "disk", found: Some(found), meaning }
}

fn answer(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}
