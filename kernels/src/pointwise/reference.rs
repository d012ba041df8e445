//! The program step by step, point by point: the oracle of the fast paths.

use super::Op;

/// What an input is at a point.
pub(super) enum Values<'a> {
    Field(&'a [f64]),
    Axis { values: &'a [f64], stride: usize },
    Scalar(f64),
}

impl Values<'_> {
    fn at(&self, point: usize) -> f64 {
        match self {
            Self::Field(values) => values[point],
            Self::Axis { values, stride } => values[point / stride % values.len()],
            Self::Scalar(value) => *value,
        }
    }
}

/// Every step's value at one point.
pub(super) fn steps(ops: &[Op], inputs: &[Values<'_>], point: usize) -> Vec<f64> {
    let mut v: Vec<f64> = Vec::with_capacity(ops.len());
    for op in ops {
        v.push(match *op {
            Op::Constant(c) => c,
            Op::Input(k) => inputs[k].at(point),
            Op::Unary(f, a) => f.apply(v[a]),
            Op::Binary(f, a, b) => f.apply(v[a], v[b]),
            Op::PowI(a, n) => v[a].powf(f64::from(n)),
        });
    }
    v
}
