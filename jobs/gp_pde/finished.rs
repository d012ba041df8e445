//! Results of windows that are solved: the output grid's rows that lie in them, the user's points, the distance from a known
//! solution.

use std::ops::Range;

use convoke_cluster::{Ctx, Fields, Region, Result, Results};
use convoke_kernels::Device;

use super::bytes::Sender;
use super::equation::{JetProgram, MultiIndex};
use super::layout::Layout;
use super::observations::Scattered;
use super::output::{self, Grid};
use super::solve::{Problem, Solver};
use super::spec::Spec;
use super::statement::{Quantity, Statement};

/// What has been collected. Arrays are of all quantities, then all cases, then points.
#[derive(Debug)]
pub struct Finished {
    grid: Grid,
    own: Option<Scattered>,
    outputs: Vec<Quantity>,
    cases: usize,
    windows: Vec<Window>,
    /// Windows collected.
    collected: u64,
    /// Squared distance from the known solution and its squared size.
    error: f64,
    size: f64,
    coefficients: u64,
    /// Largest held-out residual.
    pub worst_residual: f64,
}

/// The part of one window.
#[derive(Debug)]
struct Window {
    /// Rows of the output grid in it, and the part of them that is here, by its place in the whole grid.
    rows: Range<usize>,
    here: Region,
    values: Vec<f64>,
    /// The user's points in it, and values there; the same on every rank.
    points: Vec<usize>,
    at_points: Vec<f64>,
}

impl Finished {
    /// Nothing yet.
    ///
    /// # Errors
    /// Where the file of the user's points cannot be read.
    pub fn new(ctx: &Ctx, layout: &Layout, spec: &Spec, whole: &Statement) -> Result<Self> {
        let mut finished = Self {
            grid: Grid::new(spec, whole),
            own: output::own_points(spec, whole, &ctx.inputs)?,
            outputs: whole.outputs.clone(),
            cases: whole.cases.len(),
            windows: Vec::new(),
            collected: 0,
            error: 0.0,
            size: 0.0,
            coefficients: 0,
            worst_residual: 0.0,
        };
        let (length, n) = (whole.boxes[0].1 / whole.windows as f64, whole.windows);
        // A point on the border of two windows belongs to the first.
        let window = |x: f64| ((x / length * (1.0 - 1e-14)).ceil() as usize).clamp(1, n) - 1;
        for w in 0..n {
            let rows = &finished.grid.points[0];
            let (first, end) = (rows.partition_point(|x| window(*x) < w), rows.partition_point(|x| window(*x) <= w));
            let mut shape = finished.grid.shape();
            shape[0] = end - first;
            let mut here = layout.region(&shape);
            here.start[0] += first;
            let all = finished.own.as_ref().map_or(0, |points| points[0].len());
            let inside = |i: &usize| finished.own.as_ref().is_some_and(|points| window(points[0][*i]) == w);
            let points = (0..all).filter(inside).collect();
            finished.windows.push(Window { rows: first..end, here, values: Vec::new(), points, at_points: Vec::new() });
        }
        Ok(finished)
    }

    /// Evaluates the solution of a window at the points of results. Collective.
    ///
    /// # Errors
    /// Where the device or another rank fails.
    pub fn collect(
        &mut self,
        ctx: &Ctx,
        statement: &Statement,
        problem: &Problem,
        solver: &mut Solver,
        u: &[f64],
        window: u64,
    ) -> Result<()> {
        let window = window as usize;
        let (length, first) = (problem.axes[0].length, window as f64 * problem.axes[0].length);
        let local = |x: &f64| (x - first).clamp(0.0, length);
        let mut points = self.grid.points.clone();
        points[0] = points[0][self.windows[window].rows.clone()].iter().map(local).collect();
        let indices: Vec<MultiIndex> = self.outputs.iter().map(|q| q.index.clone()).collect();
        let each = u.len() / self.cases;
        let (mut values, mut at_points) = (vec![Vec::new(); indices.len()], vec![Vec::new(); indices.len()]);
        for case in 0..self.cases {
            solver.set_case(case);
            let mut y = solver.coefficients(&u[case * each..(case + 1) * each])?;
            let (_, jets) = solver.evaluate(problem, &points, &indices, &mut y)?;
            values.iter_mut().zip(jets).for_each(|(all, jet)| all.extend(jet.into_vec()));
            if let Some(own) = self.own.as_ref().filter(|_| !self.windows[window].points.is_empty()) {
                let pick = |x: &Vec<f64>| self.windows[window].points.iter().map(|i| x[*i]).collect::<Vec<f64>>();
                let mut here: Scattered = own.iter().map(pick).collect();
                here[0] = here[0].iter().map(local).collect();
                for (all, index) in at_points.iter_mut().zip(&indices) {
                    all.extend(solver.evaluate_scattered(problem, &here, index, &mut y)?);
                }
            }
            self.compare(ctx, statement, problem, solver, (case, &mut y))?;
        }
        self.coefficients = solver.n_coefficients() as u64;
        self.collected = window as u64 + 1;
        self.windows[window].values = values.concat();
        self.windows[window].at_points = at_points.concat();
        Ok(())
    }

