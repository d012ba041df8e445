//! What a reconstruction of cone beams costs: memory, messages, voxel updates.

use convoke_cluster::workload::Resources;
use convoke_cluster::{Plan, Result, block};
use convoke_kernels::ConeGeometry;
use convoke_kernels::cone::weights::FdkWeights;

use super::bands::{Bands, MESSAGE};
use super::input::Input;
use super::operator::WINDOW;
use super::{coverage_note, footprint, rank_grid, reads_by_step, setup};
use crate::tomography::plan::{PROGRAM, sum_bytes};
use crate::tomography::regularised;
use crate::tomography::spec::{Algorithm, Spec};

/// Voxel updates of one step of filtered back projection, all ranks together: a minute of one core.
const DIRECT_STEP: f64 = 2e11;
/// Its steps, at most: images are summed up in each where ranks share a slab.
const DIRECT_STEPS: u64 = 256;
/// Zeros around columns of voxels in the kernels' workspace, and views in flight there.
const COLUMN_MARGIN: u64 = 128;
const VIEWS_IN_FLIGHT: usize = 32;

/// Voxel updates of one projection or back projection.
pub(super) fn updates(g: &ConeGeometry) -> f64 {
    (g.shape[0] * g.slice_len()) as f64 * g.views.len() as f64
}

/// Steps of a window of FDK, each with some of the views: the same for any ranks and windows, as images are rounded after each.
pub(super) fn parts(spec: &Spec, g: &ConeGeometry) -> u64 {
    if !spec.method.algorithm.is_direct() {
        return 1;
    }
    ((updates(g) / DIRECT_STEP).ceil() as u64).clamp(1, DIRECT_STEPS.min(g.views.len() as u64))
}

pub(super) fn plan(spec: &Spec, input: &Input, resources: &Resources) -> Result<Plan> {
    Ok(chosen(spec, input, resources)?.1)
}

/// Slices of one window of FDK: all that fit into the memory of the ranks.
pub(super) fn window_len(spec: &Spec, input: &Input, resources: &Resources) -> Result<usize> {
    Ok(chosen(spec, input, resources)?.0.window)
}

/// Whether the vectors of a solver do not fit into the memory of the ranks and lie in files.
pub(super) fn is_in_files(spec: &Spec, input: &Input, resources: &Resources) -> Result<bool> {
    Ok(chosen(spec, input, resources)?.0.in_files)
}

/// Detector rows that are read at once where vectors lie in files, of so many values each.
pub(super) fn rows_read(input: &Input, row_len: usize) -> usize {
    (MESSAGE / (size_of::<f32>() * row_len).max(1)).max(input.rows_together())
}

/// How a volume goes through.
#[derive(Debug, Clone, Copy)]
struct Way {
    /// Slices that FDK reconstructs at once.
    window: usize,
    /// Whether the vectors of a solver lie in files.
    in_files: bool,
}

/// Where a volume does not fit into memory, FDK halves it until a window fits; the vectors of solvers go to files.
fn chosen(spec: &Spec, input: &Input, resources: &Resources) -> Result<(Way, Plan)> {
    let slices = input.geometry.shape[0];
    let slabs = rank_grid(resources.ranks, slices).slabs;
    let algorithm = spec.method.algorithm;
    let mut way = Way { window: slices, in_files: false };
    let mut windows = 1;
    loop {
        let plan = priced(spec, input, resources, way)?;
        // At least one slice for each slab: a plan that does not fit says so with its figures. Samplers have volumes of their own.
        let last =
            if algorithm.is_direct() { way.window <= slabs } else { way.in_files || algorithm.prior().is_some() };
        if last || plan.memory_per_rank() <= resources.memory_per_rank {
            return Ok((way, plan));
        }
        windows *= 2;
        way = if algorithm.is_direct() {
            Way { window: slices.div_ceil(windows), in_files: false }
        } else {
            Way { window: slices, in_files: true }
        };
    }
}

