//! denoiser through the program's front door: it learns, on any ranks the same, and gives its weights away.

mod common;

use std::path::Path;

use common::{below, doubles, figure, job, run, run_on_threads, scratch, told};
use convoke::prior::Denoiser;
use convoke::prior::edm::Edm;
use convoke::prior::weights;
use convoke::registry::REGISTRY;
use convoke_cluster::JobText;
use convoke_data::store::Reader;

fn tiny() -> String {
    let entry = REGISTRY.iter().find(|entry| entry.name == "denoiser").expect("it is registered");
    let (_, text) = entry.jobs.iter().find(|(name, _)| *name == "heads-tiny").expect("a job");
    (*text).to_owned()
}

/// The weights of the run are those of the file, they denoise as the run says, and better than doing nothing or expecting the mean.
#[test]
fn what_was_learnt_denoises_and_is_given_away() {
    let scratch = scratch();
    let text = tiny().replace("precision = \"double\"", "precision = \"single\"").replace("steps = 60", "steps = 400");
    let (spec, dir) = (job(scratch.path(), "tiny.toml", &text), below(scratch.path(), "run"));
    let (code, _, err) = told(&run(&["run", &spec, "--dir", &dir, "-q"]));
    assert_eq!(code, 0, "{err}");
    let dir = Path::new(&dir);
    let [error, sigma] = ["error", "sigma"].map(|name| doubles(dir, name));
    let deviation = figure(dir, "image_deviation");
    for (error, sigma) in error.iter().zip(&sigma) {
        // The best that is linear in each point alone.
        let pointwise = (sigma.powi(-2) + deviation.powi(-2)).sqrt().recip();
        // Of a little noise a network of some thousand parameters takes only a little away.
        let most = if *sigma < 0.1 { 1.0 } else { 0.9 };
        assert!(*error < most * pointwise, "{error} at {sigma}, {pointwise} without knowing anything of images");
    }
    let file = scratch.path().join("tiny.safetensors");
    let (code, out, err) = told(&run(&["weights", dir.to_str().unwrap(), file.to_str().unwrap()]));
    assert!(code == 0 && out.contains("a denoiser of"), "{out} {err}");
    let of = |path: &Path| -> Edm<f32> { weights::read(path, "operator").expect("a denoiser") };
    let (from_run, from_file) = (of(dir), of(&file));
    assert_eq!((&from_run.card, &from_run.parameters), (&from_file.card, &from_file.parameters));
    let reader = Reader::open(dir.join("result.h5")).expect("a result");
    let [noisy, denoised]: [Vec<f32>; 2] =
        ["noisy", "denoised"].map(|name| reader.read(&format!("/result/{name}")).expect(name));
    let size = noisy.len() / sigma.len();
    for (k, sigma) in sigma.iter().enumerate() {
        let found = from_file.denoise(&noisy[k * size..(k + 1) * size], [16, 16], *sigma).expect("no device");
        let far = found.iter().zip(&denoised[k * size..]).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(far < 1e-5, "{far:e} at {sigma}");
    }
    // What cannot be is refused by name.
    let (code, _, err) = told(&run(&["weights", dir.to_str().unwrap(), file.to_str().unwrap()]));
    assert!(code == 2 && err.contains("--replace"), "{code} {err}");
    for (from, to, key) in [
        ("points = 16", "points = 18", "problem.points"),
        ("groups = 2", "groups = 3", "problem.network.groups"),
        ("embedding = 8", "embedding = 7", "problem.network.embedding"),
        ("steps = 400", "steps = 0", "problem.training.steps"),
        ("channels = [4, 8]", "channels = []", "problem.network.channels"),
    ] {
        let spec = job(scratch.path(), "bad.toml", &text.replace(from, to));
        let (code, _, err) = told(&run(&["run", &spec, "--dir", &below(scratch.path(), "bad"), "-q"]));
        assert!(code == 2 && err.contains(key), "{from}: {code} {err}");
    }
}

/// Equal to 1e-10 on one to three ranks in double precision, and no more bytes are sent than planned.
#[test]
fn weights_do_not_depend_on_the_ranks() {
    let scratch = scratch();
    let dirs = [1, 2, 3].map(|ranks| {
        let dir = scratch.path().join(format!("on{ranks}"));
        let job = JobText { path: scratch.path().join("job.toml"), text: tiny() };
        for outcome in run_on_threads("denoiser", job, ranks, &dir) {
            let outcome = outcome.expect("it runs");
            let (sent, planned) = (outcome.traffic.bytes, outcome.plan.bytes_sent_per_rank);
            assert!(sent <= planned, "{sent} bytes sent by one of {ranks}, {planned} planned");
        }
        dir
    });
    for name in ["weights/last.weight", "weights/down.1.0.film.weight", "denoised"] {
        let one = doubles(&dirs[0], name);
        for dir in &dirs[1..] {
            let far = one.iter().zip(doubles(dir, name)).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(far < 1e-10, "{name}: {far:e}");
        }
    }
}
