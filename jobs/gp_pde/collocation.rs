//! Collocation: the equation holds at all nodes, in the space of functions that the prior allows.
//!
//! The steps of a run, for each window of time: solve under a flat prior, with a ceiling on frequencies that the data
//! suggest; try higher ceilings while the residual between the collocation points falls; then re-weight the spectrum while
//! it falls; then put lines where the solution has them.

mod attempt;

use convoke_cluster::{BadValue, Ctx, Error, Fields, Progress, Region, Result, Results};
use convoke_kernels::Buffer;

use attempt::Attempt;

use super::bytes::{Reads, Sender};
use super::features::Prior;
use super::field::{Tensor, whole_mode};
use super::finished::Finished;
use super::layout::{Coefficients, Layout, Place};
use super::lines;
use super::output;
use super::solve::{Problem, Solver};
use super::solver_error::SolverError;
use super::spec::{Nodes, Spec};
use super::statement::Statement;
use super::{axis, plan, spectrum, workload};

/// Factors of the data's highest frequency that the prior's ceiling tries, one after the other.
pub const LADDER: [f64; 6] = [1.1, 1.3, 1.7, 2.3, 3.2, 4.5];
/// Times that lines are put where the solution has them, at most.
pub const REFINEMENTS: u64 = 4;
/// Steps of continuation, at most.
pub const CONTINUATION: u64 = 24;
/// The residual must fall to this part for a change of the prior to be worth it.
const WORTH: f64 = 0.5;
/// Lines that are there take away more: what a few waves fit by chance lowers the residual, not the error.
const WORTH_OF_LINES: f64 = 0.1;
/// Residual from which on lines are looked for.
const BAD_ENOUGH: f64 = 1e-7;
/// Residual of Newton's method, relative to the solution, that is rounding.
const CONVERGED: f64 = 1e-13;
/// Points of each axis at which the residual is held out, by number of axes.
pub const HELD_OUT: [usize; 4] = [2000, 200, 40, 16];
/// Residual of Newton's method below which slow progress means rounding.
const STALLED: f64 = 1e-8;
/// Residual of Newton's method that is no solution.
const NOT_CONVERGED: f64 = 1e-6;
/// Disagreement of conditions where they meet that cannot be rounding.
const INCOMPATIBLE: f64 = 1e-3;
/// First step of continuation, and the smallest.
const STRIDE: (f64, f64) = (0.25, 1.0 / 64.0);

/// A solution under way.
#[derive(Debug)]
pub struct Collocation {
    spec: Spec,
    /// The whole box.
    whole: Statement,
    /// The window of it that is being solved.
    statement: Statement,
    /// How nodes lie along each axis.
    nodes: Vec<Nodes>,
    /// Highest frequency of the data along each axis.
    ceilings: Vec<f64>,
    /// The window on its grid, and factorised; made when needed.
    problem: Option<Problem>,
    solver: Option<Solver>,
    /// Who holds which part of the field.
    layout: Layout,
    root: bool,
    now: Attempt,
    best: Attempt,
    /// Data at the start of the window from the end of the one before, by case and condition.
    initial: Vec<f64>,
    /// The window that is being solved.
    window: u64,
    /// Results of the windows before.
    finished: Finished,
    /// Whether a first iterate exists.
    started: u64,
    /// Position in the ladder.
    rung: u64,
    /// Re-weightings done.
    sweep: u64,
    /// Refinements of lines done.
    refined: u64,
    /// Newton steps under this prior.
    newton: u64,
    /// Residual after the last of them.
    newton_residual: f64,
    /// Part of the nonlinear terms that counts, and of the last part that was solved.
    share: f64,
    solved_share: f64,
    /// Steps of continuation.
    continued: u64,
    /// What this attempt has done that sends something.
    pub account: Account,
}

/// Bytes that this rank was to send, by the formulas of `bytes` for what was done, and what was.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Account {
    /// By the formulas.
    pub bytes: u64,
    /// Applications of the Jacobian.
    pub applications: u64,
    /// Trials of a step that were refused: their reports are not in the formulas.
    pub refused: u64,
}

/// What a solve under one prior came to.
struct Solved {
    residual: f64,
    iterations: usize,
    settled: bool,
}

