//! Which lines of k-space are measured.

use convoke_kernels::Philox;

use super::spec::{SamplingKind, SamplingSpec};

/// Stream of random numbers.
const LINES: u64 = 0x6c69_6e65_732e_6b79; // "lines.ky"

/// Numbers of the measured lines of `n`, in their order; the middle one is n/2.
///
/// Of n/acceleration lines the middle ones come first; uniform lines are at equal distances from the middle one, random ones anywhere else.
pub fn lines(sampling: Option<&SamplingSpec>, n: usize, seed: u64) -> Vec<usize> {
    let Some(sampling) = sampling else { return (0..n).collect() };
    let wanted = ((n as f64 / sampling.acceleration).round() as usize).clamp(1, n);
    let centre = ((sampling.centre_fraction * n as f64).round() as usize).min(n);
    let first = n / 2 - centre / 2;
    let middle = first..(first + centre).min(n);
    let mut chosen: Vec<usize> = middle.clone().collect();
    let mut others: Vec<usize> = (0..n).filter(|k| !middle.contains(k)).collect();
    let more = wanted.saturating_sub(chosen.len());
    match sampling.kind {
        SamplingKind::Uniform => {
            // The k-th of `more` lines at the middle of its share of what is left.
            let left = others.len();
            chosen.extend((0..more).map(|k| others[(2 * k + 1) * left / (2 * more)]));
        }
        SamplingKind::Random => {
            let random = Philox::new(seed, LINES);
            others.sort_by(|a, b| random.uniform(*a as u64).total_cmp(&random.uniform(*b as u64)));
            chosen.extend(&others[..more.min(others.len())]);
        }
    }
    chosen.sort_unstable();
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As many as asked for, each once, the middle ones among them; random ones another set for another seed.
    #[test]
    fn lines_are_as_many_as_asked_for() {
        for (n, acceleration, centre_fraction) in [(64, 4.0, 0.08), (65, 3.0, 0.1), (320, 8.0, 0.04), (7, 2.0, 0.0)] {
            for kind in [SamplingKind::Uniform, SamplingKind::Random] {
                let sampling = SamplingSpec { kind, acceleration, centre_fraction };
                let found = lines(Some(&sampling), n, 3);
                assert_eq!(found.len(), (n as f64 / acceleration).round() as usize, "{n} {kind:?}");
                assert!(found.windows(2).all(|pair| pair[0] < pair[1]) && found[found.len() - 1] < n, "{found:?}");
                let centre = (centre_fraction * n as f64).round() as usize;
                let middle = n / 2 - centre / 2..n / 2 - centre / 2 + centre;
                assert!(middle.clone().all(|k| found.contains(&k)), "{found:?} without all of {middle:?}");
                let other = lines(Some(&sampling), n, 4);
                assert_eq!(found == other, kind == SamplingKind::Uniform || n == 7 && found == other);
            }
        }
        assert_eq!(lines(None, 5, 1), [0, 1, 2, 3, 4]);
    }
}
