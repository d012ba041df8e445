//! neural-operator through the launches that a GPU gets, emulated on the processor: the losses, figures and predictions of the
//! processor's own code; resuming; on ranks. Skipped, with a printed reason, where there is no g++.

mod common;

use std::f64::consts::TAU;
use std::path::Path;

use common::{doubles, job, scratch, told, write_arrays};
use convoke::registry;
use convoke_cluster::comm::run_threads;
use convoke_cluster::driver::{From, Options, Source};
use convoke_cluster::progress::Verbosity;
use convoke_cluster::{Exit, JobText};
use convoke_data::store::Reader;
use convoke_kernels::Device;
use convoke_kernels::gpu::emulation::compile_emulation;

/// Samples of random waves on a grid, in channels that are shifted, and their products with a shift and a bend.
fn waves(path: &Path, samples: usize, points: &[usize], [inputs, outputs]: [usize; 2]) {
    let mut random = fastrand::Rng::with_seed(7);
    let (size, mut input, mut target) = (points.iter().product::<usize>(), Vec::new(), Vec::new());
    for _ in 0..samples {
        let waves: Vec<[f64; 3]> = (1..4).map(|k| [f64::from(k), random.f64(), random.f64() * TAU]).collect();
        let value = |flat: usize, phase: f64| {
            let (mut rest, mut along) = (flat, 0.0);
            for (axis, n) in points.iter().enumerate().rev() {
                along += (axis + 1) as f64 * (rest % n) as f64 / *n as f64;
                rest /= n;
            }
            waves.iter().map(|[k, a, shift]| a * (TAU * k * along + shift + phase).sin()).sum::<f64>()
        };
        for channel in 0..inputs {
            input.extend((0..size).map(|i| value(i, channel as f64)));
        }
        for channel in 0..outputs {
            target.extend((0..size).map(|i| value(i, 0.3) * (1.0 + 0.2 * value(i, channel as f64)) + 2.0));
        }
    }
    let shape = |channels: usize| [&[samples, channels], points].concat();
    write_arrays(path, &[("a", &shape(inputs), &input), ("u", &shape(outputs), &target)]);
}

/// A job on the grid of `train.h5`, with changes.
fn text(dimension: usize, modes: &str, changes: &[(&str, &str)]) -> String {
    let mut text = format!(
        "schema = 1\nname = \"waves\"\nworkload = \"neural-operator\"\nseed = 3\n[problem]\ntask = \"train\"\n[problem.data]\n\
         file = \"train.h5\"\ndimension = {dimension}\ninput = {{ array = \"/a\" }}\ntarget = {{ array = \"/u\" }}\n\
         normalise = \"channels\"\n[[problem.test]]\nname = \"other\"\nfile = \"other.h5\"\n[problem.model]\nkind = \"fno\"\n\
         width = 6\nmodes = {modes}\nlayers = 3\nprojection = 9\n[problem.training]\nepochs = 3\nbatch = 4\nrate = 5e-3\n\
         precision = \"single\"\n"
    );
    for (from, to) in changes {
        assert!(text.contains(from), "{from}");
        text = text.replace(from, to);
    }
    text
}

#[allow(clippy::print_stderr, reason = "a skipped test says why")]
fn emulated(dir: &Path) -> Option<Device> {
    let made = compile_emulation(dir).and_then(|library| Device::emulated(&library));
    if made.is_err() {
        eprintln!("skipped: {made:?}");
    }
    made.ok()
}

fn run(source: &Source, ranks: usize, options: &Options) -> Exit {
    let entry = registry::find("neural-operator").expect("the workload is registered");
    let outcomes = run_threads(ranks, |comm| (entry.run)(&comm, source, options));
    outcomes.into_iter().map(|outcome| outcome.expect("it runs").exit).next().expect("a rank")
}

fn on(device: &Device) -> Options {
    Options { verbosity: Verbosity::Quiet, threads: 1, device: Some(device.clone()), ..Options::default() }
}

fn new(scratch: &Path, text: &str, dir: &Path) -> Source {
    let _ = std::fs::remove_dir_all(dir);
    let job = JobText { path: scratch.join("job.toml"), text: text.to_owned() };
    Source::New { text: job, dir: dir.to_owned() }
}

