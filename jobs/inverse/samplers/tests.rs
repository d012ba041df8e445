//! Samplers of priors in closed form: what they draw has the law that its steps have by hand.

use super::dds::{Dds, DdsParams, LEAST};
use super::levels::{Levels, Spacing};
use super::mbir::{Mbir, MbirParams};
use super::red::{Red, RedParams};
use super::*;
use crate::prior::edm::{Card, Edm};
use crate::prior::gaussian::Gaussian;
use crate::prior::unet::Shape;
use convoke_cluster::comm::run_threads;
use convoke_cluster::{Comm, block};
use convoke_kernels::{Device, Philox};

/// Mean and variance of the prior's points, and what is measured.
const PRIOR: [f64; 2] = [0.4, 0.3];
const DATUM: f64 = 1.3;

/// Every second point is measured.
#[derive(Debug)]
struct Mask {
    place: Place,
    device: Device,
}

impl Mask {
    fn new(comm: &Comm, slices: usize, points: [usize; 2]) -> Self {
        let here = block(slices, comm.rank(), comm.size());
        let place = Place { comm: comm.clone(), slices: here, all: slices, points, leads: true };
        Self { place, device: Device::cpu() }
    }
}

impl Operator for Mask {
    fn place(&self) -> &Place {
        &self.place
    }

    fn measured_len(&self) -> usize {
        self.place.len() / 2
    }

    fn forward(&mut self, v: &mut Buffer<f32>, q: &mut Buffer<f32>) -> Result<()> {
        q.host_mut().iter_mut().zip(v.host().iter().step_by(2)).for_each(|(q, v)| *q = *v);
        Ok(())
    }

    fn back(&mut self, q: &mut Buffer<f32>, v: &mut Buffer<f32>) -> Result<()> {
        let v = v.host_mut();
        v.fill(0.0);
        v.iter_mut().step_by(2).zip(q.host()).for_each(|(v, q)| *v = *q);
        Ok(())
    }

    fn dot(&self, a: &[f32], b: &[f32]) -> Result<f64> {
        let slice = self.place.size() / 2;
        let sum = |(a, b): (&[f32], &[f32])| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
        let sums: Vec<f64> = a.chunks(slice).zip(b.chunks(slice)).map(sum).collect();
        Ok(self.place.comm.sum_blocks(&sums)?)
    }

    fn keep<'a>(&self, _: &str, _: &'a mut Buffer<f32>, _: &mut Fields<'a>) {}

    fn device(&self) -> &Device {
        &self.device
    }
}

fn gaussian(points: [usize; 2]) -> Arc<dyn Denoiser> {
    let size = points[0] * points[1];
    Arc::new(Gaussian { mean: vec![PRIOR[0] as f32; size], variance: vec![PRIOR[1] as f32; size] })
}

/// The end of a sampler of data that all are [`DATUM`], with noise of a variance.
fn run(
    chain: &dyn Fn(usize) -> Box<dyn Chain>,
    mut mask: Mask,
    denoiser: Arc<dyn Denoiser>,
    (noise, samples, seed): (f64, u64, u64),
) -> Result<Sampler> {
    let y = vec![DATUM as f32; mask.measured_len()];
    let mut data = Data::new(&mask, y, (1.0, noise.sqrt()))?;
    data.prepare(&mut mask)?;
    assert!((data.norm2 - 1.0).abs() < 1e-6, "{}", data.norm2);
    let mut sampler = Sampler::new(chain(mask.place.len()), denoiser, (&mask, data), samples, seed)?;
    for number in 0.. {
        if sampler.step(&mut mask, number)?.done {
            break;
        }
    }
    assert!(sampler.steps() > 0);
    Ok(sampler)
}

fn moments(values: impl Iterator<Item = f32>) -> [f64; 3] {
    let values: Vec<f64> = values.map(f64::from).collect();
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    [mean, values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n, n]
}

/// To four of their own errors.
fn assert_law([mean, variance, n]: [f64; 3], [due, spread]: [f64; 2], what: &str) {
    assert!((mean - due).abs() < 4.0 * (spread / n).sqrt() + 1e-5, "{what}: mean {mean} of {due}");
    let off = (variance - spread).abs();
    assert!(off < 4.0 * spread * (2.0 / n).sqrt() + 1e-9, "{what}: variance {variance} of {spread}");
}

