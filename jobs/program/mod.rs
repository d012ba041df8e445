//! A program of the user's, run once: numbers go in, numbers come out. What sweeps and campaigns are made of where the model
//! is not one of Convoke's.
//!
//! Rank 0 runs it, in a folder of the run that is new for each attempt; a step is a look at it about once a second. See
//! `README.md` beside this file.

mod spec;

use convoke_cluster::guest::{Guest, GuestError, missing};
use convoke_cluster::workload::{Inputs, Resources};
use convoke_cluster::{BadValue, Ctx, Error, Fields, Plan, Progress, Region, Result, Results, Workload};

use spec::Spec;

/// Registry name.
pub const NAME: &str = "program";
/// This program itself with its libraries and buffers: measured, rounded up. What the other one takes is not ours to know.
const MEMORY: u64 = 96 << 20;

/// A program at work.
#[derive(Debug)]
pub struct Program {
    spec: Spec,
    line: Vec<String>,
    guest: Option<Guest>,
    looks: u64,
    /// What it said, one number for each output.
    values: Vec<f64>,
}

impl Workload for Program {
    const NAME: &'static str = NAME;
    const SUMMARY: &'static str = "a program of yours at one point: numbers in, numbers out; for sweeps and campaigns";
    const JOBS: &'static [(&'static str, &'static str)] = &[("program", include_str!("program.toml"))];
    type Spec = Spec;

    fn plan(spec: &Spec, inputs: &Inputs, resources: &Resources) -> Result<Plan> {
        spec.check()?;
        let line = spec.line(inputs)?;
        let steps = spec.looks();
        let ranks = resources.ranks as u64;
        let mut plan = Plan {
            steps,
            work: 1.0,
            work_unit: "runs of the program",
            // Each look, its numbers and the flags of each step, from rank 0 to all others.
            bytes_sent_per_rank: (steps * (1024 + 8 * spec.outputs.len() as u64) + (1 << 16)) * (ranks - 1).max(1),
            checkpoint_bytes: 1 << 16,
            result_bytes: 1 << 20,
            ..Plan::default()
        };
        plan.holds("program and libraries", MEMORY);
        plan.notes.push(format!("runs: {}", line.join(" ")));
        plan.notes.push("its own time, memory and files are not in this bill".into());
        if ranks > 1 {
            plan.notes.push("rank 0 runs it, the others wait: run.ranks = 1 wastes nothing".into());
        }
        Ok(plan)
    }

    fn new(spec: &Spec, ctx: &Ctx) -> Result<Self> {
        let line = spec.line(&ctx.inputs)?;
        if let Some(missing) = missing(&line[0], &ctx.inputs.base) {
            return Err(BadValue::new("problem.command", format!("{:?}", line[0]), missing).into());
        }
        Ok(Self { spec: spec.clone(), line, guest: None, looks: 0, values: vec![0.0; spec.outputs.len()] })
    }

    fn step(&mut self, ctx: &Ctx) -> Result<Progress> {
        self.looks += 1;
        let seen = if ctx.comm.is_root() { self.look(ctx) } else { Ok(None) };
        let seen = ctx.comm.agree(seen.map_err(|e| Error::workload(NAME, e)))?;
        let told: Vec<u8> = seen.into_iter().flatten().flat_map(f64::to_le_bytes).collect();
        let told = ctx.comm.broadcast(0, &told)?;
        let done = !told.is_empty();
        for (value, bytes) in self.values.iter_mut().zip(told.chunks_exact(8)) {
            *value = bytes.try_into().map_or(f64::NAN, f64::from_le_bytes);
        }
        let fraction = if done { 1.0 } else { 0.0 };
        Ok(Progress { done, fraction, work: fraction, metrics: Vec::new() })
    }

    fn fields<'a>(&'a mut self, fields: &mut Fields<'a>) {
        fields.counter("looks", &mut self.looks);
        let shape = [self.values.len()];
        fields.array("values", &shape, Region::whole(&shape), &mut self.values[..]);
    }

    /// What was at work is gone with its attempt: it begins again.
    fn restored(&mut self, _ctx: &Ctx) -> Result<()> {
        self.looks = 0;
        Ok(())
    }

    fn finish(&mut self, _ctx: &Ctx, out: &mut Results) -> Result<()> {
        for (name, value) in self.spec.outputs.iter().zip(&self.values) {
            out.figure(name, *value)?;
        }
        out.series("outputs", &self.values, "1", "what the program said, in the order of problem.outputs")?;
        out.text("command", &self.line.join(" "))
    }
}

impl Program {
    /// Begins it, or looks whether it has ended; its numbers once it has.
    fn look(&mut self, ctx: &Ctx) -> std::result::Result<Option<Vec<f64>>, GuestError> {
        let guest = match &mut self.guest {
            Some(guest) => guest,
            None => {
                let guest = Guest::begin(&self.line, &ctx.inputs.base, &ctx.scratch, ctx.resources.threads)?;
                self.guest.insert(guest)
            }
        };
        if guest.has_ended()? {
            return Ok(Some(guest.numbers(&self.spec.outputs)?));
        }
        if self.looks >= self.spec.looks() {
            return Err(GuestError::TooLong(self.spec.timeout()));
        }
        Ok(None)
    }
}
