//! The set-up of the axes, shared: each axis is factorised on one rank, and all get the same bits.

use convoke_cluster::{Comm, Result};
use faer::{Mat, c64};
use rayon::prelude::*;

use super::basis::{Basis, Span};
use super::factor::AxisFactor;
use super::features::Prior;
use super::separable::{Diagonal, Mode, Triangular};

/// Factors of all axes from `of`, which is called for axis `a` on rank `a mod P` alone. Collective.
///
/// # Errors
/// Where `of` fails on some rank.
pub fn share(
    comm: &Comm,
    priors: &[Prior],
    of: impl Fn(usize) -> Result<AxisFactor> + Sync,
) -> Result<Vec<AxisFactor>> {
    let axes: Vec<usize> = (0..priors.len()).collect();
    let mine: Vec<usize> = axes.iter().copied().filter(|axis| axis % comm.size() == comm.rank()).collect();
    let made = comm.agree(mine.par_iter().map(|axis| of(*axis)).collect::<Result<Vec<_>>>())?;
    if comm.size() == 1 {
        return Ok(made);
    }
    let mut numbers = Numbers::default();
    made.iter().for_each(|factor| numbers.put_factor(factor));
    let mut lists: Vec<Numbers> =
        comm.share(&numbers.values)?.into_iter().map(|values| Numbers { values, at: 0 }).collect();
    Ok(priors.iter().zip(axes).map(|(prior, axis)| lists[axis % comm.size()].factor(prior.clone())).collect())
}

/// How the operator of an axis is inverted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// By eigenvectors.
    Eigenvectors,
    /// By a Schur form.
    Schur,
    /// By its own factors: it is the only axis.
    Alone,
}

impl Kind {
    /// That of a factor.
    pub fn of(factor: &AxisFactor) -> Self {
        match factor.mode {
            Mode::Diagonal(_) => Self::Eigenvectors,
            Mode::Triangular(_) => Self::Schur,
            Mode::Full(_) => Self::Alone,
        }
    }
}

/// Numbers that a factor sends.
pub fn length_of(factor: &AxisFactor) -> usize {
    let (basis, values) = (&factor.basis, &factor.basis.conditioned.values);
    let ranks = (values.ncols(), basis.free.rank());
    length(values.nrows(), basis.prior.n_features(), ranks, basis.lifts.ncols(), Kind::of(factor))
}

/// Numbers that an axis with `n` nodes, `p` features, `r` coefficients, `free` functions and `c` conditions sends.
pub fn length(n: usize, p: usize, (r, free): (usize, usize), c: usize, kind: Kind) -> usize {
    let span = |r: usize| 2 + n * r + 2 + p * r + 1 + r;
    let mode = match kind {
        Kind::Eigenvectors => 1 + r + 2 * (2 + r * r) + 1,
        Kind::Schur => 2 * (2 + 2 * r * r),
        Kind::Alone => 2 + r * r,
    };
    1 + span(r) + span(free) + 3 * (2 + p * c) + 1 + mode
}

/// What a factor is made of, one number after the other.
#[derive(Default)]
struct Numbers {
    values: Vec<f64>,
    at: usize,
}

impl Numbers {
    fn put(&mut self, values: &[f64]) {
        self.values.push(values.len() as f64);
        self.values.extend_from_slice(values);
    }

    fn put_matrix(&mut self, m: &Mat<f64>) {
        self.values.extend([m.nrows() as f64, m.ncols() as f64]);
        m.col_iter().for_each(|column| self.values.extend(column.iter()));
    }

    fn put_complex(&mut self, m: &Mat<c64>) {
        self.values.extend([m.nrows() as f64, m.ncols() as f64]);
        m.col_iter().for_each(|column| self.values.extend(column.iter().flat_map(|z| [z.re, z.im])));
    }

    fn put_factor(&mut self, factor: &AxisFactor) {
        let Basis { conditioned, free, lifts, functionals, determined, middle, prior: _ } = &factor.basis;
        self.values.push(*middle);
        for span in [conditioned, free] {
            self.put_matrix(&span.values);
            self.put_matrix(&span.coefficients);
            self.put(&span.deviations);
        }
        self.put_matrix(lifts);
        self.put_matrix(functionals);
        self.put_matrix(determined);
        match (&factor.vectors, &factor.mode) {
            (Some(vectors), _) => {
                self.values.push(1.0);
                self.put(&vectors.lambda);
                self.put_matrix(&vectors.v);
                self.put_matrix(&vectors.v_inverse);
                self.values.push(vectors.condition);
            }
            (None, Mode::Triangular(schur)) => {
                self.values.push(0.0);
                self.put_complex(&schur.q);
                self.put_complex(&schur.t);
            }
            (None, Mode::Full(a)) => {
                self.values.push(2.0);
                self.put_matrix(a);
            }
            (None, Mode::Diagonal(_)) => unreachable!("a diagonal mode has eigenvectors"),
        }
    }

