//! Sums of cosines and sines of real fields along one axis, and their adjoint.
//!
//! Of x_n at the points n of an axis of period N: C_k = Σ_n x_n cos 2πkn/N and D_k = −Σ_n x_n sin 2πkn/N for 0 ≤ k ≤ K, so that
//! C_k ± i D_k are the coefficients of k and −k. Arrays are `[before, points, after]` and `[before, C above D: 2 (K + 1), after]`.

use std::f64::consts::TAU;
use std::ops::Range;
use std::sync::Arc;

use faer::Accum;
use rayon::prelude::*;
use rustfft::num_complex::Complex;
use rustfft::{Fft, FftPlanner};

use super::pool::Pool;
use crate::learning::matrix::{note, product};
use crate::learning::real::Real;

/// Columns that go together: what is folded of them stays in the second cache. With fewer, gathering and folding them costs more than it
/// saves: measured, see docs/benchmarks.md.
const COLUMNS: usize = 512;
/// An FFT serves where there are more than this many frequencies for each doubling of the points: measured, see docs/benchmarks.md.
const FREQUENCIES_PER_DOUBLING: f64 = 7.5;

/// Numbers from which on an array is worth several threads of its own.
pub(super) const WIDE: usize = 1 << 20;

/// An axis.
#[derive(Clone)]
pub struct Axis<T> {
    points: usize,
    /// K + 1
    frequencies: usize,
    way: Way<T>,
}

/// How the sums are made.
#[derive(Clone)]
enum Way<T> {
    /// Products with `[C above D, points]` and its transpose.
    Plain([Vec<T>; 2]),
    /// Points n and N − n have the same cosine, and sines of opposite sign: products with half of the points, their sums with cosines
    /// `[frequencies, half]` and their differences with sines, and the transposes. Beside them the plain ones.
    Folded { cos: [Vec<T>; 2], sin: [Vec<T>; 2], plain: [Vec<T>; 2] },
    /// FFTs there and back, two real lines as one complex.
    Fft([Arc<dyn Fft<T>>; 2]),
}

impl<T> std::fmt::Debug for Axis<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Axis")
            .field("points", &self.points)
            .field("frequencies", &self.frequencies)
            .finish_non_exhaustive()
    }
}

/// cos 2πkn/N and −sin, the angle reduced first, so that it has all digits.
fn turn(k: usize, n: usize, period: usize) -> [f64; 2] {
    let (sin, cos) = (TAU * (k * n % period) as f64 / period as f64).sin_cos();
    [cos, -sin]
}

/// A matrix and its transpose.
fn both<T: Real>(rows: usize, columns: usize, entry: impl Fn(usize, usize) -> f64) -> [Vec<T>; 2] {
    let entry = &entry;
    let of = |i, j| T::of(entry(i, j));
    [
        (0..rows).flat_map(|i| (0..columns).map(move |j| of(i, j))).collect(),
        (0..columns).flat_map(|j| (0..rows).map(move |i| of(i, j))).collect(),
    ]
}

impl<T: Real> Axis<T> {
    /// Of `points` from `offset` on of a `period`, with frequencies below `frequencies`.
    pub fn new(points: usize, frequencies: usize, (period, offset): (usize, usize)) -> Self {
        let whole = period == points && offset == 0;
        let entry = |row: usize, n: usize| turn(row % frequencies, n + offset, period)[row / frequencies];
        let many = frequencies as f64 > FREQUENCIES_PER_DOUBLING * (points as f64).log2();
        let way = if !whole {
            Way::Plain(both(2 * frequencies, points, entry))
        } else if many {
            let mut planner = FftPlanner::new();
            Way::Fft([planner.plan_fft_forward(points), planner.plan_fft_inverse(points)])
        } else {
            let half = points / 2 + 1;
            Way::Folded {
                cos: both(frequencies, half, |k, n| turn(k, n, points)[0]),
                sin: both(frequencies, half, |k, n| turn(k, n, points)[1]),
                plain: both(2 * frequencies, points, entry),
            }
        };
        Self { points, frequencies, way }
    }

    /// Rows of C and D.
    pub fn rows(&self) -> usize {
        2 * self.frequencies
    }

    /// Points.
    pub fn points(&self) -> usize {
        self.points
    }

    /// Multiplications and additions of one line of `[points, after]`: of products, and of the sums and differences before them; of an FFT
    /// of two lines 5 n log₂ n.
    pub fn flops(&self, after: usize) -> f64 {
        let (n, rows) = (self.points, self.rows());
        match self.way {
            Way::Fft(_) => 2.5 * n as f64 * (n as f64).log2(),
            Way::Folded { .. } if after >= COLUMNS => (2 * rows * (n / 2 + 1) + self.paired()) as f64,
            _ => (2 * n * rows) as f64,
        }
    }

    /// Points that have another with the same cosine.
    fn paired(&self) -> usize {
        (self.points - 1) / 2 * 2
    }

