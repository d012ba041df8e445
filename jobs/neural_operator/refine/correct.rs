//! Two ways from a trajectory to a better one: Gauss and Newton's on the residual, and parareal with the solver.

use convoke_cluster::comm::CommError;
use convoke_cluster::{Comm, block};
use num_complex::Complex64;

use super::equation::{Derivative, Equation, Snapshot};
use crate::flow::Flow;

/// y ← y + a x.
fn add(y: &mut [Snapshot], a: f64, x: &[Snapshot]) {
    for (y, x) in y.iter_mut().zip(x) {
        y.iter_mut().zip(x).for_each(|(y, x)| *y += x * a);
    }
}

/// One step of Gauss and Newton's method for least ‖R(w)‖_{H^s}: the linear problem by `iterations` of CGLS (Björck 1996, 7.4.1).
///
/// The unknowns are all coefficients of the trajectory: a last layer with every mode of space and time holds any trajectory, so this is that
/// layer's refinement, begun where its modes were copied from the trained one.
pub fn gauss_newton(equation: &Equation, known: &[Snapshot], w: &mut [Snapshot], iterations: usize) {
    let derivative = Derivative::at(equation, w);
    let mut rest = derivative.weigh(equation.residual(known, w));
    rest.iter_mut().flatten().for_each(|r| *r = -*r);
    let mut z: Vec<Snapshot> = w.iter().map(|w| vec![Complex64::ZERO; w.len()]).collect();
    let mut slope = derivative.adjoint(&rest);
    let mut direction = slope.clone();
    let mut square = equation.dot(&slope, &slope);
    for _ in 0..iterations {
        let image = derivative.apply(&direction);
        let length = square / equation.dot(&image, &image);
        if !length.is_finite() {
            break;
        }
        add(&mut z, length, &direction);
        add(&mut rest, -length, &image);
        slope = derivative.adjoint(&rest);
        let next = equation.dot(&slope, &slope);
        let turn = next / square;
        for (d, s) in direction.iter_mut().flatten().zip(slope.iter().flatten()) {
            *d = s + *d * turn;
        }
        square = next;
    }
    for (w, z) in w.iter_mut().zip(&z) {
        w.iter_mut().zip(z).zip(&derivative.preconditioner).for_each(|((w, z), p)| *w += z * p);
    }
}

/// Parareal (Lions, Maday and Turinici 2001): w_{m+1} ← Φ(w_m) + G(w_m new) − G(w_m), Φ of all snapshots at once.
#[derive(Debug)]
pub struct Parareal<'e> {
    equation: &'e Equation,
    coarse: &'e Flow,
    coarse_steps: u64,
    /// G(w_m) of the trajectory as it is.
    guesses: Vec<Snapshot>,
}

