//! What a posterior costs: memory, messages, multiply-adds, from extents alone.

use convoke_cluster::machine::human_bytes;
use convoke_cluster::workload::Resources;
use convoke_cluster::{Plan, Result};

use super::{CYCLES, HALVINGS, Method, PROBES, check_size};
use crate::gp_pde::bytes::sum_bytes;
use crate::gp_pde::output::points_along;
use crate::gp_pde::perturbed;
use crate::gp_pde::plan::PROGRAM;
use crate::gp_pde::spec::Spec;
use crate::gp_pde::statement::Statement;

/// Iterations of one solve that are expected: an equation that is met to a few per cent of its terms.
const EXPECTED: u64 = 200;

/// What both bills depend on.
struct Extents<'a> {
    spec: &'a Spec,
    statement: &'a Statement,
    /// Functions along each axis, at most, and of all axes with the unknown constants.
    functions: Vec<u64>,
    n: u64,
    ranks: u64,
    /// Nodes and drawn observations of one rank, at most.
    nodes: u64,
    drawn: u64,
    newton: u64,
}

/// The bill of a posterior over at most so many functions along each axis.
///
/// # Errors
/// Where it would be too large.
pub fn posterior(spec: &Spec, statement: &Statement, functions: Vec<usize>, resources: &Resources) -> Result<Plan> {
    let ranks = resources.ranks as u64;
    let nodes: Vec<u64> = statement.axes.iter().map(|a| a.points as u64).collect();
    let n = functions.iter().map(|n| *n as u64).product::<u64>() + spec.unknowns.len() as u64;
    let method = spec.method(n as usize);
    check_size(n as usize, method)?;
    let extents = Extents {
        spec,
        statement,
        functions: functions.iter().map(|n| *n as u64).collect(),
        n,
        ranks,
        nodes: nodes[1..].iter().product::<u64>() * nodes[0].div_ceil(ranks),
        drawn: spec.observations.iter().filter_map(|o| o.count).map(|n| n as u64).sum(),
        newton: if statement.linearisation.is_linear { 1 } else { spec.solver.newton },
    };
    let mut plan = Plan { work_unit: "multiply-adds", ..Plan::default() };
    plan.holds("program and libraries", PROGRAM);
    match method {
        Method::Direct => extents.direct(&mut plan),
        Method::Iterative => extents.iterative(&mut plan),
    }
    let output: u64 = (0..statement.axes.len()).map(|a| points_along(spec, statement, a) as u64).product();
    let samples = spec.posterior.as_ref().map_or(0, |p| p.samples) as u64;
    plan.checkpoint_bytes = 8 * n + (1 << 20);
    plan.result_bytes = 8 * output * (2 * statement.outputs.len() as u64 + samples) + (1 << 20);
    Ok(plan)
}

