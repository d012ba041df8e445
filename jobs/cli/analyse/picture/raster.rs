//! Scenes as PNG files.

use std::path::{Path, PathBuf};

use convoke_cluster::Error;
use convoke_data::DataError;
use convoke_data::store::write_atomic;
use plotters::backend::{BitMapBackend, DrawingBackend};

use super::font;
use super::scene::{Anchor, Colour, Mark, Scene};

/// Pixels per unit.
pub const SCALE: usize = 2;
/// What our own PNG files carry; only such a file is replaced.
const MARK: &[u8] = b"Software\0convoke";

/// A picture as pixels, row-major.
pub struct Canvas {
    /// Pixels along x.
    pub width: i32,
    /// Pixels along y.
    pub height: i32,
    /// Their colours.
    pub data: Vec<Colour>,
}

impl Canvas {
    fn white(width: i32, height: i32) -> Self {
        Self { width, height, data: vec![[255; 3]; (width * height) as usize] }
    }

    /// On white of another size, from the top left; what is beyond it is lost.
    pub fn within(&self, width: i32, height: i32) -> Self {
        let mut all = Self::white(width, height);
        all.put(self, 0);
        all
    }

    /// Pictures beside each other.
    pub fn beside(pictures: &[Self]) -> Self {
        let height = pictures.iter().map(|picture| picture.height).max().unwrap_or(0);
        let mut all = Self::white(pictures.iter().map(|picture| picture.width).sum(), height);
        let mut left = 0;
        for picture in pictures {
            all.put(picture, left);
            left += picture.width;
        }
        all
    }

    fn put(&mut self, picture: &Self, left: i32) {
        for y in 0..picture.height {
            for x in 0..picture.width {
                self.blend(left + x, y, picture.data[(y * picture.width + x) as usize], 1.0);
            }
        }
    }

    fn blend(&mut self, x: i32, y: i32, colour: Colour, coverage: f64) {
        if x < 0 || y < 0 || x >= self.width || y >= self.height {
            return;
        }
        let pixel = &mut self.data[y as usize * self.width as usize + x as usize];
        for (p, c) in pixel.iter_mut().zip(colour) {
            *p = (f64::from(*p) + (f64::from(c) - f64::from(*p)) * coverage.clamp(0.0, 1.0)).round() as u8;
        }
    }

    fn mark(&mut self, mark: &Mark) {
        let scale = SCALE as f64;
        match mark {
            Mark::Line { points, width, colour } => {
                let points: Vec<(f64, f64)> = points.iter().map(|p| (p.0 * scale, p.1 * scale)).collect();
                self.line(&points, width * scale, *colour);
            }
            Mark::Dot { at, radius, colour } => {
                let at = (at.0 * scale, at.1 * scale);
                self.line(&[at, at], 2.0 * radius * scale, *colour);
            }
            Mark::Text { at, anchor, size, upright, colour, text } => {
                let size = size * scale;
                let back = match anchor {
                    Anchor::Start => 0.0,
                    Anchor::Middle => font::width(text, size) / 2.0,
                    Anchor::End => font::width(text, size),
                };
                let (x0, y0) = (at.0 * scale, at.1 * scale);
                font::draw(text, size, |x, y, coverage| {
                    let along = (f64::from(x) - back).round() as i32;
                    let (x, y) = if *upright { (y, -along) } else { (along, y) };
                    self.blend(x + x0.round() as i32, y + y0.round() as i32, *colour, f64::from(coverage));
                });
            }
            Mark::Image { at, pixels } => {
                let (x0, y0) = ((at.0 * scale).round() as i32, (at.1 * scale).round() as i32);
                for (k, &colour) in pixels.data.iter().enumerate() {
                    let (x, y) = (k % pixels.width, k / pixels.width);
                    self.blend(x0 + x as i32, y0 + y as i32, colour, 1.0);
                }
            }
        }
    }

    /// A line with round ends and joins: each pixel's coverage follows from its distance.
    fn line(&mut self, points: &[(f64, f64)], width: f64, colour: Colour) {
        let reach = width / 2.0 + 1.0;
        let mut covered: std::collections::HashMap<(i32, i32), f64> = std::collections::HashMap::new();
        for pair in points.windows(2) {
            let ((ax, ay), (bx, by)) = (pair[0], pair[1]);
            let (dx, dy) = (bx - ax, by - ay);
            let length2 = (dx * dx + dy * dy).max(1e-12);
            let rows = (ay.min(by) - reach).max(0.0) as i32..=(ay.max(by) + reach).min(f64::from(self.height)) as i32;
            for y in rows {
                // The part of the segment that comes near this row bounds the columns.
                let near = |offset: f64| ax + dx * (((f64::from(y) + 0.5 + offset - ay) / dy).clamp(0.0, 1.0));
                let (p, q) = if dy.abs() < 1e-9 { (ax, bx) } else { (near(-reach), near(reach)) };
                for x in (p.min(q) - reach) as i32..=(p.max(q) + reach) as i32 {
                    let (px, py) = (f64::from(x) + 0.5 - ax, f64::from(y) + 0.5 - ay);
                    let t = ((px * dx + py * dy) / length2).clamp(0.0, 1.0);
                    let distance = (px - t * dx).hypot(py - t * dy);
                    let coverage = (width / 2.0 + 0.5 - distance).clamp(0.0, 1.0);
                    if coverage > 0.0 {
                        let most = covered.entry((x, y)).or_insert(0.0);
                        *most = most.max(coverage);
                    }
                }
            }
        }
        for ((x, y), coverage) in covered {
            self.blend(x, y, colour, coverage);
        }
    }
}

