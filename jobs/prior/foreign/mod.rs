//! Score networks of other programs: what published code trained, as a denoiser.
//!
//! `convert.py` beside this file makes a .safetensors of a checkpoint; its entry [`ATTRIBUTE`] says which layout it has. The names of the tensors
//! and their shapes say the rest: a layout's own module turns them into one list of layers (`program.rs`).

mod field;
mod guided;
mod ncsnpp;
mod program;

use std::collections::HashSet;
use std::f64::consts::TAU;
use std::path::Path;

use convoke_cluster::{BadValue, Result};
use convoke_data::formats::safetensors::SafetensorsReader;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Denoiser, Learnt};
use field::{Conv, Field, Norm};
use program::Program;

/// Entry of a file of weights that describes the network.
pub const ATTRIBUTE: &str = "score_network";

/// What shapes of tensors do not say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "layout", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Card {
    /// NCSN++ (Song et al., ICLR 2021) with Fourier features of ln σ, blocks that halve and double through [1, 3, 3, 1], and a pyramid of
    /// the input: the networks of DiffusionMBIR. The score is its output over σ.
    Ncsnpp(Ncsnpp),
    /// ADM (Dhariwal and Nichol, NeurIPS 2021), `guided-diffusion`'s U-Net: expects the noise ε of x/√(1 + σ²) at a time.
    GuidedDiffusion(Guided),
}

/// See [`Card::Ncsnpp`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ncsnpp {
    /// Points along an axis of the images that it has seen.
    pub points: usize,
    /// Images were between −1 and 1; else between 0 and 1, and the network is given 2 x − 1.
    #[serde(default)]
    pub centred: bool,
}

/// See [`Card::GuidedDiffusion`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Guided {
    /// Points along an axis of the images that it has seen.
    pub points: usize,
    /// Residual blocks of a level on the way down (`num_res_blocks`).
    pub blocks: usize,
    /// Levels (the length of `channel_mult`).
    pub levels: usize,
    /// Blocks halve and double (`resblock_updown`); else convolutions.
    #[serde(default = "yes")]
    pub resampling_blocks: bool,
    /// Channels of an attention head (`num_head_channels`).
    pub head_channels: usize,
    /// The three parts of all heads one after another (`use_new_attention_order`); else head by head.
    #[serde(default)]
    pub new_attention_order: bool,
    /// How much is kept of an image over the times.
    #[serde(default)]
    pub schedule: Schedule,
    /// Number of times.
    #[serde(default = "thousand")]
    pub times: usize,
    /// The network's image is `scale` x + `offset` of one with values between 0 and 1.
    #[serde(default = "two")]
    pub scale: f64,
    /// See above.
    #[serde(default = "minus_one")]
    pub offset: f64,
}

fn yes() -> bool {
    true
}

fn thousand() -> usize {
    1000
}

fn two() -> f64 {
    2.0
}

fn minus_one() -> f64 {
    -1.0
}

/// Schedules of ᾱ, the part of an image's square that is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// 1 − ᾱ_t/ᾱ_{t−1} from 1e-4 to 0.02 for a thousand times (Ho et al., NeurIPS 2020).
    #[default]
    Linear,
    /// ᾱ = cos²(π/2 (t/T + 0.008)/1.008) (Nichol and Dhariwal, ICML 2021).
    Cosine,
}

impl Schedule {
    /// σ = √((1 − ᾱ)/ᾱ) of each time.
    fn sigmas(self, times: usize) -> Vec<f64> {
        let scale = 1000.0 / times as f64;
        let bar = |t: f64| (TAU / 4.0 * (t / times as f64 + 0.008) / 1.008).cos().powi(2);
        let part = |t: usize| match self {
            Self::Linear => scale * (1e-4 + (0.02 - 1e-4) * t as f64 / (times - 1).max(1) as f64),
            Self::Cosine => (1.0 - bar(t as f64 + 1.0) / bar(t as f64)).min(0.999),
        };
        let mut kept = 1.0;
        (0..times)
            .map(|t| {
                kept *= 1.0 - part(t);
                ((1.0 - kept) / kept).sqrt()
            })
            .collect()
    }
}

/// The time whose noise is σ, between two of them in ln σ; the first or the last one beyond.
fn time(sigmas: &[f64], sigma: f64) -> f64 {
    let after = sigmas.partition_point(|s| *s < sigma);
    if after == 0 || after == sigmas.len() {
        return after.min(sigmas.len() - 1) as f64;
    }
    let [low, high] = [sigmas[after - 1], sigmas[after]].map(f64::ln);
    (after - 1) as f64 + (sigma.ln() - low) / (high - low)
}

/// A network of another program, ready to denoise.
#[derive(Debug)]
pub struct Foreign {
    /// What it is.
    pub card: Card,
    program: Program,
    /// σ of each time, for those that know times.
    sigmas: Vec<f64>,
}

impl Foreign {
    /// D of one image.
    fn one(&self, x: &[f32], [h, w]: [usize; 2], sigma: f64) -> Vec<f32> {
        let run =
            |input: Vec<f32>, features: &[f32]| self.program.run(Field { values: input, extent: [1, h, w] }, features);
        match &self.card {
            Card::Ncsnpp(card) => {
                let input = x.iter().map(|v| if card.centred { *v } else { 2.0 * v - 1.0 }).collect();
                // The score is the output over σ: D = x + σ² score.
                let out = run(input, &self.program.fourier(sigma));
                x.iter().zip(&out.values).map(|(x, f)| x + sigma as f32 * f).collect()
            }
            Card::GuidedDiffusion(card) => {
                let (scale, offset, own) = (card.scale as f32, card.offset as f32, card.scale.abs() * sigma);
                let kept = (1.0 / (1.0 + own * own).sqrt()) as f32;
                let input = x.iter().map(|v| kept * (scale * v + offset)).collect();
                let out = run(input, &self.program.waves(time(&self.sigmas, own)));
                // Behind the first channel lies what it learnt of variances.
                x.iter().zip(&out.values).map(|(x, noise)| x - own as f32 * noise / scale).collect()
            }
        }
    }
}

