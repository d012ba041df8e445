//! Scenes as SVG inside an HTML page. Text stays text; maud escapes it.

use maud::{Markup, html};

use super::scene::{Anchor, Colour, Mark, Scene};

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
