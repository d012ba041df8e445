//! Vector operations on arrays `[n_slices, len]`, with one coefficient per slice: the steps of the Krylov, SIRT and
//! MLEM iterations, which run on all slices at once but are independent slice by slice.
//!
//! Sums are in f64 over fixed blocks of one slice, so they depend neither on threads nor on how slices are grouped.

mod cpu;
mod cuda;

use crate::gpu::Gpu;
use crate::{Buffer, Device, KernelError, Result};
use cuda::{Coefficient, Op};

/// Operations on arrays of `n_slices` slices on one device. Lengths per slice are read off the arrays.
#[derive(Clone, Debug)]
pub struct Slices {
    device: Device,
    n_slices: usize,
}

type Array = Buffer<f32>;

impl Slices {
    /// Operations on `n_slices` slices (at least 1; 1 treats the whole array as one vector).
    pub fn new(device: &Device, n_slices: usize) -> Result<Self> {
        if n_slices == 0 {
            return Err(KernelError::Parameter { what: "n_slices", value: 0.0, rule: "at least 1" });
        }
        Ok(Self { device: device.clone(), n_slices })
    }

    /// Number of slices.
    pub fn n_slices(&self) -> usize {
        self.n_slices
    }

    /// y_s += alpha_s x_s
    pub fn axpy(&self, alpha: &[f64], x: &mut Array, y: &mut Array) -> Result<()> {
        self.check(&[x.len(), y.len()], Some(alpha))?;
        if let Some(gpu) = self.gpu() {
            return cuda::map(gpu, self.n_slices, Op::Axpy, Coefficient::PerSlice(alpha), (Some(x), None), y);
        }
        cpu::zip(self.n_slices, x.host(), y.host_mut(), |s, x, y| *y += alpha[s] as f32 * x);
        Ok(())
    }

    /// y_s = x_s + beta_s y_s
    pub fn xpby(&self, x: &mut Array, beta: &[f64], y: &mut Array) -> Result<()> {
        self.check(&[x.len(), y.len()], Some(beta))?;
        if let Some(gpu) = self.gpu() {
            return cuda::map(gpu, self.n_slices, Op::Xpby, Coefficient::PerSlice(beta), (Some(x), None), y);
        }
        cpu::zip(self.n_slices, x.host(), y.host_mut(), |s, x, y| *y = x + beta[s] as f32 * *y);
        Ok(())
    }

    /// y_s *= alpha_s
    pub fn scale(&self, alpha: &[f64], y: &mut Array) -> Result<()> {
        self.check(&[y.len()], Some(alpha))?;
        if let Some(gpu) = self.gpu() {
            return cuda::map(gpu, self.n_slices, Op::Scale, Coefficient::PerSlice(alpha), (None, None), y);
        }
        cpu::map(self.n_slices, y.host_mut(), |s, y| *y *= alpha[s] as f32);
        Ok(())
    }

    /// y = value
    pub fn fill(&self, value: f32, y: &mut Array) -> Result<()> {
        self.check(&[y.len()], None)?;
        if let Some(gpu) = self.gpu() {
            return cuda::map(gpu, self.n_slices, Op::Fill, Coefficient::All(value), (None, None), y);
        }
        cpu::map(self.n_slices, y.host_out(), |_, y| *y = value);
        Ok(())
    }

    /// y = x
    pub fn copy(&self, x: &mut Array, y: &mut Array) -> Result<()> {
        self.check(&[x.len(), y.len()], None)?;
        if let Some(gpu) = self.gpu() {
            return cuda::map(gpu, self.n_slices, Op::Copy, Coefficient::All(0.0), (Some(x), None), y);
        }
        cpu::zip(self.n_slices, x.host(), y.host_out(), |_, x, y| *y = x);
        Ok(())
    }

    /// y = max(y, min)
    pub fn clamp_min(&self, min: f32, y: &mut Array) -> Result<()> {
        self.check(&[y.len()], None)?;
        if let Some(gpu) = self.gpu() {
            return cuda::map(gpu, self.n_slices, Op::ClampMin, Coefficient::All(min), (None, None), y);
        }
        cpu::map(self.n_slices, y.host_mut(), |_, y| *y = y.max(min));
        Ok(())
    }

