//! Any bytes as an HDF5 file of unknown origin: all of it is listed and read, or refused.
//!
//! What dies here inside the HDF5 library dies in a child process in the program (`jobs/cli/analyse/child.rs`); what panics is ours.
#![no_main]

use std::io::Write;

use convoke_data::store::{Dtype, Reader};
use libfuzzer_sys::fuzz_target;

/// Larger than every seed, small enough that a bomb does not take the fuzzer's own memory.
const BYTES: u64 = 16 << 20;

fuzz_target!(|bytes: &[u8]| {
    let Ok(mut file) = tempfile::Builder::new().suffix(".h5").tempfile_in("/dev/shm") else { return };
    if file.write_all(bytes).is_err() {
        return;
    }
    let Ok(reader) = Reader::open_foreign(file.path(), Some(BYTES)) else { return };
    for (name, _) in reader.objects().unwrap_or_default() {
        for attribute in reader.attribute_names(&name).unwrap_or_default() {
            let _ = reader.attribute(&name, &attribute);
        }
        let Ok(entry) = reader.entry(&name) else { continue };
        let _ = match entry.dtype {
            Dtype::Text => reader.read_texts(&name).map(drop),
            Dtype::Signed(_) | Dtype::Unsigned(_) => reader.read::<i64>(&name).map(drop),
            _ => reader.read::<f64>(&name).map(drop),
        };
    }
});
