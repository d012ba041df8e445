//! What a trained operator makes of data: errors, and roll-outs where it is applied to its own outputs.
//!
//! A roll-out treats channels as snapshots in time: after each application the newest of inputs and outputs are the next input.

use convoke_cluster::comm::CommError;
use convoke_cluster::results::{Axis, Meaning};
use convoke_cluster::{Ctx, Fields, Progress, Region, Result, Results};

use super::data::{Layout, Set};
use super::norms::Norm;
use super::saved::{Operator, Placed};
use super::spec::{EvaluationSpec, Spec, TestSpec};
use super::spectra::Shells;
use super::spectral::Sharing;
use super::training::SHOWN;
use crate::learning::Learn;
use crate::learning::real::Real;

/// Samples that are evaluated at once.
pub(super) const TOGETHER: usize = 16;
/// Figures of each application: relative L2 errors of the operator and of a field that stays as it was; mean and mean square of the newest field,
/// of the operator and of the data.
const FIGURES: usize = 6;

/// One test set, a step each.
#[derive(Debug)]
pub struct Evaluation<T> {
    applications: usize,
    /// What is evaluated.
    pub(super) operator: Operator<T>,
    sets: Vec<(String, Set<T>, Shells<T>)>,
    /// Sets that are done.
    done: u64,
    /// Figures of all sets, `[set][application][FIGURES]`.
    figures: Vec<f64>,
    /// Power by shells of wave numbers after the last application, of the operator and of the data, one set after another.
    spectra: Vec<f64>,
}

impl<T: Real> Evaluation<T> {
    /// Reads the data. Collective.
    ///
    /// # Errors
    /// Of the data.
    pub fn new(
        (spec, evaluation): (&Spec, &EvaluationSpec),
        operator: Operator<T>,
        layouts: &[Layout],
        ctx: &Ctx,
    ) -> Result<Self> {
        let sets = layouts
            .iter()
            .map(|layout| Set::<T>::read(&spec.data, layout, 0..layout.points[0]))
            .collect::<Result<Vec<_>>>();
        let sets = ctx.comm.agree(sets)?;
        let named = |(test, set): (&TestSpec, Set<T>)| {
            let shells = Shells::new(&set.points);
            (test.name.clone(), set, shells)
        };
        let sets: Vec<(String, Set<T>, Shells<T>)> = spec.test.iter().zip(sets).map(named).collect();
        Ok(Self {
            applications: evaluation.applications,
            figures: vec![0.0; sets.len() * evaluation.applications * FIGURES],
            spectra: vec![0.0; sets.iter().map(|(.., shells)| 2 * shells.count).sum()],
            sets,
            operator,
            done: 0,
        })
    }

    /// Of no data: for [`Evaluation::roll_out`] alone.
    pub(super) fn of(operator: Operator<T>, applications: usize) -> Self {
        Self { applications, operator, sets: Vec::new(), done: 0, figures: Vec::new(), spectra: Vec::new() }
    }

    /// Outputs of all applications, one after another, for inputs as the data have them.
    pub(super) fn roll_out(&self, placed: &Placed<T>, inputs: &[Vec<T>]) -> Result<Vec<Vec<T>>, CommError> {
        let operator = &self.operator;
        let mut state: Vec<Vec<T>> = inputs.to_vec();
        let mut all: Vec<Vec<T>> = vec![Vec::new(); inputs.len()];
        for _ in 0..self.applications {
            let mut encoded = state.clone();
            encoded.iter_mut().for_each(|field| operator.input.encode(field));
            let outputs = operator.apply(placed, &encoded, &Sharing::default())?;
            for ((output, state), all) in outputs.into_iter().zip(&mut state).zip(&mut all) {
                let len = state.len();
                state.extend(&output);
                state.drain(..state.len() - len);
                all.extend(output);
            }
        }
        Ok(all)
    }
}

