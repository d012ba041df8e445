//! Samples of solutions as jobs: what does not change them, and what ends them.

mod common;

use std::path::Path;

use common::{assert_same_bits, below, convoke, doubles, job, run, run_on_threads, scratch, told};
use convoke_cluster::JobText;
use convoke_data::store::Reader;

fn text(batch: usize, more: &str) -> String {
    format!(
        "schema = 1\nname = \"flow\"\nworkload = \"pde-data\"\nseed = 4\n[problem]\nequation = \"navier-stokes\"\nsamples = \
         5\nbatch = {batch}\n[problem.grid]\npoints = 32\nlength = \"2*pi\"\n[problem.time]\nstep = 0.01\nstart = 0.05\nevery = \
         0.1\nsnapshots = 3\n{more}[problem.flow]\nviscosity = 1e-3\n[problem.initial]\nkind = \"mcwilliams\"\n"
    )
}

fn burgers(batch: usize) -> String {
    format!(
        "schema = 1\nname = \"line\"\nworkload = \"pde-data\"\nseed = 4\n[problem]\nequation = \"burgers\"\nsamples = 5\nbatch = \
         {batch}\n[problem.grid]\npoints = 64\nlength = 1.0\n[problem.time]\nstep = 0.01\nevery = 0.1\nsnapshots = \
         3\n[problem.flow]\nviscosity = 0.1\n[problem.initial]\nkind = \"gaussian\"\n[problem.output]\npoints = 16\n"
    )
}

fn darcy(batch: usize) -> String {
    format!(
        "schema = 1\nname = \"medium\"\nworkload = \"pde-data\"\nseed = 4\n[problem]\nequation = \"darcy\"\nsamples = 5\nbatch = \
         {batch}\n[problem.grid]\npoints = 25\nlength = 1.0\n[problem.output]\npoints = 13\n"
    )
}

fn read(dir: &str, array: &str) -> Vec<f32> {
    let reader = Reader::open(Path::new(dir).join("result.h5")).expect("a result");
    reader.read(&format!("/result/{array}")).expect("an array")
}

/// What is computed beside five samples: their batch, threads, other samples. `arrays` with the values of a sample in each.
fn assert_samples_stand_alone(text: impl Fn(usize) -> String, arrays: &[(&str, usize)], figures: &[&str]) {
    let scratch = scratch();
    let run_as = |name: &str, text: &str, words: &[&str]| {
        let (spec, dir) = (job(scratch.path(), &format!("{name}.toml"), text), below(scratch.path(), name));
        let words = [&["run", &spec, "--dir", &dir, "-q"], words].concat();
        let (code, _, err) = told(&run(&words));
        assert_eq!(code, 0, "{err}");
        dir
    };
    let all = run_as("all", &text(64), &["--threads", "1"]);
    let (twos, ones) = (run_as("twos", &text(2), &["--threads", "2"]), run_as("ones", &text(1), &["--threads", "3"]));
    let two = run_as("two", &text(64).replace("samples = 5", "samples = 2"), &[]);
    for (array, size) in arrays {
        let expected = read(&all, array);
        assert_eq!(expected.len(), 5 * size, "{array}");
        assert_ne!(expected[..*size], expected[*size..2 * size], "{array}: samples differ");
        assert_same_bits(&expected, &read(&twos, array), "in twos");
        assert_same_bits(&expected, &read(&ones, array), "one by one");
        assert_same_bits(&expected[..2 * size], &read(&two, array), "the first two of them");
    }
    for figure in figures {
        let expected = doubles(all.as_ref(), figure);
        for dir in [&twos, &ones] {
            let found = doubles(dir.as_ref(), figure);
            let off = expected.iter().zip(&found).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            // Sums over samples are taken batch by batch.
            assert!(expected.len() == found.len() && off < 1e-14, "{figure}: {off:e}");
        }
    }
}

/// Batches are a matter of memory, and so are threads and the number of samples.
#[test]
fn samples_do_not_depend_on_what_is_computed_beside_them() {
    let flow = |batch| text(batch, "");
    let figures = ["energy", "enstrophy", "speed", "energy_spectrum"];
    assert_samples_stand_alone(flow, &[("vorticity", 3 * 32 * 32)], &figures);
    let figures = ["mean", "energy", "largest", "energy_spectrum"];
    assert_samples_stand_alone(burgers, &[("solution", 3 * 16)], &figures);
    let figures = ["iterations", "mean", "largest"];
    assert_samples_stand_alone(darcy, &[("coefficient", 13 * 13), ("pressure", 13 * 13)], &figures);
}

