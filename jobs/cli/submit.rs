//! `convoke submit`: a job into the queue of the batch system; everything that can be refused is refused before.

use std::collections::HashMap;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use convoke_cluster::batch::{BatchError, LaunchWith, Limits, Request, Scheduler, Site, Tasks, Token, script};
use convoke_cluster::driver::{Placement, disk};
use convoke_cluster::job::Span;
use convoke_cluster::machine::human_bytes;
use convoke_cluster::run_dir::{RunDir, Submission};
use convoke_cluster::workload::Inputs;
use convoke_cluster::{BadValue, Error, Exit, Job, JobError, JobText, Plan};
use convoke_data::store::write_atomic;
use serde_json::json;

use super::run::{default_dir, new_dir};
use super::{Done, change, or_default, say};
use crate::registry::{self, Quote};

/// The time limit where neither the job nor the partition names one.
const DEFAULT_SECONDS: u64 = 3600;

/// Options of `convoke submit`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  convoke submit job.toml --dry-run        show the batch script, write and submit nothing
  convoke submit job.toml                  into the queue; `convoke status` shows where it stands
  convoke submit runs/heat-20260101-120000 go on with a run that ended")]
pub struct SubmitArgs {
    /// A job file, or the directory of a run to go on with.
    path: PathBuf,
    /// Directory of the run, new or empty [default: runs/NAME-DATE-TIME].
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Of a run that goes on: change a key, as in `convoke resume --set`; any number of times.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Profile of the cluster: a name or a TOML file.
    #[arg(long, env = "CONVOKE_SITE", default_value = "generic", value_name = "NAME|FILE")]
    site: String,
    /// Print the batch script; write and submit nothing.
    #[arg(long)]
    dry_run: bool,
    /// For scripts.
    #[arg(long)]
    json: bool,
}

/// A job that is ready to be submitted.
pub(super) struct Ready {
    text: JobText,
    pub job: Job<toml::Table>,
    pub quote: Quote,
    pub tasks: Tasks,
    /// Time limit.
    pub minutes: u64,
}

/// What the partitions offer; each is asked about once.
#[derive(Default)]
pub(super) struct Partitions(HashMap<Option<String>, Limits>);

impl Partitions {
    fn limits(&mut self, partition: Option<&Token>) -> Result<Limits, Error> {
        let name = partition.map(ToString::to_string);
        if let Some(limits) = self.0.get(&name) {
            return Ok(*limits);
        }
        let limits = if Scheduler::is_here() { Scheduler.limits(partition)? } else { Limits::default() };
        self.0.insert(name, limits);
        Ok(limits)
    }
}

pub(super) fn submit(args: &SubmitArgs) -> Done {
    let site = Site::find(&args.site)?;
    if args.path.is_dir() {
        return again(args, &site);
    }
    if !args.set.is_empty() {
        let help = "edit the job file; --set changes a run that goes on";
        return Err(JobError::command_line("--set beside a job file", help).into());
    }
    let text = JobText::read(&args.path)?;
    let inputs = Inputs { base: text.dir() };
    let ready = ready(text, &inputs, &site, &mut Partitions::default())?;
    let dir = or_default(args.dir.as_ref(), || default_dir(&ready.job.name));
    new_dir(&dir)?;
    disk(&RunDir { path: dir.clone() }, &ready.quote.plan, ready.job.checkpoint.keep)?;
    if args.dry_run {
        say::line(run_script(&ready, &site, "00000000").trim_end());
        return Ok(Exit::Complete);
    }
    let run = RunDir::create(&dir, &ready.text, ready.quote.resolved.clone())?;
    let handed = hand_over(&run, &ready, &site);
    if handed.as_ref().is_err_and(|e| !matches!(e, Error::Batch(BatchError::Unclear { .. }))) {
        // Nothing of it is in the queue, and nothing but what was just written is here.
        let _ = std::fs::remove_dir_all(&dir);
    }
    announce(args, &run, handed?)
}

/// Goes on with a run that exists.
fn again(args: &SubmitArgs, site: &Site) -> Done {
    let (run, text, lock) = RunDir::open(&args.path)?;
    run.refuse_if_others_write()?;
    let changed = change::with(&text, &args.set)?;
    let ready = ready(changed, &Inputs { base: lock.inputs.clone() }, site, &mut Partitions::default())?;
    if args.dry_run {
        say::line(run_script(&ready, site, &lock.run_id).trim_end());
        return Ok(Exit::Complete);
    }
    if run.is_complete() {
        say::line(&format!("{} is complete: nothing to submit", run.path.display()));
        return Ok(Exit::Complete);
    }
    if let Some(entry) = Scheduler.find(&lock.run_id)? {
        let state = entry.state.to_lowercase();
        say::line(&format!("{} is job {} already ({state}); nothing was submitted", run.path.display(), entry.job));
        return Ok(Exit::Complete);
    }
    if !args.set.is_empty() {
        change::keep(&run, &ready.text, &lock, ready.quote.resolved.clone(), &args.set)?;
    }
    run.forget_stop();
    let job = hand_over(&run, &ready, site)?;
    announce(args, &run, job)
}

