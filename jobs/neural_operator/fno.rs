//! The Fourier neural operator (Li et al., ICLR 2021) in one to three dimensions, and its derivative.
//!
//! v = lift(a, x); L times v ← σ(K v + W v + b), K a product of kept Fourier modes with matrices, the last time without σ; output =
//! project₂ σ(project₁ v). Behind each layer there may be a network (`channel_mlp.rs`), and the lifting may be one of two maps. Beside the
//! fields of a sample the operator is given the coordinates of its points. Fields that are not periodic are continued by zeros (`padding`)
//! between lifting and projection.

use std::borrow::Cow;
use std::ops::Range;

use convoke_cluster::comm::CommError;
use faer::Accum;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::channel_mlp::ChannelMlp;
use super::layers::{
    Batch, Inside, activate, add, blocks, gelu_at, mix, mix_back, mix_back_onto, mix_onto, mix_parameters, network,
    network_back, times,
};
use super::spectral::Sharing;
use super::transform::Transform;
use super::tucker::Tucker;
use crate::learning::parameters::Parts;
use crate::learning::real::Real;

/// The size of an operator: what its parameters depend on, and its padding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FnoShape {
    /// Channels of its input, without coordinates.
    pub input: usize,
    /// Channels of its output.
    pub output: usize,
    /// Channels inside.
    pub width: usize,
    /// Fourier layers.
    pub layers: usize,
    /// Kept modes along each axis, on each side.
    pub modes: Vec<usize>,
    /// Channels between the two projections.
    pub projection: usize,
    /// Zeros behind the points of each axis.
    pub padding: Vec<usize>,
    /// Channels between two maps of the lifting; none where it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifting: Option<usize>,
    /// The network behind each layer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel_mlp: Option<ChannelMlp>,
    /// Ranks of a Tucker product for the matrices of the modes: of input and output channels, of the modes of each axis.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tucker: Option<Vec<usize>>,
    /// How often σ is applied between layers; with networks behind them once before a network and once after it.
    #[serde(default = "once", skip_serializing_if = "is_once")]
    pub activations: usize,
}

fn once() -> usize {
    1
}

fn is_once(activations: &usize) -> bool {
    *activations == 1
}

impl FnoShape {
    /// Points along each axis with the padding.
    pub fn padded(&self, points: &[usize]) -> Vec<usize> {
        points.iter().zip(&self.padding).map(|(n, p)| n + p).collect()
    }

    /// Kept modes in all.
    pub fn kept(&self) -> usize {
        let d = self.modes.len();
        self.modes.iter().enumerate().map(|(axis, m)| if axis + 1 == d { *m } else { 2 * m }).product()
    }

    /// Whether it has nothing that the first operators had not.
    pub fn is_classic(&self) -> bool {
        self.tucker.is_none() && self.lifting.is_none() && self.channel_mlp.is_none()
    }

    /// The Tucker product of a layer's matrices, where they are one.
    pub fn tucker(&self) -> Option<Tucker> {
        let d = self.modes.len();
        let modes = self.modes.iter().enumerate().map(|(axis, m)| if axis + 1 == d { *m } else { 2 * m });
        let extents = [self.width, self.width].into_iter().chain(modes).collect();
        Some(Tucker { extents, ranks: self.tucker.clone()? })
    }

    /// All parameters, of the reference implementation's first laws: spectral ones uniform on [0, 1/width²), others on ±1/√from.
    /// A spectral part is `[mode, re | im, from, to]`.
    pub fn parts(&self) -> Parts {
        let (h, mut parts) = (self.width, Parts::default());
        let given = self.input + self.modes.len();
        if let Some(lifting) = self.lifting {
            parts.add_mix("lift.0", lifting, given);
            parts.add_mix("lift.1", h, lifting);
        } else {
            parts.add_mix("lift", h, given);
        }
        for l in 0..self.layers {
            match self.tucker() {
                Some(tucker) => tucker.add(&mut parts, &format!("layers.{l}.spectral")),
                None => {
                    parts.add(format!("layers.{l}.spectral"), &[self.kept(), 2, h, h], [0.0, 1.0 / (h * h) as f64]);
                }
            }
            parts.add_mix(&format!("layers.{l}"), h, h);
            if let Some(mlp) = &self.channel_mlp {
                mlp.add(&mut parts, &format!("layers.{l}"), h);
            }
        }
        parts.add_mix("project.0", self.projection, h);
        parts.add_mix("project.1", self.output, self.projection);
        parts
    }

