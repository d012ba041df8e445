//! The spatiotemporal Fourier neural operator (Cao et al., "Spectral-Refiner", ICLR 2025) in two dimensions and time, and its derivative.
//!
//! T_in snapshots become T_out later ones. Fields inside are `[channel, x, y, t]`; a layer is v ← σ(F(K v) + W v + b), with K a product of
//! kept modes of space and time with matrices and F a pointwise network (`feed`). The first one goes from T_in times to T_l latent
//! ones, where its v is the newest snapshot. What leaves the last layer is one field at T_l times; with the newest snapshot before
//! it and as many zeros before that, K at T_out + 1 times gives what is added to the newest snapshot.

use std::f64::consts::PI;
use std::ops::Range;
use std::sync::Arc;

use convoke_cluster::Comm;
use convoke_cluster::comm::CommError;
use faer::Accum;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::feed::{Feed, WIDER};
use super::layers::{Batch, mix, mix_back, mix_back_onto, mix_onto, mix_parameters};
use super::pool::Pool;
use super::spectral::Sharing;
use super::transform::Transform;
use crate::learning::parameters::Parts;
use crate::learning::real::Real;

/// Weight of the bias of the last K.
const BIAS: f64 = 0.1;
/// Added to the variance of what the operator is given.
pub(super) const TINY: f64 = 1e-7;
/// Time of the last step that the encoding of time knows, in steps.
const MOST_STEPS: f64 = 100.0;

/// The size of an operator: what its parameters depend on, and its encoding of time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StShape {
    /// Snapshots that it is given.
    pub input: usize,
    /// Snapshots that it makes.
    pub output: usize,
    /// Channels inside.
    pub width: usize,
    /// Spectral layers, the first one in the lifting.
    pub layers: usize,
    /// Kept modes of x and y, on each side, and of t.
    pub modes: Vec<usize>,
    /// Times inside.
    pub latent: usize,
    /// β of the encoding exp(β t) sin or cos(π k t).
    pub growth: f64,
}

impl StShape {
    /// Kept modes in all.
    pub fn kept(&self) -> usize {
        4 * self.modes.iter().product::<usize>()
    }

    /// All parameters, of the published first laws: spectral ones uniform on [0, ½/(from · to)), others on ±1/√from. A spectral part is
    /// `[mode, re | im, from, to]`, the bias of the last one `[mode of x and y, re | im, mode of t]`.
    pub fn parts(&self) -> Parts {
        let (h, kept, mut parts) = (self.width, self.kept(), Parts::default());
        parts.add("lift.norm.weight", &[h], [1.0, 1.0]);
        parts.add("lift.norm.bias", &[h], [0.0, 0.0]);
        parts.add_mix("lift", h, h);
        for l in 0..self.layers {
            parts.add(format!("layers.{l}.spectral"), &[kept, 2, h, h], [0.0, 0.5 / (h * h) as f64]);
            parts.add_mix(&format!("layers.{l}.feed.0"), WIDER * h, h);
            parts.add_mix(&format!("layers.{l}.feed.1"), h, WIDER * h);
            if l > 0 {
                parts.add_mix(&format!("layers.{l}"), h, h);
            }
        }
        parts.add_mix("reduce", 1, h);
        parts.add("output.spectral", &[kept, 2, 1, 1], [0.0, 0.5]);
        parts.add("output.bias", &[kept / self.modes[2], 2, self.modes[2]], [0.0, 0.0]);
        parts
    }

    /// Most modes of x, y and t on `points`.
    pub fn most_modes(&self, points: &[usize]) -> Vec<usize> {
        vec![points[0] / 2, points[1] / 2, self.input.min(self.latent) / 2 + 1]
    }

    /// Numbers that the passes over one sample hold: of each layer the input, that of its network, its slopes, and two more in work.
    pub fn held(&self, points: &[usize]) -> u64 {
        let (xy, times) = (points.iter().product::<usize>(), self.latent.max(self.input));
        (xy * times * self.width * (3 * self.layers + 8)) as u64
    }

