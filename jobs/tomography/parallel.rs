//! Parallel beams: the volume slice by slice.
//!
//! Slices are independent, so ranks share them without talking; ranks beyond the number of slices
//! share the angles of a slice and add up what they back-project. A volume that does not fit into
//! memory is reconstructed in windows of slices.

use std::ops::Range;

use convoke_cluster::results::{Axis, Meaning};
use convoke_cluster::shard::RankGrid;
use convoke_cluster::workload::{Inputs, Resources};
use convoke_cluster::{BadValue, Comm, Ctx, Fields, Plan, Progress, Region, Result, Results};
use convoke_kernels::ParallelGeometry;

use super::centre::{self, Centre, CentreParams};
use super::input::Source;
use super::plan;
use super::regularised::{Prior, Regularised, settled};
use super::spec::Spec;
use super::views;
use super::window::{self, Window};

/// A reconstruction under way.
#[derive(Debug)]
pub(super) struct Parallel {
    spec: Spec,
    source: Source,
    geometry: ParallelGeometry,
    centre: Centre,
    grid: RankGrid,
    group: Comm,
    column: Comm,
    /// First slice of the window under way, or of the next one.
    next: u64,
    /// Slices of the window under way; 0 between windows.
    window_len: u64,
    /// Iterations done in this window.
    iteration: u64,
    window: Option<Window>,
    /// Dead pixels, hot values and clipped values of the windows that are done, on all ranks.
    repairs: [u64; 3],
    /// Slices that one window may have.
    window_limit: usize,
    /// A denoiser, for algorithms that have one.
    prior: Option<Prior>,
}

impl Parallel {
    pub(super) fn plan(spec: &Spec, inputs: &Inputs, resources: &Resources) -> Result<Plan> {
        let source = Source::open(spec, inputs, 0)?;
        let (spec, note) = &settled(spec, &source.angles_rad);
        views::check_count(&spec.method, source.angles_rad.len(), None)?;
        let mut plan = plan::plan(spec, &source, resources)?;
        plan.notes.extend(note.clone());
        views::check_count(&spec.method, source.angles_rad.len(), Some(&mut plan))?;
        let size = spec.volume.size.unwrap_or(source.n_cols);
        if let Some(prior) = Prior::open(&spec.method, (inputs, &source.angles_rad), (source.n_rows, size), (1.0, 0))? {
            prior.bill(&mut plan, resources.threads);
        }
        Ok(plan)
    }

    pub(super) fn new(spec: &Spec, ctx: &Ctx) -> Result<Self> {
        let source = Source::open(spec, &ctx.inputs, ctx.seed)?;
        let (spec, _) = settled(spec, &source.angles_rad);
        views::check_count(&spec.method, source.angles_rad.len(), None)?;
        let grid = RankGrid::fit(ctx.comm.size(), source.n_rows);
        let (slab, place) = grid.place(ctx.comm.rank());
        let (group, column) = (ctx.comm.split(slab, place)?, ctx.comm.split(place, slab)?);
        let centre = find_centre(&spec, &source, &ctx.comm)?;
        let geometry = geometry(&spec, &source, centre.column);
        let window_limit = plan::window_len(&spec, &source, &ctx.resources);
        let voxel = source.pixel.0 / geometry.col_pitch;
        let scan = (&ctx.inputs, &source.angles_rad[..]);
        let prior = Prior::open(&spec.method, scan, (source.n_rows, geometry.nx), (voxel, ctx.seed))?;
        let mut job = Self {
            spec,
            prior,
            geometry,
            centre,
            grid,
            group,
            column,
            next: 0,
            window_len: 0,
            iteration: 0,
            window: None,
            repairs: [0; 3],
            window_limit,
            source,
        };
        // All data are read and checked before anything is computed or written.
        if job.single_window() {
            job.open_window(ctx)?;
            job.window.as_mut().and_then(Window::regularised).map_or(Ok(()), Regularised::check)?;
        } else {
            job.check_all(ctx)?;
        }
        Ok(job)
    }

