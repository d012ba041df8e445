//! neural-operator through the program's front door: equal losses on any ranks, equal bits after a stop, clear refusals.

mod common;

use std::f64::consts::TAU;
use std::path::Path;

use common::{below, doubles, figure, job, run_on_threads, scratch, told, write_arrays};
use convoke_cluster::JobText;
use convoke_data::store::Reader;

/// Samples of one variable: a wave of random phase and height, and its derivative.
fn waves(path: &Path, samples: usize, points: usize) {
    let mut random = fastrand::Rng::with_seed(4);
    let (mut input, mut target) = (Vec::new(), Vec::new());
    for _ in 0..samples {
        let waves: Vec<[f64; 3]> = (1..4).map(|k| [f64::from(k), random.f64(), random.f64() * TAU]).collect();
        for i in 0..points {
            let x = TAU * i as f64 / points as f64;
            input.push(waves.iter().map(|[k, a, phase]| a * (k * x + phase).sin()).sum());
            target.push(waves.iter().map(|[k, a, phase]| a * k * (k * x + phase).cos()).sum());
        }
    }
    write_arrays(path, &[("a", &[samples, points], &input), ("u", &[samples, 1, points], &target)]);
}

fn text(changes: &[(&str, &str)]) -> String {
    let mut text = "schema = 1\nname = \"waves\"\nworkload = \"neural-operator\"\nseed = 3\n[checkpoint]\nevery_steps = 4\n\
        [problem]\ntask = \"train\"\n[problem.data]\nfile = \"train.h5\"\ndimension = 1\ninput = { array = \"/a\" }\n\
        target = { array = \"/u\" }\n[[problem.test]]\nname = \"fine\"\nfile = \"fine.h5\"\n[problem.model]\nkind = \"fno\"\n\
        width = 8\nmodes = [5]\nlayers = 2\nprojection = 16\n[problem.training]\nepochs = 30\nbatch = 10\nrate = 1e-2\n\
        precision = \"double\"\n"
        .to_owned();
    for (from, to) in changes {
        assert!(text.contains(from), "{from}");
        text = text.replace(from, to);
    }
    text
}

fn column(dir: &Path, name: &str) -> Vec<f64> {
    Reader::open(dir.join("result.h5")).expect("a result").read(&format!("/history/{name}")).expect("a column")
}

/// The operator learns a derivative, and knows it on a grid that it never saw; losses are equal to 1e-12 on 1, 2 and 3 ranks.
#[test]
fn losses_do_not_depend_on_the_ranks_and_finer_grids_are_known() {
    let scratch = scratch();
    waves(&scratch.path().join("train.h5"), 60, 16);
    waves(&scratch.path().join("fine.h5"), 12, 40);
    let dirs = [1, 2, 3].map(|ranks| {
        let dir = scratch.path().join(format!("run{ranks}"));
        let job = JobText { path: scratch.path().join("job.toml"), text: text(&[]) };
        for outcome in run_on_threads("neural-operator", job, ranks, &dir) {
            let outcome = outcome.expect("it runs");
            let (sent, planned) = (outcome.traffic.bytes, outcome.plan.bytes_sent_per_rank);
            assert!(sent <= planned, "{sent} bytes sent by one of {ranks}, {planned} planned");
            assert!(outcome.steps == outcome.plan.steps, "{} steps", outcome.steps);
        }
        dir
    });
    let one = column(&dirs[0], "loss");
    assert_eq!(one.len(), 180);
    for dir in &dirs[1..] {
        let other = column(dir, "loss");
        // Of losses that begin at one; training makes rounding grow.
        let far = one.iter().zip(&other).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(far < 1e-12, "{far:e}");
    }
    let error = figure(&dirs[0], "relative_l2_fine");
    assert!(error < 0.1 && one[179] < 0.1 * one[0], "{error} {}", one[179]);
    assert_eq!(doubles(&dirs[0], "fine_predictions").len(), 8 * 40);
}

