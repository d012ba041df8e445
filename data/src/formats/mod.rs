//! What other programs write and read.

pub mod data_exchange;
pub mod npy;
pub mod tiff;
pub mod vtkhdf;