    /// Periods of the last K on both sides, and where its times lie in them: zeros stand before the input's.
    fn periods(&self) -> [(usize, usize); 2] {
        let l = self.latent;
        [(2 * (l + 1), l + 1), (self.output + l + 2, l + 2)]
    }

    /// Flops of a forward pass over one sample: transforms, and products of matrices.
    pub fn flops(&self, points: &[usize]) -> f64 {
        let (xy, h) = (points.iter().product::<usize>() as f64, self.width as f64);
        let window = |times: usize, period: (usize, usize)| {
            Transform::<f64>::window_flops(&[points[0], points[1], times], &self.modes, period)
        };
        let whole = |times: usize| window(times, (times, 0));
        let (layers, latent) = (self.layers as f64, xy * self.latent as f64);
        let pointwise = 2.0 * h * h * (xy * self.input as f64 + (layers - 1.0) * latent)
            + layers * latent * Feed::<f64>::flops(h)
            + 2.0 * latent * h;
        let [extended, forecast] = self.periods();
        let transforms = h * (whole(self.input) + (2.0 * layers - 1.0) * whole(self.latent))
            + window(self.latent + 1, extended)
            + window(self.output, forecast);
        pointwise + transforms + 8.0 * self.kept() as f64 * (layers * h * h + 1.0)
    }
}

/// An operator on a grid.
#[derive(Debug, Clone)]
pub struct StFno<T> {
    /// Its size.
    pub shape: StShape,
    /// Points along x and y that are here.
    pub points: Vec<usize>,
    parts: Parts,
    pub(super) pool: Arc<Pool<T>>,
    /// At the times that are given, inside, and of the last K on both sides.
    history: Transform<T>,
    latent: Transform<T>,
    extended: Transform<T>,
    forecast: Transform<T>,
    /// Encoding of places and times, `[channel, x, y, t]`.
    pub(super) encoding: Vec<T>,
    /// Numbers of an encoding of all points, also those of other ranks.
    encoded: f64,
    /// Weight of the last K's bias, so that it is the same function on all grids.
    pub(super) bias: T,
}

/// What a forward pass leaves for the backward one.
#[derive(Debug)]
pub struct Tape<T> {
    standard: Batch<T>,
    layers: Vec<Layer<T>>,
    reduced_from: Batch<T>,
    last: Batch<T>,
}

/// Of one layer: its input (nothing for the first), the kept modes of it, what its network was given, σ'.
#[derive(Debug)]
struct Layer<T> {
    v: Batch<T>,
    modes: Batch<T>,
    fed: Batch<T>,
    slopes: Batch<T>,
}

impl<T: Real> StFno<T> {
    /// On `points`; parameters were trained on `trained` points.
    pub fn new(shape: &StShape, points: &[usize], trained: &[usize]) -> Self {
        Self::slab(shape, points, 0..points[0], trained)
    }

    /// The same with these rows of the first axis here.
    pub fn slab(shape: &StShape, points: &[usize], rows: Range<usize>, trained: &[usize]) -> Self {
        let (modes, l, pool) = (&shape.modes, shape.latent, Arc::default());
        let window = |times: usize, period: (usize, usize)| {
            let grid = [points[0], points[1], times];
            Transform::window_of_slab(&grid, modes, rows.clone(), period).sharing(&pool)
        };
        let size = |points: &[usize]| points.iter().product::<usize>() as f64;
        let [extended, forecast] = shape.periods();
        Self {
            history: window(shape.input, (shape.input, 0)),
            latent: window(l, (l, 0)),
            extended: window(l + 1, extended),
            forecast: window(shape.output, forecast),
            encoding: encoding(shape, points, rows.clone()),
            encoded: size(points) * (shape.width * shape.input) as f64,
            bias: T::of(BIAS * size(points) / size(trained)),
            parts: shape.parts(),
            points: vec![rows.len(), points[1]],
            shape: shape.clone(),
            pool,
        }
    }

