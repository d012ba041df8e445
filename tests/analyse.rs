//! `convoke analyse`: figures, pictures, comparison, report and export of small runs.
#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

mod common;

use std::fs;
use std::path::Path;

use common::{below, convoke, job, json, run, scratch, small, told};
use convoke_data::store::{Layout, Writer};

/// A finished run of SIRT on 24² × 6 voxels with checkpoints, in `dir/name`.
fn finished(dir: &Path, name: &str, iterations: usize) -> String {
    let method = format!("algorithm = \"sirt\"\niterations = {iterations}\n[checkpoint]\nevery_steps = 4");
    let spec = job(dir, &format!("{name}.toml"), &small(24, 6, 20, &method));
    let path = below(dir, name);
    let (code, _, err) = told(&run(&["run", &spec, "--dir", &path, "--quiet"]));
    assert_eq!(code, 0, "{err}");
    path
}

/// A file like a result: a volume with axes, a series, a column of the history.
fn file(path: &Path, change: f32) {
    let mut file = Writer::create(path).unwrap();
    let mut volume: Vec<f32> = (0..4 * 5 * 6).map(|k| k as f32).collect();
    volume[50] += change;
    file.dataset::<f32>("/result/mu", &[4, 5, 6], Layout::Contiguous).unwrap();
    file.write("/result/mu", &[0, 0, 0], &[4, 5, 6], &volume).unwrap();
    file.attribute("/result/mu", "axes", "z:y:x").unwrap();
    file.attribute("/result/mu", "units", "1/m").unwrap();
    file.attribute("/result/mu", "long_name", "<script>alert(1)</script>").unwrap();
    file.attribute("/result/mu", "spacing", vec![2.0, 0.5, 0.5]).unwrap();
    file.attribute("/result/mu", "origin", vec![-3.0, 0.0, 0.0]).unwrap();
    file.whole("/result/series", &[3], &[1.0, f64::NAN, 3.0]).unwrap();
    file.whole("/history/residual", &[4], &[1.0, 0.1, 0.01, 0.001]).unwrap();
    file.attribute("/result", "psnr_db", 31.5).unwrap();
    file.commit_new().unwrap();
}

/// Width and height of a PNG file, and its length.
fn png(path: &str) -> (u32, u32, usize) {
    let bytes = fs::read(path).unwrap();
    assert_eq!(&bytes[..8], b"\x89PNG\r\n\x1a\n", "{path}");
    assert_eq!(&bytes[bytes.len() - 8..bytes.len() - 4], b"IEND", "{path}");
    let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
    (number(16), number(20), bytes.len())
}

fn listed(value: &serde_json::Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect()
}

#[test]
fn json_says_what_a_run_did_and_holds() {
    let scratch = scratch();
    let path = finished(scratch.path(), "run", 10);
    let facts = json(&["analyse", &path, "--json"]);
    assert_eq!((&facts["name"], &facts["workload"]), (&"small".into(), &"tomography".into()));
    let story = &facts["run"];
    assert_eq!(
        (&story["state"], &story["steps"], &story["steps_planned"]),
        (&"complete".into(), &10.into(), &10.into())
    );
    assert_eq!(story["attempts"].as_array().unwrap().len(), 1);
    assert!(story["attempts"][0]["checkpoints"]["count"].as_u64().unwrap() >= 2, "{story}");
    let memory = &story["planned"].as_array().unwrap().iter().find(|p| p["quantity"] == "memory per rank").unwrap();
    assert!(memory["measured"].as_f64().unwrap() > 1e6 && memory["planned"].as_f64().unwrap() > 1e6);
    assert_eq!(facts["result"]["as_recorded"], true);
    assert!(facts["result"]["figures"]["psnr_db"].as_f64().unwrap() > 10.0);
    let volume = &facts["result"]["arrays"][0];
    assert_eq!((&volume["name"], &volume["shape"]), (&"volume".into(), &serde_json::json!([6, 24, 24])));
    assert_eq!((&volume["axes"][0]["name"], &volume["axes"][0]["n"]), (&"z".into(), &6.into()));
    // Mean and deviation against a plain sum over the array.
    let values = common::volume(Path::new(&path));
    let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / values.len() as f64;
    assert!((volume["stats"]["mean"].as_f64().unwrap() - mean).abs() < 1e-12 * mean.abs().max(1.0));
    assert_eq!((&volume["stats"]["count"], &volume["stats"]["nan"]), (&(6 * 24 * 24).into(), &0.into()));
    let residual = facts["history"].as_array().unwrap().iter().find(|c| c["name"] == "residual").unwrap();
    assert_eq!(residual["n"], 10);
    assert!(residual["last"].as_f64() < residual["first"].as_f64());
    assert!(facts["provenance"]["git_commit"].is_string());
    assert!(listed(&facts["pictures"]).is_empty() && !Path::new(&path).join("pictures").exists());
}