/// The layout of The Well: trajectories of a scalar and a vector, windows of three snapshots as samples. Channels come snapshot by snapshot, the
/// scalar before the components.
#[test]
fn trajectories_of_the_well_are_windows_of_scalars_and_vectors() {
    let scratch = scratch();
    let (n, t, x, y) = (3, 5, 6, 4);
    // Every number tells its place.
    let value =
        |s: usize, t: usize, i: usize, j: usize, c: usize| (10_000 * s + 1000 * t + 100 * i + 10 * j + c) as f64;
    let places = || (0..n * t * x * y).map(|p| [p / (t * x * y), p / (x * y) % t, p / y % x, p % y]);
    let density: Vec<f64> = places().map(|[s, t, i, j]| value(s, t, i, j, 0)).collect();
    let velocity: Vec<f64> = places().flat_map(|[s, t, i, j]| [value(s, t, i, j, 1), value(s, t, i, j, 2)]).collect();
    write_arrays(
        &scratch.path().join("well.h5"),
        &[("t0_fields/density", &[n, t, x, y], &density), ("t1_fields/velocity", &[n, t, x, y, 2], &velocity)],
    );
    let arrays = "{ array = [\"/t0_fields/density\", \"/t1_fields/velocity\"] }";
    let well = text(&[
        ("dimension = 1\ninput = { array = \"/a\" }\n", &format!("dimension = 2\ninput = {arrays}\n")),
        (
            "target = { array = \"/u\" }\n",
            &format!("target = {arrays}\nsamples = 2\nwindows = {{ input = 2, target = 1 }}\n"),
        ),
        ("train.h5", "well.h5"),
        ("file = \"fine.h5\"\n", "file = \"well.h5\"\nfirst = 2\n"),
        ("modes = [5]", "modes = [2, 2]"),
        ("epochs = 30", "epochs = 1"),
    ]);
    let spec = job(scratch.path(), "well.toml", &well);
    let dir = below(scratch.path(), "run");
    let (code, _, err) = told(&common::run(&["run", &spec, "--dir", &dir, "-q"]));
    assert_eq!(code, 0, "{err}");
    let targets = doubles(Path::new(&dir), "fine_targets");
    // Windows that begin with snapshots 0, 1 and 2 of the third trajectory have snapshots 2, 3 and 4 as targets.
    let expected: Vec<f64> =
        (0..3 * 3 * x * y).map(|p| value(2, 2 + p / (3 * x * y), p / y % x, p % y, p / (x * y) % 3)).collect();
    assert_eq!(targets, expected);
    for (from, to, key, why) in [
        ("target = 1 }", "target = 4 }", "problem.data.windows", "the 5 snapshots"),
        ("windows = { input = 2", "windows = { input = 0", "problem.data.windows.input", "1 to"),
        (", \"/t1_fields/velocity\"] }\nsamples", "] }\nsamples", "problem.data.input.channels", "the same arrays"),
        ("[\"/t0_fields/density\", \"/t1", "[\"/t1", "problem.data.input.channels", "the same arrays"),
    ] {
        let spec = job(scratch.path(), "bad.toml", &well.replacen(from, to, 1));
        let (code, _, err) = told(&common::run(&["run", &spec, "--dir", &below(scratch.path(), "bad"), "-q"]));
        assert!(code == 2 && err.contains(key) && err.contains(why), "{from}: {code} {err}");
    }
}

/// Stopped and resumed at equal ranks: the same bits.
#[test]
fn a_run_that_was_stopped_ends_with_the_same_bits() {
    let scratch = scratch();
    waves(&scratch.path().join("train.h5"), 60, 16);
    waves(&scratch.path().join("fine.h5"), 12, 40);
    let spec = job(scratch.path(), "job.toml", &text(&[("epochs = 30", "epochs = 3")]));
    let [whole, parts] = ["whole", "parts"].map(|name| below(scratch.path(), name));
    assert_eq!(told(&common::run(&["run", &spec, "--dir", &whole, "-n", "1", "-q"])).0, 0);
    let first = told(&common::run(&["run", &spec, "--dir", &parts, "-n", "1", "--stop-after", "7", "-q"]));
    assert_eq!(first.0, 75, "{}", first.2);
    assert_eq!(told(&common::run(&["resume", &parts, "-q"])).0, 0);
    let bits = |dir: &str| -> Vec<u64> {
        let of = |name: &str| doubles(Path::new(dir), name).into_iter().map(f64::to_bits).collect::<Vec<_>>();
        [of("weights/layers.1.spectral"), of("fine_predictions")].concat()
    };
    assert_eq!(bits(&whole), bits(&parts));
}

