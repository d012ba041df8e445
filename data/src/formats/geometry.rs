//! Geometries of cone-beam scans: ASTRA's `cone_vec` vectors as text or `.npy`, RTK's XML, and the same vectors by name in TOML.
//!
//! Coordinates are (x, y, z) with the rotation axis along z, in the file's unit of length. RTK turns about its y:
//! its (X, Y, Z) is our (x, z, −y).

use std::path::Path;

use serde::Deserialize;

use super::npy;
use crate::{DataError, Result};

/// Largest file of text that is read: a hundred thousand views.
const MAX_BYTES: u64 = 64 << 20;

/// One view.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct View {
    /// The source.
    pub source: [f64; 3],
    /// The middle of the detector.
    pub detector: [f64; 3],
    /// From a column to the next; from an RTK file, the direction alone.
    pub along_u: [f64; 3],
    /// From a row to the next; from an RTK file, the direction alone.
    pub along_v: [f64; 3],
}

/// The views of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Views {
    /// In the order of the projections.
    pub views: Vec<View>,
    /// Whether `along_u` and `along_v` are unit vectors, because the file does not know the size of a pixel.
    pub directions: bool,
}

impl View {
    /// ASTRA's twelve numbers: source, middle of the detector, U, V.
    pub fn from_numbers(n: &[f64; 12]) -> Self {
        let part = |k: usize| [n[3 * k], n[3 * k + 1], n[3 * k + 2]];
        Self { source: part(0), detector: part(1), along_u: part(2), along_v: part(3) }
    }
}

/// A file of views by name: `[[view]]` with `source`, `detector`, `u` and `v`, each `[x, y, z]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    #[serde(default)]
    view: Vec<NamedView>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NamedView {
    source: [f64; 3],
    detector: [f64; 3],
    u: [f64; 3],
    v: [f64; 3],
}

fn named(path: &Path, text: &str) -> Result<Vec<View>> {
    let Named { view } =
        toml::from_str(text).map_err(|error| malformed(path, error.to_string().trim_end().to_owned()))?;
    let views =
        view.into_iter().map(|NamedView { source, detector, u, v }| View { source, detector, along_u: u, along_v: v });
    Ok(views.collect())
}

/// Reads a geometry: `.xml` as RTK's, `.toml` as `[[view]]`s of `source`, `detector`, `u`, `v`, `.npy` of `[n, 12]` and any other file as ASTRA's vectors, twelve numbers on a line
/// with spaces or commas between, `#` before remarks, and a line of names first if there is one.
///
/// # Errors
/// The file is missing, or not what its name says, with the line or the view.
pub fn read(path: impl AsRef<Path>) -> Result<Views> {
    let path = path.as_ref();
    let extension = path.extension().map(|e| e.to_ascii_lowercase().to_string_lossy().into_owned()).unwrap_or_default();
    if extension == "npy" {
        let (shape, values) = npy::read::<f64>(path)?;
        let [_, 12] = shape[..] else {
            let expected = "[n, 12]: source, middle of the detector, U, V of each view".to_owned();
            return Err(DataError::ShapeMismatch {
                path: path.into(),
                name: "the array".into(),
                found: shape,
                expected,
            });
        };
        let number = |view: &[f64]| View::from_numbers(&std::array::from_fn(|k| view[k]));
        return some(path, Views { views: values.chunks_exact(12).map(number).collect(), directions: false });
    }
    let meta = std::fs::metadata(path).map_err(|e| DataError::from_io(path, "open the geometry", e))?;
    if meta.is_dir() {
        return Err(DataError::NotAFile { path: path.into(), found: "a folder" });
    }
    if meta.len() > MAX_BYTES {
        let (name, bytes) = ("the text".into(), u128::from(meta.len()));
        return Err(DataError::TooLarge { path: path.into(), name, bytes, limit: MAX_BYTES });
    }
    let bytes = std::fs::read(path).map_err(|e| DataError::from_io(path, "read the geometry", e))?;
    let text = String::from_utf8(bytes).map_err(|_| malformed(path, "it is no text".to_owned()))?;
    let views = match extension.as_str() {
        "xml" => rtk(path, &text)?,
        "toml" => named(path, &text)?,
        _ => vectors(path, &text)?,
    };
    some(path, Views { views, directions: extension == "xml" })
}

fn malformed(path: &Path, detail: String) -> DataError {
    DataError::Malformed { path: path.into(), format: "geometry", detail }
}

fn some(path: &Path, views: Views) -> Result<Views> {
    if views.views.is_empty() { Err(malformed(path, "it has no view".to_owned())) } else { Ok(views) }
}

