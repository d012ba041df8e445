//! Removal of stripes from a sinogram; a stripe becomes a ring in the slice.
//!
//! A detector column that answers a little too strongly or weakly adds the same offset to every
//! angle: a stripe along θ; one that is dead or restless makes one too. The methods differ in what they assume about the rest.

use rustfft::{FftPlanner, num_complex::Complex};

use super::stripes;

/// How stripes are found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rings {
    /// Sort each column along θ, take the median over `size` columns at each rank, and put the
    /// values back: columns that differ in level are aligned, edges of the object survive.
    /// Source: N. T. Vo, R. C. Atwood, M. Drakopoulos, Optics Express 26 (2018) 28396, algorithm 3.
    Sorting {
        /// Columns in the median; wider than the widest stripe, 21 to 31 as a rule.
        size: usize,
    },
    /// Damp the lowest frequencies along θ in the details across columns of a db5 wavelet
    /// transform: factor 1 − exp(−k² / 2σ²) for frequency k.
    /// Source: B. Münch et al., Optics Express 17 (2009) 8567.
    FourierWavelet {
        /// Levels; stripes up to about 2^levels columns wide.
        levels: usize,
        /// Width of the damped band in cycles per scan.
        sigma: f64,
    },
    /// Subtract from each column the difference of its mean over θ from the smooth course of the
    /// means of its neighbours. The fastest; takes what is constant along θ for a stripe.
    ColumnMean {
        /// Columns that make the smooth course.
        size: usize,
    },
    /// Wide stripes: columns whose level stands out are replaced by what [`Rings::Sorting`] makes of them, the others divided by their level.
    /// Source: Vo 2018 (as above), algorithms 4 and 5.
    Large {
        /// How far a stripe stands out, in parts of the noise; 3 as a rule.
        snr: f64,
        /// Columns in the median; wider than the widest stripe, 51 as a rule.
        size: usize,
    },
    /// Dead and restless columns: replaced by straight lines from side to side, and then as [`Rings::Large`].
    /// Source: Vo 2018, algorithms 4 and 6.
    Dead {
        /// As of [`Rings::Large`].
        snr: f64,
        /// As of [`Rings::Large`].
        size: usize,
    },
    /// Dead, then wide, then narrow stripes.
    /// Source: Vo 2018, algorithms 6, 5 and 3.
    All {
        /// As of [`Rings::Large`].
        snr: f64,
        /// As of [`Rings::Large`].
        size: usize,
        /// As of [`Rings::Sorting`].
        small: usize,
    },
    /// Offsets of columns that make their means smooth, by least squares in closed form.
    /// Source: S. Titarenko, P. J. Withers, A. Yagola, Appl. Math. Lett. 23 (2010) 1489.
    Regularised {
        /// Weight of the offsets' squares: 1/√α columns is the width up to which something counts as a stripe.
        alpha: f64,
        /// Parts of the angles with offsets of their own, for stripes that change.
        chunks: usize,
    },
}

/// Removes stripes from one sinogram `[n_angles, n_cols]`, row-major, in place. An empty sinogram,
/// a window of 1 or 0 levels leave it as it is. `attenuation` is −ln T of the value 1: some methods look at transmissions.
///
/// # Panics
/// The length is no multiple of `n_cols`.
pub fn remove(sinogram: &mut [f32], n_cols: usize, method: Rings, attenuation: f64) {
    if sinogram.is_empty() {
        return;
    }
    assert!(sinogram.len().is_multiple_of(n_cols), "a sinogram is [n_angles, n_cols]");
    let on_transmissions = matches!(method, Rings::Large { .. } | Rings::Dead { .. } | Rings::All { .. });
    if on_transmissions {
        sinogram.iter_mut().for_each(|p| *p = (-f64::from(*p) * attenuation).exp() as f32);
    }
    match method {
        Rings::Sorting { size } => sorting(sinogram, n_cols, size),
        Rings::FourierWavelet { levels, sigma } => fourier_wavelet(sinogram, n_cols, levels, sigma),
        Rings::ColumnMean { size } => column_mean(sinogram, n_cols, size),
        Rings::Large { snr, size } => stripes::large(sinogram, n_cols, snr, size),
        Rings::Dead { snr, size } => {
            stripes::dead(sinogram, n_cols, snr, size);
            stripes::large(sinogram, n_cols, snr, size);
        }
        Rings::All { snr, size, small } => {
            stripes::dead(sinogram, n_cols, snr, size);
            stripes::large(sinogram, n_cols, snr, size);
            sorting(sinogram, n_cols, small);
        }
        Rings::Regularised { alpha, chunks } => stripes::regularised(sinogram, n_cols, alpha, chunks),
    }
    if on_transmissions {
        let least = f64::from(f32::MIN_POSITIVE);
        sinogram.iter_mut().for_each(|t| *t = (-f64::from(*t).max(least).ln() / attenuation) as f32);
    }
}

