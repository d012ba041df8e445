//! Everything a person submits.
