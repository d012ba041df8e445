//! The equation `F(x, u, ∂u, …) = 0`, split into what is inverted exactly and the rest.
//!
//! The separable part is linear, each of its terms a derivative along one axis with a coefficient of that axis alone, or
//! of order zero with a constant. What remains, `N = F − separable part`, holds the right-hand side, nonlinear terms,
//! mixed derivatives and what variable coefficients have beyond their mean. All derivatives of `F` are symbolic.

use std::sync::Arc;

use convoke_cluster::Result;
use convoke_kernels::pointwise::{Input, Program};
use convoke_kernels::{Buffer, Device};

use super::arrays::GridFunction;
use super::grid::Grid;
use crate::expression::{Graph, NodeId, Variable, compile};

/// A partial derivative of the unknown: an order for each axis.
pub type MultiIndex = Vec<usize>;

/// The names that an equation can use.
#[derive(Debug, Clone)]
pub struct Symbols {
    /// Coordinates, by axis.
    pub coordinates: Vec<Variable>,
    /// The unknown and its derivatives.
    pub jets: Vec<(MultiIndex, Variable)>,
    /// Unknown constants.
    pub constants: Vec<Variable>,
    /// Functions that are given by arrays.
    pub arrays: Vec<(Variable, Arc<GridFunction>)>,
}

/// A program with what it reads after the coordinates: derivatives of the unknown, unknown constants, arrays.
#[derive(Debug, Clone)]
pub struct JetProgram {
    program: Program,
    /// Derivatives that it reads, in order.
    pub jets: Vec<MultiIndex>,
    /// Positions of the unknown constants that it reads.
    constants: Vec<usize>,
    /// Functions that it reads.
    pub arrays: Vec<Arc<GridFunction>>,
}

/// Points of a tensor grid: the coordinates along each axis, in the problem's own units.
pub type Coordinates = Vec<Vec<f64>>;

impl JetProgram {
    /// The program of these expressions.
    ///
    /// # Panics
    /// Where they depend on a symbol that is none of `symbols`.
    pub fn of(graph: &Graph, outputs: &[NodeId], symbols: &Symbols) -> Self {
        let used: std::collections::BTreeSet<Variable> = outputs.iter().flat_map(|o| graph.variables(*o)).collect();
        let jets: Vec<_> = symbols.jets.iter().filter(|(_, v)| used.contains(v)).collect();
        let constants: Vec<usize> =
            (0..symbols.constants.len()).filter(|i| used.contains(&symbols.constants[*i])).collect();
        let arrays: Vec<_> = symbols.arrays.iter().filter(|(v, _)| used.contains(v)).collect();
        let mut inputs = symbols.coordinates.clone();
        inputs.extend(jets.iter().map(|(_, v)| *v));
        inputs.extend(constants.iter().map(|i| symbols.constants[*i]));
        inputs.extend(arrays.iter().map(|(v, _)| *v));
        let program = compile(graph, outputs, &inputs).expect("an equation is over known symbols");
        Self {
            program,
            jets: jets.into_iter().map(|(index, _)| index.clone()).collect(),
            constants,
            arrays: arrays.into_iter().map(|(_, array)| array.clone()).collect(),
        }
    }

    /// All outputs at all points of a tensor grid, given the derivatives there.
    ///
    /// # Errors
    /// Where the device fails.
    ///
    /// # Panics
    /// Where the program reads unknown constants.
    pub fn run(&self, device: &Device, grid: &Coordinates, jets: &mut [Buffer<f64>]) -> Result<Vec<Buffer<f64>>> {
        self.run_with(device, grid, jets, &[])
    }

