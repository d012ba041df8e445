//! Products with matrices whose rows or columns are even and odd about their middle, with half the multiply-adds: the
//! matrices between coefficients and symmetric nodes (even-odd decomposition, Solomonoff 1992).
//!
//! Where `a[rows - 1 - i, j] = ±a[i, j]`, with one sign for each column, the columns of sign + make the even half of the
//! result and the others the odd half, and half of the rows give both. The transpose folds its argument first instead.

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use std::cell::RefCell;
use std::cmp::Ordering;

use super::cpu::{Columns, ColumnsMut, for_each_columns, for_each_rows};

/// Which of a matrix's axes is symmetric about its middle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parity {
    /// Each column is an even or an odd function of the row: from coefficients to nodes.
    Columns,
    /// Each row is an even or an odd function of the column: from nodes to coefficients.
    Rows,
}

/// The halves of a matrix, row-major. The odd half leaves out the middle of the symmetric axis, where it is 0.
#[derive(Debug)]
pub(super) struct Split {
    pub parity: Parity,
    rows: usize,
    cols: usize,
    even: Half,
    odd: Half,
}

/// Rows and columns of one half, its entries, and which columns (of [`Parity::Columns`]) or rows it is made of.
#[derive(Debug)]
struct Half {
    rows: usize,
    cols: usize,
    values: Vec<f64>,
    members: Vec<usize>,
}

/// Doubles of fibres, of arguments and results, that are in work at once: a quarter of a megabyte, for the L2 cache.
const IN_WORK: usize = 1 << 15;

/// Rounding of the largest entry of a row or column: cosines of a few thousand radians have less.
const ROUNDING: f64 = 1e-12;

impl Split {
    /// The split of a matrix that has one up to rounding, which is then removed from `values`.
    pub(super) fn find(rows: usize, cols: usize, values: &mut [f64]) -> Option<Self> {
        if values.is_empty() {
            return None;
        }
        // (one line, along it)
        let column = |j: usize, i: usize| i * cols + j;
        let row = |i: usize, j: usize| i * cols + j;
        if let Some(odd) = signs(values, (cols, rows), column) {
            symmetrise(values, (rows, &odd), column);
            Some(Self::new(Parity::Columns, (rows, cols), values, &odd))
        } else if let Some(odd) = signs(values, (rows, cols), row) {
            symmetrise(values, (cols, &odd), row);
            Some(Self::new(Parity::Rows, (rows, cols), values, &odd))
        } else {
            None
        }
    }

    fn new(parity: Parity, (rows, cols): (usize, usize), values: &[f64], odd: &[bool]) -> Self {
        let half = |of_odd: bool| {
            let members: Vec<usize> = (0..odd.len()).filter(|m| odd[*m] == of_odd).collect();
            let length = |n: usize| if of_odd { n / 2 } else { n.div_ceil(2) };
            let along_rows: Vec<usize> =
                if parity == Parity::Columns { (0..length(rows)).collect() } else { members.clone() };
            let along_cols: Vec<usize> =
                if parity == Parity::Columns { members.clone() } else { (0..length(cols)).collect() };
            let entries =
                along_rows.iter().flat_map(|i| along_cols.iter().map(move |j| values[i * cols + j])).collect();
            Half { rows: along_rows.len(), cols: along_cols.len(), values: entries, members }
        };
        Self { parity, rows, cols, even: half(false), odd: half(true) }
    }

    /// Whether it beats the dense product: what it saves, half of rows cols multiply-adds for a fibre, against folding
    /// rows + cols numbers. Measured for squares: from 64 rows on.
    pub(super) fn pays(&self) -> bool {
        self.rows * self.cols >= 32 * (self.rows + self.cols)
    }

    /// As the dense product.
    pub(super) fn product(&self, inner: usize, x: &[f64], y: &mut [f64], accumulate: bool) {
        let extents = (self.rows, self.cols);
        let width = (IN_WORK / (self.rows + self.cols) / 8 * 8).clamp(16, 512);
        if y.is_empty() {
        } else if inner == 1 {
            for_each_rows(extents, width, x, y, |x, y| self.rows_product(x, y, accumulate));
        } else {
            for_each_columns(extents, inner, width, x, y, |x, y| self.columns_product(x, y, accumulate));
        }
    }

