//! Plain loops in double precision: what the device is compared with.

/// W ∗ x + b with weights `[to, from, size, size]` of 3 × 3 or of one point, zeros outside; `x` `[samples, from, h, w]`.
pub fn convolve(weight: &[f64], bias: &[f64], x: &[f64], from: usize, [h, w]: [usize; 2]) -> Vec<f64> {
    let (to, n) = (bias.len(), h * w);
    let size = (weight.len() / (to * from)).isqrt();
    let (samples, reach) = (x.len() / (from * n), size / 2);
    let mut out = Vec::with_capacity(samples * to * n);
    for (sample, o, p) in (0..samples * to * n).map(|i| (i / (to * n), i / n % to, i % n)) {
        let mut sum = bias[o];
        for (c, dy, dx) in (0..from * size * size).map(|k| (k / (size * size), k / size % size, k % size)) {
            // Outside, the difference wraps around and is no point.
            let (y, x_at) = ((p / w + dy).wrapping_sub(reach), (p % w + dx).wrapping_sub(reach));
            if y < h && x_at < w {
                sum += weight[((o * from + c) * size + dy) * size + dx] * x[((sample * from + c) * h + y) * w + x_at];
            }
        }
        out.push(sum);
    }
    out
}

/// silu(slope x̂ + offset), x̂ of mean 0 and variance 1 in groups of channels; `affine` is slopes, then offsets.
pub fn normalise(affine: &[f64], groups: usize, tiny: f64, x: &[f64], points: usize) -> Vec<f64> {
    let channels = affine.len() / 2;
    let size = channels / groups * points;
    let mut out = Vec::with_capacity(x.len());
    for (group, x) in x.chunks(size).enumerate() {
        let mean = x.iter().sum::<f64>() / size as f64;
        let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / size as f64;
        for (i, x) in x.iter().enumerate() {
            let c = group % groups * (channels / groups) + i / points;
            let u = affine[c] * (x - mean) / (variance + tiny).sqrt() + affine[channels + c];
            out.push(u / (1.0 + (-u).exp()));
        }
    }
    out
}

/// Means of 2 × 2 points of rows of `w`.
pub fn halve(x: &[f64], w: usize) -> Vec<f64> {
    let of = |i: usize| {
        let (y, at) = (i / (w / 2), 2 * (i % (w / 2)));
        0.25 * [0, 1, w, w + 1].iter().map(|step| x[2 * y * w + at + step]).sum::<f64>()
    };
    (0..x.len() / 4).map(of).collect()
}

/// Channels of `a`, every point four times, then those of `b`; `[h, w]` are the points of `b`.
pub fn double_and_join(a: &[f64], b: &[f64], [first, second]: [usize; 2], [h, w]: [usize; 2]) -> Vec<f64> {
    let n = h * w;
    let mut out = Vec::new();
    for (a, b) in a.chunks(first * n / 4).zip(b.chunks(second * n)) {
        out.extend((0..first * n).map(|i| a[i / n * (n / 4) + i % n / w / 2 * (w / 2) + i % w / 2]));
        out.extend_from_slice(b);
    }
    out
}

/// 2 × 2 points of `[images, h, w]` as four channels `[images, 4, h/2, w/2]`, or `back`.
pub fn shuffle(x: &[f64], [h, w]: [usize; 2], back: bool) -> Vec<f64> {
    let mut out = vec![0.0; x.len()];
    for i in 0..x.len() {
        let (image, y, at) = (i / (h * w), i / w % h, i % w);
        let deep = ((image * 4 + y % 2 * 2 + at % 2) * (h / 2) + y / 2) * (w / 2) + at / 2;
        if back { out[i] = x[deep] } else { out[deep] = x[i] }
    }
    out
}
