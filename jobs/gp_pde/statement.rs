//! From the texts of a job file to a problem: names, equation, conditions, and the data that the solver may see.

use std::collections::BTreeSet;
use std::f64::consts::PI;

use std::sync::Arc;

use convoke_cluster::workload::Inputs;
use convoke_cluster::{BadValue, Result};
use convoke_kernels::Device;

use super::arrays::{ArrayAxis, GridFunction, Rule};
use super::basis::Functional;
use super::equation::{Coordinates, Equation, JetProgram, Linearisation, MultiIndex, Symbols};
use super::factor::Axis;
use super::lift::Faces;
use super::solve::Problem;
use super::spec::{AxisSpec, Nodes, Number, Spec};
use crate::expression::{Graph, Names, NodeId, is_name, is_reserved};

/// Highest total order of a derivative.
const MAX_ORDER: usize = 4;
/// Points of each axis over which variable coefficients are averaged.
const SAMPLE: usize = 7;

/// A condition, read.
#[derive(Debug, Clone)]
struct Condition {
    axis: usize,
    functional: Functional,
    data: JetProgram,
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

/// Names and the graph, while texts are read.
struct Reader<'a> {
    spec: &'a Spec,
    inputs: &'a Inputs,
    graph: Graph,
    symbols: Symbols,
    /// Coordinates, arrays and definitions.
    data_names: Names,
    /// Those, and the unknown with its derivatives.
    all_names: Names,
    axes: Vec<AxisSpec>,
    order: Vec<usize>,
    boxes: Vec<(f64, f64)>,
}

impl<'a> Reader<'a> {
    fn new(spec: &'a Spec, inputs: &'a Inputs) -> Result<Self> {
        let mut seen = BTreeSet::new();
        for (i, axis) in spec.axes.iter().enumerate() {
            let key = format!("problem.axes.{i}.name");
            let one_letter = axis.name.len() == 1 && is_name(&axis.name);
            if !one_letter || axis.name == "u" || is_reserved(&axis.name) {
                return Err(BadValue::new(key, &axis.name, "one lower-case letter other than u and e").into());
            }
            if !seen.insert(axis.name.clone()) {
                return Err(BadValue::new(key, &axis.name, "a name that no other axis has").into());
            }
        }
        if spec.axes.is_empty() || spec.axes.len() > 4 {
            return Err(BadValue::wrong("problem.axes", "one to four [[problem.axes]] are needed").into());
        }
        // Axes with conditions at one end alone come first: a time axis should not be the one that ranks share.
        let evolves = |axis: &AxisSpec| {
            let named = |c: &&super::spec::ConditionSpec| c.at.split('=').next().is_some_and(|n| n.trim() == axis.name);
            let places: BTreeSet<&str> =
                spec.conditions.iter().filter(named).filter_map(|c| c.at.split('=').nth(1)).map(str::trim).collect();
            !axis.periodic && places.len() == 1
        };
        let mut order: Vec<usize> = (0..spec.axes.len()).collect();
        order.sort_by_key(|i| (spec.axes[*i].windows == 1, !evolves(&spec.axes[*i])));
        let axes: Vec<AxisSpec> = order.iter().map(|i| spec.axes[*i].clone()).collect();
        let mut graph = Graph::new();
        let mut data_names = Names::new();
        let mut coordinates = Vec::new();
        for axis in &axes {
            let symbol = graph.symbol(&axis.name);
            coordinates.push(symbol);
            let node = graph.variable(symbol);
            data_names.insert(&axis.name, node);
        }
        let mut reader = Self {
            spec,
            inputs,
            graph,
            symbols: Symbols { coordinates, jets: Vec::new(), constants: Vec::new(), arrays: Vec::new() },
            all_names: data_names.clone(),
            data_names,
            axes,
            order,
            boxes: Vec::new(),
        };
        for i in 0..reader.axes.len() {
            reader.measure(i)?;
        }
        reader.arrays()?;
        reader.constants()?;
        reader.define()?;
        reader.name_jets();
        Ok(reader)
    }