fn dds(levels: Levels) -> impl Fn(usize) -> Box<dyn Chain> {
    move |len| {
        let params = DdsParams { levels, eta: 0.85, iterations: 5, lambda: 0.0, rho: 0.0 };
        Box::new(Dds::new(params, len))
    }
}

/// Mean and variance that the steps give a point, whose laws stay normal: of one that is measured, or of another one.
fn law_of_dds(levels: Levels, noise: Option<f64>) -> [f64; 2] {
    let ([m, v], mut law) = (PRIOR, [0.0, levels.at(0).powi(2)]);
    for i in 0..levels.steps {
        let (sigma, next) = (levels.at(i), levels.at(i + 1));
        let new = 0.85 * (next * next * (1.0 - (next / sigma).powi(2))).sqrt();
        let old = (next * next - new * new).sqrt() / sigma;
        let kept = v / (v + sigma * sigma);
        // x₀ = m + kept (x − m); towards the datum by 1/(1 + g).
        let towards = noise.map_or(0.0, |noise| 1.0 / (1.0 + noise / (sigma * sigma).max(LEAST)));
        let slope = (1.0 - towards) * kept + old * (1.0 - kept);
        let offset = towards * DATUM + (1.0 - towards - old) * m * (1.0 - kept);
        law = [offset + slope * law[0], slope * slope * law[1] + new * new];
    }
    law
}

/// Independent points, half of them measured, with and without noise. Samples have the mean and the variance that the steps give; where
/// nothing is measured this is the prior's, to 5 % of the variance with so many steps, and without noise the datum itself.
#[test]
fn decomposed_diffusion_has_the_law_of_its_steps() {
    let levels = Levels { steps: 200, sigma: [0.005, 40.0], spacing: Spacing::Karras };
    for noise in [0.0, 0.03, 0.3] {
        let points = [4, 6];
        let mask = Mask::new(&Comm::solo(), 400, points);
        let mut sampler = run(&dds(levels), mask, gaussian(points), (noise, 1, 3)).expect("a sample");
        let x = sampler.image().host();
        let (other, measured) = (law_of_dds(levels, None), law_of_dds(levels, Some(noise)));
        assert_law(moments(x.iter().skip(1).step_by(2).copied()), other, "elsewhere");
        assert!((other[1] / PRIOR[1] - 1.0).abs() < 0.05, "{other:?}");
        if noise > 0.0 {
            assert_law(moments(x.iter().step_by(2).copied()), measured, "measured");
        } else {
            assert!(x.iter().step_by(2).all(|x| (f64::from(*x) - DATUM).abs() < 1e-5));
        }
    }
}

/// The same of a predictor, a corrector and a data step without noise; the law by hand of both kinds of points, as the corrector's step comes
/// from all of them. What is measured is exact, and elsewhere the law is the prior's to 3 % of the variance.
#[test]
fn predictor_and_corrector_have_the_law_of_their_steps() {
    let (points, snr) = ([100, 96], 0.16);
    let levels = Levels { steps: 300, sigma: [0.005, 40.0], spacing: Spacing::Geometric };
    let chain = |len| -> Box<dyn Chain> {
        Box::new(Mbir::new(MbirParams { levels, snr, iterations: 1, lambda: 0.0, rho: 0.0 }, len))
    };
    let mask = Mask::new(&Comm::solo(), 1, points);
    let mut sampler = run(&chain, mask, gaussian(points), (0.0, 1, 5)).expect("a sample");
    let x = sampler.image().host();
    assert!(x.iter().step_by(2).all(|x| (f64::from(*x) - DATUM).abs() < 1e-5));

    let [m, v] = PRIOR;
    // Of points that are not measured, and of those that are.
    let mut laws = [[0.0, levels.at(0).powi(2)]; 2];
    for i in 0..levels.steps {
        let (sigma, next) = (levels.at(i), levels.at(i + 1));
        let fall = sigma * sigma - next * next;
        let towards = fall / (v + sigma * sigma);
        let new = if next > 0.0 { fall } else { 0.0 };
        let predict =
            |[mean, variance]: [f64; 2]| [mean + towards * (m - mean), (1.0 - towards).powi(2) * variance + new];
        laws = laws.map(predict);
        if next > 0.0 {
            // Mean square of the score (m − x)/(v + σ'²).
            let square = |[mean, variance]: [f64; 2]| ((m - mean).powi(2) + variance) / (v + next * next).powi(2);
            let epsilon = 2.0 * snr * snr / (0.5 * (square(laws[0]) + square(laws[1])));
            let towards = epsilon / (v + next * next);
            laws = laws.map(|[mean, variance]| {
                [mean + towards * (m - mean), (1.0 - towards).powi(2) * variance + 2.0 * epsilon]
            });
        }
        laws[1] = [DATUM, 0.0];
    }
    assert_law(moments(x.iter().skip(1).step_by(2).copied()), laws[0], "elsewhere");
    assert!((laws[0][1] / v - 1.0).abs() < 0.03 && (laws[0][0] - m).abs() < 0.03, "{laws:?}");
}

