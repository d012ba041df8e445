//! Layers of convolutional networks and their derivatives, one sample at a time: fields are `[channel, y, x]`.

use std::ops::Range;

use convoke_kernels::machine::widest;
use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};

use crate::learning::matrix::product;
use crate::learning::real::Real;

/// Numbers of a sample: channels, height, width.
pub type Extent = [usize; 3];

/// Columns of a block of a convolution: its neighbourhoods stay in the second cache.
const COLUMNS: usize = 256;
/// Added to variances.
pub(super) const TINY: f64 = 1e-5;

/// The 3 × 3 neighbourhoods of the points of some rows, zeros outside: `[channel, dy, dx, row, x]`.
fn neighbourhoods<T: Real>(x: &[T], [c, h, w]: Extent, rows: Range<usize>, out: &mut [T]) {
    let n = rows.len() * w;
    for (line, tap) in out.chunks_mut(n).zip(0..9 * c) {
        let (channel, dy, dx) = (tap / 9, tap / 3 % 3, tap % 3);
        for (to, y) in line.chunks_mut(w).zip(rows.clone()) {
            let y = y + dy;
            if y == 0 || y > h {
                to.fill(T::default());
                continue;
            }
            let from = &x[(channel * h + y - 1) * w..][..w];
            match dx {
                0 => {
                    to[0] = T::default();
                    to[1..].copy_from_slice(&from[..w - 1]);
                }
                1 => to.copy_from_slice(from),
                _ => {
                    to[..w - 1].copy_from_slice(&from[1..]);
                    to[w - 1] = T::default();
                }
            }
        }
    }
}

fn blocks(h: usize, w: usize) -> impl Iterator<Item = Range<usize>> {
    let step = (COLUMNS / w).clamp(1, h);
    (0..h).step_by(step).map(move |first| first..h.min(first + step))
}

/// y = W ∗ x + b with weights `[to, from, 3, 3]`, zeros outside.
pub fn convolve<T: Real>(weight: &[T], bias: Option<&[T]>, x: &[T], extent: Extent, y: &mut [T], work: &mut Vec<T>) {
    let [c, h, w] = extent;
    let to = weight.len() / (9 * c);
    for rows in blocks(h, w) {
        let n = rows.len() * w;
        work.resize(9 * c * n, T::default());
        neighbourhoods(x, extent, rows.clone(), work);
        product(Accum::Replace, &mut y[rows.start * w..], weight, work, (to, 9 * c, n), [n, h * w]);
    }
    if let Some(bias) = bias {
        y.chunks_mut(h * w).zip(bias).for_each(|(y, b)| y.iter_mut().for_each(|y| *y += *b));
    }
}

/// Weights of the adjoint: `[from, to, 3, 3]`, turned round.
pub fn turned<T: Real>(weight: &[T], from: usize) -> Vec<T> {
    let to = weight.len() / (9 * from);
    let of = |i: usize| weight[((i / 9 % to) * from + i / (9 * to)) * 9 + 8 - i % 9];
    (0..weight.len()).map(of).collect()
}

/// ∂/∂W of [`convolve`], added.
pub fn convolve_weights<T: Real>(x: &[T], extent: Extent, g: &[T], dw: &mut [T], work: &mut Vec<T>) {
    let [c, h, w] = extent;
    let to = dw.len() / (9 * c);
    for rows in blocks(h, w) {
        let n = rows.len() * w;
        work.resize(9 * c * n, T::default());
        neighbourhoods(x, extent, rows.clone(), work);
        let g = MatRef::from_row_major_slice_with_stride(&g[rows.start * w..], to, n, h * w);
        let around = MatRef::from_row_major_slice(work, 9 * c, n);
        matmul(
            MatMut::from_row_major_slice_mut(dw, to, 9 * c),
            Accum::Add,
            g,
            around.transpose(),
            T::of(1.0),
            Par::Seq,
        );
    }
}

