//! The oracle: the formulas in double precision, sums over all points and modes.

use super::transform::{factor, kept};
use super::{Modes, Scale, Window};
use std::f64::consts::{FRAC_1_SQRT_2, TAU};

/// The place along each axis of a flat index.
fn place(mut flat: usize, extents: &[usize]) -> Vec<usize> {
    let mut index = vec![0; extents.len()];
    for (at, n) in index.iter_mut().zip(extents).rev() {
        *at = flat % n;
        flat /= n;
    }
    index
}

/// All points of the last axis.
fn all(points: &[usize]) -> Window {
    Window { period: points[points.len() - 1], offset: 0 }
}

/// For each kept mode: its factor, and (cos, sin) of 2πk·n/N at each point.
fn waves(
    window: Window,
    points: &[usize],
    modes: &[usize],
    scale: Scale,
) -> impl Iterator<Item = (f64, Vec<(f64, f64)>)> {
    let (axes, size) = (points.len(), points.iter().product::<usize>());
    let whole = size / points[axes - 1] * window.period;
    let ks: Vec<Vec<i64>> = modes.iter().enumerate().map(|(axis, m)| kept(axis, axes, *m)).collect();
    let (extents, points): (Vec<usize>, Vec<usize>) = (ks.iter().map(Vec::len).collect(), points.to_vec());
    (0..extents.iter().product()).map(move |mode| {
        let k: Vec<i64> = place(mode, &extents).iter().zip(&ks).map(|(at, ks)| ks[*at]).collect();
        let wave = |flat: usize| {
            let i = place(flat, &points);
            // Each axis in whole turns first.
            let turn = |a: usize| {
                let (n, i) = if a + 1 == axes { (window.period, i[a] + window.offset) } else { (points[a], i[a]) };
                (k[a] * i as i64).rem_euclid(n as i64) as f64 / n as f64
            };
            let (sin, cos) = (TAU * (0..axes).map(turn).sum::<f64>()).sin_cos();
            (cos, sin)
        };
        (factor(scale, k[axes - 1], window.period, whole), (0..size).map(wave).collect())
    })
}

/// x̂_k = Σ_n x_n e^{−2πi k·n/N} times its factor: `[fields, mode, re | im]` of `[fields, points]`.
pub fn analysis(points: &[usize], modes: &[usize], scale: Scale, x: &[f64]) -> Vec<f64> {
    analysis_in(all(points), points, modes, scale, x)
}

/// The same in a window of the last axis.
pub fn analysis_in(window: Window, points: &[usize], modes: &[usize], scale: Scale, x: &[f64]) -> Vec<f64> {
    let size: usize = points.iter().product();
    let by_mode: Vec<Vec<[f64; 2]>> = waves(window, points, modes, scale)
        .map(|(factor, wave)| {
            let of = |x: &[f64]| {
                let sums = x.iter().zip(&wave).fold([0.0; 2], |[re, im], (x, (c, s))| [re + x * c, im - x * s]);
                sums.map(|sum| factor * sum)
            };
            x.chunks(size).map(of).collect()
        })
        .collect();
    let fields = x.len() / size;
    (0..fields).flat_map(|f| by_mode.iter().flat_map(move |values| values[f])).collect()
}

/// Re Σ_k ŷ_k e^{2πi k·n/N}, coefficients times their factors: `[fields, points]` of `[fields, mode, re | im]`.
pub fn synthesis(points: &[usize], modes: &[usize], scale: Scale, y: &[f64]) -> Vec<f64> {
    synthesis_in(all(points), points, modes, scale, y)
}

/// The same in a window of the last axis.
pub fn synthesis_in(window: Window, points: &[usize], modes: &[usize], scale: Scale, y: &[f64]) -> Vec<f64> {
    let (size, waves): (usize, Vec<_>) = (points.iter().product(), waves(window, points, modes, scale).collect());
    let mut x = Vec::with_capacity(y.len() / (2 * waves.len()) * size);
    for y in y.chunks(2 * waves.len()) {
        let mut field = vec![0.0; size];
        for ((factor, wave), y) in waves.iter().zip(y.chunks(2)) {
            field.iter_mut().zip(wave).for_each(|(x, (cos, sin))| *x += factor * (y[0] * cos - y[1] * sin));
        }
        x.extend(field);
    }
    x
}

/// W x + b: `w` `[to, from]`, `x` `[samples, from, points]`.
pub fn mix(w: &[f64], b: Option<&[f64]>, x: &[f64], samples: usize, from: usize) -> Vec<f64> {
    let (to, points) = (w.len() / from, x.len() / (samples * from));
    let mut y = Vec::with_capacity(samples * to * points);
    for x in x.chunks(from * points) {
        for o in 0..to {
            let bias = b.map_or(0.0, |b| b[o]);
            y.extend((0..points).map(|p| bias + (0..from).map(|i| w[o * from + i] * x[i * points + p]).sum::<f64>()));
        }
    }
    y
}

