//! The posterior distribution of the solution and of unknown constants, given an equation that holds to within noise, exact
//! conditions, and noisy observations.
//!
//! The steps of a run: Gauss-Newton to the maximum of the posterior (one step where all is linear), whose curvature is
//! Laplace's approximation; then new weights of the spectrum, axis by axis, while the evidence grows.

use convoke_cluster::{BadValue, Ctx, Error, Fields, Progress, Region, Result, Results};
use convoke_kernels::{Device, Philox};
use faer::Mat;

use super::features::Prior;
use super::field::{Tensor, matrix};
use super::gaussian::Gaussian;
use super::model::{Constant, Data, Model};
use super::observations::{self, exact_at};
use super::output::{self, Grid};
use super::solver_error::SolverError;
use super::spec::{Nodes, Spec, UnknownSpec};
use super::statement::Statement;
use super::{NAME, spectrum};

/// Ceiling of a flat prior over the highest frequency of the data.
pub const CEILING_FACTOR: f64 = 1.3;
/// A Gauss-Newton step of this length, in prior deviations, is none.
const CONVERGED: f64 = 1e-9;
/// Halvings of a step before it is given up.
const HALVINGS: usize = 20;
/// A cycle of re-weightings has to add as much to the logarithm of the evidence.
const WORTH: f64 = 0.5;
/// Deviations that a 95 % interval reaches to each side.
const INTERVAL: f64 = 1.959_963_985;
/// Points of each axis at which intervals are compared with a known solution, by number of axes.
const COVERED: [usize; 4] = [499, 23, 11, 7];
/// Random streams of the first sample; two more for each.
const STREAM_SAMPLES: u64 = 1 << 20;

/// A posterior under way.
#[derive(Debug)]
pub struct Posterior {
    spec: Spec,
    statement: Statement,
    data: Data,
    /// Whether the spectrum of an axis is learned.
    learned: Vec<bool>,
    root: bool,
    /// Distance of frequencies by axis.
    steps: Vec<f64>,
    scales: Vec<Vec<f64>>,
    extents: Vec<u64>,
    /// Whitened amplitudes of all features, row-major over the axes: they do not depend on signs of basis functions.
    amplitudes: Vec<f64>,
    /// Unknown constants, as deviations from their guess.
    constants: Vec<f64>,
    newton: u64,
    sweep: u64,
    log_evidence: f64,
    /// At the start of the cycle of re-weightings.
    cycle_evidence: f64,
    /// The largest so far, and the deviations that had it.
    best_evidence: f64,
    best_scales: Vec<Vec<f64>>,
    /// Whether the last solve, with the best deviations, is under way.
    closing: u64,
    model: Option<Model>,
    fit: Option<Gaussian>,
}

fn constant(spec: &UnknownSpec) -> Constant {
    let deviation = spec.deviation.unwrap_or(100.0 * if spec.guess == 0.0 { 1.0 } else { spec.guess.abs() });
    Constant { guess: spec.guess, deviation }
}

