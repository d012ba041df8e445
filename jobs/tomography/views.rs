//! `[problem.method.views]`: views that are chosen while the volume is sampled, or that should be measured next.

use std::ops::Range;

use convoke_cluster::{BadValue, Comm, Fields, Plan, Result, block};
use convoke_kernels::{Buffer, Device, ParallelGeometry};
use serde::{Deserialize, Serialize};

use super::angles::fold;
use super::methods::{self, Share};
use super::regularised::ParallelRays;
use super::spec::{Algorithm, MethodSpec, Spec, within};
use crate::inverse::diffusion::Method;
use crate::inverse::place::Place;
use crate::inverse::samplers::active::{By, Choice, lead};
use crate::inverse::{Operator, Views};

const KEY: &str = "problem.method.views";
/// Views on offer, at most.
const MOST: usize = 10_000;
/// Parts of the levels between which views are chosen, where the job does not say.
const WINDOW: [f64; 2] = [0.5, 0.95];

/// Views that are chosen: of those of the scan, of which the other ones are never looked at; or of some that were not measured.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ViewsSpec {
    /// Views of the scan to begin with, evenly spread.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<usize>,
    /// Views in the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<usize>,
    /// Parts of the levels of noise between which they are chosen, 0 the first level and 1 the last; absent: 0.5 and 0.95.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<[f64; 2]>,
    /// Angles that could be measured next: all views of the scan are used, and these are judged by the samples.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidates_degrees: Option<Vec<f64>>,
    /// What makes a view the next one.
    #[serde(default)]
    pub by: By,
}

impl ViewsSpec {
    /// Views that are measured in the end, of so many that the scan has.
    pub fn measured(&self, all: usize) -> usize {
        self.budget.unwrap_or(all).min(all)
    }

    /// How many choices are made, of how many views each, of so many that the scan has.
    pub fn choices(&self, all: usize) -> (u64, u64) {
        match &self.candidates_degrees {
            Some(candidates) => (1, candidates.len() as u64),
            None => (self.budget.unwrap_or(0).saturating_sub(self.first.unwrap_or(0)) as u64, all as u64),
        }
    }

    /// Steps of samples that have so many levels: down to the last choice, and then all of them.
    pub fn steps(&self, levels: u64) -> u64 {
        levels + lead(if self.candidates_degrees.is_some() { 0 } else { self.choices(0).0 }, self.window(), levels)
    }

    fn window(&self) -> [f64; 2] {
        self.window.unwrap_or(WINDOW)
    }

    /// The views of a scan with these angles, then those that were not measured; and what is chosen.
    pub fn choice(&self, angles_rad: &[f64]) -> Choice {
        let n = angles_rad.len();
        let (first, offered, choices) = match &self.candidates_degrees {
            Some(candidates) => ((0..n).collect(), (n..n + candidates.len()).collect(), 0),
            None => (spread(angles_rad, self.first.unwrap_or(n)), (0..n).collect(), self.choices(n).0),
        };
        Choice { first, offered, choices, window: self.window(), by: self.by }
    }
}

/// Of these angles `n` that are as evenly spread modulo π as can be, from the first one on.
fn spread(angles_rad: &[f64], n: usize) -> Vec<usize> {
    let mut left: Vec<usize> = (0..angles_rad.len()).collect();
    let mut taken = Vec::new();
    for k in 0..n.min(angles_rad.len()) {
        let due = angles_rad[0] + std::f64::consts::PI * k as f64 / n as f64;
        let off = |view: usize| {
            let off = fold(angles_rad[view] - due);
            off.min(std::f64::consts::PI - off)
        };
        let nearest = (0..left.len()).min_by(|a, b| off(left[*a]).total_cmp(&off(left[*b])));
        taken.extend(nearest.map(|k| left.remove(k)));
    }
    taken
}

