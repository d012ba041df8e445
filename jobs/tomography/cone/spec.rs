//! `[problem.geometry]`: where sources and detectors are, and the checks of single values.

use std::path::PathBuf;

use convoke_cluster::BadValue;
use serde::{Deserialize, Serialize};

use crate::tomography::spec::{Algorithm, Spec, within};

/// Beams from a point. All lengths are in mm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GeometrySpec {
    /// Which.
    pub kind: GeometryKind,
    /// From the source to the rotation axis (circular, helical).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_to_axis_mm: Option<f64>,
    /// From the source to the detector (circular, helical).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_to_detector_mm: Option<f64>,
    /// Width of a detector pixel (circular, helical, and files of RTK, which do not know it).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pixel_mm: Option<f64>,
    /// Height of a detector pixel; absent: its width.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pixel_height_mm: Option<f64>,
    /// Shift of the detector's middle along columns and rows (circular, helical).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detector_shift_mm: Option<[f64; 2]>,
    /// Turn of the detector in its plane, from u towards v (circular, helical).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roll_degrees: Option<f64>,
    /// Elevation of the source over the plane of rotation: laminography (circular).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tilt_degrees: Option<f64>,
    /// Angle of the first view of a generated object (circular, helical).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_degrees: Option<f64>,
    /// Rise of source and detector on one turn (helical).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rise_per_turn_mm: Option<f64>,
    /// A file of vectors (text, .npy, .toml) or of RTK's geometry (.xml) (vectors).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// The vectors themselves, twelve numbers for each view: source, middle of the detector, u, v (vectors).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vectors: Option<Vec<Vec<f64>>>,
}

/// Kinds of geometry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GeometryKind {
    /// The source on a circle about z.
    Circular,
    /// The source on a helix about z.
    Helical,
    /// Any position for each view.
    Vectors,
}

impl GeometryKind {
    fn name(self) -> String {
        format!("kind {}", serde_json::to_value(self).unwrap_or_default())
    }
}

/// Checks what belongs to the geometry, or to its absence.
pub fn check_geometry(spec: &Spec) -> Result<(), BadValue> {
    let Some(geometry) = &spec.geometry else { return check_parallel(spec) };
    let method = &spec.method;
    let cone = "[problem.geometry]";
    if method.algorithm == Algorithm::Fbp {
        let bad = BadValue::new("problem.method.algorithm", "\"fbp\"", "an algorithm for beams from a point");
        return Err(bad.help("\"fdk\" is the filtered back projection of cone beams"));
    }
    if method.algorithm == Algorithm::Fdk && geometry.kind == GeometryKind::Helical {
        let bad = BadValue::new("problem.method.algorithm", "\"fdk\"", "an iterative algorithm, for a helix");
        return Err(bad.help("fdk needs a source on a circle; \"cgls\" or \"os-sart\" take any geometry"));
    }
    let centre = spec.centre.column.is_some() || spec.centre.find;
    let phantom = spec.phantom.as_ref();
    let shifted = phantom.is_some_and(|p| p.axis_shift_pixels != 0.0);
    for (key, there, help) in [
        ("problem.centre", centre, "geometry.detector_shift_mm says where the axis projects to"),
        ("problem.phantom.axis_shift_pixels", shifted, "use geometry.detector_shift_mm"),
        ("problem.volume.voxel_pixels", spec.volume.voxel_pixels.is_some(), "use volume.voxel_mm"),
    ] {
        if there {
            return Err(BadValue::foreign(key, cone).help(help));
        }
    }
    if method.projector.is_some() && method.algorithm.is_direct() {
        let bad = BadValue::foreign("problem.method.projector", "algorithm \"fdk\"");
        return Err(bad.help("it goes from voxel to voxel; iterative algorithms have \"linear\" and \"joseph\""));
    }
    if let Some(phantom) = phantom {
        within("problem.phantom.angles", phantom.angles as f64, 2.0, 1e6)?;
        within("problem.phantom.columns", phantom.columns.unwrap_or(phantom.size) as f64, 1.0, 65_536.0)?;
    }
    if let Some(slices) = spec.volume.slices {
        within("problem.volume.slices", slices as f64, 1.0, 65_536.0)?;
    }
    if let Some(voxel) = spec.volume.voxel_mm {
        within("problem.volume.voxel_mm", voxel, 1e-9, 1e6)?;
    }
    for x in spec.volume.centre_mm.unwrap_or_default() {
        within("problem.volume.centre_mm", x, -1e9, 1e9)?;
    }
    check_keys(geometry)?;
    check_values(geometry)
}

