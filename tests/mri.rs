//! mri through the program's front door: files and objects, priors, and what is refused.

mod common;

use std::path::Path;

use common::{below, figure, job, relative_difference, run, run_on_threads, scratch, told, write_arrays};
use convoke::mri::operator::Centred;
use convoke::registry::REGISTRY;
use convoke_cluster::JobText;
use convoke_data::store::Reader;
use num_complex::Complex32;

fn shipped(name: &str) -> String {
    let entry = REGISTRY.iter().find(|entry| entry.name == "mri").expect("it is registered");
    let (_, text) = entry.jobs.iter().find(|(other, _)| *other == name).expect("a job");
    (*text).to_owned()
}

fn volume(dir: &Path, name: &str) -> Vec<f32> {
    Reader::open(dir.join("result.h5")).expect("a result").read(&format!("/result/{name}")).expect(name)
}

fn ran(scratch: &Path, name: &str, text: &str) -> std::path::PathBuf {
    let (spec, dir) = (job(scratch, &format!("{name}.toml"), text), below(scratch, name));
    let (code, _, err) = told(&run(&["run", &spec, "--dir", &dir, "-q"]));
    assert_eq!(code, 0, "{err}");
    dir.into()
}

/// With all lines and without noise the image is the object, whatever the coils: to single precision.
#[test]
fn all_lines_give_the_object() {
    let scratch = scratch();
    let text =
        shipped("zero-filled").replace("size = 128", "size = 48").replace("acceleration = 3.0", "acceleration = 1.0");
    for coils in [1, 3] {
        let text = text.replace("slices = 8", &format!("slices = 4\ncoils = {coils}"));
        let dir = ran(scratch.path(), &format!("coils{coils}"), &text);
        assert!(figure(&dir, "psnr_db") > 110.0, "{}", figure(&dir, "psnr_db"));
    }
}

/// k-space in a file gives the image that the same k-space gave as an object, with the lines of a mask; and more lines give a better one.
#[test]
fn files_are_what_they_say() {
    let scratch = scratch();
    let n = 32;
    let text = shipped("zero-filled").replace("size = 128", "size = 32").replace("slices = 8", "slices = 2");
    let known = ran(scratch.path(), "known", &text);
    let object = ran(scratch.path(), "object", &text.replace("acceleration = 3.0", "acceleration = 1.0"));
    assert!(figure(&object, "psnr_db") > figure(&known, "psnr_db") + 20.0);
    let image = volume(&object, "volume");
    let transform = Centred::new([n, n]);
    let mut kspace = Vec::new();
    for slice in image.chunks(n * n) {
        let mut values: Vec<Complex32> = slice.iter().map(|v| Complex32::new(*v, 0.0)).collect();
        transform.apply(&mut values, false);
        kspace.extend(values.into_iter().flat_map(|v| [v.re, v.im]));
    }
    let lines = volume(&known, "lines");
    let mask: Vec<f32> = (0..n).map(|k| f32::from(u8::from(lines.contains(&(k as f32))))).collect();
    let wide = |values: &[f32]| -> Vec<f64> { values.iter().map(|v| f64::from(*v)).collect() };
    let (kspace, mask) = (wide(&kspace), wide(&mask));
    let mut broken = kspace.clone();
    broken[7] = f64::NAN;
    let shape = [2, n, n, 2];
    let arrays: [(&str, &[usize], &[f64]); 3] =
        [("/kspace", &shape, &kspace), ("/mask", &[n], &mask), ("/broken", &shape, &broken)];
    write_arrays(&scratch.path().join("scan.h5"), &arrays);
    let scan = "schema = 1\nname = \"scan\"\nworkload = \"mri\"\nseed = 1\n[problem.scan]\nfile = \"scan.h5\"\nmask = \"/mask\"\n\
                [problem.method]\nalgorithm = \"zero-filled\"\n";
    let found = volume(&ran(scratch.path(), "scan", scan), "volume");
    let far = found.iter().zip(volume(&known, "volume")).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(far < 1e-5, "{far}");
    for (from, to, words) in [
        ("mask = \"/mask\"", "mask = \"/kspace\"", "problem.scan.mask"),
        ("mask = \"/mask\"", "kspace = \"/mask\"", "problem.scan.kspace"),
        ("mask = \"/mask\"", "maps = \"/kspace\"", "problem.scan.maps"),
        ("mask = \"/mask\"", "kspace = \"/broken\"", "not finite, the first in slice 0"),
        ("scan.h5", "no.h5", "problem.scan.file"),
    ] {
        let spec = job(scratch.path(), "bad.toml", &scan.replace(from, to));
        let (code, _, err) = told(&run(&["run", &spec, "--dir", &below(scratch.path(), "bad"), "-q"]));
        assert!(code != 0 && err.contains(words), "{to}: {code} {err}");
    }
}

