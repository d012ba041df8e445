//! `plot`: arrays and columns of the history in the terminal, or as PNG or SVG files.

use std::path::PathBuf;

use clap::ValueEnum;
use convoke_cluster::Error;

use super::array::{self, Array};
use super::chart;
use super::number::{printable, short};
use super::picture::colour::ColourMap;
use super::picture::terminal::{self, Terminal};
use super::picture::{self, FileKind, Look, Picture, draw_array, save};
use super::scan::{Wanted, scan};
use super::source::Source;
use crate::cli::say;

/// Where a plot goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Target {
    /// Text on standard output: in colour on a terminal, in characters elsewhere.
    Terminal,
    /// PNG files in the folder of pictures.
    Png,
    /// SVG files in the folder of pictures.
    Svg,
}

/// Plots the arrays called `names`, or all results and the history; returns the files.
///
/// # Errors
/// No such array, a slice that does not exist, a damaged file.
pub fn plot(source: &Source, names: &[String], target: Target, look: &Look) -> Result<Vec<PathBuf>, Error> {
    let file = source.result()?;
    let arrays: Vec<Array> = array::select(file, names)?.into_iter().filter(|a| a.numeric).collect();
    look.check(&arrays)?;
    let mut pictures: Vec<Picture> = Vec::new();
    for array in &arrays {
        let mut wanted = look.wanted(array);
        let stats = scan(file, &array.path, &array.shape, &mut wanted)?;
        match target {
            Target::Terminal => show(array, &wanted, look, (stats.min, stats.max)),
            Target::Png | Target::Svg => {
                pictures.extend(chart::picture(file, array)?.or_else(|| draw_array(array, &wanted, look)));
            }
        }
    }
    let kind = if target == Target::Svg { FileKind::Svg } else { FileKind::Png };
    save(&pictures, &source.pictures(), kind)
}

/// Writes the arrays called `names` as one moving picture along `axis`; returns the file.
///
/// # Errors
/// No such array or axis, a slice that does not exist, a damaged file.
pub fn animate(source: &Source, names: &[String], axis: &str, look: &Look) -> Result<PathBuf, Error> {
    let file = source.result()?;
    let arrays: Vec<Array> = array::select(file, names)?.into_iter().filter(|a| a.numeric).collect();
    look.check(&arrays)?;
    picture::animate(file, &arrays, (axis, look), &source.pictures())
}

fn show(array: &Array, wanted: &Wanted, look: &Look, (min, max): (f64, f64)) {
    let colours = say::has_colours();
    let width = std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok()).unwrap_or(80);
    let terminal = Terminal { width, colours };
    let unit = if array.unit.is_empty() || array.unit == "1" { String::new() } else { format!(" {}", array.unit) };
    say::line(&printable(&format!(
        "{} · {} · {} to {}{unit}",
        array.title(),
        array.dimensions(),
        short(min),
        short(max)
    )));
    match wanted {
        Wanted::Statistics => {}
        Wanted::Curve(curve) => {
            let axis = array.axes.iter().find(|a| a.n > 1);
            let points: Vec<(f64, f64)> =
                curve.points.iter().map(|p| (axis.map_or(p.0, |axis| axis.at(p.0)), p.1)).collect();
            terminal::curve(&points, terminal).iter().for_each(|line| say::line(line));
            say::line(&printable(&format!("  along {}", axis.map_or_else(String::new, array::Axis::label))));
        }
        Wanted::Planes(planes) => {
            let Some(plane) = planes.first() else { return };
            let usual = if planes.len() > 1 { ColourMap::Gray } else { ColourMap::Viridis };
            let (lines, (low, high)) = terminal::plane(plane, look.map.unwrap_or(usual), look.range, terminal);
            lines.iter().for_each(|line| say::line(line));
            let (up, right) = (&array.axes[plane.rows], &array.axes[plane.cols]);
            let fixed = array.axes.iter().enumerate().filter(|(k, a)| *k != plane.rows && *k != plane.cols && a.n > 1);
            let at: String = fixed
                .map(|(k, a)| format!(", {} = {} (index {})", a.name, short(a.at(plane.at[k] as f64)), plane.at[k]))
                .collect();
            say::line(&printable(&format!(
                "  {} up, {} to the right{at}; colours from {} to {}",
                up.label(),
                right.label(),
                short(low),
                short(high)
            )));
        }
    }
    say::line("");
}
