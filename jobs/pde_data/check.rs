//! What of `[problem]` belongs together, single values, and the clock.

use convoke_cluster::BadValue;

use super::layout;
use super::line::Law;
use super::spec::{Equation, InitialKind, InitialSpec, MediumSpec, Spec};
use crate::expression::Number;
use crate::flow::{Modes, function};

/// How far from a whole number of steps a time may lie.
const WHOLE: f64 = 1e-6;

/// When samples are looked at, in whole numbers of steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Clock {
    /// Length of a step.
    pub step: f64,
    /// Steps before the first snapshot.
    pub start: u64,
    /// Steps between snapshots.
    pub every: u64,
    /// Number of snapshots.
    pub snapshots: usize,
}

impl Clock {
    /// Of what does not move: one look.
    const STILL: Self = Self { step: 1.0, start: 0, every: 1, snapshots: 1 };

    /// Steps of a sample.
    pub fn steps(&self) -> u64 {
        self.start + self.every * (self.snapshots as u64 - 1)
    }

    /// Pieces of its way, each up to a snapshot or as long as the time between two.
    pub fn intervals(&self) -> u64 {
        self.start.div_ceil(self.every) + self.snapshots as u64 - 1
    }

    /// Whether a snapshot is due after `done` steps.
    pub fn due(&self, done: u64) -> bool {
        done >= self.start && (done - self.start).is_multiple_of(self.every)
    }

    /// Steps of the interval that begins after `done` of them.
    pub fn next(&self, done: u64) -> u64 {
        if done < self.start { self.every.min(self.start - done) } else { self.every }
    }

    /// Time after `done` steps.
    pub fn time(&self, done: u64) -> f64 {
        done as f64 * self.step
    }
}

impl Equation {
    /// As in a job file.
    pub fn name(self) -> &'static str {
        match self {
            Self::NavierStokes => "navier-stokes",
            Self::Burgers => "burgers",
            Self::KuramotoSivashinsky => "kuramoto-sivashinsky",
            Self::Advection => "advection",
            Self::Darcy => "darcy",
        }
    }
}

impl Spec {
    /// Keys that are missing or belong to another equation, and single values.
    ///
    /// # Errors
    /// [`BadValue`] that names the key.
    pub fn check(&self) -> Result<(), BadValue> {
        self.keys()?;
        let within = |key: &str, value: usize, low: usize, high: usize| match (low..=high).contains(&value) {
            true => Ok(()),
            false => Err(BadValue::new(format!("problem.{key}"), value, format!("{low} to {high}"))),
        };
        let most = layout::most_points(self.equation);
        within("samples", self.samples, 1, 100_000_000)?;
        within("batch", self.batch, 1, 1_000_000)?;
        within("grid.points", self.grid.points, 4, most)?;
        within("time.snapshots", self.time.as_ref().map_or(1, |time| time.snapshots), 1, 1_000_000)?;
        within("output.points", self.points(), 4, most)?;
        let (gaps, kept) = (self.grid.points - 1, self.points() - 1);
        if self.equation == Equation::Darcy && !gaps.is_multiple_of(kept) {
            let expected = format!("1 more than a divisor of {gaps}, to take every so many nodes");
            return Err(BadValue::new("problem.output.points", kept + 1, expected));
        }
        positive("grid.length", self.length()?)?;
        if let Some(flow) = &self.flow {
            for (key, value) in [("flow.viscosity", flow.viscosity), ("flow.drag", flow.drag)] {
                if !value.is_none_or(|value| value >= 0.0 && value.is_finite()) {
                    let value = value.unwrap_or_default();
                    return Err(BadValue::new(format!("problem.{key}"), value, "0 or a positive number"));
                }
            }
            if let Some(speed) = flow.speed.filter(|speed| !speed.is_finite()) {
                return Err(BadValue::new("problem.flow.speed", speed, "a finite number"));
            }
            flow.forcing.as_ref().map_or(Ok(()), |text| readable("flow.forcing", text, &["x", "y"]))?;
        }
        self.medium.as_ref().map_or(Ok(()), MediumSpec::check)?;
        self.clock()?;
        self.initial.as_ref().map_or(Ok(()), |initial| initial.check(self.equation))
    }

