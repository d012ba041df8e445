//! From a program and the kinds of its inputs to what is computed where: numbers that are the same everywhere once,
//! those that follow one axis once per value of the axis, the rest at every point. Registers are given out by liveness.

use super::{Binary, Op, Program, Unary};
use std::collections::BTreeMap;

/// Where an input's value comes from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    Field,
    Axis { len: usize, stride: usize },
    Scalar(f64),
}

/// On what a step depends.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Extent {
    Uniform(f64),
    Axis { len: usize, stride: usize },
    Point,
}

/// What a stage reads.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Leaf {
    /// Input `k`, element by element.
    Input(usize),
    /// Output `table` of the stage of an axis, spread with this stride.
    Table { stage: usize, table: usize, len: usize, stride: usize },
}

/// One instruction on registers, each a number per point of a block.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Instruction {
    Load { to: usize, leaf: usize },
    Unary { f: Unary, to: usize, a: usize },
    Binary { f: Binary, to: usize, a: usize, b: usize },
    Store { output: usize, a: usize },
}

/// A loop over `len` points. The first registers hold `constants` throughout.
#[derive(Clone, Debug, Default)]
pub(super) struct Stage {
    pub len: usize,
    pub constants: Vec<f64>,
    pub leaves: Vec<Leaf>,
    pub code: Vec<Instruction>,
    pub n_registers: usize,
    pub n_outputs: usize,
}

/// Stages of the axes, whose outputs are tables, and the one over all points.
pub(super) struct Plan {
    pub axes: Vec<Stage>,
    pub points: Stage,
}

/// Powers up to this one are multiplications; above, `pow` is faster and more accurate.
const MAX_MULTIPLIED_POWER: u32 = 64;

pub(super) fn plan(program: &Program, kinds: &[Kind], n_points: usize) -> Plan {
    let (ops, outputs) = without_powers(program);
    let extents = extents(&ops, kinds);
    // The steps of each axis that a step of another extent, or an output, reads.
    let needed = needed(&ops, &outputs);
    let mut axes: Vec<((usize, usize), Vec<usize>)> = Vec::new();
    let mut tables = BTreeMap::new();
    let mut want = |step: usize| {
        if let Extent::Axis { len, stride } = extents[step]
            && !tables.contains_key(&step)
        {
            let known = axes.iter().position(|(axis, _)| *axis == (len, stride));
            let stage = known.unwrap_or(axes.len());
            if known.is_none() {
                axes.push(((len, stride), Vec::new()));
            }
            tables.insert(step, Leaf::Table { stage, table: axes[stage].1.len(), len, stride });
            axes[stage].1.push(step);
        }
    };
    for i in (0..ops.len()).filter(|i| needed[*i] && extents[*i] == Extent::Point) {
        ops[i].operands().for_each(&mut want);
    }
    outputs.iter().copied().for_each(&mut want);
    let stages = axes.iter().map(|((len, _), steps)| {
        let input = |i: usize| match ops[i] {
            Op::Input(k) => Some(Leaf::Input(k)),
            _ => None,
        };
        Builder::new(&ops, &extents, &input).build(*len, steps)
    });
    let axes = stages.collect();
    let leaf = |i: usize| match ops[i] {
        _ if tables.contains_key(&i) => tables.get(&i).copied(),
        Op::Input(k) => Some(Leaf::Input(k)),
        _ => None,
    };
    Plan { axes, points: Builder::new(&ops, &extents, &leaf).build(n_points, &outputs) }
}

/// The steps with every integer power as squarings and multiplications, and where the outputs went.
fn without_powers(program: &Program) -> (Vec<Op>, Vec<usize>) {
    let mut ops = Vec::with_capacity(program.ops.len());
    let mut moved = Vec::with_capacity(program.ops.len());
    for op in &program.ops {
        let to = match *op {
            Op::Constant(_) | Op::Input(_) => push(&mut ops, *op),
            Op::Unary(f, a) => push(&mut ops, Op::Unary(f, moved[a])),
            Op::Binary(f, a, b) => push(&mut ops, Op::Binary(f, moved[a], moved[b])),
            Op::PowI(a, n) => power(&mut ops, moved[a], n),
        };
        moved.push(to);
    }
    (ops, program.outputs.iter().map(|i| moved[*i]).collect())
}

fn push(ops: &mut Vec<Op>, op: Op) -> usize {
    ops.push(op);
    ops.len() - 1
}

fn power(ops: &mut Vec<Op>, a: usize, n: i32) -> usize {
    let mut rest = n.unsigned_abs();
    if rest == 0 {
        return push(ops, Op::Constant(1.0));
    }
    if rest > MAX_MULTIPLIED_POWER {
        let exponent = push(ops, Op::Constant(f64::from(n)));
        return push(ops, Op::Binary(Binary::Pow, a, exponent));
    }
    let (mut square, mut product) = (a, None);
    loop {
        if rest % 2 == 1 {
            product = Some(product.map_or(square, |p| push(ops, Op::Binary(Binary::Mul, p, square))));
        }
        rest /= 2;
        if rest == 0 {
            break;
        }
        square = push(ops, Op::Binary(Binary::Mul, square, square));
    }
    let product = product.expect("n is not 0");
    if n > 0 {
        return product;
    }
    let one = push(ops, Op::Constant(1.0));
    push(ops, Op::Binary(Binary::Div, one, product))
}

