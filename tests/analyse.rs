//! `convoke analyse`: figures, pictures, comparison, report and export of small runs.
#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

mod common;

use std::fs;
use std::path::Path;

use common::{below, convoke, job, json, run, scratch, small, told};
use convoke_data::store::{Attribute, Layout, Reader, Writer};

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
    let views: [(&str, &[&str]); 3] = [
        ("a-pictures/mu.png", &["analyse", &result]),
        ("a-report.html", &["analyse", "report", &result]),
        ("a-mu.npy", &["analyse", "export", &result, "--format=npy"]),
    ];
    for (name, view) in views {
        let mine = scratch.path().join(name);
        fs::write(&mine, "mine").unwrap();
        let (code, _, err) = told(&run(view));
        assert!(code == 2 && err.contains("exists already"), "{name}: {err}");
        assert_eq!(fs::read_to_string(&mine).unwrap(), "mine");
        fs::remove_file(&mine).unwrap();
        // Our own are replaced; an export is not.
        let codes: Vec<i32> = (0..2).map(|_| told(&run(view)).0).collect();
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
    let (code, out, _) = told(&run(&["analyse", "diff", &a, &b]));
    assert!(code == 0 && out.contains("4 of 4 bitwise identical"), "{out}");
    assert!(!path("a-pictures").exists(), "equal files have no difference to show");
    let (code, out, _) = told(&run(&["analyse", "diff", &a, &c]));
    assert!(code == 8 && out.contains("first at [1, 3, 2]: A 50, B 50.5") && !out.contains("series"), "{out}");
    png(&below(scratch.path(), "a-pictures/diff-mu.png"));
    let output = run(&["analyse", "diff", &a, &c, "--json"]);
    let (code, out, _) = told(&output);
    let found: serde_json::Value = serde_json::from_str(&out).unwrap();
    let difference = &found["differences"][0];
    assert_eq!((code, &found["equal"], &difference["name"]), (8, &false.into(), &"/result/mu".into()));
    assert_eq!((&difference["different"], &difference["linf"]["absolute"]), (&1.into(), &0.5.into()));
    assert_eq!(difference["first"], serde_json::json!([1, 3, 2]));
    let close = ["--no-pictures", "--atol", "0.5"];
    assert_eq!(told(&run(&[&["analyse", "diff", &a, &c], &close[..]].concat())).0, 0);
    assert_eq!(told(&run(&["analyse", "diff", &a, &c, "--no-pictures", "--rtol", "0.02"])).0, 0);
    assert_eq!(told(&run(&["analyse", "diff", &a, &c, "--no-pictures", "--rtol", "0.001"])).0, 8);
}

#[test]
fn names_and_shapes_that_differ_are_listed() {
    let scratch = scratch();
    let (a, b) = (finished(scratch.path(), "a", 3), finished(scratch.path(), "b", 5));
    let (code, out, _) = told(&run(&["analyse", "diff", &a, &b, "--no-pictures"]));
    assert!(code == 8 && out.contains("/history/residual: shape [3] in A, [5] in B"), "{out}");
    file(&scratch.path().join("c.h5"), 0.0);
    let (code, out, _) = told(&run(&["analyse", "diff", &a, &below(scratch.path(), "c.h5"), "--no-pictures"]));
    assert!(code == 8 && out.contains("/result/mu: only in B") && out.contains("/result/volume: only in A"), "{out}");
}

