//! One axis: nodes, the prior conditioned on the axis's conditions, an orthonormal basis of it, and lifts.
//!
//! Conditions are linear functionals `Bⱼ u`. The prior splits into functions that make all of them zero (the basis)
//! and one cardinal function for each (the lift: `Bᵢ lⱼ = δᵢⱼ`, of least norm, which is the conditional mean). Even and
//! odd functions of a symmetric axis are found apart (see `symmetry`).

use std::ops::Range;

use faer::{Mat, MatRef};

use super::axis::{Axis, Functional};
use super::features::Prior;
use super::solver_error::SolverError;
use super::symmetry::{Points, Sector, parities};

/// Functions on one axis, given by what features they are made of.
#[derive(Debug, Clone)]
pub struct Span {
    /// Values at the nodes, orthonormal columns: `nodes × rank`.
    pub values: Mat<f64>,
    /// The same functions in features: `features × rank`.
    pub coefficients: Mat<f64>,
    /// Their standard deviation under the prior, falling.
    pub deviations: Vec<f64>,
}

impl Span {
    /// The functions that stand out of what each sector has `seen` of its features, or of the functions `within` them, by
    /// more than `tolerance` of the largest. Rows of `seen` have the weights of `points`, which come first.
    fn of(
        seen: MatRef<'_, f64>,
        points: &Points,
        sectors: &[(Range<usize>, Option<Mat<f64>>)],
        tolerance: f64,
    ) -> Result<Self, SolverError> {
        let mut found = Vec::new();
        for (features, within) in sectors {
            let block = seen.subcols(features.start, features.len());
            found.push(svd(&within.as_ref().map_or_else(|| block.to_owned(), |q| block * q))?);
        }
        let largest = found.iter().filter_map(|(_, s, _)| s.first()).fold(0.0f64, |m, s| m.max(*s));
        // (sector, function of it), falling together.
        let mut order = Vec::new();
        let mut coefficients = Vec::new();
        for (k, ((_, s, v), (_, within))) in found.iter().zip(sectors).enumerate() {
            let rank = s.iter().take_while(|s| **s > tolerance * largest).count();
            order.extend((0..rank).map(|j| (k, j)));
            let scaled = Mat::from_fn(v.nrows(), rank, |i, j| v[(i, j)] / s[j]);
            coefficients.push(within.as_ref().map_or_else(|| scaled.clone(), |q| q * &scaled));
        }
        order.sort_by(|(a, i), (b, j)| found[*b].1[*j].total_cmp(&found[*a].1[*i]));
        let coefficients = Mat::from_fn(seen.ncols(), order.len(), |i, j| {
            let ((k, j), features) = (order[j], &sectors[order[j].0].0);
            if features.contains(&i) { coefficients[k][(i - features.start, j)] } else { 0.0 }
        });
        let values = |i: usize, j: usize| found[order[j].0].0[(i, order[j].1)] / points.weight(i);
        let values = Mat::from_fn(points.first.len(), order.len(), values);
        let deviations = order.iter().map(|(k, j)| found[*k].1[*j]).collect();
        Ok(Self { values: points.mirrored(values, |j| order[j].0 == 1), coefficients, deviations })
    }

    /// Whether each function is odd about the middle, where all are even or odd: made of cosines or of sines alone.
    pub fn parities(&self) -> Option<Vec<bool>> {
        parities(&self.coefficients, |i| i >= self.coefficients.nrows() / 2)
    }

    /// Number of functions.
    pub fn rank(&self) -> usize {
        self.deviations.len()
    }

    /// How many functions stand out by more than `tolerance` of the largest.
    pub fn rank_at(&self, tolerance: f64) -> usize {
        let largest = self.deviations.first().copied().unwrap_or(0.0);
        self.deviations.iter().take_while(|s| **s > tolerance * largest).count()
    }

    /// The first `rank` functions only.
    pub fn truncate(&mut self, rank: usize) {
        self.values = self.values.subcols(0, rank).to_owned();
        self.coefficients = self.coefficients.subcols(0, rank).to_owned();
        self.deviations.truncate(rank);
    }
}

/// Everything of one axis that depends on its prior but not on the equation.
#[derive(Debug, Clone)]
pub struct Basis {
    /// The prior.
    pub prior: Prior,
    /// Half the length of the axis: where features are measured from.
    pub middle: f64,
    /// Functions whose conditions are all zero.
    pub conditioned: Span,
    /// Functions without conditions; lifts vary along this axis in these.
    pub free: Span,
    /// Cardinal functions of the conditions, in features: `features × conditions`.
    pub lifts: Mat<f64>,
    /// The functionals applied to features: `conditions × features`.
    pub functionals: Mat<f64>,
    /// Orthonormal directions of the features that conditions determine: `features × conditions`.
    pub determined: Mat<f64>,
}

