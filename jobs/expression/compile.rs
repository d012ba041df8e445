//! From expressions to a program for every point of a grid.

use super::graph::{Graph, Node, NodeId, Variable};
use convoke_kernels::pointwise::{Op, Program};
use std::collections::HashMap;

/// An output depends on a symbol that is no input.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the expression depends on {name}, which has no value here")]
pub struct MissingInput {
    /// Name of the symbol.
    pub name: String,
}

/// The program that computes `outputs` from `inputs`, in these orders. Equal parts are computed once, and nothing that
/// no output needs. Errors where an output depends on another symbol than `inputs`.
pub fn compile(graph: &Graph, outputs: &[NodeId], inputs: &[Variable]) -> Result<Program, MissingInput> {
    let mut ops = Vec::new();
    let mut at: HashMap<NodeId, usize> = HashMap::new();
    for id in order(graph, outputs) {
        let op = match graph.node(id) {
            Node::Number(x) => Op::Constant(x),
            Node::Variable(v) => match inputs.iter().position(|i| *i == v) {
                Some(k) => Op::Input(k),
                None => return Err(MissingInput { name: graph.name(v).to_owned() }),
            },
            Node::Unary(f, a) => Op::Unary(f, at[&a]),
            Node::Binary(f, a, b) => Op::Binary(f, at[&a], at[&b]),
            Node::PowI(a, n) => Op::PowI(at[&a], n),
        };
        at.insert(id, ops.len());
        ops.push(op);
    }
    let outputs = outputs.iter().map(|id| at[id]).collect();
    Ok(Program::new(inputs.len(), ops, outputs).expect("operands come first, and inputs were looked up"))
}

/// Depth first: a value is used soon after it is computed, which keeps few of them alive.
fn order(graph: &Graph, outputs: &[NodeId]) -> Vec<NodeId> {
    let mut order = Vec::new();
    let mut placed = std::collections::HashSet::new();
    for output in outputs {
        // (node, whether its operands are placed)
        let mut open = vec![(*output, false)];
        while let Some((id, ready)) = open.pop() {
            if placed.contains(&id) {
                continue;
            }
            if ready {
                placed.insert(id);
                order.push(id);
                continue;
            }
            open.push((id, true));
            match graph.node(id) {
                Node::Number(_) | Node::Variable(_) => {}
                Node::Unary(_, a) | Node::PowI(a, _) => open.push((a, false)),
                Node::Binary(_, a, b) => open.extend([(b, false), (a, false)]),
            }
        }
    }
    order
}
