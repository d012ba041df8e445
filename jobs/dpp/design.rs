//! Designs: where to evaluate a function for a weighted least-squares fit, and what is known of it.

use faer::{Mat, MatRef, Par};

use super::bss;
use super::error::DesignError;
use super::fit::Spectrum;
use super::greedy;
use super::sampler::Blocks;
use super::source::{Pick, Universe, scale_rows, squared_lengths};
use super::stream::Stream;

/// Redraws of a conditioned design, at most.
const MAX_ATTEMPTS: u64 = 1000;
/// Parts of an attempt, at most.
const PARTS: u64 = 1 << 20;

/// Laws of designs of n points.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Law {
    /// n independent points (Cohen and Migliorati 2017).
    Iid,
    /// m points of the projection determinantal point process.
    Dpp,
    /// Volume-rescaled: m points of the process and n − m independent ones (Derezinski, Warmuth and Hsu 2018).
    Volume,
    /// Independent repetitions of the process; the last one gives its first points only where m does not divide n.
    Repeated,
    /// Backward greedy A-optimal choice from `pool` repetitions.
    Greedy {
        /// Repetitions to choose from.
        pool: usize,
    },
    /// Weighted choice from `pool` repetitions by moving barriers.
    Bss {
        /// Repetitions to choose from.
        pool: usize,
    },
    /// The most stable of `tries` independent designs.
    Boosted {
        /// Designs to choose from.
        tries: usize,
    },
}

/// The measure of independent points.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// (‖φ‖²/m) μ; w = m/‖φ‖².
    Christoffel,
    /// Half of it and half of μ; 1/w = (1 + ‖φ‖²/m)/2, so that w ≤ 2.
    Mixture,
}

/// What to draw.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Recipe {
    /// The law.
    pub law: Law,
    /// Points n.
    pub n: usize,
    /// Measure of independent points.
    pub measure: Measure,
    /// δ: drawn again until λ_min(G) ≥ 1 − δ.
    pub delta: Option<f64>,
}

/// Points, weights and where they come from.
#[derive(Debug, Clone)]
pub struct Design {
    /// `[n, d]`.
    pub points: Vec<f64>,
    /// w, `[n]`.
    pub weights: Vec<f64>,
    /// W^{1/2} Φ of all points, those that were there before in front.
    pub rows: Mat<f64>,
    /// Part of the replica's random numbers that each point is from, `[n]`.
    pub parts: Vec<u64>,
    /// Its number in the stream of that part, `[n]`.
    pub indices: Vec<u64>,
    /// Eigenvalues of G of all points.
    pub spectrum: Spectrum,
    /// Designs drawn until one was stable.
    pub attempts: u64,
}

/// Where a point comes from: a part's stream, the number in it, and whether it is of the process.
#[derive(Debug, Clone, Copy)]
struct Origin {
    part: u64,
    t: u64,
    in_process: bool,
}

/// Draws the design of `replica` in the run of `seed`, beside `earlier` points that stay (their W^{1/2} Φ; for `greedy`).
///
/// # Errors
/// [`DesignError::NeverStable`] for a δ that no draw of a thousand meets; [`DesignError::Exhausted`].
pub fn draw(
    from: &dyn Universe,
    recipe: &Recipe,
    earlier: Option<MatRef<'_, f64>>,
    (seed, replica): (u64, u64),
    par: Par,
) -> Result<Design, DesignError> {
    let mut best = 0.0f64;
    for attempt in 0..MAX_ATTEMPTS {
        let mut design = Draw { from, recipe, earlier, seed, replica, par }.attempt(attempt * PARTS)?;
        design.attempts = attempt + 1;
        match recipe.delta {
            Some(delta) if design.spectrum.min < 1.0 - delta => best = best.max(design.spectrum.min),
            _ => return Ok(design),
        }
    }
    let bound = 1.0 - recipe.delta.unwrap_or(1.0);
    Err(DesignError::NeverStable { attempts: MAX_ATTEMPTS, bound, best })
}

