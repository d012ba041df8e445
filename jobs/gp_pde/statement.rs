//! From the texts of a job file to a problem: names, equation, conditions, and the data that the solver may see.

use std::f64::consts::PI;

use convoke_cluster::workload::Inputs;
use convoke_cluster::{BadValue, Result};
use convoke_kernels::Device;

use super::axis::{Axis, Functional};
use super::equation::{Coordinates, Equation, JetProgram, Linearisation, MultiIndex};
use super::lift::Faces;
use super::reader::Reader;
use super::solve::Problem;
use super::spec::{AxisSpec, Nodes, Spec};

/// Points of each axis over which variable coefficients are averaged.
const SAMPLE: usize = 7;

/// A condition, read.
#[derive(Debug, Clone)]
pub(super) struct Condition {
    pub(super) axis: usize,
    pub(super) functional: Functional,
    pub(super) data: JetProgram,
}

/// The solution or one of its derivatives.
#[derive(Debug, Clone)]
pub struct Quantity {
    /// `u`, `u_x`, …
    pub name: String,
    /// Order of the derivative along each axis.
    pub index: MultiIndex,
    /// Of the manufactured solution, for comparison.
    pub exact: Option<JetProgram>,
}

/// What a job file says, understood but not yet on a grid.
#[derive(Debug, Clone)]
pub struct Statement {
    /// Axes in the order of results: those with conditions at their start alone first.
    pub axes: Vec<AxisSpec>,
    /// Position of each of `axes` in the job file.
    pub order: Vec<usize>,
    /// Start and length of each axis.
    pub boxes: Vec<(f64, f64)>,
    conditions: Vec<Condition>,
    /// The equation.
    pub equation: Equation,
    /// Functions of the coordinates in which the solution's frequencies show: the equation without the unknown.
    source: JetProgram,
    /// The equation for a posterior: with its slopes, and with unknown constants.
    pub linearisation: Linearisation,
    /// Whether the right-hand side follows from the manufactured solution.
    pub is_manufactured: bool,
    /// The solution, then the derivatives that results ask for.
    pub outputs: Vec<Quantity>,
    /// What each set of observations measures.
    pub observed: Vec<Quantity>,
    /// Values of the unknown constants (their guesses), then of the number that cases differ in; by case.
    pub cases: Vec<Vec<f64>>,
    /// Parts of the first axis that are solved one after the other.
    pub windows: usize,
}

impl Statement {
    /// Reads the texts and arrays.
    ///
    /// # Errors
    /// [`BadValue`] that names the key and shows the place in the text; data errors of files.
    pub fn read(spec: &Spec, inputs: &Inputs) -> Result<Self> {
        let mut reader = Reader::new(spec, inputs)?;
        let exact = spec.manufactured.as_ref().map(|text| reader.exact(text)).transpose()?;
        let conditions = reader.conditions(exact)?;
        let (lhs, rhs) = reader.sides("problem.equation", &spec.equation, exact.is_some())?;
        let is_manufactured = rhs.is_none();
        let rhs = match (rhs, exact) {
            (Some(rhs), _) => rhs,
            (None, Some(exact)) => {
                let right = reader.on(lhs, exact);
                reader.with_constants(right, |i, unknown| {
                    let key = format!("problem.unknowns.{i}.truth");
                    unknown.truth.ok_or_else(|| BadValue::wrong(key, "missing: the right side is to be made with it"))
                })?
            }
            (None, None) => return Err(BadValue::wrong("problem.equation", "no `=` in it").into()),
        };
        let f = reader.graph.sub(lhs, rhs);
        let linearisation = Linearisation::new(&mut reader.graph, f, &reader.symbols);
        let f = reader.with_constants(f, |_, unknown| Ok(unknown.guess))?;
        let zero = reader.graph.number(0.0);
        let no_jets: Vec<_> = reader.symbols.jets.iter().map(|(_, v)| (*v, zero)).collect();
        let used = reader.graph.variables(f);
        if !reader.symbols.jets.iter().any(|(_, v)| used.contains(v)) {
            return Err(BadValue::wrong("problem.equation", "it does not contain u or a derivative of it").into());
        }
        let source = reader.graph.substitute(f, &no_jets);
        let sample: Coordinates = reader
            .boxes
            .iter()
            .map(|(start, length)| (0..SAMPLE).map(|i| start + length * (i as f64 + 0.5) / SAMPLE as f64).collect())
            .collect();
        reader.check_slopes(f)?;
        let equation = Equation::new(&mut reader.graph, f, &reader.symbols, &sample)?;
        let outputs = std::iter::once(("".to_owned(), "u")).chain(
            spec.output
                .derivatives
                .iter()
                .enumerate()
                .map(|(i, name)| (format!("output.derivatives.{i}"), name.as_str())),
        );
        let outputs = outputs.map(|(key, name)| reader.quantity(&key, name, exact)).collect::<Result<_>>()?;
        let observed = spec.observations.iter().enumerate();
        let observed = observed.map(|(i, o)| reader.quantity(&format!("observations.{i}.of"), &o.of, exact));
        let observed = observed.collect::<Result<_>>()?;
        let statement = Self {
            source: JetProgram::of(&reader.graph, &[source], &reader.symbols),
            linearisation,
            is_manufactured,
            outputs,
            observed,
            conditions,
            equation,
            axes: reader.axes.clone(),
            order: reader.order.clone(),
            boxes: reader.boxes.clone(),
            cases: reader.cases(),
            windows: reader.axes[0].windows,
        };
        statement.check_conditions(spec.is_uncertain())?;
        statement.check_cases()?;
        statement.check_windows()?;
        Ok(statement)
    }

