//! Expressions as a graph in which equal parts are one node. Operands have smaller numbers than what uses them, so a
//! node's parts in ascending order are in an order of evaluation, and nothing here recurses.

use convoke_kernels::pointwise::{Binary, Unary};
use std::collections::{BTreeSet, HashMap};

/// A node of a [`Graph`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(u32);

/// A symbol without a value: an unknown, a coordinate, a derivative of an unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Variable(u32);

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Node {
    /// A number.
    Number(f64),
    /// A symbol.
    Variable(Variable),
    /// f(a)
    Unary(Unary, NodeId),
    /// f(a, b)
    Binary(Binary, NodeId, NodeId),
    /// a^n
    PowI(NodeId, i32),
}

/// A node by value: a number by its bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Key {
    Number(u64),
    Variable(Variable),
    Unary(Unary, NodeId),
    Binary(Binary, NodeId, NodeId),
    PowI(NodeId, i32),
}

/// Expressions that share their equal parts. Numbers are folded and sums and products with 0 and 1 simplified as they
/// are built (so 0 * x is 0 and x - x is 0 whatever x will be).
#[derive(Clone, Debug, Default)]
pub struct Graph {
    nodes: Vec<Node>,
    known: HashMap<Key, NodeId>,
    names: Vec<String>,
    pub(super) derivatives: HashMap<(NodeId, Variable), NodeId>,
}

impl Graph {
    /// No expressions.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of nodes.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// True for no nodes.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The symbol of this name; the same name gives the same symbol.
    pub fn symbol(&mut self, name: &str) -> Variable {
        let known = self.names.iter().position(|n| n == name);
        let index = known.unwrap_or_else(|| {
            self.names.push(name.to_owned());
            self.names.len() - 1
        });
        Variable(u32::try_from(index).expect("fewer than 2^32 symbols"))
    }

    /// Name of a symbol.
    pub fn name(&self, variable: Variable) -> &str {
        &self.names[variable.0 as usize]
    }

    /// What a node is.
    pub fn node(&self, id: NodeId) -> Node {
        self.nodes[id.0 as usize]
    }

    /// The node's number, if it is one.
    pub fn constant(&self, id: NodeId) -> Option<f64> {
        match self.node(id) {
            Node::Number(x) => Some(x),
            _ => None,
        }
    }

    /// A number.
    pub fn number(&mut self, x: f64) -> NodeId {
        // -0 is 0: simplifications must not depend on the sign of nothing.
        let x = if x == 0.0 { 0.0 } else { x };
        self.intern(Key::Number(x.to_bits()), Node::Number(x))
    }

    /// A symbol as an expression.
    pub fn variable(&mut self, v: Variable) -> NodeId {
        self.intern(Key::Variable(v), Node::Variable(v))
    }

    /// -a
    pub fn neg(&mut self, a: NodeId) -> NodeId {
        self.unary(Unary::Neg, a)
    }

    /// a + b
    pub fn add(&mut self, a: NodeId, b: NodeId) -> NodeId {
        match (self.node(a), self.node(b)) {
            (Node::Number(x), Node::Number(y)) => self.number(x + y),
            (Node::Number(0.0), _) => b,
            (_, Node::Number(0.0)) => a,
            (Node::Unary(Unary::Neg, x), _) => self.sub(b, x),
            (_, Node::Unary(Unary::Neg, y)) => self.sub(a, y),
            _ if a == b => {
                let two = self.number(2.0);
                self.mul(two, a)
            }
            _ => self.commutative(Binary::Add, a, b),
        }
    }

    /// a - b
    pub fn sub(&mut self, a: NodeId, b: NodeId) -> NodeId {
        match (self.node(a), self.node(b)) {
            (Node::Number(x), Node::Number(y)) => self.number(x - y),
            (Node::Number(0.0), _) => self.neg(b),
            (_, Node::Number(0.0)) => a,
            (_, Node::Unary(Unary::Neg, y)) => self.add(a, y),
            _ if a == b => self.number(0.0),
            _ => self.intern_binary(Binary::Sub, a, b),
        }
    }

