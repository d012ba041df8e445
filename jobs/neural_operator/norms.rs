//! How far predictions lie from targets: relative errors that are learnt from, and figures that are reported.
//!
//! ‖w‖²_{H^s} = Σ_k (α + |κ|²)^s |ŵ_k/N|², κ = 2πk on a cube of side one (so ‖w‖_{H⁰} is the root mean square); any real s.

use std::f64::consts::TAU;
use std::ops::Range;

use convoke_cluster::Comm;
use convoke_cluster::comm::CommError;

use super::slabs::Slabs;
use super::spec::{SobolevSpec, TrainingSpec};
use super::spectra::Shells;
use super::transform::Transform;
use crate::learning::real::Real;

/// A norm of fields on a grid.
#[derive(Debug, Clone)]
pub enum Norm<T> {
    /// (Σ |v|^p)^{1/p}.
    Lp(f64),
    /// H^s, with (α + |κ|²)^s for each mode; relative errors are multiplied by the last number.
    Sobolev(Box<Transform<T>>, Vec<T>, f64),
    /// The same where ranks share the points.
    Slabs(Box<Slabs<T>>, f64),
}

impl<T: Real> Norm<T> {
    /// That of a job, on `points`, for so many channels. Where ranks share the points: which rows of the first axis each has, and which
    /// rank this is.
    pub fn of(
        training: &TrainingSpec,
        points: &[usize],
        channels: usize,
        shared: Option<(&[Range<usize>], usize)>,
    ) -> Self {
        let (spec, factor) = match (training.torch_cfd, training.sobolev) {
            (Some(order), _) => torch_cfd(order, channels),
            (None, Some(sobolev)) => (sobolev, 1.0),
            (None, None) => return Self::Lp(training.p),
        };
        match shared {
            Some((rows, rank)) => Self::Slabs(Box::new(Slabs::new(spec, points, rows, rank)), factor),
            None => Self::scaled(spec, points, factor),
        }
    }

    /// What torch-cfd's `SobolevLoss(norm_order)` measures, read from its code and checked by its values: its orders 0 and 2 are H¹, its ±1
    /// are H^{±½}, α = 0.1, and the error is averaged over the snapshots while the target's norm is not.
    pub fn torch_cfd(order: i32, points: &[usize], channels: usize) -> Self {
        let (spec, factor) = torch_cfd(order, channels);
        Self::scaled(spec, points, factor)
    }

    /// H^s on `points`.
    pub fn sobolev(spec: SobolevSpec, points: &[usize]) -> Self {
        Self::scaled(spec, points, 1.0)
    }

    /// H^s on `points`, relative errors multiplied by `factor`.
    fn scaled(SobolevSpec { s, alpha }: SobolevSpec, points: &[usize], factor: f64) -> Self {
        let transform = Transform::whole(points);
        let (outer, m) = (transform.outer(), transform.inner());
        let weight = |mode: usize| {
            let (mut rest, mut square) = (mode / m, (TAU * transform.kept[points.len() - 1][mode % m] as f64).powi(2));
            for kept in transform.kept[..points.len() - 1].iter().rev() {
                square += (TAU * kept[rest % kept.len()] as f64).powi(2);
                rest /= kept.len();
            }
            T::of((alpha + square).powf(s))
        };
        let weights = (0..outer * m).map(weight).collect();
        Self::Sobolev(Box::new(transform), weights, factor)
    }

    /// ‖prediction − target‖/‖target‖ of `channels` fields together, and its derivative by the prediction.
    ///
    /// # Panics
    /// For [`Norm::Slabs`], which is for parts.
    pub fn relative(&self, prediction: &[T], target: &[T], channels: usize) -> (f64, Vec<T>) {
        let errors: Vec<T> = prediction.iter().zip(target).map(|(a, b)| *a - *b).collect();
        let size = self.norm(target, channels).max(f64::MIN_POSITIVE);
        let error = self.norm(&errors, channels);
        if error == 0.0 {
            return (0.0, vec![T::default(); errors.len()]);
        }
        match self {
            Self::Lp(p) => (error / size, slopes(*p, &errors, error, size)),
            Self::Sobolev(transform, weights, factor) => {
                let mut modes = transform.analysis(&errors, channels);
                self.weigh(transform, weights, &mut modes, channels);
                transform.weigh(&mut modes);
                let scale = T::of(factor / (error * size * transform.size() as f64));
                let mut slopes = transform.adjoint(modes, channels);
                slopes.iter_mut().for_each(|v| *v *= scale);
                (factor * error / size, slopes)
            }
            Self::Slabs(..) => unreachable!("fields of which a rank has parts"),
        }
    }

