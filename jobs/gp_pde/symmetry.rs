//! Axes that are symmetric about their middle: even and odd functions are decomposed apart, on half of the nodes.
//!
//! Features are measured from the middle, so cosines are even and sines odd. Where nodes lie at mirrored places and
//! conditions come in mirrored pairs, no function that meets them mixes the two.

use std::cmp::Ordering;
use std::f64::consts::{FRAC_1_SQRT_2, SQRT_2};
use std::ops::Range;

use faer::Mat;

use super::axis::Functional;

/// Rounding of mirrored places, in units of the last place of the axis's length.
const ULPS: f64 = 4.0;

/// Points of an axis, measured from its middle. Of mirrored ones the first half represents all.
#[derive(Debug, Clone)]
pub struct Points {
    /// All of them or the first half, with the one in the middle.
    pub first: Vec<f64>,
    n: usize,
}

impl Points {
    /// Points that are measured from the start of an axis with this middle.
    pub fn new(points: &[f64], middle: f64) -> Self {
        let n = points.len();
        let pair = |i: usize| (points[i], points[n - 1 - i]);
        let half = 0..n.div_ceil(2);
        let bound = ULPS * f64::EPSILON * 2.0 * middle;
        if n > 1 && half.clone().map(pair).all(|(a, b)| (a + b - 2.0 * middle).abs() <= bound) {
            return Self { first: half.map(pair).map(|(a, b)| 0.5 * (a - b)).collect(), n };
        }
        Self::whole(points, middle)
    }

    /// As [`Points::new`], whether they are mirrored or not.
    pub fn whole(points: &[f64], middle: f64) -> Self {
        Self { first: points.iter().map(|x| x - middle).collect(), n: points.len() }
    }

    /// Whether the first half represents all.
    pub fn are_mirrored(&self) -> bool {
        self.first.len() < self.n
    }

    /// Weight of row `i` of the first points, with which orthonormal columns there are so at all points.
    pub fn weight(&self, i: usize) -> f64 {
        if self.are_mirrored() && 2 * i + 1 != self.n { SQRT_2 } else { 1.0 }
    }

    /// Functions at all points from those at the first: columns that are even or, where `odd` says so, odd.
    pub fn mirrored(&self, first: Mat<f64>, odd: impl Fn(usize) -> bool) -> Mat<f64> {
        if !self.are_mirrored() {
            return first;
        }
        Mat::from_fn(self.n, first.ncols(), |i, j| match (i.cmp(&(self.n - 1 - i)), odd(j)) {
            (Ordering::Less, _) | (Ordering::Equal, false) => first[(i, j)],
            (Ordering::Equal, true) => 0.0,
            (Ordering::Greater, false) => first[(self.n - 1 - i, j)],
            (Ordering::Greater, true) => -first[(self.n - 1 - i, j)],
        })
    }

    /// Functions at all points: `of` makes them of features, whose derivatives of `order` at the first points are given.
    /// Where `odd` says which are odd and that the others are even, the first points are enough.
    pub fn functions(
        &self,
        features: &Mat<f64>,
        order: usize,
        odd: Option<&[bool]>,
        of: &dyn Fn(&Mat<f64>) -> Mat<f64>,
    ) -> Mat<f64> {
        let (m, turns) = (features.ncols() / 2, order % 2 == 1);
        match odd {
            Some(odd) => self.mirrored(of(features), |j| odd[j] != turns),
            None => of(&self.mirrored(features.clone(), |j| (j >= m) != turns)),
        }
    }
}

/// Functions of an axis that are decomposed together.
#[derive(Debug, Clone)]
pub struct Sector {
    /// Their features.
    pub features: Range<usize>,
    /// The combinations of the axis's conditions that are about them, orthonormal rows: `combinations × conditions`.
    pub conditions: Mat<f64>,
}

/// The even and the odd combinations of conditions that come in mirrored pairs at the ends, `combinations × conditions`.
pub fn pairs(conditions: &[Functional], length: f64) -> Option<[Mat<f64>; 2]> {
    let n = conditions.len();
    let at = |end: f64| (0..n).filter(move |i| conditions[*i].at == end);
    let mut open: Vec<usize> = at(length).collect();
    let mut found = Vec::new();
    for i in at(0.0) {
        let (place, sign) =
            open.iter().enumerate().find_map(|(k, j)| Some((k, mirror(&conditions[i], &conditions[*j])?)))?;
        found.push((i, open.remove(place), sign));
    }
    if 2 * found.len() < n {
        return None;
    }
    // B₂ u = ±B₁ (u mirrored), so B₁ ± B₂ is about even functions alone, and B₁ ∓ B₂ about odd ones.
    let combinations = |of_odd: f64| {
        let mut rows = Mat::zeros(n / 2, n);
        for (row, (i, j, sign)) in found.iter().enumerate() {
            (rows[(row, *i)], rows[(row, *j)]) = (FRAC_1_SQRT_2, of_odd * sign * FRAC_1_SQRT_2);
        }
        rows
    };
    Some([combinations(1.0), combinations(-1.0)])
}

