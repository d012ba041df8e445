//! The operators that there are: one enum for each thing that they all have.

use std::ops::Range;

use convoke_cluster::comm::CommError;
use serde::{Deserialize, Serialize};

use super::fno::{self, Fno, FnoShape};
use super::layers::Batch;
use super::pool::Pool;
use super::spectral::Sharing;
use super::st_fno::{self, StFno, StShape};
use crate::learning::parameters::Parts;
use crate::learning::real::Real;

/// The size of an operator: what its parameters depend on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Shape {
    /// Fourier neural operator.
    Fno(FnoShape),
    /// Spatiotemporal Fourier neural operator.
    StFno(StShape),
}

impl Shape {
    /// Channels of input and output.
    pub fn channels(&self) -> [usize; 2] {
        match self {
            Self::Fno(shape) => [shape.input, shape.output],
            Self::StFno(shape) => [shape.input, shape.output],
        }
    }

    /// Kept modes, and the most that there can be on `points`.
    pub fn modes(&self, points: &[usize]) -> (&[usize], Vec<usize>) {
        match self {
            Self::Fno(shape) => {
                let padded = shape.padded(points);
                let most = |(axis, n): (usize, &usize)| n / 2 + usize::from(axis + 1 == padded.len());
                (&shape.modes, padded.iter().enumerate().map(most).collect())
            }
            Self::StFno(shape) => (&shape.modes, shape.most_modes(points)),
        }
    }

    /// Zeros behind the points of the first axis.
    pub fn padding(&self) -> usize {
        match self {
            Self::Fno(shape) => shape.padding[0],
            Self::StFno(_) => 0,
        }
    }

    /// Axes of space.
    pub fn dimension(&self) -> usize {
        match self {
            Self::Fno(shape) => shape.modes.len(),
            Self::StFno(_) => 2,
        }
    }

    /// Products of all modes with matrices in a forward pass: channels that come and go, summed.
    pub fn channels_of_products(&self) -> usize {
        match self {
            Self::Fno(shape) => shape.layers * 2 * shape.width,
            Self::StFno(shape) => shape.layers * 2 * shape.width + 2,
        }
    }

    /// Kept modes: those of all axes but the last, and those of the last.
    pub fn kept(&self) -> [usize; 2] {
        let (all, last) = match self {
            Self::Fno(shape) => (shape.kept(), shape.modes[shape.modes.len() - 1]),
            Self::StFno(shape) => (shape.kept(), shape.modes[2]),
        };
        [all / last, last]
    }

    /// All parameters in their order.
    pub fn parts(&self) -> Parts {
        match self {
            Self::Fno(shape) => shape.parts(),
            Self::StFno(shape) => shape.parts(),
        }
    }

    /// Numbers that the passes over one sample on `points` hold.
    pub fn held(&self, points: &[usize]) -> u64 {
        match self {
            Self::Fno(shape) => shape.held(points),
            Self::StFno(shape) => shape.held(points),
        }
    }

    /// Flops of a forward pass over one sample: transforms, and products of matrices.
    pub fn flops(&self, points: &[usize]) -> f64 {
        match self {
            Self::Fno(shape) => shape.flops(points),
            Self::StFno(shape) => shape.flops(points),
        }
    }
}

/// An operator on a grid.
#[derive(Debug, Clone)]
pub enum Model<T> {
    /// Fourier neural operator.
    Fno(Box<Fno<T>>),
    /// Spatiotemporal Fourier neural operator.
    StFno(Box<StFno<T>>),
}

/// What a forward pass leaves for the backward one.
#[derive(Debug)]
pub enum Tape<T> {
    /// Of [`Model::Fno`].
    Fno(fno::Tape<T>),
    /// Of [`Model::StFno`].
    StFno(st_fno::Tape<T>),
}

impl<T: Real> Model<T> {
    /// On `points`; parameters were trained, or will be, on `trained` points.
    pub fn new(shape: &Shape, points: &[usize], trained: &[usize]) -> Self {
        Self::slab(shape, points, 0..points[0], trained)
    }

    /// The same with these rows of the first axis of the fields here.
    pub fn slab(shape: &Shape, points: &[usize], rows: Range<usize>, trained: &[usize]) -> Self {
        match shape {
            Shape::Fno(shape) => Self::Fno(Box::new(Fno::slab(shape, points, rows))),
            Shape::StFno(shape) => Self::StFno(Box::new(StFno::slab(shape, points, rows, trained))),
        }
    }