    /// The same for each sample, of which the ranks of `comm` have parts. Collective.
    ///
    /// # Errors
    /// As the exchange.
    ///
    /// # Panics
    /// For [`Norm::Sobolev`], which is for whole fields.
    pub fn relative_of_parts(
        &self,
        predictions: &[Vec<T>],
        targets: &[&Vec<T>],
        comm: &Comm,
    ) -> Result<Vec<(f64, Vec<T>)>, CommError> {
        let error = |(a, b): (&Vec<T>, &&Vec<T>)| a.iter().zip(*b).map(|(a, b)| *a - *b).collect();
        let errors: Vec<Vec<T>> = predictions.iter().zip(targets).map(error).collect();
        let p = match self {
            Self::Lp(p) => *p,
            Self::Slabs(slabs, factor) => return slabs.relative(comm, &errors, targets, *factor),
            Self::Sobolev(..) => unreachable!("whole fields"),
        };
        let both = errors.iter().zip(targets);
        let mut sums: Vec<f64> = both.flat_map(|(e, t)| [powers(p, e), powers(p, t)]).collect();
        comm.all_sum(&mut sums)?;
        let relative = |(errors, sums): (&Vec<T>, &[f64])| {
            let (error, size) = (sums[0].powf(1.0 / p), sums[1].powf(1.0 / p).max(f64::MIN_POSITIVE));
            if error == 0.0 {
                return (0.0, vec![T::default(); errors.len()]);
            }
            (error / size, slopes(p, errors, error, size))
        };
        Ok(errors.iter().zip(sums.chunks(2)).map(relative).collect())
    }

    fn norm(&self, values: &[T], channels: usize) -> f64 {
        match self {
            Self::Lp(p) => powers(*p, values).powf(1.0 / p),
            Self::Sobolev(transform, weights, _) => {
                let modes = transform.analysis(values, channels);
                let mut weighted = modes.clone();
                self.weigh(transform, weights, &mut weighted, channels);
                transform.weigh(&mut weighted);
                let sum: f64 = modes.iter().zip(&weighted).map(|(a, b)| a.wide() * b.wide()).sum();
                (sum / transform.size() as f64).sqrt()
            }
            Self::Slabs(..) => unreachable!("fields of which a rank has parts"),
        }
    }

    /// Multiplies coefficients `[outer, channel, re | im, inner]` by the weights of their modes.
    fn weigh(&self, transform: &Transform<T>, weights: &[T], modes: &mut [T], channels: usize) {
        let m = transform.inner();
        for (block, weights) in modes.chunks_mut(channels * 2 * m).zip(weights.chunks(m)) {
            for part in block.chunks_mut(m) {
                part.iter_mut().zip(weights).for_each(|(v, w)| *v *= *w);
            }
        }
    }
}

/// The norm of torch-cfd, and what relative errors are multiplied by.
fn torch_cfd(order: i32, channels: usize) -> (SobolevSpec, f64) {
    let s = if order.abs() == 1 { 0.5 * f64::from(order) } else { 1.0 };
    (SobolevSpec { s, alpha: 0.1 }, (channels as f64).sqrt().recip())
}

/// Σ |v|^p. Powers cost as much as the operator's own passes: the usual one goes without.
fn powers<T: Real>(p: f64, values: &[T]) -> f64 {
    if p == 2.0 {
        return values.iter().map(|v| v.wide() * v.wide()).sum();
    }
    values.iter().map(|v| v.wide().abs().powf(p)).sum()
}

/// The derivative of ‖e‖_p/size by e, of which `error` is the norm.
fn slopes<T: Real>(p: f64, errors: &[T], error: f64, size: f64) -> Vec<T> {
    if p == 2.0 {
        return errors.iter().map(|e| T::of(e.wide() / (error * size))).collect();
    }
    let scale = error.powf(1.0 - p) / size;
    let slope = |e: &T| {
        let e = e.wide();
        T::of(if e == 0.0 { 0.0 } else { scale * e * e.abs().powf(p - 2.0) })
    };
    errors.iter().map(slope).collect()
}

/// What is reported of predictions, each the mean over samples and channels.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Figures {
    /// rms(error)/rms(target), PDEBench's nRMSE (Takamoto et al. 2022).
    pub nrmse: f64,
    /// √(mean error²/(var(target) + 1e-7)), The Well's VRMSE (Ohana et al. 2024).
    pub vrmse: f64,
    /// Largest error over the largest target.
    pub largest: f64,
    /// Root mean square of the error in |k| < 4, 4 ≤ |k| < 12 and 12 ≤ |k|, all channels together.
    pub bands: [f64; 3],
}