/// The same bits on any number of ranks, and no more bytes sent than planned; total variation to rounding.
#[test]
fn images_do_not_depend_on_the_ranks() {
    let scratch = scratch();
    let prior = shipped("heads-coils-tiny");
    let section = prior.find("[problem.method.diffusion]").expect("a section");
    let variation = prior[..section].replace("\"dds\"", "\"admm-tv\"\niterations = 10")
        + "[problem.method.variation]\nweight = 1e-3\n";
    for (name, text) in [("prior", prior.clone()), ("variation", variation)] {
        let volumes = [1, 2, 3, 5].map(|ranks| {
            let dir = scratch.path().join(format!("{name}{ranks}"));
            let job = JobText { path: scratch.path().join("job.toml"), text: text.clone() };
            for outcome in run_on_threads("mri", job, ranks, &dir) {
                let outcome = outcome.expect("it runs");
                let (sent, planned) = (outcome.traffic.bytes, outcome.plan.bytes_sent_per_rank);
                assert!(sent <= planned, "{name}: {sent} bytes sent by one of {ranks}, {planned} planned");
            }
            volume(&dir, "volume")
        });
        for other in &volumes {
            let far = relative_difference(&volumes[0], other);
            assert!(if name == "prior" { *other == volumes[0] } else { far < 2e-5 }, "{name}: {far:e}");
        }
    }
}

/// What cannot be is refused by key, before anything is computed.
#[test]
fn bad_values_are_refused() {
    let scratch = scratch();
    let text = shipped("heads-coils-tiny");
    let noise = scratch.path().join("noise.safetensors");
    std::fs::write(&noise, b"12345678901234567890").expect("a file");
    for (from, to, key) in [
        ("coils = 4", "coils = 0", "problem.phantom.coils"),
        ("acceleration = 2.0", "acceleration = 0.5", "problem.sampling.acceleration"),
        ("size = 16", "size = 18", "problem.method.diffusion.denoiser"),
        ("steps = 3", "steps = 0", "problem.method.diffusion.steps"),
        ("steps = 3", "rate = 0.1", "problem.method.diffusion.rate"),
        ("steps = 3", "snr = 0.1", "problem.method.diffusion.snr"),
        ("steps = 3", "sigma = [2.0, 1.0]", "problem.method.diffusion.sigma"),
        ("samples = 2", "samples = 1000", "problem.method.diffusion.samples"),
        ("steps = 3", "denoiser = \"no.safetensors\"", "problem.method.diffusion.denoiser"),
        ("steps = 3", "denoiser = \"noise.safetensors\"", "problem.method.diffusion.denoiser"),
        ("steps = 3", "scale = 0.0", "problem.method.diffusion.scale"),
        ("steps = 3", "scale = 0.01", "problem.method.diffusion.scale"),
        ("algorithm = \"dds\"", "algorithm = \"zero-filled\"", "problem.method.diffusion"),
    ] {
        let spec = job(scratch.path(), "bad.toml", &text.replace(from, to));
        let dir = below(scratch.path(), to.split(' ').next().unwrap_or("bad"));
        let (code, _, err) = told(&run(&["run", &spec, "--dir", &dir, "-q"]));
        assert!(code != 0 && err.contains(key), "{to}: {code} {err}");
    }
}
