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

/// Every module of this crate.
pub static MODULES: [&Module; 0] = [];
