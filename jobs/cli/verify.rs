//! `convoke verify`: every byte of a run against what was recorded of it. Reads only.

use std::path::{Path, PathBuf};

use clap::Args;
use convoke_cluster::Exit;
use convoke_cluster::checkpoint::{self, Manifest};
use convoke_cluster::run_dir::{Lock, RunDir};
use convoke_data::store::digest_file;
use rayon::prelude::*;
use serde::Serialize;

use super::{Done, say};

/// Options of `convoke verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The run directory.
    dir: PathBuf,
    /// For scripts.
    #[arg(long)]
    json: bool,
}

/// One thing that was checked.
#[derive(Debug, Serialize)]
struct Checked {
    what: String,
    /// What is wrong; nothing if all is as it was written.
    fault: Option<String>,
}

pub(super) fn verify(args: &VerifyArgs) -> Done {
    let (run, text, lock) = RunDir::open(&args.dir)?;
    let now = convoke_data::store::digest_bytes(text.text.as_bytes()).xxh3_128;
    let edited = (now != lock.spec_xxh3_128).then(|| "was edited since the run began".to_owned());
    let mut checked = vec![Checked { what: "spec.toml".into(), fault: edited }];
    let mut names = checkpoint::list(&run.checkpoints());
    names.sort_unstable();
    let faults: Vec<_> = names.par_iter().map(|n| fault(&run.checkpoints().join(n.to_string()), &lock)).collect();
    checked.extend(names.iter().zip(faults).map(|(n, fault)| Checked { what: format!("ckpt/{n}"), fault }));
    let recorded = run.events().into_iter().rev().find(|e| e["event"] == "finished").map(|e| e["result"].clone());
    if let Some(recorded) = recorded {
        let found = digest_file(run.result()).map(|d| d.xxh3_128);
        let fault = match found {
            Ok(found) if recorded == found.as_str() => None,
            Ok(found) => Some(format!("its hash is {found}, written was {}", recorded.as_str().unwrap_or("?"))),
            Err(error) => Some(error.to_string()),
        };
        checked.push(Checked { what: "result.h5".into(), fault });
    }
    let whole = checked.iter().all(|c| c.fault.is_none());
    if args.json {
        say::json(&serde_json::json!({ "whole": whole, "checked": checked }));
    } else {
        for c in &checked {
            say::line(&format!("{:<28} {}", c.what, c.fault.as_deref().unwrap_or("as it was written")));
        }
    }
    Ok(if whole { Exit::Complete } else { Exit::Corrupt })
}

fn fault(dir: &Path, lock: &Lock) -> Option<String> {
    let manifest = match Manifest::read(dir) {
        Ok(manifest) => manifest,
        Err(fault) => return Some(fault),
    };
    if !lock.knows(&manifest.spec_xxh3_128) {
        return Some("belongs to another job".to_owned());
    }
    checkpoint::verify(dir, &manifest, 0, 1).err()
}
