//! Where flows on a square begin.

use convoke_cluster::BadValue;
use convoke_kernels::random::Philox;
use num_complex::Complex64;

use super::spec::{InitialKind, InitialSpec};
use crate::flow::{Modes, given};

/// Keys of the grid.
pub const GRID: [&str; 2] = ["problem.grid.points", "problem.grid.length"];
/// Streams of random numbers from here on belong to samples.
pub const STREAM: u64 = 0x7064_0000_0000;

/// Initial vorticity of samples.
#[derive(Debug)]
pub enum Initial {
    /// Independent coefficients of these deviations.
    Gaussian(Vec<f64>),
    /// Independent coefficients of a stream function of these deviations, scaled to this energy.
    Stream(Vec<f64>, f64),
    /// The same for all.
    Given(Vec<Complex64>),
}

impl Initial {
    /// # Errors
    /// [`BadValue`] for an expression that cannot be read or has finer detail than the grid.
    pub fn new(spec: &InitialSpec, modes: &Modes) -> Result<Self, BadValue> {
        Ok(match spec.kind {
            InitialKind::Gaussian => {
                let (alpha, tau, scale) = (spec.alpha.unwrap_or(2.5), spec.tau.unwrap_or(7.0), spec.scale()?);
                let deviation =
                    |square: f64| scale * 2f64.sqrt() * tau.powf(alpha - 1.0) * (square + tau * tau).powf(-0.5 * alpha);
                Self::Gaussian(modes.squares().map(|s| if s > 0.0 { deviation(s) } else { 0.0 }).collect())
            }
            InitialKind::Mcwilliams => {
                let peak = spec.peak.unwrap_or(4.0);
                let deviation = |square: f64| 1.0 / (square.sqrt() * (1.0 + (square.sqrt() / peak).powi(4)));
                let all = modes.squares().map(|s| if s > 0.0 { deviation(s) } else { 0.0 }).collect();
                Self::Stream(all, spec.energy.unwrap_or(0.25))
            }
            InitialKind::Expression => {
                let text = spec.vorticity.as_deref().unwrap_or_default();
                Self::Given(given::coefficients("problem.initial.vorticity", text, modes, GRID)?)
            }
        })
    }

    /// The vorticity of sample `sample` at time 0. A sample's coefficient of a mode depends on the seed, the sample and the mode,
    /// not on the grid.
    pub fn sample(&self, modes: &Modes, seed: u64, sample: u64) -> Vec<Complex64> {
        match self {
            Self::Given(w) => w.clone(),
            Self::Gaussian(deviations) => normal(modes, deviations, seed, sample),
            Self::Stream(deviations, energy) => {
                let psi = normal(modes, deviations, seed, sample);
                let mut w: Vec<Complex64> = psi.iter().zip(modes.squares()).map(|(psi, square)| psi * square).collect();
                let scale = (energy / modes.energy(&w)).sqrt();
                w.iter_mut().for_each(|w| *w *= scale);
                w
            }
        }
    }
}

/// Coefficients of a real function: complex normal with E|ŵ|² = deviation².
fn normal(modes: &Modes, deviations: &[f64], seed: u64, sample: u64) -> Vec<Complex64> {
    let random = Philox::new(seed, STREAM + sample);
    let one = |kx: i64, ky: i64| {
        // Modes of the half plane, each with two numbers of its own; 2^24 is beyond any grid.
        let key = (((ky as u64) << 25) | (kx + (1 << 24)) as u64) << 1;
        Complex64::new(random.normal(key), random.normal(key + 1)) * 0.5f64.sqrt()
    };
    let value = |(kx, ky): (i64, i64)| if ky == 0 && kx < 0 { one(-kx, 0).conj() } else { one(kx, ky) };
    modes.each().zip(deviations).map(|(mode, deviation)| value(mode) * *deviation).collect()
}
