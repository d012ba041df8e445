//! Coefficients of real functions on a circle, and the way between them and values at points.

use std::f64::consts::TAU;
use std::sync::Arc;

use num_complex::Complex64;
use rustfft::{Fft, FftPlanner};

/// The modes 0 ≤ k ≤ m of functions at `n` points; those of −k are the conjugates. Coefficients are means,
/// u(x) = Σ û_k exp(iκx) with κ = 2πk/length.
#[derive(Debug, Clone, PartialEq)]
pub struct Circle {
    /// Points.
    pub n: usize,
    /// Largest mode.
    pub m: usize,
    /// Length.
    pub length: f64,
}

impl Circle {
    /// Modes below a third of the points: products of two functions are free of aliasing in them (Orszag 1971).
    pub fn of_products(n: usize, length: f64) -> Self {
        Self { n, m: n.div_ceil(3) - 1, length }
    }

    /// All modes that the points tell apart.
    pub fn whole(n: usize, length: f64) -> Self {
        Self { n, m: (n - 1) / 2, length }
    }

    /// Wave number of a mode.
    pub fn kappa(&self, k: usize) -> f64 {
        TAU * k as f64 / self.length
    }

    /// Wave numbers of all modes.
    pub fn kappas(&self) -> impl Iterator<Item = f64> {
        (0..=self.m).map(|k| self.kappa(k))
    }

    /// Mean of ½u² in each mode, k and −k together.
    pub fn energies(&self, u: &[Complex64]) -> impl Iterator<Item = f64> {
        u.iter().enumerate().map(|(k, u)| if k == 0 { 0.5 } else { 1.0 } * u.norm_sqr())
    }
}

/// Transforms of real functions at n points, with the even points as real and the odd ones as imaginary parts of n/2 complex
/// numbers; n odd goes by n of them.
#[derive(Clone)]
pub struct Fourier {
    n: usize,
    /// 1 + i exp(2πik/n) and 1 − i exp(2πik/n); empty for an odd n.
    twiddles: Vec<[Complex64; 2]>,
    forward: Arc<dyn Fft<f64>>,
    inverse: Arc<dyn Fft<f64>>,
}

impl std::fmt::Debug for Fourier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fourier").field("n", &self.n).finish_non_exhaustive()
    }
}

/// Memory of one transform under way.
#[derive(Debug, Clone)]
pub struct Work {
    values: Vec<Complex64>,
    scratch: Vec<Complex64>,
}

impl Work {
    /// Bytes of one, at most.
    pub fn bytes(n: usize) -> u64 {
        16 * 8 * n as u64
    }

    /// Every value, in order where n is even; where it is odd, zeros (to rounding) stand between them.
    pub fn numbers(&mut self) -> &mut [f64] {
        bytemuck::cast_slice_mut(&mut self.values)
    }
}

impl Fourier {
    /// For `n` points.
    pub fn new(n: usize) -> Self {
        let (mut planner, even) = (FftPlanner::new(), n.is_multiple_of(2));
        let len = if even { n / 2 } else { n };
        let twiddle = |k: usize| {
            let turned = Complex64::I * Complex64::cis(TAU * k as f64 / n as f64);
            [1.0 + turned, 1.0 - turned]
        };
        let twiddles = if even { (0..len).map(twiddle).collect() } else { Vec::new() };
        Self { n, twiddles, forward: planner.plan_fft_forward(len), inverse: planner.plan_fft_inverse(len) }
    }

    /// Memory for it.
    pub fn work(&self) -> Work {
        let scratch = self.forward.get_inplace_scratch_len().max(self.inverse.get_inplace_scratch_len());
        let zero = |n: usize| vec![Complex64::ZERO; n];
        Work { values: zero(self.forward.len()), scratch: zero(scratch) }
    }

    /// The values of a function with coefficients `u`, of modes below n/2.
    pub fn to_values(&self, u: &[Complex64], work: &mut Work) {
        let (z, len) = (&mut work.values, self.forward.len());
        z[u.len()..].fill(Complex64::ZERO);
        if self.twiddles.is_empty() {
            z[..u.len()].copy_from_slice(u);
            u.iter().enumerate().skip(1).for_each(|(k, u)| z[len - k] = u.conj());
        } else {
            // With w = exp(2πik/n), Z_k = (Û_k + conj Û_{n/2−k}) + i w (Û_k − conj Û_{n/2−k}).
            for ((z, u), [plus, _]) in z.iter_mut().zip(u).zip(&self.twiddles) {
                *z = u * plus;
            }
            for (k, (u, [_, minus])) in u.iter().zip(&self.twiddles).enumerate().skip(1) {
                z[len - k] += (u * minus).conj();
            }
        }
        self.inverse.process_with_scratch(z, &mut work.scratch);
    }

    /// The coefficients `u` of the values, which are lost.
    pub fn to_coefficients(&self, work: &mut Work, u: &mut [Complex64]) {
        let (z, len) = (&mut work.values, self.forward.len());
        self.forward.process_with_scratch(z, &mut work.scratch);
        if self.twiddles.is_empty() {
            let scale = 1.0 / self.n as f64;
            u.iter_mut().zip(z).for_each(|(u, z)| *u = *z * scale);
            return;
        }
        // 2Û_k = Z_k conj(1 + iw) + conj(Z_{n/2−k} (1 − iw)).
        let scale = 0.5 / self.n as f64;
        for (k, (u, [plus, minus])) in u.iter_mut().zip(&self.twiddles).enumerate() {
            let mirror = z[if k == 0 { 0 } else { len - k }];
            *u = (z[k] * plus.conj() + (mirror * minus).conj()) * scale;
        }
    }

    /// The values of a function, in order.
    pub fn values(&self, u: &[Complex64]) -> Vec<f64> {
        let mut work = self.work();
        self.to_values(u, &mut work);
        let every = if self.twiddles.is_empty() { 2 } else { 1 };
        work.numbers().iter().step_by(every).copied().collect()
    }

    /// The coefficients up to `m` of a function with these values.
    pub fn coefficients(&self, values: &[f64], m: usize) -> Vec<Complex64> {
        let mut work = self.work();
        let every = if self.twiddles.is_empty() { 2 } else { 1 };
        work.numbers().iter_mut().step_by(every).zip(values).for_each(|(to, value)| *to = *value);
        let mut u = vec![Complex64::ZERO; m + 1];
        self.to_coefficients(&mut work, &mut u);
        u
    }
}
