//! Files that appear whole: temporary sibling, fsync, rename, fsync of the folder.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use xxhash_rust::xxh3::Xxh3;

use crate::{DataError, Result, failpoint};

/// Length and hash of a file's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digest {
    /// Length in bytes.
    pub bytes: u64,
    /// XXH3-128 as 32 hexadecimal digits. It finds damage, not forgery.
    pub xxh3_128: String,
}

/// Length and hash of `bytes`.
pub fn digest_bytes(bytes: &[u8]) -> Digest {
    Digest { bytes: bytes.len() as u64, xxh3_128: hex(xxhash_rust::xxh3::xxh3_128(bytes)) }
}

/// Length and hash of the file at `path`, read once from beginning to end.
///
/// # Errors
/// The file is missing, a folder, or unreadable.
pub fn digest_file(path: impl AsRef<Path>) -> Result<Digest> {
    let path = path.as_ref();
    let failed = |source| DataError::from_io(path, "read the file", source);
    let mut file = File::open(path).map_err(failed)?;
    let mut hash = Xxh3::new();
    let mut block = vec![0_u8; 1 << 20];
    let mut bytes = 0;
    loop {
        match file.read(&mut block) {
            Ok(0) => {
                return Ok(Digest { bytes, xxh3_128: hex(hash.digest128()) });
            }
            Ok(n) => {
                hash.update(&block[..n]);
                bytes += n as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error)),
        }
    }
}

fn hex(hash: u128) -> String {
    format!("{hash:032x}")
}

/// Makes names created, renamed or removed in `folder` survive a power cut.
///
/// # Errors
/// The folder cannot be opened or synchronised.
pub fn fsync_dir(folder: impl AsRef<Path>) -> Result<()> {
    let folder = folder.as_ref();
    failpoint::file("dir-sync")
        .and_then(|()| File::open(folder))
        .and_then(|handle| handle.sync_all())
        .map_err(|source| DataError::from_io(folder, "synchronise the folder", source))
}

/// Replaces the file at `path` by `bytes`: a reader sees the old file or the new one.
///
/// # Errors
/// The folder is missing or not writable, or the disk is full; the old file is then untouched.
pub fn write_atomic(path: impl AsRef<Path>, bytes: &[u8]) -> Result<()> {
    let mut file = AtomicFile::create(path.as_ref())?;
    file.write_all(bytes).map_err(|source| file.failed(source))?;
    file.commit()
}

/// Bytes that an ordinary user may still write in `folder`.
///
/// # Errors
/// The folder is missing or not accessible.
pub fn free_bytes(folder: impl AsRef<Path>) -> Result<u64> {
    let folder = folder.as_ref();
    let status = rustix::fs::statvfs(folder)
        .map_err(|errno| DataError::from_io(folder, "ask for the free space", errno.into()))?;
    Ok(status.f_bavail.saturating_mul(status.f_frsize))
}

/// The folder that holds `path`.
pub(super) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// A name next to `path` that no other writer uses: hidden, with process, time and counter.
pub(super) fn temporary_sibling(path: &Path) -> Result<PathBuf> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let Some(name) = path.file_name() else {
        return Err(DataError::NotAFile { path: path.to_path_buf(), found: "a folder" });
    };
    if path.is_dir() {
        return Err(DataError::NotAFile { path: path.to_path_buf(), found: "a folder" });
    }
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos());
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    let hidden = format!(".{}.{}-{nanos:x}-{count}.tmp", name.to_string_lossy(), std::process::id());
    Ok(folder_of(path).join(hidden))
}

/// Moves the synchronised `temporary` to `path`, atomically, and synchronises the folder.
pub(super) fn rename_over(temporary: &Path, path: &Path) -> Result<()> {
    failpoint::file("rename")
        .and_then(|()| fs::rename(temporary, path))
        .map_err(|source| DataError::from_io(path, "rename the finished file", source))?;
    fsync_dir(folder_of(path))
}

/// The same, but refuses when `path` exists; two racing writers cannot both succeed.
pub(super) fn rename_new(temporary: &Path, path: &Path) -> Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    use rustix::io::Errno;
    let failed = |source| DataError::from_io(path, "rename the finished file", source);
    failpoint::file("rename").map_err(failed)?;
    let moved = match renameat_with(CWD, temporary, CWD, path, RenameFlags::NOREPLACE) {
        // File systems without the flag (some network ones): a hard link refuses as well.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
            fs::hard_link(temporary, path).and_then(|()| fs::remove_file(temporary))
        }
        other => other.map_err(io::Error::from),
    };
    moved.map_err(failed)?;
    fsync_dir(folder_of(path))
}

/// A file written under a temporary name; dropped without [`AtomicFile::commit`], it leaves nothing.
#[derive(Debug)]
pub(crate) struct AtomicFile {
    file: File,
    temporary: PathBuf,
    path: PathBuf,
}

impl AtomicFile {
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let temporary = temporary_sibling(path)?;
        let file = failpoint::file("create")
            .and_then(|()| OpenOptions::new().write(true).create_new(true).open(&temporary))
            .map_err(|source| DataError::from_io(path, "create the file", source))?;
        Ok(Self { file, temporary, path: path.to_path_buf() })
    }

    /// The error for a failed write to this file.
    pub(crate) fn failed(&self, source: io::Error) -> DataError {
        DataError::from_io(&self.path, "write the file", source)
    }

    /// fsync, rename over the target, fsync of the folder.
    pub(crate) fn commit(self) -> Result<()> {
        self.sync()?;
        rename_over(&self.temporary, &self.path)
    }

    /// The same, but refuses when the target exists.
    pub(crate) fn commit_new(self) -> Result<()> {
        self.sync()?;
        rename_new(&self.temporary, &self.path)
    }

    fn sync(&self) -> Result<()> {
        failpoint::file("sync").and_then(|()| self.file.sync_all()).map_err(|source| self.failed(source))
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        failpoint::file("write")?;
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl io::Seek for AtomicFile {
    fn seek(&mut self, position: io::SeekFrom) -> io::Result<u64> {
        self.file.seek(position)
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        // After a commit the temporary name is gone and this does nothing.
        let _ = fs::remove_file(&self.temporary);
    }
}

/// A text file that appears at its path when [`TextWriter::commit`] succeeds, replacing an older one.
#[derive(Debug)]
pub struct TextWriter {
    file: io::BufWriter<AtomicFile>,
    path: PathBuf,
}

impl TextWriter {
    /// Starts a file.
    ///
    /// # Errors
    /// The folder is missing, read-only or full.
    pub fn create(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_path_buf();
        Ok(Self { file: io::BufWriter::new(AtomicFile::create(&path)?), path })
    }

    /// Appends `text`.
    ///
    /// # Errors
    /// The disk is full.
    pub fn write(&mut self, text: &str) -> Result<()> {
        self.file.write_all(text.as_bytes()).map_err(|source| DataError::from_io(&self.path, "write the file", source))
    }

    /// Finishes the file.
    ///
    /// # Errors
    /// The disk is full.
    pub fn commit(self) -> Result<()> {
        let file = self.file.into_inner();
        file.map_err(|error| DataError::from_io(&self.path, "write the file", error.into_error()))?.commit()
    }
}
