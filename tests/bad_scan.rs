//! A table of unusable scans: each with its exact message and exit code 2, before anything is
//! computed, and with nothing written.

mod common;

use std::fs;
use std::path::Path;

use common::{below, job, run, scratch, told};
use convoke_data::store::Writer;

const ANGLES: usize = 12;
const ROWS: usize = 2;
const COLS: usize = 16;

/// A scan that works, to be spoiled: `change` sees every dataset before it is written.
struct Scan {
    data: (Vec<usize>, Vec<f32>),
    white: Option<(Vec<usize>, Vec<f32>)>,
    dark: Option<(Vec<usize>, Vec<f32>)>,
    theta: Option<Vec<f64>>,
    name: &'static str,
}

impl Scan {
    fn good() -> Self {
        Self {
            data: (vec![ANGLES, ROWS, COLS], vec![700.0; ANGLES * ROWS * COLS]),
            white: Some((vec![3, ROWS, COLS], vec![1000.0; 3 * ROWS * COLS])),
            dark: Some((vec![1, ROWS, COLS], vec![100.0; ROWS * COLS])),
            theta: Some((0..ANGLES).map(|i| 15.0 * i as f64).collect()),
            name: "/exchange/data",
        }
    }

    fn write(&self, path: &Path) {
        let mut file = Writer::create(path).expect("a file");
        file.whole(self.name, &self.data.0, &self.data.1).expect("written");
        for (name, stack) in [("/exchange/data_white", &self.white), ("/exchange/data_dark", &self.dark)] {
            if let Some((shape, values)) = stack {
                file.whole(name, shape, values).expect("written");
            }
        }
        if let Some(theta) = &self.theta {
            file.whole("/exchange/theta", &[theta.len()], theta).expect("written");
        }
        file.commit_replace().expect("committed");
    }
}

/// Runs a job on the scan; what was said, with the directory's name taken out.
fn said(dir: &Path, more: &str) -> (i32, String) {
    let text = format!(
        "schema = 1\nname = \"scan\"\nworkload = \"tomography\"\n[problem.scan]\nfile = \"scan.h5\"\n{more}\n\
         [problem.centre]\ncolumn = 7.5\n[problem.method]\nalgorithm = \"fbp\"\n"
    );
    let spec = job(dir, "job.toml", &text);
    let out = below(dir, "run");
    let (code, stdout, stderr) = told(&run(&["run", &spec, "--dir", &out, "-q"]));
    assert_eq!(stdout, "");
    if code == 2 {
        assert!(!Path::new(&out).exists(), "nothing is written");
    }
    (code, stderr.replace(&format!("{}/", dir.display()), "").trim().replace("convoke: error: ", ""))
}

#[test]
fn a_good_scan_works() {
    let scratch = scratch();
    Scan::good().write(&scratch.path().join("scan.h5"));
    assert_eq!(said(scratch.path(), ""), (0, String::new()));
}

#[test]
fn unusable_files() {
    let scratch = scratch();
    let dir = scratch.path();
    let file = dir.join("scan.h5");
    assert_eq!(
        said(dir, ""),
        (2, "scan.h5: no such file or folder; check the path (it is relative to the current folder)".into())
    );
    fs::create_dir(&file).expect("made");
    assert_eq!(said(dir, ""), (2, "scan.h5: is a folder, not a regular file; name the file itself".into()));
    fs::remove_dir(&file).expect("removed");
    fs::write(&file, "").expect("written");
    assert_eq!(
        said(dir, ""),
        (
            2,
            "scan.h5: the file is empty (0 bytes); the program that wrote it probably died: write or copy it again"
                .into()
        )
    );
    fs::write(&file, "II*\0 this is a TIFF").expect("written");
    let (code, message) = said(dir, "");
    assert_eq!(code, 2);
    assert!(message.starts_with("scan.h5: not an HDF5 file (it starts with "), "{message}");
    Scan::good().write(&file);
    let bytes = fs::read(&file).expect("read");
    fs::write(&file, &bytes[..bytes.len() / 2]).expect("written");
    let (code, message) = said(dir, "");
    assert_eq!(code, 2);
    assert!(message.starts_with("scan.h5: the file is truncated ("), "{message}");
}

/// `(how the scan is spoiled, more keys of [problem.scan], the message)`
type Case = (fn(&mut Scan), &'static str, &'static str);

