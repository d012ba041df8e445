//! Training on several ranks: who sends what, and which parameters are whose.
//!
//! Samples of a batch are shared. The matrices of the modes are held by all ranks, and gradients of all parameters are summed; or they
//! are shared out by modes, coefficients go to and fro, and only gradients of the others are summed. Or ranks share the points of every
//! sample: parts of coefficients go to the ranks of their modes, where they are summed, and products to all. The plan takes what sends
//! less of the first two, and the third where a batch has fewer samples than there are ranks.

use std::ops::Range;

use convoke_cluster::comm::CommError;
use convoke_cluster::{BadValue, Comm, Fields, Region, block};
use rayon::prelude::*;

use super::model::Shape;
use super::slabs::Slabs;
use super::spec::{Normalise, Shared, Spec, TrainingSpec};
use super::spectral::Sharing;
use crate::learning::optimiser::CHUNK;
use crate::learning::parameters::{Part, Parts};
use crate::learning::real::Real;

/// Whether a part holds the matrices of modes.
fn of_modes(part: &Part) -> bool {
    part.name.ends_with("spectral")
}

/// The rows of the first axis of `points` that each rank has where they share them: with the zeros behind that axis, which are the last
/// rank's, as many as the others have, and at least one. There are at least as many rows as ranks.
pub fn rows(shape: &Shape, points: &[usize], ranks: usize) -> Vec<Range<usize>> {
    let (n, all) = (points[0], points[0] + shape.padding());
    let start = |rank: usize| {
        if rank == ranks { n } else { block(all, rank, ranks).start.min((n + rank).saturating_sub(ranks)) }
    };
    (0..ranks).map(|rank| start(rank)..start(rank + 1)).collect()
}

/// Rows of the rank that has most of [`rows`], of all of them; and the same with the zeros behind the axis.
pub fn shares(shape: &Shape, points: &[usize], ranks: usize) -> [(usize, usize); 2] {
    let (padding, rows) = (shape.padding(), rows(shape, points, ranks));
    let most = rows.iter().map(Range::len).max().unwrap_or(0);
    let with = rows.last().map_or(0, |last| most.max(last.len() + padding));
    [(most, points[0]), (with, points[0] + padding)]
}

/// Bytes that a rank sends for a step with `batch` samples, at most, numbers of `bytes` each: with samples shared, with modes shared out, with
/// points shared. What a loss sends is not in it.
pub fn bytes_of_step(shape: &Shape, batch: usize, ranks: usize, bytes: usize) -> [u64; 3] {
    let ([outer, inner], parts) = (shape.kept(), shape.parts());
    let common: usize = parts.each().filter(|part| !of_modes(part)).map(|part| part.range().len()).sum();
    let sum = |n: usize| 2 * n * (ranks - 1) / ranks;
    // Coefficients of this rank's samples to the owners of their modes, and those of all samples back from here; forward, and backward with
    // the channels the other way round.
    let (to, back) = (batch.div_ceil(ranks) * outer, outer.div_ceil(ranks) * batch);
    let others = |n: usize| n - n / ranks;
    let coefficients = shape.channels_of_products() * 2 * inner;
    let exchanged = coefficients * (others(to) + others(back));
    // Parts of the coefficients of all samples to the owners of their modes, and the sums that are here to all.
    let parts_of_sums = coefficients * batch * (outer - outer / ranks + outer.div_ceil(ranks) * (ranks - 1));
    // Means and variances of what a spatiotemporal operator is given.
    let standard = if matches!(shape, Shape::StFno(_)) { 16 * batch * (ranks - 1) } else { 0 };
    let [samples, modes, space] = [sum(parts.count()), exchanged + sum(common), parts_of_sums + sum(common)];
    [bytes * samples, bytes * modes, bytes * space + standard].map(|n| n as u64)
}