/// `[columns, rows]` of `[rows, columns]`.
pub fn transpose(w: &[f64], rows: usize, columns: usize) -> Vec<f64> {
    (0..columns).flat_map(|c| (0..rows).map(move |r| w[r * columns + c])).collect()
}

/// ∂/∂W and ∂/∂b of [`mix`]: Σ g xᵀ and Σ g.
pub fn mix_gradient(x: &[f64], g: &[f64], samples: usize, (from, to): (usize, usize)) -> (Vec<f64>, Vec<f64>) {
    let points = x.len() / (samples * from);
    let (mut dw, mut db) = (vec![0.0; to * from], vec![0.0; to]);
    for (x, g) in x.chunks(from * points).zip(g.chunks(to * points)) {
        for (o, g) in g.chunks(points).enumerate() {
            db[o] += g.iter().sum::<f64>();
            for (i, x) in x.chunks(points).enumerate() {
                dw[o * from + i] += g.iter().zip(x).map(|(g, x)| g * x).sum::<f64>();
            }
        }
    }
    (dw, db)
}

/// Each (mode, sample, i, o), with the places of x̂, ŷ and W.
fn each_product(m: &Modes, samples: usize, mut each: impl FnMut(usize, usize, [usize; 2])) {
    for mode in 0..m.modes {
        for b in 0..samples {
            for i in 0..m.from {
                for o in 0..m.to {
                    let w = mode * 2 * m.from * m.to + i * m.to + o;
                    let x = 2 * ((b * m.from + i) * m.modes + mode);
                    let y = 2 * ((b * m.to + o) * m.modes + mode);
                    each(x, y, [w, w + m.from * m.to]);
                }
            }
        }
    }
}

/// ŷ_o = Σ_i x̂_i W_io for each mode.
pub fn mode_product(m: &Modes, samples: usize, w: &[f64], x: &[f64]) -> Vec<f64> {
    let mut all = vec![0.0; 2 * samples * m.to * m.modes];
    each_product(m, samples, |x_at, y, [re, im]| {
        all[y] += x[x_at] * w[re] - x[x_at + 1] * w[im];
        all[y + 1] += x[x_at] * w[im] + x[x_at + 1] * w[re];
    });
    all
}

/// x̂_i = Σ_o ĝ_o conj W_io for each mode.
pub fn mode_product_back(m: &Modes, samples: usize, w: &[f64], g: &[f64]) -> Vec<f64> {
    let mut all = vec![0.0; 2 * samples * m.from * m.modes];
    each_product(m, samples, |x, y, [re, im]| {
        all[x] += g[y] * w[re] + g[y + 1] * w[im];
        all[x + 1] += g[y + 1] * w[re] - g[y] * w[im];
    });
    all
}

/// ∂/∂W: Σ_b conj(x̂_i) ĝ_o for each mode.
pub fn mode_gradient(m: &Modes, samples: usize, x: &[f64], g: &[f64]) -> Vec<f64> {
    let mut dw = vec![0.0; m.size()];
    each_product(m, samples, |x_at, y, [re, im]| {
        dw[re] += x[x_at] * g[y] + x[x_at + 1] * g[y + 1];
        dw[im] += x[x_at] * g[y + 1] - x[x_at + 1] * g[y];
    });
    dw
}

/// x Φ(x) so many times, and the derivative of all of it.
pub fn gelu(x: &[f64], times: usize) -> (Vec<f64>, Vec<f64>) {
    let one = |mut x: f64| {
        let mut slope = 1.0;
        for _ in 0..times {
            let cdf = 0.5 * libm::erfc(-x * FRAC_1_SQRT_2);
            slope *= cdf + x * (-0.5 * x * x).exp() / TAU.sqrt();
            x *= cdf;
        }
        (x, slope)
    };
    x.iter().map(|x| one(*x)).unzip()
}

/// Adds fields to sums `[sample, channel, point]` of one sample each, each channel times its gate.
pub fn plus(sums: &mut [f64], fields: &[f64], gates: Option<&[f64]>, (channels, points): (usize, usize)) {
    for (row, (sums, fields)) in sums.chunks_mut(points).zip(fields.chunks(points)).enumerate() {
        let gate = gates.map_or(1.0, |gates| gates[row % channels]);
        sums.iter_mut().zip(fields).for_each(|(sum, v)| *sum += gate * v);
    }
}

/// Σ v g of each channel, of fields `[sample, channel, point]`.
pub fn gate_gradient(v: &[f64], g: &[f64], channels: usize, points: usize) -> Vec<f64> {
    let mut sums = vec![0.0; channels];
    for (row, (v, g)) in v.chunks(points).zip(g.chunks(points)).enumerate() {
        sums[row % channels] += v.iter().zip(g).map(|(v, g)| v * g).sum::<f64>();
    }
    sums
}