#[test]
fn pictures_are_png_files_that_show_the_volume() {
    let scratch = scratch();
    let path = finished(scratch.path(), "run", 6);
    let volume = below(Path::new(&path), "pictures/volume.png");
    let facts = json(&["analyse", &path, "--json", "--pictures"]);
    assert!(listed(&facts["pictures"]).contains(&volume.as_str()), "{facts}");
    for picture in listed(&facts["pictures"]) {
        let (width, height, length) = png(picture);
        assert!(
            (600..3000).contains(&width) && (400..2000).contains(&height) && length > 5000,
            "{picture} {width} × {height}"
        );
    }
    // With all values below the range the planes are black: less to store.
    let shown = png(&volume).2;
    assert_eq!(told(&run(&["analyse", &path, "--range", "1e6,2e6"])).0, 0);
    assert!(png(&volume).2 + 3000 < shown, "{} {shown}", png(&volume).2);
    assert_eq!(told(&run(&["analyse", &path, "--colormap", "viridis", "--slice", "z=0", "--slice", "x=3"])).0, 0);
    let (code, _, err) = told(&run(&["analyse", &path, "--slice", "z=6"]));
    assert!(code == 2 && err.contains("z has 6 samples: 0 to 5"), "{err}");
    let (code, _, err) = told(&run(&["analyse", &path, "--slice", "w=1"]));
    assert!(code == 2 && err.contains("the axes are: x, y, z"), "{err}");
}

#[test]
fn files_of_others_are_never_overwritten() {
    let scratch = scratch();
    let result = scratch.path().join("a.h5");
    file(&result, 0.0);
    let result = result.display().to_string();
    let pictures = scratch.path().join("a-pictures");
    fs::create_dir(&pictures).unwrap();
    for (name, option) in
        [("a-pictures/mu.png", "--no-pictures"), ("a-report.html", "--html"), ("a-mu.npy", "--export=npy")]
    {
        let mine = scratch.path().join(name);
        fs::write(&mine, "mine").unwrap();
        let option = if name.ends_with("png") { "--colormap=gray" } else { option };
        let (code, _, err) = told(&run(&["analyse", &result, option]));
        assert!(code == 2 && err.contains("exists already"), "{name}: {err}");
        assert_eq!(fs::read_to_string(&mine).unwrap(), "mine");
        fs::remove_file(&mine).unwrap();
        // Our own are replaced; an export is not.
        let codes: Vec<i32> = (0..2).map(|_| told(&run(&["analyse", &result, option])).0).collect();
        assert_eq!(codes, [0, if name.ends_with("npy") { 2 } else { 0 }], "{name}");
    }
    let left: Vec<String> =
        fs::read_dir(&pictures).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    assert!(left.iter().all(|name| name.ends_with(".png") && !name.starts_with('.')), "{left:?}");
}

