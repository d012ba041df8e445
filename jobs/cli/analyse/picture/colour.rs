//! Values as colours.

use clap::ValueEnum;

use super::scene::Colour;

/// A colour map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ColourMap {
    /// Black to white.
    Gray,
    /// Perceptually uniform, readable without colour vision.
    Viridis,
    /// As viridis, and the same to all eyes.
    Cividis,
    /// Black through red to yellow.
    Inferno,
    /// Black through purple to white.
    Magma,
    /// Blue through purple to yellow.
    Plasma,
    /// The whole rainbow, evenly lit.
    Turbo,
    /// Blue, white at the middle, red: for differences.
    Diverging,
}

impl ColourMap {
    /// The colour of a share, 0 to 1.
    pub fn at(self, share: f64) -> Colour {
        let t = share.clamp(0.0, 1.0);
        let gradient = match self {
            Self::Gray => return [(255.0 * t).round() as u8; 3],
            Self::Viridis => colorous::VIRIDIS,
            Self::Cividis => colorous::CIVIDIS,
            Self::Inferno => colorous::INFERNO,
            Self::Magma => colorous::MAGMA,
            Self::Plasma => colorous::PLASMA,
            Self::Turbo => colorous::TURBO,
            Self::Diverging => return colorous::RED_BLUE.eval_continuous(1.0 - t).into_array(),
        };
        gradient.eval_continuous(t).into_array()
    }

    /// What is no number: a colour that the map does not have.
    pub fn not_a_number(self) -> (Colour, &'static str) {
        match self {
            Self::Turbo | Self::Diverging => ([120, 120, 120], "gray"),
            _ => ([220, 50, 47], "red"),
        }
    }
}

/// Where the colours begin and end: the given share of the finite `values` lies between.
pub fn percentiles(values: impl Iterator<Item = f32>, low: f64, high: f64) -> (f64, f64) {
    let mut finite: Vec<f32> = values.filter(|v| v.is_finite()).collect();
    if finite.is_empty() {
        return (0.0, 1.0);
    }
    let last = (finite.len() - 1) as f64;
    let mut pick =
        |share: f64| f64::from(*finite.select_nth_unstable_by((share * last).round() as usize, f32::total_cmp).1);
    let (mut from, mut to) = (pick(low), pick(high));
    if from >= to {
        // Nearly all values are the same: the others matter.
        (from, to) = (pick(0.0), pick(1.0));
    }
    if from >= to {
        let half = if from == 0.0 { 0.5 } else { from.abs() / 2.0 };
        (from, to) = (from - half, from + half);
    }
    (from, to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_leave_out_outliers_and_never_collapse() {
        let values = (0..1000).map(|i| if i == 7 { 1e9 } else { i as f32 }).chain([f32::NAN]);
        assert_eq!(percentiles(values, 0.005, 0.995), (5.0, 995.0));
        assert_eq!(percentiles([3.0; 9].into_iter(), 0.005, 0.995), (1.5, 4.5));
        let mut spike = vec![0.0; 1000];
        spike[3] = 2.0;
        assert_eq!(percentiles(spike.into_iter(), 0.005, 0.995), (0.0, 2.0));
    }

    #[test]
    fn zero_is_white_in_a_difference() {
        assert!(ColourMap::Diverging.at(0.5).iter().all(|&c| c > 230));
        assert!(ColourMap::Diverging.at(1.0)[0] > ColourMap::Diverging.at(1.0)[2]);
    }
}
