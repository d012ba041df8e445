//! Derivatives of expressions. Of |x|, sign, step, min and max they are those that hold almost everywhere: at a kink
//! one of the two sides, at a jump 0.

use super::graph::{Graph, Node, NodeId, Variable};
use convoke_kernels::pointwise::{Binary, Unary};
use std::f64::consts::{LN_2, LN_10, PI};

impl Graph {
    /// d node / d variable, all other symbols held. Remembered, so asking twice costs nothing.
    pub fn derivative(&mut self, node: NodeId, variable: Variable) -> NodeId {
        for id in self.parts(&[node]) {
            if !self.derivatives.contains_key(&(id, variable)) {
                let d = self.step_of(id, variable);
                self.derivatives.insert((id, variable), d);
            }
        }
        self.derivatives[&(node, variable)]
    }

    /// The chain rule at one node, whose operands have theirs.
    fn step_of(&mut self, id: NodeId, x: Variable) -> NodeId {
        let zero = self.number(0.0);
        match self.node(id) {
            Node::Number(_) => zero,
            Node::Variable(v) => self.number(if v == x { 1.0 } else { 0.0 }),
            Node::Unary(f, a) => {
                let da = self.derivatives[&(a, x)];
                if da == zero {
                    return zero;
                }
                let slope = self.slope(f, a, id);
                self.mul(slope, da)
            }
            Node::PowI(a, n) => {
                let da = self.derivatives[&(a, x)];
                if da == zero {
                    return zero;
                }
                // n a^(n - 1) da
                let n_node = self.number(f64::from(n));
                let power = match n.checked_sub(1) {
                    Some(m) => self.powi(a, m),
                    None => self.div(id, a),
                };
                let slope = self.mul(n_node, power);
                self.mul(slope, da)
            }
            Node::Binary(f, a, b) => {
                let (da, db) = (self.derivatives[&(a, x)], self.derivatives[&(b, x)]);
                if da == zero && db == zero {
                    return zero;
                }
                self.step_of_two(f, id, (a, da), (b, db))
            }
        }
    }

    /// f'(a), where `fa` is f(a).
    fn slope(&mut self, f: Unary, a: NodeId, fa: NodeId) -> NodeId {
        let one = self.number(1.0);
        match f {
            Unary::Neg => self.number(-1.0),
            Unary::Abs => self.unary(Unary::Sign, a),
            Unary::Sign | Unary::Step => self.number(0.0),
            // 1 / (2 sqrt a)
            Unary::Sqrt => {
                let half = self.number(0.5);
                self.div(half, fa)
            }
            // 1 / (3 cbrt(a)^2)
            Unary::Cbrt => {
                let (third, square) = (self.number(1.0 / 3.0), self.powi(fa, 2));
                self.div(third, square)
            }
            Unary::Exp => fa,
            Unary::Ln => self.div(one, a),
            Unary::Sin => self.unary(Unary::Cos, a),
            Unary::Cos => {
                let sin = self.unary(Unary::Sin, a);
                self.neg(sin)
            }
            // 1 + tan^2
            Unary::Tan => {
                let square = self.powi(fa, 2);
                self.add(one, square)
            }
            Unary::Asin | Unary::Acos => {
                let square = self.powi(a, 2);
                let rest = self.sub(one, square);
                let root = self.unary(Unary::Sqrt, rest);
                let sign = self.number(if f == Unary::Asin { 1.0 } else { -1.0 });
                self.div(sign, root)
            }
            Unary::Atan => {
                let square = self.powi(a, 2);
                let sum = self.add(one, square);
                self.div(one, sum)
            }
            Unary::Sinh => self.unary(Unary::Cosh, a),
            Unary::Cosh => self.unary(Unary::Sinh, a),
            // 1 - tanh^2
            Unary::Tanh => {
                let square = self.powi(fa, 2);
                self.sub(one, square)
            }
            // 2 / sqrt(pi) exp(-a^2)
            Unary::Erf => {
                let square = self.powi(a, 2);
                let minus = self.neg(square);
                let bell = self.unary(Unary::Exp, minus);
                let factor = self.number(2.0 / PI.sqrt());
                self.mul(factor, bell)
            }
        }
    }

    /// d f(a, b), where `fab` is f(a, b).
    fn step_of_two(&mut self, f: Binary, fab: NodeId, (a, da): (NodeId, NodeId), (b, db): (NodeId, NodeId)) -> NodeId {
        match f {
            Binary::Add => self.add(da, db),
            Binary::Sub => self.sub(da, db),
            Binary::Mul => {
                let (left, right) = (self.mul(da, b), self.mul(a, db));
                self.add(left, right)
            }
            // (da - (a/b) db) / b
            Binary::Div => {
                let right = self.mul(fab, db);
                let over = self.sub(da, right);
                self.div(over, b)
            }
            Binary::Pow => self.slope_of_power(fab, (a, da), (b, db)),
            // (b da - a db) / (a^2 + b^2)
            Binary::Atan2 => {
                let (left, right) = (self.mul(b, da), self.mul(a, db));
                let over = self.sub(left, right);
                let (a2, b2) = (self.powi(a, 2), self.powi(b, 2));
                let under = self.add(a2, b2);
                self.div(over, under)
            }
            // s da + (1 - s) db, where s is 1 if a is the smaller (the larger), 0 if b is
            Binary::Min | Binary::Max => {
                let difference = if f == Binary::Min { self.sub(b, a) } else { self.sub(a, b) };
                let s = self.unary(Unary::Step, difference);
                let one = self.number(1.0);
                let other = self.sub(one, s);
                let (left, right) = (self.mul(s, da), self.mul(other, db));
                self.add(left, right)
            }
        }
    }

    /// b a^(b - 1) da + a^b ln(a) db; a term whose factor vanishes is left out, so a may be negative where b is a number.
    fn slope_of_power(&mut self, ab: NodeId, (a, da): (NodeId, NodeId), (b, db): (NodeId, NodeId)) -> NodeId {
        let one = self.number(1.0);
        let base = if self.constant(da) == Some(0.0) {
            da
        } else {
            let less = self.sub(b, one);
            let power = self.pow(a, less);
            let slope = self.mul(b, power);
            self.mul(slope, da)
        };
        if self.constant(db) == Some(0.0) {
            return base;
        }
        let ln = match self.constant(a) {
            Some(2.0) => self.number(LN_2),
            Some(10.0) => self.number(LN_10),
            _ => self.unary(Unary::Ln, a),
        };
        let slope = self.mul(ab, ln);
        let exponent = self.mul(slope, db);
        self.add(base, exponent)
    }
}
