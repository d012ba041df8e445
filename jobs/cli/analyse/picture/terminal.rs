//! Pictures in a terminal: curves of braille dots, planes of half blocks.

use super::colour::{ColourMap, percentiles};
use crate::cli::analyse::number::short;
use crate::cli::analyse::scan::Plane;

/// What the terminal can do.
#[derive(Debug, Clone, Copy)]
pub struct Terminal {
    /// Characters of a line.
    pub width: usize,
    /// Whether 24-bit colours may be used; if not, planes are shades of characters.
    pub colours: bool,
}

/// Lines of a curve.
const CURVE_LINES: usize = 12;
/// Longest side of a plane, in lines.
const PLANE_LINES: usize = 32;
/// From empty to full, for terminals without colour.
const SHADES: &[u8] = b" .:-=+*#%@";

/// Draws points as lines of text; values that are no number leave a gap. All positive and over more
/// than two decades, they get a logarithmic axis.
pub fn curve(points: &[(f64, f64)], terminal: Terminal) -> Vec<String> {
    let finite = || points.iter().filter(|p| p.1.is_finite());
    let (low, high) = finite().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), p| (l.min(p.1), h.max(p.1)));
    if low > high {
        return vec!["  no finite values".to_owned()];
    }
    let by_decades = low > 0.0 && high > 100.0 * low;
    let level = |v: f64| if by_decades { v.log10() } else { v };
    let labels = [short(high), short(low)];
    let margin = labels.iter().map(|l| l.chars().count()).max().unwrap_or(0);
    let columns = terminal.width.saturating_sub(margin + 4).clamp(8, 100);
    let (first, last) = points.first().zip(points.last()).map_or((0.0, 1.0), |(a, b)| (a.0, b.0));
    // A cell of braille has 2 × 4 dots.
    let (nx, ny) = (2 * columns, 4 * CURVE_LINES);
    let place = |share: f64, n: usize| if share.is_nan() { n / 2 } else { (share * (n - 1) as f64).round() as usize };
    let mut canvas = Braille { columns, cells: vec![0; columns * CURVE_LINES] };
    for run in points.split(|p| !p.1.is_finite()) {
        let at = |p: &(f64, f64)| {
            let up = place((level(p.1) - level(low)) / (level(high) - level(low)), ny);
            (place((p.0 - first) / (last - first), nx), ny - 1 - up)
        };
        run.first().into_iter().for_each(|p| canvas.dot(at(p)));
        run.windows(2).for_each(|pair| canvas.line(at(&pair[0]), at(&pair[1])));
    }
    let mut lines: Vec<String> = canvas.lines().collect();
    let end = lines.len() - 1;
    for (k, line) in lines.iter_mut().enumerate() {
        let label = if k == 0 {
            &labels[0]
        } else if k == end {
            &labels[1]
        } else {
            ""
        };
        *line = format!("{label:>margin$} │{line}");
    }
    let gap = columns.saturating_sub(short(first).chars().count() + short(last).chars().count());
    lines.push(format!("{:margin$}  {}{:gap$}{}", "", short(first), "", short(last)));
    if by_decades {
        lines.push(format!("{:margin$}  logarithmic", ""));
    }
    lines
}

struct Braille {
    columns: usize,
    cells: Vec<u8>,
}

impl Braille {
    /// Bits of a cell's dots, row by row (Unicode 15, block 2800).
    const BITS: [[u8; 2]; 4] = [[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]];

    fn dot(&mut self, (x, y): (usize, usize)) {
        if let Some(cell) = self.cells.get_mut(y / 4 * self.columns + x / 2) {
            *cell |= Self::BITS[y % 4][x % 2];
        }
    }

    fn line(&mut self, a: (usize, usize), b: (usize, usize)) {
        let steps = a.0.abs_diff(b.0).max(a.1.abs_diff(b.1)).max(1);
        for k in 0..=steps {
            let between =
                |p: usize, q: usize| (p as f64 + (q as f64 - p as f64) * k as f64 / steps as f64).round() as usize;
            self.dot((between(a.0, b.0), between(a.1, b.1)));
        }
    }

    fn lines(&self) -> impl Iterator<Item = String> {
        let glyph = |cell: &u8| char::from_u32(0x2800 + u32::from(*cell)).unwrap_or(' ');
        self.cells.chunks(self.columns).map(move |row| row.iter().map(glyph).collect())
    }
}

