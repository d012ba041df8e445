//! `[problem.pool]`: atoms with features of the user's own, instead of a space.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A file of features.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolSpec {
    /// HDF5.
    pub file: PathBuf,
    /// Dataset `[atom, function]`; absent: `/features`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub features: Option<String>,
    /// Dataset `[atom, variable]` with what the atoms are, copied for those that are chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub points: Option<String>,
}

impl PoolSpec {
    /// The dataset of the features.
    pub fn features(&self) -> &str {
        self.features.as_deref().unwrap_or("/features")
    }
}
