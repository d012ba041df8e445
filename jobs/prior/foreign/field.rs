//! What the layers of such networks do to one image.

use std::ops::Range;

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};

use crate::learning::matrix::product;
use crate::learning::real::Real;
use crate::prior::layers;

/// Columns of a block of a convolution, and rows of one of attention: what belongs to them stays in the second cache.
const TOGETHER: usize = 256;

/// `[channel, y, x]`
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Field {
    pub values: Vec<f32>,
    pub extent: [usize; 3],
}

/// A convolution of `[to, from, size, size]` with zeros outside, or a map of channels at each point.
#[derive(Debug)]
pub(super) struct Conv {
    pub weight: Vec<f32>,
    pub bias: Vec<f32>,
    pub from: usize,
    pub size: usize,
}

/// A normalisation in groups of channels.
#[derive(Debug)]
pub(super) struct Norm {
    pub gamma: Vec<f32>,
    pub beta: Vec<f32>,
    pub groups: usize,
    /// Added to variances.
    pub tiny: f64,
}

/// Half or twice as many points along each axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resample {
    /// Through [1, 3, 3, 1]/8 along each axis.
    Filter,
    /// Means of four points, copies of one.
    Plain,
}

/// Weights of [1, 3, 3, 1]/8.
const FILTER: [f32; 4] = [0.125, 0.375, 0.375, 0.125];

impl Field {
    pub fn points(&self) -> usize {
        self.extent[1] * self.extent[2]
    }

    /// Channel by channel, row by row: `of(line in, line out)` along x, then along y.
    fn axes(&self, lengths: [usize; 2], of: impl Fn(&[f32], &mut [f32])) -> Self {
        let [c, h, w] = self.extent;
        let [new_h, new_w] = lengths;
        let mut wide = vec![0.0; c * h * new_w];
        self.values.chunks(w).zip(wide.chunks_mut(new_w)).for_each(|(from, to)| of(from, to));
        let mut values = vec![0.0; c * new_h * new_w];
        let (mut from, mut to) = (vec![0.0; h], vec![0.0; new_h]);
        for (channel, out) in wide.chunks(h * new_w).zip(values.chunks_mut(new_h * new_w)) {
            for x in 0..new_w {
                from.iter_mut().enumerate().for_each(|(y, v)| *v = channel[y * new_w + x]);
                of(&from, &mut to);
                to.iter().enumerate().for_each(|(y, v)| out[y * new_w + x] = *v);
            }
        }
        Self { values, extent: [c, new_h, new_w] }
    }

    /// Half as many points along each axis.
    pub fn halved(&self, how: Resample) -> Self {
        let [_, h, w] = self.extent;
        self.axes([h / 2, w / 2], |from, to| match how {
            Resample::Plain => to.iter_mut().enumerate().for_each(|(i, v)| *v = 0.5 * (from[2 * i] + from[2 * i + 1])),
            Resample::Filter => to.iter_mut().enumerate().for_each(|(i, v)| *v = filtered(from, 2 * i as isize - 1)),
        })
    }

    /// Twice as many points along each axis.
    pub fn doubled(&self, how: Resample) -> Self {
        let [_, h, w] = self.extent;
        let at = |from: &[f32], i: Option<usize>| i.and_then(|i| from.get(i)).copied().unwrap_or(0.0);
        self.axes([2 * h, 2 * w], |from, to| match how {
            Resample::Plain => to.iter_mut().enumerate().for_each(|(i, v)| *v = from[i / 2]),
            // The filter meets every second of its points: 1 and 3 of 4.
            Resample::Filter => to.iter_mut().enumerate().for_each(|(i, v)| {
                let far = if i % 2 == 0 { (i / 2).checked_sub(1) } else { Some(i / 2 + 1) };
                *v = 0.75 * from[i / 2] + 0.25 * at(from, far);
            }),
        })
    }

    /// Through the filter with two zeros on each side: one point more along each axis.
    fn blurred(&self) -> Self {
        let [_, h, w] = self.extent;
        self.axes([h + 1, w + 1], |from, to| {
            to.iter_mut().enumerate().for_each(|(i, v)| *v = filtered(from, i as isize - 2));
        })
    }

    /// Half of the points, as seen by a convolution behind the filter.
    pub fn filtered_and_halved(&self, conv: &Conv) -> Self {
        conv.strided(&self.blurred(), 2, 0)
    }

    /// This one's channels, then another one's.
    pub fn joined(mut self, other: Self) -> Self {
        self.extent[0] += other.extent[0];
        self.values.extend(other.values);
        self
    }

    /// (this + other) · factor
    pub fn sum(mut self, other: &Self, factor: f32) -> Self {
        self.values.iter_mut().zip(&other.values).for_each(|(a, b)| *a = (*a + b) * factor);
        self
    }

    pub fn silu(mut self) -> Self {
        self.values.iter_mut().for_each(|v| *v = v.silu().0);
        self
    }

    /// Adds a number to each channel.
    pub fn shifted(mut self, by: &[f32]) -> Self {
        let n = self.points();
        self.values.chunks_mut(n).zip(by).for_each(|(c, by)| c.iter_mut().for_each(|v| *v += by));
        self
    }
}

