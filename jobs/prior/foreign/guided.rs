//! The layout of guided-diffusion's U-Net: `input_blocks`, `middle_block`, `output_blocks`, each a list of lists.

use super::field::Resample;
use super::program::{Attention, Block, Layer, Program, Way};
use super::{Guided, Taken, Tensors};

/// Groups of a normalisation, and what is added to variances.
const GROUPS: (usize, f64) = (32, 1e-5);

struct Walk<'t, 'f> {
    card: &'t Guided,
    tensors: &'t mut Tensors<'f>,
    layers: Vec<Layer>,
    channels: usize,
    /// Numbers that tell the noise.
    noise: usize,
}

pub(super) fn program(card: &Guided, tensors: &mut Tensors<'_>) -> Taken<Program> {
    if tensors.has("label_emb.weight") {
        return Err("label_emb.weight: networks that are told a class are not known".to_owned());
    }
    let features = tensors.shape("time_embed.0.weight")?.get(1).copied().unwrap_or(0);
    let first = tensors.conv("time_embed.0", features, 1)?;
    let second = tensors.conv("time_embed.2", first.to(), 1)?;
    let input = tensors.conv("input_blocks.0.0", 1, 3)?;
    let (channels, noise) = (input.to(), second.to());
    let mut kept = vec![channels];
    let mut walk = Walk { card, tensors, layers: vec![Layer::Convolve(input), Layer::Keep], channels, noise };
    let mut number = 1;
    for level in 0..card.levels {
        let halves = level + 1 < card.levels;
        for block in 0..card.blocks + usize::from(halves) {
            let name = format!("input_blocks.{number}");
            if block < card.blocks {
                walk.block(&format!("{name}.0"), None)?;
                walk.attention_if(&format!("{name}.1"))?;
            } else {
                walk.resample(&format!("{name}.0"), Way::Half)?;
            }
            walk.layers.push(Layer::Keep);
            kept.push(walk.channels);
            number += 1;
        }
    }
    walk.block("middle_block.0", None)?;
    walk.attention("middle_block.1")?;
    walk.block("middle_block.2", None)?;
    for number in 0..card.levels * (card.blocks + 1) {
        let name = format!("output_blocks.{number}");
        walk.layers.push(Layer::Join);
        walk.channels += kept.pop().unwrap_or(0);
        walk.block(&format!("{name}.0"), None)?;
        let mut part = 1;
        if walk.attention_if(&format!("{name}.{part}"))? {
            part += 1;
        }
        let (level, block) = (number / (card.blocks + 1), number % (card.blocks + 1));
        if level + 1 < card.levels && block == card.blocks {
            walk.resample(&format!("{name}.{part}"), Way::Double)?;
        }
    }
    let norm = walk.tensors.norm("out.0", walk.channels, GROUPS)?;
    let last = walk.tensors.conv("out.2", walk.channels, 3)?;
    if last.to() > 2 {
        return Err(format!("out.2 has {} channels, and images have one, with or without its variance", last.to()));
    }
    walk.layers.push(Layer::Last(norm, last));
    Ok(Program { layers: walk.layers, embedding: [first, second], frequencies: Vec::new() })
}

impl Walk<'_, '_> {
    /// A block, or a convolution, that halves or doubles.
    fn resample(&mut self, name: &str, way: Way) -> Taken<()> {
        if self.card.resampling_blocks {
            return self.block(name, Some(way));
        }
        let layer = match way {
            Way::Half => Layer::Half(self.tensors.conv(&format!("{name}.op"), self.channels, 3)?),
            Way::Double => Layer::Double(self.tensors.conv(&format!("{name}.conv"), self.channels, 3)?),
        };
        self.layers.push(layer);
        Ok(())
    }

    fn block(&mut self, name: &str, way: Option<Way>) -> Taken<()> {
        let from = self.channels;
        let part = |part: &str| format!("{name}.{part}");
        let convolve = self.tensors.conv(&part("in_layers.2"), from, 3)?;
        let to = convolve.to();
        let noise = self.tensors.conv(&part("emb_layers.1"), self.noise, 1)?;
        if noise.to() != to && noise.to() != 2 * to {
            return Err(format!("{} gives {} numbers for {to} channels", part("emb_layers.1"), noise.to()));
        }
        let skip = if from == to { None } else { Some(self.tensors.conv(&part("skip_connection"), from, 1)?) };
        let block = Block {
            norms: [
                self.tensors.norm(&part("in_layers.0"), from, GROUPS)?,
                self.tensors.norm(&part("out_layers.0"), to, GROUPS)?,
            ],
            convolutions: [convolve, self.tensors.conv(&part("out_layers.3"), to, 3)?],
            films: noise.to() == 2 * to,
            noise,
            skip,
            resample: way.map(|way| (way, Resample::Plain)),
            halves_power: false,
        };
        self.layers.push(Layer::Block(Box::new(block)));
        self.channels = to;
        Ok(())
    }

    /// Whether there was attention.
    fn attention_if(&mut self, name: &str) -> Taken<bool> {
        let there = self.tensors.has(&format!("{name}.qkv.weight"));
        if there {
            self.attention(name)?;
        }
        Ok(there)
    }

    fn attention(&mut self, name: &str) -> Taken<()> {
        let c = self.channels;
        if !c.is_multiple_of(self.card.head_channels) {
            return Err(format!(
                "{name} has {c} channels, which are no multiple of head_channels = {}",
                self.card.head_channels
            ));
        }
        let qkv = self.tensors.conv(&format!("{name}.qkv"), c, 1)?;
        let out = self.tensors.conv(&format!("{name}.proj_out"), c, 1)?;
        if [qkv.to(), out.to()] != [3 * c, c] {
            return Err(format!("{name} gives {} and {} channels, and {} and {c} are due", qkv.to(), out.to(), 3 * c));
        }
        let attention = Attention {
            norm: self.tensors.norm(&format!("{name}.norm"), c, GROUPS)?,
            qkv,
            out,
            heads: c / self.card.head_channels,
            interleaved: !self.card.new_attention_order,
            halves_power: false,
        };
        self.layers.push(Layer::Attention(Box::new(attention)));
        Ok(())
    }
}
