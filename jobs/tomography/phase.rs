//! Phase retrieval from a single distance: propagation turns the phase that an object shifts into bright and dark fringes, and a low-pass
//! filter of the transmissions turns them back into attenuation.
//!
//! For a homogeneous object with δ/β and the transport-of-intensity equation, T = (1 − ℓ² ∇²) exp(−μ t) with ℓ² = λ z (δ/β) / 4π, so that
//! μ t = −ln F⁻¹[F(T) / (1 + ℓ² |k|²)]. Source: D. Paganin et al., J. Microscopy 206 (2002) 33, equation 12.
//!
//! The filter's kernel falls as exp(−r/ℓ), so a projection is filtered in tiles of rows, each with the rows beside it that the kernel
//! reaches. Tiles are counted from the detector's first row: a row has the same bits whoever asks for it.

use std::f64::consts::TAU;
use std::ops::Range;
use std::sync::Arc;

use rustfft::num_complex::Complex;
use rustfft::{Fft, FftPlanner};

/// Part of the kernel beyond its reach: with the ringing of frequencies that end, less than f32 rounds away.
const TAIL: f64 = 1e-9;
/// Rows of a tile, at least.
const TILE: usize = 64;

/// Phase retrieval on a detector of some size.
#[derive(Debug, Clone, PartialEq)]
pub struct Paganin {
    /// ℓ along rows and columns, in pixels.
    blur: [f64; 2],
    n_rows: usize,
    n_cols: usize,
}

/// Phase retrieval of one tile.
pub struct Tile<'a> {
    paganin: &'a Paganin,
    /// Its rows on the detector.
    pub rows: Range<usize>,
    /// Its rows and those that it needs beside them, as far as the detector goes.
    pub halo: Range<usize>,
    filter: Filter,
}

/// The filter of images of one size.
struct Filter {
    /// Of the image with what surrounds it.
    shape: [usize; 2],
    /// For transforms of its lines and of its columns: to frequencies and back.
    lines: [Arc<dyn Fft<f64>>; 2],
    columns: [Arc<dyn Fft<f64>>; 2],
}

impl Paganin {
    /// With ℓ along rows and columns in pixels, both finite and not negative.
    pub fn new(blur: [f64; 2], n_rows: usize, n_cols: usize) -> Self {
        Self { blur, n_rows, n_cols }
    }

    /// Rows and columns that the kernel reaches to each side.
    pub fn reach(&self) -> [usize; 2] {
        self.blur.map(|blur| (-TAIL.ln() * blur).ceil() as usize + 1)
    }

    /// Tiles of rows that make up the detector; each is filtered on its own.
    fn n_tiles(&self) -> usize {
        // Twice as much work as without rows beside the tile, at most.
        (self.n_rows / TILE.max(2 * self.reach()[0])).max(1)
    }

    /// Rows of a tile, at most: what is filtered at once, whoever asks for some of them.
    pub fn tile_rows(&self) -> usize {
        self.n_rows.div_ceil(self.n_tiles())
    }

    /// The tiles that have some of these rows.
    pub fn tiles(&self, rows: &Range<usize>) -> impl DoubleEndedIterator<Item = Tile<'_>> {
        let (n, start, end) = (self.n_tiles(), rows.start, rows.end);
        let tile = move |k: usize| k * self.n_rows / n..(k + 1) * self.n_rows / n;
        (0..n).map(tile).filter(move |tile| tile.start < end && start < tile.end).map(|tile| self.tile(tile))
    }

    fn tile(&self, rows: Range<usize>) -> Tile<'_> {
        let reach = self.reach()[0];
        let halo = rows.start.saturating_sub(reach)..(rows.end + reach).min(self.n_rows);
        Tile { paganin: self, halo, filter: Filter::new(self.padded(rows.len())), rows }
    }

    /// Bytes of the largest tile's image while it is filtered.
    pub fn image_bytes(&self) -> u64 {
        let [m, n] = self.padded(self.n_rows.div_ceil(self.n_tiles()));
        2 * 16 * (m * n) as u64
    }

    /// Rows of the largest tile with its halo.
    pub fn most_rows(&self) -> usize {
        self.n_rows.min(self.n_rows.div_ceil(self.n_tiles()) + 2 * self.reach()[0])
    }

    /// Size of a tile's image with its surroundings.
    fn padded(&self, rows: usize) -> [usize; 2] {
        let [v, u] = self.reach();
        [smooth(rows + 2 * v), smooth(self.n_cols + 2 * u)]
    }
}

