//! Evaluation along the trie: φ_ν = φ_parent · p_{ν_j}(x_j), one product for each function and point.

use faer::MatMut;

use super::indices::IndexSet;
use super::induced::Induced;

/// φ at `n` points, `[n, d]`, into the n × m matrix `out`. Points run fastest, so that they fill SIMD lanes.
pub fn evaluate(indices: &IndexSet, axes: &[Induced], points: &[f64], mut out: MatMut<'_, f64>) {
    let (n, d) = (out.nrows(), axes.len());
    assert_eq!((points.len(), out.ncols()), (n * d, indices.len()), "points and functions");
    let mut column = vec![0.0; n];
    let lines: Vec<Vec<f64>> = (0..d)
        .map(|axis| {
            column.iter_mut().enumerate().for_each(|(i, x)| *x = points[i * d + axis]);
            let line = &axes[axis].line;
            let mut values = vec![0.0; n * (line.degree + 1)];
            line.evaluate(&column, &mut values);
            values
        })
        .collect();
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
