//! Layers of Fourier neural operators (Li et al., ICLR 2021) in single precision, their derivatives, and the step of training around them.
//!
//! A layer is σ(K v + W v + b): of the fields v the kept modes are made ([`Transform::analysis`]), each is multiplied with a matrix
//! ([`Modes::product`]), and one pass makes the fields of them, adds the pointwise map and applies σ ([`Transform::layer`]). Transforms
//! are products of matrices along each axis, pruned to the kept modes: with some tens of modes an axis that moves fewer bytes than a
//! whole FFT that is cut afterwards, and a synthesis can end in the same pass as the pointwise map. cuFFT and cuBLAS are not used: the
//! first cannot be pruned or fused, and per-mode products are bound by the bytes of their matrices in either.
//!
//! Arrays are row-major: fields `[sample, channel, points]`; coefficients `[sample, channel, mode, re | im]`, modes in the order of
//! [`kept`]; parameters anywhere in one array, at the places that [`Mix`] and [`Modes`] say.
//!
//! Sums are in single precision over pieces fixed by the shapes, and in double over the pieces: bits do not depend on a run. Here the
//! processor has the plain loops of `reference.rs` alone; workloads have their own fast code for it.
//!
//! | | |
//! |---|---|
//! | x̂_k = Σ_n x_n e^{−2πi k·n/N} | [`Transform::analysis`], times c_k/N with [`Scale::Inverse`] |
//! | Re Σ_k ŷ_k e^{2πi k·n/N} | [`Transform::synthesis`], times c_k/N with [`Scale::Inverse`]; c = 1 for k_last = 0 and Nyquist, else 2 |
//! | ŷ_o = Σ_i x̂_i W_io; Σ_o ĝ_o conj W_io; Σ_b conj(x̂_i) ĝ_o | [`Modes::product`], [`Modes::product_back`], [`Modes::gradient`] |
//! | W x + b; Wᵀ g; Σ g xᵀ and Σ g | [`mix`], [`mix_back`], [`mix_gradient`] |
//! | W as a Tucker product of core and factors, and the derivatives by these | [`Tucker::matrices`], [`Tucker::gradient`] |

pub(crate) mod cuda;
mod mix;
pub mod reference;
#[cfg(test)]
mod tests;
mod training;
mod transform;
mod tucker;

use crate::{Buffer, Device, KernelError, Result};
pub use cuda::Scratch;
pub use mix::{Mix, gate_gradient, mix, mix_back, mix_gradient};
pub use training::{AdamW, RelativeL2, adamw};
pub use transform::{Scale, Transform, Window, kept};
pub use tucker::{Factors, Tucker};

type Array = Buffer<f32>;

/// What is done to a sum before it is written.
#[derive(Debug)]
pub enum After<'a> {
    /// Nothing.
    Nothing,
    /// GELU, so many times; its derivative goes to the array.
    Gelu(usize, &'a mut Array),
    /// A product with the array, such as such derivatives.
    Times(&'a mut Array),
    /// First the fields are added, each channel times its gate, where the gates start among the parameters if there are any; then one of the
    /// others.
    Plus(&'a mut Array, Option<usize>, Box<Self>),
}

/// The matrices of kept modes: where they are among the parameters, `[mode, re | im, from, to]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Modes {
    /// Kept modes.
    pub modes: usize,
    /// Channels that come.
    pub from: usize,
    /// Channels that go.
    pub to: usize,
    /// Where the matrices start.
    pub weight: usize,
}

impl After<'_> {
    fn check(&self, len: usize, channels: usize, parameters: usize) -> Result<()> {
        match self {
            Self::Nothing => Ok(()),
            Self::Gelu(times, slopes) => {
                at_least_one("times that GELU is applied", *times)?;
                expect("slopes", slopes.len(), len)
            }
            Self::Times(factor) => expect("factor", factor.len(), len),
            Self::Plus(fields, gate, then) => {
                expect("fields that are added", fields.len(), len)?;
                within("gates", gate.map_or(0, |gate| gate + channels), parameters)?;
                expect("arrays that are added behind one that is", usize::from(matches!(**then, Self::Plus(..))), 0)?;
                then.check(len, channels, parameters)
            }
        }
    }

    /// The same on the processor, of sums `[sample, channel, point]`.
    fn apply(self, parameters: &mut Array, (samples, channels): (usize, usize), mut sums: Vec<f64>, out: &mut Array) {
        let values = match self {
            Self::Nothing => sums,
            Self::Times(factor) => sums.iter().zip(factor.host()).map(|(x, f)| x * f64::from(*f)).collect(),
            Self::Gelu(times, slopes) => {
                let (values, all) = reference::gelu(&sums, times);
                narrow(&all, slopes.host_out());
                values
            }
            Self::Plus(fields, gate, then) => {
                let gates = gate.map(|gate| wide(&parameters.host()[gate..][..channels]));
                let points = sums.len() / (samples * channels);
                reference::plus(&mut sums, &wide(fields.host()), gates.as_deref(), (channels, points));
                return then.apply(parameters, (samples, channels), sums, out);
            }
        };
        narrow(&values, out.host_out());
    }
}

impl Modes {
    fn size(&self) -> usize {
        2 * self.modes * self.from * self.to
    }

