//! One axis as the job file describes it: nodes, conditions at its ends, and its part of the equation.

use faer::Mat;

use super::symmetry::{Points, Sector, pairs};

/// `Σ c ∂ᵏu(at)`: a value, a derivative, or a mix of both (Robin).
#[derive(Debug, Clone, PartialEq)]
pub struct Functional {
    /// Where, measured from the start of the axis.
    pub at: f64,
    /// `(order k, coefficient c)`.
    pub terms: Vec<(usize, f64)>,
}

/// The fixed part of an axis: what the job file says of it.
#[derive(Debug, Clone)]
pub struct Axis {
    /// Collocation points, measured from the start of the axis.
    pub nodes: Vec<f64>,
    /// Length.
    pub length: f64,
    /// Whether functions repeat after `length`.
    pub periodic: bool,
    /// Conditions at its ends.
    pub conditions: Vec<Functional>,
    /// The separable part of the equation along this axis: order, and the coefficient at every node.
    pub terms: Vec<(usize, Vec<f64>)>,
}

/// Coefficients at mirrored nodes differ by this part of the largest where they are the same but for rounding.
const ROUNDING: f64 = 1e-14;

impl Axis {
    /// Whether eigenvectors are worth trying: conditions at both ends, and the highest order even.
    pub fn is_elliptic(&self) -> bool {
        let ends = [0.0, self.length];
        let both = ends.iter().all(|end| self.conditions.iter().any(|c| c.at == *end));
        let highest = self.terms.iter().map(|t| t.0).max().unwrap_or(0);
        (both || self.periodic) && highest % 2 == 0
    }

    /// Whether nodes lie closer together at the ends.
    pub fn is_clustered(&self) -> bool {
        let n = self.nodes.len();
        n > 2 && (self.nodes[1] - self.nodes[0]) < 0.5 * (self.nodes[n / 2 + 1] - self.nodes[n / 2])
    }

    /// The sign that eigenvalues of the highest even order have, if its coefficient has one sign.
    pub fn sign(&self) -> Option<f64> {
        let (order, c) = self.terms.iter().max_by_key(|t| t.0).filter(|t| t.0 > 0 && t.0 % 2 == 0)?;
        let sign = if order % 4 == 0 { 1.0 } else { -1.0 };
        let first = c.first()?.signum();
        c.iter().all(|c| c.signum() == first).then_some(sign * first)
    }

    /// The nodes, and what an axis with `m` frequencies is decomposed into there: even and odd functions where nodes and
    /// conditions are mirrored, all together otherwise.
    pub fn sectors(&self, m: usize) -> (Points, Vec<Sector>) {
        let points = Points::new(&self.nodes, self.length / 2.0);
        match pairs(&self.conditions, self.length).filter(|_| points.are_mirrored()) {
            Some([even, odd]) => {
                let sector = |features, conditions| Sector { features, conditions };
                (points, vec![sector(0..m, even), sector(m..2 * m, odd)])
            }
            None => {
                let n = self.conditions.len();
                let all = Sector { features: 0..2 * m, conditions: Mat::identity(n, n) };
                (Points::whole(&self.nodes, self.length / 2.0), vec![all])
            }
        }
    }

    /// Whether its part of the equation makes even functions of even ones and odd functions of odd ones.
    pub fn keeps_parity(&self) -> bool {
        self.terms.iter().all(|(order, c)| {
            let bound = ROUNDING * c.iter().fold(0.0f64, |m, c| m.max(c.abs()));
            let sign = if order % 2 == 0 { 1.0 } else { -1.0 };
            c.iter().zip(c.iter().rev()).all(|(a, b)| (a - sign * b).abs() <= bound)
        })
    }
}
