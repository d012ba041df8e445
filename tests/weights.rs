//! Parameters of operators as .safetensors, to other programs and back; operators of PyTorch give the same here.
#![allow(clippy::print_stderr, reason = "a skipped test says why")]

mod common;

use std::path::Path;
use std::process::Command;

use common::{below, doubles, job, python_with, scratch, told, write_arrays};
use convoke_data::formats::npy;
use convoke_data::formats::safetensors::{SafetensorsReader, SafetensorsWriter};

/// A training on `data.h5`, of `a` to `u`.
fn text(dimension: usize, model: &str, training: &str) -> String {
    format!(
        "schema = 1\nname = \"w\"\nworkload = \"neural-operator\"\nseed = 3\n[problem]\ntask = \"train\"\n[problem.data]\n\
         file = \"data.h5\"\ndimension = {dimension}\ninput = {{ array = \"/a\" }}\ntarget = {{ array = \"/u\" }}\nnormalise = \
         \"none\"\n[[problem.test]]\nname = \"test\"\nfile = \"data.h5\"\n[problem.model]\n{model}\n[problem.training]\nbatch = \
         3\nrate = 1e-2\n{training}\n"
    )
}

/// Random samples of so many channels on a grid.
fn data(dir: &Path, channels: [usize; 2], points: &[usize]) {
    let mut random = fastrand::Rng::with_seed(9);
    let [a, u] = channels.map(|channels| {
        let shape = [&[5, channels], points].concat();
        let values: Vec<f64> = (0..shape.iter().product()).map(|_| random.f64() - 0.3).collect();
        (shape, values)
    });
    write_arrays(&dir.join("data.h5"), &[("a", &a.0, &a.1), ("u", &u.0, &u.1)]);
}

fn run(dir: &Path, name: &str, text: &str) -> (i32, String) {
    let spec = job(dir, &format!("{name}.toml"), text);
    let (code, _, err) = told(&common::run(&["run", &spec, "--dir", &below(dir, name), "-n", "1", "-q"]));
    (code, err)
}

fn weights(dir: &Path, run: &str, file: &str, more: &[&str]) -> (i32, String, String) {
    let (run, file) = (below(dir, run), below(dir, file));
    told(&common::run(&[&["weights", run.as_str(), file.as_str()], more].concat()))
}

const FNO_1D: &str = "kind = \"fno\"\nwidth = 4\nmodes = [3]\nlayers = 2\nprojection = 5\nactivations = 2";
const FNO_2D: &str = "kind = \"fno\"\nwidth = 4\nmodes = [2, 3]\nlayers = 2\nprojection = 5";
const WHOLE_2D: &str = "kind = \"fno\"\nwidth = 4\nmodes = [2, 3]\nlayers = 2\nprojection = 5\nlifting = 6\ntucker = [2, 3, 4, 1]\n\
                        channel_mlp = {}";
const ST_FNO: &str = "kind = \"st-fno\"\nwidth = 4\nmodes = [2, 3, 2]\nlayers = 3\nlatent_steps = 3";

/// What comes back from a file is what was written, bit by bit, in every layout and both precisions; coordinates of neuraloperator
/// are scaled and scaled back, to the last digit.
#[test]
fn operators_come_back_bit_by_bit() {
    for (dimension, model, channels, points, precision, layouts) in [
        (1, FNO_1D, [2, 3], vec![9], "double", ["fno", "neuraloperator"].as_slice()),
        (2, FNO_2D, [2, 3], vec![8, 7], "single", &["fno", "neuraloperator"]),
        (2, WHOLE_2D, [2, 3], vec![8, 7], "double", &["neuraloperator"]),
        (2, ST_FNO, [5, 4], vec![8, 7], "double", &["torch-cfd"]),
    ] {
        let scratch = scratch();
        let dir = scratch.path();
        data(dir, channels, &points);
        let training = |more: &str| text(dimension, model, &format!("precision = \"{precision}\"\n{more}"));
        let (code, err) = run(dir, "trained", &training("epochs = 1"));
        assert_eq!(code, 0, "{err}");
        let told = weights(dir, "trained", "whole.safetensors", &["--json"]);
        assert!(told.0 == 0 && told.1.contains(&format!("\"precision\": \"{precision}\"")), "{told:?}");
        let whole = std::fs::read(dir.join("whole.safetensors")).expect("weights");
        let mut starts = vec!["trained".to_owned(), "trained/result.h5".to_owned(), "whole.safetensors".to_owned()];
        for layout in layouts {
            let file = format!("{layout}.safetensors");
            let told = weights(dir, "trained", &file, &["--layout", layout]);
            assert!(told.0 == 0 && told.1.contains(&format!("as {layout} names them")), "{told:?}");
            starts.push(file);
        }
        for (i, start) in starts.iter().enumerate() {
            let (name, file) = (format!("again{i}"), format!("again{i}.safetensors"));
            let (code, err) = run(dir, &name, &training(&format!("epochs = 0\nstart = \"{start}\"")));
            assert_eq!(code, 0, "{start}: {err}");
            assert_eq!(weights(dir, &name, &file, &[]).0, 0);
            if !start.starts_with("neuraloperator") {
                assert!(std::fs::read(dir.join(&file)).expect("weights") == whole, "{model}: {start}");
                let [ours, theirs] = ["trained", &name].map(|run| doubles(&dir.join(run), "test_predictions"));
                assert!(ours == theirs, "{model}: {start}");
                continue;
            }
            let [a, b] = ["whole.safetensors", &file].map(|f| SafetensorsReader::open(dir.join(f)).expect("weights"));
            for key in a.names() {
                let bound = match (key.as_str(), precision) {
                    ("lift.0.weight" | "lift.weight", "single") => f64::from(f32::EPSILON),
                    ("lift.0.weight" | "lift.weight", _) => f64::EPSILON,
                    _ => 0.0,
                };
                let (a, b) = (a.read(&key).expect("a tensor"), b.read(&key).expect("a tensor"));
                assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() <= bound * a.abs()), "{model}: {key}");
            }
        }
    }
}

