//! Files of a checkpoint, found and spoilt.

use std::fs;
use std::path::{Path, PathBuf};

/// Committed checkpoints of a run: step and directory, oldest first.
pub fn committed(run: &Path) -> Vec<(u64, PathBuf)> {
    let entries = fs::read_dir(run.join("ckpt")).into_iter().flatten().flatten();
    let mut found: Vec<(u64, PathBuf)> = entries
        .filter(|e| e.path().extension().is_none_or(|x| x.to_string_lossy().starts_with('e')))
        .filter(|e| e.path().join("manifest.json").exists())
        .filter_map(|e| {
            let name = e.file_name().into_string().ok()?;
            let (step, _) = name.strip_prefix('s')?.split_once(".e")?;
            Some((step.parse().ok()?, e.path()))
        })
        .collect();
    found.sort();
    found
}

/// Checkpoints that were begun and not committed.
pub(super) fn begun(run: &Path) -> bool {
    let entries = fs::read_dir(run.join("ckpt")).into_iter().flatten().flatten();
    entries.into_iter().any(|e| {
        let name = e.file_name().to_string_lossy().into_owned();
        name.starts_with('s') && !name.contains(".bad") && e.path().is_dir() && !e.path().join("manifest.json").exists()
    })
}

/// Spoils a file of the newest checkpoint, or of all; the checkpoints that were hit.
pub(super) fn spoil(
    run: &Path,
    what: &str,
    how: &str,
    all: bool,
    random: &mut fastrand::Rng,
) -> Result<Option<Vec<PathBuf>>, String> {
    let found = committed(run);
    let first = if all { 0 } else { found.len().saturating_sub(1) };
    for (_, dir) in &found[first..] {
        let mut files: Vec<PathBuf> = fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()).collect();
        files.retain(|f| (f.extension().is_some_and(|x| x == "h5")) == (what == "shard") && !f.ends_with(".tmp"));
        files.sort();
        if files.is_empty() {
            continue;
        }
        let file = &files[random.usize(..files.len())];
        let done = fs::read(file).and_then(|mut bytes| match how {
            "flipped" => {
                let at = random.usize(..bytes.len());
                bytes[at] ^= 1 << random.u32(..8);
                fs::write(file, bytes)
            }
            "cut" => fs::write(file, &bytes[..random.usize(..bytes.len())]),
            "emptied" => fs::write(file, ""),
            _ => fs::remove_file(file),
        });
        done.map_err(|e| format!("{}: {e}", file.display()))?;
    }
    let hit: Vec<PathBuf> = found[first..].iter().map(|(_, dir)| dir.clone()).collect();
    Ok(if hit.is_empty() { None } else { Some(hit) })
}
