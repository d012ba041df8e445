//! What a trajectory of snapshots should satisfy, and how far it is from that.
//!
//! w_0 and the snapshots before it are known; w_1 … w_M at times Δ apart are to be found, as coefficients of vorticity. The residual
//! R_m = Σ_j c_j w_{m−j}/Δ − F(w_m), F the right-hand side of the equation, takes w_t from the trajectory itself (backward differences
//! of order p), so that it sees the dynamics: a residual of each snapshot for itself does not. The defect is
//! (w_m − Φ(w_{m−1}))/Δ with the solver Φ.

use num_complex::Complex64;
use rayon::prelude::*;

use crate::flow::Flow;
use crate::flow::linearised::Linearised;

/// Coefficients of one snapshot.
pub type Snapshot = Vec<Complex64>;

/// An equation with its discretisation in time.
#[derive(Debug)]
pub struct Equation {
    /// The solver Φ, `steps` of it between snapshots.
    pub flow: Flow,
    /// Steps of Φ between snapshots.
    pub steps: u64,
    /// Time between snapshots.
    pub spacing: f64,
    /// c_0 … c_p.
    differences: Vec<f64>,
    /// (α + |κ|²)^s of each mode.
    weights: Vec<f64>,
    /// |κ|^{−4}: what the residual of vorticity weighs in the dual norm of velocity; 0 for the mean.
    dual: Vec<f64>,
}

/// c_0 … c_p of backward differences: w_t Δ ≈ Σ_{j ≤ p} ∇^j w/j.
fn backward_differences(order: usize) -> Vec<f64> {
    let mut all = vec![0.0; order + 1];
    for j in 1..=order {
        // ∇^j w = Σ_k (−1)^k C(j, k) w_{m−k}.
        let mut binomial = 1.0;
        for (k, c) in all.iter_mut().enumerate().take(j + 1) {
            *c += binomial / j as f64;
            binomial *= -((j - k) as f64) / (k + 1) as f64;
        }
    }
    all
}

impl Equation {
    /// With a residual of `order` in time, measured in H^s.
    pub fn new(flow: Flow, (steps, spacing): (u64, f64), order: usize, (s, alpha): (f64, f64)) -> Self {
        let weights = flow.modes.squares().map(|square| (alpha + square).powf(s)).collect();
        let dual = flow.modes.squares().map(|square| if square > 0.0 { square.powi(-2) } else { 0.0 }).collect();
        Self { differences: backward_differences(order), flow, steps, spacing, weights, dual }
    }

    /// Snapshots before w_1 that the residual reads.
    pub fn order(&self) -> usize {
        self.differences.len() - 1
    }

    /// R_1 … R_M; `known` ends with w_0. Of the mean nothing is asked: the equation keeps it.
    pub fn residual(&self, known: &[Snapshot], w: &[Snapshot]) -> Vec<Snapshot> {
        let at = |m: usize, j: usize| if m >= j { &w[m - j] } else { &known[known.len() + m - j] };
        let of = |mover: &mut _, m: usize| {
            let mut out = vec![Complex64::ZERO; self.flow.modes.len()];
            self.flow.tendency(&w[m], &mut out, mover);
            out.iter_mut().for_each(|v| *v = -*v);
            for (j, c) in self.differences.iter().enumerate() {
                out.iter_mut().zip(at(m, j)).for_each(|(out, w)| *out += w * (c / self.spacing));
            }
            out
        };
        (0..w.len()).into_par_iter().map_init(|| self.flow.mover(), of).collect()
    }

    /// Φ of each snapshot.
    pub fn advanced(&self, w: &[&Snapshot]) -> Vec<Snapshot> {
        let of = |mover: &mut _, w: &&Snapshot| {
            let mut w = (*w).clone();
            self.flow.advance(&mut w, self.steps, mover);
            w
        };
        w.par_iter().map_init(|| self.flow.mover(), of).collect()
    }

    /// The defects of w_1 … w_M.
    pub fn defect(&self, newest: &Snapshot, w: &[Snapshot]) -> Vec<Snapshot> {
        let before: Vec<&Snapshot> = std::iter::once(newest).chain(&w[..w.len() - 1]).collect();
        let mut all = self.advanced(&before);
        for (d, w) in all.iter_mut().zip(w) {
            d.iter_mut().zip(w).for_each(|(d, w)| *d = (w - *d) / self.spacing);
        }
        all
    }

