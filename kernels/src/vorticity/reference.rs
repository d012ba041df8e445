//! Plain loops: what the device is compared with.

use super::{Grid, Stage};

/// κ_x and κ_y of each mode, in order.
fn waves(grid: &Grid) -> impl Iterator<Item = [f64; 2]> + use<> {
    let Grid { largest, unit, .. } = *grid;
    let m = largest as i64;
    (0..=m).flat_map(move |ky| (0..=m).chain(-m..0).map(move |kx| [unit * kx as f64, unit * ky as f64]))
}

/// û = iκ_y ŵ/|κ|² and v̂ = −iκ_x ŵ/|κ|², `[sample, û | v̂, k_y, k_x, re | im]`; 0 for the mean.
pub fn velocity(grid: &Grid, w: &[f64], pairs: &mut [f64]) {
    let len = 2 * grid.modes();
    for (w, pairs) in w.chunks_exact(len).zip(pairs.chunks_exact_mut(2 * len)) {
        let (u, v) = pairs.split_at_mut(len);
        let out = u.chunks_exact_mut(2).zip(v.chunks_exact_mut(2));
        for (([x, y], w), (u, v)) in waves(grid).zip(w.chunks_exact(2)).zip(out) {
            let square = x * x + y * y;
            let inverse = if square > 0.0 { 1.0 / square } else { 0.0 };
            let [re, im] = [w[0] * inverse, w[1] * inverse];
            u.copy_from_slice(&[-y * im, y * re]);
            v.copy_from_slice(&[x * im, -x * re]);
        }
    }
}

/// u and v, `[sample, field, point]`, are replaced by uv and v² − u².
pub fn products(area: usize, values: &mut [f64]) {
    for both in values.chunks_exact_mut(2 * area) {
        let (first, second) = both.split_at_mut(area);
        for (first, second) in first.iter_mut().zip(second) {
            let (u, v) = (*first, *second);
            (*first, *second) = (u * v, v * v - u * u);
        }
    }
}

/// N from the coefficients of uv and v² − u², h ← N + βh and w ← ((1 + aL) w + γh)/(1 − bL). `linear` `[k_y, k_x]`; `forcing`
/// `[k_y, k_x, re | im]`, or none.
pub fn stage(
    grid: &Grid,
    stage: &Stage,
    (linear, forcing): (&[f64], Option<&[f64]>),
    pairs: &[f64],
    (h, w): (&mut [f64], &mut [f64]),
) {
    let len = 2 * grid.modes();
    let samples = h.chunks_exact_mut(len).zip(w.chunks_exact_mut(len));
    for ((h, w), pairs) in samples.zip(pairs.chunks_exact(2 * len)) {
        for (mode, ([x, y], l)) in waves(grid).zip(linear).enumerate() {
            let (ahead, behind) = (1.0 + stage.ahead * l, 1.0 - stage.behind * l);
            for i in [2 * mode, 2 * mode + 1] {
                // −u·∇w: the second derivatives are −κ_x², −κ_y² and −κ_x κ_y.
                let n = pairs[i] * (x * x - y * y) + pairs[len + i] * (x * y) + forcing.map_or(0.0, |f| f[i]);
                h[i] = if stage.beta == 0.0 { n } else { n + stage.beta * h[i] };
                w[i] = (ahead * w[i] + stage.gamma * h[i]) / behind;
            }
        }
    }
}
