//! Exact draws from projection determinantal point processes, blocked: almost all of the work is matrix products.
//!
//! The law of m points is det(Φ)²/m! (Hough, Krishnapur, Peres, Virág 2006): given the points accepted so far, the next
//! has density s(x)/(m − i) with s(x) = ‖φ(x)‖² − ‖Qφ(x)‖², Q an orthonormal basis of their features. One infinite stream
//! of candidates of the Christoffel measure is walked through; candidate t with its uniform number u_t is accepted where
//! u_t ‖φ‖² < s, given all accepted before it. Features are scaled to length 1, which leaves the test as it is.
//!
//! A block of candidates is tested at once against the points of earlier blocks. Those that pass are tested again, in the
//! order of the stream, against the points that the block itself has added: on the Gram matrix of their residuals, whose
//! diagonal is s. Beyond half of the points, s = ‖Zᵀφ‖² with a basis Z of what is left, shorter than Q and free of
//! cancellation (`span`). Which candidates are accepted does not depend on the blocks.
//!
//! One sample may be drawn by several ranks or threads together: each has the rows of Q and Z, and the entries of all features, of
//! its own functions. What they send each other is coordinates in the basis, O(m²) numbers in all.

mod device;
mod span;

use std::ops::Range;

use convoke_cluster::Comm;
use convoke_kernels::Device;
use faer::{Mat, MatMut, MatRef, Par};

use super::error::DesignError;
use super::source::{scale_rows, squared_lengths};
use device::OnDevice;
use span::{Span, Tested, eliminate, rows_of};

/// Accepted points that a block is made for, at most and at least; between them a twelfth of the functions, so that work within
/// blocks stays small beside the rest.
const TARGETS: [usize; 2] = [4, 64];
/// Part of the points still to be found that a block is made for, at most.
const PART: f64 = 0.35;
/// Rows of a block, at most: bounds its memory.
const MAX_BLOCK: usize = 4096;

/// A stream of candidates that are independent draws of the Christoffel measure of an m-dimensional space.
pub trait Candidates {
    /// m.
    fn functions(&self) -> usize;
    /// Those who draw the sample together.
    fn comm(&self) -> &Comm;
    /// φ of these candidates, of the functions `part` alone, into `out` (candidates × part), by many threads if `par` says so.
    /// Collective.
    ///
    /// # Errors
    /// Where another rank is gone.
    fn features(
        &self,
        candidates: &[u64],
        part: Range<usize>,
        out: MatMut<'_, f64>,
        par: Par,
    ) -> Result<(), DesignError>;
    /// The uniform number of candidate `t`.
    fn uniform(&self, t: u64) -> f64;
    /// Which atom of a discrete measure candidate `t`, one of those whose features were asked for last, is; an atom is accepted once.
    fn atom(&self, _t: u64) -> Option<usize> {
        None
    }
}

/// A sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Numbers of the accepted candidates in the stream, `[m]`, rising.
    pub accepted: Vec<u64>,
    /// Candidates that were looked at, up to the last one accepted.
    pub proposals: u64,
    /// Multiplications and additions of the linear algebra.
    pub flops: f64,
}

/// How to draw; the sample depends on none of it.
#[derive(Debug, Clone, Copy)]
pub struct Blocks {
    /// Accepted points that a block is made for.
    pub target: usize,
    /// Threads of the matrix products.
    pub par: Par,
}

impl Blocks {
    /// What suits `m` functions.
    pub fn of(m: usize, par: Par) -> Self {
        Self { target: (m / 12).clamp(TARGETS[0], TARGETS[1]), par }
    }
}

