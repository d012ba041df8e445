//! Reconstructions of the whole volume as one problem, by the solvers of the room `inverse`.

use std::sync::Arc;

use convoke_cluster::workload::Inputs;
use convoke_cluster::{Comm, Fields, Plan, Region, Result, Results};
use convoke_kernels::{Buffer, Device, Slices};
use rayon::prelude::*;

use super::angles;
use super::input::NoiseModel;
use super::methods::{Share, Views};
use super::spec::{Algorithm, MethodSpec, Spec, WeightsKind};
use crate::inverse::diffusion::{DiffusionSpec, Method};
use crate::inverse::place::Place;
use crate::inverse::price::{Pass, Price};
use crate::inverse::samplers::active::Choice;
use crate::inverse::samplers::tuning::CANDIDATES;
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
    /// Part of the angles that the operator has in the end.
    part: f64,
}

/// The job with what its angles ask of a denoiser's settings, and what the user should know of that.
pub(super) fn settled(spec: &Spec, angles_rad: &[f64]) -> (Spec, Option<String>) {
    let mut spec = spec.clone();
    let Some((method, wedge)) = spec.method.algorithm.prior().zip(angles::wedge_degrees(angles_rad)) else {
        return (spec, None);
    };
    let (diffusion, taken) = spec.method.diffusion.take().unwrap_or_default().for_wedge(method);
    spec.method.diffusion = Some(diffusion);
    let note =
        || format!("a wedge of {wedge:.0} degrees is missing: {} are taken, as no others are given", taken.join(", "));
    let note = (!taken.is_empty()).then(note);
    (spec, note)
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
    /// Views that are chosen, if any are.
    choice: Option<Choice>,
}

impl Prior {
    /// Of a job, if its algorithm has one, for a scan with these angles; a unit of the solver's image is `unit` of the job's. `shape`: slices, and
    /// points along their axes.
    pub fn open(
        method: &MethodSpec,
        (inputs, angles_rad): (&Inputs, &[f64]),
        shape: (usize, usize),
        (unit, seed): (f64, u64),
    ) -> Result<Option<Self>> {
        let Some(kind) = method.algorithm.prior() else { return Ok(None) };
        let spec = method.diffusion.clone().unwrap_or_default();
        let denoiser = spec.denoiser(inputs, [shape.1; 2])?;
        let choice = method.views.as_ref().map(|views| views.choice(angles_rad));
        Ok(Some(Self { method: kind, scale: spec.scale * unit, spec, denoiser, seed, shape, choice }))
    }

    /// Multiplications and additions of the denoiser in a step: they count as voxel updates.
    pub fn updates(&self) -> f64 {
        let together = if self.choice.is_some() { self.spec.samples as f64 } else { 1.0 };
        together * self.spec.denoising(self.method, &*self.denoiser, self.shape.0, [self.shape.1; 2])
    }

    /// Adds the denoiser to the bill.
    pub fn bill(&self, plan: &mut Plan, threads: usize) {
        let bytes = self.denoiser.memory(threads, [self.shape.1; 2]);
        plan.holds("denoiser and values inside of it", bytes);
        plan.work += plan.steps as f64 * self.updates();
        plan.result_bytes *= if self.spec.samples > 1 { 4 } else { 1 };
        if self.spec.is_tuned() {
            plan.notes
                .push(format!("lambda is chosen first: up to {CANDIDATES} weights are tried, with two volumes each"));
        }
        plan.notes.push("multiplications and additions of the denoiser count as voxel updates".to_owned());
        plan.notes.push(DiffusionSpec::denoised_by(&*self.denoiser));
    }
}

/// Measured projections and what is known of their noise.
#[derive(Debug)]
pub(super) struct Measured {
    /// In the operator's order, where vectors of its solver lie.
    pub data: Buffer<f32>,
    /// How many there are on all ranks.
    pub count: f64,
    /// What is known of their noise.
    pub noise: NoiseModel,
    /// A denoiser, for algorithms that have one.
    pub prior: Option<Prior>,
}

/// What a reconstruction by this algorithm of so many angles costs, if it is one of these. Where views are chosen, products are with those that are
/// measured in the end.
pub(super) fn price(method: &MethodSpec, angles: usize) -> Option<Price> {
    if let Some(views) = &method.views {
        let diffusion = method.diffusion.clone().unwrap_or_default();
        return Some(diffusion.price_of_views(views.choices(angles), views.measured(angles) as u64));
    }
    let price = match (method.algorithm, variation(method), method.algorithm.prior()) {
        (Algorithm::Lsqr, ..) => lsqr::PRICE,
        (_, Some(params), _) => params.price(),
        (.., Some(kind)) => method.diffusion.clone().unwrap_or_default().price(kind),
        _ => return None,
    };
    Some(Price { measured: price.measured + u64::from(method.weights.is_some()), ..price })
}

/// ρ = σ_r²/I₀, with the readout's standard deviation σ_r in photons, for I₀ photons of which −ln T has the standard deviation `sigma` where
/// nothing attenuates: I₀² sigma² = I₀ + σ_r².
fn relative_readout(sigma: f64, readout: f64) -> f64 {
    let (s2, r2) = (sigma * sigma, readout * readout);
    let photons = (1.0 + (1.0 + 4.0 * s2 * r2).sqrt()) / (2.0 * s2);
    r2 / photons
}

