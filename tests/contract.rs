//! What every workload of the registry must keep, with no further edit: loops over all job files
//! that come with a workload.

mod common;

use std::path::Path;

use common::{relative_difference, scratch};
use convoke::registry::{Entry, REGISTRY};
use convoke_cluster::comm::run_threads;
use convoke_cluster::driver::{Fault, From, Options, Outcome, Placement, Source};
use convoke_cluster::progress::Verbosity;
use convoke_cluster::workload::Inputs;
use convoke_cluster::{Error, Exit, JobText};
use convoke_data::store::Reader;
use convoke_kernels::{Device, gpu::emulation};

/// Differences that only the order of a sum can make, relative to the largest element.
const ROUNDING: f64 = 2e-5;
/// The same of a solve in f64, where conditioning multiplies it: 2e-12 is measured.
const ROUNDING_F64: f64 = 1e-10;

/// Operations of a job that takes minutes.
const MOST_WORK: f64 = 1e12;

/// Job files that would take minutes, and what makes them small.
const SMALLER: &[(&str, &[(&str, &str)])] = &[
    ("gp-pde/inverse-diffusion", &[("points = 16", "points = 12"), ("points = 24", "points = 18")]),
    (
        "gp-pde/assimilation-fine-2d",
        &[("points = 48", "points = 24"), ("[problem.posterior]", "[problem.posterior]\nmethod = \"iterative\"")],
    ),
];

/// A job file of a workload, in a directory where its inputs may lie.
struct Case {
    entry: &'static Entry,
    text: JobText,
    label: String,
}

/// All job files that can run here; the others say why not.
fn cases() -> Vec<Case> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    let data = std::env::var_os("CONVOKE_TEST_DATA").map_or(data, Into::into);
    let mut cases = Vec::new();
    for entry in REGISTRY {
        for (name, text) in entry.jobs {
            let label = format!("{}/{name}", entry.name);
            let smaller = SMALLER.iter().find(|(job, _)| *job == label).map_or(&[][..], |(_, changes)| *changes);
            let text = JobText { path: data.join(format!("{name}.toml")), text: changed(text, smaller) };
            match (entry.price)(&text, &Inputs { base: text.dir() }, &Placement::here(1, 1)) {
                Ok(quote) if quote.plan.work > MOST_WORK => {
                    common_skip(&label, &format!("{:.0e} operations", quote.plan.work))
                }
                Ok(_) => cases.push(Case { entry, text, label }),
                Err(error) if smaller.is_empty() => common_skip(&label, &error),
                Err(error) => panic!("{label}: {error}"),
            }
        }
    }
    assert!(!cases.is_empty(), "no job of any workload can run");
    cases
}

/// The text with its changes, each of which must find its place.
fn changed(text: &str, changes: &[(&str, &str)]) -> String {
    changes.iter().fold(text.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "there is no `{from}` in\n{text}");
        text.replace(from, to)
    })
}

#[allow(clippy::print_stderr, reason = "a skipped case says why")]
fn common_skip(label: &str, error: &dyn std::fmt::Display) {
    eprintln!("SKIPPED {label}: {error}");
}

fn options() -> Options {
    Options { verbosity: Verbosity::Quiet, threads: 1, ..Options::default() }
}

fn on_ranks(case: &Case, ranks: usize, source: &Source, options: &Options) -> Vec<Result<Outcome, Error>> {
    run_threads(ranks, |comm| (case.entry.run)(&comm, source, options))
}

fn new(case: &Case, dir: &Path) -> Source {
    Source::New { text: case.text.clone(), dir: dir.to_owned() }
}

/// The outcome of rank 0, of a run that no rank may fail.
fn first(outcomes: Vec<Result<Outcome, Error>>) -> Outcome {
    let mut outcomes: Vec<Outcome> = outcomes.into_iter().map(|o| o.expect("no rank fails")).collect();
    assert!(outcomes.windows(2).all(|w| w[0].steps == w[1].steps && w[0].exit == w[1].exit));
    outcomes.swap_remove(0)
}