/// Code 2 and what to do, before anything is computed; a loss that explodes ends the run and leaves its checkpoints.
#[test]
fn what_cannot_be_learnt_is_refused() {
    let scratch = scratch();
    waves(&scratch.path().join("train.h5"), 20, 16);
    waves(&scratch.path().join("fine.h5"), 6, 8);
    write_arrays(&scratch.path().join("nan.h5"), &[("a", &[1, 16], &[f64::NAN; 16]), ("u", &[1, 16], &[0.0; 16])]);
    write_arrays(&scratch.path().join("few.h5"), &[("a", &[2, 16], &[0.0; 32]), ("u", &[1, 16], &[0.0; 16])]);
    for (name, changes, expected) in [
        ("modes", vec![("modes = [5]", "modes = [9]")], "problem.model.modes = 9"),
        ("fine", vec![("modes = [5]", "modes = [6]")], "at most 5 along axis 0, which has 8 points"),
        ("axes", vec![("modes = [5]", "modes = [5, 5]")], "1 numbers, one for each axis of space"),
        ("both", vec![("modes = [5]", "modes = [5]\nactivations = 2\nchannel_mlp = {}")], "problem.model.activations"),
        (
            "mlp",
            vec![("modes = [5]", "modes = [5]\nchannel_mlp = { expansion = 0.01 }")],
            "more than 0.0625 for width = 8",
        ),
        ("skip", vec![("modes = [5]", "modes = [5]\nchannel_mlp = { skip = \"identity\" }")], "identity"),
        ("space", vec![("dimension = 1", "dimension = 2"), ("modes = [5]", "modes = [2, 2]")], "with 2 axes of space"),
        ("array", vec![("\"/u\"", "\"/v\"")], "/v"),
        ("file", vec![("train.h5", "none.h5")], "problem.data.file"),
        ("nan", vec![("train.h5", "nan.h5")], "a number that is not finite, in sample 0"),
        ("few", vec![("train.h5", "few.h5")], "has 2 samples on [16] points"),
        ("points", vec![("dimension = 1", "dimension = 1\nnormalise = \"points\"")], "fits the grid [16] alone"),
        ("channels", vec![("\"/u\" }", "\"/u\", channels = [0, 2] }")], "at most 1"),
    ] {
        let spec = job(scratch.path(), &format!("{name}.toml"), &text(&changes));
        let dir = below(scratch.path(), name);
        let (code, _, err) = told(&common::run(&["run", &spec, "--dir", &dir, "-q"]));
        assert!(code == 2 && err.contains(expected), "{name}: {code} {err}");
        assert!(!Path::new(&dir).exists(), "{name}");
    }
    let fast = [
        ("every_steps = 4", "every_steps = 1"),
        ("modes = [5]", "modes = [3]"),
        ("rate = 1e-2", "rate = 1e3"),
        ("double", "single"),
        ("layers = 2", "layers = 16"),
    ];
    let spec = job(scratch.path(), "fast.toml", &text(&fast));
    let dir = below(scratch.path(), "fast");
    let (code, _, err) = told(&common::run(&["run", &spec, "--dir", &dir, "-n", "1", "-q"]));
    assert!(code != 0 && err.contains("the loss is no longer finite") && err.contains("training.rate"), "{code} {err}");
    assert!(Path::new(&dir).join("ckpt").read_dir().expect("checkpoints").next().is_some());
}

/// Waves that move on by a sixteenth of the circle in a snapshot, `[sample, snapshot, x]`.
fn moving(path: &Path, samples: usize, snapshots: usize, points: usize) {
    let mut random = fastrand::Rng::with_seed(5);
    let mut values = Vec::new();
    for _ in 0..samples {
        let waves: Vec<[f64; 3]> = (1..4).map(|k| [f64::from(k), random.f64(), random.f64() * TAU]).collect();
        for (t, i) in (0..snapshots).flat_map(|t| (0..points).map(move |i| (t, i))) {
            let x = TAU * (i as f64 / points as f64 - t as f64 / 16.0);
            values.push(waves.iter().map(|[k, a, phase]| a * (k * x + phase).sin()).sum());
        }
    }
    write_arrays(path, &[("w", &[samples, snapshots, points], &values)]);
}

