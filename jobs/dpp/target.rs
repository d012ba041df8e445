//! Functions to approximate whose best approximation is known: coefficients c* and squared distance ‖f − Pf‖².

use std::collections::HashMap;
use std::f64::consts::{PI, SQRT_2, TAU};

use faer::Mat;

use super::space::family::{Family, gauss};
use super::space::indices::{Factor, Rule};
use super::space::{Space, SpaceError};
use super::stream::Stream;

/// Degrees of a random polynomial beyond those of the space.
const EXTRA: usize = 2;
/// The replica of the random coefficients; designs count theirs from 0.
const COEFFICIENTS: u64 = u64::MAX;
/// Weight of the waves in the kernel of `Sobolev`.
const GAMMA: f64 = 0.25;
/// Squared distances below this part of ‖f‖² are rounding.
pub const EXACT: f64 = 1e-24;

/// A function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// 1/(1 + 5x²).
    Runge,
    /// |x − 0.1|.
    Kink,
    /// exp(−(x − 1)²/4).
    Bell,
    /// Normal coefficients of variance 4^{−|ν|} for total degrees up to 2 beyond those of the space.
    RandomPolynomial,
    /// A section k(·, y) of the reproducing kernel ∏_j κ(x_j − y_j), κ(t) = 1 + Σ_{k≥1} 2γ cos(2πkt)/k², of a periodic Sobolev
    /// space of dominating mixed smoothness (Wahba 1990, section 2.1).
    Sobolev,
}

/// A function with its best approximation in a space.
#[derive(Debug, Clone)]
pub struct Target {
    kind: Kind,
    /// c*, `[m]`.
    pub coefficients: Vec<f64>,
    /// ‖f − Pf‖².
    pub residual2: f64,
    /// ‖f‖².
    pub norm2: f64,
    polynomial: Option<(Space, Vec<f64>)>,
}

impl Target {
    /// A function of one variable, by Gauss–Legendre quadrature on 200 panels that end at the kink.
    ///
    /// # Errors
    /// Of the quadrature's eigenvalues.
    pub fn of_one_variable(kind: Kind, family: Family, space: &Space) -> Result<Self, SpaceError> {
        let (nodes, weights) = gauss(Family::Legendre, 24)?;
        // Twelve standard deviations of a normal hold all but 1e-32.
        let (ends, normal) =
            if family == Family::Hermite { ([-12.0, 0.1, 13.0], true) } else { ([-1.0, 0.1, 1.0], false) };
        let density = |x: f64| if normal { (-0.5 * x * x).exp() / TAU.sqrt() } else { 0.5 };
        let (mut points, mut measure) = (Vec::new(), Vec::new());
        for side in ends.windows(2) {
            let width = (side[1] - side[0]) / 100.0;
            for panel in 0..100 {
                let middle = side[0] + width * (f64::from(panel) + 0.5);
                for (t, w) in nodes.iter().zip(&weights) {
                    points.push(middle + 0.5 * width * t);
                    measure.push(w * width * density(middle + 0.5 * width * t));
                }
            }
        }
        let mut features = Mat::zeros(points.len(), space.len());
        space.features(&points, features.as_mut());
        let values: Vec<f64> = points.iter().map(|x| kind.at(*x)).collect();
        let weighted = Mat::from_fn(points.len(), 1, |i, _| measure[i] * values[i]);
        let c = features.transpose() * weighted;
        let best = &features * &c;
        let residual2 = (0..points.len()).map(|i| measure[i] * (values[i] - best[(i, 0)]).powi(2)).sum();
        let norm2 = values.iter().zip(&measure).map(|(v, w)| w * v * v).sum();
        let coefficients = c.col(0).iter().copied().collect();
        Ok(Self { kind, coefficients, residual2, norm2, polynomial: None })
    }

    /// The random polynomial of a run beside the space of total degree `degree`.
    ///
    /// # Errors
    /// As [`Space::new`].
    pub fn random_polynomial(families: &[Family], degree: usize, space: &Space, seed: u64) -> Result<Self, SpaceError> {
        let large = Space::new(families, &Rule::TotalDegree(degree + EXTRA))?;
        let stream = Stream::new(seed, COEFFICIENTS, 0);
        let size = |i: usize| large.indices.factors(i).iter().map(|(_, k)| *k as i32).sum::<i32>();
        let all: Vec<f64> = (0..large.len()).map(|i| stream.normal(i as u64) * 0.5f64.powi(size(i))).collect();
        let places: HashMap<&[Factor], usize> = (0..large.len()).map(|i| (large.indices.factors(i), i)).collect();
        let coefficients: Vec<f64> = (0..space.len()).map(|i| all[places[space.indices.factors(i)]]).collect();
        let outside = (0..large.len()).filter(|i| size(*i) as usize > degree);
        let residual2 = outside.map(|i| all[i] * all[i]).sum();
        let norm2 = all.iter().map(|c| c * c).sum();
        Ok(Self { kind: Kind::RandomPolynomial, coefficients, residual2, norm2, polynomial: Some((large, all)) })
    }

