//! One axis: nodes, the prior conditioned on the axis's conditions, an orthonormal basis of it, and lifts.
//!
//! Conditions are linear functionals `Bⱼ u`. The prior splits into functions that make all of them zero (the basis)
//! and one cardinal function for each (the lift: `Bᵢ lⱼ = δᵢⱼ`, of least norm, which is the conditional mean).

use std::ops::Range;

use faer::{Mat, MatRef};

use super::features::Prior;
use super::solver_error::SolverError;

/// `Σ c ∂ᵏu(at)`: a value, a derivative, or a mix of both (Robin).
#[derive(Debug, Clone, PartialEq)]
pub struct Functional {
    /// Where, measured from the start of the axis.
    pub at: f64,
    /// `(order k, coefficient c)`.
    pub terms: Vec<(usize, f64)>,
}

impl Functional {
    /// The functional applied to features: one row.
    fn row(&self, prior: &Prior) -> Mat<f64> {
        let mut row = Mat::zeros(1, prior.n_features());
        for (order, c) in &self.terms {
            row += faer::Scale(*c) * prior.features(&[self.at], *order);
        }
        row
    }
}

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
    /// The functions at the nodes that stand out of `features · within` by more than `tolerance` of the largest.
    fn of(features: MatRef<'_, f64>, within: Option<MatRef<'_, f64>>, tolerance: f64) -> Result<Self, SolverError> {
        let (u, s, v) = svd(&within.map_or_else(|| features.to_owned(), |q| features * q))?;
        let largest = s.first().copied().unwrap_or(0.0);
        let rank = s.iter().take_while(|s| **s > tolerance * largest).count();
        let scaled = Mat::from_fn(v.nrows(), rank, |i, j| v[(i, j)] / s[j]);
        let coefficients = within.map_or_else(|| scaled.clone(), |q| q * &scaled);
        Ok(Self { values: u.subcols(0, rank).to_owned(), coefficients, deviations: s[..rank].to_vec() })
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
    /// The basis of `prior` at `nodes` under `conditions`, without functions below `tolerance` of the largest there.
    ///
    /// # Errors
    /// Where the conditions contradict or repeat each other.
    pub fn new(nodes: &[f64], prior: Prior, conditions: &[Functional], tolerance: f64) -> Result<Self, SolverError> {
        let phi = prior.features(nodes, 0);
        Self::seen_by(&phi, phi.as_ref(), prior, conditions, tolerance)
    }

    /// As [`Basis::new`], with the functions that derivatives up to `max_order` at the nodes tell apart, too: values at
    /// the nodes do not determine them under a rough prior. Functions are orthogonal in features, not at the nodes.
    ///
    /// # Errors
    /// Where the conditions contradict or repeat each other.
    pub fn with_derivatives(
        nodes: &[f64],
        prior: Prior,
        conditions: &[Functional],
        (tolerance, max_order): (f64, usize),
    ) -> Result<Self, SolverError> {
        let phi = prior.features(nodes, 0);
        let mut seen = Mat::zeros((max_order + 1) * nodes.len(), prior.n_features());
        for order in 0..=max_order {
            let block = prior.features(nodes, order);
            let size = block.norm_l2();
            seen.subrows_mut(order * nodes.len(), nodes.len()).copy_from(block * faer::Scale(1.0 / size));
        }
        let mut basis = Self::seen_by(&phi, seen.as_ref(), prior, conditions, tolerance)?;
        basis.conditioned.values = &phi * &basis.conditioned.coefficients;
        Ok(basis)
    }

    fn seen_by(
        phi: &Mat<f64>,
        seen: MatRef<'_, f64>,
        prior: Prior,
        conditions: &[Functional],
        tolerance: f64,
    ) -> Result<Self, SolverError> {
        let p = prior.n_features();
        let free = Span::of(phi.as_ref(), None, tolerance)?;
        if conditions.is_empty() {
            let (none, functionals) = (Mat::zeros(p, 0), Mat::zeros(0, p));
            return Ok(Self {
                prior,
                conditioned: Span::of(seen, None, tolerance)?,
                free,
                lifts: none.clone(),
                functionals,
                determined: none,
            });
        }
        let n = conditions.len();
        let mut functionals = Mat::zeros(n, p);
        for (i, condition) in conditions.iter().enumerate() {
            functionals.subrows_mut(i, 1).copy_from(condition.row(&prior));
        }
        let qr = functionals.transpose().to_owned().qr();
        let (q, r) = (qr.compute_Q(), qr.thin_R().to_owned());
        let diagonal = (0..n).map(|i| r[(i, i)].abs());
        let (least, most) = diagonal.fold((f64::MAX, 0.0f64), |(a, b), d| (a.min(d), b.max(d)));
        if least.is_nan() || least <= 1e-12 * most {
            return Err(SolverError::DependentConditions);
        }
        // B = Rᵀ Q_bᵀ, so the least-norm functions with B l = 1 are Q_b R⁻ᵀ.
        let mut inverse = Mat::<f64>::identity(n, n);
        r.transpose().solve_lower_triangular_in_place(inverse.as_mut());
        let lifts = q.subcols(0, n) * &inverse;
        let conditioned = Span::of(seen, Some(q.subcols(n, p - n)), tolerance)?;
        let determined = q.subcols(0, n).to_owned();
        Ok(Self { prior, conditioned, free, lifts, functionals, determined })
    }
}

impl Basis {
    /// Everything about points of the axis, measured from its start, up to derivatives of `max_order`.
    pub fn at(&self, points: &[f64], max_order: usize) -> AxisAt {
        let (mut functions, mut lifts, mut free) = (Vec::new(), Vec::new(), Vec::new());
        for order in 0..=max_order {
            let phi = self.prior.features(points, order);
            functions.push(&phi * &self.conditioned.coefficients);
            lifts.push(&phi * &self.lifts);
            free.push(&phi * &self.free.coefficients);
        }
        AxisAt { functions, lifts, free, nodes: None }
    }

    /// The functions in whitened features, in units of their deviation: orthonormal columns, `features × rank`.
    pub fn orthonormal(&self) -> Mat<f64> {
        let c = &self.conditioned;
        Mat::from_fn(c.coefficients.nrows(), c.rank(), |i, j| c.coefficients[(i, j)] * c.deviations[j])
    }

    /// As [`Basis::at`], for some of the nodes, where values need no interpolation.
    pub fn at_nodes(&self, nodes: &[f64], range: Range<usize>, max_order: usize) -> AxisAt {
        let mut at = self.at(&nodes[range.clone()], max_order);
        at.functions[0] = self.conditioned.values.subrows(range.start, range.len()).to_owned();
        at.nodes = Some(range);
        at
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