/// √w of a projection p whose w = I²/(I + σ_r²) a², inverse variances of p, I = I₀ exp(−a p): as 1/σ₀² where p is 0, with ρ = σ_r²/I₀.
fn root_weight(attenuation: f64, sigma: f64, rho: f64) -> impl Fn(f32) -> f32 + Sync {
    let (half, all) = (-0.5 * attenuation as f32, (1.0 + rho) as f32);
    let (sigma, rho) = (sigma as f32, rho as f32);
    move |p: f32| {
        let root = (half * p).exp(); // √T
        let plain = root / sigma;
        // T = 0 of a ray that lets nothing through has no weight.
        if rho > 0.0 { plain * root * (all / (root * root + rho)).sqrt() } else { plain }
    }
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
        (mask, angles): (Option<Vec<f32>>, usize),
    ) -> Result<Self> {
        let price = price(method, angles).expect("the algorithm is one of these");
        let part = method.views.as_ref().map_or(1.0, |views| views.measured(angles) as f64 / angles as f64);
        let Measured { mut data, count, noise: NoiseModel { attenuation, sigma: noise, readout }, prior } = measured;
        let known = method.noise.or(noise);
        let readout = method.readout_counts.unwrap_or(readout);
        let rho = |sigma: f64| relative_readout(sigma * attenuation, readout);
        let mut roots = None;
        if let Some(WeightsKind::Poisson) = method.weights {
            let sigma = known.unwrap_or(1.0);
            let weight = root_weight(attenuation, sigma, rho(sigma));
            let roots = roots.insert(operator.zeros(data.len())?);
            vectors::zip(roots.host_mut(), data.host(), |w, p| *w = weight(p));
            vectors::zip(data.host_mut(), roots.host(), |p, w| *p *= w);
        }
        // Σ of the squared residuals that noise alone leaves.
        let target2 = method.noise.map(|noise| if roots.is_some() { count } else { noise * noise * count });
        let more = prior.as_ref().map_or(0.0, Prior::updates);
        // With weights the noise has a deviation of one.
        let deviation = known.map_or(0.0, |sigma| if roots.is_some() { 1.0 } else { sigma });
        // Rays that nothing is known of have the noise of their photons, where that is known.
        let photons = noise.map(|sigma| Noise::Photons { sigma, attenuation, readout: rho(sigma) });
        let told =
            if roots.is_some() { known.map(|_| Noise::Norm2(count)) } else { target2.map(Noise::Norm2).or(photons) };
        let params = variation(method).map(|params| TvParams { mask: mask.clone(), noise: told, ..params });
        if let Some(Prior { spec, denoiser, scale, seed, choice: Some(choice), .. }) = prior {
            let solver = Box::new(spec.active(choice, denoiser, &*operator, (scale, deviation), seed)?);
            return Ok(Self { operator, solver, price, more, part });
        }
        let operator = Box::new(Weighted::new(operator, roots, mask)?);
        let solver: Box<dyn Solver> = match (prior, params) {
            (Some(Prior { method, spec, denoiser, scale, seed, .. }), _) => {
                Box::new(spec.solver(method, denoiser, &*operator, data.into_vec(), (scale, deviation), seed)?)
            }
            (None, Some(params)) => Box::new(TotalVariation::new(&*operator, data, params)?),
            (None, None) => Box::new(lsqr::Lsqr::new(&*operator, data, target2)?),
        };
        Ok(Self { operator, solver, price, more, part })
    }

    /// Projections and back projections of a step, of `updates` voxel updates each; what else it does counts as some of them.
    pub fn projections(&self, number: u64, updates: f64) -> f64 {
        let Price { start, step, .. } = self.price;
        self.part * (if number == 0 { start.and(1, step) } else { step }).projections() as f64 + self.more / updates
    }

    /// Refuses data that cannot be right, before the first step. Collective.
    pub fn check(&mut self) -> Result<()> {
        self.solver.check(&mut *self.operator)
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
    let rest = pass.back * reduction
        + pass.forward * exchange
        + pass.measured_dots * sum
        + if others > 0 { pass.halos * slice } else { 0 };
    // Views that are chosen have a sum for each pair of samples.
    rest.saturating_add(pass.dots.saturating_mul(8 * slices * others))
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

#[cfg(test)]
mod tests {
    use super::super::input::{Photons, count_photons};
    use super::*;

    /// Simulated counts of photons and readout: the sample variance of projections is that of the weights to five of its own standard
    /// deviations, from rays of many photons to rays where the readout is more than the photons, in any unit of length.
    #[test]
    fn weights_are_inverse_variances_of_simulated_counts() {
        const N: usize = 40_000;
        for (attenuation, readout) in [(1.0, 0.0), (1.0, 25.0), (0.02, 60.0)] {
            let photons = Photons { count: 20_000.0, attenuation, readout };
            let noise = photons.noise();
            let sigma = noise.sigma.expect("known");
            let rho = relative_readout(sigma * attenuation, readout);
            assert!((rho - readout * readout / photons.count).abs() < 1e-9 * rho.max(1e-9), "{rho}");
            for optical in [0.0, 1.0, 2.2] {
                let p = (optical / attenuation) as f32;
                let mut data = vec![p; N];
                count_photons(&mut data, |i| i as u64, &photons, 11);
                let mean = data.iter().map(|v| f64::from(*v)).sum::<f64>() / N as f64;
                let variance = data.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / N as f64;
                let root = f64::from(root_weight(attenuation, sigma, rho)(p));
                // The logarithm's next term adds 2.5 variances squared.
                let relative = variance * attenuation * attenuation;
                let bound = 5.0 * (2.0 / N as f64).sqrt() + 4.0 * relative;
                assert!(
                    (variance * root * root - 1.0).abs() < bound,
                    "{optical}, {readout}: {}",
                    variance * root * root
                );
            }
        }
    }
}