impl Posterior {
    /// Reads the observations and makes the first prior. Collective.
    ///
    /// # Errors
    /// As [`observations::read`].
    pub fn new(spec: &Spec, ctx: &Ctx, statement: Statement, seen: &[Option<f64>]) -> Result<Self> {
        let first = super::first_priors(spec, &statement, seen)?;
        let nodes: Vec<Nodes> = first.iter().map(|(_, nodes, _)| *nodes).collect();
        let priors: Vec<Prior> = first.into_iter().map(|(_, _, prior)| prior).collect();
        let problem = statement.problem(&nodes)?;
        let observations = observations::read(spec, &statement, &ctx.inputs, ctx.seed)?;
        let given = spec.posterior.as_ref().and_then(|p| p.equation_deviation);
        let learned = statement.axes.iter().map(|a| spec.prior.components.iter().all(|c| c.axis != a.name)).collect();
        let data = Data {
            problem,
            equation: statement.linearisation.clone(),
            observations,
            constants: spec.unknowns.iter().map(constant).collect(),
            equation_deviation: given,
            noise: given.filter(|_| statement.is_manufactured).map(|_| ctx.seed),
        };
        let mut job = Self {
            spec: spec.clone(),
            constants: vec![0.0; spec.unknowns.len()],
            statement,
            data,
            learned,
            root: ctx.comm.is_root(),
            steps: priors.iter().map(|p| p.frequencies.get(1).copied().unwrap_or(1.0)).collect(),
            scales: Vec::new(),
            extents: Vec::new(),
            amplitudes: Vec::new(),
            newton: 0,
            sweep: 0,
            log_evidence: f64::MIN,
            cycle_evidence: f64::MIN,
            best_evidence: f64::MIN,
            best_scales: Vec::new(),
            closing: 0,
            model: None,
            fit: None,
        };
        job.set_priors(priors);
        job.best_scales = job.scales.clone();
        job.amplitudes = vec![0.0; job.n_features()];
        Ok(job)
    }

    fn set_priors(&mut self, priors: Vec<Prior>) {
        self.extents = priors.iter().map(|p| p.scales.len() as u64).collect();
        self.scales = priors.into_iter().map(|p| p.scales).collect();
    }

    fn priors(&self) -> Vec<Prior> {
        let prior = |(step, scales): (&f64, &Vec<f64>)| Prior {
            frequencies: (0..scales.len()).map(|k| k as f64 * step).collect(),
            scales: scales.clone(),
        };
        self.steps.iter().zip(&self.scales).map(prior).collect()
    }

    fn n_features(&self) -> usize {
        self.extents.iter().map(|m| 2 * *m as usize).product()
    }

    fn model(&mut self, ctx: &Ctx) -> Result<Model> {
        match self.model.take() {
            Some(model) => Ok(model),
            None => Model::new(&ctx.comm, &self.data, &self.priors()),
        }
    }

    /// The unknowns in the model's bases.
    fn unknowns(&self, model: &Model) -> Result<Vec<f64>> {
        self.projected(model, self.amplitudes.clone(), &self.constants)
    }

    /// From whitened amplitudes of all features to the model's unknowns.
    fn projected(&self, model: &Model, amplitudes: Vec<f64>, constants: &[f64]) -> Result<Vec<f64>> {
        let shape = self.extents.iter().map(|m| 2 * *m as usize).collect();
        let mut z = Tensor::new(&Device::cpu(), shape, amplitudes)?;
        for (axis, basis) in model.bases.iter().enumerate() {
            let w = basis.orthonormal();
            z = z.times(&Device::cpu(), axis, &mut matrix(&Device::cpu(), &w.transpose().to_owned())?)?;
        }
        let mut x = z.values.into_vec();
        x.extend(constants);
        Ok(x)
    }

    fn set_unknowns(&mut self, model: &Model, x: &[f64]) -> Result<()> {
        let n = model.n_functions();
        let shape = model.bases.iter().map(|b| b.conditioned.rank()).collect();
        let mut a = Tensor::new(&Device::cpu(), shape, x[..n].to_vec())?;
        for (axis, basis) in model.bases.iter().enumerate() {
            a = a.times(&Device::cpu(), axis, &mut matrix(&Device::cpu(), &basis.orthonormal())?)?;
        }
        self.amplitudes = a.values.into_vec();
        self.constants = x[n..].to_vec();
        Ok(())
    }

