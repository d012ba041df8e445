//! FDK and projections of cone beams against RTK, where CONVOKE_PYTHON has it.
#![allow(clippy::print_stderr, reason = "a skipped test says why")]

mod common;

use std::f64::consts::TAU;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use common::python_with;
use convoke_data::formats::geometry;
use convoke_data::formats::npy::{self, Float, NpyWriter};
use convoke_kernels::cone::weights::FdkWeights;
use convoke_kernels::{
    Buffer, ConeFootprint, ConeGeometry, ConePart, ConeProjector, ConeView, Device, Orbit, Philox, RampFilter,
    RampParams,
};

/// FDK equals RTK's on the same projections, in relative L2, to 1e-6, and Joseph's projections along a helix and along
/// views with every offset and angle of RTK's geometry, which its XML file brings, to 1e-6 too: even and odd sizes.
#[test]
fn fdk_and_projections_equal_rtk_to_1e_6() {
    let Some(python) = python_with("itk") else { return };
    for (n, detector, n_views, pixel) in [(32, [52, 56], 40, 1.5), (27, [50, 61], 33, 1.7)] {
        let (to_axis, to_detector) = (4.0 * n as f64, 6.0 * n as f64);
        let angles: Vec<f64> = (0..n_views).map(|i| TAU * i as f64 / n_views as f64).collect();
        let orbit = Orbit::circle(angles, [to_axis, to_detector], pixel, detector);
        let circle = on(orbit.views(), detector, n);
        let volume = blobs(n);
        let random = Philox::new(7, 2);
        let data: Vec<f32> =
            (0..detector[0] * n_views * detector[1]).map(|i| random.uniform(i as u64) as f32).collect();

        let folder = tempfile::tempdir().expect("a scratch directory");
        let path = |name: &str| folder.path().join(name);
        write(&path("volume.npy"), &[n; 3], &volume);
        write(&path("projections.npy"), &[detector[0], n_views, detector[1]], &data);
        let degrees: Vec<f64> = (0..n_views).map(|i| 360.0 * i as f64 / n_views as f64).collect();
        let case = serde_json::json!({"degrees": degrees, "source_to_axis": to_axis, "source_to_detector": to_detector,
                                      "pixel": pixel, "voxel": 1.0, "rise": 4.0});
        std::fs::write(path("case.json"), case.to_string()).expect("written");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/tomography/cone_agree.py");
        let output = Command::new(&python).arg("-B").arg(script).arg(folder.path()).output().expect("Python starts");
        if output.status.code() == Some(77) {
            return eprintln!("skipped: CONVOKE_PYTHON has ITK, but not RTK (itk-rtk)");
        }
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let peer = |name: &str| npy::read::<f32>(path(name)).expect("RTK's answer").1;

        let distance_to = relative(&fdk(&circle, &data), &peer("fdk.npy"));
        eprintln!("FDK, {n}^3 voxels, {n_views} views: {distance_to:.1e}");
        assert!(distance_to <= 1e-6, "{distance_to:e}");
        for name in ["helix", "anything"] {
            let file = geometry::read(path(&format!("{name}.xml"))).expect("RTK's geometry");
            assert!(file.directions);
            let view = |v: &geometry::View| {
                let steps = [v.along_u, v.along_v].map(|step| step.map(|x| x * pixel));
                ConeView::centred(v.source, v.detector, steps, detector)
            };
            let scan = on(file.views.iter().map(view).collect(), detector, n);
            let projector = projector(&scan);
            let mut found = buffer(&vec![0.0; data.len()]);
            projector.forward_joseph(&mut buffer(&volume), &mut found).expect("projections");
            let distance_to = relative(found.host(), &peer(&format!("joseph-{name}.npy")));
            eprintln!("Joseph, {name}: {distance_to:.1e}");
            assert!(distance_to <= 1e-6, "{name}: {distance_to:e}");
        }
    }
}

fn on(views: Vec<ConeView>, [n_rows, n_cols]: [usize; 2], n: usize) -> ConeGeometry {
    ConeGeometry { views, n_rows, n_cols, shape: [n; 3], voxel: 1.0, centre: [0.0; 3] }
}

fn projector(g: &ConeGeometry) -> ConeProjector {
    let part = ConePart::whole(g);
    ConeProjector::new(&Device::cpu(), Arc::new(g.clone()), part, ConeFootprint::Linear).expect("a projector")
}

fn fdk(g: &ConeGeometry, data: &[f32]) -> Vec<f32> {
    let weights = FdkWeights::new(g).expect("a circle");
    let part = ConePart::whole(g);
    let mut filtered = buffer(&weights.weigh(&part.rows, &part.views, data));
    let ramp = RampFilter::new(&Device::cpu(), RampParams::new(g.n_cols, weights.pitch_at_axis)).expect("a filter");
    ramp.apply(part.views.len(), &mut filtered).expect("filtered");
    let projector = projector(&weights.geometry);
    let mut image = buffer(&vec![0.0; projector.volume_len()]);
    projector.back_filtered(&weights.views, &mut filtered, &mut image).expect("an image");
    image.into_vec()
}

fn buffer(values: &[f32]) -> Buffer<f32> {
    Buffer::from_vec(&Device::cpu(), values.to_vec()).expect("memory")
}

/// Gaussian blobs that are 0 at the volume's faces.
fn blobs(n: usize) -> Vec<f32> {
    let unit = n as f64 / 32.0;
    let blob = |d: [f64; 3], c: [f64; 3], s: f64| {
        let d2: f64 = (0..3).map(|k| (d[k] / unit - c[k]).powi(2)).sum();
        (-d2 / (2.0 * s * s)).exp()
    };
    let at = |i: usize| i as f64 - (n as f64 - 1.0) / 2.0;
    (0..n * n * n)
        .map(|i| {
            let d = [at(i % n), at(i / n % n), at(i / n / n)];
            (blob(d, [3.0, -2.0, 1.0], 2.5) - 0.5 * blob(d, [-4.0, 1.0, -3.0], 1.8)) as f32
        })
        .collect()
}

fn write<T: Float>(path: &Path, shape: &[usize], values: &[T]) {
    let mut file = NpyWriter::create(path, shape).expect("a file");
    file.write(values).expect("written");
    file.commit().expect("finished");
}

/// ‖a − b‖ / ‖b‖
fn relative(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let sum = |f: &dyn Fn(f64, f64) -> f64| -> f64 { a.iter().zip(b).map(|(a, b)| f((*a).into(), (*b).into())).sum() };
    let norm = sum(&|_, b| b * b);
    assert!(norm > 0.0, "RTK's answer is zero");
    (sum(&|a, b| (a - b).powi(2)) / norm).sqrt()
}
