//! A problem and its priors as whitened unknowns: what the equation and observations say of them, linearised.
//!
//! Unknowns are x = (z, t): the coefficients z of the conditioned functions, each in units of its prior deviation, and the
//! unknown constants θ = guess + deviation · t. All have independent standard normal priors.

use convoke_cluster::{Comm, Result};
use convoke_kernels::{Buffer, Device, Philox};
use faer::Mat;
use rayon::prelude::*;

use super::basis::{AxisAt, Basis};
use super::equation::{Coordinates, Linearisation, MultiIndex};
use super::features::Prior;
use super::field::{Tensor, matrix};
use super::gaussian::Gaussian;
use super::observations::{Observations, Scattered};
use super::rows::{PointRows, kron_rows};
use super::solve::Problem;
use super::solver_error::SolverError;

/// Functions whose prior deviation is below this part of the largest are left out: noise hides them.
const TOLERANCE: f64 = 1e-9;
/// Part of the equation's terms that it is allowed to leave where nothing else is said.
const NEARLY_EXACT: f64 = 1e-6;
/// Points whose deviations are found together, at least.
const PLANE: usize = 256;
/// Random stream of errors that are put into a manufactured right-hand side.
const STREAM_EQUATION: u64 = 8;

/// What is known of an unknown constant.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Constant {
    /// Prior mean.
    pub guess: f64,
    /// Prior standard deviation.
    pub deviation: f64,
}

/// What a model is made of, apart from priors.
#[derive(Debug)]
pub struct Data {
    /// Axes, conditions, nodes.
    pub problem: Problem,
    /// The equation.
    pub equation: Linearisation,
    /// Measurements.
    pub observations: Vec<Observations>,
    /// Unknown constants.
    pub constants: Vec<Constant>,
    /// Deviation of the equation at a node, where the job gives it.
    pub equation_deviation: Option<f64>,
    /// Seed of errors to be put into the equation.
    pub noise: Option<u64>,
}

/// The whitened problem.
#[derive(Debug)]
pub struct Model {
    /// The ranks.
    pub comm: Comm,
    /// By axis.
    pub bases: Vec<Basis>,
    /// Functions at the nodes that are here, in units of their deviation.
    pub here: Vec<AxisAt>,
    grid: Coordinates,
    /// Derivatives of the lift at the nodes, by those that the equation reads.
    lifts: Vec<Vec<f64>>,
    /// Errors in the equation, in units of its deviation.
    noise: Vec<f64>,
    /// Standard deviation of the equation at a node.
    pub equation_deviation: f64,
    /// By set.
    pub observed: Vec<Observed>,
}

/// Observations of one set that are here: rows of A and the values that are to be met, in units of their deviation.
#[derive(Debug)]
pub struct Observed {
    /// Whitened functions at the points, by axis; those of the first axis over the deviation.
    pub factors: Vec<Mat<f64>>,
    /// The rows that they make.
    pub rows: PointRows,
    values: Vec<f64>,
}

/// A model linearised at some unknowns, in units of deviations, of what is here.
#[derive(Debug)]
pub struct Slopes {
    /// Of the equation at the nodes, then of the observations of each set.
    pub residuals: Vec<f64>,
    /// Of the equation with respect to the derivatives of the unknown that it reads.
    pub of_jets: Vec<Vec<f64>>,
    /// With respect to the unknown constants, these in units of their prior deviation.
    pub of_constants: Vec<Vec<f64>>,
}

