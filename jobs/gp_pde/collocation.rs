//! Collocation: the equation holds at all nodes, in the space of functions that the prior allows.
//!
//! The steps of a run: solve under a flat prior, with a ceiling on frequencies that the data suggest; try higher
//! ceilings while the residual between the collocation points falls; then re-weight the spectrum while it falls.

use std::ops::Range;

use convoke_cluster::{BadValue, Ctx, Error, Fields, Progress, Region, Result, Results};
use convoke_kernels::{Buffer, Device};

use super::features::Prior;
use super::field::{self, Tensor};
use super::output::{self, Grid};
use super::solve::{Problem, Solver};
use super::solver_error::SolverError;
use super::spec::{Nodes, Spec};
use super::statement::Statement;
use super::{NAME, factor, spectrum};

/// Factors of the data's highest frequency that the prior's ceiling tries, one after the other.
pub const LADDER: [f64; 6] = [1.1, 1.3, 1.7, 2.3, 3.2, 4.5];
/// The residual must fall to this part for a change of the prior to be worth it.
const WORTH: f64 = 0.5;
/// Residual of Newton's method, relative to the solution, that is rounding.
const CONVERGED: f64 = 1e-13;
/// Points of each axis at which the residual is held out, by number of axes.
const HELD_OUT: [usize; 4] = [2000, 200, 40, 16];
/// Residual of Newton's method below which slow progress means rounding.
const STALLED: f64 = 1e-8;
/// Residual of Newton's method that is no solution.
const NOT_CONVERGED: f64 = 1e-6;
/// Disagreement of conditions where they meet that cannot be rounding.
const INCOMPATIBLE: f64 = 1e-3;

/// A solution under way.
#[derive(Debug)]
pub struct Collocation {
    spec: Spec,
    statement: Statement,
    problem: Problem,
    /// How nodes lie along each axis.
    nodes: Vec<Nodes>,
    /// Highest frequency of the data along each axis.
    ceilings: Vec<f64>,
    solver: Option<Solver>,
    /// Rows of the first axis of the field that are here.
    rows: Range<usize>,
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

    fn fields<'a>(
        &'a mut self,
        name: &str,
        fields: &mut Fields<'a>,
        (shape, rows, root): (&[usize], &Range<usize>, bool),
    ) {
        for (axis, n) in self.extents.iter_mut().enumerate() {
            fields.counter(format!("{name}/frequencies{axis}"), n);
        }
        fields.real(format!("{name}/residual"), &mut self.residual);
        fields.array(format!("{name}/u"), shape, Region::rows(shape, rows.clone()), self.u.as_mut_slice());
        for (axis, scales) in self.scales.iter_mut().enumerate() {
            let n = [scales.len()];
            fields.array(format!("{name}/scales{axis}"), &n, Region::whole(&n), scales.as_mut_slice()).owned = root;
        }
    }

    fn reshape(&mut self) {
        self.scales.iter_mut().zip(&self.extents).for_each(|(s, n)| s.resize(*n as usize, 0.0));
    }
}