/// The plan of a way.
fn priced(spec: &Spec, input: &Input, resources: &Resources, Way { window, in_files }: Way) -> Result<Plan> {
    let g = &input.geometry;
    let direct = spec.method.algorithm.is_direct();
    let grid = rank_grid(resources.ranks, g.shape[0]);
    let starts = (0..g.shape[0]).step_by(window);
    let windows = starts.len() as u64;
    let bands: Vec<Bands> = starts
        .map(|start| {
            let end = g.shape[0].min(start + window);
            Bands::of_window(g, start..end, grid.slabs, footprint(&spec.method))
        })
        .collect();
    let parts = parts(spec, g);
    let steps = if direct { parts * windows } else { spec.method.n_steps() };
    let mut plan = Plan { steps, work_unit: "voxel updates", notes: input.notes.clone(), ..Plan::default() };
    let mut n_cols = g.n_cols;
    if direct {
        let fdk = FdkWeights::new(g).map_err(setup::bad_geometry)?;
        n_cols = fdk.geometry.n_cols;
        plan.notes.extend(coverage_note(fdk.coverage));
    }
    let iterations = spec.method.n_steps();
    let views = g.views.len().div_ceil(grid.groups) as u64;
    let slices = block(window, 0, grid.slabs).len() as u64;
    let all_slabs = || bands.iter().flat_map(|bands| (0..grid.slabs).map(move |slab| (bands, slab)));
    let rows = all_slabs().map(|(bands, slab)| bands.of(slab).len()).max().unwrap_or(0) as u64;
    let (image, data) = (4 * slices * g.slice_len() as u64, 4 * rows * views * g.n_cols as u64);
    let subsets = spec.method.n_subsets() as u64;
    plan.holds("program and libraries", PROGRAM);
    let price = regularised::price(&spec.method, g.views.len());
    let mut overhead = rows * input.overhead_per_row();
    let fixed = input.overhead(resources.threads);
    let multiplicative = u64::from(spec.method.algorithm.is_multiplicative());
    let (projections, images) = match spec.method.algorithm {
        _ if let Some(price) = price => (price.measured * data, price.volumes),
        // Views of a step as they came, weighed, and as the kernel takes them; all of them where they are not read step by step.
        Algorithm::Fdk => {
            let at_once = views.div_ceil(parts);
            let step = 4 * rows * at_once * (g.n_cols + 2 * n_cols) as u64;
            if reads_by_step(spec, input) {
                overhead = input.overhead_of_steps(rows, at_once as usize);
                plan.notes.push(format!("each rank reads {at_once} views at a time"));
                (step, 2)
            } else {
                (if parts == 1 { step } else { data + step }, 2)
            }
        }
        // Data and model; image, direction and gradient.
        Algorithm::Cgls if in_files => (2 * data, 3),
        Algorithm::Cgls => (3 * data, 4),
        // Data, model and weights, and quotients; image, correction and weights.
        _ if in_files => ((3 + multiplicative) * data, 2 + subsets),
        // Data, model, weights, and the whole before it is cut into subsets.
        _ => (4 * data, 4 + subsets),
    };
    if in_files {
        let some = (rows_read(input, views as usize * g.n_cols) as u64).min(rows);
        let read = 4 * some * views * g.n_cols as u64 + some * input.overhead_per_row();
        plan.holds(format!("{some} detector rows as they are read"), read);
    } else {
        plan.holds(format!("projections of {rows} detector rows and {views} views"), projections + overhead);
    }
    if fixed > 0 {
        plan.holds("projections whose phase is retrieved", fixed);
    }
    let of_window = slices.min(WINDOW as u64);
    if in_files {
        let row = 4 * views * g.n_cols as u64;
        let exchanged = if grid.slabs > 1 { 4 * row.max(MESSAGE as u64).min(rows * row) } else { 0 };
        let summed = if grid.groups > 1 { 3 * 4 * of_window * g.slice_len() as u64 } else { 0 };
        plan.holds("single slices, and what ranks exchange", 8 * 4 * g.slice_len() as u64 + exchanged + summed);
        plan.scratch_bytes = (projections + images * image) * resources.ranks as u64;
    } else {
        plan.holds(format!("images of {slices} slices"), images * image);
    }
    let column = if in_files { of_window } else { slices } + COLUMN_MARGIN;
    let strips =
        4 * (rows + 64) * (n_cols as u64 + 80) * (VIEWS_IN_FLIGHT.max(8 * resources.threads) as u64).min(views);
    plan.holds("workspace of the projectors", 4 * g.slice_len() as u64 * column + strips);
    let passes = match price {
        Some(price) => price.of(iterations).projections(),
        None if direct => 1,
        None => 2 * iterations,
    };
    plan.work = passes as f64 * updates(g);
    if in_files {
        plan.notes.push(format!(
            "vectors do not fit into memory and lie in files, used by windows of up to {of_window} slices: each of the {passes} products with A or \
             its transpose goes through a volume once, and sums of vectors go through what they add; beside the memory of the plan the system keeps \
             there what it has room for"
        ));
    }
    let volume = 4 * (g.shape[0] * g.slice_len()) as u64;
    // Finished windows lie on disk until the result holds them.
    plan.result_bytes = windows.min(2) * volume + (1 << 20);
    let sinogram = 4 * (g.n_rows * g.views.len() * g.n_cols) as u64;
    plan.checkpoint_bytes = match spec.method.algorithm {
        _ if let Some(price) = price => price.kept_volumes * volume + price.kept_measured * sinogram + (1 << 20),
        Algorithm::Cgls => 2 * volume + sinogram + (1 << 20),
        Algorithm::Fdk => 4 * (window * g.slice_len()) as u64 + (1 << 20),
        _ => volume + (1 << 20),
    };
    let ranks = resources.ranks as u64;
    let groups = grid.groups as u64;
    let reduction = sum_bytes(image, groups);
    let overlap = all_slabs().map(|(bands, slab)| bands.sent(slab)).max().unwrap_or(0) as u64;
    let exchange = 4 * overlap * views * g.n_cols as u64;
    plan.bytes_sent_per_rank = match spec.method.algorithm {
        _ if let Some(price) = price => {
            let place = (slices, 4 * g.slice_len() as u64, grid.slabs as u64);
            let restart = price.kept_measured * exchange;
            regularised::bytes_sent(price.of(iterations), place, [reduction, exchange, 8 * ranks]) + restart
        }
        Algorithm::Fdk => plan.steps * reduction,
        // One projection each iteration; one more back projection to start. The halo of the residual after a restart.
        Algorithm::Cgls => (iterations + 1) * (reduction + exchange) + iterations * 8 * 3 * ranks + 16 * ranks,
        // And the weights of each subset, which sum up to those of one pass for rays.
        _ => (iterations + 1) * (subsets * reduction + exchange) + iterations * 8 * ranks + 16 * ranks,
    } + 24 * g.shape[0] as u64 * ranks
        + 256 * ranks;
    if windows > 1 {
        plan.notes.push(format!("{windows} windows of {window} slices, each written to disk when it is done"));
    }
    if grid.groups > 1 {
        plan.notes.push(format!("{} ranks share the views of each slab and add up their images", grid.groups));
    }
    Ok(plan)
}
