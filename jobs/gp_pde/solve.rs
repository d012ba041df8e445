//! The solution of one problem under given priors: one direct solve, or Newton's method with GMRES.
//!
//! With `u = w + G` (G the lift), the coefficients y of w solve `S y + Uᵀ (S G + N(w + G)) = 0`, where S is the separable
//! operator. Newton's method works on this equation multiplied by `(S + σ)⁻¹`, σ the mean of ∂N/∂u, so that what GMRES
//! sees is the identity plus a smoothing operator.
//!
//! On one rank a step stays on the device: only dot products and one sum along an axis come to the host (and all that a
//! mode without eigenvectors inverts, see `separable`). Over ranks, what travels passes through the host.

use convoke_cluster::{Comm, Error, Result};
use convoke_kernels::kronecker::{Matrix, add_combination, add_product, mode_product, multiply, norm_squared, scale};
use convoke_kernels::{Buffer, Device};
use faer::Mat;

use super::axis::Axis;
use super::basis::{AxisAt, Basis};
use super::bytes::Sender;
use super::equation::{Coordinates, Equation, MultiIndex};
use super::factor::AxisFactor;
use super::features::Prior;
use super::grid::Grid;
use super::krylov::{GmresInfo, Krylov, gmres};
use super::layout::{Coefficients, Layout};
use super::lift::{Faces, contract};
use super::observations::Scattered;
use super::separable::{Mode, Separable};
use super::share::{length_of, share};
use super::solver_error::SolverError;
use super::transforms::{PointSet, Transforms};
use super::workload;

/// Residual of the linear system at which GMRES stops, relative to the right-hand side.
const FORCING: f64 = 1e-5;
/// Halvings of a Newton step before it is given up.
const HALVINGS: usize = 12;
/// An eigenvalue this much smaller than the largest is zero.
const SINGULAR: f64 = 1e-13;

/// An eigenvalue of this size, relative to the zero-order term, is close to resonance.
const RESONANT: f64 = 1e-4;

/// What is to be solved, apart from the prior.
#[derive(Debug)]
pub struct Problem {
    /// Axes, with their conditions.
    pub axes: Vec<Axis>,
    /// Coordinate at which each axis starts.
    pub starts: Vec<f64>,
    /// The equation.
    pub equation: Equation,
    /// Data of the conditions, by case.
    pub faces: Vec<Faces>,
    /// Values of the constants that programs read, by case.
    pub cases: Vec<Vec<f64>>,
}

impl Problem {
    /// Coordinates, in the problem's units, of points that are measured from the start of their axis.
    pub fn coordinates(&self, points: &[Vec<f64>]) -> Coordinates {
        points.iter().zip(&self.starts).map(|(x, start)| x.iter().map(|x| start + x).collect()).collect()
    }
}

/// A problem with its priors, factorised.
#[derive(Debug)]
pub struct Solver {
    device: Device,
    comm: Comm,
    /// By axis.
    pub factors: Vec<AxisFactor>,
    separable: Separable,
    transforms: Transforms,
    nodes: PointSet,
    /// The nodes that are here.
    grid: Grid,
    /// What differs by case.
    cases: Vec<Case>,
    /// The case at work.
    case: usize,
    /// Eigenvalue nearest to zero, over the zero-order term.
    nearest: Option<f64>,
    /// Part of what depends on the unknown in `N` that counts: 1, or less on the way there (continuation).
    pub share: f64,
}

/// One right-hand side with its data.
#[derive(Debug)]
struct Case {
    /// Values of the constants that programs read.
    constants: Vec<f64>,
    /// The lift at the nodes that are here.
    lift: Buffer<f64>,
    /// The separable operator applied to the lift.
    fixed: Buffer<f64>,
    /// Derivatives of the lift that `N` reads.
    rest_lifts: Vec<Buffer<f64>>,
}

/// What one Newton step did.
#[derive(Debug, Clone, PartialEq)]
pub struct NewtonStep {
    /// Norm of the preconditioned residual after the step, over that of the solution's coefficients.
    pub residual: f64,
    /// What GMRES took.
    pub krylov: GmresInfo,
    /// Lengths that were tried.
    pub trials: usize,
    /// Those of them at which the equation was not finite: ranks then send each other a report.
    pub refused: usize,
    /// Whether a smaller residual was found at all.
    pub improved: bool,
}

