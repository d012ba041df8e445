//! Checkpoints: a shard per rank, read back and hashed, committed by the manifest's rename.
//!
//! ```text
//! ckpt/s00000012.e00001/shard00000-of00004.h5 … manifest.json
//! ```
//! A checkpoint counts once its manifest exists: everything it names was synced, re-opened and
//! hashed before. Any number of ranks restores it, by global index. See [`Begun`] and [`restore`].

mod content;
mod cost;
mod manifest;
mod restore;
mod save;

pub use content::Snapshot;
pub use cost::{Cost, Costs, Overhead, interval};
pub use manifest::{Manifest, Name, list, verify};
pub use restore::{Restored, restore};
pub use save::{Begun, Committed, Label, Mode};

use crate::failpoint;
use crate::run_dir::RunDir;

/// Figures of the run, one value per step: the columns of `/history`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct History {
    /// `(name, values)`, in the order of their first appearance.
    pub columns: Vec<(String, Vec<f64>)>,
}

impl History {
    /// Appends the figures of one step.
    pub fn push(&mut self, metrics: &[(&'static str, f64)]) {
        for (name, value) in metrics {
            match self.columns.iter_mut().find(|(n, _)| n == name) {
                Some((_, values)) => values.push(*value),
                None => self.columns.push(((*name).to_owned(), vec![*value])),
            }
        }
    }
}

/// Keeps `committed`, which was verified a moment ago, and the newest `keep` of this line of attempts; removes what is
/// older, what belongs to another line (a zombie's) and what was begun and never committed. Rank 0 only.
///
/// No older ones are kept at growing distances: a checkpoint is for going on, and going on from far back is what
/// `--restart` does at no disk space. Damaged ones (`….bad`) are not touched.
pub(crate) fn retain(run: &RunDir, keep: usize, committed: Name) {
    let dir = run.checkpoints();
    let mut kept = restore::admissible(run);
    kept.retain(|name| *name != committed);
    kept.truncate(keep.saturating_sub(1));
    kept.push(committed);
    for old in list(&dir).iter().filter(|name| !kept.contains(name)) {
        // First the commit mark, so that a half-removed checkpoint is none.
        let path = dir.join(old.to_string());
        let unmarked = failpoint::hit("retain-unmark").and_then(|()| std::fs::remove_file(path.join(manifest::FILE)));
        if unmarked.is_ok() && failpoint::hit("retain-remove").is_ok() {
            let _ = std::fs::remove_dir_all(path);
        }
    }
    for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
        let file_name = entry.file_name().to_string_lossy().into_owned();
        let name = file_name.parse::<Name>().ok();
        let begun = name.is_some_and(|n| n.epoch < committed.epoch || n < committed);
        if begun && !entry.path().join(manifest::FILE).exists() {
            let _ = std::fs::remove_dir_all(entry.path());
        }
        // Tries to load a checkpoint that is gone now.
        let tried = file_name.split_once(restore::LOADING).and_then(|(name, _)| name.parse::<Name>().ok());
        if tried.is_some_and(|name| !kept.contains(&name)) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Bytes of the committed checkpoints.
pub(crate) fn bytes_on_disk(run: &RunDir) -> u64 {
    let dir = run.checkpoints();
    let manifests = list(&dir).into_iter().filter_map(|name| Manifest::read(&dir.join(name.to_string())).ok());
    manifests.flat_map(|manifest| manifest.shards).map(|shard| shard.bytes).sum()
}

#[cfg(test)]
mod tests;