    /// A new name for something that is no axis; refuses what has a meaning already.
    fn check_name(&self, key: &str, name: &str) -> Result<()> {
        if !is_name(name) || is_reserved(name) || name == "u" || name.starts_with("u_") {
            return Err(
                BadValue::new(key, format!("{name:?}"), "a name of lower-case letters, not a function's").into()
            );
        }
        if self.all_names.get(name).is_some() {
            return Err(BadValue::wrong(key, format!("`{name}` has a meaning already")).into());
        }
        Ok(())
    }

    fn arrays(&mut self) -> Result<()> {
        for (i, array) in self.spec.arrays.iter().enumerate() {
            let key = format!("problem.arrays.{i}");
            self.check_name(&format!("{key}.name"), &array.name)?;
            let in_file: Vec<&str> = match &array.axes {
                Some(axes) => axes.iter().map(String::as_str).collect(),
                None => self.spec.axes.iter().map(|a| a.name.as_str()).collect(),
            };
            let mut axes = Vec::new();
            for name in in_file {
                let Some(axis) = self.axes.iter().position(|a| a.name == name) else {
                    let names: Vec<&str> = self.spec.axes.iter().map(|a| a.name.as_str()).collect();
                    let expected = format!("axes of the problem: {}", names.join(", "));
                    return Err(BadValue::new(format!("{key}.axes"), name, expected).into());
                };
                let rule = match array.nodes {
                    _ if self.axes[axis].periodic => Rule::Periodic,
                    Nodes::Uniform => Rule::Uniform,
                    Nodes::Chebyshev => Rule::Chebyshev,
                };
                axes.push(ArrayAxis { axis, span: self.boxes[axis], rule });
            }
            let function = GridFunction::read(&key, &self.inputs.resolve(&array.file), &array.dataset, axes)?;
            let symbol = self.graph.symbol(&array.name);
            self.symbols.arrays.push((symbol, Arc::new(function)));
            let node = self.graph.variable(symbol);
            self.data_names.insert(&array.name, node);
            self.all_names.insert(&array.name, node);
        }
        Ok(())
    }

    /// Values of all constants, by case.
    fn cases(&self) -> Vec<Vec<f64>> {
        let guesses: Vec<f64> = self.spec.unknowns.iter().map(|u| u.guess).collect();
        match &self.spec.cases {
            None => vec![guesses],
            Some(cases) => cases.values.iter().map(|v| guesses.iter().copied().chain([*v]).collect()).collect(),
        }
    }

    /// The number that cases differ in may not multiply the unknown.
    fn check_slopes(&mut self, f: NodeId) -> Result<()> {
        let Some(cases) = &self.spec.cases else { return Ok(()) };
        let symbol = self.graph.symbol(&cases.name);
        let used = self.graph.variables(f);
        for (_, jet) in self.symbols.jets.clone().into_iter().filter(|(_, v)| used.contains(v)) {
            let slope = self.graph.derivative(f, jet);
            if self.graph.variables(slope).contains(&symbol) {
                let message =
                    format!("`{}` differs by case: it may be in right-hand sides, not in a factor of u", cases.name);
                return Err(BadValue::wrong("problem.equation", message).into());
            }
        }
        Ok(())
    }

    fn constants(&mut self) -> Result<()> {
        for (i, unknown) in self.spec.unknowns.iter().enumerate() {
            self.check_name(&format!("problem.unknowns.{i}.name"), &unknown.name)?;
            let symbol = self.graph.symbol(&unknown.name);
            self.symbols.constants.push(symbol);
            let node = self.graph.variable(symbol);
            self.all_names.insert(&unknown.name, node);
        }
        if let Some(cases) = &self.spec.cases {
            self.check_name("problem.cases.name", &cases.name)?;
            let symbol = self.graph.symbol(&cases.name);
            self.symbols.constants.push(symbol);
            let node = self.graph.variable(symbol);
            self.data_names.insert(&cases.name, node);
            self.all_names.insert(&cases.name, node);
        }
        Ok(())
    }

