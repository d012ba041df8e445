//! Files are read by a child process: this program again, under limits.
//!
//! The HDF5 library is not proof against damaged or hostile files: they make it crash, loop or
//! allocate without end. Nobody can see from a file whether it is one of ours, so every file is read
//! this way. The parent reads no HDF5; it waits, and turns whatever happens into one line.

use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use clap::Args;
use convoke_cluster::{Error, Exit, machine};
use convoke_data::DataError;
use rustix::process::{Resource, Rlimit, Signal, getrlimit, set_parent_process_death_signal, setrlimit};

use crate::cli::{Done, say};

/// Tells the child that it is one, and how many seconds of processor time it has.
const MARK: &str = "CONVOKE_ANALYSE_CHILD";
/// The library loads no filter from elsewhere (HDF5 reference manual, H5PL).
const NO_PLUG_INS: (&str, &str) = ("HDF5_PLUGIN_PRELOAD", "::");
/// Address space beyond what the threads take: slabs, chunks and pictures need less. A damaged text may claim any length, which
/// the library believes.
const MEMORY: u64 = 4 << 30;
/// Address space of a thread: its stack, and an arena of the allocator.
const MEMORY_PER_THREAD: u64 = 128 << 20;
/// Threads that read; more do not help the library, which has one lock.
const THREADS: usize = 16;
/// Bytes of an error message that are passed on.
const MESSAGE: u64 = 1 << 16;

/// What reading may take.
#[derive(Debug, Clone, Args)]
pub struct Limits {
    /// Bytes that one array may claim, such as 16GiB [default: 2GiB, or the file's length if more].
    #[arg(long, global = true, value_name = "SIZE", value_parser = bytes, help_heading = "Limits of reading")]
    pub max_bytes: Option<u64>,
    /// Time that it may take, such as 10min [default: 2 min, and 1 min for each GiB of the files].
    #[arg(long, global = true, value_name = "TIME", value_parser = time, help_heading = "Limits of reading")]
    pub max_time: Option<Duration>,
}

fn bytes(text: &str) -> Result<u64, String> {
    let size: bytesize::ByteSize = text.parse().map_err(|_| format!("'{text}' is no size, such as 16GiB"))?;
    if size.0 > 0 { Ok(size.0) } else { Err("a limit is more than 0".to_owned()) }
}

fn time(text: &str) -> Result<Duration, String> {
    let span = humantime::parse_duration(text).map_err(|_| format!("'{text}' is no time, such as 10min"))?;
    if (Duration::from_millis(1)..=Duration::from_hours(24 * 365)).contains(&span) {
        Ok(span)
    } else {
        Err("expected a time between 1ms and a year".to_owned())
    }
}

impl Limits {
    /// The time for reading `paths`.
    fn time(&self, paths: &[&Path]) -> Duration {
        let length = |path: &&Path| std::fs::metadata(result_of(path)).map_or(0, |m| m.len());
        let gib = paths.iter().map(length).sum::<u64>().max(self.max_bytes.unwrap_or(0)) >> 30;
        self.max_time.unwrap_or(Duration::from_secs(120 + 60 * gib))
    }
}

/// The file that a path stands for.
fn result_of(path: &Path) -> PathBuf {
    if path.is_dir() { path.join("result.h5") } else { path.to_owned() }
}

