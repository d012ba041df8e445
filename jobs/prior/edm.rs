//! A learnt denoiser: a network between factors that keep what goes in and comes out of size one (Karras et al., NeurIPS 2022, table 1).

use std::sync::Arc;

use convoke_cluster::Result;
use convoke_kernels::Device;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::on_device::DeviceEdm;
use super::unet::{Shape, Unet};
use super::{Denoiser, Learnt};
use crate::learning::real::Real;

/// Images that go through the network together: so many stay in the caches.
const TOGETHER: usize = 8;

/// What there is to know of a denoiser beside its parameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Card {
    /// Of the network.
    pub network: Shape,
    /// Mean of the images μ.
    pub mean: f64,
    /// Their deviation σ_d.
    pub deviation: f64,
    /// Points along an axis of the images that it has seen.
    pub points: usize,
}

/// c_skip, c_out, c_in and c_noise of a noise σ.
pub fn factors(deviation: f64, sigma: f64) -> [f64; 4] {
    let (d2, s2) = (deviation * deviation, sigma * sigma);
    let root = (d2 + s2).sqrt();
    [d2 / (d2 + s2), sigma * deviation / root, 1.0 / root, 0.25 * sigma.ln()]
}

/// D(x, σ) = μ + c_skip (x − μ) + c_out F(c_in (x − μ), c_noise).
#[derive(Debug, Clone)]
pub struct Edm<T> {
    /// What it is.
    pub card: Card,
    /// The network.
    pub network: Unet,
    /// Its parameters.
    pub parameters: Vec<T>,
}

impl<T: Real> Edm<T> {
    /// With these parameters.
    pub fn new(card: Card, parameters: Vec<T>) -> Self {
        Self { network: Unet::new(&card.network), card, parameters }
    }

    /// What the network is given of noisy images, each with its own σ.
    pub fn inputs(&self, x: &[T], sigmas: &[f64]) -> Vec<T> {
        let (size, mean) = (x.len() / sigmas.len().max(1), T::of(self.card.mean));
        let images = x.chunks(size.max(1)).zip(sigmas);
        images
            .flat_map(|(x, sigma)| {
                let scale = T::of(factors(self.card.deviation, *sigma)[2]);
                x.iter().map(move |v| (*v - mean) * scale)
            })
            .collect()
    }

    /// c_noise of each σ.
    pub fn noise(&self, sigmas: &[f64]) -> Vec<f64> {
        sigmas.iter().map(|sigma| factors(self.card.deviation, *sigma)[3]).collect()
    }

    /// What the network should give for a clean image and a noisy one: D is the clean image where F is this.
    pub fn targets(&self, clean: &[T], noisy: &[T], sigma: f64) -> Vec<T> {
        let [skip, out, ..] = factors(self.card.deviation, sigma);
        let (mean, skip, out) = (T::of(self.card.mean), T::of(skip), T::of(1.0 / out));
        clean.iter().zip(noisy).map(|(c, x)| (*c - mean - skip * (*x - mean)) * out).collect()
    }

    /// D of `[image, y, x]` images of `points`, all with noise σ.
    pub fn clean(&self, x: &[T], points: [usize; 2], sigma: f64) -> Vec<T> {
        let size = points[0] * points[1];
        let [skip, out, ..] = factors(self.card.deviation, sigma).map(T::of);
        let mean = T::of(self.card.mean);
        let some = |x: &[T]| -> Vec<T> {
            let sigmas = vec![sigma; x.len() / size];
            let noise = self.noise(&sigmas);
            let (tape, last) = self.network.forward(&self.parameters, points, self.inputs(x, &sigmas), &noise);
            x.iter().zip(tape.values(last)).map(|(x, f)| mean + skip * (*x - mean) + out * *f).collect()
        };
        x.par_chunks(TOGETHER * size).flat_map_iter(some).collect()
    }
}

impl Denoiser for Edm<f32> {
    fn denoise(&self, x: &[f32], points: [usize; 2], sigma: f64) -> Result<Vec<f32>> {
        Ok(self.clean(x, points, sigma))
    }
}

impl Learnt for Edm<f32> {
    fn multiple(&self) -> usize {
        self.card.network.multiple()
    }

    fn flops(&self, points: [usize; 2]) -> f64 {
        self.network.flops(points)
    }

    fn has_kernels(&self) -> bool {
        true
    }

    fn on(&self, device: &Device) -> Result<Option<Arc<dyn Denoiser>>> {
        if !device.is_gpu() {
            return Ok(None);
        }
        Ok(Some(Arc::new(DeviceEdm::new(device, self)?)))
    }

    fn memory(&self, threads: usize, points: [usize; 2]) -> u64 {
        let network = &self.card.network;
        let points = (points[0] * points[1]) as u64;
        let levels = network.channels.iter().enumerate();
        let inside: u64 =
            levels.map(|(level, c)| (points >> (2 * level + 2)) * *c as u64 * (16 * network.blocks as u64 + 8)).sum();
        4 * (self.parameters.len() as u64 + (threads * TOGETHER) as u64 * inside)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With what the targets say, D is the clean image; what the network is given and should give has variance one.
    #[test]
    fn factors_fit_each_other() {
        for sigma in [0.01, 0.3, 2.0, 40.0] {
            let [skip, out, scale, _] = factors(0.5, sigma);
            let (clean, noise) = (0.7f64, -1.3);
            let noisy = clean + sigma * noise;
            let card = Card {
                network: Shape { channels: vec![2], blocks: 1, groups: 1, embedding: 2 },
                mean: 0.2,
                deviation: 0.5,
                points: 4,
            };
            let edm = Edm::<f64>::new(card, Vec::new());
            let f = edm.targets(&[clean], &[noisy], sigma)[0];
            assert!((0.2 + skip * (noisy - 0.2) + out * f - clean).abs() < 1e-12);
            assert!((scale * scale * (0.25 + sigma * sigma) - 1.0).abs() < 1e-12);
            // Var of (c − skip (c + σ n))/out.
            let variance = ((1.0 - skip).powi(2) * 0.25 + (skip * sigma).powi(2)) / (out * out);
            assert!((variance - 1.0).abs() < 1e-12, "{sigma}: {variance}");
        }
    }
}