impl Model {
    /// The model under these priors. Collective.
    ///
    /// # Errors
    /// Where conditions depend on each other or a decomposition does not converge, or another rank fails.
    pub fn new(comm: &Comm, data: &Data, priors: &[Prior]) -> Result<Self> {
        let axes = &data.problem.axes;
        let order = |a: usize| data.equation.jets.iter().map(|j| j[a]).max().unwrap_or(0);
        let orders: Vec<usize> = (0..axes.len()).map(order).collect();
        let bases: Vec<Basis> = axes
            .par_iter()
            .zip(priors)
            .zip(&orders)
            .map(|((axis, prior), order)| Basis::with_derivatives(axis, prior.clone(), (TOLERANCE, *order)))
            .collect::<std::result::Result<_, SolverError>>()
            .map_err(super::workload)?;
        let refs: Vec<&Basis> = bases.iter().collect();
        let rows = comm.block(axes[0].nodes.len());
        let range = |a: usize| if a == 0 { rows.clone() } else { 0..axes[a].nodes.len() };
        let at: Vec<AxisAt> =
            bases.iter().enumerate().map(|(a, b)| b.at_nodes(&axes[a].nodes, range(a), orders[a])).collect();
        let lifts =
            data.equation.jets.iter().map(|j| data.problem.faces[0].lift(&refs, &at, j)).collect::<Result<_>>()?;
        let local: Vec<Vec<f64>> = axes.iter().enumerate().map(|(a, x)| x.nodes[range(a)].to_vec()).collect();
        let here: Vec<AxisAt> = at.into_iter().zip(&bases).map(|(at, basis)| whitened(at, basis)).collect();
        let mut observed = Vec::new();
        for set in &data.observations {
            observed.push(observe(comm, &data.problem, &bases, set)?);
        }
        let inner: usize = axes[1..].iter().map(|a| a.nodes.len()).product();
        let noise = match data.noise {
            Some(seed) => {
                let random = Philox::new(seed, STREAM_EQUATION);
                (rows.start * inner..rows.end * inner).map(|i| random.normal(i as u64)).collect()
            }
            None => vec![0.0; rows.len() * inner],
        };
        let mut model = Self {
            comm: comm.clone(),
            grid: data.problem.coordinates(&local),
            bases,
            here,
            lifts,
            noise,
            equation_deviation: 1.0,
            observed,
        };
        model.equation_deviation = match data.equation_deviation {
            Some(deviation) => deviation,
            None => model.small_deviation(data)?,
        };
        Ok(model)
    }

    /// A small part of what the equation is off by at the lift.
    fn small_deviation(&self, data: &Data) -> Result<f64> {
        let start = vec![0.0; self.n_functions() + data.constants.len()];
        let values = self.equation(data, &start)?.swap_remove(0).into_vec();
        let mut sums = [values.iter().map(|v| v * v).sum(), values.len() as f64];
        self.comm.all_sum(&mut sums)?;
        match (sums[0] / sums[1]).sqrt() * NEARLY_EXACT {
            deviation if deviation > 0.0 && deviation.is_finite() => Ok(deviation),
            _ => Err(super::workload(SolverError::NoScale)),
        }
    }

    /// Number of functions, all axes together.
    pub fn n_functions(&self) -> usize {
        self.bases.iter().map(|b| b.conditioned.rank()).product()
    }

    /// Values of the unknown constants.
    pub fn constants(&self, data: &Data, x: &[f64]) -> Vec<f64> {
        let t = &x[self.n_functions()..];
        data.constants.iter().zip(t).map(|(c, t)| c.guess + c.deviation * t).collect()
    }

    /// `F` and its slopes at the nodes that are here.
    fn equation(&self, data: &Data, x: &[f64]) -> Result<Vec<Buffer<f64>>> {
        let mut jets = Vec::new();
        for (index, lift) in data.equation.jets.iter().zip(&self.lifts) {
            let functions: Vec<&Mat<f64>> = self.here.iter().zip(index).map(|(at, o)| &at.functions[*o]).collect();
            let mut u = along_all(&functions, x)?;
            u.iter_mut().zip(lift).for_each(|(u, g)| *u += g);
            jets.push(Buffer::from_vec(&Device::cpu(), u)?);
        }
        data.equation.program.run_with(&Device::cpu(), &self.grid, &mut jets, &self.constants(data, x))
    }

    /// Residuals of all data here at `x`, in units of their deviations.
    fn residuals(&self, f: &[f64], x: &[f64]) -> Vec<f64> {
        let mut r: Vec<f64> = f.iter().zip(&self.noise).map(|(f, e)| f / self.equation_deviation - e).collect();
        for set in &self.observed {
            r.extend(set.rows.times(x).iter().zip(&set.values).map(|(u, v)| u - v));
        }
        r
    }

    /// `‖x‖²` and the squared residuals of all data. Collective.
    ///
    /// # Errors
    /// Where another rank fails.
    pub fn misfit(&self, data: &Data, x: &[f64]) -> Result<f64> {
        let f = self.equation(data, x)?.swap_remove(0).into_vec();
        let mut sum = [self.residuals(&f, x).iter().map(|r| r * r).sum::<f64>()];
        self.comm.all_sum(&mut sum)?;
        Ok(sum[0] + x.iter().map(|x| x * x).sum::<f64>())
    }

