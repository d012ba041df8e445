//! The commands that talk to Slurm: argument arrays, never a shell; every call with a time limit.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::Token;

/// How long a command may take before it counts as silent.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a command is tried while the controller does not answer.
const TRIES: u32 = 3;
/// Slurm's words for nodes that it has not, or not now.
const NO_SUCH_NODES: &str = "Requested node configuration is not available";

/// Why the batch system did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum BatchError {
    /// Its commands are not here.
    #[error(
        "{program}: not found on the PATH\n  help: submit from a login node of the cluster, or use `convoke run` here"
    )]
    Absent {
        /// The command.
        program: &'static str,
    },
    /// It does not answer.
    #[error(
        "{program}: {words}\n  help: the controller of the batch system is down or busy; nothing was lost: try again later"
    )]
    Silent {
        /// The command.
        program: &'static str,
        /// What it said, or how long it was waited for.
        words: String,
    },
    /// It may have taken the job: nobody can tell.
    #[error(
        "{program}: {words}; whether the job is in the queue is not known\n  help: `squeue --me` shows it; `convoke submit` on the run directory looks again and never submits twice"
    )]
    Unclear {
        /// The command.
        program: &'static str,
        /// Its words.
        words: String,
    },
    /// It said no.
    #[error("{program} refused: {words}\n  help: {help}")]
    Refused {
        /// The command.
        program: &'static str,
        /// Its words.
        words: String,
        /// What to do.
        help: String,
    },
}

/// A job in the queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Job number; that of the array for its tasks.
    pub job: u64,
    /// Indices of an array's tasks that this entry stands for, as Slurm writes them.
    pub tasks: Option<String>,
    /// `PENDING`, `RUNNING`, …
    pub state: String,
    /// Why it waits.
    pub reason: String,
    /// When it begins or began, as Slurm says.
    pub start: String,
    /// Nodes.
    pub nodes: String,
    /// Run that it belongs to: from its comment.
    pub run_id: Option<String>,
}

impl Entry {
    /// Whether it waits or runs.
    pub fn is_live(&self) -> bool {
        !matches!(
            self.state.as_str(),
            "COMPLETED"
                | "FAILED"
                | "CANCELLED"
                | "TIMEOUT"
                | "NODE_FAIL"
                | "PREEMPTED"
                | "BOOT_FAIL"
                | "DEADLINE"
                | "OUT_OF_MEMORY"
        )
    }

    /// Indices of its tasks alone, without the limit of how many run at once: `3-9,12`.
    pub fn task_list(&self) -> Option<&str> {
        Some(self.tasks.as_deref()?.split('%').next()?.trim_matches(['[', ']']))
    }

    /// Whether task `index` of the array is among those that this entry stands for: `3-9,12%4`.
    pub fn has_task(&self, index: u64) -> bool {
        let Some(list) = self.task_list() else { return false };
        list.split(',').any(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            // Steps (`0-8:2`) are not ours.
            matches!((first.parse::<u64>(), last.parse::<u64>()), (Ok(a), Ok(b)) if (a..=b).contains(&index))
        })
    }

    /// Whether it is the job of that number, or the array task written `812_3`.
    pub fn is_job(&self, id: &str) -> bool {
        match id.split_once('_') {
            Some((job, task)) => self.job.to_string() == job && task.parse().is_ok_and(|task| self.has_task(task)),
            None => self.job.to_string() == id,
        }
    }
}

/// What a partition offers; the largest of its kinds of node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// Memory of a node in MiB.
    pub mib_per_node: u64,
    /// Cores of a node.
    pub cores_per_node: u64,
    /// GPUs of a node.
    pub gpus_per_node: u64,
    /// Number of nodes.
    pub nodes: u64,
    /// Longest time limit in seconds, if there is one.
    pub seconds: Option<u64>,
}

/// What the controller knows about a running job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// `RUNNING`, `PENDING`, …
    pub state: String,
    /// How often it was requeued.
    pub restarts: u32,
    /// Where its batch script runs.
    pub batch_host: String,
    /// Why it waits or ended: `None`, `TimeLimit`, `NodeDown`, …
    pub reason: String,
}

/// What a job sees of the environment of who submits it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Environment {
    /// All of it, but for what speaks to Slurm itself.
    Whole,
    /// Who the user is, and where.
    Clean,
}

impl Environment {
    fn passes(self, name: &str) -> bool {
        let known = ["HOME", "USER", "LOGNAME", "SHELL", "LANG", "PATH", "SLURM_CONF"];
        self == Self::Whole || known.contains(&name)
    }
}

