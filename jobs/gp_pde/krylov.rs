//! GMRES (Saad and Schultz 1986) over ranks, with classical Gram-Schmidt done twice: two reductions an iteration.

use convoke_cluster::{Comm, Result};
use convoke_kernels::kronecker::{add_combination, dots};
use convoke_kernels::{Buffer, Device};

/// Iterations between restarts.
const RESTART: usize = 60;
/// Restarts before the best so far is returned.
const RESTARTS: usize = 4;

/// A linear operator on coefficients that are spread over ranks.
pub trait Krylov {
    /// The operator applied to `v`.
    ///
    /// # Errors
    /// Where the device or another rank fails.
    fn apply(&mut self, v: &mut Buffer<f64>) -> Result<Buffer<f64>>;
    /// The ranks.
    fn comm(&self) -> &Comm;
    /// Where vectors are.
    fn device(&self) -> &Device;
}

/// Solves `A x = b` from zero until the residual is `tolerance` of `b`'s norm; `x` and the number of iterations.
/// Collective.
///
/// # Errors
/// Where the device or another rank fails.
pub fn gmres(system: &mut impl Krylov, b: &mut Buffer<f64>, tolerance: f64) -> Result<(Buffer<f64>, usize)> {
    let device = system.device().clone();
    let mut x = Buffer::zeros(&device, b.len())?;
    let target = tolerance * norm(system, b)?;
    let mut iterations = 0;
    for restart in 0..RESTARTS {
        let mut r = b.duplicate()?;
        if restart > 0 {
            let mut image = system.apply(&mut x)?;
            add_combination(&device, &[-1.0], std::slice::from_mut(&mut image), &mut r)?;
        }
        let beta = norm(system, &mut r)?;
        if beta <= target || beta == 0.0 {
            break;
        }
        scale(&mut r, 1.0 / beta);
        let mut basis = vec![r];
        let mut columns: Vec<Vec<f64>> = Vec::new();
        let mut rotations: Vec<(f64, f64)> = Vec::new();
        let mut rhs = vec![beta];
        while columns.len() < RESTART && rhs[columns.len()].abs() > target {
            let last = basis.len() - 1;
            let mut w = system.apply(&mut basis[last])?;
            let mut column = vec![0.0; basis.len()];
            for _ in 0..2 {
                let mut h = dots(&device, &mut basis, &mut w)?;
                system.comm().all_sum(&mut h)?;
                let minus: Vec<f64> = h.iter().map(|h| -h).collect();
                add_combination(&device, &minus, &mut basis, &mut w)?;
                column.iter_mut().zip(&h).for_each(|(sum, h)| *sum += h);
            }
            let below = norm(system, &mut w)?;
            for (i, (c, s)) in rotations.iter().enumerate() {
                (column[i], column[i + 1]) = (c * column[i] + s * column[i + 1], c * column[i + 1] - s * column[i]);
            }
            let length = column[last].hypot(below);
            if length == 0.0 {
                break;
            }
            let (c, s) = (column[last] / length, below / length);
            rotations.push((c, s));
            column[last] = length;
            columns.push(column);
            let g = rhs[last];
            rhs[last] = c * g;
            rhs.push(-s * g);
            iterations += 1;
            if below <= f64::EPSILON * length {
                break;
            }
            scale(&mut w, 1.0 / below);
            basis.push(w);
        }
        let mut y = vec![0.0; columns.len()];
        for i in (0..columns.len()).rev() {
            let known: f64 = (i + 1..columns.len()).map(|j| columns[j][i] * y[j]).sum();
            y[i] = (rhs[i] - known) / columns[i][i];
        }
        let n = columns.len();
        add_combination(&device, &y, &mut basis[..n], &mut x)?;
        if rhs.last().is_none_or(|r| r.abs() <= target) {
            break;
        }
    }
    Ok((x, iterations))
}

fn norm(system: &impl Krylov, x: &mut Buffer<f64>) -> Result<f64> {
    let mut copy = [x.duplicate()?];
    let mut sum = dots(system.device(), &mut copy, x)?;
    system.comm().all_sum(&mut sum)?;
    Ok(sum[0].sqrt())
}

fn scale(x: &mut Buffer<f64>, factor: f64) {
    x.host_mut().iter_mut().for_each(|x| *x *= factor);
}
