//! Priors of slices in tomography, through the program's front door.

mod common;

use std::path::Path;

use common::{below, figure, job, relative_difference, run, run_on_threads, scratch, told, volume};
use convoke::registry::REGISTRY;
use convoke_cluster::JobText;
use convoke_data::store::Reader;

fn tiny() -> String {
    let entry = REGISTRY.iter().find(|entry| entry.name == "tomography").expect("it is registered");
    let (_, text) = entry.jobs.iter().find(|(name, _)| *name == "heads-few-views-tiny").expect("a job");
    (*text).to_owned()
}

fn ran(scratch: &Path, name: &str, text: &str) -> std::path::PathBuf {
    let (spec, dir) = (job(scratch, &format!("{name}.toml"), text), below(scratch, name));
    let (code, _, err) = told(&run(&["run", &spec, "--dir", &dir, "-q"]));
    assert_eq!(code, 0, "{name}: {err}");
    dir.into()
}

/// One slice of 64 x 64 voxels from eight views: the prior is some decibels better than least squares, whose best of three numbers of iterations
/// is taken.
#[test]
fn a_prior_beats_least_squares_from_eight_views() {
    let scratch = scratch();
    let text =
        tiny().replace("size = 16", "size = 64").replace("rows = 5", "rows = 1").replace("angles = 6", "angles = 8");
    let text = text.replace("parts = 4", "parts = 8");
    let least = |iterations: usize| {
        let method = format!("algorithm = \"lsqr\"\niterations = {iterations}\n");
        let text = text[..text.find("algorithm").expect("a method")].to_owned() + &method;
        figure(&ran(scratch.path(), &format!("lsqr{iterations}"), &text), "psnr_db")
    };
    let best = [10, 20, 40].map(least).into_iter().fold(0.0, f64::max);
    let text = text.replace("steps = 3\nsamples = 2", "steps = 20");
    let found = figure(&ran(scratch.path(), "dds", &text), "psnr_db");
    assert!(found > best + 3.0, "{found} of {best}");
}

/// Samples differ, and the bands and the deviation that are written are about their mean; sampling twice gives the same bits.
#[test]
fn posteriors_are_written() {
    let scratch = scratch();
    let dirs = ["one", "two"].map(|name| ran(scratch.path(), name, &tiny()));
    let read = |dir: &Path, name: &str| -> Vec<f32> {
        Reader::open(dir.join("result.h5")).expect("a result").read(&format!("/result/{name}")).expect(name)
    };
    for name in ["volume", "deviation", "low", "high"] {
        assert!(read(&dirs[0], name) == read(&dirs[1], name), "{name}");
    }
    let [mean, deviation, low, high] = ["volume", "deviation", "low", "high"].map(|name| read(&dirs[0], name));
    assert!(deviation.iter().all(|v| *v >= 0.0) && deviation.iter().any(|v| *v > 1e-3));
    for i in 0..mean.len() {
        // Of two samples a and b: mean ± 0.45 |a − b|, and |a − b| = √2 deviations.
        let half = 0.45 * std::f32::consts::SQRT_2 * deviation[i];
        assert!((low[i] - (mean[i] - half)).abs() < 1e-4 && (high[i] - (mean[i] + half)).abs() < 1e-4, "{i}");
    }
}

/// Every algorithm with a prior runs with parallel beams and with a cone.
#[test]
fn all_priors_know_both_kinds_of_beams() {
    let scratch = scratch();
    let cone = "[problem.geometry]\nkind = \"circular\"\nsource_to_axis_mm = 64.0\nsource_to_detector_mm = 96.0\npixel_mm = 1.5\n\
                [problem.method]";
    for algorithm in ["dds", "diffusion-mbir", "red-diff"] {
        for beams in ["[problem.method]", cone] {
            let text = tiny()
                .replace("\"dds\"", &format!("{algorithm:?}"))
                .replace("[problem.method]\n", &format!("{beams}\n"));
            let text = if algorithm == "red-diff" { text.replace("samples = 2\n", "") } else { text };
            // Steps without a data step of their own on the clean estimate need more of them.
            let text = if algorithm == "dds" { text } else { text.replace("steps = 3", "steps = 60") };
            let name = format!("{algorithm}{}", beams.len());
            let dir = ran(scratch.path(), &name, &text);
            assert!(volume(&dir).iter().all(|v| v.is_finite()));
            assert!(figure(&dir, "psnr_db") > 5.0, "{name}: {}", figure(&dir, "psnr_db"));
        }
    }
}

