//! One pass over an array of any size: statistics, and the planes or the curve that a picture needs.
//!
//! Memory is bounded: a block of [`BLOCK`] elements, planes of at most [`PLANE`]² elements and
//! curves of about [`CURVE`] points, however large the array is.

use convoke_data::Result;
use convoke_data::store::{Dtype, Reader};
use rayon::prelude::*;

use super::moments::{Moments, Stats};

/// Elements read at once.
pub const BLOCK: usize = 1 << 22;
/// Samples of a plane along one axis; a longer one is sampled at equal distances.
const PLANE: usize = 2048;
/// Points of a curve; of a longer one, the extremes of equal pieces are kept.
const CURVE: usize = 2048;

/// A contiguous part of a row-major array.
#[derive(Debug)]
pub struct Block {
    /// First index per axis.
    pub start: Vec<usize>,
    /// Length per axis.
    pub count: Vec<usize>,
    /// Position of the first element in the flat array.
    pub offset: usize,
}

/// Cuts an array of `shape` into contiguous blocks, in order.
pub fn blocks(shape: &[usize]) -> impl Iterator<Item = Block> {
    let shape = shape.to_vec();
    let inner = |axis: usize| shape[axis + 1..].iter().product::<usize>();
    // The first axis whose rows fit into a block; before it, single indices.
    let axis = (0..shape.len()).find(|&k| inner(k) <= BLOCK).unwrap_or(0);
    let row = if shape.is_empty() { 1 } else { inner(axis) };
    let length = shape.get(axis).copied().unwrap_or(1);
    let rows = (BLOCK / row.max(1)).clamp(1, length.max(1));
    let lead: usize = shape.iter().take(axis).product();
    let empty = shape.contains(&0);
    let cuts = if empty { 0 } else { length.div_ceil(rows) };
    (0..lead * cuts).map(move |i| {
        let (outer, first) = (i / cuts, (i % cuts) * rows);
        let taken = rows.min(length - first);
        if shape.is_empty() {
            return Block { start: vec![], count: vec![], offset: 0 };
        }
        let mut start = unravel(outer, &shape[..axis]);
        start.push(first);
        start.resize(shape.len(), 0);
        let mut count = vec![1; axis];
        count.push(taken);
        count.extend(&shape[axis + 1..]);
        Block { start, count, offset: (outer * length + first) * row }
    })
}

/// Index per axis of the element at `flat`.
pub fn unravel(mut flat: usize, shape: &[usize]) -> Vec<usize> {
    let mut index = vec![0; shape.len()];
    for axis in (0..shape.len()).rev() {
        index[axis] = flat % shape[axis].max(1);
        flat /= shape[axis].max(1);
    }
    index
}

/// Reads a block as f64; f32 data travel as f32, which HDF5 reads without converting.
pub fn read(file: &Reader, path: &str, block: &Block) -> Result<Vec<f64>> {
    if file.dtype(path)? == Dtype::Float(4) {
        let values: Vec<f32> = file.read_slab(path, &block.start, &block.count)?;
        return Ok(values.into_iter().map(f64::from).collect());
    }
    file.read_slab(path, &block.start, &block.count)
}

/// A plane through an array: two axes run, the others are fixed.
#[derive(Debug, Clone)]
pub struct Plane {
    /// The axis that runs along the rows' direction (slower).
    pub rows: usize,
    /// The axis that runs along the columns' direction (faster).
    pub cols: usize,
    /// Index on every other axis (0 on the two that run).
    pub at: Vec<usize>,
    /// Samples along both.
    pub shape: [usize; 2],
    /// The samples, `shape` row-major.
    pub values: Vec<f32>,
}

impl Plane {
    /// An empty plane of an array of `shape`, to be filled by a pass.
    pub fn new(shape: &[usize], rows: usize, cols: usize, mut at: Vec<usize>) -> Self {
        (at[rows], at[cols]) = (0, 0);
        let samples = [shape[rows].min(PLANE), shape[cols].min(PLANE)];
        Self { rows, cols, at, shape: samples, values: vec![f32::NAN; samples[0] * samples[1]] }
    }

