//! The analysis as text.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde_json::{Map, Value};

use super::array::{Array, Axis};
use super::attempts::Attempt;
use super::facts::{Analysis, Column, Contents, Story};
use super::number::{moment, quantity, seconds, share, short, sparkline};

/// The whole summary.
pub fn text(analysis: &Analysis) -> String {
    let mut parts = vec![heading(analysis)];
    if let Some(run) = &analysis.run {
        parts.push(attempts(&run.attempts));
    }
    if let Some(result) = &analysis.result {
        parts.push(arrays(result));
        parts.push(figures(&result.figures));
    }
    parts.push(history(&analysis.history));
    if let Some(run) = &analysis.run {
        parts.push(planned(run));
    }
    parts.push(provenance(&analysis.provenance));
    parts.retain(|part| !part.is_empty());
    parts.join("\n\n")
}

/// A table without lines, two spaces in.
pub fn table(header: &[&str], right: &[usize]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    if !header.is_empty() {
        table.set_header(header.to_vec());
    }
    let columns = header.len().max(right.iter().max().map_or(0, |m| m + 1));
    if columns > 0 && header.is_empty() {
        table.set_header(vec![""; columns]);
    }
    for &k in right {
        if let Some(column) = table.column_mut(k) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// The lines of a table.
pub fn rows(table: &Table) -> String {
    let lines: Vec<String> = table.lines().map(|l| format!(" {}", l.trim_end())).filter(|l| l.trim() != "").collect();
    lines.join("\n")
}

fn titled(title: &str, table: &Table) -> String {
    format!("{title}\n{}", rows(table))
}

fn heading(analysis: &Analysis) -> String {
    let name = analysis.name.as_deref().unwrap_or(&analysis.path);
    let mut line = name.to_owned();
    if let Some(workload) = &analysis.workload {
        line += &format!(" · {workload}");
    }
    let Some(run) = &analysis.run else { return line };
    line += &format!(" · {}", run.state.word());
    let mut lines = vec![line, format!("  {}", progress(run))];
    if let Some(reason) = run.attempts.last().and_then(|a| a.reason.as_ref()) {
        lines.push(format!("  {}: {reason}", run.state.word()));
    }
    if analysis.result.is_none() {
        lines.push(match &run.checkpoint {
            Some(c) => format!(
                "  no result yet; newest checkpoint {}: step {}, {} in {} files",
                c.name,
                c.step,
                quantity(c.bytes as f64, "bytes"),
                c.shards
            ),
            None => "  no result and no checkpoint yet".to_owned(),
        });
    }
    if let Some(resume) = &run.resume {
        lines.push(format!("  continue with `{resume}`"));
    }
    lines.join("\n")
}

/// Steps, time and attempts in one line.
pub fn progress(run: &Story) -> String {
    let of = run.steps_planned.map_or(String::new(), |n| format!(" of {n}"));
    let tries = run.attempts.len();
    let plural = if tries == 1 { "" } else { "s" };
    format!("run {}: {}{of} steps in {}, {tries} attempt{plural}", run.run_id, run.steps, seconds(run.seconds))
}

fn attempts(attempts: &[Attempt]) -> String {
    if attempts.is_empty() {
        return String::new();
    }
    let mut t =
        table(&["", "started", "steps", "took", "end", "ranks", "device", "host", "checkpoints"], &[0, 2, 3, 5]);
    for a in attempts {
        t.add_row(attempt_row(a));
    }
    titled("Attempts", &t)
}

/// An attempt, cell by cell.
pub fn attempt_row(a: &Attempt) -> Vec<String> {
    let mut checkpoints = match a.checkpoints.count {
        0 => "none".to_owned(),
        n => format!("{n} × {}, {}", quantity(a.checkpoints.bytes as f64, "bytes"), seconds(a.checkpoints.seconds)),
    };
    if a.checkpoints.failed > 0 {
        checkpoints += &format!(", {} failed", a.checkpoints.failed);
    }
    let steps = format!("{} – {}", a.first_step, a.last_step);
    let ranks = a.ranks.to_string();
    vec![
        a.epoch.to_string(),
        moment(&a.started),
        steps,
        seconds(a.seconds),
        a.state.word().to_owned(),
        ranks,
        a.device.clone(),
        a.host.clone(),
        checkpoints,
    ]
}

fn arrays(result: &Contents) -> String {
    let mut t = table(&["name", "shape", "type", "unit", "min", "max", "mean", "std", "NaN"], &[4, 5, 6, 7, 8]);
    for array in &result.arrays {
        t.add_row(array_row(array));
    }
    let mut lines = vec![titled(&format!("Result {} ({})", result.file, quantity(result.bytes as f64, "bytes")), &t)];
    for array in result.arrays.iter().filter(|a| a.axes.iter().any(is_known)) {
        lines.push(format!("  {}: {}", array.name, extents(array)));
    }
    if result.not_drawn > 0 {
        lines.push(format!("  {} more arrays are not drawn: name them with `convoke analyse plot`", result.not_drawn));
    }
    if result.as_recorded == Some(false) {
        lines.push(
            "  WARNING: these are not the bytes that the run wrote (checksum differs from events.jsonl)".to_owned(),
        );
    }
    lines.join("\n")
}

/// Whether the file says anything about the axis.
fn is_known(axis: &Axis) -> bool {
    !axis.unit.is_empty() || axis.origin != 0.0 || axis.spacing != 1.0
}

/// The axes of an array with their first and last coordinate.
pub fn extents(array: &Array) -> String {
    array.axes.iter().map(extent).collect::<Vec<_>>().join(", ")
}

/// `z −31.5 … 31.5 mm`.
fn extent(axis: &Axis) -> String {
    let end = axis.at(axis.n.saturating_sub(1) as f64);
    format!("{} {} … {}{}", axis.name, short(axis.origin), short(end), axis.unit_after())
}

/// An array, cell by cell.
pub fn array_row(array: &Array) -> Vec<String> {
    let mut row = vec![array.name.clone(), array.dimensions(), array.dtype.clone(), array.unit.clone()];
    row.extend(match &array.stats {
        Some(s) => [short(s.min), short(s.max), short(s.mean), short(s.std), not_finite(s.nan, s.infinite)],
        None => Default::default(),
    });
    row
}

fn not_finite(nan: u64, infinite: u64) -> String {
    if infinite == 0 { nan.to_string() } else { format!("{nan} + {infinite} inf") }
}

/// A value of an attribute.
pub fn value(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(n) if n.is_f64() => n.as_f64().map_or_else(|| n.to_string(), short),
        Value::Array(items) => items.iter().map(self::value).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

fn figures(figures: &Map<String, Value>) -> String {
    if figures.is_empty() {
        return String::new();
    }
    let mut t = table(&[], &[1]);
    for (name, figure) in figures {
        t.add_row(vec![name.clone(), value(figure)]);
    }
    titled("Figures", &t)
}

fn history(columns: &[Column]) -> String {
    let Some(longest) = columns.iter().map(|c| c.n).max() else { return String::new() };
    let mut t = table(&["", "first", "last", "min", "max", ""], &[1, 2, 3, 4]);
    for c in columns {
        t.add_row(vec![
            c.name.clone(),
            short(c.first),
            short(c.last),
            short(c.min),
            short(c.max),
            sparkline(&c.values, 32),
        ]);
    }
    titled(&format!("History ({longest} records)"), &t)
}

fn planned(run: &Story) -> String {
    if run.planned.is_empty() {
        return String::new();
    }
    let mut t = table(&["", "planned", "measured", ""], &[1, 2, 3]);
    for p in &run.planned {
        let seen = p.measured.map_or("–".to_owned(), |m| quantity(m, p.unit));
        t.add_row(vec![
            p.quantity.to_owned(),
            quantity(p.planned, p.unit),
            seen,
            p.measured.map_or(String::new(), |m| share(m, p.planned)),
        ]);
    }
    titled("Plan (at most) and measurement (rank 0)", &t)
}

/// What made the file, in few lines: `(what, how)`.
pub fn origin(provenance: &Map<String, Value>) -> Vec<(&'static str, String)> {
    let get = |key: &str| provenance.get(key).map(value).filter(|v| !v.is_empty());
    let mut rows = Vec::new();
    if let Some(version) = get("convoke_version") {
        let commit = get("git_commit").map_or(String::new(), |c| format!(", commit {c}"));
        let dirty = if matches!(get("git_dirty").as_deref(), Some("1" | "true")) { " with local changes" } else { "" };
        rows.push(("program", format!("convoke {version}{commit}{dirty}")));
    }
    let libraries = [("hdf5_version", "HDF5 "), ("mpi_version", "MPI "), ("cuda_version", "CUDA ")];
    let libraries: Vec<String> =
        libraries.iter().filter_map(|(key, name)| get(key).map(|v| format!("{name}{v}"))).collect();
    rows.extend((!libraries.is_empty()).then(|| ("libraries", libraries.join(", "))));
    if let Some(ranks) = get("ranks") {
        let device = get("device").map_or(String::new(), |d| format!(" on {d}"));
        rows.push(("ranks", format!("{ranks}{device}")));
    }
    let rest = [("hosts", "hosts"), ("seed", "seed"), ("created", "created"), ("spec_xxh3_128", "job file xxh3")];
    rows.extend(rest.iter().filter_map(|(key, name)| Some((*name, get(key)?))));
    if let Some((_, created)) = rows.iter_mut().find(|(name, _)| *name == "created") {
        *created = moment(created);
    }
    rows
}

fn provenance(provenance: &Map<String, Value>) -> String {
    let rows = origin(provenance);
    if rows.is_empty() {
        return String::new();
    }
    let mut t = table(&["", ""], &[]);
    for (name, text) in rows {
        t.add_row(vec![name.to_owned(), text]);
    }
    titled("Made by", &t)
}
