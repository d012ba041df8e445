//! FDK: views weighed, filtered and back-projected, some in each step; the volume in windows where it does not fit.

use std::ops::Range;
use std::sync::Arc;

use convoke_cluster::{Ctx, Fields, Progress, Region, Result, block};
use convoke_kernels::cone::weights::FdkWeights;
use convoke_kernels::{Buffer, ConeFootprint, ConeGeometry, ConePart, ConeProjector, Padding, RampFilter, RampParams};

use super::bands::{Bands, slab_of};
use super::input::Input;
use super::{Place, disc, plan, setup};
use crate::tomography::normalise::NormaliseReport;
use crate::tomography::spec::{FilterKind, Spec};

/// A window of slices under way.
#[derive(Debug)]
pub(super) struct Direct {
    fdk: FdkWeights,
    /// Steps of a window, and whether each reads its views when it comes to them.
    pub(super) parts: u64,
    pub(super) by_step: bool,
    /// Slices that one window may have.
    pub(super) limit: usize,
    /// First slice of the window under way, or of the next one.
    pub(super) next: u64,
    /// Its slices; 0 between windows.
    pub(super) len: u64,
    /// Parts of the views that it has.
    pub(super) part: u64,
    /// The window that data and image are of.
    opened: Range<usize>,
    /// Global slices that are here, and the detector rows that they touch.
    slices: Range<usize>,
    rows: Range<usize>,
    /// `[rows, views, n_cols]`; empty where views are read step by step.
    data: Vec<f32>,
    /// `[slices, y, x]`.
    pub(super) image: Vec<f32>,
}

/// Whether the views of each step are read when it comes to them, and not all of a window before.
pub(super) fn reads_by_step(spec: &Spec, input: &Input) -> bool {
    spec.method.algorithm.is_direct() && !input.needs_all_views() && plan::parts(spec, &input.geometry) > 1
}

impl Direct {
    /// Reads all projections for their errors; keeps them where they are needed at once and the volume is one window. Collective.
    pub fn new(spec: &Spec, ctx: &Ctx, input: &Input, place: &Place) -> Result<(Self, NormaliseReport)> {
        let g = &input.geometry;
        let fdk = FdkWeights::new(g).map_err(setup::bad_geometry)?;
        // Ranks may see different amounts of free memory: the shortest window is that of all.
        let limit = plan::window_len(spec, input, &ctx.resources)? as u64;
        let limit = (u64::MAX - ctx.comm.all_max(u64::MAX - limit)?) as usize;
        let (parts, by_step) = (plan::parts(spec, g), reads_by_step(spec, input));
        let (opened, slices, rows) = Default::default();
        let (data, image) = Default::default();
        let mut job = Self { fdk, parts, by_step, limit, next: 0, len: 0, part: 0, opened, slices, rows, data, image };
        let repairs = if job.is_one_window(g) && !by_step {
            job.open(ctx, input, place, 0..g.shape[0])?
        } else {
            let rows = Bands::new(g, place.grid.slabs, ConeFootprint::Linear).of(place.slab);
            ctx.comm.agree(input.check(rows))?
        };
        Ok((job, repairs))
    }

    /// Whether the volume stays in memory to the end.
    fn is_one_window(&self, g: &ConeGeometry) -> bool {
        self.limit >= g.shape[0]
    }

    /// The image, if the volume is one window.
    pub fn volume(&self) -> Option<&[f32]> {
        (self.len > 0).then_some(self.image.as_slice())
    }

    /// Begins a window: its data where they are not read step by step, an image of zeros. Collective.
    fn open(&mut self, ctx: &Ctx, input: &Input, place: &Place, whole: Range<usize>) -> Result<NormaliseReport> {
        let g = &input.geometry;
        self.slices = slab_of(&whole, place.slab, place.grid.slabs);
        self.rows = Bands::of_window(g, whole.clone(), place.grid.slabs, ConeFootprint::Linear).of(place.slab);
        let read = if self.by_step {
            Ok(Default::default())
        } else {
            input.projections(self.rows.clone(), &place.views.clone().collect::<Vec<_>>())
        };
        let (data, repairs) = ctx.comm.agree(read)?;
        self.data = data;
        self.image = vec![0.0; self.slices.len() * g.slice_len()];
        (self.next, self.len, self.part) = (whole.start as u64, whole.len() as u64, 0);
        self.opened = whole;
        Ok(repairs)
    }

