//! The analysis as one HTML file: no network, no script, readable for ever from `file://`.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use convoke_cluster::Error;
use convoke_data::DataError;
use convoke_data::store::{digest_bytes, digest_file, write_atomic};
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::facts::{Analysis, Story};
use super::number::{moment, quantity, share, short};
use super::picture::{Kind, Picture, png, svg, timeline};
use super::source::Source;
use super::summary;

/// Nothing is loaded from anywhere; images and styles lie in the file itself.
const POLICY: &str = "default-src 'none'; img-src data:; style-src 'unsafe-inline'";
/// What our own reports carry; only such a file is replaced.
const MARK: &str = r#"<meta name="generator" content="convoke"#;
/// Room for pictures, so that the report stays below 5 MB.
const ROOM: usize = 4_500_000;
const STYLE: &str = include_str!("report.css");

/// Writes the report of `analysis` to `path`; an older one is replaced, any other file is not.
///
/// # Errors
/// [`DataError::Exists`] for a file that is not ours; the folder cannot be written.
pub fn save(source: &Source, analysis: &Analysis, pictures: &[Picture], path: &Path) -> Result<(), Error> {
    if let Ok(old) = std::fs::read(path)
        && !old.windows(MARK.len()).take(2000).any(|part| part == MARK.as_bytes())
    {
        return Err(DataError::Exists { path: path.to_owned() }.into());
    }
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let page = page(source, analysis, &figures(pictures, folder)?);
    Ok(write_atomic(path, page.into_string().as_bytes())?)
}

fn page(source: &Source, analysis: &Analysis, pictures: &Markup) -> Markup {
    let title = analysis.name.as_deref().unwrap_or(&analysis.path);
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="generator" content=(format!("convoke {}", env!("CARGO_PKG_VERSION")));
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) " – convoke" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                (header(analysis, title))
                (cards(analysis))
                (pictures)
                (arrays(analysis))
                (attempts(analysis.run.as_ref()))
                (planned(analysis.run.as_ref()))
                (provenance(analysis))
                (outputs(source, analysis))
                (again(analysis))
                @if let Some(job) = &analysis.job {
                    section { h2 { "Job file" } pre { (job) } }
                }
                footer { "Written " (moment(&jiff::Timestamp::now().to_string())) " by convoke " (env!("CARGO_PKG_VERSION")) "." }
            }
        }
    }
}

fn header(analysis: &Analysis, title: &str) -> Markup {
    let run = analysis.run.as_ref();
    let reason = run.and_then(|r| r.attempts.last()).and_then(|a| a.reason.as_ref());
    html! {
        header {
            h1 {
                (title)
                @if let Some(run) = run { " " span class=(format!("state {}", run.state.word())) { (run.state.word()) } }
            }
            p {
                @if let Some(workload) = &analysis.workload { (workload) " · " }
                @if let Some(run) = run { (summary::progress(run)) } @else { (analysis.path) }
            }
            @if let Some(reason) = reason { p { "Reason: " (reason) } }
            @if let Some(resume) = run.and_then(|r| r.resume.as_ref()) { p { "Continue with " code { (resume) } } }
            @if analysis.result.as_ref().is_some_and(|r| r.as_recorded == Some(false)) {
                p.warning { "The result file does not hold the bytes that the run wrote: its checksum differs from the one in events.jsonl." }
            }
        }
    }
}

/// The figures of the result and the last values of the history.
fn cards(analysis: &Analysis) -> Markup {
    let figures =
        analysis.result.iter().flat_map(|r| &r.figures).map(|(name, v)| (name.clone(), summary::value(v), ""));
    let last = analysis.history.iter().map(|c| (c.name.clone(), short(c.last), "last of the history"));
    let cards: Vec<(String, String, &str)> = figures.chain(last).collect();
    html! {
        @if !cards.is_empty() {
            section.cards {
                @for (name, value, note) in &cards {
                    div { span.value { (value) } span.name { (name) } @if !note.is_empty() { span.note { (note) } } }
                }
            }
        }
    }
}

/// Planes as PNG, curves as SVG, as many as have room.
fn figures(pictures: &[Picture], folder: &Path) -> Result<Markup, Error> {
    let (mut shown, mut left_out, mut size) = (Vec::new(), Vec::new(), 0);
    for picture in pictures {
        let drawn = match picture.kind {
            Kind::Curve => svg(&picture.scene, &picture.name),
            Kind::Slices => {
                let data = format!("data:image/png;base64,{}", STANDARD.encode(png(&picture.scene, folder)?));
                html! { img src=(data) alt=(picture.name) width=(format!("{:.0}", picture.scene.width)); }
            }
        };
        if size + drawn.0.len() > ROOM {
            left_out.push(picture.name.as_str());
            continue;
        }
        size += drawn.0.len();
        shown.push(drawn);
    }
    Ok(html! {
        @if !pictures.is_empty() {
            section {
                h2 { "Pictures" }
                div.pictures { @for drawn in shown { figure { (drawn) } } }
                @if !left_out.is_empty() { p { "Left out to keep this file small: " (left_out.join(", ")) } }
            }
        }
    })
}

