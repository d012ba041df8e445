//! The attempts of a run along the clock.

use super::font;
use super::scene::{Anchor, Colour, FAINT, GRID, Mark, Scene};
use crate::cli::analyse::attempts::{Attempt, State};
use crate::cli::analyse::number;

const LENGTH: f64 = 520.0;
const ROW: f64 = 22.0;

fn colour(state: State) -> Colour {
    match state {
        State::Complete => [46, 139, 87],
        State::Stopped => [214, 158, 46],
        State::Failed | State::Interrupted => [192, 57, 43],
        State::Running | State::New => [31, 98, 172],
    }
}

/// One bar per attempt, from its start to its end; what lies between is waiting.
pub fn draw(attempts: &[Attempt]) -> Scene {
    let mut scene = Scene::new();
    let time = |text: &str| text.parse::<jiff::Timestamp>().map_or(f64::NAN, |t| t.as_microsecond() as f64 * 1e-6);
    let begin = attempts.iter().map(|a| time(&a.started)).fold(f64::NAN, f64::min);
    let end = attempts.iter().map(|a| time(&a.last_seen)).fold(f64::NAN, f64::max);
    let span = (end - begin).max(1e-3);
    let (left, length) = (40.0, LENGTH);
    for (k, a) in attempts.iter().enumerate() {
        let y = 14.0 + ROW * k as f64;
        let place = |t: f64| left + length * ((t - begin) / span).clamp(0.0, 1.0);
        let (from, to) = (place(time(&a.started)), place(time(&a.last_seen)));
        scene.line((left, y), (left + length, y), 1.0, GRID);
        scene.line((from, y), (to.max(from + 1.0), y), 10.0, colour(a.state));
        scene.text((left - 14.0, y + 4.0), Anchor::End, 12.0, a.epoch.to_string());
        let said =
            format!("steps {} – {}, {}, {}", a.first_step, a.last_step, number::seconds(a.seconds), a.state.word());
        scene.width = scene.width.max(left + length + 14.0 + 1.1 * font::width(&said, 12.0));
        scene.text((left + length + 14.0, y + 4.0), Anchor::Start, 12.0, said);
    }
    let y = 14.0 + ROW * attempts.len() as f64 + 4.0;
    let clock = |a: Option<&Attempt>, time: fn(&Attempt) -> &str| a.map_or(String::new(), |a| number::moment(time(a)));
    let ends = [
        (left, Anchor::Start, clock(attempts.first(), |a| &a.started)),
        (left + length, Anchor::End, clock(attempts.last(), |a| &a.last_seen)),
    ];
    for (x, anchor, text) in ends {
        scene.marks.push(Mark::Text { at: (x, y), anchor, size: 11.0, upright: false, colour: FAINT, text });
    }
    scene.height = y + 8.0;
    scene
}