impl Collocation {
    /// The first prior, factorised. Collective.
    ///
    /// # Errors
    /// Where conditions contradict each other or the operator is singular.
    pub fn new(spec: &Spec, ctx: &Ctx, statement: Statement) -> Result<Self> {
        let (ceilings, nodes): (Vec<f64>, Vec<Nodes>) =
            super::ceilings_and_nodes(spec, &statement)?.into_iter().unzip();
        let problem = statement.problem(&nodes)?;
        let rows = ctx.comm.block(statement.axes[0].points);
        let inner: usize = statement.axes[1..].iter().map(|a| a.points).product();
        let mut now = Attempt {
            u: vec![0.0; rows.len() * inner],
            residual: f64::MAX,
            steps: Vec::new(),
            scales: Vec::new(),
            extents: Vec::new(),
        };
        let priors = priors(spec, &statement, &nodes, &ceilings, 0);
        now.steps = priors.iter().map(|p| p.frequencies.get(1).copied().unwrap_or(1.0)).collect();
        now.set_priors(priors);
        let solver = Solver::new(&ctx.device, &ctx.comm, &problem, &now.priors())?;
        let job = Self {
            spec: spec.clone(),
            problem,
            nodes,
            ceilings,
            solver: None,
            rows,
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
        let (gap, (a, b)) = job.problem.faces.disagreement(&solver.bases())?;
        if gap > INCOMPATIBLE {
            let (a, b) = (&job.statement.axes[a].name, &job.statement.axes[b].name);
            let message = format!("the conditions along {a} and {b} disagree by {gap:.1e} of the data where they meet");
            return Err(BadValue::wrong("problem.conditions", message).into());
        }
        job.solver = Some(solver);
        Ok(job)
    }

    /// One solve, or one step of Newton's method. Collective.
    ///
    /// # Errors
    /// Where the problem cannot be solved or another rank fails.
    pub fn step(&mut self, ctx: &Ctx) -> Result<Progress> {
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

    /// The state.
    pub fn fields<'a>(&'a mut self, fields: &mut Fields<'a>) {
        let shape: Vec<usize> = self.statement.axes.iter().map(|a| a.points).collect();
        fields.counter("started", &mut self.started);
        fields.counter("rung", &mut self.rung);
        fields.counter("sweep", &mut self.sweep);
        fields.counter("newton", &mut self.newton);
        fields.real("newton_residual", &mut self.newton_residual);
        let place = (shape.as_slice(), &self.rows, self.root);
        self.now.fields("now", fields, place);
        self.best.fields("best", fields, place);
    }

    /// Makes room for what the counters say.
    pub fn reshape(&mut self) {
        self.solver = None;
        self.now.reshape();
        self.best.reshape();
    }

    /// The solution, its derivatives and its error, the prior. Collective.
    ///
    /// # Errors
    /// Where another rank or writing fails.
    pub fn finish(&mut self, ctx: &Ctx, out: &mut Results) -> Result<()> {
        let mut solver = self.take_solver(ctx)?;
        let mut y = solver.coefficients(&self.now.u)?;
        out.figure("held_out_residual", self.now.residual)?;
        out.figure("coefficients", solver.n_coefficients() as f64)?;
        for (axis, ceiling) in self.statement.axes.iter().zip(&self.ceilings) {
            out.figure(&format!("highest_frequency_{}", axis.name), *ceiling)?;
        }
        output::priors(out, &self.statement, &self.now.priors(), &spectrum::periodograms(&self.statement)?)?;
        self.write_grid(ctx, &mut solver, &mut y, out)?;
        self.write_own_points(ctx, &mut solver, &mut y, out)?;
        self.compare_with_exact(ctx, &mut solver, &mut y, out)
    }

    fn take_solver(&mut self, ctx: &Ctx) -> Result<Solver> {
        match self.solver.take() {
            Some(solver) => Ok(solver),
            None => Solver::new(&ctx.device, &ctx.comm, &self.problem, &self.now.priors()),
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
            let priors = priors(&self.spec, &self.statement, &self.nodes, &self.ceilings, rung);
            if rung < LADDER.len() && priors.iter().zip(&self.now.scales).any(|(p, s)| p.scales.len() != s.len()) {
                self.rung += 1;
                self.now.set_priors(priors);
                return Ok(false);
            }
        }
        self.now = self.best.clone();
        let solver = match solver {
            Some(solver) => solver,
            None => Solver::new(&ctx.device, &ctx.comm, &self.problem, &self.now.priors())?,
        };
        let priors = self.reweighted(ctx, &solver)?;
        self.now.set_priors(priors);
        self.sweep += 1;
        Ok(false)
    }

    /// New weights from the field now, axis by axis.
    fn reweighted(&self, ctx: &Ctx, solver: &Solver) -> Result<Vec<Prior>> {
        let host = Device::cpu();
        let mut shape: Vec<usize> = self.statement.axes.iter().map(|a| a.points).collect();
        let mut priors = vec![spectrum::reweight(
            &ctx.comm,
            &solver.factors[0],
            0,
            field::whole_first_mode(&ctx.comm, shape[0], &self.now.u)?,
        )?];
        shape[0] = self.rows.len();
        for axis in 1..shape.len() {
            let field = Tensor::new(&host, shape.clone(), self.now.u.clone())?;
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

    /// The solution and its derivatives on the output grid, and how far they are from a known solution.
    fn write_grid(&self, ctx: &Ctx, solver: &mut Solver, y: &mut Buffer<f64>, out: &mut Results) -> Result<()> {
        let grid = Grid::new(&self.spec, &self.statement);
        let shape = grid.shape();
        let part = || (Region::rows(&shape, ctx.comm.block(shape[0])), true);
        let indices: Vec<_> = self.statement.outputs.iter().map(|q| q.index.clone()).collect();
        let (coordinates, fields) = solver.evaluate(&self.problem, &grid.points, &indices, y)?;
        for (quantity, field) in self.statement.outputs.iter().zip(fields) {
            let (name, long_name) = output::label(quantity);
            let mut values = field.into_vec();
            out.array(name, &shape, part(), &values, &grid.meaning(&long_name))?;
            if let Some(exact) = &quantity.exact {
                let exact = exact.run(&Device::cpu(), &coordinates, &mut [])?.swap_remove(0).into_vec();
                values.iter_mut().zip(exact).for_each(|(v, exact)| *v -= exact);
                let long_name = format!("{} minus the manufactured one", quantity.name);
                out.array(&format!("{name}_error"), &shape, part(), &values, &grid.meaning(&long_name))?;
            }
        }
        if let [a, b, c] = shape[..] {
            out.image("solution", [a, b, c], &grid.meaning("solution u"))?;
        }
        Ok(())
    }

    /// The solution and its derivatives at the user's points.
    fn write_own_points(&self, ctx: &Ctx, solver: &mut Solver, y: &mut Buffer<f64>, out: &mut Results) -> Result<()> {
        let Some(points) = output::own_points(&self.spec, &self.statement, &ctx.inputs)? else { return Ok(()) };
        for quantity in &self.statement.outputs {
            let (name, long_name) = output::label(quantity);
            let values = solver.evaluate_scattered(&self.problem, &points, &quantity.index, y)?;
            out.series(&format!("{name}_at_points"), &values, "1", &format!("{long_name} at the points asked for"))?;
        }
        Ok(())
    }

    /// Relative error in L2 at points that no grid of the solver shares.
    fn compare_with_exact(&self, ctx: &Ctx, solver: &mut Solver, y: &mut Buffer<f64>, out: &mut Results) -> Result<()> {
        let Some(exact) = self.statement.exact() else { return Ok(()) };
        let points = output::test_points(&self.statement, usize::MAX);
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

/// The priors of a rung of the ladder.
fn priors(spec: &Spec, statement: &Statement, nodes: &[Nodes], ceilings: &[f64], rung: usize) -> Vec<Prior> {
    let factor = spec.prior.ceiling_factor.unwrap_or(LADDER[rung.min(LADDER.len() - 1)]);
    (0..nodes.len()).map(|a| super::axis_prior(spec, statement, a, nodes[a], ceilings[a], factor)).collect()
}