    /// The snapshots `[t, x, y]` after inputs `[t, x, y]`, and what the backward pass needs. Collective where matrices are shared out.
    ///
    /// # Errors
    /// As the exchange.
    pub fn forward(
        &self,
        parameters: &[T],
        inputs: &[Vec<T>],
        sharing: &Sharing,
    ) -> Result<(Batch<T>, Tape<T>), CommError> {
        let (h, pool) = (self.shape.width, &self.pool);
        let standard = self.standard(inputs, sharing.space())?;
        let (weight, bias) = self.folded(parameters);
        let lifted: Batch<T> = standard.par_iter().map(|v| mix(pool, &weight, &bias, v)).collect();
        let mut layers: Vec<Layer<T>> = Vec::with_capacity(self.shape.layers);
        let mut v: Batch<T> = Vec::new();
        for l in 0..self.shape.layers {
            let (from, source) = if l == 0 { (&self.history, &lifted) } else { (&self.latent, &v) };
            let modes: Batch<T> = source.par_iter().map(|v| from.analysis(v, h)).collect();
            let weight = self.parts.of(parameters, &format!("layers.{l}.spectral"));
            let (products, modes) = sharing.products(from, weight, modes, (h, h))?;
            let fed: Batch<T> = products.into_par_iter().map(|y| self.latent.synthesis(y, h)).collect();
            let feed = self.feed(parameters, l);
            let beside = (l > 0).then(|| self.parts.mix(parameters, &format!("layers.{l}")));
            let pass = |(fed, source): (&Vec<T>, &Vec<T>)| {
                feed.forward(pool, fed, |points, u| match beside {
                    None => self.spread(points, source, u),
                    Some([weight, bias]) => mix_onto(weight, bias, source, points, u),
                })
            };
            let (next, slopes) = fed.par_iter().zip(source).map(pass).unzip();
            layers.push(Layer { v: std::mem::replace(&mut v, next), modes, fed, slopes });
        }
        pool.give_all(lifted);
        let [weight, bias] = self.parts.mix(parameters, "reduce");
        let last = |(v, w): (&Vec<T>, &Vec<T>)| {
            let reduced = mix(pool, weight, bias, v);
            let z = self.after_newest(&reduced, w);
            pool.give(reduced);
            let modes = self.extended.analysis(&z, 1);
            pool.give(z);
            modes
        };
        let last: Batch<T> = v.par_iter().zip(inputs).map(last).collect();
        let (changes, last) = self.changes(parameters, last, sharing)?;
        let outputs = changes.into_par_iter().zip(inputs).map(|(y, w)| self.forecast(y, w)).collect();
        Ok((outputs, Tape { standard, layers, reduced_from: v, last }))
    }

