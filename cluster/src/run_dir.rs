//! A run directory: plain files, one owner at a time.
//!
//! Ownership is a chain of attempts `owner/e00001.json, e00002.json, …`. An attempt claims the
//! next number by hard-linking a complete file to it, which fails if the name exists: of any
//! number of processes that try at once exactly one wins, also on NFS. The number is the fencing
//! token: an attempt that finds a higher one than its own writes nothing more.

use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use convoke_data::store::{digest_bytes, fsync_dir, write_atomic};
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use crate::batch::this_job;
use crate::checkpoint::Name;
use crate::error::{Error, Result};
use crate::job::JobText;
use crate::machine::host_name;

/// An owner on another host counts as gone when it has not been heard of for this long.
const SILENCE: Duration = Duration::from_secs(180);

/// Tells drafts of one process apart.
static DRAFTS: AtomicU64 = AtomicU64::new(0);

/// Who owns a run directory.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Owner {
    /// Attempt number.
    pub epoch: u32,
    /// Host of rank 0.
    pub host: String,
    /// Process of rank 0.
    pub pid: u32,
    /// Start time of that process in clock ticks since boot: tells it from a later namesake.
    pub started_ticks: u64,
    /// When it was claimed.
    pub since: String,
    /// Batch job, if any.
    pub slurm_job: Option<String>,
    /// How often that job had been requeued.
    #[serde(default)]
    pub slurm_restart: u32,
}

/// What a run was handed to the batch system as; kept beside it, so that it is never submitted twice.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submission {
    /// The job; nothing while the hand-over is under way.
    pub job: Option<u64>,
    /// When.
    pub since: String,
    /// Jobs before it, oldest first.
    pub earlier: Vec<u64>,
    /// Nodes that are not to be used: those of the job file, and those that failed.
    pub excluded: Vec<String>,
}

impl Submission {
    /// The option of `sbatch` for them. It replaces the script's own, so it names them all.
    pub fn exclude(&self) -> Option<String> {
        (!self.excluded.is_empty()).then(|| format!("--exclude={}", self.excluded.join(",")))
    }
}

/// Layout of a run directory and of the checkpoints in it. A program refuses those of a newer one; to be raised whenever an
/// older program would misread what is written.
pub const LAYOUT: u64 = 1;

/// Of directories that do not say.
fn first_layout() -> u64 {
    1
}

/// What the run was started with, kept beside the exact text.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Lock {
    /// Version of the layout of the directory; see [`LAYOUT`].
    #[serde(default = "first_layout")]
    pub layout: u64,
    /// Identity of the run, eight hexadecimal digits.
    pub run_id: String,
    /// Directory that relative input paths start from.
    pub inputs: PathBuf,
    /// XXH3-128 of `spec.toml`.
    pub spec_xxh3_128: String,
    /// Those of the texts before it, whose checkpoints it goes on with ([`RunDir::change`]).
    #[serde(default)]
    pub earlier: Vec<String>,
    /// The job with all defaults filled in.
    pub resolved: serde_json::Value,
}

/// Makes a directory, private to its user, with what `fill` puts into it. Made aside and renamed: a process that dies here
/// leaves nothing half-made, and of two that make the same one the second finds it `taken`.
pub(crate) fn make_aside(
    path: &Path,
    fill: impl FnOnce(&Path) -> Result<()>,
    taken: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(|e| match e.kind() {
        ErrorKind::AlreadyExists | ErrorKind::NotADirectory => Error::Occupied {
            dir: parent.to_owned(),
            found: "is a file, or lies below one, not a directory".to_owned(),
            help: "choose another --dir".to_owned(),
        },
        _ => io(parent, e),
    })?;
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let draft = parent.join(format!(".{name}.tmp-{}", std::process::id()));
    let _ = fs::remove_dir_all(&draft);
    let made = fs::DirBuilder::new().mode(0o700).create(&draft).map_err(|e| io(&draft, e));
    let made = made.and_then(|()| fill(&draft)).and_then(|()| match fs::rename(&draft, path) {
        Err(e) if matches!(e.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists) => taken(),
        Err(e) => Err(io(path, e)),
        Ok(()) => Ok(fsync_dir(parent)?),
    });
    let _ = fs::remove_dir_all(&draft);
    made
}