/// Trained on one snapshot ahead, applied three times to its own outputs on a finer grid; its first error is what training reported.
#[test]
fn a_trained_operator_rolls_out_beside_persistence() {
    let scratch = scratch();
    moving(&scratch.path().join("train.h5"), 60, 2, 16);
    moving(&scratch.path().join("fine.h5"), 10, 4, 24);
    let train = text(&[
        ("input = { array = \"/a\" }", "input = { array = \"/w\", channels = [0, 1] }"),
        ("target = { array = \"/u\" }", "target = { array = \"/w\", channels = [1, 2] }"),
        ("epochs = 30", "epochs = 40"),
    ]);
    let spec = job(scratch.path(), "train.toml", &train);
    let [trained, rolled] = ["trained", "rolled"].map(|name| below(scratch.path(), name));
    let (code, _, err) = told(&common::run(&["run", &spec, "--dir", &trained, "-n", "1", "-q"]));
    assert_eq!(code, 0, "{err}");
    let evaluate = "schema = 1\nname = \"roll\"\nworkload = \"neural-operator\"\nseed = 1\n[problem]\ntask = \"evaluate\"\n\
        [problem.evaluation]\noperator = \"trained\"\napplications = 3\n[problem.data]\ndimension = 1\n\
        input = { array = \"/w\", channels = [0, 1] }\ntarget = { array = \"/w\", channels = [1, 4] }\n\
        [[problem.test]]\nname = \"fine\"\nfile = \"fine.h5\"\n";
    let job_text = JobText { path: scratch.path().join("job.toml"), text: evaluate.to_owned() };
    let outcomes = run_on_threads("neural-operator", job_text, 2, Path::new(&rolled));
    for outcome in outcomes {
        let outcome = outcome.expect("it runs");
        assert!(outcome.traffic.bytes <= outcome.plan.bytes_sent_per_rank, "{:?}", outcome.traffic);
    }
    let [error, persistence] = ["fine_error", "fine_persistence"].map(|name| doubles(Path::new(&rolled), name));
    assert_eq!((error.len(), persistence.len()), (3, 3));
    let reported = figure(Path::new(&trained), "relative_l2_fine");
    assert!((error[0] - reported).abs() < 1e-4 * reported, "{} {reported}", error[0]);
    assert!(error[0] < 0.1 && error[2] < 0.3 && persistence[2] > 0.8, "{error:?} {persistence:?}");
    assert_eq!(doubles(Path::new(&rolled), "fine_predictions").len(), 8 * 3 * 24);
    // Shells add up to the mean square (Parseval): of the data those of the last snapshot.
    let spectrum = doubles(Path::new(&rolled), "fine_spectrum");
    let data: Vec<f64> = Reader::open(scratch.path().join("fine.h5")).expect("data").read("/w").expect("an array");
    let last: Vec<f64> = data.chunks(4 * 24).flat_map(|sample| sample[3 * 24..].iter().map(|v| v * v)).collect();
    let square = last.iter().sum::<f64>() / last.len() as f64;
    assert!(
        (spectrum[13..].iter().sum::<f64>() - square).abs() < 1e-5 * square && spectrum.len() == 26,
        "{spectrum:?}"
    );
    // Invariants: rows of the operator and of the data by application.
    let [mean, squares] = ["fine_mean", "fine_mean_square"].map(|name| doubles(Path::new(&rolled), name));
    let sum: f64 = data.chunks(4 * 24).flat_map(|sample| &sample[3 * 24..]).sum();
    assert!(
        (mean[5] - sum / last.len() as f64).abs() < 1e-6 && (squares[5] - square).abs() < 1e-5 * square,
        "{mean:?}"
    );
    assert!((squares[2] / squares[5] - 1.0).abs() < 0.5 && squares[2] != squares[5], "{squares:?}");
    // What does not fit is refused.
    for (from, to, expected) in [
        ("operator = \"trained\"", "operator = \"fine.h5\"", "the directory of a run with task"),
        ("operator = \"trained\"", "operator = \"gone\"", "problem.evaluation.operator"),
        ("file = \"fine.h5\"", "file = \"gone.h5\"", "problem.test.file"),
        ("applications = 3", "applications = 2", "[1, 2] are due"),
        ("dimension = 1", "dimension = 2", "the dimension of the operator"),
        (
            "[problem.evaluation]",
            "[problem.model]\nkind = \"fno\"\nwidth = 2\nmodes = [1]\n[problem.evaluation]",
            "problem.model",
        ),
    ] {
        let spec = job(scratch.path(), "bad.toml", &evaluate.replace(from, to));
        let (code, _, err) = told(&common::run(&["run", &spec, "--dir", &below(scratch.path(), "bad"), "-q"]));
        assert!(code == 2 && err.contains(expected), "{to}: {code} {err}");
    }
}

/// Snapshots of decaying flows, from pde-data.
fn flows(scratch: &Path) {
    let flow = "schema = 1\nname = \"flow\"\nworkload = \"pde-data\"\nseed = 4\n[problem]\nequation = \"navier-stokes\"\nsamples = \
        6\n[problem.grid]\npoints = 48\nlength = \"2*pi\"\n[problem.time]\nstep = 5e-3\nstart = 0.2\nevery = 0.05\nsnapshots = \
        8\n[problem.flow]\nviscosity = 2e-2\nforcing = \"0.3*cos(2*y)\"\n[problem.initial]\nkind = \"mcwilliams\"\n[problem.output]\npoints = 32\n";
    let spec = job(scratch, "flow.toml", flow);
    let (code, _, err) = told(&common::run(&["run", &spec, "--dir", &below(scratch, "flows"), "-q"]));
    assert_eq!(code, 0, "{err}");
}

