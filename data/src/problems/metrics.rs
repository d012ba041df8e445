//! How far a reconstruction is from the truth.
//!
//! All sums are f64. [`Comparison`] holds sums, so bands of slices are compared one by one and
//! merged: the result does not depend on the cut beyond rounding.

/// Which voxels of a slice count.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mask {
    /// All.
    All,
    /// Those whose centre lies in the cylinder about z of this radius, as a share of the inscribed
    /// one (1.0). Parallel-beam data say nothing reliable outside.
    Cylinder {
        /// Radius / (min(nx, ny) / 2).
        radius: f64,
    },
}

impl Mask {
    /// The inscribed cylinder.
    pub const INSCRIBED: Self = Self::Cylinder { radius: 1.0 };

    /// Whether the voxel (iy, ix) of a slice [ny, nx] counts.
    pub fn contains(self, [ny, nx]: [usize; 2], [iy, ix]: [usize; 2]) -> bool {
        match self {
            Self::All => true,
            Self::Cylinder { radius } => {
                let y = iy as f64 - (ny as f64 - 1.0) / 2.0;
                let x = ix as f64 - (nx as f64 - 1.0) / 2.0;
                let limit = radius * ny.min(nx) as f64 / 2.0;
                x * x + y * y <= limit * limit
            }
        }
    }
}

/// Sums over the voxels compared so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Comparison {
    /// Voxels that counted.
    pub n: u64,
    /// Σ (recon − truth)².
    pub error2: f64,
    /// Σ truth².
    pub truth2: f64,
    /// max |recon − truth|; NaN once a NaN was met.
    pub max_abs: f64,
}

impl Comparison {
    /// Compares `recon` with `truth`, both `[n_slices, ny, nx]` row-major.
    ///
    /// # Panics
    /// The lengths differ or are no multiple of ny · nx.
    pub fn of(recon: &[f32], truth: &[f32], [ny, nx]: [usize; 2], mask: Mask) -> Self {
        assert_eq!(recon.len(), truth.len(), "recon and truth must have the same shape");
        assert!(ny * nx > 0 && recon.len().is_multiple_of(ny * nx), "the length is no multiple of a slice");
        let mut sums = Self::default();
        for (recon, truth) in recon.chunks(ny * nx).zip(truth.chunks(ny * nx)) {
            for (flat, (&r, &t)) in recon.iter().zip(truth).enumerate() {
                if mask.contains([ny, nx], [flat / nx, flat % nx]) {
                    sums.add(f64::from(r), f64::from(t));
                }
            }
        }
        sums
    }

    fn add(&mut self, recon: f64, truth: f64) {
        let error = recon - truth;
        self.n += 1;
        self.error2 += error * error;
        self.truth2 += truth * truth;
        self.max_abs = max_or_nan(self.max_abs, error.abs());
    }

    /// The sums over both sets of voxels.
    #[must_use]
    pub fn merged(self, other: Self) -> Self {
        Self {
            n: self.n + other.n,
            error2: self.error2 + other.error2,
            truth2: self.truth2 + other.truth2,
            max_abs: max_or_nan(self.max_abs, other.max_abs),
        }
    }

    /// Root mean square error, in the unit of the values.
    pub fn rmse(&self) -> f64 {
        (self.error2 / self.n as f64).sqrt()
    }

    /// ‖recon − truth‖ / ‖truth‖.
    pub fn rel_l2(&self) -> f64 {
        (self.error2 / self.truth2).sqrt()
    }

    /// Peak signal-to-noise ratio in dB: 20 log10(peak / rmse). Infinite for equal volumes.
    pub fn psnr(&self, peak: f64) -> f64 {
        20.0 * (peak / self.rmse()).log10()
    }
}

fn max_or_nan(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hand_sized_numbers() {
        let (recon, truth) = ([1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 2.0]);
        let found = Comparison::of(&recon, &truth, [2, 2], Mask::All);
        assert_eq!((found.n, found.max_abs, found.rmse()), (4, 2.0, 1.0));
        assert!((found.rel_l2() - (4.0_f64 / 18.0).sqrt()).abs() < 1e-15);
        assert!((found.psnr(10.0) - 20.0).abs() < 1e-12);
        assert_eq!(Comparison::of(&truth, &truth, [2, 2], Mask::All).psnr(1.0), f64::INFINITY);
    }

    #[test]
    fn the_mask_leaves_the_corners_out() {
        let inside = (0..100).filter(|k| Mask::INSCRIBED.contains([10, 10], [k / 10, k % 10])).count();
        assert!((70..=88).contains(&inside), "{inside}"); // π/4 of 100
        assert!(!Mask::INSCRIBED.contains([10, 10], [0, 0]));
        let mut recon = vec![0.0; 200];
        recon[0] = 9.0;
        assert_eq!(Comparison::of(&recon, &[0.0; 200], [10, 10], Mask::INSCRIBED).max_abs, 0.0);
    }

    #[test]
    fn bands_merge_and_nan_is_not_hidden() {
        let recon: Vec<f32> = (0..48).map(|k| k as f32).collect();
        let truth = vec![1.0; 48];
        let all = Comparison::of(&recon, &truth, [4, 4], Mask::All);
        let split = Comparison::of(&recon[..16], &truth[..16], [4, 4], Mask::All).merged(Comparison::of(
            &recon[16..],
            &truth[16..],
            [4, 4],
            Mask::All,
        ));
        assert_eq!(all, split);
        let nan = Comparison::of(&[f32::NAN, 1.0], &[0.0, 0.0], [1, 2], Mask::All);
        assert!(nan.max_abs.is_nan() && nan.rmse().is_nan());
    }
}
