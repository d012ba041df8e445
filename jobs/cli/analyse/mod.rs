//! `convoke analyse`: look at results. One pass over the files makes an [`facts::Analysis`] and
//! pictures; text, JSON and HTML are views of them. All of it happens in a child process under
//! limits ([`child`]).

mod apart;
mod array;
pub(super) mod attempts;
mod chart;
mod child;
mod conv;
mod diff;
mod export;
mod facts;
mod listing;
mod merge;
mod moments;
mod number;
mod perf;
pub mod picture;
mod plot;
mod report;
mod scan;
mod source;
mod summary;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use convoke_cluster::{Error, Exit};
use serde::Serialize;
use serde_json::json;

use super::{Done, say};
use child::Limits;
use export::Format;
use picture::colour::ColourMap;
use picture::{FileKind, Look};
use plot::Target;
use source::Source;

const EXAMPLES: &str = "Examples:
  convoke analyse runs/shepp-logan-1a2b         what the run did and holds, and pictures of it
  convoke analyse report runs/shepp-logan-1a2b  the same as one HTML file
  convoke analyse ls scan.h5                    names, shapes, types and units in any HDF5 file
  convoke analyse stat a.h5 volume              extremes, mean and deviation of an array
  convoke analyse plot a.h5 volume              slices in the terminal; --format svg for a file
  convoke analyse plot runs/refine targets refined --animate snapshot --slice sample=0
                                                a moving picture of both and of their difference
  convoke analyse perf n1 n2 n4                 speed-up, efficiency, serial share
  convoke analyse conv c1 c2 c3 --size problem.axes.0.points --error relative_error
  convoke analyse diff a b --rtol 1e-6          only what differs; exit code 8 if anything does
  convoke analyse merge a b c --to all.h5       arrays of many runs, stacked along an axis `run`
  convoke analyse export a.h5 --format npy      for other programs

A path is a run directory or an HDF5 file. Files are read by a second process under limits: nothing
outside the file is followed, no plug-in is loaded.";

/// Options of `convoke analyse`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true, after_help = EXAMPLES)]
pub struct AnalyseArgs {
    #[command(subcommand)]
    view: Option<View>,
    #[command(flatten)]
    describe: DescribeArgs,
    #[command(flatten)]
    limits: Limits,
}

#[derive(Debug, Subcommand)]
enum View {
    /// List everything in a file: names, shapes, types, bytes, units.
    Ls(LsArgs),
    /// Extremes, mean, deviation and NaN of arrays.
    Stat(StatArgs),
    /// Compare two runs or files, array by array; exit code 8 where they differ.
    Diff(DiffArgs),
    /// Plot arrays and columns of the history, in the terminal or as files.
    Plot(PlotArgs),
    /// Time of each phase, communication and checkpoints of runs, and how they scale.
    Perf(PerfArgs),
    /// Order of convergence from runs of one problem on several grids.
    Conv(ConvArgs),
    /// Stack the arrays of several runs along a new first axis `run`, in one HDF5 file.
    Merge(MergeArgs),
    /// Write a report as one HTML file that needs no network: report.html in the run directory.
    Report(ReportArgs),
    /// Write arrays in the formats of other programs, beside the result; nothing is overwritten.
    Export(ExportArgs),
}

