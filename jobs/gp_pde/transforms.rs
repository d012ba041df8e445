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

use super::exchange::{deal, interleave, pipeline};
use super::factor::AxisAt;
use super::field::matrix;
use super::layout::{Coefficients, Layout};
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
                let x = Buffer::from_vec(device, interleave(received, last, &ranges))?;
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
                let x = way.collect(others, shape, x)?.into_vec();
                Ok(deal(x, all.extents[all.last()], &ranges))
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
mod tests {
    use convoke_cluster::comm::run_threads;
    use convoke_cluster::{Comm, Region};
    use convoke_kernels::Philox;

    use super::*;
    use crate::gp_pde::bytes::Sender;
    use crate::gp_pde::field::whole_mode;
    use crate::gp_pde::layout::Place;

    /// Nodes, points and coefficients of an axis.
    type Extents = (usize, usize, usize);

    fn random(rows: usize, cols: usize, stream: u64) -> Mat<f64> {
        let philox = Philox::new(7, stream);
        Mat::from_fn(rows, cols, |i, j| philox.normal((i * cols + j) as u64))
    }

    fn at(points: usize, coefficients: usize, axis: usize) -> AxisAt {
        let functions = (0..2).map(|o| random(points, coefficients, (10 * axis + o) as u64 + 1)).collect();
        AxisAt { functions, lifts: Vec::new(), free: Vec::new(), nodes: None }
    }

    /// A field at points that are no nodes and the coefficients of a field, as whole arrays, and what each rank sent.
    fn there_and_back(axes: &[Extents], grid: RankGrid, whole: &[bool], message: usize) -> (Vec<f64>, Vec<f64>) {
        let (ranks, d) = (grid.slabs * grid.groups, axes.len());
        let results = run_threads(ranks, |comm| {
            let device = Device::cpu();
            let layout = Layout { message, ..Layout::new(&comm, grid)? };
            let analysis: Vec<Mat<f64>> =
                axes.iter().enumerate().map(|(a, (n, _, r))| random(*r, *n, 100 + a as u64)).collect();
            let mut transforms = Transforms::new(&device, &layout, &analysis, whole.to_vec())?;
            let nodes = transforms.points(&axes.iter().map(|(n, _, r)| at(*n, *r, 5)).collect::<Vec<_>>())?;
            let mut points = transforms.points(&axes.iter().map(|(_, p, r)| at(*p, *r, 3)).collect::<Vec<_>>())?;
            let shape = |of: fn(&Extents) -> usize| axes.iter().map(of).collect::<Vec<_>>();
            let sender =
                Sender { place: layout.place, points: &nodes.shape, coefficients: &transforms.coefficients.clone() };

            let everything: Vec<f64> = (0..axes.iter().map(|a| a.2).product()).map(|i| (i as f64).cos()).collect();
            let region = Region {
                start: transforms.parts[..d].iter().map(|p| p.start).collect(),
                count: transforms.parts[..d].iter().map(Range::len).collect(),
            };
            let mut y = vec![0.0; transforms.len()];
            if !y.is_empty() {
                Region::whole(&shape(|a| a.2)).copy_part(&everything, &region, &region, &mut y);
            }
            let before = comm.traffic().bytes;
            let mut orders = vec![0; d];
            orders[d / 2] = 1;
            let u = transforms.synthesize(&mut points, &orders, &mut Buffer::from_vec(&device, y)?)?.into_vec();
            assert_eq!(comm.traffic().bytes - before, sender.up_at(&points.shape), "up");

            let here = layout.region(&shape(|a| a.0));
            let all: Vec<f64> = (0..axes.iter().map(|a| a.0).product()).map(|i| (0.1 * i as f64).sin()).collect();
            let mut field = vec![0.0; here.len()];
            Region::whole(&shape(|a| a.0)).copy_part(&all, &here, &here, &mut field);
            let before = comm.traffic().bytes;
            let z = transforms.analyse(&nodes, Buffer::from_vec(&device, field)?)?.into_vec();
            assert_eq!(comm.traffic().bytes - before, sender.down(), "down");
            Ok(((layout.region(&shape(|a| a.1)), u), (region, z)))
        });
        let (mut field, mut coefficients) = (Vec::new(), Vec::new());
        let results: Vec<_> = results.into_iter().map(|r| r.unwrap()).collect();
        for (out, whole, parts) in [
            (
                &mut field,
                axes.iter().map(|a| a.1).collect::<Vec<_>>(),
                results.iter().map(|r| &r.0).collect::<Vec<_>>(),
            ),
            (&mut coefficients, axes.iter().map(|a| a.2).collect(), results.iter().map(|r| &r.1).collect()),
        ] {
            let whole = Region::whole(&whole);
            *out = vec![f64::NAN; whole.len()];
            for (region, values) in parts.iter().filter(|p| !p.1.is_empty()) {
                region.copy_part(values, region, &whole, out);
            }
            assert!(out.iter().all(|v| v.is_finite()), "every element has an owner");
        }
        (field, coefficients)
    }