/// A file of weights is an operator to evaluate; means and deviations are in it, and come back.
#[test]
fn means_and_deviations_come_along() {
    let scratch = scratch();
    let dir = scratch.path();
    data(dir, [2, 2], &[9]);
    let channels = |training: &str| text(1, FNO_1D, training).replace("\"none\"", "\"channels\"");
    assert_eq!(run(dir, "trained", &channels("epochs = 1\nprecision = \"double\"")).0, 0);
    assert_eq!(weights(dir, "trained", "w.safetensors", &[]).0, 0);
    let start = "epochs = 0\nprecision = \"double\"\nstart = \"w.safetensors\"";
    let (code, err) = run(dir, "again", &channels(start));
    assert_eq!(code, 0, "{err}");
    let [ours, theirs] = ["trained", "again"].map(|run| doubles(&dir.join(run), "test_predictions"));
    assert_eq!(ours, theirs);
    let (code, err) = run(dir, "bare", &text(1, FNO_1D, start));
    assert!(code == 2 && err.contains("problem.training.start: problem.data.normalise of"), "{code} {err}");
    let evaluate = |operator: &str| {
        format!(
            "schema = 1\nname = \"e\"\nworkload = \"neural-operator\"\nseed = 1\n[problem]\ntask = \"evaluate\"\n[problem.data]\n\
             dimension = 1\ninput = {{ array = \"/a\" }}\ntarget = {{ array = \"/u\" }}\n[[problem.test]]\nname = \"test\"\nfile = \
             \"data.h5\"\n[problem.evaluation]\noperator = \"{operator}\"\n"
        )
    };
    let errors = ["trained", "w.safetensors"].map(|operator| {
        let name = format!("of-{operator}");
        let (code, err) = run(dir, &name, &evaluate(operator));
        assert_eq!(code, 0, "{err}");
        doubles(&dir.join(name), "test_error")
    });
    assert_eq!(errors[0], errors[1]);
    assert_eq!(weights(dir, "trained", "n.safetensors", &["--layout", "neuraloperator"]).0, 0);
    let (code, err) = run(dir, "other", &evaluate("n.safetensors"));
    assert!(code == 2 && err.contains("problem.evaluation.operator"), "{code} {err}");
}

/// A tensor's name and shape.
type Named = (String, Vec<usize>);

