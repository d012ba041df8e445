//! Data Exchange: raw tomography scans of synchrotron beamlines, in HDF5.
//!
//! ```text
//! /exchange/data        [n_angles, n_rows, n_cols]  raw counts, any number type
//! /exchange/data_white  [n_white, n_rows, n_cols]   beam without sample
//! /exchange/data_dark   [n_dark, n_rows, n_cols]    no beam
//! /exchange/theta       [n_angles]                  degrees unless `units` says otherwise
//! ```
//! Source: De Carlo et al., J. Synchrotron Rad. 21 (2014) 1224; fall-backs as the reader of DXchange.
//!
//! ```
//! use convoke_data::formats::data_exchange::{Counts, Header, RawRows, Scan, ScanWriter};
//! # fn main() -> convoke_data::Result<()> {
//! # let folder = tempfile::tempdir().unwrap();
//! # let path = folder.path().join("scan.h5");
//! let header = Header { theta_deg: vec![0.0, 90.0], n_rows: 3, n_cols: 4, n_white: 1, n_dark: 1 };
//! let mut file = ScanWriter::create(&path, header, Counts::U16)?;
//! file.write_rows(0..3, &RawRows {
//!     projections: vec![800.0; 2 * 3 * 4],
//!     white: vec![1000.0; 3 * 4],
//!     dark: vec![10.0; 3 * 4],
//! })?;
//! file.commit_new()?;
//!
//! let scan = Scan::open(&path)?;
//! assert_eq!((scan.n_angles, scan.n_rows, scan.n_cols), (2, 3, 4));
//! let band = scan.read_rows(1..2)?; // only this row of every frame
//! assert_eq!(band.projections, [800.0; 2 * 4]);
//! # Ok(())
//! # }
//! ```

use std::ops::Range;
use std::path::Path;

use crate::store::{Digest, Element, Layout, Reader, Writer};
use crate::{DataError, Result};

const DATA: &str = "/exchange/data";
const WHITE: &str = "/exchange/data_white";
const DARK: &str = "/exchange/data_dark";
const THETA: &str = "/exchange/theta";
const WHITE_VALUE: &str = "/process/acquisition/flat_fields/flat_field_value";
const DARK_VALUE: &str = "/process/acquisition/dark_fields/dark_field_value";
const ROTATION_START: &str = "/process/acquisition/rotation/rotation_start";
const ROTATION_STEP: &str = "/process/acquisition/rotation/rotation_step";

/// A scan whose header was read and checked; the frames are read in bands of rows.
#[derive(Debug)]
pub struct Scan {
    /// Projections.
    pub n_angles: usize,
    /// Detector rows; rows are slices of the volume.
    pub n_rows: usize,
    /// Detector columns.
    pub n_cols: usize,
    /// Frames without sample; 0 when the file has none (see [`Scan::notes`]).
    pub n_white: usize,
    /// Frames without beam; 1 of zeros when the file has none.
    pub n_dark: usize,
    /// Angle per projection as in the file, `[n_angles]`.
    pub theta: Vec<f64>,
    /// Unit of [`Scan::theta`].
    pub theta_unit: AngleUnit,
    /// What was assumed because the file does not say it, one line each.
    pub notes: Vec<String>,
    reader: Reader,
    white: Frames,
    dark: Frames,
}

/// Unit of an angle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AngleUnit {
    /// 360 per turn, the default of the format.
    Degrees,
    /// 2π per turn.
    Radians,
}

/// Where correction frames come from.
#[derive(Clone, Copy, Debug)]
enum Frames {
    /// A dataset [n, n_rows, n_cols].
    Stack(usize),
    /// A dataset [n_rows, n_cols].
    Single,
    /// The same value everywhere.
    Constant(f32),
    /// Nowhere.
    None,
}

impl Frames {
    fn count(self) -> usize {
        match self {
            Self::Stack(n) => n,
            Self::Single | Self::Constant(_) => 1,
            Self::None => 0,
        }
    }
}

/// A band of detector rows of every frame; raw counts, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct RawRows {
    /// [n_angles, rows, n_cols].
    pub projections: Vec<f32>,
    /// [n_white, rows, n_cols].
    pub white: Vec<f32>,
    /// [n_dark, rows, n_cols].
    pub dark: Vec<f32>,
}

