//! What is particular to a cluster: how ranks are started, what must be loaded first, defaults.
//!
//! A profile is written and read by people who know the site; unlike a job file it may hold shell lines.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Environment, Token};
use crate::job::JobError;

/// Profiles that come with the program, `(name, text)`; the first is the default.
const SHIPPED: &[(&str, &str)] =
    &[("generic", include_str!("../../../sites/generic.toml")), ("local", include_str!("../../../sites/local.toml"))];

/// A cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Site {
    /// One line about it.
    pub about: String,
    /// What starts the ranks.
    pub launch: LaunchWith,
    /// `--mpi=` of srun; absent: the newest PMIx that `srun --mpi=list` names.
    pub mpi: Option<Token>,
    /// Modules that the batch script loads.
    pub modules: Vec<String>,
    /// Shell lines of the batch script, after the modules.
    pub setup: Vec<String>,
    /// Variables that the batch script sets.
    pub environment: BTreeMap<String, String>,
    /// Whether the submitter's environment goes along; otherwise the script begins with a bare one.
    pub pass_environment: bool,
    /// Partition where the job names none.
    pub partition: Option<Token>,
    /// Account where the job names none.
    pub account: Option<Token>,
    /// Cores and GPUs that ranks are bound to by the launcher.
    pub bind: bool,
}

/// What starts the ranks inside an allocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LaunchWith {
    /// `srun`, through PMI.
    #[default]
    Srun,
    /// `mpirun`, where MPI and Slurm do not know each other.
    Mpirun,
}

impl Default for Site {
    fn default() -> Self {
        Self {
            about: String::new(),
            launch: LaunchWith::Srun,
            mpi: None,
            modules: Vec::new(),
            setup: Vec::new(),
            environment: BTreeMap::new(),
            pass_environment: true,
            partition: None,
            account: None,
            bind: true,
        }
    }
}

impl Site {
    /// What jobs see of the submitter's environment.
    pub fn environment_of_jobs(&self) -> Environment {
        if self.pass_environment { Environment::Whole } else { Environment::Clean }
    }

    /// The profile of a name or a file: a path (with a `/` or ending in `.toml`), a file of that name in the user's
    /// `convoke/sites`, or one that comes with the program.
    ///
    /// # Errors
    /// [`JobError`] with line and column, or the names that are known.
    pub fn find(name: &str) -> Result<Self, JobError> {
        if name.contains('/') || name.ends_with(".toml") {
            return Self::read(Path::new(name));
        }
        let own = user_sites().map(|dir| dir.join(format!("{name}.toml")));
        if let Some(path) = own.filter(|p| p.exists()) {
            return Self::read(&path);
        }
        match SHIPPED.iter().find(|(shipped, _)| *shipped == name) {
            Some((_, text)) => Self::parse(Path::new(name), text),
            None => {
                let known = SHIPPED.iter().map(|(n, _)| *n).collect::<Vec<_>>().join(", ");
                let place = user_sites().map_or_else(String::new, |d| format!("; your own lie in {}", d.display()));
                let help = format!("known: {known}{place}");
                Err(JobError::command_line(format!("--site {name}: no such site profile"), help))
            }
        }
    }

    fn read(path: &Path) -> Result<Self, JobError> {
        let text = std::fs::read_to_string(path).map_err(|e| {
            JobError::command_line(format!("site profile {}: {e}", path.display()), "sites/generic.toml is one to copy")
        })?;
        Self::parse(path, &text)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, JobError> {
        let text = crate::JobText { path: path.to_owned(), text: text.to_owned() };
        let site: Self = text.read_toml()?;
        let name = |n: &String| !n.is_empty() && n.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if let Some(bad) = site.environment.keys().find(|n| !name(n)) {
            return Err(JobError::command_line(
                format!("site profile {}: environment variable {bad:?}", path.display()),
                "expected letters, digits and '_'",
            ));
        }
        Ok(site)
    }
}

/// `$XDG_CONFIG_HOME/convoke/sites`, by default below `~/.config`.
fn user_sites() -> Option<PathBuf> {
    let config = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
    let config = config.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".config")))?;
    Some(config.join("convoke/sites"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shipped_profiles_are_read_and_unknown_ones_refused() {
        assert!(SHIPPED.iter().all(|(name, _)| Site::find(name).is_ok()));
        let error = Site::find("mars").expect_err("no such site").to_string();
        assert!(error.contains("--site mars: no such site profile"), "{error}");
        let error = Site::parse(Path::new("s.toml"), "launchh = 3").expect_err("a typo").to_string();
        assert!(error.starts_with("s.toml:1:1: unknown field `launchh`"), "{error}");
    }
}
