//! Bytes that one rank sends, by formula: what a run counts equals it (tests below, and in `transforms` and `krylov`).

use convoke_cluster::comm::shared_bytes;
use convoke_cluster::shard::block;

use super::equation::Equation;
use super::krylov::GmresInfo;
use super::layout::{Coefficients, Place};

/// One rank of a solve.
#[derive(Debug, Clone)]
pub struct Sender<'a> {
    /// Its part.
    pub place: Place,
    /// Nodes along each mode.
    pub points: &'a [usize],
    /// All coefficients.
    pub coefficients: &'a Coefficients,
}

/// How many derivatives of the unknown an equation reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reads {
    /// In what is not inverted exactly.
    pub rest: usize,
    /// In the products of its Jacobian.
    pub jacobian: usize,
    /// In the whole equation.
    pub residual: usize,
}

impl Reads {
    /// Those of an equation.
    pub fn of(equation: &Equation) -> Self {
        Self {
            rest: equation.rest.jets.len(),
            jacobian: equation.jacobian_of.len(),
            residual: equation.residual.jets.len(),
        }
    }
}

/// Bytes that `rank` sends in a sum of `n` numbers over `ranks`.
pub fn sum_bytes(n: usize, rank: usize, ranks: usize) -> u64 {
    if ranks == 1 {
        return 0;
    }
    // As `Comm::all_sum`: long ones are scattered, then gathered.
    if 8 * n <= 4096 {
        return (8 * n * (ranks - 1)) as u64;
    }
    let own = block(n, rank, ranks).len();
    (8 * (n - own + own * (ranks - 1))) as u64
}

impl Sender<'_> {
    fn ranks(&self) -> usize {
        self.place.grid.slabs * self.place.grid.groups
    }

    /// A sum of `n` numbers over all ranks.
    pub fn sum(&self, n: usize) -> u64 {
        sum_bytes(n, self.place.rank, self.ranks())
    }

    /// One field from coefficients, at the nodes.
    pub fn up(&self) -> u64 {
        self.up_at(self.points)
    }

    /// One field from coefficients, at other points.
    pub fn up_at(&self, points: &[usize]) -> u64 {
        self.place.bytes_up(points, self.coefficients)
    }

    /// Coefficients from one field.
    pub fn down(&self) -> u64 {
        self.place.bytes_down(self.points, self.coefficients)
    }

    /// The Jacobian applied to a vector.
    pub fn jacobian(&self, reads: Reads) -> u64 {
        reads.jacobian as u64 * self.up() + self.down()
    }

    /// A solve by GMRES.
    pub fn gmres(&self, reads: Reads, info: &GmresInfo) -> u64 {
        info.reduction_bytes(self.ranks()) + info.applications() as u64 * self.jacobian(reads)
    }

    /// The equation's residual in coefficients.
    pub fn residual(&self, reads: Reads) -> u64 {
        reads.rest as u64 * self.up() + self.down()
    }

    /// A step of Newton's method that tried `trials` lengths.
    pub fn newton(&self, reads: Reads, info: &GmresInfo, trials: usize) -> u64 {
        // The slopes are those of the derivatives that the residual reads.
        let before = self.sum(2) + self.residual(reads) + 2 * self.sum(1);
        let trial = self.residual(reads) + 2 * self.sum(1);
        before + self.gmres(reads, info) + trials as u64 * trial
    }

    /// The residual held out at these points.
    pub fn held_out(&self, reads: Reads, points: &[usize]) -> u64 {
        reads.residual as u64 * self.up_at(points) + self.sum(2 + reads.residual)
    }

    /// The set-up: factors of the axes of these lengths (in numbers), and the extreme eigenvalues.
    pub fn set_up(&self, lengths: &[usize]) -> u64 {
        let ranks = self.ranks();
        let list = |rank: usize| lengths.iter().skip(rank).step_by(ranks).sum();
        let lists: Vec<usize> = (0..ranks).map(list).collect();
        shared_bytes(&lists, self.place.rank, 8) + self.sum(2)
    }

    /// New weights from the field, given the number of frequencies of each axis.
    pub fn reweighting(&self, frequencies: &[usize]) -> u64 {
        self.whole_modes() + frequencies.iter().map(|m| self.sum(*m)).sum::<u64>()
    }

    /// The field's products with itself along each of these axes, in which lines are looked for.
    pub fn lines(&self, axes: usize) -> u64 {
        self.whole_modes() + self.points[..axes].iter().map(|n| self.sum(n * n)).sum::<u64>()
    }

    /// A field at these points, on every rank.
    pub fn gathered(&self, points: &[usize]) -> u64 {
        let mine: usize = self.place.field(points).iter().map(ExactSizeIterator::len).product();
        (8 * mine * (self.ranks() - 1)) as u64
    }

    /// The field dealt out anew for each axis, so that it is whole along it.
    fn whole_modes(&self) -> u64 {
        let (slab, group) = self.place.grid.place(self.place.rank);
        let parts = self.place.field(self.points);
        let mine: usize = parts.iter().map(ExactSizeIterator::len).product();
        let mut sent = 0;
        if self.place.grid.slabs > 1 {
            let row = mine / parts[0].len().max(1);
            sent += parts[0].len() * (row - block(row, slab, self.place.grid.slabs).len());
        }
        if let Some(last) = parts.last().filter(|_| self.place.grid.groups > 1) {
            let lines = mine / last.len().max(1);
            sent += last.len() * (lines - block(lines, group, self.place.grid.groups).len());
        }
        8 * sent as u64
    }
}

