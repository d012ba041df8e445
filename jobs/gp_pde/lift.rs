//! A function that meets all conditions: boolean sums of cardinal functions (Gordon and Hall 1973).
//!
//! With `P_d u = Σⱼ lⱼ Bⱼ u` along axis d, the lift is `(1 − Π (1 − P_d)) u`, expanded over the non-empty sets of axes.
//! It needs the data of faces, and of their edges and corners the functionals applied to faces.

use convoke_cluster::Result;
use convoke_kernels::Device;
use faer::Mat;

use super::factor::{AxisAt, AxisFactor};
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
    pub fn lift(&self, factors: &[AxisFactor], at: &[AxisAt], orders: &[usize]) -> Result<Vec<f64>> {
        let host = Device::cpu();
        let d = factors.len();
        let mut sum = vec![0.0; at.iter().map(AxisAt::len).product()];
        for set in 1u32..1 << d {
            let inside = |axis: usize| set >> axis & 1 == 1;
            if (0..d).any(|axis| inside(axis) && self.conditions[axis] == 0) {
                continue;
            }
            let first = (0..d).find(|axis| inside(*axis)).unwrap_or(0);
            let mut x = Tensor::new(&host, self.shape(first), self.data[first].clone())?;
            for axis in (0..d).filter(|axis| *axis != first && inside(*axis)) {
                x = self.functionals(x, axis, &factors[axis])?;
            }
            for axis in 0..d {
                let order = orders[axis];
                x = if inside(axis) {
                    x.times(&host, axis, &mut matrix(&host, &at[axis].lifts[order])?)?
                } else if let (0, Some(range)) = (order, &at[axis].nodes) {
                    x.select(&host, axis, range.clone())?
                } else {
                    // The transpose first: the product of the two matrices would lose six digits.
                    let ut = factors[axis].basis.free.values.transpose().to_owned();
                    let x = x.times(&host, axis, &mut matrix(&host, &ut)?)?;
                    x.times(&host, axis, &mut matrix(&host, &at[axis].free[order])?)?
                };
            }
            let sign = if set.count_ones() % 2 == 1 { 1.0 } else { -1.0 };
            sum.iter_mut().zip(x.values.host()).for_each(|(sum, x)| *sum += sign * x);
        }
        Ok(sum)
    }

    /// The functionals of an axis applied along it.
    fn functionals(&self, x: Tensor, axis: usize, factor: &AxisFactor) -> Result<Tensor> {
        let host = Device::cpu();
        let free = &factor.basis.free;
        let x = x.times(&host, axis, &mut matrix(&host, &free.values.transpose().to_owned())?)?;
        let b: Mat<f64> = &factor.basis.functionals * &free.coefficients;
        x.times(&host, axis, &mut matrix(&host, &b)?)
    }

    /// How far the conditions of two axes disagree where their faces meet, relative to the largest datum; the axes.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn disagreement(&self, factors: &[AxisFactor]) -> Result<(f64, (usize, usize))> {
        let host = Device::cpu();
        let largest = self.data.iter().flatten().fold(0.0f64, |m, v| m.max(v.abs()));
        let mut worst = (0.0, (0, 0));
        for a in 0..factors.len() {
            for b in (a + 1..factors.len()).filter(|b| self.conditions[a] > 0 && self.conditions[*b] > 0) {
                let of_a = Tensor::new(&host, self.shape(a), self.data[a].clone())?;
                let of_b = Tensor::new(&host, self.shape(b), self.data[b].clone())?;
                let mut of_a = self.functionals(of_a, b, &factors[b])?;
                let mut of_b = self.functionals(of_b, a, &factors[a])?;
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
