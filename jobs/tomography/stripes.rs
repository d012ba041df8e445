//! Stripes that are wide, dead or restless, found before they are removed; and the closed form of the smoothest offsets.
//!
//! Sources: N. T. Vo, R. C. Atwood, M. Drakopoulos, Optics Express 26 (2018) 28396, algorithms 4 (which columns), 5 (wide) and 6 (dead and
//! restless); S. Titarenko, P. J. Withers, A. Yagola, Appl. Math. Lett. 23 (2010) 1489 (offsets).

use super::rings::{median_filter, mirrored, sort_columns};

/// Least noise of [`detect`]: data without any would make a stripe of every column.
const LEAST_NOISE: f64 = 1e-6;
/// Part of a sorted column's ends that its level leaves out.
const DROPPED: f64 = 0.1;
/// Angles of the running mean that a column is compared with.
const SMOOTHED: usize = 10;

/// Algorithm 4: which of the columns' figures stand out. A straight line through the middle half of the sorted figures says what is noise;
/// a stripe differs by more than `snr`/2 times that from the line's end, if the outermost differs by `snr` times that.
pub(super) fn detect(figures: &[f64], snr: f64) -> Vec<bool> {
    let n = figures.len();
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let dropped = n / 4;
    let fitted = dropped..n.saturating_sub(dropped + 1);
    if fitted.len() < 2 {
        return vec![false; n];
    }
    let count = fitted.len() as f64;
    let (x, y) = fitted.clone().fold((0.0, 0.0), |(x, y), i| (x + i as f64 / count, y + sorted[i] / count));
    let (xx, xy) = fitted.fold((0.0, 0.0), |(xx, xy), i| {
        let d = i as f64 - x;
        (xx + d * d, xy + d * (sorted[i] - y))
    });
    let slope = xy / xx;
    let low = y - slope * x;
    let high = low + slope * (n - 1) as f64;
    let noise = (high - low).abs().max(LEAST_NOISE);
    let above = (sorted[n - 1] - high).abs() / noise >= snr;
    let below = (low - sorted[0]).abs() / noise >= snr;
    let (upper, lower) = (high + 0.5 * snr * noise, low - 0.5 * snr * noise);
    figures.iter().map(|f| (above && *f > upper) || (below && *f <= lower)).collect()
}

/// With the neighbours of what is marked.
fn widened(marked: &[bool]) -> Vec<bool> {
    (0..marked.len()).map(|j| marked[j.saturating_sub(1)..(j + 2).min(marked.len())].contains(&true)).collect()
}

/// Algorithm 5 on transmissions: columns are divided by their level over that of `size` neighbours, and stripes are replaced by what
/// [`super::rings::Rings::Sorting`] makes of them.
pub(super) fn large(sinogram: &mut [f32], n_cols: usize, snr: f64, size: usize) {
    let n_angles = sinogram.len() / n_cols;
    let (sorted, order) = sort_columns(sinogram, n_cols);
    let mut smooth = vec![0.0; sorted.len()];
    let mut window = Vec::new();
    for (line, out) in sorted.chunks(n_cols).zip(smooth.chunks_mut(n_cols)) {
        median_filter(line, size, &mut window, out);
    }
    let dropped = (0.5 * DROPPED * n_angles as f64) as usize;
    let level = |values: &[f32], j: usize| -> f64 {
        (dropped..n_angles - dropped).map(|rank| f64::from(values[rank * n_cols + j])).sum()
    };
    let ratio = |j: usize| {
        let smooth = level(&smooth, j);
        if smooth == 0.0 { 1.0 } else { level(&sorted, j) / smooth }
    };
    let ratios: Vec<f64> = (0..n_cols).map(ratio).collect();
    let stripes = widened(&detect(&ratios, snr));
    for j in 0..n_cols {
        if stripes[j] {
            for (rank, &angle) in order[j].iter().enumerate() {
                sinogram[angle * n_cols + j] = smooth[rank * n_cols + j];
            }
        } else {
            let factor = ratios[j] as f32;
            sinogram.iter_mut().skip(j).step_by(n_cols).for_each(|value| *value /= factor);
        }
    }
}

/// Algorithm 6 on transmissions, without the removal of what is left: columns that are stiller or more restless along the angles than
/// `size` neighbours are replaced by straight lines between the columns beside them.
pub(super) fn dead(sinogram: &mut [f32], n_cols: usize, snr: f64, size: usize) {
    let n_angles = sinogram.len() / n_cols;
    let mut unrest = vec![0.0f32; n_cols];
    for (j, unrest) in unrest.iter_mut().enumerate() {
        let at = |i: isize| f64::from(sinogram[mirrored(i, n_angles) * n_cols + j]);
        let half = (SMOOTHED / 2) as isize;
        let sum = |i: isize| -> f64 {
            let mean = (i - half..i - half + SMOOTHED as isize).map(at).sum::<f64>() / SMOOTHED as f64;
            (at(i) - mean).abs()
        };
        *unrest = (0..n_angles as isize).map(sum).sum::<f64>() as f32;
    }
    let mut usual = vec![0.0; n_cols];
    median_filter(&unrest, size, &mut Vec::new(), &mut usual);
    let mean = usual.iter().map(|u| f64::from(*u)).sum::<f64>() / n_cols as f64;
    let of = |(unrest, usual): (&f32, &f32)| match (f64::from(*unrest), f64::from(*usual)) {
        (u, 0.0) if mean > 0.0 => u / mean,
        (_, 0.0) => 1.0,
        (u, usual) => u / usual,
    };
    let ratios: Vec<f64> = unrest.iter().zip(&usual).map(of).collect();
    let mut stripes = widened(&detect(&ratios, snr));
    // The outermost columns have no other side.
    for j in [0, 1, n_cols.saturating_sub(2), n_cols - 1] {
        if let Some(stripe) = stripes.get_mut(j) {
            *stripe = false;
        }
    }
    // So many cannot be told from the object.
    if stripes.iter().filter(|s| **s).count() >= n_cols / 3 {
        return;
    }
    let mut j = 0;
    while j < n_cols {
        if !stripes[j] {
            j += 1;
            continue;
        }
        let end = (j..n_cols).find(|k| !stripes[*k]).unwrap_or(n_cols - 1);
        for view in sinogram.chunks_mut(n_cols) {
            let (a, b) = (view[j - 1], view[end]);
            let step = |k: usize| (b - a) * (k + 1) as f32 / (end + 1 - j) as f32;
            view[j..end].iter_mut().enumerate().for_each(|(k, value)| *value = a + step(k));
        }
        j = end;
    }
}

