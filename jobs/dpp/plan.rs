//! What designs cost: memory, messages, operations.

use convoke_cluster::Plan;
use convoke_cluster::workload::Resources;

use super::design::{Law, Recipe};
use super::experiment::FIGURES;
use super::output;
use super::spec::Spec;

/// The program itself with its libraries and buffers: measured, rounded up.
pub(super) const PROGRAM: u64 = 96 << 20;
/// Steps of a job with many replicas.
const STEPS: u64 = 20;
/// Replicas of a step where there are so many: work for as many ranks or threads.
const TOGETHER: u64 = 8;

/// Functions from which a sample is worth several ranks or threads.
pub(super) const TOGETHER_FROM: usize = 512;

/// What a job draws from, as far as its price goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sizes {
    /// m.
    pub functions: usize,
    /// Coordinates of a point.
    pub dimension: usize,
    /// N of a pool.
    pub atoms: Option<usize>,
    /// Points of earlier designs.
    pub stay: usize,
}

/// Rows of the table.
pub(super) fn replicas(spec: &Spec) -> u64 {
    let copies = spec.design.as_ref().map_or(1, |d| d.copies);
    spec.experiment.as_ref().map_or(copies, |e| e.replicates)
}

/// Steps of one design that is too large for a step.
pub(super) fn slices(spec: &Spec, m: usize, recipes: &[Recipe]) -> Option<u64> {
    let design = spec.design.as_ref().filter(|_| spec.pool.is_none())?;
    let slices = (flops(m, recipes) / design.step_flops).ceil() as u64;
    (slices > 1).then_some(slices)
}

/// Rows of one step: fixed by the job, so that steps do not depend on the ranks.
pub(super) fn batch(spec: &Spec, m: usize, recipes: &[Recipe]) -> u64 {
    if slices(spec, m, recipes).is_some() {
        return 1;
    }
    replicas(spec).div_ceil(STEPS).max(TOGETHER).min(replicas(spec))
}

/// Whether all ranks and threads draw each sample of a space together, instead of a design each.
pub(super) fn together(spec: &Spec, m: usize, recipes: &[Recipe], resources: &Resources) -> bool {
    let lanes = (resources.ranks * resources.threads) as u64;
    let few = slices(spec, m, recipes).is_some() || 2 * batch(spec, m, recipes) <= lanes;
    spec.design.is_some() && spec.pool.is_none() && m >= TOGETHER_FROM && lanes > 1 && few
}

/// Columns of the table.
pub(super) fn columns(spec: &Spec, sizes: Sizes, recipes: &[Recipe]) -> usize {
    match spec.experiment {
        Some(_) => recipes.len() * FIGURES,
        None => recipes.iter().map(|r| output::columns(r.n, sizes.dimension)).sum(),
    }
}

/// Samples of the process and points that one design of a recipe takes.
fn effort(recipe: &Recipe, m: usize) -> (f64, f64) {
    let n = recipe.n as f64;
    match recipe.law {
        Law::Iid => (0.0, n),
        Law::Dpp | Law::Volume => (1.0, n),
        Law::Repeated => (recipe.n.div_ceil(m) as f64, n),
        Law::Greedy { pool } | Law::Bss { pool } => (pool as f64, (pool * m) as f64),
        Law::Boosted { tries } => (0.0, n * tries as f64),
    }
}

/// Samples of the process that a design takes; they are of its first parts.
pub(super) fn samples(recipe: &Recipe, m: usize) -> u64 {
    effort(recipe, m).0 as u64
}

/// Points of all samples that a design takes.
pub(super) fn drawn(recipe: &Recipe, m: usize) -> f64 {
    (effort(recipe, m).0 * m as f64).max(1.0)
}

/// Flops of one replica: 4 m³ for each sample of the process, 4 N m² for the decomposition of each N points, and a pass over
/// the points for each one that a greedy choice deletes. Redraws are not foreseen.
pub(super) fn flops(functions: usize, recipes: &[Recipe]) -> f64 {
    let m = functions as f64;
    let one = |recipe: &Recipe| {
        let (samples, points) = effort(recipe, functions);
        let deleted = if matches!(recipe.law, Law::Greedy { .. }) { points - recipe.n as f64 } else { 0.0 };
        // A decomposition and a few hundred candidates for each point.
        let barriers =
            if matches!(recipe.law, Law::Bss { .. }) { recipe.n as f64 * (9.0 * m + 400.0) * m * m } else { 0.0 };
        barriers + 4.0 * samples * m.powi(3) + 4.0 * points * m * m + 4.0 * deleted * points * m
    };
    recipes.iter().map(one).sum()
}

