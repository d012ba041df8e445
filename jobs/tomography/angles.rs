//! Rotation angles: sanity, quadrature weights, and their split into groups and subsets.

use std::f64::consts::{PI, TAU};

use super::spec::AngleUnit;

/// What is wrong with a scan's angles.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum AngleError {
    /// Degrees read as radians.
    #[error(
        "theta spans {span:.1} radians, which is {turns:.0} turns; expected at most 4 turns. Are these degrees? Set angle_unit = \"degrees\" in [problem.scan]"
    )]
    LooksLikeDegrees {
        /// Largest minus smallest angle.
        span: f64,
        /// The same in turns.
        turns: f64,
    },
    /// Radians read as degrees.
    #[error(
        "theta spans {span:.4} degrees for {count} projections. Are these radians? Set angle_unit = \"radians\" (or \"degrees\" if it is right) in [problem.scan]"
    )]
    LooksLikeRadians {
        /// Largest minus smallest angle.
        span: f64,
        /// Number of projections.
        count: usize,
    },
}

/// The angles in radians, if their span makes sense for the unit.
///
/// # Errors
/// Degrees declared as radians, or radians where nothing was declared.
pub fn to_radians(theta: &[f64], unit: AngleUnit, declared: bool) -> Result<Vec<f64>, AngleError> {
    let largest = theta.iter().fold(f64::NEG_INFINITY, |a, b| a.max(*b));
    let smallest = theta.iter().fold(f64::INFINITY, |a, b| a.min(*b));
    let span = largest - smallest;
    match unit {
        AngleUnit::Radians if span > 4.0 * TAU => Err(AngleError::LooksLikeDegrees { span, turns: span / TAU }),
        AngleUnit::Degrees if !declared && theta.len() > 8 && span < 1.01 * TAU => {
            Err(AngleError::LooksLikeRadians { span, count: theta.len() })
        }
        AngleUnit::Radians => Ok(theta.to_vec()),
        AngleUnit::Degrees => Ok(theta.iter().map(|t| t.to_radians()).collect()),
    }
}

/// The quadrature weight of every projection in `∫_0^π dθ`: half the distance between its
/// neighbours modulo π, in any order, on any range. Uniform angles give `π / n`.
///
/// A gap more than four times the median is a missing wedge, not a wide step: it is not filled
/// with the projections at its edge.
pub fn weights(angles_rad: &[f64]) -> Vec<f64> {
    let n = angles_rad.len();
    let folded: Vec<f64> = angles_rad.iter().map(|a| fold(*a)).collect();
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|a, b| folded[*a].total_cmp(&folded[*b]));
    // gap[k] lies between order[k] and its successor, the last one across π
    let mut gaps: Vec<f64> =
        (0..n)
            .map(|k| {
                if k + 1 < n {
                    folded[order[k + 1]] - folded[order[k]]
                } else {
                    folded[order[0]] + PI - folded[order[k]]
                }
            })
            .collect();
    let mut sorted: Vec<f64> = gaps.iter().copied().filter(|g| *g > 1e-9).collect();
    sorted.sort_by(f64::total_cmp);
    let limit = sorted.get(sorted.len() / 2).map_or(PI, |median| 4.0 * median);
    gaps.iter_mut().filter(|gap| **gap > limit).for_each(|gap| *gap = limit);
    let mut weights = vec![0.0; n];
    for k in 0..n {
        weights[order[k]] = 0.5 * (gaps[k] + gaps[(k + n - 1) % n]);
    }
    weights
}

/// An angle modulo π, with rounding just below π taken as 0.
pub(super) fn fold(angle: f64) -> f64 {
    let folded = angle.rem_euclid(PI);
    if PI - folded < 1e-9 { 0.0 } else { folded }
}

/// Degrees of `∫_0^π` that the weights leave out: the missing wedge.
pub fn missing_degrees(weights: &[f64]) -> f64 {
    (PI - weights.iter().sum::<f64>()).max(0.0).to_degrees()
}

/// A gap is a wedge where it is so many times as wide as the others in the mean, and by so much wider.
const WEDGE_TIMES: f64 = 4.0;
const WEDGE_RAD: f64 = PI / 6.0;

/// Degrees of the widest gap between the angles modulo π, where it is far above the others: a wedge that is missing.
pub fn wedge_degrees(angles_rad: &[f64]) -> Option<f64> {
    let mut folded: Vec<f64> = angles_rad.iter().map(|a| fold(*a)).collect();
    folded.sort_by(f64::total_cmp);
    let across = folded.first()? + PI - folded.last()?;
    let widest = folded.windows(2).map(|pair| pair[1] - pair[0]).fold(across, f64::max);
    let mean = (PI - widest) / (folded.len() - 1).max(1) as f64;
    (widest > WEDGE_TIMES * mean && widest > mean + WEDGE_RAD).then(|| widest.to_degrees())
}