/// Bytes that a rank sends for the loss of a step with `batch` samples where points are shared, at most: sums of powers or squares of errors
/// and targets, and in H^s the fields between rows and columns.
pub fn bytes_of_loss(
    training: &TrainingSpec,
    (points, rows): (&[usize], &[Range<usize>]),
    [batch, channels, bytes]: [usize; 3],
) -> u64 {
    let sobolev = training.sobolev.is_some() || training.torch_cfd.is_some();
    let exchanged = if sobolev { bytes * Slabs::<f64>::sent(points, rows, batch * channels) } else { 0 };
    (16 * batch * (rows.len() - 1) + exchanged) as u64
}

/// Why the points of fields on a grid cannot be shared; nothing where they can.
pub fn no_space(spec: &Spec, shape: &Shape, grids: &[&[usize]], ranks: usize) -> Option<String> {
    if !shape.parts().each().any(of_modes) {
        return Some("factors of a Tucker product are not shared out".to_owned());
    }
    if shape.kept()[0] < ranks {
        return Some(format!("{ranks} ranks cannot share the {} modes of all axes but the last", shape.kept()[0]));
    }
    if let Some(points) = grids.iter().find(|points| points[0] < ranks) {
        return Some(format!("{ranks} ranks cannot share the rows of {points:?} points"));
    }
    let reasons = [
        (spec.model.as_ref().is_some_and(|model| model.divergence_free), "divergence_free needs all points"),
        (spec.normalise() == Normalise::Points, "normalise = \"points\" has a mean for each point"),
    ];
    reasons.iter().find(|(there, _)| *there).map(|(_, why)| (*why).to_owned())
}

/// What a job with data on these grids asks for, or what is best.
///
/// # Errors
/// [`BadValue`] for modes that are shared out among more ranks than there are of them, or points that cannot be shared.
pub fn choose(
    spec: &Spec,
    shape: &Shape,
    grids: &[&[usize]],
    (batch, ranks, bytes): (usize, usize, usize),
) -> Result<Shared, BadValue> {
    let asked = spec.training.as_ref().and_then(|training| training.shared);
    let no_space = no_space(spec, shape, grids, ranks);
    if let (Some(Shared::Space), Some(why)) = (asked, &no_space) {
        return Err(BadValue::new("problem.training.shared", "space", format!("\"samples\" or \"modes\": {why}")));
    }
    let [outer, _] = shape.kept();
    // Factors of a Tucker product are few, and everybody's.
    let possible = outer >= ranks && shape.parts().each().any(of_modes);
    if asked == Some(Shared::Modes) && !possible {
        let expected = format!("\"samples\": {ranks} ranks cannot share these {outer} modes of all axes but the last");
        return Err(BadValue::new("problem.training.shared", "modes", expected));
    }
    let [samples, modes, _] = bytes_of_step(shape, batch, ranks, bytes);
    let better = if batch < ranks && no_space.is_none() {
        Shared::Space
    } else if possible && ranks > 1 && modes < samples {
        Shared::Modes
    } else {
        Shared::Samples
    };
    Ok(asked.unwrap_or(better))
}

/// The parameters of this rank.
#[derive(Debug)]
pub struct Owned {
    sharing: Sharing,
    /// Each part, where this rank's of it lie among all parameters, and in the part.
    parts: Vec<(Part, Range<usize>, Region)>,
}

impl Owned {
    /// Of a rank.
    pub fn new(parts: &Parts, [outer, inner]: [usize; 2], sharing: Sharing) -> Self {
        let own = |part: &Part| {
            if !of_modes(part) {
                return (part.clone(), part.range(), Region::whole(&part.shape));
            }
            let (mine, row) = (sharing.mine(outer), part.range().len() / part.shape[0]);
            let rows = mine.start * inner..mine.end * inner;
            let range = part.start + rows.start * row..part.start + rows.end * row;
            (part.clone(), range, Region::rows(&part.shape, rows))
        };
        Self { parts: parts.each().map(own).collect(), sharing }
    }

    /// Places of this rank's parameters, in order.
    pub fn ranges(&self) -> Vec<Range<usize>> {
        self.parts.iter().map(|(_, range, _)| range.clone()).collect()
    }