    /// Numbers that the passes over one sample hold: of each layer the input, its slopes, and as much again in work.
    pub fn held(&self, points: &[usize]) -> u64 {
        let size = self.padded(points).iter().product::<usize>() as u64;
        let behind = self.channel_mlp.as_ref().map_or(0, |mlp| 2 * self.layers * (self.width + mlp.channels));
        let ends = 3 * (self.projection + self.lifting.unwrap_or(0));
        2 * size * (self.width * (2 * self.layers + 4) + behind + ends) as u64
    }

    /// Flops of a forward pass over one sample: transforms, and products of matrices.
    pub fn flops(&self, points: &[usize]) -> f64 {
        let padded = self.padded(points);
        let [n, wide] = [points, &padded].map(|points| points.iter().product::<usize>() as f64);
        let (h, given) = (self.width as f64, (self.input + points.len()) as f64);
        let lift = self.lifting.map_or(given * h, |lifting| lifting as f64 * (given + h));
        let ends = lift + self.projection as f64 * (h + self.output as f64);
        let behind = self.channel_mlp.as_ref().map_or(0, |mlp| mlp.products(self.width));
        let spectral = 2.0 * h * Transform::<f64>::flops(&padded, &self.modes) + 8.0 * self.kept() as f64 * h * h;
        2.0 * n * ends + self.layers as f64 * (2.0 * wide * (h * h + behind as f64) + spectral)
    }
}

/// An operator on a grid.
#[derive(Debug, Clone)]
pub struct Fno<T> {
    /// Its size.
    pub shape: FnoShape,
    /// Points along each axis that are here.
    pub points: Vec<usize>,
    pub(super) transform: Transform<T>,
    parts: Parts,
    /// Of the points, `[axis, points]`, from 0 to 1.
    pub(super) coordinates: Vec<T>,
}

/// What a forward pass leaves for the backward one.
#[derive(Debug)]
pub struct Tape<T> {
    lift: Lift<T>,
    layers: Vec<Layer<T>>,
    project: Inside<T>,
}

/// What was lifted by one map, or what two leave.
#[derive(Debug)]
enum Lift<T> {
    One(Batch<T>),
    Two(Inside<T>),
}

/// Of one layer: its input, the kept modes of it, σ' (nothing where there is no σ); what the network behind it leaves, and σ' after it.
#[derive(Debug)]
struct Layer<T> {
    v: Batch<T>,
    modes: Batch<T>,
    slopes: Batch<T>,
    behind: Option<(Inside<T>, Batch<T>)>,
}

impl<T: Real> Fno<T> {
    /// On `points`. Modes must fit: on each side at most half of the points with their padding, on the last axis one more.
    pub fn new(shape: &FnoShape, points: &[usize]) -> Self {
        Self::slab(shape, points, 0..points[0])
    }

    /// Of fields on `points` of which these `rows` of the first axis are here; the zeros behind that axis are where its last row is.
    pub fn slab(shape: &FnoShape, points: &[usize], rows: Range<usize>) -> Self {
        let padded = shape.padded(points);
        let mut here = points.to_vec();
        here[0] = rows.len();
        let size: usize = here.iter().product();
        let mut coordinates = Vec::with_capacity(points.len() * size);
        for axis in 0..points.len() {
            let (after, first) = (here[axis + 1..].iter().product::<usize>(), if axis == 0 { rows.start } else { 0 });
            let ends = (points[axis] - 1).max(1) as f64;
            coordinates.extend((0..size).map(|i| T::of((first + i / after % here[axis]) as f64 / ends)));
        }
        let end = if rows.end == points[0] { padded[0] } else { rows.end };
        Self {
            shape: shape.clone(),
            points: here,
            transform: Transform::slab(&padded, &shape.modes, rows.start..end),
            parts: shape.parts(),
            coordinates,
        }
    }

