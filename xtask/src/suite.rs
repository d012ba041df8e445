//! Running the test programs that cargo has built, several at once.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Instant;

use serde_json::Value;
use xshell::{Shell, cmd};

use crate::error::{Error, Result};
use crate::say;

/// Programs that run at once: two, as most of them use several threads or ranks while they do not wait.
const SIDE_BY_SIDE: usize = 2;

/// The program that waits longest for others, a queue, so that it begins first.
const PATIENT: &str = "slurm";

/// A test program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Of its target; that of a package's library is the package's.
    pub name: String,
    /// Where it lies.
    pub path: PathBuf,
    /// Its package's folder, in which cargo would start it.
    pub folder: PathBuf,
}

/// How they ended.
#[derive(Debug)]
pub struct Suite {
    /// Whether all passed.
    pub passed: bool,
    /// What they said: of all of them if they passed, else of those that failed.
    pub output: String,
}

/// The test programs that cargo told of, one JSON message a line among other lines, in the order to begin in.
pub fn programs(messages: &str) -> Vec<Program> {
    let program = |line: &str| {
        let message: Value = serde_json::from_str(line).ok()?;
        let is_test = message["reason"] == "compiler-artifact" && message["profile"]["test"] == true;
        Some(Program {
            name: message["target"]["name"].as_str().filter(|_| is_test)?.to_owned(),
            path: message["executable"].as_str()?.into(),
            folder: Path::new(message["manifest_path"].as_str()?).parent()?.to_owned(),
        })
    };
    let mut found: Vec<_> = messages.lines().filter(|line| line.starts_with('{')).filter_map(program).collect();
    found.sort_by_key(|program| program.name != PATIENT);
    found
}

/// Runs them all, whether or not some fail; each one's output goes to a file in `logs`.
pub fn run(sh: &Shell, programs: &[Program], logs: &Path, verbose: bool) -> Result<Suite> {
    std::fs::create_dir_all(logs).map_err(Error::file(logs))?;
    let command = |program: &Program| {
        let path = &program.path;
        // With the environment of the shell, which stays on its thread.
        let mut command = Command::from(cmd!(sh, "{path}"));
        command.current_dir(&program.folder).env("CARGO_MANIFEST_DIR", &program.folder).stdin(Stdio::null());
        command
    };
    let commands: Vec<_> = programs.iter().map(|program| (program, command(program))).collect();
    let (queue, done) = (Mutex::new(commands.into_iter().enumerate()), Mutex::new(Vec::new()));
    let next = || lock(&queue).next();
    let work = || {
        while let Some((number, (program, command))) = next() {
            let log = logs.join(format!("{number:02}-{}.log", program.name));
            let outcome = run_one(program, command, &log, verbose);
            lock(&done).push((number, outcome));
        }
    };
    std::thread::scope(|threads| (0..SIDE_BY_SIDE).for_each(|_| drop(threads.spawn(work))));
    let mut done = done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    done.sort_by_key(|(number, _)| *number);
    let outcomes = done.into_iter().map(|(_, outcome)| outcome).collect::<Result<Vec<_>>>()?;
    let passed = outcomes.iter().all(|(passed, _)| *passed);
    let shown = outcomes.into_iter().filter(|(fine, _)| *fine == passed).map(|(_, output)| output);
    Ok(Suite { passed, output: shown.collect::<Vec<_>>().join("\n") })
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Whether it passed, and what it said.
fn run_one(program: &Program, mut command: Command, log: &Path, verbose: bool) -> Result<(bool, String)> {
    let file = File::create(log).map_err(Error::file(log))?;
    let began = Instant::now();
    let status = command
        .stdout(file.try_clone().map_err(Error::file(log))?)
        .stderr(file)
        .status()
        .map_err(Error::file(&program.path))?;
    let seconds = began.elapsed().as_secs_f64();
    let output = String::from_utf8_lossy(&std::fs::read(log).map_err(Error::file(log))?).into_owned();
    if verbose {
        say::line(format!("  {} ({seconds:.1} s, {status})\n{}", program.path.display(), output.trim_end()));
    } else if seconds > 30.0 || !status.success() {
        say::line(format!("  {:.1} s in {}, {status}", seconds, program.name));
    }
    Ok((status.success(), format!("{}\n{output}", program.path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine;

    #[test]
    fn test_programs_are_found_among_other_messages() {
        let built = |name: &str, test: bool, executable: &str| {
            format!(
                r#"{{"reason":"compiler-artifact","manifest_path":"/r/data/Cargo.toml","target":{{"name":"{name}"}},"profile":{{"test":{test}}},"executable":{executable}}}"#
            )
        };
        let messages = [
            built("store", true, r#""/r/t/store-1""#),
            built("store", false, r#""/r/t/store""#),
            built("empty", true, "null"),
            "   Compiling".into(),
            built(PATIENT, true, r#""/r/t/patient-1""#),
        ];
        let found = |name: &str, path: &str| Program { name: name.into(), path: path.into(), folder: "/r/data".into() };
        assert_eq!(programs(&messages.join("\n")), [found(PATIENT, "/r/t/patient-1"), found("store", "/r/t/store-1")]);
    }

    #[test]
    fn all_run_and_failures_are_shown_alone() {
        let logs = std::env::temp_dir().join(format!("convoke-xtask-suite-{}", std::process::id()));
        let program = |name: &str| Program { name: name.into(), path: name.into(), folder: "/".into() };
        let sh = machine::shell().unwrap();
        sh.set_var("CONVOKE_X", "y");
        let all = |names: [&str; 3]| run(&sh, &names.map(program), &logs, false);
        let suite = all(["true", "pwd", "env"]).unwrap();
        assert!(suite.passed && suite.output.contains("pwd\n/\n") && suite.output.contains("CONVOKE_X=y"), "{suite:?}");
        let suite = all(["pwd", "false", "true"]).unwrap();
        assert!(!suite.passed && suite.output == "false\n", "{suite:?}");
        assert!(all(["/no/such/program", "true", "true"]).is_err());
        std::fs::remove_dir_all(&logs).unwrap();
    }
}
