//! What can go wrong with a file, in words for the person who named it.

use std::io;
use std::path::{Path, PathBuf};

/// Shorthand for a result of this crate.
pub type Result<T> = std::result::Result<T, DataError>;

/// Every failure of this crate. The message names the file, the dataset, what was found, what was
/// expected and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the message of each variant says what its fields are")]
pub enum DataError {
    /// No such file or folder.
    #[error("{}: no such file or folder; check the path (it is relative to the current folder)", path.display())]
    NotFound { path: PathBuf },
    /// A folder or a device where a file was expected.
    #[error("{}: is {found}, not a regular file; name the file itself", path.display())]
    NotAFile { path: PathBuf, found: &'static str },
    /// The system refused access.
    #[error("{}: permission denied to {action}; check the owner and mode with `ls -l`", path.display())]
    PermissionDenied { path: PathBuf, action: &'static str },
    /// Zero bytes.
    #[error("{}: the file is empty (0 bytes); the program that wrote it probably died: write or copy it again", path.display())]
    Empty { path: PathBuf },
    /// No HDF5 signature.
    #[error("{}: not an HDF5 file (it starts with {start:?}); expected a .h5, .hdf5, .nxs or .vtkhdf file", path.display())]
    NotHdf5 { path: PathBuf, start: String },
    /// Shorter than its own header says.
    #[error("{}: the file is truncated ({detail}); copy it again and compare sizes", path.display())]
    Truncated { path: PathBuf, detail: String },
    /// HDF5, but damaged.
    #[error("{}: the file is damaged ({detail}); restore it from its source", path.display())]
    Corrupt { path: PathBuf, detail: String },
    /// A malformed file of another format.
    #[error("{}: not a usable {format} file: {detail}", path.display())]
    Malformed { path: PathBuf, format: &'static str, detail: String },

    /// A name that the file lacks.
    #[error("{}: no dataset {name}{}; the file has: {}", path.display(), did_you_mean(nearest), listing(available))]
    MissingDataset { path: PathBuf, name: String, nearest: Option<String>, available: Vec<String> },
    /// An attribute that an object lacks.
    #[error("{}: {object} has no attribute `{name}`", path.display())]
    MissingAttribute { path: PathBuf, object: String, name: String },
    /// An attribute of another type.
    #[error("{}: attribute `{name}` of {object} is {found}, expected {expected}", path.display())]
    WrongAttribute { path: PathBuf, object: String, name: String, found: String, expected: &'static str },
    /// Data that lie in another file. Following them would let a file read any other.
    #[error("{}: {name} lies in another file ({target}); this is refused: make a self-contained copy, for example with `h5repack`", path.display())]
    External { path: PathBuf, name: String, target: String },
    /// Another number of axes.
    #[error("{}: {name} has {found} axes, expected {expected}", path.display())]
    WrongRank { path: PathBuf, name: String, found: usize, expected: String },
    /// Another element type.
    #[error("{}: {name} holds {found}, expected {expected}", path.display())]
    WrongType { path: PathBuf, name: String, found: String, expected: String },
    /// A shape that does not fit another dataset, or the caller's data.
    #[error("{}: {name} has shape {found:?}, expected {expected}", path.display())]
    ShapeMismatch { path: PathBuf, name: String, found: Vec<usize>, expected: String },
    /// An axis of length 0.
    #[error("{}: {name} has shape {shape:?}: an axis is empty, there is nothing to compute", path.display())]
    ZeroSize { path: PathBuf, name: String, shape: Vec<usize> },
    /// A hyperslab outside the dataset.
    #[error("{}: the slab start {start:?}, count {count:?} lies outside {name} of shape {shape:?}", path.display())]
    OutOfBounds { path: PathBuf, name: String, start: Vec<usize>, count: Vec<usize>, shape: Vec<usize> },
    /// NaN or infinity in measured data.
    #[error("{}: {name} holds {count} values that are NaN or infinite, the first at index {first:?}; mask or repair them", path.display())]
    NonFinite { path: PathBuf, name: String, count: usize, first: Vec<usize> },
    /// A claimed size above the limit.
    #[error("{}: {name} claims {bytes} bytes, the limit for one read is {limit}; read it in slabs or raise the limit", path.display())]
    TooLarge { path: PathBuf, name: String, bytes: u128, limit: u64 },
    /// A claimed size above the limit for files of others.
    #[error("{}: {name} claims {bytes} bytes, and {limit} are allowed; if you trust the file, allow more with --max-bytes", path.display())]
    OverLimit { path: PathBuf, name: String, bytes: u128, limit: u64 },
    /// Data that only a program of somebody else can unpack.
    #[error("{}: {name} is packed with filter {filter}, which needs a plug-in; this is refused: make a copy with `h5repack -f GZIP=4`", path.display())]
    PlugIn { path: PathBuf, name: String, filter: i32 },
    /// More structure than any honest file has.
    #[error("{}: holds {what}; this is refused: copy what you need into a file of its own, for example with `h5copy`", path.display())]
    Unreasonable { path: PathBuf, what: String },
    /// A file that ended the process that read it.
    #[error("{}: this file could not be read: {how}; it is damaged, or made to do harm", path.display())]
    Unreadable { path: PathBuf, how: String },
    /// A value that the format cannot hold.
    #[error("{}: {detail}", path.display())]
    InvalidValue { path: PathBuf, detail: String },

    /// The disk or the quota is full.
    #[error("{}: the disk or the quota is full while trying to {action}; nothing was replaced: free some space and run again", path.display())]
    DiskFull { path: PathBuf, action: &'static str },
    /// No place for arrays that are used like memory.
    #[error("{}: vectors that do not fit into memory cannot lie here: {why}; choose a folder on a local disk with --dir, or more memory or ranks", path.display())]
    Unmappable { path: PathBuf, why: &'static str },
    /// The output exists and replacing was not asked for.
    #[error("{}: exists already; remove it or choose another name", path.display())]
    Exists { path: PathBuf },
    /// What was read back differs from what was written. HDF5 answers `Ok` for data that a full disk
    /// swallowed, so this can be the only sign of one.
    #[error("{}: {name} read back differs from what was written, with {free} bytes free on the disk; nothing was replaced: check space, quota and the system log", path.display())]
    Unverified { path: PathBuf, name: String, free: u64 },
    /// A dataset was declared and not filled.
    #[error("{}: {name}: only {written} of {total} elements were written before the commit", path.display())]
    Incomplete { path: PathBuf, name: String, written: usize, total: usize },
    /// Two slabs overlap.
    #[error("{}: {name}: the slab start {start:?}, count {count:?} overlaps one written before", path.display())]
    Overlap { path: PathBuf, name: String, start: Vec<usize>, count: Vec<usize> },
    /// The HDF5 library failed otherwise.
    #[error("{}: cannot {action}: {detail}", path.display())]
    Hdf5 { path: PathBuf, action: &'static str, detail: String },
    /// The operating system failed otherwise.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io { path: PathBuf, action: &'static str, source: io::Error },
}

impl DataError {
    /// The variant that tells most about the system's error `source`, met while trying to
    /// `action` on `path`.
    pub fn from_io(path: &Path, action: &'static str, source: io::Error) -> Self {
        let path = path.to_path_buf();
        match source.kind() {
            io::ErrorKind::NotFound => Self::NotFound { path },
            io::ErrorKind::PermissionDenied => Self::PermissionDenied { path, action },
            io::ErrorKind::AlreadyExists => Self::Exists { path },
            io::ErrorKind::IsADirectory => Self::NotAFile { path, found: "a folder" },
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { path, action },
            _ => Self::Io { path, action, source },
        }
    }

    /// The same for an error of the HDF5 library, whose text carries `errno` and the cause.
    pub(crate) fn from_hdf5(path: &Path, action: &'static str, error: &hdf5::Error) -> Self {
        let detail = match error.stack() {
            Some(stack) => stack.iter().map(|frame| frame.desc().to_owned()).collect::<Vec<_>>().join(": "),
            None => error.to_string(),
        };
        let path_buf = path.to_path_buf();
        if let Some(errno) = errno_in(&detail) {
            let source = io::Error::from_raw_os_error(errno);
            return match Self::from_io(path, action, source) {
                Self::Io { path, action, .. } => Self::Hdf5 { path, action, detail: with_hint(errno, detail) },
                clear => clear,
            };
        }
        if detail.contains("truncated file") {
            return Self::Truncated { path: path_buf, detail: last_part(&detail) };
        }
        Self::Hdf5 { path: path_buf, action, detail }
    }
}

/// The number after `errno = ` in the text of an HDF5 error.
fn errno_in(detail: &str) -> Option<i32> {
    let digits = detail.split("errno = ").nth(1)?;
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].parse().ok().filter(|&errno| errno != 0)
}

/// The innermost cause in the text of an HDF5 error.
pub(crate) fn last_part(detail: &str) -> String {
    detail.rsplit(": ").next().unwrap_or(detail).to_owned()
}

fn with_hint(errno: i32, detail: String) -> String {
    // ENOLCK: network file systems without lock service; HDF5 locks every file it opens.
    if errno == rustix::io::Errno::NOLCK.raw_os_error() {
        return format!("{detail}; this file system has no locks: set HDF5_USE_FILE_LOCKING=FALSE");
    }
    detail
}

fn did_you_mean(nearest: &Option<String>) -> String {
    nearest.as_ref().map_or_else(String::new, |name| format!(" (did you mean {name}?)"))
}

fn listing(available: &[String]) -> String {
    const SHOWN: usize = 20;
    match available.len() {
        0 => "no datasets".to_owned(),
        n if n <= SHOWN => available.join(", "),
        n => format!("{}, and {} more", available[..SHOWN].join(", "), n - SHOWN),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errno_is_found_in_the_text_of_hdf5() {
        assert_eq!(errno_in("file write failed: errno = 28, error message = 'No space'"), Some(28));
        assert_eq!(errno_in("errno = 13"), Some(13));
        assert_eq!(errno_in("no number here"), None);
    }

    #[test]
    fn full_disk_and_quota_are_named() {
        for errno in [rustix::io::Errno::NOSPC, rustix::io::Errno::DQUOT] {
            let source = io::Error::from_raw_os_error(errno.raw_os_error());
            let error = DataError::from_io(Path::new("a.h5"), "write", source);
            assert!(matches!(error, DataError::DiskFull { .. }), "{error}");
        }
    }

    #[test]
    fn a_missing_name_lists_what_is_there() {
        let error = DataError::MissingDataset {
            path: "scan.h5".into(),
            name: "/exchange/dat".into(),
            nearest: Some("/exchange/data".into()),
            available: vec!["/exchange/data".into(), "/exchange/theta".into()],
        };
        assert_eq!(
            error.to_string(),
            "scan.h5: no dataset /exchange/dat (did you mean /exchange/data?); the file has: /exchange/data, /exchange/theta"
        );
    }
}
