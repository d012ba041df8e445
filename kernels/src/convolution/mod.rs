//! Layers of convolutional networks in single precision, forward, as U-Nets have them (Ronneberger et al. 2015): 3 × 3 convolutions, maps at
//! every point, normalisation in groups (Wu and He 2018) with SiLU behind it, half and twice the points.
//!
//! Arrays are row-major, fields `[sample, channel, y, x]`; parameters anywhere in one array, at the places that [`Convolution`] says. A
//! convolution is a product of its weights with the neighbourhoods of the points (implicit GEMM): tiles of both lie in shared memory, and
//! neighbourhoods are never written.
//!
//! Sums are in single precision over the channels that come, and in double over the points of a group; none depends on a run. Here the
//! processor has the plain loops of `reference.rs` alone; workloads have their own fast code for it.
//!
//! | | |
//! |---|---|
//! | W ∗ x + b + beside | [`Convolution::apply`], zeros outside |
//! | silu(slope x̂ + offset), x̂ of mean 0 and variance 1 in groups of channels | [`Groups::apply`] |
//! | means of 2 × 2 points; every point four times, with channels of another field behind | [`halve`], [`double_and_join`] |
//! | 2 × 2 points as four channels: scale (x − mean), and mean + skip (x − mean) + scale f | [`Images::apart`], [`Images::together`] |

mod cuda;
pub mod reference;
#[cfg(test)]
mod tests;

use crate::fourier_layer::{at_least_one, below_2_31, expect, narrow, wide, within};
use crate::{Buffer, Device, KernelError, Result};

type Array = Buffer<f32>;

/// A convolution: `weight` `[to, from, size, size]` and `bias` `[to]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Convolution {
    /// Channels that come.
    pub from: usize,
    /// Channels that go.
    pub to: usize,
    /// Points of the kernel along y and x: 3, or 1 for a map at every point.
    pub size: usize,
    /// Where W starts among the parameters.
    pub weight: usize,
    /// Where b starts.
    pub bias: usize,
}

impl Convolution {
    fn weights(&self) -> usize {
        self.to * self.from * self.size * self.size
    }

    /// `y` `[samples, to, h, w]` = W ∗ `x` `[samples, from, h, w]` + b, and `beside` of the same shape as `y` added.
    ///
    /// # Errors
    /// Where the lengths disagree, for a kernel of another size, or the device fails.
    pub fn apply(
        &self,
        device: &Device,
        [h, w]: [usize; 2],
        parameters: &mut Array,
        x: &mut Array,
        beside: Option<&mut Array>,
        y: &mut Array,
    ) -> Result<()> {
        if !matches!(self.size, 1 | 3) {
            return Err(KernelError::Parameter { what: "points of a kernel", value: self.size as f64, rule: "1 or 3" });
        }
        at_least_one("channels and points", self.from.min(self.to).min(h).min(w))?;
        below_2_31("numbers of a convolution's weight", self.weights())?;
        within("weight of a convolution", self.weight + self.weights(), parameters.len())?;
        within("bias of a convolution", self.bias + self.to, parameters.len())?;
        let samples = x.len() / (self.from * h * w);
        expect("x [samples, from, h, w]", x.len(), samples * self.from * h * w)?;
        expect("y [samples, to, h, w]", y.len(), samples * self.to * h * w)?;
        below_2_31("numbers of all samples' fields", x.len().max(y.len()))?;
        if let Some(beside) = &beside {
            expect("beside [samples, to, h, w]", beside.len(), y.len())?;
        }
        if let Device::Gpu(gpu) = device {
            return cuda::convolve(gpu, self, (samples, [h, w]), parameters, x, beside, y);
        }
        let all = parameters.host();
        let (weight, bias) = (wide(&all[self.weight..][..self.weights()]), wide(&all[self.bias..][..self.to]));
        let mut out = reference::convolve(&weight, &bias, &wide(x.host()), self.from, [h, w]);
        if let Some(beside) = beside {
            out.iter_mut().zip(beside.host()).for_each(|(out, v)| *out += f64::from(*v));
        }
        narrow(&out, y.host_out());
        Ok(())
    }
}

/// A normalisation in groups of channels with SiLU behind it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Groups {
    /// Channels.
    pub channels: usize,
    /// Groups of them.
    pub groups: usize,
    /// Added to variances.
    pub tiny: f64,
    /// Where the slopes of all channels start in `affine`; their offsets follow.
    pub start: usize,
}

impl Groups {
    /// `y` = silu(slope x̂ + offset) for `x` `[samples, channels, points]`; `moments` is work, `[samples, groups, 2]`.
    ///
    /// # Errors
    /// Where the lengths disagree, or the device fails.
    pub fn apply(
        &self,
        device: &Device,
        points: usize,
        affine: &mut Array,
        x: &mut Array,
        moments: &mut Array,
        y: &mut Array,
    ) -> Result<()> {
        at_least_one("channels, groups and points", self.channels.min(self.groups).min(points))?;
        if !self.channels.is_multiple_of(self.groups) {
            let (value, rule) = (self.groups as f64, "a divisor of the channels");
            return Err(KernelError::Parameter { what: "groups", value, rule });
        }
        within("slopes and offsets", self.start + 2 * self.channels, affine.len())?;
        let samples = x.len() / (self.channels * points);
        expect("x [samples, channels, points]", x.len(), samples * self.channels * points)?;
        expect("y [samples, channels, points]", y.len(), x.len())?;
        expect("moments [samples, groups, 2]", moments.len(), 2 * samples * self.groups)?;
        below_2_31("numbers of all samples' fields", x.len())?;
        if let Device::Gpu(gpu) = device {
            return cuda::normalise(gpu, self, points, affine, x, moments, y);
        }
        let slopes = &affine.host()[self.start..][..2 * self.channels];
        let out = reference::normalise(&wide(slopes), self.groups, self.tiny, &wide(x.host()), points);
        narrow(&out, y.host_out());
        Ok(())
    }
}

