use convoke_cluster::comm::run_threads;
use convoke_cluster::pieces::Pieces;
use convoke_cluster::workload::{Clock, Inputs, Notes, Resources};
use convoke_cluster::{Comm, JobText};
use convoke_data::store::Overflow;
use convoke_kernels::Device;
use convoke_kernels::kronecker::Parity;

use super::*;
use crate::gp_pde::field::matrix;
use crate::gp_pde::jobs::JOBS;

fn ctx() -> Ctx {
    Ctx {
        comm: Comm::solo(),
        device: Device::cpu(),
        seed: 0,
        inputs: Inputs { base: ".".into() },
        resources: Resources { ranks: 1, threads: 1, memory_per_rank: u64::MAX },
        pieces: Pieces::below(std::path::Path::new(".")),
        overflow: Overflow::below(".".as_ref()),
        scratch: "work".into(),
        notes: Notes::default(),
        clock: Clock::start(),
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

/// Whole jobs on 2 and 4 ranks, of every kind of step: what each rank was counted to send is to the byte what the formulas
/// say for the steps that it made, and what `check` expects is within a factor of six (lines take five times the priors).
#[test]
fn a_job_sends_what_the_formulas_say_for_what_it_did() {
    let jobs = [
        ("poisson-2d-additive", false),
        ("cases-2d", false),
        ("off-bin-sparse-2d", false), // new weights, lines
        ("variable-coefficient-2d", true),
        ("reaction-diffusion", true),
        ("cubic-1d", true),     // one axis, continuation, trials
        ("burgers-long", true), // Schur forms, windows
    ];
    for (name, iterates) in jobs {
        let text = JOBS.iter().find(|(job, _)| *job == name).unwrap().1;
        let text = JobText { path: format!("{name}.toml").into(), text: text.to_owned() };
        let spec: Spec = text.parse().unwrap().problem;
        for ranks in [2, 4] {
            let results = run_threads(ranks, |comm| {
                let ctx = Ctx { comm, ..ctx() };
                let statement = Statement::read(&spec, &ctx.inputs)?;
                let seen = spectrum::ceilings(&statement)?;
                let expected = plan::expected_bytes(&spec, &statement, &seen, ranks)?;
                let mut job = Collocation::new(&spec, &ctx, statement, &seen)?;
                while !job.step(&ctx)?.done {}
                Ok((ctx.comm.traffic().bytes, job.account, expected))
            });
            let mut busiest = 0.0f64;
            for result in results {
                let (counted, account, expected) = result.unwrap();
                assert!(counted > 0 && account.refused == 0, "{name}");
                assert_eq!(counted, account.bytes, "{name} on {ranks} ranks");
                assert_eq!(account.applications > 0, iterates, "{name}");
                busiest = busiest.max(counted as f64 / expected as f64);
            }
            assert!((1.0 / 6.0..6.0).contains(&busiest), "{name} on {ranks} ranks: {busiest} of what is expected");
        }
    }
}

/// Problems with conditions of one kind at both ends of x, those in 2-D of y, too.
const SPLIT: [&str; 19] = [
    "allen-cahn-1d-sin",
    "allen-cahn-1d-sin-cos",
    "allen-cahn-2d-mix",
    "burgers",
    "burgers-long",
    "cases-2d",
    "chirp-1d",
    "cubic-1d",
    "off-bin-2d",
    "off-bin-sparse-2d",
    "poisson-1d-mix",
    "poisson-1d-sin",
    "poisson-1d-sin-cos",
    "poisson-1d-sin-parabola",
    "poisson-1d-x-sin",
    "poisson-2d-additive",
    "poisson-2d-sin-sin",
    "reaction-diffusion",
    "sparse-2d",
];

/// Axes whose ends have conditions of one kind are split into even and odd functions in the shipped problems; time,
/// advection, periodic axes and those with other conditions at the other end are not.
#[test]
fn shipped_problems_have_the_parity_of_their_conditions() {
    let mut split = Vec::new();
    for (name, text) in JOBS {
        let text = JobText { path: format!("{name}.toml").into(), text: (*text).to_owned() };
        let spec: Spec = text.parse().unwrap().problem;
        if spec.is_uncertain() {
            continue;
        }
        let statement = Statement::read(&spec, &ctx().inputs).unwrap();
        let seen = spectrum::ceilings(&statement).unwrap();
        let job = Collocation::new(&spec, &ctx(), statement, &seen).unwrap();
        let (problem, solver) = (job.problem.unwrap(), job.solver.unwrap());
        for ((factor, axis), about) in solver.factors.iter().zip(&problem.axes).zip(&job.statement.axes) {
            let parity = matrix(&Device::cpu(), &factor.analysis(axis)).unwrap().parity();
            if parity == Some(Parity::Rows) {
                split.push(format!("{name} {}", about.name));
            }
        }
    }
    let of = |names: &[&str], axes: &[&str]| -> Vec<String> {
        names.iter().flat_map(|name| axes.iter().map(move |axis| format!("{name} {axis}"))).collect()
    };
    let (one, two): (Vec<&str>, Vec<&str>) = SPLIT.iter().partition(|name| !name.contains("-2d"));
    let mut expected = [of(&one, &["x"]), of(&two, &["x", "y"]), of(&["allen-cahn-3d"], &["x", "y", "z"])].concat();
    expected.sort();
    split.sort();
    assert_eq!(split, expected);
}
