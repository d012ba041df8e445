//! Between the kept modes and the points of a square grid: two passes of one-dimensional FFTs, of which those along x skip the
//! modes that are zero.

use std::sync::Arc;

use num_complex::Complex64;
use rayon::prelude::*;
use rustfft::{Fft, FftPlanner};

use super::modes::Modes;

/// Side of the tiles of a transposition: two of them fit into the first cache.
const TILE: usize = 16;

/// Transforms of one size.
#[derive(Clone)]
pub struct Transform {
    n: usize,
    m: usize,
    forward: Arc<dyn Fft<f64>>,
    inverse: Arc<dyn Fft<f64>>,
    /// Several threads work on one transform.
    wide: bool,
}

impl std::fmt::Debug for Transform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transform").field("n", &self.n).field("m", &self.m).finish_non_exhaustive()
    }
}

/// Memory of one transform under way.
#[derive(Debug, Clone)]
pub struct Work {
    /// `[k_y][k_x]`: rows 0 … m, −m … −1, each of n values in the order of an FFT.
    pub rows: Vec<Complex64>,
    /// `[x][y]`: values at the points.
    pub grid: Vec<Complex64>,
    scratch: Vec<Complex64>,
}

impl Work {
    /// Bytes of one.
    pub fn bytes(modes: &Modes) -> u64 {
        16 * (modes.n * (modes.width() + modes.n + 4)) as u64
    }
}

impl Transform {
    /// For functions of these modes; `wide`: with all threads for one function.
    pub fn new(modes: &Modes, wide: bool) -> Self {
        let mut planner = FftPlanner::new();
        let (forward, inverse) = (planner.plan_fft_forward(modes.n), planner.plan_fft_inverse(modes.n));
        Self { n: modes.n, m: modes.m, forward, inverse, wide }
    }

    /// Memory for it.
    pub fn work(&self) -> Work {
        let zero = |n: usize| vec![Complex64::ZERO; n];
        let scratch = self.forward.get_inplace_scratch_len().max(self.inverse.get_inplace_scratch_len());
        Work { rows: zero((2 * self.m + 1) * self.n), grid: zero(self.n * self.n), scratch: zero(scratch) }
    }

    /// Where mode `(k_x, k_y)` lies in the rows.
    pub fn place(&self, kx: i64, ky: i64) -> usize {
        let row = if ky < 0 { 2 * self.m as i64 + 1 + ky } else { ky };
        let column = if kx < 0 { self.n as i64 + kx } else { kx };
        row as usize * self.n + column as usize
    }

    /// Values at all points from the rows, whose columns without a mode are set to zero here.
    pub fn synthesise(&self, work: &mut Work) {
        let (n, m) = (self.n, self.m);
        work.rows.chunks_exact_mut(n).for_each(|row| row[m + 1..n - m].fill(Complex64::ZERO));
        self.run(&self.inverse, &mut work.rows, &mut work.scratch);
        self.by_lines(&mut work.grid, |first, lines| {
            lines.chunks_exact_mut(n).for_each(|line| line[m + 1..n - m].fill(Complex64::ZERO));
            transpose(&work.rows, n, lines, |row| self.slot(row), |line| first + line);
        });
        self.run(&self.inverse, &mut work.grid, &mut work.scratch);
    }

    /// The rows from the values at all points: n² times the coefficients. The grid is used up.
    pub fn analyse(&self, work: &mut Work) {
        self.run(&self.forward, &mut work.grid, &mut work.scratch);
        self.by_lines(&mut work.rows, |first, lines| {
            transpose(&work.grid, self.n, lines, |x| x, |line| self.slot(first + line));
        });
        self.run(&self.forward, &mut work.rows, &mut work.scratch);
    }

    /// Where the k_y of a row lies among n of them.
    fn slot(&self, row: usize) -> usize {
        if row <= self.m { row } else { row + self.n - (2 * self.m + 1) }
    }

    /// One-dimensional FFTs of all lines.
    fn run(&self, fft: &Arc<dyn Fft<f64>>, data: &mut [Complex64], scratch: &mut [Complex64]) {
        if self.wide {
            let need = fft.get_inplace_scratch_len();
            data.par_chunks_mut(self.n * TILE).for_each_init(
                || vec![Complex64::ZERO; need],
                |scratch, lines| fft.process_with_scratch(lines, scratch),
            );
        } else {
            fft.process_with_scratch(data, scratch);
        }
    }

    /// `fill(first, lines)` for all lines, or for some of them on each thread.
    fn by_lines(&self, data: &mut [Complex64], fill: impl Fn(usize, &mut [Complex64]) + Sync) {
        if self.wide {
            let chunks = data.par_chunks_mut(self.n * TILE).enumerate();
            chunks.for_each(|(chunk, lines)| fill(chunk * TILE, lines));
        } else {
            fill(0, data);
        }
    }
}

/// `lines[i][to(r)] = source[r][from(i)]`, all rows `n` long.
fn transpose(
    source: &[Complex64],
    n: usize,
    lines: &mut [Complex64],
    to: impl Fn(usize) -> usize,
    from: impl Fn(usize) -> usize,
) {
    let (rows, count) = (source.len() / n, lines.len() / n);
    for first_line in (0..count).step_by(TILE) {
        for first_row in (0..rows).step_by(TILE) {
            for i in first_line..(first_line + TILE).min(count) {
                let column = from(i);
                let line = &mut lines[i * n..(i + 1) * n];
                for r in first_row..(first_row + TILE).min(rows) {
                    line[to(r)] = source[r * n + column];
                }
            }
        }
    }
}