/// What there is to know of points.
struct Rows {
    /// W^{1/2} Φ.
    rows: Mat<f64>,
    /// Coordinates, `[n, d]`.
    points: Vec<f64>,
    /// w, `[n]`.
    weights: Vec<f64>,
}

#[derive(Clone, Copy)]
struct Draw<'a> {
    from: &'a dyn Universe,
    recipe: &'a Recipe,
    earlier: Option<MatRef<'a, f64>>,
    seed: u64,
    replica: u64,
    par: Par,
}

impl Draw<'_> {
    /// One design from the parts that start at `part`.
    fn attempt(&self, part: u64) -> Result<Design, DesignError> {
        let (n, m) = (self.recipe.n, self.from.functions());
        match self.recipe.law {
            Law::Iid => self.finish(self.independent(part, n)),
            Law::Dpp => self.finish(self.process(part, m)?),
            Law::Volume => {
                let mut origins = self.process(part, m)?;
                origins.extend(self.independent(part + 1, n - m));
                self.finish(origins)
            }
            Law::Repeated => self.finish(self.repetitions(part, n)?),
            Law::Greedy { pool } => {
                let origins = self.repetitions(part, pool * m)?;
                let rows = self.beside(self.rows(&origins)?.rows);
                let stay = rows.nrows() - origins.len();
                let kept = greedy::thin(rows.as_ref(), stay + n, stay);
                self.finish(kept.into_iter().skip(stay).map(|i| origins[i - stay]).collect())
            }
            Law::Bss { pool } => {
                let origins = self.repetitions(part, pool * m)?;
                let order = Stream::new(self.seed, self.replica, part + pool as u64);
                let chosen = bss::subsample(self.rows(&origins)?.rows.as_ref(), n, &order)?;
                let mut design = self.finish(chosen.rows.iter().map(|i| origins[*i]).collect())?;
                design.reweigh(&chosen.factors, self.par)?;
                Ok(design)
            }
            Law::Boosted { tries } => {
                let mut best = self.finish(self.independent(part, n))?;
                for j in 1..tries as u64 {
                    let other = self.finish(self.independent(part + j, n))?;
                    if other.spectrum.distance() < best.spectrum.distance() {
                        best = other;
                    }
                }
                Ok(best)
            }
        }
    }

    fn independent(&self, part: u64, n: usize) -> Vec<Origin> {
        (0..n as u64).map(|t| Origin { part, t, in_process: false }).collect()
    }

    /// The first `n` points of a sample of the process; they come in exchangeable order.
    fn process(&self, part: u64, n: usize) -> Result<Vec<Origin>, DesignError> {
        let stream = Stream::new(self.seed, self.replica, part);
        let sample = self.from.sample(stream, Blocks::of(self.from.functions(), self.par))?;
        Ok(sample.accepted.into_iter().take(n).map(|t| Origin { part, t, in_process: true }).collect())
    }

    fn repetitions(&self, part: u64, n: usize) -> Result<Vec<Origin>, DesignError> {
        let m = self.from.functions();
        let mut origins = Vec::with_capacity(n);
        for (r, first) in (0..n).step_by(m).enumerate() {
            origins.extend(self.process(part + r as u64, m.min(n - first))?);
        }
        Ok(origins)
    }

    fn rows(&self, origins: &[Origin]) -> Result<Rows, DesignError> {
        let (n, m) = (origins.len(), self.from.functions());
        let pick = |origin: &Origin| {
            let (stream, t) = (Stream::new(self.seed, self.replica, origin.part), origin.t);
            let plain = self.recipe.measure == Measure::Mixture && !origin.in_process && stream.coin(t) < 0.5;
            Pick { stream, t, plain }
        };
        let picks: Vec<Pick> = origins.iter().map(pick).collect();
        let mut rows = Mat::zeros(n, m);
        let points = self.from.rows(&picks, rows.as_mut())?;
        // Rows of length 1, then of length √(w ‖φ‖²).
        let squares = squared_lengths(rows.as_ref());
        scale_rows(rows.as_mut(), &squares);
        let m = m as f64;
        let weight = |square: f64| match self.recipe.measure {
            Measure::Christoffel => m / square,
            Measure::Mixture => 2.0 / (1.0 + square / m),
        };
        let weights: Vec<f64> = squares.iter().map(|s| weight(*s)).collect();
        for column in rows.col_iter_mut() {
            let scales = weights.iter().zip(&squares);
            column.iter_mut().zip(scales).for_each(|(v, (w, s))| *v *= (w * s).sqrt());
        }
        Ok(Rows { rows, points, weights })
    }

    /// The rows below those of the points that stay.
    fn beside(&self, rows: Mat<f64>) -> Mat<f64> {
        let Some(earlier) = self.earlier else { return rows };
        let stay = earlier.nrows();
        Mat::from_fn(
            stay + rows.nrows(),
            rows.ncols(),
            |i, j| if i < stay { earlier[(i, j)] } else { rows[(i - stay, j)] },
        )
    }

    fn finish(&self, origins: Vec<Origin>) -> Result<Design, DesignError> {
        let Rows { rows, points, weights } = self.rows(&origins)?;
        let rows = self.beside(rows);
        let spectrum = Spectrum::of(rows.as_ref(), self.par)?;
        let (parts, indices) = origins.iter().map(|o| (o.part, o.t)).unzip();
        Ok(Design { points, weights, rows, parts, indices, spectrum, attempts: 1 })
    }
}

