//! The span of the accepted features, as a basis of it or of its complement; each rank has the rows of its own functions.

use std::ops::Range;

use convoke_cluster::Comm;
use convoke_cluster::comm::CommError;
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::householder::{
    apply_block_householder_sequence_on_the_left_in_place_scratch as left_scratch,
    apply_block_householder_sequence_on_the_left_in_place_with_conj as apply_on_the_left,
    apply_block_householder_sequence_on_the_right_in_place_scratch as right_scratch,
    apply_block_householder_sequence_on_the_right_in_place_with_conj as apply_on_the_right,
};
use faer::linalg::matmul::matmul;
use faer::linalg::triangular_solve::{
    solve_lower_triangular_in_place, solve_unit_lower_triangular_in_place, solve_unit_upper_triangular_in_place,
};
use faer::{Accum, Conj, Mat, MatMut, MatRef, Par};

use super::{Bases, TARGETS};
use crate::dpp::error::DesignError;
use crate::dpp::qr::factorise;

/// Columns that are eliminated one by one.
const PANEL: usize = 32;

/// An orthonormal basis, of the span or of what is left.
#[derive(Debug)]
pub(super) struct Span {
    m: usize,
    mine: Range<usize>,
    /// Basis of the span, own rows × count, column-major.
    q: Vec<f64>,
    count: usize,
    /// Basis of the complement in the columns from `first` on, own rows × (m − count).
    z: Option<Mat<f64>>,
    first: usize,
    par: Par,
    /// Multiplications and additions, of all ranks.
    flops: f64,
}

/// Candidates of a block that pass the first test; the same on all ranks.
pub(super) struct Tested {
    /// Their rows in the block.
    pub(super) survivors: Vec<usize>,
    /// Gram matrix of their residuals.
    pub(super) gram: Mat<f64>,
    /// Their coordinates in the basis that is held, one column each.
    pub(super) coordinates: Mat<f64>,
}

impl Span {
    /// Of nothing.
    pub(super) fn new(m: usize, comm: &Comm, par: Par) -> Self {
        let mine = comm.block(m);
        let q = Vec::with_capacity(mine.len() * (m / 2 + 2 * TARGETS[1]).min(m));
        Self { m, mine, q, count: 0, z: None, first: 0, par, flops: 0.0 }
    }

    fn basis(&self) -> MatRef<'_, f64> {
        match &self.z {
            Some(z) => z.as_ref().subcols(self.first, z.ncols() - self.first),
            None => MatRef::from_column_major_slice(&self.q, self.mine.len(), self.count),
        }
    }

    /// Coordinates of the rows of `f` (n × own functions) in the basis, n × columns of it. Collective.
    fn coordinates(&mut self, f: MatRef<'_, f64>, comm: &Comm) -> Result<Columns, CommError> {
        let (n, k) = (f.nrows(), self.basis().ncols());
        let mut c = Columns::zeros(n, k);
        matmul(c.as_mut(), Accum::Replace, f, self.basis(), 1.0, self.par);
        self.flops += 2.0 * (n * k * self.m) as f64;
        c.all_sum(comm)?;
        Ok(c)
    }

    /// An orthonormal basis of what `q` (m × k, of orthonormal columns, k > m/2) leaves, and the flops that it takes.
    pub(super) fn complement(q: MatRef<'_, f64>, par: Par) -> Result<(Mat<f64>, f64), DesignError> {
        let (m, count) = (q.nrows(), q.ncols());
        let values = q.col_iter().flat_map(|column| column.iter().copied().collect::<Vec<_>>()).collect();
        let mut span = Self { m, mine: 0..m, q: values, count, z: None, first: 0, par, flops: 0.0 };
        span.shorten(&Comm::solo())?;
        Ok((span.z.unwrap_or_else(Mat::new), span.flops))
    }
}

impl Bases for Span {
    fn functions(&self) -> usize {
        self.m
    }

    fn mine(&self) -> Range<usize> {
        self.mine.clone()
    }

    fn flops(&self) -> f64 {
        self.flops
    }

