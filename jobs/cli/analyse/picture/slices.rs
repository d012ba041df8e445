//! Planes of an array side by side, on one scale of length and one of colour.

use super::axis::{Panel, SMALL, Scale, linear};
use super::colour::{ColourMap, percentiles};
use super::font;
use super::raster::SCALE;
use super::scene::{Anchor, INK, Mark, Pixels, Scene};
use crate::cli::analyse::array::{Array, Axis, with_unit};
use crate::cli::analyse::number;
use crate::cli::analyse::scan::Plane;

/// Longest side of a plane.
const SIDE: f64 = 300.0;
/// Shortest side of a plane, so that a thin volume is still seen.
const THIN: f64 = 48.0;
/// Between neighbours.
const GAP: f64 = 18.0;

/// How values become colours.
#[derive(Debug, Clone, Copy)]
pub struct Colours {
    /// The map.
    pub map: ColourMap,
    /// The values at its ends; absent: 0.5 to 99.5 % of what is shown, or symmetric about 0.
    pub range: Option<(f64, f64)>,
}

impl Colours {
    /// Both ends, and how they were chosen.
    fn ends(&self, planes: &[Plane]) -> ((f64, f64), &'static str) {
        let values = || planes.iter().flat_map(|p| p.values.iter().copied());
        match (self.range, self.map) {
            (Some(range), _) => (range, "as asked"),
            (None, ColourMap::Diverging) => {
                let (_, most) = percentiles(values().map(f32::abs), 0.005, 0.995);
                ((-most, most), "symmetric, to 99.5 % of the difference")
            }
            (None, _) => (percentiles(values(), 0.005, 0.995), "0.5 to 99.5 % of what is shown"),
        }
    }
}

/// Draws planes of `array`, with a title and a second line below it.
pub fn draw(array: &Array, planes: &[Plane], colours: Colours, title: &str, note: &str) -> Scene {
    let mut scene = Scene::new();
    let (ends, chosen) = colours.ends(planes);
    let sizes: Vec<(f64, f64)> = planes.iter().map(|p| size(array, p)).collect();
    let tallest = sizes.iter().map(|s| s.1).fold(0.0, f64::max);
    let bottom = 78.0 + tallest;
    let mut left = 12.0;
    for (plane, &(w, h)) in planes.iter().zip(&sizes) {
        let (vertical, horizontal) = (&array.axes[plane.rows], &array.axes[plane.cols]);
        let mut panel = Panel {
            at: (0.0, bottom - h),
            size: (w, h),
            x: edges(horizontal),
            y: edges(vertical),
            scales: (Scale::Linear, Scale::Linear),
        };
        left += panel.left();
        panel.at.0 = left.round();
        scene.marks.push(Mark::Image { at: panel.at, pixels: paint(plane, (w, h), ends, colours.map) });
        panel.axes(&mut scene, &horizontal.label(), &vertical.label());
        if planes.len() > 1 {
            scene.text((panel.at.0, panel.at.1 - 7.0), Anchor::Start, SMALL, position(array, plane));
        }
        left = panel.at.0
            + w.max(font::width(&position(array, plane), SMALL) * f64::from(u8::from(planes.len() > 1)))
            + GAP;
    }
    left = bar(&mut scene, (left + 4.0, bottom - tallest), tallest, ends, colours.map, &array.unit);
    let mut range = format!("colours from {} to {} ({chosen})", number::label(ends.0), number::label(ends.1));
    if planes.iter().any(|p| p.values.iter().any(|v| v.is_nan())) {
        range += &format!(", NaN is {}", colours.map.not_a_number().1);
    }
    scene.text((16.0, 26.0), Anchor::Start, 15.0, title);
    scene.aside((16.0, 45.0), Anchor::Start, SMALL, if note.is_empty() { range } else { format!("{note} · {range}") });
    let words = scene.marks.iter().map(|m| match m {
        Mark::Text { at, anchor: Anchor::Start, size, text, .. } => at.0 + font::width(text, *size),
        _ => 0.0,
    });
    scene.width = words.fold(left, f64::max) + 16.0;
    scene.height = bottom + 44.0;
    scene
}

/// Coordinates of the edges of the first and the last sample.
fn edges(axis: &Axis) -> (f64, f64) {
    (axis.at(-0.5), axis.at(axis.n as f64 - 0.5))
}