    /// The matrices of a layer's modes.
    fn matrices<'p>(&self, parameters: &'p [T], l: usize) -> Cow<'p, [T]> {
        let name = format!("layers.{l}.spectral");
        self.shape.tucker().map_or_else(
            || Cow::Borrowed(self.parts.of(parameters, &name)),
            |tucker| Cow::Owned(tucker.matrices(&self.parts, parameters, &name)),
        )
    }

    /// The outputs, `[output, points]`, of inputs `[input, points]`, and what the backward pass needs. Collective where matrices are shared
    /// out.
    ///
    /// # Errors
    /// As the exchange.
    pub fn forward(
        &self,
        parameters: &[T],
        inputs: &[Vec<T>],
        sharing: &Sharing,
    ) -> Result<(Batch<T>, Tape<T>), CommError> {
        let of = |name: &str| self.parts.mix(parameters, name);
        let (h, pool) = (self.shape.width, &self.transform.pool);
        let with_coordinates = |a: &Vec<T>| {
            let mut all = pool.take(a.len() + self.coordinates.len());
            let (front, back) = all.split_at_mut(a.len());
            front.copy_from_slice(a);
            back.copy_from_slice(&self.coordinates);
            all
        };
        let given: Batch<T> = inputs.par_iter().map(with_coordinates).collect();
        let all = (&self.parts, parameters);
        let (lifted, lift) = if self.shape.lifting.is_some() {
            let (lifted, inside) = network(pool, all, "lift", given);
            (lifted, Lift::Two(inside))
        } else {
            let [weight, bias] = of("lift");
            (given.par_iter().map(|x| mix(pool, weight, bias, x)).collect(), Lift::One(given))
        };
        let mut v: Batch<T> = lifted.into_par_iter().map(|v| self.pad(v)).collect();
        let mut layers = Vec::with_capacity(self.shape.layers);
        for l in 0..self.shape.layers {
            let modes: Batch<T> = v.par_iter().map(|v| self.transform.analysis(v, h)).collect();
            let weight = self.matrices(parameters, l);
            let (products, modes) = sharing.products(&self.transform, &weight, modes, (h, h))?;
            let [weight, bias] = of(&format!("layers.{l}"));
            let last = l + 1 == self.shape.layers;
            let pass = |(v, y): (&Vec<T>, Vec<T>)| {
                let mut u = self.transform.synthesis(y, h);
                let n = u.len() / h;
                let mut slopes = if last { Vec::new() } else { pool.take(u.len()) };
                for points in blocks(n) {
                    mix_onto(weight, bias, v, points.clone(), &mut u);
                    if !last {
                        gelu_at(points, n, &mut u, &mut slopes);
                    }
                }
                for _ in 1..if last { 1 } else { self.shape.activations } {
                    let more = activate(pool, &mut u);
                    slopes = times(slopes, &more);
                    pool.give(more);
                }
                (u, slopes)
            };
            let (mut next, slopes) = v.par_iter().zip(products).map(pass).unzip();
            let behind = self.shape.channel_mlp.as_ref().map(|mlp| {
                let u = std::mem::take(&mut next);
                let (mut out, inside) = mlp.forward(pool, all, &format!("layers.{l}"), (&v, u));
                let activate = |out: &mut Vec<T>| if last { Vec::new() } else { activate(pool, out) };
                let slopes = out.par_iter_mut().map(activate).collect();
                next = out;
                (inside, slopes)
            });
            layers.push(Layer { v: std::mem::replace(&mut v, next), modes, slopes, behind });
        }
        let projected_from: Batch<T> = v.into_par_iter().map(|v| self.crop(v)).collect();
        let (outputs, project) = network(pool, all, "project", projected_from);
        Ok((outputs, Tape { lift, layers, project }))
    }

    /// The gradient of the parameters for derivatives `g` of the outputs. Collective where matrices are shared out.
    ///
    /// # Errors
    /// As the exchange.
    pub fn backward(
        &self,
        parameters: &[T],
        tape: &Tape<T>,
        g: &[Vec<T>],
        sharing: &Sharing,
    ) -> Result<Vec<T>, CommError> {
        let of = |name: &str| self.parts.mix(parameters, name);
        let (h, pool) = (self.shape.width, &self.transform.pool);
        let mut gradient = pool.zeros(parameters.len());
        let both = (&self.parts, parameters, gradient.as_mut_slice());
        let hidden = network_back(pool, both, "project", (&tape.project, g));
        let [weight, _] = of("project.0");
        let mut g: Batch<T> =
            hidden.par_iter().map(|g| self.pad(mix_back(pool, weight, self.shape.projection, g))).collect();
        pool.give_all(hidden);
        for (l, layer) in tape.layers.iter().enumerate().rev() {
            // Of the last layer there are no slopes, and nothing changes.
            let through = |g: Batch<T>, slopes: &Batch<T>| -> Batch<T> {
                g.into_par_iter().zip(slopes).map(|(g, slopes)| times(g, slopes)).collect()
            };
            let mut beside = None;
            if let (Some(mlp), Some((inside, slopes))) = (&self.shape.channel_mlp, &layer.behind) {
                let all = (&self.parts, parameters, gradient.as_mut_slice());
                let saved = (layer.v.as_slice(), inside, through(g, slopes));
                let [by_u, by_v] = mlp.backward(pool, all, &format!("layers.{l}"), saved);
                (g, beside) = (by_u, Some(by_v));
            }
            g = through(g, &layer.slopes);
            let modes: Batch<T> = g
                .par_iter()
                .map(|g| {
                    let mut modes = self.transform.analysis(g, h);
                    self.transform.weigh(&mut modes);
                    modes
                })
                .collect();
            let name = format!("layers.{l}.spectral");
            let saved = (layer.modes.as_slice(), modes);
            let back = if let Some(tucker) = self.shape.tucker() {
                let weight = self.matrices(parameters, l);
                let mut dw = vec![T::default(); weight.len()];
                let back = sharing.products_back(&self.transform, (&weight, &mut dw), saved, (h, h))?;
                tucker.backward(&self.parts, parameters, &name, (&dw, &mut gradient));
                back
            } else {
                let range = self.parts.range(&name);
                let both = (&parameters[range.clone()], &mut gradient[range]);
                sharing.products_back(&self.transform, both, saved, (h, h))?
            };
            let name = format!("layers.{l}");
            let (dw, db) = self.parts.mix_mut(&mut gradient, &name);
            mix_parameters(&layer.v, &g, dw, db);
            let [weight, _] = of(&name);
            let pass = |(g, modes): (Vec<T>, Vec<T>)| {
                let mut x = self.transform.adjoint(modes, h);
                mix_back_onto(Accum::Add, weight, h, &g, &mut x);
                pool.give(g);
                x
            };
            g = g.into_par_iter().zip(back).map(pass).collect();
            if let Some(beside) = beside {
                g.par_iter_mut().zip(beside).for_each(|(g, more)| add(pool, g, more));
            }
        }
        let g: Batch<T> = g.into_par_iter().map(|g| self.crop(g)).collect();
        match &tape.lift {
            Lift::One(given) => {
                let (dw, db) = self.parts.mix_mut(&mut gradient, "lift");
                mix_parameters(given, &g, dw, db);
            }
            Lift::Two(inside) => {
                let all = (&self.parts, parameters, gradient.as_mut_slice());
                pool.give_all(network_back(pool, all, "lift", (inside, &g)));
            }
        }
        pool.give_all(g);
        Ok(gradient)
    }

    /// Gives the memory of a pass back: what [`Fno::forward`] returned, once nobody needs it.
    pub fn recycle(&self, outputs: Batch<T>, tape: Tape<T>) {
        let Tape { lift, layers, project } = tape;
        let inside = |inside: Inside<T>| [inside.from, inside.hidden, inside.slopes];
        let mut all: Vec<Batch<T>> = inside(project).into();
        match lift {
            Lift::One(given) => all.push(given),
            Lift::Two(two) => all.extend(inside(two)),
        }
        for Layer { v, modes, slopes, behind } in layers {
            all.extend([v, modes, slopes]);
            all.extend(behind.into_iter().flat_map(|(two, slopes)| inside(two).into_iter().chain([slopes])));
        }
        all.into_iter().chain([outputs]).for_each(|batch| self.transform.pool.give_all(batch));
    }

    /// Zeros behind the points of each axis.
    fn pad(&self, v: Vec<T>) -> Vec<T> {
        if self.points == self.transform.points {
            return v;
        }
        let (pool, channels) = (&self.transform.pool, v.len() / self.points.iter().product::<usize>());
        let mut out = pool.zeros(channels * self.transform.size());
        self.lines(channels, |from, to, n| out[to..to + n].copy_from_slice(&v[from..from + n]));
        pool.give(v);
        out
    }

    /// The points without what was added.
    fn crop(&self, v: Vec<T>) -> Vec<T> {
        if self.points == self.transform.points {
            return v;
        }
        let (pool, channels) = (&self.transform.pool, v.len() / self.transform.size());
        let mut out = pool.take(channels * self.points.iter().product::<usize>());
        self.lines(channels, |from, to, n| out[from..from + n].copy_from_slice(&v[to..to + n]));
        pool.give(v);
        out
    }

    /// Where each line of the last axis starts without padding and with it.
    fn lines(&self, channels: usize, mut each: impl FnMut(usize, usize, usize)) {
        let n = self.points[self.points.len() - 1];
        let outer = &self.points[..self.points.len() - 1];
        let lines: usize = outer.iter().product();
        for line in 0..channels * lines {
            let (channel, mut rest, mut place, mut pitch) = (line / lines, line % lines, 0, 1);
            for axis in (0..outer.len()).rev() {
                place += rest % outer[axis] * pitch;
                rest /= outer[axis];
                pitch *= self.transform.points[axis];
            }
            let padded = self.transform.points[outer.len()];
            each(line * n, (channel * pitch + place) * padded, n);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::neural_operator::channel_mlp::Skip;
    use convoke_kernels::Philox;

    fn random(len: usize, stream: u64) -> Vec<f64> {
        (0..len as u64).map(|i| Philox::new(5, stream).normal(i)).collect()
    }

    /// Passes that give their memory back need no more of it, however many there are, with padding and without.
    #[test]
    fn memory_does_not_grow_with_the_passes() {
        for padding in [vec![0, 0], vec![2, 1]] {
            let shape = FnoShape {
                input: 2,
                output: 3,
                width: 6,
                layers: 3,
                modes: vec![2, 3],
                projection: 7,
                padding,
                lifting: Some(8),
                channel_mlp: Some(ChannelMlp { channels: 4, skip: Skip::Linear }),
                tucker: None,
                activations: 1,
            };
            let fno = Fno::<f64>::new(&shape, &[5, 6]);
            let (inputs, parameters) = ([random(60, 0), random(60, 1)], shape.parts().initial(1));
            let mut held = Vec::new();
            // One thread: with more, their number of lists under way differs from pass to pass.
            let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread");
            one.install(|| {
                for _ in 0..4 {
                    let (outputs, tape) = fno.forward(&parameters, &inputs, &Sharing::default()).expect("no exchange");
                    fno.backward(&parameters, &tape, &outputs, &Sharing::default()).expect("no exchange");
                    fno.recycle(outputs, tape);
                    held.push(fno.transform.pool.held());
                }
            });
            assert!(held[1..].iter().all(|lists| *lists == held[1]), "{:?}: {held:?}", fno.shape.padding);
        }
    }

    /// Parameters of the reference implementations: FNO2d of width 32 with 12 modes and no MLP.
    #[test]
    fn parameters_are_counted_as_published() {
        let shape = FnoShape {
            input: 1,
            output: 1,
            width: 32,
            layers: 4,
            modes: vec![12, 12],
            projection: 128,
            padding: vec![0; 2],
            lifting: None,
            channel_mlp: None,
            tucker: None,
            activations: 1,
        };
        assert_eq!(shape.parts().count(), 2_368_001);
    }

    /// Central differences of Σ c·output along random directions of each part, to 1e-7, in one to three dimensions, padded and not.
    #[test]
    fn gradients_are_slopes() {
        let behind = |channels, skip| Some(ChannelMlp { channels, skip });
        for (points, modes, padding, (activations, tucker), (lifting, channel_mlp)) in [
            (vec![16], vec![5], vec![0], (1, None), (None, None)),
            (vec![6, 9], vec![2, 4], vec![0, 0], (2, None), (Some(5), None)),
            (vec![5, 6], vec![2, 3], vec![2, 1], (1, None), (None, behind(3, Skip::SoftGating))),
            (vec![4, 5, 6], vec![1, 2, 3], vec![0, 1, 0], (1, None), (Some(6), behind(2, Skip::Linear))),
            (vec![12], vec![5], vec![0], (1, Some(vec![2, 3, 4])), (Some(7), behind(5, Skip::SoftGating))),
            (vec![6, 9], vec![2, 4], vec![0, 0], (1, Some(vec![3, 4, 2, 3])), (None, None)),
        ] {
            let (input, output, width, layers, projection) = (2, 3, 4, 3, 5);
            let shape = FnoShape {
                input,
                output,
                width,
                layers,
                modes,
                projection,
                padding,
                lifting,
                channel_mlp,
                tucker,
                activations,
            };
            let fno = Fno::<f64>::new(&shape, &points);
            let size: usize = points.iter().product();
            let inputs: Batch<f64> = (0..3).map(|b| random(2 * size, b)).collect();
            let c: Batch<f64> = (0..3).map(|b| random(3 * size, 10 + b)).collect();
            let parameters: Vec<f64> = shape.parts().initial(1);
            let value = |parameters: &[f64]| -> f64 {
                let outputs = fno.forward(parameters, &inputs, &Sharing::default()).expect("no exchange").0;
                outputs.iter().flatten().zip(c.iter().flatten()).map(|(y, c)| y * c).sum()
            };
            let tape = fno.forward(&parameters, &inputs, &Sharing::default()).expect("no exchange").1;
            let gradient = fno.backward(&parameters, &tape, &c, &Sharing::default()).expect("no exchange");
            for (i, part) in shape.parts().each().enumerate() {
                let direction = random(part.range().len(), 100 + i as u64);
                let h = 1e-4;
                let shifted = |by: f64| {
                    let mut moved = parameters.clone();
                    moved[part.range()].iter_mut().zip(&direction).for_each(|(p, d)| *p += by * d);
                    value(&moved)
                };
                let slope = (shifted(h) - shifted(-h)) / (2.0 * h);
                let found: f64 = gradient[part.range()].iter().zip(&direction).map(|(g, d)| g * d).sum();
                assert!(
                    (slope - found).abs() < 1e-7 * slope.abs().max(1.0),
                    "{} {points:?}: {found} {slope}",
                    part.name
                );
            }
        }
    }
}
