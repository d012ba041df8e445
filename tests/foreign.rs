//! `convoke analyse` on files that may come from anybody: what could do harm is refused in one line,
//! and whatever the HDF5 library does to the process that reads, the one that was asked lives on.
#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

mod common;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use common::{below, convoke, run, scratch, told};
use convoke_data::store::{Layout, Writer};
use convoke_kernels::Philox;
use hdf5::File;
use hdf5::types::VarLenUnicode;

/// Runs `analyse` on a file and asks for a refusal: exit code 2, nothing on standard output, one line.
fn refused(arguments: &[&str], expected: &str) {
    let (code, out, err) = told(&run(&[&["analyse"], arguments].concat()));
    assert_eq!((code, out.as_str()), (2, ""), "{err}");
    assert_eq!(err.trim_end(), format!("convoke: error: {expected}"));
}

/// A file with one honest array, and what `evil` adds.
fn file(dir: &Path, name: &str, evil: impl FnOnce(&File)) -> String {
    let path = dir.join(name);
    let file = File::create(&path).unwrap();
    file.new_dataset_builder().with_data(&[1.0, 2.0, 3.0]).create("good").unwrap();
    evil(&file);
    file.close().unwrap();
    path.display().to_string()
}

#[test]
fn data_in_other_files_are_not_read() {
    let scratch = scratch();
    let secret = below(scratch.path(), "secret");
    fs::write(&secret, [7; 64]).unwrap();
    let help = "this is refused: make a self-contained copy, for example with `h5repack`";

    let link = file(scratch.path(), "link.h5", |f| f.link_external(&secret, "/x", "stolen").unwrap());
    let path = file(scratch.path(), "storage.h5", |f| {
        f.new_dataset_builder().empty::<u8>().shape(64).external(&secret, 0, 64).create("stolen").unwrap();
    });
    let target = format!("external storage {secret}");
    refused(&[&path], &format!("{path}: /stolen lies in another file ({target}); {help}"));
    refused(&["stat", &path, "stolen"], &format!("{path}: /stolen lies in another file ({target}); {help}"));
    refused(&[&link], &format!("{link}: /stolen lies in another file (an external link); {help}"));
    refused(&["diff", &link, &link], &format!("{link}: /stolen lies in another file (an external link); {help}"));
    refused(
        &["export", &link, "stolen", "--format", "npy"],
        &format!("{link}: /stolen lies in another file (an external link); {help}"),
    );
    let virtual_ = file(scratch.path(), "virtual.h5", |f| {
        let source = f.new_dataset_builder().empty::<f64>().shape(3);
        source.virtual_map(&secret, "x", 3, .., 3, ..).create("stolen").unwrap();
    });
    refused(&[&virtual_], &format!("{virtual_}: /stolen lies in another file (a virtual dataset); {help}"));

    // A listing shows them, and an honest neighbour can be read by its name.
    let (code, out, _) = told(&run(&["analyse", "ls", &path]));
    assert!(code == 0 && out.contains("refused: /stolen lies in another file") && out.contains("/good"), "{out}");
    let (code, out, _) = told(&run(&["analyse", "stat", &link, "good"]));
    assert!(code == 0 && out.contains('3'), "{out}");
}

#[test]
fn a_name_that_leads_outside_through_a_soft_link_is_refused() {
    let scratch = scratch();
    let other = file(scratch.path(), "other.h5", |_| {});
    let path = file(scratch.path(), "link.h5", |f| {
        f.link_external(&other, "/", "door").unwrap();
        f.link_soft("/door/good", "innocent").unwrap();
    });
    let (code, out, err) = told(&run(&["analyse", "stat", &path, "innocent"]));
    assert!(code == 2 && out.is_empty() && err.contains("/innocent lies in another file"), "{err}");
}

