//! Primal and dual steps in turn, each as cheap as a projection pair.
//!
//! p ← (p + σ(A x̄ − y)/‖A‖)/(1 + σ), f ← P(f + s∇x̄), x⁺ ← P₊(x − τ(Aᵀp/‖A‖ + ∇ᵀf)), x̄ = 2x⁺ − x with τ(σ + s‖∇‖²) < 1. Sources: Chambolle and
//! Pock, J. Math. Imaging Vis. 40 (2011) 120; Sidky, Jørgensen and Pan, Phys. Med. Biol. 57 (2012) 3065.

use convoke_cluster::{Fields, Result};
use convoke_kernels::Buffer;

use super::grid::{Grid, project};
use super::{Algorithm, Done, Pass, Price, Problem, TvParams, change, keep_field, residual};
use crate::inverse::{Operator, vectors};

/// The part of the bound that the steps use up: ‖A‖ comes from below.
const SAFETY: f64 = 0.98;
/// s over λ: a field goes from one bound to the other within some steps of an image with differences of 1.
const PACE: f64 = 1.0;

pub(super) fn price(params: &TvParams) -> Price {
    let axes = params.along.axes() as u64;
    Price {
        volumes: 4 + axes,
        measured: 3,
        kept_volumes: 2 + axes,
        kept_measured: 1,
        start: Pass::norm(super::POWER as u64).and(1, Pass { measured_dots: 1, halos: 1, ..Pass::default() }),
        step: Pass { forward: 1, back: 1, dots: 2, measured_dots: 1, halos: 2 },
    }
}

#[derive(Debug)]
pub(super) struct Pdhg {
    /// x̄, and room for a gradient.
    bar: Buffer<f32>,
    gradient: Buffer<f32>,
    /// Duals of the data and of the differences.
    p: Buffer<f32>,
    field: Buffer<f32>,
}

impl Pdhg {
    pub fn new(operator: &dyn Operator, grid: &Grid) -> Result<Self> {
        let volume = || operator.zeros(operator.place().len());
        let [p, field] = [operator.zeros(operator.measured_len())?, operator.zeros(grid.field_len())?];
        Ok(Self { bar: volume()?, gradient: volume()?, p, field })
    }
}

impl Algorithm for Pdhg {
    fn step(&mut self, problem: &mut Problem, operator: &mut dyn Operator) -> Result<Done> {
        let Self { bar, gradient, p, field } = self;
        let field = field.host_mut();
        let Problem { params, grid, y, q, x, scale, .. } = problem;
        let place = operator.place().clone();
        let (points, nx) = (place.points, place.points[1]);
        // Half of the bound for the data, half for the differences.
        let s = PACE * params.weight.max(1e-6);
        let tau = 0.5 * SAFETY / (s * 4.0 * params.along.axes() as f64);
        let (norm, sigma, s, tau) = (scale.sqrt() as f32, (0.5 * SAFETY / tau) as f32, s as f32, tau as f32);
        let residual2 = residual(operator, bar, y, q)?;
        let shrink = 1.0 / (1.0 + sigma);
        vectors::zip(p.host_mut(), q.host(), |p, q| *p = shrink * (*p + sigma * norm * q));
        let radius = params.weight as f32;
        grid.gradient(bar.host(), field, |f, g| {
            f.iter_mut().zip(g).for_each(|(f, g)| *f += s * g);
            project(params.kind, params.along, radius, f);
        })?;
        q.host_mut().copy_from_slice(p.host());
        operator.back(q, gradient)?;
        let old = x.host();
        let step = |g: &mut [f32], t: &[f32], row: usize| {
            let x = &old[row * nx..][..nx];
            g.iter_mut().zip(x.iter().zip(t)).for_each(|(g, (x, t))| *g = x - tau * (norm * *g + t));
            params.constrain(points, row, g);
        };
        grid.transposed(field, gradient.host_mut(), step)?;
        // The new image lies in `gradient`.
        std::mem::swap(x, gradient);
        vectors::zip2(bar.host_mut(), x.host(), gradient.host(), |bar, x, old| *bar = 2.0 * x - old);
        let (step2, image2) = change(&place, x.host(), gradient.host())?;
        Ok(Done { residual2, step2, image2 })
    }

    fn fields<'a>(&'a mut self, operator: &dyn Operator, fields: &mut Fields<'a>) {
        let place = operator.place();
        place.keep("extrapolated", self.bar.host_mut(), fields);
        keep_field(place, "dual", self.field.host_mut(), fields);
        operator.keep("data_dual", &mut self.p, fields);
    }

    fn restored(&mut self, operator: &mut dyn Operator) -> Result<()> {
        operator.restored(&mut self.p)
    }
}