#[test]
fn the_report_stands_alone_and_escapes_what_files_say() {
    let scratch = scratch();
    let path = finished(scratch.path(), "run", 6);
    assert_eq!(told(&run(&["analyse", "report", &path, "--no-pictures"])).0, 0);
    assert_eq!(told(&run(&["analyse", "report", &path])).0, 0);
    file(&scratch.path().join("a.h5"), 0.0);
    assert_eq!(told(&run(&["analyse", "report", &below(scratch.path(), "a.h5")])).0, 0);
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
    let (code, _, err) = told(&run(&["analyse", "diff", &path, &path]));
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
    assert_eq!(told(&run(&["analyse", "export", &path, "--format", "npy"])).0, 0);
    let (shape, values) = convoke_data::formats::npy::read::<f32>(scratch.path().join("a-mu.npy")).unwrap();
    assert_eq!((shape, values[50], values[119]), (vec![4, 5, 6], 50.25, 119.0));
    assert_eq!(convoke_data::formats::npy::read::<f64>(scratch.path().join("a-series.npy")).unwrap().0, [3]);
    assert_eq!(told(&run(&["analyse", "export", &path, "--format", "tiff"])).0, 0);
    assert_eq!(fs::read_dir(scratch.path().join("a-mu-tiff")).unwrap().count(), 4);
}

#[test]
fn ls_and_stat_say_what_a_file_holds() {
    let scratch = scratch();
    file(&scratch.path().join("a.h5"), 0.0);
    let path = below(scratch.path(), "a.h5");
    let (code, out, _) = told(&run(&["analyse", "ls", &path]));
    assert_eq!(code, 0);
    for part in ["/result/mu", "4 × 5 × 6", "float32", "480 B", "1/m", "psnr_db 31.5", "/history/residual"] {
        assert!(out.contains(part), "{part}: {out}");
    }
    let lines = json(&["analyse", "ls", &path, "/result/mu", "--json"]);
    let line = &lines[0];
    assert_eq!((lines.as_array().unwrap().len(), &line["stored_bytes"]), (1, &480.into()));
    assert_eq!(line["attributes"]["spacing"], serde_json::json!([2.0, 0.5, 0.5]));
    let (code, _, err) = told(&run(&["analyse", "ls", &path, "/result/nu"]));
    assert!(code == 2 && err.contains("no dataset /result/nu (did you mean /result/mu?)"), "{err}");

    let stats = json(&["analyse", "stat", &path, "mu", "residual", "--json"]);
    assert_eq!((&stats[0]["stats"]["max"], &stats[0]["stats"]["mean"]), (&119.0.into(), &59.5.into()));
    assert_eq!((&stats[1]["stats"]["count"], &stats[1]["stats"]["min"]), (&4.into(), &0.001.into()));
    let (code, out, _) = told(&run(&["analyse", "stat", &path]));
    assert!(code == 0 && out.contains("/history/residual") && out.contains("series"), "{out}");
}

#[test]
fn plots_are_text_or_files() {
    let scratch = scratch();
    file(&scratch.path().join("a.h5"), 0.0);
    let path = below(scratch.path(), "a.h5");
    let (code, out, _) = told(&run(&["analyse", "plot", &path, "residual"]));
    assert!(code == 0 && out.contains("0.001 │") && out.contains("logarithmic"), "{out}");
    // Not a terminal: no colours, and the brightest row on top.
    let (code, out, _) = told(&run(&["analyse", "plot", &path, "mu", "--slice", "z=3"]));
    assert!(code == 0 && !out.contains('\u{1b}') && out.contains("y up, x to the right, z = 3 (index 3)"), "{out}");
    assert!(out.lines().nth(1).unwrap().contains('@'), "{out}");
    let (code, out, _) = told(&run(&["analyse", "plot", &path, "--format", "svg"]));
    assert_eq!((code, out.lines().count()), (0, 3));
    let picture = fs::read_to_string(below(scratch.path(), "a-pictures/mu.svg")).unwrap();
    assert!(picture.contains("<image") && picture.contains("&lt;script&gt;") && !picture.contains("<script"));
    let (code, out, _) = told(&run(&["analyse", "plot", &path, "mu", "--format", "png"]));
    assert_eq!(code, 0);
    png(out.trim());
}

