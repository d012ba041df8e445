//! From a job file to a workload that is ready for its first step; nothing is written before all
//! inputs were read and checked.

use std::path::{Path, PathBuf};
use std::time::Duration;

use convoke_data::store::Overflow;
use convoke_kernels::Device;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{From, Options, Source};
use crate::checkpoint::{Restored, restore};
use crate::comm::Comm;
use crate::error::{Error, Result};
use crate::job::{DeviceChoice, Job, JobText};
use crate::machine::{self, human_bytes};
use crate::pieces::Pieces;
use crate::run_dir::{Claim, Lock, RunDir};
use crate::workload::{Clock, Ctx, Inputs, Notes, Plan, Resources, Workload};

/// A job that was read, checked and priced.
#[derive(Debug)]
pub struct Priced<W: Workload> {
    /// The job.
    pub job: Job<W::Spec>,
    /// Its price.
    pub plan: Plan,
    /// What it may use.
    pub resources: Resources,
}

/// Where ranks would run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placement {
    /// Number of ranks.
    pub ranks: usize,
    /// How many of them share one host.
    pub ranks_here: usize,
    /// Threads of each.
    pub threads: usize,
    /// Memory of that host in bytes; absent: what is free on this one.
    pub memory_here: Option<u64>,
}

impl Placement {
    /// All ranks on this host.
    pub fn here(ranks: usize, threads: usize) -> Self {
        Self { ranks, ranks_here: ranks, threads, memory_here: None }
    }
}

/// The parts of a job that the loop needs.
pub(super) struct Rules {
    pub checkpoint: crate::job::Checkpoint,
    /// Hosts that the ranks run on.
    pub nodes: usize,
    pub walltime: Option<Duration>,
    pub stall_timeout: Duration,
}

pub(super) struct Prepared<W> {
    pub workload: W,
    pub ctx: Ctx,
    pub plan: Plan,
    pub job: Rules,
    pub dir: RunDir,
    pub claim: Option<Claim>,
    pub epoch: u32,
    pub restored: Option<Restored>,
    pub text: JobText,
}

/// Parses a job and prices it. No side effect: this is `convoke check`.
///
/// # Errors
/// Job and data errors; [`Error::WouldNotFit`] with the figures.
pub fn price<W: Workload>(text: &JobText, inputs: &Inputs, placement: &Placement) -> Result<Priced<W>> {
    let job: Job<W::Spec> = text.parse()?;
    let &Placement { ranks, ranks_here, threads, .. } = placement;
    let limit = job.run.memory_per_rank.map(|b| b.0);
    let share = placement.memory_here.unwrap_or_else(machine::available_memory) / ranks_here as u64;
    let resources = Resources { ranks, threads, memory_per_rank: limit.unwrap_or(share) };
    let mut plan = W::plan(&job.problem, inputs, &resources).map_err(|e| locate(e, text))?;
    let per_rank = plan.memory_per_rank();
    if per_rank > resources.memory_per_rank {
        let help = "use more ranks on more hosts, a smaller problem, or raise run.memory_per_rank if it is set too low";
        return Err(Error::WouldNotFit {
            what: "memory",
            host: placement.memory_here.map_or_else(machine::host_name, |_| "a node of the partition".into()),
            ranks: ranks_here,
            per_rank: human_bytes(per_rank),
            needed: human_bytes(per_rank * ranks_here as u64),
            available: match limit {
                Some(limit) => format!("{} per rank (run.memory_per_rank)", human_bytes(limit)),
                None => human_bytes(share * ranks_here as u64),
            },
            help: help.into(),
        });
    }
    plan.add_second_buffer(&resources);
    Ok(Priced { job, plan, resources })
}

/// A wrong value becomes an error that points into the job file.
fn locate(error: Error, text: &JobText) -> Error {
    match error {
        Error::BadValue(bad) => text.bad(&bad).into(),
        other => other,
    }
}

