//! `cargo xtask quickstart`: from a bare machine to the pictures of a first job.

use std::path::Path;

use xshell::{Shell, cmd};

use crate::error::Result;
use crate::install;
use crate::machine::Here;
use crate::needs::{Need, Survey};
use crate::say;
use crate::system::{Rights, System};

/// The first job: needs no data, takes seconds, has an exact answer to compare with.
const JOB: &str = "jobs/tomography/shepp-logan.toml";

/// Options of `cargo xtask quickstart`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cargo xtask quickstart             install, build, run, pictures
  cargo xtask quickstart --print     change nothing: say what is there and what would be done
  cargo xtask quickstart --no-mpi    one process only; needs neither MPI nor libclang")]
pub struct Args {
    /// Change nothing: say what is there and what would be done.
    #[arg(long)]
    print: bool,
    /// Build without MPI.
    #[arg(long)]
    no_mpi: bool,
}

/// Installs, builds, runs; or only says so.
pub fn quickstart(sh: &Shell, args: &Args) -> Result<()> {
    let needs = Need::of_build(!args.no_mpi);
    let run_dir = free_run_dir(&sh.current_dir());
    if args.print {
        print(&needs, &commands(args.no_mpi, &run_dir));
        return Ok(());
    }
    install::prepare(sh, &Here, &needs, &[])?;
    say::heading("Building, running, drawing");
    for words in commands(args.no_mpi, &run_dir) {
        let (program, rest) = words.split_first().expect("a command has a program");
        say::run(cmd!(sh, "{program} {rest...}"))?;
    }
    show_results(&sh.current_dir(), &run_dir);
    say::heading("Next");
    if !args.no_mpi {
        say::line(format!("  target/release/convoke run {JOB} -n 4    the same on 4 ranks"));
    }
    say::line("  cargo xtask test    every check of this project on this machine");
    Ok(())
}

fn print(needs: &[Need], commands: &[Vec<String>]) {
    let system = System::detect(&Here);
    let survey = Survey::take(&Here, needs);
    let missing = survey.missing();
    install::show(&system, &survey);
    if missing.is_empty() {
        say::line("\n  Nothing is missing.");
    } else {
        say::heading("Would install");
        match install::plan(&system, &missing) {
            Ok(plan) => install::describe(&plan).iter().for_each(|line| say::line(format!("  $ {line}"))),
            Err(error) => say::line(format!("  nothing: {error}")),
        }
    }
    if !missing.is_empty() && (system.rights == Rights::None || system.modules || system.spack) {
        say::heading("Ways without root");
        say::table(["with", "commands"], install::without_root(&system, &missing));
    }
    say::heading("Would build and run");
    commands.iter().for_each(|words| say::line(format!("  $ {}", words.join(" "))));
    say::line("\n  (--print: nothing was changed)");
}

/// Build, run, analyse.
fn commands(no_mpi: bool, run_dir: &str) -> Vec<Vec<String>> {
    let build = if no_mpi { "cargo build --release --no-default-features" } else { "cargo build --release" };
    let convoke = "target/release/convoke";
    let lines =
        [build.to_owned(), format!("{convoke} run {JOB} --dir {run_dir}"), format!("{convoke} analyse {run_dir}")];
    lines.iter().map(|line| line.split(' ').map(str::to_owned).collect()).collect()
}

/// `runs/quickstart-<n>` with the first n that is free.
fn free_run_dir(root: &Path) -> String {
    let names = (1..).map(|n| format!("runs/quickstart-{n}"));
    names.into_iter().find(|name| !root.join(name).exists()).expect("an endless list")
}

fn show_results(root: &Path, run_dir: &str) {
    say::heading("Done");
    say::line(format!("  result    {run_dir}/result.h5"));
    let pictures = Path::new(run_dir).join("pictures");
    let files = crate::machine::Machine::entries(&Here, &root.join(&pictures));
    let images = files.iter().filter(|path| path.extension().is_some_and(|e| e == "png"));
    images
        .filter_map(|path| path.file_name())
        .for_each(|name| say::line(format!("  picture   {}", pictures.join(name).display())));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn build_run_analyse() {
        let lines: Vec<_> = commands(false, "runs/q").iter().map(|words| words.join(" ")).collect();
        let run = "target/release/convoke run jobs/tomography/shepp-logan.toml --dir runs/q";
        assert_eq!(lines, ["cargo build --release", run, "target/release/convoke analyse runs/q"]);
        assert!(commands(true, "runs/q")[0].contains(&"--no-default-features".to_owned()));
    }

    #[test]
    fn the_first_job_exists() {
        assert!(crate::machine::root().join(JOB).is_file());
    }

    #[test]
    fn the_run_directory_is_new() {
        let name = free_run_dir(&crate::machine::root());
        assert!(name.starts_with("runs/quickstart-") && !crate::machine::root().join(name).exists());
    }
}
