//! Every fall-back and every refusal of the Data Exchange reader, and a measured scan.

use std::path::PathBuf;

use super::*;

/// The folder of measured data, if this machine has it.
fn test_data(name: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("CONVOKE_TEST_DATA")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"), PathBuf::from);
    let path = folder.join(name);
    if path.is_file() {
        return Some(path);
    }
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "skipped: no {}; set CONVOKE_TEST_DATA", path.display());
    None
}

/// Writes a file with what `fill` puts into it and opens it as a scan.
fn scan_of(fill: impl FnOnce(&mut Writer)) -> Result<Scan> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("scan.h5");
    let mut file = Writer::create(&path).unwrap();
    fill(&mut file);
    file.commit_new().unwrap();
    Scan::open(&path)
}

fn ramp(n: usize) -> Vec<f32> {
    (0..n).map(|i| i as f32).collect()
}

#[test]
fn a_measured_scan_is_read_in_bands() {
    let Some(path) = test_data("tooth.h5") else {
        return;
    };
    let scan = Scan::open(path).unwrap();
    assert_eq!((scan.n_angles, scan.n_rows, scan.n_cols), (181, 2, 640));
    assert_eq!((scan.n_white, scan.n_dark), (10, 10));
    assert!(scan.notes.is_empty(), "{:?}", scan.notes);
    assert_eq!(scan.theta_unit, AngleUnit::Degrees);
    assert!((scan.theta[180] - 179.005_524_86).abs() < 1e-6);
    let both = scan.read_rows(0..2).unwrap();
    let second = scan.read_rows(1..2).unwrap();
    assert_eq!(second.projections.len(), 181 * 640);
    assert_eq!(second.projections[640..1280], both.projections[3 * 640..4 * 640]);
    assert_eq!(second.dark[..640], both.dark[640..1280]);
}

#[test]
fn bands_of_a_written_scan_come_back() {
    let folder = tempfile::tempdir().unwrap();
    for counts in [Counts::U16, Counts::F32] {
        let path = folder.path().join(format!("{counts:?}.h5"));
        let header = Header { theta_deg: vec![0.0, 60.0, 120.0], n_rows: 5, n_cols: 4, n_white: 2, n_dark: 1 };
        let mut file = ScanWriter::create(&path, header, counts).unwrap();
        let band = |rows: usize, from: f32| RawRows {
            projections: ramp(3 * rows * 4).iter().map(|v| v + from).collect(),
            white: vec![1000.0; 2 * rows * 4],
            dark: vec![3.0; rows * 4],
        };
        file.write_rows(0..2, &band(2, 0.0)).unwrap();
        file.write_rows(2..5, &band(3, 100.0)).unwrap();
        file.attribute("seed", 1_u64).unwrap();
        file.commit_new().unwrap();
        let scan = Scan::open(&path).unwrap();
        assert_eq!(scan.read_rows(0..2).unwrap(), band(2, 0.0));
        assert_eq!(scan.read_rows(2..5).unwrap(), band(3, 100.0));
        assert!((scan.theta_rad()[1] - std::f64::consts::FRAC_PI_3).abs() < 1e-15);
        assert!(matches!(scan.read_rows(4..6), Err(DataError::OutOfBounds { .. })));
        assert!(matches!(scan.read_rows(2..2), Err(DataError::ZeroSize { .. })));
    }
}

#[test]
fn u16_counts_saturate_and_nan_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("scan.h5");
    let header = Header { theta_deg: vec![0.0], n_rows: 1, n_cols: 3, n_white: 0, n_dark: 0 };
    let mut file = ScanWriter::create(&path, header, Counts::U16).unwrap();
    let band = |projections: Vec<f32>| RawRows { projections, white: vec![], dark: vec![] };
    let error = file.write_rows(0..1, &band(vec![0.0, f32::NAN, 1.0])).unwrap_err();
    assert!(matches!(error, DataError::NonFinite { count: 1, ref first, .. } if *first == [0, 0, 1]));
    file.write_rows(0..1, &band(vec![-3.0, 7.5, 1e6])).unwrap();
    file.commit_new().unwrap();
    assert_eq!(Scan::open(&path).unwrap().read_rows(0..1).unwrap().projections, [0.0, 8.0, 65535.0]);
}

