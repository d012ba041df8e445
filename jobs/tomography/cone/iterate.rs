//! The iterative algorithms on a volume in slabs: one problem, whose norms and step lengths are sums over all ranks.
//!
//! The projections are those of `operator.rs`.

use std::ops::Range;

use convoke_cluster::{Fields, Region, Result};
use convoke_kernels::{Buffer, Slices};
use rayon::prelude::*;

use super::operator::{Projection, Ranks};
use crate::inverse::vectors;
use crate::tomography::spec::{Algorithm, MethodSpec};

/// Weights below this part of the largest belong to rays or voxels that miss the object.
const TINY: f32 = 1e-6;
/// Values whose squares are added up before they join the others.
const BLOCK: usize = 4096;

/// One subset of the views: those that are here.
#[derive(Debug)]
struct Subset {
    projection: Projection,
    /// `[rows of the band, views, n_cols]`; the residual of CGLS.
    data: Buffer<f32>,
    scratch: Buffer<f32>,
    /// 1 / (A 1), and 1 / (Aᵀ 1) of all ranks' views of the subset. Empty for CGLS.
    ray_weight: Buffer<f32>,
    voxel_weight: Buffer<f32>,
}

/// An iterative reconstruction.
#[derive(Debug)]
pub(super) struct Iteration {
    ranks: Ranks,
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
    /// `subsets` are projections of this rank's slab and band with their data.
    pub fn new(
        ranks: Ranks,
        subsets: Vec<(Projection, Buffer<f32>)>,
        order: Vec<usize>,
        method: &MethodSpec,
        mask: Option<Vec<f32>>,
    ) -> Result<Self> {
        // Room for all vectors, on every rank, before they talk of anything else.
        let all = ranks.all.clone();
        let mut iteration = all.agree(Self::allocate(ranks, subsets, order, method, mask))?;
        iteration.start()?;
        Ok(iteration)
    }

    fn allocate(
        ranks: Ranks,
        subsets: Vec<(Projection, Buffer<f32>)>,
        order: Vec<usize>,
        method: &MethodSpec,
        mask: Option<Vec<f32>>,
    ) -> Result<Self> {
        let ops = Slices::new(ranks.store.device(), 1)?;
        let voxels = subsets.first().map_or(0, |(p, _)| p.volume_len());
        let cgls = method.algorithm == Algorithm::Cgls;
        let start = if method.algorithm.is_multiplicative() { 1.0 } else { 0.0 };
        let subset = |(projection, data)| Subset::allocate(&ranks, projection, data, cgls);
        Ok(Self {
            subsets: subsets.into_iter().map(subset).collect::<Result<_>>()?,
            image: ranks.store.filled(start, voxels)?,
            correction: ranks.store.zeros(voxels)?,
            direction: if cgls { Some(ranks.store.zeros(voxels)?) } else { None },
            gradient2: 0.0,
            mask: mask.map(|m| Buffer::from_vec(ranks.store.device(), m)).transpose()?,
            method: method.clone(),
            ranks,
            ops,
            order,
            data2: 0.0,
            rays: 0.0,
        })
    }

    /// Weights, and the norm of the data. Collective.
    fn start(&mut self) -> Result<()> {
        let Self { ranks, ops, method, subsets, .. } = self;
        let (mut data2, mut rays) = (0.0, 0.0);
        for subset in subsets {
            if method.algorithm != Algorithm::Cgls {
                subset.weigh(ranks)?;
            }
            if method.algorithm.is_multiplicative() {
                // A Poisson likelihood knows no negative counts; noise about 0 makes them.
                ops.clamp_min(0.0, &mut subset.data)?;
            }
            data2 += norm2(&subset.data.host()[subset.projection.owned.clone()]);
            rays += subset.projection.owned.len() as f64;
        }
        [self.data2, self.rays] = ranks.sums([data2, rays])?;
        apply(&self.ranks, &mut self.mask, &mut self.image)
    }

