//! Exact draws from p_k² dμ: the distribution function of each family, inverted.
//!
//! Closed forms for Legendre, Hermite, Fourier and Haar. For Jacobi and Laguerre the distribution function is an integral
//! from the nearer end of the support, whose factor x^a is taken into a Gauss rule, so that what is left is smooth.

use std::f64::consts::{FRAC_1_SQRT_2, PI, TAU};

use super::SpaceError;
use super::family::{Family, Line, gauss, haar_place};

/// The laws p_k² dμ, k = 0 to the degree of `line`.
#[derive(Debug, Clone)]
pub struct Induced {
    /// The family.
    pub line: Line,
    tails: Option<Tails>,
}

/// Integration from an end of the support: nodes and weights on [0, 1] for v^exponent dv.
#[derive(Debug, Clone)]
struct Tails {
    /// From the lower end.
    low: (Vec<f64>, Vec<f64>),
    /// From the upper end (Jacobi).
    high: (Vec<f64>, Vec<f64>),
    /// What the sums are multiplied by to become probabilities.
    scale: [f64; 2],
}

impl Induced {
    /// Prepares the laws of a family.
    ///
    /// # Errors
    /// [`SpaceError::Eigenvalues`], of a rule of Gauss.
    pub fn new(family: Family, degree: usize) -> Result<Self, SpaceError> {
        let line = Line::new(family, degree);
        // On [0, 1]: v = (1 + y)/2 for y of the Jacobi rule with exponent at −1.
        let rule = |n: usize, exponent: f64| -> Result<(Vec<f64>, Vec<f64>), SpaceError> {
            let (nodes, weights) = gauss(Family::Jacobi { a: 0.0, b: exponent }, n)?;
            Ok((nodes.iter().map(|y| f64::midpoint(1.0, *y)).collect(), weights))
        };
        let mut induced = Self { line, tails: None };
        match family {
            Family::Jacobi { a, b } => {
                let n = degree + 32;
                let tails = Tails { low: rule(n, b)?, high: rule(n, a)?, scale: [1.0, 1.0] };
                induced.tails = Some(tails);
                // The rules' weights have sum 1, the integrals of v^b and v^a are 1/(b + 1) and 1/(a + 1).
                let [low, high] = [induced.below(0, 0.0) / (b + 1.0), induced.above(0, 0.0) / (a + 1.0)];
                let scale = [1.0 / ((b + 1.0) * (low + high)), 1.0 / ((a + 1.0) * (low + high))];
                induced.tails.as_mut().expect("set above").scale = scale;
            }
            Family::Laguerre { alpha } => {
                let n = degree + 48 + upper(alpha, degree) as usize / 2;
                let low = rule(n, alpha)?;
                induced.tails = Some(Tails { low, high: (Vec::new(), Vec::new()), scale: [1.0, 1.0] });
                let all = induced.below(0, upper(alpha, 0));
                induced.tails.as_mut().expect("set above").scale = [1.0 / all, 1.0];
            }
            _ => {}
        }
        Ok(induced)
    }

    /// P(X ≤ x) for X ~ p_k² dμ.
    pub fn cdf(&self, k: usize, x: f64) -> f64 {
        self.law(k, x).0
    }

    /// The point where the distribution function of p_k² dμ is `u`, 0 < u < 1.
    pub fn draw(&self, k: usize, u: f64) -> f64 {
        match self.line.family {
            Family::Legendre if k == 0 => 2.0 * u - 1.0,
            // F ≈ 1 − arccos(x)/π: the law of Bernstein's envelope
            Family::Legendre => invert(u, [-1.0, 1.0], -(PI * u).cos(), |x| self.law(k, x)),
            Family::Jacobi { .. } => invert(u, [-1.0, 1.0], -(PI * u).cos(), |x| self.law(k, x)),
            Family::Hermite => {
                let end = 2.0 * (k as f64).sqrt() + 9.5;
                invert(u, [-end, end], 0.0, |x| self.law(k, x))
            }
            Family::Laguerre { alpha } => {
                let end = upper(alpha, k);
                invert(u, [0.0, end], end / 8.0, |x| self.law(k, x))
            }
            Family::Fourier if k == 0 => u,
            Family::Fourier => invert(u, [0.0, 1.0], u, |x| self.law(k, x)),
            Family::Haar if k == 0 => u,
            Family::Haar => {
                let (level, place) = haar_place(k);
                (place as f64 + u) / f64::from(1u32 << level)
            }
        }
    }

