//! What Convoke needs from a machine, and whether it is there.

use crate::libraries::{hdf5, libclang, mpi};
use crate::machine::Machine;

/// One thing that the build, the run or the tests need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// `cc`, which links and compiles MPI's glue.
    CCompiler,
    /// `g++`, which compiles the CUDA kernels for their tests on the CPU.
    CxxCompiler,
    /// libhdf5 with headers.
    Hdf5,
    /// mpicc and mpirun.
    Mpi,
    /// libclang, which reads mpi.h for the Rust bindings.
    Libclang,
    /// `python3 -m venv`, for the programs that check our files.
    Python,
}

impl Need {
    /// All of them.
    #[cfg(test)]
    pub const ALL: [Self; 6] =
        [Self::CCompiler, Self::CxxCompiler, Self::Hdf5, Self::Mpi, Self::Libclang, Self::Python];

    /// What the build and a run need.
    pub fn of_build(mpi: bool) -> Vec<Self> {
        let rest = if mpi { vec![Self::Mpi, Self::Libclang] } else { vec![] };
        [vec![Self::CCompiler, Self::Hdf5], rest].concat()
    }

    /// What all tests need.
    pub fn of_tests() -> Vec<Self> {
        [Self::of_build(true), vec![Self::CxxCompiler, Self::Python]].concat()
    }

    /// Its name for the reader.
    pub fn name(self) -> &'static str {
        match self {
            Self::CCompiler => "C compiler",
            Self::CxxCompiler => "C++ compiler",
            Self::Hdf5 => "HDF5 with headers",
            Self::Mpi => "MPI",
            Self::Libclang => "libclang",
            Self::Python => "Python",
        }
    }

    fn find(self, machine: &dyn Machine) -> Answer {
        match self {
            Self::CCompiler => compiler(machine, "cc"),
            Self::CxxCompiler => compiler(machine, "g++"),
            Self::Hdf5 => hdf5(machine),
            Self::Mpi => mpi(machine),
            Self::Libclang => libclang(machine),
            Self::Python => python(machine),
        }
    }
}

/// A change of the environment that a thing found needs to be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The variable.
    pub name: &'static str,
    /// Its value, or what comes before its present value.
    pub value: String,
    /// True for lists of folders.
    pub prepend: bool,
}

impl Setting {
    /// Sets a variable.
    pub fn set(name: &'static str, value: impl Into<String>) -> Self {
        Self { name, value: value.into(), prepend: false }
    }

    /// Puts a folder before a list of folders.
    pub fn prepend(name: &'static str, value: impl Into<String>) -> Self {
        Self { name, value: value.into(), prepend: true }
    }

    /// As a line for a shell.
    pub fn export(&self) -> String {
        if self.prepend {
            format!("export {0}={1}${{{0}:+:${0}}}", self.name, self.value)
        } else {
            format!("export {}={}", self.name, quoted(&self.value))
        }
    }
}

fn quoted(value: &str) -> String {
    if value.contains(' ') { format!("'{value}'") } else { value.to_owned() }
}

/// Something found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// Version and place.
    pub what: String,
    /// What must be set to use it.
    pub settings: Vec<Setting>,
    /// Why that is so, or another thing to know.
    pub note: Option<String>,
}

/// Found, or what was looked for.
pub type Answer = Result<Found, String>;

/// The answers for several needs.
#[derive(Debug)]
pub struct Survey {
    /// In the order of the needs.
    pub answers: Vec<(Need, Answer)>,
}

impl Survey {
    /// Looks for all of `needs`.
    pub fn take(machine: &dyn Machine, needs: &[Need]) -> Self {
        Self { answers: needs.iter().map(|&need| (need, need.find(machine))).collect() }
    }

    /// What is not there.
    pub fn missing(&self) -> Vec<Need> {
        self.answers.iter().filter(|(_, answer)| answer.is_err()).map(|(need, _)| *need).collect()
    }

    /// Everything that was found.
    pub fn found(&self) -> impl Iterator<Item = &Found> {
        self.answers.iter().filter_map(|(_, answer)| answer.as_ref().ok())
    }

    /// Rows for the reader: need, "yes" or "missing", details.
    pub fn rows(&self) -> impl Iterator<Item = [String; 3]> {
        self.answers.iter().map(|(need, answer)| {
            let (state, details) = match answer {
                Ok(found) => ("found", found.what.clone()),
                Err(looked_for) => ("missing", looked_for.clone()),
            };
            [need.name().to_owned(), state.to_owned(), details]
        })
    }
}

fn compiler(machine: &dyn Machine, name: &str) -> Answer {
    let path = machine.program(name).ok_or(format!("no {name} on the path"))?;
    let version = machine.first_line(name, &["--version"]).unwrap_or_default();
    Ok(Found { what: format!("{version}, {}", path.display()), ..Found::default() })
}

fn python(machine: &dyn Machine) -> Answer {
    let path = machine.program("python3").ok_or("no python3 on the path")?;
    let version = machine.first_line("python3", &["--version"]).unwrap_or_default();
    // Debian ships python3 without the two modules that make an environment.
    machine.output("python3", &["-c", "import venv, ensurepip"]).ok_or(format!("{version} has no module venv"))?;
    Ok(Found { what: format!("{version}, {}", path.display()), ..Found::default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::invented::Invented;

    #[test]
    fn on_an_empty_machine_everything_is_missing() {
        let survey = Survey::take(&Invented::default(), &Need::of_tests());
        assert_eq!(survey.missing(), Need::of_tests());
        assert!(survey.rows().all(|[_, state, details]| state == "missing" && !details.is_empty()));
    }

    #[test]
    fn without_mpi_neither_mpi_nor_libclang_is_needed() {
        assert_eq!(Need::of_build(false), [Need::CCompiler, Need::Hdf5]);
        assert!(Need::of_build(true).contains(&Need::Libclang));
    }

    #[test]
    fn debians_python_without_venv_is_not_enough() {
        let machine = Invented::default().program("python3").answer("python3 --version", "Python 3.11.2");
        assert_eq!(python(&machine).unwrap_err(), "Python 3.11.2 has no module venv");
        let machine = machine.answer("python3 -c import venv, ensurepip", "");
        assert_eq!(python(&machine).unwrap().what, "Python 3.11.2, /usr/bin/python3");
    }

    #[test]
    fn settings_are_lines_for_a_shell() {
        assert_eq!(Setting::set("HDF5_DIR", "/opt/h").export(), "export HDF5_DIR=/opt/h");
        assert_eq!(Setting::set("X", "-I/a -I/b").export(), "export X='-I/a -I/b'");
        assert_eq!(Setting::prepend("PATH", "/m/bin").export(), "export PATH=/m/bin${PATH:+:$PATH}");
    }
}