/// Without a geometry there is none of its keys.
fn check_parallel(spec: &Spec) -> Result<(), BadValue> {
    if spec.method.algorithm == Algorithm::Fdk {
        let bad = BadValue::wrong("problem.method.algorithm", "\"fdk\" needs [problem.geometry], which is not there");
        return Err(bad.help("\"fbp\" is the filtered back projection of parallel beams"));
    }
    let columns = spec.phantom.as_ref().is_some_and(|p| p.columns.is_some());
    let volume = &spec.volume;
    for (key, there) in [
        ("problem.phantom.columns", columns),
        ("problem.volume.slices", volume.slices.is_some()),
        ("problem.volume.voxel_mm", volume.voxel_mm.is_some()),
        ("problem.volume.centre_mm", volume.centre_mm.is_some()),
    ] {
        if there {
            let bad = BadValue::foreign(key, "a parallel beam");
            return Err(bad.help("it goes with [problem.geometry], which is not there"));
        }
    }
    Ok(())
}

/// Each kind has its keys.
fn check_keys(g: &GeometrySpec) -> Result<(), BadValue> {
    use GeometryKind as K;
    let orbit = matches!(g.kind, K::Circular | K::Helical);
    let keys = [
        ("source_to_axis_mm", g.source_to_axis_mm.is_some(), orbit, orbit),
        ("source_to_detector_mm", g.source_to_detector_mm.is_some(), orbit, orbit),
        ("pixel_mm", g.pixel_mm.is_some(), true, orbit),
        ("pixel_height_mm", g.pixel_height_mm.is_some(), true, false),
        ("detector_shift_mm", g.detector_shift_mm.is_some(), orbit, false),
        ("roll_degrees", g.roll_degrees.is_some(), orbit, false),
        ("start_degrees", g.start_degrees.is_some(), orbit, false),
        ("tilt_degrees", g.tilt_degrees.is_some(), g.kind == K::Circular, false),
        ("rise_per_turn_mm", g.rise_per_turn_mm.is_some(), g.kind == K::Helical, g.kind == K::Helical),
        ("file", g.file.is_some(), g.kind == K::Vectors, false),
        ("vectors", g.vectors.is_some(), g.kind == K::Vectors, false),
    ];
    for (key, there, may, must) in keys {
        if there && !may {
            return Err(BadValue::foreign(format!("problem.geometry.{key}"), g.kind.name()));
        }
        if must && !there {
            return Err(BadValue::wrong("problem.geometry", format!("{} needs {key}", g.kind.name())));
        }
    }
    if g.kind == K::Vectors && g.file.is_some() == g.vectors.is_some() {
        return Err(BadValue::wrong("problem.geometry", "kind \"vectors\" needs one of file and vectors"));
    }
    Ok(())
}

fn check_values(g: &GeometrySpec) -> Result<(), BadValue> {
    for (key, value, low, high) in [
        ("source_to_axis_mm", g.source_to_axis_mm, 1e-6, 1e9),
        ("source_to_detector_mm", g.source_to_detector_mm, 1e-6, 1e9),
        ("pixel_mm", g.pixel_mm, 1e-9, 1e6),
        ("pixel_height_mm", g.pixel_height_mm, 1e-9, 1e6),
        ("roll_degrees", g.roll_degrees, -180.0, 180.0),
        ("tilt_degrees", g.tilt_degrees, -80.0, 80.0),
        ("start_degrees", g.start_degrees, -36_000.0, 36_000.0),
        ("rise_per_turn_mm", g.rise_per_turn_mm, -1e6, 1e6),
    ] {
        if let Some(value) = value {
            within(&format!("problem.geometry.{key}"), value, low, high)?;
        }
    }
    for shift in g.detector_shift_mm.unwrap_or_default() {
        within("problem.geometry.detector_shift_mm", shift, -1e9, 1e9)?;
    }
    if let Some(i) = g.vectors.iter().flatten().position(|v| v.len() != 12) {
        let n = g.vectors.as_ref().map_or(0, |v| v[i].len());
        let expected = "12 for each view: source, middle of the detector, u, v";
        return Err(BadValue::new("problem.geometry.vectors", format!("{n} numbers for view {i}"), expected));
    }
    Ok(())
}
