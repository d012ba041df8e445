//! A denoiser as prior through the launches that a GPU gets, emulated on the processor: its images and whole reconstructions are those of the
//! processor's own code. Skipped, with a printed reason, where there is no g++.

mod common;

use std::path::Path;

use common::{scratch, volume};
use convoke::prior::{Denoiser, Learnt, weights};
use convoke::registry::{self, REGISTRY};
use convoke_cluster::JobText;
use convoke_cluster::comm::run_threads;
use convoke_cluster::driver::{Options, Source};
use convoke_cluster::progress::Verbosity;
use convoke_kernels::gpu::emulation::compile_emulation;
use convoke_kernels::{Device, Philox};

#[allow(clippy::print_stderr, reason = "a skipped test says why")]
fn emulated(dir: &Path) -> Option<Device> {
    let made = compile_emulation(dir).and_then(|library| Device::emulated(&library));
    if made.is_err() {
        eprintln!("skipped: {made:?}");
    }
    made.ok()
}

/// Largest difference, of the largest number.
fn apart(a: &[f32], b: &[f32]) -> f32 {
    assert!(a.len() == b.len() && !a.is_empty(), "{} {}", a.len(), b.len());
    let largest = b.iter().fold(0.0, |m: f32, v| m.max(v.abs()));
    assert!(largest > 0.0 && a.iter().all(|v| v.is_finite()));
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / largest
}

/// The denoiser of heads on images that are not square, of little and of much noise, to 1e-5; an image gives the same bits beside any other.
#[test]
fn heads_are_denoised_as_on_the_processor() {
    let scratch = scratch();
    let Some(device) = emulated(scratch.path()) else { return };
    let heads = weights::built_in("heads", "a key").expect("a denoiser");
    let there = heads.on(&device).expect("memory").expect("kernels");
    assert!(heads.on(&Device::cpu()).expect("nothing to do").is_none());
    let points = [16, 24];
    let noise = Philox::new(1, 2);
    let x: Vec<f32> = (0..2 * 16 * 24).map(|i| (0.3 + noise.normal(i)) as f32).collect();
    for sigma in [0.05, 10.0] {
        let expected = heads.denoise(&x, points, sigma).expect("images");
        let found = there.denoise(&x, points, sigma).expect("images");
        let far = apart(&found, &expected);
        assert!(far < 1e-5, "noise {sigma}: {far:e}");
        // Two programs that round alike would be one program.
        assert!(found != expected, "the device was not used");
        // An image alone is that among others.
        let one = there.denoise(&x[..16 * 24], points, sigma).expect("images");
        assert!(one == found[..16 * 24], "noise {sigma}");
    }
}

/// A job with a prior: the volume of the device is that of the processor to 1e-3 of the largest value, on one and on two ranks.
#[test]
fn reconstructions_are_those_of_the_processor() {
    let scratch = scratch();
    let Some(device) = emulated(scratch.path()) else { return };
    let entry = REGISTRY.iter().find(|entry| entry.name == "tomography").expect("it is registered");
    let (_, text) = entry.jobs.iter().find(|(name, _)| *name == "heads-few-views-tiny").expect("a job");
    // The emulation takes its time.
    let mut text = (*text).to_owned();
    for (from, to) in [("rows = 5", "rows = 2"), ("steps = 3\nsamples = 2", "steps = 2")] {
        assert!(text.contains(from), "{from}");
        text = text.replace(from, to);
    }
    let run = |name: &str, device: Device, ranks: usize| {
        let dir = scratch.path().join(name);
        let text = JobText { path: scratch.path().join("job.toml"), text: text.clone() };
        let source = Source::New { text, dir: dir.clone() };
        let options = Options { verbosity: Verbosity::Quiet, threads: 1, device: Some(device), ..Options::default() };
        let entry = registry::find("tomography").expect("it is registered");
        for outcome in run_threads(ranks, |comm| (entry.run)(&comm, &source, &options)) {
            outcome.expect("it runs");
        }
        dir
    };
    let cpu = run("cpu", Device::cpu(), 1);
    for ranks in [1, 2] {
        let gpu = run(&format!("gpu{ranks}"), device.clone(), ranks);
        let far = apart(&volume(&gpu), &volume(&cpu));
        assert!(far < 1e-3, "{ranks} ranks: {far:e}");
    }
}
