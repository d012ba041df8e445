//! Pictures of results: three planes of a volume, an image, a curve.

mod animation;
mod axis;
pub mod colour;
mod curve;
mod font;
mod raster;
pub mod scene;
mod series;
mod slices;
mod svg;
pub mod terminal;
mod timeline;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use convoke_cluster::{Error, JobError};
use convoke_data::DataError;

use super::array::{Array, with_unit};
use super::scan::{Plane, Thinned, Wanted};
pub use animation::animate;
use colour::ColourMap;
pub use raster::png;
use scene::Scene;
pub use series::{Dot, MOST as MOST_SERIES, Series, draw as draw_series};
pub use slices::Colours;
pub use svg::svg;
pub use timeline::draw as timeline;

/// How the user wants to see it.
#[derive(Debug, Clone, Default)]
pub struct Look {
    /// Colour map; gray for volumes and viridis for images if absent.
    pub map: Option<ColourMap>,
    /// Values at the ends of the colours.
    pub range: Option<(f64, f64)>,
    /// Indices at which axes are cut.
    pub slices: Vec<(String, usize)>,
}

/// What a picture shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Planes: pixels.
    Slices,
    /// A curve: lines.
    Curve,
}

/// A picture of one array or column.
#[derive(Debug, Clone)]
pub struct Picture {
    /// Name of its file, without ending.
    pub name: String,
    /// What it shows.
    pub kind: Kind,
    /// What is drawn.
    pub scene: Scene,
}

impl Look {
    /// Whether the slices exist.
    ///
    /// # Errors
    /// A command-line error that names the axes.
    pub fn check(&self, arrays: &[Array]) -> Result<(), Error> {
        for (name, index) in &self.slices {
            let axes = || arrays.iter().flat_map(|a| &a.axes);
            let Some(axis) = axes().find(|a| a.name == *name) else {
                let mut known: Vec<&str> = axes().map(|a| a.name.as_str()).collect();
                known.sort_unstable();
                known.dedup();
                let help = format!("the axes are: {}", known.join(", "));
                return Err(
                    JobError::command_line(format!("--slice {name}={index}: no axis has this name"), help).into()
                );
            };
            if let Some(short) = axes().find(|a| a.name == *name && a.n <= *index) {
                let help = format!("{} has {} samples: 0 to {}", axis.name, short.n, short.n.saturating_sub(1));
                return Err(JobError::command_line(
                    format!("--slice {name}={index}: beyond the end of the axis"),
                    help,
                )
                .into());
            }
        }
        Ok(())
    }

    /// What a pass over `array` must collect for its picture.
    pub fn wanted(&self, array: &Array) -> Wanted {
        let running = running(array);
        match running[..] {
            [] => Wanted::Statistics,
            [_] => Wanted::Curve(Thinned::new(array.shape.iter().product())),
            [rows, cols] => Wanted::Planes(vec![Plane::new(&array.shape, rows, cols, self.cut(array, &running))]),
            [.., a, b, c] => {
                let at = self.cut(array, &[a, b, c]);
                Wanted::Planes(
                    [(b, c), (a, c), (a, b)].map(|(r, k)| Plane::new(&array.shape, r, k, at.clone())).to_vec(),
                )
            }
        }
    }

    /// Index on each axis: as asked, else the middle of the axes that run, the end of the others
    /// (the last moment of a series in time).
    fn cut(&self, array: &Array, running: &[usize]) -> Vec<usize> {
        let asked = |name: &str| self.slices.iter().rev().find(|(n, _)| n == name).map(|(_, index)| *index);
        let usual = |k: usize, n: usize| if running.contains(&k) { n / 2 } else { n.saturating_sub(1) };
        array.axes.iter().enumerate().map(|(k, axis)| asked(&axis.name).unwrap_or(usual(k, axis.n))).collect()
    }
}