impl Scan {
    /// Reads and checks the header of `path`: shapes, types and angles, no frame.
    ///
    /// # Errors
    /// Not a usable HDF5 file, no `/exchange/data`, an axis of length 0, another number of axes,
    /// correction frames or angles that do not fit the projections, angles that are not finite, or
    /// data in other files.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let reader = Reader::open(path)?;
        let shape = checked_shape(&reader, DATA)?;
        let [n_angles, n_rows, n_cols] = shape[..] else {
            return Err(DataError::WrongRank {
                path: reader.path().to_path_buf(),
                name: DATA.to_owned(),
                found: shape.len(),
                expected: "3: angle, row, column".to_owned(),
            });
        };
        let mut notes = Vec::new();
        let white = frames(&reader, WHITE, WHITE_VALUE, [n_rows, n_cols])?;
        if matches!(white, Frames::None) {
            notes.push(format!("no {WHITE}: the projections cannot be divided by the beam"));
        }
        let mut dark = frames(&reader, DARK, DARK_VALUE, [n_rows, n_cols])?;
        if matches!(dark, Frames::None) {
            notes.push(format!("no {DARK}: zeros are assumed"));
            dark = Frames::Constant(0.0);
        }
        let (theta, theta_unit) = angles(&reader, n_angles, &mut notes)?;
        Ok(Self {
            n_angles,
            n_rows,
            n_cols,
            n_white: white.count(),
            n_dark: dark.count(),
            theta,
            theta_unit,
            notes,
            reader,
            white,
            dark,
        })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        self.reader.path()
    }

    /// Angle per projection in radians, `[n_angles]`.
    pub fn theta_rad(&self) -> Vec<f64> {
        match self.theta_unit {
            AngleUnit::Degrees => self.theta.iter().map(|theta| theta.to_radians()).collect(),
            AngleUnit::Radians => self.theta.clone(),
        }
    }

    /// Reads the band `rows` of every frame, and nothing else.
    ///
    /// # Errors
    /// As [`Scan::read_part`].
    pub fn read_rows(&self, rows: Range<usize>) -> Result<RawRows> {
        self.read_part(rows, 0..self.n_angles)
    }

    /// Reads the band `rows` of some projections, and of every white and dark frame.
    ///
    /// # Errors
    /// The band is empty or outside, the file is damaged, or a count is NaN or infinite (the index
    /// in the error is that of the whole file).
    pub fn read_part(&self, rows: Range<usize>, angles: Range<usize>) -> Result<RawRows> {
        Ok(RawRows {
            projections: self.read_stack(DATA, &angles, &rows)?,
            white: self.read_frames(WHITE, self.white, &rows)?,
            dark: self.read_frames(DARK, self.dark, &rows)?,
        })
    }

    fn read_frames(&self, name: &str, frames: Frames, rows: &Range<usize>) -> Result<Vec<f32>> {
        match frames {
            Frames::Stack(n) => self.read_stack(name, &(0..n), rows),
            Frames::Single => {
                let (start, count) = ([rows.start, 0], [rows.len(), self.n_cols]);
                let values = self.reader.read_slab(name, &start, &count)?;
                self.check_finite(name, &start, &count, &values)?;
                Ok(values)
            }
            Frames::Constant(value) => Ok(vec![value; rows.len() * self.n_cols]),
            Frames::None => Ok(Vec::new()),
        }
    }

    fn read_stack(&self, name: &str, frames: &Range<usize>, rows: &Range<usize>) -> Result<Vec<f32>> {
        let (start, count) = ([frames.start, rows.start, 0], [frames.len(), rows.len(), self.n_cols]);
        if rows.is_empty() || frames.is_empty() {
            let (path, name) = (self.path().to_path_buf(), name.to_owned());
            return Err(DataError::ZeroSize { path, name, shape: count.to_vec() });
        }
        let values = self.reader.read_slab(name, &start, &count)?;
        self.check_finite(name, &start, &count, &values)?;
        Ok(values)
    }

    fn check_finite(&self, name: &str, start: &[usize], count: &[usize], values: &[f32]) -> Result<()> {
        let Some(flat) = values.iter().position(|value| !value.is_finite()) else {
            return Ok(());
        };
        Err(DataError::NonFinite {
            path: self.path().to_path_buf(),
            name: name.to_owned(),
            count: values.iter().filter(|value| !value.is_finite()).count(),
            first: index_of(flat, start, count),
        })
    }
}

/// Index in the whole dataset of the element `flat` of the box `start`, `count`.
fn index_of(mut flat: usize, start: &[usize], count: &[usize]) -> Vec<usize> {
    let mut index = start.to_vec();
    for axis in (0..count.len()).rev() {
        index[axis] += flat % count[axis];
        flat /= count[axis];
    }
    index
}

