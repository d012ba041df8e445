//! Differences of neighbouring voxels and their transpose, row by row, with one slice of a neighbour where a slab ends.
//!
//! A field has one number for each voxel and axis, `[slice, y, axis, x]` with the axes z, y, x or z alone: a row of a slice has all of its
//! differences side by side. Behind the last voxel of an axis nothing follows: the difference is 0 there (Neumann), and so are fields that
//! come from differences.

use convoke_cluster::Result;
use rayon::prelude::*;

use super::{Along, Kind};
use crate::inverse::place::Place;

/// Rows that a thread takes at once, at least.
const ROWS: usize = 16;

/// The voxels of a place, and the axes along which their differences count.
#[derive(Debug, Clone)]
pub struct Grid {
    place: Place,
    rows: Rows,
}

/// Rows of slices.
#[derive(Debug, Clone, Copy)]
struct Rows {
    /// Points of a slice, `[y, x]`.
    points: [usize; 2],
    /// 3 or 1.
    axes: usize,
}

impl Rows {
    /// Length of a row, and of a row of a field.
    fn lens(self) -> (usize, usize) {
        (self.points[1], self.points[1] * self.axes)
    }

    /// g = ∇v of a row.
    fn gradient(self, v: &[f32], behind: &[f32], row: usize, g: &mut [f32]) {
        let ([ny, nx], start) = (self.points, row * self.points[1]);
        let here = &v[start..start + nx];
        let next = start + ny * nx;
        let below = if next < v.len() {
            &v[next..next + nx]
        } else if behind.is_empty() {
            here
        } else {
            &behind[next - v.len()..][..nx]
        };
        let (along_z, rest) = g.split_at_mut(nx);
        along_z.iter_mut().zip(below.iter().zip(here)).for_each(|(g, (b, h))| *g = b - h);
        if self.axes == 1 {
            return;
        }
        let (along_y, along_x) = rest.split_at_mut(nx);
        let after = if row % ny + 1 < ny { &v[start + nx..start + 2 * nx] } else { here };
        along_y.iter_mut().zip(after.iter().zip(here)).for_each(|(g, (a, h))| *g = a - h);
        along_x.iter_mut().zip(here[1..].iter().zip(here)).for_each(|(g, (a, h))| *g = a - h);
        along_x[nx - 1] = 0.0;
    }

    /// t = ∇ᵀp of a row.
    fn transposed(self, p: &[f32], before: &[f32], row: usize, t: &mut [f32]) {
        let ([ny, nx], (_, len)) = (self.points, self.lens());
        let here = &p[row * len..(row + 1) * len];
        let above = if row >= ny { Some(&p[(row - ny) * len..][..nx]) } else { before.get(row * nx..(row + 1) * nx) };
        match above {
            Some(above) => t.iter_mut().zip(above.iter().zip(here)).for_each(|(t, (a, h))| *t = a - h),
            None => t.iter_mut().zip(here).for_each(|(t, h)| *t = -h),
        }
        if self.axes == 1 {
            return;
        }
        let (along_y, along_x) = here[nx..].split_at(nx);
        t.iter_mut().zip(along_y.iter().zip(along_x)).for_each(|(t, (y, x))| *t -= y + x);
        if !row.is_multiple_of(ny) {
            let y_before = &p[(row - 1) * len + nx..][..nx];
            t.iter_mut().zip(y_before).for_each(|(t, y)| *t += y);
        }
        t[1..].iter_mut().zip(along_x).for_each(|(t, x)| *t += x);
    }
}

impl Grid {
    /// Of a place.
    pub fn new(place: &Place, along: Along) -> Self {
        Self { place: place.clone(), rows: Rows { points: place.points, axes: along.axes() } }
    }

    /// Numbers of a field that are here.
    pub fn field_len(&self) -> usize {
        self.place.len() * self.rows.axes
    }

    /// The first slice of the next slab, empty if there is none. Collective.
    ///
    /// # Errors
    /// Of the exchange.
    pub fn behind(&self, v: &[f32]) -> Result<Vec<f32>> {
        self.place.neighbour(v, true)
    }

    /// The differences along z of the last slice of the slab before, empty if there is none. Collective.
    ///
    /// # Errors
    /// Of the exchange.
    pub fn before(&self, p: &[f32]) -> Result<Vec<f32>> {
        let (nx, row) = self.rows.lens();
        let last = p.len().saturating_sub(self.place.points[0] * row);
        let along_z: Vec<f32> = p[last..].chunks(row).flat_map(|row| &row[..nx]).copied().collect();
        self.place.neighbour(&along_z, false)
    }

