//! Fields on tensor grids and coefficients in Kronecker bases, over ranks.
//!
//! A field is split along its first mode, coefficients along their last. Between the two lies one all-to-all of the
//! smallest intermediate: the first mode already (or still) has as many rows as the field, the others are coefficients.

use std::ops::Range;

use convoke_cluster::shard::block;
use convoke_cluster::{Comm, Result};
use convoke_kernels::kronecker::{Matrix, mode_product};
use convoke_kernels::{Buffer, Device};
use faer::Mat;

use super::basis::AxisAt;

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

/// A faer matrix on a device.
///
/// # Errors
/// Where the device has no room.
pub fn matrix(device: &Device, m: &Mat<f64>) -> Result<Matrix> {
    let values = (0..m.nrows()).flat_map(|i| m.row(i).iter().copied().collect::<Vec<_>>()).collect();
    Ok(Matrix::new(device, m.nrows(), m.ncols(), values)?)
}

/// A tensor grid of points, with the matrices that evaluate coefficients there.
#[derive(Debug)]
pub struct PointSet {
    /// By mode, by order of the derivative.
    matrices: Vec<Vec<Matrix>>,
    /// Points along each mode.
    pub shape: Vec<usize>,
    /// Rows of the first mode that are here.
    pub rows: Range<usize>,
}

impl PointSet {
    /// The points of each axis; a mode of extent 1 is added at the end where `padded`.
    ///
    /// # Errors
    /// Where the device has no room.
    pub fn new(device: &Device, comm: &Comm, axes: &[AxisAt], padded: bool) -> Result<Self> {
        let mut matrices = Vec::new();
        for axis in axes {
            matrices.push(axis.functions.iter().map(|m| matrix(device, m)).collect::<Result<Vec<_>>>()?);
        }
        let mut shape: Vec<usize> = axes.iter().map(AxisAt::len).collect();
        if padded {
            matrices.push(vec![Matrix::new(device, 1, 1, vec![1.0])?]);
            shape.push(1);
        }
        let rows = comm.block(shape[0]);
        Ok(Self { matrices, shape, rows })
    }

    /// Extents of the part that is here.
    pub fn local(&self) -> Vec<usize> {
        let mut shape = self.shape.clone();
        shape[0] = self.rows.len();
        shape
    }
}

/// Coefficients and the way to and from fields.
#[derive(Debug)]
pub struct Transforms {
    device: Device,
    comm: Comm,
    /// Coefficients along each mode.
    pub ranks: Vec<usize>,
    /// The part of the last mode that is here.
    pub last: Range<usize>,
    analysis: Vec<Matrix>,
}

impl Transforms {
    /// Transforms with these matrices from nodes to coefficients, by mode.
    ///
    /// # Errors
    /// Where the device has no room.
    pub fn new(device: &Device, comm: &Comm, analysis: &[Mat<f64>], padded: bool) -> Result<Self> {
        let mut matrices: Vec<Matrix> = analysis.iter().map(|m| matrix(device, m)).collect::<Result<_>>()?;
        if padded {
            matrices.push(Matrix::new(device, 1, 1, vec![1.0])?);
        }
        let ranks: Vec<usize> = matrices.iter().map(Matrix::rows).collect();
        let last = comm.block(*ranks.last().expect("at least one mode"));
        Ok(Self { device: device.clone(), comm: comm.clone(), ranks, last, analysis: matrices })
    }

    /// Number of coefficients here.
    pub fn len(&self) -> usize {
        self.ranks[..self.ranks.len() - 1].iter().product::<usize>() * self.last.len()
    }

    /// Whether no coefficient is here.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The derivative `orders` of the function with coefficients `y`, at the points that are here.
    ///
    /// # Errors
    /// Where the device or another rank fails.
    pub fn synthesize(&self, points: &mut PointSet, orders: &[usize], y: &mut Buffer<f64>) -> Result<Buffer<f64>> {
        let mut shape = self.ranks.clone();
        let d = shape.len();
        shape[d - 1] = self.last.len();
        let order = |mode: usize| orders.get(mode).copied().unwrap_or(0);
        let x = Tensor { shape, values: y.duplicate()? };
        let x = x.times(&self.device, 0, &mut points.matrices[0][order(0)])?;
        let mut x = self.gather_last(x, &points.rows)?;
        for mode in 1..d {
            let m = &mut points.matrices[mode][order(mode)];
            if (m.rows(), m.cols()) != (1, 1) {
                x = x.times(&self.device, mode, m)?;
            }
        }
        Ok(x.values)
    }

