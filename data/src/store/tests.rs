//! Round trips, damage, hostile files, a full disk.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::DataError;

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// A file with a contiguous and a compressed dataset.
fn sample(path: &Path) -> Digest {
    let mut file = Writer::create(path).unwrap();
    let values: Vec<f32> = (0..24).map(|i| i as f32).collect();
    file.whole("/result/mu", &[2, 3, 4], &values).unwrap();
    file.dataset::<f64>("/history/loss", &[1000], Layout::Chunked { chunk: vec![512], deflate: true }).unwrap();
    file.write("/history/loss", &[0], &[1000], &vec![0.5_f64; 1000]).unwrap();
    file.attribute("/", "seed", 7_u64).unwrap();
    file.attribute("/result/mu", "units", "1/m").unwrap();
    file.commit_new().unwrap()
}

fn leftovers(folder: &Path) -> usize {
    fs::read_dir(folder).unwrap().filter(|e| e.as_ref().unwrap().path().extension().is_some_and(|x| x == "tmp")).count()
}

#[test]
fn what_is_written_is_read_back_exactly() {
    let folder = folder();
    let path = folder.path().join("a.h5");
    let digest = sample(&path);
    assert_eq!(digest, digest_file(&path).unwrap());
    assert_eq!(digest, digest_bytes(&fs::read(&path).unwrap()));
    let file = Reader::open(&path).unwrap();
    assert_eq!(file.shape("result/mu").unwrap(), [2, 3, 4]);
    assert_eq!(file.dtype("/result/mu").unwrap(), Dtype::Float(4));
    assert_eq!(file.read::<f32>("/result/mu").unwrap()[23], 23.0);
    assert_eq!(file.read_slab::<f64>("/result/mu", &[1, 0, 2], &[1, 2, 2]).unwrap(), [14.0, 15.0, 18.0, 19.0]);
    assert_eq!(file.u64_attribute("/", "seed").unwrap(), 7);
    assert_eq!(file.text_attribute("/result/mu", "units").unwrap(), "1/m");
    assert_eq!(file.attribute("/result/mu", "absent").unwrap(), None);
    let names: Vec<_> = file.list().unwrap().into_iter().map(|entry| entry.name).collect();
    assert_eq!(names, ["/history/loss", "/result/mu"]);
    assert_eq!(leftovers(folder.path()), 0);
}

#[test]
fn equal_data_make_equal_bytes() {
    let folder = folder();
    assert_eq!(sample(&folder.path().join("a.h5")), sample(&folder.path().join("b.h5")));
}

#[test]
fn every_attribute_type_survives() {
    let folder = folder();
    let path = folder.path().join("a.h5");
    let values = [
        Attribute::F64(-0.5),
        Attribute::F64(f64::NAN),
        Attribute::I64(i64::MIN),
        Attribute::U64(u64::MAX),
        Attribute::Text("Ångström, 日本".into()),
        Attribute::Text(String::new()),
        Attribute::Ascii("ImageData".into()),
        Attribute::F64s(vec![1.0, 2.0]),
        Attribute::I64s(vec![-1, 2, 3]),
        Attribute::U64s(vec![1]),
        Attribute::Texts(vec!["node1".into(), "node2".into()]),
    ];
    let mut file = Writer::create_latest(&path).unwrap();
    for (i, value) in values.iter().enumerate() {
        file.attribute("/", &format!("a{i}"), value.clone()).unwrap();
    }
    file.attribute("/", "a0", -0.5).unwrap(); // replaces
    file.text("/spec_toml", "[run]\nsteps = 3\n").unwrap();
    file.commit_new().unwrap();
    let file = Reader::open(&path).unwrap();
    for (i, value) in values.iter().enumerate() {
        let read = file.attribute("/", &format!("a{i}")).unwrap().unwrap();
        assert!(read.same_as(value), "{value:?} became {read:?}");
    }
    assert_eq!(file.read_text("/spec_toml").unwrap(), "[run]\nsteps = 3\n");
}

#[test]
fn scalars_and_empty_datasets_survive() {
    let folder = folder();
    let path = folder.path().join("a.h5");
    let mut file = Writer::create(&path).unwrap();
    file.whole("/t", &[], &[2.5_f64]).unwrap();
    file.whole::<f32>("/none", &[0, 3], &[]).unwrap();
    file.commit_new().unwrap();
    let file = Reader::open(&path).unwrap();
    assert_eq!(file.read::<f64>("/t").unwrap(), [2.5]);
    assert_eq!(file.read_slab::<f64>("/t", &[], &[]).unwrap(), [2.5]);
    assert_eq!(file.shape("/none").unwrap(), [0, 3]);
    assert!(file.read::<f32>("/none").unwrap().is_empty());
}

