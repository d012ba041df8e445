//! Who holds what: contiguous blocks of an axis, boxes of an array, and their intersections.

use std::ops::Range;

/// The contiguous part of `n` items that belongs to `part` of `parts`; the first `n % parts`
/// hold one item more. Parts beyond `n` are empty.
pub fn block(n: usize, part: usize, parts: usize) -> Range<usize> {
    let (base, more) = (n / parts, n % parts);
    let start = part * base + part.min(more);
    start..start + base + usize::from(part < more)
}

/// A grid of ranks: `slabs` along the first axis of the data, `groups` that share a slab.
///
/// Used where there are fewer slabs than ranks: group `g` of slab `s` is rank `s·groups + g`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RankGrid {
    /// Parts of the first axis.
    pub slabs: usize,
    /// Ranks that share one part.
    pub groups: usize,
}

impl RankGrid {
    /// As many slabs as there are items for, the other ranks in equal groups behind them.
    ///
    /// Every rank gets a place: `slabs` is the largest divisor of `ranks` that is at most `items`.
    pub fn fit(ranks: usize, items: usize) -> Self {
        let slabs = (1..=ranks.min(items.max(1))).rev().find(|s| ranks.is_multiple_of(*s)).unwrap_or(1);
        Self { slabs, groups: ranks / slabs }
    }

    /// A grid for fields that are split along two axes (`field`: their extents) and coefficients that are split along
    /// two modes: slabs while each has something of both, else the grid whose fullest rank holds the least.
    pub fn pencil(ranks: usize, field: [usize; 2], coefficients: [usize; 2]) -> Self {
        if ranks <= field[0].min(coefficients[0]) {
            return Self { slabs: ranks, groups: 1 };
        }
        let fullest = |slabs: &usize| {
            let part = |extents: [usize; 2]| extents[0].div_ceil(*slabs) * extents[1].div_ceil(ranks / slabs);
            part(field) + part(coefficients)
        };
        // The most slabs of those that are equal: each group more is a message more.
        let divisors = (1..=ranks).rev().filter(|s| ranks.is_multiple_of(*s));
        let slabs = divisors.min_by_key(fullest).unwrap_or(ranks);
        Self { slabs, groups: ranks / slabs }
    }

    /// `(slab, group)` of a rank.
    pub fn place(&self, rank: usize) -> (usize, usize) {
        (rank / self.groups, rank % self.groups)
    }
}

/// A box of a global array: where it starts and how far it reaches, per axis.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Region {
    /// First index, per axis.
    pub start: Vec<usize>,
    /// Extent, per axis.
    pub count: Vec<usize>,
}

impl Region {
    /// The whole of an array.
    pub fn whole(shape: &[usize]) -> Self {
        Self { start: vec![0; shape.len()], count: shape.to_vec() }
    }

    /// Rows `rows` of the first axis, everything of the others.
    pub fn rows(shape: &[usize], rows: Range<usize>) -> Self {
        let mut region = Self::whole(shape);
        region.start[0] = rows.start;
        region.count[0] = rows.len();
        region
    }

    /// This region with its range along `axis` replaced.
    pub fn with(mut self, axis: usize, range: Range<usize>) -> Self {
        self.start[axis] = range.start;
        self.count[axis] = range.len();
        self
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.count.iter().product()
    }

    /// Whether it holds no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What both contain, if anything.
    pub fn intersection(&self, other: &Self) -> Option<Self> {
        let mut both = self.clone();
        for axis in 0..self.start.len() {
            let start = self.start[axis].max(other.start[axis]);
            let end = (self.start[axis] + self.count[axis]).min(other.start[axis] + other.count[axis]);
            if end <= start {
                return None;
            }
            both.start[axis] = start;
            both.count[axis] = end - start;
        }
        Some(both)
    }

