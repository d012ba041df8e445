//! Exact draws from projection determinantal point processes, blocked: almost all of the work is matrix products.
//!
//! The law of m points is det(Φ)²/m! (Hough, Krishnapur, Peres, Virág 2006): given the points accepted so far, the next
//! has density s(x)/(m − i) with s(x) = ‖φ(x)‖² − ‖Qφ(x)‖², Q an orthonormal basis of their features. One infinite stream
//! of candidates of the Christoffel measure is walked through; candidate t with its uniform number u_t is accepted where
//! u_t ‖φ‖² < s, given all accepted before it. Features are scaled to length 1, which leaves the test as it is.
//!
//! A block of candidates is tested at once against the points of earlier blocks. Those that pass are tested again, in the
//! order of the stream, against the points that the block itself has added: on the Gram matrix of their residuals, whose
//! diagonal is s. Beyond half of the points, s = ‖Zᵀφ‖² with a basis Z of what is left, shorter than Q and free of
//! cancellation. Which candidates are accepted does not depend on the blocks.

use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::householder::{
    apply_block_householder_sequence_on_the_left_in_place_scratch as left_scratch,
    apply_block_householder_sequence_on_the_left_in_place_with_conj as apply_on_the_left,
    apply_block_householder_sequence_on_the_right_in_place_scratch as right_scratch,
    apply_block_householder_sequence_on_the_right_in_place_with_conj as apply_on_the_right,
};
use faer::linalg::matmul::matmul;
use faer::{Accum, Conj, Mat, MatMut, MatRef, Par};

use super::error::DesignError;
use super::qr::factorise;

/// Accepted points that a block is made for, at most and at least; between them a twelfth of the functions, so that work within
/// blocks stays small beside the rest.
const TARGETS: [usize; 2] = [4, 64];
/// Part of the points still to be found that a block is made for, at most.
const PART: f64 = 0.35;
/// Rows of a block, at most: bounds its memory.
const MAX_BLOCK: usize = 4096;

/// A stream of candidates that are independent draws of the Christoffel measure of an m-dimensional space.
pub trait Candidates {
    /// m.
    fn functions(&self) -> usize;
    /// φ/‖φ‖ of candidates `first`, `first + 1`, … into the rows of `out`, by many threads if `par` says so.
    fn unit_features(&self, first: u64, out: MatMut<'_, f64>, par: Par);
    /// The uniform number of candidate `t`.
    fn uniform(&self, t: u64) -> f64;
    /// Which atom of a discrete measure candidate `t` is; an atom is accepted once.
    fn atom(&self, _t: u64) -> Option<usize> {
        None
    }
}

/// A sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Numbers of the accepted candidates in the stream, `[m]`, rising.
    pub accepted: Vec<u64>,
    /// Candidates that were looked at, up to the last one accepted.
    pub proposals: u64,
    /// Multiplications and additions of the linear algebra.
    pub flops: f64,
}

/// How to draw; the sample depends on none of it.
#[derive(Debug, Clone, Copy)]
pub struct Blocks {
    /// Accepted points that a block is made for.
    pub target: usize,
    /// Threads of the matrix products.
    pub par: Par,
}

impl Blocks {
    /// What suits `m` functions.
    pub fn of(m: usize, par: Par) -> Self {
        Self { target: (m / 12).clamp(TARGETS[0], TARGETS[1]), par }
    }
}

/// Draws one sample of m points.
///
/// # Errors
/// [`DesignError::Exhausted`] where m (10 + 20 ln m) + 1000 candidates do not give m points, of which the chance is below
/// 1e-8 for a basis that is orthonormal.
pub fn sample(candidates: &impl Candidates, blocks: Blocks) -> Result<Sample, DesignError> {
    run(candidates, blocks, true)
}

