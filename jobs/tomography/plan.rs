//! What a reconstruction costs: memory, messages, voxel updates.

use convoke_cluster::shard::RankGrid;
use convoke_cluster::workload::Resources;
use convoke_cluster::{Plan, Result};
use convoke_kernels::ParallelGeometry;

use super::angles;
use super::input::Source;
use super::regularised;
use super::spec::{Algorithm, Spec};

/// The program itself with its libraries and buffers: measured, rounded up.
pub(super) const PROGRAM: u64 = 96 << 20;
/// Voxel updates of one step of filtered back projection on one rank, at most: a second or two,
/// so that progress is seen and little is lost.
const DIRECT_STEP: f64 = 2e10;

/// Voxel updates of one projection or back projection of one slice.
pub(super) fn updates_per_slice(geometry: &ParallelGeometry) -> f64 {
    geometry.nx as f64 * geometry.ny as f64 * geometry.angles_rad.len() as f64
}

/// Bytes of one slice's arrays on one rank: `(sinograms, images)`.
fn per_slice(spec: &Spec, source: &Source, groups: usize) -> (u64, u64) {
    let n = spec.volume.size.unwrap_or(source.n_cols) as u64;
    let sinogram = source.angles_rad.len() as u64 * source.n_cols as u64 * 4;
    let own = sinogram.div_ceil(groups as u64);
    let image = n * n * 4;
    if let Some(price) = regularised::price(&spec.method, source.angles_rad.len()) {
        let loaded = sinogram + source.overhead_per_row(source.angles_rad.len());
        // Where views are chosen all of them stay.
        let offered = if spec.method.views.is_some() { sinogram } else { 0 };
        return (price.measured * own + loaded + offered, price.volumes * image);
    }
    let (sinograms, images) = match spec.method.algorithm {
        // the data and the copy of it that the filter and the projector make
        Algorithm::Fbp | Algorithm::Fdk => (own, 2 * image),
        Algorithm::Cgls => (2 * own, 4 * image),
        _ => (2 * own, 3 * image),
    };
    // While a window is loaded, all angles of its rows are there, before they are split.
    (sinograms + sinogram + source.overhead_per_row(source.angles_rad.len()), images)
}

/// What does not depend on the number of slices.
fn fixed(spec: &Spec, source: &Source, threads: usize) -> u64 {
    let n = spec.volume.size.unwrap_or(source.n_cols) as u64;
    let weights = (source.angles_rad.len() * source.n_cols * 4) as u64 + n * n * 4 * spec.method.n_subsets() as u64;
    PROGRAM + weights + source.overhead(threads)
}

/// Slices of one window: as many as fit into the memory of the ranks.
pub(super) fn window_len(spec: &Spec, source: &Source, resources: &Resources) -> usize {
    if spec.method.algorithm.is_whole() {
        return source.n_rows;
    }
    let grid = RankGrid::fit(resources.ranks, source.n_rows);
    let (sinograms, images) = per_slice(spec, source, grid.groups);
    let room = resources.memory_per_rank.saturating_sub(fixed(spec, source, resources.threads));
    let mut per_rank = (room / (sinograms + images)) as usize;
    if spec.method.algorithm.is_direct() {
        let n = spec.volume.size.unwrap_or(source.n_cols) as f64;
        let updates = n * n * source.angles_rad.len() as f64 / grid.groups as f64;
        per_rank = per_rank.min(((DIRECT_STEP / updates) as usize).max(1).next_multiple_of(32));
    }
    // At least one slice: a plan that does not fit says so with its figures.
    per_rank.max(1).saturating_mul(grid.slabs).min(source.n_rows)
}

