//! Operations on tensors in f64, row-major, for Kronecker-structured operators: products of a matrix with one mode
//! (Kolda and Bader 2009, section 2.5), division by a sum of eigenvalues, and the fused vector operations of GMRES.
//!
//! A mode of a tensor is given as `[outer, n, inner]`: the product of the extents before it, its own, and those after.

mod cpu;
#[cfg(test)]
mod tests;

use crate::{Buffer, Device, KernelError, Result};

/// A dense matrix, row-major, on a device.
#[derive(Debug)]
pub struct Matrix {
    rows: usize,
    cols: usize,
    values: Buffer<f64>,
}

impl Matrix {
    /// `rows × cols` numbers, row by row.
    ///
    /// # Errors
    /// Where the length is not `rows · cols`, or the device has no room.
    pub fn new(device: &Device, rows: usize, cols: usize, values: Vec<f64>) -> Result<Self> {
        expect("matrix", values.len(), rows * cols)?;
        Ok(Self { rows, cols, values: Buffer::from_vec(device, values)? })
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The entries, row by row.
    pub fn values(&mut self) -> &[f64] {
        self.values.host()
    }
}

/// y = A ×ₖ x, or y += A ×ₖ x: `x` is `[outer, A.cols, inner]`, `y` is `[outer, A.rows, inner]`.
///
/// # Errors
/// Where the lengths disagree, or the device fails.
pub fn mode_product(
    _device: &Device,
    a: &mut Matrix,
    (outer, inner): (usize, usize),
    x: &mut Buffer<f64>,
    y: &mut Buffer<f64>,
    accumulate: bool,
) -> Result<()> {
    expect("x", x.len(), outer * a.cols * inner)?;
    expect("y", y.len(), outer * a.rows * inner)?;
    let out = if accumulate { y.host_mut() } else { y.host_out() };
    cpu::mode_product(a.values.host(), (a.rows, a.cols), (outer, inner), x.host(), out, accumulate);
    Ok(())
}

/// `x[i, j, k, …] /= shift + λ₁[i] + λ₂[j] + λ₃[k] + …`
///
/// # Errors
/// Where the lengths disagree, or the device fails.
pub fn divide_by_sum(_device: &Device, lambdas: &[&[f64]], shift: f64, x: &mut Buffer<f64>) -> Result<()> {
    expect("x", x.len(), lambdas.iter().map(|l| l.len()).product())?;
    cpu::divide_by_sum(lambdas, shift, x.host_mut());
    Ok(())
}

/// The inner products of `y` with each of `xs`, in one pass.
///
/// # Errors
/// Where the lengths disagree, or the device fails.
pub fn dots(_device: &Device, xs: &mut [Buffer<f64>], y: &mut Buffer<f64>) -> Result<Vec<f64>> {
    for x in xs.iter() {
        expect("x", x.len(), y.len())?;
    }
    let xs: Vec<&[f64]> = xs.iter_mut().map(|x| x.host()).collect();
    Ok(cpu::dots(&xs, y.host()))
}

/// y += Σ cᵢ xᵢ, in one pass.
///
/// # Errors
/// Where the lengths disagree, or the device fails.
pub fn add_combination(_device: &Device, c: &[f64], xs: &mut [Buffer<f64>], y: &mut Buffer<f64>) -> Result<()> {
    expect("c", c.len(), xs.len())?;
    for x in xs.iter() {
        expect("x", x.len(), y.len())?;
    }
    let xs: Vec<&[f64]> = xs.iter_mut().map(|x| x.host()).collect();
    cpu::add_combination(c, &xs, y.host_mut());
    Ok(())
}

fn expect(what: &'static str, got: usize, expected: usize) -> Result<()> {
    if got == expected { Ok(()) } else { Err(KernelError::Shape { what, expected, got }) }
}