/// y = W x at every point: `[to, from]`.
pub fn mix<T: Real>(weight: &[T], bias: Option<&[T]>, x: &[T], from: usize, y: &mut [T]) {
    let (to, n) = (weight.len() / from, x.len() / from);
    product(Accum::Replace, y, weight, x, (to, from, n), [n, n]);
    if let Some(bias) = bias {
        y.chunks_mut(n).zip(bias).for_each(|(y, b)| y.iter_mut().for_each(|y| *y += *b));
    }
}

/// Σ over points of each channel, added.
pub fn add_sums<T: Real>(g: &[T], sums: &mut [T]) {
    let n = g.len() / sums.len();
    g.chunks(n).zip(sums).for_each(|(g, sum)| g.iter().for_each(|g| *sum += *g));
}

/// What [`Norm`] knows of a sample: mean and inverse deviation of each group.
pub type Moments<T> = Vec<[T; 2]>;

/// silu((x̂ γ + β)(1 + s) + t), x̂ of mean 0 and variance 1 in groups of channels (Wu and He 2018), s and t of each channel from elsewhere.
#[derive(Debug, Clone, Copy)]
pub struct Norm<'a, T> {
    /// γ of each channel.
    pub gamma: &'a [T],
    /// β of each channel.
    pub beta: &'a [T],
    /// s, then t; none for 0.
    pub film: Option<&'a [T]>,
    /// Groups of channels.
    pub groups: usize,
}

impl<T: Real> Norm<'_, T> {
    /// Slope and offset of x̂ in channel c.
    pub(super) fn affine(&self, c: usize) -> (T, T) {
        let (gamma, beta) = (self.gamma[c], self.beta[c]);
        let Some(film) = self.film else { return (gamma, beta) };
        let scale = T::of(1.0) + film[c];
        (gamma * scale, beta * scale + film[self.gamma.len() + c])
    }

    /// y of x.
    pub fn forward(&self, x: &[T], y: &mut [T]) -> Moments<T> {
        let (size, n) = (x.len() / self.groups, x.len() / self.gamma.len());
        let each = self.gamma.len() / self.groups;
        let mut moments = Vec::with_capacity(self.groups);
        for (group, (x, y)) in x.chunks(size).zip(y.chunks_mut(size)).enumerate() {
            let mean = sum(x, x, |v, _| v) / size as f64;
            let m = T::of(mean);
            let variance = sum(x, x, |v, _| (v - m) * (v - m)) / size as f64;
            let scale = T::of((variance + TINY).sqrt().recip());
            moments.push([m, scale]);
            for (k, (x, y)) in x.chunks(n).zip(y.chunks_mut(n)).enumerate() {
                let (slope, offset) = self.affine(group * each + k);
                let (slope, offset) = (slope * scale, offset - slope * scale * m);
                widest(
                    #[inline(always)]
                    || x.iter().zip(y).for_each(|(x, y)| *y = (slope * *x + offset).silu().0),
                );
            }
        }
        moments
    }

    /// ∂/∂x from ∂/∂y; those of γ, β and of s, t are added.
    pub fn backward(
        &self,
        x: &[T],
        moments: &Moments<T>,
        g: &[T],
        dx: &mut [T],
        [dgamma, dbeta]: [&mut [T]; 2],
        mut dfilm: Option<&mut [T]>,
    ) {
        let channels = self.gamma.len();
        let (size, n, each) = (x.len() / self.groups, x.len() / channels, channels / self.groups);
        for (group, [m, scale]) in moments.iter().enumerate() {
            let (mut mean, mut along) = (0.0, 0.0);
            for c in group * each..(group + 1) * each {
                let (slope, offset) = self.affine(c);
                let (x, g, dx) = (&x[c * n..][..n], &g[c * n..][..n], &mut dx[c * n..][..n]);
                let (along_x, offset) = (slope * *scale, offset - slope * *scale * *m);
                widest(
                    #[inline(always)]
                    || {
                        for ((x, g), dx) in x.iter().zip(g).zip(dx.iter_mut()) {
                            *dx = *g * (along_x * *x + offset).silu().1;
                        }
                    },
                );
                // Σ du and Σ du x̂
                let total = sum(dx, dx, |v, _| v);
                let with = sum(dx, x, |d, x| d * (x - *m)) * scale.wide();
                let (gamma, beta) = (self.gamma[c].wide(), self.beta[c].wide());
                let factor = 1.0 + self.film.map_or(0.0, |film| film[c].wide());
                dgamma[c] += T::of(with * factor);
                dbeta[c] += T::of(total * factor);
                if let Some(film) = &mut dfilm {
                    film[c] += T::of(with * gamma + total * beta);
                    film[channels + c] += T::of(total);
                }
                mean += total * slope.wide();
                along += with * slope.wide();
                dx.iter_mut().for_each(|d| *d *= slope);
            }
            let (mean, along) = (T::of(mean / size as f64), T::of(along / size as f64));
            let range = group * size..(group + 1) * size;
            for (dx, x) in dx[range.clone()].iter_mut().zip(&x[range]) {
                *dx = *scale * (*dx - mean - (*x - *m) * *scale * along);
            }
        }
    }
}