impl Denoiser for Foreign {
    fn denoise(&self, x: &[f32], points: [usize; 2], sigma: f64) -> Result<Vec<f32>> {
        Ok(x.par_chunks(points[0] * points[1]).flat_map_iter(|x| self.one(x, points, sigma)).collect())
    }
}

impl Learnt for Foreign {
    fn multiple(&self) -> usize {
        self.program.multiple()
    }

    fn flops(&self, points: [usize; 2]) -> f64 {
        self.program.cost(points).flops
    }

    fn memory(&self, threads: usize, points: [usize; 2]) -> u64 {
        let cost = self.program.cost(points);
        4 * (cost.parameters + threads as u64 * cost.values)
    }
}

/// Whether a file of weights says that it holds such a network.
pub fn holds_one(path: &Path) -> bool {
    SafetensorsReader::open(path).is_ok_and(|file| file.about(ATTRIBUTE).is_some())
}

/// The network of a file that `key` names.
///
/// # Errors
/// No such network in it; a layout that is not known; tensors that are missing, left over, of another shape or not finite, by name.
pub fn read(path: &Path, key: &str) -> Result<Foreign> {
    let wrong = |message: String| BadValue::wrong(key, format!("{}: {message}", path.display()));
    let file = SafetensorsReader::open(path).map_err(|error| BadValue::wrong(key, error))?;
    let about =
        file.about(ATTRIBUTE).ok_or_else(|| wrong(format!("no score network; its entry {ATTRIBUTE:?} is missing")))?;
    let card: Card = serde_json::from_str(about).map_err(|error| wrong(format!("its entry {ATTRIBUTE:?}: {error}")))?;
    let mut tensors = Tensors { file: &file, taken: HashSet::new() };
    let (program, sigmas) = match &card {
        Card::Ncsnpp(_) => (ncsnpp::program(&mut tensors).map_err(wrong)?, Vec::new()),
        Card::GuidedDiffusion(card) => {
            if card.times == 0 || card.blocks == 0 || card.levels == 0 || card.head_channels == 0 || card.scale == 0.0 {
                return Err(wrong(format!("its entry {ATTRIBUTE:?} has a 0 that cannot be")).into());
            }
            (guided::program(card, &mut tensors).map_err(wrong)?, card.schedule.sigmas(card.times))
        }
    };
    if let Some(name) = file.names().into_iter().find(|name| !tensors.taken.contains(name)) {
        return Err(wrong(format!("{name} has no place in this layout; networks with such parts are not known")).into());
    }
    Ok(Foreign { card, program, sigmas })
}

/// The tensors of a file, each to be taken once.
struct Tensors<'f> {
    file: &'f SafetensorsReader,
    taken: HashSet<String>,
}

/// What may go wrong with a tensor, in words.
type Taken<T> = std::result::Result<T, String>;

impl Tensors<'_> {
    fn has(&self, name: &str) -> bool {
        self.file.has(name)
    }

    fn shape(&self, name: &str) -> Taken<Vec<usize>> {
        self.file.shape(name).map_err(|error| error.to_string())
    }

    /// A tensor that is not needed.
    fn skip(&mut self, name: &str) {
        self.taken.insert(name.to_owned());
    }

    fn take(&mut self, name: &str, shape: &[usize]) -> Taken<Vec<f32>> {
        let found = self.shape(name)?;
        // Kernels of one point come with or without their axes.
        let bare = |shape: &[usize]| -> Vec<usize> {
            let ones = shape.iter().skip(2).rev().take_while(|n| **n == 1).count();
            shape[..shape.len() - ones].to_vec()
        };
        if bare(&found) != bare(shape) {
            return Err(format!("{name} has shape {found:?}, and {shape:?} is due"));
        }
        let values: Vec<f32> =
            self.file.read(name).map_err(|error| error.to_string())?.into_iter().map(|v| v as f32).collect();
        if values.iter().any(|v| !v.is_finite()) {
            return Err(format!("{name} has numbers that are not finite"));
        }
        self.taken.insert(name.to_owned());
        Ok(values)
    }

    /// `name.weight` and `name.bias` of a map from so many channels, with kernels of `size` × `size` points.
    fn conv(&mut self, name: &str, from: usize, size: usize) -> Taken<Conv> {
        let to = *self.shape(&format!("{name}.weight"))?.first().unwrap_or(&0);
        let weight = self.take(&format!("{name}.weight"), &[to, from, size, size])?;
        Ok(Conv { weight, bias: self.take(&format!("{name}.bias"), &[to])?, from, size })
    }

    fn norm(&mut self, name: &str, channels: usize, (groups, tiny): (usize, f64)) -> Taken<Norm> {
        if groups == 0 || !channels.is_multiple_of(groups) {
            return Err(format!("{name} has {channels} channels, which are no multiple of {groups} groups"));
        }
        let [gamma, beta] = ["weight", "bias"].map(|part| self.take(&format!("{name}.{part}"), &[channels]));
        Ok(Norm { gamma: gamma?, beta: beta?, groups, tiny })
    }
}

#[cfg(test)]
mod tests;
