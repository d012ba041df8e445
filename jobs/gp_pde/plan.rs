//! What a solve costs: memory, messages, floating-point operations.

use convoke_cluster::Plan;
use convoke_cluster::workload::Resources;

use super::LADDER;
use super::features::Prior;
use super::spec::Spec;
use super::statement::Statement;

/// The program itself with its libraries and buffers: measured, rounded up.
const PROGRAM: u64 = 96 << 20;
/// Functions above rounding that the ends of an interval add to those of `m` half periods (Landau and Widom 1980:
/// `ln(1/ε²)/π² · ln m`, here for ε = 10⁻¹² and with the constant measured).
fn ends(m: usize) -> usize {
    (5.6 * (m.max(2) as f64).ln()) as usize
}

/// GMRES iterations of one Newton step that are priced.
const KRYLOV: u64 = 60;

/// Coefficients that an axis is expected to have: frequencies lie twice as close as functions on an interval can be told
/// apart, and its ends add a few.
pub fn expected(statement: &Statement, priors: &[Prior]) -> Vec<usize> {
    let axes = statement.axes.iter().zip(priors);
    axes.map(|(axis, prior)| {
        let m = prior.frequencies.len();
        let functions = if axis.periodic { 2 * m - 1 } else { m + ends(m) };
        functions.min(prior.n_features()).min(axis.points)
    })
    .collect()
}

/// Equidistant points of the result along an axis of the statement.
pub fn output_points(spec: &Spec, statement: &Statement, axis: usize) -> usize {
    let given = spec.output.points.as_ref().map(|points| points[statement.order[axis]]);
    given.unwrap_or(statement.axes[axis].points)
}

/// The bill of a whole run.
pub fn plan(
    spec: &Spec,
    statement: &Statement,
    _seen: &[Option<f64>],
    resources: &Resources,
) -> convoke_cluster::Result<Plan> {
    let n: Vec<u64> = statement.axes.iter().map(|a| a.points as u64).collect();
    let d = n.len();
    let ranks = resources.ranks as u64;
    let field: u64 = n.iter().product();
    let rows = n[0].div_ceil(ranks);
    let slab = 8 * field / n[0] * rows;
    let direct = statement.equation.is_direct();
    let solves = LADDER.len() as u64 + spec.solver.sweeps + 1;
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
    let output: u64 = (0..d).map(|a| output_points(spec, statement, a) as u64).product();
    plan.checkpoint_bytes = 2 * 8 * field + 16 * largest * d as u64 * 4;
    plan.result_bytes = 8 * output + 64 * largest * d as u64;
    Ok(plan)
}
