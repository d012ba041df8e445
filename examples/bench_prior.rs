//! Reconstructions of unseen objects from few views, by a denoiser and by total variation:
//! `cargo run --release --example bench_prior [KEY=VALUE...]`.
//!
//! Keys: `views` (8), `arc` (180), `objects` (20), `kind` (heads, foam, shepp-logan), `data` (exact, matched: line integrals, or what the
//! projector makes of the voxels), `noise` (0: deviation of the data's noise, as a part of their largest value), `assumed` (as it is: the deviation
//! that methods are told, in voxels), `methods` (dds,admm-tv),
//! `tv_weight`, `tv_penalty`, `tv_steps` (1e-4, 3e-4, 400), `first` (0: number of the first object), and any key of [problem.method.diffusion],
//! such as `lambda` or `samples`. Objects are 16 slices of 64 x 64 voxels, the middle ones of heads that no training saw; figures are PSNR in dB over
//! the volume, the largest value 1. With `samples` there are also the parts of the voxels within one and two deviations of the mean and in the band
//! (5 % to 95 %), and the correlation of the deviation with the size of the error.

use std::time::Instant;

use convoke::inverse::diffusion::{DiffusionSpec, Method};
use convoke::inverse::place::Place;
use convoke::inverse::tv::{Minimiser, TotalVariation, TvParams, VariationSpec, Weight};
use convoke::inverse::{Operator, Solver};
use convoke::tomography::angles::wedge_degrees;
use convoke_cluster::workload::Inputs;
use convoke_cluster::{Comm, Fields, Result};
use convoke_data::problems::phantom::Phantom;
use convoke_data::problems::rays::ParallelRays;
use convoke_kernels::{Buffer, Device, Footprint, ParallelGeometry, Philox, Projector};

const POINTS: usize = 64;
const SLICES: usize = 16;
/// Heads have so many parts where they are trained on.
const PARTS: [usize; 2] = [5, 10];
/// Errors below this count as none: outside of the head image and truth are zero, and so is the deviation.
const SMALL: f64 = 1e-4;
/// Stream of the objects: another one than that of training.
const OBJECTS: u64 = 0x6265_6e63_6862_656e; // "benchben"

/// Parallel beams through all slices.
#[derive(Debug)]
struct Beams {
    place: Place,
    device: Device,
    projector: Projector,
    values: usize,
}

impl Beams {
    fn new(angles_rad: &[f64]) -> Result<Self> {
        let device = Device::cpu();
        let geometry = ParallelGeometry {
            angles_rad: angles_rad.to_vec(),
            n_cols: POINTS,
            col_pitch: 1.0,
            axis_col: (POINTS as f64 - 1.0) / 2.0,
            nx: POINTS,
            ny: POINTS,
        };
        let projector = Projector::new(&device, geometry, Footprint::Joseph)?;
        let place = Place { comm: Comm::solo(), slices: 0..SLICES, all: SLICES, points: [POINTS; 2], leads: true };
        Ok(Self { place, device, projector, values: SLICES * angles_rad.len() * POINTS })
    }
}

impl Operator for Beams {
    fn place(&self) -> &Place {
        &self.place
    }

    fn measured_len(&self) -> usize {
        self.values
    }

    fn forward(&mut self, v: &mut Buffer<f32>, q: &mut Buffer<f32>) -> Result<()> {
        Ok(self.projector.forward(v, q)?)
    }

    fn back(&mut self, q: &mut Buffer<f32>, v: &mut Buffer<f32>) -> Result<()> {
        Ok(self.projector.back(q, v)?)
    }

    fn dot(&self, a: &[f32], b: &[f32]) -> Result<f64> {
        Ok(a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum())
    }

    fn keep<'a>(&self, _: &str, _: &'a mut Buffer<f32>, _: &mut Fields<'a>) {}

    fn device(&self) -> &Device {
        &self.device
    }
}

/// What is measured.
#[derive(Debug, Clone)]
struct Case {
    views: usize,
    arc: f64,
    objects: std::ops::Range<u64>,
    kind: String,
    matched: bool,
    noise: f64,
    assumed: Option<f64>,
    methods: Vec<String>,
    /// Of total variation: weight, penalty, steps.
    variation: (f64, f64, u64),
    diffusion: DiffusionSpec,
}

