//! Files that come back, and files that are refused.

use super::*;

fn file(folder: &tempfile::TempDir, header: &str, numbers: &[u8]) -> PathBuf {
    let path = folder.path().join("a.safetensors");
    let bytes = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), numbers].concat();
    std::fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn tensors_come_back_in_both_precisions_and_equal_data_make_equal_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let tensors = [("b".to_owned(), vec![2, 3]), ("a".to_owned(), vec![]), ("none".to_owned(), vec![0, 4])];
    let [one, two] = ["one", "two"].map(|name| folder.path().join(name));
    for path in [&one, &two] {
        let mut file = SafetensorsWriter::<f64>::create(path, ("what", "a \"text\""), &tensors).unwrap();
        file.write(&[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]).unwrap();
        file.commit_new().unwrap();
    }
    assert_eq!(std::fs::read(&one).unwrap(), std::fs::read(&two).unwrap());
    let file = SafetensorsReader::open(&one).unwrap();
    assert_eq!(file.names().len(), 3);
    assert_eq!((file.read("a").unwrap(), file.about("what")), (vec![0.7], Some("a \"text\"")));
    assert_eq!(file.read("b").unwrap(), [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]);
    assert!(file.is_double("b").unwrap() && file.about("other").is_none());
    let mut again = SafetensorsWriter::<f32>::create(&one, ("what", ""), &tensors).unwrap();
    again.write(&[0.0; 7]).unwrap();
    assert!(matches!(again.commit_new(), Err(DataError::Exists { .. })));
    let mut again = SafetensorsWriter::<f32>::create(&one, ("what", ""), &tensors).unwrap();
    again.write(&[0.5; 7]).unwrap();
    again.commit_replace().unwrap();
    assert_eq!(SafetensorsReader::open(&one).unwrap().read("b").unwrap(), [0.5; 6]);
    let short = SafetensorsWriter::<f32>::create(&two, ("what", ""), &tensors).unwrap();
    assert!(matches!(short.commit_replace(), Err(DataError::Incomplete { written: 0, total: 7, .. })));
    assert_eq!(SafetensorsReader::open(&two).unwrap().read("a").unwrap(), [0.7]);
}

#[test]
fn short_and_complex_numbers_are_widened() {
    let folder = tempfile::tempdir().unwrap();
    let header = r#"{"h":{"dtype":"F16","shape":[6],"data_offsets":[0,12]},
        "b":{"dtype":"BF16","shape":[2],"data_offsets":[12,16]},
        "c":{"dtype":"C64","shape":[1,1],"data_offsets":[16,24]},
        "i":{"dtype":"I8","shape":[1],"data_offsets":[24,25]}}"#;
    let halves = [0x3c00_u16, 0xc000, 0x3555, 0x0001, 0x7c00, 0x8000, 0x3f80, 0xc049];
    let bytes: Vec<u8> = halves.iter().flat_map(|h| h.to_le_bytes()).collect();
    let path =
        file(&folder, header, &[bytes, 1.5f32.to_le_bytes().into(), (-2f32).to_le_bytes().into(), vec![7]].concat());
    let file = SafetensorsReader::open(&path).unwrap();
    assert_eq!(file.read("h").unwrap(), [1.0, -2.0, 1365.0 / 4096.0, 2f64.powi(-24), f64::INFINITY, 0.0]);
    assert_eq!(file.read("b").unwrap(), [1.0, -3.140625]);
    assert_eq!((file.shape("c").unwrap(), file.read("c").unwrap()), (vec![1, 1, 2], vec![1.5, -2.0]));
    assert!(matches!(file.read("i"), Err(DataError::WrongType { .. })));
    assert!(matches!(file.shape("x"), Err(DataError::MissingDataset { .. })));
}

/// Every byte changed, every length cut off: an error or numbers, no panic and no memory beyond the file's own.
#[test]
fn damage_is_no_panic() {
    let folder = tempfile::tempdir().unwrap();
    let tensors = r#"{"a":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]},"b":{"dtype":"BF16","shape":[1],"data_offsets":[8,10]}}"#;
    let path = file(&folder, tensors, &[63; 10]);
    let whole = std::fs::read(&path).unwrap();
    let look = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        let Ok(file) = SafetensorsReader::open(&path) else { return };
        let count = |name: &String| file.read(name).map_or(0, |values| values.len());
        assert!(file.names().iter().map(count).sum::<usize>() <= bytes.len());
    };
    for i in 0..whole.len() {
        look(&whole[..i]);
        for byte in [0, b'0', b'9', b'"', b'-', 0xff] {
            let mut changed = whole.clone();
            changed[i] = byte;
            look(&changed);
        }
    }
}

#[test]
fn files_that_are_none_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    assert!(matches!(SafetensorsReader::open(&path), Err(DataError::NotFound { .. })));
    assert!(matches!(SafetensorsReader::open(folder.path()), Err(DataError::NotAFile { .. })));
    std::fs::write(&path, b"").unwrap();
    assert!(matches!(SafetensorsReader::open(&path), Err(DataError::Empty { .. })));
    for bytes in
        [b"abc".as_slice(), b"\x89HDF\r\n\x1a\n and more", b"\xff\xff\xff\xff\xff\xff\xff\xff", b"\x02\0\0\0\0\0\0\0[]"]
    {
        std::fs::write(&path, bytes).unwrap();
        assert!(matches!(SafetensorsReader::open(&path), Err(DataError::Malformed { .. })), "{bytes:?}");
    }
    let header = r#"{"h":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
    let path = file(&folder, header, &[0; 7]);
    assert!(matches!(SafetensorsReader::open(&path), Err(DataError::Truncated { .. })));
    // A shape that its bytes do not hold; one that overflows.
    for shape in ["[3]", "[4294967296,4294967296,4]"] {
        let path = file(&folder, &header.replace("[2]", shape), &[0; 8]);
        assert!(matches!(SafetensorsReader::open(&path), Err(DataError::Malformed { .. })), "{shape}");
    }
}