pub(super) fn prepare<W: Workload>(comm: &Comm, source: &Source, options: &Options) -> Result<Prepared<W>> {
    let opened = comm.agree(if comm.is_root() { open(source) } else { Ok(None) })?;
    let Opened { text, base, dir } = share(comm, opened)?;
    let (inputs, dir) = (Inputs { base }, RunDir { path: dir });
    let hosts = comm.all_gather(comm.host().as_bytes())?;
    let ranks_here = hosts.iter().filter(|h| h.as_slice() == comm.host().as_bytes()).count();
    let nodes = hosts.iter().collect::<std::collections::HashSet<_>>().len();
    let placement = Placement { ranks: comm.size(), ranks_here, threads: options.threads, memory_here: None };
    let priced = price::<W>(&text, &inputs, &placement);
    let Priced { job, plan, resources } = comm.agree(priced)?;
    comm.agree(if comm.is_root() { disk(&dir, &plan, job.checkpoint.keep) } else { Ok(()) })?;
    let device = comm.agree(choose_device(job.run.device, options))?;
    let (pieces, notes) = (Pieces::below(&dir.path), Notes::default());
    let overflow = Overflow::below(&dir.path);
    let scratch = dir.path.join("work");
    let clock = Clock::start();
    let (all, seed) = (comm.clone(), job.seed);
    let ctx = Ctx { comm: all, device, seed, inputs, resources, pieces, overflow, scratch, notes, clock };
    let workload = W::new(&job.problem, &ctx).map_err(|e| locate(e, &text));
    let workload = comm.agree(workload)?;
    let resolved = serde_json::to_value(&job).unwrap_or(json!(null));
    let claim = comm.agree(if comm.is_root() {
        claim(source, &dir, &text, resolved, options.succeeds).map(Some)
    } else {
        Ok(None)
    })?;
    let epoch = comm.all_max(claim.as_ref().map_or(0, |c| u64::from(c.epoch)))? as u32;
    let restored = match source {
        Source::Resume { from: From::Newest, .. } => restore(&dir, comm, None)?,
        Source::Resume { from: From::Checkpoint(name), .. } => restore(&dir, comm, Some(*name))?,
        Source::Resume { from: From::Start, .. } | Source::New { .. } => None,
    };
    let rules = Rules {
        checkpoint: job.checkpoint,
        nodes,
        walltime: job.run.walltime.map(|w| w.0),
        stall_timeout: job.run.stall_timeout.0,
    };
    Ok(Prepared { workload, ctx, plan, job: rules, dir, claim, epoch, restored, text })
}

/// What rank 0 found. Ranks that a launcher started choose their default directories by their own
/// clocks, so the directory comes from rank 0 as well.
#[derive(Serialize, Deserialize)]
struct Opened {
    text: JobText,
    /// Directory that relative input paths start from.
    base: PathBuf,
    /// The run directory.
    dir: PathBuf,
}

fn open(source: &Source) -> Result<Option<Opened>> {
    match source {
        Source::New { text, dir } => Ok(Some(Opened { text: text.clone(), base: text.dir(), dir: dir.clone() })),
        Source::Resume { dir, .. } => {
            let (_, text, lock) = RunDir::open(dir)?;
            unchanged(&text, &lock)?;
            Ok(Some(Opened { text, base: lock.inputs, dir: dir.clone() }))
        }
    }
}

/// A run goes on with the job that it was started with.
fn unchanged(text: &JobText, lock: &Lock) -> Result<()> {
    let now = convoke_data::store::digest_bytes(text.text.as_bytes()).xxh3_128;
    if now == lock.spec_xxh3_128 {
        return Ok(());
    }
    let edited: serde_json::Value = toml::from_str::<toml::Value>(&text.text)
        .ok()
        .and_then(|v| serde_json::to_value(v).ok())
        .unwrap_or(json!(null));
    let (key, before, now) =
        difference("", &lock.resolved, &edited).unwrap_or_else(|| ("its hash".into(), lock.spec_xxh3_128.clone(), now));
    Err(Error::Mismatch { file: text.path.clone(), key, before, now })
}

