//! What a posterior writes: mean, deviations, draws, constants, intervals against a known solution.

use std::ops::Range;

use convoke_cluster::{Ctx, Region, Result, Results};
use convoke_kernels::Device;

use super::spread::Spread;
use super::{Method, Posterior, spectrum};
use crate::gp_pde::gaussian::Gaussian;
use crate::gp_pde::model::{Model, OnGrid};
use crate::gp_pde::observations::{Scattered, exact_at};
use crate::gp_pde::output::{self, Grid};
use crate::gp_pde::rows::PointRows;

/// Deviations that a 95 % interval reaches to each side.
const INTERVAL: f64 = 1.959_963_985;
/// Points of each axis at which intervals are compared with a known solution, by number of axes.
const COVERED: [usize; 4] = [499, 23, 11, 7];

/// Where deviations are asked for.
pub(super) struct Targets {
    /// The output grid, and its rows that are here.
    pub shape: Vec<usize>,
    pub rows: Range<usize>,
    pub points: Vec<Vec<f64>>,
    /// By quantity.
    pub grid: Vec<OnGrid>,
    /// The user's points; by quantity, mean and rows there.
    pub own_points: Option<Scattered>,
    pub own: Vec<(Vec<f64>, PointRows)>,
    /// Where intervals are compared with a known solution, if there is one.
    pub tested_points: Vec<Vec<f64>>,
    pub tested: Option<OnGrid>,
}

impl Posterior {
    /// Mean, deviations, samples, constants, intervals against a known solution. Collective.
    ///
    /// # Errors
    /// Where another rank or writing fails.
    pub fn finish(&mut self, ctx: &Ctx, out: &mut Results) -> Result<()> {
        let model = self.model(ctx)?;
        let x = self.unknowns(&model)?;
        out.figure("equation_deviation", model.equation_deviation)?;
        out.figure("coefficients", model.n_functions() as f64)?;
        output::priors(out, &self.statement, &self.priors(), &spectrum::periodograms(&self.statement)?)?;
        let targets = self.targets(ctx, &model, &x)?;
        let spread = match self.method {
            _ if self.failed => None,
            Method::Direct => {
                let fit = match self.fit.take() {
                    Some(fit) => fit,
                    None => Gaussian::new(&ctx.comm, &model.linearised(&self.data, &x)?)?,
                };
                out.figure("log_evidence", self.log_evidence)?;
                Some(self.direct_spread(ctx, &model, (&fit, &x), &targets)?)
            }
            Method::Iterative => Some(self.sampled_spread(ctx, &model, &x, &targets)?),
        };
        if let Some(Spread { draws, .. }) = spread.as_ref().filter(|s| s.draws > 0) {
            out.figure("deviation_draws", *draws as f64)?;
            // Of a deviation from n draws around a known mean: 1/√2n of itself.
            out.figure("deviation_relative_error", (0.5 / *draws as f64).sqrt())?;
        }
        self.write_constants(&model, spread.as_ref(), &x, out)?;
        self.write_grid(&targets, spread.as_ref(), &x, out)?;
        self.compare(ctx, &model, (&targets, spread.as_ref()), &x, out)
    }

    pub(super) fn output_grid(&self) -> Grid {
        Grid::new(&self.spec, &self.statement)
    }

    pub(super) fn n_samples(&self) -> usize {
        self.spec.posterior.as_ref().map_or(0, |p| p.samples)
    }

    fn targets(&self, ctx: &Ctx, model: &Model, x: &[f64]) -> Result<Targets> {
        let (problem, grid) = (&self.data.problem, self.output_grid());
        let shape = grid.shape();
        let rows = ctx.comm.block(shape[0]);
        let mut points = grid.points;
        points[0] = points[0][rows.clone()].to_vec();
        let outputs = &self.statement.outputs;
        let grid = outputs.iter().map(|q| model.on_grid(problem, &points, &q.index)).collect::<Result<_>>()?;
        let own_points = output::own_points(&self.spec, &self.statement, &ctx.inputs)?;
        let mut own = Vec::new();
        for quantity in outputs.iter().filter(|_| own_points.is_some()) {
            let points = own_points.as_ref().expect("filtered");
            own.push(model.at_scattered(problem, points, &quantity.index, x)?);
        }
        let tested_points = output::test_points(&self.statement, COVERED[shape.len() - 1]);
        let known = self.statement.exact().is_some();
        let zero = vec![0; shape.len()];
        let tested = known.then(|| model.on_grid(problem, &tested_points, &zero)).transpose()?;
        Ok(Targets { shape, rows, points, grid, own_points, own, tested_points, tested })
    }