/// As [`sample`]; without `retest`, candidates of a block do not see each other, and the law is another.
fn run(candidates: &impl Candidates, blocks: Blocks, retest: bool) -> Result<Sample, DesignError> {
    let m = candidates.functions();
    let limit = (m as f64 * (10.0 + 20.0 * (m as f64).ln())) as u64 + 1000;
    let mut span = Span::new(m, blocks.par);
    let mut sample = Sample { accepted: Vec::with_capacity(m), proposals: 0, flops: 0.0 };
    let mut atoms: Vec<usize> = Vec::new();
    let mut buffer: Vec<f64> = Vec::new();
    let mut t = 0;
    while sample.accepted.len() < m {
        if t > limit {
            return Err(DesignError::Exhausted { found: sample.accepted.len(), functions: m, candidates: t });
        }
        let left = m - sample.accepted.len();
        let target = ((PART * left as f64).ceil() as usize).clamp(1, blocks.target.max(1));
        let n = (target * m).div_ceil(left).min(MAX_BLOCK);
        buffer.resize(n * m, 0.0);
        candidates.unit_features(t, MatMut::from_column_major_slice_mut(&mut buffer, n, m), blocks.par);
        let f = MatRef::from_column_major_slice(&buffer, n, m);
        if 2 * sample.accepted.len() > m {
            span.turn_to_complement();
        }
        let tested = span.test(f, |b| candidates.uniform(t + b as u64));
        // The second test, in the order of the stream: Gaussian elimination of the Gram matrix by accepted candidates.
        let mut gram = tested.gram;
        let mut taken: Vec<usize> = Vec::new();
        for (row, b) in tested.survivors.iter().enumerate() {
            let number = t + *b as u64;
            let s = gram[(row, row)];
            if candidates.uniform(number) >= s || taken.len() == left {
                continue;
            }
            if let Some(atom) = candidates.atom(number) {
                if atoms.contains(&atom) {
                    continue;
                }
                atoms.push(atom);
            }
            taken.push(row);
            sample.accepted.push(number);
            if retest {
                eliminate(gram.as_mut(), row);
                span.flops += 2.0 * ((tested.survivors.len() - row) as f64).powi(2);
            }
        }
        span.add(f, &tested.survivors, &taken, tested.coordinates.as_ref());
        t += n as u64;
    }
    sample.proposals = sample.accepted.last().map_or(0, |t| t + 1);
    sample.flops = span.flops;
    Ok(sample)
}

/// G ← G − g gᵀ/g_pp below and right of the pivot p, g its column.
fn eliminate(mut gram: MatMut<'_, f64>, pivot: usize) {
    let n = gram.nrows();
    let scale = 1.0 / gram[(pivot, pivot)];
    for j in pivot + 1..n {
        let factor = gram[(pivot, j)] * scale;
        for i in pivot + 1..n {
            gram[(i, j)] -= gram[(i, pivot)] * factor;
        }
    }
}

/// The span of the accepted features, as a basis of it or of its complement.
struct Span {
    m: usize,
    /// Orthonormal basis of the span, m × count, column-major.
    q: Vec<f64>,
    /// Orthonormal basis of the complement in the columns from `first` on.
    z: Option<Mat<f64>>,
    first: usize,
    par: Par,
    flops: f64,
}

/// Candidates of a block that pass the first test.
struct Tested {
    /// Their rows in the block.
    survivors: Vec<usize>,
    /// Gram matrix of their residuals.
    gram: Mat<f64>,
    /// Their coordinates in the basis that is held, one column each.
    coordinates: Mat<f64>,
}

impl Span {
    fn new(m: usize, par: Par) -> Self {
        let q = Vec::with_capacity(m * (m / 2 + 2 * TARGETS[1]).min(m));
        Self { m, q, z: None, first: 0, par, flops: 0.0 }
    }

    /// s of every row of `f` (n × m) against its uniform number; residuals' Gram matrix for those that pass.
    fn test(&mut self, f: MatRef<'_, f64>, uniform: impl Fn(usize) -> f64) -> Tested {
        let (n, m) = (f.nrows(), self.m);
        let complement = self.z.is_some();
        let mut basis = MatRef::from_column_major_slice(&self.q, m, self.q.len() / m);
        if let Some(z) = &self.z {
            basis = z.as_ref().subcols(self.first, z.ncols() - self.first);
        }
        let k = basis.ncols();
        let mut c = Mat::zeros(n, k);
        matmul(c.as_mut(), Accum::Replace, f, basis, 1.0, self.par);
        let mut s = vec![0.0; n];
        for column in c.col_iter() {
            s.iter_mut().zip(column.iter()).for_each(|(s, c)| *s += c * c);
        }
        if !complement {
            s.iter_mut().for_each(|s| *s = 1.0 - *s);
        }
        let survivors: Vec<usize> = (0..n).filter(|b| uniform(*b) < s[*b]).collect();
        let coordinates = Mat::from_fn(k, survivors.len(), |i, j| c[(survivors[j], i)]);
        let mut gram = Mat::zeros(survivors.len(), survivors.len());
        matmul(gram.as_mut(), Accum::Replace, coordinates.transpose(), &coordinates, 1.0, self.par);
        let count = survivors.len() as f64;
        self.flops += 2.0 * (n * k) as f64 * (m as f64 + 1.0) + 2.0 * count * count * k as f64;
        if !complement {
            let features = rows(f, &survivors);
            let inner = gram.clone();
            matmul(gram.as_mut(), Accum::Replace, features.transpose(), &features, 1.0, self.par);
            gram -= inner;
            self.flops += 2.0 * count * count * m as f64;
        }
        Tested { survivors, gram, coordinates }
    }