fn vectors(path: &Path, text: &str) -> Result<Vec<View>> {
    let mut views = Vec::new();
    let mut first = true;
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or("").trim();
        if line.is_empty() {
            continue;
        }
        let cells: Vec<&str> = line.split(|c: char| c == ',' || c == ';' || c.is_whitespace()).collect();
        let cells: Vec<&str> = cells.into_iter().filter(|c| !c.is_empty()).collect();
        let is_header = std::mem::take(&mut first) && cells.iter().all(|c| c.parse::<f64>().is_err());
        if is_header {
            continue;
        }
        let mut numbers = [0.0; 12];
        if cells.len() != 12 {
            let detail = format!(
                "line {}: {} numbers, expected 12: source, middle of the detector, U, V, each as x y z",
                number + 1,
                cells.len()
            );
            return Err(malformed(path, detail));
        }
        for (value, cell) in numbers.iter_mut().zip(&cells) {
            *value =
                cell.parse().map_err(|_| malformed(path, format!("line {}: {cell:?} is not a number", number + 1)))?;
        }
        views.push(View::from_numbers(&numbers));
    }
    Ok(views)
}

/// What an RTK file says of a projection; angles in degrees.
#[derive(Clone, Copy, Debug, Default)]
struct Rtk {
    gantry: f64,
    out_of_plane: f64,
    in_plane: f64,
    source_offset: [f64; 2],
    projection_offset: [f64; 2],
    to_axis: f64,
    to_detector: f64,
    radius: f64,
}

impl Rtk {
    /// The parameter that a tag names.
    fn parameter(&mut self, tag: &str) -> Option<&mut f64> {
        Some(match tag {
            "GantryAngle" => &mut self.gantry,
            "OutOfPlaneAngle" => &mut self.out_of_plane,
            "InPlaneAngle" => &mut self.in_plane,
            "SourceOffsetX" => &mut self.source_offset[0],
            "SourceOffsetY" => &mut self.source_offset[1],
            "ProjectionOffsetX" => &mut self.projection_offset[0],
            "ProjectionOffsetY" => &mut self.projection_offset[1],
            "SourceToIsocenterDistance" => &mut self.to_axis,
            "SourceToDetectorDistance" => &mut self.to_detector,
            "RadiusCylindricalDetector" => &mut self.radius,
            _ => return None,
        })
    }

    /// A point of the turning frame is Rz(−in-plane) Rx(−out-of-plane) Ry(−gantry) times the fixed one.
    fn view(&self) -> View {
        let fixed = |[x, y, z]: [f64; 3]| {
            let (s, c) = self.in_plane.to_radians().sin_cos();
            let [x, y] = [c * x - s * y, s * x + c * y];
            let (s, c) = self.out_of_plane.to_radians().sin_cos();
            let [y, z] = [c * y - s * z, s * y + c * z];
            let (s, c) = self.gantry.to_radians().sin_cos();
            let [x, z] = [c * x + s * z, -s * x + c * z];
            [x, -z, y]
        };
        let [sx, sy] = self.source_offset;
        let [px, py] = self.projection_offset;
        View {
            source: fixed([sx, sy, self.to_axis]),
            detector: fixed([px, py, self.to_axis - self.to_detector]),
            along_u: fixed([1.0, 0.0, 0.0]),
            along_v: fixed([0.0, 1.0, 0.0]),
        }
    }
}

/// Parameters above the first `<Projection>` hold for all, those in one for it alone.
fn rtk(path: &Path, text: &str) -> Result<Vec<View>> {
    if !text.contains("<RTKThreeDCircularGeometry") {
        return Err(malformed(path, "no <RTKThreeDCircularGeometry>: an .xml file is read as RTK's".to_owned()));
    }
    let (mut common, mut current) = (Rtk::default(), None::<Rtk>);
    let mut views = Vec::new();
    // "tag>content" of every tag that opens or closes.
    for piece in text.split('<').skip(1) {
        let (tag, content) = piece.split_once('>').unwrap_or((piece, ""));
        let tag = tag.split_whitespace().next().unwrap_or("");
        if tag == "Projection" {
            current = Some(common);
        } else if tag == "/Projection" {
            let projection = current.take().unwrap_or(common);
            check(path, &projection, views.len())?;
            views.push(projection.view());
        } else if let Some(value) = current.as_mut().unwrap_or(&mut common).parameter(tag) {
            let number = content.trim().parse::<f64>().ok().filter(|x| x.is_finite());
            *value = number.ok_or_else(|| {
                malformed(path, format!("projection {}: {tag} is {:?}, not a number", views.len(), content.trim()))
            })?;
        }
    }
    if current.is_some() {
        return Err(malformed(path, format!("it ends within projection {}", views.len())));
    }
    Ok(views)
}

