//! What images are like, for those who reconstruct them: denoisers, learnt ones and exact ones.

pub mod edm;
pub mod foreign;
pub mod gaussian;
pub mod layers;
pub mod tape;
pub mod unet;
pub mod weights;

/// Expects clean images of noisy ones: D(x, σ) = E[x₀ | x = x₀ + σ n], n white of variance one. The score is (D(x, σ) − x)/σ².
pub trait Denoiser: std::fmt::Debug + Send + Sync {
    /// D of `[image, y, x]` images of `[h, w]` points each, all with noise σ.
    fn denoise(&self, x: &[f32], points: [usize; 2], sigma: f64) -> Vec<f32>;
}

/// A denoiser that was learnt: what its use costs.
pub trait Learnt: Denoiser {
    /// Points along an axis are a multiple of this.
    fn multiple(&self) -> usize;

    /// Multiplications and additions for one image of `[h, w]` points.
    fn flops(&self, points: [usize; 2]) -> f64;

    /// Bytes of its parameters, and of the values inside of it while so many threads work.
    fn memory(&self, threads: usize, points: [usize; 2]) -> u64;
}
