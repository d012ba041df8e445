//! Weighted subsampling of a frame by moving barriers (Batson, Spielman and Srivastava 2014; for least squares Bartel, Schäfer and
//! Ullrich 2023).
//!
//! Of rows v_i with Σ v vᵀ = I, n = d m are chosen one by one, A ← A + t v vᵀ, so that all eigenvalues of A stay above a lower barrier
//! and below an upper one, which both move up with each step. In the end λ_max/λ_min ≤ ((√d + 1)/(√d − 1))².

use faer::{Mat, MatRef, Par, Side};

use super::error::DesignError;
use super::qr::triangular;
use super::stream::Stream;

/// Candidates that are looked at together.
const CHUNK: usize = 64;

/// What was chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct Chosen {
    /// Numbers of the rows, in the order of their choice.
    pub rows: Vec<usize>,
    /// What each row's weight is multiplied by.
    pub factors: Vec<f64>,
    /// Whether each of them met the condition of the proof, so that the bound holds; a row is chosen once, which the proof does not
    /// ask for.
    pub bounded: bool,
}

/// λ_max/λ_min that the choice of `n` of m-dimensional rows has at most, relative to that of all rows.
pub fn bound(n: usize, m: usize) -> f64 {
    let root = (n as f64 / m as f64).sqrt();
    ((root + 1.0) / (root - 1.0)).powi(2)
}

/// Chooses `n` > m of the rows (N × m, N ≥ n, of full rank), looking through them in a random order.
///
/// # Errors
/// [`DesignError::SingularValues`] where eigenvalues do not converge.
pub fn subsample(rows: MatRef<'_, f64>, n: usize, stream: &Stream) -> Result<Chosen, DesignError> {
    let (all, m) = (rows.nrows(), rows.ncols());
    let r = triangular(rows.to_owned(), Par::Seq);
    // Columns v with Σ v vᵀ = I.
    let mut frame = rows.transpose().to_owned();
    faer::linalg::triangular_solve::solve_lower_triangular_in_place(r.transpose(), frame.as_mut(), Par::Seq);
    let mut order: Vec<usize> = (0..all).collect();
    order.sort_by(|a, b| stream.choices(*a as u64).0.total_cmp(&stream.choices(*b as u64).0));
    let root = (n as f64 / m as f64).sqrt();
    let (up, down) = ((root + 1.0) / (root - 1.0), 1.0);
    let mut upper = m as f64 * (n as f64 / m as f64 + root) / (root - 1.0);
    let mut lower = -(m as f64) * root;
    let mut a = Mat::<f64>::zeros(m, m);
    let mut chosen = Chosen { rows: Vec::with_capacity(n), factors: Vec::with_capacity(n), bounded: true };
    while chosen.rows.len() < n {
        let eigen = a.self_adjoint_eigen(Side::Lower).map_err(|_| DesignError::SingularValues)?;
        let values: Vec<f64> = eigen.S().column_vector().iter().copied().collect();
        let step = Step::new(&values, (lower, upper), (lower + down, upper + up));
        let mut best: Option<(usize, Limits)> = None;
        // 2 m² flops for each candidate, until one fits
        'search: for part in (0..order.len()).step_by(CHUNK) {
            let places = part..order.len().min(part + CHUNK);
            let vectors = Mat::from_fn(m, places.len(), |i, j| frame[(i, order[places.start + j])]);
            let turned = eigen.U().transpose() * &vectors;
            for (place, z) in places.zip(turned.col_iter()) {
                let limits = step.limits(z.iter().copied());
                if best.is_none_or(|(_, other)| limits.slack() > other.slack()) {
                    best = Some((place, limits));
                }
                if limits.slack() >= 0.0 {
                    break 'search;
                }
            }
        }
        let Some((place, limits)) = best else { break };
        chosen.bounded &= limits.slack() >= 0.0;
        let row = order.remove(place);
        let t = 2.0 / (limits.most + limits.least);
        let v = frame.col(row);
        a += v * v.transpose() * faer::Scale(t);
        chosen.rows.push(row);
        chosen.factors.push(t);
        (lower, upper) = (lower + down, upper + up);
    }
    Ok(chosen)
}