#[test]
fn programs_of_others_are_not_loaded() {
    let scratch = scratch();
    let path = file(scratch.path(), "filter.h5", |f| {
        // The library lets an optional filter be absent when writing.
        let chunked = f.new_dataset_builder().empty::<f64>().shape(10).chunk(10);
        let _ = chunked.add_filter(32_013, &[1, 2]).create("packed");
    });
    if File::open(&path).unwrap().dataset("packed").is_err() {
        // This library refuses to write what it cannot pack.
        return;
    }
    let help = "which needs a plug-in; this is refused: make a copy with `h5repack -f GZIP=4`";
    refused(&[&path], &format!("{path}: /packed is packed with filter 32013, {help}"));
}

#[test]
fn claims_of_size_are_limited() {
    let scratch = scratch();
    let help = "if you trust the file, allow more with --max-bytes";
    // 1.4 kB that claim 8 TB.
    let path = file(scratch.path(), "huge.h5", |f| {
        f.new_dataset_builder().empty::<f64>().shape(1_000_000_000_000_usize).chunk(1024).create("huge").unwrap();
    });
    assert!(fs::metadata(&path).unwrap().len() < 8192);
    refused(&[&path], &format!("{path}: /huge claims 8000000000000 bytes, and 2147483648 are allowed; {help}"));
    let chunk = file(scratch.path(), "chunk.h5", |f| {
        let n = (1_usize << 28) + 1;
        f.new_dataset_builder().empty::<f32>().shape(n).chunk(n).deflate(9).create("block").unwrap();
    });
    refused(
        &[&chunk],
        &format!("{chunk}: one chunk of /block claims 1073741828 bytes, and 1073741824 are allowed; {help}"),
    );
    // A bomb: a few kB that unpack to 64 MB, read with less room and with enough.
    let bomb = file(scratch.path(), "bomb.h5", |f| {
        let zeros = vec![0.0_f32; 1 << 24];
        f.new_dataset_builder().with_data(&zeros).chunk(1 << 20).deflate(9).create("zeros").unwrap();
    });
    assert!(fs::metadata(&bomb).unwrap().len() < 200_000);
    refused(
        &["stat", &bomb, "--max-bytes", "10MB"],
        &format!("{bomb}: /zeros claims 67108864 bytes, and 10000000 are allowed; {help}"),
    );
    assert_eq!(told(&run(&["analyse", "stat", &bomb, "--max-bytes", "64MiB"])).0, 0);
    let (code, _, err) = told(&run(&["analyse", "stat", &bomb, "--max-bytes", "much"]));
    assert!(code == 2 && err.contains("'much' is no size, such as 16GiB"), "{err}");
}

