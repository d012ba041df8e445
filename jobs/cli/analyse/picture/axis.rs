//! Ticks at round numbers, and the frame around a picture.

use super::font;
use super::scene::{Anchor, GRID, INK, Scene};

/// Size of the tick labels.
pub const SMALL: f64 = 11.0;

/// How values become positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// In proportion.
    Linear,
    /// By decades.
    Log,
}

/// A tick: a value and its label; an empty label marks a minor one.
#[derive(Debug, Clone, PartialEq)]
pub struct Tick {
    /// The value.
    pub value: f64,
    /// What is written beside it.
    pub label: String,
}

/// Ticks of one axis, and the power of ten that their labels leave out.
#[derive(Debug, Clone, PartialEq)]
pub struct Ticks {
    /// The ticks.
    pub ticks: Vec<Tick>,
    /// `label × 10^exponent` is the value.
    pub exponent: i32,
}

impl Ticks {
    /// The label of the whole axis, with the power of ten.
    pub fn name(&self, name: &str) -> String {
        match (self.exponent, name.is_empty()) {
            (0, _) => name.to_owned(),
            (e, true) => format!("× {}", power(e)),
            (e, false) => format!("{name} × {}", power(e)),
        }
    }

    /// Width of the widest label.
    pub fn width(&self) -> f64 {
        self.ticks.iter().map(|t| font::width(&t.label, SMALL)).fold(0.0, f64::max)
    }
}

/// `10⁻³`.
pub fn power(exponent: i32) -> String {
    let digits = ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'];
    let raised =
        exponent.to_string().chars().map(|c| c.to_digit(10).map_or('⁻', |d| digits[d as usize])).collect::<String>();
    format!("10{raised}")
}

/// At most about `most` ticks between `low` and `high`, at multiples of 1, 2 or 5 · 10ⁿ.
pub fn linear(low: f64, high: f64, most: usize) -> Ticks {
    let span = (high - low).abs();
    if !(span.is_finite() && span > 0.0) {
        return Ticks { ticks: vec![Tick { value: low, label: format!("{low}") }], exponent: 0 };
    }
    let raw = span / most.max(1) as f64;
    let base = 10f64.powf(raw.log10().floor());
    let between = |step: f64| ((low.min(high) / step - 1e-6).ceil(), (low.max(high) / step + 1e-6).floor());
    let round = [10.0, 5.0, 2.0, 1.0, 0.5, 0.2, 0.1].map(|m| m * base);
    let wide = round.iter().rposition(|&s| s >= raw * 0.999).unwrap_or(0);
    // One tick alone shows no scale: then the next smaller step.
    let step = round[wide..].iter().copied().find(|&s| between(s).1 > between(s).0).unwrap_or(round[wide]);
    let largest = low.abs().max(high.abs());
    let exponent = if (1e-2..1e5).contains(&largest) { 0 } else { 3 * (largest.log10() / 3.0).floor() as i32 };
    let unit = 10f64.powi(exponent);
    let decimals = (-(step / unit).log10().floor()).clamp(0.0, 12.0) as usize;
    let (first, last) = between(step);
    let ticks = (0..=(last - first).max(0.0) as usize).map(|k| {
        let value = (first + k as f64) * step;
        // A typographic minus; -0.0 is no label.
        let text = format!("{:.decimals$}", (value / unit).abs());
        let negative = value < 0.0 && text.chars().any(|c| ('1'..='9').contains(&c));
        Tick { value, label: if negative { format!("−{text}") } else { text } }
    });
    Ticks { ticks: ticks.collect(), exponent }
}

/// Whole decades from `low` to `high` (both > 0), labelled so that about `most` labels remain, with minor ticks
/// where there is room.
pub fn decades(low: f64, high: f64, most: usize) -> Ticks {
    let (first, last) = (low.log10().floor() as i32, high.log10().ceil() as i32);
    let stride = (last - first).unsigned_abs().div_ceil(most.max(1) as u32).max(1);
    let mut ticks = Vec::new();
    for e in first..=last {
        let label = if ((e - first) as u32).is_multiple_of(stride) { power(e) } else { String::new() };
        ticks.push(Tick { value: 10f64.powi(e), label });
        let minor = (2..10).map(|m| Tick { value: f64::from(m) * 10f64.powi(e), label: String::new() });
        ticks.extend(minor.filter(|_| last - first <= 6));
    }
    ticks.retain(|t| t.value >= low * 0.999 && t.value <= high * 1.001);
    Ticks { ticks, exponent: 0 }
}

fn ticks((low, high): (f64, f64), most: usize, scale: Scale) -> Ticks {
    match scale {
        Scale::Linear => linear(low, high, most),
        Scale::Log => decades(low, high, most),
    }
}

