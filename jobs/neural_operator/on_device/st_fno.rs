//! The passes of a spatiotemporal operator on a device: `../st_fno.rs` in the operations of `kernels::fourier_layer` and
//! `kernels::spatiotemporal`.

use std::collections::BTreeMap;

use convoke_cluster::Result;
use convoke_kernels::fourier_layer::{
    After, Mix, Modes, Scale, Scratch, Transform, Window, mix, mix_back, mix_gradient,
};
use convoke_kernels::spatiotemporal::{Beside, Feed, Folded, ModeBias, SpaceTime};
use convoke_kernels::{Buffer, Device};

use super::place;
use crate::neural_operator::feed::WIDER;
use crate::neural_operator::st_fno::{StFno, StShape, TINY};

type Array = Buffer<f32>;

/// Where a layer's parameters lie; the first one has no pointwise map.
#[derive(Debug, Clone, Copy)]
struct Layer {
    modes: Modes,
    feed: Feed,
    map: Option<Mix>,
}

/// A spatiotemporal operator on a grid on a device.
#[derive(Debug)]
pub struct DeviceStFno {
    device: Device,
    shape: StShape,
    extents: SpaceTime,
    /// At the times that are given, inside, and of the last K on both sides.
    history: Transform,
    latent: Transform,
    extended: Transform,
    forecast: Transform,
    encoding: Array,
    lift: Folded,
    layers: Vec<Layer>,
    reduce: Mix,
    last: Modes,
    bias: ModeBias,
    /// Arrays of passes over so many samples: a step uses those of the one before it again.
    passes: BTreeMap<usize, Pass>,
    scratch: Scratch,
}

/// What a forward pass makes, and what the backward one needs beside it.
#[derive(Debug)]
struct Pass {
    snapshots: Array,
    standard: Array,
    /// The map behind the normalisation with what it was folded from, `[h h + h]`.
    folded: Array,
    lifted: Array,
    /// What leaves each layer, what its network was given, σ', and kept modes of its input.
    v: Vec<Array>,
    fed: Vec<Array>,
    slopes: Vec<Array>,
    modes: Vec<Array>,
    products: Array,
    reduced: Array,
    joined: Array,
    last: Array,
    changed: Array,
    changes: Array,
    output: Array,
    back: Option<Back>,
}

#[derive(Debug)]
struct Back {
    output: Array,
    /// Derivatives by what leaves a layer, by its input, and by its network's.
    fields: [Array; 3],
    modes: Array,
    last: Array,
    lifted: Array,
    folded: Array,
}

impl DeviceStFno {
    /// The same as on the processor.
    ///
    /// # Errors
    /// Of the device.
    pub fn new(device: &Device, operator: &StFno<f32>) -> Result<Self> {
        let (shape, parts, points) = (&operator.shape, operator.shape.parts(), &operator.points);
        let (h, l, kept) = (shape.width, shape.latent, shape.kept());
        let window = |times: usize, period: usize, offset: usize| {
            Transform::window(device, &[points[0], points[1], times], &shape.modes, Window { period, offset })
        };
        let start = |name: &str| parts.range(name).start;
        let layer = |l: usize| Layer {
            modes: Modes { modes: kept, from: h, to: h, weight: start(&format!("layers.{l}.spectral")) },
            feed: Feed { h, inside: WIDER * h, start: start(&format!("layers.{l}.feed.0.weight")) },
            map: (l > 0).then(|| place(&parts, &format!("layers.{l}"))),
        };
        Ok(Self {
            history: window(shape.input, shape.input, 0)?,
            latent: window(l, l, 0)?,
            extended: window(l + 1, 2 * (l + 1), l + 1)?,
            forecast: window(shape.output, shape.output + l + 2, l + 2)?,
            encoding: Buffer::from_vec(device, operator.encoding.clone())?,
            lift: Folded {
                h,
                scale: start("lift.norm.weight"),
                shift: start("lift.norm.bias"),
                weight: start("lift.weight"),
                bias: start("lift.bias"),
            },
            layers: (0..shape.layers).map(layer).collect(),
            reduce: place(&parts, "reduce"),
            last: Modes { modes: kept, from: 1, to: 1, weight: start("output.spectral") },
            bias: ModeBias {
                outer: kept / shape.modes[2],
                inner: shape.modes[2],
                start: start("output.bias"),
                factor: operator.bias,
            },
            extents: SpaceTime { places: points[0] * points[1], times: shape.input, latent: l, output: shape.output },
            shape: shape.clone(),
            device: device.clone(),
            passes: BTreeMap::new(),
            scratch: Scratch::default(),
        })
    }

