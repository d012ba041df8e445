//! Evaluation along the trie: φ_ν = φ_parent · p_{ν_j}(x_j), one product for each function and point.

use faer::MatMut;

use super::indices::IndexSet;
use super::induced::Induced;

/// φ at `n` points, `[n, d]`, into the n × m matrix `out`. Points run fastest, so that they fill SIMD lanes.
pub fn evaluate(indices: &IndexSet, axes: &[Induced], points: &[f64], out: MatMut<'_, f64>) {
    products(indices, &lines(axes, points, None), out);
}

/// ∂φ/∂x of one axis, as [`evaluate`].
pub fn derivatives(indices: &IndexSet, axes: &[Induced], points: &[f64], axis: usize, mut out: MatMut<'_, f64>) {
    products(indices, &lines(axes, points, Some(axis)), out.as_mut());
    for j in 0..indices.len() {
        if indices.factors(j).iter().all(|(a, _)| *a != axis) {
            out.as_mut().col_mut(j).fill(0.0);
        }
    }
}

/// Values of all degrees of each axis, `[d][degree + 1, n]`; derivatives along one.
fn lines(axes: &[Induced], points: &[f64], derived: Option<usize>) -> Vec<Vec<f64>> {
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

/// ∏ over the factors of each function, n × m.
fn products(indices: &IndexSet, lines: &[Vec<f64>], mut out: MatMut<'_, f64>) {
    let n = out.nrows();
    assert_eq!((lines[0].len() % n.max(1), out.ncols()), (0, indices.len()), "points and functions");
    for j in 0..indices.len() {
        let Some((axis, degree)) = indices.factors(j).last() else {
            out.as_mut().col_mut(j).fill(1.0);
            continue;
        };
        let factor = &lines[*axis][degree * n..(degree + 1) * n];
        let (before, rest) = out.as_mut().split_at_col_mut(j);
        let (parent, mine) = (before.col(indices.parents[j]), rest.col_mut(0));
        // 1 flop, 24 bytes (the block is in cache)
        match (parent.try_as_col_major(), mine.try_as_col_major_mut()) {
            (Some(parent), Some(mine)) => {
                let pairs = parent.as_slice().iter().zip(factor);
                mine.as_slice_mut().iter_mut().zip(pairs).for_each(|(v, (p, f))| *v = p * f);
            }
            _ => unreachable!("columns of the callers' matrices are contiguous"),
        }
    }
}
