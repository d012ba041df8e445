//! The CUDA back end: driver API only, loaded at run time, kernels from the embedded PTX.
#![allow(unsafe_code)]

use super::{Arg, Extent, Module, device_error, pointers};
use crate::device::GpuInfo;
use crate::{KernelError, Result};
use cudarc::driver::{CudaContext, DriverError, result, sys};
use std::collections::HashMap;
use std::ffi::CString;
use std::sync::{Arc, Mutex, PoisonError};

/// One device: its primary context, and the kernels loaded so far. Work is issued to the default stream, so
/// launches and copies happen in the order of the calls.
pub(super) struct Driver {
    context: Arc<CudaContext>,
    name: String,
    /// Functions by (module, kernel); modules stay loaded as long as the process lives.
    kernels: Mutex<HashMap<(&'static str, &'static str), Kernel>>,
    modules: Mutex<HashMap<&'static str, LoadedModule>>,
}

#[derive(Clone, Copy)]
struct Kernel(sys::CUfunction);
#[derive(Clone, Copy)]
struct LoadedModule(sys::CUmodule);

// SAFETY: handles of the driver API are plain references into its own tables, which it guards itself; they may be
// used from any thread whose current context is the one they belong to, which `bind` makes sure of.
unsafe impl Send for Kernel {}
// SAFETY: as above.
unsafe impl Send for LoadedModule {}

/// Above this much dynamic shared memory a kernel has to opt in.
const DEFAULT_SHARED_BYTES: u32 = 48 << 10;

fn no_gpu(reason: impl ToString) -> KernelError {
    KernelError::NoGpu { reason: reason.to_string() }
}

/// Number of devices. Asks for the library first: calls of cudarc panic without it.
fn count() -> Result<usize> {
    // SAFETY: tries to open libcuda and closes it again; its initialisers are the driver's own.
    if !unsafe { sys::is_culib_present() } {
        return Err(no_gpu("the CUDA driver library (libcuda) is not installed"));
    }
    result::init().map_err(|e| no_gpu(format!("the CUDA driver does not start: {e}")))?;
    let count = CudaContext::device_count().map_err(no_gpu)?;
    Ok(count.max(0) as usize)
}

