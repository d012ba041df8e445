//! Fields by wave number: power in shells of |k|, errors in bands of it, and what a divergence is made of.

use super::transform::Transform;
use crate::learning::real::Real;

/// Bands of |k| in which errors are reported, as PDEBench has them (Takamoto et al. 2022): below 4, below 12, the rest.
const BANDS: [usize; 2] = [4, 12];

/// All modes of a grid, by the whole part of |k|.
#[derive(Debug, Clone)]
pub struct Shells<T> {
    transform: Transform<T>,
    /// Of each mode.
    shell: Vec<usize>,
    /// Number of shells.
    pub count: usize,
}

/// Integer wave numbers of all modes of `transform` in order, the last axis running fastest.
fn wave_numbers<T>(kept: &[Vec<i64>], mut each: impl FnMut(&[i64]) -> T) -> Vec<T> {
    let all: usize = kept.iter().map(Vec::len).product();
    let mut k = vec![0; kept.len()];
    let mode = |mode: usize| {
        let mut rest = mode;
        for (k, kept) in k.iter_mut().zip(kept).rev() {
            *k = kept[rest % kept.len()];
            rest /= kept.len();
        }
        each(&k)
    };
    (0..all).map(mode).collect()
}

impl<T: Real> Shells<T> {
    /// Of a grid.
    pub fn new(points: &[usize]) -> Self {
        let transform = Transform::whole(points);
        let square = |k: &[i64]| k.iter().map(|k| k * k).sum::<i64>();
        let shell = wave_numbers(&transform.kept, |k| square(k).isqrt() as usize);
        Self { count: shell.iter().max().map_or(0, |most| most + 1), transform, shell }
    }

    /// Σ |ŵ_k|² of each shell, ŵ the means of w exp(−2πi k·x): of `channels` fields, their mean. Shells add up to the mean square.
    pub fn power(&self, fields: &[T], channels: usize) -> Vec<f64> {
        let modes = self.transform.analysis(fields, channels);
        let mut weighted = modes.clone();
        self.transform.weigh(&mut weighted);
        let (m, scale) = (self.transform.inner(), 1.0 / (self.transform.size() * channels) as f64);
        let mut power = vec![0.0; self.count];
        let lines = modes.chunks(m).zip(weighted.chunks(m)).enumerate();
        for (line, (a, b)) in lines {
            let shells = &self.shell[line / (2 * channels) * m..][..m];
            for ((a, b), shell) in a.iter().zip(b).zip(shells) {
                power[*shell] += scale * a.wide() * b.wide();
            }
        }
        self.transform.pool.give(modes);
        power
    }

    /// Root mean square of `fields` in the bands |k| < 4, 4 ≤ |k| < 12, 12 ≤ |k|.
    pub fn bands(&self, fields: &[T], channels: usize) -> [f64; 3] {
        let power = self.power(fields, channels);
        let root =
            |first: usize, end: usize| power[first.min(power.len())..end.min(power.len())].iter().sum::<f64>().sqrt();
        [root(0, BANDS[0]), root(BANDS[0], BANDS[1]), root(BANDS[1], usize::MAX)]
    }
}

/// The part of a velocity without divergence (Helmholtz, Leray): û − k (k·û)/|k|², the mean as it is. Orthogonal in L², so it is its own
/// adjoint. On a cube; the derivative of a Nyquist mode is zero.
#[derive(Debug, Clone)]
pub struct Projection<T> {
    transform: Transform<T>,
    /// k of each mode over |k|.
    direction: Vec<Vec<T>>,
}

impl<T: Real> Projection<T> {
    /// On a grid.
    pub fn new(points: &[usize]) -> Self {
        let transform = Transform::whole(points);
        let direction = wave_numbers(&transform.kept, |k| {
            let of = |(k, n): (&i64, &usize)| if 2 * k.unsigned_abs() as usize == *n { 0.0 } else { *k as f64 };
            let k: Vec<f64> = k.iter().zip(points).map(of).collect();
            let length = k.iter().map(|k| k * k).sum::<f64>().sqrt();
            k.iter().map(|k| T::of(if length > 0.0 { k / length } else { 0.0 })).collect()
        });
        Self { transform, direction }
    }

