//! √W A M: an operator with the weights of its measurements, on the voxels of a mask.
//!
//! With inverse variances as weights its least squares are the likelihood's (penalised weighted least squares; Sauer and Bouman, IEEE Trans. Signal
//! Process. 41 (1993) 534), and Σ of its squared residuals is the number of measurements where the model is right.

use convoke_cluster::{Fields, Result};
use convoke_kernels::{Buffer, Device, Slices};
use rayon::prelude::*;

use super::place::Place;
use super::{Operator, vectors};

/// Another operator, weighted and masked.
#[derive(Debug)]
pub struct Weighted {
    inner: Box<dyn Operator>,
    /// √W, as the measurements.
    roots: Option<Buffer<f32>>,
    /// 1 or 0, one slice.
    mask: Option<Buffer<f32>>,
}

impl Weighted {
    /// `roots` are the square roots of the weights, one for each measured value that is here; `mask` is one slice of ones and zeros.
    ///
    /// # Errors
    /// Where the device has no room.
    pub fn new(inner: Box<dyn Operator>, roots: Option<Buffer<f32>>, mask: Option<Vec<f32>>) -> Result<Self> {
        let mask = mask.map(|mask| Buffer::from_vec(inner.device(), mask)).transpose()?;
        Ok(Self { inner, roots, mask })
    }

    fn weigh(&mut self, q: &mut Buffer<f32>) -> Result<()> {
        let Some(roots) = &mut self.roots else { return Ok(()) };
        if self.inner.is_on_gpu() && !q.is_empty() {
            return Ok(Slices::new(self.inner.device(), 1)?.multiply(roots, q)?);
        }
        vectors::zip(q.host_mut(), roots.host(), |q, w| *q *= w);
        Ok(())
    }

    fn cut(&mut self, v: &mut Buffer<f32>) -> Result<()> {
        let Some(mask) = &mut self.mask else { return Ok(()) };
        if self.inner.is_on_gpu() && !v.is_empty() {
            let slices = v.len() / mask.len();
            return Ok(Slices::new(self.inner.device(), slices)?.multiply(mask, v)?);
        }
        let mask = mask.host();
        let slices = v.host_mut().par_chunks_mut(mask.len());
        slices.for_each(|slice| slice.iter_mut().zip(mask).for_each(|(v, m)| *v *= m));
        Ok(())
    }
}

impl Operator for Weighted {
    fn place(&self) -> &Place {
        self.inner.place()
    }

    fn measured_len(&self) -> usize {
        self.inner.measured_len()
    }

    fn forward(&mut self, v: &mut Buffer<f32>, q: &mut Buffer<f32>) -> Result<()> {
        self.cut(v)?;
        self.inner.forward(v, q)?;
        self.weigh(q)
    }

    fn back(&mut self, q: &mut Buffer<f32>, v: &mut Buffer<f32>) -> Result<()> {
        self.weigh(q)?;
        self.inner.back(q, v)?;
        self.cut(v)
    }

    fn dot(&self, a: &[f32], b: &[f32]) -> Result<f64> {
        self.inner.dot(a, b)
    }

    fn norm2(&self, a: &mut Buffer<f32>) -> Result<f64> {
        self.inner.norm2(a)
    }

    fn keep<'a>(&self, name: &str, q: &'a mut Buffer<f32>, fields: &mut Fields<'a>) {
        self.inner.keep(name, q, fields);
    }

    fn restored(&self, q: &mut Buffer<f32>) -> Result<()> {
        self.inner.restored(q)
    }

    fn device(&self) -> &Device {
        self.inner.device()
    }

    fn zeros(&self, len: usize) -> Result<Buffer<f32>> {
        self.inner.zeros(len)
    }

    fn is_on_gpu(&self) -> bool {
        self.inner.is_on_gpu()
    }
}
