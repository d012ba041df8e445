//! Pairs of functions from files: PDEBench's single files, The Well, results of runs, anything `[sample, (snapshot,) space …, (component)]`.

use std::ops::Range;
use std::path::{Path, PathBuf};

use convoke_cluster::workload::Inputs;
use convoke_cluster::{BadValue, Result};
use convoke_data::store::Reader;

use super::model::Shape;
use super::spec::{DataSpec, FieldSpec, WindowSpec};
use crate::learning::file::file;
use crate::learning::real::Real;

/// What arrays are, before they are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Samples that are used.
    pub samples: usize,
    /// Channels of input and target.
    pub channels: [usize; 2],
    /// Points along each axis.
    pub points: Vec<usize>,
    path: PathBuf,
    /// Entries of the files' first axis.
    entries: Range<usize>,
    windows: Option<WindowSpec>,
}

/// What some arrays are together.
struct Found {
    entries: usize,
    /// Snapshots, or other channels of the files, that are used.
    snapshots: Range<usize>,
    /// Components of all arrays.
    components: usize,
    points: Vec<usize>,
}

/// Components of an array of so many axes: those behind space.
fn components(shape: &[usize], d: usize) -> usize {
    shape.get(d + 2).copied().unwrap_or(1)
}

/// What the arrays of `field` are.
fn found(reader: &Reader, key: &str, field: &FieldSpec, d: usize) -> Result<Found> {
    let mut all: Option<Found> = None;
    for array in field.array.names() {
        let shape = reader.shape(array)?;
        let what = || format!("{array} of {}, of shape {shape:?}", reader.path().display());
        let key = |last: &str| format!("problem.data.{key}.{last}");
        if !(d + 1..=d + 3).contains(&shape.len()) {
            let expected = format!(
                "an array [sample, space], [sample, snapshot, space] or [sample, snapshot, space, component] with {d} axes of space"
            );
            return Err(BadValue::new(key("array"), what(), expected).into());
        }
        let first = if shape.len() == d + 1 { 1 } else { 2 };
        let snapshots = if first == 2 { shape[1] } else { 1 };
        let here = Found {
            entries: shape[0],
            snapshots: field.channels.map_or(0..snapshots, |[first, end]| first..end),
            components: components(&shape, d),
            points: shape[first..first + d].to_vec(),
        };
        if here.snapshots.end > snapshots {
            let value = format!("end {} of {}", here.snapshots.end, what());
            return Err(BadValue::new(key("channels"), value, format!("at most {snapshots}")).into());
        }
        match &mut all {
            None => all = Some(here),
            Some(all) => {
                if (all.entries, &all.snapshots, &all.points) != (here.entries, &here.snapshots, &here.points) {
                    let expected = "as many samples, snapshots and points as the arrays before it";
                    return Err(BadValue::new(key("array"), what(), expected).into());
                }
                all.components += here.components;
            }
        }
    }
    all.ok_or_else(|| {
        BadValue::wrong(format!("problem.data.{key}.array"), "empty; it names an array, or several").into()
    })
}

impl Layout {
    /// Of the arrays that `spec` names in the file at `path`; `section` has the keys of the file and of the number of samples.
    ///
    /// # Errors
    /// Arrays that are not there or do not fit each other.
    pub fn of(
        spec: &DataSpec,
        inputs: &Inputs,
        (path, first, samples): (&Path, usize, Option<usize>),
        section: &str,
    ) -> Result<Self> {
        let path = file(inputs.resolve(path));
        let reader = Reader::open(&path).map_err(|error| BadValue::wrong(format!("{section}.file"), error))?;
        let [input, target] = [("input", &spec.input), ("target", &spec.target)]
            .map(|(key, field)| found(&reader, key, field, spec.dimension));
        let (input, target) = (input?, target?);
        if (input.entries, &input.points) != (target.entries, &target.points) {
            let message = format!(
                "{} has {} samples on {:?} points and {} {} on {:?}, in {}",
                spec.input.array,
                input.entries,
                input.points,
                spec.target.array,
                target.entries,
                target.points,
                path.display()
            );
            return Err(BadValue::wrong("problem.data.target.array", message).into());
        }
        let n = input.entries;
        let wanted = samples.unwrap_or(n.saturating_sub(first));
        if wanted == 0 || first + wanted > n {
            let expected = format!("at least one, of the {n} of {}", path.display());
            return Err(BadValue::new(format!("{section}.samples"), format!("{wanted} from {first}"), expected).into());
        }
        let (mut each, mut snapshots) = (1, [input.snapshots.len(), target.snapshots.len()]);
        if let Some(windows) = &spec.windows {
            each = windows.count(snapshots[0]);
            if each == 0 {
                let value = format!("{} and {}", windows.input, windows.target);
                let expected = format!("together at most the {} snapshots of {}", snapshots[0], path.display());
                return Err(BadValue::new("problem.data.windows", value, expected).into());
            }
            snapshots = [windows.input, windows.target];
        }
        Ok(Self {
            samples: wanted * each,
            channels: [snapshots[0] * input.components, snapshots[1] * target.components],
            points: input.points,
            path,
            entries: first..first + wanted,
            windows: spec.windows.clone(),
        })
    }

