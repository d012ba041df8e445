//! What a solve costs: memory, messages, floating-point operations.

use convoke_cluster::workload::Resources;
use convoke_cluster::{Plan, Result};

use super::collocation::{CONTINUATION, LADDER, REFINEMENTS};
use super::output::points_along;
use super::posterior::check_size;
use super::spec::Spec;
use super::statement::Statement;

/// The program itself with its libraries and buffers: measured, rounded up.
const PROGRAM: u64 = 96 << 20;
/// GMRES iterations of one Newton step that are priced.
const KRYLOV: u64 = 60;
/// Trials of a step of Gauss-Newton.
const HALVINGS: u64 = 20;

/// The bill of a posterior over at most so many functions along each axis.
///
/// # Errors
/// Where it would be too large.
pub fn posterior(spec: &Spec, statement: &Statement, functions: Vec<usize>, resources: &Resources) -> Result<Plan> {
    let ranks = resources.ranks as u64;
    let nodes: u64 = statement.axes.iter().map(|a| a.points as u64).product();
    let n = functions.iter().map(|n| *n as u64).product::<u64>() + spec.unknowns.len() as u64;
    check_size(n as usize)?;
    let drawn: u64 = spec.observations.iter().filter_map(|o| o.count).map(|n| n as u64).sum();
    let rows =
        nodes.div_ceil(statement.axes[0].points as u64) * (statement.axes[0].points as u64).div_ceil(ranks) + drawn;
    let sweeps = spec.posterior.as_ref().map_or(0, |p| p.sweeps) * statement.axes.len() as u64 + 1;
    let newton = if statement.linearisation.is_linear { 1 } else { spec.solver.newton };
    let mut plan = Plan { steps: (sweeps + 1) * newton, work_unit: "multiply-adds", ..Plan::default() };
    plan.holds("program and libraries", PROGRAM);
    plan.holds("rows of equation and observations", 8 * rows * n * 4);
    plan.holds("triangular factors", 8 * (n + 1) * (n + 1) * (2 * ranks.min(4) + 4));
    plan.work = plan.steps as f64 * (2 * (rows * ranks + n) * n * n) as f64;
    if ranks > 1 {
        let factor = 8 * (n + 1) * rows.min(n + 1) * (ranks - 1);
        plan.bytes_sent_per_rank = plan.steps * (factor + 64 * ranks * (HALVINGS + 4)) + (1 << 20);
    }
    let output: u64 = (0..statement.axes.len()).map(|a| points_along(spec, statement, a) as u64).product();
    let samples = spec.posterior.as_ref().map_or(0, |p| p.samples) as u64;
    plan.checkpoint_bytes = 8 * n + (1 << 20);
    plan.result_bytes = 8 * output * (2 * statement.outputs.len() as u64 + samples) + (1 << 20);
    Ok(plan)
}

/// The bill of collocation.
pub fn collocation(spec: &Spec, statement: &Statement, resources: &Resources) -> Plan {
    let n: Vec<u64> = statement.axes.iter().map(|a| a.points as u64).collect();
    let d = n.len();
    let ranks = resources.ranks as u64;
    let field: u64 = n.iter().product();
    let rows = n[0].div_ceil(ranks);
    let slab = 8 * field / n[0] * rows;
    let direct = statement.equation.is_direct();
    let continued = if direct { 0 } else { CONTINUATION + 1 };
    let priors = LADDER.len() as u64 + spec.solver.sweeps + REFINEMENTS + 1;
    let solves = (priors + continued) * statement.windows as u64 * statement.cases.len() as u64;
    let newton = if direct { 1 } else { spec.solver.newton };
    let jets = statement.equation.rest.jets.len() as u64;
    let jacobian = statement.equation.jacobian_of.len() as u64;
    let krylov = if direct { 0 } else { KRYLOV };
    let mut plan = Plan { steps: solves * newton, work_unit: "multiply-adds", ..Plan::default() };
    plan.holds("program and libraries", PROGRAM);
    let features: u64 = n.iter().map(|n| 8 * n * n * 30).sum();
    plan.holds("bases of the axes", features);
    plan.holds("fields", slab * (8 + 2 * jets + 2 * jacobian));
    plan.holds("Krylov vectors", slab * (krylov + 4));
    // One mode product of each mode, each way; at most as many coefficients as points.
    let transform: f64 = n.iter().map(|m| (field * m) as f64).sum();
    let per_newton = (2 + 2 * jets + (krylov + 12) * (jacobian + 1)) as f64;
    plan.work = (solves * newton) as f64 * per_newton * transform;
    // Coefficients that cross ranks in one transform, and the small sums of GMRES.
    let largest: u64 = n.iter().copied().max().unwrap_or(1);
    let crossing = 8 * (field / n[0]).max(1) * n[0].div_ceil(ranks).max(1) * 2 + 8 * largest * ranks;
    let transforms = (8.0 + 14.0 * (jets + 2) as f64 + 5.0 * (krylov * (jacobian + 1)) as f64) as u64;
    let sums = 8 * (krylov + 4) * (krylov + 4) * 6 * ranks;
    if ranks > 1 {
        plan.bytes_sent_per_rank =
            (solves * newton + 2) * (transforms * crossing * 2 + sums + 64 * largest * ranks) + (1 << 20);
    }
    let output: u64 = (0..d).map(|a| points_along(spec, statement, a) as u64).product();
    plan.checkpoint_bytes = 2 * 8 * field + 16 * largest * d as u64 * 4;
    plan.result_bytes = 8 * output + 64 * largest * d as u64;
    plan
}
