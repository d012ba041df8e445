//! Running command lines one after the other: quiet while they pass, everything when one fails.
//! Test programs run side by side, because many of them wait for a queue, a clock or a rank.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use xshell::{Shell, cmd};

use crate::error::{Error, Result};
use crate::say;
use crate::suite;

/// One command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// For the reader and the name of the log.
    pub name: &'static str,
    /// Program and arguments, separated by single blanks.
    pub line: &'static str,
    /// Environment on top of the shell's.
    pub env: &'static [(&'static str, &'static str)],
    /// Whether cargo builds test programs here and tells of them in JSON; they then run side by side.
    pub suite: bool,
}

/// A step that has passed.
struct Passed {
    step: &'static str,
    seconds: f64,
    outcome: String,
}

/// Runs the steps in order, up to the first that fails; at the end, a table.
pub fn run(sh: &Shell, steps: &[Step], logs: &Path, verbose: bool) -> Result<()> {
    std::fs::create_dir_all(logs).map_err(Error::file(logs))?;
    let began = Instant::now();
    let mut passed = Vec::new();
    for (number, step) in steps.iter().enumerate() {
        say::heading(&format!("[{}/{}] {}", number + 1, steps.len(), step.name));
        match run_one(sh, step, logs, verbose) {
            Ok(done) => {
                say::line(format!("passed in {:.1} s{}", done.seconds, comma(&done.outcome)));
                passed.push(done);
            }
            Err(error) => {
                summary(&passed, steps, began);
                return Err(error);
            }
        }
    }
    summary(&passed, steps, began);
    Ok(())
}

fn run_one(sh: &Shell, step: &Step, logs: &Path, verbose: bool) -> Result<Passed> {
    let path = logs.join(format!("{}.log", step.name.replace(' ', "-")));
    let words: Vec<&str> = step.line.split(' ').collect();
    let (program, rest) = words.split_first().expect("a line has a program");
    let shown: Vec<_> = step.env.iter().map(|(name, value)| format!("{name}='{value}' ")).collect();
    say::line(format!("$ {}{}", shown.concat(), step.line));
    let mut command = Command::from(cmd!(sh, "{program} {rest...}").envs(step.env.iter().copied()));
    command.stdin(Stdio::null());
    // Both streams into one file, in the order of time.
    let log = File::create(&path).map_err(Error::file(&path))?;
    if !verbose {
        command.stderr(log.try_clone().map_err(Error::file(&path))?);
    }
    if !verbose || step.suite {
        command.stdout(log);
    }
    let began = Instant::now();
    let mut passed = command.status().map_err(Error::file(Path::new(program)))?.success();
    let mut output = String::from_utf8_lossy(&read(&path)?).into_owned();
    if passed && step.suite {
        let tests = suite::run(sh, &suite::programs(&output), &logs.join("tests"), verbose)?;
        (passed, output) = (tests.passed, tests.output);
    }
    let seconds = began.elapsed().as_secs_f64();
    if !passed {
        say::line(output.trim_end());
        return Err(Error::Step { step: step.name, seconds, line: step.line.to_owned(), log: path });
    }
    let skipped = skipped(&output);
    skipped.iter().for_each(|(reason, n)| say::line(format!("  {n} x {reason}")));
    Ok(Passed { step: step.name, seconds, outcome: outcome(&output, skipped.values().sum()) })
}

fn read(path: &PathBuf) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(Error::file(path))
}

fn summary(passed: &[Passed], steps: &[Step], began: Instant) {
    say::heading("Summary");
    let rows = steps.iter().enumerate().map(|(i, step)| match passed.get(i) {
        Some(done) => [done.step.to_owned(), "passed".into(), format!("{:.1}", done.seconds), done.outcome.clone()],
        None if i == passed.len() => [step.name.to_owned(), "FAILED".into(), String::new(), String::new()],
        None => [step.name.to_owned(), "not run".into(), String::new(), String::new()],
    });
    say::table(["step", "state", "seconds", ""], rows);
    say::line(format!("\n  {:.0} s in all", began.elapsed().as_secs_f64()));
}

fn comma(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(", {text}") }
}

/// "312 tests, 3 skipped", from all the `test result: ok. 12 passed; …` lines; empty if there are none.
fn outcome(output: &str, skipped: usize) -> String {
    let counts = output.lines().filter_map(|line| line.trim().strip_prefix("test result: ok. ")?.split(' ').next());
    let passed: usize = counts.filter_map(|n| n.parse::<usize>().ok()).sum();
    match (passed, skipped) {
        (0, _) => String::new(),
        (_, 0) => format!("{passed} tests"),
        _ => format!("{passed} tests, {skipped} of them skipped"),
    }
}

/// The reasons that tests give for skipping themselves, with how often.
fn skipped(output: &str) -> BTreeMap<String, usize> {
    let mut reasons = BTreeMap::new();
    for line in output.lines() {
        if let Some(at) = line.find("skipped: ") {
            *reasons.entry(line[at..].to_owned()).or_default() += 1;
        }
    }
    reasons
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine;

    const OUTPUT: &str = "running 2 tests\ntest a ... skipped: no GPU\nok\ntest b ... ok\n\n\
        test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\n\
        skipped: no GPU\nskipped: no vtk\n\
        test result: ok. 40 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s\n";

    #[test]
    fn tests_and_skips_are_counted() {
        let reasons = skipped(OUTPUT);
        assert_eq!(reasons.get("skipped: no GPU"), Some(&2));
        assert_eq!(reasons.get("skipped: no vtk"), Some(&1));
        assert_eq!(outcome(OUTPUT, 3), "42 tests, 3 of them skipped");
        assert_eq!(outcome("Finished", 0), "");
    }

    #[test]
    fn the_first_failure_stops_and_is_named() {
        let logs = std::env::temp_dir().join(format!("convoke-xtask-steps-{}", std::process::id()));
        let step = |name, line| Step { name, line, env: &[("CONVOKE_X", "1")], suite: false };
        let steps = [step("good", "true"), step("bad one", "false"), step("never", "no-such-program")];
        let error = run(&machine::shell().unwrap(), &steps, &logs, false).unwrap_err();
        assert!(matches!(&error, Error::Step { step: "bad one", .. }), "{error}");
        assert!(logs.join("bad-one.log").is_file() && !logs.join("never.log").exists());
        std::fs::remove_dir_all(&logs).unwrap();
    }
}
