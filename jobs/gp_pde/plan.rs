//! What a solve costs: memory, messages, floating-point operations, from extents alone.
//!
//! What one step or iteration costs is exact for given numbers of coefficients (`bytes`). How many there will be is not
//! known before the axes are factorised, nor how many iterations: memory and bytes are for the highest ceiling that the
//! job may try and for more iterations than any job file needs; notes say what is expected.

use std::collections::BTreeSet;

use convoke_cluster::machine::human_bytes;
use convoke_cluster::shard::RankGrid;
use convoke_cluster::workload::Resources;
use convoke_cluster::{Plan, Result};

use super::bytes::{Reads, Sender};
use super::collocation::{CONTINUATION, HELD_OUT, LADDER, REFINEMENTS, priors as priors_of};
use super::features::Prior;
use super::krylov::{GmresInfo, RESTART};
use super::layout::{Coefficients, MESSAGE, Place};
use super::output::points_along;
use super::share::{self, Kind};
use super::spec::Spec;
use super::statement::Statement;
use super::{choose_nodes, given_or_seen, output};

/// The program itself with its libraries and buffers: measured, rounded up.
pub const PROGRAM: u64 = 96 << 20;

/// How often a solve repeats its parts.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Effort {
    priors: u64,
    /// Newton steps for each prior; with the lengths that each tries, and its iterations of GMRES.
    steps: u64,
    trials: usize,
    iterations: usize,
    /// Set-ups of a prior, and whether each axis has the longer kind of factor.
    set_ups: u64,
    longest: bool,
}

/// What the job files need, in the middle: 2 to 8 steps of 2 to 18 iterations.
const EXPECTED: Effort = Effort { priors: 2, steps: 4, trials: 1, iterations: 5, set_ups: 1, longest: false };
/// What is paid for at most. A solve that needs more goes on, but the bill does not hold.
const MOST: Effort =
    // A prior that was worse makes its successor's set-up the second.
    Effort { priors: u64::MAX, steps: 12, trials: 3, iterations: 12, set_ups: 2, longest: true };

/// Coefficients that an axis is expected to have.
pub fn expected(statement: &Statement, priors: &[Prior]) -> Vec<usize> {
    let axes = statement.axes.iter().zip(priors);
    axes.map(|(axis, prior)| {
        let m = prior.frequencies.len();
        // Frequencies lie twice as close as functions on an interval can be told apart.
        let functions = if axis.periodic { 2 * m - 1 } else { m + ends(m) };
        functions.min(prior.n_features()).min(axis.points)
    })
    .collect()
}

/// Functions above rounding that the ends of an interval add to those of `m` half periods (Landau and Widom 1980:
/// `ln(1/ε²)/π² · ln m`, here for ε = 10⁻¹²).
fn ends(m: usize) -> usize {
    (5.6 * (m.max(2) as f64).ln()) as usize
}

/// The bill of collocation: of one window and one case, as often as there are windows and cases.
///
/// # Errors
/// [`convoke_cluster::BadValue`] for ceilings that cannot be.
pub fn collocation(spec: &Spec, whole: &Statement, seen: &[Option<f64>], resources: &Resources) -> Result<Plan> {
    let case = Case::of(spec, &whole.in_window(0), seen)?;
    let mut plan = case.bill(resources.ranks);
    let (windows, cases) = (whole.windows as u64, whole.cases.len() as u64);
    let d = whole.axes.len();
    let (field, longest) =
        (case.points.iter().product::<usize>() as u64, *case.points.iter().max().unwrap_or(&1) as u64);
    let output: u64 = (0..d).map(|a| points_along(spec, whole, a) as u64).product();
    let outputs = cases * output * whole.outputs.len() as u64;
    // Results are evaluated in the last step of a window, together with its successor's start.
    let tests: u64 = output::test_points(whole, usize::MAX).iter().map(|x| x.len() as u64).product();
    let lines: u64 = REFINEMENTS * case.points.iter().map(|n| 2 * (n * n) as u64).sum::<u64>();
    let collected = 8 * windows * cases * (output * whole.outputs.len() as u64 + tests + 16 * field + lines);
    plan.steps *= windows;
    plan.work *= (windows * cases) as f64;
    if resources.ranks > 1 {
        plan.bytes_sent_per_rank = windows * cases * plan.bytes_sent_per_rank + collected;
        let expected = human_bytes(expected_bytes(spec, whole, seen, resources.ranks)?);
        plan.notes.push(format!("{expected} from a rank are expected to be sent in the whole run"));
    }
    plan.holds("results", 8 * outputs.div_ceil(resources.ranks as u64) * if whole.exact().is_some() { 2 } else { 1 });
    if cases > 1 {
        plan.holds(format!("fields of {} more cases", cases - 1), 8 * 4 * (cases - 1) * field);
    }
    plan.checkpoint_bytes = 2 * 8 * cases * field + 16 * longest * d as u64 * 4 + 8 * outputs;
    plan.result_bytes = 8 * outputs * if whole.exact().is_some() { 2 } else { 1 } + 64 * longest * d as u64 + (1 << 16);
    Ok(plan)
}

