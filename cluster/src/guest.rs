//! A program of the user's: begun in a folder of its own, looked at, ended with all that it started, and read.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

/// Bytes of a program's words that are read, from the end.
const TAIL: u64 = 1 << 20;
/// A look takes so long at most, in waits that double.
const LOOK: Duration = Duration::from_secs(1);
/// What a program that is asked to end gets.
const GRACE: u32 = 40;
const GRACE_WAIT: Duration = Duration::from_millis(50);
/// Letters of a program's last words in an error.
const WORDS: usize = 300;

/// What a program can do wrong.
#[derive(Debug, thiserror::Error)]
pub enum GuestError {
    /// It cannot be started.
    #[error("{program} cannot be started: {source}\n  help: is it there, and executable, on the host that runs it?")]
    Start {
        /// The program.
        program: String,
        /// Why.
        source: std::io::Error,
    },
    /// Its folder or its words cannot be had.
    #[error("{}: {source}", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It failed.
    #[error("the program ended with {how}{}\n  help: its files are in {}", said(.words), folder.display())]
    Failed {
        /// Exit code or signal.
        how: String,
        /// The last line that it wrote to standard error, or else to standard output.
        words: String,
        /// Where it worked.
        folder: PathBuf,
    },
    /// It ended well, and its last line is not what was due.
    #[error("the program printed {line:?} last: expected {expected}\n  help: its files are in {}", folder.display())]
    Output {
        /// The line.
        line: String,
        /// What was due.
        expected: String,
        /// Where it worked.
        folder: PathBuf,
    },
    /// It did not end.
    #[error("the program was stopped after {}: it had not ended\n  help: raise problem.timeout if it may take longer", humantime::format_duration(*.0))]
    TooLong(Duration),
}

fn said(words: &str) -> String {
    if words.is_empty() { String::new() } else { format!(" and said last: {words}") }
}

/// Why a program cannot be started, where that is plain: a path to a file that is not there.
pub fn missing(program: &str, base: &Path) -> Option<String> {
    let path = base.join(program);
    (program.contains('/') && !path.exists()).then(|| format!("a program; there is no {}", path.display()))
}

/// A process and the folder that it works in.
#[derive(Debug)]
pub struct Guest {
    process: std::process::Child,
    folder: PathBuf,
    ended: Option<ExitStatus>,
}

impl Guest {
    /// Begins `line` in the folder `folder`, which is emptied: what an attempt before left is nothing to rely on.
    ///
    /// # Errors
    /// [`GuestError::Start`], [`GuestError::Io`].
    pub fn begin(line: &[String], base: &Path, folder: &Path, threads: usize) -> Result<Self, GuestError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| GuestError::Io { path, source }
        };
        if folder.exists() {
            fs::remove_dir_all(folder).map_err(io(folder))?;
        }
        fs::create_dir_all(folder).map_err(io(folder))?;
        let folder = fs::canonicalize(folder).map_err(io(folder))?;
        let words = |name: &str| File::create(folder.join(name)).map_err(io(&folder.join(name)));
        // A path counts from the job file, like all others there; a plain name is looked for as a shell would.
        let program = if line[0].contains('/') { std::path::absolute(base.join(&line[0])).ok() } else { None };
        let mut command = Command::new(program.unwrap_or_else(|| line[0].clone().into()));
        command.args(&line[1..]).current_dir(&folder).env("OMP_NUM_THREADS", threads.to_string());
        command.stdin(Stdio::null()).stdout(words("stdout")?).stderr(words("stderr")?);
        // A group of its own: what it starts ends with it.
        command.process_group(0);
        let process = command.spawn().map_err(|source| GuestError::Start { program: line[0].clone(), source })?;
        Ok(Self { process, folder, ended: None })
    }

    /// Whether it has ended; waits for that a while.
    ///
    /// # Errors
    /// [`GuestError::Io`] where the system does not know it.
    pub fn has_ended(&mut self) -> Result<bool, GuestError> {
        let (mut waited, mut wait) = (Duration::ZERO, Duration::from_millis(1));
        loop {
            let seen = self.process.try_wait();
            self.ended = seen.map_err(|source| GuestError::Io { path: self.folder.clone(), source })?;
            if self.ended.is_some() || waited >= LOOK {
                return Ok(self.ended.is_some());
            }
            std::thread::sleep(wait);
            waited += wait;
            wait = (2 * wait).min(LOOK / 10);
        }
    }

    /// The numbers of a program that has ended: on its last line, in the order of `names`, or by name as JSON.
    ///
    /// # Errors
    /// [`GuestError::Failed`], [`GuestError::Output`].
    pub fn numbers(&self, names: &[String]) -> Result<Vec<f64>, GuestError> {
        let (out, err) = (self.tail("stdout")?, self.tail("stderr")?);
        let folder = self.folder.clone();
        if let Some(status) = self.ended.filter(|status| !status.success()) {
            let how = match (status.code(), std::os::unix::process::ExitStatusExt::signal(&status)) {
                (Some(code), _) => format!("code {code}"),
                (None, signal) => format!("signal {}", signal.unwrap_or(0)),
            };
            let words = [last_line(&err), last_line(&out)].into_iter().find(|l| !l.is_empty()).unwrap_or_default();
            return Err(GuestError::Failed { how, words: words.chars().take(WORDS).collect(), folder });
        }
        let line = last_line(&out);
        read(line, names).map_err(|expected| {
            let line = line.chars().take(WORDS).collect();
            GuestError::Output { line, expected, folder }
        })
    }

    /// The end of what it wrote.
    fn tail(&self, name: &str) -> Result<String, GuestError> {
        let path = self.folder.join(name);
        let read = || {
            let mut file = File::open(&path)?;
            let len = file.metadata()?.len();
            file.seek(SeekFrom::Start(len.saturating_sub(TAIL)))?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        read().map_err(|source| GuestError::Io { path: path.clone(), source })
    }
}

