//! Samples of a space that ranks, or the threads of one rank, draw together, and that may be left and taken up again.

use std::cell::{Cell, RefCell};
use std::sync::{Mutex, PoisonError};

use convoke_cluster::comm::{CommError, run_threads};
use convoke_cluster::{Comm, Ctx, Error};
use convoke_kernels::Device;
use faer::{MatMut, Par};

use super::error::DesignError;
use super::sampler::{Blocks, Sample, Sampler};
use super::source::{Continuous, Pick, Universe};
use super::space::Space;
use super::stream::Stream;

/// The samples of one design, in the order in which it asks for them: what it takes to go on with the design after a restart.
#[derive(Debug, Default)]
pub struct Journal {
    /// For each sample: the next candidate, how many candidates were accepted, and which. Numbers below 2^53.
    pub numbers: Vec<f64>,
    /// Bases of the sample that is being drawn, one for each thread.
    live: Vec<Sampler>,
}

/// A sample as the journal has it.
struct Entry {
    /// Where it stands among the numbers.
    at: usize,
    next: u64,
    accepted: Vec<u64>,
}

impl Journal {
    fn entry(&self, index: usize) -> Option<Entry> {
        let mut at = 0;
        for _ in 0..index {
            at += 2 + *self.numbers.get(at + 1)? as usize;
        }
        let count = *self.numbers.get(at + 1)? as usize;
        let accepted = self.numbers[at + 2..at + 2 + count].iter().map(|t| *t as u64).collect();
        Some(Entry { at, next: self.numbers[at] as u64, accepted })
    }

    /// Writes the last entry, from place `at` on.
    fn write(&mut self, at: usize, sampler: &Sampler) {
        self.numbers.truncate(at);
        self.numbers.extend([sampler.next() as f64, sampler.accepted().len() as f64]);
        self.numbers.extend(sampler.accepted().iter().map(|t| *t as f64));
    }

    /// Points of all samples so far.
    pub fn accepted(&self) -> usize {
        (0..).map_while(|index| self.entry(index)).map(|e| e.accepted.len()).sum()
    }

    /// For the next design.
    pub fn clear(&mut self) {
        self.numbers.clear();
        self.live.clear();
    }
}

/// A space, and those who draw from it together.
#[derive(Debug)]
pub struct Team<'a> {
    space: &'a Space,
    comm: &'a Comm,
    threads: usize,
    device: &'a Device,
    journal: RefCell<&'a mut Journal>,
    /// Samples that the design has asked for.
    asked: Cell<usize>,
    /// Flops that may be spent before the design is left.
    budget: Cell<f64>,
}

impl<'a> Team<'a> {
    /// The ranks of `ctx` with their threads, or a rank alone with its GPU. A design that takes more than `budget` flops is left with
    /// [`DesignError::Unfinished`]; another call goes on where `journal` ends.
    pub fn new(space: &'a Space, ctx: &'a Ctx, journal: &'a mut Journal, budget: f64) -> Self {
        let device = if ctx.comm.size() == 1 { &ctx.device } else { &Device::Cpu };
        Self { device, ..Self::of(space, &ctx.comm, ctx.resources.threads, journal, budget) }
    }

    /// The same without a GPU.
    fn of(space: &'a Space, comm: &'a Comm, threads: usize, journal: &'a mut Journal, budget: f64) -> Self {
        Self {
            space,
            comm,
            threads,
            device: &Device::Cpu,
            journal: RefCell::new(journal),
            asked: Cell::new(0),
            budget: Cell::new(budget),
        }
    }

    /// A rank alone with its device.
    pub fn alone(space: &'a Space, comm: &'a Comm, device: &'a Device, journal: &'a mut Journal) -> Self {
        Self { device, ..Self::of(space, comm, 1, journal, f64::INFINITY) }
    }

    /// The samplers of this rank, one for each thread that takes part, complete or at the end of the budget.
    fn advance(&self, stream: Stream, entry: Option<&Entry>, live: Vec<Sampler>) -> Result<Vec<Sampler>, DesignError> {
        let (space, device, budget) = (self.space, self.device, self.budget.get());
        let go = |comm: Comm, live: Option<Sampler>, par: Par| {
            let candidates = Continuous { comm, ..Continuous::new(space, stream) };
            let blocks = Blocks::of(space.len(), par);
            let mut sampler = match live {
                Some(sampler) => sampler,
                None if device.is_gpu() => Sampler::on_device(&candidates, blocks, device)?,
                None => Sampler::new(&candidates, blocks),
            };
            if let (true, Some(entry)) = (sampler.next() == 0, entry) {
                sampler.resume(&candidates, entry.next, &entry.accepted)?;
            }
            let before = sampler.flops();
            while !sampler.is_done() && sampler.flops() - before < budget {
                sampler.advance(&candidates)?;
            }
            Ok(sampler)
        };
        if self.comm.size() > 1 {
            let par = if self.threads > 1 { Par::rayon(self.threads) } else { Par::Seq };
            return Ok(vec![go(self.comm.clone(), live.into_iter().next(), par)?]);
        }
        let mut live: Vec<_> = live.into_iter().map(|sampler| Mutex::new(Some(sampler))).collect();
        live.resize_with(if device.is_gpu() { 1 } else { self.threads.max(1) }, || Mutex::new(None));
        let own = |comm: Comm| {
            let mine = live[comm.rank()].lock().unwrap_or_else(PoisonError::into_inner).take();
            Ok(go(comm, mine, Par::Seq))
        };
        let all = run_threads(live.len(), own).into_iter().enumerate();
        let gone = |rank: usize, error: Error| CommError::PeerFailed { rank, failure: error.failure() };
        all.map(|(rank, made)| made.map_err(|error| gone(rank, error))?).collect()
    }
}