    /// `f(row of out, ∇ᵀp of it, number of the row)` for all rows.
    ///
    /// # Errors
    /// Of the exchange of a slice.
    pub fn transposed(&self, p: &[f32], out: &mut [f32], f: impl Fn(&mut [f32], &[f32], usize) + Sync) -> Result<()> {
        let before = self.before(p)?;
        let rows = self.rows;
        let (nx, _) = rows.lens();
        out.par_chunks_mut(nx).enumerate().with_min_len(ROWS).for_each_init(
            || vec![0.0; nx],
            |t, (row, out)| {
                rows.transposed(p, &before, row, t);
                f(out, t, row);
            },
        );
        Ok(())
    }

    /// `f(row of p, ∇v of it)` for all rows.
    ///
    /// # Errors
    /// Of the exchange of a slice.
    pub fn gradient(&self, v: &[f32], p: &mut [f32], f: impl Fn(&mut [f32], &[f32]) + Sync) -> Result<()> {
        let behind = self.behind(v)?;
        let rows = self.rows;
        let (_, len) = rows.lens();
        p.par_chunks_mut(len).enumerate().with_min_len(ROWS).for_each_init(
            || vec![0.0; len],
            |g, (row, p)| {
                rows.gradient(v, &behind, row, g);
                f(p, g);
            },
        );
        Ok(())
    }

    /// `f(row of p, row of q, ∇v of it)` for all rows.
    ///
    /// # Errors
    /// Of the exchange of a slice.
    pub fn gradient2(
        &self,
        v: &[f32],
        (p, q): (&mut [f32], &mut [f32]),
        f: impl Fn(&mut [f32], &mut [f32], &[f32]) + Sync,
    ) -> Result<()> {
        let behind = self.behind(v)?;
        let rows = self.rows;
        let (_, len) = rows.lens();
        let all = p.par_chunks_mut(len).zip(q.par_chunks_mut(len)).enumerate().with_min_len(ROWS);
        all.for_each_init(
            || vec![0.0; len],
            |g, (row, (p, q))| {
                rows.gradient(v, &behind, row, g);
                f(p, q, g);
            },
        );
        Ok(())
    }

    /// out = f(out, ∇ᵀ∇v) for all rows.
    ///
    /// # Errors
    /// Of the exchange of two slices.
    pub fn normal(&self, v: &[f32], out: &mut [f32], f: impl Fn(&mut [f32], &[f32], usize) + Sync) -> Result<()> {
        let (before, behind) = (self.place.neighbour(v, false)?, self.place.neighbour(v, true)?);
        let Rows { points: [ny, nx], axes } = self.rows;
        out.par_chunks_mut(nx).enumerate().with_min_len(ROWS).for_each_init(
            || vec![0.0; nx],
            |t, (row, out)| {
                let start = row * nx;
                let here = &v[start..start + nx];
                t.fill(0.0);
                let mut from = |other: &[f32]| {
                    t.iter_mut().zip(here.iter().zip(other)).for_each(|(t, (h, o))| *t += h - o);
                };
                // A neighbour that is not there adds nothing.
                from(if row >= ny { &v[start - ny * nx..] } else { before.get(start..).unwrap_or_default() });
                let next = start + ny * nx;
                from(if next < v.len() { &v[next..] } else { behind.get(next - v.len()..).unwrap_or_default() });
                if axes == 3 {
                    if !row.is_multiple_of(ny) {
                        from(&v[start - nx..start]);
                    }
                    if row % ny + 1 < ny {
                        from(&v[start + nx..]);
                    }
                    t[1..].iter_mut().zip(here[1..].iter().zip(here)).for_each(|(t, (h, o))| *t += h - o);
                    t.iter_mut().zip(here.iter().zip(&here[1..])).for_each(|(t, (h, o))| *t += h - o);
                }
                f(out, t, row);
            },
        );
        Ok(())
    }

