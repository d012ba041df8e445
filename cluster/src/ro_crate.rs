//! `ro-crate-metadata.json`: what made the result, for archives and for machines.
//!
//! Source: Process Run Crate 0.6 (<https://w3id.org/ro/wfrun/process/0.6>) on RO-Crate 1.3.

use std::path::Path;

use convoke_data::DataError;
use convoke_data::store::{Digest, digest_bytes, digest_file, write_atomic};
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::run_dir::RunDir;

/// Name of the file, fixed by RO-Crate.
pub const FILE: &str = "ro-crate-metadata.json";

/// What a run that is complete knows about itself.
#[derive(Debug)]
pub struct Made<'a> {
    /// Name of the job.
    pub name: &'a str,
    /// Registry name of the workload.
    pub workload: &'a str,
    /// Identity of the run.
    pub run_id: &'a str,
    /// What is known about the program: `(name, value)`.
    pub program: &'a [(&'static str, String)],
    /// Figures that fix the result: `(name, value)`, such as the seed.
    pub settings: &'a [(&'static str, String)],
    /// Length and hash of the result file.
    pub result: &'a Digest,
}

/// Writes the crate of a run that has just finished, beside its result.
///
/// # Errors
/// The directory cannot be written.
pub fn write(dir: &RunDir, made: &Made) -> Result<()> {
    let events = dir.events();
    let time = |event: Option<&Value>| event.and_then(|e| e["time"].as_str()).unwrap_or_default().to_owned();
    let started = time(events.iter().find(|e| e["event"] == "started"));
    let ended = time(events.iter().rev().find(|e| e["event"] == "finished"));
    let text = std::fs::read(dir.path.join("spec.toml"))
        .map_err(|source| Error::Io { path: dir.path.join("spec.toml"), source })?;
    let story = digest_file(dir.path.join("events.jsonl"))?;
    let files = [
        ("spec.toml", "The job file, as it was submitted", "application/toml", &digest_bytes(&text)),
        ("result.h5", "The result: arrays, history, provenance", "application/x-hdf5", made.result),
        ("events.jsonl", "What happened when: one line per event", "application/jsonl", &story),
    ];
    let crate_ = json!({
        "@context": "https://w3id.org/ro/crate/1.3/context",
        "@graph": graph(made, &started, &ended, &files),
    });
    let bytes = serde_json::to_vec_pretty(&crate_)
        .map_err(|e| DataError::InvalidValue { path: dir.path.join(FILE), detail: e.to_string() })?;
    Ok(write_atomic(dir.path.join(FILE), &bytes)?)
}

fn graph(made: &Made, started: &str, ended: &str, files: &[(&str, &str, &str, &Digest)]) -> Vec<Value> {
    let get = |key: &str| made.program.iter().find(|(name, _)| *name == key).map(|(_, v)| v.as_str());
    let action = format!("#run-{}", made.run_id);
    let ids = |names: &[&str]| names.iter().map(|name| json!({ "@id": name })).collect::<Vec<_>>();
    let parts: Vec<&str> = files.iter().map(|(name, ..)| *name).collect();
    let settings: Vec<(String, &(&str, String))> =
        made.settings.iter().map(|setting| (format!("#{}", setting.0), setting)).collect();
    let mut inputs = ids(&["spec.toml"]);
    inputs.extend(settings.iter().map(|(id, _)| json!({ "@id": id })));
    let dirty = if get("git_dirty") == Some("1") { " with local changes" } else { "" };
    let version = get("convoke_version").unwrap_or("unknown");
    let commit = get("git_commit").map_or(String::new(), |commit| format!(" (commit {commit}{dirty})"));
    let libraries: Vec<String> = [("hdf5_version", "HDF5"), ("mpi_version", "MPI"), ("cuda_version", "CUDA driver")]
        .iter()
        .filter_map(|(key, name)| get(key).map(|v| format!("{name} {v}")))
        .collect();
    let mut graph = vec![
        json!({
            "@id": FILE, "@type": "CreativeWork",
            "conformsTo": { "@id": "https://w3id.org/ro/crate/1.3" }, "about": { "@id": "./" },
        }),
        json!({
            "@id": "./", "@type": "Dataset", "name": made.name,
            "description": format!("Run {} of the workload {} of Convoke", made.run_id, made.workload),
            "datePublished": ended,
            "license": "None is stated: ask whoever ran it",
            "conformsTo": { "@id": "https://w3id.org/ro/wfrun/process/0.6" },
            "hasPart": ids(&parts), "mentions": { "@id": action },
        }),
        json!({
            "@id": "https://w3id.org/ro/wfrun/process/0.6", "@type": "CreativeWork",
            "name": "Process Run Crate", "version": "0.6",
        }),
        json!({
            "@id": action, "@type": "CreateAction", "name": format!("convoke run of {}", made.name),
            "instrument": { "@id": "#convoke" }, "object": inputs, "result": ids(&["result.h5"]),
            "startTime": started, "endTime": ended,
            "actionStatus": { "@id": "http://schema.org/CompletedActionStatus" },
        }),
        json!({
            "@id": "#convoke", "@type": "SoftwareApplication", "name": "convoke",
            "softwareVersion": format!("{version}{commit}"), "softwareRequirements": libraries,
        }),
    ];
    graph.extend(files.iter().map(|(name, what, format, digest)| {
        json!({
            "@id": name, "@type": "File", "name": what, "encodingFormat": format,
            "contentSize": digest.bytes.to_string(), "identifier": format!("xxh3-128:{}", digest.xxh3_128),
        })
    }));
    graph.extend(
        settings
            .iter()
            .map(|(id, (name, value))| json!({ "@id": id, "@type": "PropertyValue", "name": name, "value": value })),
    );
    graph
}

/// The crate beside the result in `dir`, if there is one.
pub fn read(dir: &Path) -> Option<Value> {
    serde_json::from_slice(&std::fs::read(dir.join(FILE)).ok()?).ok()
}
