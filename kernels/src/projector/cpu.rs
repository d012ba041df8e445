//! The fast projector pair: both directions gather with [`gather`], so no output has two writers, and every output
//! is summed in one fixed order, whatever the threads and whichever slices share a group.
#![allow(unsafe_code)]

use super::gather::{LANES, Line, MAX_TAPS, Samples, Table, WIDTH, gather};
use super::geometry::{ParallelGeometry, View};
use super::pack::{Aligned, Group, Shared, pack, workspace};
use crate::machine::Simd;
use rayon::prelude::*;

/// Voxels of a tile of the back projection: one table's lanes along x, and as many rows as keep the strips of
/// `VIEWS` projections that it sees in L1 (8 rows: 20 columns of 128 bytes at most).
const TILE_ROWS: usize = 8;
/// Projections that pass over a tile together.
const VIEWS: usize = 8;
/// Planes of voxels that a ray crosses in one go, forward.
const PLANES: usize = 8;
/// Voxels along the planes whose rays go together: no more than 16 rays for columns as wide as voxels.
const SPAN: usize = 15;

/// Widest hat, in samples to either side, that the tables hold.
pub(super) const MAX_REACH: f64 = MAX_TAPS as f64 / 2.0;

/// True if the footprint is narrow enough for the tables; else the reference serves.
pub(super) fn can(g: &ParallelGeometry, views: &[View]) -> bool {
    views.iter().all(|v| v.half_width / g.col_pitch <= MAX_REACH && Rays::new(g, v).reach <= MAX_REACH)
}

/// Samples under a hat of half-width `reach`. The slack forgives the rounding of a reach that is a whole number.
pub(super) fn taps(reach: f64) -> usize {
    ((2.0 * reach - 1e-9).ceil() as usize).max(2)
}

fn line(base: usize, start: f64, step: f64, reach: f64, half_width: f64) -> Line {
    let amplitude = 1.0 / half_width;
    Line { base, start, step, reach, amplitude: amplitude as f32, slope: (amplitude / reach) as f32 }
}

/// `volume` = weighted back projection of the rows of `views`.
pub(super) fn back(
    simd: Simd,
    g: &ParallelGeometry,
    views: &[View],
    weights: &[f32],
    sinogram: &[f32],
    volume: &mut [f32],
) {
    let n_taps = views.iter().map(|v| taps(v.half_width / g.col_pitch)).max().unwrap_or(2);
    let n_slices = volume.len() / g.slice_len();
    let row_samples = g.n_cols + 2 * n_taps;
    let volume = Shared::new(volume);
    let mut work = Vec::new();
    for group in Group::all(n_slices) {
        let row_len = row_samples * group.width();
        let packed = workspace(&mut work, row_len * views.len());
        packed.par_chunks_mut(row_len).zip(views).zip(weights).for_each(|((row, view), weight)| {
            let middle = &mut row[n_taps * group.width()..][..g.n_cols * group.width()];
            pack(group, sinogram, g.sinogram_len(), view.row * g.n_cols, *weight, middle);
        });
        let samples =
            Samples { data: packed, stride: group.vectors, count: g.n_cols, taps: n_taps, vectors: group.vectors };
        let tiles = g.nx.div_ceil(LANES) * g.ny.div_ceil(TILE_ROWS);
        (0..tiles).into_par_iter().for_each_init(Table::new, |table, tile| {
            let (x0, y0) = (tile % g.nx.div_ceil(LANES) * LANES, tile / g.nx.div_ceil(LANES) * TILE_ROWS);
            back_tile(simd, table, g, views, samples, (x0, y0), |start, voxels| {
                // SAFETY: tiles are disjoint.
                unsafe { volume.unpack(group, g.slice_len(), start, voxels) }
            });
        });
    }
}