impl Solver {
    /// Factorises. Collective.
    ///
    /// # Errors
    /// Where conditions depend on each other, the operator is singular or a decomposition does not converge.
    pub fn new(device: &Device, layout: &Layout, problem: &Problem, priors: &[Prior]) -> Result<Self> {
        let comm = &layout.comm;
        let factors: Vec<AxisFactor> = factorise(comm, &problem.axes, priors)?;
        let orders = problem.equation.max_orders();
        let analysis: Vec<Mat<f64>> = factors.iter().zip(&problem.axes).map(|(f, axis)| f.analysis(axis)).collect();
        let whole = factors.iter().map(|f| matches!(f.mode, Mode::Triangular(_))).collect();
        let transforms = Transforms::new(device, layout, &analysis, whole)?;
        let mut modes: Vec<Mode> = factors.iter().map(|f| f.mode.clone()).collect();
        modes.resize(transforms.parts.len(), Mode::Diagonal(vec![0.0]));
        for (mode, part) in modes.iter_mut().zip(&transforms.parts) {
            match mode {
                Mode::Diagonal(lambda) => *lambda = lambda[part.clone()].to_vec(),
                // Nothing of a mode that cannot be split is nothing at all.
                Mode::Triangular(_) if part.is_empty() => *mode = Mode::Diagonal(Vec::new()),
                Mode::Triangular(_) | Mode::Full(_) => {}
            }
        }
        if transforms.is_empty() {
            modes.fill(Mode::Diagonal(Vec::new()));
        }
        let separable = Separable::new(modes, problem.equation.constant);
        let at = |axis: usize, range| factors[axis].at_nodes(&problem.axes[axis], range, orders[axis]);
        let all: Vec<AxisAt> = (0..factors.len()).map(|a| at(a, 0..problem.axes[a].nodes.len())).collect();
        let nodes = transforms.points(&all)?;
        let mut here = all;
        let mut local: Vec<Vec<f64>> = problem.axes.iter().map(|a| a.nodes.clone()).collect();
        for (axis, part) in nodes.parts.iter().enumerate().take(local.len()) {
            here[axis] = here[axis].rows(part.clone());
            local[axis] = local[axis][part.clone()].to_vec();
        }
        let mut solver = Self {
            device: device.clone(),
            comm: comm.clone(),
            grid: Grid::new(device, problem.coordinates(&local))?,
            separable,
            transforms,
            nodes,
            cases: Vec::new(),
            case: 0,
            nearest: None,
            share: 1.0,
            factors,
        };
        solver.check_regular()?;
        solver.cases = (0..problem.cases.len()).map(|k| solver.lifted(problem, k, &here)).collect::<Result<_>>()?;
        Ok(solver)
    }

    /// The case that further calls are about.
    pub fn set_case(&mut self, case: usize) {
        self.case = case;
    }

    /// The lift of a case, the separable operator applied to it, and its derivatives that `N` reads.
    fn lifted(&self, problem: &Problem, case: usize, here: &[AxisAt]) -> Result<Case> {
        let bases = self.bases();
        let lift = |orders: &[usize]| problem.faces[case].lift(&bases, here, orders);
        let zero = vec![0; here.len()];
        let at_nodes = lift(&zero)?;
        let mut fixed: Vec<f64> = at_nodes.iter().map(|g| problem.equation.constant * g).collect();
        for (axis, terms) in problem.equation.axis_terms.iter().enumerate() {
            for (order, coefficient) in terms {
                let mut orders = zero.clone();
                orders[axis] = *order;
                let c = coefficient.run(&self.device, &self.grid.coordinates, &mut [])?.swap_remove(0).into_vec();
                let g = lift(&orders)?;
                fixed.iter_mut().zip(c.iter().zip(g)).for_each(|(sum, (c, g))| *sum += c * g);
            }
        }
        let buffer = |values: Vec<f64>| Ok::<_, Error>(Buffer::from_vec(&self.device, values)?);
        let rest_lifts = problem.equation.rest.jets.iter().map(|index| buffer(lift(index)?)).collect::<Result<_>>()?;
        Ok(Case { constants: problem.cases[case].clone(), lift: buffer(at_nodes)?, fixed: buffer(fixed)?, rest_lifts })
    }