    /// Distribution function and density at `x`.
    fn law(&self, k: usize, x: f64) -> (f64, f64) {
        match self.line.family {
            Family::Legendre => legendre(k, x),
            Family::Hermite => hermite(k, x),
            Family::Fourier => {
                if k == 0 {
                    return (x, 1.0);
                }
                let sign = if k % 2 == 1 { 1.0 } else { -1.0 };
                let wave = 2.0 * TAU * k.div_ceil(2) as f64;
                (x + sign * (wave * x).sin() / wave, 1.0 + sign * (wave * x).cos())
            }
            Family::Haar => {
                let (level, place) = if k == 0 { (0, 0) } else { haar_place(k) };
                let scale = f64::from(1u32 << level);
                ((scale * x - place as f64).clamp(0.0, 1.0), scale)
            }
            Family::Jacobi { a, b } => {
                let f = if x < 0.0 { self.below(k, x) } else { 1.0 - self.above(k, x) };
                let scale = self.tails.as_ref().map_or(1.0, |t| t.scale[0] * (b + 1.0));
                (f, scale * self.line.value(k, x).powi(2) * (1.0 - x).powf(a) * (1.0 + x).powf(b))
            }
            Family::Laguerre { alpha } => {
                let scale = self.tails.as_ref().map_or(1.0, |t| t.scale[0] * (alpha + 1.0));
                (self.below(k, x), scale * self.line.value(k, x).powi(2) * x.powf(alpha) * (-x).exp())
            }
        }
    }

    /// Integral of the density from the lower end to `x`: with t = end + length·v it is
    /// length^{e+1} ∫ v^e g(t) dv, g without the end's own factor.
    fn below(&self, k: usize, x: f64) -> f64 {
        let Some(tails) = &self.tails else { return 0.0 };
        let sum = |length: f64, exponent: f64, g: &dyn Fn(f64) -> f64| {
            let terms = tails.low.0.iter().zip(&tails.low.1).map(|(v, w)| w * g(length * v));
            tails.scale[0] * length.powf(exponent + 1.0) * terms.sum::<f64>()
        };
        match self.line.family {
            Family::Jacobi { a, b } => sum(1.0 + x, b, &|y| {
                let t = y - 1.0;
                self.line.value(k, t).powi(2) * (1.0 - t).powf(a)
            }),
            Family::Laguerre { alpha } => sum(x, alpha, &|t| self.line.value(k, t).powi(2) * (-t).exp()),
            _ => 0.0,
        }
    }

    /// As [`Self::below`], from `x` to the upper end of Jacobi's support.
    fn above(&self, k: usize, x: f64) -> f64 {
        let (Some(tails), Family::Jacobi { a, b }) = (&self.tails, self.line.family) else { return 0.0 };
        let g = |y: f64| self.line.value(k, 1.0 - y).powi(2) * (2.0 - y).powf(b);
        let terms = tails.high.0.iter().zip(&tails.high.1).map(|(v, w)| w * g((1.0 - x) * v));
        tails.scale[1] * (1.0 - x).powf(a + 1.0) * terms.sum::<f64>()
    }
}

/// Beyond it L_k² x^alpha e^−x has no mass that a number near 1 could show.
fn upper(alpha: f64, k: usize) -> f64 {
    4.0 * k as f64 + 4.0 * alpha.max(0.0) + 80.0
}

/// F_k = G_k/2 with G_0 = x + 1, G_n = G_{n−1} + x(P_n² + P_{n−1}²) − 2 P_n P_{n−1}; density (2k + 1) P_k²/2.
fn legendre(k: usize, x: f64) -> (f64, f64) {
    let (mut older, mut last, mut g) = (0.0, 1.0, x + 1.0);
    for n in 1..=k {
        let n = n as f64;
        // n P_n = (2n − 1) x P_{n−1} − (n − 1) P_{n−2}
        (older, last) = (last, ((2.0 * n - 1.0) * x * last - (n - 1.0) * older) / n);
        g += x * (last * last + older * older) - 2.0 * last * older;
    }
    (0.5 * g, (k as f64 + 0.5) * last * last)
}

/// F_k = Φ(x) − ϕ(x) Σ_{j=1..k} h_j h_{j−1}/√j; density h_k² ϕ.
fn hermite(k: usize, x: f64) -> (f64, f64) {
    let density = (-0.5 * x * x).exp() / TAU.sqrt();
    let (mut older, mut last, mut sum) = (0.0, 1.0, 0.0);
    for j in 1..=k {
        let root = (j as f64).sqrt();
        (older, last) = (last, (x * last - (j as f64 - 1.0).sqrt() * older) / root);
        sum += last * older / root;
    }
    (0.5 * libm::erfc(-x * FRAC_1_SQRT_2) - density * sum, last * last * density)
}