/// Size of a plane's picture. Axes of one unit share a scale of length; others fill a square.
fn size(array: &Array, plane: &Plane) -> (f64, f64) {
    let running: Vec<&Axis> = array.axes.iter().filter(|a| a.n > 1).collect();
    let shown = &running[running.len().saturating_sub(3)..];
    let length = |axis: &Axis| axis.n as f64 * axis.spacing.abs();
    let same_unit = shown.windows(2).all(|pair| pair[0].unit == pair[1].unit);
    let longest = shown.iter().map(|a| length(a)).fold(0.0, f64::max);
    let square = shown.windows(2).all(|pair| (pair[0].spacing / pair[1].spacing).abs() == 1.0);
    let side = |axis: &Axis| {
        if !same_unit || longest <= 0.0 {
            return SIDE;
        }
        let mut scale = SIDE / longest;
        let pixels = scale * axis.spacing.abs() * SCALE as f64;
        if square && pixels > 1.0 {
            // Whole pixels per sample: all samples look alike.
            scale *= pixels.floor() / pixels;
        }
        ((length(axis) * scale).max(THIN) * SCALE as f64).round() / SCALE as f64
    };
    (side(&array.axes[plane.cols]), side(&array.axes[plane.rows]))
}

/// `z = 0.5 mm (64 of 0 … 127)`, for the axes that do not run.
fn position(array: &Array, plane: &Plane) -> String {
    let fixed = array.axes.iter().enumerate().filter(|(k, a)| *k != plane.rows && *k != plane.cols && a.n > 1);
    let said: Vec<String> = fixed
        .map(|(k, axis)| {
            let at = number::label(axis.at(plane.at[k] as f64));
            let unit = axis.unit_after();
            format!("{} = {at}{unit} (index {} of {})", axis.name, plane.at[k], axis.n)
        })
        .collect();
    said.join(", ")
}

/// A plane as pixels: the mean of the samples below each, the first row at the bottom.
fn paint(plane: &Plane, (w, h): (f64, f64), (low, high): (f64, f64), map: ColourMap) -> Pixels {
    let (width, height) = ((w * SCALE as f64).round() as usize, (h * SCALE as f64).round() as usize);
    let [n_rows, n_cols] = plane.shape;
    let span = |p: usize, pixels: usize, n: usize| {
        let first = p * n / pixels;
        first..((p + 1) * n / pixels).max(first + 1)
    };
    let mut data = Vec::with_capacity(width * height);
    for y in 0..height {
        let rows = span(height - 1 - y, height, n_rows);
        for x in 0..width {
            let (mut sum, mut count) = (0.0, 0u32);
            for r in rows.clone() {
                for c in span(x, width, n_cols) {
                    let v = f64::from(plane.values[r * n_cols + c]);
                    if !v.is_nan() {
                        sum += v;
                        count += 1;
                    }
                }
            }
            let share = (sum / f64::from(count) - low) / (high - low);
            data.push(if count == 0 || share.is_nan() { map.not_a_number().0 } else { map.at(share) });
        }
    }
    Pixels { width, data }
}

/// A colour bar; returns where it ends.
fn bar(scene: &mut Scene, at: (f64, f64), height: f64, ends: (f64, f64), map: ColourMap, unit: &str) -> f64 {
    let (width, tall) = (14.0, (height * SCALE as f64) as usize);
    let wide = (width * SCALE as f64) as usize;
    let data = (0..tall * wide).map(|k| map.at(1.0 - (k / wide) as f64 / (tall.max(2) - 1) as f64)).collect();
    scene.marks.push(Mark::Image { at, pixels: Pixels { width: wide, data } });
    scene.frame(at, (width, height));
    let ticks = linear(ends.0, ends.1, (height / 36.0) as usize);
    for tick in &ticks.ticks {
        let y = at.1 + height * (1.0 - (tick.value - ends.0) / (ends.1 - ends.0));
        scene.line((at.0 + width, y), (at.0 + width + 4.0, y), 1.0, INK);
        scene.text((at.0 + width + 7.0, y + 4.0), Anchor::Start, SMALL, tick.label.as_str());
    }
    let label = ticks.name(&with_unit("", unit));
    scene.text((at.0, at.1 - 7.0), Anchor::Start, SMALL, label.trim());
    at.0 + width + 7.0 + ticks.width()
}