/// All arrays of `/result` are equal to rounding.
fn assert_equal(a: &Path, b: &Path, what: &str) {
    let (a, b) = (Reader::open(a.join("result.h5")).expect("a"), Reader::open(b.join("result.h5")).expect("b"));
    let names: Vec<String> =
        a.list().expect("a list").into_iter().map(|e| e.name).filter(|n| n.starts_with("/result")).collect();
    assert!(!names.is_empty());
    for name in names {
        let (mut x, mut y): (Vec<f32>, Vec<f32>) = (a.read(&name).expect("a"), b.read(&name).expect("b"));
        // How far a result is from a known one may be rounding itself: what counts is the result's size.
        if let Some(of) = name.strip_suffix("_error") {
            let of: Vec<f32> = a.read(of).expect("what the error is of");
            let largest = of.iter().fold(0f32, |m, v| m.max(v.abs()));
            x.push(largest);
            y.push(largest);
        }
        let difference = relative_difference(&x, &y);
        assert!(difference <= ROUNDING, "{what}: {name} differs by {difference:e}");
    }
}

#[test]
fn any_number_of_ranks_gives_the_same_result_within_the_planned_bytes() {
    for case in cases() {
        let scratch = scratch();
        let dir = |n: usize| scratch.path().join(n.to_string());
        for ranks in [1, 2, 3, 5] {
            let outcomes = on_ranks(&case, ranks, &new(&case, &dir(ranks)), &options());
            for outcome in &outcomes {
                let outcome = outcome.as_ref().expect("no rank fails");
                let (sent, planned) = (outcome.traffic.bytes, outcome.plan.bytes_sent_per_rank);
                assert!(sent <= planned, "{} on {ranks}: {sent} bytes sent, {planned} planned", case.label);
                assert!(outcome.steps <= outcome.plan.steps, "{}: {} steps", case.label, outcome.steps);
            }
            assert_equal(&dir(1), &dir(ranks), &format!("{} on {ranks} ranks", case.label));
        }
    }
}

#[test]
fn stopping_and_resuming_on_another_number_of_ranks_equals_never_stopping() {
    for case in cases() {
        let scratch = scratch();
        let whole = scratch.path().join("whole");
        let steps = first(on_ranks(&case, 1, &new(&case, &whole), &options())).steps;
        if steps < 3 {
            continue; // done before it could be stopped
        }
        let parts = scratch.path().join("parts");
        let stop = Options { stop_after: Some(steps / 3), ..options() };
        let stopped = first(on_ranks(&case, 2, &new(&case, &parts), &stop));
        assert_eq!((stopped.exit, stopped.steps), (Exit::Stopped, steps / 3), "{}", case.label);
        let resume = Source::Resume { dir: parts.clone(), from: From::Newest };
        assert_eq!(first(on_ranks(&case, 5, &resume, &stop)).exit, Exit::Stopped);
        let outcome = first(on_ranks(&case, 3, &resume, &options()));
        assert_eq!((outcome.exit, outcome.steps), (Exit::Complete, steps), "{}", case.label);
        assert_equal(&whole, &parts, &case.label);
        let history = |dir: &Path| Reader::open(dir.join("result.h5")).expect("a result").list().expect("a list");
        assert_eq!(history(&whole), history(&parts), "{}: the same names and lengths", case.label);
    }
}