    pub(super) fn step(&mut self, ctx: &Ctx) -> Result<Progress> {
        if self.window.is_none() {
            self.open_window(ctx)?;
        }
        let slices = self.window_len as f64;
        let window = self.window.as_mut().expect("a window is open");
        let report = window.step(&ctx.comm, self.iteration)?;
        self.iteration += 1;
        let total = self.spec.method.n_steps();
        let window_done = self.iteration >= total || report.active == 0;
        let fraction_of_window = if window_done { 1.0 } else { self.iteration as f64 / total as f64 };
        let fraction = (self.next as f64 + slices * fraction_of_window) / self.source.n_rows as f64;
        let done = window_done && self.next + self.window_len >= self.source.n_rows as u64;
        if window_done {
            self.count_repairs(&ctx.comm)?;
        }
        if window_done && !(done && self.single_window()) {
            self.close_window(ctx)?;
        }
        let projections = report.projections;
        Ok(Progress {
            done,
            fraction,
            work: projections * slices * plan::updates_per_slice(&self.geometry),
            metrics: report.metrics,
        })
    }

    pub(super) fn fields<'a>(&'a mut self, fields: &mut Fields<'a>) {
        fields.counter("next", &mut self.next);
        fields.counter("window_len", &mut self.window_len);
        fields.counter("iteration", &mut self.iteration);
        let [dead, hot, clipped] = &mut self.repairs;
        fields.counter("dead_pixels", dead);
        fields.counter("hot_values", hot);
        fields.counter("clipped_values", clipped);
        if let Some(window) = &mut self.window {
            window.fields(fields, self.geometry.angles_rad.len());
        }
    }

    pub(super) fn reshape(&mut self, ctx: &Ctx) -> Result<()> {
        let slices = self.next as usize..(self.next + self.window_len) as usize;
        // Numbers of the window are loaded already: where it is there it stays.
        if self.window.as_ref().is_none_or(|window| window.whole != slices) {
            self.window = if slices.is_empty() { None } else { Some(self.load(ctx, slices)?) };
        }
        Ok(())
    }

    pub(super) fn restored(&mut self) -> Result<()> {
        self.window.as_mut().and_then(Window::regularised).map_or(Ok(()), Regularised::restored)
    }

    pub(super) fn finish(&mut self, ctx: &Ctx, out: &mut Results) -> Result<()> {
        let shape = [self.source.n_rows, self.geometry.ny, self.geometry.nx];
        let (meaning, scale) = (self.meaning(), self.scale());
        match &mut self.window {
            Some(window) => {
                let rows = window.slices.clone();
                let leader = self.group.is_root();
                let part = (Region::rows(&shape, rows), leader);
                out.array("volume", &shape, part, &window.image(scale), &meaning)?;
            }
            None => out.from_pieces("volume", &shape, &ctx.pieces, &meaning)?,
        }
        if let Some(window) = &mut self.window {
            let part = (Region::rows(&shape, window.slices.clone()), self.group.is_root());
            for (name, what, values) in window.regularised().map(Regularised::more).unwrap_or_default() {
                let values: Vec<f32> = values.into_iter().map(|v| scale * v).collect();
                let meaning = Meaning { long_name: what.to_owned(), ..meaning.clone() };
                out.array(name, &shape, part.clone(), &values, &meaning)?;
            }
        }
        if let Some(work) = self.window.as_mut().and_then(Window::regularised) {
            work.finish(out)?;
        }
        out.image("volume", shape, &meaning)?;
        out.figure("rotation_axis_column", self.centre.column)?;
        if self.spec.scan.is_some() {
            for (name, n) in ["dead_pixels", "hot_values", "clipped_values"].into_iter().zip(self.repairs) {
                out.figure(name, n as f64)?;
            }
        }
        if !self.centre.search.is_empty() {
            let (columns, scores): (Vec<f64>, Vec<f64>) = self.centre.search.iter().copied().unzip();
            out.series("centre_column", &columns, "pixel", "candidate column of the rotation axis")?;
            out.series("centre_score", &scores, "1", "score of the candidate, lower is better")?;
        }
        self.compare_with_truth(ctx, out)
    }
}

