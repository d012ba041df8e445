//! Posterior deviations without a draw, where the posterior covariance is a sum over independent modes: all axes but at most
//! one are periodic, coefficients are constant, and the equation is all that is known.
//!
//! On the equidistant nodes of periodic axes, waves e^{ik·x} are orthogonal and the equation maps each to a multiple of
//! itself. With `u = Σₖ √wₖ e^{ik·x} ψ(t)·zₖ`, ψ the whitened functions of the one other axis, the rows of a wave are
//!
//! ```text
//! Aₖ = √(N wₖ) Σ_α c_α (ik)^α ψ^{(α_t)}        var ∂^β u(x, t) = Σₖ wₖ |(ik)^β|² ψ^{(β_t)}(t) (1 + AₖᴴAₖ)⁻¹ ψ^{(β_t)}(t)ᵀ
//! ```
//!
//! (N nodes of the periodic axes; c in units of the equation's deviation), the same at every x.

use std::f64::consts::TAU;

use convoke_cluster::{Comm, Result};
use faer::{Mat, c64};
use rayon::prelude::*;

use super::equation::MultiIndex;
use super::gaussian::Gaussian;
use super::model::{Data, Model, whitened};

/// Slopes at different nodes differ by this part of the largest where they are the same but for rounding.
const ROUNDING: f64 = 1e-13;

/// One pair of waves, k and −k.
struct Wave {
    /// 2π times the signed frequency along each axis; 0 along the one that is no wave.
    k: Vec<f64>,
    /// Prior variance of both together.
    weight: f64,
    /// Of the coefficients along the other axis; twice as many, real and imaginary parts, where A is complex.
    fit: Gaussian,
}

/// The posterior of independent waves.
pub struct Stationary<'a> {
    comm: Comm,
    model: &'a Model,
    /// The axis that is no wave, or the first.
    pub axis: usize,
    /// Those of this rank.
    waves: Vec<Wave>,
}

/// `(ik)^α` over all axes but one.
fn symbol(k: &[f64], index: &MultiIndex, axis: usize) -> c64 {
    let of_axis = |(a, (k, order)): (usize, (&f64, &usize))| match a == axis {
        true => c64::new(1.0, 0.0),
        // i^order without a rounding error
        false => {
            let size = k.powi(*order as i32);
            [c64::new(size, 0.0), c64::new(0.0, size), c64::new(-size, 0.0), c64::new(0.0, -size)][order % 4]
        }
    };
    k.iter().zip(index).enumerate().map(of_axis).fold(c64::new(1.0, 0.0), |a, b| a * b)
}

impl<'a> Stationary<'a> {
    /// `None` where waves are not independent. Collective.
    ///
    /// # Errors
    /// Where another rank fails.
    pub fn of(model: &'a Model, data: &Data) -> Result<Option<Self>> {
        let axes = &data.problem.axes;
        let others: Vec<usize> = (0..axes.len()).filter(|a| !axes[*a].periodic).collect();
        let bare = data.observations.is_empty() && data.constants.is_empty() && data.equation.is_linear;
        if others.len() > 1 || !bare {
            return Ok(None);
        }
        let axis = others.first().copied().unwrap_or(0);
        let Some(slopes) = constant_slopes(model, data)? else { return Ok(None) };
        // Two waves that agree at all nodes are not independent.
        let held = |a: usize| 2 * (model.bases[a].prior.frequencies.len() - 1) < axes[a].nodes.len();
        if (0..axes.len()).any(|a| a != axis && !held(a)) {
            return Ok(None);
        }
        let nodes: usize = (0..axes.len()).filter(|a| *a != axis).map(|a| axes[a].nodes.len()).product();
        let max_order = data.equation.jets.iter().map(|j| j[axis]).max().unwrap_or(0);
        let basis = &model.bases[axis];
        let functions =
            whitened(basis.at_nodes(&axes[axis].nodes, 0..axes[axis].nodes.len(), max_order), basis).functions;
        let lattice = lattice(model, axis);
        let mine = model.comm.block(lattice.len());
        let comm = model.comm.clone();
        let wave = |(k, weight, pair): &(Vec<f64>, f64, f64)| -> Result<Wave> {
            let (n, r) = (functions[0].nrows(), functions[0].ncols());
            let (mut re, mut im) = (Mat::<f64>::zeros(n, r), Mat::<f64>::zeros(n, r));
            let scale = (nodes as f64 * weight).sqrt();
            for (index, c) in data.equation.jets.iter().zip(&slopes) {
                let factor = symbol(k, index, axis) * (c * scale);
                re += faer::Scale(factor.re) * &functions[index[axis]];
                im += faer::Scale(factor.im) * &functions[index[axis]];
            }
            let complex = im.norm_max() > 0.0;
            let blocks = if complex { 2 } else { 1 };
            // [Re −Im; Im Re], and a column of data that do not matter.
            let mut rows = Mat::zeros(blocks * n, blocks * r + 1);
            for b in 0..blocks {
                rows.submatrix_mut(b * n, b * r, n, r).copy_from(&re);
            }
            if complex {
                rows.submatrix_mut(0, r, n, r).copy_from(faer::Scale(-1.0) * &im);
                rows.submatrix_mut(n, 0, n, r).copy_from(&im);
            }
            Ok(Wave { k: k.clone(), weight: pair * weight, fit: Gaussian::new(&Comm::solo(), &rows)? })
        };
        let waves = lattice[mine].iter().map(wave).collect::<Result<_>>()?;
        Ok(Some(Self { comm, model, axis, waves }))
    }