    fn check(&self, samples: usize, parameters: usize, come: &Array, go: &Array, back: bool) -> Result<()> {
        at_least_one("samples, modes and channels", samples.min(self.modes).min(self.from).min(self.to))?;
        below_2_31("coefficients of all samples", 2 * samples * self.modes * self.from.max(self.to))?;
        below_2_31("numbers of a mode's matrix", 2 * self.from * self.to)?;
        // Tiles of these are counted along the second and third axis of a grid, which have 65 535 places.
        within("samples", samples, 1 << 20)?;
        within("channels", self.from.max(self.to), 1 << 20)?;
        within("matrices of the modes", self.weight + self.size(), parameters)?;
        let of = |channels: usize| 2 * samples * channels * self.modes;
        let (from, to) = if back { (self.to, self.from) } else { (self.from, self.to) };
        expect("coefficients that come [samples, channels, modes, 2]", come.len(), of(from))?;
        expect("coefficients that go [samples, channels, modes, 2]", go.len(), of(to))
    }

    /// ŷ_o = Σ_i x̂_i W_io for each mode: `x` of `from` channels, `y` of `to`.
    ///
    /// # Errors
    /// Where the lengths disagree, or the device fails.
    pub fn product(
        &self,
        device: &Device,
        samples: usize,
        parameters: &mut Array,
        x: &mut Array,
        y: &mut Array,
    ) -> Result<()> {
        self.check(samples, parameters.len(), x, y, false)?;
        if let Device::Gpu(gpu) = device {
            return cuda::mode_product(gpu, self, samples, false, parameters, x, y);
        }
        narrow(&reference::mode_product(self, samples, &self.matrices(parameters), &wide(x.host())), y.host_out());
        Ok(())
    }

    /// x̂_i = Σ_o ĝ_o conj W_io: `g` of `to` channels, `x` of `from`.
    ///
    /// # Errors
    /// Where the lengths disagree, or the device fails.
    pub fn product_back(
        &self,
        device: &Device,
        samples: usize,
        parameters: &mut Array,
        g: &mut Array,
        x: &mut Array,
    ) -> Result<()> {
        self.check(samples, parameters.len(), g, x, true)?;
        if let Device::Gpu(gpu) = device {
            return cuda::mode_product(gpu, self, samples, true, parameters, g, x);
        }
        narrow(&reference::mode_product_back(self, samples, &self.matrices(parameters), &wide(g.host())), x.host_out());
        Ok(())
    }

    /// ∂/∂W, real and imaginary parts as independent numbers, Σ_b conj(x̂_i) ĝ_o, written to its place in `gradient`.
    ///
    /// # Errors
    /// Where the lengths disagree, or the device fails.
    pub fn gradient(
        &self,
        device: &Device,
        samples: usize,
        x: &mut Array,
        g: &mut Array,
        gradient: &mut Array,
    ) -> Result<()> {
        self.check(samples, gradient.len(), x, g, false)?;
        if let Device::Gpu(gpu) = device {
            return cuda::mode_gradient(gpu, self, samples, x, g, gradient);
        }
        let dw = reference::mode_gradient(self, samples, &wide(x.host()), &wide(g.host()));
        narrow(&dw, &mut gradient.host_mut()[self.weight..][..dw.len()]);
        Ok(())
    }

    fn matrices(&self, parameters: &mut Array) -> Vec<f64> {
        wide(&parameters.host()[self.weight..][..self.size()])
    }
}

/// `y` `[planes, to]` is `x` `[planes, from]` where both have a point, else 0: zeros are put behind the points of each axis, or cut off.
///
/// # Errors
/// For more than three axes, where the lengths disagree, or the device fails.
pub fn resize(device: &Device, from: &[usize], to: &[usize], x: &mut Array, y: &mut Array) -> Result<()> {
    expect("axes of a field", to.len(), from.len())?;
    if from.len() > 3 {
        return Err(KernelError::Parameter { what: "axes of a field", value: from.len() as f64, rule: "1 to 3" });
    }
    let [size, out] = [from, to].map(|points| points.iter().product::<usize>());
    at_least_one("points of a field", size.min(out))?;
    let planes = x.len() / size;
    expect("x [planes, from]", x.len(), planes * size)?;
    expect("y [planes, to]", y.len(), planes * out)?;
    below_2_31("numbers of all fields", x.len().max(y.len()))?;
    match device {
        Device::Gpu(gpu) => return cuda::resize(gpu, planes, (from, to), x, y),
        Device::Cpu => y.host_out().copy_from_slice(&reference::resize(from, to, x.host())),
    }
    Ok(())
}

pub(crate) fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().copied().map(f64::from).collect()
}

pub(crate) fn narrow(values: &[f64], out: &mut [f32]) {
    out.iter_mut().zip(values).for_each(|(out, v)| *out = *v as f32);
}

pub(crate) fn expect(what: &'static str, got: usize, expected: usize) -> Result<()> {
    if got == expected { Ok(()) } else { Err(KernelError::Shape { what, expected, got }) }
}

pub(crate) fn within(what: &'static str, index: usize, bound: usize) -> Result<()> {
    if index <= bound { Ok(()) } else { Err(KernelError::Index { what, index, bound: bound + 1 }) }
}

pub(crate) fn at_least_one(what: &'static str, value: usize) -> Result<()> {
    if value > 0 { Ok(()) } else { Err(KernelError::Parameter { what, value: 0.0, rule: "at least 1" }) }
}

pub(crate) fn below_2_31(what: &'static str, value: usize) -> Result<()> {
    if value < 1 << 31 { Ok(()) } else { Err(KernelError::Parameter { what, value: value as f64, rule: "below 2^31" }) }
}
