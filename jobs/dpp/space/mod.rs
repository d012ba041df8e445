//! Finite-dimensional spaces of functions on R^d with an orthonormal basis of products, and draws of their Christoffel
//! measure.

pub mod family;
pub mod indices;
pub mod induced;
mod trie;

use std::ops::Range;

use convoke_kernels::determinantal::Products;
use convoke_kernels::{Device, KernelError};
use faer::MatMut;

use super::stream::Stream;
use family::Family;
use indices::{IndexSet, Rule};
use induced::Induced;

/// What a space can refuse.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SpaceError {
    /// More basis functions than matrices of them could be held.
    #[error("more than {} basis functions", indices::MAX_FUNCTIONS)]
    TooManyFunctions,
    /// An index of a list whose lower neighbour is missing.
    #[error("not downward closed: it has {index:?} and lacks {lower:?}")]
    NotDownwardClosed {
        /// The index that is there.
        index: Vec<usize>,
        /// The one that is not.
        lower: Vec<usize>,
    },
    /// An index that is listed twice.
    #[error("{index:?} is listed twice")]
    Repeated {
        /// The index.
        index: Vec<usize>,
    },
    /// A degree beyond what doubles can evaluate.
    #[error("degree {degree} along axis {axis}, and {family:?} goes up to {most}")]
    DegreeTooHigh {
        /// Axis, from 0.
        axis: usize,
        /// Its family.
        family: Family,
        /// Degree.
        degree: usize,
        /// Largest degree of the family.
        most: usize,
    },
    /// The eigenvalues of a Gauss rule did not converge.
    #[error("the eigenvalues of a Gauss rule did not converge")]
    Eigenvalues,
}

/// V_m = span of φ_ν(x) = ∏ p_{ν_j}(x_j), ν in a downward-closed set, orthonormal in L²(μ).
#[derive(Debug, Clone)]
pub struct Space {
    /// The multi-indices.
    pub indices: IndexSet,
    axes: Vec<Induced>,
}

impl Space {
    /// The space of `rule` with one family for each axis.
    ///
    /// # Errors
    /// As [`IndexSet::new`]; [`SpaceError::DegreeTooHigh`].
    pub fn new(families: &[Family], rule: &Rule) -> Result<Self, SpaceError> {
        let indices = IndexSet::new(families.len(), rule)?;
        let mut axes: Vec<Induced> = Vec::with_capacity(families.len());
        for (axis, family) in families.iter().enumerate() {
            let (degree, most) = (indices.degree(axis), family.max_degree());
            if degree > most {
                return Err(SpaceError::DegreeTooHigh { axis, family: *family, degree, most });
            }
            let same = axes.iter().find(|a| a.line.family == *family && a.line.degree == degree).cloned();
            axes.push(same.map_or_else(|| Induced::new(*family, degree), Ok)?);
        }
        Ok(Self { indices, axes })
    }

    /// Number of variables d.
    pub fn dimension(&self) -> usize {
        self.axes.len()
    }

    /// Number of basis functions m.
    pub fn len(&self) -> usize {
        self.indices.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.indices.is_empty()
    }

    /// Point `t` of the stream of the Christoffel measure (‖φ‖²/m) μ: an index at random, then each coordinate from
    /// p_{ν_j}² dμ_j; `[d]` into `x`.
    pub fn draw(&self, stream: &Stream, t: u64, x: &mut [f64]) {
        let (_, choice) = stream.choices(t);
        let i = ((choice * self.len() as f64) as usize).min(self.len() - 1);
        self.draw_squared(self.indices.factors(i), stream, t, x);
    }

    /// Point `t` of the stream of μ itself, which is p_0² dμ along each axis.
    pub fn draw_reference(&self, stream: &Stream, t: u64, x: &mut [f64]) {
        self.draw_squared(&[], stream, t, x);
    }