    /// The node with numbers for the unknown constants that it contains.
    fn with_constants(
        &mut self,
        node: NodeId,
        value: impl Fn(usize, &super::spec::UnknownSpec) -> std::result::Result<f64, BadValue>,
    ) -> Result<NodeId> {
        let used = self.graph.variables(node);
        let mut replacements = Vec::new();
        let unknown = self.symbols.constants[..self.spec.unknowns.len()].to_vec();
        for (i, symbol) in unknown.into_iter().enumerate().filter(|(_, v)| used.contains(v)) {
            replacements.push((symbol, self.graph.number(value(i, &self.spec.unknowns[i])?)));
        }
        Ok(self.graph.substitute(node, &replacements))
    }

    /// The manufactured solution: differentiated, so arrays cannot be in it.
    fn exact(&mut self, text: &str) -> Result<NodeId> {
        let node = self.function("problem.manufactured", text)?;
        let used = self.graph.variables(node);
        match self.symbols.arrays.iter().find(|(v, _)| used.contains(v)) {
            None => Ok(node),
            Some((v, _)) => {
                let message = format!("`{}` is an array, which has no derivatives", self.graph.name(*v));
                Err(BadValue::wrong("problem.manufactured", message).into())
            }
        }
    }

    /// The solution or a derivative of it by its name.
    fn quantity(&mut self, key: &str, name: &str, exact: Option<NodeId>) -> Result<Quantity> {
        let node = self.all_names.get(name).filter(|_| name == "u" || name.starts_with("u_"));
        let symbol = node.and_then(|node| self.graph.variables(node).into_iter().next());
        let jet = symbol.and_then(|v| self.symbols.jets.iter().find(|(_, w)| *w == v).map(|(index, _)| index.clone()));
        let Some((node, index)) = node.zip(jet) else {
            let expected = "u or a derivative of it up to order 4, such as u_x";
            return Err(BadValue::new(format!("problem.{key}"), format!("{name:?}"), expected).into());
        };
        let exact = exact.map(|exact| {
            let exact = self.on(node, exact);
            JetProgram::of(&self.graph, &[exact], &self.symbols)
        });
        Ok(Quantity { name: name.to_owned(), index, exact })
    }

    fn define(&mut self) -> Result<()> {
        for (i, text) in self.spec.define.iter().enumerate() {
            let key = format!("problem.define.{i}");
            let Some((name, body)) = text.split_once('=') else {
                return Err(BadValue::new(key, format!("{text:?}"), "name = expression").into());
            };
            let name = name.trim();
            self.check_name(&key, name)?;
            let before = text.chars().count() - body.chars().count();
            let names = self.data_names.clone();
            let node = self.parse(&key, body, text, before, &names)?;
            self.data_names.insert(name, node);
            self.all_names.insert(name, node);
        }
        Ok(())
    }

    /// `u`, `u_x`, `u_xy`, … with letters in any order.
    fn name_jets(&mut self) {
        let d = self.axes.len();
        let mut words: Vec<(String, MultiIndex)> = vec![(String::new(), vec![0; d])];
        let mut all = words.clone();
        for _ in 0..MAX_ORDER {
            let mut longer = Vec::new();
            for (word, index) in &words {
                for (a, axis) in self.axes.iter().enumerate() {
                    let mut index = index.clone();
                    index[a] += 1;
                    longer.push((format!("{word}{}", axis.name), index));
                }
            }
            all.extend(longer.iter().cloned());
            words = longer;
        }
        for (word, index) in all {
            let known = self.symbols.jets.iter().find(|(i, _)| *i == index).map(|(_, v)| *v);
            let name = if word.is_empty() { "u".to_owned() } else { format!("u_{word}") };
            let symbol = known.unwrap_or_else(|| {
                let symbol = self.graph.symbol(&name);
                self.symbols.jets.push((index, symbol));
                symbol
            });
            let node = self.graph.variable(symbol);
            self.all_names.insert(&name, node);
        }
    }