/// Draws a plane as lines of text, its first row at the bottom, and the values at the ends of the
/// colours. A character is two pixels high.
pub fn plane(
    plane: &Plane,
    map: ColourMap,
    range: Option<(f64, f64)>,
    terminal: Terminal,
) -> (Vec<String>, (f64, f64)) {
    let (low, high) = range.unwrap_or_else(|| percentiles(plane.values.iter().copied(), 0.005, 0.995));
    let [n_rows, n_cols] = plane.shape;
    let most = [(2 * PLANE_LINES) as f64, terminal.width.saturating_sub(4).clamp(8, 128) as f64];
    let scale = (most[0] / n_rows as f64).min(most[1] / n_cols as f64).min(2.0);
    let size = |n: usize| ((n as f64 * scale).round() as usize).max(1);
    let (ny, nx) = (size(n_rows).next_multiple_of(2), size(n_cols));
    // The mean of the samples below a pixel, as a share of the range.
    let share = |y: usize, x: usize| {
        let span = |p: usize, pixels: usize, n: usize| p * n / pixels..((p + 1) * n / pixels).max(p * n / pixels + 1);
        let values = span(ny - 1 - y, ny, n_rows)
            .flat_map(|r| span(x, nx, n_cols).map(move |c| r * n_cols + c))
            .map(|k| f64::from(plane.values[k]))
            .filter(|v| !v.is_nan());
        let (sum, count) = values.fold((0.0, 0u32), |(sum, n), v| (sum + v, n + 1));
        (sum / f64::from(count) - low) / (high - low)
    };
    let colour = |share: f64| if share.is_nan() { map.not_a_number().0 } else { map.at(share) };
    let line = |y: usize| -> String {
        if terminal.colours {
            let cell = |x| {
                let ([r, g, b], [s, h, c]) = (colour(share(y, x)), colour(share(y + 1, x)));
                format!("\u{1b}[38;2;{r};{g};{b};48;2;{s};{h};{c}m▀")
            };
            return (0..nx).map(cell).chain(["\u{1b}[0m".to_owned()]).collect();
        }
        let cell = |x| match (share(y, x) + share(y + 1, x)) / 2.0 {
            share if share.is_nan() => '?',
            share => char::from(SHADES[((share.clamp(0.0, 1.0) * SHADES.len() as f64) as usize).min(SHADES.len() - 1)]),
        };
        (0..nx).map(cell).collect()
    };
    ((0..ny).step_by(2).map(|y| format!("  {}", line(y))).collect(), (low, high))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Terminal = Terminal { width: 24, colours: false };

    #[test]
    fn a_curve_falls_from_the_upper_left_to_the_lower_right() {
        let points: Vec<(f64, f64)> = (0..50).map(|k| (f64::from(k), 49.0 - f64::from(k))).collect();
        let lines = curve(&points, PLAIN);
        assert_eq!(lines.len(), CURVE_LINES + 1);
        let (first, last) = (&lines[0], &lines[CURVE_LINES - 1]);
        assert!(first.starts_with("49 │") && first.chars().nth(4) != Some('\u{2800}'), "{first}");
        assert!(last.starts_with(" 0 │\u{2800}") && !last.ends_with('\u{2800}'), "{last}");
        assert!(lines.iter().all(|l| l.chars().count() <= 24), "{lines:?}");
        assert_eq!(curve(&[(0.0, f64::NAN)], PLAIN), ["  no finite values"]);
    }

    #[test]
    fn a_plane_has_its_first_row_at_the_bottom() {
        let mut dark = Plane::new(&[8, 8], 0, 1, vec![0, 0]);
        dark.values = (0..64).map(|k| (k / 8) as f32).collect();
        let (lines, range) = plane(&dark, ColourMap::Gray, None, PLAIN);
        assert_eq!(range, (0.0, 7.0));
        assert!(lines[0].contains('@') && lines[lines.len() - 1].trim().is_empty(), "{lines:?}");
        let (lines, _) = plane(&dark, ColourMap::Gray, None, Terminal { colours: true, ..PLAIN });
        assert!(lines[0].contains("\u{1b}[38;2;255;255;255") && lines[0].ends_with("\u{1b}[0m"), "{lines:?}");
    }
}
