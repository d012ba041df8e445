//! Numbers for people.

use convoke_cluster::machine::human_bytes;

/// Five significant digits, without useless zeros: `0.12346`, `1.5`, `3.2e-7`.
pub fn short(v: f64) -> String {
    if v == 0.0 {
        return "0".to_owned();
    }
    if !v.is_finite() {
        return if v.is_nan() { "NaN".to_owned() } else { format!("{v}") };
    }
    let exponent = v.abs().log10().floor() as i32;
    if v.fract() == 0.0 && v.abs() < 1e7 {
        return format!("{v:.0}");
    }
    if (-4..6).contains(&exponent) {
        return trimmed(&format!("{v:.*}", (4 - exponent).max(0) as usize));
    }
    let text = format!("{v:.4e}");
    let (digits, power) = text.split_once('e').expect("the format writes an exponent");
    format!("{}e{power}", trimmed(digits))
}

/// As [`short`], with a typographic minus for pictures.
pub fn label(v: f64) -> String {
    short(v).replace('-', "−")
}

/// All digits that tell the value from its neighbours; those of f32 where the value is one.
pub fn exact(v: f64) -> String {
    let narrow = v as f32;
    let (plain, far) = (f64::from(narrow) == v, v != 0.0 && !(1e-5..1e9).contains(&v.abs()));
    match (plain, far && v.is_finite()) {
        (true, true) => format!("{narrow:e}"),
        (true, false) => format!("{narrow}"),
        (false, true) => format!("{v:e}"),
        (false, false) => format!("{v}"),
    }
}

fn trimmed(text: &str) -> String {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text.to_owned() }
}

/// Text without control characters: a name in a foreign file must not steer the terminal.
pub fn printable(text: &str) -> String {
    text.replace(|c: char| c.is_control() && c != '\n', "\u{fffd}")
}

/// A quantity in its unit: bytes in binary units, counts as they are.
pub fn quantity(v: f64, unit: &str) -> String {
    if unit == "bytes" && v >= 0.0 { human_bytes(v as u64) } else { short(v) }
}

/// A duration: `0.26 s`, `12.5 s`, `3 min 20 s`, `2 h 5 min`.
pub fn seconds(s: f64) -> String {
    if s < 60.0 {
        return format!("{} s", if s < 10.0 { format!("{s:.2}") } else { format!("{s:.1}") });
    }
    convoke_cluster::progress::human_time(s)
}

/// `measured / planned` in per cent.
pub fn share(measured: f64, planned: f64) -> String {
    if planned > 0.0 { format!("{:.0} %", 100.0 * measured / planned) } else { String::new() }
}

/// Date and time of an RFC 3339 text, to the second, in UTC.
pub fn moment(time: &str) -> String {
    time.parse::<jiff::Timestamp>()
        .map_or_else(|_| time.to_owned(), |t| t.strftime("%Y-%m-%d %H:%M:%S UTC").to_string())
}

/// A curve in a line of text: up to `width` pieces, each shown by its last value; by decades where
/// the values are positive and span more than two.
pub fn sparkline(values: &[f64], width: usize) -> String {
    const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let n = values.len().min(width);
    let shown: Vec<f64> = (1..=n).map(|k| values[k * values.len() / n - 1]).collect();
    let extremes = |v: &[f64]| {
        v.iter().filter(|v| v.is_finite()).fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), &v| (l.min(v), h.max(v)))
    };
    let (low, high) = extremes(&shown);
    let by_decades = low > 0.0 && high > 100.0 * low;
    let level = |v: f64| if by_decades { v.log10() } else { v };
    let (low, high) = (level(low), level(high));
    let glyph = |&v: &f64| match (level(v) - low) / (high - low) {
        _ if !v.is_finite() => '?',
        share if share.is_nan() => LEVELS[0],
        share => LEVELS[((share * 8.0) as usize).min(7)],
    };
    shown.iter().map(glyph).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_exact_enough() {
        let cases = [
            (0.0, "0"),
            (63.5, "63.5"),
            (0.111_633_4, "0.11163"),
            (3.2e-7, "3.2e-7"),
            (1.0 / 3.0, "0.33333"),
            (-2_097_152.0, "-2097152"),
            (123_456.789, "123457"),
            (6.02e23, "6.02e23"),
        ];
        for (value, text) in cases {
            assert_eq!(short(value), text);
        }
    }

    #[test]
    fn sparklines_fall_as_residuals_do() {
        assert_eq!(sparkline(&[8.0, 4.0, 0.0], 10), "█▅▁");
        assert_eq!(sparkline(&[1.0, 1e-2, 1e-4], 10), "█▅▁");
        assert_eq!(sparkline(&[2.0, 2.0], 10), "▁▁");
        assert_eq!(sparkline(&(0..100).map(f64::from).collect::<Vec<_>>(), 4).chars().count(), 4);
    }
}