    /// The same in one of its windows.
    pub fn in_window(&self, window: usize) -> Self {
        let mut part = self.clone();
        let (start, length) = self.boxes[0];
        let length = length / self.windows as f64;
        part.boxes[0] = (start + window as f64 * length, length);
        part.windows = 1;
        part
    }

    /// Cases share a factorisation only if the equation is linear and has no mixed or varying terms.
    fn check_cases(&self) -> Result<()> {
        if self.cases.len() > 1 && !self.equation.is_direct() {
            let message = "cases share one factorisation, which this equation does not have: it is nonlinear, or has \
                           coefficients that vary along more than one axis, or mixed derivatives";
            return Err(BadValue::wrong("problem.cases", message).into());
        }
        Ok(())
    }

    fn check_windows(&self) -> Result<()> {
        let at_the_start = |c: &Condition| c.functional.at == 0.0;
        for (a, axis) in self.axes.iter().enumerate().filter(|(_, axis)| axis.windows > 1) {
            let key = format!("problem.axes.{}.windows", self.order[a]);
            let all = self.conditions.iter().filter(|c| c.axis == a).all(at_the_start);
            if a > 0 || !all || axis.periodic {
                let expected = "1: only one axis, with all its conditions at its start, can have windows";
                return Err(BadValue::new(key, axis.windows, expected).into());
            }
        }
        Ok(())
    }

    /// The manufactured solution, for comparison only.
    pub fn exact(&self) -> Option<&JetProgram> {
        self.outputs[0].exact.as_ref()
    }

    /// Highest frequency along an axis that all arrays in the equation can hold.
    pub fn arrays_hold(&self, axis: usize) -> f64 {
        let arrays = self.conditions.iter().flat_map(|c| &c.data.arrays).chain(&self.source.arrays);
        arrays.filter_map(|a| a.nyquist(axis)).fold(f64::INFINITY, f64::min)
    }

    /// Each axis has as many conditions as its highest derivative asks for; fewer will do where `some` are enough.
    fn check_conditions(&self, some: bool) -> Result<()> {
        for ((axis, spec), highest) in self.axes.iter().enumerate().zip(self.equation.max_orders()) {
            let n = self.conditions.iter().filter(|c| c.axis == axis).count();
            let needed = if spec.periodic { 0 } else { highest };
            if n > needed || (n < needed && !some) {
                let name = &spec.name;
                let message = format!(
                    "the equation is of order {highest} in {name}, so {name}{} needs {needed} condition(s), and there \
                     {} {n}",
                    if spec.periodic { ", which is periodic," } else { "" },
                    if n == 1 { "is" } else { "are" },
                );
                let help = if n < needed {
                    format!("add [[problem.conditions]] with at = \"{name} = …\", or say periodic = true for {name}")
                } else {
                    "take out what is too many: the solution cannot meet more".to_owned()
                };
                return Err(BadValue::wrong("problem.conditions", message).help(help).into());
            }
        }
        Ok(())
    }

    /// Number of conditions of an axis.
    pub fn conditions_along(&self, axis: usize) -> usize {
        self.conditions.iter().filter(|c| c.axis == axis).count()
    }

    /// Functionals of the conditions of an axis.
    fn functionals(&self, axis: usize) -> Vec<Functional> {
        self.conditions.iter().filter(|c| c.axis == axis).map(|c| c.functional.clone()).collect()
    }

