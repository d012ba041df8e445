//! One attempt, watched from outside: its signals, its heartbeat, its end.

use std::io::{BufRead, BufReader};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use rustix::process::{Pid, Signal};
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;

use super::Supervisor;
use crate::launch::Launcher;

/// How long ranks may outlive the first of them that ended.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often the processes and the heartbeat are looked at.
const LOOK: Duration = Duration::from_millis(200);
/// How long before the time limit ranks that have not stopped are ended: a job that runs into its limit is not begun
/// again by Slurm, so there must be time left to see to it.
const LAST_MOMENT: Duration = Duration::from_secs(15);
/// Lines of the launcher's messages that are kept.
const KEPT: usize = 200;

/// How an attempt ended.
#[derive(Debug, Clone, Default)]
pub struct Ended {
    /// Exit code of the ranks, where they ended by themselves.
    pub code: Option<u8>,
    /// The signal that ended one of them.
    pub signal: Option<i32>,
    /// Whether a signal to stop was passed on.
    pub stop_was_sent: bool,
    /// Seconds without a step, where the attempt was ended for it.
    pub stalled: Option<u64>,
    /// The time limit came before the ranks had stopped.
    pub late: bool,
    /// A rank ended and the others did not.
    pub hung: bool,
    /// The system killed a rank for its memory.
    pub out_of_memory: bool,
    /// Nodes that errors of the launcher name.
    pub suspects: Vec<String>,
}

impl Ended {
    /// In words.
    pub fn words(&self) -> String {
        match (self.stalled, self.signal, self.code) {
            (Some(seconds), _, _) => format!("no step was completed for {seconds} s; the ranks were ended"),
            _ if self.late => "the time limit came before a step was completed; the ranks were ended".to_owned(),
            _ if self.hung => {
                format!("a rank ended and the others did not within {} s; all were ended", PATIENCE.as_secs())
            }
            (_, Some(signal), _) => format!("a rank was killed by signal {signal}"),
            (_, _, Some(code)) => format!("the ranks ended with code {code}"),
            _ => "the ranks ended".to_owned(),
        }
    }
}

/// The signals that end a run early, listened to from now on.
pub(super) fn listened() -> std::io::Result<Signals> {
    Signals::new([SIGINT, SIGTERM, SIGUSR1])
}

/// Starts the ranks and stays until they end. The first signal asks them for a checkpoint, the second ends them.
pub(super) fn attend(
    supervisor: &Supervisor,
    mut command: Command,
    deadline: Option<SystemTime>,
    signals: &mut Signals,
) -> std::io::Result<Ended> {
    let before = supervisor.dir.newest_epoch();
    let reads_words = matches!(supervisor.launcher, Launcher::Srun { .. });
    if reads_words {
        command.stderr(Stdio::piped());
    }
    // Its own process group: Ctrl-C reaches this process alone, which asks for a checkpoint.
    let mut child = command.stdin(Stdio::null()).process_group(0).spawn()?;
    let messages = child.stderr.take().map(|pipe| listen(pipe, supervisor.say));
    let pid = Pid::from_child(&child);
    let (begun, mut looked) = (Instant::now(), Instant::now());
    let mut ended = Ended::default();
    let mut to_be_told = false;
    let mut fewer = Fewer::of(supervisor.ranks);
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        for signal in signals.pending() {
            let again = ended.stop_was_sent;
            // What a batch system sends twice is passed on once: the ranks are writing already.
            if again && (signal == SIGUSR1 || supervisor.batch.is_some()) {
                continue;
            }
            ended.stop_was_sent = true;
            if again {
                let _ = rustix::process::kill_process(pid, Signal::TERM);
            } else {
                to_be_told = true;
            }
        }
        // Ranks that do not listen yet would die of it. All do before the first of them claims the directory.
        if to_be_told && supervisor.dir.newest_epoch() > before {
            to_be_told = false;
            let _ = rustix::process::kill_process(pid, Signal::USR1);
        }
        if looked.elapsed() > LOOK {
            looked = Instant::now();
            let silent = supervisor.silent_for(before, begun.elapsed());
            if silent > supervisor.stall_timeout {
                ended.stalled = Some(silent.as_secs());
            }
            ended.late = deadline.is_some_and(|d| SystemTime::now() + LAST_MOMENT > d);
            ended.hung = matches!(supervisor.launcher, Launcher::Mpirun(_)) && fewer.for_too_long(pid);
            if ended.stalled.is_some() || ended.hung || ended.late {
                end_all(supervisor, &mut child)?;
                break None;
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    if let Some(messages) = messages {
        // The reader ends with the pipe; a grandchild that keeps it open must not hold us up.
        std::thread::sleep(LOOK);
        let messages = messages.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        understand(&messages, supervisor.batch.as_ref().map_or(&[], |b| &b.nodes), &mut ended);
    }
    if let Some(status) = status {
        let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
        // Codes below 128 come from our own ranks, which have spoken.
        if code >= 128 { ended.signal = Some(code - 128) } else { ended.code = u8::try_from(code).ok() }
    }
    Ok(ended)
}

/// Ranks first: a launcher that dies before them leaves them.
fn end_all(supervisor: &Supervisor, child: &mut Child) -> std::io::Result<()> {
    if let Some(batch) = &supervisor.batch {
        batch.kill_steps();
    }
    for rank in children(Pid::from_child(child)) {
        let _ = rustix::process::kill_process(rank, Signal::KILL);
    }
    child.kill()?;
    child.wait().map(drop)
}

/// Passes the launcher's messages on and keeps the last of them.
fn listen(pipe: std::process::ChildStderr, say: fn(&str)) -> Arc<Mutex<Vec<String>>> {
    let kept = Arc::new(Mutex::new(Vec::new()));
    let keeper = Arc::clone(&kept);
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).into_owned();
            say(&line);
            let mut kept = keeper.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if kept.len() == KEPT {
                kept.remove(0);
            }
            kept.push(line);
        }
    });
    kept
}

