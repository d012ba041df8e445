//! What a spatiotemporal Fourier neural operator (Cao et al., "Spectral-Refiner", ICLR 2025) needs beside Fourier layers, in single
//! precision: pointwise networks ([`Feed`]), and what its ends do with snapshots ([`SpaceTime`]).
//!
//! Fields are `[sample, channel, place, t]` with one `place` for each point of x and y; snapshots are `[sample, t, place]`. The wide part of
//! a network is made 32 channels and 64 points at a time, never written, and made again for the derivative: twice, for fields and for
//! parameters, which costs 7 products of matrices where 5 would do and saves four times the fields' bytes. Sums have one order. The
//! processor has the plain loops of `reference.rs` alone; the workload has its own fast code for it.

mod cuda;
pub mod reference;
mod snapshots;
#[cfg(test)]
mod tests;

use crate::fourier_layer::{Scratch, at_least_one, below_2_31, expect, narrow, wide, within};
use crate::{Buffer, Device, Result};
pub use snapshots::{Folded, ModeBias, SpaceTime};

type Array = Buffer<f32>;

/// A pointwise network W₂ σ(W₁ x + b₁) + b₂, σ = GELU: where its parameters are, W₁ `[inside, h]`, b₁, W₂ `[h, inside]`, b₂ one after
/// another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feed {
    /// Channels of the fields.
    pub h: usize,
    /// Channels inside.
    pub inside: usize,
    /// Where the parameters start.
    pub start: usize,
}

/// What is added to what a network makes, before σ.
#[derive(Debug)]
pub enum Beside<'a> {
    /// W v + b of fields v: where W `[h, h]` and b start, and v.
    Map(usize, usize, &'a mut Array),
    /// The newest of so many times of fields, at each of so many latent times.
    Newest(usize, usize, &'a mut Array),
}

impl Feed {
    /// Number of parameters.
    pub fn count(&self) -> usize {
        2 * self.inside * self.h + self.inside + self.h
    }

    /// Points of fields `[samples, h, points]`.
    fn check(&self, samples: usize, parameters: usize, x: usize) -> Result<usize> {
        at_least_one("samples and channels", samples.min(self.h).min(self.inside))?;
        below_2_31("parameters of a network", self.count())?;
        within("parameters of a network", self.start + self.count(), parameters)?;
        let points = x / (samples * self.h);
        at_least_one("points", points)?;
        below_2_31("numbers of all fields", x)?;
        expect("fields [samples, h, points]", x, samples * self.h * points)?;
        Ok(points)
    }

    /// out = σ(the network of `x` + what is beside it), and σ' to `slopes`.
    ///
    /// # Errors
    /// Where the lengths disagree, or the device fails.
    #[allow(clippy::too_many_arguments)]
    pub fn forward(
        &self,
        device: &Device,
        samples: usize,
        parameters: &mut Array,
        x: &mut Array,
        beside: Beside<'_>,
        slopes: &mut Array,
        out: &mut Array,
    ) -> Result<()> {
        let points = self.check(samples, parameters.len(), x.len())?;
        expect("slopes", slopes.len(), x.len())?;
        expect("out", out.len(), x.len())?;
        match &beside {
            Beside::Map(weight, bias, v) => {
                within("weight of a pointwise map", weight + self.h * self.h, parameters.len())?;
                within("bias of a pointwise map", bias + self.h, parameters.len())?;
                expect("v", v.len(), x.len())?;
            }
            Beside::Newest(times, latent, v) => {
                at_least_one("times", *times.min(latent))?;
                expect("points, a multiple of latent times,", points, points / latent * latent)?;
                expect("v [samples, h, places, times]", v.len(), samples * self.h * (points / latent) * times)?;
            }
        }
        if let Device::Gpu(gpu) = device {
            return cuda::feed(gpu, self, (samples, points), parameters, x, beside, slopes, out);
        }
        let (p, x) = (self.own(parameters), wide(x.host()));
        let mut sums = reference::feed(self, samples, &p, &x);
        let more = match beside {
            Beside::Map(weight, bias, v) => {
                let all = wide(parameters.host());
                let (w, b) = (&all[weight..weight + self.h * self.h], &all[bias..bias + self.h]);
                crate::fourier_layer::reference::mix(w, Some(b), &wide(v.host()), samples, self.h)
            }
            Beside::Newest(times, latent, v) => reference::newest(times, latent, &wide(v.host())),
        };
        sums.iter_mut().zip(more).for_each(|(sum, v)| *sum += v);
        let (values, derivatives) = crate::fourier_layer::reference::gelu(&sums, 1);
        narrow(&derivatives, slopes.host_out());
        narrow(&values, out.host_out());
        Ok(())
    }

    /// ∂/∂x of the network, for derivatives `g` by what it makes.
    ///
    /// # Errors
    /// Where the lengths disagree, or the device fails.
    pub fn back(
        &self,
        device: &Device,
        samples: usize,
        parameters: &mut Array,
        x: &mut Array,
        g: &mut Array,
        dx: &mut Array,
    ) -> Result<()> {
        let points = self.check(samples, parameters.len(), x.len())?;
        expect("g", g.len(), x.len())?;
        expect("dx", dx.len(), x.len())?;
        if let Device::Gpu(gpu) = device {
            return cuda::feed_back(gpu, self, (samples, points), parameters, x, g, dx);
        }
        let p = self.own(parameters);
        narrow(&reference::feed_back(self, samples, &p, &wide(x.host()), &wide(g.host())).0, dx.host_out());
        Ok(())
    }

    /// ∂/∂parameters of the network, written to their places in `gradient`.
    ///
    /// # Errors
    /// Where the lengths disagree, or the device fails.
    #[allow(clippy::too_many_arguments)]
    pub fn gradient(
        &self,
        device: &Device,
        samples: usize,
        parameters: &mut Array,
        x: &mut Array,
        g: &mut Array,
        gradient: &mut Array,
        scratch: &mut Scratch,
    ) -> Result<()> {
        let points = self.check(samples, parameters.len(), x.len())?;
        expect("g", g.len(), x.len())?;
        expect("gradient", gradient.len(), parameters.len())?;
        if let Device::Gpu(gpu) = device {
            return cuda::feed_gradient(gpu, self, (samples, points), parameters, (x, g), (gradient, scratch));
        }
        let p = self.own(parameters);
        let all = reference::feed_back(self, samples, &p, &wide(x.host()), &wide(g.host())).1;
        narrow(&all, &mut gradient.host_mut()[self.start..][..all.len()]);
        Ok(())
    }

    fn own(&self, parameters: &mut Array) -> Vec<f64> {
        wide(&parameters.host()[self.start..][..self.count()])
    }
}
