//! A learnt denoiser on a GPU: the pass of `unet.rs` in the operations of `kernels::convolution`.
//!
//! Images go there and come back; parameters and all that lies between stay there. What the noise says is the same for all images of a
//! call: the host works it out, and sends slopes and offsets of all normalisations.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use convoke_cluster::Result;
use convoke_kernels::convolution::{Convolution, Groups, Images, double_and_join, halve};
use convoke_kernels::{Buffer, Device};

use super::Denoiser;
use super::edm::{Edm, factors};
use super::layers::TINY;

type Array = Buffer<f32>;

/// Numbers of the largest field of the images that go through the network together: 64 MiB.
const TOGETHER: usize = 1 << 24;

/// A denoiser whose network is on a device.
#[derive(Debug)]
pub struct DeviceEdm {
    device: Device,
    edm: Edm<f32>,
    memory: Mutex<Memory>,
}

/// What stays on the device between calls.
#[derive(Debug)]
struct Memory {
    parameters: Array,
    /// Arrays that nobody needs, by length.
    free: BTreeMap<usize, Vec<Array>>,
}

/// Values of all images at some place in the network, `[image, channel, y, x]`.
#[derive(Debug)]
struct Field {
    values: Array,
    channels: usize,
    points: [usize; 2],
}

/// A pass of some images.
struct Pass<'a> {
    device: &'a Device,
    edm: &'a Edm<f32>,
    memory: &'a mut Memory,
    images: usize,
    /// Slopes and offsets of all normalisations, and where those of the next one start.
    affine: &'a mut Array,
    next: usize,
}

impl DeviceEdm {
    /// The same as on the processor.
    ///
    /// # Errors
    /// Of the device.
    pub fn new(device: &Device, edm: &Edm<f32>) -> Result<Self> {
        let parameters = Buffer::from_vec(device, edm.parameters.clone())?;
        let memory = Mutex::new(Memory { parameters, free: BTreeMap::new() });
        Ok(Self { device: device.clone(), edm: edm.clone(), memory })
    }
}

impl Denoiser for DeviceEdm {
    fn denoise(&self, x: &[f32], points: [usize; 2], sigma: f64) -> Result<Vec<f32>> {
        let (edm, device) = (&self.edm, &self.device);
        let (mean, [skip, out, scale, noise]) = (edm.card.mean, factors(edm.card.deviation, sigma));
        let [h, w] = points;
        // A level's channels with those of the next one before them are the widest field.
        let channels = &edm.card.network.channels;
        let widest = channels.iter().take(2).sum::<usize>().max(4) * h * w / 4;
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let mut affine = Buffer::from_vec(device, edm.network.affine(&edm.parameters, noise))?;
        let (images, mut all) = (Images { h, w }, Vec::with_capacity(x.len()));
        for x in x.chunks((TOGETHER / widest).max(1) * h * w) {
            let count = x.len() / (h * w);
            let memory = &mut *memory;
            let mut pass = Pass { device, edm, memory, images: count, affine: &mut affine, next: 0 };
            let mut noisy = pass.field(1, points)?;
            noisy.values.host_mut().copy_from_slice(x);
            let mut apart = pass.field(4, [h / 2, w / 2])?;
            images.apart(device, [mean, scale], &mut noisy.values, &mut apart.values)?;
            let mut f = pass.forward(apart)?;
            let mut clean = pass.field(1, points)?;
            images.together(device, [mean, skip, out], &mut noisy.values, &mut f.values, &mut clean.values)?;
            clean.values.sync()?;
            all.extend_from_slice(clean.values.host());
            [noisy, f, clean].into_iter().for_each(|field| pass.give(field));
        }
        Ok(all)
    }
}