fn announce(args: &SubmitArgs, run: &RunDir, job: u64) -> Done {
    let dir = run.path.display();
    if args.json {
        say::json(&json!({ "job": job, "dir": run.path }));
    } else {
        say::line(&format!("job {job} is in the queue; its run directory is {dir}\n  convoke status {dir}"));
    }
    Ok(Exit::Complete)
}

/// Everything that can be refused without the batch system's answer.
pub(super) fn ready(text: JobText, inputs: &Inputs, site: &Site, partitions: &mut Partitions) -> Result<Ready, Error> {
    let entry = registry::of(&text)?;
    let job = text.frame()?;
    let limits = partitions.limits(partition(&job, site))?;
    let threads = job.run.threads.unwrap_or(1);
    let per_node = per_node(&job, &limits, threads);
    within(&job, &limits, (threads, per_node)).map_err(|bad| Error::from(text.bad(&bad)))?;
    let memory_here = (limits.mib_per_node > 0).then_some(limits.mib_per_node << 20);
    let placement = Placement { ranks: job.run.ranks, ranks_here: per_node, threads, memory_here };
    let quote = (entry.price)(&text, inputs, &placement)?;
    let mib_per_core = mib_per_core(&job, &quote.plan, threads);
    holds(&limits, mib_per_core * threads as u64, per_node)?;
    let seconds = job.run.walltime.map(|w| w.0.as_secs()).or(limits.seconds).unwrap_or(DEFAULT_SECONDS);
    let tasks = Tasks { ranks: job.run.ranks as u64, threads: threads as u64, mib_per_core: Some(mib_per_core) };
    Ok(Ready { text, job, quote, tasks, minutes: seconds.div_ceil(60).max(1) })
}

/// Where a job goes; absent: the partition that the batch system takes by default.
pub(super) fn partition<'a>(job: &'a Job<toml::Table>, site: &'a Site) -> Option<&'a Token> {
    job.slurm.partition.as_ref().or(site.partition.as_ref())
}

/// How many ranks share a node: as the job says, or as many as its cores take.
fn per_node(job: &Job<toml::Table>, limits: &Limits, threads: usize) -> usize {
    let most = (limits.cores_per_node as usize / threads).clamp(1, job.run.ranks);
    let most = if limits.cores_per_node == 0 { job.run.ranks } else { most };
    job.slurm.ranks_per_node.map_or(most, |n| n as usize)
}

/// Checks the job against what the partition offers.
fn within(job: &Job<toml::Table>, limits: &Limits, (threads, per_node): (usize, usize)) -> Result<(), BadValue> {
    let cores = limits.cores_per_node as usize;
    if cores > 0 && threads > cores {
        return Err(BadValue::new("run.threads", threads, format!("at most {cores}, the cores of a node")));
    }
    if cores > 0 && threads * per_node > cores {
        let most = cores / threads;
        let expected = format!("at most {most} (ranks of {threads} threads on nodes of {cores} cores)");
        return Err(BadValue::new("slurm.ranks_per_node", per_node, expected));
    }
    let nodes = job.run.ranks.div_ceil(per_node.max(1)) as u64;
    if limits.nodes > 0 && nodes > limits.nodes {
        let expected =
            format!("at most {} ({} nodes with {per_node} ranks each)", limits.nodes as usize * per_node, limits.nodes);
        return Err(BadValue::new("run.ranks", job.run.ranks, expected).help("`sinfo` shows other partitions"));
    }
    let gpus = u64::from(job.slurm.gpus_per_rank);
    if cores > 0 && gpus * per_node as u64 > limits.gpus_per_node {
        let expected = format!("at most {} (GPUs of a node) for {per_node} ranks on a node", limits.gpus_per_node);
        return Err(BadValue::new("slurm.gpus_per_rank", gpus, expected)
            .help("choose a partition with more GPUs, or fewer slurm.ranks_per_node"));
    }
    if let (Some(walltime), Some(most)) = (job.run.walltime, limits.seconds)
        && walltime.0.as_secs() > most
    {
        let expected = format!("at most {}, the partition's limit", Span(Duration::from_secs(most)));
        return Err(BadValue::new("run.walltime", walltime, expected)
            .help("it is the time of one attempt; run.total_walltime is that of all together"));
    }
    Ok(())
}

