//! `cargo xtask slurm-lab`: a Slurm cluster of several hosts on this machine, to try and to break.

use xshell::{Shell, cmd};

use crate::error::Result;
use crate::machine::Here;
use crate::say;
use crate::system::{Manager, Rights, System};

/// What the cluster needs on Debian and its relatives.
const PACKAGES: [&str; 6] = ["slurm-wlm", "slurm-wlm-basic-plugins", "slurm-client", "munge", "iproute2", "procps"];

/// Options of `cargo xtask slurm-lab`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cargo xtask slurm-lab up                     four hosts and a login host, in seconds (as root, on Linux)
  cargo xtask slurm-lab exec login sinfo
  cargo xtask slurm-lab exec login target/release/convoke submit job.toml --site local
  cargo xtask slurm-lab kill n2                power cut; `start n2` brings it back
  cargo xtask slurm-lab cut n2                 network cable; `join n2` plugs it in again
  cargo xtask slurm-lab down")]
pub struct Args {
    /// install, up, down, exec HOST CMD…, kill HOST, start HOST, cut HOST, join HOST.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    words: Vec<String>,
}

/// Runs the script that makes it.
pub fn slurm_lab(sh: &Shell, args: &Args) -> Result<()> {
    let words = &args.words;
    if words[0] == "install" {
        return install(sh);
    }
    Ok(cmd!(sh, "xtask/slurm-lab.sh {words...}").quiet().run()?)
}

fn install(sh: &Shell) -> Result<()> {
    // Debian starts daemons when it installs them, unless this says that it must not.
    let policy = std::path::Path::new("/usr/sbin/policy-rc.d");
    let ours = !policy.exists();
    if ours {
        sh.write_file(policy, "#!/bin/sh\nexit 101\n")?;
        cmd!(sh, "chmod +x {policy}").quiet().run()?;
    }
    say::run(cmd!(sh, "env DEBIAN_FRONTEND=noninteractive apt-get update -q"))?;
    let packages = PACKAGES;
    let done = say::run(cmd!(
        sh,
        "env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends {packages...}"
    ));
    if ours {
        sh.remove_path(policy)?;
    }
    done
}

/// Installs Slurm for the tests where that harms nobody: as root of a machine that serves nothing else. Else says why not.
pub fn offer(sh: &Shell) {
    say::heading("Slurm of the tests");
    let system = System::detect(&Here);
    if which("slurmctld") {
        return say::line("found");
    }
    if !(system.unattended && system.rights == Rights::Root && system.manager == Some(Manager::Apt)) {
        let how = "`cargo xtask slurm-lab install` as root, on Debian or Ubuntu";
        return say::line(format!("not here ({how}); tests that need it skip themselves"));
    }
    if let Err(error) = install(sh) {
        say::line(format!("skipped: {error}; tests that need it skip themselves"));
    }
}

fn which(program: &str) -> bool {
    ["/usr/sbin", "/usr/bin", "/sbin", "/usr/local/sbin"]
        .iter()
        .any(|dir| std::path::Path::new(dir).join(program).exists())
}
