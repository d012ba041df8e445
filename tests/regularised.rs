//! Tomography of the whole volume as one problem: solvers against each other, ranks, resumed runs, noise.

mod common;

use std::path::{Path, PathBuf};

use common::{assert_same_bits, figure, relative_difference, run_on_threads, scratch, volume};
use convoke_cluster::comm::run_threads;
use convoke_cluster::driver::{From, Options, Source};
use convoke_cluster::progress::Verbosity;
use convoke_cluster::{Exit, JobText};
use convoke_data::store::Reader;

/// The head in parallel beams; `more` are further keys of the phantom, `method` those of the method.
fn parallel(size: usize, rows: usize, angles: usize, more: &str, method: &str) -> String {
    format!(
        "schema = 1\nname = \"p\"\nworkload = \"tomography\"\nseed = 2\n[problem.phantom]\nkind = \"shepp-logan\"\nsize = {size}\n\
         rows = {rows}\nangles = {angles}\n{more}\n[problem.method]\n{method}\n"
    )
}

/// The head in a cone of some ten degrees.
fn cone(size: usize, slices: usize, angles: usize, method: &str) -> String {
    let (r, d) = (4 * size, 6 * size);
    format!(
        "schema = 1\nname = \"c\"\nworkload = \"tomography\"\n[problem.phantom]\nkind = \"shepp-logan\"\nsize = {size}\nrows = {slices}\n\
         angles = {angles}\narc_degrees = 360.0\n[problem.geometry]\nkind = \"circular\"\nsource_to_axis_mm = {r}.0\n\
         source_to_detector_mm = {d}.0\npixel_mm = 1.68\n[problem.volume]\nvoxel_mm = 1.0\nslices = {slices}\n[problem.method]\n{method}\n"
    )
}

fn on(dir: &Path, name: &str, text: &str, ranks: usize) -> PathBuf {
    let run_dir = dir.join(name);
    let text = JobText { path: dir.join("job.toml"), text: text.to_owned() };
    for outcome in run_on_threads("tomography", text, ranks, &run_dir) {
        let outcome = outcome.expect("it runs");
        let (sent, planned) = (outcome.traffic.bytes, outcome.plan.bytes_sent_per_rank);
        assert!(sent <= planned, "{name} on {ranks}: {sent} bytes sent, {planned} planned");
    }
    run_dir
}

fn history(dir: &Path, name: &str) -> Vec<f64> {
    Reader::open(dir.join("result.h5")).expect("a result").read(&format!("/history/{name}")).expect("a history")
}

/// LSQR has the iterates of CGLS (Paige and Saunders 1982); CGLS of a single slice and of cone beams is one problem too. Both lose them by rounding
/// once the first singular vectors are found: at eight iterations of this size 2 % of the image in f32.
#[test]
fn lsqr_has_the_iterates_of_cgls() {
    let scratch = scratch();
    let with = |algorithm: &str| format!("algorithm = \"{algorithm}\"\niterations = 5\nmask_radius = 0.9");
    for (name, text) in [
        ("parallel", (&|method: &str| parallel(48, 1, 40, "", method)) as &dyn Fn(&str) -> String),
        ("cone", &|method: &str| cone(32, 24, 30, method)),
    ] {
        let lsqr = on(scratch.path(), &format!("{name}-lsqr"), &text(&with("lsqr")), 1);
        let cgls = on(scratch.path(), &format!("{name}-cgls"), &text(&with("cgls")), 1);
        let difference = relative_difference(&volume(&lsqr), &volume(&cgls));
        assert!(difference < 1e-4, "{name}: {difference:e}");
        let (a, b) = (history(&lsqr, "residual"), history(&cgls, "residual"));
        assert!(a.len() == 5 && a.iter().zip(&b).all(|(a, b)| (a / b - 1.0).abs() < 1e-4), "{a:?} {b:?}");
    }
}

/// Parallel beams on one to four slabs: the same bits. Ranks that share a slab's angles, and cone beams: to rounding.
#[test]
fn ranks_do_not_change_the_image() {
    let scratch = scratch();
    let whole = parallel(24, 6, 20, "photons = 1e4", "algorithm = \"lsqr\"\niterations = 6\nweights = \"poisson\"");
    let alone = volume(&on(scratch.path(), "whole1", &whole, 1));
    for ranks in 2..=4 {
        let other = volume(&on(scratch.path(), &format!("whole{ranks}"), &whole, ranks));
        assert_same_bits(&alone, &other, &format!("{ranks} slabs"));
    }
    let low = parallel(24, 1, 20, "", "algorithm = \"lsqr\"\niterations = 6");
    let beams = cone(24, 40, 20, "algorithm = \"lsqr\"\niterations = 6");
    for (name, text) in [("low", &low), ("beams", &beams)] {
        let alone = volume(&on(scratch.path(), &format!("{name}1"), text, 1));
        for ranks in [2, 3, 6] {
            let difference =
                relative_difference(&alone, &volume(&on(scratch.path(), &format!("{name}{ranks}"), text, ranks)));
            assert!(difference < 2e-5, "{name} on {ranks}: {difference:e}");
        }
    }
}

