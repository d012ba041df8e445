//! Posteriors beyond dense factors: least squares without a matrix, by conjugate gradients (Hestenes and Stiefel 1952, in
//! the form CGLS that never squares A), and draws as solutions for perturbed data and a perturbed prior (Papandreou and
//! Yuille 2010).
//!
//! The preconditioner is a Kronecker product of orthonormal vectors and a diagonal (fast diagonalisation): along each axis
//! the vectors that the squared derivatives in the equation see most of, and with them the exact diagonal of `1 + AᵀA`. The
//! prior is the identity in any orthonormal vectors, so only the equation's side is approximate. Iterations: some 20 where
//! the equation's deviation is a third of its terms, 100 to 250 at 3 %, 300 to 1500 at 0.3 %; equidistant nodes need the
//! fewest (80² nodes, two axes).

use convoke_cluster::{Comm, Error, Result};
use convoke_kernels::kronecker::{Matrix, mode_product};
use convoke_kernels::{Buffer, Device};
use faer::{Mat, Side};

use super::equation::MultiIndex;
use super::field::matrix;
use super::model::{Data, Model, Slopes};
use super::rows::PointRows;
use super::solver_error::SolverError;

/// What is left of the gradient, preconditioned, for each unknown: about the error of the solution in its own deviations.
const TOLERANCE: f64 = 1e-8;
/// Iterations before a solve is given up.
pub const MOST: usize = 5000;

/// A model linearised at some unknowns, without its rows.
pub struct Perturbed<'a> {
    model: &'a Model,
    jets: &'a [MultiIndex],
    slopes: Slopes,
    /// Whitened functions at the nodes that are here, and their transposes: by axis, by order of the derivative.
    up: Vec<Vec<Matrix>>,
    down: Vec<Vec<Matrix>>,
    /// What `A x` is to be.
    pub b: Vec<f64>,
    preconditioner: Preconditioner,
}

/// `R̂ = D V₁ᵀ ⊗ V₂ᵀ ⊗ …` with `R̂ᵀR̂ ≈ 1 + AᵀA`; D alone for unknown constants.
struct Preconditioner {
    vectors: Vec<Matrix>,
    transposed: Vec<Matrix>,
    extents: Vec<usize>,
    /// D
    scales: Vec<f64>,
}

/// What a solve came to.
#[derive(Debug, Clone)]
pub struct Solution {
    /// The unknowns.
    pub x: Vec<f64>,
    /// Iterations.
    pub iterations: usize,
    /// The preconditioned gradient that is left, root mean square over the unknowns.
    pub left: f64,
}

impl Solution {
    /// Itself, where it is one.
    ///
    /// # Errors
    /// [`SolverError::NoPosterior`], the same on all ranks, where iterations ended before it was found.
    pub fn found(self) -> Result<Self> {
        if self.left <= TOLERANCE {
            return Ok(self);
        }
        let error = SolverError::NoPosterior { iterations: self.iterations, left: self.left };
        Err(Error::Agreed(Box::new(super::workload(error))))
    }
}

impl<'a> Perturbed<'a> {
    /// The model linearised at `x`. Collective.
    ///
    /// # Errors
    /// Where values are not finite, a decomposition does not converge or another rank fails.
    pub fn new(model: &'a Model, data: &'a Data, x: &[f64]) -> Result<Self> {
        let slopes = model.slopes(data, x)?;
        let host = Device::cpu();
        let of = |transposed: bool| -> Result<Vec<Vec<Matrix>>> {
            let one =
                |m: &Mat<f64>| if transposed { matrix(&host, &m.transpose().to_owned()) } else { matrix(&host, m) };
            model.here.iter().map(|at| at.functions.iter().map(one).collect()).collect()
        };
        let jets = &data.equation.jets;
        let preconditioner = Preconditioner::new(model, jets, &slopes)?;
        let (up, down) = (of(false)?, of(true)?);
        let mut system = Self { model, jets, slopes, up, down, b: Vec::new(), preconditioner };
        // b = A x − r
        system.b = system.times(x)?.iter().zip(&system.slopes.residuals).map(|(a, r)| a - r).collect();
        Ok(system)
    }