#[test]
fn equal_results_have_no_difference_and_changed_ones_are_located() {
    let scratch = scratch();
    let path = |name: &str| scratch.path().join(name);
    file(&path("a.h5"), 0.0);
    file(&path("b.h5"), 0.0);
    file(&path("c.h5"), 0.5);
    let (a, b, c) = (below(scratch.path(), "a.h5"), below(scratch.path(), "b.h5"), below(scratch.path(), "c.h5"));
    let (code, out, _) = told(&run(&["analyse", &a, "--diff", &b]));
    assert!(code == 0 && out.contains("4 of 4 bitwise identical"), "{out}");
    assert!(!path("a-pictures").exists(), "equal files have no difference to show");
    let (code, out, _) = told(&run(&["analyse", &a, "--diff", &c]));
    assert!(code == 8 && out.contains("first at [1, 3, 2]: A 50, B 50.5") && !out.contains("series"), "{out}");
    png(&below(scratch.path(), "a-pictures/diff-mu.png"));
    let output = run(&["analyse", &a, "--diff", &c, "--json"]);
    let (code, out, _) = told(&output);
    let found: serde_json::Value = serde_json::from_str(&out).unwrap();
    let difference = &found["differences"][0];
    assert_eq!((code, &found["equal"], &difference["name"]), (8, &false.into(), &"/result/mu".into()));
    assert_eq!((&difference["different"], &difference["linf"]["absolute"]), (&1.into(), &0.5.into()));
    assert_eq!(difference["first"], serde_json::json!([1, 3, 2]));
    let close = ["--no-pictures", "--atol", "0.5"];
    assert_eq!(told(&run(&[&["analyse", &a, "--diff", &c], &close[..]].concat())).0, 0);
    assert_eq!(told(&run(&["analyse", &a, "--diff", &c, "--no-pictures", "--rtol", "0.02"])).0, 0);
    assert_eq!(told(&run(&["analyse", &a, "--diff", &c, "--no-pictures", "--rtol", "0.001"])).0, 8);
}

#[test]
fn names_and_shapes_that_differ_are_listed() {
    let scratch = scratch();
    let (a, b) = (finished(scratch.path(), "a", 3), finished(scratch.path(), "b", 5));
    let (code, out, _) = told(&run(&["analyse", &a, "--diff", &b, "--no-pictures"]));
    assert!(code == 8 && out.contains("/history/residual: shape [3] in A, [5] in B"), "{out}");
    file(&scratch.path().join("c.h5"), 0.0);
    let (code, out, _) = told(&run(&["analyse", &a, "--diff", &below(scratch.path(), "c.h5"), "--no-pictures"]));
    assert!(code == 8 && out.contains("/result/mu: only in B") && out.contains("/result/volume: only in A"), "{out}");
}

#[test]
fn the_report_stands_alone_and_escapes_what_files_say() {
    let scratch = scratch();
    let path = finished(scratch.path(), "run", 6);
    assert_eq!(told(&run(&["analyse", &path, "--html", "--no-pictures"])).0, 0);
    assert_eq!(told(&run(&["analyse", &path, "--report"])).0, 0);
    file(&scratch.path().join("a.h5"), 0.0);
    assert_eq!(told(&run(&["analyse", &below(scratch.path(), "a.h5"), "--html"])).0, 0);
    for report in [below(Path::new(&path), "report.html"), below(scratch.path(), "a-report.html")] {
        let text = fs::read_to_string(&report).unwrap();
        assert!(
            text.len() < 5_000_000 && text.contains("default-src 'none'; img-src data:; style-src 'unsafe-inline'")
        );
        for outside in ["http:", "https:", "<script", "<link", "url(", "@import", "src=\"/", "href="] {
            assert!(!text.contains(outside), "{report}: {outside}");
        }
        assert!(text.contains("<svg") && text.contains("data:image/png;base64,"), "{report}");
    }
    let text = fs::read_to_string(below(Path::new(&path), "report.html")).unwrap();
    for part in ["complete", "psnr_db", "How to reproduce", "convoke run ", "algorithm = &quot;sirt&quot;", "XXH3-128"]
    {
        assert!(text.contains(part), "{part}");
    }
}