const CASES: &[Case] = &[
    (
        |s| s.name = "/exchange/dta",
        "",
        "scan.h5: no dataset /exchange/data (did you mean /exchange/dta?); the file has: /exchange/data_dark, /exchange/data_white, /exchange/dta, /exchange/theta",
    ),
    (
        |s| s.data = (vec![ANGLES, COLS], vec![700.0; ANGLES * COLS]),
        "",
        "scan.h5: /exchange/data has 2 axes, expected 3: angle, row, column",
    ),
    (
        |s| s.theta = Some(vec![0.0; 5]),
        "",
        "scan.h5: /exchange/theta has shape [5], expected [12], one angle per projection of /exchange/data",
    ),
    (
        |s| s.theta = Some(vec![f64::NAN; ANGLES]),
        "",
        "scan.h5: /exchange/theta holds 12 values that are NaN or infinite, the first at index [0]; mask or repair them",
    ),
    (
        |s| s.data.1[5 * ROWS * COLS + COLS + 3] = f32::NAN,
        "",
        "scan.h5: /exchange/data holds 1 values that are NaN or infinite, the first at index [5, 1, 3]; mask or repair them",
    ),
    (
        |s| s.data.1[7] = f32::INFINITY,
        "",
        "scan.h5: /exchange/data holds 1 values that are NaN or infinite, the first at index [0, 0, 7]; mask or repair them",
    ),
    (
        |s| s.white = Some((vec![3, ROWS, COLS], vec![0.0; 3 * ROWS * COLS])),
        "",
        "scan.h5: detector row 0: the white field is not above the dark field; check the shutter, or leave this row out with `rows`",
    ),
    (
        |s| s.white = Some((vec![3, ROWS, COLS + 1], vec![1000.0; 3 * ROWS * (COLS + 1)])),
        "",
        "scan.h5: /exchange/data_white has shape [3, 2, 17], expected [n, 2, 16] as the frames of /exchange/data",
    ),
    (
        |s| s.dark = Some((vec![1, ROWS + 1, COLS], vec![100.0; (ROWS + 1) * COLS])),
        "",
        "scan.h5: /exchange/data_dark has shape [1, 3, 16], expected [n, 2, 16] as the frames of /exchange/data",
    ),
    (
        |_| (),
        "angle_unit = \"radians\"",
        "scan.h5: theta spans 165.0 radians, which is 26 turns; expected at most 4 turns. Are these degrees? Set angle_unit = \"degrees\" in [problem.scan]",
    ),
    (
        |s| s.theta = Some((0..ANGLES).map(|i| (15.0 * i as f64).to_radians()).collect()),
        "",
        "scan.h5: theta spans 2.8798 degrees for 12 projections. Are these radians? Set angle_unit = \"radians\" (or \"degrees\" if it is right) in [problem.scan]",
    ),
    (|_| (), "rows = [1, 3]", "job.toml:6:8: problem.scan.rows = [1, 3]: expected within the 2 rows of scan.h5"),
    (
        |_| (),
        "rows = [1, 1]",
        "job.toml:6:8: problem.scan.rows = [1, 1]: expected [first, last + 1] with first < last + 1",
    ),
    (
        |_| (),
        "rows = [0, 1, 2]",
        "job.toml:6:8: problem.scan.rows = [0, 1, 2]: expected [first, last + 1] with first < last + 1",
    ),
    (|_| (), "pixel_size_mm = -1.0", "job.toml:6:17: problem.scan.pixel_size_mm = -1: expected 0.000000001 to 1000"),
    (
        |_| (),
        "min_transmission = 0.0",
        "job.toml:6:20: problem.scan.min_transmission = 0: expected 0.000000000001 to 0.5",
    ),
    (
        |_| (),
        "whites_before = 4",
        "job.toml:6:17: problem.scan.whites_before = 4: expected at least 1 and less than the 3 white frames of scan.h5",
    ),
    (
        |_| (),
        "[problem.scan.phase]\nenergy_kev = 20.0\ndistance_mm = 100.0\ndelta_over_beta = 500.0",
        "job.toml:6:1: problem.scan.phase: needs problem.scan.pixel_size_mm",
    ),
    (
        |_| (),
        "pixel_size_mm = 0.001\n[problem.scan.phase]\ndistance_mm = 100.0\ndelta_over_beta = 500.0",
        "job.toml:7:1: problem.scan.phase: needs one of energy_kev and wavelength_nm",
    ),
    (
        |_| (),
        "pixel_size_mm = 0.001\n[problem.scan.phase]\nenergy_kev = 20.0\ndelta_over_beta = 500.0",
        "job.toml:7:1: problem.scan.phase: needs distance_mm",
    ),
    (
        |_| (),
        "pixel_size_mm = 0.001\n[problem.scan.phase]\nenergy_kev = -20.0\ndistance_mm = 100.0\ndelta_over_beta = 500.0",
        "job.toml:8:14: problem.scan.phase.energy_kev = -20: expected 0.001 to 10000",
    ),
    (
        |_| (),
        "pixel_size_mm = 0.001\n[problem.scan.phase]\nenergy_kev = 20.0\ndistance_mm = 1e6\ndelta_over_beta = 500.0",
        "job.toml:7:1: problem.scan.phase: blurs over 1571 pixels, more than the detector's 16 columns\n  help: check the units: keV, nm, mm",
    ),
    // A row beside those in use that has no beam, and that phase retrieval needs.
    (
        |s| {
            s.white.as_mut().expect("white frames").1.iter_mut().enumerate().for_each(|(i, v)| {
                if i / COLS % ROWS == 1 {
                    *v = 0.0
                }
            })
        },
        "rows = [0, 1]\npixel_size_mm = 0.001\n[problem.scan.phase]\nenergy_kev = 20.0\ndistance_mm = 1.0\ndelta_over_beta = 500.0",
        "scan.h5: detector row 1: the white field is not above the dark field; phase retrieval needs it, 34 rows beside `rows`",
    ),
    (|_| (), "angle_unit = \"turns\"", "job.toml:6:14: unknown variant `turns`, expected `degrees` or `radians`"),
];

