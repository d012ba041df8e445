//! `convoke analyse`: look at results.

use std::path::PathBuf;

use clap::Args;
use convoke_cluster::Exit;

use super::Done;

/// Options of `convoke analyse`.
#[derive(Debug, Args)]
pub struct AnalyseArgs {
    /// A run directory or a result file.
    path: PathBuf,
}

pub(super) fn analyse(_args: &AnalyseArgs) -> Done {
    Ok(Exit::Complete)
}
