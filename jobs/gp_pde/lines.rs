//! Lines that lie between the frequencies of a prior: their places from the solution so far, by variable projection
//! (Golub and Pereyra 1973), so that the next prior has them where they are.
//!
//! Along an axis the field is a few columns Y (its left singular vectors times its singular values). They are fitted by
//! waves of frequencies μ, common to all columns, over a weak background of all frequencies; amplitudes are eliminated, μ
//! found by Gauss-Newton.

use std::f64::consts::TAU;

use convoke_cluster::{Comm, Result};
use faer::{Mat, Side};

use super::axis::Axis;
use super::features::Prior;
use super::field::Tensor;

/// Part of the largest singular value below which columns say nothing.
const COLUMNS: f64 = 1e-10;
/// Columns at most.
const MOST_COLUMNS: usize = 48;
/// Weight, relative to the heaviest line's, below which a peak is no line.
const LINE: f64 = 1e-8;
/// Candidates in a row that may be no lines before the search ends.
const VAIN: usize = 3;
/// Deviation of the background, relative to the heaviest line's.
const BACKGROUND: f64 = 1e-5;
/// Noise of a node's value for the fit: a part of the residual, but so much above rounding that this decides nothing.
const NOISE: (f64, f64) = (1e-2, 1e-10);
/// Gauss-Newton steps.
const STEPS: usize = 12;
/// A step moves a frequency by this part of a bin at most.
const LONGEST: f64 = 0.3;

/// The products of a field's lines along `axis`, summed over all of them: `n × n`. The field is whole along `axis`.
/// Collective.
///
/// # Errors
/// Where another rank fails.
pub fn gram(comm: &Comm, axis: usize, field: &mut Tensor) -> Result<Mat<f64>> {
    let n = field.shape[axis];
    let inner: usize = field.shape[axis + 1..].iter().product();
    let mut sum = Mat::<f64>::zeros(n, n);
    if inner > 0 {
        for slab in field.values.host().chunks_exact(n * inner) {
            let part = faer::MatRef::from_row_major_slice(slab, n, inner);
            sum += part * part.transpose();
        }
    }
    let mut values: Vec<f64> = (0..n * n).map(|k| sum[(k / n, k % n)]).collect();
    comm.all_sum(&mut values)?;
    Ok(Mat::from_fn(n, n, |i, j| values[i * n + j]))
}

/// A prior with lines where the field has them, over a weak background of the frequencies of `flat`; `None` where the
/// spectrum learned so far has no lines, or too many for the nodes. `residual` is that of the equation between the nodes.
/// The same on every rank.
pub fn refined(axis: &Axis, gram: &Mat<f64>, (learned, flat): (&Prior, &Prior), residual: f64) -> Option<Prior> {
    let n = axis.nodes.len();
    let bin = 1.0 / axis.length;
    let candidates = peaks(learned, bin);
    if axis.periodic || candidates.is_empty() {
        return None;
    }
    let fit = Fit::new(axis, gram, flat, (NOISE.0 * residual).max(NOISE.1))?;
    // The heaviest first; a further line has to take away half of what is left.
    let mut best: Option<(Vec<f64>, Projection)> = None;
    let mut vain = 0;
    for candidate in candidates {
        let mut mu = best.as_ref().map_or_else(Vec::new, |(mu, _)| mu.clone());
        if vain >= VAIN || 6 * (mu.len() + 1) > n {
            break;
        }
        mu.push(candidate);
        let Some((mu, now)) = fit.improved(mu, LONGEST * bin) else { continue };
        if best.as_ref().is_none_or(|(_, b)| now.size < 0.5 * b.size) {
            (best, vain) = (Some((mu, now)), 0);
        } else {
            vain += 1;
        }
    }
    let (mu, now) = best?;
    let energy = |j: usize| {
        let row = |i: usize| now.amplitudes.row(i).squared_norm_l2();
        (row(2 * j) + row(2 * j + 1)).sqrt()
    };
    let strengths: Vec<f64> = (0..mu.len()).map(energy).collect();
    let largest = strengths.iter().fold(f64::MIN_POSITIVE, |m, s| m.max(*s));
    let mut prior = flat.clone();
    prior.scales.iter_mut().for_each(|s| *s = BACKGROUND);
    prior.frequencies.extend(&mu);
    prior.scales.extend(strengths.iter().map(|s| (s / largest).max(BACKGROUND)));
    Some(prior)
}

