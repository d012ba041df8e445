//! `[problem.method.diffusion]`: what the user types about a denoiser as prior, for every workload that reconstructs.

use std::path::PathBuf;
use std::sync::Arc;

use convoke_cluster::workload::Inputs;
use convoke_cluster::{BadValue, Error, Result};
use serde::{Deserialize, Serialize};

use super::Operator;
use super::price::{Pass, Price};
use super::samplers::active::{Active, Choice};
use super::samplers::data::{Data, POWER};
use super::samplers::dds::{Dds, DdsParams};
use super::samplers::levels::{Levels, Spacing};
use super::samplers::mbir::{Mbir, MbirParams};
use super::samplers::red::{Red, RedParams};
use super::samplers::tally::{MOST_SAMPLES, Tally};
use super::samplers::tuning::CANDIDATES;
use super::samplers::{Chain, Sampler};
use super::setting::{Setting, Words};
use crate::prior::{Denoiser, Learnt, foreign, weights};

/// Where the values lie in a job file.
const KEY: &str = "problem.method.diffusion";

/// Where a wedge of angles is missing (docs/benchmarks.md).
const WEDGE_ITERATIONS: usize = 20;
const WEDGE_LAMBDA: f64 = 3e-5;
const WEDGE_RHO: f64 = 1e-3;

/// How the data choose a weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// The least estimated error of the projections ([`super::samplers::tuning`]); it needs noise that is known.
    Sure,
}

impl Words for Rule {
    const EXPECTED: &'static str = "a number or \"sure\"";
}

/// How denoiser and data are brought together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// [`super::samplers::dds`].
    Dds,
    /// [`super::samplers::mbir`].
    DiffusionMbir,
    /// [`super::samplers::red`].
    RedDiff,
}

/// A denoiser as prior. Values that a method does not have are refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiffusionSpec {
    /// One that is a part of the program (`heads`), or the path of a denoiser's run, of its result, or of a file of weights
    /// (also of a score network of another program).
    #[serde(default = "defaults::denoiser")]
    pub denoiser: PathBuf,
    /// Value of the volume that is 1 for the denoiser, in the volume's unit.
    #[serde(default = "defaults::scale")]
    pub scale: f64,
    /// Levels of noise; absent: 50 (dds), 200 (diffusion-mbir), 400 (red-diff).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<u64>,
    /// The lowest and the highest level, for values between 0 and 1; absent: 0.01 and 20 (red-diff: 3).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sigma: Option<[f64; 2]>,
    /// How levels lie between them.
    #[serde(default)]
    pub spacing: Spacing,
    /// New noise of a step (dds): 0 none, 1 as much as keeps the law of each level; absent: 0.85.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eta: Option<f64>,
    /// Length of the corrector's step (diffusion-mbir); 0: no corrector; absent: 0.16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snr: Option<f64>,
    /// Step length of Adam (red-diff); absent: 0.1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// Weight of the prior (red-diff); absent: 0.25.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<f64>,
    /// Conjugate gradients of a data step; absent: 5 (dds; 20 where a wedge of angles is missing), 1 (diffusion-mbir); of the first volume: 20
    /// (red-diff).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iterations: Option<usize>,
    /// Weight of the total variation along z, for an operator of norm 1, or `"sure"`: chosen by the data (dds, diffusion-mbir); absent: 1e-4 (dds with a missing wedge: 3e-5).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lambda: Option<Setting<Rule>>,
    /// Penalty of its splitting (dds, diffusion-mbir); 0 leaves slices alone; absent: 0.01 (dds with a missing wedge: 1e-3).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rho: Option<f64>,
    /// Samples: two and more give the mean, the standard deviation and bands (dds, diffusion-mbir).
    #[serde(default = "defaults::samples")]
    pub samples: u64,
}

mod defaults {
    use super::PathBuf;

    pub fn denoiser() -> PathBuf {
        "heads".into()
    }

    pub fn scale() -> f64 {
        1.0
    }

    pub fn samples() -> u64 {
        1
    }
}

impl Default for DiffusionSpec {
    fn default() -> Self {
        Self {
            denoiser: defaults::denoiser(),
            scale: 1.0,
            steps: None,
            sigma: None,
            spacing: Spacing::default(),
            eta: None,
            snr: None,
            rate: None,
            weight: None,
            iterations: None,
            lambda: None,
            rho: None,
            samples: 1,
        }
    }
}

