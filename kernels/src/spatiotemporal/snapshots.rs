//! The ends of the operator: from snapshots to fields and back.

use super::{Array, cuda, reference};
use crate::fourier_layer::{Scratch, at_least_one, below_2_31, expect, narrow, wide, within};
use crate::{Device, Result};

/// Extents of an operator on a grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpaceTime {
    /// Points of x and y.
    pub places: usize,
    /// Snapshots that are given.
    pub times: usize,
    /// Times inside.
    pub latent: usize,
    /// Snapshots that are made.
    pub output: usize,
}

/// A map of channels behind an affine one, W(γ v + β) + b, as one: where γ, β `[h]`, W `[h, h]` and b `[h]` start among the parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Folded {
    /// Channels.
    pub h: usize,
    /// γ.
    pub scale: usize,
    /// β.
    pub shift: usize,
    /// W.
    pub weight: usize,
    /// b.
    pub bias: usize,
}

/// A bias of coefficients, the same for all samples: where it starts, `[outer, re | im, inner]`, and what it is multiplied with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ModeBias {
    /// Kept modes of x and y.
    pub outer: usize,
    /// Those of t.
    pub inner: usize,
    /// Where it starts.
    pub start: usize,
    /// The factor.
    pub factor: f32,
}

impl SpaceTime {
    fn check(&self, samples: usize, snapshots: Option<usize>) -> Result<()> {
        at_least_one(
            "samples and extents",
            samples.min(self.places).min(self.times).min(self.latent).min(self.output),
        )?;
        below_2_31(
            "numbers of all fields",
            samples * self.places * (1 + self.times.max(self.latent).max(self.output)),
        )?;
        snapshots
            .map_or(Ok(()), |len| expect("snapshots [samples, times, places]", len, samples * self.times * self.places))
    }

    /// Snapshots in every channel with `encoding` `[channel, place, t]`, of each sample with mean 0 and variance 1 but for `tiny`.
    ///
    /// # Errors
    /// Where the lengths disagree, or the device fails.
    #[allow(clippy::too_many_arguments)]
    pub fn standard(
        &self,
        device: &Device,
        samples: usize,
        tiny: f64,
        encoding: &mut Array,
        snapshots: &mut Array,
        scratch: &mut Scratch,
        out: &mut Array,
    ) -> Result<()> {
        self.check(samples, Some(snapshots.len()))?;
        let line = self.places * self.times;
        expect("encoding, a multiple of places and times,", encoding.len(), encoding.len() / line * line)?;
        at_least_one("channels", encoding.len())?;
        expect("out", out.len(), samples * encoding.len())?;
        below_2_31("numbers of all fields", out.len())?;
        if let Device::Gpu(gpu) = device {
            return cuda::standard(gpu, self, samples, tiny, encoding, snapshots, scratch, out);
        }
        let (encoding, snapshots) = (wide(encoding.host()), wide(snapshots.host()));
        narrow(&reference::standard(self, tiny, &encoding, &snapshots), out.host_out());
        Ok(())
    }

    /// x += the adjoint of taking the newest of `times` at all latent ones, of `g`.
    ///
    /// # Errors
    /// Where the lengths disagree, or the device fails.
    pub fn gather(&self, device: &Device, g: &mut Array, x: &mut Array) -> Result<()> {
        let lines = g.len() / self.latent;
        at_least_one("lines", lines)?;
        below_2_31("numbers of all fields", g.len().max(x.len()))?;
        expect("g [lines, latent]", g.len(), lines * self.latent)?;
        expect("x [lines, times]", x.len(), lines * self.times)?;
        if let Device::Gpu(gpu) = device {
            return cuda::gather(gpu, self, lines, g, x);
        }
        let mut all = wide(x.host());
        reference::gather(self.times, self.latent, &wide(g.host()), &mut all);
        narrow(&all, x.host_mut());
        Ok(())
    }

    /// z `[sample, place, latent + 1]`: the newest snapshot, then `reduced` `[sample, place, latent]`.
    ///
    /// # Errors
    /// Where the lengths disagree, or the device fails.
    pub fn join(
        &self,
        device: &Device,
        samples: usize,
        snapshots: &mut Array,
        reduced: &mut Array,
        z: &mut Array,
    ) -> Result<()> {
        self.check(samples, Some(snapshots.len()))?;
        self.check_joined(samples, reduced, z)?;
        if let Device::Gpu(gpu) = device {
            return cuda::join(gpu, self, samples, Some(snapshots), reduced, z);
        }
        narrow(&reference::join(self, &wide(snapshots.host()), &wide(reduced.host())), z.host_out());
        Ok(())
    }

    /// The adjoint of [`SpaceTime::join`] for `reduced`.
    ///
    /// # Errors
    /// Where the lengths disagree, or the device fails.
    pub fn cut(&self, device: &Device, samples: usize, z: &mut Array, reduced: &mut Array) -> Result<()> {
        self.check(samples, None)?;
        self.check_joined(samples, reduced, z)?;
        if let Device::Gpu(gpu) = device {
            return cuda::join(gpu, self, samples, None, reduced, z);
        }
        narrow(&reference::cut(self, &wide(z.host())), reduced.host_out());
        Ok(())
    }

    fn check_joined(&self, samples: usize, reduced: &Array, z: &Array) -> Result<()> {
        expect("reduced [samples, places, latent]", reduced.len(), samples * self.places * self.latent)?;
        expect("z [samples, places, latent + 1]", z.len(), samples * self.places * (self.latent + 1))
    }

