//! Kronecker-structured Gaussian-process solvers for partial differential equations. See `README.md` beside this file.
//!
//! The steps of a run: solve under a flat prior, with a ceiling on frequencies that the data suggest; try higher
//! ceilings while the residual between the collocation points falls; then re-weight the spectrum while it falls.

pub mod basis;
pub mod bytes;
pub mod equation;
pub mod exchange;
pub mod factor;
pub mod features;
pub mod field;
mod jobs;
pub mod krylov;
pub mod layout;
pub mod lift;
pub mod pencil;
mod plan;
pub mod separable;
pub mod share;
pub mod solve;
pub mod solver_error;
pub mod spec;
pub mod spectrum;
pub mod statement;
pub mod transforms;

use convoke_cluster::results::{Axis as ResultAxis, Meaning};
use convoke_cluster::workload::{Inputs, Resources};
use convoke_cluster::{BadValue, Ctx, Error, Fields, Plan, Progress, Region, Result, Results, Workload};
use convoke_kernels::Buffer;

use features::Prior;
use layout::{Layout, Place};
use solve::{Problem, Solver};
use solver_error::SolverError;
use spec::{Nodes, Spec};
use statement::Statement;

/// Registry name.
pub const NAME: &str = "gp-pde";

/// Factors of the data's highest frequency that the prior's ceiling tries, one after the other.
const LADDER: [f64; 6] = [1.1, 1.3, 1.7, 2.3, 3.2, 4.5];
/// The residual must fall to this part for a change of the prior to be worth it.
const WORTH: f64 = 0.5;
/// Points per wavelength below which nodes are equidistant: clustered ones are too far apart in the middle.
const SPARSE: f64 = 3.3;
/// Residual of Newton's method, relative to the solution, that is rounding.
const CONVERGED: f64 = 1e-13;
/// Points of each axis at which the residual is held out, by number of axes.
const HELD_OUT: [usize; 4] = [2000, 200, 40, 16];
/// Residual of Newton's method below which slow progress means rounding.
const STALLED: f64 = 1e-8;
/// Residual of Newton's method that is no solution.
const NOT_CONVERGED: f64 = 1e-6;
/// Points of each axis at which a known solution is compared: primes.
const TEST_POINTS: [usize; 4] = [1999, 307, 61, 23];
/// Disagreement of conditions where they meet that cannot be rounding.
const INCOMPATIBLE: f64 = 1e-3;

/// A solution under way.
#[derive(Debug)]
pub struct GpPde {
    spec: Spec,
    statement: Statement,
    problem: Problem,
    /// How nodes lie along each axis.
    nodes: Vec<Nodes>,
    /// Highest frequency of the data along each axis.
    ceilings: Vec<f64>,
    solver: Option<Solver>,
    /// Who holds which part of the field.
    layout: Layout,
    root: bool,
    now: Attempt,
    best: Attempt,
    /// Whether a first iterate exists.
    started: u64,
    /// Position in the ladder.
    rung: u64,
    /// Re-weightings done.
    sweep: u64,
    /// Newton steps under this prior.
    newton: u64,
    /// Residual after the last of them.
    newton_residual: f64,
}

/// A prior and the solution under it.
#[derive(Debug, Clone)]
struct Attempt {
    /// The field at the nodes of this rank.
    u: Vec<f64>,
    /// Held-out residual.
    residual: f64,
    /// Distance of frequencies and standard deviations, by axis.
    steps: Vec<f64>,
    scales: Vec<Vec<f64>>,
    /// Number of frequencies, for a load.
    extents: Vec<u64>,
}

impl Attempt {
    fn priors(&self) -> Vec<Prior> {
        let prior = |(step, scales): (&f64, &Vec<f64>)| Prior {
            frequencies: (0..scales.len()).map(|k| k as f64 * step).collect(),
            scales: scales.clone(),
        };
        self.steps.iter().zip(&self.scales).map(prior).collect()
    }

    fn set_priors(&mut self, priors: Vec<Prior>) {
        self.extents = priors.iter().map(|p| p.scales.len() as u64).collect();
        self.scales = priors.into_iter().map(|p| p.scales).collect();
    }

    fn fields<'a>(&'a mut self, name: &str, fields: &mut Fields<'a>, (shape, region, root): (&[usize], &Region, bool)) {
        for (axis, n) in self.extents.iter_mut().enumerate() {
            fields.counter(format!("{name}/frequencies{axis}"), n);
        }
        fields.real(format!("{name}/residual"), &mut self.residual);
        fields.array(format!("{name}/u"), shape, region.clone(), self.u.as_mut_slice());
        for (axis, scales) in self.scales.iter_mut().enumerate() {
            let n = [scales.len()];
            fields.array(format!("{name}/scales{axis}"), &n, Region::whole(&n), scales.as_mut_slice()).owned = root;
        }
    }

    fn reshape(&mut self) {
        self.scales.iter_mut().zip(&self.extents).for_each(|(s, n)| s.resize(*n as usize, 0.0));
    }
}

