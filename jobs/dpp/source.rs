//! Where candidates come from.

use faer::{MatMut, Par};
use rayon::prelude::*;

use super::error::DesignError;
use super::sampler::{Blocks, Candidates, Sample, sample};
use super::space::Space;
use super::stream::Stream;

/// Candidates that a thread evaluates at once.
const CHUNK: usize = 32;

/// Candidates of a space's Christoffel measure.
#[derive(Debug, Clone, Copy)]
pub struct Continuous<'a> {
    /// The space.
    pub space: &'a Space,
    /// Its random numbers.
    pub stream: Stream,
}

impl Candidates for Continuous<'_> {
    fn functions(&self) -> usize {
        self.space.len()
    }

    fn unit_features(&self, first: u64, out: MatMut<'_, f64>, par: Par) {
        let d = self.space.dimension();
        let mut points = vec![0.0; out.nrows() * d];
        let fill = |first: u64, points: &mut [f64], mut out: MatMut<'_, f64>| {
            for (b, x) in points.chunks_mut(d).enumerate() {
                self.space.draw(&self.stream, first + b as u64, x);
            }
            self.space.features(points, out.as_mut());
            normalise(out);
        };
        if par.degree() > 1 {
            let chunks = out.par_row_chunks_mut(CHUNK).zip(points.par_chunks_mut(CHUNK * d)).enumerate();
            chunks.for_each(|(c, (out, points))| fill(first + (c * CHUNK) as u64, points, out));
        } else {
            fill(first, &mut points, out);
        }
    }

    fn uniform(&self, t: u64) -> f64 {
        self.stream.choices(t).0
    }
}

/// Scales the rows of an n × m matrix to length 1; returns the squared lengths they had.
pub fn normalise(mut f: MatMut<'_, f64>) -> Vec<f64> {
    let mut squares = vec![0.0; f.nrows()];
    for column in f.as_ref().col_iter() {
        squares.iter_mut().zip(column.iter()).for_each(|(s, v)| *s += v * v);
    }
    let scales: Vec<f64> = squares.iter().map(|s| 1.0 / s.sqrt()).collect();
    for column in f.as_mut().col_iter_mut() {
        column.iter_mut().zip(&scales).for_each(|(v, scale)| *v *= scale);
    }
    squares
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
    fn rows(&self, picks: &[Pick], out: MatMut<'_, f64>) -> Vec<f64>;
}

impl Universe for Space {
    fn functions(&self) -> usize {
        self.len()
    }

    fn sample(&self, stream: Stream, blocks: Blocks) -> Result<Sample, DesignError> {
        sample(&Continuous { space: self, stream }, blocks)
    }

    fn rows(&self, picks: &[Pick], out: MatMut<'_, f64>) -> Vec<f64> {
        let d = self.dimension();
        let mut points = vec![0.0; picks.len() * d];
        for (x, pick) in points.chunks_mut(d).zip(picks) {
            if pick.plain { self.draw_reference(&pick.stream, pick.t, x) } else { self.draw(&pick.stream, pick.t, x) }
        }
        self.features(&points, out);
        points
    }
}
