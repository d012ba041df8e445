//! Numerical kernels on one device, CPU or CUDA: no ranks, no paths of data, no workloads.
//!
//! Every operation is a folder with the same rooms: `mod.rs` (what it computes, shape checks, dispatch),
//! `reference.rs` (plain loops in f64, the oracle), `cpu.rs` (the fast path), `cuda.rs` (launches) and
//! `kernel.cu` (the device code, which the emulation compiles for the CPU as it stands).
//!
//! Operations take [`Buffer`]s, which keep a host and a device copy coherent, and run on the [`Device`]
//! they were built for. Results do not depend on the number of threads, nor on how slices are grouped.

pub mod buffer;
pub mod cone;
pub mod convolution;
pub mod determinantal;
pub mod device;
mod error;
pub mod fourier_layer;
pub mod gpu;
pub mod kronecker;
pub mod machine;
pub mod pointwise;
pub mod projector;
pub mod ramp_filter;
pub mod random;
pub mod slices;
pub mod spatiotemporal;
pub mod variation;
pub mod vorticity;

pub use buffer::{Buffer, Element, HostMemory};
pub use cone::{ConeFootprint, ConeGeometry, ConePart, ConeProjector, ConeView, Orbit};
pub use device::{Device, GpuInfo, cuda_devices};
pub use error::{KernelError, Result};
pub use projector::{Footprint, ParallelGeometry, Projector};
pub use ramp_filter::{FilterWindow, Padding, RampFilter, RampParams};
pub use random::Philox;
pub use slices::Slices;