impl Workload for GpPde {
    const NAME: &'static str = NAME;
    const SUMMARY: &'static str = "Gaussian-process PDE solver on tensor grids: linear, nonlinear, multi-scale";
    const JOBS: &'static [(&'static str, &'static str)] = jobs::JOBS;
    type Spec = Spec;

    fn plan(spec: &Spec, _inputs: &Inputs, resources: &Resources) -> Result<Plan> {
        spec.check()?;
        let statement = Statement::read(spec)?;
        let ceilings = spectrum::ceilings(&statement)?;
        spectrum::check_grid(&statement, &ceilings)?;
        plan::plan(spec, &statement, &ceilings, resources)
    }

    fn new(spec: &Spec, ctx: &Ctx) -> Result<Self> {
        let statement = Statement::read(spec)?;
        let seen = spectrum::ceilings(&statement)?;
        spectrum::check_grid(&statement, &seen)?;
        let ceilings = given_or_seen(spec, &statement, &seen)?;
        let nodes: Vec<Nodes> = statement.axes.iter().zip(&statement.boxes).zip(&ceilings).map(choose_nodes).collect();
        let problem = statement.problem(&nodes)?;
        let priors = flat_priors(spec, &statement, &nodes, &ceilings, 0);
        let shape: Vec<usize> = statement.axes.iter().map(|a| a.points).collect();
        let grid = Place::grid(ctx.comm.size(), &shape, &plan::expected(&statement, &priors));
        let layout = Layout::new(&ctx.comm, grid)?;
        let mut now = Attempt {
            u: vec![0.0; layout.region(&shape).len()],
            residual: f64::MAX,
            steps: Vec::new(),
            scales: Vec::new(),
            extents: Vec::new(),
        };
        now.steps = priors.iter().map(|p| p.frequencies.get(1).copied().unwrap_or(1.0)).collect();
        now.set_priors(priors);
        let solver = Solver::new(&ctx.device, &layout, &problem, &now.priors())?;
        let job = Self {
            spec: spec.clone(),
            problem,
            nodes,
            ceilings,
            solver: None,
            layout,
            root: ctx.comm.is_root(),
            best: now.clone(),
            now,
            started: 0,
            rung: 0,
            sweep: 0,
            newton: 0,
            newton_residual: f64::MAX,
            statement,
        };
        let mut job = job;
        let (gap, (a, b)) = job.problem.faces.disagreement(&solver.factors)?;
        if gap > INCOMPATIBLE {
            let (a, b) = (&job.statement.axes[a].name, &job.statement.axes[b].name);
            let message = format!("the conditions along {a} and {b} disagree by {gap:.1e} of the data where they meet");
            return Err(BadValue::wrong("problem.conditions", message).into());
        }
        job.solver = Some(solver);
        Ok(job)
    }

    fn step(&mut self, ctx: &Ctx) -> Result<Progress> {
        let mut solver = self.take_solver(ctx)?;
        let equation = &self.problem.equation;
        let (mut y, residual, iterations, settled) = if equation.is_direct() {
            (solver.direct(equation)?, 0.0, 0, true)
        } else {
            // The first iterate is the lift.
            let first = self.started == 0;
            let mut y =
                if first { Buffer::zeros(&ctx.device, solver.len())? } else { solver.coefficients(&self.now.u)? };
            let step = solver.newton_step(equation, &mut y)?;
            self.newton += 1;
            // Newton's method squares errors until rounding stops it.
            let stalled = step.residual < STALLED && step.residual > 0.1 * self.newton_residual;
            self.newton_residual = step.residual;
            let settled =
                step.residual < CONVERGED || stalled || !step.improved || self.newton >= self.spec.solver.newton;
            (y, step.residual, step.krylov_iterations, settled)
        };
        self.now.u = solver.field(&mut y)?;
        self.started = 1;
        let mut done = false;
        if settled {
            if residual > NOT_CONVERGED && self.best.residual == f64::MAX {
                let error = SolverError::NoConvergence { residual, iterations: self.newton };
                return Err(Error::workload(NAME, error));
            }
            self.now.residual = solver.held_out(&self.problem, &self.held_out_points(), &mut y)?;
            (self.newton, self.newton_residual) = (0, f64::MAX);
            done = self.advance(ctx, solver)?;
        } else {
            self.solver = Some(solver);
        }
        let tries = (LADDER.len() as u64 + self.spec.solver.sweeps) as f64;
        Ok(Progress {
            done,
            fraction: if done { 1.0 } else { ((self.rung + self.sweep) as f64 / tries).min(0.99) },
            work: 1.0,
            metrics: vec![
                ("held_out_residual", if self.now.residual == f64::MAX { 1.0 } else { self.now.residual }),
                ("newton_residual", residual),
                ("gmres_iterations", iterations as f64),
                ("rung", self.rung as f64),
                ("sweep", self.sweep as f64),
            ],
        })
    }

