//! From raw counts to transmissions T = (I − D) / (F − D), and to line integrals p = −ln T.
//!
//! I raw counts, D mean of the frames without beam, F beam without sample. Every detector row
//! depends on itself only, so any band of rows gives the same numbers.

use rayon::prelude::*;

/// Raw counts of a band of detector rows, row-major.
#[derive(Clone, Copy, Debug)]
pub struct RawBand<'a> {
    /// `[n_angles, n_rows, n_cols]`.
    pub projections: &'a [f32],
    /// `[n_white, n_rows, n_cols]`, beam without sample.
    pub white: &'a [f32],
    /// `[n_dark, n_rows, n_cols]`, no beam; empty means zeros.
    pub dark: &'a [f32],
    /// `[n_angles, n_rows, n_cols]`.
    pub shape: [usize; 3],
    /// Detector row of the band's first row, for error messages.
    pub first_row: usize,
    /// Number of the first projection, and how many the scan has: white frames are weighed by where a projection lies between them.
    pub angles: (usize, usize),
}

/// When the white frames were taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhiteBlocks {
    /// One mean serves all angles.
    Mean,
    /// The first `n_before` before the scan, the others after it: F goes linearly from the mean of
    /// one block to that of the other.
    BeforeAfter {
        /// Frames before the scan, at least 1 and less than all.
        n_before: usize,
    },
}

/// How to normalise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NormaliseParams {
    /// When the white frames were taken.
    pub whites: WhiteBlocks,
    /// T is raised to at least this before the logarithm, > 0.
    pub min_transmission: f32,
    /// A value is hot when it differs by more than this from the median of itself and its two
    /// neighbours in the row; `None` leaves them.
    pub hot_threshold: Option<f32>,
    /// A pixel is dead when F − D is below this part of the median of its row.
    pub dead_fraction: f32,
}

impl Default for NormaliseParams {
    fn default() -> Self {
        Self { whites: WhiteBlocks::Mean, min_transmission: 1e-4, hot_threshold: Some(0.3), dead_fraction: 0.02 }
    }
}

/// What was repaired.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NormaliseReport {
    /// Detector pixels replaced in every projection by interpolation along their row.
    pub dead_pixels: u64,
    /// Single values replaced by interpolation along their row.
    pub hot_values: u64,
    /// Values raised to the smallest transmission.
    pub clipped_values: u64,
}

impl NormaliseReport {
    /// Adds another's counts.
    pub fn add(&mut self, other: &Self) {
        self.dead_pixels += other.dead_pixels;
        self.hot_values += other.hot_values;
        self.clipped_values += other.clipped_values;
    }
}

/// Why a band cannot be normalised.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NormaliseError {
    /// No frame without sample.
    #[error("there are no white fields: the projections cannot be divided by the beam")]
    NoWhite,
    /// A row without beam.
    #[error(
        "detector row {row}: the white field is not above the dark field; check the shutter, or leave this row out with `rows`"
    )]
    NoBeam {
        /// Detector row.
        row: usize,
    },
    /// A row without beam beside those in use.
    #[error(
        "detector row {row}: the white field is not above the dark field; phase retrieval needs it, {reach} rows beside `rows`"
    )]
    NoBeamBeside {
        /// Detector row.
        row: usize,
        /// Rows that it needs.
        reach: usize,
    },
    /// NaN or infinity in the raw data.
    #[error("{frames}: a count is NaN or infinite at frame {frame}, row {row}, column {column}")]
    NonFinite {
        /// Which stack.
        frames: &'static str,
        /// Frame of the stack.
        frame: usize,
        /// Detector row.
        row: usize,
        /// Detector column.
        column: usize,
    },
    /// `n_before` leaves no frame before or after.
    #[error("{n_before} white frames before the scan leave none for one side: the file has {n_white}")]
    BadBlocks {
        /// Frames before.
        n_before: usize,
        /// All frames.
        n_white: usize,
    },
}

/// Line integrals of a band in sinogram order, `[n_rows, n_angles, n_cols]`, and what was repaired.
///
/// # Errors
/// See [`NormaliseError`].
///
/// # Panics
/// A length does not fit `shape`, or `min_transmission` is not positive.
pub fn normalise(raw: &RawBand<'_>, params: &NormaliseParams) -> Result<(Vec<f32>, NormaliseReport), NormaliseError> {
    let (mut values, rows) = transmissions(raw, params)?;
    values.par_iter_mut().for_each(|t| *t = -t.ln());
    let mut report = NormaliseReport::default();
    rows.iter().for_each(|row| report.add(row));
    Ok((values, report))
}