/// The sign with which one functional is the mirror image of the other; `None` where it is not.
fn mirror(a: &Functional, b: &Functional) -> Option<f64> {
    let is = |sign: f64| {
        let mirrored = a.terms.iter().map(|(order, c)| (*order, if order % 2 == 0 { sign * c } else { -sign * c }));
        mirrored.eq(b.terms.iter().copied())
    };
    [1.0, -1.0].into_iter().find(|sign| is(*sign))
}

/// Whether each column is odd, where every one has entries in even rows alone or in odd rows alone.
pub fn parities(m: &Mat<f64>, is_odd: impl Fn(usize) -> bool) -> Option<Vec<bool>> {
    let column = |j: usize| {
        let has = |odd: bool| (0..m.nrows()).any(|i| is_odd(i) == odd && m[(i, j)] != 0.0);
        match (has(false), has(true)) {
            (true, true) => None,
            (_, odd) => Some(odd),
        }
    };
    (0..m.ncols()).map(column).collect()
}

#[cfg(test)]
mod tests {
    use convoke_kernels::Device;
    use convoke_kernels::kronecker::Parity;
    use faer::Side;
    use faer::linalg::solvers::Solve;

    use super::*;
    use crate::gp_pde::axis::Axis;
    use crate::gp_pde::basis::Basis;
    use crate::gp_pde::factor::AxisFactor;
    use crate::gp_pde::features::Prior;
    use crate::gp_pde::field::matrix;

    const LENGTH: f64 = 1.3;

    fn functional(at: f64, terms: &[(usize, f64)]) -> Functional {
        Functional { at, terms: terms.to_vec() }
    }

    fn axis(n: usize, clustered: bool, conditions: &[Functional]) -> Axis {
        let place = |i: usize| match clustered {
            true => LENGTH * (std::f64::consts::PI * i as f64 / (2.0 * (n - 1) as f64)).sin().powi(2),
            false => LENGTH * i as f64 / (n - 1) as f64,
        };
        Axis {
            nodes: (0..n).map(place).collect(),
            length: LENGTH,
            periodic: false,
            conditions: conditions.to_vec(),
            terms: vec![(2, vec![1.0; n]), (0, vec![-2.0; n])],
        }
    }

    /// Dirichlet, Neumann, Robin with outward normals, and the values and slopes of both ends, on even and odd numbers of
    /// nodes.
    fn symmetric() -> Vec<Axis> {
        let both = |a: &[(usize, f64)], b: &[(usize, f64)]| [functional(0.0, a), functional(LENGTH, b)];
        let robin = both(&[(0, 2.0), (1, -1.0)], &[(0, 2.0), (1, 1.0)]);
        let clamped = [both(&[(0, 1.0)], &[(0, 1.0)]), both(&[(1, 1.0)], &[(1, 1.0)])].concat();
        vec![
            axis(40, true, &both(&[(0, 1.0)], &[(0, 1.0)])),
            axis(41, false, &both(&[(1, 1.0)], &[(1, 1.0)])),
            axis(33, true, &robin),
            axis(36, true, &clamped),
            axis(35, false, &[]),
        ]
    }

    fn prior() -> Prior {
        let mut prior = Prior::flat(0.5 / LENGTH, 6.0);
        prior.scales.iter_mut().enumerate().for_each(|(k, s)| *s = 1.0 / (1.0 + 0.3 * k as f64));
        prior
    }

