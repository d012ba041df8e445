//! The workload's known answers: exact projections, published figures, identities, a real scan.

mod common;

use std::path::Path;

use common::{assert_same_bits, below, job, json, run, scratch, small, test_data, told, volume};
use convoke_cluster::driver::{Options, Source};
use convoke_cluster::progress::Verbosity;
use convoke_cluster::{Comm, JobText};
use convoke_data::store::Reader;
use convoke_kernels::Device;

/// A Shepp–Logan job of `size`³ and `angles` views.
fn shepp_logan(size: usize, rows: usize, angles: usize, more: &str) -> String {
    format!(
        "schema = 1\nname = \"sl\"\nworkload = \"tomography\"\n[problem.phantom]\nkind = \"shepp-logan\"\n\
         size = {size}\nrows = {rows}\nangles = {angles}\n{more}"
    )
}

fn figure(run: &Path, name: &str) -> f64 {
    let reader = Reader::open(run.join("result.h5")).expect("a result");
    reader.attribute("/result", name).expect("a group").expect("a figure").as_f64().expect("a number")
}

fn reconstruct(dir: &Path, name: &str, text: &str) -> std::path::PathBuf {
    let spec = job(dir, &format!("{name}.toml"), text);
    let run_dir = dir.join(name);
    json(&["run", &spec, "--dir", &run_dir.display().to_string(), "--quiet", "--json"]);
    run_dir
}

/// `docs/` of the design names 32.24 dB for voxel-driven FBP and 31.22 dB for ASTRA's; the issue
/// asks for 32.2 dB: 256³, 180 angles, exact analytic projections, peak 1, inscribed cylinder.
#[test]
fn fbp_of_exact_shepp_logan_data_reaches_32_2_db() {
    let scratch = scratch();
    let text = shepp_logan(256, 256, 180, "[problem.method]\nalgorithm = \"fbp\"\nfilter = \"ram-lak\"\n");
    let ram_lak = figure(&reconstruct(scratch.path(), "ram-lak", &text), "psnr_db");
    assert!(ram_lak >= 32.2, "{ram_lak} dB");
}

/// SIRT and CGLS with Joseph's projector give the quality that ASTRA's 'linear' gives on the same
/// exact data (256², 180 angles, central slices; measured with ASTRA 2.5.0: SIRT-20 18.80 dB, CGLS-10
/// 28.88 dB, CGLS-20 30.53 dB).
#[test]
fn sirt_and_cgls_reach_the_quality_of_a_peer_on_the_same_data() {
    let scratch = scratch();
    for (method, iterations, peer) in [("sirt", 20, 18.80), ("cgls", 10, 28.88), ("cgls", 20, 30.53)] {
        let method = format!("[problem.method]\nalgorithm = \"{method}\"\niterations = {iterations}\n");
        let dir = reconstruct(scratch.path(), &format!("{peer}"), &shepp_logan(256, 8, 180, &method));
        let psnr = figure(&dir, "psnr_db");
        assert!((psnr - peer).abs() < 0.35, "{method}: {psnr} dB, the peer has {peer}");
    }
}

/// The residual of every iterative algorithm falls, and that of CGLS never grows (Björck 1996).
#[test]
fn residuals_fall() {
    let scratch = scratch();
    for method in ["sirt", "cgls", "os-sart", "mlem", "osem"] {
        let text = shepp_logan(64, 4, 90, &format!("[problem.method]\nalgorithm = \"{method}\"\niterations = 12\n"));
        let dir = reconstruct(scratch.path(), method, &text);
        let reader = Reader::open(dir.join("result.h5")).expect("a result");
        let residual: Vec<f64> = reader.read("/history/residual").expect("a history");
        assert_eq!(residual.len(), 12);
        assert!(residual[11] < 0.25 * residual[0], "{method}: {residual:?}");
        if method == "cgls" {
            assert!(residual.windows(2).all(|w| w[1] <= w[0]), "{residual:?}");
        }
    }
}

#[test]
fn non_negativity_and_masks_hold() {
    let scratch = scratch();
    let text = small(40, 3, 24, "algorithm = \"sirt\"\niterations = 10\nnon_negative = true\nmask_radius = 0.8");
    let image = volume(&reconstruct(scratch.path(), "run", &text));
    assert!(image.iter().all(|v| *v >= 0.0) && image.iter().any(|v| *v > 0.1));
    for (i, v) in image.iter().enumerate() {
        let (y, x) = ((i / 40 % 40) as f64 - 19.5, (i % 40) as f64 - 19.5);
        assert!(x.hypot(y) <= 16.0 || *v == 0.0, "voxel {i} outside the mask is {v}");
    }
}

