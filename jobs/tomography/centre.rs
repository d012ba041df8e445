//! Where the rotation axis projects to, found from the sinogram itself.
//!
//! Columns are 0-based at pixel centres; (n_cols − 1)/2 is the detector's middle. A view at θ + π is
//! the view at θ mirrored about the axis: p(θ + π, u) = p(θ, 2c − u). A full turn has such pairs and
//! c minimises their difference. Half a turn is completed with its mirror image; when c is right the
//! Fourier transform of the whole lies in a double wedge, and c minimises what lies outside.
//!
//! Source: N. T. Vo et al., Optics Express 22 (2014) 19078.

use std::f64::consts::PI;

use rayon::prelude::*;
use rustfft::{FftPlanner, num_complex::Complex};

/// How to search.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CentreParams {
    /// Half width in columns of the coarse search about the first guess; at most a sixteenth of the
    /// detector.
    pub reach: usize,
    /// Step in columns of the fine search.
    pub fine_step: f64,
    /// Radius of the object as part of the detector's width, which opens the double wedge.
    pub object_radius: f64,
}

impl Default for CentreParams {
    fn default() -> Self {
        Self { reach: 50, fine_step: 0.25, object_radius: 0.25 }
    }
}

/// The axis and how it was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Centre {
    /// Column of the axis.
    pub column: f64,
    /// First guess, from the first view and the mirrored opposite one.
    pub guess: f64,
    /// (column, score) of every candidate in increasing order; lower is better.
    pub search: Vec<(f64, f64)>,
}

/// Why no axis can be found.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CentreError {
    /// Less than half a turn.
    #[error("the views cover {degrees:.1} degrees, finding the rotation axis needs about 180: give its column")]
    ArcTooShort {
        /// Covered arc.
        degrees: f64,
    },
    /// Nothing to see.
    #[error("the sinogram is constant: finding the rotation axis needs an object in this slice")]
    Constant,
    /// Too few numbers.
    #[error("{n_angles} views of {n_cols} columns are too few to find the rotation axis: give its column")]
    TooSmall {
        /// Views.
        n_angles: usize,
        /// Columns.
        n_cols: usize,
    },
}

/// Finds the axis of one sinogram of line integrals `[n_angles, n_cols]`, row-major, whose views
/// were taken at `angles_rad` (any order, about equally spaced over half a turn or a full one).
///
/// # Errors
/// See [`CentreError`].
///
/// # Panics
/// The lengths do not fit.
pub fn find(sinogram: &[f32], n_cols: usize, angles_rad: &[f64], params: &CentreParams) -> Result<Centre, CentreError> {
    let n_angles = angles_rad.len();
    assert_eq!(sinogram.len(), n_angles * n_cols, "a sinogram is [n_angles, n_cols]");
    if n_angles < 8 || n_cols < 8 {
        return Err(CentreError::TooSmall { n_angles, n_cols });
    }
    if sinogram.iter().all(|&value| value == sinogram[0]) {
        return Err(CentreError::Constant);
    }
    let mut order: Vec<usize> = (0..n_angles).collect();
    order.sort_by(|&a, &b| angles_rad[a].total_cmp(&angles_rad[b]));
    let angles: Vec<f64> = order.iter().map(|&k| angles_rad[k] - angles_rad[order[0]]).collect();
    let views: Vec<&[f32]> = order.iter().map(|&k| &sinogram[k * n_cols..][..n_cols]).collect();
    let step = angles[n_angles - 1] / (n_angles - 1) as f64;
    let arc = angles[n_angles - 1] + step;
    if arc < 0.95 * PI {
        return Err(CentreError::ArcTooShort { degrees: arc.to_degrees() });
    }
    // The view nearest to half a turn after the first is its mirror image.
    let opposite = (0..n_angles)
        .min_by(|&a, &b| (angles[a] - PI).abs().total_cmp(&(angles[b] - PI).abs()))
        .unwrap_or(n_angles - 1);
    let guess = guess(&[(views[0], views[opposite])], n_cols);
    let score: Box<dyn Fn(f64) -> f64 + Sync> = if arc > 1.9 * PI {
        let pairs = opposite_views(&views, &angles);
        Box::new(move |centre| mismatch(&pairs, centre))
    } else {
        // Views of the first half turn only: one at 180° repeats the first.
        let half: Vec<&[f32]> = (0..n_angles).filter(|&k| angles[k] < PI - 0.5 * step).map(|k| views[k]).collect();
        let wedge = DoubleWedge::new(&half, n_cols, params.object_radius);
        Box::new(move |centre| wedge.outside(centre))
    };
    Ok(search(guess, n_cols, params, score.as_ref()))
}

