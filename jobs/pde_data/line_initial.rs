//! Where functions on a circle begin.

use convoke_cluster::BadValue;
use convoke_kernels::random::Philox;
use num_complex::Complex64;

use super::circle::{Circle, Fourier};
use super::initial::{GRID, STREAM};
use super::spec::{InitialKind, InitialSpec};
use crate::flow::function;

/// Initial functions of samples.
#[derive(Debug)]
pub enum LineInitial {
    /// Independent coefficients of these deviations.
    Gaussian(Vec<f64>),
    /// The same for all.
    Given(Vec<Complex64>),
}

impl LineInitial {
    /// Gaussian: E|û_k|² = scale² τ^(2α−1) (κ² + τ²)^(−α), and the mean is 0.
    ///
    /// # Errors
    /// [`BadValue`] for an expression that cannot be read or has finer detail than the grid.
    pub fn new(spec: &InitialSpec, circle: &Circle) -> Result<Self, BadValue> {
        if spec.kind == InitialKind::Expression {
            let text = spec.solution.as_deref().unwrap_or_default();
            return Ok(Self::Given(coefficients("problem.initial.solution", text, circle)?));
        }
        let (alpha, tau, scale) = (spec.alpha.unwrap_or(2.0), spec.tau.unwrap_or(5.0), spec.scale()?);
        let deviation = |kappa: f64| scale * tau.powf(alpha - 0.5) * (kappa * kappa + tau * tau).powf(-0.5 * alpha);
        Ok(Self::Gaussian(circle.kappas().map(|kappa| if kappa > 0.0 { deviation(kappa) } else { 0.0 }).collect()))
    }

    /// Coefficients of sample `sample` at time 0, each a function of the seed, the sample and the mode, not of the grid.
    pub fn sample(&self, seed: u64, sample: u64) -> Vec<Complex64> {
        match self {
            Self::Given(u) => u.clone(),
            Self::Gaussian(deviations) => {
                let random = Philox::new(seed, STREAM + sample);
                let normal = |k: u64| Complex64::new(random.normal(2 * k), random.normal(2 * k + 1)) * 0.5f64.sqrt();
                deviations.iter().enumerate().map(|(k, deviation)| normal(k as u64) * *deviation).collect()
            }
        }
    }
}

/// Coefficients of the function `text` of x.
///
/// # Errors
/// [`BadValue`] where it cannot be read, is not finite, or is finer than the modes.
pub fn coefficients(key: &str, text: &str, circle: &Circle) -> Result<Vec<Complex64>, BadValue> {
    let points = (0..circle.n).map(|i| [circle.length * i as f64 / circle.n as f64]);
    let values = function::values(key, text, ["x"], points)?;
    let square = values.iter().map(|v| v * v).sum::<f64>() / circle.n as f64;
    let found = Fourier::new(circle.n).coefficients(&values, circle.m);
    let held = 2.0 * circle.energies(&found).sum::<f64>();
    function::resolved((key, text), GRID, circle.m, held, square)?;
    Ok(found)
}
