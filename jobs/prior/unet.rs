//! A small U-Net that is told how much noise there is (Ronneberger et al. 2015; residual blocks with scale and shift as in Dhariwal and Nichol 2021).
//!
//! Images are taken apart into four of half their size, so that the finest level has a quarter of the points. A block is
//! x + W₁ ∗ N₁(W₀ ∗ N₀(x)), N a normalisation in groups with SiLU behind it, scaled and shifted in N₁ by what the noise says.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::layers::Norm;
use super::tape::{Id, Tape};
use crate::learning::parameters::{Part, Parts};
use crate::learning::real::Real;

/// The size of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    /// Channels of each level, from the finest on; each level has half of the points of the one before it.
    pub channels: Vec<usize>,
    /// Residual blocks of each level, on each side.
    pub blocks: usize,
    /// Groups of a normalisation.
    pub groups: usize,
    /// Numbers that tell the noise.
    pub embedding: usize,
}

impl Shape {
    /// What is wrong with it, if anything: sizes of a file may be any numbers.
    pub fn problem(&self) -> Option<String> {
        let joined = self.channels.windows(2).map(|pair| pair[0] + pair[1]);
        let unfit = |c: &usize| self.groups == 0 || !c.is_multiple_of(self.groups);
        if self.channels.is_empty() || self.channels.len() > 6 || self.channels.iter().any(|c| *c == 0 || *c > 4096) {
            Some(format!("channels {:?}, and 1 to 6 numbers from 1 to 4096 are due", self.channels))
        } else if self.channels.iter().copied().chain(joined).any(|c| unfit(&c)) {
            Some(format!("{} groups, which do not divide the channels", self.groups))
        } else if !(1..=16).contains(&self.blocks) {
            Some(format!("{} blocks, and 1 to 16 are due", self.blocks))
        } else if !(2..=1024).contains(&self.embedding) || !self.embedding.is_multiple_of(2) {
            Some(format!("embedding {}, and an even number from 2 to 1024 is due", self.embedding))
        } else {
            None
        }
    }

    /// Points along an axis are a multiple of this.
    pub fn multiple(&self) -> usize {
        1 << self.channels.len()
    }

    /// All parameters. The last convolution of each block, scales and shifts begin with zeros: a block then changes nothing.
    pub fn parts(&self) -> Parts {
        let mut parts = Parts::default();
        let e = self.embedding;
        parts.add_mix("noise.0", 2 * e, e);
        parts.add_mix("noise.1", 2 * e, 2 * e);
        convolution(&mut parts, "first", self.channels[0], 4, false);
        self.each_block(|name, from, to| {
            norm(&mut parts, &format!("{name}.norm.0"), from);
            convolution(&mut parts, &format!("{name}.convolve.0"), to, from, false);
            parts.add(format!("{name}.film.weight"), &[2 * to, 2 * e], [0.0, 0.0]);
            parts.add(format!("{name}.film.bias"), &[2 * to], [0.0, 0.0]);
            norm(&mut parts, &format!("{name}.norm.1"), to);
            convolution(&mut parts, &format!("{name}.convolve.1"), to, to, true);
            if from != to {
                parts.add_mix(&format!("{name}.skip"), to, from);
            }
        });
        norm(&mut parts, "last.norm", self.channels[0]);
        convolution(&mut parts, "last", 4, self.channels[0], true);
        parts
    }

    fn each_block(&self, mut each: impl FnMut(&str, usize, usize)) {
        let mut from = self.channels[0];
        let levels = self.channels.len();
        for (level, to) in self.channels.iter().enumerate() {
            for block in 0..self.blocks {
                each(&format!("down.{level}.{block}"), from, *to);
                from = *to;
            }
        }
        each("middle", from, from);
        for level in (0..levels - 1).rev() {
            let to = self.channels[level];
            for block in 0..self.blocks {
                each(&format!("up.{level}.{block}"), if block == 0 { from + to } else { to }, to);
                from = to;
            }
        }
    }
}

fn norm(parts: &mut Parts, name: &str, channels: usize) {
    parts.add(format!("{name}.weight"), &[channels], [1.0, 1.0]);
    parts.add(format!("{name}.bias"), &[channels], [0.0, 0.0]);
}