/// The shape of a dataset of numbers without an empty axis.
fn checked_shape(reader: &Reader, name: &str) -> Result<Vec<usize>> {
    let shape = reader.shape(name)?;
    let (path, name_owned) = (reader.path().to_path_buf(), name.to_owned());
    let dtype = reader.dtype(name)?;
    if !dtype.converts_to(&f64::DTYPE) {
        let (found, expected) = (dtype.to_string(), "numbers".to_owned());
        return Err(DataError::WrongType { path, name: name_owned, found, expected });
    }
    if shape.contains(&0) {
        return Err(DataError::ZeroSize { path, name: name_owned, shape });
    }
    Ok(shape)
}

/// Where the correction frames `name` come from; their rows and columns must be `frame`.
fn frames(reader: &Reader, name: &str, value_name: &str, frame: [usize; 2]) -> Result<Frames> {
    if !reader.has(name) {
        return match first_number(reader, value_name)? {
            Some(value) => Ok(Frames::Constant(value as f32)),
            None => Ok(Frames::None),
        };
    }
    let shape = checked_shape(reader, name)?;
    match shape[..] {
        [n, rows, cols] if [rows, cols] == frame => Ok(Frames::Stack(n)),
        [rows, cols] if [rows, cols] == frame => Ok(Frames::Single),
        _ => Err(DataError::ShapeMismatch {
            path: reader.path().to_path_buf(),
            name: name.to_owned(),
            found: shape,
            expected: format!("[n, {}, {}] as the frames of {DATA}", frame[0], frame[1]),
        }),
    }
}

/// The first element of a dataset that may be absent.
fn first_number(reader: &Reader, name: &str) -> Result<Option<f64>> {
    if !reader.has(name) {
        return Ok(None);
    }
    checked_shape(reader, name)?;
    Ok(reader.read::<f64>(name)?.first().copied())
}

fn angles(reader: &Reader, n_angles: usize, notes: &mut Vec<String>) -> Result<(Vec<f64>, AngleUnit)> {
    if !reader.has(THETA) {
        let start = first_number(reader, ROTATION_START)?;
        let step = first_number(reader, ROTATION_STEP)?;
        if let (Some(start), Some(step)) = (start, step) {
            notes.push(format!("no {THETA}: {start} + k * {step} degrees from /process/acquisition"));
            let theta = (0..n_angles).map(|k| start + k as f64 * step).collect();
            return Ok((theta, AngleUnit::Degrees));
        }
        notes.push(format!("no {THETA}: {n_angles} angles from 0 to 180 degrees inclusive are assumed"));
        let last = (n_angles - 1).max(1) as f64;
        return Ok(((0..n_angles).map(|k| 180.0 * k as f64 / last).collect(), AngleUnit::Degrees));
    }
    let shape = checked_shape(reader, THETA)?;
    let (path, name) = (reader.path().to_path_buf(), THETA.to_owned());
    if shape != [n_angles] {
        let expected = format!("[{n_angles}], one angle per projection of {DATA}");
        return Err(DataError::ShapeMismatch { path, name, found: shape, expected });
    }
    let theta: Vec<f64> = reader.read(THETA)?;
    if let Some(first) = theta.iter().position(|angle| !angle.is_finite()) {
        let count = theta.iter().filter(|angle| !angle.is_finite()).count();
        return Err(DataError::NonFinite { path, name, count, first: vec![first] });
    }
    let unit = reader.attribute(THETA, "units")?;
    let unit = match unit.as_ref().and_then(|unit| unit.as_text()).map(str::trim) {
        Some(unit) if unit.to_ascii_lowercase().starts_with("rad") => AngleUnit::Radians,
        Some(unit) if unit.to_ascii_lowercase().starts_with("deg") || unit == "°" => AngleUnit::Degrees,
        Some(other) => {
            notes.push(format!("{THETA} has the unit {other:?}: degrees are assumed"));
            AngleUnit::Degrees
        }
        None => AngleUnit::Degrees,
    };
    Ok((theta, unit))
}

/// Number type of the frames in a written file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counts {
    /// Rounded to whole counts, 0 to 65535, as a detector delivers.
    U16,
    /// As they are.
    F32,
}