fn within<N: PartialOrd + std::fmt::Display>(key: &str, value: N, low: N, high: N) -> Result<(), BadValue> {
    if value >= low && value <= high {
        return Ok(());
    }
    Err(BadValue::new(format!("{KEY}.{key}"), value, format!("{low} to {high}")))
}

impl Method {
    fn name(self) -> &'static str {
        match self {
            Self::Dds => "dds",
            Self::DiffusionMbir => "diffusion-mbir",
            Self::RedDiff => "red-diff",
        }
    }
}

impl DiffusionSpec {
    /// Single values, and whether the method has them.
    ///
    /// # Errors
    /// [`BadValue`] that names the key.
    pub fn check(&self, method: Method) -> Result<(), BadValue> {
        use Method as M;
        let foreign = [
            ("eta", self.eta.is_some() && method != M::Dds),
            ("snr", self.snr.is_some() && method != M::DiffusionMbir),
            ("rate", self.rate.is_some() && method != M::RedDiff),
            ("weight", self.weight.is_some() && method != M::RedDiff),
            ("rho", self.rho.is_some() && method == M::RedDiff),
            ("lambda = \"sure\"", self.is_tuned() && method == M::RedDiff),
            ("samples", self.samples != 1 && method == M::RedDiff),
        ];
        if let Some((key, _)) = foreign.iter().find(|(_, there)| *there) {
            return Err(BadValue::foreign(format!("{KEY}.{key}"), format!("algorithm \"{}\"", method.name())));
        }
        within("scale", self.scale, 1e-12, 1e12)?;
        within("steps", self.levels(method).steps, 1, 10_000)?;
        let [low, high] = self.levels(method).sigma;
        within("sigma", low, 1e-4, 1e4)?;
        within("sigma", high, low, 1e4)?;
        within("eta", self.eta.unwrap_or(0.0), 0.0, 1.0)?;
        within("snr", self.snr.unwrap_or(0.0), 0.0, 10.0)?;
        within("rate", self.rate.unwrap_or(0.1), 1e-6, 10.0)?;
        within("weight", self.weight.unwrap_or(1.0), 0.0, 1e3)?;
        within("iterations", self.iterations.unwrap_or(1), 1, 100)?;
        within("lambda", self.given(), 0.0, 1e3)?;
        if self.is_tuned() && self.rho == Some(0.0) {
            let help = "it weighs nothing where rho is 0: give another rho, or remove the line";
            return Err(BadValue::new(format!("{KEY}.lambda"), "\"sure\"", "a rho above 0 beside it").help(help));
        }
        within("rho", self.rho.unwrap_or(0.0), 0.0, 1e3)?;
        within("samples", self.samples, 1, MOST_SAMPLES)
    }

    /// The same with the values that data with a missing wedge of angles ask for (dds: of what was tried, the best for heads from 90 degrees), and
    /// which of them were taken; those that are given stay.
    pub fn for_wedge(mut self, method: Method) -> (Self, Vec<String>) {
        let mut taken = Vec::new();
        if method != Method::Dds {
            return (self, taken);
        }
        if self.iterations.is_none() {
            taken.push(format!("iterations = {}", *self.iterations.insert(WEDGE_ITERATIONS)));
        }
        if self.lambda.is_none() {
            self.lambda = Some(Setting::Given(WEDGE_LAMBDA));
            taken.push(format!("lambda = {WEDGE_LAMBDA:e}"));
        }
        if self.rho.is_none() {
            taken.push(format!("rho = {:e}", *self.rho.insert(WEDGE_RHO)));
        }
        (self, taken)
    }

    fn levels(&self, method: Method) -> Levels {
        let (steps, high) = match method {
            Method::Dds => (50, 20.0),
            Method::DiffusionMbir => (200, 20.0),
            Method::RedDiff => (400, 3.0),
        };
        let (steps, sigma) = (self.steps.unwrap_or(steps), self.sigma.unwrap_or([0.01, high]));
        Levels { steps, sigma, spacing: self.spacing }
    }

    /// Whether the data choose a weight, so that their noise must be known.
    pub fn is_tuned(&self) -> bool {
        matches!(self.lambda, Some(Setting::Chosen(Rule::Sure)))
    }