    fn write_constants(&self, model: &Model, spread: Option<&Spread>, x: &[f64], out: &mut Results) -> Result<()> {
        let values = model.constants(&self.data, x);
        for (i, spec) in self.spec.unknowns.iter().enumerate() {
            out.figure(&spec.name, values[i])?;
            let Some(spread) = spread else { continue };
            let deviation = spread.constants[i] * self.data.constants[i].deviation;
            out.figure(&format!("{}_deviation", spec.name), deviation)?;
            if let Some(truth) = spec.truth {
                out.figure(&format!("{}_error_in_deviations", spec.name), (values[i] - truth) / deviation)?;
            }
        }
        Ok(())
    }

    fn write_grid(&self, targets: &Targets, spread: Option<&Spread>, x: &[f64], out: &mut Results) -> Result<()> {
        let (grid, shape) = (self.output_grid(), &targets.shape);
        let part = || (Region::rows(shape, targets.rows.clone()), true);
        for (q, (quantity, here)) in self.statement.outputs.iter().zip(&targets.grid).enumerate() {
            let (name, long_name) = output::label(quantity);
            out.array(name, shape, part(), &here.values(x)?, &grid.meaning(&long_name))?;
            if let Some((values, _)) = targets.own.get(q) {
                let long_name = format!("{long_name} at the points asked for");
                out.series(&format!("{name}_at_points"), values, "1", &long_name)?;
            }
            let Some(spread) = spread else { continue };
            let long_name = format!("posterior standard deviation of {}", quantity.name);
            out.array(&format!("{name}_deviation"), shape, part(), &spread.grid[q], &grid.meaning(&long_name))?;
            if let Some(deviations) = spread.own.get(q) {
                let long_name = format!("{long_name} there");
                out.series(&format!("{name}_deviation_at_points"), deviations, "1", &long_name)?;
            }
        }
        if let [a, b, c] = shape[..] {
            out.image("solution", [a, b, c], &grid.meaning("solution u"))?;
        }
        let Some(spread) = spread.filter(|_| self.n_samples() > 0) else { return Ok(()) };
        let many: Vec<usize> = std::iter::once(self.n_samples()).chain(shape.iter().copied()).collect();
        let meaning = grid.meaning_of_many("sample", "draws from the posterior of u");
        out.array("samples", &many, (spread.part.clone(), true), &spread.samples, &meaning)
    }

    /// Relative error of the mean, and how often 95 % intervals hold a known solution.
    fn compare(
        &self,
        ctx: &Ctx,
        model: &Model,
        (targets, spread): (&Targets, Option<&Spread>),
        x: &[f64],
        out: &mut Results,
    ) -> Result<()> {
        let (Some(exact), Some(tested)) = (self.statement.exact(), &targets.tested) else { return Ok(()) };
        let truth = |points: &[Vec<f64>]| -> Result<Vec<f64>> {
            let at = self.data.problem.coordinates(points);
            Ok(exact.run(&Device::cpu(), &at, &mut [])?.swap_remove(0).into_vec())
        };
        let zero = vec![0; self.statement.axes.len()];
        let mut points = output::test_points(&self.statement, usize::MAX);
        let rows = ctx.comm.block(points[0].len());
        points[0] = points[0][rows].to_vec();
        let mean = model.on_grid(&self.data.problem, &points, &zero)?.values(x)?;
        let mut sums = [0.0, 0.0];
        for (u, exact) in mean.iter().zip(truth(&points)?) {
            sums[0] += (u - exact).powi(2);
            sums[1] += exact.powi(2);
        }
        ctx.comm.all_sum(&mut sums)?;
        out.figure("relative_error", (sums[0] / sums[1]).sqrt())?;
        if let Some(spread) = spread {
            let (mean, truth) = (tested.values(x)?, truth(&targets.tested_points)?);
            let cases = mean.iter().zip(&truth).zip(&spread.tested);
            let inside = cases.filter(|((m, t), s)| (*m - *t).abs() <= INTERVAL * *s).count();
            out.figure("covered_by_95_percent_intervals", inside as f64 / truth.len() as f64)?;
        }
        for (i, set) in self.data.observations.iter().enumerate() {
            let (fitted, _) = model.at_scattered(&self.data.problem, &set.points, &set.of.index, x)?;
            let truth = exact_at(&set.of, &self.statement, &set.points)?;
            let off = fitted.iter().zip(&truth).map(|(f, t)| (f - t).powi(2)).sum::<f64>() / truth.len() as f64;
            out.figure(&format!("observations_{i}_error"), off.sqrt())?;
        }
        Ok(())
    }
}