/// Local maxima of a learned spectrum, heaviest first, `bin` apart at least: means of the frequencies around them.
fn peaks(learned: &Prior, bin: f64) -> Vec<f64> {
    let weight = |k: usize| learned.scales[k] * learned.scales[k];
    let mut order: Vec<usize> = (0..learned.scales.len()).filter(|k| learned.frequencies[*k] > 0.0).collect();
    order.sort_by(|a, b| weight(*b).total_cmp(&weight(*a)));
    let heaviest = order.first().map_or(0.0, |k| weight(*k));
    let mut found: Vec<f64> = Vec::new();
    for k in order.into_iter().take_while(|k| weight(*k) > LINE * heaviest) {
        let xi = learned.frequencies[k];
        if found.iter().any(|f| (f - xi).abs() < bin) {
            continue;
        }
        let around = (0..learned.scales.len()).filter(|j| (learned.frequencies[*j] - xi).abs() <= 0.75 * bin);
        let sums = around.fold((0.0, 0.0), |(w, m), j| (w + weight(j), m + weight(j) * learned.frequencies[j]));
        found.push(sums.1 / sums.0);
    }
    found
}

/// The fit of waves to columns, whitened by the background.
struct Fit {
    nodes: Vec<f64>,
    /// Lower triangular factor of the background's covariance.
    factor: Mat<f64>,
    /// Whitened columns.
    columns: Mat<f64>,
}

/// Amplitudes eliminated.
struct Projection {
    /// Orthonormal basis of the whitened waves.
    q: Mat<f64>,
    /// `waves × columns`
    amplitudes: Mat<f64>,
    /// What is left of the columns.
    residual: Mat<f64>,
    /// Its squared norm.
    size: f64,
}

impl Fit {
    fn new(axis: &Axis, gram: &Mat<f64>, flat: &Prior, noise: f64) -> Option<Self> {
        let n = gram.nrows();
        let eigen = gram.self_adjoint_eigen(Side::Lower).ok()?;
        let values: Vec<f64> = eigen.S().column_vector().iter().map(|v| v.max(0.0).sqrt()).collect();
        let largest = values.iter().fold(0.0f64, |m, v| m.max(*v));
        let mut kept: Vec<usize> = (0..n).filter(|j| values[*j] > COLUMNS * largest).collect();
        kept.sort_by(|a, b| values[*b].total_cmp(&values[*a]));
        kept.truncate(MOST_COLUMNS);
        let mut columns = Mat::from_fn(n, kept.len(), |i, j| eigen.U()[(i, kept[j])] * values[kept[j]] / largest);
        let phi = flat.features(&axis.nodes, 0);
        let scale = BACKGROUND * BACKGROUND / flat.n_features() as f64;
        let mut covariance = &phi * phi.transpose() * faer::Scale(scale);
        (0..n).for_each(|i| covariance[(i, i)] += noise * noise);
        let factor = covariance.llt(Side::Lower).ok()?.L().to_owned();
        factor.solve_lower_triangular_in_place(columns.as_mut());
        Some(Self { nodes: axis.nodes.clone(), factor, columns })
    }

    /// Cosine and sine of each frequency, or their derivatives with respect to it, whitened.
    fn waves(&self, mu: &[f64], derivative: bool) -> Mat<f64> {
        let mut waves = Mat::from_fn(self.nodes.len(), 2 * mu.len(), |i, j| {
            let x = self.nodes[i];
            let (sin, cos) = (TAU * mu[j / 2] * x).sin_cos();
            match (derivative, j % 2) {
                (false, 0) => cos,
                (false, _) => sin,
                (true, 0) => -TAU * x * sin,
                (true, _) => TAU * x * cos,
            }
        });
        self.factor.solve_lower_triangular_in_place(waves.as_mut());
        waves
    }

