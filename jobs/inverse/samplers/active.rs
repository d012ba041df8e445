//! Which view next? Samples go down the levels of noise together, and on the way the view is measured about which they differ most.
//!
//! Active diffusion subsampling (Nolan, Stevens, van Nierop and van Sloun 2024) with the steps of [`super::dds`]: the samples' clean estimates x̂ᵢ are
//! particles of the posterior, and a view A_l that is not measured yet has a score of d²ᵢⱼ = ‖A_l x̂ᵢ − A_l x̂ⱼ‖², summed over all slices:
//!
//! - `entropy`: −(1/B) Σᵢ log (1/B) Σⱼ exp(−d²ᵢⱼ/w), the entropy of a mixture of normal laws about the particles' projections by pairs (Hershey and
//!   Olsen, ICASSP 2007), up to a constant. It lies between 0 and log B, so that one particle far off cannot decide alone.
//! - `log-sum-exp`: (1/B) Σᵢ log (1/B) Σⱼ exp(2 d²ᵢⱼ/w), as the authors' program has it: the farthest pair decides.
//! - `random`: for comparisons.
//!
//! Once all views are chosen the samples begin anew, with random numbers of their own: those that came down with fewer views have settled on what
//! the later ones contradict, and the last levels cannot mend that (docs/benchmarks.md). What is left is a posterior of the chosen views.
//!
//! w = 4 σ² of the mixture's laws is the mean of d² over all pairs and views on offer (four times the noise's variance at least): neither do all
//! pairs look far apart nor all equal, and no width has to be given.

use std::sync::Arc;

use convoke_cluster::results::{Axis, Meaning};
use convoke_cluster::{Fields, Region, Result, Results};
use convoke_kernels::{Buffer, Philox};
use serde::{Deserialize, Serialize};

use super::data::Data;
use super::dds::{Dds, DdsParams};
use super::tally::Tally;
use super::{Chain, World, bands, refuse_scale};
use crate::inverse::place::Place;
use crate::inverse::{Operator, Report, Solver, Views};
use crate::prior::Denoiser;

/// Stream of random numbers of views that are chosen by lot.
const LOT: u64 = 0x7669_6577_7321; // "views!"

/// How a view is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum By {
    /// Where the particles' projections have most entropy.
    #[default]
    Entropy,
    /// Where their farthest pairs are.
    LogSumExp,
    /// By lot.
    Random,
}

/// What may be measured, and when.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// Views that are measured from the beginning.
    pub first: Vec<usize>,
    /// Views on offer.
    pub offered: Vec<usize>,
    /// How many of them are measured on the way, one behind each of so many levels; 0: they are only judged, by the samples in the end.
    pub choices: u64,
    /// Part of the levels between which this happens, 0 the first and 1 the last: more than `choices` of them.
    pub window: [f64; 2],
    /// How.
    pub by: By,
}

impl Choice {
    /// How many views are chosen once level `i` of `steps` is done.
    fn due(&self, i: u64, steps: u64) -> u64 {
        (0..self.choices).filter(|k| level(self.window, (*k, self.choices), steps) <= i).count() as u64
    }
}

/// Behind which of so many levels choice `k` of all is made.
fn level(window: [f64; 2], (k, choices): (u64, u64), steps: u64) -> u64 {
    let part = window[0] + (window[1] - window[0]) * k as f64 / choices as f64;
    (part * steps as f64) as u64
}

/// Levels of so many that are gone down until all choices are made; behind them the samples begin anew.
pub fn lead(choices: u64, window: [f64; 2], steps: u64) -> u64 {
    if choices > 0 { level(window, (choices - 1, choices), steps) + 1 } else { 0 }
}

/// Samples on their way together.
pub struct Active {
    choice: Choice,
    steps: u64,
    particles: Vec<Dds>,
    denoiser: Arc<dyn Denoiser>,
    place: Place,
    /// The volume's value that is 1 for the denoiser, and the deviation of the noise.
    known: (f64, f64),
    seed: u64,
    /// Of the views that are measured.
    data: Option<Data>,
    /// Views chosen so far, in order.
    chosen: Vec<f64>,
    /// Their scores, one row of views on offer for each choice; 0 for those measured before.
    scores: Vec<f64>,
    finished: u64,
    image: Buffer<f32>,
}

impl std::fmt::Debug for Active {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Active").field("chosen", &self.chosen).finish_non_exhaustive()
    }
}

impl Active {
    /// `samples` volumes of data whose views are chosen. No communication.
    ///
    /// # Errors
    /// Of the device.
    pub fn new(
        (choice, params, samples): (Choice, DdsParams, u64),
        denoiser: Arc<dyn Denoiser>,
        operator: &dyn Operator,
        known: (f64, f64),
        seed: u64,
    ) -> Result<Self> {
        let place = operator.place().clone();
        let steps = params.levels.steps;
        let particles = (0..samples).map(|_| Dds::new(params.clone(), place.len())).collect();
        let image = Buffer::zeros(operator.device(), place.len())?;
        let (data, chosen, scores) = (None, Vec::new(), Vec::new());
        Ok(Self { choice, steps, particles, denoiser, place, known, seed, data, chosen, scores, finished: 0, image })
    }

