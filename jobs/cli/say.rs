//! The only place that prints.

use std::io::{IsTerminal, Write};

use convoke_cluster::JobError;
use miette::{GraphicalReportHandler, GraphicalTheme};

/// A line on standard output. A closed pipe (`convoke list | head`) is no error.
pub fn line(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// An empty terminal, if standard output is one.
pub fn clear() {
    if !std::io::stdout().is_terminal() {
        return;
    }
    let _ = write!(std::io::stdout(), "\x1b[2J\x1b[H");
}

/// A line on standard error.
pub fn error_line(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// A value as JSON on standard output.
pub fn json(value: &serde_json::Value) {
    line(&serde_json::to_string_pretty(value).expect("a value is plain data"));
}

/// Whether standard output shows colours (<https://no-color.org>).
pub fn has_colours() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

/// The lines of the job file around an error, with the place marked; only for people: a log gets
/// the one line that names file, line and column.
pub fn frame(error: &JobError) -> Option<String> {
    if !std::io::stderr().is_terminal() {
        return None;
    }
    let mut text = String::new();
    GraphicalReportHandler::new_themed(GraphicalTheme::unicode()).render_report(&mut text, error).ok()?;
    Some(text)
}
