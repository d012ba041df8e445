//! Two-dimensional incompressible flow on a periodic square by a pseudo-spectral method: what several workloads compute with.

pub mod function;
pub mod given;
pub mod linearised;
pub mod modes;
pub mod navier_stokes;
pub mod on_device;
pub mod sampler;
pub mod slabs;
pub mod transform;

pub use modes::Modes;
pub use navier_stokes::{Flow, Scheme};