impl Lock {
    /// Whether what was written for a text of this hash belongs to this run.
    pub fn knows(&self, spec_xxh3_128: &str) -> bool {
        self.spec_xxh3_128 == spec_xxh3_128 || self.earlier.iter().any(|hash| hash == spec_xxh3_128)
    }
}

/// A run directory on disk.
#[derive(Debug, Clone)]
pub struct RunDir {
    /// Where it is.
    pub path: PathBuf,
}

impl RunDir {
    /// Makes a new run directory with the job's text in it.
    ///
    /// # Errors
    /// [`Error::Occupied`] if the directory exists and is not empty, [`Error::Locked`] if a live
    /// run owns it.
    pub fn create(path: &Path, text: &JobText, resolved: serde_json::Value) -> Result<Self> {
        let dir = Self { path: path.to_owned() };
        dir.refuse_unless_empty()?;
        make_aside(path, |draft| Self::fill(draft, path, text, resolved), || dir.refuse_unless_empty())?;
        Ok(dir)
    }

    fn fill(draft: &Path, path: &Path, text: &JobText, resolved: serde_json::Value) -> Result<()> {
        let base = fs::canonicalize(text.dir()).unwrap_or_else(|_| text.dir());
        let digest = digest_bytes(text.text.as_bytes()).xxh3_128;
        let nonce = format!("{:?}{}{digest}{}", SystemTime::now(), std::process::id(), path.display());
        let run_id = digest_bytes(nonce.as_bytes()).xxh3_128[..8].to_owned();
        let lock = Lock { layout: LAYOUT, run_id, inputs: base, spec_xxh3_128: digest, earlier: Vec::new(), resolved };
        write_atomic(draft.join("spec.toml"), text.text.as_bytes())?;
        let json = serde_json::to_vec_pretty(&lock).expect("a lock is plain data");
        Ok(write_atomic(draft.join("spec.lock.json"), &json)?)
    }

    fn refuse_unless_empty(&self) -> Result<()> {
        let occupied = |found: &str, help: &str| Error::Occupied {
            dir: self.path.clone(),
            found: found.to_owned(),
            help: help.to_owned(),
        };
        if !self.path.exists() {
            return Ok(());
        }
        if !self.path.is_dir() {
            return Err(occupied("is a file, not a directory", "choose another --dir"));
        }
        if let Some(owner) = self.owner()
            && self.is_alive(&owner)
        {
            return Err(self.locked(&owner));
        }
        if self.path.join("spec.lock.json").exists() {
            let what =
                if self.path.join("result.h5").exists() { "holds a finished run" } else { "holds an unfinished run" };
            let help = format!("continue it with `convoke resume {}`, or choose another --dir", self.path.display());
            return Err(occupied(what, &help));
        }
        match fs::read_dir(&self.path).map_err(|e| io(&self.path, e))?.next() {
            Some(_) => Err(occupied("is not empty", "choose a new or empty directory with --dir")),
            None => Ok(()),
        }
    }

    /// Opens an existing run directory.
    ///
    /// # Errors
    /// [`Error::Occupied`] if the directory holds no run.
    pub fn open(path: &Path) -> Result<(Self, JobText, Lock)> {
        let dir = Self { path: path.to_owned() };
        let none = |found: &str| Error::Occupied {
            dir: path.to_owned(),
            found: found.to_owned(),
            help: "give the directory that `convoke run` printed (it holds spec.toml and spec.lock.json)".to_owned(),
        };
        let lock = fs::read_to_string(path.join("spec.lock.json"))
            .map_err(|_| none("holds no run (spec.lock.json is missing)"))?;
        let damaged = |e| none(&format!("spec.lock.json is damaged: {e}"));
        let lock: serde_json::Value = serde_json::from_str(&lock).map_err(damaged)?;
        // Before anything else of it is understood: it may mean something else by then.
        if let Some(found) = lock["layout"].as_u64().filter(|found| *found > LAYOUT) {
            return Err(Error::Newer { dir: path.to_owned(), found, known: LAYOUT });
        }
        let lock: Lock = serde_json::from_value(lock).map_err(damaged)?;
        let text = JobText::read(&path.join("spec.toml"))?;
        Ok((dir, text, lock))
    }