    /// As [`JetProgram::run`], with values for all unknown constants of the problem.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn run_with(
        &self,
        device: &Device,
        grid: &Coordinates,
        jets: &mut [Buffer<f64>],
        constants: &[f64],
    ) -> Result<Vec<Buffer<f64>>> {
        let mut jets: Vec<&mut Buffer<f64>> = jets.iter_mut().collect();
        self.run_on(device, &mut Grid::new(device, grid.clone())?, &mut jets, constants)
    }

    /// As [`JetProgram::run_with`], on a grid that is kept for more runs.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn run_on(
        &self,
        device: &Device,
        grid: &mut Grid,
        jets: &mut [&mut Buffer<f64>],
        constants: &[f64],
    ) -> Result<Vec<Buffer<f64>>> {
        let n = grid.n_points();
        let (mut inputs, arrays) = grid.inputs(device, &self.arrays)?;
        inputs.extend(jets.iter_mut().map(|jet| Input::Field(jet)));
        inputs.extend(self.constants.iter().map(|i| Input::Scalar(constants[*i])));
        inputs.extend(arrays);
        let mut outputs: Vec<Buffer<f64>> =
            (0..self.program.n_outputs()).map(|_| Buffer::zeros(device, n)).collect::<std::result::Result<_, _>>()?;
        let mut slots: Vec<&mut Buffer<f64>> = outputs.iter_mut().collect();
        if n > 0 {
            self.program.run(device, n, &mut inputs, &mut slots)?;
        }
        Ok(outputs)
    }
}

/// `F`, and its slopes with respect to the unknown, its derivatives and the unknown constants.
#[derive(Debug, Clone)]
pub struct Linearisation {
    /// Outputs: `F`, `∂F/∂(∂ᵅu)` for each α of `jets`, `∂F/∂θ` for each unknown constant.
    pub program: JetProgram,
    /// Derivatives of the unknown in `F`.
    pub jets: Vec<MultiIndex>,
    /// Whether `F` is linear in the unknown and the constants taken together.
    pub is_linear: bool,
}

impl Linearisation {
    /// The slopes of `f`.
    pub fn new(graph: &mut Graph, f: NodeId, symbols: &Symbols) -> Self {
        let used = graph.variables(f);
        let jets: Vec<_> = symbols.jets.iter().filter(|(_, v)| used.contains(v)).cloned().collect();
        let unknowns: Vec<Variable> = jets.iter().map(|(_, v)| *v).chain(symbols.constants.iter().copied()).collect();
        let mut outputs = vec![f];
        outputs.extend(unknowns.iter().map(|v| graph.derivative(f, *v)));
        let is_linear = outputs[1..].iter().all(|o| graph.variables(*o).iter().all(|v| !unknowns.contains(v)));
        let jets = jets.into_iter().map(|(index, _)| index).collect();
        Self { program: JetProgram::of(graph, &outputs, symbols), jets, is_linear }
    }
}

/// The equation, ready to be solved.
#[derive(Debug, Clone)]
pub struct Equation {
    /// By axis: order and coefficient, a program of all coordinates that depends on this axis only.
    pub axis_terms: Vec<Vec<(usize, JetProgram)>>,
    /// Coefficient of the zero-order term of the separable part.
    pub constant: f64,
    /// `N` at every point.
    pub rest: JetProgram,
    /// `∂N/∂(∂ᵅu)` for each α of `jacobian_of`.
    pub jacobian: JetProgram,
    /// Derivatives that the Jacobian of `N` multiplies.
    pub jacobian_of: Vec<MultiIndex>,
    /// Whether the Jacobian depends on the unknown.
    pub is_nonlinear: bool,
    /// `F`, then the size of its parts: `F` without the unknown, and `∂F/∂(∂ᵅu) · ∂ᵅu` for each α.
    pub residual: JetProgram,
}