/// Median over `size` (made odd) neighbours, mirrored at the ends.
pub(super) fn median_filter(line: &[f32], size: usize, window: &mut Vec<f32>, out: &mut [f32]) {
    let half = (size / 2) as isize;
    for (j, out) in out.iter_mut().enumerate() {
        window.clear();
        window.extend((-half..=half).map(|d| line[mirrored(j as isize + d, line.len())]));
        *out = *window.select_nth_unstable_by(half as usize, f32::total_cmp).1;
    }
}

/// Index into a line of length `n` continued by reflection (… 1 0 | 0 1 … n−1 | n−1 n−2 …).
pub(super) fn mirrored(i: isize, n: usize) -> usize {
    let k = i.rem_euclid(2 * n as isize) as usize;
    if k < n { k } else { 2 * n - 1 - k }
}

/// `sorted[rank, j]`, and for each column j the angle of each rank.
pub(super) fn sort_columns(sinogram: &[f32], n_cols: usize) -> (Vec<f32>, Vec<Vec<usize>>) {
    let n_angles = sinogram.len() / n_cols;
    let mut order: Vec<Vec<usize>> = Vec::with_capacity(n_cols);
    let mut sorted = vec![0.0; sinogram.len()];
    for j in 0..n_cols {
        let mut angles: Vec<usize> = (0..n_angles).collect();
        angles.sort_by(|&a, &b| sinogram[a * n_cols + j].total_cmp(&sinogram[b * n_cols + j]));
        for (rank, &angle) in angles.iter().enumerate() {
            sorted[rank * n_cols + j] = sinogram[angle * n_cols + j];
        }
        order.push(angles);
    }
    (sorted, order)
}

fn sorting(sinogram: &mut [f32], n_cols: usize, size: usize) {
    let (sorted, order) = sort_columns(sinogram, n_cols);
    let mut window = Vec::with_capacity(size + 1);
    let mut level = vec![0.0; n_cols];
    for (rank, line) in sorted.chunks(n_cols).enumerate() {
        median_filter(line, size, &mut window, &mut level);
        for (j, &value) in level.iter().enumerate() {
            sinogram[order[j][rank] * n_cols + j] = value;
        }
    }
}

fn column_mean(sinogram: &mut [f32], n_cols: usize, size: usize) {
    let n_angles = (sinogram.len() / n_cols) as f64;
    let mut sums = vec![0.0_f64; n_cols];
    for view in sinogram.chunks(n_cols) {
        for (sum, &value) in sums.iter_mut().zip(view) {
            *sum += f64::from(value);
        }
    }
    let means: Vec<f32> = sums.iter().map(|sum| (sum / n_angles) as f32).collect();
    // The median over the means of the pairs j ± d: on a slope each pair gives the value at j, where
    // a plain median would be shifted by the stripe.
    let half = (size / 2).min(n_cols - 1);
    let smooth: Vec<f32> = (0..n_cols)
        .map(|j| {
            let reach = half.min(j).min(n_cols - 1 - j);
            let mut pairs: Vec<f32> = (1..=reach).map(|d| 0.5 * (means[j - d] + means[j + d])).collect();
            match pairs.len() {
                0 => means[j],
                n => *pairs.select_nth_unstable_by(n / 2, f32::total_cmp).1,
            }
        })
        .collect();
    for view in sinogram.chunks_mut(n_cols) {
        for (j, value) in view.iter_mut().enumerate() {
            *value -= means[j] - smooth[j];
        }
    }
}

/// Low-pass filter of Daubechies' wavelet with 5 vanishing moments.
/// Source: I. Daubechies, Ten Lectures on Wavelets (1992), table 6.1, N = 5.
const DB5: [f64; 10] = [
    0.160_102_397_974_192_93,
    0.603_829_269_797_189_7,
    0.724_308_528_437_772_9,
    0.138_428_145_901_320_74,
    -0.242_294_887_066_382_03,
    -0.032_244_869_584_638_37,
    0.077_571_493_840_045_72,
    -0.006_241_490_212_798_274,
    -0.012_580_751_999_081_999,
    0.003_335_725_285_473_771_2,
];

/// High-pass tap k: (−1)^k h[9 − k].
fn high(k: usize) -> f64 {
    if k.is_multiple_of(2) { DB5[9 - k] } else { -DB5[9 - k] }
}

/// One step of the periodic transform of `line` (even length): lows in the first half of `out`,
/// details in the second.
fn analyse(line: &[f64], out: &mut [f64]) {
    let (n, half) = (line.len(), line.len() / 2);
    for i in 0..half {
        let (mut low, mut detail) = (0.0, 0.0);
        for (k, tap) in DB5.iter().enumerate() {
            let value = line[(2 * i + k) % n];
            low += tap * value;
            detail += high(k) * value;
        }
        (out[i], out[half + i]) = (low, detail);
    }
}

