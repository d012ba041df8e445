//! Pairs of functions from files: PDEBench's single files, results of runs, anything `[sample, (channel,) space …]`.

use std::ops::Range;
use std::path::{Path, PathBuf};

use convoke_cluster::comm::CommError;
use convoke_cluster::workload::Inputs;
use convoke_cluster::{BadValue, Comm, Result};
use convoke_data::store::Reader;

use super::model::Shape;
use super::real::Real;
use super::saved::file;
use super::spec::{DataSpec, FieldSpec, Normalise};

/// What an array is, before it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Samples that are used.
    pub samples: usize,
    /// The first of them.
    pub first: usize,
    /// Channels of input and target.
    pub channels: [usize; 2],
    /// Points along each axis.
    pub points: Vec<usize>,
    path: PathBuf,
}

/// Samples, channels and points of an array.
fn shape(reader: &Reader, key: &str, field: &FieldSpec, d: usize) -> Result<(usize, usize, Vec<usize>)> {
    let shape = reader.shape(&field.array)?;
    let found = || format!("{} of {}, of shape {shape:?}", field.array, reader.path().display());
    let space = match shape.len() {
        n if n == d + 1 || n == d + 2 => &shape[n - d..],
        _ => {
            let expected = format!("an array [sample, space] or [sample, channel, space] with {d} axes of space");
            return Err(BadValue::new(format!("problem.data.{key}.array"), found(), expected).into());
        }
    };
    let all = if shape.len() == d + 2 { shape[1] } else { 1 };
    let channels = match field.channels {
        Some([_, end]) if end > all => {
            let value = format!("end {end} of {}", found());
            return Err(BadValue::new(format!("problem.data.{key}.channels"), value, format!("at most {all}")).into());
        }
        Some([first, end]) => end - first,
        None => all,
    };
    Ok((shape[0], channels, space.to_vec()))
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
        let (n, input, points) = shape(&reader, "input", &spec.input, spec.dimension)?;
        let (m, output, others) = shape(&reader, "target", &spec.target, spec.dimension)?;
        if (n, &points) != (m, &others) {
            let message = format!(
                "{} has {n} samples on {points:?} points and {} {m} on {others:?}, in {}",
                spec.input.array,
                spec.target.array,
                path.display()
            );
            return Err(BadValue::wrong("problem.data.target.array", message).into());
        }
        let wanted = samples.unwrap_or(n.saturating_sub(first));
        if wanted == 0 || first + wanted > n {
            let expected = format!("at least one, of the {n} of {}", path.display());
            return Err(BadValue::new(format!("{section}.samples"), format!("{wanted} from {first}"), expected).into());
        }
        Ok(Self { samples: wanted, first, channels: [input, output], points, path })
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
        let read = |key: &str, field: &FieldSpec, channels: usize| -> Result<Vec<Vec<T>>> {
            let shape = reader.shape(&field.array)?;
            let (mut start, mut count) = (vec![0; shape.len()], shape.clone());
            (start[0], count[0]) = (layout.first, layout.samples);
            if shape.len() == points.len() + 2 {
                (start[1], count[1]) = (field.channels.map_or(0, |c| c[0]), channels);
            }
            let first = shape.len() - points.len();
            (start[first], count[first]) = (rows.start, rows.len());
            let values: Vec<T> = reader.read_slab(&field.array, &start, &count)?;
            let size = channels * points.iter().product::<usize>();
            if let Some(bad) = values.iter().position(|v| !num_traits::Float::is_finite(*v)) {
                let message = format!(
                    "{} of {} has a number that is not finite, in sample {}",
                    field.array,
                    layout.path.display(),
                    layout.first + bad / size
                );
                return Err(BadValue::wrong(format!("problem.data.{key}.array"), message).into());
            }
            Ok(values.chunks(size).map(<[T]>::to_vec).collect())
        };
        Ok(Self {
            inputs: read("input", &spec.input, layout.channels[0])?,
            targets: read("target", &spec.target, layout.channels[1])?,
            points,
        })
    }
}

/// Means and deviations, one for each channel or for each channel and point.
#[derive(Debug, Clone)]
pub struct Normaliser<T> {
    mean: Vec<T>,
    deviation: Vec<T>,
}

