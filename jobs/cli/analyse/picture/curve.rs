//! Values along one axis.

use super::axis::{Panel, Scale};
use super::scene::{Anchor, BLUE, Mark, Scene};

/// Width and height of the part with the curve.
const SIZE: (f64, f64) = (430.0, 210.0);
/// Up to so many points are marked one by one.
const MARKED: usize = 40;

/// Draws `points`; values that are no number leave a gap. All positive and over more than two
/// decades, they get a logarithmic axis.
pub fn draw(points: &[(f64, f64)], title: &str, x_label: &str, y_label: &str) -> Scene {
    let mut scene = Scene::new();
    let finite = || points.iter().filter(|p| p.1.is_finite());
    let (low, high) = finite().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), p| (l.min(p.1), h.max(p.1)));
    let scale = if low > 0.0 && high > 100.0 * low { Scale::Log } else { Scale::Linear };
    let x = points.first().zip(points.last()).map_or((0.0, 1.0), |(a, b)| (a.0, b.0));
    let mut panel = Panel {
        at: (0.0, 44.0),
        size: SIZE,
        x: widen(x, 0.0),
        y: room(low, high, scale),
        scales: (Scale::Linear, scale),
    };
    panel.at.0 = (12.0 + panel.left()).round();
    panel.grid(&mut scene);
    panel.axes(&mut scene, x_label, y_label);
    for run in points.split(|p| !p.1.is_finite()).filter(|run| !run.is_empty()) {
        let placed: Vec<(f64, f64)> = run.iter().map(|p| panel.place(p.0, p.1)).collect();
        if points.len() <= MARKED || placed.len() == 1 {
            scene.marks.extend(placed.iter().map(|&at| Mark::Dot { at, radius: 2.5, colour: BLUE }));
        }
        scene.marks.push(Mark::Line { points: placed, width: 1.6, colour: BLUE });
    }
    if finite().next().is_none() {
        scene.aside((panel.at.0 + SIZE.0 / 2.0, panel.at.1 + SIZE.1 / 2.0), Anchor::Middle, 13.0, "no finite values");
    }
    scene.text((16.0, 26.0), Anchor::Start, 15.0, title);
    scene.width = panel.at.0 + SIZE.0 + 24.0;
    scene.height = panel.at.1 + SIZE.1 + 44.0;
    scene
}

/// An interval of some length.
pub(super) fn widen((low, high): (f64, f64), share: f64) -> (f64, f64) {
    if low < high {
        let more = share * (high - low);
        return (low - more, high + more);
    }
    let half = if low == 0.0 { 1.0 } else { low.abs() * 0.1 };
    (low - half, high + half)
}

/// The values' interval with some room above and below.
pub(super) fn room(low: f64, high: f64, scale: Scale) -> (f64, f64) {
    if low > high || low.is_nan() || high.is_nan() {
        return (0.0, 1.0);
    }
    match scale {
        Scale::Linear => widen((low, high), 0.06),
        Scale::Log => {
            let more = (high / low).powf(0.06);
            (low / more, high * more)
        }
    }
}
