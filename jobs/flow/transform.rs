//! Between the kept modes and the points of a square grid: two passes of one-dimensional FFTs. Those along x skip the modes that
//! are zero; those along y go by tiles that stay in the first cache while something is done at their points.

use std::convert::Infallible;
use std::ops::Range;
use std::sync::Arc;

use num_complex::Complex64;
use rayon::prelude::*;
use rustfft::{Fft, FftPlanner};

use super::modes::Modes;

/// Lines of a tile: two cache lines of each row, and 32 KB for 256 points.
const TILE: usize = 8;

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

/// From coefficients to values and back, on one rank or on several.
pub trait Through {
    /// Memory of one transform under way.
    type Work;
    /// Why it may fail.
    type Error;

    /// The k_y of the coefficients that are here.
    fn rows(&self) -> Range<usize>;

    /// Memory for it.
    fn work(&self) -> Self::Work;

    /// Replaces values by others: from rows of coefficients to rows of n² times those of what `change(x, lines)` makes of the
    /// values, where `lines` holds those along y from x on. `fill(k_y, row, mirror)` writes the coefficients of k_y and −k_y into
    /// zeros, and `read` reads what became of them; both in the order of k_y. For k_y = 0 the mirror means nothing.
    ///
    /// # Errors
    /// As the exchange between ranks.
    fn through(
        &self,
        work: &mut Self::Work,
        fill: impl FnMut(usize, &mut [Complex64], &mut [Complex64]),
        change: impl Fn(usize, &mut [Complex64]) + Sync,
        read: impl FnMut(usize, &[Complex64], &[Complex64]),
    ) -> Result<(), Self::Error>;
}

/// Where k_y lies among n of them.
pub(super) fn slot(ky: i64, n: usize) -> usize {
    if ky < 0 { n - ky.unsigned_abs() as usize } else { ky as usize }
}

/// Memory of one transform under way.
#[derive(Debug, Clone)]
pub struct Work {
    /// `[k_y][k_x]`: rows 0 … m, −m … −1, each of n values in the order of an FFT.
    pub rows: Vec<Complex64>,
    /// Lines along y: of a tile, or of all x where several threads work.
    lines: Vec<Complex64>,
    scratch: Vec<Complex64>,
}

impl Work {
    /// Bytes of one.
    pub fn bytes(modes: &Modes, wide: bool) -> u64 {
        16 * (modes.n * (modes.width() + if wide { modes.n } else { TILE } + 4)) as u64
    }
}

impl Transform {
    /// For functions of these modes; `wide`: with all threads for one function.
    pub fn new(modes: &Modes, wide: bool) -> Self {
        let mut planner = FftPlanner::new();
        let (forward, inverse) = (planner.plan_fft_forward(modes.n), planner.plan_fft_inverse(modes.n));
        Self { n: modes.n, m: modes.m, forward, inverse, wide }
    }

    fn scratch(&self) -> usize {
        self.forward.get_inplace_scratch_len().max(self.inverse.get_inplace_scratch_len())
    }

    /// `visit(x, line)` with the values along y for each x in order; `fill` as for [`Transform::through`].
    pub fn visit(
        &self,
        work: &mut Work,
        fill: impl FnMut(usize, &mut [Complex64], &mut [Complex64]),
        mut visit: impl FnMut(usize, &[Complex64]),
    ) {
        self.fill(&mut work.rows, fill);
        self.inverse.process_with_scratch(&mut work.rows, &mut work.scratch);
        for first in (0..self.n).step_by(TILE) {
            let tile = &mut work.lines[..TILE.min(self.n - first) * self.n];
            self.gather(&work.rows, first, tile);
            self.inverse.process_with_scratch(tile, &mut work.scratch);
            tile.chunks_exact(self.n).enumerate().for_each(|(i, line)| visit(first + i, line));
        }
    }

    /// From the values along y that `values(x, line)` writes to rows of n² times their coefficients, as [`Transform::through`] reads them.
    pub fn from_values(
        &self,
        work: &mut Work,
        mut values: impl FnMut(usize, &mut [Complex64]),
        mut read: impl FnMut(usize, &[Complex64], &[Complex64]),
    ) {
        for first in (0..self.n).step_by(TILE) {
            let tile = &mut work.lines[..TILE.min(self.n - first) * self.n];
            tile.chunks_exact_mut(self.n).enumerate().for_each(|(i, line)| values(first + i, line));
            self.forward.process_with_scratch(tile, &mut work.scratch);
            self.scatter(tile, first, &mut work.rows);
        }
        self.forward.process_with_scratch(&mut work.rows, &mut work.scratch);
        for ky in 0..=self.m {
            let (row, mirror) = self.pair(&mut work.rows, ky);
            read(ky, row, mirror);
        }
    }

