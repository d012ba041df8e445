//! Bytes that one rank sends, by formula: what a run counts equals it (tests below, and in `transforms` and `krylov`).

use convoke_cluster::comm::shared_bytes;
use convoke_cluster::shard::block;

use super::krylov::reduction_bytes;
use super::layout::{Coefficients, Place};

/// One rank of a solve.
#[derive(Debug, Clone)]
pub struct Sender<'a> {
    /// Its part.
    pub place: Place,
    /// Nodes along each mode.
    pub points: &'a [usize],
    /// All coefficients.
    pub coefficients: &'a Coefficients,
}

/// How many derivatives of the unknown an equation reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reads {
    /// In what is not inverted exactly.
    pub rest: usize,
    /// In the products of its Jacobian.
    pub jacobian: usize,
    /// In the whole equation.
    pub residual: usize,
}

impl Sender<'_> {
    fn ranks(&self) -> usize {
        self.place.grid.slabs * self.place.grid.groups
    }

    /// A sum of `n` numbers over all ranks.
    pub fn sum(&self, n: usize) -> u64 {
        let ranks = self.ranks();
        if ranks == 1 {
            return 0;
        }
        // As `Comm::all_sum`: long ones are scattered, then gathered.
        if 8 * n <= 4096 {
            return (8 * n * (ranks - 1)) as u64;
        }
        let own = block(n, self.place.rank, ranks).len();
        (8 * (n - own + own * (ranks - 1))) as u64
    }

    /// One field from coefficients, at the nodes.
    pub fn up(&self) -> u64 {
        self.up_at(self.points)
    }

    /// One field from coefficients, at other points.
    pub fn up_at(&self, points: &[usize]) -> u64 {
        self.place.bytes_up(points, self.coefficients)
    }

    /// Coefficients from one field.
    pub fn down(&self) -> u64 {
        self.place.bytes_down(self.points, self.coefficients)
    }

    /// The Jacobian applied to a vector.
    pub fn jacobian(&self, reads: Reads) -> u64 {
        reads.jacobian as u64 * self.up() + self.down()
    }

    /// `iterations` of GMRES without a restart.
    pub fn gmres(&self, reads: Reads, iterations: usize) -> u64 {
        reduction_bytes(iterations, self.ranks()) + iterations as u64 * self.jacobian(reads)
    }

    /// The equation's residual in coefficients.
    pub fn residual(&self, reads: Reads) -> u64 {
        reads.rest as u64 * self.up() + self.down()
    }

    /// A step of Newton's method that tried `trials` lengths.
    pub fn newton(&self, reads: Reads, iterations: usize, trials: usize) -> u64 {
        let slopes = reads.rest as u64 * self.up() + self.sum(2);
        let before = self.residual(reads) + 2 * self.sum(1);
        let trial = self.residual(reads) + 2 * self.sum(1);
        slopes + before + self.gmres(reads, iterations) + trials as u64 * trial
    }

    /// The residual held out at these points.
    pub fn held_out(&self, reads: Reads, points: &[usize]) -> u64 {
        reads.residual as u64 * self.up_at(points) + self.sum(2 + reads.residual)
    }

    /// The set-up: factors of the axes of these lengths (in numbers), and the extreme eigenvalues.
    pub fn set_up(&self, lengths: &[usize]) -> u64 {
        let ranks = self.ranks();
        let list = |rank: usize| lengths.iter().skip(rank).step_by(ranks).sum();
        let lists: Vec<usize> = (0..ranks).map(list).collect();
        shared_bytes(&lists, self.place.rank, 8) + self.sum(2)
    }

    /// New weights from the field, given the number of frequencies of each axis.
    pub fn reweighting(&self, frequencies: &[usize]) -> u64 {
        let (slab, group) = self.place.grid.place(self.place.rank);
        let parts = self.place.field(self.points);
        let mine: usize = parts.iter().map(ExactSizeIterator::len).product();
        let mut sent = 0;
        if self.place.grid.slabs > 1 {
            let row = mine / parts[0].len().max(1);
            sent += parts[0].len() * (row - block(row, slab, self.place.grid.slabs).len());
        }
        if let Some(last) = parts.last().filter(|_| self.place.grid.groups > 1) {
            let lines = mine / last.len().max(1);
            sent += last.len() * (lines - block(lines, group, self.place.grid.groups).len());
        }
        8 * sent as u64 + frequencies.iter().map(|m| self.sum(*m)).sum::<u64>()
    }
}