/// Of one level of noise σ the mean of the gradient is Ãᵀ(Ãμ − ỹ) + λ σ²/(v + σ²) (μ − m), and zero where the volume ends.
#[test]
fn the_variational_method_ends_where_its_gradient_does() {
    let (points, sigma, weight) = ([40, 40], 0.5, 0.7);
    let levels = Levels { steps: 600, sigma: [sigma; 2], spacing: Spacing::Karras };
    let chain = |len| -> Box<dyn Chain> {
        Box::new(Red::new(RedParams { levels, rate: 0.05, weight, lambda: 0.0, iterations: 3 }, len))
    };
    let mut sampler = run(&chain, Mask::new(&Comm::solo(), 2, points), gaussian(points), (0.0, 1, 5)).expect("it runs");
    let x = sampler.image().host();
    let [m, v] = PRIOR;
    let kappa = weight * sigma * sigma / (v + sigma * sigma);
    let due = (DATUM + kappa * m) / (1.0 + kappa);
    for (first, due) in [(0, due), (1, m)] {
        let [mean, variance, n] = moments(x.iter().skip(first).step_by(2).copied());
        assert!((mean - due).abs() < 4.0 * (variance / n).sqrt() + 1e-4, "{first}: {mean} of {due}");
        // Adam follows the noise of its gradients: much less than the prior's 0.55.
        assert!(variance.sqrt() < 0.1, "{first}: {variance}");
    }
}

/// Forty samples: mean, deviation and bands of points that are not measured are those of the law, bands by Blom's places of order statistics.
#[test]
fn posteriors_are_those_of_the_law() {
    let (points, samples) = ([4, 6], 40);
    let levels = Levels { steps: 40, sigma: [0.01, 20.0], spacing: Spacing::Karras };
    let mask = Mask::new(&Comm::solo(), 60, points);
    let mut sampler = run(&dds(levels), mask, gaussian(points), (0.0, samples, 8)).expect("samples");
    let [m, v] = law_of_dds(levels, None);
    let mean = moments(sampler.image().host().iter().skip(1).step_by(2).copied());
    let n = samples as f64;
    assert_law(mean, [m, v / n], "mean");
    // Of forty the second and the third: normal quantiles of (k − 3/8)/(n + 1/4), k = 2 and 3, and 0.95 of the way between them.
    let below = 0.05 * -1.74638 + 0.95 * -1.51239;
    let due = [v.sqrt() * (1.0 - 0.25 / n), m + v.sqrt() * below, m - v.sqrt() * below];
    for ((name, _, values), due) in sampler.more().into_iter().zip(due) {
        let [mean, variance, n] = moments(values.iter().skip(1).step_by(2).copied());
        assert!((mean - due).abs() < 4.0 * (variance / n).sqrt() + 2e-3, "{name}: {mean} of {due}");
        assert!(
            values
                .iter()
                .step_by(2)
                .all(|x| (f64::from(*x) - if name == "deviation" { 0.0 } else { DATUM }).abs() < 1e-5)
        );
    }
}