impl Basis {
    /// The basis of `prior` on an axis, without functions below `tolerance` of the largest at the nodes.
    ///
    /// # Errors
    /// Where the conditions contradict or repeat each other.
    pub fn new(axis: &Axis, prior: Prior, tolerance: f64) -> Result<Self, SolverError> {
        Self::seen_by(axis, prior, tolerance, |values, _| values.clone())
    }

    /// As [`Basis::new`], with the functions that derivatives up to `max_order` at the nodes tell apart, too: values at
    /// the nodes do not determine them under a rough prior. Functions are orthogonal in features, not at the nodes.
    ///
    /// # Errors
    /// Where the conditions contradict or repeat each other.
    pub fn with_derivatives(
        axis: &Axis,
        prior: Prior,
        (tolerance, max_order): (f64, usize),
    ) -> Result<Self, SolverError> {
        let mut basis = Self::seen_by(axis, prior, tolerance, |values, derivative| {
            let n = values.nrows();
            let mut seen = Mat::zeros((max_order + 1) * n, values.ncols());
            for order in 0..=max_order {
                let block = derivative(order);
                let size = block.norm_l2();
                seen.subrows_mut(order * n, n).copy_from(block * faer::Scale(1.0 / size));
            }
            seen
        })?;
        basis.conditioned.values = basis.derivative(&axis.nodes, 0);
        Ok(basis)
    }

    /// The basis of what is `seen` of the features, given their values and derivatives at the nodes, in rows with weights.
    fn seen_by(
        axis: &Axis,
        prior: Prior,
        tolerance: f64,
        seen: impl Fn(&Mat<f64>, &dyn Fn(usize) -> Mat<f64>) -> Mat<f64>,
    ) -> Result<Self, SolverError> {
        let (p, n, middle) = (prior.n_features(), axis.conditions.len(), axis.length / 2.0);
        let (points, sectors) = axis.sectors(prior.frequencies.len());
        let derivative = |order: usize| {
            let mut rows = prior.features(&points.first, order);
            rows.row_iter_mut().enumerate().for_each(|(i, mut row)| row *= faer::Scale(points.weight(i)));
            rows
        };
        let phi = derivative(0);
        let mut functionals = Mat::zeros(n, p);
        for (i, condition) in axis.conditions.iter().enumerate() {
            functionals.subrows_mut(i, 1).copy_from(row(condition, &prior, middle));
        }
        let (mut lifts, mut determined) = (Mat::zeros(p, n), Mat::zeros(p, n));
        let (mut least, mut most, mut done) = (f64::MAX, 0.0f64, 0);
        let mut spaces = Vec::new();
        for Sector { features, conditions } in &sectors {
            let (first, p, n) = (features.start, features.len(), conditions.nrows());
            if n == 0 {
                spaces.push((features.clone(), None));
                continue;
            }
            let b = conditions * functionals.subcols(first, p);
            let qr = b.transpose().to_owned().qr();
            let (q, r) = (qr.compute_Q(), qr.thin_R().to_owned());
            (least, most) = (0..n).map(|i| r[(i, i)].abs()).fold((least, most), |(a, b), d| (a.min(d), b.max(d)));
            // B = Rᵀ Q_bᵀ, so the least-norm functions with B l = 1 are Q_b R⁻ᵀ.
            let mut inverse = Mat::<f64>::identity(n, n);
            r.transpose().solve_lower_triangular_in_place(inverse.as_mut());
            let of_sector = q.subcols(0, n) * inverse * conditions;
            lifts.subrows_mut(first, p).copy_from(of_sector);
            determined.submatrix_mut(first, done, p, n).copy_from(q.subcols(0, n));
            spaces.push((features.clone(), Some(q.subcols(n, p - n).to_owned())));
            done += n;
        }
        if least.is_nan() || least <= 1e-12 * most {
            return Err(SolverError::DependentConditions);
        }
        let conditioned = Span::of(seen(&phi, &derivative).as_ref(), &points, &spaces, tolerance)?;
        spaces.iter_mut().for_each(|(_, within)| *within = None);
        let free = Span::of(phi.as_ref(), &points, &spaces, tolerance)?;
        Ok(Self { prior, middle, conditioned, free, lifts, functionals, determined })
    }
}

impl Basis {
    /// Everything about points of the axis, measured from its start, up to derivatives of `max_order`.
    pub fn at(&self, points: &[f64], max_order: usize) -> AxisAt {
        self.combined_at(points, None, max_order, None)
    }

    /// As [`Basis::at`], for some of the nodes, where values need no interpolation.
    pub fn at_nodes(&self, nodes: &[f64], range: Range<usize>, max_order: usize) -> AxisAt {
        self.combined_at(&nodes[range.clone()], Some(range), max_order, None)
    }

