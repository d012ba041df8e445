//! One function over several ranks: each has rows of k_y, with those of −k_y, and between them lines along y of some of the x. Values go there and
//! back in one exchange each (all-to-all), 16 (2m + 1) n (P − 1)/P² bytes a rank.

use std::ops::Range;
use std::sync::Arc;

use convoke_cluster::comm::CommError;
use convoke_cluster::{Comm, block};
use num_complex::Complex64;
use rayon::prelude::*;
use rustfft::{Fft, FftPlanner};

use super::modes::Modes;
use super::transform::{Through, slot};

/// Transforms of one size.
#[derive(Clone)]
pub struct Slabs {
    n: usize,
    m: usize,
    comm: Comm,
    forward: Arc<dyn Fft<f64>>,
    inverse: Arc<dyn Fft<f64>>,
}

impl std::fmt::Debug for Slabs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Slabs").field("n", &self.n).field("m", &self.m).finish_non_exhaustive()
    }
}

/// Memory of one transform under way.
#[derive(Debug, Clone)]
pub struct Work {
    /// `[k_y, −k_y][x]` of the k_y that are here; the second row of k_y = 0 is empty.
    rows: Vec<Complex64>,
    /// `[x][y]` of the x that are here.
    lines: Vec<Complex64>,
}

impl Slabs {
    /// For functions of these modes, over the ranks of `comm`: at most as many as there are k_y.
    pub fn new(modes: &Modes, comm: &Comm) -> Self {
        let mut planner = FftPlanner::new();
        let (forward, inverse) = (planner.plan_fft_forward(modes.n), planner.plan_fft_inverse(modes.n));
        Self { n: modes.n, m: modes.m, comm: comm.clone(), forward, inverse }
    }

    /// The ranks.
    pub fn comm(&self) -> &Comm {
        &self.comm
    }

    /// Most bytes that a rank sends in one pass there and back.
    pub fn bytes(modes: &Modes, ranks: usize) -> u64 {
        let (rows, columns) = (2 * (modes.m + 1).div_ceil(ranks), modes.n.div_ceil(ranks));
        let there = rows * (modes.n - modes.n / ranks);
        let back = columns * (modes.width() + 1 - 2 * ((modes.m + 1) / ranks));
        16 * (there + back) as u64
    }

    /// Rows of the k_y of a rank, the mirror of 0 left out, with their k_y and −k_y.
    fn rows_of(&self, rank: usize) -> impl Iterator<Item = (usize, i64)> + use<> {
        let mine = block(self.m + 1, rank, self.comm.size());
        let first = mine.start;
        let both = move |ky: usize| [(2 * (ky - first), ky as i64), (2 * (ky - first) + 1, -(ky as i64))];
        mine.flat_map(both).filter(|(row, k)| !(*k == 0 && row % 2 == 1))
    }

    fn columns_of(&self, rank: usize) -> Range<usize> {
        block(self.n, rank, self.comm.size())
    }

    /// FFTs of lines, with something done beside each.
    fn each_line(&self, lines: &mut [Complex64], work: impl Fn(usize, &mut [Complex64], &mut [Complex64]) + Sync) {
        let scratch = self.forward.get_inplace_scratch_len().max(self.inverse.get_inplace_scratch_len());
        lines
            .par_chunks_exact_mut(self.n)
            .enumerate()
            .for_each_init(|| vec![Complex64::ZERO; scratch], |scratch, (i, line)| work(i, line, scratch));
    }

    /// From rows to lines. Collective.
    fn to_lines(&self, work: &mut Work) -> Result<(), CommError> {
        let (n, ranks) = (self.n, self.comm.size());
        let part = |rank: usize| -> Vec<Complex64> {
            let rows = || self.rows_of(self.comm.rank());
            self.columns_of(rank)
                .flat_map(|x| rows().map(move |(row, _)| row * n + x))
                .map(|at| work.rows[at])
                .collect()
        };
        let parts: Vec<Vec<Complex64>> = (0..ranks).map(part).collect();
        let got = self.comm.all_to_all(&parts.iter().map(Vec::as_slice).collect::<Vec<_>>())?;
        let none = self.m + 1..n - self.m;
        work.lines.chunks_exact_mut(n).for_each(|line| line[none.clone()].fill(Complex64::ZERO));
        for (rank, part) in got.iter().enumerate() {
            let slots: Vec<usize> = self.rows_of(rank).map(|(_, k)| slot(k, n)).collect();
            for (line, values) in work.lines.chunks_exact_mut(n).zip(part.chunks(slots.len().max(1))) {
                slots.iter().zip(values).for_each(|(slot, value)| line[*slot] = *value);
            }
        }
        Ok(())
    }