/// The x of [low, high] with F(x) = u, by Newton's method inside a shrinking bracket; `law` gives F and F'. Where a step
/// leaves the bracket or does not halve it in time (F' has double zeros), the bracket is bisected.
fn invert(u: f64, bracket: [f64; 2], start: f64, law: impl Fn(f64) -> (f64, f64)) -> f64 {
    let [mut low, mut high] = bracket;
    let mut x = start.clamp(low, high);
    let mut step = high - low;
    // 200 halvings end at neighbouring numbers from any bracket.
    for _ in 0..200 {
        let (value, slope) = law(x);
        if value < u {
            low = x
        } else {
            high = x
        }
        let newton = x - (value - u) / slope;
        let before = step;
        let next = if newton > low && newton < high && 2.0 * (newton - x).abs() < before {
            newton
        } else {
            f64::midpoint(low, high)
        };
        step = (next - x).abs();
        x = next;
        if step <= 1e-15 * x.abs().max(1e-3) {
            break;
        }
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ∫ p_k² dμ over [low, x] by Gauss–Legendre on panels: another way to the same number.
    fn by_quadrature(density: impl Fn(f64) -> f64, low: f64, x: f64) -> f64 {
        let (nodes, weights) = gauss(Family::Legendre, 40).unwrap();
        let panels = 40;
        let width = (x - low) / f64::from(panels);
        let panel = |p: i32| {
            let middle = low + width * (f64::from(p) + 0.5);
            nodes.iter().zip(&weights).map(|(t, w)| w * width * density(middle + 0.5 * width * t)).sum::<f64>()
        };
        (0..panels).map(panel).sum()
    }

    #[test]
    fn distribution_functions_are_the_integrals_to_1e_12() {
        for k in [0, 1, 2, 5, 12, 20] {
            let legendre = Induced::new(Family::Legendre, 20).unwrap();
            let hermite = Induced::new(Family::Hermite, 20).unwrap();
            let fourier = Induced::new(Family::Fourier, 20).unwrap();
            for x in [-0.99, -0.4, 0.05, 0.7, 1.0] {
                let exact = by_quadrature(|t| 0.5 * legendre.line.value(k, t).powi(2), -1.0, x);
                assert!((legendre.cdf(k, x) - exact).abs() < 1e-12, "Legendre {k} {x}");
                let exact = by_quadrature(
                    |t| hermite.line.value(k, t).powi(2) * (-0.5 * t * t).exp() / TAU.sqrt(),
                    -19.0,
                    4.0 * x,
                );
                assert!((hermite.cdf(k, 4.0 * x) - exact).abs() < 1e-12, "Hermite {k} {x}");
                let exact = by_quadrature(|t| fourier.line.value(k, t).powi(2), 0.0, x.abs());
                assert!((fourier.cdf(k, x.abs()) - exact).abs() < 1e-12, "Fourier {k} {x}");
            }
        }
    }

    /// With t = −1 + s² or t = s², half-integer exponents become smooth and panels are exact; normalised by their total.
    #[test]
    fn tabulated_distribution_functions_are_the_integrals_to_1e_12() {
        for k in [0, 1, 3, 9, 15] {
            let jacobi = Induced::new(Family::Jacobi { a: 1.0, b: -0.5 }, 15).unwrap();
            let density = |s: f64| 2.0 * jacobi.line.value(k, s * s - 1.0).powi(2) * (2.0 - s * s);
            let all = by_quadrature(|s| 2.0 * (2.0 - s * s), 0.0, 2f64.sqrt());
            for x in [-0.999f64, -0.3, 0.0, 0.4, 0.98, 1.0] {
                let exact = by_quadrature(density, 0.0, (1.0 + x).sqrt()) / all;
                assert!((jacobi.cdf(k, x) - exact).abs() < 1e-12, "Jacobi {k} {x}: {} {exact}", jacobi.cdf(k, x));
            }
            let laguerre = Induced::new(Family::Laguerre { alpha: 0.5 }, 15).unwrap();
            let density = |s: f64| 2.0 * s * s * laguerre.line.value(k, s * s).powi(2) * (-s * s).exp();
            let all = by_quadrature(|s| 2.0 * s * s * (-s * s).exp(), 0.0, 12.0);
            for x in [0.01f64, 0.5, 3.0, 20.0, 60.0] {
                let exact = by_quadrature(density, 0.0, x.sqrt()) / all;
                assert!((laguerre.cdf(k, x) - exact).abs() < 1e-12, "Laguerre {k} {x}: {} {exact}", laguerre.cdf(k, x));
            }
        }
    }

    /// To 2e-13 in F, or to 2e-15 in x where F is steep (exponents below 0).
    #[test]
    fn draws_are_where_the_distribution_function_has_the_uniform_number() {
        let families = [
            Family::Legendre,
            Family::Hermite,
            Family::Jacobi { a: 0.3, b: -0.6 },
            Family::Laguerre { alpha: -0.3 },
            Family::Fourier,
            Family::Haar,
        ];
        for family in families {
            let induced = Induced::new(family, 17).unwrap();
            for k in [0, 1, 2, 9, 17] {
                for u in [1e-9, 0.003, 0.25, 0.5, 0.77, 0.9999, 1.0 - 1e-9] {
                    let x = induced.draw(k, u);
                    let near = 2e-15 * x.abs();
                    let (low, high) = (
                        induced.cdf(k, if x > -1.0 { (x - near).max(-1.0) } else { x - near }),
                        induced.cdf(k, x + near),
                    );
                    assert!(low < u + 2e-13 && high > u - 2e-13, "{family:?} {k} {u}: F({x}) is {low} to {high}");
                }
            }
        }
    }
}
