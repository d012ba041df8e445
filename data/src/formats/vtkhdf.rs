//! VTKHDF ImageData: ParaView and VTK open our result file, without a second copy of the data.
//!
//! The group `/VTKHDF` describes the grid; its point arrays are hard links to `/result/<name>`,
//! `[nz, ny, nx]` row-major.
//!
//! Source: VTK file formats, "VTKHDF", version 2.
//!
//! ```
//! use convoke_data::formats::vtkhdf::{self, Image};
//! use convoke_data::store::Writer;
//! # fn main() -> convoke_data::Result<()> {
//! # let folder = tempfile::tempdir().unwrap();
//! # let path = folder.path().join("result.vtkhdf");
//! let mut file = Writer::create(&path)?;
//! file.whole("/result/mu", &[2, 3, 4], &[0.5_f32; 24])?;
//! vtkhdf::describe(&mut file, &Image::centred([2, 3, 4], [0.1; 3]), &["mu"])?;
//! file.commit_new()?;
//! # Ok(())
//! # }
//! ```

use crate::store::{Attribute, Writer};
use crate::{DataError, Result, schema};

/// Version of the format that is written.
const VERSION: [i64; 2] = [2, 0];

/// Where the points of the arrays lie.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    /// Points per axis, `[nz, ny, nx]`.
    pub shape: [usize; 3],
    /// Position (x, y, z) of the point [0, 0, 0].
    pub origin: [f64; 3],
    /// Distance of neighbours along x, y, z.
    pub spacing: [f64; 3],
}

impl Image {
    /// A grid whose middle is the origin, with the given `spacing` along x, y, z.
    pub fn centred(shape: [usize; 3], spacing: [f64; 3]) -> Self {
        let origin = std::array::from_fn(|axis| -(shape[2 - axis] as f64 - 1.0) / 2.0 * spacing[axis]);
        Self { shape, origin, spacing }
    }

    /// Shape of its arrays in a file: VTK's reader wants those of a plane without the axis z.
    pub fn stored(&self) -> &[usize] {
        &self.shape[usize::from(self.shape[0] == 1)..]
    }
}

/// Adds the VTKHDF view of the fields `/result/<name>`, all of shape `image.shape`, to `file`.
///
/// # Errors
/// A field was not declared or has another shape, or the disk is full.
pub fn describe(file: &mut Writer, image: &Image, names: &[&str]) -> Result<()> {
    for name in names {
        let dataset = schema::result(name);
        let found = file.shape(&dataset)?.to_vec();
        if found != image.shape && found != image.stored() {
            let (path, expected) = (file.path().to_path_buf(), format!("{:?} as the image", image.shape));
            return Err(DataError::ShapeMismatch { path, name: dataset, found, expected });
        }
    }
    describe_image(file, image)?;
    for name in names {
        file.link(&schema::result(name), &format!("{}/{name}", schema::VTKHDF_POINT_DATA))?;
    }
    Ok(())
}

fn describe_image(file: &mut Writer, image: &Image) -> Result<()> {
    let [nz, ny, nx] = image.shape.map(|n| n as i64);
    let identity = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0_f64];
    file.group(schema::VTKHDF_POINT_DATA)?;
    file.attribute(schema::VTKHDF, "Version", &VERSION[..])?;
    file.attribute(schema::VTKHDF, "Type", Attribute::Ascii("ImageData".to_owned()))?;
    file.attribute(schema::VTKHDF, "WholeExtent", vec![0, nx - 1, 0, ny - 1, 0, nz - 1])?;
    file.attribute(schema::VTKHDF, "Origin", &image.origin[..])?;
    file.attribute(schema::VTKHDF, "Spacing", &image.spacing[..])?;
    file.attribute(schema::VTKHDF, "Direction", &identity[..])
}

