//! HDF5 files that are either complete and verified, or absent.
//!
//! HDF5 answers `Ok` for data that a full disk swallowed (measured), and a file changed in place is
//! torn by a crash. Therefore [`Writer`] fills a temporary sibling and [`Writer::commit_new`] or
//! [`Writer::commit_replace`] flushes, closes, fsyncs, opens the file again, compares every slab's
//! hash with the hash of what was handed in, hashes the bytes, renames, and fsyncs the folder.
//! [`Reader`] refuses data that lie in other files and reports damage in plain words.
//!
//! ```
//! use convoke_data::store::{Layout, Reader, Writer};
//! # fn main() -> convoke_data::Result<()> {
//! # let folder = tempfile::tempdir().unwrap();
//! # let path = folder.path().join("result.h5");
//! let mut file = Writer::create(&path)?;
//! file.dataset::<f32>("/result/mu", &[4, 3], Layout::Contiguous)?;
//! file.write("/result/mu", &[0, 0], &[2, 3], &[1.0_f32; 6])?; // rows 0..2
//! file.write("/result/mu", &[2, 0], &[2, 3], &[2.0_f32; 6])?; // rows 2..4
//! file.attribute("/result/mu", "units", "1/m")?;
//! let digest = file.commit_new()?;
//!
//! let file = Reader::open(&path)?;
//! assert_eq!(file.shape("/result/mu")?, [4, 3]);
//! assert_eq!(file.read_slab::<f32>("/result/mu", &[1, 0], &[2, 1])?, [1.0, 2.0]);
//! assert_eq!(convoke_data::store::digest_file(&path)?, digest);
//! # Ok(())
//! # }
//! ```

mod attribute;
mod disk;
mod element;
mod links;
mod mapped;
mod reader;
mod scales;
mod writer;

#[cfg(test)]
mod tests;

pub use attribute::Attribute;
pub(crate) use disk::AtomicFile;
pub use disk::{Digest, TextWriter, digest_bytes, digest_file, free_bytes, fsync_dir, write_atomic};
pub use element::{Dtype, Element};
pub use mapped::{Mapped, Overflow};
pub use reader::{Entry, Object, Reader};
pub use writer::{Layout, Writer};

/// Options of every file of ours: without HDF5's own locks.
///
/// A finished file is never changed in place, and a run directory has one owner by other means. The
/// library's `flock` only does harm: network file systems may not have it, and a process that is
/// started while a file is open inherits the lock, so that opening the file again fails.
fn unlocked() -> hdf5::FileBuilder {
    let mut options = hdf5::File::with_options();
    options.with_fapl(|fapl| fapl.file_locking(false));
    options
}

/// Version of the linked HDF5 library, such as `1.10.8`.
pub fn hdf5_version() -> String {
    let (major, minor, patch) = hdf5::library_version();
    format!("{major}.{minor}.{patch}")
}