    fn check_regular(&mut self) -> Result<()> {
        let (least, most) = self.separable.extremes();
        let parts = self.comm.all_gather(&[least, most])?;
        let least = parts.iter().map(|p| p[0]).fold(f64::MAX, f64::min);
        let most = parts.iter().map(|p| p[1]).fold(0.0, f64::max);
        if least <= SINGULAR * most {
            return Err(Error::Agreed(Box::new(workload(SolverError::Singular {
                smallest: least,
                ratio: least / most,
            }))));
        }
        let constant = self.separable.constant().abs();
        self.nearest = (constant > 0.0).then(|| least / constant);
        Ok(())
    }

    /// The eigenvalue nearest to zero over the equation's zero-order term, where it is small enough to worry.
    pub fn near_resonance(&self) -> Option<f64> {
        self.nearest.filter(|near| *near < RESONANT)
    }

    /// The basis of each axis.
    pub fn bases(&self) -> Vec<&Basis> {
        self.factors.iter().map(|f| &f.basis).collect()
    }

    /// Number of coefficients on all ranks.
    pub fn n_coefficients(&self) -> usize {
        self.transforms.coefficients.extents.iter().product()
    }

    /// Coefficients of all ranks.
    pub fn coefficients_of_all(&self) -> &Coefficients {
        &self.transforms.coefficients
    }