impl Parallel {
    /// Whether the whole volume is one window, so that it stays in memory to the end.
    fn single_window(&self) -> bool {
        self.window_limit >= self.source.n_rows
    }

    /// Length of a voxel's side in the unit of the source.
    fn voxel(&self) -> f64 {
        self.source.pixel.0 / self.geometry.col_pitch
    }

    /// From attenuation per voxel to attenuation per unit length.
    fn scale(&self) -> f32 {
        (1.0 / self.voxel()) as f32
    }

    fn open_window(&mut self, ctx: &Ctx) -> Result<()> {
        let start = self.next as usize;
        let end = (start + self.window_limit).min(self.source.n_rows);
        self.window = Some(self.load(ctx, start..end)?);
        self.window_len = (end - start) as u64;
        self.iteration = 0;
        Ok(())
    }

    /// This rank's share of a window: its slices, its angles.
    fn load(&self, ctx: &Ctx, slices: Range<usize>) -> Result<Window> {
        let (slab, place) = self.grid.place(ctx.comm.rank());
        Window::load(
            &window::Job {
                spec: &self.spec,
                source: &self.source,
                geometry: &self.geometry,
                device: &ctx.device,
                prior: self.prior.as_ref(),
                slab: (slab, self.grid.slabs),
                place: (place, self.grid.groups),
                group: &self.group,
                column: &self.column,
            },
            slices,
        )
    }

    /// Hands a finished window to the disk.
    fn close_window(&mut self, ctx: &Ctx) -> Result<()> {
        let scale = self.scale();
        let Some(mut window) = self.window.take() else { return Ok(()) };
        let written = if self.group.is_root() && !window.slices.is_empty() {
            let shape = [window.slices.len(), self.geometry.ny, self.geometry.nx];
            let slices = window.slices.clone();
            ctx.pieces.put("volume", slices, &shape, &window.image(scale))
        } else {
            Ok(())
        };
        ctx.comm.agree(written)?;
        self.next += self.window_len;
        self.window_len = 0;
        self.iteration = 0;
        Ok(())
    }

    /// Adds up what was repaired in the window, over its slices.
    fn count_repairs(&mut self, comm: &Comm) -> Result<()> {
        let report = self.window.as_ref().filter(|_| self.group.is_root()).map(|w| w.repairs).unwrap_or_default();
        let mut counts = [report.dead_pixels, report.hot_values, report.clipped_values];
        comm.all_sum(&mut counts)?;
        self.repairs.iter_mut().zip(counts).for_each(|(sum, n)| *sum += n);
        Ok(())
    }

    /// Reads every row once, for its errors alone.
    fn check_all(&self, ctx: &Ctx) -> Result<()> {
        self.source.check(ctx.comm.block(self.source.n_rows)).map(|_| ())
    }

    fn meaning(&self) -> Meaning {
        let voxel = self.voxel();
        let unit = self.source.pixel.1;
        let axis = |name: &str, n: usize, spacing: f64| Axis {
            name: String::from(name),
            unit: unit.to_owned(),
            origin: -(n as f64 - 1.0) / 2.0 * spacing,
            spacing,
        };
        Meaning {
            long_name: "attenuation".to_owned(),
            unit: format!("1/{unit}"),
            axes: vec![
                axis("z", self.source.n_rows, self.source.pixel.0),
                axis("y", self.geometry.ny, voxel),
                axis("x", self.geometry.nx, voxel),
            ],
        }
    }

