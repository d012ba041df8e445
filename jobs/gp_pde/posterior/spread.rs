//! Posterior deviations of all that results ask for, and draws: from the triangular factor, from draws, or mode by mode
//! where the covariance is diagonal in the modes of all axes but one.

use convoke_cluster::{Ctx, Region, Result};
use convoke_kernels::Philox;
use faer::Mat;

use super::results::Targets;
use super::{Posterior, STREAM_SAMPLES};
use crate::gp_pde::gaussian::Gaussian;
use crate::gp_pde::model::{Model, widened};
use crate::gp_pde::perturbed::Perturbed;
use crate::gp_pde::rows::PointRows;
use crate::gp_pde::stationary::Stationary;

/// Deviations and draws.
pub(super) struct Spread {
    /// By quantity, at the rows of the output grid that are here.
    pub grid: Vec<Vec<f64>>,
    /// By quantity, at the user's points.
    pub own: Vec<Vec<f64>>,
    /// At the points where intervals are compared with a known solution.
    pub tested: Vec<f64>,
    /// Of the unknown constants, in units of their prior deviations.
    pub constants: Vec<f64>,
    /// The draws that are here, and which part of all draws that is.
    pub samples: Vec<f64>,
    pub part: Region,
    /// Draws that deviations are estimated from; 0 where they are exact.
    pub draws: usize,
}

impl Posterior {
    /// From the triangular factor: exact. Each draw is on one rank. Collective.
    pub(super) fn direct_spread(
        &self,
        ctx: &Ctx,
        model: &Model,
        (fit, x): (&Gaussian, &[f64]),
        targets: &Targets,
    ) -> Result<Spread> {
        let first = model.n_functions();
        let pick = Mat::from_fn(x.len() - first, x.len(), |i, j| f64::from(j == first + i));
        let of_points = |(_, rows): &(Vec<f64>, PointRows)| fit.deviations(&widened(rows.dense(), x.len()));
        let samples = self.n_samples();
        let mine = ctx.comm.block(samples);
        let mut shape = targets.shape.clone();
        shape.insert(0, samples);
        Ok(Spread {
            grid: targets.grid.iter().map(|here| here.deviations(fit)).collect(),
            own: targets.own.iter().map(of_points).collect(),
            tested: targets.tested.as_ref().map_or_else(Vec::new, |here| here.deviations(fit)),
            constants: fit.deviations(&pick),
            samples: if samples > 0 { self.direct_samples(ctx, model, (fit, x), samples)? } else { Vec::new() },
            part: Region::rows(&shape, mine),
            draws: 0,
        })
    }

    /// Draws of the solution on the whole grid. Perturbations are numbered by row and by feature: no basis and no layout
    /// shows in a draw.
    fn direct_samples(
        &self,
        ctx: &Ctx,
        model: &Model,
        (fit, x): (&Gaussian, &[f64]),
        samples: usize,
    ) -> Result<Vec<f64>> {
        let of = |s: usize, part: u64| Philox::new(ctx.seed, STREAM_SAMPLES + 2 * s as u64 + part);
        let rows = model.linearised(&self.data, x)?;
        let errors: Vec<Vec<f64>> = (0..samples).map(|s| model.for_rows(&self.data, |i| of(s, 0).normal(i))).collect();
        let errors = Mat::from_fn(rows.nrows(), samples, |i, s| errors[s][i]);
        let of_rows = rows.subcols(0, x.len()).transpose() * errors;
        let mut perturbations: Vec<f64> = (0..samples).flat_map(|s| of_rows.col(s).iter().copied()).collect();
        ctx.comm.all_sum(&mut perturbations)?;
        let whole = self.output_grid().points;
        let whole = model.on_grid(&self.data.problem, &whole, &vec![0; whole.len()])?;
        let mut values = Vec::new();
        for s in ctx.comm.block(samples) {
            let n = self.n_features() + self.constants.len();
            let normal: Vec<f64> = (0..n as u64).map(|i| of(s, 1).normal(i)).collect();
            let (features, constants) = normal.split_at(self.n_features());
            let mut perturbation = self.projected(model, features.to_vec(), constants)?;
            perturbation.iter_mut().zip(&perturbations[s * x.len()..]).for_each(|(p, e)| *p += e);
            // At the mode, which is the mean of the last fit up to the tolerance of the search.
            let draw = fit.sample(&perturbation);
            let draw: Vec<f64> = draw.iter().zip(&fit.mean).zip(x).map(|((s, m), x)| s - m + x).collect();
            values.extend(whole.values(&draw)?);
        }
        Ok(values)
    }

