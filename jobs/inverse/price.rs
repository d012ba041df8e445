//! What a solver costs, for the plans of workloads.

/// Arrays that a solver holds, and what its steps do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Price {
    /// Volumes.
    pub volumes: u64,
    /// Sets of measured values, the data among them.
    pub measured: u64,
    /// Those of them that a checkpoint has.
    pub kept_volumes: u64,
    /// See above.
    pub kept_measured: u64,
    /// Once, in the first step.
    pub start: Pass,
    /// Each step.
    pub step: Pass,
}

/// Operations of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pass {
    /// Products with A.
    pub forward: u64,
    /// Products with Aᵀ.
    pub back: u64,
    /// Sums over the volume ([`super::place::Place::sum`]).
    pub dots: u64,
    /// Sums over the measured values.
    pub measured_dots: u64,
    /// Slices sent to a neighbour.
    pub halos: u64,
}

impl Pass {
    /// This and `more` `n` times.
    pub fn and(self, n: u64, more: Self) -> Self {
        Self {
            forward: self.forward + n * more.forward,
            back: self.back + n * more.back,
            dots: self.dots + n * more.dots,
            measured_dots: self.measured_dots + n * more.measured_dots,
            halos: self.halos + n * more.halos,
        }
    }

    /// Products with either.
    pub fn projections(&self) -> u64 {
        self.forward + self.back
    }

    /// Of [`super::norm`].
    pub fn norm(iterations: u64) -> Self {
        Self { forward: iterations, back: iterations, dots: 2 * iterations, measured_dots: iterations, halos: 0 }
    }
}

impl Price {
    /// Of a whole run.
    pub fn of(&self, steps: u64) -> Pass {
        self.start.and(steps, self.step)
    }
}