    /// Views that are measured, in order.
    fn measured(&self) -> Vec<usize> {
        let chosen = self.chosen.iter().map(|view| *view as usize);
        let chosen = chosen.take(self.choice.choices as usize);
        self.choice.first.iter().copied().chain(chosen).collect()
    }

    /// The data of the views that are measured. Collective.
    fn prepare(&mut self, views: &mut dyn Views) -> Result<()> {
        if self.data.is_some() {
            return Ok(());
        }
        let y = views.choose(&self.measured())?;
        let mut data = Data::new(&*views, y, self.known)?;
        data.prepare(&mut *views)?;
        refuse_scale(&data)?;
        self.data = Some(data);
        Ok(())
    }

    /// Judges the views on offer by volumes, and chooses one. Collective.
    fn choose(&mut self, views: &mut dyn Views, volumes: &[Vec<f32>]) -> Result<()> {
        let measured = self.measured();
        let open: Vec<usize> = self.choice.offered.iter().copied().filter(|view| !measured.contains(view)).collect();
        let number = self.scores.len() / self.choice.offered.len();
        let scores = match self.choice.by {
            By::Random => {
                let random = Philox::new(self.seed, LOT);
                let at = |view: &usize| random.uniform(((number as u64) << 32) | *view as u64);
                open.iter().map(at).collect()
            }
            by => {
                let least = 4.0 * (self.known.1 / self.known.0).powi(2);
                scores(by, &self.distances(views, &open, volumes)?, (volumes.len(), least))
            }
        };
        let best = (0..open.len()).reduce(|best, k| if scores[k] > scores[best] { k } else { best });
        let Some(best) = best else { return Ok(()) };
        let of = |view: &usize| open.iter().position(|other| other == view).map_or(0.0, |k| scores[k]);
        self.scores.extend(self.choice.offered.iter().map(of));
        self.chosen.push(open[best] as f64);
        // The operator and its data are those of other views from here on.
        if self.choice.choices > 0 {
            self.data = None;
        }
        Ok(())
    }

    /// d² of all pairs of volumes, for each view: the same bits on any number of ranks. Collective.
    fn distances(&self, views: &mut dyn Views, open: &[usize], volumes: &[Vec<f32>]) -> Result<Vec<Vec<f64>>> {
        let device = views.device().clone();
        let buffer = |volume: &Vec<f32>| Buffer::from_vec(&device, volume.clone());
        let mut buffers: Vec<Buffer<f32>> = volumes.iter().map(buffer).collect::<std::result::Result<_, _>>()?;
        let slices = self.place.slices.len();
        let pairs = volumes.len() * (volumes.len() - 1) / 2;
        let mut all = Vec::new();
        for view in open {
            let seen = views.look(*view, &mut buffers)?;
            let mut of_slices = Vec::with_capacity(slices * pairs);
            for slice in 0..slices {
                let row = |q: &Vec<f32>| (slice * q.len() / slices)..((slice + 1) * q.len() / slices);
                for (i, a) in seen.iter().enumerate() {
                    of_slices.extend(seen[..i].iter().map(|b| {
                        let off = a[row(a)].iter().zip(&b[row(b)]).map(|(a, b)| f64::from(a - b).powi(2));
                        off.sum::<f64>()
                    }));
                }
            }
            all.push(self.place.sums(&of_slices, pairs)?);
        }
        Ok(all)
    }

    /// Mean, deviation and bands of the samples, once they are there.
    fn tally(&self) -> Option<Tally> {
        (self.finished == 1).then(|| {
            let mut tally = Tally::new(self.particles.len() as u64, self.place.len());
            self.particles.iter().for_each(|particle| tally.add(particle.volume()));
            tally
        })
    }
}

/// Of each view, from d² of the pairs of so many particles; w is `least` or more.
fn scores(by: By, distances: &[Vec<f64>], (particles, least): (usize, f64)) -> Vec<f64> {
    let all: f64 = distances.iter().flatten().sum();
    let mean = all / distances.iter().map(Vec::len).sum::<usize>().max(1) as f64;
    let width = mean.max(least).max(f64::MIN_POSITIVE);
    let factor = if by == By::LogSumExp { 2.0 / width } else { -1.0 / width };
    let sign = if by == By::LogSumExp { 1.0 } else { -1.0 };
    let of = |pairs: &Vec<f64>| {
        let pair = |i: usize, j: usize| match i.cmp(&j) {
            std::cmp::Ordering::Equal => 0.0,
            std::cmp::Ordering::Greater => factor * pairs[i * (i - 1) / 2 + j],
            std::cmp::Ordering::Less => factor * pairs[j * (j - 1) / 2 + i],
        };
        let one = |i: usize| {
            let most = (0..particles).map(|j| pair(i, j)).fold(f64::NEG_INFINITY, f64::max);
            most + ((0..particles).map(|j| (pair(i, j) - most).exp()).sum::<f64>() / particles as f64).ln()
        };
        sign * (0..particles).map(one).sum::<f64>() / particles as f64
    };
    distances.iter().map(of).collect()
}