fn object(kind: &str, number: u64) -> Phantom {
    let random = Philox::new(number, OBJECTS);
    let mut drawn = 0;
    let mut uniform = || {
        drawn += 1;
        random.uniform(drawn)
    };
    match kind {
        "foam" => Phantom::foam(40, uniform),
        "shepp-logan" => Phantom::shepp_logan_3d(),
        _ => {
            let parts = PARTS[0] + ((PARTS[1] - PARTS[0] + 1) as f64 * uniform()) as usize;
            Phantom::random_ellipsoids(parts.min(PARTS[1]), uniform)
        }
    }
}

fn psnr(image: &[f32], truth: &[f32]) -> f64 {
    let error: f64 = image.iter().zip(truth).map(|(a, b)| f64::from(a - b).powi(2)).sum();
    -10.0 * (error / truth.len() as f64).log10()
}

/// What [`calibration`] gives.
const CALIBRATION: [&str; 4] = ["within 1 deviation", "within 2", "in the band", "correlation"];

/// How far deviations and bands are right: parts of the voxels, and the correlation of the deviation with the size of the error.
fn calibration(image: &[f32], truth: &[f32], (deviation, low, high): &(Vec<f32>, Vec<f32>, Vec<f32>)) -> [f64; 4] {
    let n = truth.len() as f64;
    let part = |inside: &dyn Fn(usize) -> bool| (0..truth.len()).filter(|i| inside(*i)).count() as f64 / n;
    let error: Vec<f64> = image.iter().zip(truth).map(|(a, b)| f64::from((a - b).abs())).collect();
    let within = |times: f64| part(&|i| error[i] <= times * f64::from(deviation[i]) + SMALL);
    let band = part(&|i| f64::from(truth[i] - low[i]) >= -SMALL && f64::from(truth[i] - high[i]) <= SMALL);
    let spread: Vec<f64> = deviation.iter().map(|d| f64::from(*d)).collect();
    let mean = |v: &[f64]| v.iter().sum::<f64>() / n;
    let product = |a: &[f64], b: &[f64]| {
        let (of_a, of_b) = (mean(a), mean(b));
        a.iter().zip(b).map(|(a, b)| (a - of_a) * (b - of_b)).sum::<f64>()
    };
    let correlation = product(&error, &spread) / (product(&error, &error) * product(&spread, &spread)).sqrt();
    [within(1.0), within(2.0), band, correlation]
}

fn arguments() -> Case {
    let mut case = Case {
        views: 8,
        arc: 180.0,
        objects: 0..20,
        kind: "heads".to_owned(),
        matched: false,
        noise: 0.0,
        assumed: None,
        methods: vec!["dds".to_owned()],
        variation: (1e-4, 3e-4, 400),
        diffusion: DiffusionSpec::default(),
    };
    let mut rest = String::new();
    for argument in std::env::args().skip(1) {
        let (key, value) = argument.split_once('=').expect("KEY=VALUE");
        match key {
            "views" => case.views = value.parse().expect(key),
            "arc" => case.arc = value.parse().expect(key),
            "objects" => case.objects.end = case.objects.start + value.parse::<u64>().expect(key),
            "first" => {
                let first: u64 = value.parse().expect(key);
                case.objects = first..first + case.objects.end - case.objects.start;
            }
            "kind" => case.kind = value.to_owned(),
            "data" => case.matched = value == "matched",
            "noise" => case.noise = value.parse().expect(key),
            "tv_weight" => case.variation.0 = value.parse().expect(key),
            "tv_penalty" => case.variation.1 = value.parse().expect(key),
            "tv_steps" => case.variation.2 = value.parse().expect(key),
            "assumed" => case.assumed = Some(value.parse().expect(key)),
            "methods" => case.methods = value.split(',').map(str::to_owned).collect(),
            _ => rest += &format!("{key} = {value}\n"),
        }
    }
    case.diffusion = toml(&rest);
    case
}

/// The keys of the diffusion are those of a job file.
fn toml(text: &str) -> DiffusionSpec {
    #[derive(serde::Deserialize)]
    struct Problem {
        problem: DiffusionSpec,
    }
    let text = format!("[problem]\n{text}");
    let problem: std::result::Result<Problem, _> = toml::from_str(&text);
    problem.expect("keys of [problem.method.diffusion]").problem
}

