//! Programs on a GPU or under emulation: one interpreter kernel, its registers in shared memory. Untested on a GPU.

use super::plan::{Instruction, Leaf, Plan, Stage};
use super::{Input, Unary};
use crate::gpu::{Arg, Extent, Gpu, Memory, POINTWISE, int};
use crate::{Buffer, KernelError, Result};

/// Threads of a block, as in the kernel.
const THREADS: usize = 128;
/// 1 KiB of shared memory each; every device from compute capability 8.0 on grants 99 KiB.
const MAX_REGISTERS: usize = 96;
/// Beyond this the threads loop.
const MAX_BLOCKS: usize = 1 << 14;

/// The kernel's operations: these two, the unary ones, the binary ones.
const LOAD: i32 = 0;
const STORE: i32 = 1;
const UNARY: i32 = 2;
const BINARY: i32 = UNARY + Unary::ALL.len() as i32;

/// Run all stages. Errors where a stage has too many live values, and where the device fails.
pub(super) fn run(gpu: &Gpu, plan: &Plan, inputs: &mut [Input<'_>], outputs: &mut [&mut Buffer<f64>]) -> Result<()> {
    for stage in plan.axes.iter().chain([&plan.points]) {
        if stage.n_registers > MAX_REGISTERS {
            return Err(KernelError::Parameter {
                what: "the number of values that a program keeps at once on a GPU",
                value: stage.n_registers as f64,
                rule: "at most 96",
            });
        }
    }
    let mut tables: Vec<Vec<Memory>> = Vec::with_capacity(plan.axes.len());
    for stage in &plan.axes {
        let memories = (0..stage.n_outputs).map(|_| gpu.allocate(8 * stage.len)).collect::<Result<Vec<_>>>()?;
        let addresses: Vec<u64> = memories.iter().map(Memory::address).collect();
        launch(gpu, stage, inputs, &[], &addresses)?;
        tables.push(memories);
    }
    let addresses = outputs.iter_mut().map(|b| b.device_out(gpu)).collect::<Result<Vec<_>>>()?;
    launch(gpu, &plan.points, inputs, &tables, &addresses)
}

fn launch(gpu: &Gpu, stage: &Stage, inputs: &mut [Input<'_>], tables: &[Vec<Memory>], outputs: &[u64]) -> Result<()> {
    // One upload: constants, leaves (address, length, stride), outputs, code (4 i32 in 2 words).
    let mut words: Vec<u64> = stage.constants.iter().map(|c| c.to_bits()).collect();
    let leaves_at = words.len();
    for leaf in &stage.leaves {
        words.extend(match *leaf {
            Leaf::Table { stage, table, len, stride } => [tables[stage][table].address(), len as u64, stride as u64],
            Leaf::Input(k) => match &mut inputs[k] {
                Input::Field(values) | Input::Axis { values, .. } => [values.device_in(gpu)?, stage.len as u64, 0],
                Input::Scalar(_) => unreachable!("a scalar is a constant"),
            },
        });
    }
    let outputs_at = words.len();
    words.extend(outputs);
    let code_at = words.len();
    let word = |low: i32, high: i32| u64::from(low as u32) | u64::from(high as u32) << 32;
    words.extend(stage.code.iter().flat_map(|i| {
        let [op, to, a, b] = encoded(*i);
        [word(op, to), word(a, b)]
    }));
    let memory = gpu.allocate(8 * words.len())?;
    memory.upload(bytemuck::cast_slice(&words))?;
    let address = |at: usize| Arg::Address(memory.address() + 8 * at as u64);
    let args = [
        Arg::I64(stage.len as i64),
        int(stage.code.len()),
        address(code_at),
        int(stage.constants.len()),
        address(0),
        address(leaves_at),
        address(outputs_at),
    ];
    let extent = Extent {
        grid: [stage.len.div_ceil(THREADS).min(MAX_BLOCKS) as u32, 1, 1],
        block: [THREADS as u32, 1, 1],
        shared_bytes: (8 * THREADS * stage.n_registers) as u32,
    };
    gpu.launch(&POINTWISE, "pointwise_run", extent, &args)
}

/// (operation, to, a, b)
fn encoded(instruction: Instruction) -> [i32; 4] {
    let register = |r: usize| r as i32;
    match instruction {
        Instruction::Load { to, leaf } => [LOAD, register(to), register(leaf), 0],
        Instruction::Store { output, a } => [STORE, register(output), register(a), 0],
        Instruction::Unary { f, to, a } => [UNARY + f as i32, register(to), register(a), 0],
        Instruction::Binary { f, to, a, b } => [BINARY + f as i32, register(to), register(a), register(b)],
    }
}
