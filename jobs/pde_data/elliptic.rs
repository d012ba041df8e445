//! −∇·(a ∇p) = f on a square with p = 0 on its boundary: five points, solved by conjugate gradients.

use super::reflection::{Reflection, Work};

/// Residual, relative to the right-hand side, at which a solution is one.
pub const TOLERANCE: f64 = 1e-12;
/// Iterations after which there is none.
const MOST: usize = 2000;

/// The equation at `n` × `n` nodes, those of the boundary included.
#[derive(Debug)]
pub struct Elliptic {
    n: usize,
    /// Distance between nodes.
    pitch: f64,
    reflection: Reflection,
    /// Eigenvalues of −∂² by differences, with zero at the ends: 4/h² sin²(πk/2(n − 1)).
    eigenvalues: Vec<f64>,
}

/// Iterations that came to no end.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stuck {
    /// How many.
    pub iterations: usize,
    /// What was reached, relative to the right-hand side.
    pub residual: f64,
}

impl Elliptic {
    /// A square of side `side`.
    pub fn new(n: usize, side: f64) -> Self {
        let pitch = side / (n - 1) as f64;
        let sine = |k: usize| (0.5 * std::f64::consts::PI * k as f64 / (n - 1) as f64).sin();
        let eigenvalues = (0..n).map(|k| (2.0 * sine(k) / pitch).powi(2)).collect();
        Self { n, pitch, reflection: Reflection::new(n), eigenvalues }
    }

    /// Bytes that a solution takes, beside `a`, `f` and `p`.
    pub fn work_bytes(n: usize) -> u64 {
        8 * 6 * (n * n) as u64 + Work::bytes(n)
    }

    /// Operations of one iteration.
    pub fn flops(n: usize) -> f64 {
        let line = 2.0 * n as f64;
        // Four passes of n/2 complex transforms, and five points with their sums.
        4.0 * 0.5 * n as f64 * 5.0 * line * line.log2() + 30.0 * (n * n) as f64
    }

    /// The solution `p` for `a` > 0 and `f` at the nodes, all `[x][y]`, and the number of iterations. a between two nodes is their
    /// harmonic mean, so that the flux through a jump is right. Conjugate gradients with the inverse of −Δ, which sine transforms
    /// give at once: the number of iterations depends on the largest ratio of two values of a, not on n.
    ///
    /// # Errors
    /// [`Stuck`] where the residual stays above [`TOLERANCE`].
    pub fn solve(&self, a: &[f64], f: &[f64], p: &mut [f64]) -> Result<usize, Stuck> {
        let n = self.n;
        let faces = [n, 1].map(|next| self.faces(a, next));
        let mut work = self.reflection.work();
        let mut residual = f.to_vec();
        self.clear_boundary(&mut residual);
        p.fill(0.0);
        let due = TOLERANCE * norm(&residual);
        let mut towards = residual.clone();
        self.laplace(&mut towards, &mut work);
        let mut direction = towards.clone();
        let mut image = vec![0.0; n * n];
        let mut size = dot(&residual, &towards);
        for iteration in 0..MOST {
            if norm(&residual) <= due {
                return Ok(iteration);
            }
            self.apply(&faces, &direction, &mut image);
            let alpha = size / dot(&direction, &image);
            for i in 0..n * n {
                p[i] += alpha * direction[i];
                residual[i] -= alpha * image[i];
            }
            towards.copy_from_slice(&residual);
            self.laplace(&mut towards, &mut work);
            let next = dot(&residual, &towards);
            let beta = next / size;
            direction.iter_mut().zip(&towards).for_each(|(d, t)| *d = t + beta * *d);
            size = next;
        }
        Err(Stuck { iterations: MOST, residual: norm(&residual) * TOLERANCE / due })
    }

    /// Harmonic means of a at each node and the one `next` places on, over h².
    fn faces(&self, a: &[f64], next: usize) -> Vec<f64> {
        let scale = 2.0 / self.pitch.powi(2);
        let mut faces: Vec<f64> = a.iter().zip(&a[next..]).map(|(a, b)| scale / (1.0 / a + 1.0 / b)).collect();
        faces.resize(a.len(), 0.0);
        faces
    }

    /// out = −∇·(a ∇p) inside; 13 flops and 5 numbers read for each node.
    fn apply(&self, [along_x, along_y]: &[Vec<f64>; 2], p: &[f64], out: &mut [f64]) {
        let n = self.n;
        for x in 1..n - 1 {
            for at in x * n + 1..(x + 1) * n - 1 {
                out[at] = along_x[at] * (p[at] - p[at + n])
                    + along_x[at - n] * (p[at] - p[at - n])
                    + along_y[at] * (p[at] - p[at + 1])
                    + along_y[at - 1] * (p[at] - p[at - 1]);
            }
        }
    }

    /// The solution of −Δp = f in the place of f.
    fn laplace(&self, f: &mut [f64], work: &mut Work) {
        let n = self.n;
        // Twice the transform along an axis is (n − 1)/2.
        let scale = (2.0 / (n - 1) as f64).powi(2);
        self.reflection.sines(f, work);
        for (row, x) in f.chunks_exact_mut(n).zip(&self.eigenvalues) {
            for (value, y) in row.iter_mut().zip(&self.eigenvalues) {
                *value *= if x + y > 0.0 { scale / (x + y) } else { 0.0 };
            }
        }
        self.reflection.sines(f, work);
        self.clear_boundary(f);
    }

    fn clear_boundary(&self, f: &mut [f64]) {
        let n = self.n;
        f[..n].fill(0.0);
        f[n * (n - 1)..].fill(0.0);
        f.chunks_exact_mut(n).for_each(|row| (row[0], row[n - 1]) = (0.0, 0.0));
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn norm(a: &[f64]) -> f64 {
    dot(a, a).sqrt()
}