    /// The way back. Collective.
    fn to_rows(&self, work: &mut Work) -> Result<(), CommError> {
        let (n, ranks) = (self.n, self.comm.size());
        let part = |rank: usize| -> Vec<Complex64> {
            let slots: Vec<usize> = self.rows_of(rank).map(|(_, k)| slot(k, n)).collect();
            work.lines.chunks_exact(n).flat_map(|line| slots.iter().map(|slot| line[*slot])).collect()
        };
        let parts: Vec<Vec<Complex64>> = (0..ranks).map(part).collect();
        let got = self.comm.all_to_all(&parts.iter().map(Vec::as_slice).collect::<Vec<_>>())?;
        let rows: Vec<usize> = self.rows_of(self.comm.rank()).map(|(row, _)| row * n).collect();
        for (rank, part) in got.iter().enumerate() {
            for (x, values) in self.columns_of(rank).zip(part.chunks(rows.len().max(1))) {
                rows.iter().zip(values).for_each(|(row, value)| work.rows[row + x] = *value);
            }
        }
        Ok(())
    }
}

impl Through for Slabs {
    type Work = Work;
    type Error = CommError;

    fn rows(&self) -> Range<usize> {
        self.comm.block(self.m + 1)
    }

    fn work(&self) -> Work {
        let zero = |lines: usize| vec![Complex64::ZERO; lines * self.n];
        Work { rows: zero(2 * self.rows().len()), lines: zero(self.columns_of(self.comm.rank()).len()) }
    }

    fn through(
        &self,
        work: &mut Work,
        mut fill: impl FnMut(usize, &mut [Complex64], &mut [Complex64]),
        change: impl Fn(usize, &mut [Complex64]) + Sync,
        mut read: impl FnMut(usize, &[Complex64], &[Complex64]),
    ) -> Result<(), CommError> {
        let (n, first) = (self.n, self.columns_of(self.comm.rank()).start);
        work.rows.fill(Complex64::ZERO);
        for (ky, both) in self.rows().zip(work.rows.chunks_exact_mut(2 * n)) {
            let (row, mirror) = both.split_at_mut(n);
            fill(ky, row, mirror);
        }
        // A handle of ranks stays on its thread.
        let (forward, inverse) = (&self.forward, &self.inverse);
        self.each_line(&mut work.rows, |_, row, scratch| inverse.process_with_scratch(row, scratch));
        self.to_lines(work)?;
        self.each_line(&mut work.lines, |i, line, scratch| {
            inverse.process_with_scratch(line, scratch);
            change(first + i, line);
            forward.process_with_scratch(line, scratch);
        });
        self.to_rows(work)?;
        self.each_line(&mut work.rows, |_, row, scratch| forward.process_with_scratch(row, scratch));
        for (ky, both) in self.rows().zip(work.rows.chunks_exact(2 * n)) {
            let (row, mirror) = both.split_at(n);
            read(ky, row, mirror);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{Flow, Scheme};
    use convoke_cluster::comm::run_threads;

    /// Steps of every scheme with forcing and drag: the same bits on one to four ranks as by the transform of one, and bytes sent are at
    /// most those of the formula, on the rank with the most rows equal to it.
    #[test]
    fn shared_flows_have_the_bits_of_one_and_send_what_the_formula_says() {
        for n in [18, 25] {
            let modes = Modes::new(n, 3.0);
            let start: Vec<Complex64> = modes
                .each()
                .map(|(kx, ky)| {
                    Complex64::new((kx * 7 + ky) as f64 * 0.01, if ky == 0 { 0.0 } else { 0.02 * kx as f64 })
                })
                .collect();
            let forcing: Vec<Complex64> = start.iter().map(|w| w * 0.3).collect();
            for scheme in [Scheme::Rk4Cn, Scheme::Rk3Cn, Scheme::Rk2Cn, Scheme::ImexCn] {
                let how = (scheme, 1e-3);
                let alone = Flow::new(modes.clone(), (1e-2, 0.1), forcing.clone(), how, false);
                let mut expected = start.clone();
                alone.advance(&mut expected, 3, &mut alone.mover());
                for ranks in 1..=4 {
                    let sent = run_threads(ranks, |comm| {
                        let flow = Flow::shared(modes.clone(), (1e-2, 0.1), forcing.clone(), how, &comm);
                        let mut w = start[flow.here()].to_vec();
                        flow.go_on(&mut w, 3, &mut flow.mover())?;
                        assert!(w == expected[flow.here()], "{n} {scheme:?} on {ranks}");
                        Ok(comm.traffic().bytes)
                    });
                    let most = sent.into_iter().map(|sent| sent.expect("it runs")).max().expect("a rank");
                    let due = 3 * scheme.stages() as u64 * Slabs::bytes(&modes, ranks);
                    assert!(most <= due && most as f64 >= 0.7 * due as f64, "{n} on {ranks}: {most} of {due}");
                }
            }
        }
    }
}
