//! The equations as one: samples side by side, of which all begin, move on and are looked at in the same way.

use bytemuck::{cast_slice, cast_slice_mut};
use convoke_cluster::BadValue;
use num_complex::Complex64;
use rayon::prelude::*;

use super::check::Clock;
use super::circle::Fourier;
use super::darcy::Darcy;
use super::elliptic::Stuck;
use super::initial::{GRID, Initial};
use super::line::Line;
use super::line_initial::LineInitial;
use super::spec::{Equation, InitialSpec, Spec};
use crate::flow::sampler::Sampler;
use crate::flow::{Flow, given};

/// What is solved. States are `[sample][number]`.
#[derive(Debug)]
pub enum System {
    /// A flow on a periodic square; the state is the vorticity's coefficients. All threads for one sample, or one for each.
    Square(Box<(Flow, Initial, Sampler)>, bool),
    /// A function on a circle; the state is its coefficients. The last part gives the values of the first so many.
    Line(Box<(Line, LineInitial, Fourier)>, usize),
    /// The pressure in a medium, which does not move; the state is coefficient, pressure, number of iterations. Every so many nodes
    /// are kept.
    Darcy(Box<Darcy>, usize),
}

impl System {
    /// # Errors
    /// [`BadValue`] for expressions that are none, or finer than the grid.
    pub fn new(spec: &Spec, clock: &Clock, wide: bool) -> Result<Self, BadValue> {
        let (n, points, length) = (spec.grid.points, spec.points(), spec.length()?);
        if spec.equation == Equation::Darcy {
            let medium = spec.medium.clone().unwrap_or_default();
            let darcy = Darcy::new(n, length, medium.values, (medium.alpha, medium.tau));
            return Ok(Self::Darcy(Box::new(darcy), (n - 1) / (points - 1)));
        }
        let missing = || BadValue::wrong("problem.initial", "missing");
        let initial: &InitialSpec = spec.initial.as_ref().ok_or_else(missing)?;
        if let Some(law) = spec.law() {
            let circle = law.circle(n, length);
            let (start, held) = (LineInitial::new(initial, &circle)?, circle.m.min((points - 1) / 2));
            let line = Line::new(law, circle, clock.step);
            return Ok(Self::Line(Box::new((line, start, Fourier::new(points))), held + 1));
        }
        let (modes, flow) = (spec.modes()?, spec.flow.clone().unwrap_or_default());
        let forcing = flow.forcing.as_deref();
        let forcing =
            forcing.map(|text| given::coefficients("problem.flow.forcing", text, &modes, GRID)).transpose()?;
        let constants = (flow.viscosity.unwrap_or_default(), flow.drag.unwrap_or_default());
        let (initial, sampler) = (Initial::new(initial, &modes)?, Sampler::new(&modes, points));
        let scheme = spec.time.as_ref().and_then(|time| time.scheme).unwrap_or_default();
        let flow = Flow::new(modes, constants, forcing.unwrap_or_default(), (scheme, clock.step), wide);
        Ok(Self::Square(Box::new((flow, initial, sampler)), wide))
    }

    /// Numbers of a state.
    fn numbers(&self) -> usize {
        match self {
            Self::Square(parts, _) => 2 * parts.0.modes.len(),
            Self::Line(parts, _) => 2 * (parts.0.circle.m + 1),
            Self::Darcy(darcy, _) => 2 * darcy.n * darcy.n + 1,
        }
    }

    /// Largest mode, where there are modes.
    pub fn modes(&self) -> Option<usize> {
        match self {
            Self::Square(parts, _) => Some(parts.0.modes.m),
            Self::Line(parts, _) => Some(parts.0.circle.m),
            Self::Darcy(..) => None,
        }
    }

    /// Points per unit of length that something crosses with a speed, where that limits a step.
    pub fn density(&self) -> Option<f64> {
        match self {
            Self::Square(parts, _) => Some(parts.0.modes.n as f64 / parts.0.modes.length),
            Self::Line(parts, _) if parts.0.nonlinear() => Some(parts.0.circle.n as f64 / parts.0.circle.length),
            Self::Line(..) | Self::Darcy(..) => None,
        }
    }

