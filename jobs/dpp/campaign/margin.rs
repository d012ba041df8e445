//! What to add to a space: functions beside it, chosen by what each would explain of the residual.
//!
//! For a function ν of the reduced margin (all lower neighbours are in Λ), a = W^{1/2} φ_ν and the residual r ⟂ range(A) of the
//! fit, adding ν lowers ‖r‖² by ⟨r, a⟩²/‖(I − P)a‖², P the projector onto range(A): forward regression by orthogonal least squares
//! (Chen, Cowan and Grant 1991). Bulk chasing (Dörfler 1996) takes the fewest that together have a given part of the sum.

use std::collections::HashSet;

use convoke_cluster::{Comm, Result};
use faer::{Mat, MatRef};

use crate::dpp::fit::Factor;
use crate::dpp::space::indices::IndexSet;

/// ‖(I − P)a‖²/‖a‖² below which a function is, on the points, one of those that are there.
const INSIDE: f64 = 1e-10;

/// The reduced margin of a downward-closed set, with degrees up to `most` of each variable: `[function, variable]`.
pub fn reduced_margin(indices: &IndexSet, most: &[usize]) -> Vec<Vec<usize>> {
    let all: HashSet<Vec<usize>> = (0..indices.len()).map(|i| indices.dense(i)).collect();
    let mut margin: HashSet<Vec<usize>> = HashSet::new();
    for index in &all {
        for axis in 0..indices.dimension {
            let mut next = index.clone();
            next[axis] += 1;
            if next[axis] > most[axis] || all.contains(&next) || margin.contains(&next) {
                continue;
            }
            let mut lower = next.clone();
            let inside = |axis: usize| {
                lower[axis] -= 1;
                let inside = all.contains(&lower);
                lower[axis] += 1;
                inside
            };
            if (0..indices.dimension).filter(|axis| next[*axis] > 0).all(inside) {
                margin.insert(next);
            }
        }
    }
    let mut margin: Vec<Vec<usize>> = margin.into_iter().collect();
    margin.sort();
    margin
}

/// The part of each output's squared residual that each function would explain, summed over the outputs: `[function]`.
///
/// A rank holds the rows `a` (n × m) of A, `more` (n × functions) of the margin's and `residuals` (n × outputs). Collective.
///
/// # Errors
/// Where another rank is gone.
pub fn explained(
    comm: &Comm,
    factor: &Factor,
    a: MatRef<'_, f64>,
    more: MatRef<'_, f64>,
    residuals: MatRef<'_, f64>,
) -> Result<Vec<f64>> {
    let (m, k, outputs) = (a.ncols(), more.ncols(), residuals.ncols());
    // Aᵀ V, rᵀ V and ‖v‖², one column for each function, and ‖r‖².
    let (inner, along) = (a.transpose() * more, residuals.transpose() * more);
    let mut sums: Vec<f64> = Vec::with_capacity(k * (m + outputs + 1) + outputs);
    for j in 0..k {
        sums.extend(inner.col(j).iter());
        sums.extend(along.col(j).iter());
        sums.push(more.col(j).squared_norm_l2());
    }
    sums.extend((0..outputs).map(|j| residuals.col(j).squared_norm_l2()));
    comm.all_sum(&mut sums)?;
    let (columns, squares) = sums.split_at(k * (m + outputs + 1));
    let inner = Mat::from_fn(k, m, |j, i| columns[j * (m + outputs + 1) + i]);
    let whitened = factor.whitened(inner.as_ref());
    let score = |j: usize| {
        let column = &columns[j * (m + outputs + 1)..][..m + outputs + 1];
        let whole = column[m + outputs];
        let outside = whole - whitened.col(j).squared_norm_l2();
        if outside <= INSIDE * whole {
            return 0.0;
        }
        let part = |(along, square): (&f64, &f64)| if *square > 0.0 { along * along / outside / square } else { 0.0 };
        column[m..m + outputs].iter().zip(squares).map(part).sum()
    };
    Ok((0..k).map(score).collect())
}

/// The fewest functions whose scores have `part` of the sum, the best first; none where nothing is explained.
pub fn bulk(scores: &[f64], part: f64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).filter(|i| scores[*i] > 0.0).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b)));
    let due = part * scores.iter().sum::<f64>() * (1.0 - 1e-12);
    let mut sum = 0.0;
    let enough = |i: &usize| {
        let more = sum < due;
        sum += scores[*i];
        more
    };
    order.into_iter().take_while(enough).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dpp::fit::fit;
    use crate::dpp::space::indices::Rule;
    use crate::dpp::stream::Stream;

    #[test]
    fn the_margin_of_a_total_degree_is_the_next_degree() {
        let set = IndexSet::new(3, &Rule::TotalDegree(2)).unwrap();
        let margin = reduced_margin(&set, &[9; 3]);
        assert_eq!(margin.len(), 10);
        assert!(margin.iter().all(|index| index.iter().sum::<usize>() == 3));
        // (2, 2) has (1, 2) and (2, 1) below it, which are not there.
        let list = [vec![0, 0], vec![1, 0], vec![2, 0], vec![0, 1], vec![0, 2], vec![1, 1]];
        let set = IndexSet::new(2, &Rule::List(list.to_vec())).unwrap();
        assert_eq!(reduced_margin(&set, &[2, 9]), [[0, 3], [1, 2], [2, 1]]);
        assert_eq!(bulk(&[0.1, 0.0, 0.6, 0.3], 0.8), [2, 3]);
        assert_eq!(bulk(&[0.1, 0.0, 0.6, 0.3], 1.0), [2, 3, 0]);
        assert!(bulk(&[0.0, 0.0], 0.5).is_empty());
    }

    /// Each score against a fit with the function added, to 1e-12.
    #[test]
    fn scores_are_what_refits_explain() {
        let stream = Stream::new(2, 0, 0);
        let a = Mat::from_fn(20, 4, |i, j| stream.normal((4 * i + j) as u64));
        let more = Mat::from_fn(20, 3, |i, j| stream.normal(1000 + (3 * i + j) as u64));
        let y = Mat::from_fn(20, 2, |i, j| stream.normal(2000 + (2 * i + j) as u64));
        let ones = [1.0; 20];
        let before = fit(a.as_ref(), &ones, y.as_ref()).unwrap();
        let factor = Factor::of(a.as_ref(), y.as_ref());
        let scores = explained(&Comm::solo(), &factor, a.as_ref(), more.as_ref(), before.residuals.as_ref()).unwrap();
        for (k, score) in scores.iter().enumerate() {
            let larger = Mat::from_fn(20, 5, |i, j| if j < 4 { a[(i, j)] } else { more[(i, k)] });
            let after = fit(larger.as_ref(), &ones, y.as_ref()).unwrap();
            let part = |j: usize| {
                let square = |fit: &crate::dpp::fit::Fit| fit.residuals.col(j).squared_norm_l2();
                1.0 - square(&after) / square(&before)
            };
            assert!((part(0) + part(1) - score).abs() < 1e-12, "{k}: {score}");
        }
    }
}
