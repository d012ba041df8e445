//! The ramp filter of filtered back projection, along the rows of a sinogram.
//!
//! q = tau (p * h) with the band-limited ramp built in space: `h[0] = 1/(4 tau^2)`, `h[odd n] = -1/(pi n tau)^2`,
//! h[even n] = 0 (Kak and Slaney, "Principles of Computerized Tomographic Imaging", eq. 3.61), then multiplied
//! by a window in frequency. Sampling |omega| instead would put a bias on the mean of the image.

mod cpu;
mod cuda;

use crate::{Buffer, Device, KernelError, Result};
use rustfft::{Fft, FftPlanner, num_complex::Complex};
use std::f64::consts::PI;
use std::sync::Arc;

/// Window over the frequencies, w = omega / (cutoff * Nyquist) in [0, 1]; 0 above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilterWindow {
    /// 1 (the ramp alone).
    RamLak,
    /// sin(pi w / 2) / (pi w / 2)
    SheppLogan,
    /// cos(pi w / 2)
    Cosine,
    /// 0.54 + 0.46 cos(pi w)
    Hamming,
    /// (1 + cos(pi w)) / 2
    Hann,
}

/// What lies beyond the ends of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Padding {
    /// Nothing: the object is inside the field of view.
    Zero,
    /// The end values go on: for truncated data.
    Edge,
}

/// Parameters of a [`RampFilter`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RampParams {
    /// Length of a row.
    pub n_cols: usize,
    /// Width of a detector column in voxels, tau.
    pub col_pitch: f64,
    /// Window over the frequencies.
    pub window: FilterWindow,
    /// Where the window ends, as a part of the Nyquist frequency, in (0, 1].
    pub cutoff: f64,
    /// What lies beyond the ends of a row.
    pub padding: Padding,
}

impl RampParams {
    /// The plain ramp: no window, full band, zero padding.
    pub fn new(n_cols: usize, col_pitch: f64) -> Self {
        Self { n_cols, col_pitch, window: FilterWindow::RamLak, cutoff: 1.0, padding: Padding::Zero }
    }
}

/// The filter, ready for rows of one length on one device.
pub struct RampFilter {
    params: RampParams,
    /// tau H W / L for each of the L frequencies (real and even); 1/L undoes the unnormalised inverse transform.
    response: Vec<f32>,
    forward: Arc<dyn Fft<f32>>,
    inverse: Arc<dyn Fft<f32>>,
    /// On a GPU with room for the transform.
    plan: Option<cuda::Plan>,
}

impl RampFilter {
    /// The filter of `params` on `device`.
    pub fn new(device: &Device, params: RampParams) -> Result<Self> {
        let RampParams { n_cols, col_pitch, cutoff, .. } = params;
        if n_cols == 0 {
            return Err(KernelError::Parameter { what: "n_cols", value: 0.0, rule: "at least 1" });
        }
        if !(col_pitch > 0.0 && col_pitch.is_finite()) {
            return Err(KernelError::Parameter { what: "col_pitch", value: col_pitch, rule: "positive" });
        }
        if !(cutoff > 0.0 && cutoff <= 1.0) {
            return Err(KernelError::Parameter { what: "cutoff", value: cutoff, rule: "in (0, 1]" });
        }
        let fft_len = fft_len(params);
        let mut planner = FftPlanner::new();
        let response = response(params, fft_len);
        let plan = match device {
            Device::Cpu => None,
            Device::Gpu(gpu) => cuda::Plan::new(gpu, params, &response)?,
        };
        Ok(Self {
            plan,
            params,
            response,
            forward: planner.plan_fft_forward(fft_len),
            inverse: planner.plan_fft_inverse(fft_len),
        })
    }

    /// The parameters.
    pub fn params(&self) -> RampParams {
        self.params
    }

    /// Filter every row of `sinogram`, `[n_slices, n_angles, n_cols]`, in place.
    ///
    /// Two rows share a complex transform, 2k and 2k+1 of the same slice, so a slice's result does not depend on
    /// which slices come with it.
    pub fn apply(&self, n_angles: usize, sinogram: &mut Buffer<f32>) -> Result<()> {
        let unit = n_angles * self.params.n_cols;
        if unit == 0 || !sinogram.len().is_multiple_of(unit) {
            return Err(KernelError::NotAMultiple {
                what: "sinogram [n_slices, n_angles, n_cols]",
                unit,
                got: sinogram.len(),
            });
        }
        match &self.plan {
            Some(plan) => plan.apply(n_angles, sinogram),
            None => {
                cpu::apply(self, n_angles, sinogram.host_mut());
                Ok(())
            }
        }
    }
}

/// A power of two (so that all devices use the same filter) with room for the linear convolution; padding by edge
/// values wants as much again, for the rows that it lengthens.
fn fft_len(params: RampParams) -> usize {
    match params.padding {
        Padding::Zero => (2 * params.n_cols).next_power_of_two(),
        Padding::Edge => (4 * params.n_cols).next_power_of_two(),
    }
}

/// The ramp in space at offset `n` columns.
fn ramp(n: usize, tau: f64) -> f64 {
    match n {
        0 => 1.0 / (4.0 * tau * tau),
        n if n % 2 == 1 => -1.0 / (PI * n as f64 * tau).powi(2),
        _ => 0.0,
    }
}

fn window(kind: FilterWindow, w: f64) -> f64 {
    let half = PI * w / 2.0;
    match kind {
        _ if w > 1.0 => 0.0,
        FilterWindow::RamLak => 1.0,
        FilterWindow::SheppLogan if w == 0.0 => 1.0,
        FilterWindow::SheppLogan => half.sin() / half,
        FilterWindow::Cosine => half.cos(),
        FilterWindow::Hamming => 0.54 + 0.46 * (PI * w).cos(),
        FilterWindow::Hann => 0.5 * (1.0 + (PI * w).cos()),
    }
}

/// tau H(k) W(k) / L.
fn response(params: RampParams, fft_len: usize) -> Vec<f32> {
    let tau = params.col_pitch;
    let mut h: Vec<Complex<f64>> = (0..fft_len).map(|n| ramp(n.min(fft_len - n), tau).into()).collect();
    FftPlanner::new().plan_fft_forward(fft_len).process(&mut h);
    let nyquist = fft_len as f64 / 2.0;
    let at = |(k, h): (usize, &Complex<f64>)| {
        let w = k.min(fft_len - k) as f64 / (nyquist * params.cutoff);
        (tau * h.re * window(params.window, w) / fft_len as f64) as f32
    };
    h.iter().enumerate().map(at).collect()
}

#[cfg(test)]
mod tests;