#[test]
fn a_typo_names_the_key_its_line_and_the_nearest_key() {
    for case in cases() {
        // Every key of the file, one after the other, with one letter doubled.
        for (number, line) in case.text.text.lines().enumerate() {
            let Some((key, value)) = line.split_once('=').filter(|(k, _)| !k.trim_start().starts_with('#')) else {
                continue;
            };
            let (key, typo) = (key.trim(), format!("{}x", key.trim()));
            if ["schema", "workload"].contains(&key) {
                continue; // read before all else, as missing
            }
            let lines = case.text.text.lines().enumerate();
            let text: Vec<String> =
                lines.map(|(i, l)| if i == number { format!("{typo} ={value}") } else { l.to_owned() }).collect();
            let text = JobText { text: text.join("\n"), ..case.text.clone() };
            let error =
                (case.entry.price)(&text, &Inputs { base: text.dir() }, &Placement::here(1, 1)).expect_err("a typo");
            let Error::Job(job) = &error else { panic!("{error}") };
            assert_eq!(error.exit(), 2);
            let place = format!("{}:{}:", text.path.display(), number + 1);
            assert!(error.to_string().starts_with(&place), "{error} should start with {place}");
            assert!(error.to_string().contains(&format!("`{typo}`")), "{error}");
            assert_eq!(job.advice(), Some(format!("did you mean `{key}`?").as_str()), "{error}");
        }
    }
}

#[test]
fn one_failing_rank_fails_all_without_a_hang_and_leaves_a_checkpoint() {
    for case in cases() {
        let scratch = scratch();
        let dir = scratch.path().join("run");
        let steps = first(on_ranks(&case, 1, &new(&case, &scratch.path().join("whole")), &options())).steps;
        let fault = Fault { rank: 1, step: steps / 2 };
        let outcomes = on_ranks(&case, 3, &new(&case, &dir), &Options { fault: Some(fault), ..options() });
        for outcome in outcomes {
            let error = outcome.expect_err("one rank failed").to_string();
            assert!(error.contains("injected"), "{error}");
        }
        let resume = Source::Resume { dir: dir.clone(), from: From::Newest };
        assert_eq!(first(on_ranks(&case, 2, &resume, &options())).exit, Exit::Complete, "{}", case.label);
    }
}

#[test]
fn an_emulated_gpu_gives_the_cpus_result() {
    let scratch = scratch();
    let library = match emulation::compile_emulation(scratch.path()) {
        Ok(library) => library,
        Err(error) => return common_skip("emulation", &Error::from(error)),
    };
    let device = Device::emulated(&library).expect("the library was just compiled");
    let dirs = (scratch.path().join("cpu"), scratch.path().join("gpu"));
    let on_both = |case: &Case| {
        for (device, dir) in [(Device::cpu(), &dirs.0), (device.clone(), &dirs.1)] {
            let _ = std::fs::remove_dir_all(dir);
            first(on_ranks(case, 1, &new(case, dir), &Options { device: Some(device), ..options() }));
        }
    };
    for case in cases().into_iter().take(1) {
        on_both(&case);
        assert_equal(&dirs.0, &dirs.1, &case.label);
    }
    for case in small_equations() {
        on_both(&case);
        let solution = |dir: &Path| -> Vec<f64> {
            Reader::open(dir.join("result.h5")).expect("a result").read("/result/solution").expect("a solution")
        };
        let (cpu, gpu) = (solution(&dirs.0), solution(&dirs.1));
        assert_eq!(cpu.len(), gpu.len());
        let largest = cpu.iter().fold(0f64, |m, v| m.max(v.abs()));
        let difference = cpu.iter().zip(&gpu).fold(0f64, |m, (a, b)| m.max((a - b).abs())) / largest;
        assert!(difference <= ROUNDING_F64, "{}: differs by {difference:e} of the largest value", case.label);
    }
    assert_flows_are_the_cpus(&device);
}

