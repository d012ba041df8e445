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
