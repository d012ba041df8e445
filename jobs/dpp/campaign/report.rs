//! What a fit writes.

use convoke_cluster::results::{Axis, Meaning};
use convoke_cluster::sweep::VARIABLES;
use convoke_cluster::{Ctx, Region, Result, Results};
use faer::linalg::triangular_solve::solve_upper_triangular_in_place;
use faer::{Mat, Par};

use super::earlier::{DEGREES, ENRICHED};
use super::regression::{Enriched, Fitted, Regression};
use crate::dpp::fit::{Factor, Moments};

/// Sobol' indices that are figures as well; more than that are for the array alone.
const MAX_FIGURES: usize = 64;

impl Regression {
    /// Writes everything. Collective.
    ///
    /// # Errors
    /// As [`Results::array`].
    pub fn write(&mut self, ctx: &Ctx, out: &mut Results) -> Result<()> {
        if self.fitted.is_none() {
            self.solve(&ctx.comm)?;
        }
        let Some(fitted) = &self.fitted else { return Ok(()) };
        let (n, m, d, outputs) = (self.n(), self.space.len(), self.variables.len(), self.fit.outputs.len());
        let c = &fitted.all.coefficients;
        let mut table =
            |name: &str, what: &str, shape: &[usize], axes: &[&str], value: &dyn Fn(usize, usize) -> f64| {
                let width = shape[1..].iter().product::<usize>().max(1);
                let values: Vec<f64> =
                    (0..shape[0]).flat_map(|i| (0..width).map(move |j| (i, j))).map(|(i, j)| value(i, j)).collect();
                let axis = |name: &&str| Axis { name: (*name).to_owned(), unit: "1".into(), origin: 0.0, spacing: 1.0 };
                let meaning =
                    Meaning { long_name: what.to_owned(), unit: "1".into(), axes: axes.iter().map(axis).collect() };
                let root = out.is_root();
                out.array(name, shape, (Region::whole(shape), root), &values, &meaning)
            };
        let degrees: Vec<Vec<usize>> = (0..m).map(|i| self.space.indices.dense(i)).collect();
        table(DEGREES, "degree of each variable in each function", &[m, d], &["function", "variable"], &|i, j| {
            degrees[i][j] as f64
        })?;
        let of = ["function", "output"];
        table("coefficients", "coefficients in the orthonormal basis", &[m, outputs], &of, &|i, j| c[(i, j)])?;
        let noise = fitted.all.noise();
        if let Some(noise) = &noise {
            let deviation = unit_deviations(&fitted.factor);
            let value = |i: usize, j: usize| deviation[i] * noise[j].sqrt();
            table(
                "standard_errors",
                "standard errors of the coefficients, for noise of variance sigma^2/w",
                &[m, outputs],
                &of,
                &value,
            )?;
        }
        let column = |j: usize| c.col(j).iter().copied().collect::<Vec<f64>>();
        let moments: Vec<Moments> = (0..outputs).map(|j| Moments::of(&self.space.indices, &column(j))).collect();
        let of = ["output", "variable"];
        table("sobol_first", "part of the variance from each variable alone", &[outputs, d], &of, &|i, j| {
            moments[i].first[j]
        })?;
        table("sobol_total", "part of the variance that each variable takes part in", &[outputs, d], &of, &|i, j| {
            moments[i].total[j]
        })?;
        let rows = ["point", "output"];
        table("points", "points with values, as the families have them", &[n, d], &["point", "variable"], &|i, j| {
            self.points[i * d + j]
        })?;
        table("inputs", "points with values", &[n, d], &["point", "variable"], &|i, j| {
            self.variables[j].value(self.points[i * d + j])
        })?;
        table("values", "values at the points", &[n, outputs], &rows, &|i, j| self.values[(i, j)])?;
        let residual = |i: usize, j: usize| fitted.all.residuals[(i, j)] / self.weights[i].sqrt();
        table("residuals", "value less fit", &[n, outputs], &rows, &residual)?;
        if let Some(Enriched { degrees, explained }) = &fitted.enriched {
            let shape = [degrees.len(), d];
            let what = "functions of the fit, and those worth adding";
            table(ENRICHED, what, &shape, &["enriched_function", "variable"], &|i, j| degrees[i][j] as f64)?;
            let what = "part of the squared residual that an added function would explain, summed over the outputs";
            table("explained", what, &[degrees.len()], &["enriched_function"], &|i, _| explained[i])?;
        }
        if let Some(asked) = &self.asked {
            self.evaluate(asked, c, &mut table)?;
        }
        self.write_figures(&moments, noise, fitted, out)
    }