    /// Residuals of all data here and slopes of the equation, at `x`.
    ///
    /// # Errors
    /// Where values are not finite.
    pub fn slopes(&self, data: &Data, x: &[f64]) -> Result<Slopes> {
        let mut outputs: Vec<Vec<f64>> = self.equation(data, x)?.into_iter().map(Buffer::into_vec).collect();
        let f = outputs.remove(0);
        let finite = f.iter().chain(outputs.iter().flatten()).all(|v| v.is_finite());
        self.comm.agree(match finite {
            true => Ok(()),
            false => Err(super::workload(SolverError::NotFinite { what: "the equation or its slope".to_owned() })),
        })?;
        let mut of_constants = outputs.split_off(data.equation.jets.len());
        for (slope, c) in of_constants.iter_mut().zip(&data.constants) {
            slope.iter_mut().for_each(|s| *s *= c.deviation / self.equation_deviation);
        }
        outputs.iter_mut().flatten().for_each(|s| *s /= self.equation_deviation);
        Ok(Slopes { residuals: self.residuals(&f, x), of_jets: outputs, of_constants })
    }

    /// Rows `[A b]` that are here, linearised at `x`.
    ///
    /// # Errors
    /// Where values are not finite.
    pub fn linearised(&self, data: &Data, x: &[f64]) -> Result<Mat<f64>> {
        let Slopes { residuals: r, of_jets, of_constants } = self.slopes(data, x)?;
        let (nz, n) = (self.n_functions(), x.len());
        let mut rows = Mat::zeros(r.len(), n + 1);
        let mut first = self.noise.len();
        for (slope, index) in of_jets.iter().zip(&data.equation.jets) {
            let functions: Vec<&Mat<f64>> = self.here.iter().zip(index).map(|(a, o)| &a.functions[*o]).collect();
            let values = kron_rows(&functions, 0..first, |i| slope[i]);
            let mut target = rows.submatrix_mut(0, 0, first, nz);
            target += values;
        }
        for (j, slope) in of_constants.iter().enumerate() {
            slope.iter().enumerate().for_each(|(i, s)| rows[(i, nz + j)] = *s);
        }
        for set in &self.observed {
            rows.submatrix_mut(first, 0, set.rows.len(), nz).copy_from(&set.rows.dense());
            first += set.rows.len();
        }
        // b = A x − r
        let at = Mat::from_fn(n, 1, |i, _| x[i]);
        let image = rows.subcols(0, n) * &at;
        for (i, r) in r.iter().enumerate() {
            rows[(i, n)] = image[(i, 0)] - r;
        }
        Ok(rows)
    }

    /// One number for each row of [`Model::linearised`], from a generator that is asked for the row's number among those of
    /// all ranks: nodes first, then the observations of each set.
    pub fn for_rows(&self, data: &Data, number: impl Fn(u64) -> f64) -> Vec<f64> {
        let inner: usize = self.grid[1..].iter().map(Vec::len).product();
        let n = data.problem.axes[0].nodes.len();
        let mut numbers: Vec<f64> = {
            let rows = self.comm.block(n);
            (rows.start * inner..rows.end * inner).map(|i| number(i as u64)).collect()
        };
        let mut first = n * inner;
        for set in &data.observations {
            let mine = self.comm.block(set.values.len());
            numbers.extend(mine.map(|i| number((first + i) as u64)));
            first += set.values.len();
        }
        numbers
    }

    /// Logarithm of the densities' factors that depend on the noise alone, for the evidence. Collective.
    ///
    /// # Errors
    /// Where another rank fails.
    pub fn log_noise(&self, data: &Data) -> Result<f64> {
        let mut counts = [self.noise.len() as f64];
        self.comm.all_sum(&mut counts)?;
        let of_set = |o: &Observations| o.values.len() as f64 * (o.deviation.ln() + 0.5 * std::f64::consts::TAU.ln());
        let equation = counts[0] * (self.equation_deviation.ln() + 0.5 * std::f64::consts::TAU.ln());
        Ok(-equation - data.observations.iter().map(of_set).sum::<f64>())
    }

    /// A derivative of `u` at the points of a tensor grid, measured from the axes' starts.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn on_grid(&self, problem: &Problem, points: &[Vec<f64>], index: &MultiIndex) -> Result<OnGrid> {
        let at: Vec<AxisAt> = self.bases.iter().zip(points).zip(index).map(|((b, p), o)| b.at(p, *o)).collect();
        let bases: Vec<&Basis> = self.bases.iter().collect();
        let lift = problem.faces[0].lift(&bases, &at, index)?;
        let functions = at.into_iter().zip(&self.bases).zip(index);
        let functions = functions.map(|((at, basis), o)| whitened(at, basis).functions.swap_remove(*o)).collect();
        Ok(OnGrid { functions, lift })
    }

    /// A derivative of `u` at scattered points for these unknowns, and its rows.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn at_scattered(
        &self,
        problem: &Problem,
        points: &Scattered,
        index: &MultiIndex,
        x: &[f64],
    ) -> Result<(Vec<f64>, PointRows)> {
        let (factors, lift) = scattered(problem, &self.bases, points, index)?;
        let rows = PointRows::new(&factors.iter().collect::<Vec<_>>());
        let values = lift.iter().zip(rows.times(x)).map(|(g, u)| g + u).collect();
        Ok((values, rows))
    }
}

