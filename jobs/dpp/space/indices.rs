//! Downward-closed sets of multi-indices, as tries: each index knows the index that lacks its last factor.
//!
//! An index is the list of its factors (axis, degree), degree > 0, axes rising. A set is kept in the lexicographic order
//! of these lists, so a parent stands before its children.

use std::collections::HashMap;

use super::SpaceError;

/// Variables, at most.
pub const MAX_DIMENSION: usize = 64;
/// Functions, at most: 32 GiB for a square matrix of doubles.
pub const MAX_FUNCTIONS: usize = 1 << 16;

/// Which multi-indices.
#[derive(Debug, Clone, PartialEq)]
pub enum Rule {
    /// Σ ν_j ≤ degree.
    TotalDegree(usize),
    /// ∏ (ν_j + 1) ≤ size.
    HyperbolicCross(usize),
    /// ν_j ≤ `degrees[j]`.
    Box(Vec<usize>),
    /// Σ `weights[j]` ν_j ≤ budget.
    Weighted {
        /// Cost of a degree, by axis.
        weights: Vec<f64>,
        /// What may be spent.
        budget: f64,
    },
    /// These, `[m, d]`.
    List(Vec<Vec<usize>>),
    /// A rule for wave numbers |k| along the axes where this says so: 1 for the places 1 and 2, 2 for 3 and 4, …
    OfWaves(Box<Rule>, Vec<bool>),
}

/// A factor of a basis function: the axis and its degree, at least 1.
pub type Factor = (usize, usize);

/// A downward-closed set.
#[derive(Debug, Clone, PartialEq)]
pub struct IndexSet {
    /// Number of variables.
    pub dimension: usize,
    factors: Vec<Factor>,
    /// Where the factors of each index start; one more entry than indices.
    starts: Vec<usize>,
    /// The index without the last factor; index 0 is its own.
    pub parents: Vec<usize>,
}

impl IndexSet {
    /// The set of `rule` in `dimension` variables.
    ///
    /// # Errors
    /// [`SpaceError`]: more than [`MAX_FUNCTIONS`], or a list that is not downward closed.
    pub fn new(dimension: usize, rule: &Rule) -> Result<Self, SpaceError> {
        if let Rule::List(list) = rule {
            return Self::from_list(dimension, list);
        }
        let mut set = Self { dimension, factors: Vec::new(), starts: vec![0], parents: Vec::new() };
        set.grow(rule, &mut Vec::new(), 0)?;
        Ok(set)
    }

    /// Adds the index `prefix` and all that continue it.
    fn grow(&mut self, rule: &Rule, prefix: &mut Vec<Factor>, parent: usize) -> Result<(), SpaceError> {
        let me = self.len();
        if me == MAX_FUNCTIONS {
            return Err(SpaceError::TooManyFunctions);
        }
        self.push(prefix, parent);
        let first = prefix.last().map_or(0, |(axis, _)| axis + 1);
        for axis in first..self.dimension {
            for degree in 1.. {
                prefix.push((axis, degree));
                let allowed = rule.allows(prefix);
                if allowed {
                    self.grow(rule, prefix, me)?;
                }
                prefix.pop();
                if !allowed {
                    break;
                }
            }
        }
        Ok(())
    }

    fn push(&mut self, factors: &[Factor], parent: usize) {
        self.factors.extend_from_slice(factors);
        self.starts.push(self.factors.len());
        self.parents.push(parent);
    }

    fn from_list(dimension: usize, list: &[Vec<usize>]) -> Result<Self, SpaceError> {
        if list.len() > MAX_FUNCTIONS {
            return Err(SpaceError::TooManyFunctions);
        }
        let factors = |index: &Vec<usize>| -> Vec<Factor> {
            index.iter().copied().enumerate().filter(|(_, degree)| *degree > 0).collect()
        };
        let mut sorted: Vec<Vec<Factor>> = list.iter().map(factors).collect();
        sorted.sort();
        if let Some(pair) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(SpaceError::Repeated { index: dense(&pair[0], dimension) });
        }
        let places: HashMap<&[Factor], usize> = sorted.iter().enumerate().map(|(i, f)| (f.as_slice(), i)).collect();
        let mut set = Self { dimension, factors: Vec::new(), starts: vec![0], parents: Vec::new() };
        for index in &sorted {
            // It is enough to step down once along each axis.
            for (j, (_, degree)) in index.iter().enumerate() {
                let mut lower = index.clone();
                match degree {
                    1 => lower.retain(|(axis, _)| *axis != index[j].0),
                    _ => lower[j].1 -= 1,
                }
                if !places.contains_key(lower.as_slice()) {
                    let (index, lower) = (dense(index, dimension), dense(&lower, dimension));
                    return Err(SpaceError::NotDownwardClosed { index, lower });
                }
            }
            let parent = index.split_last().map_or(0, |(_, front)| places[front]);
            set.push(index, parent);
        }
        Ok(set)
    }

    /// Number of indices.
    pub fn len(&self) -> usize {
        self.parents.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.parents.is_empty()
    }

    /// Factors of index `i`.
    pub fn factors(&self, i: usize) -> &[Factor] {
        &self.factors[self.starts[i]..self.starts[i + 1]]
    }

    /// Index `i` as a tuple, `[d]`.
    pub fn dense(&self, i: usize) -> Vec<usize> {
        dense(self.factors(i), self.dimension)
    }

    /// Largest degree along `axis`.
    pub fn degree(&self, axis: usize) -> usize {
        self.factors.iter().filter(|(a, _)| *a == axis).map(|(_, degree)| *degree).max().unwrap_or(0)
    }
}