fn extents(ops: &[Op], kinds: &[Kind]) -> Vec<Extent> {
    let mut extents: Vec<Extent> = Vec::with_capacity(ops.len());
    for op in ops {
        extents.push(match *op {
            Op::Constant(c) => Extent::Uniform(c),
            Op::Input(k) => match kinds[k] {
                Kind::Field => Extent::Point,
                Kind::Axis { len, stride } => Extent::Axis { len, stride },
                Kind::Scalar(value) => Extent::Uniform(value),
            },
            Op::Unary(f, a) => match extents[a] {
                Extent::Uniform(a) => Extent::Uniform(f.apply(a)),
                other => other,
            },
            Op::Binary(f, a, b) => match (extents[a], extents[b]) {
                (Extent::Uniform(a), Extent::Uniform(b)) => Extent::Uniform(f.apply(a, b)),
                (Extent::Uniform(_), other) | (other, Extent::Uniform(_)) => other,
                (a, b) if a == b => a,
                _ => Extent::Point,
            },
            Op::PowI(..) => unreachable!("powers were expanded"),
        });
    }
    extents
}

fn needed(ops: &[Op], outputs: &[usize]) -> Vec<bool> {
    let mut needed = vec![false; ops.len()];
    outputs.iter().for_each(|i| needed[*i] = true);
    for (i, op) in ops.iter().enumerate().rev() {
        if needed[i] {
            op.operands().for_each(|a| needed[a] = true);
        }
    }
    needed
}

/// Makes one stage. `leaf` says which steps come from outside; uniform steps become constants.
struct Builder<'a> {
    ops: &'a [Op],
    extents: &'a [Extent],
    leaf: &'a dyn Fn(usize) -> Option<Leaf>,
    /// Reads of each step that are still to come.
    uses: Vec<usize>,
    register: Vec<Option<usize>>,
    free: Vec<usize>,
    stage: Stage,
}

impl<'a> Builder<'a> {
    fn new(ops: &'a [Op], extents: &'a [Extent], leaf: &'a dyn Fn(usize) -> Option<Leaf>) -> Self {
        let (uses, register) = (vec![0; ops.len()], vec![None; ops.len()]);
        Self { ops, extents, leaf, uses, register, free: Vec::new(), stage: Stage::default() }
    }

    fn is_inner(&self, i: usize) -> bool {
        !matches!(self.extents[i], Extent::Uniform(_)) && (self.leaf)(i).is_none()
    }

    fn build(mut self, len: usize, outputs: &[usize]) -> Stage {
        (self.stage.len, self.stage.n_outputs) = (len, outputs.len());
        outputs.iter().for_each(|i| self.uses[*i] += 1);
        for i in (0..self.ops.len()).rev() {
            if self.uses[i] > 0 && self.is_inner(i) {
                self.ops[i].operands().for_each(|a| self.uses[a] += 1);
            }
        }
        self.constants();
        for i in 0..self.ops.len() {
            if self.uses[i] > 0 && self.is_inner(i) {
                self.instruction(i);
            }
            for output in (0..outputs.len()).filter(|o| outputs[*o] == i) {
                let a = self.fetch(i);
                self.stage.code.push(Instruction::Store { output, a });
                self.release(i);
            }
        }
        self.stage
    }

    /// Equal constants share a register.
    fn constants(&mut self) {
        let mut known = BTreeMap::new();
        for i in 0..self.ops.len() {
            if self.uses[i] > 0
                && let Extent::Uniform(value) = self.extents[i]
            {
                let constants = &mut self.stage.constants;
                let register = *known.entry(value.to_bits()).or_insert_with(|| {
                    constants.push(value);
                    constants.len() - 1
                });
                self.register[i] = Some(register);
            }
        }
        self.stage.n_registers = self.stage.constants.len();
    }

    fn instruction(&mut self, i: usize) {
        let op = self.ops[i];
        let operands: Vec<usize> = op.operands().collect();
        let registers: Vec<usize> = operands.iter().map(|a| self.fetch(*a)).collect();
        // The result's register is none of the operands': the loops then need no aliasing.
        let to = self.allocate();
        operands.iter().for_each(|a| self.release(*a));
        self.register[i] = Some(to);
        self.stage.code.push(match op {
            Op::Unary(f, _) => Instruction::Unary { f, to, a: registers[0] },
            Op::Binary(f, ..) => Instruction::Binary { f, to, a: registers[0], b: registers[1] },
            _ => unreachable!("constants are uniform, inputs are leaves, powers were expanded"),
        });
    }

    /// The register of a step, which is loaded at its first use if it is a leaf.
    fn fetch(&mut self, i: usize) -> usize {
        if let Some(register) = self.register[i] {
            return register;
        }
        let leaf = (self.leaf)(i).expect("every other operand was computed before");
        let to = self.allocate();
        self.register[i] = Some(to);
        self.stage.code.push(Instruction::Load { to, leaf: self.stage.leaves.len() });
        self.stage.leaves.push(leaf);
        to
    }

    fn allocate(&mut self) -> usize {
        self.free.pop().unwrap_or_else(|| {
            self.stage.n_registers += 1;
            self.stage.n_registers - 1
        })
    }

    fn release(&mut self, i: usize) {
        self.uses[i] -= 1;
        if self.uses[i] == 0 && !matches!(self.extents[i], Extent::Uniform(_)) {
            self.free.extend(self.register[i]);
        }
    }
}
