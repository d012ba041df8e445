//! A window of slices: this rank's projections of it, and the reconstruction under way.

use std::borrow::Cow;
use std::ops::Range;

use convoke_cluster::{Comm, Fields, Result, block};
use convoke_kernels::{Buffer, Device, Padding, ParallelGeometry, RampParams};

use super::input::Source;
use super::methods::{self, Iteration, Share, Views};
use super::normalise::NormaliseReport;
use super::regularised::{Measured, ParallelRays, Prior, Regularised};
use super::spec::{Algorithm, MethodSpec, Spec};
use super::views::OfferedRays;
use super::{angles, spec};
use crate::inverse::Operator;

/// What a window is loaded from.
#[derive(Debug)]
pub(super) struct Job<'a> {
    pub spec: &'a Spec,
    pub source: &'a Source,
    pub geometry: &'a ParallelGeometry,
    pub device: &'a Device,
    /// A denoiser, for algorithms that have one.
    pub prior: Option<&'a Prior>,
    /// Which slab of how many.
    pub slab: (usize, usize),
    /// Which angle group of how many.
    pub place: (usize, usize),
    pub group: &'a Comm,
    /// The ranks with the same angles, one for each slab.
    pub column: &'a Comm,
}

/// This rank's share of a window.
#[derive(Debug)]
pub(super) struct Window {
    /// Global slices that are here.
    pub slices: Range<usize>,
    /// Global slices of the whole window.
    pub whole: Range<usize>,
    /// Global angles that are here.
    angles: Range<usize>,
    /// What was repaired in these slices.
    pub repairs: NormaliseReport,
    /// Voxel updates of a projection of the window.
    updates: f64,
    work: Work,
}

#[derive(Debug)]
enum Work {
    /// Projections that wait for filtered back projection.
    Direct(Option<Box<Direct>>),
    /// The image that it gave.
    Image(Vec<f32>),
    Iterative(Box<Iteration>),
    /// The whole volume as one problem.
    Regularised(Box<Regularised>),
}

#[derive(Debug)]
struct Direct {
    share: Share,
    views: Views,
    weights: Vec<f64>,
    filter: RampParams,
    mask: Option<Vec<f32>>,
}

/// What a step reports.
#[derive(Debug)]
pub(super) struct Report {
    /// Slices of the whole window that go on.
    pub active: u64,
    /// Projections and back projections that it took.
    pub projections: f64,
    pub metrics: Vec<(&'static str, f64)>,
}

impl Window {
    /// Reads and cleans this rank's projections. No communication.
    pub fn load(job: &Job<'_>, whole: Range<usize>) -> Result<Self> {
        let mine = block(whole.len(), job.slab.0, job.slab.1);
        let slices = whole.start + mine.start..whole.start + mine.end;
        let angles = block(job.geometry.angles_rad.len(), job.place.0, job.place.1);
        let (data, repairs) = job.source.projections(slices.clone())?;
        let share = Share {
            n_slices: slices.len(),
            n_cols: job.geometry.n_cols,
            shape: [job.geometry.ny, job.geometry.nx],
            group: job.group.clone(),
            device: job.device.clone(),
        };
        let method = &job.spec.method;
        let mask = method.mask_radius.map(|radius| disc(share.shape, radius));
        let work = if method.algorithm == Algorithm::Fbp {
            Work::Direct(Some(Box::new(direct(job, share, data, angles.clone(), mask)?)))
        } else if method.algorithm.is_whole() {
            Work::Regularised(Box::new(regularised(
                job,
                share,
                data,
                (slices.clone(), whole.len()),
                angles.clone(),
                mask,
            )?))
        } else {
            Work::Iterative(Box::new(iterative(job, share, data, angles.clone(), mask)?))
        };
        let updates = whole.len() as f64 * super::plan::updates_per_slice(job.geometry);
        Ok(Self { slices, whole, angles, repairs, updates, work })
    }

    /// One step. Collective.
    pub fn step(&mut self, comm: &Comm, iteration: u64) -> Result<Report> {
        match &mut self.work {
            Work::Direct(waiting) => {
                let Direct { share, views, weights, filter, mask } = *waiting.take().expect("back-projected once");
                let image = methods::fbp(&share, views, &weights, filter, mask.as_deref())?;
                self.work = Work::Image(image);
                Ok(Report { active: 0, projections: 1.0, metrics: Vec::new() })
            }
            Work::Image(_) => Ok(Report { active: 0, projections: 0.0, metrics: Vec::new() }),
            Work::Regularised(work) => {
                let report = work.step(iteration)?;
                let active = if report.done { 0 } else { self.whole.len() as u64 };
                Ok(Report { active, projections: work.projections(iteration, self.updates), metrics: report.metrics })
            }
            Work::Iterative(work) => {
                let residuals = work.step(iteration)?;
                // Sums over slices in global order, each slice from the leader of its group.
                let leads = work.leads();
                let mine = |v: &[f64]| if leads { v.to_vec() } else { Vec::new() };
                let residual2 = comm.sum_blocks(&mine(&residuals.residual2))?;
                let data2 = comm.sum_blocks(&mine(&residuals.data2))?;
                let active = comm.sum_blocks(&[if leads { residuals.active as f64 } else { 0.0 }])?;
                let relative = if data2 > 0.0 { (residual2 / data2).sqrt() } else { 0.0 };
                let projections = 2.0;
                Ok(Report {
                    active: active as u64,
                    projections,
                    metrics: vec![("residual", relative), ("active_slices", active)],
                })
            }
        }
    }

