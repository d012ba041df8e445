//! A stack of float32 TIFF files, one per slice: what image viewers and other tomography programs
//! open. Each file appears whole.

use std::io::BufWriter;
use std::path::{Path, PathBuf};

use tiff::TiffError;
use tiff::encoder::{TiffEncoder, colortype::Gray32Float};

use crate::store::AtomicFile;
use crate::{DataError, Result};

/// Names and sizes of a stack; slices are written in any order, by any process.
#[derive(Clone, Debug)]
pub struct TiffStack {
    folder: PathBuf,
    stem: String,
    n_slices: usize,
    shape: [usize; 2],
}

impl TiffStack {
    /// Makes `folder` if it is missing. Slice 7 of 1000 of stem `mu` will be `mu_007.tif`.
    ///
    /// # Errors
    /// The folder cannot be made, or the slices `[ny, nx]` are empty or over 2³² − 1 wide.
    pub fn create(folder: impl AsRef<Path>, stem: &str, n_slices: usize, shape: [usize; 2]) -> Result<Self> {
        let folder = folder.as_ref();
        if shape.contains(&0) {
            let (path, name) = (folder.to_path_buf(), "a slice".to_owned());
            return Err(DataError::ZeroSize { path, name, shape: shape.to_vec() });
        }
        if shape.iter().any(|&n| u32::try_from(n).is_err()) {
            let detail = format!("TIFF cannot hold a slice of shape {shape:?}");
            return Err(DataError::InvalidValue { path: folder.to_path_buf(), detail });
        }
        std::fs::create_dir_all(folder).map_err(|source| DataError::from_io(folder, "make the folder", source))?;
        Ok(Self { folder: folder.to_path_buf(), stem: stem.to_owned(), n_slices, shape })
    }

    /// The file of slice `index`.
    pub fn path(&self, index: usize) -> PathBuf {
        let digits = self.n_slices.saturating_sub(1).to_string().len();
        self.folder.join(format!("{}_{index:0digits$}.tif", self.stem))
    }

    /// Writes slices `first..`, `[n, ny, nx]` row-major, replacing older files.
    ///
    /// # Errors
    /// The length is no multiple of a slice, a slice lies beyond the stack, or the disk is full.
    pub fn write(&self, first: usize, slices: &[f32]) -> Result<()> {
        let [ny, nx] = self.shape;
        let n = slices.len() / (ny * nx);
        if !slices.len().is_multiple_of(ny * nx) || first + n > self.n_slices {
            return Err(DataError::ShapeMismatch {
                path: self.folder.clone(),
                name: self.stem.clone(),
                found: vec![slices.len()],
                expected: format!("slices of {ny} x {nx} within {first}..{}", self.n_slices),
            });
        }
        slices.chunks(ny * nx).enumerate().try_for_each(|(k, slice)| self.write_slice(first + k, slice))
    }

    fn write_slice(&self, index: usize, slice: &[f32]) -> Result<()> {
        let path = self.path(index);
        let [ny, nx] = self.shape.map(|n| n as u32);
        let failed = |error: TiffError| match error {
            TiffError::IoError(source) => DataError::from_io(&path, "write the file", source),
            other => DataError::Malformed { path: path.clone(), format: "TIFF", detail: other.to_string() },
        };
        let mut file = BufWriter::new(AtomicFile::create(&path)?);
        TiffEncoder::new(&mut file)
            .and_then(|mut encoder| encoder.write_image::<Gray32Float>(nx, ny, slice))
            .map_err(failed)?;
        let file = file.into_inner().map_err(|error| failed(error.into_error().into()))?;
        file.commit()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tiff::decoder::{Decoder, DecodingResult};

    #[test]
    fn slices_come_back_and_names_sort() {
        let folder = tempfile::tempdir().unwrap();
        let stack = TiffStack::create(folder.path().join("out"), "mu", 12, [3, 5]).unwrap();
        let values: Vec<f32> = (0..30).map(|k| k as f32 - 7.5).collect();
        stack.write(8, &values).unwrap();
        assert!(stack.path(9).ends_with("mu_09.tif"));
        let file = std::fs::File::open(stack.path(9)).unwrap();
        let mut decoder = Decoder::new(std::io::BufReader::new(file)).unwrap();
        assert_eq!(decoder.dimensions().unwrap(), (5, 3));
        let DecodingResult::F32(read) = decoder.read_image().unwrap() else { panic!("not f32") };
        assert_eq!(read, values[15..]);
        assert_eq!(std::fs::read_dir(folder.path().join("out")).unwrap().count(), 2);
        assert!(matches!(stack.write(11, &values), Err(DataError::ShapeMismatch { .. })));
        assert!(matches!(stack.write(0, &values[1..]), Err(DataError::ShapeMismatch { .. })));
        assert!(matches!(TiffStack::create(folder.path(), "x", 1, [0, 4]), Err(DataError::ZeroSize { .. })));
    }
}
