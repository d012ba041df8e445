//! Operations on tensors in f64, row-major, for Kronecker-structured operators: products of a matrix with one mode
//! (Kolda and Bader 2009, section 2.5), division by a sum of eigenvalues, and the vector operations of GMRES. Together
//! they keep an iteration on the device.
//!
//! A mode of a tensor is given as `[outer, n, inner]`: the product of the extents before it, its own, and those after.

mod cpu;
mod cuda;
mod matrix;
mod parity;
#[cfg(test)]
mod tests;

use crate::{Buffer, Device, KernelError, Result};
use cuda::Map;
pub use matrix::Matrix;
pub use parity::Parity;
use std::ops::Range;

/// `[outer, n, inner]`
type Shape = (usize, usize, usize);

/// y = A ×ₖ x, or y += A ×ₖ x: `x` is `[outer, A.cols, inner]`, `y` is `[outer, A.rows, inner]`.
///
/// # Errors
/// Where the lengths disagree, or the device fails.
pub fn mode_product(
    device: &Device,
    a: &mut Matrix,
    (outer, inner): (usize, usize),
    x: &mut Buffer<f64>,
    y: &mut Buffer<f64>,
    accumulate: bool,
) -> Result<()> {
    expect("x", x.len(), outer * a.cols * inner)?;
    expect("y", y.len(), outer * a.rows * inner)?;
    if let Device::Gpu(gpu) = device {
        return cuda::mode_product(gpu, a, (outer, inner), x, y, accumulate);
    }
    let out = if accumulate { y.host_mut() } else { y.host_out() };
    match &a.split {
        Some(split) if split.pays() => split.product(inner, x.host(), out, accumulate),
        _ => cpu::mode_product(a.values.host(), (a.rows, a.cols), inner, x.host(), out, accumulate),
    }
    Ok(())
}

/// `x[i, j, k, …] /= shift + λ₁[i] + λ₂[j] + λ₃[k] + …`
///
/// # Errors
/// Where the lengths disagree, or the device fails.
pub fn divide_by_sum(device: &Device, lambdas: &[&[f64]], shift: f64, x: &mut Buffer<f64>) -> Result<()> {
    expect("x", x.len(), lambdas.iter().map(|l| l.len()).product())?;
    match device {
        _ if x.is_empty() => {}
        Device::Gpu(gpu) => return cuda::divide_by_sum(gpu, lambdas, shift, x),
        Device::Cpu => cpu::divide_by_sum(lambdas, shift, x.host_mut()),
    }
    Ok(())
}

/// The inner products of `y` with each of `xs`, in one pass.
///
/// # Errors
/// Where the lengths disagree, or the device fails.
pub fn dots(device: &Device, xs: &mut [Buffer<f64>], y: &mut Buffer<f64>) -> Result<Vec<f64>> {
    for x in xs.iter() {
        expect("x", x.len(), y.len())?;
    }
    match device {
        _ if xs.is_empty() || y.is_empty() => Ok(vec![0.0; xs.len()]),
        Device::Gpu(gpu) => cuda::dots(gpu, cuda::addresses(gpu, xs)?, y.device_in(gpu)?, y.len()),
        Device::Cpu => {
            let xs: Vec<&[f64]> = xs.iter_mut().map(|x| x.host()).collect();
            Ok(cpu::dots(&xs, y.host()))
        }
    }
}

/// The inner product of `x` with itself.
///
/// # Errors
/// Where the device fails.
pub fn norm_squared(device: &Device, x: &mut Buffer<f64>) -> Result<f64> {
    let sums = match device {
        _ if x.is_empty() => return Ok(0.0),
        Device::Gpu(gpu) => {
            let address = x.device_in(gpu)?;
            cuda::dots(gpu, vec![address], address, x.len())?
        }
        Device::Cpu => {
            let x = x.host();
            cpu::dots(&[x], x)
        }
    };
    Ok(sums[0])
}

/// y += Σ cᵢ xᵢ, in one pass.
///
/// # Errors
/// Where the lengths disagree, or the device fails.
pub fn add_combination(device: &Device, c: &[f64], xs: &mut [Buffer<f64>], y: &mut Buffer<f64>) -> Result<()> {
    expect("c", c.len(), xs.len())?;
    for x in xs.iter() {
        expect("x", x.len(), y.len())?;
    }
    match device {
        _ if xs.is_empty() || y.is_empty() => {}
        Device::Gpu(gpu) => return cuda::add_combination(gpu, c, xs, y),
        Device::Cpu => {
            let xs: Vec<&[f64]> = xs.iter_mut().map(|x| x.host()).collect();
            cpu::add_combination(c, &xs, y.host_mut());
        }
    }
    Ok(())
}

