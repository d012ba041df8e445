//! Any text as a job file: an answer or an error, never a panic, and soon.
#![no_main]

use std::path::PathBuf;

use convoke::registry;
use convoke_cluster::JobText;
use convoke_cluster::driver::Placement;
use convoke_cluster::workload::Inputs;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let job = JobText { path: PathBuf::from("job.toml"), text: text.to_owned() };
    let Ok(entry) = registry::of(&job) else { return };
    let Ok(ranks) = (entry.ranks)(&job) else { return };
    // Inputs are looked for where there are none.
    let inputs = Inputs { base: PathBuf::from("/nonexistent") };
    let _ = (entry.price)(&job, &inputs, &Placement::here(ranks.clamp(1, 4096), 1));
});
