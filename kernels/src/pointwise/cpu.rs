//! Programs on the CPU: blocks of points small enough that the registers stay in the nearest cache, and each
//! instruction a loop over a block. Per point 8 bytes for each field read or written.
#![allow(unsafe_code)]

use super::plan::{Instruction, Leaf, Plan, Stage};
use super::reference::Values;
use super::{Binary, Unary};
use crate::machine::{Simd, simd};
use rayon::prelude::*;

/// Points of a block: 2 KiB per register.
const BLOCK: usize = 256;
/// A number for each point of a block, on whole cache lines.
#[repr(C, align(64))]
struct Register([f64; BLOCK]);

/// A thread's registers, and the one that the next result is written to before it takes its place.
// Boxed, so that two of them swap as pointers.
#[allow(clippy::vec_box)]
struct Registers {
    all: Vec<Box<Register>>,
    spare: Box<Register>,
}

/// Points of a thread's portion.
const PORTION: usize = 64 * BLOCK;

/// Run all stages; `outputs` are `plan.points.len` long.
pub(super) fn run(plan: &Plan, inputs: &[Values<'_>], outputs: Vec<&mut [f64]>) {
    let mut tables: Vec<Vec<Vec<f64>>> = Vec::with_capacity(plan.axes.len());
    for stage in &plan.axes {
        let mut values = vec![vec![0.0; stage.len]; stage.n_outputs];
        run_stage(stage, inputs, &[], values.iter_mut().map(Vec::as_mut_slice).collect());
        tables.push(values);
    }
    run_stage(&plan.points, inputs, &tables, outputs);
}

/// A leaf's numbers: element `(i / stride) % len` at point i.
#[derive(Clone, Copy)]
struct Source<'a> {
    values: &'a [f64],
    stride: usize,
}

fn run_stage(stage: &Stage, inputs: &[Values<'_>], tables: &[Vec<Vec<f64>>], outputs: Vec<&mut [f64]>) {
    let source = |leaf: &Leaf| match *leaf {
        Leaf::Table { stage, table, stride, .. } => Source { values: &tables[stage][table], stride },
        Leaf::Input(k) => match inputs[k] {
            Values::Field(values) | Values::Axis { values, .. } => Source { values, stride: 1 },
            Values::Scalar(_) => unreachable!("a scalar is a constant"),
        },
    };
    let sources: Vec<Source<'_>> = stage.leaves.iter().map(source).collect();
    // portions[i] holds the i-th part of every output.
    let mut portions: Vec<Vec<&mut [f64]>> = Vec::new();
    portions.resize_with(stage.len.div_ceil(PORTION), || Vec::with_capacity(outputs.len()));
    for output in outputs {
        for (portion, part) in portions.iter_mut().zip(output.chunks_mut(PORTION)) {
            portion.push(part);
        }
    }
    let level = simd();
    let filled = |value: f64| Box::new(Register([value; BLOCK]));
    let registers = || Registers {
        all: (0..stage.n_registers).map(|r| filled(stage.constants.get(r).copied().unwrap_or(0.0))).collect(),
        spare: filled(0.0),
    };
    portions.into_par_iter().enumerate().for_each_init(registers, |registers, (i, mut outputs)| {
        let len = PORTION.min(stage.len - i * PORTION);
        for from in (0..len).step_by(BLOCK) {
            let block = Block { first: i * PORTION + from, from, len: BLOCK.min(len - from) };
            dispatch(level, stage, &sources, block, registers, &mut outputs);
        }
    });
}

/// `len` points from point `first` on, which are element `from` of the portion.
#[derive(Clone, Copy)]
struct Block {
    first: usize,
    from: usize,
    len: usize,
}

fn dispatch(level: Simd, stage: &Stage, s: &[Source<'_>], b: Block, r: &mut Registers, o: &mut [&mut [f64]]) {
    match level {
        // SAFETY: `simd` found the instructions on this processor.
        #[cfg(target_arch = "x86_64")]
        Simd::Avx512 => unsafe { x86::avx512(stage, s, b, r, o) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Simd::Avx2 => unsafe { x86::avx2(stage, s, b, r, o) },
        _ => block(stage, s, b, r, o),
    }
}

/// The same loops, compiled for wider vectors. Nothing is fused, so every level gives the same bits.
#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Block, Registers, Source, Stage, block};

    // SAFETY of both: called only where the processor has the instructions.

    #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx2")]
    pub(super) unsafe fn avx512(g: &Stage, s: &[Source<'_>], b: Block, r: &mut Registers, o: &mut [&mut [f64]]) {
        block(g, s, b, r, o);
    }

    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn avx2(g: &Stage, s: &[Source<'_>], b: Block, r: &mut Registers, o: &mut [&mut [f64]]) {
        block(g, s, b, r, o);
    }
}

#[inline(always)]
fn block(stage: &Stage, sources: &[Source<'_>], b: Block, registers: &mut Registers, outputs: &mut [&mut [f64]]) {
    let Registers { all, spare } = registers;
    for instruction in &stage.code {
        match *instruction {
            Instruction::Load { to, leaf } => load(sources[leaf], b.first, &mut all[to].0[..b.len]),
            Instruction::Store { output, a } => {
                outputs[output][b.from..][..b.len].copy_from_slice(&all[a].0[..b.len]);
            }
            Instruction::Unary { f, to, a } => {
                unary(f, &all[a].0[..b.len], &mut spare.0[..b.len]);
                std::mem::swap(&mut all[to], spare);
            }
            Instruction::Binary { f, to, a, b: c } => {
                binary(f, &all[a].0[..b.len], &all[c].0[..b.len], &mut spare.0[..b.len]);
                std::mem::swap(&mut all[to], spare);
            }
        }
    }
}

/// Runs of one value each, or of consecutive ones for stride 1.
#[inline(always)]
fn load(Source { values, stride }: Source<'_>, first: usize, to: &mut [f64]) {
    let mut i = first / stride % values.len();
    let mut run = stride - first % stride;
    let mut done = 0;
    while done < to.len() {
        if stride == 1 {
            run = values.len() - i;
        }
        let end = to.len().min(done + run);
        let part = &mut to[done..end];
        if stride == 1 {
            part.copy_from_slice(&values[i..][..part.len()]);
            i = 0;
        } else {
            part.fill(values[i]);
            i = if i + 1 == values.len() { 0 } else { i + 1 };
            run = stride;
        }
        done = end;
    }
}

/// One loop per function, so that those of plain arithmetic become vector instructions.
#[inline(always)]
fn unary(f: Unary, a: &[f64], out: &mut [f64]) {
    macro_rules! each {
        ($($f:ident),*) => {
            match f {
                $(Unary::$f => out.iter_mut().zip(a).for_each(|(out, a)| *out = Unary::$f.apply(*a)),)*
            }
        };
    }
    each!(Neg, Abs, Sign, Step, Sqrt, Cbrt, Exp, Ln, Sin, Cos, Tan, Asin, Acos, Atan, Sinh, Cosh, Tanh, Erf);
}

#[inline(always)]
fn binary(f: Binary, a: &[f64], b: &[f64], out: &mut [f64]) {
    macro_rules! each {
        ($($f:ident),*) => {
            match f {
                $(Binary::$f => {
                    out.iter_mut().zip(a.iter().zip(b)).for_each(|(out, (a, b))| *out = Binary::$f.apply(*a, *b));
                })*
            }
        };
    }
    each!(Add, Sub, Mul, Div, Pow, Atan2, Min, Max);
}
