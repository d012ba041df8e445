//! Evaluation along the trie: φ_ν = φ_parent · p_{ν_j}(x_j), one product for each function and point.

use std::ops::Range;

use faer::MatMut;

use super::indices::IndexSet;
use super::induced::Induced;

/// The functions `part` of φ at `n` points, `[n, d]`, into the n × part matrix `out`. Points run fastest, so that they fill SIMD
/// lanes.
pub fn evaluate(indices: &IndexSet, axes: &[Induced], part: Range<usize>, points: &[f64], out: MatMut<'_, f64>) {
    products(indices, &lines(axes, points, None), part, out);
}

/// ∂φ/∂x of one axis, as [`evaluate`].
pub fn derivatives(indices: &IndexSet, axes: &[Induced], points: &[f64], axis: usize, mut out: MatMut<'_, f64>) {
    products(indices, &lines(axes, points, Some(axis)), 0..indices.len(), out.as_mut());
    for j in 0..indices.len() {
        if indices.factors(j).iter().all(|(a, _)| *a != axis) {
            out.as_mut().col_mut(j).fill(0.0);
        }
    }
}

/// Values of all degrees of each axis, `[d][degree + 1, n]`; derivatives along one.
pub fn lines(axes: &[Induced], points: &[f64], derived: Option<usize>) -> Vec<Vec<f64>> {
    let d = axes.len();
    let n = points.len() / d;
    assert_eq!(points.len(), n * d, "points are rows of {d} numbers");
    let mut column = vec![0.0; n];
    let line = |axis: usize| {
        column.iter_mut().enumerate().for_each(|(i, x)| *x = points[i * d + axis]);
        let line = &axes[axis].line;
        let mut values = vec![0.0; n * (line.degree + 1)];
        if derived == Some(axis) {
            line.derivatives(&column, &mut values)
        } else {
            line.evaluate(&column, &mut values)
        }
        values
    };
    (0..d).map(line).collect()
}

/// ∏ over the factors of each function of `part`, n × part. In the order of an index set, what comes before a part and has
/// children in it are the ancestors of its first function.
fn products(indices: &IndexSet, lines: &[Vec<f64>], part: Range<usize>, mut out: MatMut<'_, f64>) {
    let n = out.nrows();
    assert_eq!((lines[0].len() % n.max(1), out.ncols()), (0, part.len()), "points and functions");
    let factor = |j: usize| indices.factors(j).last().map(|(axis, degree)| &lines[*axis][degree * n..(degree + 1) * n]);
    // From the root down to the parent of the first function.
    let mut ancestors: Vec<(usize, Vec<f64>)> = Vec::new();
    let mut path = Vec::new();
    let mut at = part.start;
    while at != 0 && !part.is_empty() {
        at = indices.parents[at];
        path.push(at);
    }
    for j in path.into_iter().rev() {
        let values = match (ancestors.last(), factor(j)) {
            (Some((_, parent)), Some(factor)) => parent.iter().zip(factor).map(|(p, f)| p * f).collect(),
            _ => vec![1.0; n],
        };
        ancestors.push((j, values));
    }
    for j in part.clone() {
        let Some(factor) = factor(j) else {
            out.as_mut().col_mut(j - part.start).fill(1.0);
            continue;
        };
        let parent = indices.parents[j];
        let (before, rest) = out.as_mut().split_at_col_mut(j - part.start);
        let (before, mine) = (before.as_ref(), rest.col_mut(0));
        let parent = match parent.checked_sub(part.start) {
            Some(place) => before.col(place).try_as_col_major().map(|column| column.as_slice()),
            None => ancestors.iter().find(|(k, _)| *k == parent).map(|(_, values)| values.as_slice()),
        };
        // 1 flop, 24 bytes (the block is in cache)
        match (parent, mine.try_as_col_major_mut()) {
            (Some(parent), Some(mine)) => {
                mine.as_slice_mut().iter_mut().zip(parent.iter().zip(factor)).for_each(|(v, (p, f))| *v = p * f);
            }
            _ => unreachable!("columns of the callers' matrices are contiguous, and parents come first"),
        }
    }
}