    /// Sums what ranks have of the gradient of common parameters, and returns the square of the whole gradient's norm. Collective.
    ///
    /// # Errors
    /// As the exchange.
    pub fn sum<T: Real>(&self, comm: &Comm, gradient: &mut [T]) -> Result<f64, CommError> {
        // Sums of chunks, in their order: the same on any number of threads.
        let square = |values: &[T]| -> f64 {
            let chunk = |values: &[T]| values.iter().map(|g| g.wide().powi(2)).sum();
            values.par_chunks(CHUNK).map(chunk).collect::<Vec<f64>>().iter().sum()
        };
        if !self.sharing.is_shared() {
            comm.all_sum(gradient)?;
            return Ok(square(gradient));
        }
        let common = || self.parts.iter().filter(|(part, ..)| !of_modes(part)).map(|(_, range, _)| range.clone());
        let mut packed: Vec<T> = common().flat_map(|range| gradient[range].to_vec()).collect();
        comm.all_sum(&mut packed)?;
        let mut rest = packed.as_slice();
        for range in common() {
            let (here, others) = rest.split_at(range.len());
            gradient[range].copy_from_slice(here);
            rest = others;
        }
        let own = self.parts.iter().filter(|(part, ..)| of_modes(part));
        let mut sum = [own.map(|(_, range, _)| square(&gradient[range.clone()])).sum::<f64>()];
        comm.all_sum(&mut sum)?;
        Ok(sum[0] + square(&packed))
    }

    /// Brings all parameters to all ranks. Collective.
    ///
    /// # Errors
    /// As the exchange.
    pub fn collect<T: Real>(&self, comm: &Comm, parameters: &mut [T]) -> Result<(), CommError> {
        if !self.sharing.is_shared() {
            return Ok(());
        }
        for (part, range, _) in self.parts.iter().filter(|(part, ..)| of_modes(part)) {
            let all = comm.all_gather(&parameters[range.clone()])?.concat();
            parameters[part.range()].copy_from_slice(&all);
        }
        Ok(())
    }

    /// Describes a list with a number for each parameter: this rank's of each part.
    pub fn fields<'a, T: Real>(&self, fields: &mut Fields<'a>, name: &str, values: &'a mut [T]) {
        let (mut rest, mut at) = (values, 0);
        for (part, range, region) in &self.parts {
            let (_, from_here) = std::mem::take(&mut rest).split_at_mut(range.start - at);
            let (here, others) = from_here.split_at_mut(range.len());
            fields.array(format!("{name}/{}", part.name), &part.shape, region.clone(), T::data(here));
            (rest, at) = (others, range.end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fno::FnoShape;
    use super::*;

    /// All rows, in order, with about as many points on each rank, and a row at least however many zeros there are.
    #[test]
    fn every_rank_has_rows() {
        for (n, padding, ranks) in [(12, 0, 5), (85, 9, 8), (85, 9, 16), (4, 30, 4), (3, 0, 1)] {
            let shape = Shape::Fno(FnoShape {
                input: 1,
                output: 1,
                width: 1,
                layers: 1,
                modes: vec![1, 1],
                projection: 1,
                padding: vec![padding, 0],
                lifting: None,
                channel_mlp: None,
                tucker: None,
                activations: 1,
            });
            let rows = rows(&shape, &[n, 8], ranks);
            assert!(rows.len() == ranks && rows.iter().all(|rows| !rows.is_empty()), "{rows:?}");
            assert!(rows[0].start == 0 && rows[ranks - 1].end == n && rows.windows(2).all(|r| r[0].end == r[1].start));
            let [(most, all), (with, padded)] = shares(&shape, &[n, 8], ranks);
            assert!(most <= (n + padding).div_ceil(ranks) && (all, padded) == (n, n + padding), "{rows:?}");
            assert!(with <= (n + padding).div_ceil(ranks).max(padding + 1), "{rows:?}");
            if padding == 0 {
                assert!((0..ranks).all(|rank| rows[rank] == block(n, rank, ranks)), "{rows:?}");
            }
        }
    }
}
