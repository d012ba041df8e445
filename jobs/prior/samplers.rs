//! Volumes from few data by a denoiser of their slices: decomposed diffusion (Chung, Lee and Ye, ICLR 2024), in the form with added noise.
//!
//! From x = σ₀ n on: x₀ = D(x, σ) slice by slice; x₀ is moved towards the data, and slices towards each other (total variation along z, one
//! step of ADMM whose dual is kept); of the noise of the next level a part is new, and the rest what the denoiser took away. The data step
//! minimises ‖A x − y‖²/σ_y² + ‖x − x₀‖²/σ² + …, so that noisy data pull less while there is little noise in x.
//!
//! What is drawn is not the posterior where data are noisy: each level listens to them again. Of a normal prior and a datum with a tenth of its variance
//! the mean ends 0.15 of the prior's deviations beyond the posterior's.

use convoke_cluster::Result;

use super::Denoiser;
use crate::inverse::place::Place;

/// σ² of the data step is at least this: the last steps would not listen to the data.
const LEAST: f64 = 1e-4;

/// Data y and the operator A that they come from, scaled so that ‖A‖ = 1, of volumes `[slice, y, x]` of which some slices are here.
pub trait Measured {
    /// AᵀA v. Collective.
    ///
    /// # Errors
    /// Of kernels and of the exchange.
    fn normal(&mut self, v: &[f32]) -> Result<Vec<f32>>;

    /// Aᵀ y.
    fn back(&self) -> &[f32];

    /// Variance of the noise of y.
    fn noise(&self) -> f64;
}

/// How volumes are drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct DdsParams {
    /// Levels of noise.
    pub steps: usize,
    /// The lowest and the highest one, for values between 0 and 1; between them as Karras et al. (2022) with ρ = 7.
    pub sigma: [f64; 2],
    /// New noise: 0 none, 1 as much as keeps the law of each level.
    pub eta: f64,
    /// Conjugate gradients of a data step.
    pub iterations: usize,
    /// Weight λ of the total variation along z.
    pub lambda: f64,
    /// Penalty of its splitting; 0 leaves slices alone.
    pub rho: f64,
}

impl Default for DdsParams {
    fn default() -> Self {
        Self { steps: 50, sigma: [0.01, 20.0], eta: 0.85, iterations: 5, lambda: 3e-4, rho: 1e-2 }
    }
}

impl DdsParams {
    /// Level `i`, from the highest on; 0 behind the last.
    pub fn level(&self, i: usize) -> f64 {
        const POWER: f64 = 7.0;
        if i >= self.steps {
            return 0.0;
        }
        let [low, high] = self.sigma.map(|sigma| sigma.powf(1.0 / POWER));
        let part = i as f64 / (self.steps - 1).max(1) as f64;
        (high + part * (low - high)).powf(POWER)
    }
}

/// A volume on its way, this rank's slices of it.
#[derive(Debug, Clone)]
pub struct Dds {
    /// The volume: with noise, and after the last step without.
    pub x: Vec<f32>,
    /// Differences along z, and the scaled dual of their splitting.
    pub z: Vec<f32>,
    /// See above.
    pub w: Vec<f32>,
}

impl Dds {
    /// Pure noise of the highest level.
    pub fn start(params: &DdsParams, place: &Place, seed: u64) -> Self {
        let high = params.level(0) as f32;
        let x: Vec<f32> = place.normal(seed, 0).map(|n| high * n).collect();
        Self { z: vec![0.0; x.len()], w: vec![0.0; x.len()], x }
    }

