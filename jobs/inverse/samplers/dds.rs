//! Decomposed diffusion (Chung, Lee and Ye, ICLR 2024), in the form with added noise.
//!
//! From x = σ₀ n on: x₀ = D(x, σ) slice by slice; x₀ is moved towards the data, and slices towards each other (total variation along z, one
//! step of ADMM whose dual is kept); of the noise of the next level a part is new, and the rest what the denoiser took away. The data step
//! minimises ‖Ã x − ỹ‖² + g ‖x − x₀‖² + …, g = σ_y²/(‖A‖² σ²), so that noisy data pull less while there is little noise in x.
//!
//! What is drawn is not the posterior where data are noisy: each level listens to them again. Of a normal prior and a datum with a tenth of its variance
//! the mean ends 0.15 of the prior's deviations beyond the posterior's.

use convoke_cluster::Result;

use super::levels::Levels;
use super::splitting::Splitting;
use super::{Chain, World};

/// σ² of the data step is at least this: the last steps would not listen to the data.
pub(super) const LEAST: f64 = 1e-4;

/// How volumes are drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct DdsParams {
    /// Levels of noise.
    pub levels: Levels,
    /// New noise: 0 none, 1 as much as keeps the law of each level.
    pub eta: f64,
    /// Conjugate gradients of a data step.
    pub iterations: usize,
    /// Weight λ of the total variation along z.
    pub lambda: f64,
    /// Penalty ρ of its splitting; 0 leaves slices alone.
    pub rho: f64,
}

/// A volume on its way, this rank's slices of it.
#[derive(Debug, Clone)]
pub struct Dds {
    params: DdsParams,
    x: Vec<f32>,
    splitting: Splitting,
}

impl Dds {
    /// Not begun yet; of so many voxels here.
    pub fn new(params: DdsParams, len: usize) -> Self {
        let mut splitting = Splitting::new(params.rho);
        splitting.start(len);
        Self { params, x: vec![0.0; len], splitting }
    }
}

impl Dds {
    /// As [`Chain::step`], with the clean volume that the level ended with. Collective.
    ///
    /// # Errors
    /// Of the operator and of the exchange.
    pub fn advance(&mut self, i: u64, world: &mut World<'_>) -> Result<(f64, Vec<f32>)> {
        let (sigma, next) = (self.params.levels.at(i), self.params.levels.at(i + 1));
        let clean = world.denoise(&self.x, sigma)?;
        let near = world.data.noise / (sigma * sigma).max(LEAST);
        let moved = self.splitting.solve(&clean, near, self.params.iterations, world)?;
        self.splitting.split(&moved, self.params.lambda, world)?;
        // Of the level's noise η √(1 − (σ'/σ)²) is new: with a whole η the law of each level is that of the noise it has (DDIM, Song et al. 2021).
        let new = self.params.eta * next * (1.0 - (next / sigma).powi(2)).max(0.0).sqrt();
        let old = (next * next - new * new).sqrt() / sigma;
        let all = self.x.iter_mut().zip(&clean).zip(&moved).zip(world.normal(1 + i));
        // (x − x₀)/σ is what the denoiser took away.
        all.for_each(|(((x, clean), moved), n)| *x = moved + old as f32 * (*x - clean) + new as f32 * n);
        Ok((sigma, moved))
    }
}

impl Chain for Dds {
    fn steps(&self) -> u64 {
        self.params.levels.steps
    }

    fn start(&mut self, world: &mut World<'_>) -> Result<()> {
        let high = self.params.levels.at(0) as f32;
        self.x = world.normal(0).map(|n| high * n).collect();
        self.splitting.start(self.x.len());
        Ok(())
    }

    fn step(&mut self, i: u64, world: &mut World<'_>) -> Result<f64> {
        Ok(self.advance(i, world)?.0)
    }

    fn weigh(&mut self, lambda: f64) {
        self.params.lambda = lambda;
    }

    fn volume(&self) -> &[f32] {
        &self.x
    }

    fn state(&mut self) -> Vec<(&'static str, &mut Vec<f32>)> {
        vec![("x", &mut self.x), ("z", &mut self.splitting.z), ("w", &mut self.splitting.w)]
    }
}
