//! The same basis on a GPU: products of matrices there, what has a block's few survivors here.
//!
//! Column-major on the host is row-major on the device: a basis of m × k is a matrix `[k, m]`, features of n candidates, n × m, are a
//! tensor `[m, n]`.

use std::ops::Range;
use std::slice::from_ref;

use convoke_cluster::Comm;
use convoke_kernels::determinantal::{gather, squared_lengths};
use convoke_kernels::kronecker::{Matrix, mode_product, pack, unpack};
use convoke_kernels::{Buffer, Device, KernelError};
use faer::linalg::triangular_solve::solve_upper_triangular_in_place;
use faer::{Mat, MatRef, Par};

use super::Bases;
use super::span::{Span, Tested, orthonormal, rows_of};
use crate::dpp::error::DesignError;
use crate::dpp::qr::factorise;

/// A basis on a device.
#[derive(Debug)]
pub(super) struct OnDevice {
    device: Device,
    m: usize,
    count: usize,
    /// Of the span, `[count, m]`, or of its complement, `[m − count, m]`.
    basis: Matrix,
    complement: bool,
    flops: f64,
}

type Made<T> = Result<T, DesignError>;

/// Column-major entries.
fn columns(a: MatRef<'_, f64>) -> Vec<f64> {
    a.col_iter().flat_map(|column| column.iter().copied().collect::<Vec<_>>()).collect()
}

impl OnDevice {
    /// Of nothing in m dimensions.
    pub(super) fn new(m: usize, device: &Device) -> Made<Self> {
        let basis = Matrix::new(device, 0, m, Vec::new())?;
        Ok(Self { device: device.clone(), m, count: 0, basis, complement: false, flops: 0.0 })
    }

    fn buffer(&self, values: Vec<f64>) -> Result<Buffer<f64>, KernelError> {
        Buffer::from_vec(&self.device, values)
    }

    /// Coordinates of the rows of `f` (n × m): `[columns of the basis, n]`.
    fn coordinates(&mut self, f: MatRef<'_, f64>) -> Made<Buffer<f64>> {
        let (n, k) = (f.nrows(), self.basis.rows());
        let mut f = self.buffer(columns(f))?;
        let mut c = Buffer::zeros(&self.device, k * n)?;
        mode_product(&self.device, &mut self.basis, (1, n), &mut f, &mut c, false)?;
        self.flops += 2.0 * (n * k * self.m) as f64;
        Ok(c)
    }

    /// r += a B for `r` `[rows, m]` and `a` `[rows, columns of the basis]`.
    fn add_combination(&mut self, rows: usize, a: Vec<f64>, r: &mut Buffer<f64>) -> Made<()> {
        let mut a = Matrix::new(&self.device, rows, self.basis.rows(), a)?;
        mode_product(&self.device, &mut a, (1, self.m), self.basis.buffer(), r, true)?;
        Ok(())
    }

    /// Two Gram–Schmidt projections, then an orthonormal basis of what is left of the points.
    fn lengthen(&mut self, features: MatRef<'_, f64>, c: MatRef<'_, f64>) -> Made<()> {
        let (m, k, old) = (self.m, features.ncols(), self.basis.rows());
        let mut r = self.buffer(columns(features))?;
        if old > 0 {
            self.add_combination(k, columns(c).iter().map(|c| -c).collect(), &mut r)?;
            let mut again = Buffer::zeros(&self.device, k * old)?;
            mode_product(&self.device, &mut self.basis, (k, 1), &mut r, &mut again, false)?;
            let again = again.host().iter().map(|c| -c).collect();
            self.add_combination(k, again, &mut r)?;
        }
        let rest = MatRef::from_column_major_slice(r.host(), m, k).to_owned();
        let new = orthonormal(rest, &Comm::solo(), Par::Seq)?;
        let mut longer = Buffer::zeros(&self.device, (old + k) * m)?;
        let shape = (1, old + k, m);
        unpack(&self.device, shape, from_ref(&(0..old)), self.basis.buffer(), &mut longer)?;
        unpack(&self.device, shape, from_ref(&(old..old + k)), &mut self.buffer(columns(new.as_ref()))?, &mut longer)?;
        self.basis = Matrix::of(old + k, m, longer)?;
        self.flops += 6.0 * (m * old * k) as f64 + 6.0 * (m * k * k) as f64;
        Ok(())
    }