fn column(dir: &Path, name: &str) -> Vec<f64> {
    Reader::open(dir.join("result.h5")).expect("a result").read(&format!("/history/{name}")).expect("a column")
}

/// Largest difference, of the largest number.
fn apart(a: &[f64], b: &[f64]) -> f64 {
    assert!(a.len() == b.len() && !a.is_empty(), "{} {}", a.len(), b.len());
    let largest = b.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
    assert!(largest > 0.0 && a.iter().all(|v| v.is_finite()));
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max) / largest
}

/// Losses, norms of gradients and errors on another grid of a whole training are the processor's to 1e-5, and predictions after it.
fn assert_same(device: &Device, (points, other): (&[usize], &[usize]), channels: [usize; 2], text: &str) {
    let scratch = scratch();
    waves(&scratch.path().join("train.h5"), 10, points, channels);
    waves(&scratch.path().join("other.h5"), 5, other, channels);
    let dirs = ["cpu", "gpu"].map(|name| scratch.path().join(name));
    for (dir, device) in dirs.iter().zip([&Device::cpu(), device]) {
        run(&new(scratch.path(), text, dir), 1, &on(device));
    }
    let [cpu, gpu] = &dirs;
    for name in ["loss", "gradient", "test"] {
        let (expected, found) = (column(cpu, name), column(gpu, name));
        assert_eq!(expected.len(), 9);
        let far = apart(&found, &expected);
        assert!(far < 1e-5, "{name}: {far:e} {found:?} {expected:?}\n{text}");
        // Two programs that round alike would be one program.
        assert!(found != expected, "the device was not used\n{text}");
    }
    let far = apart(&doubles(gpu, "other_predictions"), &doubles(cpu, "other_predictions"));
    assert!(far < 1e-5, "{far:e}\n{text}");
}

/// One to three axes, padded and not, batches that do not divide the samples, another grid, and all that is the host's part.
#[test]
fn fnos_learn_as_on_the_processor() {
    let scratch = scratch();
    let Some(device) = emulated(scratch.path()) else { return };
    let cases = [
        (vec![33], vec![24], "[7]", [2, 1], vec![]),
        (vec![33], vec![33], "[4]", [2, 2], vec![("\"channels\"", "\"points\""), ("5e-3", "5e-3\nclip = 0.1")]),
        (vec![10, 9], vec![8, 12], "[3, 4]", [2, 2], vec![("layers = 3", "layers = 2\npadding = [3, 2]")]),
        (vec![10, 9], vec![8, 12], "[3, 4]", [2, 1], vec![("5e-3", "5e-3\nsobolev = { s = 0.5 }")]),
        (vec![8, 8], vec![8, 8], "[3, 3]", [1, 2], vec![("layers = 3", "layers = 3\ndivergence_free = true")]),
        (vec![6, 5, 7], vec![8, 4, 6], "[2, 2, 3]", [2, 1], vec![("5e-3", "5e-3\naverage = 0.9\npatience = 2")]),
        (vec![6, 5, 7], vec![8, 4, 6], "[2, 2, 3]", [2, 1], vec![("layers = 3", "layers = 1\npadding = [0, 1, 2]")]),
        (vec![20], vec![20], "[5]", [1, 1], vec![("layers = 3", "layers = 3\nactivations = 2")]),
        (
            vec![9, 8],
            vec![8, 12],
            "[3, 4]",
            [2, 1],
            vec![(
                "layers = 3",
                "layers = 2\nlifting = 7\nchannel_mlp = { skip = \"soft-gating\" }\ntucker = [6, 2, 6, 4]",
            )],
        ),
        (
            vec![20],
            vec![12],
            "[5]",
            [1, 2],
            vec![("layers = 3", "layers = 3\npadding = [3]\nchannel_mlp = { expansion = 0.7, skip = \"linear\" }")],
        ),
    ];
    for (points, other, modes, channels, changes) in cases {
        assert_same(&device, (&points, &other), channels, &text(points.len(), modes, &changes));
    }
}