fn network() -> Arc<dyn Denoiser> {
    let shape = Shape { channels: vec![4, 8], blocks: 1, groups: 2, embedding: 4 };
    let card = Card { network: shape.clone(), mean: 0.3, deviation: 0.4, points: 8 };
    let parts = shape.parts();
    let mut parameters: Vec<f32> = parts.initial(3);
    parameters.iter_mut().enumerate().for_each(|(i, p)| *p += 0.1 * Philox::new(2, 2).normal(i as u64) as f32);
    Arc::new(Edm::new(card, parameters))
}

/// Begins a chain on so many voxels.
type Begin = Box<dyn Fn(usize) -> Box<dyn Chain> + Sync>;

fn chains() -> Vec<Begin> {
    let levels = Levels { steps: 4, sigma: [0.01, 20.0], spacing: Spacing::Karras };
    vec![
        Box::new(move |len| {
            let params = DdsParams { levels, eta: 0.85, iterations: 3, lambda: 3e-4, rho: 1e-2 };
            Box::new(Dds::new(params, len))
        }),
        Box::new(move |len| {
            let params = MbirParams { levels, snr: 0.16, iterations: 1, lambda: 3e-4, rho: 1e-2 };
            Box::new(Mbir::new(params, len))
        }),
        Box::new(move |len| {
            let params = RedParams { levels, rate: 0.1, weight: 0.3, lambda: 1e-3, iterations: 3 };
            Box::new(Red::new(params, len))
        }),
    ]
}

/// The same bits on one to four ranks, also where some have no slices, with slices that know each other and a network; means and bands too.
#[test]
fn samples_do_not_depend_on_the_ranks() {
    let (slices, points) = (11, [8, 12]);
    for chain in chains() {
        let draw = |comm: &Comm, slices: usize| -> Result<[Vec<f32>; 2]> {
            let mut sampler = run(&chain, Mask::new(comm, slices, points), network(), (0.01, 2, 5))?;
            Ok([sampler.image().host().to_vec(), sampler.more().swap_remove(1).2])
        };
        for slices in [slices, 3] {
            let alone = draw(&Comm::solo(), slices).expect("a sample");
            for ranks in 2..=4 {
                let parts = run_threads(ranks, |comm| draw(&comm, slices));
                let parts: Vec<[Vec<f32>; 2]> = parts.into_iter().map(|part| part.expect("a sample")).collect();
                for k in 0..2 {
                    let all: Vec<f32> = parts.iter().flat_map(|part| part[k].clone()).collect();
                    assert!(all == alone[k], "{slices} slices on {ranks}, {k}");
                }
            }
        }
    }
}

/// What a checkpoint has of a solver.
pub(super) struct Kept {
    arrays: Vec<Vec<f32>>,
    counters: Vec<u64>,
    reals: Vec<f64>,
    histories: Vec<Vec<f64>>,
}

pub(super) fn keep(fields: &Fields<'_>) -> Kept {
    let mut kept = Kept { arrays: Vec::new(), counters: Vec::new(), reals: Vec::new(), histories: Vec::new() };
    for array in &fields.arrays {
        match &array.data {
            convoke_cluster::fields::Data::F32(values) => kept.arrays.push(values.to_vec()),
            other => panic!("{other:?}"),
        }
    }
    for (_, value) in &fields.values {
        match value {
            convoke_cluster::fields::Value::U64(value) => kept.counters.push(**value),
            convoke_cluster::fields::Value::F64(value) => kept.reals.push(**value),
        }
    }
    kept.histories.extend(fields.histories.iter().map(|(_, history)| history.to_vec()));
    kept
}

pub(super) fn put(fields: &mut Fields<'_>, kept: &Kept) {
    for (array, kept) in fields.arrays.iter_mut().zip(&kept.arrays) {
        if let convoke_cluster::fields::Data::F32(values) = &mut array.data {
            values.copy_from_slice(kept);
        }
    }
    let (mut counters, mut reals) = (kept.counters.iter(), kept.reals.iter());
    for (_, value) in &mut fields.values {
        match value {
            convoke_cluster::fields::Value::U64(value) => **value = *counters.next().expect("a counter"),
            convoke_cluster::fields::Value::F64(value) => **value = *reals.next().expect("a real"),
        }
    }
    for ((_, history), kept) in fields.histories.iter_mut().zip(&kept.histories) {
        history.clone_from(kept);
    }
}

