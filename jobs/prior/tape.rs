//! What a network computed, step by step, and the way back.

use std::ops::Range;

use rayon::prelude::*;

use super::layers::{self, Extent, Moments, Norm};
use crate::learning::real::Real;

/// Where a value lies on a tape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Id(usize);

#[derive(Debug)]
enum Step<T> {
    Input,
    Convolve { x: Id, weight: Range<usize>, bias: Range<usize> },
    Mix { x: Id, weight: Range<usize>, bias: Range<usize> },
    Norm { x: Id, gamma: Range<usize>, beta: Range<usize>, film: Option<Id>, groups: usize, moments: Vec<Moments<T>> },
    Silu { x: Id },
    Add { a: Id, b: Id },
    Join { a: Id, b: Id },
    Pool { x: Id },
    Repeat { x: Id },
    Shuffle { x: Id, back: bool },
}

/// Values of a batch, `[sample][channel, y, x]` each.
#[derive(Debug)]
struct Value<T> {
    extent: Extent,
    values: Vec<T>,
    step: Step<T>,
}

/// What is made of one sample: its number, what it is made of, what it becomes, memory.
type OfSample<'a, T> = dyn Fn(usize, &[T], &mut [T], &mut Vec<T>) + Sync + 'a;

/// Values in the order in which they were computed.
#[derive(Debug)]
pub struct Tape<'p, T> {
    parameters: &'p [T],
    batch: usize,
    values: Vec<Value<T>>,
}

fn size(extent: Extent) -> usize {
    extent.iter().product()
}

impl<'p, T: Real> Tape<'p, T> {
    /// Of a network with these parameters, for so many samples.
    pub fn new(parameters: &'p [T], batch: usize) -> Self {
        Self { parameters, batch, values: Vec::new() }
    }

    /// Shape of a sample's value.
    pub fn extent(&self, id: Id) -> Extent {
        self.values[id.0].extent
    }

    /// All samples' values.
    pub fn values(&self, id: Id) -> &[T] {
        &self.values[id.0].values
    }

    fn push(&mut self, extent: Extent, values: Vec<T>, step: Step<T>) -> Id {
        self.values.push(Value { extent, values, step });
        Id(self.values.len() - 1)
    }

    /// What comes from outside.
    pub fn input(&mut self, extent: Extent, values: Vec<T>) -> Id {
        debug_assert_eq!(values.len(), self.batch * size(extent));
        self.push(extent, values, Step::Input)
    }

    /// A value for each sample from those of another.
    fn map(&self, x: Id, extent: Extent, of: impl Fn(&[T], &mut [T], &mut Vec<T>) + Sync) -> Vec<T> {
        let from = &self.values[x.0];
        let mut out = vec![T::default(); self.batch * size(extent)];
        out.par_chunks_mut(size(extent))
            .zip(from.values.par_chunks(size(from.extent)))
            .for_each_init(Vec::new, |work, (out, x)| of(x, out, work));
        out
    }

    /// 3 × 3 convolution.
    pub fn convolve(&mut self, x: Id, [weight, bias]: [Range<usize>; 2]) -> Id {
        let [_, h, w] = self.extent(x);
        let (extent, of) = ([bias.len(), h, w], self.extent(x));
        let (weights, biases) = (&self.parameters[weight.clone()], &self.parameters[bias.clone()]);
        let out = self.map(x, extent, |x, y, work| layers::convolve(weights, Some(biases), x, of, y, work));
        self.push(extent, out, Step::Convolve { x, weight, bias })
    }

    /// The same matrix at every point.
    pub fn mix(&mut self, x: Id, [weight, bias]: [Range<usize>; 2]) -> Id {
        let [from, h, w] = self.extent(x);
        let extent = [bias.len(), h, w];
        let (weights, biases) = (&self.parameters[weight.clone()], &self.parameters[bias.clone()]);
        let out = self.map(x, extent, |x, y, _| layers::mix(weights, Some(biases), x, from, y));
        self.push(extent, out, Step::Mix { x, weight, bias })
    }

    /// Normalisation in groups, scale and shift by `film`, SiLU.
    pub fn norm(&mut self, x: Id, [gamma, beta]: [Range<usize>; 2], film: Option<Id>, groups: usize) -> Id {
        let extent = self.extent(x);
        let n = size(extent);
        let mut out = vec![T::default(); self.batch * n];
        let moments = out
            .par_chunks_mut(n)
            .zip(self.values(x).par_chunks(n))
            .enumerate()
            .map(|(sample, (y, x))| self.norm_of(&gamma, &beta, film, groups, sample).forward(x, y))
            .collect();
        self.push(extent, out, Step::Norm { x, gamma, beta, film, groups, moments })
    }

