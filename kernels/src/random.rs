//! Counter-based random numbers: a value is a function of (seed, stream, index), whoever asks, in any order.
//!
//! Philox4x32-10: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC11.

use std::f64::consts::{LN_2, PI, TAU};

/// A generator. `seed` is the run's, `stream` names the use (noise, start volume, step 17, …).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Philox {
    seed: u64,
    stream: u64,
}

const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
/// Seeds of the successive draws for one index differ by this odd number (2^64 / golden ratio).
const DRAW_STEP: u64 = 0x9E37_79B9_7F4A_7C15;

/// Ten rounds on `counter` under `key`.
fn philox4x32_10(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        // One by one: `map` of an array is a call.
        let (a, b) =
            (u64::from(MULTIPLIERS[0]) * u64::from(counter[0]), u64::from(MULTIPLIERS[1]) * u64::from(counter[2]));
        counter = [(b >> 32) as u32 ^ counter[1] ^ key[0], b as u32, (a >> 32) as u32 ^ counter[3] ^ key[1], a as u32];
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
    counter
}

/// 52 bits as a number in the open interval (0, 1), exactly symmetric about 1/2.
fn unit(high: u32, low: u32) -> f64 {
    let bits = (u64::from(high) << 32 | u64::from(low)) >> 12;
    (bits as f64 + 0.5) * (0.5f64).powi(52)
}

impl Philox {
    /// The generator of `stream` under `seed`.
    pub const fn new(seed: u64, stream: u64) -> Self {
        Self { seed, stream }
    }

    /// Draw number `draw` for `index`: 128 random bits.
    fn block(&self, index: u64, draw: u64) -> [u32; 4] {
        let key = self.seed.wrapping_add(draw.wrapping_mul(DRAW_STEP));
        let low_high = |v: u64| [v as u32, (v >> 32) as u32];
        let ([i0, i1], [s0, s1]) = (low_high(index), low_high(self.stream));
        philox4x32_10([i0, i1, s0, s1], low_high(key))
    }

    fn uniform_pair(&self, index: u64, draw: u64) -> [f64; 2] {
        let b = self.block(index, draw);
        [unit(b[0], b[1]), unit(b[2], b[3])]
    }

    /// 128 random bits.
    pub fn bits(&self, index: u64) -> [u32; 4] {
        self.block(index, 0)
    }

    /// Uniform in the open interval (0, 1).
    pub fn uniform(&self, index: u64) -> f64 {
        self.uniform_pair(index, 0)[0]
    }

    /// Two uniform numbers in the open interval (0, 1), all that one index has.
    pub fn uniforms(&self, index: u64) -> [f64; 2] {
        self.uniform_pair(index, 0)
    }

    /// Standard normal (Box–Muller), |value| < 8.6.
    pub fn normal(&self, index: u64) -> f64 {
        let [u, v] = self.uniform_pair(index, 0);
        (-2.0 * u.ln()).sqrt() * (TAU * v).cos()
    }

    /// Poisson count of mean `mean` (0 for a mean that is not positive). Inversion below 10, above it Hörmann's
    /// transformed rejection (PTRS, "The transformed rejection method for generating Poisson random variables",
    /// 1993) with the saddle-point form of the probability, which keeps its digits at any mean.
    pub fn poisson(&self, index: u64, mean: f64) -> u64 {
        if mean.is_nan() || mean <= 0.0 {
            0
        } else if mean < 10.0 {
            poisson_by_inversion(self.uniform(index), mean)
        } else {
            self.poisson_by_rejection(index, mean)
        }
    }

