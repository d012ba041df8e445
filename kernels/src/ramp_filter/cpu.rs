//! The ramp filter on the CPU: two real rows as the real and imaginary part of one complex row. The response is
//! real and even, so both come back filtered with no untangling.
//! Per row of L = 2 n_cols: about 5 L log2 L flops.

use super::{Padding, RampFilter};
use rayon::prelude::*;
use rustfft::num_complex::Complex;

pub(super) fn apply(filter: &RampFilter, n_angles: usize, sinogram: &mut [f32]) {
    let n_cols = filter.params.n_cols;
    sinogram.par_chunks_mut(n_angles * n_cols).for_each(|slice| {
        slice.par_chunks_mut(2 * n_cols).for_each_init(
            || Workspace::new(filter),
            |work, rows| {
                let (first, second) = rows.split_at_mut(n_cols);
                work.filter(filter, first, second);
            },
        );
    });
}

struct Workspace {
    row: Vec<Complex<f32>>,
    scratch: Vec<Complex<f32>>,
}

impl Workspace {
    fn new(filter: &RampFilter) -> Self {
        let scratch = filter.forward.get_inplace_scratch_len().max(filter.inverse.get_inplace_scratch_len());
        Self { row: vec![Complex::default(); filter.response.len()], scratch: vec![Complex::default(); scratch] }
    }

    /// Filter `first` and `second` in place; `second` is empty for the last row of an odd number.
    fn filter(&mut self, filter: &RampFilter, first: &mut [f32], second: &mut [f32]) {
        let n = first.len();
        for (j, (z, x)) in self.row.iter_mut().zip(first.iter()).enumerate() {
            *z = Complex::new(*x, second.get(j).copied().unwrap_or(0.0));
        }
        let (left, right) = match filter.params.padding {
            Padding::Zero => (Complex::default(), Complex::default()),
            Padding::Edge => (self.row[0], self.row[n - 1]),
        };
        // The row is periodic: what lies to its left is at the far end.
        let middle = n + (self.row.len() - n) / 2;
        self.row[n..middle].fill(right);
        self.row[middle..].fill(left);
        filter.forward.process_with_scratch(&mut self.row, &mut self.scratch);
        for (z, h) in self.row.iter_mut().zip(&filter.response) {
            *z *= h;
        }
        filter.inverse.process_with_scratch(&mut self.row, &mut self.scratch);
        for (x, z) in first.iter_mut().zip(&self.row) {
            *x = z.re;
        }
        for (x, z) in second.iter_mut().zip(&self.row) {
            *x = z.im;
        }
    }
}
