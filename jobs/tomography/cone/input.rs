//! Projections of point sources: a measured scan, or a generated object with exact projections.
//!
//! A value is a function of the job and of its row, view and column alone: ranks that ask for the same one get the same bits.

use std::ops::Range;
use std::sync::Arc;

use convoke_cluster::Result;
use convoke_cluster::workload::Inputs;
use convoke_data::problems::phantom::Phantom;
use convoke_data::problems::rays::PointView;
use convoke_kernels::{ConeGeometry, ConeView};
use rayon::prelude::*;

use super::setup;
use crate::tomography::cleaning::RingsSpec;
use crate::tomography::input::{BAND as CHECKED, NoiseModel, Photons, Source, count_photons, object};
use crate::tomography::normalise::NormaliseReport;
use crate::tomography::rings::{self, Rings};
use crate::tomography::spec::Spec;

/// Projections and their geometry.
#[derive(Debug)]
pub(super) struct Input {
    pub geometry: Arc<ConeGeometry>,
    kind: Kind,
    rings: Option<Rings>,
    /// What the user should know about the input.
    pub notes: Vec<String>,
}

#[derive(Debug)]
enum Kind {
    Scan(Box<Source>),
    Phantom {
        object: Phantom,
        views: Vec<PointView>,
        half_mm: f64,
        photons: Option<Photons>,
        attenuation: f64,
        seed: u64,
    },
}

impl Input {
    /// Opens the source and checks its header and its geometry; reads no projection.
    pub fn open(spec: &Spec, inputs: &Inputs, seed: u64) -> Result<Self> {
        let rings = spec.rings.as_ref().map(RingsSpec::method);
        let Some(phantom) = &spec.phantom else {
            // The source cleans rings itself.
            let source = Source::open(spec, inputs, seed)?;
            let geometry = setup::geometry(spec, inputs, &source.angles_rad, [source.n_rows, source.n_cols])?;
            let notes = source.notes.clone();
            return Ok(Self { geometry, kind: Kind::Scan(Box::new(source)), rings: None, notes });
        };
        let step = phantom.arc_degrees.to_radians() / phantom.angles as f64;
        let angles: Vec<f64> = (0..phantom.angles).map(|i| step * i as f64).collect();
        let detector = [phantom.rows.unwrap_or(phantom.size), phantom.columns.unwrap_or(phantom.size)];
        let geometry = setup::geometry(spec, inputs, &angles, detector)?;
        // The object's cube [-1, 1]^3 is `size` voxels wide.
        let half_mm = geometry.voxel * phantom.size as f64 / 2.0;
        let scaled = |v: [f64; 3]| v.map(|x| x / half_mm);
        let views = geometry.views.iter().map(|v| PointView {
            source: scaled(v.source),
            origin: scaled(v.origin),
            along_u: scaled(v.along_u),
            along_v: scaled(v.along_v),
        });
        let kind = Kind::Phantom {
            object: object(phantom, seed),
            views: views.collect(),
            half_mm,
            // From the attenuation of a voxel to that of a mm.
            photons: Photons::of(phantom, phantom.attenuation_per_voxel / geometry.voxel),
            attenuation: phantom.attenuation_per_voxel / geometry.voxel,
            seed,
        };
        Ok(Self { geometry, kind, rings, notes: Vec::new() })
    }

    /// Directions of the rays through the middle of the detector, seen along the axis.
    pub fn angles_rad(&self) -> Vec<f64> {
        let g = &self.geometry;
        let (column, row) = ((g.n_cols as f64 - 1.0) / 2.0, (g.n_rows as f64 - 1.0) / 2.0);
        let along = |v: &ConeView, k: usize| v.origin[k] + column * v.along_u[k] + row * v.along_v[k] - v.source[k];
        g.views.iter().map(|v| along(v, 1).atan2(along(v, 0))).collect()
    }

    /// The object on the volume's grid, slices `slices`, if it is known there: every voxel the mean of 3³ points.
    pub fn truth(&self, spec: &Spec, slices: Range<usize>) -> Option<Vec<f32>> {
        let g = &self.geometry;
        match &self.kind {
            Kind::Phantom { object, .. } if spec.phantom.as_ref().is_some_and(|p| p.size == g.shape[2]) => {
                (g.centre == [0.0; 3]).then(|| object.voxels(g.shape, slices, 3))
            }
            _ => None,
        }
    }

    /// What is known of the noise.
    pub fn noise(&self) -> NoiseModel {
        match &self.kind {
            Kind::Scan(source) => source.noise(),
            Kind::Phantom { photons: Some(photons), .. } => photons.noise(),
            Kind::Phantom { photons: None, attenuation, .. } => NoiseModel::unknown(*attenuation),
        }
    }

