//! Ranks over MPI, through rsmpi.
//!
//! MPI counts are 32-bit: longer messages go in pieces of at most [`LIMIT`] bytes. An empty slice
//! is never handed to MPI as a buffer on its own: its dangling address could equal a sentinel
//! such as `MPI_IN_PLACE`, so a one-byte dummy stands in for it.

use std::rc::Rc;

use mpi::datatype::{Partition, PartitionMut};
use mpi::environment::Universe;
use mpi::topology::{Color, Communicator, SimpleCommunicator};
use mpi::traits::{CommunicatorCollectives, Destination, Equivalence, Source};

use super::{Comm, CommError, Transport};
use crate::error::{Error, Failure};
use crate::launch::ranks_announced;

/// Largest message in bytes: below 2^31, and a multiple of every element size.
const LIMIT: usize = 1 << 30;

/// The library that ranks talk through, if any.
pub fn mpi_library() -> Option<String> {
    let (major, minor) = mpi::environment::version();
    let text = mpi::environment::library_version().unwrap_or_default();
    let name = text.trim_end_matches('\0').lines().next().unwrap_or_default().trim().to_owned();
    Some(format!("{} (MPI {major}.{minor})", name.split(", package").next().unwrap_or(&name)))
}

/// The process's part in a run of several: MPI is finalised when it is dropped.
pub struct MpiSession {
    _universe: Universe,
}

impl std::fmt::Debug for MpiSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MpiSession")
    }
}

impl MpiSession {
    /// Joins the ranks that a launcher started together with this process; `None` where the
    /// process was started alone.
    ///
    /// # Errors
    /// [`Error::MpiUnusable`] if MPI was already used in this process.
    pub fn join() -> Result<Option<(Self, Comm)>, Error> {
        if ranks_announced().is_none() {
            return Ok(None);
        }
        let (universe, _) = mpi::initialize_with_threading(mpi::Threading::Funneled).ok_or(Error::MpiUnusable)?;
        let world = universe.world();
        Ok(Some((Self { _universe: universe }, Comm::over(Rc::new(Mpi { comm: world, limit: limit() })))))
    }
}

/// Tests lower the limit to see the chunking work on small messages.
fn limit() -> usize {
    std::env::var("CONVOKE_MPI_MESSAGE_LIMIT").ok().and_then(|v| v.parse().ok()).unwrap_or(LIMIT)
}

struct Mpi {
    comm: SimpleCommunicator,
    limit: usize,
}

impl Mpi {
    fn lengths(&self, mine: usize) -> Vec<usize> {
        let mut all = vec![0u64; self.size()];
        self.comm.all_gather_into(&[mine as u64][..], &mut all[..]);
        all.iter().map(|n| *n as usize).collect()
    }
}

/// `(count, displacement)` arrays of parts that lie one behind the other.
fn layout(lengths: &[usize]) -> (Vec<i32>, Vec<i32>) {
    let mut at = 0;
    let counts = lengths.iter().map(|n| *n as i32).collect();
    let starts = lengths
        .iter()
        .map(|n| {
            at += n;
            (at - n) as i32
        })
        .collect();
    (counts, starts)
}

/// `total` bytes and never an empty allocation (see the module's note).
fn buffer(total: usize) -> Vec<u8> {
    vec![0; total.max(1)]
}

fn cut(joined: &[u8], lengths: &[usize]) -> Vec<Vec<u8>> {
    let mut at = 0;
    lengths
        .iter()
        .map(|n| {
            at += n;
            joined[at - n..at].to_vec()
        })
        .collect()
}

impl Transport for Mpi {
    fn rank(&self) -> usize {
        self.comm.rank() as usize
    }

    fn size(&self) -> usize {
        self.comm.size() as usize
    }

    fn send(&self, to: usize, bytes: &[u8]) -> Result<(), CommError> {
        let peer = self.comm.process_at_rank(to as i32);
        peer.send(&(bytes.len() as u64));
        for piece in bytes.chunks(self.limit) {
            peer.send(piece);
        }
        Ok(())
    }

    fn recv(&self, from: usize) -> Result<Vec<u8>, CommError> {
        let peer = self.comm.process_at_rank(from as i32);
        let (length, _) = peer.receive::<u64>();
        let mut bytes = vec![0; length as usize];
        for piece in bytes.chunks_mut(self.limit) {
            peer.receive_into(piece);
        }
        Ok(bytes)
    }

    fn all_gather(&self, mine: &[u8]) -> Result<Vec<Vec<u8>>, CommError> {
        let lengths = self.lengths(mine.len());
        let total: usize = lengths.iter().sum();
        if total <= self.limit {
            let mut joined = buffer(total);
            let (counts, starts) = layout(&lengths);
            let own = [mine, &[0u8]].concat(); // never empty
            self.comm.all_gather_varcount_into(
                &own[..mine.len()],
                &mut PartitionMut::new(&mut joined[..], counts, &starts[..]),
            );
            return Ok(cut(&joined, &lengths));
        }
        let parts: Vec<&[u8]> = vec![mine; self.size()];
        self.pairwise(&parts, &lengths)
    }

