//! Who names and orders parameters how.

use clap::ValueEnum;
use convoke_data::formats::safetensors::SafetensorsReader;
use serde::{Deserialize, Serialize};

use super::super::channel_mlp::Skip;
use super::super::fno::FnoShape;
use super::super::model::Shape;
use super::super::st_fno::StShape;
use super::tensor::{Order, Tensor};

/// Names and orders of parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// As results have them, with means and deviations of the data.
    Convoke,
    /// `FNO` and `TFNO` of neuraloperator.
    Neuraloperator,
    /// The first Fourier neural operators: `fc0`, `conv0.weights1`, `w0`; PDEBench has the same.
    Fno,
    /// `SFNO` of torch-cfd.
    TorchCfd,
}

impl Layout {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Convoke => "convoke",
            Self::Neuraloperator => "neuraloperator",
            Self::Fno => "fno",
            Self::TorchCfd => "torch-cfd",
        }
    }

    /// Of a file, by the names in it.
    pub(super) fn of(file: &SafetensorsReader) -> Option<Self> {
        let has = |start: &str| file.names().iter().any(|name| name.starts_with(start));
        let known = [
            (Self::Neuraloperator, "fno_blocks."),
            (Self::TorchCfd, "lifting_operator."),
            (Self::Fno, "conv0.weights1"),
            (Self::Convoke, "layers.0.spectral"),
        ];
        known.into_iter().find(|(_, start)| has(start)).map(|(layout, _)| layout)
    }

    /// All tensors of an operator that is trained on `points`; `odd`: along which axes the last negative mode is left out. None for an
    /// operator that the layout does not know.
    pub(super) fn tensors(self, shape: &Shape, points: &[usize], odd: &[bool]) -> Option<Vec<Tensor>> {
        match (self, shape) {
            (Self::Convoke, _) => {
                Some(shape.parts().each().map(|part| Tensor::same(&part.name, &part.shape, &part.name)).collect())
            }
            (Self::Neuraloperator, Shape::Fno(shape)) => Some(neuraloperator(shape, points, odd)),
            (Self::Fno, Shape::Fno(shape)) if shape.is_classic() => Some(fno(shape)),
            (Self::TorchCfd, Shape::StFno(shape)) => Some(torch_cfd(shape)),
            _ => None,
        }
    }
}

/// `KEY.weight` and `KEY.bias` of a product with a matrix; `ones` axes follow where the weight is that of a convolution.
fn mix(key: &str, [to, from]: [usize; 2], ones: usize, part: &str) -> [Tensor; 2] {
    let weight = [vec![to, from], vec![1; ones]].concat();
    [("weight", weight.as_slice()), ("bias", &[to])]
        .map(|(what, shape)| Tensor::same(format!("{key}.{what}"), shape, format!("{part}.{what}")))
}

/// Places among our modes of all combinations of one mode from each axis, the last axis fastest; ours are counted from 0 to m − 1 and,
/// on all axes but the last, from −m to −1 behind that.
fn places(modes: &[usize], each: &[Vec<i64>]) -> Vec<usize> {
    let mut all = vec![0];
    for (axis, wanted) in each.iter().enumerate() {
        let kept = if axis + 1 == modes.len() { modes[axis] } else { 2 * modes[axis] };
        let at = |k: &i64| k.rem_euclid(kept as i64) as usize;
        all = all.iter().flat_map(|before| wanted.iter().map(move |k| before * kept + at(k))).collect();
    }
    all
}

/// `KEY0`, `KEY1` …: a tensor for each combination of signs along all axes but the last, the first axis fastest.
fn corners(modes: &[usize], tensor: impl Fn(usize, Vec<usize>) -> Tensor) -> Vec<Tensor> {
    let outer = modes.len() - 1;
    let corner = |g: usize| {
        let axis = |(axis, m): (usize, &usize)| -> Vec<i64> {
            let m = *m as i64;
            if axis < outer && g >> axis & 1 == 1 { (-m..0).collect() } else { (0..m).collect() }
        };
        let each: Vec<Vec<i64>> = modes.iter().enumerate().map(axis).collect();
        tensor(g, places(modes, &each))
    };
    (0..1 << outer).map(corner).collect()
}

