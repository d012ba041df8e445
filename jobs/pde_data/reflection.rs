//! Sine and cosine transforms on a square of nodes that has its boundary: functions reflected at their ends, two real ones in one
//! complex FFT.

use std::sync::Arc;

use num_complex::Complex64;
use rustfft::{Fft, FftPlanner};

/// Transforms of functions at the nodes j/(n − 1), j = 0 … n − 1, of each axis.
#[derive(Clone)]
pub struct Reflection {
    n: usize,
    fft: Arc<dyn Fft<f64>>,
}

impl std::fmt::Debug for Reflection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reflection").field("n", &self.n).finish_non_exhaustive()
    }
}

/// Memory of one transform under way.
#[derive(Debug, Clone)]
pub struct Work {
    line: Vec<Complex64>,
    scratch: Vec<Complex64>,
    turned: Vec<f64>,
}

impl Work {
    /// Bytes of one, at most.
    pub fn bytes(n: usize) -> u64 {
        (8 * n * n + 16 * 12 * n) as u64
    }
}

impl Reflection {
    /// For `n` nodes along each axis, those of the boundary included.
    pub fn new(n: usize) -> Self {
        Self { n, fft: FftPlanner::new().plan_fft_forward(2 * (n - 1)) }
    }

    /// Memory for it.
    pub fn work(&self) -> Work {
        let zero = |n: usize| vec![Complex64::ZERO; n];
        let scratch = zero(self.fft.get_inplace_scratch_len());
        Work { line: zero(2 * (self.n - 1)), scratch, turned: vec![0.0; self.n * self.n] }
    }

    /// S_kl = Σ_ij f_ij sin(πik/(n − 1)) sin(πjl/(n − 1)) with k and l exchanged; what is on the boundary counts as 0.
    pub fn sines(&self, f: &mut [f64], work: &mut Work) {
        self.both(f, work, |a, b, line, scratch| {
            let last = line.len() / 2;
            (line[0], line[last]) = (Complex64::ZERO, Complex64::ZERO);
            for j in 1..last {
                line[j] = Complex64::new(a[j], b[j]);
                line[2 * last - j] = -line[j];
            }
            self.fft.process_with_scratch(line, scratch);
            // An odd function a + ib has the transform −2i (S_a + i S_b).
            line.iter_mut().for_each(|z| *z = Complex64::new(-0.5 * z.im, 0.5 * z.re));
        });
    }

    /// f_ij = Σ_kl c_kl cos(πik/(n − 1)) cos(πjl/(n − 1)) with i and j exchanged.
    pub fn cosines(&self, c: &mut [f64], work: &mut Work) {
        self.both(c, work, |a, b, line, scratch| {
            let last = line.len() / 2;
            let pair = |k: usize| Complex64::new(a[k], b[k]);
            (line[0], line[last]) = (pair(0), pair(last));
            for k in 1..last {
                line[k] = pair(k) * 0.5;
                line[2 * last - k] = line[k];
            }
            self.fft.process_with_scratch(line, scratch);
        });
    }

    /// Along both axes, two lines at a time: `transform(a, b, line, scratch)`.
    fn both(
        &self,
        f: &mut [f64],
        work: &mut Work,
        transform: impl Fn(&[f64], &[f64], &mut [Complex64], &mut [Complex64]),
    ) {
        let n = self.n;
        let Work { line, scratch, turned } = work;
        let mut along = |from: &[f64], to: &mut [f64]| {
            for first in (0..n).step_by(2) {
                let second = (first + 1).min(n - 1);
                let (a, b) = (&from[first * n..][..n], &from[second * n..][..n]);
                transform(a, b, line, scratch);
                // To the other axis: a column of two.
                for (z, row) in line.iter().zip(to.chunks_exact_mut(n)) {
                    row[first] = z.re;
                    row[second] = if second > first { z.im } else { z.re };
                }
            }
        };
        along(f, turned);
        along(turned, f);
    }
}