/// Transmissions of a band in sinogram order, `[n_rows, n_angles, n_cols]`, at least `min_transmission`, and what was repaired in each row.
///
/// # Errors
/// See [`NormaliseError`].
///
/// # Panics
/// As [`normalise`].
pub fn transmissions(
    raw: &RawBand<'_>,
    params: &NormaliseParams,
) -> Result<(Vec<f32>, Vec<NormaliseReport>), NormaliseError> {
    let [n_angles, n_rows, n_cols] = raw.shape;
    assert!(params.min_transmission > 0.0, "the logarithm needs a positive transmission");
    assert_eq!(raw.projections.len(), n_angles * n_rows * n_cols, "projections must fit the shape");
    assert_eq!(raw.white.len() % (n_rows * n_cols).max(1), 0, "white frames must fit the shape");
    assert_eq!(raw.dark.len() % (n_rows * n_cols).max(1), 0, "dark frames must fit the shape");
    let n_white = raw.white.len() / (n_rows * n_cols).max(1);
    match params.whites {
        _ if n_white == 0 => return Err(NormaliseError::NoWhite),
        WhiteBlocks::BeforeAfter { n_before } if n_before == 0 || n_before >= n_white => {
            return Err(NormaliseError::BadBlocks { n_before, n_white });
        }
        _ => {}
    }
    for (frames, values) in [("projections", raw.projections), ("white", raw.white), ("dark", raw.dark)] {
        if let Some(flat) = values.par_iter().position_first(|value| !value.is_finite()) {
            let first = if frames == "projections" { raw.angles.0 } else { 0 };
            let (frame, row) = (first + flat / (n_rows * n_cols), raw.first_row + flat / n_cols % n_rows);
            return Err(NormaliseError::NonFinite { frames, frame, row, column: flat % n_cols });
        }
    }
    let mut sinograms = vec![0.0; raw.projections.len()];
    // Collected before any is looked at, so that the error is that of the first bad row.
    let reports: Vec<Result<NormaliseReport, NormaliseError>> = sinograms
        .par_chunks_mut((n_angles * n_cols).max(1))
        .enumerate()
        .map(|(row, sinogram)| normalise_row(raw, params, row, sinogram))
        .collect();
    Ok((sinograms, reports.into_iter().collect::<Result<_, _>>()?))
}

/// One detector row: its transmissions `[n_angles, n_cols]`.
fn normalise_row(
    raw: &RawBand<'_>,
    params: &NormaliseParams,
    row: usize,
    sinogram: &mut [f32],
) -> Result<NormaliseReport, NormaliseError> {
    let [_, n_rows, n_cols] = raw.shape;
    let (first_angle, all_angles) = raw.angles;
    let frame = |stack, k| line(stack, [n_rows, n_cols], k, row);
    let n_white = raw.white.len() / (n_rows * n_cols);
    let n_dark = raw.dark.len() / (n_rows * n_cols);
    let dark = mean((0..n_dark).map(|k| frame(raw.dark, k)), n_cols);
    let n_before = match params.whites {
        WhiteBlocks::Mean => n_white,
        WhiteBlocks::BeforeAfter { n_before } => n_before,
    };
    let beam = |block: std::ops::Range<usize>| -> Vec<f64> {
        let white = mean(block.map(|k| frame(raw.white, k)), n_cols);
        white.iter().zip(&dark).map(|(f, d)| f - d).collect()
    };
    let first = beam(0..n_before);
    let last = if n_before < n_white { beam(n_before..n_white) } else { first.clone() };
    let weakest: Vec<f64> = first.iter().zip(&last).map(|(a, b)| a.min(*b)).collect();
    let typical = median(&weakest);
    if typical.is_nan() || typical <= 0.0 {
        return Err(NormaliseError::NoBeam { row: raw.first_row + row });
    }
    let threshold = f64::from(params.dead_fraction) * typical;
    let dead: Vec<bool> = weakest.iter().map(|&beam| beam <= 0.0 || beam < threshold).collect();
    let n_dead = dead.iter().filter(|&&dead| dead).count() as u64;
    let mut report = NormaliseReport { dead_pixels: n_dead, ..Default::default() };
    let mut hot = vec![false; n_cols];
    // Per value: 4 bytes read, 4 written, about 10 flops.
    for (k, p) in sinogram.chunks_mut(n_cols).enumerate() {
        let w = (first_angle + k) as f64 / (all_angles - 1).max(1) as f64;
        for (j, (t, &i)) in p.iter_mut().zip(frame(raw.projections, k)).enumerate() {
            let beam = (1.0 - w) * first[j] + w * last[j];
            *t = ((f64::from(i) - dark[j]) / beam) as f32; // T = (I - D) / (F - D)
        }
        if n_dead > 0 {
            interpolate(p, &dead);
        }
        if let Some(threshold) = params.hot_threshold {
            let found = mark_hot(p, threshold, &mut hot);
            if found > 0 {
                interpolate(p, &hot);
                report.hot_values += found;
            }
        }
        for t in p {
            if *t < params.min_transmission {
                *t = params.min_transmission;
                report.clipped_values += 1;
            }
        }
    }
    Ok(report)
}

