//! A and Aᵀ of cone beams over ranks: a rank casts its slab on its band of rows, overlaps of bands are summed over the slabs, and what ranks of
//! one slab back-project from their views over the slab's group.
//!
//! A slab goes through in windows of slices that the volume fixes, so that one window at a time is used, with the rows that it touches: vectors may
//! lie in files, and have the same bits there.

use std::ops::Range;
use std::sync::Arc;

use convoke_cluster::{Comm, Fields, Region, Result};
use convoke_kernels::{Buffer, ConeFootprint, ConeGeometry, ConePart, ConeProjector, Device};

use super::bands::{Bands, both};
use crate::inverse::place::Place;
use crate::inverse::store::Store;
use crate::inverse::{Operator, vectors};

/// Slices of a window: it begins at multiples of this, wherever slabs do. Short windows repeat work, as each column of voxels is looked up anew.
pub(super) const WINDOW: usize = 256;

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
    /// Where projectors work.
    pub device: Device,
    /// Where vectors lie.
    pub store: Store,
}

impl Ranks {
    /// Sums of what every rank has, in rank order.
    pub fn sums<const N: usize>(&self, mut mine: [f64; N]) -> Result<[f64; N]> {
        self.all.all_sum(&mut mine)?;
        Ok(mine)
    }

    /// Adds up over the group what its ranks back-projected.
    fn reduce(&self, volume: &mut [f32]) -> Result<()> {
        if self.group.size() > 1 {
            self.group.all_sum(volume)?;
        }
        Ok(())
    }
}

/// The projectors of this rank's slab and band, for some views.
#[derive(Debug)]
pub(super) struct Projection {
    windows: Vec<Window>,
    n_rows: usize,
    n_cols: usize,
    volume_len: usize,
    sinogram_len: usize,
    /// Values of the rows that this rank owns.
    pub owned: Range<usize>,
    row_len: usize,
}

/// Slices that go through together.
#[derive(Debug)]
struct Window {
    projector: ConeProjector,
    /// Its voxels in the slab, and the values of its rows in the band.
    voxels: Range<usize>,
    values: Range<usize>,
}

impl Projection {
    /// Of `part`: this rank's slab, its band, and views. No communication.
    ///
    /// # Errors
    /// Of the device.
    pub fn new(ranks: &Ranks, g: &Arc<ConeGeometry>, part: &ConePart, footprint: ConeFootprint) -> Result<Self> {
        let row_len = part.views.len() * g.n_cols;
        let (slices, band) = (&part.slices, &part.rows);
        let values = |rows: Range<usize>| {
            if rows.is_empty() { 0..0 } else { (rows.start - band.start) * row_len..(rows.end - band.start) * row_len }
        };
        // Vectors on a GPU stay there as a whole.
        let on_gpu = ranks.device.is_gpu() && !ranks.store.is_in_files();
        let mut windows = Vec::new();
        for whole in windows_of(slices, if on_gpu { g.shape[0] } else { WINDOW }) {
            let rows = if whole == *slices {
                band.clone()
            } else {
                both(band, &Bands::of_window(g, whole.clone(), 1, footprint).of(0))
            };
            let voxels = (whole.start - slices.start) * g.slice_len()..(whole.end - slices.start) * g.slice_len();
            let part = ConePart { slices: whole, rows: rows.clone(), views: part.views.clone() };
            let projector = ConeProjector::new(&ranks.device, g.clone(), part, footprint)?;
            windows.push(Window { projector, voxels, values: values(rows) });
        }
        let owned = values(ranks.bands.owned(ranks.column.rank()));
        let (volume_len, sinogram_len) = (slices.len() * g.slice_len(), band.len() * row_len);
        Ok(Self { windows, n_rows: g.n_rows, n_cols: g.n_cols, volume_len, sinogram_len, owned, row_len })
    }

    pub fn volume_len(&self) -> usize {
        self.volume_len
    }

    pub fn sinogram_len(&self) -> usize {
        self.sinogram_len
    }

    /// The only window, whose vectors go to the projector as they are.
    fn single(&self, ranks: &Ranks) -> Option<&ConeProjector> {
        let [window] = self.windows.as_slice() else { return None };
        (!ranks.store.is_in_files()).then_some(&window.projector)
    }

    /// q = A volume, of all slabs. Collective over the column.
    pub fn forward(&self, ranks: &Ranks, volume: &mut Buffer<f32>, q: &mut Buffer<f32>) -> Result<()> {
        match self.single(ranks) {
            Some(projector) => projector.forward(volume, q)?,
            None => {
                let (volume, q) = (volume.host(), q.host_mut());
                vectors::map(q, |q| *q = 0.0);
                for Window { projector, voxels, values } in &self.windows {
                    projector.forward_add(&volume[voxels.clone()], &mut q[values.clone()])?;
                }
            }
        }
        if ranks.column.size() > 1 {
            ranks.bands.sum(&ranks.column, self.row_len, q.host_mut())?;
        }
        Ok(())
    }

    /// volume = Aᵀ q, of all views. Collective over the group.
    pub fn back(&self, ranks: &Ranks, q: &mut Buffer<f32>, volume: &mut Buffer<f32>) -> Result<()> {
        if let Some(projector) = self.single(ranks) {
            projector.back(q, volume)?;
            // A sum over one rank would bring the volume to the host.
            return if ranks.group.size() > 1 { ranks.reduce(volume.host_mut()) } else { Ok(()) };
        }
        let (q, volume) = (q.host(), volume.host_mut());
        for Window { projector, voxels, values } in &self.windows {
            projector.back_on_host(&q[values.clone()], &mut volume[voxels.clone()])?;
            ranks.reduce(&mut volume[voxels.clone()])?;
        }
        Ok(())
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
        let shape = [self.n_rows, all, self.n_cols];
        let part = Region::rows(&shape, ranks.bands.owned(ranks.column.rank())).with(1, views);
        fields.array(name, &shape, part, &mut q.host_mut()[self.owned.clone()]);
    }

    /// Fills in the rows that others own. Collective over the column.
    pub fn spread(&self, ranks: &Ranks, q: &mut Buffer<f32>) -> Result<()> {
        ranks.bands.spread(&ranks.column, self.row_len, q.host_mut())
    }
}

/// The windows of some slices: cut at multiples of `len`.
fn windows_of(slices: &Range<usize>, len: usize) -> impl Iterator<Item = Range<usize>> + use<> {
    let slices = slices.clone();
    let first = slices.start / len..slices.end.div_ceil(len);
    first.map(move |k| both(&slices, &(k * len..(k + 1) * len))).filter(|window| !window.is_empty())
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
    /// Of `projection`, whose slab has the slices `slices` of a volume of `shape`; `views` are its global views, out of so many.
    pub fn new(
        ranks: Ranks,
        projection: Projection,
        ([all, ny, nx], slices): ([usize; 3], Range<usize>),
        views: (Range<usize>, usize),
    ) -> Self {
        let (comm, leads) = (ranks.column.clone(), ranks.group.is_root());
        let place = Place { comm, slices, all, points: [ny, nx], leads };
        Self { projection, ranks, place, views }
    }
}

impl Operator for ConeRays {
    fn place(&self) -> &Place {
        &self.place
    }

    fn measured_len(&self) -> usize {
        self.projection.sinogram_len()
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
        self.ranks.store.device()
    }

    fn zeros(&self, len: usize) -> Result<Buffer<f32>> {
        self.ranks.store.zeros(len)
    }
}
