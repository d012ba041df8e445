//! Mean, deviation and bands of samples, without keeping them all.

/// Part of the samples below the lower band, and above the upper one.
const TAIL: f64 = 0.05;

/// What so many samples of volumes have in common.
#[derive(Debug, Clone)]
pub struct Tally {
    samples: u64,
    /// Means so far.
    pub mean: Vec<f32>,
    /// Sums of squared deviations from them (Welford 1962).
    squares: Vec<f32>,
    /// The smallest values, from the smallest on: as many as the band needs.
    least: Vec<Vec<f32>>,
    /// The largest ones, from the largest on.
    most: Vec<Vec<f32>>,
    added: Vec<f32>,
}

const LEAST: [&str; 8] = ["least_0", "least_1", "least_2", "least_3", "least_4", "least_5", "least_6", "least_7"];
const MOST: [&str; 8] = ["most_0", "most_1", "most_2", "most_3", "most_4", "most_5", "most_6", "most_7"];
/// Samples for which `LEAST` has names.
pub const MOST_SAMPLES: u64 = 120;

impl Tally {
    /// For `samples` volumes of `len` voxels.
    pub fn new(samples: u64, len: usize) -> Self {
        // The order statistics on both sides of the place.
        let kept = ((TAIL * (samples.saturating_sub(1)) as f64) as usize + 2).min(samples as usize).min(LEAST.len());
        Self {
            samples,
            mean: vec![0.0; len],
            squares: vec![0.0; len],
            least: vec![vec![0.0; len]; kept],
            most: vec![vec![0.0; len]; kept],
            added: vec![0.0; len],
        }
    }

    /// Samples added so far.
    fn count(&self) -> u64 {
        self.added.first().map_or(0, |n| *n as u64)
    }

    /// Adds a volume.
    pub fn add(&mut self, volume: &[f32]) {
        let before = self.count();
        let n = before as f32 + 1.0;
        self.added.fill(n);
        for ((mean, squares), v) in self.mean.iter_mut().zip(&mut self.squares).zip(volume) {
            let off = v - *mean;
            *mean += off / n;
            *squares += off * (v - *mean);
        }
        insert(&mut self.least, before, volume, |a, b| a < b);
        insert(&mut self.most, before, volume, |a, b| a > b);
    }

    /// Standard deviations, of n − 1 degrees of freedom.
    pub fn deviation(&self) -> Vec<f32> {
        let n = self.count().saturating_sub(1).max(1) as f32;
        self.squares.iter().map(|s| (s / n).sqrt()).collect()
    }

    /// Below this are 5 % of the samples: between order statistics linearly (Hyndman and Fan 1996, definition 7).
    pub fn low(&self) -> Vec<f32> {
        band(&self.least, self.count())
    }

    /// Above this are 5 % of the samples.
    pub fn high(&self) -> Vec<f32> {
        band(&self.most, self.count())
    }

    /// All of it, by name.
    pub fn state(&mut self) -> Vec<(&'static str, &mut Vec<f32>)> {
        let mut all = vec![("mean", &mut self.mean), ("squares", &mut self.squares), ("added", &mut self.added)];
        all.extend(LEAST.into_iter().zip(&mut self.least));
        all.extend(MOST.into_iter().zip(&mut self.most));
        all
    }

    /// Arrays as large as a volume that it keeps.
    pub fn arrays(samples: u64) -> u64 {
        if samples > 1 { 3 + 2 * Self::new(samples, 0).least.len() as u64 } else { 0 }
    }

    /// Samples that there will be.
    pub fn samples(&self) -> u64 {
        self.samples
    }
}

/// Puts values into sorted lists of which the last one falls out.
fn insert(lists: &mut [Vec<f32>], before: u64, volume: &[f32], first: fn(f32, f32) -> bool) {
    for (i, v) in volume.iter().enumerate() {
        let mut v = *v;
        for (k, list) in lists.iter_mut().enumerate() {
            if k as u64 >= before {
                list[i] = v;
                break;
            }
            if first(v, list[i]) {
                std::mem::swap(&mut v, &mut list[i]);
            }
        }
    }
}

fn band(lists: &[Vec<f32>], count: u64) -> Vec<f32> {
    let place = TAIL * count.saturating_sub(1) as f64;
    let (below, part) = (place as usize, place.fract() as f32);
    let above = (below + 1).min(lists.len() - 1).min(count.saturating_sub(1) as usize);
    lists[below].iter().zip(&lists[above]).map(|(a, b)| a + part * (b - a)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use convoke_kernels::Philox;

    /// Moments and bands are those of all samples, sorted; bands as of numpy's `quantile`.
    #[test]
    fn a_tally_is_that_of_all_samples() {
        for samples in [2u64, 5, 21, 47, 120] {
            let volume =
                |k: u64| -> Vec<f32> { (0..7).map(|i| (Philox::new(3, k).normal(i) + i as f64) as f32).collect() };
            let mut tally = Tally::new(samples, 7);
            (0..samples).for_each(|k| tally.add(&volume(k)));
            let (deviation, low, high) = (tally.deviation(), tally.low(), tally.high());
            for i in 0..7 {
                let mut all: Vec<f64> = (0..samples).map(|k| f64::from(volume(k)[i])).collect();
                all.sort_by(f64::total_cmp);
                let n = samples as f64;
                let mean = all.iter().sum::<f64>() / n;
                let spread = (all.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt();
                let quantile = |q: f64| {
                    let place = q * (n - 1.0);
                    let (a, b) = (all[place.floor() as usize], all[place.ceil() as usize]);
                    a + place.fract() * (b - a)
                };
                for (found, due) in
                    [(tally.mean[i], mean), (deviation[i], spread), (low[i], quantile(0.05)), (high[i], quantile(0.95))]
                {
                    assert!((f64::from(found) - due).abs() < 1e-5, "{samples} {i}: {found} {due}");
                }
            }
        }
    }
}
