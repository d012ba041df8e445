//! Coefficients of real functions on a periodic square, and what sums over them mean.

use num_complex::Complex64;

/// The modes |k_x|, |k_y| ≤ m with m < n/3 of functions on `n` × `n` points: products of two of them are free of aliasing in
/// these modes (the 2/3 rule, Orszag 1971). Of a real function the half k_y ≥ 0 is kept, as `[k_y][k_x]` with k_x in the order
/// 0 … m, −m … −1; coefficients are means, w(x) = Σ ŵ_k exp(i κ·x) with κ = 2πk/length.
#[derive(Debug, Clone, PartialEq)]
pub struct Modes {
    /// Points along each axis.
    pub n: usize,
    /// Largest mode.
    pub m: usize,
    /// Side of the square.
    pub length: f64,
}

impl Modes {
    /// The modes that `n` points hold without aliasing.
    pub fn new(n: usize, length: f64) -> Self {
        Self { n, m: n.div_ceil(3) - 1, length }
    }

    /// |κ|² of all modes in their order.
    pub fn squares(&self) -> impl Iterator<Item = f64> + use<> {
        let unit = self.kappa(1).powi(2);
        self.each().map(move |(kx, ky)| unit * (kx * kx + ky * ky) as f64)
    }

    /// Coefficients of one function.
    pub fn len(&self) -> usize {
        (self.m + 1) * self.width()
    }

    /// Never: the mean is one.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Modes along x.
    pub fn width(&self) -> usize {
        2 * self.m + 1
    }

    /// Where a mode with k_y ≥ 0 lies.
    pub fn index(&self, kx: i64, ky: usize) -> usize {
        let column = if kx < 0 { self.width() as i64 + kx } else { kx };
        ky * self.width() + column as usize
    }

    /// Wave number of a mode along one axis.
    pub fn kappa(&self, k: i64) -> f64 {
        std::f64::consts::TAU * k as f64 / self.length
    }

    /// All modes `(k_x, k_y)` in their order.
    pub fn each(&self) -> impl Iterator<Item = (i64, i64)> + use<> {
        let m = self.m as i64;
        (0..=m).flat_map(move |ky| (0..=m).chain(-m..0).map(move |kx| (kx, ky)))
    }

    /// Where the modes of a column, and of its mirror image, lie among the n values of a row.
    pub fn places(&self, column: usize) -> (usize, usize) {
        let at = if column <= self.m { column } else { column + self.n - self.width() };
        (at, if at == 0 { 0 } else { self.n - at })
    }

    /// Σ over all modes, those with k_y < 0 included, of terms in their order that are the same for k and −k.
    pub fn sum(&self, terms: impl Iterator<Item = f64>) -> f64 {
        terms.enumerate().map(|(i, term)| if i < self.width() { term } else { 2.0 * term }).sum()
    }

    /// Mean of ½|u|² of the flow with vorticity `w`: Σ |ŵ|² / 2|κ|².
    pub fn energy(&self, w: &[Complex64]) -> f64 {
        let of_mode = |(w, square): (&Complex64, f64)| if square > 0.0 { 0.5 * w.norm_sqr() / square } else { 0.0 };
        self.sum(w.iter().zip(self.squares()).map(of_mode))
    }

    /// Mean of w².
    pub fn norm2(&self, w: &[Complex64]) -> f64 {
        self.sum(w.iter().map(Complex64::norm_sqr))
    }

    /// Mean of ½w².
    pub fn enstrophy(&self, w: &[Complex64]) -> f64 {
        0.5 * self.norm2(w)
    }

    /// Energy in shells: entry s holds the modes with s − ½ ≤ |k| < s + ½, up to the largest mode.
    pub fn energy_spectrum(&self, w: &[Complex64]) -> Vec<f64> {
        let mut shells = vec![0.0; self.m + 1];
        for (((kx, ky), square), w) in self.each().zip(self.squares()).zip(w) {
            let shell = ((kx * kx + ky * ky) as f64).sqrt().round() as usize;
            if square > 0.0 && shell <= self.m {
                shells[shell] += if ky == 0 { 0.5 } else { 1.0 } * w.norm_sqr() / square;
            }
        }
        shells
    }
}