impl Collocation {
    /// The first prior, factorised. Collective.
    ///
    /// # Errors
    /// Where conditions contradict each other or the operator is singular.
    pub fn new(spec: &Spec, ctx: &Ctx, whole: Statement, seen: &[Option<f64>]) -> Result<Self> {
        let (ceilings, nodes): (Vec<f64>, Vec<Nodes>) =
            super::ceilings_and_nodes(spec, &whole, seen)?.into_iter().unzip();
        let statement = whole.in_window(0);
        let first = priors(spec, &statement, &nodes, &ceilings, 0);
        let shape: Vec<usize> = statement.axes.iter().map(|a| a.points).collect();
        let grid = Place::grid(ctx.comm.size(), &shape, &plan::expected(&statement, &first));
        let layout = Layout::new(&ctx.comm, grid)?;
        let cases = statement.cases.len();
        let now = Attempt::new(cases * layout.region(&shape).len(), first);
        let inner: usize = shape[1..].iter().product();
        let initial = vec![0.0; cases * statement.conditions_along(0) * inner];
        let mut job = Self {
            spec: spec.clone(),
            finished: Finished::new(ctx, &layout, spec, &whole)?,
            whole,
            nodes,
            ceilings,
            problem: None,
            solver: None,
            layout,
            root: ctx.comm.is_root(),
            best: now.clone(),
            now,
            initial,
            window: 0,
            started: 0,
            rung: 0,
            sweep: 0,
            refined: 0,
            newton: 0,
            newton_residual: f64::MAX,
            share: 1.0,
            solved_share: 0.0,
            continued: 0,
            account: Account::default(),
            statement,
        };
        let (problem, solver) = job.take(ctx)?;
        let (gap, (a, b)) = problem.faces[0].disagreement(&solver.bases())?;
        if gap > INCOMPATIBLE {
            let (a, b) = (&job.statement.axes[a].name, &job.statement.axes[b].name);
            let message = format!("the conditions along {a} and {b} disagree by {gap:.1e} of the data where they meet");
            return Err(BadValue::wrong("problem.conditions", message).into());
        }
        if let Some(near) = solver.near_resonance() {
            ctx.notes.add(format!(
                "the equation is close to resonance: its eigenvalue nearest to zero is {near:.1e} of its zero-order \
                 term, and errors of the data grow by the inverse"
            ));
        }
        job.put(problem, Some(solver));
        Ok(job)
    }

    /// The problem and its factors under the prior now.
    fn take(&mut self, ctx: &Ctx) -> Result<(Problem, Solver)> {
        let problem = match self.problem.take() {
            Some(problem) => problem,
            None => {
                let mut problem = self.statement.problem(&self.nodes)?;
                if self.window > 0 {
                    let each = self.initial.len() / problem.faces.len();
                    for (faces, initial) in problem.faces.iter_mut().zip(self.initial.chunks_exact(each)) {
                        faces.data[0] = initial.to_vec();
                    }
                }
                problem
            }
        };
        let mut solver = match self.solver.take() {
            Some(solver) => solver,
            None => self.factorised(ctx, &problem)?,
        };
        solver.share = self.share;
        Ok((problem, solver))
    }

    /// The problem under the prior now. Collective.
    fn factorised(&mut self, ctx: &Ctx, problem: &Problem) -> Result<Solver> {
        let solver = Solver::new(&ctx.device, &self.layout, problem, &self.now.priors())?;
        self.account.bytes += solver.sender().set_up(&solver.factor_lengths());
        Ok(solver)
    }

    fn put(&mut self, problem: Problem, solver: Option<Solver>) {
        (self.problem, self.solver) = (Some(problem), solver);
    }

    /// One solve, or one step of Newton's method. Collective.
    ///
    /// # Errors
    /// Where the problem cannot be solved or another rank fails.
    ///
    /// # Panics
    /// In a debug build, where this rank sent another number of bytes than the formulas say.
    pub fn step(&mut self, ctx: &Ctx) -> Result<Progress> {
        let before = (ctx.comm.traffic().bytes, self.account);
        let progress = self.take_step(ctx)?;
        let (counted, due) = (ctx.comm.traffic().bytes - before.0, self.account.bytes - before.1.bytes);
        debug_assert!(self.account.refused > before.1.refused || counted == due, "{counted} bytes sent, {due} due");
        Ok(progress)
    }

