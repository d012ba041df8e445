//! Ranks, sharding, the driver and checkpoints: everything between a job file and a workload's
//! mathematics. See `docs/ARCHITECTURE.md` for the arrows and invariants.

pub mod batch;
pub mod checkpoint;
pub mod comm;
pub mod driver;
mod error;
pub mod failpoint;
pub mod fields;
pub mod guest;
pub mod job;
pub mod launch;
pub mod machine;
pub mod pieces;
pub mod progress;
pub mod results;
pub mod ro_crate;
pub mod run_dir;
pub mod shard;
pub mod signals;
pub mod study;
pub mod supervisor;
pub mod sweep;
pub mod workload;

pub use comm::{Comm, CommError};
pub use error::{Error, Exit, Failure, Result};
pub use fields::Fields;
pub use job::{BadValue, Job, JobError, JobText};
pub use results::Results;
pub use shard::{Region, block};
pub use workload::{Ctx, Plan, Progress, Resources, Workload};
