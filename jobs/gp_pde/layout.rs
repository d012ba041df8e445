//! Who holds which part of fields and of coefficients, and how many bytes the way between them takes.
//!
//! Ranks form a grid. Its slabs share the first mode of fields and the last of coefficients: one all-to-all lies between
//! the two. Where that would leave ranks empty, groups of ranks share the last mode of fields and the last but one of
//! coefficients too (a pencil), with a second all-to-all:
//!
//! ```text
//! coefficients   [r₀, r₁, r₂/P₁]                 [r₀, r₁/P₂, r₂/P₁]
//!                    A₀ · , all-to-all               A₀ · , all-to-all over slabs
//!                [n₀/P₁, r₁, r₂]                 [n₀/P₁, r₁/P₂, r₂]
//!                    A₂ · , A₁ ·                     A₂ · , all-to-all over groups
//!                                                [n₀/P₁, r₁, n₂/P₂]
//!                                                    A₁ ·
//! field          [n₀/P₁, n₁, n₂]                 [n₀/P₁, n₁, n₂/P₂]
//! ```

use std::ops::Range;

use convoke_cluster::shard::{RankGrid, block};
use convoke_cluster::{Comm, Region, Result};

/// Bytes for one rank below which messages are not cut into chunks. Measured with two ranks and 128³ points: half of this
/// or twice as many chunks is no faster, and slower where ranks have to share cores.
pub const MESSAGE: usize = 512 << 10;
/// Chunks of one all-to-all, at most.
const CHUNKS: usize = 4;

/// The part of one rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// All ranks.
    pub grid: RankGrid,
    /// Which of them.
    pub rank: usize,
}

/// Extents of the coefficients, and which modes have to be whole on every rank that has any of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Coefficients {
    /// Extents.
    pub extents: Vec<usize>,
    /// Modes that are inverted by back substitution cannot be split.
    pub whole: Vec<bool>,
}

impl Coefficients {
    /// The part of a mode that belongs to `part` of `parts`.
    fn part(&self, mode: usize, part: usize, parts: usize) -> Range<usize> {
        let n = self.extents[mode];
        match (self.whole[mode], part) {
            (false, _) => block(n, part, parts),
            (true, 0) => 0..n,
            (true, _) => n..n,
        }
    }

    /// The last mode, which slabs share.
    pub fn last(&self) -> usize {
        self.extents.len() - 1
    }

    /// The last but one, which groups share.
    pub fn middle(&self) -> usize {
        self.extents.len().saturating_sub(2)
    }

    /// What slab `s` has of the last mode.
    pub fn of_slab(&self, s: usize, grid: RankGrid) -> Range<usize> {
        self.part(self.last(), s, grid.slabs)
    }

    /// What group `g` has of the last mode but one.
    pub fn of_group(&self, g: usize, grid: RankGrid) -> Range<usize> {
        if grid.groups == 1 { 0..self.extents[self.middle()] } else { self.part(self.middle(), g, grid.groups) }
    }

    /// Coefficients of modes that no rank splits, the first left out.
    fn between(&self) -> usize {
        self.extents[1..self.middle().max(1)].iter().product()
    }

    /// Columns of a slab's matrix after the product with its first mode: all modes but the first.
    pub fn columns(&self, s: usize, g: usize, grid: RankGrid) -> usize {
        match self.extents.len() {
            2 => self.of_slab(s, grid).len(),
            _ => self.between() * self.of_group(g, grid).len() * self.of_slab(s, grid).len(),
        }
    }
}

impl Place {
    /// The grid for fields of `points` and about as many coefficients as `expected`.
    pub fn grid(ranks: usize, points: &[usize], expected: &[usize]) -> RankGrid {
        match (points, expected) {
            ([first, _, .., last], [.., middle, end]) => RankGrid::pencil(ranks, [*first, *last], [*end, *middle]),
            _ => RankGrid { slabs: ranks, groups: 1 },
        }
    }

    /// The part of a field that is here, by mode.
    pub fn field(&self, shape: &[usize]) -> Vec<Range<usize>> {
        let (slab, group) = self.grid.place(self.rank);
        let mut parts: Vec<Range<usize>> = shape.iter().map(|n| 0..*n).collect();
        if let Some(last) = parts.last_mut().filter(|_| self.grid.groups > 1) {
            *last = block(last.end, group, self.grid.groups);
        }
        parts[0] = block(shape[0], slab, self.grid.slabs);
        parts
    }