    fn take_step(&mut self, ctx: &Ctx) -> Result<Progress> {
        let (problem, mut solver) = self.take(ctx)?;
        let direct = problem.equation.is_direct();
        let solved =
            if direct { self.solve_directly(&problem, &mut solver)? } else { self.newton(ctx, &problem, &mut solver)? };
        self.started = 1;
        let mut done = false;
        if !solved.settled || self.must_continue(ctx, &problem, &mut solver, &solved)? {
            self.put(problem, Some(solver));
        } else {
            (self.newton, self.newton_residual) = (0, f64::MAX);
            done = self.advance(ctx, problem, solver)?;
        }
        let tries = (LADDER.len() as u64 + self.spec.solver.sweeps) as f64;
        let part = ((self.rung + self.sweep) as f64 / tries).min(0.99);
        Ok(Progress {
            done,
            fraction: if done { 1.0 } else { (self.window as f64 + part) / self.whole.windows as f64 },
            work: 1.0,
            metrics: vec![
                ("held_out_residual", if self.now.residual == f64::MAX { 1.0 } else { self.now.residual }),
                ("newton_residual", solved.residual),
                ("gmres_iterations", solved.iterations as f64),
                ("rung", self.rung as f64),
                ("sweep", self.sweep as f64),
                ("refinement", self.refined as f64),
                ("share", self.share),
                ("window", self.window as f64),
            ],
        })
    }

    /// All cases by one solve each.
    fn solve_directly(&mut self, problem: &Problem, solver: &mut Solver) -> Result<Solved> {
        self.now.u.clear();
        self.now.residual = 0.0;
        for case in 0..problem.cases.len() {
            solver.set_case(case);
            let mut y = solver.direct(&problem.equation)?;
            self.now.u.extend(solver.field(&mut y)?);
            let residual = self.held_out(problem, solver, &mut y)?;
            self.now.residual = self.now.residual.max(residual);
            self.account.bytes += solver.sender().down() + solver.sender().up();
        }
        Ok(Solved { residual: 0.0, iterations: 0, settled: true })
    }

    /// One step of Newton's method; the residual between the nodes where it is the last.
    fn newton(&mut self, ctx: &Ctx, problem: &Problem, solver: &mut Solver) -> Result<Solved> {
        // The first iterate is the lift.
        let first = self.started == 0;
        let mut y = if first { Buffer::zeros(&ctx.device, solver.len())? } else { solver.coefficients(&self.now.u)? };
        let step = solver.newton_step(&problem.equation, &mut y)?;
        let sender = solver.sender();
        self.account.bytes += if first { 0 } else { sender.down() } + sender.up();
        self.account.bytes += sender.newton(Reads::of(&problem.equation), &step.krylov, step.trials);
        self.account.applications += step.krylov.applications() as u64;
        self.account.refused += step.refused as u64;
        self.newton += 1;
        // Newton's method squares errors until rounding stops it.
        let stalled = step.residual < STALLED && step.residual > 0.1 * self.newton_residual;
        self.newton_residual = step.residual;
        let on_the_way = self.share < 1.0 && step.residual < NOT_CONVERGED;
        let settled = step.residual < CONVERGED
            || stalled
            || on_the_way
            || !step.improved
            || self.newton >= self.spec.solver.newton;
        self.now.u = solver.field(&mut y)?;
        if settled {
            self.now.residual = self.held_out(problem, solver, &mut y)?;
        }
        Ok(Solved { residual: step.residual, iterations: step.krylov.iterations(), settled })
    }

    /// The residual between the nodes. Collective.
    fn held_out(&mut self, problem: &Problem, solver: &mut Solver, y: &mut Buffer<f64>) -> Result<f64> {
        let points = held_out_points(problem);
        let extents: Vec<usize> = points.iter().map(Vec::len).collect();
        self.account.bytes += solver.sender().held_out(Reads::of(&problem.equation), &extents);
        solver.held_out(problem, &points, y)
    }