    /// Which keys an equation needs, and which it may have.
    fn keys(&self) -> Result<(), BadValue> {
        use Equation::{Advection, Burgers, Darcy, KuramotoSivashinsky, NavierStokes};
        const MOVES: &[Equation] = &[NavierStokes, Burgers, KuramotoSivashinsky, Advection];
        const HAS_CONSTANTS: &[Equation] = &[NavierStokes, Burgers, Advection];
        let (time, flow) = (self.time.as_ref(), self.flow.as_ref());
        let table: [(&str, bool, &[Equation], &[Equation]); 9] = [
            ("time", time.is_some(), MOVES, &[]),
            ("time.scheme", time.is_some_and(|time| time.scheme.is_some()), &[], &[NavierStokes]),
            ("flow", flow.is_some(), HAS_CONSTANTS, &[]),
            ("flow.viscosity", flow.is_some_and(|flow| flow.viscosity.is_some()), &[NavierStokes, Burgers], &[]),
            ("flow.drag", flow.is_some_and(|flow| flow.drag.is_some()), &[], &[NavierStokes]),
            ("flow.forcing", flow.is_some_and(|flow| flow.forcing.is_some()), &[], &[NavierStokes]),
            ("flow.speed", flow.is_some_and(|flow| flow.speed.is_some()), &[Advection], &[]),
            ("medium", self.medium.is_some(), &[], &[Darcy]),
            ("initial", self.initial.is_some(), MOVES, &[]),
        ];
        let name = self.equation.name();
        for (key, there, needs, may) in table {
            let (key, needed) = (format!("problem.{key}"), needs.contains(&self.equation));
            if there && !needed && !may.contains(&self.equation) {
                return Err(BadValue::foreign(key, format!("equation = \"{name}\"")));
            }
            if needed && !there {
                return Err(BadValue::wrong(key, format!("missing; equation = \"{name}\" needs it")));
            }
        }
        Ok(())
    }

    /// Length of each axis.
    ///
    /// # Errors
    /// [`BadValue`] for an expression that is none.
    pub fn length(&self) -> Result<f64, BadValue> {
        self.grid.length.value().map_err(|e| BadValue::wrong("problem.grid.length", e))
    }

    /// The modes that are kept on a square.
    ///
    /// # Errors
    /// As [`Spec::length`].
    pub fn modes(&self) -> Result<Modes, BadValue> {
        Ok(Modes::new(self.grid.points, self.length()?))
    }

    /// What moves on a circle, if it is one.
    pub fn law(&self) -> Option<Law> {
        let flow = self.flow.clone().unwrap_or_default();
        match self.equation {
            Equation::Burgers => Some(Law::Burgers(flow.viscosity.unwrap_or_default())),
            Equation::KuramotoSivashinsky => Some(Law::KuramotoSivashinsky),
            Equation::Advection => Some(Law::Advection(flow.speed.unwrap_or_default())),
            Equation::NavierStokes | Equation::Darcy => None,
        }
    }

    /// Points of the results along each axis.
    pub fn points(&self) -> usize {
        self.output.points.unwrap_or(self.grid.points)
    }