/// Adds to the columns the offsets q that make their means m smooth: min ‖D (m + q)‖² + α ‖q‖² with differences D of neighbours, for each of
/// `chunks` parts of the angles. (DᵀD + α) q = −DᵀD m has three diagonals. Per value: 8 bytes, 2 flops.
pub(super) fn regularised(sinogram: &mut [f32], n_cols: usize, alpha: f64, chunks: usize) {
    let n_angles = sinogram.len() / n_cols;
    if n_cols < 2 {
        return;
    }
    let chunks = chunks.clamp(1, n_angles);
    for k in 0..chunks {
        // The first ones have one angle more where they are not equal.
        let edge = |k: usize| k * (n_angles / chunks) + k.min(n_angles % chunks);
        let part = &mut sinogram[edge(k) * n_cols..edge(k + 1) * n_cols];
        let mut means = vec![0.0; n_cols];
        for view in part.chunks(n_cols) {
            means.iter_mut().zip(view).for_each(|(m, v)| *m += f64::from(*v));
        }
        let count = (part.len() / n_cols) as f64;
        means.iter_mut().for_each(|m| *m /= count);
        let offsets = offsets(&means, alpha);
        for view in part.chunks_mut(n_cols) {
            view.iter_mut().zip(&offsets).for_each(|(v, q)| *v += *q as f32);
        }
    }
}

/// q of [`regularised`], by elimination downwards and upwards.
fn offsets(means: &[f64], alpha: f64) -> Vec<f64> {
    let n = means.len();
    let neighbours = |j: usize| if j == 0 || j == n - 1 { 1.0 } else { 2.0 };
    let bent = |j: usize| {
        let before = if j > 0 { means[j - 1] } else { 0.0 };
        let after = if j + 1 < n { means[j + 1] } else { 0.0 };
        neighbours(j) * means[j] - before - after
    };
    let mut q: Vec<f64> = (0..n).map(|j| -bent(j)).collect();
    let mut diagonal: Vec<f64> = (0..n).map(|j| neighbours(j) + alpha).collect();
    for j in 1..n {
        // Row j plus row j − 1 over its diagonal: the −1 left of the diagonal goes.
        let factor = 1.0 / diagonal[j - 1];
        diagonal[j] -= factor;
        q[j] += factor * q[j - 1];
    }
    q[n - 1] /= diagonal[n - 1];
    for j in (0..n - 1).rev() {
        q[j] = (q[j] + q[j + 1]) / diagonal[j];
    }
    q
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The offsets solve the minimum's equations, whose matrix is multiplied out, to 1e-9; those of a lone high column add up to what the
    /// means lose: Σ q = 0 is the sum of the equations.
    #[test]
    fn offsets_solve_their_equations() {
        let means: Vec<f64> = (0..37).map(|j| (j * j % 11) as f64).collect();
        for alpha in [1e-4, 0.3] {
            let q = offsets(&means, alpha);
            let sum: Vec<f64> = means.iter().zip(&q).map(|(m, q)| m + q).collect();
            for j in 0..37 {
                let side = |k: Option<usize>| k.and_then(|k| sum.get(k)).map_or(0.0, |s| sum[j] - s);
                let residual = side(j.checked_sub(1)) + side(Some(j + 1)) + alpha * q[j];
                assert!(residual.abs() < 1e-9, "{alpha} {j}: {residual:e}");
            }
            assert!(q.iter().sum::<f64>().abs() < 1e-7);
        }
    }

    #[test]
    fn figures_that_stand_out_are_detected() {
        let mut figures: Vec<f64> = (0..200).map(|j| 1.0 + 1e-3 * f64::from(j * 37 % 200) / 200.0).collect();
        assert!(!detect(&figures, 3.0).contains(&true));
        (figures[20], figures[21], figures[140]) = (1.02, 0.97, 1.0012);
        let found: Vec<usize> = detect(&figures, 3.0).iter().enumerate().filter(|(_, d)| **d).map(|(j, _)| j).collect();
        // 0.2 times the noise above the line's end is none.
        assert_eq!(found, [20, 21]);
        assert!(detect(&[1.0, 2.0], 3.0).iter().all(|d| !d));
    }
}
