//! `convoke weights`: a trained operator, or denoiser, as a file that other programs read.

use std::path::PathBuf;

use clap::Args;
use convoke_cluster::{Error, Exit, JobError};
use convoke_data::DataError;
use serde_json::json;

use super::{Done, say};
use crate::neural_operator::exchange::{self, Layout};
use crate::prior;

/// Options of `convoke weights`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  convoke weights runs/flow-1a2b flow.safetensors                  with means and deviations
  convoke weights runs/flow-1a2b a.safetensors --layout fno        as other programs name them
The way back is problem.training.start of a neural-operator job.")]
pub struct WeightsArgs {
    /// The run that trained the operator, or a denoiser, its result, or a file that this command made.
    run: PathBuf,
    /// The file to write, a .safetensors.
    file: PathBuf,
    /// Whose names and orders the parameters get.
    #[arg(long, value_enum, default_value_t = Layout::Convoke)]
    layout: Layout,
    /// Replace a file that is there.
    #[arg(long)]
    replace: bool,
    /// For scripts.
    #[arg(long)]
    json: bool,
}

pub(super) fn weights(args: &WeightsArgs) -> Done {
    if args.file.extension().is_none_or(|extension| extension != "safetensors") {
        let message = format!("{}: the name of a file of weights ends with .safetensors", args.file.display());
        return Err(JobError::command_line(message, "readers know the format by it").into());
    }
    if args.file.exists() && !args.replace {
        return Err(Error::Job(JobError::command_line(
            DataError::Exists { path: args.file.clone() }.to_string(),
            "or replace it: --replace",
        )));
    }
    if prior::weights::holds_one(&args.run) {
        if args.layout != Layout::Convoke {
            let message = format!("{} holds a denoiser, which has no names but Convoke's", args.run.display());
            return Err(JobError::command_line(message, "leave out --layout").into());
        }
        let parameters = prior::weights::export(&args.run, &args.file, args.replace)?;
        if args.json {
            say::json(&json!({ "file": args.file, "parameters": parameters, "precision": "single" }));
        } else {
            say::line(&format!("{}: a denoiser of {parameters} parameters in single precision", args.file.display()));
        }
        return Ok(Exit::Complete);
    }
    let written = exchange::export(&args.run, &args.file, args.layout, args.replace)?;
    let (layout, precision) = (args.layout.name(), if written.is_double { "double" } else { "single" });
    if args.json {
        say::json(&json!({
            "file": args.file, "layout": layout, "parameters": written.parameters, "precision": precision,
        }));
    } else {
        let (file, count) = (args.file.display(), written.parameters);
        say::line(&format!("{file}: {count} parameters in {precision} precision, as {layout} names them"));
    }
    Ok(Exit::Complete)
}