    /// Derivatives of `order` of the functions: `points × rank`.
    pub fn derivative(&self, points: &[f64], order: usize) -> Mat<f64> {
        let points = Points::new(points, self.middle);
        let features = self.prior.features(&points.first, order);
        let odd = self.conditioned.parities();
        points.functions(&features, order, odd.as_deref(), &|phi| phi * &self.conditioned.coefficients)
    }

    /// As [`Basis::at`], or, where the points are a range of the nodes, as [`Basis::at_nodes`], but with combinations of
    /// the functions instead of them. At mirrored points, functions are even or odd in every bit.
    pub fn combined_at(
        &self,
        points: &[f64],
        nodes: Option<Range<usize>>,
        max_order: usize,
        combinations: Option<&Mat<f64>>,
    ) -> AxisAt {
        let points = Points::new(points, self.middle);
        let odd = self.conditioned.parities().and_then(|odd| match combinations {
            Some(m) => parities(m, |i| odd[i]),
            None => Some(odd),
        });
        let free_odd = self.free.parities();
        let (mut functions, mut lifts, mut free) = (Vec::new(), Vec::new(), Vec::new());
        for order in 0..=max_order {
            let features = self.prior.features(&points.first, order);
            let at = |odd: &Option<Vec<bool>>, of: &dyn Fn(&Mat<f64>) -> Mat<f64>| {
                points.functions(&features, order, odd.as_deref(), of)
            };
            functions.push(at(&odd, &|phi| {
                let f = match &nodes {
                    Some(range) if order == 0 => self.conditioned.values.subrows(range.start, phi.nrows()).to_owned(),
                    _ => phi * &self.conditioned.coefficients,
                };
                match combinations {
                    Some(m) => f * m,
                    None => f,
                }
            }));
            lifts.push(at(&None, &|phi| phi * &self.lifts));
            free.push(at(&free_odd, &|phi| phi * &self.free.coefficients));
        }
        AxisAt { functions, lifts, free, nodes }
    }

    /// The functions in whitened features, in units of their deviation: orthonormal columns, `features × rank`.
    pub fn orthonormal(&self) -> Mat<f64> {
        let c = &self.conditioned;
        Mat::from_fn(c.coefficients.nrows(), c.rank(), |i, j| c.coefficients[(i, j)] * c.deviations[j])
    }
}

/// Basis functions and lifts of one axis at some points, by order of the derivative.
#[derive(Debug, Clone)]
pub struct AxisAt {
    /// `points × rank`: the functions of the coefficients.
    pub functions: Vec<Mat<f64>>,
    /// `points × conditions`.
    pub lifts: Vec<Mat<f64>>,
    /// `points × free rank`.
    pub free: Vec<Mat<f64>>,
    /// Where the points are nodes: which.
    pub nodes: Option<Range<usize>>,
}

impl AxisAt {
    /// Number of points.
    pub fn len(&self) -> usize {
        self.functions[0].nrows()
    }

    /// Whether there are no points.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The same at some of the points.
    pub fn rows(&self, range: Range<usize>) -> Self {
        let of = |matrices: &[Mat<f64>]| {
            matrices.iter().map(|m| m.subrows(range.start, range.len()).to_owned()).collect::<Vec<_>>()
        };
        let nodes = self.nodes.as_ref().map(|nodes| nodes.start + range.start..nodes.start + range.end);
        Self { functions: of(&self.functions), lifts: of(&self.lifts), free: of(&self.free), nodes }
    }
}

/// A functional applied to features: one row.
fn row(functional: &Functional, prior: &Prior, middle: f64) -> Mat<f64> {
    let mut row = Mat::zeros(1, prior.n_features());
    for (order, c) in &functional.terms {
        row += faer::Scale(*c) * prior.features(&[functional.at - middle], *order);
    }
    row
}

/// `(U, S, V)`.
type Factors = (Mat<f64>, Vec<f64>, Mat<f64>);

/// Thin singular value decomposition.
///
/// Matrices here have hundreds of singular values at rounding level; where the direct algorithm does not converge on
/// them, that of the triangular factor does.
fn svd(a: &Mat<f64>) -> Result<Factors, SolverError> {
    if let Ok(svd) = a.thin_svd() {
        let s = svd.S().column_vector().iter().copied().collect();
        return Ok((svd.U().to_owned(), s, svd.V().to_owned()));
    }
    let qr = a.transpose().to_owned().qr();
    let svd = qr.thin_R().transpose().to_owned().thin_svd().map_err(|_| SolverError::Decomposition)?;
    let s = svd.S().column_vector().iter().copied().collect();
    Ok((svd.U().to_owned(), s, qr.compute_thin_Q() * svd.V()))
}