    /// Goes on with another text of the job, of which `resolved` has the defaults.
    ///
    /// # Errors
    /// [`Error::Locked`] while an owner is at work; the disk.
    pub fn change(&self, text: &str, lock: &Lock, resolved: serde_json::Value) -> Result<()> {
        if let Some(owner) = self.owner()
            && self.is_alive(&owner)
        {
            return Err(self.locked(&owner));
        }
        let mut earlier = lock.earlier.clone();
        earlier.push(lock.spec_xxh3_128.clone());
        let lock = Lock { spec_xxh3_128: digest_bytes(text.as_bytes()).xxh3_128, earlier, resolved, ..lock.clone() };
        let json = serde_json::to_vec_pretty(&lock).expect("a lock is plain data");
        // A process that dies between the two leaves what the same change mends.
        write_atomic(self.path.join("spec.lock.json"), &json)?;
        Ok(write_atomic(self.path.join("spec.toml"), text.as_bytes())?)
    }

    /// Takes the directory from an owner on another host that was heard of a moment ago. If it still works, it finds itself
    /// overtaken at its next beat.
    ///
    /// # Errors
    /// [`Error::Locked`] for an owner on this host: its process can be asked to end.
    pub fn take_from_owner(&self) -> Result<()> {
        let Some(owner) = self.owner().filter(|owner| self.is_alive(owner)) else { return Ok(()) };
        if owner.host == host_name() {
            return Err(self.locked(&owner));
        }
        self.event("stolen", serde_json::json!({ "epoch": owner.epoch, "host": owner.host }));
        Ok(write_atomic(self.released(owner.epoch), b"")?)
    }

    /// Refuses a directory that somebody else could change: what lies in it is run.
    ///
    /// # Errors
    /// [`Error::Occupied`] for a directory of another user, or one that group or others may write.
    pub fn refuse_if_others_write(&self) -> Result<()> {
        let meta = fs::metadata(&self.path).map_err(|e| io(&self.path, e))?;
        let refused = |found: String, help: String| Err(Error::Occupied { dir: self.path.clone(), found, help });
        if meta.uid() != rustix::process::geteuid().as_raw() {
            return refused(
                format!("belongs to the user with number {}", meta.uid()),
                "go on with a run as the user who began it, or begin a new one from its spec.toml".to_owned(),
            );
        }
        if meta.mode() & 0o022 != 0 {
            return refused(
                format!("can be written by others (mode {:o})", meta.mode() & 0o777),
                format!("`chmod go-w {}`, if nobody did", self.path.display()),
            );
        }
        Ok(())
    }

    /// When a file of the run last changed: a sign of life from ranks that complete no step because they write.
    pub fn last_change(&self) -> Option<SystemTime> {
        fn newest(dir: &Path, depth: u32) -> Option<SystemTime> {
            let entries =
                fs::read_dir(dir).into_iter().flatten().flatten().filter_map(|e| Some((e.metadata().ok()?, e.path())));
            entries
                .filter_map(
                    |(meta, path)| {
                        if meta.is_dir() && depth > 0 { newest(&path, depth - 1) } else { meta.modified().ok() }
                    },
                )
                .max()
        }
        newest(&self.path, 2)
    }

    /// Claims the directory for this process.
    ///
    /// # Errors
    /// [`Error::Locked`] while another live process owns it.
    pub fn claim(&self) -> Result<Claim> {
        self.claim_after(0)
    }

    /// As [`RunDir::claim`], where attempts up to `gone` are known to have ended: their hosts cannot be asked.
    ///
    /// # Errors
    /// As [`RunDir::claim`].
    pub fn claim_after(&self, gone: u32) -> Result<Claim> {
        let folder = self.path.join("owner");
        fs::create_dir_all(&folder).map_err(|e| io(&folder, e))?;
        loop {
            // One look decides both: the owner that must be gone and the number that follows it.
            let newest = self.newest_epoch();
            if let Some(owner) = self.owner_of(newest)
                && owner.epoch > gone
                && self.is_alive(&owner)
            {
                return Err(self.locked(&owner));
            }
            let epoch = newest + 1;
            let job = this_job();
            let owner = Owner {
                epoch,
                host: host_name(),
                pid: std::process::id(),
                started_ticks: started_ticks(std::process::id()).unwrap_or(0),
                since: jiff::Zoned::now().strftime("%Y-%m-%d %H:%M:%S %Z").to_string(),
                slurm_restart: job.as_ref().map_or(0, |(_, restart)| *restart),
                slurm_job: job.map(|(id, _)| id),
            };
            let serial = DRAFTS.fetch_add(1, Ordering::Relaxed);
            let draft = folder.join(format!("draft-{}-{}-{serial}", host_name(), std::process::id()));
            let json = serde_json::to_vec_pretty(&owner).expect("an owner is plain data");
            write_atomic(&draft, &json)?;
            let linked = fs::hard_link(&draft, folder.join(format!("e{epoch:05}.json")));
            fs::remove_file(&draft).map_err(|e| io(&draft, e))?;
            match linked {
                Ok(()) => return Ok(Claim { dir: self.clone(), epoch }),
                Err(e) if e.kind() == ErrorKind::AlreadyExists => {} // somebody was faster: look again
                Err(e) => return Err(io(&folder, e)),
            }
        }
    }