pub(super) fn list() -> Result<Vec<GpuInfo>> {
    let info = |ordinal: usize| -> Result<GpuInfo, DriverError> {
        let device = result::device::get(ordinal as i32)?;
        let attribute = |a| -> Result<u32, DriverError> {
            // SAFETY: `device` was just given out by the driver.
            unsafe { result::device::get_attribute(device, a) }.map(|v| v as u32)
        };
        Ok(GpuInfo {
            name: result::device::get_name(device)?,
            // SAFETY: as above.
            memory_bytes: unsafe { result::device::total_mem(device) }? as u64,
            compute_capability: (
                attribute(sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
                attribute(sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
            ),
        })
    };
    (0..count()?).map(|i| info(i).map_err(no_gpu)).collect()
}

impl Driver {
    pub(super) fn new(ordinal: usize) -> Result<Self> {
        let count = count()?;
        if ordinal >= count {
            return Err(no_gpu(format!("device {ordinal} was asked for, this machine has {count}")));
        }
        let context = CudaContext::new(ordinal).map_err(no_gpu)?;
        let name = context.name().map_err(no_gpu)?;
        Ok(Self { context, name, kernels: Mutex::default(), modules: Mutex::default() })
    }

    pub(super) fn describe(&self) -> String {
        let memory = self.context.total_mem().unwrap_or(0) >> 20;
        let (major, minor) = self.context.compute_capability().unwrap_or((0, 0));
        format!("CUDA {}: {}, {memory} MiB, compute capability {major}.{minor}", self.context.ordinal(), self.name)
    }

    /// Run `call` with this device's context current.
    fn with<T>(&self, what: &str, call: impl FnOnce() -> Result<T, DriverError>) -> Result<T> {
        self.context.bind_to_thread().and_then(|()| call()).map_err(|e| device_error(&self.name, what, e))
    }

    pub(super) fn allocate(&self, bytes: usize) -> Result<u64> {
        // SAFETY: plain allocation; the owner (`Memory`) frees it once.
        self.with(&format!("allocating {bytes} bytes"), || unsafe { result::malloc_sync(bytes) })
    }

    pub(super) fn free(&self, address: u64) {
        // SAFETY: `address` came from `allocate` and its owner is being dropped. An error can only repeat an
        // earlier fault of the device, which that call has reported.
        let _ = self.with("free", || unsafe { result::free_sync(address) });
    }

    pub(super) fn clear(&self, address: u64, bytes: usize) -> Result<()> {
        // SAFETY: the range is one whole allocation of ours.
        self.with("memset", || unsafe { result::memset_d8_sync(address, 0, bytes) })
    }

    pub(super) fn upload(&self, address: u64, from: &[u8]) -> Result<()> {
        // SAFETY: the allocation is as long as `from` (checked by `Memory`).
        self.with("upload", || unsafe { result::memcpy_htod_sync(address, from) })
    }

    pub(super) fn download(&self, address: u64, to: &mut [u8]) -> Result<()> {
        // SAFETY: the allocation is as long as `to` (checked by `Memory`).
        self.with("download", || unsafe { result::memcpy_dtoh_sync(to, address) })
    }

    pub(super) fn copy(&self, from: u64, to: u64, bytes: usize) -> Result<()> {
        // SAFETY: both are allocations of ours, of this length (checked by `Memory`).
        self.with("copy", || unsafe { result::memcpy_dtod_sync(to, from, bytes) })
    }

    pub(super) fn synchronize(&self) -> Result<()> {
        self.with("synchronize", || self.context.synchronize())
    }

    pub(super) fn launch(
        &self,
        module: &'static Module,
        kernel: &'static str,
        extent: Extent,
        args: &[Arg],
    ) -> Result<()> {
        let function = self.kernel(module, kernel)?;
        let mut words: Vec<u64> = args.iter().map(|a| a.word()).collect();
        let mut params = pointers(&mut words);
        let ([gx, gy, gz], [bx, by, bz]) = (extent.grid, extent.block);
        self.with(kernel, || {
            if extent.shared_bytes > DEFAULT_SHARED_BYTES {
                let attribute = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
                // SAFETY: `function` belongs to a module that is never unloaded.
                unsafe { result::function::set_function_attribute(function.0, attribute, extent.shared_bytes as i32)? };
            }
            // SAFETY: the callers pass the kernel's own parameters in its order (the emulation runs the same
            // launches in the tests), with addresses from live `Memory`s of this device.
            unsafe {
                result::launch_kernel(
                    function.0,
                    (gx, gy, gz),
                    (bx, by, bz),
                    extent.shared_bytes,
                    std::ptr::null_mut(),
                    &mut params,
                )
            }
        })
    }

    fn kernel(&self, module: &'static Module, name: &'static str) -> Result<Kernel> {
        let mut kernels = self.kernels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kernel) = kernels.get(&(module.name, name)) {
            return Ok(*kernel);
        }
        let loaded = self.module(module)?;
        let symbol = CString::new(name).expect("kernel names hold no NUL");
        // SAFETY: the module was loaded in this context and stays.
        let function = self.with(name, || unsafe { result::module::get_function(loaded.0, symbol) })?;
        kernels.insert((module.name, name), Kernel(function));
        Ok(Kernel(function))
    }

    fn module(&self, module: &'static Module) -> Result<LoadedModule> {
        let mut modules = self.modules.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(loaded) = modules.get(module.name) {
            return Ok(*loaded);
        }
        let ptx = CString::new(module.ptx).expect("PTX is text without NUL");
        // SAFETY: the image is NUL-terminated PTX text, which the driver copies.
        let loaded = self.with(&format!("loading {}.ptx", module.name), || unsafe {
            result::module::load_data(ptx.as_ptr().cast())
        })?;
        modules.insert(module.name, LoadedModule(loaded));
        Ok(LoadedModule(loaded))
    }
}
