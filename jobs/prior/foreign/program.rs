//! Layers in the order in which they are gone through; both layouts become one of these.

use std::f32::consts::{FRAC_1_SQRT_2, PI};

use super::field::{Conv, Field, Norm, Resample, attend};

/// Norm, SiLU, resampling, convolution, what the noise says, norm, SiLU, convolution; added to what came in.
#[derive(Debug)]
pub(super) struct Block {
    pub norms: [Norm; 2],
    pub convolutions: [Conv; 2],
    pub noise: Conv,
    /// The noise scales and shifts behind the second normalisation; else it is added before.
    pub films: bool,
    pub skip: Option<Conv>,
    pub resample: Option<(Way, Resample)>,
    /// The sum is divided by √2.
    pub halves_power: bool,
}

/// Of a resampling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Half,
    Double,
}

/// Points that look at each other.
#[derive(Debug)]
pub(super) struct Attention {
    pub norm: Norm,
    /// q, k and v: `[3 · channels]` in the order [`Attention::interleaved`] says.
    pub qkv: Conv,
    pub out: Conv,
    pub heads: usize,
    /// q, k and v of a head one after another; else those of all heads.
    pub interleaved: bool,
    pub halves_power: bool,
}

/// One step of a network.
#[derive(Debug)]
pub(super) enum Layer {
    Convolve(Conv),
    Block(Box<Block>),
    Attention(Box<Attention>),
    /// The pyramid of the input halves behind a filter, joins the field, and both become (pyramid + field)/√2.
    Pyramid(Conv),
    /// A convolution at every second point.
    Half(Conv),
    /// Copies of points, then a convolution.
    Double(Conv),
    /// Remembers the field.
    Keep,
    /// Adds the channels of the last field that is remembered.
    Join,
    /// Norm, SiLU, convolution.
    Last(Norm, Conv),
}

/// A network.
#[derive(Debug)]
pub(super) struct Program {
    pub layers: Vec<Layer>,
    /// What features of the noise go through, SiLU behind each.
    pub embedding: [Conv; 2],
    /// Frequencies of Fourier features; none where there are waves of times.
    pub frequencies: Vec<f32>,
}

impl Program {
    /// Points along an axis are a multiple of this.
    pub fn multiple(&self) -> usize {
        let halves = |layer: &&Layer| match layer {
            Layer::Half(_) => true,
            Layer::Block(block) => matches!(block.resample, Some((Way::Half, _))),
            _ => false,
        };
        1 << self.layers.iter().filter(halves).count()
    }

    /// What one image of `[h, w]` points takes.
    pub fn cost(&self, [h, w]: [usize; 2]) -> Cost {
        let mut cost = Cost::default();
        let (mut points, mut channels, mut kept, mut most) = ((h * w) as u64, 1, 0, 0);
        self.embedding.iter().for_each(|conv| cost.convolve(conv, 1));
        for layer in &self.layers {
            points = match layer {
                Layer::Half(_) => points / 4,
                Layer::Double(_) => points * 4,
                Layer::Block(block) => match block.resample {
                    Some((Way::Half, _)) => points / 4,
                    Some((Way::Double, _)) => points * 4,
                    None => points,
                },
                _ => points,
            };
            let convolutions: Vec<&Conv> = match layer {
                Layer::Convolve(conv) | Layer::Half(conv) | Layer::Double(conv) | Layer::Pyramid(conv) => vec![conv],
                Layer::Block(block) => {
                    block.norms.iter().for_each(|norm| cost.normalise(norm));
                    cost.convolve(&block.noise, 1);
                    block.skip.iter().chain(&block.convolutions).collect()
                }
                Layer::Attention(attention) => {
                    cost.normalise(&attention.norm);
                    cost.flops += 4.0 * attention.out.from as f64 * (points as f64).powi(2);
                    vec![&attention.qkv, &attention.out]
                }
                Layer::Last(norm, conv) => {
                    cost.normalise(norm);
                    vec![conv]
                }
                Layer::Keep => {
                    kept += channels * points;
                    Vec::new()
                }
                Layer::Join => Vec::new(),
            };
            for conv in convolutions {
                cost.convolve(conv, points);
                channels = conv.to() as u64;
                most = most.max(channels.max(conv.from as u64) * points);
            }
        }
        // Fields that are kept; in a block what came, what goes, and three between them.
        cost.values = kept + 5 * most;
        cost
    }

