//! The list of device modules: one `kernel.cu` per operation, and the PTX that ships.

/// One translation unit of device code.
#[derive(Debug)]
pub struct Module {
    /// Name of the operation's folder, and of the PTX file.
    pub name: &'static str,
    /// CUDA C++ source.
    pub source: &'static str,
    /// PTX for compute capability 8.0 and above, compiled from `source`; its first line holds the source's hash.
    pub ptx: &'static str,
}

macro_rules! module {
    ($name:literal) => {
        Module {
            name: $name,
            source: include_str!(concat!("../", $name, "/kernel.cu")),
            ptx: include_str!(concat!("../../ptx/", $name, ".ptx")),
        }
    };
}

pub(crate) static CONE: Module = module!("cone");
pub(crate) static CONVOLUTION: Module = module!("convolution");
pub(crate) static DETERMINANTAL: Module = module!("determinantal");
pub(crate) static FOURIER_LAYER: Module = module!("fourier_layer");
pub(crate) static KRONECKER: Module = module!("kronecker");
pub(crate) static POINTWISE: Module = module!("pointwise");
pub(crate) static PROJECTOR: Module = module!("projector");
pub(crate) static RAMP_FILTER: Module = module!("ramp_filter");
pub(crate) static SLICES: Module = module!("slices");
pub(crate) static SPATIOTEMPORAL: Module = module!("spatiotemporal");
pub(crate) static VARIATION: Module = module!("variation");
pub(crate) static VORTICITY: Module = module!("vorticity");

/// Every module of this crate.
pub static MODULES: [&Module; 12] = [
    &CONE,
    &CONVOLUTION,
    &DETERMINANTAL,
    &FOURIER_LAYER,
    &KRONECKER,
    &POINTWISE,
    &PROJECTOR,
    &RAMP_FILTER,
    &SLICES,
    &SPATIOTEMPORAL,
    &VARIATION,
    &VORTICITY,
];

impl Module {
    /// First line of this module's PTX: it names the source that it was compiled from.
    pub fn ptx_header(&self) -> String {
        // FNV-1a, 64 bits.
        let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        let hash = self.source.bytes().fold(0xcbf2_9ce4_8422_2325, step);
        format!("// {}/kernel.cu, FNV-1a {hash:016x}", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ptx_that_ships_was_compiled_from_the_present_sources() {
        for module in MODULES {
            assert_eq!(
                module.ptx.lines().next(),
                Some(module.ptx_header().as_str()),
                "{}.ptx is stale: cargo run -p convoke-kernels --example compile_kernels -- --write",
                module.name
            );
        }
    }
}