    /// The problem on its grid.
    ///
    /// # Errors
    /// Where data are not finite.
    pub fn problem(&self, nodes: &[Nodes]) -> Result<Problem> {
        let points: Vec<Vec<f64>> = self
            .axes
            .iter()
            .zip(&self.boxes)
            .zip(nodes)
            .map(|((spec, (_, length)), nodes)| place(spec, *length, *nodes))
            .collect();
        let coordinates: Coordinates =
            points.iter().zip(&self.boxes).map(|(x, (start, _))| x.iter().map(|x| start + x).collect()).collect();
        let mut axes = Vec::new();
        for (a, spec) in self.axes.iter().enumerate() {
            let mut grid: Coordinates = self.boxes.iter().map(|(start, length)| vec![start + length / 2.0]).collect();
            grid[a] = coordinates[a].clone();
            let terms = self.equation.axis_terms[a]
                .iter()
                .map(|(order, c)| Ok((*order, c.run(&Device::cpu(), &grid, &mut [])?.swap_remove(0).into_vec())))
                .collect::<Result<_>>()?;
            axes.push(Axis {
                nodes: points[a].clone(),
                length: self.boxes[a].1,
                periodic: spec.periodic,
                conditions: self.functionals(a),
                terms,
            });
        }
        let faces = self.cases.iter().map(|case| self.faces(&coordinates, case)).collect::<Result<_>>()?;
        let starts = self.boxes.iter().map(|(start, _)| *start).collect();
        Ok(Problem { axes, starts, equation: self.equation.clone(), faces, cases: self.cases.clone() })
    }

    /// The data of all conditions at the nodes.
    fn faces(&self, coordinates: &Coordinates, case: &[f64]) -> Result<Faces> {
        let nodes: Vec<usize> = coordinates.iter().map(Vec::len).collect();
        let mut data = Vec::new();
        for axis in 0..nodes.len() {
            let (outer, inner): (usize, usize) = (nodes[..axis].iter().product(), nodes[axis + 1..].iter().product());
            let of_axis: Vec<&Condition> = self.conditions.iter().filter(|c| c.axis == axis).collect();
            let mut values = vec![0.0; outer * of_axis.len() * inner];
            for (j, condition) in of_axis.iter().enumerate() {
                let mut grid = coordinates.clone();
                grid[axis] = vec![self.boxes[axis].0 + condition.functional.at];
                let face = condition.data.run_with(&Device::cpu(), &grid, &mut [], case)?.swap_remove(0).into_vec();
                if let Some(bad) = face.iter().find(|v| !v.is_finite()) {
                    let message = format!("its data at {} are {bad} at some point", self.axes[axis].name);
                    return Err(BadValue::wrong("problem.conditions", message).into());
                }
                for (o, row) in face.chunks_exact(inner).enumerate() {
                    let start = (o * of_axis.len() + j) * inner;
                    values[start..start + inner].copy_from_slice(row);
                }
            }
            data.push(values);
        }
        let conditions = (0..nodes.len()).map(|a| self.conditions_along(a)).collect();
        Ok(Faces { data, nodes, conditions })
    }

    /// All data that the solver may see, sampled finely along one axis and coarsely along the others: lines, each as
    /// long as `n`, of the equation's source and of the data of conditions at the other axes' ends; by origin.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn lines(&self, axis: usize, n: usize, across: usize) -> Result<Vec<Vec<Vec<f64>>>> {
        let sample = |a: usize| -> Vec<f64> {
            let (start, length) = self.boxes[a];
            let n = if a == axis { n } else { across };
            // The golden section keeps samples off the zeros of any one wave.
            let offset = if a == axis { 0.0 } else { 0.618_034 };
            (0..n).map(|i| start + length * (i as f64 + offset) / n as f64).collect()
        };
        let mut origins = Vec::new();
        let full: Coordinates = (0..self.axes.len()).map(sample).collect();
        let programs = std::iter::once((&self.source, None));
        let traces =
            self.conditions.iter().filter(|c| c.axis != axis).map(|c| (&c.data, Some((c.axis, c.functional.at))));
        for (program, face) in programs.chain(traces) {
            let mut grid = full.clone();
            if let Some((face, at)) = face {
                grid[face] = vec![self.boxes[face].0 + at];
            }
            let inner: usize = grid[axis + 1..].iter().map(Vec::len).product();
            let mut all = Vec::new();
            for case in &self.cases {
                let values = program.run_with(&Device::cpu(), &grid, &mut [], case)?.swap_remove(0).into_vec();
                let mut lines = vec![Vec::with_capacity(n); values.len() / n];
                for (i, value) in values.iter().enumerate() {
                    lines[i / (inner * n) * inner + i % inner].push(*value);
                }
                all.extend(lines);
            }
            origins.push(all);
        }
        Ok(origins)
    }
}

/// Collocation points of an axis, from 0.
fn place(spec: &AxisSpec, length: f64, nodes: Nodes) -> Vec<f64> {
    let n = spec.points;
    (0..n)
        .map(|i| match nodes {
            _ if spec.periodic => length * i as f64 / n as f64,
            Nodes::Uniform => length * i as f64 / (n - 1) as f64,
            // sin² keeps the distances to both ends exact.
            Nodes::Chebyshev => length * (PI * i as f64 / (2.0 * (n - 1) as f64)).sin().powi(2),
        })
        .collect()
}
