//! Fault injection for tests: named points at which this process can be made to fail.
//!
//! Always compiled in. While nothing is armed, [`hit`] is one load of a flag that never changes, so that the program that
//! is tested is the program that people run. Points stand in front of the system call that they are named after; where
//! files of several kinds pass through the same code, the caller names the kind ([`within`]) and the point is
//! `KIND-CALL`, such as `shard-sync`. Who arms what is not decided here: see `convoke_cluster::failpoint`.

use std::cell::Cell;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Signal, getpid, kill_process};

static ARMED: AtomicBool = AtomicBool::new(false);
static FAULTS: Mutex<Vec<Fault>> = Mutex::new(Vec::new());

thread_local! {
    static KIND: Cell<&'static str> = const { Cell::new("file") };
}

/// What happens at a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// The process ends at once, as by `kill -9`.
    Kill,
    /// The call answers with this error.
    Error(Errno),
    /// The call takes this much longer.
    Delay(Duration),
    /// A failure that is none of the system's.
    Fail,
}

/// One fault that waits for its moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where.
    pub point: String,
    /// What.
    pub effect: Effect,
    /// How many hits pass before the first that fails.
    pub skip: u64,
    /// How many hits fail from then on.
    pub times: u64,
}

/// Arms `faults` for the rest of this process.
pub fn arm(faults: Vec<Fault>) {
    let any = !faults.is_empty();
    *FAULTS.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = faults;
    ARMED.store(any, Ordering::Release);
}

/// Runs `body` with the files that it writes called `kind`.
pub fn within<T>(kind: &'static str, body: impl FnOnce() -> T) -> T {
    let before = KIND.replace(kind);
    let result = body();
    KIND.set(before);
    result
}

/// Passes the point `name`; an error if one was armed for this hit.
///
/// # Errors
/// The armed one.
#[inline]
pub fn hit(name: &str) -> io::Result<()> {
    if !ARMED.load(Ordering::Relaxed) {
        return Ok(());
    }
    strike(name)
}

/// Passes the point in front of a system call on a file of the current kind.
///
/// # Errors
/// As [`hit`].
#[inline]
pub fn file(call: &str) -> io::Result<()> {
    if !ARMED.load(Ordering::Relaxed) {
        return Ok(());
    }
    strike(&format!("{}-{call}", KIND.get()))
}

#[cold]
fn strike(name: &str) -> io::Result<()> {
    let due = {
        let mut faults = FAULTS.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut due = None;
        for fault in faults.iter_mut().filter(|fault| fault.point == name) {
            if fault.skip > 0 {
                fault.skip -= 1;
            } else if fault.times > 0 {
                fault.times -= 1;
                due = Some(fault.effect);
            }
        }
        due
    };
    match due {
        None => Ok(()),
        Some(Effect::Error(errno)) => Err(errno.into()),
        Some(Effect::Fail) => Err(io::Error::other("a fault was injected here by CONVOKE_FAULT")),
        Some(Effect::Delay(time)) => {
            std::thread::sleep(time);
            Ok(())
        }
        Some(Effect::Kill) => {
            let _ = kill_process(getpid(), Signal::KILL);
            // The signal ends the process; should that take a moment, nothing more is done in it.
            loop {
                std::thread::park();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // One test: what is armed belongs to the whole process.
    #[test]
    fn a_fault_strikes_at_its_point_after_its_skips_and_as_often_as_asked() {
        let errno = |result: io::Result<()>| result.err().and_then(|e| e.raw_os_error());
        let (point, effect) = ("only-here-sync".to_owned(), Effect::Error(Errno::DQUOT));
        arm(vec![Fault { point, effect, skip: 1, times: 2 }]);
        let seen: Vec<_> = (0..4).map(|_| errno(within("only-here", || file("sync")))).collect();
        let quota = Some(Errno::DQUOT.raw_os_error());
        assert_eq!(seen, [None, quota, quota, None]);
        assert_eq!(errno(file("sync")), None, "another kind of file");
        arm(Vec::new());
        assert!(hit("only-here-sync").is_ok());
    }
}