/// Coarse search in whole columns about `guess`, fine search about its minimum, parabola at the end.
fn search(guess: f64, n_cols: usize, params: &CentreParams, score: &(dyn Fn(f64) -> f64 + Sync)) -> Centre {
    let inside = |column: f64| (column > 1.0 && column < n_cols as f64 - 2.0).then_some(column);
    let evaluate = |columns: Vec<f64>| -> Vec<(f64, f64)> {
        columns.into_par_iter().map(|column| (column, score(column))).collect()
    };
    // Far from the guess the completed turn is mostly filling, and the score means little.
    let reach = params.reach.min((n_cols / 16).max(6)) as i64;
    let mut found = evaluate((-reach..=reach).filter_map(|k| inside(guess.round() + k as f64)).collect());
    let best = minimum(&found).unwrap_or(guess);
    let steps = (2.0 / params.fine_step).ceil() as i64;
    let fine = evaluate((-steps..=steps).filter_map(|k| inside(best + k as f64 * params.fine_step)).collect());
    let column = vertex(&fine).unwrap_or(best);
    found.extend(fine);
    found.sort_by(|a, b| a.0.total_cmp(&b.0));
    found.dedup_by(|a, b| a.0 == b.0);
    Centre { column, guess, search: found }
}

fn minimum(scores: &[(f64, f64)]) -> Option<f64> {
    scores.iter().min_by(|a, b| a.1.total_cmp(&b.1)).map(|&(column, _)| column)
}

/// Vertex of the parabola through the smallest of equally spaced scores and its neighbours.
fn vertex(scores: &[(f64, f64)]) -> Option<f64> {
    let k = (0..scores.len()).min_by(|&a, &b| scores[a].1.total_cmp(&scores[b].1))?;
    let Some(&[(x, a), (y, b), (_, c)]) =
        k.checked_sub(1).and_then(|k| scores.get(k..k + 3)).and_then(|s| s.first_chunk::<3>())
    else {
        return Some(scores[k].0);
    };
    let curvature = a - 2.0 * b + c;
    Some(if curvature > 0.0 { y + 0.5 * (a - c) / curvature * (y - x) } else { y })
}

/// Axis that best maps the first view of each pair onto the mirrored second, to half a column, by
/// the normalised correlation of the overlap; refined by a parabola.
fn guess(pairs: &[(&[f32], &[f32])], n_cols: usize) -> f64 {
    // p(u) = q(s - u) with s = 2c; at least half of the detector overlaps.
    let first = n_cols / 2;
    let scores: Vec<(f64, f64)> = (first..2 * n_cols - 1 - first)
        .map(|s| {
            let columns = s.saturating_sub(n_cols - 1)..=s.min(n_cols - 1);
            let values = pairs.iter().flat_map(|(p, q)| columns.clone().map(move |u| (p[u], q[s - u])));
            (s as f64 / 2.0, -correlation(values))
        })
        .collect();
    vertex(&scores).unwrap_or((n_cols as f64 - 1.0) / 2.0)
}

fn correlation(values: impl Iterator<Item = (f32, f32)>) -> f64 {
    let [mut n, mut a, mut b, mut aa, mut bb, mut ab] = [0.0_f64; 6];
    for (p, q) in values {
        let (p, q) = (f64::from(p), f64::from(q));
        (n, a, b) = (n + 1.0, a + p, b + q);
        (aa, bb, ab) = (aa + p * p, bb + q * q, ab + p * q);
    }
    let variance = (aa - a * a / n) * (bb - b * b / n);
    if variance > 0.0 { (ab - a * b / n) / variance.sqrt() } else { 0.0 }
}

