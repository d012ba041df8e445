//! The data step that samplers share: a quadratic problem with total variation along z, split (ADMM) with a dual that is kept between steps.

use convoke_cluster::Result;

use super::World;

/// Differences along z, and the scaled dual of their splitting z = D x.
#[derive(Debug, Clone, Default)]
pub struct Splitting {
    /// Penalty ρ; 0 leaves slices alone.
    pub rho: f64,
    /// z.
    pub z: Vec<f32>,
    /// w.
    pub w: Vec<f32>,
}

impl Splitting {
    /// Of zeros.
    pub fn new(rho: f64) -> Self {
        Self { rho, z: Vec::new(), w: Vec::new() }
    }

    /// Zeros, for a new volume.
    pub fn start(&mut self, len: usize) {
        self.z = vec![0.0; len];
        self.w = vec![0.0; len];
    }

    /// x of (ÃᵀÃ + ρ DᵀD + g) x = Ãᵀỹ + ρ Dᵀ(z − w) + g x₀, by conjugate gradients from x₀ on. Collective.
    ///
    /// # Errors
    /// Of the operator and of the exchange.
    pub fn solve(&self, first: &[f32], g: f64, iterations: usize, world: &mut World<'_>) -> Result<Vec<f32>> {
        let rho = self.rho as f32;
        let mut x = first.to_vec();
        let mut r = self.apply(&x, g, world)?;
        let right = world.data.back.iter().zip(first);
        r.iter_mut().zip(right).for_each(|(r, (b, c))| *r = b + g as f32 * c - *r);
        if rho > 0.0 {
            let split: Vec<f32> = self.z.iter().zip(&self.w).map(|(z, w)| z - w).collect();
            r.iter_mut().zip(world.place.transposed(&split)?).for_each(|(r, d)| *r += rho * d);
        }
        let mut p = r.clone();
        let mut gamma = world.place.dot(&r, &r)?;
        for _ in 0..iterations {
            let q = self.apply(&p, g, world)?;
            let along = world.place.dot(&p, &q)?;
            if along <= 0.0 || gamma == 0.0 {
                break;
            }
            let alpha = (gamma / along) as f32;
            x.iter_mut().zip(&p).for_each(|(x, p)| *x += alpha * p);
            r.iter_mut().zip(&q).for_each(|(r, q)| *r -= alpha * q);
            let old = std::mem::replace(&mut gamma, world.place.dot(&r, &r)?);
            let beta = (gamma / old) as f32;
            p.iter_mut().zip(&r).for_each(|(p, r)| *p = r + beta * *p);
        }
        Ok(x)
    }

    /// z and w of the total variation's weight λ for a new x. Collective.
    ///
    /// # Errors
    /// Of the exchange.
    pub fn split(&mut self, x: &[f32], lambda: f64, world: &World<'_>) -> Result<()> {
        if self.rho == 0.0 {
            return Ok(());
        }
        let threshold = (lambda / self.rho) as f32;
        let d = world.place.differences(x)?;
        for ((z, w), d) in self.z.iter_mut().zip(&mut self.w).zip(&d) {
            let v = d + *w;
            *z = v.signum() * (v.abs() - threshold).max(0.0);
            *w = v - *z;
        }
        Ok(())
    }

    /// (ÃᵀÃ + ρ DᵀD + g) v. Collective.
    fn apply(&self, v: &[f32], g: f64, world: &mut World<'_>) -> Result<Vec<f32>> {
        let (rho, g) = (self.rho as f32, g as f32);
        let mut out = world.data.normal(world.operator, v)?;
        out.iter_mut().zip(v).for_each(|(out, v)| *out += g * v);
        if rho > 0.0 {
            let more = world.place.transposed(&world.place.differences(v)?)?;
            out.iter_mut().zip(more).for_each(|(out, more)| *out += rho * more);
        }
        Ok(out)
    }
}