    /// The part of the coefficients that is here, by mode.
    pub fn coefficients(&self, all: &Coefficients) -> Vec<Range<usize>> {
        let (slab, group) = self.grid.place(self.rank);
        let mut parts: Vec<Range<usize>> = all.extents.iter().map(|n| 0..*n).collect();
        parts[all.middle()] = all.of_group(group, self.grid);
        parts[all.last()] = all.of_slab(slab, self.grid);
        parts
    }

    /// Bytes that this rank sends in one way from coefficients to a field of `points`.
    pub fn bytes_up(&self, points: &[usize], all: &Coefficients) -> u64 {
        let (slab, group) = self.grid.place(self.rank);
        let rows = block(points[0], slab, self.grid.slabs).len();
        let mut sent = (points[0] - rows) * all.columns(slab, group, self.grid);
        if self.grid.groups > 1 {
            let n = points[all.last()];
            let mine = block(n, group, self.grid.groups).len();
            sent += rows * all.between() * all.of_group(group, self.grid).len() * (n - mine);
        }
        8 * sent as u64
    }

    /// Bytes that this rank sends in one way from a field at the nodes to coefficients.
    pub fn bytes_down(&self, points: &[usize], all: &Coefficients) -> u64 {
        let (slab, group) = self.grid.place(self.rank);
        let rows = block(points[0], slab, self.grid.slabs).len();
        let (r, mine) = (all.extents[all.last()], all.of_slab(slab, self.grid).len());
        let mut sent = match all.extents.len() {
            2 => rows * (r - mine),
            _ => rows * all.between() * all.of_group(group, self.grid).len() * (r - mine),
        };
        if self.grid.groups > 1 {
            let columns = block(points[all.last()], group, self.grid.groups).len();
            let others = all.extents[all.middle()] - all.of_group(group, self.grid).len();
            sent += rows * all.between() * others * columns;
        }
        8 * sent as u64
    }

    /// Chunks of the all-to-all over slabs, of which one travels while the next is computed: as many as leave messages
    /// of at least `message` bytes. Equal on all ranks.
    pub fn chunks(&self, points: &[usize], all: &Coefficients, message: usize) -> usize {
        let RankGrid { slabs, groups } = self.grid;
        let rows = points[0] / slabs;
        let others: usize = all.extents[1..].iter().product();
        if slabs == 1 {
            1
        } else {
            (8 * rows * others / groups / slabs / message.max(1)).clamp(1, rows.clamp(1, CHUNKS))
        }
    }
}

/// The ranks of a run in their grid.
#[derive(Debug, Clone)]
pub struct Layout {
    /// All ranks.
    pub comm: Comm,
    /// This rank's part.
    pub place: Place,
    /// The ranks of the same group, one of each slab.
    pub slabs: Comm,
    /// The ranks that share a slab.
    pub groups: Comm,
    /// Least size of a chunk's message to one rank, in bytes.
    pub message: usize,
}

impl Layout {
    /// The ranks as this grid. Collective.
    ///
    /// # Errors
    /// Where a rank is gone.
    pub fn new(comm: &Comm, grid: RankGrid) -> Result<Self> {
        let (slab, group) = grid.place(comm.rank());
        let (slabs, groups) = match grid.groups {
            1 => (comm.clone(), Comm::solo()),
            _ => (comm.split(group, slab)?, comm.split(slab, group)?),
        };
        Ok(Self { comm: comm.clone(), place: Place { grid, rank: comm.rank() }, slabs, groups, message: MESSAGE })
    }

    /// The part of a field of this shape that is here.
    pub fn region(&self, shape: &[usize]) -> Region {
        self.region_of(self.place.rank, shape)
    }

    /// The part of a field of this shape that a rank has.
    pub fn region_of(&self, rank: usize, shape: &[usize]) -> Region {
        let parts = Place { rank, ..self.place }.field(shape);
        Region { start: parts.iter().map(|p| p.start).collect(), count: parts.iter().map(Range::len).collect() }
    }

    /// Number of chunks of the way between coefficients and a field of `points`.
    pub fn chunks(&self, points: &[usize], all: &Coefficients) -> usize {
        self.place.chunks(points, all, self.message)
    }
}