/// Each view of the first half turn with the one half a turn later, interpolated in angle.
fn opposite_views(views: &[&[f32]], angles: &[f64]) -> Vec<(Vec<f32>, Vec<f32>)> {
    let mut pairs = Vec::new();
    for (view, &angle) in views.iter().zip(angles).take_while(|(_, angle)| **angle < PI) {
        let after = angles.partition_point(|&other| other < angle + PI);
        if after == 0 || after >= angles.len() {
            continue;
        }
        let (low, high) = (angles[after - 1], angles[after]);
        let w = if high > low { ((angle + PI - low) / (high - low)) as f32 } else { 0.0 };
        let (low, high) = (views[after - 1], views[after]);
        let opposite = low.iter().zip(high).map(|(a, b)| a + w * (b - a)).collect();
        pairs.push((view.to_vec(), opposite));
    }
    pairs
}

/// Mean square of p(θ, u) − p(θ + π, 2c − u) over the columns that both see.
fn mismatch(pairs: &[(Vec<f32>, Vec<f32>)], centre: f64) -> f64 {
    let (mut sum, mut n) = (0.0_f64, 0_u64);
    for (p, q) in pairs {
        for (u, &value) in p.iter().enumerate() {
            if let Some(mirrored) = sample(q, 2.0 * centre - u as f64) {
                sum += f64::from(value - mirrored).powi(2);
                n += 1;
            }
        }
    }
    sum / n.max(1) as f64
}

/// Cubic (Catmull–Rom) interpolation; `None` outside the detector.
fn sample(line: &[f32], u: f64) -> Option<f32> {
    if u < 0.0 || u > line.len() as f64 - 1.0 {
        return None;
    }
    let j = u.floor() as usize;
    let t = (u - u.floor()) as f32;
    let at = |k: usize| line[k.min(line.len() - 1)];
    let [a, b, c, d] = [at(j.saturating_sub(1)), at(j), at(j + 1), at(j + 2)];
    let slope = 0.5 * (c - a);
    let (cubic, square) = (1.5 * (b - c) + 0.5 * (d - a), a - 2.5 * b + 2.0 * c - 0.5 * d);
    Some(b + t * (slope + t * (square + t * cubic)))
}

/// Half a turn of views, and where the Fourier transform of the full turn must vanish.
struct DoubleWedge {
    half: Vec<f32>,
    n_cols: usize,
    /// Per frequency along θ, the frequencies |k| < limit along u that lie outside the double wedge.
    limits: Vec<usize>,
}

impl DoubleWedge {
    fn new(views: &[&[f32]], n_cols: usize, object_radius: f64) -> Self {
        const DROP: usize = 10;
        let rows = 2 * views.len();
        let radius = object_radius * n_cols as f64;
        // A point at distance r moves as u = r cos θ: frequency m along θ needs |k| > m n_cols / (2π r).
        let limits = (0..rows)
            .map(|i| match i.min(rows - i) {
                m if m <= DROP.min(rows / 8) => 0,
                m => ((m as f64 * n_cols as f64 / (2.0 * PI * radius)).floor() as usize).min(n_cols / 2),
            })
            .collect();
        Self { half: views.concat(), n_cols, limits }
    }