/// Added to deviations: fields that are the same in all samples stay numbers.
const TINY: f64 = 1e-7;

impl<T: Real> Normaliser<T> {
    /// Of fields with `channels`, whose points the ranks of `space` share: then not one for each point. Collective over them.
    ///
    /// # Errors
    /// As the exchange.
    pub fn of(
        kind: Normalise,
        fields: &[Vec<T>],
        channels: usize,
        space: Option<&Comm>,
    ) -> std::result::Result<Self, CommError> {
        let size = fields.first().map_or(1, Vec::len);
        let groups = match kind {
            Normalise::None => {
                return Ok(Self { mean: vec![T::of(0.0); channels], deviation: vec![T::of(1.0); channels] });
            }
            Normalise::Channels => channels,
            Normalise::Points => size,
        };
        let run = size / groups;
        let sum = |values: &mut [f64]| space.map_or(Ok(()), |comm| comm.all_sum(values));
        let mut count = [(fields.len() * run) as f64];
        sum(&mut count)?;
        let [count] = count;
        let mut mean = vec![0.0; groups];
        for field in fields {
            field.iter().enumerate().for_each(|(i, v)| mean[i / run] += v.wide() / count);
        }
        sum(&mut mean)?;
        let mut square = vec![0.0; groups];
        for field in fields {
            field.iter().enumerate().for_each(|(i, v)| square[i / run] += (v.wide() - mean[i / run]).powi(2));
        }
        sum(&mut square)?;
        let deviation = square.iter().map(|s| T::of((s / (count - 1.0).max(1.0)).sqrt() + TINY)).collect();
        Ok(Self { mean: mean.into_iter().map(T::of).collect(), deviation })
    }

    /// Of means and deviations.
    pub fn from_parts(mean: Vec<T>, deviation: Vec<T>) -> Self {
        Self { mean, deviation }
    }

    /// Means and deviations.
    pub fn parts(&self) -> [(&'static str, &[T]); 2] {
        [("mean", &self.mean), ("deviation", &self.deviation)]
    }

    fn run(&self, field: &[T]) -> usize {
        (field.len() / self.mean.len()).max(1)
    }

    /// (x − mean)/deviation.
    pub fn encode(&self, field: &mut [T]) {
        let run = self.run(field);
        field.iter_mut().enumerate().for_each(|(i, v)| *v = (*v - self.mean[i / run]) / self.deviation[i / run]);
    }

    /// The way back.
    pub fn decode(&self, field: &mut [T]) {
        let run = self.run(field);
        field.iter_mut().enumerate().for_each(|(i, v)| *v = *v * self.deviation[i / run] + self.mean[i / run]);
    }

    /// Of derivatives by decoded fields, those by encoded ones.
    pub fn scale(&self, field: &mut [T]) {
        let run = self.run(field);
        field.iter_mut().enumerate().for_each(|(i, v)| *v *= self.deviation[i / run]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoded_fields_have_mean_zero_and_deviation_one_and_come_back() {
        let fields: Vec<Vec<f64>> = (0..5).map(|s| (0..8).map(|i| f64::from(s * s + 3 * i) + 0.1).collect()).collect();
        for (kind, groups) in [(Normalise::Channels, 2), (Normalise::Points, 8)] {
            let normaliser = Normaliser::of(kind, &fields, 2, None).expect("no exchange");
            let mut encoded = fields.clone();
            encoded.iter_mut().for_each(|f| normaliser.encode(f));
            let run = 8 / groups;
            for group in 0..groups {
                let values: Vec<f64> =
                    encoded.iter().flat_map(|f| f[group * run..(group + 1) * run].to_vec()).collect();
                let mean = values.iter().sum::<f64>() / values.len() as f64;
                let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (values.len() - 1) as f64;
                assert!(mean.abs() < 1e-12 && (variance - 1.0).abs() < 1e-6, "{mean} {variance}");
            }
            encoded.iter_mut().for_each(|f| normaliser.decode(f));
            assert!(encoded.iter().flatten().zip(fields.iter().flatten()).all(|(a, b)| (a - b).abs() < 1e-10));
        }
    }
}
