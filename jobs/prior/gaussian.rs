//! Denoisers in closed form: for tests of those who use denoisers, and for images that are no more than this.

use convoke_cluster::Result;

use super::Denoiser;

/// Points that are independent and normal, each with its own mean and variance: D = m + v (x − m)/(v + σ²).
#[derive(Debug, Clone)]
pub struct Gaussian {
    /// Means of an image's points.
    pub mean: Vec<f32>,
    /// Their variances.
    pub variance: Vec<f32>,
}

impl Denoiser for Gaussian {
    fn denoise(&self, x: &[f32], _: [usize; 2], sigma: f64) -> Result<Vec<f32>> {
        let law = || self.mean.iter().zip(&self.variance).cycle();
        let of = |(x, (m, v)): (&f32, (&f32, &f32))| {
            let (m, v) = (f64::from(*m), f64::from(*v));
            (m + v * (f64::from(*x) - m) / (v + sigma * sigma)) as f32
        };
        Ok(x.iter().zip(law()).map(of).collect())
    }
}

/// Whole images that are one of several, or near: a mixture of normal laws with one variance, equally likely.
#[derive(Debug, Clone)]
pub struct Mixture {
    /// Their means.
    pub images: Vec<Vec<f32>>,
    /// Variance of each point about them.
    pub variance: f64,
}

impl Denoiser for Mixture {
    fn denoise(&self, x: &[f32], [h, w]: [usize; 2], sigma: f64) -> Result<Vec<f32>> {
        let (size, all) = (h * w, self.variance + sigma * sigma);
        let keep = self.variance / all;
        let one = |x: &[f32]| -> Vec<f32> {
            let far = |image: &Vec<f32>| -> f64 { x.iter().zip(image).map(|(a, b)| f64::from(a - b).powi(2)).sum() };
            let exponents: Vec<f64> = self.images.iter().map(|image| -0.5 * far(image) / all).collect();
            let most = exponents.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let weights: Vec<f64> = exponents.iter().map(|e| (e - most).exp()).collect();
            let total: f64 = weights.iter().sum();
            (0..size)
                .map(|i| {
                    let mean: f64 =
                        weights.iter().zip(&self.images).map(|(w, image)| w / total * f64::from(image[i])).sum();
                    (mean + keep * (f64::from(x[i]) - mean)) as f32
                })
                .collect()
        };
        Ok(x.chunks(size).flat_map(one).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use convoke_kernels::Philox;

    /// Tweedie: D = x + σ² ∇ log p, p of one dimension by its formula.
    #[test]
    fn denoisers_are_those_of_their_densities() {
        let (sigma, h) = (0.7f64, 1e-4);
        let gaussian = Gaussian { mean: vec![0.4], variance: vec![0.3] };
        let mixture = Mixture { images: vec![vec![-1.0], vec![0.5], vec![2.0]], variance: 0.1 };
        let normal = |x: f64, m: f64, v: f64| (-0.5 * (x - m).powi(2) / v).exp() / v.sqrt();
        for i in 0..9 {
            let x = -2.0 + 0.5 * f64::from(i);
            let score = |log: &dyn Fn(f64) -> f64| (log(x + h) - log(x - h)) / (2.0 * h);
            let s2 = sigma * sigma;
            let alone = |x: f64| normal(x, 0.4, 0.3 + s2).ln();
            let mixed = |x: f64| [-1.0, 0.5, 2.0].iter().map(|m| normal(x, *m, 0.1 + s2)).sum::<f64>().ln();
            let check = |denoiser: &dyn Denoiser, log: &dyn Fn(f64) -> f64| {
                let found = denoiser.denoise(&[x as f32], [1, 1], sigma).expect("no device")[0];
                let found = f64::from(found);
                assert!((found - x - s2 * score(log)).abs() < 1e-5, "{x}: {found}");
            };
            check(&gaussian, &alone);
            check(&mixture, &mixed);
        }
    }

    /// E|D − x₀|² is the posterior variance v σ²/(v + σ²), to three of its own errors.
    #[test]
    fn the_error_of_the_exact_denoiser_is_the_posterior_variance() {
        let (v, sigma, n) = (0.3f64, 0.5f64, 20_000);
        let normal = |stream: u64, i: u64| Philox::new(2, stream).normal(i);
        let clean: Vec<f32> = (0..n).map(|i| (0.4 + v.sqrt() * normal(0, i)) as f32).collect();
        let noisy: Vec<f32> = clean.iter().zip(0..n).map(|(c, i)| c + (sigma * normal(1, i)) as f32).collect();
        let law = Gaussian { mean: vec![0.4], variance: vec![v as f32] };
        let found = law.denoise(&noisy, [1, 1], sigma).expect("no device");
        let error = found.iter().zip(&clean).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>() / n as f64;
        let due = v * sigma * sigma / (v + sigma * sigma);
        assert!((error / due - 1.0).abs() < 3.0 * (2.0 / n as f64).sqrt(), "{error} {due}");
    }
}
