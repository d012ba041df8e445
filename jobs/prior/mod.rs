//! What images are like, for those who reconstruct them: denoisers, learnt ones and exact ones.

pub mod edm;
pub mod foreign;
pub mod gaussian;
pub mod layers;
pub mod on_device;
pub mod tape;
pub mod unet;
pub mod weights;

use std::sync::Arc;

use convoke_cluster::Result;
use convoke_kernels::Device;

/// Expects clean images of noisy ones: D(x, σ) = E[x₀ | x = x₀ + σ n], n white of variance one. The score is (D(x, σ) − x)/σ².
pub trait Denoiser: std::fmt::Debug + Send + Sync {
    /// D of `[image, y, x]` images of `[h, w]` points each, all with noise σ.
    ///
    /// # Errors
    /// Of the device that it is on.
    fn denoise(&self, x: &[f32], points: [usize; 2], sigma: f64) -> Result<Vec<f32>>;
}

/// A denoiser that was learnt: what its use costs.
pub trait Learnt: Denoiser {
    /// Points along an axis are a multiple of this.
    fn multiple(&self) -> usize;

    /// Multiplications and additions for one image of `[h, w]` points.
    fn flops(&self, points: [usize; 2]) -> f64;

    /// Whether there are kernels for it.
    fn has_kernels(&self) -> bool {
        false
    }

    /// The same on a GPU, if there are kernels for it.
    ///
    /// # Errors
    /// Of the device.
    fn on(&self, _device: &Device) -> Result<Option<Arc<dyn Denoiser>>> {
        Ok(None)
    }

    /// Bytes of its parameters, and of the values inside of it while so many threads work.
    fn memory(&self, threads: usize, points: [usize; 2]) -> u64;
}
