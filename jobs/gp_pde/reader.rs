//! Reading the texts of a job file: names, the graph of expressions, conditions.

use std::collections::BTreeSet;
use std::sync::Arc;

use convoke_cluster::workload::Inputs;
use convoke_cluster::{BadValue, Result};

use super::arrays::{ArrayAxis, GridFunction, Rule};
use super::axis::Functional;
use super::equation::{JetProgram, MultiIndex, Symbols};
use super::spec::{AxisSpec, ConditionSpec, Nodes, Spec, UnknownSpec};
use super::statement::{Condition, Quantity};
use crate::expression::{Graph, Names, NodeId, Number, is_name, is_reserved};

/// Highest total order of a derivative.
const MAX_ORDER: usize = 4;

/// Names and the graph, while texts are read.
pub(super) struct Reader<'a> {
    spec: &'a Spec,
    inputs: &'a Inputs,
    pub(super) graph: Graph,
    pub(super) symbols: Symbols,
    /// Coordinates, arrays and definitions.
    data_names: Names,
    /// Those, and the unknown with its derivatives.
    all_names: Names,
    pub(super) axes: Vec<AxisSpec>,
    pub(super) order: Vec<usize>,
    pub(super) boxes: Vec<(f64, f64)>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(spec: &'a Spec, inputs: &'a Inputs) -> Result<Self> {
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
            let named = |c: &&ConditionSpec| c.at.split('=').next().is_some_and(|n| n.trim() == axis.name);
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
    pub(super) fn cases(&self) -> Vec<Vec<f64>> {
        let guesses: Vec<f64> = self.spec.unknowns.iter().map(|u| u.guess).collect();
        match &self.spec.cases {
            None => vec![guesses],
            Some(cases) => cases.values.iter().map(|v| guesses.iter().copied().chain([*v]).collect()).collect(),
        }
    }

    /// The number that cases differ in may not multiply the unknown.
    pub(super) fn check_slopes(&mut self, f: NodeId) -> Result<()> {
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
    pub(super) fn with_constants(
        &mut self,
        node: NodeId,
        value: impl Fn(usize, &UnknownSpec) -> std::result::Result<f64, BadValue>,
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
    pub(super) fn exact(&mut self, text: &str) -> Result<NodeId> {
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
    pub(super) fn quantity(&mut self, key: &str, name: &str, exact: Option<NodeId>) -> Result<Quantity> {
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
    pub(super) fn sides(&mut self, key: &str, text: &str, optional: bool) -> Result<(NodeId, Option<NodeId>)> {
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
    pub(super) fn on(&mut self, node: NodeId, u: NodeId) -> NodeId {
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

    pub(super) fn conditions(&mut self, exact: Option<NodeId>) -> Result<Vec<Condition>> {
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