    fn columns_product(&self, x: Columns<'_>, mut y: ColumnsMut<'_>, accumulate: bool) {
        let (w, row) = (x.ncols(), |i: usize| x.row(i).as_slice());
        self.with_scratch(w, |[xe, xo, ye, yo]| {
            match self.parity {
                Parity::Columns => {
                    let even = xe.chunks_exact_mut(w).zip(&self.even.members);
                    let odd = xo.chunks_exact_mut(w).zip(&self.odd.members);
                    even.chain(odd).for_each(|(to, member)| to.copy_from_slice(row(*member)));
                }
                Parity::Rows => {
                    let pair = |i: usize| row(i).iter().zip(row(self.cols - 1 - i));
                    for (i, to) in xe.chunks_exact_mut(w).enumerate() {
                        if 2 * i + 1 == self.cols {
                            to.copy_from_slice(row(i));
                        } else {
                            put(to, false, pair(i).map(|(a, b)| a + b));
                        }
                    }
                    for (i, to) in xo.chunks_exact_mut(w).enumerate() {
                        put(to, false, pair(i).map(|(a, b)| a - b));
                    }
                }
            }
            for (half, x, y) in [(&self.even, xe, &mut *ye), (&self.odd, xo, &mut *yo)] {
                let x = MatRef::from_row_major_slice(x, half.cols, w);
                let y = MatMut::from_row_major_slice_mut(y, half.rows, w);
                matmul(y, Accum::Replace, half.matrix(), x, 1.0, Par::Seq);
            }
            match self.parity {
                Parity::Columns => {
                    for i in 0..self.rows {
                        let mirror = self.rows - 1 - i;
                        let at = w * i.min(mirror);
                        let even = ye[at..at + w].iter();
                        match i.cmp(&mirror) {
                            Ordering::Less => {
                                put(row_mut(&mut y, i), accumulate, even.zip(&yo[at..]).map(|(e, o)| e + o))
                            }
                            Ordering::Equal => put(row_mut(&mut y, i), accumulate, even.copied()),
                            Ordering::Greater => {
                                put(row_mut(&mut y, i), accumulate, even.zip(&yo[at..]).map(|(e, o)| e - o))
                            }
                        }
                    }
                }
                Parity::Rows => {
                    let even = ye.chunks_exact(w).zip(&self.even.members);
                    let odd = yo.chunks_exact(w).zip(&self.odd.members);
                    even.chain(odd)
                        .for_each(|(v, member)| put(row_mut(&mut y, *member), accumulate, v.iter().copied()));
                }
            }
        });
    }

    fn rows_product(&self, x: &[f64], y: &mut [f64], accumulate: bool) {
        let (n, even, odd) = (x.len() / self.cols, &self.even, &self.odd);
        self.with_scratch(n, |[xe, xo, ye, yo]| {
            for (f, x) in x.chunks_exact(self.cols).enumerate() {
                let (xe, xo) = (&mut xe[f * even.cols..][..even.cols], &mut xo[f * odd.cols..][..odd.cols]);
                match self.parity {
                    Parity::Columns => {
                        xe.iter_mut().zip(&even.members).for_each(|(to, j)| *to = x[*j]);
                        xo.iter_mut().zip(&odd.members).for_each(|(to, j)| *to = x[*j]);
                    }
                    Parity::Rows => {
                        put(xe, false, x.iter().zip(x.iter().rev()).map(|(a, b)| a + b));
                        put(xo, false, x.iter().zip(x.iter().rev()).map(|(a, b)| a - b));
                        if self.cols % 2 == 1 {
                            xe[self.cols / 2] = x[self.cols / 2];
                        }
                    }
                }
            }
            for (half, x, y) in [(even, xe, &mut *ye), (odd, xo, &mut *yo)] {
                let x = MatRef::from_row_major_slice(x, n, half.cols);
                let y = MatMut::from_row_major_slice_mut(y, n, half.rows);
                matmul(y, Accum::Replace, x, half.matrix().transpose(), 1.0, Par::Seq);
            }
            for (f, y) in y.chunks_exact_mut(self.rows).enumerate() {
                let (ye, yo) = (&ye[f * even.rows..][..even.rows], &yo[f * odd.rows..][..odd.rows]);
                match self.parity {
                    Parity::Columns => {
                        let (front, back) = y.split_at_mut(even.rows);
                        put(front, accumulate, ye.iter().zip(yo.iter().chain(&[0.0])).map(|(e, o)| e + o));
                        put(back, accumulate, ye.iter().zip(yo).map(|(e, o)| e - o).rev());
                    }
                    Parity::Rows => {
                        let results = ye.iter().zip(&even.members).chain(yo.iter().zip(&odd.members));
                        if accumulate {
                            results.for_each(|(v, i)| y[*i] += v);
                        } else {
                            results.for_each(|(v, i)| y[*i] = *v);
                        }
                    }
                }
            }
        });
    }

