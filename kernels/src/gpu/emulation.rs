//! An emulation of a GPU on the CPU, for tests without one: the very same `.cu` files, compiled by a C++ compiler
//! with a header (`kernels/shim/cuda_shim.hpp`) that runs each block's threads as fibers.
//!
//! It checks arithmetic, indices, barriers and launch arguments. It is not a GPU and says nothing about speed.
#![allow(unsafe_code)]

use super::{Arg, Extent, MODULES, device_error, pointers};
use crate::{KernelError, Result};
use std::alloc::{Layout, alloc, dealloc};
use std::ffi::c_void;
use std::path::{Path, PathBuf};
use std::process::Command;

const NAME: &str = "emulated GPU";
/// What `cudaMalloc` guarantees.
const ALIGNMENT: usize = 256;
const SHIM: &str = include_str!("../../shim/cuda_shim.hpp");

/// `k__cpu(grid x, y, z, block x, y, z, shared bytes, arguments)`
type Launcher = unsafe extern "C" fn(u32, u32, u32, u32, u32, u32, usize, *mut *mut c_void);

/// The loaded library of kernels.
pub(super) struct Emulation {
    library: libloading::Library,
}

impl Emulation {
    pub(super) fn load(path: &Path) -> Result<Self> {
        // SAFETY: the library is one that `compile_emulation` made: its initialisers are those of the C++ run time.
        unsafe { libloading::Library::new(path) }
            .map(|library| Self { library })
            .map_err(|e| device_error(NAME, "loading the library of kernels", e))
    }

    pub(super) fn describe(&self) -> String {
        "emulated GPU (the CUDA kernels on the CPU; for tests, not for speed)".to_owned()
    }

    fn layout(bytes: usize) -> Option<Layout> {
        Layout::from_size_align(bytes.max(1), ALIGNMENT).ok()
    }

    pub(super) fn allocate(&self, bytes: usize) -> Result<u64> {
        let failed = || device_error(NAME, format!("allocating {bytes} bytes"), "out of memory");
        let layout = Self::layout(bytes).ok_or_else(failed)?;
        // SAFETY: the layout's size is not zero.
        let pointer = unsafe { alloc(layout) };
        if pointer.is_null() {
            return Err(failed());
        }
        // Fresh device memory holds anything: make that visible (0xff… is NaN in floats).
        // SAFETY: the allocation is `bytes` long.
        unsafe { pointer.write_bytes(0xff, bytes) };
        Ok(pointer as u64)
    }

    pub(super) fn free(&self, address: u64, bytes: usize) {
        if let Some(layout) = Self::layout(bytes) {
            // SAFETY: `address` came from `allocate` with the same size, and its owner is being dropped.
            unsafe { dealloc(address as *mut u8, layout) };
        }
    }

    pub(super) fn clear(&self, address: u64, bytes: usize) -> Result<()> {
        // SAFETY: the range is one whole allocation of ours.
        unsafe { (address as *mut u8).write_bytes(0, bytes) };
        Ok(())
    }

    pub(super) fn upload(&self, address: u64, from: &[u8]) -> Result<()> {
        // SAFETY: the allocation is as long as `from` (checked by `Memory`), and they cannot overlap.
        unsafe { (address as *mut u8).copy_from_nonoverlapping(from.as_ptr(), from.len()) };
        Ok(())
    }

    pub(super) fn download(&self, address: u64, to: &mut [u8]) -> Result<()> {
        // SAFETY: the allocation is as long as `to` (checked by `Memory`), and they cannot overlap.
        unsafe { (address as *const u8).copy_to_nonoverlapping(to.as_mut_ptr(), to.len()) };
        Ok(())
    }

    pub(super) fn copy(&self, from: u64, to: u64, bytes: usize) -> Result<()> {
        // SAFETY: both are allocations of this length (checked by `Memory`), and not the same one.
        unsafe { (to as *mut u8).copy_from_nonoverlapping(from as *const u8, bytes) };
        Ok(())
    }

    pub(super) fn launch(&self, kernel: &str, extent: Extent, args: &[Arg]) -> Result<()> {
        let mut words: Vec<u64> = args.iter().map(|a| a.word()).collect();
        let mut params = pointers(&mut words);
        let symbol = format!("{kernel}__cpu");
        // SAFETY: every symbol of this name is a `Launcher`: the shim's EXPORT_KERNEL defines it so.
        let launcher =
            unsafe { self.library.get::<Launcher>(symbol.as_bytes()) }.map_err(|e| device_error(NAME, kernel, e))?;
        let ([gx, gy, gz], [bx, by, bz]) = (extent.grid, extent.block);
        // SAFETY: the callers pass the kernel's own parameters in its order, with addresses from live `Memory`s.
        unsafe { launcher(gx, gy, gz, bx, by, bz, extent.shared_bytes as usize, params.as_mut_ptr()) };
        Ok(())
    }
}

/// Compile all kernels of this crate for the CPU into a shared library in `dir`, for
/// [`Device::emulated`](crate::Device::emulated). Needs `g++`; errors with [`KernelError::Device`] without it.
pub fn compile_emulation(dir: &Path) -> Result<PathBuf> {
    let write = |name: String, text: &str| -> Result<PathBuf> {
        let path = dir.join(name);
        std::fs::write(&path, text).map_err(|e| device_error(NAME, "writing the sources", e))?;
        Ok(path)
    };
    write("cuda_shim.hpp".into(), SHIM)?;
    let library = dir.join("libconvoke_kernels_emulation.so");
    let mut command = Command::new("g++");
    // No contraction to fused operations behind our back: kernels say fmaf where they mean it.
    command.args([
        "-std=c++17",
        "-O2",
        "-ffp-contract=off",
        "-fPIC",
        "-shared",
        "-DCUDA_CPU_SHIM",
        "-Wall",
        "-Wno-unknown-pragmas",
        "-I",
    ]);
    command.arg(dir).args(["-x", "c++"]);
    for module in MODULES {
        command.arg(write(format!("{}.cu", module.name), module.source)?);
    }
    command.args(["-x", "none", "-pthread", "-o"]).arg(&library);
    let output = command.output().map_err(|e| device_error(NAME, "running g++", e))?;
    if output.status.success() {
        return Ok(library);
    }
    Err(KernelError::Device {
        device: NAME.into(),
        call: "compiling the kernels with g++".into(),
        reason: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}
