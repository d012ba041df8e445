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

/// FDK equals RTK's on the same projections, in relative L2, to 1e-6, and Joseph's pair along a helix and along
/// views with every offset and angle of RTK's geometry, which its XML file brings, to 1e-6 too: even and odd sizes. The weights of short
/// scans and displaced detectors are RTK's to 2e-7.
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
        let short: Vec<f64> = (0..41).map(|i| 3.0 + 5.5 * f64::from(i)).collect();
        let case = serde_json::json!({"short_degrees": short, "shift": 12.0, "degrees": degrees, "source_to_axis": to_axis, "source_to_detector": to_detector,
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
            let part = ConePart::whole(&scan);
            let pair = ConeProjector::new(&Device::cpu(), Arc::new(scan.clone()), part, ConeFootprint::Joseph)
                .expect("a projector");
            let mut image = buffer(&vec![0.0; volume.len()]);
            pair.back(&mut buffer(&data), &mut image).expect("a back projection");
            let distance_to = relative(&inner(image.host(), n), &inner(&peer(&format!("back-{name}.npy")), n));
            eprintln!("Joseph's adjoint, {name}: {distance_to:.1e}");
            assert!(distance_to <= 1e-6, "{name}: {distance_to:e}");
        }
        let short = Orbit { angles_rad: short.iter().map(|d| d.to_radians()).collect(), ..orbit.clone() };
        let shifted = Orbit { shift: [12.0, 0.0], ..orbit };
        for (name, orbit) in [("parker", short), ("displaced", shifted)] {
            let distance_to = largest(&weights(&on(orbit.views(), detector, n)), &peer(&format!("{name}.npy")));
            eprintln!("{name}: {distance_to:.1e}");
            assert!(distance_to <= 2e-7, "{name}: {distance_to:e}");
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

/// How often FDK counts the rays of the detector's middle row, `[views, n_cols]`: what ones become, without their cosines.
fn weights(g: &ConeGeometry) -> Vec<f32> {
    let fdk = FdkWeights::new(g).expect("a circle");
    let (row, wide) = (g.n_rows / 2, fdk.geometry.n_cols);
    let views: Vec<usize> = (0..g.views.len()).collect();
    let weighed = fdk.weigh(&(row..row + 1), &views, &vec![1.0; views.len() * g.n_cols]);
    let of_view = |(view, line): (usize, &[f32])| -> Vec<f32> {
        let cosine = |j: usize| fdk.geometry.views[view].cosine(row as f64, j as f64) as f32;
        (fdk.left..fdk.left + g.n_cols).map(|j| line[j] / cosine(j)).collect()
    };
    weighed.chunks(wide).enumerate().flat_map(of_view).collect()
}

/// Without the two outermost layers of voxels: RTK's rays begin and end at the centres of the outermost ones.
fn inner(volume: &[f32], n: usize) -> Vec<f32> {
    let inside = |i: usize| [i % n, i / n % n, i / n / n].iter().all(|k| (2..n - 2).contains(k));
    (0..volume.len()).filter(|i| inside(*i)).map(|i| volume[i]).collect()
}

/// Largest difference.
fn largest(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).fold(0.0, |most, (a, b)| f64::from(a - b).abs().max(most))
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
