//! How far apart two arrays are.

use serde::Serialize;

use super::scan::unravel;

/// How far two values may lie apart: `|a − b| ≤ atol + rtol · max(|a|, |b|)`.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Tolerance {
    /// Relative part.
    pub rtol: f64,
    /// Absolute part.
    pub atol: f64,
}

impl Tolerance {
    /// Whether it allows this pair; two NaN are the same.
    pub fn allows(self, a: f64, b: f64) -> bool {
        let both_nan = a.is_nan() && b.is_nan();
        both_nan || a == b || (a - b).abs() <= self.atol + self.rtol * a.abs().max(b.abs())
    }
}

/// A norm of the difference, and its ratio to the same norm of B.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Norm {
    /// ‖a − b‖.
    pub absolute: f64,
    /// ‖a − b‖ / ‖b‖.
    pub relative: f64,
}

/// Two arrays of one shape that are not bitwise equal.
#[derive(Debug, Clone, Serialize)]
pub struct Apart {
    /// Elements.
    pub elements: u64,
    /// Elements of which the bits differ.
    pub different: u64,
    /// Elements beyond the tolerance.
    pub beyond: u64,
    /// Elements beyond it because one of the two is NaN or infinite; no norm counts them.
    pub not_finite: u64,
    /// Sum of magnitudes.
    pub l1: Norm,
    /// Root of the sum of squares.
    pub l2: Norm,
    /// Largest magnitude.
    pub linf: Norm,
    /// First index whose bits differ.
    pub first: Vec<usize>,
    /// Both values there.
    pub at_first: (f64, f64),
    /// Index of the largest difference.
    pub worst: Vec<usize>,
    /// Both values there.
    pub at_worst: (f64, f64),
}

/// Elements that one thread sums at once; fixed, so that sums do not depend on the threads.
pub const PIECE: usize = 1 << 16;

/// Sums over pairs of values.
#[derive(Debug, Default)]
pub struct Sums {
    elements: u64,
    different: u64,
    beyond: u64,
    not_finite: u64,
    /// Of |a − b|: sum, sum of squares, maximum.
    distance: [f64; 3],
    /// Of |b|.
    size: [f64; 3],
    first: Option<(usize, (f64, f64))>,
    worst: Option<(f64, usize, (f64, f64))>,
}

impl Sums {
    /// The sums over two pieces of one length, the first element of which has index `offset`.
    pub fn of(offset: usize, (a, b): (&[f64], &[f64]), tolerance: Tolerance) -> Self {
        let mut sums = Self::default();
        a.iter().zip(b).enumerate().for_each(|(k, (&a, &b))| sums.add(offset + k, (a, b), tolerance));
        sums
    }

    /// Joins the sums of what lies before and of what lies behind.
    pub fn merge(self, later: Self) -> Self {
        let join = |a: [f64; 3], b: [f64; 3]| [a[0] + b[0], a[1] + b[1], a[2].max(b[2])];
        let worst = match (self.worst, later.worst) {
            (Some(a), Some(b)) => Some(if b.0 > a.0 { b } else { a }),
            (a, b) => a.or(b),
        };
        Self {
            elements: self.elements + later.elements,
            different: self.different + later.different,
            beyond: self.beyond + later.beyond,
            not_finite: self.not_finite + later.not_finite,
            distance: join(self.distance, later.distance),
            size: join(self.size, later.size),
            first: self.first.or(later.first),
            worst,
        }
    }

    fn add(&mut self, index: usize, (a, b): (f64, f64), tolerance: Tolerance) {
        let grow = |sums: &mut [f64; 3], v: f64| *sums = [sums[0] + v, sums[1] + v * v, sums[2].max(v)];
        self.elements += 1;
        if b.is_finite() {
            grow(&mut self.size, b.abs());
        }
        if a.to_bits() == b.to_bits() {
            return;
        }
        self.different += 1;
        self.beyond += u64::from(!tolerance.allows(a, b));
        self.first = self.first.or(Some((index, (a, b))));
        let distance = (a - b).abs();
        if !distance.is_finite() {
            self.not_finite += u64::from(!tolerance.allows(a, b));
            return;
        }
        grow(&mut self.distance, distance);
        if self.worst.is_none_or(|(most, ..)| distance > most) {
            self.worst = Some((distance, index, (a, b)));
        }
    }

    /// What they say about arrays of `shape`; nothing if all bits agree.
    pub fn finish(self, shape: &[usize]) -> Option<Apart> {
        let (first, at_first) = self.first?;
        let (worst, at_worst) = self.worst.map_or((first, at_first), |(_, index, pair)| (index, pair));
        let norm =
            |absolute: f64, size: f64| Norm { absolute, relative: if absolute == 0.0 { 0.0 } else { absolute / size } };
        Some(Apart {
            elements: self.elements,
            different: self.different,
            beyond: self.beyond,
            not_finite: self.not_finite,
            l1: norm(self.distance[0], self.size[0]),
            l2: norm(self.distance[1].sqrt(), self.size[1].sqrt()),
            linf: norm(self.distance[2], self.size[2]),
            first: unravel(first, shape),
            at_first,
            worst: unravel(worst, shape),
            at_worst,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn norms_and_places_of_a_small_difference() {
        let (a, b) = ([1.0, 2.0, f64::NAN, 4.0, f64::NAN], [1.0, 2.5, 3.0, 1.0, f64::NAN]);
        let halves = [(0, (&a[..2], &b[..2])), (2, (&a[2..], &b[2..]))];
        let apart = |tolerance| {
            let parts = halves.map(|(offset, pair)| Sums::of(offset, pair, tolerance));
            parts.into_iter().fold(Sums::default(), Sums::merge).finish(&[5]).expect("a difference")
        };
        let strict = apart(Tolerance::default());
        assert_eq!((strict.elements, strict.different, strict.beyond, strict.not_finite), (5, 3, 3, 1));
        assert_eq!((strict.l1.absolute, strict.linf.absolute, strict.l1.relative), (3.5, 3.0, 3.5 / 7.5));
        assert_eq!((&strict.first[..], &strict.worst[..], strict.at_worst), (&[1][..], &[3][..], (4.0, 1.0)));
        assert_eq!(apart(Tolerance { rtol: 0.2, atol: 0.0 }).beyond, 2);
        assert_eq!(apart(Tolerance { rtol: 0.0, atol: 3.0 }).beyond, 1);
    }
}