    /// Number of the newest attempt; 0 if there was none.
    pub fn newest_epoch(&self) -> u32 {
        let Ok(entries) = fs::read_dir(self.path.join("owner")) else { return 0 };
        let numbers = entries.flatten().filter_map(|e| {
            let name = e.file_name().into_string().ok()?;
            name.strip_prefix('e')?.strip_suffix(".json")?.parse().ok()
        });
        numbers.max().unwrap_or(0)
    }

    /// The newest attempt, unless it gave the directory back.
    pub fn owner(&self) -> Option<Owner> {
        self.owner_of(self.newest_epoch())
    }

    fn owner_of(&self, epoch: u32) -> Option<Owner> {
        if self.released(epoch).exists() {
            return None;
        }
        let text = fs::read_to_string(self.path.join(format!("owner/e{epoch:05}.json"))).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// The checkpoint that attempt `epoch` continued, if it got that far.
    pub fn base(&self, epoch: u32) -> Option<Name> {
        fs::read_to_string(self.path.join(format!("owner/e{epoch:05}.base"))).ok()?.trim().parse().ok()
    }

    fn released(&self, epoch: u32) -> PathBuf {
        self.path.join(format!("owner/e{epoch:05}.released"))
    }

    /// Whether the owner's process still runs: exactly on this host, by its heartbeat elsewhere.
    pub fn is_alive(&self, owner: &Owner) -> bool {
        if owner.host == host_name() {
            return started_ticks(owner.pid) == Some(owner.started_ticks);
        }
        self.last_beat(owner.epoch).is_some_and(|t| t.elapsed().unwrap_or_default() < SILENCE)
    }

    /// When attempt `epoch` was last heard of.
    pub fn last_beat(&self, epoch: u32) -> Option<SystemTime> {
        let heard = |file: String| fs::metadata(self.path.join(file)).and_then(|m| m.modified()).ok();
        heard(format!("owner/e{epoch:05}.beat")).max(heard(format!("owner/e{epoch:05}.json")))
    }

    fn locked(&self, owner: &Owner) -> Error {
        let run_id = Self::open(&self.path).map(|(_, _, lock)| lock.run_id);
        let steal = match run_id {
            Ok(id) if owner.host != host_name() => {
                format!(
                    "; where that host is gone for good, `convoke resume {} --steal {id}` does not wait {} s",
                    self.path.display(),
                    SILENCE.as_secs()
                )
            }
            _ => String::new(),
        };
        Error::Locked {
            dir: self.path.clone(),
            owner: format!("attempt {} (process {} on {}, since {})", owner.epoch, owner.pid, owner.host, owner.since),
            help: format!(
                "wait for it or stop it (`kill -USR1 {}` on {}); or choose another --dir{steal}",
                owner.pid, owner.host
            ),
        }
    }

    /// Appends one line to `events.jsonl`. Only rank 0 calls it.
    ///
    /// Best effort: an event that cannot be written must not end a run.
    pub fn event(&self, kind: &str, mut detail: serde_json::Value) {
        detail["event"] = kind.into();
        detail["time"] = jiff::Timestamp::now().to_string().into();
        let no_link = OFlags::NOFOLLOW.bits().cast_signed();
        let mut open = fs::OpenOptions::new();
        let open =
            open.create(true).append(true).mode(0o600).custom_flags(no_link).open(self.path.join("events.jsonl"));
        if let Ok(mut file) = open {
            let _ = file.write_all(format!("{detail}\n").as_bytes());
        }
    }

    /// All events so far, oldest first; damaged lines are skipped.
    pub fn events(&self) -> Vec<serde_json::Value> {
        let text = fs::read_to_string(self.path.join("events.jsonl")).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// The newest attempt, whether or not it gave the directory back.
    pub fn newest_attempt(&self) -> Option<Owner> {
        let text = fs::read_to_string(self.path.join(format!("owner/e{:05}.json", self.newest_epoch()))).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// What the run was submitted as, if it was.
    pub fn submission(&self) -> Option<Submission> {
        serde_json::from_str(&fs::read_to_string(self.path.join("submission.json")).ok()?).ok()
    }

    /// Records a submission.
    ///
    /// # Errors
    /// Data errors of the file system.
    pub fn submit_as(&self, submission: &Submission) -> Result<()> {
        let json = serde_json::to_vec_pretty(submission).expect("a submission is plain data");
        Ok(write_atomic(self.path.join("submission.json"), &json)?)
    }

    /// Asks whoever works on the run to stop, wherever that is.
    ///
    /// # Errors
    /// Data errors of the file system.
    pub fn ask_to_stop(&self) -> Result<()> {
        Ok(write_atomic(self.stop_file(), jiff::Timestamp::now().to_string().as_bytes())?)
    }

    /// Whether somebody asked for a stop since the run was last begun by hand.
    pub fn is_asked_to_stop(&self) -> bool {
        self.stop_file().exists()
    }

    /// Takes a request to stop back: the run is wanted again.
    pub fn forget_stop(&self) {
        let _ = fs::remove_file(self.stop_file());
    }

    fn stop_file(&self) -> PathBuf {
        self.path.join("stop")
    }

    /// The result as the newest `finished` event recorded it, if the file is still that.
    pub fn is_complete(&self) -> bool {
        let recorded = self.events().iter().rev().find(|e| e["event"] == "finished").map(|e| e["result"].clone());
        recorded
            .is_some_and(|r| convoke_data::store::digest_file(self.result()).is_ok_and(|d| r == d.xxh3_128.as_str()))
    }

    /// Where checkpoints lie.
    pub fn checkpoints(&self) -> PathBuf {
        self.path.join("ckpt")
    }

    /// The file with the results.
    pub fn result(&self) -> PathBuf {
        self.path.join("result.h5")
    }
}

/// The right to write into a run directory; given back when dropped.
#[derive(Debug)]
pub struct Claim {
    dir: RunDir,
    /// Attempt number.
    pub epoch: u32,
}

impl Claim {
    /// Whether this attempt still owns the directory.
    ///
    /// # Errors
    /// [`Error::Fenced`] once a newer attempt has claimed it.
    pub fn check(&self) -> Result<()> {
        let newest = self.dir.newest_epoch();
        if newest == self.epoch {
            Ok(())
        } else {
            Err(Error::Fenced { dir: self.dir.path.clone(), mine: self.epoch, newest })
        }
    }

    /// Records the checkpoint that this attempt continues.
    ///
    /// # Errors
    /// Data errors of the file system.
    pub fn continues(&self, base: Name) -> Result<()> {
        Ok(write_atomic(self.dir.path.join(format!("owner/e{:05}.base", self.epoch)), base.to_string().as_bytes())?)
    }

    /// Tells other hosts, and the supervisor, that this attempt has come to `step`.
    pub fn beat(&self, step: u64) {
        let _ = fs::write(self.dir.path.join(format!("owner/e{:05}.beat", self.epoch)), format!("{step}\n"));
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // Missing, the next attempt finds by the process that this one has ended.
        let _ = fs::write(self.dir.released(self.epoch), "");
    }
}

/// When a process started, in clock ticks since boot; `None` if it is gone or a zombie.
fn started_ticks(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat[stat.rfind(')')? + 2..].split(' ');
    let state = fields.next()?;
    if state == "Z" || state == "X" { None } else { fields.nth(18)?.parse().ok() }
}

fn io(path: &Path, source: std::io::Error) -> Error {
    match source.kind() {
        ErrorKind::StorageFull | ErrorKind::PermissionDenied => {
            convoke_data::DataError::from_io(path, "write the run directory", source).into()
        }
        _ => Error::Io { path: path.to_owned(), source },
    }
}

#[cfg(test)]
mod tests;
