//! Total variation through the launches that a GPU gets, emulated on the processor: the image, residuals and changes of the processor's own code;
//! on ranks; resumed. Skipped, with a printed reason, where there is no g++.

mod common;

use std::path::{Path, PathBuf};

use common::{relative_difference, scratch, volume};
use convoke::registry;
use convoke_cluster::comm::run_threads;
use convoke_cluster::driver::{From, Options, Source};
use convoke_cluster::progress::Verbosity;
use convoke_cluster::{Exit, JobText};
use convoke_data::store::Reader;
use convoke_kernels::Device;
use convoke_kernels::gpu::emulation::compile_emulation;

#[allow(clippy::print_stderr, reason = "a skipped test says why")]
fn emulated(dir: &Path) -> Option<Device> {
    let made = compile_emulation(dir).and_then(|library| Device::emulated(&library));
    if made.is_err() {
        eprintln!("skipped: {made:?}");
    }
    made.ok()
}

fn text(method: &str, variation: &str) -> String {
    format!(
        "schema = 1\nname = \"tv\"\nworkload = \"tomography\"\nseed = 2\n[problem.phantom]\nkind = \"shepp-logan\"\nsize = 8\nrows = 3\n\
         angles = 5\nphotons = 1e4\n[problem.method]\nalgorithm = \"admm-tv\"\niterations = 3\n{method}\n[problem.method.variation]\n\
         inner = 2\n{variation}\n"
    )
}

fn options(device: &Device) -> Options {
    Options { verbosity: Verbosity::Quiet, threads: 1, device: Some(device.clone()), ..Options::default() }
}

fn run(source: &Source, options: &Options, ranks: usize) -> Exit {
    let entry = registry::find("tomography").expect("it is registered");
    let outcomes = run_threads(ranks, |comm| (entry.run)(&comm, source, options));
    outcomes.into_iter().map(|outcome| outcome.expect("it runs").exit).next().expect("a rank")
}

fn new(scratch: &Path, name: &str, text: &str) -> (Source, PathBuf) {
    let dir = scratch.join(name);
    let text = JobText { path: scratch.join("job.toml"), text: text.to_owned() };
    (Source::New { text, dir: dir.clone() }, dir)
}

fn history(dir: &Path, name: &str) -> Vec<f64> {
    Reader::open(dir.join("result.h5")).expect("a result").read(&format!("/history/{name}")).expect("a history")
}

/// Both kinds of norms, all axes and z alone, weights, masks and bounds; one slab, several, and ranks that share a slab's angles.
#[test]
fn total_variation_is_that_of_the_processor() {
    let scratch = scratch();
    let Some(device) = emulated(scratch.path()) else { return };
    for (case, (method, variation)) in [
        ("", "weight = 1e-3"),
        ("non_negative = true\nmask_radius = 0.8", "weight = 3e-3\nkind = \"anisotropic\""),
        ("weights = \"poisson\"\nmask_radius = 0.9", "weight = 1e-3\nalong = \"z\""),
    ]
    .into_iter()
    .enumerate()
    {
        let text = text(method, variation);
        let (source, cpu) = new(scratch.path(), &format!("cpu{case}"), &text);
        run(&source, &options(&Device::cpu()), 1);
        for ranks in if case == 1 { vec![1, 2, 5] } else { vec![1] } {
            let (source, gpu) = new(scratch.path(), &format!("gpu{case}-{ranks}"), &text);
            run(&source, &options(&device), ranks);
            let far = relative_difference(&volume(&cpu), &volume(&gpu));
            assert!(far < 2e-5, "{method} {variation} on {ranks}: {far:e}");
            for name in ["residual", "change"] {
                let (a, b) = (history(&cpu, name), history(&gpu, name));
                let near = a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-4 * a.abs());
                assert!(a.len() == b.len() && near, "{name} on {ranks}: {a:?} {b:?}");
            }
        }
    }
}

/// A run that was stopped on the device goes on there, and on the processor.
#[test]
fn stopped_runs_go_on_with_and_without_the_device() {
    let scratch = scratch();
    let Some(device) = emulated(scratch.path()) else { return };
    let text = text("non_negative = true", "weight = 1e-3") + "[checkpoint]\nevery_steps = 2\n";
    let (source, whole) = new(scratch.path(), "whole", &text);
    run(&source, &options(&device), 1);
    for (name, other) in [("device", &device), ("processor", &Device::cpu())] {
        let (source, dir) = new(scratch.path(), name, &text);
        let first = Options { stop_after: Some(2), ..options(&device) };
        assert!(matches!(run(&source, &first, 2), Exit::Stopped), "{name}");
        run(&Source::Resume { dir: dir.clone(), from: From::Newest }, &options(other), 1);
        let far = relative_difference(&volume(&whole), &volume(&dir));
        assert!(far < 2e-5, "{name}: {far:e}");
    }
}
