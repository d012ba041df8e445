//! A and Aᵀ of cone beams over ranks: a rank casts its slab on its band of rows, overlaps of bands are summed over the slabs, and what ranks of
//! one slab back-project from their views over the slab's group.

use std::ops::Range;

use convoke_cluster::{Comm, Fields, Region, Result};
use convoke_kernels::{Buffer, ConeProjector, Device};

use super::bands::Bands;
use crate::inverse::place::Place;
use crate::inverse::{Operator, vectors};

/// Where a rank stands among the others.
#[derive(Debug)]
pub(super) struct Ranks {
    /// All of them.
    pub all: Comm,
    /// Those with the same slab and other views.
    pub group: Comm,
    /// Those with the same views, one for each slab, in their order.
    pub column: Comm,
    pub bands: Bands,
    pub device: Device,
}

impl Ranks {
    /// Sums of what every rank has, in rank order.
    pub fn sums<const N: usize>(&self, mut mine: [f64; N]) -> Result<[f64; N]> {
        self.all.all_sum(&mut mine)?;
        Ok(mine)
    }

    /// Adds up over the group what its ranks back-projected.
    fn reduce(&self, volume: &mut Buffer<f32>) -> Result<()> {
        if self.group.size() > 1 {
            self.group.all_sum(volume.host_mut())?;
        }
        Ok(())
    }
}

/// The projector of this rank's slab and band, for some views.
#[derive(Debug)]
pub(super) struct Projection {
    projector: ConeProjector,
    /// Values of the rows that this rank owns.
    pub owned: Range<usize>,
    row_len: usize,
}

impl Projection {
    pub fn new(ranks: &Ranks, projector: ConeProjector) -> Self {
        let part = projector.part();
        let row_len = part.views.len() * projector.geometry().n_cols;
        let rows = ranks.bands.owned(ranks.column.rank());
        let first = part.rows.start;
        let owned = if rows.is_empty() { 0..0 } else { (rows.start - first) * row_len..(rows.end - first) * row_len };
        Self { projector, owned, row_len }
    }

    pub fn volume_len(&self) -> usize {
        self.projector.volume_len()
    }

    /// q = A volume, of all slabs. Collective over the column.
    pub fn forward(&self, ranks: &Ranks, volume: &mut Buffer<f32>, q: &mut Buffer<f32>) -> Result<()> {
        self.projector.forward(volume, q)?;
        if ranks.column.size() > 1 {
            ranks.bands.sum(&ranks.column, self.row_len, q.host_mut())?;
        }
        Ok(())
    }

    /// volume = Aᵀ q, of all views. Collective over the group.
    pub fn back(&self, ranks: &Ranks, q: &mut Buffer<f32>, volume: &mut Buffer<f32>) -> Result<()> {
        self.projector.back(q, volume)?;
        ranks.reduce(volume)
    }

    /// Keeps the rows of `q` that this rank owns, with `views` out of so many.
    pub fn keep<'a>(
        &self,
        ranks: &Ranks,
        name: &str,
        q: &'a mut Buffer<f32>,
        (views, all): (Range<usize>, usize),
        fields: &mut Fields<'a>,
    ) {
        let geometry = self.projector.geometry();
        let shape = [geometry.n_rows, all, geometry.n_cols];
        let part = Region::rows(&shape, ranks.bands.owned(ranks.column.rank())).with(1, views);
        fields.array(name, &shape, part, &mut q.host_mut()[self.owned.clone()]);
    }

    /// Fills in the rows that others own. Collective over the column.
    pub fn spread(&self, ranks: &Ranks, q: &mut Buffer<f32>) -> Result<()> {
        ranks.bands.spread(&ranks.column, self.row_len, q.host_mut())
    }
}

/// The operator of all views that are here.
#[derive(Debug)]
pub(super) struct ConeRays {
    ranks: Ranks,
    projection: Projection,
    place: Place,
    views: (Range<usize>, usize),
}

impl ConeRays {
    /// `views` are the global views of `projector`, out of so many; `slices` are those of its slab.
    pub fn new(ranks: Ranks, projector: ConeProjector, slices: Range<usize>, views: (Range<usize>, usize)) -> Self {
        let [all, ny, nx] = projector.geometry().shape;
        let (comm, leads) = (ranks.column.clone(), ranks.group.is_root());
        let place = Place { comm, slices, all, points: [ny, nx], leads };
        Self { projection: Projection::new(&ranks, projector), ranks, place, views }
    }
}

impl Operator for ConeRays {
    fn place(&self) -> &Place {
        &self.place
    }

    fn measured_len(&self) -> usize {
        self.projection.projector.sinogram_len()
    }

    fn forward(&mut self, v: &mut Buffer<f32>, q: &mut Buffer<f32>) -> Result<()> {
        self.projection.forward(&self.ranks, v, q)
    }

    fn back(&mut self, q: &mut Buffer<f32>, v: &mut Buffer<f32>) -> Result<()> {
        self.projection.back(&self.ranks, q, v)
    }

    fn dot(&self, a: &[f32], b: &[f32]) -> Result<f64> {
        let owned = self.projection.owned.clone();
        let [sum] = self.ranks.sums([vectors::dot(&a[owned.clone()], &b[owned])])?;
        Ok(sum)
    }

    fn keep<'a>(&self, name: &str, q: &'a mut Buffer<f32>, fields: &mut Fields<'a>) {
        self.projection.keep(&self.ranks, name, q, self.views.clone(), fields);
    }

    fn restored(&self, q: &mut Buffer<f32>) -> Result<()> {
        self.projection.spread(&self.ranks, q)
    }

    fn device(&self) -> &Device {
        &self.ranks.device
    }
}