    /// From `[before, points, after]` to `[before, C above D, after]`.
    pub fn analysis(&self, pool: &Pool<T>, x: &[T], out: &mut [T], after: usize) {
        self.pass(pool, (x, self.points), (out, self.rows()), after, true);
    }

    /// The adjoint: Σ_k C_k cos 2πkn/N − D_k sin 2πkn/N, from `[before, C above D, after]` to `[before, points, after]`.
    pub fn adjoint(&self, pool: &Pool<T>, y: &[T], out: &mut [T], after: usize) {
        self.pass(pool, (y, self.rows()), (out, self.points), after, false);
    }

    fn pass(&self, pool: &Pool<T>, (x, from): (&[T], usize), (out, to): (&mut [T], usize), after: usize, there: bool) {
        // Of a matrix and its transpose, what stands before `[from, after]` and what behind `[before, from]`.
        let (before, behind) = if there { (0, 1) } else { (1, 0) };
        self.blocks((x, from), (out, to), after, |x, out, block| match &self.way {
            Way::Folded { cos, sin, .. } if after >= COLUMNS => {
                let place = (after, block.columns);
                if there {
                    self.fold(pool, [&cos[0], &sin[0]], x, out, place);
                } else {
                    self.unfold(pool, [&cos[1], &sin[1]], x, out, place);
                }
            }
            Way::Plain(plain) | Way::Folded { plain, .. } if after == 1 => {
                product(Accum::Replace, out, x, &plain[behind], (block.befores, from, to), [to, to]);
            }
            Way::Plain(plain) | Way::Folded { plain, .. } => {
                for (x, out) in x.chunks(from * after).zip(out.chunks_mut(to * after)) {
                    let (x, out) = (&x[block.columns.start..], &mut out[block.columns.start..]);
                    let sizes = (to, from, block.columns.len());
                    product(Accum::Replace, out, &plain[before], x, sizes, [after, after]);
                }
            }
            Way::Fft([fft, _]) if there => self.forward(fft.as_ref(), x, out, (after, &block)),
            Way::Fft([_, fft]) => self.inverse(fft.as_ref(), x, out, (after, &block)),
        });
    }

    /// By sums and differences of points, of some columns of one `[points, after]`.
    fn fold(
        &self,
        pool: &Pool<T>,
        [cos, sin]: [&[T]; 2],
        x: &[T],
        out: &mut [T],
        (after, columns): (usize, Range<usize>),
    ) {
        let (n, half, k, width) = (self.points, self.points / 2 + 1, self.frequencies, columns.len());
        let mut work = pool.take(2 * half * width);
        note(self.paired() * width);
        let (even, odd) = work.split_at_mut(half * width);
        let row = |i: usize| &x[i * after + columns.start..][..width];
        for (i, (even, odd)) in even.chunks_mut(width).zip(odd.chunks_mut(width)).enumerate() {
            if i == 0 || 2 * i == n {
                even.copy_from_slice(row(i));
                odd.fill(T::default());
            } else {
                for ((even, odd), (a, b)) in even.iter_mut().zip(odd).zip(row(i).iter().zip(row(n - i))) {
                    (*even, *odd) = (*a + *b, *a - *b);
                }
            }
        }
        let (c, d) = out.split_at_mut(k * after);
        product(Accum::Replace, &mut c[columns.start..], cos, even, (k, half, width), [width, after]);
        product(Accum::Replace, &mut d[columns.start..], sin, odd, (k, half, width), [width, after]);
        pool.give(work);
    }

    /// The adjoint by sums and differences.
    fn unfold(
        &self,
        pool: &Pool<T>,
        [cos, sin]: [&[T]; 2],
        y: &[T],
        out: &mut [T],
        (after, columns): (usize, Range<usize>),
    ) {
        let (n, half, k, width) = (self.points, self.points / 2 + 1, self.frequencies, columns.len());
        let mut work = pool.take(2 * half * width);
        let (even, odd) = work.split_at_mut(half * width);
        note(self.paired() * width);
        let (c, d) = y.split_at(k * after);
        product(Accum::Replace, even, cos, &c[columns.start..], (half, k, width), [after, width]);
        product(Accum::Replace, odd, sin, &d[columns.start..], (half, k, width), [after, width]);
        for (i, (even, odd)) in even.chunks(width).zip(odd.chunks(width)).enumerate() {
            if i == 0 || 2 * i == n {
                out[i * after + columns.start..][..width].copy_from_slice(even);
            } else {
                let (front, back) = out.split_at_mut((n - i) * after);
                let front = &mut front[i * after + columns.start..][..width];
                let back = &mut back[columns.start..][..width];
                for ((a, b), (even, odd)) in front.iter_mut().zip(back).zip(even.iter().zip(odd)) {
                    (*a, *b) = (*even + *odd, *even - *odd);
                }
            }
        }
        pool.give(work);
    }