    fn poisson_by_rejection(&self, index: u64, mean: f64) -> u64 {
        let b = 0.931 + 2.53 * mean.sqrt();
        let a = -0.059 + 0.02483 * b;
        let inverse_alpha = 1.1239 + 1.1328 / (b - 3.4);
        let v_r = 0.9277 - 3.6224 / (b - 2.0);
        // Accepts with probability above 0.8 each time: 2^64 draws do not run out.
        for draw in 0.. {
            let [u, v] = self.uniform_pair(index, draw);
            let u = u - 0.5;
            let u_s = 0.5 - u.abs();
            let k = ((2.0 * a / u_s + b) * u + mean + 0.43).floor();
            if u_s >= 0.07 && v <= v_r {
                return k as u64;
            }
            if k < 0.0 || (u_s < 0.013 && v > u_s) {
                continue;
            }
            if (v * inverse_alpha / (a / (u_s * u_s) + b)).ln() <= ln_poisson(k, mean) {
                return k as u64;
            }
        }
        unreachable!("the loop has no end but a return")
    }
}

/// Smallest k with P(K <= k) >= u.
fn poisson_by_inversion(u: f64, mean: f64) -> u64 {
    let mut probability = (-mean).exp();
    let (mut k, mut cumulative) = (0u64, probability);
    // Beyond k = 200 nothing is left below the resolution of u at means under 10.
    while u > cumulative && k < 200 {
        k += 1;
        probability *= mean / k as f64;
        cumulative += probability;
    }
    k
}

/// ln(e^-mean mean^k / k!), by Loader's saddle-point expansion ("Fast and accurate computation of binomial
/// probabilities", 2000): -stirling_error(k) - deviance(k, mean) - ln(2 pi k) / 2.
fn ln_poisson(k: f64, mean: f64) -> f64 {
    if k == 0.0 {
        return -mean;
    }
    -stirling_error(k) - deviance(k, mean) - 0.5 * (2.0 * PI * k).ln()
}

/// ln k! - (ln(2 pi k) / 2 + k ln k - k)
fn stirling_error(k: f64) -> f64 {
    if k < 16.0 {
        let ln_factorial: f64 = (2..=k as u64).map(|i| (i as f64).ln()).sum();
        return ln_factorial - 0.5 * (2.0 * PI * k).ln() - k * k.ln() + k;
    }
    let r = 1.0 / (k * k);
    (1.0 / 12.0 - r * (1.0 / 360.0 - r * (1.0 / 1260.0 - r * (1.0 / 1680.0 - r / 1188.0)))) / k
}