#[test]
fn a_dropped_writer_leaves_nothing_and_the_old_file_stays() {
    let folder = folder();
    let path = folder.path().join("a.h5");
    let before = sample(&path);
    let mut file = Writer::create(&path).unwrap();
    file.whole("/x", &[1], &[1_i32]).unwrap();
    drop(file);
    assert_eq!(digest_file(&path).unwrap(), before);
    assert_eq!(leftovers(folder.path()), 0);
}

#[test]
fn commit_new_refuses_and_commit_replace_replaces() {
    let folder = folder();
    let path = folder.path().join("a.h5");
    let before = sample(&path);
    let mut file = Writer::create(&path).unwrap();
    file.whole("/x", &[1], &[1_i32]).unwrap();
    assert!(matches!(file.commit_new(), Err(DataError::Exists { .. })));
    assert_eq!(digest_file(&path).unwrap(), before);
    let mut file = Writer::create(&path).unwrap();
    file.whole("/x", &[1], &[1_i32]).unwrap();
    let digest = file.commit_replace().unwrap();
    assert_eq!(digest_file(&path).unwrap(), digest);
    assert_eq!(leftovers(folder.path()), 0);
}

#[test]
fn a_file_that_is_not_filled_is_refused() {
    let folder = folder();
    let mut file = Writer::create(folder.path().join("a.h5")).unwrap();
    file.dataset::<f32>("/x", &[4, 2], Layout::Contiguous).unwrap();
    file.write("/x", &[0, 0], &[2, 2], &[0.0_f32; 4]).unwrap();
    file.write("/x", &[0, 0], &[2, 2], &[1.0_f32; 4]).unwrap(); // the same slab again
    let overlap = file.write("/x", &[1, 0], &[2, 2], &[0.0_f32; 4]);
    assert!(matches!(overlap, Err(DataError::Overlap { .. })));
    assert!(matches!(file.write("/x", &[3, 0], &[2, 2], &[0.0_f32; 4]), Err(DataError::OutOfBounds { .. })));
    assert!(matches!(file.write("/x", &[2, 0], &[2, 2], &[0.0_f64; 4]), Err(DataError::WrongType { .. })));
    assert!(matches!(file.write("/x", &[2, 0], &[2, 2], &[0.0_f32; 3]), Err(DataError::ShapeMismatch { .. })));
    assert!(matches!(file.write("/y", &[2, 0], &[2, 2], &[0.0_f32; 4]), Err(DataError::MissingDataset { .. })));
    assert!(matches!(file.commit_new(), Err(DataError::Incomplete { written: 4, total: 8, .. })));
}

#[test]
fn a_name_with_a_typo_is_answered_with_the_nearest() {
    let folder = folder();
    let path = folder.path().join("a.h5");
    sample(&path);
    let error = Reader::open(&path).unwrap().read::<f32>("/result/nu").unwrap_err();
    assert!(error.to_string().contains("did you mean /result/mu?"), "{error}");
    assert!(error.to_string().contains("/history/loss"), "{error}");
}

#[test]
fn clipping_conversions_are_refused() {
    let folder = folder();
    let path = folder.path().join("a.h5");
    sample(&path);
    let file = Reader::open(&path).unwrap();
    let error = file.read::<i32>("/result/mu").unwrap_err();
    assert!(matches!(error, DataError::WrongType { .. }), "{error}");
    let error = file.with_limit(16).read::<f32>("/result/mu").unwrap_err();
    assert!(matches!(error, DataError::TooLarge { bytes: 96, limit: 16, .. }), "{error}");
}

#[test]
fn unusable_files_have_their_own_errors() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    assert!(matches!(Reader::open(at("none.h5")), Err(DataError::NotFound { .. })));
    assert!(matches!(Reader::open(folder.path()), Err(DataError::NotAFile { .. })));
    assert!(matches!(Reader::open("/dev/null"), Err(DataError::NotAFile { .. })));
    fs::write(at("empty.h5"), b"").unwrap();
    assert!(matches!(Reader::open(at("empty.h5")), Err(DataError::Empty { .. })));
    fs::write(at("text.h5"), b"II*\0 not hdf5").unwrap();
    assert!(matches!(Reader::open(at("text.h5")), Err(DataError::NotHdf5 { .. })));
    assert!(matches!(Writer::create(folder.path()), Err(DataError::NotAFile { .. })));
    assert!(matches!(Writer::create(at("no/such/a.h5")), Err(DataError::NotFound { .. })));
    // A valid file behind a user block is a valid file.
    sample(&at("a.h5"));
    let mut shifted = vec![0_u8; 512];
    shifted.extend(fs::read(at("a.h5")).unwrap());
    fs::write(at("shifted.h5"), shifted).unwrap();
    assert_eq!(Reader::open(at("shifted.h5")).unwrap().read::<f32>("/result/mu").unwrap()[5], 5.0);
}

