//! Frequencies: the ceiling that the data show, and weights learned from the solution.

use std::f64::consts::PI;

use convoke_cluster::{BadValue, Comm, Result};
use convoke_kernels::Device;
use rustfft::FftPlanner;
use rustfft::num_complex::Complex;

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
    let d = statement.axes.len();
    let across = match d {
        1 | 2 => 12,
        3 => 6,
        _ => 4,
    };
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
            Ok(ceiling.map(|bin| bin / statement.boxes[axis].1))
        })
        .collect()
}

/// The highest bin with content in the mean periodogram of some lines.
fn highest_bin(lines: &[Vec<f64>], periodic: bool) -> Option<f64> {
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
    if peak == 0.0 || !peak.is_finite() {
        return None;
    }
    let last = power.iter().rposition(|p| *p > THRESHOLD * peak)?;
    Some(if periodic { last as f64 } else { (last as f64 - LOBE + 1.0).max(0.0) })
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

/// The flat prior of an axis up to `factor` times its ceiling and a margin, as far as the nodes can tell frequencies
/// apart: two points per wavelength where they are equidistant, π where they are clustered (Trefethen 2013, chapter 22).
pub fn prior((axis, length): (&AxisSpec, f64), nodes: Nodes, ceiling: f64, factor: f64) -> Prior {
    let (n, periodic) = (axis.points, axis.periodic);
    let highest = match nodes {
        _ if periodic => n as f64 / 2.0,
        Nodes::Uniform => (n - 1) as f64 / 2.0,
        Nodes::Chebyshev => (n - 1) as f64 / PI,
    } / length;
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

/// New weights for one axis from the solution: sₖ² ← sₖ² eₖ, eₖ the energy of the whitened coefficients of frequency k
/// over all other axes (one step of expectation maximisation, the other axes held). `field` is whole along `axis`.
/// Collective.
///
/// # Errors
/// Where the device or another rank fails.
pub fn reweight(comm: &Comm, factor: &AxisFactor, axis: usize, field: Tensor) -> Result<Prior> {
    let host = Device::cpu();
    let free = &factor.basis.free;
    let x = field.times(&host, axis, &mut matrix(&host, &free.values.transpose().to_owned())?)?;
    let mut z = x.times(&host, axis, &mut matrix(&host, &free.coefficients)?)?;
    let mut prior = factor.basis.prior.clone();
    let m = prior.frequencies.len();
    let inner: usize = z.shape[axis + 1..].iter().product();
    let mut energy = vec![0.0; m];
    if inner > 0 {
        for (i, row) in z.values.host().chunks_exact(inner).enumerate() {
            energy[i % (2 * m) % m] += row.iter().map(|z| z * z).sum::<f64>();
        }
    }
    comm.all_sum(&mut energy)?;
    // The coefficients of a `Span` are those of unscaled columns `sₖ cos`, so the energy of frequency k is whitened by sₖ.
    let weights: Vec<f64> = prior.scales.iter().zip(&energy).map(|(s, e)| s * s * e).collect();
    let largest = weights.iter().fold(f64::MIN_POSITIVE, |m, w| m.max(*w));
    prior.scales.iter_mut().zip(&weights).for_each(|(s, w)| *s = (w / largest + FLOOR).sqrt());
    Ok(prior)
}
