//! What killed launchers leave behind: Open MPI's session folders and shared-memory segments.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

/// Begins the names of our folders; the number of the process that made them follows.
const PREFIX: &str = "convoke-";
/// A segment that no process maps may be about to be mapped.
const YOUNG: Duration = Duration::from_secs(120);

/// Where session files go: the job's own folder, where the site gives it one. Sockets lie there, whose paths must be short.
fn base() -> PathBuf {
    std::env::var_os("SLURM_TMPDIR").map_or_else(std::env::temp_dir, PathBuf::from)
}

/// A folder for the session files of one launch, removed at its end. Nobody can have made it before us, nor look into it.
pub(super) fn scratch() -> std::io::Result<TempDir> {
    tempfile::Builder::new().prefix(&format!("{PREFIX}{}-", std::process::id())).tempdir_in(base())
}

/// Removes what our own dead launches left on this host; the paths that went.
pub fn sweep() -> Vec<PathBuf> {
    let mine = rustix::process::geteuid().as_raw();
    let is_mine = |path: &Path| fs::symlink_metadata(path).is_ok_and(|m| m.uid() == mine);
    let sessions = entries(&base()).into_iter().filter(|path| {
        let pid = name(path).strip_prefix(PREFIX).and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) && is_mine(path)
    });
    let mut gone: Vec<PathBuf> = sessions.filter(|path| fs::remove_dir_all(path).is_ok()).collect();
    let segments: Vec<PathBuf> = entries(Path::new("/dev/shm"))
        .into_iter()
        .filter(|path| name(path).starts_with("vader_segment.") && is_mine(path) && is_old(path))
        .collect();
    if !segments.is_empty() {
        let mapped = mapped();
        let free = segments.into_iter().filter(|path| !mapped.contains(&name(path)));
        gone.extend(free.filter(|path| fs::remove_file(path).is_ok()));
    }
    gone
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()).collect()
}

fn name(path: &Path) -> String {
    path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
}

fn is_old(path: &Path) -> bool {
    let age = fs::metadata(path).and_then(|m| m.modified()).ok().and_then(|t| t.elapsed().ok());
    age.is_some_and(|age| age > YOUNG)
}

/// All memory maps of the processes that may be looked at, as one text.
fn mapped() -> String {
    entries(Path::new("/proc")).iter().filter_map(|p| fs::read_to_string(p.join("maps")).ok()).collect()
}