    /// Times in steps.
    ///
    /// # Errors
    /// [`BadValue`] for times that are no whole numbers of steps.
    pub fn clock(&self) -> Result<Clock, BadValue> {
        let Some(time) = &self.time else { return Ok(Clock::STILL) };
        positive("time.step", time.step)?;
        positive("time.every", time.every)?;
        let whole = |key: &str, value: f64| {
            let steps = value / time.step;
            if !(0.0..=1e15).contains(&steps) || (steps - steps.round()).abs() > WHOLE * steps.max(1.0) {
                let expected = format!("a whole number of steps of {}", time.step);
                return Err(BadValue::new(format!("problem.time.{key}"), value, expected));
            }
            Ok(steps.round() as u64)
        };
        let (start, every) = (whole("start", time.start)?, whole("every", time.every)?);
        if every == 0 {
            return Err(BadValue::new("problem.time.every", time.every, format!("at least a step of {}", time.step)));
        }
        Ok(Clock { step: time.step, start, every, snapshots: time.snapshots })
    }
}

fn positive(key: &str, value: f64) -> Result<(), BadValue> {
    if value > 0.0 && value.is_finite() {
        return Ok(());
    }
    Err(BadValue::new(format!("problem.{key}"), value, "a positive number"))
}

/// Whether a text is a function of `axes`.
fn readable(key: &str, text: &str, axes: &[&str]) -> Result<(), BadValue> {
    function::function(&format!("problem.{key}"), text, axes).map(drop)
}

impl MediumSpec {
    fn check(&self) -> Result<(), BadValue> {
        let [low, high] = self.values;
        for (key, value) in [("values", low), ("values", high), ("alpha", self.alpha), ("tau", self.tau)] {
            positive(&format!("medium.{key}"), value)?;
        }
        Ok(())
    }
}

impl InitialSpec {
    /// Scale of a Gaussian law.
    ///
    /// # Errors
    /// [`BadValue`] for an expression that is none.
    pub fn scale(&self) -> Result<f64, BadValue> {
        let value = self.scale.as_ref().map_or(Ok(1.0), Number::value);
        value.map_err(|e| BadValue::wrong("problem.initial.scale", e))
    }

    fn check(&self, equation: Equation) -> Result<(), BadValue> {
        let (gaussian, mcwilliams) = (self.kind == InitialKind::Gaussian, self.kind == InitialKind::Mcwilliams);
        let square = equation == Equation::NavierStokes;
        if mcwilliams && !square {
            let expected = format!("\"gaussian\" or \"expression\" for equation = \"{}\"", equation.name());
            return Err(BadValue::new("problem.initial.kind", "\"mcwilliams\"", expected));
        }
        let scale = self.scale.is_some().then(|| self.scale()).transpose()?;
        for (key, value, belongs) in [
            ("alpha", self.alpha, gaussian),
            ("tau", self.tau, gaussian),
            ("scale", scale, gaussian),
            ("peak", self.peak, mcwilliams),
            ("energy", self.energy, mcwilliams),
        ] {
            let Some(value) = value else { continue };
            if !belongs {
                return Err(self.foreign(key));
            }
            positive(&format!("initial.{key}"), value)?;
        }
        for (key, text, axes, belongs) in [
            ("vorticity", &self.vorticity, &["x", "y"] as &[&str], square),
            ("solution", &self.solution, &["x"], !square),
        ] {
            match text {
                Some(_) if self.kind != InitialKind::Expression => return Err(self.foreign(key)),
                Some(_) if !belongs => {
                    let owner = format!("equation = \"{}\"", equation.name());
                    return Err(BadValue::foreign(format!("problem.initial.{key}"), owner));
                }
                Some(text) => readable(&format!("initial.{key}"), text, axes)?,
                None if belongs && self.kind == InitialKind::Expression => {
                    let message = "missing; kind = \"expression\" needs it";
                    return Err(BadValue::wrong(format!("problem.initial.{key}"), message));
                }
                None => {}
            }
        }
        Ok(())
    }

    fn foreign(&self, key: &str) -> BadValue {
        let kind = match self.kind {
            InitialKind::Gaussian => "gaussian",
            InitialKind::Mcwilliams => "mcwilliams",
            InitialKind::Expression => "expression",
        };
        BadValue::foreign(format!("problem.initial.{key}"), format!("kind = \"{kind}\""))
    }
}
