//! What detection may ask of a machine: this one, or an invented one in tests.

use std::path::{Path, PathBuf};
use std::process::Command;

use xshell::Shell;

use crate::error::Result;

/// A machine that is looked at, never changed.
pub trait Machine {
    /// Where a program of this name is on the path.
    fn program(&self, name: &str) -> Option<PathBuf>;
    /// What a program prints, if it exists and succeeds.
    fn output(&self, program: &str, args: &[&str]) -> Option<String>;
    /// An environment variable that is not empty.
    fn variable(&self, name: &str) -> Option<String>;
    /// A text file.
    fn text(&self, path: &Path) -> Option<String>;
    /// The entries of a folder, sorted; none if there is no such folder.
    fn entries(&self, folder: &Path) -> Vec<PathBuf>;
    /// True for a file or a folder that exists.
    fn exists(&self, path: &Path) -> bool;

    /// The first line of a program's output.
    fn first_line(&self, program: &str, args: &[&str]) -> Option<String> {
        Some(self.output(program, args)?.lines().next()?.trim().to_owned())
    }
}

/// The machine that this runs on.
pub struct Here;

impl Machine for Here {
    fn program(&self, name: &str) -> Option<PathBuf> {
        which::which(name).ok()
    }

    fn output(&self, program: &str, args: &[&str]) -> Option<String> {
        let output = Command::new(program).args(args).env("LC_ALL", "C").output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok().filter(|value| !value.is_empty())
    }

    fn text(&self, path: &Path) -> Option<String> {
        std::fs::read_to_string(path).ok()
    }

    fn entries(&self, folder: &Path) -> Vec<PathBuf> {
        let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
        let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        paths
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }
}

/// The root of the repository.
pub fn root() -> PathBuf {
    // Cargo says where the crate is now; where it was compiled is second best.
    let here = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&here).parent().expect("the crate's folder is inside the repository").to_owned()
}

/// A shell in the root of the repository.
pub fn shell() -> Result<Shell> {
    let sh = Shell::new()?;
    sh.change_dir(root());
    sh.set_var("CARGO_TERM_COLOR", if crate::say::colours() { "always" } else { "never" });
    Ok(sh)
}

#[cfg(test)]
pub mod invented {
    //! A machine made of maps.

    use super::{Machine, Path, PathBuf};
    use std::collections::BTreeMap;

    /// Empty at first: nothing is installed.
    #[derive(Default)]
    pub struct Invented {
        outputs: BTreeMap<String, String>,
        variables: BTreeMap<String, String>,
        files: BTreeMap<PathBuf, String>,
    }

    impl Invented {
        /// Adds a program at `/usr/bin`.
        pub fn program(self, name: &str) -> Self {
            self.file(&format!("/usr/bin/{name}"), "")
        }

        /// Adds the answer to a command line.
        pub fn answer(mut self, line: &str, output: &str) -> Self {
            self.outputs.insert(line.to_owned(), output.to_owned());
            self
        }

        /// Sets an environment variable.
        pub fn variable(mut self, name: &str, value: &str) -> Self {
            self.variables.insert(name.to_owned(), value.to_owned());
            self
        }

        /// Adds a file.
        pub fn file(mut self, path: &str, text: &str) -> Self {
            self.files.insert(path.into(), text.to_owned());
            self
        }
    }

    impl Machine for Invented {
        fn program(&self, name: &str) -> Option<PathBuf> {
            Some(Path::new("/usr/bin").join(name)).filter(|path| self.files.contains_key(path))
        }

        fn output(&self, program: &str, args: &[&str]) -> Option<String> {
            self.outputs.get(&[&[program], args].concat().join(" ")).cloned()
        }

        fn variable(&self, name: &str) -> Option<String> {
            self.variables.get(name).cloned()
        }

        fn text(&self, path: &Path) -> Option<String> {
            self.files.get(path).cloned()
        }

        fn entries(&self, folder: &Path) -> Vec<PathBuf> {
            let child = |path: &PathBuf| {
                let first = path.strip_prefix(folder).ok()?.components().next()?;
                Some(folder.join(first))
            };
            let mut entries: Vec<_> = self.files.keys().filter_map(child).collect();
            entries.dedup();
            entries
        }

        fn exists(&self, path: &Path) -> bool {
            self.files.keys().any(|file| file.starts_with(path))
        }
    }
}