    /// Outputs `[channel, points]` of inputs, and what the backward pass needs. Collective where matrices are shared out.
    ///
    /// # Errors
    /// As the exchange.
    pub fn forward(
        &self,
        parameters: &[T],
        inputs: &[Vec<T>],
        sharing: &Sharing,
    ) -> Result<(Batch<T>, Tape<T>), CommError> {
        Ok(match self {
            Self::Fno(model) => {
                let (outputs, tape) = model.forward(parameters, inputs, sharing)?;
                (outputs, Tape::Fno(tape))
            }
            Self::StFno(model) => {
                let (outputs, tape) = model.forward(parameters, inputs, sharing)?;
                (outputs, Tape::StFno(tape))
            }
        })
    }

    /// The gradient of the parameters for derivatives `g` of the outputs. Collective where matrices are shared out.
    ///
    /// # Errors
    /// As the exchange.
    ///
    /// # Panics
    /// For the tape of another operator.
    pub fn backward(
        &self,
        parameters: &[T],
        tape: &Tape<T>,
        g: &[Vec<T>],
        sharing: &Sharing,
    ) -> Result<Vec<T>, CommError> {
        match (self, tape) {
            (Self::Fno(model), Tape::Fno(tape)) => model.backward(parameters, tape, g, sharing),
            (Self::StFno(model), Tape::StFno(tape)) => model.backward(parameters, tape, g, sharing),
            _ => unreachable!("a tape of another operator"),
        }
    }

    /// Memory of the passes, to which a gradient may be given once nobody needs it: fresh pages for one at each step cost more than its
    /// numbers.
    pub fn pool(&self) -> &Pool<T> {
        match self {
            Self::Fno(model) => &model.transform.pool,
            Self::StFno(model) => &model.pool,
        }
    }