/// Slurm's commands.
#[derive(Debug, Clone, Copy, Default)]
pub struct Scheduler;

impl Scheduler {
    /// Whether there is one to talk to from here.
    pub fn is_here() -> bool {
        which::which("sbatch").is_ok()
    }

    /// Asks whether the script in `dir` would be accepted.
    ///
    /// # Errors
    /// [`BatchError::Refused`] with Slurm's reason.
    pub fn test(
        self,
        dir: &Path,
        more: &[String],
        environment: Environment,
        partition: Option<&Token>,
    ) -> Result<(), BatchError> {
        let args = [&["--test-only".to_owned()], more, &["job.sbatch".to_owned()]].concat();
        match self.patiently("sbatch", &args, Some((dir, environment))) {
            // The trial counts only nodes in service, the queue takes the job all the same, and it waits for the others: what no
            // node has, in service or not, was refused before (`Limits`).
            Err(BatchError::Refused { words, .. })
                if words.contains(NO_SUCH_NODES) && self.nodes_out_of_service(partition) > 0 =>
            {
                Ok(())
            }
            answer => answer.map(drop),
        }
    }

    /// How many nodes of a partition take no jobs at present: down, drained, in maintenance, or on their way out of a job.
    fn nodes_out_of_service(self, partition: Option<&Token>) -> u64 {
        let mut args = vec!["--noheader".to_owned(), "--format=%P|%D|%T".to_owned()];
        args.extend(partition.map(|p| format!("--partition={p}")));
        let text = self.once("sinfo", &args, None).unwrap_or_default();
        let rows = text.lines().map(|l| l.split('|').map(str::trim).collect::<Vec<_>>()).filter(|r| r.len() == 3);
        let here = rows.filter(|r| partition.is_some() || r[0].ends_with('*'));
        // A mark behind the state says more of it, such as that the node does not respond.
        let out = here.filter(|r| !["idle", "mixed", "allocated"].contains(&r[2]));
        out.map(|r| leading_number(r[1])).sum()
    }

    /// Hands the script in `dir` over and returns the job's number. Never twice for one run: where the controller
    /// falls silent, the queue is searched for `run_id` before the next try.
    ///
    /// # Errors
    /// [`BatchError::Refused`] where nothing was submitted, [`BatchError::Unclear`] where that is not known.
    pub fn submit(
        self,
        dir: &Path,
        run_id: &str,
        more: &[String],
        environment: Environment,
    ) -> Result<u64, BatchError> {
        self.hand_over((dir, environment), run_id, more, "")
    }

    /// As [`Scheduler::submit`], for the job that follows job `before` of the same run and sees what that one sees.
    ///
    /// # Errors
    /// As [`Scheduler::submit`].
    pub fn submit_after(self, dir: &Path, run_id: &str, more: &[String], before: &str) -> Result<u64, BatchError> {
        self.hand_over((dir, Environment::Whole), run_id, more, before)
    }

    fn hand_over(
        self,
        from: (&Path, Environment),
        run_id: &str,
        more: &[String],
        before: &str,
    ) -> Result<u64, BatchError> {
        let args = [&["--parsable".to_owned()], more, &["job.sbatch".to_owned()]].concat();
        let mut words = String::new();
        for attempt in 0..TRIES {
            let garbled = match self.once("sbatch", &args, Some(from)) {
                Ok(text) => match job_number(&text) {
                    Some(job) => return Ok(job),
                    None => Some(format!("no job number in its answer {text:?}")),
                },
                Err(BatchError::Silent { words: said, .. }) => {
                    words = said;
                    None
                }
                Err(error) => return Err(error),
            };
            std::thread::sleep(Duration::from_secs(u64::from(attempt) + 1));
            let is_it = |e: &Entry| e.is_live() && e.run_id.as_deref() == Some(run_id) && !e.is_job(before);
            match self.queue() {
                Ok(queue) => {
                    if let Some(entry) = queue.into_iter().find(is_it) {
                        return Ok(entry.job);
                    }
                }
                // Trying again without knowing could make two jobs.
                Err(_) => return Err(BatchError::Unclear { program: "sbatch", words: garbled.unwrap_or(words) }),
            }
            // It said that it took the job, and a second one may not follow.
            if let Some(words) = garbled {
                return Err(BatchError::Unclear { program: "sbatch", words });
            }
        }
        // The queue answered, and the job is not in it.
        Err(BatchError::Silent { program: "sbatch", words })
    }

