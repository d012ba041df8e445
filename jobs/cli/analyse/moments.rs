//! Statistics of an array, from pieces that merge.

use serde::Serialize;

/// Moments and extremes of the finite values.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Stats {
    /// Elements.
    pub count: u64,
    /// Of them, not a number.
    pub nan: u64,
    /// Of them, infinite.
    pub infinite: u64,
    /// Smallest; NaN if no value is finite, as for all that follow.
    pub min: f64,
    /// Largest.
    pub max: f64,
    /// Mean.
    pub mean: f64,
    /// Standard deviation (divisor n).
    pub std: f64,
}

/// Moments that merge (T. F. Chan et al., 1979); partial results join in a fixed order.
#[derive(Debug, Clone, Copy)]
pub struct Moments {
    n: u64,
    nan: u64,
    infinite: u64,
    min: f64,
    max: f64,
    mean: f64,
    m2: f64,
}

impl Moments {
    /// Of no value.
    pub const NONE: Self =
        Self { n: 0, nan: 0, infinite: 0, min: f64::INFINITY, max: f64::NEG_INFINITY, mean: 0.0, m2: 0.0 };

    /// Of some values.
    pub fn of(values: &[f64]) -> Self {
        let mut all = Self::NONE;
        let mut sum = 0.0;
        for &v in values {
            if v.is_finite() {
                all.n += 1;
                all.min = all.min.min(v);
                all.max = all.max.max(v);
                sum += v;
            } else if v.is_nan() {
                all.nan += 1;
            } else {
                all.infinite += 1;
            }
        }
        all.mean = sum / (all.n.max(1) as f64);
        all.m2 = values.iter().filter(|v| v.is_finite()).map(|v| (v - all.mean) * (v - all.mean)).sum();
        all
    }

    /// Of both together.
    pub fn merge(self, other: Self) -> Self {
        let n = self.n + other.n;
        let (a, b, delta) = (self.n as f64, other.n as f64, other.mean - self.mean);
        let total = n.max(1) as f64;
        Self {
            n,
            nan: self.nan + other.nan,
            infinite: self.infinite + other.infinite,
            min: self.min.min(other.min),
            max: self.max.max(other.max),
            mean: self.mean + delta * b / total,
            m2: self.m2 + other.m2 + delta * delta * a * b / total,
        }
    }

    /// What is shown of them.
    pub fn stats(self) -> Stats {
        let finite = |v: f64| if self.n == 0 { f64::NAN } else { v };
        Stats {
            count: self.n + self.nan + self.infinite,
            nan: self.nan,
            infinite: self.infinite,
            min: finite(self.min),
            max: finite(self.max),
            mean: finite(self.mean),
            std: finite((self.m2 / self.n.max(1) as f64).sqrt()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_merge_to_those_of_the_whole() {
        let values: Vec<f64> = (0..1000).map(|i| 1e6 + f64::from(i % 7)).chain([f64::NAN, f64::INFINITY]).collect();
        let whole = Moments::of(&values).stats();
        let parts = values.chunks(13).map(Moments::of).fold(Moments::NONE, Moments::merge).stats();
        assert!((whole.std - parts.std).abs() < 1e-9 && (whole.mean - parts.mean).abs() < 1e-6);
        assert_eq!((parts.count, parts.nan, parts.infinite, parts.max), (1002, 1, 1, 1e6 + 6.0));
    }
}
