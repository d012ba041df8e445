use convoke_cluster::pieces::Pieces;
use convoke_cluster::workload::{Clock, Notes};
use convoke_kernels::Device;

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

/// FDK that reads some views, filters them and adds them up, step by step, gives what it gives of all views at once, to the rounding of sums.
#[test]
fn steps_of_fdk_add_up_to_all_views() {
    let spec: Spec = toml::from_str(JOB).expect("a problem");
    let comm = Comm::solo();
    let ctx = Ctx {
        comm: comm.clone(),
        device: Device::cpu(),
        seed: 3,
        inputs: Inputs { base: ".".into() },
        resources: Resources { ranks: 1, threads: 1, memory_per_rank: u64::MAX },
        pieces: Pieces::below(std::path::Path::new(".")),
        scratch: "work".into(),
        notes: Notes::default(),
        clock: Clock::start(),
    };
    let input = Input::open(&spec, &ctx.inputs, ctx.seed).expect("a phantom");
    let g = input.geometry.clone();
    let (rows, slices, views) = (0..g.n_rows, 0..g.shape[0], g.views.len());
    let image = |steps: usize| -> Vec<f32> {
        let mut direct = Direct::new(&g, rows.clone(), Vec::new(), slices.len()).expect("a circle");
        for step in 0..steps {
            let part = block(views, step, steps);
            let data = input.some(rows.clone(), part.clone()).expect("projections");
            assert_eq!(data.len(), rows.len() * part.len() * g.n_cols);
            direct.add((&spec, &ctx), (&comm, slices.clone()), (part, data), step == 0).expect("an image");
        }
        direct.image
    };
    let whole = image(1);
    let most = whole.iter().fold(0f32, |m, v| m.max(v.abs()));
    assert!(most > 0.5, "{most}");
    for steps in [2, 5, 31] {
        let off = image(steps).iter().zip(&whole).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
        assert!(off < 2e-6 * most, "{steps} steps: {off} of {most}");
    }
}
