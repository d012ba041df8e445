//! Frequencies: the ceiling that the data show, and weights learned from the solution.

use std::f64::consts::PI;

use convoke_cluster::{BadValue, Comm, Result};
use convoke_kernels::Device;
use faer::Mat;
use rustfft::FftPlanner;
use rustfft::num_complex::Complex;

use super::basis::Basis;
use super::factor::AxisFactor;
use super::features::Prior;
use super::field::{Tensor, matrix};
use super::spec::{AxisSpec, Nodes};
use super::statement::Statement;

/// Power below this part of a spectrum's peak is no content: just above the side lobes of the window (−92 dB).
const THRESHOLD: f64 = 2e-9;
/// Half width of the window's main lobe, in bins.
const LOBE: f64 = 4.0;
/// Samples of a line for each collocation point: no frequency that the grid cannot hold goes unseen.
const OVERSAMPLING: usize = 4;
/// Lines along an axis are sampled at so many places of each other axis, by number of axes.
const ACROSS: [usize; 4] = [12, 12, 6, 4];
/// Frequencies per resolved bin of a non-periodic axis.
const OVERLAP: f64 = 2.0;
/// Periods over the axis that the ceiling lies above the data's highest frequency: what the ends of an interval need.
const MARGIN: f64 = 7.0;
/// Weight that no frequency falls below, relative to the largest.
const FLOOR: f64 = 1e-14;

/// Highest frequency in cycles per unit length that the data show along each axis; `None` where they show nothing.
///
/// The data are the equation without its unknown and the data of the conditions, never the solution.
///
/// # Errors
/// Where the device fails.
pub fn ceilings(statement: &Statement) -> Result<Vec<Option<f64>>> {
    let mut highest = vec![None; statement.axes.len()];
    for window in 0..statement.windows {
        for (all, this) in highest.iter_mut().zip(ceilings_here(&statement.in_window(window))?) {
            *all = this.map(|this: f64| this.max(all.unwrap_or(0.0))).or(*all);
        }
    }
    Ok(highest)
}

fn ceilings_here(statement: &Statement) -> Result<Vec<Option<f64>>> {
    let d = statement.axes.len();
    let across = ACROSS[d - 1];
    (0..d)
        .map(|axis| {
            let n = OVERSAMPLING * statement.axes[axis].points;
            let periodic = statement.axes[axis].periodic;
            let mut ceiling = None;
            for lines in statement.lines(axis, n, across)? {
                if let Some(bin) = highest_bin(&lines, periodic) {
                    ceiling = Some(bin.max(ceiling.unwrap_or(0.0)));
                }
            }
            // Between its points, an array's interpolant has frequencies that are not the data's.
            Ok(ceiling.map(|bin| (bin / statement.boxes[axis].1).min(statement.arrays_hold(axis))))
        })
        .collect()
}

/// The power of the equation without its unknown along an axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Periodogram {
    /// Cycles per unit length.
    pub frequencies: Vec<f64>,
    /// Mean over the lines along the axis, the largest 1.
    pub power: Vec<f64>,
}

/// The periodogram of each axis, up to what its points hold; none where the equation without its unknown is zero.
///
/// # Errors
/// Where the device fails.
pub fn periodograms(statement: &Statement) -> Result<Vec<Option<Periodogram>>> {
    let of_axis = |axis: usize| -> Result<Option<Periodogram>> {
        let (spec, length) = (&statement.axes[axis], statement.boxes[axis].1);
        let lines = statement.lines(axis, OVERSAMPLING * spec.points, ACROSS[statement.axes.len() - 1])?;
        let Some((power, peak)) = lines.first().and_then(|lines| power(lines, spec.periodic)) else { return Ok(None) };
        let held = power.len().min(spec.points / 2 + 1);
        Ok(Some(Periodogram {
            frequencies: (0..held).map(|bin| bin as f64 / length).collect(),
            power: power[..held].iter().map(|p| p / peak).collect(),
        }))
    };
    (0..statement.axes.len()).map(of_axis).collect()
}

