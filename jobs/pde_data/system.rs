//! The equations as one: samples side by side, of which all begin, move on and are looked at in the same way.

use bytemuck::{cast_slice, cast_slice_mut};
use convoke_cluster::{BadValue, Comm};
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
use crate::flow::slabs::Slabs;
use crate::flow::{Flow, Modes, Scheme, given};

/// What is solved. States are `[sample][number]`.
#[derive(Debug)]
pub enum System {
    /// The state is the vorticity's coefficients.
    Square(Box<Square>),
    /// The state is the function's coefficients.
    Circle(Box<Wave>),
    /// The state is coefficient, pressure and number of iterations.
    Darcy(Box<Medium>),
}

/// ν and μ, coefficients of the forcing, and the scheme of a flow.
type Constants = ((f64, f64), Vec<Complex64>, Scheme);

fn equation(spec: &Spec, modes: &Modes) -> Result<Constants, BadValue> {
    let flow = spec.flow.clone().unwrap_or_default();
    let forcing = flow.forcing.as_deref();
    let forcing = forcing.map(|text| given::coefficients("problem.flow.forcing", text, modes, GRID)).transpose()?;
    let constants = (flow.viscosity.unwrap_or_default(), flow.drag.unwrap_or_default());
    let scheme = spec.time.as_ref().and_then(|time| time.scheme).unwrap_or_default();
    Ok((constants, forcing.unwrap_or_default(), scheme))
}

/// The flow of a job over the ranks of `comm`.
///
/// # Errors
/// As [`System::new`].
pub fn shared(spec: &Spec, clock: &Clock, comm: &Comm) -> Result<Flow<Slabs>, BadValue> {
    let modes = spec.modes()?;
    let (constants, forcing, scheme) = equation(spec, &modes)?;
    Ok(Flow::shared(modes, constants, forcing, (scheme, clock.step), comm))
}

/// A flow on a periodic square.
#[derive(Debug)]
pub struct Square {
    flow: Flow,
    start: Initial,
    sampler: Sampler,
    /// All threads work on one sample.
    wide: bool,
}

/// A function on a circle.
#[derive(Debug)]
pub struct Wave {
    line: Line,
    start: LineInitial,
    /// For the points of the result.
    sampler: Fourier,
    /// Coefficients that these points hold.
    held: usize,
}

/// The pressure in a medium, which does not move.
#[derive(Debug)]
pub struct Medium {
    darcy: Darcy,
    /// From one node of the result to the next.
    stride: usize,
}

impl System {
    /// # Errors
    /// [`BadValue`] for expressions that are none, or finer than the grid.
    pub fn new(spec: &Spec, clock: &Clock, wide: bool) -> Result<Self, BadValue> {
        let (n, points, length) = (spec.grid.points, spec.points(), spec.length()?);
        if spec.equation == Equation::Darcy {
            let medium = spec.medium.clone().unwrap_or_default();
            let darcy = Darcy::new(n, length, medium.values, (medium.alpha, medium.tau));
            return Ok(Self::Darcy(Box::new(Medium { darcy, stride: (n - 1) / (points - 1) })));
        }
        let missing = || BadValue::wrong("problem.initial", "missing");
        let initial: &InitialSpec = spec.initial.as_ref().ok_or_else(missing)?;
        if let Some(law) = spec.law() {
            let circle = law.circle(n, length);
            let (start, held) = (LineInitial::new(initial, &circle)?, 1 + circle.m.min((points - 1) / 2));
            let line = Line::new(law, circle, clock.step);
            return Ok(Self::Circle(Box::new(Wave { line, start, sampler: Fourier::new(points), held })));
        }
        let modes = spec.modes()?;
        let (start, sampler) = (Initial::new(initial, &modes)?, Sampler::new(&modes, points));
        let (constants, forcing, scheme) = equation(spec, &modes)?;
        let flow = Flow::new(modes, constants, forcing, (scheme, clock.step), wide);
        Ok(Self::Square(Box::new(Square { flow, start, sampler, wide })))
    }

    /// The flow, if it is one.
    pub fn flow(&self) -> Option<&Flow> {
        match self {
            Self::Square(square) => Some(&square.flow),
            Self::Circle(_) | Self::Darcy(_) => None,
        }
    }

    /// Numbers of a state.
    pub fn numbers(&self) -> usize {
        match self {
            Self::Square(square) => 2 * square.flow.modes.len(),
            Self::Circle(wave) => 2 * (wave.line.circle.m + 1),
            Self::Darcy(medium) => 2 * medium.darcy.n.pow(2) + 1,
        }
    }

