//! The posterior distribution of the solution and of unknown constants, given an equation that holds to within noise, exact
//! conditions, and noisy observations.
//!
//! The steps of a run: Gauss-Newton to the maximum of the posterior (one step where all is linear), whose curvature is
//! Laplace's approximation; then new weights of the spectrum, axis by axis, while the evidence grows. Beyond what a dense
//! factor can hold, steps are solved by iterations, moments and deviations come from draws, and no evidence is known.

pub mod price;
mod results;
mod spread;

use convoke_cluster::{BadValue, Ctx, Error, Fields, Progress, Region, Result};
use convoke_kernels::{Device, Philox};
use faer::{Mat, MatRef};

use super::features::Prior;
use super::field::{Tensor, matrix};
use super::gaussian::Gaussian;
use super::model::{Constant, Data, Model};
use super::observations;
use super::perturbed::{Perturbed, Solution};
use super::solver_error::SolverError;
use super::spec::{Method, Nodes, Spec, UnknownSpec};
use super::statement::Statement;
use super::{NAME, spectrum};

/// Ceiling of a flat prior over the highest frequency of the data.
pub const CEILING_FACTOR: f64 = 1.3;
/// A Gauss-Newton step of this length, in prior deviations, is none: by method.
const CONVERGED_AT: [f64; 2] = [1e-9, 1e-6];
/// Halvings of a step before it is given up.
const HALVINGS: usize = 20;
/// A cycle of re-weightings has to add as much to the logarithm of the evidence.
const WORTH: f64 = 0.5;
/// Coefficients of a dense factorisation that takes minutes.
pub const MOST_DIRECT: usize = 6000;
/// Cycles of re-weightings without evidence, at most: with it, four were enough (MacKay's fixed point).
pub const CYCLES: u64 = 4;
/// Draws that moments for new weights are estimated from; each averages over all other axes' coefficients, too.
pub const PROBES: usize = 8;
/// Random streams of the first sample, two more for each; and of the first draw for moments.
const STREAM_SAMPLES: u64 = 1 << 20;
const STREAM_PROBES: u64 = 1 << 40;

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
    method: Method,
    /// Whether iterations ended before they found anything.
    failed: bool,
    model: Option<Model>,
    fit: Option<Gaussian>,
}

/// The maximum of the posterior of the linearised problem.
enum Fit {
    Direct(Gaussian),
    Iterative(Solution),
}

impl Fit {
    fn mean(&self) -> &[f64] {
        match self {
            Self::Direct(fit) => &fit.mean,
            Self::Iterative(solution) => &solution.x,
        }
    }
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
        let learned: Vec<bool> =
            statement.axes.iter().map(|a| spec.prior.components.iter().all(|c| c.axis != a.name)).collect();
        let data = Data {
            problem,
            equation: statement.linearisation.clone(),
            observations,
            constants: spec.unknowns.iter().map(constant).collect(),
            equation_deviation: given,
            noise: given.filter(|_| statement.is_manufactured).map(|_| ctx.seed),
        };
        let n = priors.iter().map(Prior::n_features).product::<usize>() + spec.unknowns.len();
        let mut job = Self {
            method: spec.method(n),
            failed: false,
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
        let fall = job.method == Method::Iterative;
        let priors = priors.into_iter().enumerate();
        let priors = priors.map(|(a, prior)| if fall && job.learned[a] { job.falling(prior, a) } else { prior });
        let priors = priors.collect();
        job.set_priors(priors);
        job.best_scales = job.scales.clone();
        job.amplitudes = vec![0.0; job.n_features()];
        Ok(job)
    }

    /// Weights that fall as fast as derivatives in the equation rise, shared between the axes, so that low and high
    /// frequencies weigh about the same in it: equal weights of u would leave the low ones to the noise of the high ones,
    /// and take ten times the iterations.
    fn falling(&self, mut prior: Prior, axis: usize) -> Prior {
        let order = self.data.equation.jets.iter().map(|j| j[axis]).max().unwrap_or(0);
        let length = self.statement.boxes[axis].1;
        let lines = prior.scales.iter_mut().zip(&prior.frequencies);
        let power = order as f64 / self.learned.len() as f64;
        lines.for_each(|(s, xi)| *s /= 1.0 + (xi * length).powf(power));
        prior
    }

