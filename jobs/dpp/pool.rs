//! A pool of atoms with features that the user gives: μ is uniform on the atoms, V_m the span of the features.
//!
//! Atoms lie in blocks on the ranks. Features are orthonormalised by their factor R, twice, so that VᵀV = I to rounding whatever
//! their condition ("twice is enough", Giraud, Langou and Rozloznik 2005). A candidate is atom j with probability ‖V_j‖²/m: the
//! rank that has it sends the row to all, and every rank draws the same sample.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;

use convoke_cluster::comm::CommError;
use convoke_cluster::{Comm, Error, Result};
use faer::{Mat, MatMut, MatRef, Par};

use super::error::DesignError;
use super::fit::Factor;
use super::sampler::{Blocks, Candidates, Sample, sample};
use super::source::{Pick, Universe};
use super::stream::Stream;
use super::tsqr::{Rows, merge};

/// Atoms of a block.
const BLOCK: usize = 4096;
/// Relative size of a singular value below which features do not span the space.
const RANK_TOLERANCE: f64 = 1e-12;

/// N atoms with features that are orthonormal in the sum over atoms, a rank's own blocks of them.
#[derive(Debug, Clone)]
pub struct Pool {
    rows: Rows,
    functions: usize,
    mine: Vec<Block>,
    /// Σ ‖V_j‖² up to the end of each block; m in all.
    cumulative: Vec<f64>,
}

#[derive(Debug, Clone)]
struct Block {
    number: usize,
    /// Vᵀ, m × atoms: the features of an atom lie side by side.
    features: Mat<f64>,
    /// Σ ‖V_j‖² within the block.
    sums: Vec<f64>,
}

/// How the atoms of a pool are shared out.
pub fn rows(atoms: usize, ranks: usize) -> Rows {
    Rows { n: atoms, block: BLOCK, ranks }
}

impl Pool {
    /// A pool of `rows`, whose features `read` gives by ranges of atoms (atoms × functions). Collective.
    ///
    /// # Errors
    /// Those of `read`; features of lower rank than their number.
    pub fn new(
        comm: &Comm,
        rows: Rows,
        functions: usize,
        mut read: impl FnMut(Range<usize>) -> Result<Mat<f64>>,
    ) -> Result<Self> {
        let own = rows.of(comm.rank());
        let blocks = own.iter().map(|block| read(rows.range(*block))).collect::<Result<Vec<_>>>();
        let blocks = comm.agree(blocks)?;
        let factor = |blocks: &[Mat<f64>]| {
            let of =
                |(number, a): (&usize, &Mat<f64>)| (*number, Factor::of(a.as_ref(), Mat::zeros(a.nrows(), 0).as_ref()));
            merge(comm, rows, own.iter().zip(blocks).map(of).collect(), (functions, 0))
        };
        let first = factor(&blocks)?;
        comm.agree(full_rank(first.r(), functions).map_err(Error::from))?;
        let white = |r: &Factor, a: &Mat<f64>| r.whitened(a.as_ref()).transpose().to_owned();
        let blocks: Vec<Mat<f64>> = blocks.iter().map(|a| white(&first, a)).collect();
        let second = factor(&blocks)?;
        let mine: Vec<Block> =
            own.iter().zip(&blocks).map(|(number, a)| Block::new(*number, second.whitened(a.as_ref()))).collect();
        let totals: Vec<f64> = mine.iter().map(|b| b.sums.last().copied().unwrap_or(0.0)).collect();
        let mut sum = 0.0;
        let cumulative = comm.all_gather(&totals)?.concat().into_iter().map(|t| {
            sum += t;
            sum
        });
        Ok(Self { rows, functions, mine, cumulative: cumulative.collect() })
    }

    /// A pool on this rank alone of any features (atoms × functions).
    ///
    /// # Errors
    /// As [`Pool::new`].
    pub fn of(features: MatRef<'_, f64>) -> Result<Self> {
        let part = |range: Range<usize>| Ok(features.subrows(range.start, range.len()).to_owned());
        Self::new(&Comm::solo(), rows(features.nrows(), 1), features.ncols(), part)
    }

    /// N.
    pub fn atoms(&self) -> usize {
        self.rows.n
    }

    /// V of this rank's atoms: number of the atom, its row.
    pub fn features(&self) -> impl Iterator<Item = (usize, faer::ColRef<'_, f64>)> {
        let of = |block: &Block| self.rows.range(block.number).start;
        self.mine
            .iter()
            .flat_map(move |block| block.features.col_iter().enumerate().map(move |(i, v)| (of(block) + i, v)))
    }

    /// Block and what is left within it of a place `u` among the leverages.
    fn place(&self, u: f64) -> (usize, f64) {
        let target = u * self.cumulative.last().copied().unwrap_or(0.0);
        let block = self.cumulative.partition_point(|sum| *sum <= target).min(self.cumulative.len() - 1);
        (block, target - if block > 0 { self.cumulative[block - 1] } else { 0.0 })
    }