    /// a b
    pub fn mul(&mut self, a: NodeId, b: NodeId) -> NodeId {
        match (self.node(a), self.node(b)) {
            (Node::Number(x), Node::Number(y)) => self.number(x * y),
            (_, Node::Number(_)) => self.mul(b, a),
            (Node::Number(0.0), _) => a,
            (Node::Number(1.0), _) => b,
            (Node::Number(-1.0), _) => self.neg(b),
            (Node::Number(x), Node::Unary(Unary::Neg, b)) => {
                let x = self.number(-x);
                self.mul(x, b)
            }
            // x (y c) = (x y) c
            (Node::Number(x), Node::Binary(Binary::Mul, y, c)) if self.constant(y).is_some() => {
                let y = self.constant(y).expect("just seen");
                let xy = self.number(x * y);
                self.mul(xy, c)
            }
            (Node::Unary(Unary::Neg, a), Node::Unary(Unary::Neg, b)) => self.mul(a, b),
            (Node::Unary(Unary::Neg, inner), _) => {
                let product = self.mul(inner, b);
                self.neg(product)
            }
            (_, Node::Unary(Unary::Neg, inner)) => {
                let product = self.mul(a, inner);
                self.neg(product)
            }
            _ if a == b => self.powi(a, 2),
            _ => self.commutative(Binary::Mul, a, b),
        }
    }

    /// a / b
    pub fn div(&mut self, a: NodeId, b: NodeId) -> NodeId {
        match (self.node(a), self.node(b)) {
            (Node::Number(x), Node::Number(y)) => self.number(x / y),
            (Node::Number(0.0), _) | (_, Node::Number(1.0)) => a,
            (_, Node::Number(-1.0)) => self.neg(a),
            (Node::Unary(Unary::Neg, a), _) => {
                let quotient = self.div(a, b);
                self.neg(quotient)
            }
            _ => self.intern_binary(Binary::Div, a, b),
        }
    }

    /// a^n
    pub fn powi(&mut self, a: NodeId, n: i32) -> NodeId {
        match (self.node(a), n) {
            (_, 0) => self.number(1.0),
            (_, 1) => a,
            (Node::Number(x), _) => self.number(x.powf(f64::from(n))),
            (Node::PowI(a, m), _) if m.checked_mul(n).is_some() => self.powi(a, m * n),
            (Node::Unary(Unary::Neg, a), _) if n % 2 == 0 => self.powi(a, n),
            _ => self.intern(Key::PowI(a, n), Node::PowI(a, n)),
        }
    }

    /// a^b
    pub fn pow(&mut self, a: NodeId, b: NodeId) -> NodeId {
        if let Some(y) = self.constant(b) {
            if y.fract() == 0.0 && y.abs() <= f64::from(i32::MAX) {
                return self.powi(a, y as i32);
            }
            if y == 0.5 {
                return self.unary(Unary::Sqrt, a);
            }
        }
        match (self.constant(a), self.constant(b)) {
            (Some(x), Some(y)) => self.number(x.powf(y)),
            (Some(std::f64::consts::E), None) => self.unary(Unary::Exp, b),
            _ => self.intern_binary(Binary::Pow, a, b),
        }
    }

    /// f(a)
    pub fn unary(&mut self, f: Unary, a: NodeId) -> NodeId {
        match (f, self.node(a)) {
            (_, Node::Number(x)) => self.number(f.apply(x)),
            (Unary::Neg, Node::Unary(Unary::Neg, a)) => a,
            (Unary::Neg, Node::Binary(Binary::Sub, a, b)) => self.sub(b, a),
            (Unary::Abs, Node::Unary(Unary::Neg | Unary::Abs, inner)) => self.unary(Unary::Abs, inner),
            _ => self.intern(Key::Unary(f, a), Node::Unary(f, a)),
        }
    }

