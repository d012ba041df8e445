//! A table of impossible cone-beam scans: each with its exact message and exit code 2, before anything is computed, and
//! with nothing written.

mod common;

use std::path::Path;

use common::{below, job, run, scratch, told};

const GOOD: &str = "schema = 1\nname = \"cone\"\nworkload = \"tomography\"\n[problem.phantom]\nkind = \"shepp-logan\"\nsize = 16\n\
angles = 30\narc_degrees = 360.0\n[problem.geometry]\nkind = \"circular\"\nsource_to_axis_mm = 64.0\n\
source_to_detector_mm = 96.0\npixel_mm = 1.5\n[problem.volume]\nvoxel_mm = 1.0\n[problem.method]\nalgorithm = \"fdk\"\n";

/// What was said, with the directory's name taken out.
fn said(dir: &Path, text: &str) -> (i32, String) {
    let spec = job(dir, "job.toml", text);
    let out = below(dir, "run");
    let (code, stdout, stderr) = told(&run(&["run", &spec, "--dir", &out, "-q"]));
    assert_eq!(stdout, "");
    if code == 2 {
        assert!(!Path::new(&out).exists(), "nothing is written");
    }
    (code, stderr.replace(&format!("{}/", dir.display()), "").trim().replace("convoke: error: ", ""))
}

/// `(what is replaced in the good job, by what, the message)`
const CASES: &[(&str, &str, &str)] = &[
    (
        "source_to_axis_mm = 64.0",
        "source_to_axis_mm = 10.0",
        "job.toml:11:21: problem.geometry.source_to_axis_mm = 10: expected more than 11.313708, half the diagonal of the volume's slices: the source would be inside the volume",
    ),
    (
        "source_to_detector_mm = 96.0",
        "source_to_detector_mm = 60.0",
        "job.toml:12:25: problem.geometry.source_to_detector_mm = 60: expected more than source_to_axis_mm = 64: the detector would be before the axis",
    ),
    (
        "source_to_detector_mm = 96.0",
        "source_to_detector_mm = 70.0",
        "job.toml:12:25: problem.geometry.source_to_detector_mm = 70: expected more than 75.313708, source_to_axis_mm and half the diagonal of the volume's slices: the detector would be inside the volume",
    ),
    ("angles = 30", "angles = 1", "job.toml:7:10: problem.phantom.angles = 1: expected 2 to 1000000"),
    (
        "pixel_mm = 1.5",
        "pixel_mm = 1.5\ndetector_shift_mm = [0.0, 500.0]",
        "job.toml:9:1: problem.geometry: view 0 sees nothing of the volume: no ray from the source to the detector meets it\n  help: lengths are in mm, (x, y, z) with the rotation axis along z; see jobs/tomography/README.md",
    ),
    (
        "pixel_mm = 1.5",
        "pixel_mm = -1.5",
        "job.toml:13:12: problem.geometry.pixel_mm = -1.5: expected 0.000000001 to 1000000",
    ),
    ("pixel_mm = 1.5\n", "", "job.toml:9:1: problem.geometry: kind \"circular\" needs pixel_mm"),
    (
        "pixel_mm = 1.5",
        "pixel_mm = 1.5\nrise_per_turn_mm = 3.0",
        "job.toml:14:20: problem.geometry.rise_per_turn_mm: kind \"circular\" has no such key",
    ),
    (
        "arc_degrees = 360.0",
        "arc_degrees = 150.0",
        "job.toml:17:13: problem.method.algorithm: fdk does not fit: the views cover 145.0 degrees, and half a turn with the fan of 13.4 degrees is 193.4\n  help: problem.phantom.arc_degrees is 180 unless it says 360, or less for a short scan; an iterative algorithm takes any angles",
    ),
    (
        "\"fdk\"",
        "\"fbp\"",
        "job.toml:17:13: problem.method.algorithm = \"fbp\": expected an algorithm for beams from a point\n  help: \"fdk\" is the filtered back projection of cone beams",
    ),
    (
        "\"fdk\"",
        "\"fdk\"\nprojector = \"joseph\"",
        "job.toml:18:13: problem.method.projector: algorithm \"fdk\" has no such key\n  help: it goes from voxel to voxel; iterative algorithms have \"linear\" and \"joseph\"",
    ),
    (
        "kind = \"circular\"",
        "kind = \"helical\"\nrise_per_turn_mm = 4.0",
        "job.toml:18:13: problem.method.algorithm = \"fdk\": expected an iterative algorithm, for a helix\n  help: fdk needs a source on a circle; \"cgls\" or \"os-sart\" take any geometry",
    ),
];

#[test]
fn impossible_scans_are_refused_with_their_key() {
    let scratch = scratch();
    assert_eq!(said(scratch.path(), GOOD), (0, String::new()));
    for (from, to, message) in CASES {
        assert!(GOOD.contains(from), "{from}");
        std::fs::remove_dir_all(scratch.path().join("run")).ok();
        assert_eq!(said(scratch.path(), &GOOD.replace(from, to)), (2, (*message).to_owned()));
    }
}

#[test]
fn impossible_vectors_are_refused_with_their_view_or_line() {
    let scratch = scratch();
    let start = GOOD.find("kind = \"circular\"").expect("a kind");
    let end = GOOD.find("[problem.volume]").expect("a volume");
    let text = format!("{}kind = \"vectors\"\nfile = \"v.txt\"\n{}", &GOOD[..start], &GOOD[end..]).replace("30", "3");
    let good = "0 -64 0  0 32 0  1.5 0 0  0 0 1.5\n";
    for (third, message) in [
        (
            "0 -4 0  0 32 0  1.5 0 0  0 0 1.5",
            "job.toml:9:1: problem.geometry: view 2 has its source inside the volume\n  help: lengths are in mm, (x, y, z) with the rotation axis along z; see jobs/tomography/README.md",
        ),
        (
            "0 -64 0  0 -80 0  1.5 0 0  0 0 1.5",
            "job.toml:9:1: problem.geometry: view 2 has the volume behind its source\n  help: lengths are in mm, (x, y, z) with the rotation axis along z; see jobs/tomography/README.md",
        ),
        (
            "0 -64 0  0 32 0  1.5 0 0  3 0 0",
            "job.toml:9:1: problem.geometry: view 2 has a detector whose columns and rows run along one line\n  help: lengths are in mm, (x, y, z) with the rotation axis along z; see jobs/tomography/README.md",
        ),
        (
            "0 -64 0  0 32 0  1.5 0 0",
            "v.txt: not a usable geometry file: line 3: 9 numbers, expected 12: source, middle of the detector, U, V, each as x y z",
        ),
        (
            "",
            "job.toml:7:10: problem.phantom.angles = 3 projections: expected 2, the number of views of problem.geometry",
        ),
    ] {
        std::fs::write(scratch.path().join("v.txt"), format!("{good}{good}{third}\n")).expect("written");
        assert_eq!(said(scratch.path(), &text), (2, message.to_owned()));
    }
}