impl Tile<'_> {
    /// exp(−μ t) of the tile, `[rows, n_cols]`, from transmissions `[halo, n_cols]`. Beyond the detector the values at its edges go on.
    ///
    /// # Panics
    /// The length is not that of the halo.
    pub fn retrieve(&self, transmissions: &[f64]) -> Vec<f64> {
        let Paganin { blur, n_cols, .. } = *self.paganin;
        assert_eq!(transmissions.len(), self.halo.len() * n_cols, "transmissions are [halo, n_cols]");
        let [v, u] = self.paganin.reach();
        let [m, n] = self.filter.shape;
        let column = |j: usize| j.saturating_sub(u).min(n_cols - 1);
        let mut padded = vec![Complex::new(0.0, 0.0); m * n];
        for (i, line) in padded.chunks_mut(n).enumerate() {
            // Row rows.start + i - v of the detector, or the nearest that there is.
            let row = (self.rows.start + i).saturating_sub(v).clamp(self.halo.start, self.halo.end - 1);
            let values = &transmissions[(row - self.halo.start) * n_cols..][..n_cols];
            line.iter_mut().enumerate().for_each(|(j, value)| *value = Complex::new(values[column(j)], 0.0));
        }
        self.filter.apply(&mut padded, blur);
        let kept = padded.chunks(n).skip(v).take(self.rows.len());
        kept.flat_map(|line| line[u..u + n_cols].iter().map(|value| value.re)).collect()
    }
}

impl Filter {
    fn new(shape: [usize; 2]) -> Self {
        let mut planner = FftPlanner::new();
        let mut pair = |n| [planner.plan_fft_forward(n), planner.plan_fft_inverse(n)];
        Self { shape, lines: pair(shape[1]), columns: pair(shape[0]) }
    }

    /// Multiplies frequency (f, g), in cycles per pixel, by 1/(1 + (2π)² (ℓ_v² f² + ℓ_u² g²)). Per value: 2 transforms each way, 64 bytes.
    fn apply(&self, image: &mut [Complex<f64>], blur: [f64; 2]) {
        let [m, n] = self.shape;
        let mut turned = vec![Complex::new(0.0, 0.0); m * n];
        self.lines[0].process(image);
        transpose(image, &mut turned, m, n);
        self.columns[0].process(&mut turned);
        let term = |k: usize, n: usize, blur: f64| (TAU * blur * k.min(n - k) as f64 / n as f64).powi(2);
        let scale = (m * n) as f64;
        for (j, column) in turned.chunks_mut(m).enumerate() {
            let along_u = 1.0 + term(j, n, blur[1]);
            column.iter_mut().enumerate().for_each(|(i, value)| *value /= scale * (along_u + term(i, m, blur[0])));
        }
        self.columns[1].process(&mut turned);
        transpose(&turned, image, n, m);
        self.lines[1].process(image);
    }
}

/// `[m, n]` to `[n, m]`, in blocks that stay in the first cache.
fn transpose(from: &[Complex<f64>], to: &mut [Complex<f64>], m: usize, n: usize) {
    const BLOCK: usize = 16;
    for i0 in (0..m).step_by(BLOCK) {
        for j0 in (0..n).step_by(BLOCK) {
            for i in i0..(i0 + BLOCK).min(m) {
                for j in j0..(j0 + BLOCK).min(n) {
                    to[j * m + i] = from[i * n + j];
                }
            }
        }
    }
}