    /// y *= w, element by element; `w` is as long as `y`, or one slice that serves all.
    pub fn multiply(&self, w: &mut Array, y: &mut Array) -> Result<()> {
        let broadcast = self.is_broadcast(w, y)?;
        if let Some(gpu) = self.gpu() {
            return cuda::map(gpu, self.n_slices, Op::Multiply, Coefficient::All(0.0), (None, Some(w)), y);
        }
        cpu::zip_weight(self.n_slices, broadcast, w.host(), y.host_mut(), |w, y| *y *= w);
        Ok(())
    }

    /// out = a - b
    pub fn subtract(&self, a: &mut Array, b: &mut Array, out: &mut Array) -> Result<()> {
        self.check(&[a.len(), b.len(), out.len()], None)?;
        if let Some(gpu) = self.gpu() {
            return cuda::map(gpu, self.n_slices, Op::Subtract, Coefficient::All(0.0), (Some(a), Some(b)), out);
        }
        cpu::zip2(self.n_slices, a.host(), b.host(), out.host_out(), |a, b, out| *out = a - b);
        Ok(())
    }

    /// out = measured / modelled, 0 where `modelled` is below [`TINY`] (no ray, nothing to compare).
    pub fn ratio(&self, measured: &mut Array, modelled: &mut Array, out: &mut Array) -> Result<()> {
        self.check(&[measured.len(), modelled.len(), out.len()], None)?;
        if let Some(gpu) = self.gpu() {
            return cuda::map(
                gpu,
                self.n_slices,
                Op::Ratio,
                Coefficient::All(TINY),
                (Some(measured), Some(modelled)),
                out,
            );
        }
        cpu::zip2(self.n_slices, measured.host(), modelled.host(), out.host_out(), |a, b, out| {
            *out = if b < TINY { 0.0 } else { a / b }
        });
        Ok(())
    }

    /// sum x_s y_s, for each slice.
    pub fn dot(&self, x: &mut Array, y: &mut Array) -> Result<Vec<f64>> {
        self.check(&[x.len(), y.len()], None)?;
        if let Some(gpu) = self.gpu() {
            let len = x.len() / self.n_slices;
            return cuda::dot(gpu, self.n_slices, len, x.device_in(gpu)?, y.device_in(gpu)?);
        }
        Ok(cpu::dot(self.n_slices, x.host(), y.host()))
    }

    /// sum x_s^2, for each slice.
    pub fn norm2(&self, x: &mut Array) -> Result<Vec<f64>> {
        self.check(&[x.len()], None)?;
        if let Some(gpu) = self.gpu() {
            let address = x.device_in(gpu)?;
            return cuda::dot(gpu, self.n_slices, x.len() / self.n_slices, address, address);
        }
        let x = x.host();
        Ok(cpu::dot(self.n_slices, x, x))
    }

    fn gpu(&self) -> Option<&Gpu> {
        match &self.device {
            Device::Cpu => None,
            Device::Gpu(gpu) => Some(gpu),
        }
    }

    /// All lengths equal and a multiple of `n_slices`, one coefficient per slice.
    fn check(&self, lengths: &[usize], coefficients: Option<&[f64]>) -> Result<()> {
        let what = "array [n_slices, len]";
        if let Some(got) = lengths.iter().copied().find(|l| *l != lengths[0]) {
            return Err(KernelError::Shape { what, expected: lengths[0], got });
        }
        if !lengths[0].is_multiple_of(self.n_slices) {
            return Err(KernelError::NotAMultiple { what, unit: self.n_slices, got: lengths[0] });
        }
        match coefficients {
            Some(c) if c.len() != self.n_slices => {
                Err(KernelError::Shape { what: "coefficients, one per slice,", expected: self.n_slices, got: c.len() })
            }
            _ => Ok(()),
        }
    }

    fn is_broadcast(&self, w: &Array, y: &Array) -> Result<bool> {
        let broadcast = w.len() != y.len();
        self.check(&[y.len(), if broadcast { w.len() * self.n_slices } else { w.len() }], None)?;
        Ok(broadcast)
    }
}