    /// From draws; exact where modes are independent of each other. Each draw is spread over the ranks. Collective.
    pub(super) fn sampled_spread(&self, ctx: &Ctx, model: &Model, x: &[f64], targets: &Targets) -> Result<Spread> {
        let samples = self.n_samples();
        let exact = Stationary::of(model, &self.data)?;
        let draws = samples.max(if exact.is_some() { 0 } else { self.spec.draws() });
        let (mut grid, mut own) = (vec![Vec::new(); targets.grid.len()], vec![Vec::new(); targets.own.len()]);
        let (mut tested, mut values) = (Vec::new(), Vec::new());
        let mut constants = Vec::new();
        if draws + self.constants.len() > 0 {
            let mut system = Perturbed::new(model, &self.data, x)?;
            for j in 0..self.constants.len() {
                // (1 + AᵀA)⁻¹ eⱼ is a column of the covariance.
                let unit: Vec<f64> = (0..x.len()).map(|i| f64::from(i == model.n_functions() + j)).collect();
                let column = system.solve(&vec![0.0; system.b.len()], &unit)?.found()?.x;
                constants.push(column[model.n_functions() + j].sqrt());
            }
            for s in 0..draws {
                let change = self.draw(ctx, &mut system, model, STREAM_SAMPLES + 2 * s as u64)?;
                if s < samples {
                    let draw: Vec<f64> = change.iter().zip(x).map(|(c, x)| c + x).collect();
                    values.extend(targets.grid[0].values(&draw)?);
                }
                for (sum, here) in grid.iter_mut().zip(&targets.grid) {
                    add_squares(sum, &here.changes(&change)?);
                }
                for (sum, (_, rows)) in own.iter_mut().zip(&targets.own) {
                    add_squares(sum, &rows.times(&change));
                }
                if let Some(here) = &targets.tested {
                    add_squares(&mut tested, &here.changes(&change)?);
                }
            }
        }
        let mut part = Region::rows(&targets.shape, targets.rows.clone());
        part.start.insert(0, 0);
        part.count.insert(0, samples);
        let mut spread = Spread { grid, own, tested, constants, samples: values, part, draws };
        match exact {
            Some(exact) => self.replace(&exact, targets, &mut spread)?,
            None => {
                let all = spread.grid.iter_mut().chain(&mut spread.own).chain([&mut spread.tested]);
                all.flatten().for_each(|square| *square = (*square / draws as f64).sqrt());
            }
        }
        Ok(spread)
    }

    /// Exact deviations instead of those from draws.
    fn replace(&self, exact: &Stationary, targets: &Targets, spread: &mut Spread) -> Result<()> {
        let quantities = &self.statement.outputs;
        for (deviations, quantity) in spread.grid.iter_mut().zip(quantities) {
            *deviations = exact.on_grid(&targets.points, &quantity.index)?;
        }
        if let Some(points) = &targets.own_points {
            for (deviations, quantity) in spread.own.iter_mut().zip(quantities) {
                *deviations = exact.along(&points[exact.axis], &quantity.index)?;
            }
        }
        if targets.tested.is_some() {
            spread.tested = exact.on_grid(&targets.tested_points, &vec![0; self.statement.axes.len()])?;
        }
        spread.draws = 0;
        Ok(())
    }
}

fn add_squares(sum: &mut Vec<f64>, values: &[f64]) {
    sum.resize(values.len(), 0.0);
    sum.iter_mut().zip(values).for_each(|(s, v)| *s += v * v);
}