impl Figures {
    /// Of one sample with `channels` fields.
    pub fn of<T: Real>(prediction: &[T], target: &[T], channels: usize, shells: &Shells<T>) -> Self {
        let n = (target.len() / channels) as f64;
        let errors: Vec<T> = prediction.iter().zip(target).map(|(a, b)| *a - *b).collect();
        let mut all = Self { bands: shells.bands(&errors, channels), ..Self::default() };
        for (p, t) in prediction.chunks(target.len() / channels).zip(target.chunks(target.len() / channels)) {
            let square: f64 = p.iter().zip(t).map(|(a, b)| (a.wide() - b.wide()).powi(2)).sum::<f64>() / n;
            let (sum, squares) = t.iter().fold((0.0, 0.0), |(s, q), v| (s + v.wide() / n, q + v.wide().powi(2) / n));
            let most = |values: &mut dyn Iterator<Item = f64>| values.fold(0.0, f64::max);
            let error = most(&mut p.iter().zip(t).map(|(a, b)| (a.wide() - b.wide()).abs()));
            let size = most(&mut t.iter().map(|v| v.wide().abs()));
            all.nrmse += (square / squares.max(f64::MIN_POSITIVE)).sqrt() / channels as f64;
            all.vrmse += (square / ((squares - sum * sum).max(0.0) + 1e-7)).sqrt() / channels as f64;
            all.largest += error / size.max(f64::MIN_POSITIVE) / channels as f64;
        }
        all
    }

    /// As numbers.
    pub fn numbers(self) -> [f64; 6] {
        let [low, mid, high] = self.bands;
        [self.nrmse, self.vrmse, self.largest, low, mid, high]
    }
}

/// Names and meanings of [`Figures::numbers`].
pub const FIGURES: [&str; 6] = ["nrmse", "vrmse", "largest_error", "frmse_low", "frmse_mid", "frmse_high"];

#[cfg(test)]
mod tests {
    use super::*;
    use convoke_cluster::comm::run_threads;
    use convoke_kernels::Philox;

    fn random(len: usize, stream: u64) -> Vec<f64> {
        (0..len as u64).map(|i| Philox::new(8, stream).normal(i)).collect()
    }

    fn norms(points: &[usize]) -> Vec<Norm<f64>> {
        let sobolev = |s: f64| Norm::sobolev(SobolevSpec { s, alpha: 0.1 }, points);
        vec![Norm::Lp(1.0), Norm::Lp(2.0), Norm::Lp(3.5), sobolev(0.0), sobolev(-0.5), Norm::torch_cfd(0, points, 2)]
    }

    /// Central differences, to 1e-7, on even and odd grids, two channels.
    #[test]
    fn slopes_are_slopes() {
        for points in [vec![9], vec![6, 5], vec![4, 3, 6]] {
            let size = 2 * points.iter().product::<usize>();
            let (x, y, direction) = (random(size, 0), random(size, 1), random(size, 2));
            for norm in norms(&points) {
                let slopes = norm.relative(&x, &y, 2).1;
                let moved = |by: f64| {
                    let x: Vec<f64> = x.iter().zip(&direction).map(|(x, d)| x + by * d).collect();
                    norm.relative(&x, &y, 2).0
                };
                let slope = (moved(1e-6) - moved(-1e-6)) / 2e-6;
                let found: f64 = slopes.iter().zip(&direction).map(|(s, d)| s * d).sum();
                assert!((slope - found).abs() < 1e-7 * slope.abs().max(1.0), "{points:?}: {found} {slope}");
            }
        }
    }

    /// Parseval: H⁰ is the root mean square; a wave's H^s norm is known.
    #[test]
    fn norms_of_waves_are_known() {
        for points in [vec![8, 9], vec![7, 6]] {
            let x = random(points[0] * points[1], 3);
            let rms = (x.iter().map(|v| v * v).sum::<f64>() / x.len() as f64).sqrt();
            let zero = Norm::sobolev(SobolevSpec { s: 0.0, alpha: 0.1 }, &points);
            assert!((zero.norm(&x, 1) - rms).abs() < 1e-13);
            let wave: Vec<f64> = (0..x.len())
                .map(|i| {
                    let (a, b) = ((i / points[1]) as f64 / points[0] as f64, (i % points[1]) as f64 / points[1] as f64);
                    (TAU * (2.0 * a - b) + 0.4).sin()
                })
                .collect();
            for s in [1.0, -0.5, 2.0] {
                let norm = Norm::sobolev(SobolevSpec { s, alpha: 0.3 }, &points);
                let exact = (0.5 * (0.3 + 5.0 * TAU * TAU).powf(s)).sqrt();
                assert!((norm.norm(&wave, 1) / exact - 1.0).abs() < 1e-12, "{s}");
            }
        }
    }