/// Row `row` of frame `k` of a stack `[n, n_rows, n_cols]`.
fn line(stack: &[f32], [n_rows, n_cols]: [usize; 2], k: usize, row: usize) -> &[f32] {
    &stack[(k * n_rows + row) * n_cols..][..n_cols]
}

/// Mean of the lines; zeros without any.
fn mean<'a>(lines: impl Iterator<Item = &'a [f32]>, n_cols: usize) -> Vec<f64> {
    let mut sum = vec![0.0; n_cols];
    let mut n = 0_u32;
    for line in lines {
        n += 1;
        for (sum, &value) in sum.iter_mut().zip(line) {
            *sum += f64::from(value);
        }
    }
    sum.iter().map(|sum| sum / f64::from(n.max(1))).collect()
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Marks values far from the median of three neighbours; returns how many.
fn mark_hot(line: &[f32], threshold: f32, hot: &mut [bool]) -> u64 {
    hot.fill(false);
    if line.len() < 3 {
        return 0;
    }
    for (j, hot) in hot.iter_mut().enumerate() {
        let middle = j.clamp(1, line.len() - 2); // at the ends, the three outermost
        let [a, b, c] = [line[middle - 1], line[middle], line[middle + 1]];
        let median3 = a.min(b).max(a.max(b).min(c));
        *hot = (line[j] - median3).abs() > threshold;
    }
    hot.iter().filter(|&&hot| hot).count() as u64
}

/// Replaces bad values by the straight line between the nearest good ones; at the ends by the
/// nearest. Leaves a line without good values.
fn interpolate(line: &mut [f32], bad: &[bool]) {
    let mut before: Option<usize> = None;
    let mut j = 0;
    while j < line.len() {
        if !bad[j] {
            before = Some(j);
            j += 1;
            continue;
        }
        let after = (j..line.len()).find(|&k| !bad[k]);
        let end = after.unwrap_or(line.len());
        for k in j..end {
            line[k] = match (before, after) {
                (Some(a), Some(b)) => line[a] + (line[b] - line[a]) * (k - a) as f32 / (b - a) as f32,
                (Some(only), None) | (None, Some(only)) => line[only],
                (None, None) => line[k],
            };
        }
        j = end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A smooth band with beam 1000 + 10 j and dark 100: [n_angles, n_rows, n_cols] = [4, 3, 8].
    fn band() -> (Vec<f32>, Vec<f32>, Vec<f32>, [usize; 3]) {
        let shape = [4, 3, 8];
        let white: Vec<f32> = (0..2 * 24).map(|k| 1000.0 + 10.0 * (k % 8) as f32).collect();
        let dark = vec![100.0; 24];
        let projections = (0..96)
            .map(|k| {
                let beam = 900.0 + 10.0 * (k % 8) as f32;
                100.0 + beam * (-0.1 * (1 + k / 24) as f32 - 0.01 * (k / 8 % 3) as f32).exp()
            })
            .collect();
        (projections, white, dark, shape)
    }

    fn raw<'a>(p: &'a [f32], w: &'a [f32], d: &'a [f32], shape: [usize; 3]) -> RawBand<'a> {
        RawBand { projections: p, white: w, dark: d, shape, first_row: 0, angles: (0, shape[0]) }
    }

    #[test]
    fn known_attenuation_comes_back_in_sinogram_order() {
        let (p, w, d, shape) = band();
        let (sinograms, report) = normalise(&raw(&p, &w, &d, shape), &NormaliseParams::default()).unwrap();
        assert_eq!(report, NormaliseReport::default());
        for (k, value) in sinograms.iter().enumerate() {
            let (row, angle) = (k / 32, k / 8 % 4);
            let expected = 0.1 * (1 + angle) as f32 + 0.01 * row as f32;
            assert!((value - expected).abs() < 1e-5, "{k}: {value} {expected}");
        }
    }

    #[test]
    fn a_row_depends_on_itself_only() {
        let (mut p, w, d, shape) = band();
        p[3] = 5000.0; // a zinger in row 0
        p[24 + 8 + 3] = 5000.0; // and one in row 1
        let (all, _) = normalise(&raw(&p, &w, &d, shape), &NormaliseParams::default()).unwrap();
        let row = |stack: &[f32]| stack.chunks(24).flat_map(|f| f[8..16].to_vec()).collect::<Vec<_>>();
        let (p1, w1, d1) = (row(&p), row(&w), row(&d));
        let one = RawBand { projections: &p1, white: &w1, dark: &d1, shape: [4, 1, 8], first_row: 1, angles: (0, 4) };
        let (one, report) = normalise(&one, &NormaliseParams::default()).unwrap();
        assert_eq!(one, all[32..64]);
        assert_eq!(report.hot_values, 1);
        assert!((one[8 + 3] - 0.21).abs() < 1e-4);
    }

    #[test]
    fn whites_before_and_after_follow_a_decaying_beam() {
        let p: Vec<f32> = [1000.0, 900.0, 800.0].iter().flat_map(|&b| [b * 0.5; 4]).collect();
        let w: Vec<f32> = [1000.0, 1000.0, 800.0].iter().flat_map(|&b| [b; 4]).collect();
        let params = NormaliseParams { whites: WhiteBlocks::BeforeAfter { n_before: 2 }, ..Default::default() };
        let (sinogram, _) = normalise(&raw(&p, &w, &[], [3, 1, 4]), &params).unwrap();
        assert!(sinogram.iter().all(|p| (p - std::f32::consts::LN_2).abs() < 1e-6), "{sinogram:?}");
        let params = NormaliseParams { whites: WhiteBlocks::BeforeAfter { n_before: 3 }, ..params };
        let error = normalise(&raw(&p, &w, &[], [3, 1, 4]), &params).unwrap_err();
        assert_eq!(error, NormaliseError::BadBlocks { n_before: 3, n_white: 3 });
    }

    #[test]
    fn dead_pixels_are_bridged_and_counted() {
        let (mut p, mut w, d, shape) = band();
        for k in 0..4 {
            (p[k * 24], p[k * 24 + 4], p[k * 24 + 5]) = (0.0, 100.0, 60_000.0);
        }
        for k in 0..2 {
            (w[k * 24], w[k * 24 + 4], w[k * 24 + 5]) = (0.0, 100.0, 101.0);
        }
        let (sinograms, report) = normalise(&raw(&p, &w, &d, shape), &NormaliseParams::default()).unwrap();
        assert_eq!(report.dead_pixels, 3);
        assert!(sinograms[..8].iter().all(|p| (p - 0.1).abs() < 1e-5), "{:?}", &sinograms[..8]);
    }

    #[test]
    fn opaque_pixels_are_clipped_and_counted() {
        let (mut p, w, d, shape) = band();
        p[..8].fill(50.0); // below the dark field
        let (sinograms, report) = normalise(&raw(&p, &w, &d, shape), &NormaliseParams::default()).unwrap();
        assert_eq!(report.clipped_values, 8);
        assert!((sinograms[0] - 1e4_f32.ln()).abs() < 1e-4);
    }

    #[test]
    fn unusable_bands_say_why() {
        let (mut p, w, d, shape) = band();
        let params = NormaliseParams::default();
        assert_eq!(normalise(&raw(&p, &[], &d, shape), &params).unwrap_err(), NormaliseError::NoWhite);
        let zero = vec![0.0; 48];
        let error = normalise(&RawBand { first_row: 5, ..raw(&p, &zero, &[], shape) }, &params).unwrap_err();
        assert_eq!(error, NormaliseError::NoBeam { row: 5 });
        p[24 + 8 + 2] = f32::NAN;
        let error = normalise(&raw(&p, &w, &d, shape), &params).unwrap_err();
        assert_eq!(error, NormaliseError::NonFinite { frames: "projections", frame: 1, row: 1, column: 2 });
    }
}