    /// Numbers of a sample's output.
    pub fn outputs(&self) -> usize {
        self.extents.places * self.extents.output
    }

    /// Where the map behind the normalisation lies in what was folded.
    fn folded(&self) -> Mix {
        let h = self.shape.width;
        Mix { from: h, to: h, weight: 0, bias: Some(h * h) }
    }

    fn make(&mut self, samples: usize) -> Result<()> {
        if self.passes.contains_key(&samples) {
            return Ok(());
        }
        let zeros = |len: usize| Buffer::zeros(&self.device, samples * len);
        let many = |len: usize| self.layers.iter().map(|_| zeros(len)).collect::<Result<Vec<Array>, _>>();
        let (h, SpaceTime { places, times, latent, output }) = (self.shape.width, self.extents);
        let (given, inside, kept) = (h * places * times, h * places * latent, 2 * self.shape.kept());
        let pass = Pass {
            snapshots: zeros(places * times)?,
            standard: zeros(given)?,
            folded: Buffer::zeros(&self.device, h * h + h)?,
            lifted: zeros(given)?,
            v: many(inside)?,
            fed: many(inside)?,
            slopes: many(inside)?,
            modes: many(h * kept)?,
            products: zeros(h * kept)?,
            reduced: zeros(places * latent)?,
            joined: zeros(places * (latent + 1))?,
            last: zeros(kept)?,
            changed: zeros(kept)?,
            changes: zeros(places * output)?,
            output: zeros(places * output)?,
            back: None,
        };
        self.passes.insert(samples, pass);
        Ok(())
    }