/// Sizes of a scan that is to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    /// Angle per projection in degrees, `[n_angles]`.
    pub theta_deg: Vec<f64>,
    /// Detector rows.
    pub n_rows: usize,
    /// Detector columns.
    pub n_cols: usize,
    /// Frames without sample.
    pub n_white: usize,
    /// Frames without beam.
    pub n_dark: usize,
}

/// Writes a scan band by band.
#[derive(Debug)]
pub struct ScanWriter {
    file: Writer,
    header: Header,
    counts: Counts,
}

impl ScanWriter {
    /// Starts the file; nothing appears at `path` before [`ScanWriter::commit_new`].
    ///
    /// # Errors
    /// An axis is empty, or the folder is missing, read-only or full.
    pub fn create(path: impl AsRef<Path>, header: Header, counts: Counts) -> Result<Self> {
        let mut file = Writer::create(path)?;
        let n_angles = header.theta_deg.len();
        let frame = [header.n_rows, header.n_cols];
        if n_angles == 0 || frame.contains(&0) {
            let (path, name) = (file.path().to_path_buf(), DATA.to_owned());
            let shape = vec![n_angles, header.n_rows, header.n_cols];
            return Err(DataError::ZeroSize { path, name, shape });
        }
        file.text("/implements", "exchange")?;
        for (name, n, axes, description) in [
            (DATA, n_angles, "theta:y:x", "raw projections"),
            (WHITE, header.n_white, "theta_white:y:x", "beam without sample"),
            (DARK, header.n_dark, "theta_dark:y:x", "no beam"),
        ] {
            if n == 0 {
                continue;
            }
            let shape = [n, header.n_rows, header.n_cols];
            match counts {
                Counts::U16 => file.dataset::<u16>(name, &shape, Layout::Contiguous)?,
                Counts::F32 => file.dataset::<f32>(name, &shape, Layout::Contiguous)?,
            }
            file.attribute(name, "axes", axes)?;
            file.attribute(name, "description", description)?;
            file.attribute(name, "units", "counts")?;
        }
        file.whole(THETA, &[n_angles], &header.theta_deg)?;
        file.attribute(THETA, "units", "degrees")?;
        Ok(Self { file, header, counts })
    }

    /// Sets an attribute of the root, such as the provenance.
    ///
    /// # Errors
    /// As [`Writer::attribute`].
    pub fn attribute(&mut self, name: &str, value: impl Into<crate::store::Attribute>) -> Result<()> {
        self.file.attribute("/", name, value)
    }

    /// Writes the band `rows` of every frame.
    ///
    /// # Errors
    /// The band is outside or overlaps another, a length differs, a count is not finite, or the
    /// disk is full.
    pub fn write_rows(&mut self, rows: Range<usize>, band: &RawRows) -> Result<()> {
        let n_angles = self.header.theta_deg.len();
        self.write_stack(DATA, n_angles, &rows, &band.projections)?;
        self.write_stack(WHITE, self.header.n_white, &rows, &band.white)?;
        self.write_stack(DARK, self.header.n_dark, &rows, &band.dark)
    }

    fn write_stack(&mut self, name: &str, n: usize, rows: &Range<usize>, values: &[f32]) -> Result<()> {
        let (start, count) = ([0, rows.start, 0], [n, rows.len(), self.header.n_cols]);
        if n == 0 && values.is_empty() {
            return Ok(());
        }
        if let Some(flat) = values.iter().position(|value| !value.is_finite()) {
            return Err(DataError::NonFinite {
                path: self.file.path().to_path_buf(),
                name: name.to_owned(),
                count: values.iter().filter(|value| !value.is_finite()).count(),
                first: index_of(flat, &start, &count),
            });
        }
        match self.counts {
            Counts::F32 => self.file.write(name, &start, &count, values),
            Counts::U16 => {
                let rounded: Vec<u16> = values.iter().map(|value| value.round() as u16).collect();
                self.file.write(name, &start, &count, &rounded)
            }
        }
    }

    /// Finishes the file; refuses if the target exists.
    ///
    /// # Errors
    /// A band is missing, and as [`Writer::commit_new`].
    pub fn commit_new(self) -> Result<Digest> {
        self.file.commit_new()
    }

    /// Finishes the file and replaces the target.
    ///
    /// # Errors
    /// A band is missing, and as [`Writer::commit_replace`].
    pub fn commit_replace(self) -> Result<Digest> {
        self.file.commit_replace()
    }
}

#[cfg(test)]
#[path = "data_exchange_tests.rs"]
mod tests;