    fn write_figures(
        &self,
        moments: &[Moments],
        noise: Option<Vec<f64>>,
        fitted: &Fitted,
        out: &mut Results,
    ) -> Result<()> {
        out.series("leverages", &fitted.all.leverages, "1", "leverage of each point with a value")?;
        out.series(
            "missing",
            &self.missing.iter().map(|i| *i as f64).collect::<Vec<_>>(),
            "1",
            "numbers of the points without one",
        )?;
        let each = |of: fn(&Moments) -> f64| moments.iter().map(of).collect::<Vec<f64>>();
        out.series("mean", &each(|m| m.mean), "1", "mean of each output")?;
        out.series("deviation", &each(|m| m.variance.sqrt()), "1", "standard deviation of each output")?;
        if let Some(noise) = noise {
            out.series(
                "noise",
                &noise.iter().map(|s| s.sqrt()).collect::<Vec<_>>(),
                "1",
                "sigma of each output, for noise of variance sigma^2/w",
            )?;
        }
        let left_out = fitted.all.leave_one_out();
        if let Some(left_out) = &left_out {
            out.series(
                "leave_one_out",
                left_out,
                "1",
                "estimate of the L2 error of each output, from fits without each point",
            )?;
        }
        for (j, name) in self.fit.outputs.iter().enumerate() {
            out.figure(&format!("{name}_mean"), moments[j].mean)?;
            out.figure(&format!("{name}_deviation"), moments[j].variance.sqrt())?;
            if self.variables.len() * self.fit.outputs.len() <= MAX_FIGURES {
                for (variable, total) in self.variables.iter().zip(&moments[j].total) {
                    out.figure(&format!("{name}_sobol_total_{}", variable.name), *total)?;
                }
            }
            if let Some(left_out) = &left_out {
                out.figure(&format!("{name}_relative_error"), left_out[j] / moments[j].variance.sqrt())?;
            }
        }
        out.figure("points_with_values", self.n() as f64)?;
        out.figure("functions", self.space.len() as f64)?;
        out.figure("condition", fitted.spectrum.condition())?;
        out.figure("lambda_min", fitted.spectrum.min)?;
        out.figure("lambda_max", fitted.spectrum.max)?;
        let names: Vec<&str> = self.variables.iter().map(|v| v.name.as_str()).collect();
        out.text(VARIABLES, &names.join(","))?;
        out.text("outputs", &self.fit.outputs.join(","))?;
        out.text("holds", &self.law.0)?;
        out.text("given_up", if self.law.1.is_empty() { "nothing" } else { &self.law.1 })
    }

    /// The fit and its gradient in the user's units.
    fn evaluate(&self, asked: &[f64], c: &Mat<f64>, table: &mut Table2<'_>) -> Result<()> {
        let (d, outputs) = (self.variables.len(), c.ncols());
        let rows = asked.len() / d;
        let mut features = Mat::zeros(rows, self.space.len());
        self.space.features(asked, features.as_mut());
        let values = &features * c;
        let slopes: Vec<Mat<f64>> = (0..d)
            .map(|axis| {
                self.space.derivatives(asked, axis, features.as_mut());
                &features * c
            })
            .collect();
        let at = |i: usize, j: usize| self.variables[j].value(asked[i * d + j]);
        table("asked", "points of evaluation", &[rows, d], &["row", "variable"], &at)?;
        table("predictions", "values of the fit", &[rows, outputs], &["row", "output"], &|i, j| values[(i, j)])?;
        let gradient = |i: usize, j: usize| {
            let (output, axis) = (j / d, j % d);
            slopes[axis][(i, output)] / self.variables[axis].slope(asked[i * d + axis])
        };
        table("gradients", "derivatives of the fit", &[rows, outputs, d], &["row", "output", "variable"], &gradient)
    }
}

/// Writes a named array of a shape along axes.
type Table2<'a> = dyn FnMut(&str, &str, &[usize], &[&str], &dyn Fn(usize, usize) -> f64) -> Result<()> + 'a;

/// √((AᵀA)⁻¹)_ii: lengths of the rows of R⁻¹.
fn unit_deviations(factor: &Factor) -> Vec<f64> {
    let mut inverse = Mat::<f64>::identity(factor.r().nrows(), factor.r().nrows());
    solve_upper_triangular_in_place(factor.r(), inverse.as_mut(), Par::Seq);
    inverse.row_iter().map(|row| row.squared_norm_l2().sqrt()).collect()
}