#[test]
fn a_stopped_run_says_where_it_is_and_how_to_go_on() {
    let scratch = scratch();
    let spec = job(scratch.path(), "job.toml", &small(24, 6, 20, "algorithm = \"sirt\"\niterations = 10"));
    let path = below(scratch.path(), "run");
    assert_eq!(told(&run(&["run", &spec, "--dir", &path, "--quiet", "--stop-after", "4"])).0, 75);
    let (code, out, _) = told(&run(&["analyse", &path]));
    assert_eq!(code, 0);
    for part in ["stopped", "4 of 10 steps", "no result yet; newest checkpoint s00000004.e00001", "residual"] {
        assert!(out.contains(part), "{part}: {out}");
    }
    assert!(out.contains(&format!("convoke resume {path}")), "{out}");
    let (code, _, err) = told(&run(&["analyse", &path, "--diff", &path]));
    assert!(code == 2 && err.contains("has no result yet"), "{err}");
    let failed =
        convoke().args(["resume", &path, "--quiet"]).env("CONVOKE_FAULT", "fail@step:rank=0:nth=3").output().unwrap();
    assert_eq!(failed.status.code(), Some(1));
    let facts = json(&["analyse", &path, "--json"]);
    assert_eq!((&facts["run"]["state"], &facts["run"]["attempts"][0]["state"]), (&"failed".into(), &"stopped".into()));
    assert_eq!(told(&run(&["resume", &path, "--quiet"])).0, 0);
    let facts = json(&["analyse", &path, "--json"]);
    assert_eq!((&facts["run"]["state"], facts["run"]["attempts"].as_array().unwrap().len()), (&"complete".into(), 3));
}

#[test]
fn damage_is_told_apart() {
    let scratch = scratch();
    let path = finished(scratch.path(), "run", 3);
    let result = Path::new(&path).join("result.h5");
    let bytes = fs::read(&result).unwrap();
    let cut = scratch.path().join("cut.h5");
    fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    let (code, out, err) = told(&run(&["analyse", &cut.display().to_string()]));
    assert!(code == 2 && out.is_empty() && err.contains("truncated"), "{err}");
    fs::write(&cut, "no HDF5").unwrap();
    assert_eq!(told(&run(&["analyse", &cut.display().to_string()])).0, 2);
    assert_eq!(told(&run(&["analyse", &below(scratch.path(), "nothing")])).0, 2);
    let (code, _, err) = told(&run(&["analyse", &scratch.path().display().to_string()]));
    assert!(code == 2 && err.contains("holds no run"), "{err}");
    // One changed value: still HDF5, but not what the run wrote.
    let values = common::volume(Path::new(&path));
    let middle: Vec<u8> = values[values.len() / 2..][..16].iter().flat_map(|v| v.to_le_bytes()).collect();
    let changed = bytes.windows(middle.len()).position(|part| part == middle).unwrap();
    let mut altered = bytes.clone();
    altered[changed] ^= 1;
    fs::write(&result, altered).unwrap();
    let (code, out, _) = told(&run(&["analyse", &path, "--no-pictures"]));
    assert!(code == 9 && out.contains("not the bytes that the run wrote"), "{out}");
}

#[test]
fn exports_hold_the_same_numbers() {
    let scratch = scratch();
    file(&scratch.path().join("a.h5"), 0.25);
    let path = below(scratch.path(), "a.h5");
    assert_eq!(told(&run(&["analyse", &path, "--no-pictures", "--export", "npy"])).0, 0);
    let (shape, values) = convoke_data::formats::npy::read::<f32>(scratch.path().join("a-mu.npy")).unwrap();
    assert_eq!((shape, values[50], values[119]), (vec![4, 5, 6], 50.25, 119.0));
    assert_eq!(convoke_data::formats::npy::read::<f64>(scratch.path().join("a-series.npy")).unwrap().0, [3]);
    assert_eq!(told(&run(&["analyse", &path, "--no-pictures", "--export", "tiff"])).0, 0);
    assert_eq!(fs::read_dir(scratch.path().join("a-mu-tiff")).unwrap().count(), 4);
}