/// A frame for each z, the planes and their difference beside each other; the difference of an array with itself has one colour.
#[test]
fn arrays_move_along_an_axis() {
    let scratch = scratch();
    file(&scratch.path().join("a.h5"), 0.0);
    let path = below(scratch.path(), "a.h5");
    let (code, out, err) = told(&run(&["analyse", "plot", &path, "mu", "mu", "--animate", "z"]));
    assert_eq!(code, 0, "{err}");
    let read = |path: &str| -> (usize, u16, Vec<Vec<u8>>) {
        let mut options = gif::DecodeOptions::new();
        options.set_color_output(gif::ColorOutput::RGBA);
        let mut decoder = options.read_info(fs::File::open(path).unwrap()).unwrap();
        let (mut frames, width) = (Vec::new(), decoder.width());
        while let Some(frame) = decoder.read_next_frame().unwrap() {
            frames.push(frame.buffer.to_vec());
        }
        (frames.len(), width, frames)
    };
    let (frames, width, pixels) = read(out.trim());
    assert!(frames == 4 && out.trim().ends_with("a-pictures/mu-mu-along-z.gif"), "{frames} {out}");
    assert_ne!(pixels[0], pixels[3]);
    let (code, out, _) = told(&run(&["analyse", "plot", &path, "mu", "--animate", "z"]));
    assert!(code == 0 && read(out.trim()).1 * 2 < width);
    let (code, _, err) = told(&run(&["analyse", "plot", &path, "mu", "--animate", "t"]));
    assert!(code == 2 && err.contains("has no such axis") && err.contains("it has: z, y, x"), "{code} {err}");
    let (code, _, err) = told(&run(&["analyse", "plot", &path, "residual", "--animate", "index"]));
    assert!(code == 2, "{code} {err}");
    // A file that is not ours stays.
    fs::write(scratch.path().join("a-pictures/mu-along-z.gif"), "mine").unwrap();
    let (code, _, err) = told(&run(&["analyse", "plot", &path, "mu", "--animate", "z"]));
    assert!(code == 2 && err.contains("mu-along-z.gif"), "{code} {err}");
    assert_eq!(fs::read_to_string(scratch.path().join("a-pictures/mu-along-z.gif")).unwrap(), "mine");
}