    fn next(&mut self, n: usize) -> &[f64] {
        self.at += n;
        &self.values[self.at - n..self.at]
    }

    fn list(&mut self) -> Vec<f64> {
        let n = self.next(1)[0] as usize;
        self.next(n).to_vec()
    }

    fn matrix(&mut self) -> Mat<f64> {
        let (n, m) = (self.next(1)[0] as usize, self.next(1)[0] as usize);
        let values = self.next(n * m);
        Mat::from_fn(n, m, |i, j| values[j * n + i])
    }

    fn complex(&mut self) -> Mat<c64> {
        let (n, m) = (self.next(1)[0] as usize, self.next(1)[0] as usize);
        let values = self.next(2 * n * m);
        Mat::from_fn(n, m, |i, j| c64::new(values[2 * (j * n + i)], values[2 * (j * n + i) + 1]))
    }

    fn span(&mut self) -> Span {
        Span { values: self.matrix(), coefficients: self.matrix(), deviations: self.list() }
    }

    fn factor(&mut self, prior: Prior) -> AxisFactor {
        let middle = self.next(1)[0];
        let (conditioned, free) = (self.span(), self.span());
        let (lifts, functionals, determined) = (self.matrix(), self.matrix(), self.matrix());
        let basis = Basis { prior, middle, conditioned, free, lifts, functionals, determined };
        let kind = self.next(1)[0];
        if kind == 2.0 {
            return AxisFactor { basis, mode: Mode::Full(self.matrix()), vectors: None };
        }
        if kind == 1.0 {
            let (lambda, v, v_inverse) = (self.list(), self.matrix(), self.matrix());
            let vectors = Diagonal { lambda, v, v_inverse, condition: self.next(1)[0] };
            return AxisFactor { basis, mode: Mode::Diagonal(vectors.lambda.clone()), vectors: Some(vectors) };
        }
        let schur = Triangular { q: self.complex(), t: self.complex() };
        AxisFactor { basis, mode: Mode::Triangular(schur), vectors: None }
    }
}

#[cfg(test)]
mod tests {
    use convoke_cluster::comm::run_threads;

    use super::*;
    use crate::gp_pde::axis::{Axis, Functional};

    /// Axes with eigenvectors, with a Schur form, and without conditions: the same bits on every rank, and the bytes of
    /// the formula.
    #[test]
    fn every_rank_gets_the_bits_of_the_one_that_factorised() {
        let nodes: Vec<f64> = (0..24).map(|i| 0.5 - 0.5 * (std::f64::consts::PI * f64::from(i) / 23.0).cos()).collect();
        let at = |at: f64| Functional { at, terms: vec![(0, 1.0)] };
        let axis = |order: usize, conditions: Vec<Functional>| Axis {
            nodes: nodes.clone(),
            length: 1.0,
            periodic: false,
            conditions,
            terms: vec![(order, vec![1.0; 24])],
        };
        let axes = [axis(2, vec![at(0.0), at(1.0)]), axis(1, vec![]), axis(2, vec![at(0.0), at(1.0)])];
        let priors: Vec<Prior> =
            [(0.5, 5.0), (1.0, 4.0), (0.5, 3.0)].iter().map(|(step, top)| Prior::flat(*step, *top)).collect();
        let of = |a: usize| {
            AxisFactor::new(&axes[a], &priors[a]).map_err(|e| convoke_cluster::Error::workload(crate::gp_pde::NAME, e))
        };
        let bits = |factors: &[AxisFactor]| {
            let mut numbers = Numbers::default();
            factors.iter().for_each(|f| numbers.put_factor(f));
            numbers.values.iter().map(|v| v.to_bits()).collect::<Vec<_>>()
        };
        let alone = share(&Comm::solo(), &priors, of).unwrap();
        let kinds: Vec<bool> = alone.iter().map(|f| f.vectors.is_some()).collect();
        assert!(kinds.contains(&true) && kinds.contains(&false), "{kinds:?}");
        let lengths: Vec<usize> = alone.iter().map(length_of).collect();
        assert_eq!(lengths.iter().sum::<usize>(), bits(&alone).len());
        for ranks in [2, 3, 5] {
            for (rank, result) in run_threads(ranks, |comm| {
                let factors = share(&comm, &priors, of)?;
                Ok((bits(&factors), comm.traffic().bytes))
            })
            .into_iter()
            .enumerate()
            {
                let (got, sent) = result.unwrap();
                assert_eq!(got, bits(&alone));
                let list = |r: usize| (0..3).filter(|a| a % ranks == r).map(|a| lengths[a]).sum();
                let lists: Vec<usize> = (0..ranks).map(list).collect();
                assert_eq!(sent, convoke_cluster::comm::shared_bytes(&lists, rank, 8));
            }
        }
    }
}