    /// The atoms that `chosen` means and their rows of V (n × m): by leverage, or each with the same chance. Collective.
    /// Of the rows, the entries `part`.
    fn fetch(
        &self,
        comm: &Comm,
        chosen: &[Chosen],
        part: Range<usize>,
        mut out: MatMut<'_, f64>,
    ) -> std::result::Result<Vec<usize>, CommError> {
        let m = self.functions;
        let mut own: Vec<f64> = Vec::new();
        for (slot, chosen) in chosen.iter().enumerate() {
            let (block, within) = match chosen {
                Chosen::ByLeverage(u) => {
                    let (block, rest) = self.place(*u);
                    (block, Within::Sum(rest))
                }
                Chosen::Evenly(u) => {
                    let atom = ((u * self.rows.n as f64) as usize).min(self.rows.n - 1);
                    (atom / self.rows.block, Within::Atom(atom % self.rows.block))
                }
            };
            let Some(block) = self.mine.iter().find(|b| b.number == block) else { continue };
            let i = match within {
                Within::Atom(i) => i,
                Within::Sum(rest) => block.sums.partition_point(|sum| *sum <= rest).min(block.sums.len() - 1),
            };
            own.extend([slot as f64, (self.rows.range(block.number).start + i) as f64]);
            own.extend(block.features.col(i).iter());
        }
        let mut atoms = vec![0; chosen.len()];
        for rows in comm.all_gather(&own)? {
            for row in rows.chunks_exact(m + 2) {
                let slot = row[0] as usize;
                atoms[slot] = row[1] as usize;
                out.as_mut().row_mut(slot).iter_mut().zip(&row[2..][part.clone()]).for_each(|(to, v)| *to = *v);
            }
        }
        Ok(atoms)
    }
}

/// Which atom a random number stands for.
enum Chosen {
    ByLeverage(f64),
    Evenly(f64),
}

/// Where an atom is in its block.
enum Within {
    Atom(usize),
    Sum(f64),
}

impl Block {
    fn new(number: usize, features: Mat<f64>) -> Self {
        let mut sum = 0.0;
        let mut add = |leverage: f64| {
            sum += leverage;
            sum
        };
        let sums = features.col_iter().map(|v| add(v.squared_norm_l2())).collect();
        Self { number, features, sums }
    }
}

fn full_rank(r: MatRef<'_, f64>, functions: usize) -> std::result::Result<(), DesignError> {
    let values = r.singular_values().map_err(|_| DesignError::SingularValues)?;
    let largest = values.iter().copied().fold(0.0, f64::max);
    let rank = values.iter().filter(|v| **v > RANK_TOLERANCE * largest).count();
    if rank < functions { Err(DesignError::RankDeficient { rank, functions }) } else { Ok(()) }
}

/// A pool as a place to draw from, by all ranks together: each draws the same.
#[derive(Debug, Clone, Copy)]
pub struct Atoms<'a> {
    pool: &'a Pool,
    comm: &'a Comm,
}

impl<'a> Atoms<'a> {
    /// Of a pool whose blocks lie on the ranks of `comm`.
    pub fn new(pool: &'a Pool, comm: &'a Comm) -> Self {
        Self { pool, comm }
    }

    /// Its candidates in the order of a stream.
    pub fn candidates(&self, stream: Stream) -> Discrete<'_> {
        Discrete { atoms: self, stream, seen: RefCell::new(HashMap::new()) }
    }
}

impl Universe for Atoms<'_> {
    fn functions(&self) -> usize {
        self.pool.functions
    }

    fn sample(&self, stream: Stream, blocks: Blocks) -> std::result::Result<Sample, DesignError> {
        sample(&self.candidates(stream), blocks)
    }

    fn rows(&self, picks: &[Pick], mut out: MatMut<'_, f64>) -> std::result::Result<Vec<f64>, DesignError> {
        let chosen = |pick: &Pick| {
            let u = pick.stream.choices(pick.t).1;
            if pick.plain { Chosen::Evenly(u) } else { Chosen::ByLeverage(u) }
        };
        let chosen: Vec<Chosen> = picks.iter().map(chosen).collect();
        let atoms = self.pool.fetch(self.comm, &chosen, 0..self.pool.functions, out.as_mut())?;
        // Orthonormal in the mean over atoms.
        let scale = (self.pool.rows.n as f64).sqrt();
        out.col_iter_mut().for_each(|column| column.iter_mut().for_each(|v| *v *= scale));
        Ok(atoms.into_iter().map(|atom| atom as f64).collect())
    }
}

/// Candidates of a pool: atom j with probability ‖V_j‖²/m.
#[derive(Debug)]
pub struct Discrete<'a> {
    atoms: &'a Atoms<'a>,
    stream: Stream,
    /// The atoms of the candidates that were looked at last.
    seen: RefCell<HashMap<u64, usize>>,
}

impl Candidates for Discrete<'_> {
    fn functions(&self) -> usize {
        self.atoms.pool.functions
    }

    fn comm(&self) -> &Comm {
        self.atoms.comm
    }

    fn features(
        &self,
        candidates: &[u64],
        part: Range<usize>,
        out: MatMut<'_, f64>,
        _par: Par,
    ) -> std::result::Result<(), DesignError> {
        let chosen: Vec<Chosen> = candidates.iter().map(|t| Chosen::ByLeverage(self.stream.choices(*t).1)).collect();
        let atoms = self.atoms.pool.fetch(self.atoms.comm, &chosen, part, out)?;
        *self.seen.borrow_mut() = candidates.iter().copied().zip(atoms).collect();
        Ok(())
    }

    fn uniform(&self, t: u64) -> f64 {
        self.stream.choices(t).0
    }

    fn atom(&self, t: u64) -> Option<usize> {
        self.seen.borrow().get(&t).copied()
    }
}