/// What [`Solver::fields`] keeps is enough: a new sampler that is given it goes on to the same bits, from the middle of a sample and from the
/// middle of several, and from the middle of both volumes of a weight that is tried.
#[test]
fn a_sampler_that_goes_on_ends_as_one_that_never_stopped() {
    let points = [8, 12];
    let chains = chains();
    for (chain, tuned) in chains.iter().map(|chain| (chain, false)).chain(chains[..2].iter().map(|chain| (chain, true)))
    {
        let fresh = |mask: &mut Mask| {
            let y = vec![DATUM as f32; mask.measured_len()];
            let data = Data::new(&*mask, y, (1.0, 0.1)).expect("data");
            let sampler = Sampler::new(chain(mask.place.len()), network(), (&*mask, data), 3, 4).expect("a sampler");
            if tuned { sampler.tuned() } else { sampler }
        };
        for stop in [1, 6] {
            let mut mask = Mask::new(&Comm::solo(), 2, points);
            let (mut whole, mut resumed) = (fresh(&mut mask), fresh(&mut mask));
            for number in 0.. {
                if number == stop {
                    let mut fields = Fields::default();
                    whole.fields(&mask, &mut fields);
                    let kept = keep(&fields);
                    drop(fields);
                    let mut fields = Fields::default();
                    resumed.fields(&mask, &mut fields);
                    put(&mut fields, &kept);
                    drop(fields);
                    resumed.restored(&mut mask).expect("data");
                }
                let done = whole.step(&mut mask, number).expect("a step").done;
                if number >= stop {
                    assert_eq!(resumed.step(&mut mask, number).expect("a step").done, done);
                }
                if done {
                    assert!(number < whole.steps() && (tuned || number == 11));
                    break;
                }
            }
            assert!(whole.image().host() == resumed.image().host(), "stopped at {stop}");
            assert!(whole.more() == resumed.more(), "stopped at {stop}");
        }
    }
}

/// Steps of a search for a weight on its own.
fn tuned(chain: &mut dyn Chain, mask: &mut Mask, denoiser: &dyn Denoiser, data: &mut Data, most: u64) -> Tuning {
    let mut tuning = Tuning::new(mask.place.len());
    for _ in 0..most {
        if tuning.is_over() {
            break;
        }
        let place = mask.place.clone();
        let world = World { operator: &mut *mask, data: &mut *data, denoiser, place, seed: 3, sample: 0 };
        tuning.step(chain, world).expect("a step");
    }
    tuning
}

/// Without coupling each measured point follows its datum by a slope that is known by hand; the trace of one random image is their sum, to four of its own
/// deviations, √(2/M) of it.
#[test]
fn the_trace_is_that_of_the_slopes() {
    let levels = Levels { steps: 30, sigma: [0.01, 20.0], spacing: Spacing::Karras };
    let (points, noise) = ([4, 6], 0.3);
    let mut mask = Mask::new(&Comm::solo(), 300, points);
    let y = vec![DATUM as f32; mask.measured_len()];
    let mut data = Data::new(&mask, y, (1.0, f64::sqrt(noise))).expect("data");
    data.prepare(&mut mask).expect("a norm");
    let mut chain = dds(levels)(mask.place.len());
    let found = tuned(&mut *chain, &mut mask, &*gaussian(points), &mut data, levels.steps);
    let before = found.risks[0];
    let found = tuned(&mut *chain, &mut mask, &*gaussian(points), &mut data, 2 * levels.steps);
    let trace = 0.5 * (found.risks[0] - before);
    let v = PRIOR[1];
    let due = (0..levels.steps).fold(0.0, |follows, i| {
        let (sigma, next) = (levels.at(i), levels.at(i + 1));
        let new = 0.85 * (next * next * (1.0 - (next / sigma).powi(2))).sqrt();
        let old = (next * next - new * new).sqrt() / sigma;
        let kept = v / (v + sigma * sigma);
        let towards = 1.0 / (1.0 + noise / (sigma * sigma).max(LEAST));
        towards + ((1.0 - towards) * kept + old * (1.0 - kept)) * follows
    });
    assert!((trace / due - 1.0).abs() < 4.0 * (2.0 / data.count).sqrt(), "{trace} of {due}");
}

