//! Files and problems with known answers.
//!
//! * [`store`]: write an HDF5 file so that it is either complete and verified or absent; read one
//!   with errors that a user can act on.
//! * [`schema`]: every name that our own files use.
//! * [`formats`]: what other programs write and read (Data Exchange, VTKHDF, TIFF, NumPy, safetensors).
//! * [`failpoint`]: fault injection for tests.
//! * [`problems`]: phantoms with exact projections, and the metrics that compare with them.
//!
//! This crate knows no rank, no device and no workload.

pub mod error;
pub mod failpoint;
pub mod formats;
pub mod problems;
pub mod schema;
pub mod store;

pub use error::{DataError, Result};
