//! From the job file to a geometry that can be: views, detector, grid of voxels.

use std::f64::consts::FRAC_1_SQRT_2;
use std::sync::Arc;

use convoke_cluster::workload::Inputs;
use convoke_cluster::{BadValue, Result};
use convoke_data::formats::geometry::{self, View};
use convoke_kernels::cone::weights::FdkFault;
use convoke_kernels::{ConeGeometry, ConeView, KernelError, Orbit};

use super::spec::{GeometryKind, GeometrySpec};
use crate::tomography::spec::Spec;

/// The geometry of a job whose projections have these angles (in radians, ignored by vectors) and this detector of rows
/// and columns.
///
/// # Errors
/// Bad values with their key; data errors of the geometry's file.
pub(super) fn geometry(
    spec: &Spec,
    inputs: &Inputs,
    angles_rad: &[f64],
    detector: [usize; 2],
) -> Result<Arc<ConeGeometry>> {
    let g = spec.geometry.as_ref().expect("a cone beam has a geometry");
    let views = match g.kind {
        GeometryKind::Circular | GeometryKind::Helical => orbit(g, angles_rad, detector).views(),
        GeometryKind::Vectors => vectors(g, inputs, detector)?,
    };
    if views.len() < 2 {
        return Err(BadValue::wrong("problem.geometry", format!("{} view; expected at least 2", views.len())).into());
    }
    let source = if spec.phantom.is_some() { "problem.phantom.angles" } else { "problem.scan.file" };
    if views.len() != angles_rad.len() {
        let expected = format!("{}, the number of views of problem.geometry", views.len());
        return Err(BadValue::new(source, format!("{} projections", angles_rad.len()), expected).into());
    }
    let size = spec.volume.size.or(spec.phantom.as_ref().map(|p| p.size)).unwrap_or(detector[1]);
    // A pixel's width at the origin, as the first view sees it.
    let at_axis = views[0].pixel()[0] * views[0].project([0.0; 3])[2].abs();
    let voxel = spec.volume.voxel_mm.unwrap_or(at_axis);
    let shape = [spec.volume.slices.unwrap_or(detector[0]), size, size];
    let centre = spec.volume.centre_mm.unwrap_or_default();
    let geometry = ConeGeometry { views, n_rows: detector[0], n_cols: detector[1], shape, voxel, centre };
    if g.kind != GeometryKind::Vectors && g.tilt_degrees.unwrap_or(0.0) == 0.0 {
        check_distances(g, &geometry)?;
    }
    geometry.check().map_err(bad_geometry)?;
    Ok(Arc::new(geometry))
}

/// A kernel's refusal of a geometry, as a bad value.
pub(super) fn bad_geometry(error: KernelError) -> BadValue {
    let help = match &error {
        KernelError::Fdk(FdkFault::TooShort { .. }) => {
            "problem.phantom.arc_degrees is 180 unless it says 360, or less for a short scan; an iterative algorithm takes any angles"
        }
        KernelError::Fdk(_) => "an iterative algorithm (\"cgls\", \"os-sart\") takes any geometry",
        _ => "lengths are in mm, (x, y, z) with the rotation axis along z; see jobs/tomography/README.md",
    };
    let key = if matches!(error, KernelError::Fdk(_)) { "problem.method.algorithm" } else { "problem.geometry" };
    let message = if key.ends_with("algorithm") { format!("fdk does not fit: {error}") } else { error.to_string() };
    BadValue::wrong(key, message).help(help)
}

fn orbit(g: &GeometrySpec, angles_rad: &[f64], detector: [usize; 2]) -> Orbit {
    let known = |length: Option<f64>| length.expect("the check of the keys asks for it");
    let pixel = known(g.pixel_mm);
    let radians = |degrees: Option<f64>| degrees.unwrap_or(0.0).to_radians();
    Orbit {
        angles_rad: angles_rad.iter().map(|a| a + radians(g.start_degrees)).collect(),
        source_to_axis: known(g.source_to_axis_mm),
        source_to_detector: known(g.source_to_detector_mm),
        pixel: [pixel, g.pixel_height_mm.unwrap_or(pixel)],
        detector,
        shift: g.detector_shift_mm.unwrap_or_default(),
        roll_rad: radians(g.roll_degrees),
        tilt_rad: radians(g.tilt_degrees),
        rise_per_turn: g.rise_per_turn_mm.unwrap_or(0.0),
    }
}

fn vectors(g: &GeometrySpec, inputs: &Inputs, detector: [usize; 2]) -> Result<Vec<ConeView>> {
    let (views, directions): (Vec<View>, bool) = match (&g.file, &g.vectors) {
        (Some(file), _) => {
            let found = geometry::read(inputs.resolve(file))?;
            (found.views, found.directions)
        }
        (None, vectors) => {
            let view = |v: &Vec<f64>| View::from_numbers(&std::array::from_fn(|k| v[k]));
            (vectors.iter().flatten().map(view).collect(), false)
        }
    };
    let scale = match (directions, g.pixel_mm) {
        (true, Some(width)) => [width, g.pixel_height_mm.unwrap_or(width)],
        (true, None) => {
            let bad = BadValue::wrong("problem.geometry", "RTK's file does not know the size of a pixel");
            return Err(bad.help("give pixel_mm").into());
        }
        (false, None) => [1.0; 2],
        (false, Some(_)) => {
            let bad = BadValue::foreign("problem.geometry.pixel_mm", "a geometry of vectors");
            return Err(bad.help("the vectors u and v are the steps from pixel to pixel").into());
        }
    };
    let view = |v: &View| {
        let steps = [v.along_u.map(|x| x * scale[0]), v.along_v.map(|x| x * scale[1])];
        ConeView::centred(v.source, v.detector, steps, detector)
    };
    Ok(views.iter().map(view).collect())
}

/// The distances of an orbit against the volume's half diagonal, with the key that is at fault.
fn check_distances(g: &GeometrySpec, geometry: &ConeGeometry) -> Result<(), BadValue> {
    let [x, y, _] = geometry.centre;
    let half = geometry.voxel * geometry.shape[2] as f64 * FRAC_1_SQRT_2 + x.hypot(y);
    let (to_axis, to_detector) = (g.source_to_axis_mm.unwrap_or(0.0), g.source_to_detector_mm.unwrap_or(0.0));
    let what = "half the diagonal of the volume's slices";
    if to_axis <= half {
        let expected = format!("more than {half:.6}, {what}: the source would be inside the volume");
        return Err(BadValue::new("problem.geometry.source_to_axis_mm", to_axis, expected));
    }
    if to_detector <= to_axis {
        let expected = format!("more than source_to_axis_mm = {to_axis}: the detector would be before the axis");
        return Err(BadValue::new("problem.geometry.source_to_detector_mm", to_detector, expected));
    }
    if to_detector <= to_axis + half {
        let expected = format!(
            "more than {:.6}, source_to_axis_mm and {what}: the detector would be inside the volume",
            to_axis + half
        );
        return Err(BadValue::new("problem.geometry.source_to_detector_mm", to_detector, expected));
    }
    Ok(())
}