    /// Number of functions: unknown constants come after them.
    fn n_functions(&self) -> usize {
        self.preconditioner.extents.iter().product()
    }

    /// The factor of the prior's deviations with which data drawn from the prior would be of the size of the data: the
    /// expected `‖A x‖²` is the trace of `AᵀA`. Collective.
    ///
    /// # Errors
    /// Where another rank fails.
    pub fn scale_of_data(&self) -> Result<f64> {
        let mut size = [dot(&self.b, &self.b)];
        self.model.comm.all_sum(&mut size)?;
        let trace: f64 = self.preconditioner.scales.iter().map(|d| d * d - 1.0).sum();
        let ratio = (size[0] / trace).sqrt();
        Ok(if ratio.is_finite() && ratio > 0.0 { ratio } else { 1.0 })
    }

    /// `A x`: the rows that are here.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn times(&mut self, x: &[f64]) -> Result<Vec<f64>> {
        let nz = self.n_functions();
        let nodes = self.model.here.iter().map(|at| at.len()).product();
        let mut rows = vec![0.0; nodes];
        for (index, slope) in self.jets.iter().zip(&self.slopes.of_jets) {
            let values = along(&mut self.up, index, x[..nz].to_vec())?;
            rows.iter_mut().zip(slope.iter().zip(values)).for_each(|(r, (s, v))| *r += s * v);
        }
        for (slope, t) in self.slopes.of_constants.iter().zip(&x[nz..]) {
            rows.iter_mut().zip(slope).for_each(|(r, s)| *r += s * t);
        }
        self.model.observed.iter().for_each(|set| rows.extend(set.rows.times(x)));
        Ok(rows)
    }

    /// `Aᵀ r`, of the rows of all ranks: the same on every rank. Collective.
    ///
    /// Bytes sent: those of a sum over ranks of as many numbers as unknowns.
    ///
    /// # Errors
    /// Where the device or another rank fails.
    pub fn adjoint(&mut self, rows: &[f64]) -> Result<Vec<f64>> {
        let nz = self.n_functions();
        let (equation, mut rest) = rows.split_at(self.slopes.of_jets.first().map_or(0, Vec::len));
        let mut x = vec![0.0; nz];
        for (index, slope) in self.jets.iter().zip(&self.slopes.of_jets) {
            let weighted = slope.iter().zip(equation).map(|(s, r)| s * r).collect();
            let values = along(&mut self.down, index, weighted)?;
            x.iter_mut().zip(values).for_each(|(x, v)| *x += v);
        }
        for set in &self.model.observed {
            let (mine, others) = rest.split_at(set.rows.len());
            set.rows.add_adjoint(mine, &mut x);
            rest = others;
        }
        x.extend(self.slopes.of_constants.iter().map(|slope| dot(slope, equation)));
        self.model.comm.all_sum(&mut x)?;
        Ok(x)
    }

    /// The x that minimises `‖x − e‖² + ‖A x − b‖²`, or how far it came. Collective.
    ///
    /// Bytes sent in an iteration: those of sums of as many numbers as unknowns, and of two more.
    ///
    /// # Errors
    /// Where the device or another rank fails.
    pub fn solve(&mut self, b: &[f64], e: &[f64]) -> Result<Solution> {
        let comm = self.model.comm.clone();
        let n = e.len() as f64;
        let mut x = vec![0.0; e.len()];
        let (mut r, mut left) = (b.to_vec(), e.to_vec());
        let mut s = self.gradient(&r, &left)?;
        let (mut p, mut size) = (s.clone(), of_root(&comm, vec![dot(&s, &s)])?[0]);
        let mut iterations = 0;
        while size > TOLERANCE * TOLERANCE * n && iterations < MOST {
            let q = self.preconditioner.inverse(p.clone())?;
            let image = self.times(&q)?;
            let mut square = [dot(&image, &image)];
            comm.all_sum(&mut square)?;
            let step = size / (square[0] + dot(&q, &q));
            add(step, &q, &mut x);
            add(-step, &image, &mut r);
            add(-step, &q, &mut left);
            s = self.gradient(&r, &left)?;
            let now = of_root(&comm, vec![dot(&s, &s)])?[0];
            p.iter_mut().zip(&s).for_each(|(p, s)| *p = s + now / size * *p);
            size = now;
            iterations += 1;
        }
        Ok(Solution { x, iterations, left: (size / n).sqrt() })
    }

    /// `R̂⁻ᵀ (Aᵀ r + left)`
    fn gradient(&mut self, r: &[f64], left: &[f64]) -> Result<Vec<f64>> {
        let mut g = self.adjoint(r)?;
        add(1.0, left, &mut g);
        self.preconditioner.inverse_transposed(g)
    }
}

