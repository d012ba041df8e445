//! `convoke analyse`: look at results. One pass over the files makes an [`facts::Analysis`] and
//! pictures; text, JSON and HTML are views of them.

mod array;
mod attempts;
mod diff;
mod facts;
mod number;
mod picture;
mod scan;
mod source;
mod summary;

use std::path::PathBuf;

use clap::Args;
use convoke_cluster::{Error, Exit};
use serde_json::{Value, json};

use super::{Done, say};
use picture::colour::ColourMap;
use picture::{Look, Picture};
use source::Source;

/// Options of `convoke analyse`.
#[derive(Debug, Args)]
pub struct AnalyseArgs {
    /// A run directory or a result file (HDF5).
    path: PathBuf,
    /// Compare with another run or file, array by array; exit code 8 where they differ.
    #[arg(long, value_name = "OTHER")]
    diff: Option<PathBuf>,
    /// Relative tolerance of --diff: |a - b| <= atol + rtol * max(|a|, |b|).
    #[arg(long, requires = "diff", default_value_t = 0.0, value_parser = tolerance)]
    rtol: f64,
    /// Absolute tolerance of --diff.
    #[arg(long, requires = "diff", default_value_t = 0.0, value_parser = tolerance)]
    atol: f64,
    /// One JSON object on standard output; pictures only with --pictures.
    #[arg(long)]
    json: bool,
    /// Write pictures also with --json.
    #[arg(long, conflicts_with = "no_pictures")]
    pictures: bool,
    /// Write no pictures.
    #[arg(long)]
    no_pictures: bool,
    /// Colour map [default: gray for volumes, viridis for images].
    #[arg(long, value_enum, value_name = "MAP")]
    colormap: Option<ColourMap>,
    /// Values at the ends of the colour map [default: 0.5 to 99.5 % of what is shown].
    #[arg(long, value_name = "LO,HI", allow_hyphen_values = true, value_parser = range)]
    range: Option<(f64, f64)>,
    /// Where to cut an axis, such as z=64; may be given for several axes [default: the centre].
    #[arg(long = "slice", value_name = "AXIS=INDEX", value_parser = slice)]
    slices: Vec<(String, usize)>,
}

fn tolerance(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| format!("'{text}' is no number"))?;
    if value >= 0.0 && value.is_finite() { Ok(value) } else { Err("a tolerance is a number >= 0".to_owned()) }
}

fn range(text: &str) -> Result<(f64, f64), String> {
    let ends = text.split_once(',').and_then(|(l, h)| Some((l.trim().parse().ok()?, h.trim().parse().ok()?)));
    let (low, high): (f64, f64) = ends.ok_or("expected two numbers, such as 0,0.4")?;
    if low.is_finite() && high.is_finite() && low < high { Ok((low, high)) } else { Err("the first number must be the smaller one".to_owned()) }
}

fn slice(text: &str) -> Result<(String, usize), String> {
    let parts = text.split_once('=').and_then(|(axis, index)| Some((axis.trim().to_owned(), index.trim().parse().ok()?)));
    parts.ok_or_else(|| "expected an axis and an index, such as z=64".to_owned())
}

pub(super) fn analyse(args: &AnalyseArgs) -> Done {
    let source = Source::open(&args.path)?;
    let wants = if args.json { args.pictures } else { !args.no_pictures };
    let look = Look { map: args.colormap, range: args.range, slices: args.slices.clone() };
    let look = wants.then_some(&look);
    match &args.diff {
        Some(other) => compare(args, &source, &Source::open(other)?, look),
        None => describe(args, &source, look),
    }
}

fn describe(args: &AnalyseArgs, source: &Source, look: Option<&Look>) -> Done {
    let (analysis, pictures) = facts::gather(source, look)?;
    let shown = || (summary::text(&analysis), serde_json::to_value(&analysis).expect("an analysis is plain data"));
    let (text, value) = shown();
    show(args, source, (&text, value), &pictures)?;
    let altered = analysis.result.as_ref().is_some_and(|r| r.as_recorded == Some(false));
    Ok(if altered { Exit::Corrupt } else { Exit::Complete })
}

fn compare(args: &AnalyseArgs, a: &Source, b: &Source, look: Option<&Look>) -> Done {
    let tolerance = diff::Tolerance { rtol: args.rtol, atol: args.atol };
    let (comparison, pictures) = diff::compare(a.result()?, b.result()?, tolerance, look)?;
    let value = serde_json::to_value(&comparison).expect("a comparison is plain data");
    show(args, a, (&comparison.text(), value), &pictures)?;
    Ok(if comparison.equal { Exit::Complete } else { Exit::CheckFailed })
}

/// Says it, as text or as JSON; the pictures are written between, so that text comes first and
/// JSON names them.
fn show(args: &AnalyseArgs, source: &Source, (text, mut value): (&str, Value), pictures: &[Picture]) -> Result<(), Error> {
    if !args.json {
        say::line(text);
    }
    let paths: Vec<String> = picture::save(pictures, &source.pictures())?.iter().map(|p| p.display().to_string()).collect();
    if args.json {
        value["pictures"] = json!(paths);
        say::json(&value);
    } else if !paths.is_empty() {
        say::line(&format!("\nPictures\n  {}", paths.join("\n  ")));
    }
    Ok(())
}