    fn all_to_all(&self, parts: &[&[u8]]) -> Result<Vec<Vec<u8>>, CommError> {
        let sizes: Vec<u64> = parts.iter().map(|p| p.len() as u64).collect();
        let mut theirs = vec![0u64; self.size()];
        self.comm.all_to_all_into(&sizes[..], &mut theirs[..]);
        let lengths: Vec<usize> = theirs.iter().map(|n| *n as usize).collect();
        let (sent, due): (usize, usize) = (sizes.iter().sum::<u64>() as usize, lengths.iter().sum());
        // Everybody must take the same road, so the largest load decides.
        let largest = self.lengths(sent.max(due)).into_iter().max().unwrap_or(0);
        if largest <= self.limit {
            let mut joined = buffer(due);
            let mut own = parts.concat();
            own.push(0);
            let (send_counts, send_starts) = layout(&sizes.iter().map(|n| *n as usize).collect::<Vec<_>>());
            let (counts, starts) = layout(&lengths);
            self.comm.all_to_all_varcount_into(
                &Partition::new(&own[..], send_counts, &send_starts[..]),
                &mut PartitionMut::new(&mut joined[..], counts, &starts[..]),
            );
            return Ok(cut(&joined, &lengths));
        }
        self.pairwise(parts, &lengths)
    }

    fn exchange(&self, parts: &[&[u8]], into: &mut [&mut [u8]], meanwhile: &mut dyn FnMut()) -> Result<(), CommError> {
        let me = self.rank();
        mpi::request::scope(|scope| {
            // Receives first, so that no message has to wait in a buffer of the library. Empty parts have no piece.
            let (mut due, mut sent) = (Vec::new(), Vec::new());
            for (from, out) in into.iter_mut().enumerate() {
                if from == me {
                    out.copy_from_slice(parts[me]);
                    continue;
                }
                let sender = self.comm.process_at_rank(from as i32);
                for piece in out.chunks_mut(self.limit) {
                    let expected = piece.len();
                    due.push((from, expected, sender.immediate_receive_into(scope, piece)));
                }
            }
            for shift in 1..self.size() {
                let to = (me + shift) % self.size();
                let receiver = self.comm.process_at_rank(to as i32);
                sent.extend(parts[to].chunks(self.limit).map(|piece| receiver.immediate_send(scope, piece)));
            }
            meanwhile();
            let mut all = Ok(());
            for (rank, expected, request) in due {
                let got = request.wait().count(u8::equivalent_datatype()) as usize;
                if got != expected {
                    all = Err(CommError::Length { rank, got, expected });
                }
            }
            for request in sent {
                request.wait();
            }
            all
        })
    }

    fn split(&self, color: usize, key: usize) -> Result<Rc<dyn Transport>, CommError> {
        let color = Color::with_value(color as i32);
        let comm = self.comm.split_by_color_with_key(color, key as i32).expect("every rank has a defined color");
        Ok(Rc::new(Self { comm, limit: self.limit }))
    }

    fn fail(&self, failure: &Failure) {
        use std::io::Write;
        // The process ends in the next line: this is the last chance to say why.
        let _ = writeln!(std::io::stderr(), "convoke: rank {} failed: {}", self.rank(), failure.message);
        let _ = std::io::stderr().flush();
        self.comm.abort(failure.code.into());
    }

    fn host(&self) -> String {
        mpi::environment::processor_name().unwrap_or_else(|_| crate::machine::host_name())
    }
}

impl Mpi {
    /// One partner at a time, in pieces: for loads beyond what one MPI call can count.
    fn pairwise(&self, parts: &[&[u8]], lengths: &[usize]) -> Result<Vec<Vec<u8>>, CommError> {
        let (me, size) = (self.rank(), self.size());
        let mut got: Vec<Vec<u8>> = vec![Vec::new(); size];
        got[me] = parts[me].to_vec();
        for shift in 1..size {
            let (to, from) = ((me + shift) % size, (me + size - shift) % size);
            let mut incoming = vec![0; lengths[from]];
            mpi::request::scope(|scope| {
                let receiver = self.comm.process_at_rank(to as i32);
                let sender = self.comm.process_at_rank(from as i32);
                let out: Vec<_> =
                    parts[to].chunks(self.limit).map(|piece| receiver.immediate_send(scope, piece)).collect();
                for piece in incoming.chunks_mut(self.limit) {
                    sender.receive_into(piece);
                }
                for request in out {
                    request.wait();
                }
            });
            got[from] = incoming;
        }
        Ok(got)
    }
}
