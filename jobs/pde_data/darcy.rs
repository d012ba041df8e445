//! The pressure of a fluid in a random medium of two materials (Z. Li et al., ICLR 2021).

use std::f64::consts::{PI, SQRT_2};

use convoke_kernels::random::Philox;

use super::elliptic::{Elliptic, Stuck};
use super::initial::STREAM;
use super::reflection::Reflection;

/// −∇·(a ∇p) = 1 with p = 0 on the boundary; a is one of two values, by the sign of a Gaussian field with the covariance
/// (−Δ + τ²)^(−α), no flux through the boundary and mean 0.
#[derive(Debug)]
pub struct Darcy {
    /// Nodes along each axis, the boundary included.
    pub n: usize,
    values: [f64; 2],
    /// Deviations of the field's coefficients of cos(πkx) cos(πly), `[k][l]`.
    deviations: Vec<f64>,
    reflection: Reflection,
    elliptic: Elliptic,
}

impl Darcy {
    /// A square of side `side` with `n` × `n` nodes; `values` where the field is negative, and where it is not.
    pub fn new(n: usize, side: f64, values: [f64; 2], (alpha, tau): (f64, f64)) -> Self {
        let kappa = |k: usize| PI * k as f64 / side;
        // √2 cos has mean square 1.
        let size = |k: usize| if k == 0 { 1.0 } else { SQRT_2 };
        let deviation = |k: usize, l: usize| {
            let square = kappa(k).powi(2) + kappa(l).powi(2);
            if square > 0.0 { size(k) * size(l) * (square + tau * tau).powf(-0.5 * alpha) } else { 0.0 }
        };
        let deviations = (0..n * n).map(|i| deviation(i / n, i % n)).collect();
        Self { n, values, deviations, reflection: Reflection::new(n), elliptic: Elliptic::new(n, side) }
    }

    /// Bytes of what all samples share.
    pub fn table_bytes(n: usize) -> u64 {
        8 * (n * n + n) as u64 + 64 * n as u64
    }

    /// Bytes that a sample takes while it is computed.
    pub fn work_bytes(n: usize) -> u64 {
        8 * 3 * (n * n) as u64 + Elliptic::work_bytes(n)
    }

    /// Operations of a sample, if the values differ as much as those of the published sets.
    pub fn flops(n: usize) -> f64 {
        28.0 * Elliptic::flops(n)
    }

    /// The Gaussian field of a sample at the nodes, `[x][y]`. A coefficient depends on the seed, the sample and the mode, not on the
    /// grid.
    pub fn field(&self, seed: u64, sample: u64) -> Vec<f64> {
        let (n, random) = (self.n, Philox::new(seed, STREAM + sample));
        let key = |i: usize| (((i / n) as u64) << 25) | (i % n) as u64;
        let normal = |(i, deviation): (usize, &f64)| deviation * random.normal(key(i));
        let mut field: Vec<f64> = self.deviations.iter().enumerate().map(normal).collect();
        self.reflection.cosines(&mut field, &mut self.reflection.work());
        field
    }

    /// Coefficient and pressure of a sample at the nodes, and how many iterations the pressure took.
    ///
    /// # Errors
    /// [`Stuck`] where the pressure did not converge.
    pub fn sample(&self, seed: u64, sample: u64, a: &mut [f64], p: &mut [f64]) -> Result<usize, Stuck> {
        let [low, high] = self.values;
        for (a, field) in a.iter_mut().zip(self.field(seed, sample)) {
            *a = if field >= 0.0 { high } else { low };
        }
        self.elliptic.solve(a, &vec![1.0; a.len()], p)
    }
}
