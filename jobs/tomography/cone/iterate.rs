//! The iterative algorithms on a volume in slabs: one problem, whose norms and step lengths are sums over all ranks.
//!
//! A rank casts its slab on its band of rows; the bands' overlaps are summed over the slabs ([`Bands`]), what ranks of one
//! slab back-project from their views over the slab's group.

use std::ops::Range;

use convoke_cluster::{Comm, Fields, Region, Result};
use convoke_kernels::{Buffer, ConeProjector, Device, Slices};
use rayon::prelude::*;

use super::bands::Bands;
use crate::tomography::spec::{Algorithm, MethodSpec};

/// Weights below this part of the largest belong to rays or voxels that miss the object.
const TINY: f32 = 1e-6;
/// Values whose squares are added up before they join the others.
const BLOCK: usize = 4096;

/// Where a rank stands among the others.
#[derive(Debug)]
pub(super) struct Place {
    /// All ranks.
    pub all: Comm,
    /// Those with the same slab and other views.
    pub group: Comm,
    /// Those with the same views, one for each slab, in their order.
    pub column: Comm,
    pub bands: Bands,
    pub device: Device,
}

impl Place {
    /// Sums of what every rank has, in rank order.
    fn sums<const N: usize>(&self, mut mine: [f64; N]) -> Result<[f64; N]> {
        self.all.all_sum(&mut mine)?;
        Ok(mine)
    }

    /// Adds up over the group what its ranks back-projected.
    pub fn reduce(&self, volume: &mut Buffer<f32>) -> Result<()> {
        if self.group.size() > 1 {
            self.group.all_sum(volume.host_mut())?;
        }
        Ok(())
    }
}

/// One subset of the views: those that are here.
#[derive(Debug)]
struct Subset {
    projector: ConeProjector,
    /// `[rows of the band, views, n_cols]`; the residual of CGLS.
    data: Buffer<f32>,
    scratch: Buffer<f32>,
    /// 1 / (A 1), and 1 / (Aᵀ 1) of all ranks' views of the subset. Empty for CGLS.
    ray_weight: Buffer<f32>,
    voxel_weight: Buffer<f32>,
    /// Values of the rows that this rank owns.
    owned: Range<usize>,
    row_len: usize,
}

/// An iterative reconstruction.
#[derive(Debug)]
pub(super) struct Iteration {
    place: Place,
    ops: Slices,
    method: MethodSpec,
    subsets: Vec<Subset>,
    order: Vec<usize>,
    mask: Option<Buffer<f32>>,
    /// The slab, `[slices, ny, nx]`.
    pub image: Buffer<f32>,
    correction: Buffer<f32>,
    /// Search direction of CGLS, and the squared norm of its last gradient.
    direction: Option<Buffer<f32>>,
    gradient2: f64,
    data2: f64,
    rays: f64,
}

/// What an iteration did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Residual {
    /// ‖y − A x‖ / ‖y‖
    pub relative: f64,
    /// Whether the noise level is reached.
    pub reached: bool,
}

impl Iteration {
    /// Starts from an image of zeros (of ones for the multiplicative algorithms). Collective.
    ///
    /// `subsets` are projectors of this rank's slab and band with their data.
    pub fn new(
        place: Place,
        subsets: Vec<(ConeProjector, Vec<f32>)>,
        order: Vec<usize>,
        method: &MethodSpec,
        mask: Option<Vec<f32>>,
    ) -> Result<Self> {
        let (device, ops) = (place.device.clone(), Slices::new(&place.device, 1)?);
        let voxels = subsets.first().map_or(0, |(p, _)| p.volume_len());
        let cgls = method.algorithm == Algorithm::Cgls;
        let (mut data2, mut rays) = (0.0, 0.0);
        let mut made = Vec::new();
        for (projector, data) in subsets {
            let mut subset = Subset::new(&place, projector, data, cgls)?;
            if method.algorithm.is_multiplicative() {
                // A Poisson likelihood knows no negative counts; noise about 0 makes them.
                ops.clamp_min(0.0, &mut subset.data)?;
            }
            data2 += norm2(&subset.data.host()[subset.owned.clone()]);
            rays += subset.owned.len() as f64;
            made.push(subset);
        }
        let [data2, rays] = place.sums([data2, rays])?;
        let start = if method.algorithm.is_multiplicative() { 1.0 } else { 0.0 };
        let mut iteration = Self {
            image: Buffer::from_vec(&device, vec![start; voxels])?,
            correction: Buffer::zeros(&device, voxels)?,
            direction: if cgls { Some(Buffer::zeros(&device, voxels)?) } else { None },
            gradient2: 0.0,
            mask: mask.map(|m| Buffer::from_vec(&device, m)).transpose()?,
            subsets: made,
            method: method.clone(),
            place,
            ops,
            order,
            data2,
            rays,
        };
        apply(&iteration.place, &mut iteration.mask, &mut iteration.image)?;
        Ok(iteration)
    }