    /// Coefficients of a field at the nodes that are here.
    ///
    /// # Errors
    /// Where the device or another rank fails.
    pub fn analyse(&mut self, nodes: &PointSet, field: Buffer<f64>) -> Result<Buffer<f64>> {
        let mut x = Tensor { shape: nodes.local(), values: field };
        let d = x.shape.len();
        for mode in (1..d).rev() {
            let m = &mut self.analysis[mode];
            if (m.rows(), m.cols()) != (1, 1) {
                x = x.times(&self.device, mode, m)?;
            }
        }
        let x = self.scatter_last(x, nodes.shape[0])?;
        Ok(x.times(&self.device, 0, &mut self.analysis[0])?.values)
    }

    /// From all rows and a part of the last mode to some rows and all of the last mode.
    fn gather_last(&self, mut x: Tensor, rows: &Range<usize>) -> Result<Tensor> {
        let (size, d) = (self.comm.size(), x.shape.len());
        if size == 1 {
            return Ok(x);
        }
        let (n, row) = (x.shape[0], x.shape[1..].iter().product::<usize>());
        let values = x.values.host();
        let parts: Vec<&[f64]> =
            (0..size).map(|r| block(n, r, size)).map(|b| &values[b.start * row..b.end * row]).collect();
        let received = self.comm.all_to_all(&parts)?;
        let last = self.ranks[d - 1];
        let lines = rows.len() * x.shape[1..d - 1].iter().product::<usize>();
        let mut out = vec![0.0; lines * last];
        for (r, part) in received.iter().enumerate() {
            let columns = block(last, r, size);
            if columns.is_empty() {
                continue;
            }
            for (line, part) in out.chunks_exact_mut(last).zip(part.chunks_exact(columns.len())) {
                line[columns.clone()].copy_from_slice(part);
            }
        }
        x.shape[0] = rows.len();
        x.shape[d - 1] = last;
        Tensor::new(&self.device, x.shape, out)
    }

    /// The way back of [`Transforms::gather_last`].
    fn scatter_last(&self, mut x: Tensor, n: usize) -> Result<Tensor> {
        let (size, d) = (self.comm.size(), x.shape.len());
        if size == 1 {
            return Ok(x);
        }
        let last = x.shape[d - 1];
        let values = x.values.host();
        let parts: Vec<Vec<f64>> = (0..size)
            .map(|r| block(last, r, size))
            .map(|c| values.chunks_exact(last).flat_map(|line| line[c.clone()].iter().copied()).collect())
            .collect();
        let parts: Vec<&[f64]> = parts.iter().map(Vec::as_slice).collect();
        let out = self.comm.all_to_all(&parts)?.concat();
        x.shape[0] = n;
        x.shape[d - 1] = self.last.len();
        Tensor::new(&self.device, x.shape, out)
    }
}

/// A field that is split along its first mode, as `[first, part of all others]`: whole along the first. Collective.
///
/// # Errors
/// Where another rank fails.
pub fn whole_first_mode(comm: &Comm, n: usize, mine: &[f64]) -> Result<Tensor> {
    let rows = comm.block(n).len();
    let row = comm.all_max(mine.len().checked_div(rows).unwrap_or(0) as u64)? as usize;
    let parts: Vec<Vec<f64>> = (0..comm.size())
        .map(|r| block(row, r, comm.size()))
        .map(|columns| mine.chunks_exact(row).flat_map(|line| line[columns.clone()].iter().copied()).collect())
        .collect();
    let parts: Vec<&[f64]> = parts.iter().map(Vec::as_slice).collect();
    let values = comm.all_to_all(&parts)?.concat();
    Tensor::new(&Device::cpu(), vec![n, comm.block(row).len()], values)
}
