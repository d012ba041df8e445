//! Truncated transforms of fields on a grid: kept modes, matrices, and the order of the axes.

use super::{After, Array, Mix, Scratch, at_least_one, below_2_31, cuda, expect, mix::parts, narrow, reference, wide};
use crate::{Buffer, Device, KernelError, Result};
use std::f64::consts::TAU;

/// Kept modes along axis `axis` of `axes`, `m` on each side: 0 … m − 1 on the last axis, 0 … m − 1 and −m … −1 on the others.
pub fn kept(axis: usize, axes: usize, m: usize) -> Vec<i64> {
    let m = m as i64;
    if axis + 1 == axes { (0..m).collect() } else { (0..m).chain(-m..0).collect() }
}

/// What coefficients are multiplied with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Nothing: analysis and synthesis are adjoint.
    One,
    /// c_k/N: a synthesis inverts, and an analysis is its adjoint.
    Inverse,
}

/// Where the points of the last axis lie among more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// All of them.
    pub period: usize,
    /// Those before.
    pub offset: usize,
}

/// A grid with its kept modes, and the matrices of its transforms where `device` is.
#[derive(Debug)]
pub struct Transform {
    device: Device,
    points: Vec<usize>,
    modes: Vec<usize>,
    window: Window,
    /// Of the last axis, `[points, kept, cos | −sin]`; without c_k/N, and with it.
    pub(super) last: [Array; 2],
    /// Of each other axis, `[kept, points, cos | −sin]`.
    pub(super) others: Vec<Array>,
    /// Between axes; as long as the largest so far.
    pub(super) between: [Scratch; 2],
}

impl Transform {
    /// Of fields on `points`, one to three axes, keeping `modes` on each side of each: at most half of the points, on the last axis one
    /// more.
    ///
    /// # Errors
    /// For modes that do not fit, or a device without room.
    pub fn new(device: &Device, points: &[usize], modes: &[usize]) -> Result<Self> {
        let window = Window { period: points.last().copied().unwrap_or(0), offset: 0 };
        Self::window(device, points, modes, window)
    }

    /// The same where the points of the last axis are a part of more: the others are zero for the analysis, and the synthesis does not
    /// make them. N is that of all.
    ///
    /// # Errors
    /// As [`Transform::new`]; for a window that ends beyond its period.
    pub fn window(device: &Device, points: &[usize], modes: &[usize], window: Window) -> Result<Self> {
        let axes = points.len();
        expect("modes, one number for each axis,", modes.len(), axes)?;
        if !(1..=3).contains(&axes) {
            return Err(KernelError::Parameter { what: "axes of a field", value: axes as f64, rule: "1 to 3" });
        }
        for (axis, (n, m)) in points.iter().zip(modes).enumerate() {
            at_least_one("points and kept modes of an axis", *(n.min(m)))?;
            let most = if axis + 1 == axes { window.period / 2 + 1 } else { n / 2 };
            if *m > most {
                return Err(KernelError::Index { what: "kept modes of an axis", index: *m, bound: most + 1 });
            }
        }
        let (n, Window { period, offset }) = (points[axes - 1], window);
        if offset + n > period {
            return Err(KernelError::Index { what: "end of a window", index: offset + n, bound: period + 1 });
        }
        let size = points[..axes - 1].iter().product::<usize>() * period;
        below_2_31("points of a field", size)?;
        // The angle is reduced first, so that it has all digits.
        let angle = |k: i64, i: usize, n: usize| {
            let turns = (k * i as i64).rem_euclid(n as i64);
            let (sin, cos) = (TAU * turns as f64 / n as f64).sin_cos();
            [cos, -sin]
        };
        let ks = kept(axes - 1, axes, modes[axes - 1]);
        let last = |scale: Scale| {
            let pair =
                |i: usize, k: i64| angle(k, i + offset, period).map(|v| (v * factor(scale, k, period, size)) as f32);
            let rows = (0..n).flat_map(|i| ks.iter().flat_map(move |k| pair(i, *k)));
            Buffer::from_vec(device, rows.collect())
        };
        let other = |axis: usize| {
            let n = points[axis];
            let row = |k: i64| (0..n).flat_map(move |i| angle(k, i, n).map(|v| v as f32));
            Buffer::from_vec(device, kept(axis, axes, modes[axis]).into_iter().flat_map(row).collect())
        };
        Ok(Self {
            device: device.clone(),
            last: [last(Scale::One)?, last(Scale::Inverse)?],
            others: (0..axes - 1).map(other).collect::<Result<_>>()?,
            points: points.to_vec(),
            modes: modes.to_vec(),
            window,
            between: Default::default(),
        })
    }

    /// Points along each axis.
    pub fn points(&self) -> &[usize] {
        &self.points
    }

    /// Points of a field.
    pub fn size(&self) -> usize {
        self.points.iter().product()
    }

    /// Kept modes along each axis.
    pub(super) fn extents(&self) -> Vec<usize> {
        let axes = self.modes.len();
        self.modes.iter().enumerate().map(|(axis, m)| if axis + 1 == axes { *m } else { 2 * m }).collect()
    }

    /// Kept modes in all.
    pub fn kept(&self) -> usize {
        self.extents().iter().product()
    }