    /// Bytes that a rank sends in [`Finished::collect`].
    pub fn bytes(&self, statement: &Statement, sender: &Sender<'_>, window: u64) -> u64 {
        let window = &self.windows[window as usize];
        let mut points: Vec<usize> = self.grid.points.iter().map(Vec::len).collect();
        points[0] = window.rows.len();
        let outputs = self.outputs.len() as u64;
        let mut each = sender.down() + outputs * sender.up_at(&points);
        if self.own.is_some() && !window.points.is_empty() {
            each += outputs * sender.sum(window.points.len());
        }
        if statement.exact().is_some() {
            let tested: Vec<usize> = output::test_points(statement, usize::MAX).iter().map(Vec::len).collect();
            each += sender.up_at(&tested) + sender.sum(2);
        }
        self.cases as u64 * each
    }

    /// Adds to the distance from a known solution, at points that no grid of the solver shares.
    fn compare(
        &mut self,
        ctx: &Ctx,
        statement: &Statement,
        problem: &Problem,
        solver: &mut Solver,
        (case, y): (usize, &mut convoke_kernels::Buffer<f64>),
    ) -> Result<()> {
        let Some(exact) = statement.exact() else { return Ok(()) };
        let points = output::test_points(statement, usize::MAX);
        let (grid, mut jets) = solver.evaluate(problem, &points, &[vec![0; points.len()]], y)?;
        let mut truth = exact.run_with(&ctx.device, &grid, &mut [], &problem.cases[case])?.swap_remove(0);
        let mut sums = [0.0, 0.0];
        for (u, exact) in jets[0].host().iter().zip(truth.host()) {
            sums[0] += (u - exact).powi(2);
            sums[1] += exact.powi(2);
        }
        ctx.comm.all_sum(&mut sums)?;
        self.error += sums[0];
        self.size += sums[1];
        Ok(())
    }