    /// Where no component says how large the solution is: as large as the data. Collective.
    fn scaled(&mut self, ctx: &Ctx, model: Model) -> Result<Model> {
        let first = self.sweep == 0 && self.newton == 0;
        if self.method == Method::Direct || !first || !self.learned.iter().all(|l| *l) {
            return Ok(model);
        }
        let scale = Perturbed::new(&model, &self.data, &self.unknowns(&model)?)?.scale_of_data()?;
        let mut scales = self.scales.clone();
        scales[0].iter_mut().for_each(|s| *s *= scale);
        self.rescale(scales);
        self.model(ctx)
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
        let model = self.scaled(ctx, model)?;
        let x = self.unknowns(&model)?;
        let fit = self.fitted(ctx, &model, &x)?;
        let (x, length) = self.searched(&model, &x, fit.mean())?;
        self.set_unknowns(&model, &x)?;
        self.newton += 1;
        let converged = self.data.equation.is_linear || length <= CONVERGED_AT[self.method as usize];
        let (misfit, iterations) = match &fit {
            Fit::Direct(fit) => (fit.misfit, 0),
            Fit::Iterative(solution) => (model.misfit(&self.data, &x)?, solution.iterations),
        };
        let mut done = false;
        if converged || self.newton >= self.spec.solver.newton {
            if !converged && length > 1.0 {
                let error = SolverError::NoMaximum { steps: self.newton, length };
                return Err(Error::Agreed(Box::new(Error::workload(NAME, error))));
            }
            self.newton = 0;
            done = match fit {
                Fit::Direct(fit) => {
                    self.log_evidence = fit.log_evidence() + model.log_noise(&self.data)?;
                    let done = !self.reweight(&model, &fit)?;
                    self.fit = done.then_some(fit);
                    done
                }
                Fit::Iterative(_) => !self.reweight_by_draws(ctx, &model, &x)?,
            };
            self.model = done.then_some(model);
        } else {
            self.model = Some(model);
        }
        let sweeps = self.spec.posterior.as_ref().map_or(0, |p| p.sweeps).max(1) as f64;
        let mut metrics = vec![("misfit", misfit), ("step_length", length), ("sweep", self.sweep as f64)];
        metrics.push(match self.method {
            Method::Direct => ("log_evidence", self.log_evidence.max(-1e300)),
            Method::Iterative => ("iterations", iterations as f64),
        });
        Ok(Progress {
            done,
            fraction: if done { 1.0 } else { (self.sweep as f64 / sweeps).min(0.99) },
            work: 1.0,
            metrics,
        })
    }

    /// The maximum for the problem linearised at `x`. Collective.
    fn fitted(&mut self, ctx: &Ctx, model: &Model, x: &[f64]) -> Result<Fit> {
        if self.method == Method::Direct {
            return Ok(Fit::Direct(Gaussian::new(&ctx.comm, &model.linearised(&self.data, x)?)?));
        }
        let mut system = Perturbed::new(model, &self.data, x)?;
        let b = system.b.clone();
        let solution = system.solve(&b, &vec![0.0; x.len()])?;
        let last = solution.x.clone();
        match solution.found() {
            Ok(solution) => Ok(Fit::Iterative(solution)),
            Err(error) => {
                self.failed = true;
                self.set_unknowns(model, &last)?;
                Err(error)
            }
        }
    }

    /// From `x` towards the `mean` for the linearised problem, so that the misfit falls; the new point and the length of
    /// the step.
    fn searched(&self, model: &Model, x: &[f64], mean: &[f64]) -> Result<(Vec<f64>, f64)> {
        if self.data.equation.is_linear {
            return Ok((mean.to_vec(), 0.0));
        }
        let step: Vec<f64> = mean.iter().zip(x).map(|(m, x)| m - x).collect();
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
        let root = fit.root();
        let columns = (0..root.ncols()).map(|c| root.col(c).iter().copied().collect::<Vec<f64>>());
        let (mean, covariance) = (moments(model, axis, [fit.mean.clone()]), moments(model, axis, columns));
        self.take_weights(model, axis, &mean, &covariance);
        Ok(true)
    }

