//! AdamW (Loshchilov and Hutter 2019) and the courses of its learning rate.

use std::f64::consts::PI;
use std::ops::Range;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::real::Real;

/// Of the moments.
pub const BETA: [f64; 2] = [0.9, 0.999];
/// Under the root.
pub const EPSILON: f64 = 1e-8;
/// Numbers that a thread takes at once.
pub const CHUNK: usize = 1 << 14;

/// Courses of the learning rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// From `rate` to 0 along half a cosine.
    #[default]
    Cosine,
    /// From a 25th of `rate` up in three tenths of the steps, then to a 250 000th, along cosines.
    OneCycle,
    /// Halved after each fifth of the steps.
    Step,
    /// `rate` all the time.
    Constant,
}

/// Learning rate of step `t` of `steps`.
pub fn rate(schedule: Schedule, most: f64, t: u64, steps: u64) -> f64 {
    let part = t as f64 / steps as f64;
    let cosine = |from: f64, to: f64, part: f64| to + 0.5 * (from - to) * (1.0 + (PI * part).cos());
    match schedule {
        Schedule::Constant => most,
        Schedule::Cosine => cosine(most, 0.0, part),
        Schedule::Step => most * 0.5f64.powi((5.0 * part) as i32),
        Schedule::OneCycle => {
            let (low, last, rise) = (most / 25.0, most / 250_000.0, 0.3 * steps as f64 - 1.0);
            let t = t as f64;
            if t <= rise {
                cosine(low, most, t / rise.max(1.0))
            } else {
                cosine(most, last, (t - rise) / (steps as f64 - 1.0 - rise).max(1.0))
            }
        }
    }
}

/// Moments of the gradients.
#[derive(Debug, Clone)]
pub struct AdamW<T> {
    /// Mean.
    pub first: Vec<T>,
    /// Mean square.
    pub second: Vec<T>,
}

impl<T: Real> AdamW<T> {
    /// For so many parameters.
    pub fn new(parameters: usize) -> Self {
        Self { first: vec![T::default(); parameters], second: vec![T::default(); parameters] }
    }

    /// Step `t`, from 0, of the parameters in some places.
    pub fn step(
        &mut self,
        (parameters, gradient): (&mut [T], &[T]),
        places: &[Range<usize>],
        t: u64,
        (rate, decay): (f64, f64),
    ) {
        let steps = i32::try_from(t + 1).unwrap_or(i32::MAX);
        let [bias1, bias2] = BETA.map(|beta| 1.0 - beta.powi(steps));
        let [beta1, beta2] = BETA.map(T::of);
        let (one, keep) = (T::of(1.0), T::of(1.0 - rate * decay));
        let (size, root, epsilon) = (T::of(rate / bias1), T::of(bias2.sqrt().recip()), T::of(EPSILON));
        for place in places {
            let [first, second] = [&mut self.first, &mut self.second].map(|moment| &mut moment[place.clone()]);
            let moments = first.par_chunks_mut(CHUNK).zip(second.par_chunks_mut(CHUNK));
            let (parameters, gradient) = (&mut parameters[place.clone()], &gradient[place.clone()]);
            let all = parameters.par_chunks_mut(CHUNK).zip(gradient.par_chunks(CHUNK)).zip(moments);
            all.for_each(|((p, g), (first, second))| {
                for i in 0..p.len() {
                    first[i] = beta1 * first[i] + (one - beta1) * g[i];
                    second[i] = beta2 * second[i] + (one - beta2) * g[i] * g[i];
                    let root = num_traits::Float::sqrt(second[i]) * root + epsilon;
                    p[i] = keep * p[i] - size * first[i] / root;
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By hand: the first step is rate·sign(g) after the decay; the second one from the formulas.
    #[test]
    fn steps_are_those_of_the_formulas() {
        let mut adam = AdamW::<f64>::new(2);
        let mut p = vec![1.0, -2.0];
        adam.step((&mut p, &[0.5, -0.1]), &[0..1, 1..2], 0, (0.1, 0.01));
        assert!((p[0] - (0.999 - 0.1)).abs() < 1e-7 && (p[1] - (-1.998 + 0.1)).abs() < 1e-7, "{p:?}");
        let before = p[0];
        adam.step((&mut p, &[-0.3, 0.2]), &[0..1, 1..2], 1, (0.1, 0.0));
        let (first, second) = (0.9 * 0.05 + 0.1 * -0.3, 0.999 * 0.00025 + 0.001 * 0.09);
        let expected = before - 0.1 * (first / 0.19) / ((second / 0.001_999f64).sqrt() + 1e-8);
        assert!((p[0] - expected).abs() < 1e-12, "{} {expected}", p[0]);
    }

    #[test]
    fn courses_start_and_end_where_they_say() {
        for (schedule, first, last) in [
            (Schedule::Cosine, 2.0, 0.0),
            (Schedule::OneCycle, 0.08, 2.0 / 250_000.0),
            (Schedule::Step, 2.0, 0.125),
            (Schedule::Constant, 2.0, 2.0),
        ] {
            assert!((rate(schedule, 2.0, 0, 1000) - first).abs() < 1e-12, "{schedule:?}");
            assert!((rate(schedule, 2.0, 999, 1000) - last).abs() < 1e-4, "{schedule:?}");
        }
        assert!((rate(Schedule::OneCycle, 2.0, 299, 1000) - 2.0).abs() < 1e-12);
    }
}