    /// Coefficients of what is added to the newest snapshot, from those of the last layer's input.
    fn changes(&self, parameters: &[T], last: Batch<T>, sharing: &Sharing) -> Result<(Batch<T>, Batch<T>), CommError> {
        let weight = self.parts.of(parameters, "output.spectral");
        let (mut changes, last) = sharing.products(&self.extended, weight, last, (1, 1))?;
        let bias = self.parts.of(parameters, "output.bias");
        for y in &mut changes {
            y.iter_mut().zip(bias).for_each(|(y, b)| *y += self.bias * *b);
        }
        Ok((changes, last))
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
        let (h, pool) = (self.shape.width, &self.pool);
        let mut gradient = pool.zeros(parameters.len());
        let reduced = self.backward_of_output((parameters, sharing), tape, g, &mut gradient)?;
        let (dw, db) = self.parts.mix_mut(&mut gradient, "reduce");
        mix_parameters(&tape.reduced_from, &reduced, dw, db);
        let [weight, _] = self.parts.mix(parameters, "reduce");
        let mut g: Batch<T> = reduced.par_iter().map(|g| mix_back(pool, weight, 1, g)).collect();
        pool.give_all(reduced);
        for (l, layer) in tape.layers.iter().enumerate().rev() {
            let feed = self.feed(parameters, l);
            let through = |((mut g, slopes), fed): ((Vec<T>, &Vec<T>), &Vec<T>)| {
                let (ds, part) = feed.backward(pool, fed, (&mut g, slopes));
                let mut modes = self.latent.analysis(&ds, h);
                self.latent.weigh(&mut modes);
                pool.give(ds);
                (g, (part, modes))
            };
            let all = g.into_par_iter().zip(&layer.slopes).zip(&layer.fed).map(through);
            let (here, (parts, modes)): (Batch<T>, (Batch<T>, Batch<T>)) = all.unzip();
            let range = self.feed_range(l);
            for part in parts {
                gradient[range.clone()].iter_mut().zip(part).for_each(|(sum, v)| *sum += v);
            }
            let from = if l == 0 { &self.history } else { &self.latent };
            let range = self.parts.range(&format!("layers.{l}.spectral"));
            let both = (&parameters[range.clone()], &mut gradient[range]);
            let back = sharing.products_back(from, both, (&layer.modes, modes), (h, h))?;
            let name = format!("layers.{l}");
            if l > 0 {
                let (dw, db) = self.parts.mix_mut(&mut gradient, &name);
                mix_parameters(&layer.v, &here, dw, db);
            }
            let pass = |(g, modes): (&Vec<T>, Vec<T>)| {
                let mut x = from.adjoint(modes, h);
                if l == 0 {
                    self.gather(g, &mut x);
                } else {
                    mix_back_onto(Accum::Add, self.parts.mix(parameters, &name)[0], h, g, &mut x);
                }
                x
            };
            g = here.par_iter().zip(back).map(pass).collect();
            pool.give_all(here);
        }
        let (mut dw, mut db) = (vec![T::default(); h * h], vec![T::default(); h]);
        mix_parameters(&tape.standard, &g, &mut dw, &mut db);
        pool.give_all(g);
        self.unfold(parameters, (&dw, &db), &mut gradient);
        Ok(gradient)
    }

    /// ∂/∂ the field that leaves the last layer.
    fn backward_of_output(
        &self,
        (parameters, sharing): (&[T], &Sharing),
        tape: &Tape<T>,
        g: &[Vec<T>],
        gradient: &mut [T],
    ) -> Result<Batch<T>, CommError> {
        let pool = &self.pool;
        let modes = |g: &Vec<T>| {
            let turned = turn(pool, g, self.shape.output);
            let mut modes = self.forecast.analysis(&turned, 1);
            self.forecast.weigh(&mut modes);
            pool.give(turned);
            modes
        };
        let modes: Batch<T> = g.par_iter().map(modes).collect();
        let bias = &mut gradient[self.parts.range("output.bias")];
        for modes in &modes {
            bias.iter_mut().zip(modes).for_each(|(sum, g)| *sum += self.bias * *g);
        }
        let range = self.parts.range("output.spectral");
        let both = (&parameters[range.clone()], &mut gradient[range]);
        let back = sharing.products_back(&self.extended, both, (&tape.last, modes), (1, 1))?;
        let l = self.shape.latent;
        let cut = |modes: Vec<T>| {
            let z = self.extended.adjoint(modes, 1);
            let mut reduced = pool.take(z.len() / (l + 1) * l);
            reduced.chunks_mut(l).zip(z.chunks(l + 1)).for_each(|(to, z)| to.copy_from_slice(&z[1..]));
            pool.give(z);
            reduced
        };
        Ok(back.into_par_iter().map(cut).collect())
    }

    /// Gives the memory of a pass back: what [`StFno::forward`] returned, once nobody needs it.
    pub fn recycle(&self, outputs: Batch<T>, tape: Tape<T>) {
        let Tape { standard, layers, reduced_from, last } = tape;
        let parts = layers.into_iter().flat_map(|layer| [layer.v, layer.modes, layer.fed, layer.slopes]);
        parts.chain([outputs, standard, reduced_from, last]).for_each(|batch| self.pool.give_all(batch));
    }

    fn feed_range(&self, l: usize) -> Range<usize> {
        let [first, last] =
            ["feed.0.weight", "feed.1.bias"].map(|part| self.parts.range(&format!("layers.{l}.{part}")));
        first.start..last.end
    }