fn convolution(parts: &mut Parts, name: &str, to: usize, from: usize, zero: bool) {
    let most = if zero { 0.0 } else { (3.0 / (9 * from) as f64).sqrt() };
    parts.add(format!("{name}.weight"), &[to, from, 3, 3], [-most, most]);
    parts.add(format!("{name}.bias"), &[to], [0.0, 0.0]);
}

/// A network with the places of its parameters.
#[derive(Debug, Clone)]
pub struct Unet {
    /// Its size.
    pub shape: Shape,
    /// Names and places of its parameters.
    pub parts: Parts,
}

impl Unet {
    /// Of a size.
    pub fn new(shape: &Shape) -> Self {
        Self { shape: shape.clone(), parts: shape.parts() }
    }

    fn both(&self, name: &str) -> [Range<usize>; 2] {
        ["weight", "bias"].map(|part| self.parts.range(&format!("{name}.{part}")))
    }

    /// Multiplications and additions of a forward pass over one image.
    pub fn flops(&self, [h, w]: [usize; 2]) -> f64 {
        // Each weight once for each point of its level; levels are told by names, others are small.
        let points = |level: usize| (h * w) as f64 / 4f64.powi(level as i32 + 1);
        let level = |name: &str| match name.split('.').collect::<Vec<_>>().as_slice() {
            ["down" | "up", level, ..] => level.parse().unwrap_or(0),
            ["middle", ..] => self.shape.channels.len() - 1,
            _ => 0,
        };
        let spatial = |part: &&Part| part.shape.len() == 4 || part.name.ends_with("skip.weight");
        let all = self.parts.each().filter(spatial);
        all.map(|part| 2.0 * part.range().len() as f64 * points(level(&part.name))).sum()
    }