/// The same bits on any number of ranks that have slices of their own, and no more bytes sent than planned.
#[test]
fn volumes_do_not_depend_on_the_ranks() {
    let scratch = scratch();
    let cone = "[problem.geometry]\nkind = \"circular\"\nsource_to_axis_mm = 64.0\nsource_to_detector_mm = 96.0\npixel_mm = 1.5\n\
                [problem.method]\n";
    let tuned = tiny().replace("steps = 3\n", "steps = 2\nlambda = \"sure\"\n");
    for (name, text) in [
        ("parallel", tiny()),
        ("cone", tiny().replace("[problem.method]\n", cone)),
        ("tuned", tuned),
        ("views", next_views()),
    ] {
        let counts: &[usize] = if ["tuned", "views"].contains(&name) { &[1, 3] } else { &[1, 2, 3, 5] };
        let volumes: Vec<Vec<f32>> = counts
            .iter()
            .map(|ranks| {
                let ranks = *ranks;
                let dir = scratch.path().join(format!("{name}{ranks}"));
                let job = JobText { path: scratch.path().join("job.toml"), text: text.clone() };
                for outcome in run_on_threads("tomography", job, ranks, &dir) {
                    let outcome = outcome.expect("it runs");
                    let (sent, planned) = (outcome.traffic.bytes, outcome.plan.bytes_sent_per_rank);
                    assert!(sent <= planned, "{name}: {sent} bytes sent by one of {ranks}, {planned} planned");
                }
                volume(&dir)
            })
            .collect();
        for (k, other) in volumes.iter().enumerate() {
            let same =
                if name != "cone" { *other == volumes[0] } else { relative_difference(&volumes[0], other) < 2e-5 };
            assert!(same, "{name} {k}: {:e}", relative_difference(&volumes[0], other));
        }
    }
}

/// Where a wedge of angles is missing `dds` has other defaults, for both kinds of beams: the same volume as with these values given, and `check` names
/// those that it takes.
#[test]
fn a_missing_wedge_has_its_own_defaults() {
    let scratch = scratch();
    let wedge = tiny().replace("angles = 6", "angles = 12\narc_degrees = 90.0");
    let keys = ["iterations = 20", "lambda = 3e-5", "rho = 1e-3"];
    let given = |keys: &[&str]| wedge.replace("steps = 3\n", &format!("steps = 3\n{}\n", keys.join("\n")));
    let same = volume(&ran(scratch.path(), "given", &given(&keys)));
    assert!(volume(&ran(scratch.path(), "absent", &wedge)) == same);
    assert!(volume(&ran(scratch.path(), "other", &given(&["rho = 1e-2"]))) != same);
    let cone = "[problem.geometry]\nkind = \"circular\"\nsource_to_axis_mm = 64.0\nsource_to_detector_mm = 96.0\npixel_mm = 1.5\n\
                [problem.method]";
    for (name, text, noted) in [
        ("wedge", wedge.clone(), "iterations = 20, lambda = 3e-5, rho = 1e-3"),
        ("some", given(&keys[..2]), ": rho = 1e-3 are taken"),
        ("none", given(&keys), ""),
        ("cone", wedge.replace("[problem.method]", cone), "iterations = 20, lambda = 3e-5, rho = 1e-3"),
        ("whole", tiny(), ""),
    ] {
        let (code, out, err) = told(&run(&["check", &job(scratch.path(), &format!("{name}.toml"), &text)]));
        assert_eq!(code, 0, "{name}: {err}");
        assert_eq!(out.contains("are taken"), !noted.is_empty(), "{name}: {out}");
        assert!(out.contains(noted), "{name}: {out}");
    }
}

/// A weight that the data choose: what was tried and what came of it is in the result, and the volume is that of the chosen weight given.
#[test]
fn a_weight_is_chosen_by_the_data() {
    let scratch = scratch();
    let text = tiny().replace("steps = 3\n", "steps = 3\nlambda = \"sure\"\n");
    let dir = ran(scratch.path(), "sure", &text);
    let series = |name: &str| -> Vec<f64> {
        Reader::open(dir.join("result.h5")).expect("a result").read(&format!("/result/{name}")).expect(name)
    };
    let (lambdas, risks) = (series("tuning_lambda"), series("tuning_risk"));
    assert!(lambdas.len() == risks.len() && (2..=6).contains(&lambdas.len()), "{lambdas:?}");
    let chosen = figure(&dir, "lambda");
    let least = (0..risks.len()).min_by(|a, b| risks[*a].total_cmp(&risks[*b])).expect("weights");
    assert!((chosen / lambdas[least]).ln().abs() <= 0.5 * 3f64.ln() + 1e-9, "{chosen} of {lambdas:?}, {risks:?}");
    let given = tiny().replace("steps = 3\n", &format!("steps = 3\nlambda = {chosen:e}\n"));
    assert!(volume(&ran(scratch.path(), "given", &given)) == volume(&dir));
}

fn next_views() -> String {
    tiny().replace("angles = 6", "angles = 10").replace("steps = 3", "steps = 10")
        + "[problem.method.views]\nfirst = 2\nbudget = 5\n"
}

