//! Reconstructions of the whole volume as one problem, by the solvers of the room `inverse`.

use std::sync::Arc;

use convoke_cluster::workload::Inputs;
use convoke_cluster::{Comm, Fields, Plan, Region, Result, Results};
use convoke_kernels::{Buffer, Device, Slices};
use rayon::prelude::*;

use super::methods::{Share, Views};
use super::spec::{Algorithm, MethodSpec, WeightsKind};
use crate::inverse::diffusion::{DiffusionSpec, Method};
use crate::inverse::place::Place;
use crate::inverse::price::{Pass, Price};
use crate::inverse::tv::{Noise, TotalVariation, TvParams};
use crate::inverse::weighted::Weighted;
use crate::inverse::{Operator, Report, Solver, lsqr, vectors};
use crate::prior::Learnt;

/// An operator and the solver that uses it.
#[derive(Debug)]
pub(super) struct Regularised {
    operator: Box<dyn Operator>,
    solver: Box<dyn Solver>,
    price: Price,
    /// Voxel updates of a step beside those of projections, all ranks together.
    more: f64,
}

/// A denoiser as prior, ready to use.
#[derive(Debug, Clone)]
pub(super) struct Prior {
    method: Method,
    spec: DiffusionSpec,
    denoiser: Arc<dyn Learnt>,
    /// Value of the image that is 1 for the denoiser, in the solver's unit.
    scale: f64,
    seed: u64,
    /// Slices of the volume, and points along their axes.
    shape: (usize, usize),
}

impl Prior {
    /// Of a job, if its algorithm has one; a unit of the solver's image is `unit` of the job's. `shape`: slices, and points along their axes.
    pub fn open(
        method: &MethodSpec,
        inputs: &Inputs,
        shape: (usize, usize),
        (unit, seed): (f64, u64),
    ) -> Result<Option<Self>> {
        let Some(kind) = method.algorithm.prior() else { return Ok(None) };
        let spec = method.diffusion.clone().unwrap_or_default();
        let denoiser = spec.denoiser(inputs, [shape.1; 2])?;
        Ok(Some(Self { method: kind, scale: spec.scale * unit, spec, denoiser, seed, shape }))
    }

    /// Multiplications and additions of the denoiser in a step: they count as voxel updates.
    pub fn updates(&self) -> f64 {
        self.spec.denoising(self.method, &*self.denoiser, self.shape.0, [self.shape.1; 2])
    }

    /// Adds the denoiser to the bill.
    pub fn bill(&self, plan: &mut Plan, threads: usize) {
        let bytes = self.denoiser.memory(threads, [self.shape.1; 2]);
        plan.holds("denoiser and values inside of it", bytes);
        plan.work += plan.steps as f64 * self.updates();
        plan.result_bytes *= if self.spec.samples > 1 { 4 } else { 1 };
        plan.notes.push("multiplications and additions of the denoiser count as voxel updates".to_owned());
        plan.notes.push(DiffusionSpec::denoised_by(&*self.denoiser));
    }
}

/// Measured projections and what is known of their noise.
#[derive(Debug)]
pub(super) struct Measured {
    /// In the operator's order.
    pub data: Vec<f32>,
    /// How many there are on all ranks.
    pub count: f64,
    /// −ln T of a projection of value 1.
    pub attenuation: f64,
    /// Standard deviation of the noise of a ray that nothing attenuates, where it is known.
    pub noise: Option<f64>,
    /// A denoiser, for algorithms that have one.
    pub prior: Option<Prior>,
}

/// What a reconstruction by this algorithm costs, if it is one of these.
pub(super) fn price(method: &MethodSpec) -> Option<Price> {
    let price = match (method.algorithm, variation(method), method.algorithm.prior()) {
        (Algorithm::Lsqr, ..) => lsqr::PRICE,
        (_, Some(params), _) => params.price(),
        (.., Some(kind)) => method.diffusion.clone().unwrap_or_default().price(kind),
        _ => return None,
    };
    Some(Price { measured: price.measured + u64::from(method.weights.is_some()), ..price })
}

