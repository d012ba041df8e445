//! The network behind a Fourier layer on a device: `../channel_mlp.rs` in the operations of `kernels::fourier_layer`.

use convoke_cluster::Result;
use convoke_kernels::fourier_layer::{After, Mix, Scratch, gate_gradient, mix, mix_back, mix_gradient};
use convoke_kernels::{Buffer, Device};

use super::place;
use crate::learning::parameters::Parts;
use crate::neural_operator::channel_mlp;

type Array = Buffer<f32>;

/// Where its parameters lie.
#[derive(Debug, Clone, Copy)]
pub struct Behind {
    maps: [Mix; 2],
    skip: Skip,
}

/// What is added of the layer's input: each channel times its gate, or the channels times a matrix.
#[derive(Debug, Clone, Copy)]
enum Skip {
    Gate(usize),
    Map(Mix),
}

/// What a forward pass leaves for the backward one.
#[derive(Debug)]
pub struct Inside {
    /// What the Fourier layer made.
    pub u: Array,
    hidden: Array,
    hidden_slopes: Array,
    /// σ' behind the network; of the last layer nothing.
    pub slopes: Option<Array>,
}

/// Derivatives by what the Fourier layer made, and on the way there.
#[derive(Debug)]
pub struct Back {
    /// By u.
    pub u: Array,
    hidden: Array,
}

/// σ once, or nothing where its slopes have no place.
fn gelu(slopes: Option<&mut Array>) -> After<'_> {
    slopes.map_or(After::Nothing, |slopes| After::Gelu(1, slopes))
}

impl Behind {
    /// Behind layer `l`.
    pub fn new(parts: &Parts, l: usize, h: usize, skip: channel_mlp::Skip) -> Self {
        let start = parts.range(&format!("layers.{l}.skip")).start;
        Self {
            maps: ["0", "1"].map(|map| place(parts, &format!("layers.{l}.mlp.{map}"))),
            skip: match skip {
                channel_mlp::Skip::SoftGating => Skip::Gate(start),
                channel_mlp::Skip::Linear => Skip::Map(Mix { from: h, to: h, weight: start, bias: None }),
            },
        }
    }

    /// Arrays of so many fields `[channel, points]`, with σ behind the network or without.
    ///
    /// # Errors
    /// Of the device.
    pub fn inside(&self, device: &Device, fields: usize, sigma: bool) -> Result<Inside> {
        let zeros = |map: Mix| Buffer::zeros(device, map.from * fields);
        let [first, second] = self.maps;
        Ok(Inside {
            u: zeros(first)?,
            hidden: zeros(second)?,
            hidden_slopes: zeros(second)?,
            slopes: if sigma { Some(zeros(first)?) } else { None },
        })
    }

    /// The same of derivatives.
    ///
    /// # Errors
    /// Of the device.
    pub fn back(&self, device: &Device, fields: usize) -> Result<Back> {
        let [u, hidden] = self.maps.map(|map| Buffer::zeros(device, map.from * fields));
        Ok(Back { u: u?, hidden: hidden? })
    }

    /// Whether what is added needs an array of its own.
    pub fn has_map(&self) -> bool {
        matches!(self.skip, Skip::Map(_))
    }

    /// What the network makes of u and of the layer's input `v`; `beside` is work.
    ///
    /// # Errors
    /// Of the device.
    pub fn forward(
        &self,
        device: &Device,
        (samples, parameters): (usize, &mut Array),
        (v, inside, beside): (&mut Array, &mut Inside, Option<&mut Array>),
        out: &mut Array,
    ) -> Result<()> {
        let Inside { u, hidden, hidden_slopes, slopes } = inside;
        mix(device, self.maps[0], samples, parameters, u, After::Gelu(1, hidden_slopes), hidden)?;
        let then = Box::new(gelu(slopes.as_mut()));
        let after = match (self.skip, beside) {
            (Skip::Map(map), Some(beside)) => {
                mix(device, map, samples, parameters, v, After::Nothing, beside)?;
                After::Plus(beside, None, then)
            }
            (Skip::Gate(gate), _) => After::Plus(v, Some(gate), then),
            (Skip::Map(_), None) => unreachable!("a map has its array"),
        };
        Ok(mix(device, self.maps[1], samples, parameters, hidden, after, out)?)
    }

    /// The gradient of its parameters for derivatives `g` by its output, and those by u times `slopes` of u.
    ///
    /// # Errors
    /// Of the device.
    pub fn backward(
        &self,
        device: &Device,
        (samples, parameters): (usize, &mut Array),
        (v, inside, g): (&mut Array, &mut Inside, &mut Array),
        (back, slopes): (&mut Back, Option<&mut Array>),
        (gradient, scratch): (&mut Array, &mut Scratch),
    ) -> Result<()> {
        let [first, second] = self.maps;
        mix_gradient(device, second, samples, &mut inside.hidden, g, gradient, scratch)?;
        match self.skip {
            Skip::Gate(gate) => gate_gradient(device, (samples, first.from), v, g, (gradient, gate))?,
            Skip::Map(map) => mix_gradient(device, map, samples, v, g, gradient, scratch)?,
        }
        let after = After::Times(&mut inside.hidden_slopes);
        mix_back(device, second, samples, parameters, g, after, &mut back.hidden)?;
        mix_gradient(device, first, samples, &mut inside.u, &mut back.hidden, gradient, scratch)?;
        let after = slopes.map_or(After::Nothing, After::Times);
        Ok(mix_back(device, first, samples, parameters, &mut back.hidden, after, &mut back.u)?)
    }

    /// The derivatives by the layer's input beside the Fourier layer, for `g` by the network's output: added before what comes after.
    ///
    /// # Errors
    /// Of the device.
    pub fn plus<'a>(
        &self,
        device: &Device,
        (samples, parameters): (usize, &mut Array),
        (g, beside): (&'a mut Array, Option<&'a mut Array>),
        then: After<'a>,
    ) -> Result<After<'a>> {
        Ok(match (self.skip, beside) {
            (Skip::Map(map), Some(beside)) => {
                mix_back(device, map, samples, parameters, g, After::Nothing, beside)?;
                After::Plus(beside, None, Box::new(then))
            }
            (Skip::Gate(gate), _) => After::Plus(g, Some(gate), Box::new(then)),
            (Skip::Map(_), None) => unreachable!("a map has its array"),
        })
    }
}