    fn test(&mut self, f: MatRef<'_, f64>, uniform: &dyn Fn(usize) -> f64, comm: &Comm) -> Result<Tested, DesignError> {
        let n = f.nrows();
        let c = self.coordinates(f, comm)?;
        let mut s = vec![0.0; n];
        for column in c.as_ref().col_iter() {
            s.iter_mut().zip(column.iter()).for_each(|(s, c)| *s += c * c);
        }
        if self.z.is_none() {
            s.iter_mut().for_each(|s| *s = 1.0 - *s);
        }
        let survivors: Vec<usize> = (0..n).filter(|b| uniform(*b) < s[*b]).collect();
        let coordinates = rows_of(c.as_ref(), &survivors);
        let (count, k) = (survivors.len(), coordinates.nrows());
        let mut inner = Mat::zeros(count, count);
        matmul(inner.as_mut(), Accum::Replace, coordinates.transpose(), &coordinates, 1.0, self.par);
        // The second test eliminates no more than each survivor.
        self.flops += 2.0 * (n * k + count * count * k) as f64 + 2.0 / 3.0 * (count as f64).powi(3);
        if self.z.is_some() {
            return Ok(Tested { survivors, gram: inner, coordinates });
        }
        let features = rows_of(f, &survivors);
        let mut outer = Columns::zeros(count, count);
        matmul(outer.as_mut(), Accum::Replace, features.transpose(), &features, 1.0, self.par);
        outer.all_sum(comm)?;
        self.flops += 2.0 * (count * count * self.m) as f64;
        Ok(Tested { survivors, gram: outer.as_ref() - inner, coordinates })
    }

    fn extend(&mut self, f: MatRef<'_, f64>, comm: &Comm) -> Result<(), DesignError> {
        let c = self.coordinates(f, comm)?;
        self.add(f.transpose().to_owned(), c.as_ref().transpose().to_owned(), comm)
    }

    fn add(&mut self, features: Mat<f64>, mut c: Mat<f64>, comm: &Comm) -> Result<(), DesignError> {
        let k = features.ncols();
        if k == 0 {
            return Ok(());
        }
        self.count += k;
        if let Some(z) = &mut self.z {
            // Z ← (Z H)[:, k:] with H of c = H R: its other columns are orthogonal to the new points.
            let left = c.nrows();
            let factor = factorise(c.as_mut(), self.par);
            let z = z.as_mut().subcols_mut(self.first, left);
            let mut memory = MemBuffer::new(right_scratch::<f64>(left, factor.nrows(), z.nrows()));
            let stack = MemStack::new(&mut memory);
            apply_on_the_right(c.as_ref(), factor.as_ref(), Conj::No, z, self.par, stack);
            self.first += k;
            self.flops += 4.0 * (self.m * left * k) as f64 + 2.0 * (left * k * k) as f64;
            return Ok(());
        }
        // Two Gram–Schmidt projections, then an orthonormal basis of what is left of the points.
        let mut r = features;
        let q = MatRef::from_column_major_slice(&self.q, self.mine.len(), c.nrows());
        if q.ncols() > 0 {
            matmul(r.as_mut(), Accum::Add, q, &c, -1.0, self.par);
            let mut again = Columns::zeros(q.ncols(), k);
            matmul(again.as_mut(), Accum::Replace, q.transpose(), &r, 1.0, self.par);
            again.all_sum(comm)?;
            matmul(r.as_mut(), Accum::Add, q, again.as_ref(), -1.0, self.par);
        }
        self.flops += 6.0 * (self.m * q.ncols() * k) as f64 + 6.0 * (self.m * k * k) as f64;
        let basis = orthonormal(r, comm, self.par)?;
        basis.col_iter().for_each(|column| self.q.extend(column.iter()));
        Ok(())
    }