    /// Σ |∇v|, with the norm of `kind` for the differences of a voxel. Collective.
    ///
    /// # Errors
    /// Of the exchange.
    pub fn variation(&self, v: &[f32], kind: Kind) -> Result<f64> {
        let behind = self.behind(v)?;
        let rows = self.rows;
        let ([ny, nx], (_, len)) = (rows.points, rows.lens());
        let row_sum = |g: &mut Vec<f32>, row: usize| -> f64 {
            rows.gradient(v, &behind, row, g);
            let size = |x: usize| {
                let parts = (0..rows.axes).map(|a| f64::from(g[a * nx + x]));
                match kind {
                    Kind::Isotropic => parts.map(|d| d * d).sum::<f64>().sqrt(),
                    Kind::Anisotropic => parts.map(f64::abs).sum(),
                }
            };
            (0..nx).map(size).sum()
        };
        let slice_sum = |g: &mut Vec<f32>, slice: usize| (0..ny).map(|y| row_sum(g, slice * ny + y)).sum();
        let n = self.place.slices.len();
        let slices = (0..n).into_par_iter().map_init(|| vec![0.0; len], slice_sum);
        self.place.sum(&slices.collect::<Vec<f64>>())
    }
}

/// Moves a row of a field to the nearest one whose voxels have at most this norm (dual to that of [`Grid::variation`]).
pub fn project(kind: Kind, along: Along, radius: f32, p: &mut [f32]) {
    if kind == Kind::Anisotropic || along == Along::Z {
        return p.iter_mut().for_each(|p| *p = p.clamp(-radius, radius));
    }
    let (z, rest) = p.split_at_mut(p.len() / 3);
    let (y, x) = rest.split_at_mut(z.len());
    for (z, (y, x)) in z.iter_mut().zip(y.iter_mut().zip(x)) {
        let scale = radius / (*z * *z + *y * *y + *x * *x).sqrt().max(radius);
        *z *= scale;
        *y *= scale;
        *x *= scale;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use convoke_cluster::block;
    use convoke_cluster::comm::run_threads;

    /// ⟨∇v, p⟩ = ⟨v, ∇ᵀp⟩ and ∇ᵀ(∇v) = (∇ᵀ∇)v, the same bits on one to four slabs.
    #[test]
    fn differences_have_their_transpose_on_any_number_of_slabs() {
        for along in [Along::Xyz, Along::Z] {
            let on = |ranks: usize| {
                let parts = run_threads(ranks, |comm| {
                    let here = block(5, comm.rank(), comm.size());
                    let place = Place { comm, slices: here, all: 5, points: [3, 7], leads: true };
                    let grid = Grid::new(&place, along);
                    let v: Vec<f32> = place.normal(1, 7).collect();
                    let mut g = vec![0.0; grid.field_len()];
                    grid.gradient(&v, &mut g, |p, g| p.copy_from_slice(g))?;
                    // A field that is 0 where differences are.
                    let mut p = vec![0.0; grid.field_len()];
                    let w: Vec<f32> = place.normal(1, 8).collect();
                    grid.gradient(&w, &mut p, |p, g| p.iter_mut().zip(g).for_each(|(p, g)| *p = g * g * g))?;
                    let (mut t, mut tg, mut n) = (v.clone(), v.clone(), v.clone());
                    grid.transposed(&p, &mut t, |out, t, _| out.copy_from_slice(t))?;
                    grid.transposed(&g, &mut tg, |out, t, _| out.copy_from_slice(t))?;
                    grid.normal(&v, &mut n, |out, t, _| out.copy_from_slice(t))?;
                    let field: f64 = g.iter().zip(&p).map(|(a, b)| f64::from(a * b)).sum();
                    let dots = [place.sum(&[field])?, place.dot(&v, &t)?];
                    let far = tg.iter().zip(&n).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
                    Ok((dots, far, t, grid.variation(&v, Kind::Isotropic)?))
                });
                parts.into_iter().map(|part| part.expect("it runs")).collect::<Vec<_>>()
            };
            let alone = on(1).swap_remove(0);
            for ranks in 1..=4 {
                let parts = on(ranks);
                for ([a, b], far, _, variation) in &parts {
                    assert!((a - b).abs() < 1e-4 * a.abs().max(1.0), "{along:?} on {ranks}: {a} {b}");
                    assert!(*far < 1e-5, "{along:?} on {ranks}: {far}");
                    assert_eq!(*variation, alone.3);
                }
                let whole: Vec<f32> = parts.into_iter().flat_map(|p| p.2).collect();
                assert!(whole == alone.2, "{along:?} on {ranks}");
            }
        }
    }
}
