//! Orthonormal families of one variable: p_0 = 1, p_1, … with ∫ p_j p_k dμ = δ_jk, μ a probability measure.
//!
//! Polynomials come from √β_{k+1} p_{k+1} = (x − α_k) p_k − √β_k p_{k−1} (Gautschi, "Orthogonal polynomials: computation
//! and approximation", 2004, table 1.1).

use std::f64::consts::{SQRT_2, TAU};

use faer::{Mat, Side};

use super::SpaceError;

/// A family and its measure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Family {
    /// Polynomials, uniform on [−1, 1].
    Legendre,
    /// Polynomials, standard normal.
    Hermite,
    /// Polynomials, density ∝ (1 − x)^a (1 + x)^b on [−1, 1]; a, b > −1.
    Jacobi {
        /// Exponent at 1.
        a: f64,
        /// Exponent at −1.
        b: f64,
    },
    /// Polynomials, density ∝ x^alpha e^−x on [0, ∞); alpha > −1.
    Laguerre {
        /// Exponent at 0.
        alpha: f64,
    },
    /// 1, √2 cos 2πx, √2 sin 2πx, √2 cos 4πx, …; uniform on [0, 1].
    Fourier,
    /// 1, then 2^{j/2} ψ(2^j x − l) as number 2^j + l; uniform on [0, 1].
    Haar,
}

impl Family {
    /// Largest degree whose values, squared, are still numbers where its law has mass.
    pub fn max_degree(self) -> usize {
        match self {
            Self::Hermite | Self::Laguerre { .. } => 128,
            Self::Jacobi { .. } => 512,
            _ => 4096,
        }
    }

    /// Where its measure lies.
    pub fn support(self) -> (f64, f64) {
        match self {
            Self::Legendre | Self::Jacobi { .. } => (-1.0, 1.0),
            Self::Fourier | Self::Haar => (0.0, 1.0),
            Self::Hermite => (f64::NEG_INFINITY, f64::INFINITY),
            Self::Laguerre { .. } => (0.0, f64::INFINITY),
        }
    }

    /// α_k and β_k of the recurrence; β_0 = 0 here.
    fn recurrence(self, k: usize) -> (f64, f64) {
        let n = k as f64;
        match self {
            Self::Legendre => (0.0, n * n / (4.0 * n * n - 1.0)),
            Self::Hermite => (0.0, n),
            Self::Laguerre { alpha } => (2.0 * n + alpha + 1.0, n * (n + alpha)),
            Self::Jacobi { a, b } => jacobi(n, a, b),
            Self::Fourier | Self::Haar => (0.0, 0.0),
        }
    }
}

/// α_n, β_n of Jacobi polynomials; the general fractions are 0/0 at n = 0 and, for a + b = −1, at n = 1.
fn jacobi(n: f64, a: f64, b: f64) -> (f64, f64) {
    let s = 2.0 * n + a + b;
    if n == 0.0 {
        return ((b - a) / (s + 2.0), 0.0);
    }
    let alpha = (b * b - a * a) / (s * (s + 2.0));
    let beta = if n == 1.0 {
        4.0 * (1.0 + a) * (1.0 + b) / (s * s * (s + 1.0))
    } else {
        4.0 * n * (n + a) * (n + b) * (n + a + b) / (s * s * (s + 1.0) * (s - 1.0))
    };
    (alpha, beta)
}

/// A family up to a degree, ready for evaluation.
#[derive(Debug, Clone)]
pub struct Line {
    /// Which.
    pub family: Family,
    /// Largest degree.
    pub degree: usize,
    alpha: Vec<f64>,
    /// √β_k.
    root: Vec<f64>,
}

impl Line {
    /// Degrees 0 to `degree`.
    pub fn new(family: Family, degree: usize) -> Self {
        let (alpha, root) = (0..=degree).map(|k| family.recurrence(k)).map(|(a, b)| (a, b.sqrt())).unzip();
        Self { family, degree, alpha, root }
    }

