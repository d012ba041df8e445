//! Checkpoints: a shard per rank, read back and hashed, committed by the manifest's rename.
//!
//! ```text
//! ckpt/s00000012.e00001/shard00000-of00004.h5 … manifest.json
//! ```
//! A checkpoint counts once its manifest exists: everything it names was synced, re-opened and
//! hashed before. Any number of ranks restores it, by global index. See [`save`] and [`restore`].

mod manifest;
mod restore;
mod save;

use std::path::Path;
use std::time::Duration;

pub use manifest::{Manifest, Name, list, verify};
pub use restore::{Restored, restore};
pub use save::{Label, save};

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

/// Keeps the newest `keep` committed checkpoints and removes the others, and what was begun and
/// never committed. Rank 0 only, after a commit.
pub(crate) fn retain(dir: &Path, keep: usize) {
    let mut committed = list(dir);
    committed.sort_by_key(|name| std::cmp::Reverse((name.step, name.epoch)));
    for old in committed.iter().skip(keep) {
        // First the commit mark, so that a half-removed checkpoint is none.
        let path = dir.join(old.to_string());
        let _ = std::fs::remove_file(path.join(manifest::FILE));
        let _ = std::fs::remove_dir_all(path);
    }
    let newest = committed.first().copied();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name().into_string().ok().and_then(|n| n.parse::<Name>().ok());
        let begun = name.is_some_and(|n| Some(n) < newest && !entry.path().join(manifest::FILE).exists());
        if begun {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// Young's interval between checkpoints: `sqrt(2 δ M)` for a cost `δ` and a mean time `M` between
/// failures, held between a minute (or `50 δ`, so that the overhead stays below 2 %) and an hour.
///
/// Source: J. W. Young, Comm. ACM 17 (1974) 530.
pub fn interval(cost: Duration, mtbf: Duration) -> Duration {
    let (delta, m) = (cost.as_secs_f64(), mtbf.as_secs_f64());
    let best = (2.0 * delta * m).sqrt();
    let low = f64::max(60.0, 50.0 * delta);
    Duration::from_secs_f64(best.clamp(low, f64::max(low, 3600.0)))
}

#[cfg(test)]
mod tests;