/// A basis of the accepted features or of what they leave, somewhere.
trait Bases: Send + std::fmt::Debug {
    /// m.
    fn functions(&self) -> usize;
    /// The functions whose rows this rank has.
    fn mine(&self) -> Range<usize>;
    /// Multiplications and additions so far, of all ranks.
    fn flops(&self) -> f64;
    /// s of every row of `f` (n × own functions) against its uniform number; residuals' Gram matrix for those that pass. Collective.
    fn test(&mut self, f: MatRef<'_, f64>, uniform: &dyn Fn(usize) -> f64, comm: &Comm) -> Result<Tested, DesignError>;
    /// Adds features, own functions × k, with `c` as coordinates in the basis, columns of it × k. Collective.
    fn add(&mut self, features: Mat<f64>, c: Mat<f64>, comm: &Comm) -> Result<(), DesignError>;
    /// Adds the rows of `f` (n × own functions). Collective.
    fn extend(&mut self, f: MatRef<'_, f64>, comm: &Comm) -> Result<(), DesignError>;
    /// Turns to a basis of the complement once that is the shorter one. Collective.
    fn shorten(&mut self, comm: &Comm) -> Result<(), DesignError>;
}

/// Draws one sample of m points. Collective.
///
/// # Errors
/// As [`Sampler::advance`].
pub fn sample(candidates: &impl Candidates, blocks: Blocks) -> Result<Sample, DesignError> {
    let mut sampler = Sampler::new(candidates, blocks);
    while !sampler.is_done() {
        sampler.advance(candidates)?;
    }
    Ok(sampler.sample())
}

/// A sample that is being drawn: all that it remembers is where it stands in the stream and which candidates it accepted.
#[derive(Debug)]
pub struct Sampler {
    blocks: Blocks,
    span: Box<dyn Bases>,
    /// Accepted candidates, rising.
    accepted: Vec<u64>,
    atoms: Vec<usize>,
    /// The next candidate.
    next: u64,
    /// Whether candidates of a block see each other; without it the law is another.
    retest: bool,
    buffer: Vec<f64>,
}

impl Sampler {
    /// At the start of the stream.
    pub fn new(candidates: &impl Candidates, blocks: Blocks) -> Self {
        let span = Span::new(candidates.functions(), candidates.comm(), blocks.par);
        Self::with(candidates, blocks, Box::new(span))
    }

    /// At the start of the stream, with products of matrices on a GPU. For one rank alone.
    ///
    /// # Errors
    /// Where the device has no room.
    pub fn on_device(candidates: &impl Candidates, blocks: Blocks, device: &Device) -> Result<Self, DesignError> {
        Ok(Self::with(candidates, blocks, Box::new(OnDevice::new(candidates.functions(), device)?)))
    }

    fn with(candidates: &impl Candidates, blocks: Blocks, span: Box<dyn Bases>) -> Self {
        Self {
            blocks,
            span,
            accepted: Vec::with_capacity(candidates.functions()),
            atoms: Vec::new(),
            next: 0,
            retest: true,
            buffer: Vec::new(),
        }
    }

    /// Goes to where another sampler of the same candidates stood, from the start. Collective.
    ///
    /// # Errors
    /// Where another rank is gone.
    pub fn resume(&mut self, candidates: &impl Candidates, next: u64, accepted: &[u64]) -> Result<(), DesignError> {
        for chunk in accepted.chunks(self.blocks.target.max(1)) {
            self.span.shorten(candidates.comm())?;
            let mut buffer = Vec::new();
            let f = self.unit_features(candidates, chunk, &mut buffer)?;
            self.span.extend(f, candidates.comm())?;
            self.atoms.extend(chunk.iter().filter_map(|t| candidates.atom(*t)));
        }
        self.accepted.extend(accepted);
        self.next = next;
        Ok(())
    }

    /// Whether all points are found.
    pub fn is_done(&self) -> bool {
        self.accepted.len() == self.span.functions()
    }

    /// The candidates accepted so far.
    pub fn accepted(&self) -> &[u64] {
        &self.accepted
    }

    /// The next candidate to be looked at.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Multiplications and additions so far, of all ranks.
    pub fn flops(&self) -> f64 {
        self.span.flops()
    }

    /// What was drawn.
    pub fn sample(self) -> Sample {
        let proposals = self.accepted.last().map_or(0, |t| t + 1);
        Sample { proposals, flops: self.span.flops(), accepted: self.accepted }
    }

    /// φ/‖φ‖ of candidates, n × own functions.
    fn unit_features<'b>(
        &self,
        candidates: &impl Candidates,
        numbers: &[u64],
        buffer: &'b mut Vec<f64>,
    ) -> Result<MatRef<'b, f64>, DesignError> {
        let (n, part) = (numbers.len(), self.span.mine());
        buffer.resize(n * part.len(), 0.0);
        let mut f = MatMut::from_column_major_slice_mut(buffer, n, part.len());
        candidates.features(numbers, part, f.as_mut(), self.blocks.par)?;
        let mut squares = squared_lengths(f.as_ref());
        candidates.comm().all_sum(&mut squares)?;
        scale_rows(f.as_mut(), &squares);
        Ok(MatRef::from_column_major_slice(buffer, n, self.span.mine().len()))
    }

    /// Looks at the next block of candidates. Collective.
    ///
    /// # Errors
    /// [`DesignError::Exhausted`] where m (10 + 20 ln m) + 1000 candidates do not give m points, of which the chance is below
    /// 1e-8 for a basis that is orthonormal. Where another rank is gone.
    pub fn advance(&mut self, candidates: &impl Candidates) -> Result<(), DesignError> {
        let (m, comm, found) = (self.span.functions(), candidates.comm(), self.accepted.len());
        let limit = (m as f64 * (10.0 + 20.0 * (m as f64).ln())) as u64 + 1000;
        if self.next > limit {
            return Err(DesignError::Exhausted { found, functions: m, candidates: self.next });
        }
        let left = m - found;
        let target = ((PART * left as f64).ceil() as usize).clamp(1, self.blocks.target.max(1));
        let n = (target * m).div_ceil(left).min(MAX_BLOCK) as u64;
        self.span.shorten(comm)?;
        let numbers: Vec<u64> = (self.next..self.next + n).collect();
        let mut buffer = std::mem::take(&mut self.buffer);
        let f = self.unit_features(candidates, &numbers, &mut buffer)?;
        let tested = self.span.test(f, &|b| candidates.uniform(numbers[b]), comm)?;
        // The second test, in the order of the stream: Gaussian elimination of the Gram matrix by accepted candidates.
        let mut gram = tested.gram;
        let mut taken: Vec<u32> = Vec::new();
        for (row, b) in tested.survivors.iter().enumerate() {
            let t = numbers[*b];
            let atom = candidates.atom(t);
            let seen = atom.is_some_and(|atom| self.atoms.contains(&atom));
            if seen || taken.len() == left || candidates.uniform(t) >= gram[(row, row)] {
                continue;
            }
            self.atoms.extend(atom);
            taken.push(row as u32);
            if self.retest {
                eliminate(gram.as_mut(), row);
            }
        }
        // One rank decides, should others round differently.
        let taken: Vec<u32> = bytemuck::pod_collect_to_vec(&comm.broadcast(0, bytemuck::cast_slice(&taken))?);
        let rows: Vec<usize> = taken.iter().map(|row| *row as usize).collect();
        self.accepted.extend(rows.iter().map(|row| numbers[tested.survivors[*row]]));
        let chosen: Vec<usize> = rows.iter().map(|row| tested.survivors[*row]).collect();
        let c = tested.coordinates;
        let coordinates = Mat::from_fn(c.nrows(), rows.len(), |i, j| c[(i, rows[j])]);
        self.span.add(rows_of(f, &chosen), coordinates, comm)?;
        self.buffer = buffer;
        self.next += n;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
