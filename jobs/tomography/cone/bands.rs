//! Which detector rows a slab of slices touches, and sums over slabs where their bands overlap.

use std::ops::Range;

use convoke_cluster::{Comm, Result, block};
use convoke_kernels::{ConeFootprint, ConeGeometry};

/// Bytes of the rows that are exchanged at once.
pub(super) const MESSAGE: usize = 16 << 20;

/// Global slices of slab `slab` of `slabs` of a window of them.
pub(super) fn slab_of(window: &Range<usize>, slab: usize, slabs: usize) -> Range<usize> {
    let part = block(window.len(), slab, slabs);
    window.start + part.start..window.start + part.end
}

/// The band of rows of every slab. Both ends rise from slab to slab.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Bands(Vec<Range<usize>>);

impl Bands {
    /// For `slabs` slabs of the volume and a pair of projectors.
    pub fn new(geometry: &ConeGeometry, slabs: usize, footprint: ConeFootprint) -> Self {
        Self::of_window(geometry, 0..geometry.shape[0], slabs, footprint)
    }

    /// The same for slabs of a window of slices.
    pub fn of_window(geometry: &ConeGeometry, window: Range<usize>, slabs: usize, footprint: ConeFootprint) -> Self {
        // Half-width in pixels of the widest hat.
        let reach = match footprint {
            ConeFootprint::Linear | ConeFootprint::Joseph => 1.0,
            ConeFootprint::Shadow => geometry.shadow().max(1.0),
        };
        let band = |slab: usize| -> Range<usize> {
            let slices = slab_of(&window, slab, slabs);
            let rows = (0..geometry.views.len()).map(|view| match footprint {
                ConeFootprint::Joseph => geometry.rows_of_rays(view, slices.clone()),
                _ => geometry.rows_of(view, slices.clone(), reach),
            });
            let both = |a: Range<usize>, b: Range<usize>| match (a.is_empty(), b.is_empty()) {
                (true, _) => b,
                (_, true) => a,
                _ => a.start.min(b.start)..a.end.max(b.end),
            };
            rows.fold(0..0, both)
        };
        let mut bands: Vec<Range<usize>> = (0..slabs).map(band).collect();
        // Bands of geometries whose rows run both ways need not rise; wider ones do no harm.
        let mut last = 0;
        for band in &mut bands {
            if band.start >= band.end {
                *band = last..last; // a slab that no view sees
            }
            last = last.max(band.end);
            band.end = last;
        }
        let mut first = usize::MAX;
        for band in bands.iter_mut().rev() {
            first = first.min(band.start);
            band.start = first;
        }
        Self(bands)
    }

    /// Rows of a slab.
    pub fn of(&self, slab: usize) -> Range<usize> {
        self.0[slab].clone()
    }

    /// Rows of a slab that no slab before it has: each row has one owner.
    pub fn owned(&self, slab: usize) -> Range<usize> {
        let band = self.of(slab);
        let before = if slab > 0 { self.0[slab - 1].end } else { 0 };
        band.start.max(before).min(band.end)..band.end
    }

    /// Rows that two slabs share.
    fn shared(&self, a: usize, b: usize) -> Range<usize> {
        both(&self.of(a), &self.of(b))
    }

    /// Rows that a slab sends to the others in [`Bands::sum`].
    pub fn sent(&self, slab: usize) -> usize {
        (0..self.0.len()).filter(|other| *other != slab).map(|other| self.shared(slab, other).len()).sum()
    }

    /// Adds up, over the ranks of `column` (one for each slab), what the slabs cast on the rows that they share: `band` is
    /// this rank's, `row_len` values a row. The same bits in all bands: added in the order of the slabs. Some rows at a time, so that
    /// little of a band is here twice.
    pub fn sum(&self, column: &Comm, row_len: usize, band: &mut [f32]) -> Result<()> {
        let slab = column.rank();
        for rows in self.shared_rows(row_len) {
            let part = |other: usize| self.place(slab, both(&self.shared(slab, other), &rows), row_len);
            let parts: Vec<&[f32]> = (0..column.size()).map(|other| &band[part(other)]).collect();
            let received = column.all_to_all(&parts)?;
            band[part(slab)].fill(0.0);
            for (other, values) in received.iter().enumerate() {
                band[part(other)].iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
            }
        }
        Ok(())
    }