/// Code 2, with the key of the job, the file, the tensor, what it is and what it should be; before anything is computed.
#[test]
fn weights_that_do_not_fit_are_refused() {
    let scratch = scratch();
    let dir = scratch.path();
    data(dir, [2, 3], &[8, 7]);
    assert_eq!(run(dir, "trained", &text(2, FNO_2D, "epochs = 1\nprecision = \"double\"")).0, 0);
    for (layout, file) in
        [("fno", "fno.safetensors"), ("neuraloperator", "n.safetensors"), ("convoke", "c.safetensors")]
    {
        assert_eq!(weights(dir, "trained", file, &["--layout", layout]).0, 0);
    }
    assert_eq!(run(dir, "whole", &text(2, WHOLE_2D, "epochs = 0\nstart = \"whole\"")).0, 2);
    assert_eq!(run(dir, "whole", &text(2, WHOLE_2D, "epochs = 1")).0, 0);
    assert_eq!(weights(dir, "whole", "w.safetensors", &["--layout", "neuraloperator"]).0, 0);
    assert_eq!(weights(dir, "whole", "w2.safetensors", &["--layout", "fno"]).0, 2);
    // Like those, but for one tensor.
    let copy = |from: &str, to: &str, change: &dyn Fn(&str, Vec<usize>) -> Option<Named>, fill: f64| {
        let old = SafetensorsReader::open(dir.join(from)).expect("weights");
        let kept = |name: String| change(&name, old.shape(&name).expect("a shape"));
        let tensors: Vec<_> = old.names().into_iter().filter_map(kept).collect();
        let count = tensors.iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
        let mut new = SafetensorsWriter::<f64>::create(dir.join(to), ("by", "a test"), &tensors).expect("a file");
        new.write(&vec![fill; count]).expect("written");
        new.commit_new().expect("a file");
    };
    let same = |name: &str, shape: Vec<usize>| Some((name.to_owned(), shape));
    copy("fno.safetensors", "missing.safetensors", &|name, shape| same(name, shape).filter(|_| name != "w1.bias"), 0.1);
    let wide = |name: &str, shape| same(name, if name == "fc1.weight" { vec![6, 4] } else { shape });
    copy("fno.safetensors", "wide.safetensors", &wide, 0.1);
    copy("fno.safetensors", "nan.safetensors", &same, f64::NAN);
    let mlp = |name: &str, shape| {
        same(if name == "projection.fcs.1.bias" { "fno_blocks.channel_mlp.0.fcs.0.weight" } else { name }, shape)
    };
    copy("n.safetensors", "mlp.safetensors", &mlp, 0.1);
    copy("fno.safetensors", "unknown.safetensors", &|name, shape| same(&format!("net.{name}"), shape), 0.1);
    std::fs::write(dir.join("text.safetensors"), "weights").expect("written");
    for (start, model, expected) in [
        ("missing.safetensors", FNO_2D, "missing.safetensors has no tensor w1.bias; [4] is its due shape"),
        ("wide.safetensors", FNO_2D, "wide.safetensors has fc1.weight of shape [6, 4], and [5, 4] is due"),
        ("nan.safetensors", FNO_2D, "lift.weight gets a number that is not finite"),
        ("mlp.safetensors", FNO_2D, "channel_mlp = { expansion = 0.75, skip = \"linear\" }"),
        ("w.safetensors", FNO_2D, "w.safetensors has lifting.fcs.0.weight of shape [6, 4, 1], and [4, 4, 1] is due"),
        (
            "w.safetensors",
            FNO_2D,
            "problem.model with width = 4, layers = 2, lifting = 6, projection = 5, tucker = [2, 3, 4, 1]",
        ),
        ("fno.safetensors", WHOLE_2D, "without tucker, lifting and channel_mlp is due"),
        ("unknown.safetensors", FNO_2D, "has no tensors of a known operator"),
        ("text.safetensors", FNO_2D, "not a usable .safetensors file"),
        ("none.safetensors", FNO_2D, "no such file"),
        ("data.h5", FNO_2D, "data.h5: expected the directory of a run with task"),
        ("trained", &FNO_2D.replace("width = 4", "width = 6"), "the operator of"),
        ("fno.safetensors", &FNO_2D.replace("layers = 2", "layers = 1"), "has conv1.weights1 of shape"),
        ("c.safetensors", &FNO_2D.replace("[2, 3]", "[3, 3]"), "\"modes\":[2,3]"),
    ] {
        let (code, err) = run(dir, "bad", &text(2, model, &format!("epochs = 0\nstart = \"{start}\"")));
        assert!(code == 2 && err.contains("problem.training.start") && err.contains(expected), "{start}: {code} {err}");
        assert!(!dir.join("bad").exists(), "{start}");
    }
    let (code, err) = run(dir, "bad", &text(2, FNO_2D, "epochs = 0"));
    assert!(code == 2 && err.contains("problem.training.epochs = 0"), "{code} {err}");
    let before = std::fs::read(dir.join("fno.safetensors")).expect("weights");
    for (file, more, expected) in [
        ("fno.safetensors", [].as_slice(), "exists already"),
        ("new.safetensors", &["--layout", "torch-cfd"], "torch-cfd: no layout of this kind of operator"),
        ("new.bin", &[], "ends with .safetensors"),
    ] {
        let (code, _, err) = weights(dir, "trained", file, more);
        assert!(code == 2 && err.contains(expected), "{file}: {code} {err}");
        assert!(!dir.join("new.safetensors").exists() && !dir.join("new.bin").exists());
    }
    assert_eq!(weights(dir, "data.h5", "new.safetensors", &[]).0, 2);
    assert_eq!(std::fs::read(dir.join("fno.safetensors")).expect("weights"), before);
    assert_eq!(weights(dir, "trained", "fno.safetensors", &["--replace"]).0, 0);
    assert_ne!(std::fs::read(dir.join("fno.safetensors")).expect("weights"), before);
}