const TURBULENCE: &str = "schema = 1\nname = \"st\"\nworkload = \"neural-operator\"\nseed = 3\n[problem]\ntask = \"train\"\n[problem.data]\nfile \
    = \"flows\"\ndimension = 2\ninput = { array = \"/result/vorticity\", channels = [0, 4] }\ntarget = { array = \"/result/vorticity\", channels \
    = [4, 8] }\nsamples = 4\n[[problem.test]]\nname = \"unseen\"\nfile = \"flows\"\nfirst = 4\n[problem.model]\nkind = \"st-fno\"\nwidth = \
    4\nmodes = [4, 4, 2]\nlayers = 2\n[problem.training]\nepochs = 6\nbatch = 2\nrate = 1e-2\n";

/// Corrections of a spatiotemporal operator by the equation: parareal reaches the solver, the residual of the truth is small, and nothing
/// depends on the ranks.
#[test]
fn trajectories_of_an_operator_are_refined_by_their_equation() {
    let scratch = scratch();
    flows(scratch.path());
    let spec = job(scratch.path(), "train.toml", TURBULENCE);
    let trained = below(scratch.path(), "trained");
    let (code, _, err) = told(&common::run(&["run", &spec, "--dir", &trained, "-n", "1", "-q"]));
    assert_eq!(code, 0, "{err}");
    let loss = column(Path::new(&trained), "loss");
    assert!(loss[11] < loss[0], "{loss:?}");
    let refine = "schema = 1\nname = \"refine\"\nworkload = \"neural-operator\"\nseed = 1\n[problem]\ntask = \"refine\"\n\
        [problem.evaluation]\noperator = \"trained\"\n[problem.data]\ndimension = 2\n\
        input = { array = \"/result/vorticity\", channels = [0, 4] }\ntarget = { array = \"/result/vorticity\", channels = [4, 8] }\n\
        [[problem.test]]\nname = \"unseen\"\nfile = \"flows\"\nfirst = 3\n[problem.equation]\nlength = \"2*pi\"\nviscosity = 2e-2\n\
        forcing = \"0.3*cos(2*y)\"\n[problem.refinement]\nevery = 0.05\nsteps = 10\ncoarse = 1\nparareal = 4\ngauss_newton = 2\norder = \
        4\ndirect = [1, 10]\n";
    let dirs = [1, 2, 3].map(|ranks| {
        let dir = scratch.path().join(format!("refined{ranks}"));
        let job = JobText { path: scratch.path().join("refine.toml"), text: refine.to_owned() };
        for outcome in run_on_threads("neural-operator", job, ranks, &dir) {
            let outcome = outcome.expect("it runs");
            let (sent, planned) = (outcome.traffic.bytes, outcome.plan.bytes_sent_per_rank);
            assert!(sent <= planned, "{sent} bytes sent by one of {ranks}, {planned} planned");
            assert_eq!(outcome.steps, outcome.plan.steps);
            // Three samples; what the ways cost is what the plan says.
            let all: f64 = doubles(&dir, "flops").iter().sum();
            assert!((outcome.plan.work - 3.0 * all).abs() < 1e-9 * outcome.plan.work, "{} {all}", outcome.plan.work);
        }
        dir
    });
    let [error, residual, flops] = ["error", "residual", "flops"].map(|name| doubles(&dirs[0], name));
    let seconds = doubles(&dirs[0], "seconds");
    assert!(seconds.len() == flops.len() && seconds[1..].iter().all(|s| *s > 0.0), "{seconds:?}");
    for dir in &dirs[1..] {
        for (name, one) in [("error", &error), ("residual", &residual)] {
            let other = doubles(dir, name);
            assert!(
                one.iter().zip(&other).all(|(a, b)| (a - b).abs() < 1e-12 * (1.0 + a)),
                "{name}: {one:?} {other:?}"
            );
        }
    }
    // data; solver 1, 10; then persistence, coarse solver, operator with two rounds and four iterations each.
    assert_eq!(error.len(), 3 + 3 * 7);
    assert!(error[0] == 0.0 && error[2] < 1e-6 && error[1] > error[2], "{error:?}");
    for first in [3, 10, 17] {
        let (start, newton, parareal) = (first, &error[first + 1..first + 3], &error[first + 3..first + 7]);
        // The data have single precision, and that of their first snapshot stays.
        assert!(parareal[3] < 1e-6 && parareal[0] < 0.2 * error[start].max(1e-5), "{first}: {error:?}");
        assert!(newton[1] < 0.1 * error[start].max(1e-2), "{first}: {error:?}");
        // Backward differences are off the truth by their own error: what is found has less than the truth's residual.
        assert!(residual[first + 2] < residual[0], "{first}: {residual:?}");
    }
    assert!(residual[17] > 10.0 * residual[0], "{residual:?}");
    // What is shown are the operator's snapshots after the last correction, of parareal or, without it, of Gauss and Newton.
    let newton = refine.replace("parareal = 4", "parareal = 0").replace("direct = [1, 10]", "direct = []");
    let (spec, dir) = (job(scratch.path(), "newton.toml", &newton), below(scratch.path(), "newton"));
    let (code, _, err) = told(&common::run(&["run", &spec, "--dir", &dir, "-n", "1", "-q"]));
    assert_eq!(code, 0, "{err}");
    for (dir, most) in [(dirs[0].as_path(), 1e-5), (Path::new(&dir), 1e-2)] {
        let (found, targets) = (doubles(dir, "refined"), doubles(dir, "targets"));
        let square = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>();
        let off = square(&mut found.iter().zip(&targets).map(|(a, b)| a - b));
        assert!((off / square(&mut targets.iter().copied())).sqrt() < most, "{}: {off:e}", dir.display());
    }
    // Four snapshots by ten steps are ten times those by one.
    assert!((flops[2] / flops[1] - 10.0).abs() < 1e-12, "{flops:?}");
    for (from, to, expected) in [
        ("order = 4", "order = 5", "at most 4, the snapshots of the input"),
        ("2e-2", "-1.0", "problem.equation.viscosity = -1"),
        ("cos(2*y)", "cos(2*z)", "problem.equation.forcing"),
        ("cos(2*y)", "cos(20*y)", "raise problem.refinement.points"),
        ("direct = [1, 10]", "direct = [0]", "problem.refinement.direct"),
        ("task = \"refine\"", "task = \"evaluate\"", "problem.equation"),
    ] {
        let spec = job(scratch.path(), "bad.toml", &refine.replace(from, to));
        let (code, _, err) = told(&common::run(&["run", &spec, "--dir", &below(scratch.path(), "bad"), "-q"]));
        assert!(code == 2 && err.contains(expected), "{to}: {code} {err}");
    }
    for (from, to, expected) in [
        ("modes = [4, 4, 2]", "modes = [4, 4, 4]", "problem.model.modes = 4"),
        ("modes = [4, 4, 2]", "modes = [4, 4]", "3 numbers, one for x, y and t"),
        ("width = 4", "width = 4\npadding = [1, 1]", "problem.model.padding"),
        ("width = 4", "width = 4\nlatent_steps = 5", "at most the 4 snapshots"),
        ("width = 4", "width = 4\nlifting = 8", "problem.model.lifting"),
        ("width = 4", "width = 4\nchannel_mlp = {}", "problem.model.channel_mlp"),
        ("dimension = 2", "dimension = 2\nnormalise = \"channels\"", "not with kind = \"st-fno\""),
    ] {
        let spec = job(scratch.path(), "bad.toml", &TURBULENCE.replace(from, to));
        let (code, _, err) = told(&common::run(&["run", &spec, "--dir", &below(scratch.path(), "bad"), "-q"]));
        assert!(code == 2 && err.contains(expected), "{to}: {code} {err}");
    }
}