/// Fewer samples than ranks: flows are shared by wave numbers, with the same bits as on one rank, and no more bytes sent than planned; stopped on
/// three ranks they go on on two.
#[test]
fn flows_that_ranks_share_have_the_bits_of_one() {
    let scratch = scratch();
    let flow = text(2, "")
        .replace("samples = 5", "samples = 3")
        .replace("[problem.time]\nstep", "[problem.time]\nscheme = \"rk2-cn\"\nstep");
    let dirs = [1, 2, 3, 4, 5].map(|ranks| {
        let dir = scratch.path().join(format!("on{ranks}"));
        let job = JobText { path: scratch.path().join("job.toml"), text: flow.clone() };
        for outcome in run_on_threads("pde-data", job, ranks, &dir) {
            let outcome = outcome.expect("it runs");
            let (sent, planned) = (outcome.traffic.bytes, outcome.plan.bytes_sent_per_rank);
            assert!(sent <= planned, "{sent} bytes sent by one of {ranks}, {planned} planned");
        }
        below(scratch.path(), &format!("on{ranks}"))
    });
    let expected = read(&dirs[0], "vorticity");
    for dir in &dirs[1..] {
        assert_same_bits(&expected, &read(dir, "vorticity"), dir);
        assert_eq!(doubles(dirs[0].as_ref(), "energy"), doubles(dir.as_ref(), "energy"));
    }
    let spec = job(scratch.path(), "parts.toml", &(flow + "[checkpoint]\nevery_steps = 1\n"));
    let parts = below(scratch.path(), "parts");
    let (code, _, err) = told(&run(&["run", &spec, "--dir", &parts, "-n", "3", "--stop-after", "2", "-q"]));
    assert_eq!(code, 75, "{err}");
    let (code, _, err) = told(&run(&["resume", &parts, "-n", "2", "-q"]));
    assert_eq!(code, 0, "{err}");
    assert_same_bits(&expected, &read(&parts, "vorticity"), "stopped on three ranks");
    let (_, out, _) = told(&run(&["check", &spec, "-n", "6"]));
    assert!(out.contains("3 ranks share a flow"), "{out}");
}

/// Killed between batches and within one, and begun again each time.
#[test]
fn a_killed_set_goes_on_to_the_same_samples() {
    for (text, arrays) in [
        (text(2, ""), &["vorticity"] as &[&str]),
        (burgers(2), &["solution"]),
        (darcy(1), &["coefficient", "pressure"]),
    ] {
        let scratch = scratch();
        let spec = job(scratch.path(), "job.toml", &(text + "[checkpoint]\nevery_steps = 1\n"));
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
        arrays.iter().for_each(|array| assert_same_bits(&read(&whole, array), &read(&parts, array), array));
    }
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

#[test]
fn other_equations_that_have_no_solution_name_the_sample() {
    let scratch = scratch();
    let said = |name: &str, text: &str, expected: i32| {
        let spec = job(scratch.path(), &format!("{name}.toml"), text);
        let (code, _, err) = told(&run(&["run", &spec, "--dir", &below(scratch.path(), name), "-q"]));
        assert_eq!(code, expected, "{err}");
        err
    };
    let wild = burgers(64).replace("\"gaussian\"", "\"gaussian\"\nscale = 1e9").replace("= 0.1\n", "= 1.0\n");
    let err = said("wild", &wild, 1);
    assert!(err.contains("sample 0 is no longer finite") && err.contains("lower problem.time.step"), "{err}");
    let fine = burgers(64).replace("\"gaussian\"", "\"expression\"\nsolution = \"sin(44*pi*x)\"");
    let err = said("fine", &fine, 2);
    assert!(err.contains("waves beyond mode 21") && err.contains("raise problem.grid.points"), "{err}");
    let apart = darcy(64) + "[problem.medium]\nvalues = [1e-300, 1e300]\n";
    let err = said("apart", &apart, 1);
    assert!(err.contains("sample 0: ") && err.contains("problem.medium.values"), "{err}");
}