    fn measure(&mut self, i: usize) -> Result<()> {
        let at = self.order[i];
        let axis = self.axes[i].clone();
        let start = self.number(&format!("problem.axes.{at}.from"), &axis.from)?;
        let end = self.number(&format!("problem.axes.{at}.to"), &axis.to)?;
        if end <= start {
            return Err(BadValue::new(format!("problem.axes.{at}.to"), end, format!("more than from = {start}")).into());
        }
        if axis.points < 4 {
            return Err(BadValue::new(format!("problem.axes.{at}.points"), axis.points, "at least 4").into());
        }
        if axis.periodic && axis.nodes == Some(Nodes::Chebyshev) {
            let key = format!("problem.axes.{at}.nodes");
            return Err(BadValue::new(key, "chebyshev", "uniform nodes on a periodic axis").into());
        }
        self.boxes.push((start, end - start));
        Ok(())
    }

    fn number(&mut self, key: &str, number: &Number) -> Result<f64> {
        let value = match number {
            Number::Value(value) => *value,
            Number::Text(text) => {
                let names = self.data_names.clone();
                let node = self.parse(key, text, text, 0, &names)?;
                let Some(value) = self.graph.constant(node) else {
                    return Err(
                        BadValue::new(key, format!("{text:?}"), "a number or an expression without variables").into()
                    );
                };
                value
            }
        };
        if !value.is_finite() {
            return Err(BadValue::new(key, value, "a finite number").into());
        }
        Ok(value)
    }

    /// A function of the coordinates.
    fn function(&mut self, key: &str, text: &str) -> Result<NodeId> {
        let names = self.data_names.clone();
        self.parse(key, text, text, 0, &names)
    }

    /// Both sides of `left = right`, the second of which may be missing where `optional`.
    fn sides(&mut self, key: &str, text: &str, optional: bool) -> Result<(NodeId, Option<NodeId>)> {
        let names = self.all_names.clone();
        let (left, right) = match text.split_once('=') {
            Some((left, right)) => (left, Some(right)),
            None if optional => (text, None),
            None => return Err(BadValue::new(key, format!("{text:?}"), "left = right").into()),
        };
        let lhs = self.parse(key, left, text, 0, &names)?;
        let rhs = right.map(|right| {
            let before = text.chars().count() - right.chars().count();
            self.parse(key, right, text, before, &names)
        });
        Ok((lhs, rhs.transpose()?))
    }

    fn parse(&mut self, key: &str, text: &str, whole: &str, before: usize, names: &Names) -> Result<NodeId> {
        self.graph.parse(text, names).map_err(|error| {
            let error = error.within(whole, before);
            BadValue::wrong(key, format!("{} in column {}\n{error}", error.problem, error.column)).into()
        })
    }

    /// An expression in u with `u` put in.
    fn on(&mut self, node: NodeId, u: NodeId) -> NodeId {
        let jets = self.symbols.jets.clone();
        let used = self.graph.variables(node);
        let mut replacements = Vec::new();
        for (index, symbol) in jets.iter().filter(|(_, v)| used.contains(v)) {
            let mut derivative = u;
            for (axis, order) in index.iter().enumerate() {
                for _ in 0..*order {
                    derivative = self.graph.derivative(derivative, self.symbols.coordinates[axis]);
                }
            }
            replacements.push((*symbol, derivative));
        }
        self.graph.substitute(node, &replacements)
    }