    /// One Gauss-Newton step, and after the last a re-weighting.
    ///
    /// # Errors
    /// Where the problem cannot be solved or another rank fails.
    pub fn step(&mut self, ctx: &Ctx) -> Result<Progress> {
        let model = self.model(ctx)?;
        let x = self.unknowns(&model)?;
        let fit = Gaussian::new(&ctx.comm, &model.linearised(&self.data, &x)?)?;
        let (x, length) = self.searched(&model, &x, &fit)?;
        self.set_unknowns(&model, &x)?;
        self.newton += 1;
        let converged = self.data.equation.is_linear || length <= CONVERGED;
        let misfit = fit.misfit;
        let mut done = false;
        if converged || self.newton >= self.spec.solver.newton {
            if !converged && length > 1.0 {
                let error = SolverError::NoMaximum { steps: self.newton, length };
                return Err(Error::Agreed(Box::new(Error::workload(NAME, error))));
            }
            self.newton = 0;
            self.log_evidence = fit.log_evidence() + model.log_noise(&self.data)?;
            done = !self.reweight(&model, &fit)?;
            if done {
                (self.model, self.fit) = (Some(model), Some(fit));
            }
        } else {
            self.model = Some(model);
        }
        let sweeps = self.spec.posterior.as_ref().map_or(0, |p| p.sweeps).max(1) as f64;
        Ok(Progress {
            done,
            fraction: if done { 1.0 } else { (self.sweep as f64 / sweeps).min(0.99) },
            work: 1.0,
            metrics: vec![
                ("log_evidence", self.log_evidence.max(-1e300)),
                ("misfit", misfit),
                ("step_length", length),
                ("sweep", self.sweep as f64),
            ],
        })
    }

    /// From `x` towards the mean of `fit`, so that the misfit falls; the new point and the length of the step.
    fn searched(&self, model: &Model, x: &[f64], fit: &Gaussian) -> Result<(Vec<f64>, f64)> {
        if self.data.equation.is_linear {
            return Ok((fit.mean.clone(), 0.0));
        }
        let step: Vec<f64> = fit.mean.iter().zip(x).map(|(m, x)| m - x).collect();
        let norm = step.iter().map(|s| s * s).sum::<f64>().sqrt();
        let before = model.misfit(&self.data, x)?;
        let mut part = 1.0;
        for _ in 0..HALVINGS {
            let trial: Vec<f64> = x.iter().zip(&step).map(|(x, s)| x + part * s).collect();
            // Half a unit in the last place of the misfit is no rise.
            if model.misfit(&self.data, &trial)? <= before * (1.0 + 1e-12) {
                return Ok((trial, part * norm));
            }
            part *= 0.5;
        }
        Ok((x.to_vec(), 0.0))
    }

    /// New weights for the next axis, or the best so far; false where the last solve had those.
    fn reweight(&mut self, model: &Model, fit: &Gaussian) -> Result<bool> {
        let axes: Vec<usize> = (0..self.learned.len()).filter(|a| self.learned[*a]).collect();
        if axes.is_empty() || self.closing > 0 {
            return Ok(false);
        }
        let is_best = self.log_evidence >= self.best_evidence;
        if is_best {
            (self.best_evidence, self.best_scales) = (self.log_evidence, self.scales.clone());
        }
        let place = (self.sweep % axes.len() as u64) as usize;
        let most = self.spec.posterior.as_ref().map_or(0, |p| p.sweeps) * axes.len() as u64;
        if self.sweep >= most || (place == 0 && self.log_evidence < self.cycle_evidence + WORTH) {
            self.closing = 1;
            if !is_best {
                self.rescale(self.best_scales.clone());
            }
            return Ok(!is_best);
        }
        if place == 0 {
            self.cycle_evidence = self.log_evidence;
        }
        let axis = axes[place];
        let face = &self.data.problem.faces[0].data[axis];
        let single = self.learned.len() == 1;
        let known = single.then(|| &model.bases[axis].lifts * Mat::from_fn(face.len(), 1, |i, _| face[i]));
        let (mean, covariance, others) = partial_moments(model, fit, axis);
        let jeffreys = if self.spec.prior.jeffreys { 2.0 } else { 0.0 };
        let (basis, moments) = (&model.bases[axis], (&mean, &covariance));
        let mut scales = self.scales.clone();
        scales[axis] = spectrum::reweight_by_evidence(basis, moments, others, known.as_ref(), jeffreys);
        self.rescale(scales);
        self.sweep += 1;
        Ok(true)
    }

