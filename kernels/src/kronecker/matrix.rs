//! The matrix of a product.

use super::expect;
use super::parity::{Parity, Split};
use crate::{Buffer, Device, Result};

/// A dense matrix, row-major, on a device.
#[derive(Debug)]
pub struct Matrix {
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) values: Buffer<f64>,
    pub(super) split: Option<Split>,
}

impl Matrix {
    /// `rows × cols` numbers, row by row.
    ///
    /// # Errors
    /// Where the length is not `rows · cols`, or the device has no room.
    pub fn new(device: &Device, rows: usize, cols: usize, values: Vec<f64>) -> Result<Self> {
        expect("matrix", values.len(), rows * cols)?;
        Ok(Self { rows, cols, values: Buffer::from_vec(device, values)?, split: None })
    }

    /// Numbers that are on a device already.
    ///
    /// # Errors
    /// Where the length is not `rows · cols`.
    pub fn of(rows: usize, cols: usize, values: Buffer<f64>) -> Result<Self> {
        expect("matrix", values.len(), rows * cols)?;
        Ok(Self { rows, cols, values, split: None })
    }

    /// The entries, row by row, where they are: as a tensor `[rows, cols]` for other operations.
    pub fn buffer(&mut self) -> &mut Buffer<f64> {
        &mut self.values
    }

    /// As [`Matrix::new`], but where each column, or each row, is an even or an odd function of its index about the middle
    /// (symmetric nodes and conditions), products on a CPU take half the multiply-adds (from some 64
    /// rows and columns on, where that is faster). "Is" allows for rounding, 1e-12 of
    /// the largest entry of the column or row, which is removed. Elsewhere it is [`Matrix::new`].
    ///
    /// # Errors
    /// As for [`Matrix::new`].
    pub fn with_parity(device: &Device, rows: usize, cols: usize, mut values: Vec<f64>) -> Result<Self> {
        expect("matrix", values.len(), rows * cols)?;
        let split = Split::find(rows, cols, &mut values);
        Ok(Self { split, ..Self::new(device, rows, cols, values)? })
    }

    /// The symmetry that was found by [`Matrix::with_parity`].
    pub fn parity(&self) -> Option<Parity> {
        self.split.as_ref().map(|split| split.parity)
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