/// What srun's messages say of the end. `nodes`: the node of each rank.
///
/// A rank that could not be launched names the culprit (`srun: error: task 1 launch failed: …`, `… failed on node n4: …`), as
/// does the PMI of a node (`slurmstepd: error: n3 [0] pmixp_usock.c:…`). Else it is the first node that lost a rank (`srun: error: n2: task
/// 3: Killed`): the others were ended for its sake.
fn understand(messages: &[String], nodes: &[String], ended: &mut Ended) {
    let (mut culprits, mut first) = (Vec::new(), None);
    for line in messages.iter().filter(|l| l.starts_with("srun: ") || l.starts_with("slurmstepd")) {
        let Some((_, text)) = line.split_once("error: ") else { continue };
        ended.out_of_memory |= ["oom_kill", "oom-kill", "Out Of Memory"].iter().any(|word| text.contains(word));
        let failed = text.strip_prefix("task ").and_then(|t| t.split_once(" launch failed")).map(|(task, _)| task);
        if let Some(node) = failed.and_then(|task| nodes.get(task.parse::<usize>().ok()?)) {
            culprits.push(node.clone());
        } else if let Some((node, _)) = text.split_once("failed on node ").and_then(|(_, rest)| rest.split_once(':')) {
            culprits.push(node.to_owned());
        } else if let Some((node, _)) = text.split_once(" [").filter(|_| text.contains("pmix")) {
            culprits.push(node.to_owned());
        } else if let Some((node, _)) = text.split_once(": task") {
            first.get_or_insert_with(|| node.to_owned());
        }
    }
    if culprits.is_empty() {
        culprits.extend(first);
    }
    culprits.dedup();
    culprits.retain(|n| !n.is_empty() && n.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c)));
    ended.suspects = culprits;
}

/// Notices a launcher that does not end after one of its ranks is gone: seen once with Open MPI 4.1
/// in about a hundred kills; why is not known.
struct Fewer {
    ranks: usize,
    /// Whether the launcher has started a rank.
    begun: bool,
    since: Option<Instant>,
}

impl Fewer {
    fn of(ranks: usize) -> Self {
        Self { ranks, begun: false, since: None }
    }

    fn for_too_long(&mut self, launcher: Pid) -> bool {
        let alive = children(launcher).len();
        self.begun |= alive > 0;
        if alive >= self.ranks || !self.begun {
            self.since = None;
        } else {
            self.since.get_or_insert_with(Instant::now);
        }
        self.since.is_some_and(|since| since.elapsed() > PATIENCE)
    }
}

/// Living processes that `parent` started.
fn children(parent: Pid) -> Vec<Pid> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(|pid| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let mut fields = stat[stat.rfind(')')? + 2..].split(' ');
        let (state, its_parent) = (fields.next()?, fields.next()?);
        let lives = state != "Z" && state != "X" && its_parent == parent.as_raw_nonzero().to_string();
        if lives { Pid::from_raw(pid) } else { None }
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(lines: &[&str]) -> (String, bool) {
        let lines: Vec<String> = lines.iter().map(|l| (*l).to_owned()).collect();
        let nodes = ["n1", "n2", "n3"].map(str::to_owned);
        let mut ended = Ended::default();
        understand(&lines, &nodes, &mut ended);
        (ended.suspects.join(" "), ended.out_of_memory)
    }

    #[test]
    fn messages_of_srun_name_the_node_and_the_cause() {
        let killed =
            ["srun: error: n2: tasks 2-3: Killed", "srun: error: n1: task 0: Killed", "convoke: error: n9: task"];
        assert_eq!(told(&killed), ("n2".to_owned(), false));
        // As Slurm 22.05 tells of the socket that a dead node's PMIx has left.
        let stale = ["srun: error: task 1 launch failed: Unspecified error", "srun: error: n1: task 0: Killed"];
        assert_eq!(told(&stale), ("n2".to_owned(), false));
        let gone = "srun: error: Task launch for StepId=18.0 failed on node n14: Communication connection failure";
        assert_eq!(told(&[gone, "srun: error: n13: task 0: Killed"]), ("n14".to_owned(), false));
        let usock = "slurmstepd: error: n3 [0] pmixp_usock.c:120: mpi/pmix: ERROR: Cannot bind() UNIX socket";
        assert_eq!(told(&[usock]), ("n3".to_owned(), false));
        assert_eq!(told(&["slurmstepd: error: Detected 1 oom_kill event in StepId=7.0."]), (String::new(), true));
        assert_eq!(told(&["srun: launch/slurm: _step_signal: Terminating StepId=5.0"]), (String::new(), false));
    }
}
