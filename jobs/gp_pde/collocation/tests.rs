use convoke_cluster::pieces::Pieces;
use convoke_cluster::workload::{Inputs, Notes, Resources};
use convoke_cluster::{Comm, JobText};
use convoke_kernels::Device;

use super::*;
use crate::gp_pde::jobs::JOBS;

fn ctx() -> Ctx {
    Ctx {
        comm: Comm::solo(),
        device: Device::cpu(),
        seed: 0,
        inputs: Inputs { base: ".".into() },
        resources: Resources { ranks: 1, threads: 1, memory_per_rank: u64::MAX },
        pieces: Pieces::below(std::path::Path::new(".")),
        notes: Notes::default(),
    }
}

/// The field at the nodes after the last step, and the number of steps.
fn solved(spec: &Spec, statement: Statement) -> (Vec<f64>, u64) {
    let ctx = ctx();
    let seen = spectrum::ceilings(&statement).unwrap();
    let mut job = Collocation::new(spec, &ctx, statement, &seen).unwrap();
    let mut steps = 1;
    while !job.step(&ctx).unwrap().done {
        steps += 1;
    }
    (job.now.u, steps)
}

/// The solver sees right-hand sides and data only: without the manufactured solution, from which they were made, every
/// shipped problem is solved to the same bits by as many steps.
#[test]
fn the_solution_is_hidden_on_every_problem() {
    let mut tried = 0;
    for (name, text) in JOBS {
        let text = JobText { path: format!("{name}.toml").into(), text: (*text).to_owned() };
        let spec: Spec = text.parse().unwrap().problem;
        if spec.is_uncertain() {
            continue;
        }
        let statement = Statement::read(&spec, &ctx().inputs).unwrap();
        let mut blind = statement.clone();
        assert!(blind.outputs[0].exact.is_some(), "{name}: there is a solution to hide");
        blind.outputs.iter_mut().for_each(|quantity| quantity.exact = None);
        let (seen, hidden) = (solved(&spec, statement), solved(&spec, blind));
        assert_eq!(seen.1, hidden.1, "{name}: steps");
        assert!(seen.0.iter().zip(&hidden.0).all(|(a, b)| a.to_bits() == b.to_bits()), "{name}");
        tried += 1;
    }
    assert!(tried >= 20, "{tried}");
}