    /// This rank, for the formulas of what it sends.
    pub fn sender(&self) -> Sender<'_> {
        let place = self.transforms.place();
        Sender { place, points: &self.nodes.shape, coefficients: &self.transforms.coefficients }
    }

    /// Numbers of each axis's factor.
    pub fn factor_lengths(&self) -> Vec<usize> {
        self.factors.iter().map(length_of).collect()
    }

    /// Number of coefficients that are here.
    pub fn len(&self) -> usize {
        self.transforms.len()
    }

    /// Whether no coefficient is here.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Coefficients of `u − G`.
    ///
    /// # Errors
    /// Where the device or another rank fails.
    pub fn coefficients(&mut self, u: &[f64]) -> Result<Buffer<f64>> {
        let mut w = Buffer::from_vec(&self.device, u.to_vec())?;
        add(&self.device, -1.0, &mut self.cases[self.case].lift, &mut w)?;
        self.transforms.analyse(&self.nodes, w)
    }

    /// `w + G` at the nodes that are here.
    ///
    /// # Errors
    /// Where the device or another rank fails.
    pub fn field(&mut self, y: &mut Buffer<f64>) -> Result<Vec<f64>> {
        let mut w = self.transforms.synthesize(&mut self.nodes, &[], y)?;
        add(&self.device, 1.0, &mut self.cases[self.case].lift, &mut w)?;
        Ok(w.into_vec())
    }

    /// The solution where the equation is separable.
    ///
    /// # Errors
    /// Where the device or another rank fails.
    pub fn direct(&mut self, equation: &Equation) -> Result<Buffer<f64>> {
        let mut y = self.remainder(equation, &mut [])?;
        self.separable.solve(&self.device, 0.0, &mut y)?;
        scale(&self.device, -1.0, &mut y)?;
        Ok(y)
    }

    /// `Uᵀ (S G + N)`, given the derivatives that `N` reads.
    fn remainder(&mut self, equation: &Equation, jets: &mut [Buffer<f64>]) -> Result<Buffer<f64>> {
        let (case, device) = (&mut self.cases[self.case], &self.device);
        let mut run = |jets: &mut [Buffer<f64>]| {
            let mut jets: Vec<&mut Buffer<f64>> = jets.iter_mut().collect();
            Ok::<_, Error>(equation.rest.run_on(device, &mut self.grid, &mut jets, &case.constants)?.swap_remove(0))
        };
        let mut rest = run(jets)?;
        if self.share < 1.0 {
            let mut none: Vec<Buffer<f64>> =
                jets.iter().map(|j| Buffer::zeros(device, j.len())).collect::<std::result::Result<_, _>>()?;
            let mut alone = run(&mut none)?;
            // n ← alone + share (n − alone)
            add(device, -1.0, &mut alone, &mut rest)?;
            scale(device, self.share, &mut rest)?;
            add(device, 1.0, &mut alone, &mut rest)?;
        }
        add(device, 1.0, &mut case.fixed, &mut rest)?;
        // Numbers above 1e154 have squares that are not finite: they are looked at one by one.
        let finite = norm_squared(device, &mut rest)?.is_finite() || rest.host().iter().all(|v| v.is_finite());
        self.comm.agree(if finite {
            Ok(())
        } else {
            Err(workload(SolverError::NotFinite { what: "the equation without its derivatives".to_owned() }))
        })?;
        self.transforms.analyse(&self.nodes, rest)
    }

    /// Derivatives of `w + G` at the nodes, for each index that `N` reads.
    fn jets(&mut self, equation: &Equation, y: &mut Buffer<f64>) -> Result<Vec<Buffer<f64>>> {
        let mut jets = Vec::new();
        for (index, g) in equation.rest.jets.iter().zip(&mut self.cases[self.case].rest_lifts) {
            let mut jet = self.transforms.synthesize(&mut self.nodes, index, y)?;
            add(&self.device, 1.0, g, &mut jet)?;
            jets.push(jet);
        }
        Ok(jets)
    }

    /// `y + (S + σ)⁻¹ (Uᵀ(S G + N) − σ y)`: zero at the solution. `jets` are those at `y`.
    fn residual(
        &mut self,
        equation: &Equation,
        sigma: f64,
        y: &mut Buffer<f64>,
        mut jets: Vec<Buffer<f64>>,
    ) -> Result<Buffer<f64>> {
        let mut r = self.remainder(equation, &mut jets)?;
        drop(jets);
        add(&self.device, -sigma, y, &mut r)?;
        self.separable.solve(&self.device, sigma, &mut r)?;
        add(&self.device, 1.0, y, &mut r)?;
        Ok(r)
    }

    fn norm(&self, x: &mut Buffer<f64>) -> Result<f64> {
        let mut sum = [norm_squared(&self.device, x)?];
        self.comm.all_sum(&mut sum)?;
        Ok(sum[0].sqrt())
    }

    /// One step of Newton's method from `y`, with backtracking.
    ///
    /// # Errors
    /// Where the device or another rank fails.
    pub fn newton_step(&mut self, equation: &Equation, y: &mut Buffer<f64>) -> Result<NewtonStep> {
        let mut jets = self.jets(equation, y)?;
        let mut slopes = self.slopes(equation, &mut jets)?;
        let sigma = self.mean_slope(equation, &mut slopes)?;
        let mut r = self.residual(equation, sigma, y, jets)?;
        let before = self.norm(&mut r)?;
        let size = self.norm(y)?;
        let mut system = Linearised { solver: self, equation, slopes, sigma };
        let (mut step, krylov) = gmres(&mut system, &mut r, FORCING)?;
        let (mut length, mut refused) = (1.0, 0);
        for tried in 0..HALVINGS {
            let mut trial = y.duplicate()?;
            add(&self.device, -length, &mut step, &mut trial)?;
            let size = size.max(self.norm(&mut trial)?).max(f64::MIN_POSITIVE);
            let jets = self.jets(equation, &mut trial)?;
            let trial_residual = self.residual(equation, sigma, &mut trial, jets);
            if let Ok(mut r) = trial_residual {
                let after = self.norm(&mut r)?;
                if after <= (1.0 - 0.1 * length) * before || after <= 1e-15 * size {
                    *y = trial;
                    let residual = after / size;
                    return Ok(NewtonStep { residual, krylov, trials: tried + 1, refused, improved: true });
                }
            } else {
                refused += 1;
            }
            length *= 0.5;
        }
        let residual = before / size.max(f64::MIN_POSITIVE);
        Ok(NewtonStep { residual, krylov, trials: HALVINGS, refused, improved: false })
    }

    /// The Jacobian of `N`, given the derivatives that `N` reads.
    fn slopes(&mut self, equation: &Equation, jets: &mut [Buffer<f64>]) -> Result<Vec<Buffer<f64>>> {
        let constants = &self.cases[self.case].constants;
        let mut read: Vec<&mut Buffer<f64>> = Vec::new();
        let mut left: Vec<_> = equation.rest.jets.iter().zip(jets).map(Some).collect();
        for want in &equation.jacobian.jets {
            let position = left.iter().position(|l| l.as_ref().is_some_and(|(have, _)| *have == want));
            let (_, jet) = position.and_then(|p| left[p].take()).expect("the Jacobian reads what N reads");
            read.push(jet);
        }
        let mut slopes = equation.jacobian.run_on(&self.device, &mut self.grid, &mut read, constants)?;
        if self.share < 1.0 {
            slopes.iter_mut().try_for_each(|s| scale(&self.device, self.share, s))?;
        }
        Ok(slopes)
    }

    /// Mean over all nodes of ∂N/∂u. Sums along the first axis are what leaves the device.
    fn mean_slope(&self, equation: &Equation, slopes: &mut [Buffer<f64>]) -> Result<f64> {
        let position = equation.jacobian_of.iter().position(|index| index.iter().all(|o| *o == 0));
        let mut sums = match position {
            Some(p) => {
                let (slope, rows) = (&mut slopes[p], self.grid.coordinates[0].len());
                let columns = slope.len() / rows.max(1);
                let mut ones = Matrix::new(&self.device, 1, rows, vec![1.0; rows])?;
                let mut along = Buffer::zeros(&self.device, columns)?;
                mode_product(&self.device, &mut ones, (1, columns), slope, &mut along, false)?;
                [along.host().iter().sum::<f64>(), slope.len() as f64]
            }
            None => [0.0, 1.0],
        };
        self.comm.all_sum(&mut sums)?;
        Ok(sums[0] / sums[1])
    }

    /// The equation's residual at a tensor grid of points measured from the start of their axis, relative to the size
    /// of its largest part (root mean squares over the points). Collective.
    ///
    /// # Errors
    /// Where the device or another rank fails.
    pub fn held_out(&mut self, problem: &Problem, points: &[Vec<f64>], y: &mut Buffer<f64>) -> Result<f64> {
        let equation = &problem.equation;
        let indices: Vec<MultiIndex> = equation.residual.jets.clone();
        let (grid, mut jets) = self.evaluate(problem, points, &indices, y)?;
        let mut parts = equation.residual.run_with(&self.device, &grid, &mut jets, &problem.cases[self.case])?;
        let sums = parts.iter_mut().map(|p| norm_squared(&self.device, p));
        let mut sums: Vec<f64> = sums.collect::<std::result::Result<_, _>>()?;
        self.comm.all_sum(&mut sums)?;
        let largest = sums[1..].iter().fold(f64::MIN_POSITIVE, |m, s| m.max(*s));
        Ok((sums[0] / largest).sqrt())
    }

    /// Derivatives of the solution at the points of a tensor grid that fall to this rank (a box),
    /// with their coordinates. Collective.
    ///
    /// # Errors
    /// Where the device or another rank fails.
    pub fn evaluate(
        &mut self,
        problem: &Problem,
        points: &[Vec<f64>],
        indices: &[MultiIndex],
        y: &mut Buffer<f64>,
    ) -> Result<(Coordinates, Vec<Buffer<f64>>)> {
        let max_order = |axis: usize| indices.iter().map(|i| i[axis]).max().unwrap_or(0);
        let all: Vec<AxisAt> = (0..points.len()).map(|a| self.factors[a].at(&points[a], max_order(a))).collect();
        let mut set = self.transforms.points(&all)?;
        let mut here = all;
        let mut local = points.to_vec();
        for (axis, part) in set.parts.iter().enumerate().take(points.len()) {
            local[axis] = points[axis][part.clone()].to_vec();
            here[axis] = here[axis].rows(part.clone());
        }
        let mut jets = Vec::new();
        for index in indices {
            let mut jet = self.transforms.synthesize(&mut set, index, y)?;
            let g = problem.faces[self.case].lift(&self.bases(), &here, index)?;
            add(&self.device, 1.0, &mut Buffer::from_vec(&self.device, g)?, &mut jet)?;
            jets.push(jet);
        }
        Ok((problem.coordinates(&local), jets))
    }
}