    /// The state for checkpoints. CGLS keeps its residual: the recursion and a fresh `y − A x` differ by rounding.
    pub fn fields<'a>(
        &'a mut self,
        fields: &mut Fields<'a>,
        shape: [usize; 3],
        slices: Range<usize>,
        (n_rows, views): (usize, (usize, Range<usize>)),
    ) {
        let leader = self.place.group.is_root();
        let region = Region::rows(&shape, slices);
        fields.array("image", &shape, region.clone(), self.image.host_mut()).owned = leader;
        if let Some(direction) = &mut self.direction {
            fields.array("direction", &shape, region, direction.host_mut()).owned = leader;
            fields.real("gradient2", &mut self.gradient2);
            let subset = &mut self.subsets[0];
            let rows = self.place.bands.owned(self.place.column.rank());
            let n_cols = subset.projector.geometry().n_cols;
            let shape = [n_rows, views.0, n_cols];
            let part = Region::rows(&shape, rows).with(1, views.1);
            fields.array("residual", &shape, part, &mut subset.data.host_mut()[subset.owned.clone()]);
        }
    }

    /// After the state was loaded: the rows that others own. Collective.
    pub fn restored(&mut self) -> Result<()> {
        if self.direction.is_some() {
            let subset = &mut self.subsets[0];
            self.place.bands.spread(&self.place.column, subset.row_len, subset.data.host_mut())?;
        }
        Ok(())
    }

    /// One iteration over all views. Collective.
    pub fn step(&mut self, iteration: u64) -> Result<Residual> {
        let mine = match self.method.algorithm {
            Algorithm::Cgls => self.cgls(iteration)?,
            a => self.subset_by_subset(a.is_multiplicative())?,
        };
        let [residual2] = self.place.sums([mine])?;
        let reached = self.method.noise.is_some_and(|noise| residual2 <= noise * noise * self.rays);
        let relative = if self.data2 > 0.0 { (residual2 / self.data2).sqrt() } else { 0.0 };
        Ok(Residual { relative, reached })
    }

    /// SIRT and OS-SART: x += ω C Aᵀ R (y − A x); MLEM and OSEM: x ← x · Aᵀ(y / A x) / (Aᵀ 1). Returns the squared residual
    /// of the rows that this rank owns, as met on the way.
    ///
    /// Sources: Gregor and Benson, IEEE Trans. Med. Imaging 27 (2008) 918; Hudson and Larkin, ibid. 13 (1994) 601.
    fn subset_by_subset(&mut self, multiplicative: bool) -> Result<f64> {
        let omega = self.method.relaxation.unwrap_or(1.0);
        let (place, ops) = (&self.place, &self.ops);
        let mut residual2 = 0.0;
        for k in self.order.clone() {
            let subset = &mut self.subsets[k];
            subset.forward(place, &mut self.image)?;
            let Subset { data, scratch, owned, ray_weight, .. } = subset;
            residual2 += distance2(&data.host()[owned.clone()], &scratch.host()[owned.clone()]);
            if multiplicative {
                let mut modelled = std::mem::replace(scratch, Buffer::zeros(&place.device, data.len())?);
                ops.ratio(data, &mut modelled, scratch)?;
            } else {
                // R (y − A x)
                ops.xpby(data, &[-1.0], scratch)?;
                ops.multiply(ray_weight, scratch)?;
            }
            subset.back(place, &mut self.correction)?;
            ops.multiply(&mut subset.voxel_weight, &mut self.correction)?;
            if multiplicative {
                ops.multiply(&mut self.correction, &mut self.image)?;
            } else {
                ops.axpy(&[omega], &mut self.correction, &mut self.image)?;
                if self.method.non_negative == Some(true) {
                    ops.clamp_min(0.0, &mut self.image)?;
                }
            }
            apply(place, &mut self.mask, &mut self.image)?;
        }
        Ok(residual2)
    }

    /// CGLS: conjugate gradients for min ‖A x − y‖².
    ///
    /// Source: Björck, Numerical Methods for Least Squares Problems (1996), algorithm 7.4.1.
    fn cgls(&mut self, iteration: u64) -> Result<f64> {
        let mut direction = self.direction.take().expect("CGLS has a direction");
        if iteration == 0 {
            // s = Aᵀ r, p = s, γ = ‖s‖²
            self.gradient2 = self.gradient()?;
            self.ops.copy(&mut self.correction, &mut direction)?;
        }
        // q = A p, α = γ / ‖q‖²
        let subset = &mut self.subsets[0];
        subset.forward(&self.place, &mut direction)?;
        let [q2] = self.place.sums([norm2(&subset.scratch.host()[subset.owned.clone()])])?;
        let alpha = if q2 > 0.0 { self.gradient2 / q2 } else { 0.0 };
        // x += α p, r −= α q
        self.ops.axpy(&[alpha], &mut direction, &mut self.image)?;
        self.ops.axpy(&[-alpha], &mut subset.scratch, &mut subset.data)?;
        let residual2 = norm2(&subset.data.host()[subset.owned.clone()]);
        // s = Aᵀ r, β = γ' / γ, p = s + β p
        let old = self.gradient2;
        self.gradient2 = self.gradient()?;
        let beta = if old > 0.0 { self.gradient2 / old } else { 0.0 };
        self.ops.xpby(&mut self.correction, &[beta], &mut direction)?;
        self.direction = Some(direction);
        Ok(residual2)
    }

    /// correction = M Aᵀ r; returns its squared norm, of all slabs.
    fn gradient(&mut self) -> Result<f64> {
        let subset = &mut self.subsets[0];
        self.ops.copy(&mut subset.data, &mut subset.scratch)?;
        subset.back(&self.place, &mut self.correction)?;
        apply(&self.place, &mut self.mask, &mut self.correction)?;
        let mine = if self.place.group.is_root() { norm2(self.correction.host()) } else { 0.0 };
        let [sum] = self.place.sums([mine])?;
        Ok(sum)
    }
}