/// Stopped on 2 ranks, resumed on 5 and finished on 3: the volume of a run that never stopped, in bits where no slice is shared.
#[test]
fn a_run_that_was_stopped_twice_ends_as_one_that_never_was() {
    let scratch = scratch();
    let lsqr = "algorithm = \"lsqr\"\niterations = 9";
    let tv = |algorithm: &str, weight: &str, n: usize| {
        format!(
            "algorithm = \"{algorithm}\"\niterations = {n}\nnon_negative = true\n[problem.method.variation]\nweight = {weight}"
        )
    };
    let few = "photons = 1e4";
    for (name, text, exact) in [
        ("parallel", parallel(24, 7, 20, "", lsqr), true),
        ("cone", cone(24, 40, 20, lsqr), false),
        ("fista", parallel(16, 7, 12, few, &tv("fista-tv", "1e-3", 9)), true),
        ("admm", parallel(16, 7, 12, few, &tv("admm-tv", "1e-3", 6)), true),
        ("pdhg", parallel(16, 7, 12, few, &tv("pdhg", "1e-3", 9)), true),
        ("search", parallel(16, 7, 12, few, &tv("admm-tv", "\"l-curve\"", 1)), true),
        ("cone-pdhg", cone(24, 40, 20, &tv("pdhg", "1e-3", 6)), false),
        ("cone-fista", cone(24, 40, 20, &tv("fista-tv", "1e-3", 6)), false),
    ] {
        let whole = on(scratch.path(), &format!("{name}-whole"), &text, 1);
        let parts = scratch.path().join(format!("{name}-parts"));
        let entry = convoke::registry::find("tomography").expect("registered");
        let go = |ranks: usize, source: Source, stop_after: Option<u64>| {
            let options = Options { verbosity: Verbosity::Quiet, threads: 1, stop_after, ..Options::default() };
            for outcome in run_threads(ranks, |comm| (entry.run)(&comm, &source, &options)) {
                let expected = if stop_after.is_some() { Exit::Stopped } else { Exit::Complete };
                assert_eq!(outcome.expect("no rank fails").exit, expected);
            }
        };
        let resume = || Source::Resume { dir: parts.clone(), from: From::Newest };
        let text = JobText { path: scratch.path().join("job.toml"), text };
        go(2, Source::New { text, dir: parts.clone() }, Some(2));
        go(5, resume(), Some(2));
        go(3, resume(), None);
        if exact {
            assert_same_bits(&volume(&whole), &volume(&parts), name);
        }
        let difference = relative_difference(&volume(&whole), &volume(&parts));
        assert!(difference < 2e-5, "{name}: {difference:e}");
        let (a, b) = (history(&whole, "residual"), history(&parts, "residual"));
        assert!(a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-5), "{name}: {a:?} {b:?}");
    }
}

/// Far fewer views than filtered back projection needs: the head's slices are flat, and total variation knows it. The three algorithms, and both
/// geometries, are far better than conjugate gradients at their best.
#[test]
fn total_variation_is_better_than_least_squares_from_few_views() {
    let scratch = scratch();
    for (beams, text) in [
        ("parallel", (&|method: &str| parallel(48, 2, 24, "", method)) as &dyn Fn(&str) -> String),
        ("cone", &|method: &str| cone(32, 16, 20, method)),
    ] {
        let psnr = |name: &str, method: &str| figure(&on(scratch.path(), name, &text(method), 1), "psnr_db");
        let least =
            [6, 10, 16].map(|n| psnr(&format!("{beams}{n}"), &format!("algorithm = \"lsqr\"\niterations = {n}")));
        let least = least.into_iter().fold(f64::MIN, f64::max);
        let (weight, gain) = if beams == "cone" { (3e-3, 2.0) } else { (1e-3, 3.0) };
        for (algorithm, n) in [("fista-tv", 60), ("admm-tv", 30), ("pdhg", 200)] {
            let variation = format!("non_negative = true\n[problem.method.variation]\nweight = {weight:?}");
            let method = format!("algorithm = \"{algorithm}\"\niterations = {n}\n{variation}");
            let db = psnr(&format!("{beams}-{algorithm}"), &method);
            assert!(db > least + gain, "{beams} {algorithm}: {db} dB, {least} dB by least squares");
        }
    }
}

fn variation(weight: &str, more: &str) -> String {
    format!(
        "algorithm = \"admm-tv\"\niterations = 15\nnon_negative = true\n{more}[problem.method.variation]\nweight = {weight}"
    )
}

