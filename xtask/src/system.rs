//! The system: its name, its package manager, and what its packages are called.

use std::path::Path;

use crate::machine::Machine;
use crate::needs::Need;

/// A package manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manager {
    /// Debian, Ubuntu.
    Apt,
    /// Fedora, Rocky, Alma, RHEL.
    Dnf,
    /// openSUSE, SLES.
    Zypper,
    /// Arch.
    Pacman,
    /// macOS, and Linux without root.
    Brew,
}

/// Whether packages of the system can be installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rights {
    /// We are root.
    Root,
    /// There is sudo.
    Sudo,
    /// Neither.
    None,
}

/// What installation has to know.
#[derive(Debug, Clone)]
pub struct System {
    /// For the reader, e.g. "Debian GNU/Linux 12 (bookworm)".
    pub name: String,
    /// The package manager, if it is one that we know.
    pub manager: Option<Manager>,
    /// Rights to use it.
    pub rights: Rights,
    /// A relative of RHEL, whose HDF5 is in EPEL.
    pub enterprise: bool,
    /// Environment modules (`module load`), as on clusters.
    pub modules: bool,
    /// Spack is on the path.
    pub spack: bool,
    /// Nobody can answer a question (continuous integration).
    pub unattended: bool,
}

impl System {
    /// Looks at a machine.
    pub fn detect(machine: &dyn Machine) -> Self {
        let release = machine.text(Path::new("/etc/os-release")).unwrap_or_default();
        let key = |name| value(&release, name);
        let relatives = format!("{} {}", key("ID").unwrap_or_default(), key("ID_LIKE").unwrap_or_default());
        let is_fedora = key("ID").is_some_and(|id| id == "fedora");
        let root = machine.first_line("id", &["-u"]).is_some_and(|id| id == "0");
        let rights = match (root, machine.program("sudo")) {
            (true, _) => Rights::Root,
            (false, Some(_)) => Rights::Sudo,
            (false, None) => Rights::None,
        };
        Self {
            name: key("PRETTY_NAME").or_else(|| machine.first_line("uname", &["-sr"])).unwrap_or("unknown".into()),
            manager: Manager::detect(machine, rights),
            rights,
            enterprise: !is_fedora && relatives.split(' ').any(|id| matches!(id, "rhel" | "centos")),
            modules: ["LMOD_CMD", "MODULESHOME"].iter().any(|name| machine.variable(name).is_some()),
            spack: machine.program("spack").is_some(),
            unattended: machine.variable("CI").is_some(),
        }
    }
}

impl Manager {
    /// The first one that is there and may be used; else the first that is there.
    fn detect(machine: &dyn Machine, rights: Rights) -> Option<Self> {
        let all = [Self::Apt, Self::Dnf, Self::Zypper, Self::Pacman, Self::Brew];
        let mut present = all.into_iter().filter(|manager| machine.program(manager.program()).is_some());
        let usable = present.clone().find(|manager| rights != Rights::None || !manager.needs_root());
        usable.or_else(|| present.next())
    }

    /// Its program.
    pub fn program(self) -> &'static str {
        match self {
            Self::Apt => "apt-get",
            Self::Dnf => "dnf",
            Self::Zypper => "zypper",
            Self::Pacman => "pacman",
            Self::Brew => "brew",
        }
    }

    /// Homebrew refuses to run as root; all others need it.
    pub fn needs_root(self) -> bool {
        self != Self::Brew
    }

    /// The packages that meet a need.
    pub fn packages(self, need: Need) -> &'static [&'static str] {
        use Need::*;
        match self {
            Self::Apt => match need {
                CCompiler => &["gcc", "libc6-dev"],
                CxxCompiler => &["g++"],
                Hdf5 => &["libhdf5-dev"],
                Mpi => &["libopenmpi-dev", "openmpi-bin"],
                Libclang => &["libclang-dev"],
                Python => &["python3", "python3-venv"],
            },
            Self::Dnf => match need {
                CCompiler => &["gcc"],
                CxxCompiler => &["gcc-c++"],
                Hdf5 => &["hdf5-devel"],
                Mpi => &["openmpi", "openmpi-devel"],
                Libclang => &["clang-devel"],
                Python => &["python3", "python3-pip"],
            },
            Self::Zypper => match need {
                CCompiler => &["gcc"],
                CxxCompiler => &["gcc-c++"],
                Hdf5 => &["hdf5-devel"],
                Mpi => &["openmpi4", "openmpi4-devel"],
                Libclang => &["clang-devel"],
                Python => &["python3", "python3-pip"],
            },
            Self::Pacman => match need {
                CCompiler | CxxCompiler => &["gcc"],
                Hdf5 => &["hdf5"],
                Mpi => &["openmpi"],
                Libclang => &["clang"],
                Python => &["python"],
            },
            Self::Brew => match need {
                CCompiler | CxxCompiler => &["gcc"],
                Hdf5 => &["hdf5"],
                Mpi => &["open-mpi"],
                Libclang => &["llvm"],
                Python => &["python"],
            },
        }
    }
}

/// The value of a key in os-release(5).
fn value(release: &str, key: &str) -> Option<String> {
    let line = release.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
    Some(line.trim().trim_matches(['"', '\'']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::invented::Invented;

    const ROCKY: &str =
        "NAME=\"Rocky Linux\"\nID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\nPRETTY_NAME=\"Rocky Linux 9.4\"\n";

    #[test]
    fn every_manager_has_packages_for_every_need() {
        for manager in [Manager::Apt, Manager::Dnf, Manager::Zypper, Manager::Pacman, Manager::Brew] {
            for need in Need::ALL {
                assert!(!manager.packages(need).is_empty(), "{manager:?} {need:?}");
            }
        }
    }

    #[test]
    fn debian_as_root() {
        let machine = Invented::default()
            .file("/etc/os-release", "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian\n")
            .program("apt-get")
            .answer("id -u", "0\n");
        let system = System::detect(&machine);
        assert_eq!(system.name, "Debian GNU/Linux 12 (bookworm)");
        assert_eq!((system.manager, system.rights, system.enterprise), (Some(Manager::Apt), Rights::Root, false));
        assert!(!system.modules && !system.spack && !system.unattended);
    }

    #[test]
    fn relatives_of_rhel_are_told_from_fedora() {
        let rocky = Invented::default().file("/etc/os-release", ROCKY).program("dnf").program("sudo");
        let system = System::detect(&rocky.answer("id -u", "1000"));
        assert_eq!((system.manager, system.rights, system.enterprise), (Some(Manager::Dnf), Rights::Sudo, true));
        let fedora = Invented::default().file("/etc/os-release", "ID=fedora\n").program("dnf");
        assert!(!System::detect(&fedora).enterprise);
    }

    #[test]
    fn without_root_homebrew_comes_before_apt() {
        let machine = Invented::default().program("apt-get").program("brew");
        assert_eq!(System::detect(&machine).manager, Some(Manager::Brew));
        let machine = machine.program("sudo");
        assert_eq!(System::detect(&machine).manager, Some(Manager::Apt));
    }

    #[test]
    fn a_cluster_without_root() {
        let machine = Invented::default().program("dnf").program("spack").variable("LMOD_CMD", "/opt/lmod");
        let system = System::detect(&machine);
        assert_eq!((system.manager, system.rights), (Some(Manager::Dnf), Rights::None));
        assert!(system.modules && system.spack);
    }
}
