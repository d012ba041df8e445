//! H^s of fields whose rows along the first axis ranks share.
//!
//! Each rank sums its rows along all other axes with cosines and sines of |k|; then it gives columns of the sums away and gets all rows of
//! its own columns (all-to-all), and sums these along the first axis. Products of cosines and sines are orthogonal, and (α + |κ|²)^s is even in
//! the wave number of each axis, so that modes need not be put together: Σ_k (α + |κ|²)^s |x̂_k|² = Σ c (α + |κ|²)^s A² over all sums A, c
//! the product of 2 for each axis, but 1 where its k is 0 or Nyquist's.

use std::f64::consts::TAU;
use std::ops::Range;
use std::sync::Arc;

use convoke_cluster::comm::CommError;
use convoke_cluster::{Comm, block};
use rayon::prelude::*;

use super::axis::Axis;
use super::pool::Pool;
use super::spec::SobolevSpec;
use crate::learning::real::Real;

/// A grid shared by rows, with the weights of a norm.
#[derive(Debug, Clone)]
pub struct Slabs<T> {
    axes: Vec<Axis<T>>,
    /// Of each rank, rows of fields and columns of what is left of the other axes.
    rows: Vec<Range<usize>>,
    columns: Vec<Range<usize>>,
    rank: usize,
    /// Of the sums in this rank's columns, `[C above D of the first axis, column]`, over the square of the number of points.
    weights: Vec<T>,
    pool: Arc<Pool<T>>,
}

/// C and D along an axis of all frequencies.
fn sums(points: usize) -> usize {
    2 * (points / 2 + 1)
}

/// Numbers that are left of a row.
fn width(points: &[usize]) -> usize {
    points[1..].iter().map(|n| sums(*n)).product()
}

impl<T: Real> Slabs<T> {
    /// Of `points`, of which each rank has these `rows` of the first axis; this one is `rank`.
    pub fn new(SobolevSpec { s, alpha }: SobolevSpec, points: &[usize], rows: &[Range<usize>], rank: usize) -> Self {
        let width = width(points);
        let columns: Vec<_> = (0..rows.len()).map(|rank| block(width, rank, rows.len())).collect();
        let size: usize = points.iter().product();
        // Of a row of sums along one axis: |κ|² and c.
        let wave = |row: usize, n: usize| {
            let k = row % (n / 2 + 1);
            ((TAU * k as f64).powi(2), if k == 0 || 2 * k == n { 1.0 } else { 2.0 })
        };
        let weight = |row: usize, mut column: usize| {
            let (mut square, mut c) = wave(row, points[0]);
            for n in points[1..].iter().rev() {
                let along = wave(column % sums(*n), *n);
                (square, c) = (square + along.0, c * along.1);
                column /= sums(*n);
            }
            T::of(c * (alpha + square).powf(s) / (size as f64).powi(2))
        };
        let mine = columns[rank].clone();
        Self {
            weights: (0..sums(points[0])).flat_map(|row| mine.clone().map(move |column| weight(row, column))).collect(),
            axes: points.iter().map(|n| Axis::new(*n, n / 2 + 1, (*n, 0))).collect(),
            rows: rows.to_vec(),
            columns,
            rank,
            pool: Arc::default(),
        }
    }

    /// Numbers that a rank sends, at most, for [`Slabs::relative`] of so many fields.
    pub fn sent(points: &[usize], rows: &[Range<usize>], fields: usize) -> usize {
        let (ranks, width) = (rows.len(), width(points));
        let of = |(rank, rows): (usize, &Range<usize>)| {
            let mine = block(width, rank, ranks).len();
            fields * (2 * rows.len() * (width - mine) + mine * (points[0] - rows.len()))
        };
        rows.iter().enumerate().map(of).max().unwrap_or(0)
    }

    /// `factor` ‖e‖/‖t‖ of each sample's error and target, `[channel, rows, …]`, and the derivative by the rows of the error that are here.
    /// Collective.
    ///
    /// # Errors
    /// As the exchange.
    pub fn relative(
        &self,
        comm: &Comm,
        errors: &[Vec<T>],
        targets: &[&Vec<T>],
        factor: f64,
    ) -> Result<Vec<(f64, Vec<T>)>, CommError> {
        let fields: Vec<&[T]> = errors.iter().chain(targets.iter().copied()).map(Vec::as_slice).collect();
        let mut all = self.analysis(comm, &fields)?;
        let square = |field: &Vec<T>| -> f64 {
            let weighed =
                |part: &[T]| part.iter().zip(&self.weights).map(|(a, w)| a.wide() * a.wide() * w.wide()).sum::<f64>();
            field.chunks(self.weights.len().max(1)).map(weighed).sum()
        };
        let mut squares: Vec<f64> = all.par_iter().map(square).collect();
        comm.all_sum(&mut squares)?;
        self.pool.give_all(all.split_off(errors.len()));
        let (error, size) = squares.split_at(errors.len());
        let norms: Vec<[f64; 2]> =
            error.iter().zip(size).map(|(e, t)| [e.sqrt(), t.sqrt().max(f64::MIN_POSITIVE)]).collect();
        all.par_iter_mut().zip(&norms).for_each(|(field, [error, size])| {
            let scale = T::of(if *error == 0.0 { 0.0 } else { factor / (error * size) });
            for part in field.chunks_mut(self.weights.len().max(1)) {
                part.iter_mut().zip(&self.weights).for_each(|(a, w)| *a *= scale * *w);
            }
        });
        let slopes = self.adjoint(comm, all)?;
        Ok(norms.iter().map(|[error, size]| factor * error / size).zip(slopes).collect())
    }

