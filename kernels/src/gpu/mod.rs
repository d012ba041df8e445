//! One handle for a GPU with two back ends behind one small interface: the CUDA driver, and an emulation that runs
//! the same kernels on the CPU. The launch code above cannot tell them apart, so what continuous integration
//! launches under emulation is what a GPU is given: grid, block and order of arguments.

pub mod compile;
mod driver;
pub mod emulation;
mod modules;

pub(crate) use modules::{
    CONE, CONVOLUTION, DETERMINANTAL, FOURIER_LAYER, KRONECKER, POINTWISE, PROJECTOR, RAMP_FILTER, SLICES,
    SPATIOTEMPORAL, VARIATION, VORTICITY,
};
pub use modules::{MODULES, Module};

use crate::device::GpuInfo;
use crate::{KernelError, Result};
use std::sync::Arc;

/// A handle for one GPU, or for its emulation.
#[derive(Clone)]
pub struct Gpu(Arc<Backend>);

enum Backend {
    Driver(driver::Driver),
    Emulation(emulation::Emulation),
}

/// Device memory; freed on drop.
pub(crate) struct Memory {
    gpu: Gpu,
    address: u64,
    bytes: usize,
}

/// One argument of a kernel.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Arg {
    Address(u64),
    I32(i32),
    I64(i64),
    F32(f32),
    F64(f64),
}

/// Grid and block of a launch, and its dynamic shared memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    pub grid: [u32; 3],
    pub block: [u32; 3],
    pub shared_bytes: u32,
}

/// A C-style `int` argument; panics beyond 2^31, which the callers' shape checks exclude.
pub(crate) fn int(value: usize) -> Arg {
    Arg::I32(i32::try_from(value).expect("sizes on a device are checked to be below 2^31"))
}

/// The CUDA devices of this machine.
pub(crate) fn list() -> Result<Vec<GpuInfo>> {
    driver::list()
}

impl Gpu {
    pub(crate) fn cuda(ordinal: usize) -> Result<Self> {
        driver::Driver::new(ordinal).map(|d| Self(Arc::new(Backend::Driver(d))))
    }

    pub(crate) fn emulated(library: &std::path::Path) -> Result<Self> {
        emulation::Emulation::load(library).map(|e| Self(Arc::new(Backend::Emulation(e))))
    }

    pub(crate) fn describe(&self) -> String {
        match &*self.0 {
            Backend::Driver(d) => d.describe(),
            Backend::Emulation(e) => e.describe(),
        }
    }

    /// True where the kernels really run on a GPU.
    pub fn is_hardware(&self) -> bool {
        matches!(&*self.0, Backend::Driver(_))
    }

    pub(crate) fn allocate(&self, bytes: usize) -> Result<Memory> {
        let address = match &*self.0 {
            Backend::Driver(d) => d.allocate(bytes.max(1))?,
            Backend::Emulation(e) => e.allocate(bytes.max(1))?,
        };
        Ok(Memory { gpu: self.clone(), address, bytes })
    }

    pub(crate) fn clear(&self, memory: &Memory) -> Result<()> {
        match &*self.0 {
            Backend::Driver(d) => d.clear(memory.address, memory.bytes),
            Backend::Emulation(e) => e.clear(memory.address, memory.bytes),
        }
    }

    /// Launch `kernel` of `module`. The arguments must be those of the kernel, in its order.
    pub(crate) fn launch(
        &self,
        module: &'static Module,
        kernel: &'static str,
        extent: Extent,
        args: &[Arg],
    ) -> Result<()> {
        if extent.grid.contains(&0) {
            return Ok(());
        }
        match &*self.0 {
            Backend::Driver(d) => d.launch(module, kernel, extent, args),
            Backend::Emulation(e) => e.launch(kernel, extent, args),
        }
    }

    /// Wait for everything launched so far.
    pub(crate) fn synchronize(&self) -> Result<()> {
        match &*self.0 {
            Backend::Driver(d) => d.synchronize(),
            Backend::Emulation(_) => Ok(()),
        }
    }
}

impl std::fmt::Debug for Gpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.describe())
    }
}

impl Memory {
    pub(crate) fn address(&self) -> u64 {
        self.address
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn is_on(&self, gpu: &Gpu) -> bool {
        Arc::ptr_eq(&self.gpu.0, &gpu.0)
    }

    pub(crate) fn upload(&self, from: &[u8]) -> Result<()> {
        assert_eq!(from.len(), self.bytes, "an upload fills its memory");
        match &*self.gpu.0 {
            Backend::Driver(d) => d.upload(self.address, from),
            Backend::Emulation(e) => e.upload(self.address, from),
        }
    }

    pub(crate) fn download(&self, to: &mut [u8]) -> Result<()> {
        assert_eq!(to.len(), self.bytes, "a download fetches all of its memory");
        match &*self.gpu.0 {
            Backend::Driver(d) => d.download(self.address, to),
            Backend::Emulation(e) => e.download(self.address, to),
        }
    }

    /// A second memory of the same contents on the same device.
    pub(crate) fn duplicate(&self) -> Result<Self> {
        let copy = self.gpu.allocate(self.bytes)?;
        match &*self.gpu.0 {
            Backend::Driver(d) => d.copy(self.address, copy.address, self.bytes)?,
            Backend::Emulation(e) => e.copy(self.address, copy.address, self.bytes)?,
        }
        Ok(copy)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        match &*self.gpu.0 {
            Backend::Driver(d) => d.free(self.address),
            Backend::Emulation(e) => e.free(self.address, self.bytes),
        }
    }
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes on {:?}", self.bytes, self.gpu)
    }
}

impl Arg {
    /// The argument's bytes at the start of a word (x86-64, AArch64 and CUDA are little-endian).
    fn word(self) -> u64 {
        match self {
            Self::Address(a) => a,
            Self::I32(i) => u64::from(i as u32),
            Self::I64(i) => i as u64,
            Self::F32(x) => u64::from(x.to_bits()),
            Self::F64(x) => x.to_bits(),
        }
    }
}

/// The arguments as words, and a pointer to each, as CUDA and the emulation take them.
fn pointers(words: &mut [u64]) -> Vec<*mut std::ffi::c_void> {
    words.iter_mut().map(|w| std::ptr::from_mut(w).cast()).collect()
}

fn device_error(device: &str, call: impl Into<String>, reason: impl ToString) -> KernelError {
    KernelError::Device { device: device.to_owned(), call: call.into(), reason: reason.to_string() }
}
