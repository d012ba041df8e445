//! Levels of noise, from the highest to the lowest.

use serde::{Deserialize, Serialize};

/// ρ of Karras et al. (2022): steps are short where noise is little.
const POWER: f64 = 7.0;

/// How levels lie between the highest and the lowest one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Spacing {
    /// Equal steps of σ^(1/7) (Karras et al. 2022).
    #[default]
    Karras,
    /// Equal steps of ln σ (Song et al. 2021).
    Geometric,
}

/// So many levels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Levels {
    /// How many.
    pub steps: u64,
    /// The lowest and the highest one, for values between 0 and 1.
    pub sigma: [f64; 2],
    /// Between them.
    pub spacing: Spacing,
}

impl Levels {
    /// Level `i`, from the highest on; 0 behind the last.
    pub fn at(&self, i: u64) -> f64 {
        if i >= self.steps {
            return 0.0;
        }
        let [low, high] = self.sigma;
        let part = i as f64 / (self.steps - 1).max(1) as f64;
        match self.spacing {
            Spacing::Karras => {
                let [low, high] = [low, high].map(|sigma| sigma.powf(1.0 / POWER));
                (high + part * (low - high)).powf(POWER)
            }
            Spacing::Geometric => high * (low / high).powf(part),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ends as given; equal ratios where geometric; the levels of Karras et al. (2022, equation 5) in between.
    #[test]
    fn levels_go_from_the_highest_to_the_lowest() {
        for spacing in [Spacing::Karras, Spacing::Geometric] {
            let levels = Levels { steps: 9, sigma: [0.02, 30.0], spacing };
            let all: Vec<f64> = (0..10).map(|i| levels.at(i)).collect();
            assert!((all[0] - 30.0).abs() < 1e-9 && (all[8] - 0.02).abs() < 1e-12 && all[9] == 0.0, "{all:?}");
            assert!(all.windows(2).all(|pair| pair[0] > pair[1]), "{all:?}");
            let middle = match spacing {
                Spacing::Geometric => (0.02f64 * 30.0).sqrt(),
                Spacing::Karras => (0.5 * (0.02f64.powf(1.0 / 7.0) + 30f64.powf(1.0 / 7.0))).powi(7),
            };
            assert!((all[4] / middle - 1.0).abs() < 1e-9, "{all:?}");
        }
    }
}
