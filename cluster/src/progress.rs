//! What a person sees while a job runs. Only rank 0 has one that speaks.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How much to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Verbosity {
    /// A bar on a terminal, a line per interval otherwise.
    #[default]
    Normal,
    /// Errors only.
    Quiet,
}

/// In a log, one line per this much time.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Environment of the ranks: the width of the terminal that their launcher hides from them.
const TERMINAL: &str = "CONVOKE_TERMINAL";

/// Reports steps, rate and time to the end on standard error.
pub struct Reporter {
    started: Instant,
    first: f64,
    work: f64,
    unit: &'static str,
    mode: Mode,
}

enum Mode {
    Silent,
    Bar(ProgressBar),
    Log { last: Instant },
}

impl std::fmt::Debug for Reporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reporter")
    }
}

impl Reporter {
    /// For a job whose work is counted in `unit`; `speaks` on rank 0 only.
    pub fn new(speaks: bool, verbosity: Verbosity, unit: &'static str) -> Self {
        // Ranks write into their launcher's pipe: it says whether that ends in a terminal.
        let terminal = std::io::stderr().is_terminal() || std::env::var_os(TERMINAL).is_some();
        let mode = match (speaks, verbosity) {
            (false, _) | (_, Verbosity::Quiet) => Mode::Silent,
            (true, Verbosity::Normal) if terminal => Mode::Bar(bar()),
            (true, Verbosity::Normal) => Mode::Log { last: Instant::now() },
        };
        Self { started: Instant::now(), first: 0.0, work: 0.0, unit, mode }
    }

    /// The job starts, or goes on, at `fraction`.
    pub fn start(&mut self, fraction: f64) {
        self.started = Instant::now();
        self.first = fraction;
    }

    /// One step is done.
    pub fn step(&mut self, step: u64, fraction: f64, work: f64, metrics: &[(&'static str, f64)]) {
        self.work += work;
        let seconds = self.started.elapsed().as_secs_f64();
        let eta = if fraction > self.first { seconds * (1.0 - fraction) / (fraction - self.first) } else { f64::NAN };
        let figures: String = metrics.iter().map(|(name, value)| format!("  {name} {value:.4e}")).collect();
        let line = || {
            let rate = human_rate(self.work / seconds.max(1e-9));
            format!("step {step}  {:5.1} %  {rate} {}/s{figures}  ETA {}", fraction * 100.0, self.unit, human_time(eta))
        };
        match &mut self.mode {
            Mode::Silent => {}
            Mode::Bar(bar) => {
                bar.set_position((fraction * 1000.0) as u64);
                bar.set_message(line());
            }
            Mode::Log { last } if last.elapsed() >= LOG_INTERVAL => {
                *last = Instant::now();
                say(&line());
            }
            Mode::Log { .. } => {}
        }
    }

    /// A line for the record: starts, checkpoints, warnings, the end.
    pub fn note(&self, text: &str) {
        match &self.mode {
            Mode::Silent => {}
            Mode::Bar(bar) => bar.suspend(|| say(text)),
            Mode::Log { .. } => say(text),
        }
    }

    /// Takes the bar away.
    pub fn end(&self) {
        if let Mode::Bar(bar) = &self.mode {
            bar.finish_and_clear();
        }
    }
}

fn say(text: &str) {
    // Standard error may be closed; a run goes on without it.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// What a launcher passes on to its ranks, so that they know of the terminal at the end of its pipe.
pub(crate) fn terminal_of_ranks() -> Option<(&'static str, String)> {
    let width = || std::env::var("COLUMNS").unwrap_or_else(|_| "100".to_owned());
    std::io::stderr().is_terminal().then(|| (TERMINAL, width()))
}

fn bar() -> ProgressBar {
    let target = if std::io::stderr().is_terminal() {
        ProgressDrawTarget::stderr_with_hz(8)
    } else {
        ProgressDrawTarget::term_like_with_hz(Box::new(Piped), 8)
    };
    let style = ProgressStyle::with_template("{bar:24.cyan/blue} {elapsed} {msg}");
    ProgressBar::with_draw_target(Some(1000), target).with_style(style.expect("the template is constant"))
}

/// A terminal at the far end of a pipe: escape sequences pass through the launcher.
#[derive(Debug)]
struct Piped;

impl Piped {
    fn write(&self, text: &str) -> std::io::Result<()> {
        std::io::stderr().write_all(text.as_bytes())
    }
}

impl indicatif::TermLike for Piped {
    fn width(&self) -> u16 {
        std::env::var(TERMINAL).ok().and_then(|w| w.parse().ok()).unwrap_or(100)
    }
    fn move_cursor_up(&self, n: usize) -> std::io::Result<()> {
        if n == 0 { Ok(()) } else { self.write(&format!("\x1b[{n}A")) }
    }
    fn move_cursor_down(&self, n: usize) -> std::io::Result<()> {
        if n == 0 { Ok(()) } else { self.write(&format!("\x1b[{n}B")) }
    }
    fn move_cursor_right(&self, n: usize) -> std::io::Result<()> {
        if n == 0 { Ok(()) } else { self.write(&format!("\x1b[{n}C")) }
    }
    fn move_cursor_left(&self, n: usize) -> std::io::Result<()> {
        if n == 0 { Ok(()) } else { self.write(&format!("\x1b[{n}D")) }
    }
    fn write_line(&self, s: &str) -> std::io::Result<()> {
        self.write(&format!("{s}\n"))
    }
    fn write_str(&self, s: &str) -> std::io::Result<()> {
        self.write(s)
    }
    fn clear_line(&self) -> std::io::Result<()> {
        self.write("\r\x1b[2K")
    }
    fn flush(&self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}

/// A rate with a decimal prefix.
fn human_rate(rate: f64) -> String {
    let (scale, prefix) = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")]
        .into_iter()
        .find(|(scale, _)| rate >= *scale)
        .unwrap_or((1.0, ""));
    format!("{:.2} {prefix}", rate / scale)
}

/// A duration for people: "8 s", "3 min 20 s", "5 h 10 min".
pub fn human_time(seconds: f64) -> String {
    if !seconds.is_finite() {
        return "unknown".to_owned();
    }
    let s = seconds.round() as u64;
    match s {
        0..60 => format!("{s} s"),
        60..3600 => format!("{} min {} s", s / 60, s % 60),
        _ => format!("{} h {} min", s / 3600, s / 60 % 60),
    }
}