/// The next number that has no prime factor above 5: transforms of such lengths are fast.
fn smooth(n: usize) -> usize {
    let is_smooth = |mut n: usize| {
        for factor in [2, 3, 5] {
            while n.is_multiple_of(factor) {
                n /= factor;
            }
        }
        n == 1
    };
    (n.max(1)..).find(|n| is_smooth(*n)).unwrap_or(n)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: [usize; 2] = [150, 96];
    /// (row, column, depth, width) of dips in exp(−μ t).
    const BUMPS: [(f64, f64, f64, f64); 3] = [(70.3, 47.9, 0.5, 4.0), (90.0, 50.2, 0.2, 5.5), (52.7, 46.0, 0.3, 3.0)];

    /// exp(−μ t) = 1 − Σ a g with Gaussians g, and its T = (1 − ℓ_v² ∂_v² − ℓ_u² ∂_u²) exp(−μ t) in closed form:
    /// ∂_v² g = (v²/s⁴ − 1/s²) g.
    fn case(blur: [f64; 2]) -> (Vec<f64>, Vec<f64>) {
        let (mut contact, mut propagated) = (vec![1.0; SHAPE[0] * SHAPE[1]], vec![1.0; SHAPE[0] * SHAPE[1]]);
        for i in 0..contact.len() {
            for (row, column, a, s) in BUMPS {
                let (v, u) = ((i / SHAPE[1]) as f64 - row, (i % SHAPE[1]) as f64 - column);
                let g = a * (-(v * v + u * u) / (2.0 * s * s)).exp();
                let second = |x: f64| x * x / s.powi(4) - 1.0 / (s * s);
                contact[i] -= g;
                propagated[i] -= g - (blur[0].powi(2) * second(v) + blur[1].powi(2) * second(u)) * g;
            }
        }
        (contact, propagated)
    }

    /// The object comes back from its fringes, which overshoot: to 1e-10 where one tile is the whole detector.
    #[test]
    fn a_propagated_object_is_retrieved_to_1e_10() {
        for blur in [[2.0, 2.0], [3.5, 1.25], [0.0, 0.0]] {
            let (contact, propagated) = case(blur);
            let paganin = Paganin::new(blur, SHAPE[0], SHAPE[1]);
            // One tile, whatever the blur.
            let found = paganin.tile(0..SHAPE[0]).retrieve(&propagated);
            assert!(blur[0] == 0.0 || propagated.iter().any(|t| *t > 1.005), "fringes");
            let off = found.iter().zip(&contact).fold(0f64, |m, (a, b)| m.max((a.ln() - b.ln()).abs()));
            assert!(off < 1e-10, "{blur:?}: {off:e}");
        }
    }

    /// Tiles with their halos give what the whole gives, to what f32 rounds away, even where a bump is cut; any rows that are asked for lie in the
    /// same tiles.
    #[test]
    fn tiles_give_what_the_whole_gives() {
        let blur = [1.5, 1.5];
        let (contact, propagated) = case(blur);
        let paganin = Paganin::new(blur, SHAPE[0], SHAPE[1]);
        let ranges =
            |rows: Range<usize>| paganin.tiles(&rows).map(|tile| (tile.rows.start, tile.rows.end)).collect::<Vec<_>>();
        assert_eq!(ranges(0..SHAPE[0]), [(0, 75), (75, 150)]);
        assert_eq!(ranges(70..71), [(0, 75)]);
        assert_eq!(ranges(74..76), [(0, 75), (75, 150)]);
        for tile in paganin.tiles(&(0..SHAPE[0])) {
            assert!(tile.halo.len() < SHAPE[0] && tile.halo.len() <= paganin.most_rows());
            let found = tile.retrieve(&propagated[tile.halo.start * SHAPE[1]..tile.halo.end * SHAPE[1]]);
            assert_eq!(found.len(), tile.rows.len() * SHAPE[1]);
            for (a, b) in found.iter().zip(&contact[tile.rows.start * SHAPE[1]..]) {
                assert!((a - b).abs() < 1e-7, "{a} {b}");
            }
        }
    }

    /// A detector of constant values keeps them up to its edges, and values that stop at an edge go on beyond it.
    #[test]
    fn edges_go_on() {
        let paganin = Paganin::new([4.0, 4.0], 7, 9);
        let constant = paganin.tile(0..7).retrieve(&[0.3; 63]);
        assert!(constant.iter().all(|t| (t - 0.3).abs() < 1e-14));
        // Along a step at the middle the filter is (1 ± exp(−|x|/ℓ))/2 away from it; at the edge what lies outside counts like its last value.
        let wide = Paganin::new([1.0, 4.0], 3, 400);
        let step: Vec<f64> = (0..1200).map(|i| if i % 400 < 200 { 0.0 } else { 1.0 }).collect();
        let found = wide.tile(0..3).retrieve(&step);
        for (j, value) in found[400..800].iter().enumerate() {
            let x = j as f64 - 199.5;
            let exact = if x < 0.0 { 0.5 * (x / 4.0).exp() } else { 1.0 - 0.5 * (-x / 4.0).exp() };
            assert!((value - exact).abs() < 0.02 || x.abs() < 5.0, "{j}: {value} {exact}");
        }
        assert!(found[400].abs() < 1e-6 && (found[799] - 1.0).abs() < 1e-6);
    }

    #[test]
    fn smooth_numbers() {
        assert_eq!([1, 7, 11, 13, 31, 97, 121].map(smooth), [1, 8, 12, 15, 32, 100, 125]);
    }
}