/// What is kept is the best of all looks, training ends when none was better for long, and averages of parameters do not tremble.
#[test]
fn training_ends_when_nothing_gets_better() {
    let scratch = scratch();
    waves(&scratch.path().join("train.h5"), 20, 16);
    waves(&scratch.path().join("fine.h5"), 12, 40);
    let text = text(&[
        ("epochs = 30", "epochs = 400\naverage = 0.9\npatience = 4\nschedule = \"constant\""),
        ("rate = 1e-2", "rate = 3e-2"),
        ("layers = 2", "layers = 2\npadding = [3]"),
    ]);
    let dirs = [1, 2].map(|ranks| {
        let dir = scratch.path().join(format!("run{ranks}"));
        let job = JobText { path: scratch.path().join("job.toml"), text: text.clone() };
        for outcome in run_on_threads("neural-operator", job, ranks, &dir) {
            let outcome = outcome.expect("it runs");
            assert!(outcome.steps < outcome.plan.steps && outcome.traffic.bytes <= outcome.plan.bytes_sent_per_rank);
        }
        dir
    });
    let looks: Vec<f64> = column(&dirs[0], "test").into_iter().skip(1).step_by(2).collect();
    let best = looks.iter().copied().fold(f64::INFINITY, f64::min);
    assert!(
        looks[looks.len() - 5..].iter().skip(1).all(|error| *error > best) && looks[looks.len() - 5] == best,
        "{looks:?}"
    );
    let kept = figure(&dirs[0], "relative_l2_fine");
    assert!((kept - best).abs() < 1e-12 * best, "{kept} {best}");
}