    /// Whether it is measured, so that it can be damaged.
    pub fn is_scan(&self) -> bool {
        matches!(self.kind, Kind::Scan(_))
    }

    /// Bytes that [`Input::projections`] holds for one row besides what it returns.
    pub fn overhead_per_row(&self) -> u64 {
        match &self.kind {
            Kind::Scan(source) => {
                let all = source.angles_rad.len();
                source.overhead_per_row(all) + (all * source.n_cols * 4) as u64
            }
            Kind::Phantom { .. } => 0,
        }
    }

    /// Bytes that the reading of a scan holds however few rows it is asked for.
    pub fn overhead(&self, threads: usize) -> u64 {
        match &self.kind {
            Kind::Scan(source) => source.overhead(threads),
            Kind::Phantom { .. } => 0,
        }
    }

    /// Bytes that [`Input::check`] of many rows and [`Input::some`] of `rows` rows and `views` views hold besides what they return.
    pub fn overhead_of_steps(&self, rows: u64, views: usize) -> u64 {
        match &self.kind {
            Kind::Scan(source) => (rows * source.overhead_per_row(views)).max(CHECKED as u64 * self.overhead_per_row()),
            Kind::Phantom { .. } => 0,
        }
    }

    /// Rows that should be read together, for the work that they share.
    pub fn rows_together(&self) -> usize {
        match &self.kind {
            Kind::Scan(source) => source.rows_together(),
            Kind::Phantom { .. } => CHECKED,
        }
    }

    /// Whether the cleaning of a view looks at others, so that all of a row come at once.
    pub fn needs_all_views(&self) -> bool {
        match &self.kind {
            Kind::Scan(source) => source.needs_all_angles(),
            Kind::Phantom { .. } => self.rings.is_some(),
        }
    }

    /// Reads rows for their errors alone, a few at a time, and counts what was repaired.
    ///
    /// # Errors
    /// Data errors of a scan.
    pub fn check(&self, rows: Range<usize>) -> Result<NormaliseReport> {
        match &self.kind {
            Kind::Scan(source) => source.check(rows),
            Kind::Phantom { .. } => Ok(NormaliseReport::default()),
        }
    }

    /// Line integrals of some rows and of views that follow each other, where cleaning allows it: `[rows, views, n_cols]`.
    ///
    /// # Errors
    /// Data errors of a scan.
    pub fn some(&self, rows: Range<usize>, views: Range<usize>) -> Result<Vec<f32>> {
        match &self.kind {
            Kind::Scan(_) if rows.is_empty() || views.is_empty() => Ok(Vec::new()),
            Kind::Scan(source) => source.some_measured(rows, views),
            Kind::Phantom { .. } => Ok(self.projections(rows, &views.collect::<Vec<_>>())?.0),
        }
    }

    /// Line integrals of some rows and views, `[rows, views, n_cols]`.
    ///
    /// # Errors
    /// Data errors of a scan.
    pub fn projections(&self, rows: Range<usize>, views: &[usize]) -> Result<(Vec<f32>, NormaliseReport)> {
        let (n_cols, n_views) = (self.geometry.n_cols, self.geometry.views.len());
        if rows.is_empty() || views.is_empty() {
            return Ok(Default::default());
        }
        match &self.kind {
            Kind::Scan(source) => {
                let n_rows = rows.len();
                let (all, report) = source.projections(rows)?;
                if views.len() == n_views {
                    return Ok((all, report));
                }
                let line = |row: usize, view: &usize| &all[(row * n_views + view) * n_cols..][..n_cols];
                let some = (0..n_rows).flat_map(|row| views.iter().flat_map(move |view| line(row, view)));
                Ok((some.copied().collect(), report))
            }
            Kind::Phantom { object, views: rays, half_mm, photons, seed, .. } => {
                let rays: Vec<PointView> = views.iter().map(|v| rays[*v]).collect();
                let mut data = object.point_integrals(&rays, rows.clone(), n_cols);
                data.par_iter_mut().for_each(|p| *p *= *half_mm as f32);
                if let Some(photons) = photons {
                    let index = |i: usize| {
                        let (row, view, col) = (i / n_cols / views.len(), i / n_cols % views.len(), i % n_cols);
                        (((rows.start + row) * n_views + views[view]) * n_cols + col) as u64
                    };
                    count_photons(&mut data, index, photons, *seed);
                }
                if let Some(rings) = self.rings {
                    data.par_chunks_mut(views.len() * n_cols)
                        .for_each(|row| rings::remove(row, n_cols, rings, self.noise().attenuation));
                }
                Ok((data, NormaliseReport::default()))
            }
        }
    }
}