/// The highest bin with content in the mean periodogram of some lines.
fn highest_bin(lines: &[Vec<f64>], periodic: bool) -> Option<f64> {
    let (power, peak) = power(lines, periodic)?;
    let last = power.iter().rposition(|p| *p > THRESHOLD * peak)?;
    Some(if periodic { last as f64 } else { (last as f64 - LOBE + 1.0).max(0.0) })
}

/// The summed periodogram of some lines and its peak, if there is any.
fn power(lines: &[Vec<f64>], periodic: bool) -> Option<(Vec<f64>, f64)> {
    let n = lines.first()?.len();
    let window: Vec<f64> = (0..n).map(|i| if periodic { 1.0 } else { blackman_harris(i, n) }).collect();
    let fft = FftPlanner::new().plan_fft_forward(n);
    let mut power = vec![0.0; n / 2 + 1];
    for line in lines {
        let mut line: Vec<Complex<f64>> = line.iter().zip(&window).map(|(v, w)| Complex::new(v * w, 0.0)).collect();
        fft.process(&mut line);
        power.iter_mut().zip(&line).for_each(|(p, z)| *p += z.norm_sqr());
    }
    let peak = power.iter().fold(0.0f64, |m, p| m.max(*p));
    (peak > 0.0 && peak.is_finite()).then_some((power, peak))
}

/// The four-term Blackman-Harris window (Harris 1978): side lobes at −92 dB.
fn blackman_harris(i: usize, n: usize) -> f64 {
    let t = std::f64::consts::TAU * i as f64 / n as f64;
    0.35875 - 0.48829 * t.cos() + 0.14128 * (2.0 * t).cos() - 0.01168 * (3.0 * t).cos()
}

/// Refuses a grid that has less than two points for a period of the data.
///
/// # Errors
/// [`BadValue`] with the points that are needed.
pub fn check_grid(statement: &Statement, ceilings: &[Option<f64>]) -> Result<()> {
    for (axis, ceiling) in ceilings.iter().enumerate() {
        let spec = &statement.axes[axis];
        let length = statement.boxes[axis].1;
        let Some(ceiling) = ceiling else { continue };
        let needed = (2.0 * ceiling * length).ceil() as usize + 1;
        if spec.points < needed {
            let key = format!("problem.axes.{}.points", statement.order[axis]);
            let expected = format!(
                "at least {needed}: the data have {:.1} periods along {}, and a period needs two points",
                ceiling * length,
                spec.name
            );
            return Err(BadValue::new(key, spec.points, expected).into());
        }
    }
    Ok(())
}

/// The highest frequency that the nodes of an axis can tell from others, in cycles per unit length: two points per
/// wavelength where they are equidistant, π where they are clustered (Trefethen 2013, chapter 22).
pub fn highest((axis, length): (&AxisSpec, f64), nodes: Nodes) -> f64 {
    let n = axis.points as f64;
    match nodes {
        _ if axis.periodic => n / (2.0 * length),
        Nodes::Uniform => (n - 1.0) / (2.0 * length),
        Nodes::Chebyshev => (n - 1.0) / (PI * length),
    }
}

/// The flat prior of an axis up to `factor` times its ceiling and a margin, as far as the nodes can tell frequencies
/// apart.
pub fn prior((axis, length): (&AxisSpec, f64), nodes: Nodes, ceiling: f64, factor: f64) -> Prior {
    let (n, periodic) = (axis.points, axis.periodic);
    let highest = highest((axis, length), nodes);
    let step = if periodic { 1.0 / length } else { 1.0 / (OVERLAP * length) };
    let margin = if periodic { 1.0 } else { MARGIN } / length;
    let top = (factor * (ceiling + margin)).min(highest);
    let mut prior = Prior::flat(step, top);
    if periodic {
        // Two features a frequency: no more than the grid has points.
        let keep = prior.frequencies.len().min(n.div_ceil(2));
        prior.frequencies.truncate(keep);
        prior.scales.truncate(keep);
    }
    prior
}

/// Functions with less than this part of the largest deviation tell nothing of the spectrum: their whitened amplitudes are
/// the field's rounding, blown up by the inverse of it, and differ from one number of ranks to the next.
const SEEN: f64 = 1e-10;