fn spectral(key: String, width: usize, modes: &[usize], part: String, places: Vec<usize>) -> Tensor {
    let shape = [&[width, width], modes, &[2]].concat();
    Tensor { keys: vec![key], shape, part, order: Order::Spectral(places) }
}

/// Core and factors of a Tucker product of matrices; those of the modes in the order of `each`.
fn tucker(shape: &FnoShape, each: &[Vec<i64>], key: &str, part: &str) -> Vec<Tensor> {
    let Some(product) = shape.tucker() else { return Vec::new() };
    let core = [&product.ranks[..], &[2]].concat();
    let mut all = vec![Tensor::same(format!("{key}.core"), &core, format!("{part}.core"))];
    for (axis, (n, r)) in product.extents.iter().zip(&product.ranks).enumerate() {
        let name = format!("{key}.factors.factor_{axis}");
        let mut factor = Tensor::same(name, &[*n, *r, 2], format!("{part}.factor.{axis}"));
        if let Some(wanted) = axis.checked_sub(2).map(|axis| &each[axis]) {
            factor.shape[0] = wanted.len();
            factor.order = Order::Rows(wanted.iter().map(|k| k.rem_euclid(*n as i64) as usize).collect());
        }
        all.push(factor);
    }
    all
}

/// Modes in the order of their frequencies; coordinates i/n where ours are i/(n − 1).
fn neuraloperator(shape: &FnoShape, points: &[usize], odd: &[bool]) -> Vec<Tensor> {
    let (h, d) = (shape.width, shape.modes.len());
    let given = shape.input + d;
    let mut all = match shape.lifting {
        None => mix("lifting.fcs.0", [h, given], 1, "lift").to_vec(),
        Some(lifting) => {
            [mix("lifting.fcs.0", [lifting, given], 1, "lift.0"), mix("lifting.fcs.1", [h, lifting], 1, "lift.1")]
                .concat()
        }
    };
    let ours = |n: &usize| *n as f64 / (n - 1).max(1) as f64;
    all[0].order = Order::Columns(std::iter::repeat_n(1.0, shape.input).chain(points.iter().map(ours)).collect());
    let axis = |(axis, m): (usize, &usize)| -> Vec<i64> {
        let m = *m as i64;
        let first = if axis + 1 == d { 0 } else { i64::from(odd[axis]) - m };
        (first..m).collect()
    };
    let each: Vec<Vec<i64>> = shape.modes.iter().enumerate().map(axis).collect();
    let (kept, places): (Vec<usize>, _) = (each.iter().map(Vec::len).collect(), places(&shape.modes, &each));
    for l in 0..shape.layers {
        let (key, part) = (format!("fno_blocks.convs.{l}"), format!("layers.{l}"));
        if shape.tucker.is_some() {
            all.extend(tucker(shape, &each, &format!("{key}.weight"), &format!("{part}.spectral")));
        } else {
            let weight = spectral(format!("{key}.weight.tensor"), h, &kept, format!("{part}.spectral"), places.clone());
            all.push(weight.or(format!("{key}.weight")));
        }
        let (bias, ones) = ([vec![h], vec![1; d]].concat(), [vec![1, h], vec![1; d]].concat());
        let skip = format!("fno_blocks.fno_skips.{l}.conv.weight");
        all.push(Tensor::same(format!("{key}.bias"), &bias, format!("{part}.bias")));
        all.push(Tensor::same(skip, &[h, h, 1], format!("{part}.weight")));
        let Some(mlp) = &shape.channel_mlp else { continue };
        let fcs = |map: usize| (format!("fno_blocks.channel_mlp.{l}.fcs.{map}"), format!("{part}.mlp.{map}"));
        for ((key, part), size) in [(fcs(0), [mlp.channels, h]), (fcs(1), [h, mlp.channels])] {
            all.extend(mix(&key, size, 1, &part));
        }
        let (key, part) = (format!("fno_blocks.channel_mlp_skips.{l}"), format!("{part}.skip"));
        all.push(match mlp.skip {
            Skip::SoftGating => Tensor::same(format!("{key}.weight"), &ones, part),
            Skip::Linear => Tensor::same(format!("{key}.conv.weight"), &[h, h, 1], part),
        });
    }
    all.extend(mix("projection.fcs.0", [shape.projection, h], 1, "project.0"));
    all.extend(mix("projection.fcs.1", [shape.output, shape.projection], 1, "project.1"));
    all
}

