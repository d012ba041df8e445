//! One start of the program: when it resumes, what strikes it, how it ends.

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal as Sent, kill_process};

use super::HANG;
use super::damage;
use super::kind::Signal;

/// What befalls it, and when.
#[derive(Debug, Clone)]
pub(super) struct Strike {
    pub signal: Signal,
    pub after: Duration,
    /// Decides between ranks.
    pub dice: u64,
}

/// A start or a continuation.
#[derive(Debug)]
pub(super) struct Attempt<'a> {
    dir: &'a Path,
    command: Command,
    pub ranks: u64,
    /// The file that fills the disk.
    pub ballast: Option<PathBuf>,
}

/// When the loop began, and where.
#[derive(Debug, Clone)]
pub(super) struct Resumed {
    pub after: Duration,
    pub step: u64,
}

/// How an attempt ended.
#[derive(Debug)]
pub(super) struct End {
    /// Exit code; `None` after a signal.
    pub code: Option<i32>,
    /// Whether the strike came before the end.
    pub struck: bool,
    pub hung: bool,
    pub resumed: Option<Resumed>,
    /// Checkpoints committed, checkpoints failed, in this attempt.
    pub checkpoints: u64,
    pub failed: u64,
    /// The end of what it said.
    pub told: String,
}

impl<'a> Attempt<'a> {
    pub fn new(program: &Path, dir: &'a Path, spec: &Path, ranks: u64) -> Self {
        let mut command = Command::new(program);
        if dir.join("spec.lock.json").exists() {
            command.arg("resume").arg(dir);
        } else {
            command.arg("run").arg(spec).arg("--dir").arg(dir);
        }
        command.args(["-n", &ranks.to_string(), "--threads", "1", "--quiet"]);
        command.env_remove("CONVOKE_FAULT").stdin(Stdio::null()).stdout(Stdio::null());
        Self { dir, command, ranks, ballast: None }
    }

    pub fn more(&mut self, arguments: &[&str]) {
        // A run that has not begun cannot begin again.
        let new = self.command.get_args().next().is_some_and(|a| a == "run");
        self.command.args(arguments.iter().filter(|a| !(new && **a == "--restart")));
    }

    pub fn fault(&mut self, text: &str) {
        self.command.env("CONVOKE_FAULT", text);
    }

