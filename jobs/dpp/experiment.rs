//! How well designs do: errors of fits to functions whose best approximation is known.

use faer::Par;

use super::design::{Recipe, draw};
use super::error::DesignError;
use super::fit::fit;
use super::source::Universe;
use super::target::Target;

/// Figures of one design: ratio², ‖G − I‖, λ_min(G).
pub const FIGURES: usize = 3;
/// Cap of ratio², so that designs that are singular to rounding stay numbers.
pub const CAP: f64 = 1e30;
/// ‖G − I‖ above which a design counts as unstable.
pub const UNSTABLE: f64 = 0.9;

/// One replicate: `[recipe, figure]`. All recipes share the replicate's random numbers, so that they are compared in pairs.
///
/// ratio² = ‖f − f̂‖²/‖f − Pf‖² = 1 + |ĉ − c*|²/‖f − Pf‖² (Pythagoras).
///
/// # Errors
/// Of the designs.
pub fn replicate(
    from: &dyn Universe,
    target: &Target,
    recipes: &[Recipe],
    seed: u64,
    number: u64,
) -> Result<Vec<f64>, DesignError> {
    let mut row = Vec::with_capacity(recipes.len() * FIGURES);
    for recipe in recipes {
        let design = draw(from, recipe, None, (seed, number), Par::Seq)?;
        let values = target.values(&design.points, recipe.n);
        let ratio2 = match fit(design.rows.as_ref(), &design.weights, values.as_ref()) {
            Ok(fit) => {
                let found = fit.coefficients.col(0).iter().zip(&target.coefficients);
                1.0 + found.map(|(a, b)| (a - b).powi(2)).sum::<f64>() / target.residual2
            }
            // independent points may repeat each other to rounding
            Err(DesignError::RankDeficient { .. }) => CAP,
            Err(error) => return Err(error),
        };
        let ratio2 = if ratio2 < CAP { ratio2 } else { CAP };
        row.extend([ratio2, design.spectrum.distance(), design.spectrum.min]);
    }
    Ok(row)
}

/// Quantile of `sorted` values with linear interpolation between them.
pub fn quantile(sorted: &[f64], p: f64) -> f64 {
    let place = p * (sorted.len() - 1) as f64;
    let (low, part) = (place.floor() as usize, place.fract());
    let high = (low + 1).min(sorted.len() - 1);
    sorted[low] + part * (sorted[high] - sorted[low])
}

#[cfg(test)]
mod tests;