/// The voxels from (x0, y0); each row is handed to `done` with its place in a slice.
fn back_tile(
    simd: Simd,
    table: &mut Table,
    g: &ParallelGeometry,
    views: &[View],
    samples: Samples<'_>,
    (x0, y0): (usize, usize),
    done: impl Fn(usize, &[f32]),
) {
    let width = samples.vectors * WIDTH;
    let (n_x, n_y) = (LANES.min(g.nx - x0), TILE_ROWS.min(g.ny - y0));
    let mut sums = [Aligned::default(); TILE_ROWS * LANES * 2];
    let sums: &mut [f32] = bytemuck::cast_slice_mut(&mut sums);
    let row_len = n_x * width;
    for (block, views) in views.chunks(VIEWS).enumerate() {
        for (iy, sums) in sums.chunks_mut(row_len).take(n_y).enumerate() {
            let mut lines = [Line::default(); VIEWS];
            for (i, (slot, view)) in lines.iter_mut().zip(views).enumerate() {
                let (origin, along_x, along_y) = g.column_of(view);
                let base = ((block * VIEWS + i) * (g.n_cols + 2 * samples.taps) + samples.taps) * samples.vectors;
                let start = origin + along_x * x0 as f64 + along_y * (y0 + iy) as f64;
                *slot = line(base, start, along_x, view.half_width / g.col_pitch, view.half_width);
            }
            gather(simd, table, samples, &lines[..views.len()], sums);
        }
    }
    for (iy, sums) in sums.chunks(row_len).take(n_y).enumerate() {
        done((y0 + iy) * g.nx + x0, sums);
    }
}

/// Rows of `views` of `sinogram` = projections of `volume`.
pub(super) fn forward(simd: Simd, g: &ParallelGeometry, views: &[View], volume: &[f32], sinogram: &mut [f32]) {
    let n_slices = volume.len() / g.slice_len();
    let rays: Vec<Rays> = views.iter().map(|v| Rays::new(g, v)).collect();
    // Neighbouring angles of one main direction go together: they see the same voxels at nearly the same time.
    let mut order: Vec<usize> = (0..views.len()).collect();
    order.sort_by_key(|i| (rays[*i].along_y, rays[*i].taps));
    let batch = views.len().div_ceil(2 * rayon::current_num_threads()).clamp(1, VIEWS);
    let margin = rays.iter().map(|r| r.taps).max().unwrap_or(2);
    let sinogram = Shared::new(sinogram);
    let mut work = Vec::new();
    for group in Group::all(n_slices) {
        let grid = Padded::new(g, margin, group);
        let packed = workspace(&mut work, grid.len());
        packed.par_chunks_mut(grid.row_vectors * WIDTH).enumerate().for_each(|(row, voxels)| {
            if (margin..margin + g.ny).contains(&row) {
                let middle = &mut voxels[margin * group.width()..][..g.nx * group.width()];
                pack(group, volume, g.slice_len(), (row - margin) * g.nx, 1.0, middle);
            }
        });
        order.par_chunks(batch).for_each_init(
            || (Table::new(), Vec::new()),
            |(table, sums), batch| {
                let row_len = g.n_cols * group.width();
                let sums = workspace(sums, batch.len() * row_len);
                forward_batch(simd, table, g, &rays, batch, &grid, packed, sums);
                for (i, row) in batch.iter().zip(sums.chunks(row_len)) {
                    // SAFETY: views have different rows (`Projector::subset` refuses doubles).
                    unsafe { sinogram.unpack(group, g.sinogram_len(), views[*i].row * g.n_cols, row) };
                }
            },
        );
    }
}

/// A packed volume of one group, with zeros around.
struct Padded {
    margin: usize,
    group: Group,
    rows: usize,
    row_vectors: usize,
}

impl Padded {
    fn new(g: &ParallelGeometry, margin: usize, group: Group) -> Self {
        // A row is 16 lines of 64 bytes more than a multiple of 4096 bytes, so that the rows of a tile do not fall
        // on the same sets of the cache.
        let lines = (g.nx + 2 * margin) * group.vectors;
        let row_vectors = (lines - 1) / 64 * 64 + if (lines - 1) % 64 < 16 { 16 } else { 80 };
        Self { margin, group, rows: g.ny + 2 * margin, row_vectors }
    }

    fn len(&self) -> usize {
        self.rows * self.row_vectors * WIDTH
    }
}

/// The rays of one projection: they cross planes of constant y (or of constant x where they run along x), at the
/// position in the plane `origin + per_col j + per_plane plane`.
pub(super) struct Rays {
    pub along_y: bool,
    pub origin: f64,
    pub per_col: f64,
    pub per_plane: f64,
    pub reach: f64,
    pub half_width: f64,
    pub taps: usize,
}