#[cfg(test)]
mod tests {
    use convoke_cluster::comm::run_threads;
    use convoke_cluster::shard::RankGrid;
    use convoke_cluster::workload::Inputs;
    use convoke_kernels::{Buffer, Device};

    use super::*;
    use crate::gp_pde::collocation::priors;
    use crate::gp_pde::field::whole_mode;
    use crate::gp_pde::layout::Layout;
    use crate::gp_pde::solve::Solver;
    use crate::gp_pde::spec::{Nodes, Spec};
    use crate::gp_pde::spectrum;
    use crate::gp_pde::statement::Statement;

    fn statement(equation: &str, axes: &str) -> (Spec, Statement) {
        let axes: Vec<String> = axes
            .chars()
            .zip([14, 11, 12])
            .map(|(a, n)| format!("[[axes]]\nname = \"{a}\"\nto = 1.0\npoints = {n}\n"))
            .collect();
        let text = format!(
            "equation = \"{equation}\"\nmanufactured = \"sin(3*x)*cos(2*y)+y\"\n{}[[conditions]]\nat = \
             \"boundary\"\nequation = \"u\"\n",
            axes.concat()
        );
        let spec: Spec = toml::from_str(&text).unwrap();
        let statement = Statement::read(&spec, &Inputs { base: ".".into() }).unwrap();
        (spec, statement)
    }

    /// Everything that a step is made of, on slabs and pencils, in two and three axes: to the byte.
    #[test]
    fn a_run_sends_what_the_formulas_say() {
        let cases = [
            ("u_xx + u_yy + u*(u^2 - 1)", "xy", &[(2, 1), (3, 1), (5, 1)][..]),
            ("u_xx + u_yy + u_zz + u*u_x", "xyz", &[(2, 1), (3, 1), (5, 1), (2, 2), (3, 2)][..]),
        ];
        for (equation, axes, grids) in cases {
            let (spec, statement) = statement(equation, axes);
            for (slabs, groups) in grids.iter().copied() {
                let results = run_threads(slabs * groups, |comm| {
                    let nodes = vec![Nodes::Chebyshev; axes.len()];
                    let problem = statement.problem(&nodes)?;
                    let priors = priors(&spec, &statement, &nodes, &vec![1.0; axes.len()], 0);
                    let layout = Layout::new(&comm, RankGrid { slabs, groups })?;
                    let mut before = comm.traffic().bytes;
                    let mut sent = || comm.traffic().bytes - std::mem::replace(&mut before, comm.traffic().bytes);
                    let mut solver = Solver::new(&Device::cpu(), &layout, &problem, &priors)?;
                    let set_up = sent();
                    let points: Vec<usize> = problem.axes.iter().map(|a| a.nodes.len()).collect();
                    let all = solver.coefficients_of_all().clone();
                    let sender = Sender { place: layout.place, points: &points, coefficients: &all };
                    assert_eq!(set_up, sender.set_up(&solver.factor_lengths()), "set-up");
                    let equation = &problem.equation;
                    let reads = Reads::of(equation);
                    let mut y = Buffer::zeros(&Device::cpu(), solver.len())?;
                    for _ in 0..2 {
                        let step = solver.newton_step(equation, &mut y)?;
                        assert!(step.improved && step.krylov.iterations() > 0 && step.trials == 1);
                        assert_eq!(sent(), sender.newton(reads, &step.krylov, step.trials), "Newton step");
                    }
                    let u = solver.field(&mut y)?;
                    assert_eq!(sent(), sender.up(), "field");
                    solver.coefficients(&u)?;
                    assert_eq!(sent(), sender.down(), "coefficients");
                    let between: Vec<Vec<f64>> = points.iter().map(|n| vec![0.3; n - 3]).collect();
                    let extents: Vec<usize> = between.iter().map(Vec::len).collect();
                    solver.held_out(&problem, &between, &mut y)?;
                    assert_eq!(sent(), sender.held_out(reads, &extents), "held-out residual");
                    for axis in 0..points.len() {
                        let field = whole_mode(&layout, &points, axis, &u)?;
                        spectrum::energies(&comm, &solver.factors[axis], axis, field)?;
                    }
                    let frequencies: Vec<usize> = priors.iter().map(|p| p.frequencies.len()).collect();
                    assert_eq!(sent(), sender.reweighting(&frequencies), "new weights");
                    Ok(())
                });
                results.into_iter().for_each(|r| r.unwrap());
            }
        }
    }
}
