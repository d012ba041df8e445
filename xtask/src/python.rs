//! A Python environment inside the project, for programs that our files and speeds are compared with.

use std::path::{Path, PathBuf};

use xshell::{Shell, cmd};

use crate::error::{Error, Result};
use crate::machine::{Here, Machine};
use crate::say;

/// Wheels that serve one purpose; without them the others still do.
#[derive(Debug)]
pub struct Group {
    /// What pip is asked for.
    pub wheels: &'static [&'static str],
    /// What they are for, as in "to ...".
    pub purpose: &'static str,
}

/// An environment that exists.
#[derive(Debug)]
pub struct Environment {
    /// Its interpreter, an absolute path.
    pub python: PathBuf,
    folder: PathBuf,
    /// Wheels that could not be installed.
    pub absent: Vec<&'static str>,
}

impl Environment {
    /// A folder of an installed wheel.
    pub fn package_folder(&self, name: &str) -> Option<PathBuf> {
        let versions = Here.entries(&self.folder.join("lib"));
        versions.into_iter().map(|version| version.join("site-packages").join(name)).find(|path| path.is_dir())
    }
}

/// Makes the environment at `folder` (below the shell's) and installs what it lacks; errors without a usable Python.
pub fn environment(sh: &Shell, folder: &Path, groups: &'static [Group]) -> Result<Environment> {
    let folder = sh.current_dir().join(folder);
    let python = folder.join("bin/python3");
    // A half-made environment, or one whose Python was upgraded away, is made again.
    if !answers(sh, &python) {
        if Here.program("python3").is_none() {
            return Err(Error::Python { reason: "there is no python3".into() });
        }
        say::run(cmd!(sh, "python3 -m venv --clear {folder}"))
            .map_err(|error| Error::Python { reason: error.to_string() })?;
    }
    let mut environment = Environment { python, folder, absent: Vec::new() };
    let mark = environment.folder.join("convoke-wheels.txt");
    let mut installed = sh.read_file(&mark).unwrap_or_default();
    for group in groups {
        let line = group.wheels.join(" ");
        if installed.lines().any(|done| done == line) {
            continue;
        }
        let (python, wheels) = (&environment.python, group.wheels);
        // Wheels only: nobody wants to compile VTK.
        let pip =
            cmd!(sh, "{python} -m pip install --quiet --no-input --disable-pip-version-check --only-binary :all:");
        match say::run(pip.args(wheels)) {
            Ok(()) => installed.push_str(&format!("{line}\n")),
            Err(_) => {
                say::line(format!("skipped: {line} (to {}): pip could not install it", group.purpose));
                environment.absent.extend(group.wheels);
            }
        }
    }
    sh.write_file(&mark, installed)?;
    say::line(format!("  {}", environment.python.display()));
    Ok(environment)
}

fn answers(sh: &Shell, python: &Path) -> bool {
    python.exists() && cmd!(sh, "{python} -m pip --version").quiet().ignore_stdout().ignore_stderr().run().is_ok()
}