#[derive(Debug, Args)]
struct DescribeArgs {
    /// A run directory or a result file (HDF5).
    #[arg(required = true)]
    path: Option<PathBuf>,
    #[command(flatten)]
    look: LookArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
struct LsArgs {
    /// A run directory or an HDF5 file.
    path: PathBuf,
    /// Only what lies below this group, or this dataset, with all its attributes.
    #[arg(default_value = "/")]
    name: String,
    /// One JSON list on standard output.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct StatArgs {
    /// A run directory or an HDF5 file.
    path: PathBuf,
    /// Arrays: paths, or names below /result or /history [default: all].
    names: Vec<String>,
    /// One JSON list on standard output.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct DiffArgs {
    /// A run directory or an HDF5 file.
    a: PathBuf,
    /// Another one: the reference.
    b: PathBuf,
    /// Relative tolerance: |a - b| <= atol + rtol * max(|a|, |b|).
    #[arg(long, default_value_t = 0.0, value_parser = tolerance)]
    rtol: f64,
    /// Absolute tolerance.
    #[arg(long, default_value_t = 0.0, value_parser = tolerance)]
    atol: f64,
    #[command(flatten)]
    look: LookArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
struct PlotArgs {
    /// A run directory or an HDF5 file.
    path: PathBuf,
    /// Arrays: paths, or names below /result or /history [default: all].
    names: Vec<String>,
    /// Where it goes.
    #[arg(long, value_enum, default_value_t = Target::Terminal)]
    format: Target,
    /// Move along this axis: one GIF of the arrays side by side, and of their difference where they are two.
    #[arg(long, value_name = "AXIS", conflicts_with = "format", requires = "names")]
    animate: Option<String>,
    #[command(flatten)]
    look: LookArgs,
}

#[derive(Debug, Args)]
struct PerfArgs {
    /// Run directories; for a scaling table, of one job on several numbers of ranks.
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// The problem grew with the ranks (weak scaling), instead of being the same (strong scaling).
    #[arg(long)]
    weak: bool,
    /// One JSON object on standard output.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct ConvArgs {
    /// Run directories, or result files.
    #[arg(required = true, num_args = 2..)]
    paths: Vec<PathBuf>,
    /// Key of the job file that says how fine the grid is, such as problem.axes.0.points.
    #[arg(long, value_name = "KEY")]
    size: String,
    /// The error: a figure of the result, or a column of the history (its last value).
    #[arg(long, value_name = "NAME")]
    error: String,
    /// One JSON object on standard output.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct MergeArgs {
    /// Run directories, or result files; the order of the new axis.
    #[arg(required = true, num_args = 2..)]
    paths: Vec<PathBuf>,
    /// The file to write; it must not exist.
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    /// An array: a path, or a name below /result or /history; may be given several times [default: all results].
    #[arg(long = "array", value_name = "NAME")]
    names: Vec<String>,
}

#[derive(Debug, Args)]
struct ReportArgs {
    /// A run directory or a result file (HDF5).
    path: PathBuf,
    /// Show no pictures.
    #[arg(long)]
    no_pictures: bool,
    #[command(flatten)]
    look: LookArgs,
}

#[derive(Debug, Args)]
struct ExportArgs {
    /// A run directory or an HDF5 file.
    path: PathBuf,
    /// Arrays: paths, or names below /result or /history [default: all results].
    names: Vec<String>,
    /// The format.
    #[arg(long, value_enum)]
    format: Format,
}

/// What is written beside the text.
#[derive(Debug, Args)]
struct OutputArgs {
    /// One JSON object on standard output; pictures only with --pictures.
    #[arg(long)]
    json: bool,
    /// Write pictures also with --json.
    #[arg(long, conflicts_with = "no_pictures")]
    pictures: bool,
    /// Write no pictures.
    #[arg(long)]
    no_pictures: bool,
}

impl OutputArgs {
    /// Whether picture files are written: with text by default, with JSON when asked.
    fn wants_pictures(&self) -> bool {
        if self.json { self.pictures } else { !self.no_pictures }
    }
}

/// How pictures look.
#[derive(Debug, Args)]
struct LookArgs {
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

impl LookArgs {
    fn look(&self) -> Look {
        Look { map: self.colormap, range: self.range, slices: self.slices.clone() }
    }
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
    let limits = &args.limits;
    let open = |path: &Path| Source::open(path, limits.max_bytes);
    match &args.view {
        Some(View::Ls(a)) => child::apart(limits, &[&a.path], || list(a, &open(&a.path)?)),
        Some(View::Stat(a)) => child::apart(limits, &[&a.path], || statistics(a, &open(&a.path)?)),
        Some(View::Diff(a)) => child::apart(limits, &[&a.a, &a.b], || compare(a, &open(&a.a)?, &open(&a.b)?)),
        Some(View::Plot(a)) => child::apart(limits, &[&a.path], || plotted(a, &open(&a.path)?)),
        Some(View::Perf(a)) => child::apart(limits, &all(&a.paths), || performance(a, &each(&a.paths, open)?)),
        Some(View::Conv(a)) => child::apart(limits, &all(&a.paths), || convergence(a, &each(&a.paths, open)?)),
        Some(View::Merge(a)) => child::apart(limits, &all(&a.paths), || merged(a, &each(&a.paths, open)?)),
        Some(View::Report(a)) => child::apart(limits, &[&a.path], || report(a, &open(&a.path)?)),
        Some(View::Export(a)) => child::apart(limits, &[&a.path], || exported(a, &open(&a.path)?)),
        None => {
            let path = args.describe.path.as_deref().expect("required where there is no subcommand");
            child::apart(limits, &[path], || describe(&args.describe, &open(path)?))
        }
    }
}

fn list(args: &LsArgs, source: &Source) -> Done {
    let lines = listing::list(source.result()?, &args.name)?;
    if args.json {
        show_json(&lines)
    } else {
        show_text(&listing::text(&lines))
    }
    Ok(Exit::Complete)
}

fn statistics(args: &StatArgs, source: &Source) -> Done {
    let arrays = listing::statistics(source.result()?, &args.names)?;
    if args.json {
        show_json(&arrays)
    } else {
        show_text(&listing::statistics_text(&arrays))
    }
    Ok(Exit::Complete)
}

fn describe(args: &DescribeArgs, source: &Source) -> Done {
    let wanted = args.output.wants_pictures();
    let (analysis, pictures) = facts::gather(source, wanted.then(|| args.look.look()).as_ref())?;
    if !args.output.json {
        show_text(&summary::text(&analysis));
    }
    let saved = if wanted { picture::save(&pictures, &source.pictures(), FileKind::Png)? } else { Vec::new() };
    show_files(args.output.json.then_some(&analysis), &[("pictures", saved)]);
    Ok(altered(&analysis))
}

fn compare(args: &DiffArgs, a: &Source, b: &Source) -> Done {
    let tolerance = apart::Tolerance { rtol: args.rtol, atol: args.atol };
    let wanted = args.output.wants_pictures();
    let look = wanted.then(|| args.look.look());
    let (comparison, pictures) = diff::compare(a.result()?, b.result()?, tolerance, look.as_ref())?;
    if !args.output.json {
        show_text(&comparison.text());
    }
    let saved = if wanted { picture::save(&pictures, &a.pictures(), FileKind::Png)? } else { Vec::new() };
    show_files(args.output.json.then_some(&comparison), &[("pictures", saved)]);
    Ok(if comparison.equal { Exit::Complete } else { Exit::CheckFailed })
}

fn all(paths: &[PathBuf]) -> Vec<&Path> {
    paths.iter().map(PathBuf::as_path).collect()
}

fn each(paths: &[PathBuf], open: impl Fn(&Path) -> Result<Source, Error>) -> Result<Vec<Source>, Error> {
    paths.iter().map(|path| open(path)).collect()
}

fn plotted(args: &PlotArgs, source: &Source) -> Done {
    let look = args.look.look();
    let paths = match &args.animate {
        Some(axis) => vec![plot::animate(source, &args.names, axis, &look)?],
        None => plot::plot(source, &args.names, args.format, &look)?,
    };
    for path in paths {
        say::line(&path.display().to_string());
    }
    Ok(Exit::Complete)
}

fn performance(args: &PerfArgs, sources: &[Source]) -> Done {
    let facts = perf::gather(sources, args.weak)?;
    if args.json {
        show_json(&facts)
    } else {
        show_text(&facts.text())
    }
    Ok(Exit::Complete)
}

fn convergence(args: &ConvArgs, sources: &[Source]) -> Done {
    let facts = conv::gather(sources, &args.size, &args.error)?;
    if args.json {
        show_json(&facts)
    } else {
        show_text(&facts.text())
    }
    Ok(Exit::Complete)
}

fn merged(args: &MergeArgs, sources: &[Source]) -> Done {
    let arrays = merge::merge(sources, &args.names, &args.to)?;
    let of = |a: &array::Array| format!("{} ({} × {})", a.name, sources.len(), a.dimensions());
    let arrays: Vec<String> = arrays.iter().map(of).collect();
    say::line(&number::printable(&format!("{}: {}", args.to.display(), arrays.join(", "))));
    Ok(Exit::Complete)
}

fn report(args: &ReportArgs, source: &Source) -> Done {
    let look = (!args.no_pictures).then(|| args.look.look());
    let (analysis, pictures) = facts::gather(source, look.as_ref())?;
    let path = source.report();
    report::save(source, &analysis, &pictures, &path)?;
    say::line(&path.display().to_string());
    Ok(altered(&analysis))
}

fn exported(args: &ExportArgs, source: &Source) -> Done {
    for path in export::export(source, &args.names, args.format)? {
        say::line(&path.display().to_string());
    }
    Ok(Exit::Complete)
}

/// A result that is not what the run wrote is worth an exit code.
fn altered(analysis: &facts::Analysis) -> Exit {
    let altered = analysis.result.as_ref().is_some_and(|r| r.as_recorded == Some(false));
    if altered { Exit::Corrupt } else { Exit::Complete }
}

fn show_text(text: &str) {
    say::line(&number::printable(text));
}

fn show_json(facts: &impl Serialize) {
    say::json(&serde_json::to_value(facts).expect("facts are plain data"));
}

/// Says which files were written: as lines, or within the one JSON object.
fn show_files(facts: Option<&impl Serialize>, files: &[(&str, Vec<PathBuf>)]) {
    let shown = |paths: &[PathBuf]| paths.iter().map(|p| p.display().to_string()).collect::<Vec<_>>();
    if let Some(facts) = facts {
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