/// The discrepancy principle stops a slice at the noise level: fewer iterations, and a better
/// image than one that fits the noise.
#[test]
fn stopping_at_the_noise_level_beats_fitting_the_noise() {
    let scratch = scratch();
    let noisy = |method: &str| {
        let phantom = shepp_logan(64, 16, 90, "photons = 3e3\n[problem.method]\n");
        format!("{phantom}algorithm = \"cgls\"\niterations = 60\n{method}")
    };
    // −ln(N/N0)/μ has a standard deviation near 1/(μ √N); N0 = 3000, μ = 0.02, half absorbed.
    let stopped = reconstruct(scratch.path(), "stopped", &noisy("noise = 1.1\n"));
    let fitted = reconstruct(scratch.path(), "fitted", &noisy(""));
    let history: Vec<f64> =
        Reader::open(stopped.join("result.h5")).expect("a result").read("/history/residual").expect("it");
    assert!(history.len() < 30, "stopped after {}", history.len());
    let (a, b) = (figure(&stopped, "psnr_db"), figure(&fitted, "psnr_db"));
    assert!(a > b + 2.0, "{a} dB against {b} dB");
}

/// A volume larger than the memory that the job allows goes through in windows, to the same bits,
/// and the process stays below what the job allows.
#[test]
fn a_volume_larger_than_memory_is_streamed_to_the_same_bits() {
    let scratch = scratch();
    let method = "[problem.method]\nalgorithm = \"sirt\"\niterations = 3\n";
    // 96 slices of 160²: 3 images of 9.8 MB and 3 sinograms of 7.4 MB do not fit beside the program.
    let whole = reconstruct(scratch.path(), "whole", &shepp_logan(160, 96, 120, method));
    let limited = shepp_logan(160, 96, 120, method)
        .replace("[problem.phantom]", "[run]\nmemory_per_rank = \"112MiB\"\n[problem.phantom]");
    let spec = job(scratch.path(), "limited.toml", &limited);
    let dir = below(scratch.path(), "limited");
    let summary = json(&["run", &spec, "--dir", &dir, "--quiet", "--json"]);
    assert!(summary["steps"].as_u64() > Some(3), "{summary}");
    assert_same_bits(&volume(&whole), &volume(dir.as_ref()), "windows");
    let peak = summary["peak_memory"].as_u64().expect("a figure");
    assert!(peak < 112 << 20, "{peak} bytes at the peak");
    // Stopped in the middle of a window, resumed with other windows on other ranks: the same bits.
    let dir = below(scratch.path(), "stopped");
    assert_eq!(told(&run(&["run", &spec, "--dir", &dir, "-q", "--stop-after", "5"])).0, 75);
    let ranks = if common::has_mpirun() { "2" } else { "1" };
    assert_eq!(told(&run(&["resume", &dir, "-q", "-n", ranks])).0, 0);
    assert_same_bits(&volume(&whole), &volume(dir.as_ref()), "windows, stopped and resumed");
}

/// The shift of the rotation axis is found to a quarter of a pixel, without and with noise.
#[test]
fn a_known_shift_of_the_axis_is_found_to_a_quarter_pixel() {
    let scratch = scratch();
    for (i, (shift, noise)) in
        [(0.0, ""), (5.37, ""), (-11.8, "photons = 2e4\n"), (3.5, "photons = 1e4\n")].into_iter().enumerate()
    {
        let more = format!(
            "axis_shift_pixels = {shift}\n{noise}[problem.centre]\nfind = true\n[problem.method]\nalgorithm = \"fbp\"\n"
        );
        let dir = reconstruct(scratch.path(), &format!("run{i}"), &shepp_logan(128, 5, 180, &more));
        let found = figure(&dir, "rotation_axis_column");
        assert!((found - (63.5 + shift)).abs() <= 0.25, "shift {shift}: found {found}, true {}", 63.5 + shift);
    }
}

