//! Proximal gradients with momentum, restarted where it leads uphill; the proximal step by the same scheme on its dual.
//!
//! Sources: Beck and Teboulle, SIAM J. Imaging Sci. 2 (2009) 183 and IEEE Trans. Image Process. 18 (2009) 2419 (FGP); O'Donoghue and Candès,
//! Found. Comput. Math. 15 (2015) 715 (restart by the gradient).

use convoke_cluster::{Fields, Result};
use convoke_kernels::Buffer;
use rayon::prelude::*;

use super::grid::{Grid, project};
use super::{Algorithm, Done, Pass, Price, Problem, TvParams, change, keep_field, residual};
use crate::inverse::place::Place;
use crate::inverse::{Operator, vectors};

/// The norm of A comes from below: a step is shorter by this.
const SAFETY: f64 = 0.98;

pub(super) fn price(params: &TvParams) -> Price {
    let axes = params.along.axes() as u64;
    Price {
        volumes: 5 + 2 * axes,
        measured: 2,
        kept_volumes: 2 + axes,
        kept_measured: 0,
        start: Pass::norm(super::POWER as u64).and(1, Pass { measured_dots: 1, halos: 1, ..Pass::default() }),
        step: Pass { forward: 1, back: 1, dots: 3, measured_dots: 1, halos: 2 * params.inner },
    }
}

#[derive(Debug)]
pub(super) struct Fista {
    /// The image before, the point from which a step starts, and the gradient there.
    old: Buffer<f32>,
    point: Buffer<f32>,
    gradient: Buffer<f32>,
    /// Momentum.
    t: f64,
    /// Dual field of the denoising, and its point.
    dual: Buffer<f32>,
    dual_point: Buffer<f32>,
}

/// t of the next step.
fn next(t: f64) -> f64 {
    0.5 * (1.0 + (1.0 + 4.0 * t * t).sqrt())
}

impl Fista {
    pub fn new(operator: &dyn Operator, grid: &Grid) -> Result<Self> {
        let volume = || operator.zeros(operator.place().len());
        let field = || operator.zeros(grid.field_len());
        Ok(Self { old: volume()?, point: volume()?, gradient: volume()?, t: 1.0, dual: field()?, dual_point: field()? })
    }
}

/// x = argmin ½‖x − b‖² + weight TV(x) over the allowed images, from the dual field p on; `point` is room for another field. Collective.
pub(super) fn denoise(
    (grid, place, params): (&Grid, &Place, &TvParams),
    weight: f64,
    b: &[f32],
    (p, point): (&mut [f32], &mut [f32]),
    x: &mut [f32],
) -> Result<()> {
    let (points, nx) = (place.points, place.points[1]);
    let w = weight as f32;
    let image = |p: &[f32], x: &mut [f32]| {
        grid.transposed(p, x, |x, t, row| {
            let b = &b[row * nx..][..nx];
            x.iter_mut().zip(b.iter().zip(t)).for_each(|(x, (b, t))| *x = b - w * t);
            params.constrain(points, row, x);
        })
    };
    point.copy_from_slice(p);
    let mut t = 1.0;
    if weight > 0.0 {
        // ‖∇‖² = 4 for each axis.
        let step = (1.0 / (4.0 * params.along.axes() as f64 * weight)) as f32;
        for _ in 0..params.inner {
            image(point, x)?;
            let beta = ((t - 1.0) / next(t)) as f32;
            t = next(t);
            grid.gradient2(x, (p, point), |p, point, g| {
                point.iter_mut().zip(g).for_each(|(r, g)| *r += step * g);
                project(params.kind, params.along, 1.0, point);
                // point = new + β (new − p), p = new
                for (p, r) in p.iter_mut().zip(point) {
                    let new = *r;
                    *r = new + beta * (new - *p);
                    *p = new;
                }
            })?;
        }
    }
    image(p, x)
}

impl Algorithm for Fista {
    fn step(&mut self, problem: &mut Problem, operator: &mut dyn Operator) -> Result<Done> {
        let Self { old, point, gradient, t, dual, dual_point } = self;
        let Problem { params, grid, y, q, x, scale, .. } = problem;
        // point = x + β (x − old)
        let old_t = *t;
        let new_t = next(old_t);
        let beta = ((old_t - 1.0) / new_t) as f32;
        vectors::zip2(point.host_mut(), x.host(), old.host(), |p, x, old| *p = x + beta * (x - old));
        let residual2 = residual(operator, point, y, q)?;
        operator.back(q, gradient)?;
        let step = (SAFETY * *scale) as f32;
        vectors::zip(gradient.host_mut(), point.host(), |g, p| *g = p - step * *g);
        std::mem::swap(x, old);
        let place = operator.place();
        let weight = SAFETY * params.weight;
        let fields = (dual.host_mut(), dual_point.host_mut());
        denoise((&*grid, place, &*params), weight, gradient.host(), fields, x.host_mut())?;
        // The momentum leads uphill where the step turns back: ⟨point − x, x − old⟩ > 0.
        let size = place.size();
        let rows = point.host().par_chunks(size).zip(x.host().par_chunks(size).zip(old.host().par_chunks(size)));
        let turns: Vec<f64> = rows
            .map(|(p, (x, old))| {
                p.iter().zip(x.iter().zip(old)).map(|(p, (x, old))| f64::from(p - x) * f64::from(x - old)).sum()
            })
            .collect();
        *t = if place.sum(&turns)? > 0.0 { 1.0 } else { new_t };
        let (step2, image2) = change(place, x.host(), old.host())?;
        Ok(Done { residual2, step2, image2 })
    }

    fn restart(&mut self) {
        self.t = 1.0;
    }

    fn fields<'a>(&'a mut self, operator: &dyn Operator, fields: &mut Fields<'a>) {
        let place = operator.place();
        place.keep("previous", self.old.host_mut(), fields);
        keep_field(place, "dual", self.dual.host_mut(), fields);
        fields.real("momentum", &mut self.t);
    }
}