    /// Refuses a weight that the data choose where their noise is not known.
    ///
    /// # Errors
    /// [`BadValue`] that names the key.
    pub fn check_noise(&self, known: bool) -> Result<(), BadValue> {
        if known || !self.is_tuned() {
            return Ok(());
        }
        let bad = BadValue::new(format!("{KEY}.lambda"), "\"sure\"", "problem.method.noise beside it");
        Err(bad.help("the estimated error needs the noise of the data; or give a number"))
    }

    /// Steps of all samples, and at most of the choice of a weight.
    pub fn steps(&self, method: Method) -> u64 {
        let more = if self.is_tuned() { 2 * CANDIDATES } else { 0 };
        (self.samples + more) * self.levels(method).steps
    }

    /// Levels of one sample.
    pub fn level_count(&self, method: Method) -> u64 {
        self.levels(method).steps
    }

    /// Reads the denoiser, and whether it takes slices of so many points.
    ///
    /// # Errors
    /// [`BadValue`] that names the key.
    pub fn denoiser(&self, inputs: &Inputs, points: [usize; 2]) -> Result<Arc<dyn Learnt>> {
        let key = format!("{KEY}.denoiser");
        let name = self.denoiser.to_string_lossy();
        let built_in = weights::BUILT_IN.iter().any(|(other, _)| *other == name);
        let path = inputs.resolve(&self.denoiser);
        let denoiser: Arc<dyn Learnt> = if built_in {
            Arc::new(weights::built_in(&name, &key)?)
        } else if foreign::holds_one(&path) {
            Arc::new(foreign::read(&path, &key)?)
        } else {
            Arc::new(weights::read(&path, &key).map_err(|error| {
                let known: Vec<&str> = weights::BUILT_IN.iter().map(|(name, _)| *name).collect();
                let help = format!("there are also denoisers without a file: {}", known.join(", "));
                match error {
                    Error::BadValue(bad) => bad.help(help).into(),
                    other => other,
                }
            })?)
        };
        let multiple = denoiser.multiple();
        if let Some(bad) = points.iter().find(|n| !n.is_multiple_of(multiple)) {
            let message =
                format!("it takes slices of a multiple of {multiple} points along x and y, and there are {bad}");
            return Err(BadValue::wrong(key, message).into());
        }
        Ok(denoiser)
    }

    /// Operations of a step that are the denoiser's, on so many slices.
    pub fn denoising(&self, method: Method, denoiser: &dyn Learnt, slices: usize, points: [usize; 2]) -> f64 {
        let passes = if method == Method::DiffusionMbir && self.snr != Some(0.0) { 2.0 } else { 1.0 };
        passes * slices as f64 * denoiser.flops(points)
    }

    /// Who denoises, in a sentence for the bill.
    pub fn denoised_by(denoiser: &dyn Learnt) -> String {
        if denoiser.has_kernels() {
            "a GPU denoises, where there is one; its kernels are untested on a GPU".to_owned()
        } else {
            "the processor denoises, also beside a GPU: there are no kernels for networks of other programs".to_owned()
        }
    }

    /// What a sample costs. Its first step counts as one among the others.
    pub fn price(&self, method: Method) -> Price {
        // A x, and how far it is from the data.
        let look = Pass { forward: 1, measured_dots: 1, ..Pass::default() };
        let gradients =
            |n: u64| Pass { forward: n + 1, back: n + 1, dots: 2 * n + 1, halos: 2 * n + 4, ..Pass::default() };
        let start = Pass::norm(POWER).and(1, Pass { back: 1, measured_dots: 2, ..Pass::default() });
        let (first, step, kept) = match method {
            Method::Dds => (Pass::default(), gradients(self.iterations.unwrap_or(5) as u64), 3),
            Method::DiffusionMbir => {
                let corrector = Pass { dots: 2, ..Pass::default() };
                (Pass::default(), gradients(self.iterations.unwrap_or(1) as u64).and(1, corrector), 3)
            }
            Method::RedDiff => {
                let step = Pass { forward: 1, back: 1, halos: 2, ..Pass::default() };
                (gradients(self.iterations.unwrap_or(20) as u64), step, 3)
            }
        };
        let tally = Tally::arrays(self.samples);
        // Data that are moved, and what they make of the volume.
        let tuned = u64::from(self.is_tuned());
        let start = start.and(tuned, Pass { forward: 2, measured_dots: 1, ..start });
        Price {
            volumes: 14 + tally + 5 * tuned,
            measured: 4 + 3 * tuned,
            kept_volumes: kept + tally + tuned,
            kept_measured: 0,
            start: start.and(1, first),
            step: step.and(1, look),
        }
    }

