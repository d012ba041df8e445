//! The manifest of a checkpoint: what it holds, and the hash of every byte of it.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;
use std::str::FromStr;

use convoke_data::store::{digest_bytes, digest_file};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::shard::Region;

/// Its name; the file's existence is the commit.
pub(super) const FILE: &str = "manifest.json";

/// Name of a checkpoint: the step and the attempt that wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// Steps done.
    pub step: u64,
    /// Attempt.
    pub epoch: u32,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s{:08}.e{:05}", self.step, self.epoch)
    }
}

impl FromStr for Name {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (step, epoch) = text.strip_prefix('s').and_then(|t| t.split_once(".e")).ok_or(())?;
        Ok(Self { step: step.parse().map_err(drop)?, epoch: epoch.parse().map_err(drop)? })
    }
}

/// What a checkpoint holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Manifest {
    /// Steps done.
    pub step: u64,
    /// Attempt that wrote it.
    pub epoch: u32,
    /// Hash of the job's text.
    pub spec_xxh3_128: String,
    /// The checkpoint that this attempt continued, if any.
    pub parent: Option<String>,
    /// The program that wrote it: version, commit.
    #[serde(default)]
    pub provenance: BTreeMap<String, String>,
    /// One file per rank.
    pub shards: Vec<Shard>,
    /// Names of the history's columns (in shard 0).
    pub history: Vec<String>,
}

/// One rank's file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Shard {
    /// File name.
    pub file: String,
    /// Length.
    pub bytes: u64,
    /// XXH3-128 of the file.
    pub xxh3_128: String,
    /// Parts of the state's arrays.
    pub arrays: Vec<Part>,
}

/// A part of one array.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Part {
    /// Name of the array.
    pub name: String,
    /// Global shape.
    pub shape: Vec<usize>,
    /// Which part.
    pub region: Region,
}

#[derive(Serialize, Deserialize)]
struct Sealed {
    manifest: Box<RawValue>,
    xxh3_128: String,
}

impl Manifest {
    /// Name of the checkpoint.
    pub fn name(&self) -> Name {
        Name { step: self.step, epoch: self.epoch }
    }

    /// The text of the manifest file: the manifest and the hash of its own text.
    pub(super) fn seal(&self) -> String {
        let text = serde_json::to_string(self).expect("a manifest is plain data");
        let xxh3_128 = digest_bytes(text.as_bytes()).xxh3_128;
        let manifest = RawValue::from_string(text).expect("it was just serialised");
        serde_json::to_string(&Sealed { manifest, xxh3_128 }).expect("plain data")
    }

    /// Reads the manifest of a checkpoint's directory; the error says why it cannot count.
    ///
    /// # Errors
    /// A sentence for a missing, damaged or altered manifest.
    pub fn read(dir: &Path) -> Result<Self, String> {
        let text = fs::read_to_string(dir.join(FILE)).map_err(|e| format!("{FILE}: {e}"))?;
        let sealed: Sealed = serde_json::from_str(&text).map_err(|e| format!("{FILE} is damaged: {e}"))?;
        if digest_bytes(sealed.manifest.get().as_bytes()).xxh3_128 != sealed.xxh3_128 {
            return Err(format!("{FILE} does not have the hash that it names"));
        }
        serde_json::from_str(sealed.manifest.get()).map_err(|e| format!("{FILE} cannot be read: {e}"))
    }
}

/// Committed checkpoints below `ckpt/`, in no order.
pub fn list(dir: &Path) -> Vec<Name> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let committed = entries.filter(|e| e.path().join(FILE).exists());
    committed.filter_map(|e| e.file_name().into_string().ok()?.parse().ok()).collect()
}

/// Checks part `part` of `parts` of a checkpoint's shards against the manifest.
///
/// # Errors
/// A sentence naming the first file that is missing, cut or altered.
pub fn verify(dir: &Path, manifest: &Manifest, part: usize, parts: usize) -> Result<(), String> {
    for shard in manifest.shards.iter().skip(part).step_by(parts) {
        let digest = digest_file(dir.join(&shard.file)).map_err(|e| e.to_string())?;
        if digest.bytes != shard.bytes {
            return Err(format!("{} has {} bytes, {} were written", shard.file, digest.bytes, shard.bytes));
        }
        if digest.xxh3_128 != shard.xxh3_128 {
            return Err(format!(
                "{} is damaged: its hash is {}, written was {}",
                shard.file, digest.xxh3_128, shard.xxh3_128
            ));
        }
    }
    Ok(())
}
