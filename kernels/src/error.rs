//! The one error of this crate.

/// What can go wrong in a kernel: a wrong shape or parameter, or a device that fails.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum KernelError {
    /// An array has the wrong number of elements.
    #[error("{what} has {got} elements, {expected} are needed")]
    Shape {
        /// Which array, with its axes.
        what: &'static str,
        /// Elements needed.
        expected: usize,
        /// Elements given.
        got: usize,
    },
    /// A length is not a whole number of slices, rows or images.
    #[error("{what} has {got} elements, not a multiple of {unit}")]
    NotAMultiple {
        /// Which array, with its axes.
        what: &'static str,
        /// Elements of one item.
        unit: usize,
        /// Elements given.
        got: usize,
    },
    /// A parameter is outside its range.
    #[error("{what} is {value}, it must be {rule}")]
    Parameter {
        /// Name of the parameter.
        what: &'static str,
        /// Its value.
        value: f64,
        /// The range.
        rule: &'static str,
    },
    /// An index is outside its range.
    #[error("{what} {index} is not below {bound}")]
    Index {
        /// What is indexed.
        what: &'static str,
        /// The index.
        index: usize,
        /// The first index that does not exist.
        bound: usize,
    },
    /// A view of a cone-beam scan that cannot be.
    #[error("view {view} {fault}")]
    View {
        /// Which view, from 0.
        view: usize,
        /// What is impossible about it.
        fault: crate::cone::ViewFault,
    },
    /// A scan that filtered back projection of cone beams does not fit.
    #[error(transparent)]
    Fdk(#[from] crate::cone::weights::FdkFault),
    /// No usable GPU on this machine.
    #[error("no GPU: {reason}")]
    NoGpu {
        /// Why: no driver library, no device, wrong ordinal.
        reason: String,
    },
    /// A call to the device failed.
    #[error("{device}: {call} failed: {reason}")]
    Device {
        /// Which device.
        device: String,
        /// Which call.
        call: String,
        /// The driver's words.
        reason: String,
    },
}

/// Result of a kernel.
pub type Result<T, E = KernelError> = std::result::Result<T, E>;