/// The barriers of a step.
struct Step<'a> {
    values: &'a [f64],
    lower: f64,
    upper: f64,
    /// By how much the potentials may rise.
    gain: f64,
    loss: f64,
}

/// 1/t lies between them.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// At least this, for the upper barrier.
    least: f64,
    /// At most this, for the lower one.
    most: f64,
}

impl Limits {
    fn slack(&self) -> f64 {
        self.most - self.least
    }
}

impl<'a> Step<'a> {
    fn new(values: &'a [f64], before: (f64, f64), (lower, upper): (f64, f64)) -> Self {
        let above = |u: f64| values.iter().map(|l| 1.0 / (u - l)).sum::<f64>();
        let below = |b: f64| values.iter().map(|l| 1.0 / (l - b)).sum::<f64>();
        Self { values, lower, upper, gain: above(before.1) - above(upper), loss: below(lower) - below(before.0) }
    }

    /// Of the candidate with coordinates `z` along the eigenvectors.
    fn limits(&self, z: impl Iterator<Item = f64>) -> Limits {
        let (mut u, mut l) = ([0.0; 2], [0.0; 2]);
        for (z, value) in z.zip(self.values) {
            let (above, below) = (1.0 / (self.upper - value), 1.0 / (value - self.lower));
            u[0] += z * z * above;
            u[1] += z * z * above * above;
            l[0] += z * z * below;
            l[1] += z * z * below * below;
        }
        Limits { least: u[1] / self.gain + u[0], most: l[1] / self.loss - l[0] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// λ_max/λ_min of the chosen rows, with their factors, in the frame in which all rows have Σ v vᵀ = I; from singular values.
    fn condition(rows: &Mat<f64>, chosen: &Chosen) -> f64 {
        let r = triangular(rows.clone(), Par::Seq);
        let mut part = Mat::from_fn(rows.ncols(), chosen.rows.len(), |i, j| rows[(chosen.rows[j], i)]);
        faer::linalg::triangular_solve::solve_lower_triangular_in_place(r.transpose(), part.as_mut(), Par::Seq);
        let scaled = Mat::from_fn(part.nrows(), part.ncols(), |i, j| part[(i, j)] * chosen.factors[j].sqrt());
        let values = scaled.singular_values().unwrap();
        let (least, most) = values.iter().fold((f64::INFINITY, 0f64), |(l, h), v| (l.min(*v), h.max(*v)));
        (most / least).powi(2)
    }

    /// The theorem's bound, for several sizes; rows that are chosen at random are far beyond it.
    #[test]
    fn eigenvalues_stay_within_the_bound() {
        let stream = Stream::new(9, 0, 0);
        let m = 12;
        // Rows of very different lengths, as features are.
        let rows = Mat::from_fn(600, m, |i, j| stream.normal((i * m + j) as u64) * (1.0 + (i % 50) as f64).powi(-1));
        for n in [15, 24, 48] {
            let chosen = subsample(rows.as_ref(), n, &stream).unwrap();
            assert_eq!(chosen.rows.len(), n);
            let mut sorted = chosen.rows.clone();
            sorted.sort_unstable();
            sorted.dedup();
            assert_eq!(sorted.len(), n, "a row is chosen once");
            let found = condition(&rows, &chosen);
            assert!(chosen.bounded && found <= bound(n, m) * (1.0 + 1e-9), "n = {n}: {found}, bound {}", bound(n, m));
            let random = Chosen { rows: (0..n).collect(), factors: vec![1.0; n], bounded: false };
            assert!(condition(&rows, &random) > found);
        }
    }
}
