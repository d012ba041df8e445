//! Where candidates come from: a space of functions, or a pool of atoms with given features.

use faer::{Mat, MatMut, MatRef, Par};
use rayon::prelude::*;

use super::error::DesignError;
use super::sampler::Candidates;
use super::space::Space;
use super::stream::Stream;

/// Relative size of a pivot of R below which a pool's features do not span the space.
const RANK_TOLERANCE: f64 = 1e-12;
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

/// N atoms with features that are orthonormal in the sum over atoms: VᵀV = I.
#[derive(Debug, Clone)]
pub struct Pool {
    /// Vᵀ, m × N: the features of an atom lie side by side.
    pub features: Mat<f64>,
    /// Σ_{j' ≤ j} ‖V_j'‖², up to m.
    cumulative: Vec<f64>,
}

impl Pool {
    /// A pool of any features of full rank (N × m), orthonormalised by Householder QR.
    ///
    /// # Errors
    /// [`DesignError::RankDeficient`].
    pub fn new(features: MatRef<'_, f64>) -> Result<Self, DesignError> {
        let functions = features.ncols();
        let qr = features.col_piv_qr();
        let r = qr.thin_R();
        let pivot = |i: usize| r[(i, i)].abs();
        let rank = (0..features.nrows().min(functions)).filter(|i| pivot(*i) > RANK_TOLERANCE * pivot(0)).count();
        if rank < functions {
            return Err(DesignError::RankDeficient { rank, functions });
        }
        Ok(Self::orthonormal(qr.compute_thin_Q().transpose().to_owned()))
    }

    /// A pool of features (m × N) that are orthonormal already.
    pub fn orthonormal(features: Mat<f64>) -> Self {
        let mut sum = 0.0;
        let mut add = |leverage: f64| {
            sum += leverage;
            sum
        };
        let cumulative = features.col_iter().map(|v| add(v.squared_norm_l2())).collect();
        Self { features, cumulative }
    }

    /// The atom where the distribution function of the leverages is `u`.
    fn atom(&self, u: f64) -> usize {
        let total = self.cumulative.last().copied().unwrap_or(0.0);
        self.cumulative.partition_point(|sum| *sum <= u * total).min(self.cumulative.len() - 1)
    }
}

/// Candidates of a pool: atom j with probability ‖V_j‖²/m.
#[derive(Debug, Clone, Copy)]
pub struct Discrete<'a> {
    /// The pool.
    pub pool: &'a Pool,
    /// Its random numbers.
    pub stream: Stream,
}

impl Candidates for Discrete<'_> {
    fn functions(&self) -> usize {
        self.pool.features.nrows()
    }

    fn unit_features(&self, first: u64, mut out: MatMut<'_, f64>, _par: Par) {
        for b in 0..out.nrows() {
            let atom = self.pool.atom(self.stream.choices(first + b as u64).1);
            out.as_mut().row_mut(b).transpose_mut().copy_from(self.pool.features.col(atom));
        }
        normalise(out);
    }

    fn uniform(&self, t: u64) -> f64 {
        self.stream.choices(t).0
    }

    fn atom(&self, t: u64) -> Option<usize> {
        Some(self.pool.atom(self.stream.choices(t).1))
    }
}