/// What a job says of views, before its scan is opened.
///
/// # Errors
/// [`BadValue`] that names the key.
pub fn check(spec: &Spec) -> Result<(), BadValue> {
    let method = &spec.method;
    let Some(views) = &method.views else { return Ok(()) };
    let key = |name: &str| format!("{KEY}.{name}");
    if method.algorithm != Algorithm::Dds {
        let name = serde_json::to_value(method.algorithm).unwrap_or_default();
        return Err(BadValue::foreign(KEY, format!("algorithm {name}")).help("\"dds\" chooses views by its samples"));
    }
    if spec.geometry.is_some() {
        return Err(BadValue::wrong(KEY, "views are chosen of parallel beams only, and here is [problem.geometry]"));
    }
    for (name, there) in [("weights", method.weights.is_some()), ("mask_radius", method.mask_radius.is_some())] {
        if there {
            return Err(BadValue::foreign(format!("problem.method.{name}"), "a job with [problem.method.views]"));
        }
    }
    let diffusion = method.diffusion.clone().unwrap_or_default();
    if diffusion.samples < 2 {
        let bad = BadValue::new("problem.method.diffusion.samples", diffusion.samples, "2 or more");
        return Err(bad.help("views are chosen by how far samples differ: eight do"));
    }
    if diffusion.is_tuned() {
        return Err(BadValue::new(
            "problem.method.diffusion.lambda",
            "\"sure\"",
            "a number, where views are chosen on the way",
        ));
    }
    if let Some(candidates) = &views.candidates_degrees {
        let foreign =
            [("first", views.first.is_some()), ("budget", views.budget.is_some()), ("window", views.window.is_some())];
        if let Some((name, _)) = foreign.iter().find(|(_, there)| *there) {
            let bad = BadValue::foreign(key(name), "a job with candidates_degrees");
            return Err(bad.help("candidates that were not measured are judged in the end, with all views of the scan"));
        }
        let bad = |value: String| BadValue::new(key("candidates_degrees"), value, format!("1 to {MOST} finite angles"));
        if candidates.is_empty() || candidates.len() > MOST {
            return Err(bad(format!("{} of them", candidates.len())));
        }
        return candidates.iter().find(|angle| !angle.is_finite()).map_or(Ok(()), |angle| Err(bad(angle.to_string())));
    }
    let (Some(first), Some(budget)) = (views.first, views.budget) else {
        let bad = BadValue::wrong(KEY, "it needs first and budget, or candidates_degrees");
        return Err(bad.help("first = 4 and budget = 8: four evenly spread views, and four more that are chosen"));
    };
    within(&key("first"), first as f64, 1.0, MOST as f64)?;
    within(&key("budget"), budget as f64, first as f64 + 1.0, MOST as f64)?;
    let [from, to] = views.window();
    let levels = diffusion.level_count(Method::Dds);
    let choices = (budget - first) as f64;
    if (levels as f64) < choices + 1.0 {
        let expected = format!(
            "fewer than {}: one view at most is chosen between two of the {levels} levels",
            first as f64 + levels as f64
        );
        return Err(BadValue::new(key("budget"), budget, expected).help("raise problem.method.diffusion.steps"));
    }
    if !(0.0..=1.0).contains(&from) || !(from..=1.0).contains(&to) || (to - from) * (levels as f64) < choices + 1.0 {
        let expected = format!("[from, to] between 0 and 1, with more than {choices} of the {levels} levels inside");
        return Err(BadValue::new(key("window"), format!("[{from}, {to}]"), expected));
    }
    Ok(())
}

/// What a job says of views, for a scan with so many; and what the user should know.
///
/// # Errors
/// [`BadValue`] that names the key.
pub fn check_count(method: &MethodSpec, all: usize, plan: Option<&mut Plan>) -> Result<(), BadValue> {
    let Some(views) = &method.views else { return Ok(()) };
    if let Some(budget) = views.budget
        && (budget > all || all > MOST)
    {
        let expected = format!("at most the {} views of the scan", all.min(MOST));
        return Err(BadValue::new(format!("{KEY}.budget"), budget, expected));
    }
    let (choices, offered) = views.choices(all);
    if let Some(plan) = plan {
        plan.notes.push(match views.candidates_degrees {
            Some(_) => format!("{offered} views that were not measured are judged by the samples"),
            None => format!("{choices} views are chosen of {all}, the others are never looked at"),
        });
    }
    Ok(())
}

/// Parallel rays of views that are chosen one after another.
#[derive(Debug)]
pub(super) struct OfferedRays {
    share: Share,
    method: MethodSpec,
    /// With all views: those of the scan, then those that were not measured.
    geometry: ParallelGeometry,
    /// Projections of the scan, `[n_slices, n_angles, n_cols]`.
    data: Vec<f32>,
    column: Comm,
    slices: (Range<usize>, usize),
    /// Which of the ranks that share these slices this is, and how many there are.
    member: (usize, usize),
    rays: ParallelRays,
}

