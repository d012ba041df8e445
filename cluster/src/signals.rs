//! Signals that ask a run to stop with a checkpoint.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};

use crate::error::{Error, Result};

/// Remembers that SIGTERM, SIGINT or SIGUSR1 arrived. The handler only sets a flag.
#[derive(Debug, Clone, Default)]
pub struct StopSignals {
    seen: Arc<AtomicUsize>,
}

impl StopSignals {
    /// Starts listening. A second SIGINT ends the process at once, with the shell's code 130.
    ///
    /// # Errors
    /// [`Error::Program`] if the system refuses the handlers.
    pub fn listen() -> Result<Self> {
        let signals = Self::default();
        let fail = |e: std::io::Error| Error::Program {
            program: "signal handling".into(),
            problem: e.to_string(),
            help: "this system does not let the process handle signals".into(),
        };
        let armed = Arc::new(AtomicBool::new(false));
        signal_hook::flag::register_conditional_shutdown(SIGINT, 130, Arc::clone(&armed)).map_err(fail)?;
        signal_hook::flag::register(SIGINT, armed).map_err(fail)?;
        for signal in [SIGTERM, SIGINT, SIGUSR1] {
            signal_hook::flag::register_usize(signal, Arc::clone(&signals.seen), signal as usize).map_err(fail)?;
        }
        Ok(signals)
    }

    /// Name of the last signal that asked to stop, if any.
    pub fn pending(&self) -> Option<&'static str> {
        match self.seen.load(Ordering::Relaxed) as i32 {
            SIGTERM => Some("SIGTERM"),
            SIGINT => Some("SIGINT"),
            SIGUSR1 => Some("SIGUSR1"),
            _ => None,
        }
    }

    /// Pretends that a signal arrived: for tests of the driver inside one process.
    pub fn raise(&self) {
        self.seen.store(SIGUSR1 as usize, Ordering::Relaxed);
    }
}
