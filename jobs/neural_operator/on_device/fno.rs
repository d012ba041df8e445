//! The passes of an FNO on a device: `../fno.rs` in the operations of `kernels::fourier_layer`.

use std::collections::BTreeMap;

use convoke_cluster::Result;
use convoke_kernels::fourier_layer::{
    After, Factors, Mix, Modes, Scale, Scratch, Transform, Tucker, mix, mix_back, mix_gradient, resize,
};
use convoke_kernels::{Buffer, Device};

use super::behind::{self, Behind, Inside};
use super::place;
use crate::learning::parameters::Parts;
use crate::neural_operator::fno::{Fno, FnoShape};

type Array = Buffer<f32>;

/// An FNO on a grid on a device.
#[derive(Debug)]
pub struct DeviceFno {
    device: Device,
    shape: FnoShape,
    points: Vec<usize>,
    transform: Transform,
    /// One map or two.
    lift: Vec<Mix>,
    layers: Vec<Layer>,
    project: [Mix; 2],
    coordinates: Vec<f32>,
    /// Derivatives by the matrices of a layer that are a Tucker product.
    matrix_gradient: Option<Array>,
    /// Arrays of passes over so many samples: a step uses those of the one before it again.
    passes: BTreeMap<usize, Pass>,
    scratch: Scratch,
}

#[derive(Debug)]
struct Layer {
    /// The matrices of the modes among the parameters, or in an array of their own where they are a Tucker product.
    modes: Modes,
    tucker: Option<(Tucker, Array)>,
    map: Mix,
    behind: Option<Behind>,
}

/// What a forward pass makes, and what the backward one needs beside it.
#[derive(Debug)]
struct Pass {
    /// Inputs with coordinates.
    lifted_from: Array,
    /// Between the maps of the lifting, and σ' there.
    lifted: Option<[Array; 2]>,
    /// Fields on the grid without padding; only where there is padding.
    narrow: Option<Array>,
    /// Inputs of the layers, then what leaves the last one.
    v: Vec<Array>,
    /// Kept modes of each layer's input.
    modes: Vec<Array>,
    /// σ' of all layers but the last.
    slopes: Vec<Array>,
    /// What the networks behind the layers leave, and work of theirs.
    behind: Vec<Inside>,
    beside: Option<Array>,
    /// Products with the matrices of the modes.
    products: Array,
    hidden: Array,
    hidden_slopes: Array,
    output: Array,
    back: Option<Back>,
}

#[derive(Debug)]
struct Back {
    output: Array,
    hidden: Array,
    /// Derivatives by what leaves a layer and by its input.
    fields: [Array; 2],
    narrow: Option<Array>,
    modes: Array,
    lifted: Option<Array>,
    behind: Option<behind::Back>,
}

impl Layer {
    fn new(device: &Device, shape: &FnoShape, parts: &Parts, l: usize) -> Result<Self> {
        let (h, name) = (shape.width, format!("layers.{l}.spectral"));
        let modes = |weight: usize| Modes { modes: shape.kept(), from: h, to: h, weight };
        let start = |part: &str| parts.range(&format!("{name}.{part}")).start;
        let (modes, tucker) = match shape.tucker() {
            None => (modes(parts.range(&name).start), None),
            Some(tucker) => {
                let factors = (0..tucker.ranks.len()).map(|axis| start(&format!("factor.{axis}"))).collect();
                let places = Factors { core: start("core"), factors, extents: tucker.extents, ranks: tucker.ranks };
                let product = Tucker::new(device, places)?;
                let matrices = Buffer::zeros(device, product.size())?;
                (modes(0), Some((product, matrices)))
            }
        };
        let behind = shape.channel_mlp.as_ref().map(|mlp| Behind::new(parts, l, h, mlp.skip));
        Ok(Self { modes, tucker, map: place(parts, &format!("layers.{l}")), behind })
    }
}