impl Preconditioner {
    /// Collective.
    fn new(model: &Model, jets: &[MultiIndex], slopes: &Slopes) -> Result<Self> {
        let (comm, host) = (&model.comm, Device::cpu());
        let extents: Vec<usize> = model.bases.iter().map(|b| b.conditioned.rank()).collect();
        // Mean products of the slopes, over the nodes of all ranks.
        let mut products: Vec<f64> =
            slopes.of_jets.iter().flat_map(|a| slopes.of_jets.iter().map(|b| dot(a, b))).collect();
        let here = slopes.of_jets.first().map_or(0, Vec::len);
        products.push(here as f64);
        comm.all_sum(&mut products)?;
        let nodes = products.pop().unwrap_or(1.0);
        let (mut vectors, mut squares) = (Vec::new(), Vec::new());
        for (axis, at) in model.here.iter().enumerate() {
            let over_ranks = |values: &mut Vec<f64>| if axis == 0 { comm.all_sum(values) } else { Ok(()) };
            let v = eigenvectors(comm, &at.functions, over_ranks)?;
            // Sums over the nodes of products of two derivatives of each vector.
            let seen: Vec<Mat<f64>> = at.functions.iter().map(|f| f * &v).collect();
            let column =
                |a: &Mat<f64>, b: &Mat<f64>, j: usize| (0..a.nrows()).map(|i| a[(i, j)] * b[(i, j)]).sum::<f64>();
            let pairs = jets.iter().flat_map(|a| jets.iter().map(move |b| (a[axis], b[axis])));
            let mut sums: Vec<f64> = pairs
                .flat_map(|(a, b)| (0..v.ncols()).map(|j| column(&seen[a], &seen[b], j)).collect::<Vec<_>>())
                .collect();
            over_ranks(&mut sums)?;
            squares.push(sums);
            vectors.push(v);
        }
        let mut diagonal = vec![0.0; extents.iter().product()];
        for set in &model.observed {
            let squared = |(f, v): (&Mat<f64>, &Mat<f64>)| {
                let seen = f * v;
                Mat::from_fn(seen.nrows(), seen.ncols(), |i, j| seen[(i, j)].powi(2))
            };
            let factors: Vec<Mat<f64>> = set.factors.iter().zip(&vectors).map(squared).collect();
            let rows = PointRows::new(&factors.iter().collect::<Vec<_>>());
            rows.add_adjoint(&vec![1.0; rows.len()], &mut diagonal);
        }
        diagonal.extend(slopes.of_constants.iter().map(|slope| dot(slope, slope)));
        comm.all_sum(&mut diagonal)?;
        for (k, product) in products.iter().enumerate() {
            let of_axis = |(sums, n): (&Vec<f64>, &usize)| sums[k * n..(k + 1) * n].to_vec();
            let axes: Vec<Vec<f64>> = squares.iter().zip(&extents).map(of_axis).collect();
            let all = axes.iter().fold(vec![product / nodes], |a, b| super::rows::kron(&a, b));
            add(1.0, &all, &mut diagonal);
        }
        // The sum is a square's diagonal with mean products for the slopes' own: rounding alone makes it negative.
        let scales = diagonal.iter().map(|d| (1.0 + d.max(0.0)).sqrt()).collect();
        let transposed = vectors.iter().map(|v| matrix(&host, &v.transpose().to_owned())).collect::<Result<_>>()?;
        let vectors = vectors.iter().map(|v| matrix(&host, v)).collect::<Result<_>>()?;
        Ok(Self { vectors, transposed, extents, scales })
    }