    /// The state.
    pub fn fields<'a>(&'a mut self, fields: &mut Fields<'a>, root: bool) {
        let leading = self.outputs.len() * self.cases;
        let whole = self.grid.shape();
        fields.real("finished/error", &mut self.error);
        fields.real("finished/size", &mut self.size);
        fields.real("finished/residual", &mut self.worst_residual);
        fields.counter("finished/coefficients", &mut self.coefficients);
        let collected = self.collected as usize;
        fields.counter("finished/windows", &mut self.collected);
        for (w, window) in self.windows.iter_mut().enumerate().take(collected) {
            let mut region = window.here.clone();
            region.start[0] -= window.rows.start;
            let mut shape = whole.clone();
            shape[0] = window.rows.len();
            for (list, n) in [(&mut shape, leading), (&mut region.start, 0), (&mut region.count, leading)] {
                list.insert(0, n);
            }
            fields.array(format!("finished/{w}/values"), &shape, region, window.values.as_mut_slice());
            let n = [window.at_points.len()];
            let name = format!("finished/{w}/points");
            fields.array(name, &n, Region::whole(&n), window.at_points.as_mut_slice()).owned = root;
        }
    }

    /// Makes room for the windows that a checkpoint holds.
    pub fn reshape(&mut self) {
        let windows = self.collected as usize;
        let leading = self.outputs.len() * self.cases;
        for (w, window) in self.windows.iter_mut().enumerate() {
            let (values, points) = (leading * window.here.len(), leading * window.points.len());
            window.values = vec![0.0; if w < windows { values } else { 0 }];
            window.at_points = vec![0.0; if w < windows { points } else { 0 }];
        }
    }

    /// Writes what is there; rows of windows that are not are not numbers. Collective.
    ///
    /// # Errors
    /// Where another rank or writing fails.
    pub fn write(&self, spec: &Spec, whole: &Statement, out: &mut Results) -> Result<()> {
        out.figure("coefficients", self.coefficients as f64)?;
        let mut shape = self.grid.shape();
        let many = self.cases > 1;
        if many {
            shape.insert(0, self.cases);
            if let Some(cases) = &spec.cases {
                out.series(&format!("values_of_{}", cases.name), &cases.values, "1", "what the cases differ in")?;
            }
        }
        for (q, quantity) in self.outputs.iter().enumerate() {
            let (name, long_name) = output::label(quantity);
            let values = self.parts(q);
            self.array(out, name, &long_name, &shape, &values)?;
            if let Some(exact) = &quantity.exact {
                let errors = self.errors(exact, whole, values)?;
                self.array(
                    out,
                    &format!("{name}_error"),
                    &format!("{} minus the manufactured one", quantity.name),
                    &shape,
                    &errors,
                )?;
            }
            if let Some(own) = &self.own {
                for case in 0..self.cases {
                    let mut values = vec![f64::NAN; own[0].len()];
                    for window in self.windows.iter().filter(|w| !w.at_points.is_empty()) {
                        let n = window.points.len();
                        let first = (q * self.cases + case) * n;
                        window
                            .points
                            .iter()
                            .zip(&window.at_points[first..first + n])
                            .for_each(|(i, v)| values[*i] = *v);
                    }
                    let of_case = if many { format!("_{case}") } else { String::new() };
                    let long_name = format!("{long_name} at the points asked for");
                    out.series(&format!("{name}_at_points{of_case}"), &values, "1", &long_name)?;
                }
            }
        }
        if let ([a, b, c], false) = (&shape[..], many) {
            out.image("solution", [*a, *b, *c], &self.grid.meaning("solution u"))?;
        }
        if self.size > 0.0 {
            out.figure("relative_error", (self.error / self.size).sqrt())?;
        }
        Ok(())
    }

    /// The parts of a quantity that are here, window by window, each with all cases.
    fn parts(&self, quantity: usize) -> Vec<(Region, Vec<f64>)> {
        let part = |(i, w): (usize, &Window)| {
            let n = self.cases * w.here.len();
            let there = i < self.collected as usize;
            let values = if there { w.values[quantity * n..(quantity + 1) * n].to_vec() } else { vec![f64::NAN; n] };
            (w.here.clone(), values)
        };
        self.windows.iter().enumerate().map(part).collect()
    }

    fn errors(
        &self,
        exact: &JetProgram,
        whole: &Statement,
        mut parts: Vec<(Region, Vec<f64>)>,
    ) -> Result<Vec<(Region, Vec<f64>)>> {
        for (region, values) in parts.iter_mut().filter(|(region, _)| !region.is_empty()) {
            let mut grid: Vec<Vec<f64>> = Vec::new();
            for ((x, (start, _)), (first, n)) in
                self.grid.points.iter().zip(&whole.boxes).zip(region.start.iter().zip(&region.count))
            {
                grid.push(x[*first..first + n].iter().map(|x| x + start).collect());
            }
            for (case, values) in whole.cases.iter().zip(values.chunks_mut(region.len())) {
                let truth = exact.run_with(&Device::cpu(), &grid, &mut [], case)?.swap_remove(0).into_vec();
                values.iter_mut().zip(truth).for_each(|(v, t)| *v -= t);
            }
        }
        Ok(parts)
    }

    fn array(
        &self,
        out: &mut Results,
        name: &str,
        long_name: &str,
        shape: &[usize],
        parts: &[(Region, Vec<f64>)],
    ) -> Result<()> {
        let many = self.cases > 1;
        let meaning = if many { self.grid.meaning_of_many("case", long_name) } else { self.grid.meaning(long_name) };
        let region = |region: &Region| {
            let mut region = region.clone();
            if many {
                region.start.insert(0, 0);
                region.count.insert(0, self.cases);
            }
            region
        };
        let there = parts.iter().filter(|(r, _)| !r.is_empty());
        let parts: Vec<(Region, &[f64])> = there.map(|(r, values)| (region(r), values.as_slice())).collect();
        out.array_of_parts(name, shape, &parts, &meaning)
    }
}