    /// Frequencies moved, by at most `limit` in a step, while what is left of the columns falls.
    fn improved(&self, mut mu: Vec<f64>, limit: f64) -> Option<(Vec<f64>, Projection)> {
        let mut now = self.project(&mu)?;
        for _ in 0..STEPS {
            let step = self.step(&mu, &now)?;
            let longest = step.iter().fold(0.0f64, |m, s| m.max(s.abs()));
            let part = (limit / longest).min(1.0);
            let trial: Vec<f64> = mu.iter().zip(&step).map(|(m, s)| m + part * s).collect();
            let next = self.project(&trial)?;
            if next.size > now.size {
                break;
            }
            (mu, now) = (trial, next);
            if longest < 1e-13 * mu.iter().fold(0.0f64, |m, v| m.max(v.abs())) {
                break;
            }
        }
        Some((mu, now))
    }

    fn project(&self, mu: &[f64]) -> Option<Projection> {
        let qr = self.waves(mu, false).qr();
        let q = qr.compute_thin_Q();
        let mut amplitudes = q.transpose() * &self.columns;
        let residual = &self.columns - &q * &amplitudes;
        qr.thin_R().solve_upper_triangular_in_place(amplitudes.as_mut());
        let size = residual.squared_norm_l2();
        size.is_finite().then_some(Projection { q, amplitudes, residual, size })
    }

    /// The Gauss-Newton step of the frequencies (Kaufman's form of the projection's derivative).
    fn step(&self, mu: &[f64], now: &Projection) -> Option<Vec<f64>> {
        let slopes = self.waves(mu, true);
        let m = mu.len();
        let directions: Vec<Mat<f64>> = (0..m)
            .map(|j| {
                let image = slopes.subcols(2 * j, 2) * now.amplitudes.subrows(2 * j, 2);
                &image - &now.q * (now.q.transpose() * &image)
            })
            .collect();
        let inner = |a: &Mat<f64>, b: &Mat<f64>| -> f64 {
            (0..a.ncols()).map(|j| (a.col(j).transpose() * b.col(j)).to_owned()).sum()
        };
        let normal = Mat::from_fn(m, m, |i, j| inner(&directions[i], &directions[j]));
        let right = Mat::from_fn(m, 1, |i, _| inner(&directions[i], &now.residual));
        let step = faer::linalg::solvers::Solve::solve(&normal.partial_piv_lu(), &right);
        step.is_all_finite().then(|| (0..m).map(|i| step[(i, 0)]).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two lines off every bin beside a smooth error of 1e-6, started up to half a bin away: found to a part of this error.
    #[test]
    fn lines_between_bins_are_found() {
        let (n, length) = (120, 3.0);
        let nodes: Vec<f64> = (0..n).map(|i| length * i as f64 / (n - 1) as f64).collect();
        let axis = Axis { nodes: nodes.clone(), length, periodic: false, conditions: Vec::new(), terms: Vec::new() };
        let truth = [6.171, 11.803];
        let columns = Mat::from_fn(n, 5, |i, j| {
            let wave = |k: usize| (TAU * truth[k] * nodes[i] + (j * (k + 2)) as f64).cos() * (1.0 + 0.3 * j as f64);
            wave(0) + 0.4 * wave(1) + 1e-6 * (TAU * (3.3 + j as f64) * nodes[i]).cos()
        });
        let gram = &columns * columns.transpose();
        let flat = Prior::flat(1.0 / (2.0 * length), 15.0);
        let mut learned = flat.clone();
        for (xi, s) in learned.frequencies.iter().zip(&mut learned.scales) {
            *s = if truth.iter().any(|t| (xi - t).abs() < 0.3 / length) { 1.0 } else { 1e-7 };
        }
        let prior = refined(&axis, &gram, (&learned, &flat), 1e-6).expect("there are lines");
        for truth in truth {
            let off = prior.frequencies[flat.frequencies.len()..].iter().map(|f| (f - truth).abs()).fold(9.0, f64::min);
            assert!(off < 3e-7, "{truth}: {off:e}");
        }
    }
}
