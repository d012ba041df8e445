//! Ranks that talk to each other: one concrete handle, [`Comm`], over threads or MPI.
//!
//! Every collective is built from four transport primitives (all-gather, all-to-all, an exchange
//! that runs beside other work, point to point), and every reduction adds in rank order on one owner: the sum of a given layout never
//! depends on timing, and no call ever passes `MPI_IN_PLACE`.

use std::cell::Cell;
use std::ops::Range;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytemuck::Pod;

use crate::error::{Error, Failure};
use crate::shard::block;

#[cfg(feature = "mpi")]
mod mpi;
#[cfg(not(feature = "mpi"))]
#[path = "mpi_absent.rs"]
mod mpi;
mod threads;

pub use mpi::{MpiSession, mpi_library};
pub use threads::run_threads;

/// What a transport must offer; bytes only, blocking, first in first out per pair and tag.
trait Transport {
    fn rank(&self) -> usize;
    fn size(&self) -> usize;
    fn send(&self, to: usize, bytes: &[u8]) -> Result<(), CommError>;
    fn recv(&self, from: usize) -> Result<Vec<u8>, CommError>;
    fn all_gather(&self, mine: &[u8]) -> Result<Vec<Vec<u8>>, CommError>;
    fn all_to_all(&self, parts: &[&[u8]]) -> Result<Vec<Vec<u8>>, CommError>;
    /// Part `r` of `parts` goes to rank `r` and `into[r]` is filled by it, while `meanwhile` runs.
    fn exchange(&self, parts: &[&[u8]], into: &mut [&mut [u8]], meanwhile: &mut dyn FnMut()) -> Result<(), CommError>;
    fn split(&self, color: usize, key: usize) -> Result<Rc<dyn Transport>, CommError>;
    /// Tell every rank that this one cannot go on. Does not return where the transport ends the
    /// process (MPI).
    fn fail(&self, failure: &Failure);
    fn host(&self) -> String;
}

/// A rank could not be reached any more.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CommError {
    /// Another rank gave up; its own message.
    #[error("rank {rank} failed: {}", failure.message)]
    PeerFailed {
        /// The rank that failed.
        rank: usize,
        /// What it said.
        failure: Failure,
    },
    /// A message does not have the length that both sides agreed on.
    #[error("rank {rank} sent {got} bytes where {expected} were due")]
    Length {
        /// The sender.
        rank: usize,
        /// Bytes received.
        got: usize,
        /// Bytes due.
        expected: usize,
    },
}

/// What this rank has sent to others so far (payload bytes, the rank itself excluded).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Calls that moved data.
    pub calls: u64,
    /// Payload bytes sent to other ranks.
    pub bytes: u64,
    /// Nanoseconds inside of calls; waiting for a slower rank is a part of them.
    pub nanoseconds: u64,
}

/// The ranks of one run, or a part of them.
#[derive(Clone)]
pub struct Comm {
    transport: Rc<dyn Transport>,
    traffic: Rc<Cell<Traffic>>,
}

impl std::fmt::Debug for Comm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Comm(rank {} of {})", self.rank(), self.size())
    }
}

impl Comm {
    fn over(transport: Rc<dyn Transport>) -> Self {
        Self { transport, traffic: Rc::default() }
    }

    /// One rank, alone.
    pub fn solo() -> Self {
        threads::solo()
    }

    /// Number of this rank, from 0.
    pub fn rank(&self) -> usize {
        self.transport.rank()
    }

    /// How many ranks there are.
    pub fn size(&self) -> usize {
        self.transport.size()
    }

    /// Whether this is rank 0: the one that speaks and owns the run directory.
    pub fn is_root(&self) -> bool {
        self.rank() == 0
    }

    /// Name of the host that this rank runs on.
    pub fn host(&self) -> String {
        self.transport.host()
    }

    /// What was sent so far, through this handle and those split from it.
    pub fn traffic(&self) -> Traffic {
        self.traffic.get()
    }

    fn count(&self, bytes: usize) {
        let sent = self.traffic.get();
        self.traffic.set(Traffic { calls: sent.calls + 1, bytes: sent.bytes + bytes as u64, ..sent });
    }

    /// Counts the time of a call of the transport.
    fn timed<T>(&self, call: impl FnOnce(&dyn Transport) -> T) -> T {
        let begun = Instant::now();
        let answer = call(&*self.transport);
        self.spent(begun.elapsed());
        answer
    }

    fn spent(&self, time: Duration) {
        let sent = self.traffic.get();
        let nanoseconds = sent.nanoseconds + u64::try_from(time.as_nanos()).unwrap_or(u64::MAX / 2);
        self.traffic.set(Traffic { nanoseconds, ..sent });
    }

