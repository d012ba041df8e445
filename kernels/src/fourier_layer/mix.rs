//! Pointwise maps of channels, W x + b at every point, and their derivatives.

use super::{After, Array, Scratch, at_least_one, below_2_31, cuda, expect, narrow, reference, wide, within};
use crate::{Device, Result};

/// A pointwise map W x + b: where it is among the parameters, `weight` `[to, from]` and `bias` `[to]`, where there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mix {
    /// Channels that come.
    pub from: usize,
    /// Channels that go.
    pub to: usize,
    /// Where W starts.
    pub weight: usize,
    /// Where b starts; nothing for b = 0.
    pub bias: Option<usize>,
}

impl Mix {
    /// Both lie among so many parameters, and sizes fit a device.
    pub(super) fn check(&self, parameters: usize) -> Result<()> {
        at_least_one("channels", self.from.min(self.to))?;
        below_2_31("channels that come times channels that go", (self.from + 1) * self.to)?;
        within("weight of a pointwise map", self.weight + self.from * self.to, parameters)?;
        within("bias of a pointwise map", self.bias.map_or(0, |bias| bias + self.to), parameters)
    }
}

/// y = W x + b at every point, and what comes after: `x` `[samples, from, points]`, `y` `[samples, to, points]`.
///
/// # Errors
/// Where the lengths disagree, or the device fails.
pub fn mix(
    device: &Device,
    map: Mix,
    samples: usize,
    parameters: &mut Array,
    x: &mut Array,
    after: After<'_>,
    y: &mut Array,
) -> Result<()> {
    map.check(parameters.len())?;
    let points = points_of(samples, map.from, x.len())?;
    expect("y [samples, to, points]", y.len(), samples * map.to * points)?;
    after.check(y.len(), map.to, parameters.len())?;
    if let Device::Gpu(gpu) = device {
        return cuda::mix(gpu, (samples, points), cuda::Pointwise::forward(map, parameters, x), after, y);
    }
    let (w, b) = parts(map, parameters);
    after.apply(parameters, (samples, map.to), reference::mix(&w, b.as_deref(), &wide(x.host()), samples, map.from), y);
    Ok(())
}

/// x = Wᵀ g at every point, and what comes after: `g` `[samples, to, points]`, `x` `[samples, from, points]`.
///
/// # Errors
/// Where the lengths disagree, or the device fails.
pub fn mix_back(
    device: &Device,
    map: Mix,
    samples: usize,
    parameters: &mut Array,
    g: &mut Array,
    after: After<'_>,
    x: &mut Array,
) -> Result<()> {
    map.check(parameters.len())?;
    let points = points_of(samples, map.to, g.len())?;
    expect("x [samples, from, points]", x.len(), samples * map.from * points)?;
    after.check(x.len(), map.from, parameters.len())?;
    if let Device::Gpu(gpu) = device {
        return cuda::mix(gpu, (samples, points), cuda::Pointwise::back(map, parameters, g), after, x);
    }
    let (w, _) = parts(map, parameters);
    let turned = reference::transpose(&w, map.to, map.from);
    after.apply(parameters, (samples, map.from), reference::mix(&turned, None, &wide(g.host()), samples, map.to), x);
    Ok(())
}

/// ∂/∂W and ∂/∂b of [`mix`] for `x` `[samples, from, points]` and `g` `[samples, to, points]`, written to their places in `gradient`.
///
/// # Errors
/// Where the lengths disagree, or the device fails.
pub fn mix_gradient(
    device: &Device,
    map: Mix,
    samples: usize,
    x: &mut Array,
    g: &mut Array,
    gradient: &mut Array,
    scratch: &mut Scratch,
) -> Result<()> {
    map.check(gradient.len())?;
    let points = points_of(samples, map.from, x.len())?;
    expect("g [samples, to, points]", g.len(), samples * map.to * points)?;
    if let Device::Gpu(gpu) = device {
        return cuda::mix_gradient(gpu, map, (samples, points), x, g, (gradient, scratch));
    }
    let (dw, db) = reference::mix_gradient(&wide(x.host()), &wide(g.host()), samples, (map.from, map.to));
    let all = gradient.host_mut();
    narrow(&dw, &mut all[map.weight..][..dw.len()]);
    if let Some(bias) = map.bias {
        narrow(&db, &mut all[bias..][..db.len()]);
    }
    Ok(())
}

/// ∂/∂ the gate of each channel, Σ v g over samples and points, for `v` and `g` `[samples, channels, points]`, written to `gradient` from
/// `gate` on.
///
/// # Errors
/// Where the lengths disagree, or the device fails.
pub fn gate_gradient(
    device: &Device,
    (samples, channels): (usize, usize),
    v: &mut Array,
    g: &mut Array,
    (gradient, gate): (&mut Array, usize),
) -> Result<()> {
    at_least_one("channels", channels)?;
    let points = points_of(samples, channels, v.len())?;
    expect("g [samples, channels, points]", g.len(), v.len())?;
    within("gates", gate + channels, gradient.len())?;
    if let Device::Gpu(gpu) = device {
        return cuda::gate_gradient(gpu, (samples, channels, points), v, g, (gradient, gate));
    }
    let sums = reference::gate_gradient(&wide(v.host()), &wide(g.host()), channels, points);
    narrow(&sums, &mut gradient.host_mut()[gate..][..channels]);
    Ok(())
}

/// Weight and bias in double precision.
pub(super) fn parts(map: Mix, parameters: &mut Array) -> (Vec<f64>, Option<Vec<f64>>) {
    let all = parameters.host();
    (wide(&all[map.weight..][..map.from * map.to]), map.bias.map(|bias| wide(&all[bias..][..map.to])))
}

/// Points of fields `[samples, channels, points]`.
fn points_of(samples: usize, channels: usize, len: usize) -> Result<usize> {
    at_least_one("samples", samples)?;
    let points = len / (samples * channels);
    at_least_one("points", points)?;
    below_2_31("numbers of all samples' fields", len)?;
    expect("fields [samples, channels, points]", len, samples * channels * points)?;
    Ok(points)
}