    /// Whether the nonlinear terms have to be taken in parts, or more of them now: continuation from the linear problem.
    fn must_continue(&mut self, ctx: &Ctx, problem: &Problem, solver: &mut Solver, solved: &Solved) -> Result<bool> {
        let failed = solved.residual > NOT_CONVERGED;
        let first = self.best.residual == f64::MAX;
        if !failed && self.share == 1.0 {
            return Ok(false);
        }
        if failed && !first {
            // The best so far stands; this attempt counts as one without gain.
            self.now.residual = f64::MAX;
            return Ok(false);
        }
        self.continued += 1;
        let stride = if failed { 0.5 * (self.share - self.solved_share) } else { STRIDE.0 };
        let from_linear = failed && self.share == 1.0 && self.solved_share == 0.0 && self.continued == 1;
        if failed && !from_linear && (stride < STRIDE.1 || self.continued > CONTINUATION) {
            self.collect(ctx, problem, solver)?;
            let error = SolverError::NoConvergence { residual: solved.residual, iterations: self.newton };
            return Err(Error::Agreed(Box::new(workload(error))));
        }
        if from_linear {
            ctx.notes.add("Newton's method did not converge at once: nonlinear terms are taken in parts".to_owned());
            self.share = 0.0;
        } else if failed {
            self.share = self.solved_share + stride;
        } else {
            self.solved_share = self.share;
            self.best.u.clone_from(&self.now.u);
            self.share = (self.share + stride).min(1.0);
        }
        if failed && !from_linear {
            self.now.u.clone_from(&self.best.u);
        } else if from_linear {
            self.started = 0;
        }
        (self.newton, self.newton_residual) = (0, f64::MAX);
        solver.share = self.share;
        Ok(true)
    }

    /// Chooses the next prior after a solve; whether the last was the end. Collective.
    fn advance(&mut self, ctx: &Ctx, problem: Problem, solver: Solver) -> Result<bool> {
        let part = if self.refined > 0 { WORTH_OF_LINES } else { WORTH };
        let worth = self.now.residual <= part * self.best.residual;
        let is_best = self.now.residual < self.best.residual && (worth || self.refined == 0);
        let mut solver = Some(solver);
        if is_best {
            self.best = self.now.clone();
        } else {
            solver = None;
        }
        if self.best.residual <= self.spec.solver.tolerance {
            return self.end_window(ctx, problem, solver);
        }
        let climbing = self.sweep == 0 && self.refined == 0;
        if climbing && worth && self.spec.prior.ceiling_factor.is_none() {
            let rung = self.rung as usize + 1;
            let priors = priors(&self.spec, &self.statement, &self.nodes, &self.ceilings, rung);
            if rung < LADDER.len() && priors.iter().zip(&self.now.scales).any(|(p, s)| p.scales.len() != s.len()) {
                self.rung += 1;
                self.now.set_priors(priors);
                self.put(problem, None);
                return Ok(false);
            }
        }
        self.now = self.best.clone();
        let next = if self.refined == 0 && self.sweep < self.spec.solver.sweeps && (self.sweep == 0 || worth) {
            self.sweep += 1;
            let solver = match solver.take() {
                Some(solver) => solver,
                None => self.factorised(ctx, &problem)?,
            };
            Some(self.reweighted(ctx, &solver)?)
        } else if self.may_refine(worth) {
            self.refined += 1;
            self.with_lines(ctx, &problem)?
        } else {
            None
        };
        match next {
            Some(priors) => {
                self.now.set_priors(priors);
                self.put(problem, None);
                Ok(false)
            }
            None => self.end_window(ctx, problem, solver),
        }
    }

    /// Whether lines are put where the solution has them: at first only if it is bad enough that rounding does not decide
    /// where they are, then as long as it is worth it.
    fn may_refine(&self, worth: bool) -> bool {
        let go_on = if self.refined == 0 { self.best.residual > BAD_ENOUGH } else { worth };
        go_on && self.refined < REFINEMENTS && self.spec.solver.sweeps > 0
    }

    /// Keeps the results of the window and starts the next; whether there is none. Collective.
    fn end_window(&mut self, ctx: &Ctx, problem: Problem, solver: Option<Solver>) -> Result<bool> {
        self.now = self.best.clone();
        let mut solver = match solver {
            Some(solver) => solver,
            None => self.factorised(ctx, &problem)?,
        };
        self.collect(ctx, &problem, &mut solver)?;
        self.finished.worst_residual = self.finished.worst_residual.max(self.now.residual);
        self.window += 1;
        if self.window == self.whole.windows as u64 {
            return Ok(true);
        }
        self.initial = self.end_values(ctx, &problem, &mut solver)?;
        self.statement = self.whole.in_window(self.window as usize);
        self.now.set_priors(priors(&self.spec, &self.statement, &self.nodes, &self.ceilings, self.rung as usize));
        self.now.residual = f64::MAX;
        self.best = self.now.clone();
        (self.started, self.sweep, self.refined) = (0, 0, 0);
        (self.share, self.solved_share, self.continued) = (1.0, 0.0, 0);
        Ok(false)
    }