/// What of total variation a job asks for.
fn variation(method: &MethodSpec) -> Option<TvParams> {
    let (minimiser, spec) = (method.algorithm.minimiser()?, method.variation.as_ref()?);
    let params = spec.params(minimiser, method.n_iterations());
    Some(TvParams { non_negative: method.non_negative == Some(true), ..params })
}

impl Regularised {
    /// Starts from nothing. No communication.
    pub fn new(
        operator: Box<dyn Operator>,
        measured: Measured,
        method: &MethodSpec,
        mask: Option<Vec<f32>>,
    ) -> Result<Self> {
        let price = price(method).expect("the algorithm is one of these");
        let Measured { mut data, count, attenuation, noise, prior } = measured;
        let known = method.noise.or(noise);
        let roots = method.weights.map(|WeightsKind::Poisson| {
            // The variance of −ln T is 1/I: w = T/σ₀².
            let (half, sigma) = (-0.5 * attenuation as f32, known.unwrap_or(1.0) as f32);
            data.par_iter().map(|p| (half * p).exp() / sigma).collect::<Vec<f32>>()
        });
        if let Some(roots) = &roots {
            vectors::zip(&mut data, roots, |p, w| *p *= w);
        }
        // Σ of the squared residuals that noise alone leaves.
        let target2 = method.noise.map(|noise| if roots.is_some() { count } else { noise * noise * count });
        let more = prior.as_ref().map_or(0.0, Prior::updates);
        // With weights the noise has a deviation of one.
        let deviation = known.map_or(0.0, |sigma| if roots.is_some() { 1.0 } else { sigma });
        // Rays that nothing is known of have the noise of their photons, where that is known.
        let photons = noise.map(|sigma| Noise::Photons { sigma, attenuation });
        let told =
            if roots.is_some() { known.map(|_| Noise::Norm2(count)) } else { target2.map(Noise::Norm2).or(photons) };
        let params = variation(method).map(|params| TvParams { mask: mask.clone(), noise: told, ..params });
        let operator = Box::new(Weighted::new(operator, roots, mask)?);
        let buffer = |data: Vec<f32>| Buffer::from_vec(operator.device(), data);
        let solver: Box<dyn Solver> = match (prior, params) {
            (Some(Prior { method, spec, denoiser, scale, seed, .. }), _) => {
                Box::new(spec.solver(method, denoiser, &*operator, data, (scale, deviation), seed)?)
            }
            (None, Some(params)) => Box::new(TotalVariation::new(&*operator, buffer(data)?, params)?),
            (None, None) => Box::new(lsqr::Lsqr::new(&*operator, buffer(data)?, target2)?),
        };
        Ok(Self { operator, solver, price, more })
    }

    /// Projections and back projections of a step, of `updates` voxel updates each; what else it does counts as some of them.
    pub fn projections(&self, number: u64, updates: f64) -> f64 {
        let Price { start, step, .. } = self.price;
        (if number == 0 { start.and(1, step) } else { step }).projections() as f64 + self.more / updates
    }

    /// One step. Collective.
    pub fn step(&mut self, number: u64) -> Result<Report> {
        self.solver.step(&mut *self.operator, number)
    }

    pub fn fields<'a>(&'a mut self, fields: &mut Fields<'a>) {
        self.solver.fields(&*self.operator, fields);
    }

    /// After the fields were loaded. Collective.
    pub fn restored(&mut self) -> Result<()> {
        self.solver.restored(&mut *self.operator)
    }

    /// The image, this rank's slices.
    pub fn image(&mut self) -> &[f32] {
        self.solver.image().host()
    }

    /// Volumes that belong to the image, in its unit: names, what they are, values.
    pub fn more(&mut self) -> Vec<(&'static str, &'static str, Vec<f32>)> {
        self.solver.more()
    }

    /// Adds what the solver reports to the results. Collective.
    pub fn finish(&mut self, out: &mut Results) -> Result<()> {
        self.solver.finish(&mut *self.operator, out)
    }
}