    /// Outputs of encoded inputs; they stay here.
    ///
    /// # Errors
    /// Of the device.
    pub fn forward<'a>(
        &mut self,
        parameters: &mut Array,
        samples: usize,
        inputs: impl Iterator<Item = &'a [f32]>,
    ) -> Result<()> {
        self.make(samples)?;
        let (device, s, folded) = (&self.device, self.extents, self.folded());
        let pass = self.passes.get_mut(&samples).expect("just made");
        super::fill(&mut pass.snapshots, inputs);
        let (snapshots, scratch) = (&mut pass.snapshots, &mut self.scratch);
        s.standard(device, samples, TINY, &mut self.encoding, snapshots, scratch, &mut pass.standard)?;
        self.lift.fold(device, parameters, &mut pass.folded)?;
        mix(device, folded, samples, &mut pass.folded, &mut pass.standard, After::Nothing, &mut pass.lifted)?;
        for (l, layer) in self.layers.iter().enumerate() {
            let (before, behind) = pass.v.split_at_mut(l);
            let (from, source) = match before.last_mut() {
                None => (&mut self.history, &mut pass.lifted),
                Some(v) => (&mut self.latent, v),
            };
            from.analysis(Scale::One, source, &mut pass.modes[l])?;
            layer.modes.product(device, samples, parameters, &mut pass.modes[l], &mut pass.products)?;
            let fed = &mut pass.fed[l];
            self.latent.synthesis(Scale::Inverse, &mut pass.products, fed)?;
            let beside = match layer.map {
                None => Beside::Newest(s.times, s.latent, source),
                Some(map) => {
                    let bias = map.bias.expect("the maps of its layers have biases");
                    Beside::Map(map.weight, bias, source)
                }
            };
            layer.feed.forward(device, samples, parameters, fed, beside, &mut pass.slopes[l], &mut behind[0])?;
        }
        let v = pass.v.last_mut().expect("there is a layer");
        mix(device, self.reduce, samples, parameters, v, After::Nothing, &mut pass.reduced)?;
        s.join(device, samples, &mut pass.snapshots, &mut pass.reduced, &mut pass.joined)?;
        self.extended.analysis(Scale::One, &mut pass.joined, &mut pass.last)?;
        self.last.product(device, samples, parameters, &mut pass.last, &mut pass.changed)?;
        self.bias.add(device, samples, parameters, &mut pass.changed)?;
        self.forecast.synthesis(Scale::Inverse, &mut pass.changed, &mut pass.changes)?;
        s.forecast(device, samples, &mut pass.snapshots, &mut pass.changes, &mut pass.output)?;
        Ok(())
    }

    /// The outputs of the last pass over so many samples, and where the derivatives by them are due.
    ///
    /// # Errors
    /// Of the device.
    ///
    /// # Panics
    /// Without such a pass.
    pub fn ends(&mut self, samples: usize) -> Result<(&mut Array, &mut Array)> {
        let pass = self.passes.get_mut(&samples).expect("a forward pass comes first");
        if pass.back.is_none() {
            let like = |array: &Array| Buffer::zeros(&self.device, array.len());
            pass.back = Some(Back {
                output: like(&pass.output)?,
                fields: [like(&pass.v[0])?, like(&pass.v[0])?, like(&pass.v[0])?],
                modes: like(&pass.products)?,
                last: like(&pass.last)?,
                lifted: like(&pass.lifted)?,
                folded: like(&pass.folded)?,
            });
        }
        let back = pass.back.as_mut().expect("just made");
        Ok((&mut pass.output, &mut back.output))
    }

    /// The gradient of the parameters, all of it, for the derivatives that were put where [`DeviceStFno::ends`] says.
    ///
    /// # Errors
    /// Of the device.
    ///
    /// # Panics
    /// Without a forward pass and derivatives by its outputs.
    pub fn backward(&mut self, parameters: &mut Array, samples: usize, gradient: &mut Array) -> Result<()> {
        let (folded, s) = (self.folded(), self.extents);
        let (device, scratch) = (&self.device, &mut self.scratch);
        let pass = self.passes.get_mut(&samples).expect("a forward pass comes first");
        let back = pass.back.as_mut().expect("derivatives by the outputs come first");
        // Derivatives take the place of what the forward pass made and nobody needs: changes, their modes, fields at the ends.
        s.forecast_back(device, samples, &mut back.output, &mut pass.changes)?;
        self.forecast.analysis(Scale::Inverse, &mut pass.changes, &mut pass.changed)?;
        self.bias.gradient(device, samples, &mut pass.changed, gradient)?;
        self.last.gradient(device, samples, &mut pass.last, &mut pass.changed, gradient)?;
        self.last.product_back(device, samples, parameters, &mut pass.changed, &mut back.last)?;
        self.extended.synthesis(Scale::One, &mut back.last, &mut pass.joined)?;
        s.cut(device, samples, &mut pass.joined, &mut pass.reduced)?;
        let [mut g, mut next, ds] = back.fields.each_mut();
        let v = pass.v.last_mut().expect("there is a layer");
        mix_gradient(device, self.reduce, samples, v, &mut pass.reduced, gradient, scratch)?;
        let slopes = After::Times(pass.slopes.last_mut().expect("there is a layer"));
        mix_back(device, self.reduce, samples, parameters, &mut pass.reduced, slopes, g)?;
        // From here g is times σ' of the layer that it comes to.
        for (l, layer) in self.layers.iter().enumerate().rev() {
            let fed = &mut pass.fed[l];
            layer.feed.gradient(device, samples, parameters, fed, g, gradient, scratch)?;
            layer.feed.back(device, samples, parameters, fed, g, ds)?;
            let here = &mut pass.products;
            self.latent.analysis(Scale::Inverse, ds, here)?;
            layer.modes.gradient(device, samples, &mut pass.modes[l], here, gradient)?;
            layer.modes.product_back(device, samples, parameters, here, &mut back.modes)?;
            let Some(map) = layer.map else {
                self.history.synthesis(Scale::One, &mut back.modes, &mut back.lifted)?;
                s.gather(device, g, &mut back.lifted)?;
                break;
            };
            mix_gradient(device, map, samples, &mut pass.v[l - 1], g, gradient, scratch)?;
            let slopes = After::Times(&mut pass.slopes[l - 1]);
            self.latent.layer_back(map, samples, parameters, &mut back.modes, g, slopes, next)?;
            std::mem::swap(&mut g, &mut next);
        }
        mix_gradient(device, folded, samples, &mut pass.standard, &mut back.lifted, &mut back.folded, scratch)?;
        self.lift.unfold(device, parameters, &mut back.folded, gradient)?;
        Ok(())
    }
}