    /// All jobs of this user, in one call.
    ///
    /// # Errors
    /// [`BatchError::Silent`] while the controller is down.
    pub fn queue(self) -> Result<Vec<Entry>, BatchError> {
        let user = rustix::process::getuid().as_raw().to_string();
        // %F: the number that tasks of an array share.
        let format = "%F|%K|%T|%r|%S|%N|%k";
        let args =
            ["--noheader".to_owned(), format!("--user={user}"), "--states=all".into(), format!("--format={format}")];
        Ok(self.patiently("squeue", &args, None)?.lines().filter_map(entry).collect())
    }

    /// The live job of a run.
    ///
    /// # Errors
    /// As [`Scheduler::queue`].
    pub fn find(self, run_id: &str) -> Result<Option<Entry>, BatchError> {
        Ok(self.queue()?.into_iter().find(|e| e.is_live() && e.run_id.as_deref() == Some(run_id)))
    }

    /// What a partition offers, or the default partition.
    ///
    /// # Errors
    /// [`BatchError::Refused`] for a partition that is not there.
    pub fn limits(self, partition: Option<&Token>) -> Result<Limits, BatchError> {
        let mut args = vec!["--noheader".to_owned(), "--format=%P|%m|%c|%G|%l|%D".to_owned()];
        args.extend(partition.map(|p| format!("--partition={p}")));
        let text = self.patiently("sinfo", &args, None)?;
        let rows = text.lines().map(|l| l.split('|').collect::<Vec<_>>()).filter(|r| r.len() == 6);
        let rows: Vec<Vec<&str>> = rows.filter(|r| partition.is_some() || r[0].ends_with('*')).collect();
        if let (true, Some(partition)) = (rows.is_empty(), partition) {
            let names = self.patiently("sinfo", &["--noheader".into(), "--format=%R".into()], None)?;
            return Err(BatchError::Refused {
                program: "sinfo",
                words: format!("there is no partition {partition}"),
                help: format!("known partitions: {}", names.lines().collect::<Vec<_>>().join(", ")),
            });
        }
        Ok(rows.iter().fold(Limits::default(), |most, row| Limits {
            mib_per_node: most.mib_per_node.max(leading_number(row[1])),
            cores_per_node: most.cores_per_node.max(leading_number(row[2])),
            gpus_per_node: most.gpus_per_node.max(gpus(row[3])),
            nodes: most.nodes + leading_number(row[5]),
            seconds: seconds(row[4]),
        }))
    }

    /// Seconds until the time limit of a running job.
    pub fn seconds_left(self, job: &str) -> Option<u64> {
        let args = ["--noheader".to_owned(), format!("--jobs={job}"), "--format=%L".into()];
        seconds(self.once("squeue", &args, None).ok()?.lines().next()?.trim())
    }

    /// What the controller knows about a job.
    ///
    /// # Errors
    /// As [`Scheduler::queue`]; a job that it does not know.
    pub fn ask(self, job: &str) -> Result<Asked, BatchError> {
        let text =
            self.patiently("scontrol", &["--oneliner".into(), "show".into(), "job".into(), job.to_owned()], None)?;
        let value = |key: &str| {
            text.split_whitespace().find_map(|w| w.strip_prefix(key)?.strip_prefix('=')).unwrap_or_default().to_owned()
        };
        Ok(Asked {
            state: value("JobState"),
            restarts: value("Restarts").parse().unwrap_or(0),
            batch_host: value("BatchHost"),
            reason: value("Reason"),
        })
    }

    /// Puts a running job back into the queue.
    ///
    /// # Errors
    /// Where the site or the job does not allow it.
    pub fn requeue(self, job: &str) -> Result<(), BatchError> {
        self.patiently("scontrol", &["requeue".into(), job.to_owned()], None).map(drop)
    }

    /// Ends a job, or sends the signal of that name to its batch script.
    ///
    /// # Errors
    /// As [`Scheduler::queue`].
    pub fn cancel(self, job: &str, signal: Option<&str>) -> Result<(), BatchError> {
        let mut args: Vec<String> = signal.map(|s| vec!["--batch".into(), format!("--signal={s}")]).unwrap_or_default();
        args.push(job.to_owned());
        self.patiently("scancel", &args, None).map(drop)
    }

    /// Kills the steps of a job and leaves its batch script alone.
    ///
    /// # Errors
    /// As [`Scheduler::queue`].
    pub fn kill_steps(self, job: &str) -> Result<(), BatchError> {
        let args = ["--noheader".to_owned(), "--steps".into(), format!("--jobs={job}"), "--format=%i".into()];
        let steps = self.patiently("squeue", &args, None)?;
        let numbered =
            steps.lines().map(str::trim).filter(|s| s.rsplit('.').next().is_some_and(|n| n.parse::<u32>().is_ok()));
        for step in numbered {
            self.patiently("scancel", &["--signal=KILL".into(), step.to_owned()], None)?;
        }
        Ok(())
    }