/// Adds the VTKHDF view of one array that changes in time: `steps` values of the time, and the array
/// of shape `[n_steps, nz, ny, nx]` (a plane: `[n_steps, ny, nx]`) at `/VTKHDF/PointData/<name>`, already declared.
///
/// # Errors
/// The array was not declared or has another shape, or the disk is full.
pub fn describe_series(file: &mut Writer, image: &Image, times: &[f64], name: &str) -> Result<()> {
    let dataset = format!("{}/{name}", schema::VTKHDF_POINT_DATA);
    let found = file.shape(&dataset)?.to_vec();
    let expected: Vec<usize> = std::iter::once(times.len()).chain(image.stored().iter().copied()).collect();
    if found != expected {
        let (path, expected) = (file.path().to_path_buf(), format!("{expected:?} as times and image"));
        return Err(DataError::ShapeMismatch { path, name: dataset, found, expected });
    }
    describe_image(file, image)?;
    let n = times.len() as i64;
    file.group("/VTKHDF/Steps/PointDataOffsets")?;
    file.attribute("/VTKHDF/Steps", "NSteps", n)?;
    file.whole("/VTKHDF/Steps/Values", &[times.len()], times)?;
    file.whole(&format!("/VTKHDF/Steps/PointDataOffsets/{name}"), &[times.len()], &(0..n).collect::<Vec<i64>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Reader;
    use std::path::Path;
    use std::process::Command;

    /// A file with two fields; mu[z, y, x] = 100 z + 10 y + x.
    fn write(path: &Path) {
        let shape = [3, 4, 5];
        let mu: Vec<f32> = (0..60).map(|k| (k / 20 * 100 + k / 5 % 4 * 10 + k % 5) as f32).collect();
        let mut file = Writer::create(path).unwrap();
        file.whole("/result/mu", &shape, &mu).unwrap();
        file.whole("/result/std", &shape, &vec![0.25_f64; 60]).unwrap();
        describe(&mut file, &Image::centred(shape, [0.5, 0.5, 2.0]), &["mu", "std"]).unwrap();
        file.commit_new().unwrap();
    }

    #[test]
    fn the_view_is_the_same_data() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.vtkhdf");
        write(&path);
        let file = Reader::open(&path).unwrap();
        assert_eq!(file.read::<f32>("/VTKHDF/PointData/mu").unwrap(), file.read::<f32>("/result/mu").unwrap());
        let bytes = std::fs::metadata(&path).unwrap().len();
        assert!(bytes < 60 * 12 + 12_000, "{bytes} bytes: the data are there twice");
        let origin = file.attribute("/VTKHDF", "Origin").unwrap();
        assert_eq!(origin, Some(Attribute::F64s(vec![-1.0, -0.75, -2.0])));
    }

    #[test]
    fn another_shape_or_name_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = Writer::create(folder.path().join("a.h5")).unwrap();
        file.whole("/result/mu", &[2, 2, 2], &[0.0_f32; 8]).unwrap();
        let image = Image::centred([2, 2, 3], [1.0; 3]);
        assert!(matches!(describe(&mut file, &image, &["mu"]), Err(DataError::ShapeMismatch { .. })));
        assert!(matches!(describe(&mut file, &image, &["nu"]), Err(DataError::MissingDataset { .. })));
    }

    #[test]
    fn vtk_reads_grid_and_values() {
        use std::io::Write;
        let skip = |reason: &str| {
            let _ = writeln!(std::io::stderr(), "skipped: {reason}");
        };
        let Some(python) = std::env::var_os("CONVOKE_PYTHON") else {
            return skip("CONVOKE_PYTHON is not set");
        };
        let has_vtk = Command::new(&python).args(["-c", "import vtk, numpy"]).output();
        if !has_vtk.is_ok_and(|output| output.status.success()) {
            return skip("CONVOKE_PYTHON has no vtk");
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.vtkhdf");
        write(&path);
        let script = "\
import sys, vtk
from vtk.util.numpy_support import vtk_to_numpy
r = vtk.vtkHDFReader(); r.SetFileName(sys.argv[1]); assert r.CanReadFile(sys.argv[1]); r.Update()
g = r.GetOutput()
assert g.GetDimensions() == (5, 4, 3), g.GetDimensions()
assert g.GetOrigin() == (-1.0, -0.75, -2.0) and g.GetSpacing() == (0.5, 0.5, 2.0)
mu = vtk_to_numpy(g.GetPointData().GetArray('mu')).reshape(3, 4, 5)
assert mu[2, 3, 1] == 231 and mu[0, 1, 4] == 14
assert g.GetPointData().GetArray('std').GetValue(7) == 0.25
";
        let output = Command::new(&python).args(["-c", script]).arg(&path).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}