/// Modelled data below this count as "no ray here" in [`Slices::ratio`].
pub const TINY: f32 = 1e-12;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Philox;

    fn random(device: &Device, len: usize, stream: u64) -> Array {
        let p = Philox::new(3, stream);
        Buffer::from_vec(device, (0..len as u64).map(|i| p.normal(i) as f32).collect()).unwrap()
    }

    #[test]
    fn operations_equal_their_formulas() {
        let d = Device::cpu();
        let ops = Slices::new(&d, 3).unwrap();
        let (n, alpha) = (3 * 1037, [0.5, -2.0, 3.0]);
        let (x0, y0) = (random(&d, n, 0).into_vec(), random(&d, n, 1).into_vec());
        let buffer = |v: &[f32]| Buffer::from_vec(&d, v.to_vec()).unwrap();
        let expect = |got: &mut Array, f: &dyn Fn(usize, f32, f32) -> f32| {
            for (i, v) in got.host().iter().enumerate() {
                assert_eq!(*v, f(i / 1037, x0[i], y0[i]), "element {i}");
            }
        };
        let mut x = buffer(&x0);
        let mut y = buffer(&y0);
        ops.axpy(&alpha, &mut x, &mut y).unwrap();
        expect(&mut y, &|s, x, y| y + alpha[s] as f32 * x);
        let mut y = buffer(&y0);
        ops.xpby(&mut x, &alpha, &mut y).unwrap();
        expect(&mut y, &|s, x, y| x + alpha[s] as f32 * y);
        let mut y = buffer(&y0);
        ops.scale(&alpha, &mut y).unwrap();
        expect(&mut y, &|s, _, y| y * alpha[s] as f32);
        ops.copy(&mut buffer(&y0), &mut y).unwrap();
        ops.clamp_min(-0.25, &mut y).unwrap();
        expect(&mut y, &|_, _, y| y.max(-0.25));
        let mut y = buffer(&y0);
        ops.multiply(&mut x, &mut y).unwrap();
        expect(&mut y, &|_, x, y| y * x);
        let mut y = buffer(&y0);
        ops.multiply(&mut buffer(&x0[..1037]), &mut y).unwrap();
        for (i, v) in y.host().iter().enumerate() {
            assert_eq!(*v, y0[i] * x0[i % 1037]);
        }
        let mut out = Buffer::zeros(&d, n).unwrap();
        ops.subtract(&mut x, &mut buffer(&y0), &mut out).unwrap();
        expect(&mut out, &|_, x, y| x - y);
        ops.ratio(&mut x, &mut buffer(&y0), &mut out).unwrap();
        expect(&mut out, &|_, x, y| if y < TINY { 0.0 } else { x / y });
        ops.fill(2.5, &mut out).unwrap();
        assert!(out.host().iter().all(|v| *v == 2.5));
    }

    #[test]
    fn dot_is_the_f64_sum_to_1e_12_and_bitwise_free_of_threads_and_grouping() {
        let d = Device::cpu();
        let len = 20_011;
        let (mut x, mut y) = (random(&d, 5 * len, 0), random(&d, 5 * len, 1));
        let all = Slices::new(&d, 5).unwrap().dot(&mut x, &mut y).unwrap();
        for threads in [1, 2, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            assert_eq!(pool.install(|| Slices::new(&d, 5).unwrap().dot(&mut x, &mut y).unwrap()), all);
        }
        let one = Slices::new(&d, 1).unwrap();
        for (s, expected) in all.iter().enumerate() {
            let part = |b: &mut Array| Buffer::from_vec(&d, b.host()[s * len..][..len].to_vec()).unwrap();
            let (mut xs, mut ys) = (part(&mut x), part(&mut y));
            assert_eq!(one.dot(&mut xs, &mut ys).unwrap()[0], *expected);
            let plain: f64 = xs.host().iter().zip(ys.host()).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            assert!((plain - expected).abs() < 1e-12 * len as f64);
        }
    }

    #[test]
    fn wrong_lengths_are_errors() {
        let d = Device::cpu();
        let ops = Slices::new(&d, 2).unwrap();
        let b = |n| Buffer::<f32>::zeros(&d, n).unwrap();
        assert!(Slices::new(&d, 0).is_err());
        assert!(ops.axpy(&[1.0, 2.0], &mut b(4), &mut b(6)).is_err());
        assert!(ops.axpy(&[1.0], &mut b(4), &mut b(4)).is_err());
        assert!(ops.scale(&[1.0, 1.0], &mut b(5)).is_err());
        assert!(ops.multiply(&mut b(3), &mut b(4)).is_err());
    }
}