/// A derivative of `u` at the points of a tensor grid, as a function of the unknowns.
#[derive(Debug)]
pub struct OnGrid {
    /// Whitened functions by axis, `points × rank`.
    functions: Vec<Mat<f64>>,
    lift: Vec<f64>,
}

impl OnGrid {
    /// Its values for these unknowns.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn values(&self, x: &[f64]) -> Result<Vec<f64>> {
        let mut u = self.changes(x)?;
        u.iter_mut().zip(&self.lift).for_each(|(u, g)| *u += g);
        Ok(u)
    }

    /// What these unknowns add to its values.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn changes(&self, x: &[f64]) -> Result<Vec<f64>> {
        along_all(&self.functions.iter().collect::<Vec<_>>(), x)
    }

    /// Its posterior deviations, some planes of the first axis at a time.
    pub fn deviations(&self, fit: &Gaussian) -> Vec<f64> {
        let functions: Vec<&Mat<f64>> = self.functions.iter().collect();
        let all = self.lift.len();
        let plane = (all / self.functions[0].nrows().max(1)).max(PLANE);
        let planes = (0..all).step_by(plane).map(|first| first..all.min(first + plane));
        planes.flat_map(|range| fit.deviations(&widened(kron_rows(&functions, range, |_| 1.0), fit.len()))).collect()
    }
}

/// The first unknowns as coefficients, times one matrix along each axis.
fn along_all(functions: &[&Mat<f64>], x: &[f64]) -> Result<Vec<f64>> {
    let host = Device::cpu();
    let shape: Vec<usize> = functions.iter().map(|f| f.ncols()).collect();
    let mut u = Tensor::new(&host, shape.clone(), x[..shape.iter().product()].to_vec())?;
    for (axis, f) in functions.iter().enumerate() {
        u = u.times(&host, axis, &mut matrix(&host, f)?)?;
    }
    Ok(u.values.into_vec())
}

/// Functions in units of their prior deviation.
pub fn whitened(mut at: AxisAt, basis: &Basis) -> AxisAt {
    for f in &mut at.functions {
        for (j, s) in basis.conditioned.deviations.iter().enumerate() {
            f.col_mut(j).iter_mut().for_each(|v| *v *= s);
        }
    }
    at
}

/// Rows over the functions as rows over all unknowns.
pub fn widened(rows: Mat<f64>, n: usize) -> Mat<f64> {
    let mut wide = Mat::zeros(rows.nrows(), n);
    wide.subcols_mut(0, rows.ncols()).copy_from(&rows);
    wide
}

/// Whitened functions at scattered points, by axis, and the lift there.
fn scattered(
    problem: &Problem,
    bases: &[Basis],
    points: &Scattered,
    index: &MultiIndex,
) -> Result<(Vec<Mat<f64>>, Vec<f64>)> {
    let at: Vec<AxisAt> = bases.iter().zip(points).zip(index).map(|((b, p), o)| b.at(p, *o)).collect();
    let refs: Vec<&Basis> = bases.iter().collect();
    let lift = problem.faces[0].lift_scattered(&refs, &at, index)?;
    let at = at.into_iter().zip(bases).zip(index);
    Ok((at.map(|((at, basis), o)| whitened(at, basis).functions.swap_remove(*o)).collect(), lift))
}

fn observe(comm: &Comm, problem: &Problem, bases: &[Basis], set: &Observations) -> Result<Observed> {
    let mine = comm.block(set.values.len());
    let points: Scattered = set.points.iter().map(|x| x[mine.clone()].to_vec()).collect();
    let (mut factors, lift) = scattered(problem, bases, &points, &set.of.index)?;
    factors[0] *= faer::Scale(1.0 / set.deviation);
    let values = set.values[mine].iter().zip(lift).map(|(v, g)| (v - g) / set.deviation).collect();
    Ok(Observed { rows: PointRows::new(&factors.iter().collect::<Vec<_>>()), factors, values })
}