#[test]
fn structure_without_end_comes_to_an_end() {
    let scratch = scratch();
    let cycle = file(scratch.path(), "cycle.h5", |f| {
        f.create_group("a").unwrap().create_group("b").unwrap();
        f.link_hard("/", "a/b/root").unwrap();
        f.link_hard("/a", "a/b/a").unwrap();
    });
    let (code, out, err) = told(&run(&["analyse", "ls", &cycle]));
    assert!(code == 0 && out.contains("/a/b/root/"), "{err}");
    assert_eq!(told(&run(&["analyse", &cycle, "--no-pictures"])).0, 0);
    let help = "this is refused: copy what you need into a file of its own, for example with `h5copy`";
    let deep = file(scratch.path(), "deep.h5", |f| {
        f.create_group(&vec!["g"; 40].join("/")).unwrap();
    });
    refused(&[&deep], &format!("{deep}: holds groups nested deeper than 32 levels; {help}"));
    refused(&["ls", &deep], &format!("{deep}: holds groups nested deeper than 32 levels; {help}"));
    let many = file(scratch.path(), "many.h5", |f| {
        let group = f.create_group("g").unwrap();
        (0..100_001).for_each(|k| group.link_hard("/good", &k.to_string()).unwrap());
    });
    let start = Instant::now();
    refused(&[&many], &format!("{many}: holds more than 100000 objects; {help}"));
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

#[test]
fn names_do_not_steer_the_terminal() {
    let scratch = scratch();
    let path = file(scratch.path(), "names.h5", |f| {
        let data = f.new_dataset_builder().with_data(&[1.0]).create("\u{1b}[31mred").unwrap();
        let unit: VarLenUnicode = "\u{1b}]0;title\u{7}".parse().unwrap();
        data.new_attr::<VarLenUnicode>().create("units").unwrap().write_scalar(&unit).unwrap();
    });
    for view in ["ls", "stat"] {
        let (code, out, _) = told(&run(&["analyse", view, &path]));
        assert!(code == 0 && !out.contains('\u{1b}') && !out.contains('\u{7}'), "{out:?}");
    }
}

#[test]
fn a_reader_that_does_not_come_back_is_ended() {
    let scratch = scratch();
    let path = below(scratch.path(), "slow.h5");
    let mut writer = Writer::create(&path).unwrap();
    writer.whole("/x", &[1 << 22], &vec![0.5_f64; 1 << 22]).unwrap();
    writer.commit_new().unwrap();
    let (code, out, err) = told(&run(&["analyse", "stat", &path, "--max-time", "1ms"]));
    let how = "it took more than 1ms; allow more with --max-time; it is damaged, or made to do harm";
    assert_eq!(
        (code, out.as_str(), err.trim_end()),
        (9, "", format!("convoke: error: {path}: this file could not be read: {how}").as_str())
    );
}

/// Any file with any bytes changed or lost: no panic, no hang, and an exit code that says what it is.
#[test]
fn damaged_files_end_in_order() {
    const FILES: u64 = 300;
    const LIMIT: Duration = Duration::from_secs(20);
    let scratch = scratch();
    let whole = scratch.path().join("whole.h5");
    let mut writer = Writer::create(&whole).unwrap();
    let values: Vec<f32> = (0..4 * 5 * 6).map(|k| k as f32).collect();
    let packed = Layout::Chunked { chunk: vec![2, 3, 4], deflate: true };
    writer.dataset::<f32>("/result/mu", &[4, 5, 6], packed).unwrap();
    writer.write("/result/mu", &[0, 0, 0], &[4, 5, 6], &values).unwrap();
    writer.attribute("/result/mu", "axes", "z:y:x").unwrap();
    writer.whole("/result/z", &[4], &[0.0, 1.0, 2.0, 3.0]).unwrap();
    writer.scale("/result/mu", 0, "/result/z", "z").unwrap();
    writer.whole("/history/residual", &[3], &[1.0, 0.1, 0.01]).unwrap();
    writer.text("/spec_toml", "schema = 1").unwrap();
    writer.attribute("/result", "psnr_db", 31.5).unwrap();
    writer.commit_new().unwrap();
    let bytes = fs::read(&whole).unwrap();
    let mut codes = [0; 10];
    for seed in 0..FILES {
        let random = Philox::new(20_261_124, seed);
        let pick = |k: u64, n: usize| ((random.uniform(k) * n as f64) as usize).min(n - 1);
        let mut changed = bytes.clone();
        // Metadata lie in front: half of the changes go there.
        let reach = if seed % 2 == 0 { bytes.len() } else { bytes.len().min(2048) };
        match seed % 10 {
            9 => changed.truncate(pick(0, bytes.len())),
            _ => (0..1 + seed % 8).for_each(|k| changed[pick(2 * k, reach)] = pick(2 * k + 1, 256) as u8),
        }
        let path = scratch.path().join(format!("{seed}.h5"));
        fs::write(&path, changed).unwrap();
        let start = Instant::now();
        let output = convoke().args(["analyse", "--no-pictures", "--max-time", "15s"]).arg(&path).output().unwrap();
        let (code, _, err) = told(&output);
        assert!(start.elapsed() < LIMIT, "seed {seed}: {:?}", start.elapsed());
        assert!([0, 2, 9].contains(&code), "seed {seed}: code {code}: {err}");
        assert!((code == 0) == err.is_empty() && err.lines().count() <= 1, "seed {seed}: {err}");
        codes[code as usize] += 1;
    }
    // The damage is seen, not only survived.
    assert!(codes[2] > FILES / 10 && codes[0] > FILES / 10, "{codes:?}");
}