    fn draw_squared(&self, factors: &[indices::Factor], stream: &Stream, t: u64, x: &mut [f64]) {
        let mut factors = factors.iter().peekable();
        for (pair, x) in x.chunks_mut(2).enumerate() {
            let uniforms = stream.coordinates(t, pair);
            for (half, x) in x.iter_mut().enumerate() {
                let axis = 2 * pair + half;
                let degree = factors.next_if(|(a, _)| *a == axis).map_or(0, |(_, degree)| *degree);
                *x = self.axes[axis].draw(degree, uniforms[half]);
            }
        }
    }

    /// φ at `n` points: `points` is `[n, d]`, `out` is n × m.
    pub fn features(&self, points: &[f64], out: MatMut<'_, f64>) {
        self.features_of(0..self.len(), points, out);
    }

    /// The functions `part` of φ at `n` points, n × part.
    pub fn features_of(&self, part: Range<usize>, points: &[f64], out: MatMut<'_, f64>) {
        trie::evaluate(&self.indices, &self.axes, part, points, out);
    }

    /// The functions as products of the entries of a candidate's table, on a device.
    ///
    /// # Errors
    /// Where the device has no room.
    pub fn products(&self, device: &Device) -> Result<Products, KernelError> {
        let starts = self.starts();
        let factors = |i: usize| self.indices.factors(i).iter().map(|(axis, degree)| starts[*axis] + degree).collect();
        Products::new(device, starts[self.axes.len()], (0..self.len()).map(factors).collect())
    }

    /// Where the values of each axis start in a table; its length.
    fn starts(&self) -> Vec<usize> {
        let lengths = self.axes.iter().scan(0, |end, axis| {
            *end += axis.line.degree + 1;
            Some(*end)
        });
        std::iter::once(0).chain(lengths).collect()
    }

    /// Tables of `n` points, `[n, d]`: values of all degrees of each axis, `[n, entries]`.
    pub fn tables(&self, points: &[f64], out: &mut [f64]) {
        let (n, starts) = (points.len() / self.dimension(), self.starts());
        let entries = starts[self.axes.len()];
        for (values, first) in trie::lines(&self.axes, points, None).iter().zip(starts) {
            for (degree, values) in values.chunks(n.max(1)).enumerate() {
                values.iter().enumerate().for_each(|(i, v)| out[i * entries + first + degree] = *v);
            }
        }
    }

