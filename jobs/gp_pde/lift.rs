//! A function that meets all conditions: boolean sums of cardinal functions (Gordon and Hall 1973).
//!
//! With `P_d u = Σⱼ lⱼ Bⱼ u` along axis d, the lift is `(1 − Π (1 − P_d)) u`, expanded over the non-empty sets of axes.
//! It needs the data of faces, and of their edges and corners the functionals applied to faces.

use convoke_cluster::Result;
use convoke_kernels::Device;
use convoke_kernels::kronecker::Matrix;
use faer::Mat;

use super::basis::{AxisAt, Basis};
use super::field::{Tensor, matrix};

/// The data of the conditions: for each axis with conditions a tensor over the nodes of all axes, but over the axis's
/// conditions along the axis itself.
#[derive(Debug, Clone)]
pub struct Faces {
    /// By axis: its conditions' data, one condition after the other along that axis; row-major.
    pub data: Vec<Vec<f64>>,
    /// Nodes of each axis.
    pub nodes: Vec<usize>,
    /// Conditions of each axis.
    pub conditions: Vec<usize>,
}

/// A term of the boolean sum: data of the conditions of some axes together.
struct Term {
    /// Over the conditions along the axes of the set, over the nodes along the others.
    data: Tensor,
    inside: Vec<bool>,
    sign: f64,
}

impl Faces {
    fn shape(&self, axis: usize) -> Vec<usize> {
        let mut shape = self.nodes.clone();
        shape[axis] = self.conditions[axis];
        shape
    }

    /// Derivative `orders` of the lift at points, as a tensor over them.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn lift(&self, bases: &[&Basis], at: &[AxisAt], orders: &[usize]) -> Result<Vec<f64>> {
        let host = Device::cpu();
        let mut sum = vec![0.0; at.iter().map(AxisAt::len).product()];
        for term in self.terms(bases)? {
            let mut x = term.data;
            for (axis, (at, order)) in at.iter().zip(orders).enumerate() {
                x = if term.inside[axis] {
                    x.times(&host, axis, &mut matrix(&host, &at.lifts[*order])?)?
                } else if let (0, Some(range)) = (*order, &at.nodes) {
                    x.select(&host, axis, range.clone())?
                } else {
                    // The transpose first: the product of the two matrices would lose six digits.
                    let x = x.times(&host, axis, &mut transposed(bases[axis])?)?;
                    x.times(&host, axis, &mut matrix(&host, &at.free[*order])?)?
                };
            }
            sum.iter_mut().zip(x.values.host()).for_each(|(sum, x)| *sum += term.sign * x);
        }
        Ok(sum)
    }

    /// As [`Faces::lift`] at scattered points: `at` of each axis holds as many points, one for each.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn lift_scattered(&self, bases: &[&Basis], at: &[AxisAt], orders: &[usize]) -> Result<Vec<f64>> {
        let host = Device::cpu();
        let mut sum = vec![0.0; at.first().map_or(0, AxisAt::len)];
        for term in self.terms(bases)? {
            let mut x = term.data;
            let mut rows = Vec::new();
            for (axis, (at, order)) in at.iter().zip(orders).enumerate() {
                if term.inside[axis] {
                    rows.push(&at.lifts[*order]);
                } else {
                    x = x.times(&host, axis, &mut transposed(bases[axis])?)?;
                    rows.push(&at.free[*order]);
                }
            }
            let values = contract(x.values.host(), &rows);
            sum.iter_mut().zip(values).for_each(|(sum, x)| *sum += term.sign * x);
        }
        Ok(sum)
    }

    /// The terms of the boolean sum: over the non-empty sets of axes that have conditions.
    fn terms(&self, bases: &[&Basis]) -> Result<Vec<Term>> {
        let host = Device::cpu();
        let d = bases.len();
        let mut terms = Vec::new();
        for set in 1u32..1 << d {
            let inside: Vec<bool> = (0..d).map(|axis| set >> axis & 1 == 1).collect();
            if (0..d).any(|axis| inside[axis] && self.conditions[axis] == 0) {
                continue;
            }
            let first = (0..d).find(|axis| inside[*axis]).unwrap_or(0);
            let mut data = Tensor::new(&host, self.shape(first), self.data[first].clone())?;
            for axis in (0..d).filter(|axis| *axis != first && inside[*axis]) {
                data = self.functionals(data, axis, bases[axis])?;
            }
            terms.push(Term { data, inside, sign: if set.count_ones() % 2 == 1 { 1.0 } else { -1.0 } });
        }
        Ok(terms)
    }

    /// The functionals of an axis applied along it.
    fn functionals(&self, x: Tensor, axis: usize, basis: &Basis) -> Result<Tensor> {
        let host = Device::cpu();
        let free = &basis.free;
        let x = x.times(&host, axis, &mut matrix(&host, &free.values.transpose().to_owned())?)?;
        let b: Mat<f64> = &basis.functionals * &free.coefficients;
        x.times(&host, axis, &mut matrix(&host, &b)?)
    }

    /// How far the conditions of two axes disagree where their faces meet, relative to the largest datum; the axes.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn disagreement(&self, bases: &[&Basis]) -> Result<(f64, (usize, usize))> {
        let host = Device::cpu();
        let largest = self.data.iter().flatten().fold(0.0f64, |m, v| m.max(v.abs()));
        let mut worst = (0.0, (0, 0));
        for a in 0..bases.len() {
            for b in (a + 1..bases.len()).filter(|b| self.conditions[a] > 0 && self.conditions[*b] > 0) {
                let of_a = Tensor::new(&host, self.shape(a), self.data[a].clone())?;
                let of_b = Tensor::new(&host, self.shape(b), self.data[b].clone())?;
                let mut of_a = self.functionals(of_a, b, bases[b])?;
                let mut of_b = self.functionals(of_b, a, bases[a])?;
                let scale = of_a.values.host().iter().fold(largest, |m, v| m.max(v.abs()));
                for (x, y) in of_a.values.host().iter().zip(of_b.values.host()) {
                    if (x - y).abs() / scale.max(f64::MIN_POSITIVE) > worst.0 {
                        worst = ((x - y).abs() / scale, (a, b));
                    }
                }
            }
        }
        Ok(worst)
    }
}

/// From values at the nodes to coefficients of functions without conditions.
fn transposed(basis: &Basis) -> Result<Matrix> {
    matrix(&Device::cpu(), &basis.free.values.transpose().to_owned())
}

/// `Σ x[i, j, …] rows₁[p, i] rows₂[p, j] …` for every point p.
pub fn contract(x: &[f64], rows: &[&Mat<f64>]) -> Vec<f64> {
    use rayon::prelude::*;
    let points = rows.first().map_or(0, |m| m.nrows());
    let of_point = |p: usize| {
        let mut x = x.to_vec();
        for m in rows.iter().rev() {
            let row: Vec<f64> = m.row(p).iter().copied().collect();
            x = x.chunks_exact(row.len()).map(|x| x.iter().zip(&row).map(|(x, r)| x * r).sum()).collect();
        }
        x[0]
    };
    (0..points).into_par_iter().map(of_point).collect()
}