    fn feed<'p>(&self, parameters: &'p [T], l: usize) -> Feed<'p, T> {
        Feed::new(&parameters[self.feed_range(l)], self.shape.width)
    }

    /// Each input in every channel with the encoding, all of it with mean 0 and variance 1: over the points of all ranks of `space`, where
    /// they share them. Collective over these.
    fn standard(&self, inputs: &[Vec<T>], space: Option<&Comm>) -> Result<Batch<T>, CommError> {
        let encoded = |w: &Vec<T>| {
            let turned = turn(&self.pool, w, self.shape.input);
            let mut v = self.pool.take(self.encoding.len());
            for (v, e) in v.chunks_mut(turned.len()).zip(self.encoding.chunks(turned.len())) {
                v.iter_mut().zip(e).zip(&turned).for_each(|((v, e), w)| *v = *e + *w);
            }
            self.pool.give(turned);
            v
        };
        let mut all: Batch<T> = inputs.par_iter().map(encoded).collect();
        let sum = |values: &mut [f64]| space.map_or(Ok(()), |comm| comm.all_sum(values));
        let mut means: Vec<f64> = all.par_iter().map(|v| v.iter().map(|v| v.wide()).sum::<f64>()).collect();
        sum(&mut means)?;
        means.iter_mut().for_each(|mean| *mean /= self.encoded);
        let square = |(v, mean): (&Vec<T>, &f64)| v.iter().map(|v| (v.wide() - mean).powi(2)).sum::<f64>();
        let mut squares: Vec<f64> = all.par_iter().zip(&means).map(square).collect();
        sum(&mut squares)?;
        all.par_iter_mut().zip(means).zip(squares).for_each(|((v, mean), square)| {
            let (mean, scale) = (T::of(mean), T::of((square / self.encoded + TINY).sqrt().recip()));
            v.iter_mut().for_each(|v| *v = (*v - mean) * scale);
        });
        Ok(all)
    }

    /// W and b of W(γ v + β) + b.
    fn folded(&self, parameters: &[T]) -> (Vec<T>, Vec<T>) {
        let h = self.shape.width;
        let ([scale, shift], [weight, bias]) =
            (self.parts.mix(parameters, "lift.norm"), self.parts.mix(parameters, "lift"));
        let all = weight.chunks(h).flat_map(|row| row.iter().zip(scale).map(|(w, s)| *w * *s)).collect();
        let shifted = |(row, b): (&[T], &T)| row.iter().zip(shift).fold(*b, |sum, (w, s)| sum + *w * *s);
        (all, weight.chunks(h).zip(bias).map(shifted).collect())
    }

    /// The gradient of γ, β, W and b from that of [`StFno::folded`].
    fn unfold(&self, parameters: &[T], (dw, db): (&[T], &[T]), gradient: &mut [T]) {
        let h = self.shape.width;
        let ([scale, shift], [weight, _]) =
            (self.parts.mix(parameters, "lift.norm"), self.parts.mix(parameters, "lift"));
        let (to_scale, to_shift) = self.parts.mix_mut(gradient, "lift.norm");
        for ((row, dw), db) in weight.chunks(h).zip(dw.chunks(h)).zip(db) {
            for c in 0..h {
                to_scale[c] += row[c] * dw[c];
                to_shift[c] += row[c] * *db;
            }
        }
        let (to_weight, to_bias) = self.parts.mix_mut(gradient, "lift");
        for ((to, dw), db) in to_weight.chunks_mut(h).zip(dw.chunks(h)).zip(db) {
            for c in 0..h {
                to[c] += dw[c] * scale[c] + *db * shift[c];
            }
        }
        to_bias.iter_mut().zip(db).for_each(|(to, db)| *to += *db);
    }

    /// Adds the newest time of `from` to latent ones, at some points of each channel.
    fn spread(&self, points: Range<usize>, from: &[T], to: &mut [T]) {
        let (h, StShape { input, latent, .. }) = (self.shape.width, &self.shape);
        for (from, to) in from.chunks(from.len() / h).zip(to.chunks_mut(to.len() / h)) {
            for line in points.start / latent..points.end.div_ceil(*latent) {
                let times = (line * latent).max(points.start)..((line + 1) * latent).min(points.end);
                to[times].iter_mut().for_each(|v| *v += from[line * input + input - 1]);
            }
        }
    }

    /// The adjoint of [`StFno::spread`], added.
    fn gather(&self, from: &[T], to: &mut [T]) {
        for (line, to) in from.chunks(self.shape.latent).zip(to.chunks_mut(self.shape.input)) {
            let newest = to.len() - 1;
            line.iter().for_each(|v| to[newest] += *v);
        }
    }

    fn newest<'w>(&self, w: &'w [T]) -> &'w [T] {
        &w[w.len() / self.shape.input * (self.shape.input - 1)..]
    }

    /// The newest snapshot of `w`, then `reduced`, `[x, y, t]`.
    fn after_newest(&self, reduced: &[T], w: &[T]) -> Vec<T> {
        let l = self.shape.latent;
        let mut z = self.pool.take(reduced.len() / l * (l + 1));
        for ((z, line), newest) in z.chunks_mut(l + 1).zip(reduced.chunks(l)).zip(self.newest(w)) {
            z[0] = *newest;
            z[1..].copy_from_slice(line);
        }
        z
    }

    /// Snapshots from the coefficients of what is added to the newest one of `w`.
    pub(super) fn forecast(&self, y: Vec<T>, w: &[T]) -> Vec<T> {
        let q = self.forecast.synthesis(y, 1);
        let mut out = turn(&self.pool, &q, q.len() / self.shape.output);
        self.pool.give(q);
        let newest = self.newest(w);
        out.chunks_mut(newest.len()).for_each(|out| out.iter_mut().zip(newest).for_each(|(v, w)| *v += *w));
        out
    }
}