/// Draws a scene.
pub fn draw(scene: &Scene) -> Canvas {
    let size = |length: f64| (length * SCALE as f64).ceil() as i32;
    let (width, height) = (size(scene.width), size(scene.height));
    let mut canvas = Canvas::white(width, height);
    scene.marks.iter().for_each(|mark| canvas.mark(mark));
    canvas
}

/// Encodes a scene; plotters' encoder writes files only, so a draft in `folder` comes and goes.
///
/// # Errors
/// `folder` cannot be written.
pub fn png(scene: &Scene, folder: &Path) -> Result<Vec<u8>, Error> {
    let canvas = draw(scene);
    let draft = Draft(folder.join(format!(".picture-{}.png", std::process::id())));
    let failed = |source| DataError::from_io(&draft.0, "write a picture", source);
    // The encoder's own error is a text; this one says whether the folder is the reason.
    std::fs::File::create(&draft.0).map_err(failed)?;
    let mut backend = BitMapBackend::new(&draft.0, (canvas.width as u32, canvas.height as u32));
    let bytes: Vec<u8> = canvas.data.iter().flatten().copied().collect();
    let drawn = backend.blit_bitmap((0, 0), (canvas.width as u32, canvas.height as u32), &bytes);
    drawn.and_then(|()| backend.present()).map_err(|e| failed(std::io::Error::other(e.to_string())))?;
    let png = std::fs::read(&draft.0).map_err(failed)?;
    Ok(signed(&png))
}

/// Removed when dropped.
struct Draft(PathBuf);

impl Drop for Draft {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Adds our mark behind the header: a `tEXt` chunk (PNG specification, 11.3.4.3).
fn signed(png: &[u8]) -> Vec<u8> {
    let header = png.len().min(33); // signature 8, IHDR 25
    let text = [b"tEXt", MARK, b" ", env!("CARGO_PKG_VERSION").as_bytes()].concat();
    let length = ((text.len() - 4) as u32).to_be_bytes();
    [&png[..header], &length, &text, &crc(&text).to_be_bytes(), &png[header..]].concat()
}

/// CRC-32 of a chunk (PNG specification, annex D).
fn crc(bytes: &[u8]) -> u32 {
    let step = |c: u32, _| if c & 1 == 1 { 0xedb8_8320 ^ (c >> 1) } else { c >> 1 };
    !bytes.iter().fold(u32::MAX, |c, &b| (0..8).fold(c ^ u32::from(b), step))
}

/// Writes a picture; an older one of ours is replaced, any other file is not.
///
/// # Errors
/// [`DataError::Exists`] for a file that is not ours; the folder cannot be written.
pub fn save(scene: &Scene, path: &Path) -> Result<(), Error> {
    let folder = path.parent().unwrap_or(Path::new("."));
    if let Ok(old) = std::fs::read(path)
        && !old.windows(MARK.len()).take(200).any(|part| part == MARK)
    {
        return Err(DataError::Exists { path: path.to_owned() }.into());
    }
    Ok(write_atomic(path, &png(scene, folder)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc_of_the_end_chunk_is_the_known_one() {
        assert_eq!(crc(b"IEND"), 0xae42_6082);
    }

    #[test]
    fn lines_and_text_leave_ink_where_they_should() {
        let mut scene = Scene { width: 60.0, height: 30.0, marks: Vec::new() };
        scene.line((5.0, 25.0), (55.0, 25.0), 2.0, [255, 0, 0]);
        scene.text((30.0, 15.0), Anchor::Middle, 10.0, "HH");
        let canvas = draw(&scene);
        let at = |x: usize, y: usize| canvas.data[y * 120 + x];
        assert_eq!((at(60, 50), at(60, 40), at(2, 50)), ([255, 0, 0], [255; 3], [255; 3]));
        let ink: Vec<usize> = (0..120 * 36).filter(|&k| canvas.data[k][0] < 100).collect();
        assert!(ink.iter().all(|k| (40..80).contains(&(k % 120)) && (14..31).contains(&(k / 120))));
        assert!(ink.len() > 60);
    }
}