    /// All sums in this rank's columns, `[channel, C above D of the first axis, column]` of each field. Collective.
    fn analysis(&self, comm: &Comm, fields: &[&[T]]) -> Result<Vec<Vec<T>>, CommError> {
        let width = self.columns.last().map_or(0, |columns| columns.end);
        let local: Vec<Vec<T>> = fields.par_iter().map(|field| self.along_others(field)).collect();
        let part = |columns: &Range<usize>| {
            let mut part = Vec::with_capacity(local.iter().map(Vec::len).sum::<usize>() / width * columns.len());
            local
                .iter()
                .flat_map(|sums| sums.chunks(width))
                .for_each(|row| part.extend_from_slice(&row[columns.clone()]));
            part
        };
        let parts: Vec<Vec<T>> = self.columns.iter().map(part).collect();
        self.pool.give_all(local);
        let got = comm.all_to_all(&parts.iter().map(Vec::as_slice).collect::<Vec<_>>())?;
        let (mine, n) = (self.columns[self.rank].len(), self.axes[0].points());
        let count = got.iter().map(Vec::len).sum::<usize>() / (n * mine).max(1);
        let each = count / fields.len().max(1);
        let whole = |field: usize| {
            let mut all = self.pool.take(each * n * mine);
            for (rows, part) in self.rows.iter().zip(&got) {
                for channel in 0..each {
                    let from = &part[(field * each + channel) * rows.len() * mine..][..rows.len() * mine];
                    all[(channel * n + rows.start) * mine..][..from.len()].copy_from_slice(from);
                }
            }
            let mut sums = self.pool.take(each * self.axes[0].rows() * mine);
            if mine > 0 {
                self.axes[0].analysis(&self.pool, &all, &mut sums, mine);
            }
            self.pool.give(all);
            sums
        };
        Ok((0..fields.len()).into_par_iter().map(whole).collect())
    }

    /// The adjoint of [`Slabs::analysis`]. Collective.
    fn adjoint(&self, comm: &Comm, sums: Vec<Vec<T>>) -> Result<Vec<Vec<T>>, CommError> {
        let (mine, n, here) = (self.columns[self.rank].len(), self.axes[0].points(), self.rows[self.rank].len());
        let width = self.columns.last().map_or(0, |columns| columns.end);
        let fields = |sums: &Vec<T>| {
            let mut fields = self.pool.take(sums.len() / self.axes[0].rows() * n);
            if mine > 0 {
                self.axes[0].adjoint(&self.pool, sums, &mut fields, mine);
            }
            fields
        };
        let all: Vec<Vec<T>> = sums.par_iter().map(fields).collect();
        let count = sums.len();
        self.pool.give_all(sums);
        let part = |rows: &Range<usize>| {
            let mut part = Vec::with_capacity(all.iter().map(Vec::len).sum::<usize>() / n * rows.len());
            for channel in all.iter().flat_map(|field| field.chunks((n * mine).max(1))) {
                part.extend_from_slice(&channel[rows.start * mine..rows.end * mine]);
            }
            part
        };
        let parts: Vec<Vec<T>> = self.rows.iter().map(part).collect();
        self.pool.give_all(all);
        let got = comm.all_to_all(&parts.iter().map(Vec::as_slice).collect::<Vec<_>>())?;
        let lines = got.iter().map(Vec::len).sum::<usize>() / width / count.max(1);
        assert_eq!(lines % here, 0, "every rank sends this rank's rows of all channels");
        let field = |field: usize| {
            let mut sums = self.pool.take(lines * width);
            for (line, sums) in sums.chunks_mut(width).enumerate() {
                for (columns, part) in self.columns.iter().zip(&got) {
                    let from = &part[(field * lines + line) * columns.len()..][..columns.len()];
                    sums[columns.clone()].copy_from_slice(from);
                }
            }
            self.along_others_back(sums)
        };
        Ok((0..count).into_par_iter().map(field).collect())
    }

    /// Sums of rows along all axes but the first, `[channel, row, column]`.
    fn along_others(&self, x: &[T]) -> Vec<T> {
        let (mut z, mut after) = (self.pool.take(x.len()), 1);
        z.copy_from_slice(x);
        for axis in self.axes[1..].iter().rev() {
            let mut next = self.pool.take(z.len() / axis.points() * axis.rows());
            axis.analysis(&self.pool, &z, &mut next, after);
            self.pool.give(std::mem::replace(&mut z, next));
            after *= axis.rows();
        }
        z
    }

    /// The adjoint of [`Slabs::along_others`].
    fn along_others_back(&self, mut z: Vec<T>) -> Vec<T> {
        let mut after = self.axes[1..].iter().map(Axis::rows).product::<usize>();
        for axis in &self.axes[1..] {
            after /= axis.rows();
            let mut next = self.pool.take(z.len() / axis.rows() * axis.points());
            axis.adjoint(&self.pool, &z, &mut next, after);
            self.pool.give(std::mem::replace(&mut z, next));
        }
        z
    }
}