/// The index as a tuple.
fn dense(factors: &[Factor], dimension: usize) -> Vec<usize> {
    let mut index = vec![0; dimension];
    factors.iter().for_each(|(axis, degree)| index[*axis] = *degree);
    index
}

impl Rule {
    /// Whether the index with these factors is in the set.
    fn allows(&self, factors: &[Factor]) -> bool {
        match self {
            Self::TotalDegree(p) => factors.iter().map(|(_, degree)| degree).sum::<usize>() <= *p,
            Self::HyperbolicCross(n) => factors.iter().map(|(_, degree)| degree + 1).product::<usize>() <= *n,
            Self::Box(degrees) => factors.iter().all(|(axis, degree)| degree <= &degrees[*axis]),
            Self::Weighted { weights, budget } => {
                let cost: f64 = factors.iter().map(|(axis, degree)| weights[*axis] * *degree as f64).sum();
                cost <= budget * (1.0 + 1e-12)
            }
            Self::List(_) => false,
            Self::OfWaves(rule, waves) => {
                let count = |(axis, degree): &Factor| (*axis, if waves[*axis] { degree.div_ceil(2) } else { *degree });
                rule.allows(&factors.iter().map(count).collect::<Vec<_>>())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_have_the_sizes_of_the_literature() {
        for (d, n, m) in [(2, 20, 66), (5, 8, 96), (10, 6, 186), (20, 4, 251)] {
            assert_eq!(IndexSet::new(d, &Rule::HyperbolicCross(n)).unwrap().len(), m, "cross {d} {n}");
        }
        for (d, p, m) in [(6, 3, 84), (10, 3, 286), (10, 4, 1001), (64, 2, 2145)] {
            assert_eq!(IndexSet::new(d, &Rule::TotalDegree(p)).unwrap().len(), m, "total degree {d} {p}");
        }
        assert_eq!(IndexSet::new(3, &Rule::Box(vec![1, 2, 3])).unwrap().len(), 24);
        // ν_1 + 2 ν_2 ≤ 4: 5 + 3 + 1.
        let weighted = Rule::Weighted { weights: vec![1.0, 2.0], budget: 4.0 };
        assert_eq!(IndexSet::new(2, &weighted).unwrap().len(), 9);
    }

    #[test]
    fn parents_lack_the_last_factor_and_come_first() {
        let rules = [Rule::TotalDegree(4), Rule::HyperbolicCross(6), Rule::Box(vec![2, 1, 3, 1])];
        for set in rules.map(|rule| IndexSet::new(4, &rule).unwrap()) {
            for i in 1..set.len() {
                let parent = set.parents[i];
                assert!(parent < i);
                assert_eq!(set.factors(parent), set.factors(i).split_last().unwrap().1);
            }
        }
    }

    #[test]
    fn a_list_in_any_order_is_the_set_it_lists_and_must_be_downward_closed() {
        let set = IndexSet::new(3, &Rule::TotalDegree(3)).unwrap();
        let list: Vec<Vec<usize>> = (0..set.len()).rev().map(|i| dense(set.factors(i), 3)).collect();
        assert_eq!(IndexSet::new(3, &Rule::List(list)).unwrap(), set);
        let hole = IndexSet::new(2, &Rule::List(vec![vec![0, 0], vec![1, 0], vec![1, 1]]));
        assert_eq!(hole, Err(SpaceError::NotDownwardClosed { index: vec![1, 1], lower: vec![0, 1] }));
        let twice = IndexSet::new(1, &Rule::List(vec![vec![0], vec![0]]));
        assert_eq!(twice, Err(SpaceError::Repeated { index: vec![0] }));
    }

    #[test]
    fn a_set_too_large_is_refused_before_it_is_there() {
        assert_eq!(IndexSet::new(64, &Rule::TotalDegree(12)), Err(SpaceError::TooManyFunctions));
    }
}
