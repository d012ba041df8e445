//! GMRES (Saad and Schultz 1986) over ranks, with classical Gram-Schmidt done twice: two reductions an iteration. The
//! second brings the norm along: what it takes off is known by Pythagoras.

use convoke_cluster::{Comm, Result};
use convoke_kernels::kronecker::{add_combination, dots, norm_squared, scale};
use convoke_kernels::{Buffer, Device};

/// Iterations between restarts: vectors that are kept. The job files need 2 to 18.
pub const RESTART: usize = 30;
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

/// What a solve took.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GmresInfo {
    /// Iterations of each cycle.
    pub cycles: Vec<usize>,
    /// Restarts, each with an application and a norm of its own.
    pub restarts: usize,
    /// Norms that did not come along with another reduction.
    pub norms: usize,
}

impl GmresInfo {
    /// One cycle of so many iterations.
    pub fn of(iterations: usize) -> Self {
        Self { cycles: vec![iterations], ..Self::default() }
    }

    /// Iterations of all cycles.
    pub fn iterations(&self) -> usize {
        self.cycles.iter().sum()
    }

    /// How often the operator was applied.
    pub fn applications(&self) -> usize {
        self.iterations() + self.restarts
    }

    /// Bytes that each of `ranks` sends in the reductions.
    pub fn reduction_bytes(&self, ranks: usize) -> u64 {
        // 1 for the norm at the start; j and j + 1 in iteration j of a cycle
        let dots: usize = self.cycles.iter().map(|c| c * (c + 2)).sum();
        8 * (1 + self.restarts + self.norms + dots) as u64 * (ranks as u64 - 1)
    }
}

