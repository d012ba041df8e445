//! The devices that the tests of this folder compare with the CPU.

use convoke_kernels::Device;
use convoke_kernels::gpu::emulation::compile_emulation;
use std::sync::OnceLock;

/// The devices that must agree with the CPU: the emulation, and a GPU where this machine has one.
pub fn devices() -> Vec<Device> {
    static EMULATION: OnceLock<Option<Device>> = OnceLock::new();
    let emulation = EMULATION.get_or_init(|| {
        if std::process::Command::new("g++").arg("--version").output().is_err() {
            eprint("skipped: no g++ to compile the emulation with");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let library = compile_emulation(dir.path()).unwrap();
        Some(Device::emulated(&library).unwrap())
    });
    let cuda = Device::cuda(0);
    // Set where a GPU must be tested: without one the test then fails instead of passing unseen.
    assert!(cuda.is_ok() || std::env::var_os("CONVOKE_REQUIRE_GPU").is_none(), "a GPU is required: {cuda:?}");
    emulation.iter().cloned().chain(cuda).collect()
}

#[allow(clippy::print_stderr)]
fn eprint(line: &str) {
    eprintln!("{line}");
}
