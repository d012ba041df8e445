//! Formats that know a grid in space and time: VTKHDF, The Well, PDEBench.

use std::path::Path;

use convoke_cluster::Error;
use convoke_data::DataError;
use convoke_data::formats::grid::{self, Grid, PDEBENCH_FIELD, well_field};
use convoke_data::formats::vtkhdf::{self, Image};
use convoke_data::schema;
use convoke_data::store::{Element, Layout, Reader, Writer};

use super::arrays::is_narrow;
use crate::cli::analyse::array::{Array, Axis};
use crate::cli::analyse::picture::file_name;
use crate::cli::analyse::scan::BLOCK;
use crate::cli::analyse::source::Source;

/// The axis that is time.
fn time(array: &Array) -> Option<usize> {
    array.axes.iter().position(|axis| axis.name == "t" || axis.name == "time")
}

/// The axis that counts solutions: those of a set, or those that were merged.
fn sample(array: &Array) -> Option<usize> {
    array.axes.iter().position(|axis| axis.name == "sample" || axis.name == "run")
}

/// The axes in space.
fn space(array: &Array) -> Vec<usize> {
    (0..array.shape.len()).filter(|k| ![time(array), sample(array)].contains(&Some(*k))).collect()
}

fn samples(array: &Array) -> usize {
    sample(array).map_or(1, |k| array.shape[k])
}

fn coordinates(axis: &Axis) -> Vec<f64> {
    (0..axis.n).map(|i| axis.at(i as f64)).collect()
}

fn grid_of(array: &Array) -> Grid {
    let axes = space(array).into_iter().map(|k| (array.axes[k].name.clone(), coordinates(&array.axes[k]))).collect();
    let times = time(array).map_or_else(|| vec![0.0], |k| coordinates(&array.axes[k]));
    Grid { samples: samples(array), axes, times }
}

/// Whether VTK can show it: one solution with two or three axes in space.
pub fn is_image(array: &Array) -> bool {
    matches!(space(array).len(), 2 | 3) && samples(array) == 1
}

/// Whether its axes are those of PDEBench.
pub fn is_pdebench(array: &Array) -> bool {
    let names: Vec<&str> = space(array).into_iter().map(|k| array.axes[k].name.as_str()).collect();
    !names.is_empty() && ["x", "y", "z"].starts_with(&names)
}

/// Reads an array solution by solution and time by time, in blocks along its first axis in space; `take` gets the numbers of
/// the solution and of the time, the first row, the rows, and the values.
fn by_time<T: Element>(
    file: &Reader,
    array: &Array,
    mut take: impl FnMut([usize; 2], usize, usize, &[T]) -> Result<(), Error>,
) -> Result<(), Error> {
    let (sample, time, space) = (sample(array), time(array), space(array));
    let n_times = time.map_or(1, |k| array.shape[k]);
    let rows = space.first().map_or(1, |&k| array.shape[k]);
    let row: usize = space.iter().skip(1).map(|&k| array.shape[k]).product();
    let at_once = (BLOCK / row.max(1)).clamp(1, rows);
    for (s, t) in (0..samples(array)).flat_map(|s| (0..n_times).map(move |t| (s, t))) {
        for first in (0..rows).step_by(at_once) {
            let taken = at_once.min(rows - first);
            let (mut start, mut count) = (vec![0; array.shape.len()], array.shape.clone());
            for (k, at) in [(sample, s), (time, t)] {
                if let Some(k) = k {
                    (start[k], count[k]) = (at, 1);
                }
            }
            if let Some(&k) = space.first() {
                (start[k], count[k]) = (first, taken);
            }
            // One index on these axes: what is left lies in the order of the axes in space.
            take([s, t], first, taken, &file.read_slab::<T>(&array.path, &start, &count)?)?;
        }
    }
    Ok(())
}

/// Copies an array into `dataset`, of the shape of [`Grid::shape`] less its first `skipped` axes. A
/// first axis in space of one sample is left out where the dataset has no room for it.
fn copy<T: Element>(
    file: &Reader,
    array: &Array,
    (out, dataset): (&mut Writer, &str),
    skipped: usize,
) -> Result<(), Error> {
    let sizes: Vec<usize> = space(array).iter().map(|&k| array.shape[k]).collect();
    let flat = (2 + sizes.len() - skipped).saturating_sub(out.shape(dataset)?.len());
    by_time::<T>(file, array, |at, first, rows, values| {
        let (mut start, mut count) = (at.to_vec(), vec![1, 1]);
        start.resize(2 + sizes.len(), 0);
        count.extend(&sizes);
        if !sizes.is_empty() {
            (start[2], count[2]) = (first, rows);
        }
        start.drain(2..2 + flat);
        count.drain(2..2 + flat);
        Ok(out.write(dataset, &start[skipped..], &count[skipped..], values)?)
    })
}

