//! Thinning by backward greedy selection for A-optimality: the point whose loss raises trace((AᵀA)⁻¹) least goes first.

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatRef, Par};

use super::qr::triangular;

/// 1 − leverage below which a point cannot be spared.
const NEEDED: f64 = 1e-10;

/// The `n` rows of `a` (N × m, of full rank, N ≥ n ≥ m) that remain, rising; the first `stay` are among them.
///
/// Scores are kept up to date: with H = (AᵀA)⁻¹, b = H a_j and d = 1 − a_jᵀ b of the point j that goes, p = A b and q = A H b
/// change c_i = a_iᵀ H² a_i by 2 p_i q_i/d + p_i² |b|²/d² and ℓ_i = a_iᵀ H a_i by p_i²/d; the loss of i costs c_i/(1 − ℓ_i).
pub fn thin(a: MatRef<'_, f64>, n: usize, stay: usize) -> Vec<usize> {
    let (total, m) = (a.nrows(), a.ncols());
    let r_inverse = {
        let mut inverse = Mat::<f64>::identity(m, m);
        faer::linalg::triangular_solve::solve_upper_triangular_in_place(
            triangular(a.to_owned(), Par::Seq).as_ref(),
            inverse.as_mut(),
            Par::Seq,
        );
        inverse
    };
    let mut h = &r_inverse * r_inverse.transpose();
    let columns = a.transpose().to_owned();
    let ah = a * &h;
    let mut c: Vec<f64> = (0..total).map(|i| ah.row(i).squared_norm_l2()).collect();
    let mut l: Vec<f64> = (0..total).map(|i| ah.row(i) * columns.col(i)).collect();
    let mut kept: Vec<usize> = (0..total).collect();
    let (mut directions, mut changes) = (Mat::zeros(m, 2), Mat::zeros(total, 2));
    while kept.len() > n {
        let score = |i: usize| if 1.0 - l[i] > NEEDED { c[i] / (1.0 - l[i]) } else { f64::INFINITY };
        let mut least = (f64::INFINITY, stay);
        for (place, i) in kept.iter().enumerate().skip(stay) {
            if score(*i) < least.0 {
                least = (score(*i), place);
            }
        }
        let j = kept.remove(least.1);
        let b = &h * columns.col(j);
        let hb = &h * &b;
        let d = 1.0 - columns.col(j).transpose() * &b;
        directions.col_mut(0).copy_from(&b);
        directions.col_mut(1).copy_from(&hb);
        // 4 m flops and 8 m bytes for each point
        matmul(changes.as_mut(), Accum::Replace, a, &directions, 1.0, Par::Seq);
        let b2 = b.squared_norm_l2();
        for i in &kept {
            let (p, q) = (changes[(*i, 0)], changes[(*i, 1)]);
            c[*i] += 2.0 * p * q / d + p * p * b2 / (d * d);
            l[*i] += p * p / d;
        }
        matmul(h.as_mut(), Accum::Add, b.as_mat(), b.transpose().as_mat(), 1.0 / d, Par::Seq);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dpp::stream::Stream;

    /// trace((AᵀA)⁻¹) of the rows `kept`, from singular values.
    fn trace(a: &Mat<f64>, kept: &[usize]) -> f64 {
        let part = Mat::from_fn(kept.len(), a.ncols(), |i, j| a[(kept[i], j)]);
        part.singular_values().unwrap().iter().map(|s| 1.0 / (s * s)).sum()
    }

    #[test]
    fn incremental_scores_choose_as_direct_ones() {
        for (seed, stay) in [(0, 0), (1, 0), (2, 5)] {
            let stream = Stream::new(seed, 0, 0);
            let a = Mat::from_fn(40, 6, |i, j| stream.normal((6 * i + j) as u64));
            let mut kept: Vec<usize> = (0..40).collect();
            while kept.len() > 7 {
                let without = |place: usize| {
                    let mut rest = kept.clone();
                    rest.remove(place);
                    trace(&a, &rest)
                };
                let best = (stay..kept.len()).min_by(|x, y| without(*x).total_cmp(&without(*y))).unwrap();
                kept.remove(best);
            }
            assert_eq!(thin(a.as_ref(), 7, stay), kept, "seed {seed}");
        }
    }
}