/// The transpose of `[rows, columns]`.
fn turn<T: Real>(pool: &Pool<T>, from: &[T], rows: usize) -> Vec<T> {
    let columns = from.len() / rows;
    let mut to = pool.take(from.len());
    for (j, line) in to.chunks_mut(rows).enumerate() {
        line.iter_mut().enumerate().for_each(|(i, v)| *v = from[i * columns + j]);
    }
    to
}

/// x, y, t, then exp(β t) sin or cos(π k t), at these rows of the points: `[channel, x, y, t]`.
fn encoding<T: Real>(shape: &StShape, points: &[usize], rows: Range<usize>) -> Vec<T> {
    let at = |i: usize, n: usize| i as f64 / (n - 1).max(1) as f64;
    let value = |c: usize, x: usize, y: usize, j: usize| {
        let t = (j + 1) as f64 / MOST_STEPS;
        match c {
            0 => at(x, points[0]),
            1 => at(y, points[1]),
            2 => t,
            _ => {
                let angle = PI * (c - 2) as f64 * t;
                (shape.growth * t).exp() * if c % 2 == 1 { angle.sin() } else { angle.cos() }
            }
        }
    };
    let mut all = Vec::with_capacity(shape.width * rows.len() * points[1] * shape.input);
    for c in 0..shape.width {
        for x in rows.clone() {
            for y in 0..points[1] {
                all.extend((0..shape.input).map(|j| T::of(value(c, x, y, j))));
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use convoke_kernels::Philox;

    fn random(len: usize, stream: u64) -> Vec<f64> {
        (0..len as u64).map(|i| Philox::new(5, stream).normal(i)).collect()
    }

    fn shape(width: usize, modes: [usize; 3]) -> StShape {
        StShape { input: 10, output: 10, width, layers: 4, modes: modes.to_vec(), latent: 10, growth: 0.02 }
    }

    fn small() -> (StShape, [usize; 2]) {
        (StShape { input: 5, output: 7, layers: 3, latent: 4, ..shape(4, [2, 3, 2]) }, [6, 7])
    }

    /// Both published operators: the flow of the first neural-operator paper, and McWilliams' turbulence.
    #[test]
    fn parameters_are_counted_as_published() {
        assert_eq!(shape(20, [12, 12, 5]).parts().count(), 9_242_461);
        assert_eq!(shape(10, [32, 32, 5]).parts().count(), 16_469_791);
    }

    /// Central differences of Σ c·output along random directions of each part, to 1e-7.
    #[test]
    fn gradients_are_slopes() {
        let (shape, points) = small();
        let model = StFno::<f64>::new(&shape, &points, &points);
        let inputs: Batch<f64> = (0..3).map(|b| random(5 * 42, b)).collect();
        let c: Batch<f64> = (0..3).map(|b| random(7 * 42, 10 + b)).collect();
        let mut parameters: Vec<f64> = shape.parts().initial(1);
        // First values of norms and biases hide mistakes.
        parameters.iter_mut().zip(random(shape.parts().count(), 20)).for_each(|(p, r)| *p += 0.1 * r);
        let value = |parameters: &[f64]| -> f64 {
            let (outputs, _) = model.forward(parameters, &inputs, &Sharing::default()).expect("no exchange");
            outputs.iter().flatten().zip(c.iter().flatten()).map(|(y, c)| y * c).sum()
        };
        let (_, tape) = model.forward(&parameters, &inputs, &Sharing::default()).expect("no exchange");
        let gradient = model.backward(&parameters, &tape, &c, &Sharing::default()).expect("no exchange");
        for (i, part) in shape.parts().each().enumerate() {
            let direction = random(part.range().len(), 100 + i as u64);
            let h = 1e-5;
            let shifted = |by: f64| {
                let mut moved = parameters.clone();
                moved[part.range()].iter_mut().zip(&direction).for_each(|(p, d)| *p += by * d);
                value(&moved)
            };
            let slope = (shifted(h) - shifted(-h)) / (2.0 * h);
            let found: f64 = gradient[part.range()].iter().zip(&direction).map(|(g, d)| g * d).sum();
            assert!((slope - found).abs() < 1e-7 * slope.abs().max(1.0), "{}: {found} {slope}", part.name);
        }
    }

    /// Passes that give their memory back need no more of it, however many there are.
    #[test]
    fn memory_does_not_grow_with_the_passes() {
        let (shape, points) = small();
        let model = StFno::<f64>::new(&shape, &points, &points);
        let (inputs, parameters) = ([random(5 * 42, 0), random(5 * 42, 1)], shape.parts().initial(1));
        let mut held = Vec::new();
        // One thread: with more, their number of lists under way differs from pass to pass.
        let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread");
        one.install(|| {
            for _ in 0..4 {
                let (outputs, tape) = model.forward(&parameters, &inputs, &Sharing::default()).expect("no exchange");
                model.backward(&parameters, &tape, &outputs, &Sharing::default()).expect("no exchange");
                model.recycle(outputs, tape);
                held.push(model.pool.held());
            }
        });
        assert!(held[1..].iter().all(|lists| *lists == held[1]), "{held:?}");
    }

    /// The bias of the last K is the same function on a finer grid than it was trained on.
    #[test]
    fn a_finer_grid_gives_the_same_bias() {
        let (shape, _) = small();
        let mut parameters: Vec<f64> = shape.parts().initial(1);
        let parts = shape.parts();
        parameters[parts.range("output.bias")].copy_from_slice(&random(parts.range("output.bias").len(), 3));
        let coarse = StFno::<f64>::new(&shape, &[24, 24], &[24, 24]);
        let fine = StFno::<f64>::new(&shape, &[48, 48], &[24, 24]);
        let bias = |model: &StFno<f64>| {
            let zero = vec![0.0; model.extended.coefficients(1)];
            let w = vec![0.0; 5 * model.points[0] * model.points[1]];
            let changes = model.changes(&parameters, vec![zero], &Sharing::default()).expect("no exchange").0.remove(0);
            model.forecast(changes, &w)
        };
        let (a, b) = (bias(&coarse), bias(&fine));
        let most = a.iter().fold(0.0, |most: f64, v| most.max(v.abs()));
        for t in 0..7 {
            for (x, y) in (0..24).flat_map(|x| (0..24).map(move |y| (x, y))) {
                let far = a[(t * 24 + x) * 24 + y] - b[(t * 48 + 2 * x) * 48 + 2 * y];
                assert!(far.abs() < 1e-13 * most, "{t} {x} {y}: {far:e} of {most:e}");
            }
        }
    }
}