impl Subset {
    fn new(place: &Place, projector: ConeProjector, data: Vec<f32>, cgls: bool) -> Result<Self> {
        let device = &place.device;
        let part = projector.part();
        let row_len = part.views.len() * projector.geometry().n_cols;
        let rows = place.bands.owned(place.column.rank());
        let first = part.rows.start;
        let owned = if rows.is_empty() { 0..0 } else { (rows.start - first) * row_len..(rows.end - first) * row_len };
        let empty = || Buffer::zeros(device, 0);
        let mut subset = Self {
            scratch: Buffer::zeros(device, data.len())?,
            data: Buffer::from_vec(device, data)?,
            ray_weight: empty()?,
            voxel_weight: empty()?,
            projector,
            owned,
            row_len,
        };
        if cgls {
            return Ok(subset);
        }
        let mut ones = Buffer::from_vec(device, vec![1.0; subset.projector.volume_len()])?;
        subset.forward(place, &mut ones)?;
        let mut rays = subset.scratch.duplicate()?;
        subset.scratch.host_mut().fill(1.0);
        subset.back(place, &mut ones)?;
        invert(rays.host_mut());
        invert(ones.host_mut());
        (subset.ray_weight, subset.voxel_weight) = (rays, ones);
        Ok(subset)
    }

    /// scratch = A volume, of all slabs. Collective over the column.
    fn forward(&mut self, place: &Place, volume: &mut Buffer<f32>) -> Result<()> {
        self.projector.forward(volume, &mut self.scratch)?;
        if place.column.size() > 1 {
            place.bands.sum(&place.column, self.row_len, self.scratch.host_mut())?;
        }
        Ok(())
    }

    /// volume = Aᵀ scratch, of all views. Collective over the group.
    fn back(&mut self, place: &Place, volume: &mut Buffer<f32>) -> Result<()> {
        self.projector.back(&mut self.scratch, volume)?;
        place.reduce(volume)
    }
}

/// 1 / weight, 0 where it is tiny beside the largest.
fn invert(weights: &mut [f32]) {
    let least = TINY * weights.iter().fold(0f32, |m, w| m.max(*w));
    weights.iter_mut().for_each(|w| *w = if *w > least { 1.0 / *w } else { 0.0 });
}

fn apply(place: &Place, mask: &mut Option<Buffer<f32>>, volume: &mut Buffer<f32>) -> Result<()> {
    if let Some(mask) = mask.as_mut().filter(|m| !m.is_empty()) {
        let slices = volume.len() / mask.len();
        if slices > 0 {
            Slices::new(&place.device, slices)?.multiply(mask, volume)?;
        }
    }
    Ok(())
}

/// Σ v², in f64 over fixed blocks.
fn norm2(values: &[f32]) -> f64 {
    let square = |v: &f32| f64::from(*v) * f64::from(*v);
    let blocks: Vec<f64> = values.par_chunks(BLOCK).map(|block| block.iter().map(square).sum()).collect();
    blocks.iter().sum()
}

/// Σ (a − b)², in f64 over fixed blocks.
fn distance2(a: &[f32], b: &[f32]) -> f64 {
    let pairs = |(a, b): (&[f32], &[f32])| -> f64 {
        a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum()
    };
    let blocks: Vec<f64> = a.par_chunks(BLOCK).zip(b.par_chunks(BLOCK)).map(pairs).collect();
    blocks.iter().sum()
}
