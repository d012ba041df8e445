//! A picture as a list of marks, in units of 1/96 inch, the origin at the top left. It is drawn as
//! PNG by [`super::raster`] or as SVG by [`super::svg`].

/// Red, green, blue.
pub type Colour = [u8; 3];

/// Text and lines.
pub const INK: Colour = [34, 34, 34];
/// What is said in passing.
pub const FAINT: Colour = [115, 115, 115];
/// Lines that guide the eye.
pub const GRID: Colour = [232, 232, 232];
/// The curve.
pub const BLUE: Colour = [31, 98, 172];

/// Which point of a text lies at its position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchor {
    /// Left end of the baseline.
    Start,
    /// Middle of the baseline.
    Middle,
    /// Right end of the baseline.
    End,
}

/// Pixels of an image, two to a unit, so that pictures are sharp on a fine screen and in print.
#[derive(Debug, Clone)]
pub struct Pixels {
    /// Pixels along x.
    pub width: usize,
    /// Row-major from the top left.
    pub data: Vec<Colour>,
}

/// One thing that is drawn.
#[derive(Debug, Clone)]
pub enum Mark {
    /// A line through points.
    Line {
        /// Its points.
        points: Vec<(f64, f64)>,
        /// Its width.
        width: f64,
        /// Its colour.
        colour: Colour,
    },
    /// A dot.
    Dot {
        /// Its centre.
        at: (f64, f64),
        /// Its radius.
        radius: f64,
        /// Its colour.
        colour: Colour,
    },
    /// A line of text.
    Text {
        /// Where its anchor lies.
        at: (f64, f64),
        /// Which point that is.
        anchor: Anchor,
        /// Size of the font.
        size: f64,
        /// Whether it runs upwards.
        upright: bool,
        /// Its colour.
        colour: Colour,
        /// What it says.
        text: String,
    },
    /// An image, its top left corner at `at`.
    Image {
        /// Where.
        at: (f64, f64),
        /// Its pixels.
        pixels: Pixels,
    },
}

/// A picture.
#[derive(Debug, Clone)]
pub struct Scene {
    /// Width.
    pub width: f64,
    /// Height.
    pub height: f64,
    /// What is drawn, in this order.
    pub marks: Vec<Mark>,
}

impl Scene {
    /// An empty picture.
    pub fn new() -> Self {
        Self { width: 0.0, height: 0.0, marks: Vec::new() }
    }

    /// Adds a straight line.
    pub fn line(&mut self, from: (f64, f64), to: (f64, f64), width: f64, colour: Colour) {
        self.marks.push(Mark::Line { points: vec![from, to], width, colour });
    }

    /// Adds the outline of a box.
    pub fn frame(&mut self, (x, y): (f64, f64), (w, h): (f64, f64)) {
        let points = vec![(x, y), (x + w, y), (x + w, y + h), (x, y + h), (x, y)];
        self.marks.push(Mark::Line { points, width: 1.0, colour: INK });
    }

    /// Adds text in the usual ink.
    pub fn text(&mut self, at: (f64, f64), anchor: Anchor, size: f64, text: impl Into<String>) {
        self.marks.push(Mark::Text { at, anchor, size, upright: false, colour: INK, text: text.into() });
    }

    /// Adds text that steps back.
    pub fn aside(&mut self, at: (f64, f64), anchor: Anchor, size: f64, text: impl Into<String>) {
        self.marks.push(Mark::Text { at, anchor, size, upright: false, colour: FAINT, text: text.into() });
    }

    /// Adds text that runs upwards, its middle at `at`.
    pub fn upright(&mut self, at: (f64, f64), size: f64, text: impl Into<String>) {
        self.marks.push(Mark::Text { at, anchor: Anchor::Middle, size, upright: true, colour: INK, text: text.into() });
    }
}
