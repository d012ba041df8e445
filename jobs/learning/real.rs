//! The two precisions.

use std::fmt::Debug;
use std::ops::{AddAssign, SubAssign};

use bytemuck::Pod;
use convoke_cluster::fields::Data;
use convoke_data::store::Element;
use faer::traits::RealField;

/// Single or double precision.
pub trait Real:
    RealField + num_traits::Float + rustfft::FftNum + AddAssign + SubAssign + Pod + Element + Send + Sync + Debug + Default
{
    /// Of a number in double precision.
    fn of(value: f64) -> Self;

    /// In double precision.
    fn wide(self) -> f64;

    /// x Φ(x) and its derivative Φ(x) + x φ(x), Φ and φ of the normal law (Hendrycks and Gimpel 2016, the exact form).
    fn gelu(self) -> (Self, Self);

    /// x/(1 + e^{−x}) and its derivative.
    fn silu(self) -> (Self, Self);

    /// As numbers of a state.
    fn data(values: &mut [Self]) -> Data<'_>;
}

impl Real for f64 {
    fn of(value: f64) -> Self {
        value
    }

    fn wide(self) -> f64 {
        self
    }

    fn gelu(self) -> (Self, Self) {
        let cdf = 0.5 * libm::erfc(-self * std::f64::consts::FRAC_1_SQRT_2);
        let density = (-0.5 * self * self).exp() / std::f64::consts::TAU.sqrt();
        (self * cdf, cdf + self * density)
    }

    fn silu(self) -> (Self, Self) {
        let s = 1.0 / (1.0 + (-self).exp());
        (self * s, s * (1.0 + self * (1.0 - s)))
    }

    fn data(values: &mut [Self]) -> Data<'_> {
        values.into()
    }
}

impl Real for f32 {
    fn of(value: f64) -> Self {
        value as f32
    }

    fn wide(self) -> f64 {
        f64::from(self)
    }

    /// To 5e-7, without branches and with fused multiply-adds, so that loops over it fill SIMD lanes: Φ(x) = 1 − φ(x) P(t), t = 1/(1 + p x) for x ≥ 0
    /// (Abramowitz and Stegun 1964, 7.1.26).
    #[inline]
    fn gelu(self) -> (Self, Self) {
        const A: [f32; 5] = [0.254_829_6, -0.284_496_74, 1.421_413_7, -1.453_152, 1.061_405_4];
        let z = self.abs() * std::f32::consts::FRAC_1_SQRT_2;
        let t = 1.0 / z.mul_add(0.327_591_1, 1.0);
        let gauss = exp_of_negative(-z * z);
        let sum = t.mul_add(t.mul_add(t.mul_add(t.mul_add(A[4], A[3]), A[2]), A[1]), A[0]);
        let tail = 0.5 * t * sum * gauss;
        let cdf = if self < 0.0 { tail } else { 1.0 - tail };
        // 1/√(2π)
        (self * cdf, (self * gauss).mul_add(0.398_942_3, cdf))
    }

    #[inline]
    fn silu(self) -> (Self, Self) {
        let e = exp_of_negative(-self.abs());
        let s = if self < 0.0 { e } else { 1.0 } / (1.0 + e);
        (self * s, s * (1.0 + self * (1.0 - s)))
    }

    fn data(values: &mut [Self]) -> Data<'_> {
        values.into()
    }
}

/// e^x for x ≤ 0: 2^n times a polynomial on [−½ ln 2, ½ ln 2], Taylor's to the sixth power (1e-7).
#[inline]
fn exp_of_negative(x: f32) -> f32 {
    // Adding 1.5 · 2²³ rounds to a whole number and leaves it in the last bits.
    const ROUND: f32 = 12_582_912.0;
    let x = if x < -87.0 { -87.0 } else { x };
    let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    // ln 2 in two parts, the first of few digits.
    let r = n.mul_add(2.121_944_4e-4, n.mul_add(-0.693_359_4, x));
    const TAYLOR: [f32; 7] = [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0];
    let p = TAYLOR.iter().fold(0.0, |sum: f32, c| sum.mul_add(r, *c));
    p * f32::from_bits(shifted.to_bits().wrapping_add(127).wrapping_shl(23))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_precision_is_double_precision_to_5e_7() {
        for i in -2000..2000 {
            let x = i as f32 * 0.01;
            let (a, b) = (x.gelu(), f64::from(x).gelu());
            assert!((f64::from(a.0) - b.0).abs() < 5e-7 * f64::from(x).abs().max(1.0), "{x}: {a:?} {b:?}");
            assert!((f64::from(a.1) - b.1).abs() < 1e-6, "{x}: {a:?} {b:?}");
            let (a, b) = (x.silu(), f64::from(x).silu());
            assert!((f64::from(a.0) - b.0).abs() < 5e-7 * f64::from(x).abs().max(1.0), "{x}: {a:?} {b:?}");
            assert!((f64::from(a.1) - b.1).abs() < 1e-6, "{x}: {a:?} {b:?}");
        }
    }

    #[test]
    fn derivatives_are_slopes() {
        for i in -40..40 {
            let (x, h) = (f64::from(i) * 0.2, 1e-5);
            let slope = ((x + h).gelu().0 - (x - h).gelu().0) / (2.0 * h);
            assert!((slope - x.gelu().1).abs() < 1e-9, "{x}");
            let slope = ((x + h).silu().0 - (x - h).silu().0) / (2.0 * h);
            assert!((slope - x.silu().1).abs() < 1e-9, "{x}");
        }
    }
}
