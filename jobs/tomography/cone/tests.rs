use std::sync::Arc;

use convoke_cluster::pieces::Pieces;
use convoke_cluster::workload::{Clock, Notes};
use convoke_data::store::Overflow;
use convoke_kernels::{ConeProjector, Device, Orbit, Philox};

use super::*;

const JOB: &str = "
[phantom]
kind = \"ellipsoids\"
size = 24
angles = 31
arc_degrees = 360.0
photons = 1e5
[geometry]
kind = \"circular\"
source_to_axis_mm = 96.0
source_to_detector_mm = 144.0
pixel_mm = 1.68
[volume]
voxel_mm = 1.0
[method]
algorithm = \"fdk\"
";

/// One rank's job of ellipsoids, whose windows go to `dir`.
fn setting(dir: &std::path::Path) -> (Spec, Ctx, Input, Place) {
    let spec: Spec = toml::from_str(JOB).expect("a problem");
    let comm = Comm::solo();
    let ctx = Ctx {
        comm: comm.clone(),
        device: Device::cpu(),
        seed: 3,
        inputs: Inputs { base: ".".into() },
        resources: Resources { ranks: 1, threads: 1, memory_per_rank: u64::MAX },
        pieces: Pieces::below(dir),
        overflow: Overflow::below(".".as_ref()),
        scratch: "work".into(),
        notes: Notes::default(),
        clock: Clock::start(),
    };
    let input = Input::open(&spec, &ctx.inputs, ctx.seed).expect("a phantom");
    let g = input.geometry.clone();
    let place =
        Place { grid: rank_grid(1, g.shape[0]), slab: 0, group: comm, slices: 0..g.shape[0], views: 0..g.views.len() };
    (spec, ctx, input, place)
}

/// FDK that reads some views, filters them and adds them up, step by step, gives what it gives of all views at once, to the rounding of sums.
#[test]
fn steps_of_fdk_add_up_to_all_views() {
    let (spec, ctx, input, place) = setting(std::path::Path::new("."));
    let image = |steps: u64, by_step: bool| -> Vec<f32> {
        let (mut direct, _) = Direct::new(&spec, &ctx, &input, &place).expect("a circle");
        (direct.parts, direct.by_step) = (steps, by_step);
        for step in 1..=steps {
            let progress = direct.step(&spec, &ctx, &input, &place).expect("an image");
            assert_eq!(progress.done, step == steps);
        }
        direct.volume().expect("one window").to_vec()
    };
    let whole = image(1, false);
    let most = whole.iter().fold(0f32, |m, v| m.max(v.abs()));
    assert!(most > 0.5, "{most}");
    for steps in [2, 5, 31] {
        let read = image(steps, true);
        assert_eq!(read, image(steps, false), "views read step by step, or cut from all");
        let off = read.iter().zip(&whole).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
        assert!(off < 2e-6 * most, "{steps} steps: {off} of {most}");
    }
}

/// Windows of ten slices, the second one left in the middle and taken up by another process, are the volume to the bit.
#[test]
fn windows_are_the_volume_and_go_on_where_they_stopped() {
    let scratch = tempfile::tempdir().expect("a directory");
    let (spec, ctx, input, place) = setting(scratch.path());
    let g = input.geometry.clone();
    let start = || {
        let (mut direct, _) = Direct::new(&spec, &ctx, &input, &place).expect("a circle");
        // As if nothing had been opened yet.
        (direct.parts, direct.by_step, direct.len) = (5, true, 0);
        direct
    };
    let mut whole = start();
    while !whole.step(&spec, &ctx, &input, &place).expect("a step").done {}
    let mut first = start();
    first.limit = 10;
    for _ in 0..7 {
        assert!(!first.step(&spec, &ctx, &input, &place).expect("a step").done);
    }
    // As the frame does it: counters, what they imply, arrays.
    let mut second = start();
    second.limit = 16;
    (second.next, second.len, second.part) = (first.next, first.len, first.part);
    second.reshape(&ctx, &input, &place).expect("the window");
    second.image.copy_from_slice(&first.image);
    while !second.step(&spec, &ctx, &input, &place).expect("a step").done {}
    assert!(second.volume().is_none(), "nothing stays");
    let mut read = Vec::new();
    for (piece, take) in ctx.pieces.cover("volume", g.shape[0]).expect("all slices") {
        let values: Vec<f32> = piece.read(take).expect("slices");
        read.extend(values);
    }
    assert!(read == whole.volume().expect("one window"));
}

/// A slab in windows, cut at multiples wherever it begins: projections of the whole to the rounding of sums, images of the whole to the bit, and ⟨A x, y⟩
/// = ⟨x, Aᵀ y⟩ to 1e-6.
#[test]
fn windows_of_a_slab_add_up_to_the_slab() {
    let orbit = Orbit::circle((0..5).map(f64::from).collect(), [60.0, 90.0], 2.5, [250, 14]);
    let g = Arc::new(ConeGeometry {
        views: orbit.views(),
        n_rows: 250,
        n_cols: 14,
        shape: [300, 8, 9],
        voxel: 1.5,
        centre: [0.0; 3],
    });
    for footprint in [ConeFootprint::Shadow, ConeFootprint::Joseph] {
        let bands = Bands::new(&g, 1, footprint);
        let part = ConePart { slices: 100..290, rows: bands.of(0), views: (0..5).collect() };
        let (device, comm) = (Device::cpu(), Comm::solo());
        let projector = ConeProjector::new(&device, g.clone(), part.clone(), footprint).expect("a projector");
        let store = Store::new(&device, None);
        let ranks =
            Ranks { all: comm.clone(), group: comm.clone(), column: comm, bands, device: device.clone(), store };
        let windows = Projection::new(&ranks, &g, &part, footprint).expect("two windows");
        let random = |len: usize, stream: u64| {
            let random = Philox::new(7, stream);
            Buffer::from_vec(&device, (0..len as u64).map(|i| random.normal(i) as f32).collect()).expect("memory")
        };
        let (mut x, mut y) = (random(projector.volume_len(), 0), random(projector.sinogram_len(), 1));
        let zeros = |len: usize| Buffer::zeros(&device, len).expect("memory");
        let [mut q, mut q_whole] = [zeros(y.len()), zeros(y.len())];
        let [mut v, mut v_whole] = [zeros(x.len()), zeros(x.len())];
        projector.forward(&mut x, &mut q_whole).expect("projections");
        windows.forward(&ranks, &mut x, &mut q).expect("projections");
        let most = q_whole.host().iter().fold(0f32, |m, v| m.max(v.abs()));
        let off = q.host().iter().zip(q_whole.host()).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
        assert!(most > 1.0 && off < 2e-6 * most, "{footprint:?}: {off} of {most}");
        projector.back(&mut y, &mut v_whole).expect("an image");
        windows.back(&ranks, &mut y, &mut v).expect("an image");
        assert!(v.host() == v_whole.host(), "{footprint:?}");
        let dot = crate::inverse::vectors::dot;
        let (a, b) = (dot(q.host(), y.host()), dot(x.host(), v.host()));
        let norm2 = |v: &[f32]| dot(v, v);
        let norms = (norm2(q.host()) * norm2(y.host())).sqrt();
        assert!((a - b).abs() < 1e-6 * norms, "{footprint:?}: {a} {b}");
    }
}