impl Solver {
    /// A derivative of the solution at scattered points, on every rank. Collective.
    ///
    /// Bytes sent: a sum over ranks of as many numbers as points.
    ///
    /// # Errors
    /// Where the device or another rank fails.
    pub fn evaluate_scattered(
        &mut self,
        problem: &Problem,
        points: &Scattered,
        index: &MultiIndex,
        y: &mut Buffer<f64>,
    ) -> Result<Vec<f64>> {
        let at: Vec<AxisAt> = self.factors.iter().zip(points).zip(index).map(|((f, x), o)| f.at(x, *o)).collect();
        // Each rank has a part of the coefficients; a single axis has a second mode of extent 1.
        let mut functions: Vec<Mat<f64>> = at.iter().zip(index).map(|(a, o)| a.functions[*o].clone()).collect();
        functions.resize(self.transforms.parts.len(), Mat::from_fn(points[0].len(), 1, |_, _| 1.0));
        for (function, part) in functions.iter_mut().zip(&self.transforms.parts) {
            *function = function.subcols(part.start, part.len()).to_owned();
        }
        let mut values = vec![0.0; points[0].len()];
        if !self.is_empty() {
            values = contract(y.host(), &functions.iter().collect::<Vec<_>>());
        }
        self.comm.all_sum(&mut values)?;
        let lift = problem.faces[self.case].lift_scattered(&self.bases(), &at, index)?;
        Ok(values.iter().zip(lift).map(|(w, g)| w + g).collect())
    }
}