    /// What samples by dds cost that go together and choose views: `choices` times one of `offered`. Views that are looked at count as a product
    /// with A for each `measured` of them.
    pub fn price_of_views(&self, (choices, offered): (u64, u64), measured: u64) -> Price {
        let (one, samples) = (Self { samples: 1, ..self.clone() }.price(Method::Dds), self.samples);
        let pairs = samples * samples.saturating_sub(1) / 2;
        let looks = choices * (offered * samples).div_ceil(measured.max(1));
        let look = Pass { forward: looks, dots: choices * offered * pairs, ..Pass::default() };
        let step = Pass::default().and(samples, one.step);
        Price {
            volumes: 14 + 6 * samples + Tally::arrays(samples),
            kept_volumes: 3 * samples,
            start: Pass::default().and(choices + 1, one.start).and(1, look),
            step,
            ..one
        }
    }

    /// Weight of the total variation along z: as given, or 1e-4: of what was tried, the best for heads from eight views without noise.
    fn given(&self) -> f64 {
        self.lambda.and_then(|lambda| lambda.given()).unwrap_or(1e-4)
    }

    fn dds(&self) -> DdsParams {
        DdsParams {
            levels: self.levels(Method::Dds),
            eta: self.eta.unwrap_or(0.85),
            iterations: self.iterations.unwrap_or(5),
            lambda: self.given(),
            rho: self.rho.unwrap_or(1e-2),
        }
    }

    /// Samples by dds that go together and choose views of an operator that has them; as [`DiffusionSpec::solver`].
    ///
    /// # Errors
    /// Of the device.
    pub fn active(
        &self,
        choice: Choice,
        denoiser: Arc<dyn Learnt>,
        operator: &dyn Operator,
        (scale, deviation): (f64, f64),
        seed: u64,
    ) -> Result<Active> {
        let denoiser = placed(denoiser, operator)?;
        Active::new((choice, self.dds(), self.samples), denoiser, operator, (scale, deviation), seed)
    }

    /// The reconstruction of data y with noise of a standard deviation, `scale` the volume's value that is 1 for the denoiser. No
    /// communication: the first step refuses data of a volume with values far above `scale`.
    ///
    /// # Errors
    /// Of the device.
    pub fn solver(
        &self,
        method: Method,
        denoiser: Arc<dyn Learnt>,
        operator: &dyn Operator,
        y: Vec<f32>,
        (scale, deviation): (f64, f64),
        seed: u64,
    ) -> Result<Sampler> {
        let (levels, lambda, rho) = (self.levels(method), self.given(), self.rho.unwrap_or(1e-2));
        let denoiser = placed(denoiser, operator)?;
        let data = Data::new(operator, y, (scale, deviation))?;
        let len = operator.place().len();
        let chain: Box<dyn Chain> = match method {
            Method::Dds => Box::new(Dds::new(self.dds(), len)),
            Method::DiffusionMbir => {
                let (snr, iterations) = (self.snr.unwrap_or(0.16), self.iterations.unwrap_or(1));
                Box::new(Mbir::new(MbirParams { levels, snr, iterations, lambda, rho }, len))
            }
            Method::RedDiff => {
                let (rate, weight) = (self.rate.unwrap_or(0.1), self.weight.unwrap_or(0.25));
                Box::new(Red::new(
                    RedParams { levels, rate, weight, lambda, iterations: self.iterations.unwrap_or(20) },
                    len,
                ))
            }
        };
        let sampler = Sampler::new(chain, denoiser, (operator, data), self.samples, seed)?;
        Ok(if self.is_tuned() { sampler.tuned() } else { sampler })
    }
}

/// The denoiser where the operator works, if it can.
fn placed(denoiser: Arc<dyn Learnt>, operator: &dyn Operator) -> Result<Arc<dyn Denoiser>> {
    Ok(match denoiser.on(operator.device())? {
        Some(there) => there,
        None => denoiser,
    })
}