/// Views are chosen on the way, none twice, each the best of its row of scores; others than random ones; the volume is as good as without a choice,
/// and those of a scan judge others.
#[test]
fn views_are_chosen_and_judged() {
    let scratch = scratch();
    let read = |dir: &Path, name: &str| -> Vec<f64> {
        Reader::open(dir.join("result.h5")).expect("a result").read(&format!("/result/{name}")).expect(name)
    };
    let dir = ran(scratch.path(), "chosen", &next_views());
    let (views, candidates, scores) = (read(&dir, "views"), read(&dir, "candidates"), read(&dir, "view_scores"));
    assert_eq!((views.len(), candidates.len(), scores.len()), (5, 10, 30));
    assert!(views[0] == 0.0 && (views[1] - 90.0).abs() < 1e-9, "{views:?}");
    for (k, row) in scores.chunks(10).enumerate() {
        let at = |view: f64| candidates.iter().position(|c| *c == view).expect("one of them");
        assert!(views[..2 + k].iter().all(|view| row[at(*view)].is_nan()), "{row:?}");
        let best = row.iter().copied().fold(f64::MIN, f64::max);
        assert_eq!(row[at(views[2 + k])], best);
        assert_eq!(row.iter().filter(|score| score.is_nan()).count(), 2 + k);
    }
    assert!(figure(&dir, "psnr_db") > 5.0);
    let random = ran(scratch.path(), "random", &(next_views() + "by = \"random\"\n"));
    assert!(read(&random, "view_scores") != scores);
    // Between two views that are measured nothing is as unknown as in the middle of a wedge.
    let wedge = tiny().replace("angles = 6", "angles = 6\narc_degrees = 60.0").replace("samples = 2", "samples = 6")
        + "[problem.method.views]\ncandidates_degrees = [25.0, 115.0]\n";
    let dir = ran(scratch.path(), "judged", &wedge.replace("steps = 3", "steps = 12"));
    assert_eq!((read(&dir, "views").len(), read(&dir, "candidates")), (6, vec![25.0, 115.0]));
    assert_eq!(figure(&dir, "next_view"), 115.0);
    assert!(read(&dir, "view_scores")[1] > read(&dir, "view_scores")[0]);
}

/// What cannot be is refused by key.
#[test]
fn bad_values_are_refused() {
    let scratch = scratch();
    let text = tiny();
    for (from, to, key) in [
        ("size = 16", "size = 20", "problem.method.diffusion.denoiser"),
        ("steps = 3", "steps = 3\neta = 2.0", "problem.method.diffusion.eta"),
        ("steps = 3", "steps = 3\nweight = 2.0", "problem.method.diffusion.weight"),
        ("steps = 3", "steps = 3\ndenoiser = \"hearts\"", "problem.method.diffusion.denoiser"),
        ("steps = 3", "steps = 3\nscale = 0.01", "problem.method.diffusion.scale"),
        ("noise = 0.1", "iterations = 3", "problem.method.iterations"),
        ("\"dds\"", "\"sirt\"", "problem.method.diffusion"),
        ("steps = 3", "steps = 3\nlambda = \"discrepancy\"", "expected a number or \"sure\""),
        (
            "noise = 0.1\n\n[problem.method.diffusion]",
            "[problem.method.diffusion]\nlambda = \"sure\"",
            "problem.method.diffusion.lambda",
        ),
        ("steps = 3", "steps = 3\nlambda = \"sure\"\nrho = 0.0", "problem.method.diffusion.lambda"),
        ("samples = 2", "[problem.method.views]\nfirst = 2\nbudget = 3", "problem.method.diffusion.samples"),
        ("samples = 2", "samples = 2\n[problem.method.views]\nfirst = 2\nbudget = 9", "problem.method.views.budget"),
        ("samples = 2", "samples = 2\n[problem.method.views]\nfirst = 2\nbudget = 4", "problem.method.views.window"),
        ("samples = 2", "samples = 2\n[problem.method.views]\nbudget = 4", "problem.method.views"),
        (
            "samples = 2",
            "samples = 2\n[problem.method.views]\nbudget = 4\ncandidates_degrees = [1.0]",
            "problem.method.views.budget",
        ),
        (
            "samples = 2",
            "samples = 2\n[problem.method.views]\ncandidates_degrees = []",
            "problem.method.views.candidates",
        ),
    ] {
        let spec = job(scratch.path(), "bad.toml", &text.replace(from, to));
        let dir = below(scratch.path(), "bad");
        let (code, _, err) = told(&run(&["run", &spec, "--dir", &dir, "-q"]));
        assert!(code != 0 && err.contains(key), "{to}: {code} {err}");
        assert!(!Path::new(&dir).exists(), "{to}: refused too late");
    }
}