    /// New deviations of the features. The function stays as it is, so amplitudes change in the other direction.
    fn rescale(&mut self, scales: Vec<Vec<f64>>) {
        for (axis, (before, after)) in self.scales.iter().zip(&scales).enumerate() {
            let ratios: Vec<f64> = before.iter().zip(after).map(|(b, a)| b / a).collect();
            let m = ratios.len();
            let inner: usize = self.scales[axis + 1..].iter().map(|s| 2 * s.len()).product();
            self.amplitudes.iter_mut().enumerate().for_each(|(i, a)| *a *= ratios[i / inner % m]);
        }
        self.scales = scales;
    }

    /// The state.
    pub fn fields<'a>(&'a mut self, fields: &mut Fields<'a>) {
        fields.counter("newton", &mut self.newton);
        fields.counter("sweep", &mut self.sweep);
        fields.real("log_evidence", &mut self.log_evidence);
        fields.real("cycle_evidence", &mut self.cycle_evidence);
        fields.real("best_evidence", &mut self.best_evidence);
        fields.counter("closing", &mut self.closing);
        for (axis, n) in self.extents.iter_mut().enumerate() {
            fields.counter(format!("frequencies{axis}"), n);
        }
        let mut replica = |name: String, values: &'a mut Vec<f64>| {
            let n = [values.len()];
            fields.array(name, &n, Region::whole(&n), values.as_mut_slice()).owned = self.root;
        };
        for (axis, scales) in self.scales.iter_mut().enumerate() {
            replica(format!("scales{axis}"), scales);
        }
        for (axis, scales) in self.best_scales.iter_mut().enumerate() {
            replica(format!("best_scales{axis}"), scales);
        }
        replica("amplitudes".to_owned(), &mut self.amplitudes);
        replica("constants".to_owned(), &mut self.constants);
    }

    /// Makes room for what the counters say.
    pub fn reshape(&mut self) {
        (self.model, self.fit) = (None, None);
        for scales in [&mut self.scales, &mut self.best_scales] {
            scales.iter_mut().zip(&self.extents).for_each(|(s, n)| s.resize(*n as usize, 0.0));
        }
        self.amplitudes = vec![0.0; self.n_features()];
    }

    /// Mean, deviations, samples, constants, intervals against a known solution. Collective.
    ///
    /// # Errors
    /// Where another rank or writing fails.
    pub fn finish(&mut self, ctx: &Ctx, out: &mut Results) -> Result<()> {
        let model = self.model(ctx)?;
        let x = self.unknowns(&model)?;
        let fit = match self.fit.take() {
            Some(fit) => fit,
            None => Gaussian::new(&ctx.comm, &model.linearised(&self.data, &x)?)?,
        };
        out.figure("log_evidence", self.log_evidence)?;
        out.figure("equation_deviation", model.equation_deviation)?;
        out.figure("coefficients", model.n_functions() as f64)?;
        self.write_constants(&model, &fit, &x, out)?;
        output::priors(out, &self.statement, &self.priors(), &spectrum::periodograms(&self.statement)?)?;
        self.write_grid(ctx, &model, &fit, &x, out)?;
        self.write_own_points(ctx, &model, &fit, &x, out)?;
        self.compare(ctx, &model, &fit, &x, out)
    }

    fn write_constants(&self, model: &Model, fit: &Gaussian, x: &[f64], out: &mut Results) -> Result<()> {
        let (n, first) = (x.len(), model.n_functions());
        let pick = Mat::from_fn(n - first, n, |i, j| f64::from(j == first + i));
        let values = model.constants(&self.data, x);
        for (i, (spec, deviation)) in self.spec.unknowns.iter().zip(fit.deviations(&pick)).enumerate() {
            let deviation = deviation * self.data.constants[i].deviation;
            out.figure(&spec.name, values[i])?;
            out.figure(&format!("{}_deviation", spec.name), deviation)?;
            if let Some(truth) = spec.truth {
                out.figure(&format!("{}_error_in_deviations", spec.name), (values[i] - truth) / deviation)?;
            }
        }
        Ok(())
    }

    fn write_grid(&self, ctx: &Ctx, model: &Model, fit: &Gaussian, x: &[f64], out: &mut Results) -> Result<()> {
        let grid = Grid::new(&self.spec, &self.statement);
        let shape = grid.shape();
        let rows = ctx.comm.block(shape[0]);
        let mut local = grid.points.clone();
        local[0] = local[0][rows.clone()].to_vec();
        let part = || (Region::rows(&shape, rows.clone()), true);
        for quantity in &self.statement.outputs {
            let (name, long_name) = output::label(quantity);
            let here = model.on_grid(&self.data.problem, &local, &quantity.index)?;
            out.array(name, &shape, part(), &here.values(x)?, &grid.meaning(&long_name))?;
            let deviation = here.deviations(fit);
            let long_name = format!("posterior standard deviation of {}", quantity.name);
            out.array(&format!("{name}_deviation"), &shape, part(), &deviation, &grid.meaning(&long_name))?;
        }
        if let [a, b, c] = shape[..] {
            out.image("solution", [a, b, c], &grid.meaning("solution u"))?;
        }
        match self.spec.posterior.as_ref().map_or(0, |p| p.samples) {
            0 => Ok(()),
            samples => self.write_samples(ctx, model, (fit, x), &grid, samples, out),
        }
    }

    /// Draws of the solution on the whole grid, each on one rank. Perturbations are numbered by row and by feature: no basis
    /// and no layout shows in a draw.
    fn write_samples(
        &self,
        ctx: &Ctx,
        model: &Model,
        (fit, x): (&Gaussian, &[f64]),
        grid: &Grid,
        samples: usize,
        out: &mut Results,
    ) -> Result<()> {
        let of = |s: usize, part: u64| Philox::new(ctx.seed, STREAM_SAMPLES + 2 * s as u64 + part);
        let rows = model.linearised(&self.data, x)?;
        let errors: Vec<Vec<f64>> = (0..samples).map(|s| model.for_rows(&self.data, |i| of(s, 0).normal(i))).collect();
        let errors = Mat::from_fn(rows.nrows(), samples, |i, s| errors[s][i]);
        let of_rows = rows.subcols(0, x.len()).transpose() * errors;
        let mut perturbations: Vec<f64> = (0..samples).flat_map(|s| of_rows.col(s).iter().copied()).collect();
        ctx.comm.all_sum(&mut perturbations)?;
        let whole = model.on_grid(&self.data.problem, &grid.points, &vec![0; grid.points.len()])?;
        let mine = ctx.comm.block(samples);
        let mut values = Vec::new();
        for s in mine.clone() {
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
        let many: Vec<usize> = std::iter::once(samples).chain(grid.shape()).collect();
        let meaning = grid.meaning_of_many("sample", "draws from the posterior of u");
        out.array("samples", &many, (Region::rows(&many, mine), true), &values, &meaning)
    }

    fn write_own_points(&self, ctx: &Ctx, model: &Model, fit: &Gaussian, x: &[f64], out: &mut Results) -> Result<()> {
        let Some(points) = output::own_points(&self.spec, &self.statement, &ctx.inputs)? else { return Ok(()) };
        for quantity in &self.statement.outputs {
            let (name, long_name) = output::label(quantity);
            let (values, rows) = model.at_scattered(&self.data.problem, &points, &quantity.index, x)?;
            out.series(&format!("{name}_at_points"), &values, "1", &format!("{long_name} at the points asked for"))?;
            let long_name = format!("posterior standard deviation of {} there", quantity.name);
            out.series(&format!("{name}_deviation_at_points"), &fit.deviations(&rows), "1", &long_name)?;
        }
        Ok(())
    }

    /// Relative error of the mean, and how often 95 % intervals hold a known solution.
    fn compare(&self, ctx: &Ctx, model: &Model, fit: &Gaussian, x: &[f64], out: &mut Results) -> Result<()> {
        let Some(exact) = self.statement.exact() else { return Ok(()) };
        let zero = vec![0; self.statement.axes.len()];
        let mut points = output::test_points(&self.statement, usize::MAX);
        let rows = ctx.comm.block(points[0].len());
        points[0] = points[0][rows].to_vec();
        let mean = model.on_grid(&self.data.problem, &points, &zero)?.values(x)?;
        let truth =
            exact.run(&Device::cpu(), &self.data.problem.coordinates(&points), &mut [])?.swap_remove(0).into_vec();
        let mut sums = [0.0, 0.0];
        for (u, exact) in mean.iter().zip(&truth) {
            sums[0] += (u - exact).powi(2);
            sums[1] += exact.powi(2);
        }
        ctx.comm.all_sum(&mut sums)?;
        out.figure("relative_error", (sums[0] / sums[1]).sqrt())?;
        let points = output::test_points(&self.statement, COVERED[zero.len() - 1]);
        let tested = model.on_grid(&self.data.problem, &points, &zero)?;
        let (mean, deviation) = (tested.values(x)?, tested.deviations(fit));
        let truth =
            exact.run(&Device::cpu(), &self.data.problem.coordinates(&points), &mut [])?.swap_remove(0).into_vec();
        let inside =
            mean.iter().zip(&truth).zip(&deviation).filter(|((m, t), s)| (*m - *t).abs() <= INTERVAL * *s).count();
        out.figure("covered_by_95_percent_intervals", inside as f64 / truth.len() as f64)?;
        for (i, set) in self.data.observations.iter().enumerate() {
            let (fitted, _) = model.at_scattered(&self.data.problem, &set.points, &set.of.index, x)?;
            let truth = exact_at(&set.of, &self.statement, &set.points)?;
            let off = fitted.iter().zip(&truth).map(|(f, t)| (f - t).powi(2)).sum::<f64>() / truth.len() as f64;
            out.figure(&format!("observations_{i}_error"), off.sqrt())?;
        }
        Ok(())
    }
}

