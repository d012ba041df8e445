//! Scenes as SVG, inside an HTML page or as a file. Text stays text; maud escapes it.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use convoke_cluster::Error;
use convoke_data::DataError;
use convoke_data::store::write_atomic;
use maud::{Markup, html};

use super::raster::{self, SCALE};
use super::scene::{Anchor, Colour, Mark, Pixels, Scene};

/// What our own SVG files carry; only such a file is replaced.
const MARK: &str = "<!-- convoke -->";

fn rgb([r, g, b]: Colour) -> String {
    format!("#{r:02x}{g:02x}{b:02x}")
}

/// Draws a scene; images are left out, they belong into a PNG.
pub fn svg(scene: &Scene, label: &str) -> Markup {
    let size = format!("0 0 {:.0} {:.0}", scene.width, scene.height);
    html! {
        svg viewBox=(size) width=(format!("{:.0}", scene.width)) role="img" aria-label=(label) {
            @for mark in &scene.marks { (draw(mark)) }
        }
    }
}

/// Writes a scene with its images; an older picture of ours is replaced, any other file is not.
///
/// # Errors
/// [`DataError::Exists`] for a file that is not ours; the folder cannot be written.
pub fn save(scene: &Scene, label: &str, path: &Path) -> Result<(), Error> {
    if let Ok(old) = std::fs::read_to_string(path)
        && !old.starts_with(MARK)
    {
        return Err(DataError::Exists { path: path.to_owned() }.into());
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut marks = Vec::new();
    for mark in &scene.marks {
        marks.push(match mark {
            Mark::Image { at, pixels } => image(*at, pixels, folder)?,
            other => draw(other),
        });
    }
    let (width, height) = (format!("{:.0}", scene.width), format!("{:.0}", scene.height));
    let page = html! {
        svg xmlns="http://www.w3.org/2000/svg" viewBox=(format!("0 0 {width} {height}")) width=(width) height=(height)
            role="img" aria-label=(label) font-family="DejaVu Sans, Verdana, sans-serif" {
            rect width="100%" height="100%" fill="#ffffff" {}
            @for mark in &marks { (mark) }
        }
    };
    Ok(write_atomic(path, format!("{MARK}\n{}\n", page.into_string()).as_bytes())?)
}

/// Pixels as an image element: a PNG within.
fn image(at: (f64, f64), pixels: &Pixels, folder: &Path) -> Result<Markup, Error> {
    let size = |pixels: usize| pixels as f64 / SCALE as f64;
    let (width, height) = (size(pixels.width), size(pixels.data.len() / pixels.width.max(1)));
    let alone = Scene { width, height, marks: vec![Mark::Image { at: (0.0, 0.0), pixels: pixels.clone() }] };
    let data = format!("data:image/png;base64,{}", STANDARD.encode(raster::png(&alone, folder)?));
    Ok(html! {
        image x=(at.0) y=(at.1) width=(width) height=(height) href=(data) {}
    })
}

fn draw(mark: &Mark) -> Markup {
    match mark {
        Mark::Line { points, width, colour } => {
            let path: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
            html! { polyline points=(path.join(" ")) fill="none" stroke=(rgb(*colour)) stroke-width=(width) stroke-linejoin="round" {} }
        }
        Mark::Dot { at, radius, colour } => {
            html! { circle cx=(format!("{:.1}", at.0)) cy=(format!("{:.1}", at.1)) r=(radius) fill=(rgb(*colour)) {} }
        }
        Mark::Text { at, anchor, size, upright, colour, text } => {
            let anchor = match anchor {
                Anchor::Start => "start",
                Anchor::Middle => "middle",
                Anchor::End => "end",
            };
            let turn = if *upright { format!("rotate(-90 {:.1} {:.1})", at.0, at.1) } else { "rotate(0)".to_owned() };
            html! {
                text x=(format!("{:.1}", at.0)) y=(format!("{:.1}", at.1)) font-size=(size) text-anchor=(anchor)
                    fill=(rgb(*colour)) transform=(turn) { (text) }
            }
        }
        Mark::Image { .. } => html! {},
    }
}