    /// New weights for the next axis, its moments from draws around the maximum; false where there have been enough.
    /// Collective.
    fn reweight_by_draws(&mut self, ctx: &Ctx, model: &Model, x: &[f64]) -> Result<bool> {
        let axes: Vec<usize> = (0..self.learned.len()).filter(|a| self.learned[*a]).collect();
        let cycles = self.spec.posterior.as_ref().map_or(0, |p| p.sweeps).min(CYCLES);
        if self.sweep >= cycles * axes.len() as u64 {
            return Ok(false);
        }
        let axis = axes[(self.sweep % axes.len() as u64) as usize];
        let mut system = Perturbed::new(model, &self.data, x)?;
        let first = STREAM_PROBES + 2 * self.sweep * PROBES as u64;
        let draws = (0..PROBES).map(|s| self.draw(ctx, &mut system, model, first + 2 * s as u64));
        let draws: Vec<Vec<f64>> = draws.collect::<Result<_>>()?;
        let covariance = moments(model, axis, draws) * faer::Scale(1.0 / PROBES as f64);
        self.take_weights(model, axis, &moments(model, axis, [x.to_vec()]), &covariance);
        Ok(true)
    }

    /// What a draw differs from the maximum by, a function of the stream alone: its errors are numbered by row and by
    /// feature, so that no basis and no layout shows in it. Collective.
    fn draw(&self, ctx: &Ctx, system: &mut Perturbed<'_>, model: &Model, stream: u64) -> Result<Vec<f64>> {
        let of = |part: u64| Philox::new(ctx.seed, stream + part);
        let errors = model.for_rows(&self.data, |i| of(0).normal(i));
        let n = self.n_features() + self.constants.len();
        let normal: Vec<f64> = (0..n as u64).map(|i| of(1).normal(i)).collect();
        let (features, constants) = normal.split_at(self.n_features());
        let prior = self.projected(model, features.to_vec(), constants)?;
        Ok(system.solve(&errors, &prior)?.found()?.x)
    }

    /// New weights of an axis from second moments of its coefficients.
    fn take_weights(&mut self, model: &Model, axis: usize, mean: &Mat<f64>, covariance: &Mat<f64>) {
        let face = &self.data.problem.faces[0].data[axis];
        let single = self.learned.len() == 1;
        let known = single.then(|| &model.bases[axis].lifts * Mat::from_fn(face.len(), 1, |i, _| face[i]));
        let jeffreys = if self.spec.prior.jeffreys { 2.0 } else { 0.0 };
        let basis = &model.bases[axis];
        let others = model.n_functions() / basis.conditioned.rank().max(1);
        let mut scales = self.scales.clone();
        scales[axis] = spectrum::reweight_by_evidence(basis, (mean, covariance), others, known.as_ref(), jeffreys);
        self.rescale(scales);
        self.sweep += 1;
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
}

/// Second moments along an axis of vectors of whitened coefficients: summed over the vectors, averages over all other
/// axes' coefficients (`rank × rank`).
fn moments(model: &Model, axis: usize, vectors: impl IntoIterator<Item = Vec<f64>>) -> Mat<f64> {
    let ranks: Vec<usize> = model.bases.iter().map(|b| b.conditioned.rank()).collect();
    let (n, inner) = (ranks[axis], ranks[axis + 1..].iter().product::<usize>());
    let outer: usize = ranks[..axis].iter().product();
    let mut sum = Mat::<f64>::zeros(n, n);
    for x in vectors {
        for slab in x[..outer * n * inner].chunks_exact(n * inner) {
            let part = MatRef::from_row_major_slice(slab, n, inner);
            sum += part * part.transpose();
        }
    }
    sum * faer::Scale(1.0 / (outer * inner) as f64)
}

/// A value that the job file gets wrong only together with the number of functions.
///
/// # Errors
/// [`BadValue`] where a dense posterior would be too large.
pub fn check_size(n: usize, method: Method) -> Result<()> {
    if method == Method::Direct && n > MOST_DIRECT {
        let message = format!("a posterior of up to {n} coefficients is more than the {MOST_DIRECT} of a direct one");
        let help = "leave it out, or use fewer points or prior.ceilings below what the grid holds".to_owned();
        return Err(BadValue::wrong("problem.posterior.method", message).help(help).into());
    }
    Ok(())
}
