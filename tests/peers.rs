//! Our projector pair and filtered back projection against the ASTRA toolbox, our Fourier neural operators against PyTorch, where
//! CONVOKE_PYTHON has them.
#![allow(clippy::print_stderr, reason = "a skipped test says why")]

mod common;
#[path = "common/stripes.rs"]
#[allow(dead_code, reason = "the figures are another test's")]
mod stripes;

use std::f64::consts::PI;
use std::path::Path;
use std::process::Command;

use common::python_with;
use convoke::neural_operator::channel_mlp::{ChannelMlp, Skip};
use convoke::neural_operator::fno::FnoShape;
use convoke::neural_operator::model::{Model, Shape};
use convoke::neural_operator::spectral::Sharing;
use convoke::neural_operator::st_fno::StShape;
use convoke::tomography::rings;
use convoke_data::formats::npy::{self, Float, NpyWriter};
use convoke_kernels::{Buffer, Device, Footprint, ParallelGeometry, Philox, Projector, RampFilter, RampParams};

const N_SLICES: usize = 2;

/// Joseph's projector, its adjoint and FBP equal ASTRA's 'linear' ones, in relative L2, to 1e-5: even and odd sizes,
/// detectors narrower and wider than the volume, volumes that are not square, angles in more than one quadrant.
///
/// What remains is ASTRA's rounding of detector positions to f32, which grows with the size. It weighs more on FBP of
/// noise, which has little but the highest frequencies: there the bound is 3e-4 (against the same formula in f64,
/// ASTRA is 1.7e-4 off).
#[test]
fn joseph_and_fbp_equal_astra_to_1e_5() {
    let Some(python) = python_with("astra") else { return };
    for (nx, ny, n_cols, n_angles) in [(96, 96, 96, 60), (65, 65, 65, 60), (60, 71, 83, 45), (64, 64, 51, 33)] {
        let geometry = ParallelGeometry {
            angles_rad: (0..n_angles).map(|i| PI * f64::from(i) / f64::from(n_angles) - 0.3).collect(),
            n_cols,
            nx,
            ny,
            axis_col: (n_cols as f64 - 1.0) / 2.0,
            col_pitch: 1.0,
        };
        for (what, distance, tolerance) in compare(&python, &geometry) {
            eprintln!("{what}, volume {ny} x {nx}, {n_angles} angles, {n_cols} columns: {distance:.1e}");
            assert!(distance <= tolerance, "{what}: {distance:e}");
        }
    }
}