/// k ln(k / mean) + mean - k, without cancellation where k is near the mean.
fn deviance(k: f64, mean: f64) -> f64 {
    let difference = k - mean;
    let x = difference / mean;
    if x.abs() > LN_2 / 4.0 {
        return k * (k / mean).ln() - difference;
    }
    // With x = (k - mean) / mean: mean ((1 + x) ln(1 + x) - x) = mean x^2 sum_{n>=0} (-x)^n / ((n+1)(n+2)).
    let (mut sum, mut power) = (0.0, 1.0);
    for n in 0..40 {
        let term = power / ((n + 1) as f64 * (n + 2) as f64);
        sum += term;
        power *= -x;
        if term.abs() < 1e-17 {
            break;
        }
    }
    mean * x * x * sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_answers_of_random123() {
        // philox4x32-10 vectors of Random123's kat_vectors.
        assert_eq!(philox4x32_10([0; 4], [0; 2]), [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
        assert_eq!(philox4x32_10([0xffffffff; 4], [0xffffffff; 2]), [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]);
        assert_eq!(
            philox4x32_10([0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344], [0xa4093822, 0x299f31d0]),
            [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1]
        );
        let philox = Philox::new(0x299f31d0_a4093822, 0x03707344_13198a2e);
        assert_eq!(philox.bits(0x85a308d3_243f6a88), [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1]);
    }

    #[test]
    fn uniform_stays_inside_the_open_interval() {
        assert!(unit(0, 0) > 0.0 && unit(u32::MAX, u32::MAX) < 1.0);
        assert_eq!(unit(0, 0), 1.0 - unit(u32::MAX, u32::MAX));
    }

    /// Mean and variance of n draws against theory, each within 4 standard errors (false alarm 6e-5 per test; the
    /// seeds are fixed, so it either always passes or never).
    fn check_moments(values: impl Iterator<Item = f64>, mean: f64, variance: f64, fourth_central: f64) {
        let (mut n, mut s1, mut s2) = (0.0, 0.0, 0.0);
        for v in values {
            n += 1.0;
            s1 += v - mean;
            s2 += (v - mean) * (v - mean);
        }
        let (z_mean, z_var) =
            (s1 / (n * variance).sqrt(), (s2 - n * variance) / (n * (fourth_central - variance * variance)).sqrt());
        assert!(z_mean.abs() < 4.0, "mean is {z_mean} standard errors off");
        assert!(z_var.abs() < 4.0, "variance is {z_var} standard errors off");
    }

    #[test]
    fn moments_of_uniform_normal_and_poisson_within_4_standard_errors() {
        let n = 200_000u64;
        let p = Philox::new(7, 11);
        check_moments((0..n).map(|i| p.uniform(i)), 0.5, 1.0 / 12.0, 1.0 / 80.0);
        check_moments((0..n).map(|i| p.normal(i)), 0.0, 1.0, 3.0);
        for m in [0.3, 3.0, 9.99, 10.0, 30.0, 1e3, 1e6, 1e10] {
            check_moments((0..n).map(|i| p.poisson(i, m) as f64), m, m, m + 3.0 * m * m);
        }
    }

    #[test]
    fn chi_square_of_poisson_counts_on_both_sides_of_the_switch_below_the_0_001_quantile() {
        let n = 200_000u64;
        for (stream, mean) in [(0, 6.5), (1, 12.0), (2, 40.0)] {
            let p = Philox::new(5, stream);
            let top = 200;
            let mut counts = vec![0.0; top];
            for i in 0..n {
                counts[(p.poisson(i, mean) as usize).min(top - 1)] += 1.0;
            }
            let (mut chi2, mut bins, mut rest_seen, mut rest_expected) = (0.0, 0.0, 0.0, 0.0);
            for (k, seen) in counts.iter().enumerate() {
                let expected = n as f64 * ln_poisson(k as f64, mean).exp();
                if expected < 20.0 {
                    rest_seen += seen;
                    rest_expected += expected;
                    continue;
                }
                chi2 += (seen - expected) * (seen - expected) / expected;
                bins += 1.0;
            }
            chi2 += (rest_seen - rest_expected) * (rest_seen - rest_expected) / rest_expected;
            // Wilson–Hilferty: the 0.999 quantile of chi-square with `bins` degrees of freedom.
            let c = 2.0 / (9.0 * bins);
            let quantile = bins * f64::powi(1.0 - c + 3.09 * f64::sqrt(c), 3);
            assert!(chi2 < quantile, "mean {mean}: chi-square {chi2} above {quantile}");
        }
    }

    #[test]
    fn neighbouring_indices_streams_and_seeds_are_uncorrelated() {
        let n = 100_000u64;
        let correlation = |a: Philox, b: Philox, lag: u64| {
            (0..n).map(|i| a.normal(i) * b.normal(i + lag)).sum::<f64>() / (n as f64).sqrt()
        };
        let p = Philox::new(1, 1);
        for z in [correlation(p, p, 1), correlation(p, Philox::new(1, 2), 0), correlation(p, Philox::new(2, 1), 0)] {
            assert!(z.abs() < 4.0, "{z} standard errors");
        }
    }

    #[test]
    fn poisson_of_no_mean_is_zero() {
        let p = Philox::new(1, 1);
        assert_eq!([p.poisson(0, 0.0), p.poisson(0, -1.0), p.poisson(0, f64::NAN)], [0; 3]);
    }

    #[test]
    fn ln_poisson_agrees_with_the_plain_formula_to_1e_12() {
        for (k, mean) in [(1.0, 0.5), (7.0, 12.0), (20.0, 18.0), (100.0, 90.0)] {
            let ln_factorial: f64 = (2..=k as u64).map(|i| (i as f64).ln()).sum();
            let plain = k * f64::ln(mean) - mean - ln_factorial;
            assert!((ln_poisson(k, mean) - plain).abs() < 1e-12 * plain.abs().max(1.0), "{k} {mean}");
        }
    }
}