    /// Some of the views. Collective.
    pub fn step(&mut self, spec: &Spec, ctx: &Ctx, input: &Input, place: &Place) -> Result<Progress> {
        let g = &input.geometry;
        let parts = self.parts;
        if self.len == 0 {
            let start = self.next as usize;
            self.open(ctx, input, place, start..(start + self.limit).min(g.shape[0]))?;
        }
        let part = block(place.views.len(), self.part as usize, parts as usize);
        let views = place.views.start + part.start..place.views.start + part.end;
        let data = ctx.comm.agree(self.read(input, place, part))?;
        self.add(spec, ctx, place, views, data)?;
        self.part += 1;
        let of_volume = self.len as f64 / g.shape[0] as f64;
        let work = plan::updates(g) * of_volume / parts as f64;
        let fraction = self.next as f64 / g.shape[0] as f64 + of_volume * self.part as f64 / parts as f64;
        let done = self.part == parts && self.next + self.len == g.shape[0] as u64;
        if self.part == parts {
            if let Some(radius) = spec.method.mask_radius {
                let disc = disc(g, radius);
                let slices = self.image.chunks_mut(g.slice_len());
                slices.for_each(|slice| slice.iter_mut().zip(&disc).for_each(|(v, m)| *v *= m));
            }
            if self.len < g.shape[0] as u64 {
                self.close(ctx, g, place)?;
            }
        }
        Ok(Progress { done, fraction: if done { 1.0 } else { fraction }, work, metrics: Vec::new() })
    }

    /// Hands a finished window to the disk. Collective.
    fn close(&mut self, ctx: &Ctx, g: &ConeGeometry, place: &Place) -> Result<()> {
        let image = std::mem::take(&mut self.image);
        let written = if place.group.is_root() && !self.slices.is_empty() {
            let shape = [self.slices.len(), g.shape[1], g.shape[2]];
            ctx.pieces.put("volume", self.slices.clone(), &shape, &image)
        } else {
            Ok(())
        };
        ctx.comm.agree(written)?;
        (self.opened, self.data) = Default::default();
        (self.next, self.len, self.part) = (self.next + self.len, 0, 0);
        Ok(())
    }

    pub fn fields<'a>(&'a mut self, fields: &mut Fields<'a>, g: &ConeGeometry, leader: bool) {
        let (start, len) = (self.next as usize, self.len as usize);
        fields.counter("next", &mut self.next);
        fields.counter("window_len", &mut self.len);
        fields.counter("part", &mut self.part);
        if len > 0 {
            let shape = [len, g.shape[1], g.shape[2]];
            let region = Region::rows(&shape, self.slices.start - start..self.slices.end - start);
            fields.array("image", &shape, region, self.image.as_mut_slice()).owned = leader;
        }
    }

    /// The window that the counters name, unless it is open. Collective.
    pub fn reshape(&mut self, ctx: &Ctx, input: &Input, place: &Place) -> Result<()> {
        let (whole, part) = (self.next as usize..(self.next + self.len) as usize, self.part);
        if whole.is_empty() {
            (self.opened, self.data, self.image) = Default::default();
        } else if self.opened != whole {
            self.open(ctx, input, place, whole)?;
            self.part = part;
        }
        Ok(())
    }

    /// Some of the views that are here: `part` of them.
    fn read(&mut self, input: &Input, place: &Place, part: Range<usize>) -> Result<Vec<f32>> {
        let here = &place.views;
        if self.by_step {
            return input.some(self.rows.clone(), here.start + part.start..here.start + part.end);
        }
        if part.len() == here.len() {
            return Ok(std::mem::take(&mut self.data));
        }
        let n_cols = input.geometry.n_cols;
        let of_row = |row: &[f32]| row[part.start * n_cols..part.end * n_cols].to_vec();
        Ok(self.data.chunks((here.len() * n_cols).max(1)).flat_map(of_row).collect())
    }

    /// Weighs, filters and back-projects views, and adds them to the image. Collective over the group.
    fn add(&mut self, spec: &Spec, ctx: &Ctx, place: &Place, views: Range<usize>, data: Vec<f32>) -> Result<()> {
        let mut sum = Buffer::zeros(&ctx.device, self.image.len())?;
        if !self.image.is_empty() && !data.is_empty() {
            let views: Vec<usize> = views.collect();
            let mut filtered = Buffer::from_vec(&ctx.device, self.fdk.weigh(&self.rows, &views, &data))?;
            drop(data);
            let method = &spec.method;
            let params = RampParams {
                n_cols: self.fdk.geometry.n_cols,
                col_pitch: self.fdk.pitch_at_axis,
                window: method.filter.unwrap_or(FilterKind::RamLak).into(),
                cutoff: method.cutoff.unwrap_or(1.0),
                padding: if method.pad_edges == Some(true) { Padding::Edge } else { Padding::Zero },
            };
            RampFilter::new(&ctx.device, params)?.apply(views.len(), &mut filtered)?;
            let weights: Vec<f32> = views.iter().map(|v| self.fdk.views[*v]).collect();
            let part = ConePart { slices: self.slices.clone(), rows: self.rows.clone(), views };
            let geometry = Arc::new(self.fdk.geometry.clone());
            let projector = ConeProjector::new(&ctx.device, geometry, part, ConeFootprint::Linear)?;
            projector.back_filtered(&weights, &mut filtered, &mut sum)?;
        }
        if place.group.size() > 1 {
            place.group.all_sum(sum.host_mut())?;
        }
        if self.part == 0 {
            self.image = sum.into_vec();
        } else {
            self.image.iter_mut().zip(sum.host()).for_each(|(a, b)| *a += b);
        }
        Ok(())
    }
}