    fn fields<'a>(&'a mut self, fields: &mut Fields<'a>) {
        let shape: Vec<usize> = self.statement.axes.iter().map(|a| a.points).collect();
        fields.counter("started", &mut self.started);
        fields.counter("rung", &mut self.rung);
        fields.counter("sweep", &mut self.sweep);
        fields.counter("newton", &mut self.newton);
        fields.real("newton_residual", &mut self.newton_residual);
        let region = self.layout.region(&shape);
        let place = (shape.as_slice(), &region, self.root);
        self.now.fields("now", fields, place);
        self.best.fields("best", fields, place);
    }

    fn reshape(&mut self, _ctx: &Ctx) -> Result<()> {
        self.solver = None;
        self.now.reshape();
        self.best.reshape();
        Ok(())
    }

    fn finish(&mut self, ctx: &Ctx, out: &mut Results) -> Result<()> {
        let mut solver = self.take_solver(ctx)?;
        let mut y = solver.coefficients(&self.now.u)?;
        out.figure("held_out_residual", self.now.residual)?;
        out.figure("coefficients", solver.n_coefficients() as f64)?;
        for (axis, (spec, prior)) in self.statement.axes.iter().zip(self.now.priors()).enumerate() {
            let name = &spec.name;
            out.series(&format!("frequency_{name}"), &prior.frequencies, "1", "cycles per unit length")?;
            out.series(&format!("deviation_{name}"), &prior.scales, "1", "prior standard deviation of the amplitude")?;
            out.figure(&format!("highest_frequency_{name}"), self.ceilings[axis])?;
        }
        self.write_solution(&mut solver, &mut y, out)?;
        self.compare_with_exact(ctx, &mut solver, &mut y, out)
    }
}

impl GpPde {
    fn take_solver(&mut self, ctx: &Ctx) -> Result<Solver> {
        match self.solver.take() {
            Some(solver) => Ok(solver),
            None => Solver::new(&ctx.device, &self.layout, &self.problem, &self.now.priors()),
        }
    }

    /// Chooses the next prior after a solve; whether the last was the end. Collective.
    fn advance(&mut self, ctx: &Ctx, solver: Solver) -> Result<bool> {
        let worth = self.now.residual <= WORTH * self.best.residual;
        let mut solver = Some(solver);
        if self.now.residual < self.best.residual {
            self.best = self.now.clone();
        } else {
            solver = None;
        }
        let good = self.best.residual <= self.spec.solver.tolerance;
        if good || (self.sweep > 0 && !worth) || self.sweep >= self.spec.solver.sweeps {
            self.now = self.best.clone();
            self.solver = solver;
            return Ok(true);
        }
        if self.sweep == 0 && worth && self.spec.prior.ceiling_factor.is_none() {
            let rung = self.rung as usize + 1;
            let priors = flat_priors(&self.spec, &self.statement, &self.nodes, &self.ceilings, rung);
            if rung < LADDER.len() && priors.iter().zip(&self.now.scales).any(|(p, s)| p.scales.len() != s.len()) {
                self.rung += 1;
                self.now.set_priors(priors);
                return Ok(false);
            }
        }
        self.now = self.best.clone();
        let solver = match solver {
            Some(solver) => solver,
            None => Solver::new(&ctx.device, &self.layout, &self.problem, &self.now.priors())?,
        };
        let priors = self.reweighted(ctx, &solver)?;
        self.now.set_priors(priors);
        self.sweep += 1;
        Ok(false)
    }

    /// New weights from the field now, axis by axis.
    fn reweighted(&self, ctx: &Ctx, solver: &Solver) -> Result<Vec<Prior>> {
        let shape: Vec<usize> = self.statement.axes.iter().map(|a| a.points).collect();
        let mut priors = Vec::new();
        for axis in 0..shape.len() {
            let field = field::whole_mode(&self.layout, &shape, axis, &self.now.u)?;
            priors.push(spectrum::reweight(&ctx.comm, &solver.factors[axis], axis, field)?);
        }
        Ok(priors)
    }

