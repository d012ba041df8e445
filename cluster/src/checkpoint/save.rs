//! Writing a checkpoint: begun by all ranks together, written by each on its own, committed by all
//! together. Between the second and the third the computation may go on.
//!
//! Begin: free space on the file system as every rank sees it, the directory. Write: one shard per
//! rank, synced, re-opened, compared with what was handed in, hashed. Commit: every rank's entry,
//! the fencing check, the manifest by rename, the directory synced.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Instant;

use convoke_data::store::{Element, Layout, Writer, fsync_dir, write_atomic};
use serde::{Deserialize, Serialize};

use super::History;
use super::content::{Content, Number, Numbers, Snapshot};
use super::manifest::{FILE, Manifest, Name, Part, Shard};
use crate::comm::Comm;
use crate::error::{Error, Result};
use crate::failpoint;
use crate::fields::Fields;
use crate::machine;
use crate::run_dir::{Claim, RunDir};
use crate::shard::Region;

/// HDF5 has one lock for the whole process, held during each call. Arrays go to it in blocks of this many
/// bytes, so that a workload that reads a file meanwhile waits for one block and not for the whole state.
const BLOCK: usize = 16 << 20;

/// What identifies the checkpoint.
#[derive(Debug, Clone)]
pub struct Label {
    /// Step and attempt.
    pub name: Name,
    /// Hash of the job's text.
    pub spec_xxh3_128: String,
    /// The checkpoint that this attempt continued.
    pub parent: Option<String>,
    /// What is known of the program that writes it: version, commit.
    pub provenance: BTreeMap<String, String>,
}

/// How the state gets to the disk.
#[derive(Debug)]
pub enum Mode {
    /// At once; the computation waits.
    Wait,
    /// By a thread, from a copy in this second buffer, if every rank has `room` bytes for it.
    Beside {
        /// Used again from checkpoint to checkpoint.
        buffer: Snapshot,
        /// Bytes that this rank may use for the copy.
        room: u64,
    },
}

/// A checkpoint that was begun and is not committed. Dropped, it waits for its thread and leaves a
/// directory that counts for nothing.
#[derive(Debug)]
pub struct Begun {
    path: PathBuf,
    label: Label,
    history: Vec<String>,
    part: Share,
}

/// This rank's share of the work.
#[derive(Debug)]
enum Share {
    Written(Box<(Result<Entry>, Option<Snapshot>)>),
    Writing(Option<JoinHandle<(Result<Entry>, Snapshot)>>),
}

fn written(entry: Result<Entry>, buffer: Option<Snapshot>) -> Share {
    Share::Written(Box::new((entry, buffer)))
}

/// What a rank reports of its shard.
#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    shard: Shard,
    /// Time from the first byte to the verified file.
    seconds: f64,
    /// Processor time of a thread beside the computation; 0 if the computation waited.
    beside_seconds: f64,
}

/// A committed checkpoint.
#[derive(Debug)]
pub struct Committed {
    /// Bytes of all shards.
    pub bytes: u64,
    /// Time that the slowest rank wrote.
    pub write_seconds: f64,
    /// Processor time that the busiest rank's thread took from the computation.
    pub beside_seconds: f64,
}

impl Begun {
    /// Begins checkpoint `label`. Collective.
    ///
    /// # Errors
    /// No space on the file system of some rank, or no directory: the same on every rank, and nothing is left behind.
    pub fn begin(
        dir: &RunDir,
        comm: &Comm,
        label: Label,
        fields: &Fields<'_>,
        history: &History,
        mode: Mode,
    ) -> Result<Self> {
        let path = dir.checkpoints().join(label.name.to_string());
        let room = if let Mode::Beside { room, .. } = &mode { *room } else { 0 };
        let here = [fields.bytes(), machine::free_disk(&path), u64::from(fields.bytes() <= room)];
        let ranks = comm.all_gather(&here)?;
        let total: u64 = ranks.iter().map(|r| r[0]).sum();
        let tightest = (0..ranks.len()).min_by_key(|r| ranks[*r][1]).unwrap_or(0);
        enough_space(&path, total, tightest, ranks[tightest][1])?;
        comm.agree(if comm.is_root() { prepare(&path) } else { Ok(()) }).inspect_err(|_| abandon(&path, comm))?;
        let place = (comm.rank(), comm.size());
        let content = Content::of(fields, history, comm.is_root());
        let columns = content.history.iter().map(|name| (*name).to_owned()).collect();
        let part = match mode {
            Mode::Beside { mut buffer, .. } if ranks.iter().all(|r| r[2] == 1) => {
                buffer.fill(&content);
                in_thread(path.clone(), place, label.name, buffer)
            }
            Mode::Beside { buffer, .. } => written(write(&path, place, label.name, &content), Some(buffer)),
            Mode::Wait => written(write(&path, place, label.name, &content), None),
        };
        Ok(Self { path, label, history: columns, part })
    }