/// What the shapes of tensors tell of the operator of a file of neuraloperator, as a job says it.
pub(super) fn told(file: &SafetensorsReader) -> Option<String> {
    let shape = |key: &str| file.shape(key).ok();
    let first = |key: &str| shape(key).and_then(|shape| shape.first().copied());
    let convs = |what: &str| shape(&format!("fno_blocks.convs.0.{what}"));
    let (width, d) = (first("fno_blocks.convs.0.bias")?, convs("bias")?.len() - 1);
    let layer = |name: &&String| name.starts_with("fno_blocks.convs.") && name.ends_with(".bias");
    let mut all = vec![format!("width = {width}"), format!("layers = {}", file.names().iter().filter(layer).count())];
    if let (Some(lifting), true) = (first("lifting.fcs.0.weight"), file.has("lifting.fcs.1.weight")) {
        all.push(format!("lifting = {lifting}"));
    }
    all.extend(first("projection.fcs.0.weight").map(|n| format!("projection = {n}")));
    let mut modes: Vec<usize> = if let Some(core) = convs("weight.core") {
        all.push(format!("tucker = {:?}", core.get(..d + 2)?));
        let factor = |axis| first(&format!("fno_blocks.convs.0.weight.factors.factor_{axis}"));
        (2..d + 2).map_while(factor).collect()
    } else {
        convs("weight.tensor").or_else(|| convs("weight"))?.get(2..d + 2)?.to_vec()
    };
    let last = modes.len().saturating_sub(1);
    modes[..last].iter_mut().for_each(|n| *n = n.div_ceil(2));
    all.push(format!("modes = {modes:?}"));
    if let Some(inside) = first("fno_blocks.channel_mlp.0.fcs.0.weight") {
        let skip = if file.has("fno_blocks.channel_mlp_skips.0.weight") { "soft-gating" } else { "linear" };
        let expansion = inside as f64 / width as f64;
        all.push(format!("channel_mlp = {{ expansion = {expansion}, skip = \"{skip}\" }}"));
    } else {
        all.push("activations = 2".to_owned());
    }
    Some(all.join(", "))
}

fn fno(shape: &FnoShape) -> Vec<Tensor> {
    let (h, d) = (shape.width, shape.modes.len());
    let named = |keys: [&str; 2], size: [usize; 2], part: &str| {
        let [first, other] = keys.map(|key| mix(key, size, 0, part));
        first.into_iter().zip(other).map(|(tensor, other)| tensor.or(&other.keys[0])).collect::<Vec<_>>()
    };
    let mut all = named(["fc0", "p"], [h, shape.input + d], "lift");
    for l in 0..shape.layers {
        let part = format!("layers.{l}");
        all.extend(corners(&shape.modes, |g, places| {
            spectral(format!("conv{l}.weights{}", g + 1), h, &shape.modes, format!("{part}.spectral"), places)
        }));
        all.extend(mix(&format!("w{l}"), [h, h], d, &part));
    }
    all.extend(named(["fc1", "q.mlp1"], [shape.projection, h], "project.0"));
    all.extend(named(["fc2", "q.mlp2"], [shape.output, shape.projection], "project.1"));
    all
}