    /// p_k at `x`, as `[degree + 1, n]` into `out`.
    pub fn evaluate(&self, x: &[f64], out: &mut [f64]) {
        let n = x.len();
        assert_eq!(out.len(), n * (self.degree + 1), "values for all degrees");
        out[..n].fill(1.0);
        match self.family {
            Family::Fourier => {
                for k in 1..=self.degree {
                    let wave = |x: f64| TAU * k.div_ceil(2) as f64 * x;
                    let row = out[k * n..(k + 1) * n].iter_mut().zip(x);
                    row.for_each(|(v, x)| *v = SQRT_2 * if k % 2 == 1 { wave(*x).cos() } else { wave(*x).sin() });
                }
            }
            Family::Haar => {
                for k in 1..=self.degree {
                    out[k * n..(k + 1) * n].iter_mut().zip(x).for_each(|(v, x)| *v = haar(k, *x));
                }
            }
            _ => {
                // 3 flops and 24 bytes (in cache) for each value
                for k in 1..=self.degree {
                    let (before, row) = out.split_at_mut(k * n);
                    let last = &before[(k - 1) * n..];
                    let (alpha, lower, scale) = (self.alpha[k - 1], self.root[k - 1], 1.0 / self.root[k]);
                    if k == 1 {
                        row[..n].iter_mut().zip(x).for_each(|(v, x)| *v = (x - alpha) * scale);
                        continue;
                    }
                    let older = &before[(k - 2) * n..(k - 1) * n];
                    for (((v, x), last), older) in row[..n].iter_mut().zip(x).zip(last).zip(older) {
                        *v = ((x - alpha) * last - lower * older) * scale;
                    }
                }
            }
        }
    }

    /// p_k' at `x`, as [`Line::evaluate`]; zero for Haar functions, between their jumps.
    pub fn derivatives(&self, x: &[f64], out: &mut [f64]) {
        let n = x.len();
        assert_eq!(out.len(), n * (self.degree + 1), "values for all degrees");
        out.fill(0.0);
        match self.family {
            Family::Haar => {}
            Family::Fourier => {
                for k in 1..=self.degree {
                    let rate = TAU * k.div_ceil(2) as f64;
                    let slope = |x: f64| if k % 2 == 1 { -(rate * x).sin() } else { (rate * x).cos() };
                    out[k * n..(k + 1) * n].iter_mut().zip(x).for_each(|(v, x)| *v = SQRT_2 * rate * slope(*x));
                }
            }
            _ => {
                // The recurrence, differentiated.
                for (i, x) in x.iter().enumerate() {
                    let ((mut p_older, mut p_last), (mut d_older, mut d_last)) = ((0.0, 1.0), (0.0, 0.0));
                    for k in 1..=self.degree {
                        let (shift, lower, scale) = (x - self.alpha[k - 1], self.root[k - 1], 1.0 / self.root[k]);
                        let p = (shift * p_last - lower * p_older) * scale;
                        let d = (p_last + shift * d_last - lower * d_older) * scale;
                        (p_older, p_last, d_older, d_last) = (p_last, p, d_last, d);
                        out[k * n + i] = d;
                    }
                }
            }
        }
    }

    /// p_k(x), one value.
    pub fn value(&self, k: usize, x: f64) -> f64 {
        match self.family {
            Family::Fourier | Family::Haar => {
                let mut all = vec![0.0; self.degree + 1];
                self.evaluate(&[x], &mut all);
                all[k]
            }
            _ => {
                let (mut older, mut last) = (0.0, 1.0);
                for j in 1..=k {
                    let next = ((x - self.alpha[j - 1]) * last - self.root[j - 1] * older) / self.root[j];
                    (older, last) = (last, next);
                }
                last
            }
        }
    }
}

/// Level and place of Haar function `k` ≥ 1.
pub(super) fn haar_place(k: usize) -> (u32, usize) {
    let level = k.ilog2();
    (level, k - (1 << level))
}

fn haar(k: usize, x: f64) -> f64 {
    let (level, place) = haar_place(k);
    let scale = f64::from(1u32 << level);
    let y = scale * x - place as f64;
    match y {
        _ if !(0.0..1.0).contains(&y) => 0.0,
        _ if y < 0.5 => scale.sqrt(),
        _ => -scale.sqrt(),
    }
}