/// The preconditioned Jacobian at some iterate.
struct Linearised<'a> {
    solver: &'a mut Solver,
    equation: &'a Equation,
    slopes: Vec<Buffer<f64>>,
    sigma: f64,
}

impl Krylov for Linearised<'_> {
    /// `v + (S + σ)⁻¹ (Uᵀ Σ ∂N/∂(∂ᵅu) ∂ᵅ(U v) − σ v)`
    fn apply(&mut self, v: &mut Buffer<f64>) -> Result<Buffer<f64>> {
        let Self { solver, equation, slopes, sigma } = self;
        let mut sum: Option<Buffer<f64>> = None;
        for (index, slope) in equation.jacobian_of.iter().zip(slopes.iter_mut()) {
            let mut jet = solver.transforms.synthesize(&mut solver.nodes, index, v)?;
            match &mut sum {
                Some(sum) => add_product(&solver.device, slope, &mut jet, sum)?,
                None => {
                    multiply(&solver.device, slope, &mut jet)?;
                    sum = Some(jet);
                }
            }
        }
        let Some(sum) = sum else { return Ok(v.duplicate()?) };
        let mut image = solver.transforms.analyse(&solver.nodes, sum)?;
        add(&solver.device, -*sigma, v, &mut image)?;
        solver.separable.solve(&solver.device, *sigma, &mut image)?;
        add(&solver.device, 1.0, v, &mut image)?;
        Ok(image)
    }

    fn comm(&self) -> &Comm {
        &self.solver.comm
    }

    fn device(&self) -> &Device {
        &self.solver.device
    }
}

/// y += c x
fn add(device: &Device, c: f64, x: &mut Buffer<f64>, y: &mut Buffer<f64>) -> Result<()> {
    Ok(add_combination(device, &[c], std::slice::from_mut(x), y)?)
}

/// All axes at once, each on one rank. Collective.
fn factorise(comm: &Comm, axes: &[Axis], priors: &[Prior]) -> Result<Vec<AxisFactor>> {
    let factor = |axis: usize| match axes.len() {
        1 => AxisFactor::alone(&axes[axis], &priors[axis]),
        _ => AxisFactor::new(&axes[axis], &priors[axis]),
    };
    share(comm, priors, |axis| factor(axis).map_err(workload))
}
