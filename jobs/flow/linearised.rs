//! The derivative of w_t = f − u·∇w + ν Δw − μ w by w at some flow, and its adjoint in L².
//!
//! With J(a, b) = a_x b_y − a_y b_x, u·∇w = J(w, ψ). So the derivative along v is −J(v, ψ_w) − J(w, ψ_v), and as J is
//! antisymmetric in ∫ a J(b, c), the adjoint of the first term is J(·, ψ_w) and that of the second −(−Δ)⁻¹ J(·, w). Products of two kept
//! modes are free of aliasing in the kept ones, so both are exact transposes of each other, to rounding.

use num_complex::Complex64;

use super::modes::Modes;
use super::navier_stokes::Flow;
use super::transform::Work;

/// At one flow: gradients of its vorticity and of its stream function at the points, a_x + i a_y, `[x][y]`.
#[derive(Debug)]
pub struct Linearised {
    vorticity: Vec<Complex64>,
    stream: Vec<Complex64>,
}

impl Linearised {
    /// Bytes of one.
    pub fn bytes(modes: &Modes) -> u64 {
        32 * (modes.n * modes.n) as u64
    }

    /// At the flow with vorticity `w`.
    pub fn at(flow: &Flow, w: &[Complex64], work: &mut Work) -> Self {
        let psi: Vec<Complex64> = w.iter().zip(&flow.inverse).map(|(w, inverse)| w * inverse).collect();
        Self { vorticity: gradient(flow, w, work), stream: gradient(flow, &psi, work) }
    }

    /// The derivative along `v`. Three complex transforms.
    pub fn along(&self, flow: &Flow, v: &[Complex64], work: &mut Work) -> Vec<Complex64> {
        let psi: Vec<Complex64> = v.iter().zip(&flow.inverse).map(|(v, inverse)| v * inverse).collect();
        let (v_x, psi_x) = (gradient(flow, v, work), gradient(flow, &psi, work));
        let value = |i: usize| {
            let first = jacobian(v_x[i], self.stream[i]) + jacobian(self.vorticity[i], psi_x[i]);
            Complex64::new(-first, 0.0)
        };
        let mut out = coefficients(flow, value, work, |a, _, _| a);
        out.iter_mut().zip(v).zip(flow.linear()).for_each(|((out, v), l)| *out += v * l);
        out
    }

    /// The adjoint for `r`. Two complex transforms.
    pub fn adjoint(&self, flow: &Flow, r: &[Complex64], work: &mut Work) -> Vec<Complex64> {
        let r_x = gradient(flow, r, work);
        let value = |i: usize| Complex64::new(jacobian(r_x[i], self.stream[i]), jacobian(r_x[i], self.vorticity[i]));
        let mut out = coefficients(flow, value, work, |a, b, inverse| a - b * inverse);
        out.iter_mut().zip(r).zip(flow.linear()).for_each(|((out, r), l)| *out += r * l);
        out
    }
}

/// a_x b_y − a_y b_x.
fn jacobian(a: Complex64, b: Complex64) -> f64 {
    a.re * b.im - a.im * b.re
}

/// a_x + i a_y at the points.
fn gradient(flow: &Flow, a: &[Complex64], work: &mut Work) -> Vec<Complex64> {
    let (modes, n) = (&flow.modes, flow.modes.n);
    let mut values = Vec::with_capacity(n * n);
    flow.transform.visit(
        work,
        |ky, row, mirror| {
            for column in 0..modes.width() {
                let (at, back) = modes.places(column);
                let i = ky * modes.width() + column;
                let [x, y] = flow.kappa[i];
                // i κ_x â + i (i κ_y â), and the same at −κ with the conjugate of â.
                row[at] = Complex64::new(-y, x) * a[i];
                if ky > 0 {
                    mirror[back] = Complex64::new(y, -x) * a[i].conj();
                }
            }
        },
        |_, line| values.extend_from_slice(line),
    );
    values
}

/// Coefficients made of those of the real and the imaginary part of `value` and of 1/|κ|².
fn coefficients(
    flow: &Flow,
    value: impl Fn(usize) -> Complex64 + Sync,
    work: &mut Work,
    make: impl Fn(Complex64, Complex64, f64) -> Complex64,
) -> Vec<Complex64> {
    let (modes, n) = (&flow.modes, flow.modes.n);
    let scale = 1.0 / (n * n) as f64;
    let mut out = vec![Complex64::ZERO; modes.len()];
    flow.transform.from_values(
        work,
        |x, line| line.iter_mut().enumerate().for_each(|(y, z)| *z = value(x * n + y)),
        |ky, row, mirror| {
            let mirror = if ky == 0 { row } else { mirror };
            for column in 0..modes.width() {
                let (at, back) = modes.places(column);
                let i = ky * modes.width() + column;
                let (p, q) = (row[at], mirror[back].conj());
                let (a, b) = ((p + q) * (0.5 * scale), (p - q) * Complex64::new(0.0, -0.5 * scale));
                out[i] = make(a, b, flow.inverse[i]);
            }
        },
    );
    out
}

#[cfg(test)]
mod tests {
    use super::super::navier_stokes::Scheme;
    use super::*;
    use convoke_kernels::Philox;

    fn flow(n: usize) -> Flow {
        Flow::new(Modes::new(n, 5.0), (3e-2, 0.1), Vec::new(), (Scheme::Rk2Cn, 1e-3), false)
    }

    /// A real function without a mean.
    fn random(modes: &Modes, stream: u64) -> Vec<Complex64> {
        let normal = Philox::new(9, stream);
        let one = |kx: i64, ky: i64| {
            let key = 4096 * (ky * 64 + kx + 32) as u64;
            Complex64::new(normal.normal(key), normal.normal(key + 1)) / (1 + kx * kx + ky * ky) as f64
        };
        let value = |(kx, ky): (i64, i64)| match (kx, ky) {
            (0, 0) => Complex64::ZERO,
            (kx, 0) if kx < 0 => one(-kx, 0).conj(),
            _ => one(kx, ky),
        };
        modes.each().map(value).collect()
    }

    fn dot(modes: &Modes, a: &[Complex64], b: &[Complex64]) -> f64 {
        modes.sum(a.iter().zip(b).map(|(a, b)| (a.conj() * b).re))
    }

    /// The tendency is quadratic: its central difference is the derivative, for any step, and the adjoint transposes it.
    #[test]
    fn the_derivative_is_one_and_its_adjoint_transposes_it() {
        let flow = flow(24);
        let modes = &flow.modes;
        let (w, v, r) = (random(modes, 1), random(modes, 2), random(modes, 3));
        let mut mover = flow.mover();
        let mut side = |sign: f64| {
            let moved: Vec<Complex64> = w.iter().zip(&v).map(|(w, v)| w + v * sign).collect();
            let mut out = vec![Complex64::ZERO; modes.len()];
            flow.tendency(&moved, &mut out, &mut mover);
            out
        };
        let (plus, minus) = (side(1.0), side(-1.0));
        let mut other = flow.mover();
        let work = other.work();
        let linear = Linearised::at(&flow, &w, work);
        let along = linear.along(&flow, &v, work);
        let far =
            along.iter().zip(plus.iter().zip(&minus)).map(|(a, (p, m))| (a - (p - m) * 0.5).norm()).fold(0.0, f64::max);
        assert!(far < 1e-13, "{far:e}");
        let (left, right) = (dot(modes, &along, &r), dot(modes, &v, &linear.adjoint(&flow, &r, work)));
        assert!((left - right).abs() < 1e-12 * left.abs(), "{left} {right}");
    }
}