#[test]
fn tables_and_grids_are_exported() {
    let scratch = scratch();
    file(&scratch.path().join("a.h5"), 0.25);
    let path = below(scratch.path(), "a.h5");
    let export = |format: &str| told(&run(&["analyse", "export", &path, "--format", format]));
    assert_eq!(export("csv").0, 0);
    let text = fs::read_to_string(scratch.path().join("a-mu.csv")).unwrap();
    let lines: Vec<&str> = text.split("\r\n").collect();
    // Element 50 is [1, 3, 2]: z = -3 + 2, y = 3 / 2, x = 1.
    assert_eq!((lines[0], lines[51], lines.len()), ("z,y,x,mu [1/m]", "-1,1.5,1,50.25", 122));
    let history = fs::read_to_string(scratch.path().join("a-history.csv")).unwrap();
    assert_eq!(history, "record,residual\r\n1,1\r\n2,0.1\r\n3,0.01\r\n4,0.001\r\n");
    assert_eq!(export("vtkhdf").0, 0);
    let image = Reader::open(scratch.path().join("a-mu.vtkhdf")).unwrap();
    let extent = Attribute::I64s(vec![0, 5, 0, 4, 0, 3]);
    assert_eq!(image.attribute("/VTKHDF", "WholeExtent").unwrap(), Some(extent));
    assert_eq!(image.read::<f32>("/VTKHDF/PointData/mu").unwrap()[50], 50.25);
    assert_eq!(export("the-well").0, 0);
    let well = Reader::open(scratch.path().join("a-the-well.hdf5")).unwrap();
    assert_eq!(well.shape("/t0_fields/mu").unwrap(), [1, 1, 4, 5, 6]);
    assert_eq!(well.read::<f32>("/dimensions/z").unwrap(), [-3.0, -1.0, 1.0, 3.0]);
    // Its axes are z, y, x: another order than the format's.
    let (code, _, err) = told(&run(&["analyse", "export", &path, "mu", "--format", "pdebench"]));
    assert!(code == 2 && err.contains("PDEBench knows axes by their place"), "{err}");
    let (code, _, err) = export("pdebench");
    assert!(code == 2 && err.contains("no array that this format can hold"), "{err}");
    assert_eq!(export("npz").0, 0);
    let (code, _, err) = export("npz");
    assert!(code == 2 && err.contains("a-arrays.npz: exists already"), "{err}");
    let names: Vec<String> =
        fs::read_dir(scratch.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    assert!(names.iter().all(|n| !n.starts_with('.')), "{names:?}");
}

/// A field u[x, t] = 10 x + t: time is not its first axis.
/// What is stacked is what the files hold, and what is not alike is not stacked.
#[test]
fn runs_are_merged_along_a_new_axis() {
    let scratch = scratch();
    let [a, b, all] = ["a.h5", "b.h5", "all.h5"].map(|name| below(scratch.path(), name));
    file(a.as_ref(), 0.0);
    file(b.as_ref(), 7.0);
    let (code, out, err) = told(&run(&["analyse", "merge", &a, &b, "--to", &all]));
    assert!(code == 0 && out.contains("mu (2 × 4 × 5 × 6), series (2 × 3)"), "{out}{err}");
    let merged = Reader::open(&all).unwrap();
    assert_eq!(merged.shape("/result/mu").unwrap(), [2, 4, 5, 6]);
    for (k, one) in [&a, &b].into_iter().enumerate() {
        let whole: Vec<f32> = Reader::open(one).unwrap().read("/result/mu").unwrap();
        assert_eq!(merged.read_slab::<f32>("/result/mu", &[k, 0, 0, 0], &[1, 4, 5, 6]).unwrap(), whole);
    }
    assert_eq!(merged.text_attribute("/result/mu", "axes").unwrap(), "run:z:y:x");
    assert_eq!(merged.text_attribute("/result/mu", "units").unwrap(), "1/m");
    assert_eq!(merged.read_texts("/runs/path").unwrap().unwrap(), [a.clone(), b.clone()]);
    let twice = below(scratch.path(), "twice.h5");
    let (code, _, err) = told(&run(&["analyse", "merge", &all, &all, "--to", &twice]));
    assert!(code == 2 && err.contains("has an axis run already") && !Path::new(&twice).exists(), "{err}");
    // Nothing is overwritten.
    let (code, _, err) = told(&run(&["analyse", "merge", &a, &b, "--to", &all]));
    assert!(code == 2 && err.contains("all.h5"), "{err}");
    // Real runs: coordinates come along, a column of the history is merged on request, another grid is refused.
    let (one, two) = (finished(scratch.path(), "one", 4), finished(scratch.path(), "two", 4));
    let to = below(scratch.path(), "runs.h5");
    let words = ["analyse", "merge", &one, &two, "--to", &to, "--array", "volume", "--array", "residual"];
    let (code, out, err) = told(&run(&words));
    assert_eq!(code, 0, "{out}{err}");
    let merged = Reader::open(&to).unwrap();
    let z: Vec<f64> = Reader::open(below(one.as_ref(), "result.h5")).unwrap().read("/result/z").unwrap();
    assert_eq!(merged.read::<f64>("/result/z").unwrap(), z);
    assert_eq!(merged.shape("/history/residual").unwrap(), [2, 4]);
    let specs = merged.read_texts("/runs/spec_toml").unwrap().unwrap();
    assert!(specs.iter().all(|text| text.contains("iterations = 4")));
    let other = finished(scratch.path(), "other", 3);
    let no = below(scratch.path(), "no.h5");
    let words = ["analyse", "merge", &one, &other, "--to", &no, "--array", "residual"];
    let (code, _, err) = told(&run(&words));
    assert!(code == 2 && err.contains("residual has shape '3', and '4' in"), "{err}");
    assert!(!Path::new(&no).exists());
}

fn field_in_time(path: &Path) {
    let mut file = Writer::create(path).unwrap();
    let values: Vec<f64> = (0..4 * 3).map(|k| f64::from(10 * (k / 3) + k % 3)).collect();
    file.whole("/result/u", &[4, 3], &values).unwrap();
    file.attribute("/result/u", "axes", "x:t").unwrap();
    file.attribute("/result/u", "spacing", vec![0.5, 0.25]).unwrap();
    file.attribute("/result/u", "origin", vec![0.0, 1.0]).unwrap();
    file.commit_new().unwrap();
}

#[test]
fn time_comes_first_in_collections_of_solutions() {
    let scratch = scratch();
    field_in_time(&scratch.path().join("a.h5"));
    let path = below(scratch.path(), "a.h5");
    let expected: Vec<f32> = (0..12).map(|k| (10 * (k % 4) + k / 4) as f32).collect();
    for (format, name, field, time) in [
        ("pdebench", "a-u.pdebench.h5", "/tensor", "/t-coordinate"),
        ("the-well", "a-the-well.hdf5", "/t0_fields/u", "/dimensions/time"),
    ] {
        assert_eq!(told(&run(&["analyse", "export", &path, "--format", format])).0, 0);
        let out = Reader::open(scratch.path().join(name)).unwrap();
        assert_eq!((out.shape(field).unwrap(), out.read::<f32>(field).unwrap()), (vec![1, 3, 4], expected.clone()));
        assert_eq!(out.read::<f32>(time).unwrap(), [1.0, 1.25, 1.5]);
    }
    // Several runs are several solutions.
    let all = below(scratch.path(), "all.h5");
    assert_eq!(told(&run(&["analyse", "merge", &path, &path, "--to", &all])).0, 0);
    let twice = [expected.clone(), expected].concat();
    for (format, name, field) in
        [("pdebench", "all-u.pdebench.h5", "/tensor"), ("the-well", "all-the-well.hdf5", "/t0_fields/u")]
    {
        assert_eq!(told(&run(&["analyse", "export", &all, "--format", format])).0, 0);
        let out = Reader::open(scratch.path().join(name)).unwrap();
        assert_eq!((out.shape(field).unwrap(), out.read::<f32>(field).unwrap()), (vec![2, 3, 4], twice.clone()));
    }
    let well = Reader::open(scratch.path().join("all-the-well.hdf5")).unwrap();
    assert_eq!(well.u64_attribute("/", "n_trajectories").unwrap(), 2);
}

#[test]
fn perf_sums_to_the_time_of_the_run_and_tables_scaling() {
    let scratch = scratch();
    let path = finished(scratch.path(), "run", 12);
    let facts = json(&["analyse", "perf", &path, "--json"]);
    let run_ = &facts["runs"][0];
    let phase = |name: &str| run_["phases"][name].as_f64().unwrap();
    let all = run_["seconds"].as_f64().unwrap();
    let parts = phase("steps") + phase("checkpoints") + phase("results");
    assert!(parts > 0.0 && parts <= all * 1.05 + 0.01, "{parts} of {all}");
    assert!(phase("communication_mean") <= phase("steps"), "{run_}");
    assert_eq!((&run_["steps"], &facts["scaling"]), (&12.into(), &serde_json::Value::Null));
    assert!(run_["checkpoints"].as_u64().unwrap() >= 2 && run_["checkpoint_seconds"].as_f64().unwrap() > 0.0);
    let (code, out, _) = told(&run(&["analyse", "perf", &path, &path]));
    assert!(code == 0 && out.contains("Scaling (strong)") && out.contains("communication"), "{out}");
    let (code, _, err) = told(&run(&["analyse", "perf", &below(Path::new(&path), "result.h5")]));
    assert!(code == 2 && err.contains("is no run directory"), "{err}");
}

#[test]
fn conv_finds_the_order_of_errors_that_follow_a_power() {
    let scratch = scratch();
    let paths: Vec<String> = [8, 16, 32]
        .map(|n: i32| {
            let path = scratch.path().join(format!("{n}.h5"));
            let mut file = Writer::create(&path).unwrap();
            file.whole("/result/u", &[1], &[0.0]).unwrap();
            file.attribute("/result", "error", 3.0 * f64::from(n).powi(-2)).unwrap();
            file.text("/spec_toml", &format!("[problem]\ngrid = [{n}, {n}]")).unwrap();
            file.commit_new().unwrap();
            path.display().to_string()
        })
        .to_vec();
    let conv = |size: &str, error: &str, more: &[&str]| {
        let mut arguments = vec!["analyse", "conv", "--size", size, "--error", error];
        arguments.extend(paths.iter().map(String::as_str));
        arguments.extend(more);
        told(&run(&arguments))
    };
    let (code, out, err) = conv("problem.grid", "error", &["--json"]);
    assert_eq!(code, 0, "{err}");
    let facts: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert!((facts["order"].as_f64().unwrap() - 2.0).abs() < 1e-12, "{facts}");
    assert!((facts["rows"][2]["order"].as_f64().unwrap() - 2.0).abs() < 1e-12, "{facts}");
    let (code, _, err) = conv("problem.points", "error", &[]);
    assert!(code == 2 && err.contains("the job has no 'points'") && err.contains("there is: grid"), "{err}");
    let (code, _, err) = conv("problem.grid.0", "eror", &[]);
    assert!(code == 2 && err.contains("there is: error"), "{err}");
}

#[test]
fn a_result_says_what_made_it_and_a_crate_lies_beside_it() {
    let scratch = scratch();
    let path = finished(scratch.path(), "run", 3);
    let file = Reader::open(Path::new(&path).join("result.h5")).unwrap();
    let text = fs::read_to_string(Path::new(&path).join("spec.toml")).unwrap();
    assert_eq!(file.read_text("/spec_toml").unwrap(), text);
    assert_eq!(file.u64_attribute("/", "seed").unwrap(), 3);
    assert!(file.u64_attribute("/", "git_dirty").unwrap() <= 1);
    assert!(matches!(file.attribute("/", "hosts").unwrap(), Some(Attribute::Texts(hosts)) if hosts.len() == 1));
    for name in ["convoke_version", "git_commit", "spec_xxh3_128", "run_id", "created", "hdf5_version", "mpi_version"] {
        assert!(!file.text_attribute("/", name).unwrap().is_empty(), "{name}");
    }
    let text = fs::read_to_string(Path::new(&path).join("ro-crate-metadata.json")).unwrap();
    let made: serde_json::Value = serde_json::from_str(&text).unwrap();
    let graph = made["@graph"].as_array().unwrap();
    let entity = |id: &str| graph.iter().find(|e| e["@id"] == id).unwrap_or_else(|| panic!("{id}"));
    assert_eq!(entity("ro-crate-metadata.json")["about"]["@id"], "./");
    assert_eq!(entity("./")["conformsTo"]["@id"], "https://w3id.org/ro/wfrun/process/0.6");
    let action = entity(entity("./")["mentions"]["@id"].as_str().unwrap());
    assert_eq!((&action["@type"], &action["result"][0]["@id"]), (&"CreateAction".into(), &"result.h5".into()));
    let [start, end] =
        ["startTime", "endTime"].map(|t| action[t].as_str().unwrap().parse::<jiff::Timestamp>().unwrap());
    assert!(start < end);
    assert_eq!(entity(action["instrument"]["@id"].as_str().unwrap())["@type"], "SoftwareApplication");
    let size = fs::metadata(Path::new(&path).join("result.h5")).unwrap().len();
    assert_eq!(entity("result.h5")["contentSize"], size.to_string());
    // No reference leads nowhere.
    fn references(value: &serde_json::Value, found: &mut Vec<String>) {
        match value {
            serde_json::Value::Object(map) if map.len() == 1 => {
                found.extend(map.get("@id").and_then(|id| id.as_str()).map(str::to_owned))
            }
            serde_json::Value::Object(map) => map.values().for_each(|v| references(v, found)),
            serde_json::Value::Array(items) => items.iter().for_each(|v| references(v, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    graph.iter().for_each(|e| references(e, &mut found));
    for id in found.iter().filter(|id| !id.starts_with("http://schema.org/") && *id != "https://w3id.org/ro/crate/1.3")
    {
        entity(id);
    }
}
