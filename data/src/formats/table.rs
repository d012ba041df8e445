//! Comma-separated values: a line of names, then a row of cells on each line. Read only; what is in a cell is the caller's business.

use std::path::{Path, PathBuf};

use crate::{DataError, Result};

/// A table as it was typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    path: PathBuf,
    /// Names of the columns.
    pub columns: Vec<String>,
    /// Line in the file, from 1, and one cell for each column, without spaces around it.
    pub rows: Vec<(u64, Vec<String>)>,
}

impl Table {
    /// Reads a file.
    ///
    /// # Errors
    /// [`DataError::Malformed`] with the line, where a row has another number of cells or is not UTF-8; those of opening.
    pub fn read(path: &Path) -> Result<Self> {
        let malformed = |detail: String| DataError::Malformed { path: path.to_owned(), format: "CSV", detail };
        let meta = std::fs::metadata(path).map_err(|e| DataError::from_io(path, "open the table", e))?;
        if meta.is_dir() {
            return Err(DataError::NotAFile { path: path.to_owned(), found: "a folder" });
        }
        let file = std::fs::File::open(path).map_err(|e| DataError::from_io(path, "open the table", e))?;
        let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(file);
        let columns: Vec<String> =
            reader.headers().map_err(|e| malformed(e.to_string()))?.iter().map(str::to_owned).collect();
        let mut rows = Vec::new();
        for record in reader.records() {
            let record = record.map_err(|e| malformed(e.to_string()))?;
            let line = record.position().map_or(0, csv::Position::line);
            rows.push((line, record.iter().map(str::to_owned).collect()));
        }
        Ok(Self { path: path.to_owned(), columns, rows })
    }

    /// The place of a column.
    ///
    /// # Errors
    /// [`DataError::Malformed`] with the columns that are there.
    pub fn column(&self, name: &str) -> Result<usize> {
        self.columns
            .iter()
            .position(|column| column == name)
            .ok_or_else(|| self.wrong(format!("no column {name}; found {}", self.columns.join(","))))
    }

    /// An error about this table.
    pub fn wrong(&self, detail: String) -> DataError {
        DataError::Malformed { path: self.path.clone(), format: "CSV", detail }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_read_as_typed_and_damage_has_a_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.csv");
        std::fs::write(&path, "a, b \n1,\"x, y\"\n,3\n").unwrap();
        let table = Table::read(&path).unwrap();
        assert_eq!(table.columns, ["a", "b"]);
        assert_eq!(table.rows, [(2, vec!["1".into(), "x, y".into()]), (3, vec!["".into(), "3".into()])]);
        assert_eq!(table.column("b").unwrap(), 1);
        assert!(table.column("c").unwrap_err().to_string().contains("no column c; found a,b"));
        std::fs::write(&path, "a,b\n1,2\n3\n").unwrap();
        let error = Table::read(&path).unwrap_err().to_string();
        assert!(error.contains("t.csv: not a usable CSV file") && error.contains("line: 3"), "{error}");
        assert!(matches!(Table::read(&folder.path().join("none")), Err(DataError::NotFound { .. })));
        assert!(matches!(Table::read(folder.path()), Err(DataError::NotAFile { .. })));
    }
}
