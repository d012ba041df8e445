//! Every group, dataset and attribute name of our HDF5 files.
//!
//! ```text
//! /                 provenance attributes
//! ├── spec_toml     text: the job file as submitted
//! ├── result/NAME   what the run computed; attributes `axes`, `units`, `long_name`
//! ├── history/NAME  one column per recorded scalar, [n_records]
//! └── VTKHDF/       ParaView's view of the same bytes (hard links)
//! ```

/// Group of the computed fields.
pub const RESULT: &str = "/result";
/// Group of the recorded scalars, one 1-D dataset per column.
pub const HISTORY: &str = "/history";
/// Group that ParaView opens.
pub const VTKHDF: &str = "/VTKHDF";
/// Arrays on the points of the ImageData.
pub const VTKHDF_POINT_DATA: &str = "/VTKHDF/PointData";
/// Scalar text dataset: the job file as submitted.
pub const SPEC_TOML: &str = "/spec_toml";

/// Path of the computed field `name`: `/result/<name>`.
pub fn result(name: &str) -> String {
    format!("{RESULT}/{name}")
}

/// Path of the recorded column `name`: `/history/<name>`.
pub fn history(name: &str) -> String {
    format!("{HISTORY}/{name}")
}

/// Attributes of the root: what made this file.
pub mod provenance {
    /// Version of the program, text.
    pub const CONVOKE_VERSION: &str = "convoke_version";
    /// Commit of the program's source, text.
    pub const GIT_COMMIT: &str = "git_commit";
    /// 1 when the source differed from the commit, i64.
    pub const GIT_DIRTY: &str = "git_dirty";
    /// XXH3-128 of the job file's text, 32 hexadecimal digits.
    pub const SPEC_XXH3_128: &str = "spec_xxh3_128";
    /// Name of the workload, text.
    pub const WORKLOAD: &str = "workload";
    /// Name of the run, text.
    pub const RUN_ID: &str = "run_id";
    /// Attempt that wrote the file (the fencing token), u64.
    pub const EPOCH: &str = "epoch";
    /// Time of writing, RFC 3339 text.
    pub const CREATED: &str = "created";
    /// Host names, array of text.
    pub const HOSTS: &str = "hosts";
    /// Number of ranks, u64.
    pub const RANKS: &str = "ranks";
    /// Device of the ranks, text.
    pub const DEVICE: &str = "device";
    /// Seed of the counter-based generator, u64.
    pub const SEED: &str = "seed";
    /// Steps completed, u64.
    pub const STEP: &str = "step";
    /// MPI library, text.
    pub const MPI_VERSION: &str = "mpi_version";
    /// HDF5 library, text.
    pub const HDF5_VERSION: &str = "hdf5_version";
    /// CUDA driver, text.
    pub const CUDA_VERSION: &str = "cuda_version";
}

/// Attributes of a dataset.
pub mod field {
    /// Axis names joined by `:`, slowest first, such as `z:y:x`, text.
    pub const AXES: &str = "axes";
    /// Unit in CF/UDUNITS spelling, text.
    pub const UNITS: &str = "units";
    /// One line for a plot label, text.
    pub const LONG_NAME: &str = "long_name";
}

/// Attributes of a result's table that is to be drawn as curves, one for each row.
pub mod chart {
    /// Name of the result with the places along the axis, text.
    pub const OVER: &str = "chart_over";
    /// Names of the rows, with commas, text.
    pub const SERIES: &str = "chart_series";
    /// Name of the result with the lower ends of intervals, text.
    pub const LOW: &str = "chart_low";
    /// Name of the result with the upper ends, text.
    pub const HIGH: &str = "chart_high";
}

/// Attributes that make an HDF5 dimension scale (HDF5 Dimension Scale Specification 1.0).
pub mod scale {
    /// `DIMENSION_SCALE` on a scale.
    pub const CLASS: &str = "CLASS";
    /// Value of [`CLASS`].
    pub const CLASS_VALUE: &str = "DIMENSION_SCALE";
    /// Name of the axis.
    pub const NAME: &str = "NAME";
    /// On a dataset: per axis, references to its scales.
    pub const DIMENSION_LIST: &str = "DIMENSION_LIST";
    /// On a scale: which datasets use it, and for which axis.
    pub const REFERENCE_LIST: &str = "REFERENCE_LIST";
}