pub(super) fn plan(spec: &Spec, source: &Source, resources: &Resources) -> Result<Plan> {
    let grid = RankGrid::fit(resources.ranks, source.n_rows);
    let window = window_len(spec, source, resources);
    let windows = source.n_rows.div_ceil(window) as u64;
    let mine = window.div_ceil(grid.slabs) as u64;
    let (sinograms, images) = per_slice(spec, source, grid.groups);
    let n = spec.volume.size.unwrap_or(source.n_cols) as u64;
    let iterations = spec.method.n_steps();
    let mut plan = Plan {
        steps: windows * iterations,
        work_unit: "voxel updates",
        result_bytes: source.n_rows as u64 * n * n * 4 + (1 << 20),
        notes: source.notes.clone(),
        ..Plan::default()
    };
    plan.holds("program and libraries", PROGRAM);
    let overhead = source.overhead(resources.threads);
    plan.holds("weights", fixed(spec, source, resources.threads) - PROGRAM - overhead);
    if overhead > 0 {
        plan.holds("projections whose phase is retrieved", overhead);
    }
    plan.holds(format!("projections of {mine} slices"), mine * sinograms);
    plan.holds(format!("images of {mine} slices"), mine * images);
    let projections = match regularised::price(&spec.method, source.angles_rad.len()) {
        Some(price) => price.of(iterations).projections(),
        None if spec.method.algorithm.is_direct() => 1,
        None => 2 * iterations,
    };
    let angles = source.angles_rad.len();
    let measured = spec.method.views.as_ref().map_or(angles, |views| views.measured(angles));
    plan.work = (projections * source.n_rows as u64) as f64 * (n * n) as f64 * measured as f64;
    plan.bytes_sent_per_rank =
        windows * bytes_per_window((spec, source.angles_rad.len()), grid, (mine, n * n * 4), resources.ranks as u64);
    let price = regularised::price(&spec.method, source.angles_rad.len());
    plan.checkpoint_bytes = match spec.method.algorithm {
        Algorithm::Fbp | Algorithm::Fdk => 1 << 16,
        _ if let Some(price) = price => {
            let sinogram = (source.angles_rad.len() * source.n_cols * 4) as u64;
            window as u64 * (price.kept_volumes * n * n * 4 + price.kept_measured * sinogram) + (1 << 20)
        }
        Algorithm::Cgls => {
            window as u64 * (2 * n * n * 4 + (source.angles_rad.len() * source.n_cols * 4) as u64) + (1 << 20)
        }
        _ => window as u64 * n * n * 4 + (1 << 20),
    };
    if windows > 1 {
        plan.notes.push(format!("{windows} windows of {window} slices, each written to disk when it is done"));
        plan.result_bytes *= 2;
    }
    if grid.groups > 1 {
        plan.notes.push(format!("{} ranks share the angles of each slice and add up their images", grid.groups));
    }
    let missing = angles::missing_degrees(&angles::weights(&source.angles_rad));
    if missing > 2.0 {
        plan.notes.push(format!("the angles leave a wedge of {missing:.0} degrees uncovered"));
    }
    Ok(plan)
}

/// Bytes that a rank sends in a sum of so many over `ranks` (`Comm::all_sum`), at most.
pub(super) fn sum_bytes(bytes: u64, ranks: u64) -> u64 {
    // Rounding of the pieces adds less than one element per rank.
    if bytes <= 4096 { bytes * (ranks - 1) } else { (2 * bytes * (ranks - 1)).div_ceil(ranks) + 8 * ranks }
}

/// Sums over an angle group send `2 n (G − 1)/G` bytes per image (cluster::Comm::all_sum), and the
/// residuals of every slice go to every rank.
fn bytes_per_window((spec, angles): (&Spec, usize), grid: RankGrid, (slices, image): (u64, u64), ranks: u64) -> u64 {
    let g = grid.groups as u64;
    let subsets = spec.method.n_subsets() as u64;
    let iterations = spec.method.n_steps();
    if let Some(price) = regularised::price(&spec.method, angles) {
        let slabs = grid.slabs as u64;
        // Of each slice's part: over the group and over the slabs.
        let each = [sum_bytes(slices * image, g), 0, sum_bytes(8 * slices, g) + 8 * slices * (slabs - 1)];
        return regularised::bytes_sent(price.of(iterations), (slices, image, slabs), each) + 128 * ranks;
    }
    // One back projection per subset and iteration, one to start; one slice of weights per subset.
    let images = match spec.method.algorithm {
        Algorithm::Fbp | Algorithm::Fdk => slices,
        Algorithm::Cgls => (iterations + 1) * slices,
        _ => subsets * (iterations * slices + 1),
    };
    // Rounding of the pieces adds less than one element per rank.
    let sums = if g > 1 { images * (2 * image * (g - 1)).div_ceil(g) + images * 8 * g } else { 0 };
    let scalars = if spec.method.algorithm.is_direct() { 0 } else { iterations * 8 * (4 * slices + 4) * ranks };
    sums + scalars + 128 * ranks
}