    /// Keeps the results of the window. Collective.
    fn collect(&mut self, ctx: &Ctx, problem: &Problem, solver: &mut Solver) -> Result<()> {
        self.account.bytes += self.finished.bytes(&self.statement, &solver.sender(), self.window);
        self.finished.collect(ctx, &self.statement, problem, solver, &self.now.u, self.window)
    }

    /// The conditions of the next window's start, applied to the solution at this one's end; the same on every rank.
    fn end_values(&mut self, ctx: &Ctx, problem: &Problem, solver: &mut Solver) -> Result<Vec<f64>> {
        let mut points: Vec<Vec<f64>> = problem.axes.iter().map(|a| a.nodes.clone()).collect();
        points[0] = vec![problem.axes[0].length];
        let extents: Vec<usize> = points.iter().map(Vec::len).collect();
        let each = self.now.u.len() / problem.cases.len();
        let mut values = Vec::new();
        for case in 0..problem.cases.len() {
            solver.set_case(case);
            let mut y = solver.coefficients(&self.now.u[case * each..(case + 1) * each])?;
            self.account.bytes += solver.sender().down();
            for condition in &problem.axes[0].conditions {
                let mut along = vec![vec![0; points.len()]; condition.terms.len()];
                along.iter_mut().zip(&condition.terms).for_each(|(index, (order, _))| index[0] = *order);
                let (_, mut jets) = solver.evaluate(problem, &points, &along, &mut y)?;
                let mut sum = vec![0.0; jets[0].len()];
                for (jet, (_, c)) in jets.iter_mut().zip(&condition.terms) {
                    sum.iter_mut().zip(jet.host()).for_each(|(s, j)| *s += c * j);
                }
                let sender = solver.sender();
                self.account.bytes += along.len() as u64 * sender.up_at(&extents) + sender.gathered(&extents);
                values.extend(self.gathered(ctx, &extents, &sum)?);
            }
        }
        Ok(values)
    }

    /// All of a field of this shape, on every rank.
    fn gathered(&self, ctx: &Ctx, shape: &[usize], mine: &[f64]) -> Result<Vec<f64>> {
        let whole = Region::whole(shape);
        let mut all = vec![0.0; whole.len()];
        for (rank, part) in ctx.comm.all_gather(mine)?.iter().enumerate() {
            let region = self.layout.region_of(rank, shape);
            region.copy_part(part, &region, &whole, &mut all);
        }
        Ok(all)
    }

    /// The field of a case, whole along an axis.
    fn along(&self, axis: usize, case: &[f64]) -> Result<Tensor> {
        let shape: Vec<usize> = self.statement.axes.iter().map(|a| a.points).collect();
        whole_mode(&self.layout, &shape, axis, case)
    }

    fn by_case(&self) -> impl Iterator<Item = &[f64]> {
        self.now.u.chunks(self.now.u.len().div_ceil(self.statement.cases.len()).max(1))
    }

    /// New weights from the fields now, axis by axis.
    fn reweighted(&mut self, ctx: &Ctx, solver: &Solver) -> Result<Vec<Prior>> {
        let frequencies: Vec<usize> = solver.factors.iter().map(|f| f.basis.prior.scales.len()).collect();
        self.account.bytes += self.statement.cases.len() as u64 * solver.sender().reweighting(&frequencies);
        let mut priors = Vec::new();
        for (axis, factor) in solver.factors.iter().enumerate() {
            let mut sum = vec![0.0; factor.basis.prior.scales.len()];
            for case in 0..self.statement.cases.len() {
                let field = self.along(axis, self.by_case().nth(case).unwrap_or_default())?;
                let energies = spectrum::energies(&ctx.comm, factor, axis, field)?;
                sum.iter_mut().zip(energies).for_each(|(s, e)| *s += e);
            }
            priors.push(spectrum::reweighted(&factor.basis.prior, &sum));
        }
        Ok(priors)
    }