    /// Takes what a block holds of the plane.
    pub fn take(&mut self, shape: &[usize], offset: usize, values: &[f64]) {
        let stride = |axis: usize| shape[axis + 1..].iter().product::<usize>();
        let base: usize = (0..shape.len()).map(|axis| self.at[axis] * stride(axis)).sum();
        let [n_rows, n_cols] = self.shape;
        let (dr, dc) = (stride(self.rows), stride(self.cols));
        for r in 0..n_rows {
            let start = base + r * shape[self.rows] / n_rows * dr;
            let end = start + (shape[self.cols] - 1) * dc;
            if start >= offset + values.len() || end < offset {
                continue;
            }
            for c in 0..n_cols {
                let flat = start + c * shape[self.cols] / n_cols * dc;
                if let Some(&v) = flat.checked_sub(offset).and_then(|k| values.get(k)) {
                    self.values[r * n_cols + c] = v as f32;
                }
            }
        }
    }
}

/// Thins a curve to about [`CURVE`] points: `(index, value)`.
#[derive(Debug, Clone)]
pub struct Thinned {
    piece: usize,
    /// The points, in order.
    pub points: Vec<(f64, f64)>,
}

impl Thinned {
    /// An empty curve of `n` values.
    pub fn new(n: usize) -> Self {
        Self { piece: if n <= CURVE { 1 } else { (2 * n).div_ceil(CURVE) }, points: Vec::new() }
    }

    /// A short curve as it is.
    pub fn of(values: &[f64]) -> Self {
        let mut curve = Self::new(values.len());
        curve.take(0, values);
        curve
    }

    /// Takes the next values, the first of which has index `offset`.
    pub fn take(&mut self, offset: usize, values: &[f64]) {
        for (k, piece) in values.chunks(self.piece).enumerate() {
            let first = offset + k * self.piece;
            let point = |i: usize| ((first + i) as f64, piece[i]);
            let finite = || (0..piece.len()).filter(|&i| piece[i].is_finite());
            let low = finite().min_by(|&a, &b| piece[a].total_cmp(&piece[b])).unwrap_or(0);
            let high = finite().max_by(|&a, &b| piece[a].total_cmp(&piece[b])).unwrap_or(0);
            self.points.push(point(low.min(high)));
            if low != high {
                self.points.push(point(low.max(high)));
            }
        }
    }
}

/// What a pass collects beside the statistics.
#[derive(Debug)]
pub enum Wanted {
    /// Nothing.
    Statistics,
    /// Planes.
    Planes(Vec<Plane>),
    /// The array as one curve.
    Curve(Thinned),
}

/// Reads the array once.
///
/// # Errors
/// The file is damaged.
pub fn scan(file: &Reader, path: &str, shape: &[usize], wanted: &mut Wanted) -> Result<Stats> {
    let mut all = Moments::NONE;
    for block in blocks(shape) {
        let values = read(file, path, &block)?;
        // Fixed pieces, merged in order: the same figures on any number of threads.
        let parts: Vec<Moments> = values.par_chunks(1 << 16).map(Moments::of).collect();
        all = parts.into_iter().fold(all, Moments::merge);
        match wanted {
            Wanted::Statistics => {}
            Wanted::Planes(planes) => planes.iter_mut().for_each(|p| p.take(shape, block.offset, &values)),
            Wanted::Curve(curve) => curve.take(block.offset, &values),
        }
    }
    Ok(all.stats())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_cover_each_element_once_in_order() {
        for shape in [vec![], vec![7], vec![3, BLOCK / 2], vec![2, 3, BLOCK + 1], vec![5, 0], vec![3000, 2000, 2]] {
            let mut next = 0;
            for block in blocks(&shape) {
                assert_eq!(block.offset, next, "{shape:?}");
                assert_eq!(unravel(block.offset, &shape), block.start);
                next += block.count.iter().product::<usize>();
            }
            assert_eq!(next, shape.iter().product::<usize>(), "{shape:?}");
        }
    }

    #[test]
    fn planes_come_from_blocks_of_any_cut() {
        let shape = [3, 4, 5];
        let values: Vec<f64> = (0..60).map(f64::from).collect();
        let mut plane = Plane::new(&shape, 0, 1, vec![0, 0, 2]);
        for (k, piece) in values.chunks(7).enumerate() {
            plane.take(&shape, 7 * k, piece);
        }
        let expected: Vec<f32> = (0..12).map(|i| (i * 5 + 2) as f32).collect();
        assert_eq!(plane.values, expected);
    }

    #[test]
    fn a_thinned_curve_keeps_its_extremes() {
        let mut values = vec![0.0; 100_000];
        values[77_777] = 5.0;
        values[12] = -3.0;
        let curve = Thinned::of(&values);
        assert!(curve.points.len() <= CURVE + 2);
        assert!(curve.points.contains(&(77_777.0, 5.0)) && curve.points.contains(&(12.0, -3.0)));
    }
}