impl DeviceFno {
    /// The same as on the processor.
    ///
    /// # Errors
    /// Of the device.
    pub fn new(device: &Device, fno: &Fno<f32>) -> Result<Self> {
        let (shape, parts) = (&fno.shape, fno.shape.parts());
        let lift: &[&str] = if shape.lifting.is_some() { &["lift.0", "lift.1"] } else { &["lift"] };
        let layers: Vec<Layer> =
            (0..shape.layers).map(|l| Layer::new(device, shape, &parts, l)).collect::<Result<_>>()?;
        let matrices = layers.first().and_then(|layer| layer.tucker.as_ref()).map(|(product, _)| product.size());
        Ok(Self {
            matrix_gradient: matrices.map(|size| Buffer::zeros(device, size)).transpose()?,
            transform: Transform::new(device, &shape.padded(&fno.points), &shape.modes)?,
            lift: lift.iter().map(|name| place(&parts, name)).collect(),
            layers,
            project: ["project.0", "project.1"].map(|name| place(&parts, name)),
            coordinates: fno.coordinates.clone(),
            points: fno.points.clone(),
            shape: shape.clone(),
            device: device.clone(),
            passes: BTreeMap::new(),
            scratch: Scratch::default(),
        })
    }

    /// Numbers of a sample's output.
    pub fn outputs(&self) -> usize {
        self.shape.output * self.size()
    }

    fn size(&self) -> usize {
        self.points.iter().product()
    }

    fn is_padded(&self) -> bool {
        self.points != self.transform.points()
    }