    /// PSNR and relative error inside the inscribed cylinder, where the object is known.
    fn compare_with_truth(&mut self, ctx: &Ctx, out: &mut Results) -> Result<()> {
        let scale = self.scale();
        let same_grid = self.geometry.nx == self.source.n_cols && self.geometry.col_pitch == 1.0;
        let Some(window) = self.window.as_mut().filter(|_| same_grid) else { return Ok(()) };
        let slices = window.slices.clone();
        let image = window.image(scale);
        let mut errors = Vec::new();
        let slice = self.geometry.nx * self.geometry.ny;
        for (i, row) in slices.enumerate() {
            let Some(truth) = self.source.truth(row..row + 1) else { return Ok(()) };
            errors.push(errors_inside(&image[i * slice..(i + 1) * slice], &truth, self.geometry.nx));
        }
        let leader = self.group.is_root();
        let total = |k: usize| {
            let mine: Vec<f64> = if leader { errors.iter().map(|e| e[k]).collect() } else { Vec::new() };
            ctx.comm.sum_blocks(&mine)
        };
        let (error2, truth2, count) = (total(0)?, total(1)?, total(2)?);
        out.figure("psnr_db", 10.0 * (count / error2).log10())?;
        out.figure("relative_error", (error2 / truth2).sqrt())
    }
}

/// Sums over the inscribed disc of one slice: squared error, squared truth, voxels.
fn errors_inside(image: &[f32], truth: &[f32], n: usize) -> [f64; 3] {
    let mut sums = [0.0; 3];
    for (y, (image, truth)) in image.chunks(n).zip(truth.chunks(n)).enumerate() {
        let y = y as f64 - (n as f64 - 1.0) / 2.0;
        // The columns of this row with |x - (n - 1)/2| <= sqrt((n/2)² - y²).
        let half = ((n as f64 / 2.0).powi(2) - y * y).sqrt();
        let first = ((n as f64 - 1.0) / 2.0 - half).ceil() as usize;
        for (a, b) in image[first..n - first].iter().zip(&truth[first..n - first]) {
            sums[0] += f64::from(a - b).powi(2);
            sums[1] += f64::from(*b).powi(2);
        }
        sums[2] += (n - 2 * first) as f64;
    }
    sums
}

fn geometry(spec: &Spec, source: &Source, axis_col: f64) -> ParallelGeometry {
    let size = spec.volume.size.unwrap_or(source.n_cols);
    ParallelGeometry {
        angles_rad: source.angles_rad.clone(),
        n_cols: source.n_cols,
        col_pitch: 1.0 / spec.volume.voxel_pixels.unwrap_or(1.0),
        axis_col,
        nx: size,
        ny: size,
    }
}

/// The rotation axis: as given, as known, or found by rank 0 from the middle row.
fn find_centre(spec: &Spec, source: &Source, comm: &Comm) -> Result<Centre> {
    let known = spec.centre.column.or(source.known_axis().filter(|_| !spec.centre.find));
    if let Some(column) = known {
        return Ok(Centre { column, guess: column, search: Vec::new() });
    }
    let found = comm.agree(if comm.is_root() { search_centre(source).map(Some) } else { Ok(None) })?;
    let Centre { column, guess, search } = found.unwrap_or(Centre { column: 0.0, guess: 0.0, search: Vec::new() });
    let numbers: Vec<f64> = [column, guess].into_iter().chain(search.iter().flat_map(|(c, s)| [*c, *s])).collect();
    let numbers: Vec<f64> = comm.all_gather(if comm.is_root() { &numbers } else { &[] })?.swap_remove(0);
    let search = numbers[2..].chunks(2).map(|pair| (pair[0], pair[1])).collect();
    Ok(Centre { column: numbers[0], guess: numbers[1], search })
}

fn search_centre(source: &Source) -> Result<Centre> {
    let row = source.n_rows / 2;
    let (sinogram, _) = source.projections(row..row + 1)?;
    let found = centre::find(&sinogram, source.n_cols, &source.angles_rad, &CentreParams::default());
    found.map_err(|error| {
        BadValue::wrong("problem.centre", format!("the rotation axis cannot be found: {error}")).into()
    })
}