/// x *= factor
///
/// # Errors
/// Where the device fails.
pub fn scale(device: &Device, factor: f64, x: &mut Buffer<f64>) -> Result<()> {
    match device {
        Device::Gpu(gpu) => return cuda::map(gpu, Map::ScaleBy, factor, (None, None), x),
        Device::Cpu => cpu::scale(factor, x.host_mut()),
    }
    Ok(())
}

/// y *= q, element by element.
///
/// # Errors
/// Where the lengths disagree, or the device fails.
pub fn multiply(device: &Device, q: &mut Buffer<f64>, y: &mut Buffer<f64>) -> Result<()> {
    expect("q", q.len(), y.len())?;
    match device {
        Device::Gpu(gpu) => return cuda::map(gpu, Map::MultiplyBy, 0.0, (Some(q), None), y),
        Device::Cpu => cpu::multiply(q.host(), y.host_mut()),
    }
    Ok(())
}

/// y += q v, element by element.
///
/// # Errors
/// Where the lengths disagree, or the device fails.
pub fn add_product(device: &Device, q: &mut Buffer<f64>, v: &mut Buffer<f64>, y: &mut Buffer<f64>) -> Result<()> {
    expect("q", q.len(), y.len())?;
    expect("v", v.len(), y.len())?;
    match device {
        Device::Gpu(gpu) => return cuda::map(gpu, Map::AddProduct, 0.0, (Some(q), Some(v)), y),
        Device::Cpu => cpu::add_product(q.host(), v.host(), y.host_mut()),
    }
    Ok(())
}

/// Parts of the middle mode of `x`, `[outer, n, inner]`, to `packed`: `[outer, part, inner]` one after another, as an
/// all-to-all sends them. One range cuts a piece out; the blocks of 0 to n rearrange all.
///
/// # Errors
/// Where the lengths disagree or a range goes beyond n, or the device fails.
pub fn pack(
    device: &Device,
    shape: (usize, usize, usize),
    parts: &[Range<usize>],
    x: &mut Buffer<f64>,
    packed: &mut Buffer<f64>,
) -> Result<()> {
    check_parts(shape, parts, x.len(), packed.len())?;
    match device {
        Device::Gpu(gpu) => {
            let (x, packed) = (x.device_in(gpu)?, packed.device_out(gpu)?);
            return cuda::copy_parts(gpu, shape, parts, x, packed, false);
        }
        Device::Cpu => cpu::pack(shape, parts, x.host(), packed.host_out()),
    }
    Ok(())
}

/// The way back of [`pack`]: entries of `x` that are in none of the parts stay as they are.
///
/// # Errors
/// Where the lengths disagree or a range goes beyond n, or the device fails.
pub fn unpack(
    device: &Device,
    shape: (usize, usize, usize),
    parts: &[Range<usize>],
    packed: &mut Buffer<f64>,
    x: &mut Buffer<f64>,
) -> Result<()> {
    check_parts(shape, parts, x.len(), packed.len())?;
    // What is overwritten in full need not be brought to the device first.
    let mut covered = 0;
    parts.iter().filter(|p| !p.is_empty()).for_each(|p| {
        if p.start == covered {
            covered = p.end
        }
    });
    let all = covered == shape.1;
    match device {
        Device::Gpu(gpu) => {
            let packed = packed.device_in(gpu)?;
            let x = if all { x.device_out(gpu)? } else { x.device_inout(gpu)? };
            return cuda::copy_parts(gpu, shape, parts, x, packed, true);
        }
        Device::Cpu => cpu::unpack(shape, parts, packed.host(), if all { x.host_out() } else { x.host_mut() }),
    }
    Ok(())
}

fn check_parts((outer, n, inner): Shape, parts: &[Range<usize>], whole: usize, packed: usize) -> Result<()> {
    expect("x [outer, n, inner]", whole, outer * n * inner)?;
    for part in parts {
        if part.start > part.end || part.end > n {
            return Err(KernelError::Index { what: "end of a part", index: part.end.max(part.start), bound: n + 1 });
        }
    }
    expect(
        "packed [outer, part, inner]",
        packed,
        outer * inner * parts.iter().map(ExactSizeIterator::len).sum::<usize>(),
    )
}

fn expect(what: &'static str, got: usize, expected: usize) -> Result<()> {
    if got == expected { Ok(()) } else { Err(KernelError::Shape { what, expected, got }) }
}