    /// The names in a list such as `n[1-3,7]`.
    pub fn host_names(self, list: &str) -> Vec<String> {
        let args = ["show".to_owned(), "hostnames".into(), list.to_owned()];
        let text = self.once("scontrol", &args, None).unwrap_or_default();
        text.lines().map(|l| l.trim().to_owned()).filter(|l| !l.is_empty()).collect()
    }

    /// The last states of jobs that have left the queue, where the site keeps accounts.
    pub fn history(self, jobs: &[u64]) -> Option<Vec<(u64, String)>> {
        let list = jobs.iter().map(u64::to_string).collect::<Vec<_>>().join(",");
        let args = ["--noheader", "--parsable2", "--allocations", "--format=JobIDRaw,State"].map(str::to_owned);
        let text = self.once("sacct", &[&args[..], &[format!("--jobs={list}")]].concat(), None).ok()?;
        let row = |line: &str| {
            let (job, state) = line.split_once('|')?;
            Some((job.parse().ok()?, state.split_whitespace().next()?.to_owned()))
        };
        Some(text.lines().filter_map(row).collect())
    }

    /// A value of `scontrol show config`.
    pub fn setting(self, key: &str) -> Option<String> {
        let text = self.once("scontrol", &["show".into(), "config".into()], None).ok()?;
        text.lines().find_map(|l| Some(l.split_once('=').filter(|(k, _)| k.trim() == key)?.1.trim().to_owned()))
    }

    /// Kinds of PMI that srun offers.
    pub fn pmi(self) -> Vec<String> {
        let Ok((_, out, err)) = output("srun", &["--mpi=list".into()], None) else { return Vec::new() };
        // Slurm 22 writes the list to standard output, older ones to standard error.
        format!("{out}\n{err}").split_whitespace().filter(|w| w.starts_with("pmi")).map(str::to_owned).collect()
    }

    /// Answers of a command; tried again while the controller is silent.
    fn patiently(
        self,
        program: &'static str,
        args: &[String],
        from: Option<(&Path, Environment)>,
    ) -> Result<String, BatchError> {
        let mut answer = self.once(program, args, from);
        for attempt in 1..TRIES {
            if !matches!(answer, Err(BatchError::Silent { .. })) {
                break;
            }
            std::thread::sleep(Duration::from_secs(u64::from(attempt)));
            answer = self.once(program, args, from);
        }
        answer
    }

    fn once(
        self,
        program: &'static str,
        args: &[String],
        from: Option<(&Path, Environment)>,
    ) -> Result<String, BatchError> {
        let (good, out, err) = output(program, args, from)?;
        if good {
            return Ok(out);
        }
        let words =
            err.trim().lines().map(|l| l.trim_start_matches(&format!("{program}: "))).collect::<Vec<_>>().join("; ");
        let words = words.replace("error: ", "");
        let silent = [
            "Socket timed out",
            "Unable to contact",
            "Connection refused",
            "Zero Bytes were transmitted",
            "configuration source",
        ];
        if silent.iter().any(|s| words.contains(s)) {
            return Err(BatchError::Silent { program, words });
        }
        let help = "correct [slurm] in the job file; `sinfo` shows partitions, nodes and limits".to_owned();
        Err(BatchError::Refused { program, words: if words.is_empty() { out.trim().to_owned() } else { words }, help })
    }
}

/// Whether the command succeeded, and what it wrote to both outputs.
fn output(
    program: &'static str,
    args: &[String],
    from: Option<(&Path, Environment)>,
) -> Result<(bool, String, String), BatchError> {
    // What a user's shell sets for sbatch beats the script's directives, and what a job's environment
    // says about itself must not leak into the next one; where the configuration lies must stay.
    let ours = |name: &str| (name.starts_with("SBATCH_") || name.starts_with("SLURM_")) && name != "SLURM_CONF";
    let passed = from.map_or(Environment::Whole, |(_, environment)| environment);
    let environment = std::env::vars_os()
        .filter(|(name, _)| name.to_str().map_or(passed == Environment::Whole, |n| !ours(n) && passed.passes(n)));
    // Else squeue cuts long lists of tasks short.
    let whole_lists = (program == "squeue").then(|| ("SLURM_BITSTR_LEN".into(), "0".into()));
    let environment = environment.chain(whole_lists);
    let mut command = duct::cmd(program, args).full_env(environment).stdin_null();
    if let Some((dir, _)) = from {
        command = command.dir(dir);
    }
    let started = command.stdout_capture().stderr_capture().unchecked().start().map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => BatchError::Absent { program },
        _ => BatchError::Silent { program, words: e.to_string() },
    })?;
    match started.wait_timeout(PATIENCE) {
        Ok(Some(output)) => {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            Ok((output.status.success(), text(&output.stdout), text(&output.stderr)))
        }
        Ok(None) => {
            let _ = started.kill();
            Err(BatchError::Silent { program, words: format!("no answer within {} s", PATIENCE.as_secs()) })
        }
        Err(e) => Err(BatchError::Silent { program, words: e.to_string() }),
    }
}