/// y_{o i l} = Σ_k u_{i k} x_{o k l} of complex numbers, `[outer, to, inner]`; back: the adjoint, Σ_i conj u_{i k} x_{o i l}.
pub fn times_factor([outer, to, from, inner]: [usize; 4], u: &[f64], x: &[f64], back: bool) -> Vec<f64> {
    let (come, go) = if back { (to, from) } else { (from, to) };
    let mut y = vec![0.0; 2 * outer * go * inner];
    for (o, i, l) in (0..outer * go * inner).map(|flat| (flat / (go * inner), flat / inner % go, flat % inner)) {
        let at = 2 * ((o * go + i) * inner + l);
        for k in 0..come {
            let (u_at, x_at) = (2 * if back { k * from + i } else { i * from + k }, 2 * ((o * come + k) * inner + l));
            let (re, im) = (u[u_at], if back { -u[u_at + 1] } else { u[u_at + 1] });
            y[at] += re * x[x_at] - im * x[x_at + 1];
            y[at + 1] += re * x[x_at + 1] + im * x[x_at];
        }
    }
    y
}

/// ∂/∂u of [`times_factor`]: Σ g_{o i l} conj x_{o k l}.
pub fn factor_gradient([outer, to, from, inner]: [usize; 4], g: &[f64], x: &[f64]) -> Vec<f64> {
    let mut du = vec![0.0; 2 * to * from];
    for (i, k) in (0..to * from).map(|flat| (flat / from, flat % from)) {
        for (o, l) in (0..outer * inner).map(|flat| (flat / inner, flat % inner)) {
            let (g_at, x_at) = (2 * ((o * to + i) * inner + l), 2 * ((o * from + k) * inner + l));
            du[2 * (i * from + k)] += g[g_at] * x[x_at] + g[g_at + 1] * x[x_at + 1];
            du[2 * (i * from + k) + 1] += g[g_at + 1] * x[x_at] - g[g_at] * x[x_at + 1];
        }
    }
    du
}

/// A tensor `[pair, mode, re | im]` as matrices `[mode, re | im, pair]`.
pub fn matrices((pairs, modes): (usize, usize), tensor: &[f32]) -> Vec<f32> {
    let place = |flat: usize| (flat / (2 * pairs), flat / pairs % 2, flat % pairs);
    (0..2 * pairs * modes).map(place).map(|(mode, part, pair)| tensor[2 * (pair * modes + mode) + part]).collect()
}

/// The other way round.
pub fn tensor((pairs, modes): (usize, usize), matrices: &[f32]) -> Vec<f32> {
    let place = |flat: usize| (flat / (2 * modes), flat / 2 % modes, flat % 2);
    (0..2 * pairs * modes).map(place).map(|(pair, mode, part)| matrices[(2 * mode + part) * pairs + pair]).collect()
}

/// `[planes, to]` of `[planes, from]`: the points that both have, else zeros.
pub fn resize(from: &[usize], to: &[usize], x: &[f32]) -> Vec<f32> {
    let [size, out] = [from, to].map(|points| points.iter().product::<usize>());
    let mut y = Vec::with_capacity(x.len() / size * out);
    for x in x.chunks(size) {
        y.extend((0..out).map(|flat| {
            let index = place(flat, to);
            let inside = index.iter().zip(from).all(|(i, n)| i < n);
            let at = index.iter().zip(from).fold(0, |at, (i, n)| at * n + i);
            if inside { x[at] } else { 0.0 }
        }));
    }
    y
}

/// Of each sample ‖e‖ and ‖t‖ of e = y d + m − t, d and m one for each `each` numbers; and scale · ∂(‖e‖/‖t‖)/∂y.
pub fn relative_l2(
    (y, t): (&[f64], &[f64]),
    (mean, deviation): (&[f64], &[f64]),
    (samples, each): (usize, usize),
    scale: f64,
) -> (Vec<[f64; 2]>, Vec<f64>) {
    let size = y.len() / samples;
    let (mut norms, mut slopes) = (Vec::with_capacity(samples), Vec::with_capacity(y.len()));
    for (y, t) in y.chunks(size).zip(t.chunks(size)) {
        let error = |i: usize| y[i] * deviation[i / each] + mean[i / each] - t[i];
        let root = |f: &dyn Fn(usize) -> f64| (0..size).map(|i| f(i).powi(2)).sum::<f64>().sqrt();
        let (e, norm) = (root(&error), root(&|i| t[i]).max(f64::MIN_POSITIVE));
        let slope = |i: usize| if e == 0.0 { 0.0 } else { scale * error(i) / (e * norm) * deviation[i / each] };
        slopes.extend((0..size).map(slope));
        norms.push([e, norm]);
    }
    (norms, slopes)
}