/// A rectangle with an axis below and one on its left.
#[derive(Debug, Clone)]
pub struct Panel {
    /// Top left corner.
    pub at: (f64, f64),
    /// Width and height.
    pub size: (f64, f64),
    /// Values at the left and right edge.
    pub x: (f64, f64),
    /// Values at the lower and upper edge.
    pub y: (f64, f64),
    /// Scales of the horizontal and the vertical axis.
    pub scales: (Scale, Scale),
}

impl Panel {
    /// Position of a point.
    pub fn place(&self, x: f64, y: f64) -> (f64, f64) {
        let part = |v: f64, (low, high): (f64, f64), scale: Scale| match scale {
            Scale::Linear => (v - low) / (high - low),
            Scale::Log => (v / low).ln() / (high / low).ln(),
        };
        let (right, up) = (part(x, self.x, self.scales.0), part(y, self.y, self.scales.1));
        (self.at.0 + right * self.size.0, self.at.1 + (1.0 - up) * self.size.1)
    }

    /// Ticks for the horizontal axis, as many as have room.
    pub fn x_ticks(&self) -> Ticks {
        let most = (self.size.0 / 48.0).clamp(1.0, 10.0) as usize;
        ticks(self.x, most, self.scales.0)
    }

    /// Ticks for the vertical axis.
    pub fn y_ticks(&self) -> Ticks {
        let most = (self.size.1 / 36.0).clamp(1.0, 8.0) as usize;
        ticks(self.y, most, self.scales.1)
    }

    /// Room that the vertical axis needs on the left.
    pub fn left(&self) -> f64 {
        self.y_ticks().width() + 8.0 + 20.0
    }

    /// Draws lines at the ticks, to lie behind a curve.
    pub fn grid(&self, scene: &mut Scene) {
        for tick in self.x_ticks().ticks {
            let x = self.place(tick.value, self.y.0).0;
            scene.line((x, self.at.1), (x, self.at.1 + self.size.1), 1.0, GRID);
        }
        for tick in self.y_ticks().ticks.iter().filter(|t| !t.label.is_empty()) {
            let y = self.place(self.x.0, tick.value).1;
            scene.line((self.at.0, y), (self.at.0 + self.size.0, y), 1.0, GRID);
        }
    }

    /// Draws frame, ticks and labels.
    pub fn axes(&self, scene: &mut Scene, x_label: &str, y_label: &str) {
        let (left, bottom) = (self.at.0, self.at.1 + self.size.1);
        scene.frame(self.at, self.size);
        let ticks = self.x_ticks();
        for tick in &ticks.ticks {
            let x = self.place(tick.value, self.y.0).0;
            scene.line((x, bottom), (x, bottom + 4.0), 1.0, INK);
            scene.text((x, bottom + 16.0), Anchor::Middle, SMALL, tick.label.as_str());
        }
        scene.text((left + self.size.0 / 2.0, bottom + 32.0), Anchor::Middle, SMALL, ticks.name(x_label));
        let ticks = self.y_ticks();
        for tick in &ticks.ticks {
            let y = self.place(self.x.0, tick.value).1;
            let length = if tick.label.is_empty() { 2.5 } else { 4.0 };
            scene.line((left - length, y), (left, y), 1.0, INK);
            scene.text((left - 7.0, y + 4.0), Anchor::End, SMALL, tick.label.as_str());
        }
        let across = left - ticks.width() - 15.0;
        scene.upright((across, self.at.1 + self.size.1 / 2.0), SMALL, ticks.name(y_label));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(ticks: &Ticks) -> Vec<&str> {
        ticks.ticks.iter().map(|t| t.label.as_str()).collect()
    }

    #[test]
    fn ticks_are_round_numbers() {
        assert_eq!(labels(&linear(-64.0, 64.0, 6)), ["−50", "0", "50"]);
        assert_eq!(labels(&linear(0.0, 1.0, 5)), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        let small = linear(-0.001, 0.004, 6);
        assert_eq!((labels(&small), small.exponent), (vec!["−1", "0", "1", "2", "3", "4"], -3));
        assert_eq!(labels(&linear(-0.1, 4.9, 1)), ["0", "2", "4"]);
        assert_eq!(labels(&linear(0.0, 2e6, 4)), ["0.0", "0.5", "1.0", "1.5", "2.0"]);
    }

    #[test]
    fn decades_are_labelled_as_powers() {
        let ticks = decades(1e-4, 1.0, 8);
        let major: Vec<&str> = labels(&ticks).into_iter().filter(|l| !l.is_empty()).collect();
        assert_eq!(major, ["10⁻⁴", "10⁻³", "10⁻²", "10⁻¹", "10⁰"]);
    }
}
