//! Alternating directions: images by conjugate gradients, differences by shrinkage.
//!
//! z = S(∇x + w), w += ∇x − z, x ← CG(AᵀA/‖A‖² + ρ∇ᵀ∇; Aᵀy/‖A‖² + ρ∇ᵀ(z − w)), and the same with x itself for x ≥ 0. Source: Boyd et al.,
//! Found. Trends Mach. Learn. 3 (2011) 1. What is projected instead of shrunk is w: z = v − w, w = P(v) with v = ∇x + w, so that neither z nor the
//! right-hand side is kept: the first residual is Aᵀ(y − A x)/‖A‖² + ρ∇ᵀ(w_old − 2 w).

use convoke_cluster::{Fields, Result};
use convoke_kernels::Buffer;

use super::grid::{Grid, project};
use super::on_device::{self, Beside};
use super::{Algorithm, Done, Pass, Price, Problem, TvParams, change, keep_field, residual};
use crate::inverse::{Operator, vectors};

pub(super) fn price(params: &TvParams) -> Price {
    let (axes, inner, bound) = (params.along.axes() as u64, params.inner, u64::from(params.non_negative));
    Price {
        volumes: 5 + 2 * axes + bound,
        measured: 2,
        kept_volumes: 1 + axes + bound,
        kept_measured: 0,
        start: Pass::norm(super::POWER as u64).and(1, Pass { measured_dots: 1, halos: 1, ..Pass::default() }),
        step: Pass { forward: 1 + inner, back: 1 + inner, dots: 3 + 2 * inner, measured_dots: 1, halos: 2 + 2 * inner },
    }
}

#[derive(Debug)]
pub(super) struct Admm {
    /// Scaled dual field, and room for another.
    pub(super) w: Buffer<f32>,
    pub(super) room: Buffer<f32>,
    /// Scaled dual of x ≥ 0; empty without it.
    pub(super) bound: Buffer<f32>,
    /// Residual, direction and its product of the conjugate gradients.
    pub(super) r: Buffer<f32>,
    pub(super) p: Buffer<f32>,
    pub(super) h: Buffer<f32>,
    /// What a step on a device has beside these.
    pub(super) beside: Option<Beside>,
}

impl Admm {
    pub fn new(operator: &dyn Operator, grid: &Grid, params: &TvParams) -> Result<Self> {
        let len = operator.place().len();
        let zeros = |len: usize| operator.zeros(len);
        let bound = zeros(if params.non_negative { len } else { 0 })?;
        let [w, room] = [zeros(grid.field_len())?, zeros(grid.field_len())?];
        Ok(Self { w, room, bound, r: zeros(len)?, p: zeros(len)?, h: zeros(len)?, beside: None })
    }
}

impl Algorithm for Admm {
    fn step(&mut self, problem: &mut Problem, operator: &mut dyn Operator) -> Result<Done> {
        if operator.is_on_gpu() {
            return on_device::step(self, problem, operator);
        }
        let Self { w, room, bound, r, p, h, .. } = self;
        let (w, room, bound) = (w.host_mut(), room.host_mut(), bound.host_mut());
        let Problem { params, grid, y, q, x, scale, .. } = problem;
        let points = operator.place().points;
        let nx = points[1];
        let (scale, rho) = (*scale as f32, params.rho() as f32);
        let radius = (params.weight / params.rho()) as f32;
        // w = P(∇x + w), room = w_old − 2 w
        grid.gradient2(x.host(), (w, room), |w, room, g| {
            room.copy_from_slice(w);
            w.iter_mut().zip(g).for_each(|(w, g)| *w += g);
            project(params.kind, params.along, radius, w);
            room.iter_mut().zip(w).for_each(|(room, w)| *room -= 2.0 * *w);
        })?;
        // r = Aᵀ(y − A x)/‖A‖² + ρ∇ᵀ(w_old − 2 w), and the same for x ≥ 0 (whose w is the part of x + w below 0)
        let residual2 = residual(operator, x, y, q)?;
        operator.back(q, r)?;
        grid.transposed(room, r.host_mut(), |r, t, row| {
            r.iter_mut().zip(t).for_each(|(r, t)| *r = rho * t - scale * *r);
            params.cut(points, row, r);
        })?;
        if params.non_negative {
            let old = p.host_mut();
            old.copy_from_slice(bound);
            vectors::zip(bound, x.host(), |w, x| *w = (x + *w).min(0.0));
            vectors::zip2(r.host_mut(), old, bound, |r, old, w| *r += rho * (old - 2.0 * w));
        }
        p.host_mut().copy_from_slice(r.host());
        let place = operator.place().clone();
        let mut gamma = place.dot(p.host(), r.host())?;
        // The first image, to see how far the steps lead in the end.
        room[..x.len()].copy_from_slice(x.host());
        for _ in 0..params.inner {
            // h = (AᵀA/‖A‖² + ρ∇ᵀ∇ + ρ) p
            operator.forward(p, q)?;
            operator.back(q, h)?;
            let direction = p.host();
            let diagonal = if params.non_negative { rho } else { 0.0 };
            grid.normal(direction, h.host_mut(), |h, t, row| {
                let p = &direction[row * nx..][..nx];
                h.iter_mut().zip(p.iter().zip(t)).for_each(|(h, (p, t))| *h = scale * *h + rho * t + diagonal * p);
                params.cut(points, row, h);
            })?;
            let along = place.dot(direction, h.host())?;
            if along <= 0.0 || gamma <= 0.0 {
                break;
            }
            let a = (gamma / along) as f32;
            vectors::zip(x.host_mut(), p.host(), |x, p| *x += a * p);
            vectors::zip(r.host_mut(), h.host(), |r, h| *r -= a * h);
            let old = std::mem::replace(&mut gamma, super::norm2(r, |r| place.dot(r, r))?);
            let beta = (gamma / old) as f32;
            vectors::zip(p.host_mut(), r.host(), |p, r| *p = r + beta * *p);
        }
        let x = x.host();
        let (step2, image2) = change(&place, x, &room[..x.len()])?;
        Ok(Done { residual2, step2, image2 })
    }

    fn fields<'a>(&'a mut self, operator: &dyn Operator, fields: &mut Fields<'a>) {
        let place = operator.place();
        keep_field(place, "dual", self.w.host_mut(), fields);
        if !self.bound.is_empty() {
            place.keep("bound", self.bound.host_mut(), fields);
        }
    }

    /// x ≥ 0 holds in the limit: until then what is below 0 is cut off.
    fn image<'a>(&'a mut self, problem: &'a mut Problem) -> &'a mut Buffer<f32> {
        if !problem.params.non_negative {
            return &mut problem.x;
        }
        vectors::zip(self.h.host_mut(), problem.x.host(), |h, x| *h = x.max(0.0));
        &mut self.h
    }
}
