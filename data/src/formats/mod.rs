//! What other programs write and read.

pub mod data_exchange;
pub mod geometry;
pub mod grid;
pub mod npy;
pub mod npz;
pub mod safetensors;
pub mod table;
pub mod tiff;
pub mod vtkhdf;