    /// Step `i` of `params.steps`. Collective.
    ///
    /// # Errors
    /// Of the data and of the exchange.
    pub fn step(
        &mut self,
        i: usize,
        params: &DdsParams,
        (denoiser, measured): (&dyn Denoiser, &mut dyn Measured),
        place: &Place,
        seed: u64,
    ) -> Result<()> {
        let (sigma, next) = (params.level(i), params.level(i + 1));
        let clean = denoiser.denoise(&self.x, place.points, sigma);
        let near = measured.noise() / (sigma * sigma).max(LEAST);
        let moved = self.towards_data(&clean, near, params, measured, place)?;
        // Of the level's noise η √(1 − (σ'/σ)²) is new: with a whole η the law of each level is that of the noise it has (DDIM, Song et al. 2021).
        let new = params.eta * next * (1.0 - (next / sigma).powi(2)).max(0.0).sqrt();
        let old = (next * next - new * new).sqrt() / sigma;
        let random = place.normal(seed, 1 + i as u64);
        let all = self.x.iter_mut().zip(&clean).zip(&moved).zip(random);
        // (x − x₀)/σ is what the denoiser took away.
        all.for_each(|(((x, clean), moved), n)| *x = moved + old as f32 * (*x - clean) + new as f32 * n);
        Ok(())
    }

    /// x of (AᵀA + ρ DᵀD + g) x = Aᵀy + ρ Dᵀ(z − w) + g x₀, by conjugate gradients from x₀ on, then z and w.
    fn towards_data(
        &mut self,
        clean: &[f32],
        near: f64,
        params: &DdsParams,
        measured: &mut dyn Measured,
        place: &Place,
    ) -> Result<Vec<f32>> {
        let (rho, g, coupled) = (params.rho as f32, near as f32, params.rho > 0.0);
        let mut x = clean.to_vec();
        let mut r = apply(&x, (rho, g), measured, place)?;
        r.iter_mut().zip(measured.back()).zip(clean).for_each(|((r, b), c)| *r = b + g * c - *r);
        if coupled {
            let split: Vec<f32> = self.z.iter().zip(&self.w).map(|(z, w)| z - w).collect();
            r.iter_mut().zip(place.transposed(&split)?).for_each(|(r, d)| *r += rho * d);
        }
        let mut p = r.clone();
        let mut gamma = place.dot(&r, &r)?;
        for _ in 0..params.iterations {
            let q = apply(&p, (rho, g), measured, place)?;
            let along = place.dot(&p, &q)?;
            if along <= 0.0 || gamma == 0.0 {
                break;
            }
            let alpha = (gamma / along) as f32;
            x.iter_mut().zip(&p).for_each(|(x, p)| *x += alpha * p);
            r.iter_mut().zip(&q).for_each(|(r, q)| *r -= alpha * q);
            let old = std::mem::replace(&mut gamma, place.dot(&r, &r)?);
            let beta = (gamma / old) as f32;
            p.iter_mut().zip(&r).for_each(|(p, r)| *p = r + beta * *p);
        }
        if coupled {
            let threshold = (params.lambda / params.rho) as f32;
            let d = place.differences(&x)?;
            for ((z, w), d) in self.z.iter_mut().zip(&mut self.w).zip(&d) {
                let v = d + *w;
                *z = v.signum() * (v.abs() - threshold).max(0.0);
                *w = v - *z;
            }
        }
        Ok(x)
    }
}