    fn conditions(&mut self, exact: Option<NodeId>) -> Result<Vec<Condition>> {
        let spec = self.spec;
        let mut conditions = Vec::new();
        let mut named = BTreeSet::new();
        for (i, condition) in spec.conditions.iter().enumerate().filter(|(_, c)| c.at != "boundary") {
            let key = format!("problem.conditions.{i}.at");
            let place = condition.at.split_once('=').map(|(name, at)| (name.trim(), at.trim()));
            let found = place.and_then(|(name, at)| Some((self.axes.iter().position(|a| a.name == name)?, at)));
            let Some((axis, at)) = found else {
                let names: Vec<String> = self.axes.iter().map(|a| format!("{} = …", a.name)).collect();
                let expected = format!("an end of an axis ({}) or \"boundary\"", names.join(", "));
                return Err(BadValue::new(key, format!("{:?}", condition.at), expected).into());
            };
            let at = self.number(&key, &Number::Text(at.to_owned()))?;
            let (start, length) = self.boxes[axis];
            let ends = [0.0, length].into_iter().find(|end| (start + end - at).abs() <= 1e-12 * (length + start.abs()));
            let Some(at) = ends else {
                let expected = format!("{} = {start} or {}", self.axes[axis].name, start + length);
                return Err(BadValue::new(key, format!("{:?}", condition.at), expected).into());
            };
            named.insert(axis);
            conditions.push(self.condition(i, axis, at, exact)?);
        }
        for (i, _) in spec.conditions.iter().enumerate().filter(|(_, c)| c.at == "boundary") {
            let open: Vec<usize> =
                (0..self.axes.len()).filter(|a| !named.contains(a) && !self.axes[*a].periodic).collect();
            for axis in open {
                for at in [0.0, self.boxes[axis].1] {
                    conditions.push(self.condition(i, axis, at, exact)?);
                }
            }
        }
        Ok(conditions)
    }

    fn condition(&mut self, i: usize, axis: usize, at: f64, exact: Option<NodeId>) -> Result<Condition> {
        let key = format!("problem.conditions.{i}.equation");
        let spec = self.spec;
        let text = &spec.conditions[i].equation;
        let (lhs, rhs) = self.sides(&key, text, exact.is_some())?;
        let zero = self.graph.number(0.0);
        let f = rhs.map_or(lhs, |rhs| self.graph.sub(lhs, rhs));
        let mut terms = Vec::new();
        let jets = self.symbols.jets.clone();
        let used = self.graph.variables(f);
        if let Some(v) = self.symbols.constants[..spec.unknowns.len()].iter().find(|v| used.contains(v)) {
            let message =
                format!("`{}` is unknown: conditions hold exactly, unknowns are for the equation", self.graph.name(*v));
            return Err(BadValue::wrong(key, message).into());
        }
        for (index, symbol) in jets.iter().filter(|(_, v)| used.contains(v)) {
            let slope = self.graph.derivative(f, *symbol);
            let along = index.iter().enumerate().all(|(a, order)| a == axis || *order == 0);
            let Some(c) = self.graph.constant(slope).filter(|_| along) else {
                let name = &self.axes[axis].name;
                let expected =
                    format!("constants times u and its derivatives along {name}, = a function of the others");
                return Err(BadValue::new(key, format!("{text:?}"), expected).into());
            };
            terms.push((index[axis], c));
        }
        if terms.is_empty() {
            return Err(BadValue::new(key, format!("{text:?}"), "u or a derivative of it in the condition").into());
        }
        let none: Vec<_> = jets.iter().map(|(_, v)| (*v, zero)).collect();
        let data = match (rhs, exact) {
            (None, Some(exact)) => self.on(lhs, exact),
            _ => {
                let without = self.graph.substitute(f, &none);
                self.graph.neg(without)
            }
        };
        let here = self.graph.number(self.boxes[axis].0 + at);
        let data = self.graph.substitute(data, &[(self.symbols.coordinates[axis], here)]);
        let data = JetProgram::of(&self.graph, &[data], &self.symbols);
        Ok(Condition { axis, functional: Functional { at, terms }, data })
    }
}