#[test]
fn what_is_missing_is_assumed_and_noted() {
    let scan = scan_of(|file| file.whole(DATA, &[3, 2, 4], &ramp(24)).unwrap()).unwrap();
    assert_eq!(scan.theta, [0.0, 90.0, 180.0]);
    assert_eq!((scan.n_white, scan.n_dark, scan.notes.len()), (0, 1, 3));

    let scan = scan_of(|file| {
        file.whole(DATA, &[3, 2, 4], &ramp(24)).unwrap();
        file.whole(WHITE, &[2, 4], &ramp(8)).unwrap();
        file.whole(DARK_VALUE, &[], &[5.0_f32]).unwrap();
        file.whole(ROTATION_START, &[1], &[10.0_f64]).unwrap();
        file.whole(ROTATION_STEP, &[], &[0.5_f64]).unwrap();
    })
    .unwrap();
    assert_eq!(scan.theta, [10.0, 10.5, 11.0]);
    assert_eq!((scan.n_white, scan.n_dark, scan.notes.len()), (1, 1, 1));
}

#[test]
fn radians_are_recognised() {
    let scan = scan_of(|file| {
        file.whole(DATA, &[2, 1, 1], &[1_u16, 2]).unwrap();
        file.whole(THETA, &[2], &[0.0_f32, 1.5]).unwrap();
        file.attribute(THETA, "units", "radians").unwrap();
    })
    .unwrap();
    assert_eq!((scan.theta_unit, scan.theta_rad()), (AngleUnit::Radians, vec![0.0, 1.5]));
}

#[test]
fn bad_headers_are_refused_by_name() {
    let error = scan_of(|file| file.whole("/exchange/dta", &[1], &[0_u8]).unwrap()).unwrap_err();
    assert!(error.to_string().contains("did you mean /exchange/dta?"), "{error}");
    let error = scan_of(|file| file.whole(DATA, &[2, 3], &ramp(6)).unwrap()).unwrap_err();
    assert!(matches!(error, DataError::WrongRank { found: 2, .. }), "{error}");
    let error = scan_of(|file| file.text(DATA, "no numbers").unwrap()).unwrap_err();
    assert!(matches!(error, DataError::WrongType { .. }), "{error}");
    let error = scan_of(|file| file.whole::<f32>(DATA, &[0, 2, 3], &[]).unwrap()).unwrap_err();
    assert!(matches!(error, DataError::ZeroSize { .. }), "{error}");
    let error = scan_of(|file| {
        file.whole(DATA, &[3, 2, 4], &ramp(24)).unwrap();
        file.whole(WHITE, &[2, 4, 2], &ramp(16)).unwrap();
    })
    .unwrap_err();
    assert!(matches!(error, DataError::ShapeMismatch { ref name, .. } if name == WHITE), "{error}");
    let error = scan_of(|file| {
        file.whole(DATA, &[3, 2, 4], &ramp(24)).unwrap();
        file.whole(THETA, &[4], &[0.0_f64; 4]).unwrap();
    })
    .unwrap_err();
    assert!(matches!(error, DataError::ShapeMismatch { ref name, .. } if name == THETA), "{error}");
    let error = scan_of(|file| {
        file.whole(DATA, &[3, 2, 4], &ramp(24)).unwrap();
        file.whole(THETA, &[3], &[0.0, f64::NAN, 1.0]).unwrap();
    })
    .unwrap_err();
    assert!(matches!(error, DataError::NonFinite { ref first, .. } if *first == [1]), "{error}");
}

#[test]
fn a_nan_count_is_refused_with_its_index_in_the_file() {
    let mut data = ramp(24);
    data[3 * 4 + 1] = f32::NAN; // angle 1, row 1, column 1
    let scan = scan_of(|file| file.whole(DATA, &[3, 2, 4], &data).unwrap()).unwrap();
    scan.read_rows(0..1).unwrap();
    let error = scan.read_rows(1..2).unwrap_err();
    assert!(matches!(error, DataError::NonFinite { count: 1, ref first, .. } if *first == [1, 1, 1]), "{error}");
}