    /// Points between the collocation points.
    fn held_out_points(&self) -> Vec<Vec<f64>> {
        let most = HELD_OUT[self.problem.axes.len() - 1];
        let between = |axis: &factor::Axis| {
            let middles: Vec<f64> = axis.nodes.windows(2).map(|pair| 0.5 * (pair[0] + pair[1])).collect();
            let n = middles.len().min(most);
            (0..n).map(|i| middles[i * middles.len() / n]).collect()
        };
        self.problem.axes.iter().map(between).collect()
    }

    /// The solution on the output grid.
    fn write_solution(&self, solver: &mut Solver, y: &mut Buffer<f64>, out: &mut Results) -> Result<()> {
        let axes = &self.statement.axes;
        let shape: Vec<usize> = (0..axes.len()).map(|a| plan::output_points(&self.spec, &self.statement, a)).collect();
        let mut points = Vec::new();
        let mut meaning = Meaning { long_name: "solution u".to_owned(), unit: "1".to_owned(), axes: Vec::new() };
        for ((spec, (start, length)), n) in axes.iter().zip(&self.statement.boxes).zip(&shape) {
            let spacing = length / if spec.periodic { *n } else { n - 1 } as f64;
            points.push((0..*n).map(|i| (i as f64 * spacing).min(*length)).collect());
            meaning.axes.push(ResultAxis { name: spec.name.clone(), unit: "1".to_owned(), origin: *start, spacing });
        }
        let (_, jets) = solver.evaluate(&self.problem, &points, &[vec![0; axes.len()]], y)?;
        let u = jets.into_iter().next().map(Buffer::into_vec).unwrap_or_default();
        let part = (self.layout.region(&shape), true);
        out.array("solution", &shape, part, &u, &meaning)?;
        if let [a, b, c] = shape[..] {
            out.image("solution", [a, b, c], &meaning)?;
        }
        Ok(())
    }

    /// Relative error in L2 at points that no grid of the solver shares.
    fn compare_with_exact(&self, ctx: &Ctx, solver: &mut Solver, y: &mut Buffer<f64>, out: &mut Results) -> Result<()> {
        let Some(exact) = &self.statement.exact else { return Ok(()) };
        let n = TEST_POINTS[self.problem.axes.len() - 1];
        let golden = (5f64.sqrt() - 1.0) / 2.0;
        let points: Vec<Vec<f64>> = self
            .problem
            .axes
            .iter()
            .map(|axis| (0..n).map(|i| axis.length * (i as f64 + golden) / n as f64).collect())
            .collect();
        let (grid, mut jets) = solver.evaluate(&self.problem, &points, &[vec![0; points.len()]], y)?;
        let mut truth = exact.run(&ctx.device, &grid, &mut [])?.swap_remove(0);
        let mut sums = [0.0, 0.0];
        for (u, exact) in jets[0].host().iter().zip(truth.host()) {
            sums[0] += (u - exact).powi(2);
            sums[1] += exact.powi(2);
        }
        ctx.comm.all_sum(&mut sums)?;
        out.figure("relative_error", (sums[0] / sums[1]).sqrt())
    }
}

/// The flat priors of a rung of the ladder.
fn flat_priors(spec: &Spec, statement: &Statement, nodes: &[Nodes], ceilings: &[f64], rung: usize) -> Vec<Prior> {
    let factor = spec.prior.ceiling_factor.unwrap_or(LADDER[rung.min(LADDER.len() - 1)]);
    let axis = |a: usize| (&statement.axes[a], statement.boxes[a].1);
    (0..nodes.len()).map(|a| spectrum::prior(axis(a), nodes[a], ceilings[a], factor)).collect()
}

/// Ceilings that the job gives, or that the data show, or that the equation implies for an axis without data.
fn given_or_seen(spec: &Spec, statement: &Statement, seen: &[Option<f64>]) -> Result<Vec<f64>> {
    if let Some(given) = &spec.prior.ceilings {
        if given.len() != seen.len() || given.iter().any(|c| !(c.is_finite() && *c > 0.0)) {
            let expected = format!("{} positive frequencies, one for each axis", seen.len());
            return Err(BadValue::new("problem.prior.ceilings", format!("{given:?}"), expected).into());
        }
        return Ok(statement.order.iter().map(|i| given[*i]).collect());
    }
    Ok(seen.iter().map(|c| c.unwrap_or(0.0)).collect())
}

/// Equidistant where the axis is periodic or has few points per wavelength, clustered otherwise.
fn choose_nodes(((axis, (_, length)), ceiling): ((&spec::AxisSpec, &(f64, f64)), &f64)) -> Nodes {
    let per_wavelength = (axis.points - 1) as f64 / (length * ceiling).max(f64::MIN_POSITIVE);
    let automatic = if axis.periodic || per_wavelength < SPARSE { Nodes::Uniform } else { Nodes::Chebyshev };
    axis.nodes.unwrap_or(automatic)
}