impl Solver for Active {
    fn check(&mut self, operator: &mut dyn Operator) -> Result<()> {
        self.prepare(operator.views().expect("the workload brings an operator with views"))
    }

    fn step(&mut self, operator: &mut dyn Operator, number: u64) -> Result<Report> {
        let views = operator.views().expect("the workload brings an operator with views");
        self.prepare(views)?;
        let data = self.data.as_mut().expect("it was made above");
        let (mut volumes, mut sigma) = (Vec::new(), 0.0);
        let lead = lead(self.choice.choices, self.choice.window, self.steps);
        let (first, i) = (number < lead, if number < lead { number } else { number - lead });
        let last = !first && i + 1 >= self.steps;
        let choosing = if first {
            self.choice.due(i, self.steps) > self.chosen.len() as u64
        } else {
            last && self.choice.choices == 0
        };
        // The samples that choose are not those that remain.
        let begin = if first { self.particles.len() as u64 } else { 0 };
        for (k, particle) in self.particles.iter_mut().enumerate() {
            let mut world = World {
                operator: &mut *views,
                data: &mut *data,
                denoiser: &*self.denoiser,
                place: self.place.clone(),
                seed: self.seed,
                sample: begin + k as u64,
            };
            if i == 0 {
                particle.start(&mut world)?;
            }
            let (at, moved) = particle.advance(i, &mut world)?;
            sigma = at;
            if choosing {
                volumes.push(moved);
            }
        }
        let residual = data.residual(&mut *views, self.particles[0].volume())?;
        if choosing {
            self.choose(views, &volumes)?;
        }
        self.finished = u64::from(last);
        let measured = self.measured().len() as f64;
        Ok(Report { done: last, metrics: vec![("sigma", sigma), ("residual", residual.relative), ("views", measured)] })
    }

    fn image(&mut self) -> &mut Buffer<f32> {
        let mean = self.tally().map(|tally| tally.mean);
        let values = mean.as_deref().unwrap_or(self.particles[0].volume());
        let scale = self.known.0 as f32;
        self.image.host_mut().iter_mut().zip(values).for_each(|(out, v)| *out = scale * v);
        &mut self.image
    }

    fn fields<'a>(&'a mut self, _: &dyn Operator, fields: &mut Fields<'a>) {
        for (k, particle) in self.particles.iter_mut().enumerate() {
            for (name, values) in particle.state() {
                self.place.keep(&format!("{name}_{k}"), values, fields);
            }
        }
        fields.counter("finished", &mut self.finished);
        fields.history("chosen", &mut self.chosen);
        fields.history("scores", &mut self.scores);
    }

    fn restored(&mut self, operator: &mut dyn Operator) -> Result<()> {
        self.data = None;
        self.check(operator)
    }

    fn more(&mut self) -> Vec<(&'static str, &'static str, Vec<f32>)> {
        self.tally().map_or(Vec::new(), |tally| bands(&tally, self.known.0))
    }

    fn finish(&mut self, operator: &mut dyn Operator, out: &mut Results) -> Result<()> {
        let measured = self.measured();
        let Some(views) = operator.views() else { return Ok(()) };
        let (places, unit, what) = views.places();
        let of = |views: &[usize]| views.iter().map(|view| places[*view]).collect::<Vec<f64>>();
        out.series("views", &of(&measured), unit, &format!("{what} of the measured views, in their order"))?;
        out.series("candidates", &of(&self.choice.offered), unit, &format!("{what} of the views on offer"))?;
        out.figure("views_first", self.choice.first.len() as f64)?;
        // What was measured before has no score.
        let n = self.choice.offered.len();
        let before = |choice: usize| {
            let chosen = self.chosen[..choice].iter().map(|view| *view as usize);
            self.choice.first.iter().copied().chain(chosen).collect::<Vec<usize>>()
        };
        let of_choice = |(choice, row): (usize, &[f64])| {
            let before = before(choice);
            let open = |(view, score): (&usize, &f64)| if before.contains(view) { f64::NAN } else { *score };
            self.choice.offered.iter().zip(row).map(open).collect::<Vec<f64>>()
        };
        let scores: Vec<f64> = self.scores.chunks(n).enumerate().flat_map(of_choice).collect();
        let shape = [scores.len() / n, n];
        let axis = |name: &str| Axis { name: name.to_owned(), unit: "1".to_owned(), origin: 0.0, spacing: 1.0 };
        let axes = vec![axis("choice"), axis("candidate")];
        let meaning = Meaning { long_name: "scores of the views on offer".to_owned(), unit: "1".to_owned(), axes };
        out.array("view_scores", &shape, (Region::rows(&shape, 0..shape[0]), out.is_root()), &scores, &meaning)?;
        let names: Vec<String> = (1..=scores.len() / n).map(|choice| format!("choice {choice}")).collect();
        out.chart("view_scores", "candidates", &names.join(", "), None)?;
        match self.chosen.first().filter(|_| self.choice.choices == 0) {
            Some(view) => out.figure("next_view", places[*view as usize]),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
