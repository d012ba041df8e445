//! `convoke doctor`: what is here, and what each absence means.

use std::process::Command;

use clap::Args;
use convoke_cluster::batch::Scheduler;
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
    ];
    findings.extend(slurm());
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

/// What a run directory asks of the file system: renaming, hard links (ownership is claimed by one), syncing, a clock.
fn folder() -> Finding {
    let here = std::path::Path::new(".");
    let found = format!("{} free here", machine::human_bytes(machine::free_disk(here)));
    let probe = here.join(format!(".convoke-probe-{}", std::process::id()));
    let linked = probe.with_extension("linked");
    let works = convoke_data::store::write_atomic(&probe, b"probe").map_err(|e| format!("cannot write here: {e}"));
    let works = works.and_then(|()| {
        let link = std::fs::hard_link(&probe, &linked);
        link.map_err(|e| format!("no hard links here, which claim run directories: {e}; choose another file system"))
    });
    let changed = std::fs::metadata(&probe).and_then(|m| m.modified()).ok();
    let _ = (std::fs::remove_file(&probe), std::fs::remove_file(&linked));
    let away = changed.map(|t| t.elapsed().unwrap_or_else(|ahead| ahead.duration()).as_secs());
    let skewed = away.filter(|s| *s > 5).map(|s| format!("the file server's clock is {s} s off: heartbeats mislead"));
    Finding { what: "disk", found: Some(found), meaning: works.err().or(skewed).unwrap_or_default() }
}

/// The batch system: what of its settings a run meets.
fn slurm() -> Vec<Finding> {
    let version = answer("sinfo", &["--version"]);
    let absent = "no batch system here: jobs run on this machine";
    if version.is_none() {
        return vec![finding("slurm", None, absent)];
    }
    let setting = |key: &str| Scheduler.setting(key);
    let mut meaning = Vec::new();
    if setting("JobRequeue").is_some_and(|v| v == "0") {
        meaning.push("jobs are not requeued here: after a time limit a new job goes on instead".to_owned());
    }
    let wait = setting("AuthInfo").and_then(|v| v.split("cred_expire=").nth(1)?.split(',').next()?.parse::<u64>().ok());
    meaning.push(format!("a requeued job waits {} s before it begins again (cred_expire)", wait.unwrap_or(120)));
    if let Some(most) = setting("MaxArraySize") {
        meaning.push(format!("arrays hold {most} jobs less one"));
    }
    let mut findings = vec![Finding { what: "slurm", found: version, meaning: meaning.join("; ") }];
    let kinds = Scheduler.pmi();
    let pmix = kinds.iter().any(|k| k.starts_with("pmix"));
    let found = (!kinds.is_empty()).then(|| kinds.join(", "));
    let none = "srun starts no ranks that know each other: use a site profile with launch = \"mpirun\"";
    findings.push(Finding { what: "pmi", found, meaning: if pmix { String::new() } else { none.to_owned() } });
    let set: Vec<String> = std::env::vars_os()
        .filter_map(|(name, _)| name.into_string().ok().filter(|n| n.starts_with("SBATCH_")))
        .collect();
    if !set.is_empty() {
        let meaning = "they would beat what a script asks for; `convoke submit` leaves them out".to_owned();
        findings.push(Finding { what: "sbatch", found: Some(set.join(", ")), meaning });
    }
    findings
}

fn answer(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}