/// The job's number in `sbatch --parsable`'s answer: some sites print more around it.
fn job_number(text: &str) -> Option<u64> {
    text.lines().find_map(|l| l.trim().split(';').next()?.parse().ok())
}

fn entry(line: &str) -> Option<Entry> {
    let fields: Vec<&str> = line.trim().splitn(7, '|').collect();
    let [job, tasks, state, reason, start, nodes, comment] = fields.try_into().ok()?;
    let there = |text: &str| (!matches!(text, "" | "N/A" | "(null)")).then(|| text.to_owned());
    Some(Entry {
        job: job.parse().ok()?,
        tasks: there(tasks),
        state: state.to_owned(),
        reason: reason.to_owned(),
        start: start.to_owned(),
        nodes: nodes.to_owned(),
        run_id: comment.strip_prefix("convoke:").map(str::to_owned),
    })
}

fn leading_number(text: &str) -> u64 {
    text.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap_or(0)
}

/// `gpu:2`, `gpu:a100:4(S:0-1)`, `(null)`
fn gpus(text: &str) -> u64 {
    let kinds = text.split(',').filter(|g| g.starts_with("gpu"));
    kinds.map(|g| leading_number(g.split('(').next().unwrap_or(g).rsplit(':').next().unwrap_or(""))).sum()
}

/// `[[days-]hours:]minutes:seconds`; nothing for `infinite`.
fn seconds(text: &str) -> Option<u64> {
    let (days, clock) = match text.split_once('-') {
        Some((days, clock)) => (days.parse::<u64>().ok()?, clock),
        None => (0, text),
    };
    let parts = clock.split(':').map(str::parse).collect::<Result<Vec<u64>, _>>().ok()?;
    Some(days * 86_400 + parts.iter().fold(0, |all, part| all * 60 + part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_many_sites() {
        assert_eq!(job_number("812\n"), Some(812));
        assert_eq!(job_number("812;lab\n"), Some(812));
        assert_eq!(job_number("Welcome to cluster 9!\n*** 3 jobs\n812\nBye 7\n"), Some(812));
        assert_eq!(job_number("Submitted, I think\n"), None);
        assert_eq!((gpus("gpu:2"), gpus("gpu:a100:4(S:0-1)"), gpus("(null)"), gpus("mps:8,gpu:1")), (2, 4, 0, 1));
        assert_eq!((seconds("1:00:00"), seconds("2:00"), seconds("1-02:00:00")), (Some(3600), Some(120), Some(93_600)));
        assert_eq!((seconds("infinite"), seconds("INVALID")), (None, None));
        let pending = entry("812|3-999|PENDING|Resources|N/A||convoke:7f3a91c2").unwrap();
        assert_eq!(
            (pending.job, pending.tasks.as_deref(), pending.run_id.as_deref()),
            (812, Some("3-999"), Some("7f3a91c2"))
        );
        assert!(pending.is_live() && pending.is_job("812") && pending.is_job("812_3") && !pending.is_job("812_2"));
        let tasks = |list: &str| Entry { tasks: Some(list.to_owned()), ..pending.clone() };
        let some = tasks("0-2,7,9-10%4");
        let held: Vec<u64> = (0..12).filter(|i| some.has_task(*i)).collect();
        assert_eq!(held, [0, 1, 2, 7, 9, 10]);
        assert!(
            tasks("5").has_task(5)
                && tasks("[4-6]").has_task(5)
                && !Entry { tasks: None, ..pending.clone() }.has_task(0)
        );
        assert_eq!(entry("9|N/A|RUNNING|None|2026-01-01T00:00:00|n[1-2]|(null)").unwrap().run_id, None);
        assert_eq!(entry("slurm_load_jobs error"), None);
    }
}
