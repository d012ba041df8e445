//! The network behind each layer of newer Fourier neural operators: v ← M₁ σ(M₀ u + m₀) + m₁ + s(v), with u what the Fourier layer makes of
//! v. As `channel_mlp` and `channel_mlp_skips` of neuraloperator 2.0.0.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::layers::{Batch, Inside, add, mix, mix_back, mix_parameters, network, network_back, total_of_products};
use super::pool::Pool;
use crate::learning::parameters::Parts;
use crate::learning::real::Real;

/// Its size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelMlp {
    /// Channels between its two maps.
    pub channels: usize,
    /// s.
    pub skip: Skip,
}

/// What is added of the layer's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Skip {
    /// Each channel times a number.
    #[default]
    SoftGating,
    /// The channels times a matrix.
    Linear,
}

impl ChannelMlp {
    /// Adds its parameters in a layer of `h` channels; gates are one at first.
    pub fn add(&self, parts: &mut Parts, name: &str, h: usize) {
        parts.add_mix(&format!("{name}.mlp.0"), self.channels, h);
        parts.add_mix(&format!("{name}.mlp.1"), h, self.channels);
        let most = 1.0 / (h as f64).sqrt();
        match self.skip {
            Skip::SoftGating => parts.add(format!("{name}.skip"), &[h], [1.0, 1.0]),
            Skip::Linear => parts.add(format!("{name}.skip"), &[h, h], [-most, most]),
        }
    }

    /// Multiplications of matrices at a point, of `h` channels.
    pub fn products(&self, h: usize) -> usize {
        2 * h * self.channels + if self.skip == Skip::Linear { h * h } else { 0 }
    }

    /// The output for `u`, which a layer made of `v`.
    pub fn forward<T: Real>(
        &self,
        pool: &Pool<T>,
        (parts, parameters): (&Parts, &[T]),
        name: &str,
        (v, u): (&[Vec<T>], Batch<T>),
    ) -> (Batch<T>, Inside<T>) {
        let (mut out, inside) = network(pool, (parts, parameters), &format!("{name}.mlp"), u);
        let skip = parts.of(parameters, &format!("{name}.skip"));
        let beside = |(out, v): (&mut Vec<T>, &Vec<T>)| match self.skip {
            Skip::SoftGating => {
                let n = v.len() / skip.len();
                for ((out, v), gate) in out.chunks_mut(n).zip(v.chunks(n)).zip(skip) {
                    out.iter_mut().zip(v).for_each(|(out, v)| *out += *gate * *v);
                }
            }
            Skip::Linear => {
                add(pool, out, mix(pool, skip, &vec![T::default(); side(skip)], v));
            }
        };
        out.par_iter_mut().zip(v).for_each(beside);
        (out, inside)
    }

    /// Derivatives by u and by v for those by the output; adds those by the parameters to `gradient`.
    pub fn backward<T: Real>(
        &self,
        pool: &Pool<T>,
        (parts, parameters, gradient): (&Parts, &[T], &mut [T]),
        name: &str,
        (v, inside, g): (&[Vec<T>], &Inside<T>, Batch<T>),
    ) -> [Batch<T>; 2] {
        let mlp = format!("{name}.mlp");
        let hidden = network_back(pool, (parts, parameters, &mut *gradient), &mlp, (inside, &g));
        let [weight, _] = parts.mix(parameters, &format!("{mlp}.0"));
        let by_u = hidden.par_iter().map(|g| mix_back(pool, weight, self.channels, g)).collect();
        pool.give_all(hidden);
        let part = parts.range(&format!("{name}.skip"));
        let (skip, by_skip) = (&parameters[part.clone()], &mut gradient[part]);
        let by_v = match self.skip {
            Skip::SoftGating => {
                let n = g[0].len() / skip.len();
                let of = |(v, g): (&Vec<T>, &Vec<T>)| -> Vec<T> {
                    v.chunks(n).zip(g.chunks(n)).map(|(v, g)| total_of_products(v, g)).collect()
                };
                let sums: Vec<Vec<T>> = v.par_iter().zip(&g).map(of).collect();
                for sums in sums {
                    by_skip.iter_mut().zip(sums).for_each(|(all, sum)| *all += sum);
                }
                let scaled = |mut g: Vec<T>| {
                    g.chunks_mut(n).zip(skip).for_each(|(g, gate)| g.iter_mut().for_each(|g| *g *= *gate));
                    g
                };
                g.into_par_iter().map(scaled).collect()
            }
            Skip::Linear => {
                mix_parameters(v, &g, by_skip, &mut vec![T::default(); side(skip)]);
                let by_v = g.par_iter().map(|g| mix_back(pool, skip, side(skip), g)).collect();
                pool.give_all(g);
                by_v
            }
        };
        [by_u, by_v]
    }
}

/// Rows of a square matrix.
fn side<T>(matrix: &[T]) -> usize {
    matrix.len().isqrt()
}