/// Solves `A x = b` from zero until the residual is `tolerance` of `b`'s norm; `x` and what it took. Collective.
///
/// # Errors
/// Where the device or another rank fails.
pub fn gmres(system: &mut impl Krylov, b: &mut Buffer<f64>, tolerance: f64) -> Result<(Buffer<f64>, GmresInfo)> {
    let device = system.device().clone();
    let mut x = Buffer::zeros(&device, b.len())?;
    let size = norm(system, b)?;
    let target = tolerance * size;
    let mut info = GmresInfo::default();
    for restart in 0..RESTARTS {
        let mut r = b.duplicate()?;
        if restart > 0 {
            let mut image = system.apply(&mut x)?;
            add_combination(&device, &[-1.0], std::slice::from_mut(&mut image), &mut r)?;
            info.restarts += 1;
        }
        let beta = if restart > 0 { norm(system, &mut r)? } else { size };
        if beta <= target || beta == 0.0 {
            break;
        }
        scale(&device, 1.0 / beta, &mut r)?;
        let mut basis = vec![r];
        let mut columns: Vec<Vec<f64>> = Vec::new();
        let mut rotations: Vec<(f64, f64)> = Vec::new();
        let mut rhs = vec![beta];
        let mut cycle = 0;
        while columns.len() < RESTART && rhs[columns.len()].abs() > target {
            let last = basis.len() - 1;
            let mut w = system.apply(&mut basis[last])?;
            let mut column = vec![0.0; basis.len()];
            project(system, &mut basis, &mut w, &mut column, None)?;
            let below = project(system, &mut basis, &mut w, &mut column, Some(&mut info.norms))?;
            cycle += 1;
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
            if below <= f64::EPSILON * length {
                break;
            }
            scale(&device, 1.0 / below, &mut w)?;
            basis.push(w);
        }
        info.cycles.push(cycle);
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
    Ok((x, info))
}

/// Takes off `w` what lies in the span of `basis` and adds its coordinates to `column`. The norm of what is left, if it is
/// asked for: one reduction more only where next to nothing is left, which is counted.
fn project(
    system: &impl Krylov,
    basis: &mut [Buffer<f64>],
    w: &mut Buffer<f64>,
    column: &mut [f64],
    norms: Option<&mut usize>,
) -> Result<f64> {
    let with_norm = norms.is_some();
    let device = system.device();
    let mut h = dots(device, basis, w)?;
    if with_norm {
        h.push(norm_squared(device, w)?);
    }
    system.comm().all_sum(&mut h)?;
    let before = if with_norm { h.pop().unwrap_or(0.0) } else { 0.0 };
    let minus: Vec<f64> = h.iter().map(|h| -h).collect();
    add_combination(device, &minus, basis, w)?;
    column.iter_mut().zip(&h).for_each(|(sum, h)| *sum += h);
    let taken: f64 = h.iter().map(|h| h * h).sum();
    match norms {
        None => Ok(0.0),
        Some(_) if taken <= 0.5 * before => Ok((before - taken).sqrt()),
        Some(norms) => {
            *norms += 1;
            norm(system, w)
        }
    }
}

fn norm(system: &impl Krylov, x: &mut Buffer<f64>) -> Result<f64> {
    let mut sum = [norm_squared(system.device(), x)?];
    system.comm().all_sum(&mut sum)?;
    Ok(sum[0].sqrt())
}

#[cfg(test)]
mod tests {
    use convoke_cluster::comm::run_threads;

    use super::*;

    /// `1 + ` a diagonal that falls fast, and a shift by one: not normal, on any number of ranks.
    struct Smoothing(Comm);

    const N: usize = 200;

    impl Krylov for Smoothing {
        fn apply(&mut self, v: &mut Buffer<f64>) -> Result<Buffer<f64>> {
            let all = self.0.share(v.host())?.concat();
            let here = self.0.block(N).map(|i| {
                let next = if i + 1 < N { 0.3 * all[i + 1] / (1 + i) as f64 } else { 0.0 };
                all[i] * (1.0 + 4.0 / ((1 + i) * (1 + i)) as f64) + next
            });
            Ok(Buffer::from_vec(&Device::cpu(), here.collect())?)
        }

        fn comm(&self) -> &Comm {
            &self.0
        }

        fn device(&self) -> &Device {
            const CPU: Device = Device::Cpu;
            &CPU
        }
    }

    /// The residual is what was asked for, the norm that comes along is as good as its own reduction would be, and the
    /// bytes are those of the formula.
    #[test]
    fn two_reductions_an_iteration_solve_to_rounding() {
        for ranks in [1, 2, 3, 5] {
            let results = run_threads(ranks, |comm| {
                let mut system = Smoothing(comm.clone());
                let host: Vec<f64> = comm.block(N).map(|i| (1.0 + i as f64).sqrt()).collect();
                let mut b = Buffer::from_vec(&Device::cpu(), host)?;
                let before = comm.traffic().bytes;
                system.apply(&mut b)?;
                let apply = comm.traffic().bytes - before;
                let (mut x, info) = gmres(&mut system, &mut b, 1e-13)?;
                let sent = comm.traffic().bytes - before - apply;
                assert_eq!(sent, info.reduction_bytes(ranks) + info.applications() as u64 * apply);
                let iterations = info.iterations();
                let mut r = system.apply(&mut x)?;
                let scale = norm(&system, &mut b)?;
                add_combination(&Device::cpu(), &[-1.0], std::slice::from_mut(&mut b), &mut r)?;
                Ok((norm(&system, &mut r)? / scale, iterations))
            });
            for result in results {
                let (residual, iterations) = result.unwrap();
                assert!(residual < 3e-13 && (5..RESTART).contains(&iterations), "{residual:e} {iterations}");
            }
        }
    }

    #[test]
    fn an_exact_breakdown_ends_the_iteration() {
        let mut system = Smoothing(Comm::solo());
        let mut b = Buffer::zeros(&Device::cpu(), N).unwrap();
        b.host_mut()[0] = 1.0; // an eigenvector
        let (x, info) = gmres(&mut system, &mut b, 0.0).unwrap();
        assert!(info.iterations() <= 9 && (x.into_vec()[0] - 0.2).abs() < 1e-15);
    }
}