/// Flows of pde-data are the CPU's to 1e-12, in the same bits on two ranks and after a stop; what a GPU does not do is told.
fn assert_flows_are_the_cpus(device: &Device) {
    let scratch = scratch();
    let changes = [
        ("samples = 4", "samples = 3"),
        ("batch = 64", "batch = 2"),
        ("points = 64", "points = 16"),
        ("step = 5e-3", "step = 2e-2"),
        ("start = 1.0", "start = 0.1"),
        ("every = 0.1", "every = 0.04"),
        ("snapshots = 11", "snapshots = 3"),
    ];
    let (flows, dir) = (small("pde-data", "mcwilliams", &changes), |name: &str| scratch.path().join(name));
    let on = |device: &Device| Options { device: Some(device.clone()), ..options() };
    let run = |case: &Case, name: &str, device: &Device, ranks: usize| {
        assert_eq!(first(on_ranks(case, ranks, &new(case, &dir(name)), &on(device))).exit, Exit::Complete);
        std::fs::read_to_string(dir(name).join("events.jsonl")).expect("events")
    };
    let read = |name: &str, array: &str| -> Vec<f64> {
        Reader::open(dir(name).join("result.h5"))
            .expect("a result")
            .read(&format!("/result/{array}"))
            .expect("an array")
    };
    run(&flows, "cpu", &Device::cpu(), 1);
    let said = run(&flows, "gpu", device, 1) + &run(&flows, "gpus", device, 2);
    assert!(!said.contains("the GPU is not used"), "{said}");
    let stop = Options { stop_after: Some(3), ..on(device) };
    assert_eq!(first(on_ranks(&flows, 1, &new(&flows, &dir("parts")), &stop)).exit, Exit::Stopped);
    let resume = Source::Resume { dir: dir("parts"), from: From::Newest };
    assert_eq!(first(on_ranks(&flows, 2, &resume, &on(device))).exit, Exit::Complete);
    for array in ["vorticity", "energy", "speed"] {
        let (cpu, gpu) = (read("cpu", array), read("gpu", array));
        let largest = cpu.iter().fold(0f64, |m, v| m.max(v.abs()));
        let difference = cpu.iter().zip(&gpu).fold(0f64, |m, (a, b)| m.max((a - b).abs())) / largest;
        // Vorticities are written as f32.
        let rounding = if array == "vorticity" { f64::from(f32::EPSILON) } else { 1e-12 };
        assert!(
            cpu.len() == gpu.len() && difference <= rounding,
            "{array} differs by {difference:e} of the largest value"
        );
        assert!(read("gpus", array) == gpu && read("parts", array) == gpu, "{array} on two ranks, and after a stop");
    }
    // Two programs that round alike would be one program.
    assert_ne!(read("cpu", "speed"), read("gpu", "speed"), "the device was not used");
    let said = run(&flows, "shared", device, 5);
    assert!(said.contains("the GPU is not used: ranks share each flow"), "{said}");
    let line = small("pde-data", "advection", &[]);
    let said = run(&line, "line", device, 1);
    assert!(said.contains("the GPU is not used: equation = \\\"advection\\\""), "{said}");
}

/// A job file that comes with a workload, changed.
fn small(workload: &str, name: &str, changes: &[(&str, &str)]) -> Case {
    let entry = REGISTRY.iter().find(|entry| entry.name == workload).expect("it is registered");
    let (_, text) = entry.jobs.iter().find(|(job, _)| *job == name).expect("a job file of this name");
    let text = JobText { path: Path::new(name).with_extension("toml"), text: changed(text, changes) };
    Case { entry, text, label: format!("a small {name}") }
}

/// Job files of gp-pde made small enough for an emulated GPU.
fn small_equations() -> Vec<Case> {
    let small = |name: &str, changes: &[(&str, &str)]| small("gp-pde", name, changes);
    let waves = ("sin(36*x)*cos(30*y)*sin(33*z)", "sin(6*x)*cos(5*y)*sin(7*z)");
    vec![
        // Three modes, all with eigenvectors; GMRES.
        small("allen-cahn-3d", &[("points = 48", "points = 12"), waves]),
        // Two derivatives in the Jacobian; the axis of time is inverted on the CPU.
        small("burgers", &[("points = 40", "points = 13"), ("points = 70", "points = 21"), ("4*pi", "2*pi")]),
        // One solve, close to indefinite modes: 2e-12, the others 2e-14.
        small("helmholtz-2d", &[("points = 96", "points = 40")]),
    ]
}