    /// Priors with lines where the fields have them; `None` where no axis has any.
    fn with_lines(&mut self, ctx: &Ctx, problem: &Problem) -> Result<Option<Vec<Prior>>> {
        let mut points: Vec<usize> = self.statement.axes.iter().map(|a| a.points).collect();
        let axes = points.len();
        points.resize(axes.max(2), 1);
        let sender = Sender { place: self.layout.place, points: &points, coefficients: &Coefficients::default() };
        self.account.bytes += self.statement.cases.len() as u64 * sender.lines(axes);
        let flat = priors(&self.spec, &self.statement, &self.nodes, &self.ceilings, self.rung as usize);
        let mut priors = self.now.priors();
        let mut any = false;
        for (axis, (of_axis, flat)) in problem.axes.iter().zip(&flat).enumerate() {
            let n = of_axis.nodes.len();
            let mut sum = faer::Mat::zeros(n, n);
            for case in 0..self.statement.cases.len() {
                let mut field = self.along(axis, self.by_case().nth(case).unwrap_or_default())?;
                sum += lines::gram(&ctx.comm, axis, &mut field)?;
            }
            if let Some(prior) = lines::refined(of_axis, &sum, (&priors[axis], flat), self.now.residual) {
                (priors[axis], any) = (prior, true);
            }
        }
        Ok(any.then_some(priors))
    }

    /// The state.
    pub fn fields<'a>(&'a mut self, fields: &mut Fields<'a>) {
        let points = self.statement.axes.iter().map(|a| a.points);
        let shape: Vec<usize> = std::iter::once(self.statement.cases.len()).chain(points).collect();
        for (name, counter) in [
            ("window", &mut self.window),
            ("started", &mut self.started),
            ("rung", &mut self.rung),
            ("sweep", &mut self.sweep),
            ("refined", &mut self.refined),
            ("newton", &mut self.newton),
            ("continued", &mut self.continued),
        ] {
            fields.counter(name, counter);
        }
        fields.real("newton_residual", &mut self.newton_residual);
        fields.real("share", &mut self.share);
        fields.real("solved_share", &mut self.solved_share);
        let mut region = self.layout.region(&shape[1..]);
        region.start.insert(0, 0);
        region.count.insert(0, shape[0]);
        let place = (shape.as_slice(), &region, self.root);
        self.now.fields("now", fields, place);
        self.best.fields("best", fields, place);
        let n = [self.initial.len()];
        fields.array("initial", &n, Region::whole(&n), self.initial.as_mut_slice()).owned = self.root;
        self.finished.fields(fields, self.root);
    }

    /// Makes room for what the counters say.
    pub fn reshape(&mut self) {
        (self.problem, self.solver) = (None, None);
        self.now.reshape();
        self.best.reshape();
        let last = self.whole.windows as u64 - 1;
        self.statement = self.whole.in_window(self.window.min(last) as usize);
        self.finished.reshape();
    }

    /// The solution, its derivatives and its error, the prior. Collective.
    ///
    /// # Errors
    /// Where another rank or writing fails.
    pub fn finish(&mut self, out: &mut Results) -> Result<()> {
        let complete = self.window == self.whole.windows as u64;
        out.figure("held_out_residual", if complete { self.finished.worst_residual } else { self.now.residual })?;
        for (axis, ceiling) in self.statement.axes.iter().zip(&self.ceilings) {
            out.figure(&format!("highest_frequency_{}", axis.name), *ceiling)?;
        }
        output::priors(out, &self.statement, &self.now.priors(), &spectrum::periodograms(&self.statement)?)?;
        self.finished.write(&self.spec, &self.whole, out)
    }
}

/// Points between the collocation points.
fn held_out_points(problem: &Problem) -> Vec<Vec<f64>> {
    let most = HELD_OUT[problem.axes.len() - 1];
    let between = |axis: &axis::Axis| {
        let middles: Vec<f64> = axis.nodes.windows(2).map(|pair| 0.5 * (pair[0] + pair[1])).collect();
        let n = middles.len().min(most);
        (0..n).map(|i| middles[i * middles.len() / n]).collect()
    };
    problem.axes.iter().map(between).collect()
}

/// The priors of a rung of the ladder.
pub fn priors(spec: &Spec, statement: &Statement, nodes: &[Nodes], ceilings: &[f64], rung: usize) -> Vec<Prior> {
    let factor = spec.prior.ceiling_factor.unwrap_or(LADDER[rung.min(LADDER.len() - 1)]);
    (0..nodes.len()).map(|a| super::axis_prior(spec, statement, a, nodes[a], ceilings[a], factor)).collect()
}

#[cfg(test)]
mod tests;