    /// With signs D for which Q₁ − D, Q₁ the
    /// top of Q, is well conditioned, Z = [0; I] + (Q − [D; 0]) D (Q₂ (Q₁ − D)⁻¹)ᵀ. Its columns are those of the product of
    /// Householder reflections whose first columns are Q (Ballard, Demmel, Grigori, Jacquelin, Nguyen and Solomonik 2014).
    /// Collective.
    fn shorten(&mut self, comm: &Comm) -> Result<(), DesignError> {
        if self.z.is_some() || 2 * self.count <= self.m {
            return Ok(());
        }
        let (m, k, par) = (self.m, self.count, self.par);
        let left = m - k;
        let mut q = Mat::zeros(m, k);
        let mut first = 0;
        for part in comm.all_gather(&std::mem::take(&mut self.q))? {
            let rows = part.len() / k;
            let part = MatRef::from_column_major_slice(&part, rows, k);
            q.as_mut().subrows_mut(first, rows).copy_from(part);
            first += rows;
        }
        let mut lu = q.as_ref().subrows(0, k).to_owned();
        let mut signs = vec![0.0; k];
        signed_lu(lu.as_mut(), &mut signs, par);
        // Columns of D (Q₂ (LU)⁻¹)ᵀ for an equal part of the rows of Q₂ on each rank.
        let part = comm.block(left);
        let mut own = Columns::zeros(k, part.len());
        own.as_mut().copy_from(q.as_ref().subrows(k + part.start, part.len()).transpose());
        solve_lower_triangular_in_place(lu.transpose(), own.as_mut(), par);
        solve_unit_upper_triangular_in_place(lu.transpose(), own.as_mut(), par);
        own.values.iter_mut().zip(signs.iter().cycle()).for_each(|(v, d)| *v *= d);
        let all = comm.all_gather(&own.values)?.concat();
        let right = MatRef::from_column_major_slice(&all, k, left);
        for (i, d) in signs.iter().enumerate() {
            q[(i, i)] -= d;
        }
        let mut z = Mat::from_fn(self.mine.len(), left, |i, j| f64::from(u8::from(self.mine.start + i == k + j)));
        let own = q.as_ref().subrows(self.mine.start, self.mine.len());
        matmul(z.as_mut(), Accum::Add, own, right, 1.0, par);
        let (m, k, left) = (m as f64, k as f64, left as f64);
        self.flops += 2.0 / 3.0 * k.powi(3) + 2.0 * k * k * left + 2.0 * m * k * left;
        self.z = Some(z);
        Ok(())
    }
}

/// A matrix without gaps between its columns, so that it can be sent.
struct Columns {
    values: Vec<f64>,
    rows: usize,
    columns: usize,
}

impl Columns {
    fn zeros(rows: usize, columns: usize) -> Self {
        Self { values: vec![0.0; rows * columns], rows, columns }
    }

    fn as_ref(&self) -> MatRef<'_, f64> {
        MatRef::from_column_major_slice(&self.values, self.rows, self.columns)
    }

    fn as_mut(&mut self) -> MatMut<'_, f64> {
        MatMut::from_column_major_slice_mut(&mut self.values, self.rows, self.columns)
    }

    fn all_sum(&mut self, comm: &Comm) -> Result<(), CommError> {
        comm.all_sum(&mut self.values)
    }
}

/// An orthonormal basis of the columns of a matrix, its rows on the ranks: their factors R are factored again.
pub(super) fn orthonormal(r: Mat<f64>, comm: &Comm, par: Par) -> Result<Mat<f64>, CommError> {
    let (n, k) = (r.nrows(), r.ncols());
    // Rows of zeros change nothing.
    let mut r = if n < k { Mat::from_fn(k, k, |i, j| if i < n { r[(i, j)] } else { 0.0 }) } else { r };
    let factor = factorise(r.as_mut(), par);
    let mut basis = Mat::<f64>::identity(r.nrows(), k);
    if comm.size() > 1 {
        let own: Vec<f64> = (0..k * k).map(|at| if at % k <= at / k { r[(at % k, at / k)] } else { 0.0 }).collect();
        let all = comm.all_gather(&own)?;
        let mut stacked = Mat::from_fn(k * all.len(), k, |i, j| all[i / k][j * k + i % k]);
        let factor = factorise(stacked.as_mut(), par);
        let mut both = Mat::<f64>::identity(stacked.nrows(), k);
        apply(stacked.as_ref(), factor.as_ref(), both.as_mut(), par);
        basis.as_mut().subrows_mut(0, k).copy_from(both.as_ref().subrows(k * comm.rank(), k));
    }
    apply(r.as_ref(), factor.as_ref(), basis.as_mut(), par);
    basis.truncate(n, k);
    Ok(basis)
}

/// H of a factored matrix times another one.
fn apply(reflections: MatRef<'_, f64>, factor: MatRef<'_, f64>, to: MatMut<'_, f64>, par: Par) {
    let mut memory = MemBuffer::new(left_scratch::<f64>(reflections.nrows(), factor.nrows(), to.ncols()));
    apply_on_the_left(reflections, factor, Conj::No, to, par, MemStack::new(&mut memory));
}