/// The axes with more than one sample.
fn running(array: &Array) -> Vec<usize> {
    if array.shape.contains(&0) {
        return Vec::new();
    }
    (0..array.shape.len()).filter(|&k| array.shape[k] > 1).collect()
}

/// The picture of an array, from what a pass has collected.
pub fn draw_array(array: &Array, wanted: &Wanted, look: &Look) -> Option<Picture> {
    let title =
        if array.long_name.is_empty() { array.name.clone() } else { format!("{} ({})", array.long_name, array.name) };
    let (kind, scene) = match wanted {
        Wanted::Statistics => return None,
        Wanted::Planes(planes) => {
            let usual = if planes.len() > 1 { ColourMap::Gray } else { ColourMap::Viridis };
            let colours = Colours { map: look.map.unwrap_or(usual), range: look.range };
            (Kind::Slices, slices::draw(array, planes, colours, &title, &array.dimensions()))
        }
        Wanted::Curve(curve) => {
            let axis = array.axes.iter().find(|a| a.n > 1)?;
            let points: Vec<(f64, f64)> = curve.points.iter().map(|p| (axis.at(p.0), p.1)).collect();
            let x = if axis.name.starts_with("axis") { "index".to_owned() } else { axis.label() };
            let y = with_unit("", &array.unit);
            (Kind::Curve, curve::draw(&points, &title, &x, y.trim()))
        }
    };
    Some(Picture { name: file_name(&array.name), kind, scene })
}

/// The picture of `a − b`, through the place where they differ most.
pub fn draw_difference(array: &Array, planes: &[Plane], look: &Look, note: &str) -> Picture {
    let colours = Colours { map: look.map.unwrap_or(ColourMap::Diverging), range: look.range };
    let title = format!("Difference of {}", array.title());
    Picture {
        name: format!("diff-{}", file_name(&array.name)),
        kind: Kind::Slices,
        scene: slices::draw(array, planes, colours, &title, note),
    }
}

/// The picture of a column of the history.
pub fn draw_column(name: &str, values: &[f64]) -> Picture {
    let points: Vec<(f64, f64)> = Thinned::of(values).points.iter().map(|p| (p.0 + 1.0, p.1)).collect();
    let scene = curve::draw(&points, name, "step", "");
    Picture { name: format!("history-{}", file_name(name)), kind: Kind::Curve, scene }
}

/// A name that is good on every file system.
pub fn file_name(name: &str) -> String {
    let good = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    let name: String = name.trim_start_matches('/').chars().map(good).collect();
    let name: String = name.trim_start_matches('.').chars().take(100).collect();
    if name.is_empty() { "array".to_owned() } else { name }
}

/// A format of pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// Pixels.
    Png,
    /// Lines and text as such; planes are pixels within.
    Svg,
}

/// Writes pictures into `folder`, which is made if it is missing; returns their paths.
///
/// # Errors
/// The folder cannot be written, or holds other files of these names.
pub fn save(pictures: &[Picture], folder: &Path, kind: FileKind) -> Result<Vec<PathBuf>, Error> {
    if pictures.is_empty() {
        return Ok(Vec::new());
    }
    std::fs::create_dir_all(folder).map_err(|source| DataError::from_io(folder, "make the folder", source))?;
    let mut used = HashSet::new();
    let mut paths = Vec::new();
    for picture in pictures {
        let numbered = (1..).map(|k| if k == 1 { picture.name.clone() } else { format!("{}-{k}", picture.name) });
        let name = numbered.into_iter().find(|n| used.insert(n.clone())).expect("numbers do not end");
        let path = match kind {
            FileKind::Png => folder.join(format!("{name}.png")),
            FileKind::Svg => folder.join(format!("{name}.svg")),
        };
        match kind {
            FileKind::Png => raster::save(&picture.scene, &path)?,
            FileKind::Svg => svg::save(&picture.scene, &picture.name, &path)?,
        }
        paths.push(path);
    }
    Ok(paths)
}