#[test]
fn spoiled_scans() {
    let scratch = scratch();
    let dir = scratch.path();
    let mut wrong = Vec::new();
    for (spoil, more, expected) in CASES {
        let mut scan = Scan::good();
        spoil(&mut scan);
        scan.write(&dir.join("scan.h5"));
        let got = said(dir, more);
        if got != (2, (*expected).to_owned()) {
            wrong.push(format!("said     {got:?}\n  expected {expected:?}"));
        }
        let _ = fs::remove_dir_all(dir.join("run"));
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), CASES.len(), wrong.join("\n"));
}

#[test]
fn text_instead_of_numbers() {
    let scratch = scratch();
    let mut file = Writer::create(scratch.path().join("scan.h5")).expect("a file");
    file.text("/exchange/data", "no projections").expect("written");
    file.commit_replace().expect("committed");
    let (code, message) = said(scratch.path(), "");
    assert_eq!(code, 2);
    assert!(message.starts_with("scan.h5: /exchange/data ") && message.contains("expected"), "{message}");
}

/// A disk without room: refused before anything is computed, and the disk is as it was.
#[test]
fn a_full_disk() {
    let scratch = scratch();
    let small = scratch.path().join("small");
    fs::create_dir(&small).expect("made");
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"])
        .arg(&small)
        .output()
        .is_ok_and(|o| o.status.success());
    if !mounted {
        return skip("a small file system cannot be mounted here");
    }
    let spec = job(
        scratch.path(),
        "job.toml",
        "schema = 1\nname = \"full\"\nworkload = \"tomography\"\n[problem.phantom]\nkind = \"shepp-logan\"\nsize = 64\nangles = 8\n[problem.method]\nalgorithm = \"fbp\"\n",
    );
    let out = below(&small, "run");
    let would_not_fit = told(&run(&["run", &spec, "--dir", &out, "-q"]));
    let filler = small.join("filler");
    let _ = fs::write(&filler, vec![0u8; 1 << 20]);
    let tiny = fs::read_to_string(&spec).expect("read").replace("size = 64", "size = 2\nrows = 1");
    let tiny = job(scratch.path(), "tiny.toml", &tiny);
    let full = told(&run(&["run", &tiny, "--dir", &out, "-q"]));
    let left = fs::read_dir(&small).expect("readable").count();
    std::process::Command::new("umount").arg(&small).output().expect("unmounted");
    assert_eq!(would_not_fit.0, 3, "{}", would_not_fit.2);
    assert!(would_not_fit.2.contains("disk space needs"), "{}", would_not_fit.2);
    assert!(full.0 == 2 || full.0 == 3, "{}: {}", full.0, full.2);
    assert_eq!(left, 1, "only the filler is there");
}

#[allow(clippy::print_stderr, reason = "a skipped test says why")]
fn skip(why: &str) {
    eprintln!("SKIPPED: {why}");
}
