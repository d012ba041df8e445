//! Functions of the coordinates that are given by arrays in HDF5 files: forcings, coefficients, boundary data.
//!
//! Between its points an array is interpolated along each axis: by trigonometric polynomials where the axis is periodic,
//! by the Chebyshev interpolant at Chebyshev-Lobatto points, by rational functions without poles at equidistant points
//! (Floater and Hormann 2007).

use std::f64::consts::PI;
use std::path::Path;

use convoke_cluster::{BadValue, Result};
use convoke_data::store::Reader;
use convoke_kernels::Device;
use faer::Mat;

use super::equation::Coordinates;
use super::field::{Tensor, matrix};

/// Degree of the polynomials that the rational interpolants blend; the error falls as this power plus one.
const DEGREE: usize = 8;
/// Distance from a point of the array, relative to the axis's length, that is rounding.
const SAME: f64 = 1e-14;

/// How the points of an array lie along an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Equidistant, both ends included.
    Uniform,
    /// Chebyshev-Lobatto points.
    Chebyshev,
    /// Equidistant, without the end, which is the start again.
    Periodic,
}

/// An axis of an array.
#[derive(Debug, Clone, PartialEq)]
pub struct ArrayAxis {
    /// Which axis of the problem.
    pub axis: usize,
    /// Its start and length.
    pub span: (f64, f64),
    /// Where the points lie.
    pub rule: Rule,
}

/// A function given on a tensor grid over some of the axes.
#[derive(Debug, Clone, PartialEq)]
pub struct GridFunction {
    axes: Vec<ArrayAxis>,
    shape: Vec<usize>,
    values: Vec<f64>,
}

impl GridFunction {
    /// Reads a dataset whose dimensions are `axes`, in this order.
    ///
    /// # Errors
    /// Data errors of the file; [`BadValue`] at `key` where shape or values cannot be.
    pub fn read(key: &str, path: &Path, dataset: &str, axes: Vec<ArrayAxis>) -> Result<Self> {
        let reader = Reader::open(path)?;
        let shape = reader.shape(dataset)?;
        let place = format!("{dataset} of {}", path.display());
        if shape.len() != axes.len() || shape.iter().any(|n| *n < 2) {
            let expected = format!("an array with {} dimension(s), each of at least 2 points", axes.len());
            return Err(
                BadValue::new(format!("{key}.dataset"), format!("{place}, of shape {shape:?}"), expected).into()
            );
        }
        let values: Vec<f64> = reader.read(dataset)?;
        if let Some(i) = values.iter().position(|v| !v.is_finite()) {
            let message = format!("{place}: value {i} (row-major, from 0) is {}", values[i]);
            return Err(BadValue::wrong(format!("{key}.dataset"), message).into());
        }
        Ok(Self { axes, shape, values })
    }

    /// Axes of the problem that it depends on.
    pub fn axes(&self) -> Vec<usize> {
        self.axes.iter().map(|a| a.axis).collect()
    }

    /// Highest frequency along `axis`, in cycles per unit length, that its points can hold.
    pub fn nyquist(&self, axis: usize) -> Option<f64> {
        let i = self.axes.iter().position(|a| a.axis == axis)?;
        let gaps = if self.axes[i].rule == Rule::Periodic { self.shape[i] } else { self.shape[i] - 1 };
        Some(gaps as f64 / (2.0 * self.axes[i].span.1))
    }

    /// Its values at all points of a tensor grid over all axes of the problem, row-major.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn on(&self, grid: &Coordinates) -> Result<Vec<f64>> {
        let host = Device::cpu();
        let mut x = Tensor::new(&host, self.shape.clone(), self.values.clone())?;
        for (i, axis) in self.axes.iter().enumerate() {
            let m = interpolation(self.shape[i], axis, &grid[axis.axis]);
            x = x.times(&host, i, &mut matrix(&host, &m)?)?;
        }
        let values = x.values.into_vec();
        // Strides in the array of the grid's axes; none for those that it does not depend on.
        let mut strides = vec![0; grid.len()];
        for (i, axis) in self.axes.iter().enumerate() {
            strides[axis.axis] = x.shape[i + 1..].iter().product();
        }
        let mut offsets = vec![0];
        for (points, stride) in grid.iter().zip(&strides) {
            offsets = offsets.iter().flat_map(|o| (0..points.len()).map(move |i| o + i * stride)).collect();
        }
        Ok(offsets.into_iter().map(|o| values[o]).collect())
    }
}