    /// √(mean over snapshots of ‖r‖²_{H^s}).
    pub fn norm(&self, r: &[Snapshot]) -> f64 {
        self.weighted(r, &self.weights)
    }

    /// The same in the dual norm of velocity: with √T and the constant of the equation a bound of the error in L²(0, T; L²)
    /// (functional a-posteriori estimate).
    pub fn dual_norm(&self, r: &[Snapshot]) -> f64 {
        self.weighted(r, &self.dual)
    }

    fn weighted(&self, r: &[Snapshot], weights: &[f64]) -> f64 {
        let of = |r: &Snapshot| self.flow.modes.sum(r.iter().zip(weights).map(|(r, w)| w * r.norm_sqr()));
        (r.iter().map(of).sum::<f64>() / r.len() as f64).sqrt()
    }

    /// ⟨a, b⟩ in L², over all snapshots.
    pub fn dot(&self, a: &[Snapshot], b: &[Snapshot]) -> f64 {
        let of = |(a, b): (&Snapshot, &Snapshot)| self.flow.modes.sum(a.iter().zip(b).map(|(a, b)| (a.conj() * b).re));
        a.iter().zip(b).map(of).sum()
    }
}

/// The derivative of the residual by the trajectory, preconditioned and weighted: A = Λ^{1/2} R'(w) P with Λ of H^s and
/// P = Λ^{−1/2} (c_0/Δ + ν|κ|² + μ)⁻¹.
#[derive(Debug)]
pub struct Derivative<'e> {
    equation: &'e Equation,
    at: Vec<Linearised>,
    root: Vec<f64>,
    /// P of each mode.
    pub preconditioner: Vec<f64>,
}

impl<'e> Derivative<'e> {
    /// At `w`.
    pub fn at(equation: &'e Equation, w: &[Snapshot]) -> Self {
        let flow = &equation.flow;
        let at = w.par_iter().map_init(|| flow.mover(), |mover, w| Linearised::at(flow, w, mover.work())).collect();
        let root: Vec<f64> = equation.weights.iter().map(|w| w.sqrt()).collect();
        let first = equation.differences[0] / equation.spacing;
        let preconditioner = root.iter().zip(flow.linear()).map(|(root, l)| 1.0 / (root * (first - l))).collect();
        Self { equation, at, root, preconditioner }
    }

    /// Λ^{1/2} r.
    pub fn weigh(&self, mut r: Vec<Snapshot>) -> Vec<Snapshot> {
        r.iter_mut().for_each(|r| scale(r, &self.root));
        r
    }

    /// A z.
    pub fn apply(&self, z: &[Snapshot]) -> Vec<Snapshot> {
        let (equation, flow) = (self.equation, &self.equation.flow);
        let mut v = z.to_vec();
        v.iter_mut().for_each(|v| scale(v, &self.preconditioner));
        let of = |mover: &mut crate::flow::navier_stokes::Mover, m: usize| {
            let mut out = self.at[m].along(flow, &v[m], mover.work());
            out.iter_mut().for_each(|x| *x = -*x);
            for (j, c) in equation.differences.iter().enumerate().take(m + 1) {
                out.iter_mut().zip(&v[m - j]).for_each(|(out, v)| *out += v * (c / equation.spacing));
            }
            scale(&mut out, &self.root);
            out
        };
        (0..v.len()).into_par_iter().map_init(|| flow.mover(), of).collect()
    }

    /// Aᵀ r.
    pub fn adjoint(&self, r: &[Snapshot]) -> Vec<Snapshot> {
        let (equation, flow) = (self.equation, &self.equation.flow);
        let r = self.weigh(r.to_vec());
        let of = |mover: &mut crate::flow::navier_stokes::Mover, m: usize| {
            let mut out = self.at[m].adjoint(flow, &r[m], mover.work());
            out.iter_mut().for_each(|x| *x = -*x);
            for (j, c) in equation.differences.iter().enumerate().take(r.len() - m) {
                out.iter_mut().zip(&r[m + j]).for_each(|(out, r)| *out += r * (c / equation.spacing));
            }
            scale(&mut out, &self.preconditioner);
            out
        };
        (0..r.len()).into_par_iter().map_init(|| flow.mover(), of).collect()
    }
}

fn scale(values: &mut [Complex64], by: &[f64]) {
    values.iter_mut().zip(by).for_each(|(v, by)| *v *= by);
}