    /// This rank's contiguous part of `n` items: the first `n % size` ranks hold one more.
    pub fn block(&self, n: usize) -> Range<usize> {
        block(n, self.rank(), self.size())
    }

    /// Everybody's slice, in rank order. Lengths may differ.
    pub fn all_gather<T: Pod>(&self, mine: &[T]) -> Result<Vec<Vec<T>>, CommError> {
        self.count(size_of_val(mine) * (self.size() - 1));
        let parts = self.timed(|t| t.all_gather(bytemuck::cast_slice(mine)))?;
        Ok(parts.iter().map(|bytes| bytemuck::pod_collect_to_vec(bytes)).collect())
    }

    /// Part `r` of `parts` goes to rank `r`; returns what each rank sent here, in rank order.
    pub fn all_to_all<T: Pod>(&self, parts: &[&[T]]) -> Result<Vec<Vec<T>>, CommError> {
        assert_eq!(parts.len(), self.size(), "one part for each rank");
        self.count(self.size_for_others(parts));
        let bytes: Vec<&[u8]> = parts.iter().map(|p| bytemuck::cast_slice(p)).collect();
        let got = self.timed(|t| t.all_to_all(&bytes))?;
        Ok(got.iter().map(|bytes| bytemuck::pod_collect_to_vec(bytes)).collect())
    }

    /// Part `r` of `parts` goes to rank `r`, and what rank `r` sends fills `into[r]`, while
    /// `meanwhile` runs. Both sides know all lengths, so nothing else is sent and nothing is copied
    /// on the way. `meanwhile` may use other communicators, but not this one.
    ///
    /// # Errors
    /// A rank that is gone; [`CommError::Length`] where a rank sent something else.
    pub fn exchange<T: Pod>(
        &self,
        parts: &[&[T]],
        into: &mut [&mut [T]],
        meanwhile: impl FnOnce(),
    ) -> Result<(), CommError> {
        assert_eq!((parts.len(), into.len()), (self.size(), self.size()), "one part for each rank");
        assert_eq!(parts[self.rank()].len(), into[self.rank()].len(), "a rank sends itself what it expects");
        self.count(self.size_for_others(parts));
        let parts: Vec<&[u8]> = parts.iter().map(|p| bytemuck::cast_slice(p)).collect();
        let mut into: Vec<&mut [u8]> = into.iter_mut().map(|p| bytemuck::cast_slice_mut(p)).collect();
        let mut meanwhile = Some(meanwhile);
        let (begun, mut computed) = (Instant::now(), Duration::ZERO);
        let done = self.transport.exchange(&parts, &mut into, &mut || {
            if let Some(work) = meanwhile.take() {
                let begun = Instant::now();
                work();
                computed = begun.elapsed();
            }
        });
        self.spent(begun.elapsed().saturating_sub(computed));
        done
    }

    fn size_for_others<T>(&self, parts: &[&[T]]) -> usize {
        parts.iter().enumerate().filter(|(r, _)| *r != self.rank()).map(|(_, p)| size_of_val(*p)).sum()
    }

    /// As [`Comm::all_gather`] for long lists of which few ranks have one: every list is cut into a
    /// piece for each rank, and all pass their pieces on. A rank sends `(own + all)·(P−1)/P` bytes, to
    /// rounding, where an all-gather sends `own·(P−1)`.
    pub fn share<T: Pod>(&self, mine: &[T]) -> Result<Vec<Vec<T>>, CommError> {
        let size = self.size();
        if size == 1 {
            return Ok(vec![mine.to_vec()]);
        }
        let lengths: Vec<usize> = self.all_gather(&[mine.len() as u64])?.iter().map(|n| n[0] as usize).collect();
        let pieces: Vec<&[T]> = (0..size).map(|r| &mine[block(mine.len(), r, size)]).collect();
        let column = self.all_to_all(&pieces)?.concat();
        let mut lists: Vec<Vec<T>> = lengths.iter().map(|n| Vec::with_capacity(*n)).collect();
        for (r, column) in self.all_gather(&column)?.iter().enumerate() {
            let mut rest = column.as_slice();
            for (list, n) in lists.iter_mut().zip(&lengths) {
                let (piece, others) = rest.split_at(block(*n, r, size).len());
                list.extend_from_slice(piece);
                rest = others;
            }
        }
        Ok(lists)
    }

    /// The root's bytes, on every rank; the others pass anything (it is ignored).
    pub fn broadcast(&self, root: usize, bytes: &[u8]) -> Result<Vec<u8>, CommError> {
        let mine: &[u8] = if self.rank() == root { bytes } else { &[] };
        self.count(mine.len() * (self.size() - 1));
        let mut parts = self.timed(|t| t.all_gather(mine))?;
        Ok(std::mem::take(&mut parts[root]))
    }