/// The inverse (and transpose) of [`analyse`].
fn synthesise(line: &[f64], out: &mut [f64]) {
    let (n, half) = (line.len(), line.len() / 2);
    out.fill(0.0);
    for i in 0..half {
        for (k, tap) in DB5.iter().enumerate() {
            out[(2 * i + k) % n] += tap * line[i] + high(k) * line[half + i];
        }
    }
}

/// Applies `step` to the first `n` entries of each of the first `m` rows of `image` (stride
/// `stride`), or of its columns.
fn along(image: &mut [f64], stride: usize, [m, n]: [usize; 2], columns: bool, step: fn(&[f64], &mut [f64])) {
    let (mut line, mut out) = (vec![0.0; n], vec![0.0; n]);
    for i in 0..m {
        let at = |k: usize| if columns { k * stride + i } else { i * stride + k };
        for (k, value) in line.iter_mut().enumerate() {
            *value = image[at(k)];
        }
        step(&line, &mut out);
        for (k, value) in out.iter().enumerate() {
            image[at(k)] = *value;
        }
    }
}

fn fourier_wavelet(sinogram: &mut [f32], n_cols: usize, levels: usize, sigma: f64) {
    let n_angles = sinogram.len() / n_cols;
    // Mirrored copies make both axes periodic and smooth; then up to a multiple of 2^levels.
    let padded = |n: usize| (2 * n).next_multiple_of(1 << levels);
    let (m, n) = (padded(n_angles), padded(n_cols));
    let mut image = vec![0.0_f64; m * n];
    // What exceeds 2 n is shared between both ends of the mirror.
    let source = |i: usize, n: usize, total: usize| {
        let excess = total - 2 * n;
        if i < n {
            i
        } else if i < n + excess / 2 {
            n - 1
        } else {
            (total - 1 - i).min(n - 1)
        }
    };
    for (i, line) in image.chunks_mut(n).enumerate() {
        let view = &sinogram[source(i, n_angles, m) * n_cols..][..n_cols];
        for (j, value) in line.iter_mut().enumerate() {
            *value = f64::from(view[source(j, n_cols, n)]);
        }
    }
    for level in 0..levels {
        let (rows, cols) = (m >> level, n >> level);
        along(&mut image, n, [rows, cols], false, analyse);
        along(&mut image, n, [cols, rows], true, analyse);
        // Low along θ, detail across columns: rows 0..rows/2, columns cols/2..cols.
        damp(&mut image, n, rows / 2, cols / 2..cols, sigma);
    }
    for level in (0..levels).rev() {
        let (rows, cols) = (m >> level, n >> level);
        along(&mut image, n, [cols, rows], true, synthesise);
        along(&mut image, n, [rows, cols], false, synthesise);
    }
    for (view, line) in sinogram.chunks_mut(n_cols).zip(image.chunks(n)) {
        for (value, filtered) in view.iter_mut().zip(line) {
            *value = *filtered as f32;
        }
    }
}

