//! Least squares by LSQR: the iterates of conjugate gradients on the normal equations, with a residual that needs no projection.
//!
//! Source: Paige and Saunders, ACM Trans. Math. Software 8 (1982) 43.

use convoke_cluster::{Fields, Result};
use convoke_kernels::Buffer;

use super::price::{Pass, Price};
use super::{Operator, Report, Solver, norm2, vectors};

/// What it costs.
pub const PRICE: Price = Price {
    volumes: 4,
    measured: 2,
    kept_volumes: 3,
    kept_measured: 1,
    start: Pass { forward: 0, back: 1, dots: 1, measured_dots: 1, halos: 0 },
    step: Pass { forward: 1, back: 1, dots: 1, measured_dots: 1, halos: 0 },
};

/// min ‖A x − y‖² under way.
#[derive(Debug)]
pub struct Lsqr {
    image: Buffer<f32>,
    /// Lanczos vectors; `u` is y before the first step.
    u: Buffer<f32>,
    v: Buffer<f32>,
    /// Search direction.
    w: Buffer<f32>,
    scratch: Buffer<f32>,
    image_scratch: Buffer<f32>,
    /// α, ρ̄, φ̄ (the residual's norm), ‖y‖.
    scalars: [f64; 4],
    /// It ends once ‖A x − y‖² is as small.
    target2: Option<f64>,
}

impl Lsqr {
    /// Of the data y, from x = 0.
    ///
    /// # Errors
    /// Where the device has no room.
    pub fn new(operator: &dyn Operator, y: Buffer<f32>, target2: Option<f64>) -> Result<Self> {
        let volume = || operator.zeros(operator.place().len());
        Ok(Self {
            image: volume()?,
            scratch: operator.zeros(y.len())?,
            u: y,
            v: volume()?,
            w: volume()?,
            image_scratch: volume()?,
            scalars: [0.0; 4],
            target2,
        })
    }

    /// scratch = u, image_scratch = Aᵀ u.
    fn back(&mut self, operator: &mut dyn Operator) -> Result<()> {
        self.scratch.host_mut().copy_from_slice(self.u.host());
        operator.back(&mut self.scratch, &mut self.image_scratch)
    }

    /// β u = y, α v = Aᵀ u, w = v.
    fn start(&mut self, operator: &mut dyn Operator) -> Result<()> {
        let beta = unit(&mut self.u, |u| operator.dot(u, u))?;
        self.back(operator)?;
        self.v.host_mut().copy_from_slice(self.image_scratch.host());
        let alpha = unit(&mut self.v, |v| operator.place().dot(v, v))?;
        self.w.host_mut().copy_from_slice(self.v.host());
        self.scalars = [alpha, alpha, beta, beta];
        Ok(())
    }
}

/// Divides a vector by its norm, which is returned.
fn unit(v: &mut Buffer<f32>, dot: impl Fn(&[f32]) -> Result<f64>) -> Result<f64> {
    let norm = norm2(v, dot)?.sqrt();
    if norm > 0.0 {
        let scale = (1.0 / norm) as f32;
        vectors::map(v.host_mut(), |v| *v *= scale);
    }
    Ok(norm)
}

impl Solver for Lsqr {
    fn step(&mut self, operator: &mut dyn Operator, number: u64) -> Result<Report> {
        if number == 0 {
            self.start(operator)?;
        }
        let [alpha, rho_bar, phi_bar, y] = self.scalars;
        // β u = A v − α u
        operator.forward(&mut self.v, &mut self.scratch)?;
        let a = alpha as f32;
        vectors::zip(self.u.host_mut(), self.scratch.host(), |u, q| *u = q - a * *u);
        let beta = unit(&mut self.u, |u| operator.dot(u, u))?;
        // α v = Aᵀ u − β v
        self.back(operator)?;
        let b = beta as f32;
        vectors::zip(self.v.host_mut(), self.image_scratch.host(), |v, s| *v = s - b * *v);
        let alpha = unit(&mut self.v, |v| operator.place().dot(v, v))?;
        let rho = rho_bar.hypot(beta);
        if rho == 0.0 {
            // y is 0, or nothing of it can be told by an image.
            return Ok(Report { done: true, metrics: vec![("residual", if y > 0.0 { phi_bar / y } else { 0.0 })] });
        }
        let (c, s) = (rho_bar / rho, beta / rho);
        // x += φ/ρ w, w = v − θ/ρ w
        let (along, turn) = ((c * phi_bar / rho) as f32, (s * alpha / rho) as f32);
        vectors::zip(self.image.host_mut(), self.w.host(), |x, w| *x += along * w);
        vectors::zip(self.w.host_mut(), self.v.host(), |w, v| *w = v - turn * *w);
        let phi_bar = s * phi_bar;
        self.scalars = [alpha, -c * alpha, phi_bar, y];
        let reached = self.target2.is_some_and(|target2| phi_bar * phi_bar <= target2);
        let done = reached || alpha == 0.0 || beta == 0.0;
        Ok(Report { done, metrics: vec![("residual", if y > 0.0 { phi_bar.abs() / y } else { 0.0 })] })
    }

    fn image(&mut self) -> &mut Buffer<f32> {
        &mut self.image
    }

    fn fields<'a>(&'a mut self, operator: &dyn Operator, fields: &mut Fields<'a>) {
        let place = operator.place();
        place.keep("image", self.image.host_mut(), fields);
        place.keep("lanczos", self.v.host_mut(), fields);
        place.keep("direction", self.w.host_mut(), fields);
        operator.keep("residual", &mut self.u, fields);
        for (name, value) in ["alpha", "rho", "phi", "data"].into_iter().zip(&mut self.scalars) {
            fields.real(name, value);
        }
    }

    fn restored(&mut self, operator: &mut dyn Operator) -> Result<()> {
        operator.restored(&mut self.u)
    }
}
