//! The weight of the variation, chosen by the data.
//!
//! Discrepancy: the residual of the image is as large as the noise (Morozov 1966). L-curve (Hansen, SIAM Review 34 (1992) 561): the corner of TV
//! over ‖A x − y‖². This curve is convex, and its corner is what lies furthest below the chord between its ends (Castellanos et al., Appl. Numer. Math.
//! 43 (2002) 359 take triangles); in logarithms, as it is drawn for quadratic penalties, that of total variation is almost straight.
//! Each weight starts from the image of the one before.

use super::spec::Choice;

/// Weights that are tried, at most.
pub const CANDIDATES: u64 = 10;
/// Ratio of neighbouring weights of the L-curve, and of the first two that look for a bracket of the discrepancy.
const RATIO: f64 = 2.5;
const STRIDE: f64 = 4.0;
/// First weights, as parts of the root mean square of an image that explains the data.
const FIRST_OF_CURVE: f64 = 1.0;
const FIRST_OF_DISCREPANCY: f64 = 4e-3;
/// The discrepancy is met where the residual's norm is as near to the noise's.
const NEAR: f64 = 0.005;

/// A search under way: what was tried and what came of it.
#[derive(Debug, Clone, Default)]
pub(super) struct Search {
    pub weights: Vec<f64>,
    /// Squared norms of the residuals.
    pub residuals2: Vec<f64>,
    pub variations: Vec<f64>,
}

impl Search {
    /// The weight to begin with; `unit` is the root mean square of an image that explains the data.
    pub fn first(choice: Choice, unit: f64) -> f64 {
        unit * if choice == Choice::LCurve { FIRST_OF_CURVE } else { FIRST_OF_DISCREPANCY }
    }

    /// The next weight, if one is wanted. `target2` is the squared norm of the noise.
    pub fn next(&self, choice: Choice, target2: f64) -> Option<f64> {
        match choice {
            Choice::LCurve => self.along_the_curve(),
            Choice::Discrepancy => self.towards(target2),
        }
    }

    fn along_the_curve(&self) -> Option<f64> {
        let (n, last) = (self.weights.len() as u64, *self.weights.last()?);
        if n + 1 < CANDIDATES {
            return Some(last / RATIO);
        }
        // All are tried, or the corner has been visited again.
        (n + 1 == CANDIDATES).then(|| self.corner()).flatten()
    }

    /// The weight at the point furthest below the chord between the curve's ends.
    fn corner(&self) -> Option<f64> {
        let ends =
            |of: &[f64]| (of.iter().copied().fold(f64::MAX, f64::min), of.iter().copied().fold(f64::MIN, f64::max));
        let (x, y) = (ends(&self.residuals2), ends(&self.variations));
        let part = |value: f64, (low, high): (f64, f64)| (value - low) / (high - low).max(f64::MIN_POSITIVE);
        let sum = |i: &usize| part(self.residuals2[*i], x) + part(self.variations[*i], y);
        let best = (0..self.weights.len()).min_by(|i, j| sum(i).total_cmp(&sum(j)))?;
        Some(self.weights[best])
    }

    /// By the secant of the logarithms between the nearest weights with a smaller and a larger residual; until there are both, by strides.
    fn towards(&self, target2: f64) -> Option<f64> {
        let last = self.weights.len().checked_sub(1)?;
        let off = |i: usize| 0.5 * (self.residuals2[i].max(1e-300) / target2).ln();
        if off(last).abs() < NEAR || self.weights.len() as u64 >= CANDIDATES {
            return None;
        }
        let all = 0..self.weights.len();
        let below = all.clone().filter(|i| off(*i) < 0.0).max_by(|i, j| self.weights[*i].total_cmp(&self.weights[*j]));
        let above = all.filter(|i| off(*i) >= 0.0).min_by(|i, j| self.weights[*i].total_cmp(&self.weights[*j]));
        // Longer and longer strides: four decades off are four of them.
        let stride = STRIDE.powi(self.weights.len() as i32);
        match (below, above) {
            (Some(i), None) => Some(self.weights[i] * stride),
            (None, Some(j)) => Some(self.weights[j] / stride),
            (Some(i), Some(j)) => {
                let (a, b) = (self.weights[i].ln(), self.weights[j].ln());
                // Not too near to either end: one of them would stay for ever.
                let part = (-off(i) / (off(j) - off(i))).clamp(0.1, 0.9);
                Some((a + part * (b - a)).exp())
            }
            (None, None) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Residuals and variations as they follow from the weights.
    fn run(choice: Choice, unit: f64, target2: f64, of: impl Fn(f64) -> [f64; 2]) -> Vec<f64> {
        let mut search = Search::default();
        let mut weight = Some(Search::first(choice, unit));
        while let Some(w) = weight {
            let [residual2, variation] = of(w);
            search.weights.push(w);
            search.residuals2.push(residual2);
            search.variations.push(variation);
            weight = search.next(choice, target2);
        }
        search.weights
    }

    /// A residual that rises as a power of the weight over a floor: found to the tolerance from far off on either side.
    #[test]
    fn the_discrepancy_is_met_from_either_side() {
        for unit in [1e-3, 1.0, 100.0] {
            let residual2 = |w: f64| 1.0 + (30.0 * w).powf(1.3);
            let weights = run(Choice::Discrepancy, unit, 2.0, |w| [residual2(w), 1.0]);
            let last = weights[weights.len() - 1];
            assert!((residual2(last) / 2.0).sqrt().ln().abs() < NEAR, "{unit}: {weights:?}");
            assert!(weights.len() as u64 <= CANDIDATES);
        }
    }

    /// A hyperbola: the point in the middle of its ends, tried again as the last one.
    #[test]
    fn the_corner_of_a_hyperbola_is_its_middle() {
        let middle = FIRST_OF_CURVE / RATIO.powi((CANDIDATES as i32 - 2) / 2);
        let weights = run(Choice::LCurve, 1.0, 0.0, |w| [w / middle, middle / w]);
        assert_eq!(weights.len() as u64, CANDIDATES);
        assert!((weights[weights.len() - 1] / middle - 1.0).abs() < 1e-9, "{weights:?}");
    }
}
