//! Finished parts of a result that is larger than memory: one verified file per part.
//!
//! A piece is written once, by its rows, and is complete or absent. Its name carries its hash.
//! The pieces of a run may have been cut by different rank counts; they may overlap, because an
//! interrupted window is computed again.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use convoke_data::store::{Reader, Writer, digest_file, fsync_dir};

use crate::comm::Comm;
use crate::error::{Error, Result};

/// Where the pieces of one run lie.
#[derive(Debug, Clone)]
pub struct Pieces {
    dir: PathBuf,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Rows of the first axis.
    pub rows: Range<usize>,
    path: PathBuf,
    xxh3_128: String,
}

impl Pieces {
    /// Pieces below a run directory.
    pub fn below(run_dir: &Path) -> Self {
        Self { dir: run_dir.join("pieces") }
    }

    /// Writes rows `rows` of array `name`; `shape` is that of the part.
    ///
    /// # Errors
    /// Data errors: the disk is full, or what was written does not read back.
    pub fn put(&self, name: &str, rows: Range<usize>, shape: &[usize], data: &[f32]) -> Result<()> {
        let io = |source| convoke_data::DataError::from_io(&self.dir, "make the directory of pieces", source);
        fs::create_dir_all(&self.dir).map_err(io)?;
        let stem = format!("{name}-{:08}-{:08}", rows.start, rows.end);
        let draft = self.dir.join(format!("{stem}.draft"));
        let mut writer = Writer::create_latest(&draft)?;
        writer.whole("/data", shape, data)?;
        let digest = writer.commit_replace()?;
        let path = self.dir.join(format!("{stem}-{}.h5", digest.xxh3_128));
        fs::rename(&draft, &path).map_err(io)?;
        Ok(fsync_dir(&self.dir)?)
    }

    /// All pieces of array `name`, by their first row.
    pub fn list(&self, name: &str) -> Vec<Piece> {
        let entries = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let mut pieces: Vec<Piece> = entries.filter_map(|e| parse(name, e.path())).collect();
        pieces.sort_by_key(|p| (p.rows.start, std::cmp::Reverse(p.rows.end)));
        pieces
    }

    /// Pieces, each with the rows of it to take, that give all of `total` rows exactly once.
    ///
    /// # Errors
    /// [`Error::Restore`] if rows are missing.
    pub fn cover(&self, name: &str, total: usize) -> Result<Vec<(Piece, Range<usize>)>> {
        let mut covered = 0;
        let mut chosen = Vec::new();
        for piece in self.list(name) {
            if piece.rows.start <= covered && piece.rows.end > covered {
                let take = covered..piece.rows.end;
                covered = piece.rows.end;
                chosen.push((piece, take));
            }
        }
        if covered < total {
            let problem = format!("has no piece for row {covered} of {total}");
            return Err(Error::Restore { dir: self.dir.clone(), field: name.to_owned(), problem });
        }
        Ok(chosen)
    }

    /// Removes all pieces, once the result holds them; rank 0 does it.
    pub fn clear_on(&self, comm: &Comm) {
        if comm.is_root() {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

impl Piece {
    /// Rows `rows` (global numbers) of the piece, after its hash was checked by [`Piece::verify`].
    ///
    /// # Errors
    /// Data errors of reading.
    pub fn read(&self, rows: Range<usize>) -> Result<Vec<f32>> {
        let reader = Reader::open(&self.path)?;
        let mut count = reader.shape("/data")?;
        let mut start = vec![0; count.len()];
        start[0] = rows.start - self.rows.start;
        count[0] = rows.len();
        Ok(reader.read_slab("/data", &start, &count)?)
    }

    /// Whether the file still has the bytes that were written.
    ///
    /// # Errors
    /// Data errors of reading, [`Error::Restore`] if it has changed.
    pub fn verify(&self) -> Result<()> {
        if digest_file(&self.path)?.xxh3_128 == self.xxh3_128 {
            return Ok(());
        }
        let problem = "is damaged: remove the file and resume to compute it again".to_owned();
        Err(Error::Restore { dir: self.path.clone(), field: "data".into(), problem })
    }
}

/// `name-START-END-HASH.h5`
fn parse(name: &str, path: PathBuf) -> Option<Piece> {
    let file = path.file_name()?.to_str()?;
    let rest = file.strip_prefix(name)?.strip_prefix('-')?.strip_suffix(".h5")?;
    let mut parts = rest.split('-');
    let rows = parts.next()?.parse().ok()?..parts.next()?.parse().ok()?;
    let xxh3_128 = parts.next()?.to_owned();
    Some(Piece { rows, path, xxh3_128 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlapping_pieces_cover_every_row_once_and_a_gap_is_an_error() {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let pieces = Pieces::below(scratch.path());
        for rows in [0..3usize, 2..5, 5..6, 5..8] {
            let data: Vec<f32> = rows.clone().flat_map(|r| [r as f32, -(r as f32)]).collect();
            pieces.put("volume", rows.clone(), &[rows.len(), 2], &data).expect("written");
        }
        let mut all = Vec::new();
        for (piece, take) in pieces.cover("volume", 8).expect("covered") {
            piece.verify().expect("whole");
            all.extend(piece.read(take).expect("read"));
        }
        assert_eq!(all, (0..8).flat_map(|r| [r as f32, -(r as f32)]).collect::<Vec<_>>());
        assert!(pieces.cover("volume", 9).expect_err("row 8 is missing").to_string().contains("row 8 of 9"));
        let first = pieces.list("volume")[0].clone();
        let mut bytes = fs::read(&first.path).expect("read");
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        fs::write(&first.path, bytes).expect("written");
        assert!(first.verify().expect_err("changed").to_string().contains("is damaged"));
    }
}