    /// Adds the survivors `taken` to the span.
    fn add(&mut self, f: MatRef<'_, f64>, survivors: &[usize], taken: &[usize], coordinates: MatRef<'_, f64>) {
        if taken.is_empty() {
            return;
        }
        let (k, par) = (taken.len(), self.par);
        let mut c = Mat::from_fn(coordinates.nrows(), k, |i, j| coordinates[(i, taken[j])]);
        if let Some(z) = &mut self.z {
            // Z ← (Z H)[:, k:] with H of c = H R: its other columns are orthogonal to the new points.
            let left = c.nrows();
            let factor = factorise(c.as_mut(), par);
            let z = z.as_mut().subcols_mut(self.first, left);
            let mut memory = MemBuffer::new(right_scratch::<f64>(left, factor.nrows(), z.nrows()));
            let stack = MemStack::new(&mut memory);
            apply_on_the_right(c.as_ref(), factor.as_ref(), Conj::No, z, par, stack);
            self.first += k;
            self.flops += 4.0 * (self.m * left * k) as f64 + 2.0 * (left * k * k) as f64;
            return;
        }
        // Two Gram–Schmidt projections, then an orthonormal basis of what is left of the block's points.
        let chosen: Vec<usize> = taken.iter().map(|row| survivors[*row]).collect();
        let mut r = rows(f, &chosen);
        let q = MatRef::from_column_major_slice(&self.q, self.m, self.q.len() / self.m);
        if q.ncols() > 0 {
            matmul(r.as_mut(), Accum::Add, q, &c, -1.0, par);
            matmul(c.as_mut(), Accum::Replace, q.transpose(), &r, 1.0, par);
            matmul(r.as_mut(), Accum::Add, q, &c, -1.0, par);
        }
        let factor = factorise(r.as_mut(), par);
        let mut basis = Mat::<f64>::identity(self.m, k);
        let mut memory = MemBuffer::new(left_scratch::<f64>(self.m, factor.nrows(), k));
        apply_on_the_left(r.as_ref(), factor.as_ref(), Conj::No, basis.as_mut(), par, MemStack::new(&mut memory));
        self.flops += 6.0 * (self.m * q.ncols() * k) as f64 + 6.0 * (self.m * k * k) as f64;
        basis.col_iter().for_each(|column| self.q.extend(column.iter()));
    }

    /// From a basis of the span to one of its complement: Q = H R, Z = H [0; I].
    fn turn_to_complement(&mut self) {
        if self.z.is_some() {
            return;
        }
        let (m, k) = (self.m, self.q.len() / self.m);
        let mut z = Mat::zeros(m, m - k);
        (0..m - k).for_each(|j| z[(k + j, j)] = 1.0);
        let mut q = MatMut::from_column_major_slice_mut(&mut self.q, m, k);
        let factor = factorise(q.as_mut(), self.par);
        let mut memory = MemBuffer::new(left_scratch::<f64>(m, factor.nrows(), m - k));
        let stack = MemStack::new(&mut memory);
        apply_on_the_left(q.as_ref(), factor.as_ref(), Conj::No, z.as_mut(), self.par, stack);
        let (m, k) = (m as f64, k as f64);
        self.flops += 2.0 * k * k * (m - k / 3.0) + 4.0 * m * k * (m - k) - 2.0 * k * k * (m - k);
        self.q = Vec::new();
        self.z = Some(z);
    }
}

/// Rows of `f` as columns.
fn rows(f: MatRef<'_, f64>, chosen: &[usize]) -> Mat<f64> {
    Mat::from_fn(f.ncols(), chosen.len(), |i, j| f[(chosen[j], i)])
}

#[cfg(test)]
mod tests;
