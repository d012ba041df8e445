//! Compiles all device code for sm_80 and sm_90 with NVRTC, prints what each kernel uses and fails on spills.
//! `cargo run -p convoke-kernels --example compile_kernels [-- --write]`; `--write` renews `kernels/ptx` (compute_80).
//! NVRTC is looked for in `CONVOKE_NVRTC_DIR`, then on the loader's path. Use a 12.x release: drivers refuse PTX that
//! is newer than they are.
#![allow(clippy::print_stdout)]

use convoke_kernels::gpu::{MODULES, compile};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    if !compile::nvrtc_is_present() {
        return Err("NVRTC is not installed: set CONVOKE_NVRTC_DIR to the directory of libnvrtc.so".into());
    }
    let mut spills = 0;
    println!("{:20} {:7} {:>9} {:>6} {:>12}", "kernel", "arch", "registers", "spills", "shared bytes");
    for module in MODULES {
        for arch in ["sm_80", "sm_90"] {
            for k in compile::resources(module, arch)? {
                println!("{:20} {arch:7} {:9} {:6} {:12}", k.kernel, k.registers, k.spill_bytes, k.shared_bytes);
                spills += k.spill_bytes;
            }
        }
        if std::env::args().any(|a| a == "--write") {
            let path = format!("{}/ptx/{}.ptx", env!("CARGO_MANIFEST_DIR"), module.name);
            std::fs::write(&path, compile::ptx(module, "compute_80")?)?;
        }
    }
    if spills > 0 { Err(format!("{spills} bytes spill").into()) } else { Ok(()) }
}
