//! Where candidates come from.

use std::ops::Range;

use convoke_cluster::Comm;
use faer::{MatMut, MatRef, Par};
use rayon::prelude::*;

use super::error::DesignError;
use super::sampler::{Blocks, Candidates, Sample, sample};
use super::space::Space;
use super::stream::Stream;

/// Candidates that are evaluated at once: their values stay in cache.
const CHUNK: usize = 32;

/// Candidates of a space's Christoffel measure.
#[derive(Debug, Clone)]
pub struct Continuous<'a> {
    /// The space.
    pub space: &'a Space,
    /// Its random numbers.
    pub stream: Stream,
    /// Who draws.
    pub comm: Comm,
}

impl<'a> Continuous<'a> {
    /// For one rank alone.
    pub fn new(space: &'a Space, stream: Stream) -> Self {
        Self { space, stream, comm: Comm::solo() }
    }

    /// Coordinates of candidates, `[n, d]`; each rank draws some of them.
    fn points(&self, candidates: &[u64], par: Par) -> Result<Vec<f64>, DesignError> {
        let (space, stream, d) = (self.space, self.stream, self.space.dimension());
        let own = &candidates[self.comm.block(candidates.len())];
        let mut points = vec![0.0; own.len() * d];
        let draw = |(t, x): (&u64, &mut [f64])| space.draw(&stream, *t, x);
        if par.degree() > 1 {
            own.par_iter().zip(points.par_chunks_mut(d)).for_each(draw);
        } else {
            own.iter().zip(points.chunks_mut(d)).for_each(draw);
        }
        Ok(if self.comm.size() == 1 { points } else { self.comm.all_gather(&points)?.concat() })
    }
}

impl Candidates for Continuous<'_> {
    fn functions(&self) -> usize {
        self.space.len()
    }

    fn comm(&self) -> &Comm {
        &self.comm
    }

    fn features(
        &self,
        candidates: &[u64],
        part: Range<usize>,
        mut out: MatMut<'_, f64>,
        par: Par,
    ) -> Result<(), DesignError> {
        let (space, d) = (self.space, self.space.dimension());
        let points = self.points(candidates, par)?;
        if par.degree() > 1 {
            let chunks = out.par_row_chunks_mut(CHUNK).zip(points.par_chunks(CHUNK * d));
            chunks.for_each(|(out, points)| space.features_of(part.clone(), points, out));
        } else {
            for (c, points) in points.chunks(CHUNK * d).enumerate() {
                let rows = out.as_mut().subrows_mut(c * CHUNK, points.len() / d);
                space.features_of(part.clone(), points, rows);
            }
        }
        Ok(())
    }

    fn uniform(&self, t: u64) -> f64 {
        self.stream.choices(t).0
    }
}

/// Squared lengths of the rows of an n × m matrix.
pub fn squared_lengths(f: MatRef<'_, f64>) -> Vec<f64> {
    let mut squares = vec![0.0; f.nrows()];
    for column in f.col_iter() {
        squares.iter_mut().zip(column.iter()).for_each(|(s, v)| *s += v * v);
    }
    squares
}

/// Divides rows by the roots of `squares`.
pub fn scale_rows(f: MatMut<'_, f64>, squares: &[f64]) {
    let scales: Vec<f64> = squares.iter().map(|s| 1.0 / s.sqrt()).collect();
    for column in f.col_iter_mut() {
        column.iter_mut().zip(&scales).for_each(|(v, scale)| *v *= scale);
    }
}

/// A point of a design before it is one: where in which stream it comes from.
#[derive(Debug, Clone, Copy)]
pub struct Pick {
    /// The stream of its part.
    pub stream: Stream,
    /// Its number in it.
    pub t: u64,
    /// Whether it is drawn from μ itself instead of the Christoffel measure.
    pub plain: bool,
}

/// What designs are drawn from: a space of functions, or a pool of atoms.
pub trait Universe {
    /// m.
    fn functions(&self) -> usize;
    /// A sample of the process from a stream.
    ///
    /// # Errors
    /// As [`sample`].
    fn sample(&self, stream: Stream, blocks: Blocks) -> Result<Sample, DesignError>;
    /// Coordinates of the points, one row for each, and their φ, orthonormal in L²(μ), into `out` (n × m).
    ///
    /// # Errors
    /// Where another rank is gone.
    fn rows(&self, picks: &[Pick], out: MatMut<'_, f64>) -> Result<Vec<f64>, DesignError>;
}

impl Universe for Space {
    fn functions(&self) -> usize {
        self.len()
    }

    fn sample(&self, stream: Stream, blocks: Blocks) -> Result<Sample, DesignError> {
        sample(&Continuous::new(self, stream), blocks)
    }

    fn rows(&self, picks: &[Pick], out: MatMut<'_, f64>) -> Result<Vec<f64>, DesignError> {
        let d = self.dimension();
        let mut points = vec![0.0; picks.len() * d];
        for (x, pick) in points.chunks_mut(d).zip(picks) {
            if pick.plain { self.draw_reference(&pick.stream, pick.t, x) } else { self.draw(&pick.stream, pick.t, x) }
        }
        self.features(&points, out);
        Ok(points)
    }
}