/// The order in which subsets are visited: van der Corput's, so that neighbours in time are far
/// apart in angle.
pub fn subset_order(n: usize) -> Vec<usize> {
    let bits = n.next_power_of_two().trailing_zeros();
    (0..n.next_power_of_two())
        .map(|i| if bits == 0 { 0 } else { i.reverse_bits() >> (usize::BITS - bits) })
        .filter(|i| *i < n)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-12
    }

    #[test]
    fn uniform_angles_weigh_pi_over_n_on_a_half_and_on_a_full_turn() {
        for (n, arc) in [(180, PI), (181, PI), (90, TAU), (91, TAU)] {
            let angles: Vec<f64> = (0..n).map(|i| arc * f64::from(i) / f64::from(n)).collect();
            let weights = weights(&angles);
            assert!(close(weights.iter().sum(), PI), "{n} over {arc}");
            assert!(weights.iter().all(|w| (w - PI / f64::from(n)).abs() < 1e-9), "{n} over {arc}: {weights:?}");
        }
    }

    #[test]
    fn a_repeated_end_point_shares_its_weight() {
        let angles: Vec<f64> = (0..=180).map(|i| f64::from(i).to_radians()).collect();
        let weights = weights(&angles);
        assert!(close(weights.iter().sum(), PI));
        assert!(close(weights[0] + weights[180], PI / 180.0));
    }

    #[test]
    fn any_order_and_spacing_integrates_smooth_functions() {
        let mut angles: Vec<f64> = (0..400).map(|i| PI * ((f64::from(i) * 0.618_033_988_75) % 1.0)).collect();
        angles.swap(3, 77);
        let sum: f64 = weights(&angles).iter().zip(&angles).map(|(w, a)| w * (2.0 * a).cos().powi(2)).sum();
        assert!((sum - PI / 2.0).abs() < 1e-3, "{sum}");
    }

    #[test]
    fn a_missing_wedge_is_not_filled() {
        let angles: Vec<f64> = (0..90).map(|i| f64::from(i).to_radians()).collect();
        assert!((missing_degrees(&weights(&angles)) - 87.0).abs() < 2.0);
    }

    /// Neither few views nor repeated, random or golden angles make a wedge; a range that ends early does, wherever it begins.
    #[test]
    fn a_wedge_is_a_gap_far_above_the_others() {
        let spread = |n: usize, arc: f64, from: f64| -> Vec<f64> {
            (0..n).map(|i| (from + arc * i as f64 / n as f64).to_radians()).collect()
        };
        for (n, arc) in [(2, 180.0), (4, 180.0), (8, 360.0), (9, 360.0), (180, 180.0), (45, 170.0)] {
            assert_eq!(wedge_degrees(&spread(n, arc, 3.0)), None, "{n} over {arc}");
        }
        let golden: Vec<f64> = (0..34).map(|i| PI * ((f64::from(i) * 0.618_033_988_75) % 1.0)).collect();
        assert_eq!(wedge_degrees(&golden), None);
        for (n, arc, from) in [(45, 90.0, 0.0), (45, 90.0, 120.0), (8, 90.0, 200.0), (100, 120.0, -30.0)] {
            let gap = 180.0 - arc * (n - 1) as f64 / n as f64;
            let found = wedge_degrees(&spread(n, arc, from)).expect("a wedge");
            assert!((found - gap).abs() < 1e-9, "{n} over {arc} from {from}: {found} of {gap}");
        }
        assert_eq!(wedge_degrees(&[]), None);
    }

    #[test]
    fn units_are_checked() {
        let degrees: Vec<f64> = (0..180).map(f64::from).collect();
        assert!(matches!(to_radians(&degrees, AngleUnit::Radians, true), Err(AngleError::LooksLikeDegrees { .. })));
        let radians: Vec<f64> = degrees.iter().map(|d| d.to_radians()).collect();
        assert!(matches!(to_radians(&radians, AngleUnit::Degrees, false), Err(AngleError::LooksLikeRadians { .. })));
        assert!(to_radians(&radians, AngleUnit::Degrees, true).is_ok());
        assert!(close(to_radians(&degrees, AngleUnit::Degrees, false).expect("degrees")[90], PI / 2.0));
    }

    #[test]
    fn subsets_are_visited_once_and_far_apart() {
        assert_eq!(subset_order(8), [0, 4, 2, 6, 1, 5, 3, 7]);
        for n in 1..40 {
            let mut order = subset_order(n);
            order.sort_unstable();
            assert_eq!(order, (0..n).collect::<Vec<_>>());
        }
    }
}