    pub fn fields<'a>(&'a mut self, fields: &mut Fields<'a>, n_angles: usize) {
        let start = self.whole.start;
        let rows = self.slices.start - start..self.slices.end - start;
        match &mut self.work {
            Work::Iterative(work) => {
                work.fields(fields, [self.whole.len(), n_angles], (rows, self.angles.clone()));
            }
            Work::Regularised(work) => work.fields(fields),
            Work::Direct(_) | Work::Image(_) => (),
        }
    }

    /// The whole volume as one problem, if it is that.
    pub fn regularised(&mut self) -> Option<&mut Regularised> {
        match &mut self.work {
            Work::Regularised(work) => Some(work),
            _ => None,
        }
    }

    /// The image of this rank's slices, times `scale`; a copy only where that changes it.
    pub fn image(&mut self, scale: f32) -> Cow<'_, [f32]> {
        let image = match &mut self.work {
            Work::Direct(_) => &[],
            Work::Image(image) => image.as_slice(),
            Work::Iterative(work) => work.image.host(),
            Work::Regularised(work) => work.image(),
        };
        if scale == 1.0 { image.into() } else { image.iter().map(|v| v * scale).collect() }
    }
}

fn direct(job: &Job<'_>, share: Share, data: Vec<f32>, here: Range<usize>, mask: Option<Vec<f32>>) -> Result<Direct> {
    let method = &job.spec.method;
    let views = views(job, data, &share, &here.clone().collect::<Vec<_>>())?;
    let weights = angles::weights(&job.geometry.angles_rad)[here].to_vec();
    let filter = RampParams {
        n_cols: job.geometry.n_cols,
        col_pitch: job.geometry.col_pitch,
        window: method.filter.unwrap_or(spec::FilterKind::RamLak).into(),
        cutoff: method.cutoff.unwrap_or(1.0),
        padding: if method.pad_edges == Some(true) { Padding::Edge } else { Padding::Zero },
    };
    Ok(Direct { share, views, weights, filter, mask })
}

fn iterative(
    job: &Job<'_>,
    share: Share,
    data: Vec<f32>,
    here: Range<usize>,
    mask: Option<Vec<f32>>,
) -> Result<Iteration> {
    let method: &MethodSpec = &job.spec.method;
    let n = method.n_subsets();
    let mut subsets = Vec::new();
    for k in 0..n {
        // By global number, so that the subsets do not depend on who holds which angles.
        let angles: Vec<usize> = here.clone().filter(|i| i % n == k).collect();
        subsets.push(views(job, data.clone(), &share, &angles)?);
    }
    Iteration::new(share, subsets, angles::subset_order(n), method, mask)
}

fn regularised(
    job: &Job<'_>,
    share: Share,
    data: Vec<f32>,
    slices: (Range<usize>, usize),
    here: Range<usize>,
    mask: Option<Vec<f32>>,
) -> Result<Regularised> {
    let n_angles = job.geometry.angles_rad.len();
    let count = (slices.1 * n_angles * share.n_cols) as f64;
    let method = &job.spec.method;
    let (operator, data): (Box<dyn Operator>, _) = if method.views.is_some() {
        let ranks = (share, job.column.clone());
        (Box::new(OfferedRays::new(ranks, (method, job.geometry), data, slices, job.place)?), Vec::new())
    } else {
        let views = views(job, data, &share, &here.clone().collect::<Vec<_>>())?;
        let (operator, data) = ParallelRays::new(share, views, job.column.clone(), slices, (here, n_angles))?;
        (Box::new(operator), data)
    };
    let data = Buffer::from_vec(operator.device(), data)?;
    let measured = Measured { data, count, noise: job.source.noise(), prior: job.prior.cloned() };
    Regularised::new(operator, measured, method, (mask, n_angles))
}

/// The rows of `data` (`[n_slices, all angles, n_cols]`) that belong to `angles`.
fn views(job: &Job<'_>, data: Vec<f32>, share: &Share, angles: &[usize]) -> Result<Views> {
    let (n_all, n_cols) = (job.geometry.angles_rad.len(), job.geometry.n_cols);
    let projector = methods::projector(job.device, job.geometry, angles, &job.spec.method)?;
    let data = if angles.len() == n_all {
        data
    } else {
        let row = |s: usize, a: usize| &data[(s * n_all + a) * n_cols..][..n_cols];
        let rows = (0..share.n_slices).flat_map(|s| angles.iter().flat_map(move |a| row(s, *a)));
        rows.copied().collect()
    };
    Ok(Views { projector, data: Buffer::from_vec(job.device, data)? })
}

/// 1 inside `radius` times the inscribed circle, else 0.
fn disc(shape: [usize; 2], radius: f64) -> Vec<f32> {
    let [ny, nx] = shape;
    let limit = radius * ny.min(nx) as f64 / 2.0;
    let centred = |i: usize, n: usize| i as f64 - (n as f64 - 1.0) / 2.0;
    let inside = |i: usize| centred(i / nx, ny).hypot(centred(i % nx, nx)) <= limit;
    (0..ny * nx).map(|i| f32::from(u8::from(inside(i)))).collect()
}
