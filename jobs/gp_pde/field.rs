//! Dense tensors on tensor grids, and fields that are spread over ranks (see `layout`).

use std::ops::Range;

use convoke_cluster::Result;
use convoke_cluster::shard::block;
use convoke_kernels::kronecker::{Matrix, mode_product};
use convoke_kernels::{Buffer, Device};
use faer::Mat;

use super::exchange::{deal, interleave, swap};
use super::layout::Layout;

/// A dense tensor, row-major.
#[derive(Debug)]
pub struct Tensor {
    /// Extents.
    pub shape: Vec<usize>,
    /// Entries.
    pub values: Buffer<f64>,
}

impl Tensor {
    /// A tensor of these entries.
    ///
    /// # Errors
    /// Where the device has no room.
    pub fn new(device: &Device, shape: Vec<usize>, values: Vec<f64>) -> Result<Self> {
        Ok(Self { shape, values: Buffer::from_vec(device, values)? })
    }

    /// The product of a matrix with one mode.
    ///
    /// # Errors
    /// Where the extents disagree, or the device fails.
    pub fn times(mut self, device: &Device, mode: usize, matrix: &mut Matrix) -> Result<Self> {
        let outer: usize = self.shape[..mode].iter().product();
        let inner: usize = self.shape[mode + 1..].iter().product();
        let mut y = Buffer::zeros(device, outer * matrix.rows() * inner)?;
        mode_product(device, matrix, (outer, inner), &mut self.values, &mut y, false)?;
        self.shape[mode] = matrix.rows();
        Ok(Self { shape: self.shape, values: y })
    }

    /// The entries whose index along one mode is in `range`.
    ///
    /// # Errors
    /// Where the device has no room.
    pub fn select(mut self, device: &Device, mode: usize, range: Range<usize>) -> Result<Self> {
        let n = self.shape[mode];
        if range == (0..n) {
            return Ok(self);
        }
        let inner: usize = self.shape[mode + 1..].iter().product();
        let slabs = self.values.host().chunks_exact((n * inner).max(1));
        let values = slabs.flat_map(|slab| slab[range.start * inner..range.end * inner].to_vec()).collect();
        self.shape[mode] = range.len();
        Self::new(device, self.shape, values)
    }
}

/// A faer matrix on a device, split where it is even and odd about the middle of its rows or columns.
///
/// # Errors
/// Where the device has no room.
pub fn matrix(device: &Device, m: &Mat<f64>) -> Result<Matrix> {
    let values = (0..m.nrows()).flat_map(|i| m.row(i).iter().copied().collect::<Vec<_>>()).collect();
    Ok(Matrix::with_parity(device, m.nrows(), m.ncols(), values)?)
}

/// The part of a field of global `shape` that is here, dealt out anew so that one mode is whole. Collective.
///
/// # Errors
/// Where another rank fails.
pub fn whole_mode(layout: &Layout, shape: &[usize], mode: usize, mine: &[f64]) -> Result<Tensor> {
    let grid = layout.place.grid;
    let mut local: Vec<usize> = layout.place.field(shape).iter().map(Range::len).collect();
    let (slab, group) = grid.place(layout.place.rank);
    let (host, n) = (Device::cpu(), shape[mode]);
    if mode == 0 && grid.slabs > 1 {
        let row: usize = local[1..].iter().product();
        let columns: Vec<Range<usize>> = (0..grid.slabs).map(|s| block(row, s, grid.slabs)).collect();
        let sent: Vec<usize> = columns.iter().map(|c| local[0] * c.len()).collect();
        let here = columns[slab].len();
        let due: Vec<usize> = (0..grid.slabs).map(|s| block(n, s, grid.slabs).len() * here).collect();
        let mine = Buffer::from_vec(&host, mine.to_vec())?;
        let values = swap(&layout.slabs, &deal(&host, mine, row, &columns)?, &sent, &due)?;
        return Tensor::new(&host, vec![n, here], values);
    }
    if mode + 1 == shape.len() && grid.groups > 1 {
        let lines: usize = local[..mode].iter().product();
        let sent: Vec<usize> = (0..grid.groups).map(|g| block(lines, g, grid.groups).len() * local[mode]).collect();
        let columns: Vec<Range<usize>> = (0..grid.groups).map(|g| block(n, g, grid.groups)).collect();
        let here = block(lines, group, grid.groups).len();
        let due: Vec<usize> = columns.iter().map(|c| here * c.len()).collect();
        let values = interleave(&host, swap(&layout.groups, mine, &sent, &due)?, n, &columns)?;
        local[..mode].fill(1);
        (local[0], local[mode]) = (here, n);
        return Ok(Tensor { shape: local, values });
    }
    Tensor::new(&host, local, mine.to_vec())
}