    /// Zᵀ ← (Hᵀ Zᵀ)[k:] with H = I − V T Vᵀ of c = H R; T from its inverse, which is VᵀV above the diagonal and half of it on the
    /// diagonal.
    fn cut(&mut self, mut c: Mat<f64>) -> Made<()> {
        let (m, left, k) = (self.m, c.nrows(), c.ncols());
        factorise(c.as_mut(), Par::Seq);
        let v = Mat::from_fn(left, k, |i, j| if i > j { c[(i, j)] } else { f64::from(u8::from(i == j)) });
        let gram = v.transpose() * &v;
        let mut t = Mat::<f64>::identity(k, k);
        let inverse = Mat::from_fn(k, k, |i, j| {
            if i < j {
                gram[(i, j)]
            } else if i == j {
                0.5 * gram[(i, i)]
            } else {
                0.0
            }
        });
        solve_upper_triangular_in_place(inverse.as_ref(), t.as_mut(), Par::Seq);
        let mut transposed = Matrix::new(&self.device, k, left, columns(v.as_ref()))?;
        let mut w = Buffer::zeros(&self.device, k * m)?;
        mode_product(&self.device, &mut transposed, (1, m), self.basis.buffer(), &mut w, false)?;
        // Rows of −V Tᵀ are columns of −T Vᵀ.
        let factor = -(&t * v.transpose());
        let mut factor = Matrix::new(&self.device, left, k, columns(factor.as_ref()))?;
        mode_product(&self.device, &mut factor, (1, m), &mut w, self.basis.buffer(), true)?;
        let mut shorter = Buffer::zeros(&self.device, (left - k) * m)?;
        pack(&self.device, (1, left, m), from_ref(&(k..left)), self.basis.buffer(), &mut shorter)?;
        self.basis = Matrix::of(left - k, m, shorter)?;
        self.flops += 4.0 * (m * left * k) as f64 + 2.0 * (left * k * k) as f64;
        Ok(())
    }
}

impl Bases for OnDevice {
    fn functions(&self) -> usize {
        self.m
    }

    fn mine(&self) -> Range<usize> {
        0..self.m
    }

    fn flops(&self) -> f64 {
        self.flops
    }

    fn test(&mut self, f: MatRef<'_, f64>, uniform: &dyn Fn(usize) -> f64, _comm: &Comm) -> Made<Tested> {
        let (n, k) = (f.nrows(), self.basis.rows());
        let mut c = self.coordinates(f)?;
        let lengths = squared_lengths(&self.device, n, &mut c)?;
        let s = |b: usize| if self.complement { lengths[b] } else { 1.0 - lengths[b] };
        let survivors: Vec<usize> = (0..n).filter(|b| uniform(*b) < s(*b)).collect();
        let chosen = gather(&self.device, n, &survivors, &mut c)?;
        let coordinates = MatRef::from_column_major_slice(&chosen, k, survivors.len()).to_owned();
        let mut gram = coordinates.transpose() * &coordinates;
        if !self.complement {
            let features = rows_of(f, &survivors);
            gram = features.transpose() * &features - gram;
        }
        let count = survivors.len();
        self.flops += 2.0 * (n * k + count * count * (k + self.m)) as f64;
        Ok(Tested { survivors, gram, coordinates })
    }

    fn add(&mut self, features: Mat<f64>, c: Mat<f64>, _comm: &Comm) -> Made<()> {
        let k = features.ncols();
        self.count += k;
        match (k, self.complement) {
            (0, _) => Ok(()),
            (_, true) => self.cut(c),
            (_, false) => self.lengthen(features.as_ref(), c.as_ref()),
        }
    }

    fn extend(&mut self, f: MatRef<'_, f64>, comm: &Comm) -> Made<()> {
        let mut c = self.coordinates(f)?;
        let c = MatRef::from_row_major_slice(c.host(), self.basis.rows(), f.nrows()).to_owned();
        self.add(f.transpose().to_owned(), c, comm)
    }

    fn shorten(&mut self, _comm: &Comm) -> Made<()> {
        if self.complement || 2 * self.count <= self.m {
            return Ok(());
        }
        let q = MatRef::from_column_major_slice(self.basis.values(), self.m, self.count);
        let (z, flops) = Span::complement(q, Par::Seq)?;
        self.basis = Matrix::new(&self.device, z.ncols(), self.m, columns(z.as_ref()))?;
        self.complement = true;
        self.flops += flops;
        Ok(())
    }
}