/// Few photons: the weight that the discrepancy finds loses less than 1 dB against the best of weights that are a factor of two apart.
#[test]
fn the_discrepancy_finds_a_weight_near_the_best() {
    let scratch = scratch();
    let noisy = |method: &str| parallel(48, 3, 60, "photons = 1e3", method);
    let psnr = |name: &str, weight: &str| {
        let dir = on(scratch.path(), name, &noisy(&variation(weight, "")), 1);
        (figure(&dir, "psnr_db"), dir)
    };
    let all: Vec<f64> =
        (0..6).map(|k| psnr(&format!("given{k}"), &format!("{:?}", 5e-4 * f64::powi(2.0, k))).0).collect();
    let best = all.iter().copied().fold(f64::MIN, f64::max);
    assert!(best > all[0] + 0.5 && best > all[5] + 0.5, "the best is within the range: {all:?}");
    let (found, dir) = psnr("found", "\"discrepancy\"");
    let reader = Reader::open(dir.join("result.h5")).expect("a result");
    let residuals: Vec<f64> = reader.read("/result/search_residual").expect("a series");
    let last = residuals[residuals.len() - 1];
    assert!((last / figure(&dir, "noise_level") - 1.0).abs() < 0.01, "{residuals:?}");
    assert!(found > best - 1.0, "{found} dB found, {all:?} given");
    let (corner, dir) = psnr("corner", "\"l-curve\"");
    let weights: Vec<f64> =
        Reader::open(dir.join("result.h5")).expect("a result").read("/result/search_weight").expect("a series");
    assert_eq!(weights.len(), 10);
    assert!(corner > best - 3.0, "{corner} dB at the corner, {all:?} given");
}

/// Very few photons: rays differ in their noise, and weights that know it give more at the best variation of each.
#[test]
fn weights_of_photon_noise_help() {
    let scratch = scratch();
    let noisy = |method: &str| parallel(48, 2, 60, "photons = 30.0\nattenuation_per_voxel = 0.1", method);
    let best = |name: &str, more: &str| {
        let psnr = |k: i32| {
            let weight = format!("{:?}", 2e-3 * f64::powi(1.4, k));
            figure(&on(scratch.path(), &format!("{name}{k}"), &noisy(&variation(&weight, more)), 1), "psnr_db")
        };
        (0..6).map(psnr).fold(f64::MIN, f64::max)
    };
    let (plain, weighted) = (best("plain", ""), best("weighted", "weights = \"poisson\"\n"));
    assert!(weighted > plain + 0.3, "{weighted} dB with weights, {plain} dB without");
}

/// What makes no sense is refused before anything is computed, with its key.
#[test]
fn bad_values_are_named() {
    let scratch = scratch();
    let tv = |algorithm: &str, more: &str| format!("algorithm = \"{algorithm}\"\n[problem.method.variation]\n{more}");
    for (method, expected) in [
        (
            "algorithm = \"fista-tv\"".to_owned(),
            "problem.method: algorithm \"fista-tv\" needs [problem.method.variation]\n  help: [problem.method.variation] has at least its weight",
        ),
        (tv("sirt", "weight = 1e-3"), "problem.method.variation: algorithm \"sirt\" has no such key"),
        (tv("fista-tv", "weight = -1"), "problem.method.variation.weight = -1: expected 0 to 1000000"),
        (tv("fista-tv", "weight = \"best\""), "expected a number, \"discrepancy\" or \"l-curve\""),
        (tv("fista-tv", "kind = \"isotropic\""), "missing field `weight`"),
        (tv("fista-tv", "weight = 1e-3\npenalty = 1e-2"), "problem.method.variation.penalty"),
        (tv("pdhg", "weight = 1e-3\ninner = 4"), "problem.method.variation.inner"),
        (tv("admm-tv", "weight = 1e-3\ninner = 0"), "problem.method.variation.inner = 0: expected 1 to 1000"),
        (tv("admm-tv", "weight = 1e-3\nalong = \"y\""), "unknown variant `y`, expected `xyz` or `z`"),
        (tv("admm-tv", "weight = \"discrepancy\""), "\"discrepancy\" needs to know the noise"),
        ("algorithm = \"lsqr\"\nnon_negative = true".to_owned(), "problem.method.non_negative"),
        ("algorithm = \"cgls\"\nweights = \"poisson\"".to_owned(), "problem.method.weights"),
        ("algorithm = \"lsqr\"\nweights = \"gauss\"".to_owned(), "unknown variant `gauss`, expected `poisson`"),
        ("algorithm = \"lsqr\"\nreadout_counts = 5.0".to_owned(), "problem.method.readout_counts: goes with weights"),
        (
            "algorithm = \"lsqr\"\nweights = \"poisson\"\nreadout_counts = 5.0".to_owned(),
            "problem.method.readout_counts: says nothing as long as the number of photons is unknown",
        ),
        (
            "algorithm = \"lsqr\"\nweights = \"poisson\"\nreadout_counts = -1.0".to_owned(),
            "problem.method.readout_counts = -1: expected 0 to 1000000000",
        ),
    ] {
        let spec = common::job(scratch.path(), "job.toml", &parallel(8, 2, 4, "", &method));
        let out = common::below(scratch.path(), "run");
        let (code, _, said) = common::told(&common::run(&["run", &spec, "--dir", &out, "-q"]));
        let said = said.replace(&format!("{}/", scratch.path().display()), "");
        assert_eq!(code, 2, "{method}: {said}");
        assert!(said.contains(expected), "{method}: said {said}, expected {expected}");
        assert!(!Path::new(&out).exists(), "nothing is written");
    }
}