    /// Fills the rows of `band` that another rank owns with what it has there.
    pub fn spread(&self, column: &Comm, row_len: usize, band: &mut [f32]) -> Result<()> {
        let slab = column.rank();
        for rows in self.shared_rows(row_len) {
            let of = |owner: usize, reader: usize| both(&both(&self.owned(owner), &self.of(reader)), &rows);
            let place = |rows: Range<usize>| self.place(slab, rows, row_len);
            let parts: Vec<&[f32]> = (0..column.size()).map(|reader| &band[place(of(slab, reader))]).collect();
            let received = column.all_to_all(&parts)?;
            for (owner, values) in received.iter().enumerate() {
                band[place(of(owner, slab))].copy_from_slice(values);
            }
        }
        Ok(())
    }

    /// Rows that more than one slab has, some at a time: the same on every rank.
    fn shared_rows(&self, row_len: usize) -> Vec<Range<usize>> {
        let some = (MESSAGE / (size_of::<f32>() * row_len).max(1)).max(1);
        let pairs = (1..self.0.len()).map(|slab| self.shared(slab - 1, slab)).filter(|rows| !rows.is_empty());
        let Some(all) = pairs.reduce(|a, b| a.start.min(b.start)..a.end.max(b.end)) else { return Vec::new() };
        all.clone().step_by(some).map(|first| first..all.end.min(first + some)).collect()
    }

    /// Where rows of a slab's band lie in it.
    fn place(&self, slab: usize, rows: Range<usize>, row_len: usize) -> Range<usize> {
        let start = self.0[slab].start;
        if rows.is_empty() { 0..0 } else { (rows.start - start) * row_len..(rows.end - start) * row_len }
    }
}

/// What is in both.
pub(super) fn both(a: &Range<usize>, b: &Range<usize>) -> Range<usize> {
    let start = a.start.max(b.start);
    start..a.end.min(b.end).max(start)
}

#[cfg(test)]
mod tests {
    use convoke_cluster::comm::run_threads;
    use convoke_kernels::Orbit;

    use super::*;

    fn geometry() -> ConeGeometry {
        let angles = (0..7).map(f64::from).collect();
        let views = Orbit::circle(angles, [50.0, 80.0], 1.0, [30, 40]).views();
        ConeGeometry { views, n_rows: 30, n_cols: 40, shape: [20, 16, 16], voxel: 1.0, centre: [0.0; 3] }
    }

    #[test]
    fn every_row_that_is_seen_has_one_owner_and_bands_overlap() {
        for (slabs, footprint) in (1..8).flat_map(|n| [(n, ConeFootprint::Linear), (n, ConeFootprint::Joseph)]) {
            let bands = Bands::new(&geometry(), slabs, footprint);
            let owned: Vec<usize> = (0..slabs).flat_map(|s| bands.owned(s)).collect();
            assert_eq!(owned, (0..30).collect::<Vec<_>>(), "{slabs} slabs");
            assert!((1..slabs).all(|s| bands.of(s).start < bands.of(s - 1).end));
        }
    }

    #[test]
    fn sums_are_equal_in_all_bands_and_spread_gives_the_owners_values() {
        let bands = Bands::new(&geometry(), 3, ConeFootprint::Linear);
        let outcomes = run_threads(3, |comm| {
            let rows = bands.of(comm.rank());
            let mut band: Vec<f32> = rows.clone().flat_map(|row| [row as f32; 2]).collect();
            bands.sum(&comm, 2, &mut band)?;
            let mut marked = vec![comm.rank() as f32; 2 * rows.len()];
            bands.spread(&comm, 2, &mut marked)?;
            Ok((band, marked))
        });
        for (slab, outcome) in outcomes.into_iter().enumerate() {
            let (band, marked) = outcome.unwrap();
            for (i, row) in bands.of(slab).enumerate() {
                let n = (0..3).filter(|s| bands.of(*s).contains(&row)).count();
                assert_eq!(band[2 * i], (n * row) as f32);
                assert!(bands.owned(marked[2 * i] as usize).contains(&row));
            }
        }
    }
}