    /// Any grid of ranks, any number of chunks: the same numbers, and the bytes of the formulas.
    #[test]
    fn any_layout_gives_the_same_fields_and_sends_what_the_formulas_say() {
        let cube: &[Extents] = &[(9, 7, 5), (8, 11, 6), (10, 9, 7)];
        let four: &[Extents] = &[(5, 6, 4), (4, 3, 3), (6, 5, 5), (5, 7, 4)];
        for axes in [&[(11, 9, 6)][..], &[(9, 7, 5), (8, 11, 6)], cube, four] {
            let free = vec![false; axes.len()];
            let mut back = free.clone();
            back[axes.len() - 1] = true;
            let (u, z) = there_and_back(axes, RankGrid { slabs: 1, groups: 1 }, &free, 1);
            let grids: &[(usize, usize)] = match axes.len() {
                1 | 2 => &[(2, 1), (3, 1), (5, 1), (14, 1)],
                _ => &[(2, 1), (3, 1), (5, 1), (2, 2), (1, 3), (3, 2), (4, 3), (12, 1)],
            };
            for (slabs, groups) in grids.iter().copied() {
                for (whole, message) in [(&free, 1 << 20), (&free, 1), (&free, 100), (&back, 1)] {
                    let (v, w) = there_and_back(axes, RankGrid { slabs, groups }, whole, message);
                    let far = |a: &[f64], b: &[f64]| a.iter().zip(b).fold(0.0f64, |m, (a, b)| m.max((a - b).abs()));
                    let (up, down) = (far(&u, &v), far(&z, &w));
                    assert!(up < 1e-11 && down < 1e-11, "{slabs} × {groups}: {up:e} {down:e}");
                }
            }
        }
    }

    #[test]
    fn a_mode_is_made_whole_and_costs_what_the_formula_says() {
        let shape = [7, 5, 6];
        let all: Vec<f64> = (0..210).map(f64::from).collect();
        for (slabs, groups) in [(1, 1), (3, 1), (2, 2), (1, 4), (9, 1)] {
            let results = run_threads(slabs * groups, |comm: Comm| {
                let layout = Layout::new(&comm, RankGrid { slabs, groups })?;
                let here = layout.region(&shape);
                let mut mine = vec![0.0; here.len()];
                Region::whole(&shape).copy_part(&all, &here, &here, &mut mine);
                let before = comm.traffic().bytes;
                let mut lines = Vec::new();
                for (mode, n) in shape.iter().enumerate() {
                    let mut x = whole_mode(&layout, &shape, mode, &mine)?;
                    assert_eq!(x.shape[mode], *n);
                    let inner: usize = x.shape[mode + 1..].iter().product();
                    let stride: usize = shape[mode + 1..].iter().product();
                    let values = x.values.host().to_vec();
                    for line in values.chunks_exact((n * inner).max(1)).filter(|_| inner > 0) {
                        let column = |i: usize| (0..*n).map(move |k| line[k * inner + i]).collect::<Vec<f64>>();
                        for line in (0..inner).map(column) {
                            assert!(line.windows(2).all(|w| (w[1] - w[0]) as usize == stride), "mode {mode}: {line:?}");
                            lines.push((mode, line[0] as usize));
                        }
                    }
                }
                let coefficients = Coefficients { extents: shape.to_vec(), whole: vec![false; 3] };
                let sender = Sender { place: Place { ..layout.place }, points: &shape, coefficients: &coefficients };
                assert_eq!(comm.traffic().bytes - before, sender.reweighting(&[]));
                Ok(lines)
            });
            let mut lines: Vec<_> = results.into_iter().flat_map(|r| r.unwrap()).collect();
            lines.sort_unstable();
            let unique = lines.len();
            lines.dedup();
            assert_eq!((unique, lines.len()), (107, 107), "{slabs} × {groups}: 30 + 42 + 35 lines, each once");
        }
    }
}