#[allow(clippy::print_stdout, reason = "the table is the result")]
fn main() -> Result<()> {
    let mut case = arguments();
    let angles: Vec<f64> = (0..case.views).map(|i| case.arc.to_radians() * i as f64 / case.views as f64).collect();
    if wedge_degrees(&angles).is_some() && case.methods.iter().any(|method| method == "dds") {
        // As a job would have it.
        case.diffusion = case.diffusion.for_wedge(Method::Dds).0;
    }
    println!("# {case:?}");
    let mut rows: Vec<Vec<f64>> = Vec::new();
    for number in case.objects.clone() {
        let object = object(&case.kind, number);
        let first = (POINTS - SLICES) / 2;
        let truth = object.voxels([POINTS; 3], first..first + SLICES, 3);
        let mut beams = Beams::new(&angles)?;
        let mut y = if case.matched {
            let mut q = Buffer::zeros(&beams.device, beams.values)?;
            beams.forward(&mut Buffer::from_vec(&beams.device, truth.clone())?, &mut q)?;
            q.into_vec()
        } else {
            let rays = ParallelRays::centred(angles.clone(), POINTS, POINTS);
            let lines = object.line_integrals(&rays, first..first + SLICES);
            lines.into_iter().map(|p| p * POINTS as f32 / 2.0).collect()
        };
        let deviation = case.noise * f64::from(y.iter().fold(0f32, |m, v| m.max(*v)));
        let random = Philox::new(number, !OBJECTS);
        y.iter_mut().enumerate().for_each(|(i, y)| *y += (deviation * random.normal(i as u64)) as f32);
        let mut row = Vec::new();
        for method in &case.methods {
            let begun = Instant::now();
            let (image, more) =
                reconstruct(method, &case, &mut beams, y.clone(), case.assumed.unwrap_or(deviation), number)?;
            row.push(psnr(&image, &truth));
            print!("{number:3} {method:15} {:7.3} dB {:6.1} s", row[row.len() - 1], begun.elapsed().as_secs_f64());
            if let Some(posterior) = &more {
                let calibration = calibration(&image, &truth, posterior);
                for (name, value) in CALIBRATION.iter().zip(calibration) {
                    print!("  {name} {value:.4}");
                }
                row.extend(calibration);
            }
            println!();
        }
        rows.push(row);
    }
    let n = rows.len() as f64;
    for k in 0..rows[0].len() {
        let of = |row: &Vec<f64>| row[k];
        let mean = rows.iter().map(of).sum::<f64>() / n;
        let least = rows.iter().map(of).fold(f64::INFINITY, f64::min);
        println!("column {k}: mean {mean:.3}, least {least:.3}");
    }
    let last = rows[0].len() - 1;
    if case.methods.len() > 1 && last == case.methods.len() - 1 {
        let gains: Vec<f64> = rows.iter().map(|row| row[0] - row[last]).collect();
        let least = gains.iter().copied().fold(f64::INFINITY, f64::min);
        println!("gain of the first over the last: mean {:.3}, least {least:.3}", gains.iter().sum::<f64>() / n);
    }
    Ok(())
}

type Posterior = Option<(Vec<f32>, Vec<f32>, Vec<f32>)>;

#[allow(clippy::print_stdout, reason = "the last step's figures belong to the table")]
fn reconstruct(
    method: &str,
    case: &Case,
    beams: &mut Beams,
    y: Vec<f32>,
    deviation: f64,
    seed: u64,
) -> Result<(Vec<f32>, Posterior)> {
    if method == "admm-tv" {
        let (weight, penalty, steps) = case.variation;
        let spec = VariationSpec {
            weight: Weight::Given(weight),
            kind: None,
            along: None,
            penalty: Some(penalty),
            inner: Some(5),
            tolerance: None,
        };
        let data = Buffer::from_vec(&beams.device, y)?;
        let mut solver =
            TotalVariation::new(beams, data, TvParams { non_negative: true, ..spec.params(Minimiser::Admm, steps) })?;
        for number in 0..steps {
            solver.step(beams, number)?;
        }
        return Ok((solver.image().host().to_vec(), None));
    }
    let kind = match method {
        "diffusion-mbir" => Method::DiffusionMbir,
        "red-diff" => Method::RedDiff,
        _ => Method::Dds,
    };
    let spec = &case.diffusion;
    let denoiser = spec.denoiser(&Inputs { base: ".".into() }, [POINTS; 2])?;
    let mut solver = spec.solver(kind, denoiser, beams, y, (spec.scale, deviation), seed)?;
    let mut number = 0;
    let mut report = solver.step(beams, number)?;
    while !report.done {
        number += 1;
        report = solver.step(beams, number)?;
    }
    print!("{}", report.metrics.iter().map(|(name, value)| format!("{name} {value:.4e}  ")).collect::<String>());
    let image = solver.image().host().to_vec();
    let mut more = solver.more().into_iter().map(|(_, _, values)| values);
    let posterior = more.next().zip(more.next()).zip(more.next()).map(|((a, b), c)| (a, b, c));
    Ok((image, posterior))
}