/// Velocities without divergence, whatever the operator; the loss is that of the projected ones.
#[test]
fn a_divergence_free_operator_gives_velocities_without_divergence() {
    let scratch = scratch();
    let n = 12;
    let mut random = fastrand::Rng::with_seed(7);
    let values: Vec<f64> = (0..10 * 2 * n * n).map(|_| random.f64() - 0.5).collect();
    write_arrays(&scratch.path().join("train.h5"), &[("a", &[10, 2, n, n], &values), ("u", &[10, 2, n, n], &values)]);
    let text = "schema = 1\nname = \"free\"\nworkload = \"neural-operator\"\nseed = 3\n[problem]\ntask = \"train\"\n[problem.data]\n\
        file = \"train.h5\"\ndimension = 2\ninput = { array = \"/a\" }\ntarget = { array = \"/u\" }\n[[problem.test]]\nname = \"test\"\n\
        file = \"train.h5\"\n[problem.model]\nkind = \"fno\"\nwidth = 4\nmodes = [3, 3]\nlayers = 2\nprojection = 8\n\
        divergence_free = true\n[problem.training]\nepochs = 2\nbatch = 5\nrate = 1e-2\nprecision = \"double\"\ntorch_cfd = 0\n";
    let spec = job(scratch.path(), "job.toml", text);
    let dir = below(scratch.path(), "run");
    let (code, _, err) = told(&common::run(&["run", &spec, "--dir", &dir, "-n", "1", "-q"]));
    assert_eq!(code, 0, "{err}");
    let velocities = doubles(Path::new(&dir), "test_predictions");
    for velocity in velocities.chunks(2 * n * n) {
        let mut largest: f64 = 0.0;
        // k·û by naive sums, k below the Nyquist mode.
        for (kx, ky) in (-5i32..6).flat_map(|kx| (0..6).map(move |ky| (kx, ky))) {
            let mut sum = [0.0; 2];
            for (i, (u, v)) in velocity[..n * n].iter().zip(&velocity[n * n..]).enumerate() {
                let turns = f64::from(kx) * (i / n) as f64 / n as f64 + f64::from(ky) * (i % n) as f64 / n as f64;
                let (sin, cos) = (TAU * turns).sin_cos();
                let along = f64::from(kx) * u + f64::from(ky) * v;
                sum = [sum[0] + along * cos, sum[1] - along * sin];
            }
            largest = largest.max(sum[0].hypot(sum[1]) / (n * n) as f64);
        }
        assert!(largest < 1e-12, "{largest:e}");
        assert!(velocity.iter().any(|v| v.abs() > 1e-3));
    }
    let spec = job(scratch.path(), "bad.toml", &text.replace("\"/u\" }", "\"/u\", channels = [0, 1] }"));
    let (code, _, err) = told(&common::run(&["run", &spec, "--dir", &below(scratch.path(), "bad"), "-q"]));
    assert!(code == 2 && err.contains("problem.model.divergence_free") && err.contains("1 channels"), "{code} {err}");
}

