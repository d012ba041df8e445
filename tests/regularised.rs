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
    let method = "algorithm = \"lsqr\"\niterations = 9";
    for (name, text, exact) in
        [("parallel", parallel(24, 7, 20, "", method), true), ("cone", cone(24, 40, 20, method), false)]
    {
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
    let variation = "non_negative = true\n[problem.method.variation]\nweight = 3e-5";
    for (beams, text) in [
        ("parallel", (&|method: &str| parallel(48, 2, 24, "", method)) as &dyn Fn(&str) -> String),
        ("cone", &|method: &str| cone(32, 16, 20, method)),
    ] {
        let psnr = |name: &str, method: &str| figure(&on(scratch.path(), name, &text(method), 1), "psnr_db");
        let least =
            [6, 10, 16].map(|n| psnr(&format!("{beams}{n}"), &format!("algorithm = \"lsqr\"\niterations = {n}")));
        let least = least.into_iter().fold(f64::MIN, f64::max);
        for (algorithm, n) in [("fista-tv", 60), ("admm-tv", 30), ("pdhg", 200)] {
            let method = format!("algorithm = \"{algorithm}\"\niterations = {n}\n{variation}");
            let db = psnr(&format!("{beams}-{algorithm}"), &method);
            println!("{beams} {algorithm} {db} {least}");
            assert!(db > least + 3.0, "{beams} {algorithm}: {db} dB, {least} dB by least squares");
        }
    }
}