/// More and fewer times inside than snapshots are given and made, another grid.
#[test]
fn spatiotemporal_operators_learn_as_on_the_processor() {
    let scratch = scratch();
    let Some(device) = emulated(scratch.path()) else { return };
    for (channels, latent, modes) in [([4, 5], "3", "[2, 3, 2]"), ([3, 2], "3", "[3, 2, 2]")] {
        let latent = format!("kind = \"st-fno\"\nlatent_steps = {latent}");
        let changes = [("kind = \"fno\"", latent.as_str()), ("projection = 9\n", ""), ("\"channels\"", "\"none\"")];
        assert_same(&device, (&[7, 8], &[10, 6]), channels, &text(2, modes, &changes));
    }
}

/// Stopped and resumed on the device, and on the processor: equal bits there, equal losses to 1e-5 here. On two ranks the same losses.
#[test]
fn training_goes_on_from_checkpoints_and_on_ranks() {
    let scratch = scratch();
    let Some(device) = emulated(scratch.path()) else { return };
    waves(&scratch.path().join("train.h5"), 10, &[12, 11], [2, 1]);
    waves(&scratch.path().join("other.h5"), 5, &[12, 11], [2, 1]);
    let shared = [("epochs = 3", "epochs = 3\nshared = \"samples\"")];
    let text = text(2, "[3, 4]", &shared);
    let dirs = ["whole", "parts", "moved", "ranks"].map(|name| scratch.path().join(name));
    let [whole, parts, moved, ranks] = &dirs;
    assert_eq!(run(&new(scratch.path(), &text, whole), 1, &on(&device)), Exit::Complete);
    for (dir, second) in [(parts, &device), (moved, &Device::cpu())] {
        let first = Options { stop_after: Some(4), ..on(&device) };
        assert_eq!(run(&new(scratch.path(), &text, dir), 1, &first), Exit::Stopped);
        let resume = Source::Resume { dir: dir.clone(), from: From::Newest };
        assert_eq!(run(&resume, 1, &on(second)), Exit::Complete);
    }
    assert_eq!(run(&new(scratch.path(), &text, ranks), 2, &on(&device)), Exit::Complete);
    let loss = column(whole, "loss");
    let bits = |dir: &Path| doubles(dir, "weights/layers.1.spectral").into_iter().map(f64::to_bits).collect::<Vec<_>>();
    assert_eq!(bits(whole), bits(parts));
    for dir in [moved, ranks] {
        let far = apart(&column(dir, "loss"), &loss);
        assert!(far < 1e-5 && bits(dir) != bits(whole), "{dir:?}: {far:e}");
    }
}

/// What has no kernels gives the processor's bits beside a GPU.
#[test]
fn what_has_no_kernels_is_trained_by_the_processor() {
    let scratch = scratch();
    let Some(device) = emulated(scratch.path()) else { return };
    waves(&scratch.path().join("train.h5"), 10, &[12], [2, 1]);
    waves(&scratch.path().join("other.h5"), 5, &[12], [2, 1]);
    let text = text(1, "[3]", &[("\"single\"", "\"double\"")]);
    let losses = [Device::cpu(), device].map(|device| {
        let dir = scratch.path().join("run");
        run(&new(scratch.path(), &text, &dir), 1, &on(&device));
        column(&dir, "loss")
    });
    assert!(losses[0] == losses[1] && losses[0].len() == 9);
}

/// `convoke check` says where training runs, and why it is not a GPU.
#[test]
fn a_check_says_what_trains_it() {
    let scratch = scratch();
    waves(&scratch.path().join("train.h5"), 10, &[12], [2, 1]);
    waves(&scratch.path().join("other.h5"), 5, &[12], [2, 1]);
    for (change, expected) in [
        (("batch = 4", "batch = 4"), "a GPU trains it, where there is one"),
        (("\"single\"", "\"double\""), "also beside a GPU: precision = \"double\""),
        (("layers = 3", "layers = 3\ntucker = [2, 2, 2]"), "a GPU trains it, where there is one"),
        (("epochs = 3", "epochs = 3\nshared = \"modes\""), "problem.training.shared = \"samples\" lets it serve"),
    ] {
        let spec = job(scratch.path(), "job.toml", &text(1, "[3]", &[change]));
        let (code, out, err) = told(&common::run(&["check", &spec]));
        assert!(code == 0 && format!("{out}{err}").contains(expected), "{change:?}: {code} {out} {err}");
    }
}