    /// Copies the elements of `part` from an array that covers `self` into one that covers `to`.
    ///
    /// `part` must lie in both. Row-major on both sides.
    pub fn copy_part<T: Copy>(&self, from: &[T], part: &Self, to: &Self, out: &mut [T]) {
        let axes = part.count.len();
        if part.is_empty() {
            return;
        }
        let run = if axes == 0 { 1 } else { part.count[axes - 1] };
        let mut index = part.start.clone();
        loop {
            let (a, b) = (self.offset(&index), to.offset(&index));
            out[b..b + run].copy_from_slice(&from[a..a + run]);
            // next row: odometer over all axes but the last
            let mut axis = axes.saturating_sub(1);
            loop {
                if axis == 0 {
                    return;
                }
                axis -= 1;
                index[axis] += 1;
                if index[axis] < part.start[axis] + part.count[axis] {
                    break;
                }
                index[axis] = part.start[axis];
            }
        }
    }

    fn offset(&self, index: &[usize]) -> usize {
        let mut offset = 0;
        for ((i, start), count) in index.iter().zip(&self.start).zip(&self.count) {
            offset = offset * count + (i - start);
        }
        offset
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn blocks_partition_and_differ_by_at_most_one(n in 0usize..1000, parts in 1usize..40) {
            let blocks: Vec<_> = (0..parts).map(|p| block(n, p, parts)).collect();
            prop_assert_eq!(blocks[0].start, 0);
            prop_assert_eq!(blocks[parts - 1].end, n);
            for pair in blocks.windows(2) {
                prop_assert_eq!(pair[0].end, pair[1].start);
                prop_assert!(pair[0].len() - pair[1].len() <= 1);
            }
        }

        #[test]
        fn copying_every_part_restores_the_array(a in 1usize..7, b in 1usize..7, c in 1usize..7, pa in 1usize..5, pb in 1usize..5) {
            let shape = [a, b, c];
            let whole: Vec<usize> = (0..a * b * c).collect();
            let all = Region::whole(&shape);
            let mut back = vec![usize::MAX; whole.len()];
            for i in 0..pa {
                let mine = Region::whole(&shape).with(0, block(a, i, pa)).with(2, block(c, i, pa));
                let mut part = vec![0; mine.len()];
                all.copy_part(&whole, &mine, &mine, &mut part);
                mine.copy_part(&part, &mine, &all, &mut back);
            }
            for i in 0..pa { for j in 0..pb { for k in 0..pb {
                let box_ = Region::whole(&shape).with(0, block(a, i, pa)).with(1, block(b, j, pb)).with(2, block(c, k, pb));
                let mut part = vec![0; box_.len()];
                all.copy_part(&whole, &box_, &box_, &mut part);
                box_.copy_part(&part, &box_, &all, &mut back);
            }}}
            prop_assert_eq!(back, whole);
        }
    }

    #[test]
    fn every_rank_has_a_place_in_the_grid() {
        assert_eq!(RankGrid::fit(4, 2), RankGrid { slabs: 2, groups: 2 });
        assert_eq!(RankGrid::fit(3, 2), RankGrid { slabs: 1, groups: 3 });
        assert_eq!(RankGrid::fit(5, 64), RankGrid { slabs: 5, groups: 1 });
        assert_eq!(RankGrid::fit(6, 2).place(4), (1, 1));
    }

    #[test]
    fn pencils_only_where_slabs_leave_ranks_empty() {
        assert_eq!(RankGrid::pencil(5, [12, 12], [7, 7]), RankGrid { slabs: 5, groups: 1 });
        assert_eq!(RankGrid::pencil(24, [12, 12], [9, 9]), RankGrid { slabs: 12, groups: 2 });
        assert_eq!(RankGrid::pencil(4096, [1024, 1024], [600, 600]), RankGrid { slabs: 128, groups: 32 });
    }

    #[test]
    fn disjoint_regions_do_not_meet() {
        let shape = [4, 4];
        let top = Region::rows(&shape, 0..2);
        assert_eq!(top.intersection(&Region::rows(&shape, 2..4)), None);
        assert_eq!(top.intersection(&Region::whole(&shape)), Some(top.clone()));
    }
}