/// Second moments of the whitened coefficients' means and deviations along an axis, averages over all other axes'
/// coefficients (`rank × rank`), and the number of these.
fn partial_moments(model: &Model, fit: &Gaussian, axis: usize) -> (Mat<f64>, Mat<f64>, usize) {
    let ranks: Vec<usize> = model.bases.iter().map(|b| b.conditioned.rank()).collect();
    let (n, inner) = (ranks[axis], ranks[axis + 1..].iter().product::<usize>());
    let outer: usize = ranks[..axis].iter().product();
    let root = fit.root();
    let (mut mean, mut covariance) = (Mat::zeros(n, n), Mat::zeros(n, n));
    for (o, i) in (0..outer).flat_map(|o| (0..inner).map(move |i| (o, i))) {
        let row = |j: usize| (o * n + j) * inner + i;
        let part = Mat::from_fn(n, 1, |j, _| fit.mean[row(j)]);
        mean += &part * part.transpose();
        let part = Mat::from_fn(n, root.ncols(), |j, c| root[(row(j), c)]);
        covariance += &part * part.transpose();
    }
    let share = faer::Scale(1.0 / (outer * inner) as f64);
    (mean * share, covariance * share, outer * inner)
}

/// A value that the job file gets wrong only together with the number of functions.
///
/// # Errors
/// [`BadValue`] where a dense posterior would be too large.
pub fn check_size(n: usize) -> Result<()> {
    /// Unknowns of a dense factorisation that takes minutes.
    const MOST: usize = 6000;
    if n > MOST {
        let message =
            format!("a posterior of up to {n} coefficients is more than the {MOST} that are worked with densely");
        let help = "use fewer points, prior.ceilings below what the grid holds, or leave out the posterior".to_owned();
        return Err(BadValue::wrong("problem.axes", message).help(help).into());
    }
    Ok(())
}
