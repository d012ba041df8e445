//! Matrices of modes as a Tucker product (Kossaifi et al., "Multi-Grid Tensorized Fourier Neural Operator", 2023):
//! W_{i o k₁ … k_d} = Σ core_{a b c₁ … c_d} U⁰_{i a} U¹_{o b} U²_{k₁ c₁} …, all complex.
//!
//! The tensor is made before it is used; then its gradient becomes that of core and factors. Both cost little beside the products with a
//! batch of coefficients.

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use num_complex::Complex;

use crate::learning::parameters::Parts;
use crate::learning::real::Real;

/// The sizes of one: axes are input channels, output channels, modes of each axis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tucker {
    /// Extent of each axis of the tensor.
    pub extents: Vec<usize>,
    /// Extent of each axis of the core.
    pub ranks: Vec<usize>,
}

/// `x`, of the shape `shape`, times a matrix `[n, r]` along `axis`: its adjoint where `back`.
fn along<T: Real>(
    x: &[Complex<T>],
    shape: &mut [usize],
    axis: usize,
    (matrix, back): (&[Complex<T>], bool),
) -> Vec<Complex<T>> {
    let r = shape[axis];
    let n = matrix.len() / r;
    let after: usize = shape[axis + 1..].iter().product();
    let (rows, columns) = if back { (r, n) } else { (n, r) };
    let matrix = MatRef::from_row_major_slice(matrix, rows, columns);
    let mut out = vec![Complex::new(T::of(0.0), T::of(0.0)); x.len() / r * n];
    for (out, x) in out.chunks_mut(n * after).zip(x.chunks(r * after)) {
        let (out, x) = (MatMut::from_row_major_slice_mut(out, n, after), MatRef::from_row_major_slice(x, r, after));
        let one = Complex::new(T::of(1.0), T::of(0.0));
        if back {
            matmul(out, Accum::Replace, matrix.adjoint(), x, one, Par::Seq);
        } else {
            matmul(out, Accum::Replace, matrix, x, one, Par::Seq);
        }
    }
    shape[axis] = n;
    out
}

impl Tucker {
    /// Adds core and factors, `[…, re | im]`, with first values that give the tensor the mean square of the reference's.
    pub fn add(&self, parts: &mut Parts, name: &str) {
        let (terms, tensors) = (self.ranks.iter().product::<usize>() as f64, self.ranks.len() as f64 + 1.0);
        let channels = (self.extents[0] * self.extents[1]) as f64;
        // Real and imaginary parts uniform on [0, 1/channels): 2/(3 channels²). A product of independent complex numbers has the
        // product of their mean squares.
        let square = (2.0 / (3.0 * channels * channels) / terms).powf(1.0 / tensors);
        let most = (1.5 * square).sqrt();
        parts.add(format!("{name}.core"), &[&self.ranks[..], &[2]].concat(), [-most, most]);
        for (axis, (n, r)) in self.extents.iter().zip(&self.ranks).enumerate() {
            parts.add(format!("{name}.factor.{axis}"), &[*n, *r, 2], [-most, most]);
        }
    }