/// Bytes that one rank sends in all these operations, at most: on a place with `slices` slices in slabs of `slice` bytes each, with
/// `ranks` of them in a column, `reduction` bytes for each back projection, `exchange` for each projection and `sum` for each sum over the
/// measured values.
pub(super) fn bytes_sent(
    pass: Pass,
    (slices, slice, ranks): (u64, u64, u64),
    [reduction, exchange, sum]: [u64; 3],
) -> u64 {
    let others = ranks.saturating_sub(1);
    pass.back * reduction
        + pass.forward * exchange
        + pass.measured_dots * sum
        + pass.dots * 8 * slices * others
        + if others > 0 { pass.halos * slice } else { 0 }
}

/// A of parallel beams: slices are independent, ranks of one slab hold different angles.
#[derive(Debug)]
pub(super) struct ParallelRays {
    share: Share,
    views: Views,
    place: Place,
    /// Angles that are here, and all of them.
    angles: (std::ops::Range<usize>, usize),
}

impl ParallelRays {
    /// The operator and the data of `views`; `column` are the ranks with the same angles, one for each slab.
    pub fn new(
        share: Share,
        mut views: Views,
        column: Comm,
        (slices, all): (std::ops::Range<usize>, usize),
        angles: (std::ops::Range<usize>, usize),
    ) -> Result<(Self, Vec<f32>)> {
        let data = std::mem::replace(&mut views.data, Buffer::zeros(&Device::Cpu, 0)?).into_vec();
        let place = Place { comm: column, slices, all, points: share.shape, leads: share.group.is_root() };
        Ok((Self { share, views, place, angles }, data))
    }

    /// Sums of slices over those who share their angles, and over all slices. Collective.
    fn sum(&self, mut slices: Vec<f64>) -> Result<f64> {
        self.share.group.all_sum(&mut slices)?;
        self.place.sum(&slices)
    }
}

impl Operator for ParallelRays {
    fn place(&self) -> &Place {
        &self.place
    }

    fn measured_len(&self) -> usize {
        self.place.slices.len() * self.angles.0.len() * self.share.n_cols
    }

    fn forward(&mut self, v: &mut Buffer<f32>, q: &mut Buffer<f32>) -> Result<()> {
        self.views.forward(v, q)
    }

    fn back(&mut self, q: &mut Buffer<f32>, v: &mut Buffer<f32>) -> Result<()> {
        self.views.back(&self.share, q, v)
    }

    fn dot(&self, a: &[f32], b: &[f32]) -> Result<f64> {
        // By slices, so that the sum does not depend on the slabs.
        let n = (self.angles.0.len() * self.share.n_cols).max(1);
        let mut sums: Vec<f64> = a.par_chunks(n).zip(b.par_chunks(n)).map(|(a, b)| vectors::dot(a, b)).collect();
        sums.resize(self.place.slices.len(), 0.0);
        self.sum(sums)
    }

    fn norm2(&self, a: &mut Buffer<f32>) -> Result<f64> {
        let slices = self.place.slices.len();
        if a.is_empty() || !self.share.device.is_gpu() {
            let a = a.host();
            return self.dot(a, a);
        }
        self.sum(Slices::new(&self.share.device, slices)?.norm2(a)?)
    }

    fn keep<'a>(&self, name: &str, q: &'a mut Buffer<f32>, fields: &mut Fields<'a>) {
        let shape = [self.place.all, self.angles.1, self.share.n_cols];
        let region = Region::rows(&shape, self.place.slices.clone()).with(1, self.angles.0.clone());
        fields.array(name, &shape, region, q.host_mut());
    }

    fn device(&self) -> &Device {
        &self.share.device
    }
}
