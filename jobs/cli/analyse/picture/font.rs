//! The embedded font: what a text measures, and its pixels.
//!
//! A machine without fonts must draw the same picture, so DejaVu Sans is part of the program.
//! plotters rasterises glyphs but drops their left side bearing, which sets letters unevenly; so
//! glyphs are placed here one by one, by the font's own `hmtx` table (OpenType 1.9).

use std::sync::Once;

use plotters::style::{FontDesc, FontFamily, FontStyle, register_font};

static BYTES: &[u8] = include_bytes!("../../fonts/DejaVuSans.ttf");
static REGISTER: Once = Once::new();
/// Its name with plotters.
const NAME: &str = "sans-serif";

fn u16_at(at: usize) -> usize {
    BYTES.get(at..at + 2).map_or(0, |b| usize::from(u16::from_be_bytes([b[0], b[1]])))
}

fn i16_at(at: usize) -> i32 {
    BYTES.get(at..at + 2).map_or(0, |b| i32::from(i16::from_be_bytes([b[0], b[1]])))
}

fn u32_at(at: usize) -> usize {
    u16_at(at) << 16 | u16_at(at + 2)
}

/// Where a table of the font begins.
fn table(tag: &[u8; 4]) -> usize {
    let entry = (0..u16_at(4)).map(|k| 12 + 16 * k).find(|&at| &BYTES[at..at + 4] == tag);
    u32_at(entry.expect("the embedded font has the tables of every font") + 8)
}

/// The glyph of a character, from the `cmap` table of format 4; 0 for one that the font lacks.
fn glyph(c: char) -> usize {
    let (code, cmap) = (c as usize, table(b"cmap"));
    let tables = (0..u16_at(cmap + 2)).map(|k| cmap + u32_at(cmap + 4 + 8 * k + 4));
    let Some(at) = tables.into_iter().find(|&at| u16_at(at) == 4) else { return 0 };
    let n = u16_at(at + 6);
    let (ends, starts) = (at + 14, at + 16 + n);
    let Some(k) = (0..n / 2).map(|k| 2 * k).find(|&k| u16_at(ends + k) >= code) else { return 0 };
    let (start, delta, offset) = (u16_at(starts + k), u16_at(starts + n + k), u16_at(starts + 2 * n + k));
    if code < start {
        return 0;
    }
    if offset == 0 {
        return (code + delta) & 0xffff;
    }
    let found = u16_at(starts + 2 * n + k + offset + 2 * (code - start));
    if found == 0 { 0 } else { (found + delta) & 0xffff }
}

/// Advance and left side bearing of a character in ems.
fn metrics(c: char) -> (f64, f64) {
    let em = u16_at(table(b"head") + 18) as f64;
    let (long, hmtx, glyph) = (u16_at(table(b"hhea") + 34).max(1), table(b"hmtx"), glyph(c));
    let advance = u16_at(hmtx + 4 * glyph.min(long - 1));
    let bearing = if glyph < long { hmtx + 4 * glyph + 2 } else { hmtx + 4 * long + 2 * (glyph - long) };
    (advance as f64 / em, f64::from(i16_at(bearing)) / em)
}

/// Width of a text in a font of `size`.
pub fn width(text: &str, size: f64) -> f64 {
    text.chars().map(|c| metrics(c).0).sum::<f64>() * size
}

/// Calls `draw(x, y, coverage)` for the pixels of a text whose baseline begins at (0, 0).
pub fn draw(text: &str, size: f64, mut draw: impl FnMut(i32, i32, f32)) {
    REGISTER.call_once(|| {
        let _ = register_font(NAME, FontStyle::Normal, BYTES);
    });
    // plotters counts ascent − descent as the size, and puts the baseline at half of it.
    let hhea = table(b"hhea");
    let em = u16_at(table(b"head") + 18) as f64;
    let height = f64::from(i16_at(hhea + 4) - i16_at(hhea + 6)) / em;
    let scaled = 2.0 * (size * height / 2.0).round();
    let em_size = scaled / height;
    let font = FontDesc::new(FontFamily::Name(NAME), scaled, FontStyle::Normal);
    let mut pen = 0.0;
    for c in text.chars() {
        let (advance, bearing) = metrics(c);
        let at = ((pen + bearing * em_size).floor() as i32, -(scaled / 2.0) as i32);
        // A glyph that cannot be drawn leaves a gap.
        let _ = font.draw(c.encode_utf8(&mut [0; 4]), at, |x, y, coverage| {
            draw(x, y, coverage);
            Ok::<(), std::convert::Infallible>(())
        });
        pen += advance * em_size;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_font_has_the_characters_of_our_labels() {
        for c in "azAZ09 .,-−×·μΔ°±²³⁻⁰¹⁴⁵⁶⁷⁸⁹Å[]/|–…".chars() {
            assert_ne!(glyph(c), 0, "{c}");
        }
        assert!(width("mm", 10.0) > 2.5 * width("ii", 10.0));
    }
}