    /// F(x, c) and the way there: images of `[h, w]` points, one number c for each.
    pub fn forward<'p, T: Real>(
        &self,
        parameters: &'p [T],
        [h, w]: [usize; 2],
        x: Vec<T>,
        noise: &[f64],
    ) -> (Tape<'p, T>, Id) {
        let shape = &self.shape;
        let mut tape = Tape::new(parameters, noise.len());
        let e = self.embedding(&mut tape, noise);
        let v = tape.input([1, h, w], x);
        let v = tape.shuffle(v, false);
        let mut v = tape.convolve(v, self.both("first"));
        let mut skips = Vec::new();
        let levels = shape.channels.len();
        for level in 0..levels {
            for block in 0..shape.blocks {
                v = self.block(&mut tape, &format!("down.{level}.{block}"), v, e);
            }
            if level + 1 < levels {
                skips.push(v);
                v = tape.pool(v);
            }
        }
        v = self.block(&mut tape, "middle", v, e);
        for level in (0..levels - 1).rev() {
            v = tape.repeat(v);
            if let Some(skip) = skips.pop() {
                v = tape.join(v, skip);
            }
            for block in 0..shape.blocks {
                v = self.block(&mut tape, &format!("up.{level}.{block}"), v, e);
            }
        }
        let v = tape.norm(v, self.both("last.norm"), None, shape.groups);
        let v = tape.convolve(v, self.both("last"));
        let v = tape.shuffle(v, true);
        (tape, v)
    }

    /// What the numbers c say: of cos and sin of c times frequencies from 1/2 to 32.
    fn embedding<T: Real>(&self, tape: &mut Tape<'_, T>, noise: &[f64]) -> Id {
        let half = self.shape.embedding / 2;
        let wave = |j: usize| 0.5 * 64f64.powf(j as f64 / (half - 1).max(1) as f64);
        let features = noise
            .iter()
            .flat_map(|c| {
                (0..self.shape.embedding).map(move |j| {
                    let (sin, cos) = (c * wave(j % half)).sin_cos();
                    T::of(if j < half { cos } else { sin })
                })
            })
            .collect();
        let e = tape.input([self.shape.embedding, 1, 1], features);
        let e = tape.mix(e, self.both("noise.0"));
        let e = tape.silu(e);
        let e = tape.mix(e, self.both("noise.1"));
        tape.silu(e)
    }

    /// Slopes, then offsets, of the channels of each normalisation in the order of a pass, for images of one number c.
    pub fn affine<T: Real>(&self, parameters: &[T], noise: f64) -> Vec<T> {
        let mut tape = Tape::new(parameters, 1);
        let e = self.embedding(&mut tape, &[noise]);
        let mut all = Vec::new();
        let mut push = |name: &str, film: Option<&[T]>| {
            let [gamma, beta] = self.both(name).map(|range| &parameters[range]);
            let norm = Norm { gamma, beta, film, groups: self.shape.groups };
            let (slopes, offsets): (Vec<T>, Vec<T>) = (0..gamma.len()).map(|c| norm.affine(c)).unzip();
            all.extend([slopes, offsets].concat());
        };
        self.shape.each_block(|name, _, _| {
            push(&format!("{name}.norm.0"), None);
            let film = tape.mix(e, self.both(&format!("{name}.film")));
            push(&format!("{name}.norm.1"), Some(tape.values(film)));
        });
        push("last.norm", None);
        all
    }

    fn block<T: Real>(&self, tape: &mut Tape<'_, T>, name: &str, x: Id, e: Id) -> Id {
        let of = |part: &str| self.both(&format!("{name}.{part}"));
        let from = tape.extent(x)[0];
        let v = tape.norm(x, of("norm.0"), None, self.shape.groups);
        let v = tape.convolve(v, of("convolve.0"));
        let film = tape.mix(e, of("film"));
        let v = tape.norm(v, of("norm.1"), Some(film), self.shape.groups);
        let v = tape.convolve(v, of("convolve.1"));
        let to = tape.extent(v)[0];
        let x = if from == to { x } else { tape.mix(x, of("skip")) };
        tape.add(x, v)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use convoke_kernels::Philox;

    fn random(len: usize, stream: u64) -> Vec<f64> {
        (0..len as u64).map(|i| Philox::new(1, stream).normal(i)).collect()
    }

    /// Central differences along every list of parameters, to 1e-6; images are not square, and points not a power of two.
    #[test]
    fn gradients_are_those_of_differences() {
        let net = Unet::new(&Shape { channels: vec![4, 6], blocks: 1, groups: 2, embedding: 4 });
        let mut parameters: Vec<f64> = net.parts.initial(3);
        parameters.iter_mut().zip(random(net.parts.count(), 9)).for_each(|(p, r)| *p += 0.2 * r);
        let points = [8, 12];
        let (x, weights, noise) = (random(192, 1), random(192, 2), [0.3, -0.4]);
        let loss = |parameters: &[f64]| -> f64 {
            let (tape, last) = net.forward(parameters, points, x.clone(), &noise);
            tape.values(last).iter().zip(&weights).map(|(a, b)| a * b).sum()
        };
        let (tape, last) = net.forward(&parameters, points, x.clone(), &noise);
        let gradient = tape.backward(last, weights.clone());
        for part in net.parts.each() {
            let direction = random(part.range().len(), 5);
            let moved = |by: f64| {
                let mut moved = parameters.clone();
                moved[part.range()].iter_mut().zip(&direction).for_each(|(p, d)| *p += by * d);
                loss(&moved)
            };
            let slope = (moved(1e-5) - moved(-1e-5)) / 2e-5;
            let found: f64 = gradient[part.range()].iter().zip(&direction).map(|(a, b)| a * b).sum();
            assert!((slope - found).abs() < 1e-6 * slope.abs().max(1.0), "{}: {found} {slope}", part.name);
        }
    }

    /// A shift of the image by a whole cell of the coarsest level shifts what comes out, away from the border.
    #[test]
    fn outputs_move_with_the_image() {
        let net = Unet::new(&Shape { channels: vec![4], blocks: 1, groups: 2, embedding: 4 });
        let mut parameters: Vec<f64> = net.parts.initial(3);
        parameters.iter_mut().zip(random(net.parts.count(), 9)).for_each(|(p, r)| *p += 0.1 * r);
        // Far enough from the border for what it does to stay apart from the spot.
        let (n, by) = (64, net.shape.multiple());
        let spot = |at: usize| -> Vec<f64> {
            (0..n * n)
                .map(|i| if i / n / 2 == at / 2 && i % n / 2 == 16 { 1.0 + (i % n % 3) as f64 } else { 0.0 })
                .collect()
        };
        let out = |x: Vec<f64>| {
            let (tape, last) = net.forward(&parameters, [n, n], x, &[0.2]);
            tape.values(last).to_vec()
        };
        let (here, there) = (out(spot(30)), out(spot(30 + by)));
        for y in 16..44 {
            for x in 18..46 {
                let (a, b) = (here[y * n + x], there[(y + by) * n + x]);
                assert!((a - b).abs() < 1e-9, "{y} {x}: {a} {b}");
            }
        }
    }
}