    /// The state for checkpoints. CGLS keeps its residual: the recursion and a fresh `y − A x` differ by rounding.
    pub fn fields<'a>(
        &'a mut self,
        fields: &mut Fields<'a>,
        shape: [usize; 3],
        slices: Range<usize>,
        views: (Range<usize>, usize),
    ) {
        let leader = self.ranks.group.is_root();
        let region = Region::rows(&shape, slices);
        fields.array("image", &shape, region.clone(), self.image.host_mut()).owned = leader;
        if let Some(direction) = &mut self.direction {
            fields.array("direction", &shape, region, direction.host_mut()).owned = leader;
            fields.real("gradient2", &mut self.gradient2);
            let subset = &mut self.subsets[0];
            subset.projection.keep(&self.ranks, "residual", &mut subset.data, views, fields);
        }
    }

    /// After the state was loaded: the rows that others own. Collective.
    pub fn restored(&mut self) -> Result<()> {
        if self.direction.is_some() {
            let subset = &mut self.subsets[0];
            subset.projection.spread(&self.ranks, &mut subset.data)?;
        }
        Ok(())
    }

    /// One iteration over all views. Collective.
    pub fn step(&mut self, iteration: u64) -> Result<Residual> {
        let mine = match self.method.algorithm {
            Algorithm::Cgls => self.cgls(iteration)?,
            a => self.subset_by_subset(a.is_multiplicative())?,
        };
        let [residual2] = self.ranks.sums([mine])?;
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
        let (ranks, ops) = (&self.ranks, &self.ops);
        let mut residual2 = 0.0;
        for k in self.order.clone() {
            let subset = &mut self.subsets[k];
            let Subset { projection, data, scratch, ray_weight, voxel_weight } = subset;
            projection.forward(ranks, &mut self.image, scratch)?;
            let owned = projection.owned.clone();
            residual2 += distance2(&data.host()[owned.clone()], &scratch.host()[owned]);
            if multiplicative {
                let mut modelled = std::mem::replace(scratch, ranks.store.zeros(data.len())?);
                ops.ratio(data, &mut modelled, scratch)?;
            } else {
                // R (y − A x)
                ops.xpby(data, &[-1.0], scratch)?;
                ops.multiply(ray_weight, scratch)?;
            }
            projection.back(ranks, scratch, &mut self.correction)?;
            ops.multiply(voxel_weight, &mut self.correction)?;
            if multiplicative {
                ops.multiply(&mut self.correction, &mut self.image)?;
            } else {
                ops.axpy(&[omega], &mut self.correction, &mut self.image)?;
                if self.method.non_negative == Some(true) {
                    ops.clamp_min(0.0, &mut self.image)?;
                }
            }
            apply(ranks, &mut self.mask, &mut self.image)?;
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
        subset.projection.forward(&self.ranks, &mut direction, &mut subset.scratch)?;
        let [q2] = self.ranks.sums([norm2(&subset.scratch.host()[subset.projection.owned.clone()])])?;
        let alpha = if q2 > 0.0 { self.gradient2 / q2 } else { 0.0 };
        // x += α p, r −= α q
        self.ops.axpy(&[alpha], &mut direction, &mut self.image)?;
        self.ops.axpy(&[-alpha], &mut subset.scratch, &mut subset.data)?;
        let residual2 = norm2(&subset.data.host()[subset.projection.owned.clone()]);
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
        subset.projection.back(&self.ranks, &mut subset.scratch, &mut self.correction)?;
        apply(&self.ranks, &mut self.mask, &mut self.correction)?;
        let mine = if self.ranks.group.is_root() { norm2(self.correction.host()) } else { 0.0 };
        let [sum] = self.ranks.sums([mine])?;
        Ok(sum)
    }
}

impl Subset {
    fn allocate(ranks: &Ranks, projection: Projection, data: Buffer<f32>, cgls: bool) -> Result<Self> {
        let vector = |len: usize| ranks.store.zeros(if cgls { 0 } else { len });
        Ok(Self {
            scratch: ranks.store.zeros(data.len())?,
            ray_weight: vector(data.len())?,
            voxel_weight: vector(projection.volume_len())?,
            projection,
            data,
        })
    }

    /// The weights of rays and voxels. Collective.
    fn weigh(&mut self, ranks: &Ranks) -> Result<()> {
        let Self { projection, scratch, ray_weight, voxel_weight, .. } = self;
        vectors::map(voxel_weight.host_mut(), |v| *v = 1.0);
        projection.forward(ranks, voxel_weight, ray_weight)?;
        vectors::map(scratch.host_mut(), |v| *v = 1.0);
        projection.back(ranks, scratch, voxel_weight)?;
        invert(ray_weight.host_mut());
        invert(voxel_weight.host_mut());
        Ok(())
    }
}

/// 1 / weight, 0 where it is tiny beside the largest.
fn invert(weights: &mut [f32]) {
    let least = TINY * weights.iter().fold(0f32, |m, w| m.max(*w));
    weights.iter_mut().for_each(|w| *w = if *w > least { 1.0 / *w } else { 0.0 });
}

fn apply(ranks: &Ranks, mask: &mut Option<Buffer<f32>>, volume: &mut Buffer<f32>) -> Result<()> {
    if let Some(mask) = mask.as_mut().filter(|m| !m.is_empty()) {
        let slices = volume.len() / mask.len();
        if slices > 0 {
            Slices::new(ranks.store.device(), slices)?.multiply(mask, volume)?;
        }
    }
    Ok(())
}

/// Σ v², in f64.
fn norm2(values: &[f32]) -> f64 {
    vectors::dot(values, values)
}

/// Σ (a − b)², in f64 over fixed blocks.
fn distance2(a: &[f32], b: &[f32]) -> f64 {
    let pairs = |(a, b): (&[f32], &[f32])| -> f64 {
        a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum()
    };
    let blocks: Vec<f64> = a.par_chunks(BLOCK).zip(b.par_chunks(BLOCK)).map(pairs).collect();
    blocks.iter().sum()
}