    /// Mean magnitude outside the wedge when the half turn is completed by its mirror at `centre`.
    fn outside(&self, centre: f64) -> f64 {
        let (n, rows) = (self.n_cols, self.limits.len());
        let mut planner = FftPlanner::<f32>::new();
        let mut image: Vec<Complex<f32>> = self.half.iter().map(|&p| Complex::new(p, 0.0)).collect();
        for (k, view) in self.half.chunks(n).enumerate() {
            // What the mirror does not see is taken from the half turn in reverse, as Vo does.
            let fill = &self.half[(rows / 2 - 1 - k) * n..][..n];
            image.extend((0..n).map(|u| {
                let mirrored = sample(view, 2.0 * centre - u as f64);
                Complex::new(mirrored.unwrap_or(fill[u]), 0.0)
            }));
        }
        planner.plan_fft_forward(n).process(&mut image);
        let along_angles = planner.plan_fft_forward(rows);
        let widest = self.limits.iter().copied().max().unwrap_or(0);
        let mut line = vec![Complex::new(0.0, 0.0); rows];
        let (mut sum, mut count) = (0.0_f64, 0_u64);
        // The data are real: the other half of the frequencies has the same magnitudes. The lowest
        // two along u hold what the detector's edges cut.
        for k in 2..widest {
            for (i, value) in line.iter_mut().enumerate() {
                *value = image[i * n + k];
            }
            along_angles.process(&mut line);
            for (value, _) in line.iter().zip(&self.limits).filter(|(_, limit)| k < **limit) {
                sum += f64::from(value.norm());
                count += 1;
            }
        }
        sum / count.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use convoke_data::problems::phantom::Phantom;
    use convoke_data::problems::rays::ParallelRays;

    /// A sinogram of the middle slice with the axis at `axis_col`, noise of the given size added.
    fn sinogram(n_angles: usize, arc: f64, n: usize, axis_col: f64, noise: f32) -> (Vec<f32>, Vec<f64>) {
        let angles: Vec<f64> = (0..n_angles).map(|k| arc * k as f64 / n_angles as f64).collect();
        let mut rays = ParallelRays::centred(angles.clone(), 1, n);
        rays.pitch *= 1.25; // air on both sides
        rays.axis_col = axis_col;
        let mut state = 1_u64;
        let mut uniform = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1_u64 << 24) as f32
        };
        let mut values = Phantom::shepp_logan_3d().line_integrals(&rays, 0..1);
        for value in &mut values {
            *value += noise * (uniform() + uniform() + uniform() - 1.5) * 2.0; // variance noise²
        }
        (values, angles)
    }

    fn check(n_angles: usize, arc: f64, shift: f64, noise: f32) {
        let n = 160;
        let axis = (n as f64 - 1.0) / 2.0 + shift;
        let (values, angles) = sinogram(n_angles, arc, n, axis, noise);
        let found = find(&values, n, &angles, &CentreParams::default()).unwrap();
        let error = found.column - axis;
        assert!(
            error.abs() < 0.25,
            "arc {arc}, shift {shift}, noise {noise}: off by {error}, guess {}",
            found.guess - axis
        );
    }

    #[test]
    fn half_a_turn_gives_the_axis_to_a_quarter_column() {
        for shift in [0.0, 0.5, -3.3, 7.25, 11.6] {
            for noise in [0.0, 0.02] {
                check(180, PI, shift, noise);
            }
        }
        check(181, PI * 181.0 / 180.0, 4.4, 0.01); // with a view at 180° as well
    }

    #[test]
    fn a_full_turn_gives_the_axis_to_a_quarter_column() {
        for shift in [0.0, 0.5, -3.3, 7.25, 25.6] {
            for noise in [0.0, 0.02] {
                check(240, 2.0 * PI, shift, noise);
                check(241, 2.0 * PI, shift, noise); // no view exactly opposite another
            }
        }
    }

    #[test]
    fn the_order_of_the_views_is_free() {
        let (values, angles) = sinogram(180, PI, 160, 83.2, 0.0);
        let order: Vec<usize> = (0..180).map(|k| k * 67 % 180).collect();
        let shuffled: Vec<f32> = order.iter().flat_map(|&k| values[k * 160..][..160].to_vec()).collect();
        let shuffled_angles: Vec<f64> = order.iter().map(|&k| angles[k]).collect();
        let params = CentreParams::default();
        assert_eq!(find(&values, 160, &angles, &params), find(&shuffled, 160, &shuffled_angles, &params));
    }

    #[test]
    fn hopeless_data_say_why() {
        let (values, angles) = sinogram(90, PI / 2.0, 160, 80.0, 0.0);
        let params = CentreParams::default();
        assert!(matches!(find(&values, 160, &angles, &params), Err(CentreError::ArcTooShort { .. })));
        let (_, angles) = sinogram(90, PI, 160, 80.0, 0.0);
        assert_eq!(find(&[0.5; 90 * 160], 160, &angles, &params), Err(CentreError::Constant));
        assert!(matches!(find(&[0.5; 8], 4, &[0.0, 1.0], &params), Err(CentreError::TooSmall { .. })));
    }
}