    fn replace(
        &self,
        work: &mut Work,
        fill: impl FnMut(usize, &mut [Complex64], &mut [Complex64]),
        change: impl Fn(usize, &mut [Complex64]) + Sync,
        mut read: impl FnMut(usize, &[Complex64], &[Complex64]),
    ) {
        let (n, m) = (self.n, self.m);
        self.fill(&mut work.rows, fill);
        if self.wide {
            self.by_lines(&mut work.rows, |_, rows, scratch| self.inverse.process_with_scratch(rows, scratch));
            let rows = &work.rows;
            self.by_lines(&mut work.lines, |first, lines, scratch| {
                self.gather(rows, first, lines);
                self.along_y(first, lines, scratch, &change);
            });
            let lines = &work.lines;
            self.by_lines(&mut work.rows, |first, rows, scratch| {
                for (i, row) in rows.chunks_exact_mut(n).enumerate() {
                    let column = self.slot(first + i);
                    row.iter_mut().enumerate().for_each(|(x, value)| *value = lines[x * n + column]);
                }
                self.forward.process_with_scratch(rows, scratch);
            });
        } else {
            self.inverse.process_with_scratch(&mut work.rows, &mut work.scratch);
            for first in (0..n).step_by(TILE) {
                let tile = &mut work.lines[..TILE.min(n - first) * n];
                self.gather(&work.rows, first, tile);
                self.along_y(first, tile, &mut work.scratch, &change);
                self.scatter(tile, first, &mut work.rows);
            }
            self.forward.process_with_scratch(&mut work.rows, &mut work.scratch);
        }
        for ky in 0..=m {
            let (row, mirror) = self.pair(&mut work.rows, ky);
            read(ky, row, mirror);
        }
    }

    /// The rows of coefficients, zero where there is no mode.
    fn fill(&self, rows: &mut [Complex64], mut fill: impl FnMut(usize, &mut [Complex64], &mut [Complex64])) {
        rows.chunks_exact_mut(self.n).for_each(|row| row[self.m + 1..self.n - self.m].fill(Complex64::ZERO));
        for ky in 0..=self.m {
            let (row, mirror) = self.pair(rows, ky);
            fill(ky, row, mirror);
        }
    }

    /// Values at the points of some lines, changed, and back.
    fn along_y(
        &self,
        first: usize,
        lines: &mut [Complex64],
        scratch: &mut [Complex64],
        change: impl Fn(usize, &mut [Complex64]),
    ) {
        self.inverse.process_with_scratch(lines, scratch);
        change(first, lines);
        self.forward.process_with_scratch(lines, scratch);
    }

    /// The rows of k_y and −k_y.
    fn pair<'a>(&self, rows: &'a mut [Complex64], ky: usize) -> (&'a mut [Complex64], &'a mut [Complex64]) {
        if ky == 0 {
            return (&mut rows[..self.n], &mut []);
        }
        let (front, back) = rows.split_at_mut((2 * self.m + 1 - ky) * self.n);
        (&mut front[ky * self.n..(ky + 1) * self.n], &mut back[..self.n])
    }

    /// Where the k_y of a row lies among n of them.
    fn slot(&self, row: usize) -> usize {
        if row <= self.m { row } else { row + self.n - (2 * self.m + 1) }
    }

    /// Lines along y, of the columns of the rows from `first` on.
    fn gather(&self, rows: &[Complex64], first: usize, lines: &mut [Complex64]) {
        let (n, m) = (self.n, self.m);
        let count = lines.len() / n;
        lines.chunks_exact_mut(n).for_each(|line| line[m + 1..n - m].fill(Complex64::ZERO));
        for (row, values) in rows.chunks_exact(n).enumerate() {
            let at = self.slot(row);
            for (i, value) in values[first..first + count].iter().enumerate() {
                lines[i * n + at] = *value;
            }
        }
    }

    /// As [`Transform::gather`], backwards.
    fn scatter(&self, lines: &[Complex64], first: usize, rows: &mut [Complex64]) {
        let n = self.n;
        let count = lines.len() / n;
        for (row, values) in rows.chunks_exact_mut(n).enumerate() {
            let at = self.slot(row);
            for (i, value) in values[first..first + count].iter_mut().enumerate() {
                *value = lines[i * n + at];
            }
        }
    }

    /// `work(first, lines, scratch)` for some lines on each thread.
    fn by_lines(&self, data: &mut [Complex64], work: impl Fn(usize, &mut [Complex64], &mut [Complex64]) + Sync) {
        let chunks = data.par_chunks_mut(self.n * TILE).enumerate();
        chunks.for_each_init(
            || vec![Complex64::ZERO; self.scratch()],
            |scratch, (chunk, lines)| work(chunk * TILE, lines, scratch),
        );
    }
}

impl Through for Transform {
    type Work = Work;
    type Error = Infallible;

    fn rows(&self) -> Range<usize> {
        0..self.m + 1
    }

    fn work(&self) -> Work {
        let zero = |n: usize| vec![Complex64::ZERO; n];
        let lines = if self.wide { self.n } else { TILE };
        Work { rows: zero((2 * self.m + 1) * self.n), lines: zero(lines * self.n), scratch: zero(self.scratch()) }
    }

    fn through(
        &self,
        work: &mut Work,
        fill: impl FnMut(usize, &mut [Complex64], &mut [Complex64]),
        change: impl Fn(usize, &mut [Complex64]) + Sync,
        read: impl FnMut(usize, &[Complex64], &[Complex64]),
    ) -> Result<(), Infallible> {
        self.replace(work, fill, change, read);
        Ok(())
    }
}