/// In the child: `work`, under the limits. In the parent: the child, and what becomes of it.
pub fn apart(limits: &Limits, paths: &[&Path], work: impl FnOnce() -> Done) -> Done {
    if let Some(seconds) = std::env::var(MARK).ok().and_then(|text| text.parse().ok()) {
        confine(seconds).map_err(|errno| trouble("limit this process", &errno.into()))?;
        return work();
    }
    let time = limits.time(paths);
    let path = paths.first().map_or_else(PathBuf::new, |path| result_of(path));
    let program = std::env::current_exe().map_err(|e| trouble("find this program", &e))?;
    let mut child = Command::new(program)
        .args(std::env::args_os().skip(1))
        .env(MARK, (time.as_secs() + 1).saturating_mul(machine::cores().min(THREADS) as u64).to_string())
        .env(NO_PLUG_INS.0, NO_PLUG_INS.1)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| trouble("start the process that reads", &e))?;
    let stderr = child.stderr.take().expect("asked for above");
    let (told, hears) = mpsc::channel();
    let listener = std::thread::spawn(move || {
        let (mut head, mut rest) = (Vec::new(), stderr);
        let _ = Read::by_ref(&mut rest).take(MESSAGE).read_to_end(&mut head);
        let _ = std::io::copy(&mut rest, &mut std::io::sink());
        let _ = told.send(head);
    });
    // Its standard error ends when it ends.
    let message = hears.recv_timeout(time);
    let late = matches!(message, Err(RecvTimeoutError::Timeout));
    if late {
        child.kill().map_err(|e| trouble("end the process that reads", &e))?;
    }
    let status = child.wait().map_err(|e| trouble("wait for the process that reads", &e))?;
    let message = message.or_else(|_| hears.recv()).unwrap_or_default();
    let _ = listener.join();
    let message = String::from_utf8_lossy(&message).into_owned();
    if late {
        let how = format!("it took more than {}; allow more with --max-time", humantime::format_duration(time));
        return Err(DataError::Unreadable { path, how }.into());
    }
    verdict(status, &message).map_err(|how| match how {
        Failed::Bug(message) => Error::Panicked { message },
        Failed::Reading(how) => DataError::Unreadable { path, how }.into(),
    })
}

enum Failed {
    /// A panic of this program.
    Bug(String),
    /// The library, or a limit.
    Reading(String),
}

/// The child's own exit, with its own message; or how it died.
fn verdict(status: ExitStatus, message: &str) -> Result<Exit, Failed> {
    if let Some(code) = status.code() {
        // What a panicking thread leaves (std::process).
        if code == 101 {
            return Err(Failed::Bug(message.split_whitespace().collect::<Vec<_>>().join(" ")));
        }
        if !message.is_empty() {
            say::error_line(message.trim_end());
        }
        let known =
            [Exit::Complete, Exit::BadInput, Exit::WouldNotFit, Exit::Mismatch, Exit::CheckFailed, Exit::Corrupt];
        return Ok(known.into_iter().find(|exit| *exit as i32 == code).unwrap_or(Exit::Failed));
    }
    let signal = status.signal().unwrap_or(0);
    Err(Failed::Reading(if message.contains("memory allocation of") {
        "it asked for more memory than any file needs".to_owned()
    } else if signal == Signal::XCPU.as_raw() {
        "it used up its processor time; allow more with --max-time".to_owned()
    } else {
        format!("the HDF5 library died of signal {signal}")
    }))
}

/// Limits that hold until this process ends.
fn confine(seconds: u64) -> rustix::io::Result<()> {
    let threads = machine::cores().min(THREADS);
    // A pool that exists already keeps its size.
    let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let memory = MEMORY + MEMORY_PER_THREAD * threads as u64;
    for (resource, most) in [(Resource::As, memory), (Resource::Cpu, seconds), (Resource::Core, 0)] {
        // Never above what the user, or the batch system, allows.
        let hard = getrlimit(resource).maximum;
        let current = Some(hard.map_or(most, |hard| hard.min(most)));
        // The hard limit stays a second higher: the signal that tells why comes first.
        let maximum =
            if resource == Resource::Cpu { hard.map_or(Some(most + 1), |h| Some(h.min(most + 1))) } else { current };
        setrlimit(resource, Rlimit { current, maximum })?;
    }
    Ok(())
}

fn trouble(what: &str, source: &std::io::Error) -> Error {
    Error::Program {
        program: "convoke analyse".to_owned(),
        problem: format!("cannot {what}: {source}"),
        help: "files are read by a second process, under limits: check `ulimit -a`".to_owned(),
    }
}