#[test]
fn permission_is_named() {
    use std::os::unix::fs::PermissionsExt;
    let folder = folder();
    let path = folder.path().join("a.h5");
    sample(&path);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::File::open(&path).is_ok() {
        skip("this user may read every file");
        return;
    }
    assert!(matches!(Reader::open(&path), Err(DataError::PermissionDenied { .. })));
}

#[test]
fn truncation_anywhere_is_an_error() {
    let folder = folder();
    let path = folder.path().join("a.h5");
    sample(&path);
    let bytes = fs::read(&path).unwrap();
    let cut = folder.path().join("cut.h5");
    for length in (1..bytes.len()).step_by(bytes.len() / 60) {
        fs::write(&cut, &bytes[..length]).unwrap();
        let error = Reader::open(&cut).and_then(|file| {
            file.read::<f64>("/history/loss")?;
            file.read::<f32>("/result/mu")
        });
        assert!(error.is_err(), "{length} of {} bytes were accepted", bytes.len());
    }
    fs::write(&cut, &bytes[..bytes.len() - 10]).unwrap();
    assert!(matches!(Reader::open(&cut), Err(DataError::Truncated { .. })));
}

#[test]
fn a_flipped_bit_never_panics_and_changes_the_digest() {
    let folder = folder();
    let path = folder.path().join("a.h5");
    let good = sample(&path);
    let bytes = fs::read(&path).unwrap();
    let bad = folder.path().join("bad.h5");
    for position in (0..bytes.len()).step_by(bytes.len() / 150) {
        let mut flipped = bytes.clone();
        flipped[position] ^= 1 << (position % 8);
        fs::write(&bad, flipped).unwrap();
        assert_ne!(digest_file(&bad).unwrap(), good);
        // With the oldest file format some flips go unnoticed by HDF5: that is what the digest is for.
        if let Ok(file) = Reader::open(&bad) {
            let _ = file.list();
            let _ = file.with_limit(1 << 20).read::<f32>("/result/mu");
        }
    }
}

#[test]
fn data_in_other_files_are_refused() {
    let folder = folder();
    let secret = folder.path().join("secret.h5");
    sample(&secret);
    let path = folder.path().join("hostile.h5");
    {
        let file = hdf5::File::create(&path).unwrap();
        file.link_external("secret.h5", "/result/mu", "stolen").unwrap();
        file.link_external("secret.h5", "/result", "group").unwrap();
        file.link_soft("/group/mu", "sideways").unwrap();
        file.link_soft("/nowhere", "dangling").unwrap();
        file.link_soft("/round", "round").unwrap();
        file.new_dataset_builder().external("secret.h5", 0, 16).empty::<u8>().shape(16).create("raw").unwrap();
        let inner = file.create_group("inner").unwrap();
        inner.link_hard("/", "cycle").unwrap_or(());
        file.link_hard("/", "inner/up").unwrap();
        file.new_dataset::<i32>().shape(2).create("honest").unwrap().write_raw(&[1, 2]).unwrap();
        file.link_soft("/honest", "alias").unwrap();
    }
    let file = Reader::open(&path).unwrap();
    for name in ["stolen", "group/mu", "sideways", "raw"] {
        let error = file.read::<u8>(name).unwrap_err();
        assert!(matches!(error, DataError::External { .. }), "{name}: {error}");
    }
    for name in ["dangling", "round", "round/x", "honest/x"] {
        let error = file.read::<u8>(name).unwrap_err();
        assert!(matches!(error, DataError::MissingDataset { .. }), "{name}: {error}");
    }
    assert_eq!(file.read::<i32>("alias").unwrap(), [1, 2]);
    assert_eq!(file.read::<i32>("inner/up/honest").unwrap(), [1, 2]);
    assert_eq!(file.list().unwrap().len(), 1);
}

#[test]
fn write_atomic_replaces_whole_files() {
    let folder = folder();
    let path = folder.path().join("manifest.json");
    write_atomic(&path, b"one").unwrap();
    write_atomic(&path, b"two").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"two");
    assert_eq!(leftovers(folder.path()), 0);
    assert!(free_bytes(folder.path()).unwrap() > 0);
    assert!(matches!(free_bytes(folder.path().join("no")), Err(DataError::NotFound { .. })));
}