/// The first layer is in the lifting.
fn torch_cfd(shape: &StShape) -> Vec<Tensor> {
    let (h, modes) = (shape.width, shape.modes.as_slice());
    let mut all = mix("lifting_operator.norm", [h, 1], 0, "lift.norm").to_vec();
    all[0].shape = vec![h];
    all.extend(mix("lifting_operator.proj", [h, h], 3, "lift"));
    for l in 0..shape.layers {
        let (conv, mlp) = match l.checked_sub(1) {
            None => ("lifting_operator.sconv".to_owned(), "lifting_operator.mlp".to_owned()),
            Some(l) => (format!("spectral_conv.{l}"), format!("mlp.{l}")),
        };
        let part = format!("layers.{l}");
        all.extend(corners(modes, |g, places| {
            spectral(format!("{conv}.weight.{g}"), h, modes, format!("{part}.spectral"), places)
        }));
        all.extend(mix(&format!("{mlp}.linear1"), [4 * h, h], 3, &format!("{part}.feed.0")));
        all.extend(mix(&format!("{mlp}.linear2"), [h, 4 * h], 3, &format!("{part}.feed.1")));
        if let Some(w) = l.checked_sub(1) {
            all.extend(mix(&format!("w.{w}"), [h, h], 3, &part));
        }
    }
    let [weight, bias] = mix("reduction", [1, h], 3, "reduce");
    all.extend([weight.or("r.weight"), bias.or("r.bias")]);
    let key = "output_operator.conv";
    let part = |what: &str| format!("output.{what}");
    all.extend(corners(modes, |g, places| spectral(format!("{key}.weight.{g}"), 1, modes, part("spectral"), places)));
    all.extend(corners(modes, |g, places| {
        // Of the places of all modes, those of x and y.
        let xy = places.iter().step_by(modes[2]).map(|place| place / modes[2]).collect();
        let shape = [modes, &[2]].concat();
        Tensor { keys: vec![format!("{key}.bias.{g}")], shape, part: part("bias"), order: Order::Bias(xy) }
    }));
    all
}

#[cfg(test)]
mod tests {
    use super::super::super::channel_mlp::ChannelMlp;
    use super::*;

    /// Whatever is taken out of parameters for a layout makes the same parameters again, and each of them once.
    #[test]
    fn every_parameter_is_in_one_tensor_and_comes_back() {
        let fno = |modes: Vec<usize>, tucker: Option<Vec<usize>>, mlp: Option<Skip>| {
            let (padding, layers) = (vec![0; modes.len()], 2);
            Shape::Fno(FnoShape {
                input: 2,
                output: 3,
                width: 4,
                layers,
                modes,
                projection: 5,
                padding,
                lifting: mlp.map(|_| 6),
                channel_mlp: mlp.map(|skip| ChannelMlp { channels: 3, skip }),
                tucker,
                activations: 1,
            })
        };
        let modes = vec![2, 3, 2];
        let st = StShape { input: 5, output: 7, width: 4, layers: 3, modes, latent: 4, growth: 0.1 };
        for (shape, points) in [
            (fno(vec![3], None, None), vec![8]),
            (fno(vec![2, 3], None, Some(Skip::SoftGating)), vec![8, 9]),
            (fno(vec![2, 3], Some(vec![2, 3, 4, 1]), Some(Skip::Linear)), vec![8, 9]),
            (fno(vec![1, 2, 3], None, None), vec![4, 6, 8]),
            (Shape::StFno(st), vec![8, 8]),
        ] {
            let parts = shape.parts();
            let given: Vec<f64> = (0..parts.count()).map(|i| 1.0 + i as f64).collect();
            for layout in [Layout::Convoke, Layout::Neuraloperator, Layout::Fno, Layout::TorchCfd] {
                let Some(tensors) = layout.tensors(&shape, &points, &vec![false; points.len()]) else { continue };
                let (mut back, mut count) = (vec![0.0; given.len()], 0);
                for tensor in tensors {
                    let values: Vec<f64> = tensor.take(parts.of(&given, &tensor.part));
                    count += values.len();
                    tensor.put(&values, &mut back[parts.range(&tensor.part)]);
                }
                // Coordinates are scaled and scaled back.
                let far = back.iter().zip(&given).map(|(a, b)| (a - b).abs() / b).fold(0.0, f64::max);
                let bound = if layout == Layout::Neuraloperator { f64::EPSILON } else { 0.0 };
                assert!(count == given.len() && far <= bound, "{layout:?} {shape:?}: {count} {far:e}");
            }
        }
    }

    #[test]
    fn modes_have_the_places_of_the_transform() {
        assert_eq!(places(&[2, 2], &[vec![-2, -1, 0, 1], vec![0, 1]]), [4, 5, 6, 7, 0, 1, 2, 3]);
        assert_eq!(places(&[3], &[vec![0, 1, 2]]), [0, 1, 2]);
    }
}