    /// Which checkpoint this is.
    pub fn name(&self) -> Name {
        self.label.name
    }

    /// Whether this rank's shard is still being written.
    pub fn is_writing(&self) -> bool {
        matches!(&self.part, Share::Writing(Some(thread)) if !thread.is_finished())
    }

    /// Whether a thread writes it while the computation goes on.
    pub fn is_beside(&self) -> bool {
        matches!(&self.part, Share::Writing(_))
    }

    /// Commits it, after waiting for this rank's writer. Collective. The second buffer comes back in any case.
    ///
    /// `claim` is rank 0's.
    ///
    /// # Errors
    /// The failure of the lowest rank that failed, on every rank; nothing is committed and nothing is left then.
    pub fn commit(mut self, comm: &Comm, claim: Option<&Claim>) -> (Result<Committed>, Option<Snapshot>) {
        let waiting = Share::Writing(None);
        let (entry, buffer) = match std::mem::replace(&mut self.part, waiting) {
            Share::Written(done) => *done,
            Share::Writing(Some(thread)) => match thread.join() {
                Ok((entry, buffer)) => (entry, Some(buffer)),
                Err(panic) => (Err(panicked(&*panic)), None),
            },
            Share::Writing(None) => (Err(Error::Panicked { message: "a checkpoint has no writer".into() }), None),
        };
        let outcome = self.seal(comm, claim, entry);
        if outcome.is_err() {
            abandon(&self.path, comm);
        }
        (outcome, buffer)
    }

    fn seal(&self, comm: &Comm, claim: Option<&Claim>, entry: Result<Entry>) -> Result<Committed> {
        let entry = comm.agree(entry)?;
        let json = serde_json::to_vec(&entry).expect("a shard's entry is plain data");
        let entries: Vec<Entry> = comm
            .all_gather(&json)?
            .iter()
            .map(|bytes| serde_json::from_slice(bytes).expect("a shard's entry is plain data"))
            .collect();
        let most = |of: fn(&Entry) -> f64| entries.iter().map(of).fold(0.0, f64::max);
        let committed = Committed {
            bytes: entries.iter().map(|e| e.shard.bytes).sum(),
            write_seconds: most(|e| e.seconds),
            beside_seconds: most(|e| e.beside_seconds),
        };
        let manifest = Manifest {
            step: self.label.name.step,
            epoch: self.label.name.epoch,
            spec_xxh3_128: self.label.spec_xxh3_128.clone(),
            parent: self.label.parent.clone(),
            provenance: self.label.provenance.clone(),
            shards: entries.into_iter().map(|e| e.shard).collect(),
            history: self.history.clone(),
        };
        comm.agree(match claim {
            Some(claim) => publish(&self.path, claim, &manifest),
            None => passes("ckpt-gather", &self.path),
        })?;
        Ok(committed)
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        // A process that ends while a thread is inside HDF5 may crash there.
        if let Share::Writing(thread) = &mut self.part
            && let Some(thread) = thread.take()
        {
            let _ = thread.join();
        }
    }
}

/// Rank 0 alone: the fencing check, then the commit point.
fn publish(path: &Path, claim: &Claim, manifest: &Manifest) -> Result<()> {
    passes("ckpt-gather", path)?;
    claim.check()?;
    failpoint::within("manifest", || write_atomic(path.join(FILE), manifest.seal().as_bytes()))?;
    passes("ckpt-committed", path)
}

/// Passes a failpoint that belongs to `path`.
fn passes(point: &str, path: &Path) -> Result<()> {
    failpoint::hit(point).map_err(|source| Error::Io { path: path.to_owned(), source })
}

