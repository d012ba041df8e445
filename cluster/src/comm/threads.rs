//! Ranks as threads of one process: for one rank alone, and for every contract test.

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::{Comm, CommError, Transport};
use crate::error::{Error, Failure};

/// Communicator, sender, receiver.
type Route = (u64, usize, usize);

/// Letters between two ranks of one communicator, oldest first.
#[derive(Default)]
struct Mail {
    queues: HashMap<Route, VecDeque<Arc<[u8]>>>,
    failed: Option<(usize, Failure)>,
}

#[derive(Default)]
struct Office {
    mail: Mutex<Mail>,
    arrived: Condvar,
}

impl Office {
    fn mail(&self) -> MutexGuard<'_, Mail> {
        // A rank that panicked while holding the lock is reported through `failed`.
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Threads {
    office: Arc<Office>,
    /// Ranks of the world that belong to this communicator.
    members: Vec<usize>,
    me: usize,
    id: u64,
    splits: std::cell::Cell<u64>,
}

impl Threads {
    fn post(&self, to: usize, letter: Arc<[u8]>) {
        let key = (self.id, self.members[self.me], self.members[to]);
        self.office.mail().queues.entry(key).or_default().push_back(letter);
        self.office.arrived.notify_all();
    }

    fn take(&self, from: usize) -> Result<Arc<[u8]>, CommError> {
        let key = (self.id, self.members[from], self.members[self.me]);
        let mut mail = self.office.mail();
        loop {
            if let Some(letter) = mail.queues.get_mut(&key).and_then(VecDeque::pop_front) {
                return Ok(letter);
            }
            if let Some((rank, failure)) = &mail.failed {
                return Err(CommError::PeerFailed { rank: *rank, failure: failure.clone() });
            }
            mail = self.office.arrived.wait(mail).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Transport for Threads {
    fn rank(&self) -> usize {
        self.me
    }

    fn size(&self) -> usize {
        self.members.len()
    }

    fn send(&self, to: usize, bytes: &[u8]) -> Result<(), CommError> {
        self.post(to, bytes.into());
        Ok(())
    }

    fn recv(&self, from: usize) -> Result<Vec<u8>, CommError> {
        self.take(from).map(|letter| letter.to_vec())
    }

    fn all_gather(&self, mine: &[u8]) -> Result<Vec<Vec<u8>>, CommError> {
        let letter: Arc<[u8]> = mine.into();
        for to in 0..self.size() {
            self.post(to, Arc::clone(&letter));
        }
        (0..self.size()).map(|from| self.recv(from)).collect()
    }

    fn all_to_all(&self, parts: &[&[u8]]) -> Result<Vec<Vec<u8>>, CommError> {
        for (to, part) in parts.iter().enumerate() {
            self.post(to, (*part).into());
        }
        (0..self.size()).map(|from| self.recv(from)).collect()
    }

    fn exchange(&self, parts: &[&[u8]], into: &mut [&mut [u8]], meanwhile: &mut dyn FnMut()) -> Result<(), CommError> {
        for (to, part) in parts.iter().enumerate().filter(|(to, _)| *to != self.me) {
            self.post(to, (*part).into());
        }
        meanwhile();
        for (from, out) in into.iter_mut().enumerate() {
            if from == self.me {
                out.copy_from_slice(parts[from]);
                continue;
            }
            let letter = self.take(from)?;
            if letter.len() != out.len() {
                return Err(CommError::Length { rank: from, got: letter.len(), expected: out.len() });
            }
            out.copy_from_slice(&letter);
        }
        Ok(())
    }

    fn split(&self, color: usize, key: usize) -> Result<Rc<dyn Transport>, CommError> {
        let mine: Vec<u8> = bytemuck::cast_slice(&[color as u64, key as u64]).to_vec();
        let mut group: Vec<(u64, usize)> = Vec::new();
        for (rank, bytes) in self.all_gather(&mine)?.iter().enumerate() {
            let pair: Vec<u64> = bytemuck::pod_collect_to_vec(bytes);
            if pair[0] == color as u64 {
                group.push((pair[1], rank));
            }
        }
        group.sort_unstable();
        // Every member makes the same splits in the same order, so it finds the same name.
        self.splits.set(self.splits.get() + 1);
        let id = xxhash(&[self.id, self.splits.get(), color as u64]);
        let me = group.iter().position(|(_, rank)| *rank == self.me).expect("a rank is in its own group");
        let members = group.iter().map(|(_, rank)| self.members[*rank]).collect();
        Ok(Rc::new(Self { office: Arc::clone(&self.office), members, me, id, splits: 0.into() }))
    }

    fn fail(&self, failure: &Failure) {
        let mut mail = self.office.mail();
        mail.failed.get_or_insert((self.members[self.me], failure.clone()));
        self.office.arrived.notify_all();
    }

    fn host(&self) -> String {
        crate::machine::host_name()
    }
}

fn xxhash(words: &[u64]) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    words.hash(&mut hasher);
    hasher.finish()
}

fn world(office: &Arc<Office>, me: usize, size: usize) -> Comm {
    Comm::over(Rc::new(Threads {
        office: Arc::clone(office),
        members: (0..size).collect(),
        me,
        id: 0,
        splits: 0.into(),
    }))
}

pub(super) fn solo() -> Comm {
    world(&Arc::default(), 0, 1)
}

/// Runs `body` on `size` ranks, each a thread, and returns their results in rank order.
///
/// A rank that returns an error or panics fails all: nobody waits for it.
pub fn run_threads<T: Send>(size: usize, body: impl Fn(Comm) -> Result<T, Error> + Sync) -> Vec<Result<T, Error>> {
    let office = Arc::<Office>::default();
    let rank = |me: usize| {
        let comm = world(&office, me, size);
        let inner = comm.clone();
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| body(inner)));
        let result = outcome.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
            Err(Error::Panicked { message: text.unwrap_or_else(|| "no message".to_owned()) })
        });
        if let Err(error) = &result {
            comm.fail(&error.failure());
        }
        result
    };
    std::thread::scope(|scope| {
        let rank = &rank;
        let handles: Vec<_> = (0..size).map(|me| scope.spawn(move || rank(me))).collect();
        handles.into_iter().map(|h| h.join().expect("a rank catches its own panics")).collect()
    })
}