impl<'e> Parareal<'e> {
    /// From the trajectory `w` after `newest`, with a coarse solver G that takes so many steps between snapshots.
    pub fn new(
        equation: &'e Equation,
        (coarse, coarse_steps): (&'e Flow, u64),
        newest: &Snapshot,
        w: &[Snapshot],
    ) -> Self {
        let mut parareal = Self { equation, coarse, coarse_steps, guesses: Vec::new() };
        let before = std::iter::once(newest).chain(&w[..w.len() - 1]);
        parareal.guesses = before.map(|w| parareal.guess(w)).collect();
        parareal
    }

    fn guess(&self, w: &Snapshot) -> Snapshot {
        let mut w = w.clone();
        self.coarse.advance(&mut w, self.coarse_steps, &mut self.coarse.mover());
        w
    }

    /// One iteration; ranks share the snapshots of Φ. Collective.
    ///
    /// # Errors
    /// As the exchange.
    pub fn iterate(&mut self, comm: &Comm, newest: &Snapshot, w: &mut [Snapshot]) -> Result<(), CommError> {
        let before: Vec<&Snapshot> = std::iter::once(newest).chain(&w[..w.len() - 1]).collect();
        let mine = self.equation.advanced(&before[block(w.len(), comm.rank(), comm.size())]);
        let numbers: Vec<f64> = bytemuck::cast_slice(&mine.concat()).to_vec();
        let all = comm.all_gather(&numbers)?.concat();
        let len = 2 * newest.len();
        let mut at = newest.clone();
        for ((w, fine), guess) in w.iter_mut().zip(all.chunks(len)).zip(&mut self.guesses) {
            let fine: &[Complex64] = bytemuck::cast_slice(fine);
            let mut next = at.clone();
            self.coarse.advance(&mut next, self.coarse_steps, &mut self.coarse.mover());
            for (((w, fine), guess), next) in w.iter_mut().zip(fine).zip(guess.iter_mut()).zip(&next) {
                *w = fine + next - *guess;
                *guess = *next;
            }
            at.copy_from_slice(w);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{Modes, Scheme};
    use convoke_cluster::comm::run_threads;

    fn flow(step: f64) -> Flow {
        let modes = Modes::new(24, std::f64::consts::TAU);
        Flow::new(modes, (1e-2, 0.0), Vec::new(), (Scheme::Rk4Cn, step), false)
    }

    fn equation(order: usize, spacing: f64) -> Equation {
        Equation::new(flow(spacing / 16.0), (16, spacing), order, (-1.0, 1.0))
    }

    /// A flow of a few waves, `amplitude` of others added.
    fn start(modes: &Modes, amplitude: f64) -> Snapshot {
        let mut w = vec![Complex64::ZERO; modes.len()];
        for (kx, ky, re, im) in [(1, 2, 0.5, 0.1), (-3, 1, 0.3, -0.4), (2, 1, -0.2, 0.6), (0, 3, 0.4, 0.0)] {
            w[modes.index(kx, ky)] = Complex64::new(re, im);
        }
        w[modes.index(4, 2)] += amplitude;
        w
    }

    /// `count` snapshots of Φ after `w`.
    fn trajectory(equation: &Equation, w: &Snapshot, count: usize) -> Vec<Snapshot> {
        let mut all: Vec<Snapshot> = Vec::new();
        for _ in 0..count {
            let next = equation.advanced(&[all.last().unwrap_or(w)]).remove(0);
            all.push(next);
        }
        all
    }

    fn difference(equation: &Equation, a: &[Snapshot], b: &[Snapshot]) -> f64 {
        let mut off = a.to_vec();
        add(&mut off, -1.0, b);
        (equation.dot(&off, &off) / equation.dot(b, b)).sqrt()
    }

    /// A trajectory with smooth noise of a tenth has a residual at least 20 times that of the truth (the published residual, of each
    /// snapshot for itself, has 0.97), and a defect that vanishes at the solver's own trajectory.
    #[test]
    fn the_residual_sees_the_dynamics() {
        let equation = equation(4, 0.05);
        let all = trajectory(&equation, &start(&equation.flow.modes, 0.0), 12);
        let (known, truth) = all.split_at(4);
        let mut noisy = truth.to_vec();
        for (m, w) in noisy.iter_mut().enumerate() {
            let sign = if m % 2 == 0 { 0.1 } else { -0.1 };
            w[equation.flow.modes.index(1, 1)] += Complex64::new(sign, 0.5 * sign);
        }
        let of = |w: &[Snapshot]| equation.norm(&equation.residual(known, w));
        assert!(of(&noisy) > 20.0 * of(truth), "{:e} {:e}", of(&noisy), of(truth));
        assert!(equation.norm(&equation.defect(&known[3], truth)) < 1e-12);
        assert!(equation.norm(&equation.defect(&known[3], &noisy)) > 0.1);
    }

    /// Backward differences of order p: halving the distance of snapshots divides the residual at the truth by 2^p.
    #[test]
    fn the_residual_at_the_truth_has_the_order_of_the_differences() {
        for order in [2, 4] {
            let of = |spacing: f64| {
                let equation = equation(order, spacing);
                let all = trajectory(&equation, &start(&equation.flow.modes, 0.0), order + 2);
                equation.norm(&equation.residual(&all[..order], &all[order..order + 1]))
            };
            let rate = (of(0.04) / of(0.02)).log2();
            assert!((rate - order as f64).abs() < 0.25, "{order}: {rate}");
        }
    }

    /// ⟨A z, r⟩ = ⟨z, Aᵀ r⟩, and A is the derivative of the residual by central differences, which are exact for squares.
    #[test]
    fn the_derivative_is_one_and_its_adjoint_transposes_it() {
        let equation = equation(3, 0.05);
        let all = trajectory(&equation, &start(&equation.flow.modes, 0.0), 7);
        let (known, w) = all.split_at(3);
        let z = trajectory(&equation, &start(&equation.flow.modes, 0.5), 4);
        let r = trajectory(&equation, &start(&equation.flow.modes, -0.7), 4);
        let derivative = Derivative::at(&equation, w);
        let image = derivative.apply(&z);
        let (left, right) = (equation.dot(&image, &r), equation.dot(&z, &derivative.adjoint(&r)));
        assert!((left - right).abs() < 1e-12 * left.abs(), "{left} {right}");
        let moved = |by: f64| {
            let mut w = w.to_vec();
            for (w, z) in w.iter_mut().zip(&z) {
                w.iter_mut().zip(z).zip(&derivative.preconditioner).for_each(|((w, z), p)| *w += z * (p * by));
            }
            derivative.weigh(equation.residual(known, &w))
        };
        let (mut slope, minus) = (moved(1.0), moved(-1.0));
        add(&mut slope, -1.0, &minus);
        slope.iter_mut().flatten().for_each(|v| *v *= 0.5);
        assert!(difference(&equation, &image, &slope) < 1e-10);
    }

    /// From a tenth off, three steps bring the residual below a thousandth of that at the truth, and the trajectory to the truth as far as
    /// the differences in time allow.
    #[test]
    fn gauss_and_newtons_method_finds_the_trajectory_of_the_differences() {
        let equation = equation(4, 0.02);
        let all = trajectory(&equation, &start(&equation.flow.modes, 0.0), 10);
        let (known, truth) = all.split_at(4);
        let mut w = truth.to_vec();
        w.iter_mut().for_each(|w| w[equation.flow.modes.index(2, 2)] += 0.1);
        let off = difference(&equation, &w, truth);
        for _ in 0..3 {
            gauss_newton(&equation, known, &mut w, 60);
        }
        let [ours, true_one] = [&w[..], truth].map(|w| equation.norm(&equation.residual(known, w)));
        assert!(ours < 1e-3 * true_one, "{ours:e} {true_one:e}");
        let left = difference(&equation, &w, truth);
        assert!(left < 1e-3 * off, "{off:e} {left:e}");
    }

    /// After M iterations parareal gives Φ's own trajectory, whatever it began with, and it is the same on any number of ranks.
    #[test]
    fn parareal_ends_at_the_solvers_trajectory() {
        let equation = equation(2, 0.1);
        let coarse = flow(0.05);
        let newest = start(&equation.flow.modes, 0.0);
        let truth = trajectory(&equation, &newest, 5);
        let run = |ranks: usize| {
            run_threads(ranks, |comm| {
                let (equation, coarse) = (&equation, &coarse);
                let mut w = vec![newest.clone(); 5];
                let mut parareal = Parareal::new(equation, (coarse, 2), &newest, &w);
                let mut errors = Vec::new();
                for _ in 0..5 {
                    parareal.iterate(&comm, &newest, &mut w).expect("an exchange");
                    errors.push(difference(equation, &w, &truth));
                }
                Ok(errors)
            })
            .into_iter()
            .map(|errors| errors.expect("it runs"))
            .collect::<Vec<Vec<f64>>>()
        };
        let one = run(1).remove(0);
        assert!(one[0] < 0.1 && one[1] < 0.1 * one[0] && one[4] < 1e-14, "{one:?}");
        for errors in run(3) {
            assert_eq!(errors, one);
        }
    }
}