    /// Largest mode, where there are modes.
    pub fn modes(&self) -> Option<usize> {
        match self {
            Self::Square(square) => Some(square.flow.modes.m),
            Self::Circle(wave) => Some(wave.line.circle.m),
            Self::Darcy(_) => None,
        }
    }

    /// Points per unit of length that something crosses with a speed, where that limits a step.
    pub fn density(&self) -> Option<f64> {
        match self {
            Self::Square(square) => Some(square.flow.modes.n as f64 / square.flow.modes.length),
            Self::Circle(wave) => wave.line.nonlinear().then(|| wave.line.circle.n as f64 / wave.line.circle.length),
            Self::Darcy(_) => None,
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
            Self::Square(square) => samples.for_each(|(sample, state)| {
                state.copy_from_slice(cast_slice(&square.start.sample(&square.flow.modes, seed, sample)));
            }),
            Self::Circle(wave) => samples.for_each(|(sample, state)| {
                state.copy_from_slice(cast_slice(&wave.start.sample(seed, sample)));
            }),
            Self::Darcy(medium) => {
                let solve = |(sample, state): (u64, &mut [f64])| {
                    let [a, p, iterations] = medium.parts(state);
                    let taken = medium.darcy.sample(seed, sample, a, p).map_err(|stuck| (sample, stuck))?;
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
            Self::Square(square) if square.wide => {
                let (flow, mut mover) = (&square.flow, square.flow.mover());
                states.chunks_exact_mut(numbers).for_each(|w| flow.advance(cast_slice_mut(w), steps, &mut mover));
            }
            Self::Square(square) => {
                let (flow, samples) = (&square.flow, states.par_chunks_exact_mut(numbers).with_max_len(1));
                samples.for_each_init(|| flow.mover(), |mover, w| flow.advance(cast_slice_mut(w), steps, mover));
            }
            Self::Circle(wave) => {
                let (line, samples) = (&wave.line, states.par_chunks_exact_mut(numbers).with_max_len(1));
                samples.for_each_init(|| line.mover(), |mover, u| line.advance(cast_slice_mut(u), steps, mover));
            }
            Self::Darcy(_) => {}
        }
    }

    /// Figures of all samples, one after the other, as the layout names them.
    pub fn figures(&self, states: &[f64]) -> Vec<f64> {
        let samples = states.par_chunks_exact(self.numbers());
        let rows: Vec<Vec<f64>> = match self {
            Self::Square(square) => {
                let flow = &square.flow;
                let figures = |mover: &mut _, state: &[f64]| {
                    let (w, modes): (&[Complex64], _) = (cast_slice(state), &flow.modes);
                    let front = [modes.energy(w), modes.enstrophy(w), flow.speed(w, mover)];
                    front.into_iter().chain(modes.energy_spectrum(w)).collect()
                };
                samples.map_init(|| flow.mover(), figures).collect()
            }
            Self::Circle(wave) => {
                let line = &wave.line;
                let figures = |mover: &mut _, state: &[f64]| {
                    let u: &[Complex64] = cast_slice(state);
                    line.figures(u, mover).into_iter().chain(line.circle.energies(u)).collect()
                };
                samples.map_init(|| line.mover(), figures).collect()
            }
            Self::Darcy(medium) => samples.map(|state| medium.figures(state)).collect(),
        };
        rows.concat()
    }

    /// Values of array number `array` of the layout, of one sample at the points of the result.
    pub fn values(&self, array: usize, state: &[f64]) -> Vec<f64> {
        match self {
            Self::Square(square) => square.sampler.values(&square.flow.modes, cast_slice(state)),
            Self::Circle(wave) => wave.sampler.values(&cast_slice(state)[..wave.held]),
            Self::Darcy(medium) => {
                let (n, stride) = (medium.darcy.n, medium.stride);
                let rows = state[array * n * n..][..n * n].chunks_exact(n).step_by(stride);
                rows.flat_map(|row| row.iter().step_by(stride)).copied().collect()
            }
        }
    }
}

impl Medium {
    /// Coefficient, pressure and number of iterations in a state.
    fn parts<'a>(&self, state: &'a mut [f64]) -> [&'a mut [f64]; 3] {
        let nodes = self.darcy.n.pow(2);
        let (a, rest) = state.split_at_mut(nodes);
        let (p, iterations) = rest.split_at_mut(nodes);
        [a, p, iterations]
    }

    /// Iterations, mean and largest pressure.
    fn figures(&self, state: &[f64]) -> Vec<f64> {
        let nodes = self.darcy.n.pow(2);
        let (p, iterations) = state[nodes..].split_at(nodes);
        let largest = p.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        vec![iterations[0], p.iter().sum::<f64>() / nodes as f64, largest]
    }
}
