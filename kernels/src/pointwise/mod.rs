//! Programs evaluated at every point of a tensor grid: right-hand sides, residuals and their derivatives that a person
//! typed, as straight lines of operations in which each step is assigned once.
//!
//! What depends on no field and on one axis only is computed once per value of that axis: `sin(100 x) sin(100 y)` on
//! 400 x 400 points takes 800 sines. Results do not depend on the number of threads. Sums of products are not fused.

mod cpu;
mod cuda;
mod op;
mod plan;
mod reference;
#[cfg(test)]
mod tests;

use crate::{Buffer, Device, KernelError, Result};
pub use op::{Binary, Op, Unary};
use plan::Kind;
use reference::Values;

/// A straight-line program in f64.
#[derive(Clone, Debug, PartialEq)]
pub struct Program {
    n_inputs: usize,
    ops: Vec<Op>,
    outputs: Vec<usize>,
}

/// What an input of a program is in one run.
#[derive(Debug)]
pub enum Input<'a> {
    /// A value at each point, `[n_points]`.
    Field(&'a mut Buffer<f64>),
    /// A value that follows one axis: `values[(i / stride) % values.len()]` at point i. In a row-major grid the stride is
    /// the product of the later axes' lengths.
    Axis {
        /// The axis's values.
        values: &'a mut Buffer<f64>,
        /// Points from one value to the next, at least 1.
        stride: usize,
    },
    /// The same value everywhere.
    Scalar(f64),
}

impl Program {
    /// The program of these steps; `outputs` are positions in `ops`. Errors where a step reads an input that is not there
    /// or a step that is not before it.
    pub fn new(n_inputs: usize, ops: Vec<Op>, outputs: Vec<usize>) -> Result<Self> {
        let check = |what, index, bound| match index < bound {
            true => Ok(()),
            false => Err(KernelError::Index { what, index, bound }),
        };
        for (i, op) in ops.iter().enumerate() {
            op.operands().try_for_each(|a| check("operand of a program", a, i))?;
            if let Op::Input(k) = *op {
                check("input of a program", k, n_inputs)?;
            }
        }
        outputs.iter().try_for_each(|o| check("output of a program", *o, ops.len()))?;
        Ok(Self { n_inputs, ops, outputs })
    }

    /// Number of inputs.
    pub fn n_inputs(&self) -> usize {
        self.n_inputs
    }

    /// Number of outputs.
    pub fn n_outputs(&self) -> usize {
        self.outputs.len()
    }

    /// The steps.
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// Evaluate at points 0 to `n_points`; each output, `[n_points]`, is overwritten in full. Errors where the numbers of
    /// inputs and outputs or their lengths are wrong, and on a GPU where the program keeps more than 96 values at once.
    pub fn run(
        &self,
        device: &Device,
        n_points: usize,
        inputs: &mut [Input<'_>],
        outputs: &mut [&mut Buffer<f64>],
    ) -> Result<()> {
        let kinds = self.check(n_points, inputs, outputs)?;
        if n_points == 0 {
            return Ok(());
        }
        let plan = plan::plan(self, &kinds, n_points);
        if let Device::Gpu(gpu) = device {
            return cuda::run(gpu, &plan, inputs, outputs);
        }
        let values: Vec<Values<'_>> = inputs.iter_mut().map(values).collect();
        let outputs = outputs.iter_mut().map(|b| b.host_out()).collect();
        cpu::run(&plan, &values, outputs);
        Ok(())
    }

    /// The outputs at one point whose inputs are `inputs`. Plain and slow.
    ///
    /// # Panics
    /// If there are not [`n_inputs`](Self::n_inputs) of them.
    pub fn at(&self, inputs: &[f64]) -> Vec<f64> {
        assert_eq!(inputs.len(), self.n_inputs, "one number per input");
        let values: Vec<Values<'_>> = inputs.iter().map(|x| Values::Scalar(*x)).collect();
        let steps = reference::steps(&self.ops, &values, 0);
        self.outputs.iter().map(|o| steps[*o]).collect()
    }

    fn check(&self, n_points: usize, inputs: &[Input<'_>], outputs: &[&mut Buffer<f64>]) -> Result<Vec<Kind>> {
        let check = |what, expected, got| match expected == got {
            true => Ok(()),
            false => Err(KernelError::Shape { what, expected, got }),
        };
        check("inputs of a program", self.n_inputs, inputs.len())?;
        check("outputs of a program", self.outputs.len(), outputs.len())?;
        outputs.iter().try_for_each(|b| check("output [n_points]", n_points, b.len()))?;
        let at_least_1 = |what, value: usize| match value {
            0 => Err(KernelError::Parameter { what, value: 0.0, rule: "at least 1" }),
            _ => Ok(()),
        };
        let kind = |input: &Input<'_>| match input {
            Input::Field(b) => check("field [n_points]", n_points, b.len()).map(|()| Kind::Field),
            Input::Axis { values, stride } => {
                at_least_1("stride of an axis", *stride)?;
                at_least_1("length of an axis", values.len())?;
                Ok(Kind::Axis { len: values.len(), stride: *stride })
            }
            Input::Scalar(value) => Ok(Kind::Scalar(*value)),
        };
        inputs.iter().map(kind).collect()
    }
}

fn values<'a>(input: &'a mut Input<'_>) -> Values<'a> {
    match input {
        Input::Field(b) => Values::Field(b.host()),
        Input::Axis { values, stride } => Values::Axis { values: values.host(), stride: *stride },
        Input::Scalar(value) => Values::Scalar(*value),
    }
}