    /// By FFTs.
    fn forward(&self, fft: &dyn Fft<T>, x: &[T], out: &mut [T], (after, block): (usize, &Block)) {
        let (n, rows) = (self.points, self.rows());
        let [mut line, mut scratch] = memory(fft);
        let half = T::of(0.5);
        pairs(block, |a, b| {
            let at = |column: Column, i: usize| x[(column.before * n + i) * after + column.after];
            for (i, z) in line.iter_mut().enumerate() {
                *z = Complex { re: at(a, i), im: b.map_or(T::default(), |b| at(b, i)) };
            }
            note((5.0 * n as f64 * (n as f64).log2()) as usize);
            fft.process_with_scratch(&mut line, &mut scratch);
            let place = |column: Column, row: usize| (column.before * rows + row) * after + column.after;
            for k in 0..self.frequencies {
                // Z_k = A_k + i B_k with A, B those of real lines.
                let (z, mirror) = (line[k], line[(n - k) % n]);
                out[place(a, k)] = half * (z.re + mirror.re);
                out[place(a, self.frequencies + k)] = half * (z.im - mirror.im);
                if let Some(b) = b {
                    out[place(b, k)] = half * (z.im + mirror.im);
                    out[place(b, self.frequencies + k)] = half * (mirror.re - z.re);
                }
            }
        });
    }

    /// The adjoint by FFTs.
    fn inverse(&self, fft: &dyn Fft<T>, y: &[T], out: &mut [T], (after, block): (usize, &Block)) {
        let (n, rows) = (self.points, self.rows());
        let [mut line, mut scratch] = memory(fft);
        let half = T::of(0.5);
        pairs(block, |a, b| {
            line.fill(Complex { re: T::default(), im: T::default() });
            let at = |column: Column, row: usize| y[(column.before * rows + row) * after + column.after];
            for k in 0..self.frequencies {
                let (a_re, a_im) = (at(a, k), at(a, self.frequencies + k));
                let (b_re, b_im) = b.map_or_else(Default::default, |b| (at(b, k), at(b, self.frequencies + k)));
                if k == 0 || 2 * k == n {
                    line[k] = Complex { re: a_re, im: b_re };
                } else {
                    // ½ (A + i B) at k, ½ (conj A + i conj B) at −k.
                    line[k] = Complex { re: half * (a_re - b_im), im: half * (a_im + b_re) };
                    line[n - k] = Complex { re: half * (a_re + b_im), im: half * (b_re - a_im) };
                }
            }
            note((5.0 * n as f64 * (n as f64).log2()) as usize);
            fft.process_with_scratch(&mut line, &mut scratch);
            let place = |column: Column, i: usize| (column.before * n + i) * after + column.after;
            for (i, z) in line.iter().enumerate() {
                out[place(a, i)] = z.re;
                if let Some(b) = b {
                    out[place(b, i)] = z.im;
                }
            }
        });
    }

    /// Groups of `before` with about [`COLUMNS`] columns, on many threads; where there are more of one, its columns by blocks.
    fn blocks(
        &self,
        (x, from): (&[T], usize),
        (out, to): (&mut [T], usize),
        after: usize,
        pass: impl Fn(&[T], &mut [T], Block) + Sync,
    ) {
        let befores = x.len() / (from * after);
        let group = (COLUMNS / after).clamp(1, befores);
        let width = after.div_ceil(after.div_ceil(2 * COLUMNS));
        // Smaller arrays are those of one sample of several: samples go side by side, and a thread that waits for a part of one begins no other.
        let least = if x.len().max(out.len()) < WIDE { befores.div_ceil(group) } else { 1 };
        let groups = out.par_chunks_mut(group * to * after).zip(x.par_chunks(group * from * after));
        groups.with_min_len(least).for_each(|(out, x)| {
            for start in (0..after).step_by(width) {
                pass(x, out, Block { befores: x.len() / (from * after), columns: start..after.min(start + width) });
            }
        });
    }
}

/// So many `before`, and some of the columns of each: all of them where there are several.
#[derive(Debug, Clone)]
struct Block {
    befores: usize,
    columns: Range<usize>,
}

/// A real line.
#[derive(Debug, Clone, Copy)]
struct Column {
    before: usize,
    after: usize,
}

/// All lines of a block, two by two.
fn pairs(block: &Block, mut each: impl FnMut(Column, Option<Column>)) {
    let columns = block.columns.clone();
    let mut all = (0..block.befores).flat_map(|before| columns.clone().map(move |after| Column { before, after }));
    while let Some(a) = all.next() {
        each(a, all.next());
    }
}

/// A line and what an FFT needs beside it.
fn memory<T: Real>(fft: &dyn Fft<T>) -> [Vec<Complex<T>>; 2] {
    let zeros = |len: usize| vec![Complex { re: T::default(), im: T::default() }; len];
    [zeros(fft.len()), zeros(fft.get_inplace_scratch_len())]
}
