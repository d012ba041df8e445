//! RED-diff (Mardani et al., ICLR 2024) in the form with added noise: one volume μ that fits the data and that denoising leaves alone.
//!
//! Each step goes one level of noise down and one step of Adam along Ãᵀ(Ãμ − ỹ) + λ (μ − D(μ + σ n, σ)) + κ Dᵀ D μ/√((D μ)² + δ²): the weight
//! of the prior's part is linear in σ, as the authors advise, and the last term keeps slices near each other (total variation along z, smoothed).

use convoke_cluster::Result;

use super::levels::Levels;
use super::splitting::Splitting;
use super::{Chain, World};

/// Of the moments of the gradient, as the authors chose them.
const BETA: [f64; 2] = [0.9, 0.99];
/// Below the root of the second moment.
const EPSILON: f64 = 1e-8;
/// δ: differences of neighbouring slices below this are not edges.
const EDGE: f32 = 0.01;

/// How the volume is sought.
#[derive(Debug, Clone, PartialEq)]
pub struct RedParams {
    /// Levels of noise, one for each step.
    pub levels: Levels,
    /// Step length of Adam; it falls to 0 along half a cosine.
    pub rate: f64,
    /// Weight λ of the prior.
    pub weight: f64,
    /// Weight κ of the total variation along z; 0 leaves slices alone.
    pub lambda: f64,
    /// Conjugate gradients that the first volume comes from.
    pub iterations: usize,
}

/// A volume on its way, this rank's slices of it.
#[derive(Debug, Clone)]
pub struct Red {
    params: RedParams,
    mu: Vec<f32>,
    first: Vec<f32>,
    second: Vec<f32>,
}

impl Red {
    /// Not begun yet; of so many voxels here.
    pub fn new(params: RedParams, len: usize) -> Self {
        let [mu, first, second] = [vec![0.0; len], vec![0.0; len], vec![0.0; len]];
        Self { params, mu, first, second }
    }
}

impl Chain for Red {
    fn steps(&self) -> u64 {
        self.params.levels.steps
    }

    fn start(&mut self, world: &mut World<'_>) -> Result<()> {
        let zeros = vec![0.0; self.mu.len()];
        self.mu = Splitting::new(0.0).solve(&zeros, 0.0, self.params.iterations, world)?;
        self.first.fill(0.0);
        self.second.fill(0.0);
        Ok(())
    }

    fn step(&mut self, i: u64, world: &mut World<'_>) -> Result<f64> {
        let sigma = self.params.levels.at(i);
        let noisy: Vec<f32> = self.mu.iter().zip(world.normal(1 + i)).map(|(mu, n)| mu + sigma as f32 * n).collect();
        let clean = world.denoise(&noisy, sigma)?;
        let mut gradient = world.data.normal(world.operator, &self.mu)?;
        let weight = self.params.weight as f32;
        let parts = gradient.iter_mut().zip(&world.data.back).zip(self.mu.iter().zip(&clean));
        parts.for_each(|((g, b), (mu, d))| *g += weight * (mu - d) - b);
        if self.params.lambda > 0.0 {
            let slopes: Vec<f32> = world.place.differences(&self.mu)?.into_iter().map(|d| d / d.hypot(EDGE)).collect();
            let kappa = self.params.lambda as f32;
            gradient.iter_mut().zip(world.place.transposed(&slopes)?).for_each(|(g, d)| *g += kappa * d);
        }
        let (t, steps) = (i as f64 + 1.0, self.params.levels.steps as f64);
        let bias = BETA.map(|beta| 1.0 - beta.powf(t));
        let rate = self.params.rate * 0.5 * (1.0 + (std::f64::consts::PI * i as f64 / steps).cos());
        let [b1, b2] = BETA.map(|beta| beta as f32);
        let (length, root) = ((rate / bias[0]) as f32, (1.0 / bias[1].sqrt()) as f32);
        let moments = self.first.iter_mut().zip(&mut self.second);
        for ((mu, g), (m, v)) in self.mu.iter_mut().zip(&gradient).zip(moments) {
            *m = b1 * *m + (1.0 - b1) * g;
            *v = b2 * *v + (1.0 - b2) * g * g;
            *mu -= length * *m / (v.sqrt() * root + EPSILON as f32);
        }
        Ok(sigma)
    }

    fn volume(&self) -> &[f32] {
        &self.mu
    }

    fn state(&mut self) -> Vec<(&'static str, &mut Vec<f32>)> {
        vec![("x", &mut self.mu), ("first_moments", &mut self.first), ("second_moments", &mut self.second)]
    }
}