    fn make(&mut self, samples: usize) -> Result<()> {
        if self.passes.contains_key(&samples) {
            return Ok(());
        }
        let (h, layers) = (self.shape.width, self.shape.layers);
        let zeros = |len: usize| Buffer::zeros(&self.device, samples * len);
        let many = |count: usize, len: usize| (0..count).map(|_| zeros(len)).collect::<Result<Vec<Array>, _>>();
        let (wide, size, modes) = (h * self.transform.size(), self.size(), 2 * h * self.transform.kept());
        // Coordinates are the same in every step: a step changes the inputs before them alone.
        let mut inputs = Vec::with_capacity(samples * self.lift[0].from * size);
        for _ in 0..samples {
            inputs.resize(inputs.len() + self.shape.input * size, 0.0);
            inputs.extend(&self.coordinates);
        }
        let lifted = |lifting: usize| Ok::<_, convoke_cluster::Error>([zeros(lifting * size)?, zeros(lifting * size)?]);
        let behind = |(l, layer): (usize, &Layer)| {
            let fields = samples * self.transform.size();
            layer.behind.map(|behind| behind.inside(&self.device, fields, l + 1 < layers))
        };
        let has_map = self.layers.iter().any(|layer| layer.behind.is_some_and(|behind| behind.has_map()));
        let pass = Pass {
            lifted_from: Buffer::from_vec(&self.device, inputs)?,
            lifted: self.shape.lifting.map(lifted).transpose()?,
            behind: self.layers.iter().enumerate().filter_map(behind).collect::<Result<_>>()?,
            beside: if has_map { Some(zeros(wide)?) } else { None },
            narrow: if self.is_padded() { Some(zeros(h * size)?) } else { None },
            v: many(layers + 1, wide)?,
            modes: many(layers, modes)?,
            slopes: many(layers.saturating_sub(1), wide)?,
            products: zeros(modes)?,
            hidden: zeros(self.shape.projection * size)?,
            hidden_slopes: zeros(self.shape.projection * size)?,
            output: zeros(self.outputs())?,
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
        let (device, padded) = (&self.device, self.is_padded());
        let pass = self.passes.get_mut(&samples).expect("just made");
        let each = pass.lifted_from.len() / samples;
        for (all, input) in pass.lifted_from.host_mut().chunks_mut(each).zip(inputs) {
            all[..input.len()].copy_from_slice(input);
        }
        let (inside, first) = (&self.points, &mut pass.v[0]);
        let (from, lift) = match &mut pass.lifted {
            None => (&mut pass.lifted_from, self.lift[0]),
            Some([hidden, slopes]) => {
                let from = &mut pass.lifted_from;
                mix(device, self.lift[0], samples, parameters, from, After::Gelu(1, slopes), hidden)?;
                (hidden, self.lift[1])
            }
        };
        match &mut pass.narrow {
            None => mix(device, lift, samples, parameters, from, After::Nothing, first)?,
            Some(narrow) => {
                mix(device, lift, samples, parameters, from, After::Nothing, narrow)?;
                resize(device, inside, self.transform.points(), narrow, first)?;
            }
        }
        for (l, layer) in self.layers.iter_mut().enumerate() {
            let (before, behind) = pass.v.split_at_mut(l + 1);
            let (v, next) = (&mut before[l], &mut behind[0]);
            self.transform.analysis(Scale::One, v, &mut pass.modes[l])?;
            let matrices = match &mut layer.tucker {
                None => &mut *parameters,
                Some((product, matrices)) => {
                    product.matrices(parameters, matrices)?;
                    matrices
                }
            };
            layer.modes.product(device, samples, matrices, &mut pass.modes[l], &mut pass.products)?;
            let after = match pass.slopes.get_mut(l) {
                Some(slopes) => After::Gelu(self.shape.activations, slopes),
                None => After::Nothing,
            };
            let Some(network) = layer.behind else {
                self.transform.layer(layer.map, samples, parameters, &mut pass.products, v, after, next)?;
                continue;
            };
            let inside = &mut pass.behind[l];
            self.transform.layer(layer.map, samples, parameters, &mut pass.products, v, after, &mut inside.u)?;
            network.forward(device, (samples, &mut *parameters), (v, inside, pass.beside.as_mut()), next)?;
        }
        let last = &mut pass.v[self.layers.len()];
        if padded {
            let narrow = pass.narrow.as_mut().expect("there is padding");
            resize(device, self.transform.points(), inside, last, narrow)?;
        }
        let from = pass.narrow.as_mut().unwrap_or(last);
        let [first, second] = self.project;
        mix(device, first, samples, parameters, from, After::Gelu(1, &mut pass.hidden_slopes), &mut pass.hidden)?;
        mix(device, second, samples, parameters, &mut pass.hidden, After::Nothing, &mut pass.output)?;
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
        let zeros = |len: usize| Buffer::zeros(&self.device, samples * len);
        let (h, size, padded) = (self.shape.width, self.size(), self.is_padded());
        let (projection, outputs) = (self.shape.projection, self.outputs());
        let pass = self.passes.get_mut(&samples).expect("a forward pass comes first");
        if pass.back.is_none() {
            let wide = h * self.transform.size();
            pass.back = Some(Back {
                output: zeros(outputs)?,
                hidden: zeros(projection * size)?,
                fields: [zeros(wide)?, zeros(wide)?],
                narrow: if padded { Some(zeros(h * size)?) } else { None },
                modes: zeros(2 * h * self.transform.kept())?,
                lifted: self.shape.lifting.map(|lifting| zeros(lifting * size)).transpose()?,
                behind: match self.layers.first().and_then(|layer| layer.behind) {
                    Some(behind) => Some(behind.back(&self.device, samples * self.transform.size())?),
                    None => None,
                },
            });
        }
        let back = pass.back.as_mut().expect("just made");
        Ok((&mut pass.output, &mut back.output))
    }

    /// The gradient of the parameters, all of it, for the derivatives that were put where [`DeviceFno::ends`] says.
    ///
    /// # Errors
    /// Of the device.
    ///
    /// # Panics
    /// Without a forward pass and derivatives by its outputs.
    pub fn backward(&mut self, parameters: &mut Array, samples: usize, gradient: &mut Array) -> Result<()> {
        let (device, scratch, inside) = (&self.device, &mut self.scratch, &self.points);
        let pass = self.passes.get_mut(&samples).expect("a forward pass comes first");
        let back = pass.back.as_mut().expect("derivatives by the outputs come first");
        let [first, second] = self.project;
        mix_gradient(device, second, samples, &mut pass.hidden, &mut back.output, gradient, scratch)?;
        let slopes = After::Times(&mut pass.hidden_slopes);
        mix_back(device, second, samples, parameters, &mut back.output, slopes, &mut back.hidden)?;
        let last = &mut pass.v[self.layers.len()];
        // The projection's input is still where the forward pass put it.
        let from = pass.narrow.as_mut().unwrap_or(last);
        mix_gradient(device, first, samples, from, &mut back.hidden, gradient, scratch)?;
        let [mut g, mut next] = back.fields.each_mut();
        match &mut back.narrow {
            None => mix_back(device, first, samples, parameters, &mut back.hidden, After::Nothing, g)?,
            Some(narrow) => {
                mix_back(device, first, samples, parameters, &mut back.hidden, After::Nothing, narrow)?;
                resize(device, inside, self.transform.points(), narrow, g)?;
            }
        }
        for (l, layer) in self.layers.iter_mut().enumerate().rev() {
            // What the derivatives by the layer's input go through: σ' of the layer before.
            let networks = pass.behind.len();
            let (earlier, later) = pass.behind.split_at_mut(l.min(networks));
            let (earlier_slopes, later_slopes) = pass.slopes.split_at_mut(l);
            let before = match earlier.last_mut() {
                Some(inside) => inside.slopes.as_mut(),
                None => earlier_slopes.last_mut(),
            };
            let after = before.map_or(After::Nothing, After::Times);
            // Derivatives by what the Fourier layer made, and what is added to those by its input.
            let (du, after) = match (layer.behind, later.first_mut(), &mut back.behind) {
                (Some(network), Some(inside), Some(by)) => {
                    let (both, all) = ((&mut *by, later_slopes.first_mut()), (&mut *gradient, &mut *scratch));
                    let ends = (&mut pass.v[l], inside, &mut *g);
                    network.backward(device, (samples, &mut *parameters), ends, both, all)?;
                    let beside = (&mut *g, pass.beside.as_mut());
                    (&mut by.u, network.plus(device, (samples, &mut *parameters), beside, after)?)
                }
                _ => (&mut *g, after),
            };
            // Products of the forward pass are no longer needed.
            let (here, saved) = (&mut pass.products, &mut pass.modes[l]);
            self.transform.analysis(Scale::Inverse, du, here)?;
            match (&mut layer.tucker, &mut self.matrix_gradient) {
                (Some((product, matrices)), Some(dw)) => {
                    layer.modes.gradient(device, samples, saved, here, dw)?;
                    layer.modes.product_back(device, samples, matrices, here, &mut back.modes)?;
                    product.gradient(parameters, dw, (&mut *gradient, &mut *scratch))?;
                }
                _ => {
                    layer.modes.gradient(device, samples, saved, here, gradient)?;
                    layer.modes.product_back(device, samples, parameters, here, &mut back.modes)?;
                }
            }
            mix_gradient(device, layer.map, samples, &mut pass.v[l], du, gradient, scratch)?;
            self.transform.layer_back(layer.map, samples, parameters, &mut back.modes, du, after, next)?;
            std::mem::swap(&mut g, &mut next);
        }
        if let Some(narrow) = &mut back.narrow {
            resize(device, self.transform.points(), inside, g, narrow)?;
        }
        let g = back.narrow.as_mut().unwrap_or(g);
        let g = match (&mut pass.lifted, &mut back.lifted) {
            (Some([hidden, slopes]), Some(by)) => {
                mix_gradient(device, self.lift[1], samples, hidden, g, gradient, scratch)?;
                mix_back(device, self.lift[1], samples, parameters, g, After::Times(slopes), by)?;
                by
            }
            _ => g,
        };
        mix_gradient(device, self.lift[0], samples, &mut pass.lifted_from, g, gradient, scratch)?;
        Ok(())
    }
}