    /// ∂φ/∂x_axis at `n` points, as [`Space::features`].
    pub fn derivatives(&self, points: &[f64], axis: usize, out: MatMut<'_, f64>) {
        trie::derivatives(&self.indices, &self.axes, points, axis, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use faer::Mat;

    /// Against the product of one-dimensional values, to 1e-12 of the largest.
    #[test]
    fn features_are_products() {
        let families = [Family::Legendre, Family::Hermite, Family::Fourier];
        let space = Space::new(&families, &Rule::TotalDegree(5)).unwrap();
        let stream = Stream::new(3, 0, 0);
        let mut points = vec![0.0; 3 * 37];
        points.chunks_mut(3).enumerate().for_each(|(t, x)| space.draw(&stream, t as u64, x));
        let mut f = Mat::zeros(37, space.len());
        space.features(&points, f.as_mut());
        for i in 0..37 {
            for j in 0..space.len() {
                let factors = space.indices.factors(j).iter();
                let exact: f64 = factors.map(|(a, k)| space.axes[*a].line.value(*k, points[3 * i + a])).product();
                assert!((f[(i, j)] - exact).abs() < 1e-12 * exact.abs().max(1.0), "{i} {j}");
            }
        }
        // Parts of the functions have the same bits.
        for part in [0..1, 3..17, 20..56, 55..56] {
            let mut some = Mat::zeros(37, part.len());
            space.features_of(part.clone(), &points, some.as_mut());
            assert_eq!(some.as_ref(), f.as_ref().subcols(part.start, part.len()), "{part:?}");
        }
    }

    /// Cosines and sines of the waves |k_1| + |k_2| ≤ 3 have the kernel Σ e^{2πi k·(x − y)} of the exponentials, so the same process.
    #[test]
    fn products_of_waves_span_the_complex_exponentials() {
        let rule = Rule::OfWaves(Box::new(Rule::TotalDegree(3)), vec![true; 2]);
        let space = Space::new(&[Family::Fourier; 2], &rule).unwrap();
        let (x, y) = ([0.17, 0.71], [0.43, 0.08]);
        let mut f = Mat::zeros(2, space.len());
        space.features(&[x, y].concat(), f.as_mut());
        let kernel: f64 = (0..space.len()).map(|j| f[(0, j)] * f[(1, j)]).sum();
        let waves = (-3i32..=3).flat_map(|k| (-3i32..=3).map(move |l| (k, l))).filter(|(k, l)| k.abs() + l.abs() <= 3);
        let phase = |(k, l): (i32, i32)| f64::from(k) * (x[0] - y[0]) + f64::from(l) * (x[1] - y[1]);
        let (sum, count) = waves.fold((0.0, 0), |(s, n), k| (s + (std::f64::consts::TAU * phase(k)).cos(), n + 1));
        assert_eq!(space.len(), count);
        assert!((kernel - sum).abs() < 1e-11, "{kernel} {sum}");
    }

    /// Against central differences, to 1e-6 of the largest; zero where Haar functions are flat.
    #[test]
    fn derivatives_are_slopes() {
        let families =
            [Family::Legendre, Family::Hermite, Family::Fourier, Family::Laguerre { alpha: 0.5 }, Family::Haar];
        let space = Space::new(&families, &Rule::TotalDegree(4)).unwrap();
        let d = families.len();
        let x = [0.3, -0.7, 0.4, 1.3, 0.6];
        let at = |x: &[f64]| {
            let mut f = Mat::zeros(1, space.len());
            space.features(x, f.as_mut());
            f
        };
        let (h, mut found) = (1e-5, Mat::zeros(1, space.len()));
        for axis in 0..d {
            space.derivatives(&x, axis, found.as_mut());
            let shifted = |by: f64| {
                let mut y = x;
                y[axis] += by;
                at(&y)
            };
            let slope = (shifted(h) - shifted(-h)) * faer::Scale(0.5 / h);
            assert!((&found - &slope).norm_max() < 1e-6 * slope.norm_max().max(1.0), "axis {axis}");
            assert!(families[axis] == Family::Haar || slope.norm_max() > 0.1);
        }
    }

    /// E_ν[w g] = ∫ g dμ with w = m/‖φ‖², |z| < 4.5.
    #[test]
    fn draws_of_the_christoffel_measure_integrate_against_the_reference_measure() {
        let families = [Family::Jacobi { a: 1.0, b: 0.0 }, Family::Laguerre { alpha: 0.0 }];
        let space = Space::new(&families, &Rule::HyperbolicCross(6)).unwrap();
        let (n, m) = (20_000, space.len());
        let mut points = vec![0.0; 2 * n];
        points.chunks_mut(2).enumerate().for_each(|(t, x)| space.draw(&Stream::new(8, 1, 2), t as u64, x));
        let mut f = Mat::zeros(n, m);
        space.features(&points, f.as_mut());
        let value = |i: usize| {
            let w = m as f64 / (0..m).map(|j| f[(i, j)].powi(2)).sum::<f64>();
            w * points[2 * i] * (-points[2 * i + 1]).exp()
        };
        let mean = (0..n).map(value).sum::<f64>() / n as f64;
        let spread = (0..n).map(|i| (value(i) - mean).powi(2)).sum::<f64>().sqrt() / n as f64;
        // E x = −1/3 under (1 − x)/2; E e^−y = 1/2 under e^−y.
        let z = (mean + 1.0 / 6.0) / spread;
        assert!(z.abs() < 4.5, "{mean} z = {z}");
    }
}
