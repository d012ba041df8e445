//! The way between coefficients in Kronecker bases and fields on tensor grids, over ranks (see `layout`).
//!
//! The all-to-all over slabs moves the smallest intermediate: the first mode already (or still) has as many rows as the
//! field, the others are coefficients. The first matrix lies in memory in the order in which rows travel, chunk by chunk
//! and within a chunk rank by rank, so that its product is the message itself, and what arrives is its operand.

use std::ops::Range;

use convoke_cluster::Result;
use convoke_cluster::shard::{RankGrid, block};
use convoke_kernels::kronecker::{Matrix, mode_product};
use convoke_kernels::{Buffer, Device};
use faer::Mat;

use super::basis::AxisAt;
use super::exchange::{deal, interleave, pipeline};
use super::field::matrix;
use super::layout::{Coefficients, Layout, Place};
use super::pencil::Way;

/// Rows `rows` of a matrix, or the columns.
fn selected(device: &Device, m: &Mat<f64>, rows: &[usize], of_columns: bool) -> Result<Matrix> {
    let m = if of_columns {
        Mat::from_fn(m.nrows(), rows.len(), |i, j| m[(i, rows[j])])
    } else {
        Mat::from_fn(rows.len(), m.ncols(), |i, j| m[(rows[i], j)])
    };
    matrix(device, &m)
}

/// A matrix times one mode of a tensor.
fn product(
    device: &Device,
    m: &mut Matrix,
    (outer, inner): (usize, usize),
    x: &mut Buffer<f64>,
) -> Result<Buffer<f64>> {
    let mut y = Buffer::zeros(device, outer * m.rows() * inner)?;
    mode_product(device, m, (outer, inner), x, &mut y, false)?;
    Ok(y)
}

/// How `n` rows travel: those of slab `s` in chunk `k` of `chunks`.
fn travelling(n: usize, grid: RankGrid, chunks: usize, (k, s): (usize, usize)) -> Range<usize> {
    let slab = block(n, s, grid.slabs);
    let part = block(slab.len(), k, chunks);
    slab.start + part.start..slab.start + part.end
}

/// All rows of chunk `k`, in the order in which they travel.
fn order(n: usize, grid: RankGrid, chunks: usize, k: usize) -> Vec<usize> {
    (0..grid.slabs).flat_map(|s| travelling(n, grid, chunks, (k, s))).collect()
}

/// A tensor grid of points, with the matrices that evaluate coefficients there.
#[derive(Debug)]
pub struct PointSet {
    /// Of the first mode, by order of the derivative: its chunks.
    first: Vec<Vec<Matrix>>,
    /// Of the other modes: by mode, by order of the derivative.
    others: Vec<Vec<Matrix>>,
    /// Points along each mode.
    pub shape: Vec<usize>,
    /// The part that is here, by mode.
    pub parts: Vec<Range<usize>>,
}

/// Coefficients and the way to and from fields.
#[derive(Debug)]
pub struct Transforms {
    device: Device,
    layout: Layout,
    /// All coefficients.
    pub coefficients: Coefficients,
    /// The part of them that is here, by mode.
    pub parts: Vec<Range<usize>>,
    /// From nodes to coefficients along the first mode: columns in chunks.
    first: Vec<Matrix>,
    /// Along the others.
    others: Vec<Matrix>,
}

impl Transforms {
    /// Transforms with these matrices from nodes to coefficients, by mode; modes that are `whole` are not split. A single
    /// axis gets a second mode of extent 1.
    ///
    /// # Errors
    /// Where the device has no room.
    pub fn new(device: &Device, layout: &Layout, analysis: &[Mat<f64>], mut whole: Vec<bool>) -> Result<Self> {
        let mut others: Vec<Matrix> = analysis[1..].iter().map(|m| matrix(device, m)).collect::<Result<_>>()?;
        let mut points: Vec<usize> = analysis.iter().map(Mat::ncols).collect();
        if others.is_empty() {
            others.push(Matrix::new(device, 1, 1, vec![1.0])?);
            points.push(1);
            whole.push(false);
        }
        let extents = std::iter::once(analysis[0].nrows()).chain(others.iter().map(Matrix::rows)).collect();
        let coefficients = Coefficients { extents, whole };
        let (n, chunks) = (points[0], layout.chunks(&points, &coefficients));
        let chunk = |k| selected(device, &analysis[0], &order(n, layout.place.grid, chunks, k), true);
        let first = (0..chunks).map(chunk).collect::<Result<_>>()?;
        let parts = layout.place.coefficients(&coefficients);
        Ok(Self { device: device.clone(), layout: layout.clone(), coefficients, parts, first, others })
    }

    /// The points of each axis.
    ///
    /// # Errors
    /// Where the device has no room.
    pub fn points(&self, axes: &[AxisAt]) -> Result<PointSet> {
        let device = &self.device;
        let mut shape: Vec<usize> = axes.iter().map(AxisAt::len).collect();
        let mut others = Vec::new();
        for axis in &axes[1..] {
            others.push(axis.functions.iter().map(|m| matrix(device, m)).collect::<Result<Vec<_>>>()?);
        }
        if others.is_empty() {
            others.push(vec![Matrix::new(device, 1, 1, vec![1.0])?]);
            shape.push(1);
        }
        let (n, chunks) = (shape[0], self.layout.chunks(&shape, &self.coefficients));
        let orders: Vec<Vec<usize>> = (0..chunks).map(|k| order(n, self.layout.place.grid, chunks, k)).collect();
        let of_order = |m: &Mat<f64>| orders.iter().map(|rows| selected(device, m, rows, false)).collect();
        let first = axes[0].functions.iter().map(of_order).collect::<Result<_>>()?;
        let parts = self.layout.place.field(&shape);
        Ok(PointSet { first, others, shape, parts })
    }