/// Energies of the whitened amplitudes of each frequency of one axis in a field, of which each rank holds a part that is
/// whole along `axis`. Collective.
///
/// # Errors
/// Where the device or another rank fails.
pub fn energies(comm: &Comm, factor: &AxisFactor, axis: usize, field: Tensor) -> Result<Vec<f64>> {
    let host = Device::cpu();
    let mut free = factor.basis.free.clone();
    free.truncate(free.rank_at(SEEN));
    let x = field.times(&host, axis, &mut matrix(&host, &free.values.transpose().to_owned())?)?;
    let mut z = x.times(&host, axis, &mut matrix(&host, &free.coefficients)?)?;
    let m = factor.basis.prior.frequencies.len();
    let inner: usize = z.shape[axis + 1..].iter().product();
    let mut energy = vec![0.0; m];
    if inner > 0 {
        for (i, row) in z.values.host().chunks_exact(inner).enumerate() {
            energy[i % (2 * m) % m] += row.iter().map(|z| z * z).sum::<f64>();
        }
    }
    comm.all_sum(&mut energy)?;
    Ok(energy)
}

/// New weights for one axis: `sₖ² ← sₖ² eₖ`, eₖ the energy of the whitened amplitudes of frequency k (the flip-flop).
pub fn reweighted(prior: &Prior, energies: &[f64]) -> Prior {
    let mut prior = prior.clone();
    // The coefficients of a `Span` are those of unscaled columns `sₖ cos`, so the energy of frequency k is whitened by sₖ.
    let weights: Vec<f64> = prior.scales.iter().zip(energies).map(|(s, e)| s * s * e).collect();
    let largest = weights.iter().fold(f64::MIN_POSITIVE, |m, w| m.max(*w));
    prior.scales.iter_mut().zip(&weights).for_each(|(s, w)| *s = (w / largest + FLOOR).sqrt());
    prior
}

/// New deviations of an axis's features from a posterior: `w ← w Σ ζ̂² / (Σ (1 − C) + j)` for the weight w = s² of each
/// frequency, ζ̂ the means of its whitened amplitudes and C their variances. It has the fixed point of
/// expectation-maximisation and reaches it in fewer steps (MacKay 1992). `jeffreys` is j: 2 for the prior 1/w, 0 for none.
///
/// `mean` and `covariance` are second moments of the conditioned functions' whitened coefficients, averages over the
/// `others` coefficients of the other axes; `known` are amplitudes that conditions determine, `features × 1`.
pub fn reweight_by_evidence(
    basis: &Basis,
    (mean, covariance): (&Mat<f64>, &Mat<f64>),
    others: usize,
    known: Option<&Mat<f64>>,
    jeffreys: f64,
) -> Vec<f64> {
    let m = basis.prior.frequencies.len();
    let w = basis.orthonormal();
    let energy = |i: usize| {
        let row = w.row(i);
        (row * mean * row.transpose()).abs() + known.map_or(0.0, |known| known[(i, 0)].powi(2))
    };
    // What neither conditions nor functions that matter determine keeps its prior.
    let determined = |i: usize| {
        let row = w.row(i);
        let seen = row.squared_norm_l2() - (row * covariance * row.transpose()).abs();
        (seen + basis.determined.row(i).squared_norm_l2()).clamp(0.0, 1.0)
    };
    let others = others as f64;
    let weight = |k: usize| {
        let parts: &[usize] = if basis.prior.frequencies[k] == 0.0 { &[k] } else { &[k, m + k] };
        let sum: f64 = parts.iter().map(|i| energy(*i)).sum();
        let n: f64 = parts.iter().map(|i| determined(*i)).sum();
        basis.prior.scales[k].powi(2) * others * sum / (others * n + jeffreys)
    };
    let weights: Vec<f64> = (0..m).map(weight).collect();
    let largest = weights.iter().fold(f64::MIN_POSITIVE, |m, w| m.max(*w));
    weights.iter().map(|w| (w + FLOOR * largest).sqrt()).collect()
}
