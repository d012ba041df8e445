//! Samples of solutions as jobs: what does not change them, and what ends them.

mod common;

use std::path::Path;

use common::{assert_same_bits, below, convoke, doubles, job, run, scratch, told};
use convoke_data::store::Reader;

fn text(batch: usize, more: &str) -> String {
    format!(
        "schema = 1\nname = \"flow\"\nworkload = \"pde-data\"\nseed = 4\n[problem]\nequation = \"navier-stokes\"\nsamples = \
         5\nbatch = {batch}\n[problem.grid]\npoints = 32\nlength = \"2*pi\"\n[problem.time]\nstep = 0.01\nstart = 0.05\nevery = \
         0.1\nsnapshots = 3\n{more}[problem.flow]\nviscosity = 1e-3\n[problem.initial]\nkind = \"mcwilliams\"\n"
    )
}

fn vorticity(dir: &str) -> Vec<f32> {
    Reader::open(Path::new(dir).join("result.h5")).expect("a result").read("/result/vorticity").expect("an array")
}

/// Batches are a matter of memory, and so are threads and the number of samples.
#[test]
fn samples_do_not_depend_on_what_is_computed_beside_them() {
    let scratch = scratch();
    let run_as = |name: &str, text: &str, words: &[&str]| {
        let (spec, dir) = (job(scratch.path(), &format!("{name}.toml"), text), below(scratch.path(), name));
        let words = [&["run", &spec, "--dir", &dir, "-q"], words].concat();
        let (code, _, err) = told(&run(&words));
        assert_eq!(code, 0, "{err}");
        dir
    };
    let all = run_as("all", &text(64, ""), &["--threads", "1"]);
    let expected = vorticity(&all);
    assert_eq!(expected.len(), 5 * 3 * 32 * 32);
    for (name, batch, threads) in [("twos", 2, "2"), ("ones", 1, "3")] {
        let dir = run_as(name, &text(batch, ""), &["--threads", threads]);
        assert_same_bits(&expected, &vorticity(&dir), name);
        for figure in ["energy", "enstrophy", "speed", "energy_spectrum"] {
            let (a, b) = (doubles(all.as_ref(), figure), doubles(dir.as_ref(), figure));
            let off = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            // Sums over samples are taken batch by batch.
            assert!(a.len() == b.len() && off < 1e-14, "{figure}: {off:e}");
        }
    }
    let two = run_as("two", &text(64, "").replace("samples = 5", "samples = 2"), &[]);
    assert_same_bits(&expected[..2 * 3 * 32 * 32], &vorticity(&two), "the first two of them");
}

/// Killed between batches and within one, and begun again each time.
#[test]
fn a_killed_set_goes_on_to_the_same_samples() {
    let scratch = scratch();
    let spec = job(scratch.path(), "job.toml", &(text(2, "") + "[checkpoint]\nevery_steps = 1\n"));
    let (whole, parts) = (below(scratch.path(), "whole"), below(scratch.path(), "parts"));
    assert_eq!(told(&run(&["run", &spec, "--dir", &whole, "-q"])).0, 0);
    let mut words = vec!["run", &spec, "--dir", &parts, "-q"];
    for nth in [2, 3] {
        let fault = format!("kill@step:nth={nth}");
        let ended = convoke().args(&words).env("CONVOKE_FAULT", fault).output().expect("the program starts");
        assert_ne!(ended.status.code(), Some(0));
        words = vec!["resume", &parts, "-q"];
    }
    let (code, _, err) = told(&run(&words));
    assert_eq!(code, 0, "{err}");
    assert_same_bits(&vorticity(&whole), &vorticity(&parts), "the samples");
}

#[test]
fn a_flow_that_blows_up_is_named_with_what_to_do() {
    let scratch = scratch();
    let wild = text(64, "").replace("step = 0.01", "step = 5.0").replace("start = 0.05", "start = 0.0");
    let spec = job(scratch.path(), "job.toml", &wild.replace("every = 0.1", "every = 500.0"));
    let (code, _, err) = told(&run(&["run", &spec, "--dir", &below(scratch.path(), "run"), "-q"]));
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("is no longer finite at t = 500") && err.contains("lower problem.time.step"), "{err}");
    // A function that the grid does not hold: before anything is computed.
    let fine = text(64, "").replace("viscosity = 1e-3", "viscosity = 1e-3\nforcing = \"cos(11*y)\"");
    let spec = job(scratch.path(), "fine.toml", &fine);
    let (code, _, err) = told(&run(&["run", &spec, "--dir", &below(scratch.path(), "fine"), "-q"]));
    assert!(
        code == 2 && err.contains("waves beyond mode 10") && err.contains("raise problem.grid.points"),
        "{code} {err}"
    );
}