/// Slices in runs of equal ones, with noise as large as what they differ by: the chosen weight's error of what is measured is at most a tenth above
/// that of the best of eight weights, which the test knows, and far below that without coupling.
#[test]
fn the_chosen_weight_is_almost_the_best_one() {
    // Small values, so that the best weight is among those that are tried.
    let (slices, points, [mean, variance, noise]) = (240, [4, 6], [0.02f64, 7.5e-4, 5e-4]);
    let levels = Levels { steps: 12, sigma: [0.0025, 0.5], spacing: Spacing::Karras };
    let chain = |lambda: f64| Dds::new(DdsParams { levels, eta: 0.5, iterations: 5, lambda, rho: 0.1 }, slices * 24);
    let (prior, random) = (Philox::new(4, 1), Philox::new(4, 2));
    let truth: Vec<f32> = (0..slices * 24)
        .map(|i| (mean + variance.sqrt() * prior.normal(((i / 24 / 30) * 24 + i % 24) as u64)) as f32)
        .collect();
    let mut mask = Mask::new(&Comm::solo(), slices, points);
    let measured = |volume: &[f32]| -> Vec<f32> { volume.iter().step_by(2).copied().collect() };
    let y: Vec<f32> =
        measured(&truth).iter().enumerate().map(|(i, x)| x + (noise.sqrt() * random.normal(i as u64)) as f32).collect();
    let denoiser: Arc<dyn Denoiser> =
        Arc::new(Gaussian { mean: vec![mean as f32; 24], variance: vec![variance as f32; 24] });
    let mut error = |lambda: f64| -> f64 {
        let mut data = Data::new(&mask, y.clone(), (1.0, noise.sqrt())).expect("data");
        data.prepare(&mut mask).expect("a norm");
        let mut sampler =
            Sampler::new(Box::new(chain(lambda)), denoiser.clone(), (&mask, data), 1, 3).expect("a sampler");
        for number in 0..levels.steps {
            sampler.step(&mut mask, number).expect("a step");
        }
        let off = measured(sampler.image().host());
        off.iter().zip(measured(&truth)).map(|(a, b)| f64::from(a - b).powi(2)).sum()
    };
    let errors: Vec<f64> = (-2..6).map(|k| error(1e-4 * 3f64.powi(k))).collect();
    let best = errors.iter().copied().fold(f64::INFINITY, f64::min);
    let mut mask = Mask::new(&Comm::solo(), slices, points);
    let mut data = Data::new(&mask, y.clone(), (1.0, noise.sqrt())).expect("data");
    data.prepare(&mut mask).expect("a norm");
    let found = tuned(&mut chain(0.0), &mut mask, &*denoiser, &mut data, u64::MAX);
    let of_found = error(found.lambda);
    assert!(of_found < 1.1 * best, "{}: {of_found}, of {errors:?}", found.lambda);
    assert!(best < 0.8 * errors[0], "{errors:?}");
}

/// Data of a volume whose values are far beyond 1 are refused by the key of the scale, before a step is made.
#[test]
fn a_scale_that_is_too_small_is_refused() {
    let mut mask = Mask::new(&Comm::solo(), 2, [8, 12]);
    let y = vec![DATUM as f32; mask.measured_len()];
    for (scale, fits) in [(1.0, true), (0.5, false)] {
        let data = Data::new(&mask, y.clone(), (scale, 0.0)).expect("data");
        let chain = chains().swap_remove(0)(mask.place.len());
        let step = Sampler::new(chain, network(), (&mask, data), 1, 4).expect("a sampler").step(&mut mask, 0);
        match step {
            Ok(_) => assert!(fits),
            Err(error) => assert!(!fits && error.to_string().contains("diffusion.scale"), "{error}"),
        }
    }
}