    /// Gives the memory of a pass back: what [`Model::forward`] returned, once nobody needs it.
    ///
    /// # Panics
    /// For the tape of another operator.
    pub fn recycle(&self, outputs: Batch<T>, tape: Tape<T>) {
        match (self, tape) {
            (Self::Fno(model), Tape::Fno(tape)) => model.recycle(outputs, tape),
            (Self::StFno(model), Tape::StFno(tape)) => model.recycle(outputs, tape),
            _ => unreachable!("a tape of another operator"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::channel_mlp::{ChannelMlp, Skip};
    use super::super::sharding;
    use super::*;
    use crate::learning::matrix::tests::counted;
    use convoke_cluster::comm::run_threads;
    use convoke_kernels::Philox;

    /// What is counted in a plan, and in a study of refinement, is what a pass does: axes in their order, folded, whole and by FFTs, windows of
    /// time; equal but for digits of the FFTs' count.
    #[test]
    fn passes_do_the_flops_of_the_plan() {
        let fno = |modes: Vec<usize>, padding: Vec<usize>, behind: Option<Skip>| {
            Shape::Fno(FnoShape {
                input: 2,
                output: 3,
                width: 4,
                layers: 2,
                modes,
                projection: 5,
                padding,
                lifting: behind.map(|_| 6),
                channel_mlp: behind.map(|skip| ChannelMlp { channels: 3, skip }),
                tucker: None,
                activations: 1,
            })
        };
        let st = StShape { input: 6, output: 9, width: 4, layers: 3, modes: vec![3, 4, 2], latent: 5, growth: 0.1 };
        for (shape, points) in [
            (fno(vec![5], vec![0], None), vec![16]),
            (fno(vec![60], vec![0], None), vec![128]),
            (fno(vec![3, 4], vec![2, 1], Some(Skip::Linear)), vec![9, 10]),
            // 512 lines side by side are folded.
            (fno(vec![3, 4, 2], vec![0, 0, 0], Some(Skip::SoftGating)), vec![12, 26, 22]),
            (fno(vec![3, 4], vec![0, 0], None), vec![11, 520]),
            (Shape::StFno(st.clone()), vec![12, 14]),
            (Shape::StFno(st), vec![16, 96]),
        ] {
            let size: usize = points.iter().product();
            let inputs = [vec![0.5; shape.channels()[0] * size]];
            let parameters: Vec<f64> = shape.parts().initial(1);
            let model = Model::new(&shape, &points, &points);
            let done = counted(|| {
                model.forward(&parameters, &inputs, &Sharing::default()).expect("no exchange");
            });
            let planned = shape.flops(&points);
            assert!(
                (done - planned).abs() <= 1e-4 * planned,
                "{shape:?} on {points:?}: {done} done, {planned} planned"
            );
        }
    }

    /// Points shared by rows, with zeros behind them and without: outputs, gradients and their norms are those of one rank to 1e-12, and
    /// bytes are those of the plan.
    #[test]
    fn slabs_make_what_the_whole_makes() {
        let fno = |modes: &[usize], padding: &[usize]| {
            Shape::Fno(FnoShape {
                input: 2,
                output: 3,
                width: 4,
                layers: 2,
                modes: modes.to_vec(),
                projection: 5,
                padding: padding.to_vec(),
                lifting: Some(6),
                channel_mlp: Some(ChannelMlp { channels: 3, skip: Skip::SoftGating }),
                tucker: None,
                activations: 1,
            })
        };
        let st = StShape { input: 4, output: 5, width: 4, layers: 2, modes: vec![2, 3, 2], latent: 3, growth: 0.1 };
        for (shape, points, ranks) in [
            (fno(&[2, 3], &[2, 1]), vec![6, 8], 2),
            (fno(&[2, 1, 2], &[7, 0, 2]), vec![4, 4, 5], 3),
            (Shape::StFno(st.clone()), vec![6, 7], 2),
            (Shape::StFno(st), vec![7, 6], 3),
        ] {
            let ([input, output], row) = (shape.channels(), points[1..].iter().product::<usize>());
            let (rows, size) = (sharding::rows(&shape, &points, ranks), points[0] * row);
            let random = |len: usize, stream: u64| -> Vec<f64> {
                (0..len as u64).map(|i| Philox::new(9, stream).normal(i)).collect()
            };
            let [inputs, g] = [input, output].map(|c| [1, 2].map(|sample| random(c * size, (10 * c + sample) as u64)));
            let mut parameters: Vec<f64> = shape.parts().initial(1);
            parameters.iter_mut().zip(random(shape.parts().count(), 3)).for_each(|(p, r)| *p += 0.1 * r);
            let whole = Model::new(&shape, &points, &points);
            let (expected, tape) = whole.forward(&parameters, &inputs, &Sharing::default()).expect("no exchange");
            let gradient = whole.backward(&parameters, &tape, &g, &Sharing::default()).expect("no exchange");
            let square: f64 = gradient.iter().map(|g| g * g).sum();
            let sent = run_threads(ranks, |comm| {
                let here = rows[comm.rank()].clone();
                let part = |field: &Vec<f64>| -> Vec<f64> {
                    field.chunks(size).flat_map(|channel| &channel[here.start * row..here.end * row]).copied().collect()
                };
                let parts = |fields: &[Vec<f64>]| fields.iter().map(part).collect::<Vec<_>>();
                let (model, sharing) =
                    (Model::slab(&shape, &points, here.clone(), &points), Sharing::Space(comm.clone()));
                let (outputs, tape) = model.forward(&parameters, &parts(&inputs), &sharing)?;
                let mut found = model.backward(&parameters, &tape, &parts(&g), &sharing)?;
                let owned = sharding::Owned::new(&shape.parts(), shape.kept(), sharing);
                let sum = owned.sum(&comm, &mut found)?;
                let close = |a: &[f64], b: &[f64]| {
                    let most = b.iter().fold(1.0, |m: f64, v| m.max(v.abs()));
                    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-12 * most)
                };
                assert!((sum - square).abs() < 1e-12 * square, "{shape:?}: {sum} {square}");
                assert!(outputs.iter().zip(parts(&expected)).all(|(a, b)| close(a, &b)), "{shape:?}");
                assert!(owned.ranges().into_iter().all(|r| close(&found[r.clone()], &gradient[r])), "{shape:?}");
                Ok(comm.traffic().bytes)
            });
            let most = sent.into_iter().map(|bytes| bytes.expect("a rank")).max().expect("a rank");
            // Beside the square of the norm of what is shared out. Two ranks share all evenly; a short sum of three is sent whole to all.
            let planned = sharding::bytes_of_step(&shape, 2, ranks, 8)[2] + 8 * (ranks as u64 - 1);
            let planned = if ranks == 2 { planned } else { planned + 4096 };
            assert!(most <= planned && (ranks > 2 || most == planned), "{shape:?}: {most} {planned}");
        }
    }
}