    /// Room for the halves of `fibres` arguments and results; kept from one call to the next of a thread.
    fn with_scratch(&self, fibres: usize, work: impl FnOnce([&mut [f64]; 4])) {
        thread_local!(static SCRATCH: RefCell<Vec<f64>> = const { RefCell::new(Vec::new()) });
        let [a, b, c, d] = [self.even.cols, self.odd.cols, self.even.rows, self.odd.rows].map(|n| n * fibres);
        let mut room = SCRATCH.take();
        room.resize(room.len().max(a + b + c + d), 0.0);
        let (xe, rest) = room.split_at_mut(a);
        let (xo, rest) = rest.split_at_mut(b);
        let (ye, rest) = rest.split_at_mut(c);
        work([xe, xo, ye, &mut rest[..d]]);
        SCRATCH.set(room);
    }
}

impl Half {
    fn matrix(&self) -> MatRef<'_, f64> {
        MatRef::from_row_major_slice(&self.values, self.rows, self.cols).as_dyn_stride()
    }
}

fn row_mut<'a>(y: &'a mut ColumnsMut<'_>, i: usize) -> &'a mut [f64] {
    y.as_mut().row_mut(i).as_slice_mut()
}

fn put(to: &mut [f64], accumulate: bool, values: impl Iterator<Item = f64>) {
    if accumulate {
        to.iter_mut().zip(values).for_each(|(to, v)| *to += v);
    } else {
        to.iter_mut().zip(values).for_each(|(to, v)| *to = v);
    }
}

/// For each of `lines` lines of length `n`, whether it is odd; nothing where one is neither even nor odd.
fn signs(values: &[f64], (lines, n): (usize, usize), at: impl Fn(usize, usize) -> usize) -> Option<Vec<bool>> {
    let odd = |line: usize| {
        let pair = |i: usize| (values[at(line, i)], values[at(line, n - 1 - i)]);
        let bound = ROUNDING * (0..n).fold(0.0f64, |m, i| m.max(pair(i).0.abs()));
        // Comparisons with a number that is none are false, so such a line is neither.
        let is_near_0 = |f: fn(f64, f64) -> f64| (0..n).map(pair).all(|(a, b)| f(a, b).abs() <= bound);
        match (is_near_0(|a, b| a - b), is_near_0(|a, b| a + b)) {
            (true, _) => Some(false),
            (_, true) => Some(true),
            _ => None,
        }
    };
    (0..lines).map(odd).collect()
}

/// Make the lines even or odd in every bit.
fn symmetrise(values: &mut [f64], (n, odd): (usize, &[bool]), at: impl Fn(usize, usize) -> usize) {
    for (line, odd) in odd.iter().enumerate() {
        for i in 0..n.div_ceil(2) {
            let (a, b) = (at(line, i), at(line, n - 1 - i));
            let sign = if *odd { -1.0 } else { 1.0 };
            let mean = 0.5 * (values[a] + sign * values[b]);
            (values[a], values[b]) = (mean, sign * mean);
        }
    }
}
