//! Arrays of numbers that lie in a file and are used like memory: the system keeps of them what there is room for.
//!
//! The file has no name, so that it is gone with the process whatever ends it. All of its blocks are taken when it is made: a disk that is full says so
//! then, in an error, and not later by a signal in the middle of a sum. What a signal (SIGBUS) still tells is a disk that breaks.
#![allow(unsafe_code)]

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;

use rustix::fs::{FallocateFlags, Mode, OFlags, fallocate, fstatfs};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use super::disk::temporary_sibling;
use crate::{DataError, Result, failpoint};

/// Types of file systems that are memory themselves (tmpfs, ramfs), as `statfs` numbers them.
const MEMORY: [u32; 2] = [0x0102_1994, 0x8584_58f6];

/// A folder below which mapped arrays lie; it need not exist yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overflow {
    folder: PathBuf,
}

impl Overflow {
    /// On the file system of `folder`: in the folder, or in the nearest one above it that exists.
    pub fn below(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// `len` zeros, in a file of their own.
    ///
    /// # Errors
    /// [`DataError::DiskFull`] where there is no room for all of them; [`DataError::Unmappable`] on a file system that cannot promise room, or is memory
    /// itself; others where the folder cannot be written.
    pub fn zeros(&self, len: usize) -> Result<Mapped> {
        let above = self.folder.ancestors().find(|folder| folder.is_dir());
        Mapped::zeros(above.unwrap_or(Path::new(".")), len)
    }

    /// Whether arrays can lie there at all: makes a small one.
    ///
    /// # Errors
    /// As [`Overflow::zeros`].
    pub fn check(&self) -> Result<()> {
        self.zeros(1).map(drop)
    }
}

/// Numbers in a file without a name.
#[derive(Debug)]
pub struct Mapped {
    /// Dangling for no numbers.
    start: NonNull<f32>,
    len: usize,
}

// SAFETY: the mapping belongs to this value alone, as the memory of a `Vec` does.
unsafe impl Send for Mapped {}
// SAFETY: shared references only read.
unsafe impl Sync for Mapped {}

impl Mapped {
    fn zeros(folder: &Path, len: usize) -> Result<Self> {
        if len == 0 {
            return Ok(Self { start: NonNull::dangling(), len });
        }
        let action = "make room for vectors that do not fit into memory";
        let failed = |errno: Errno| DataError::from_io(folder, action, errno.into());
        let bytes = len.checked_mul(size_of::<f32>()).ok_or_else(|| failed(Errno::FBIG))?;
        let unmappable = |why: &'static str| DataError::Unmappable { path: folder.to_owned(), why };
        let file = unnamed(folder)?;
        let kind = fstatfs(&file).map_err(failed)?.f_type as u32;
        if MEMORY.contains(&kind) {
            return Err(unmappable("it is on a file system that is memory itself"));
        }
        failpoint::hit("overflow-allocate").map_err(|source| DataError::from_io(folder, action, source))?;
        fallocate(&file, FallocateFlags::empty(), 0, bytes as u64).map_err(|errno| match errno {
            Errno::OPNOTSUPP | Errno::NOSYS => unmappable("its file system cannot promise room for a file"),
            errno => failed(errno),
        })?;
        let (access, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
        // SAFETY: a new mapping, where the system has room for it. Of the file, which has no name and whose descriptor ends with this function, nobody
        // else can change the length or the contents.
        let start = unsafe { mmap(std::ptr::null_mut(), bytes, access, flags, &file, 0) };
        let start = match start {
            Err(Errno::NODEV) => return Err(unmappable("its file system cannot map files")),
            start => start.map_err(failed)?,
        };
        let start = NonNull::new(start.cast()).ok_or_else(|| failed(Errno::NOMEM))?;
        Ok(Self { start, len })
    }
}

impl AsRef<[f32]> for Mapped {
    fn as_ref(&self) -> &[f32] {
        // SAFETY: `len` numbers of the mapping (a page begins where any number may); every bit pattern is a number, and nobody else writes them.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl AsMut<[f32]> for Mapped {
    fn as_mut(&mut self) -> &mut [f32] {
        // SAFETY: as above, and the reference to `self` is the only one.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        if self.len > 0 {
            // SAFETY: the mapping of `zeros`, of which no reference outlives this value. It cannot fail for one that is whole.
            let _ = unsafe { munmap(self.start.as_ptr().cast(), self.len * size_of::<f32>()) };
        }
    }
}

/// A new file of this user's in `folder` that has no name.
fn unnamed(folder: &Path) -> Result<File> {
    let failed = |source| DataError::from_io(folder, "make a file for vectors that do not fit into memory", source);
    match rustix::fs::open(folder, OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR) {
        Ok(file) => Ok(file.into()),
        // Network file systems, and old ones, have no files without names: it is taken away at once.
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT | Errno::INVAL) => {
            let path = temporary_sibling(&folder.join("overflow"))?;
            let mut options = OpenOptions::new();
            let file = options.read(true).write(true).create_new(true).mode(0o600).open(&path).map_err(failed)?;
            fs::remove_file(&path).map_err(failed)?;
            Ok(file)
        }
        Err(errno) => Err(failed(errno.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers stay what they are, also those of a folder that is not there yet, and no file is to be seen.
    #[test]
    fn mapped_numbers_are_memory_and_leave_nothing() {
        let scratch = tempfile::tempdir().unwrap();
        let overflow = Overflow::below(&scratch.path().join("run/of/tomorrow"));
        let mut numbers = match overflow.zeros(10_001) {
            // A test machine may have its scratch directories in memory.
            Err(DataError::Unmappable { .. }) => return,
            numbers => numbers.unwrap(),
        };
        assert!(numbers.as_ref().iter().all(|v| *v == 0.0));
        numbers.as_mut().iter_mut().enumerate().for_each(|(i, v)| *v = i as f32);
        let other = overflow.zeros(7).unwrap();
        assert!(other.as_ref().iter().all(|v| *v == 0.0));
        assert!(numbers.as_ref().iter().enumerate().all(|(i, v)| *v == i as f32));
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0);
        assert!(overflow.zeros(0).unwrap().as_ref().is_empty());
        overflow.check().unwrap();
    }

    /// More than any file can be is an error, not a signal later.
    #[test]
    fn what_cannot_be_allocated_is_an_error() {
        let scratch = tempfile::tempdir().unwrap();
        for len in [usize::MAX / 8, usize::MAX] {
            assert!(Overflow::below(scratch.path()).zeros(len).is_err());
        }
    }
}
