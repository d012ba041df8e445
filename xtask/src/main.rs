//! `cargo xtask`: set-up, tests and benchmarks of Convoke on a bare machine.
//!
//! This program needs no system library to build: what it looks for, it may find missing.
#![cfg_attr(test, allow(clippy::unwrap_used))]

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod bench;
mod bundle;
mod checks;
mod elf;
mod error;
mod faults;
mod install;
mod libraries;
mod licences;
mod machine;
mod needs;
mod python;
mod quickstart;
mod say;
mod slurm_lab;
mod steps;
mod suite;
mod system;

use error::Result;

/// Set-up, tests and benchmarks of Convoke.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 100, after_help = EXAMPLES)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "Examples:
  cargo xtask quickstart           install what is missing, build, run a first job
  cargo xtask quickstart --print   only say what is there and what would be done
  cargo xtask test                 everything that continuous integration checks
  cargo xtask faults               kill, cut off and damage runs, and count how many are lost";

#[derive(Debug, Subcommand)]
enum Command {
    /// Install what is missing, build, and run a first job with pictures.
    Quickstart(quickstart::Args),
    /// Run every check: format, lints, tests, build without MPI, licences, documentation.
    Test(checks::Args),
    /// Check the licence of every dependency against the list of those that fit.
    Licences(licences::Args),
    /// Pack what a machine with only a CUDA driver needs to test and measure the GPU code.
    GpuBundle(bundle::Args),
    /// Inject faults into runs of the program and count what came of them.
    Faults(faults::Args),
    /// A Slurm cluster of several hosts on this machine: up, down, exec, kill, start, cut, join.
    SlurmLab(slurm_lab::Args),
    /// Measure workloads beside other programs (Python peers).
    Bench(bench::Args),
}

fn main() -> ExitCode {
    match dispatch(&Args::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say::error(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: &Command) -> Result<()> {
    let sh = machine::shell()?;
    match command {
        Command::Quickstart(args) => quickstart::quickstart(&sh, args),
        Command::Test(args) => checks::test(&sh, args),
        Command::Licences(_) => licences::licences(&sh),
        Command::GpuBundle(args) => bundle::gpu_bundle(&sh, args),
        Command::Faults(args) => faults::faults(&sh, args),
        Command::SlurmLab(args) => slurm_lab::slurm_lab(&sh, args),
        Command::Bench(args) => bench::bench(&sh, args),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        <Args as clap::CommandFactory>::command().debug_assert();
    }
}
