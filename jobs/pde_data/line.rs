//! Equations on a circle: u_t = Lu + N(u), with a linear part that is a number for each mode.
//!
//! Burgers: u_t + u u_x = ν u_xx. Kuramoto and Sivashinsky: u_t + u u_x + u_xx + u_xxxx = 0. Both go by ETDRK4 (S. M. Cox and
//! P. C. Matthews, J. Comput. Phys. 176, 2002), whose weights are means over a circle in the complex plane (A.-K. Kassam and
//! L. N. Trefethen, SIAM J. Sci. Comput. 26, 2005). Advection, u_t + c u_x = 0, is a shift.

use num_complex::Complex64;

use super::circle::{Circle, Fourier, Work};

/// Points of the half circle on which a weight is a mean.
const CONTOUR: usize = 32;

/// What moves a function.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Law {
    /// With viscosity ν.
    Burgers(f64),
    /// Without constants: the length decides.
    KuramotoSivashinsky,
    /// With speed c.
    Advection(f64),
}

impl Law {
    /// The modes that are kept of `n` points.
    pub fn circle(self, n: usize, length: f64) -> Circle {
        match self {
            Self::Burgers(_) | Self::KuramotoSivashinsky => Circle::of_products(n, length),
            Self::Advection(_) => Circle::whole(n, length),
        }
    }

    /// Operations of `steps` steps, 2.5 n log₂ n for each real transform of n values.
    pub fn flops(self, circle: &Circle, steps: f64) -> f64 {
        match self {
            Self::Burgers(_) | Self::KuramotoSivashinsky => {
                let n = circle.n as f64;
                steps * (8.0 * 2.5 * n * n.log2() + 4.0 * n + 60.0 * circle.m as f64)
            }
            Self::Advection(_) => 8.0 * circle.m as f64,
        }
    }
}

/// Weights of one mode in a step of length h: with z = hL,
#[derive(Debug, Clone, Copy)]
struct Weights {
    /// exp(z)
    whole: f64,
    /// exp(z/2)
    half: f64,
    /// h (exp(z/2) − 1)/z
    stage: f64,
    /// h (−4 − z + eᶻ(4 − 3z + z²))/z³
    first: f64,
    /// 2h (2 + z + eᶻ(z − 2))/z³
    middle: f64,
    /// h (−4 − 3z − z² + eᶻ(4 − z))/z³
    last: f64,
}

impl Weights {
    fn new(z: f64, h: f64) -> Self {
        // On a circle of radius 1 about z nothing cancels, and the mean over it is the value at its centre. The lower half mirrors
        // the upper one.
        let mean = |f: fn(Complex64) -> Complex64| {
            let at = |j: usize| z + Complex64::cis(std::f64::consts::PI * (j as f64 + 0.5) / CONTOUR as f64);
            h * (0..CONTOUR).map(|j| f(at(j)).re).sum::<f64>() / CONTOUR as f64
        };
        Self {
            whole: z.exp(),
            half: (0.5 * z).exp(),
            stage: mean(|z| ((0.5 * z).exp() - 1.0) / z),
            first: mean(|z| (-4.0 - z + z.exp() * (4.0 - 3.0 * z + z * z)) / z.powi(3)),
            middle: 2.0 * mean(|z| (2.0 + z + z.exp() * (z - 2.0)) / z.powi(3)),
            last: mean(|z| (-4.0 - 3.0 * z - z * z + z.exp() * (4.0 - z)) / z.powi(3)),
        }
    }
}

/// An equation on one grid.
#[derive(Debug)]
pub struct Line {
    /// Kept modes.
    pub circle: Circle,
    law: Law,
    fourier: Fourier,
    step: f64,
    /// One for each mode; none for advection.
    weights: Vec<Weights>,
}

/// Memory of one function that moves on.
#[derive(Debug, Clone)]
pub struct Mover {
    work: Work,
    /// N at the four stages.
    slopes: [Vec<Complex64>; 4],
    /// The second stage and the one under way.
    stages: [Vec<Complex64>; 2],
}