    /// The conditioned covariance and the mean for unit data, by their definition and from features that are measured from
    /// the start: K - K Bᵀ (B K Bᵀ)⁻¹ B K. The basis has its eigenvectors and eigenvalues, and the lifts are that mean.
    #[test]
    fn even_and_odd_functions_span_the_conditioned_prior() {
        for (which, axis) in symmetric().iter().enumerate() {
            let prior = prior();
            let phi = prior.features(&axis.nodes, 0);
            let mut b = Mat::<f64>::zeros(axis.conditions.len(), phi.ncols());
            for (i, condition) in axis.conditions.iter().enumerate() {
                for (order, c) in &condition.terms {
                    let row = prior.features(&[condition.at], *order);
                    (0..b.ncols()).for_each(|j| b[(i, j)] += c * row[(0, j)]);
                }
            }
            let (cross, own) = (&phi * b.transpose(), &b * b.transpose());
            let mut covariance = &phi * phi.transpose();
            let basis = Basis::new(axis, prior, 1e-12).unwrap();
            if !axis.conditions.is_empty() {
                let mean = own.partial_piv_lu().solve(cross.transpose()).transpose().to_owned();
                covariance -= &mean * cross.transpose();
                let lifts = &basis.at(&axis.nodes, 0).lifts[0];
                assert!((lifts - &mean).norm_max() < 1e-9 * mean.norm_max(), "{which}: lifts");
            }
            let eigen = covariance.self_adjoint_eigen(Side::Lower).unwrap();
            let n = axis.nodes.len();
            let largest = eigen.S().column_vector()[n - 1];
            let span = &basis.conditioned;
            // The square of a deviation has half of its digits.
            let rank = span.deviations.iter().take_while(|s| **s > 1e-4 * span.deviations[0]).count();
            assert!(rank > 8, "{which}: {rank}");
            for j in 0..rank {
                let value = eigen.S().column_vector()[n - 1 - j];
                assert!((span.deviations[j].powi(2) - value).abs() < 1e-12 * largest, "{which}: deviation {j}");
            }
            // Singular values of the product are the cosines of the angles between the two spaces.
            let cosines = span.values.subcols(0, rank).transpose() * eigen.U().subcols(n - rank, rank);
            let cosines = cosines.singular_values().unwrap();
            assert!(cosines.iter().all(|c| (c - 1.0).abs() < 1e-6), "{which}: {cosines:?}");
            let gram = span.values.transpose() * &span.values - Mat::<f64>::identity(span.rank(), span.rank());
            assert!(gram.norm_max() < 1e-13, "{which}: not orthonormal by {:e}", gram.norm_max());
        }
    }

    /// At the nodes, at other mirrored points and on the way back, matrices are split; where one condition is missing, they
    /// are not.
    #[test]
    fn matrices_of_symmetric_axes_are_even_and_odd() {
        let of = |m: &Mat<f64>| matrix(&Device::cpu(), m).unwrap().parity();
        for (which, axis) in symmetric().iter().enumerate() {
            let factor = AxisFactor::new(axis, &prior()).unwrap();
            assert_eq!(of(&factor.analysis(axis)), Some(Parity::Rows), "{which}");
            let points: Vec<f64> = (0..30).map(|i| LENGTH * f64::from(i) / 29.0).collect();
            for at in [factor.at_nodes(axis, 0..axis.nodes.len(), 3), factor.at(&points, 3)] {
                let kinds: Vec<_> = at.functions.iter().chain(&at.free).map(of).collect();
                assert_eq!(kinds, vec![Some(Parity::Columns); 8], "{which}");
            }
        }
        let one = axis(40, true, &[functional(0.0, &[(0, 1.0)])]);
        assert_eq!(of(&AxisFactor::new(&one, &prior()).unwrap().analysis(&one)), None);
        // An operator that mixes even and odd functions has eigenvectors that are neither, on a basis that is.
        let mut mixed = symmetric().swap_remove(0);
        mixed.terms.push((1, vec![0.3; 40]));
        let factor = AxisFactor::new(&mixed, &prior()).unwrap();
        assert!(factor.basis.conditioned.parities().is_some() && factor.vectors.is_some());
        assert_eq!(of(&factor.analysis(&mixed)), None);
    }

    /// From half of the points or from all of them, functions and derivatives are the same up to rounding.
    #[test]
    fn mirrored_points_are_as_any_others() {
        for (which, axis) in symmetric().iter().enumerate() {
            let factor = AxisFactor::new(axis, &prior()).unwrap();
            let points: Vec<f64> = (0..30).map(|i| LENGTH * f64::from(i) / 29.0).collect();
            let (all, some) = (factor.at(&points, 2), factor.at(&points[..29], 2));
            let of =
                |at: &crate::gp_pde::basis::AxisAt| [&at.functions, &at.lifts, &at.free].map(Clone::clone).concat();
            for (k, (all, some)) in of(&all).iter().zip(of(&some)).enumerate() {
                let difference = (all.subrows(0, 29) - &some).norm_max();
                let size = some.norm_max().max(f64::MIN_POSITIVE);
                assert!(difference <= 1e-4 * size, "{which}, {k}: {difference:e} of {size:e}");
            }
        }
    }
}