/// `y` `[planes, h/2, w/2]`: means of 2 × 2 points of `x` `[planes, h, w]`.
///
/// # Errors
/// Where the lengths disagree, for odd points, or the device fails.
pub fn halve(device: &Device, [h, w]: [usize; 2], x: &mut Array, y: &mut Array) -> Result<()> {
    even([h, w])?;
    let planes = x.len() / (h * w);
    expect("x [planes, h, w]", x.len(), planes * h * w)?;
    expect("y [planes, h/2, w/2]", y.len(), x.len() / 4)?;
    below_2_31("numbers of all fields", x.len())?;
    match device {
        Device::Gpu(gpu) => cuda::halve(gpu, w / 2, x, y),
        Device::Cpu => {
            narrow(&reference::halve(&wide(x.host()), w), y.host_out());
            Ok(())
        }
    }
}

/// `y` `[samples, first + second, h, w]`: `a` `[samples, first, h/2, w/2]` with every point four times, then `b` `[samples, second, h, w]`.
///
/// # Errors
/// Where the lengths disagree, for odd points, or the device fails.
pub fn double_and_join(
    device: &Device,
    [first, second]: [usize; 2],
    [h, w]: [usize; 2],
    a: &mut Array,
    b: &mut Array,
    y: &mut Array,
) -> Result<()> {
    even([h, w])?;
    at_least_one("channels", first.min(second))?;
    let samples = b.len() / (second * h * w);
    expect("b [samples, second, h, w]", b.len(), samples * second * h * w)?;
    expect("a [samples, first, h/2, w/2]", a.len(), samples * first * h * w / 4)?;
    expect("y [samples, first + second, h, w]", y.len(), samples * (first + second) * h * w)?;
    below_2_31("numbers of all fields", y.len())?;
    match device {
        Device::Gpu(gpu) => cuda::double_and_join(gpu, [first, second], [h, w], (a, b), y),
        Device::Cpu => {
            let out = reference::double_and_join(&wide(a.host()), &wide(b.host()), [first, second], [h, w]);
            narrow(&out, y.host_out());
            Ok(())
        }
    }
}

/// Images of even extents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Images {
    /// Points along y.
    pub h: usize,
    /// Points along x.
    pub w: usize,
}

impl Images {
    fn check(&self, x: usize, y: usize) -> Result<()> {
        even([self.h, self.w])?;
        expect("images [images, h, w]", x, x / (self.h * self.w) * self.h * self.w)?;
        expect("images [images, 4, h/2, w/2]", y, x)?;
        below_2_31("numbers of all images", x)
    }

    /// `y` `[images, 4, h/2, w/2]` = scale (x − mean) of `x` `[images, h, w]`.
    ///
    /// # Errors
    /// Where the lengths disagree, for odd points, or the device fails.
    pub fn apart(&self, device: &Device, [mean, scale]: [f64; 2], x: &mut Array, y: &mut Array) -> Result<()> {
        self.check(x.len(), y.len())?;
        if let Device::Gpu(gpu) = device {
            return cuda::apart(gpu, self, [mean, scale], x, y);
        }
        let scaled: Vec<f64> = x.host().iter().map(|x| scale * (f64::from(*x) - mean)).collect();
        narrow(&reference::shuffle(&scaled, [self.h, self.w], false), y.host_out());
        Ok(())
    }

    /// `y` `[images, h, w]` = mean + skip (x − mean) + scale f of `x` `[images, h, w]` and `f` `[images, 4, h/2, w/2]`.
    ///
    /// # Errors
    /// Where the lengths disagree, for odd points, or the device fails.
    pub fn together(
        &self,
        device: &Device,
        [mean, skip, scale]: [f64; 3],
        x: &mut Array,
        f: &mut Array,
        y: &mut Array,
    ) -> Result<()> {
        self.check(x.len(), f.len())?;
        expect("y [images, h, w]", y.len(), x.len())?;
        if let Device::Gpu(gpu) = device {
            return cuda::together(gpu, self, [mean, skip, scale], (x, f), y);
        }
        let joined = reference::shuffle(&wide(f.host()), [self.h, self.w], true);
        let of = |(x, f): (&f32, f64)| mean + skip * (f64::from(*x) - mean) + scale * f;
        let out: Vec<f64> = x.host().iter().zip(joined).map(of).collect();
        narrow(&out, y.host_out());
        Ok(())
    }
}

fn even([h, w]: [usize; 2]) -> Result<()> {
    let odd = [h, w].into_iter().find(|n| *n == 0 || !n.is_multiple_of(2));
    odd.map_or(Ok(()), |n| {
        Err(KernelError::Parameter { what: "points along an axis", value: n as f64, rule: "an even number above 0" })
    })
}