impl<T: Real> Learn for Evaluation<T> {
    fn step(&mut self, ctx: &Ctx) -> Result<Progress> {
        let index = self.done as usize;
        let (_, set, shells) = &self.sets[index];
        let (model, norm, shape) = (self.operator.on(&set.points), Norm::Lp(2.0), &self.operator.card.shape);
        let [_, channels] = shape.channels();
        let (mine, size) = (ctx.comm.block(set.inputs.len()), set.points.iter().product::<usize>());
        let (part, count) = (channels * size, set.inputs.len() as f64);
        let (mut sums, mut spectra) = (vec![0.0; self.applications * FIGURES], vec![0.0; 2 * shells.count]);
        for first in mine.clone().step_by(TOGETHER) {
            let samples = first..mine.end.min(first + TOGETHER);
            for (output, i) in self.roll_out(&model, &set.inputs[samples.clone()])?.iter().zip(samples) {
                // The last snapshot of the input stays.
                let last = &set.inputs[i][set.inputs[i].len() - size..];
                let still = last.repeat(channels);
                for (power, fields) in spectra.chunks_mut(shells.count).zip([output, &set.targets[i]]) {
                    let last = shells.power(&fields[fields.len() - part..], channels);
                    power.iter_mut().zip(last).for_each(|(sum, power)| *sum += power / count);
                }
                let parts = output.chunks(part).zip(set.targets[i].chunks(part));
                for (sums, (output, target)) in sums.chunks_mut(FIGURES).zip(parts) {
                    sums[0] += norm.relative(output, target, channels).0 / count;
                    sums[1] += norm.relative(&still, target, channels).0 / count;
                    let newest = [output, target].map(|fields| &fields[part - size..]);
                    for (sums, field) in sums[2..].chunks_mut(2).zip(newest) {
                        let mean = |of: fn(f64) -> f64| field.iter().map(|v| of(v.wide())).sum::<f64>() / size as f64;
                        sums[0] += mean(|v| v) / count;
                        sums[1] += mean(|v| v * v) / count;
                    }
                }
            }
        }
        ctx.comm.all_sum(&mut sums)?;
        ctx.comm.all_sum(&mut spectra)?;
        let before: usize = self.sets[..index].iter().map(|(.., shells)| 2 * shells.count).sum();
        self.spectra[before..before + spectra.len()].copy_from_slice(&spectra);
        self.figures[index * sums.len()..(index + 1) * sums.len()].copy_from_slice(&sums);
        let work = count * self.applications as f64 * shape.flops(&set.points);
        self.done += 1;
        let all = self.sets.len() as u64;
        let metrics = vec![("error", sums[0]), ("persistence", sums[1])];
        Ok(Progress { done: self.done == all, fraction: self.done as f64 / all as f64, work, metrics })
    }

    fn fields<'a>(&'a mut self, fields: &mut Fields<'a>) {
        fields.counter("done", &mut self.done);
        let shape = [self.figures.len()];
        fields.array("figures", &shape, Region::whole(&shape), &mut self.figures[..]);
        let shape = [self.spectra.len()];
        fields.array("spectra", &shape, Region::whole(&shape), &mut self.spectra[..]);
    }

    fn finish(&mut self, _ctx: &Ctx, out: &mut Results) -> Result<()> {
        let axis = |name: &str| Axis { name: name.to_owned(), unit: "1".to_owned(), origin: 0.0, spacing: 1.0 };
        let root = out.is_root();
        let (applications, mut spectra) = (self.applications, self.spectra.as_slice());
        for ((name, set, shells), figures) in self.sets.iter().zip(self.figures.chunks(applications * FIGURES)) {
            let column = |i: usize| figures.iter().skip(i).step_by(FIGURES).copied().collect::<Vec<f64>>();
            out.series(&format!("{name}_error"), &column(0), "1", "relative L2 error of each application")?;
            out.series(&format!("{name}_persistence"), &column(1), "1", "that of the last input, unchanged")?;
            for (k, what) in [(2, "mean"), (3, "mean_square")] {
                let long_name = format!("{what} of the newest field after each application: the operator, the data");
                let meaning = Meaning { long_name, unit: "1".to_owned(), axes: Vec::new() };
                let (array, shape) = (format!("{name}_{what}"), [2, applications]);
                let both = [column(k), column(k + 2)].concat();
                out.array(&array, &shape, (Region::whole(&shape), root), &both, &meaning)?;
            }
            let (power, rest) = spectra.split_at(2 * shells.count);
            spectra = rest;
            let wave_numbers: Vec<f64> = (0..power.len() / 2).map(|k| k as f64).collect();
            out.series(&format!("{name}_wave_number"), &wave_numbers, "1", "whole part of |k|")?;
            let shape = [2, power.len() / 2];
            let long_name = "power in shells of |k| after the last application: the operator, the data".to_owned();
            let meaning = Meaning { long_name, unit: "1".to_owned(), axes: Vec::new() };
            let spectrum = format!("{name}_spectrum");
            out.array(&spectrum, &shape, (Region::whole(&shape), root), power, &meaning)?;
            out.chart(&spectrum, &format!("{name}_wave_number"), "operator, data", None)?;
            let shown = SHOWN.min(set.inputs.len());
            let predictions = self.roll_out(&self.operator.on(&set.points), &set.inputs[..shown])?.concat();
            let channels = applications * self.operator.card.shape.channels()[1];
            let shape = [&[shown, channels], set.points.as_slice()].concat();
            let axes = ["sample", "channel", "x", "y", "z"][..shape.len()].iter().map(|name| axis(name)).collect();
            let meaning = Meaning { long_name: "what the operator gives".to_owned(), unit: "1".to_owned(), axes };
            let name = format!("{name}_predictions");
            out.array(&name, &shape, (Region::whole(&shape), root), &predictions, &meaning)?;
        }
        out.figure("applications", applications as f64)
    }
}
