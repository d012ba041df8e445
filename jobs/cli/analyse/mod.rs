//! `convoke analyse`: look at results. One pass over the files makes an [`facts::Analysis`] and
//! pictures; text, JSON and HTML are views of them.

mod apart;
mod array;
pub(super) mod attempts;
mod diff;
mod export;
mod facts;
mod moments;
mod number;
mod picture;
mod report;
mod scan;
mod source;
mod summary;

use std::path::PathBuf;

use clap::Args;
use convoke_cluster::{Error, Exit};
use serde::Serialize;
use serde_json::json;

use super::{Done, say};
use export::Format;
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
    /// Write a report as one HTML file that needs no network: report.html in the run directory.
    #[arg(long, visible_alias = "report", conflicts_with = "diff")]
    html: bool,
    /// Write the arrays in another format beside the result; nothing is overwritten.
    #[arg(long, value_enum, value_name = "FORMAT", conflicts_with = "diff")]
    export: Option<Format>,
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
    if low.is_finite() && high.is_finite() && low < high {
        Ok((low, high))
    } else {
        Err("the first number must be the smaller one".to_owned())
    }
}

fn slice(text: &str) -> Result<(String, usize), String> {
    let parts =
        text.split_once('=').and_then(|(axis, index)| Some((axis.trim().to_owned(), index.trim().parse().ok()?)));
    parts.ok_or_else(|| "expected an axis and an index, such as z=64".to_owned())
}

pub(super) fn analyse(args: &AnalyseArgs) -> Done {
    let source = Source::open(&args.path)?;
    let look = Look { map: args.colormap, range: args.range, slices: args.slices.clone() };
    match &args.diff {
        Some(other) => compare(args, &source, &Source::open(other)?, &look),
        None => describe(args, &source, &look),
    }
}

/// Whether picture files are written: with text by default, with JSON when asked.
fn wants_pictures(args: &AnalyseArgs) -> bool {
    if args.json { args.pictures } else { !args.no_pictures }
}

fn describe(args: &AnalyseArgs, source: &Source, look: &Look) -> Done {
    let drawn = wants_pictures(args) || (args.html && !args.no_pictures);
    let (analysis, pictures) = facts::gather(source, drawn.then_some(look))?;
    if !args.json {
        say::line(&number::printable(&summary::text(&analysis)));
    }
    let mut files = vec![("pictures", save_pictures(args, source, &pictures)?)];
    if args.html {
        let path = source.report();
        report::save(source, &analysis, &pictures, &path)?;
        files.push(("report", vec![path]));
    }
    if let Some(format) = args.export {
        files.push(("exported", export::export(source, format)?));
    }
    show_files(args, &analysis, &files);
    let altered = analysis.result.as_ref().is_some_and(|r| r.as_recorded == Some(false));
    Ok(if altered { Exit::Corrupt } else { Exit::Complete })
}

fn compare(args: &AnalyseArgs, a: &Source, b: &Source, look: &Look) -> Done {
    let tolerance = apart::Tolerance { rtol: args.rtol, atol: args.atol };
    let look = wants_pictures(args).then_some(look);
    let (comparison, pictures) = diff::compare(a.result()?, b.result()?, tolerance, look)?;
    if !args.json {
        say::line(&number::printable(&comparison.text()));
    }
    show_files(args, &comparison, &[("pictures", save_pictures(args, a, &pictures)?)]);
    Ok(if comparison.equal { Exit::Complete } else { Exit::CheckFailed })
}

fn save_pictures(args: &AnalyseArgs, source: &Source, pictures: &[Picture]) -> Result<Vec<PathBuf>, Error> {
    if wants_pictures(args) { picture::save(pictures, &source.pictures()) } else { Ok(Vec::new()) }
}

/// Says which files were written: as lines, or within the one JSON object.
fn show_files(args: &AnalyseArgs, facts: &impl Serialize, files: &[(&str, Vec<PathBuf>)]) {
    let shown = |paths: &[PathBuf]| paths.iter().map(|p| p.display().to_string()).collect::<Vec<_>>();
    if args.json {
        let mut value = serde_json::to_value(facts).expect("facts are plain data");
        files.iter().for_each(|(what, paths)| value[*what] = json!(shown(paths)));
        say::json(&value);
        return;
    }
    for (what, paths) in files.iter().filter(|(_, paths)| !paths.is_empty()) {
        let (first, rest) = what.split_at(1);
        say::line(&format!("\n{}{rest}\n  {}", first.to_uppercase(), shown(paths).join("\n  ")));
    }
}