/// A 1 MiB tmpfs, unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path) -> Option<Self> {
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(at).output();
        done.is_ok_and(|output| output.status.success()).then(|| Self(at.to_path_buf()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

#[test]
fn a_full_disk_is_never_a_success() {
    let folder = folder();
    let Some(disk) = SmallDisk::mount(folder.path()) else {
        skip("cannot mount a small tmpfs (needs root)");
        return;
    };
    let path = disk.0.join("a.h5");
    let mut failures = 0;
    // Around the limit every stage of the write is where the disk fills.
    for kib in (700..1100).step_by(8) {
        for layout in [Layout::Contiguous, Layout::Chunked { chunk: vec![16 << 10], deflate: false }] {
            let values: Vec<f32> = (0..kib * 128).map(|i| (i as f32).sin()).collect();
            let written = Writer::create(&path).and_then(|mut file| {
                file.dataset::<f32>("/u", &[values.len()], layout.clone())?;
                file.write("/u", &[0], &[values.len()], &values)?;
                file.whole("/v", &[values.len()], &values)?;
                file.commit_replace()
            });
            match written {
                Ok(digest) => assert_eq!(digest_file(&path).unwrap(), digest),
                // The second when HDF5 said `Ok` all the way.
                Err(DataError::DiskFull { .. } | DataError::Unverified { .. }) => failures += 1,
                Err(other) => panic!("{kib} KiB: {other}"),
            }
            assert_eq!(leftovers(&disk.0), 0);
            let _ = fs::remove_file(&path);
        }
    }
    assert!(failures > 10, "the disk was never full: {failures}");
    let full = write_atomic(disk.0.join("b"), &vec![1; 2 << 20]);
    assert!(matches!(full, Err(DataError::DiskFull { .. })));
    sample(&path); // and with room again all is well
}

fn skip(reason: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "skipped: {reason}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Any cut of any shape into slabs along an axis, in any layout, reads back whole and in parts.
    #[test]
    fn slabs_round_trip(
        shape in prop::collection::vec(1_usize..7, 1..4),
        axis_choice in 0_usize..3,
        cut_choice in 0_usize..7,
        layout_choice in 0_usize..3,
        latest: bool,
    ) {
        let folder = folder();
        let path = folder.path().join("a.h5");
        let axis = axis_choice % shape.len();
        let cut = cut_choice % (shape[axis] + 1);
        let layout = match layout_choice {
            0 => Layout::Contiguous,
            n => Layout::Chunked { chunk: vec![3; shape.len()], deflate: n == 2 },
        };
        let mut file = if latest { Writer::create_latest(&path) } else { Writer::create(&path) }.unwrap();
        file.dataset::<i64>("/x", &shape, layout).unwrap();
        let mut slabs = Vec::new();
        for (first, length) in [(0, cut), (cut, shape[axis] - cut)] {
            let (mut start, mut count) = (vec![0; shape.len()], shape.clone());
            start[axis] = first;
            count[axis] = length;
            let values: Vec<i64> = indices(&start, &count).map(|index| code(&index)).collect();
            file.write("/x", &start, &count, &values).unwrap();
            slabs.push((start, count, values));
        }
        file.commit_new().unwrap();
        let file = Reader::open(&path).unwrap();
        let all: Vec<i64> = indices(&vec![0; shape.len()], &shape).map(|index| code(&index)).collect();
        prop_assert_eq!(file.read::<i64>("/x").unwrap(), all);
        for (start, count, values) in slabs {
            prop_assert_eq!(file.read_slab::<i64>("/x", &start, &count).unwrap(), values);
        }
    }
}

/// All indices of a box, last axis fastest.
fn indices(start: &[usize], count: &[usize]) -> impl Iterator<Item = Vec<usize>> {
    let (start, count) = (start.to_vec(), count.to_vec());
    (0..count.iter().product::<usize>()).map(move |mut flat| {
        let mut index = start.clone();
        for axis in (0..count.len()).rev() {
            index[axis] += flat % count[axis];
            flat /= count[axis];
        }
        index
    })
}

fn code(index: &[usize]) -> i64 {
    index.iter().fold(0, |code, &i| code * 10 + i as i64)
}

/// A child inherits the open file and any `flock` on it: opening the file again for the read-back
/// then failed, now and then, in whatever ran beside a process start.
#[test]
fn a_process_started_while_a_file_is_open_does_not_lock_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = Writer::create(folder.path().join("a.h5")).unwrap();
    file.whole("/x", &[3], &[1.0_f32, 2.0, 3.0]).unwrap();
    let mut child = Command::new("sleep").arg("30").spawn().unwrap();
    let committed = file.commit_new();
    child.kill().unwrap();
    child.wait().unwrap();
    committed.unwrap();
}