/// The first key of `now` that differs from the resolved job.
fn difference(path: &str, before: &serde_json::Value, now: &serde_json::Value) -> Option<(String, String, String)> {
    match (before, now) {
        (serde_json::Value::Object(a), serde_json::Value::Object(b)) => b.iter().find_map(|(key, value)| {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            difference(&path, a.get(key).unwrap_or(&json!(null)), value)
        }),
        (a, b) => {
            let same = match (a.as_f64(), b.as_f64()) {
                (Some(x), Some(y)) => x == y,
                _ => a == b,
            };
            if same { None } else { Some((path.to_owned(), a.to_string(), b.to_string())) }
        }
    }
}

/// What rank 0 found, on every rank.
fn share(comm: &Comm, opened: Option<Opened>) -> Result<Opened> {
    let json = opened.map(|o| serde_json::to_vec(&o).expect("texts and paths are plain data")).unwrap_or_default();
    let json = comm.broadcast(0, &json)?;
    Ok(serde_json::from_slice(&json).expect("rank 0 sent its text"))
}

/// Whether results, checkpoints and vectors beyond memory fit onto the disk, and whether it can hold the latter.
///
/// # Errors
/// [`Error::WouldNotFit`] with the figures; those of [`Overflow::check`].
pub fn disk(dir: &RunDir, plan: &Plan, keep: usize) -> Result<()> {
    room(&dir.path, disk_needed(dir, plan, keep), "choose a larger disk with --dir, or lower checkpoint.keep")?;
    if plan.scratch_bytes > 0 {
        Overflow::below(&dir.path).check()?;
    }
    Ok(())
}

/// Bytes that a run may still put onto the disk.
pub fn disk_needed(dir: &RunDir, plan: &Plan, keep: usize) -> u64 {
    // One more than is kept: the newest is written before the oldest goes.
    // What a resumed run has on the disk already is replaced and not added to.
    let there = crate::checkpoint::bytes_on_disk(dir);
    (plan.checkpoint_bytes * (keep as u64 + 1)).saturating_sub(there) + plan.result_bytes + plan.scratch_bytes
}

/// Whether the disk of `dir` has room for so many bytes.
///
/// # Errors
/// [`Error::WouldNotFit`] with the figures and `help`.
pub fn room(dir: &Path, needed: u64, help: &str) -> Result<()> {
    let free = machine::free_disk(dir);
    if needed <= free {
        return Ok(());
    }
    Err(Error::WouldNotFit {
        what: "disk space",
        host: dir.display().to_string(),
        ranks: 1,
        per_rank: human_bytes(needed),
        needed: human_bytes(needed),
        available: human_bytes(free),
        help: help.into(),
    })
}

fn choose_device(choice: DeviceChoice, options: &Options) -> Result<Device> {
    if let Some(device) = &options.device {
        return Ok(device.clone());
    }
    let ordinal = std::env::var("OMPI_COMM_WORLD_LOCAL_RANK").or_else(|_| std::env::var("SLURM_LOCALID"));
    let ordinal: usize = ordinal.ok().and_then(|r| r.parse().ok()).unwrap_or(0);
    match choice {
        DeviceChoice::Cpu => Ok(Device::cpu()),
        DeviceChoice::Auto => match convoke_kernels::cuda_devices() {
            Ok(gpus) if !gpus.is_empty() => Ok(Device::cuda(ordinal % gpus.len())?),
            _ => Ok(Device::cpu()),
        },
        DeviceChoice::Cuda => {
            let gpus =
                convoke_kernels::cuda_devices().map_err(|reason| convoke_kernels::KernelError::NoGpu { reason })?;
            Ok(Device::cuda(ordinal % gpus.len().max(1))?)
        }
    }
}

fn claim(source: &Source, dir: &RunDir, text: &JobText, resolved: serde_json::Value, gone: u32) -> Result<Claim> {
    if let Source::New { .. } = source {
        RunDir::create(&dir.path, text, resolved)?;
    }
    dir.claim_after(gone)
}

/// Identity of the run, from its lock file.
pub(super) fn run_id(dir: &RunDir) -> String {
    RunDir::open(&dir.path).map(|(_, _, lock)| lock.run_id).unwrap_or_default()
}