/// Relative L2 distances between ours and ASTRA's, with what they may be.
fn compare(python: &Path, geometry: &ParallelGeometry) -> [(&'static str, f64, f64); 4] {
    let ParallelGeometry { nx, ny, n_cols, .. } = *geometry;
    let n_angles = geometry.angles_rad.len();
    let volume = noise(N_SLICES * geometry.slice_len(), 1);
    let noise = noise(N_SLICES * geometry.sinogram_len(), 2);
    let smooth = blobs(geometry);

    let folder = tempfile::tempdir().expect("a scratch directory");
    let path = |name: &str| folder.path().join(name);
    write(&path("volume.npy"), &[N_SLICES, ny, nx], &volume);
    write(&path("noise.npy"), &[N_SLICES, n_angles, n_cols], &noise);
    write(&path("smooth.npy"), &[N_SLICES, n_angles, n_cols], &smooth);
    write(&path("angles.npy"), &[n_angles], &geometry.angles_rad);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/tomography/agree.py");
    let output = Command::new(python).arg("-B").arg(script).arg(folder.path()).output().expect("Python starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let peer = |name: &str| npy::read::<f32>(path(name)).expect("ASTRA's answer").1;

    let ours = Ours::new(geometry);
    [
        ("projection of noise", distance(&ours.forward(&volume), &peer("forward.npy")), 1e-5),
        ("back projection of noise", distance(&ours.back(&noise), &peer("back.npy")), 1e-5),
        ("FBP of smooth data", distance(&ours.fbp(&smooth), &peer("fbp-smooth.npy")), 1e-5),
        ("FBP of noise", distance(&ours.fbp(&noise), &peer("fbp-noise.npy")), 3e-4),
    ]
}

/// Vo's algorithms for narrow, wide, dead and restless stripes make what Algotom makes of the same sinograms: to 2e-6, but for one value in a
/// thousand, where a sort may order ties as it likes.
#[test]
fn stripes_are_removed_as_by_algotom() {
    let Some(python) = python_with("algotom") else { return };
    // A third of the angles, for time.
    let n_angles = stripes::N_ANGLES / 3;
    let clean = stripes::clean()[..n_angles * stripes::N_COLS].to_vec();
    for (kind, stripe) in [("wide", stripes::Stripe::Wide), ("dead", stripes::Stripe::Dead)] {
        let folder = tempfile::tempdir().expect("a scratch directory");
        // Counts have ties: a little more noise makes them rare.
        let random = Philox::new(6, 6);
        let jitter = |(i, p): (usize, f32)| p + 1e-4 * random.normal(i as u64) as f32;
        let striped: Vec<f32> = stripes::striped(&clean, stripe).into_iter().enumerate().map(jitter).collect();
        write(&folder.path().join("sinogram.npy"), &[n_angles, stripes::N_COLS], &striped);
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/tomography/rings_agree.py");
        let output = Command::new(&python).arg("-B").arg(script).arg(folder.path()).output().expect("Python starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        for (name, _, method) in stripes::METHODS {
            let answer = folder.path().join(format!("{name}.npy"));
            if !answer.exists() {
                continue;
            }
            let peer = npy::read::<f32>(answer).expect("Algotom's answer").1;
            let mut ours = striped.clone();
            rings::remove(&mut ours, stripes::N_COLS, method, 1.0);
            let other = ours.iter().zip(&peer).filter(|(a, b)| (*a - *b).abs() > 2e-6).count();
            eprintln!("{kind}, {name}: {other} of {} values differ", ours.len());
            assert!(other <= ours.len() / 1000, "{kind}, {name}: {other} of {}", ours.len());
        }
    }
}

/// Outputs equal those of PyTorch for the same parameters to 1e-10, gradients of all parameters to 1e-9, in double precision: one to
/// three dimensions, even and odd sizes, with padding and without.
#[test]
fn fourier_operators_equal_pytorch() {
    let Some(python) = python_with("torch") else { return };
    let operator = |modes: Vec<usize>, padding: Vec<usize>, tucker: Option<Vec<usize>>| {
        let (input, output, width, layers, projection, activations) = (2, 3, 6, 3, 7, 1);
        let (lifting, channel_mlp) = (None, None);
        Shape::Fno(FnoShape {
            input,
            output,
            width,
            layers,
            modes,
            projection,
            padding,
            lifting,
            channel_mlp,
            tucker,
            activations,
        })
    };
    let fno = |modes: Vec<usize>, padding: Vec<usize>| operator(modes, padding, None);
    let st = |width: usize, output: usize, modes: [usize; 3], latent: usize| {
        let (modes, growth) = (modes.to_vec(), -0.7);
        Shape::StFno(StShape { input: 5, output, width, layers: 3, modes, latent, growth })
    };
    for (points, shape) in [
        (vec![20], fno(vec![6], vec![0])),
        (vec![12, 15], fno(vec![4, 5], vec![0, 0])),
        (vec![9, 10], fno(vec![3, 4], vec![3, 2])),
        (vec![6, 5, 8], fno(vec![2, 2, 5], vec![0, 1, 0])),
        (vec![12, 15], operator(vec![4, 5], vec![0, 0], Some(vec![4, 3, 5, 2]))),
        (vec![12, 10], st(6, 9, [4, 5, 2], 4)),
        (vec![7, 9], st(5, 3, [2, 3, 3], 5)),
    ] {
        operator_equals(&python, "agree.py", &shape, &points);
    }
}

/// Outputs and gradients of the FNO of neuraloperator as it is by default (a lifting of two maps, channel MLPs, soft gating), with linear
/// skips, and of its TFNO: to 1e-10 and 1e-9 in double precision.
#[test]
fn fourier_operators_equal_neuraloperator() {
    let Some(python) = python_with("torch, neuralop") else { return };
    for (points, modes, tucker, (channels, skip)) in [
        (vec![20], vec![6], None, (3, Skip::SoftGating)),
        (vec![12, 14], vec![4, 5], None, (3, Skip::SoftGating)),
        (vec![12, 15], vec![4, 5], None, (8, Skip::Linear)),
        (vec![6, 8, 10], vec![2, 2, 4], None, (3, Skip::SoftGating)),
        (vec![12, 14], vec![4, 5], Some(vec![4, 3, 5, 2]), (3, Skip::SoftGating)),
    ] {
        let shape = Shape::Fno(FnoShape {
            input: 2,
            output: 3,
            width: 6,
            layers: 3,
            padding: vec![0; modes.len()],
            modes,
            projection: 12,
            lifting: Some(12),
            channel_mlp: Some(ChannelMlp { channels, skip }),
            tucker,
            activations: 1,
        });
        operator_equals(&python, "package.py", &shape, &points);
    }
}

/// Compares an operator with what a script makes of the same parameters and fields.
fn operator_equals(python: &Path, script: &str, shape: &Shape, points: &[usize]) {
    let (size, [input, output]) = (points.iter().product::<usize>(), shape.channels());
    let fields = |channels: usize, stream: u64| -> Vec<Vec<f64>> {
        let random = |b: u64| Philox::new(6, stream + b);
        (0..4).map(|b| (0..channels * size).map(|i| random(b).normal(i as u64)).collect()).collect()
    };
    let (inputs, slopes, mut parameters) = (fields(input, 0), fields(output, 9), shape.parts().initial::<f64>(2));
    // Some first values are zeros and ones.
    let random = Philox::new(6, 99);
    parameters.iter_mut().enumerate().for_each(|(i, p)| *p += 0.1 * random.normal(i as u64));
    let folder = tempfile::tempdir().expect("a scratch directory");
    let path = |name: &str| folder.path().join(name);
    let batch = |channels: usize| [&[4, channels], points].concat();
    write(&path("parameters.npy"), &[parameters.len()], &parameters);
    write(&path("inputs.npy"), &batch(input), &inputs.concat());
    write(&path("slopes.npy"), &batch(output), &slopes.concat());
    std::fs::write(path("case.json"), serde_json::to_string(shape).expect("a size")).expect("written");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/neural-operator").join(script);
    let ran = Command::new(python).arg("-B").arg(script).arg(folder.path()).output().expect("Python starts");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let peer = |name: &str| npy::read::<f64>(path(name)).expect("PyTorch's answer").1;
    let (model, alone) = (Model::new(shape, points, points), Sharing::default());
    let (outputs, tape) = model.forward(&parameters, &inputs, &alone).expect("no exchange");
    let gradient = model.backward(&parameters, &tape, &slopes, &alone).expect("no exchange");
    for (what, ours, theirs, most) in
        [("outputs", outputs.concat(), peer("outputs.npy"), 1e-10), ("gradient", gradient, peer("gradient.npy"), 1e-9)]
    {
        let largest = theirs.iter().fold(0f64, |most, v| most.max(v.abs()));
        let far = ours.iter().zip(&theirs).fold(0f64, |most, (a, b)| most.max((a - b).abs())) / largest;
        eprintln!("{what} of {shape:?}: {far:.1e}");
        assert!(ours.len() == theirs.len() && far <= most, "{what} of {shape:?}: {far:e}");
    }
}

struct Ours {
    projector: Projector,
    ramp: RampFilter,
}

impl Ours {
    fn new(geometry: &ParallelGeometry) -> Self {
        let projector = Projector::new(&Device::cpu(), geometry.clone(), Footprint::Joseph).expect("a projector");
        let ramp = RampFilter::new(&Device::cpu(), RampParams::new(geometry.n_cols, 1.0)).expect("a filter");
        Self { projector, ramp }
    }

    fn forward(&self, volume: &[f32]) -> Vec<f32> {
        let mut sinogram = buffer(&vec![0.0; N_SLICES * self.projector.geometry().sinogram_len()]);
        self.projector.forward(&mut buffer(volume), &mut sinogram).expect("a projection");
        sinogram.host().to_vec()
    }

    fn back(&self, sinogram: &[f32]) -> Vec<f32> {
        let mut volume = buffer(&vec![0.0; N_SLICES * self.projector.geometry().slice_len()]);
        self.projector.back(&mut buffer(sinogram), &mut volume).expect("a back projection");
        volume.host().to_vec()
    }

    /// The angles are a half turn.
    fn fbp(&self, sinogram: &[f32]) -> Vec<f32> {
        let n_angles = self.projector.n_active();
        let mut sinogram = buffer(sinogram);
        let mut volume = buffer(&vec![0.0; N_SLICES * self.projector.geometry().slice_len()]);
        self.ramp.apply(n_angles, &mut sinogram).expect("filtered");
        let weights = vec![(PI / n_angles as f64) as f32; n_angles];
        self.projector.back_weighted(&weights, &mut sinogram, &mut volume).expect("a reconstruction");
        volume.host().to_vec()
    }
}

fn buffer(values: &[f32]) -> Buffer<f32> {
    Buffer::from_vec(&Device::cpu(), values.to_vec()).expect("memory")
}

/// Numbers in [0, 1).
fn noise(n: usize, stream: u64) -> Vec<f32> {
    let random = Philox::new(7, stream);
    (0..n as u64).map(|i| random.uniform(i) as f32).collect()
}

/// Projections of Gaussian blobs a exp(−r²/2s²), which are a s √2π exp(−d²/2s²) at distance d from their shadows.
fn blobs(geometry: &ParallelGeometry) -> Vec<f32> {
    let unit = geometry.n_cols as f64 / 100.0;
    // x, y, s, a
    let blobs = [[5.0, 10.0, 12.0, 1.0], [-15.0, 3.0, 6.0, -0.5], [8.0, -20.0, 4.0, 0.7]];
    let value = |slice: usize, angle: f64, col: usize| -> f32 {
        let (sin, cos) = angle.sin_cos();
        let along = |[x, y, s, a]: [f64; 4]| {
            let d = (col as f64 - geometry.axis_col) / unit - x * cos - y * sin;
            a * s * unit * (2.0 * PI).sqrt() * (-d * d / (2.0 * s * s)).exp()
        };
        ((slice + 1) as f64 * blobs.map(along).iter().sum::<f64>()) as f32
    };
    let rows = (0..N_SLICES).flat_map(|slice| geometry.angles_rad.iter().map(move |angle| (slice, *angle)));
    rows.flat_map(|(slice, angle)| (0..geometry.n_cols).map(move |col| value(slice, angle, col))).collect()
}

fn write<T: Float>(path: &Path, shape: &[usize], values: &[T]) {
    let mut file = NpyWriter::create(path, shape).expect("a file");
    file.write(values).expect("written");
    file.commit().expect("finished");
}

/// ‖a − b‖ / ‖b‖
fn distance(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let square = |x: f64| x * x;
    let difference: f64 = a.iter().zip(b).map(|(a, b)| square(f64::from(*a) - f64::from(*b))).sum();
    let norm: f64 = b.iter().map(|b| square(f64::from(*b))).sum();
    assert!(norm > 0.0, "ASTRA's answer is zero");
    (difference / norm).sqrt()
}