    /// Sends to one rank; does not wait for it where the transport can buffer.
    pub fn send<T: Pod>(&self, to: usize, data: &[T]) -> Result<(), CommError> {
        self.count(size_of_val(data));
        self.timed(|t| t.send(to, bytemuck::cast_slice(data)))
    }

    /// Receives exactly `out.len()` items from one rank.
    pub fn recv_into<T: Pod>(&self, from: usize, out: &mut [T]) -> Result<(), CommError> {
        let bytes = self.timed(|t| t.recv(from))?;
        let out: &mut [u8] = bytemuck::cast_slice_mut(out);
        if bytes.len() != out.len() {
            return Err(CommError::Length { rank: from, got: bytes.len(), expected: out.len() });
        }
        out.copy_from_slice(&bytes);
        Ok(())
    }

    /// Waits for everybody.
    pub fn barrier(&self) -> Result<(), CommError> {
        self.timed(|t| t.all_gather(&[])).map(drop)
    }

    /// The ranks with the same `color`, ordered by (`key`, rank). Collective.
    pub fn split(&self, color: usize, key: usize) -> Result<Comm, CommError> {
        Ok(Self { transport: self.transport.split(color, key)?, traffic: Rc::clone(&self.traffic) })
    }

    /// Whether everybody succeeded; otherwise, on every rank, the failure of the lowest rank that
    /// failed. Collective: every rank must call it, also one that has nothing to report.
    pub fn agree<T>(&self, mine: Result<T, Error>) -> Result<T, Error> {
        let report = match &mine {
            Ok(_) => Vec::new(),
            Err(error) => serde_json::to_vec(&error.failure()).expect("a failure is plain data"),
        };
        self.count(report.len() * (self.size() - 1));
        for (rank, bytes) in self.timed(|t| t.all_gather(&report))?.iter().enumerate() {
            if bytes.is_empty() {
                continue;
            }
            if rank == self.rank() {
                return mine.map_err(|error| Error::Agreed(Box::new(error)));
            }
            let failure: Failure = serde_json::from_slice(bytes).expect("a failure is plain data");
            return Err(Error::OnRank { rank, failure });
        }
        mine
    }

    /// Ends the run on every rank because of a failure that only this rank knows of.
    pub fn fail(&self, failure: &Failure) {
        self.transport.fail(failure);
    }

    /// Element-wise sum over the ranks, added in rank order.
    ///
    /// Equal on every rank; across rank counts equal to rounding only. Bytes sent: `n·(P−1)` for
    /// short vectors, `2·n·(P−1)/P` for long ones (reduce-scatter, then all-gather).
    pub fn all_sum<T: Pod + std::ops::AddAssign>(&self, values: &mut [T]) -> Result<(), CommError> {
        const SHORT: usize = 4096;
        if self.size() == 1 {
            return Ok(());
        }
        if size_of_val(values) <= SHORT {
            let parts = self.all_gather(values)?;
            sum_in_order(&parts, values);
            return Ok(());
        }
        let n = values.len();
        let pieces: Vec<&[T]> = (0..self.size()).map(|r| &values[block(n, r, self.size())]).collect();
        let received = self.all_to_all(&pieces)?;
        let mut mine = received[0].clone();
        sum_in_order(&received, &mut mine);
        for (r, piece) in self.all_gather(&mine)?.iter().enumerate() {
            values[block(n, r, self.size())].copy_from_slice(piece);
        }
        Ok(())
    }

    /// The sum of per-block values that lie on the ranks in global block order: the same bits on
    /// any number of ranks, because the blocks are fixed by the problem.
    pub fn sum_blocks(&self, mine: &[f64]) -> Result<f64, CommError> {
        Ok(self.all_gather(mine)?.iter().flatten().sum())
    }

    /// The largest of the ranks' values.
    pub fn all_max(&self, mine: u64) -> Result<u64, CommError> {
        Ok(self.all_gather(&[mine])?.iter().map(|v| v[0]).max().unwrap_or(mine))
    }
}

/// Bytes that `rank` sends in a [`Comm::share`] of lists with these numbers of items, each of `size` bytes.
pub fn shared_bytes(lists: &[usize], rank: usize, size: usize) -> u64 {
    let ranks = lists.len();
    if ranks == 1 {
        return 0;
    }
    let own = lists[rank] - block(lists[rank], rank, ranks).len();
    let pieces: usize = lists.iter().map(|n| block(*n, rank, ranks).len()).sum();
    (8 * (ranks - 1) + size * (own + pieces * (ranks - 1))) as u64
}

fn sum_in_order<T: Pod + std::ops::AddAssign>(parts: &[Vec<T>], out: &mut [T]) {
    out.copy_from_slice(&parts[0]);
    for part in &parts[1..] {
        for (sum, value) in out.iter_mut().zip(part) {
            *sum += *value;
        }
    }
}

#[cfg(test)]
mod tests;
