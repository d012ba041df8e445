//! NCSN++'s layout: a list of modules, `all_modules.0` and so on, told apart by what they hold.

use super::field::{Conv, Resample};
use super::program::{Attention, Block, Layer, Program, Way};
use super::{Taken, Tensors};

/// Added to variances.
const TINY: f64 = 1e-6;

fn groups(channels: usize) -> (usize, f64) {
    ((channels / 4).min(32), TINY)
}

/// The modules one after another.
struct Walk<'t, 'f> {
    tensors: &'t mut Tensors<'f>,
    next: usize,
    layers: Vec<Layer>,
    /// Channels of the field, and of the fields that are kept.
    channels: usize,
    kept: Vec<usize>,
}

pub(super) fn program(tensors: &mut Tensors<'_>) -> Taken<Program> {
    // Levels of noise of the training; their ends are the job's matter.
    if tensors.has("sigmas") {
        tensors.skip("sigmas");
    }
    if !tensors.has("all_modules.0.W") {
        return Err("all_modules.0.W is missing; NCSN++ is known with Fourier features of the noise alone".to_owned());
    }
    let count = tensors.shape("all_modules.0.W")?.iter().product::<usize>();
    let frequencies = tensors.take("all_modules.0.W", &[count])?;
    let first = tensors.conv("all_modules.1", 2 * count, 1)?;
    let second = tensors.conv("all_modules.2", first.to(), 1)?;
    let input = tensors.conv("all_modules.3", 1, 3)?;
    let (channels, noise) = (input.to(), second.to());
    let mut walk = Walk { tensors, next: 4, layers: vec![Layer::Convolve(input)], channels, kept: Vec::new() };
    walk.keep();
    walk.down(noise)?;
    walk.block(noise, None)?;
    walk.attention()?;
    walk.block(noise, None)?;
    walk.up(noise)?;
    let norm = walk.tensors.norm(&walk.name(), walk.channels, groups(walk.channels))?;
    walk.next += 1;
    let last = walk.tensors.conv(&walk.name(), walk.channels, 3)?;
    if last.to() != 1 {
        return Err(format!("{} has {} channels, and images have one", walk.name(), last.to()));
    }
    walk.layers.push(Layer::Last(norm, last));
    Ok(Program { layers: walk.layers, embedding: [first, second], frequencies })
}

impl Walk<'_, '_> {
    fn name(&self) -> String {
        format!("all_modules.{}", self.next)
    }

    fn holds(&self, part: &str) -> bool {
        self.tensors.has(&format!("{}.{part}", self.name()))
    }

    fn keep(&mut self) {
        self.layers.push(Layer::Keep);
        self.kept.push(self.channels);
    }

    /// A block with a map beside it that keeps the number of channels halves or doubles.
    fn resamples(&self) -> Taken<bool> {
        let map = "Conv_2.weight";
        Ok(self.holds(map) && self.tensors.shape(&format!("{}.{map}", self.name()))?[..2] == [self.channels; 2])
    }

    fn down(&mut self, noise: usize) -> Taken<()> {
        let mut pyramid = 1;
        while !self.is_middle()? {
            if self.resamples()? {
                self.block(noise, Some(Way::Half))?;
                if !self.holds("Conv2d_0.weight") {
                    return Err(format!(
                        "{}.Conv2d_0.weight is missing; NCSN++ is known with a pyramid of the input alone",
                        self.name()
                    ));
                }
                let conv = self.tensors.conv(&format!("{}.Conv2d_0", self.name()), pyramid, 3)?;
                pyramid = conv.to();
                if pyramid != self.channels {
                    return Err(format!("{} gives {pyramid} channels, and {} are due", self.name(), self.channels));
                }
                self.layers.push(Layer::Pyramid(conv));
                self.next += 1;
            } else {
                self.block(noise, None)?;
                if self.holds("NIN_3.W") {
                    self.attention()?;
                }
            }
            self.keep();
        }
        Ok(())
    }

    /// Whether three modules from here on are the middle: with attention, and before a block that takes what is kept as well.
    fn is_middle(&self) -> Taken<bool> {
        let weight = format!("all_modules.{}.GroupNorm_0.weight", self.next + 3);
        let joined = self.kept.last().map(|kept| kept + self.channels);
        if !self.tensors.has(&weight) || !self.tensors.has(&format!("all_modules.{}.NIN_3.W", self.next + 1)) {
            return if self.holds("GroupNorm_0.weight") {
                Ok(false)
            } else {
                Err(format!("{} is no block", self.name()))
            };
        }
        Ok(self.tensors.shape(&weight)?.first() == joined.as_ref())
    }

    fn up(&mut self, noise: usize) -> Taken<()> {
        while let Some(kept) = self.kept.pop() {
            self.layers.push(Layer::Join);
            self.channels += kept;
            self.block(noise, None)?;
            if self.holds("NIN_3.W") {
                self.attention()?;
            }
            if self.resamples()? {
                self.block(noise, Some(Way::Double))?;
            }
        }
        Ok(())
    }

    fn block(&mut self, noise: usize, way: Option<Way>) -> Taken<()> {
        let (name, from) = (self.name(), self.channels);
        let part = |part: &str| format!("{name}.{part}");
        let convolve = self.tensors.conv(&part("Conv_0"), from, 3)?;
        let to = convolve.to();
        let skip = if from != to || way.is_some() { Some(self.tensors.conv(&part("Conv_2"), from, 1)?) } else { None };
        let block = Block {
            norms: [
                self.tensors.norm(&part("GroupNorm_0"), from, groups(from))?,
                self.tensors.norm(&part("GroupNorm_1"), to, groups(to))?,
            ],
            convolutions: [convolve, self.tensors.conv(&part("Conv_1"), to, 3)?],
            noise: self.tensors.conv(&part("Dense_0"), noise, 1)?,
            films: false,
            skip,
            resample: way.map(|way| (way, Resample::Filter)),
            halves_power: true,
        };
        self.layers.push(Layer::Block(Box::new(block)));
        (self.channels, self.next) = (to, self.next + 1);
        Ok(())
    }

    fn attention(&mut self) -> Taken<()> {
        let (name, c) = (self.name(), self.channels);
        // Matrices are [in, out].
        let mut map = |k: usize| -> Taken<Conv> {
            let weight = self.tensors.take(&format!("{name}.NIN_{k}.W"), &[c, c])?;
            let weight = (0..c * c).map(|i| weight[i % c * c + i / c]).collect();
            Ok(Conv { weight, bias: self.tensors.take(&format!("{name}.NIN_{k}.b"), &[c])?, from: c, size: 1 })
        };
        let ([q, k, v], out) = ([map(0)?, map(1)?, map(2)?], map(3)?);
        let qkv = Conv {
            weight: [q.weight, k.weight, v.weight].concat(),
            bias: [q.bias, k.bias, v.bias].concat(),
            from: c,
            size: 1,
        };
        let norm = self.tensors.norm(&format!("{name}.GroupNorm_0"), c, groups(c))?;
        let attention = Attention { norm, qkv, out, heads: 1, interleaved: false, halves_power: true };
        self.layers.push(Layer::Attention(Box::new(attention)));
        self.next += 1;
        Ok(())
    }
}