impl Rays {
    pub(super) fn new(g: &ParallelGeometry, view: &View) -> Self {
        let (column, along_x, along_y) = g.column_of(view);
        let is_along_y = view.cos.abs() >= view.sin.abs();
        // Column of voxel (ix, iy): j = column + along_x ix + along_y iy; solved for the index in the plane.
        let (main, other) = if is_along_y { (along_x, along_y) } else { (along_y, along_x) };
        let reach = view.half_width / g.col_pitch / main.abs();
        Self {
            along_y: is_along_y,
            origin: -column / main,
            per_col: 1.0 / main,
            per_plane: -other / main,
            reach,
            half_width: view.half_width,
            taps: taps(reach),
        }
    }

    /// Of the rays, numbered in the direction in which their position grows, the first whose position in `plane` is
    /// at least `position`.
    fn first_at(&self, n_cols: usize, plane: f64, position: f64) -> usize {
        let column = (position - self.origin - self.per_plane * plane) / self.per_col;
        let rank = if self.per_col > 0.0 { column.ceil() } else { (n_cols as f64 - 1.0) - column.floor() };
        rank.clamp(0.0, n_cols as f64) as usize
    }
}

/// Sums of the rays of `batch`, `[batch, n_cols, z]`.
#[allow(clippy::too_many_arguments)]
fn forward_batch(
    simd: Simd,
    table: &mut Table,
    g: &ParallelGeometry,
    rays: &[Rays],
    batch: &[usize],
    grid: &Padded,
    packed: &[f32],
    sums: &mut [f32],
) {
    for along_y in [true, false] {
        let (n_planes, n_across) = if along_y { (g.ny, g.nx) } else { (g.nx, g.ny) };
        if batch.iter().all(|i| rays[*i].along_y != along_y) {
            continue;
        }
        for plane in (0..n_planes).step_by(PLANES) {
            for from in (0..n_across).step_by(SPAN) {
                for (i, sums) in batch.iter().zip(sums.chunks_mut(g.n_cols * grid.group.width())) {
                    if rays[*i].along_y == along_y {
                        let planes = plane..(plane + PLANES).min(n_planes);
                        forward_tile(simd, table, g, &rays[*i], grid, packed, planes, from, sums);
                    }
                }
            }
        }
    }
}

/// Adds to the rays that meet the middle of `planes` within `SPAN` of `from` what these planes give.
#[allow(clippy::too_many_arguments)]
fn forward_tile(
    simd: Simd,
    table: &mut Table,
    g: &ParallelGeometry,
    rays: &Rays,
    grid: &Padded,
    packed: &[f32],
    planes: std::ops::Range<usize>,
    from: usize,
    sums: &mut [f32],
) {
    let n_across = if rays.along_y { g.nx } else { g.ny };
    let middle = (planes.start + planes.end - 1) as f64 / 2.0;
    // The first and the last tile also take the rays that enter from the side.
    let side = rays.reach + rays.per_plane.abs() * PLANES as f64 / 2.0 + 1.0;
    let low = if from == 0 { -side } else { from as f64 };
    let high = if from + SPAN >= n_across { n_across as f64 + side } else { (from + SPAN) as f64 };
    let ranks = rays.first_at(g.n_cols, middle, low)..rays.first_at(g.n_cols, middle, high);
    // Ranks grow with the position, columns may fall.
    let columns = if rays.per_col > 0.0 { ranks } else { g.n_cols - ranks.end..g.n_cols - ranks.start };
    let vectors = grid.group.vectors;
    // Vectors from plane to plane and from sample to sample.
    let (plane_stride, stride) = if rays.along_y { (grid.row_vectors, vectors) } else { (vectors, grid.row_vectors) };
    let samples = Samples { data: packed, stride, count: n_across, taps: rays.taps, vectors };
    let corner = grid.margin * (grid.row_vectors + vectors);
    let width = grid.group.width();
    for (chunk, sums) in sums[columns.start * width..columns.end * width].chunks_mut(LANES * width).enumerate() {
        let column = (columns.start + chunk * LANES) as f64;
        let mut lines = [Line::default(); PLANES];
        for (slot, plane) in lines.iter_mut().zip(planes.clone()) {
            let start = rays.origin + rays.per_col * column + rays.per_plane * plane as f64;
            *slot = line(corner + plane * plane_stride, start, rays.per_col, rays.reach, rays.half_width);
        }
        gather(simd, table, samples, &lines[..planes.len()], sums);
    }
}
