//! Several series of points over one axis, with intervals: what a sweep found.

use super::axis::{Panel, Scale};
use super::curve::{room, widen};
use super::font;
use super::scene::{Anchor, Colour, Mark, Scene};

/// Width and height of the part with the points.
const SIZE: (f64, f64) = (430.0, 250.0);
/// A palette that people with any colour vision tell apart (Okabe and Ito, 2008).
const COLOURS: [Colour; 7] =
    [[0, 114, 178], [213, 94, 0], [0, 158, 115], [204, 121, 167], [86, 180, 233], [230, 159, 0], [34, 34, 34]];
/// Size of the legend's letters.
const SMALL: f64 = 12.0;

/// One point.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dot {
    /// Where.
    pub x: f64,
    /// The value.
    pub y: f64,
    /// An interval around it.
    pub interval: Option<(f64, f64)>,
}

/// Points that belong together.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// What they share; empty if there is one series.
    pub name: String,
    /// The points, from left to right.
    pub dots: Vec<Dot>,
    /// Whether a line joins them.
    pub joined: bool,
}

/// How many series are told apart.
pub const MOST: usize = COLOURS.len();

/// Draws `series`; positive values over more than two decades get a logarithmic axis.
pub fn draw(series: &[Series], title: &str, x_label: &str, y_label: &str) -> Scene {
    let mut scene = Scene::new();
    let dots = || series.iter().flat_map(|s| &s.dots).filter(|d| d.x.is_finite() && d.y.is_finite());
    let ends = |values: &mut dyn Iterator<Item = f64>| {
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)))
    };
    let x = ends(&mut dots().map(|d| d.x));
    let all = || dots().flat_map(|d| [d.y].into_iter().chain(d.interval.into_iter().flat_map(|(l, h)| [l, h])));
    let y = ends(&mut all().filter(|v| v.is_finite()));
    let scale = |(low, high): (f64, f64)| if low > 0.0 && high >= 100.0 * low { Scale::Log } else { Scale::Linear };
    let scales = (scale(x), scale(y));
    let across = if x.0 > x.1 { (0.0, 1.0) } else { widen_on(x, scales.0) };
    let mut panel = Panel { at: (0.0, 44.0), size: SIZE, x: across, y: room(y.0, y.1, scales.1), scales };
    panel.at.0 = (12.0 + panel.left()).round();
    panel.grid(&mut scene);
    panel.axes(&mut scene, x_label, y_label);
    for (k, one) in series.iter().enumerate() {
        draw_one(&mut scene, &panel, one, COLOURS[k % MOST]);
    }
    if dots().next().is_none() {
        scene.aside((panel.at.0 + SIZE.0 / 2.0, panel.at.1 + SIZE.1 / 2.0), Anchor::Middle, 13.0, "no finite values");
    }
    scene.text((16.0, 26.0), Anchor::Start, 15.0, title);
    let right = panel.at.0 + SIZE.0;
    let mut width: f64 = right + 24.0;
    for (k, one) in series.iter().enumerate().filter(|(_, s)| !s.name.is_empty()) {
        let y = panel.at.1 + 10.0 + 18.0 * k as f64;
        scene.marks.push(Mark::Dot { at: (right + 18.0, y - 4.0), radius: 3.5, colour: COLOURS[k % MOST] });
        scene.text((right + 28.0, y), Anchor::Start, SMALL, one.name.as_str());
        width = width.max(right + 28.0 + font::width(&one.name, SMALL) + 16.0);
    }
    scene.width = width;
    scene.height = panel.at.1 + SIZE.1 + 44.0;
    scene
}

fn widen_on((low, high): (f64, f64), scale: Scale) -> (f64, f64) {
    match scale {
        Scale::Linear => widen((low, high), 0.04),
        Scale::Log => {
            let more = (high / low).powf(0.04);
            (low / more, high * more)
        }
    }
}

fn draw_one(scene: &mut Scene, panel: &Panel, series: &Series, colour: Colour) {
    let finite = |d: &&Dot| d.x.is_finite() && d.y.is_finite() && (panel.scales.1 == Scale::Linear || d.y > 0.0);
    let dots: Vec<&Dot> = series.dots.iter().filter(finite).collect();
    if series.joined && dots.len() > 1 {
        let points = dots.iter().map(|d| panel.place(d.x, d.y)).collect();
        scene.marks.push(Mark::Line { points, width: 1.3, colour });
    }
    for dot in dots {
        if let Some((low, high)) = dot.interval.filter(|(l, h)| l.is_finite() && h.is_finite()) {
            // An interval that reaches below zero ends at the edge of a logarithmic axis.
            let bottom = panel.place(dot.x, low.max(panel.y.0));
            let top = panel.place(dot.x, high.min(panel.y.1));
            scene.line(bottom, top, 1.3, colour);
            for (x, y) in [bottom, top] {
                scene.line((x - 3.5, y), (x + 3.5, y), 1.3, colour);
            }
        }
        scene.marks.push(Mark::Dot { at: panel.place(dot.x, dot.y), radius: 3.0, colour });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(values: &[(f64, f64)]) -> Series {
        let dot = |&(x, y): &(f64, f64)| Dot { x, y, interval: Some((y * 0.5, y * 2.0)) };
        Series { name: "a".into(), dots: values.iter().map(dot).collect(), joined: true }
    }

    fn dots(scene: &Scene) -> Vec<(f64, f64)> {
        let legend = scene.width - 60.0;
        let dot = |mark: &Mark| match mark {
            Mark::Dot { at, .. } if at.0 < legend => Some(*at),
            _ => None,
        };
        scene.marks.iter().filter_map(dot).collect()
    }

    #[test]
    fn powers_lie_on_a_straight_line_of_logarithmic_axes() {
        let scene = draw(&[series(&[(1.0, 1.0), (10.0, 100.0), (100.0, 1e4)])], "t", "x", "y");
        let [a, b, c] = dots(&scene)[..] else { panic!("{:?}", dots(&scene)) };
        assert!((b.0 - (a.0 + c.0) / 2.0).abs() < 1e-6 && (b.1 - (a.1 + c.1) / 2.0).abs() < 1e-6);
        assert!(a.0 < c.0 && a.1 > c.1);
    }

    #[test]
    fn nothing_finite_is_drawn_as_such() {
        let scene = draw(&[series(&[(f64::NAN, 1.0), (1.0, f64::INFINITY)])], "t", "x", "y");
        assert!(scene.marks.iter().any(|m| matches!(m, Mark::Text { text, .. } if text == "no finite values")));
        assert!(scene.width.is_finite() && scene.height.is_finite());
    }
}
