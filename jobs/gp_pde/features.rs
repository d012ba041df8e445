//! The prior of one axis as explicit spectral features: `k(x, x') = Σₖ sₖ² cos 2πξₖ(x − x')`.
//!
//! Column `k` of the feature matrix is `sₖ cos 2πξₖx`, column `m + k` is `sₖ sin 2πξₖx`. Derivatives are exact; the
//! covariance matrix is never formed and never inverted.

use std::f64::consts::TAU;

use faer::Mat;

/// A stationary prior of one axis: a line spectrum on an equidistant grid of frequencies.
#[derive(Debug, Clone, PartialEq)]
pub struct Prior {
    /// Frequencies ξₖ in cycles per unit length; the first is 0.
    pub frequencies: Vec<f64>,
    /// Standard deviation sₖ of the amplitude at each frequency.
    pub scales: Vec<f64>,
}

impl Prior {
    /// Equal weight on `k·step` for all `k·step` up to `ceiling`, and one beyond.
    pub fn flat(step: f64, ceiling: f64) -> Self {
        let m = (ceiling / step).ceil() as usize + 1;
        Self { frequencies: (0..m).map(|k| k as f64 * step).collect(), scales: vec![1.0; m] }
    }

    /// Number of features: a cosine and a sine for each frequency.
    pub fn n_features(&self) -> usize {
        2 * self.frequencies.len()
    }

    /// The features' derivative of `order` at `points` (measured from the middle of the axis: then cosines are its even functions): `points × features`.
    pub fn features(&self, points: &[f64], order: usize) -> Mat<f64> {
        let m = self.frequencies.len();
        let mut phi = Mat::zeros(points.len(), 2 * m);
        for (k, (xi, s)) in self.frequencies.iter().zip(&self.scales).enumerate() {
            let amplitude = s * (TAU * xi).powi(order as i32);
            for (i, x) in points.iter().enumerate() {
                let (sin, cos) = sin_cos_turns(*xi, *x);
                // Each derivative turns the phase by a quarter.
                let (c, d) = match order % 4 {
                    0 => (cos, sin),
                    1 => (-sin, cos),
                    2 => (-cos, -sin),
                    _ => (sin, -cos),
                };
                phi[(i, k)] = amplitude * c;
                phi[(i, m + k)] = amplitude * d;
            }
        }
        phi
    }
}

/// `(sin 2πξx, cos 2πξx)`, exact to rounding for any number of turns: the product's rounding error, from a fused
/// multiply-add, goes into the phase.
fn sin_cos_turns(xi: f64, x: f64) -> (f64, f64) {
    let turns = xi * x;
    let lost = xi.mul_add(x, -turns);
    (TAU * ((turns - turns.round()) + lost)).sin_cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_turns_lose_no_digit() {
        // x = 1/8 + n exactly: sin = cos = 1/sqrt 2 for ξ = 1; ξ = 3 with x = 1/24 + n is not exact, the error is known.
        for n in [0.0, 7.0, 1000.0] {
            let (sin, cos) = sin_cos_turns(1.0, 0.125 + n);
            assert!((sin - 0.5f64.sqrt()).abs() < 2e-16 && (cos - 0.5f64.sqrt()).abs() < 2e-16);
        }
        // 333.3 · 3.0 computed in halves: the phase of a product that rounds.
        let (xi, x) = (333.3, 3.1);
        let exact_turns = { (xi * 3.0f64).fract() + xi.mul_add(3.0, -(xi * 3.0)) + (xi * (x - 3.0)).fract() };
        let (sin, _) = sin_cos_turns(xi, x);
        assert!((sin - (TAU * exact_turns).sin()).abs() < 1e-12);
    }

    #[test]
    fn each_order_is_the_derivative_of_the_one_before() {
        let prior = Prior { frequencies: vec![0.0, 0.5, 2.0], scales: vec![1.0, 2.0, 0.5] };
        let (x, h) = (0.37, 1e-5);
        for order in 0..5 {
            let ahead = prior.features(&[x - h, x, x + h], order);
            let derivative = prior.features(&[x], order + 1);
            for j in 0..6 {
                let difference = (ahead[(2, j)] - ahead[(0, j)]) / (2.0 * h);
                let scale = (TAU * 2.0f64).powi(order as i32 + 3) * h * h + 1e-9;
                assert!((difference - derivative[(0, j)]).abs() < scale, "order {order}, feature {j}");
            }
        }
    }
}