/// Payload bytes that the busiest rank is expected to send: what the job files need, in the middle.
///
/// # Errors
/// As [`collocation`].
pub fn expected_bytes(spec: &Spec, whole: &Statement, seen: &[Option<f64>], ranks: usize) -> Result<u64> {
    let case = Case::of(spec, &whole.in_window(0), seen)?;
    let places = case.places(case.grid(ranks));
    Ok((whole.windows * whole.cases.len()) as u64 * case.usually(&places))
}

/// A prior's extents, by axis.
#[derive(Debug, Clone, PartialEq)]
struct Extents {
    frequencies: Vec<usize>,
    features: Vec<usize>,
    /// Coefficients, expected.
    coefficients: Vec<usize>,
}

/// All that a bill depends on.
#[derive(Debug, Clone)]
struct Case {
    /// Nodes along each mode; a single axis has a second mode of extent 1.
    points: Vec<usize>,
    /// Points at which the residual is held out.
    held_out: Vec<usize>,
    /// Highest derivative along each axis, and conditions at its ends.
    orders: Vec<usize>,
    conditions: Vec<usize>,
    reads: Reads,
    /// The priors that are tried, by rising ceiling; then new weights for one of them.
    rungs: Vec<Extents>,
    sweeps: u64,
    /// Newton steps under each, at most.
    steps: u64,
}

impl Case {
    fn of(spec: &Spec, statement: &Statement, seen: &[Option<f64>]) -> Result<Self> {
        let ceilings = given_or_seen(spec, statement, seen)?;
        let nodes: Vec<_> = statement.axes.iter().zip(&statement.boxes).zip(&ceilings).map(choose_nodes).collect();
        let extents = |rung: usize| {
            let priors = priors_of(spec, statement, &nodes, &ceilings, rung);
            Extents {
                frequencies: priors.iter().map(|p| p.frequencies.len()).collect(),
                features: priors.iter().map(Prior::n_features).collect(),
                coefficients: expected(statement, &priors),
            }
        };
        // A rung that adds no frequency is not tried, nor any after it.
        let mut rungs = vec![extents(0)];
        while spec.prior.ceiling_factor.is_none() && rungs.len() < LADDER.len() {
            let next = extents(rungs.len());
            if rungs.last() == Some(&next) {
                break;
            }
            rungs.push(next);
        }
        let mut points: Vec<usize> = statement.axes.iter().map(|a| a.points).collect();
        let most = HELD_OUT[points.len() - 1];
        let mut held_out: Vec<usize> = points.iter().map(|n| (n - 1).min(most)).collect();
        if points.len() == 1 {
            points.push(1);
            held_out.push(1);
        }
        let equation = &statement.equation;
        let orders = equation.max_orders();
        let conditions =
            orders.iter().zip(&statement.axes).map(|(o, axis)| if axis.periodic { 0 } else { *o }).collect();
        let reads = Reads::of(equation);
        let steps = if equation.is_direct() { 1 } else { spec.solver.newton };
        Ok(Self { points, held_out, orders, conditions, reads, rungs, sweeps: spec.solver.sweeps, steps })
    }

    fn first(&self) -> &Extents {
        &self.rungs[0]
    }

    fn last(&self) -> &Extents {
        &self.rungs[self.rungs.len() - 1]
    }

    fn priors(&self) -> u64 {
        self.rungs.len() as u64 + self.repeats()
    }

    /// Solves under the extents of the highest ceiling: new weights, lines, and parts of the nonlinear terms.
    fn repeats(&self) -> u64 {
        self.sweeps + REFINEMENTS + if self.is_direct() { 0 } else { CONTINUATION + 2 }
    }

    fn is_direct(&self) -> bool {
        self.reads.jacobian == 0
    }