impl Extents<'_> {
    fn sweeps(&self, most: u64) -> u64 {
        let given = |name: &String| self.spec.prior.components.iter().any(|c| c.axis == *name);
        let learned = self.statement.axes.iter().filter(|a| !given(&a.name)).count() as u64;
        self.spec.posterior.as_ref().map_or(0, |p| p.sweeps).min(most) * learned
    }

    fn direct(&self, plan: &mut Plan) {
        let Self { n, ranks, .. } = *self;
        let rows = self.nodes + self.drawn;
        plan.steps = (self.sweeps(u64::MAX) + 2) * self.newton;
        plan.holds("rows of equation and observations", 8 * rows * n * 4);
        plan.holds("triangular factors", 8 * (n + 1) * (n + 1) * (2 * ranks.min(4) + 4));
        plan.work = plan.steps as f64 * (2 * (rows * ranks + n) * n * n) as f64;
        if ranks > 1 {
            let factor = 8 * (n + 1) * rows.min(n + 1) * (ranks - 1);
            plan.bytes_sent_per_rank = plan.steps * (factor + 64 * ranks * (HALVINGS as u64 + 4)) + (1 << 20);
        }
    }

    fn iterative(&self, plan: &mut Plan) {
        let Self { n, ranks, nodes, .. } = *self;
        let (spec, axes) = (self.spec, &self.statement.axes);
        let sweeps = self.sweeps(CYCLES);
        plan.steps = (sweeps + 1) * self.newton;
        let samples = spec.posterior.as_ref().map_or(0, |p| p.samples);
        let draws = spec.draws().max(samples) as u64;
        let jets = &self.statement.linearisation.jets;
        let outputs = self.statement.outputs.len() as u64;
        // Basis, its decomposition under way, functions and their transposes at the nodes, eigenvectors.
        let bases: u64 = (0..axes.len())
            .map(|a| {
                let orders = 1 + jets.iter().map(|j| j[a]).max().unwrap_or(0) as u64;
                let (points, p) = (axes[a].points as u64, self.functions[a]);
                8 * (8 * orders * points * p + 10 * p * p)
            })
            .sum();
        plan.holds("bases of the axes", bases);
        plan.holds("vectors of coefficients", 8 * (16 + PROBES as u64) * n);
        // On the way between coefficients and nodes, both kinds of extents mix.
        let between: u64 = axes.iter().zip(&self.functions).map(|(axis, p)| (axis.points as u64).max(*p)).product();
        plan.holds("fields", 8 * (nodes * (2 * jets.len() as u64 + spec.unknowns.len() as u64 + 8) + 2 * between));
        let last = self.functions.last().copied().unwrap_or(1);
        let row = n / last + 3 * self.functions.iter().sum::<u64>();
        plan.holds("rows of observations", 8 * self.drawn.div_ceil(ranks) * 3 * row);
        let others: Vec<usize> = (0..axes.len()).filter(|a| !axes[*a].periodic).collect();
        if others.len() <= 1 {
            // A factor for each pair of waves, of real and imaginary parts.
            let along = self.functions[others.first().copied().unwrap_or(0)];
            plan.holds("factors of waves", 8 * (n / along / 2 + 1).div_ceil(ranks) * 4 * along * along);
        }
        let output: u64 = (0..axes.len()).map(|a| points_along(spec, self.statement, a) as u64).product();
        plan.holds("results", 8 * output.div_ceil(ranks) * (4 * outputs + 2 * samples as u64));
        let solves = plan.steps + sweeps * PROBES as u64 + draws + spec.unknowns.len() as u64;
        let mut way = 0;
        let mut shape: Vec<u64> = self.functions.clone();
        for (a, axis) in axes.iter().enumerate() {
            way += shape.iter().product::<u64>() * axis.points as u64;
            shape[a] = axis.points as u64;
        }
        let turn = n * self.functions.iter().sum::<u64>();
        let iteration = 2 * way * jets.len() as u64 + 2 * turn * ranks + 2 * self.drawn * n;
        plan.work = (solves * EXPECTED * iteration) as f64;
        plan.notes.push(format!(
            "more than {} coefficients, or asked for: found by iterations, deviations from {draws} draws unless waves are \
             independent; no evidence, {sweeps} re-weightings",
            super::MOST_DIRECT
        ));
        let sum = sum_bytes(n as usize, 0, ranks as usize);
        let each = sum + 2 * sum_bytes(1, 0, ranks as usize);
        if ranks > 1 {
            let squares: usize = self.functions.iter().map(|p| (p * p) as usize).sum();
            let set_up = (4 + jets.len() as u64) * sum_bytes(squares, 0, ranks as usize) + 3 * sum;
            let steps = (plan.steps + sweeps + 1) * (set_up + 64 * ranks * (HALVINGS as u64 + 4));
            plan.bytes_sent_per_rank = solves * (perturbed::MOST as u64 + 1) * each + steps + (1 << 20);
        }
        plan.notes.push(format!(
            "an iteration sends {} from a rank; expected: {solves} solves of {EXPECTED} iterations, {} sent; the bound on \
             bytes is for {} iterations of each",
            human_bytes(each),
            human_bytes(solves * EXPECTED * each),
            perturbed::MOST,
        ));
    }
}