    /// `snapshots` `[sample, t, place]`: the newest of `given` plus `changes` `[sample, place, t]`.
    ///
    /// # Errors
    /// Where the lengths disagree, or the device fails.
    pub fn forecast(
        &self,
        device: &Device,
        samples: usize,
        given: &mut Array,
        changes: &mut Array,
        snapshots: &mut Array,
    ) -> Result<()> {
        self.check(samples, Some(given.len()))?;
        self.check_made(samples, changes, snapshots)?;
        if let Device::Gpu(gpu) = device {
            return cuda::forecast(gpu, self, samples, Some(given), changes, snapshots);
        }
        narrow(&reference::forecast(self, &wide(given.host()), &wide(changes.host())), snapshots.host_out());
        Ok(())
    }

    /// The adjoint of [`SpaceTime::forecast`] for `changes`, of derivatives by `snapshots`.
    ///
    /// # Errors
    /// Where the lengths disagree, or the device fails.
    pub fn forecast_back(
        &self,
        device: &Device,
        samples: usize,
        snapshots: &mut Array,
        changes: &mut Array,
    ) -> Result<()> {
        self.check(samples, None)?;
        self.check_made(samples, changes, snapshots)?;
        if let Device::Gpu(gpu) = device {
            return cuda::forecast(gpu, self, samples, None, changes, snapshots);
        }
        narrow(&reference::forecast_back(self, &wide(snapshots.host())), changes.host_out());
        Ok(())
    }

    fn check_made(&self, samples: usize, changes: &Array, snapshots: &Array) -> Result<()> {
        expect("changes [samples, places, output]", changes.len(), samples * self.places * self.output)?;
        expect("snapshots [samples, output, places]", snapshots.len(), changes.len())
    }
}

impl Folded {
    fn check(&self, parameters: usize) -> Result<()> {
        at_least_one("channels", self.h)?;
        below_2_31("numbers of a map", self.h * self.h)?;
        let last = self.scale.max(self.shift).max(self.bias) + self.h;
        within("parameters of a folded map", last.max(self.weight + self.h * self.h), parameters)
    }

    fn places(&self) -> [std::ops::Range<usize>; 4] {
        let vector = |start: usize| start..start + self.h;
        [vector(self.scale), vector(self.shift), self.weight..self.weight + self.h * self.h, vector(self.bias)]
    }

    /// W and b of both maps together, one after the other in `folded` `[h h + h]`.
    ///
    /// # Errors
    /// Where the lengths disagree, or the device fails.
    pub fn fold(&self, device: &Device, parameters: &mut Array, folded: &mut Array) -> Result<()> {
        self.check(parameters.len())?;
        expect("folded [h h + h]", folded.len(), self.h * self.h + self.h)?;
        if let Device::Gpu(gpu) = device {
            return cuda::fold(gpu, self, parameters, folded);
        }
        let all = wide(parameters.host());
        narrow(&reference::fold(self.places().map(|place| &all[place])), folded.host_out());
        Ok(())
    }

    /// The gradient of γ, β, W and b, to their places in `gradient`, from that of [`Folded::fold`].
    ///
    /// # Errors
    /// Where the lengths disagree, or the device fails.
    pub fn unfold(
        &self,
        device: &Device,
        parameters: &mut Array,
        folded: &mut Array,
        gradient: &mut Array,
    ) -> Result<()> {
        self.check(parameters.len())?;
        expect("gradient", gradient.len(), parameters.len())?;
        expect("folded [h h + h]", folded.len(), self.h * self.h + self.h)?;
        if let Device::Gpu(gpu) = device {
            return cuda::unfold(gpu, self, parameters, folded, gradient);
        }
        let (all, [scale, shift, weight, _]) = (wide(parameters.host()), self.places());
        let parts = reference::unfold([scale, shift, weight].map(|place| &all[place]), &wide(folded.host()));
        for (place, part) in self.places().into_iter().zip(parts) {
            narrow(&part, &mut gradient.host_mut()[place]);
        }
        Ok(())
    }
}

impl ModeBias {
    fn size(&self) -> usize {
        2 * self.outer * self.inner
    }

    fn check(&self, samples: usize, parameters: usize, y: &Array) -> Result<()> {
        at_least_one("samples and modes", samples.min(self.size()))?;
        within("bias of modes", self.start + self.size(), parameters)?;
        below_2_31("coefficients of all samples", y.len())?;
        expect("y [samples, outer, inner, 2]", y.len(), samples * self.size())
    }

    /// Adds it to coefficients `[sample, outer, inner, re | im]`.
    ///
    /// # Errors
    /// Where the lengths disagree, or the device fails.
    pub fn add(&self, device: &Device, samples: usize, parameters: &mut Array, y: &mut Array) -> Result<()> {
        self.check(samples, parameters.len(), y)?;
        if let Device::Gpu(gpu) = device {
            return cuda::add_bias(gpu, self, samples, parameters, y);
        }
        let bias = wide(&parameters.host()[self.start..][..self.size()]);
        let mut all = wide(y.host());
        reference::add_bias(self.inner, f64::from(self.factor), &bias, &mut all);
        narrow(&all, y.host_mut());
        Ok(())
    }

    /// Its gradient, to its place in `gradient`, for derivatives `g` by the coefficients.
    ///
    /// # Errors
    /// Where the lengths disagree, or the device fails.
    pub fn gradient(&self, device: &Device, samples: usize, g: &mut Array, gradient: &mut Array) -> Result<()> {
        self.check(samples, gradient.len(), g)?;
        if let Device::Gpu(gpu) = device {
            return cuda::bias_gradient(gpu, self, samples, g, gradient);
        }
        let sums = reference::bias_gradient(self.inner, f64::from(self.factor), self.size(), &wide(g.host()));
        narrow(&sums, &mut gradient.host_mut()[self.start..][..sums.len()]);
        Ok(())
    }
}