    /// Deviations of a derivative at points along the axis that is no wave. Collective.
    ///
    /// # Errors
    /// Where another rank fails.
    pub fn along(&self, points: &[f64], index: &MultiIndex) -> Result<Vec<f64>> {
        let basis = &self.model.bases[self.axis];
        let functions = whitened(basis.at(points, index[self.axis]), basis).functions.swap_remove(index[self.axis]);
        let axis = self.axis;
        let of_wave = |wave: &Wave| -> Vec<f64> {
            let mut rows = Mat::zeros(functions.nrows(), wave.fit.len());
            rows.subcols_mut(0, functions.ncols()).copy_from(&functions);
            let factor = wave.weight * symbol(&wave.k, index, axis).norm_sqr();
            wave.fit.deviations(&rows).iter().map(|d| factor * d * d).collect()
        };
        let parts: Vec<Vec<f64>> = self.waves.par_iter().map(of_wave).collect();
        let mut sum = vec![0.0; points.len()];
        for part in parts {
            sum.iter_mut().zip(part).for_each(|(s, p)| *s += p);
        }
        self.comm.all_sum(&mut sum)?;
        Ok(sum.iter().map(|v| v.sqrt()).collect())
    }

    /// Deviations of a derivative on a tensor grid of points, of which the first axis may differ by rank. Collective.
    ///
    /// # Errors
    /// Where another rank fails.
    pub fn on_grid(&self, points: &[Vec<f64>], index: &MultiIndex) -> Result<Vec<f64>> {
        let along = match self.axis {
            0 => {
                let parts = self.comm.all_gather(&points[0])?;
                let all = self.along(&parts.concat(), index)?;
                let first: usize = parts[..self.comm.rank()].iter().map(Vec::len).sum();
                all[first..first + points[0].len()].to_vec()
            }
            axis => self.along(&points[axis], index)?,
        };
        let inner: usize = points[self.axis + 1..].iter().map(Vec::len).product();
        let all: usize = points.iter().map(Vec::len).product();
        Ok((0..all).map(|i| along[i / inner % along.len()]).collect())
    }
}

/// Slopes of the equation in units of its deviation where they are the same at all nodes of all ranks. Collective.
fn constant_slopes(model: &Model, data: &Data) -> Result<Option<Vec<f64>>> {
    let at = vec![0.0; model.n_functions()];
    let slopes = model.slopes(data, &at)?.of_jets;
    let ends = |values: &Vec<f64>| {
        let (low, high) = values.iter().fold((f64::MAX, f64::MIN), |(l, h), v| (l.min(*v), h.max(*v)));
        [low, high]
    };
    let mine: Vec<f64> = slopes.iter().flat_map(ends).collect();
    let all = model.comm.all_gather(&mine)?;
    let over_ranks = |k: usize| {
        let low = all.iter().map(|of_rank| of_rank[2 * k]).fold(f64::MAX, f64::min);
        let high = all.iter().map(|of_rank| of_rank[2 * k + 1]).fold(f64::MIN, f64::max);
        (high - low <= ROUNDING * high.abs().max(low.abs())).then_some(0.5 * (low + high))
    };
    Ok((0..slopes.len()).map(over_ranks).collect())
}

/// All waves over the axes but one, of each pair k and −k one: 2π times the signed frequencies, prior variance of one of
/// the pair, and whether there are one or two.
fn lattice(model: &Model, axis: usize) -> Vec<(Vec<f64>, f64, f64)> {
    let mut all = vec![(Vec::new(), 1.0, 0.0)];
    for (a, basis) in model.bases.iter().enumerate() {
        // s² cos k(x − x′) is s²/2 of each e^{±ik(x − x′)}.
        let signed: Vec<(f64, f64)> = match a == axis {
            true => vec![(0.0, 1.0)],
            false => {
                let lines = basis.prior.frequencies.iter().zip(&basis.prior.scales);
                lines
                    .flat_map(|(xi, s)| match *xi == 0.0 {
                        true => vec![(0.0, s * s)],
                        false => vec![(TAU * xi, 0.5 * s * s), (-TAU * xi, 0.5 * s * s)],
                    })
                    .collect()
            }
        };
        let longer = |(k, weight, sign): &(Vec<f64>, f64, f64)| {
            let one = |(more, w): &(f64, f64)| {
                let sign = if *sign == 0.0 { more.signum() * f64::from(*more != 0.0) } else { *sign };
                (k.iter().copied().chain([*more]).collect(), weight * w, sign)
            };
            signed.iter().map(one).collect::<Vec<_>>()
        };
        all = all.iter().flat_map(longer).collect();
    }
    all.retain(|(_, _, sign)| *sign >= 0.0);
    all.into_iter().map(|(k, weight, sign)| (k, weight, 1.0 + sign)).collect()
}