    /// Starts it and waits for its end, at most [`HANG`].
    pub fn go(mut self, strike: Option<Strike>) -> Result<End, String> {
        let errors = self.dir.with_extension("stderr");
        let file = fs::File::create(&errors).map_err(|e| format!("{}: {e}", errors.display()))?;
        let mut events = Events::after(&self.dir.join("events.jsonl"));
        let began = Instant::now();
        // A group of its own: what is sent to the injector (Ctrl-C) does not reach it.
        let mut child = self
            .command
            .stderr(file)
            .process_group(0)
            .spawn()
            .map_err(|e| format!("the program does not start: {e}"))?;
        let (mut struck, mut hung) = (false, false);
        let status = loop {
            if let Some(status) = child.try_wait().map_err(|e| e.to_string())? {
                break status;
            }
            events.look(began);
            if let Some(strike) = strike.as_ref().filter(|s| !struck && self.is_due(s, began)) {
                struck = self.strike(strike, &mut child);
            }
            if began.elapsed() > HANG {
                hung = true;
                self.family().iter().for_each(|(pid, _)| send(*pid, Sent::KILL));
                let _ = child.kill();
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        events.look(began);
        let told = fs::read_to_string(&errors).unwrap_or_default();
        let _ = fs::remove_file(&errors);
        let told = told.lines().rev().take(4).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join(" | ");
        Ok(End {
            code: status.code(),
            struck,
            hung,
            resumed: events.resumed,
            checkpoints: events.checkpoints,
            failed: events.failed,
            told,
        })
    }

    fn is_due(&self, strike: &Strike, began: Instant) -> bool {
        let now = began.elapsed();
        match strike.signal {
            Signal::AskInCheckpoint => damage::begun(self.dir),
            _ => now >= strike.after,
        }
    }

    /// Whether there was anything to strike.
    fn strike(&self, strike: &Strike, child: &mut Child) -> bool {
        let family = self.family();
        let ranks: Vec<i32> = family.iter().filter(|(_, rank)| *rank).map(|(pid, _)| *pid).collect();
        let one = || ranks.get(strike.dice as usize % ranks.len().max(1)).copied().unwrap_or(child.id() as i32);
        let itself = child.id() as i32;
        match strike.signal {
            Signal::KillRank => send(one(), Sent::KILL),
            Signal::KillAll => family.iter().for_each(|(pid, _)| send(*pid, Sent::KILL)),
            Signal::KillLauncher => {
                let launchers: Vec<i32> = family.iter().filter(|(_, rank)| !rank).map(|(pid, _)| *pid).collect();
                let chosen = launchers.get(strike.dice as usize % launchers.len().max(1)).copied();
                send(chosen.unwrap_or(itself), Sent::KILL);
            }
            Signal::Terminate => send(itself, Sent::TERM),
            Signal::Ask | Signal::AskInCheckpoint => send(itself, Sent::USR1),
            Signal::AskTwice => {
                send(itself, Sent::USR1);
                std::thread::sleep(Duration::from_millis(strike.dice % 40));
                send(itself, Sent::USR1);
            }
            Signal::Freeze => {
                let pid = one();
                send(pid, Sent::STOP);
                std::thread::sleep(Duration::from_millis(200 + strike.dice % 400));
                send(pid, Sent::CONT);
            }
            Signal::Fill => {
                if let Some(ballast) = &self.ballast {
                    fill(ballast);
                }
            }
        }
        true
    }

    /// Processes that work on this run: number, whether it is a rank.
    fn family(&self) -> Vec<(i32, bool)> {
        let name = self.dir.display().to_string();
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = processes.filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
        pids.filter_map(|pid| {
            let line = String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/cmdline")).ok()?).into_owned();
            if !line.split('\0').any(|word| word == name) {
                return None;
            }
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            let environment = String::from_utf8_lossy(&environment).into_owned();
            Some((pid, ["OMPI_COMM_WORLD_RANK=", "PMI_RANK="].iter().any(|v| environment.contains(v))))
        })
        .collect()
    }
}

fn send(pid: i32, signal: Sent) {
    // It may have ended by itself a moment ago.
    let _ = Pid::from_raw(pid).map(|pid| kill_process(pid, signal));
}

/// Writes until the file system takes no more.
fn fill(ballast: &Path) {
    use std::io::Write;
    let Ok(mut file) = fs::File::create(ballast) else { return };
    for size in [1 << 16, 1 << 12] {
        let block = vec![0u8; size];
        // At most 64 MiB: it is a small disk.
        for _ in 0..(64 << 20) / size {
            if file.write_all(&block).is_err() {
                break;
            }
        }
    }
}

/// What an attempt appends to `events.jsonl`.
struct Events {
    path: PathBuf,
    read: u64,
    resumed: Option<Resumed>,
    checkpoints: u64,
    failed: u64,
}

impl Events {
    fn after(path: &Path) -> Self {
        let read = fs::metadata(path).map_or(0, |m| m.len());
        Self { path: path.to_owned(), read, resumed: None, checkpoints: 0, failed: 0 }
    }

    fn look(&mut self, began: Instant) {
        let length = fs::metadata(&self.path).map_or(0, |m| m.len());
        if length <= self.read {
            return;
        }
        let now = began.elapsed();
        let mut text = String::new();
        let read = fs::File::open(&self.path).and_then(|mut file| {
            file.seek(SeekFrom::Start(self.read))?;
            file.read_to_string(&mut text)
        });
        if read.is_err() {
            return;
        }
        // A line that is half written is read the next time.
        let whole = text.rfind('\n').map_or(0, |at| at + 1);
        self.read += whole as u64;
        for line in text[..whole].lines() {
            let Ok(event) = serde_json::from_str::<serde_json::Value>(line) else { continue };
            match event["event"].as_str() {
                Some("started") if self.resumed.is_none() => {
                    self.resumed = Some(Resumed { after: now, step: event["step"].as_u64().unwrap_or(0) });
                }
                Some("checkpoint") => self.checkpoints += 1,
                Some("checkpoint-failed") => self.failed += 1,
                _ => {}
            }
        }
    }
}