/// A table; the columns of `numbers` are set to the right.
fn table(header: &[&str], rows: impl Iterator<Item = Vec<String>>, numbers: &[usize]) -> Markup {
    let class = |k: usize| match header.get(k) {
        Some(&"reason" | &"axes") => "prose",
        _ if numbers.contains(&k) => "number",
        _ => "",
    };
    html! {
        div.wide { table {
            @if !header.is_empty() { thead { tr { @for (k, cell) in header.iter().enumerate() { th class=(class(k)) { (cell) } } } } }
            tbody { @for row in rows { tr { @for (k, cell) in row.iter().enumerate() { td class=(class(k)) { (cell) } } } } }
        } }
    }
}

fn arrays(analysis: &Analysis) -> Markup {
    let Some(result) = analysis.result.as_ref().filter(|r| !r.arrays.is_empty()) else { return html! {} };
    let header = ["array", "shape", "type", "unit", "min", "max", "mean", "std", "NaN", "axes"];
    let row = |a: &super::array::Array| {
        let mut row = summary::array_row(a);
        row.push(summary::extents(a));
        row
    };
    html! { section { h2 { "Arrays" } (table(&header, result.arrays.iter().map(row), &[4, 5, 6, 7, 8])) } }
}

fn attempts(run: Option<&Story>) -> Markup {
    let Some(run) = run.filter(|r| !r.attempts.is_empty()) else { return html! {} };
    let header = ["", "started", "steps", "took", "end", "ranks", "device", "host", "checkpoints", "reason"];
    let row = |a: &super::attempts::Attempt| {
        let mut row = summary::attempt_row(a);
        row.push(a.reason.clone().unwrap_or_default());
        row
    };
    html! {
        section {
            h2 { "Attempts" }
            @if run.attempts.len() > 1 { (svg(&timeline(&run.attempts), "timeline of the attempts")) }
            (table(&header, run.attempts.iter().map(row), &[0, 3, 5]))
        }
    }
}

fn planned(run: Option<&Story>) -> Markup {
    let Some(run) = run.filter(|r| !r.planned.is_empty()) else { return html! {} };
    let rows = run.planned.iter().map(|p| {
        let seen = p.measured.map_or("–".to_owned(), |m| quantity(m, p.unit));
        vec![
            p.quantity.to_owned(),
            quantity(p.planned, p.unit),
            seen,
            p.measured.map_or(String::new(), |m| share(m, p.planned)),
        ]
    });
    html! {
        section {
            h2 { "Plan and measurement" }
            (table(&["", "planned, at most", "measured", "share"], rows, &[1, 2, 3]))
            p.note { "Measured on rank 0 of the last attempt." }
        }
    }
}

fn provenance(analysis: &Analysis) -> Markup {
    let rows = summary::origin(&analysis.provenance);
    html! {
        @if !rows.is_empty() {
            section { h2 { "Made by" } (table(&[], rows.into_iter().map(|(name, text)| vec![name.to_owned(), text]), &[])) }
        }
    }
}

/// Files with their checksums.
fn outputs(source: &Source, analysis: &Analysis) -> Markup {
    let mut rows = Vec::new();
    if let Some(result) = &analysis.result {
        rows.push(vec![result.file.clone(), quantity(result.bytes as f64, "bytes"), result.xxh3_128.clone()]);
    }
    if let Some(run) = &source.run {
        let digest = digest_bytes(run.text.text.as_bytes());
        rows.push(vec![run.text.path.display().to_string(), quantity(digest.bytes as f64, "bytes"), digest.xxh3_128]);
    }
    if let (Some(run), Some(newest)) = (&source.run, analysis.run.as_ref().and_then(|r| r.checkpoint.as_ref())) {
        let manifest = run.dir.checkpoints().join(&newest.name).join("manifest.json");
        if let Ok(digest) = digest_file(&manifest) {
            let what = format!("{} (names the hash of each file of the checkpoint)", manifest.display());
            rows.push(vec![what, quantity(newest.bytes as f64, "bytes"), digest.xxh3_128]);
        }
    }
    html! { section { h2 { "Files" } (table(&["file", "size", "XXH3-128"], rows.into_iter(), &[1])) } }
}

/// The commands that compute the same again and compare.
fn again(analysis: &Analysis) -> Markup {
    let (Some(run), Some(_)) = (&analysis.run, &analysis.job) else { return html! {} };
    let commit = analysis.provenance.get("git_commit").map(summary::value);
    let ranks = run.attempts.last().map_or(1, |a| a.ranks);
    html! {
        section {
            h2 { "How to reproduce" }
            p { "Save the job file below as " code { "job.toml" } " in " code { (run.inputs) } " (its paths start there), then:" }
            pre {
                @if let Some(commit) = &commit { "git checkout " (commit) " && cargo build --release\n" }
                "convoke run " (run.inputs) "/job.toml -n " (ranks) " --dir again\n"
                "convoke analyse diff again " (analysis.path)
            }
        }
    }
}