    /// The identity that was measured with torch-cfd: its value is the relative H^{s'} error over √(number of snapshots).
    #[test]
    fn torch_cfd_divides_by_the_root_of_the_snapshots() {
        let (points, x, y) = (vec![6, 8], random(3 * 48, 5), random(3 * 48, 6));
        for (order, s) in [(0, 1.0), (2, 1.0), (1, 0.5), (-1, -0.5)] {
            let ours = Norm::sobolev(SobolevSpec { s, alpha: 0.1 }, &points).relative(&x, &y, 3).0;
            let theirs = Norm::torch_cfd(order, &points, 3).relative(&x, &y, 3).0;
            assert!((theirs * 3f64.sqrt() / ours - 1.0).abs() < 1e-13, "{order}");
        }
    }

    /// On two and three ranks, which share rows evenly or not: relative errors and slopes of the whole fields to 1e-12; bytes are those of the
    /// formula. One sample has no error.
    #[test]
    fn norms_of_slabs_are_those_of_the_whole() {
        for (points, s, rows) in [
            (vec![6, 5], 1.0, vec![0..3, 3..6]),
            (vec![7, 6], -0.5, vec![0..3, 3..6, 6..7]),
            (vec![4, 3, 6], 2.0, vec![0..1, 1..3, 3..4]),
        ] {
            let (row, spec) = (points[1..].iter().product::<usize>(), SobolevSpec { s, alpha: 0.1 });
            let field = |stream: u64| random(2 * points[0] * row, stream);
            let (predictions, targets) = ([field(1), field(2), field(4)], [field(3), field(2), field(5)]);
            let whole = Norm::scaled(spec, &points, 0.7);
            let expected: Vec<(f64, Vec<f64>)> =
                predictions.iter().zip(&targets).map(|(a, b)| whole.relative(a, b, 2)).collect();
            let most = Slabs::<f64>::sent(&points, &rows, 3 * 2);
            let sent = run_threads(rows.len(), |comm| {
                let here = rows[comm.rank()].clone();
                let part = |field: &Vec<f64>| -> Vec<f64> {
                    field.chunks(points[0] * row).flat_map(|c| &c[here.start * row..here.end * row]).copied().collect()
                };
                let [a, b] = [&predictions, &targets].map(|fields| fields.iter().map(part).collect::<Vec<_>>());
                let norm = Norm::Slabs(Box::new(Slabs::new(spec, &points, &rows, comm.rank())), 0.7);
                let found = norm.relative_of_parts(&a, &b.iter().collect::<Vec<_>>(), &comm).expect("an exchange");
                for ((error, slopes), (all, of)) in found.iter().zip(&expected) {
                    assert!((error - all).abs() < 1e-12 * (1.0 + all), "{points:?}: {error} {all}");
                    let most = of.iter().fold(1.0, |m: f64, v| m.max(v.abs()));
                    assert!(part(of).iter().zip(slopes).all(|(a, b)| (a - b).abs() < 1e-12 * most), "{points:?}");
                }
                Ok(comm.traffic().bytes as usize)
            });
            // Beside the sums of squares of three errors and targets.
            let sent = sent.into_iter().map(|bytes| bytes.expect("a rank"));
            assert_eq!(sent.max(), Some(8 * most + 8 * 6 * (rows.len() - 1)), "{points:?}");
        }
    }

    #[test]
    fn figures_are_those_of_their_formulas() {
        let (p, t) = ([1.0, 2.0, 2.0, 0.0], [1.0, 1.0, 2.0, -2.0]);
        let found = Figures::of::<f64>(&p, &t, 2, &Shells::new(&[2]));
        // Channels: errors (0, 1) of (1, 1) and (0, 2) of (2, −2).
        assert!((found.nrmse - 0.5 * (0.5f64.sqrt() + (2.0f64 / 4.0).sqrt())).abs() < 1e-12);
        let second = (2.0f64 / (4.0 + 1e-7)).sqrt();
        assert!((found.vrmse - 0.5 * ((0.5f64 / 1e-7).sqrt() + second)).abs() < 1e-6);
        assert!((found.largest - 1.0).abs() < 1e-12);
        // All modes of two points are below 4.
        assert!((found.bands[0] - (5.0f64 / 4.0).sqrt()).abs() < 1e-12 && found.bands[1] == 0.0);
    }
}