    fn norm_of(
        &self,
        gamma: &Range<usize>,
        beta: &Range<usize>,
        film: Option<Id>,
        groups: usize,
        sample: usize,
    ) -> Norm<'_, T> {
        let film = film.map(|id| &self.values(id)[2 * gamma.len() * sample..][..2 * gamma.len()]);
        Norm { gamma: &self.parameters[gamma.clone()], beta: &self.parameters[beta.clone()], film, groups }
    }

    /// SiLU.
    pub fn silu(&mut self, x: Id) -> Id {
        let extent = self.extent(x);
        let out = self.map(x, extent, |x, y, _| x.iter().zip(y).for_each(|(x, y)| *y = x.silu().0));
        self.push(extent, out, Step::Silu { x })
    }

    /// a + b.
    pub fn add(&mut self, a: Id, b: Id) -> Id {
        let out = self.values(a).iter().zip(self.values(b)).map(|(a, b)| *a + *b).collect();
        self.push(self.extent(a), out, Step::Add { a, b })
    }

    /// Channels of a, then those of b.
    pub fn join(&mut self, a: Id, b: Id) -> Id {
        let ([c, h, w], [d, ..]) = (self.extent(a), self.extent(b));
        let mut out = Vec::with_capacity((c + d) * h * w * self.batch);
        for (a, b) in self.values(a).chunks(c * h * w).zip(self.values(b).chunks(d * h * w)) {
            out.extend_from_slice(a);
            out.extend_from_slice(b);
        }
        self.push([c + d, h, w], out, Step::Join { a, b })
    }

    /// Means of 2 × 2 points.
    pub fn pool(&mut self, x: Id) -> Id {
        let [c, h, w] = self.extent(x);
        let out = self.map(x, [c, h / 2, w / 2], |x, y, _| layers::pool(x, w, y));
        self.push([c, h / 2, w / 2], out, Step::Pool { x })
    }

    /// Every point four times.
    pub fn repeat(&mut self, x: Id) -> Id {
        let [c, h, w] = self.extent(x);
        let out = self.map(x, [c, 2 * h, 2 * w], |x, y, _| layers::repeat(x, w, y, T::of(1.0)));
        self.push([c, 2 * h, 2 * w], out, Step::Repeat { x })
    }

    /// 2 × 2 points as four channels, or `back`.
    pub fn shuffle(&mut self, x: Id, back: bool) -> Id {
        let [c, h, w] = self.extent(x);
        let (plain, extent) =
            if back { ([c / 4, 2 * h, 2 * w], [c / 4, 2 * h, 2 * w]) } else { ([c, h, w], [4 * c, h / 2, w / 2]) };
        let out = self.map(x, extent, |x, y, _| layers::shuffle(x, plain, y, back));
        self.push(extent, out, Step::Shuffle { x, back })
    }

    /// The gradient of the parameters for derivatives `g` of the values of `last`. Sums over samples go in their order.
    pub fn backward(&self, last: Id, g: Vec<T>) -> Vec<T> {
        let mut gradient = vec![T::default(); self.parameters.len()];
        let mut slopes: Vec<Option<Vec<T>>> = (0..self.values.len()).map(|_| None).collect();
        slopes[last.0] = Some(g);
        let give = |slopes: &mut Vec<Option<Vec<T>>>, to: Id, more: Vec<T>| match &mut slopes[to.0] {
            Some(sum) => sum.iter_mut().zip(more).for_each(|(sum, v)| *sum += v),
            none => *none = Some(more),
        };
        for at in (0..=last.0).rev() {
            let Some(g) = slopes[at].take() else { continue };
            let value = &self.values[at];
            let each = size(value.extent);
            let back = |to: Id, of: &OfSample<'_, T>| -> Vec<T> {
                let n = size(self.extent(to));
                let mut out = vec![T::default(); self.batch * n];
                let parts = out.par_chunks_mut(n).zip(g.par_chunks(each)).enumerate();
                parts.for_each_init(Vec::new, |work, (sample, (out, g))| of(sample, g, out, work));
                out
            };
            // Parts of the gradient, sample by sample.
            let sums = |len: usize, of: &OfSample<'_, T>| -> Vec<Vec<T>> {
                let part = |work: &mut Vec<T>, (sample, g): (usize, &[T])| {
                    let mut part = vec![T::default(); len];
                    of(sample, g, &mut part, work);
                    part
                };
                g.par_chunks(each).enumerate().map_init(Vec::new, part).collect()
            };
            let mut add = |range: &Range<usize>, parts: Vec<Vec<T>>| {
                let to = &mut gradient[range.clone()];
                parts.iter().for_each(|part| to.iter_mut().zip(part).for_each(|(sum, v)| *sum += *v));
            };
            match &value.step {
                Step::Input => {}
                Step::Convolve { x, weight, bias } => {
                    let extent = self.extent(*x);
                    let n = size(extent);
                    let xs = self.values(*x);
                    add(bias, sums(bias.len(), &|_, g, part, _| layers::add_sums(g, part)));
                    add(
                        weight,
                        sums(weight.len(), &|s, g, part, work| {
                            layers::convolve_weights(&xs[s * n..][..n], extent, g, part, work)
                        }),
                    );
                    let turned = layers::turned(&self.parameters[weight.clone()], extent[0]);
                    if !matches!(self.values[x.0].step, Step::Input) {
                        give(
                            &mut slopes,
                            *x,
                            back(*x, &|_, g, dx, work| layers::convolve(&turned, None, g, value.extent, dx, work)),
                        );
                    }
                }
                Step::Mix { x, weight, bias } => {
                    let [from, h, w] = self.extent(*x);
                    let (n, to) = (h * w, bias.len());
                    let xs = self.values(*x);
                    add(bias, sums(bias.len(), &|_, g, part, _| layers::add_sums(g, part)));
                    add(
                        weight,
                        sums(weight.len(), &|s, g, part, _| {
                            layers::mix_weights(&xs[s * from * n..][..from * n], g, (to, from, n), part)
                        }),
                    );
                    let weights = &self.parameters[weight.clone()];
                    let turned: Vec<T> = (0..from * to).map(|i| weights[i % to * from + i / to]).collect();
                    give(&mut slopes, *x, back(*x, &|_, g, dx, _| layers::mix(&turned, None, g, to, dx)));
                }
                Step::Norm { x, gamma, beta, film, groups, moments } => {
                    let (n, c) = (each, gamma.len());
                    let xs = self.values(*x);
                    let mut dx = vec![T::default(); g.len()];
                    let parts: Vec<Vec<T>> = dx
                        .par_chunks_mut(n)
                        .zip(g.par_chunks(n))
                        .enumerate()
                        .map(|(sample, (dx, g))| {
                            let mut part = vec![T::default(); 4 * c];
                            let (affine, dfilm) = part.split_at_mut(2 * c);
                            let (dgamma, dbeta) = affine.split_at_mut(c);
                            let norm = self.norm_of(gamma, beta, *film, *groups, sample);
                            let dfilm = film.is_some().then_some(dfilm);
                            norm.backward(&xs[sample * n..][..n], &moments[sample], g, dx, [dgamma, dbeta], dfilm);
                            part
                        })
                        .collect();
                    if let Some(film) = film {
                        give(&mut slopes, *film, parts.iter().flat_map(|part| part[2 * c..].to_vec()).collect());
                    }
                    add(gamma, parts.iter().map(|part| part[..c].to_vec()).collect());
                    add(beta, parts.iter().map(|part| part[c..2 * c].to_vec()).collect());
                    give(&mut slopes, *x, dx);
                }
                Step::Silu { x } => {
                    let xs = self.values(*x);
                    give(&mut slopes, *x, g.iter().zip(xs).map(|(g, x)| *g * x.silu().1).collect());
                }
                Step::Add { a, b } => {
                    give(&mut slopes, *b, g.clone());
                    give(&mut slopes, *a, g);
                }
                Step::Join { a, b } => {
                    let n = size(self.extent(*a));
                    give(&mut slopes, *a, g.chunks(each).flat_map(|g| g[..n].to_vec()).collect());
                    give(&mut slopes, *b, g.chunks(each).flat_map(|g| g[n..].to_vec()).collect());
                }
                Step::Pool { x } => {
                    let w = value.extent[2];
                    give(&mut slopes, *x, back(*x, &|_, g, dx, _| layers::repeat(g, w, dx, T::of(0.25))));
                }
                Step::Repeat { x } => {
                    let w = self.extent(*x)[2];
                    give(&mut slopes, *x, back(*x, &|_, g, dx, _| layers::unrepeat(g, w, dx)));
                }
                Step::Shuffle { x, back: was_back } => {
                    let plain = if *was_back { value.extent } else { self.extent(*x) };
                    give(&mut slopes, *x, back(*x, &|_, g, dx, _| layers::shuffle(g, plain, dx, !was_back)));
                }
            }
        }
        gradient
    }
}
