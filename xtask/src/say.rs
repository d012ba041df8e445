//! Printing. A closed pipe (`| head`) is no reason to stop.

use std::fmt::Display;
use std::io::{IsTerminal, Write, stderr, stdout};

use comfy_table::{Table, presets};
use xshell::Cmd;

use crate::error::Result;

/// One line.
pub fn line(text: impl Display) {
    let mut out = stdout().lock();
    let _ = writeln!(out, "{text}");
    let _ = out.flush();
}

/// A line that begins a section.
pub fn heading(text: &str) {
    if colours() { line(format!("\n\x1b[1m{text}\x1b[0m")) } else { line(format!("\n{text}")) }
}

/// What went wrong.
pub fn error(text: &str) {
    let label = if colours() { "\x1b[1;31mcargo xtask: error:\x1b[0m" } else { "cargo xtask: error:" };
    let _ = writeln!(stderr().lock(), "{label} {text}");
}

/// Rows below a heading.
pub fn table<const N: usize>(header: [&str; N], rows: impl IntoIterator<Item = [String; N]>) {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header).add_rows(rows);
    table.lines().for_each(|row| line(format!("  {}", row.trim_end())));
}

/// Says a command, then runs it with its output on the terminal.
pub fn run(command: Cmd<'_>) -> Result<()> {
    line(format!("$ {command}"));
    Ok(command.quiet().run()?)
}

/// True where colours help.
pub fn colours() -> bool {
    stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}