/// One image, or a series of images.
pub fn vtkhdf(file: &Reader, array: &Array, name: &str, path: &Path) -> Result<(), Error> {
    if is_narrow(array) { vtkhdf_of::<f32>(file, array, name, path) } else { vtkhdf_of::<f64>(file, array, name, path) }
}

fn vtkhdf_of<T: Element>(file: &Reader, array: &Array, name: &str, path: &Path) -> Result<(), Error> {
    let axes: Vec<&Axis> = space(array).into_iter().map(|k| &array.axes[k]).collect();
    if samples(array) > 1 {
        let detail =
            format!("{name} has {} solutions, and VTK knows one; the-well and pdebench take all", samples(array));
        return Err(DataError::InvalidValue { path: file.path().to_path_buf(), detail }.into());
    }
    if !(2..=3).contains(&axes.len()) {
        let (path, name) = (file.path().to_path_buf(), array.path.clone());
        let expected = "2 or 3 in space".to_owned();
        return Err(DataError::WrongRank { path, name, found: axes.len(), expected }.into());
    }
    // Slowest first here; VTK counts x, y, z with x fastest.
    let back: Vec<&&Axis> = axes.iter().rev().collect();
    let of = |get: fn(&Axis) -> f64, none: f64| std::array::from_fn(|k| back.get(k).map_or(none, |axis| get(axis)));
    let shape = std::array::from_fn(|k| back.get(2 - k).map_or(1, |axis| axis.n));
    let image = Image { shape, origin: of(|a| a.origin, 0.0), spacing: of(|a| a.spacing, 1.0) };
    let mut out = Writer::create(path)?;
    match time(array) {
        Some(k) => {
            let times = coordinates(&array.axes[k]);
            let dataset = format!("{}/{name}", schema::VTKHDF_POINT_DATA);
            let sizes: Vec<usize> = std::iter::once(times.len()).chain(image.stored().iter().copied()).collect();
            out.dataset::<T>(&dataset, &sizes, Layout::Contiguous)?;
            vtkhdf::describe_series(&mut out, &image, &times, name)?;
            copy::<T>(file, array, (&mut out, &dataset), 1)?;
        }
        None => {
            let dataset = schema::result(name);
            out.dataset::<T>(&dataset, image.stored(), Layout::Contiguous)?;
            vtkhdf::describe(&mut out, &image, &[name])?;
            copy::<T>(file, array, (&mut out, &dataset), 2)?;
        }
    }
    out.commit_new()?;
    Ok(())
}

/// One file with every array on the grid of the largest.
pub fn well(file: &Reader, arrays: &[Array], source: &Source, path: &Path) -> Result<(), Error> {
    let known =
        |a: &&Array| (1..=3).contains(&space(a).len()) && a.axes.iter().all(|axis| !axis.name.starts_with("axis"));
    let size = |a: &&Array| a.shape.iter().product::<usize>();
    let Some(largest) = arrays.iter().filter(known).max_by_key(size) else {
        let detail = "has no array with named axes in 1 to 3 dimensions, as The Well wants them".to_owned();
        return Err(DataError::InvalidValue { path: file.path().to_path_buf(), detail }.into());
    };
    let grid = grid_of(largest);
    let fields: Vec<&Array> = arrays.iter().filter(known).filter(|a| grid_of(a) == grid).collect();
    let names: Vec<String> = fields.iter().map(|a| file_name(&a.name)).collect();
    let title = source.path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let mut out = Writer::create(path)?;
    grid::well(&mut out, &title, &grid, &names.iter().map(String::as_str).collect::<Vec<_>>())?;
    for (array, name) in fields.into_iter().zip(&names) {
        copy::<f32>(file, array, (&mut out, &well_field(name)), 0)?;
    }
    out.commit_new()?;
    Ok(())
}

/// One file with one field.
pub fn pdebench(file: &Reader, array: &Array, path: &Path) -> Result<(), Error> {
    let mut out = Writer::create(path)?;
    grid::pdebench(&mut out, &grid_of(array))?;
    copy::<f32>(file, array, (&mut out, PDEBENCH_FIELD), 0)?;
    out.commit_new()?;
    Ok(())
}
