//! The oracle: the formulas in double precision.

use super::{Feed, SpaceTime};
use crate::fourier_layer::reference::{gelu, mix, mix_gradient, transpose};

/// W₁, b₁, W₂, b₂.
fn parts<'p>(feed: &Feed, p: &'p [f64]) -> [&'p [f64]; 4] {
    let (w1, rest) = p.split_at(feed.inside * feed.h);
    let (b1, rest) = rest.split_at(feed.inside);
    let (w2, b2) = rest.split_at(feed.inside * feed.h);
    [w1, b1, w2, b2]
}

/// W₂ σ(W₁ x + b₁) + b₂ of its parameters `p`.
pub fn feed(feed: &Feed, samples: usize, p: &[f64], x: &[f64]) -> Vec<f64> {
    let [w1, b1, w2, b2] = parts(feed, p);
    let (hidden, _) = gelu(&mix(w1, Some(b1), x, samples, feed.h), 1);
    mix(w2, Some(b2), &hidden, samples, feed.inside)
}

/// ∂/∂x and ∂/∂p of [`feed`].
pub fn feed_back(feed: &Feed, samples: usize, p: &[f64], x: &[f64], g: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let (h, inside, [w1, b1, w2, _]) = (feed.h, feed.inside, parts(feed, p));
    let (hidden, slopes) = gelu(&mix(w1, Some(b1), x, samples, h), 1);
    let mut du = mix(&transpose(w2, h, inside), None, g, samples, h);
    du.iter_mut().zip(slopes).for_each(|(d, s)| *d *= s);
    let (dw1, db1) = mix_gradient(x, &du, samples, (h, inside));
    let (dw2, db2) = mix_gradient(&hidden, g, samples, (inside, h));
    (mix(&transpose(w1, inside, h), None, &du, samples, inside), [dw1, db1, dw2, db2].concat())
}

/// The newest of `times` of each line, at all `latent` ones.
pub fn newest(times: usize, latent: usize, v: &[f64]) -> Vec<f64> {
    v.chunks(times).flat_map(|line| std::iter::repeat_n(line[times - 1], latent)).collect()
}

/// Snapshots in every channel with the encoding, of each sample with mean 0 and variance 1.
pub fn standard(s: &SpaceTime, tiny: f64, encoding: &[f64], snapshots: &[f64]) -> Vec<f64> {
    let mut all = Vec::new();
    for w in snapshots.chunks(s.places * s.times) {
        let value = |(at, e): (usize, &f64)| e + w[at % s.times * s.places + at / s.times % s.places];
        let v: Vec<f64> = encoding.iter().enumerate().map(value).collect();
        let mean = v.iter().sum::<f64>() / v.len() as f64;
        let variance = v.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / v.len() as f64;
        all.extend(v.iter().map(|v| (v - mean) / (variance + tiny).sqrt()));
    }
    all
}

/// W and b of W(γ v + β) + b, one after the other.
pub fn fold([scale, shift, weight, bias]: [&[f64]; 4]) -> Vec<f64> {
    let h = bias.len();
    let all = (0..h * h).map(|at| weight[at] * scale[at % h]);
    let shifted = (0..h).map(|r| bias[r] + (0..h).map(|c| weight[r * h + c] * shift[c]).sum::<f64>());
    all.chain(shifted).collect()
}

/// The gradient of γ, β, W and b from that of [`fold`].
pub fn unfold([scale, shift, weight]: [&[f64]; 3], folded: &[f64]) -> [Vec<f64>; 4] {
    let h = scale.len();
    let (dw, db) = folded.split_at(h * h);
    let column = |f: &dyn Fn(usize, usize) -> f64| (0..h).map(|c| (0..h).map(|r| f(r, c)).sum()).collect();
    [
        column(&|r, c| weight[r * h + c] * dw[r * h + c]),
        column(&|r, c| weight[r * h + c] * db[r]),
        (0..h * h).map(|at| dw[at] * scale[at % h] + db[at / h] * shift[at % h]).collect(),
        db.to_vec(),
    ]
}

/// The adjoint of [`newest`], added to `x`.
pub fn gather(times: usize, latent: usize, g: &[f64], x: &mut [f64]) {
    for (line, x) in g.chunks(latent).zip(x.chunks_mut(times)) {
        x[times - 1] += line.iter().sum::<f64>();
    }
}

/// The newest snapshot, then a field at latent times: `[sample, place, latent + 1]`.
pub fn join(s: &SpaceTime, snapshots: &[f64], reduced: &[f64]) -> Vec<f64> {
    let mut z = Vec::with_capacity(reduced.len() / s.latent * (s.latent + 1));
    for (line, values) in reduced.chunks(s.latent).enumerate() {
        let (b, place) = (line / s.places, line % s.places);
        z.push(snapshots[(b * s.times + s.times - 1) * s.places + place]);
        z.extend(values);
    }
    z
}

/// What [`join`] put behind the newest snapshot.
pub fn cut(s: &SpaceTime, z: &[f64]) -> Vec<f64> {
    z.chunks(s.latent + 1).flat_map(|line| &line[1..]).copied().collect()
}

/// The newest snapshot plus changes `[sample, place, t]`, as snapshots.
pub fn forecast(s: &SpaceTime, given: &[f64], changes: &[f64]) -> Vec<f64> {
    let each = s.places * s.output;
    (0..changes.len())
        .map(|at| {
            let (b, t, place) = (at / each, at / s.places % s.output, at % s.places);
            changes[(b * s.places + place) * s.output + t] + given[(b * s.times + s.times - 1) * s.places + place]
        })
        .collect()
}

/// The adjoint of [`forecast`] for the changes.
pub fn forecast_back(s: &SpaceTime, g: &[f64]) -> Vec<f64> {
    let each = s.places * s.output;
    (0..g.len())
        .map(|at| {
            let (b, place, t) = (at / each, at / s.output % s.places, at % s.output);
            g[(b * s.output + t) * s.places + place]
        })
        .collect()
}

/// The place in a bias `[outer, re | im, inner]` of coefficient `at` of `[outer, inner, re | im]`.
fn place_of_bias(inner: usize, at: usize) -> usize {
    (2 * (at / 2 / inner) + at % 2) * inner + at / 2 % inner
}

/// y += factor · bias in every sample.
pub fn add_bias(inner: usize, factor: f64, bias: &[f64], y: &mut [f64]) {
    y.iter_mut().enumerate().for_each(|(at, y)| *y += factor * bias[place_of_bias(inner, at % bias.len())]);
}

/// The gradient of that bias, of `size` numbers.
pub fn bias_gradient(inner: usize, factor: f64, size: usize, g: &[f64]) -> Vec<f64> {
    let mut sums = vec![0.0; size];
    g.iter().enumerate().for_each(|(at, g)| sums[place_of_bias(inner, at % size)] += factor * g);
    sums
}
