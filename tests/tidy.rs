//! The invariants of docs/ARCHITECTURE.md that a machine can check.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files with an extension below a folder of the repository.
fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![root().join(folder)];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display())).flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|e| e == extension) {
                found.push(path);
            }
        }
    }
    assert!(!found.is_empty(), "no .{extension} below {folder}");
    found
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn relative(path: &Path) -> String {
    path.strip_prefix(root()).expect("below the root").display().to_string()
}

/// Lines of code outside comments and outside `#[cfg(test)]` modules, with their place.
fn code(path: &Path) -> Vec<(String, String)> {
    let text = text(path);
    let body = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let lines = body.lines().enumerate().filter(|(_, l)| !l.trim_start().starts_with("//"));
    lines.map(|(i, l)| (format!("{}:{}", relative(path), i + 1), l.to_owned())).collect()
}

fn sources() -> Vec<PathBuf> {
    ["kernels", "data", "cluster", "jobs"].iter().flat_map(|f| files(f, "rs")).collect()
}

/// Places in `paths` whose code has one of `words`.
fn places(paths: &[PathBuf], words: &[&str]) -> Vec<String> {
    let lines = paths.iter().flat_map(|p| code(p));
    lines
        .filter(|(_, l)| words.iter().any(|w| l.contains(w)))
        .map(|(place, l)| format!("{place}: {}", l.trim()))
        .collect()
}

#[test]
fn arrows_between_crates_point_one_way() {
    let allowed = [
        ("kernels", vec![]),
        ("data", vec![]),
        ("cluster", vec!["convoke-kernels", "convoke-data"]),
        ("xtask", vec![]),
    ];
    for (folder, allowed) in allowed {
        let manifest = text(&root().join(folder).join("Cargo.toml"));
        for other in ["convoke-kernels", "convoke-data", "convoke-cluster", "convoke ="] {
            let named = manifest.lines().any(|l| l.starts_with(other));
            assert!(!named || allowed.contains(&other), "{folder} depends on {other}");
        }
    }
}

#[test]
fn no_workload_knows_another() {
    let folders: Vec<String> = fs::read_dir(root().join("jobs"))
        .expect("jobs")
        .flatten()
        .filter(|e| {
            e.path().join("mod.rs").exists()
                && !["cli", "expression", "flow", "inverse", "learning", "prior"]
                    .iter()
                    .any(|room| e.file_name() == *room)
        })
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .collect();
    assert!(folders.contains(&"tomography".to_owned()));
    for folder in &folders {
        for other in folders.iter().filter(|o| *o != folder) {
            let found = places(
                &files(&format!("jobs/{folder}"), "rs"),
                &[&format!("crate::{other}"), &format!("super::{other}::")],
            );
            assert!(found.is_empty(), "{found:?}");
        }
        // The mathematics reads no clock, no environment, no file of its own, and prints nothing.
        let words = [
            "Instant::now",
            "SystemTime",
            "std::env",
            "env::var",
            "File::",
            "fs::",
            "stdout",
            "stderr",
            "println",
            "indicatif",
        ];
        let found = places(&files(&format!("jobs/{folder}"), "rs"), &words);
        assert!(found.is_empty(), "{found:#?}");
    }
}

#[test]
fn features_and_prints_have_one_place_each() {
    let features = places(&sources(), &["cfg(feature", "cfg(not(feature"]);
    assert!(features.iter().all(|p| p.starts_with("cluster/src/comm/mod.rs")), "{features:#?}");
    let prints = places(&sources(), &["println!", "print!(", "io::stdout()", "io::stderr()"]);
    let homes = [
        "jobs/cli/say.rs",
        "jobs/cli/run.rs",
        "cluster/src/progress.rs",
        "cluster/src/comm/mpi.rs",
        "kernels/examples",
        "cluster/examples",
    ];
    let is_test = |p: &str| {
        p.split(':').next().is_some_and(|file| file.ends_with("tests.rs") || file.starts_with("kernels/tests/"))
    };
    let strays: Vec<_> = prints.iter().filter(|p| !is_test(p) && !homes.iter().any(|h| p.starts_with(h))).collect();
    assert!(strays.is_empty(), "{strays:#?}");
}

#[test]
fn unsafe_lives_in_kernels_and_in_the_room_of_mapped_files() {
    let found = places(&sources(), &["unsafe ", "allow(unsafe_code)"]);
    let is_home = |p: &&String| p.starts_with("kernels/") || p.starts_with("data/src/store/mapped.rs");
    let strays: Vec<_> = found.iter().filter(|p| !is_home(p)).collect();
    assert!(strays.is_empty(), "{strays:#?}");
}

#[test]
fn files_stay_short() {
    for path in sources() {
        let lines = text(&path).lines().count();
        assert!(lines <= 600, "{}: {lines} lines", relative(&path));
    }
}

#[test]
fn every_workload_has_its_page_and_its_jobs_parse() {
    for entry in convoke::registry::REGISTRY {
        let folder = root().join("jobs").join(entry.name.replace('-', "_"));
        let page = text(&folder.join("README.md"));
        for (name, job) in entry.jobs {
            assert_eq!(text(&folder.join(format!("{name}.toml"))), *job);
            assert!(page.contains(name), "{}: its page names the job {name}", entry.name);
        }
    }
}

#[test]
fn licences_are_there() {
    assert!(text(&root().join("LICENSE-MIT")).contains("MIT License"));
    assert!(text(&root().join("LICENSE-APACHE")).contains("Apache License"));
}