    /// Coefficients along each mode; operators of odd order have no real eigenvalues, so their modes stay whole.
    fn coefficients(&self, extents: &Extents) -> Coefficients {
        let mut whole: Vec<bool> = self.orders.iter().map(|o| o % 2 == 1).collect();
        let mut extents = extents.coefficients.clone();
        if extents.len() < self.points.len() {
            extents.push(1);
            whole.push(false);
        }
        Coefficients { extents, whole }
    }

    /// Bytes that a rank sends in its steps under one prior.
    fn sent(&self, place: Place, extents: &Extents, effort: Effort) -> u64 {
        let all = &self.coefficients(extents);
        let sender = Sender { place, points: &self.points, coefficients: all };
        let lengths: Vec<usize> =
            (0..extents.features.len()).map(|a| self.factor(extents, all, a, effort.longest)).collect();
        let step = match self.is_direct() {
            true => sender.down() + sender.up(),
            false => {
                sender.down()
                    + sender.newton(self.reads, &GmresInfo::of(effort.iterations), effort.trials)
                    + sender.up()
            }
        };
        effort.steps * step
            + effort.set_ups * sender.set_up(&lengths)
            + sender.held_out(self.reads, &self.held_out)
            + sender.reweighting(&extents.frequencies)
    }

    /// Numbers of the factor of an axis.
    fn factor(&self, extents: &Extents, all: &Coefficients, axis: usize, longest: bool) -> usize {
        let (n, p, r) = (self.points[axis], extents.features[axis], all.extents[axis]);
        let free = (r + self.conditions[axis]).min(n).min(p);
        let of = |kind: Kind| share::length(n, p, (r, free), self.conditions[axis], kind);
        match extents.features.len() {
            1 => of(Kind::Alone),
            _ if !longest => of(if all.whole[axis] { Kind::Schur } else { Kind::Eigenvectors }),
            _ => of(Kind::Schur).max(of(Kind::Eigenvectors)),
        }
    }

    /// Multiply-adds of one way between coefficients and a field, all ranks together.
    fn way(&self, all: &Coefficients) -> f64 {
        let mut shape: Vec<f64> = all.extents.iter().map(|r| *r as f64).collect();
        let last = all.last();
        let mut sum = 0.0;
        for mode in [0, last].into_iter().chain(1..last) {
            sum += shape.iter().product::<f64>() * self.points[mode] as f64;
            shape[mode] = self.points[mode] as f64;
        }
        sum
    }

    /// One rank of each kind: parts differ by one item at most, and the first ranks have the larger ones and the axes'
    /// set-ups.
    fn places(&self, grid: RankGrid) -> Vec<Place> {
        let mut kinds = BTreeSet::new();
        let places = (0..grid.slabs * grid.groups).map(|rank| Place { grid, rank });
        let coefficients: Vec<Coefficients> = self.rungs.iter().map(|rung| self.coefficients(rung)).collect();
        places
            .filter(|place| {
                let parts = coefficients.iter().flat_map(|all| place.coefficients(all));
                let extents = place.field(&self.points).into_iter().chain(parts).map(|part| part.len());
                kinds.insert((place.rank.min(self.orders.len()), extents.collect::<Vec<_>>()))
            })
            .collect()
    }

    fn grid(&self, ranks: usize) -> RankGrid {
        Place::grid(ranks, &self.points[..self.orders.len()], &self.first().coefficients)
    }

    fn usual(&self) -> Effort {
        Effort { priors: self.priors().min(EXPECTED.priors), steps: self.steps.min(EXPECTED.steps), ..EXPECTED }
    }

    /// Bytes that the busiest of these ranks is expected to send.
    fn usually(&self, places: &[Place]) -> u64 {
        let usual = self.usual();
        places.iter().map(|place| usual.priors * self.sent(*place, self.first(), usual)).max().unwrap_or(0)
    }

