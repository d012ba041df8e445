//! Writing a checkpoint. Collective; all ranks succeed or all report the same failure.

use std::fs;
use std::path::Path;

use convoke_data::store::{Writer, fsync_dir, write_atomic};

use super::History;
use super::manifest::{FILE, Manifest, Name, Part, Shard};
use crate::comm::Comm;
use crate::error::{Error, Result};
use crate::fields::{Data, Fields, Value};
use crate::machine;
use crate::run_dir::{Claim, RunDir};

/// What identifies the checkpoint.
#[derive(Debug, Clone)]
pub struct Label {
    /// Step and attempt.
    pub name: Name,
    /// Hash of the job's text.
    pub spec_xxh3_128: String,
    /// The checkpoint that this attempt continued.
    pub parent: Option<String>,
}

/// Writes the state as checkpoint `label` and returns its size in bytes.
///
/// Steps: directory, space check, shards (each synced, re-opened, hashed), fencing check,
/// manifest. `claim` is rank 0's.
///
/// # Errors
/// The failure of the lowest rank that failed, on every rank; nothing is committed then.
pub fn save(
    dir: &RunDir,
    comm: &Comm,
    label: &Label,
    fields: &Fields<'_>,
    history: &History,
    claim: Option<&Claim>,
) -> Result<u64> {
    let path = dir.checkpoints().join(label.name.to_string());
    let outcome = attempt(&path, comm, label, fields, history, claim);
    if outcome.is_err() && comm.is_root() {
        let _ = fs::remove_dir_all(&path);
    }
    outcome
}

fn attempt(
    path: &Path,
    comm: &Comm,
    label: &Label,
    fields: &Fields<'_>,
    history: &History,
    claim: Option<&Claim>,
) -> Result<u64> {
    let sizes = comm.all_gather(&[fields.bytes()])?;
    let total: u64 = sizes.iter().map(|s| s[0]).sum();
    comm.agree(if comm.is_root() { prepare(path, total) } else { Ok(()) })?;
    let shard = comm.agree(write_shard(path, comm, label, fields, history))?;
    let json = serde_json::to_vec(&shard).expect("a shard's entry is plain data");
    let shards: Vec<Shard> = comm
        .all_gather(&json)?
        .iter()
        .map(|bytes| serde_json::from_slice(bytes).expect("a shard's entry is plain data"))
        .collect();
    let bytes = shards.iter().map(|s| s.bytes).sum();
    let manifest = Manifest {
        step: label.name.step,
        epoch: label.name.epoch,
        spec_xxh3_128: label.spec_xxh3_128.clone(),
        parent: label.parent.clone(),
        shards,
        history: history.columns.iter().map(|(name, _)| name.clone()).collect(),
    };
    comm.agree(match claim {
        Some(claim) => claim.check().and_then(|()| Ok(write_atomic(path.join(FILE), manifest.seal().as_bytes())?)),
        None => Ok(()),
    })?;
    Ok(bytes)
}

/// Room for half as much again, and an empty directory.
fn prepare(path: &Path, total: u64) -> Result<()> {
    let free = machine::free_disk(path);
    let needed = total + total / 2 + (1 << 20);
    if free < needed {
        return Err(Error::WouldNotFit {
            what: "the checkpoint",
            host: path.display().to_string(),
            ranks: 1,
            per_rank: machine::human_bytes(needed),
            needed: machine::human_bytes(needed),
            available: machine::human_bytes(free),
            help: "free disk space, or lower checkpoint.keep".into(),
        });
    }
    let io = |source| convoke_data::DataError::from_io(path, "make the checkpoint's directory", source);
    match fs::remove_dir_all(path) {
        Ok(()) => {}
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(io(e).into()),
    }
    fs::create_dir_all(path).map_err(io)?;
    if let Some(parent) = path.parent() {
        fsync_dir(parent)?;
    }
    Ok(())
}

fn write_shard(path: &Path, comm: &Comm, label: &Label, fields: &Fields<'_>, history: &History) -> Result<Shard> {
    let file = format!("shard{:05}-of{:05}.h5", comm.rank(), comm.size());
    let mut writer = Writer::create_latest(path.join(&file))?;
    writer.attribute("/", "step", label.name.step)?;
    writer.attribute("/", "epoch", u64::from(label.name.epoch))?;
    let mut arrays = Vec::new();
    for array in fields.arrays.iter().filter(|a| a.owned && !a.region.is_empty()) {
        let name = format!("/fields/{}", array.name);
        let count = &array.region.count;
        match &array.data {
            Data::F32(data) => writer.whole(&name, count, data)?,
            Data::F64(data) => writer.whole(&name, count, data)?,
            Data::U64(data) => writer.whole(&name, count, data)?,
        }
        let start: Vec<i64> = array.region.start.iter().map(|s| *s as i64).collect();
        writer.attribute(&name, "start", start)?;
        arrays.push(Part { name: array.name.clone(), shape: array.shape.clone(), region: array.region.clone() });
    }
    if comm.is_root() {
        for (name, value) in &fields.values {
            match value {
                Value::U64(v) => writer.whole(&format!("/values/{name}"), &[1], &[**v])?,
                Value::F64(v) => writer.whole(&format!("/values/{name}"), &[1], &[**v])?,
            }
        }
        let series = fields.histories.iter().map(|(name, v)| (format!("/series/{name}"), v.as_slice()));
        let columns = history.columns.iter().map(|(name, v)| (format!("/history/{name}"), v.as_slice()));
        for (name, values) in series.chain(columns).filter(|(_, v)| !v.is_empty()) {
            writer.whole(&name, &[values.len()], values)?;
        }
    }
    let digest = writer.commit_new()?;
    Ok(Shard { file, bytes: digest.bytes, xxh3_128: digest.xxh3_128, arrays })
}