    /// `R̂⁻¹ s`
    fn inverse(&mut self, mut s: Vec<f64>) -> Result<Vec<f64>> {
        s.iter_mut().zip(&self.scales).for_each(|(s, d)| *s /= d);
        Self::turn(&mut self.vectors, &self.extents, s)
    }

    /// `R̂⁻ᵀ g`
    fn inverse_transposed(&mut self, g: Vec<f64>) -> Result<Vec<f64>> {
        let mut s = Self::turn(&mut self.transposed, &self.extents, g)?;
        s.iter_mut().zip(&self.scales).for_each(|(s, d)| *s /= d);
        Ok(s)
    }

    /// One square matrix along each axis; constants stay.
    fn turn(matrices: &mut [Matrix], extents: &[usize], mut x: Vec<f64>) -> Result<Vec<f64>> {
        let constants = x.split_off(extents.iter().product());
        let mut x = along_each(&mut matrices.iter_mut().collect::<Vec<_>>(), x)?;
        x.extend(constants);
        Ok(x)
    }
}

/// Eigenvectors of the sum of all derivatives' squares at the nodes, each with trace 1; those of rank 0 on every rank.
/// Collective.
fn eigenvectors(
    comm: &Comm,
    functions: &[Mat<f64>],
    over_ranks: impl Fn(&mut Vec<f64>) -> std::result::Result<(), convoke_cluster::comm::CommError>,
) -> Result<Mat<f64>> {
    let n = functions[0].ncols();
    let mut sum = Mat::<f64>::zeros(n, n);
    for f in functions {
        let gram = f.transpose() * f;
        let mut values: Vec<f64> = (0..n * n).map(|k| gram[(k / n, k % n)]).collect();
        over_ranks(&mut values)?;
        let trace: f64 = (0..n).map(|i| values[i * (n + 1)]).sum();
        if trace > 0.0 {
            sum += Mat::from_fn(n, n, |i, j| values[i * n + j] / trace);
        }
    }
    let eigen = sum.self_adjoint_eigen(Side::Lower).map_err(|_| super::workload(SolverError::Decomposition))?;
    // Another processor's last digits would make another preconditioner.
    let values = of_root(comm, (0..n * n).map(|k| eigen.U()[(k / n, k % n)]).collect())?;
    Ok(Mat::from_fn(n, n, |i, j| values[i * n + j]))
}

/// Products of all modes with the matrices of these orders.
fn along(matrices: &mut [Vec<Matrix>], index: &[usize], x: Vec<f64>) -> Result<Vec<f64>> {
    along_each(&mut matrices.iter_mut().zip(index).map(|(m, o)| &mut m[*o]).collect::<Vec<_>>(), x)
}

/// One matrix along each mode of a tensor, from the first. Flops: 2 for each entry of what goes in, times rows.
fn along_each(matrices: &mut [&mut Matrix], x: Vec<f64>) -> Result<Vec<f64>> {
    let host = Device::cpu();
    let mut x = Buffer::from_vec(&host, x)?;
    let mut outer = 1;
    for axis in 0..matrices.len() {
        let inner: usize = matrices[axis + 1..].iter().map(|m| m.cols()).product();
        let rows = matrices[axis].rows();
        let mut y = Buffer::zeros(&host, outer * rows * inner)?;
        mode_product(&host, matrices[axis], (outer, inner), &mut x, &mut y, false)?;
        (x, outer) = (y, outer * rows);
    }
    Ok(x.into_vec())
}

/// Rank 0's numbers on every rank, so that all go on or none does.
fn of_root(comm: &Comm, mut mine: Vec<f64>) -> Result<Vec<f64>> {
    if !comm.is_root() {
        mine.fill(0.0);
    }
    comm.all_sum(&mut mine)?;
    Ok(mine)
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// y += c x
fn add(c: f64, x: &[f64], y: &mut [f64]) {
    y.iter_mut().zip(x).for_each(|(y, x)| *y += c * x);
}