    fn bill(&self, ranks: usize) -> Plan {
        let grid = self.grid(ranks);
        let places = self.places(grid);
        let mut plan = Plan { steps: self.priors() * self.steps, work_unit: "multiply-adds", ..Plan::default() };
        self.memory(&places, &mut plan);
        let most = Effort { priors: self.priors(), steps: self.steps.min(MOST.steps), ..MOST };
        let all_priors = |place: &Place| {
            let rungs: u64 = self.rungs.iter().map(|rung| self.sent(*place, rung, most)).sum();
            rungs + self.repeats() * self.sent(*place, self.last(), most)
        };
        plan.bytes_sent_per_rank = places.iter().map(all_priors).max().unwrap_or(0);
        let usual = self.usual();
        let all = self.coefficients(self.first());
        let way = self.way(&all);
        let ways = match self.is_direct() {
            true => 2,
            false => {
                let Reads { rest, jacobian, .. } = self.reads;
                2 + (1 + EXPECTED.trials) * (rest + 1) + EXPECTED.iterations * (jacobian + 1)
            }
        };
        plan.work = (usual.priors * usual.steps * ways as u64) as f64 * way;
        let product = |extents: &[usize]| extents.iter().map(usize::to_string).collect::<Vec<_>>().join(" × ");
        plan.notes.push(format!(
            "about {} coefficients at first, {} under the highest ceiling",
            product(&self.first().coefficients),
            product(&self.last().coefficients),
        ));
        if ranks > 1 {
            let chunks = places[0].chunks(&self.points, &all, MESSAGE);
            plan.notes.push(format!("{} slabs of {} rank(s), {chunks} chunk(s) of a field", grid.slabs, grid.groups));
        }
        let sender = |place: &Place| Sender { place: *place, points: &self.points, coefficients: &all };
        let unit = if self.is_direct() { "prior" } else { "GMRES iteration" };
        let each = |place: &Place| match self.is_direct() {
            true => sender(place).down() + sender(place).up(),
            false => sender(place).jacobian(self.reads),
        };
        plan.notes
            .push(format!("a {unit} sends {} from a rank", human_bytes(places.iter().map(each).max().unwrap_or(0))));
        let counts = match self.is_direct() {
            true => format!("{} priors", usual.priors),
            false => {
                format!("{} priors of {} steps of {} iterations", usual.priors, usual.steps, usual.iterations)
            }
        };
        plan.notes.push(format!(
            "work is for {counts}, the bound on bytes for {} of {} of {}",
            most.priors, most.steps, most.iterations,
        ));
        plan
    }

    /// What the fullest rank holds at its peak, under the highest ceiling.
    fn memory(&self, places: &[Place], plan: &mut Plan) {
        let all = self.coefficients(self.last());
        let most = |of: &dyn Fn(&Place) -> usize| 8 * places.iter().map(of).max().unwrap_or(0) as u64;
        let length = |parts: Vec<std::ops::Range<usize>>| parts.iter().map(ExactSizeIterator::len).product::<usize>();
        let field = most(&|place| length(place.field(&self.points)));
        let vector = most(&|place| length(place.coefficients(&all)));
        let message = most(&|place| {
            let (slab, group) = place.grid.place(place.rank);
            let columns: usize = (0..place.grid.slabs).map(|s| all.columns(s, group, place.grid)).sum();
            let rows = self.points[0].div_ceil(place.grid.slabs);
            (rows * columns).max(self.points[0] * all.columns(slab, group, place.grid))
        });
        plan.holds("program and libraries", PROGRAM);
        plan.holds("bases of the axes", 8 * self.bases(&all) as u64);
        let faces: usize = self
            .conditions
            .iter()
            .zip(&self.points)
            .map(|(c, n)| c * (self.points.iter().product::<usize>() / n))
            .sum();
        plan.holds("data of the conditions", 3 * 8 * faces as u64);
        let Reads { rest, jacobian, .. } = self.reads;
        // The iterate, the best so far and a copy; the lift and its operator; and what a step has beside them.
        let fields = if self.is_direct() { 5 + 5 } else { 5 + rest + jacobian + (rest + jacobian + 2).max(4) };
        plan.holds(format!("{fields} fields"), fields as u64 * field);
        plan.holds("messages", if places.len() > 1 { 3 * message } else { message });
        let vectors = if self.is_direct() { 3 } else { RESTART as u64 + 8 };
        plan.holds(format!("{vectors} vectors of coefficients"), vectors * vector);
    }

    /// Numbers of all axes' factors, of the matrices made from them, and of a decomposition under way.
    fn bases(&self, all: &Coefficients) -> usize {
        let axes = 0..self.orders.len();
        let each = axes.map(|a| {
            let (n, p, r) = (self.points[a], self.last().features[a], all.extents[a]);
            let at = (self.orders[a] + 1) * n * (r + r + self.conditions[a]);
            (self.factor(self.last(), all, a, true), 2 * n * r + 3 * at, 8 * n.max(p) * p)
        });
        let (mut sum, mut workspace) = (0, 0);
        for (factor, matrices, decomposition) in each {
            sum += 2 * factor + matrices;
            workspace = workspace.max(decomposition);
        }
        sum + workspace
    }
}

#[cfg(test)]
mod tests;