    /// The samples from `first` on at time 0.
    ///
    /// # Errors
    /// The first sample that cannot be solved, and why.
    pub fn begin(&self, states: &mut [f64], seed: u64, first: u64) -> Result<(), (u64, Stuck)> {
        let samples = states.par_chunks_exact_mut(self.numbers()).with_max_len(1).enumerate();
        let samples = samples.map(|(i, state)| (first + i as u64, state));
        match self {
            Self::Square(parts, _) => samples.for_each(|(sample, state)| {
                state.copy_from_slice(cast_slice(&parts.1.sample(&parts.0.modes, seed, sample)));
            }),
            Self::Line(parts, _) => samples.for_each(|(sample, state)| {
                state.copy_from_slice(cast_slice(&parts.1.sample(seed, sample)));
            }),
            Self::Darcy(darcy, _) => {
                let solve = |(sample, state): (u64, &mut [f64])| {
                    let (nodes, last) = (darcy.n * darcy.n, state.len() - 1);
                    let (fields, iterations) = state.split_at_mut(last);
                    let (a, p) = fields.split_at_mut(nodes);
                    let taken = darcy.sample(seed, sample, a, p).map_err(|stuck| (sample, stuck))?;
                    iterations[0] = taken as f64;
                    Ok(())
                };
                let solved: Vec<Result<(), (u64, Stuck)>> = samples.map(solve).collect();
                return solved.into_iter().collect();
            }
        }
        Ok(())
    }

    /// The samples after `steps` steps.
    pub fn advance(&self, states: &mut [f64], steps: u64) {
        let numbers = self.numbers();
        match self {
            Self::Square(parts, true) => {
                let (flow, mut mover) = (&parts.0, parts.0.mover());
                states.chunks_exact_mut(numbers).for_each(|w| flow.advance(cast_slice_mut(w), steps, &mut mover));
            }
            Self::Square(parts, false) => {
                let (flow, samples) = (&parts.0, states.par_chunks_exact_mut(numbers).with_max_len(1));
                samples.for_each_init(|| flow.mover(), |mover, w| flow.advance(cast_slice_mut(w), steps, mover));
            }
            Self::Line(parts, _) => {
                let (line, samples) = (&parts.0, states.par_chunks_exact_mut(numbers).with_max_len(1));
                samples.for_each_init(|| line.mover(), |mover, u| line.advance(cast_slice_mut(u), steps, mover));
            }
            Self::Darcy(..) => {}
        }
    }

    /// Figures of all samples, one after the other, as the layout names them.
    pub fn figures(&self, states: &[f64]) -> Vec<f64> {
        let samples = states.par_chunks_exact(self.numbers());
        let rows: Vec<Vec<f64>> = match self {
            Self::Square(parts, _) => {
                let (flow, modes) = (&parts.0, &parts.0.modes);
                let figures = |mover: &mut _, state: &[f64]| {
                    let w: &[Complex64] = cast_slice(state);
                    let front = [modes.energy(w), modes.enstrophy(w), flow.speed(w, mover)];
                    front.into_iter().chain(modes.energy_spectrum(w)).collect()
                };
                samples.map_init(|| flow.mover(), figures).collect()
            }
            Self::Line(parts, _) => {
                let line = &parts.0;
                let figures = |mover: &mut _, state: &[f64]| {
                    let u: &[Complex64] = cast_slice(state);
                    line.figures(u, mover).into_iter().chain(line.circle.energies(u)).collect()
                };
                samples.map_init(|| line.mover(), figures).collect()
            }
            Self::Darcy(darcy, _) => {
                let nodes = darcy.n * darcy.n;
                let figures = |state: &[f64]| {
                    let p = &state[nodes..2 * nodes];
                    let largest = p.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                    vec![state[2 * nodes], p.iter().sum::<f64>() / nodes as f64, largest]
                };
                samples.map(figures).collect()
            }
        };
        rows.concat()
    }

    /// Values of array number `array` of the layout, of one sample at the points of the result.
    pub fn values(&self, array: usize, state: &[f64]) -> Vec<f64> {
        match self {
            Self::Square(parts, _) => parts.2.values(&parts.0.modes, cast_slice(state)),
            Self::Line(parts, held) => parts.2.values(&cast_slice(state)[..*held]),
            Self::Darcy(darcy, every) => {
                let n = darcy.n;
                let nodes = &state[array * n * n..][..n * n];
                let rows = nodes.chunks_exact(n).step_by(*every);
                rows.flat_map(|row| row.iter().step_by(*every)).copied().collect()
            }
        }
    }
}