/// The bill; `stay` points of earlier designs are there already.
pub(super) fn plan(spec: &Spec, sizes: Sizes, recipes: &[Recipe], resources: &Resources) -> Plan {
    let (m, ranks) = (sizes.functions as u64, resources.ranks as u64);
    let (replicas, batch) = (replicas(spec), batch(spec, sizes.functions, recipes));
    let table = replicas * columns(spec, sizes, recipes) as u64 * 8;
    let slices = slices(spec, sizes.functions, recipes);
    let steps = replicas.div_ceil(batch) * slices.unwrap_or(1);
    let most = recipes.iter().map(|r| effort(r, sizes.functions).1.max(r.n as f64) as u64).max().unwrap_or(0);
    // Features of the points, of a decomposition and of its factor Q.
    let (sampler, points) = (3 * 8 * m * m, 4 * 8 * (most.min(1 << 40) + sizes.stay as u64) * m);
    let threads = resources.threads as u64;
    let together = together(spec, sizes.functions, recipes, resources);
    let at_once = if batch > 1 && !together { threads } else { 1 };
    let mut plan = Plan {
        steps,
        work: replicas as f64 * flops(sizes.functions, recipes),
        work_unit: "flop",
        // The busiest rank's rows of every step to all others, the flags of each step, and the results' headers.
        bytes_sent_per_rank: (steps * (batch.div_ceil(ranks) * (table / replicas) + 1024) + (1 << 16))
            * (ranks - 1).max(1),
        checkpoint_bytes: table + if slices.is_some() { 8 * (most + m) } else { 0 } + (1 << 16),
        result_bytes: 3 * table + (1 << 20),
        ..Plan::default()
    };
    plan.holds("program and libraries", PROGRAM);
    plan.holds(format!("bases of a sampler for {m} functions"), at_once * sampler);
    if together {
        plan.holds("turning the bases", threads * 8 * m * m);
        let samples: f64 = recipes.iter().map(|recipe| effort(recipe, sizes.functions).0).sum();
        plan.bytes_sent_per_rank += (samples * replicas as f64 * sent(m as f64, sizes.dimension as f64)) as u64;
        plan.notes.push("all ranks and threads draw each sample together".to_owned());
    }
    plan.holds("features of designs", at_once * points);
    plan.holds("table of all replicas", 3 * table);
    match sizes.atoms {
        None => plan.notes.push(format!("{m} functions of {} variables", sizes.dimension)),
        Some(atoms) => pool(&mut plan, atoms as u64, m, recipes, replicas, ranks),
    }
    if let (None, [recipe]) = (&spec.experiment, recipes) {
        let (holds, given_up) = recipe.guarantees(sizes.functions);
        plan.notes.push(format!("holds: {holds}"));
        if !given_up.is_empty() {
            plan.notes.push(format!("given up: {given_up}"));
        }
    }
    plan
}

/// Bytes that a rank sends for one sample, more than which has a chance of 1e-8: coordinates of m H_m candidates in bases of up to m/2
/// columns (2.4 m² numbers on average, a third of that for the turn to the complement), candidates and their lengths.
fn sent(m: f64, dimension: f64) -> f64 {
    let candidates = m * (10.0 + 20.0 * m.ln()) + 6000.0;
    8.0 * (5.0 * m * m + 8192.0 * (0.5 * m + 64.0) + candidates * (dimension + 4.0))
}

/// What a pool adds to the bill: all ranks draw every design together.
fn pool(plan: &mut Plan, atoms: u64, m: u64, recipes: &[Recipe], replicas: u64, ranks: u64) {
    let all = 8 * atoms * m;
    plan.holds("features of this rank's atoms", 3 * all.div_ceil(ranks) + 8 * m * m);
    plan.work += 8.0 * atoms as f64 * (m as f64).powi(2);
    // A sample looks at m H_m candidates on average, and at m (10 + 20 ln m) + 1000 with a chance of 1e-8.
    let looked = |recipe: &Recipe| {
        let (samples, points) = effort(recipe, m as usize);
        let candidates = m as f64 * (10.0 + 20.0 * (m as f64).ln()) + 6000.0;
        (samples * candidates + 2.0 * points) as u64
    };
    let rows: u64 = recipes.iter().map(looked).sum::<u64>() * replicas;
    let factors = 2 * 8 * m * m * (64 + ranks);
    plan.bytes_sent_per_rank += (rows * 8 * (m + 2) + factors + 64 * rows + 8 * atoms) * (ranks - 1).max(1);
    plan.notes.push(format!("{m} functions on {atoms} atoms"));
}