    /// Whether the modes fit.
    ///
    /// # Errors
    /// [`BadValue`] of the first axis that has too few points.
    pub fn admits(&self, shape: &Shape) -> Result<(), BadValue> {
        let (modes, most) = shape.modes(&self.points);
        let Some(axis) = (0..modes.len()).find(|axis| modes[*axis] > most[*axis]) else { return Ok(()) };
        let points = self.points.get(axis).map_or_else(|| "the times inside".to_owned(), |n| format!("{n} points"));
        let expected = format!("at most {} along axis {axis}, which has {points} before padding", most[axis]);
        Err(BadValue::new("problem.model.modes", modes[axis], expected).help(format!("in {}", self.path.display())))
    }

    /// Numbers of all samples.
    pub fn numbers(&self) -> u64 {
        (self.samples * (self.channels[0] + self.channels[1]) * self.points.iter().product::<usize>()) as u64
    }
}

/// Samples in memory: inputs and targets, `[channel, points]` each.
#[derive(Debug, Clone)]
pub struct Set<T> {
    /// Points along each axis that are here.
    pub points: Vec<usize>,
    /// Inputs.
    pub inputs: Vec<Vec<T>>,
    /// Targets.
    pub targets: Vec<Vec<T>>,
}

impl<T: Real> Set<T> {
    /// Reads these rows of the first axis of all.
    ///
    /// # Errors
    /// Of the file; numbers that are not finite.
    pub fn read(spec: &DataSpec, layout: &Layout, rows: Range<usize>) -> Result<Self> {
        let reader = Reader::open(&layout.path)?;
        let mut points = layout.points.clone();
        points[0] = rows.len();
        let read = |key: &str, field: &FieldSpec| fields::<T>(&reader, (key, field), layout, &rows);
        let (inputs, targets) = match &layout.windows {
            None => (read("input", &spec.input)?, read("target", &spec.target)?),
            Some(windows) => {
                let all = read("input", &spec.input)?;
                let snapshot = layout.channels[0] / windows.input * points.iter().product::<usize>();
                let cut = |first: usize, count: usize| -> Vec<Vec<T>> {
                    let starts =
                        |entry: &Vec<T>| (0..windows.count(entry.len() / snapshot)).map(|w| first + w * windows.every);
                    let cut =
                        |entry: &Vec<T>, start: usize| entry[start * snapshot..(start + count) * snapshot].to_vec();
                    all.iter().flat_map(|entry| starts(entry).map(|start| cut(entry, start))).collect()
                };
                (cut(0, windows.input), cut(windows.input, windows.target))
            }
        };
        Ok(Self { points, inputs, targets })
    }
}

/// The arrays of `field`, `[entry][snapshot, array, component, points]`.
fn fields<T: Real>(
    reader: &Reader,
    (key, field): (&str, &FieldSpec),
    layout: &Layout,
    rows: &Range<usize>,
) -> Result<Vec<Vec<T>>> {
    let d = layout.points.len();
    let size = rows.len() * layout.points[1..].iter().product::<usize>();
    let mut parts = Vec::new();
    for array in field.array.names() {
        let shape = reader.shape(array)?;
        let (mut start, mut count) = (vec![0; shape.len()], shape.clone());
        (start[0], count[0]) = (layout.entries.start, layout.entries.len());
        let space = if shape.len() == d + 1 { 1 } else { 2 };
        if let (2, Some([first, end])) = (space, field.channels) {
            (start[1], count[1]) = (first, end - first);
        }
        (start[space], count[space]) = (rows.start, rows.len());
        let values: Vec<T> = reader.read_slab(array, &start, &count)?;
        let components = components(&shape, d);
        if let Some(bad) = values.iter().position(|v| !num_traits::Float::is_finite(*v)) {
            let entry = layout.entries.start + bad / (values.len() / layout.entries.len());
            let message =
                format!("{array} of {} has a number that is not finite, in sample {entry}", layout.path.display());
            return Err(BadValue::wrong(format!("problem.data.{key}.array"), message).into());
        }
        parts.push((values, components));
    }
    let snapshots =
        parts.first().map_or(0, |(values, components)| values.len() / (layout.entries.len() * size * components));
    let entry = |e: usize| {
        let mut all = Vec::with_capacity(parts.iter().map(|(values, _)| values.len() / layout.entries.len()).sum());
        for snapshot in 0..snapshots {
            for (values, components) in &parts {
                let here = &values[(e * snapshots + snapshot) * size * components..][..size * components];
                (0..*components).for_each(|c| all.extend(here.iter().skip(c).step_by(*components)));
            }
        }
        all
    };
    Ok((0..layout.entries.len()).map(entry).collect())
}