/// Matrices shared out by modes, and points by rows: the same losses and weights as on one rank, on ranks that divide them and ranks that do not;
/// bytes sent are those of the formula, fewer where the plan says so; and a stop on three ranks goes on on two with samples shared.
#[test]
fn matrices_and_points_shared_out_learn_the_same() {
    let scratch = scratch();
    flows(scratch.path());
    // Narrow and with many modes: matrices are most of the parameters.
    let fno = TURBULENCE
        .replace(
            "kind = \"st-fno\"\nwidth = 4\nmodes = [4, 4, 2]",
            "kind = \"fno\"\nwidth = 12\nmodes = [5, 6]\nprojection = 8",
        )
        .replace("rate = 1e-2\n", "rate = 1e-2\nprecision = \"double\"\nshared = \"modes\"\nclip = 0.5\n");
    let st = TURBULENCE.replace("rate = 1e-2\n", "rate = 1e-2\nprecision = \"double\"\nshared = \"modes\"\n");
    let space = fno.replace("\"modes\"", "\"space\"").replace("projection = 8", "projection = 8\npadding = [3, 2]");
    let st_space = st.replace("\"modes\"", "\"space\"\ntorch_cfd = 0");
    for (kind, text) in [("fno", &fno), ("st", &st), ("space", &space), ("st-space", &st_space)] {
        let run = |ranks: usize, text: &str, name: &str| {
            let dir = scratch.path().join(format!("{kind}-{name}-{ranks}"));
            let job = JobText { path: scratch.path().join("job.toml"), text: text.to_owned() };
            let outcomes = run_on_threads("neural-operator", job, ranks, &dir);
            let bytes = outcomes.into_iter().map(|outcome| {
                let outcome = outcome.expect("it runs");
                let (sent, planned) = (outcome.traffic.bytes, outcome.plan.bytes_sent_per_rank);
                assert!(sent <= planned, "{kind} {name}: {sent} bytes sent by one of {ranks}, {planned} planned");
                sent
            });
            (bytes.max().expect("a rank"), dir)
        };
        let (_, one) = run(1, text, "modes");
        let by_points = text.contains("\"space\"");
        for ranks in 2..if kind == "fno" { 5 } else { 4 } {
            let (sent, dir) = run(ranks, text, "modes");
            for (name, most) in [("weights/layers.1.spectral", 1e-9), ("unseen_predictions", 1e-9)] {
                let (a, b) = (doubles(&one, name), doubles(&dir, name));
                let far = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
                assert!(a.len() == b.len() && far < most, "{kind} {name} on {ranks}: {far:e}");
            }
            let (a, b) = (column(&one, "loss"), column(&dir, "loss"));
            assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-12), "{kind} on {ranks}: {a:?} {b:?}");
            let [a, b] = [&one, &dir].map(|dir| figure(dir, "frmse_mid_unseen"));
            assert!((a - b).abs() < 1e-9 * a.abs(), "{kind} on {ranks}: {a} {b}");
            if by_points {
                continue;
            }
            let (summed, _) = run(ranks, &text.replace("\"modes\"", "\"samples\""), "samples");
            assert!(ranks > 2 || sent < summed, "{kind}: {sent} with modes shared out, {summed} with gradients summed");
        }
    }
    // The formula: 4 L B C K 16 (P − 1)/P bytes of coefficients a step, beside the sum of the other gradients.
    let shape = convoke::neural_operator::model::Shape::Fno(convoke::neural_operator::fno::FnoShape {
        input: 4,
        output: 4,
        width: 12,
        layers: 2,
        modes: vec![5, 6],
        projection: 8,
        padding: vec![0, 0],
        lifting: None,
        channel_mlp: None,
        tucker: None,
        activations: 1,
    });
    let common: usize = shape.parts().each().filter(|p| !p.name.ends_with("spectral")).map(|p| p.range().len()).sum();
    let [samples, modes, points] = convoke::neural_operator::sharding::bytes_of_step(&shape, 4, 2, 8);
    assert_eq!(modes, (4 * 2 * 2 * 12 * 60 * 16 / 2 + 8 * common) as u64);
    // With points shared all samples are everywhere.
    assert_eq!(points, (4 * 2 * 4 * 12 * 60 * 16 / 2 + 8 * common) as u64);
    assert_eq!(samples, (8 * shape.parts().count()) as u64);
    for (text, key, why) in [
        (
            st_space.replace("width = 4", "width = 4\ndivergence_free = true"),
            "problem.training.shared",
            "divergence_free",
        ),
        (
            space.replace("dimension = 2", "dimension = 2\nnormalise = \"points\""),
            "problem.training.shared",
            "normalise",
        ),
    ] {
        let spec = job(scratch.path(), "bad.toml", &text);
        let (code, _, err) =
            told(&common::run(&["run", &spec, "--dir", &below(scratch.path(), "bad"), "-n", "2", "-q"]));
        assert!(code == 2 && err.contains(key) && err.contains(why), "{code} {err}");
    }
    let spec = job(scratch.path(), "parts.toml", &(fno.clone() + "[checkpoint]\nevery_steps = 5\n"));
    let parts = below(scratch.path(), "parts");
    let first = told(&common::run(&["run", &spec, "--dir", &parts, "-n", "3", "--stop-after", "5", "-q"]));
    assert_eq!(first.0, 75, "{}", first.2);
    let (code, _, err) = told(&common::run(&["resume", &parts, "-n", "2", "-q"]));
    assert_eq!(code, 0, "{err}");
    let (a, b) = (column(&scratch.path().join("fno-modes-1"), "loss"), column(Path::new(&parts), "loss"));
    assert!(a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-12), "{a:?} {b:?}");
}
