//! A sweep as job arrays of the batch system.

use std::collections::BTreeMap;

use convoke_cluster::batch::{Scheduler, Site};
use convoke_cluster::sweep::{Array, RunId, SweepDir};
use convoke_cluster::workload::Inputs;
use convoke_cluster::{Error, Exit};
use convoke_data::store::write_atomic;
use serde_json::json;

use super::{Price, refused_point};
use crate::cli::submit::{Partitions, Ready, batch_script, partition, place, ready as ready_job};
use crate::cli::{Done, say};

/// What the batch system takes into one array where it does not say.
const USUAL_ARRAY: usize = 1000;

/// Runs that ask for the same, and the one that asks for the most memory.
pub(super) struct Group {
    ready: Ready,
    runs: Vec<RunId>,
}

/// Everything that is to be handed over.
pub(super) struct Submission {
    site: Site,
    groups: Vec<Group>,
    pub price: Price,
    /// Most tasks of an array.
    most: usize,
}

/// Everything that can be refused without the batch system's answer.
///
/// # Errors
/// As `convoke submit` refuses a job.
pub(super) fn ready(sweep: &SweepDir, runs: &[RunId], site: &str) -> Result<Submission, Error> {
    let site = Site::find(site)?;
    let inputs = Inputs { base: sweep.lock.inputs.clone() };
    let mut partitions = Partitions::default();
    let mut groups: BTreeMap<String, Group> = BTreeMap::new();
    let mut price = Price::default();
    for run in runs {
        let ready = sweep.text(*run).and_then(|text| ready_job(text, &inputs, &site, &mut partitions));
        let ready = ready.map_err(|error| refused_point(sweep, *run, error))?;
        price = price.with(&Price::of(sweep, *run, &ready.job, &ready.quote.plan));
        let key = json!([ready.tasks.ranks, ready.tasks.threads, ready.minutes, ready.job.slurm]).to_string();
        match groups.get_mut(&key) {
            None => drop(groups.insert(key, Group { ready, runs: vec![*run] })),
            Some(group) => {
                group.runs.push(*run);
                if ready.tasks.mib_per_core > group.ready.tasks.mib_per_core {
                    group.ready = ready;
                }
            }
        }
    }
    price.check(sweep)?;
    let most = Scheduler.setting("MaxArraySize").and_then(|n| n.parse::<usize>().ok());
    // The setting is the largest index and one more; an index of an array of ours is below its length.
    let most = most.map_or(USUAL_ARRAY, |n| n.saturating_sub(1)).max(1);
    Ok(Submission { site, groups: groups.into_values().collect(), price, most })
}

fn script(sweep: &SweepDir, submission: &Submission, group: &Group, array: &Array, at_once: Option<u64>) -> String {
    let command = ["_point".to_owned(), "--array".to_owned(), array.number.to_string()];
    let tasks = Some((array.runs.len() as u64, at_once));
    batch_script(&group.ready, &submission.site, &sweep.array_id(array.number), &command, tasks)
}

/// Prints the scripts.
pub(super) fn show(sweep: &SweepDir, submission: &Submission) {
    for group in &submission.groups {
        for runs in group.runs.chunks(submission.most) {
            let array = Array { number: 1, job: None, runs: runs.to_vec() };
            say::line(script(sweep, submission, group, &array, sweep.lock.max_parallel).trim_end());
        }
    }
}

/// Hands the runs over.
///
/// # Errors
/// What the batch system refuses; what it took before stays in the queue, and the same command hands over the rest.
pub(super) fn submit(sweep: &SweepDir, submission: &Submission, at_once: Option<u64>, json: bool) -> Done {
    let at_once = at_once.or(sweep.lock.max_parallel);
    let mut number = sweep.arrays().last().map_or(0, |a| a.number);
    let mut jobs: Vec<u64> = Vec::new();
    place(&sweep.path)?;
    for group in &submission.groups {
        for (chunk, runs) in group.runs.chunks(submission.most).enumerate() {
            number += 1;
            let mut array = Array { number, job: None, runs: runs.to_vec() };
            let text = script(sweep, submission, group, &array, at_once);
            write_atomic(sweep.path.join("job.sbatch"), text.as_bytes())?;
            // The limit holds for one array: the next one waits, so that it holds for the sweep.
            let after = jobs.last().filter(|_| at_once.is_some()).map(|job| format!("--dependency=afterany:{job}"));
            let more: Vec<String> = after.into_iter().collect();
            if chunk == 0 {
                let (site, partition) = (&submission.site, partition(&group.ready.job, &submission.site));
                Scheduler.test(&sweep.path, &more, site.environment_of_jobs(), partition)?;
            }
            for run in runs {
                sweep.tell(*run, None)?;
            }
            sweep.keep_array(&array)?;
            let job =
                Scheduler.submit(&sweep.path, &sweep.array_id(number), &more, submission.site.environment_of_jobs())?;
            array.job = Some(job);
            sweep.keep_array(&array)?;
            jobs.push(job);
        }
    }
    let (dir, runs) = (sweep.path.display(), submission.groups.iter().map(|g| g.runs.len()).sum::<usize>());
    if json {
        say::json(&json!({ "jobs": jobs, "runs": runs, "dir": sweep.path }));
    } else if jobs.is_empty() {
        say::line(&format!("{dir}: nothing is left to submit; `convoke status {dir}` shows where its runs stand"));
    } else {
        let names = jobs.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
        say::line(&format!(
            "{runs} runs are in the queue as array {names}; their directory is {dir}\n  convoke status {dir}"
        ));
    }
    Ok(Exit::Complete)
}