impl Universe for Team<'_> {
    fn functions(&self) -> usize {
        self.space.len()
    }

    fn sample(&self, stream: Stream, _blocks: Blocks) -> Result<Sample, DesignError> {
        let index = self.asked.replace(self.asked.get() + 1);
        let mut journal = self.journal.borrow_mut();
        let entry = journal.entry(index);
        if let Some(Entry { accepted, .. }) = entry.as_ref().filter(|e| e.accepted.len() == self.space.len()) {
            let proposals = accepted.last().map_or(0, |t| t + 1);
            return Ok(Sample { accepted: accepted.clone(), proposals, flops: 0.0 });
        }
        if self.budget.get() <= 0.0 {
            return Err(DesignError::Unfinished);
        }
        let at = entry.as_ref().map_or(journal.numbers.len(), |e| e.at);
        let live = std::mem::take(&mut journal.live);
        let before = live.first().map_or(0.0, Sampler::flops);
        let mut made = self.advance(stream, entry.as_ref(), live)?;
        let Some(first) = made.first() else { return Err(DesignError::Unfinished) };
        journal.write(at, first);
        self.budget.set(self.budget.get() - (first.flops() - before));
        if first.is_done() {
            return Ok(made.swap_remove(0).sample());
        }
        journal.live = made;
        Err(DesignError::Unfinished)
    }

    fn rows(&self, picks: &[Pick], out: MatMut<'_, f64>) -> Result<Vec<f64>, DesignError> {
        self.space.rows(picks, out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dpp::design::{Law, Measure, Recipe, draw};
    use crate::dpp::space::family::Family;
    use crate::dpp::space::indices::Rule;

    /// Three repetitions, left at every fifth of a sample and taken up by other ranks and threads from the numbers alone, are those of
    /// one rank that draws without a break.
    #[test]
    fn designs_that_were_left_are_taken_up_by_any_team() {
        let space = Space::new(&[Family::Legendre; 2], &Rule::TotalDegree(11)).unwrap();
        let m = space.len();
        let recipe = Recipe { law: Law::Repeated, n: 3 * m, measure: Measure::Christoffel, delta: None };
        let whole = draw(&space, &recipe, None, (3, 1), Par::Seq).unwrap();
        let budget = 0.8 * (m as f64).powi(3);
        let (mut numbers, mut times) = (Vec::new(), 0);
        let design = loop {
            let (ranks, threads) = [(1, 1), (1, 2), (2, 1), (3, 1)][times % 4];
            let made = run_threads(ranks, |comm| {
                let mut journal = Journal { numbers: numbers.clone(), live: Vec::new() };
                let made =
                    draw(&Team::of(&space, &comm, threads, &mut journal, budget), &recipe, None, (3, 1), Par::Seq);
                Ok((journal.numbers, made))
            });
            times += 1;
            let (written, made) = made.into_iter().next().unwrap().unwrap();
            numbers = written;
            match made {
                Err(DesignError::Unfinished) => assert!(times < 100),
                made => break made.unwrap(),
            }
        };
        assert!(times > 8, "{times}");
        assert_eq!((design.parts, design.indices), (whole.parts, whole.indices));
    }

    /// The same with the bases kept, in one process.
    #[test]
    fn designs_are_drawn_in_as_many_calls_as_the_budget_says() {
        let space = Space::new(&[Family::Legendre; 2], &Rule::TotalDegree(11)).unwrap();
        let recipe = Recipe { law: Law::Dpp, n: space.len(), measure: Measure::Christoffel, delta: None };
        let whole = draw(&space, &recipe, None, (4, 0), Par::Seq).unwrap();
        let (comm, mut journal, mut left) = (Comm::solo(), Journal::default(), 0);
        let design = loop {
            let budget = (space.len() as f64).powi(3);
            match draw(&Team::of(&space, &comm, 2, &mut journal, budget), &recipe, None, (4, 0), Par::Seq) {
                Err(DesignError::Unfinished) => left += 1,
                made => break made.unwrap(),
            }
        };
        assert!((2..=5).contains(&left), "{left}");
        assert_eq!(design.indices, whole.indices);
    }
}
