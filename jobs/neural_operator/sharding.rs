//! Training on several ranks: who sends what, and which parameters are whose.
//!
//! Samples of a batch are shared. The matrices of the modes are held by all ranks, and gradients of all parameters are summed; or they
//! are shared out by modes, coefficients go to and fro, and only gradients of the others are summed. Or ranks share the points of every
//! sample: parts of coefficients go to the ranks of their modes, where they are summed, and products to all. The plan takes what sends
//! less of the first two, and the third where a batch has fewer samples than there are ranks.

use std::ops::Range;

use convoke_cluster::comm::CommError;
use convoke_cluster::{BadValue, Comm, Fields, Region};

use super::model::Shape;
use super::spec::{Normalise, Shared, Spec};
use super::spectral::Sharing;
use crate::learning::parameters::{Part, Parts};
use crate::learning::real::Real;

/// Whether a part holds the matrices of modes.
fn of_modes(part: &Part) -> bool {
    part.name.ends_with("spectral")
}

/// Bytes that a rank sends for a step with `batch` samples, at most, numbers of `bytes` each: with samples shared, with modes shared out, with
/// points shared.
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
    [sum(parts.count()), exchanged + sum(common), parts_of_sums + sum(common)].map(|n| (bytes * n) as u64)
}

/// Why the points of fields on a grid cannot be shared; nothing where they can.
pub fn no_space(spec: &Spec, shape: &Shape, grids: &[&[usize]], ranks: usize) -> Option<String> {
    let (Shape::Fno(fno), Some(training)) = (shape, &spec.training) else {
        return Some("kind = \"st-fno\" needs all points of a snapshot".to_owned());
    };
    if !(shape.parts().each().any(of_modes) && shape.kept()[0] >= ranks) {
        return Some(format!("{ranks} ranks cannot share the modes of all axes but the last"));
    }
    if let Some(points) = grids.iter().find(|points| points[0] < ranks) {
        return Some(format!("{ranks} ranks cannot share the rows of {points:?} points"));
    }
    let reasons = [
        (fno.padding.first().is_some_and(|n| *n > 0), "the first axis is padded"),
        (spec.model.as_ref().is_some_and(|model| model.divergence_free), "divergence_free needs all points"),
        (training.sobolev.is_some() || training.torch_cfd.is_some(), "losses in H^s need all points"),
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
        let square = |values: &[T]| values.iter().map(|g| g.wide().powi(2)).sum::<f64>();
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
