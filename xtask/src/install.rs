//! Installing what is missing, with the system's package manager; or saying how, where that is not allowed.

use xshell::{Shell, cmd};

use crate::error::{Error, Result};
use crate::machine::Machine;
use crate::needs::{Need, Survey};
use crate::say;
use crate::system::{Manager, Rights, System};

/// A command line, word by word.
pub type Line = Vec<String>;

/// What would be run to install packages.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Makes more packages known, e.g. those of EPEL.
    pub sources: Vec<Line>,
    /// Succeeds where `install` would; changes nothing.
    pub simulate: Option<Line>,
    /// Renews the lists of packages; run only where it must.
    pub refresh: Option<Line>,
    /// The installation.
    pub install: Line,
}

/// Commands that install what meets `missing`, or why there are none.
pub fn plan(system: &System, missing: &[Need]) -> Result<Plan> {
    let cannot = |reason| Error::CannotInstall { missing: names(missing), reason };
    let manager =
        system.manager.ok_or_else(|| cannot("no package manager that we know (apt, dnf, zypper, pacman, brew)"))?;
    if manager.needs_root() && system.rights == Rights::None {
        return Err(cannot("you are not root and there is no sudo"));
    }
    let packages: Vec<&str> = missing.iter().flat_map(|&need| manager.packages(need)).copied().collect();
    let line = |words: &[&str], packages: &[&str]| -> Line {
        [&as_root(system, manager), words, packages].concat().into_iter().map(str::to_owned).collect()
    };
    let apt = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-o", "DPkg::Lock::Timeout=120"];
    let plan = match manager {
        Manager::Apt => Plan {
            // Simulation needs no root, but answers the same.
            simulate: Some(line(&["apt-get", "install", "--simulate", "--no-install-recommends"], &packages)),
            refresh: Some(line(&[&apt[..], &["update"]].concat(), &[])),
            install: line(&[&apt[..], &["install", "-y", "--no-install-recommends"]].concat(), &packages),
            ..Plan::default()
        },
        Manager::Dnf => {
            let epel = [line(&["dnf", "install", "-y", "epel-release"], &[]), line(&["crb", "enable"], &[])];
            let sources = if system.enterprise && missing.contains(&Need::Hdf5) { epel.to_vec() } else { vec![] };
            Plan { sources, install: line(&["dnf", "install", "-y"], &packages), ..Plan::default() }
        }
        Manager::Zypper => Plan {
            install: line(&["zypper", "--non-interactive", "install", "--no-recommends"], &packages),
            ..Plan::default()
        },
        Manager::Pacman => Plan {
            // Arch supports no partial upgrades: new lists mean an upgrade.
            refresh: Some(line(&["pacman", "-Syu", "--noconfirm"], &[])),
            install: line(&["pacman", "-S", "--needed", "--noconfirm"], &packages),
            ..Plan::default()
        },
        Manager::Brew => Plan { install: line(&["brew", "install"], &packages), ..Plan::default() },
    };
    Ok(plan)
}

fn as_root(system: &System, manager: Manager) -> Vec<&'static str> {
    match (manager.needs_root() && system.rights == Rights::Sudo, system.unattended) {
        (false, _) => vec![],
        (true, false) => vec!["sudo"],
        // Nobody can type a password.
        (true, true) => vec!["sudo", "-n"],
    }
}

/// Lines for the reader: the commands, and when the conditional one is run.
pub fn describe(plan: &Plan) -> Vec<String> {
    let refresh = plan.refresh.iter().map(|line| format!("{}    (only if a package is not found)", line.join(" ")));
    let sources = plan.sources.iter().map(|line| line.join(" "));
    sources.chain(refresh).chain([plan.install.join(" ")]).collect()
}

/// Ways without root, for the reader: name and commands.
pub fn without_root(system: &System, missing: &[Need]) -> Vec<[String; 2]> {
    let name = |need: &Need| match need {
        Need::CCompiler | Need::CxxCompiler => ("gcc", "c-compiler cxx-compiler"),
        Need::Hdf5 => ("hdf5", "hdf5"),
        Need::Mpi => ("openmpi", "openmpi"),
        Need::Libclang => ("llvm", "libclang"),
        Need::Python => ("python", "python"),
    };
    let mut modules: Vec<_> = missing.iter().map(|need| name(need).0).collect();
    modules.dedup();
    let modules = modules.join(" ");
    let conda = missing.iter().map(|need| name(need).1).collect::<Vec<_>>().join(" ");
    let here = |there: bool| if there { " (here)" } else { "" };
    let way = |name: &str, how: String| [name.to_owned(), how];
    let spack = modules.replace("hdf5", "hdf5~mpi");
    let mut ways = vec![
        way(
            &format!("modules{}", here(system.modules)),
            format!("module avail; module load {modules}    (or their names there)"),
        ),
        way(&format!("spack{}", here(system.spack)), format!("spack install {spack} && spack load {spack}")),
        way("conda", format!("micromamba create -n convoke -c conda-forge {conda} && micromamba activate convoke")),
    ];
    if missing.contains(&Need::Mpi) || missing.contains(&Need::Libclang) {
        ways.push(way("without MPI", "cargo xtask quickstart --no-mpi    (needs neither MPI nor libclang)".into()));
    }
    if missing.contains(&Need::Hdf5) {
        let build = "cargo build --release --features hdf5-static    (needs CMake 3.26 or newer)";
        ways.push(way("HDF5 from source", build.into()));
    }
    ways
}