/// (AᵀA + ρ DᵀD + g) v. Collective.
fn apply(v: &[f32], (rho, g): (f32, f32), measured: &mut dyn Measured, place: &Place) -> Result<Vec<f32>> {
    let mut out = measured.normal(v)?;
    out.iter_mut().zip(v).for_each(|(out, v)| *out += g * v);
    if rho > 0.0 {
        let more = place.transposed(&place.differences(v)?)?;
        out.iter_mut().zip(more).for_each(|(out, more)| *out += rho * more);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prior::gaussian::Gaussian;
    use convoke_cluster::Comm;
    use convoke_cluster::block;
    use convoke_cluster::comm::run_threads;

    const POINTS: [usize; 2] = [4, 6];
    const SIZE: usize = 24;

    /// Every second point is measured, with noise.
    struct Mask {
        back: Vec<f32>,
        noise: f64,
    }

    impl Measured for Mask {
        fn normal(&mut self, v: &[f32]) -> Result<Vec<f32>> {
            Ok(v.iter().enumerate().map(|(i, v)| if i % 2 == 0 { *v } else { 0.0 }).collect())
        }

        fn back(&self) -> &[f32] {
            &self.back
        }

        fn noise(&self) -> f64 {
            self.noise
        }
    }

    fn mask(data: f32, slices: usize, noise: f64) -> Mask {
        let back = (0..slices * SIZE).map(|i| if i % 2 == 0 { data } else { 0.0 }).collect();
        Mask { back, noise }
    }

    fn draw(params: &DdsParams, slices: usize, noise: f64, comm: &Comm, seed: u64) -> Result<Vec<f32>> {
        let here = block(slices, comm.rank(), comm.size());
        let mut measured = mask(1.3, here.len(), noise);
        let place = Place { comm: comm.clone(), slices: here, all: slices, points: POINTS, leads: true };
        let prior = Gaussian { mean: vec![0.4; SIZE], variance: vec![0.3; SIZE] };
        let mut sample = Dds::start(params, &place, seed);
        for i in 0..params.steps {
            sample.step(i, params, (&prior, &mut measured), &place, seed)?;
        }
        Ok(sample.x)
    }

    /// Mean and variance that the steps give a point, whose laws stay normal: of one that is measured as 1.3, or of another one.
    fn law(params: &DdsParams, noise: Option<f64>) -> [f64; 2] {
        let (m, v, mut law) = (0.4, 0.3, [0.0, params.level(0).powi(2)]);
        for i in 0..params.steps {
            let (sigma, next) = (params.level(i), params.level(i + 1));
            let new = params.eta * (next * next * (1.0 - (next / sigma).powi(2))).sqrt();
            let old = (next * next - new * new).sqrt() / sigma;
            let kept = v / (v + sigma * sigma);
            // x₀ = m + kept (x − m); towards the datum by 1/(1 + g).
            let towards = noise.map_or(0.0, |noise| 1.0 / (1.0 + noise / (sigma * sigma).max(LEAST)));
            let slope = (1.0 - towards) * kept + old * (1.0 - kept);
            let offset = towards * 1.3 + (1.0 - towards - old) * m * (1.0 - kept);
            law = [offset + slope * law[0], slope * slope * law[1] + new * new];
        }
        law
    }

    /// Independent points of mean 0.4 and variance 0.3, half of them measured. Samples have the mean and the variance that the steps give to
    /// four of their own errors; where nothing is measured this is the prior's, to 5 % of the variance with so many steps.
    #[test]
    fn samples_of_a_gaussian_prior_have_the_law_of_the_steps() {
        let params = DdsParams { steps: 200, sigma: [0.005, 40.0], eta: 0.85, iterations: 5, lambda: 0.0, rho: 0.0 };
        for noise in [0.03, 0.3] {
            let x = draw(&params, 400, noise, &Comm::solo(), 3).expect("a sample");
            for (first, noise) in [(1, None), (0, Some(noise))] {
                let values: Vec<f64> = x.iter().skip(first).step_by(2).map(|v| f64::from(*v)).collect();
                let n = values.len() as f64;
                let mean = values.iter().sum::<f64>() / n;
                let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
                let [due, spread] = law(&params, noise);
                assert!((mean - due).abs() < 4.0 * (spread / n).sqrt(), "{noise:?}: mean {mean} of {due}");
                let off = (variance / spread - 1.0).abs();
                assert!(off < 4.0 * (2.0 / n).sqrt(), "{noise:?}: variance {variance} of {spread}");
                assert!(noise.is_some() || (spread / 0.3 - 1.0).abs() < 0.05, "{spread}");
            }
        }
    }

    /// The same bits on one to four ranks, also where some have no slices, with slices that know each other.
    #[test]
    fn samples_do_not_depend_on_the_ranks() {
        let params = DdsParams { steps: 6, ..DdsParams::default() };
        let alone = draw(&params, 3, 0.01, &Comm::solo(), 5).expect("a sample");
        for ranks in 1..=4 {
            let parts = run_threads(ranks, |comm| draw(&params, 3, 0.01, &comm, 5));
            let all: Vec<f32> = parts.into_iter().flat_map(|part| part.expect("a sample")).collect();
            assert!(all == alone, "on {ranks}");
        }
    }
}