    /// A section of the kernel of a Sobolev space of periodic functions, for a space of products of waves: its coefficients are
    /// those of the kernel, ∏ γ φ_k(y_j)/k², and ‖f‖² = (1 + γ² π⁴/45)^d.
    pub fn sobolev(space: &Space) -> Self {
        let d = space.dimension();
        let wave = |(axis, degree): &Factor| {
            let k = degree.div_ceil(2) as f64;
            let (sin, cos) = (TAU * k * centre(*axis)).sin_cos();
            GAMMA * SQRT_2 * if degree % 2 == 1 { cos } else { sin } / (k * k)
        };
        let coefficients: Vec<f64> =
            (0..space.len()).map(|i| space.indices.factors(i).iter().map(wave).product()).collect();
        let norm2 = (1.0 + GAMMA * GAMMA * PI.powi(4) / 45.0).powi(d as i32);
        let residual2 = norm2 - coefficients.iter().map(|c| c * c).sum::<f64>();
        Self { kind: Kind::Sobolev, coefficients, residual2, norm2, polynomial: None }
    }

    /// f at `n` points `[n, d]`, as n × 1.
    pub fn values(&self, points: &[f64], n: usize) -> Mat<f64> {
        match &self.polynomial {
            Some((space, coefficients)) => {
                let mut features = Mat::zeros(n, space.len());
                space.features(points, features.as_mut());
                features * Mat::from_fn(coefficients.len(), 1, |i, _| coefficients[i])
            }
            None if self.kind == Kind::Sobolev => {
                let d = points.len() / n;
                let factor = |(axis, x): (usize, &f64)| {
                    let t = (x - centre(axis)).rem_euclid(1.0);
                    // Σ 2 cos(2πkt)/k² = 2π² B₂(t)
                    1.0 + GAMMA * 2.0 * PI * PI * (t * t - t + 1.0 / 6.0)
                };
                Mat::from_fn(n, 1, |i, _| points[i * d..(i + 1) * d].iter().enumerate().map(factor).product())
            }
            None => Mat::from_fn(n, 1, |i, _| self.kind.at(points[i])),
        }
    }
}

impl Kind {
    /// Value at a point of the line.
    fn at(self, x: f64) -> f64 {
        match self {
            Self::Runge => 1.0 / (1.0 + 5.0 * x * x),
            Self::Kink => (x - 0.1).abs(),
            Self::Bell => (-0.25 * (x - 1.0).powi(2)).exp(),
            Self::RandomPolynomial | Self::Sobolev => 0.0,
        }
    }
}

/// y along an axis: multiples of the golden ratio.
fn centre(axis: usize) -> f64 {
    ((axis + 1) as f64 * 0.618_033_988_749_895).fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sums that pencil and paper give: ∫ |x − 0.1| dx/2 = 0.505, ∫ f² dx/2 = (1.1³ + 0.9³)/6; E exp(−(X − 1)²/4) of a
    /// normal is √(2/3) e^{−1/6}.
    #[test]
    fn first_coefficients_and_norms_are_known() {
        let space = Space::new(&[Family::Legendre], &Rule::TotalDegree(40)).unwrap();
        let kink = Target::of_one_variable(Kind::Kink, Family::Legendre, &space).unwrap();
        assert!((kink.coefficients[0] - 0.505).abs() < 1e-13);
        assert!((kink.norm2 - (1.331 + 0.729) / 6.0).abs() < 1e-13);
        let sum: f64 = kink.coefficients.iter().map(|c| c * c).sum();
        assert!((kink.norm2 - sum - kink.residual2).abs() < 1e-13, "Pythagoras");
        let space = Space::new(&[Family::Hermite], &Rule::TotalDegree(10)).unwrap();
        let bell = Target::of_one_variable(Kind::Bell, Family::Hermite, &space).unwrap();
        assert!((bell.coefficients[0] - (2.0f64 / 3.0).sqrt() * (-1.0f64 / 6.0).exp()).abs() < 1e-13);
    }

    /// Coefficients and norm against sums over a grid, which are exact to the wave of its size (1e-3 with 64² points).
    #[test]
    fn sections_of_the_kernel_are_what_quadrature_says() {
        let families = [Family::Fourier; 2];
        let space = Space::new(&families, &Rule::HyperbolicCross(6)).unwrap();
        let target = Target::sobolev(&space);
        let n = 64;
        let points: Vec<f64> = (0..n * n).flat_map(|i| [i / n, i % n].map(|k| (k as f64 + 0.5) / n as f64)).collect();
        let mut features = Mat::zeros(n * n, space.len());
        space.features(&points, features.as_mut());
        let values = target.values(&points, n * n);
        let mean = 1.0 / (n * n) as f64;
        let c = features.transpose() * &values * faer::Scale(mean);
        (0..space.len()).for_each(|i| assert!((c[(i, 0)] - target.coefficients[i]).abs() < 1e-3, "{i}"));
        assert!((values.squared_norm_l2() * mean - target.norm2).abs() < 1e-3);
        assert!(target.residual2 > 0.01 * target.norm2);
    }

    #[test]
    fn a_random_polynomial_splits_by_degree() {
        let families = [Family::Legendre; 3];
        let space = Space::new(&families, &Rule::TotalDegree(2)).unwrap();
        let target = Target::random_polynomial(&families, 2, &space, 4).unwrap();
        let sum: f64 = target.coefficients.iter().map(|c| c * c).sum();
        assert!((target.norm2 - sum - target.residual2).abs() < 1e-13);
        assert!(target.residual2 > 0.0);
    }
}
