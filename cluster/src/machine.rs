//! What this host offers: cores, memory, disk.

use std::path::Path;

/// Name of this host.
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Cores that this process may use (affinity and control groups counted in).
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Bytes of memory that are free for use here: of the host, or of the control group if less.
pub fn available_memory() -> u64 {
    let Some(system) = system() else { return u64::MAX };
    let host = system.available_memory();
    system.cgroup_limits().map_or(host, |limits| host.min(limits.free_memory))
}

/// Bytes of memory in this host.
pub fn total_memory() -> u64 {
    system().map_or(0, |system| system.total_memory())
}

fn system() -> Option<sysinfo::System> {
    let mut system = sysinfo::System::new().ok()?;
    system.refresh_memory();
    Some(system)
}

/// Largest resident size of this process so far, in bytes.
pub fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    line.and_then(|l| l.trim().trim_end_matches(" kB").parse::<u64>().ok()).map_or(0, |kib| kib * 1024)
}

/// Version of the NVIDIA driver, if one is loaded.
pub fn cuda_driver() -> Option<String> {
    let text = std::fs::read_to_string("/proc/driver/nvidia/version").ok()?;
    let is_version = |word: &&str| word.contains('.') && word.chars().all(|c| c.is_ascii_digit() || c == '.');
    text.lines().next()?.split_whitespace().find(is_version).map(str::to_owned)
}

/// Bytes free for this user on the file system of `dir` (or of its nearest existing parent).
pub fn free_disk(dir: &Path) -> u64 {
    let existing = dir.ancestors().find(|d| d.exists()).unwrap_or(Path::new("."));
    rustix::fs::statvfs(existing).map_or(u64::MAX, |s| s.f_bavail * s.f_frsize)
}

/// A byte count for people, in binary units.
pub fn human_bytes(bytes: u64) -> String {
    bytesize::ByteSize(bytes).display().iec().to_string()
}