/// Σ of(a, b) in sixteen lanes, pieces of them in double precision.
fn sum<T: Real>(a: &[T], b: &[T], of: impl Fn(T, T) -> T) -> f64 {
    let piece = |(a, b): (&[T], &[T])| {
        let mut lanes = [T::default(); 16];
        let (ca, cb) = (a.chunks_exact(16), b.chunks_exact(16));
        let rest: f64 = ca.remainder().iter().zip(cb.remainder()).map(|(a, b)| of(*a, *b).wide()).sum();
        for (a, b) in ca.zip(cb) {
            for l in 0..16 {
                lanes[l] += of(a[l], b[l]);
            }
        }
        lanes.iter().map(|v| v.wide()).sum::<f64>() + rest
    };
    widest(
        #[inline(always)]
        || a.chunks(1024).zip(b.chunks(1024)).map(piece).sum(),
    )
}

/// Means of 2 × 2 points.
pub fn pool<T: Real>(x: &[T], w: usize, y: &mut [T]) {
    let quarter = T::of(0.25);
    for (y, x) in y.chunks_mut(w / 2).zip(x.chunks(2 * w)) {
        let (a, b) = x.split_at(w);
        for (i, y) in y.iter_mut().enumerate() {
            *y = quarter * (a[2 * i] + a[2 * i + 1] + b[2 * i] + b[2 * i + 1]);
        }
    }
}

/// Every point four times: four times the adjoint of [`pool`]. `w`: of x.
pub fn repeat<T: Real>(x: &[T], w: usize, y: &mut [T], factor: T) {
    for (x, y) in x.chunks(w).zip(y.chunks_mut(4 * w)) {
        for (i, x) in x.iter().enumerate() {
            let v = *x * factor;
            for at in [2 * i, 2 * i + 1, 2 * w + 2 * i, 2 * w + 2 * i + 1] {
                y[at] = v;
            }
        }
    }
}

/// Sums of 2 × 2 points: the adjoint of [`repeat`].
pub fn unrepeat<T: Real>(y: &[T], w: usize, x: &mut [T]) {
    pool(y, 2 * w, x);
    x.iter_mut().for_each(|x| *x *= T::of(4.0));
}

/// 2 × 2 points as four channels: `[c, h, w]` to `[4 c, h/2, w/2]`, or back.
pub fn shuffle<T: Real>(x: &[T], [c, h, w]: Extent, y: &mut [T], back: bool) {
    let (hh, hw) = (h / 2, w / 2);
    for channel in 0..c {
        for i in 0..h {
            for j in 0..w {
                let plain = (channel * h + i) * w + j;
                let deep = ((channel * 4 + i % 2 * 2 + j % 2) * hh + i / 2) * hw + j / 2;
                if back { y[plain] = x[deep] } else { y[deep] = x[plain] }
            }
        }
    }
}

/// ∂/∂W of [`mix`], added.
pub fn mix_weights<T: Real>(x: &[T], g: &[T], (to, from, n): (usize, usize, usize), dw: &mut [T]) {
    let (g, x) = (MatRef::from_row_major_slice(g, to, n), MatRef::from_row_major_slice(x, from, n));
    matmul(MatMut::from_row_major_slice_mut(dw, to, from), Accum::Add, g, x.transpose(), T::of(1.0), Par::Seq);
}
