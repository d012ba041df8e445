//! A volume in slabs of slices, one for each rank.

use std::ops::Range;

use convoke_cluster::{Comm, Fields, Region, Result};
use convoke_kernels::Philox;
use rayon::prelude::*;

use super::vectors;

/// Stream of random numbers.
const NOISE: u64 = 0x7361_6d70_6c65_7321; // "samples!"

/// Which slices of a volume are here.
#[derive(Debug, Clone)]
pub struct Place {
    /// Ranks with slabs, in their order; those without slices come last.
    pub comm: Comm,
    /// Slices of this rank.
    pub slices: Range<usize>,
    /// All of them.
    pub all: usize,
    /// Points of a slice, `[y, x]`.
    pub points: [usize; 2],
    /// Whether this rank speaks for its slices: others that share their measurements hold the same ones.
    pub leads: bool,
}

impl Place {
    /// Voxels of a slice.
    pub fn size(&self) -> usize {
        self.points[0] * self.points[1]
    }

    /// Σ a b over all slices, the same bits on any number of ranks.
    ///
    /// # Errors
    /// Of the exchange.
    pub fn dot(&self, a: &[f32], b: &[f32]) -> Result<f64> {
        let slices = a.par_chunks(self.size()).zip(b.par_chunks(self.size()));
        self.sum(&slices.map(|(a, b)| vectors::dot(a, b)).collect::<Vec<f64>>())
    }

    /// The sum of numbers that each slice has, the same bits on any number of ranks.
    ///
    /// # Errors
    /// Of the exchange.
    pub fn sum(&self, slices: &[f64]) -> Result<f64> {
        Ok(self.comm.sum_blocks(slices)?)
    }

    /// As [`Place::sum`], of `n` numbers that each slice has.
    ///
    /// # Errors
    /// Of the exchange.
    pub fn sums(&self, slices: &[f64], n: usize) -> Result<Vec<f64>> {
        let mut sums = vec![0.0; n];
        for part in self.comm.all_gather(slices)? {
            for row in part.chunks(n) {
                sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
            }
        }
        Ok(sums)
    }

    /// Keeps a volume in a checkpoint.
    pub fn keep<'a>(&self, name: &str, v: &'a mut [f32], fields: &mut Fields<'a>) {
        let shape = [self.all, self.points[0], self.points[1]];
        fields.array(name, &shape, Region::rows(&shape, self.slices.clone()), v).owned = self.leads;
    }

    /// Voxels that are here.
    pub fn len(&self) -> usize {
        self.slices.len() * self.size()
    }

    /// Whether there are none here.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A slice of a neighbour: the first one of the rank behind, or the last one of the rank before. Empty where there is none.
    ///
    /// # Errors
    /// Of the exchange.
    pub fn neighbour(&self, v: &[f32], behind: bool) -> Result<Vec<f32>> {
        let (rank, ranks, size) = (self.comm.rank(), self.comm.size(), self.size());
        let mine = if behind { v.get(..size) } else { v.len().checked_sub(size).map(|start| &v[start..]) };
        let to = if behind { rank.checked_sub(1) } else { Some(rank + 1).filter(|to| *to < ranks) };
        let parts: Vec<&[f32]> = (0..ranks).map(|r| mine.filter(|_| Some(r) == to).unwrap_or_default()).collect();
        let mut got = self.comm.all_to_all(&parts)?;
        let from = if behind { Some(rank + 1).filter(|from| *from < ranks) } else { rank.checked_sub(1) };
        Ok(from.map(|from| got.swap_remove(from)).unwrap_or_default())
    }

    /// D v: each slice from the next one, zero for the last one of all.
    ///
    /// # Errors
    /// Of the exchange.
    pub fn differences(&self, v: &[f32]) -> Result<Vec<f32>> {
        let behind = self.neighbour(v, true)?;
        let next = v.iter().skip(self.size()).chain(&behind);
        let mut out: Vec<f32> = next.zip(v).map(|(next, v)| next - v).collect();
        out.resize(v.len(), 0.0);
        Ok(out)
    }

    /// Dᵀ p.
    ///
    /// # Errors
    /// Of the exchange.
    pub fn transposed(&self, p: &[f32]) -> Result<Vec<f32>> {
        let before = self.neighbour(p, false)?;
        let zeros = vec![0.0; if before.is_empty() { self.size().min(p.len()) } else { 0 }];
        let before = before.iter().chain(&zeros).chain(p);
        Ok(before.zip(p).map(|(before, p)| before - p).collect())
    }

    /// Normal numbers of a stream, keyed by the voxel's place in the whole volume.
    pub fn normal(&self, seed: u64, stream: u64) -> impl Iterator<Item = f32> + use<> {
        let random = Philox::new(seed, NOISE ^ stream);
        let (first, end) = (self.slices.start * self.size(), self.slices.end * self.size());
        (first as u64..end as u64).map(move |i| random.normal(i) as f32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use convoke_cluster::block;
    use convoke_cluster::comm::run_threads;

    const POINTS: [usize; 2] = [4, 6];
    const SIZE: usize = 24;

    /// ⟨D v, p⟩ = ⟨v, Dᵀ p⟩.
    #[test]
    fn differences_have_their_transpose() {
        for ranks in 1..=3 {
            let dots = run_threads(ranks, |comm| {
                let here = block(5, comm.rank(), comm.size());
                let place = Place { comm, slices: here, all: 5, points: POINTS, leads: true };
                let (v, p): (Vec<f32>, Vec<f32>) = (place.normal(1, 7).collect(), place.normal(1, 8).collect());
                // The last row of D is zero, and so are splittings there.
                let (mut p, last) = (
                    p,
                    if place.slices.end == 5 { place.slices.len() * SIZE - SIZE } else { place.slices.len() * SIZE },
                );
                p[last..].fill(0.0);
                Ok([place.dot(&place.differences(&v)?, &p)?, place.dot(&v, &place.transposed(&p)?)?])
            });
            for dots in dots {
                let [a, b] = dots.expect("it runs");
                assert!((a - b).abs() < 1e-4 * a.abs().max(1.0), "{a} {b}");
            }
        }
    }
}
