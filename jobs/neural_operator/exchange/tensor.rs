//! A tensor of somebody's file, and which of our numbers it holds.

use crate::learning::real::Real;

/// How the numbers of a tensor lie among those of a part.
#[derive(Debug, Clone, PartialEq)]
pub enum Order {
    /// One after another, as ours.
    Same,
    /// `[row, column]` as ours, each column a factor times ours.
    Columns(Vec<f64>),
    /// `[row, …]`: the place of each row among ours.
    Rows(Vec<usize>),
    /// `[from, to, mode …, re | im]` of our `[mode, re | im, from, to]`: the place of each mode among ours.
    Spectral(Vec<usize>),
    /// `[mode of x and y, mode of t, re | im]` of our `[mode of x and y, re | im, mode of t]`: the places of the modes of x and y.
    Bias(Vec<usize>),
}

/// A tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Its name, and others that it may have where it is read.
    pub keys: Vec<String>,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Name of the part that its numbers are of.
    pub part: String,
    /// Where they are.
    pub order: Order,
}

impl Tensor {
    /// Of `part` as it is.
    pub fn same(key: impl Into<String>, shape: &[usize], part: impl Into<String>) -> Self {
        Self { keys: vec![key.into()], shape: shape.to_vec(), part: part.into(), order: Order::Same }
    }

    /// With another name.
    #[must_use]
    pub fn or(mut self, key: impl Into<String>) -> Self {
        self.keys.push(key.into());
        self
    }

    /// Whether a tensor of this shape is one; ones behind the others say nothing.
    pub fn fits(&self, shape: &[usize]) -> bool {
        let bare = |shape: &[usize]| -> Vec<usize> {
            let ones = shape.iter().rev().take_while(|n| **n == 1).count();
            shape[..shape.len() - ones].to_vec()
        };
        bare(shape) == bare(&self.shape)
    }

    /// Where a number of it is in the part, and how often ours it is.
    fn place(&self, i: usize) -> (usize, f64) {
        match &self.order {
            Order::Same => (i, 1.0),
            Order::Columns(factors) => (i, factors[i % factors.len()]),
            Order::Rows(rows) => {
                let row = self.shape[1..].iter().product::<usize>();
                (rows[i / row] * row + i % row, 1.0)
            }
            Order::Spectral(modes) => {
                let (re_im, mode, pair) = (i % 2, i / 2 % modes.len(), i / 2 / modes.len());
                let pairs = self.shape[0] * self.shape[1];
                ((modes[mode] * 2 + re_im) * pairs + pair, 1.0)
            }
            Order::Bias(modes) => {
                let times = self.shape[self.shape.len() - 2];
                let (re_im, t, mode) = (i % 2, i / 2 % times, i / 2 / times);
                ((modes[mode] * 2 + re_im) * times + t, 1.0)
            }
        }
    }

    /// Puts the numbers of it into the part.
    pub fn put<T: Real>(&self, values: &[f64], part: &mut [T]) {
        for (i, value) in values.iter().enumerate() {
            let (place, factor) = self.place(i);
            part[place] = T::of(value / factor);
        }
    }

    /// The numbers of it, from the part.
    pub fn take<T: Real>(&self, part: &[T]) -> Vec<T> {
        let of = |i: usize| {
            let (place, factor) = self.place(i);
            T::of(part[place].wide() * factor)
        };
        (0..self.shape.iter().product()).map(of).collect()
    }
}
