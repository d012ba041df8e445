//! The matrix of a product.

use super::expect;
use crate::{Buffer, Device, Result};

/// A dense matrix, row-major, on a device.
#[derive(Debug)]
pub struct Matrix {
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) values: Buffer<f64>,
}

impl Matrix {
    /// `rows × cols` numbers, row by row.
    ///
    /// # Errors
    /// Where the length is not `rows · cols`, or the device has no room.
    pub fn new(device: &Device, rows: usize, cols: usize, values: Vec<f64>) -> Result<Self> {
        expect("matrix", values.len(), rows * cols)?;
        Ok(Self { rows, cols, values: Buffer::from_vec(device, values)? })
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The entries, row by row.
    pub fn values(&mut self) -> &[f64] {
        self.values.host()
    }
}