/// A − D = LU in place, with the sign D_jj that makes pivot j the larger one: at least 1 for the top of orthonormal columns.
fn signed_lu(mut a: MatMut<'_, f64>, signs: &mut [f64], par: Par) {
    let n = a.nrows();
    if n <= PANEL {
        for j in 0..n {
            signs[j] = if a[(j, j)] > 0.0 { -1.0 } else { 1.0 };
            a[(j, j)] -= signs[j];
            let pivot = a[(j, j)];
            (j + 1..n).for_each(|i| a[(i, j)] /= pivot);
            for column in j + 1..n {
                let factor = a[(j, column)];
                (j + 1..n).for_each(|i| a[(i, column)] -= a[(i, j)] * factor);
            }
        }
        return;
    }
    let half = n / 2;
    let (first, second) = signs.split_at_mut(half);
    let (mut a11, mut a12, mut a21, mut a22) = a.split_at_mut(half, half);
    signed_lu(a11.as_mut(), first, par);
    solve_unit_lower_triangular_in_place(a11.as_ref(), a12.as_mut(), par);
    solve_lower_triangular_in_place(a11.transpose(), a21.as_mut().transpose_mut(), par);
    matmul(a22.as_mut(), Accum::Add, a21.as_ref(), a12.as_ref(), -1.0, par);
    signed_lu(a22, second, par);
}

/// G ← G − g gᵀ/g_pp below and right of the pivot p, g its column.
pub(super) fn eliminate(mut gram: MatMut<'_, f64>, pivot: usize) {
    let n = gram.nrows();
    let scale = 1.0 / gram[(pivot, pivot)];
    for j in pivot + 1..n {
        let factor = gram[(pivot, j)] * scale;
        for i in pivot + 1..n {
            gram[(i, j)] -= gram[(i, pivot)] * factor;
        }
    }
}

/// Rows of `f` as columns.
pub(super) fn rows_of(f: MatRef<'_, f64>, chosen: &[usize]) -> Mat<f64> {
    Mat::from_fn(f.ncols(), chosen.len(), |i, j| f[(chosen[j], i)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dpp::stream::Stream;

    /// [Q Z]ᵀ[Q Z] = I to 1e-13 m on one, two and three ranks, for any points; the second half by reflections.
    #[test]
    fn bases_of_the_complement_are_orthonormal() {
        let (m, stream) = (130, Stream::new(6, 0, 0));
        for ranks in 1..=3 {
            let parts = convoke_cluster::comm::run_threads(ranks, |comm| {
                let mut span = Span::new(m, &comm, Par::Seq);
                let point = |i: usize, j: usize| stream.normal((i * m + j) as u64) / (m as f64).sqrt();
                let all = |first: usize, n: usize| Mat::from_fn(n, m, |i, j| point(first + i, j));
                let own = span.mine();
                let mut kept = Vec::new();
                for first in (0..m - 10).step_by(20) {
                    span.shorten(&comm)?;
                    span.extend(all(first, 20).as_ref().subcols(own.start, own.len()), &comm)?;
                    kept.extend((0..20).map(|i| first + i));
                }
                span.shorten(&comm)?;
                let rows = span.basis().transpose().col_iter().flat_map(|c| c.iter().copied().collect::<Vec<_>>());
                Ok((rows.collect::<Vec<f64>>(), kept.len()))
            });
            let parts: Vec<(Vec<f64>, usize)> = parts.into_iter().map(Result::unwrap).collect();
            let left = m - parts[0].1;
            let z = parts.iter().flat_map(|p| p.0.clone()).collect::<Vec<f64>>();
            let z = Mat::from_fn(m, left, |i, j| z[i * left + j]);
            let gram = z.transpose() * &z - Mat::<f64>::identity(left, left);
            assert!(gram.norm_max() < 1e-12, "{ranks} ranks: {}", gram.norm_max());
            for p in 0..m - left {
                let f = Mat::from_fn(1, m, |_, j| stream.normal((p * m + j) as u64) / (m as f64).sqrt());
                assert!((f * &z).norm_max() < 1e-12, "{ranks} ranks, point {p}");
            }
        }
    }
}