    /// Coefficients of the kept modes, `[fields, mode, re | im]`, of fields `[fields, points]`.
    ///
    /// # Errors
    /// Where the lengths disagree, or the device fails.
    pub fn analysis(&mut self, scale: Scale, x: &mut Array, y: &mut Array) -> Result<()> {
        self.check(x.len() / self.size(), x.len(), y.len())?;
        if let Device::Gpu(gpu) = &self.device.clone() {
            return cuda::analysis(gpu, self, scale, x, y);
        }
        narrow(&reference::analysis_in(self.window, &self.points, &self.modes, scale, &wide(x.host())), y.host_out());
        Ok(())
    }

    /// Fields `[fields, points]` of coefficients `[fields, mode, re | im]`.
    ///
    /// # Errors
    /// Where the lengths disagree, or the device fails.
    pub fn synthesis(&mut self, scale: Scale, y: &mut Array, x: &mut Array) -> Result<()> {
        let fields = x.len() / self.size();
        self.check(fields, x.len(), y.len())?;
        if let Device::Gpu(gpu) = &self.device.clone() {
            return cuda::layer(gpu, self, scale, (1, fields), y, None, After::Nothing, x);
        }
        narrow(&reference::synthesis_in(self.window, &self.points, &self.modes, scale, &wide(y.host())), x.host_out());
        Ok(())
    }

    /// The end of a Fourier layer in one pass: out = the synthesis of `y` (with c_k/N) + W v + b, then what comes after. `y` has `to`
    /// channels, `v` has `from`.
    ///
    /// # Errors
    /// Where the lengths disagree, or the device fails.
    #[allow(clippy::too_many_arguments)]
    pub fn layer(
        &mut self,
        map: Mix,
        samples: usize,
        parameters: &mut Array,
        y: &mut Array,
        v: &mut Array,
        after: After<'_>,
        out: &mut Array,
    ) -> Result<()> {
        map.check(parameters.len())?;
        self.check_layer((samples, map.from, map.to), v, y, out)?;
        after.check(out.len(), map.to, parameters.len())?;
        if let Device::Gpu(gpu) = &self.device.clone() {
            let pointwise = Some(cuda::Pointwise::forward(map, parameters, v));
            return cuda::layer(gpu, self, Scale::Inverse, (samples, map.to), y, pointwise, after, out);
        }
        let (w, b) = parts(map, parameters);
        let mut sums = reference::mix(&w, b.as_deref(), &wide(v.host()), samples, map.from);
        self.add(Scale::Inverse, y, &mut sums);
        after.apply(parameters, (samples, map.to), sums, out);
        Ok(())
    }

    /// Derivatives of [`Transform::layer`] by its input fields, in one pass: out = the synthesis of `y` (without c_k/N) + Wᵀ g, then what
    /// comes after. `y` has `from` channels, `g` has `to`.
    ///
    /// # Errors
    /// Where the lengths disagree, or the device fails.
    #[allow(clippy::too_many_arguments)]
    pub fn layer_back(
        &mut self,
        map: Mix,
        samples: usize,
        parameters: &mut Array,
        y: &mut Array,
        g: &mut Array,
        after: After<'_>,
        out: &mut Array,
    ) -> Result<()> {
        map.check(parameters.len())?;
        self.check_layer((samples, map.to, map.from), g, y, out)?;
        after.check(out.len(), map.from, parameters.len())?;
        if let Device::Gpu(gpu) = &self.device.clone() {
            let pointwise = Some(cuda::Pointwise::back(map, parameters, g));
            return cuda::layer(gpu, self, Scale::One, (samples, map.from), y, pointwise, after, out);
        }
        let (w, _) = parts(map, parameters);
        let turned = reference::transpose(&w, map.to, map.from);
        let mut sums = reference::mix(&turned, None, &wide(g.host()), samples, map.to);
        self.add(Scale::One, y, &mut sums);
        after.apply(parameters, (samples, map.from), sums, out);
        Ok(())
    }

    fn add(&self, scale: Scale, y: &mut Array, sums: &mut [f64]) {
        let fields = reference::synthesis_in(self.window, &self.points, &self.modes, scale, &wide(y.host()));
        sums.iter_mut().zip(fields).for_each(|(sum, v)| *sum += v);
    }

    fn check(&self, fields: usize, x: usize, y: usize) -> Result<()> {
        at_least_one("fields", fields)?;
        below_2_31("numbers of all fields", x)?;
        below_2_31("coefficients of all fields", 2 * y)?;
        expect("x [fields, points]", x, fields * self.size())?;
        expect("y [fields, modes, 2]", y, 2 * fields * self.kept())
    }

    fn check_layer(&self, (samples, come, go): (usize, usize, usize), v: &Array, y: &Array, out: &Array) -> Result<()> {
        self.check(samples * go, out.len(), y.len())?;
        expect("v [samples, channels, points]", v.len(), samples * come * self.size())?;
        below_2_31("numbers of all fields", v.len())
    }
}

/// What coefficient k of the last axis, of n points, is multiplied with.
pub(super) fn factor(scale: Scale, k: i64, n: usize, size: usize) -> f64 {
    let single = k == 0 || 2 * k == n as i64;
    match scale {
        Scale::One => 1.0,
        Scale::Inverse => (if single { 1.0 } else { 2.0 }) / size as f64,
    }
}