impl OfferedRays {
    /// Of a scan; `column` are the ranks with other slices.
    pub fn new(
        (share, column): (Share, Comm),
        (method, scan): (&MethodSpec, &ParallelGeometry),
        data: Vec<f32>,
        slices: (Range<usize>, usize),
        member: (usize, usize),
    ) -> Result<Self> {
        let candidates = method.views.as_ref().and_then(|views| views.candidates_degrees.clone()).unwrap_or_default();
        let more = candidates.iter().map(|angle| angle.to_radians());
        let angles_rad = scan.angles_rad.iter().copied().chain(more).collect();
        let none = methods::Views { projector: None, data: Buffer::zeros(&share.device, 0)? };
        let (rays, _) = ParallelRays::new(share.clone(), none, column.clone(), slices.clone(), (0..0, 0))?;
        let geometry = ParallelGeometry { angles_rad, ..scan.clone() };
        Ok(Self { share, method: method.clone(), geometry, data, column, slices, member, rays })
    }
}

impl Operator for OfferedRays {
    fn place(&self) -> &Place {
        self.rays.place()
    }

    fn measured_len(&self) -> usize {
        self.rays.measured_len()
    }

    fn forward(&mut self, v: &mut Buffer<f32>, q: &mut Buffer<f32>) -> Result<()> {
        self.rays.forward(v, q)
    }

    fn back(&mut self, q: &mut Buffer<f32>, v: &mut Buffer<f32>) -> Result<()> {
        self.rays.back(q, v)
    }

    fn dot(&self, a: &[f32], b: &[f32]) -> Result<f64> {
        self.rays.dot(a, b)
    }

    fn keep<'a>(&self, name: &str, q: &'a mut Buffer<f32>, fields: &mut Fields<'a>) {
        self.rays.keep(name, q, fields);
    }

    fn device(&self) -> &Device {
        self.rays.device()
    }

    fn views(&mut self) -> Option<&mut dyn Views> {
        Some(self)
    }
}

impl Views for OfferedRays {
    fn places(&self) -> (Vec<f64>, &'static str, &'static str) {
        (self.geometry.angles_rad.iter().map(|angle| angle.to_degrees()).collect(), "degree", "angles")
    }

    fn choose(&mut self, views: &[usize]) -> Result<Vec<f32>> {
        let here = block(views.len(), self.member.0, self.member.1);
        let mine = &views[here.clone()];
        let n_cols = self.share.n_cols;
        let n_all = self.data.len() / (self.share.n_slices * n_cols).max(1);
        let row = |s: usize, a: usize| &self.data[(s * n_all + a) * n_cols..][..n_cols];
        let rows = (0..self.share.n_slices).flat_map(|s| mine.iter().flat_map(move |a| row(s, *a)));
        let data: Vec<f32> = rows.copied().collect();
        let projector = methods::projector(&self.share.device, &self.geometry, mine, &self.method)?;
        let parts = methods::Views { projector, data: Buffer::from_vec(&self.share.device, data)? };
        let (share, column) = (self.share.clone(), self.column.clone());
        let (rays, data) = ParallelRays::new(share, parts, column, self.slices.clone(), (here, views.len()))?;
        self.rays = rays;
        Ok(data)
    }

    fn look(&mut self, view: usize, volumes: &mut [Buffer<f32>]) -> Result<Vec<Vec<f32>>> {
        let device = &self.share.device;
        let projector = methods::projector(device, &self.geometry, &[view], &self.method)?;
        let len = self.share.n_slices * self.share.n_cols;
        let see = |volume: &mut Buffer<f32>| -> Result<Vec<f32>> {
            let mut q = Buffer::zeros(device, len)?;
            if let Some(projector) = projector.as_ref().filter(|_| len > 0) {
                projector.forward(volume, &mut q)?;
            }
            Ok(q.into_vec())
        };
        volumes.iter_mut().map(see).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of 64 views over half a turn every eighth, of a whole turn in any order those nearest modulo π, none twice.
    #[test]
    fn first_views_are_evenly_spread() {
        let degrees = |all: &[f64]| -> Vec<f64> { all.iter().map(|angle| angle.to_radians()).collect() };
        let half: Vec<f64> = (0..64).map(|i| 3.0 + 180.0 * f64::from(i) / 64.0).collect();
        assert_eq!(spread(&degrees(&half), 8), [0, 8, 16, 24, 32, 40, 48, 56]);
        let turn = [10.0, 190.0, 300.0, 60.0, 145.0, 101.0, 235.0];
        assert_eq!(spread(&degrees(&turn), 4), [0, 6, 5, 4]);
        assert_eq!(spread(&degrees(&turn), 9).len(), 7);
    }
}