impl Equation {
    /// Splits `f`. `sample` holds a few points of each axis, over which variable coefficients are averaged.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn new(graph: &mut Graph, f: NodeId, symbols: &Symbols, sample: &Coordinates) -> Result<Self> {
        let used = graph.variables(f);
        let jets: Vec<(MultiIndex, Variable)> =
            symbols.jets.iter().filter(|(_, v)| used.contains(v)).cloned().collect();
        let jet_variables: Vec<Variable> = jets.iter().map(|(_, v)| *v).collect();
        let zero = graph.number(0.0);
        let without_jets: Vec<(Variable, NodeId)> = jet_variables.iter().map(|v| (*v, zero)).collect();
        let mut axis_terms = vec![Vec::new(); sample.len()];
        let (mut constant, mut rest, mut slopes) = (0.0, f, Vec::new());
        for (index, variable) in &jets {
            let slope = graph.derivative(f, *variable);
            slopes.push(slope);
            let at_zero = graph.substitute(slope, &without_jets);
            let affine = !graph.variables(slope).iter().any(|v| jet_variables.contains(v));
            // The part of the coefficient that the separable operator takes.
            let axes: Vec<usize> = (0..index.len()).filter(|a| index[*a] > 0).collect();
            let depends_on: Vec<usize> = {
                let variables = graph.variables(at_zero);
                let in_arrays: Vec<usize> =
                    symbols.arrays.iter().filter(|(v, _)| variables.contains(v)).flat_map(|(_, f)| f.axes()).collect();
                (0..sample.len())
                    .filter(|a| variables.contains(&symbols.coordinates[*a]) || in_arrays.contains(a))
                    .collect()
            };
            let taken = match (axes.as_slice(), depends_on.as_slice()) {
                ([], []) | ([_], []) => Some(at_zero),
                ([a], [b]) if a == b => Some(at_zero),
                ([] | [_], _) => {
                    let mean = JetProgram::of(graph, &[at_zero], symbols);
                    let values = mean.run(&Device::cpu(), sample, &mut [])?.swap_remove(0).into_vec();
                    let mean = values.iter().sum::<f64>() / values.len() as f64;
                    mean.is_finite().then(|| graph.number(mean))
                }
                _ => None,
            };
            if let Some(taken) = taken {
                match axes.first() {
                    Some(axis) => {
                        axis_terms[*axis].push((index[*axis], JetProgram::of(graph, &[taken], symbols)));
                    }
                    None => constant += graph.constant(taken).unwrap_or(0.0),
                }
            }
            // F − taken · ∂ᵅu, without a trace of ∂ᵅu where all of it is taken.
            if affine {
                rest = graph.substitute(rest, &[(*variable, zero)]);
                let left = taken.map_or(at_zero, |taken| graph.sub(at_zero, taken));
                let jet = graph.variable(*variable);
                let term = graph.mul(left, jet);
                rest = graph.add(rest, term);
            } else if let Some(taken) = taken {
                let jet = graph.variable(*variable);
                let term = graph.mul(taken, jet);
                rest = graph.sub(rest, term);
            }
        }
        let in_rest = graph.variables(rest);
        let (mut jacobian_of, mut coefficients) = (Vec::new(), Vec::new());
        for (index, variable) in jets.iter().filter(|(_, v)| in_rest.contains(v)) {
            let slope = graph.derivative(rest, *variable);
            if graph.constant(slope) != Some(0.0) {
                jacobian_of.push(index.clone());
                coefficients.push(slope);
            }
        }
        let is_nonlinear = coefficients.iter().any(|c| graph.variables(*c).iter().any(|v| jet_variables.contains(v)));
        let mut parts = vec![f, graph.substitute(f, &without_jets)];
        for ((_, variable), slope) in jets.iter().zip(slopes) {
            let jet = graph.variable(*variable);
            parts.push(graph.mul(slope, jet));
        }
        Ok(Self {
            axis_terms,
            constant,
            rest: JetProgram::of(graph, &[rest], symbols),
            jacobian: JetProgram::of(graph, &coefficients, symbols),
            jacobian_of,
            is_nonlinear,
            residual: JetProgram::of(graph, &parts, symbols),
        })
    }

    /// Whether one solve with the separable part is the answer.
    pub fn is_direct(&self) -> bool {
        self.jacobian_of.is_empty()
    }

    /// Highest derivative along each axis.
    pub fn max_orders(&self) -> Vec<usize> {
        (0..self.axis_terms.len())
            .map(|axis| {
                let separable = self.axis_terms[axis].iter().map(|t| t.0);
                separable.chain(self.residual.jets.iter().map(|j| j[axis])).max().unwrap_or(0)
            })
            .collect()
    }
}