/// Operators of other programs with the weights that they wrote: outputs are equal to 1e-10 in double precision.
#[test]
fn operators_of_other_programs_give_the_same_here() {
    let pythons = ["safetensors.torch", "safetensors.torch, neuralop"].map(python_with);
    let fno = "kind = \"fno\"\nwidth = 6\nlayers = 3\nprojection = 12";
    for (layout, points, modes, complex, more, model) in [
        ("neuraloperator", vec![20], "[5]", "pairs", "\"n_modes\": [8]", format!("{fno}\nactivations = 2")),
        ("neuraloperator", vec![16, 15], "[4, 4]", "pairs", "\"n_modes\": [8, 7]", format!("{fno}\nactivations = 2")),
        ("neuraloperator", vec![12, 10], "[4, 3]", "single", "\"n_modes\": [7, 4]", format!("{fno}\nactivations = 2")),
        (
            "neuraloperator",
            vec![16, 15],
            "[4, 4]",
            "pairs",
            "\"n_modes\": [8, 7], \"lifting\": 12, \"skip\": \"soft-gating\"",
            format!("{fno}\nlifting = 12\nchannel_mlp = {{}}"),
        ),
        (
            "neuraloperator",
            vec![12, 10],
            "[4, 3]",
            "single",
            "\"n_modes\": [7, 4], \"lifting\": 7, \"skip\": \"linear\", \"expansion\": 1.3, \"rank\": [3, 4, 5, 2]",
            format!(
                "{fno}\nlifting = 7\ntucker = [3, 4, 5, 2]\nchannel_mlp = {{ expansion = 1.3, skip = \"linear\" }}"
            ),
        ),
        ("fno", vec![15], "[5]", "pairs", "\"x\": 0", fno.to_owned()),
        ("fno", vec![9, 10], "[2, 3]", "single", "\"x\": 0", fno.to_owned()),
        ("fno", vec![4, 7, 8], "[2, 3, 4]", "pairs", "\"x\": 0", fno.to_owned()),
        (
            "torch-cfd",
            vec![9, 10],
            "[3, 4, 2]",
            "pairs",
            "\"latent\": 4, \"growth\": -0.7",
            "kind = \"st-fno\"\nwidth = 6\nlayers = 3\nlatent_steps = 4\ngrowth = -0.7".to_owned(),
        ),
    ] {
        let Some(python) = &pythons[usize::from(layout == "neuraloperator")] else { continue };
        let st = layout == "torch-cfd";
        let [input, output] = if st { [5, 7] } else { [2, 3] };
        let scratch = scratch();
        let dir = scratch.path();
        let case = format!(
            "{{\"layout\": \"{layout}\", \"points\": {points:?}, \"modes\": {modes}, \"complex\": \"{complex}\", \"input\": {input}, \
             \"output\": {output}, \"width\": 6, \"layers\": 3, \"projection\": 12, {more}}}"
        );
        std::fs::write(dir.join("case.json"), case).expect("written");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/weights/write.py");
        let ran = Command::new(python).arg("-B").arg(script).arg(dir).output().expect("Python starts");
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        let [inputs, outputs] =
            ["inputs", "outputs"].map(|name| npy::read::<f64>(dir.join(format!("{name}.npy"))).expect("an array"));
        write_arrays(&dir.join("data.h5"), &[("a", &inputs.0, &inputs.1), ("u", &outputs.0, &outputs.1)]);
        let start = "epochs = 0\nstart = \"weights.safetensors\"\nprecision = \"double\"";
        let (code, err) = run(dir, "run", &text(points.len(), &format!("{model}\nmodes = {modes}"), start));
        assert_eq!(code, 0, "{layout}: {err}");
        let (ours, theirs) = (doubles(&dir.join("run"), "test_predictions"), outputs.1);
        let largest = theirs.iter().fold(0f64, |most, v| most.max(v.abs()));
        let far = ours.iter().zip(&theirs).fold(0f64, |most, (a, b)| most.max((a - b).abs())) / largest;
        eprintln!("{layout}, modes {modes} on {points:?}, {complex}: {far:.1e}");
        assert!(ours.len() == theirs.len() && far <= 1e-10, "{layout} {points:?}: {far:e}");
    }
}
