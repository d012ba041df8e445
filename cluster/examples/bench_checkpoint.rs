//! Checkpoint throughput beside plain writing of as many bytes: `bench_checkpoint DIR MIB ROUNDS`.
//!
//! Each round writes a file as `dd conv=fsync` does, then saves a state of the same size while the computation waits
//! (written, synced, read back, hashed, committed), then from a second buffer, reading an HDF5 file meanwhile.
#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use convoke_cluster::checkpoint::{Begun, History, Label, Mode, Name, Snapshot};
use convoke_cluster::run_dir::{Claim, RunDir};
use convoke_cluster::{Comm, Error, Fields, JobText, Region, Result};
use convoke_data::store::Reader;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [dir, mib, rounds] = &arguments[..] else {
        println!("usage: bench_checkpoint DIR MIB ROUNDS");
        return Ok(());
    };
    let (dir, mib) = (PathBuf::from(dir), mib.parse::<usize>().unwrap_or(64));
    let text = JobText { path: "job.toml".into(), text: "schema = 1".into() };
    let run = RunDir::create(&dir, &text, serde_json::json!({}))?;
    let claim = run.claim()?;
    let rows = mib * 4;
    let mut state: Vec<f32> = (0..rows << 16).map(|i| (i as f32).sqrt()).collect();
    let mut buffer = Snapshot::default();
    println!(
        "{mib} MiB: plain MiB/s, checkpoint MiB/s, part of plain; second buffer: held s, in all s, slowest read of 1 MiB s"
    );
    for step in 1..=rounds.parse().unwrap_or(3) {
        let path = dir.join("plain");
        let plain = plain(&path, &state).map_err(|source| Error::Io { path: path.clone(), source })?;
        let begun = Instant::now();
        let file = save(&run, &claim, (2 * step, rows), &mut state, Mode::Wait)?.0;
        let waited = begun.elapsed().as_secs_f64();
        let mode = Mode::Beside { buffer, room: u64::MAX };
        let begun = Instant::now();
        let (_, spare, held, slowest) = save_beside(&run, &claim, (2 * step + 1, rows), &mut state, mode, &file)?;
        buffer = spare;
        let (a, b) = (mib as f64 / plain, mib as f64 / waited);
        println!("{a:.0}  {b:.0}  {:.2}  {held:.2}  {:.2}  {slowest:.3}", b / a, begun.elapsed().as_secs_f64());
        let _ = std::fs::remove_dir_all(run.checkpoints());
    }
    Ok(())
}

fn plain(path: &PathBuf, state: &[f32]) -> std::io::Result<f64> {
    let begun = Instant::now();
    let mut file = std::fs::File::create(path)?;
    for block in bytemuck::cast_slice::<f32, u8>(state).chunks(16 << 20) {
        file.write_all(block)?;
    }
    file.sync_all()?;
    let seconds = begun.elapsed().as_secs_f64();
    std::fs::remove_file(path)?;
    Ok(seconds)
}

fn begin(run: &RunDir, claim: &Claim, (step, rows): (u64, usize), state: &mut [f32], mode: Mode) -> Result<Begun> {
    let name = Name { step, epoch: claim.epoch };
    let label = Label { name, spec_xxh3_128: String::new(), parent: None, provenance: BTreeMap::new() };
    let mut fields = Fields::default();
    fields.array("x", &[rows, 1 << 16], Region::whole(&[rows, 1 << 16]), state);
    Begun::begin(run, &Comm::solo(), label, &fields, &History::default(), mode)
}

/// The shard's file.
fn save(
    run: &RunDir,
    claim: &Claim,
    what: (u64, usize),
    state: &mut [f32],
    mode: Mode,
) -> Result<(PathBuf, Option<Snapshot>)> {
    let begun = begin(run, claim, what, state, mode)?;
    let file = run.checkpoints().join(begun.name().to_string()).join("shard00000-of00001.h5");
    let (committed, buffer) = begun.commit(&Comm::solo(), Some(claim));
    committed.map(|_| (file, buffer))
}

/// Time that the caller stood still and the slowest read of one MiB meanwhile, in seconds.
fn save_beside(
    run: &RunDir,
    claim: &Claim,
    what: (u64, usize),
    state: &mut [f32],
    mode: Mode,
    file: &PathBuf,
) -> Result<(PathBuf, Snapshot, f64, f64)> {
    let since = Instant::now();
    let begun = begin(run, claim, what, state, mode)?;
    let held = since.elapsed().as_secs_f64();
    let mut slowest = 0f64;
    let reader = Reader::open(file)?;
    while begun.is_writing() {
        let since = Instant::now();
        reader.read_slab::<f32>("/fields/x", &[0, 0], &[4, 1 << 16])?;
        slowest = slowest.max(since.elapsed().as_secs_f64());
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let since = Instant::now();
    let (committed, buffer) = begun.commit(&Comm::solo(), Some(claim));
    committed?;
    Ok((file.clone(), buffer.unwrap_or_default(), held + since.elapsed().as_secs_f64(), slowest))
}
