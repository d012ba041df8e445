//! What other programs write and read.

pub mod data_exchange;
