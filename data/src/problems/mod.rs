//! Phantoms with exact projections, and the metrics that compare a reconstruction with the truth.

pub mod metrics;
pub mod phantom;
pub mod rays;
pub mod voxels;