/// Gauss's rule of `n` nodes for a polynomial family's measure: `(nodes, weights)`, weights of sum 1 (Golub and Welsch
/// 1969).
///
/// # Errors
/// [`SpaceError::Eigenvalues`] where the eigenvalues do not converge.
pub fn gauss(family: Family, n: usize) -> Result<(Vec<f64>, Vec<f64>), SpaceError> {
    let line = Line::new(family, n);
    let jacobi = Mat::from_fn(n, n, |i, j| match i.abs_diff(j) {
        0 => line.alpha[i],
        1 => line.root[i.max(j)],
        _ => 0.0,
    });
    let eigen = jacobi.self_adjoint_eigen(Side::Lower).map_err(|_| SpaceError::Eigenvalues)?;
    let nodes: Vec<f64> = (0..n).map(|j| eigen.S()[j]).collect();
    // 1/Σ p_k² keeps the digits of small weights, which squares of eigenvectors lose.
    let mut values = vec![0.0; n * n];
    Line::new(family, n - 1).evaluate(&nodes, &mut values);
    let weight = |i: usize| 1.0 / (0..n).map(|k| values[k * n + i].powi(2)).sum::<f64>();
    let weights = (0..n).map(weight).collect();
    Ok((nodes, weights))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ∫ p_j p_k dμ = δ_jk to 1e-12, by Gauss's rule with nodes enough to be exact.
    #[test]
    fn polynomials_are_orthonormal() {
        let families = [
            Family::Legendre,
            Family::Hermite,
            Family::Jacobi { a: 0.7, b: -0.4 },
            Family::Jacobi { a: -0.5, b: -0.5 },
            Family::Laguerre { alpha: 0.0 },
            Family::Laguerre { alpha: 1.5 },
        ];
        for family in families {
            let line = Line::new(family, 12);
            let (nodes, weights) = gauss(family, 16).unwrap();
            let mut values = vec![0.0; 16 * 13];
            line.evaluate(&nodes, &mut values);
            for j in 0..13 {
                for k in 0..13 {
                    let pair = |i: usize| values[j * 16 + i] * values[k * 16 + i] * weights[i];
                    let inner: f64 = (0..16).map(pair).sum();
                    let delta = f64::from(u8::from(j == k));
                    assert!((inner - delta).abs() < 1e-12, "{family:?} {j} {k}: {inner}");
                }
            }
            assert!(
                (line.value(7, 0.3) - {
                    let mut v = [0.0; 13];
                    line.evaluate(&[0.3], &mut v);
                    v[7]
                })
                .abs()
                    < 1e-12
            );
        }
    }

    /// Moments that any table has: of the uniform measure, of the normal, of Γ(alpha + 1), of the arcsine law.
    #[test]
    fn rules_of_gauss_have_the_moments_of_their_measures() {
        let moment = |family, power: i32| {
            let (nodes, weights) = gauss(family, 10).unwrap();
            nodes.iter().zip(&weights).map(|(x, w)| w * x.powi(power)).sum::<f64>()
        };
        assert!((moment(Family::Legendre, 4) - 0.2).abs() < 1e-14);
        assert!((moment(Family::Hermite, 6) - 15.0).abs() < 1e-12);
        assert!((moment(Family::Laguerre { alpha: 1.5 }, 2) - 2.5 * 3.5).abs() < 1e-12);
        assert!((moment(Family::Jacobi { a: -0.5, b: -0.5 }, 4) - 0.375).abs() < 1e-14);
        // Beta(b + 1, a + 1) on [−1, 1] has mean (b − a)/(a + b + 2).
        assert!((moment(Family::Jacobi { a: 0.7, b: -0.4 }, 1) + 1.1 / 2.3).abs() < 1e-14);
    }

    /// Equidistant points integrate products of waves below their number exactly, and midpoints products of Haar
    /// functions.
    #[test]
    fn waves_and_wavelets_are_orthonormal() {
        for family in [Family::Fourier, Family::Haar] {
            let x: Vec<f64> = (0..64).map(|i| (f64::from(i) + 0.5) / 64.0).collect();
            let mut values = vec![0.0; 64 * 16];
            Line::new(family, 15).evaluate(&x, &mut values);
            for j in 0..16 {
                for k in 0..16 {
                    let inner: f64 = (0..64).map(|i| values[j * 64 + i] * values[k * 64 + i] / 64.0).sum();
                    assert!((inner - f64::from(u8::from(j == k))).abs() < 1e-13, "{family:?} {j} {k}: {inner}");
                }
            }
        }
    }
}
