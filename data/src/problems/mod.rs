//! Phantoms with exact projections, and metrics.