impl Line {
    /// Steps have length `step`.
    pub fn new(law: Law, circle: Circle, step: f64) -> Self {
        let linear = |kappa: f64| match law {
            Law::Burgers(viscosity) => -viscosity * kappa.powi(2),
            Law::KuramotoSivashinsky => kappa.powi(2) - kappa.powi(4),
            Law::Advection(_) => 0.0,
        };
        let weights = match law {
            Law::Advection(_) => Vec::new(),
            _ => circle.kappas().map(|kappa| Weights::new(step * linear(kappa), step)).collect(),
        };
        Self { fourier: Fourier::new(circle.n), circle, law, step, weights }
    }

    /// Memory for [`Line::advance`].
    pub fn mover(&self) -> Mover {
        let zero = || vec![Complex64::ZERO; self.weights.len()];
        Mover { work: self.fourier.work(), slopes: [zero(), zero(), zero(), zero()], stages: [zero(), zero()] }
    }

    /// Bytes of one [`Mover`].
    pub fn mover_bytes(circle: &Circle) -> u64 {
        Work::bytes(circle.n) + 96 * (circle.m + 1) as u64
    }

    /// Bytes of what all samples share.
    pub fn table_bytes(circle: &Circle) -> u64 {
        (48 * (circle.m + 1) + 32 * circle.n) as u64
    }

    /// The function `u` after `steps` steps.
    pub fn advance(&self, u: &mut [Complex64], steps: u64, mover: &mut Mover) {
        if let Law::Advection(speed) = self.law {
            let way = speed * self.step * steps as f64;
            u.iter_mut().zip(self.circle.kappas()).for_each(|(u, kappa)| *u *= Complex64::cis(-kappa * way));
            return;
        }
        for _ in 0..steps {
            self.etdrk4(u, mover);
        }
    }

    fn etdrk4(&self, u: &mut [Complex64], mover: &mut Mover) {
        let Mover { work, slopes: [at_u, at_a, at_b, at_c], stages: [a, other] } = mover;
        self.explicit(u, at_u, work);
        for (i, w) in self.weights.iter().enumerate() {
            a[i] = u[i] * w.half + at_u[i] * w.stage;
        }
        self.explicit(a, at_a, work);
        for (i, w) in self.weights.iter().enumerate() {
            other[i] = u[i] * w.half + at_a[i] * w.stage;
        }
        self.explicit(other, at_b, work);
        for (i, w) in self.weights.iter().enumerate() {
            other[i] = a[i] * w.half + (at_b[i] * 2.0 - at_u[i]) * w.stage;
        }
        self.explicit(other, at_c, work);
        for (i, w) in self.weights.iter().enumerate() {
            u[i] = u[i] * w.whole + at_u[i] * w.first + (at_a[i] + at_b[i]) * w.middle + at_c[i] * w.last;
        }
    }

    /// N(u) = −½ (u²)_x.
    fn explicit(&self, u: &[Complex64], out: &mut [Complex64], work: &mut Work) {
        self.fourier.to_values(u, work);
        work.numbers().iter_mut().for_each(|u| *u *= *u);
        self.fourier.to_coefficients(work, out);
        let unit = -0.5 * self.circle.kappa(1);
        for (k, out) in out.iter_mut().enumerate() {
            let factor = unit * k as f64;
            *out = Complex64::new(-factor * out.im, factor * out.re);
        }
    }

    /// Mean, energy (mean of ½u²) and the largest |u| at the points.
    pub fn figures(&self, u: &[Complex64], mover: &mut Mover) -> [f64; 3] {
        self.fourier.to_values(u, &mut mover.work);
        let largest = mover.work.numbers().iter().fold(0.0, |largest: f64, u| largest.max(u.abs()));
        [u[0].re, self.circle.energies(u).sum(), largest]
    }

    /// Whether what u² does limits a step.
    pub fn nonlinear(&self) -> bool {
        !self.weights.is_empty()
    }
}