    fn complex<'p, T: Real>(&self, parts: &Parts, parameters: &'p [T], name: &str) -> [Vec<&'p [Complex<T>]>; 2] {
        let of = |name: String| bytemuck::cast_slice::<T, Complex<T>>(parts.of(parameters, &name));
        let factors = (0..self.ranks.len()).map(|axis| of(format!("{name}.factor.{axis}"))).collect();
        [vec![of(format!("{name}.core"))], factors]
    }

    /// The tensor as matrices of modes, `[mode, re | im, from, to]`.
    pub fn matrices<T: Real>(&self, parts: &Parts, parameters: &[T], name: &str) -> Vec<T> {
        let [core, factors] = self.complex(parts, parameters, name);
        let tensor = self.product(core[0], &factors, None);
        let size = self.extents[0] * self.extents[1];
        let modes = tensor.len() / size;
        let mut all = vec![T::default(); 2 * tensor.len()];
        for (pair, line) in tensor.chunks(modes).enumerate() {
            for (mode, value) in line.iter().enumerate() {
                all[2 * mode * size + pair] = value.re;
                all[(2 * mode + 1) * size + pair] = value.im;
            }
        }
        all
    }

    /// The core times all factors, but that of one axis.
    fn product<T: Real>(&self, core: &[Complex<T>], factors: &[&[Complex<T>]], but: Option<usize>) -> Vec<Complex<T>> {
        let (mut x, mut shape) = (core.to_vec(), self.ranks.clone());
        for (axis, factor) in factors.iter().enumerate().filter(|(axis, _)| Some(*axis) != but) {
            x = along(&x, &mut shape, axis, (factor, false));
        }
        x
    }

    /// Adds to `gradient` what the derivatives `dw` by [`Tucker::matrices`] are for core and factors; real and imaginary parts are numbers of
    /// their own.
    pub fn backward<T: Real>(&self, parts: &Parts, parameters: &[T], name: &str, (dw, gradient): (&[T], &mut [T])) {
        let [core, factors] = self.complex(parts, parameters, name);
        let size = self.extents[0] * self.extents[1];
        let modes = dw.len() / (2 * size);
        let number = |i: usize| {
            let (pair, mode) = (i / modes, i % modes);
            Complex::new(dw[2 * mode * size + pair], dw[(2 * mode + 1) * size + pair])
        };
        let g: Vec<Complex<T>> = (0..size * modes).map(number).collect();
        let add = |to: &mut [T], from: &[Complex<T>]| {
            to.iter_mut().zip(bytemuck::cast_slice::<_, T>(from)).for_each(|(to, v)| *to += *v);
        };
        for axis in 0..self.ranks.len() {
            let x = self.product(core[0], &factors, Some(axis));
            let (n, r) = (self.extents[axis], self.ranks[axis]);
            let after: usize = self.extents[axis + 1..].iter().product();
            let mut sum = vec![Complex::new(T::of(0.0), T::of(0.0)); n * r];
            for (g, x) in g.chunks(n * after).zip(x.chunks(r * after)) {
                let (g, x) = (MatRef::from_row_major_slice(g, n, after), MatRef::from_row_major_slice(x, r, after));
                let (out, one) =
                    (MatMut::from_row_major_slice_mut(&mut sum, n, r), Complex::new(T::of(1.0), T::of(0.0)));
                matmul(out, Accum::Add, g, x.adjoint(), one, Par::Seq);
            }
            add(&mut gradient[parts.range(&format!("{name}.factor.{axis}"))], &sum);
        }
        let (mut back, mut shape) = (g, self.extents.clone());
        for (axis, factor) in factors.iter().enumerate() {
            back = along(&back, &mut shape, axis, (factor, true));
        }
        add(&mut gradient[parts.range(&format!("{name}.core"))], &back);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each entry is the sum over all entries of the core.
    #[test]
    fn matrices_are_the_sums_over_the_core() {
        let tucker = Tucker { extents: vec![3, 2, 4, 5], ranks: vec![2, 2, 3, 1] };
        let mut parts = Parts::default();
        tucker.add(&mut parts, "w");
        let parameters: Vec<f64> = parts.initial(4);
        let found = tucker.matrices(&parts, &parameters, "w");
        let complex = |name: &str, i: usize| {
            let values = parts.of(&parameters, name);
            Complex::new(values[2 * i], values[2 * i + 1])
        };
        for (i, o, x, y) in (0..120).map(|f| (f / 40, f / 20 % 2, f / 5 % 4, f % 5)) {
            let mut sum = Complex::new(0.0, 0.0);
            for (a, b, c) in (0..12).map(|f| (f / 6, f / 3 % 2, f % 3)) {
                sum += complex("w.core", (a * 2 + b) * 3 + c)
                    * complex("w.factor.0", i * 2 + a)
                    * complex("w.factor.1", o * 2 + b)
                    * complex("w.factor.2", x * 3 + c)
                    * complex("w.factor.3", y);
            }
            let (mode, pair) = (x * 5 + y, i * 2 + o);
            assert!((found[2 * mode * 6 + pair] - sum.re).abs() < 1e-15);
            assert!((found[(2 * mode + 1) * 6 + pair] - sum.im).abs() < 1e-15);
        }
    }
}