/// Shows what is there.
pub fn show(system: &System, survey: &Survey) {
    say::heading(&format!("This machine: {}", system.name));
    say::table(["need", "", "details"], survey.rows());
    for found in survey.found() {
        if let Some(note) = &found.note {
            say::line(format!("  note: {note}"));
        }
        found.settings.iter().for_each(|setting| say::line(format!("  set here: {}", setting.export())));
    }
}

/// Looks for `needs`, installs what is missing, and sets what the shell needs to use it. Without the `optional` ones
/// it goes on.
pub fn prepare(sh: &Shell, machine: &dyn Machine, needs: &[Need], optional: &[Need]) -> Result<()> {
    let system = System::detect(machine);
    let mut survey = Survey::take(machine, needs);
    show(&system, &survey);
    let missing = survey.missing();
    if !missing.is_empty() {
        let is_required = |missing: &[Need]| missing.iter().any(|need| !optional.contains(need));
        say::heading(&format!("Installing: {}", names(&missing)));
        if let Err(error) = plan(&system, &missing).and_then(|plan| install(sh, &plan)) {
            if is_required(&missing) {
                say::heading("Ways without root");
                say::table(["with", "commands"], without_root(&system, &missing));
                return Err(error);
            }
            say::line(format!("going on without: {error}"));
        }
        survey = Survey::take(machine, needs);
        show(&system, &survey);
        let missing = survey.missing();
        if is_required(&missing) {
            return Err(Error::StillMissing { missing: names(&missing) });
        }
    }
    for setting in survey.found().flat_map(|found| &found.settings) {
        let before = sh.var(setting.name).ok().filter(|value| setting.prepend && !value.is_empty());
        let after = before.map(|list| format!(":{list}")).unwrap_or_default();
        sh.set_var(setting.name, format!("{}{after}", setting.value));
    }
    Ok(())
}

fn install(sh: &Shell, plan: &Plan) -> Result<()> {
    for line in &plan.sources {
        run(sh, line)?;
    }
    let known = |line: &Line| {
        let (program, rest) = line.split_first().expect("a command has a program");
        cmd!(sh, "{program} {rest...}").quiet().ignore_stdout().ignore_stderr().run().is_ok()
    };
    let renewed = match (&plan.simulate, &plan.refresh) {
        (Some(simulate), Some(refresh)) if !known(simulate) => run(sh, refresh).map(|()| true)?,
        _ => false,
    };
    match (run(sh, &plan.install), &plan.refresh) {
        // Lists that are too old name packages that are gone.
        (Err(_), Some(refresh)) if !renewed => run(sh, refresh).and_then(|()| run(sh, &plan.install)),
        (done, _) => done,
    }
}

fn run(sh: &Shell, line: &Line) -> Result<()> {
    let (program, rest) = line.split_first().expect("a command has a program");
    say::run(cmd!(sh, "{program} {rest...}"))
}

fn names(needs: &[Need]) -> String {
    needs.iter().map(|need| need.name()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn system(manager: Manager, rights: Rights) -> System {
        let (name, enterprise) = (String::new(), false);
        System { name, manager: Some(manager), rights, enterprise, modules: false, spack: false, unattended: false }
    }

    #[test]
    fn debian_as_root_is_not_asked_and_gets_no_recommendations() {
        let plan = plan(&system(Manager::Apt, Rights::Root), &[Need::Hdf5, Need::Mpi, Need::Libclang]).unwrap();
        assert_eq!(
            plan.install.join(" "),
            "env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120 install -y --no-install-recommends \
             libhdf5-dev libopenmpi-dev openmpi-bin libclang-dev"
        );
        assert!(plan.simulate.unwrap().contains(&"--simulate".to_owned()));
        assert!(plan.refresh.unwrap().ends_with(&["update".to_owned()]));
    }

    #[test]
    fn sudo_only_where_needed_and_without_a_question_in_ci() {
        let mut ubuntu = system(Manager::Apt, Rights::Sudo);
        assert_eq!(plan(&ubuntu, &[Need::Mpi]).unwrap().install[0], "sudo");
        ubuntu.unattended = true;
        assert_eq!(plan(&ubuntu, &[Need::Mpi]).unwrap().install[..2], ["sudo", "-n"]);
        let brew = plan(&system(Manager::Brew, Rights::Sudo), &[Need::Mpi]).unwrap();
        assert_eq!(brew.install, ["brew", "install", "open-mpi"]);
    }

    #[test]
    fn relatives_of_rhel_need_epel_for_hdf5() {
        let mut rocky = system(Manager::Dnf, Rights::Root);
        assert!(plan(&rocky, &[Need::Hdf5]).unwrap().sources.is_empty());
        rocky.enterprise = true;
        assert_eq!(describe(&plan(&rocky, &[Need::Hdf5]).unwrap()).len(), 3);
        assert!(plan(&rocky, &[Need::Mpi]).unwrap().sources.is_empty());
    }

    #[test]
    fn without_root_there_is_no_plan_but_there_are_ways() {
        let mut cluster = system(Manager::Dnf, Rights::None);
        cluster.modules = true;
        let missing = [Need::Hdf5, Need::Mpi, Need::Libclang];
        let error = plan(&cluster, &missing).unwrap_err().to_string();
        assert_eq!(error, "HDF5 with headers, MPI, libclang missing, and you are not root and there is no sudo");
        let ways = without_root(&cluster, &missing).concat().join("\n");
        assert!(ways.contains("module load hdf5 openmpi llvm") && ways.contains("hdf5~mpi") && ways.contains("(here)"));
        assert!(!without_root(&cluster, &[Need::CCompiler]).concat().join("\n").contains("hdf5-static"));
    }
}