/// Σ FILTER[t] from[first + t], zeros outside.
fn filtered(from: &[f32], first: isize) -> f32 {
    let at = |i: isize| usize::try_from(i).ok().and_then(|i| from.get(i)).copied().unwrap_or(0.0);
    FILTER.iter().enumerate().map(|(t, k)| k * at(first + t as isize)).sum()
}

impl Conv {
    pub fn to(&self) -> usize {
        self.bias.len()
    }

    /// As many points as before.
    pub fn apply(&self, x: &Field) -> Field {
        let [_, h, w] = x.extent;
        let mut values = vec![0.0; self.to() * h * w];
        if self.size == 1 {
            layers::mix(&self.weight, Some(&self.bias), &x.values, self.from, &mut values);
        } else {
            layers::convolve(&self.weight, Some(&self.bias), &x.values, x.extent, &mut values, &mut Vec::new());
        }
        Field { values, extent: [self.to(), h, w] }
    }

    /// Of a vector.
    pub fn vector(&self, x: &[f32]) -> Vec<f32> {
        self.apply(&Field { values: x.to_vec(), extent: [x.len(), 1, 1] }).values
    }

    /// Every `stride`-th point of a convolution with so many zeros around.
    pub fn strided(&self, x: &Field, stride: usize, zeros: usize) -> Field {
        let ([_, h, w], size) = (x.extent, self.size);
        let [oh, ow] = [h, w].map(|n| (n + 2 * zeros - size) / stride + 1);
        let mut values = vec![0.0; self.to() * oh * ow];
        let depth = self.from * size * size;
        let step = (TOGETHER / ow).clamp(1, oh);
        for first in (0..oh).step_by(step) {
            let rows = first..oh.min(first + step);
            let n = rows.len() * ow;
            let mut around = vec![0.0; depth * n];
            for (tap, line) in around.chunks_mut(n).enumerate() {
                let (channel, dy, dx) = (tap / (size * size), tap / size % size, tap % size);
                for (i, v) in line.iter_mut().enumerate() {
                    let at = [(rows.start + i / ow) * stride + dy, i % ow * stride + dx].map(|p| p.wrapping_sub(zeros));
                    if at[0] < h && at[1] < w {
                        *v = x.values[(channel * h + at[0]) * w + at[1]];
                    }
                }
            }
            let to = &mut values[rows.start * ow..];
            product(Accum::Replace, to, &self.weight, &around, (self.to(), depth, n), [n, oh * ow]);
        }
        Field { values, extent: [self.to(), oh, ow] }.shifted(&self.bias)
    }
}

impl Norm {
    /// x̂ γ + β, then times 1 + s plus t for channels with [s, t].
    pub fn apply(&self, x: &Field, film: Option<&[f32]>) -> Field {
        let (n, channels) = (x.points(), self.gamma.len());
        let each = channels / self.groups;
        let mut out = x.clone();
        for (group, values) in out.values.chunks_mut(each * n).enumerate() {
            let count = values.len() as f64;
            let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / count;
            let variance = values.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / count;
            let (mean, inverse) = (mean as f32, (1.0 / (variance + self.tiny).sqrt()) as f32);
            for (c, channel) in values.chunks_mut(n).enumerate().map(|(c, v)| (group * each + c, v)) {
                let [s, t] = film.map_or([0.0; 2], |film| [film[c], film[channels + c]]);
                let (slope, offset) = (self.gamma[c] * (1.0 + s), self.beta[c] * (1.0 + s) + t);
                channel.iter_mut().for_each(|v| *v = (*v - mean) * inverse * slope + offset);
            }
        }
        out
    }
}

/// Each point's mean of all points' v, weighted by the softmax of q·k/√channels: q, k and v are `[channel, point]`.
pub(super) fn attend([q, k, v]: [&[f32]; 3], channels: usize, out: &mut [f32]) {
    let n = q.len() / channels;
    let matrix = |values| MatRef::<f32>::from_row_major_slice(values, channels, n);
    let (q, k, v) = (matrix(q), matrix(k), matrix(v));
    let scale = 1.0 / (channels as f32).sqrt();
    let mut weights = vec![0.0; TOGETHER.min(n) * n];
    let mut means = vec![0.0; TOGETHER.min(n) * channels];
    let blocks = (0..n).step_by(TOGETHER).map(|first| first..n.min(first + TOGETHER));
    for Range { start, end } in blocks {
        let rows = end - start;
        let weights = &mut weights[..rows * n];
        let all = MatMut::from_row_major_slice_mut(weights, rows, n);
        matmul(all, Accum::Replace, q.subcols(start, rows).transpose(), k, scale, Par::Seq);
        for row in weights.chunks_mut(n) {
            let most = row.iter().fold(f32::NEG_INFINITY, |a, b| a.max(*b));
            row.iter_mut().for_each(|w| *w = (*w - most).exp());
            let sum: f64 = row.iter().map(|w| f64::from(*w)).sum();
            row.iter_mut().for_each(|w| *w /= sum as f32);
        }
        let means = &mut means[..channels * rows];
        let all = MatRef::from_row_major_slice(weights, rows, n);
        let to = MatMut::from_row_major_slice_mut(means, channels, rows);
        matmul(to, Accum::Replace, v, all.transpose(), 1.0, Par::Seq);
        means.chunks(rows).zip(out.chunks_mut(n)).for_each(|(from, to)| to[start..end].copy_from_slice(from));
    }
}