/// From values at the points of an array's axis to values at other points: `points × n`.
fn interpolation(n: usize, axis: &ArrayAxis, points: &[f64]) -> Mat<f64> {
    let (start, length) = axis.span;
    let node = |k: usize| match axis.rule {
        Rule::Uniform => length * k as f64 / (n - 1) as f64,
        Rule::Chebyshev => length * (PI * k as f64 / (2.0 * (n - 1) as f64)).sin().powi(2),
        Rule::Periodic => length * k as f64 / n as f64,
    };
    let weights = match axis.rule {
        Rule::Uniform => rational_weights(n, DEGREE.min(n - 1)),
        // Salzer 1972.
        Rule::Chebyshev => (0..n).map(|k| sign(k) * if k == 0 || k == n - 1 { 0.5 } else { 1.0 }).collect(),
        Rule::Periodic => (0..n).map(sign).collect(),
    };
    let mut m = Mat::zeros(points.len(), n);
    for (i, x) in points.iter().map(|x| x - start).enumerate() {
        if let Some(k) = (0..n).find(|k| (x - node(*k)).abs() <= SAME * length) {
            m[(i, k)] = 1.0;
            continue;
        }
        let term = |k: usize| match axis.rule {
            // Henrici 1979: odd and even numbers of points differ.
            Rule::Periodic => {
                let angle = PI * (x - node(k)) / length;
                weights[k] / if n.is_multiple_of(2) { angle.tan() } else { angle.sin() }
            }
            _ => weights[k] / (x - node(k)),
        };
        let sum: f64 = (0..n).map(term).sum();
        (0..n).for_each(|k| m[(i, k)] = term(k) / sum);
    }
    m
}

fn sign(k: usize) -> f64 {
    if k.is_multiple_of(2) { 1.0 } else { -1.0 }
}

/// `|wₖ| = Σᵢ C(degree, k − i)` over the blended polynomials that pass through point k.
fn rational_weights(n: usize, degree: usize) -> Vec<f64> {
    let mut binomial = vec![1.0; degree + 1];
    for j in 1..=degree {
        binomial[j] = binomial[j - 1] * (degree + 1 - j) as f64 / j as f64;
    }
    let weight = |k: usize| (k.saturating_sub(degree)..=k.min(n - 1 - degree)).map(|i| binomial[k - i]).sum::<f64>();
    (0..n).map(|k| sign(k) * weight(k)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(rule: Rule, n: usize, f: impl Fn(f64) -> f64) -> GridFunction {
        let axis = ArrayAxis { axis: 1, span: (-1.0, 2.0), rule };
        let at = |k: usize| match rule {
            Rule::Uniform => 2.0 * k as f64 / (n - 1) as f64 - 1.0,
            Rule::Chebyshev => 2.0 * (PI * k as f64 / (2.0 * (n - 1) as f64)).sin().powi(2) - 1.0,
            Rule::Periodic => 2.0 * k as f64 / n as f64 - 1.0,
        };
        let values = (0..n).map(|k| f(at(k))).collect();
        GridFunction { axes: vec![axis], shape: vec![n], values }
    }

    /// Exact for what each rule holds exactly, and spread over the axes that the array does not have.
    #[test]
    fn polynomials_and_waves_between_the_points() {
        let grid = vec![vec![5.0, 6.0], vec![-1.0, -0.73, 0.11, 0.999, 1.0]];
        let polynomial = |x: f64| 1.0 + x - 3.0 * x.powi(5) + x.powi(8);
        let wave = |x: f64| (3.0 * PI * x).sin() + 0.5 * (7.0 * PI * x).cos();
        for (rule, n, f) in [
            (Rule::Uniform, 40, &polynomial as &dyn Fn(f64) -> f64),
            (Rule::Chebyshev, 9, &polynomial),
            (Rule::Periodic, 16, &wave),
            (Rule::Periodic, 17, &wave),
        ] {
            let got = given(rule, n, f).on(&grid).unwrap();
            assert_eq!(got.len(), 10);
            for (i, got) in got.iter().enumerate() {
                let x = grid[1][i % 5];
                assert!((got - f(x)).abs() < 1e-12, "{rule:?} {n}: {got} at {x}, {} is due", f(x));
            }
        }
    }

    /// The error of the rational interpolant falls at least with the ninth power of the distance (Floater and Hormann 2007,
    /// theorem 2).
    #[test]
    fn equidistant_points_converge_at_the_order_of_the_blend() {
        let f = |x: f64| (9.0 * x).sin();
        let grid = vec![vec![0.0], (0..200).map(|i| -0.999 + 0.01 * i as f64).collect()];
        let error = |n| {
            let got = given(Rule::Uniform, n, f).on(&grid).unwrap();
            got.iter().zip(&grid[1]).map(|(g, x)| (g - f(*x)).abs()).fold(0.0, f64::max)
        };
        let order = (error(41) / error(81)).log2();
        assert!(order > 8.5, "{order}");
        assert!(error(81) < 1e-9, "{:e}", error(81));
    }
}