/// Multiplies frequency k along the first `rows` rows of the given columns by 1 − exp(−k² / 2σ²).
fn damp(image: &mut [f64], stride: usize, rows: usize, columns: std::ops::Range<usize>, sigma: f64) {
    let mut planner = FftPlanner::new();
    let (forward, inverse) = (planner.plan_fft_forward(rows), planner.plan_fft_inverse(rows));
    let mut line = vec![Complex::new(0.0, 0.0); rows];
    for j in columns {
        for (i, value) in line.iter_mut().enumerate() {
            *value = Complex::new(image[i * stride + j], 0.0);
        }
        forward.process(&mut line);
        for (i, value) in line.iter_mut().enumerate() {
            let k = i.min(rows - i) as f64;
            *value *= (1.0 - (-k * k / (2.0 * sigma * sigma)).exp()) / rows as f64;
        }
        inverse.process(&mut line);
        for (i, value) in line.iter().enumerate() {
            image[i * stride + j] = value.re;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use convoke_data::problems::phantom::Phantom;
    use convoke_data::problems::rays::ParallelRays;

    const N: usize = 512;
    const ANGLES: usize = 180;

    /// Sinogram of the object's middle slice.
    fn clean(object: &Phantom) -> Vec<f32> {
        let angles = (0..ANGLES).map(|k| std::f64::consts::PI * k as f64 / ANGLES as f64).collect();
        let mut rays = ParallelRays::centred(angles, 1, N);
        rays.axis_col += 3.3;
        let scale = 5.0;
        object.line_integrals(&rays, 0..1).iter().map(|p| p * scale).collect()
    }

    /// Isolated columns, one and two wide, that read too high or too low.
    fn stripes() -> Vec<f32> {
        let mut offsets = vec![0.0; N];
        for (j, offset) in [(130, 0.1), (161, -0.08), (162, -0.08), (240, 0.05), (317, 0.12), (400, -0.1)] {
            offsets[j] = offset;
        }
        offsets
    }

    fn rms(values: impl Iterator<Item = f32>) -> f64 {
        let (sum, n) = values.fold((0.0, 0), |(sum, n), v| (sum + f64::from(v).powi(2), n + 1));
        (sum / f64::from(n)).sqrt()
    }

    /// What makes rings: the offsets minus their mean over 31 columns (the rest is faint shading).
    fn ring_part(offsets: &[f32]) -> Vec<f32> {
        let n = offsets.len() as isize;
        let mean = |j: isize| (-15..=15).map(|d| offsets[mirrored(j + d, n as usize)]).sum::<f32>() / 31.0;
        (0..n).map(|j| offsets[j as usize] - mean(j)).collect()
    }

    /// (stripes left / stripes before, change of the clean sinogram / its rms).
    fn quality(object: &Phantom, method: Rings) -> (f64, f64) {
        let (clean, stripes) = (clean(object), stripes());
        let mut striped: Vec<f32> = clean.iter().enumerate().map(|(k, v)| v + stripes[k % N]).collect();
        let mut untouched = clean.clone();
        remove(&mut striped, N, method, 1.0);
        remove(&mut untouched, N, method, 1.0);
        let left: Vec<f32> = (0..N)
            .map(|j| {
                let sum: f32 = (0..ANGLES).map(|a| striped[a * N + j] - untouched[a * N + j]).sum();
                sum / ANGLES as f32
            })
            .collect();
        let change = untouched.iter().zip(&clean).map(|(a, b)| a - b);
        let left = rms(ring_part(&left).into_iter()) / rms(ring_part(&stripes).into_iter());
        (left, rms(change) / rms(clean.iter().copied()))
    }

    /// On the head: tenfold for two methods. The plain median of `Sorting` is moved by the stripe
    /// itself wherever the sorted values rise from column to column: fourfold is what it holds here.
    #[test]
    fn stripes_shrink_and_the_object_stays() {
        let head = Phantom::shepp_logan_3d();
        for (method, max_left, max_change) in [
            (Rings::Sorting { size: 21 }, 0.25, 0.03),
            (Rings::ColumnMean { size: 11 }, 0.1, 0.02),
            (Rings::FourierWavelet { levels: 5, sigma: 1.0 }, 0.1, 0.06),
        ] {
            let (left, change) = quality(&head, method);
            assert!(left < max_left, "{method:?}: {left} of the stripes left");
            assert!(change < max_change, "{method:?}: the object changed by {change}");
        }
    }

    #[test]
    fn db5_is_orthogonal_and_its_inverse_exact() {
        let line: Vec<f64> = (0..24).map(|k| f64::from(k * k % 17)).collect();
        let (mut transformed, mut back) = (vec![0.0; 24], vec![0.0; 24]);
        analyse(&line, &mut transformed);
        let energy = |v: &[f64]| v.iter().map(|v| v * v).sum::<f64>();
        assert!((energy(&line) / energy(&transformed) - 1.0).abs() < 1e-12);
        synthesise(&transformed, &mut back);
        assert!(line.iter().zip(&back).all(|(a, b)| (a - b).abs() < 1e-10));
        // Five vanishing moments: details of a polynomial of degree 4 are 0 away from the wrap.
        let line: Vec<f64> = (0..24).map(|k| (f64::from(k) / 10.0).powi(4)).collect();
        analyse(&line, &mut transformed);
        assert!(transformed[12..19].iter().all(|detail| detail.abs() < 1e-9));
    }

    #[test]
    fn odd_and_small_sinograms_survive() {
        for (n_angles, n_cols) in [(1, 1), (1, 7), (7, 1), (5, 3), (37, 41)] {
            for method in [
                Rings::Sorting { size: 31 },
                Rings::ColumnMean { size: 31 },
                Rings::FourierWavelet { levels: 3, sigma: 2.0 },
                Rings::Large { snr: 3.0, size: 51 },
                Rings::Dead { snr: 3.0, size: 51 },
                Rings::All { snr: 3.0, size: 51, small: 21 },
                Rings::Regularised { alpha: 1e-3, chunks: 3 },
            ] {
                let mut sinogram = vec![1.5_f32; n_angles * n_cols];
                remove(&mut sinogram, n_cols, method, 0.7);
                assert!(sinogram.iter().all(|v| (v - 1.5).abs() < 1e-5), "{method:?} {n_angles} {n_cols}");
            }
        }
        remove(&mut [], 5, Rings::Sorting { size: 5 }, 1.0);
    }
}