/// The measured tooth: TomoPy's documentation finds its axis near column 296.
#[test]
fn the_tooth_is_reconstructed_with_its_axis_found() {
    let Some(file) = test_data("tooth.h5") else { return };
    let scratch = scratch();
    let text = include_str!("../jobs/tomography/tooth.toml").replace("tooth.h5\"", &format!("{}\"", file.display()));
    let dir = reconstruct(scratch.path(), "tooth", &text);
    let axis = figure(&dir, "rotation_axis_column");
    assert!((294.5..=297.5).contains(&axis), "axis at {axis}");
    let image = volume(&dir);
    assert_eq!(image.len(), 2 * 640 * 640);
    // Enamel, dentine and air are far apart: the object is a fifth of the field, bright and compact.
    let mut sorted = image.clone();
    sorted.sort_by(f32::total_cmp);
    let at = |part: f64| sorted[(part * sorted.len() as f64) as usize];
    assert!(at(0.95) > 10.0 * at(0.5).abs(), "object {} over background {}", at(0.95), at(0.5));
}

/// ParaView's own reader opens the result: grid, spacing, origin and values.
#[test]
fn paraviews_reader_opens_the_result() {
    let Some(python) = std::env::var_os("CONVOKE_PYTHON") else {
        return skip("CONVOKE_PYTHON is not set");
    };
    let scratch = scratch();
    let dir = reconstruct(
        scratch.path(),
        "run",
        &shepp_logan(
            16,
            5,
            12,
            "[problem.volume]\nsize = 12\nvoxel_pixels = 0.5\n[problem.method]\nalgorithm = \"fbp\"\n",
        ),
    );
    let script = "import sys\ntry:\n import vtk\n from vtk.util.numpy_support import vtk_to_numpy\nexcept ImportError: sys.exit(77)\n\
                  r = vtk.vtkHDFReader(); r.SetFileName(sys.argv[1]); r.Update(); o = r.GetOutput()\n\
                  a = vtk_to_numpy(o.GetPointData().GetArray('volume'))\n\
                  print(o.GetDimensions(), o.GetSpacing(), o.GetOrigin(), repr(float(a[0])), repr(float(a[700])))";
    let output = std::process::Command::new(python).arg("-c").arg(script).arg(dir.join("result.vtkhdf")).output();
    let (code, out, err) = told(&output.expect("Python starts"));
    if code == 77 {
        return skip("this Python has no vtk");
    }
    assert_eq!(code, 0, "{err}");
    let image = volume(&dir);
    let number = |v: f32| format!("{:?}", f64::from(v));
    let expected =
        format!("(12, 12, 5) (0.5, 0.5, 1.0) (-2.75, -2.75, -2.0) {} {}", number(image[0]), number(image[700]));
    assert_eq!(out.trim(), expected);
}

/// Every algorithm on an emulated GPU, through the launches that a GPU gets, equals the CPU.
#[test]
fn every_algorithm_gives_the_cpus_result_on_an_emulated_gpu() {
    let scratch = scratch();
    let library = match convoke_kernels::gpu::emulation::compile_emulation(scratch.path()) {
        Ok(library) => library,
        Err(error) => return skip(&error.to_string()),
    };
    for method in ["fbp", "sirt", "cgls", "os-sart", "mlem", "osem"] {
        // Many tiny subsets amplify rounding where the image is nearly 0: two are enough here.
        let iterations = match method {
            "fbp" => "",
            "os-sart" | "osem" => "iterations = 3\nsubsets = 2\n",
            _ => "iterations = 3\n",
        };
        let text = small(20, 3, 9, &format!("algorithm = \"{method}\"\n{iterations}"));
        let images: Vec<Vec<f32>> = [Device::cpu(), Device::emulated(&library).expect("just compiled")]
            .into_iter()
            .enumerate()
            .map(|(i, device)| {
                let dir = scratch.path().join(format!("{method}{i}"));
                let text = JobText { path: "job.toml".into(), text: text.clone() };
                let source = Source::New { text, dir: dir.clone() };
                let options =
                    Options { verbosity: Verbosity::Quiet, threads: 1, device: Some(device), ..Options::default() };
                let run = convoke::registry::find("tomography").expect("registered").run;
                run(&Comm::solo(), &source, &options).expect("it runs");
                volume(&dir)
            })
            .collect();
        let difference = common::relative_difference(&images[0], &images[1]);
        assert!(difference < 2e-5, "{method}: {difference:e}");
    }
}

#[allow(clippy::print_stderr, reason = "a skipped test says why")]
fn skip(why: &str) {
    eprintln!("SKIPPED: {why}");
}
