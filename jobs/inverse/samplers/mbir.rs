//! DiffusionMBIR (Chung et al., CVPR 2023): a predictor and a corrector of the diffusion with growing variance (Song et al., ICLR 2021), and
//! behind each pair one step of ADMM on the whole volume, with one step of conjugate gradients.
//!
//! The prior's score is (D(x, σ) − x)/σ². The predictor goes from σ to σ', the corrector is a Langevin step at σ'. Differences to the authors'
//! program: total variation along z does not join the last slice to the first one, Aᵀ is the exact adjoint, and the corrector asks the network at
//! the noise that x has. Data are listened to as if they had no noise.

use convoke_cluster::Result;

use super::levels::Levels;
use super::splitting::Splitting;
use super::{Chain, World};

/// How volumes are drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct MbirParams {
    /// Levels of noise.
    pub levels: Levels,
    /// Length of the corrector's step: its drift has this part of its noise's norm.
    pub snr: f64,
    /// Conjugate gradients of a data step.
    pub iterations: usize,
    /// Weight λ of the total variation along z.
    pub lambda: f64,
    /// Penalty ρ of its splitting; 0 leaves slices alone.
    pub rho: f64,
}

/// A volume on its way, this rank's slices of it.
#[derive(Debug, Clone)]
pub struct Mbir {
    params: MbirParams,
    x: Vec<f32>,
    splitting: Splitting,
}

impl Mbir {
    /// Not begun yet; of so many voxels here.
    pub fn new(params: MbirParams, len: usize) -> Self {
        let mut splitting = Splitting::new(params.rho);
        splitting.start(len);
        Self { params, x: vec![0.0; len], splitting }
    }

    /// x + ε s + √(2 ε) n, ε = 2 (r ‖n‖/‖s‖)², norms those of slices, in the mean. Collective.
    fn correct(&mut self, sigma: f64, which: u64, world: &World<'_>) -> Result<()> {
        let clean = world.denoise(&self.x, sigma)?;
        let score = |x: f32, d: f32| (f64::from(d) - f64::from(x)) / (sigma * sigma);
        let size = world.place.size();
        let noise: Vec<f32> = world.normal(which).collect();
        let norms = |norm: &dyn Fn(usize) -> f64| -> Vec<f64> {
            (0..self.x.len() / size)
                .map(|slice| (slice * size..(slice + 1) * size).map(norm).sum::<f64>().sqrt())
                .collect()
        };
        let of_noise = norms(&|i| f64::from(noise[i]).powi(2));
        let of_score = norms(&|i| score(self.x[i], clean[i]).powi(2));
        let [n, s] = [world.place.comm.sum_blocks(&of_noise)?, world.place.comm.sum_blocks(&of_score)?];
        if s == 0.0 {
            return Ok(());
        }
        let epsilon = 2.0 * (self.params.snr * n / s).powi(2);
        let (drift, new) = ((epsilon / (sigma * sigma)) as f32, (2.0 * epsilon).sqrt() as f32);
        let all = self.x.iter_mut().zip(&clean).zip(&noise);
        all.for_each(|((x, d), n)| *x += drift * (d - *x) + new * n);
        Ok(())
    }
}

impl Chain for Mbir {
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
        let (sigma, next) = (self.params.levels.at(i), self.params.levels.at(i + 1));
        // x + (σ² − σ'²) s + √(σ² − σ'²) n; the last step ends with what the denoiser expects.
        let clean = world.denoise(&self.x, sigma)?;
        let fall = sigma * sigma - next * next;
        let (drift, new) = ((fall / (sigma * sigma)) as f32, if next > 0.0 { fall.sqrt() as f32 } else { 0.0 });
        let all = self.x.iter_mut().zip(&clean).zip(world.normal(1 + 2 * i));
        all.for_each(|((x, d), n)| *x += drift * (d - *x) + new * n);
        if next > 0.0 && self.params.snr > 0.0 {
            self.correct(next, 2 + 2 * i, world)?;
        }
        self.x = self.splitting.solve(&self.x, 0.0, self.params.iterations, world)?;
        self.splitting.split(&self.x, self.params.lambda, world)?;
        Ok(sigma)
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