    /// Of fields `[snapshot][component, points]`, in place.
    pub fn apply(&self, fields: &mut [T]) {
        let (d, size, m) = (self.transform.points.len(), self.transform.size(), self.transform.inner());
        for velocity in fields.chunks_mut(d * size) {
            let mut modes = self.transform.analysis(velocity, d);
            for (outer, block) in modes.chunks_mut(2 * d * m).enumerate() {
                for j in 0..m {
                    let direction = &self.direction[outer * m + j];
                    for part in [0, m] {
                        let along: T =
                            (0..d).fold(T::default(), |sum, c| sum + direction[c] * block[c * 2 * m + part + j]);
                        for c in 0..d {
                            block[c * 2 * m + part + j] -= direction[c] * along;
                        }
                    }
                }
            }
            let free = self.transform.synthesis(modes, d);
            velocity.copy_from_slice(&free);
            self.transform.pool.give(free);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use convoke_kernels::Philox;
    use std::f64::consts::TAU;

    fn random(len: usize, stream: u64) -> Vec<f64> {
        (0..len as u64).map(|i| Philox::new(12, stream).normal(i)).collect()
    }

    /// Parseval, and a wave that lies in its shell and its band.
    #[test]
    fn shells_add_up_to_the_mean_square_and_waves_lie_in_theirs() {
        for points in [vec![15], vec![8, 9], vec![4, 5, 6]] {
            let (size, shells) = (points.iter().product::<usize>(), Shells::new(&points));
            let x = random(2 * size, 1);
            let square = x.iter().map(|v| v * v).sum::<f64>() / (2 * size) as f64;
            assert!((shells.power(&x, 2).iter().sum::<f64>() - square).abs() < 1e-13 * square);
        }
        let shells = Shells::<f64>::new(&[32, 32]);
        let wave: Vec<f64> =
            (0..1024).map(|i| (TAU * (3.0 * (i / 32) as f64 - 4.0 * (i % 32) as f64) / 32.0 + 0.2).sin()).collect();
        let power = shells.power(&wave, 1);
        assert!((power[5] - 0.5).abs() < 1e-13 && (power.iter().sum::<f64>() - 0.5).abs() < 1e-13);
        let [low, mid, high] = shells.bands(&wave, 1);
        assert!(low < 1e-13 && (mid - 0.5f64.sqrt()).abs() < 1e-13 && high < 1e-13);
    }

    /// No divergence to 1e-12 in double and 1e-5 in single precision, by derivatives of every mode; twice is once; ⟨P a, b⟩ = ⟨a, P b⟩; a
    /// field without divergence stays.
    #[test]
    fn projections_leave_no_divergence() {
        fn check<T: Real>(points: &[usize], most: f64) {
            let (d, size) = (points.len(), points.iter().product::<usize>());
            let projection = Projection::<T>::new(points);
            let field = |stream: u64| random(2 * d * size, stream).into_iter().map(T::of).collect::<Vec<T>>();
            let (a, b) = (field(1), field(2));
            let (mut pa, mut pb) = (a.clone(), b.clone());
            projection.apply(&mut pa);
            projection.apply(&mut pb);
            let dot = |a: &[T], b: &[T]| a.iter().zip(b).map(|(a, b)| a.wide() * b.wide()).sum::<f64>();
            assert!((dot(&pa, &b) - dot(&a, &pb)).abs() < most * dot(&a, &a));
            let mut twice = pa.clone();
            projection.apply(&mut twice);
            let far = twice.iter().zip(&pa).map(|(x, y)| (x.wide() - y.wide()).abs()).fold(0.0, f64::max);
            assert!(far < most && dot(&pa, &pa) < 0.99 * dot(&a, &a), "{far:e}");
            for velocity in pa.chunks(d * size) {
                let modes = projection.transform.analysis(velocity, d);
                let m = projection.transform.inner();
                for (outer, block) in modes.chunks(2 * d * m).enumerate() {
                    for j in 0..2 * m {
                        let direction = &projection.direction[outer * m + j % m];
                        let divergence: f64 = (0..d).map(|c| direction[c].wide() * block[c * 2 * m + j].wide()).sum();
                        assert!(divergence.abs() < most * size as f64, "{divergence:e}");
                    }
                }
            }
        }
        for points in [vec![8, 8], vec![7, 6], vec![4, 5, 6]] {
            check::<f64>(&points, 1e-13);
            check::<f32>(&points, 1e-5);
        }
        // ψ = cos(x) cos(2y): (ψ_y, −ψ_x).
        let at = |i: usize| (TAU * (i / 12) as f64 / 10.0, TAU * (i % 12) as f64 / 12.0);
        let u = (0..120).map(|i| -2.0 * at(i).0.cos() * (2.0 * at(i).1).sin());
        let v = (0..120).map(|i| at(i).0.sin() * (2.0 * at(i).1).cos());
        let velocity: Vec<f64> = u.chain(v).collect();
        let mut projected = velocity.clone();
        Projection::new(&[10, 12]).apply(&mut projected);
        assert!(velocity.iter().zip(&projected).all(|(a, b)| (a - b).abs() < 1e-13));
    }
}