fn abandon(path: &Path, comm: &Comm) {
    if comm.is_root() {
        // First the commit mark: half a checkpoint must not look like one.
        let _ = fs::remove_file(path.join(FILE));
        let _ = fs::remove_dir_all(path);
    }
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> Error {
    let text =
        panic.downcast_ref::<&str>().map(|t| (*t).to_owned()).or_else(|| panic.downcast_ref::<String>().cloned());
    Error::Panicked { message: text.unwrap_or_else(|| "the writer of a checkpoint panicked".into()) }
}

/// Half as much again as the state: on the file system of the rank that has the least. All ranks decide alike.
fn enough_space(path: &Path, total: u64, rank: usize, free: u64) -> Result<()> {
    let needed = total + total / 2 + (1 << 20);
    if free >= needed {
        return Ok(());
    }
    Err(Error::Agreed(Box::new(Error::WouldNotFit {
        what: "the checkpoint",
        host: format!("{} (as rank {rank} sees it)", path.display()),
        ranks: 1,
        per_rank: machine::human_bytes(needed),
        needed: machine::human_bytes(needed),
        available: machine::human_bytes(free),
        help: "free disk space, or lower checkpoint.keep".into(),
    })))
}

/// An empty directory. Rank 0 alone.
fn prepare(path: &Path) -> Result<()> {
    let io = |source| convoke_data::DataError::from_io(path, "make the checkpoint's directory", source);
    failpoint::hit("ckpt-mkdir").map_err(io)?;
    match fs::remove_dir_all(path) {
        Ok(()) => {}
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(io(e).into()),
    }
    fs::create_dir_all(path).map_err(io)?;
    failpoint::hit("ckpt-made").map_err(io)?;
    if let Some(parent) = path.parent() {
        fsync_dir(parent)?;
    }
    Ok(())
}

fn in_thread(path: PathBuf, place: (usize, usize), name: Name, buffer: Snapshot) -> Share {
    let begun = Instant::now();
    let body = move || {
        let mut entry = write(&path, place, name, &buffer.content());
        if let Ok(entry) = &mut entry {
            entry.beside_seconds = thread_seconds();
            entry.seconds = begun.elapsed().as_secs_f64();
        }
        (entry, buffer)
    };
    match std::thread::Builder::new().name("checkpoint".into()).spawn(body) {
        Ok(thread) => Share::Writing(Some(thread)),
        Err(source) => written(Err(Error::Io { path: PathBuf::from("a thread for the checkpoint"), source }), None),
    }
}

/// Processor time of this thread.
fn thread_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

/// Writes and verifies the shard of rank `place.0` of `place.1`. Talks to no other rank.
fn write(path: &Path, place: (usize, usize), name: Name, content: &Content<'_>) -> Result<Entry> {
    let begun = Instant::now();
    let shard = failpoint::within("shard", || write_shard(path, place, name, content))?;
    Ok(Entry { shard, seconds: begun.elapsed().as_secs_f64(), beside_seconds: 0.0 })
}

fn write_shard(path: &Path, (rank, size): (usize, usize), name: Name, content: &Content<'_>) -> Result<Shard> {
    let file = format!("shard{rank:05}-of{size:05}.h5");
    let mut writer = Writer::create_latest(path.join(&file))?;
    writer.attribute("/", "step", name.step)?;
    writer.attribute("/", "epoch", u64::from(name.epoch))?;
    let mut arrays = Vec::new();
    for part in &content.parts {
        let dataset = format!("/fields/{}", part.name);
        match part.numbers {
            Numbers::F32(data) => write_blocks(&mut writer, &dataset, part.region, data)?,
            Numbers::F64(data) => write_blocks(&mut writer, &dataset, part.region, data)?,
            Numbers::U64(data) => write_blocks(&mut writer, &dataset, part.region, data)?,
        }
        let start: Vec<i64> = part.region.start.iter().map(|s| *s as i64).collect();
        writer.attribute(&dataset, "start", start)?;
        arrays.push(Part { name: part.name.to_owned(), shape: part.shape.to_vec(), region: part.region.clone() });
    }
    for (name, value) in &content.values {
        match value {
            Number::U64(v) => writer.whole(&format!("/values/{name}"), &[1], &[*v])?,
            Number::F64(v) => writer.whole(&format!("/values/{name}"), &[1], &[*v])?,
        }
    }
    for (name, values) in &content.series {
        writer.whole(name, &[values.len()], values)?;
    }
    let digest = writer.commit_new()?;
    Ok(Shard { file, bytes: digest.bytes, xxh3_128: digest.xxh3_128, arrays })
}

/// The array in blocks of whole rows, about [`BLOCK`] bytes each.
fn write_blocks<T: Element>(writer: &mut Writer, name: &str, region: &Region, data: &[T]) -> Result<()> {
    let count = &region.count;
    writer.dataset::<T>(name, count, Layout::Contiguous)?;
    if count.is_empty() {
        return Ok(writer.write(name, &[], &[], data)?);
    }
    let row: usize = count[1..].iter().product();
    let rows = (BLOCK / (row * size_of::<T>()).max(1)).max(1);
    for first in (0..count[0]).step_by(rows) {
        let Range { start, end } = first..(first + rows).min(count[0]);
        let (mut at, mut extent) = (vec![0; count.len()], count.clone());
        (at[0], extent[0]) = (start, end - start);
        writer.write(name, &at, &extent, &data[start * row..end * row])?;
    }
    Ok(())
}