impl Drop for Guest {
    /// Ends what is still at work: asked first, and then not asked.
    fn drop(&mut self) {
        let Some(group) = Pid::from_raw(self.process.id() as i32) else { return };
        if self.ended.is_none() {
            let _ = kill_process_group(group, Signal::TERM);
            for _ in 0..GRACE {
                if !matches!(self.process.try_wait(), Ok(None)) {
                    break;
                }
                std::thread::sleep(GRACE_WAIT);
            }
        }
        let _ = kill_process_group(group, Signal::KILL);
        let _ = self.process.wait();
    }
}

fn last_line(text: &str) -> &str {
    text.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default()
}

/// The numbers of a line; an error says what was expected.
fn read(line: &str, names: &[String]) -> Result<Vec<f64>, String> {
    let values: Vec<f64> = if line.starts_with('{') {
        let object: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(line).map_err(|e| format!("one JSON object ({e})"))?;
        let of = |name: &String| {
            let value = object.get(name).and_then(serde_json::Value::as_f64);
            value.ok_or_else(|| format!("a number for {name:?}"))
        };
        names.iter().map(of).collect::<Result<_, _>>()?
    } else {
        let words = line.split(|c: char| c.is_whitespace() || c == ',' || c == ';').filter(|word| !word.is_empty());
        let numbers: Option<Vec<f64>> = words.map(|word| word.parse().ok()).collect();
        numbers.filter(|all| all.len() == names.len()).ok_or_else(|| {
            let noun = if names.len() == 1 { "number" } else { "numbers" };
            format!("{} {noun}: {}", names.len(), names.join(", "))
        })?
    };
    match values.iter().zip(names).find(|(value, _)| !value.is_finite()) {
        Some((value, name)) => Err(format!("finite numbers, and {name} is {value}")),
        None => Ok(values),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> (tempfile::TempDir, Result<Vec<f64>, GuestError>) {
        let scratch = tempfile::tempdir().unwrap();
        let line = ["sh", "-c", script].map(str::to_owned);
        let mut child = Guest::begin(&line, Path::new("/"), &scratch.path().join("work"), 3).unwrap();
        while !child.has_ended().unwrap() {}
        let numbers = child.numbers(&["a".to_owned(), "b".to_owned()]);
        (scratch, numbers)
    }

    #[test]
    fn the_last_line_counts_in_order_or_by_name() {
        for script in [
            "echo noise; echo '1.5, -2e3'; echo",
            "echo '{\"b\": -2000, \"c\": 0, \"a\": 1.5}'",
            "echo 1.5\t-2000 | tee keep",
            "test $OMP_NUM_THREADS = 3 && echo '1.5;-2000'",
        ] {
            assert_eq!(shell(script).1.unwrap(), [1.5, -2000.0], "{script}");
        }
    }

    #[test]
    fn what_goes_wrong_is_told_with_the_programs_own_words() {
        for (script, words) in [
            ("echo out; echo no mesh >&2; exit 3", "ended with code 3 and said last: no mesh"),
            ("echo diverged; exit 4", "ended with code 4 and said last: diverged"),
            ("kill -9 $$", "ended with signal 9"),
            ("true", "printed \"\" last: expected 2 numbers: a, b"),
            ("echo 1", "printed \"1\" last: expected 2 numbers: a, b"),
            ("echo 1 x", "printed \"1 x\" last: expected 2 numbers"),
            ("echo 1 nan", "expected finite numbers, and b is NaN"),
            ("echo '{\"a\": 1}'", "expected a number for \"b\""),
            ("echo '{\"a\": 1'", "expected one JSON object"),
        ] {
            let error = shell(script).1.unwrap_err().to_string();
            assert!(error.contains(words), "{script}\n{error}");
        }
    }

    /// A child of a child holds a lock on a file, and no longer does once the child is dropped.
    #[test]
    fn nothing_that_it_started_outlives_it() {
        let scratch = tempfile::tempdir().unwrap();
        let line = ["sh", "-c", "trap '' TERM; sleep 1000 & echo $! > pid; wait; sleep 1000"].map(str::to_owned);
        let mut child = Guest::begin(&line, Path::new("/"), &scratch.path().join("work"), 1).unwrap();
        let pid = scratch.path().join("work/pid");
        let sleeper = loop {
            assert!(!child.has_ended().unwrap());
            match fs::read_to_string(&pid).unwrap_or_default().trim().parse::<u32>() {
                Ok(sleeper) => break sleeper,
                Err(_) => continue,
            }
        };
        let is_alive = || {
            let stat = fs::read_to_string(format!("/proc/{sleeper}/stat")).unwrap_or_default();
            stat.contains("(sleep)") && !stat.contains(") Z ")
        };
        assert!(is_alive());
        drop(child);
        (0..100).take_while(|_| is_alive()).for_each(|_| std::thread::sleep(Duration::from_millis(20)));
        assert!(!is_alive());
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let scratch = tempfile::tempdir().unwrap();
        let begin =
            |program: &str| Guest::begin(&[program.to_owned()], scratch.path(), &scratch.path().join("work"), 1);
        let error = begin("no-such-program-here").unwrap_err().to_string();
        assert!(error.starts_with("no-such-program-here cannot be started"), "{error}");
        assert!(missing("./model", scratch.path()).is_some_and(|words| words.starts_with("a program; there is no")));
        assert_eq!(missing("sh", scratch.path()), None);
    }
}