    /// sin and cos of 2π w ln σ, in single precision and in the order of the original: the network was trained with its rounding.
    pub fn fourier(&self, sigma: f64) -> Vec<f32> {
        let log = (sigma as f32).ln();
        let turns = || self.frequencies.iter().map(move |w| log * w * 2.0 * PI);
        turns().map(f32::sin).chain(turns().map(f32::cos)).collect()
    }

    /// cos and sin of a time's multiples, from 1 to 1/10000.
    pub fn waves(&self, time: f64) -> Vec<f32> {
        let half = self.embedding[0].from / 2;
        let angles = || (0..half).map(move |i| time * (-(1e4f64.ln()) * i as f64 / half as f64).exp());
        let mut features: Vec<f32> = angles().map(f64::cos).chain(angles().map(f64::sin)).map(|v| v as f32).collect();
        features.resize(self.embedding[0].from, 0.0);
        features
    }

    /// The output for an image and features of its noise.
    pub fn run(&self, image: Field, features: &[f32]) -> Field {
        let [first, second] = &self.embedding;
        let silu = |values: Vec<f32>| Field { extent: [values.len(), 1, 1], values }.silu().values;
        let noise = silu(second.vector(&silu(first.vector(features))));
        let mut kept = Vec::new();
        let mut pyramid = image.clone();
        let mut x = image;
        for layer in &self.layers {
            x = match layer {
                Layer::Convolve(conv) => conv.apply(&x),
                Layer::Block(block) => block.apply(&x, &noise),
                Layer::Attention(attention) => attention.apply(&x),
                Layer::Pyramid(conv) => {
                    pyramid = pyramid.filtered_and_halved(conv).sum(&x, FRAC_1_SQRT_2);
                    pyramid.clone()
                }
                Layer::Half(conv) => conv.strided(&x, 2, 1),
                Layer::Double(conv) => conv.apply(&x.doubled(Resample::Plain)),
                Layer::Keep => {
                    kept.push(x.clone());
                    x
                }
                Layer::Join => match kept.pop() {
                    Some(other) => x.joined(other),
                    None => x,
                },
                Layer::Last(norm, conv) => conv.apply(&norm.apply(&x, None).silu()),
            };
        }
        x
    }
}

/// What a network takes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Cost {
    pub parameters: u64,
    /// Multiplications and additions.
    pub flops: f64,
    /// Numbers inside of it, at most.
    pub values: u64,
}

impl Cost {
    fn convolve(&mut self, conv: &Conv, points: u64) {
        self.parameters += (conv.weight.len() + conv.bias.len()) as u64;
        self.flops += 2.0 * conv.weight.len() as f64 * points as f64;
    }

    fn normalise(&mut self, norm: &Norm) {
        self.parameters += 2 * norm.gamma.len() as u64;
    }
}

impl Block {
    fn apply(&self, x: &Field, noise: &[f32]) -> Field {
        let resampled = |x: Field| match self.resample {
            None => x,
            Some((Way::Half, how)) => x.halved(how),
            Some((Way::Double, how)) => x.doubled(how),
        };
        let h = resampled(self.norms[0].apply(x, None).silu());
        let h = self.convolutions[0].apply(&h);
        let noise = self.noise.vector(noise);
        let h = if self.films {
            self.norms[1].apply(&h, Some(&noise))
        } else {
            self.norms[1].apply(&h.shifted(&noise), None)
        };
        let h = self.convolutions[1].apply(&h.silu());
        let x = resampled(x.clone());
        let x = self.skip.as_ref().map_or(x.clone(), |skip| skip.apply(&x));
        h.sum(&x, power(self.halves_power))
    }
}

impl Attention {
    fn apply(&self, x: &Field) -> Field {
        let ([channels, ..], n) = (x.extent, x.points());
        let all = self.qkv.apply(&self.norm.apply(x, None)).values;
        let (each, size) = (channels / self.heads, channels / self.heads * n);
        let mut mixed = x.clone();
        for (head, out) in mixed.values.chunks_mut(size).enumerate() {
            let part = |p: usize| if self.interleaved { 3 * head + p } else { p * self.heads + head };
            let of = |p: usize| &all[part(p) * size..][..size];
            attend([of(0), of(1), of(2)], each, out);
        }
        self.out.apply(&mixed).sum(x, power(self.halves_power))
    }
}

fn power(halved: bool) -> f32 {
    if halved { FRAC_1_SQRT_2 } else { 1.0 }
}
