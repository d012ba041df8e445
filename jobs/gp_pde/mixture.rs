//! Priors as mixtures of modulated kernels, `k(z) = Σ w g(z / ℓ) cos 2πμz`, by their spectral densities; and the mixture that
//! a learned line spectrum amounts to.
//!
//! A Gaussian g gives the spectral mixture kernel (Wilson and Adams 2013), a Matérn g one whose spectrum is a mixture of
//! Student's t (GP-HM, ICLR 2024); μ = 0 gives the plain kernels.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

use super::features::Prior;

/// Periods of the features' common period, over the axis's length, at most.
const MAX_OVERLAP: f64 = 6.0;
/// Weight, relative to the largest, that is taken off every frequency's: what is left nothing of belongs to no component,
/// and what is at the border does not matter.
const NOTHING: f64 = 1e-4;
/// Weight, relative to the heaviest, of components that are not reported.
const LIGHT: f64 = 1e-3;

/// The envelope g of a component, of length scale 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kernel {
    /// `exp(−z²/2)`
    #[serde(rename = "gaussian")]
    Gaussian,
    /// Matérn, ν = 3/2: once differentiable.
    #[serde(rename = "matern-3/2")]
    Matern32,
    /// Matérn, ν = 5/2: twice.
    #[serde(rename = "matern-5/2")]
    Matern52,
    /// Matérn, ν = 7/2: three times.
    #[serde(rename = "matern-7/2")]
    Matern72,
    /// Matérn, ν = 9/2: four times.
    #[serde(rename = "matern-9/2")]
    Matern92,
}

impl Kernel {
    /// Matérn's ν.
    pub fn smoothness(self) -> Option<f64> {
        Some(match self {
            Self::Gaussian => return None,
            Self::Matern32 => 1.5,
            Self::Matern52 => 2.5,
            Self::Matern72 => 3.5,
            Self::Matern92 => 4.5,
        })
    }

    /// Spectral density at `xi` cycles per length scale; it integrates to 1 over both signs (Rasmussen and Williams 2006,
    /// section 4.2).
    fn density(self, xi: f64) -> f64 {
        match self.smoothness() {
            None => (2.0 * PI).sqrt() * (-2.0 * (PI * xi).powi(2)).exp(),
            Some(nu) => {
                let scale = 2.0 * PI.sqrt() * gamma(nu + 0.5) * (2.0 * nu).powf(nu) / gamma(nu);
                scale * (2.0 * nu + (2.0 * PI * xi).powi(2)).powf(-(nu + 0.5))
            }
        }
    }

    /// Distance in length scales beyond which the envelope is below 10⁻¹⁶, roughly.
    fn reach(self) -> f64 {
        self.smoothness().map_or(8.6, |nu| 42.0 / (2.0 * nu).sqrt())
    }

    /// Frequency in cycles per length scale beyond which the spectrum is below 10⁻¹⁶ of its peak; none for Matérn's.
    fn ceiling(self) -> f64 {
        if self == Self::Gaussian { 1.37 } else { f64::INFINITY }
    }
}

/// Γ at a positive multiple of ½.
fn gamma(x: f64) -> f64 {
    match x {
        _ if x < 0.75 => PI.sqrt(),
        _ if x < 1.25 => 1.0,
        _ => (x - 1.0) * gamma(x - 1.0),
    }
}

/// One modulated kernel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Component {
    /// Envelope.
    pub kernel: Kernel,
    /// μ in cycles per unit length.
    pub frequency: f64,
    /// w, the prior variance that it contributes.
    pub weight: f64,
    /// ℓ
    pub length_scale: f64,
}

/// The prior of these components on an axis of `length`, up to frequencies of `highest`.
///
/// Features are lines `1/T` apart, T a length after which the kernel repeats: far enough away not to matter, or the length
/// of a periodic axis.
pub fn prior(components: &[Component], length: f64, periodic: bool, highest: f64) -> Prior {
    let reach = components.iter().map(|c| c.kernel.reach() * c.length_scale).fold(0.0, f64::max);
    let period = if periodic { length } else { (length + reach).clamp(2.0 * length, MAX_OVERLAP * length) };
    let step = 1.0 / period;
    let top = components.iter().map(|c| c.frequency + c.kernel.ceiling() / c.length_scale).fold(0.0, f64::max);
    let mut prior = Prior::flat(step, top.min(highest));
    for (xi, s) in prior.frequencies.iter().zip(&mut prior.scales) {
        let density = |c: &Component| {
            let at = |xi: f64| c.length_scale * c.kernel.density(c.length_scale * xi);
            0.5 * c.weight * (at(xi - c.frequency) + at(xi + c.frequency))
        };
        let two_sided: f64 = components.iter().map(density).sum();
        // Frequency 0 has no partner of the other sign.
        *s = (step * two_sided * if *xi == 0.0 { 1.0 } else { 2.0 }).sqrt();
    }
    prior
}