fn check(path: &Path, projection: &Rtk, index: usize) -> Result<()> {
    if projection.radius != 0.0 {
        let detail = format!("projection {index}: a cylindrical detector; only flat ones are known");
        return Err(malformed(path, detail));
    }
    if projection.to_detector <= 0.0 || projection.to_axis <= 0.0 {
        let detail = format!(
            "projection {index}: SourceToIsocenterDistance {} and SourceToDetectorDistance {}, expected positive ones (0 is \
             RTK's parallel beam)",
            projection.to_axis, projection.to_detector
        );
        return Err(malformed(path, detail));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        (folder, path)
    }

    #[test]
    fn vectors_are_read_from_text_and_npy() {
        let numbers: [f64; 12] = std::array::from_fn(|k| k as f64 - 3.5);
        let line = numbers.map(|n| n.to_string()).join(",");
        let text = format!("sx,sy,sz,dx,dy,dz,ux,uy,uz,vx,vy,vz\n# remark\n{line}\n\n{}\n", line.replace(',', "  "));
        let (_folder, path) = file("v.csv", &text);
        let found = read(&path).unwrap();
        assert_eq!(found.views, [View::from_numbers(&numbers); 2]);
        assert_eq!((found.views[0].along_v, found.directions), ([5.5, 6.5, 7.5], false));
        let path = path.with_extension("npy");
        let mut array = npy::NpyWriter::<f64>::create(&path, &[2, 12]).unwrap();
        array.write(&[numbers, numbers].concat()).unwrap();
        array.commit().unwrap();
        assert_eq!(read(&path).unwrap(), found);
        let view = "[[view]]\nsource = [-3.5, -2.5, -1.5]\ndetector = [-0.5, 0.5, 1.5]\nu = [2.5, 3.5, 4.5]\nv = [5.5, 6.5, 7.5]\n";
        let (_folder, path) = file("v.toml", &view.repeat(2));
        assert_eq!(read(&path).unwrap(), found);
    }

    #[test]
    fn damage_is_told_with_its_place() {
        for (name, text, said) in [
            ("v.txt", "1 2 3\n", "line 1: 3 numbers, expected 12"),
            ("v.txt", "1 2 3 4 5 6 7 8 9 10 11 12\n1 2 3 4 5 6 7 8 9 10 11 x\n", "line 2: \"x\" is not a number"),
            ("v.txt", "# nothing\n", "it has no view"),
            ("g.toml", "[[view]]\nsource = [1, 2]\n", "invalid length 2, expected an array of length 3"),
            ("g.toml", "[[view]]\nsource = [1.0, 2.0, 3.0]\n", "missing field `detector`"),
            ("g.toml", "[[views]]\n", "unknown field `views`, expected `view`"),
            ("g.xml", "<a/>", "no <RTKThreeDCircularGeometry>"),
            ("g.xml", "<RTKThreeDCircularGeometry><Projection>", "it ends within projection 0"),
            (
                "g.xml",
                "<RTKThreeDCircularGeometry><Projection><GantryAngle>?</GantryAngle></Projection>",
                "GantryAngle is \"?\", not a number",
            ),
            (
                "g.xml",
                "<RTKThreeDCircularGeometry><Projection></Projection>",
                "SourceToIsocenterDistance 0 and SourceToDetectorDistance 0",
            ),
        ] {
            let (_folder, path) = file(name, text);
            let error = read(&path).unwrap_err().to_string();
            assert!(error.contains(said) && error.contains(name), "{error}");
        }
        let (folder, _) = file("x", "");
        assert!(matches!(read(folder.path().join("none.csv")), Err(DataError::NotFound { .. })));
    }

    #[test]
    fn rtks_common_and_own_parameters_make_the_circle() {
        let text = "<?xml version=\"1.0\"?><!DOCTYPE RTKGEOMETRY><RTKThreeDCircularGeometry version=\"3\">\
            <SourceToIsocenterDistance>100</SourceToIsocenterDistance>\
            <SourceToDetectorDistance>150</SourceToDetectorDistance>\
            <Projection><GantryAngle>0</GantryAngle><Matrix> 1 0 0 </Matrix></Projection>\
            <Projection><GantryAngle>90</GantryAngle><ProjectionOffsetX>2</ProjectionOffsetX></Projection>\
            </RTKThreeDCircularGeometry>";
        let (_folder, path) = file("g.xml", text);
        let Views { views, directions } = read(&path).unwrap();
        assert!(directions);
        let close =
            |a: [f64; 3], b: [f64; 3]| assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-9), "{a:?} {b:?}");
        // The source at R (sin, -cos, 0), the detector's middle opposite, U = (cos, sin, 0).
        close(views[0].source, [0.0, -100.0, 0.0]);
        close(views[1].source, [100.0, 0.0, 0.0]);
        close(views[1].detector, [-50.0, 2.0, 0.0]);
        close(views[1].along_u, [0.0, 1.0, 0.0]);
        close(views[1].along_v, [0.0, 0.0, 1.0]);
    }
}
