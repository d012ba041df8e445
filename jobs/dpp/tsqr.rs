//! Factors R of tall matrices whose rows lie in blocks on several ranks (Demmel, Grigori, Hoemmen and Langou 2012).
//!
//! The blocks are fixed by the problem and merged along a binary tree over them: the result does not depend on the ranks.

use std::collections::BTreeMap;

use convoke_cluster::{Comm, Result};

use super::fit::Factor;

/// Rows in blocks, blocks on ranks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rows {
    /// Rows in all.
    pub n: usize,
    /// Rows of a block; the last has fewer.
    pub block: usize,
    /// Ranks.
    pub ranks: usize,
}

impl Rows {
    /// Number of blocks.
    pub fn blocks(&self) -> usize {
        self.n.div_ceil(self.block)
    }

    /// The rank that has a block: blocks rise with the ranks.
    pub fn owner(&self, block: usize) -> usize {
        block * self.ranks / self.blocks().max(self.ranks)
    }

    /// The blocks of a rank.
    pub fn of(&self, rank: usize) -> Vec<usize> {
        (0..self.blocks()).filter(|block| self.owner(*block) == rank).collect()
    }

    /// The rows of a block.
    pub fn range(&self, block: usize) -> std::ops::Range<usize> {
        block * self.block..self.n.min((block + 1) * self.block)
    }
}

/// The factor of all rows, on every rank, from those of each rank's own blocks. Pairs at a distance of 1, 2, 4, … merge on the owner of
/// the first. Collective.
///
/// # Errors
/// Where another rank is gone.
pub fn merge(
    comm: &Comm,
    rows: Rows,
    mut factors: BTreeMap<usize, Factor>,
    (m, outputs): (usize, usize),
) -> Result<Factor> {
    let (blocks, size) = (rows.blocks(), (m + outputs) * (m + outputs));
    let mut stride = 1;
    while stride < blocks {
        for left in (0..blocks - stride).step_by(2 * stride) {
            let (to, from) = (rows.owner(left), rows.owner(left + stride));
            if comm.rank() == from && from != to {
                let Some(factor) = factors.remove(&(left + stride)) else { continue };
                comm.send(to, &factor.numbers())?;
            }
            if comm.rank() == to {
                let other = if from == to {
                    factors.remove(&(left + stride))
                } else {
                    let mut numbers = vec![0.0; size];
                    comm.recv_into(from, &mut numbers)?;
                    Some(Factor::from_numbers(&numbers, m, outputs))
                };
                if let (Some(other), Some(mine)) = (other, factors.get_mut(&left)) {
                    *mine = mine.merged(&other);
                }
            }
        }
        stride *= 2;
    }
    let numbers = factors.get(&0).filter(|_| comm.is_root()).map(Factor::numbers).unwrap_or_default();
    let bytes = comm.broadcast(0, bytemuck::cast_slice(&numbers))?;
    let numbers: Vec<f64> = bytemuck::pod_collect_to_vec(&bytes);
    Ok(Factor::from_numbers(&numbers, m, outputs))
}

#[cfg(test)]
mod tests {
    use convoke_cluster::comm::run_threads;
    use faer::Mat;

    use super::*;
    use crate::dpp::stream::Stream;

    /// RᵀR = AᵀA to 1e-12, and the same bits on any number of ranks, with more ranks than blocks too.
    #[test]
    fn factors_are_those_of_all_rows_on_any_ranks() {
        let (n, m) = (130, 6);
        let stream = Stream::new(4, 0, 0);
        let a = Mat::from_fn(n, m, |i, j| stream.normal((i * m + j) as u64));
        let on = |ranks: usize| {
            let all = run_threads(ranks, |comm| {
                let rows = Rows { n, block: 25, ranks };
                let mine = rows.of(comm.rank()).into_iter();
                let of = |block: usize| {
                    let range = rows.range(block);
                    let part = a.as_ref().subrows(range.start, range.len());
                    (block, Factor::of(part, Mat::zeros(range.len(), 0).as_ref()))
                };
                Ok(merge(&comm, rows, mine.map(of).collect(), (m, 0))?.numbers())
            });
            let all: Vec<Vec<f64>> = all.into_iter().map(Result::unwrap).collect();
            assert!(all.windows(2).all(|w| w[0] == w[1]));
            all[0].clone()
        };
        let one = on(1);
        let r = Mat::from_fn(m, m, |i, j| one[j * m + i]);
        assert!((r.transpose() * &r - a.transpose() * &a).norm_max() < 1e-12 * n as f64);
        for ranks in [2, 3, 7] {
            assert_eq!(on(ranks), one, "{ranks} ranks");
        }
    }
}