    /// f(a, b)
    pub fn binary(&mut self, f: Binary, a: NodeId, b: NodeId) -> NodeId {
        match f {
            Binary::Add => self.add(a, b),
            Binary::Sub => self.sub(a, b),
            Binary::Mul => self.mul(a, b),
            Binary::Div => self.div(a, b),
            Binary::Pow => self.pow(a, b),
            Binary::Atan2 | Binary::Min | Binary::Max => match (self.constant(a), self.constant(b)) {
                (Some(x), Some(y)) => self.number(f.apply(x, y)),
                _ if f == Binary::Atan2 => self.intern_binary(f, a, b),
                _ if a == b => a,
                _ => self.commutative(f, a, b),
            },
        }
    }

    /// The node with each of these symbols replaced.
    pub fn substitute(&mut self, node: NodeId, replacements: &[(Variable, NodeId)]) -> NodeId {
        let mut new: HashMap<NodeId, NodeId> = HashMap::new();
        for id in self.parts(&[node]) {
            let replaced = match self.node(id) {
                Node::Number(_) => id,
                Node::Variable(v) => replacements.iter().find(|(w, _)| *w == v).map_or(id, |(_, to)| *to),
                Node::Unary(f, a) => self.unary(f, new[&a]),
                Node::Binary(f, a, b) => self.binary(f, new[&a], new[&b]),
                Node::PowI(a, n) => self.powi(new[&a], n),
            };
            new.insert(id, replaced);
        }
        new[&node]
    }

    /// The symbols that a node depends on.
    pub fn variables(&self, node: NodeId) -> BTreeSet<Variable> {
        let parts = self.parts(&[node]).into_iter();
        let symbol = |id| match self.node(id) {
            Node::Variable(v) => Some(v),
            _ => None,
        };
        parts.filter_map(symbol).collect()
    }

    /// The node's value; NaN where a symbol has none.
    pub fn eval(&self, node: NodeId, values: &[(Variable, f64)]) -> f64 {
        let mut at: HashMap<NodeId, f64> = HashMap::new();
        for id in self.parts(&[node]) {
            let value = match self.node(id) {
                Node::Number(x) => x,
                Node::Variable(v) => values.iter().find(|(w, _)| *w == v).map_or(f64::NAN, |(_, x)| *x),
                Node::Unary(f, a) => f.apply(at[&a]),
                Node::Binary(f, a, b) => f.apply(at[&a], at[&b]),
                Node::PowI(a, n) => at[&a].powf(f64::from(n)),
            };
            at.insert(id, value);
        }
        at[&node]
    }

    /// The nodes that `roots` are made of, and themselves, in ascending order: operands before what uses them.
    pub(super) fn parts(&self, roots: &[NodeId]) -> Vec<NodeId> {
        let mut found = BTreeSet::new();
        let mut open = roots.to_vec();
        while let Some(id) = open.pop() {
            if found.insert(id) {
                match self.node(id) {
                    Node::Number(_) | Node::Variable(_) => {}
                    Node::Unary(_, a) | Node::PowI(a, _) => open.push(a),
                    Node::Binary(_, a, b) => open.extend([a, b]),
                }
            }
        }
        found.into_iter().collect()
    }

    fn commutative(&mut self, f: Binary, a: NodeId, b: NodeId) -> NodeId {
        // A number stays on the left, where `mul` looks for it.
        let swap = self.constant(a).is_none() && (self.constant(b).is_some() || b < a);
        if swap { self.intern_binary(f, b, a) } else { self.intern_binary(f, a, b) }
    }

    fn intern_binary(&mut self, f: Binary, a: NodeId, b: NodeId) -> NodeId {
        self.intern(Key::Binary(f, a, b), Node::Binary(f, a, b))
    }

    fn intern(&mut self, key: Key, node: Node) -> NodeId {
        *self.known.entry(key).or_insert_with(|| {
            self.nodes.push(node);
            NodeId(u32::try_from(self.nodes.len() - 1).expect("fewer than 2^32 nodes"))
        })
    }
}