impl Pass<'_> {
    fn field(&mut self, channels: usize, points: [usize; 2]) -> Result<Field> {
        Ok(Field { values: self.take(self.images * channels * points[0] * points[1])?, channels, points })
    }

    /// An array of any numbers.
    fn take(&mut self, len: usize) -> Result<Array> {
        match self.memory.free.get_mut(&len).and_then(Vec::pop) {
            Some(array) => Ok(array),
            None => Ok(Buffer::zeros(self.device, len)?),
        }
    }

    fn give(&mut self, field: Field) {
        self.memory.free.entry(field.values.len()).or_default().push(field.values);
    }

    /// What the network makes of images that were taken apart.
    fn forward(&mut self, apart: Field) -> Result<Field> {
        let edm = self.edm;
        let shape = &edm.card.network;
        let mut v = self.convolve("first", apart, None)?;
        let (levels, mut skips) = (shape.channels.len(), Vec::new());
        for level in 0..levels {
            for block in 0..shape.blocks {
                v = self.block(&format!("down.{level}.{block}"), v)?;
            }
            if level + 1 < levels {
                let [h, w] = v.points;
                let mut half = self.field(v.channels, [h / 2, w / 2])?;
                halve(self.device, v.points, &mut v.values, &mut half.values)?;
                skips.push(std::mem::replace(&mut v, half));
            }
        }
        v = self.block("middle", v)?;
        for level in (0..levels - 1).rev() {
            if let Some(mut skip) = skips.pop() {
                let channels = [v.channels, skip.channels];
                let mut joined = self.field(channels[0] + channels[1], skip.points)?;
                let (a, b, out) = (&mut v.values, &mut skip.values, &mut joined.values);
                double_and_join(self.device, channels, skip.points, a, b, out)?;
                self.give(skip);
                self.give(std::mem::replace(&mut v, joined));
            }
            for block in 0..shape.blocks {
                v = self.block(&format!("up.{level}.{block}"), v)?;
            }
        }
        let out = self.norm(&mut v)?;
        self.give(v);
        self.convolve("last", out, None)
    }

    /// x + W₁ ∗ N₁(W₀ ∗ N₀(x)), or with a map of x.
    fn block(&mut self, name: &str, mut x: Field) -> Result<Field> {
        let v = self.norm(&mut x)?;
        let mut u = self.convolve(&format!("{name}.convolve.0"), v, None)?;
        let v = self.norm(&mut u)?;
        let to = u.channels;
        self.give(u);
        let beside = if x.channels == to { x } else { self.convolve(&format!("{name}.skip"), x, None)? };
        self.convolve(&format!("{name}.convolve.1"), v, Some(beside))
    }

    /// W ∗ x + b, and `beside` added; both are for others afterwards.
    fn convolve(&mut self, name: &str, mut x: Field, mut beside: Option<Field>) -> Result<Field> {
        let parts = &self.edm.network.parts;
        let [weight, bias] = ["weight", "bias"].map(|part| parts.range(&format!("{name}.{part}")));
        let to = bias.len();
        let size = (weight.len() / (to * x.channels)).isqrt();
        let map = Convolution { from: x.channels, to, size, weight: weight.start, bias: bias.start };
        let mut out = self.field(to, x.points)?;
        let add = beside.as_mut().map(|field| &mut field.values);
        map.apply(self.device, x.points, &mut self.memory.parameters, &mut x.values, add, &mut out.values)?;
        [Some(x), beside].into_iter().flatten().for_each(|field| self.give(field));
        Ok(out)
    }

    /// The next normalisation, and SiLU.
    fn norm(&mut self, x: &mut Field) -> Result<Field> {
        let (channels, groups) = (x.channels, self.edm.card.network.groups);
        let norm = Groups { channels, groups, tiny: TINY, start: self.next };
        self.next += 2 * channels;
        let mut out = self.field(channels, x.points)?;
        let mut moments = self.take(2 * self.images * groups)?;
        let points = x.points[0] * x.points[1];
        norm.apply(self.device, points, self.affine, &mut x.values, &mut moments, &mut out.values)?;
        self.memory.free.entry(moments.len()).or_default().push(moments);
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prior::edm::Card;
    use crate::prior::unet::{Shape, Unet};
    use convoke_kernels::Philox;

    /// The plain loops that the kernels are compared with make the same of the network as its own code, for levels with blocks that widen,
    /// images that are not square, and noise of any size.
    #[test]
    fn operations_of_the_device_make_the_same_network() {
        for channels in [vec![4], vec![4, 6], vec![6, 4, 8]] {
            let network = Shape { channels, blocks: 2, groups: 2, embedding: 6 };
            let card = Card { network, mean: 0.2, deviation: 0.4, points: 16 };
            let random = |len: usize, stream: u64| -> Vec<f32> {
                (0..len as u64).map(|i| Philox::new(8, stream).normal(i) as f32).collect()
            };
            let parts = Unet::new(&card.network).parts;
            let first: Vec<f32> = parts.initial(3);
            // Some of them are zeros at first.
            let parameters = first.iter().zip(random(parts.count(), 1)).map(|(p, r)| p + 0.2 * r).collect();
            let edm = Edm::new(card, parameters);
            let device = DeviceEdm::new(&Device::cpu(), &edm).expect("memory");
            let (points, x) = ([16, 24], random(3 * 16 * 24, 2));
            for sigma in [0.02, 0.7, 30.0] {
                let [expected, found] =
                    [&edm as &dyn Denoiser, &device].map(|d| d.denoise(&x, points, sigma).expect("images"));
                let largest = expected.iter().fold(0f32, |most, v| most.max(v.abs()));
                let far = expected.iter().zip(&found).fold(0f32, |most, (a, b)| most.max((a - b).abs())) / largest;
                assert!(found.len() == x.len() && far < 2e-6, "{:?}, noise {sigma}: {far:e}", edm.card.network);
            }
        }
    }
}