    /// This rank's place among all.
    pub fn place(&self) -> Place {
        self.layout.place
    }

    /// Number of coefficients here.
    pub fn len(&self) -> usize {
        self.parts.iter().map(Range::len).product()
    }

    /// Whether no coefficient is here.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What each slab has of the last mode of coefficients.
    fn of_slabs(&self) -> Vec<Range<usize>> {
        let grid = self.layout.place.grid;
        (0..grid.slabs).map(|s| self.coefficients.of_slab(s, grid)).collect()
    }

    fn way(&self) -> Way<'_> {
        Way { device: &self.device, layout: &self.layout, all: &self.coefficients }
    }

    /// The derivative `orders` of the function with coefficients `y`, at the points that are here.
    ///
    /// # Errors
    /// Where the device or another rank fails.
    pub fn synthesize(&self, points: &mut PointSet, orders: &[usize], y: &mut Buffer<f64>) -> Result<Buffer<f64>> {
        let PointSet { first, others, shape, parts } = points;
        let order = |mode: usize| orders.get(mode).copied().unwrap_or(0);
        let (grid, device) = (self.layout.place.grid, &self.device);
        let (slab, group) = grid.place(self.layout.place.rank);
        let (n, first) = (shape[0], &mut first[order(0)]);
        let chunks = first.len();
        let columns: Vec<usize> = (0..grid.slabs).map(|s| self.coefficients.columns(s, group, grid)).collect();
        if grid.slabs == 1 {
            let x = product(device, &mut first[0], (1, columns[0]), y)?;
            return self.way().spread(others, &order, n, x);
        }
        let rows = |k: usize, s: usize| travelling(n, grid, chunks, (k, s)).len();
        let ranges = self.of_slabs();
        let last = self.coefficients.extents[self.coefficients.last()];
        let mut out: Vec<f64> = Vec::new();
        let all: usize = parts.iter().map(Range::len).product();
        pipeline(
            &self.layout.slabs,
            chunks,
            &|k| {
                let sent = (0..grid.slabs).map(|s| rows(k, s) * columns[slab]).collect();
                (sent, columns.iter().map(|c| rows(k, slab) * c).collect())
            },
            &mut |k| Ok(product(device, &mut first[k], (1, columns[slab]), y)?.into_vec()),
            &mut |k, received| {
                let x = interleave(device, received, last, &ranges)?;
                let x = self.way().spread(others, &order, rows(k, slab), x)?.into_vec();
                if chunks == 1 {
                    out = x;
                } else {
                    out.reserve_exact(all - out.len());
                    out.extend_from_slice(&x);
                }
                Ok(())
            },
        )?;
        Ok(Buffer::from_vec(device, out)?)
    }

    /// Coefficients of a field at the nodes that are here.
    ///
    /// # Errors
    /// Where the device or another rank fails.
    pub fn analyse(&mut self, nodes: &PointSet, mut field: Buffer<f64>) -> Result<Buffer<f64>> {
        let ranges = self.of_slabs();
        let Self { device, layout, coefficients: all, first, others, .. } = self;
        let way = Way { device, layout, all };
        let grid = layout.place.grid;
        let (slab, group) = grid.place(layout.place.rank);
        let local: Vec<usize> = nodes.parts.iter().map(Range::len).collect();
        let columns: Vec<usize> = (0..grid.slabs).map(|s| all.columns(s, group, grid)).collect();
        if grid.slabs == 1 {
            let mut x = way.collect(others, local, field)?;
            return product(device, &mut first[0], (1, columns[0]), &mut x);
        }
        let (n, chunks) = (nodes.shape[0], first.len());
        let row: usize = local[1..].iter().product();
        let rows = |k: usize, s: usize| travelling(n, grid, chunks, (k, s)).len();
        let mut y = Buffer::zeros(device, first[0].rows() * columns[slab])?;
        let mut done = 0;
        pipeline(
            &layout.slabs,
            chunks,
            &|k| {
                let due = (0..grid.slabs).map(|s| rows(k, s) * columns[slab]).collect();
                (columns.iter().map(|c| rows(k, slab) * c).collect(), due)
            },
            &mut |k| {
                let mut shape = local.clone();
                shape[0] = rows(k, slab);
                let x = if chunks == 1 {
                    std::mem::replace(&mut field, Buffer::zeros(&Device::cpu(), 0)?)
                } else {
                    Buffer::from_vec(device, field.host()[done * row..(done + shape[0]) * row].to_vec())?
                };
                done += shape[0];
                let x = way.collect(others, shape, x)?;
                deal(device, x, all.extents[all.last()], &ranges)
            },
            &mut |k, received| {
                let mut x = Buffer::from_vec(device, received)?;
                Ok(mode_product(device, &mut first[k], (1, columns[slab]), &mut x, &mut y, k > 0)?)
            },
        )?;
        Ok(y)
    }
}

#[cfg(test)]
mod tests;
