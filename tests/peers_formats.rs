//! Exports against the libraries that read them (NumPy, h5py, csv, VTK), where CONVOKE_PYTHON has them.
#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]
#![allow(clippy::print_stderr, reason = "a skipped test says why")]

mod common;

use std::path::Path;
use std::process::Command;

use common::{run, scratch, told};
use convoke_data::store::{Element, Writer};

/// A file with one array of named axes.
fn array<T: Element>(path: &Path, name: &str, shape: &[usize], values: &[T], axes: (&str, &[f64], &[f64])) {
    let mut file = Writer::create(path).unwrap();
    let name = format!("/result/{name}");
    file.whole(&name, shape, values).unwrap();
    file.attribute(&name, "axes", axes.0).unwrap();
    file.attribute(&name, "origin", axes.1).unwrap();
    file.attribute(&name, "spacing", axes.2).unwrap();
    file.attribute(&name, "units", "1/m").unwrap();
    if name == "/result/mu" {
        file.whole("/history/residual", &[3], &[1.0, 0.1, 0.01]).unwrap();
    }
    file.commit_new().unwrap();
}

#[test]
fn numpy_h5py_and_vtk_read_what_was_exported() {
    let Some(python) = std::env::var_os("CONVOKE_PYTHON") else {
        return eprintln!("skipped: CONVOKE_PYTHON is not set");
    };
    if !Command::new(&python).args(["-c", "import numpy, h5py"]).output().is_ok_and(|o| o.status.success()) {
        return eprintln!("skipped: CONVOKE_PYTHON has no numpy or no h5py");
    }
    let scratch = scratch();
    let path = |name: &str| scratch.path().join(name);
    let digits =
        |n: usize| -> Vec<f32> { (0..n * 30).map(|k| (k / 30 * 100 + k / 6 % 5 * 10 + k % 6) as f32).collect() };
    array(&path("volume.h5"), "mu", &[4, 5, 6], &digits(4), ("z:y:x", &[-3.0, 0.0, 0.0], &[2.0, 0.5, 0.5]));
    array(&path("plane.h5"), "w", &[3, 5, 6], &digits(3), ("t:y:x", &[0.0; 3], &[0.1, 1.0, 1.0]));
    array(&path("flat.h5"), "v", &[1, 5, 6], &digits(1), ("z:y:x", &[0.0; 3], &[1.0; 3]));
    let u: Vec<f64> = (0..12).map(|k| f64::from(10 * (k / 3) + k % 3)).collect();
    array(&path("field.h5"), "u", &[4, 3], &u, ("x:t", &[0.0, 1.0], &[0.5, 0.25]));
    for (name, formats) in [
        ("volume", &["npz", "csv", "the-well", "vtkhdf"][..]),
        ("plane", &["vtkhdf"]),
        ("flat", &["vtkhdf"]),
        ("field", &["pdebench"]),
    ] {
        for format in formats {
            let file = path(&format!("{name}.h5")).display().to_string();
            let (code, _, err) = told(&run(&["analyse", "export", &file, "--format", format]));
            assert_eq!(code, 0, "{format}: {err}");
        }
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/formats/read.py");
    let output = Command::new(&python).arg("-B").arg(script).arg(scratch.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    eprintln!("{}", String::from_utf8_lossy(&output.stdout).trim());
}