/// Whether a node holds what its ranks ask for.
fn holds(limits: &Limits, mib_per_rank: u64, per_node: usize) -> Result<(), Error> {
    let needed = mib_per_rank * per_node as u64;
    if limits.mib_per_node == 0 || needed <= limits.mib_per_node {
        return Ok(());
    }
    let bytes = |mib: u64| human_bytes(mib << 20);
    let fit = limits.mib_per_node / mib_per_rank.max(1);
    let help = match fit {
        0 => "not even one rank fits: use more ranks, or a partition with larger nodes".to_owned(),
        fit => format!("at most {fit} ranks fit on a node: set slurm.ranks_per_node = {fit}"),
    };
    Err(Error::WouldNotFit {
        what: "memory",
        host: "a node of the partition".into(),
        ranks: per_node,
        per_rank: bytes(mib_per_rank),
        needed: bytes(needed),
        available: bytes(limits.mib_per_node),
        help,
    })
}

/// What is asked for: the job's own figure, or its price with a quarter and 256 MiB to spare.
fn mib_per_core(job: &Job<toml::Table>, plan: &Plan, threads: usize) -> u64 {
    let asked = job.slurm.memory_per_rank.or(job.run.memory_per_rank).map(|b| b.0);
    let bytes = asked.unwrap_or_else(|| plan.memory_per_rank() / 4 * 5 + (256 << 20));
    (bytes >> 20).div_ceil(threads as u64).max(1)
}

fn run_script(ready: &Ready, site: &Site, run_id: &str) -> String {
    batch_script(ready, site, run_id, &["_supervise".to_owned()], None)
}

/// The batch script that starts `command` of ours, told how ranks are launched here.
pub(super) fn batch_script(
    ready: &Ready,
    site: &Site,
    run_id: &str,
    command: &[String],
    array: Option<(u64, Option<u64>)>,
) -> String {
    let mpi = site.mpi.as_ref().map(ToString::to_string).or_else(newest_pmix);
    let mut command = command.to_vec();
    match site.launch {
        LaunchWith::Mpirun => command.push("--mpirun".to_owned()),
        LaunchWith::Srun => command.extend(mpi.map(|mpi| format!("--mpi={mpi}"))),
    }
    command.extend(site.bind.then(|| "--bind".to_owned()));
    command.push(format!("--minutes={}", ready.minutes));
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    script(&Request {
        made_by: concat!("convoke ", env!("CARGO_PKG_VERSION"), " (", env!("CONVOKE_GIT_COMMIT"), ")"),
        name: &ready.job.name,
        run_id,
        tasks: ready.tasks,
        minutes: ready.minutes,
        // The batch system counts in minutes: a signal comes up to one of them early.
        warn_seconds: (ready.minutes * 15).clamp(30, 300),
        slurm: &ready.job.slurm,
        site,
        array,
        command: &command,
    })
}

fn newest_pmix() -> Option<String> {
    Scheduler.pmi().into_iter().find(|kind| kind == "pmix")
}

/// Writes what the batch system reads and gives it the job; its number.
fn hand_over(run: &RunDir, ready: &Ready, site: &Site) -> Result<u64, Error> {
    let (run_id, epoch) = (RunDir::open(&run.path)?.2.run_id, run.newest_epoch());
    write_atomic(run.path.join("job.sbatch"), run_script(ready, site, &run_id).as_bytes())?;
    place(&run.path)?;
    let mut submission = run.submission().unwrap_or_default();
    submission.earlier.extend(submission.job.take());
    for node in ready.job.slurm.exclude.iter().map(ToString::to_string) {
        if !submission.excluded.contains(&node) {
            submission.excluded.push(node);
        }
    }
    let more: Vec<String> = submission.exclude().into_iter().collect();
    Scheduler.test(&run.path, &more, site.environment_of_jobs(), partition(&ready.job, site))?;
    submission.since = jiff::Timestamp::now().to_string();
    run.submit_as(&submission)?;
    run.event("begun", json!({ "epoch": epoch }));
    let job = Scheduler.submit(&run.path, &run_id, &more, site.environment_of_jobs())?;
    run.submit_as(&Submission { job: Some(job), ..submission })?;
    run.event("submitted", json!({ "job": job }));
    Ok(job)
}

/// The folder of logs, and the link that stands for the program in the script.
pub(super) fn place(dir: &Path) -> Result<(), Error> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::Io { path, source }
    };
    let program = std::env::current_exe().map_err(io(Path::new("the program itself")))?;
    let (logs, link) = (dir.join("logs"), dir.join("convoke"));
    std::fs::create_dir_all(&logs).map_err(io(&logs))?;
    let _ = std::fs::remove_file(&link);
    symlink(program, &link).map_err(io(&link))
}