/// A part of a line spectrum that hangs together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cluster {
    /// Mean frequency.
    pub frequency: f64,
    /// Sum of the weights.
    pub weight: f64,
    /// Standard deviation of the frequencies, each spread over its bin.
    pub width: f64,
}

/// The components of a learned spectrum, by matching moments of neighbouring lines; in the order of
/// frequencies.
pub fn clusters(prior: &Prior) -> Vec<Cluster> {
    let weights: Vec<f64> = prior.scales.iter().map(|s| s * s).collect();
    let largest = weights.iter().fold(0.0f64, |m, w| m.max(*w));
    // A line stands for all frequencies nearest to it.
    let bin = prior.frequencies.get(1).map_or(0.0, |second| second - prior.frequencies[0]);
    let mut found = Vec::new();
    let mut run: Vec<(f64, f64)> = Vec::new();
    let lines = prior.frequencies.iter().copied().zip(weights).map(Some).chain([None]);
    for line in lines {
        match line.filter(|(_, w)| *w > NOTHING * largest) {
            Some((xi, w)) => run.push((xi, w - NOTHING * largest)),
            None if run.is_empty() => {}
            None => {
                let weight: f64 = run.iter().map(|(_, w)| w).sum();
                let frequency = run.iter().map(|(xi, w)| xi * w).sum::<f64>() / weight;
                let variance = run.iter().map(|(xi, w)| (xi - frequency).powi(2) * w).sum::<f64>() / weight;
                found.push(Cluster { frequency, weight, width: (variance + bin * bin / 12.0).sqrt() });
                run.clear();
            }
        }
    }
    let heaviest = found.iter().fold(0.0f64, |m, c: &Cluster| m.max(c.weight));
    found.retain(|c| c.weight > LIGHT * heaviest);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The features' covariance against the kernels' formulas (Rasmussen and Williams 2006, equations 4.9 and 4.17).
    #[test]
    fn features_have_the_kernel_as_their_covariance() {
        let r = |z: f64, nu: f64, l: f64| (2.0 * nu).sqrt() * z.abs() / l;
        let formula = |kernel: Kernel, z: f64, l: f64| match kernel {
            Kernel::Gaussian => (-0.5 * (z / l).powi(2)).exp(),
            Kernel::Matern32 => (1.0 + r(z, 1.5, l)) * (-r(z, 1.5, l)).exp(),
            Kernel::Matern52 => {
                let r = r(z, 2.5, l);
                (1.0 + r + r * r / 3.0) * (-r).exp()
            }
            Kernel::Matern72 => {
                let r = r(z, 3.5, l);
                (1.0 + r + 2.0 * r * r / 5.0 + r.powi(3) / 15.0) * (-r).exp()
            }
            Kernel::Matern92 => {
                let r = r(z, 4.5, l);
                (1.0 + r + 3.0 * r * r / 7.0 + 2.0 * r.powi(3) / 21.0 + r.powi(4) / 105.0) * (-r).exp()
            }
        };
        // The tails of Matérn spectra beyond the ceiling: ξ^(−2ν).
        for (kernel, tolerance) in [
            (Kernel::Gaussian, 1e-13),
            (Kernel::Matern32, 2e-6),
            (Kernel::Matern52, 1e-9),
            (Kernel::Matern72, 1e-12),
            (Kernel::Matern92, 1e-13),
        ] {
            let component = |frequency, weight, length_scale| Component { kernel, frequency, weight, length_scale };
            let components = [component(3.0, 0.7, 0.2), component(0.0, 0.4, 0.15)];
            let phi = prior(&components, 1.5, false, 400.0).features(&[0.0, 0.1, 0.45, 1.5], 0);
            let covariance = &phi * phi.transpose();
            for (i, z) in [0.0, 0.1, 0.45, 1.5].into_iter().enumerate() {
                let exact: f64 = components
                    .iter()
                    .map(|c| c.weight * formula(kernel, z, c.length_scale) * (2.0 * PI * c.frequency * z).cos())
                    .sum();
                assert!(
                    (covariance[(0, i)] - exact).abs() < tolerance,
                    "{kernel:?} {z}: {}",
                    covariance[(0, i)] - exact
                );
            }
        }
    }

    #[test]
    fn a_mixture_is_found_again_in_its_spectrum() {
        let component =
            |frequency, weight, length_scale| Component { kernel: Kernel::Gaussian, frequency, weight, length_scale };
        let found = clusters(&prior(&[component(4.0, 1.0, 0.5), component(20.0, 3.0, 1.0)], 2.0, false, 100.0));
        assert_eq!(found.len(), 2);
        for (found, (frequency, weight, length)) in found.iter().zip([(4.0, 1.0, 0.5), (20.0, 3.0, 1.0)]) {
            assert!((found.frequency - frequency).abs() < 1e-4 && (found.weight - weight).abs() < 1e-2 * weight);
            // A Gaussian envelope of length ℓ has a spectrum of deviation 1 / 2πℓ.
            assert!((found.width * 2.0 * PI * length - 1.0).abs() < 0.1, "{}", found.width);
        }
    }
}
