//! Stands in for MPI in a build without it: one process, and a clear word when started as many.

use super::Comm;
use crate::error::Error;
use crate::launch::ranks_announced;

/// The library that ranks talk through, if any.
pub fn mpi_library() -> Option<String> {
    None
}

/// The process's part in a run of several.
#[derive(Debug)]
pub struct MpiSession;

impl MpiSession {
    /// Joins the ranks that a launcher started together with this process.
    ///
    /// # Errors
    /// Always, where a launcher started more than one: this build has no MPI.
    pub fn join() -> Result<Option<(Self, Comm)>, Error> {
        match ranks_announced() {
            Some(ranks) if ranks > 1 => Err(Error::BuiltWithoutMpi { ranks }),
            _ => Ok(None),
        }
    }
}