impl Design {
    /// Multiplies the weights by factors, and all of them by what makes the mean eigenvalue of G one.
    fn reweigh(&mut self, factors: &[f64], par: Par) -> Result<(), DesignError> {
        let rows = self.rows.row_iter().zip(factors);
        let trace: f64 = rows.map(|(row, factor)| factor * row.squared_norm_l2()).sum();
        let mean = trace / (self.rows.nrows() * self.rows.ncols()) as f64;
        for (i, factor) in factors.iter().map(|f| f / mean).enumerate() {
            self.weights[i] *= factor;
            self.rows.row_mut(i).iter_mut().for_each(|v| *v *= factor.sqrt());
        }
        self.spectrum = Spectrum::of(self.rows.as_ref(), par)?;
        Ok(())
    }
}

impl Recipe {
    /// What holds for the designs of this recipe, and what was given up for it.
    pub fn guarantees(&self, functions: usize) -> (String, String) {
        let m = functions;
        let mut holds: Vec<String> = Vec::new();
        let mut given_up: Vec<String> = Vec::new();
        match self.law {
            Law::Iid => {
                holds.push("independent points; G is near I with high probability once n is about m ln m".into());
                given_up.push("unbiasedness; a finite mean error for n <= m + 1".into());
            }
            Law::Dpp => holds.push(format!("unbiased fit; mean squared error {} times the best one, exactly", m + 1)),
            Law::Volume => holds.push(format!(
                "unbiased fit; mean squared error at most {} times the best one; E (A'A)^-1 = I/(n - m + 1)",
                m + 1
            )),
            Law::Repeated => {
                holds.push("every point has the Christoffel law; repetitions are independent".into());
                given_up.push("unbiasedness beyond the first repetition".into());
            }
            Law::Greedy { .. } => {
                holds.push("the error bound by lambda_min of this design".into());
                given_up.push("unbiasedness and the law of the points: they were selected".into());
            }
            Law::Bss { .. } => {
                let bound = bss::bound(self.n, m);
                holds.push(format!(
                    "the error bound by lambda_min; lambda_max/lambda_min at most {bound:.3} times that of the points chosen from"
                ));
                given_up.push(
                    "unbiasedness and the law of the points: they were selected, with weights of their own".into(),
                );
            }
            Law::Boosted { .. } => {
                holds.push("the error bound by lambda_min of this design".into());
                given_up.push("independence and the law of the points: the best of several designs".into());
            }
        }
        if let Some(delta) = self.delta {
            holds.push(format!("lambda_min(G) >= {}", 1.0 - delta));
            given_up.push("what held before the design was redrawn until it was stable, unbiasedness first".into());
        }
        (holds.join("; "), given_up.join("; "))
    }
}

#[cfg(test)]
mod tests;
