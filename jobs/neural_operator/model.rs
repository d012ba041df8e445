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

    /// The same with these rows of the first axis of the fields here: for an FNO, or all of them.
    pub fn slab(shape: &Shape, points: &[usize], rows: Range<usize>, trained: &[usize]) -> Self {
        match shape {
            Shape::Fno(shape) => Self::Fno(Box::new(Fno::slab(shape, points, rows))),
            Shape::StFno(shape) => Self::StFno(Box::new(StFno::new(shape, points, trained))),
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
    use super::*;
    use crate::learning::matrix::tests::counted;

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
}
