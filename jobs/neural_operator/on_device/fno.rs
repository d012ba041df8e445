//! The passes of an FNO on a device: `../fno.rs` in the operations of `kernels::fourier_layer`.

use std::collections::BTreeMap;

use convoke_cluster::Result;
use convoke_kernels::fourier_layer::{
    After, Mix, Modes, Scale, Scratch, Transform, mix, mix_back, mix_gradient, resize,
};
use convoke_kernels::{Buffer, Device};

use super::place;
use crate::neural_operator::fno::{Fno, FnoShape};

type Array = Buffer<f32>;

/// An FNO on a grid on a device.
#[derive(Debug)]
pub struct DeviceFno {
    device: Device,
    shape: FnoShape,
    points: Vec<usize>,
    transform: Transform,
    lift: Mix,
    layers: Vec<(Modes, Mix)>,
    project: [Mix; 2],
    coordinates: Vec<f32>,
    /// Arrays of passes over so many samples: a step uses those of the one before it again.
    passes: BTreeMap<usize, Pass>,
    scratch: Scratch,
}

/// What a forward pass makes, and what the backward one needs beside it.
#[derive(Debug)]
struct Pass {
    /// Inputs with coordinates.
    lifted_from: Array,
    /// Fields on the grid without padding; only where there is padding.
    narrow: Option<Array>,
    /// Inputs of the layers, then what leaves the last one.
    v: Vec<Array>,
    /// Kept modes of each layer's input.
    modes: Vec<Array>,
    /// σ' of all layers but the last.
    slopes: Vec<Array>,
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
}

impl DeviceFno {
    /// The same as on the processor.
    ///
    /// # Errors
    /// Of the device.
    pub fn new(device: &Device, fno: &Fno<f32>) -> Result<Self> {
        let (shape, parts) = (&fno.shape, fno.shape.parts());
        let layer = |l: usize| {
            let (h, weight) = (shape.width, parts.range(&format!("layers.{l}.spectral")).start);
            (Modes { modes: shape.kept(), from: h, to: h, weight }, place(&parts, &format!("layers.{l}")))
        };
        Ok(Self {
            transform: Transform::new(device, &shape.padded(&fno.points), &shape.modes)?,
            lift: place(&parts, "lift"),
            layers: (0..shape.layers).map(layer).collect(),
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
        let mut inputs = Vec::with_capacity(samples * self.lift.from * size);
        for _ in 0..samples {
            inputs.resize(inputs.len() + self.shape.input * size, 0.0);
            inputs.extend(&self.coordinates);
        }
        let pass = Pass {
            lifted_from: Buffer::from_vec(&self.device, inputs)?,
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
        match &mut pass.narrow {
            None => mix(device, self.lift, samples, parameters, &mut pass.lifted_from, After::Nothing, first)?,
            Some(narrow) => {
                mix(device, self.lift, samples, parameters, &mut pass.lifted_from, After::Nothing, narrow)?;
                resize(device, inside, self.transform.points(), narrow, first)?;
            }
        }
        for (l, (modes, map)) in self.layers.iter().enumerate() {
            let (before, behind) = pass.v.split_at_mut(l + 1);
            let (v, next) = (&mut before[l], &mut behind[0]);
            self.transform.analysis(Scale::One, v, &mut pass.modes[l])?;
            modes.product(device, samples, parameters, &mut pass.modes[l], &mut pass.products)?;
            let after = match pass.slopes.get_mut(l) {
                Some(slopes) => After::Gelu(self.shape.activations, slopes),
                None => After::Nothing,
            };
            self.transform.layer(*map, samples, parameters, &mut pass.products, v, after, next)?;
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
        for (l, (modes, map)) in self.layers.iter().enumerate().rev() {
            // Products of the forward pass are no longer needed.
            let (here, saved) = (&mut pass.products, &mut pass.modes[l]);
            self.transform.analysis(Scale::Inverse, g, here)?;
            modes.gradient(device, samples, saved, here, gradient)?;
            modes.product_back(device, samples, parameters, here, &mut back.modes)?;
            mix_gradient(device, *map, samples, &mut pass.v[l], g, gradient, scratch)?;
            // σ' of the layer before, which g then goes through.
            let after = match l.checked_sub(1) {
                Some(before) => After::Times(&mut pass.slopes[before]),
                None => After::Nothing,
            };
            self.transform.layer_back(*map, samples, parameters, &mut back.modes, g, after, next)?;
            std::mem::swap(&mut g, &mut next);
        }
        if let Some(narrow) = &mut back.narrow {
            resize(device, self.transform.points(), inside, g, narrow)?;
        }
        let g = back.narrow.as_mut().unwrap_or(g);
        mix_gradient(device, self.lift, samples, &mut pass.lifted_from, g, gradient, scratch)?;
        Ok(())
    }
}
