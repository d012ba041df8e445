//! Where a computation runs.

use crate::gpu::Gpu;
use crate::{KernelError, Result};
use std::path::Path;

/// A CPU (all threads of the current rayon pool) or one GPU. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub enum Device {
    /// The processor, on the threads of the current rayon pool.
    #[default]
    Cpu,
    /// A CUDA device, or its emulation on the CPU for tests.
    Gpu(Gpu),
}

/// One CUDA device of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuInfo {
    /// Marketing name as the driver gives it.
    pub name: String,
    /// Total memory.
    pub memory_bytes: u64,
    /// Compute capability, (major, minor).
    pub compute_capability: (u32, u32),
}

impl Device {
    /// The processor.
    pub fn cpu() -> Self {
        Self::Cpu
    }

    /// The CUDA device number `ordinal`. Errors with [`KernelError::NoGpu`] where there is no driver or no such
    /// device; never panics for the lack of a library.
    pub fn cuda(ordinal: usize) -> Result<Self> {
        Gpu::cuda(ordinal).map(Self::Gpu)
    }

    /// An emulated device: the same `.cu` files compiled for the CPU by
    /// [`compile_emulation`](crate::gpu::emulation::compile_emulation), launched by the same host code.
    /// It checks the kernels and their launches. It is no GPU: it is slow, and says nothing about speed.
    pub fn emulated(library: &Path) -> Result<Self> {
        Gpu::emulated(library).map(Self::Gpu)
    }

    /// One line for people: "CPU, 2 threads, AVX-512", "CUDA 0: NVIDIA H200, …".
    pub fn describe(&self) -> String {
        match self {
            Self::Cpu => format!("CPU, {} threads, {}", rayon::current_num_threads(), crate::machine::simd().name()),
            Self::Gpu(gpu) => gpu.describe(),
        }
    }

    /// True for a device that is no CPU.
    pub fn is_gpu(&self) -> bool {
        matches!(self, Self::Gpu(_))
    }

    /// Wait until everything launched so far has run; reports faults of earlier launches.
    pub fn synchronize(&self) -> Result<()> {
        match self {
            Self::Cpu => Ok(()),
            Self::Gpu(gpu) => gpu.synchronize(),
        }
    }
}

/// The CUDA devices of this machine, or the reason why there are none.
pub fn cuda_devices() -> Result<Vec<GpuInfo>, String> {
    match crate::gpu::list() {
        Err(KernelError::NoGpu { reason }) => Err(reason),
        Err(other) => Err(other.to_string()),
        Ok(devices) => Ok(devices),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_a_driver_gives_an_error_not_a_panic() {
        match cuda_devices() {
            Ok(devices) => assert!(Device::cuda(devices.len()).is_err()),
            Err(reason) => {
                assert!(!reason.is_empty());
                assert!(matches!(Device::cuda(0), Err(KernelError::NoGpu { .. })));
            }
        }
        assert!(Device::emulated(Path::new("/nonexistent/libkernels.so")).is_err());
    }
}
