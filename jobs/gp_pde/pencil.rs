//! The modes after the first, between the all-to-all over slabs and the field. Groups of ranks that share a slab change
//! there from a part of the last mode but one to a part of the last.

use std::ops::Range;

use convoke_cluster::Result;
use convoke_cluster::shard::block;
use convoke_kernels::kronecker::Matrix;
use convoke_kernels::{Buffer, Device};

use super::exchange::{deal, interleave, swap};
use super::field::Tensor;
use super::layout::{Coefficients, Layout};

/// What the way between coefficients and fields depends on.
#[derive(Debug, Clone, Copy)]
pub struct Way<'a> {
    /// Where products are computed.
    pub device: &'a Device,
    /// The ranks.
    pub layout: &'a Layout,
    /// All coefficients.
    pub all: &'a Coefficients,
}

impl Way<'_> {
    /// All modes but the first, from coefficients to points, for some rows of the first: the last mode is whole at the
    /// start, and is what groups share at the end.
    pub fn spread(
        &self,
        others: &mut [Vec<Matrix>],
        order: &impl Fn(usize) -> usize,
        rows: usize,
        x: Buffer<f64>,
    ) -> Result<Buffer<f64>> {
        let grid = self.layout.place.grid;
        let all = self.all;
        let (_, group) = grid.place(self.layout.place.rank);
        let mut shape: Vec<usize> = all.extents.clone();
        let (last, middle) = (all.last(), all.middle());
        shape[middle] = all.of_group(group, grid).len();
        shape[0] = rows;
        let mut x = Tensor { shape, values: x };
        x = self.times_unless_one(x, last, &mut others[last - 1][order(last)])?;
        if grid.groups > 1 {
            let points = x.shape[last];
            let send: Vec<Range<usize>> = (0..grid.groups).map(|g| block(points, g, grid.groups)).collect();
            let mine = send[group].len();
            let ranges = scaled((0..grid.groups).map(|g| all.of_group(g, grid)), mine);
            x.shape[middle] = all.extents[middle];
            x.shape[last] = mine;
            let lines: usize = x.shape[..middle].iter().product();
            x.values = self.regroup(x.values, (points, &send), (lines, &ranges))?;
        }
        for mode in 1..last {
            x = self.times_unless_one(x, mode, &mut others[mode - 1][order(mode)])?;
        }
        Ok(x.values)
    }

    /// The way back of [`Way::spread`].
    pub fn collect(&self, others: &mut [Matrix], shape: Vec<usize>, x: Buffer<f64>) -> Result<Buffer<f64>> {
        let grid = self.layout.place.grid;
        let (_, group) = grid.place(self.layout.place.rank);
        let all = self.all;
        let (last, middle) = (all.last(), all.middle());
        let mut x = Tensor { shape, values: x };
        for mode in (1..last).rev() {
            x = self.times_unless_one(x, mode, &mut others[mode - 1])?;
        }
        if grid.groups > 1 {
            let columns = x.shape[last];
            let send = scaled((0..grid.groups).map(|g| all.of_group(g, grid)), columns);
            let points = others[last - 1].cols();
            let ranges: Vec<Range<usize>> = (0..grid.groups).map(|g| block(points, g, grid.groups)).collect();
            let line = all.extents[middle] * columns;
            x.shape[middle] = all.of_group(group, grid).len();
            x.shape[last] = points;
            let lines: usize = x.shape[..last].iter().product();
            x.values = self.regroup(x.values, (line, &send), (lines, &ranges))?;
        }
        Ok(self.times_unless_one(x, last, &mut others[last - 1])?.values)
    }

    fn times_unless_one(&self, x: Tensor, mode: usize, m: &mut Matrix) -> Result<Tensor> {
        if (m.rows(), m.cols()) == (1, 1) { Ok(x) } else { x.times(self.device, mode, m) }
    }

    /// The all-to-all over groups: cuts lines into `send`, joins `lines` others from `ranges`.
    fn regroup(
        &self,
        x: Buffer<f64>,
        (line, send): (usize, &[Range<usize>]),
        (lines, ranges): (usize, &[Range<usize>]),
    ) -> Result<Buffer<f64>> {
        let lengths: Vec<usize> = send.iter().map(|r| x.len() / line.max(1) * r.len()).collect();
        let due: Vec<usize> = ranges.iter().map(|r| lines * r.len()).collect();
        let received = swap(&self.layout.groups, &deal(self.device, x, line, send)?, &lengths, &due)?;
        let line = ranges.last().map_or(0, |r| r.end);
        interleave(self.device, received, line, ranges)
    }
}

/// Ranges of items that have `each` numbers.
fn scaled(ranges: impl Iterator<Item = Range<usize>>, each: usize) -> Vec<Range<usize>> {
    ranges.map(|r| r.start * each..r.end * each).collect()
}
