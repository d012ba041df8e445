//! Replicate studies: the same experiment under many seeds, and what the sample says of its mean.
//!
//! Each run is named by (point, replicate) and its seed is a function of that name, so that no order of running, no number
//! of workers and no later replicate changes a row that is there already.

use convoke_kernels::Philox;
use serde::Serialize;
use statrs::distribution::{ContinuousCDF, StudentsT};

/// Stream of the seeds.
const SEEDS: u64 = 0x7377_6565_7073; // "sweeps"

/// The seed of a replicate of a point in the study of seed `study`: 63 bits, as the integers of a job file have.
pub fn seed(study: u64, point: u64, replicate: u32) -> u64 {
    // One generator for each point, so that any number of replicates has a place.
    let [a, b, ..] = Philox::new(study, SEEDS ^ point.rotate_left(20)).bits(u64::from(replicate));
    (u64::from(a) << 32 | u64::from(b)) >> 1
}

/// What a sample says of the mean.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// Size of the sample; values that are not finite are not counted.
    pub n: usize,
    /// Its mean.
    pub mean: f64,
    /// Its standard deviation, with n − 1.
    pub deviation: f64,
    /// Ends of the confidence interval of the mean; NaN for fewer than two values.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

/// Mean and its confidence interval at `level` (such as 0.95), by Student's t: exact for normal values.
pub fn estimate(values: &[f64], level: f64) -> Estimate {
    let finite: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).collect();
    let n = finite.len();
    let mean = finite.iter().sum::<f64>() / n as f64;
    if n < 2 {
        return Estimate { n, mean, deviation: f64::NAN, low: f64::NAN, high: f64::NAN };
    }
    let deviation = (finite.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1) as f64).sqrt();
    let t = StudentsT::new(0.0, 1.0, (n - 1) as f64).map_or(f64::NAN, |law| law.inverse_cdf(0.5 + level / 2.0));
    let half = t * deviation / (n as f64).sqrt();
    Estimate { n, mean, deviation, low: mean - half, high: mean + half }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_those_of_the_table() {
        // Quantiles 0.975 of Student's t in any printed table: 12.706, 4.303, 2.262, 1.984 for 1, 2, 9, 99 degrees.
        for (n, t) in [(2, 12.706), (3, 4.303), (10, 2.262), (100, 1.984)] {
            let values: Vec<f64> = (0..n).map(f64::from).collect();
            let e = estimate(&values, 0.95);
            let found = (e.high - e.mean) / (e.deviation / f64::from(n).sqrt());
            assert!((found - t).abs() < 6e-4, "{n}: {found}");
        }
        assert!(estimate(&[1.0, f64::NAN], 0.95).low.is_nan());
    }

    /// A 95 % interval holds the truth in 95 % of studies, here of 5 normal values each.
    #[test]
    fn intervals_cover_as_often_as_they_say() {
        let studies = 4000;
        let covers = |study: u64| {
            let values: Vec<f64> = (0..5).map(|r| 3.0 + Philox::new(seed(9, study, r), 1).normal(0)).collect();
            let e = estimate(&values, 0.95);
            e.low < 3.0 && 3.0 < e.high
        };
        let covered = (0..studies).filter(|s| covers(*s)).count() as f64;
        // Five standard deviations of a binomial count.
        let (expected, spread) = (0.95 * studies as f64, (studies as f64 * 0.95 * 0.05).sqrt());
        assert!((covered - expected).abs() < 5.0 * spread, "{covered} of {studies}");
    }

    #[test]
    fn seeds_differ_and_fit_into_a_job_file() {
        let seeds: std::collections::HashSet<u64> =
            (0..200).flat_map(|p| (0..50).map(move |r| seed(1, p, r))).collect();
        assert_eq!(seeds.len(), 10_000);
        assert!(seeds.iter().all(|s| i64::try_from(*s).is_ok()));
        assert_ne!(seed(1, 2, 3), seed(2, 2, 3));
    }
}
