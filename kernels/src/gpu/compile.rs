//! NVRTC: compiles the device code where the library is at hand (it is no part of the driver), and reads the
//! assembler's report on registers, spills and shared memory. No GPU is needed.
#![allow(unsafe_code)]

use super::{Module, device_error};
use crate::Result;
use cudarc::nvrtc::{result, sys};
use std::ffi::{CString, c_char};

/// What one kernel uses on one architecture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resources {
    /// Name of the kernel.
    pub kernel: String,
    /// Registers per thread.
    pub registers: u32,
    /// Bytes that spill to local memory, stores and loads.
    pub spill_bytes: u32,
    /// Static shared memory.
    pub shared_bytes: u32,
}

/// True if NVRTC can be loaded: from the directory in the environment variable `CONVOKE_NVRTC_DIR`, or from the
/// loader's own path.
pub fn nvrtc_is_present() -> bool {
    if let Some(dir) = std::env::var_os("CONVOKE_NVRTC_DIR") {
        preload(std::path::Path::new(&dir));
    }
    // SAFETY: opens the library and closes it again.
    unsafe { sys::is_culib_present() }
}

/// Load NVRTC's files by path; the loader then finds them by name, already there.
fn preload(dir: &std::path::Path) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    let mut files: Vec<_> = entries.flatten().map(|e| e.path()).collect();
    let name = |p: &std::path::Path| p.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    files.retain(|p| name(p).starts_with("libnvrtc") && name(p).contains(".so") && !name(p).contains(".alt"));
    // "libnvrtc-builtins" sorts before "libnvrtc.so", which needs it.
    files.sort();
    for file in files {
        // SAFETY: NVIDIA's library, whose initialisers are its own business. It stays for the process's life.
        if let Ok(library) = unsafe { libloading::Library::new(&file) } {
            std::mem::forget(library);
        }
    }
}

/// PTX of `module` for a virtual architecture such as `compute_80`.
pub fn ptx(module: &Module, arch: &str) -> Result<String> {
    let (program, _) = compile(module, arch)?;
    // SAFETY: the program compiled; it is destroyed below.
    let text = unsafe { result::get_ptx(program) };
    destroy(program);
    let text = text.map_err(|e| device_error("NVRTC", module.name, format!("{e:?}")))?;
    let text: String = text.iter().map(|c| *c as u8 as char).take_while(|c| *c != '\0').collect();
    Ok(format!("{}\n{text}", module.ptx_header()))
}

/// The assembler's report on `module` for a real architecture such as `sm_90`.
pub fn resources(module: &Module, arch: &str) -> Result<Vec<Resources>> {
    let (program, log) = compile(module, arch)?;
    destroy(program);
    Ok(parse_report(&log))
}

fn compile(module: &Module, arch: &str) -> Result<(sys::nvrtcProgram, String)> {
    let failed = |reason: String| device_error("NVRTC", format!("compiling {}/kernel.cu", module.name), reason);
    let source = CString::new(module.source).expect("sources hold no NUL");
    let program = result::create_program(&source, None).map_err(|e| failed(format!("{e:?}")))?;
    let mut options = vec![format!("--gpu-architecture={arch}"), "--std=c++17".into()];
    if arch.starts_with("sm_") {
        options.push("--ptxas-options=-v".into());
    }
    // SAFETY: the program was just created.
    let outcome = unsafe { result::compile_program(program, &options) };
    // SAFETY: as above.
    let log = unsafe { result::get_program_log(program) }.unwrap_or_default();
    let log: String = log.iter().map(|c: &c_char| *c as u8 as char).take_while(|c| *c != '\0').collect();
    match outcome {
        Ok(()) => Ok((program, log)),
        Err(_) => {
            destroy(program);
            Err(failed(log))
        }
    }
}

fn destroy(program: sys::nvrtcProgram) {
    // SAFETY: called once for each program created. Failing to free it loses only memory.
    let _ = unsafe { result::destroy_program(program) };
}

/// Lines such as "ptxas info : Compiling entry function 'k' for 'sm_90'", "0 bytes stack frame, 0 bytes spill stores,
/// 0 bytes spill loads" and "Used 32 registers, used 1 barriers, 4224 bytes smem".
fn parse_report(log: &str) -> Vec<Resources> {
    let before = |line: &str, what: &str| -> u32 {
        let number = line.split(what).next().unwrap_or("").trim().rsplit([' ', ',']).next().unwrap_or("");
        if line.contains(what) { number.parse().unwrap_or(0) } else { 0 }
    };
    let mut kernels: Vec<Resources> = Vec::new();
    for line in log.lines() {
        if let Some(name) = line.split("Compiling entry function '").nth(1) {
            let kernel = name.split('\'').next().unwrap_or("").to_owned();
            kernels.push(Resources { kernel, registers: 0, spill_bytes: 0, shared_bytes: 0 });
        } else if let Some(last) = kernels.last_mut() {
            last.spill_bytes += before(line, " bytes spill stores") + before(line, " bytes spill loads");
            last.registers = last.registers.max(before(line, " registers"));
            last.shared_bytes = last.shared_bytes.max(before(line, " bytes smem"));
        }
    }
    kernels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_of_the_assembler_is_read() {
        let log = "ptxas info    : Compiling entry function 'k' for 'sm_90'\n\
                   ptxas info    : Function properties for k\n\
                   \u{20}   8 bytes stack frame, 4 bytes spill stores, 12 bytes spill loads\n\
                   ptxas info    : Used 32 registers, used 1 barriers, 4224 bytes smem\n";
        let expected = Resources { kernel: "k".into(), registers: 32, spill_bytes: 16, shared_bytes: 4224 };
        assert_eq!(parse_report(log), [expected]);
    }

    #[test]
    fn every_kernel_compiles_without_spills_where_nvrtc_is_present() {
        if !nvrtc_is_present() {
            eprint_skip("NVRTC is not installed (set CONVOKE_NVRTC_DIR)");
            return;
        }
        for module in super::super::MODULES {
            for arch in ["sm_80", "sm_90"] {
                for kernel in resources(module, arch).unwrap() {
                    assert_eq!(kernel.spill_bytes, 0, "{kernel:?} on {arch}");
                }
            }
        }
    }

    #[allow(clippy::print_stderr)]
    fn eprint_skip(reason: &str) {
        eprintln!("skipped: {reason}");
    }
}
